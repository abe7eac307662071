//! `licm`: loop-invariant code motion.
//!
//! *Does*: moves instructions without effect, and reads of what is fixed during an execution, out of loops when their
//! operands come from outside, they run in every round, and the cost model says that they cost more than having their results
//! at hand in the loop; what those need comes along. Constants stay (they cost nothing where they are), and so does what
//! carries a promise (`narrow`, `sub`), which may only hold inside.
//! *Requires*: every block is reachable. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: the usual form, with the block before the loop as the destination, made if there is none.
//!
//! ```text
//! block1(v1: u256): … v3 = wmul v0, v0; … jump block1(v4)   →   v3 = wmul v0, v0 before the loop
//! ```

use cranelift_entity::SecondaryMap;

use crate::cfg::{Cfg, Loop};
use crate::cost::price_of;
use crate::entities::{Block, Inst, Value};
use crate::function::{BlockCall, Function, ValueDef};
use crate::opcode::{Effects, Opcode};
use crate::passes::Context;
use crate::passes::edit::{homes, new_jump};

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let cfg = Cfg::new(func);
    let mut home = homes(func);
    let mut changed = false;
    // Inner loops first: what leaves one may leave the next.
    for each in cfg.loops().iter().rev() {
        let moved = hoist(func, cx, &cfg, each, &mut home);
        changed |= moved;
    }
    changed
}

fn hoist(
    func: &mut Function,
    cx: &Context,
    cfg: &Cfg,
    each: &Loop,
    home: &mut SecondaryMap<Value, Option<Block>>,
) -> bool {
    let mut inside: SecondaryMap<Block, bool> = SecondaryMap::new();
    for &block in &each.blocks {
        inside[block] = true;
    }
    let wanted = worth_moving(func, cx, invariants(func, cfg, each, home, &inside));
    if wanted.is_empty() {
        return false;
    }
    let mut moved: Vec<Inst> = Vec::new();
    let mut leaves: SecondaryMap<Inst, bool> = SecondaryMap::new();
    // Any block outside will do to say that what moved is outside.
    let outside = cfg.preds(each.header).iter().copied().find(|&pred| !inside[pred]);
    for &inst in &wanted {
        // Constants among the operands come along, as copies.
        let first = moved.len();
        copy_constants(func, inst, home, &inside, &mut moved);
        moved.push(inst);
        leaves[inst] = true;
        for &inst in &moved[first..] {
            for &result in &func.insts[inst].results {
                home[result] = outside;
            }
        }
    }
    for &block in &each.blocks {
        func.blocks[block].insts.retain(|&inst| !leaves[inst]);
    }
    let destination = preheader(func, cfg, each, &inside);
    let at = func.blocks[destination].insts.len().saturating_sub(1);
    func.blocks[destination].insts.splice(at..at, moved);
    true
}

/// The instructions of a loop that could leave it, each after those whose results it needs.
fn invariants(
    func: &Function,
    cfg: &Cfg,
    each: &Loop,
    home: &SecondaryMap<Value, Option<Block>>,
    inside: &SecondaryMap<Block, bool>,
) -> Vec<Inst> {
    let mut found = Vec::new();
    let mut leaves: SecondaryMap<Value, bool> = SecondaryMap::new();
    for &block in &each.blocks {
        if !each.latches.iter().all(|&latch| cfg.dominates(block, latch)) {
            continue;
        }
        for &inst in &func.blocks[block].insts {
            let data = &func.insts[inst];
            let is_outside = |value: Value| {
                func.constant(value).is_some() || leaves[value] || home[value].is_some_and(|block| !inside[block])
            };
            if is_movable(data.opcode) && data.args.iter().all(|&value| is_outside(value)) {
                found.push(inst);
                for &result in &data.results {
                    leaves[result] = true;
                }
            }
        }
    }
    found
}

/// Those that cost more than having their results at hand, and what they need.
fn worth_moving(func: &Function, cx: &Context, mut insts: Vec<Inst>) -> Vec<Inst> {
    let costs = cx.costs();
    let mut needed: SecondaryMap<Value, bool> = SecondaryMap::new();
    insts.reverse();
    insts.retain(|&inst| {
        let data = &func.insts[inst];
        let carried = data.results.iter().fold(0u64, |sum, &value| sum.saturating_add(costs.carry(func.ty(value))));
        let moves = data.results.iter().any(|&value| needed[value]) || price_of(costs, func, inst) > carried;
        if moves {
            for &arg in &data.args {
                needed[arg] = true;
            }
        }
        moves
    });
    insts.reverse();
    insts
}

fn is_movable(opcode: Opcode) -> bool {
    let effects = opcode.effects();
    (effects.is_pure() || effects == Effects::READS_INPUT)
        && !matches!(opcode, Opcode::Iconst | Opcode::Narrow | Opcode::Sub)
        && !opcode.is_terminator()
}

fn copy_constants(
    func: &mut Function,
    inst: Inst,
    home: &SecondaryMap<Value, Option<Block>>,
    inside: &SecondaryMap<Block, bool>,
    moved: &mut Vec<Inst>,
) {
    for at in 0..func.insts[inst].args.len() {
        let value = func.insts[inst].args[at];
        if home[value].is_some_and(|block| !inside[block]) {
            continue;
        }
        let (Some(word), ValueDef::Result(def, _)) = (func.constant(value), func.values[value].def) else { continue };
        let (ty, pc) = (func.ty(value), func.insts[def].pc);
        let (copy, value) = crate::passes::edit::new_inst(func, Opcode::Iconst, crate::Imm::Word(word), &[], ty, pc);
        moved.push(copy);
        func.insts[inst].args[at] = value;
    }
}

/// The block that jumps to the loop's header from outside, made if there is none.
fn preheader(func: &mut Function, cfg: &Cfg, each: &Loop, inside: &SecondaryMap<Block, bool>) -> Block {
    let outside: Vec<Block> = cfg.preds(each.header).iter().copied().filter(|&pred| !inside[pred]).collect();
    if let [only] = outside[..]
        && func.targets(only).len() == 1
    {
        return only;
    }
    let block = func.blocks.push(Default::default());
    let at = func.layout.iter().position(|&block| block == each.header).unwrap_or(func.layout.len());
    func.layout.insert(at, block);
    let types: Vec<_> = func.blocks[each.header].params.iter().map(|&param| func.ty(param)).collect();
    let args: Vec<Value> = types.into_iter().map(|ty| func.append_param(block, ty)).collect();
    let jump = new_jump(func, BlockCall { block: each.header, args }, None);
    func.blocks[block].insts.push(jump);
    for pred in outside {
        if let Some(inst) = func.terminator(pred) {
            for target in &mut func.insts[inst].targets {
                if target.block == each.header {
                    target.block = block;
                }
            }
        }
    }
    block
}
