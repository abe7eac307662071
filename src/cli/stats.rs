//! `zvm stats`: what the optimiser achieved.

use std::fmt::Write;

use clap::{Args, ValueEnum};
use serde_json::json;
use zvm::Program as Loaded;
use zvm_ir::Stats;
use zvm_ir::passes::Goal;

use super::output::Output;
use super::{Answer, Failure, Program};

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub(crate) struct Statistics {
    #[command(flatten)]
    program: Program,
    /// The pipeline to look at.
    #[arg(long, value_enum, value_name = "GOAL", default_value = "circuit")]
    goal: For,
}

/// Whom the pipeline serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum For {
    /// Few constraints.
    Circuit,
    /// Little gas.
    Evm,
}

impl Statistics {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let program = Loaded::load(&input).map_err(|error| Failure::about(error, &input))?;
        let goal = match self.goal {
            For::Circuit => Goal::Circuit,
            For::Evm => Goal::Evm,
        };
        let optimised = program.optimized(goal).map_err(|error| Failure::about(error, &input))?;
        let stats = Stats::new(&program.module, &optimised);
        output.either(&text(&stats), || document(&stats))?;
        Ok(Answer::Yes)
    }
}

fn document(stats: &Stats) -> serde_json::Value {
    let Stats { instructions, values, narrow, memory_ops, keccak_sites, storage_sites, structured_sites, checks } =
        stats;
    json!({
        "instructions": {"before": instructions.before, "after": instructions.after},
        "values": values,
        "narrow": narrow,
        "memory_ops": {"before": memory_ops.before, "after": memory_ops.after},
        "keccak_sites": keccak_sites,
        "storage_sites": storage_sites,
        "structured_sites": structured_sites,
        "checks": {"before": checks.before, "after": checks.after},
    })
}

fn text(stats: &Stats) -> String {
    let share = |part: usize, of: usize| (100 * part).checked_div(of).unwrap_or(0);
    let Stats { instructions, values, narrow, memory_ops, keccak_sites, storage_sites, structured_sites, checks } =
        *stats;
    let mut out = String::new();
    let mut change = |name: &str, before: usize, after: usize| {
        let gone = before.saturating_sub(after);
        let _ = writeln!(out, "{name:<22} {before:>7} → {after:<7} {:>3} % gone", share(gone, before));
    };
    change("instructions", instructions.before, instructions.after);
    change("memory instructions", memory_ops.before, memory_ops.after);
    change("checks", checks.before, checks.after);
    let _ = writeln!(out, "{:<22} {narrow:>7} of {values:<6} {:>3} %", "narrower than a word", share(narrow, values));
    let _ = writeln!(
        out,
        "{:<22} {structured_sites:>7} of {storage_sites:<6} {:>3} %, {keccak_sites} in all",
        "hashes as storage paths",
        share(structured_sites, storage_sites)
    );
    out
}
