//! Field elements as integers: their canonical halves, and which of two is less.
//!
//! Keys are field elements, in the order of the integers `0 .. p` that represent them. An element has two pairs of halves
//! `low + 2^128 · high` of 255 bits if `p` does not reach `2^255`, so the pair is compared with `p`.

use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use crate::field::{from_u256, to_u256, two_pow_neg};
use crate::gadgets::{LIMB, Lc, Limb, Word, compare, decompose};

/// A field element as an integer below the modulus.
#[derive(Clone, Debug)]
pub struct Split<F: PrimeField> {
    /// The element.
    pub element: Lc<F>,
    /// Its low 128 bits.
    pub low: Limb<F>,
    /// The rest.
    pub high: Limb<F>,
}

impl<F: PrimeField> Split<F> {
    /// The halves of `element`.
    ///
    /// | name | equation | meaning |
    /// |---|---|---|
    /// | `low`, `high` bits | [`decompose`] of the witness `low` and of `(element − low) / 2^128` | |
    /// | `canonical` | the bits are those of an integer below `p` | of the two pairs one |
    ///
    /// *Soundness:* `low + 2^128 · high` is congruent to the element and below `p`. *Completeness:* there is one such integer.
    /// Rows: 293 for BN254's field, 294 for BLS12-381's: the bits of `p` and 39.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn new<CS: ConstraintSystem<F>>(cs: &mut CS, element: &Lc<F>) -> Result<Self, SynthesisError> {
        let mut cs = cs.namespace(|| "split");
        let value = element.value().map(|value| to_u256(&value));
        let mask = (U256::from(1) << LIMB as usize) - U256::from(1);
        let (low_value, high_value) = (value.map(|value| value & mask), value.map(|value| value >> LIMB as usize));
        let low = Lc::alloc(&mut cs, || "low".into(), low_value.as_ref().map(from_u256))?;
        let low_bits = decompose(&mut cs.namespace(|| "low"), &low, low_value, LIMB)?;
        let high = element.minus(&low).times(two_pow_neg(LIMB));
        let high_bits = decompose(&mut cs.namespace(|| "high"), &high, high_value, F::NUM_BITS - LIMB)?;
        let bits: Rc<[Lc<F>]> = low_bits.iter().chain(high_bits.iter()).cloned().collect();
        let modulus = modulus::<F>();
        let modulus_bits: Rc<[Lc<F>]> =
            (0..F::NUM_BITS as usize).map(|i| Lc::constant(if modulus.bit(i) { F::ONE } else { F::ZERO })).collect();
        let both = [value, Some(modulus)];
        compare::enforce_bits_less(&mut cs.namespace(|| "canonical"), [&bits, &modulus_bits], both)?;
        let low = Limb::with_bits(low, low_bits, low_value);
        let high = Limb::with_bits(high, high_bits, high_value);
        Ok(Self { element: element.clone(), low, high })
    }

    fn word(&self) -> Word<F> {
        Word::from_pair(256, self.low.clone(), self.high.clone())
    }
}

/// The modulus `p`.
pub fn modulus<F: PrimeField>() -> U256 {
    to_u256(&-F::ONE) + U256::from(1)
}

/// Whether `a < b` as integers below `p`. Rows: 40 beside the splits.
///
/// *Soundness and completeness:* both pairs are canonical; see [`compare::ult`] on words whose bits are known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn field_lt<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Split<F>,
    b: &Split<F>,
) -> Result<Lc<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "field_lt");
    let less = compare::ult(&mut cs, &a.word(), &b.word())?;
    less.as_boolean().cloned()
}

/// Shows that `a < b` where the boolean `active` is one, of integers given as `[low, high]` whose halves are in range; the low half
/// of `a` may also be −1.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `a low`, `a high` | `active · a_i` | an idle slot compares zeros |
/// | `same high` | zero test of `b_1 − a_1` | `e` |
/// | `low` | `e · (b_0 − a_0) = v` | the low halves decide where the high ones are equal |
/// | `bit i` | `b_1 − a_1 + v − active` is below `2^128` | |
///
/// *Soundness:* with `active` one, the last sum is one of two differences of integers, less one, each above `−2^128 − 1`; it is in range
/// only if it is not negative. *Completeness:* `a < b`; in an idle slot `b` must be zero. Rows: 133.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn enforce_less<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    active: &Lc<F>,
    a: [&Lc<F>; 2],
    b: [&Lc<F>; 2],
) -> Result<(), SynthesisError> {
    let mut cs = cs.namespace(|| "less");
    let a_low = Lc::mul(&mut cs, || "a low".into(), active, a[0])?;
    let a_high = Lc::mul(&mut cs, || "a high".into(), active, a[1])?;
    let high = b[1].minus(&a_high);
    let same = compare::is_zero_element(&mut cs.namespace(|| "same high"), &high)?;
    let low = Lc::mul(&mut cs, || "low".into(), &same, &b[0].minus(&a_low))?;
    let difference = Lc::sum([(F::ONE, &high), (F::ONE, &low), (-F::ONE, active)]);
    let value = difference.value().map(|value| to_u256(&value));
    decompose(&mut cs.namespace(|| "difference"), &difference, value, LIMB)?;
    Ok(())
}
