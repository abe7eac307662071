//! Plans made of the calls of an execution.
//!
//! A step that holds whole calls runs each of them without waiting. [`Calls::whole`] takes a few calls as they come; [`Calls::merged`] takes many, and
//! puts each into the plan so far where that needs the fewest further rows: what it has in common with calls before it is there
//! already. So a plan becomes a common supersequence of its calls, as in an alignment of sequences (Needleman and Wunsch, 1970).

use std::collections::BTreeSet;

use cranelift_entity::PrimaryMap;

use crate::execute::Trace;
use crate::plan::{Plan, Slots};
use crate::program::Program;
use crate::region::Region;

/// How many whole calls are tried as a plan.
const WHOLE: [usize; 9] = [1, 2, 4, 8, 16, 24, 32, 48, 64];
/// How many calls are merged at once, how many are left out for each that is taken, and how many times the rows of one slot of each region
/// (in quarters) a plan may have.
const AT_ONCE: [usize; 3] = [1, 2, 3];
const STRIDES: [usize; 2] = [1, 3];
const SIZES: [u64; 9] = [5, 6, 8, 12, 16, 24, 32, 48, 64];
/// The most slots of one region that a call puts in one place.
const MOST_SLOTS: u64 = 16;
/// The most pairs of a group of the plan and a run of a call that are compared for one call, and for one plan.
const MOST_PAIRS: usize = 1 << 22;
const MOST_PAIRS_OF_PLAN: usize = 1 << 25;

/// An execution and the places where its calls begin.
pub(super) struct Calls<'a> {
    runs: &'a [(Region, u64)],
    rows: &'a PrimaryMap<Region, u64>,
    entries: Vec<usize>,
    regions: BTreeSet<Region>,
    /// The most rows of a plan.
    most: u64,
}

impl<'a> Calls<'a> {
    pub(super) fn new(program: &'a Program, trace: &'a Trace, most: u64) -> Self {
        let runs = trace.runs();
        let entries = runs.iter().enumerate().filter(|(_, (region, _))| program.is_entry(*region));
        Self {
            runs,
            rows: program.rows(),
            entries: entries.map(|(at, _)| at).collect(),
            regions: runs.iter().map(|(region, _)| *region).collect(),
            most,
        }
    }

    /// The runs of `count` calls from call number `first` on, or as many as there are.
    fn runs(&self, first: usize, count: usize) -> &'a [(Region, u64)] {
        let start = self.entries.get(first).copied().unwrap_or(self.runs.len());
        &self.runs[start..self.entries.get(first + count).copied().unwrap_or(self.runs.len())]
    }

    /// The plan with the regions that it lacks once behind it.
    fn completed(&self, mut plan: Plan) -> Plan {
        let present = plan.regions();
        self.regions.difference(&present).for_each(|&region| plan.push(region, 1));
        plan
    }

    /// The rows of the regions that a plan lacks.
    fn lacking(&self, plan: &Plan) -> u64 {
        self.regions.difference(&plan.regions()).map(|&region| self.rows[region]).sum()
    }

    /// A few calls in a row, with the other regions once behind them.
    pub(super) fn whole(&self) -> Vec<Plan> {
        let mut plans = Vec::new();
        for count in WHOLE {
            for third in 0..3 {
                let first = self.entries.len() * third / 3;
                if first + count > self.entries.len() {
                    continue;
                }
                let mut plan = Plan::default();
                let mut size = 0u64;
                for &(region, count) in self.runs(first, count) {
                    size = size.saturating_add(self.rows[region].saturating_mul(count));
                    if size > self.most {
                        break;
                    }
                    plan.push(region, u32::try_from(count).unwrap_or(u32::MAX));
                }
                if size <= self.most {
                    plans.push(self.completed(plan));
                }
            }
        }
        plans
    }

    /// Plans of many calls, each merged into those before it. None where there are not at least two.
    pub(super) fn merged(&self) -> impl Iterator<Item = Plan> {
        let once = self.lacking(&Plan::default());
        let mut sizes: Vec<u64> = SIZES.iter().map(|size| once.saturating_mul(*size) / 4).collect();
        sizes.push(self.most);
        sizes.retain(|&size| size <= self.most && self.entries.len() >= 2);
        sizes.dedup();
        AT_ONCE.into_iter().flat_map(move |at_once| {
            let each = sizes.clone().into_iter().flat_map(|size| STRIDES.map(|stride| (stride, size)));
            each.map(move |(stride, size)| self.merge(at_once, stride, size))
        })
    }

    /// A plan of at most `size` rows, which leaves out calls that would make it larger.
    fn merge(&self, at_once: usize, stride: usize, size: u64) -> Plan {
        let mut plan = Plan::default();
        let mut pairs = 0;
        for first in (0..self.entries.len()).step_by(stride) {
            let call: Vec<Slots> = self
                .runs(first, at_once)
                .iter()
                .map(|&(region, count)| Slots { region, count: count.min(MOST_SLOTS) as u32 })
                .collect();
            let compared = (plan.slots().len() + 1).saturating_mul(call.len() + 1);
            pairs += compared;
            if compared > MOST_PAIRS || pairs > MOST_PAIRS_OF_PLAN {
                break;
            }
            let longer = aligned(plan.slots(), &call, self.rows);
            if longer.rows(self.rows) + self.lacking(&longer) <= size {
                plan = longer;
            }
        }
        self.completed(plan)
    }
}

/// The plan with the fewest rows in which both `plan` and `call` can run in one step, in order.
fn aligned(plan: &[Slots], call: &[Slots], rows: &PrimaryMap<Region, u64>) -> Plan {
    let size = |region: Region, slots: u32| rows[region].saturating_mul(u64::from(slots));
    let width = call.len() + 1;
    // Further rows for what is left of `call` in what is left of `plan`.
    let mut further = vec![0u64; (plan.len() + 1) * width];
    let inserted = |further: &[u64], at: usize, slots: &Slots| further[at + 1] + size(slots.region, slots.count);
    let shared = |further: &[u64], at: usize, have: &Slots, want: &Slots| {
        let missing = size(want.region, want.count.saturating_sub(have.count));
        (have.region == want.region).then(|| further[at + width + 1] + missing)
    };
    for i in (0..=plan.len()).rev() {
        for j in (0..call.len()).rev() {
            let at = i * width + j;
            let mut least = inserted(&further, at, &call[j]);
            if let Some(have) = plan.get(i) {
                least = least.min(further[at + width]);
                least = shared(&further, at, have, &call[j]).map_or(least, |shared| least.min(shared));
            }
            further[at] = least;
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut merged = Plan::default();
    while i < plan.len() || j < call.len() {
        let at = i * width + j;
        match (plan.get(i), call.get(j)) {
            (Some(have), Some(want)) if shared(&further, at, have, want) == Some(further[at]) => {
                merged.push(have.region, have.count.max(want.count));
                (i, j) = (i + 1, j + 1);
            }
            (_, Some(want)) if inserted(&further, at, want) == further[at] => {
                merged.push(want.region, want.count);
                j += 1;
            }
            (Some(have), _) => {
                merged.push(have.region, have.count);
                i += 1;
            }
            (None, _) => break,
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use cranelift_entity::EntityRef;

    fn slots(regions: &[(usize, u32)]) -> Vec<Slots> {
        regions.iter().map(|&(region, count)| Slots { region: Region::new(region), count }).collect()
    }

    #[test]
    fn calls_share_what_they_have_in_common() {
        let rows: PrimaryMap<Region, u64> = [10, 100, 100, 1].into_iter().collect();
        let merged = |plan: &[(usize, u32)], call: &[(usize, u32)]| aligned(&slots(plan), &slots(call), &rows);
        assert_eq!(merged(&[], &[(0, 1), (1, 2)]).slots(), slots(&[(0, 1), (1, 2)]));
        assert_eq!(merged(&[(0, 1), (1, 1), (3, 1)], &[(0, 1), (2, 1), (3, 1)]).rows(&rows), 211);
        assert_eq!(merged(&[(0, 1), (1, 1), (3, 1)], &[(1, 3)]).slots(), slots(&[(0, 1), (1, 3), (3, 1)]));
        // What is dear is shared, and what is cheap is there twice.
        assert_eq!(merged(&[(3, 1), (1, 1)], &[(1, 1), (3, 1)]).slots(), slots(&[(3, 1), (1, 1), (3, 1)]));
    }
}
