//! Stage 5, liveness: which items of its entry stack each block needs, and which results each function must return.
//!
//! Backward over all functions at once: the least fixed point of "an item is live if an instruction reads it, or if it
//! is passed on to where it is live". Return addresses are not read by anything once jumps are resolved, so they vanish.

use core::convert::Infallible;
use std::collections::{BTreeMap, BTreeSet};

use crate::decode::{CodeBlock, Inst};
use crate::effects::End;
use crate::error::LiftError;
use crate::expr::{Arena, Node};
use crate::items::{Item, Items, Sink, walk};
use crate::plan::{Next, NodeId, Plan};
use crate::summaries::Leave;

/// More live items than this, over all blocks, are given up: each becomes a parameter of a block.
const LIVE_LIMIT: usize = 2_000_000;

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

/// Something that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// A slot of the entry stack of a node.
    Slot(NodeId, u32),
    /// What a function returns at a depth of the stack, through an exit.
    Result(NodeId, usize, u32),
}

/// Whom a need concerns: those who provide the stack of a node, or of an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Node(NodeId),
    Exit(NodeId, usize),
}

/// A node that provides a stack, by way of these returns of calls on its edge, the first call first.
type Provider = (NodeId, Vec<(NodeId, usize)>);

/// Computes what is live. `block` gives the block of a node.
pub(crate) fn analyse<'b>(
    plan: &Plan,
    arena: &Arena,
    block: impl Fn(NodeId) -> Option<&'b CodeBlock>,
) -> Result<Liveness, LiftError> {
    let mut stacks: BTreeMap<NodeId, Items<()>> = BTreeMap::new();
    let mut providers: BTreeMap<Place, Vec<Provider>> = BTreeMap::new();
    let mut pending: Vec<Need> = Vec::new();
    for node in plan.reachable() {
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
        pending.extend(uses.0.into_iter().map(|slot| Need::Slot(node, slot)));
        stacks.insert(node, walked.stack);
        for next in &data.nexts {
            provide(next, (node, Vec::new()), data.owner, &mut providers);
        }
    }
    let mut state = Liveness { live: vec![Slots::new(); plan.nodes.len()], results: BTreeMap::new() };
    let mut count = 0;
    while let Some(need) = pending.pop() {
        let (new, place, depth) = match need {
            Need::Slot(node, slot) => (state.live[node as usize].insert(slot), Place::Node(node), slot),
            Need::Result(function, exit, depth) => {
                let results = state.results.entry((function, exit)).or_default();
                (results.insert(depth), Place::Exit(function, exit), depth)
            }
        };
        if !new {
            continue;
        }
        count += 1;
        if count > LIVE_LIMIT {
            let (Need::Slot(node, _) | Need::Result(node, ..)) = need;
            let pc = plan.nodes[node as usize].pc;
            return Err(LiftError::Budget { what: "items on stacks that blocks pass on", limit: LIVE_LIMIT, pc });
        }
        for (node, returns) in providers.get(&place).into_iter().flatten() {
            if let Some(need) = before(plan, arena, *node, &stacks[node], returns, depth) {
                pending.push(need);
            }
        }
    }
    Ok(state)
}

/// Lists whose stacks `next` passes on.
fn provide(next: &Next, by: Provider, owner: NodeId, providers: &mut BTreeMap<Place, Vec<Provider>>) {
    match next {
        Next::Goto(to) => providers.entry(Place::Node(*to)).or_default().push(by),
        Next::Ret(exit) => providers.entry(Place::Exit(owner, *exit)).or_default().push(by),
        Next::Switch(cases, _) => {
            for (_, next) in cases {
                provide(next, by.clone(), owner, providers);
            }
        }
        Next::Call { callee, then } => {
            for (exit, next) in then.iter().enumerate() {
                let mut by = by.clone();
                by.1.push((*callee, exit));
                provide(next, by, owner, providers);
            }
            providers.entry(Place::Node(*callee)).or_default().push(by);
        }
        Next::Trap(..) | Next::Never => {}
    }
}

/// What must be there before, for the item at `depth` of the stack after `node` and these returns.
fn before(
    plan: &Plan,
    arena: &Arena,
    node: NodeId,
    stack: &Items<()>,
    returns: &[(NodeId, usize)],
    depth: u32,
) -> Option<Need> {
    let mut depth = depth;
    for &(function, exit) in returns.iter().rev() {
        match origin(arena, plan.functions.get(&function)?.get(exit)?, depth) {
            Origin::Caller(slot) => depth = slot,
            Origin::Const(_) => return None,
            Origin::Result(depth) => return Some(Need::Result(function, exit, depth)),
        }
    }
    entry(&stack.get(depth)).map(|slot| Need::Slot(node, slot))
}
