//! Stage 4, functions: summaries → which blocks form which function, and what every edge is.
//!
//! The return addresses that a block may leave through are followed from where they were pushed, like the values of SSA:
//! as long as every way into a block brings the same addresses, the block belongs to the function those belong to, and its
//! jumps to them are plain branches. Where ways in bring *different* addresses (the place of a phi in SSA), a function
//! starts: each way in becomes a call, and the addresses become its exits. A function that is called from one place only
//! has one address to return to, and so becomes part of its caller.
//!
//! The functions are found by iteration. A round propagates *classes* (what is on the stack: a constant, or an item that
//! the function was entered with) from the start of the program with the functions and the followed slots known so far.
//! Every block at which the classes of addresses differ becomes a function; a slot whose class was asked for but not
//! followed is followed from then on; repeat until a round finds nothing new. Then its edges are the plan.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use zvm_ir::{Pc, TrapCode, Word};

use crate::called;
use crate::decode::{Code, Kind};
use crate::effects::{Edge, Effect, End, Fact, Facts, Target, decided, interpret};
use crate::error::LiftError;
use crate::expr::{Arena, Expr, MEMORY, Node as Leaf, Stack, TOP};
use crate::plan::{Next, NodeId, Plan, PlanNode};
use crate::summaries::{Leave, Resolved, Summaries, compose_guards, resolve};

/// The start of the program, as a node.
const ROOT: NodeId = 0;
/// More blocks than this, copies included, are given up.
const NODE_LIMIT: usize = 100_000;
/// More rounds of finding functions than this are given up. Each finds at least one function or slot.
const ROUND_LIMIT: usize = 2_000;
/// A halting block of at most this many instructions is copied into each function that goes to it.
const COPIED_HALT: usize = 40;
/// Items of the stack deeper than this are not followed: the EVM's stack has 1024.
const SLOT_LIMIT: u32 = 1024;
/// How many slots are added to one block in one round.
const DEMAND_LIMIT: usize = 32;
/// More edges than this, over all rounds, are given up.
const WORK_LIMIT: usize = 5_000_000;
/// More edges than this are not visited before the functions that can be seen at once are taken for granted.
const UNAIDED_LIMIT: usize = 1_000_000;
/// Calls that follow one edge.
const CHAIN_LIMIT: usize = 64;

/// Which copy of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Copy {
    /// The program's start, which nobody jumps to.
    Root,
    /// The only one.
    Shared,
    /// A halting block, copied into the function that starts at this node.
    Of(NodeId),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    pc: Pc,
    facts: Facts,
    copy: Copy,
}

/// What is kept from round to round.
#[derive(Debug)]
struct Node {
    key: Key,
    effect: Effect,
    /// The exits that the facts leave possible.
    leaves: Vec<Leave>,
    /// The slots of the entry stack that hold addresses which the block, or what runs after it, jumps to.
    labels: BTreeSet<u32>,
    /// The slots that decide which way a block after this one goes.
    flags: BTreeSet<u32>,
    /// Those of the flags that differ between ways in.
    varying: BTreeSet<u32>,
}

type Classes = BTreeMap<u32, Expr>;

/// What a round finds out about a node.
#[derive(Clone, Debug)]
struct Info {
    owner: NodeId,
    height: i64,
    classes: Classes,
    nexts: Vec<Next>,
}

/// Finds the functions of a program whose summaries are given.
pub(crate) fn plan(code: &Code, arena: &mut Arena, table: &Summaries) -> Result<Plan, LiftError> {
    match plan_from(code, arena, table, BTreeSet::new(), UNAIDED_LIMIT) {
        // Programs with a thousand functions need too many rounds to find them one after the other.
        Err(LiftError::Budget { .. }) => {
            let obvious = obvious(code, arena, table);
            plan_from(code, arena, table, obvious, WORK_LIMIT)
        }
        result => result,
    }
}

/// The blocks that are entered with different addresses which the blocks before push: functions, whatever else is found.
fn obvious(code: &Code, arena: &mut Arena, table: &Summaries) -> BTreeSet<Pc> {
    let mut given: BTreeMap<Pc, BTreeSet<Expr>> = BTreeMap::new();
    for &pc in table.blocks.keys() {
        let Some(End::Goto(edge)) = table.effect(pc).map(|effect| &effect.end) else { continue };
        let Resolved::Block(to) = resolve(code, arena, edge.target) else { continue };
        for leave in table.leaves(to, &Facts::new()) {
            if let Leaf::Entry(slot) = arena.node(leave.target) {
                let item = edge.stack.get(arena, slot);
                if arena.as_const(item).is_some() {
                    given.entry(to).or_default().insert(item);
                }
            }
        }
    }
    given.into_iter().filter(|(_, addresses)| addresses.len() > 1).map(|(pc, _)| pc).collect()
}

fn plan_from(
    code: &Code,
    arena: &mut Arena,
    table: &Summaries,
    obvious: BTreeSet<Pc>,
    limit: usize,
) -> Result<Plan, LiftError> {
    let mut binder = Binder {
        code,
        arena,
        table,
        obvious,
        nodes: Vec::new(),
        index: HashMap::new(),
        functions: BTreeSet::from([ROOT]),
        infos: Vec::new(),
        bindings: BTreeMap::new(),
        queue: VecDeque::new(),
        found: Found::default(),
        work: 0,
        limit,
    };
    binder.node(Key { pc: 0, facts: Facts::new(), copy: Copy::Root })?;
    for _ in 0..ROUND_LIMIT {
        binder.round()?;
        if !binder.learn() {
            return binder.finish();
        }
    }
    Err(LiftError::Budget { what: "rounds of finding functions", limit: ROUND_LIMIT, pc: 0 })
}

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

/// What a round finds out for the next one.
#[derive(Debug, Default)]
struct Found {
    /// Slots whose class was asked for but is not followed; whether as an address or as a flag.
    missing: BTreeSet<(NodeId, u32, bool)>,
    /// Who enters whom.
    arrivals: Vec<Arrival>,
    /// Flags that differ.
    varying: BTreeSet<(NodeId, u32)>,
    /// Nodes at which functions start.
    functions: BTreeSet<NodeId>,
    /// Nodes at which functions start if what is not known stays so.
    doubtful: BTreeSet<NodeId>,
    /// Jumps to a value that is not known, by node.
    unresolved: BTreeSet<(NodeId, Pc)>,
    /// Returns that are not among the exits of their function, by node.
    lost: BTreeSet<(NodeId, Pc)>,
}

struct Binder<'a> {
    code: &'a Code,
    arena: &'a mut Arena,
    table: &'a Summaries,
    /// Where functions start for certain.
    obvious: BTreeSet<Pc>,
    nodes: Vec<Node>,
    index: HashMap<Key, NodeId>,
    functions: BTreeSet<NodeId>,
    infos: Vec<Option<Info>>,
    /// What callers pass for each address that a function leaves through.
    bindings: BTreeMap<(NodeId, u32), BTreeSet<Expr>>,
    queue: VecDeque<NodeId>,
    found: Found,
    /// How many edges were visited so far, and how many may be.
    work: usize,
    limit: usize,
}

/// Where an edge starts.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: NodeId,
    owner: NodeId,
    height: i64,
    classes: &'a Classes,
    facts: &'a Facts,
    pc: Pc,
}

impl Binder<'_> {
    fn node(&mut self, key: Key) -> Result<NodeId, LiftError> {
        if let Some(&node) = self.index.get(&key) {
            return Ok(node);
        }
        let node = self.nodes.len() as NodeId;
        if self.nodes.len() >= NODE_LIMIT {
            return Err(LiftError::Budget { what: "blocks", limit: NODE_LIMIT, pc: key.pc });
        }
        let Some((block, effect)) = self.table.blocks.get(&key.pc).zip(self.table.effect(key.pc)) else {
            return Err(LiftError::Internal { pc: key.pc, what: "a block has no summary" });
        };
        let effect =
            if key.facts.is_empty() { effect.clone() } else { interpret(self.code, block, &key.facts, self.arena) };
        let leaves = self.possible(key.pc, &key.facts);
        let labels = self.own_labels(&leaves);
        let (flags, varying) = (BTreeSet::new(), BTreeSet::new());
        if key.copy == Copy::Shared && key.facts.is_empty() && self.obvious.contains(&key.pc) {
            self.functions.insert(node);
        }
        self.nodes.push(Node { key: key.clone(), effect, leaves, labels, flags, varying });
        self.infos.push(None);
        self.index.insert(key, node);
        Ok(node)
    }

    /// The exits of the block at `pc` that `facts` leave possible.
    fn possible(&self, pc: Pc, facts: &Facts) -> Vec<Leave> {
        let possible = |leave: &&Leave| {
            leave.guards.iter().all(|(slot, &truth)| match facts.get(slot) {
                Some(Fact::Is(word)) => word.is_zero() != truth,
                Some(Fact::NonZero) => truth,
                None => true,
            })
        };
        let pointers = self.table.pointers(self.arena, pc);
        let known = facts.iter().filter(|(slot, _)| pointers.contains(slot)).map(|(&s, &f)| (s, f)).collect();
        self.table.leaves(pc, &known).iter().filter(possible).cloned().collect()
    }

    /// The node for an arrival at the block at `pc` with `stack`.
    fn target(&mut self, at: Place<'_>, pc: Pc, stack: &Stack) -> Result<NodeId, LiftError> {
        let (block, effect) = self
            .table
            .blocks
            .get(&pc)
            .zip(self.table.effect(pc))
            .ok_or(LiftError::Internal { pc, what: "a block was entered that has no summary" })?;
        if matches!(effect.end, End::Halt) && block.insts.len() <= COPIED_HALT {
            return self.node(Key { pc, facts: Facts::new(), copy: Copy::Of(at.owner) });
        }
        let mut pointers = Facts::new();
        for slot in self.table.pointers(self.arena, pc) {
            let item = stack.get(self.arena, slot);
            if let Some(word) = self.arena.as_const(item) {
                pointers.insert(slot, Fact::Is(word));
            }
        }
        let all = self.table.leaves(pc, &pointers);
        let guarded: BTreeSet<u32> = all.iter().flat_map(|leave| leave.guards.keys().copied()).collect();
        let total = all.len();
        let mut known = pointers.clone();
        for slot in guarded {
            if let Some(truth) = self.truth(at, stack, slot).filter(|_| !pointers.contains_key(&slot)) {
                known.insert(slot, if truth { Fact::NonZero } else { Fact::Is(Word::ZERO) });
            }
        }
        // A copy is worth it only if it leaves fewer ways out.
        if self.possible(pc, &known).len() == total {
            known = pointers;
        }
        self.node(Key { pc, facts: known, copy: Copy::Shared })
    }

    /// Whether the item at `depth` of `stack` is known to be zero (`false`) or not.
    fn truth(&mut self, at: Place<'_>, stack: &Stack, depth: u32) -> Option<bool> {
        let item = stack.get(self.arena, depth);
        decided(self.arena, item, at.facts).or_else(|| {
            let class = self.class(item, at.node, at.classes, false);
            decided(self.arena, class, &Facts::new())
        })
    }

    /// The class of `item`, an expression over the entry stack of `node`, whose slots have these classes.
    fn class(&mut self, item: Expr, node: NodeId, classes: &Classes, label: bool) -> Expr {
        if self.arena.is_opaque(item) {
            return TOP;
        }
        let missing = &mut self.found.missing;
        self.arena.map(item, &mut |arena, leaf| match arena.node(leaf) {
            Leaf::Entry(slot) => Some(classes.get(&slot).copied().unwrap_or_else(|| {
                missing.insert((node, slot, label));
                TOP
            })),
            _ => None,
        })
    }

    fn own_classes(&mut self, node: NodeId) -> Classes {
        let Node { labels, flags, .. } = &self.nodes[node as usize];
        let (labels, flags) = (labels.clone(), flags.clone());
        let mut classes: Classes = flags.into_iter().map(|slot| (slot, TOP)).collect();
        classes.extend(labels.into_iter().map(|slot| (slot, self.arena.param(node, slot))));
        classes
    }

    fn arriving_classes(&mut self, at: Place<'_>, to: NodeId, stack: &Stack) -> Classes {
        let Node { labels, flags, varying, .. } = &self.nodes[to as usize];
        let (labels, flags, varying) = (labels.clone(), flags.clone(), varying.clone());
        let mut classes: Classes = varying.into_iter().map(|slot| (slot, TOP)).collect();
        for (slots, label) in [(flags, false), (labels, true)] {
            for slot in slots {
                if label || !classes.contains_key(&slot) {
                    let item = stack.get(self.arena, slot);
                    classes.insert(slot, self.class(item, at.node, at.classes, label));
                }
            }
        }
        classes
    }

    /// Takes over what a round found; whether another one is needed.
    fn learn(&mut self) -> bool {
        let Found { missing, arrivals, varying, functions, doubtful, .. } = &mut self.found;
        let (missing, arrivals) = (core::mem::take(missing), core::mem::take(arrivals));
        let (varying, functions, doubtful) =
            (core::mem::take(varying), core::mem::take(functions), core::mem::take(doubtful));
        if !functions.is_empty() {
            // With other functions, other slots are needed.
            for at in 0..self.nodes.len() {
                self.nodes[at].labels = self.own_labels(&self.nodes[at].leaves);
                self.nodes[at].flags.clear();
                self.nodes[at].varying.clear();
            }
            self.functions.extend(functions);
            return true;
        }
        let mut learned = self.demand(missing, &arrivals);
        self.found.arrivals = arrivals;
        for (node, slot) in varying {
            learned |= self.nodes[node as usize].varying.insert(slot);
        }
        if !learned {
            learned = !doubtful.is_empty();
            self.functions.extend(doubtful);
        }
        learned
    }

    /// Follows the missing slots from now on, in the blocks before as well: what a block needs to know of its stack,
    /// those need to know of theirs. Whether there are new ones.
    fn demand(&mut self, missing: BTreeSet<(NodeId, u32, bool)>, arrivals: &[Arrival]) -> bool {
        let mut ways_in: BTreeMap<NodeId, Vec<(NodeId, &Stack)>> = BTreeMap::new();
        for Arrival { from, to, stack, .. } in arrivals {
            ways_in.entry(*to).or_default().push((*from, stack));
        }
        let mut learned: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut pending: Vec<_> = missing.into_iter().collect();
        while let Some((node, slot, label)) = pending.pop() {
            let data = &mut self.nodes[node as usize];
            let slots = if label { &mut data.labels } else { &mut data.flags };
            let count = learned.get(&node).copied().unwrap_or(0);
            if (SLOT_LIMIT..MEMORY).contains(&slot) || count >= DEMAND_LIMIT || !slots.insert(slot) {
                continue;
            }
            learned.insert(node, count + 1);
            if !label && self.functions.contains(&node) {
                continue;
            }
            for (from, stack) in ways_in.get(&node).into_iter().flatten() {
                let item = stack.get(self.arena, slot);
                if !self.arena.is_opaque(item) {
                    pending.extend(self.arena.slots(item).into_iter().map(|slot| (*from, slot, label)));
                }
            }
        }
        !learned.is_empty()
    }

    fn own_labels(&self, leaves: &[Leave]) -> BTreeSet<u32> {
        leaves.iter().flat_map(|leave| self.arena.slots(leave.target)).collect()
    }

    /// Propagates classes with the functions and slots known so far.
    fn round(&mut self) -> Result<(), LiftError> {
        self.infos = vec![None; self.nodes.len()];
        self.bindings.clear();
        self.found = Found::default();
        let classes = self.own_classes(ROOT);
        self.infos[ROOT as usize] = Some(Info { owner: ROOT, height: 0, classes, nexts: Vec::new() });
        self.queue = VecDeque::from([ROOT]);
        while let Some(node) = self.queue.pop_front() {
            let Some(Info { owner, height, classes, .. }) = self.infos[node as usize].clone() else { continue };
            let Node { key, effect, .. } = &self.nodes[node as usize];
            let (facts, end) = (key.facts.clone(), effect.end.clone());
            let mut nexts = Vec::new();
            for edge in end.edges() {
                let at = Place { node, owner, height, classes: &classes, facts: &facts, pc: edge.pc };
                nexts.push(self.next(at, edge.target, &edge.stack, 0)?);
            }
            if let Some(info) = &mut self.infos[node as usize] {
                info.nexts = nexts;
            }
        }
        Ok(())
    }

    /// What an edge to `target` with `stack` becomes, visiting the nodes it leads to.
    fn next(&mut self, at: Place<'_>, target: Target, stack: &Stack, depth: usize) -> Result<Next, LiftError> {
        self.work += 1;
        if self.work > self.limit {
            return Err(LiftError::Budget { what: "edges", limit: self.limit, pc: at.pc });
        }
        if depth > CHAIN_LIMIT {
            return Err(LiftError::Budget { what: "calls after one jump", limit: CHAIN_LIMIT, pc: at.pc });
        }
        let mut resolved = resolve(self.code, self.arena, target);
        if let Resolved::Entry(expr) = resolved {
            let class = self.class(expr, at.node, at.classes, true);
            resolved = resolve(self.code, self.arena, Target::Jump(class));
        }
        let pc = match resolved {
            Resolved::Block(pc) => pc,
            Resolved::Many(targets) if depth == 0 => {
                let mut cases = Vec::new();
                for pc in targets {
                    cases.push((pc, self.next(at, Target::Next(pc), stack, 1)?));
                }
                return Ok(Next::Switch(cases, at.pc));
            }
            // The value that decides is another function's.
            Resolved::Many(_) => {
                self.found.unresolved.insert((at.node, at.pc));
                return Ok(Next::Never);
            }
            Resolved::Bad => return Ok(Next::Trap(TrapCode::BadJump, at.pc)),
            Resolved::Unknown => {
                self.found.unresolved.insert((at.node, at.pc));
                return Ok(Next::Never);
            }
            Resolved::Entry(class) => return Ok(self.ret(at, class, stack)),
        };
        let to = self.target(at, pc, stack)?;
        let way = match (depth, self.code.inst(at.pc).0.kind, target) {
            (0, Kind::Jump, Target::Jump(expr)) if self.arena.is_fixed(expr) => Way::Jump,
            (0, Kind::Jump, _) | (1.., ..) => Way::Return,
            (0, Kind::Jumpi, _) => Way::Branch,
            (0, ..) => Way::Fall,
        };
        self.found.arrivals.push(Arrival { from: at.node, to, stack: stack.clone(), way, pc: at.pc });
        let classes = self.arriving_classes(at, to, stack);
        let height = at.height + stack.delta();
        if !self.functions.contains(&to) {
            self.arrive(at, to, classes, height);
            return Ok(Next::Goto(to));
        }
        let has_labels = !self.nodes[to as usize].labels.is_empty();
        if to == at.owner && to != ROOT && (!has_labels || height == 0) {
            // Back to the start of the function with the same addresses: a loop, not a call.
            let own = self.own_classes(to);
            if self.nodes[to as usize].labels.iter().all(|slot| own.get(slot) == classes.get(slot)) {
                return Ok(Next::Goto(to));
            }
        }
        for slot in &self.nodes[to as usize].labels {
            let class = classes.get(slot).copied().unwrap_or(TOP);
            self.bindings.entry((to, *slot)).or_default().insert(class);
        }
        if self.infos[to as usize].is_none() {
            let classes = self.own_classes(to);
            self.infos[to as usize] = Some(Info { owner: to, height: 0, classes, nexts: Vec::new() });
            self.queue.push_back(to);
        }
        let leaves = self.nodes[to as usize].leaves.clone();
        let mut then = Vec::new();
        for leave in &leaves {
            if compose_guards(self.arena, leave, stack, at.facts, &BTreeMap::new()).is_none() {
                then.push(Next::Never);
                continue;
            }
            if leave.pointer {
                // A call through a pointer that is not known here.
                self.found.unresolved.insert((at.node, leave.pc));
                then.push(Next::Never);
                continue;
            }
            let target = self.arena.subst(leave.target, stack);
            let after = stack.then(self.arena, &leave.stack);
            then.push(self.next(at, Target::Jump(target), &after, depth + 1)?);
        }
        Ok(Next::Call { callee: to, then })
    }

    /// An arrival at a node that is not the start of a function.
    fn arrive(&mut self, at: Place<'_>, to: NodeId, classes: Classes, height: i64) {
        let Some(old) = &self.infos[to as usize] else {
            self.infos[to as usize] = Some(Info { owner: at.owner, height, classes, nexts: Vec::new() });
            self.queue.push_back(to);
            return;
        };
        let labels = &self.nodes[to as usize].labels;
        // The height matters where control leaves the function through the stack.
        if old.owner != at.owner || (!labels.is_empty() && old.height != height) {
            self.found.functions.insert(to);
        }
        for slot in labels {
            let pair = (old.classes.get(slot), classes.get(slot));
            if pair.0 != pair.1 {
                // What is not known may become known in a later round.
                let known = pair.0 != Some(&TOP) && pair.1 != Some(&TOP);
                if known { &mut self.found.functions } else { &mut self.found.doubtful }.insert(to);
            }
        }
        for (slot, class) in &classes {
            if !labels.contains(slot) && old.classes.get(slot) != Some(class) {
                self.found.varying.insert((to, *slot));
            }
        }
    }

    /// The exit of the function that a jump to `class` with `stack` takes.
    fn ret(&mut self, at: Place<'_>, class: Expr, stack: &Stack) -> Next {
        if at.owner == ROOT {
            // The target lies below the bottom of the stack, so some instruction before underflowed.
            return Next::Never;
        }
        let own = self.own_classes(at.owner);
        let height = at.height + stack.delta();
        let leaves = self.nodes[at.owner as usize].leaves.clone();
        for (exit, leave) in leaves.iter().enumerate() {
            let same = |binder: &mut Self| binder.class(leave.target, at.owner, &own, true) == class;
            if !leave.pointer && leave.stack.delta() == height && same(self) {
                return Next::Ret(exit);
            }
        }
        if leaves.iter().any(|leave| leave.pointer) {
            self.found.unresolved.insert((at.node, at.pc));
        } else {
            self.found.lost.insert((at.node, at.pc));
        }
        Next::Never
    }

    /// The plan that the last round gave, if its heights are right and every jump is resolved.
    fn finish(mut self) -> Result<Plan, LiftError> {
        let mut plan = Plan::default();
        // Nodes found in earlier rounds may be gone; the others are numbered anew.
        let live: Vec<NodeId> = (0..self.nodes.len() as NodeId).filter(|&n| self.infos[n as usize].is_some()).collect();
        let number: BTreeMap<NodeId, NodeId> =
            live.iter().enumerate().map(|(at, &node)| (node, at as NodeId)).collect();
        for &node in &live {
            let Some(info) = self.infos[node as usize].clone() else { continue };
            let Node { key, effect, leaves, .. } = &self.nodes[node as usize];
            if info.owner == node {
                // Nobody called the program: where it leaves through its empty entry stack, the check of heights traps.
                let leaves = if node == ROOT { Vec::new() } else { leaves.clone() };
                plan.functions.insert(number[&node], leaves);
            }
            plan.nodes.push(PlanNode {
                pc: key.pc,
                facts: key.facts.clone(),
                owner: number[&info.owner],
                effect: effect.clone(),
                nexts: info.nexts.iter().map(|next| next.renumber(&number)).collect(),
                trap: None,
            });
        }
        crate::heights::check(&mut plan)?;
        let reachable = plan.reachable();
        let runs =
            |node: NodeId| reachable.contains(&number[&node]) && plan.nodes[number[&node] as usize].trap.is_none();
        let mut unresolved: BTreeSet<Pc> =
            self.found.unresolved.iter().filter(|(node, _)| runs(*node)).map(|&(_, pc)| pc).collect();
        if let Some(&(_, pc)) = self.found.lost.iter().find(|(node, _)| runs(*node)) {
            return Err(LiftError::Internal { pc, what: "a return is not an exit of its function" });
        }
        let mut edges = BTreeSet::new();
        for &node in live.iter().filter(|&&node| runs(node)) {
            for edge in self.nodes[node as usize].effect.end.clone().edges() {
                self.record(node, edge, &mut edges, &mut unresolved);
            }
        }
        if !unresolved.is_empty() {
            return Err(LiftError::Unresolved { jumps: unresolved.into_iter().collect() });
        }
        plan.edges = edges;
        let mut places = BTreeMap::new();
        for &node in live.iter().filter(|&&node| runs(node)) {
            let Some(info) = &self.infos[node as usize] else { continue };
            let Node { key, effect, leaves, .. } = &self.nodes[node as usize];
            let needs = effect.needs.last().map_or(0, |last| last.0);
            let is_function = info.owner == node;
            let place = called::Place { pc: key.pc, leaves, classes: &info.classes, needs, is_function };
            places.insert(node, place);
        }
        plan.called = called::functions(self.code, self.arena, &places, &self.found.arrivals);
        Ok(plan)
    }

    /// Adds where a jump goes to `edges`.
    fn record(&mut self, node: NodeId, edge: &Edge, edges: &mut BTreeSet<(Pc, Pc)>, unresolved: &mut BTreeSet<Pc>) {
        let Some(info) = self.infos[node as usize].clone() else { return };
        let jump = match edge.target {
            Target::Next(pc) => {
                if self.code.inst(edge.pc).0.kind == Kind::Jumpi {
                    edges.insert((edge.pc, pc));
                }
                return;
            }
            Target::Jump(expr) => expr,
        };
        let class = self.class(jump, node, &info.classes, true);
        let mut seen = BTreeSet::from([class]);
        let mut pending = vec![class];
        while let Some(class) = pending.pop() {
            match resolve(self.code, self.arena, Target::Jump(class)) {
                Resolved::Block(pc) => {
                    edges.insert((edge.pc, pc));
                }
                Resolved::Many(targets) => edges.extend(targets.into_iter().map(|pc| (edge.pc, pc))),
                Resolved::Bad => {}
                Resolved::Unknown => {
                    unresolved.insert(edge.pc);
                }
                Resolved::Entry(expr) => {
                    let Some((function, slot)) = self.arena.single_param(expr) else {
                        unresolved.insert(edge.pc);
                        continue;
                    };
                    for bound in self.bindings.get(&(function, slot)).cloned().unwrap_or_default() {
                        let value = self.arena.map(expr, &mut |arena, leaf| match arena.node(leaf) {
                            Leaf::Param(..) => Some(bound),
                            _ => None,
                        });
                        if seen.insert(value) {
                            pending.push(value);
                        }
                    }
                }
            }
        }
    }
}
