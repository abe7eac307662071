//! `zvm setup`: the Groth16 keys of a program, made on this machine or imported from a ceremony.
//!
//! Keys belong to a circuit, which has room for certain executions: those of the calls given, or as many as fit a number of rows. Without
//! a ceremony whoever makes the keys can prove anything, so keys made here say in their file, in the contracts made of them and
//! whenever a proof is verified with them that they are for development.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;
use zvm::artifact::{Origin, Room, ShortCircuit};
use zvm::input::read_file;
use zvm::{Error, Program as Loaded};
use zvm_backend_circuit::keys::Source;
use zvm_backend_circuit::prover::TARGET_ROWS;

use super::output::{Output, check_writable, count, grouped, write_file};
use super::progress::Bar;
use super::{Answer, Calls, Failure, Given, Program, json as shapes};

/// What is said of keys that were made here.
pub(super) const INSECURE: &str = "these keys were made on one machine: whoever made them can prove anything. Use them for \
                                   development only";

/// Arguments of `setup`.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    #[command(flatten)]
    program: Program,
    /// Calls that the circuit has room for, one after the other in one proof; others that take the same way have room too.
    #[command(flatten)]
    calls: Calls,
    /// The circuit has room for each of the calls by itself instead.
    #[arg(long, requires = "calls")]
    each: bool,
    /// The state before: JSON in the shape of the `prestateTracer`, or a state file (`zvm state import`).
    #[arg(long, value_name = "FILE")]
    state: Option<String>,
    /// Without calls: how many rows the circuit should have, shared out as the loops of the program suggest.
    #[arg(long, value_name = "ROWS", default_value_t = TARGET_ROWS, conflicts_with_all = ["calldata", "sig", "calls"],
          value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Import the parameters of a ceremony (in bellman's encoding) instead of making insecure ones; the calls try them.
    #[arg(long, value_name = "FILE")]
    import: Option<PathBuf>,
    /// Only write the circuit as `.r1cs` over BLS12-381's scalar field, for a ceremony.
    #[arg(long, value_name = "FILE", conflicts_with = "import")]
    r1cs: Option<PathBuf>,
    /// The file to write [default: one in the folder of keys].
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The folder of keys [default: `zvm` in the user's cache folder].
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

impl Setup {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let about = |error: Error| Failure::about(error, &input);
        let program = Loaded::load(&input).map_err(about)?;
        let Calls { calldata, sig, calls, .. } = &self.calls;
        let none = calldata.is_none() && sig.is_none() && calls.is_none();
        // Imported parameters are tried on a call.
        let calls = if none && self.import.is_none() { Vec::new() } else { self.calls.read(&input)? };
        let state = Given::read(self.state.as_deref())?;
        let batches: Vec<&[_]> = if self.each { calls.chunks(1).collect() } else { vec![&calls] };
        let room = if calls.is_empty() { Room::Rows(self.rows) } else { Room::Calls(&batches, state.start()) };
        let circuit = ShortCircuit::new(&program, room).map_err(about)?;
        if let Some(path) = &self.r1cs {
            let file = circuit.r1cs().map_err(about)?;
            write_file(path, &file)?;
            let text = format!("written   {} ({} bytes)\n", path.display(), grouped(file.len() as u64));
            output.either(&text, || json!({"r1cs": path.display().to_string(), "bytes": file.len()}))?;
            return Ok(Answer::Yes);
        }
        let folder = self.cache.clone().unwrap_or_else(zvm::artifact::default_cache);
        let to = match &self.output {
            Some(file) => {
                check_writable(file)?;
                Source::File(file)
            }
            None => Source::Folder(&folder),
        };
        let bar = Bar::new(output);
        bar.spin("keys");
        let keys = match (&self.import, batches.first()) {
            (Some(path), Some(calls)) => {
                let parameters = read_file(&path.display().to_string())?;
                circuit.import(&parameters, calls, state.start(), to)
            }
            _ => circuit.insecure_setup(to),
        };
        bar.finish();
        let keys = keys.map_err(about)?;
        let header = &keys.header;
        if header.origin == Origin::InsecureLocal {
            output.warn(INSECURE);
        }
        let mut text = String::new();
        let _ = writeln!(text, "program   {:#066x}", header.program);
        let _ = writeln!(text, "circuit   {:#066x}", header.circuit);
        let _ = writeln!(text, "size      {} rows, {}", grouped(header.rows), count(circuit.slots(), "slot"));
        let _ = writeln!(text, "origin    {}", origin_text(header.origin));
        let _ = writeln!(text, "written   {}", keys.path.display());
        output.either(&text, || {
            json!({
                "keys": keys.path.display().to_string(),
                "program": format!("{:#066x}", header.program),
                "circuit": format!("{:#066x}", header.circuit),
                "rows": shapes::number(header.rows),
                "slots": circuit.slots(),
                "origin": header.origin.name(),
            })
        })?;
        Ok(Answer::Yes)
    }
}

/// Who made keys, for people.
pub(super) fn origin_text(origin: Origin) -> &'static str {
    match origin {
        Origin::InsecureLocal => "INSECURE: made on one machine, for development only",
        Origin::Ceremony => "a ceremony",
    }
}
