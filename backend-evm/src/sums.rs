//! A value that is compared is the one that is at hand.
//!
//! Does: where a block computes `s = a + j` and compares `a` with `k`, both constants, and nothing after the block needs `a`,
//! `s` is compared with `k + j` instead: adding is injective modulo 2^256. A loop then need not keep its counter beside the
//! next one.
//! Requires: a legalized module. Ensures: a verified, legalized module.
//! Preserves: equality of `Outcome`.

use std::collections::BTreeMap;

use zvm_ir::{Block, Function, Imm, Inst, InstData, Opcode, Type, Value, Word};

/// Rewrites the comparisons of a function.
pub(crate) fn compare_sums(function: &mut Function) {
    // In which block each value is used; `None` for more than one.
    let mut places: BTreeMap<Value, Option<Block>> = BTreeMap::new();
    for (block, inst) in function.insts_in_order() {
        for value in function.insts[inst].uses() {
            let place = places.entry(value).or_insert(Some(block));
            if *place != Some(block) {
                *place = None;
            }
        }
    }
    for block in function.layout.clone() {
        for inst in function.blocks[block].insts.clone() {
            let Some((a, k)) = compared(function, inst) else { continue };
            if places.get(&a) != Some(&Some(block)) || is_passed_on(function, block, a) {
                continue;
            }
            let sum = function.blocks[block].insts.iter().find_map(|&other| sum_of(function, other, a));
            let result = function.insts[inst].result();
            let last = function.terminator(block);
            // It is put before the branch, where the sum is there.
            let asked = last.filter(|&last| {
                let data = &function.insts[last];
                data.opcode == Opcode::Brif && data.args.first().copied() == result
            });
            if let (Some((sum, j)), Some(_), Some(true)) = (sum, asked, result.map(|value| is_single(function, value))) {
                rewrite(function, block, inst, sum, k.wrapping_add(j));
            }
        }
    }
}

/// `a` and the constant that it is compared with.
fn compared(function: &Function, inst: Inst) -> Option<(Value, Word)> {
    let data = &function.insts[inst];
    let (Opcode::Eq, &[a, b]) = (data.opcode, data.args.as_slice()) else { return None };
    function.constant(b).map(|word| (a, word)).or_else(|| function.constant(a).map(|word| (b, word)))
}

/// The sum of `a` and a constant.
fn sum_of(function: &Function, inst: Inst, a: Value) -> Option<(Value, Word)> {
    let data = &function.insts[inst];
    let (Opcode::Add | Opcode::Wadd, &[x, y]) = (data.opcode, data.args.as_slice()) else { return None };
    let word = match (x == a, y == a) {
        (true, false) => function.constant(y)?,
        (false, true) => function.constant(x)?,
        _ => return None,
    };
    Some((data.result()?, word))
}

fn is_passed_on(function: &Function, block: Block, value: Value) -> bool {
    function.targets(block).iter().any(|target| target.args.contains(&value))
}

fn is_single(function: &Function, value: Value) -> bool {
    let uses = function.insts_in_order().flat_map(|(_, inst)| function.insts[inst].uses());
    uses.filter(|&other| other == value).count() == 1
}

/// Puts the comparison of `sum` with `word` in the place of the instruction, before the branch.
fn rewrite(function: &mut Function, block: Block, inst: Inst, sum: Value, word: Word) {
    let data = InstData {
        opcode: Opcode::Iconst,
        imm: Imm::Word(word),
        args: Vec::new(),
        targets: Vec::new(),
        results: Vec::new(),
        pc: function.insts[inst].pc,
    };
    let constant = function.create_inst(data, &[Type::of(&word)]);
    let value = function.insts[constant].results[0];
    function.insts[inst].args = vec![sum, value];
    let insts = &mut function.blocks[block].insts;
    insts.retain(|&other| other != inst);
    let before = insts.len().saturating_sub(1);
    insts.splice(before..before, [constant, inst]);
}
