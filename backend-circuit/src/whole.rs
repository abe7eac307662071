//! A whole execution as one circuit: the slots of a plan one after the other, from the first state of a statement to its last,
//! with the statement as public input.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `public input` | [`crate::public_input`] | the hash of the statement's elements |
//! | `challenge i`, `origin` | Poseidon | what follows from the statement and from `advice`, which the prover chooses |
//! | `first i` | `z_i = …` | the state before the first slot is that of the statement ([`Elements::first_state`]) |
//! | `slot i` | [`crate::step::slots`] | |
//! | `last …` | `z_i = …` | the state after the last slot is that of the statement ([`Elements::last_state`]) |
//!
//! *Soundness:* that of the slots; the first and last state are what a verifier of a folded proof compares natively, here as rows. Time stays below 2^30 because a circuit has fewer rows. The challenges come from a hash of the advice that the last
//! state must end with, so whoever looks for challenges that suit a lie has to hash other advice for each try.
//! *Completeness:* the plan runs the execution in one step.

use std::sync::Arc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Word, eval::keccak256};

use crate::cs::{CheckCs, CountCs, Names};
use crate::error::CircuitError;
use crate::field::from_u256;
use crate::gadgets::{Lc, enforce_equal};
use crate::groth16::OneShot;
use crate::lower::{Element, State};
use crate::place::origin_in_circuit;
use crate::plan::Plan;
use crate::program::Program;
use crate::public_input;
use crate::replay::{Cut, Prepared};
use crate::statement::{Derived, Elements, Statement};
use crate::step;
use crate::trace::{Challenges, challenges_in_circuit};

/// What the prover knows.
#[derive(Clone, Debug)]
pub struct Witness<F: PrimeField> {
    /// The execution, cut for the plan.
    pub prepared: Arc<Prepared<F>>,
    /// The statement.
    pub statement: Statement<F>,
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

    /// The circuit with the witness of an execution that the plan has room for.
    ///
    /// # Errors
    /// As [`Prepared::cut`].
    pub fn of(program: &Arc<Program>, plan: &Arc<Plan>, prepared: Prepared<F>) -> Result<Self, CircuitError> {
        let prepared = prepared.cut(program, Cut::Plan(plan), &program.circuit_digest(plan), 1)?;
        let statement = prepared.statement(program)?;
        let witness = Some(Witness { prepared: Arc::new(prepared), statement });
        Ok(Self { witness, ..Self::shape(program, plan) })
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

impl<F: PrimeField> Whole<F> {
    /// What follows from the elements and the advice. Programs that need neither have zeros.
    fn derived<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        elements: &Elements<Lc<F>>,
        advice: &Lc<F>,
    ) -> Result<Derived<Lc<F>>, SynthesisError> {
        let has = |element| self.program.layout().place(element).is_some();
        let origin = match has(Element::Origin) {
            true => origin_in_circuit(&mut cs.namespace(|| "origin"), &elements.account)?,
            false => Lc::zero(),
        };
        let challenges = if has(Element::Gamma) {
            let binding = Lc::constant(from_u256(&self.program.circuit_digest(&self.plan)));
            challenges_in_circuit(cs, advice, elements.challenged(binding))?
        } else {
            Challenges { gamma: Lc::zero(), low: Lc::zero(), high: Lc::zero(), key: Lc::zero() }
        };
        Ok(Derived { origin, challenges })
    }
}

impl<F: PrimeField> OneShot<F> for Whole<F> {
    fn synthesize<CS: ConstraintSystem<F>>(&self, cs: &mut CS) -> Result<Lc<F>, CircuitError> {
        let number = |value: u64| Lc::constant(F::from(value));
        let (program, witness) = (&self.program, self.witness.as_ref());
        let known = witness.map(|witness| witness.statement.elements());
        let public_input::Opened { elements, input } =
            public_input::open(cs, Elements::fixed(program), known.as_ref())?;
        let advice = match program.layout().place(Element::Advice) {
            Some(_) => Lc::alloc(cs, || "advice".into(), witness.map(|witness| witness.prepared.advice))?,
            None => Lc::zero(),
        };
        let derived = self.derived(cs, &elements, &advice)?;
        // Variables, though most are constant: a slot costs the same wherever it stands in a plan.
        let mut first = Vec::with_capacity(program.arity());
        for (index, expected) in elements.first_state(program, &derived, number).iter().enumerate() {
            let mut cs = cs.namespace(|| format!("first {index}"));
            first.push(Lc::from_num(&expected.to_num(&mut cs)?));
        }
        let state = State::from_elements(*program.layout(), first);
        let state = state.ok_or(CircuitError::Disagreement("the state's size"))?;
        let mut feed = witness.map(|witness| witness.prepared.feed(0));
        let last = step::slots(cs, program, self.plan.iter(), state, feed.as_mut())?;
        for (element, expected, _) in elements.last_state(advice, number) {
            // What a program does not have is zero in both.
            if program.layout().place(element).is_some() {
                enforce_equal(cs, || format!("last {}", element.name()), &last.get(element), &expected);
            }
        }
        Ok(input)
    }
}
