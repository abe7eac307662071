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

use zvm_ir::Pc;

use crate::decode::{Code, CodeBlock};
use crate::effects::{Edge, Effect, Facts, Target, decided, interpret};
use crate::error::LiftError;
use crate::expr::{Arena, Expr, Stack, TOP};

/// A way to leave the part of the program that a block starts, through the stack it was entered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leave {
    /// Where to: an expression over the entry stack.
    pub(crate) target: Expr,
    /// The stack then.
    pub(crate) stack: Stack,
    /// Slots of the entry stack that are zero (`false`) or not (`true`) on every path that leaves this way.
    pub(crate) guards: BTreeMap<u32, bool>,
    /// A jump that does it.
    pub(crate) pc: Pc,
}

/// Where an edge leads: the blocks it enters, directly and by returns of those, and the ways it leaves.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trail {
    /// Blocks entered, with the stack over the entry stack of the block that the edge starts from.
    pub(crate) arrivals: Vec<(Pc, Stack)>,
    /// Jumps to an item of the entry stack.
    pub(crate) leaves: Vec<Leave>,
    /// Jumps to a value that is not known.
    pub(crate) unresolved: Vec<Pc>,
}

/// More exits of one block than this are not a compiler's output.
const EXIT_LIMIT: usize = 24;
/// A single edge is followed through at most this many returns.
const TRAIL_LIMIT: usize = 512;
/// How often blocks are interpreted or composed again before the program is given up.
const WORK_LIMIT: usize = 400_000;

/// The exits of every block that can be reached.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    /// The blocks, by their first instruction.
    pub(crate) blocks: BTreeMap<Pc, (CodeBlock, Effect)>,
    /// The exits of each.
    pub(crate) leaves: BTreeMap<Pc, Vec<Leave>>,
}

impl Summaries {
    /// Computes the table for everything reachable from the start of the code.
    pub(crate) fn compute(code: &Code, arena: &mut Arena) -> Result<Self, LiftError> {
        let mut table = Self::default();
        let mut users: BTreeMap<Pc, BTreeSet<Pc>> = BTreeMap::new();
        let mut queue = VecDeque::from([0]);
        let mut queued = BTreeSet::from([0]);
        let mut work = 0;
        while let Some(pc) = queue.pop_front() {
            queued.remove(&pc);
            work += 1;
            if work > WORK_LIMIT {
                return Err(LiftError::Budget { what: "compositions of blocks", limit: WORK_LIMIT, pc });
            }
            let (_, effect) = table.blocks.entry(pc).or_insert_with(|| {
                let block = code.block(pc);
                let effect = interpret(&block, &Facts::new(), arena);
                (block, effect)
            });
            let edges = effect.end.edges().to_vec();
            let mut changed = false;
            for edge in &edges {
                let trail = table.follow(code, arena, edge, &Facts::new())?;
                for &(to, _) in &trail.arrivals {
                    users.entry(to).or_default().insert(pc);
                    if !table.blocks.contains_key(&to) && queued.insert(to) {
                        queue.push_back(to);
                    }
                }
                for leave in trail.leaves {
                    let list = table.leaves.entry(pc).or_default();
                    changed |= merge(arena, list, leave);
                    if list.len() > EXIT_LIMIT {
                        return Err(LiftError::Budget { what: "ways to leave a block", limit: EXIT_LIMIT, pc });
                    }
                }
            }
            if changed {
                for &user in users.get(&pc).into_iter().flatten() {
                    if queued.insert(user) {
                        queue.push_back(user);
                    }
                }
            }
        }
        Ok(table)
    }

    /// Follows an edge of a block of whose entry stack `facts` are known, through the exits that are in the table.
    pub(crate) fn follow(
        &self,
        code: &Code,
        arena: &mut Arena,
        edge: &Edge,
        facts: &Facts,
    ) -> Result<Trail, LiftError> {
        let mut trail = Trail::default();
        let mut seen = BTreeSet::new();
        let guards: BTreeMap<u32, bool> = edge.guard.into_iter().collect();
        let mut pending = vec![(edge.target, edge.stack.clone(), guards, edge.pc)];
        while let Some((target, stack, guards, pc)) = pending.pop() {
            let to = match resolve(code, arena, target) {
                Resolved::Block(to) => to,
                Resolved::Bad => continue,
                Resolved::Unknown => {
                    trail.unresolved.push(pc);
                    continue;
                }
                Resolved::Entry(target) => {
                    trail.leaves.push(Leave { target, stack, guards, pc });
                    continue;
                }
            };
            if !seen.insert((to, stack.clone(), guards.clone())) {
                continue;
            }
            if seen.len() > TRAIL_LIMIT {
                return Err(LiftError::Budget { what: "returns through one jump", limit: TRAIL_LIMIT, pc });
            }
            for leave in self.leaves.get(&to).into_iter().flatten() {
                if let Some(guards) = compose_guards(arena, leave, &stack, facts, &guards) {
                    let target = arena.subst(leave.target, &stack);
                    let after = stack.then(arena, &leave.stack);
                    pending.push((Target::Jump(target), after, guards, leave.pc));
                }
            }
            trail.arrivals.push((to, stack));
        }
        Ok(trail)
    }
}

/// What a target is.
pub(crate) enum Resolved {
    /// A block.
    Block(Pc),
    /// A constant that is not a valid target.
    Bad,
    /// An expression over the entry stack.
    Entry(Expr),
    /// Unknown.
    Unknown,
}

/// What a target is, as far as the expression itself tells.
pub(crate) fn resolve(code: &Code, arena: &Arena, target: Target) -> Resolved {
    match target {
        Target::Next(pc) => Resolved::Block(pc),
        Target::Jump(expr) => match arena.as_const(expr) {
            Some(word) => code.jumpdest(&word).map_or(Resolved::Bad, Resolved::Block),
            None if arena.is_opaque(expr) => Resolved::Unknown,
            None => Resolved::Entry(expr),
        },
    }
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
    let same = |old: &&mut Leave| old.target == new.target && old.stack.delta() == new.stack.delta();
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
    stack.normalise(arena);
    let guards: BTreeMap<u32, bool> =
        old.guards.iter().filter(|(slot, truth)| new.guards.get(slot) == Some(truth)).map(|(&s, &t)| (s, t)).collect();
    let changed = stack != old.stack || guards != old.guards;
    old.stack = stack;
    old.guards = guards;
    changed
}
