//! `simplify-cfg`: fewer blocks.
//!
//! *Does*: turns branches on constants, and branches whose sides are the same, into jumps; cuts a block after a call
//! that never returns; removes unreachable blocks; redirects branches through blocks that only jump on; where a block
//! does nothing but branch on a parameter, lets its predecessors branch (or, where they know the condition, jump)
//! themselves; merges a block into its only predecessor.
//! *Requires*: nothing. *Ensures*: every block is reachable; no block has a single predecessor that only jumps to it.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: the clean-up that every SSA compiler has; the order (post-order, so that chains shorten in one sweep) is
//! Cranelift's.
//!
//! ```text
//! brif v1, block1, block1   →  jump block1      block1: jump block2(v3)   →  (predecessors jump to block2(v3))
//! ```

use cranelift_entity::SecondaryMap;

use crate::cfg::Cfg;
use crate::entities::{Block, Inst, Value};
use crate::function::{BlockCall, Function, Imm, InstData, ValueDef};
use crate::opcode::{Opcode, TrapCode};
use crate::passes::Context;
use crate::passes::edit::{Aliases, new_jump, remove_unreachable, settle_widths};

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let mut changed = cut_after_calls(func, cx);
    changed |= decide_branches(func);
    changed |= remove_unreachable(func, &Cfg::new(func));
    if skip_empty_blocks(func) | branch_early(func) {
        changed = true;
        // Skipping a block can make both sides of a branch the same.
        decide_branches(func);
        remove_unreachable(func, &Cfg::new(func));
    }
    if merge_into_predecessors(func) {
        changed = true;
        settle_widths(func, cx);
    }
    changed
}

/// What follows a call that never returns is never executed; a `trap` says so to everyone.
fn cut_after_calls(func: &mut Function, cx: &Context) -> bool {
    let mut changed = false;
    for at in 0..func.layout.len() {
        let block = func.layout[at];
        let call = func.blocks[block].insts.iter().position(|&inst| {
            matches!(func.insts[inst].imm, Imm::Func(callee)
                if func.insts[inst].opcode == Opcode::Call && !cx.summary(callee).returns)
        });
        let Some(call) = call else { continue };
        let rest = &func.blocks[block].insts[call + 1..];
        if let [only] = rest
            && func.insts[*only].opcode == Opcode::Trap
        {
            continue;
        }
        let pc = func.insts[func.blocks[block].insts[call]].pc;
        let data = InstData {
            opcode: Opcode::Trap,
            imm: Imm::Trap(TrapCode::Invalid),
            args: Vec::new(),
            targets: Vec::new(),
            results: Vec::new(),
            pc,
        };
        let trap = func.create_inst(data, &[]);
        func.blocks[block].insts.truncate(call + 1);
        func.blocks[block].insts.push(trap);
        changed = true;
    }
    changed
}

fn decide_branches(func: &mut Function) -> bool {
    let mut changed = false;
    for at in 0..func.layout.len() {
        let block = func.layout[at];
        let Some(inst) = func.terminator(block) else { continue };
        let data = &func.insts[inst];
        if data.opcode != Opcode::Brif {
            continue;
        }
        let taken = match func.constant(data.args[0]) {
            Some(word) => usize::from(word.is_zero()),
            None if data.targets[0] == data.targets[1] => 0,
            None => continue,
        };
        let (target, pc) = (data.targets[taken].clone(), data.pc);
        let jump = new_jump(func, target, pc);
        func.blocks[block].insts.pop();
        func.blocks[block].insts.push(jump);
        changed = true;
    }
    changed
}

/// The jump of a block that does nothing else, unless it defines something that others use.
fn only_jump(func: &Function, block: Block, used_elsewhere: &SecondaryMap<Value, bool>) -> Option<Inst> {
    let &[inst] = func.blocks[block].insts.as_slice() else { return None };
    let jumps = func.insts[inst].opcode == Opcode::Jump && func.insts[inst].targets[0].block != block;
    let private = func.blocks[block].params.iter().all(|&param| !used_elsewhere[param]);
    (jumps && private && func.entry() != Some(block)).then_some(inst)
}

/// Values used anywhere but as a parameter in the only instruction of their own block. Others matter to nobody when
/// control goes around that block.
fn used_elsewhere(func: &Function) -> SecondaryMap<Value, bool> {
    let mut used: SecondaryMap<Value, bool> = SecondaryMap::new();
    for &block in &func.layout {
        let alone = func.blocks[block].insts.len() == 1;
        for &inst in &func.blocks[block].insts {
            for value in func.insts[inst].uses() {
                let own = alone && matches!(func.values[value].def, ValueDef::Param(home, _) if home == block);
                used[value] |= !own;
            }
        }
    }
    used
}

/// Blocks that do nothing but branch on one of their parameters: each predecessor that jumps there branches itself, and
/// each that gives a constant goes straight on.
fn branch_early(func: &mut Function) -> bool {
    let used_elsewhere = used_elsewhere(func);
    let cfg = Cfg::new(func);
    let mut changed = false;
    for &block in cfg.reverse_postorder() {
        let &[inst] = func.blocks[block].insts.as_slice() else { continue };
        let data = func.insts[inst].clone();
        let params = func.blocks[block].params.clone();
        let on_param = data.opcode == Opcode::Brif && params.contains(&data.args[0]);
        let private = params.iter().all(|&param| !used_elsewhere[param]);
        if !on_param || !private || data.targets.iter().any(|target| target.block == block) {
            continue;
        }
        for &pred in cfg.preds(block) {
            let Some(branch) = func.terminator(pred) else { continue };
            for at in 0..func.insts[branch].targets.len() {
                let call = func.insts[branch].targets[at].clone();
                if call.block != block {
                    continue;
                }
                let through = |value: Value| {
                    params.iter().position(|&param| param == value).map_or(value, |place| call.args[place])
                };
                let on = |target: &BlockCall| BlockCall {
                    block: target.block,
                    args: target.args.iter().map(|&value| through(value)).collect(),
                };
                let condition = through(data.args[0]);
                if let Some(word) = func.constant(condition) {
                    func.insts[branch].targets[at] = on(&data.targets[usize::from(word.is_zero())]);
                } else if func.insts[branch].opcode == Opcode::Jump {
                    let targets = data.targets.iter().map(on).collect();
                    let copy = InstData { args: vec![condition], targets, ..data.clone() };
                    let copy = func.create_inst(copy, &[]);
                    func.blocks[pred].insts.pop();
                    func.blocks[pred].insts.push(copy);
                } else {
                    continue;
                }
                changed = true;
                break;
            }
        }
    }
    if changed {
        remove_unreachable(func, &Cfg::new(func));
    }
    changed
}

fn skip_empty_blocks(func: &mut Function) -> bool {
    let used_elsewhere = used_elsewhere(func);
    let cfg = Cfg::new(func);
    let mut changed = false;
    for &block in cfg.reverse_postorder().iter().rev() {
        let Some(inst) = func.terminator(block) else { continue };
        for at in 0..func.insts[inst].targets.len() {
            // The bound ends the walk around a cycle of empty blocks.
            for _ in 0..func.layout.len() {
                let call = &func.insts[inst].targets[at];
                let Some(next) = only_jump(func, call.block, &used_elsewhere) else { break };
                let params = &func.blocks[call.block].params;
                let next = &func.insts[next].targets[0];
                if next.block == call.block || call.block == block {
                    break;
                }
                let through = |value: Value| {
                    params.iter().position(|&param| param == value).map_or(value, |place| call.args[place])
                };
                let args = next.args.iter().map(|&value| through(value)).collect();
                func.insts[inst].targets[at] = BlockCall { block: next.block, args };
                changed = true;
            }
        }
    }
    if changed {
        remove_unreachable(func, &Cfg::new(func));
    }
    changed
}

fn merge_into_predecessors(func: &mut Function) -> bool {
    let cfg = Cfg::new(func);
    let mut aliases = Aliases::default();
    let mut merged: SecondaryMap<Block, bool> = SecondaryMap::new();
    let mut changed = false;
    for &block in cfg.reverse_postorder() {
        if merged[block] {
            continue;
        }
        // Takes in a whole chain of blocks, one after the other.
        while let Some(inst) = func.terminator(block) {
            let data = &func.insts[inst];
            if data.opcode != Opcode::Jump {
                break;
            }
            let target = data.targets[0].clone();
            if cfg.preds(target.block).len() != 1 || target.block == block {
                break;
            }
            func.blocks[block].insts.pop();
            let params = std::mem::take(&mut func.blocks[target.block].params);
            for (param, arg) in params.into_iter().zip(target.args) {
                aliases.set(param, arg);
            }
            let insts = std::mem::take(&mut func.blocks[target.block].insts);
            func.blocks[block].insts.extend(insts);
            merged[target.block] = true;
            changed = true;
        }
    }
    func.layout.retain(|&block| !merged[block]);
    aliases.apply(func);
    changed
}
