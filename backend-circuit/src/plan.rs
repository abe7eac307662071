//! The step plan: which slots make up a step, in which order.
//!
//! A step runs through its slots once; each slot whose region is the next to run runs it. Any plan that has the regions
//! of an execution proves that execution, so a plan is about speed only: the prover chooses it and the verifier rebuilds
//! the circuit from it.

use std::collections::BTreeSet;

use cranelift_entity::{EntityRef, PrimaryMap};

use crate::error::CircuitError;
use crate::execute::Trace;
use crate::program::Program;
use crate::region::Region;
use crate::schedule::Cursor;
use crate::system::System;

/// The most slots of a plan that is read from a file.
pub const MAX_SLOTS: usize = 1 << 20;

/// Slots of one region in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// Their region.
    pub region: Region,
    /// How many there are.
    pub count: u32,
}

/// The slots of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    slots: Vec<Slots>,
}

impl Plan {
    /// A plan with these slots in this order.
    pub fn new(regions: impl IntoIterator<Item = Region>) -> Self {
        let mut plan = Self::default();
        regions.into_iter().for_each(|region| plan.push(region, 1));
        plan
    }

    /// Appends `count` slots of a region.
    pub fn push(&mut self, region: Region, count: u32) {
        match self.slots.last_mut() {
            Some(last) if last.region == region => last.count = last.count.saturating_add(count),
            _ if count > 0 => self.slots.push(Slots { region, count }),
            _ => {}
        }
    }

    /// The slots, equal neighbours counted.
    pub fn slots(&self) -> &[Slots] {
        &self.slots
    }

    /// Every slot in order.
    pub fn iter(&self) -> impl Iterator<Item = Region> + Clone + '_ {
        self.slots.iter().flat_map(|slots| (0..slots.count).map(move |_| slots.region))
    }

    /// The number of slots.
    pub fn len(&self) -> usize {
        self.slots.iter().map(|slots| slots.count as usize).sum()
    }

    /// Whether there are no slots.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The rows of a step, Nova's own apart, given the rows of each region.
    pub fn rows(&self, rows: &PrimaryMap<Region, u64>) -> u64 {
        self.slots.iter().map(|slots| rows[slots.region] * u64::from(slots.count)).sum()
    }

    /// Every region of the program, those in loops as often as fits `target_rows`: the innermost loops first. Then the slots of the
    /// system; those that walk through the state tree share what is left with the loops.
    pub fn default_for(program: &Program, target_rows: u64) -> Self {
        let rows = program.rows();
        let once = Self::new(rows.keys());
        let deepest = program.regions.regions.values().map(|region| region.depth).max().unwrap_or(0);
        let depth = |region: Region| program.regions.regions.get(region).map_or(0, |region| region.depth);
        let hot = |region: Region| deepest > 0 && depth(region) == deepest;
        let body: u64 = rows.iter().filter(|(region, _)| hot(*region)).map(|(_, rows)| rows).sum();
        let walking = |region: Region| program.system(region).is_some_and(System::walks);
        let walk: u64 = rows.iter().filter(|(region, _)| walking(*region)).map(|(_, rows)| rows).sum();
        let spare = target_rows.saturating_sub(once.rows(rows));
        let share = if body > 0 && walk > 0 { spare / 2 } else { spare };
        let repeats = 1 + share.checked_div(body).unwrap_or(0);
        let walks = 1 + share.checked_div(walk).unwrap_or(0);
        let mut plan = Self::default();
        let mut regions = program.regions.regions.keys().peekable();
        while let Some(region) = regions.next() {
            if !hot(region) {
                plan.push(region, 1);
                continue;
            }
            let mut body = vec![region];
            while let Some(next) = regions.next_if(|&next| hot(next)) {
                body.push(next);
            }
            for _ in 0..repeats {
                body.iter().for_each(|&region| plan.push(region, 1));
            }
        }
        let mut system = rows.keys().skip(program.regions.regions.len()).peekable();
        while let Some(region) = system.next() {
            let mut group = vec![region];
            while let Some(next) = system.next_if(|&next| walking(region) && walking(next)) {
                group.push(next);
            }
            for _ in 0..if walking(region) { walks } else { 1 } {
                group.iter().for_each(|&region| plan.push(region, 1));
            }
        }
        plan
    }

    /// The plan without the regions that have the most rows, as many as have to go for one slot of each of the others to have `most_rows` together.
    /// Executions that come to one of them need another plan.
    pub fn within(mut self, rows: &PrimaryMap<Region, u64>, most_rows: u64) -> Self {
        let mut regions: Vec<Region> = self.regions().into_iter().collect();
        regions.sort_by_key(|&region| (rows[region], region));
        let mut once: u64 = regions.iter().map(|&region| rows[region]).sum();
        while let Some(largest) = regions.pop().filter(|_| once > most_rows) {
            once -= rows[largest];
            self.slots.retain(|slots| slots.region != largest);
        }
        self
    }

    /// The regions that have slots.
    pub fn regions(&self) -> BTreeSet<Region> {
        self.slots.iter().map(|slots| slots.region).collect()
    }

    /// A plan for executions like `trace`: only its regions, in proportion.
    ///
    /// If the whole trace fits `target_rows` it is the plan. Else the plan is a stretch of the trace that fits, with the
    /// other regions of the trace once before or after it; of several stretches the one that needs the fewest rows over
    /// all steps wins, each step counted with `step_rows` more for Nova's recursion.
    pub fn from_trace(program: &Program, trace: &Trace, target_rows: u64, step_rows: u64) -> Self {
        let rows = program.rows();
        let total: u64 = trace.runs().iter().map(|&(region, count)| rows[region].saturating_mul(count)).sum();
        if total <= target_rows {
            return Self::new(trace.iter());
        }
        let mut first: PrimaryMap<Region, Option<u64>> = rows.keys().map(|_| None).collect();
        let mut at = 0;
        for &(region, count) in trace.runs() {
            first[region].get_or_insert(at);
            at += count;
        }
        let mut present: Vec<(u64, Region)> = first.iter().filter_map(|(region, at)| Some(((*at)?, region))).collect();
        present.sort();
        let once: u64 = present.iter().map(|&(_, region)| rows[region]).sum();
        // A region larger than a step should be leaves no room for a second slot of it, but for some of what surrounds it.
        let window = target_rows.max(once + once / 16) - once;
        let mut best: Option<(u64, Self)> = None;
        for eighth in 0..8 {
            let start = trace.len() * eighth / 8;
            let stretch = stretch(trace, rows, start, window);
            let mut plan = Self::default();
            let missing = |region: Region| !stretch.slots.iter().any(|slots| slots.region == region);
            for &(at, region) in present.iter().filter(|&&(_, region)| missing(region)) {
                if at <= start {
                    plan.push(region, 1);
                }
            }
            stretch.slots.iter().for_each(|slots| plan.push(slots.region, slots.count));
            for &(at, region) in present.iter().filter(|&&(_, region)| missing(region)) {
                if at > start {
                    plan.push(region, 1);
                }
            }
            let Ok(steps) = plan.steps(trace, u64::MAX) else { continue };
            let cost = steps.saturating_mul(plan.rows(rows) + step_rows);
            if best.as_ref().is_none_or(|(cheapest, _)| cost < *cheapest) {
                best = Some((cost, plan));
            }
        }
        best.map_or_else(|| Self::new(trace.iter()), |(_, plan)| plan)
    }

    /// How many steps of this plan an execution takes.
    ///
    /// # Errors
    /// `PlanLacks` when a region has no slot, `TooManySteps` past `max_steps`.
    pub fn steps(&self, trace: &Trace, max_steps: u64) -> Result<u64, CircuitError> {
        let mut cursor = Cursor::new(trace);
        let mut steps = 0;
        while !cursor.is_done() {
            if steps == max_steps {
                return Err(CircuitError::TooManySteps(max_steps));
            }
            steps += 1;
            if cursor.step(self).slots == 0 {
                return Err(cursor.lacks());
            }
        }
        Ok(steps)
    }

    /// The plan as numbers: for each group of slots the index of its region and its count.
    pub fn to_numbers(&self) -> Vec<(u32, u32)> {
        self.slots.iter().map(|slots| (slots.region.index() as u32, slots.count)).collect()
    }

    /// The plan from its numbers; `None` if `program` has no such slot, a count is zero, or there are too many.
    pub fn from_numbers(program: &Program, numbers: &[(u32, u32)]) -> Option<Self> {
        let mut plan = Self::default();
        let mut total = 0usize;
        for &(region, count) in numbers {
            if region as usize >= program.slot_kinds() {
                return None;
            }
            let region = Region::new(region as usize);
            total = total.checked_add(count as usize)?;
            if count == 0 || total > MAX_SLOTS {
                return None;
            }
            plan.slots.push(Slots { region, count });
        }
        (!plan.is_empty()).then_some(plan)
    }
}

/// The slots of `trace` from its region number `start` on, as many as fit `rows_left`; the first of each region counts nothing.
fn stretch(trace: &Trace, rows: &PrimaryMap<Region, u64>, start: u64, mut rows_left: u64) -> Plan {
    let mut plan = Plan::default();
    let mut at = 0;
    for &(region, count) in trace.runs() {
        let from = start.saturating_sub(at).min(count);
        at += count;
        let wanted = count - from;
        if wanted == 0 {
            continue;
        }
        let free = u64::from(!plan.slots.iter().any(|slots| slots.region == region));
        let fits = rows_left.checked_div(rows[region]).map_or(wanted, |fits| fits.saturating_add(free)).min(wanted);
        rows_left -= fits.saturating_sub(free) * rows[region];
        plan.push(region, u32::try_from(fits).unwrap_or(u32::MAX));
        if fits < wanted {
            break;
        }
    }
    plan
}
