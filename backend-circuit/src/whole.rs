//! A whole execution as one circuit: the slots of a plan one after the other, from the first state of a statement to its last,
//! with the statement as public input.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `public input` | [`crate::public_input`] | the hash of the statement's elements |
//! | `first i` | `z_i = …` | the state before the first slot is that of the statement ([`Elements::first_state`]) |
//! | `slot i` | [`crate::lower::slot`] | |
//! | `last i` | `z_i = …` | the state after the last slot is that of the statement ([`Elements::last_state`]) |
//!
//! *Soundness:* that of the slots; the first and last state are what a verifier of a folded proof compares natively, here as rows.
//! *Completeness:* the plan runs the execution in one step.

use std::sync::Arc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Outcome, Word, eval::keccak256};

use crate::cs::{CheckCs, CountCs, Names};
use crate::error::CircuitError;
use crate::execute::Call;
use crate::gadgets::{Lc, enforce_equal};
use crate::groth16::OneShot;
use crate::lower::{self, State};
use crate::plan::Plan;
use crate::program::Program;
use crate::public_input;
use crate::statement::{Elements, Statement};

/// What the prover knows.
#[derive(Clone, Debug)]
pub struct Witness<F: PrimeField> {
    /// The input of the execution.
    pub call: Arc<Call>,
    /// The elements of the statement.
    pub elements: Elements<F>,
}

/// The circuit of an execution.
#[derive(Clone, Debug)]
pub struct Whole<F: PrimeField> {
    /// The program.
    pub program: Arc<Program>,
    /// Its slots.
    pub plan: Arc<Plan>,
    /// The prover's input; the verifier has none.
    pub witness: Option<Witness<F>>,
}

impl<F: PrimeField> Whole<F> {
    /// The circuit without a witness.
    pub fn shape(program: &Arc<Program>, plan: &Arc<Plan>) -> Self {
        Self { program: Arc::clone(program), plan: Arc::clone(plan), witness: None }
    }

    /// The circuit with the witness that `call` has `outcome`.
    pub fn of(program: &Arc<Program>, plan: &Arc<Plan>, call: &Call, outcome: &Outcome) -> Self {
        let elements = Statement::new(program, call, outcome, 1).elements();
        let witness = Some(Witness { call: Arc::new(call.clone()), elements });
        Self { witness, ..Self::shape(program, plan) }
    }

    /// How many rows the circuit has.
    ///
    /// # Errors
    /// Whatever keeps it from being synthesised.
    pub fn rows(&self) -> Result<u64, CircuitError> {
        let mut cs = CountCs::<F>::default();
        self.synthesize(&mut cs)?;
        Ok(cs.rows() as u64)
    }

    /// Checks every row against the witness; gives the public input.
    ///
    /// # Errors
    /// `Unsatisfied` with the first row that does not hold; `Synthesis` if there is no witness.
    pub fn check(&self) -> Result<F, CircuitError> {
        // Names cost more than the rows, so they are made only once something is wrong.
        let mut cs = CheckCs::checking(Names::Dropped);
        let input = self.synthesize(&mut cs)?;
        if cs.verdict().is_err() {
            let mut cs = CheckCs::checking(Names::Kept);
            self.synthesize(&mut cs)?;
            cs.verdict()?;
        }
        Ok(input.value().ok_or(SynthesisError::AssignmentMissing)?)
    }

    /// The digest of the circuit, which keys are made for.
    pub fn digest(&self) -> Word {
        let mut bytes = b"groth16 bls12-381 1\n".to_vec();
        bytes.extend(self.program.circuit_digest(&self.plan).to_be_bytes::<32>());
        keccak256(&bytes)
    }
}

impl<F: PrimeField> OneShot<F> for Whole<F> {
    fn synthesize<CS: ConstraintSystem<F>>(&self, cs: &mut CS) -> Result<Lc<F>, CircuitError> {
        let number = |value: u64| Lc::constant(F::from(value));
        let witness = self.witness.as_ref();
        let call = witness.map(|witness| &*witness.call);
        let fixed = Elements::fixed(&self.program);
        let public_input::Opened { elements, input } =
            public_input::open(cs, fixed, witness.map(|witness| &witness.elements))?;
        // Variables, though most are constant: a slot costs the same wherever it stands in a plan.
        let mut first = Vec::with_capacity(self.program.arity());
        for (index, expected) in elements.first_state(self.program.arity(), number).iter().enumerate() {
            let mut cs = cs.namespace(|| format!("first {index}"));
            first.push(Lc::from_num(&expected.to_num(&mut cs)?));
        }
        let mut state = State::from_elements(first).ok_or(CircuitError::Disagreement("the state's size"))?;
        for (index, region) in self.plan.iter().enumerate() {
            let mut cs = cs.namespace(|| format!("slot {index} {region}"));
            state = lower::slot(&mut cs, &self.program, region, &state, call)?;
        }
        let last = state.into_elements();
        for (index, (expected, _)) in elements.last_state(number).iter().enumerate() {
            let at = last.get(index).ok_or(CircuitError::Disagreement("the state's size"))?;
            enforce_equal(cs, || format!("last {index}"), at, expected);
        }
        Ok(input)
    }
}
