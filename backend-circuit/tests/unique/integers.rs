//! Linear forms over the integers: what equations modulo the field say once their sizes are known.

use std::collections::BTreeMap;

use ff::Field;
use zvm_backend_circuit::field::{from_u256, to_u256};
use zvm_backend_circuit::nova::Fr;
use zvm_ir::Word as U256;

use super::checker::{Form, ONE, Wire};

/// A signed integer, two's complement, with room for products of long words.
type Signed = ruint::Uint<1024, 16>;

/// An integer below 2^1023 in size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Int(Signed);

impl Int {
    pub(crate) const ZERO: Self = Self(Signed::ZERO);

    pub(crate) fn power(exponent: u32) -> Self {
        Self(Signed::from(1) << exponent as usize)
    }

    /// The integer of least size in the class of a field element.
    pub(crate) fn least(value: Fr) -> Self {
        let (plus, minus) = (to_u256(&value), to_u256(&-value));
        if plus <= minus { Self(Signed::from(plus)) } else { Self(Signed::ZERO.wrapping_sub(Signed::from(minus))) }
    }

    pub(crate) fn modulus() -> Self {
        Self(Signed::from(to_u256(&-Fr::ONE)) + Signed::from(1))
    }

    pub(crate) fn is_negative(self) -> bool {
        self.0.bit(1023)
    }

    pub(crate) fn is_zero(self) -> bool {
        self.0.is_zero()
    }

    pub(crate) fn size(self) -> Self {
        if self.is_negative() { self.negated() } else { self }
    }

    pub(crate) fn negated(self) -> Self {
        Self(Signed::ZERO.wrapping_sub(self.0))
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }

    pub(crate) fn times(self, other: Self) -> Self {
        Self(self.0.wrapping_mul(other.0))
    }

    /// The quotient, where it is exact.
    pub(crate) fn over(self, other: Self) -> Option<Self> {
        let (quotient, rest) = self.size().0.div_rem(other.size().0);
        let quotient = Self(quotient);
        rest.is_zero().then(|| if self.is_negative() == other.is_negative() { quotient } else { quotient.negated() })
    }

    pub(crate) fn below(self, other: Self) -> bool {
        other.plus(self.negated()).is_positive()
    }

    pub(crate) fn is_positive(self) -> bool {
        !self.is_negative() && !self.is_zero()
    }

    /// How many powers of two divide it.
    pub(crate) fn twos(self) -> u32 {
        if self.is_zero() { 1023 } else { self.size().0.trailing_zeros() as u32 }
    }

    /// Its class in the field.
    pub(crate) fn in_field(self) -> Fr {
        let size: Signed = self.size().0 % Self::modulus().0;
        let size = from_u256::<Fr>(&size.to::<U256>());
        if self.is_negative() { -size } else { size }
    }
}

/// `Σ coefficient · wire` over the integers, the constant under the wire that is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Integers(pub(crate) BTreeMap<Wire, Int>);

impl Integers {
    pub(crate) fn add(&mut self, scale: Int, other: &Self) {
        for (&wire, &coefficient) in &other.0 {
            let sum = self.0.get(&wire).copied().unwrap_or(Int::ZERO).plus(scale.times(coefficient));
            if sum.is_zero() {
                self.0.remove(&wire);
            } else {
                self.0.insert(wire, sum);
            }
        }
    }

    pub(crate) fn scaled(&self, scale: Int) -> Self {
        let mut out = Self::default();
        out.add(scale, self);
        out
    }

    pub(crate) fn minus(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.add(Int::power(0).negated(), other);
        out
    }

    pub(crate) fn of_field(form: &Form) -> Self {
        Self(form.iter().map(|(&wire, &coefficient)| (wire, Int::least(coefficient))).collect())
    }

    /// Without the constant.
    pub(crate) fn variable(&self) -> Self {
        Self(self.0.iter().filter(|(wire, _)| **wire != ONE).map(|(&wire, &coefficient)| (wire, coefficient)).collect())
    }

    /// Whether no coefficient is negative.
    pub(crate) fn is_sum(&self) -> bool {
        self.0.values().all(|coefficient| !coefficient.is_negative())
    }

    /// The largest value of a sum of wires up to their bounds, without those in `zero`.
    pub(crate) fn largest(&self, bound: impl Fn(Wire) -> Option<Int>) -> Option<Int> {
        self.0.iter().try_fold(Int::ZERO, |sum, (&wire, coefficient)| {
            let bound = if wire == ONE { Int::power(0) } else { bound(wire)? };
            Some(sum.plus(coefficient.size().times(bound)))
        })
    }

    /// The coefficients' residues modulo `2^bits`.
    pub(crate) fn is_multiple_of_power(&self, bits: u32) -> bool {
        self.0.values().all(|coefficient| coefficient.twos() >= bits)
    }

    pub(crate) fn shares(&self, other: &Self) -> bool {
        self.0.keys().any(|wire| *wire != ONE && other.0.contains_key(wire))
    }

    /// Whether different values of its booleans give different values: each coefficient exceeds the sum of the smaller ones.
    pub(crate) fn is_faithful(&self) -> bool {
        let mut sizes: Vec<Int> = self.variable().0.values().map(|coefficient| coefficient.size()).collect();
        sizes.sort_by(|a, b| if a.below(*b) { std::cmp::Ordering::Less } else { std::cmp::Ordering::Greater });
        let mut sum = Int::ZERO;
        sizes.into_iter().all(|size| {
            let more = sum.below(size);
            sum = sum.plus(size);
            more
        })
    }
}
