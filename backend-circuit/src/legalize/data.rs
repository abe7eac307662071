//! `data`: data of any length are words that are noted, three at a time from the last to the first.
//!
//! A circuit has a fixed number of rows, so it hashes data of unknown length in a loop ([`crate::digest`]): each `note` of three words puts
//! one block before those that were noted, and the first words are operands of what takes the data. For `log` they are those of one more
//! `note`, right before it.
//!
//! *Requires*: places and lengths whose sum is within the limit of memory; blocks in reverse post-order. *Ensures*: `log` stands behind a `note` of its first
//! words, if its block of the digest has room for any; `return` and `revert` have them as further operands, which only
//! [`super::exits::merge_halts`] understands. Words and bytes past the length are zero.
//! *Preserves*: equality of `Outcome`; what is noted has no effect.
//!
//! ```text
//! block0: return v0, v1   ⟶   block0: brif 128 < v1, block1, block4
//!                             block1: …; note w0, w1, w2; jump block2(v9)         the last three words, masked
//!                             block2(v2): brif v2 = v0 + 128, block5, block3
//!                             block3: v3 = v2 − 96; note …; jump block2(v3)
//!                             block4: …; jump block6(w0, w1, w2, w3)              the first words, masked
//!                             block5: …; jump block6(w0, w1, w2, w3)              the first words
//!                             block6(…): return v0, v1, w0, w1, w2, w3
//! ```

use std::collections::BTreeSet;

use zvm_ir::{Block, Function, Inst, Opcode, Type, Value, Word};

use super::emit::Emit;
use super::memory;
use super::residues::Residues;
use crate::digest::{BLOCK_WORDS, inline_words};

/// Data of a constant length of so many words at most are words without a loop.
pub(super) const UNROLLED_WORDS: usize = 16;
/// The bytes of a word.
const WORD: u32 = 32;
/// The bytes of a block.
const BLOCK: u32 = WORD * BLOCK_WORDS as u32;

/// Runs the pass. `residues` are those of the function.
pub(super) fn lower(func: &mut Function, residues: &Residues) {
    let mut expanded = BTreeSet::new();
    let mut at = 0;
    // Blocks that are made here are looked at in turn.
    while let Some(&block) = func.layout.get(at) {
        at += 1;
        let position = func.blocks[block].insts.iter().position(|&inst| {
            let data = &func.insts[inst];
            matches!(data.opcode, Opcode::Return | Opcode::Revert | Opcode::Log)
                && memory::taken(func, data).is_none()
                && !expanded.contains(&inst)
        });
        if let Some(position) = position {
            let rest = func.blocks[block].insts.split_off(position + 1);
            let Some(inst) = func.blocks[block].insts.pop() else { continue };
            expanded.insert(inst);
            expand(func, residues, block, inst, rest);
        }
    }
}

/// Ends `block` with the loop that notes what `inst` takes; `inst` and `rest` follow in a new block.
fn expand(func: &mut Function, residues: &Residues, block: Block, inst: Inst, rest: Vec<Inst>) {
    let data = func.insts[inst].clone();
    let &[place, len, ref topics @ ..] = data.args.as_slice() else { return };
    let first = inline_words(if data.opcode == Opcode::Log { topics.len() } else { 0 });
    let mut emit = Emit { func, block, pc: data.pc };
    let [done] = emit.blocks();
    let taken = Taken { len, is_whole: residues.of(len) == Some(0), first, done };
    if residues.of(place).is_some() {
        taken.note(&mut emit, place);
    } else {
        // Both loops of what stands at the start of a word and of what does not: the second reads every word twice.
        let [aligned, other, _] = emit.fork(place, 0);
        emit.block = aligned;
        let mask = emit.constant((1u64 << memory::PLACE_BITS) - u64::from(WORD));
        let start = emit.op(Opcode::And, &[place, mask]);
        taken.note(&mut emit, start);
        emit.block = other;
        taken.note(&mut emit, place);
    }
    let words: Vec<Value> = (0..first).map(|_| func.append_param(done, Type::WORD)).collect();
    let mut emit = Emit { func, block: done, pc: data.pc };
    if data.opcode == Opcode::Log {
        if !words.is_empty() {
            emit.effect(Opcode::Note, &words);
        }
    } else {
        emit.func.insts[inst].args.extend(words);
    }
    let insts = &mut func.blocks[done].insts;
    insts.push(inst);
    insts.extend(rest);
}

/// Data of which `first` words go to the block `done`, after the others have been noted.
struct Taken {
    len: Value,
    /// Whether the length is a multiple of 32.
    is_whole: bool,
    first: usize,
    done: Block,
}

impl Taken {
    /// Ends the block with the loop.
    fn note(&self, emit: &mut Emit<'_>, place: Value) {
        let inline = WORD * self.first as u32;
        let most = emit.constant(u64::from(inline));
        let is_long = emit.op(Opcode::Ult, &[most, self.len]);
        let [tail, head, body, short, full] = emit.blocks();
        emit.brif(is_long, [tail, short]);

        emit.block = tail;
        let left = emit.op(Opcode::Sub, &[self.len, most]);
        let one = emit.constant(1u64);
        let last = emit.op(Opcode::Sub, &[left, one]);
        let size = emit.constant(u64::from(BLOCK));
        let blocks = emit.op(Opcode::Udiv, &[last, size]);
        let before = emit.op(Opcode::Mul, &[blocks, size]);
        // No more than the length.
        let before = emit.place(before);
        let stop = emit.beyond(place, inline);
        let stop = emit.place(stop);
        let start = emit.op(Opcode::Add, &[stop, before]);
        let start = emit.place(start);
        let left = emit.op(Opcode::Sub, &[left, before]);
        let words = load(emit, start, BLOCK_WORDS);
        let words = self.cut(emit, words, left);
        emit.effect(Opcode::Note, &words);
        emit.jump(head, vec![start]);

        let at = emit.func.append_param(head, Type::PLACE);
        emit.block = head;
        let is_over = emit.op(Opcode::Eq, &[at, stop]);
        emit.brif(is_over, [full, body]);

        emit.block = body;
        let size = emit.constant(u64::from(BLOCK));
        let before = emit.op(Opcode::Sub, &[at, size]);
        let words = load(emit, before, BLOCK_WORDS);
        emit.effect(Opcode::Note, &words);
        emit.jump(head, vec![before]);

        emit.block = full;
        let words = load(emit, place, self.first);
        emit.jump(self.done, words);

        emit.block = short;
        self.short(emit, place);
    }

    /// Ends the block where the first words are all there are.
    fn short(&self, emit: &mut Emit<'_>, place: Value) {
        if self.first == 0 {
            return emit.jump(self.done, Vec::new());
        }
        let [none, some] = emit.blocks();
        let is_empty = emit.op(Opcode::Iszero, &[self.len]);
        emit.brif(is_empty, [none, some]);
        emit.block = none;
        let zero = emit.typed_constant(Type::WORD, Word::ZERO);
        emit.jump(self.done, vec![zero; self.first]);
        emit.block = some;
        let words = load(emit, place, self.first);
        let words = self.cut(emit, words, self.len);
        emit.jump(self.done, words);
    }

    /// The first `left` bytes of words, at least one and at most all, and zeros.
    fn cut(&self, emit: &mut Emit<'_>, words: Vec<Value>, left: Value) -> Vec<Value> {
        let one = emit.constant(1u64);
        let last = emit.op(Opcode::Sub, &[left, one]);
        let five = emit.constant(5u64);
        // The number of the last word.
        let last = emit.op(Opcode::Shr, &[five, last]);
        let numbers: Vec<Value> = (0..words.len()).map(|at| emit.constant(at as u64)).collect();
        let zero = emit.typed_constant(Type::WORD, Word::ZERO);
        let mut cut = words.clone();
        if !self.is_whole {
            // Only the last word is cut.
            let mut word = words[0];
            let is_last: Vec<Value> = numbers.iter().map(|&number| emit.op(Opcode::Eq, &[last, number])).collect();
            for (&flag, &other) in is_last.iter().zip(&words).skip(1) {
                word = emit.op(Opcode::Select, &[flag, other, word]);
            }
            let used = emit.op(Opcode::Sub, &[self.len, one]);
            let used = emit.residue(used);
            let eight = emit.constant(8u64);
            let used = emit.op(Opcode::Mul, &[used, eight]);
            let all = emit.constant(248u64);
            let unused = emit.op(Opcode::Sub, &[all, used]);
            let ones = emit.constant(Word::MAX);
            let kept = emit.op(Opcode::Shl, &[unused, ones]);
            let word = emit.op(Opcode::And, &[word, kept]);
            for (&flag, cut) in is_last.iter().zip(&mut cut) {
                *cut = emit.op(Opcode::Select, &[flag, word, *cut]);
            }
        }
        for (&number, cut) in numbers.iter().zip(&mut cut).skip(1) {
            let is_past = emit.op(Opcode::Ult, &[last, number]);
            *cut = emit.op(Opcode::Select, &[is_past, zero, *cut]);
        }
        cut
    }
}

/// Words from a place on.
fn load(emit: &mut Emit<'_>, place: Value, count: usize) -> Vec<Value> {
    let word = |at: usize| {
        let place = emit.beyond(place, WORD * at as u32);
        emit.op(Opcode::Mload, &[place])
    };
    (0..count).map(word).collect()
}
