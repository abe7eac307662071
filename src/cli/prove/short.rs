//! `zvm prove --system groth16`: one proof of 192 bytes, for contracts.

use std::fmt::Write;

use serde_json::json;
use zvm::artifact::{self, Origin};
use zvm::{Error, Program as Loaded};
use zvm_backend_circuit::groth16;
use zvm_backend_circuit::short::source;

use super::{Prove, outcomes_text, statement_json, statement_text};
use crate::cli::output::{Output, grouped, write_file};
use crate::cli::progress::Bar;
use crate::cli::setup::{INSECURE, origin_text};
use crate::cli::{Answer, Failure, Given, json as shapes};

impl Prove {
    /// As [`Prove::run`], with the keys that `zvm setup` made.
    pub(super) fn run_short(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let calls = self.calls.read(&input)?;
        let state = Given::read(self.state.as_deref())?;
        let about = |error: Error| Failure::about(error, &input);
        let program = Loaded::load(&input).map_err(about)?;
        self.check_outputs()?;
        let bar = Bar::new(output);
        bar.spin("proving");
        let folder = self.cache.folder().unwrap_or_else(artifact::default_cache);
        let proved = artifact::prove_short(&program, &calls, state.start(), source(self.keys.as_deref(), &folder));
        bar.finish();
        let (proved, origin) = proved.map_err(about)?;
        let bytes = proved.file.encode();
        write_file(&self.output, &bytes)?;
        self.write_state(&state, &proved)?;
        if origin == Origin::InsecureLocal {
            output.warn(INSECURE);
        }
        let facts = &proved.facts;
        let mut text = outcomes_text(&proved.file, &input);
        text += &statement_text(&proved.statement);
        let _ = writeln!(
            text,
            "work      {} rows; {:.1} CPU seconds, {} MB",
            grouped(facts.rows_total),
            facts.cpu_seconds,
            grouped(facts.peak_memory_bytes >> 20)
        );
        let _ = writeln!(text, "keys      {}", origin_text(origin));
        let _ =
            writeln!(text, "written   {} (groth16, a proof of {} bytes)", self.output.display(), groth16::PROOF_BYTES);
        text += &self.state_text();
        output.either(&text, || {
            json!({
                "proof": self.output.display().to_string(),
                "state": self.state_out.as_ref().map(|path| path.display().to_string()),
                "system": "groth16",
                "kind": proved.file.kind.name(),
                "keys": origin.name(),
                "proof_bytes": groth16::PROOF_BYTES,
                "steps": shapes::number(facts.steps),
                "rows_per_step": shapes::number(facts.rows_per_step),
                "rows_total": shapes::number(facts.rows_total),
                "iterations_hot": shapes::number(facts.iterations_hot),
                "slots_hot": shapes::number(facts.slots_hot),
                "cpu_seconds": facts.cpu_seconds,
                "peak_memory_bytes": shapes::number(facts.peak_memory_bytes),
                "statement": statement_json(&proved.statement),
                "outcome": proved.file.outcomes.last().map(shapes::outcome),
                "outcomes": proved.file.outcomes.iter().map(shapes::outcome).collect::<Vec<_>>(),
            })
        })?;
        Ok(Answer::Yes)
    }
}
