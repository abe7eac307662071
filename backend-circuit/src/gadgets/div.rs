//! Division and remainder, unsigned and signed, and arithmetic modulo a word.
//!
//! All rest on one claim, `dividend = q · b + r` with `r < b`, over the integers and not modulo the field. A divisor of
//! zero is replaced by one, so that the claim can be met by every operand; what the EVM wants of it follows from there.

use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use super::arith::{Negated, add, mul, negate_if};
use super::columns::{Column, Digits, product_columns};
use super::compare::{bits_less_rows, enforce_bits_less, is_zero_element, iszero, sign, xor_bits};
use super::lc::{Lc, enforce};
use super::limb::{LIMB, Limb, NARROW, decompose, divide_pow2, low_bits};
use super::select::gate;
use super::word::Word;
use crate::field::{CAPACITY, two_pow};

/// The widest divisor that is multiplied by limbs of the quotient directly.
const SMALL_DIVISOR: u32 = 120;

/// The size of digits, and how many make a column of 128 bits.
const DIGIT: u32 = 16;
const PER_COLUMN: usize = 8;

type U512 = ruint::Uint<512, 8>;

/// `⌊a / b⌋`, of `a`'s type; zero when `b` is zero.
///
/// `a` is gated by `b ≠ 0`, so that the division by one in place of zero gives zero. See [`euclid`]. Rows for two limbs:
/// 256 (quotient) + 256 (remainder) + 257 (remainder below divisor, 41 where the divisor's bits are known) + 66 (product)
/// + 4. A later remainder of the same operands is free.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn udiv<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let (quotient, _) = div_rem(&mut cs.namespace(|| "udiv"), a, b)?;
    Ok(quotient.zext(a.width()))
}

/// `a mod b`, of the narrower type; zero when `b` is zero. Rows as [`udiv`].
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn urem<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let (_, remainder) = div_rem(&mut cs.namespace(|| "urem"), a, b)?;
    Ok(remainder.zext(a.width().min(b.width())))
}

/// Signed division, truncated; zero when `b` is zero; MIN / −1 is MIN.
///
/// The magnitudes are divided and the quotient negated where the signs differ. MIN is its own magnitude and MIN / −1 has
/// equal signs, so it needs no case. Rows: 4 per magnitude, 1, 7, those of [`udiv`], and the bits of the operands' high
/// limbs where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn sdiv<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "sdiv");
    let (a_sign, a) = magnitude(&mut cs.namespace(|| "a"), a)?;
    let (b_sign, b) = magnitude(&mut cs.namespace(|| "b"), b)?;
    let (quotient, _) = div_rem(&mut cs, &a, &b)?;
    let negative = xor_bits(&mut cs, || "signs differ".into(), &a_sign, &b_sign)?;
    Ok(negate_if(&mut cs, &negative, &quotient, Negated::Any)?.zext(256))
}

/// Signed remainder with the sign of `a`; zero when `b` is zero. Rows as [`sdiv`], less one.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn srem<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "srem");
    let (a_sign, a) = magnitude(&mut cs.namespace(|| "a"), a)?;
    let (_, b) = magnitude(&mut cs.namespace(|| "b"), b)?;
    let (_, remainder) = div_rem(&mut cs, &a, &b)?;
    Ok(negate_if(&mut cs, &a_sign, &remainder, Negated::Any)?.zext(256))
}

/// The sign and the magnitude of a two's complement word. Remembered, for `sdiv` and `srem` of the same operands.
fn magnitude<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
) -> Result<(Lc<F>, Word<F>), SynthesisError> {
    let negative = sign(&mut cs.namespace(|| "sign"), a)?;
    let Some((low, high)) = a.as_two() else {
        return Ok((negative, a.clone()));
    };
    let key = [high.id(), u64::MAX, u64::MAX];
    if let Some((magnitude, _)) = low.known_division(key) {
        return Ok((negative, magnitude));
    }
    let magnitude = negate_if(cs, &negative, a, Negated::NonZero)?;
    low.remember_division(key, (magnitude.clone(), Word::constant(1, U256::ZERO)));
    Ok((negative, magnitude))
}

/// `(a + b) mod n` on unbounded integers; zero when `n` is zero.
///
/// The sum enters [`euclid`] limb by limb without being normalised; the quotient has 257 bits. Where the operands leave room,
/// the exact sum and [`urem`]. Rows: 842 for two limbs.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn addmod<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
    n: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "addmod");
    if a.bound().max(b.bound()) < 256 {
        let sum = add(&mut cs, a, b)?;
        return Ok(div_rem(&mut cs, &sum, n)?.1.zext(256));
    }
    if n.as_constant().is_some_and(|n| n <= U256::from(1)) {
        return Ok(Word::constant(256, U256::ZERO));
    }
    let (a_low, a_high) = a.pair(&mut cs.namespace(|| "a"))?;
    let (b_low, b_high) = b.pair(&mut cs.namespace(|| "b"))?;
    let dividend = Dividend {
        limbs: [a_low.lc().plus(b_low.lc()), a_high.lc().plus(b_high.lc())],
        limb_bits: LIMB + 1,
        bits: 257,
        value: a.value().zip(b.value()).map(|(a, b)| U512::from(a) + U512::from(b)),
    };
    let divisor = Divisor::new(&mut cs, n)?;
    let (_, remainder) = euclid(&mut cs, &dividend, &divisor)?;
    Ok(remainder.zext(256))
}

/// `(a · b) mod n` on unbounded integers; zero when `n` is zero.
///
/// Where the product is exact below 2^256, that and [`urem`]. Else, with `n' = n` or 1 for zero:
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `quotient`, `remainder` | decomposed | `q` of 512 bits (less for a constant `n`), `r` of 256 |
/// | `below` | [`Divisor::below`] | `r < n'` |
/// | `columns`, `carry i` | `a·b − q·n' − r ≡ 0` modulo 2^384 | three columns of 16-bit digits |
/// | `product`, `field` | the same modulo `p` | |
/// | `top i` | see [`Divisor::exclude_wrap`] | `q · n' < 2^637` |
///
/// *Soundness:* by the last rows `|a·b − q·n' − r| < 2^637 + 2^257 < p · 2^384`, and it is a multiple of `p · 2^384`, hence
/// zero. *Completeness:* the quotient and remainder.
///
/// Where neither `n` nor its bits are known, the top 128 bits of the quotient and those of `d = n' − 1 − r` share their range
/// check, for not both are needed ([`mulmod_cold`]). Rows for two limbs: 1,066, or 961 where the bits of `n` are known; and
/// the bits of `a` and `b` where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn mulmod<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
    n: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "mulmod");
    if a.bound() + b.bound() <= 256 {
        let product = mul(&mut cs, a, b)?;
        return Ok(div_rem(&mut cs, &product, n)?.1.zext(256));
    }
    if n.as_constant().is_some_and(|n| n <= U256::from(1)) {
        return Ok(Word::constant(256, U256::ZERO));
    }
    let product: Option<U512> = a.value().zip(b.value()).map(|(a, b)| a.widening_mul(b));
    let divisor = Divisor::new(&mut cs, n)?;
    let parts = product.zip(divisor.value).map(|(product, n)| product.div_rem(U512::from(n)));
    let quotient_value = parts.map(|(quotient, _)| quotient);
    let remainder_value = parts.map(|(_, remainder)| remainder.to::<U256>());

    let quotient_bits = a.bound() + b.bound() + 1 - divisor.least_bits;
    if quotient_bits > 3 * LIMB && !divisor.single && divisor.known.is_none() {
        return mulmod_cold(&mut cs, [a, b], &divisor, quotient_value, remainder_value);
    }
    let quotient = LongWord::alloc(&mut cs.namespace(|| "quotient"), quotient_bits, quotient_value)?;
    let remainder = Word::alloc_checked(&mut cs.namespace(|| "remainder"), divisor.bits, remainder_value)?;
    let above = divisor.below(&mut cs.namespace(|| "below"), &remainder)?;
    let n_digits = divisor.digits(&mut cs, &remainder, above.as_ref())?;
    product_minus_multiple(&mut cs, [a, b], [&quotient.digits, &n_digits], &remainder)?;
    let product = Lc::mul(&mut cs, || "product".into(), &a.packed(), &b.packed())?;
    let rest = product.minus(&remainder.packed());
    enforce(&mut cs, || "field".into(), &quotient.packed, &divisor.packed, &rest);
    let sizes = Sizes { product: a.bound() + b.bound(), columns: 3 * LIMB };
    divisor.exclude_wrap(&mut cs, &quotient.bits, sizes, &remainder, above.as_ref())?;
    Ok(remainder.zext(256))
}

/// [`mulmod`] by a divisor of two limbs of which nothing is known.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `small` | [`super::compare::is_zero_element`] of `n_1` | `z`: the divisor is below 2^128 |
/// | `shared` | decomposed | `S` of 128 bits: `q_3` if `z`, else `d_1` |
/// | `above i` | `(1 − z) · S_i = t_i` | the digits of `d_1`; `q_3 = S − d_1` |
/// | `high below` | `n_1 − r_1 − borrow = d_1` | with the low limbs as in [`Divisor::below`], `n' = r + d + 1` |
/// | `top 0` | `(q_3 + Σ q_i, i ≥ 381) · (Σ r_i, d_i, i ≥ 144) = 0` | `q < 2^381`, or `n' < 2^145` |
/// | `top of quotient` | `z · Σ S_i, i ≥ 108` | `t` |
/// | `top 1` | `t · (Σ r_i, d_i, i ≥ 20) = 0` | `q < 2^492`, or `n' < 2^21` |
///
/// *Soundness:* as for [`mulmod`]: in each of the three cases `q · n' < 2^637`. *Completeness:* if `z`, `n < 2^128` and
/// `d_1 = 0`; else `q < 2^384`. If a quotient has a top bit, `q · n' ≤ a · b` says that the divisor has none.
fn mulmod_cold<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    [a, b]: [&Word<F>; 2],
    divisor: &Divisor<F>,
    quotient_value: Option<U512>,
    remainder_value: Option<U256>,
) -> Result<Word<F>, SynthesisError> {
    const SHARED_FROM: u32 = 3 * LIMB;
    const TOP: [usize; 2] = [381, 492];
    let quotient = LongWord::alloc(&mut cs.namespace(|| "quotient"), SHARED_FROM, quotient_value)?;
    let remainder = Word::alloc_checked(&mut cs.namespace(|| "remainder"), 256, remainder_value)?;
    let small = is_zero_element(&mut cs.namespace(|| "small"), &divisor.limbs[1])?;
    let above_value = divisor.value.zip(remainder_value).map(|(n, r)| n.wrapping_sub(r).wrapping_sub(U256::from(1)));
    let shared_value = small.value().zip(quotient_value).zip(above_value).map(|((small, quotient), above)| {
        if small == F::ZERO { above >> LIMB as usize } else { (quotient >> SHARED_FROM as usize).wrapping_to::<U256>() }
    });
    let shared_value = shared_value.map(|value| low_bits(value, LIMB));
    let shared = Limb::alloc_checked(&mut cs.namespace(|| "shared"), LIMB, shared_value)?;
    let shared_bits = shared.bits(cs)?;
    let large = small.complement();
    let above_high = Digits::from_bits(&shared_bits, shared.value(), DIGIT);
    let above_high = above_high.gate(&mut cs.namespace(|| "above"), &large, false)?;

    let (above_low, borrow) = divisor.low_below(&mut cs.namespace(|| "below"), &remainder)?;
    let (_, r_high) = remainder.pair(cs)?;
    let high = Lc::sum([(F::ONE, &divisor.limbs[1]), (-F::ONE, r_high.lc()), (-F::ONE, &borrow)]);
    let above_packed = above_high.limbs().0;
    enforce(cs, || "high below".into(), &high, &Lc::one(), &above_packed);
    let above_low_bits = above_low.bits(cs)?;
    let mut above = Digits::from_bits(&above_low_bits, above_low.value(), DIGIT);
    above.append(&above_high);
    let remainder_digits = Digits::of(&mut cs.namespace(|| "remainder digits"), &remainder, DIGIT)?;
    let n_digits = remainder_digits.plus(&above).plus_bit(&Lc::one());

    product_minus_multiple(cs, [a, b], [&quotient.digits, &n_digits], &remainder)?;
    let product = Lc::mul(cs, || "product".into(), &a.packed(), &b.packed())?;
    let rest = product.minus(&remainder.packed());
    let quotient_high = shared.lc().minus(&above_packed);
    let packed = quotient.packed.plus(&quotient_high.shifted(SHARED_FROM));
    enforce(cs, || "field".into(), &packed, &divisor.packed, &rest);

    let r_bits = remainder.bits(&mut cs.namespace(|| "remainder bits"))?;
    let quotient_top = top(&quotient.bits, TOP[0]).plus(&quotient_high);
    let divisor_top = top(&r_bits, 144).plus(&above_high.sum_from(1));
    enforce(cs, || "top 0".into(), &quotient_top, &divisor_top, &Lc::zero());
    let shared_top = top(&shared_bits, TOP[1] - SHARED_FROM as usize);
    let quotient_top = Lc::mul(cs, || "top of quotient".into(), &small, &shared_top)?;
    let divisor_top =
        Lc::sum([(F::ONE, &top(&r_bits, 20)), (F::ONE, &top(&above_low_bits, 20)), (F::ONE, &above_high.sum_from(0))]);
    enforce(cs, || "top 1".into(), &quotient_top, &divisor_top, &Lc::zero());
    Ok(remainder.zext(256))
}

/// The sum of the bits at and above `from`.
fn top<F: PrimeField>(bits: &[Lc<F>], from: usize) -> Lc<F> {
    Lc::sum(bits.iter().skip(from).map(|bit| (F::ONE, bit)))
}

/// Shows that `a · b − q · n − r` is a multiple of `2^384`.
fn product_minus_multiple<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    [a, b]: [&Word<F>; 2],
    [quotient, n]: [&Digits<F>; 2],
    remainder: &Word<F>,
) -> Result<(), SynthesisError> {
    let mut columns = columns_of(&mut cs.namespace(|| "factors"), a, b, 3)?;
    let multiple = product_columns(&mut cs.namespace(|| "columns"), quotient, n, PER_COLUMN, 3)?;
    for (column, product) in columns.iter_mut().zip(&multiple) {
        column.subtract(product);
    }
    let (r_low, r_high) = remainder.pair(cs)?;
    for (column, limb) in columns.iter_mut().zip([&r_low, &r_high]) {
        column.minus(limb.lc(), low_bits(U256::MAX, LIMB));
    }
    carry_all(cs, columns)
}

/// The columns of a product of two words. Rows: the operands' bits where they are not known, and the products.
fn columns_of<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
    count: usize,
) -> Result<Vec<Column<F>>, SynthesisError> {
    let a = Digits::of(&mut cs.namespace(|| "a"), a, DIGIT)?;
    let b = Digits::of(&mut cs.namespace(|| "b"), b, DIGIT)?;
    product_columns(&mut cs.namespace(|| "columns"), &a, &b, PER_COLUMN, count)
}

/// Checks that columns of 128 bits sum to a multiple of the weight after the last.
fn carry_all<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    columns: Vec<Column<F>>,
) -> Result<(), SynthesisError> {
    let mut carried = Column::zero();
    for (index, mut column) in columns.into_iter().enumerate() {
        column.add(&carried);
        carried = column.carry(&mut cs.namespace(|| format!("carry {index}")), LIMB)?;
    }
    Ok(())
}

/// An integer of up to 512 bits with its bits.
struct LongWord<F: PrimeField> {
    /// Of 128 bits each.
    parts: Vec<Limb<F>>,
    bits: Vec<Lc<F>>,
    digits: Digits<F>,
    packed: Lc<F>,
}

impl<F: PrimeField> LongWord<F> {
    /// Decomposed in parts of 128 bits, so that every part fits the field: `count` rows.
    fn alloc<CS: ConstraintSystem<F>>(cs: &mut CS, count: u32, value: Option<U512>) -> Result<Self, SynthesisError> {
        let mut parts = Vec::with_capacity(4);
        let mut bits = Vec::with_capacity(count as usize);
        let mut packed = Lc::zero();
        let mut digits = Digits::empty(DIGIT);
        for start in (0..count).step_by(LIMB as usize) {
            let part = value.map(|value| low_bits((value >> start as usize).wrapping_to::<U256>(), LIMB));
            let mut cs = cs.namespace(|| format!("part {}", start / LIMB));
            let part = Limb::alloc_checked(&mut cs, LIMB.min(count - start), part)?;
            let part_bits = part.bits(&mut cs)?;
            digits.append(&Digits::from_bits(&part_bits, part.value(), DIGIT));
            bits.extend(part_bits.iter().cloned());
            packed = packed.plus(&part.lc().shifted(start));
            parts.push(part);
        }
        Ok(Self { parts, bits, digits, packed })
    }

    /// As a word.
    ///
    /// # Errors
    /// `Unsatisfiable` for more than 256 bits: a mistake of this module.
    fn to_word(&self) -> Result<Word<F>, SynthesisError> {
        match self.parts.as_slice() {
            [] => Ok(Word::constant(1, U256::ZERO)),
            [low] => Ok(Word::from_limb(256, low.clone())),
            [low, high] => Ok(Word::from_pair(256, low.clone(), high.clone())),
            _ => Err(SynthesisError::Unsatisfiable),
        }
    }
}

/// What is divided: two limbs, which may exceed 128 bits.
struct Dividend<F: PrimeField> {
    limbs: [Lc<F>; 2],
    limb_bits: u32,
    bits: u32,
    value: Option<U512>,
}

/// A divisor that is not zero.
struct Divisor<F: PrimeField> {
    limbs: [Lc<F>; 2],
    packed: Lc<F>,
    /// Held as one field element.
    single: bool,
    /// The bits when they are known without cost.
    known: Option<Rc<[Lc<F>]>>,
    bits: u32,
    /// The value is at least `2^(least_bits − 1)`.
    least_bits: u32,
    value: Option<U256>,
    zero: Lc<F>,
}

impl<F: PrimeField> Divisor<F> {
    /// `b`, or one where `b` is zero. Rows: 2, none for a constant.
    fn new<CS: ConstraintSystem<F>>(cs: &mut CS, b: &Word<F>) -> Result<Self, SynthesisError> {
        let zero = iszero(cs, b)?;
        let zero = zero.as_boolean()?.clone();
        let constant = b.as_constant().map(|b| b.max(U256::from(1)));
        let value = b.value().map(|b| b.max(U256::from(1)));
        let (limbs, single) = match (b.as_limb(), b.as_two()) {
            (_, Some((low, high))) => ([low.lc().plus(&zero), high.lc().clone()], false),
            (limb, None) => ([limb.map_or_else(Lc::zero, |limb| limb.lc().clone()).plus(&zero), Lc::zero()], true),
        };
        let packed = limbs[0].plus(&limbs[1].shifted(LIMB));
        let known = if b.missing_bits() == 0 {
            let mut bits: Vec<Lc<F>> = b.bits(cs)?.to_vec();
            bits.resize_with(bits.len().max(1), Lc::zero);
            bits[0] = bits[0].plus(&zero);
            Some(bits.into())
        } else {
            None
        };
        let bits = b.bound().max(1);
        let least_bits = constant.map_or(1, |constant| constant.bit_len() as u32);
        Ok(Self { limbs, packed, single, known, bits, least_bits, value, zero })
    }

    /// Shows that `remainder < divisor`.
    ///
    /// Where the divisor's bits are known and that is cheaper, by comparing bits ([`enforce_bits_less`]). Else by
    /// decomposing `d = divisor − 1 − remainder`, which is returned. Rows: 40 for 256 known bits; else the divisor's bits,
    /// and 1 for the borrow between two limbs.
    fn below<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        remainder: &Word<F>,
    ) -> Result<Option<Word<F>>, SynthesisError> {
        if let Some(known) = &self.known
            && bits_less_rows(known.len()) <= known.len()
        {
            let bits = remainder.bits(cs)?;
            enforce_bits_less(cs, [&bits, known], [remainder.value(), self.value])?;
            return Ok(None);
        }
        let value = self.value.zip(remainder.value()).map(|(b, r)| b.wrapping_sub(r).wrapping_sub(U256::from(1)));
        if self.single
            && let Some(remainder) = remainder.as_limb()
        {
            let lc = Lc::sum([(F::ONE, &self.limbs[0]), (-F::ONE, remainder.lc()), (-F::ONE, &Lc::one())]);
            let value = value.map(|value| low_bits(value, self.bits));
            let bits = decompose(cs, &lc, value, self.bits)?;
            return Ok(Some(Word::from_limb(256, Limb::with_bits(lc, bits, value))));
        }
        let (_, high) = remainder.pair(cs)?;
        let (d_low, borrow) = self.low_below(cs, remainder)?;
        let lc = Lc::sum([(F::ONE, &self.limbs[1]), (-F::ONE, high.lc()), (-F::ONE, &borrow)]);
        let high_bits = self.bits.saturating_sub(LIMB).max(1);
        let high_value = value.map(|value| low_bits(value >> LIMB as usize, high_bits));
        let bits = decompose(&mut cs.namespace(|| "high"), &lc, high_value, high_bits)?;
        Ok(Some(Word::from_pair(256, d_low, Limb::with_bits(lc, bits, high_value))))
    }

    /// The low limb of `divisor − 1 − remainder`, and the borrow from the high limb. Rows: 129.
    fn low_below<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        remainder: &Word<F>,
    ) -> Result<(Limb<F>, Lc<F>), SynthesisError> {
        let (low, _) = remainder.pair(cs)?;
        let raised = Lc::constant(two_pow::<F>(LIMB) - F::ONE);
        let lc = Lc::sum([(F::ONE, &self.limbs[0]), (F::ONE, &raised), (-F::ONE, low.lc())]);
        let lc_value = self.value.zip(low.value()).map(|(b, r)| {
            (low_bits(b, LIMB) + (U256::from(1) << LIMB as usize)).wrapping_sub(r).wrapping_sub(U256::from(1))
        });
        let (d_low, kept) = divide_pow2(&mut cs.namespace(|| "low"), &lc, lc_value, LIMB, 1)?;
        Ok((d_low, kept.lc().complement()))
    }

    /// The divisor's digits: its own where they cost nothing, else those of `r + d + 1`, which is the divisor.
    fn digits<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        remainder: &Word<F>,
        above: Option<&Word<F>>,
    ) -> Result<Digits<F>, SynthesisError> {
        match (&self.known, above) {
            (Some(known), _) => Ok(Digits::from_bits(known, self.value, DIGIT)),
            (None, Some(above)) => {
                let remainder = Digits::of(&mut cs.namespace(|| "remainder digits"), remainder, DIGIT)?;
                let above = Digits::of(&mut cs.namespace(|| "above digits"), above, DIGIT)?;
                Ok(remainder.plus(&above).plus_bit(&Lc::one()))
            }
            // `below` returns the difference unless it knows the bits.
            (None, None) => Err(SynthesisError::Unsatisfiable),
        }
    }

    /// Shows that `q · divisor` is below `p · 2^columns`: a row `top i` per threshold, none where the bounds say so.
    ///
    /// Each says that `q` has no bit at or above some `X`, or the divisor (or neither `r` nor `d`) none at or above `Y`.
    /// As `q · divisor < 2^product`, an honest `q` with such a bit has a divisor below `2^Y` for `Y = product − X`, which is at most
    /// `2^(Y + 1)` where the row holds. The next threshold is where that no longer suffices.
    fn exclude_wrap<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        quotient: &[Lc<F>],
        sizes: Sizes,
        remainder: &Word<F>,
        above: Option<&Word<F>>,
    ) -> Result<(), SynthesisError> {
        let limit = sizes.columns + CAPACITY;
        let mut divisor_bits = self.bits;
        for index in 0.. {
            let quotient_from = limit - divisor_bits;
            if quotient.len() as u32 <= quotient_from {
                break;
            }
            let divisor_from = sizes.product.saturating_sub(quotient_from) as usize;
            let divisor_top = match (&self.known, above) {
                (_, Some(above)) => {
                    let r_bits = remainder.bits(&mut cs.namespace(|| "remainder bits"))?;
                    let d_bits = above.bits(&mut cs.namespace(|| "above bits"))?;
                    top(&r_bits, divisor_from).plus(&top(&d_bits, divisor_from))
                }
                (Some(known), None) => top(known, divisor_from),
                (None, None) => return Err(SynthesisError::Unsatisfiable),
            };
            let quotient_top = top(quotient, quotient_from as usize);
            enforce(cs, || format!("top {index}"), &quotient_top, &divisor_top, &Lc::zero());
            divisor_bits = divisor_from as u32 + 1;
        }
        Ok(())
    }
}

/// The sizes of a division, in bits.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// What `q · divisor` is at most below.
    product: u32,
    /// What the columns have checked.
    columns: u32,
}

/// `(⌊a / b⌋, a mod b)`, both zero when `b` is zero. Remembered, so that the second of the two is free.
pub(crate) fn div_rem<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<(Word<F>, Word<F>), SynthesisError> {
    let zero = || Word::constant(1, U256::ZERO);
    if let Some(constant) = b.as_constant() {
        if constant.is_zero() || a.bound() == 0 {
            return Ok((zero(), zero()));
        }
        if constant.bit_len() as u32 > a.bound() {
            return Ok((zero(), a.clone()));
        }
        if constant.is_power_of_two() {
            let shift = constant.bit_len() as u32 - 1;
            let quotient = super::shift::shr(cs, &Word::constant(9, U256::from(shift)), a)?;
            return Ok((quotient, a.trunc(&mut cs.namespace(|| "low"), shift)?));
        }
        if let Some(a) = a.as_constant() {
            let (quotient, remainder) = a.div_rem(constant);
            return Ok((Word::constant(256, quotient), Word::constant(256, remainder)));
        }
    }
    let ids = |word: &Word<F>| match (word.as_limb(), word.as_two()) {
        (_, Some((low, high))) => [low.id(), high.id()],
        (limb, None) => [limb.map_or(u64::MAX, Limb::id), u64::MAX],
    };
    let (a_low, b_ids) = (a.as_two().map(|(low, _)| low).or(a.as_limb()), ids(b));
    let key = [ids(a)[1], b_ids[0], b_ids[1]];
    // Equal constants have different identities, so a constant divisor is keyed by value where that fits.
    let key = match b.as_constant().map(u64::try_from) {
        Some(Ok(value)) => [key[0], value, u64::MAX - 1],
        _ => key,
    };
    if let Some(known) = a_low.and_then(|low| low.known_division(key)) {
        return Ok(known);
    }
    let divisor = Divisor::new(cs, b)?;
    let gated = if divisor.zero.is_zero() { a.clone() } else { gate(cs, &divisor.zero.complement(), a)? };
    let result = match (gated.as_limb(), divisor.single) {
        (Some(limb), true) if narrow_bits(limb, &divisor) <= NARROW => narrow_euclid(cs, limb, &divisor)?,
        _ => {
            let (low, high) = gated.pair(&mut cs.namespace(|| "dividend"))?;
            let dividend = Dividend {
                limbs: [low.lc().clone(), high.lc().clone()],
                limb_bits: LIMB,
                bits: gated.bound(),
                value: gated.value().map(U512::from),
            };
            let (quotient, remainder) = euclid(cs, &dividend, &divisor)?;
            (quotient.to_word()?, remainder)
        }
    };
    if let Some(low) = a_low {
        low.remember_division(key, result.clone());
    }
    Ok(result)
}

fn quotient_bits<F: PrimeField>(dividend: u32, divisor: &Divisor<F>) -> u32 {
    (dividend + 1).saturating_sub(divisor.least_bits).max(1)
}

fn narrow_bits<F: PrimeField>(a: &Limb<F>, divisor: &Divisor<F>) -> u32 {
    quotient_bits(a.bound(), divisor) + divisor.bits
}

/// Division where `q · b` fits a field element.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `quotient`, `remainder` | decomposed | |
/// | `below` | [`Divisor::below`] | `r < b` |
/// | `product` | `q · b = a − r` | no wrap: both sides are below `2^252` |
///
/// Rows: `|q| + |r| + |b| + 1`, less where the bits of `b` are known.
fn narrow_euclid<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Limb<F>,
    divisor: &Divisor<F>,
) -> Result<(Word<F>, Word<F>), SynthesisError> {
    let parts = a.value().zip(divisor.value).map(|(a, b)| a.div_rem(b));
    let width = quotient_bits(a.bound(), divisor);
    let quotient = Word::alloc_checked(&mut cs.namespace(|| "quotient"), width, parts.map(|(q, _)| q))?;
    let width = a.bound().min(divisor.bits);
    let remainder = Word::alloc_checked(&mut cs.namespace(|| "remainder"), width, parts.map(|(_, r)| r))?;
    divisor.below(&mut cs.namespace(|| "below"), &remainder)?;
    let [quotient_lc, remainder_lc] = [&quotient, &remainder].map(|word| word.as_limb().map(|limb| limb.lc().clone()));
    let (quotient_lc, remainder_lc) = quotient_lc.zip(remainder_lc).ok_or(SynthesisError::Unsatisfiable)?;
    enforce(cs, || "product".into(), &quotient_lc, &divisor.packed, &a.lc().minus(&remainder_lc));
    Ok((quotient, remainder))
}

/// Quotient and remainder of an integer of two limbs by a divisor that is not zero.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `quotient`, `remainder` | decomposed | `q`, `r` |
/// | `below` | [`Divisor::below`] | `r < b`, and `b = r + d + 1` where that gives the divisor's digits |
/// | `columns`, `carry i` | `q·b + r − a ≡ 0` modulo 2^256 | two columns of 16-bit digits |
/// | `field` | `q · b = a − r` | the same modulo `p` |
/// | `top i` | [`Divisor::exclude_wrap`] | `q · b < 2^509` |
///
/// *Soundness:* by the last row `q·b + r − a` is smaller in size than `p · 2^256`, and it is a multiple of that, hence zero.
/// *Completeness:* the quotient and remainder; if `r` or `d` has a top bit, `b` is so large that `q` has none. For a
/// divisor of at most 120 bits the products of its one limb with `q`'s limbs fit, and one carry replaces columns, `field` and `top`.
fn euclid<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    dividend: &Dividend<F>,
    divisor: &Divisor<F>,
) -> Result<(LongWord<F>, Word<F>), SynthesisError> {
    let parts = dividend.value.zip(divisor.value).map(|(a, b)| a.div_rem(U512::from(b)));
    let quotient_value = parts.map(|(quotient, _)| quotient);
    let remainder_value = parts.map(|(_, remainder)| remainder.to::<U256>());
    let remainder_bits = divisor.bits.min(dividend.bits);
    let quotient =
        LongWord::alloc(&mut cs.namespace(|| "quotient"), quotient_bits(dividend.bits, divisor), quotient_value)?;
    let remainder = Word::alloc_checked(&mut cs.namespace(|| "remainder"), remainder_bits, remainder_value)?;
    let above = divisor.below(&mut cs.namespace(|| "below"), &remainder)?;
    let (r_low, r_high) = remainder.pair(cs)?;

    if divisor.single && divisor.bits <= SMALL_DIVISOR && quotient.parts.len() <= 2 {
        // q_0 b + r − a_0 = 2^128 c, and q_1 b + c = a_1.
        let zero = Limb::zero();
        let [q_low, q_high] = [0, 1].map(|i| quotient.parts.get(i).unwrap_or(&zero).lc());
        let product = Lc::mul(cs, || "low product".into(), q_low, &divisor.packed)?;
        let mut column = Column::zero();
        column.plus(&product, low_bits(U256::MAX, LIMB + divisor.bits));
        column.plus(r_low.lc(), low_bits(U256::MAX, divisor.bits));
        column.minus(&dividend.limbs[0], low_bits(U256::MAX, dividend.limb_bits));
        let carry = column.carry(&mut cs.namespace(|| "carry"), LIMB)?;
        let rest = dividend.limbs[1].minus(carry.lc());
        enforce(cs, || "high product".into(), q_high, &divisor.packed, &rest);
        return Ok((quotient, remainder));
    }

    let b_digits = divisor.digits(cs, &remainder, above.as_ref())?;
    let mut columns = product_columns(&mut cs.namespace(|| "columns"), &quotient.digits, &b_digits, PER_COLUMN, 2)?;
    for ((column, r), a) in columns.iter_mut().zip([&r_low, &r_high]).zip(&dividend.limbs) {
        column.plus(r.lc(), low_bits(U256::MAX, LIMB));
        column.minus(a, low_bits(U256::MAX, dividend.limb_bits));
    }
    carry_all(cs, columns)?;
    let rest = dividend.limbs[0].plus(&dividend.limbs[1].shifted(LIMB)).minus(&remainder.packed());
    enforce(cs, || "field".into(), &quotient.packed, &divisor.packed, &rest);
    let sizes = Sizes { product: dividend.bits, columns: 2 * LIMB };
    divisor.exclude_wrap(cs, &quotient.bits, sizes, &remainder, above.as_ref())?;
    Ok((quotient, remainder))
}
