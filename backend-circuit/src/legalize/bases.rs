//! `name-bases`: where an address of storage is made of a constant that is the hash of a slot, it is made of this hash.
//!
//! Does: follows the addresses of storage back to the constants that they are sums with or choices of, and that parameters are given; hashes
//! those whose preimage is found ([`preimages`]) where they are used, if nothing but places is made of them.
//! Requires: a verified function without calls. Ensures: a verified function.
//! Preserves: equality of `Outcome`: the hash is the constant.
//!
//! ```text
//! v1: u256 = iconst 0xc65a…d2a8                   v1: u4 = iconst 10
//! v3: u256 = wadd v0, v1                  ⟶       v2: u256 = keccak_words 32, v1
//! v4: u256 = sload v3                             v3: u256 = wadd v0, v2
//!                                                 v4: u256 = sload v3
//! ```
//!
//! Compilers know the hash of an array's slot, and fold it. Without its preimage the sum is a number of 256 bits, which is no key.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::{Block, Function, Imm, Inst, InstData, Opcode, Type, Value, ValueDef, Word};

use super::exits::instruction;
use super::places::{inner, paths, preimages, scheme, stands_alone};
use crate::place::{OFFSET_BITS, Preimages, Scheme};

/// Runs the pass.
pub(super) fn run(func: &mut Function) {
    let before = structured(func);
    let scheme = scheme(func, &before);
    let uses = uses_of_constants(func, &scheme);
    if uses.is_empty() {
        return;
    }
    let own: BTreeSet<Word> = func.values.keys().filter_map(|value| func.constant(value)).collect();
    let wanted: Vec<Word> = uses.iter().map(|found| found.word).collect();
    let known = preimages(&own, &wanted, &scheme);
    let named: Vec<Named> = uses.iter().filter_map(|found| name(func, &known, found)).collect();
    if named.is_empty() {
        return;
    }
    // Where something else is made of it, it has to be a number.
    let places = structured(func);
    let mut dropped: BTreeSet<Inst> = BTreeSet::new();
    for Named { inst, data, hash, made } in named.into_iter().rev() {
        if !places.contains(&hash) {
            func.insts[inst] = data;
            dropped.extend(made);
        }
    }
    for block in func.layout.clone() {
        func.blocks[block].insts.retain(|inst| !dropped.contains(inst));
    }
}

/// The hashes that are only places.
fn structured(func: &Function) -> BTreeSet<Inst> {
    let (paths, only) = paths(func);
    inner(&paths.structured, only)
}

/// A constant that is part of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    block: Block,
    inst: Inst,
    /// Which of the values that the instruction reads, its targets' arguments included.
    at: usize,
    /// What is added, given or chosen.
    word: Word,
}

/// The constants of 2^64 or more that addresses of storage are made of and that may be hashes.
fn uses_of_constants(func: &Function, scheme: &Scheme) -> BTreeSet<Found> {
    let blocks: BTreeMap<Inst, Block> = func.insts_in_order().map(|(block, inst)| (inst, block)).collect();
    let mut incoming: BTreeMap<Block, Vec<(Inst, usize)>> = BTreeMap::new();
    for &inst in blocks.keys() {
        let data = &func.insts[inst];
        let mut first = data.args.len();
        for target in &data.targets {
            incoming.entry(target.block).or_default().push((inst, first));
            first += target.args.len();
        }
    }
    let mut found = BTreeSet::new();
    let mut seen: BTreeSet<Value> = BTreeSet::new();
    let mut work: Vec<Value> = blocks.keys().filter_map(|&inst| address(func, inst, scheme)).collect();
    while let Some(value) = work.pop() {
        if !seen.insert(value) || func.constant(value).is_some() {
            continue;
        }
        let parts: Vec<(Inst, usize)> = match func.values[value].def {
            ValueDef::Result(inst, _) => match func.insts[inst].opcode {
                Opcode::Wadd | Opcode::Add | Opcode::Wsub => vec![(inst, 0), (inst, 1)],
                Opcode::Zext => vec![(inst, 0)],
                Opcode::Select => vec![(inst, 1), (inst, 2)],
                _ => Vec::new(),
            },
            ValueDef::Param(block, at) => {
                incoming.get(&block).into_iter().flatten().map(|&(inst, first)| (inst, first + at)).collect()
            }
        };
        for (inst, at) in parts {
            let data = &func.insts[inst];
            let Some(part) = data.uses().nth(at) else { continue };
            let is_taken = data.opcode == Opcode::Wsub && at == 1;
            match func.constant(part) {
                Some(word) => {
                    let word = if is_taken { word.wrapping_neg() } else { word };
                    if word.bit_len() as u32 > OFFSET_BITS && !stands_alone(&word) {
                        found.insert(Found { block: blocks[&inst], inst, at, word });
                    }
                }
                None if !is_taken => work.push(part),
                None => {}
            }
        }
    }
    found
}

/// The address of a storage instruction, or the place in a hash.
fn address(func: &Function, inst: Inst, scheme: &Scheme) -> Option<Value> {
    let data = &func.insts[inst];
    match (data.opcode, data.imm) {
        (Opcode::Sload | Opcode::Sstore | Opcode::Tload | Opcode::Tstore, _) => data.args.first().copied(),
        (Opcode::KeccakWords, Imm::Len(len)) => scheme.layout(len).split(&data.args).0.copied(),
        _ => None,
    }
}

/// A constant that a hash stands for now.
struct Named {
    inst: Inst,
    /// The instruction before.
    data: InstData,
    hash: Inst,
    /// What was put before it.
    made: Vec<Inst>,
}

/// Puts the hash that a constant is, or lies a little above, before the instruction, and in the place of the constant.
fn name(func: &mut Function, known: &Preimages, found: &Found) -> Option<Named> {
    let &Found { block, inst, at, word } = found;
    let (&hash, words, _) = known.below(&word)?;
    let data = func.insts[inst].clone();
    let is_word = |value: Value| func.ty(value) == Type::WORD;
    // Places have the type of a word all the way.
    let fits = match data.opcode {
        Opcode::Wadd | Opcode::Wsub => true,
        Opcode::Add | Opcode::Select => data.result().is_some_and(is_word),
        _ => is_word(data.uses().nth(at)?),
    };
    if !fits {
        return None;
    }
    let mut made = Vec::new();
    let mut make = |func: &mut Function, opcode, imm, args: Vec<Value>, ty| {
        let new = func.create_inst(InstData { args, ..instruction(opcode, imm, data.pc) }, &[ty]);
        made.push(new);
        (new, func.insts[new].results[0])
    };
    let mut args = Vec::with_capacity(words.len());
    for word in words {
        args.push(make(func, Opcode::Iconst, Imm::Word(*word), Vec::new(), Type::of(word)).1);
    }
    let (hash_inst, mut place) = make(func, Opcode::KeccakWords, Imm::Len(32 * words.len() as u32), args, Type::WORD);
    if word != hash {
        let offset = word - hash;
        let offset = make(func, Opcode::Iconst, Imm::Word(offset), Vec::new(), Type::of(&offset)).1;
        place = make(func, Opcode::Wadd, Imm::None, vec![place, offset], Type::WORD).1;
    }
    if data.opcode == Opcode::Wsub || data.opcode == Opcode::Add {
        func.insts[inst].opcode = Opcode::Wadd;
    }
    let mut index = 0;
    func.insts[inst].map_uses(|value| {
        index += 1;
        if index == at + 1 { place } else { value }
    });
    let insts = &mut func.blocks[block].insts;
    let before = insts.iter().position(|&other| other == inst)?;
    insts.splice(before..before, made.iter().copied());
    Some(Named { inst, data, hash: hash_inst, made })
}

#[cfg(test)]
mod tests {
    use zvm_ir::Opcode;

    use crate::legalize::{Legalized, legalize};

    /// The hash of ten, and what is missing to 2^256.
    const TEN: &str = "0xc65a7bb8d6351c1cf70c95a316cc6a92839c986682d98bc35f958f4883f9d2a8";
    const LESS: &str = "0x39a5844729cae3e308f36a5ce933956d7c6367997d26743ca06a70b77c062d58";

    fn legal(lines: &str) -> Legalized {
        let text = format!(
            "zvm 1\nentry @main\nfunc @main() {{\nblock0:\nv0: u1 = iconst 0\nv1: u256 = calldataload v0\nv2: u1 = iconst 1\n{lines}\n}}"
        );
        legalize(&zvm_ir::parse(&text).unwrap()).unwrap()
    }

    /// The hashes that are keys, and the sums that are.
    fn keys(legalized: &Legalized) -> (usize, usize) {
        let insts = || legalized.func.insts_in_order().map(|(_, inst)| inst);
        let sum = |&inst: &zvm_ir::Inst| {
            let data = &legalized.func.insts[inst];
            data.opcode == Opcode::Wadd && data.result().is_some_and(|value| legalized.places.is_carried(value))
        };
        (insts().filter(|&inst| legalized.places.layout(inst).is_some()).count(), insts().filter(sum).count())
    }

    #[test]
    fn items_of_an_array_whose_hash_was_folded_are_places() {
        for (lines, expected) in [
            (format!("v3: u256 = iconst {TEN}\nv4: u256 = wadd v3, v1\nsstore v4, v2\nstop"), (1, 1)),
            (format!("v3: u254 = iconst {LESS}\nv4: u256 = wsub v1, v3\nsstore v4, v2\nstop"), (1, 1)),
            // The second member of a struct in the array.
            (format!("v3: u256 = iconst {}9\nv4: u256 = wadd v1, v3\nsstore v4, v2\nstop", &TEN[..65]), (1, 2)),
            // A mapping in the array.
            (
                format!(
                    "v3: u256 = iconst {TEN}\nv4: u256 = wadd v3, v1\nv5: u256 = keccak_words 64, v1, v4\nsstore v5, v2\nstop"
                ),
                (2, 1),
            ),
            // A pointer that runs through the array.
            (
                format!(
                    "v3: u256 = iconst {TEN}\njump block1(v3, v1)\nblock1(v4: u256, v5: u256):\nsstore v4, v5\nv6: u256 = wadd v4, v2\n                     v7: u256 = wsub v5, v2\nv8: u1 = iszero v7\nbrif v8, block2, block1(v6, v7)\nblock2:\nstop"
                ),
                (1, 1),
            ),
        ] {
            let legalized = legal(&lines);
            assert_eq!(keys(&legalized), expected, "{}", legalized.func);
            assert!(legalized.unprovable.is_empty(), "{}", legalized.func);
        }
    }

    #[test]
    fn what_is_a_number_as_well_stays_one() {
        for lines in [
            format!("v3: u256 = iconst {TEN}\nv4: u256 = wadd v3, v1\nsstore v4, v4\nstop"),
            format!("v3: u256 = iconst {TEN}\nv4: u256 = wadd v3, v1\nsstore v1, v4\nstop"),
            // The hash of nothing that the program says.
            "v3: u256 = iconst 0xabc0000000000000000000000000000000000000000000000000000000000007\nv4: u256 = wadd v3, v1\nsstore v4, v2\nstop"
                .to_owned(),
        ] {
            let legalized = legal(&lines);
            assert_eq!(keys(&legalized), (0, 0), "{}", legalized.func);
        }
    }
}
