//! Executor E3 without a proof: every slot that runs is synthesised and checked, row by row.
//!
//! What is checked is what a proof would say: the rows of each slot hold, each slot starts from the state that the one
//! before it left, the first from the statement's, and the last leaves the label [`DONE`] and the digest of the outcome.

use std::sync::Arc;

use bellpepper_core::ConstraintSystem;
use ff::PrimeField;
use zvm_ir::{EmptyState, PreState};

use crate::cs::{CheckCs, Names};
use crate::error::CircuitError;
use crate::execute::{Call, Execution};
use crate::gadgets::Lc;
use crate::lower::{LABEL, State};
use crate::nova::Fr;
use crate::plan::Plan;
use crate::program::Program;
use crate::region::{DONE, Region};
use crate::replay::{Cut, Feed, Prepared};
use crate::statement::Statement;
use crate::step;

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
    program: &Program,
    values: &[F],
) -> Result<State<F>, CircuitError> {
    let mut elements = Vec::with_capacity(values.len());
    for (index, &value) in values.iter().enumerate() {
        elements.push(Lc::alloc(cs, || format!("z {index}"), Some(value))?);
    }
    State::from_elements(*program.layout(), elements).ok_or(CircuitError::Disagreement("the state's size"))
}

/// Checks one step of `slots` from the state `z`; gives the state after it. `feed` moves on.
///
/// # Errors
/// `Unsatisfied` with the first row that does not hold.
pub fn run_slots<F: PrimeField>(
    program: &Program,
    slots: impl IntoIterator<Item = Region> + Clone,
    feed: &mut Feed<'_, F>,
    z: &[F],
) -> Result<(Vec<F>, Checked), CircuitError> {
    // Names cost more than the rows, so they are made only once something is wrong.
    let start = feed.clone();
    let (cs, after) = run_step(program, slots.clone(), feed, z, Names::Dropped)?;
    if cs.verdict().is_err() {
        run_step(program, slots.clone(), &mut start.clone(), z, Names::Kept)?.0.verdict()?;
    }
    let checked = Checked { slots: slots.into_iter().count() as u64, rows: cs.rows() as u64 };
    Ok((values(&after)?, checked))
}

fn run_step<F: PrimeField>(
    program: &Program,
    slots: impl IntoIterator<Item = Region>,
    feed: &mut Feed<'_, F>,
    z: &[F],
    names: Names,
) -> Result<(CheckCs<F>, State<F>), CircuitError> {
    let mut cs = CheckCs::checking(names);
    let state = allocate_state(&mut cs, program, z)?;
    let after = step::slots(&mut cs, program, slots, state, Some(feed))?;
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
    prepared: &Prepared<F>,
    mut z: Vec<F>,
    max_steps: u64,
) -> Result<Vec<Vec<F>>, CircuitError> {
    let mut states = Vec::new();
    let slots: Vec<Region> = plan.iter().collect();
    while !is_done(&z) {
        if states.len() as u64 == max_steps {
            return Err(CircuitError::TooManySteps(max_steps));
        }
        let mut feed = prepared.feed(states.len());
        z = run_slots(program, slots.iter().copied(), &mut feed, &z)?.0;
        states.push(z.clone());
    }
    Ok(states)
}

/// The values of a state.
fn values<F: PrimeField>(state: &State<F>) -> Result<Vec<F>, CircuitError> {
    let elements = state.clone().into_elements();
    elements.iter().map(|lc| lc.value().ok_or(CircuitError::Disagreement("a value is missing"))).collect()
}

/// How many regions are checked at once: more need memory, fewer hash advice more often.
const RUNS: usize = 32;

impl Program {
    /// Executes a call from the empty state and checks the circuit's witness for it.
    ///
    /// # Errors
    /// As [`Program::check_all`].
    pub fn check(&self, call: &Call) -> Result<(zvm_ir::Outcome, Checked), CircuitError> {
        let (execution, checked) = self.check_all(core::slice::from_ref(call), &EmptyState)?;
        Ok((execution.outcome().clone(), checked))
    }

    /// Executes calls one after the other from the state `pre` and checks the circuit's witness for them: executor E3. The state
    /// tree is that of the storage which the calls touch.
    ///
    /// # Errors
    /// As [`Program::execute_all`]; `Unsatisfied` or `Disagreement` if the circuit does not say what the interpreter says,
    /// which is a bug.
    pub fn check_all(&self, calls: &[Call], pre: &dyn PreState) -> Result<(Arc<Execution>, Checked), CircuitError> {
        let execution = Arc::new(self.execute_all(calls, pre)?);
        let (_, checked) = self.check_prepared(Prepared::<Fr>::alone(self, &execution)?)?;
        Ok((execution, checked))
    }

    /// Checks the circuit's witness for an execution: executor E3. Gives the statement that a proof of it would make.
    ///
    /// # Errors
    /// `Unsatisfied` or `Disagreement` if the circuit does not say what the interpreter says, which is a bug.
    pub fn check_prepared<F: PrimeField>(
        &self,
        prepared: Prepared<F>,
    ) -> Result<(Statement<F>, Checked), CircuitError> {
        let prepared = prepared.cut(self, Cut::Runs(RUNS), &self.commitment(), u64::MAX)?;
        let statement = prepared.statement(self)?;
        let mut z = statement.initial_state(self, &prepared.derived);
        let mut checked = Checked::default();
        let runs: Vec<Region> = prepared.trace.iter().collect();
        for (step, runs) in runs.chunks(RUNS).enumerate() {
            let (after, more) = run_slots(self, runs.iter().copied(), &mut prepared.feed(step), &z)?;
            checked.slots += more.slots;
            checked.rows += more.rows;
            z = after;
        }
        statement.check_final_state(self, prepared.advice, &z)?;
        Ok((statement, checked))
    }
}

/// Whether `z` says that the program has halted.
pub fn is_done<F: PrimeField>(z: &[F]) -> bool {
    z.get(LABEL) == Some(&F::from(DONE))
}
