//! Normal form of the control flow, which makes edges simple for the stack scheduler.
//!
//! Does: cuts blocks after calls that never come back; drops unreachable blocks; replaces the parameters of blocks with one
//! predecessor by the arguments; joins a block with its only successor when it is the only predecessor; puts a block on
//! every edge from a branch to a block with several predecessors.
//! Requires: a verified module. Ensures: a verified module in which the targets of `brif` have no parameters and one
//! predecessor, so that only `jump` carries arguments.
//! Preserves: equality of `Outcome`.

use cranelift_entity::SecondaryMap;
use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, BlockCall, Func, Function, Imm, InstData, Module, Opcode, TrapCode, Value};

use crate::liveness;

/// Normalizes every function of a module.
pub(crate) fn normalize(module: &Module) -> Module {
    let mut out = module.clone();
    let returns = liveness::returning_functions(module);
    for function in out.funcs.values_mut() {
        cut_after_lost_calls(function, &returns);
        let cfg = Cfg::new(function);
        function.layout.retain(|&block| cfg.is_reachable(block));
        substitute_parameters(function, &cfg);
        join_blocks(function, &cfg);
        split_edges(function);
    }
    out
}

/// Nothing comes after a call of a function that never returns.
fn cut_after_lost_calls(function: &mut Function, returns: &SecondaryMap<Func, bool>) {
    for block in function.layout.clone() {
        let lost = function.blocks[block].insts.iter().position(|&inst| match function.insts[inst].imm {
            Imm::Func(callee) => !returns[callee],
            _ => false,
        });
        if let Some(at) = lost {
            let pc = function.insts[function.blocks[block].insts[at]].pc;
            let trap = InstData {
                opcode: Opcode::Trap,
                imm: Imm::Trap(TrapCode::Invalid),
                args: Vec::new(),
                targets: Vec::new(),
                results: Vec::new(),
                pc,
            };
            let trap = function.create_inst(trap, &[]);
            let insts = &mut function.blocks[block].insts;
            insts.truncate(at + 1);
            insts.push(trap);
        }
    }
}

fn substitute_parameters(function: &mut Function, cfg: &Cfg) {
    let mut replaced: SecondaryMap<Value, Option<Value>> = SecondaryMap::new();
    for &block in cfg.reverse_postorder() {
        let &[pred] = cfg.preds(block) else { continue };
        let params = core::mem::take(&mut function.blocks[block].params);
        let Some(terminator) = function.terminator(pred) else { continue };
        for target in &mut function.insts[terminator].targets {
            if target.block == block {
                for (&param, &arg) in params.iter().zip(&core::mem::take(&mut target.args)) {
                    replaced[param] = Some(arg);
                }
            }
        }
    }
    // An argument may itself be a replaced parameter. Each chain ends, because a parameter is replaced by a value whose
    // definition dominates it.
    function.map_uses(|mut value| {
        while let Some(next) = replaced[value] {
            value = next;
        }
        value
    });
}

fn join_blocks(function: &mut Function, cfg: &Cfg) {
    let mut joined: SecondaryMap<Block, bool> = SecondaryMap::new();
    for &block in cfg.reverse_postorder() {
        if joined[block] {
            continue;
        }
        while let Some(terminator) = function.terminator(block)
            && function.insts[terminator].opcode == Opcode::Jump
            && let Some(next) = function.insts[terminator].targets.first().map(|target| target.block)
            && cfg.preds(next).len() == 1
            && next != block
        {
            joined[next] = true;
            let tail = core::mem::take(&mut function.blocks[next].insts);
            let insts = &mut function.blocks[block].insts;
            insts.pop();
            insts.extend(tail);
        }
    }
    function.layout.retain(|&block| !joined[block]);
}

fn split_edges(function: &mut Function) {
    let cfg = Cfg::new(function);
    for block in function.layout.clone() {
        let Some(terminator) = function.terminator(block) else { continue };
        if function.insts[terminator].opcode != Opcode::Brif {
            continue;
        }
        for at in 0..function.insts[terminator].targets.len() {
            let target = function.insts[terminator].targets[at].clone();
            if cfg.preds(target.block).len() < 2 {
                continue;
            }
            let pc = function.insts[terminator].pc;
            let edge = function.create_block();
            let jump = InstData {
                opcode: Opcode::Jump,
                imm: Imm::None,
                args: Vec::new(),
                targets: vec![target],
                results: Vec::new(),
                pc,
            };
            let jump = function.create_inst(jump, &[]);
            function.blocks[edge].insts.push(jump);
            function.insts[terminator].targets[at] = BlockCall { block: edge, args: Vec::new() };
        }
    }
}
