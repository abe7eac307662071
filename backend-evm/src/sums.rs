//! A value that is compared is the one that is at hand.
//!
//! Does: where a block computes `s = a + j` and compares `a` with `k`, both constants, and nothing after the block needs `a`,
//! `s` is compared with `k + j` instead: adding is injective modulo 2^256. A loop then need not keep its counter beside the
//! next one.
//! Requires: a legalized module in normal form. Ensures: a verified, legalized module.
//! Preserves: equality of `Outcome`.

use zvm_ir::{Block, Function, Imm, Inst, InstData, Opcode, Type, Value, Word};

use crate::liveness::{Liveness, canonical};

/// Rewrites the comparisons of a function, given what lives.
pub(crate) fn compare_sums(function: &mut Function, live: &Liveness) {
    for block in function.layout.clone() {
        let Some(last) = function.terminator(block) else { continue };
        let data = &function.insts[last];
        let (Opcode::Brif, Some(&asked)) = (data.opcode, data.args.first()) else { continue };
        // The comparison is put before the branch, where the sum is there, so it must be for nobody else.
        let inst =
            function.blocks[block].insts.iter().copied().find(|&inst| function.insts[inst].result() == Some(asked));
        if let Some(inst) = inst
            && let Some((a, k)) = compared(function, inst)
            && !live.live_out[block].contains(canonical(function, a))
            && is_single(function, asked)
            && let Some((sum, j)) = function.blocks[block].insts.iter().find_map(|&other| sum_of(function, other, a))
            && live.live_out[block].contains(canonical(function, sum))
        {
            rewrite(function, block, inst, sum, k.wrapping_add(j));
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
    let same = |value| canonical(function, value) == canonical(function, a);
    let word = match (same(x), same(y)) {
        (true, false) => function.constant(y)?,
        (false, true) => function.constant(x)?,
        _ => return None,
    };
    Some((data.result()?, word))
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

#[cfg(test)]
mod tests {
    use zvm_ir::Module;
    use zvm_ir::cfg::Cfg;

    use super::*;
    use crate::{liveness, normal};

    /// The module after normal form and the rewriting.
    fn rewritten(text: &str) -> String {
        let mut module: Module = normal::normalize(&zvm_ir::parse(text).unwrap());
        let facts = liveness::analyze(&module, false);
        for &func in &facts.reachable {
            let live = liveness::liveness(&module, &facts, func, &Cfg::new(&module.funcs[func]));
            compare_sums(&mut module.funcs[func], &live);
        }
        zvm_ir::verify(&module).unwrap();
        module.to_string()
    }

    const LOOP: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\nv0: u256 = callvalue\njump block1(v0)
        block1(v1: u256):\nv2: u3 = iconst 7\nv3: u1 = eq v1, v2\nv4: u1 = iconst 1\nv5: u256 = wadd v1, v4
        mstore v5, v4\nbrif v3, block2, block1(v5)\nblock2:\nLAST\n}";

    #[test]
    fn a_counter_is_compared_by_its_successor() {
        let text = rewritten(&LOOP.replace("LAST", "stop"));
        assert!(text.contains("eq v5, ") && !text.contains("eq v1, ") && text.contains("iconst 8"), "{text}");
    }

    #[test]
    fn a_value_that_lives_on_stays() {
        let text = rewritten(&LOOP.replace("LAST", "sstore v1, v4\nstop"));
        assert!(text.contains("eq v1, ") && !text.contains("iconst 8"), "{text}");
    }
}
