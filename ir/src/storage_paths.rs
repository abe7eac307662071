//! Which hashes are only places in storage: the sites that a circuit can key by their path instead of by Keccak-256.
//!
//! Solidity keeps the entry `k` of a mapping at slot `s` under `keccak256(k ‖ s)`, Vyper under `keccak256(s ‖ k)`, and both
//! keep the items of a dynamic array from `keccak256(s)` on. A hash of known words is *structured* when all that ever
//! happens to it is that it addresses storage, as it is or after an offset was added, or is hashed as the place in which a
//! further mapping lies. Its 256 bits are then never seen: only which place it is matters.
//!
//! What is checked is the module as it stands: every use of the hash, through block parameters, `select`, calls and
//! returns. One use as data (a store to memory, a log, a comparison, an argument of another instruction) and it is not
//! structured.

use std::collections::BTreeSet;

use cranelift_entity::SecondaryMap;

use crate::entities::{Block, Func, Inst, Value};
use crate::function::{Function, Imm, InstData, Module, ValueDef};
use crate::opcode::Opcode;

/// What the hashes of a module are used for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoragePaths {
    /// Hashes of known words that are only places in storage.
    pub structured: BTreeSet<(Func, Inst)>,
    /// Hashes, of words or of memory, that address storage somewhere.
    pub addressing: BTreeSet<(Func, Inst)>,
    /// All hashes.
    pub sites: BTreeSet<(Func, Inst)>,
    /// The values that are places because a structured hash reaches them: its result, sums with an offset, choices, parameters.
    pub places: BTreeSet<(Func, Value)>,
    /// The values that a hash of known words reaches which is a place in storage, and data as well.
    pub escaping: BTreeSet<(Func, Value)>,
}

/// What an operand is used for, if it is a place in storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceUse {
    /// As the address of a slot.
    Address,
    /// To make another place: with an offset, as a choice, as the place in which a mapping or an array lies.
    Place,
    /// As a number.
    Data,
}

/// What operand `at` of `inst` is used for. Arguments of targets, calls and returns pass places on.
pub fn place_use(function: &Function, inst: Inst, at: usize) -> PlaceUse {
    match function.insts[inst].opcode {
        Opcode::Sload | Opcode::Tload => PlaceUse::Address,
        Opcode::Sstore | Opcode::Tstore if at == 0 => PlaceUse::Address,
        // An offset: items of arrays and of structs.
        Opcode::Wadd | Opcode::Add | Opcode::Zext => PlaceUse::Place,
        Opcode::Select if at > 0 => PlaceUse::Place,
        // The place of a mapping inside another one.
        Opcode::KeccakWords if is_place(function, inst, at) => PlaceUse::Place,
        _ => PlaceUse::Data,
    }
}

impl StoragePaths {
    /// Looks at every hash of the module.
    pub fn new(module: &Module) -> Self {
        let uses = Uses::new(module);
        let mut paths = Self::default();
        for (func, function) in &module.funcs {
            for (_, inst) in function.insts_in_order() {
                let data = &function.insts[inst];
                if !matches!(data.opcode, Opcode::KeccakWords | Opcode::Keccak256) {
                    continue;
                }
                paths.sites.insert((func, inst));
                let Some(result) = data.result() else { continue };
                let (seen, reached) = uses.follow(module, func, result);
                if seen.addresses {
                    paths.addressing.insert((func, inst));
                    match data.opcode {
                        Opcode::KeccakWords if seen.escapes => paths.escaping.extend(reached),
                        Opcode::KeccakWords => {
                            paths.structured.insert((func, inst));
                            paths.places.extend(reached);
                        }
                        _ => {}
                    }
                }
            }
        }
        paths
    }
}

/// What was found on following a value.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// It addresses storage.
    addresses: bool,
    /// It is used as data.
    escapes: bool,
}

/// Where a value is used: as operand number `.2` of an instruction, targets' arguments after the operands.
type Use = (Block, Inst, usize);

/// The uses of every value, and the calls of every function.
struct Uses {
    of: SecondaryMap<Func, SecondaryMap<Value, Vec<Use>>>,
    callers: SecondaryMap<Func, Vec<(Func, Inst)>>,
}

impl Uses {
    fn new(module: &Module) -> Self {
        let mut uses = Self { of: SecondaryMap::new(), callers: SecondaryMap::new() };
        for (func, function) in &module.funcs {
            for (block, inst) in function.insts_in_order() {
                let data = &function.insts[inst];
                for (at, value) in data.uses().enumerate() {
                    uses.of[func][value].push((block, inst, at));
                }
                if let (Opcode::Call, Imm::Func(callee)) = (data.opcode, data.imm) {
                    uses.callers[callee].push((func, inst));
                }
            }
        }
        uses
    }

    /// Follows a value through everything that only passes it on; the values that it reaches.
    fn follow(&self, module: &Module, func: Func, value: Value) -> (Seen, BTreeSet<(Func, Value)>) {
        let mut seen = Seen::default();
        let mut done = BTreeSet::from([(func, value)]);
        let mut work = vec![(func, value)];
        while let Some((func, value)) = work.pop() {
            let function = &module.funcs[func];
            for &(_, inst, at) in &self.of[func][value] {
                for next in self.step(module, function, func, (inst, at), &mut seen) {
                    if done.insert(next) {
                        work.push(next);
                    }
                }
            }
        }
        (seen, done)
    }

    /// The values that one use passes the value on to.
    fn step(
        &self,
        module: &Module,
        function: &Function,
        func: Func,
        (inst, at): (Inst, usize),
        seen: &mut Seen,
    ) -> Vec<(Func, Value)> {
        let data = &function.insts[inst];
        if let Some(argument) = at.checked_sub(data.args.len()) {
            return argument_of(function, inst, argument).map(|param| (func, param)).into_iter().collect();
        }
        let result = || data.result().map(|value| (func, value)).into_iter().collect();
        match (data.opcode, place_use(function, inst, at)) {
            (_, PlaceUse::Address) => seen.addresses = true,
            (_, PlaceUse::Place) => return result(),
            (Opcode::Call, PlaceUse::Data) => {
                let Imm::Func(callee) = data.imm else { return Vec::new() };
                let entry = module.funcs[callee].entry();
                let param = entry.and_then(|entry| module.funcs[callee].blocks[entry].params.get(at).copied());
                return param.map(|param| (callee, param)).into_iter().collect();
            }
            (Opcode::Ret, PlaceUse::Data) => {
                let returned = |&(caller, call): &(Func, Inst)| {
                    module.funcs[caller].insts[call].results.get(at).map(|&value| (caller, value))
                };
                return self.callers[func].iter().filter_map(returned).collect();
            }
            (_, PlaceUse::Data) => seen.escapes = true,
        }
        Vec::new()
    }
}

/// The parameter that gets the `at`th of all arguments of an instruction's targets.
fn argument_of(function: &Function, inst: Inst, mut at: usize) -> Option<Value> {
    for target in &function.insts[inst].targets {
        match at.checked_sub(target.args.len()) {
            None => return function.blocks[target.block].params.get(at).copied(),
            Some(rest) => at = rest,
        }
    }
    None
}

/// Whether operand `at` of a hash of words is the place in which a mapping or an array lies: the only word, or one of two
/// of which the other is not one as well. (Of two hashes Solidity's order decides: the key comes first.) Where the last word is hashed
/// in part, it is the first.
fn is_place(function: &Function, inst: Inst, at: usize) -> bool {
    let InstData { args, imm, .. } = &function.insts[inst];
    if !matches!(imm, Imm::Len(len) if len % 32 == 0) {
        return at == 0 && args.len() > 1;
    }
    match (args.len(), at) {
        (1, _) | (2, 1) => true,
        (2, 0) => !is_hash(function, args[1]) && function.constant(args[1]).is_none(),
        _ => false,
    }
}

fn is_hash(function: &Function, value: Value) -> bool {
    match function.values[value].def {
        ValueDef::Result(inst, _) => matches!(function.insts[inst].opcode, Opcode::KeccakWords | Opcode::Keccak256),
        ValueDef::Param(..) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn counts(body: &str) -> (usize, usize, usize) {
        let text = format!("zvm 1\nentry @f\nfunc @f(u256, u256) {{\nblock0(v0: u256, v1: u256):\n{body}}}\n");
        let module = parse(&text).unwrap();
        let paths = StoragePaths::new(&module);
        (paths.structured.len(), paths.addressing.len(), paths.sites.len())
    }

    #[test]
    fn nested_mappings_and_offsets_are_structured() {
        let body = "    v2: u8 = iconst 3\n    v3: u256 = keccak_words 64, v0, v2\n    v4: u256 = keccak_words 64, v1, v3\n    \
                    v5: u1 = iconst 1\n    v6: u256 = wadd v4, v5\n    v7: u256 = sload v6\n    sstore v6, v7\n    stop\n";
        assert_eq!(counts(body), (2, 2, 2));
    }

    #[test]
    fn a_hash_that_is_seen_is_not_structured() {
        let body = "    v2: u8 = iconst 3\n    v3: u256 = keccak_words 64, v0, v2\n    v4: u256 = sload v3\n    \
                    sstore v4, v3\n    stop\n";
        assert_eq!(counts(body), (0, 1, 1));
        let body = "    v2: u8 = iconst 3\n    v3: u256 = keccak_words 64, v0, v2\n    v4: u1 = eq v3, v1\n    \
                    v5: u256 = sload v4\n    return_words 32, v5\n";
        assert_eq!(counts(body), (0, 0, 1));
    }

    #[test]
    fn uses_are_followed_through_blocks() {
        let body = "    v2: u8 = iconst 3\n    v3: u256 = keccak_words 64, v0, v2\n    jump block1(v3)\n\
                    block1(v4: u256):\n    v5: u256 = sload v4\n    return_words 32, v5\n";
        assert_eq!(counts(body), (1, 1, 1));
        let body = "    v2: u8 = iconst 3\n    v3: u256 = keccak_words 64, v0, v2\n    jump block1(v3)\n\
                    block1(v4: u256):\n    v5: u256 = sload v4\n    return_words 64, v5, v4\n";
        assert_eq!(counts(body), (0, 1, 1));
    }
}
