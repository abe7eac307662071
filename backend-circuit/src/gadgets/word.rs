//! Words: values of the IR's types in the circuit.

use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use super::lc::Lc;
use super::limb::{LIMB, Limb, NARROW, low_bits};
use crate::field::{from_u256, to_u256};

/// A value of type `uN`.
///
/// The value is one limb while its bound fits the field with room to spare ([`NARROW`]), else two limbs of 128 and
/// `N − 128` bits. The bound may be tighter than the type (a byte extended to `u256` is still one limb), so the
/// representation follows from what is known at compile time, never from the witness. Every word satisfies its bounds:
/// whoever makes one has constrained it.
#[derive(Clone, Debug)]
pub struct Word<F: PrimeField> {
    width: u32,
    repr: Repr<F>,
}

#[derive(Clone, Debug)]
enum Repr<F: PrimeField> {
    One(Limb<F>),
    Two(Limb<F>, Limb<F>),
}

/// How many field elements carry a value of type `u{width}` between regions and in digests: one up to [`NARROW`] bits,
/// else two.
pub const fn limb_count(width: u32) -> usize {
    if width <= NARROW { 1 } else { 2 }
}

/// The bits of limb `index` of a value of type `u{width}` in that layout.
pub const fn limb_bits(width: u32, index: usize) -> u32 {
    match (limb_count(width), index) {
        (1, _) => width,
        (_, 0) => LIMB,
        _ => width - LIMB,
    }
}

/// The limbs of an integer in the layout of type `u{width}`.
pub fn native_limbs<F: PrimeField>(width: u32, value: &U256) -> Vec<F> {
    if limb_count(width) == 1 {
        return vec![from_u256(value)];
    }
    vec![from_u256(&low_bits(*value, LIMB)), from_u256(&(*value >> LIMB as usize))]
}

impl<F: PrimeField> Word<F> {
    /// A constant of type `u{width}`; `value` is below `2^width`.
    pub fn constant(width: u32, value: U256) -> Self {
        if value.bit_len() as u32 <= NARROW {
            return Self { width, repr: Repr::One(Limb::constant(value)) };
        }
        let (low, high) = (low_bits(value, LIMB), value >> LIMB as usize);
        Self { width, repr: Repr::Two(Limb::constant(low), Limb::constant(high)) }
    }

    /// A boolean, type `u1`. The caller has constrained it.
    pub fn boolean(lc: Lc<F>) -> Self {
        Self::from_limb(1, Limb::boolean(lc))
    }

    /// One limb; its bound is at most [`NARROW`], or the type's width if that is less.
    pub fn from_limb(width: u32, limb: Limb<F>) -> Self {
        let limb = limb.rebound(width);
        debug_assert!(limb.bound() <= NARROW);
        Self { width, repr: Repr::One(limb) }
    }

    /// `low + 2^128 · high`, as one limb where that fits.
    pub fn from_pair(width: u32, low: Limb<F>, high: Limb<F>) -> Self {
        debug_assert!(low.bound() <= LIMB);
        let high = high.rebound(width.saturating_sub(LIMB));
        if high.bound() == 0 {
            return Self::from_limb(width, low);
        }
        if LIMB + high.bound() <= NARROW {
            return Self::from_limb(width, Limb::from_halves(&low, &high));
        }
        Self { width, repr: Repr::Two(low, high) }
    }

    /// A word from the limbs of [`Word::limbs`], trusted to be in range: for values that an earlier step constrained.
    ///
    /// # Errors
    /// `Unsatisfiable` if the number of limbs is not that of the type, or a known value is out of range.
    pub fn from_limbs(width: u32, limbs: &[Lc<F>]) -> Result<Self, SynthesisError> {
        if limbs.len() != limb_count(width) {
            return Err(SynthesisError::Unsatisfiable);
        }
        let mut checked = Vec::with_capacity(2);
        for (index, lc) in limbs.iter().enumerate() {
            let bound = limb_bits(width, index);
            let value = lc.value().map(|value| to_u256(&value));
            if value.is_some_and(|value| value.bit_len() as u32 > bound) {
                return Err(SynthesisError::Unsatisfiable);
            }
            checked.push(Limb::new(lc.clone(), bound, value));
        }
        let mut checked = checked.into_iter();
        match (checked.next(), checked.next()) {
            (Some(limb), None) => Ok(Self::from_limb(width, limb)),
            (Some(low), Some(high)) => Ok(Self::from_pair(width, low, high)),
            (None, _) => Err(SynthesisError::Unsatisfiable),
        }
    }

    /// A fresh witness of type `u{width}`, range-checked: `width` rows.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants the value and there is none.
    pub fn alloc_checked<CS: ConstraintSystem<F>>(
        cs: &mut CS,
        width: u32,
        value: Option<U256>,
    ) -> Result<Self, SynthesisError> {
        let mut limbs = Vec::with_capacity(2);
        for index in 0..limb_count(width) {
            let mut cs = cs.namespace(|| format!("limb {index}"));
            let bound = limb_bits(width, index);
            let value = value.map(|value| low_bits(value >> (index * LIMB as usize), bound));
            limbs.push(Limb::alloc_checked(&mut cs, bound, value)?);
        }
        let mut limbs = limbs.into_iter();
        match (limbs.next(), limbs.next()) {
            (Some(low), Some(high)) => Ok(Self::from_pair(width, low, high)),
            (Some(limb), None) => Ok(Self::from_limb(width, limb)),
            (None, _) => Err(SynthesisError::Unsatisfiable),
        }
    }

    /// The width `N` of the type.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// The value is known to be below `2^bound`, at most the width.
    pub fn bound(&self) -> u32 {
        match &self.repr {
            Repr::One(limb) => limb.bound(),
            Repr::Two(_, high) => LIMB + high.bound(),
        }
    }

    /// The value, where a witness is known.
    pub fn value(&self) -> Option<U256> {
        match &self.repr {
            Repr::One(limb) => limb.value(),
            Repr::Two(low, high) => low.value().zip(high.value()).map(|(low, high)| low | high << LIMB as usize),
        }
    }

    /// The value, if it is a constant of the circuit.
    pub fn as_constant(&self) -> Option<U256> {
        match &self.repr {
            Repr::One(limb) => limb.as_constant(),
            Repr::Two(low, high) => {
                low.as_constant().zip(high.as_constant()).map(|(low, high)| low | high << LIMB as usize)
            }
        }
    }

    /// The value as one limb, if it is one.
    pub fn as_limb(&self) -> Option<&Limb<F>> {
        match &self.repr {
            Repr::One(limb) => Some(limb),
            Repr::Two(..) => None,
        }
    }

    /// The two limbs, if the value is held as two.
    pub fn as_two(&self) -> Option<(&Limb<F>, &Limb<F>)> {
        match &self.repr {
            Repr::One(_) => None,
            Repr::Two(low, high) => Some((low, high)),
        }
    }

    /// The value modulo `p`, as one linear combination: no rows.
    pub fn packed(&self) -> Lc<F> {
        match &self.repr {
            Repr::One(limb) => limb.lc().clone(),
            Repr::Two(low, high) => low.lc().plus(&high.lc().shifted(LIMB)),
        }
    }

    /// The boolean of a word of type `u1`.
    ///
    /// # Errors
    /// `Unsatisfiable` if the word may exceed one.
    pub fn as_boolean(&self) -> Result<&Lc<F>, SynthesisError> {
        match &self.repr {
            Repr::One(limb) if limb.bound() <= 1 => Ok(limb.lc()),
            _ => Err(SynthesisError::Unsatisfiable),
        }
    }

    /// The low 128 bits and the rest. Rows: none, except for one limb between 129 and [`NARROW`] bits whose bits are
    /// unknown, which costs its bound, once.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn pair<CS: ConstraintSystem<F>>(&self, cs: &mut CS) -> Result<(Limb<F>, Limb<F>), SynthesisError> {
        match &self.repr {
            Repr::One(limb) => limb.halves(cs),
            Repr::Two(low, high) => Ok((low.clone(), high.clone())),
        }
    }

    /// The field elements that carry the value in the layout of its type, [`limb_count`] of them. Rows: as
    /// [`Word::pair`] where the type has two limbs and the value is held in one, else none.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn limbs<CS: ConstraintSystem<F>>(&self, cs: &mut CS) -> Result<Vec<Lc<F>>, SynthesisError> {
        match &self.repr {
            Repr::One(limb) if limb_count(self.width) == 1 => Ok(vec![limb.lc().clone()]),
            _ => {
                let (low, high) = self.pair(cs)?;
                Ok(vec![low.lc().clone(), high.lc().clone()])
            }
        }
    }

    /// The bits up to the bound, least significant first. Rows: the bound, once, where they are not known.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn bits<CS: ConstraintSystem<F>>(&self, cs: &mut CS) -> Result<Rc<[Lc<F>]>, SynthesisError> {
        match &self.repr {
            Repr::One(limb) => limb.bits(&mut cs.namespace(|| "bits")),
            Repr::Two(low, high) => {
                let low_bits = low.bits(&mut cs.namespace(|| "low bits"))?;
                let high_bits = high.bits(&mut cs.namespace(|| "high bits"))?;
                let padding = (low_bits.len()..LIMB as usize).map(|_| Lc::zero());
                Ok(low_bits.iter().cloned().chain(padding).chain(high_bits.iter().cloned()).collect())
            }
        }
    }

    /// How many rows [`Word::bits`] would cost.
    pub fn missing_bits(&self) -> u32 {
        let missing = |limb: &Limb<F>| if limb.known_bits().is_some() { 0 } else { limb.bound() };
        match &self.repr {
            Repr::One(limb) => missing(limb),
            Repr::Two(low, high) => missing(low) + missing(high),
        }
    }

    /// A word from bits, least significant first: no rows. `value` is the integer value.
    pub fn from_bits(width: u32, bits: &Rc<[Lc<F>]>, value: Option<U256>) -> Self {
        // Constant zeros at the top would only loosen the bound.
        let used = bits.iter().rposition(|bit| !bit.is_zero()).map_or(0, |last| last + 1);
        let split = used.min(LIMB as usize);
        let low = Limb::from_bits(bits, 0..split, value);
        let high = Limb::from_bits(bits, split..used, value);
        Self::from_pair(width, low, high)
    }

    /// The same value in a wider type: no rows.
    pub fn zext(&self, width: u32) -> Self {
        debug_assert!(width >= self.bound());
        Self { width, repr: self.repr.clone() }
    }

    /// The value modulo `2^width`. Rows: none where the bound already fits or the bits are known, or where a limb
    /// boundary is the cut; else the bits of the limb that is cut.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn trunc<CS: ConstraintSystem<F>>(&self, cs: &mut CS, width: u32) -> Result<Self, SynthesisError> {
        if self.bound() <= width {
            return Ok(self.zext(width));
        }
        let cut = |cs: &mut CS, limb: &Limb<F>, keep: u32| -> Result<Limb<F>, SynthesisError> {
            if limb.bound() <= keep {
                return Ok(limb.clone());
            }
            let bits = limb.bits(&mut cs.namespace(|| "trunc"))?;
            Ok(Limb::from_bits(&bits, 0..keep as usize, limb.value()))
        };
        match &self.repr {
            Repr::One(limb) => Ok(Self::from_limb(width, cut(cs, limb, width)?)),
            Repr::Two(low, _) if width <= LIMB => Ok(Self::from_limb(width, cut(cs, low, width)?)),
            Repr::Two(low, high) => Ok(Self::from_pair(width, low.clone(), cut(cs, high, width - LIMB)?)),
        }
    }

    /// The same value in a type that the compiler has proved to hold it: no rows and no check.
    ///
    /// *Soundness* rests on that proof alone, and so does completeness: where it holds only on a path, the caller must
    /// gate the operand by the path's predicate first, for a region's other paths are synthesised too.
    pub fn narrow(&self, width: u32) -> Self {
        match &self.repr {
            Repr::One(limb) => Self::from_limb(width, limb.clone()),
            Repr::Two(low, _) if width <= LIMB => Self::from_limb(width, low.clone()),
            Repr::Two(low, high) => Self::from_pair(width, low.clone(), high.clone()),
        }
    }
}
