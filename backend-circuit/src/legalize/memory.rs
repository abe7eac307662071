//! `memory`: whatever reads memory reads aligned words.
//!
//! The trace argument ([`crate::trace`]) knows words of memory at multiples of 32. This pass makes every access one of those:
//!
//! | before | after |
//! |---|---|
//! | `mload p`, `mstore p, v`, `p` a multiple of 32 | the same |
//! | `mload p` elsewhere | two loads, shifted and joined |
//! | `mstore p, v` elsewhere, `mstore8` | the words that it touches, loaded, changed and stored |
//! | `return p, n`, `revert p, n`, `log p, n`, `keccak256 p, n` of a small constant `n` | `return_words` and the like, of loads |
//!
//! What takes another number of bytes out of memory is [`super::data`]'s.
//!
//! Where a place points within its word is known for most ([`super::residues`]); else a branch tells.
//!
//! *Requires*: a verified function without calls. *Ensures*: addresses of `mload` and `mstore` are multiples of 32 and have types of at
//! most [`PLACE_BITS`] bits; no other instruction reads or writes memory, except writes that nothing reads, which are dropped, and what
//! [`super::exits`] makes an exit.
//! *Preserves*: equality of `Outcome`, where no place is beyond the limit of memory; what `msize` says.

use cranelift_entity::SecondaryMap;
use zvm_ir::cfg::Cfg;
use zvm_ir::memory::MEMORY_LIMIT;
use zvm_ir::{Block, Function, Imm, Inst, InstData, Opcode, Type, Value, Word};

use super::emit::Emit;
use super::exits::{UnprovableBlocks, instruction};
use super::residues::Residues;
use super::{MAX_HASH_WORDS, data};

/// The bits of a place in memory.
pub const PLACE_BITS: u16 = 27;
/// The bytes of a word.
const WORD: u32 = 32;

/// The most bytes that are taken out of memory word by word.
fn most_bytes(opcode: Opcode) -> Option<usize> {
    match opcode {
        Opcode::Return | Opcode::Revert | Opcode::Log => Some(data::UNROLLED_WORDS * WORD as usize),
        Opcode::Keccak256 => Some(MAX_HASH_WORDS * WORD as usize),
        _ => None,
    }
}

/// The constant length of what an instruction takes out of memory word by word; `None` if it is not constant or too long.
pub(super) fn taken(func: &Function, data: &InstData) -> Option<u32> {
    let most = most_bytes(data.opcode)?;
    let len = func.constant(*data.args.get(1)?)?;
    u32::try_from(len).ok().filter(|&len| len as usize <= most)
}

/// Puts a `bound` before each access whose place has a type of more than [`PLACE_BITS`] bits, and before what takes an unknown number
/// of bytes.
pub(super) fn bound_places(func: &mut Function) {
    for block in func.layout.clone() {
        for inst in core::mem::take(&mut func.blocks[block].insts) {
            let data = func.insts[inst].clone();
            let mut bounds = Bounds { func, block, pc: data.pc };
            match (data.opcode, data.args.as_slice()) {
                (Opcode::Mload | Opcode::Mstore, &[place, ..]) => bounds.operand(inst, 0, place, WORD),
                (Opcode::Mstore8, &[place, _]) => bounds.operand(inst, 0, place, 1),
                (Opcode::Return | Opcode::Revert | Opcode::Log | Opcode::Keccak256, &[place, len, ..]) => {
                    match taken(bounds.func, &data) {
                        Some(0) => {}
                        Some(len) => bounds.operand(inst, 0, place, len),
                        None if data.opcode == Opcode::Keccak256 => {}
                        None => bounds.range(inst, place, len),
                    }
                }
                _ => {}
            }
            func.blocks[block].insts.push(inst);
        }
    }
}

/// Appends bounds to a block.
struct Bounds<'a> {
    func: &'a mut Function,
    block: Block,
    pc: Option<u32>,
}

impl Bounds<'_> {
    fn bound(&mut self, value: Value, room: u32) -> Value {
        let mut bound = instruction(Opcode::Bound, Imm::Word(Word::from(room)), self.pc);
        bound.args = vec![value];
        let bound = self.func.create_inst(bound, &[Type::PLACE]);
        self.func.blocks[self.block].insts.push(bound);
        self.func.insts[bound].results[0]
    }

    /// An operand that is a place with `room` behind it.
    fn operand(&mut self, inst: Inst, at: usize, value: Value, room: u32) {
        if self.func.ty(value).bits() > PLACE_BITS {
            self.func.insts[inst].args[at] = self.bound(value, room);
        }
    }

    /// A place and how many bytes from it on are taken: none of them is beyond the limit.
    fn range(&mut self, inst: Inst, place: Value, len: Value) {
        self.operand(inst, 0, place, 0);
        self.operand(inst, 1, len, 0);
        let [place, len, ..] = self.func.insts[inst].args[..] else { return };
        let most = |value| self.func.constant(value).unwrap_or(self.func.ty(value).max_value());
        if most(place).saturating_add(most(len)) > Word::from(MEMORY_LIMIT) {
            let mut emit = Emit { func: self.func, block: self.block, pc: self.pc };
            let end = emit.op(Opcode::Add, &[place, len]);
            self.bound(end, 0);
        }
    }
}

fn reads_memory(func: &Function, inst: Inst) -> bool {
    let data = &func.insts[inst];
    match data.opcode {
        Opcode::Mload | Opcode::Mcopy => true,
        Opcode::Return | Opcode::Revert | Opcode::Log | Opcode::Keccak256 => {
            data.args.get(1).and_then(|&len| func.constant(len)) != Some(Word::ZERO)
        }
        _ => false,
    }
}

fn writes_memory(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::Mstore | Opcode::Mstore8 | Opcode::Mcopy | Opcode::Calldatacopy | Opcode::Datacopy)
}

/// Drops writes to memory after which nothing that can be proved reads any.
pub(super) fn drop_unseen_writes(func: &mut Function, unprovable: &UnprovableBlocks) {
    let cfg = Cfg::new(func);
    // Whether something reads memory from the start of a block on.
    let mut seen: SecondaryMap<Block, bool> = SecondaryMap::new();
    let mut changed = true;
    while changed {
        changed = false;
        for &block in cfg.reverse_postorder().iter().rev() {
            let reads = !unprovable.contains_key(&block)
                && (func.blocks[block].insts.iter().any(|&inst| reads_memory(func, inst))
                    || cfg.succs(block).iter().any(|&succ| seen[succ]));
            changed |= reads != seen[block];
            seen[block] = reads;
        }
    }
    for &block in cfg.reverse_postorder() {
        let mut needed = cfg.succs(block).iter().any(|&succ| seen[succ]);
        let insts = core::mem::take(&mut func.blocks[block].insts);
        let mut kept = Vec::with_capacity(insts.len());
        for inst in insts.into_iter().rev() {
            if needed || !writes_memory(func.insts[inst].opcode) {
                needed |= reads_memory(func, inst);
                kept.push(inst);
            }
        }
        kept.reverse();
        func.blocks[block].insts = kept;
    }
}

/// Runs the pass.
pub(super) fn lower(func: &mut Function) {
    take_words(func);
    data::lower(func, &Residues::new(func));
    super::prune::order(func);
    let residues = Residues::new(func);
    let mut renamed: SecondaryMap<Value, Option<Value>> = SecondaryMap::new();
    for block in func.layout.clone() {
        align(func, &residues, block, &mut renamed);
    }
    func.map_uses(|value| {
        let mut value = value;
        while let Some(new) = renamed[value] {
            value = new;
        }
        value
    });
}

/// Turns what takes a constant number of bytes out of memory into instructions that take words.
fn take_words(func: &mut Function) {
    for block in func.layout.clone() {
        let insts = core::mem::take(&mut func.blocks[block].insts);
        for inst in insts {
            let data = func.insts[inst].clone();
            if let Some(len) = taken(func, &data) {
                let place = data.args[0];
                let mut emit = Emit { func, block, pc: data.pc };
                let words: Vec<Value> = (0..len.div_ceil(WORD))
                    .map(|at| {
                        let offset = emit.constant(u64::from(at * WORD));
                        let place = if at == 0 { place } else { emit.op(Opcode::Add, &[place, offset]) };
                        emit.op(Opcode::Mload, &[place])
                    })
                    .collect();
                let opcode = match data.opcode {
                    Opcode::Return => Opcode::ReturnWords,
                    Opcode::Revert => Opcode::RevertWords,
                    Opcode::Log => Opcode::LogWords,
                    _ => Opcode::KeccakWords,
                };
                let changed = &mut func.insts[inst];
                (changed.opcode, changed.imm) = (opcode, Imm::Len(len));
                changed.args = data.args[2..].iter().copied().chain(words).collect();
            }
            func.blocks[block].insts.push(inst);
        }
    }
}

impl Emit<'_> {
    fn or(&mut self, a: Value, b: Value) -> Value {
        self.op(Opcode::Or, &[a, b])
    }

    /// The start of the word that `place` points into, and the bits before the place in it; `residue` is that of the place, if known.
    fn split(&mut self, place: Value, residue: Option<u32>) -> (Value, Bits) {
        if let Some(residue) = residue {
            let offset = self.constant(u64::from(residue));
            // The place is no less than its residue.
            let start = if residue == 0 { place } else { self.op(Opcode::Sub, &[place, offset]) };
            return (start, Bits::Known(8 * residue));
        }
        let mask = self.constant((1u64 << PLACE_BITS) - u64::from(WORD));
        let start = self.op(Opcode::And, &[place, mask]);
        let mask = self.constant(u64::from(WORD - 1));
        let offset = self.op(Opcode::And, &[place, mask]);
        let eight = self.constant(8u64);
        let bits = self.op(Opcode::Mul, &[offset, eight]);
        (start, Bits::Computed(bits))
    }

    /// The number of bits as an operand.
    fn bits(&mut self, bits: Bits) -> Value {
        match bits {
            Bits::Known(bits) => self.constant(u64::from(bits)),
            Bits::Computed(value) => value,
        }
    }

    /// 256 less the number of bits.
    fn rest(&mut self, bits: Bits) -> Value {
        match bits {
            Bits::Known(bits) => self.constant(u64::from(256 - bits)),
            Bits::Computed(value) => {
                let all = self.constant(256u64);
                self.op(Opcode::Sub, &[all, value])
            }
        }
    }

    /// A word whose lower bits are ones, all but the first `bits`.
    fn low_mask(&mut self, bits: Bits) -> Value {
        match bits {
            Bits::Known(bits) => self.constant(Word::MAX >> bits as usize),
            Bits::Computed(value) => {
                let ones = self.constant(Word::MAX);
                self.op(Opcode::Shr, &[value, ones])
            }
        }
    }

    fn next(&mut self, start: Value) -> Value {
        self.beyond(start, WORD)
    }

    fn unaligned_load(&mut self, place: Value, residue: Option<u32>) -> Value {
        let (start, bits) = self.split(place, residue);
        let next = self.next(start);
        let (first, second) = (self.op(Opcode::Mload, &[start]), self.op(Opcode::Mload, &[next]));
        let (bits, rest) = (self.bits(bits), self.rest(bits));
        let (high, low) = (self.op(Opcode::Shl, &[bits, first]), self.op(Opcode::Shr, &[rest, second]));
        self.or(high, low)
    }

    fn unaligned_store(&mut self, place: Value, word: Value, residue: Option<u32>) {
        let (start, bits) = self.split(place, residue);
        let next = self.next(start);
        let (first, second) = (self.op(Opcode::Mload, &[start]), self.op(Opcode::Mload, &[next]));
        let low = self.low_mask(bits);
        let high = self.op(Opcode::Not, &[low]);
        let (bits, rest) = (self.bits(bits), self.rest(bits));
        let kept = self.op(Opcode::And, &[first, high]);
        let new = self.op(Opcode::Shr, &[bits, word]);
        let first = self.or(kept, new);
        let kept = self.op(Opcode::And, &[second, low]);
        let new = self.op(Opcode::Shl, &[rest, word]);
        let second = self.or(kept, new);
        self.effect(Opcode::Mstore, &[start, first]);
        self.effect(Opcode::Mstore, &[next, second]);
    }

    fn store_byte(&mut self, place: Value, byte: Value, residue: Option<u32>) {
        let (start, bits) = self.split(place, residue);
        let old = self.op(Opcode::Mload, &[start]);
        let shift = match bits {
            Bits::Known(bits) => self.constant(u64::from(248 - bits)),
            Bits::Computed(bits) => {
                let last = self.constant(248u64);
                self.op(Opcode::Sub, &[last, bits])
            }
        };
        let ones = self.constant(0xffu64);
        let mask = self.op(Opcode::Shl, &[shift, ones]);
        let keep = self.op(Opcode::Not, &[mask]);
        let kept = self.op(Opcode::And, &[old, keep]);
        let byte = self.op(Opcode::And, &[byte, ones]);
        let new = self.op(Opcode::Shl, &[shift, byte]);
        let word = self.or(kept, new);
        self.effect(Opcode::Mstore, &[start, word]);
    }
}

/// How many bits of its word lie before a place.
#[derive(Clone, Copy, Debug)]
enum Bits {
    Known(u32),
    Computed(Value),
}

/// Makes the accesses of a block aligned. The block may end in a branch then; what follows goes on in a new block.
fn align(func: &mut Function, residues: &Residues, block: Block, renamed: &mut SecondaryMap<Value, Option<Value>>) {
    let mut block = block;
    for inst in core::mem::take(&mut func.blocks[block].insts) {
        let data = func.insts[inst].clone();
        let residue = data.args.first().and_then(|&place| residues.of(place));
        let mut emit = Emit { func, block, pc: data.pc };
        match (data.opcode, data.args.as_slice()) {
            (Opcode::Mload, &[place]) => match residue {
                Some(0) => emit.func.blocks[block].insts.push(inst),
                Some(_) => {
                    let loaded = emit.unaligned_load(place, residue);
                    data.results.iter().for_each(|&result| renamed[result] = Some(loaded));
                }
                None => {
                    let [aligned, other, rest] = emit.fork(place, 0);
                    emit.block = aligned;
                    let loaded = emit.op(Opcode::Mload, &[place]);
                    emit.jump(rest, vec![loaded]);
                    emit.block = other;
                    let loaded = emit.unaligned_load(place, None);
                    emit.jump(rest, vec![loaded]);
                    let param = func.append_param(rest, Type::WORD);
                    data.results.iter().for_each(|&result| renamed[result] = Some(param));
                    block = rest;
                }
            },
            (Opcode::Mstore, &[place, word]) => match residue {
                Some(0) => emit.func.blocks[block].insts.push(inst),
                Some(_) => emit.unaligned_store(place, word, residue),
                None => {
                    let [aligned, other, rest] = emit.fork(place, 0);
                    emit.block = aligned;
                    emit.effect(Opcode::Mstore, &[place, word]);
                    emit.jump(rest, Vec::new());
                    emit.block = other;
                    emit.unaligned_store(place, word, None);
                    emit.jump(rest, Vec::new());
                    block = rest;
                }
            },
            (Opcode::Mstore8, &[place, byte]) => emit.store_byte(place, byte, residue),
            _ => func.blocks[block].insts.push(inst),
        }
    }
}
