//! `inline-all`: one function without calls.
//!
//! Does: copies every callee that is not recursive into its caller, as long as the result has at most `budget`
//! instructions; a call that stays is left in place.
//! Requires: a verified module. Ensures: one function; calls only of recursive functions or past the budget.
//! Preserves: equality of `Outcome`.
//!
//! ```text
//! func @main() {                          func @main() {
//! block0:                                 block0:
//!     v0: u1 = calldatasize                   v0: u64 = calldatasize
//!     v1: u64 = call @twice(v0)       ⟶       jump block1(v0)
//!     …                                   block1(v2: u64):
//! func @twice(u64) -> u64 {                   v3: u65 = add v2, v2 …
//! ```

use std::collections::BTreeMap;

use zvm_ir::cfg::CallGraph;
use zvm_ir::{Block, BlockCall, Function, Imm, Inst, InstData, Module, Opcode, Type, Value, ValueDef};

/// The entry function of `module` with all calls inlined that can be. `None` if the module has no entry.
pub(super) fn run(module: &Module, budget: usize) -> Option<Function> {
    let entry = &module.funcs[module.entry?];
    let graph = CallGraph::new(module);
    let mut out = Function::new(entry.name.clone());
    let first = copy(entry, &mut out).first().copied()?;
    let mut size = count(entry);
    let mut work: Vec<Block> = out.layout.iter().rev().copied().collect();
    while let Some(block) = work.pop() {
        let call = out.blocks[block].insts.iter().position(|&inst| match out.insts[inst].imm {
            Imm::Func(callee) if out.insts[inst].opcode == Opcode::Call && !graph.is_recursive(callee) => {
                size + count(&module.funcs[callee]) <= budget
            }
            _ => false,
        });
        let Some(at) = call else { continue };
        let inst = out.blocks[block].insts[at];
        let Imm::Func(callee) = out.insts[inst].imm else { continue };
        let callee = &module.funcs[callee];
        size += count(callee);
        work.extend(splice(&mut out, block, at, inst, callee).into_iter().rev());
    }
    debug_assert_eq!(out.layout.first(), Some(&first));
    Some(out)
}

fn count(func: &Function) -> usize {
    func.layout.iter().map(|&block| func.blocks[block].insts.len()).sum()
}

/// Replaces the call `inst`, at place `at` of `block`, by a copy of `callee`. Gives the blocks that may hold calls.
fn splice(out: &mut Function, block: Block, at: usize, inst: Inst, callee: &Function) -> Vec<Block> {
    let rest = out.blocks[block].insts.split_off(at);
    let after = out.create_block();
    out.blocks[after].insts.extend(rest.into_iter().skip(1));
    // The results of the call become the parameters of the block after it, so that their uses stay as they are.
    let InstData { results, args, pc, .. } = out.insts[inst].clone();
    for (at, &value) in results.iter().enumerate() {
        out.values[value].def = ValueDef::Param(after, at);
    }
    out.blocks[after].params = results;
    let blocks = copy(callee, out);
    for &copied in &blocks {
        if let Some(end) = out.terminator(copied)
            && out.insts[end].opcode == Opcode::Ret
        {
            let results = core::mem::take(&mut out.insts[end].args);
            let data = &mut out.insts[end];
            data.opcode = Opcode::Jump;
            data.targets = vec![BlockCall { block: after, args: results }];
        }
    }
    let target = blocks.first().copied().unwrap_or(after);
    let jump = InstData {
        opcode: Opcode::Jump,
        imm: Imm::None,
        args: Vec::new(),
        targets: vec![BlockCall { block: target, args }],
        results: Vec::new(),
        pc,
    };
    let jump = out.create_inst(jump, &[]);
    out.blocks[block].insts.push(jump);
    blocks.into_iter().chain([after]).collect()
}

/// Appends a copy of the blocks of `from` to `out`; gives the new blocks in the order of the layout.
fn copy(from: &Function, out: &mut Function) -> Vec<Block> {
    let mut blocks: BTreeMap<Block, Block> = BTreeMap::new();
    let mut values: BTreeMap<Value, Value> = BTreeMap::new();
    let mut created = Vec::with_capacity(from.layout.len());
    for &block in &from.layout {
        let new = out.create_block();
        blocks.insert(block, new);
        created.push(new);
        for &param in &from.blocks[block].params {
            values.insert(param, out.append_param(new, from.ty(param)));
        }
    }
    let mut insts = Vec::new();
    for (block, inst) in from.insts_in_order() {
        let data = from.insts[inst].clone();
        let types: Vec<Type> = data.results.iter().map(|&value| from.ty(value)).collect();
        let old = data.results.clone();
        let new = out.create_inst(data, &types);
        values.extend(old.into_iter().zip(out.insts[new].results.iter().copied()));
        out.blocks[blocks[&block]].insts.push(new);
        insts.push(new);
    }
    for inst in insts {
        let data = &mut out.insts[inst];
        data.map_uses(|value| values.get(&value).copied().unwrap_or(value));
        for target in &mut data.targets {
            target.block = blocks.get(&target.block).copied().unwrap_or(target.block);
        }
    }
    created
}
