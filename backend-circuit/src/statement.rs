//! The statement of a proof: what it says, and how the states before the first and after the last step say it.

use ff::PrimeField;
use zvm_ir::{Halt, Outcome, Word};

use crate::digest::Hasher;
use crate::error::CircuitError;
use crate::execute::Call;
use crate::field::to_u256;
use crate::lower::STATE_HEAD;
use crate::nova::Fr;
use crate::program::Program;
use crate::region::{DONE, ENTRY};

/// "The program with this commitment, run on the calldata and environment with these digests from the state with this root,
/// halts with the outcome of this digest and leaves the state with that root."
///
/// Digests and roots are elements of the field of the proof system: those of one field say nothing over another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<F: PrimeField = Fr> {
    /// The commitment to the program: see [`Program::commitment`].
    pub program: Word,
    /// The digest of the calldata.
    pub calldata_digest: F,
    /// The digest of the environment.
    pub env_digest: F,
    /// The root of the state before; zero for programs that touch none.
    pub pre_root: F,
    /// The root of the state after.
    pub post_root: F,
    /// How the program halts.
    pub halt: Halt,
    /// The digest of the outcome.
    pub outcome_digest: F,
    /// How many steps the proof folds.
    pub steps: u64,
}

/// The field elements of a statement: numbers natively, linear combinations in a circuit that has the statement as public
/// input. What the first and the last state say of them is said here, once for both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elements<T> {
    /// The root of the state before.
    pub pre_root: T,
    /// The root of the state after.
    pub post_root: T,
    /// The digest of the calldata.
    pub calldata: T,
    /// The digest of the environment.
    pub env: T,
    /// The digest of the outcome.
    pub outcome: T,
}

impl<T> Elements<T> {
    /// The elements with their names, in the order in which a public input hashes them.
    pub fn list(&self) -> Vec<(&'static str, &T)> {
        let Self { pre_root, post_root, calldata, env, outcome } = self;
        vec![
            ("pre_root", pre_root),
            ("post_root", post_root),
            ("calldata_digest", calldata),
            ("env_digest", env),
            ("outcome_digest", outcome),
        ]
    }

    /// The elements made into others, in the order of [`Elements::list`].
    ///
    /// # Errors
    /// The first of `change`.
    pub fn try_map<U, E>(self, mut change: impl FnMut(&'static str, T) -> Result<U, E>) -> Result<Elements<U>, E> {
        Ok(Elements {
            pre_root: change("pre_root", self.pre_root)?,
            post_root: change("post_root", self.post_root)?,
            calldata: change("calldata_digest", self.calldata)?,
            env: change("env_digest", self.env)?,
            outcome: change("outcome_digest", self.outcome)?,
        })
    }
}

impl<T: Clone> Elements<T> {
    /// The state of `arity` elements before the first slot.
    pub fn first_state(&self, arity: usize, number: impl Fn(u64) -> T) -> Vec<T> {
        let mut z = vec![self.calldata.clone(), self.env.clone(), self.pre_root.clone(), number(0), number(ENTRY)];
        z.resize(arity, number(0));
        z
    }

    /// What the state after the last slot begins with, and what it means if it does not. What the registers hold does not
    /// matter once the program has halted.
    pub fn last_state(&self, number: impl Fn(u64) -> T) -> [(T, StateError); STATE_HEAD] {
        [
            (self.calldata.clone(), StateError::Calldata),
            (self.env.clone(), StateError::Env),
            (self.post_root.clone(), StateError::Root),
            (self.outcome.clone(), StateError::Outcome),
            (number(DONE), StateError::Label),
        ]
    }
}

impl<F: PrimeField> Elements<Option<F>> {
    /// The elements that are the same for every call of a program: the roots, for no program touches a state.
    pub fn fixed(_program: &Program) -> Self {
        Self { pre_root: Some(F::ZERO), post_root: Some(F::ZERO), calldata: None, env: None, outcome: None }
    }
}

impl<F: PrimeField> Statement<F> {
    /// The statement that `call` of `program` has `outcome`, proved in `steps` steps.
    pub fn new(program: &Program, call: &Call, outcome: &Outcome, steps: u64) -> Self {
        let hasher = Hasher::<F>::shared();
        Self {
            program: program.commitment(),
            calldata_digest: hasher.calldata(&call.calldata),
            env_digest: hasher.env(&call.env),
            pre_root: F::ZERO,
            post_root: F::ZERO,
            halt: outcome.halt,
            outcome_digest: outcome_digest(outcome),
            steps,
        }
    }

    /// The field elements.
    pub fn elements(&self) -> Elements<F> {
        Elements {
            pre_root: self.pre_root,
            post_root: self.post_root,
            calldata: self.calldata_digest,
            env: self.env_digest,
            outcome: self.outcome_digest,
        }
    }

    /// The field elements as integers below the modulus.
    pub fn words(&self) -> Elements<Word> {
        let Elements { pre_root, post_root, calldata, env, outcome } = self.elements();
        Elements {
            pre_root: to_u256(&pre_root),
            post_root: to_u256(&post_root),
            calldata: to_u256(&calldata),
            env: to_u256(&env),
            outcome: to_u256(&outcome),
        }
    }

    /// The state before the first step.
    pub fn initial_state(&self, program: &Program) -> Vec<F> {
        self.elements().first_state(program.arity(), F::from)
    }

    /// Whether `z`, the state after the last step, is one of this statement.
    ///
    /// # Errors
    /// The first element that differs.
    pub fn check_final_state(&self, z: &[F]) -> Result<(), StateError> {
        // An execution that has not halted has no outcome either: say so first.
        for (index, (value, error)) in self.elements().last_state(F::from).into_iter().enumerate().rev() {
            if z.get(index) != Some(&value) {
                return Err(error);
            }
        }
        Ok(())
    }
}

/// The digest of an outcome.
pub fn outcome_digest<F: PrimeField>(outcome: &Outcome) -> F {
    Hasher::<F>::shared().outcome(outcome.halt.code(), &outcome.data, F::ZERO)
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
pub fn initial_state<F: PrimeField>(program: &Program, call: &Call) -> Vec<F> {
    // The outcome is not part of the first state.
    Statement::new(program, call, &Outcome::halted(Halt::Trap, Vec::new()), 0).initial_state(program)
}

/// Checks the state after the last step of a call with this outcome.
///
/// # Errors
/// `Disagreement` with what differs.
pub fn check_final_state<F: PrimeField>(
    program: &Program,
    call: &Call,
    outcome: &Outcome,
    z: &[F],
) -> Result<(), CircuitError> {
    Ok(Statement::new(program, call, outcome, 0).check_final_state(z)?)
}
