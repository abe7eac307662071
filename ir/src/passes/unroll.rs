//! `unroll`: short loops of a known number of rounds become as many copies of their body.
//!
//! *Does*: where constants decide how often an innermost loop goes round ([`trip_count`]), and the cost model says that what
//! each round saves is worth the room of a copy, the loop is replaced by its rounds, one after the other, in which the test is
//! decided. Counters are then constants: addresses that were computed from them are known, and memory at them becomes
//! values. Other ways out of the loop stay; what is used behind the loop leaves it through parameters of its exits, and where
//! two exits meet before the use, the loop stays. The room of all copies of a loop is bounded by the model, and that of a function
//! by its size.
//! *Requires*: loops in the shape of [`super::canonical_loops`]. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: full unrolling, as in LLVM; the count is simulated instead of solved.
//!
//! ```text
//! block1(v1): v2 = ult v1, 2; brif v2, block2, block3; block2: …; jump block1(v1 + 1)   →   … with v1 = 0; … with v1 = 1; block3
//! ```

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;

use crate::cfg::{Cfg, Loop};
use crate::cost::{price_of, room_of};
use crate::entities::{Block, Inst, Value};
use crate::function::{BlockCall, Function, Imm, ValueDef};
use crate::opcode::Opcode;
use crate::passes::Context;
use crate::passes::canonical_loops::Nesting;
use crate::passes::edit::{new_inst, new_jump, remove_unreachable};
use crate::passes::facts::trip_count::{Evaluation, Trips, trip_count};

/// Loops of more rounds stay.
const MOST_ROUNDS: u32 = 32;
/// Loops with more exits stay, unless nothing is used behind them.
const EXITS: usize = 16;
/// A function whose loops are unrolled grows by this share of its instructions at most, and as many more.
const GROWTH: usize = 2;
const AT_LEAST: usize = 512;

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let cfg = Cfg::new(func);
    if cfg.loops().is_empty() {
        return false;
    }
    let mut has_inner = vec![false; cfg.loops().len()];
    for each in cfg.loops() {
        if let Some(parent) = each.parent {
            has_inner[parent] = true;
        }
    }
    let mut left = func.layout.iter().map(|&block| func.blocks[block].insts.len()).sum::<usize>() / GROWTH + AT_LEAST;
    let mut unrolling =
        Unrolling { cfg: &cfg, nesting: Nesting::new(&cfg), users: users(func), before: SecondaryMap::new() };
    let mut changed = false;
    for (at, each) in cfg.loops().iter().enumerate() {
        if has_inner[at] || func.entry() == Some(each.header) {
            continue;
        }
        let Some(trips) = trip_count(func, &cfg, each, MOST_ROUNDS) else { continue };
        let size: usize = each.blocks.iter().map(|&block| func.blocks[block].insts.len()).sum();
        let copied = size * trips.stays as usize;
        if copied > left || !is_worth(func, cx, each, &trips) {
            continue;
        }
        let Some(escaping) = unrolling.escaping(func, at) else { continue };
        left -= copied;
        unrolling.close(func, &escaping);
        unrolling.unroll(func, each, &trips);
        changed = true;
    }
    if changed {
        let before = unrolling.before;
        let layout = std::mem::take(&mut func.layout);
        for block in layout {
            func.layout.extend(before[block].iter().copied());
            func.layout.push(block);
        }
        remove_unreachable(func, &Cfg::new(func));
    }
    changed
}

/// Whether what a round saves (the way back, what the loop hands from round to round, all that constants decide, and memory at
/// places that become known) is worth the room of the rest of it, and all rounds together have room.
fn is_worth(func: &Function, cx: &Context, each: &Loop, trips: &Trips) -> bool {
    let costs = cx.costs();
    let mut round = Evaluation::new(func, &trips.counters);
    let (mut saved, mut room) = (costs.jump(), 0u64);
    for &param in &func.blocks[each.header].params {
        saved = saved.saturating_add(costs.carry(func.ty(param)));
    }
    for &block in &each.blocks {
        for &inst in &func.blocks[block].insts {
            let data = &func.insts[inst];
            let decided = data.result().is_some_and(|value| round.is_possible(value));
            let at_known_place = matches!(data.opcode, Opcode::Mload | Opcode::Mstore | Opcode::Mstore8)
                && data.args.first().is_some_and(|&address| round.is_possible(address));
            if decided || (data.opcode == Opcode::Brif && block == trips.test) {
                saved = saved.saturating_add(price_of(costs, func, inst));
            } else {
                let memory = if at_known_place { costs.memory_word() } else { 0 };
                saved = saved.saturating_add(memory);
                room = room.saturating_add(room_of(costs, func, inst).saturating_sub(memory));
            }
        }
    }
    costs.is_worth(saved, room) && room.saturating_mul(u64::from(trips.stays)) <= costs.straight_line()
}

/// Where each value is used, once per instruction: the block, and the instruction.
fn users(func: &Function) -> SecondaryMap<Value, Vec<(Block, Inst)>> {
    let mut users: SecondaryMap<Value, Vec<(Block, Inst)>> = SecondaryMap::new();
    for (block, inst) in func.insts_in_order() {
        for value in func.insts[inst].uses() {
            if users[value].last() != Some(&(block, inst)) {
                users[value].push((block, inst));
            }
        }
    }
    users
}

/// A value of a loop that an instruction behind an exit uses.
struct Escape {
    value: Value,
    exit: (Block, Block),
    user: (Block, Inst),
}

struct Unrolling<'a> {
    cfg: &'a Cfg,
    nesting: Nesting,
    /// Where values are used. A copy of a block counts as that block.
    users: SecondaryMap<Value, Vec<(Block, Inst)>>,
    /// Copies of the loops' blocks, in front of their headers.
    before: SecondaryMap<Block, Vec<Block>>,
}

impl Unrolling<'_> {
    /// Where the values of a loop are used behind it; `None` if that is not behind a single exit.
    fn escaping(&self, func: &Function, at: usize) -> Option<Vec<Escape>> {
        let each = &self.cfg.loops()[at];
        let inside = |block: Block| self.nesting.contains(self.cfg, at, block);
        let edges = each.blocks.iter().flat_map(|&block| self.cfg.succs(block).iter().map(move |&succ| (block, succ)));
        let exits: Vec<(Block, Block)> = edges.filter(|&(_, succ)| !inside(succ)).collect();
        let mut escaping = Vec::new();
        for &block in &each.blocks {
            let results = func.blocks[block].insts.iter().flat_map(|&inst| &func.insts[inst].results);
            for &value in func.blocks[block].params.iter().chain(results) {
                for &user in self.users[value].iter().filter(|&&(user, _)| !inside(user)) {
                    if exits.len() > EXITS {
                        return None;
                    }
                    let behind = |&&(_, exit): &&(Block, Block)| self.cfg.dominates(exit, user.0);
                    let &exit = exits.iter().find(behind)?;
                    escaping.push(Escape { value, exit, user });
                }
            }
        }
        let alone = |&(_, exit): &(Block, Block)| self.cfg.preds(exit).len() == 1;
        escaping.iter().all(|escape| alone(&escape.exit)).then_some(escaping)
    }

    /// Lets values leave the loop through parameters of its exits.
    fn close(&mut self, func: &mut Function, escaping: &[Escape]) {
        let mut through: BTreeMap<(Block, Value), Value> = BTreeMap::new();
        let mut done: BTreeSet<(Inst, Value)> = BTreeSet::new();
        for &Escape { value, exit, user } in escaping {
            let stand_in = *through.entry((exit.1, value)).or_insert_with(|| pass_through(func, exit, value));
            if done.insert((user.1, value)) {
                func.insts[user.1].map_uses(|used| if used == value { stand_in } else { used });
                self.users[stand_in].push(user);
            }
        }
    }

    fn unroll(&mut self, func: &mut Function, each: &Loop, trips: &Trips) {
        let mut rounds: Vec<SecondaryMap<Block, Option<Block>>> = Vec::new();
        for _ in 0..=trips.stays {
            let mut blocks = SecondaryMap::new();
            for &block in &each.blocks {
                blocks[block] = Some(func.blocks.push(Default::default()));
            }
            rounds.push(blocks);
        }
        for (number, blocks) in rounds.iter().enumerate() {
            let next = rounds.get(number + 1).and_then(|next| next[each.header]).unwrap_or(each.header);
            self.copy_round(func, each, blocks, next);
            // The test is decided.
            let taken = if number as u32 == trips.stays { trips.exit } else { 1 - trips.exit };
            if let Some(test) = blocks[trips.test]
                && let Some(branch) = func.terminator(test)
            {
                let (target, pc) = (func.insts[branch].targets[taken].clone(), func.insts[branch].pc);
                let jump = new_jump(func, target, pc);
                func.blocks[test].insts.pop();
                func.blocks[test].insts.push(jump);
                for &value in &func.insts[jump].targets[0].args {
                    self.users[value].push((trips.test, jump));
                }
            }
            let copies = each.blocks.iter().filter_map(|&block| blocks[block]);
            self.before[each.header].extend(copies);
        }
        for &pred in self.cfg.preds(each.header).iter().filter(|pred| !each.latches.contains(pred)) {
            let (Some(inst), Some(first)) = (func.terminator(pred), rounds[0][each.header]) else { continue };
            for target in func.insts[inst].targets.iter_mut().filter(|target| target.block == each.header) {
                target.block = first;
            }
        }
    }

    /// Copies the blocks of a loop; what goes back goes to `next`.
    fn copy_round(
        &mut self,
        func: &mut Function,
        each: &Loop,
        blocks: &SecondaryMap<Block, Option<Block>>,
        next: Block,
    ) {
        let mut values: BTreeMap<Value, Value> = BTreeMap::new();
        for &block in &each.blocks {
            let Some(copy) = blocks[block] else { continue };
            for at in 0..func.blocks[block].params.len() {
                let param = func.blocks[block].params[at];
                values.insert(param, func.append_param(copy, func.ty(param)));
            }
        }
        // In reverse post-order, so that what is used was copied.
        for &block in &each.blocks {
            let Some(copy) = blocks[block] else { continue };
            let insts: Vec<Inst> = func.blocks[block].insts.clone();
            for inst in insts {
                let mut data = func.insts[inst].clone();
                let old = std::mem::take(&mut data.results);
                let types: Vec<_> = old.iter().map(|&value| func.ty(value)).collect();
                data.map_uses(|value| values.get(&value).copied().unwrap_or(value));
                for BlockCall { block: target, .. } in &mut data.targets {
                    *target = if *target == each.header { next } else { blocks[*target].unwrap_or(*target) };
                }
                let inst = func.create_inst(data, &types);
                for (&old, &new) in old.iter().zip(&func.insts[inst].results) {
                    values.insert(old, new);
                }
                for value in func.insts[inst].uses() {
                    self.users[value].push((block, inst));
                }
                func.blocks[copy].insts.push(inst);
            }
        }
    }
}

/// Hands a value to the exit: as a parameter, or a constant written again.
fn pass_through(func: &mut Function, (from, exit): (Block, Block), value: Value) -> Value {
    if let (Some(word), ValueDef::Result(inst, _)) = (func.constant(value), func.values[value].def) {
        let (ty, pc) = (func.ty(value), func.insts[inst].pc);
        let (inst, constant) = new_inst(func, Opcode::Iconst, Imm::Word(word), &[], ty, pc);
        func.blocks[exit].insts.insert(0, inst);
        return constant;
    }
    let param = func.append_param(exit, func.ty(value));
    let branch = func.terminator(from);
    let target = branch.and_then(|branch| func.insts[branch].targets.iter_mut().find(|target| target.block == exit));
    if let Some(target) = target {
        target.args.push(value);
    }
    param
}
