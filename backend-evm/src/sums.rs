//! Of a value and its sum with a constant, the one that is at hand is used.
//!
//! Does: where a block computes `s = a + j` and compares `a` with `k`, both constants, and nothing after the block needs `a`,
//! `s` is compared with `k + j` instead: adding is injective modulo 2^256. A loop then need not keep its counter beside the
//! next one. For the same reason, where all that is made of `a` behind the loop are sums with constants, and `s` is there too,
//! they are made of `s`.
//! Requires: a legalized module in normal form. Ensures: a verified, legalized module.
//! Preserves: equality of `Outcome`.

use std::collections::BTreeMap;

use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, Function, Imm, Inst, InstData, Opcode, Type, Value, Word};

use crate::liveness::{Liveness, canonical};
use crate::selection::{Selection, select};

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

/// Makes the sums behind a loop of what the loop leaves there. Says whether it has changed anything.
pub(crate) fn leave_loops(function: &mut Function, cfg: &Cfg, live: &Liveness) -> bool {
    if cfg.loops().is_empty() {
        return false;
    }
    let mut changed = false;
    let mut uses: BTreeMap<Value, Vec<(Block, Inst)>> = BTreeMap::new();
    for (block, inst) in function.insts_in_order() {
        let data = &function.insts[inst];
        if select(data.opcode, data.args.len()) != Selection::Alias {
            for value in data.uses() {
                uses.entry(canonical(function, value)).or_default().push((block, inst));
            }
        }
    }
    for natural in cfg.loops() {
        for a in function.blocks[natural.header].params.clone() {
            let uses = uses.get(&a).map_or(&[][..], Vec::as_slice);
            let (inside, outside): (Vec<_>, Vec<_>) =
                uses.iter().copied().partition(|(block, _)| natural.blocks.contains(block));
            let sum = |&(_, inst): &(Block, Inst)| shifted(function, inst).filter(|&(of, _)| of == a);
            let Some(sums) = outside.iter().map(sum).collect::<Option<Vec<_>>>().filter(|sums| !sums.is_empty()) else {
                continue;
            };
            let at_hand = |value: Value| outside.iter().all(|&(block, _)| live.live_in[block].contains(value));
            let found = inside.iter().find_map(|use_| {
                let (_, j) = sum(use_)?;
                Some((function.insts[use_.1].result().filter(|&value| at_hand(value))?, j))
            });
            let Some((s, j)) = found else { continue };
            changed = true;
            for (&(block, inst), (_, k)) in outside.iter().zip(sums) {
                make_of(function, block, inst, s, k.wrapping_sub(j));
            }
        }
    }
    changed
}

/// The value that the word is a sum of with a constant, and the constant.
fn shifted(function: &Function, inst: Inst) -> Option<(Value, Word)> {
    let data = &function.insts[inst];
    let &[x, y] = data.args.as_slice() else { return None };
    match data.opcode {
        Opcode::Wadd => {
            let (value, word) =
                function.constant(y).map(|word| (x, word)).or_else(|| function.constant(x).map(|word| (y, word)))?;
            Some((canonical(function, value), word))
        }
        Opcode::Wsub => Some((canonical(function, x), Word::ZERO.wrapping_sub(function.constant(y)?))),
        _ => None,
    }
}

/// Lets an instruction add a constant to `base`.
fn make_of(function: &mut Function, block: Block, inst: Inst, base: Value, constant: Word) {
    let negated = Word::ZERO.wrapping_sub(constant);
    let (opcode, word) = if negated < constant { (Opcode::Wsub, negated) } else { (Opcode::Wadd, constant) };
    let made = constant_before(function, inst, word);
    function.insts[inst].opcode = opcode;
    function.insts[inst].args = vec![base, function.insts[made].results[0]];
    let insts = &mut function.blocks[block].insts;
    if let Some(at) = insts.iter().position(|&other| other == inst) {
        insts.insert(at, made);
    }
}

/// An instruction that makes a constant for another one.
fn constant_before(function: &mut Function, inst: Inst, word: Word) -> Inst {
    let pc = function.insts[inst].pc;
    let data =
        InstData { opcode: Opcode::Iconst, imm: Imm::Word(word), args: vec![], targets: vec![], results: vec![], pc };
    function.create_inst(data, &[Type::of(&word)])
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
    let constant = constant_before(function, inst, word);
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

    /// The module after the sums behind loops are made of what is there.
    fn left(text: &str) -> String {
        let mut module: Module = normal::normalize(&zvm_ir::parse(text).unwrap());
        let facts = liveness::analyze(&module, false);
        for &func in &facts.reachable {
            let cfg = Cfg::new(&module.funcs[func]);
            let live = liveness::liveness(&module, &facts, func, &cfg);
            leave_loops(&mut module.funcs[func], &cfg, &live);
        }
        zvm_ir::verify(&module).unwrap();
        module.to_string()
    }

    const POINTER: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\nv0: u256 = callvalue\njump block1(v0)
        block1(v1: u256):\nv2: u2 = iconst 2\nv3: u256 = wsub v1, v2\nmstore v3, v1\nv4: u256 = caller\nv5: u1 = eq v3, v4
        brif v5, block2, block1(v3)\nblock2:\nv6: u6 = iconst 34\nv7: u256 = wsub v1, v6\nv8: u6 = iconst 40\nv9: u256 = wadd v8, v1
        LAST\n}";

    #[test]
    fn behind_a_loop_sums_are_made_of_what_is_there() {
        let text = left(&POINTER.replace("caller", "gasprice").replace("LAST", "sstore v3, v7\nsstore v9, v7\nstop"));
        assert!(text.contains("iconst 32") && text.contains("iconst 42"), "{text}");
        assert!(text.contains("wsub v3, ") && text.contains("wadd v3, ") && !text.contains("wsub v1, v6"), "{text}");
    }

    #[test]
    fn the_value_itself_is_kept_where_more_is_made_of_it_or_its_sum_is_not_there() {
        for last in ["sstore v3, v7\nsstore v9, v1\nstop", "sstore v9, v7\nstop"] {
            let text = left(&POINTER.replace("caller", "gasprice").replace("LAST", last));
            assert!(text.contains("wsub v1, v6"), "{text}");
        }
    }

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
