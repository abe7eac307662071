//! `share-permutations`: all hashes of a program permute in one place.
//!
//! Does: where hashes of a program take more than one permutation together, makes each hash a chain of calls of one body, which permutes a state
//! ([`super::inline::share`]). Requires: places known; the words of hashes hold nothing past their length. Ensures: one block with all
//! `keccak_f`, unless a single permutation is all there is.
//! Preserves: equality of `Outcome`.
//!
//! A permutation has 92,160 rows, more than most programs. A plan has slots of each region that its executions come through, so hashes in
//! regions of their own would each need slots of this size.
//!
//! ```text
//! v2: u256 = keccak_words 36, v0, v1      ⟶       v3: u256 = or v1, 2^216; …
//!                                                 v5, v6, … = call @permute(v0, v3, 0, 0, 0x80…00, 0, 0)
//! ```

use std::collections::BTreeMap;

use cranelift_entity::{EntityRef, SecondaryMap};
use zvm_ir::eval::STATE_WORDS;
use zvm_ir::{Block, Func, Function, Imm, Inst, InstData, Opcode, Type, Value, Word};

use super::emit::Emit;
use super::exits::instruction;
use super::inline::{Body, Group, share};
use super::places::Places;

/// The bytes that a permutation absorbs.
const RATE: usize = 136;
/// The words of the state that hold them, the last in part.
const RATE_WORDS: usize = RATE.div_ceil(32);

/// Runs the pass; whether it changed anything. The parameters of `halt` are left.
pub(super) fn run(func: &mut Function, halt: Option<Block>, places: &Places) -> bool {
    let hashes = |inst: Inst| permutations(func, places, inst);
    if func.insts_in_order().map(|(_, inst)| hashes(inst)).sum::<usize>() < 2 {
        return false;
    }
    let callee = Func::new(0);
    let body = body(func);
    let mut renamed: SecondaryMap<Value, Option<Value>> = SecondaryMap::new();
    for block in func.layout.clone() {
        // States that were permuted in this block, by the words before.
        let mut done: BTreeMap<Vec<Value>, Vec<Value>> = BTreeMap::new();
        for inst in core::mem::take(&mut func.blocks[block].insts) {
            let data = func.insts[inst].clone();
            let mut calls = Calls { emit: Emit { func, block, pc: data.pc }, callee };
            let made = match (data.opcode, data.imm) {
                _ if block == body => None,
                (Opcode::KeccakF, Imm::Word(index)) => {
                    let state = done.entry(data.args.clone()).or_insert_with(|| calls.permute(&data.args));
                    state.get(index.saturating_to::<usize>()).copied()
                }
                (Opcode::KeccakWords, Imm::Len(len)) if permutations(calls.emit.func, places, inst) > 0 => {
                    calls.hash(&data.args, len as usize)
                }
                _ => None,
            };
            match (data.result(), made) {
                (Some(result), Some(_)) => renamed[result] = made,
                _ => func.blocks[block].insts.push(inst),
            }
        }
    }
    func.map_uses(|value| renamed[value].unwrap_or(value));
    share::run(func, &[Group::Shared(Body { callee, blocks: vec![body] })], halt, |value| places.is_carried(value));
    true
}

/// How many permutations an instruction takes: none for a hash of constants, which is one, and for a place.
fn permutations(func: &Function, places: &Places, inst: Inst) -> usize {
    let data = &func.insts[inst];
    match (data.opcode, data.imm) {
        (Opcode::KeccakF, Imm::Word(index)) => usize::from(index == Word::ZERO),
        (Opcode::KeccakWords, Imm::Len(len)) if places.layout(inst).is_none() => {
            let is_constant = data.args.iter().all(|&value| func.constant(value).is_some());
            if is_constant { 0 } else { len as usize / RATE + 1 }
        }
        _ => 0,
    }
}

/// The block that permutes.
fn body(func: &mut Function) -> Block {
    let block = func.create_block();
    let state: Vec<Value> = (0..STATE_WORDS).map(|_| func.append_param(block, Type::WORD)).collect();
    let mut results = Vec::with_capacity(STATE_WORDS);
    for index in 0..STATE_WORDS {
        let data = InstData { args: state.clone(), ..instruction(Opcode::KeccakF, Imm::Word(Word::from(index)), None) };
        let inst = func.create_inst(data, &[Type::WORD]);
        func.blocks[block].insts.push(inst);
        results.extend(func.insts[inst].result());
    }
    let ret = InstData { args: results, ..instruction(Opcode::Ret, Imm::None, None) };
    let ret = func.create_inst(ret, &[]);
    func.blocks[block].insts.push(ret);
    block
}

/// Appends calls of the body.
struct Calls<'a> {
    emit: Emit<'a>,
    callee: Func,
}

impl Calls<'_> {
    fn permute(&mut self, state: &[Value]) -> Vec<Value> {
        let args = state.iter().map(|&value| self.emit.word(value)).collect();
        let call = InstData { args, ..instruction(Opcode::Call, Imm::Func(self.callee), self.emit.pc) };
        let call = self.emit.func.create_inst(call, &[Type::WORD; STATE_WORDS]);
        self.emit.func.blocks[self.emit.block].insts.push(call);
        self.emit.func.insts[call].results.clone()
    }

    /// The hash of the first `len` bytes of `words`, past which they hold nothing: each block is absorbed and the state permuted.
    fn hash(&mut self, words: &[Value], len: usize) -> Option<Value> {
        let words: Vec<Value> = words.iter().map(|&word| self.emit.word(word)).collect();
        let zero = self.emit.typed_constant(Type::WORD, Word::ZERO);
        let mut state = vec![zero; STATE_WORDS];
        let blocks = len / RATE + 1;
        for block in 0..blocks {
            for (index, old) in state.iter_mut().enumerate().take(RATE_WORDS) {
                let mut word = self.message(&words, RATE * block + 32 * index);
                if index + 1 == RATE_WORDS && self.emit.func.constant(word) != Some(Word::ZERO) {
                    let mask = self.emit.typed_constant(Type::WORD, Word::MAX << 192);
                    word = self.emit.op(Opcode::And, &[word, mask]);
                }
                let padding = padding(len, RATE * block + 32 * index);
                if !padding.is_zero() {
                    let padding = self.emit.typed_constant(Type::WORD, padding);
                    word = self.emit.op(Opcode::Xor, &[word, padding]);
                }
                *old = if block == 0 { word } else { self.emit.op(Opcode::Xor, &[*old, word]) };
            }
            state = self.permute(&state);
        }
        state.first().copied()
    }

    /// The word of the message from byte `at` on; zeros past its end.
    fn message(&mut self, words: &[Value], at: usize) -> Value {
        let mut parts = Vec::with_capacity(2);
        let bits = 8 * (at % 32);
        if let Some(&word) = words.get(at / 32) {
            let amount = self.emit.constant(bits as u64);
            parts.push(if bits == 0 { word } else { self.emit.op(Opcode::Shl, &[amount, word]) });
        }
        if let Some(&word) = words.get(at / 32 + 1).filter(|_| bits > 0) {
            let amount = self.emit.constant(256 - bits as u64);
            parts.push(self.emit.op(Opcode::Shr, &[amount, word]));
        }
        match parts[..] {
            [] => self.emit.typed_constant(Type::WORD, Word::ZERO),
            [part] => part,
            _ => self.emit.op(Opcode::Or, &parts),
        }
    }
}

/// The padding of a message of `len` bytes in the word from byte `at` on: a one behind the last byte, and one at the end of the last block.
fn padding(len: usize, at: usize) -> Word {
    let last = (len / RATE + 1) * RATE - 1;
    // The last word of a block has eight bytes of it.
    let held = (RATE - at % RATE).min(32);
    let byte = |value: u8, place: usize| match place.checked_sub(at) {
        Some(offset) if offset < held => Word::from(value) << (8 * (31 - offset)),
        _ => Word::ZERO,
    };
    byte(0x01, len) ^ byte(0x80, last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_padded_as_the_sponge_has_it() {
        assert_eq!(padding(0, 0), Word::from(1) << 248);
        assert_eq!(padding(33, 32), Word::from(1) << 240);
        assert_eq!(padding(33, 128), Word::from(0x80) << 192);
        // Both ones in one byte, and a block of nothing else.
        assert_eq!(padding(135, 128), Word::from(0x81) << 192);
        assert_eq!(padding(136, 136), Word::from(1) << 248);
        assert_eq!(padding(136, 128), Word::ZERO);
    }
}
