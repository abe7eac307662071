//! `zvm check`: what of a program is in which ring.

use std::fmt::Write;

use clap::Args;
use serde_json::json;
use zvm::coverage::{Covered, coverage};
use zvm::program::check_contract;
use zvm::{Error, Exit, Immutables, Input, disassembly};
use zvm_backend_circuit::legalize::Unprovable;
use zvm_frontend::{Problem, Report, Ring};

use super::output::{Output, count};
use super::{Answer, Failure, Program, contract};

/// Arguments of `check`.
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    program: Program,
    /// Say of each function of the interface whether it can be proved
    #[arg(long)]
    functions: bool,
}

impl Check {
    pub(super) fn run(&self, output: &Output) -> Result<Answer, Failure> {
        let input = self.program.read()?;
        let Some(code) = contract(&input) else {
            if self.functions {
                return Err(Error::NoInterface { path: input.origin.clone() }.into());
            }
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
        let functions = if self.functions && report.l1_ring {
            let no_interface = || Error::NoInterface { path: input.origin.clone() };
            let abi = code.abi.as_ref().ok_or_else(no_interface)?;
            Some(coverage(code, abi).map_err(|error| Failure::about(error, &input))?)
        } else {
            None
        };
        let text = text(&report, &input) + &functions.as_deref().map(table).unwrap_or_default();
        output.either(&text, || document(&report, functions.as_deref()))?;
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

fn document(report: &Report, functions: Option<&[Covered]>) -> serde_json::Value {
    let problem = |problem: &Problem| {
        let Problem { ring, pc, opcode, reason, help } = problem;
        json!({"ring": ring_name(*ring), "pc": pc, "opcode": opcode, "reason": reason, "help": help})
    };
    let mut document = json!({
        "l1_ring": report.l1_ring,
        "proof_ring": report.proof_ring,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
        "blocks": report.blocks,
        "ir_blocks": report.ir_blocks,
        "functions": report.functions,
        "jumps": report.jumps,
        "unresolved": report.unresolved,
    });
    if let (Some(functions), Some(object)) = (functions, document.as_object_mut()) {
        let exit = |exit: &Unprovable| json!({"pc": exit.pc, "opcode": exit.opcode.mnemonic(), "reason": exit.reason.to_string()});
        let function = |function: &Covered| {
            json!({"signature": function.signature, "selector": format!("0x{}", hex::encode(function.selector)),
                "provable": function.is_provable(), "reaches_accounts": function.reaches_accounts,
                "exits": function.unprovable.iter().map(exit).collect::<Vec<_>>()})
        };
        object.insert("by_function".to_owned(), functions.iter().map(function).collect());
    }
    document
}

/// The functions, and what keeps proofs from some calls of them.
fn table(functions: &[Covered]) -> String {
    let provable = functions.iter().filter(|function| function.is_provable()).count();
    let mut out =
        format!("\n  {provable} of {} can be proved, whatever the call\n", count(functions.len(), "function"));
    for function in functions {
        let verdict = if function.is_provable() { "yes" } else { "partly" };
        let _ = writeln!(out, "  {verdict:<8} {} {}", hex::encode(function.selector), function.signature);
        for exit in &function.unprovable {
            let place = exit.pc.map(|pc| format!("{pc:#06x} ")).unwrap_or_default();
            let _ = writeln!(out, "           {place}{}: no {}", exit.opcode, exit.reason);
        }
    }
    out
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
