//! Instructions on the bytes of a word: `byte` and `signextend`.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Opcode, Word as U256};

use super::bitwise::{choose, index_bits, one_hot};
use super::lc::Lc;
use super::limb::{LIMB, Limb, low_bits};
use super::meaning;
use super::select::{Arms, merge};
use super::word::Word;
use crate::field::{from_u256, two_pow};

/// Byte `i` of the word, counted from the most significant, type `u8`; zero when `i ≥ 32`.
///
/// Constant `i`: the bits, where they are not known. Variable `i`: the bytes are packed from bits and chosen by the five low
/// bits of `i` ([`choose`]), then gated by `i < 32`. *Soundness and completeness:* those of the parts. Rows: 32, the operand's
/// bits and the bits of `i` where they are not known, and 2 where `i` may exceed 31.
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
    let (index, beyond) = index_bits(&mut cs, i, 5)?;
    let bits = a.bits(&mut cs)?;
    let bytes = (0..32).map(|i| {
        let start = 8 * (31 - i);
        let to = bits.len().min(start + 8);
        if start >= to { Lc::zero() } else { Limb::from_bits(&bits, start..to, a.value()).lc().clone() }
    });
    let chosen = choose(&mut cs, &index, bytes.collect())?;
    let chosen = Lc::mul(&mut cs, || "within".into(), &chosen, &beyond.complement())?;
    Ok(Word::from_limb(8, Limb::new(chosen, 8, value)))
}

/// `a` with the sign bit of its byte `k` (from the least significant) copied upwards; `a` itself when `k ≥ 31`.
///
/// Constant `k`: the bits up to the sign, where they are not known. Variable `k`:
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `index`, `flags` | [`index_bits`], [`one_hot`] | `k mod 32`; byte `j` is kept if a flag at or above `j` is set |
/// | `sign` | [`choose`] among bits `8j + 7` | |
/// | `keep j` | `keep_j · byte_j` | the bytes kept |
/// | `fill i` | `sign · Σ (1 − keep_j) · 255 · 2^(8j)` | the bytes filled, per limb |
/// | `beyond` | [`merge`] | `a` itself if `k ≥ 32` |
///
/// *Soundness and completeness:* each row defines its value. Rows: 94, the operand's bits and the bits of `k` where they are not
/// known.
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
    let (index, beyond) = index_bits(&mut cs, k, 5)?;
    let flags = one_hot(&mut cs.namespace(|| "flags"), &index)?;
    let bits = a.bits(&mut cs)?;
    let bit = |i: usize| bits.get(i).cloned().unwrap_or_else(Lc::zero);
    let sign = choose(&mut cs.namespace(|| "sign"), &index, (0..32).map(|j| bit(8 * j + 7)).collect())?;
    let mut limbs = [Lc::zero(), Lc::zero()];
    let mut fills = [Lc::zero(), Lc::zero()];
    let mut keep = Lc::one();
    for (j, flag) in flags.iter().enumerate() {
        let (limb, place) = (j / 16, 8 * (j % 16) as u32);
        let (start, to) = (8 * j, bits.len().min(8 * j + 8));
        if start < to {
            let byte = Limb::from_bits(&bits, start..to, a.value());
            let kept = Lc::mul(&mut cs, || format!("keep {j}"), &keep, byte.lc())?;
            limbs[limb] = limbs[limb].plus(&kept.shifted(place));
        }
        let filled = keep.complement().times(from_u256::<F>(&(U256::from(255) << place as usize)));
        fills[limb] = fills[limb].plus(&filled);
        keep = keep.minus(flag);
    }
    let short = meaning(Opcode::Signextend, [k.value().map(|k| k & U256::from(31)), a.value()]);
    let mut parts = Vec::with_capacity(2);
    for (i, (limb, fill)) in limbs.iter().zip(&fills).enumerate() {
        let filled = Lc::mul(&mut cs, || format!("fill {i}"), &sign, fill)?;
        let value = short.map(|short| low_bits(short >> (i * LIMB as usize), LIMB));
        parts.push(Limb::new(limb.plus(&filled), LIMB, value));
    }
    let [low, high] = [parts[0].clone(), parts[1].clone()];
    let extended = Word::from_pair(256, low, high);
    if beyond.is_zero() {
        return Ok(extended);
    }
    let arms = [(beyond.clone(), a.clone()), (beyond.complement(), extended)];
    merge(&mut cs.namespace(|| "beyond"), 256, &arms, Arms::Exhaustive)
}
