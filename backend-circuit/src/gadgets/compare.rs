//! Comparisons, and the difference with borrow that they share with subtraction.

use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Opcode, Word as U256};

use super::lc::{Lc, enforce, enforce_boolean};
use super::limb::{LIMB, Limb, decompose, divide_pow2, low_bits};
use super::meaning;
use super::word::Word;
use crate::field::{from_u256, to_u256, two_pow};

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

/// `a < b` of unsigned integers.
///
/// Where a subtraction of the same operands is known: its borrow. Where the bits of both are known: see [`bits_less`]. For
/// one limb each: the borrow of `a − b` (see [`difference`]). For two limbs the limbs that decide are compared, and only
/// those:
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `same high` | [`is_zero_element`] of `a_1 − b_1` | `e` |
/// | `low` | `e · (a_0 − b_0) = v` | the low limbs count where the high ones are equal |
/// | `borrow` | `c · (c − 1) = 0` | the result |
/// | `bit i` | `a_1 − b_1 + v + 2^128 c` is below `2^128` | forces `c` |
///
/// *Soundness:* `D = a_1 − b_1 + v` is one of two differences of 128-bit integers, negative exactly if `a < b`, and
/// `D + 2^128 c` is in range for one boolean `c`. *Completeness:* that `c`. Rows: N + 1 for operands of N ≤ 252 bits, 132
/// for two limbs; none where the bounds decide or the difference is known; 40 for 256 bits that are known, 22 for 64.
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
    if let (Some(a), Some(b)) = (a.as_limb(), b.as_limb()) {
        if let Some((_, borrow)) = a.known_difference(narrow_key(b)) {
            return Ok(Word::boolean(borrow));
        }
        if let (Some(a_bits), Some(b_bits)) = (a.known_bits(), b.known_bits())
            && least_comparison(a_bits.len().max(b_bits.len())).1 <= a_bits.len().max(b_bits.len())
        {
            return Ok(Word::boolean(bits_less(&mut cs, [&a_bits, &b_bits], [a.value(), b.value()])?));
        }
        return Ok(Word::boolean(narrow_difference(&mut cs, a, b)?.1));
    }
    let (a_low, a_high) = a.pair(&mut cs.namespace(|| "a"))?;
    let (b_low, b_high) = b.pair(&mut cs.namespace(|| "b"))?;
    let subtraction = [b_high.id(), a_low.id() + 1, b_low.id() + 1];
    let comparison = [b_high.id(), a_low.id() + 1, u64::MAX - b_low.id()];
    if let Some((_, borrow)) = [subtraction, comparison].into_iter().find_map(|key| a_high.known_difference(key)) {
        return Ok(Word::boolean(borrow));
    }
    if a.missing_bits() + b.missing_bits() == 0 {
        let (a_bits, b_bits) = (a.bits(&mut cs)?, b.bits(&mut cs)?);
        let borrow = bits_less(&mut cs, [&a_bits, &b_bits], [a.value(), b.value()])?;
        a_high.remember_difference(comparison, (Limb::zero(), borrow.clone()));
        return Ok(Word::boolean(borrow));
    }
    let decided = deciding_difference(&mut cs, [&a_low, &a_high], [&b_low, &b_high])?;
    let less = a.value().zip(b.value()).map(|(a, b)| a < b);
    let borrow = Lc::alloc(&mut cs, || "borrow".into(), less.map(|less| if less { F::ONE } else { F::ZERO }))?;
    enforce_boolean(&mut cs, || "borrow".into(), &borrow);
    let lc = decided.plus(&borrow.shifted(LIMB));
    let value = lc.value().map(|value| to_u256(&value));
    let bits = decompose(&mut cs.namespace(|| "difference"), &lc, value, LIMB)?;
    a_high.remember_difference(comparison, (Limb::with_bits(lc, bits, value), borrow.clone()));
    Ok(Word::boolean(borrow))
}

/// The digit size at which [`bits_less`] of `bits` bits costs least, and its rows.
fn least_comparison(bits: usize) -> (usize, usize) {
    let rows = |size: usize| {
        let mut digits = bits.div_ceil(size).max(1);
        let mut rows = size + 1;
        while digits > 1 {
            rows += 2 + digits.div_ceil(2);
            digits = digits.div_ceil(2);
        }
        rows
    };
    [4, 8, 16, 32].into_iter().map(|size| (size, rows(size))).min_by_key(|(_, rows)| *rows).unwrap_or((16, rows(16)))
}

/// `a < b` of integers given by their bits.
///
/// The digit that decides is found by halving: of the differences `δ_j = a_j − b_j` of digits,
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `same k` | [`is_zero_element`] of `Σ 2^(sj) δ_j` over the upper half | `e`: the upper halves are equal |
/// | `half k.j` | `e · δ_j = v_j` over the lower half | `δ_(j + half) + v_j` are the differences of the half that decides |
/// | `borrow`, `bit i` | `δ + 2^s c` is below `2^s`, `c` boolean | the digit that decides |
///
/// *Soundness:* digits are canonical, so equal sums are equal digits, and the sums stay below the field's size; where `e` is
/// one the upper differences are zero. *Completeness:* each row defines its value. Rows: 40 for 256 bits.
fn bits_less<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    bits: [&Rc<[Lc<F>]>; 2],
    [a, b]: [Option<U256>; 2],
) -> Result<Lc<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "by digits");
    let (decided, size) = deciding_digit(&mut cs, bits, [a, b])?;
    let less = a.zip(b).map(|(a, b)| a < b);
    let borrow = Lc::alloc(&mut cs, || "borrow".into(), less.map(|less| if less { F::ONE } else { F::ZERO }))?;
    enforce_boolean(&mut cs, || "borrow".into(), &borrow);
    let lc = decided.plus(&borrow.shifted(size as u32));
    decompose(&mut cs.namespace(|| "difference"), &lc, lc.value().map(|value| to_u256(&value)), size as u32)?;
    Ok(borrow)
}

/// The rows of [`enforce_bits_less`] for integers of `bits` bits.
pub(crate) fn bits_less_rows(bits: usize) -> usize {
    least_comparison(bits).1 - 1
}

/// Shows that `a < b`, as [`bits_less`] finds out: with the borrow fixed at one, and one row less.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub(crate) fn enforce_bits_less<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    bits: [&Rc<[Lc<F>]>; 2],
    values: [Option<U256>; 2],
) -> Result<(), SynthesisError> {
    let mut cs = cs.namespace(|| "by digits");
    let (decided, size) = deciding_digit(&mut cs, bits, values)?;
    let lc = decided.plus(&Lc::constant(two_pow(size as u32)));
    decompose(&mut cs.namespace(|| "difference"), &lc, lc.value().map(|value| to_u256(&value)), size as u32)?;
    Ok(())
}

/// The difference of the digits that decide the comparison of two integers, and the digits' size: see [`bits_less`].
fn deciding_digit<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    [a_bits, b_bits]: [&Rc<[Lc<F>]>; 2],
    [a, b]: [Option<U256>; 2],
) -> Result<(Lc<F>, usize), SynthesisError> {
    let count = a_bits.len().max(b_bits.len());
    let (size, _) = least_comparison(count);
    let digit = |bits: &Rc<[Lc<F>]>, value: Option<U256>, start: usize| {
        Limb::from_bits(bits, start.min(bits.len())..bits.len().min(start + size), value)
    };
    let mut digits: Vec<Lc<F>> = (0..count.max(1))
        .step_by(size)
        .map(|start| digit(a_bits, a, start).lc().minus(digit(b_bits, b, start).lc()))
        .collect();
    for level in 0.. {
        if digits.len() <= 1 {
            break;
        }
        let upper = digits.split_off(digits.len().div_ceil(2));
        let sum = Lc::sum(upper.iter().enumerate().map(|(j, digit)| (two_pow((size * j) as u32), digit)));
        let same = is_zero_element(&mut cs.namespace(|| format!("same {level}")), &sum)?;
        for (j, lower) in digits.iter_mut().enumerate() {
            let kept = Lc::mul(cs, || format!("half {level}.{j}"), &same, lower)?;
            *lower = upper.get(j).map_or_else(|| kept.clone(), |upper| upper.plus(&kept));
        }
    }
    Ok((digits.pop().unwrap_or_else(Lc::zero), size))
}

/// `a_1 − b_1`, or `a_0 − b_0` where that is zero: the difference that decides an unsigned comparison. Rows: 3.
fn deciding_difference<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    [a_low, a_high]: [&Limb<F>; 2],
    [b_low, b_high]: [&Limb<F>; 2],
) -> Result<Lc<F>, SynthesisError> {
    let high = a_high.lc().minus(b_high.lc());
    let same = is_zero_element(&mut cs.namespace(|| "same high"), &high)?;
    let low = Lc::mul(cs, || "low".into(), &same, &a_low.lc().minus(b_low.lc()))?;
    Ok(high.plus(&low))
}

/// `a < b` of 256-bit two's complement words.
///
/// With signs that cost nothing more than their bits, `(a <ᵤ b)`, or `a`'s sign where the signs differ: the rows of
/// [`ult`] + 2. With `b = 0` only the sign of `a` is read. Where both signs are unknown, without them:
///
/// Let `p` be the operand claimed less and `q` the other, by their high limbs, and `M = 2^127`. On the circle of 128-bit
/// integers, where the signed order starts at `M`, the arcs `α = q − p`, `β = M − 1 − q` and `γ = p − M` add up to `−1`.
/// The claim is right exactly if two of them are not negative, which are range-checked as `X` and `Y`.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `same high` | [`is_zero_element`] of `δ = a_1 − b_1` | `e` |
/// | `less` | `c · (c − 1) = 0` | the result |
/// | `swap` | `c · δ = w` | `q = a_1 − w`, `p = b_1 + w` |
/// | `low` | `e · (a_0 − b_0 + 2^128 c) = v` | `α = δ − 2w + v`: where the high limbs are equal, the low ones decide |
/// | `first`, `second` | decomposed | `X < 2^128`, `Y < 2^127` |
/// | `second is` | `(Y − β) · (Y − γ − X + α) = 0` | |
/// | `first is` | `(X − α) · (X − γ − Y + β + e/2) = 0` | |
///
/// *Soundness.* `e = 0`: the last rows hold for `(X, Y)` = `(α, β)`, `(γ, β)`, `(α, γ)`, and otherwise only if
/// `3γ + 1 ≡ 0`, where `|γ| < 2^129`; so two arcs are not negative. If the claim were wrong, the arcs of the true order would
/// be `−α`, `−γ − 1` and `−β − 1`, of which two are not negative, and `α ≠ 0`; then only one of `α, β, γ` could be.
/// `e = 1`: `w = 0`, `β + γ = −1`, and as one half is not the residue of a small integer, `X = α` and `Y` is `β` or `γ`;
/// `X` in range says that `c` is the borrow of the low limbs. *Completeness:* exactly one pair is in range. Rows: 262.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn slt<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "slt");
    if b.as_constant().is_some_and(|b| b.is_zero()) {
        return Ok(Word::boolean(sign(&mut cs.namespace(|| "sign of a"), a)?));
    }
    if let (Some((a_low, a_high)), Some((b_low, b_high))) = (a.as_two(), b.as_two())
        && [a_high, b_high].iter().all(|high| high.bound() == LIMB && high.known_bits().is_none())
    {
        let less = meaning(Opcode::Slt, [a.value(), b.value()]);
        return Ok(Word::boolean(slt_by_arcs(&mut cs, [a_low, a_high], [b_low, b_high], less)?));
    }
    let a_sign = sign(&mut cs.namespace(|| "sign of a"), a)?;
    let b_sign = sign(&mut cs.namespace(|| "sign of b"), b)?;
    let unsigned = ult(&mut cs, a, b)?;
    let differ = xor_bits(&mut cs, || "signs differ".into(), &a_sign, &b_sign)?;
    let less = Lc::select(&mut cs, || "less".into(), &differ, &a_sign, unsigned.as_boolean()?)?;
    Ok(Word::boolean(less))
}

/// The comparison by arcs: see [`slt`].
fn slt_by_arcs<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    [a_low, a_high]: [&Limb<F>; 2],
    [b_low, b_high]: [&Limb<F>; 2],
    less: Option<U256>,
) -> Result<Lc<F>, SynthesisError> {
    let delta = a_high.lc().minus(b_high.lc());
    let same = is_zero_element(&mut cs.namespace(|| "same high"), &delta)?;
    let less = Lc::alloc(cs, || "less".into(), less.map(|less| from_u256(&less)))?;
    enforce_boolean(cs, || "less".into(), &less);
    let swap = Lc::mul(cs, || "swap".into(), &less, &delta)?;
    let low = Lc::sum([(F::ONE, a_low.lc()), (-F::ONE, b_low.lc()), (two_pow(LIMB), &less)]);
    let low = Lc::mul(cs, || "low".into(), &same, &low)?;
    let middle = two_pow::<F>(LIMB - 1);
    let alpha = Lc::sum([(F::ONE, &delta), (-F::ONE.double(), &swap), (F::ONE, &low)]);
    let beta = Lc::sum([(middle - F::ONE, &Lc::one()), (-F::ONE, a_high.lc()), (F::ONE, &swap)]);
    let gamma = Lc::sum([(F::ONE, b_high.lc()), (F::ONE, &swap), (-middle, &Lc::one())]);
    // Negative numbers are residues near the modulus.
    let fits = |lc: &Lc<F>| lc.value().map(|value| to_u256(&value)).filter(|value| value.bit_len() <= LIMB as usize);
    let known = alpha.value().is_some() && beta.value().is_some() && gamma.value().is_some();
    let (first, second) = match (fits(&alpha), fits(&beta), fits(&gamma)) {
        _ if !known => (None, None),
        (Some(alpha), Some(beta), _) => (Some(alpha), Some(beta)),
        (None, Some(beta), Some(gamma)) => (Some(gamma), Some(beta)),
        (Some(alpha), None, Some(gamma)) => (Some(alpha), Some(gamma)),
        // Operands out of range: nothing satisfies the rows.
        _ => (Some(U256::ZERO), Some(U256::ZERO)),
    };
    let first = Limb::alloc_checked(&mut cs.namespace(|| "first"), LIMB, first)?;
    let second = Limb::alloc_checked(&mut cs.namespace(|| "second"), LIMB - 1, second)?;
    let (x, y) = (first.lc(), second.lc());
    let other = Lc::sum([(F::ONE, y), (-F::ONE, &gamma), (-F::ONE, x), (F::ONE, &alpha)]);
    enforce(cs, || "second is".into(), &y.minus(&beta), &other, &Lc::zero());
    let other = Lc::sum([(F::ONE, x), (-F::ONE, &gamma), (-F::ONE, y), (F::ONE, &beta), (F::TWO_INV, &same)]);
    enforce(cs, || "first is".into(), &x.minus(&alpha), &other, &Lc::zero());
    Ok(less)
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

/// The key of a difference of two words of one limb.
fn narrow_key<F: PrimeField>(b: &Limb<F>) -> [u64; 3] {
    [b.id(), u64::MAX, u64::MAX]
}

/// `(a − b mod 2^N, a < b)` of limbs of at most `N` bits.
fn narrow_difference<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Limb<F>,
    b: &Limb<F>,
) -> Result<(Limb<F>, Lc<F>), SynthesisError> {
    let key = narrow_key(b);
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
