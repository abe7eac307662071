//! `zvm profile`: where the rows and the gas of calls go.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use zvm::profile::{ComputeGas, InstructionRows, Profile};
use zvm::{Error, Program as Loaded};
use zvm_backend_circuit::profile::{Part, RegionRows};

use super::output::{Output, write_file};
use super::size::Size;
use super::{Answer, Calls, Failure, Given, Program, json as shapes};

/// Arguments of `profile`.
#[derive(Debug, Args)]
pub(crate) struct ProfileCommand {
    #[command(flatten)]
    program: Program,
    #[command(flatten)]
    calls: Calls,
    /// The state before: JSON in the shape of the `prestateTracer`, or a state file (`zvm state import`).
    #[arg(long, value_name = "FILE")]
    state: Option<String>,
    #[command(flatten)]
    size: Size,
    /// How many instructions to list, the most expensive first.
    #[arg(long, value_name = "N", default_value_t = 30)]
    top: usize,
    /// Write a flame graph of the rows.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Write the control-flow graph with its blocks shaded by their rows.
    #[arg(long, value_name = "FILE")]
    cfg: Option<PathBuf>,
    /// Write a page with tables and both pictures.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

impl ProfileCommand {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let calls = self.calls.read(&input)?;
        let about = |error: Error| Failure::about(error, &input);
        let program = Loaded::load(&input).map_err(about)?;
        let circuit = program.circuit().map_err(about)?;
        let state = Given::read(self.state.as_deref())?;
        let profile = Profile::new(&program, &circuit, &calls, state.start(), self.size.limits()).map_err(about)?;
        if let Some(path) = &self.svg {
            write_file(path, profile.flame_graph()?.as_bytes())?;
        }
        if let Some(path) = &self.cfg {
            write_file(path, profile.heat_map(&circuit)?.as_bytes())?;
        }
        if let Some(path) = &self.html {
            write_file(path, profile.html(&input.origin, &circuit)?.as_bytes())?;
        }
        output.either(&profile.text(self.top), || document(&profile))?;
        Ok(Answer::Yes)
    }
}

fn document(profile: &Profile) -> Value {
    let simulation = &profile.estimate.simulation;
    let part = |part: &Part| match part {
        Part::Instruction { pc, mnemonic } => (json!(pc), json!(mnemonic)),
        other => (Value::Null, json!(other.to_string())),
    };
    let region = |region: &RegionRows| {
        json!({
            "name": region.name,
            "first_pc": region.pcs.map(|(first, _)| first),
            "last_pc": region.pcs.map(|(_, last)| last),
            "rows": shapes::number(region.rows),
            "executions": shapes::number(region.executions),
            "rows_total": shapes::number(region.total()),
        })
    };
    let instruction = |row: &InstructionRows| {
        let (pc, name) = part(&row.part);
        json!({"pc": pc, "instruction": name, "rows": shapes::number(row.rows)})
    };
    let positions: Vec<_> =
        profile.positions().iter().map(|(pc, rows)| json!({"pc": pc, "rows": shapes::number(*rows)})).collect();
    json!({
        "calls": profile.calls,
        "rows_total": shapes::number(simulation.rows),
        "rows_run": shapes::number(simulation.rows_run),
        "idle_share": 1.0 - simulation.utilisation(),
        "rows_per_evm_instruction": profile.rows_per_evm_instruction(),
        "evm_instructions": profile.evm_instructions.map(shapes::number),
        "steps": shapes::number(simulation.steps),
        "rows_per_step": shapes::number(profile.rows_per_step),
        "slots_per_step": profile.slots,
        "slots_run": shapes::number(simulation.slots_run),
        "slots_idle": shapes::number(simulation.slots - simulation.slots_run),
        "cpu_seconds_expected": profile.estimate.seconds,
        "memory_bytes_expected": shapes::number(profile.estimate.memory_bytes),
        "regions": profile.regions.iter().map(region).collect::<Vec<_>>(),
        "instructions": profile.instructions().iter().map(instruction).collect::<Vec<_>>(),
        "positions": positions,
        "compute_gas": profile.compute_gas.map(|ComputeGas { evm, lowered }| {
            json!({"evm": shapes::number(evm), "lowered": shapes::number(lowered)})
        }),
    })
}
