//! `zvm circuit`: what instructions cost as constraints, and the circuit of a step in the formats of other tools.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use zvm::{Error, Program as Loaded, artifact};
use zvm_backend_circuit::prover::TARGET_ROWS;
use zvm_backend_circuit::reference::{Cost, by_width};

use super::output::{Output, check_writable, grouped, write_file};
use super::progress::Bar;
use super::{Answer, Calls, Failure, Given, Program, json as shapes};

/// Arguments of `circuit`.
#[derive(Debug, Args)]
pub(crate) struct Circuit {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Rows of each instruction by the widths of its operands.
    Costs,
    /// Write the circuit and the witness of one step of a call's proof, as snarkjs and its tools read them.
    Export(Box<Export>),
}

/// Arguments of `circuit export`.
#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    program: Program,
    #[command(flatten)]
    calls: Calls,
    /// The state before: JSON in the shape of the `prestateTracer`, or a state file (`zvm state import`).
    #[arg(long, value_name = "FILE")]
    state: Option<String>,
    /// Where to write the constraints.
    #[arg(long, value_name = "FILE")]
    r1cs: PathBuf,
    /// Where to write the witness.
    #[arg(long, value_name = "FILE")]
    wtns: PathBuf,
    /// Which step of the proof, counted from 0.
    #[arg(long, value_name = "N", default_value_t = 0)]
    step: u64,
    /// How many rows a step should have, as for `prove`.
    #[arg(long, value_name = "ROWS", default_value_t = TARGET_ROWS, value_parser = clap::value_parser!(u64).range(1..))]
    rows_per_step: u64,
}

impl Circuit {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        match &self.command {
            Command::Costs => costs(output),
            Command::Export(export) => export.run(output),
        }
    }
}

fn costs(output: &Output) -> Result<Answer, Failure> {
    let costs = by_width().map_err(Error::from)?;
    let mut text = format!("{:<14}{:<20}{:>9}{:>11}\n", "instruction", "operands", "rows", "with bits");
    for Cost { opcode, widths, cold, bits } in &costs {
        let widths: Vec<String> = widths.iter().map(|width| format!("u{width}")).collect();
        let (cold, bits) = (grouped(*cold), grouped(*bits));
        let _ = writeln!(text, "{:<14}{:<20}{cold:>9}{bits:>11}", opcode.mnemonic(), widths.join(", "));
    }
    let entry = |cost: &Cost| {
        let Cost { opcode, widths, cold, bits } = cost;
        json!({"instruction": opcode.mnemonic(), "widths": widths, "rows": cold, "rows_with_bits": bits})
    };
    output.either(&text, || costs.iter().map(entry).collect::<Value>())?;
    Ok(Answer::Yes)
}

impl Export {
    fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let calls = self.calls.read(&input)?;
        let state = Given::read(self.state.as_deref())?;
        let about = |error: Error| Failure::about(error, &input);
        let program = Loaded::load(&input).map_err(about)?;
        check_writable(&self.r1cs)?;
        check_writable(&self.wtns)?;
        let bar = Bar::new(output);
        bar.spin("constraints and witness");
        let exported = artifact::export(&program, &calls, state.start(), self.step, self.rows_per_step);
        bar.finish();
        let artifact::Exported { files, steps } = exported.map_err(about)?;
        write_file(&self.r1cs, &files.r1cs)?;
        write_file(&self.wtns, &files.wtns)?;

        let mut text = String::new();
        let _ = writeln!(text, "step      {} of {}, counted from 0", self.step, grouped(steps));
        let (rows, wires) = (grouped(files.rows as u64), grouped(files.wires as u64));
        let _ = writeln!(
            text,
            "circuit   {rows} rows, {wires} wires, {0} public outputs, {0} public inputs",
            files.outputs
        );
        let _ = writeln!(text, "written   {}, {}", self.r1cs.display(), self.wtns.display());
        output.either(&text, || {
            json!({
                "r1cs": self.r1cs.display().to_string(),
                "wtns": self.wtns.display().to_string(),
                "step": shapes::number(self.step),
                "steps": shapes::number(steps),
                "rows": files.rows,
                "wires": files.wires,
                "public_outputs": files.outputs,
                "public_inputs": files.outputs,
            })
        })?;
        Ok(Answer::Yes)
    }
}
