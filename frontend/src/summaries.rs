//! Stage 3, summaries: how control leaves through the stack that a block was entered with.
//!
//! A block is a polymorphic procedure of its entry stack. Where a path from it ends in a jump to an item of that stack
//! (a return address pushed by a caller), the path is an *exit*: target, stack effect, and the conditions on entry items
//! under which it is taken. The exits of a block are composed from those of the blocks it goes to: an exit whose target
//! becomes a constant there continues at that constant, one whose target is again an item of the entry stack is an exit of
//! the composition. The table of exits is the least fixed point, so loops and recursion need nothing special, and
//! because nothing about callers enters it, its size is linear in the code. (After Reps, Horwitz and Sagiv, POPL 1995,
//! with the stack as the only data.)

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use zvm_ir::{Pc, Word};

use crate::decode::{Code, CodeBlock};
use crate::effects::{Edge, Effect, Fact, Facts, Target, decided, interpret};
use crate::error::LiftError;
use crate::expr::{Arena, Expr, MEMORY, Stack, TOP};

/// A way to leave the part of the program that a block starts, through the stack it was entered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leave {
    /// Where to: an expression over the entry stack.
    pub(crate) target: Expr,
    /// The stack then.
    pub(crate) stack: Stack,
    /// Slots of the entry stack that are zero (`false`) or not (`true`) on every path that leaves this way.
    pub(crate) guards: BTreeMap<u32, bool>,
    /// Whether it is a call through a function pointer: an address to come back to lies on the stack. What happens after
    /// it is known only where the pointer is, so the stack is not kept.
    pub(crate) pointer: bool,
    /// A jump that does it.
    pub(crate) pc: Pc,
}

/// A block, with the function pointers among the items it is entered with.
pub(crate) type Variant = (Pc, Facts);

/// Where an edge leads: the blocks it enters, directly and by returns of those, and the ways it leaves.
#[derive(Debug, Default)]
struct Trail {
    /// The blocks whose exits were used, those that are not in the table yet included.
    uses: Vec<Variant>,
    /// Jumps to an item of the entry stack.
    leaves: Vec<Leave>,
    /// How many items the stacks on the way have.
    items: usize,
}

/// More exits of one block than this are not a compiler's output.
const EXIT_LIMIT: usize = 24;
/// A single edge is followed through at most this many returns.
const TRAIL_LIMIT: usize = 512;
/// How many blocks edges are followed through, over all compositions, before the program is given up.
const WORK_LIMIT: usize = 3_000_000;
/// More items of stacks than this, over all compositions, are given up: functions that end in one another, each leaving something on
/// the stack, have stacks as long as there are functions.
const ITEM_LIMIT: usize = 16_000_000;

/// The exits of every block that can be reached.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    /// The blocks, by their first instruction.
    pub(crate) blocks: BTreeMap<Pc, CodeBlock>,
    effects: BTreeMap<Variant, Effect>,
    leaves: BTreeMap<Variant, Vec<Leave>>,
    /// Words of memory, by address, from which targets of jumps are taken that are not understood.
    pub(crate) wanted: BTreeSet<u32>,
}

impl Summaries {
    /// Computes the table for everything reachable from the start of the code.
    pub(crate) fn compute(code: &Code, arena: &mut Arena) -> Result<Self, LiftError> {
        let mut table = Self::default();
        let mut users: BTreeMap<Variant, BTreeSet<Variant>> = BTreeMap::new();
        let start: Variant = (0, Facts::new());
        let mut queued = BTreeSet::from([start.clone()]);
        let mut queue = VecDeque::from([start]);
        let (mut work, mut items) = (0, 0);
        while let Some(variant) = queue.pop_front() {
            queued.remove(&variant);
            let pc = variant.0;
            let block = table.blocks.entry(pc).or_insert_with(|| code.block(pc));
            let effect =
                table.effects.entry(variant.clone()).or_insert_with(|| interpret(code, block, &variant.1, arena));
            table.wanted.extend(effect.wanted);
            let edges = effect.end.edges().to_vec();
            let mut changed = false;
            for edge in &edges {
                let trail = table.follow(code, arena, edge)?;
                work += 1 + trail.uses.len();
                if work > WORK_LIMIT {
                    return Err(LiftError::Budget { what: "compositions of blocks", limit: WORK_LIMIT, pc });
                }
                items += trail.items;
                if items > ITEM_LIMIT {
                    return Err(LiftError::Budget { what: "items on the stacks of functions", limit: ITEM_LIMIT, pc });
                }
                for used in trail.uses {
                    if !table.effects.contains_key(&used) && queued.insert(used.clone()) {
                        queue.push_back(used.clone());
                    }
                    users.entry(used).or_default().insert(variant.clone());
                }
                let list = table.leaves.entry(variant.clone()).or_default();
                for leave in trail.leaves {
                    changed |= merge(arena, list, leave);
                }
                if list.len() > EXIT_LIMIT {
                    return Err(LiftError::Budget { what: "ways to leave a block", limit: EXIT_LIMIT, pc });
                }
            }
            if changed {
                for user in users.get(&variant).into_iter().flatten() {
                    if queued.insert(user.clone()) {
                        queue.push_back(user.clone());
                    }
                }
            }
        }
        Ok(table)
    }

    /// The effect of the block at `pc` when nothing is known of its entry stack.
    pub(crate) fn effect(&self, pc: Pc) -> Option<&Effect> {
        self.effects.get(&(pc, Facts::new()))
    }

    /// The exits of a block of whose entry stack `facts` are known; those that the facts contradict are not left out.
    pub(crate) fn leaves(&self, pc: Pc, facts: &Facts) -> &[Leave] {
        let known = self.leaves.get(&(pc, Facts::new())).map_or(&[][..], Vec::as_slice);
        if facts.is_empty() {
            return known;
        }
        self.leaves.get(&(pc, facts.clone())).map_or(known, Vec::as_slice)
    }

    /// The slots of the block's entry stack that hold function pointers.
    pub(crate) fn pointers(&self, arena: &Arena, pc: Pc) -> BTreeSet<u32> {
        let leaves = self.leaves(pc, &Facts::new()).iter().filter(|leave| leave.pointer);
        leaves.flat_map(|leave| arena.slots(leave.target)).filter(|&slot| slot < MEMORY).collect()
    }

    /// Follows an edge through the exits that are in the table.
    fn follow(&self, code: &Code, arena: &mut Arena, edge: &Edge) -> Result<Trail, LiftError> {
        let mut trail = Trail::default();
        let mut seen = BTreeSet::new();
        let guards: BTreeMap<u32, bool> = edge.guard.into_iter().collect();
        let mut pending = vec![(edge.target, edge.stack.clone(), guards, edge.pc, false)];
        while let Some((target, stack, guards, pc, pointer)) = pending.pop() {
            let to = match resolve(code, arena, target) {
                Resolved::Block(to) => to,
                Resolved::Many(targets) => {
                    pending.extend(
                        targets.into_iter().map(|to| (Target::Next(to), stack.clone(), guards.clone(), pc, pointer)),
                    );
                    continue;
                }
                Resolved::Bad | Resolved::Unknown => continue,
                Resolved::Entry(target) => {
                    trail.items += stack.len() as usize;
                    // Code goes on after the jump that leaves: somebody is to come back there.
                    let back = Word::from(pc + 1);
                    let pointer = pointer
                        || (code.is_jumpdest(pc + 1)
                            && stack.top_down().any(|item| arena.as_const(item) == Some(back)));
                    let stack = if pointer { Stack::default() } else { stack };
                    trail.leaves.push(Leave { target, stack, guards, pointer, pc });
                    continue;
                }
            };
            trail.items += stack.len() as usize;
            if !seen.insert((to, stack.clone(), guards.clone())) {
                continue;
            }
            if seen.len() > TRAIL_LIMIT {
                return Err(LiftError::Budget { what: "returns through one jump", limit: TRAIL_LIMIT, pc });
            }
            let mut facts = Facts::new();
            for slot in self.pointers(arena, to) {
                let item = stack.get(arena, slot);
                if let Some(word) = arena.as_const(item) {
                    facts.insert(slot, Fact::Is(word));
                }
            }
            if !facts.is_empty() {
                trail.uses.push((to, Facts::new()));
            }
            let used = (to, facts);
            for leave in self.leaves.get(&used).into_iter().flatten() {
                if let Some(guards) = compose_guards(arena, leave, &stack, &Facts::new(), &guards) {
                    let target = arena.subst(leave.target, &stack);
                    let after = if leave.pointer { Stack::default() } else { stack.then(arena, &leave.stack) };
                    if !leave.pointer || arena.as_const(target).is_none() {
                        pending.push((Target::Jump(target), after, guards, leave.pc, leave.pointer));
                    }
                }
            }
            trail.uses.push(used);
        }
        Ok(trail)
    }
}

/// What a target is.
pub(crate) enum Resolved {
    /// A block.
    Block(Pc),
    /// One of several blocks, in order; anything else is not a valid target.
    Many(Vec<Pc>),
    /// A constant that is not a valid target.
    Bad,
    /// An expression over the entry stack.
    Entry(Expr),
    /// Unknown.
    Unknown,
}

/// What a target is, as far as the expression itself tells.
pub(crate) fn resolve(code: &Code, arena: &mut Arena, target: Target) -> Resolved {
    let expr = match target {
        Target::Next(pc) => return Resolved::Block(pc),
        Target::Jump(expr) => expr,
    };
    if let Some(word) = arena.as_const(expr) {
        return code.jumpdest(&word).map_or(Resolved::Bad, Resolved::Block);
    }
    if arena.is_opaque(expr) {
        return Resolved::Unknown;
    }
    if arena.is_fixed(expr) {
        let Some(values) = arena.values(expr) else { return Resolved::Unknown };
        let targets: Vec<Pc> = values.iter().filter_map(|word| code.jumpdest(word)).collect();
        return if targets.is_empty() { Resolved::Bad } else { Resolved::Many(targets) };
    }
    Resolved::Entry(expr)
}

/// The guards under which `leave` is taken when its block is entered with `stack`, itself entered under `guards`.
/// `None` if they contradict what is known.
pub(crate) fn compose_guards(
    arena: &mut Arena,
    leave: &Leave,
    stack: &Stack,
    facts: &Facts,
    guards: &BTreeMap<u32, bool>,
) -> Option<BTreeMap<u32, bool>> {
    let mut composed = guards.clone();
    for (&slot, &truth) in &leave.guards {
        let item = stack.get(arena, slot);
        match decided(arena, item, facts) {
            Some(known) if known != truth => return None,
            Some(_) => {}
            None => {
                if let Some((slot, sense)) = arena.tested_slot(item) {
                    let truth = sense == truth;
                    if *composed.entry(slot).or_insert(truth) != truth {
                        return None;
                    }
                }
            }
        }
    }
    Some(composed)
}

/// Adds an exit to a list. Exits to the same target with the same height are one, of which is kept what they agree on.
fn merge(arena: &mut Arena, list: &mut Vec<Leave>, new: Leave) -> bool {
    let same = |old: &&mut Leave| {
        old.target == new.target && old.pointer == new.pointer && old.stack.delta() == new.stack.delta()
    };
    let Some(old) = list.iter_mut().find(same) else {
        list.push(new);
        return true;
    };
    let len = old.stack.len().max(new.stack.len());
    let base = old.stack.base.max(new.stack.base);
    let items = (0..len)
        .map(|depth| {
            let (a, b) = (old.stack.get(arena, depth), new.stack.get(arena, depth));
            if a == b { a } else { TOP }
        })
        .collect();
    let mut stack = Stack::from_top_down(items, base);
    let slots: BTreeSet<u32> = old.stack.memory.keys().chain(new.stack.memory.keys()).copied().collect();
    for slot in slots {
        let (a, b) = (old.stack.get(arena, slot), new.stack.get(arena, slot));
        stack.memory.insert(slot, if a == b { a } else { TOP });
    }
    stack.normalise(arena);
    let guards: BTreeMap<u32, bool> =
        old.guards.iter().filter(|(slot, truth)| new.guards.get(slot) == Some(truth)).map(|(&s, &t)| (s, t)).collect();
    let changed = stack != old.stack || guards != old.guards;
    old.stack = stack;
    old.guards = guards;
    changed
}
