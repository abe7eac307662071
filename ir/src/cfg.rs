//! The control-flow graph of a function: predecessors, orders, dominators, loops. The only file that sees petgraph.

use core::hash::Hash;
use std::sync::OnceLock;

use cranelift_entity::{EntityRef, SecondaryMap};
use petgraph::algo::dominators::{self, Dominators};
use petgraph::algo::tarjan_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::graphmap::DiGraphMap;

use crate::entities::{Block, Func};
use crate::function::{Function, Imm, Module};
use crate::work::look;

/// A natural loop: the blocks that can reach a back edge to `header` without leaving through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loop {
    /// The block that every entry passes through.
    pub header: Block,
    /// All blocks of the loop in reverse post-order, the header first.
    pub blocks: Vec<Block>,
    /// The blocks that branch back to the header.
    pub latches: Vec<Block>,
    /// The index of the innermost loop around this one.
    pub parent: Option<usize>,
}

/// The control-flow graph of a function as it was when this was computed.
#[derive(Clone, Debug)]
pub struct Cfg {
    preds: SecondaryMap<Block, Vec<Block>>,
    succs: SecondaryMap<Block, Vec<Block>>,
    order: Vec<Block>,
    position: SecondaryMap<Block, Option<u32>>,
    idom: SecondaryMap<Block, Option<Block>>,
    children: SecondaryMap<Block, Vec<Block>>,
    /// Entry and exit times of a walk of the dominator tree: `a` dominates `b` iff `a`'s interval contains `b`'s.
    interval: SecondaryMap<Block, (u32, u32)>,
    /// Found when somebody asks: most do not, and lists of blocks of deep nests are long.
    cycles: OnceLock<Cycles>,
}

/// The loops of a graph, and its other cycles.
#[derive(Clone, Debug, Default)]
struct Cycles {
    loops: Vec<Loop>,
    innermost: SecondaryMap<Block, Option<usize>>,
    irreducible: Vec<Vec<Block>>,
}

impl Cfg {
    /// Computes everything for the blocks that can be reached from the entry, in time linear in the size of the function; loops
    /// when they are asked for, in time linear up to the depth of their nests.
    pub fn new(func: &Function) -> Self {
        let mut cfg = Self {
            preds: SecondaryMap::new(),
            succs: SecondaryMap::new(),
            order: Vec::new(),
            position: SecondaryMap::new(),
            idom: SecondaryMap::new(),
            children: SecondaryMap::new(),
            interval: SecondaryMap::new(),
            cycles: OnceLock::new(),
        };
        let Some(entry) = func.entry() else { return cfg };
        cfg.order = reverse_postorder(func, entry);
        for (at, &block) in cfg.order.iter().enumerate() {
            cfg.position[block] = Some(at as u32);
        }
        let mut graph = DiGraph::<Block, ()>::new();
        let nodes: Vec<NodeIndex> = cfg.order.iter().map(|&block| graph.add_node(block)).collect();
        for (at, &block) in cfg.order.iter().enumerate() {
            for target in func.targets(block) {
                cfg.succs[block].push(target.block);
                cfg.preds[target.block].push(block);
                if let Some(to) = cfg.position[target.block] {
                    graph.add_edge(nodes[at], nodes[to as usize], ());
                }
            }
        }
        let doms = dominators::simple_fast(&graph, nodes[0]);
        cfg.record_dominators(&graph, &nodes, &doms);
        cfg
    }

    fn record_dominators(&mut self, graph: &DiGraph<Block, ()>, nodes: &[NodeIndex], doms: &Dominators<NodeIndex>) {
        for (at, &block) in self.order.iter().enumerate() {
            if let Some(parent) = doms.immediate_dominator(nodes[at]) {
                let parent = graph[parent];
                self.idom[block] = Some(parent);
                self.children[parent].push(block);
            }
        }
        let mut time = 0;
        let mut stack = vec![(self.order[0], 0)];
        while let Some((block, next)) = stack.pop() {
            if next == 0 {
                self.interval[block].0 = time;
                time += 1;
            }
            if let Some(&child) = self.children[block].get(next) {
                stack.push((block, next + 1));
                stack.push((child, 0));
            } else {
                self.interval[block].1 = time;
                time += 1;
            }
        }
    }

    /// The blocks that branch to `block`, once per branch, in reverse post-order of the branching block.
    pub fn preds(&self, block: Block) -> &[Block] {
        look(1);
        &self.preds[block]
    }

    /// The targets of `block`'s terminator, once per branch.
    pub fn succs(&self, block: Block) -> &[Block] {
        look(1);
        &self.succs[block]
    }

    /// The reachable blocks in reverse post-order, the entry first.
    pub fn reverse_postorder(&self) -> &[Block] {
        &self.order
    }

    /// The place of `block` in reverse post-order; `None` if it cannot be reached.
    pub fn position(&self, block: Block) -> Option<usize> {
        look(1);
        self.position[block].map(|at| at as usize)
    }

    /// Whether `block` can be reached from the entry.
    pub fn is_reachable(&self, block: Block) -> bool {
        self.position[block].is_some()
    }

    /// The immediate dominator; `None` for the entry and for unreachable blocks.
    pub fn idom(&self, block: Block) -> Option<Block> {
        self.idom[block]
    }

    /// The blocks whose immediate dominator is `block`, in reverse post-order.
    pub fn dominated_children(&self, block: Block) -> &[Block] {
        &self.children[block]
    }

    /// Whether every path from the entry to `b` passes through `a`. A block dominates itself. False when one of them
    /// cannot be reached.
    pub fn dominates(&self, a: Block, b: Block) -> bool {
        look(1);
        self.is_reachable(a)
            && self.is_reachable(b)
            && self.interval[a].0 <= self.interval[b].0
            && self.interval[b].1 <= self.interval[a].1
    }

    fn cycles(&self) -> &Cycles {
        self.cycles.get_or_init(|| Cycles::find(self))
    }

    /// The natural loops, each after the loops around it.
    pub fn loops(&self) -> &[Loop] {
        &self.cycles().loops
    }

    /// The index of the innermost natural loop that contains `block`.
    pub fn innermost_loop(&self, block: Block) -> Option<usize> {
        self.cycles().innermost[block]
    }

    /// Cycles that can be entered at more than one block (no natural loops), each in reverse post-order.
    pub fn irreducible(&self) -> &[Vec<Block>] {
        &self.cycles().irreducible
    }
}

impl Cycles {
    fn find(cfg: &Cfg) -> Self {
        let mut found = Self::default();
        // Headers in reverse post-order: an outer loop is found before the loops in it.
        let mut latches_of: SecondaryMap<Block, Vec<Block>> = SecondaryMap::new();
        let mut is_irregular = false;
        for &block in &cfg.order {
            for &succ in &cfg.succs[block] {
                if cfg.dominates(succ, block) {
                    if latches_of[succ].last() != Some(&block) {
                        latches_of[succ].push(block);
                    }
                } else {
                    // A retreating edge whose target does not dominate its source closes a cycle with several entries.
                    is_irregular |= cfg.position[succ] <= cfg.position[block];
                }
            }
        }
        // The last loop in which a block was found, counted from one.
        let mut member: SecondaryMap<Block, usize> = SecondaryMap::new();
        for &header in cfg.order.iter().filter(|&&block| !latches_of[block].is_empty()) {
            let number = found.loops.len() + 1;
            member[header] = number;
            let mut places: Vec<u32> = cfg.position[header].into_iter().collect();
            let mut work = latches_of[header].clone();
            while let Some(block) = work.pop() {
                if member[block] != number {
                    member[block] = number;
                    places.extend(cfg.position[block]);
                    work.extend_from_slice(&cfg.preds[block]);
                }
            }
            look(places.len());
            places.sort_unstable();
            let blocks: Vec<Block> = places.into_iter().map(|at| cfg.order[at as usize]).collect();
            let parent = found.innermost[header];
            for &block in &blocks {
                found.innermost[block] = Some(found.loops.len());
            }
            found.loops.push(Loop { header, blocks, latches: latches_of[header].clone(), parent });
        }
        if is_irregular {
            found.irreducible = irreducible_cycles(cfg);
        }
        found
    }
}

fn reverse_postorder(func: &Function, entry: Block) -> Vec<Block> {
    let mut seen: SecondaryMap<Block, bool> = SecondaryMap::new();
    let mut order = Vec::new();
    let mut stack = vec![(entry, func.targets(entry).len())];
    seen[entry] = true;
    // Successors are walked last to first, so that the first target comes first in reverse post-order.
    while let Some((block, left)) = stack.pop() {
        if left == 0 {
            order.push(block);
            continue;
        }
        stack.push((block, left - 1));
        let next = func.targets(block)[left - 1].block;
        if !seen[next] {
            seen[next] = true;
            stack.push((next, func.targets(next).len()));
        }
    }
    order.reverse();
    order
}

/// Strongly connected parts that have several entries, found by peeling the headers of regular loops.
fn irreducible_cycles(cfg: &Cfg) -> Vec<Vec<Block>> {
    // Without back edges to dominators only irreducible cycles remain.
    let mut pruned = DiGraph::<Block, ()>::new();
    let nodes: Vec<NodeIndex> = cfg.order.iter().map(|&block| pruned.add_node(block)).collect();
    for (&block, &node) in cfg.order.iter().zip(&nodes) {
        for &succ in cfg.succs[block].iter().filter(|&&succ| !cfg.dominates(succ, block)) {
            if let Some(to) = cfg.position[succ] {
                pruned.add_edge(node, nodes[to as usize], ());
            }
        }
    }
    let mut cycles: Vec<Vec<Block>> = tarjan_scc(&pruned)
        .into_iter()
        .filter(|part| part.len() > 1)
        .map(|part| {
            let mut blocks: Vec<Block> = part.into_iter().map(|node| pruned[node]).collect();
            blocks.sort_by_key(|&block| cfg.position(block));
            blocks
        })
        .collect();
    cycles.sort_by_key(|blocks| blocks.first().and_then(|&block| cfg.position(block)));
    cycles
}

/// The strongly connected parts of a graph, each after those that it leads to.
pub fn components<N: Copy + Ord + Hash>(nodes: impl IntoIterator<Item = N>, edges: &[(N, N)]) -> Vec<Vec<N>> {
    let mut graph = DiGraphMap::<N, ()>::new();
    for node in nodes {
        graph.add_node(node);
    }
    for &(from, to) in edges {
        graph.add_edge(from, to, ());
    }
    tarjan_scc(&graph)
}

/// The call graph of a module.
#[derive(Clone, Debug)]
pub struct CallGraph {
    /// Strongly connected parts, callees before callers; each in order of the function number.
    components: Vec<Vec<Func>>,
    recursive: SecondaryMap<Func, bool>,
    callers: SecondaryMap<Func, u32>,
}

impl CallGraph {
    /// Computes the call graph from the `call` instructions of all functions.
    pub fn new(module: &Module) -> Self {
        let mut graph = DiGraph::<Func, ()>::new();
        let nodes: Vec<NodeIndex> = module.funcs.keys().map(|func| graph.add_node(func)).collect();
        let mut callers: SecondaryMap<Func, u32> = SecondaryMap::new();
        let mut recursive: SecondaryMap<Func, bool> = SecondaryMap::new();
        for (func, function) in &module.funcs {
            for (_, inst) in function.insts_in_order() {
                if let Imm::Func(callee) = function.insts[inst].imm
                    && let Some(&node) = nodes.get(callee.index())
                {
                    graph.add_edge(nodes[func.index()], node, ());
                    callers[callee] += 1;
                    recursive[func] |= callee == func;
                }
            }
        }
        let mut components = Vec::new();
        for part in tarjan_scc(&graph) {
            let mut funcs: Vec<Func> = part.into_iter().map(|node| graph[node]).collect();
            funcs.sort();
            if funcs.len() > 1 {
                for &func in &funcs {
                    recursive[func] = true;
                }
            }
            components.push(funcs);
        }
        Self { components, recursive, callers }
    }

    /// Strongly connected parts, callees before callers.
    pub fn components(&self) -> &[Vec<Func>] {
        &self.components
    }

    /// Whether the function can call itself, directly or through others.
    pub fn is_recursive(&self, func: Func) -> bool {
        self.recursive[func]
    }

    /// How many `call` instructions name the function.
    pub fn call_sites(&self, func: Func) -> u32 {
        self.callers[func]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::BlockCall;
    use crate::{Cursor, Opcode, Type, Word};

    /// A function with the given edges; a block with two successors branches on a constant.
    fn graph(edges: &[&[u32]]) -> Function {
        let mut func = Function::new("f");
        let blocks: Vec<Block> = edges.iter().map(|_| func.create_block()).collect();
        let call = |to: u32| BlockCall { block: blocks[to as usize], args: vec![] };
        for (&block, succs) in blocks.iter().zip(edges) {
            let mut cursor = Cursor::new(&mut func, block);
            match **succs {
                [] => drop(cursor.effect(Opcode::Stop, &[])),
                [to] => drop(cursor.jump(blocks[to as usize], &[])),
                [a, b] => {
                    let condition = cursor.iconst(Type::BOOL, Word::ZERO);
                    cursor.brif(condition, call(a), call(b));
                }
                _ => unreachable!("test graphs have at most two successors"),
            }
        }
        func
    }

    fn block(n: u32) -> Block {
        Block::from_u32(n)
    }

    #[test]
    fn diamond_dominators() {
        let cfg = Cfg::new(&graph(&[&[1, 2], &[3], &[3], &[], &[3]]));
        assert_eq!(cfg.idom(block(3)), Some(block(0)));
        assert!(cfg.dominates(block(0), block(3)) && !cfg.dominates(block(1), block(3)));
        assert!(!cfg.is_reachable(block(4)));
        assert_eq!(cfg.preds(block(3)).len(), 2);
        assert_eq!(cfg.reverse_postorder(), [block(0), block(1), block(2), block(3)]);
    }

    #[test]
    fn nested_loops() {
        // 0 → 1 → 2 ⇄ 3, 3 → 1, 1 → 4
        let cfg = Cfg::new(&graph(&[&[1], &[2, 4], &[3], &[2, 1], &[]]));
        let headers: Vec<Block> = cfg.loops().iter().map(|l| l.header).collect();
        assert_eq!(headers, [block(1), block(2)]);
        assert_eq!(cfg.loops()[1].parent, Some(0));
        assert_eq!(cfg.loops()[0].blocks, [block(1), block(2), block(3)]);
        assert_eq!(cfg.innermost_loop(block(3)), Some(1));
        assert_eq!(cfg.innermost_loop(block(4)), None);
        assert!(cfg.irreducible().is_empty());
    }

    #[test]
    fn irreducible_cycle_is_found() {
        let cfg = Cfg::new(&graph(&[&[1, 2], &[2], &[1, 3], &[]]));
        assert!(cfg.loops().is_empty());
        assert_eq!(cfg.irreducible(), [vec![block(2), block(1)]]);
    }
}
