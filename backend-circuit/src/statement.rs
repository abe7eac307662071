//! The statement of a proof: what it says, and how the states before the first and after the last step say it.

use ff::PrimeField;
use zvm_ir::env::address_word;
use zvm_ir::{Address, Halt, Outcome, Word};

use crate::digest::Hasher;
use crate::execute::Call;
use crate::field::{from_u256, to_u256};
use crate::lower::Element;
use crate::nova::Fr;
use crate::place::origin;
use crate::program::Program;
use crate::region::{DONE, ENTRY};
use crate::trace::{Challenges, TIME_BITS, challenges};

/// The state tree's roots before and after; zero for programs that touch no storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roots<F> {
    /// Before the first call.
    pub pre: F,
    /// After the last call.
    pub post: F,
}

impl<F: PrimeField> Roots<F> {
    /// The roots of programs that touch no storage.
    pub fn none() -> Self {
        Self { pre: F::ZERO, post: F::ZERO }
    }
}

/// "The program with this commitment, run on the calls with this digest, one after the other, from the state with this root, halts with
/// outcomes of this digest and leaves the state with that root."
///
/// Digests and roots are elements of the field of the proof system: those of one field say nothing over another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<F: PrimeField = Fr> {
    /// The commitment to the program: see [`Program::commitment`].
    pub program: Word,
    /// How many calls there are.
    pub calls: usize,
    /// The digest of the calls: calldata and environment of each.
    pub calls_digest: F,
    /// The digest of the calldata of the only call; of the last of several.
    pub calldata_digest: F,
    /// The account whose storage is used, or that logs; `None` if the program does neither.
    pub account: Option<Address>,
    /// The roots of the state.
    pub roots: Roots<F>,
    /// How the last call halts.
    pub halt: Halt,
    /// The digest of the outcomes: halt, data and logs of each.
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
    /// The account whose storage is used.
    pub account: T,
    /// The digest of the calls.
    pub calls: T,
    /// The digest of the outcomes.
    pub outcomes: T,
}

/// What follows from a statement and the hash of a proof's advice, and what a first state needs besides the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived<T> {
    /// The key of the account's slot 0.
    pub origin: T,
    /// The challenges of the trace argument.
    pub challenges: Challenges<T>,
}

impl<T> Elements<T> {
    /// The elements with their names, in the order in which a public input hashes them.
    pub fn list(&self) -> Vec<(&'static str, &T)> {
        let Self { pre_root, post_root, account, calls, outcomes } = self;
        vec![
            ("pre_root", pre_root),
            ("post_root", post_root),
            ("account", account),
            ("calls_digest", calls),
            ("outcome_digest", outcomes),
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
            account: change("account", self.account)?,
            calls: change("calls_digest", self.calls)?,
            outcomes: change("outcome_digest", self.outcomes)?,
        })
    }
}

impl<T: Clone> Elements<T> {
    /// What the challenges depend on besides the advice: `binding`, the digest of the circuit, and all elements.
    pub fn challenged(&self, binding: T) -> [T; 6] {
        let Self { pre_root, post_root, account, calls, outcomes } = self.clone();
        [binding, calls, outcomes, pre_root, post_root, account]
    }

    /// The state before the first slot.
    pub fn first_state(&self, program: &Program, derived: &Derived<T>, number: impl Fn(u64) -> T) -> Vec<T> {
        let Derived { origin, challenges } = derived;
        let element = |element: Element| match element {
            Element::Label => number(ENTRY),
            Element::Account => self.account.clone(),
            Element::Origin => origin.clone(),
            Element::Root => self.pre_root.clone(),
            Element::Gamma => challenges.gamma.clone(),
            Element::AlphaLow => challenges.low.clone(),
            Element::AlphaHigh => challenges.high.clone(),
            Element::AlphaKey => challenges.key.clone(),
            Element::Time => number(1),
            Element::Calls
            | Element::Outcomes
            | Element::Logs
            | Element::Failing
            | Element::Undone
            | Element::Sum
            | Element::Advice
            | Element::Call
            | Element::Data
            | Element::Unread
            | Element::Opened
            | Element::Swept
            | Element::WalkTree
            | Element::WalkOpen
            | Element::WalkCount
            | Element::WalkLastLow
            | Element::WalkLastHigh
            | Element::WalkPromised
            | Element::WalkEnd
            | Element::WalkGap => number(0),
        };
        let mut z: Vec<T> = program.layout().elements().map(element).collect();
        z.resize(program.arity(), number(0));
        z
    }

    /// What elements of the state after the last slot are, for a proof whose advice has the hash `advice`, and what it means if they are
    /// not. What the registers hold does not matter once the program has halted.
    pub fn last_state(&self, advice: T, number: impl Fn(u64) -> T) -> [(Element, T, StateError); 6] {
        // An execution that has not halted has no outcome either: say so first.
        [
            (Element::Label, number(DONE), StateError::Label),
            (Element::Calls, self.calls.clone(), StateError::Calls),
            (Element::Outcomes, self.outcomes.clone(), StateError::Outcome),
            (Element::Root, self.post_root.clone(), StateError::Root),
            (Element::Advice, advice, StateError::Advice),
            (Element::Sum, number(0), StateError::Sum),
        ]
    }
}

impl<F: PrimeField> Elements<Option<F>> {
    /// The elements that are the same for every call of a program: zero, where it does not touch what they are about.
    pub fn fixed(program: &Program) -> Self {
        let fixed = |element| program.layout().place(element).is_none().then_some(F::ZERO);
        let root = fixed(Element::Root);
        Self { pre_root: root, post_root: root, account: fixed(Element::Account), calls: None, outcomes: None }
    }
}

impl<F: PrimeField> Statement<F> {
    /// The statement that `calls` of `program` have `outcomes`, proved in `steps` steps. `None` if there is no call, or not one outcome
    /// for each.
    pub fn new(program: &Program, calls: &[Call], outcomes: &[Outcome], roots: Roots<F>, steps: u64) -> Option<Self> {
        let hasher = Hasher::<F>::shared();
        let (call, outcome) = calls.last().zip(outcomes.last()).filter(|_| calls.len() == outcomes.len())?;
        Some(Self {
            program: program.commitment(),
            calls: calls.len(),
            calls_digest: hasher.calls(calls),
            calldata_digest: hasher.calldata(&call.calldata),
            account: program.layout().place(Element::Account).map(|_| call.env.address),
            roots,
            halt: outcome.halt,
            outcome_digest: outcome_digest(outcomes),
            steps,
        })
    }

    /// The field elements.
    pub fn elements(&self) -> Elements<F> {
        Elements {
            pre_root: self.roots.pre,
            post_root: self.roots.post,
            account: self.account.map_or(F::ZERO, |account| from_u256(&address_word(&account))),
            calls: self.calls_digest,
            outcomes: self.outcome_digest,
        }
    }

    /// What follows from the statement for a proof whose advice has the hash `advice`. `binding` is the digest of its circuit.
    pub fn derived(&self, binding: &Word, advice: F) -> Derived<F> {
        let elements = self.elements().challenged(from_u256(binding));
        Derived {
            origin: self.account.map_or(F::ZERO, |account| origin(&account)),
            challenges: challenges(advice, elements),
        }
    }

    /// The state before the first step.
    pub fn initial_state(&self, program: &Program, derived: &Derived<F>) -> Vec<F> {
        self.elements().first_state(program, derived, F::from)
    }

    /// Whether `z`, the state after the last step, is one of this statement, for a proof whose advice has the hash `advice`.
    ///
    /// # Errors
    /// The first element that differs.
    pub fn check_final_state(&self, program: &Program, advice: F, z: &[F]) -> Result<(), StateError> {
        for (element, value, error) in self.elements().last_state(advice, F::from) {
            // A program without the element has it as zero: it claims no root and hashes no advice.
            let found = match program.layout().place(element) {
                None => Some(F::ZERO),
                Some(place) => z.get(place).copied(),
            };
            if found != Some(value) {
                return Err(error);
            }
        }
        let layout = program.layout();
        if layout.place(Element::Root).is_none() && self.roots.pre != F::ZERO {
            return Err(StateError::Root);
        }
        let late = layout.place(Element::Time).and_then(|place| z.get(place));
        let late = late.is_some_and(|time| to_u256(time).bit_len() as u32 > TIME_BITS);
        if late { Err(StateError::Time) } else { Ok(()) }
    }
}

/// The digest of outcomes.
pub fn outcome_digest<F: PrimeField>(outcomes: &[Outcome]) -> F {
    let hasher = Hasher::<F>::shared();
    outcomes.iter().fold(F::ZERO, |before, outcome| hasher.outcome_after(before, outcome))
}

/// Which element of the last state is not what the statement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The digest of the calls.
    #[error("the proof is about other calls: other calldata, or another environment")]
    Calls,
    /// The root of the state.
    #[error("the proof ends with another state root")]
    Root,
    /// The digest of the outcomes.
    #[error("the proof is about another outcome")]
    Outcome,
    /// The label.
    #[error("the program has not halted after the last step")]
    Label,
    /// The hash of the advice, from which the challenges come.
    #[error("the proof's challenges do not come from what it chose")]
    Advice,
    /// The sum of the trace argument.
    #[error("the proof reads values that were not written")]
    Sum,
    /// The time.
    #[error("the proof accesses the state more than 2^30 times")]
    Time,
}
