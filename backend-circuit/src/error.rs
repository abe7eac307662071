//! What can go wrong in this crate.

use bellpepper_core::SynthesisError;
use zvm_ir::interp::InterpError;
use zvm_ir::{Opcode, VerifyError, Word};

use crate::cs::Unsatisfied;
use crate::legalize::Unprovable;
use crate::nova::Reason;
use crate::state::store::StoreError;
use crate::state::tree::TreeError;

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
    /// The calls cannot be proved together. A fault of the caller.
    #[error("these calls are no batch: {0}")]
    Batch(&'static str),
    /// The state tree holds another value than the execution found. A fault of the caller: the state and its tree differ.
    #[error("the state tree holds another value at slot {0:#x} than the state")]
    StateValue(Word),
    /// A slot of the state whose place is not known, so that it has no key in the tree. A fault of the caller.
    #[error("storage slot {0:#x} has no known place: none of the calls computes it")]
    UnknownSlot(Word),
    /// The state tree cannot be read or written.
    #[error("the state tree: {0}")]
    StateTree(#[from] TreeError),
    /// The plan has no slot for a region that the execution needs. A fault of the caller.
    #[error("the plan has no slot of {0}, which this execution needs")]
    PlanLacks(crate::region::Region),
    /// The plan needs more steps than allowed.
    #[error("the execution needs more steps with this plan than {0}")]
    TooManySteps(u64),
    /// The schedule has more segments than verifiers build circuits for. A fault of the caller.
    #[error("the proof would have {0} segments, more than the {max} that are verified", max = crate::schedule::MAX_SEGMENTS)]
    TooManySegments(usize),
    /// The plan's steps are larger than verifiers build. A fault of the caller, or a program with very many hashes.
    #[error("a step of this plan has {0} rows, more than the {max} that are verified", max = crate::prover::MAX_STEP_ROWS)]
    StepSize(u64),
    /// The budget of memory is less than a step takes that has one slot of each region which the execution needs.
    #[error("proving this takes at least {} MB of memory, and no more than {} are allowed", needed.div_ceil(1 << 20), megabytes(*allowed))]
    Memory {
        /// The fewest bytes.
        needed: u64,
        /// The bytes that were allowed.
        allowed: u64,
    },
    /// The last state is not that of the outcome which the interpreter computed. A bug of this crate.
    #[error("the circuit and the interpreter disagree: {0}")]
    Outcome(#[from] crate::statement::StateError),
    /// What the circuit says differs from what was expected of it. A bug of this crate.
    #[error("the circuit and the interpreter disagree: {0}")]
    Disagreement(&'static str),
    /// The checkpoint cannot be used.
    #[error("the checkpoint in {}: {source}", directory.display())]
    Checkpoint {
        /// Its folder.
        directory: std::path::PathBuf,
        /// Why.
        source: crate::checkpoint::CheckpointError,
    },
    /// The caller ended proving.
    #[error("proving was interrupted")]
    Interrupted,
    /// A proof was asked for that has no steps. A fault of the caller.
    #[error("a proof needs at least one step")]
    NoSteps,
    /// The proof system could not make a proof or its parameters.
    #[error("proving failed: {0}")]
    Proving(Reason),
    /// The proof is not valid for what it was verified against. The fault of whoever made it.
    #[error("the proof is not valid: {0}")]
    Rejected(Reason),
    /// The proof made the verifier stumble, which no valid proof does. The fault of whoever made it.
    #[error("the proof is malformed")]
    MalformedProof,
    /// The bytes are no proof. The fault of whoever made them.
    #[error("the proof cannot be read: {0}")]
    UnreadableProof(String),
    /// A proof could not be written as bytes. A bug of this crate or its libraries.
    #[error("the proof cannot be encoded: {0}")]
    Encoding(String),
    /// Groth16 keys or proofs.
    #[error(transparent)]
    Groth16(#[from] crate::groth16::Groth16Error),
    /// A file of Groth16 keys, or the lack of one.
    #[error(transparent)]
    Keys(#[from] crate::keys::KeyError),
    /// A proof is treated as one of another proof system. A fault of the caller.
    #[error("this is a proof of another proof system")]
    WrongSystem,
    /// The parameter cache cannot be used.
    #[error("cannot write {}: {source}", path.display())]
    Cache {
        /// The file or directory.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Bytes in MB, to a hundredth, as people give them.
fn megabytes(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 20) * 100.0).round() / 100.0
}

impl From<StoreError> for CircuitError {
    fn from(error: StoreError) -> Self {
        Self::StateTree(error.into())
    }
}
