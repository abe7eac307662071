//! The check of stack heights: where the EVM's stack would underflow or overflow, the block becomes a trap.
//!
//! Heights are intervals over all paths and all callers. A block for which the interval does not decide whether it traps
//! is refused here; the exact stage then copies it per height. The height of a recursion has no bound here: a program that
//! overflows the stack by recursion alone traps on the EVM. What each of its functions uses is written down ([`uses`]), so that an
//! execution of the IR that recurses as deep has no outcome.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zvm_ir::cfg::components;
use zvm_ir::{StackUse, TrapCode};

use crate::error::LiftError;
use crate::plan::{Next, NodeId, Plan, PlanNode};

/// The height of the EVM's stack, in words.
pub(crate) const STACK_LIMIT: i64 = zvm_ir::STACK_LIMIT as i64;
/// Stands for heights without bound.
const UNBOUNDED: i64 = 1 << 40;
/// How often a height may change before it is taken as unbounded.
const CHANGE_LIMIT: u32 = 40;

/// The lowest and the highest height.
type Interval = (i64, i64);

/// Marks the blocks that always trap; the others never do.
///
/// # Errors
/// [`LiftError::StackHeight`] for a block that traps on some paths only.
pub(crate) fn check(plan: &mut Plan) -> Result<(), LiftError> {
    let relative = relative(plan)?;
    let entries = entries(plan, &relative);
    plan.stack = uses(plan, &relative);
    let mut verdicts = Vec::new();
    for (node, data) in plan.nodes.iter().enumerate() {
        let height =
            relative[node].zip(entries.get(&data.owner)).map(|(own, entry)| (own.0 + entry.0, own.1 + entry.1));
        verdicts.push(height.map_or(Verdict::Never, |height| verdict(data, height)));
    }
    for (data, verdict) in plan.nodes.iter_mut().zip(&verdicts) {
        if let Verdict::Always(code, pc) = verdict {
            data.trap = Some((*code, *pc));
        }
    }
    let sometimes = |node: &NodeId| matches!(verdicts[*node as usize], Verdict::Sometimes);
    match plan.reachable().into_iter().find(sometimes) {
        Some(node) => Err(LiftError::StackHeight { pc: plan.nodes[node as usize].pc }),
        None => Ok(()),
    }
}

/// The height of each node above the entry of its function.
fn relative(plan: &Plan) -> Result<Vec<Option<Interval>>, LiftError> {
    let mut heights: Vec<Option<Interval>> = vec![None; plan.nodes.len()];
    let mut changes = vec![0u32; plan.nodes.len()];
    let mut queue: VecDeque<NodeId> = plan.functions.keys().copied().collect();
    for &entry in plan.functions.keys() {
        heights[entry as usize] = Some((0, 0));
    }
    while let Some(node) = queue.pop_front() {
        let Some((low, high)) = heights[node as usize] else { continue };
        for (to, delta, is_call) in arrivals(plan, node) {
            if is_call {
                continue;
            }
            let new = (low + delta, high + delta);
            let joined = heights[to as usize].map_or(new, |old| (old.0.min(new.0), old.1.max(new.1)));
            if heights[to as usize] != Some(joined) {
                changes[to as usize] += 1;
                if changes[to as usize] > CHANGE_LIMIT {
                    return Err(LiftError::StackHeight { pc: plan.nodes[to as usize].pc });
                }
                heights[to as usize] = Some(joined);
                queue.push_back(to);
            }
        }
    }
    Ok(heights)
}

/// The height at which each function is entered, over all its callers.
fn entries(plan: &Plan, relative: &[Option<Interval>]) -> BTreeMap<NodeId, Interval> {
    let mut calls: BTreeMap<NodeId, Vec<(NodeId, Interval)>> = BTreeMap::new();
    for (node, data) in plan.nodes.iter().enumerate() {
        let Some((low, high)) = relative[node] else { continue };
        for (to, delta, is_call) in arrivals(plan, node as NodeId) {
            if is_call {
                calls.entry(data.owner).or_default().push((to, (low + delta, high + delta)));
            }
        }
    }
    let mut entries = BTreeMap::from([(0, (0, 0))]);
    let mut changes: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut queue = VecDeque::from([0]);
    while let Some(caller) = queue.pop_front() {
        let (low, high) = entries[&caller];
        for &(callee, (from, to)) in calls.get(&caller).into_iter().flatten() {
            let new = ((low + from).max(0), (high + to).clamp(0, UNBOUNDED));
            let mut joined = entries.get(&callee).map_or(new, |old: &Interval| (old.0.min(new.0), old.1.max(new.1)));
            if entries.get(&callee) != Some(&joined) {
                let count = changes.entry(callee).or_default();
                *count += 1;
                if *count > CHANGE_LIMIT {
                    let falling = entries.get(&callee).is_some_and(|old| joined.0 < old.0);
                    joined = (if falling { 0 } else { joined.0 }, UNBOUNDED);
                }
                entries.insert(callee, joined);
                queue.push_back(callee);
            }
        }
    }
    entries
}

/// What the functions of recursions use of the stack, and the program's entry for all outside of them. Empty without recursion.
fn uses(plan: &Plan, relative: &[Option<Interval>]) -> BTreeMap<NodeId, StackUse> {
    let mut peaks: BTreeMap<NodeId, i64> = plan.functions.keys().map(|&entry| (entry, 0)).collect();
    // The highest place at which each function calls another.
    let mut calls: BTreeMap<(NodeId, NodeId), i64> = BTreeMap::new();
    for (node, data) in plan.nodes.iter().enumerate() {
        let Some((_, high)) = relative[node] else { continue };
        let arrivals = arrivals(plan, node as NodeId);
        let grown = data.effect.grows.last().map_or(0, |&(grow, _)| i64::from(grow));
        let highest = arrivals.iter().map(|&(_, delta, _)| delta).fold(grown, i64::max);
        let peak = peaks.entry(data.owner).or_default();
        *peak = (high + highest).max(*peak);
        for (callee, delta, _) in arrivals.into_iter().filter(|&(.., is_call)| is_call) {
            let height = calls.entry((data.owner, callee)).or_default();
            *height = (high + delta).max(*height);
        }
    }
    let mut below: BTreeMap<NodeId, i64> = BTreeMap::new();
    let mut recursive: BTreeSet<NodeId> = BTreeSet::new();
    // Callees come before callers.
    let edges: Vec<(NodeId, NodeId)> = calls.keys().copied().collect();
    for component in components(plan.functions.keys().copied(), &edges) {
        if component.len() > 1 || component.iter().any(|&func| calls.contains_key(&(func, func))) {
            recursive.extend(&component);
        }
        for func in component {
            let (mut own, mut peak) = (None, peaks.get(&func).copied().unwrap_or(0));
            for (&(_, callee), &height) in calls.range((func, 0)..=(func, NodeId::MAX)) {
                // A callee outside of recursions is part of the caller.
                let called = if recursive.contains(&callee) {
                    Some(0)
                } else {
                    peak = peak.max(height + peaks.get(&callee).copied().unwrap_or(0));
                    below.get(&callee).copied()
                };
                own = own.max(called.map(|called: i64| height + called));
            }
            below.extend(own.map(|own| (func, own.max(0))));
            peaks.insert(func, peak);
        }
    }
    if recursive.is_empty() {
        return BTreeMap::new();
    }
    let words = |words: Option<&i64>| words.and_then(|&words| u32::try_from(words).ok()).unwrap_or_default();
    let of = |func| (func, StackUse { below: words(below.get(&func)), peak: words(peaks.get(&func)) });
    recursive.into_iter().chain([0]).map(of).collect()
}

enum Verdict {
    Never,
    Always(TrapCode, u32),
    Sometimes,
}

fn verdict(node: &PlanNode, (low, high): Interval) -> Verdict {
    let effect = &node.effect;
    let lacks = |height: i64| effect.needs.iter().find(|(need, _)| i64::from(*need) > height);
    let exceeds = |height: i64| effect.grows.iter().find(|(grow, _)| height + i64::from(*grow) > STACK_LIMIT);
    // A recursion has no upper bound; executions that may overflow have no outcome.
    let bounded = high < UNBOUNDED / 2;
    if let Some(&(_, pc)) = lacks(high) {
        return Verdict::Always(TrapCode::StackUnderflow, pc);
    }
    if let Some(&(_, pc)) = exceeds(low) {
        return Verdict::Always(TrapCode::StackOverflow, pc);
    }
    if lacks(low).is_some() || (bounded && exceeds(high).is_some()) {
        return Verdict::Sometimes;
    }
    Verdict::Never
}

/// The nodes that a block leads to: with the height there relative to that at its own start, and whether the node is
/// the entry of a function that is called.
fn arrivals(plan: &Plan, node: NodeId) -> Vec<(NodeId, i64, bool)> {
    let data = &plan.nodes[node as usize];
    let mut arrivals = Vec::new();
    let mut pending: Vec<_> =
        data.effect.end.edges().iter().zip(&data.nexts).map(|(edge, next)| (next, edge.stack.delta())).collect();
    while let Some((next, delta)) = pending.pop() {
        match next {
            Next::Goto(node) => arrivals.push((*node, delta, false)),
            Next::Call { callee, then } => {
                arrivals.push((*callee, delta, true));
                let leaves = plan.functions.get(callee).map_or(&[][..], Vec::as_slice);
                pending.extend(then.iter().zip(leaves).map(|(next, leave)| (next, delta + leave.stack.delta())));
            }
            Next::Switch(cases, _) => pending.extend(cases.iter().map(|(_, next)| (next, delta))),
            Next::Ret(_) | Next::Trap(..) | Next::Never => {}
        }
    }
    arrivals
}
