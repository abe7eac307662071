//! `licm`: loop-invariant code motion.
//!
//! *Does*: moves instructions without effect, and reads of what is fixed during an execution, out of loops when their
//! operands come from outside and they run in every round. Constants stay (they cost nothing where they are), and so
//! does what carries a promise (`narrow`, `sub`), which may only hold inside.
//! *Requires*: every block is reachable. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: the usual form, with the block before the loop as the destination, made if there is none.
//!
//! ```text
//! block1(v1: u256): … v3 = wmul v0, v0; … jump block1(v4)   →   v3 = wmul v0, v0 before the loop
//! ```

use cranelift_entity::SecondaryMap;

use crate::cfg::{Cfg, Loop};
use crate::entities::{Block, Inst, Value};
use crate::function::{BlockCall, Function, ValueDef};
use crate::opcode::{Effects, Opcode};
use crate::passes::Context;
use crate::passes::edit::new_jump;

/// Runs the pass.
pub fn run(func: &mut Function, _cx: &mut Context) -> bool {
    let cfg = Cfg::new(func);
    let mut home: SecondaryMap<Value, Option<Block>> = SecondaryMap::new();
    for &block in &func.layout {
        for &param in &func.blocks[block].params {
            home[param] = Some(block);
        }
        for &inst in &func.blocks[block].insts {
            for &result in &func.insts[inst].results {
                home[result] = Some(block);
            }
        }
    }
    let mut changed = false;
    // Inner loops first: what leaves one may leave the next.
    for each in cfg.loops().iter().rev() {
        let moved = hoist(func, &cfg, each, &mut home);
        changed |= moved;
    }
    changed
}

fn hoist(func: &mut Function, cfg: &Cfg, each: &Loop, home: &mut SecondaryMap<Value, Option<Block>>) -> bool {
    let mut inside: SecondaryMap<Block, bool> = SecondaryMap::new();
    for &block in &each.blocks {
        inside[block] = true;
    }
    let mut moved: Vec<Inst> = Vec::new();
    for &block in &each.blocks {
        if !each.latches.iter().all(|&latch| cfg.dominates(block, latch)) {
            continue;
        }
        let mut kept = Vec::with_capacity(func.blocks[block].insts.len());
        for inst in std::mem::take(&mut func.blocks[block].insts) {
            let data = &func.insts[inst];
            let invariant = is_movable(data.opcode)
                && data
                    .args
                    .iter()
                    .all(|&value| func.constant(value).is_some() || home[value].is_some_and(|block| !inside[block]));
            if invariant {
                // Constants among the operands come along, as copies.
                let first = moved.len();
                copy_constants(func, inst, home, &inside, &mut moved);
                moved.push(inst);
                // From here on what moved counts as defined outside.
                let outside = before(cfg, each, &inside);
                for &inst in &moved[first..] {
                    for &result in &func.insts[inst].results {
                        home[result] = outside;
                    }
                }
            } else {
                kept.push(inst);
            }
        }
        func.blocks[block].insts = kept;
    }
    if moved.is_empty() {
        return false;
    }
    let destination = preheader(func, cfg, each, &inside);
    let at = func.blocks[destination].insts.len().saturating_sub(1);
    func.blocks[destination].insts.splice(at..at, moved);
    true
}

fn is_movable(opcode: Opcode) -> bool {
    let effects = opcode.effects();
    (effects.is_pure() || effects == Effects::READS_INPUT)
        && !matches!(opcode, Opcode::Iconst | Opcode::Narrow | Opcode::Sub)
        && !opcode.is_terminator()
}

/// A block outside the loop that every entry comes from or through; any will do to say "outside".
fn before(cfg: &Cfg, each: &Loop, inside: &SecondaryMap<Block, bool>) -> Option<Block> {
    cfg.preds(each.header).iter().copied().find(|&pred| !inside[pred])
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
