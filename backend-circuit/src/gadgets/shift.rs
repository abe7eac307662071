//! Shifts by constants and by variables.
//!
//! A shift by a variable is done in two parts: by 0 to 15 bits with a multiplication by a power of two, whose result is
//! decomposed anyway, and then by a multiple of 16 bits, choosing among windows of those bits. The operand's own bits are
//! not needed.

use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Opcode, Word as U256};

use super::bitwise::one_hot;
use super::compare::sign;
use super::index::index_bits;
use super::lc::Lc;
use super::limb::{LIMB, Limb, NARROW, divide_pow2, low_bits};
use super::meaning;
use super::word::Word;
use crate::field::{from_u256, to_u256, two_pow};

/// The bits of a shift amount that the multiplication handles.
const FINE: usize = 4;
/// The largest shift by multiplication.
const FINE_MAX: u32 = (1 << FINE) - 1;
/// The bits of a shift amount.
const AMOUNT: usize = 8;

fn constant_amount<F: PrimeField>(n: &Word<F>) -> Option<u32> {
    n.as_constant().map(|n| u32::try_from(n).unwrap_or(u32::MAX).min(256))
}

/// `a · 2^n` modulo 2^256.
///
/// Constant `n`: a scaling while the result fits a field element, else a rearrangement of bits; no rows but for bits not
/// known, and only those of the limb that stays. Variable `n`:
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `amount` | [`index_bits`], [`one_hot`] of bits 4 to 7 | `n mod 256`, and whether `n ≥ 256` |
/// | `power` | products of `1 + (2^(2^i) − 1) n_i` | `m = 2^(n mod 16)`, zero if `n ≥ 256` |
/// | `low`, `high` | `a_0 m`, `a_1 m + carry`, split by [`divide_pow2`] | `a · m` in bits |
/// | `limb i.k` | `f_k · window_k` | the shift by `16 k` |
///
/// *Soundness and completeness:* the split is over the integers, and one flag is set. Rows: 328 for two limbs, and the bits
/// of `n` where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn shl<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    n: &Word<F>,
    a: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "shl");
    if let Some(n) = constant_amount(n) {
        return shl_constant(&mut cs, n, a);
    }
    let value = meaning(Opcode::Shl, [n.value(), a.value()]);
    let Amount { fine, flags, within } = amount_parts(&mut cs.namespace(|| "amount"), n)?;
    let power = power_of_two(&mut cs.namespace(|| "power"), &fine, &within)?;
    if let Some(constant) = a.as_constant()
        && constant == U256::from(1)
    {
        // A power of two below 2^16 does not cross a limb when it is moved by a multiple of 16.
        let coarse = |k: core::ops::Range<usize>| {
            let start = k.start;
            Lc::sum(k.map(|k| (two_pow::<F>(16 * (k - start) as u32), &flags[k])))
        };
        let low = Lc::mul(&mut cs, || "low".into(), &power, &coarse(0..8))?;
        let high = Lc::mul(&mut cs, || "high".into(), &power, &coarse(8..16))?;
        return Ok(pair_of(low, high, value));
    }
    let bits = fine_left(&mut cs, a, &power)?;
    coarse_shift(&mut cs, &bits, &flags, Direction::Left, value)
}

/// `⌊a / 2^n⌋`, of `a`'s type.
///
/// Constant `n`: no rows but for bits not known, and only those of the limb that stays. Variable `n`: as [`shl`], with the
/// fine part `⌊a · 2^(15 − n mod 16) / 2^15⌋`, whose remainders (15 bits per limb) need no comparison.
/// Rows: 329 for two limbs, and the bits of `n` where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn shr<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    n: &Word<F>,
    a: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "shr");
    match constant_amount(n) {
        Some(n) => shr_constant(&mut cs, n, a),
        None => shr_variable(&mut cs, n, a),
    }
}

/// The arithmetic shift: the word is complemented if it is negative, shifted as by [`shr`], and complemented back.
///
/// Rows: those of [`shr`] + 4, and the bits of the high limb where they are not known, for the sign. Constant `n`: the bits
/// where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn sar<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    n: &Word<F>,
    a: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "sar");
    let negative = sign(&mut cs.namespace(|| "sign"), a)?;
    if negative.is_zero() {
        return Ok(shr(&mut cs, n, a)?.zext(256));
    }
    if let Some(n) = constant_amount(n) {
        let value = meaning(Opcode::Sar, [Some(U256::from(n)), a.value()]);
        let bits = a.bits(&mut cs)?;
        let bit = |i: usize| bits.get(i + n as usize).unwrap_or(&negative).clone();
        return Ok(Word::from_bits(256, &(0..256).map(bit).collect(), value));
    }
    let positive = complement_if(&mut cs.namespace(|| "complement"), &negative, a)?;
    let shifted = shr_variable(&mut cs, n, &positive)?;
    complement_if(&mut cs.namespace(|| "complement back"), &negative, &shifted)
}

fn pair_of<F: PrimeField>(low: Lc<F>, high: Lc<F>, value: Option<U256>) -> Word<F> {
    let low = Limb::new(low, LIMB, value.map(|value| low_bits(value, LIMB)));
    let high = Limb::new(high, LIMB, value.map(|value| value >> LIMB as usize));
    Word::from_pair(256, low, high)
}

fn shl_constant<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    n: u32,
    a: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let value = meaning(Opcode::Shl, [Some(U256::from(n)), a.value()]);
    if n >= 256 {
        return Ok(Word::constant(256, U256::ZERO));
    }
    if let Some(limb) = a.as_limb()
        && a.bound() + n <= NARROW
    {
        let lc = limb.lc().shifted(n);
        return Ok(Word::from_limb(
            256,
            match limb.known_bits() {
                Some(bits) => {
                    Limb::with_bits(lc, (0..n).map(|_| Lc::zero()).chain(bits.iter().cloned()).collect(), value)
                }
                None => Limb::new(lc, limb.bound() + n, value),
            },
        ));
    }
    if n == LIMB {
        let (low, _) = a.pair(cs)?;
        return Ok(Word::from_pair(256, Limb::zero(), low));
    }
    // What is shifted out needs no bits of its own.
    let kept = a.trunc(cs, 256 - n)?;
    let bits = kept.bits(cs)?;
    let shifted: Rc<[Lc<F>]> = (0..n).map(|_| Lc::zero()).chain(bits.iter().cloned()).collect();
    Ok(Word::from_bits(256, &shifted, value))
}

fn shr_constant<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    n: u32,
    a: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    if n >= a.bound() {
        return Ok(Word::constant(a.width(), U256::ZERO));
    }
    if n >= LIMB {
        let (_, high) = a.pair(cs)?;
        let high = Word::from_limb(a.width(), high);
        return if n == LIMB { Ok(high) } else { shr_constant(cs, n - LIMB, &high) };
    }
    let bits = a.bits(cs)?;
    let value = meaning(Opcode::Shr, [Some(U256::from(n)), a.value()]);
    Ok(Word::from_bits(a.width(), &bits[n as usize..].into(), value))
}

fn shr_variable<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    n: &Word<F>,
    a: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let value = meaning(Opcode::Shr, [n.value(), a.value()]);
    let Amount { fine, flags, within } = amount_parts(&mut cs.namespace(|| "amount"), n)?;
    let opposite: Vec<Lc<F>> = fine.iter().map(Lc::complement).collect();
    let power = power_of_two(&mut cs.namespace(|| "power"), &opposite, &within)?;
    let bits = fine_right(cs, a, &power)?;
    coarse_shift(cs, &bits, &flags, Direction::Right, value)?.trunc(cs, a.width())
}

/// A shift amount taken apart.
struct Amount<F: PrimeField> {
    /// Bits 0 to 3.
    fine: Vec<Lc<F>>,
    /// Which multiple of 16 the rest is.
    flags: Vec<Lc<F>>,
    /// Whether the amount is below 256.
    within: Lc<F>,
}

fn amount_parts<F: PrimeField, CS: ConstraintSystem<F>>(cs: &mut CS, n: &Word<F>) -> Result<Amount<F>, SynthesisError> {
    let index = index_bits(cs, n, AMOUNT)?;
    let flags = one_hot(cs, &index.bits[FINE..])?;
    Ok(Amount { fine: index.bits[..FINE].to_vec(), flags, within: index.within })
}

/// `2^Σ 2^i bits[i]` if `within`, else zero.
fn power_of_two<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    bits: &[Lc<F>],
    within: &Lc<F>,
) -> Result<Lc<F>, SynthesisError> {
    let mut power = within.clone();
    for (i, bit) in bits.iter().enumerate() {
        let factor = Lc::one().plus(&bit.times(two_pow::<F>(1 << i) - F::ONE));
        power = Lc::mul(cs, || format!("bit {i}"), &power, &factor)?;
    }
    Ok(power)
}

fn integer<F: PrimeField>(lc: &Lc<F>) -> Option<U256> {
    lc.value().map(|value| to_u256(&value))
}

/// The bits of `a · power` modulo 2^256, where `power` is below `2^16`.
fn fine_left<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    power: &Lc<F>,
) -> Result<Rc<[Lc<F>]>, SynthesisError> {
    if let Some(limb) = a.as_limb()
        && limb.bound() + FINE_MAX <= NARROW
    {
        let product = Lc::mul(cs, || "product".into(), limb.lc(), power)?;
        let value = integer(&product);
        return Limb::new(product, limb.bound() + FINE_MAX, value).bits(&mut cs.namespace(|| "product"));
    }
    let (low, high) = a.pair(&mut cs.namespace(|| "a"))?;
    let product = Lc::mul(cs, || "low".into(), low.lc(), power)?;
    let (low, carry) = divide_pow2(&mut cs.namespace(|| "low"), &product, integer(&product), LIMB, FINE_MAX)?;
    let product = Lc::mul(cs, || "high".into(), high.lc(), power)?.plus(carry.lc());
    let (high, _) = divide_pow2(&mut cs.namespace(|| "high"), &product, integer(&product), LIMB, FINE_MAX)?;
    Word::from_pair(256, low, high).bits(cs)
}

/// The bits of `⌊a · power / 2^15⌋`, where `power` is at most `2^15`.
fn fine_right<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    power: &Lc<F>,
) -> Result<Rc<[Lc<F>]>, SynthesisError> {
    if let Some(limb) = a.as_limb()
        && limb.bound() + FINE_MAX <= NARROW
    {
        let product = Lc::mul(cs, || "product".into(), limb.lc(), power)?;
        let mut cs = cs.namespace(|| "product");
        return divide_pow2(&mut cs, &product, integer(&product), FINE_MAX, limb.bound())?.1.bits(&mut cs);
    }
    let (low, high) = a.pair(&mut cs.namespace(|| "a"))?;
    let product = Lc::mul(cs, || "high".into(), high.lc(), power)?;
    let mut high_cs = cs.namespace(|| "high");
    let (down, high) = divide_pow2(&mut high_cs, &product, integer(&product), FINE_MAX, high.bound())?;
    drop(high_cs);
    let product = Lc::mul(cs, || "low".into(), low.lc(), power)?.plus(&down.lc().shifted(LIMB));
    let (_, low) = divide_pow2(&mut cs.namespace(|| "low"), &product, integer(&product), FINE_MAX, LIMB)?;
    Word::from_pair(256, low, high).bits(cs)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Left,
    Right,
}

/// Bits moved by the multiple of 16 whose flag is set.
fn coarse_shift<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    bits: &Rc<[Lc<F>]>,
    flags: &[Lc<F>],
    direction: Direction,
    value: Option<U256>,
) -> Result<Word<F>, SynthesisError> {
    let bit_values: Option<Vec<bool>> = bits.iter().map(|bit| Some(bit.value()? != F::ZERO)).collect();
    let integer = bit_values.map(|bits| {
        bits.iter()
            .take(256)
            .enumerate()
            .fold(U256::ZERO, |sum, (i, &bit)| if bit { sum | U256::from(1) << i } else { sum })
    });
    // The part of the shifted bits that falls into one limb, as a linear combination.
    let window = |k: usize, limb: usize| {
        let shift = 16 * k as isize;
        let start = limb as isize * LIMB as isize + if direction == Direction::Left { -shift } else { shift };
        let from = start.clamp(0, bits.len() as isize) as usize;
        let to = (start + LIMB as isize).clamp(0, bits.len() as isize) as usize;
        let place = (from as isize - start) as u32;
        let part = integer.map(|integer| from_u256(&low_bits(integer >> from.min(255), (to - from) as u32)));
        if from >= to { Lc::zero() } else { Lc::pack(bits, from..to, part).shifted(place) }
    };
    let mut limbs = Vec::with_capacity(2);
    for limb in 0..2 {
        let mut cs = cs.namespace(|| format!("limb {limb}"));
        let windows: Vec<Lc<F>> = (0..flags.len()).map(|k| window(k, limb)).collect();
        // With every window in use the first may serve as the base, which saves its row.
        let base = if windows.iter().any(Lc::is_zero) { Lc::zero() } else { windows[0].clone() };
        let mut sum = base.clone();
        for (k, (flag, window)) in flags.iter().zip(&windows).enumerate() {
            if k == 0 && !base.is_zero() {
                continue;
            }
            sum = sum.plus(&Lc::mul(&mut cs, || format!("window {k}"), flag, &window.minus(&base))?);
        }
        limbs.push(sum);
    }
    let high = limbs.pop().unwrap_or_else(Lc::zero);
    let low = limbs.pop().unwrap_or_else(Lc::zero);
    let width = if direction == Direction::Right { bits.len() as u32 } else { 256 };
    let low = Limb::new(low, LIMB.min(width), value.map(|value| low_bits(value, LIMB)));
    let high = Limb::new(high, width.saturating_sub(LIMB).min(LIMB), value.map(|value| value >> LIMB as usize));
    Ok(Word::from_pair(256, low, high))
}

/// `2^256 − 1 − a` if the boolean `flag`, else `a`: one row per limb.
fn complement_if<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    flag: &Lc<F>,
    a: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let (low, high) = a.pair(cs)?;
    let full = Lc::constant(two_pow::<F>(LIMB) - F::ONE);
    let mut flip = |name: &'static str, limb: &Limb<F>| {
        let change = Lc::sum([(F::ONE, &full), (-F::ONE.double(), limb.lc())]);
        Ok::<_, SynthesisError>(limb.lc().plus(&Lc::mul(cs, || name.into(), flag, &change)?))
    };
    let value = a.value().zip(flag.value()).map(|(a, flag)| if flag == F::ZERO { a } else { !a });
    let low = flip("low", &low)?;
    let high = flip("high", &high)?;
    Ok(pair_of(low, high, value))
}
