//! Long constants that a block needs again and again are pushed once and copied.
//!
//! Does: a constant of many bytes with many uses in a block becomes the result of an instruction, `not` of its complement,
//! which stands before all such blocks and outside loops; the scheduler then keeps it on the stack like any other value. A DUP costs the gas of a
//! PUSH, and up to 32 bytes less: unrolled hash functions would not fit an account otherwise.
//! Requires: a legalized module. Ensures: a verified, legalized module.
//! Preserves: equality of `Outcome`.

use std::collections::BTreeMap;

use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, Function, Imm, Inst, InstData, Module, Opcode, Type, Value, Word};

use crate::{Optimize, Options, constant};

/// How many constants a function keeps: the stack is short.
const KEPT: usize = 4;

/// Shares constants in every function of a module; whether there were any to share.
pub(crate) fn share(module: &mut Module, options: &Options) -> bool {
    let (uses, bytes) = match options.optimize {
        Optimize::None => return false,
        Optimize::Gas => (8, 20),
        Optimize::Size => (4, 9),
    };
    let mut changed = false;
    for function in module.funcs.values_mut() {
        // For each constant the blocks that use it often, and what its bytes there come to.
        let mut found: BTreeMap<Word, (usize, Vec<Block>)> = BTreeMap::new();
        for &block in &function.layout {
            for (word, count) in counts(function, block) {
                if count >= uses {
                    let len = constant::materialize(word, options.fork, options.optimize).code.len();
                    if len >= bytes {
                        let entry = found.entry(word).or_default();
                        entry.0 += count * len;
                        entry.1.push(block);
                    }
                }
            }
        }
        let mut found: Vec<(usize, Word, Vec<Block>)> =
            found.into_iter().map(|(word, (saved, blocks))| (saved, word, blocks)).collect();
        found.sort_unstable_by(|a, b| b.cmp(a));
        found.truncate(KEPT);
        if found.is_empty() {
            continue;
        }
        let cfg = Cfg::new(function);
        for (_, word, blocks) in found {
            if let Some(home) = home(&cfg, &blocks) {
                share_in(function, home, &blocks, word);
                changed = true;
            }
        }
    }
    changed
}

/// The last block that comes before all of `blocks` and is in no loop.
pub(crate) fn home(cfg: &Cfg, blocks: &[Block]) -> Option<Block> {
    let mut at = *blocks.first()?;
    while cfg.innermost_loop(at).is_some() || !blocks.iter().all(|&block| cfg.dominates(at, block)) {
        at = cfg.idom(at)?;
    }
    Some(at)
}

/// How often each constant is an operand in a block.
fn counts(function: &Function, block: Block) -> BTreeMap<Word, usize> {
    let mut counts = BTreeMap::new();
    for &inst in &function.blocks[block].insts {
        for word in function.insts[inst].args.iter().filter_map(|&value| function.constant(value)) {
            *counts.entry(word).or_default() += 1;
        }
    }
    counts
}

/// Makes the constant at the start of `home`, in each width that `blocks` ask for, and lets them use it.
fn share_in(function: &mut Function, home: Block, blocks: &[Block], word: Word) {
    let Some(&first) = function.blocks[home].insts.first() else { return };
    let mut made: Vec<Inst> = Vec::new();
    let complement = push(function, &mut made, Opcode::Iconst, Imm::Word(!word), &[], Type::of(&!word), first);
    let whole = push(function, &mut made, Opcode::Not, Imm::None, &[complement], Type::WORD, first);
    let mut shared: Vec<(Type, Value)> = vec![(Type::WORD, whole)];
    for &block in blocks {
        for inst in function.blocks[block].insts.clone() {
            for at in 0..function.insts[inst].args.len() {
                let arg = function.insts[inst].args[at];
                if function.constant(arg) != Some(word) {
                    continue;
                }
                let ty = function.ty(arg);
                let known = shared.iter().find(|&&(other, _)| other == ty).map(|&(_, value)| value);
                let value = known.unwrap_or_else(|| {
                    let value = push(function, &mut made, Opcode::Narrow, Imm::None, &[whole], ty, first);
                    shared.push((ty, value));
                    value
                });
                function.insts[inst].args[at] = value;
            }
        }
    }
    function.blocks[home].insts.splice(0..0, made);
}

/// Makes an instruction with one result, from where `user` comes from.
pub(crate) fn push(
    function: &mut Function,
    out: &mut Vec<Inst>,
    opcode: Opcode,
    imm: Imm,
    args: &[Value],
    ty: Type,
    user: Inst,
) -> Value {
    let pc = function.insts[user].pc;
    let data = InstData { opcode, imm, args: args.to_vec(), targets: Vec::new(), results: Vec::new(), pc };
    let inst = function.create_inst(data, &[ty]);
    out.push(inst);
    function.insts[inst].results[0]
}
