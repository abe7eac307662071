//! The step circuit: the slots of a plan, one after the other, and the hash of the advice that they took.

use std::sync::Arc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;

use crate::digest::Hasher;
use crate::error::CircuitError;
use crate::gadgets::Lc;
use crate::lower::{self, Element, State};
use crate::nova::Step;
use crate::plan::Plan;
use crate::program::Program;
use crate::region::Region;
use crate::replay::{Feed, Prepared};
use crate::trace::Chosen;

/// The circuit of one step, the same for every step of a proof.
#[derive(Clone, Debug)]
pub struct StepCircuit<F: PrimeField> {
    /// The program.
    pub program: Arc<Program>,
    /// Its slots.
    pub plan: Arc<Plan>,
    /// The prover's input, and which step this is; the verifier has none.
    pub input: Option<(Arc<Prepared<F>>, usize)>,
}

impl<F: PrimeField> StepCircuit<F> {
    /// The circuit without a witness.
    pub fn shape(program: &Arc<Program>, plan: &Arc<Plan>) -> Self {
        Self { program: Arc::clone(program), plan: Arc::clone(plan), input: None }
    }

    /// The same circuit with the witness of step number `step`.
    pub fn with_input(&self, prepared: &Arc<Prepared<F>>, step: usize) -> Self {
        Self { input: Some((Arc::clone(prepared), step)), ..self.clone() }
    }
}

impl<F: PrimeField> Step<F> for StepCircuit<F> {
    fn arity(&self) -> usize {
        self.program.arity()
    }

    fn synthesize<CS: ConstraintSystem<F>>(&self, cs: &mut CS, z: &[Lc<F>]) -> Result<Vec<Lc<F>>, CircuitError> {
        let state = State::from_elements(*self.program.layout(), z.to_vec()).ok_or(SynthesisError::Unsatisfiable)?;
        let mut feed = self.input.as_ref().map(|(prepared, step)| prepared.feed(*step));
        Ok(slots(cs, &self.program, self.plan.iter(), state, feed.as_mut())?.into_elements())
    }
}

/// The slots of one step; gives the state after it.
///
/// # Errors
/// As [`lower::slot`].
pub fn slots<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    program: &Program,
    slots: impl IntoIterator<Item = Region>,
    mut state: State<F>,
    mut feed: Option<&mut Feed<'_, F>>,
) -> Result<State<F>, CircuitError> {
    let mut chosen = Chosen::default();
    for (index, region) in slots.into_iter().enumerate() {
        let mut cs = cs.namespace(|| format!("slot {index} {region}"));
        state = lower::slot(&mut cs, program, region, &state, feed.as_deref_mut(), &mut chosen)?;
    }
    let before = state.get(Element::Advice);
    let after =
        Hasher::shared().advice_in_circuit(&mut cs.namespace(|| "advice"), &before, &chosen.into_hashed_lcs())?;
    state.set(Element::Advice, after);
    Ok(state)
}
