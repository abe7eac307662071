//! What can go wrong in this crate.

use bellpepper_core::SynthesisError;
use zvm_ir::interp::InterpError;
use zvm_ir::{Opcode, VerifyError};

use crate::cs::Unsatisfied;
use crate::legalize::Unprovable;

/// An error of the circuit backend.
#[derive(Debug, thiserror::Error)]
pub enum CircuitError {
    /// The module names no entry function. A fault of the caller.
    #[error("the module has no entry function")]
    NoEntry,
    /// The instruction has no gadget: the program may use it, a proof may not reach it.
    #[error("`{0}` cannot be proved")]
    NotProvable(Opcode),
    /// Operands, immediate or result width do not fit the instruction's row. The verifier of the IR rules this out.
    #[error("`{0}` has the wrong operands")]
    Malformed(Opcode),
    /// A circuit could not be synthesised: a value is missing or out of range. A fault of the caller.
    #[error("synthesis failed: {0}")]
    Synthesis(#[from] SynthesisError),
    /// A step's witness does not satisfy its circuit.
    #[error(transparent)]
    Unsatisfied(#[from] Unsatisfied),
    /// The module breaks the IR's rules. A fault of the caller, who did not verify it.
    #[error("the program is not valid IR: {}", .0.first().map_or_else(String::new, ToString::to_string))]
    Invalid(Vec<VerifyError>),
    /// The execution reaches an instruction that has no circuit. A property of the program and the call.
    #[error("this execution cannot be proved: {0}")]
    Unprovable(Unprovable),
    /// The execution has no outcome: a limit was reached, or a promise of the optimiser does not hold.
    #[error(transparent)]
    Execution(#[from] InterpError),
    /// The plan has no slot for a region that the execution needs. A fault of the caller.
    #[error("the plan has no slot of {0}, which this execution needs")]
    PlanLacks(crate::region::Region),
    /// The plan needs more steps than allowed.
    #[error("the execution needs more than {0} steps with this plan")]
    TooManySteps(u64),
    /// The last state is not that of the outcome which the interpreter computed. A bug of this crate.
    #[error("the circuit and the interpreter disagree: {0}")]
    Outcome(#[from] crate::statement::StateError),
    /// What the circuit says differs from what was expected of it. A bug of this crate.
    #[error("the circuit and the interpreter disagree: {0}")]
    Disagreement(&'static str),
}
