//! `promote-memory`: memory at known addresses becomes SSA values.
//!
//! *Does*: follows memory byte by byte, together with facts about values, so that addresses kept in memory (the free
//! memory pointer) are known where they are constants. A load whose bytes were all written by stores at known addresses
//! (or never, where execution starts) becomes the stored value, put together by shifts where stores overlap and by
//! block parameters where paths meet. `keccak256` of such bytes becomes `keccak_words`, `return` and `revert`
//! become `return_words` and `revert_words`. The stores stay; `dead-stores` removes those that nobody reads any more.
//! *Requires*: calls worth inlining are inlined. *Ensures*: no load of bytes that are known in this sense is left.
//! *Preserves*: equality of [`crate::Outcome`]. A module that observes `msize` is left alone.
//! *After*: Braun et al., simple and efficient construction of SSA form, with byte ranges as variables.
//!
//! ```text
//! mstore 0, v1; mstore 4, v2; v3 = mload 0   →   v3 = or (and v1, 0xffffffff00…00), (shr 32, v2)
//! ```

use std::collections::{BTreeMap, VecDeque};

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::entities::{Block, Inst, Value};
use crate::function::{Function, Imm};
use crate::opcode::{Effects, Opcode};
use crate::passes::Context;
use crate::passes::edit::{Aliases, derived_inst, new_inst, settle_widths, split_critical_edges};
use crate::passes::facts::Fact;
use crate::passes::facts::flow::{Flow, follow};
use crate::passes::memory::access::{Source, Span, access, tracked_write};
use crate::passes::memory::known::Known;
use crate::types::Type;

/// The longest data that is returned, or hashed, as words, in bytes.
const WORDS_LIMIT: u32 = 2048;
const WORD: u32 = 32;

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let touches = |inst: Inst| {
        let effects = func.insts[inst].opcode.effects();
        effects.has(Effects::READS_MEMORY)
    };
    if cx.observes_msize() || !func.insts_in_order().any(|(_, inst)| touches(inst)) {
        return false;
    }
    let mut work = func.clone();
    split_critical_edges(&mut work);
    let initial = if cx.starts_execution() { Known::fresh() } else { Known::nothing() };
    let flow = Flow::new(&work, cx, Some(initial));
    let plan = plan(&work, cx, &flow);
    if plan.is_empty() {
        return false;
    }
    Promotion::new(&mut work, cx, &flow).run(&plan);
    settle_widths(&mut work, cx);
    *func = work;
    true
}

/// What a read of memory becomes.
#[derive(Clone, Debug)]
enum Read {
    /// A constant.
    Constant(Word),
    /// The value of these bytes.
    Word(Span),
    /// The words of these bytes, as operands of another instruction.
    Words(Opcode, u32, u32),
}

/// The reads that can be replaced.
fn plan(func: &Function, cx: &Context, flow: &Flow) -> BTreeMap<Inst, Read> {
    let mut plan = BTreeMap::new();
    for &block in flow.cfg.reverse_postorder() {
        let (true, Some(mut memory)) = (flow.is_reached(block), flow.memory_at(block).cloned()) else { continue };
        for &inst in &func.blocks[block].insts {
            let data = &func.insts[inst];
            if data.opcode.effects().has(Effects::READS_MEMORY) {
                plan.extend(read(func, cx, flow, inst, &memory).map(|read| (inst, read)));
            }
            if !data.opcode.is_terminator() {
                let args: Vec<Fact> = (0..data.args.len()).map(|at| flow.operand(func, inst, at)).collect();
                follow(data, cx, &args, &mut memory);
            }
        }
    }
    plan
}

fn read(func: &Function, cx: &Context, flow: &Flow, inst: Inst, memory: &Known) -> Option<Read> {
    let data = &func.insts[inst];
    let fact = |at: usize| flow.operand(func, inst, at);
    let words = match data.opcode {
        Opcode::Mload => {
            let span = *access(data, cx, fact).reads.first()?;
            if !span.exact || !memory.is_tracked(span) {
                return None;
            }
            let word = memory.constant(span).and_then(|bytes| Word::try_from_be_slice(&bytes));
            return Some(word.map_or(Read::Word(span), Read::Constant));
        }
        Opcode::Keccak256 => Opcode::KeccakWords,
        Opcode::Return => Opcode::ReturnWords,
        Opcode::Revert => Opcode::RevertWords,
        _ => return None,
    };
    if fact(1).constant() == Some(Word::ZERO) {
        return Some(Read::Words(words, 0, 0));
    }
    let span = *access(data, cx, fact).reads.first()?;
    let whole = words != Opcode::KeccakWords || span.len() % WORD == 0;
    let fits = span.exact && span.len() <= WORDS_LIMIT && memory.is_tracked(span);
    (whole && fits).then_some(Read::Words(words, span.from, span.to))
}

/// What a byte range of memory holds: bytes of a word (numbered from the most significant).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// Zeros.
    Zero,
    /// Bytes of a value, from this one on.
    Bytes(Value, u32),
    /// Unknown; never read.
    Unknown,
}

/// A byte range and what it holds.
#[derive(Clone, Copy, Debug)]
struct Piece {
    from: u32,
    to: u32,
    content: Content,
}

impl Piece {
    /// The part of the piece in `from..to`.
    fn part(self, from: u32, to: u32) -> Self {
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
struct Pieces(BTreeMap<u32, Piece>);

impl Pieces {
    fn overlapping(&self, from: u32, to: u32) -> Vec<Piece> {
        let first = self.0.range(..=from).next_back().map(|(_, piece)| *piece).filter(|piece| piece.to > from);
        first.into_iter().chain(self.0.range(from + 1..to.max(from + 1)).map(|(_, piece)| *piece)).collect()
    }

    fn put(&mut self, piece: Piece) {
        for old in self.overlapping(piece.from, piece.to) {
            self.0.remove(&old.from);
            if old.from < piece.from {
                self.0.insert(old.from, old.part(old.from, piece.from));
            }
            if old.to > piece.to {
                let rest = old.part(piece.to, old.to);
                self.0.insert(rest.from, rest);
            }
        }
        self.0.insert(piece.from, piece);
    }
}

/// The rewriting of one function.
struct Promotion<'a> {
    func: &'a mut Function,
    cx: &'a Context,
    flow: &'a Flow,
    aliases: Aliases,
    /// What each block that was rewritten wrote last.
    written: SecondaryMap<Block, Pieces>,
    /// Parameters that stand for a byte range at the start of a block.
    params: BTreeMap<(Block, u32, u32), Value>,
    /// Parameters whose arguments are still to be given.
    pending: VecDeque<(Block, u32, u32)>,
}

impl<'a> Promotion<'a> {
    fn new(func: &'a mut Function, cx: &'a Context, flow: &'a Flow) -> Self {
        Self {
            func,
            cx,
            flow,
            aliases: Aliases::default(),
            written: SecondaryMap::new(),
            params: BTreeMap::new(),
            pending: VecDeque::new(),
        }
    }

    fn run(mut self, plan: &BTreeMap<Inst, Read>) {
        for &block in self.flow.cfg.reverse_postorder() {
            if self.flow.is_reached(block) {
                self.rewrite_block(block, plan);
            }
        }
        while let Some((block, from, to)) = self.pending.pop_front() {
            for &pred in self.flow.cfg.preds(block) {
                self.pass_argument(pred, block, from, to);
            }
        }
        self.aliases.apply(self.func);
    }

    fn rewrite_block(&mut self, block: Block, plan: &BTreeMap<Inst, Read>) {
        let mut insts = Vec::with_capacity(self.func.blocks[block].insts.len());
        for inst in std::mem::take(&mut self.func.blocks[block].insts) {
            let pc = self.func.insts[inst].pc;
            match plan.get(&inst) {
                Some(Read::Constant(word)) => {
                    let value = self.iconst(*word, pc, &mut insts);
                    self.replace(inst, value);
                    continue;
                }
                Some(Read::Word(span)) => {
                    let value = self.value_here(block, span.from, span.to, pc, &mut insts);
                    self.replace(inst, value);
                    continue;
                }
                Some(&Read::Words(opcode, from, to)) => {
                    let mut words = Vec::new();
                    let mut start = from;
                    while start < to {
                        let end = to.min(start + WORD);
                        let value = self.value_here(block, start, end, pc, &mut insts);
                        words.push(self.raised(value, WORD - (end - start), pc, &mut insts));
                        start = end;
                    }
                    let data = &mut self.func.insts[inst];
                    data.opcode = opcode;
                    data.args = words;
                    data.imm = if opcode == Opcode::KeccakWords { Imm::None } else { Imm::Len(to - from) };
                }
                None => self.note_writes(block, inst, &mut insts),
            }
            insts.push(inst);
        }
        self.func.blocks[block].insts = insts;
    }

    fn replace(&mut self, load: Inst, value: Value) {
        if let Some(result) = self.func.insts[load].result() {
            self.aliases.set(result, value);
        }
    }

    /// Keeps track of what the instruction writes.
    fn note_writes(&mut self, block: Block, inst: Inst, insts: &mut Vec<Inst>) {
        let data = self.func.insts[inst].clone();
        if data.opcode.is_terminator() {
            return;
        }
        let fact = |at: usize| self.flow.operand(self.func, inst, at);
        match tracked_write(&data, self.cx, fact) {
            Some((span, Source::Value(value))) => {
                let content = Content::Bytes(value, WORD - span.len());
                self.written[block].put(Piece { from: span.from, to: span.to, content });
            }
            Some((span, Source::Bytes(bytes))) => {
                for (from, to) in words_of(span) {
                    let mut word = [0; WORD as usize];
                    let chunk = &bytes[(from - span.from) as usize..(to - span.from) as usize];
                    word[..chunk.len()].copy_from_slice(chunk);
                    let value = self.iconst(Word::from_be_bytes(word), data.pc, insts);
                    self.written[block].put(Piece { from, to, content: Content::Bytes(value, 0) });
                }
            }
            Some((span, Source::Calldata)) => {
                for (from, to) in words_of(span) {
                    let mut address = data.args[1];
                    if from > span.from {
                        let distance = self.iconst(Word::from(from - span.from), data.pc, insts);
                        address = self.emit(Opcode::Wadd, &[address, distance], data.pc, insts);
                    }
                    let value = self.emit(Opcode::Calldataload, &[address], data.pc, insts);
                    self.written[block].put(Piece { from, to, content: Content::Bytes(value, 0) });
                }
            }
            None => {
                for span in access(&data, self.cx, fact).writes {
                    self.written[block].put(Piece { from: span.from, to: span.to, content: Content::Unknown });
                }
            }
        }
    }

    // Looking up.

    /// The value of a byte range after what `block` has written so far.
    fn value_here(&mut self, block: Block, from: u32, to: u32, pc: Option<u32>, insts: &mut Vec<Inst>) -> Value {
        let mut pieces = Vec::new();
        let mut missing = Vec::new();
        self.split(block, from, to, &mut pieces, &mut missing);
        while let Some((block, from, to)) = missing.pop() {
            match *self.flow.cfg.preds(block) {
                _ if self.func.entry() == Some(block) => pieces.push(Piece { from, to, content: Content::Zero }),
                [pred] => self.split(pred, from, to, &mut pieces, &mut missing),
                _ => {
                    let param = self.param(block, from, to);
                    pieces.push(Piece { from, to, content: Content::Bytes(param, WORD - (to - from)) });
                }
            }
        }
        pieces.sort_by_key(|piece| piece.from);
        self.put_together(pieces, to, pc, insts)
    }

    /// The pieces of a byte range that a block wrote, and what it did not write, to be looked up where it starts.
    fn split(&self, block: Block, from: u32, to: u32, pieces: &mut Vec<Piece>, missing: &mut Vec<(Block, u32, u32)>) {
        let mut at = from;
        for piece in self.written[block].overlapping(from, to) {
            let piece = piece.part(from, to);
            if at < piece.from {
                missing.push((block, at, piece.from));
            }
            at = piece.to;
            pieces.push(piece);
        }
        if at < to {
            missing.push((block, at, to));
        }
    }

    /// The parameter for a byte range at the start of a block where paths meet.
    fn param(&mut self, block: Block, from: u32, to: u32) -> Value {
        if let Some(&value) = self.params.get(&(block, from, to)) {
            return value;
        }
        let ty = Type::new(8 * (to - from) as u16).unwrap_or(Type::WORD);
        let value = self.func.append_param(block, ty);
        self.params.insert((block, from, to), value);
        self.pending.push_back((block, from, to));
        value
    }

    fn pass_argument(&mut self, pred: Block, block: Block, from: u32, to: u32) {
        // A branch that is never taken (after a call that never returns, say) may come with memory unknown.
        let taken = self.flow.is_taken(self.func, pred, block);
        let Some(jump) = self.func.blocks[pred].insts.pop() else { return };
        let pc = self.func.insts[jump].pc;
        let mut insts = std::mem::take(&mut self.func.blocks[pred].insts);
        let value = if taken {
            self.value_here(pred, from, to, pc, &mut insts)
        } else {
            self.iconst(Word::ZERO, pc, &mut insts)
        };
        insts.push(jump);
        self.func.blocks[pred].insts = insts;
        for target in self.func.insts[jump].targets.iter_mut().filter(|target| target.block == block) {
            target.args.push(value);
        }
    }

    // Putting together.

    fn emit(&mut self, opcode: Opcode, args: &[Value], pc: Option<u32>, insts: &mut Vec<Inst>) -> Value {
        match derived_inst(self.func, opcode, args, pc) {
            Some((inst, value)) => {
                insts.push(inst);
                value
            }
            // Only instructions whose width rule always applies are emitted here.
            None => args[0],
        }
    }

    fn iconst(&mut self, word: Word, pc: Option<u32>, insts: &mut Vec<Inst>) -> Value {
        let (inst, value) = new_inst(self.func, Opcode::Iconst, Imm::Word(word), &[], Type::of(&word), pc);
        insts.push(inst);
        value
    }

    /// The value of adjacent pieces that end at `end`, as an integer of their bytes.
    fn put_together(&mut self, pieces: Vec<Piece>, end: u32, pc: Option<u32>, insts: &mut Vec<Inst>) -> Value {
        let mut joined: Vec<Piece> = Vec::new();
        for piece in pieces {
            if let Some(last) = joined.last_mut() {
                let continues = match (last.content, piece.content) {
                    (Content::Bytes(a, first), Content::Bytes(b, next)) => {
                        a == b && first + (last.to - last.from) == next
                    }
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
                let distance = self.iconst(Word::from(8 * (WORD - first - size)), pc, insts);
                value = self.emit(Opcode::Shr, &[distance, value], pc, insts);
            }
            value = self.fit(Opcode::Trunc, value, size, pc, insts);
            value = self.raised(value, end - piece.to, pc, insts);
            all = Some(match all {
                Some(others) => self.emit(Opcode::Or, &[others, value], pc, insts),
                None => value,
            });
        }
        match all {
            Some(value) => self.fit(Opcode::Narrow, value, len, pc, insts),
            None => self.iconst(Word::ZERO, pc, insts),
        }
    }

    /// `value` with `bytes` zero bytes after it.
    fn raised(&mut self, value: Value, bytes: u32, pc: Option<u32>, insts: &mut Vec<Inst>) -> Value {
        if bytes == 0 {
            return value;
        }
        let distance = self.iconst(Word::from(8 * bytes), pc, insts);
        self.emit(Opcode::Shl, &[distance, value], pc, insts)
    }

    /// `value` in at most `bytes` bytes.
    fn fit(&mut self, opcode: Opcode, value: Value, bytes: u32, pc: Option<u32>, insts: &mut Vec<Inst>) -> Value {
        match Type::new(8 * bytes as u16) {
            Some(ty) if self.func.ty(value) > ty => {
                let (inst, value) = new_inst(self.func, opcode, Imm::None, &[value], ty, pc);
                insts.push(inst);
                value
            }
            _ => value,
        }
    }
}

/// The span cut into words, the last of which may be shorter.
fn words_of(span: Span) -> impl Iterator<Item = (u32, u32)> {
    (span.from..span.to).step_by(WORD as usize).map(move |from| (from, span.to.min(from + WORD)))
}
