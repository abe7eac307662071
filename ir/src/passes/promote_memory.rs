//! `promote-memory`: memory at known addresses becomes SSA values.
//!
//! *Does*: follows memory byte by byte, together with facts about values, so that addresses kept in memory (the free
//! memory pointer) are known where they are constants. A load whose bytes were all written by stores at known addresses
//! (or never, where execution starts) becomes the stored value, put together by shifts where stores overlap and by
//! block parameters where paths meet. `keccak256` of such bytes becomes `keccak_words`, `return` and `revert`
//! become `return_words` and `revert_words`, and for the circuit `log` becomes `log_words`. The stores stay; `dead-stores` removes those that nobody reads any more.
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
use crate::function::Function;
use crate::opcode::{Effects, Opcode};
use crate::passes::Context;
use crate::passes::edit::{Aliases, settle_widths, split_critical_edges};
use crate::passes::facts::Fact;
use crate::passes::facts::flow::{Flow, follow};
use crate::passes::memory::access::{Span, access, tracked_write};
use crate::passes::memory::known::Known;
use crate::passes::memory::pieces::{
    Content, Piece, Pieces, WORD, copied, iconst, of_words, put_together, raised, read_words,
};
use crate::types::Type;

/// The longest data that is returned, or hashed, as words, in bytes.
pub(super) const WORDS_LIMIT: u32 = 2048;

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
    let flow = Flow::new(&work, cx, Some(cx.memory_at_start_here()));
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
        opcode => of_words(opcode, cx.goal())?,
    };
    if fact(1).constant() == Some(Word::ZERO) {
        return Some(Read::Words(words, 0, 0));
    }
    let span = *access(data, cx, fact).reads.first()?;
    let fits = span.exact && span.len() <= WORDS_LIMIT && memory.is_tracked(span);
    fits.then_some(Read::Words(words, span.from, span.to))
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
                    let value = iconst(self.func, *word, pc, &mut insts);
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
                        words.push(raised(self.func, value, WORD - (end - start), pc, &mut insts));
                        start = end;
                    }
                    read_words(self.func, inst, opcode, words, to - from);
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
            Some((span, source)) => {
                for piece in copied(self.func, span.from, span.len(), &source, &data, insts) {
                    self.written[block].put(piece);
                }
            }
            None => {
                for span in self.flow.access(self.func, self.cx, inst).writes {
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
        put_together(self.func, pieces, to, pc, insts)
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
            iconst(self.func, Word::ZERO, pc, &mut insts)
        };
        insts.push(jump);
        self.func.blocks[pred].insts = insts;
        for target in self.func.insts[jump].targets.iter_mut().filter(|target| target.block == block) {
            target.args.push(value);
        }
    }
}
