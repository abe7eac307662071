//! `split-places`: a hash that is a place in storage, and a number as well, is made twice.
//!
//! Does: copies every hash that addresses storage and is used as a number somewhere, with all that makes other places of it (sums, choices,
//! parameters). The copies are the numbers; the originals are left as places only, which have keys.
//! Requires: a verified function without calls. Ensures: what a hash reaches that addresses storage is not data.
//! Preserves: equality of `Outcome`; a copy has the value of its original.
//!
//! The number costs its permutation, where it is needed: a place that is stored, logged or compared. Nothing else of the program pays for it.
//!
//! ```text
//! v2: u256 = keccak_words 64, v0, v1              v2: u256 = keccak_words 64, v0, v1      the place
//! v3: u256 = sload v2                     ⟶       v4: u256 = keccak_words 64, v0, v1      the number
//! mstore v9, v2                                   v3: u256 = sload v2
//!                                                 mstore v9, v4
//! ```

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::storage_paths::{PlaceUse, place_use};
use zvm_ir::{Block, Func, Function, InstData, Type, Value, ValueDef};

use super::places::paths;

/// Runs the pass.
pub(super) fn run(func: &mut Function) {
    let (paths, only) = paths(func);
    if paths.escaping.is_empty() {
        return;
    }
    let of_func =
        |values: &BTreeSet<(Func, Value)>| -> BTreeSet<Value> { values.iter().map(|&(_, value)| value).collect() };
    debug_assert!(paths.escaping.iter().all(|&(func, _)| func == only));
    let escaping = of_func(&paths.escaping);
    let places: BTreeSet<Value> = of_func(&paths.places).union(&escaping).copied().collect();
    let twice = made_of(func, &places, escaping);
    copy(func, &twice);
}

/// The values that are copied: those that are data somewhere, and the places that these are made of.
fn made_of(func: &Function, places: &BTreeSet<Value>, escaping: BTreeSet<Value>) -> BTreeSet<Value> {
    let mut incoming: BTreeMap<Block, Vec<&[Value]>> = BTreeMap::new();
    for &block in &func.layout {
        for target in func.targets(block) {
            incoming.entry(target.block).or_default().push(&target.args);
        }
    }
    let mut twice = escaping;
    let mut work: Vec<Value> = twice.iter().copied().collect();
    while let Some(value) = work.pop() {
        let parts: Vec<Value> = match func.values[value].def {
            ValueDef::Result(inst, _) => func.insts[inst].args.clone(),
            ValueDef::Param(block, at) => {
                let args = incoming.get(&block).into_iter().flatten();
                args.filter_map(|args| args.get(at)).copied().collect()
            }
        };
        work.extend(parts.into_iter().filter(|part| places.contains(part) && twice.insert(*part)));
    }
    twice
}

/// Copies the values, and lets what uses them as numbers use the copies.
fn copy(func: &mut Function, twice: &BTreeSet<Value>) {
    let mut copies: BTreeMap<Value, Value> = BTreeMap::new();
    let mut params: BTreeMap<Block, Vec<usize>> = BTreeMap::new();
    for &value in twice {
        if let ValueDef::Param(block, at) = func.values[value].def {
            params.entry(block).or_default().push(at);
            let copy = func.append_param(block, func.ty(value));
            copies.insert(value, copy);
        }
    }
    // Definitions come before uses in the layout, but for parameters.
    for block in func.layout.clone() {
        for inst in core::mem::take(&mut func.blocks[block].insts) {
            let InstData { args, results, .. } = func.insts[inst].clone();
            let number = |value: Value| copies.get(&value).copied().unwrap_or(value);
            if let Some(&result) = results.first().filter(|result| twice.contains(result)) {
                let numbers = args.iter().map(|&arg| number(arg)).collect();
                let data = InstData { args: numbers, results: Vec::new(), ..func.insts[inst].clone() };
                let types: Vec<Type> = results.iter().map(|&value| func.ty(value)).collect();
                let made = func.create_inst(data, &types);
                func.blocks[block].insts.push(made);
                copies.extend(func.insts[made].result().map(|made| (result, made)));
            }
            for (at, arg) in args.into_iter().enumerate() {
                if place_use(func, inst, at) == PlaceUse::Data {
                    func.insts[inst].args[at] = copies.get(&arg).copied().unwrap_or(arg);
                }
            }
            for target in &mut func.insts[inst].targets {
                let more = params.get(&target.block).into_iter().flatten();
                let more: Vec<Value> = more.filter_map(|&at| target.args.get(at).copied()).collect();
                target.args.extend(more.into_iter().map(|arg| copies.get(&arg).copied().unwrap_or(arg)));
            }
            func.blocks[block].insts.push(inst);
        }
    }
}

#[cfg(test)]
mod tests {
    use zvm_ir::Opcode;

    use crate::legalize::legalize;

    /// A place that is stored in memory as well, and one in a loop that is compared: both are places, and their numbers are hashes.
    #[test]
    fn places_that_are_numbers_too_are_hashed() {
        let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u2 = iconst 3\n v3: u256 = \
                    keccak_words 64, v1, v2\n v4: u256 = keccak_words 32, v3\n v5: u256 = wadd v4, v2\n jump block1(v4)\nblock1(v6: u256):\n v7: \
                    u1 = ult v6, v5\n brif v7, block2, block3\nblock2:\n v8: u256 = sload v6\n sstore v8, v2\n v9: u1 = iconst 1\n v10: u256 = \
                    wadd v6, v9\n jump block1(v10)\nblock3:\n stop\n}\n";
        let legalized = legalize(&zvm_ir::parse(text).unwrap()).unwrap();
        assert!(legalized.unprovable.is_empty(), "{}", legalized.func);
        let hashes = legalized.func.insts_in_order().filter(|&(_, inst)| {
            let opcode = legalized.func.insts[inst].opcode;
            matches!(opcode, Opcode::KeccakWords) && legalized.places.layout(inst).is_some()
        });
        assert_eq!(hashes.count(), 2, "{}", legalized.func);
    }
}
