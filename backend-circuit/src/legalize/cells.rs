//! Which accesses find values below 2^128, so that half of what they find need not be told.
//!
//! The words of memory are one class, for places are mostly computed; each slot of transient storage is one of its own, and so are the words that
//! all activations of a recursion keep at one offset. All begin with zero, so a class holds values below 2^128 if no value that may be as large is stored there; and what is loaded from such
//! a class is below 2^128. Everything is taken to be so until something that is stored says otherwise.
//!
//! Nothing rests on this but which proofs can be made: a circuit that consumes a zero for the high limb of what it finds has no proof where
//! another was left.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::{EntitySet, SecondaryMap};
use zvm_ir::{Function, Imm, Inst, InstData, Opcode, Value, Word};

use crate::gadgets::LIMB;

/// What an access is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Memory.
    Memory,
    /// A slot of transient storage.
    Transient(Option<Word>),
    /// The words at an offset of frames.
    Frame(Option<Word>),
}

/// The class of an access and the value that it stores; `None` for other instructions.
fn access(func: &Function, data: &InstData) -> Option<(Class, Option<Value>)> {
    let offset = match data.imm {
        Imm::Word(offset) => Some(offset),
        _ => None,
    };
    match (data.opcode, data.args.as_slice()) {
        (Opcode::Mload, _) => Some((Class::Memory, None)),
        (Opcode::Mstore, &[_, value]) => Some((Class::Memory, Some(value))),
        (Opcode::Tload, &[slot]) => Some((Class::Transient(func.constant(slot)), None)),
        (Opcode::Tstore, &[slot, value]) => Some((Class::Transient(func.constant(slot)), Some(value))),
        (Opcode::FrameLoad, _) => Some((Class::Frame(offset), None)),
        (Opcode::FrameStore, &[_, value]) => Some((Class::Frame(offset), Some(value))),
        _ => None,
    }
}

/// The loads and stores of memory and transient storage whose cells hold values below 2^128, in a function whose blocks are in reverse
/// post-order and whose transient slots are constants.
pub(super) fn narrow(func: &Function) -> EntitySet<Inst> {
    let accesses: BTreeMap<Inst, (Class, Option<Value>)> =
        func.insts_in_order().filter_map(|(_, inst)| Some((inst, access(func, &func.insts[inst])?))).collect();
    let mut wide = Wide { values: SecondaryMap::new(), classes: BTreeSet::new() };
    let params = func.entry().map_or(&[][..], |entry| &func.blocks[entry].params);
    params.iter().for_each(|&param| wide.values[param] = true);
    let mut changed = !accesses.is_empty();
    while changed {
        changed = false;
        for &block in &func.layout {
            for &inst in &func.blocks[block].insts {
                let data = &func.insts[inst];
                let class = accesses.get(&inst);
                if let Some(result) = data.result() {
                    let is_wide = match class {
                        Some((class, _)) => wide.classes.contains(class),
                        None => wide.result(func, data),
                    };
                    changed |= is_wide && wide.mark(func, result);
                }
                if let Some(&(class, Some(stored))) = class {
                    changed |= wide.is(func, stored) && wide.classes.insert(class);
                }
            }
            for call in func.targets(block) {
                for (&param, &arg) in func.blocks[call.block].params.iter().zip(&call.args) {
                    changed |= wide.is(func, arg) && wide.mark(func, param);
                }
            }
        }
    }
    let mut narrow = EntitySet::new();
    for (&inst, _) in accesses.iter().filter(|(_, (class, _))| !wide.classes.contains(class)) {
        narrow.insert(inst);
    }
    narrow
}

/// What may be 2^128 or more.
struct Wide {
    values: SecondaryMap<Value, bool>,
    classes: BTreeSet<Class>,
}

impl Wide {
    fn is(&self, func: &Function, value: Value) -> bool {
        self.values[value] && u32::from(func.ty(value).bits()) > LIMB
    }

    /// Whether that is new.
    fn mark(&mut self, func: &Function, value: Value) -> bool {
        !core::mem::replace(&mut self.values[value], true) && self.is(func, value)
    }

    /// Whether the result of an instruction that reads no memory may be.
    fn result(&self, func: &Function, data: &InstData) -> bool {
        let constant = |value: Value| func.constant(value);
        match (data.opcode, data.args.as_slice()) {
            (Opcode::Iconst, _) => data.result().and_then(constant).is_none_or(|word| word.bit_len() as u32 > LIMB),
            (Opcode::Zext | Opcode::Trunc | Opcode::Narrow | Opcode::Udiv, &[value, ..]) => self.is(func, value),
            (Opcode::And | Opcode::Urem, &[a, b]) => self.is(func, a) && self.is(func, b),
            (Opcode::Or | Opcode::Xor, &[a, b]) | (Opcode::Select, &[_, a, b]) => self.is(func, a) || self.is(func, b),
            (Opcode::Shr, &[amount, value]) => {
                let is_cut = constant(amount).is_some_and(|amount| amount >= Word::from(256 - LIMB));
                !is_cut && self.is(func, value)
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many accesses of a function with this body there are, and how many are narrow.
    fn accesses(body: &str) -> (usize, usize) {
        let text = format!(
            "zvm 1\nentry @main\nfunc @main() {{\nblock0:\n v0: u1 = iconst 0\n v1: u6 = iconst 32\n{body}\n}}\n"
        );
        let module = zvm_ir::parse(&text).unwrap();
        assert_eq!(zvm_ir::verify(&module), Ok(()));
        let func = module.funcs.values().next().unwrap();
        let narrow = narrow(func);
        let all: Vec<Inst> = func.insts_in_order().map(|(_, inst)| inst).collect();
        let all = all.into_iter().filter(|&inst| access(func, &func.insts[inst]).is_some());
        all.fold((0, 0), |(all, few), inst| (all + 1, few + usize::from(narrow.contains(inst))))
    }

    /// What is loaded and stored again, in a loop, is as narrow as what was stored first.
    #[test]
    fn words_of_memory_are_as_narrow_as_what_is_stored() {
        let moved = |stored: &str| {
            accesses(&format!(
                " v2: u256 = calldataload v0\n{stored} mstore v0, v3\n v4: u256 = mload v1\n jump block1(v4)\nblock1(v5: u256):\n \
                 mstore v1, v5\n v6: u256 = mload v0\n v7: u1 = iszero v6\n brif v7, block2, block1(v6)\nblock2:\n stop"
            ))
        };
        assert_eq!(moved(" v8: u8 = iconst 128\n v3: u256 = shr v8, v2\n"), (4, 4));
        assert_eq!(moved(" v8: u7 = iconst 127\n v3: u256 = shr v8, v2\n"), (4, 0));
        assert_eq!(moved(" v8: u128 = trunc v2\n v3: u256 = zext v8\n"), (4, 4));
        assert_eq!(moved(" v8: u129 = trunc v2\n v3: u256 = zext v8\n"), (4, 0));
        // What a cell holds may wrap around before it is stored again.
        assert_eq!(moved(" v8: u256 = mload v0\n v9: u256 = iconst 1\n v3: u256 = wsub v8, v9\n"), (5, 0));
    }

    #[test]
    fn each_transient_slot_is_by_itself() {
        let body = " v2: u256 = calldataload v0\n tstore v0, v2\n v3: u8 = trunc v2\n v4: u256 = zext v3\n tstore v1, v4\n v5: u256 = tload \
                    v1\n mstore v0, v5\n v6: u256 = tload v0\n stop";
        assert_eq!(accesses(body), (5, 3));
    }
}
