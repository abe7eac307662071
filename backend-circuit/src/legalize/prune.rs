//! Removal of what legalisation leaves behind: unreachable blocks, unused values and parameters, shared exits.

use std::collections::BTreeMap;

use cranelift_entity::SecondaryMap;
use cranelift_entity::packed_option::PackedOption;
use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, Function, Inst, Opcode, Value, ValueDef};

/// Lays the reachable blocks out in reverse post-order and drops the others.
pub(super) fn order(func: &mut Function) {
    func.layout = Cfg::new(func).reverse_postorder().to_vec();
}

/// Drops instructions that only compute values which nobody needs, and parameters that nobody needs. A parameter that
/// only feeds itself around a loop is not needed; the parameters of `halt` are.
pub(super) fn dead_values(func: &mut Function, halt: Option<Block>) {
    let mut live: SecondaryMap<Value, bool> = SecondaryMap::new();
    let mut work: Vec<Value> = halt.map_or_else(Vec::new, |block| func.blocks[block].params.clone());
    let mut arguments: SecondaryMap<Block, Vec<Inst>> = SecondaryMap::new();
    for (_, inst) in func.insts_in_order() {
        let data = &func.insts[inst];
        for target in &data.targets {
            if arguments[target.block].last() != Some(&inst) {
                arguments[target.block].push(inst);
            }
        }
        if !data.opcode.effects().is_removable() {
            work.extend(&data.args);
        }
    }
    while let Some(value) = work.pop() {
        if core::mem::replace(&mut live[value], true) {
            continue;
        }
        match func.values[value].def {
            ValueDef::Result(inst, _) => work.extend(&func.insts[inst].args),
            ValueDef::Param(block, at) => {
                for &inst in &arguments[block] {
                    let targets = func.insts[inst].targets.iter().filter(|target| target.block == block);
                    work.extend(targets.filter_map(|target| target.args.get(at)));
                }
            }
        }
    }
    let params: SecondaryMap<Block, Vec<bool>> = {
        let mut map = SecondaryMap::new();
        for &block in &func.layout {
            map[block] = func.blocks[block].params.iter().map(|&value| live[value]).collect();
        }
        map
    };
    func.retain_params(|block, at| params[block].get(at).copied().unwrap_or(true));
    for &block in &func.layout {
        let insts = &func.insts;
        func.blocks[block].insts.retain(|&inst| {
            let data = &insts[inst];
            !data.opcode.effects().is_removable() || data.results.iter().any(|&value| live[value])
        });
    }
}

/// Gives each branch its own copy of a block that only names constants and jumps, so that regions do not meet there.
/// Such a block is how compilers share one `revert(0, 0)` among all their checks.
pub(super) fn split_shared_exits(func: &mut Function) {
    // Constants that other blocks use stay where they dominate them.
    let mut used_elsewhere: SecondaryMap<Inst, bool> = SecondaryMap::new();
    let mut homes: SecondaryMap<Inst, PackedOption<Block>> = SecondaryMap::new();
    func.insts_in_order().for_each(|(block, inst)| homes[inst] = block.into());
    for (block, inst) in func.insts_in_order() {
        for def in func.insts[inst].uses().filter_map(|value| func.def_inst(value)) {
            used_elsewhere[def] |= homes[def] != block.into();
        }
    }
    let shared: Vec<Block> = func
        .layout
        .iter()
        .copied()
        .filter(|&block| {
            let insts = &func.blocks[block].insts;
            let constants = insts.len().saturating_sub(1);
            func.blocks[block].params.is_empty()
                && !insts.iter().any(|&inst| used_elsewhere[inst])
                && insts.iter().take(constants).all(|&inst| func.insts[inst].opcode == Opcode::Iconst)
                && func.terminator(block).is_some_and(|inst| func.insts[inst].opcode == Opcode::Jump)
                && func.targets(block).iter().all(|target| target.block != block)
        })
        .collect();
    // A copy is not in the layout yet, so what these are does not change on the way.
    let mut branches: SecondaryMap<Block, Vec<(Inst, usize)>> = SecondaryMap::new();
    for (_, inst) in func.insts_in_order() {
        for (at, target) in func.insts[inst].targets.iter().enumerate() {
            branches[target.block].push((inst, at));
        }
    }
    for block in shared {
        for &(inst, at) in branches[block].iter().skip(1) {
            let copy = copy_block(func, block);
            func.insts[inst].targets[at].block = copy;
        }
    }
}

fn copy_block(func: &mut Function, block: Block) -> Block {
    let copy = func.create_block();
    let mut values: BTreeMap<Value, Value> = BTreeMap::new();
    for inst in func.blocks[block].insts.clone() {
        let mut data = func.insts[inst].clone();
        data.map_uses(|value| values.get(&value).copied().unwrap_or(value));
        let types: Vec<_> = data.results.iter().map(|&value| func.ty(value)).collect();
        let old = data.results.clone();
        let new = func.create_inst(data, &types);
        values.extend(old.into_iter().zip(func.insts[new].results.iter().copied()));
        func.blocks[copy].insts.push(new);
    }
    copy
}
