//! The planner: which slots a step has, how large it is, and whether a proof has segments.
//!
//! Any plan that has the regions of an execution proves it, so the planner only minimises an estimate of what proving costs:
//!
//! `Σ steps · (step + idle row · rows) + (row − idle row) · rows that run + (setup and compression) · rows of a step`
//!
//! with the constants of [`Model`], under a budget of memory, which bounds the rows of a step. Candidates are stretches of the
//! execution itself, units of its hottest loop repeated, its regions spread in proportion, and its calls, a few as they are or many merged
//! ([`calls`]); each is simulated on the trace ([`walk`]), and slots that seldom run are dropped, and others put where executions wait for
//! them ([`gaps`]), as long as that makes the estimate smaller. A trace whose regions change from one part to
//! the next is cut there if two plans cost less than one.
//!
//! Everything is decided by counting, so that the same trace gives the same plan.

mod calls;
mod gaps;
mod walk;

use std::collections::BTreeMap;

use calls::Calls;
use cranelift_entity::{EntityRef, PrimaryMap};

use crate::error::CircuitError;
use crate::execute::Trace;
use crate::plan::Plan;
use crate::program::Program;
use crate::prover::{MAX_STEP_ROWS, MAX_STEPS};
use crate::region::Region;
use crate::schedule::{Schedule, Simulation};

/// What proving takes, on the class of machine that `docs/proving.md` describes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// CPU seconds of a row in a slot that runs.
    pub row: f64,
    /// CPU seconds of a row in a slot that idles.
    pub idle_row: f64,
    /// CPU seconds of a step beside its rows: Nova's recursion on both curves.
    pub step: f64,
    /// CPU seconds per row of a step, once a segment: its parameters and keys.
    pub setup_row: f64,
    /// CPU seconds per row of a step, once a segment: compression.
    pub compress_row: f64,
    /// Bytes of memory per row of a step.
    pub bytes_per_row: u64,
    /// Bytes of memory per row of a step circuit, Nova's own and those of padding included.
    pub bytes_per_padded_row: u64,
    /// Bytes of memory beside those.
    pub bytes: u64,
}

/// Nova's own rows of a step on the first curve, at most for most states: they are part of the circuit, whose rows are padded to a
/// power of two.
const NOVA_ROWS: u64 = 12_000;

/// The rows of the circuit of a step: what memory is needed for.
fn padded(rows: u64) -> u64 {
    rows.saturating_add(NOVA_ROWS).checked_next_power_of_two().unwrap_or(u64::MAX)
}

impl Default for Model {
    fn default() -> Self {
        Self {
            row: 4.5e-6,
            idle_row: 2.4e-6,
            step: 0.195,
            setup_row: 60e-6,
            compress_row: 100e-6,
            bytes_per_row: 1_800,
            bytes_per_padded_row: 1_050,
            bytes: 125 << 20,
        }
    }
}

impl Model {
    /// CPU seconds of segments whose steps have `rows` rows together.
    fn seconds(&self, simulation: &Simulation, rows: u64) -> f64 {
        let (steps, all, run) = (simulation.steps as f64, simulation.rows as f64, simulation.rows_run as f64);
        steps * self.step
            + all * self.idle_row
            + run * (self.row - self.idle_row)
            + rows as f64 * (self.setup_row + self.compress_row)
    }

    /// Bytes that proving steps of so many rows takes.
    pub fn memory(&self, rows: u64) -> u64 {
        let circuit = self.bytes_per_padded_row.saturating_mul(padded(rows));
        self.bytes.saturating_add(circuit).saturating_add(self.bytes_per_row.saturating_mul(rows))
    }

    /// The most rows of a step that fit so many bytes.
    pub fn rows_in(&self, bytes: u64) -> u64 {
        // Memory grows with rows, so the first number that does not fit is found by halving.
        let (mut fits, mut too_many) = (0, MAX_STEP_ROWS + 1);
        if self.memory(fits) > bytes {
            return 0;
        }
        while too_many - fits > 1 {
            let middle = (fits + too_many) / 2;
            if self.memory(middle) <= bytes {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        fits
    }
}

/// What a plan has to keep to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory that proving may take, if the user says so; else [`MEMORY_BYTES`], [`MORE_MEMORY_BYTES`] where that saves much, and
    /// more where a program does not do with that.
    pub memory_bytes: Option<u64>,
    /// Rows that a step should have, if the user says so.
    pub rows_per_step: Option<u64>,
}

/// The memory that plans keep to where they can, unless the user says otherwise.
pub const MEMORY_BYTES: u64 = 2 << 30;
/// The memory that plans may take where that saves much.
pub const MORE_MEMORY_BYTES: u64 = 4 << 30;
/// Plans that take more than [`MEMORY_BYTES`] have to cost less than this part of one that does not.
const WORTH_MEMORY: f64 = 0.75;

impl Limits {
    /// The most rows that a step may have, where it cannot have fewer than `least`: one slot of each region.
    ///
    /// # Errors
    /// `Memory` if the user allows less memory than a step of `least` rows takes, `StepSize` if no step has so many.
    pub fn most_rows(&self, model: &Model, least: u64) -> Result<u64, CircuitError> {
        self.most_rows_in(MEMORY_BYTES, model, least)
    }

    /// As [`Limits::most_rows`], where plans keep to `bytes` unless the user says otherwise.
    fn most_rows_in(&self, bytes: u64, model: &Model, least: u64) -> Result<u64, CircuitError> {
        if least > MAX_STEP_ROWS {
            return Err(CircuitError::StepSize(least));
        }
        let fits = model.rows_in(self.memory_bytes.unwrap_or(bytes));
        match self.memory_bytes {
            Some(allowed) if fits < least => Err(CircuitError::Memory { needed: model.memory(least), allowed }),
            // Small regions have to fit more than once, or each of their runs takes a step of its own.
            None => Ok(fits.max(least + least / 16).min(MAX_STEP_ROWS)),
            _ => Ok(fits.min(MAX_STEP_ROWS)),
        }
    }
}

/// How often a plan is filled where executions wait.
const FILLS: usize = 256;
/// Groups of slots and runs of regions that one simulation may go through for plans to be filled: what is longer is loops.
const MAX_WORK: u64 = 1 << 20;
/// Those that all simulations for one choice may go through before it is left at the best so far, and how many simulations it has in any case.
const MAX_WORK_OF_CHOICE: u64 = 1 << 26;
const SIMULATIONS: u64 = 1 << 10;

/// The most segments the planner makes.
const SEGMENTS: usize = 4;

/// How many places are looked at closely for a cut, the most promising first.
const CUTS: usize = 3;

/// Two plans have to cost less than this part of one.
const WORTH_CUTTING: f64 = 0.9;

/// What is expected of a schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Steps, slots and rows.
    pub simulation: Simulation,
    /// CPU seconds, parameters and compression included.
    pub seconds: f64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// Chooses a schedule for an execution.
///
/// # Errors
/// `StepSize` if a region that the execution needs is larger than any step, `Memory` if it takes more than the limit, `TooManySteps`.
pub fn schedule(program: &Program, trace: &Trace, limits: Limits) -> Result<(Schedule, Estimate), CircuitError> {
    let model = Model::default();
    let mut pieces = vec![(trace.clone(), choose(program, trace, limits, &model, Effort::Full)?)];
    let mut index = 0;
    while index < pieces.len() && pieces.len() < SEGMENTS {
        let (piece, whole) = &pieces[index];
        match cut(program, piece, whole, limits, &model)? {
            Some(parts) => drop(pieces.splice(index..=index, parts)),
            None => index += 1,
        }
    }
    let mut until = 0;
    let mut plans = Vec::with_capacity(pieces.len());
    for (piece, choice) in &pieces {
        until += piece.len();
        plans.push((choice.plan.clone(), until));
    }
    let schedule = Schedule::chain(&plans, trace, MAX_STEPS)?;
    let simulation = crate::schedule::simulate(&schedule, trace, program.rows())?;
    let sizes = schedule.segments.iter().map(|segment| segment.plan.rows(program.rows()));
    let estimate = Estimate {
        simulation,
        seconds: model.seconds(&simulation, sizes.clone().sum()),
        memory_bytes: model.memory(sizes.max().unwrap_or(0)),
    };
    Ok((schedule, estimate))
}

/// Chooses one plan for executions like these.
///
/// # Errors
/// As [`schedule`].
pub fn plan(program: &Program, traces: &[Trace], limits: Limits) -> Result<(Plan, Estimate), CircuitError> {
    let model = Model::default();
    let mut all = Trace::default();
    traces.iter().for_each(|trace| all.extend(trace));
    let Choice { plan, simulation, seconds } = choose(program, &all, limits, &model, Effort::Full)?;
    let memory_bytes = model.memory(plan.rows(program.rows()));
    Ok((plan, Estimate { simulation, seconds, memory_bytes }))
}

/// A plan and what it makes of a trace.
#[derive(Clone, Debug)]
struct Choice {
    plan: Plan,
    simulation: Simulation,
    seconds: f64,
}

/// How hard to look for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// For a first look: the best candidate is improved.
    Some,
    /// Merged calls are candidates too, and each is improved.
    Full,
}

/// Weighs candidates against each other.
struct Search<'a> {
    trace: &'a Trace,
    rows: &'a PrimaryMap<Region, u64>,
    model: &'a Model,
    /// The most rows of a step.
    most: u64,
    /// The rows of all runs of the trace.
    run: u64,
    /// What simulations have gone through.
    work: u64,
    best: Option<Choice>,
}

impl<'a> Search<'a> {
    fn new(trace: &'a Trace, rows: &'a PrimaryMap<Region, u64>, model: &'a Model, most: u64) -> Self {
        let run = trace.runs().iter().map(|&(region, count)| rows[region].saturating_mul(count));
        let run = run.fold(0u64, u64::saturating_add);
        Self { trace, rows, model, most, run, work: 0, best: None }
    }

    /// What one simulation of a plan goes through.
    fn work_of(&self, plan: &Plan) -> u64 {
        (plan.slots().len() + self.trace.runs().len() + self.rows.len()) as u64
    }

    /// Whether simulations have gone through enough.
    fn is_exhausted(&self) -> bool {
        self.work > MAX_WORK_OF_CHOICE.max(SIMULATIONS.saturating_mul(self.work_of(&Plan::default())))
    }

    /// What `steps` steps of a plan make of the trace.
    fn simulated(&self, plan: &Plan, steps: u64) -> Simulation {
        let (slots, rows) = (plan.len() as u64, plan.rows(self.rows));
        let (slots, rows) = (steps.saturating_mul(slots), steps.saturating_mul(rows));
        Simulation { steps, slots, slots_run: self.trace.len(), rows, rows_run: self.run }
    }

    /// Takes a candidate if it is the best so far; whether it is.
    fn offer(&mut self, plan: Plan) -> bool {
        let step_rows = plan.rows(self.rows);
        if plan.is_empty() || step_rows > self.most {
            return false;
        }
        self.work += self.work_of(&plan);
        let seconds = |steps| self.model.seconds(&self.simulated(&plan, steps), step_rows);
        // Hopeless candidates are given up on the way.
        let most = self
            .best
            .as_ref()
            .map_or(f64::INFINITY, |best| (best.seconds - seconds(0)) / (seconds(1) - seconds(0)) + 1.0);
        let most = if most < u64::MAX as f64 { most.max(0.0) as u64 } else { u64::MAX };
        let Some(steps) = walk::steps(&plan, self.trace, self.rows.len(), most) else { return false };
        let seconds = seconds(steps);
        let better = self.best.as_ref().is_none_or(|best| seconds < best.seconds);
        if better {
            let simulation = self.simulated(&plan, steps);
            self.best = Some(Choice { plan, simulation, seconds });
        }
        better
    }

    /// Offers the best plan without the slots that run in few steps, as long as that is better.
    fn prune(&mut self) {
        for _ in 0..4 {
            let Some(best) = &self.best else { return };
            let usage = walk::usage(&best.plan, self.trace, self.rows.len());
            let (plan, steps) = (best.plan.clone(), best.simulation.steps);
            let mut improved = false;
            for percent in [0, 1, 5, 10, 20, 30, 40, 50, 60] {
                improved |= self.offer(without_idle(&plan, &usage, steps * percent / 100));
            }
            if !improved {
                return;
            }
        }
    }

    /// Offers the best plan with slots where the execution waits for them longest, as long as that is better.
    fn fill(&mut self) {
        for _ in 0..FILLS {
            let Some(best) = self.best.as_ref().filter(|_| !self.is_exhausted()) else { return };
            let (plan, steps) = (best.plan.clone(), best.simulation.steps);
            if self.work_of(&plan) > MAX_WORK {
                return;
            }
            let improved = gaps::filled(&plan, self.trace, self.rows, steps).any(|plan| self.offer(plan));
            if !improved {
                return;
            }
            self.prune();
        }
    }

    /// Improves a candidate by itself, and takes what comes of it if that is the best so far.
    fn improve(&mut self, plan: Plan) {
        let best = self.best.take();
        self.offer(plan);
        self.prune();
        self.fill();
        self.best = match (best, self.best.take()) {
            (Some(best), Some(new)) => Some(if new.seconds < best.seconds { new } else { best }),
            (best, new) => best.or(new),
        };
    }

    /// Offers the best plan several times over, where steps are cheaper if they are fewer.
    fn repeat(&mut self) {
        let Some(best) = &self.best else { return };
        let plan = best.plan.clone();
        let times = self.most / plan.rows(self.rows).max(1);
        for times in [2, 3, 4, times / 2, times] {
            if times >= 2 && plan.rows(self.rows) * times <= self.most {
                let mut longer = Plan::default();
                for _ in 0..times {
                    plan.slots().iter().for_each(|slots| longer.push(slots.region, slots.count));
                }
                self.offer(longer);
            }
        }
    }
}

/// Chooses a plan within [`MEMORY_BYTES`], or within more where that saves much.
fn choose(
    program: &Program,
    trace: &Trace,
    limits: Limits,
    model: &Model,
    effort: Effort,
) -> Result<Choice, CircuitError> {
    let counts = counts(trace);
    let once: u64 = counts.keys().map(|&region| program.rows()[region]).sum();
    let most = limits.most_rows(model, once)?;
    if let Some(wanted) = limits.rows_per_step {
        // A size that the user asks for is a wish; a limit of memory is none.
        let bound = if limits.memory_bytes.is_some() { most } else { MAX_STEP_ROWS };
        let most = wanted.max(once + once / 16).min(bound);
        return choose_within(program, trace, &counts, Some(wanted), most, model, effort);
    }
    let choice = choose_within(program, trace, &counts, None, most, model, effort)?;
    let more = limits.most_rows_in(MORE_MEMORY_BYTES, model, once)?;
    // Plans that leave room would have grown into it.
    if more <= most || choice.plan.rows(program.rows()) <= most / 2 {
        return Ok(choice);
    }
    let larger = choose_within(program, trace, &counts, None, more, model, effort)?;
    Ok(if larger.seconds < choice.seconds * WORTH_MEMORY { larger } else { choice })
}

/// Chooses a plan of at most `most` rows, of about `wanted` if the user says so.
fn choose_within(
    program: &Program,
    trace: &Trace,
    counts: &BTreeMap<Region, u64>,
    wanted: Option<u64>,
    most: u64,
    model: &Model,
    effort: Effort,
) -> Result<Choice, CircuitError> {
    let rows = program.rows();
    let mut search = Search::new(trace, rows, model, most);
    for target in targets(search.run, most, wanted) {
        search.offer(Plan::from_trace(program, trace, target, crate::prover::RECURSION_ROWS));
        search.offer(units(counts, rows, target));
        search.offer(spread(counts, rows, target));
    }
    // One slot of each region takes as many steps as the execution goes back, but always suffices.
    let once = Plan::new(counts.keys().copied());
    let least = once.rows(rows);
    search.offer(once);
    let calls = Calls::new(program, trace, most);
    for plan in calls.whole() {
        search.offer(plan);
    }
    search.prune();
    search.fill();
    if effort == Effort::Full && wanted.is_none() {
        for plan in calls.merged() {
            // Where executions are long, what improves the best of all comes first.
            if search.work > MAX_WORK_OF_CHOICE {
                break;
            }
            if search.work_of(&plan) > MAX_WORK {
                continue;
            }
            search.improve(plan);
        }
    }
    if wanted.is_none() {
        search.repeat();
        search.prune();
        search.fill();
    }
    search.best.ok_or(CircuitError::StepSize(least))
}

/// How often each region runs.
fn counts(trace: &Trace) -> BTreeMap<Region, u64> {
    let mut counts = BTreeMap::new();
    for &(region, count) in trace.runs() {
        *counts.entry(region).or_insert(0) += count;
    }
    counts
}

/// The sizes of steps that are tried: the whole execution in a few steps, and a few sizes up to the largest.
fn targets(total: u64, most: u64, wanted: Option<u64>) -> Vec<u64> {
    if let Some(rows) = wanted {
        return vec![rows.min(most)];
    }
    let mut targets: Vec<u64> = (1..=6).map(|steps| total.div_ceil(steps)).collect();
    // As large as their circuit may be without being padded to the next size.
    targets.extend((15..=21).map(|power| (1 << power) - NOVA_ROWS));
    targets.extend([most / 4 * 3, most]);
    targets.retain(|&target| target <= most && target > 0);
    targets.sort_unstable();
    targets.dedup();
    if targets.is_empty() { vec![most] } else { targets }
}

/// Every region once, and the hot ones in units of the ratio in which they run, as often as fits.
fn units(counts: &BTreeMap<Region, u64>, rows: &PrimaryMap<Region, u64>, target: u64) -> Plan {
    let hottest = counts.values().copied().max().unwrap_or(1);
    let is_hot = |count: u64| count >= hottest / 8;
    let least = counts.values().copied().filter(|&count| is_hot(count)).min().unwrap_or(1).max(1);
    let mut unit = Plan::default();
    for (&region, &count) in counts.iter().filter(|(_, count)| is_hot(**count)) {
        unit.push(region, u32::try_from((count + least / 2) / least).unwrap_or(u32::MAX).max(1));
    }
    let cold: u64 = counts.iter().filter(|(_, count)| !is_hot(**count)).map(|(&region, _)| rows[region]).sum();
    let repeats = (target.saturating_sub(cold) / unit.rows(rows).max(1)).clamp(1, least);
    let first = counts.iter().find(|(_, count)| is_hot(**count)).map_or(0, |(region, _)| region.index());
    let mut plan = Plan::default();
    let cold = |region: &&Region| !is_hot(counts[*region]);
    counts.keys().filter(|region| region.index() < first).for_each(|&region| plan.push(region, 1));
    for _ in 0..repeats {
        unit.slots().iter().for_each(|slots| plan.push(slots.region, slots.count));
    }
    counts.keys().filter(cold).filter(|region| region.index() > first).for_each(|&region| plan.push(region, 1));
    plan
}

/// Each region as often as fits in proportion to how often it runs, at least once, evenly spread.
fn spread(counts: &BTreeMap<Region, u64>, rows: &PrimaryMap<Region, u64>, target: u64) -> Plan {
    let total: u128 = counts.iter().map(|(&region, &count)| u128::from(rows[region]) * u128::from(count)).sum();
    let mut places: Vec<(u64, Region)> = Vec::new();
    for (&region, &count) in counts {
        let wanted = u128::from(count) * u128::from(target) / total.max(1);
        let slots = u64::try_from(wanted).unwrap_or(u64::MAX).clamp(1, count.min(1 << 16));
        places.extend((0..slots).map(|at| ((2 * at + 1) * (1 << 32) / (2 * slots), region)));
    }
    places.sort_unstable();
    Plan::new(places.into_iter().map(|(_, region)| region))
}

/// The plan without slots that run in at most so many steps, but with one of each region.
fn without_idle(plan: &Plan, usage: &[Vec<u64>], most: u64) -> Plan {
    let mut busiest: BTreeMap<Region, (u64, usize)> = BTreeMap::new();
    for (index, (slots, usage)) in plan.slots().iter().zip(usage).enumerate() {
        let uses = usage.first().copied().unwrap_or(0);
        let entry = busiest.entry(slots.region).or_insert((uses, index));
        if uses > entry.0 {
            *entry = (uses, index);
        }
    }
    let mut pruned = Plan::default();
    for (index, (slots, usage)) in plan.slots().iter().zip(usage).enumerate() {
        let kept = usage.iter().take_while(|&&uses| uses > most).count() as u32;
        let is_busiest = busiest.get(&slots.region).is_some_and(|&(_, at)| at == index);
        pruned.push(slots.region, kept.max(u32::from(is_busiest)));
    }
    pruned
}

/// Cuts a trace where its regions change, if that is worth a second circuit.
fn cut(
    program: &Program,
    trace: &Trace,
    whole: &Choice,
    limits: Limits,
    model: &Model,
) -> Result<Option<[(Trace, Choice); 2]>, CircuitError> {
    // What does not even take a few steps has nothing to gain.
    if whole.simulation.steps < 4 {
        return Ok(None);
    }
    let rows = program.rows();
    let total: u64 = counts(trace).iter().map(|(&region, &count)| rows[region] * count).sum();
    // Where regions that matter run for the first and for the last time.
    let mut spans: BTreeMap<Region, (u64, u64, u64)> = BTreeMap::new();
    let mut at = 0;
    for &(region, count) in trace.runs() {
        let span = spans.entry(region).or_insert((at, at, 0));
        at += count;
        span.1 = at;
        span.2 += rows[region] * count;
    }
    let mut places: Vec<u64> = spans
        .values()
        .filter(|(_, _, weight)| weight * 20 >= total)
        .flat_map(|&(first, last, _)| [first, last])
        .filter(|&place| place > 0 && place < trace.len())
        .collect();
    places.sort_unstable();
    places.dedup();
    let parts = |place: u64, effort: Effort| -> Result<(f64, [(Trace, Choice); 2]), CircuitError> {
        let (head, tail) = trace.split(place);
        let a = choose(program, &head, limits, model, effort)?;
        let b = choose(program, &tail, limits, model, effort)?;
        Ok((a.seconds + b.seconds, [(head, a), (tail, b)]))
    };
    let mut promising = Vec::with_capacity(places.len());
    for place in places {
        promising.push((parts(place, Effort::Some)?.0, place));
    }
    promising.sort_by(|(a, first), (b, second)| a.total_cmp(b).then(first.cmp(second)));
    let mut best: Option<(f64, [(Trace, Choice); 2])> = None;
    for &(_, place) in promising.iter().take(CUTS) {
        let (seconds, parts) = parts(place, Effort::Full)?;
        if seconds < whole.seconds * WORTH_CUTTING && best.as_ref().is_none_or(|(least, _)| seconds < *least) {
            best = Some((seconds, parts));
        }
    }
    Ok(best.map(|(_, parts)| parts))
}

/// One segment of a plan that was chosen before, or the planner's own schedule where that is expected to cost less although its
/// parameters have to be made, or where the plan lacks a region.
///
/// # Errors
/// As [`schedule`].
pub fn schedule_with(program: &Program, plan: &Plan, trace: &Trace, limits: Limits) -> Result<Schedule, CircuitError> {
    let (chosen, estimate) = schedule(program, trace, limits)?;
    let given = match Schedule::single(plan.clone(), trace, MAX_STEPS) {
        Ok(given) => given,
        Err(CircuitError::PlanLacks(_)) => return Ok(chosen),
        Err(error) => return Err(error),
    };
    let model = Model { setup_row: 0.0, ..Model::default() };
    let rows = plan.rows(program.rows());
    if limits.memory_bytes.is_some_and(|bytes| rows > model.rows_in(bytes)) {
        return Ok(chosen);
    }
    let simulation = crate::schedule::simulate(&given, trace, program.rows())?;
    let seconds = model.seconds(&simulation, rows);
    Ok(if seconds <= estimate.seconds { given } else { chosen })
}
