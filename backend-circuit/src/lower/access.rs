//! Instructions that read and write storage and memory: see [`crate::trace`].

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Inst, Opcode, Value};

use super::{Element, Held, Lowering, Predicate};
use crate::error::CircuitError;
use crate::gadgets::{LIMB, Lc, Limb, Word};
use crate::legalize::PLACE_BITS;
use crate::trace::access::{Cell, Consumed, Content, Limbs, access, key_term};
use crate::trace::memory_index;

impl<F: PrimeField> Lowering<'_, '_, F> {
    /// `sload`, `sstore`, `mload` and `mstore`.
    pub(super) fn access<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        inst: Inst,
        predicate: &Predicate<F>,
    ) -> Result<(), CircuitError> {
        let data = &self.program.legalized.func.insts[inst];
        let (cell, written) = match (data.opcode, data.args.as_slice()) {
            (Opcode::Sload, &[slot]) => (self.slot_cell(cs, slot, predicate)?, None),
            (Opcode::Sstore, &[slot, value]) => (self.slot_cell(cs, slot, predicate)?, Some(value)),
            (Opcode::Mload, &[place]) => (self.memory_cell(cs, place)?, None),
            (Opcode::Mstore, &[place, value]) => (self.memory_cell(cs, place)?, Some(value)),
            _ => return Err(SynthesisError::Unsatisfiable.into()),
        };
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
            let limb = |lc: &Lc<F>| Limb::new(lc.clone(), LIMB, lc.value().map(|value| crate::field::to_u256(&value)));
            let word = Word::from_pair(256, limb(&old.low), limb(&old.high));
            // What an idle slot reads is free, so nothing may rest on it.
            self.held.insert(result, Held { word, idle: None, guard: None });
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

    /// The cell of the word at `place`, which legalisation has made a multiple of 32 below 2^28.
    fn memory_cell<CS: ConstraintSystem<F>>(&mut self, cs: &mut CS, place: Value) -> Result<Cell<F>, CircuitError> {
        let (place, _) = self.word(cs, place)?;
        if place.bound() > u32::from(PLACE_BITS) + 1 {
            return Err(SynthesisError::Unsatisfiable.into());
        }
        Ok(Cell::memory(memory_index(&self.state.get(Element::Call), &place.packed())))
    }

    /// What the next access consumes: nothing where it is not active.
    fn consume(&mut self, predicate: &Predicate<F>) -> Option<Consumed> {
        let active = predicate.lc.value()?;
        let feed = self.feed.as_deref_mut()?;
        Some(if active == F::ZERO { Consumed::default() } else { feed.access() })
    }
}
