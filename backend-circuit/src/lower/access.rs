//! Instructions that read and write storage and memory, and read calldata: see [`crate::trace`].

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Imm, Inst, Opcode, Value, Word as U256};

use super::{Element, Held, Lowering, Predicate};
use crate::error::CircuitError;
use crate::gadgets::{LIMB, Lc, Limb, Word};
use crate::legalize::{FRAME_WORDS, Legalized, PLACE_BITS};
use crate::trace::access::{Cell, Consumed, Content, Limbs, access, key_term, value_term};
use crate::trace::memory_index;

impl<F: PrimeField> Lowering<'_, '_, F> {
    /// Loads and stores of storage, memory and transient storage.
    pub(super) fn access<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        inst: Inst,
        predicate: &Predicate<F>,
    ) -> Result<(), CircuitError> {
        let data = &self.program.legalized.func.insts[inst];
        let (mut cell, written) = match (data.opcode, data.args.as_slice()) {
            (Opcode::Sload, &[slot]) => (self.slot_cell(cs, slot, predicate)?, None),
            (Opcode::Sstore, &[slot, value]) => (self.slot_cell(cs, slot, predicate)?, Some(value)),
            (Opcode::Mload, &[place]) => (self.memory_cell(cs, place)?, None),
            (Opcode::Mstore, &[place, value]) => (self.memory_cell(cs, place)?, Some(value)),
            (Opcode::Tload, &[slot]) => (self.transient_cell(slot)?, None),
            (Opcode::Tstore, &[slot, value]) => (self.transient_cell(slot)?, Some(value)),
            (Opcode::FrameLoad, &[number]) => (self.frame_cell(cs, data.imm, number)?, None),
            (Opcode::FrameStore, &[number, value]) => (self.frame_cell(cs, data.imm, number)?, Some(value)),
            _ => return Err(SynthesisError::Unsatisfiable.into()),
        };
        cell.is_narrow = self.program.legalized.limbs_found(inst) == 1;
        let written = match written {
            None => None,
            Some(value) => {
                let (low, high) = self.word(cs, value)?.0.zext(256).pair(&mut cs.namespace(|| "value"))?;
                Some(Limbs { low: low.lc().clone(), high: high.lc().clone() })
            }
        };
        let consumed = self.consume(predicate);
        let (old, old_term) =
            access(cs, &mut self.state, &predicate.lc, &cell, written.as_ref(), consumed, self.chosen)?;
        if let Some(result) = data.result() {
            self.hold(result, &old);
        }
        if data.opcode == Opcode::Sstore {
            // A call that fails takes its writes back, from the last to the first: see `trace::slots::undo`.
            let undone = self.state.get(Element::Undone);
            let failing = Lc::mul(cs, || "failing".into(), &predicate.lc, &self.state.get(Element::Failing))?;
            let journal = Cell::journal(&self.state, cell.key);
            let entry = Content::new(&journal, &old_term).term(cs, "journal", &self.state, &undone, &failing)?;
            self.state.add(Element::Sum, &entry);
            self.state.add(Element::Undone, &failing);
        }
        Ok(())
    }

    fn slot_cell<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        slot: Value,
        predicate: &Predicate<F>,
    ) -> Result<Cell<F>, CircuitError> {
        let key = self.key(&mut cs.namespace(|| "key"), slot, predicate)?;
        Ok(Cell::slot(key_term(cs, &self.state, &key)?))
    }

    /// `calldataload` at a computed place, which legalisation has made 4 modulo 32 and below the length of the calldata: one of the words that
    /// are opened ([`crate::trace::slots`]). Rows: 3, and its share of the hash of the advice, 61.
    pub(super) fn lookup<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        inst: Inst,
        predicate: &Predicate<F>,
    ) -> Result<(), CircuitError> {
        let data = &self.program.legalized.func.insts[inst];
        let (&[place], Some(result)) = (data.args.as_slice(), data.result()) else {
            return Err(SynthesisError::Unsatisfiable.into());
        };
        let cell = Cell::calldata(self.index(cs, place)?);
        let is_idle = predicate.lc.value() == Some(F::ZERO);
        let value = self.feed.as_deref_mut().map(|feed| if is_idle { U256::ZERO } else { feed.lookup() });
        let read = Limbs::alloc(cs, "word", value)?;
        let term = value_term(cs, &self.state, &read)?;
        let read_term = Content::new(&cell, &term).term(cs, "read", &self.state, &Lc::zero(), &predicate.lc)?;
        self.state.add(Element::Sum, &read_term);
        self.hold(result, &read);
        self.chosen.elements.extend([read.low, read.high]);
        Ok(())
    }

    /// A word that the trace argument says.
    fn hold(&mut self, result: Value, read: &Limbs<F>) {
        let limb = |lc: &Lc<F>| Limb::new(lc.clone(), LIMB, lc.value().map(|value| crate::field::to_u256(&value)));
        let word = Word::from_pair(256, limb(&read.low), limb(&read.high));
        // What an idle slot reads is free, so nothing may rest on it.
        self.held.insert(result, Held { word, idle: None, guard: None });
    }

    /// The cell of a slot of transient storage: one of memory behind its limit.
    fn transient_cell(&self, slot: Value) -> Result<Cell<F>, CircuitError> {
        let place = self.program.legalized.transient_place(slot).ok_or(SynthesisError::Unsatisfiable)?;
        Ok(Cell::memory(memory_index(&self.state.get(Element::Call), &Lc::constant(F::from(place)))))
    }

    /// The cell of word `number` of the frames from `offset` on: one of memory behind its limit.
    fn frame_cell<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        offset: Imm,
        number: Value,
    ) -> Result<Cell<F>, CircuitError> {
        let first = Legalized::frame_place(offset).ok_or(SynthesisError::Unsatisfiable)?;
        let (number, _) = self.word(cs, number)?;
        if number.bound() > FRAME_WORDS.ilog2() {
            return Err(SynthesisError::Unsatisfiable.into());
        }
        let place = Lc::constant(F::from(first)).plus(&number.packed().times(F::from(32)));
        Ok(Cell::memory(memory_index(&self.state.get(Element::Call), &place)))
    }

    /// The cell of the word at `place`, which legalisation has made a multiple of 32 below 2^28.
    fn memory_cell<CS: ConstraintSystem<F>>(&mut self, cs: &mut CS, place: Value) -> Result<Cell<F>, CircuitError> {
        Ok(Cell::memory(self.index(cs, place)?))
    }

    /// The number of the cell at `place`, below 2^28, of the running call.
    fn index<CS: ConstraintSystem<F>>(&mut self, cs: &mut CS, place: Value) -> Result<Lc<F>, CircuitError> {
        let (place, _) = self.word(cs, place)?;
        if place.bound() > u32::from(PLACE_BITS) + 1 {
            return Err(SynthesisError::Unsatisfiable.into());
        }
        Ok(memory_index(&self.state.get(Element::Call), &place.packed()))
    }

    /// What the next access consumes: nothing where it is not active.
    fn consume(&mut self, predicate: &Predicate<F>) -> Option<Consumed> {
        let active = predicate.lc.value()?;
        let feed = self.feed.as_deref_mut()?;
        Some(if active == F::ZERO { Consumed::default() } else { feed.access() })
    }
}
