//! No pass does work that grows with the square of the largest contract: the contract twice, side by side in one function that goes
//! one way or the other, with every function that it calls twice, may take each pass twice the looks (`zvm_ir::work`) and a
//! little more, or a few at each instruction.

use std::collections::BTreeMap;
use std::path::Path;

use libtest_mimic::Failed;
use zvm::{Exit, Input, Program, Source};
use zvm_ir::passes::{BESIDE, Goal, PIPELINE, apply};
use zvm_ir::work::looks;
use zvm_ir::{Block, BlockCall, Cursor, Func, Function, Imm, Module, Opcode, Value, verify};

/// Looks that may be more than twice as many, in percent of twice.
const SLACK: u64 = 25;
/// So many looks at each instruction are few, however many fewer there were before: a pass that finds nothing to do ends early.
const FEW: u64 = 16;

/// Applies the pipeline, and the passes beside it, to the contract with the longest code of a folder, once and twice.
pub(crate) fn largest_contract(folder: &Path) -> Result<(), Failed> {
    let (name, once) = largest(folder)?;
    let twice = doubled(&once)?;
    for goal in [Goal::Evm, Goal::Circuit] {
        let (mut one, mut two) = (once.clone(), twice.clone());
        for (number, pass) in PIPELINE.iter().chain(BESIDE).enumerate() {
            let took = |module: &mut Module| -> Result<u64, Failed> {
                let before = looks().ok_or("this build does not count")?;
                apply(pass, module, goal);
                Ok(looks().unwrap_or(before) - before)
            };
            let sizes = (size(&one), size(&two));
            let (first, second) = (took(&mut one)?, took(&mut two)?);
            if second > 2 * first + 2 * first * SLACK / 100 && second > FEW * sizes.1 as u64 {
                let pass = pass.name;
                return Err(format!(
                    "{name} ({goal:?}): {pass} (number {number}) looks {first} times, {second} times where there is twice as much \
                     ({} and {} instructions)",
                    sizes.0, sizes.1
                )
                .into());
            }
        }
    }
    Ok(())
}

fn size(module: &Module) -> usize {
    module.funcs.values().map(|function| function.insts_in_order().count()).sum()
}

fn largest(folder: &Path) -> Result<(String, Module), Failed> {
    let mut contracts = Vec::new();
    for entry in folder.read_dir()? {
        let path = entry?.path().display().to_string();
        let input = Input::read(&path, None)?;
        if let Source::Contract(contract) = &input.source {
            contracts.push((contract.runtime.len(), path, input));
        }
    }
    contracts.sort_by_key(|(len, path, _)| (std::cmp::Reverse(*len), path.clone()));
    for (_, path, input) in contracts {
        match Program::load(&input) {
            Err(error) if error.exit() == Exit::Subset => {}
            program => return Ok((path, program?.module)),
        }
    }
    Err("no contract is lifted".into())
}

/// The module with a second copy of every function, and an entry that is two copies of the old one.
fn doubled(module: &Module) -> Result<Module, Failed> {
    let mut twice = module.clone();
    let entry = module.entry.ok_or("there is no entry")?;
    let mut second: BTreeMap<Func, Func> = BTreeMap::new();
    for (func, function) in &module.funcs {
        let copy = Function { name: format!("{}_again", function.name), ..function.clone() };
        second.insert(func, twice.funcs.push(copy));
    }
    let renamed = |function: &mut Function| {
        for inst in function.insts.values_mut() {
            if let Imm::Func(callee) = inst.imm {
                inst.imm = Imm::Func(second[&callee]);
            }
        }
    };
    for &copy in second.values() {
        renamed(&mut twice.funcs[copy]);
    }
    let old = &module.funcs[entry];
    let mut again = old.clone();
    renamed(&mut again);
    let mut both = Function::new(old.name.clone());
    let start = both.create_block();
    let (first, other) = (copied(&mut both, old), copied(&mut both, &again));
    let mut cursor = Cursor::new(&mut both, start);
    // Nothing that the contract asks about.
    let price = cursor.ins(Opcode::Gasprice, &[]).map_err(|error| error.to_string())?;
    let none = cursor.ins(Opcode::Iszero, &[price]).map_err(|error| error.to_string())?;
    cursor.brif(none, BlockCall { block: first, args: Vec::new() }, BlockCall { block: other, args: Vec::new() });
    twice.funcs[entry] = both;
    verify(&twice).map_err(|errors| format!("{errors:?}"))?;
    Ok(twice)
}

/// Copies the blocks of a function to another; the copy of its entry.
fn copied(into: &mut Function, from: &Function) -> Block {
    let mut blocks: BTreeMap<Block, Block> = BTreeMap::new();
    let mut values: BTreeMap<Value, Value> = BTreeMap::new();
    for &old in &from.layout {
        let new = into.create_block();
        blocks.insert(old, new);
        for &param in &from.blocks[old].params {
            values.insert(param, into.append_param(new, from.ty(param)));
        }
    }
    let mut made = Vec::new();
    for (old, &new) in from.layout.iter().map(|old| (old, &blocks[old])) {
        for &inst in &from.blocks[*old].insts {
            let mut data = from.insts[inst].clone();
            let results = std::mem::take(&mut data.results);
            for target in &mut data.targets {
                target.block = blocks[&target.block];
            }
            let types: Vec<_> = results.iter().map(|&value| from.ty(value)).collect();
            let copy = into.create_inst(data, &types);
            values.extend(results.iter().copied().zip(into.insts[copy].results.iter().copied()));
            into.blocks[new].insts.push(copy);
            made.push(copy);
        }
    }
    for copy in made {
        into.insts[copy].map_uses(|value| values[&value]);
    }
    blocks[&from.layout[0]]
}
