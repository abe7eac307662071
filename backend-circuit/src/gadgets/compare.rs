//! Comparisons, and the difference with borrow that they share with subtraction.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use super::lc::{Lc, enforce, enforce_boolean};
use super::limb::{LIMB, Limb, decompose, divide_pow2, low_bits};
use super::word::Word;
use crate::field::{from_u256, two_pow};

/// Whether the field element `x` is zero, as a boolean.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `inverse` | `x · i = 1 − z` | a non-zero `x` has an inverse only if `z = 0`… |
/// | `zero` | `x · z = 0` | …and allows no other `z` |
///
/// *Soundness:* `x = 0` gives `z = 1` by the first row; otherwise the second gives `z = 0`. The hint `i` is free when
/// `x = 0`; nothing else reads it. *Completeness:* `i = x⁻¹`, or 0. Rows: 2, none for a constant.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn is_zero_element<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    x: &Lc<F>,
) -> Result<Lc<F>, SynthesisError> {
    if let Some(x) = x.as_constant() {
        return Ok(Lc::constant(if x == F::ZERO { F::ONE } else { F::ZERO }));
    }
    let zero = Lc::alloc(cs, || "zero".into(), x.value().map(|x| if x == F::ZERO { F::ONE } else { F::ZERO }))?;
    let inverse =
        Lc::alloc(cs, || "inverse".into(), x.value().map(|x| Option::<F>::from(x.invert()).unwrap_or(F::ZERO)))?;
    enforce(cs, || "inverse".into(), x, &inverse, &zero.complement());
    enforce(cs, || "zero".into(), x, &zero, &Lc::zero());
    Ok(zero)
}

/// Whether a limb is the constant `c`. Rows: 2; none for a constant or a boolean.
fn limb_is<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    limb: &Limb<F>,
    c: U256,
) -> Result<Lc<F>, SynthesisError> {
    if c.bit_len() as u32 > limb.bound() {
        return Ok(Lc::zero());
    }
    if limb.bound() == 1 && limb.as_constant().is_none() {
        return Ok(if c.is_zero() { limb.lc().complement() } else { limb.lc().clone() });
    }
    is_zero_element(cs, &limb.lc().minus(&Lc::constant(from_u256(&c))))
}

/// `a = 0`.
///
/// A word in two limbs is zero when the sum of its limbs is, for the sum is below `2^129` and has no other zero.
/// Soundness and completeness are those of [`is_zero_element`]. Rows: 2; none for `u1`.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn iszero<F: PrimeField, CS: ConstraintSystem<F>>(cs: &mut CS, a: &Word<F>) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "iszero");
    let zero = match (a.as_limb(), a.as_two()) {
        (Some(limb), _) => limb_is(&mut cs, limb, U256::ZERO)?,
        (None, Some((low, high))) => is_zero_element(&mut cs, &low.lc().plus(high.lc()))?,
        (None, None) => Lc::zero(),
    };
    Ok(Word::boolean(zero))
}

/// `a = b`.
///
/// Limbs are compared by inverses ([`is_zero_element`]) and the verdicts multiplied: limbs of equal words are equal
/// because both are canonical. Rows: 2 for one limb, 5 for two, 1 for two booleans.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn eq<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "eq");
    if let (Some(a), Some(b)) = (a.as_limb(), b.as_limb()) {
        let equal = match (a.as_constant(), b.as_constant()) {
            (_, Some(b)) => limb_is(&mut cs, a, b)?,
            (Some(a), None) => limb_is(&mut cs, b, a)?,
            (None, None) if a.bound() == 1 && b.bound() == 1 => {
                xor_bits(&mut cs, || "xor".into(), a.lc(), b.lc())?.complement()
            }
            (None, None) => is_zero_element(&mut cs, &a.lc().minus(b.lc()))?,
        };
        return Ok(Word::boolean(equal));
    }
    let (a_low, a_high) = a.pair(&mut cs.namespace(|| "a"))?;
    let (b_low, b_high) = b.pair(&mut cs.namespace(|| "b"))?;
    let low = is_zero_element(&mut cs.namespace(|| "low"), &a_low.lc().minus(b_low.lc()))?;
    let high = is_zero_element(&mut cs.namespace(|| "high"), &a_high.lc().minus(b_high.lc()))?;
    Ok(Word::boolean(Lc::mul(&mut cs, || "both".into(), &low, &high)?))
}

/// `a xor b` of booleans: `a + b − 2ab`, one row.
pub(crate) fn xor_bits<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    name: impl Fn() -> String,
    a: &Lc<F>,
    b: &Lc<F>,
) -> Result<Lc<F>, SynthesisError> {
    let both = Lc::mul(cs, name, a, b)?;
    Ok(Lc::sum([(F::ONE, a), (F::ONE, b), (-F::ONE.double(), &both)]))
}

/// `a < b` of unsigned integers: the borrow of `a − b` (see [`difference`]), shared with a subtraction of the same
/// operands. Rows: N + 1 for operands of N ≤ 252 bits, 258 for two limbs, 132 for two limbs against one of at most 128
/// bits; none where the bounds decide.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn ult<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "ult");
    if let Some(bound) = b.as_constant() {
        if bound.is_zero() {
            return Ok(Word::constant(1, U256::ZERO));
        }
        if bound == U256::from(1) {
            return iszero(&mut cs, a);
        }
        if bound.bit_len() as u32 > a.bound() {
            return Ok(Word::constant(1, U256::from(1)));
        }
    }
    if let Some(a) = a.as_constant() {
        if a.bit_len() as u32 > b.bound() {
            return Ok(Word::constant(1, U256::ZERO));
        }
        if a.is_zero() {
            let zero = iszero(&mut cs, b)?;
            return Ok(Word::boolean(zero.as_boolean()?.complement()));
        }
    }
    let (_, borrow) = difference(&mut cs, a, b)?;
    Ok(Word::boolean(borrow))
}

/// `a < b` of 256-bit two's complement words: `(a <ᵤ b)`, or `a`'s sign where the signs differ.
///
/// Rows: those of [`ult`] + 2, and the high limbs' bits where they are not known (128 each). With `b = 0` only the sign
/// of `a` is read.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn slt<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "slt");
    let a_sign = sign(&mut cs.namespace(|| "sign of a"), a)?;
    if b.as_constant().is_some_and(|b| b.is_zero()) {
        return Ok(Word::boolean(a_sign));
    }
    let b_sign = sign(&mut cs.namespace(|| "sign of b"), b)?;
    let unsigned = ult(&mut cs, a, b)?;
    let differ = xor_bits(&mut cs, || "signs differ".into(), &a_sign, &b_sign)?;
    let less = Lc::select(&mut cs, || "less".into(), &differ, &a_sign, unsigned.as_boolean()?)?;
    Ok(Word::boolean(less))
}

/// Bit 255. Rows: the bits of the high limb, where they are not known; none for a bound below 256.
pub(crate) fn sign<F: PrimeField, CS: ConstraintSystem<F>>(cs: &mut CS, a: &Word<F>) -> Result<Lc<F>, SynthesisError> {
    match a.as_two() {
        Some((_, high)) if high.bound() == LIMB => Ok(high.bits(cs)?[LIMB as usize - 1].clone()),
        _ => Ok(Lc::zero()),
    }
}

/// `a − b` modulo 2^256, and the borrow `a < b`.
///
/// For one limb each, of at most `N` bits:
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `borrow` | `c · (c − 1) = 0` | a boolean hint |
/// | `bit i` | `a − b + c · 2^N` is below `2^N` | forces `c = 1` exactly if `a < b` |
///
/// *Soundness:* `−2^N < a − b < 2^N` and `N ≤ 252`, so with the wrong `c` the decomposed value is outside `0 .. 2^N`
/// as an integer, and modulo `p > 2^253` too. *Completeness:* the other `c`. Rows: N + 1.
///
/// For two limbs the borrow of the low limbs enters the difference of the high ones; the same argument holds for each.
/// A low operand of one bit needs no range check: it borrows exactly when the other limb is zero (3 rows, then 3 more
/// in a high limb from which nothing else is taken).
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn difference<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<(Word<F>, Lc<F>), SynthesisError> {
    if let (Some(a), Some(b)) = (a.as_limb(), b.as_limb()) {
        let (modular, borrow) = narrow_difference(cs, a, b)?;
        let bits = a.bound().max(b.bound());
        let word = Word::from_limb(256, modular);
        return Ok((extend_borrow(cs, &word, bits, &borrow)?, borrow));
    }
    let (a_low, a_high) = a.pair(&mut cs.namespace(|| "a"))?;
    let (b_low, b_high) = b.pair(&mut cs.namespace(|| "b"))?;
    let (low, low_borrow) = low_difference(cs, &a_low, &b_low)?;
    let chain = Chain { borrow: &low_borrow, key: [a_low.id(), b_low.id()] };
    let (high, borrow) = limb_difference(&mut cs.namespace(|| "high"), &a_high, &b_high, Some(chain))?;
    Ok((Word::from_pair(256, low, high), borrow))
}

/// `(a − b mod 2^N, a < b)` of limbs of at most `N` bits.
fn narrow_difference<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Limb<F>,
    b: &Limb<F>,
) -> Result<(Limb<F>, Lc<F>), SynthesisError> {
    let key = [b.id(), u64::MAX, u64::MAX];
    if let Some(known) = a.known_difference(key) {
        return Ok(known);
    }
    let bits = a.bound().max(b.bound());
    let integers = a.value().zip(b.value());
    let less = integers.map(|(a, b)| a < b);
    let value = integers.map(|(a, b)| low_bits(a.wrapping_sub(b), bits));
    let result = if bits <= 1 {
        let borrow = Lc::mul(cs, || "borrow".into(), &a.lc().complement(), b.lc())?;
        let lc = Lc::sum([(F::ONE, a.lc()), (-F::ONE, b.lc()), (F::ONE.double(), &borrow)]);
        (Limb::new(lc, 1, value), borrow)
    } else {
        let borrow = Lc::alloc(cs, || "borrow".into(), less.map(|less| if less { F::ONE } else { F::ZERO }))?;
        enforce_boolean(cs, || "borrow".into(), &borrow);
        let lc = Lc::sum([(F::ONE, a.lc()), (-F::ONE, b.lc()), (two_pow(bits), &borrow)]);
        let lc_bits = decompose(&mut cs.namespace(|| "difference"), &lc, value, bits)?;
        (Limb::with_bits(lc, lc_bits, value), borrow)
    };
    a.remember_difference(key, result.clone());
    Ok(result)
}

/// `d + c · (2^256 − 2^N)` for `d < 2^N`: a difference modulo `2^N` made one modulo `2^256`. No rows: where `N > 128`
/// the bits of `d` are known.
fn extend_borrow<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    d: &Word<F>,
    bits: u32,
    borrow: &Lc<F>,
) -> Result<Word<F>, SynthesisError> {
    if borrow.is_zero() {
        return Ok(d.clone());
    }
    let (low, high) = d.pair(cs)?;
    let fill = |limb: &Limb<F>, from: u32| {
        let lc = Lc::sum([(F::ONE, limb.lc()), (two_pow::<F>(LIMB) - two_pow::<F>(from), borrow)]);
        let mask = low_bits(U256::MAX, LIMB) - low_bits(U256::MAX, from);
        let value = limb.value().zip(borrow.value()).map(|(v, c)| if c == F::ZERO { v } else { v | mask });
        Limb::new(lc, LIMB, value)
    };
    let low = if bits < LIMB { fill(&low, bits) } else { low };
    Ok(Word::from_pair(256, low, fill(&high, bits.saturating_sub(LIMB))))
}

/// `(a − b mod 2^128, a < b)` of the low limbs of two words.
pub(crate) fn low_difference<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Limb<F>,
    b: &Limb<F>,
) -> Result<(Limb<F>, Lc<F>), SynthesisError> {
    limb_difference(&mut cs.namespace(|| "low"), a, b, None)
}

/// The borrow that enters a limb, and the identities it came from.
struct Chain<'a, F: PrimeField> {
    borrow: &'a Lc<F>,
    key: [u64; 2],
}

/// `(a − b − c mod 2^128, a < b + c)` of limbs of at most 128 bits.
fn limb_difference<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Limb<F>,
    b: &Limb<F>,
    chain: Option<Chain<'_, F>>,
) -> Result<(Limb<F>, Lc<F>), SynthesisError> {
    // A low limb has no chain; identities start at 0, so the shift by one keeps the two kinds of key apart.
    let key = chain.as_ref().map_or([b.id(), 0, 0], |chain| [b.id(), chain.key[0] + 1, chain.key[1] + 1]);
    if let Some(known) = a.known_difference(key) {
        return Ok(known);
    }
    let zero = Lc::zero();
    let carry_in = chain.as_ref().map_or(&zero, |chain| chain.borrow);
    let carry_value = carry_in.value().map(|c| if c == F::ZERO { U256::ZERO } else { U256::from(1) });
    let integers = a.value().zip(b.value()).zip(carry_value).map(|((a, b), c)| (a, b + c));
    let value = integers.map(|(a, taken)| low_bits(a.wrapping_sub(taken), LIMB));
    let taken = b.lc().plus(carry_in);
    let with_borrow = |borrow: &Lc<F>| {
        let lc = Lc::sum([(F::ONE, a.lc()), (-F::ONE, &taken), (two_pow(LIMB), borrow)]);
        Limb::new(lc, LIMB, value)
    };
    let result = if taken.is_zero() {
        (a.clone(), zero)
    } else if (b.bound() <= 1 && carry_in.is_zero()) || b.bound() == 0 {
        // At most one is taken away, so only a zero limb borrows.
        let a_zero = limb_is(cs, a, U256::ZERO)?;
        let borrow = Lc::mul(cs, || "borrow".into(), &taken, &a_zero)?;
        (with_borrow(&borrow), borrow)
    } else if a.bound() == 0 {
        // Anything taken from zero borrows.
        let borrow = is_zero_element(cs, &taken)?.complement();
        (with_borrow(&borrow), borrow)
    } else {
        // a − b − c + 2^128 = d + 2^128 · (1 − borrow)
        let lc = a.lc().minus(&taken).plus(&Lc::constant(two_pow(LIMB)));
        let lc_value = integers.map(|(a, taken)| (a + (U256::from(1) << LIMB as usize)) - taken);
        let (low, kept) = divide_pow2(cs, &lc, lc_value, LIMB, 1)?;
        (low, kept.lc().complement())
    };
    a.remember_difference(key, result.clone());
    Ok(result)
}
