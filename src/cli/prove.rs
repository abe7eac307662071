//! `zvm prove`: a proof that calls, one after the other, have the outcomes that running them gives.

mod short;

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use zvm::artifact::{self, Kind, ProofFile, Proved, Statement};
use zvm::call::{Call, explain};
use zvm::{Error, Input, Program as Loaded};
use zvm_ir::Outcome;

use super::interrupt::Interrupts;
use super::output::{Output, check_writable, count, grouped, write_file};
use super::progress::Bar;
use super::size::Size;
use super::{Answer, Cache, Calls, Failure, Given, Program, contract, json as shapes};

/// Arguments of `prove`.
#[derive(Debug, Args)]
pub(crate) struct Prove {
    #[command(flatten)]
    program: Program,
    #[command(flatten)]
    calls: Calls,
    /// The state before: JSON in the shape of the `prestateTracer`, or a state file (`zvm state import`).
    #[arg(long, value_name = "FILE")]
    state: Option<String>,
    /// Write the state after the calls here, in the shape of the state before.
    #[arg(long, value_name = "FILE")]
    state_out: Option<PathBuf>,
    /// The file to write.
    #[arg(long, short, value_name = "FILE", default_value = "proof.zvmp")]
    output: PathBuf,
    /// The proof system.
    #[arg(long, value_enum, default_value_t = System::Nova)]
    system: System,
    /// The keys of `--system groth16` [default: any in the folder of keys that have room for the call].
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Leave the recursive proof as it is: large, but done at once.
    #[arg(long)]
    recursive: bool,
    #[command(flatten)]
    size: Size,
    /// Keep what is folded in this folder, to go on with `--resume` after an interruption or a crash.
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,
    /// How many steps there are between two checkpoints.
    #[arg(long, value_name = "STEPS", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    checkpoint_every: u64,
    /// Go on from the checkpoint, if there is one.
    #[arg(long, requires = "checkpoint")]
    resume: bool,
    #[command(flatten)]
    cache: Cache,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum System {
    /// Folding: executions of any length.
    Nova,
    /// One short proof that contracts verify: short executions, with keys that `zvm setup` makes.
    Groth16,
}

impl Prove {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        if self.system == System::Groth16 {
            return self.run_short(output);
        }
        let input = self.program.read()?;
        let calls = self.calls.read(&input)?;
        let state = Given::read(self.state.as_deref())?;
        let program = Loaded::load(&input).map_err(|error| Failure::about(error, &input))?;
        self.check_outputs()?;
        let kind = if self.recursive { Kind::Recursive } else { Kind::Compressed };
        let bar = Bar::new(output);
        let cache = self.cache.folder();
        let interrupts = Interrupts::watch(output);
        let mut progress = |at| match interrupts.flow(at) {
            ControlFlow::Continue(()) => bar.show(at),
            end => end,
        };
        let keep = self.checkpoint.as_deref().map(|directory| artifact::Keep {
            directory,
            every: self.checkpoint_every,
            resume: self.resume,
        });
        let limits = self.size.limits();
        let options = artifact::Options { kind, cache: cache.as_deref(), limits, keep, progress: &mut progress };
        let proved = artifact::prove(&program, &calls, state.start(), options);
        bar.finish();
        let proved = proved.map_err(|error| Failure::about(error, &input))?;
        let bytes = proved.file.encode();
        write_file(&self.output, &bytes)?;
        self.write_state(&state, &proved)?;
        if let Some(directory) = &self.checkpoint {
            artifact::discard_checkpoint(directory)?;
        }
        let text = self.text(&proved, &input, bytes.len());
        output.either(&text, || self.document(&proved))?;
        Ok(Answer::Yes)
    }

    /// A file that cannot be written should not be found out after the proof.
    fn check_outputs(&self) -> Result<(), Failure> {
        check_writable(&self.output)?;
        let Some(path) = &self.state_out else { return Ok(()) };
        if *path == self.output {
            let (what, value) = ("--state-out".to_owned(), path.display().to_string());
            return Err(Error::Value { what, value, expected: "another file than that of the proof" }.into());
        }
        check_writable(path)
    }

    /// Writes the state that the calls leave, once it is proved.
    fn write_state(&self, before: &Given, proved: &Proved) -> Result<(), Failure> {
        self.state_out.as_ref().map_or(Ok(()), |path| before.write_left(path, &proved.left))
    }

    fn text(&self, proved: &Proved, input: &Input, len: usize) -> String {
        let facts = &proved.facts;
        let mut out = outcomes_text(&proved.file, input);
        out += &statement_text(&proved.statement);
        let _ = writeln!(
            out,
            "work      {} × {} rows, {:.1} % in slots that run, and {} of Nova's own per step; {:.1} CPU seconds, {} MB",
            grouped(facts.steps),
            grouped(facts.rows_per_step),
            100.0 * facts.rows_run as f64 / facts.rows_predicted.max(1) as f64,
            grouped(facts.nova_rows_primary + facts.nova_rows_secondary),
            facts.cpu_seconds,
            grouped(facts.peak_memory_bytes >> 20)
        );
        if facts.segments > 1 {
            let _ = writeln!(out, "segments  {}, each with steps of its own", facts.segments);
        }
        if facts.steps_resumed > 0 {
            let steps = usize::try_from(facts.steps_resumed).unwrap_or(usize::MAX);
            let _ = writeln!(out, "resumed   after {}", count(steps, "step"));
        }
        let kind = proved.file.kind.name();
        let _ = writeln!(out, "written   {} ({kind}, {} bytes)", self.output.display(), grouped(len as u64));
        out += &self.state_text();
        out
    }

    fn state_text(&self) -> String {
        self.state_out.as_ref().map_or_else(String::new, |path| format!("written   {}\n", path.display()))
    }

    fn document(&self, proved: &Proved) -> Value {
        let facts = &proved.facts;
        json!({
            "proof": self.output.display().to_string(),
            "state": self.state_out.as_ref().map(|path| path.display().to_string()),
            "system": "nova",
            "kind": proved.file.kind.name(),
            "steps": shapes::number(facts.steps),
            "rows_per_step": shapes::number(facts.rows_per_step),
            "rows_total": shapes::number(facts.rows_total),
            "rows_predicted": shapes::number(facts.rows_predicted),
            "rows_run": shapes::number(facts.rows_run),
            "segments": shapes::number(facts.segments),
            "steps_resumed": shapes::number(facts.steps_resumed),
            "nova_rows_primary": shapes::number(facts.nova_rows_primary),
            "nova_rows_secondary": shapes::number(facts.nova_rows_secondary),
            "iterations_hot": shapes::number(facts.iterations_hot),
            "slots_hot": shapes::number(facts.slots_hot),
            "cpu_seconds": facts.cpu_seconds,
            "peak_memory_bytes": shapes::number(facts.peak_memory_bytes),
            "statement": statement_json(&proved.statement),
            "outcome": proved.file.outcomes.last().map(shapes::outcome),
            "outcomes": proved.file.outcomes.iter().map(shapes::outcome).collect::<Vec<_>>(),
        })
    }
}

/// The most calls whose outcomes are shown one by one.
const SHOWN: usize = 10;

/// What the calls of a proof did, for people.
pub(super) fn outcomes_text(file: &ProofFile, input: &Input) -> String {
    let mut out = String::new();
    for (call, outcome) in file.calls.iter().zip(&file.outcomes).take(SHOWN) {
        let call = Call { calldata: call.calldata.clone(), env: call.env.clone() };
        out += &outcome_text(outcome, &call, input);
    }
    if file.calls.len() > SHOWN {
        let _ = writeln!(out, "…         {} more", count(file.calls.len() - SHOWN, "call"));
    }
    out
}

/// What a call did, for people.
fn outcome_text(outcome: &Outcome, call: &Call, input: &Input) -> String {
    let mut out = String::new();
    let abi = contract(input).and_then(|contract| contract.abi.as_ref());
    let meaning = explain(outcome, &call.calldata, abi).map(|text| format!("  {text}")).unwrap_or_default();
    let _ = writeln!(out, "outcome   {}{meaning}", outcome.halt.name());
    let _ = writeln!(out, "calldata  0x{}", hex::encode(&call.calldata));
    let _ = writeln!(out, "data      0x{}", hex::encode(&outcome.data));
    out
}

/// The statement, for people.
pub(super) fn statement_text(statement: &Statement) -> String {
    let mut out = String::from("statement\n");
    for (name, value) in statement.fields() {
        let _ = writeln!(out, "  {name:<16} {value}");
    }
    out
}

/// The statement as JSON.
pub(super) fn statement_json(statement: &Statement) -> Value {
    let field = |(name, value): (&str, String)| match name {
        "steps" | "calls" => (name.to_owned(), shapes::number(value.parse().unwrap_or_default())),
        _ => (name.to_owned(), Value::from(value)),
    };
    Value::Object(statement.fields().into_iter().map(field).collect())
}
