//! The report: what of a program is in which ring, and why not.

use std::collections::BTreeSet;

use serde::Serialize;
use zvm_ir::Pc;

use crate::decode::{Code, Kind};
use crate::error::LiftError;
use crate::subset::{self, Status};

/// Which ring a problem is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ring {
    /// Lifted, interpreted and re-emitted.
    L1,
    /// Proved in a circuit.
    Proof,
}

/// A reason why a program, or the executions that reach a place in it, are outside a ring.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The ring.
    pub ring: Ring,
    /// The instruction; none if the problem is about the whole program.
    pub pc: Option<Pc>,
    /// Its opcode, or the code of the error.
    pub opcode: String,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub help: String,
}

/// What was found out about a program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether the program can be lifted, interpreted and re-emitted.
    pub l1_ring: bool,
    /// Whether every instruction that can be reached can be proved. If not, executions that avoid them still can.
    pub proof_ring: bool,
    /// The reasons, in order of the `pc`.
    pub problems: Vec<Problem>,
    /// Reachable basic blocks of the bytecode.
    pub blocks: usize,
    /// Blocks of the IR.
    pub ir_blocks: usize,
    /// Functions of the IR.
    pub functions: usize,
    /// Reachable jumps.
    pub jumps: usize,
    /// Those of them whose targets are not known.
    pub unresolved: usize,
}

impl Report {
    /// The report of a program that could not be lifted.
    pub(crate) fn failed(error: &LiftError, code: Option<&Code>) -> Self {
        let mut report = Self::default();
        let name = |pc: Pc| code.map_or("", |code| code.name(pc)).to_owned();
        let mut problem = |pc: Option<Pc>, opcode: String, reason: String| {
            report.problems.push(Problem { ring: Ring::L1, pc, opcode, reason, help: error.help().to_owned() });
        };
        match error {
            LiftError::Subset { problems } => report.problems.clone_from(problems),
            LiftError::Unresolved { jumps } => {
                for &pc in jumps {
                    problem(Some(pc), name(pc), "the target of the jump cannot be resolved".to_owned());
                }
                report.unresolved = jumps.len();
            }
            LiftError::TooLong { .. }
            | LiftError::Budget { .. }
            | LiftError::StackHeight { .. }
            | LiftError::Placeholder { .. }
            | LiftError::Internal { .. } => {
                let opcode = error.pc().map_or_else(String::new, name);
                problem(error.pc(), opcode, error.to_string());
            }
        }
        report
    }
}

/// The problems that the instructions at `pcs` are by themselves.
pub(crate) fn opcode_problems(code: &Code, pcs: &BTreeSet<Pc>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for &pc in pcs {
        if pc as usize >= code.bytes.len() {
            continue;
        }
        let byte = code.bytes[pc as usize];
        let (Kind::Op(_), Some(row)) = (code.inst(pc).0.kind, subset::row_of(byte)) else { continue };
        for (ring, status) in [(Ring::L1, row.l1), (Ring::Proof, row.proof)] {
            if let Status::Rejected(why) = status {
                let help = match ring {
                    Ring::L1 => "remove the instruction",
                    Ring::Proof => "calls that do not reach this instruction can be proved",
                };
                problems.push(Problem {
                    ring,
                    pc: Some(pc),
                    opcode: row.name().to_owned(),
                    reason: why.to_owned(),
                    help: help.to_owned(),
                });
            }
        }
    }
    problems
}
