//! Executor E3 without a proof: every slot that runs is synthesised and checked, row by row.
//!
//! What is checked is what a proof would say: the rows of each slot hold, each slot starts from the state that the one
//! before it left, the first from the statement's, and the last leaves the label [`DONE`] and the digest of the outcome.

use bellpepper_core::ConstraintSystem;
use ff::PrimeField;

use crate::cs::{CheckCs, Names};
use crate::error::CircuitError;
use crate::execute::Call;
use crate::gadgets::Lc;
use crate::lower::{self, State};
use crate::nova::Fr;
use crate::plan::Plan;
use crate::program::Program;
use crate::region::{DONE, Region};
use crate::statement;

/// The rows that were checked, by region.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many slots ran or idled.
    pub slots: u64,
    /// How many rows hold.
    pub rows: u64,
}

/// Allocates a state with the given values in `cs`.
///
/// # Errors
/// `Synthesis` if there are too few elements.
pub fn allocate_state<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    values: &[F],
) -> Result<State<F>, CircuitError> {
    let mut elements = Vec::with_capacity(values.len());
    for (index, &value) in values.iter().enumerate() {
        elements.push(Lc::alloc(cs, || format!("z {index}"), Some(value))?);
    }
    State::from_elements(elements).ok_or(CircuitError::Disagreement("the state's size"))
}

/// Checks `slots` from the state `z`; gives the state after them.
///
/// # Errors
/// `Unsatisfied` with the first row that does not hold.
pub fn run_slots<F: PrimeField>(
    program: &Program,
    slots: impl IntoIterator<Item = Region>,
    call: &Call,
    mut z: Vec<F>,
) -> Result<(Vec<F>, Checked), CircuitError> {
    let mut checked = Checked::default();
    for region in slots {
        // Names cost more than the rows, so they are made only once something is wrong.
        let (cs, after) = run_slot(program, region, call, &z, Names::Dropped)?;
        if cs.verdict().is_err() {
            run_slot(program, region, call, &z, Names::Kept)?.0.verdict()?;
        }
        checked.slots += 1;
        checked.rows += cs.rows() as u64;
        z = values(&after)?;
    }
    Ok((z, checked))
}

fn run_slot<F: PrimeField>(
    program: &Program,
    region: Region,
    call: &Call,
    z: &[F],
    names: Names,
) -> Result<(CheckCs<F>, State<F>), CircuitError> {
    let mut cs = CheckCs::checking(names);
    let state = allocate_state(&mut cs, z)?;
    let after = lower::slot(&mut cs.namespace(|| region.to_string()), program, region, &state, Some(call))?;
    Ok((cs, after))
}

/// Checks steps of `plan` from the state `z` until the program has halted, idle slots included; gives the state after
/// each step. This is what folding does, with satisfiability in the place of cryptography.
///
/// # Errors
/// `Unsatisfied` with the first row that does not hold; `TooManySteps` when the program has not halted after `max_steps`.
pub fn run_steps<F: PrimeField>(
    program: &Program,
    plan: &Plan,
    call: &Call,
    mut z: Vec<F>,
    max_steps: u64,
) -> Result<Vec<Vec<F>>, CircuitError> {
    let mut states = Vec::new();
    while !is_done(&z) {
        if states.len() as u64 == max_steps {
            return Err(CircuitError::TooManySteps(max_steps));
        }
        z = run_slots(program, plan.iter(), call, z)?.0;
        states.push(z.clone());
    }
    Ok(states)
}

/// The values of a state.
fn values<F: PrimeField>(state: &State<F>) -> Result<Vec<F>, CircuitError> {
    let elements = state.clone().into_elements();
    elements.iter().map(|lc| lc.value().ok_or(CircuitError::Disagreement("a value is missing"))).collect()
}

impl Program {
    /// Executes a call and checks the circuit's witness for it, slot by slot: executor E3.
    ///
    /// # Errors
    /// As [`Program::execute`]; `Unsatisfied` or `Disagreement` if the circuit does not say what the interpreter says,
    /// which is a bug.
    pub fn check(&self, call: &Call) -> Result<(zvm_ir::Outcome, Checked), CircuitError> {
        let execution = self.execute(call)?;
        let start = statement::initial_state::<Fr>(self, call);
        let (end, checked) = run_slots(self, execution.trace.iter(), call, start)?;
        statement::check_final_state(self, call, &execution.outcome, &end)?;
        Ok((execution.outcome, checked))
    }
}

/// Whether `z` says that the program has halted.
pub fn is_done<F: PrimeField>(z: &[F]) -> bool {
    z.get(lower::LABEL) == Some(&F::from(DONE))
}
