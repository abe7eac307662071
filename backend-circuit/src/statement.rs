//! The statement of a proof: what it says, and how the states before the first and after the last step say it.

use zvm_ir::{Halt, Outcome, Word};

use crate::digest::Hasher;
use crate::error::CircuitError;
use crate::execute::Call;
use crate::lower::STATE_HEAD;
use crate::nova::Fr;
use crate::program::Program;
use crate::region::{DONE, ENTRY};

/// "The program with this commitment, run on the calldata and environment with these digests from the state with this root,
/// halts with the outcome of this digest and leaves the state with that root."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The commitment to the program: see [`Program::commitment`].
    pub program: Word,
    /// The digest of the calldata.
    pub calldata_digest: Fr,
    /// The digest of the environment.
    pub env_digest: Fr,
    /// The root of the state before; zero for programs that touch none.
    pub pre_root: Fr,
    /// The root of the state after.
    pub post_root: Fr,
    /// How the program halts.
    pub halt: Halt,
    /// The digest of the outcome.
    pub outcome_digest: Fr,
    /// How many steps the proof folds.
    pub steps: u64,
}

impl Statement {
    /// The statement that `call` of `program` has `outcome`, proved in `steps` steps.
    pub fn new(program: &Program, call: &Call, outcome: &Outcome, steps: u64) -> Self {
        let hasher = Hasher::<Fr>::shared();
        Self {
            program: program.commitment(),
            calldata_digest: hasher.calldata(&call.calldata),
            env_digest: hasher.env(&call.env),
            pre_root: Fr::from(0),
            post_root: Fr::from(0),
            halt: outcome.halt,
            outcome_digest: outcome_digest(outcome),
            steps,
        }
    }

    /// The state before the first step.
    pub fn initial_state(&self, program: &Program) -> Vec<Fr> {
        let mut z = vec![self.calldata_digest, self.env_digest, self.pre_root, Fr::from(0), Fr::from(ENTRY)];
        z.resize(program.arity(), Fr::from(0));
        z
    }

    /// Whether `z`, the state after the last step, is one of this statement. What the registers hold does not matter once
    /// the program has halted.
    ///
    /// # Errors
    /// The first element that differs.
    pub fn check_final_state(&self, z: &[Fr]) -> Result<(), StateError> {
        let expected = [
            (self.calldata_digest, StateError::Calldata),
            (self.env_digest, StateError::Env),
            (self.post_root, StateError::Root),
            (self.outcome_digest, StateError::Outcome),
            (Fr::from(DONE), StateError::Label),
        ];
        debug_assert_eq!(expected.len(), STATE_HEAD);
        // An execution that has not halted has no outcome either: say so first.
        for (index, (value, error)) in expected.into_iter().enumerate().rev() {
            if z.get(index) != Some(&value) {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The digest of an outcome.
pub fn outcome_digest(outcome: &Outcome) -> Fr {
    Hasher::<Fr>::shared().outcome(outcome.halt.code(), &outcome.data, Fr::from(0))
}

/// Which element of the last state is not what the statement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The digest of the calldata.
    #[error("the proof is about other calldata")]
    Calldata,
    /// The digest of the environment.
    #[error("the proof is about another environment")]
    Env,
    /// The root of the state.
    #[error("the proof ends with another state root")]
    Root,
    /// The digest of the outcome.
    #[error("the proof is about another outcome")]
    Outcome,
    /// The label.
    #[error("the program has not halted after the last step")]
    Label,
}

/// The state before the first step of a call.
pub fn initial_state(program: &Program, call: &Call) -> Vec<Fr> {
    // The outcome is not part of the first state.
    Statement::new(program, call, &Outcome::halted(Halt::Trap, Vec::new()), 0).initial_state(program)
}

/// Checks the state after the last step of a call with this outcome.
///
/// # Errors
/// `Disagreement` with what differs.
pub fn check_final_state(program: &Program, call: &Call, outcome: &Outcome, z: &[Fr]) -> Result<(), CircuitError> {
    Ok(Statement::new(program, call, outcome, 0).check_final_state(z)?)
}
