//! What a plan makes of a trace, without going through the slots that idle.
//!
//! [`crate::schedule`] goes through every slot of every step. Where most slots idle that takes a hundred times as long as the execution
//! itself, and the planner weighs hundreds of plans. Here each run of a region looks up the next slots of that region.

use core::ops::ControlFlow;

use cranelift_entity::PrimaryMap;

use crate::execute::Trace;
use crate::plan::Plan;
use crate::region::Region;

/// Slots of one group that run, in one step or in the same way in several steps in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The first of the steps, from 0.
    pub(super) step: u64,
    /// How many steps.
    pub(super) steps: u64,
    /// The group, by its place in the plan.
    pub(super) group: usize,
    /// How many of its slots run.
    pub(super) slots: u64,
    /// The run of a region that they are part of, by its place in the trace.
    pub(super) run: usize,
    /// Whether they begin it.
    pub(super) begins: bool,
}

/// No group.
const NONE: usize = usize::MAX;

/// The groups of each region in order.
struct Groups {
    first: PrimaryMap<Region, usize>,
    next: Vec<usize>,
    /// The slots of each region in a step.
    slots: PrimaryMap<Region, u64>,
}

impl Groups {
    fn new(plan: &Plan, regions: usize) -> Self {
        let mut first: PrimaryMap<Region, usize> = core::iter::repeat_n(NONE, regions).collect();
        let mut slots: PrimaryMap<Region, u64> = core::iter::repeat_n(0, regions).collect();
        let mut next = vec![NONE; plan.slots().len()];
        for (index, group) in plan.slots().iter().enumerate().rev() {
            next[index] = core::mem::replace(&mut first[group.region], index);
            slots[group.region] += u64::from(group.count);
        }
        Self { first, next, slots }
    }
}

/// Visits the slots that run, in order, until `visit` breaks off. Gives the number of steps; `None` if it broke off, or if the plan lacks a region.
/// Regions are numbered below `regions`.
pub(super) fn walk(
    plan: &Plan,
    trace: &Trace,
    regions: usize,
    mut visit: impl FnMut(Piece) -> ControlFlow<()>,
) -> Option<u64> {
    let groups = Groups::new(plan, regions);
    // Where a region that runs next is looked for: the step, and its first group there that may still come.
    let mut ahead: PrimaryMap<Region, (u64, usize)> = groups.first.values().map(|&first| (0, first)).collect();
    let (mut step, mut from) = (0, 0);
    for (run, &(region, count)) in trace.runs().iter().enumerate() {
        let first = groups.first[region];
        if first == NONE {
            return None;
        }
        let mut left = count;
        while left > 0 {
            let (at_step, mut group) = ahead[region];
            if at_step != step {
                group = first;
            }
            while group != NONE && group < from {
                group = groups.next[group];
            }
            ahead[region] = (step, group);
            if group == NONE {
                (step, from) = (step + 1, 0);
                // Steps that run nothing but this region, but for the last, which may go on with another.
                let steps = (left - 1) / groups.slots[region];
                if steps > 0 {
                    let mut group = first;
                    while group != NONE {
                        let slots = u64::from(plan.slots()[group].count);
                        if visit(Piece { step, steps, group, slots, run, begins: left == count }).is_break() {
                            return None;
                        }
                        left -= steps * slots;
                        group = groups.next[group];
                    }
                    step += steps;
                }
                continue;
            }
            let slots = left.min(u64::from(plan.slots()[group].count));
            if visit(Piece { step, steps: 1, group, slots, run, begins: left == count }).is_break() {
                return None;
            }
            left -= slots;
            from = group + 1;
        }
    }
    Some(if trace.is_empty() { 0 } else { step + 1 })
}

/// How many steps of a plan a trace takes; `None` if those are more than `most`, or if the plan lacks a region.
pub(super) fn steps(plan: &Plan, trace: &Trace, regions: usize, most: u64) -> Option<u64> {
    let taken = walk(plan, trace, regions, |piece| match piece.step < most {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    });
    taken.filter(|&taken| taken <= most)
}

/// For each group of slots and each slot of it, in how many steps it runs; all zero from where the plan lacks a region.
pub(super) fn usage(plan: &Plan, trace: &Trace, regions: usize) -> Vec<Vec<u64>> {
    let mut usage: Vec<Vec<u64>> = plan.slots().iter().map(|slots| vec![0; slots.count as usize]).collect();
    walk(plan, trace, regions, |piece| {
        // The slots that run are the first ones of a group. The last place counts how often that many ran, for now.
        if let Some(last) = (piece.slots as usize).checked_sub(1) {
            usage[piece.group][last] += piece.steps;
        }
        ControlFlow::Continue(())
    });
    for slots in &mut usage {
        for at in (1..slots.len()).rev() {
            slots[at - 1] += slots[at];
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use cranelift_entity::EntityRef;

    use super::*;
    use crate::schedule::Cursor;

    fn region(index: usize) -> Region {
        Region::new(index)
    }

    /// A few thousand plans and traces, told apart by a counter that is scattered.
    #[test]
    fn pieces_are_what_steps_run() {
        let mut state = 1u64;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let mut taken = 0;
        for _ in 0..3000 {
            let regions = 1 + random(5) as usize;
            let mut plan = Plan::default();
            for _ in 0..1 + random(9) {
                plan.push(region(random(regions as u64) as usize), 1 + random(3) as u32);
            }
            let mut trace = Trace::default();
            for _ in 0..random(12) {
                let (region, count) = (region(random(regions as u64) as usize), 1 + random(9));
                (0..count).for_each(|_| trace.push(region));
            }
            let mut steps: Vec<Vec<(usize, u64)>> = Vec::new();
            let mut cursor = Cursor::new(&trace);
            while !cursor.is_done() {
                let before = cursor.ran;
                let groups = plan.slots().iter().enumerate();
                let ran = groups.map(|(index, group)| (index, cursor.run_group(group))).filter(|(_, ran)| *ran > 0);
                steps.push(ran.collect());
                if cursor.ran == before {
                    break;
                }
            }
            let expected = cursor.is_done().then_some(steps.len() as u64);
            let mut walked: Vec<Vec<(usize, u64)>> = Vec::new();
            let mut begun = Vec::new();
            let counted = walk(&plan, &trace, regions, |piece| {
                let until = (piece.step + piece.steps) as usize;
                walked.resize(walked.len().max(until), Vec::new());
                walked[piece.step as usize..until].iter_mut().for_each(|step| step.push((piece.group, piece.slots)));
                if piece.begins && begun.last() != Some(&piece.run) {
                    begun.push(piece.run);
                }
                ControlFlow::Continue(())
            });
            assert_eq!(counted, expected, "{plan:?} {trace:?}");
            if let Some(count) = expected {
                assert_eq!(walked, steps, "{plan:?} {trace:?}");
                assert!(begun.iter().copied().eq(0..trace.runs().len()));
                assert_eq!(super::steps(&plan, &trace, regions, count), Some(count));
                assert_eq!(super::steps(&plan, &trace, regions, count.saturating_sub(1)), (count == 0).then_some(0));
                taken += 1;
            }
        }
        assert!(taken > 500, "{taken}");
    }
}
