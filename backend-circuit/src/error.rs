//! What can go wrong in this crate.

use bellpepper_core::SynthesisError;
use zvm_ir::Opcode;

use crate::cs::Unsatisfied;

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
}
