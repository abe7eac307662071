//! Why an execution has no outcome.

use super::CALL_DEPTH_LIMIT;
use crate::eval::EvalError;
use crate::function::Pc;
use crate::opcode::Opcode;

/// Why there is no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterpError {
    /// The step limit was reached.
    #[error("the limit of {limit} instructions was reached{}", at(*pc))]
    StepLimit {
        /// The limit.
        limit: u64,
        /// Where the program was.
        pc: Option<Pc>,
    },
    /// More memory was touched than the interpreter allows.
    #[error("the memory limit of {} bytes was reached{}", crate::memory::MEMORY_LIMIT, at(*pc))]
    MemoryLimit {
        /// Where the program was.
        pc: Option<Pc>,
    },
    /// More functions are active than the interpreter allows, or than the EVM's stack is sure to hold.
    #[error(
        "the recursion is too deep: more than {CALL_DEPTH_LIMIT} functions are active, or the EVM's stack may not hold them{}",
        at(*pc)
    )]
    CallDepth {
        /// Where the program was.
        pc: Option<Pc>,
    },
    /// The instruction runs another account's code, and nobody here can.
    #[error("`{opcode}` runs code of another account, which is not available here{}", at(*pc))]
    Foreign {
        /// The instruction.
        opcode: Opcode,
        /// Where it is.
        pc: Option<Pc>,
    },
    /// A promise made by a pass does not hold, or the module was not verified.
    #[error("{error}{}", at(*pc))]
    Eval {
        /// What is wrong.
        error: EvalError,
        /// Where it is.
        pc: Option<Pc>,
    },
    /// The instruction reads a word that only deployed code has.
    #[error("`immutable` has no value before the code is deployed{}", at(*pc))]
    Unfilled {
        /// Where it is.
        pc: Option<Pc>,
    },
    /// The module breaks a rule that the verifier checks.
    #[error("the module is malformed: run the verifier{}", at(*pc))]
    Malformed {
        /// Where it was noticed.
        pc: Option<Pc>,
    },
}

fn at(pc: Option<Pc>) -> String {
    pc.map(|pc| format!(" at pc {pc:#06x}")).unwrap_or_default()
}
