//! Values that are places in storage: field elements instead of words. See [`crate::place`] and [`crate::legalize::Places`].
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `offset` | `predicate · (word / 2^64) = 0` | a slot number or an offset is below 2^64, or the path is not taken |
//!
//! A place in an idle slot, or on a path that is not taken, is some field element that nothing uses.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Inst, Opcode, Value, Word as U256};

use super::{Element, Incoming, Lowering, Predicate};
use crate::error::CircuitError;
use crate::field::{from_u256, two_pow};
use crate::gadgets::{LIMB, Lc, Limb, Word, enforce};
use crate::place::{OFFSET_BITS, constant_key_in_circuit, hashed_key_in_circuit};
use crate::registers::{Source, source};

impl<F: PrimeField> Lowering<'_, '_, F> {
    /// The key of the slot that `value` numbers. If it is a number that may be too large, no proof takes the path.
    pub(super) fn key<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        value: Value,
        predicate: &Predicate<F>,
    ) -> Result<Lc<F>, CircuitError> {
        let inner = match source(&self.program.legalized.func, value) {
            Source::Constant(slot) => return self.constant_key(cs, &slot),
            Source::Value(inner) => inner,
        };
        if let Some(key) = self.keys.get(&inner) {
            return Ok(key.clone());
        }
        let key = if self.program.legalized.places.is_carried(inner) {
            let register = self.program.registers.of(inner).first().copied().ok_or(SynthesisError::Unsatisfiable)?;
            self.gated_register(cs, inner, register)?
        } else {
            self.offset(cs, inner, predicate)?.plus(&self.state.get(Element::Origin))
        };
        self.keys.insert(inner, key.clone());
        Ok(key)
    }

    /// The key of a constant slot.
    pub(super) fn constant_key<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        slot: &U256,
    ) -> Result<Lc<F>, CircuitError> {
        if let Some(key) = self.constants.get(slot) {
            return Ok(key.clone());
        }
        let mut cs = cs.namespace(|| format!("slot {slot:#x}"));
        let known = &self.program.legalized.places;
        let key = match known.known().below(slot).filter(|_| slot.bit_len() as u32 > OFFSET_BITS) {
            None => constant_key_in_circuit(&mut cs, slot, &self.state.get(Element::Origin))?,
            Some((hash, words, layout)) => {
                let (place, others) = layout.split(words);
                let others: Vec<Word<F>> = others.iter().map(|&word| Word::constant(256, word)).collect();
                // Without a place the origin, which is the key of slot 0.
                let (place, offset) = (place.copied().unwrap_or_default(), slot - hash);
                let place = self.constant_key(&mut cs, &place)?;
                hashed_key_in_circuit(&mut cs, &others, layout, &place)?.plus(&Lc::constant(from_u256(&offset)))
            }
        };
        self.constants.insert(*slot, key.clone());
        Ok(key)
    }

    /// The key of a result that is a place: a hash, a sum with an offset, a choice.
    pub(super) fn place<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        inst: Inst,
        predicate: &Predicate<F>,
    ) -> Result<Lc<F>, CircuitError> {
        let program = self.program;
        let data = &program.legalized.func.insts[inst];
        match (data.opcode, data.args.as_slice()) {
            (Opcode::KeccakWords, words) => {
                let layout = program.legalized.places.layout(inst).ok_or(SynthesisError::Unsatisfiable)?;
                let (place, others) = layout.split(words);
                let place = match place {
                    Some(&place) => self.key(cs, place, predicate)?,
                    None => self.state.get(Element::Origin),
                };
                let mut words = Vec::with_capacity(others.len());
                for &other in others {
                    words.push(self.word(cs, other)?.0);
                }
                Ok(hashed_key_in_circuit(cs, &words, layout, &place)?)
            }
            (Opcode::Wadd | Opcode::Add, &[a, b]) => {
                let (place, offset) = if program.legalized.places.is_carried(a) { (a, b) } else { (b, a) };
                let place = self.key(cs, place, predicate)?;
                let offset = match source(&program.legalized.func, offset) {
                    Source::Constant(word) if word.bit_len() as u32 <= OFFSET_BITS => Lc::constant(from_u256(&word)),
                    Source::Constant(word) => Lc::constant(-from_u256::<F>(&word.wrapping_neg())),
                    Source::Value(offset) => self.offset(cs, offset, predicate)?,
                };
                Ok(place.plus(&offset))
            }
            (Opcode::Select, &[flag, a, b]) => {
                let flag = self.word(cs, flag)?.0;
                let (a, b) = (self.key(cs, a, predicate)?, self.key(cs, b, predicate)?);
                Ok(Lc::select(cs, || "place".into(), flag.as_boolean()?, &a, &b)?)
            }
            _ => Err(SynthesisError::Unsatisfiable.into()),
        }
    }

    /// The place that a parameter is: parameter number `at` of a block with several branches into it. Where the block does not
    /// run, the last arm counts as taken.
    pub(super) fn join_keys<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        arms: &[Incoming<F>],
        at: usize,
    ) -> Result<Lc<F>, CircuitError> {
        let mut keys = Vec::with_capacity(arms.len());
        for arm in arms {
            let arg = arm.args.get(at).copied().ok_or(SynthesisError::Unsatisfiable)?;
            keys.push(self.key(cs, arg, &arm.predicate)?);
        }
        let Some((last, others)) = keys.split_last() else { return Ok(Lc::zero()) };
        let mut key = last.clone();
        for (index, (other, arm)) in others.iter().zip(arms).enumerate() {
            let name = || format!("place {at} arm {index}");
            key = key.plus(&Lc::mul(cs, name, &arm.predicate.lc, &other.minus(last))?);
        }
        Ok(key)
    }

    /// A word that is below 2^64 if the path is taken.
    fn offset<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        value: Value,
        predicate: &Predicate<F>,
    ) -> Result<Lc<F>, CircuitError> {
        let (word, _) = self.word(cs, value)?;
        if word.bound() <= OFFSET_BITS {
            return Ok(word.packed());
        }
        let mut cs = cs.namespace(|| format!("{value}"));
        let (low, high) = word.pair(&mut cs)?;
        let bits = low.bits(&mut cs.namespace(|| "low"))?;
        let cut = bits.len().min(OFFSET_BITS as usize);
        let kept = Limb::from_bits(&bits, 0..cut, low.value());
        let rest = Limb::from_bits(&bits, cut..bits.len(), low.value());
        let rest = Lc::sum([(F::ONE, rest.lc()), (two_pow(LIMB - OFFSET_BITS), high.lc())]);
        enforce(&mut cs, || "offset".into(), &predicate.lc, &rest, &Lc::zero());
        Ok(kept.lc().clone())
    }
}
