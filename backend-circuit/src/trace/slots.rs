//! The slots that close the trace argument: see [`crate::system`] for their order.
//!
//! `undo` takes back one write of a call that does not return, the last one first. Every write of such a call has left an entry
//! in a journal: a tuple of the call, the number of the write, the key, and what the slot held before. The slot consumes the entry
//! with the highest number and writes that value back; the call is over when no entry is left.
//!
//! `open` opens a block of the calldata of the call that has ended last, and offers its words to those that read them at computed places. The first
//! block is opened when the call begins. A prover opens as many blocks as it needs.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `block` | `active · (hash − unread) = 0` | the block is the next of the calldata's digest |
//! | `times` | `inverse · (γ + fingerprint) = times` | a word is consumed as often as it was read |
//! | `idle` | `times · (1 − active) = 0` | an idle slot offers nothing |
//!
//! `sweep` opens and closes cells of memory: it leaves the tuple of time zero, with value zero, and consumes the last one. The numbers
//! of cells strictly increase, so each is opened once.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `used` | `used · (used − active) = 0` | the slot opens a cell here |
//! | `beyond` | bits of `index − swept` | its number is not below the last one's plus one |
//! | `swept` | `used · (index + 1 − swept) = swept' − swept` | |
//!
//! The others walk through the state tree ([`crate::state::circuit`]) in the order of keys. `write`, `read` and `gap` open and close
//! one slot of storage each: they leave its tuple of time zero, with its value in the tree, and consume the last one, whose
//! value goes into the tree. Keys strictly increase, so each is opened once.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `touched` | `touched · (touched − active) = 0` | the leaf is of a slot that the execution touches |
//! | `kept low`, `kept high` | `(1 − touched) · (new − old) = 0` | else its value stays |
//! | `first` | `inverse · (γ + fingerprint) = touched`, at time zero | what the slot held before the execution |
//! | `last` | `inverse · (γ + fingerprint) = touched` | what it holds afterwards |
//! | `again` | `again · (again − active) = 0` | the walk goes on |

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;

use super::access::{Cell, Consumed, Content, Limbs, access, key_term, value_term};
use super::{Chosen, INDEX_BITS, memory_index};
use crate::digest::{BLOCK_WORDS, Hasher};
use crate::error::CircuitError;
use crate::field::{to_u256, two_pow};
use crate::gadgets::{Lc, compare, decompose, enforce};
use crate::lower::{Element, State, next_call};
use crate::program::Program;
use crate::region::{DONE, Region};
use crate::replay::{Feed, OpenedBlock};
use crate::state::circuit::{Access, Cursor};
use crate::state::order::Split;
use crate::state::walk::Op;
use crate::system::System;

/// The bytes of a word, and of a block of the calldata.
const WORD_BYTES: u64 = 32;
const BLOCK_BYTES: u64 = WORD_BYTES * BLOCK_WORDS as u64;
/// Where the first block of the calldata begins, and where the next.
pub(crate) const FIRST_BLOCK: u64 = 4;
pub(crate) const FIRST_BLOCK_END: u64 = FIRST_BLOCK + BLOCK_BYTES;

/// How many cells of memory a slot opens and closes.
pub const SWEPT: usize = 8;
/// How many elements the prover chooses for each.
pub const SWEPT_ELEMENTS: usize = 4;

/// A slot of the system. See the head of this file.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn slot<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    program: &Program,
    system: System,
    before: &State<F>,
    active: &Lc<F>,
    mut feed: Option<&mut Feed<'_, F>>,
    chosen: &mut Chosen<Lc<F>>,
) -> Result<State<F>, CircuitError> {
    let mut slot = Slot { program, active, state: before.clone(), chosen };
    match system {
        System::Undo => {
            slot.undo(cs, feed.as_deref_mut())?;
            return Ok(slot.state);
        }
        System::Open => {
            slot.open(cs, feed.as_deref_mut())?;
            return Ok(slot.state);
        }
        System::Sweep => {
            slot.sweep(cs, feed.as_deref_mut())?;
            return Ok(slot.state);
        }
        _ => {}
    }
    let is_idle = active.value() == Some(F::ZERO);
    let mut cursor = Cursor::from_elements(Element::WALK.map(|element| before.get(element)));
    match system {
        System::Undo | System::Open | System::Sweep => {}
        System::Enter => {
            let parts = feed.as_deref().and_then(Feed::parts);
            cursor.enter(cs, active, &before.get(Element::Root), parts.as_ref())?;
        }
        System::Write => slot.visit(cs, &mut cursor, Access::Write, next(&mut feed, is_idle))?,
        System::Read => slot.visit(cs, &mut cursor, Access::Read, next(&mut feed, is_idle))?,
        System::Gap => slot.gap(cs, &mut cursor, next(&mut feed, is_idle))?,
        System::Flush => {
            let step = next(&mut feed, is_idle);
            let witness = step.as_ref().and_then(|(op, _)| match op {
                Some(Op::Flush(flush)) => Some(flush),
                _ => None,
            });
            cursor.flush(cs, active, witness)?;
        }
        System::Close => {
            next(&mut feed, is_idle);
            cursor.close(cs, active)?;
        }
        System::Leave => {
            let root = cursor.leave(cs, active)?;
            let change = Lc::mul(cs, || "root".into(), active, &root.minus(&before.get(Element::Root)))?;
            slot.state.add(Element::Root, &change);
        }
    }
    for (element, lc) in Element::WALK.into_iter().zip(cursor.into_elements()) {
        slot.state.set(element, lc);
    }
    slot.next_walk(cs, system, feed.as_deref())?;
    Ok(slot.state)
}

/// What a slot of a walk does, and what the slot of storage that it opens and closes holds at the end.
type WalkStep<F> = (Option<Op<F>>, Consumed);

/// The next operation of the walk: of an idle slot none.
fn next<F: PrimeField>(feed: &mut Option<&mut Feed<'_, F>>, is_idle: bool) -> Option<WalkStep<F>> {
    let feed = feed.as_deref_mut()?;
    if is_idle {
        return Some((None, Consumed::default()));
    }
    let (op, last) = feed.op()?;
    Some((Some(op), last))
}

/// Offers the words of a block of the calldata to those that read them: each is consumed as often as it was read. Gives how often, which the
/// prover chooses. Rows: 4 for each word.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub(crate) fn offer<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    state: &mut State<F>,
    active: &Lc<F>,
    first: &Lc<F>,
    words: &[Limbs<F>],
    times: Option<[u64; BLOCK_WORDS]>,
) -> Result<Vec<Lc<F>>, SynthesisError> {
    let mut chosen = Vec::with_capacity(words.len());
    for (at, word) in words.iter().enumerate() {
        let mut cs = cs.namespace(|| format!("offer {at}"));
        let times = times.and_then(|times| times.get(at).copied()).map(F::from);
        let times = Lc::alloc(&mut cs, || "times".into(), times)?;
        enforce(&mut cs, || "idle".into(), &times, &active.complement(), &Lc::zero());
        let place = first.plus(&Lc::constant(F::from(at as u64 * WORD_BYTES)));
        let cell = Cell::calldata(memory_index(&state.get(Element::Call), &place));
        let term = value_term(&mut cs, state, word)?;
        let offered = Content::new(&cell, &term).term(&mut cs, "times", state, &Lc::zero(), &times)?;
        state.add(Element::Sum, &offered.times(-F::ONE));
        chosen.push(times);
    }
    Ok(chosen)
}

struct Slot<'a, F: PrimeField> {
    program: &'a Program,
    active: &'a Lc<F>,
    state: State<F>,
    chosen: &'a mut Chosen<Lc<F>>,
}

impl<F: PrimeField> Slot<'_, F> {
    fn undo<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        mut feed: Option<&mut Feed<'_, F>>,
    ) -> Result<(), CircuitError> {
        let is_idle = self.active.value() == Some(F::ZERO);
        let undo = feed.as_deref_mut().map(|feed| if is_idle { None } else { feed.undo() });
        let key = undo.as_ref().map(|undo| undo.map_or(F::ZERO, |(key, _)| key));
        let key = Lc::alloc(cs, || "key".into(), key)?;
        let before = undo.as_ref().map(|undo| undo.map(|(_, undo)| undo.before).unwrap_or_default());
        let before = Limbs::alloc(cs, "before", before)?;
        let term = key_term(cs, &self.state, &key)?;
        // The entry that was written last.
        let number = self.state.get(Element::Undone).minus(&Lc::one());
        let value = value_term(&mut cs.namespace(|| "entry"), &self.state, &before)?;
        let journal = Cell::journal(&self.state, term.clone());
        let entry = Content::new(&journal, &value).term(cs, "entry", &self.state, &number, self.active)?;
        self.state.add(Element::Sum, &entry.times(-F::ONE));
        self.state.add(Element::Undone, &self.active.times(-F::ONE));
        let consumed = undo.map(|undo| undo.map(|(_, undo)| undo.now).unwrap_or_default());
        let cell = Cell::slot(term);
        access(cs, &mut self.state, self.active, &cell, Some(&before), consumed, self.chosen)?;
        self.chosen.elements.extend([before.low, before.high, key]);
        let none = compare::is_zero_element(&mut cs.namespace(|| "left"), &self.state.get(Element::Undone))?;
        let own = self.program.system_region(System::Undo).map_or(DONE, |undo| undo.label());
        let more = (none.complement(), own);
        next_call(cs, self.program, &mut self.state, self.active, own, Some(more), feed)
    }

    /// Opens the next block of the calldata.
    fn open<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        mut feed: Option<&mut Feed<'_, F>>,
    ) -> Result<(), CircuitError> {
        let is_idle = self.active.value() == Some(F::ZERO);
        let block = feed.as_deref_mut().map(|feed| if is_idle { OpenedBlock::default() } else { feed.block() });
        let mut limbs = Vec::with_capacity(BLOCK_WORDS);
        for at in 0..BLOCK_WORDS {
            let word = block.as_ref().map(|block| block.words[at]);
            limbs.push(Limbs::alloc(cs, &format!("word {at}"), word)?);
        }
        let rest = Lc::alloc(cs, || "rest".into(), block.as_ref().map(|block| block.rest))?;
        let hash = Hasher::shared().calldata_block_in_circuit(cs, &limbs, &rest)?;
        let unread = self.state.get(Element::Unread);
        enforce(cs, || "block".into(), self.active, &hash.minus(&unread), &Lc::zero());
        let change = Lc::mul(cs, || "unread".into(), self.active, &rest.minus(&unread))?;
        self.state.add(Element::Unread, &change);
        let first = self.state.get(Element::Opened);
        let times = block.map(|block| block.times);
        let times = offer(cs, &mut self.state, self.active, &first, &limbs, times)?;
        self.chosen.elements.extend(times);
        self.state.add(Element::Opened, &self.active.times(F::from(BLOCK_BYTES)));
        let own = self.program.system_region(System::Open).map_or(DONE, |open| open.label());
        next_call(cs, self.program, &mut self.state, self.active, own, None, feed)
    }

    /// Opens and closes cells of memory, each with a larger number than the one before.
    fn sweep<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        mut feed: Option<&mut Feed<'_, F>>,
    ) -> Result<(), CircuitError> {
        let is_idle = self.active.value() == Some(F::ZERO);
        for number in 0..SWEPT {
            let mut cs = cs.namespace(|| format!("cell {number}"));
            let swept = feed.as_deref_mut().map(|feed| if is_idle { None } else { feed.cell() });
            let flag = swept.map(|swept| if swept.is_some() { F::ONE } else { F::ZERO });
            let used = Lc::alloc(&mut cs, || "used".into(), flag)?;
            enforce(&mut cs, || "used".into(), &used, &used.minus(self.active), &Lc::zero());
            let before = self.state.get(Element::Swept);
            let next = before.value();
            let last = swept.map(|swept| swept.unwrap_or_default().1);
            let beyond = swept.and_then(|swept| match swept {
                Some((index, _)) => next.map(|next| F::from(index) - next),
                None => Some(F::ZERO),
            });
            let beyond = Lc::alloc(&mut cs, || "beyond".into(), beyond)?;
            let size = beyond.value().map(|beyond| to_u256(&beyond));
            decompose(&mut cs.namespace(|| "beyond"), &beyond, size, INDEX_BITS)?;
            let index = before.plus(&beyond);
            let value = Limbs::alloc(&mut cs, "last", last.map(|last| last.value))?;
            let time = Lc::alloc(&mut cs, || "last time".into(), last.map(|last| F::from(u64::from(last.time))))?;
            let term = value_term(&mut cs, &self.state, &value)?;
            let cell = Cell::memory(index);
            let (first, last) = (Content::new(&cell, &Lc::zero()), Content::new(&cell, &term));
            let first = first.term(&mut cs, "first", &self.state, &Lc::zero(), &used)?;
            let last = last.term(&mut cs, "last", &self.state, &time, &used)?;
            self.state.add(Element::Sum, &first.minus(&last));
            let next = Lc::mul(&mut cs, || "swept".into(), &used, &beyond.plus(&Lc::one()))?;
            self.state.add(Element::Swept, &next);
            // The difference has 60 bits, so that the sum says both.
            let which = beyond.plus(&used.times(two_pow(INDEX_BITS)));
            self.chosen.elements.extend([value.low, value.high, time, which]);
        }
        let is_more = feed.map(|feed| if !is_idle && feed.has_more_cells() { F::ONE } else { F::ZERO });
        let again = Lc::alloc(cs, || "again".into(), is_more)?;
        enforce(cs, || "again".into(), &again, &again.minus(self.active), &Lc::zero());
        let label = |system: Option<Region>| F::from(system.map_or(DONE, Region::label));
        let own = label(self.program.system_region(System::Sweep));
        let enter = label(self.program.system_region(System::Enter));
        self.state.add(Element::Label, &self.active.minus(&again).times(enter - own));
        Ok(())
    }

    fn visit<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        cursor: &mut Cursor<F>,
        kind: Access,
        step: Option<WalkStep<F>>,
    ) -> Result<(), CircuitError> {
        let visit = step.as_ref().map(|(op, _)| match op {
            Some(Op::Visit(visit)) => Some(visit.as_ref()),
            _ => None,
        });
        let key = visit.map(|visit| visit.map_or(F::ZERO, |visit| visit.before.key));
        let key = Lc::alloc(cs, || "key".into(), key)?;
        let old = visit.map(|visit| visit.map(|visit| visit.before.value).unwrap_or_default());
        let old = Limbs::alloc(cs, "first", old)?;
        let new = match kind {
            Access::Read => old.clone(),
            Access::Write => {
                let new = visit.map(|visit| visit.map(|visit| visit.value).unwrap_or_default());
                Limbs::alloc(cs, "last", new)?
            }
        };
        let touched = visit.map(|visit| if visit.is_some_and(|visit| visit.touched) { F::ONE } else { F::ZERO });
        let touched = Lc::alloc(cs, || "touched".into(), touched)?;
        enforce(cs, || "touched".into(), &touched, &touched.minus(self.active), &Lc::zero());
        if kind == Access::Write {
            let kept = touched.complement();
            enforce(cs, || "kept low".into(), &kept, &new.low.minus(&old.low), &Lc::zero());
            enforce(cs, || "kept high".into(), &kept, &new.high.minus(&old.high), &Lc::zero());
        }
        let last = step.as_ref().map(|(_, last)| last.time);
        self.open_and_close(cs, &key, &touched, (&old, &new), last)?;
        self.chosen.elements.extend([old.low.clone(), old.high.clone(), key.clone()]);
        let split = Split::new(&mut cs.namespace(|| "key"), &key)?;
        let values = [&[old.low, old.high], &[new.low, new.high]];
        Ok(cursor.visit(cs, self.active, kind, &split, values, visit.flatten())?)
    }

    fn gap<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        cursor: &mut Cursor<F>,
        step: Option<WalkStep<F>>,
    ) -> Result<(), CircuitError> {
        let gap = step.as_ref().map(|(op, _)| match op {
            Some(Op::Gap(gap)) => Some(gap),
            _ => None,
        });
        let key = Lc::alloc(cs, || "key".into(), gap.map(|gap| gap.map_or(F::ZERO, |gap| gap.key)))?;
        let new = gap.map(|gap| gap.map(|gap| gap.value).unwrap_or_default());
        let new = Limbs::alloc(cs, "last", new)?;
        let old = Limbs { low: Lc::zero(), high: Lc::zero() };
        let last = step.as_ref().map(|(_, last)| last.time);
        let active = self.active.clone();
        self.open_and_close(cs, &key, &active, (&old, &new), last)?;
        self.chosen.elements.push(key.clone());
        let split = Split::new(&mut cs.namespace(|| "key"), &key)?;
        Ok(cursor.gap(cs, self.active, &split, &[new.low, new.high], gap.flatten())?)
    }

    /// Leaves the tuple of time zero of a slot of storage and consumes its last one.
    fn open_and_close<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        key: &Lc<F>,
        touched: &Lc<F>,
        (old, new): (&Limbs<F>, &Limbs<F>),
        last: Option<u32>,
    ) -> Result<(), SynthesisError> {
        let time = Lc::alloc(cs, || "last time".into(), last.map(|time| F::from(u64::from(time))))?;
        let term = key_term(cs, &self.state, key)?;
        let old = value_term(&mut cs.namespace(|| "first"), &self.state, old)?;
        let new_term = value_term(&mut cs.namespace(|| "last"), &self.state, new)?;
        let cell = Cell::slot(term);
        let first = Content::new(&cell, &old).term(cs, "first", &self.state, &Lc::zero(), touched)?;
        let last = Content::new(&cell, &new_term).term(cs, "last", &self.state, &time, touched)?;
        self.state.add(Element::Sum, &first.minus(&last));
        // Time and flag have no ranges that a sum could rely on.
        self.chosen.elements.extend([new.low.clone(), new.high.clone(), time, touched.clone()]);
        Ok(())
    }

    /// The label after a slot of the walk.
    fn next_walk<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        system: System,
        feed: Option<&Feed<'_, F>>,
    ) -> Result<(), SynthesisError> {
        let label = |system: System| {
            F::from(self.program.system_region(system).map_or(DONE, |region| self.program.label(region)))
        };
        let own = label(system);
        let change = if system == System::Leave {
            self.active.times(F::from(DONE) - own)
        } else {
            let is_idle = self.active.value() == Some(F::ZERO);
            let again = feed.map(|feed| if !is_idle && feed.has_more_ops() { F::ONE } else { F::ZERO });
            let again = Lc::alloc(cs, || "again".into(), again)?;
            enforce(cs, || "again".into(), &again, &again.minus(self.active), &Lc::zero());
            let (walk, leave) = (label(System::Write), label(System::Leave));
            again.times(walk - leave).plus(&self.active.times(leave - own))
        };
        self.state.add(Element::Label, &change);
        Ok(())
    }
}
