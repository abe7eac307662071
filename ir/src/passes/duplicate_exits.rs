//! `duplicate-exits`: blocks that end the execution and that several paths share are given to each path.
//!
//! *Does*: where a word costs less as a value than in memory, as in a circuit, a small block that ends the execution and touches
//! memory at an address that differs by path (or returns a length that does) is copied for each branch to it, if what its
//! memory and addresses cost is worth the room of the rest, and merged into what comes before, until no such block is left or
//! the function has grown by the budget. On each path the address is then known, and `promote-memory` needs no memory for it.
//! For the EVM, where memory is cheap and code is not, nothing is done.
//! *Requires*: every block is reachable. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: tail duplication; a block that ends the execution defines nothing that others use, so that no value needs
//! repair.
//!
//! ```text
//! jump block1(0x24) … jump block1(0x44) … block1(v1): revert 128, v1   →   revert 128, 0x24 … revert 128, 0x44
//! ```

use cranelift_entity::SecondaryMap;

use crate::cfg::Cfg;
use crate::cost::{price_of, room_of};
use crate::entities::{Block, Value};
use crate::function::{BlockData, Function};
use crate::opcode::{Effects, Opcode};
use crate::passes::{Context, simplify_cfg};

/// Blocks with more instructions are not copied, so that a round is linear.
const LARGEST: usize = 24;
/// How often the copies are merged and looked at again.
const ROUNDS: usize = 8;

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    if cx.costs().memory_word() == 0 {
        return false;
    }
    let size: usize = func.layout.iter().map(|&block| func.blocks[block].insts.len()).sum();
    let mut budget = size / 2 + 1000;
    let mut changed = false;
    for _ in 0..ROUNDS {
        if !copy_once(func, cx, &mut budget) {
            break;
        }
        changed = true;
        simplify_cfg::run(func, cx);
    }
    changed
}

fn copy_once(func: &mut Function, cx: &Context, budget: &mut usize) -> bool {
    let cfg = Cfg::new(func);
    let mut changed = false;
    for at in 0..func.layout.len() {
        let block = func.layout[at];
        let cost = func.blocks[block].insts.len();
        if !differs_by_path(func, &cfg, block) || !is_worth(func, cx, block) {
            continue;
        }
        // Each branch but one gets a copy.
        let mut first = true;
        for &pred in cfg.preds(block) {
            let Some(inst) = func.terminator(pred) else { continue };
            for target in 0..func.insts[inst].targets.len() {
                if func.insts[inst].targets[target].block != block || std::mem::take(&mut first) {
                    continue;
                }
                if *budget < cost {
                    return changed;
                }
                *budget -= cost;
                let copy = copy_block(func, block);
                func.insts[inst].targets[target].block = copy;
                changed = true;
            }
        }
    }
    changed
}

/// Whether the block ends the execution, is shared, and touches memory at an address that is no constant.
fn differs_by_path(func: &Function, cfg: &Cfg, block: Block) -> bool {
    let data = &func.blocks[block];
    if data.insts.len() > LARGEST || cfg.preds(block).len() < 2 || func.entry() == Some(block) {
        return false;
    }
    let Some(last) = func.terminator(block) else { return false };
    let ends = matches!(func.insts[last].opcode, Opcode::Return | Opcode::Revert);
    ends && data.insts.iter().any(|&inst| {
        let data = &func.insts[inst];
        let effects = data.opcode.effects();
        let places = if matches!(data.opcode, Opcode::Mstore | Opcode::Mstore8) { 1 } else { data.args.len() };
        (effects.has(Effects::READS_MEMORY) || effects.has(Effects::WRITES_MEMORY))
            && data.args.iter().take(places).any(|&value| func.constant(value).is_none())
    })
}

/// Whether memory, and what is computed from what differs by path (known, then, on each), is worth the room of the rest.
fn is_worth(func: &Function, cx: &Context, block: Block) -> bool {
    let costs = cx.costs();
    let mut by_path: SecondaryMap<Value, bool> = SecondaryMap::new();
    for &param in &func.blocks[block].params {
        by_path[param] = true;
    }
    let (mut saved, mut room) = (0u64, 0u64);
    for &inst in &func.blocks[block].insts {
        let data = &func.insts[inst];
        let effects = data.opcode.effects();
        if effects.has(Effects::READS_MEMORY) || effects.has(Effects::WRITES_MEMORY) {
            saved = saved.saturating_add(costs.memory_word());
        } else if data.opcode.is_pure() && data.args.iter().any(|&value| by_path[value]) {
            saved = saved.saturating_add(price_of(costs, func, inst));
            for &result in &data.results {
                by_path[result] = true;
            }
        } else {
            room = room.saturating_add(room_of(costs, func, inst));
        }
    }
    costs.is_worth(saved, room)
}

fn copy_block(func: &mut Function, block: Block) -> Block {
    let copy = func.blocks.push(BlockData::default());
    func.layout.push(copy);
    let mut values: SecondaryMap<Value, Option<Value>> = SecondaryMap::new();
    for at in 0..func.blocks[block].params.len() {
        let param = func.blocks[block].params[at];
        values[param] = Some(func.append_param(copy, func.ty(param)));
    }
    for at in 0..func.blocks[block].insts.len() {
        let mut data = func.insts[func.blocks[block].insts[at]].clone();
        let old = std::mem::take(&mut data.results);
        let types: Vec<_> = old.iter().map(|&value| func.ty(value)).collect();
        data.map_uses(|value| values[value].unwrap_or(value));
        let inst = func.create_inst(data, &types);
        for (&old, &new) in old.iter().zip(&func.insts[inst].results) {
            values[old] = Some(new);
        }
        func.blocks[copy].insts.push(inst);
    }
    copy
}
