//! Addition, subtraction and multiplication, exact and modulo 2^256.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use super::columns::{Digits, multiply_mod_2_256};
use super::compare::{difference, is_zero_element, low_difference};
use super::lc::{Lc, enforce};
use super::limb::{LIMB, Limb, NARROW, decompose, divide_pow2, low_bits};
use super::word::Word;
use crate::field::{CAPACITY, from_u256, two_pow, two_pow_neg};

/// Rows that the digit-wise product needs besides operand bits and the result's 256 (see `columns`).
const DIGIT_PRODUCT_ROWS: u32 = 64;

/// The widest factor whose product with a 128-bit limb, and a carry as wide as itself, fits a field element.
const SMALL_FACTOR: u32 = CAPACITY - 1 - LIMB;

/// The exact sum, of type `u(max + 1)`.
///
/// One field element while the sum fits ([`NARROW`]): no rows. In two limbs the low sum is split into 128 bits and a
/// carry ([`divide_pow2`]); the high sum is in range because the sum is exact.
/// *Soundness and completeness:* those of the split. Rows: 0; 253 at 253 bits; 129 for two limbs; 3 where one operand
/// is a single bit, whose carry is an equality test.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn add<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "add");
    let width = (a.width().max(b.width()) + 1).min(256);
    if a.bound() == 0 {
        return Ok(b.zext(width));
    }
    if b.bound() == 0 {
        return Ok(a.zext(width));
    }
    if let (Some(a), Some(b)) = (a.as_limb(), b.as_limb()) {
        let bound = a.bound().max(b.bound()) + 1;
        let lc = a.lc().plus(b.lc());
        let value = a.value().zip(b.value()).map(|(a, b)| a + b);
        if bound <= NARROW {
            return Ok(Word::from_limb(width, Limb::new(lc, bound, value)));
        }
        let (low, high) = divide_pow2(&mut cs, &lc, value, LIMB, bound - LIMB)?;
        return Ok(Word::from_pair(width, low, high));
    }
    let (low, high, carry) = add_low(&mut cs, a, b)?;
    let bound = high.0.bound().max(high.1.bound()) + 1;
    let high = sum_with_carry(&high.0, &high.1, &carry, bound.min(LIMB));
    Ok(Word::from_pair(width, low, high))
}

/// The sum modulo 2^256.
///
/// As [`add`] where the bounds leave room for the sum. Else the high sum is split too and its carry dropped.
/// Rows: 258; 132 against an operand of at most 128 bits; 6 against a single bit.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn wadd<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "wadd");
    if a.bound().max(b.bound()) < 256 || a.bound() == 0 || b.bound() == 0 {
        return Ok(add(&mut cs, a, b)?.zext(256));
    }
    let (low, (a_high, b_high), carry) = add_low(&mut cs, a, b)?;
    let mut cs = cs.namespace(|| "high");
    let high = if carry.is_zero() && (a_high.bound() == 0 || b_high.bound() == 0) {
        if a_high.bound() == 0 { b_high } else { a_high }
    } else if a_high.bound() == 0 || b_high.bound() == 0 {
        // Only the carry is added, so only the largest limb overflows.
        let limb = if a_high.bound() == 0 { b_high } else { a_high };
        let full = is_full(&mut cs, &limb)?;
        let wrapped = Lc::mul(&mut cs, || "wrap".into(), &carry, &full)?;
        let lc = Lc::sum([(F::ONE, limb.lc()), (F::ONE, &carry), (-two_pow::<F>(LIMB), &wrapped)]);
        let value = limb.value().zip(bit_value(&carry)).map(|(limb, carry)| low_bits(limb + carry, LIMB));
        Limb::new(lc, LIMB, value)
    } else {
        let sum = sum_with_carry(&a_high, &b_high, &carry, LIMB + 1);
        divide_pow2(&mut cs, sum.lc(), sum.value(), LIMB, 1)?.0
    };
    Ok(Word::from_pair(256, low, high))
}

/// The low limb of a sum, the operands' high limbs, and the carry into them.
type LowSum<F> = (Limb<F>, (Limb<F>, Limb<F>), Lc<F>);

fn add_low<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<LowSum<F>, SynthesisError> {
    let (a_low, a_high) = a.pair(&mut cs.namespace(|| "a"))?;
    let (b_low, b_high) = b.pair(&mut cs.namespace(|| "b"))?;
    let mut cs = cs.namespace(|| "low");
    let value = a_low.value().zip(b_low.value()).map(|(a, b)| a + b);
    let (big, small) = if a_low.bound() < b_low.bound() { (&b_low, &a_low) } else { (&a_low, &b_low) };
    let sum = a_low.lc().plus(b_low.lc());
    let (low, carry) = if small.bound() == 0 {
        (big.clone(), Lc::zero())
    } else if big.bound() < LIMB {
        (Limb::new(sum, big.bound() + 1, value), Lc::zero())
    } else if small.bound() == 1 {
        let full = is_full(&mut cs, big)?;
        let carry = Lc::mul(&mut cs, || "carry".into(), small.lc(), &full)?;
        let lc = Lc::sum([(F::ONE, &sum), (-two_pow::<F>(LIMB), &carry)]);
        (Limb::new(lc, LIMB, value.map(|value| low_bits(value, LIMB))), carry)
    } else {
        let (low, carry) = divide_pow2(&mut cs, &sum, value, LIMB, 1)?;
        (low, carry.lc().clone())
    };
    Ok((low, (a_high, b_high), carry))
}

/// Whether a limb is `2^128 − 1`.
fn is_full<F: PrimeField, CS: ConstraintSystem<F>>(cs: &mut CS, limb: &Limb<F>) -> Result<Lc<F>, SynthesisError> {
    let full = Lc::constant(two_pow::<F>(LIMB) - F::ONE);
    is_zero_element(&mut cs.namespace(|| "full"), &limb.lc().minus(&full))
}

fn bit_value<F: PrimeField>(bit: &Lc<F>) -> Option<U256> {
    bit.value().map(|bit| if bit == F::ZERO { U256::ZERO } else { U256::from(1) })
}

/// `a + b + carry`, below `2^bound` by the caller's word.
fn sum_with_carry<F: PrimeField>(a: &Limb<F>, b: &Limb<F>, carry: &Lc<F>, bound: u32) -> Limb<F> {
    let lc = Lc::sum([(F::ONE, a.lc()), (F::ONE, b.lc()), (F::ONE, carry)]);
    let value = a.value().zip(b.value()).zip(bit_value(carry)).map(|((a, b), carry)| a + b + carry);
    Limb::new(lc, bound, value)
}

/// The exact difference, of `a`'s type, where the compiler has proved `a ≥ b`.
///
/// One field element: no rows. In two limbs the low difference is split into 128 bits and a borrow; the high one is in
/// range because the difference is exact.
/// *Soundness and completeness* rest on `a ≥ b`; where that holds only on a path, the caller gates the operands.
/// Rows: 0; 129 for two limbs; 3 where `b` is a single bit, for only a zero limb borrows then.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn sub<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "sub");
    if b.bound() == 0 {
        return Ok(a.clone());
    }
    if let Some(a_limb) = a.as_limb() {
        // The subtrahend is no larger, so the value of its two limbs, if it has two, fits a field element as well.
        let value = a.value().zip(b.value()).map(|(a, b)| a.wrapping_sub(b));
        return Ok(Word::from_limb(a.width(), Limb::new(a_limb.lc().minus(&b.packed()), a_limb.bound(), value)));
    }
    let (a_low, a_high) = a.pair(&mut cs)?;
    let (b_low, b_high) = b.pair(&mut cs.namespace(|| "b"))?;
    let (low, borrow) = low_difference(&mut cs, &a_low, &b_low)?;
    let lc = Lc::sum([(F::ONE, a_high.lc()), (-F::ONE, b_high.lc()), (-F::ONE, &borrow)]);
    let value = a_high.value().zip(b_high.value()).zip(bit_value(&borrow));
    let value = value.map(|((a, b), borrow)| a.wrapping_sub(b).wrapping_sub(borrow));
    Ok(Word::from_pair(a.width(), low, Limb::new(lc, a_high.bound(), value)))
}

/// The difference modulo 2^256: see [`difference`], which [`super::compare::ult`] of the same operands shares.
///
/// Rows: 258 for two limbs, N + 1 for operands of N ≤ 252 bits, 6 for `a − 1`; 5 for `0 − b` and none for
/// `(2^256 − 1) − b`, which need no borrow chain.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn wsub<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "wsub");
    match a.as_constant() {
        Some(U256::ZERO) => negate_if(&mut cs, &Lc::one(), b, Negated::Any),
        Some(U256::MAX) => not(&mut cs, b),
        _ => Ok(difference(&mut cs, a, b)?.0),
    }
}

/// `2^256 − 1 − a`: the limbs' complements. Rows: none, but for splitting a limb of 129 to 252 bits.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn not<F: PrimeField, CS: ConstraintSystem<F>>(cs: &mut CS, a: &Word<F>) -> Result<Word<F>, SynthesisError> {
    let (low, high) = a.pair(&mut cs.namespace(|| "not"))?;
    let full = low_bits(U256::MAX, LIMB);
    let flip = |limb: &Limb<F>| {
        let lc = Lc::constant(from_u256(&full)).minus(limb.lc());
        let value = limb.value().map(|value| full - value);
        match limb.known_bits() {
            Some(bits) if limb.bound() == LIMB => Limb::with_bits(lc, bits.iter().map(Lc::complement).collect(), value),
            _ => Limb::new(lc, LIMB, value),
        }
    };
    Ok(Word::from_pair(256, flip(&low), flip(&high)))
}

/// What is known of the operand of [`negate_if`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Negated {
    /// Nothing.
    Any,
    /// It is not zero whenever the flag is set, as for a sign bit and its word.
    NonZero,
}

/// `−a` modulo 2^256 if the boolean `flag`, else `a`.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `low zero`, `high zero` | see [`is_zero_element`] | `z_0`, `z_1` |
/// | `zero` | `z_0 · z_1 = z` | the word is zero (`z = 0` where that cannot happen) |
/// | `low` | `f · (2^128 − 2^128 z_0 − 2 a_0) = d_0` | `a_0 + d_0` is `2^128 − a_0`, or 0 |
/// | `high` | `f · (2^128 − 1 + z_0 − 2^128 z − 2 a_1) = d_1` | the low limb borrows unless it is zero |
///
/// *Soundness and completeness:* the negation's limbs in closed form. Rows: 7; 5 when `flag` is the constant one; 4 for
/// [`Negated::NonZero`]; none when `flag` is the constant zero.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn negate_if<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    flag: &Lc<F>,
    a: &Word<F>,
    operand: Negated,
) -> Result<Word<F>, SynthesisError> {
    if flag.is_zero() {
        return Ok(a.clone());
    }
    let mut cs = cs.namespace(|| "negate");
    let (low, high) = a.pair(&mut cs)?;
    let low_zero = is_zero_element(&mut cs.namespace(|| "low zero"), low.lc())?;
    let zero = match operand {
        Negated::NonZero => Lc::zero(),
        Negated::Any => {
            let high_zero = is_zero_element(&mut cs.namespace(|| "high zero"), high.lc())?;
            Lc::mul(&mut cs, || "zero".into(), &low_zero, &high_zero)?
        }
    };
    let base = two_pow::<F>(LIMB);
    let minus_two = -F::ONE.double();
    let low_change = Lc::sum([(base, &Lc::one()), (-base, &low_zero), (minus_two, low.lc())]);
    let high_change =
        Lc::sum([(base - F::ONE, &Lc::one()), (F::ONE, &low_zero), (-base, &zero), (minus_two, high.lc())]);
    let low_change = Lc::mul(&mut cs, || "low".into(), flag, &low_change)?;
    let high_change = Lc::mul(&mut cs, || "high".into(), flag, &high_change)?;
    let value = a.value().zip(flag.value()).map(|(a, flag)| if flag == F::ZERO { a } else { a.wrapping_neg() });
    let low = Limb::new(low.lc().plus(&low_change), LIMB, value.map(|value| low_bits(value, LIMB)));
    let high = Limb::new(high.lc().plus(&high_change), LIMB, value.map(|value| value >> LIMB as usize));
    Ok(Word::from_pair(256, low, high))
}

/// The exact product, of type `u(A + B)`.
///
/// Up to [`NARROW`] bits the product is one field element: 1 row, none with a constant factor. Beyond, with `s` the
/// narrower factor:
///
/// - `s < 2^124`, the other factor in limbs `b_0, b_1`: `s · b_0` is split into 128 bits and a carry, and
///   `s · b_1 + carry` is in range because the product is exact. Rows: 128 + |s| + 2.
/// - else `a · b = r_0 + 2^128 · r_1` modulo `p`, and modulo 8 on the low bits:
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `product` | `a · b = r_0 + 2^128 r_1` | in the field |
/// | `low product` | `(a mod 8) · (b mod 8) = t` | |
/// | `low carry` | `t − (r_0 mod 8) = 8c`, `0 ≤ c < 8` | the same modulo 8 |
///
/// *Soundness:* the two sides differ by less than `2^256 < 8p` and by a multiple of `8p`, hence not at all.
/// *Completeness:* the product is exact. Rows: A + B + 5, and the factors' bits where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn mul<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "mul");
    let width = (a.width() + b.width()).min(256);
    if let (Some(a), Some(b)) = (a.as_constant(), b.as_constant()) {
        return Ok(Word::constant(width, a.wrapping_mul(b)));
    }
    let (small, big) = if a.bound() <= b.bound() { (a, b) } else { (b, a) };
    if let Some(constant) = small.as_constant() {
        if constant.is_zero() {
            return Ok(Word::constant(width, U256::ZERO));
        }
        if constant == U256::from(1) {
            return Ok(big.zext(width));
        }
    }
    let bound = small.bound() + big.bound();
    let value = a.value().zip(b.value()).map(|(a, b)| a.wrapping_mul(b));
    if bound <= NARROW
        && let (Some(small), Some(big)) = (small.as_limb(), big.as_limb())
    {
        let lc = Lc::mul(&mut cs, || "product".into(), small.lc(), big.lc())?;
        return Ok(Word::from_limb(width, Limb::new(lc, bound, value)));
    }
    if let Some(factor) = small.as_limb()
        && factor.bound() <= SMALL_FACTOR
    {
        let (low, carry, high) = multiply_small(&mut cs, factor, big)?;
        let high = Limb::new(high.plus(carry.lc()), bound.min(256) - LIMB, value.map(|value| value >> LIMB as usize));
        return Ok(Word::from_pair(width, low, high));
    }
    if let (Some(a), Some(b)) = (small.as_limb(), big.as_limb()) {
        let product = Word::alloc_checked(&mut cs.namespace(|| "result"), bound.min(256), value)?;
        let limbs = product.limbs(&mut cs)?;
        let packed = limbs.iter().rev().fold(Lc::zero(), |sum, limb| sum.shifted(LIMB).plus(limb));
        enforce(&mut cs, || "product".into(), a.lc(), b.lc(), &packed);
        let a_low = Limb::from_bits(&a.bits(&mut cs.namespace(|| "a"))?, 0..3, a.value());
        let b_low = Limb::from_bits(&b.bits(&mut cs.namespace(|| "b"))?, 0..3, b.value());
        let r_low = Limb::from_bits(&product.bits(&mut cs)?, 0..3, value);
        let low = Lc::mul(&mut cs, || "low product".into(), a_low.lc(), b_low.lc())?;
        let carry = low.minus(r_low.lc()).times(two_pow_neg(3));
        let carry_value = a_low.value().zip(b_low.value()).map(|(a, b)| (a * b) >> 3);
        decompose(&mut cs.namespace(|| "low carry"), &carry, carry_value, 3)?;
        return Ok(product.zext(width));
    }
    // Two factors of which one has two limbs and the other more than 124 bits do not multiply exactly below 2^256,
    // except where their bounds are looser than their types; the product modulo 2^256 is the same.
    wmul(&mut cs, a, b)
}

/// `s · b` in pieces: the low 128 bits and the carry of `s · b_0`, and `s · b_1`.
type SmallProduct<F> = (Limb<F>, Limb<F>, Lc<F>);

fn multiply_small<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    small: &Limb<F>,
    big: &Word<F>,
) -> Result<SmallProduct<F>, SynthesisError> {
    let (big_low, big_high) = big.pair(&mut cs.namespace(|| "operand"))?;
    let low = Lc::mul(cs, || "low product".into(), small.lc(), big_low.lc())?;
    let low_value = small.value().zip(big_low.value()).map(|(small, big)| small * big);
    let (low, carry) = divide_pow2(&mut cs.namespace(|| "low"), &low, low_value, LIMB, small.bound())?;
    let high = Lc::mul(cs, || "high product".into(), small.lc(), big_high.lc())?;
    Ok((low, carry, high))
}

/// The product modulo 2^256.
///
/// As [`mul`] where the bounds leave room for it. Else the cheaper of:
///
/// - `s < 2^124`: as there, with `s · b_1 + carry` split as well and its carry dropped. Rows: 256 + 2|s| + 2;
/// - digit-wise ([`multiply_mod_2_256`]): rows 256 + 64, and the operands' bits where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn wmul<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "wmul");
    let small = if a.bound() <= b.bound() { a } else { b };
    let trivial = small.as_constant().is_some_and(|constant| constant <= U256::from(1));
    if a.bound() + b.bound() <= 256 || trivial {
        return Ok(mul(&mut cs, a, b)?.zext(256));
    }
    if let (Some(a), Some(b)) = (a.as_constant(), b.as_constant()) {
        return Ok(Word::constant(256, a.wrapping_mul(b)));
    }
    let value = a.value().zip(b.value()).map(|(a, b)| a.wrapping_mul(b));
    let big = if a.bound() <= b.bound() { b } else { a };
    let by_digits = DIGIT_PRODUCT_ROWS + a.missing_bits() + b.missing_bits();
    if let Some(factor) = small.as_limb()
        && factor.bound() <= SMALL_FACTOR
        && 2 * factor.bound() + 2 <= by_digits
    {
        let (low, carry, high) = multiply_small(&mut cs, factor, big)?;
        let (_, big_high) = big.pair(&mut cs)?;
        let high_value = factor.value().zip(big_high.value()).zip(carry.value());
        let high_value = high_value.map(|((small, big), carry)| small * big + carry);
        let sum = high.plus(carry.lc());
        let high = divide_pow2(&mut cs.namespace(|| "high"), &sum, high_value, LIMB, factor.bound())?.0;
        return Ok(Word::from_pair(256, low, high));
    }
    let a = Digits::of(&mut cs.namespace(|| "a"), a, 16)?;
    let b = Digits::of(&mut cs.namespace(|| "b"), b, 16)?;
    multiply_mod_2_256(&mut cs, &a, &b, value)
}
