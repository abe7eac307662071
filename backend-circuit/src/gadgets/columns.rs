//! Products of words by digits, checked column by column over the integers.
//!
//! A product of two 128-bit limbs does not fit a field element, so equations between products are checked on
//! *columns*: the digits of one operand times windows of the other, gathered by weight, each column below the field's
//! capacity. What a column carries into the next is range-checked, which makes the equation hold over the integers and
//! not merely modulo `p`.

use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use super::lc::Lc;
use super::limb::decompose;
use super::word::Word;
use crate::field::{CAPACITY, from_u256, to_u256, two_pow, two_pow_neg};

/// An integer as `Σ digit_i · 2^(size · i)`. Digits are small but need not be canonical.
#[derive(Clone, Debug)]
pub(super) struct Digits<F: PrimeField> {
    size: u32,
    max: U256,
    digits: Vec<Lc<F>>,
}

impl<F: PrimeField> Digits<F> {
    /// Zero.
    pub(super) fn empty(size: u32) -> Self {
        Self { size, max: low_mask(size), digits: Vec::new() }
    }

    /// Puts more significant digits after those of `self`, all of which are full.
    pub(super) fn append(&mut self, other: &Self) {
        self.max = self.max.max(other.max);
        self.digits.extend(other.digits.iter().cloned());
    }

    /// The digits of a word, from its bits. Rows: the bits, where they are not known.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub(super) fn of<CS: ConstraintSystem<F>>(cs: &mut CS, word: &Word<F>, size: u32) -> Result<Self, SynthesisError> {
        let bits = word.bits(cs)?;
        Ok(Self::from_bits(&bits, word.value(), size))
    }

    /// The digits of an integer whose bits and value are given.
    pub(super) fn from_bits(bits: &Rc<[Lc<F>]>, value: Option<U256>, size: u32) -> Self {
        let max = low_mask(size);
        let digits = (0..bits.len()).step_by(size as usize).map(|start| {
            let digit = value.map(|value| from_u256(&((value >> start) & max)));
            Lc::pack(bits, start..bits.len().min(start + size as usize), digit)
        });
        Self { size, max, digits: digits.collect() }
    }

    /// The sum of two integers of the same digit size.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let zero = Lc::zero();
        let digit = |i: usize| {
            let [a, b] = [self, other].map(|digits| digits.digits.get(i).unwrap_or(&zero));
            a.plus(b)
        };
        let count = self.digits.len().max(other.digits.len());
        Self { size: self.size, max: self.max + other.max, digits: (0..count).map(digit).collect() }
    }

    /// The integer plus a boolean.
    pub(super) fn plus_bit(&self, bit: &Lc<F>) -> Self {
        self.plus(&Self { size: self.size, max: U256::from(1), digits: vec![bit.clone()] })
    }

    /// The integer if the boolean `flag`, else `otherwise` (0 or 1). Rows: one per digit.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub(super) fn gate<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        flag: &Lc<F>,
        otherwise: bool,
    ) -> Result<Self, SynthesisError> {
        let mut digits = Vec::with_capacity(self.digits.len().max(1));
        for (index, digit) in self.digits.iter().enumerate() {
            digits.push(Lc::mul(cs, || format!("digit {index}"), flag, digit)?);
        }
        if otherwise {
            digits.resize_with(digits.len().max(1), Lc::zero);
            digits[0] = digits[0].plus(&flag.complement());
        }
        Ok(Self { size: self.size, max: self.max.max(U256::from(1)), digits })
    }

    /// The low 128 bits and the rest, for canonical digits of at most 256 bits.
    pub(super) fn limbs(&self) -> (Lc<F>, Lc<F>) {
        let half = 128 / self.size as usize;
        (self.window(0, half), self.window(half, self.digits.len()))
    }

    /// The sum of the digits from `from` on, each of which is non-negative.
    pub(super) fn sum_from(&self, from: usize) -> Lc<F> {
        Lc::sum(self.digits.iter().skip(from).map(|digit| (F::ONE, digit)))
    }

    fn window(&self, from: usize, to: usize) -> Lc<F> {
        let to = to.min(self.digits.len());
        let from = from.min(to);
        Lc::sum((from..to).map(|j| (two_pow(self.size * (j - from) as u32), &self.digits[j])))
    }
}

/// One column of an equation: a linear combination whose integer value is in `−negative ..= positive`.
#[derive(Clone, Debug)]
pub(super) struct Column<F: PrimeField> {
    lc: Lc<F>,
    negative: U256,
    positive: U256,
}

impl<F: PrimeField> Column<F> {
    /// The linear combination.
    pub(super) fn lc(&self) -> &Lc<F> {
        &self.lc
    }

    /// Zero.
    pub(super) fn zero() -> Self {
        Self { lc: Lc::zero(), negative: U256::ZERO, positive: U256::ZERO }
    }

    /// Adds a term that is in `0 ..= max`.
    pub(super) fn plus(&mut self, lc: &Lc<F>, max: U256) {
        self.lc = self.lc.plus(lc);
        self.positive += max;
    }

    /// Subtracts a term that is in `0 ..= max`.
    pub(super) fn minus(&mut self, lc: &Lc<F>, max: U256) {
        self.lc = self.lc.minus(lc);
        self.negative += max;
    }

    /// Adds another column.
    pub(super) fn add(&mut self, other: &Self) {
        self.lc = self.lc.plus(&other.lc);
        self.positive += other.positive;
        self.negative += other.negative;
    }

    /// Subtracts another column.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.lc = self.lc.minus(&other.lc);
        self.positive += other.negative;
        self.negative += other.positive;
    }

    /// The column divided by `2^radix`, which the constraints say is an integer.
    ///
    /// | name | equation | meaning |
    /// |---|---|---|
    /// | `bit i` | `column / 2^radix + offset` is below `2^k` | the carry, moved up to be non-negative |
    ///
    /// *Soundness:* the carry `c` that the rows pin down is an integer with `2^radix · c ≡ column` modulo `p`; both
    /// sides are below `2^252` in size, so they are equal. *Completeness:* the column is a multiple of `2^radix`, and
    /// `k` is chosen from its bounds. Rows: `k`.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub(super) fn carry<CS: ConstraintSystem<F>>(self, cs: &mut CS, radix: u32) -> Result<Self, SynthesisError> {
        let offset = (self.negative + low_mask(radix)) >> radix as usize;
        let positive = self.positive >> radix as usize;
        let bits = (offset + positive).bit_len() as u32;
        debug_assert!(radix + bits < CAPACITY);
        debug_assert!((self.negative.max(self.positive).bit_len() as u32) < CAPACITY);
        let lc = self.lc.times(two_pow_neg(radix));
        let moved = lc.plus(&Lc::constant(from_u256(&offset)));
        decompose(cs, &moved, moved.value().map(|value| to_u256(&value)), bits)?;
        Ok(Self { lc, negative: offset, positive })
    }
}

fn low_mask(bits: u32) -> U256 {
    (U256::from(1) << bits as usize) - U256::from(1)
}

/// The first `count` columns, of `per_column` digits each, of the product `x · y`.
///
/// Row `c.i` multiplies digit `i` of `x` by the window of `y` that falls into column `c`. A window runs to the column's
/// end, so what digits overlap the next column stays in this one and is carried. Rows: at most one per column and digit
/// of `x`; none where `y` is constant.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub(super) fn product_columns<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    x: &Digits<F>,
    y: &Digits<F>,
    per_column: usize,
    count: usize,
) -> Result<Vec<Column<F>>, SynthesisError> {
    debug_assert_eq!(x.size, y.size);
    let mut columns = Vec::with_capacity(count);
    for c in 0..count {
        let mut column = Column::zero();
        for (i, digit) in x.digits.iter().enumerate() {
            let from = (c * per_column).saturating_sub(i);
            let to = ((c + 1) * per_column).saturating_sub(i).min(y.digits.len());
            if from >= to {
                continue;
            }
            let product = Lc::mul(cs, || format!("product {c}.{i}"), digit, &y.window(from, to))?;
            let weight = x.size * (i + from - c * per_column) as u32;
            let largest = (from..to).fold(U256::ZERO, |sum, j| sum + (y.max << (x.size as usize * (j - from)))) * x.max;
            column.plus(&product.shifted(weight), largest << weight as usize);
        }
        columns.push(column);
    }
    Ok(columns)
}

/// `x · y` modulo 2^256, for 16-bit digits.
///
/// Two columns of 128 bits: `col_0 − r_0 = 2^128 c_0` and `col_1 + c_0 − r_1 = 2^128 c_1`, with `c_0`, `c_1` range-checked
/// ([`Column::carry`]) and the last dropped. *Soundness:* over the integers `x · y − r` is then a multiple of `2^256`, and
/// `r` is range-checked. *Completeness:* `r` is the product. Rows: 256, 24 products, 40 for the carries.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub(super) fn multiply_mod_2_256<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    x: &Digits<F>,
    y: &Digits<F>,
    value: Option<U256>,
) -> Result<Word<F>, SynthesisError> {
    let result = Word::alloc_checked(&mut cs.namespace(|| "result"), 256, value)?;
    let limbs = result.limbs(cs)?;
    let columns = product_columns(&mut cs.namespace(|| "columns"), x, y, 8, 2)?;
    let mut carried = Column::zero();
    for (index, (mut column, limb)) in columns.into_iter().zip(&limbs).enumerate() {
        column.add(&carried);
        column.minus(limb, low_mask(128));
        carried = column.carry(&mut cs.namespace(|| format!("carry {index}")), 128)?;
    }
    Ok(result)
}
