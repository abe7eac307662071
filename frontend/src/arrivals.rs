//! Who enters whom while functions are looked for: one record for each edge, and for each way that goes on after a call. And what
//! else is found out on the way.

use std::collections::BTreeSet;

use crate::expr::{Arena, Expr, Stack};
use crate::plan::NodeId;
use zvm_ir::Pc;

/// One block enters another.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    /// The stack then, over the entry stack of `from`.
    pub(crate) stack: Stack,
    pub(crate) way: Way,
    /// The instruction that does it.
    pub(crate) pc: Pc,
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a JUMP to a constant.
    Jump,
    /// By a JUMPI, either way.
    Branch,
    /// Because the block ends where another starts.
    Fall,
    /// By a return, or through a pointer.
    Return,
}

/// Who enters whom, in a round.
#[derive(Debug, Default)]
pub(crate) struct Ways {
    /// `None` for those that are forgotten.
    pub(crate) arrivals: Vec<Option<Arrival>>,
    /// By node, those that enter it and those that leave it; some may be forgotten.
    pub(crate) into: Vec<Vec<usize>>,
    from: Vec<Vec<usize>>,
    /// By node, whose info is from an arrival of it.
    pub(crate) children: Vec<Vec<NodeId>>,
}

impl Ways {
    pub(crate) fn new(nodes: usize) -> Self {
        let mut ways = Self::default();
        ways.grow(nodes);
        ways
    }

    /// Makes room for this many nodes.
    pub(crate) fn grow(&mut self, nodes: usize) {
        self.into.resize_with(nodes, Vec::new);
        self.from.resize_with(nodes, Vec::new);
        self.children.resize_with(nodes, Vec::new);
    }

    pub(crate) fn add(&mut self, arrival: Arrival) -> usize {
        let at = self.arrivals.len();
        self.into[arrival.to as usize].push(at);
        self.from[arrival.from as usize].push(at);
        self.arrivals.push(Some(arrival));
        at
    }

    /// Forgets the arrivals that leave `node`.
    pub(crate) fn forget(&mut self, node: NodeId) {
        for at in core::mem::take(&mut self.from[node as usize]) {
            self.arrivals[at] = None;
        }
    }

    /// Where control enters `node` from, with the item at `slot` then.
    pub(crate) fn items(&mut self, arena: &mut Arena, node: NodeId, slot: u32) -> Vec<(usize, NodeId, Expr)> {
        let Self { arrivals, into, .. } = self;
        into[node as usize].retain(|&at| arrivals[at].is_some());
        let of = |&at: &usize| arrivals[at].as_ref().map(|arrival| (at, arrival));
        let entering = into[node as usize].iter().filter_map(of);
        entering.map(|(at, Arrival { from, stack, .. })| (at, *from, stack.get(arena, slot))).collect()
    }
}

/// What a round finds out for the next one.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Slots whose class was asked for but is not followed; whether as an address or as a flag.
    pub(crate) missing: BTreeSet<(NodeId, u32, bool)>,
    /// Flags that differ.
    pub(crate) varying: BTreeSet<(NodeId, u32)>,
    /// Nodes at which functions start.
    pub(crate) functions: BTreeSet<NodeId>,
    /// Nodes at which functions start if slots that are asked for now still are when the others are found.
    pub(crate) later: BTreeSet<NodeId>,
    /// Nodes at which functions start if what is not known stays so.
    pub(crate) doubtful: BTreeSet<NodeId>,
    /// Jumps to a value that is not known, by node.
    pub(crate) unresolved: BTreeSet<(NodeId, Pc)>,
    /// Returns that are not among the exits of their function, by node.
    pub(crate) lost: BTreeSet<(NodeId, Pc)>,
}
