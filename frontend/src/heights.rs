//! The check of stack heights: where the EVM's stack would underflow or overflow, the block becomes a trap.
//!
//! Heights are intervals over all paths and all callers. A block for which the interval does not decide whether it traps
//! is refused here; the exact stage then copies it per height. The height of a recursion is not bounded: a program that
//! overflows the stack by recursion alone traps on the EVM, and in the IR recurses until the limit of active functions.

use std::collections::{BTreeMap, VecDeque};

use zvm_ir::TrapCode;

use crate::error::LiftError;
use crate::plan::{Next, NodeId, Plan, PlanNode};

/// The height of the EVM's stack, in words.
pub(crate) const STACK_LIMIT: i64 = 1024;
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

enum Verdict {
    Never,
    Always(TrapCode, u32),
    Sometimes,
}

fn verdict(node: &PlanNode, (low, high): Interval) -> Verdict {
    let effect = &node.effect;
    let lacks = |height: i64| effect.needs.iter().find(|(need, _)| i64::from(*need) > height);
    let exceeds = |height: i64| effect.grows.iter().find(|(grow, _)| height + i64::from(*grow) > STACK_LIMIT);
    // A recursion has no upper bound; that it may overflow is not checked.
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
