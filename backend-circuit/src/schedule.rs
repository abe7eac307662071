//! A schedule: the segments of a proof, and what an execution makes of their slots.
//!
//! A segment folds one step circuit, a [`Plan`]'s, a number of times. Most proofs have one; a program with phases that have
//! little in common may have a few, each with the slots of its phase. The state after a segment is the state before the next.
//! [`simulate`] runs an execution's trace through a schedule without constraints or values, and so predicts steps and rows.

use std::sync::Arc;

use cranelift_entity::PrimaryMap;
use zvm_ir::Word;
use zvm_ir::eval::keccak256;

use crate::error::CircuitError;
use crate::execute::Trace;
use crate::plan::{Plan, Slots};
use crate::program::Program;
use crate::region::Region;

/// The most segments of a proof: a verifier builds the circuit of each.
pub const MAX_SEGMENTS: usize = 8;

/// A number of steps of one plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The slots of each step.
    pub plan: Arc<Plan>,
    /// How many steps there are.
    pub steps: u64,
}

/// The segments of a proof, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    /// The segments.
    pub segments: Vec<Segment>,
}

impl Schedule {
    /// One segment: `plan` for all of `trace`.
    ///
    /// # Errors
    /// As [`Plan::steps`].
    pub fn single(plan: Plan, trace: &Trace, max_steps: u64) -> Result<Self, CircuitError> {
        let steps = plan.steps(trace, max_steps)?;
        Ok(Self { segments: vec![Segment { plan: Arc::new(plan), steps }] })
    }

    /// A chain of plans, each used until it has run the part of the trace that ends at its place (in regions run), the last one to
    /// the end. A plan that is not needed any more, because the one before it got so far, is left out.
    ///
    /// # Errors
    /// As [`Plan::steps`].
    pub fn chain(plans: &[(Plan, u64)], trace: &Trace, max_steps: u64) -> Result<Self, CircuitError> {
        let mut cursor = Cursor::new(trace);
        let mut schedule = Self::default();
        for (index, (plan, until)) in plans.iter().enumerate() {
            let until = if index + 1 == plans.len() { trace.len() } else { *until };
            let mut steps = 0;
            while cursor.ran < until {
                if schedule.steps() + steps == max_steps {
                    return Err(CircuitError::TooManySteps(max_steps));
                }
                if cursor.step(plan).slots == 0 {
                    return Err(cursor.lacks());
                }
                steps += 1;
            }
            if steps > 0 {
                schedule.segments.push(Segment { plan: Arc::new(plan.clone()), steps });
            }
        }
        Ok(schedule)
    }

    /// The number of steps of all segments.
    pub fn steps(&self) -> u64 {
        self.segments.iter().map(|segment| segment.steps).sum()
    }

    /// The digest of the circuits of all segments, and of how many steps each has.
    pub fn digest(&self, program: &Program) -> Word {
        let mut bytes = b"schedule\n".to_vec();
        for Segment { plan, steps } in &self.segments {
            bytes.extend(program.circuit_digest(plan).to_be_bytes::<32>());
            bytes.extend(steps.to_be_bytes());
        }
        keccak256(&bytes)
    }

    /// The slots of each step, in order.
    pub fn plans(&self) -> impl Iterator<Item = &Plan> + '_ {
        self.segments.iter().flat_map(|segment| (0..segment.steps).map(|_| &*segment.plan))
    }

    /// The rows of all steps, Nova's own apart.
    pub fn rows(&self, rows: &PrimaryMap<Region, u64>) -> u64 {
        self.segments.iter().map(|segment| segment.plan.rows(rows).saturating_mul(segment.steps)).sum()
    }
}

/// What a schedule makes of an execution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Simulation {
    /// Steps folded.
    pub steps: u64,
    /// Slots of all steps.
    pub slots: u64,
    /// Those that run; the others idle.
    pub slots_run: u64,
    /// Rows of all steps, Nova's own apart.
    pub rows: u64,
    /// Those in slots that run.
    pub rows_run: u64,
}

impl Simulation {
    /// The rows of slots that run, by all rows.
    pub fn utilisation(&self) -> f64 {
        if self.rows == 0 { 1.0 } else { self.rows_run as f64 / self.rows as f64 }
    }

    /// Both one after the other.
    pub fn and(self, other: Self) -> Self {
        Self {
            steps: self.steps + other.steps,
            slots: self.slots + other.slots,
            slots_run: self.slots_run + other.slots_run,
            rows: self.rows + other.rows,
            rows_run: self.rows_run + other.rows_run,
        }
    }
}

/// Runs a trace through a schedule.
///
/// # Errors
/// `PlanLacks` with the region that was to run after the last step, if the execution has not ended then.
pub fn simulate(
    schedule: &Schedule,
    trace: &Trace,
    rows: &PrimaryMap<Region, u64>,
) -> Result<Simulation, CircuitError> {
    let mut cursor = Cursor::new(trace);
    let mut total = Simulation::default();
    for Segment { plan, steps } in &schedule.segments {
        let (step_rows, slots) = (plan.rows(rows), plan.len() as u64);
        for _ in 0..*steps {
            let Progress { slots: slots_run, rows: rows_run } = cursor.step_counting(plan, rows);
            total = total.and(Simulation { steps: 1, slots, slots_run, rows: step_rows, rows_run });
        }
    }
    if cursor.run.is_some() { Err(cursor.lacks()) } else { Ok(total) }
}

/// What of a step runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Slots.
    pub(crate) slots: u64,
    /// Their rows, if they are counted.
    pub(crate) rows: u64,
}

/// A place in a trace: what folding knows as the label.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    rest: &'a [(Region, u64)],
    /// The region that runs next, and how often in a row.
    run: Option<(Region, u64)>,
    /// How many regions have run.
    pub(crate) ran: u64,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(trace: &'a Trace) -> Self {
        let mut cursor = Self { rest: trace.runs(), run: None, ran: 0 };
        cursor.advance();
        cursor
    }

    fn advance(&mut self) {
        self.run = self.rest.split_first().map(|(first, rest)| {
            self.rest = rest;
            *first
        });
    }

    /// Whether the execution has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.run.is_none()
    }

    /// The error that the region to run next has no slot.
    pub(crate) fn lacks(&self) -> CircuitError {
        match self.run {
            Some((region, _)) => CircuitError::PlanLacks(region),
            None => CircuitError::NoSteps,
        }
    }

    /// Runs one step of a plan.
    pub(crate) fn step(&mut self, plan: &Plan) -> Progress {
        self.run_slots(plan, |_| 0)
    }

    /// Runs one step of a plan, and counts its rows.
    pub(crate) fn step_counting(&mut self, plan: &Plan, rows: &PrimaryMap<Region, u64>) -> Progress {
        self.run_slots(plan, |region| rows[region])
    }

    fn run_slots(&mut self, plan: &Plan, rows: impl Fn(Region) -> u64) -> Progress {
        let mut progress = Progress::default();
        for slots in plan.slots() {
            if self.is_done() {
                break;
            }
            let ran = self.run_group(slots);
            if ran > 0 {
                progress.slots += ran;
                progress.rows += ran * rows(slots.region);
            }
        }
        progress
    }

    /// Runs slots of one region; how many of them.
    pub(crate) fn run_group(&mut self, slots: &Slots) -> u64 {
        let Some((region, left)) = self.run.filter(|(region, _)| *region == slots.region) else { return 0 };
        // A run ends with another region, so slots beyond it idle.
        let ran = u64::from(slots.count).min(left);
        self.ran += ran;
        if ran == left {
            self.advance();
        } else {
            self.run = Some((region, left - ran));
        }
        ran
    }
}
