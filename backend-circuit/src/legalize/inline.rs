//! `inline-all`: one function without calls.
//!
//! Does: copies every callee that is not recursive into its caller, as long as the result has at most `budget`
//! instructions; a call that stays is left in place. A large function that would be copied several times is copied once, and
//! shared by its calls ([`share`]); so are the functions of a recursion, which keep on a stack what they need after a call ([`recursion`]).
//! Requires: a verified module. Ensures: one function; calls only where a recursion is too deep, or past the budget.
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

mod recursion;
pub(super) mod share;

use std::collections::BTreeMap;

use zvm_ir::cfg::CallGraph;
use zvm_ir::{Block, BlockCall, Func, Function, Imm, Inst, InstData, Module, Opcode, Type, Value, ValueDef};

use super::support::{Support, support};
use crate::costs::{Costs, Operand};
use crate::error::CircuitError;
pub(crate) use recursion::FRAME_WORDS;
use recursion::Recursion;
pub(super) use share::{Body, Group};

/// A function of this many rows is not copied to each of its calls: a plan would need slots of each copy, and what calls share costs
/// less than a hundredth of it.
pub const SHARED_ROWS: u64 = 1 << 14;

/// The entry function of `module` with all calls inlined that can be. Functions of at least `shared_rows` rows are shared by
/// their calls.
///
/// # Errors
/// `NoEntry` if the module has no entry.
pub(super) fn run(module: &Module, budget: usize, shared_rows: u64) -> Result<Function, CircuitError> {
    let main = module.entry.ok_or(CircuitError::NoEntry)?;
    let entry = &module.funcs[main];
    let graph = CallGraph::new(module);
    let mut out = Function::new(entry.name.clone());
    let first = copy(entry, &mut out).first().copied();
    let mut size = count(entry);
    let mut shared = Vec::new();
    for (funcs, limit) in to_share(module, &graph, main, shared_rows)? {
        let mut bodies = funcs.into_iter().map(|callee| {
            size += count(&module.funcs[callee]);
            Body { callee, blocks: copy(&module.funcs[callee], &mut out) }
        });
        match limit {
            None => shared.extend(bodies.next().map(Group::Shared)),
            Some(limit) => shared.push(Group::Recursion(Recursion { bodies: bodies.collect(), limit })),
        }
    }
    let is_shared = |callee: Func| shared.iter().flat_map(Group::bodies).any(|body| body.callee == callee);
    let mut work: Vec<Block> = out.layout.iter().rev().copied().collect();
    while let Some(block) = work.pop() {
        let call = out.blocks[block].insts.iter().position(|&inst| match out.insts[inst].imm {
            Imm::Func(callee)
                if out.insts[inst].opcode == Opcode::Call && !graph.is_recursive(callee) && !is_shared(callee) =>
            {
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
    debug_assert_eq!(out.layout.first().copied(), first);
    share::run(&mut out, &shared, None, |_| false);
    Ok(out)
}

/// The rows of a hash, whatever its length: one is reason enough to share what holds it.
const HASH_ROWS: u64 = 1 << 17;

/// The rows of a function's gadgets, about: nothing is known of operands but their types.
fn own_rows(func: &Function, costs: &mut Costs) -> Result<u64, CircuitError> {
    let mut rows = 0u64;
    for (_, inst) in func.insts_in_order() {
        let data = &func.insts[inst];
        let Some(result) = data.result() else { continue };
        if support(data.opcode) != Support::Gadget || matches!(data.opcode, Opcode::Iconst | Opcode::Zext) {
            continue;
        }
        let own = match data.opcode {
            Opcode::KeccakWords | Opcode::KeccakF => HASH_ROWS,
            opcode => {
                let operand = |&value: &Value| match func.constant(value) {
                    Some(word) => Operand::Constant(func.ty(value).bits(), word & func.ty(value).max_value()),
                    None => Operand::Typed(func.ty(value).bits()),
                };
                costs.rows(opcode, data.imm, data.args.iter().map(operand).collect(), func.ty(result))?
            }
        };
        rows = rows.saturating_add(own);
    }
    Ok(rows)
}

/// How many recursions the longest chain of calls enters.
fn nested_recursions(calls: &BTreeMap<Func, BTreeMap<Func, u64>>, graph: &CallGraph) -> u32 {
    let mut nested: BTreeMap<Func, u32> = BTreeMap::new();
    for component in graph.components() {
        let callees = component.iter().flat_map(|func| calls.get(func).into_iter().flatten());
        let below = callees.filter_map(|(callee, _)| nested.get(callee)).copied().max().unwrap_or(0);
        let own = u32::from(component.iter().any(|&func| graph.is_recursive(func)));
        nested.extend(component.iter().map(|&func| (func, below + own)));
    }
    nested.into_values().max().unwrap_or(0)
}

/// Functions that are copied once, and how many of them may be active at once if they are of a recursion.
type Once = (Vec<Func>, Option<u32>);

/// The functions that are shared, callers before callees: those of many rows that inlining would copy more than once, and those of recursions.
fn to_share(module: &Module, graph: &CallGraph, main: Func, shared_rows: u64) -> Result<Vec<Once>, CircuitError> {
    let is_copied_once = |&func: &Func| graph.call_sites(func) < 2 && !graph.is_recursive(func);
    if graph.components().iter().flatten().all(is_copied_once) {
        return Ok(Vec::new());
    }
    let mut costs = Costs::default();
    let mut rows: BTreeMap<Func, u64> = BTreeMap::new();
    // How often each function is called, by others in the order in which they are written.
    let mut calls: BTreeMap<Func, BTreeMap<Func, u64>> = BTreeMap::new();
    for func in graph.components().iter().flatten().copied() {
        let function = &module.funcs[func];
        let mut callees: BTreeMap<Func, u64> = BTreeMap::new();
        for (_, inst) in function.insts_in_order() {
            if let (Opcode::Call, Imm::Func(callee)) = (function.insts[inst].opcode, function.insts[inst].imm) {
                *callees.entry(callee).or_insert(0) += 1;
            }
        }
        let own = own_rows(function, &mut costs)?;
        let inner = callees.iter().map(|(callee, &count)| rows.get(callee).copied().unwrap_or(0).saturating_mul(count));
        rows.insert(func, inner.fold(own, u64::saturating_add));
        calls.insert(func, callees);
    }
    let nested = nested_recursions(&calls, graph);
    let mut copies: BTreeMap<Func, u64> = BTreeMap::from([(main, 1)]);
    let mut shared = Vec::new();
    for component in graph.components().iter().rev() {
        let recurs = component.iter().any(|&func| graph.is_recursive(func));
        let limit = recursion::limit(module, main, component, nested);
        let is_called = component.iter().any(|func| copies.contains_key(func));
        if recurs && is_called {
            shared.push((component.clone(), Some(limit)));
        }
        for &func in component {
            let mut own = copies.get(&func).copied().unwrap_or(0);
            if recurs {
                own = u64::from(is_called);
            } else if own > 1 && func != main && rows.get(&func).is_some_and(|&rows| rows >= shared_rows) {
                shared.push((vec![func], None));
                own = 1;
            }
            for (&callee, &count) in calls.get(&func).into_iter().flatten() {
                let entry = copies.entry(callee).or_insert(0);
                *entry = entry.saturating_add(count.saturating_mul(own));
            }
        }
    }
    Ok(shared)
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
