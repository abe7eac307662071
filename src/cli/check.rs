//! `zvm check`: what of a program is in which ring.

use std::fmt::Write;

use clap::Args;
use serde_json::json;
use zvm::program::check_contract;
use zvm::{Exit, Immutables, Input, disassembly};
use zvm_frontend::{Problem, Report, Ring};

use super::output::{Output, count};
use super::{Answer, Failure, Program, contract};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    program: Program,
}

impl Check {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let Some(code) = contract(&input) else {
            // IR is in the L1 ring when it is valid; nothing else is known of it.
            let program = zvm::Program::load(&input).map_err(|error| Failure::about(error, &input))?;
            let ir_blocks: usize = program.module.funcs.values().map(|function| function.layout.len()).sum();
            let (functions, circuit) =
                (program.module.funcs.len(), program.circuit().map_err(|error| Failure::about(error, &input))?);
            let proof_ring = circuit.unprovable().is_empty();
            let text = format!("valid IR: {}, {}\n", count(functions, "function"), count(ir_blocks, "block"));
            output.either(&text, || {
                json!({"l1_ring": true, "proof_ring": proof_ring, "problems": [], "blocks": 0, "ir_blocks": ir_blocks,
                    "functions": functions, "jumps": 0, "unresolved": 0})
            })?;
            return Ok(Answer::Yes);
        };
        let report = check_contract(code).map_err(|error| Failure::about(error, &input))?;
        output.either(&text(&report, &input), || document(&report))?;
        if code.immutables == Immutables::Deployed && has_push32_zero(&code.runtime) {
            output.warn(
                "the code pushes 32 zero bytes, which in a compiler's output are immutables not filled in yet; they are \
                 taken for zeros",
            );
        }
        Ok(if report.l1_ring { Answer::Yes } else { Answer::Not(Exit::Subset) })
    }
}

fn has_push32_zero(code: &[u8]) -> bool {
    let zero = format!("PUSH32 0x{}", "00".repeat(32));
    disassembly::lines(code).any(|line| line.text == zero)
}

fn document(report: &Report) -> serde_json::Value {
    let problem = |problem: &Problem| {
        let Problem { ring, pc, opcode, reason, help } = problem;
        json!({"ring": ring_name(*ring), "pc": pc, "opcode": opcode, "reason": reason, "help": help})
    };
    json!({
        "l1_ring": report.l1_ring,
        "proof_ring": report.proof_ring,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
        "blocks": report.blocks,
        "ir_blocks": report.ir_blocks,
        "functions": report.functions,
        "jumps": report.jumps,
        "unresolved": report.unresolved,
    })
}

fn ring_name(ring: Ring) -> &'static str {
    match ring {
        Ring::L1 => "l1",
        Ring::Proof => "proof",
    }
}

fn text(report: &Report, input: &Input) -> String {
    let mut out = String::new();
    let verdict = |inside, yes: &str, no: &str| if inside { yes.to_owned() } else { no.to_owned() };
    let partly = "partly: executions that avoid the instructions below can be proved";
    let proof = verdict(report.proof_ring, "yes", if report.l1_ring { partly } else { "no" });
    let _ = writeln!(out, "{}", input.origin);
    let _ = writeln!(out, "  runs on L1   {}", verdict(report.l1_ring, "yes", "no"));
    let _ = writeln!(out, "  in a proof   {proof}");
    if report.l1_ring {
        let _ = writeln!(
            out,
            "  bytecode     {}, {}, all resolved",
            count(report.blocks, "block"),
            count(report.jumps, "jump")
        );
        let _ = writeln!(
            out,
            "  IR           {}, {}",
            count(report.functions, "function"),
            count(report.ir_blocks, "block")
        );
    }
    for problem in &report.problems {
        let place = problem.pc.map(|pc| format!("{pc:#06x} ")).unwrap_or_default();
        let _ = writeln!(out, "\n  [{}] {place}{}: {}", ring_name(problem.ring), problem.opcode, problem.reason);
        let _ = writeln!(out, "       {}", problem.help);
    }
    out
}
