//! Exponentiation modulo 2^256.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Opcode, Word as U256};

use super::arith::wmul;
use super::columns::{Digits, multiply_mod_2_256};
use super::compare::iszero;
use super::lc::Lc;
use super::limb::{LIMB, Limb, low_bits};
use super::meaning;
use super::select::{gate, select};
use super::shift::shl;
use super::word::Word;

/// `a^b` modulo 2^256, with 0^0 = 1.
///
/// - Constant exponent: squarings and multiplications by its bits ([`wmul`], which uses what is known of widths).
/// - Base 2: a shift of one. Other constant base `c`: `Π (b_i ? c^(2^i) : 1)`, with constant factors whose words are linear in
///   the bits; factors that are zero modulo 2^256 (even bases) become one test.
/// - General: square and multiply from the top bit. The accumulator is multiplied by `b_i ? a : 1`, whose digits are gated one
///   by one (16 rows), so that no bits are lost to a selection.
///
/// *Soundness and completeness:* those of the products; exponent bits are decomposed. Rows per exponent bit: 656 in general, at
/// most 320 for a constant base; and the exponent's bits where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn exp<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "exp");
    if let Some(exponent) = b.as_constant() {
        return constant_exponent(&mut cs, a, exponent);
    }
    match a.as_constant() {
        Some(base) if base.is_zero() => Ok(iszero(&mut cs, b)?.zext(256)),
        Some(base) if base == U256::from(1) => Ok(Word::constant(256, base)),
        Some(base) if base == U256::from(2) => shl(&mut cs, b, &Word::constant(1, U256::from(1))),
        Some(base) => constant_base(&mut cs, base, b),
        None => general(&mut cs, a, b),
    }
}

fn constant_exponent<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    exponent: U256,
) -> Result<Word<F>, SynthesisError> {
    let Some(top) = exponent.bit_len().checked_sub(1) else {
        return Ok(Word::constant(256, U256::from(1)));
    };
    let mut power = a.clone();
    for i in (0..top).rev() {
        power = wmul(&mut cs.namespace(|| format!("square {i}")), &power, &power)?;
        if exponent.bit(i) {
            power = wmul(&mut cs.namespace(|| format!("multiply {i}")), &power, a)?;
        }
    }
    Ok(power.zext(256))
}

fn constant_base<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    base: U256,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let bits = b.bits(&mut cs.namespace(|| "exponent"))?;
    let one = Word::constant(256, U256::from(1));
    let mut power = one.clone();
    let mut factor = base;
    let mut vanishing = Lc::zero();
    for (i, bit) in bits.iter().enumerate() {
        if factor.is_zero() {
            vanishing = vanishing.plus(bit);
        } else if factor != U256::from(1) {
            let mut cs = cs.namespace(|| format!("bit {i}"));
            let chosen = select(&mut cs, bit, &Word::constant(256, factor), &one)?;
            power = wmul(&mut cs, &power, &chosen)?;
        }
        factor = factor.wrapping_mul(factor);
    }
    if vanishing.is_zero() {
        return Ok(power.zext(256));
    }
    let kept = super::compare::is_zero_element(&mut cs.namespace(|| "vanishing"), &vanishing)?;
    gate(cs, &kept, &power.zext(256))
}

fn general<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let bits = b.bits(&mut cs.namespace(|| "exponent"))?;
    let base = Digits::of(&mut cs.namespace(|| "base"), a, 16)?;
    let Some((top, rest)) = bits.split_last() else {
        return Ok(Word::constant(256, U256::from(1)));
    };
    // The integer that the exponent's bits above `i` make.
    let above = |i: usize| b.value().map(|b| if i > 255 { U256::ZERO } else { b >> i });
    let power_at = |exponent: Option<U256>| meaning(Opcode::Exp, [a.value(), exponent]);
    let mut power = base.gate(&mut cs.namespace(|| "first"), top, true)?;
    let mut word = None;
    for (i, bit) in rest.iter().enumerate().rev() {
        let mut cs = cs.namespace(|| format!("bit {i}"));
        let doubled = above(i + 1).map(|exponent| exponent << 1);
        let squared = multiply_mod_2_256(&mut cs.namespace(|| "square"), &power, &power, power_at(doubled))?;
        let squared = Digits::of(&mut cs, &squared, 16)?;
        let factor = base.gate(&mut cs.namespace(|| "factor"), bit, true)?;
        let product = multiply_mod_2_256(&mut cs.namespace(|| "multiply"), &squared, &factor, power_at(above(i)))?;
        power = Digits::of(&mut cs, &product, 16)?;
        word = Some(product);
    }
    match word {
        Some(word) => Ok(word),
        // An exponent of one bit.
        None => {
            let value = power_at(b.value());
            let (low, high) = power.limbs();
            let low = Limb::new(low, LIMB, value.map(|value| low_bits(value, LIMB)));
            Ok(Word::from_pair(256, low, Limb::new(high, LIMB, value.map(|value| value >> LIMB as usize))))
        }
    }
}
