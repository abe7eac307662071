//! `legalize`: a module becomes one function that the circuit can do, except at named exits.
//!
//! Does: makes hashes of an unknown number of bytes loops; inlines all calls; branches where a place in memory may be beyond the limit; turns what has no circuit into *unprovable* blocks; drops memory writes that no provable
//! execution can observe, and makes all other accesses those of aligned words; makes every halt a jump to one halt block; hoists reads of calldata and environment to the
//! entry, once each; lets all hashes share a permutation, or gives the only one a block of its own.
//! Requires: a verified module. Ensures: the shape that [`Legalized`] describes.
//! Preserves: equality of `Outcome` for every execution that reaches no unprovable block.

mod bases;
mod bounds;
mod calldata;
mod cells;
mod data;
mod emit;
mod escapes;
mod exits;
mod hashes;
mod inline;
mod masks;
mod memory;
mod permutations;
mod places;
mod prune;
mod residues;
mod returndata;
mod sponge;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::{EntityRef, EntitySet, SecondaryMap};
use zvm_ir::{Block, Function, Imm, Inst, Module, Opcode, Type, Value, Word};

pub(crate) use inline::FRAME_WORDS;
pub use inline::SHARED_ROWS;
pub use memory::PLACE_BITS;
pub use places::{Places, preimages, stands_alone};
pub(crate) use support::support_of;
pub use support::{Reason, Support, Unprovable, support};

use self::exits::{UnprovableBlocks, Writes};
use crate::error::CircuitError;
use crate::gadgets::limb_count;
use crate::lower::Features;
use crate::registers::{Source, source};
use crate::trace::ACCESS_ELEMENTS;

/// Calldata words beyond this many bytes are not opened.
pub const MAX_CALLDATA: u32 = 8192;
/// The most words that are hashed at once: eight permutations.
pub const MAX_HASH_WORDS: usize = 33;
/// The most instructions that inlining may make of a program.
pub const MAX_INSTS: usize = 200_000;

/// A program in the form the circuit is made from.
///
/// Terminators are `jump`, `brif`, one `stop` that ends the halt block, and one `trap` in each unprovable block, which
/// holds nothing else. Inputs are read in the entry block only, each at most once.
#[derive(Clone, Debug)]
pub struct Legalized {
    /// The only function, its blocks in reverse post-order.
    pub func: Function,
    /// The halt block; its parameters are the halt code, the length in bytes and the words. `None` if no provable path
    /// halts.
    pub halt: Option<Block>,
    /// The blocks that no proof may reach.
    pub unprovable: BTreeMap<Block, Unprovable>,
    /// What values mean as addresses of storage. None is refused any more.
    pub places: Places,
    /// The slots of transient storage that the function uses, in order.
    transient: Vec<Word>,
    /// The loads and stores whose cells hold values below 2^128.
    narrow: EntitySet<Inst>,
}

impl Legalized {
    /// How many field elements carry `value` between regions: one for a place, else as many as its type has limbs.
    pub fn limb_count(&self, value: Value) -> usize {
        if self.places.is_carried(value) { 1 } else { limb_count(u32::from(self.func.ty(value).bits())) }
    }

    /// The place in memory that stands for a constant slot of transient storage: a word that no place in memory
    /// reaches, whatever its type. `None` if the slot is not
    /// constant, or not one that the function uses.
    pub(crate) fn transient_place(&self, slot: Value) -> Option<u64> {
        let number = self.transient.binary_search(&self.func.constant(slot)?).ok()?;
        Some((3 << (PLACE_BITS - 1)) + 32 * number as u64)
    }

    /// The place in memory that stands for the words of frames from the immediate `offset` on: no place in memory reaches it, nor does
    /// transient storage lie behind it. `None` for another immediate.
    pub(crate) fn frame_place(offset: Imm) -> Option<u64> {
        let Imm::Word(offset) = offset else { return None };
        let number = u64::try_from(offset).ok().filter(|&offset| offset < FRAME_WORDS)?;
        Some((5 << (PLACE_BITS - 2)) + 32 * number)
    }

    /// How many field elements say what a load or a store finds in its cell: one for each limb that is not known to be zero.
    pub(crate) fn limbs_found(&self, inst: Inst) -> usize {
        if self.narrow.contains(inst) { 1 } else { ACCESS_ELEMENTS }
    }

    /// What the function does besides computing.
    pub fn features(&self) -> Features {
        let mut features = Features::default();
        for (_, inst) in self.func.insts_in_order() {
            match self.func.insts[inst].opcode {
                Opcode::Sload => features.storage = true,
                Opcode::Sstore => (features.storage, features.storage_writes) = (true, true),
                Opcode::Log | Opcode::LogWords => features.logs = true,
                Opcode::Mload
                | Opcode::Mstore
                | Opcode::Tload
                | Opcode::Tstore
                | Opcode::FrameLoad
                | Opcode::FrameStore => features.memory = true,
                Opcode::Note => features.data = true,
                Opcode::Calldataload => {
                    features.calldata |= support_of(&self.func, &self.func.insts[inst]) == Support::Lookup
                }
                _ => {}
            }
        }
        features
    }
}

/// Runs the pass. The module must have been verified.
///
/// # Errors
/// [`CircuitError::NoEntry`] for a module without entry function.
pub fn legalize(module: &Module) -> Result<Legalized, CircuitError> {
    legalize_sharing(module, SHARED_ROWS)
}

/// As [`legalize`], where functions of at least `shared_rows` rows are shared by their calls.
///
/// # Errors
/// As [`legalize`].
pub fn legalize_sharing(module: &Module, shared_rows: u64) -> Result<Legalized, CircuitError> {
    let module = sponge::lower(module)?;
    let mut func = inline::run(&module, MAX_INSTS, shared_rows)?;
    drop_notes(&mut func);
    own_balance(&mut func);
    returndata::run(&mut func);
    memory::bound_places(&mut func);
    bounds::branch(&mut func);
    prune::order(&mut func);
    let mut unprovable = UnprovableBlocks::new();
    calldata::lower(&mut func, &mut unprovable);
    prune::order(&mut func);
    memory::drop_unseen_writes(&mut func, &unprovable);
    prune::dead_values(&mut func, None);
    bases::run(&mut func);
    escapes::run(&mut func);
    // What reads memory on the way to an exit keeps no write.
    exits::cut_unprovable(&mut func, &mut unprovable, Writes::Unseen);
    prune::order(&mut func);
    memory::drop_unseen_writes(&mut func, &unprovable);
    prune::dead_values(&mut func, None);
    exits::cut_unprovable(&mut func, &mut unprovable, Writes::Seen);
    prune::order(&mut func);
    memory::lower(&mut func);
    prune::order(&mut func);
    let halt = exits::merge_halts(&mut func, &unprovable);
    masks::run(&mut func);
    prune::split_shared_exits(&mut func);
    prune::dead_values(&mut func, halt);
    hoist_inputs(&mut func);
    // A branch to an unprovable block passes nothing.
    func.retain_params(|block, _| !unprovable.contains_key(&block));
    prune::dead_values(&mut func, halt);
    let mut places = Places::new(&func);
    if permutations::run(&mut func, halt, &places) {
        prune::order(&mut func);
        prune::dead_values(&mut func, halt);
        places = Places::new(&func);
    }
    hashes::isolate(&mut func, &places);
    prune::order(&mut func);
    Ok(renumber(&func, halt, &unprovable))
}

/// Notes of a program mean nothing. What the circuit hashes is noted later.
fn drop_notes(func: &mut Function) {
    for block in func.layout.clone() {
        let insts = &func.insts;
        func.blocks[block].insts.retain(|&inst| insts[inst].opcode != Opcode::Note);
    }
}

/// The balance of the account that executes is an input, however it is asked for: compilers before Istanbul had no other way.
fn own_balance(func: &mut Function) {
    for block in func.layout.clone() {
        for inst in func.blocks[block].insts.clone() {
            let data = &func.insts[inst];
            let [account] = data.args.as_slice() else { continue };
            let is_own = match source(func, *account) {
                Source::Value(account) => {
                    func.def_inst(account).is_some_and(|inst| func.insts[inst].opcode == Opcode::Address)
                }
                Source::Constant(_) => false,
            };
            if data.opcode == Opcode::Balance && is_own {
                let data = &mut func.insts[inst];
                (data.opcode, data.args) = (Opcode::Selfbalance, Vec::new());
            }
        }
    }
}

fn renumber(func: &Function, halt: Option<Block>, unprovable: &BTreeMap<Block, Unprovable>) -> Legalized {
    let mut numbers: SecondaryMap<Block, Option<Block>> = SecondaryMap::new();
    for (at, &block) in func.layout.iter().enumerate() {
        numbers[block] = Some(Block::new(at));
    }
    let func = func.compact();
    let slots = func.insts_in_order().filter_map(|(_, inst)| {
        let data = &func.insts[inst];
        let is_transient = matches!(data.opcode, Opcode::Tload | Opcode::Tstore);
        data.args.first().filter(|_| is_transient).and_then(|&slot| func.constant(slot))
    });
    let transient: BTreeSet<Word> = slots.collect();
    Legalized {
        transient: transient.into_iter().collect(),
        narrow: cells::narrow(&func),
        places: Places::new(&func),
        func,
        halt: halt.and_then(|block| numbers[block]),
        unprovable: unprovable.iter().filter_map(|(&block, &exit)| Some((numbers[block]?, exit))).collect(),
    }
}

/// Moves every read of an input to the entry block, one read per input. Inputs do not change while a program runs.
fn hoist_inputs(func: &mut Function) {
    let Some(entry) = func.entry() else { return };
    let mut reads: BTreeMap<(Opcode, Word), Vec<Value>> = BTreeMap::new();
    let mut pcs = BTreeMap::new();
    for block in func.layout.clone() {
        let (inputs, rest): (Vec<_>, Vec<_>) =
            func.blocks[block].insts.iter().partition(|&&inst| support_of(func, &func.insts[inst]) == Support::Input);
        func.blocks[block].insts = rest;
        for inst in inputs {
            let data = &func.insts[inst];
            let offset = data.args.first().and_then(|&value| func.constant(value)).unwrap_or(Word::ZERO);
            let key = (data.opcode, offset);
            reads.entry(key).or_default().extend(data.result());
            pcs.entry(key).or_insert(data.pc);
        }
    }
    let body = core::mem::take(&mut func.blocks[entry].insts);
    let mut renamed: SecondaryMap<Value, Option<Value>> = SecondaryMap::new();
    for ((opcode, offset), values) in reads {
        let pc = pcs.get(&(opcode, offset)).copied().flatten();
        let mut data = exits::instruction(opcode, Imm::None, pc);
        if opcode == Opcode::Calldataload {
            data.args = vec![exits::constant(func, entry, pc, Type::of(&offset), offset)];
        }
        let Some(&first) = values.first() else { continue };
        let ty = func.ty(first);
        let inst = func.create_inst(data, &[ty]);
        func.blocks[entry].insts.push(inst);
        for value in values {
            renamed[value] = func.insts[inst].result();
        }
    }
    func.blocks[entry].insts.extend(body);
    func.map_uses(|value| renamed[value].unwrap_or(value));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Legalized {
        let module = zvm_ir::parse(text).unwrap();
        assert_eq!(zvm_ir::verify(&module), Ok(()));
        let out = legalize(&module).unwrap();
        let mut shell = Module::new();
        shell.entry = Some(shell.funcs.push(out.func.clone()));
        assert_eq!(zvm_ir::verify(&shell), Ok(()), "{}", out.func);
        out
    }

    fn main(body: &str) -> Legalized {
        run(&format!("zvm 1\nentry @main\nfunc @main() {{\n{body}}}\n"))
    }

    #[test]
    fn calls_are_inlined_and_inputs_read_once() {
        let out = run(
            "zvm 1\nentry @main\nfunc @f(u256) -> u256 {\nblock0(v0: u256):\n v1: u6 = iconst 32\n v2: u256 = \
                       calldataload v1 @0007\n v3: u256 = wadd v0, v2\n ret v3\n}\nfunc @main() {\nblock0:\n v0: u6 = iconst 32\n \
                       v1: u256 = calldataload v0 @0003\n v2: u256 = call @f(v1)\n v3: u256 = call @f(v2)\n return_words 32, \
                       v3\n}\n",
        );
        let expected = "func @main() {\nblock0:\n    v0: u6 = iconst 32            @0003\n    v1: u256 = calldataload v0    @0003\n    \
                        jump block1(v1)\nblock1(v2: u256):\n    v3: u256 = wadd v2, v1\n    jump block2(v3)\nblock2(v4: u256):\n    jump \
                        block3(v4)\nblock3(v5: u256):\n    v6: u256 = wadd v5, v1\n    jump block4(v6)\nblock4(v7: u256):\n    v8: u1 = \
                        iconst 1\n    v9: u6 = iconst 32\n    jump block5(v8, v9, v7)\nblock5(v10: u2, v11: u6, v12: u256):\n    stop\n}\n";
        let normal = |text: &str| {
            text.split_whitespace().collect::<Vec<_>>().join(" ").replace("u2 = iconst 1", "u1 = iconst 1")
        };
        assert_eq!(normal(&out.func.to_string()), normal(expected));
        assert_eq!(out.halt, Some(Block::new(5)));
    }

    #[test]
    fn instructions_without_a_circuit_become_exits() {
        for (line, reason) in [
            ("v3: u256 = keccak256 v1, v1\n v9: u256 = sload v3", Reason::Place),
            ("v3: u256 = keccak256 v1, v1\n sstore v3, v1", Reason::Place),
            ("v3: u256 = iconst 0x100000000000000000000000000000000\n v9: u256 = sload v3", Reason::ConstantSlot),
            ("v3: u256 = iconst 0x100000000000000000000000000000000\n sstore v3, v1", Reason::ConstantSlot),
            ("v9: u256 = tload v1", Reason::Transient),
            ("tstore v1, v1", Reason::Transient),
            ("v9: u256 = gas", Reason::Gas),
            ("v9: u64 = msize", Reason::Memory),
            ("mcopy v0, v0, v1 @0042\n v9: u256 = mload v0", Reason::Copy),
            (&format!("v9: u256 = keccak_words 1088, {}", ["v1"; 34].join(", ")), Reason::HashSize),
            ("v9: u256 = calldataload v2", Reason::CalldataRange),
            ("v9: u256 = balance v1", Reason::ChainState),
        ] {
            let used = if line.contains("v9") { "return_words 32, v9" } else { "stop" };
            let out = main(&format!(
                "block0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u256 = iconst 0xffffffff\n {line} @0042\n {used}\n"
            ));
            assert_eq!(out.halt, None, "{line}");
            // Memory has an end as well.
            let exits = out.unprovable.values().filter(|exit| exit.reason == reason || !exit.reason.is_limit());
            let exits: BTreeSet<_> = exits.map(|exit| (exit.pc, exit.reason)).collect();
            assert_eq!(exits, BTreeSet::from([(Some(0x42), reason)]), "{line}");
        }
    }

    #[test]
    fn constants_that_others_use_stay_where_they_are() {
        main(
            "block0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u1 = iszero v1\n brif v2, block1, block2\nblock2:\n v3: u1 = ult v0, \
             v1\n brif v3, block1, block4\nblock1:\n v4: u3 = iconst 7\n jump block3\nblock3:\n v5: u256 = wadd v4, v1\n return_words 32, \
             v5\nblock4:\n stop\n",
        );
    }

    #[test]
    fn the_own_balance_is_an_input() {
        let text = |account: &str| format!("block0:\n {account}\n v1: u256 = balance v0\n return_words 32, v1\n");
        assert!(main(&text("v0: u160 = address")).unprovable.is_empty());
        assert_eq!(main(&text("v0: u160 = caller")).unprovable.len(), 1);
    }

    #[test]
    fn hashes_permute_in_one_place() {
        let blocks = |line: &str| {
            let out = main(&format!(
                "block0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u256 = keccak_words 64, v1, v0 @0007\n {line}\n v4: u256 = \
                 keccak_words 32, v0\n v5: u256 = wadd v3, v4\n v6: u256 = wadd v5, v2\n return_words 32, v6\n"
            ));
            let count = |block: &Block, opcode: Opcode| {
                let insts = &out.func.blocks[*block].insts;
                (insts.iter().filter(|&&inst| out.func.insts[inst].opcode == opcode).count(), insts.len())
            };
            let both = |block| (count(block, Opcode::KeccakWords), count(block, Opcode::KeccakF));
            out.func.layout.iter().map(both).collect::<Vec<_>>()
        };
        // A single one stands alone: what is read, the hash and a jump, the rest with the hash of a constant, the halt block.
        let alone = blocks("v3: u256 = not v2");
        assert_eq!(alone[1].0, (1, 2), "{alone:?}");
        assert_eq!(alone.iter().map(|((hashes, _), _)| hashes).sum::<usize>(), 2, "{alone:?}");
        assert_eq!(alone.len(), 4, "{alone:?}");
        // Several are calls of one block, of seven words and a jump.
        let shared = blocks("v3: u256 = keccak_words 200, v2, v2, v2, v2, v2, v2, v2");
        let states: Vec<_> = shared.iter().map(|(_, states)| *states).filter(|&(states, _)| states > 0).collect();
        assert_eq!(states, [(7, 8)], "{shared:?}");
        assert_eq!(shared.iter().map(|((hashes, _), _)| hashes).sum::<usize>(), 1, "{shared:?}");
    }

    #[test]
    fn results_that_nobody_needs_do_not_matter() {
        let out = main("block0:\n v0: u1 = iconst 0\n v1: u256 = sload v0\n v2: u256 = gas\n mstore v0, v2\n stop\n");
        assert!(out.unprovable.is_empty() && out.halt.is_some(), "{}", out.func);
    }

    #[test]
    fn a_recursion_too_deep_is_an_exit() {
        let out = run(
            "zvm 1\nentry @main\nfunc @f(u256) -> u256 {\nblock0(v0: u256):\n v1: u1 = iszero v0\n brif v1, block1, block2\nblock1:\n ret \
             v0\nblock2:\n v2: u1 = iconst 1\n v3: u256 = wsub v0, v2\n v4: u256 = call @f(v3) @0009\n ret v4\n}\nfunc @main() \
             {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u256 = call @f(v1) @0011\n return_words 32, \
             v2\n}\n",
        );
        let exits: Vec<_> = out.unprovable.values().map(|exit| (exit.pc, exit.opcode, exit.reason)).collect();
        assert_eq!(exits, [(Some(9), Opcode::Call, Reason::Recursion)]);
    }

    #[test]
    fn a_partial_last_word_is_masked() {
        let out = main("block0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n return_words 33, v1, v1\n");
        let text = out.func.to_string();
        assert!(text.contains(&format!("iconst {:#x}", Word::from(255) << 248)), "{text}");
        assert!(text.contains("= and "), "{text}");
    }

    #[test]
    fn a_shared_revert_is_copied_to_each_branch() {
        let out = main(
            "block0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u1 = iszero v1\n brif v2, block3, \
                        block1\nblock1:\n v3: u1 = ult v0, v1\n brif v3, block3, block2\nblock2:\n stop\nblock3:\n v4: u1 = iconst 0\n \
                        revert v4, v4\n",
        );
        // Entry, its copy of the revert, the second test, its copy, the stop, the halt.
        assert_eq!(out.func.layout.len(), 6, "{}", out.func);
    }
}
