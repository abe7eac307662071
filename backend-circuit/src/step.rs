//! The step circuit: the slots of a plan, one after the other.

use std::sync::Arc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;

use crate::error::CircuitError;
use crate::execute::Call;
use crate::gadgets::Lc;
use crate::lower::{self, State};
use crate::nova::Step;
use crate::plan::Plan;
use crate::program::Program;

/// The circuit of one step, the same for every step of a proof.
#[derive(Clone, Debug)]
pub struct StepCircuit {
    /// The program.
    pub program: Arc<Program>,
    /// Its slots.
    pub plan: Arc<Plan>,
    /// The prover's input; the verifier has none.
    pub call: Option<Arc<Call>>,
}

impl<F: PrimeField> Step<F> for StepCircuit {
    fn arity(&self) -> usize {
        self.program.arity()
    }

    fn synthesize<CS: ConstraintSystem<F>>(&self, cs: &mut CS, z: &[Lc<F>]) -> Result<Vec<Lc<F>>, CircuitError> {
        let mut state = State::from_elements(z.to_vec()).ok_or(SynthesisError::Unsatisfiable)?;
        for (index, region) in self.plan.iter().enumerate() {
            let mut cs = cs.namespace(|| format!("slot {index} {region}"));
            state = lower::slot(&mut cs, &self.program, region, &state, self.call.as_deref())?;
        }
        Ok(state.into_elements())
    }
}
