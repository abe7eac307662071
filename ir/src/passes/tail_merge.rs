//! `tail-merge`: blocks that do the same are one.
//!
//! *Does*: of blocks with the same instructions on the same values, which end the execution or go on to the same place, all but the
//! first go, and branches to them go there, unless the cost model has rather the room of both than a jump more. Panics and
//! messages that a compiler wrote out at every check are the main case. A block is compared as it is written, with what it
//! defines numbered in order; blocks that touch memory, storage or logs are left alone, because what is known of those differs
//! by path, and so is a block of which others use what it computes.
//! *Requires*: every block is reachable; equal values are one value. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`]. An instruction of a block that went has no place in the bytecode any more; that
//! of the first one stands for both.
//! *After*: tail merging (cross-jumping), whole blocks only.
//!
//! ```text
//! block1: revert_words 4, v0   block2: revert_words 4, v0   →   block1: revert_words 4, v0 (branches to block2 go to block1)
//! ```

use std::collections::{BTreeMap, HashMap};

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::cfg::Cfg;
use crate::cost::room_of;
use crate::entities::{Block, Value};
use crate::function::{Function, Imm};
use crate::opcode::{Effects, Opcode};
use crate::passes::Context;
use crate::passes::edit::{homes, new_inst, remove_unreachable};
use crate::types::Type;

/// Blocks with more instructions are not compared.
const LARGEST: usize = 24;

/// A value as a block sees it.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Seen {
    /// Number so-and-so of those that the block defines.
    Own(usize),
    /// A constant, wherever it is written.
    Constant(Word, Type),
    /// Defined elsewhere.
    Other(Value),
}

/// An instruction as it is compared.
type Line = (Opcode, Imm, Vec<Seen>, Vec<(Block, Vec<Seen>)>, Vec<Type>);

/// A block as it is compared: the types of its parameters, and its instructions.
type Shape = (Vec<Type>, Vec<Line>);

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let cfg = Cfg::new(func);
    let costs = cx.costs();
    let used_outside = used_outside(func);
    // Only looked up, never iterated, so that hash order cannot show.
    let mut first: HashMap<Shape, Block> = HashMap::new();
    let mut same: SecondaryMap<Block, Option<Block>> = SecondaryMap::new();
    let mut kept: SecondaryMap<Block, bool> = SecondaryMap::new();
    let mut changed = false;
    // Successors first, so that blocks that go on to blocks that are the same are the same in turn.
    for &block in cfg.reverse_postorder().iter().rev() {
        if func.entry() == Some(block) || used_outside[block] || func.blocks[block].insts.len() > LARGEST {
            continue;
        }
        let insts = &func.blocks[block].insts;
        let room = insts.iter().fold(0u64, |sum, &inst| sum.saturating_add(room_of(costs, func, inst)));
        if costs.is_worth(costs.jump(), room) {
            continue;
        }
        let Some(shape) = shape(func, block, &same) else { continue };
        match first.get(&shape) {
            // A block on the way to the other (the header of a loop, say) stays.
            Some(&other) if !cfg.dominates(other, block) && !cfg.dominates(block, other) => {
                same[block] = Some(other);
                kept[other] = true;
                changed = true;
            }
            Some(_) => {}
            None => {
                first.insert(shape, block);
            }
        }
    }
    if !changed {
        return false;
    }
    for block in func.layout.clone() {
        if kept[block] {
            write_constants(func, block);
        }
        let Some(inst) = func.terminator(block) else { continue };
        for target in &mut func.insts[inst].targets {
            target.block = same[target.block].unwrap_or(target.block);
        }
    }
    remove_unreachable(func, &Cfg::new(func));
    true
}

/// Writes the constants that a block uses in the block: those around it need not come before the blocks that now branch to it.
fn write_constants(func: &mut Function, block: Block) {
    let mut written: BTreeMap<(Word, Type), Value> = BTreeMap::new();
    let mut made = Vec::new();
    for inst in func.blocks[block].insts.clone() {
        let uses: Vec<Value> = func.insts[inst].uses().collect();
        let pc = func.insts[inst].pc;
        let mut replaced = Vec::with_capacity(uses.len());
        for value in uses {
            let Some(word) = func.constant(value) else {
                replaced.push(value);
                continue;
            };
            let ty = func.ty(value);
            let constant = *written.entry((word, ty)).or_insert_with(|| {
                let (inst, value) = new_inst(func, Opcode::Iconst, Imm::Word(word), &[], ty, pc);
                made.push(inst);
                value
            });
            replaced.push(constant);
        }
        let mut replaced = replaced.into_iter();
        func.insts[inst].map_uses(|value| replaced.next().unwrap_or(value));
    }
    func.blocks[block].insts.splice(0..0, made);
}

/// Blocks whose values others use; a constant is written again where it is used.
fn used_outside(func: &Function) -> SecondaryMap<Block, bool> {
    let home = homes(func);
    let mut used: SecondaryMap<Block, bool> = SecondaryMap::new();
    for (block, inst) in func.insts_in_order() {
        for value in func.insts[inst].uses() {
            if let Some(home) = home[value].filter(|&home| home != block) {
                used[home] = true;
            }
        }
    }
    used
}

/// What the block does; `None` if it is not to be merged.
fn shape(func: &Function, block: Block, same: &SecondaryMap<Block, Option<Block>>) -> Option<Shape> {
    let data = &func.blocks[block];
    let mut own: HashMap<Value, usize> =
        data.params.iter().copied().enumerate().map(|(at, param)| (param, at)).collect();
    let mut lines = Vec::with_capacity(data.insts.len());
    for &inst in &data.insts {
        let data = &func.insts[inst];
        let effects = data.opcode.effects();
        let quiet = effects.is_pure() || effects == Effects::READS_INPUT || effects == Effects::TERMINATES;
        if !quiet || matches!(data.opcode, Opcode::Brif | Opcode::Ret) {
            return None;
        }
        if data.opcode == Opcode::Iconst {
            continue;
        }
        let seen = |&value: &Value| match (func.constant(value), own.get(&value)) {
            (Some(word), _) => Seen::Constant(word, func.ty(value)),
            (None, Some(&at)) => Seen::Own(at),
            (None, None) => Seen::Other(value),
        };
        let args = data.args.iter().map(seen).collect();
        let on = |target: &crate::BlockCall| {
            (same[target.block].unwrap_or(target.block), target.args.iter().map(seen).collect())
        };
        let targets = data.targets.iter().map(on).collect();
        let types = data.results.iter().map(|&value| func.ty(value)).collect();
        lines.push((data.opcode, data.imm, args, targets, types));
        for &result in &data.results {
            own.insert(result, own.len());
        }
    }
    Some((data.params.iter().map(|&param| func.ty(param)).collect(), lines))
}
