//! Byte ranges of memory and the values whose bytes they hold; words put together from them.

use std::collections::BTreeMap;

use crate::Word;
use crate::entities::{Inst, Value};
use crate::function::{Function, Imm, InstData, Pc};
use crate::opcode::Opcode;
use crate::passes::Goal;
use crate::passes::edit::{derived_inst, new_inst};
use crate::passes::memory::access::Source;
use crate::types::Type;

/// Bytes of a word.
pub(crate) const WORD: u32 = 32;

/// What a byte range of memory holds: bytes of a word (numbered from the most significant).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Zeros.
    Zero,
    /// Bytes of a value, from this one on.
    Bytes(Value, u32),
    /// Unknown; never read.
    Unknown,
}

/// A byte range and what it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) from: u32,
    pub(crate) to: u32,
    pub(crate) content: Content,
}

impl Piece {
    /// The part of the piece in `from..to`.
    pub(crate) fn part(self, from: u32, to: u32) -> Self {
        let (start, end) = (self.from.max(from), self.to.min(to));
        let content = match self.content {
            Content::Bytes(value, first) => Content::Bytes(value, first + (start - self.from)),
            other => other,
        };
        Self { from: start, to: end, content }
    }
}

/// Disjoint pieces by their start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces(BTreeMap<u32, Piece>);

impl Pieces {
    /// The pieces of which some part lies in a range, in order.
    pub(crate) fn overlapping(&self, from: u32, to: u32) -> Vec<Piece> {
        let first = self.0.range(..=from).next_back().map(|(_, piece)| *piece).filter(|piece| piece.to > from);
        first.into_iter().chain(self.0.range(from + 1..to.max(from + 1)).map(|(_, piece)| *piece)).collect()
    }

    /// Puts a piece over what was there.
    pub(crate) fn put(&mut self, piece: Piece) {
        self.cut(piece.from, piece.to);
        self.0.insert(piece.from, piece);
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out a range.
    pub(crate) fn cut(&mut self, from: u32, to: u32) {
        for old in self.overlapping(from, to) {
            self.0.remove(&old.from);
            if old.from < from {
                self.0.insert(old.from, old.part(old.from, from));
            }
            if old.to > to {
                let rest = old.part(to, old.to);
                self.0.insert(rest.from, rest);
            }
        }
    }

    /// Keeps the pieces for which this holds.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Piece) -> bool) {
        self.0.retain(|_, piece| keep(piece));
    }

    /// The pieces that make up a range, if there is no gap.
    pub(crate) fn cover(&self, from: u32, to: u32) -> Option<Vec<Piece>> {
        let pieces: Vec<Piece> = self.overlapping(from, to).into_iter().map(|piece| piece.part(from, to)).collect();
        let mut at = from;
        for piece in &pieces {
            if piece.from != at || piece.content == Content::Unknown {
                return None;
            }
            at = piece.to;
        }
        (at == to).then_some(pieces)
    }
}

/// What a read of a range of memory becomes when its words are known as values. A log stays one of memory on the EVM:
/// there its words have to be in memory in the end, and are already.
pub(crate) fn of_words(opcode: Opcode, goal: Goal) -> Option<Opcode> {
    match opcode {
        Opcode::Log if goal == Goal::Circuit => Some(Opcode::LogWords),
        Opcode::Keccak256 => Some(Opcode::KeccakWords),
        Opcode::Return => Some(Opcode::ReturnWords),
        Opcode::Revert => Some(Opcode::RevertWords),
        _ => None,
    }
}

/// Makes such a read of `len` bytes one of `words`.
pub(crate) fn read_words(func: &mut Function, inst: Inst, opcode: Opcode, words: Vec<Value>, len: u32) {
    let data = &mut func.insts[inst];
    let mut args = data.topics().map_or_else(Vec::new, <[Value]>::to_vec);
    args.extend(words);
    data.opcode = opcode;
    data.args = args;
    data.imm = Imm::Len(len);
}

/// The pieces that a write of `len` bytes at `start` leaves; what has to be computed for them is appended to `insts`.
pub(crate) fn copied(
    func: &mut Function,
    start: u32,
    len: u32,
    source: &Source,
    data: &InstData,
    insts: &mut Vec<Inst>,
) -> Vec<Piece> {
    let words = (start..start + len).step_by(WORD as usize).map(|from| (from, (start + len).min(from + WORD)));
    match source {
        Source::Value(value) => {
            vec![Piece { from: start, to: start + len, content: Content::Bytes(*value, WORD - len) }]
        }
        Source::Bytes(bytes) => words
            .map(|(from, to)| {
                let mut word = [0; WORD as usize];
                let chunk = &bytes[(from - start) as usize..(to - start) as usize];
                word[..chunk.len()].copy_from_slice(chunk);
                let value = iconst(func, Word::from_be_bytes(word), data.pc, insts);
                Piece { from, to, content: Content::Bytes(value, 0) }
            })
            .collect(),
        Source::Calldata => words
            .map(|(from, to)| {
                let mut address = data.args[1];
                if from > start {
                    let distance = iconst(func, Word::from(from - start), data.pc, insts);
                    address = emit(func, Opcode::Wadd, &[address, distance], data.pc, insts);
                }
                let value = emit(func, Opcode::Calldataload, &[address], data.pc, insts);
                Piece { from, to, content: Content::Bytes(value, 0) }
            })
            .collect(),
    }
}

/// The value of adjacent pieces that end at `end`, as an integer of their bytes.
pub(crate) fn put_together(
    func: &mut Function,
    pieces: Vec<Piece>,
    end: u32,
    pc: Option<Pc>,
    insts: &mut Vec<Inst>,
) -> Value {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        if let Some(last) = joined.last_mut() {
            let continues = match (last.content, piece.content) {
                (Content::Bytes(a, first), Content::Bytes(b, next)) => a == b && first + (last.to - last.from) == next,
                (a, b) => a == b,
            };
            if continues {
                last.to = piece.to;
                continue;
            }
        }
        joined.push(piece);
    }
    let len = joined.first().map_or(0, |first| end - first.from);
    let mut all: Option<Value> = None;
    for piece in &joined {
        debug_assert!(piece.content != Content::Unknown, "a read of unknown bytes was planned");
        let Content::Bytes(value, first) = piece.content else { continue };
        let size = piece.to - piece.from;
        let mut value = value;
        if first + size < WORD {
            let distance = iconst(func, Word::from(8 * (WORD - first - size)), pc, insts);
            value = emit(func, Opcode::Shr, &[distance, value], pc, insts);
        }
        value = fit(func, Opcode::Trunc, value, size, pc, insts);
        value = raised(func, value, end - piece.to, pc, insts);
        all = Some(match all {
            Some(others) => emit(func, Opcode::Or, &[others, value], pc, insts),
            None => value,
        });
    }
    match all {
        Some(value) => fit(func, Opcode::Narrow, value, len, pc, insts),
        None => iconst(func, Word::ZERO, pc, insts),
    }
}

/// `value` with `bytes` zero bytes after it.
pub(crate) fn raised(func: &mut Function, value: Value, bytes: u32, pc: Option<Pc>, insts: &mut Vec<Inst>) -> Value {
    if bytes == 0 {
        return value;
    }
    let distance = iconst(func, Word::from(8 * bytes), pc, insts);
    emit(func, Opcode::Shl, &[distance, value], pc, insts)
}

/// A constant in its narrowest type.
pub(crate) fn iconst(func: &mut Function, word: Word, pc: Option<Pc>, insts: &mut Vec<Inst>) -> Value {
    let (inst, value) = new_inst(func, Opcode::Iconst, Imm::Word(word), &[], Type::of(&word), pc);
    insts.push(inst);
    value
}

fn emit(func: &mut Function, opcode: Opcode, args: &[Value], pc: Option<Pc>, insts: &mut Vec<Inst>) -> Value {
    match derived_inst(func, opcode, args, pc) {
        Some((inst, value)) => {
            insts.push(inst);
            value
        }
        // Only instructions whose width rule always applies are emitted here.
        None => args[0],
    }
}

/// `value` in at most `bytes` bytes.
fn fit(func: &mut Function, opcode: Opcode, value: Value, bytes: u32, pc: Option<Pc>, insts: &mut Vec<Inst>) -> Value {
    match Type::new(8 * bytes as u16) {
        Some(ty) if func.ty(value) > ty => {
            let (inst, value) = new_inst(func, opcode, Imm::None, &[value], ty, pc);
            insts.push(inst);
            value
        }
        _ => value,
    }
}
