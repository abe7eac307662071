//! Instructions on the bytes of a word: `byte` and `signextend`.

use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Opcode, Word as U256};

use super::bitwise::{choose, one_hot};
use super::index::{Index, index_bits};
use super::lc::Lc;
use super::limb::{LIMB, Limb, low_bits};
use super::meaning;
use super::select::{Arms, merge};
use super::word::Word;
use crate::field::{from_u256, two_pow};

/// Byte `i` of the word, counted from the most significant, type `u8`; zero when `i ≥ 32`.
///
/// Constant `i`: the bits, where they are not known. Variable `i` ([`index_bits`]): the bytes are packed from bits and chosen
/// by the five low bits of `i` ([`choose`]), then gated by `i < 32`. Of two limbs without bits the one that holds the byte is
/// chosen first, and only its bits are needed. *Soundness and completeness:* those of the parts. Rows: 32 with bits, 145
/// without, and those of the index.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn byte<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    i: &Word<F>,
    a: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "byte");
    if let Some(i) = i.as_constant() {
        let Some(place) = usize::try_from(i).ok().filter(|&i| i < 32).map(|i| 8 * (31 - i)) else {
            return Ok(Word::constant(8, U256::ZERO));
        };
        let shifted = super::shift::shr(&mut cs, &Word::constant(8, U256::from(place)), a)?;
        return shifted.trunc(&mut cs, 8);
    }
    let value = meaning(Opcode::Byte, [i.value(), a.value()]);
    let Index { bits: index, within, .. } = index_bits(&mut cs, i, 5)?;
    let (bits, count, a_value) = match a.as_two() {
        Some((low, high)) if a.missing_bits() > 0 => {
            let limb = pick_limb(&mut cs, &index[4], high, low)?;
            (limb.bits(&mut cs.namespace(|| "limb"))?, 16, limb.value())
        }
        _ => (a.bits(&mut cs)?, 32, a.value()),
    };
    let bytes = (0..count).map(|i| {
        let start = 8 * (count - 1 - i);
        let to = bits.len().min(start + 8);
        if start >= to { Lc::zero() } else { Limb::from_bits(&bits, start..to, a_value).lc().clone() }
    });
    let chosen = choose(&mut cs, &index[..count.ilog2() as usize], bytes.collect())?;
    let chosen = Lc::mul(&mut cs, || "within".into(), &chosen, &within)?;
    Ok(Word::from_limb(8, Limb::new(chosen, 8, value)))
}

/// `when_set` if the boolean `flag`, else `otherwise`: one row, for limbs of any bound.
fn pick_limb<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    flag: &Lc<F>,
    otherwise: &Limb<F>,
    when_set: &Limb<F>,
) -> Result<Limb<F>, SynthesisError> {
    let lc = Lc::select(cs, || "limb".into(), flag, when_set.lc(), otherwise.lc())?;
    let value = flag.value().and_then(|flag| if flag == F::ZERO { otherwise.value() } else { when_set.value() });
    Ok(Limb::new(lc, LIMB, value))
}

/// `a` with the sign bit of its byte `k` (from the least significant) copied upwards; `a` itself when `k ≥ 31`.
///
/// Constant `k`: the bits up to the sign, where they are not known. Variable `k`:
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `index`, `flags` | [`index_bits`], [`one_hot`] | `k`; byte `j` is kept if a flag at or above `j` is set |
/// | `sign` | [`choose`] among bits `8j + 7` | |
/// | `keep j` | `keep_j · byte_j` | the bytes kept |
/// | `fill i` | `sign · Σ (1 − keep_j) · 255 · 2^(8j)` | the bytes filled, per limb |
/// | `beyond` | [`merge`] | `a` itself if `k ≥ 32` |
///
/// Of two limbs without bits, the one with byte `k` is chosen first (`limb`), extended alone, and put back (`low`, `high`).
/// *Soundness and completeness:* each row defines its value. Rows: 94 with bits, 175 without, and those of the index.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn signextend<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    k: &Word<F>,
    a: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "signextend");
    let value = meaning(Opcode::Signextend, [k.value(), a.value()]);
    if let Some(k) = k.as_constant() {
        let Some(sign) = usize::try_from(k).ok().filter(|&k| k < 31).map(|k| 8 * k + 7) else {
            return Ok(a.zext(256));
        };
        if a.bound() as usize <= sign {
            return Ok(a.zext(256));
        }
        let kept = a.trunc(&mut cs, sign as u32 + 1)?;
        let bits = kept.bits(&mut cs)?;
        let negative = bits.get(sign).cloned().unwrap_or_else(Lc::zero);
        let (low, high) = kept.pair(&mut cs)?;
        // The limbs are those of the part that is kept, plus ones above the sign.
        let fill = |limb: &Limb<F>, from: usize, value: Option<U256>| {
            let from = from.min(LIMB as usize) as u32;
            let lc = limb.lc().plus(&negative.times(two_pow::<F>(LIMB) - two_pow::<F>(from)));
            let missing = (from as usize).saturating_sub(limb.bound() as usize);
            match limb.known_bits() {
                Some(bits) if missing == 0 && limb.bound() == from => {
                    let ones = (from..LIMB).map(|_| negative.clone());
                    Limb::with_bits(lc, bits.iter().cloned().chain(ones).collect(), value)
                }
                _ => Limb::new(lc, LIMB, value),
            }
        };
        let split =
            |value: Option<U256>| (value.map(|value| low_bits(value, LIMB)), value.map(|value| value >> LIMB as usize));
        let (low_value, high_value) = split(value);
        let low = fill(&low, sign + 1, low_value);
        let high = fill(&high, (sign + 1).saturating_sub(LIMB as usize), high_value);
        return Ok(Word::from_pair(256, low, high));
    }
    let index = index_bits(&mut cs, k, 5)?;
    let short = meaning(Opcode::Signextend, [index.value, a.value()]);
    let extended = match a.as_two() {
        Some((low, high)) if a.missing_bits() > 0 => {
            let limb = pick_limb(&mut cs, &index.bits[4], low, high)?;
            let (limb, sign) = extend(&mut cs, &index.bits[..4], &limb)?;
            // Above the byte's limb there are copies of the sign, below it the word as it was.
            let fill = sign.times(two_pow::<F>(LIMB) - F::ONE);
            let low = Lc::select(&mut cs, || "low".into(), &index.bits[4], low.lc(), &limb)?;
            let high = Lc::select(&mut cs, || "high".into(), &index.bits[4], &limb, &fill)?;
            pair_of(low, high, short)
        }
        _ => {
            let bits = a.bits(&mut cs)?;
            let whole = extend_bits(&mut cs, &index.bits, &bits, a.value())?.0;
            let [low, high] = [&whole[0], &whole[1]];
            pair_of(low.clone(), high.clone(), short)
        }
    };
    let beyond = index.within.complement();
    if beyond.is_zero() {
        return Ok(extended);
    }
    let arms = [(beyond.clone(), a.clone()), (beyond.complement(), extended)];
    merge(&mut cs.namespace(|| "beyond"), 256, &arms, Arms::Exhaustive)
}

fn pair_of<F: PrimeField>(low: Lc<F>, high: Lc<F>, value: Option<U256>) -> Word<F> {
    let low = Limb::new(low, LIMB, value.map(|value| low_bits(value, LIMB)));
    let high = Limb::new(high, LIMB, value.map(|value| value >> LIMB as usize));
    Word::from_pair(256, low, high)
}

/// A limb of 128 bits extended from the sign of one of its 16 bytes, and that sign.
fn extend<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    index: &[Lc<F>],
    limb: &Limb<F>,
) -> Result<(Lc<F>, Lc<F>), SynthesisError> {
    let bits = limb.bits(&mut cs.namespace(|| "limb"))?;
    let (limbs, sign) = extend_bits(cs, index, &bits, limb.value())?;
    Ok((limbs.into_iter().next().unwrap_or_else(Lc::zero), sign))
}

/// The limbs of an integer of `2^index` bytes, extended from the sign of one of them, and that sign.
fn extend_bits<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    index: &[Lc<F>],
    bits: &Rc<[Lc<F>]>,
    value: Option<U256>,
) -> Result<(Vec<Lc<F>>, Lc<F>), SynthesisError> {
    let flags = one_hot(&mut cs.namespace(|| "flags"), index)?;
    let bit = |i: usize| bits.get(i).cloned().unwrap_or_else(Lc::zero);
    let sign = choose(&mut cs.namespace(|| "sign"), index, (0..flags.len()).map(|j| bit(8 * j + 7)).collect())?;
    let count = flags.len().div_ceil(16);
    let mut limbs = vec![Lc::zero(); count];
    let mut fills = vec![Lc::zero(); count];
    let mut keep = Lc::one();
    for (j, flag) in flags.iter().enumerate() {
        let (limb, place) = (j / 16, 8 * (j % 16) as u32);
        let (start, to) = (8 * j, bits.len().min(8 * j + 8));
        if start < to {
            let byte = Limb::from_bits(bits, start..to, value);
            let kept = Lc::mul(cs, || format!("keep {j}"), &keep, byte.lc())?;
            limbs[limb] = limbs[limb].plus(&kept.shifted(place));
        }
        let filled = keep.complement().times(from_u256::<F>(&(U256::from(255) << place as usize)));
        fills[limb] = fills[limb].plus(&filled);
        keep = keep.minus(flag);
    }
    for (i, (limb, fill)) in limbs.iter_mut().zip(&fills).enumerate() {
        let filled = Lc::mul(cs, || format!("fill {i}"), &sign, fill)?;
        *limb = limb.plus(&filled);
    }
    Ok((limbs, sign))
}
