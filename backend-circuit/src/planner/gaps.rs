//! Where executions wait for a slot, and plans in which they wait less.
//!
//! A step runs through its slots in order, so an execution whose next region has no slot soon idles up to where it has one: in this step
//! or, what is worst, in the next. Short calls that go different ways do little else. Slots for what comes next, put in the place where
//! the execution waits, and up to where it meets the plan again, cost their rows in every step and save those that idle.

use core::ops::ControlFlow;
use std::collections::BTreeMap;

use cranelift_entity::PrimaryMap;

use super::walk::{Piece, walk};
use crate::execute::Trace;
use crate::plan::Plan;
use crate::region::Region;

/// The most runs of regions that are put in one place.
const MAX_RUNS: usize = 40;
/// The most slots of one region that are put in one place.
const MAX_SLOTS: u64 = 4;
/// How many places are tried, the most promising first.
const TRIED: usize = 12;

/// Slots in the place of some wait: before which group, and which.
type Filling = (usize, Vec<(Region, u32)>);

/// `plan` with slots where `trace` waits for them, for some places, the ones that save most first. A plan takes `steps` steps.
pub(super) fn filled(
    plan: &Plan,
    trace: &Trace,
    rows: &PrimaryMap<Region, u64>,
    steps: u64,
) -> impl Iterator<Item = Plan> + use<> {
    let mut fillings: Vec<(i128, Filling)> = waits(plan, trace, rows)
        .into_iter()
        .map(|(filling, saved)| (i128::from(saved) - i128::from(steps) * i128::from(cost(&filling.1, rows)), filling))
        .collect();
    fillings.sort_by(|(a, first), (b, second)| b.cmp(a).then_with(|| first.cmp(second)));
    fillings.truncate(TRIED);
    let plan = plan.clone();
    fillings.into_iter().map(move |(_, (before, runs))| {
        let mut longer = Plan::default();
        let (head, tail) = plan.slots().split_at(before);
        head.iter().for_each(|slots| longer.push(slots.region, slots.count));
        runs.iter().for_each(|&(region, count)| longer.push(region, count));
        tail.iter().for_each(|slots| longer.push(slots.region, slots.count));
        longer
    })
}

fn cost(runs: &[(Region, u32)], rows: &PrimaryMap<Region, u64>) -> u64 {
    runs.iter().map(|&(region, count)| rows[region] * u64::from(count)).sum()
}

/// For each filling the rows that idle for want of it, less its own.
fn waits(plan: &Plan, trace: &Trace, rows: &PrimaryMap<Region, u64>) -> BTreeMap<Filling, u64> {
    let groups = plan.slots();
    let mut before = vec![0];
    for slots in groups {
        before.push(before[before.len() - 1] + rows[slots.region] * u64::from(slots.count));
    }
    let step_rows = before[groups.len()];
    let mut waits = BTreeMap::new();
    // After which group something ran last, and in which step.
    let mut last: Option<(usize, u64)> = None;
    walk(plan, trace, rows.len(), |Piece { step, steps, group, run, begins, .. }| {
        if let Some((after, last_step)) = last.filter(|_| begins) {
            let idle = ((step - last_step) * step_rows + before[group]).saturating_sub(before[after]);
            if idle > 0 {
                let meets = groups.get(after).or(groups.first()).map(|slots| slots.region);
                let runs = filling(&trace.runs()[run..], meets);
                let saved = idle.saturating_sub(cost(&runs, rows));
                if saved > 0 && !runs.is_empty() {
                    *waits.entry((after, runs)).or_insert(0) += saved;
                }
            }
        }
        last = Some((group + 1, step + steps - 1));
        ControlFlow::Continue(())
    });
    waits
}

/// The runs up to where the execution meets the plan again, those of many slots shortened.
fn filling(runs: &[(Region, u64)], meets: Option<Region>) -> Vec<(Region, u32)> {
    let until = runs.iter().take(MAX_RUNS).take_while(|(region, _)| Some(*region) != meets);
    until.map(|&(region, count)| (region, count.min(MAX_SLOTS) as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(index: usize) -> Region {
        cranelift_entity::EntityRef::new(index)
    }

    fn trace(regions: &[usize]) -> Trace {
        let mut trace = Trace::default();
        regions.iter().for_each(|&index| trace.push(region(index)));
        trace
    }

    fn plan(regions: &[usize]) -> Plan {
        Plan::new(regions.iter().map(|&index| region(index)))
    }

    /// Calls that go one of two ways, in turn, with a plan that has the way in once.
    #[test]
    fn a_wait_is_filled_with_what_is_waited_for() {
        let rows: PrimaryMap<Region, u64> = [10, 100, 100].into_iter().collect();
        let trace = trace(&[0, 1, 0, 2, 0, 1, 0, 2]);
        let slow = plan(&[0, 1, 2]);
        assert_eq!(slow.steps(&trace, 9).unwrap(), 4);
        let steps: Vec<u64> = filled(&slow, &trace, &rows, 4).map(|plan| plan.steps(&trace, 9).unwrap()).collect();
        assert_eq!(steps, [2]);
        // Where nothing waits there is nothing to fill, but from each step to the next.
        let quick = plan(&[0, 1, 0, 2]);
        assert_eq!(quick.steps(&trace, 9).unwrap(), 2);
        assert_eq!(filled(&quick, &trace, &rows, 2).count(), 0);
    }

    #[test]
    fn a_plan_that_lacks_a_region_ends_the_search() {
        let rows: PrimaryMap<Region, u64> = [10, 100, 100].into_iter().collect();
        assert_eq!(filled(&plan(&[0, 1]), &trace(&[0, 1, 2]), &rows, 1).count(), 0);
    }
}
