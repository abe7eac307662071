//! Stage 5, liveness: which items of its entry stack each block needs, and which results each function must return.
//!
//! Backward over all functions at once: the least fixed point of "an item is live if an instruction reads it, or if it
//! is passed on to where it is live". Return addresses are not read by anything once jumps are resolved, so they vanish.

use core::convert::Infallible;
use std::collections::{BTreeMap, BTreeSet};

use crate::decode::{CodeBlock, Inst};
use crate::effects::End;
use crate::expr::{Arena, Node};
use crate::items::{Item, Items, Sink, walk};
use crate::plan::{Next, NodeId, Plan};
use crate::summaries::Leave;

/// Slots of a stack, 0 being the top.
pub(crate) type Slots = BTreeSet<u32>;

/// The result of the analysis.
#[derive(Debug, Default)]
pub(crate) struct Liveness {
    /// By node, the slots of its entry stack that it needs.
    pub(crate) live: Vec<Slots>,
    /// By function and exit, the depths of the returned stack whose values some caller needs and cannot know itself.
    pub(crate) results: BTreeMap<(NodeId, usize), Slots>,
}

/// Where an item of the stack after a call comes from.
pub(crate) enum Origin {
    /// From this slot of the stack before the call.
    Caller(u32),
    /// It is this constant.
    Const(zvm_ir::Word),
    /// From the function: the item at this depth when it returns.
    Result(u32),
}

/// Where the item at `depth` comes from after a function was left through `leave`.
pub(crate) fn origin(arena: &Arena, leave: &Leave, depth: u32) -> Origin {
    let Some(item) = leave.stack.top_down().nth(depth as usize) else {
        return Origin::Caller(leave.stack.base + (depth - leave.stack.len()));
    };
    match arena.node(item) {
        Node::Entry(slot) => Origin::Caller(slot),
        Node::Const(word) => Origin::Const(word),
        Node::Top | Node::Param(..) | Node::Local(..) | Node::Set(_) | Node::Op(..) => Origin::Result(depth),
    }
}

struct Uses(Slots);

impl Sink for Uses {
    type Value = ();
    type Error = Infallible;
    fn op(&mut self, _: Inst, _: u8, args: &[Item<()>]) -> Result<Option<()>, Infallible> {
        self.0.extend(args.iter().filter_map(entry));
        Ok(Some(()))
    }
}

fn entry(item: &Item<()>) -> Option<u32> {
    match item {
        Item::Entry(slot) => Some(*slot),
        Item::Const(..) | Item::Value(()) | Item::Dead => None,
    }
}

/// Computes what is live. `block` gives the block of a node.
pub(crate) fn analyse<'b>(plan: &Plan, arena: &Arena, block: impl Fn(NodeId) -> Option<&'b CodeBlock>) -> Liveness {
    let reachable = plan.reachable();
    let mut flows: BTreeMap<NodeId, (Slots, Items<()>)> = BTreeMap::new();
    for &node in &reachable {
        let data = &plan.nodes[node as usize];
        let Some(block) = block(node).filter(|_| data.trap.is_none()) else { continue };
        let mut uses = Uses(Slots::new());
        let Ok(walked) = walk(block, &data.facts, &mut uses);
        if matches!(data.effect.end, End::Branch(_)) {
            uses.0.extend(walked.condition.as_ref().and_then(entry));
        }
        if data.nexts.iter().any(|next| matches!(next, Next::Switch(..))) {
            uses.0.extend(walked.target.as_ref().and_then(entry));
        }
        flows.insert(node, (uses.0, walked.stack));
    }
    let mut state = Liveness { live: vec![Slots::new(); plan.nodes.len()], results: BTreeMap::new() };
    let mut changed = true;
    while changed {
        changed = false;
        for (&node, (uses, stack)) in flows.iter().rev() {
            let mut live = uses.clone();
            for next in &plan.nodes[node as usize].nexts {
                for depth in state.needs(plan, arena, node, next, &mut changed) {
                    live.extend(entry(&stack.get(depth)));
                }
            }
            if live != state.live[node as usize] {
                state.live[node as usize] = live;
                changed = true;
            }
        }
    }
    state
}

impl Liveness {
    /// The depths of the stack on an edge that are live there.
    fn needs(&mut self, plan: &Plan, arena: &Arena, node: NodeId, next: &Next, changed: &mut bool) -> Slots {
        match next {
            Next::Goto(to) => self.live[*to as usize].clone(),
            Next::Ret(exit) => {
                let owner = plan.nodes[node as usize].owner;
                self.results.get(&(owner, *exit)).cloned().unwrap_or_default()
            }
            Next::Call { callee, then } => {
                let mut needs = self.live[*callee as usize].clone();
                let leaves = plan.functions.get(callee).map_or(&[][..], Vec::as_slice);
                for (exit, (next, leave)) in then.iter().zip(leaves).enumerate() {
                    for depth in self.needs(plan, arena, node, next, changed) {
                        match origin(arena, leave, depth) {
                            Origin::Caller(slot) => {
                                needs.insert(slot);
                            }
                            Origin::Const(_) => {}
                            Origin::Result(depth) => {
                                *changed |= self.results.entry((*callee, exit)).or_default().insert(depth);
                            }
                        }
                    }
                }
                needs
            }
            Next::Switch(cases, _) => {
                let mut needs = Slots::new();
                for (_, next) in cases {
                    needs.extend(self.needs(plan, arena, node, next, changed));
                }
                needs
            }
            Next::Trap(..) | Next::Never => Slots::new(),
        }
    }
}
