//! `forward-memory`: what was stored is read again, at addresses that are not known.
//!
//! *Does*: takes an address apart into a value and a constant, and keeps for each such value which bytes around it hold
//! what, along paths on which nothing meets. A load of such bytes becomes their value; `keccak256`, `return` and `revert`
//! of such bytes become `keccak_words`, `return_words` and `revert_words`, and for the circuit `log` becomes `log_words`. A write at an address that stems from another
//! value ends what is known, unless bounds tell the two apart. The stores stay; `dead-stores` removes those that nobody
//! reads any more.
//! *Requires*: every block is reachable. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`]. A module that observes `msize` is left alone.
//! *After*: store-to-load forwarding over extended basic blocks; `promote-memory` does the same at known addresses, across
//! all of a function.
//!
//! ```text
//! mstore v0, v1; v2 = wadd v0, 32; mstore v2, v3; return v0, 64   →   …; return_words 64, v1, v3
//! ```

use std::collections::BTreeMap;

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::entities::{Block, Inst, Value};
use crate::function::{Function, ValueDef};
use crate::opcode::Opcode;
use crate::passes::Context;
use crate::passes::edit::{Aliases, settle_widths};
use crate::passes::facts::Fact;
use crate::passes::facts::flow::Flow;
use crate::passes::memory::access::{COPY_LIMIT, LIMIT, Source, Span};
use crate::passes::memory::pieces::{Content, Piece, Pieces, WORD, copied, of_words, put_together, raised, read_words};
use crate::passes::promote_memory::WORDS_LIMIT;

/// Where offset 0 lies in the pieces of a base.
const ORIGIN: u32 = 1 << 20;
/// How many bases are kept along a path.
const BASES: usize = 32;

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let reads = |opcode: Opcode| {
        matches!(opcode, Opcode::Mload | Opcode::Keccak256 | Opcode::Log | Opcode::Return | Opcode::Revert)
    };
    if cx.observes_msize() || !func.insts_in_order().any(|(_, inst)| reads(func.insts[inst].opcode)) {
        return false;
    }
    let mut work = func.clone();
    let flow = Flow::new(&work, cx, Some(cx.memory_at_start_here()));
    let mut forwarding = Forwarding { func: &mut work, cx, flow: &flow, aliases: Aliases::default(), changed: false };
    forwarding.run();
    let Forwarding { aliases, changed, .. } = forwarding;
    if !changed {
        return false;
    }
    aliases.apply(&mut work);
    settle_widths(&mut work, cx);
    *func = work;
    true
}

/// What an address is counted from: a value, or zero.
type Base = Option<Value>;

/// What memory holds around each base.
type Held = BTreeMap<Base, Pieces>;

/// A place in memory: so many bytes from [`ORIGIN`] at a base.
#[derive(Clone, Copy, Debug)]
struct Place {
    base: Base,
    at: u32,
}

struct Forwarding<'a> {
    func: &'a mut Function,
    cx: &'a Context,
    flow: &'a Flow,
    aliases: Aliases,
    changed: bool,
}

impl Forwarding<'_> {
    fn run(&mut self) {
        let mut ends: SecondaryMap<Block, Held> = SecondaryMap::new();
        for &block in self.flow.cfg.reverse_postorder() {
            if !self.flow.is_reached(block) {
                continue;
            }
            let mut held = match *self.flow.cfg.preds(block) {
                [pred] => ends[pred].clone(),
                _ => Held::new(),
            };
            let mut insts = Vec::with_capacity(self.func.blocks[block].insts.len());
            for inst in std::mem::take(&mut self.func.blocks[block].insts) {
                self.visit(inst, &mut held, &mut insts);
            }
            self.func.blocks[block].insts = insts;
            ends[block] = held;
        }
    }

    /// Rewrites one instruction, and brings `held` up to date.
    fn visit(&mut self, inst: Inst, held: &mut Held, insts: &mut Vec<Inst>) {
        let data = self.func.insts[inst].clone();
        let place = |at: usize| self.place(data.args[at]);
        let len = |at: usize| self.small(data.args[at]);
        match data.opcode {
            Opcode::Mload => {
                let (Some(place), Some(result)) = (place(0), data.result()) else { return insts.push(inst) };
                if let Some(pieces) = cover(held, place, WORD) {
                    let value = put_together(self.func, pieces, place.at + WORD, data.pc, insts);
                    self.aliases.set(result, value);
                    self.changed = true;
                    return;
                }
                let content = Content::Bytes(result, 0);
                put(held, place.base, Piece { from: place.at, to: place.at + WORD, content });
            }
            Opcode::Keccak256 | Opcode::Log | Opcode::Return | Opcode::Revert => {
                if let (Some(place), Some(len)) = (place(0), len(1).filter(|&len| len <= WORDS_LIMIT)) {
                    self.as_words(inst, place, len, held, insts);
                }
            }
            Opcode::Mstore => self.write(inst, place(0), Some(WORD), Source::Value(data.args[1]), held, insts),
            Opcode::Mstore8 => self.write(inst, place(0), Some(1), Source::Value(data.args[1]), held, insts),
            // Calldataload wraps where calldatacopy pads with zeros, so the last address must not.
            Opcode::Calldatacopy
                if self.flow.operand(self.func, inst, 1).hi.checked_add(Word::from(COPY_LIMIT)).is_some() =>
            {
                self.write(inst, place(0), len(2), Source::Calldata, held, insts);
            }
            Opcode::Calldatacopy | Opcode::Datacopy | Opcode::Returndatacopy | Opcode::Mcopy => {
                self.forget(inst, place(0), len(2), held);
            }
            Opcode::EvmCall | Opcode::EvmCallcode => self.forget(inst, place(5), len(6), held),
            Opcode::EvmDelegatecall | Opcode::EvmStaticcall => self.forget(inst, place(4), len(5), held),
            _ => self.forget(inst, None, None, held),
        }
        insts.push(inst);
    }

    /// A read of `len` bytes becomes one of words.
    fn as_words(&mut self, inst: Inst, place: Place, len: u32, held: &Held, insts: &mut Vec<Inst>) {
        let Some(words) = of_words(self.func.insts[inst].opcode, self.cx.goal()) else { return };
        let end = place.at + len;
        let parts: Option<Vec<(u32, Vec<Piece>)>> = (place.at..end)
            .step_by(WORD as usize)
            .map(|from| {
                let to = end.min(from + WORD);
                cover(held, Place { at: from, ..place }, to - from).map(|pieces| (to, pieces))
            })
            .collect();
        let Some(parts) = parts else { return };
        let pc = self.func.insts[inst].pc;
        let mut args = Vec::new();
        for (number, (to, pieces)) in parts.into_iter().enumerate() {
            let from = place.at + number as u32 * WORD;
            let value = put_together(self.func, pieces, to, pc, insts);
            args.push(raised(self.func, value, WORD - (to - from), pc, insts));
        }
        read_words(self.func, inst, words, args, len);
        self.changed = true;
    }

    /// A write of bytes that have a name.
    fn write(
        &mut self,
        inst: Inst,
        place: Option<Place>,
        len: Option<u32>,
        source: Source,
        held: &mut Held,
        insts: &mut Vec<Inst>,
    ) {
        self.forget(inst, place, len, held);
        if let (Some(place), Some(len)) = (place, len.filter(|&len| len <= COPY_LIMIT)) {
            let data = self.func.insts[inst].clone();
            for piece in copied(self.func, place.at, len, &source, &data, insts) {
                put(held, place.base, piece);
            }
        }
    }

    /// What an instruction writes is not known any more.
    fn forget(&self, inst: Inst, place: Option<Place>, len: Option<u32>, held: &mut Held) {
        let writes = self.flow.access(self.func, self.cx, inst).writes;
        if writes.is_empty() {
            return;
        }
        for (&base, pieces) in held.iter_mut() {
            match place {
                Some(place) if place.base == base => {
                    let end = len.and_then(|len| place.at.checked_add(len)).unwrap_or(u32::MAX);
                    pieces.cut(place.at, end);
                }
                _ => pieces.retain(|piece| {
                    let span = self.span(base, piece);
                    !writes.iter().any(|write| write.from < span.to && span.from < write.to)
                }),
            }
        }
        held.retain(|_, pieces| !pieces.is_empty());
    }

    /// Where a piece can lie in memory.
    fn span(&self, base: Base, piece: &Piece) -> Span {
        let clamp = |word: Word| u32::try_from(word).unwrap_or(LIMIT).min(LIMIT);
        let Some(base) = base else {
            let (from, to) = (piece.from - ORIGIN, piece.to - ORIGIN);
            return Span { from: from.min(LIMIT - 1), to: to.min(LIMIT), exact: false };
        };
        let fact = self.flow.fact(base).unwrap_or(Fact::ANY);
        let from = match piece.from.checked_sub(ORIGIN).map(Word::from) {
            // A sum that can wrap can be anything.
            Some(above) if fact.hi.checked_add(above).is_none() => Word::ZERO,
            Some(above) => fact.lo + above,
            None => fact.lo.saturating_sub(Word::from(ORIGIN - piece.from)),
        };
        Span { from: clamp(from).min(LIMIT - 1), to: LIMIT, exact: false }
    }

    /// The value and the constant that an address is the sum of.
    fn place(&self, address: Value) -> Option<Place> {
        let mut value = address;
        let mut offset = Word::ZERO;
        let base = loop {
            if let Some(word) = self.func.constant(value) {
                offset = offset.wrapping_add(word);
                break None;
            }
            let ValueDef::Result(inst, _) = self.func.values[value].def else { break Some(value) };
            let data = &self.func.insts[inst];
            match (data.opcode, data.args.as_slice()) {
                (Opcode::Zext | Opcode::Narrow | Opcode::Bound, &[a]) => value = a,
                (Opcode::Wadd | Opcode::Add, &[a, b]) => {
                    if let Some(word) = self.func.constant(b) {
                        (value, offset) = (a, offset.wrapping_add(word));
                    } else if let Some(word) = self.func.constant(a) {
                        (value, offset) = (b, offset.wrapping_add(word));
                    } else {
                        break Some(value);
                    }
                }
                (Opcode::Wsub | Opcode::Sub, &[a, b]) => match self.func.constant(b) {
                    Some(word) => (value, offset) = (a, offset.wrapping_sub(word)),
                    None => break Some(value),
                },
                _ => break Some(value),
            }
        };
        // Offsets below zero are large words.
        let at = u32::try_from(offset.wrapping_add(Word::from(ORIGIN))).ok().filter(|&at| at < 2 * ORIGIN)?;
        (base.is_some() || at >= ORIGIN).then_some(Place { base, at })
    }

    fn small(&self, len: Value) -> Option<u32> {
        self.func.constant(len).and_then(|len| u32::try_from(len).ok()).filter(|&len| len < ORIGIN)
    }
}

fn cover(held: &Held, place: Place, len: u32) -> Option<Vec<Piece>> {
    held.get(&place.base)?.cover(place.at, place.at + len)
}

fn put(held: &mut Held, base: Base, piece: Piece) {
    if held.len() >= BASES && !held.contains_key(&base) {
        held.pop_first();
    }
    held.entry(base).or_default().put(piece);
}
