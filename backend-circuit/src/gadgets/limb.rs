//! A limb: a linear combination known to be an integer below a power of two.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use super::lc::{Lc, enforce_boolean};
use super::word::Word;
use crate::field::{CAPACITY, from_u256, two_pow_neg};

/// The bits of the low limb of a word in two limbs.
pub const LIMB: u32 = 128;

/// The widest limb. One bit below [`CAPACITY`], so that a difference and its borrow still fit.
pub const NARROW: u32 = CAPACITY - 1;

/// A field element known to be an integer in `0 .. 2^bound`.
///
/// Cheap to clone: clones share what has been derived of the limb, so that its bits are constrained at most once.
#[derive(Clone, Debug)]
pub struct Limb<F: PrimeField>(Rc<Data<F>>);

/// A difference and its borrow, keyed by the identities of what was subtracted.
type Difference<F> = ([u64; 3], (Limb<F>, Lc<F>));

/// Quotient and remainder, keyed by the identities of the other operands' limbs.
type Division<F> = ([u64; 3], (Word<F>, Word<F>));

#[derive(Debug)]
struct Data<F: PrimeField> {
    id: u64,
    lc: Lc<F>,
    bound: u32,
    value: Option<U256>,
    bits: OnceCell<Rc<[Lc<F>]>>,
    halves: OnceCell<(Limb<F>, Limb<F>)>,
    differences: RefCell<Vec<Difference<F>>>,
    divisions: RefCell<Vec<Division<F>>>,
}

thread_local! {
    static NEXT_ID: Cell<u64> = const { Cell::new(0) };
}

/// The low `bits` bits of `value`.
pub(super) fn low_bits(value: U256, bits: u32) -> U256 {
    if bits >= 256 { value } else { value & ((U256::from(1) << bits as usize) - U256::from(1)) }
}

impl<F: PrimeField> Limb<F> {
    /// A limb whose bound the caller has established. `value` is the integer value.
    pub fn new(lc: Lc<F>, bound: u32, value: Option<U256>) -> Self {
        if let Some(constant) = lc.as_constant() {
            return Self::constant_with(crate::field::to_u256(&constant), lc);
        }
        Self::build(lc, bound, value)
    }

    /// A constant below `2^253`.
    pub fn constant(value: U256) -> Self {
        Self::constant_with(value, Lc::constant(from_u256(&value)))
    }

    fn constant_with(value: U256, lc: Lc<F>) -> Self {
        Self::build(lc, value.bit_len() as u32, Some(value))
    }

    fn build(lc: Lc<F>, bound: u32, value: Option<U256>) -> Self {
        let id = NEXT_ID.replace(NEXT_ID.get() + 1);
        Self(Rc::new(Data {
            id,
            lc,
            bound,
            value,
            bits: OnceCell::new(),
            halves: OnceCell::new(),
            differences: RefCell::default(),
            divisions: RefCell::default(),
        }))
    }

    /// Zero.
    pub fn zero() -> Self {
        Self::constant(U256::ZERO)
    }

    /// A boolean.
    pub fn boolean(lc: Lc<F>) -> Self {
        let value = lc.value().map(|value| U256::from(u8::from(value == F::ONE)));
        Self::new(lc, 1, value)
    }

    /// `lc`, known to be `Σ 2^i · bits[i]`.
    pub fn with_bits(lc: Lc<F>, bits: Rc<[Lc<F>]>, value: Option<U256>) -> Self {
        let limb = Self::new(lc, bits.len() as u32, value);
        if limb.bound() as usize == bits.len() {
            let _ = limb.0.bits.set(bits);
        }
        limb
    }

    /// `Σ 2^i · bits[i]` over a part of `bits`. `value` is the integer value of all of `bits`.
    pub fn from_bits(bits: &Rc<[Lc<F>]>, range: core::ops::Range<usize>, value: Option<U256>) -> Self {
        let value = value.map(|value| low_bits(value >> range.start, range.len() as u32));
        let lc = Lc::pack(bits, range.clone(), value.as_ref().map(from_u256));
        Self::with_bits(lc, bits[range].into(), value)
    }

    /// `low + 2^128 · high`, which must be below `2^253`.
    pub fn from_halves(low: &Self, high: &Self) -> Self {
        let value = low.value().zip(high.value()).map(|(low, high)| low + (high << LIMB as usize));
        let lc = low.lc().plus(&high.lc().shifted(LIMB));
        let limb = Self::new(lc, LIMB + high.bound(), value);
        let _ = limb.0.halves.set((low.clone(), high.clone()));
        limb
    }

    /// A fresh witness below `2^count`, decomposed: `count` rows.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn alloc_checked<CS: ConstraintSystem<F>>(
        cs: &mut CS,
        count: u32,
        value: Option<U256>,
    ) -> Result<Self, SynthesisError> {
        let lc = Lc::alloc(cs, || "value".into(), value.as_ref().map(from_u256))?;
        let bits = decompose(cs, &lc, value, count)?;
        Ok(Self::with_bits(lc, bits, value))
    }

    /// The linear combination.
    pub fn lc(&self) -> &Lc<F> {
        &self.0.lc
    }

    /// The value is below `2^bound`; zero only for the constant zero.
    pub fn bound(&self) -> u32 {
        self.0.bound
    }

    /// The integer value, where a witness is known.
    pub fn value(&self) -> Option<U256> {
        self.0.value
    }

    /// The integer value, if it is a constant of the circuit.
    pub fn as_constant(&self) -> Option<U256> {
        self.lc().as_constant().and_then(|_| self.0.value)
    }

    /// Equal for clones of one limb, different otherwise.
    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    /// The same value under a bound that the caller has established.
    pub fn rebound(&self, bound: u32) -> Self {
        if bound >= self.bound() {
            return self.clone();
        }
        if let Some(bits) = self.known_bits() {
            return Self::with_bits(self.lc().clone(), bits[..bound as usize].into(), self.value());
        }
        Self::new(self.lc().clone(), bound, self.value())
    }

    /// The bits, if they cost nothing.
    pub fn known_bits(&self) -> Option<Rc<[Lc<F>]>> {
        if let Some(bits) = self.0.bits.get() {
            return Some(Rc::clone(bits));
        }
        if let Some(constant) = self.as_constant() {
            let bit = |i| Lc::constant(if constant.bit(i) { F::ONE } else { F::ZERO });
            return Some((0..self.bound() as usize).map(bit).collect());
        }
        if self.bound() == 1 {
            return Some([self.lc().clone()].into());
        }
        if let Some((low, high)) = self.0.halves.get()
            && let (Some(low), Some(high)) = (low.known_bits(), high.known_bits())
        {
            return Some(join_bits(&low, &high));
        }
        None
    }

    /// The bits, least significant first: `bound` rows, or none if they are known.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn bits<CS: ConstraintSystem<F>>(&self, cs: &mut CS) -> Result<Rc<[Lc<F>]>, SynthesisError> {
        let bits = match (self.known_bits(), self.0.halves.get()) {
            (Some(bits), _) => bits,
            (None, Some((low, high))) => {
                let low = low.bits(&mut cs.namespace(|| "low"))?;
                let high = high.bits(&mut cs.namespace(|| "high"))?;
                join_bits(&low, &high)
            }
            (None, None) => decompose(cs, self.lc(), self.value(), self.bound())?,
        };
        let _ = self.0.bits.set(Rc::clone(&bits));
        Ok(bits)
    }

    /// `(low 128 bits, the rest)`: `bound` rows, or none if the bits are known or the bound is 128.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn halves<CS: ConstraintSystem<F>>(&self, cs: &mut CS) -> Result<(Self, Self), SynthesisError> {
        if self.bound() <= LIMB {
            return Ok((self.clone(), Self::zero()));
        }
        if let Some(halves) = self.0.halves.get() {
            return Ok(halves.clone());
        }
        let halves = match self.known_bits() {
            Some(bits) => {
                let low = Self::from_bits(&bits, 0..LIMB as usize, self.value());
                (low, Self::from_bits(&bits, LIMB as usize..bits.len(), self.value()))
            }
            None => divide_pow2(&mut cs.namespace(|| "split"), self.lc(), self.value(), LIMB, self.bound() - LIMB)?,
        };
        let _ = self.0.halves.set(halves.clone());
        Ok(halves)
    }

    /// The difference remembered under `key`.
    pub(crate) fn known_difference(&self, key: [u64; 3]) -> Option<(Self, Lc<F>)> {
        self.0.differences.borrow().iter().find(|(other, _)| *other == key).map(|(_, difference)| difference.clone())
    }

    /// Remembers `(self − … mod 2^N, borrow)` under `key`.
    pub(crate) fn remember_difference(&self, key: [u64; 3], difference: (Self, Lc<F>)) {
        self.0.differences.borrow_mut().push((key, difference));
    }

    /// The division remembered under `key`.
    pub(crate) fn known_division(&self, key: [u64; 3]) -> Option<(Word<F>, Word<F>)> {
        self.0.divisions.borrow().iter().find(|(other, _)| *other == key).map(|(_, division)| division.clone())
    }

    /// Remembers `(quotient, remainder)` under `key`.
    pub(crate) fn remember_division(&self, key: [u64; 3], division: (Word<F>, Word<F>)) {
        self.0.divisions.borrow_mut().push((key, division));
    }
}

fn join_bits<F: PrimeField>(low: &[Lc<F>], high: &[Lc<F>]) -> Rc<[Lc<F>]> {
    let padding = (low.len()..LIMB as usize).map(|_| Lc::zero());
    low.iter().cloned().chain(padding).chain(high.iter().cloned()).collect()
}

/// The `count` bits of `lc`, least significant first.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `bit i`, 1 ≤ i < count | `b_i · (b_i − 1) = 0` | a witness bit |
/// | `bit 0` | `b_0 · (b_0 − 1) = 0` with `b_0 = lc − Σ_{i≥1} 2^i · b_i` | the remainder is the last bit |
///
/// *Soundness:* the rows say that `lc` is a sum of distinct powers of two below `2^count ≤ 2^253 < p`, which has one
/// solution. *Completeness:* `lc < 2^count`. Rows: `count`.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn decompose<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    lc: &Lc<F>,
    value: Option<U256>,
    count: u32,
) -> Result<Rc<[Lc<F>]>, SynthesisError> {
    debug_assert!(count <= CAPACITY);
    if count == 0 {
        super::lc::enforce_equal(cs, || "zero".into(), lc, &Lc::zero());
        return Ok([].into());
    }
    let mut bits = vec![Lc::zero()];
    for i in 1..count as usize {
        let bit = value.map(|value| if value.bit(i) { F::ONE } else { F::ZERO });
        let bit = Lc::alloc(cs, || format!("bit {i}"), bit)?;
        enforce_boolean(cs, || format!("bit {i}"), &bit);
        bits.push(bit);
    }
    let witnessed: Rc<[Lc<F>]> = bits.as_slice().into();
    let rest = value.map(|value| from_u256(&(low_bits(value, count) >> 1)));
    let rest = Lc::pack(&witnessed, 1..bits.len(), rest);
    bits[0] = Lc::sum([(F::ONE, lc), (-F::ONE.double(), &rest)]);
    enforce_boolean(cs, || "bit 0".into(), &bits[0]);
    Ok(bits.into())
}

/// `lc = low + 2^exponent · high` with `low < 2^exponent` and `high < 2^high_bits`, both with bits.
///
/// The low part is one witness; the high part is what is left, `(lc − low) / 2^exponent`, so no row packs anything.
/// *Soundness:* both parts are decomposed ([`decompose`]) and `exponent + high_bits ≤ 253`, so the integers are unique.
/// *Completeness:* `lc < 2^(exponent + high_bits)`. Rows: `exponent + high_bits`.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn divide_pow2<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    lc: &Lc<F>,
    value: Option<U256>,
    exponent: u32,
    high_bits: u32,
) -> Result<(Limb<F>, Limb<F>), SynthesisError> {
    debug_assert!(exponent + high_bits <= CAPACITY);
    let low_value = value.map(|value| low_bits(value, exponent));
    let high_value = value.map(|value| value >> exponent as usize);
    let low = Lc::alloc(cs, || "low part".into(), low_value.as_ref().map(from_u256))?;
    let low_bits = decompose(&mut cs.namespace(|| "low part"), &low, low_value, exponent)?;
    let high = lc.minus(&low).times(two_pow_neg(exponent));
    let high_bits = decompose(&mut cs.namespace(|| "high part"), &high, high_value, high_bits)?;
    Ok((Limb::with_bits(low, low_bits, low_value), Limb::with_bits(high, high_bits, high_value)))
}
