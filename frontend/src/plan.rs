//! The plan of the IR: which blocks belong to which function, and what each way out of a block becomes. What the stages
//! that resolve jumps hand to the stage that writes SSA.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::{Pc, StackUse, TrapCode};

use crate::called::Called;
use crate::effects::{Effect, Facts};
use crate::summaries::Leave;

/// Index of a [`PlanNode`].
pub(crate) type NodeId = u32;

/// What an edge becomes.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// A branch to a block of the same function.
    Goto(NodeId),
    /// A call of the function that starts at this node; then, by the exit through which it returned, one of these.
    Call { callee: NodeId, then: Vec<Next> },
    /// One of several edges, by the target of the jump at this place; a bad jump if it is none of them.
    Switch(Vec<(Pc, Next)>, Pc),
    /// A return through this exit of the function.
    Ret(usize),
    /// An exceptional halt.
    Trap(TrapCode, Pc),
    /// Not taken by any execution.
    Never,
}

/// A block of the IR: a block of the bytecode, in one function, possibly one of several copies.
#[derive(Clone, Debug)]
pub(crate) struct PlanNode {
    /// Its first instruction.
    pub(crate) pc: Pc,
    /// What is known of the stack at its start.
    pub(crate) facts: Facts,
    /// The entry of the function that it belongs to.
    pub(crate) owner: NodeId,
    /// What it does to the stack.
    pub(crate) effect: Effect,
    /// What the edges of `effect.end` become, in order.
    pub(crate) nexts: Vec<Next>,
    /// Set when it always traps before its end.
    pub(crate) trap: Option<(TrapCode, Pc)>,
}

/// The plan of a program.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// The blocks.
    pub(crate) nodes: Vec<PlanNode>,
    /// The functions by their entry, the program's own (node 0) included, with the ways they return.
    pub(crate) functions: BTreeMap<NodeId, Vec<Leave>>,
    /// For each jump (and each JUMPI not taken) that can be executed, where it goes.
    pub(crate) edges: BTreeSet<(Pc, Pc)>,
    /// The calls that were seen.
    pub(crate) called: BTreeMap<Pc, Called>,
    /// What functions use of the stack, if there is recursion: those of a recursion, and the entry for all others.
    pub(crate) stack: BTreeMap<NodeId, StackUse>,
    /// How many edges were visited to find the functions.
    pub(crate) visits: usize,
}

impl Next {
    /// The same with other numbers for nodes. Nodes without a number are never entered.
    pub(crate) fn renumber(&self, number: &BTreeMap<NodeId, NodeId>) -> Self {
        match self {
            Self::Goto(node) => number.get(node).map_or(Self::Never, |&node| Self::Goto(node)),
            Self::Call { callee, then } => match number.get(callee) {
                Some(&callee) => Self::Call { callee, then: then.iter().map(|next| next.renumber(number)).collect() },
                None => Self::Never,
            },
            Self::Switch(cases, bad) => {
                Self::Switch(cases.iter().map(|(pc, next)| (*pc, next.renumber(number))).collect(), *bad)
            }
            Self::Ret(exit) => Self::Ret(*exit),
            Self::Trap(code, pc) => Self::Trap(*code, *pc),
            Self::Never => Self::Never,
        }
    }

    /// The nodes of the same function that the edge leads to, and the functions it calls.
    pub(crate) fn visit(&self, goto: &mut dyn FnMut(NodeId), call: &mut dyn FnMut(NodeId)) {
        match self {
            Self::Goto(node) => goto(*node),
            Self::Call { callee, then } => {
                call(*callee);
                for next in then {
                    next.visit(goto, call);
                }
            }
            Self::Switch(cases, _) => {
                for (_, next) in cases {
                    next.visit(goto, call);
                }
            }
            Self::Ret(_) | Self::Trap(..) | Self::Never => {}
        }
    }
}

impl Plan {
    /// The nodes that can be reached from the program's start, in order.
    pub(crate) fn reachable(&self) -> BTreeSet<NodeId> {
        let mut seen = BTreeSet::from([0]);
        let mut pending = vec![0];
        while let Some(node) = pending.pop() {
            let data = &self.nodes[node as usize];
            if data.trap.is_some() {
                continue;
            }
            for next in &data.nexts {
                let (mut gotos, mut calls) = (Vec::new(), Vec::new());
                next.visit(&mut |node| gotos.push(node), &mut |node| calls.push(node));
                for node in gotos.into_iter().chain(calls) {
                    if seen.insert(node) {
                        pending.push(node);
                    }
                }
            }
        }
        seen
    }
}
