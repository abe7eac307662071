//! Short ends that several paths share are given to each path.
//!
//! Does: a block that ends the execution well (`return`, `stop`) in a few bytes is copied to each block that jumps to it.
//! PUSH, JUMP and JUMPDEST cost 12 gas and four bytes; storing a word and returning it takes six. A block that only
//! returns from the function is copied to each block whose last act is a call that gives what is returned: then the call
//! need not come back here.
//! Requires: a legalized module. Ensures: a verified, legalized module.
//! Preserves: equality of `Outcome`.

use cranelift_entity::SecondaryMap;
use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, Function, Inst, Opcode, Value};

use crate::liveness::canonical;
use crate::selection::{Selection, select};

/// The most bytes that are copied: about twice those of the jump they replace.
const BYTES: usize = 9;

/// Copies the short ends of a function.
pub(crate) fn duplicate(function: &mut Function) {
    let cfg = Cfg::new(function);
    for block in function.layout.clone() {
        if cfg.preds(block).len() < 2 || function.entry() == Some(block) || !is_short_end(function, block) {
            continue;
        }
        for &pred in cfg.preds(block) {
            let Some(jump) = function.terminator(pred) else { continue };
            if function.insts[jump].opcode == Opcode::Jump && pred != block {
                function.blocks[pred].insts.pop();
                let args = function.insts[jump].targets.first().map(|target| target.args.clone()).unwrap_or_default();
                append_copy(function, block, &args, pred);
            }
        }
    }
    let cfg = Cfg::new(function);
    function.layout.retain(|&block| cfg.is_reachable(block));
}

/// Returns at once after each call whose results a function returns.
pub(crate) fn return_after_calls(function: &mut Function) {
    let cfg = Cfg::new(function);
    for block in function.layout.clone() {
        let Some(ret) = only_returns(function, block) else { continue };
        for &pred in cfg.preds(block) {
            let Some(jump) = function.terminator(pred).filter(|_| pred != block) else { continue };
            let [target] = &function.insts[jump].targets[..] else { continue };
            let params = &function.blocks[block].params;
            let passed = |value: Value| params.iter().position(|&param| param == value).map(|at| target.args[at]);
            let returned = function.insts[ret].args.iter().map(|&arg| {
                let arg = canonical(function, arg);
                canonical(function, passed(arg).unwrap_or(arg))
            });
            let call = function.blocks[pred].insts.iter().rev().skip(1).find(|&&inst| acts(function, inst));
            let calls = |&&call: &&Inst| {
                let data = &function.insts[call];
                data.opcode == Opcode::Call && returned.eq(data.results.iter().copied())
            };
            if call.filter(calls).is_some() {
                let args = target.args.clone();
                function.blocks[pred].insts.pop();
                append_copy(function, block, &args, pred);
            }
        }
    }
    let cfg = Cfg::new(function);
    function.layout.retain(|&block| cfg.is_reachable(block));
}

/// The `ret` of a block that does nothing else.
fn only_returns(function: &Function, block: Block) -> Option<Inst> {
    let last = function.terminator(block).filter(|&last| function.insts[last].opcode == Opcode::Ret)?;
    function.blocks[block].insts.iter().all(|&inst| inst == last || !acts(function, inst)).then_some(last)
}

/// Whether an instruction is one on the EVM where it stands.
fn acts(function: &Function, inst: Inst) -> bool {
    let data = &function.insts[inst];
    !matches!(select(data.opcode, data.args.len()), Selection::Remade | Selection::Alias)
}

/// Whether a block ends the execution well in a few bytes. Such a block defines nothing that others use.
fn is_short_end(function: &Function, block: Block) -> bool {
    let Some(last) = function.terminator(block) else { return false };
    let ends = matches!(function.insts[last].opcode, Opcode::Return | Opcode::Stop);
    let bytes: usize = function.blocks[block]
        .insts
        .iter()
        .map(|&inst| {
            let data = &function.insts[inst];
            match select(data.opcode, data.args.len()) {
                Selection::Remade | Selection::Alias => 0,
                _ => 1 + data.args.iter().map(|&arg| operand_bytes(function, arg)).sum::<usize>(),
            }
        })
        .sum();
    ends && bytes <= BYTES
}

/// How long the push of an operand is; values are taken to be on the stack.
fn operand_bytes(function: &Function, value: Value) -> usize {
    function.constant(value).map_or(0, |word| 1 + word.byte_len())
}

fn append_copy(function: &mut Function, block: Block, args: &[Value], to: Block) {
    let mut values: SecondaryMap<Value, Option<Value>> = SecondaryMap::new();
    for (&param, &arg) in function.blocks[block].params.iter().zip(args) {
        values[param] = Some(arg);
    }
    for inst in function.blocks[block].insts.clone() {
        let mut data = function.insts[inst].clone();
        let old = core::mem::take(&mut data.results);
        let types: Vec<_> = old.iter().map(|&value| function.ty(value)).collect();
        data.map_uses(|value| values[value].unwrap_or(value));
        let copy = function.create_inst(data, &types);
        for (&old, &new) in old.iter().zip(&function.insts[copy].results) {
            values[old] = Some(new);
        }
        function.blocks[to].insts.push(copy);
    }
}
