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
//!
//! A nest of functions would take as many rounds as it is deep. So after the first few, rounds are *eager*: an address that is
//! asked for is followed back at once, along the ways in that were seen, and when nothing else is left to do in a round, the
//! blocks that were found become functions in it. What was reached through those is forgotten, and whoever entered that is visited
//! again. A block at which only slots differ that were asked for (not those that it leaves through itself) waits until
//! there are no others: what is asked for depends on the functions. The last round is never one that forgot or followed something.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use zvm_ir::{Pc, TrapCode, Word};

use crate::arrivals::{Arrival, Found, Way, Ways};
use crate::called;
use crate::decode::{Code, Kind};
use crate::effects::{Edge, Effect, End, Fact, Facts, Target, decided, interpret};
use crate::error::LiftError;
use crate::expr::{Arena, Expr, MEMORY, Node as Leaf, Stack, TOP};
use crate::given;
use crate::plan::{Next, NodeId, Plan, PlanNode};
use crate::summaries::{Leave, Resolved, Summaries, compose_guards, resolve};

/// The start of the program, as a node.
const ROOT: NodeId = 0;
/// More blocks than this, copies included, are given up.
const NODE_LIMIT: usize = 100_000;
/// More rounds of finding functions than this are given up. Each finds at least one function or slot.
const ROUND_LIMIT: usize = 2_000;
/// So many rounds leave everything to the next one: nearly all programs of compilers need no more.
const PLAIN_ROUNDS: usize = 8;
/// A halting block of at most this many instructions is copied into each function that goes to it.
const COPIED_HALT: usize = 40;
/// Items of the stack deeper than this are not followed: the EVM's stack has 1024.
const SLOT_LIMIT: u32 = 1024;
/// How many slots are added to one block when one slot is asked for: what is asked for in loops without end stays small.
const DEMAND_LIMIT: usize = 32;
/// More edges than this, over all rounds, are given up.
const WORK_LIMIT: usize = 2_000_000;
/// When so many times as many edges as there are blocks were visited, and some more, the functions that can be seen at once are
/// taken for granted. Programs of compilers need a third of it.
const UNAIDED_ROUNDS: usize = 64;
const UNAIDED_BLOCKS: usize = 200;
/// What is limited by those.
const EDGES: &str = "edges";
/// More classes and items of stacks than this, over all rounds, are given up.
const CLASS_LIMIT: usize = 16_000_000;
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
    /// The slots of the entry stack that hold addresses which the block leaves through.
    own: BTreeSet<u32>,
    /// The slots that hold addresses which the block, or what runs after it, jumps to: its own, and those asked for.
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
    /// The arrival that these are from; `None` for functions.
    parent: Option<usize>,
    /// When it was found: after its parent.
    born: usize,
}

/// Finds the functions of a program whose summaries are given.
pub(crate) fn plan(code: &Code, arena: &mut Arena, table: &Summaries) -> Result<Plan, LiftError> {
    let limit = UNAIDED_ROUNDS * (UNAIDED_BLOCKS + table.blocks.len());
    match plan_from(code, arena, table, BTreeSet::new(), limit) {
        // Functions that are the ends of others come to light one after the other.
        Err(LiftError::Budget { what: EDGES, .. }) if limit < WORK_LIMIT => {
            let obvious = given::functions(code, arena, table);
            let plan = plan_from(code, arena, table, obvious, WORK_LIMIT)?;
            Ok(Plan { visits: plan.visits + limit, ..plan })
        }
        result => result,
    }
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
        ways: Ways::default(),
        bindings: BTreeMap::new(),
        queue: VecDeque::new(),
        found: Found::default(),
        eager: false,
        promoted: false,
        followed: false,
        births: 0,
        work: 0,
        limit,
        classes: 0,
    };
    binder.node(Key { pc: 0, facts: Facts::new(), copy: Copy::Root })?;
    for round in 0..ROUND_LIMIT {
        binder.eager = round >= PLAIN_ROUNDS;
        binder.round()?;
        if !binder.learn() {
            return binder.finish();
        }
    }
    Err(LiftError::Budget { what: "rounds of finding functions", limit: ROUND_LIMIT, pc: 0 })
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
    ways: Ways,
    /// What callers pass for each address that a function leaves through.
    bindings: BTreeMap<(NodeId, u32), BTreeSet<Expr>>,
    queue: VecDeque<NodeId>,
    found: Found,
    /// Whether rounds find functions and follow addresses on their way.
    eager: bool,
    /// Whether this round found functions.
    promoted: bool,
    /// Whether this round followed addresses on its way that it did not follow when it began.
    followed: bool,
    /// How many infos there were so far.
    births: usize,
    /// How many edges were visited so far, and how many may be.
    work: usize,
    limit: usize,
    /// How many classes were computed so far.
    classes: usize,
}

/// Where an edge starts.
#[derive(Clone, Copy)]
struct Place<'a> {
    node: NodeId,
    owner: NodeId,
    height: i64,
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
        let labels: BTreeSet<u32> = leaves.iter().flat_map(|leave| self.arena.slots(leave.target)).collect();
        let (flags, varying) = (BTreeSet::new(), BTreeSet::new());
        if key.copy == Copy::Shared && key.facts.is_empty() && self.obvious.contains(&key.pc) {
            self.functions.insert(node);
        }
        self.nodes.push(Node { key: key.clone(), effect, leaves, own: labels.clone(), labels, flags, varying });
        self.infos.push(None);
        self.ways.grow(self.nodes.len());
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
            let class = self.class(item, at.node, false);
            decided(self.arena, class, &Facts::new())
        })
    }

    /// The class of `item`, an expression over the entry stack of `node`. If it is asked for as an address, what it depends on
    /// is followed.
    fn class(&mut self, item: Expr, node: NodeId, label: bool) -> Expr {
        if self.arena.is_opaque(item) {
            return TOP;
        }
        if label && self.eager && self.arena.has_entry(item) {
            for slot in self.arena.slots(item) {
                if self.infos[node as usize].as_ref().is_some_and(|info| !info.classes.contains_key(&slot)) {
                    self.follow(node, slot);
                }
            }
        }
        self.known_class(item, node, label)
    }

    /// The class of `item` as far as it is followed.
    fn known_class(&mut self, item: Expr, node: NodeId, label: bool) -> Expr {
        if self.arena.is_opaque(item) {
            return TOP;
        }
        let info = self.infos[node as usize].as_ref();
        let missing = &mut self.found.missing;
        self.arena.map(item, &mut |arena, leaf| match arena.node(leaf) {
            Leaf::Entry(slot) => Some(info.and_then(|info| info.classes.get(&slot)).copied().unwrap_or_else(|| {
                missing.insert((node, slot, label));
                TOP
            })),
            _ => None,
        })
    }

    /// Follows an address that lies in `slot` of `node` back along the ways in that were seen so far.
    fn follow(&mut self, node: NodeId, slot: u32) {
        let mut counts: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut fresh = Vec::new();
        let mut pending = vec![(node, slot)];
        while let Some((node, slot)) = pending.pop() {
            let Some(Info { born, .. }) = &self.infos[node as usize] else { continue };
            let count = counts.entry(node).or_default();
            let labels = &mut self.nodes[node as usize].labels;
            if (SLOT_LIMIT..MEMORY).contains(&slot) || *count >= DEMAND_LIMIT || !labels.insert(slot) {
                continue;
            }
            *count += 1;
            fresh.push((*born, node, slot));
            for (_, from, item) in self.ways.items(self.arena, node, slot) {
                self.classes += 1;
                if !self.arena.is_opaque(item) {
                    pending.extend(self.arena.slots(item).into_iter().map(|slot| (from, slot)));
                }
            }
        }
        self.followed |= !fresh.is_empty();
        // Where it comes from is known before what comes of it.
        fresh.sort_unstable();
        for &(_, node, slot) in &fresh {
            let class = if self.functions.contains(&node) {
                self.own_class(node, slot)
            } else {
                let parent = self.infos[node as usize].as_ref().and_then(|info| info.parent);
                match parent.and_then(|at| self.ways.arrivals[at].as_ref()) {
                    Some(Arrival { from, stack, .. }) => {
                        let (from, item) = (*from, stack.get(self.arena, slot));
                        self.known_class(item, from, true)
                    }
                    None => TOP,
                }
            };
            if let Some(info) = &mut self.infos[node as usize] {
                info.classes.insert(slot, class);
            }
        }
        for (_, node, slot) in fresh {
            if self.functions.contains(&node) {
                continue;
            }
            let class = self.infos[node as usize].as_ref().and_then(|info| info.classes.get(&slot)).copied();
            for (_, from, item) in self.ways.items(self.arena, node, slot) {
                let other = self.known_class(item, from, true);
                self.differ(node, slot, class, Some(other));
            }
        }
    }

    /// Takes note that control enters a block, which is not a function, with these classes in one slot of an address.
    fn differ(&mut self, node: NodeId, slot: u32, a: Option<Expr>, b: Option<Expr>) {
        if a != b {
            let Found { functions, later, doubtful, .. } = &mut self.found;
            // What is not known may become known in a later round.
            let known = a != Some(TOP) && b != Some(TOP);
            let set = if !known {
                doubtful
            } else if self.nodes[node as usize].own.contains(&slot) {
                functions
            } else {
                later
            };
            set.insert(node);
        }
    }

    fn own_classes(&mut self, node: NodeId) -> Classes {
        let Node { labels, flags, .. } = &self.nodes[node as usize];
        let (labels, flags) = (labels.clone(), flags.clone());
        let mut classes: Classes = flags.into_iter().map(|slot| (slot, TOP)).collect();
        classes.extend(labels.into_iter().map(|slot| (slot, self.own_class(node, slot))));
        classes
    }

    /// What a slot of an address is at the start of a function: what it is given, and zero in memory where the program starts.
    fn own_class(&mut self, function: NodeId, slot: u32) -> Expr {
        if function == ROOT && slot >= MEMORY {
            self.arena.constant(Word::ZERO)
        } else {
            self.arena.param(function, slot)
        }
    }

    fn arriving_classes(&mut self, from: NodeId, to: NodeId, stack: &Stack) -> Classes {
        let Node { labels, flags, varying, .. } = &self.nodes[to as usize];
        let (labels, flags, varying) = (labels.clone(), flags.clone(), varying.clone());
        let mut classes: Classes = varying.into_iter().map(|slot| (slot, TOP)).collect();
        for (slots, label) in [(flags, false), (labels, true)] {
            for slot in slots {
                if label || !classes.contains_key(&slot) {
                    let item = stack.get(self.arena, slot);
                    classes.insert(slot, self.class(item, from, label));
                }
            }
        }
        self.classes += classes.len();
        classes
    }

    /// Takes over what a round found; whether another one is needed.
    fn learn(&mut self) -> bool {
        let Found { missing, varying, doubtful, .. } = &mut self.found;
        let (missing, varying, doubtful) =
            (core::mem::take(missing), core::mem::take(varying), core::mem::take(doubtful));
        if self.promoted {
            // With other functions, other slots are needed.
            for at in 0..self.nodes.len() {
                self.nodes[at].labels = self.nodes[at].own.clone();
                self.nodes[at].flags.clear();
                self.nodes[at].varying.clear();
            }
            return true;
        }
        let mut learned = self.demand(missing) || self.followed;
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
    fn demand(&mut self, missing: BTreeSet<(NodeId, u32, bool)>) -> bool {
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
            for (_, from, item) in self.ways.items(self.arena, node, slot) {
                self.classes += 1;
                if !self.arena.is_opaque(item) {
                    pending.extend(self.arena.slots(item).into_iter().map(|slot| (from, slot, label)));
                }
            }
        }
        !learned.is_empty()
    }

    /// Propagates classes with the functions and slots known so far.
    fn round(&mut self) -> Result<(), LiftError> {
        self.infos = vec![None; self.nodes.len()];
        self.ways = Ways::new(self.nodes.len());
        self.bindings.clear();
        self.found = Found::default();
        (self.promoted, self.followed) = (false, false);
        self.enter(ROOT);
        loop {
            while let Some(node) = self.queue.pop_front() {
                self.visit(node)?;
            }
            let mut functions = core::mem::take(&mut self.found.functions);
            if !self.eager || (functions.is_empty() && !self.promoted) {
                functions.append(&mut self.found.later);
            }
            if functions.is_empty() {
                return Ok(());
            }
            self.promoted = true;
            self.functions.extend(&functions);
            if !self.eager {
                return Ok(());
            }
            self.forget(functions);
        }
    }

    /// Visits the blocks that a block goes to.
    fn visit(&mut self, node: NodeId) -> Result<(), LiftError> {
        let Some(&Info { owner, height, .. }) = self.infos[node as usize].as_ref() else { return Ok(()) };
        let Node { key, effect, .. } = &self.nodes[node as usize];
        let (facts, end) = (key.facts.clone(), effect.end.clone());
        self.ways.forget(node);
        let mut nexts = Vec::new();
        for edge in end.edges() {
            let at = Place { node, owner, height, facts: &facts, pc: edge.pc };
            nexts.push(self.next(at, edge.target, &edge.stack, 0)?);
        }
        if let Some(info) = &mut self.infos[node as usize] {
            info.nexts = nexts;
        }
        Ok(())
    }

    /// Enters a function, if that was not done.
    fn enter(&mut self, function: NodeId) {
        if self.infos[function as usize].is_none() {
            let classes = self.own_classes(function);
            self.births += 1;
            let (nexts, parent, born) = (Vec::new(), None, self.births);
            self.infos[function as usize] = Some(Info { owner: function, height: 0, classes, nexts, parent, born });
            self.queue.push_back(function);
        }
    }

    /// Forgets what was found through nodes that are functions now. Those who enter what is forgotten are visited again.
    fn forget(&mut self, functions: BTreeSet<NodeId>) {
        let mut gone = BTreeSet::new();
        let mut pending: Vec<NodeId> = functions.into_iter().collect();
        while let Some(node) = pending.pop() {
            if gone.insert(node) {
                pending.append(&mut self.ways.children[node as usize]);
                self.ways.forget(node);
                self.infos[node as usize] = None;
                self.nodes[node as usize].labels = self.nodes[node as usize].own.clone();
            }
        }
        let mut again = BTreeSet::new();
        for node in gone {
            for at in core::mem::take(&mut self.ways.into[node as usize]) {
                again.extend(self.ways.arrivals[at].as_ref().map(|arrival| arrival.from));
            }
        }
        self.queue.extend(again);
    }

    /// What an edge to `target` with `stack` becomes, visiting the nodes it leads to.
    fn next(&mut self, at: Place<'_>, target: Target, stack: &Stack, depth: usize) -> Result<Next, LiftError> {
        self.work += 1;
        if self.work > self.limit {
            return Err(LiftError::Budget { what: EDGES, limit: self.limit, pc: at.pc });
        }
        if self.classes > CLASS_LIMIT {
            return Err(LiftError::Budget { what: "addresses on stacks", limit: CLASS_LIMIT, pc: at.pc });
        }
        if depth > CHAIN_LIMIT {
            return Err(LiftError::Budget { what: "calls after one jump", limit: CHAIN_LIMIT, pc: at.pc });
        }
        let mut resolved = resolve(self.code, self.arena, target);
        if let Resolved::Entry(expr) = resolved {
            let class = self.class(expr, at.node, true);
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
        self.classes += stack.len() as usize;
        let arrival = self.ways.add(Arrival { from: at.node, to, stack: stack.clone(), way, pc: at.pc });
        let classes = self.arriving_classes(at.node, to, stack);
        let height = at.height + stack.delta();
        if !self.functions.contains(&to) {
            self.arrive(at, to, arrival, classes, height);
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
        self.enter(to);
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
    fn arrive(&mut self, at: Place<'_>, to: NodeId, arrival: usize, classes: Classes, height: i64) {
        let Some(mut old) = self.infos[to as usize].take() else {
            self.births += 1;
            let (nexts, parent, born) = (Vec::new(), Some(arrival), self.births);
            self.infos[to as usize] = Some(Info { owner: at.owner, height, classes, nexts, parent, born });
            self.ways.children[at.node as usize].push(to);
            self.queue.push_back(to);
            return;
        };
        let labels = core::mem::take(&mut self.nodes[to as usize].labels);
        // The height matters where control leaves the function through the stack.
        if old.owner != at.owner || (!self.nodes[to as usize].own.is_empty() && old.height != height) {
            self.found.functions.insert(to);
        } else if !labels.is_empty() && old.height != height {
            self.found.later.insert(to);
        }
        for slot in &labels {
            self.differ(to, *slot, old.classes.get(slot).copied(), classes.get(slot).copied());
        }
        for (slot, class) in &classes {
            if !labels.contains(slot) && old.classes.get(slot) != Some(class) {
                self.found.varying.insert((to, *slot));
            }
        }
        self.nodes[to as usize].labels = labels;
        // A block that is visited again enters the same ones.
        if old.parent.is_some_and(|parent| self.ways.arrivals[parent].is_none()) && old.born > self.born(at.node) {
            old.parent = Some(arrival);
        }
        self.infos[to as usize] = Some(old);
    }

    fn born(&self, node: NodeId) -> usize {
        self.infos[node as usize].as_ref().map_or(usize::MAX, |info| info.born)
    }

    /// The exit of the function that a jump to `class` with `stack` takes.
    fn ret(&mut self, at: Place<'_>, class: Expr, stack: &Stack) -> Next {
        if at.owner == ROOT {
            // The target lies below the bottom of the stack, so some instruction before underflowed.
            return Next::Never;
        }
        let height = at.height + stack.delta();
        let leaves = self.nodes[at.owner as usize].leaves.clone();
        for (exit, leave) in leaves.iter().enumerate() {
            let same = |binder: &mut Self| binder.class(leave.target, at.owner, true) == class;
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
        let mut plan = Plan { visits: self.work, ..Plan::default() };
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
        let arrivals: Vec<&Arrival> = self.ways.arrivals.iter().flatten().collect();
        plan.called = called::functions(self.code, self.arena, &places, &arrivals);
        Ok(plan)
    }

    /// Adds where a jump goes to `edges`.
    fn record(&mut self, node: NodeId, edge: &Edge, edges: &mut BTreeSet<(Pc, Pc)>, unresolved: &mut BTreeSet<Pc>) {
        let jump = match edge.target {
            Target::Next(pc) => {
                if self.code.inst(edge.pc).0.kind == Kind::Jumpi {
                    edges.insert((edge.pc, pc));
                }
                return;
            }
            Target::Jump(expr) => expr,
        };
        let class = self.class(jump, node, true);
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
