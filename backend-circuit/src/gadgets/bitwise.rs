//! Bitwise instructions, counting zeros, and choices by the bits of an index.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Opcode, Word as U256};

use super::compare::{is_zero_element, xor_bits};
use super::lc::Lc;
use super::limb::{Limb, decompose};
use super::meaning;
use super::word::Word;
use crate::field::to_u256;

/// `a AND b`.
///
/// Bit by bit, `a_i · b_i = r_i`; bits of a constant cost nothing, so a constant mask is free on bits.
/// *Soundness and completeness:* a product of booleans. Rows: one per bit of the narrower operand, and the operands'
/// bits where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn and<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "and");
    let width = a.width().min(b.width());
    let bound = a.bound().min(b.bound());
    let all_ones =
        |word: &Word<F>| word.as_constant() == Some(U256::MAX.checked_shr(256 - bound as usize).unwrap_or_default());
    if bound > 0 && (all_ones(a) || all_ones(b)) {
        let other = if all_ones(a) { b } else { a };
        return Ok(other.trunc(&mut cs, bound)?.zext(width));
    }
    let a = a.trunc(&mut cs.namespace(|| "a"), bound)?;
    let b = b.trunc(&mut cs.namespace(|| "b"), bound)?;
    let value = meaning(Opcode::And, [a.value(), b.value()]);
    let a = a.bits(&mut cs.namespace(|| "a bits"))?;
    let b = b.bits(&mut cs.namespace(|| "b bits"))?;
    let mut bits = Vec::with_capacity(bound as usize);
    for (i, (a, b)) in a.iter().zip(b.iter()).enumerate() {
        bits.push(Lc::mul(&mut cs, || format!("bit {i}"), a, b)?);
    }
    Ok(Word::from_bits(width, &bits.into(), value))
}

/// `a OR b`: `a_i + b_i − a_i b_i`. Rows as [`and`]; bits beyond the narrower operand are copied.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn or<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "or");
    let value = meaning(Opcode::Or, [a.value(), b.value()]);
    zip_bits(&mut cs, a, b, value, |cs, i, a, b| {
        let both = Lc::mul(cs, || format!("bit {i}"), a, b)?;
        Ok(Lc::sum([(F::ONE, a), (F::ONE, b), (-F::ONE, &both)]))
    })
}

/// `a XOR b`: `a_i + b_i − 2 a_i b_i`. Rows as [`and`]; bits beyond the narrower operand are copied.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn xor<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "xor");
    let value = meaning(Opcode::Xor, [a.value(), b.value()]);
    zip_bits(&mut cs, a, b, value, |cs, i, a, b| xor_bits(cs, || format!("bit {i}"), a, b))
}

fn zip_bits<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    a: &Word<F>,
    b: &Word<F>,
    value: Option<U256>,
    combine: impl Fn(&mut CS, usize, &Lc<F>, &Lc<F>) -> Result<Lc<F>, SynthesisError>,
) -> Result<Word<F>, SynthesisError> {
    let width = a.width().max(b.width());
    if a.bound() == 0 {
        return Ok(b.zext(width));
    }
    if b.bound() == 0 {
        return Ok(a.zext(width));
    }
    let a = a.bits(&mut cs.namespace(|| "a"))?;
    let b = b.bits(&mut cs.namespace(|| "b"))?;
    let mut bits = Vec::with_capacity(a.len().max(b.len()));
    for i in 0..a.len().max(b.len()) {
        bits.push(match (a.get(i), b.get(i)) {
            (Some(a), Some(b)) => combine(cs, i, a, b)?,
            (Some(bit), None) | (None, Some(bit)) => bit.clone(),
            (None, None) => Lc::zero(),
        });
    }
    Ok(Word::from_bits(width, &bits.into(), value))
}

/// The number of leading zeros of the 256-bit word, type `u9`.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `zeros j` | [`is_zero_element`] of the sum of digits `j` and above | `Z_j`: all 16-bit digits from `j` up are zero |
/// | `pick j` | `(Z_{j+1} − Z_j) · d_j` | sums to the first digit that is not zero, `D` |
/// | `digit` | [`decompose`] | the bits of `D` |
/// | `prefix i` | `p_i = p_{i+1} OR D_i` | whether a bit at or above `i` is set |
///
/// The result is `256 − 16n + 16 Σ Z_j + 16 (1 − Z_0) − Σ p_i` for `n` digits. *Soundness and completeness:* each row
/// defines its value. Rows: 3 per 16 bits, 31, and the operand's bits where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn clz<F: PrimeField, CS: ConstraintSystem<F>>(cs: &mut CS, a: &Word<F>) -> Result<Word<F>, SynthesisError> {
    const DIGIT: usize = 16;
    let mut cs = cs.namespace(|| "clz");
    let value = meaning(Opcode::Clz, [a.value()]);
    let bits = a.bits(&mut cs)?;
    let digits: Vec<Limb<F>> = (0..bits.len())
        .step_by(DIGIT)
        .map(|start| Limb::from_bits(&bits, start..bits.len().min(start + DIGIT), a.value()))
        .collect();
    let mut count = Lc::constant(F::from(256 - (DIGIT * digits.len()) as u64));
    let sixteen = F::from(DIGIT as u64);
    let mut above = Lc::zero();
    let mut zeros_above = Lc::one();
    let mut picked = Lc::zero();
    for (j, digit) in digits.iter().enumerate().rev() {
        above = above.plus(digit.lc());
        let zeros = is_zero_element(&mut cs.namespace(|| format!("zeros {j}")), &above)?;
        let first = zeros_above.minus(&zeros);
        picked = picked.plus(&Lc::mul(&mut cs, || format!("pick {j}"), &first, digit.lc())?);
        count = Lc::sum([(F::ONE, &count), (sixteen, &zeros)]);
        zeros_above = zeros;
    }
    count = Lc::sum([(F::ONE, &count), (sixteen, &zeros_above.complement())]);
    let picked_value = picked.value().map(|value| to_u256(&value));
    let picked_bits = match picked.as_constant() {
        Some(constant) => Limb::<F>::constant(to_u256(&constant)).bits(&mut cs)?,
        None => decompose(&mut cs.namespace(|| "digit"), &picked, picked_value, DIGIT as u32)?,
    };
    let mut prefix = Lc::zero();
    for (i, bit) in picked_bits.iter().enumerate().rev() {
        let both = Lc::mul(&mut cs, || format!("prefix {i}"), &prefix, bit)?;
        prefix = Lc::sum([(F::ONE, &prefix), (F::ONE, bit), (-F::ONE, &both)]);
        count = count.minus(&prefix);
    }
    Ok(Word::from_limb(9, Limb::new(count, 9, value)))
}

/// The flags `index = 0, 1, …, 2^n − 1` of an index given by its `n` bits.
///
/// The flags of each half of the bits are multiplied, and the last row and column of products follow from the others.
/// *Soundness and completeness:* products of booleans. Rows: `Π (2^h − 1)` at each halving: 1, 4, 11, 26 for 2 to 5 bits.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn one_hot<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    bits: &[Lc<F>],
) -> Result<Vec<Lc<F>>, SynthesisError> {
    match bits {
        [] => Ok(vec![Lc::one()]),
        [bit] => Ok(vec![bit.complement(), bit.clone()]),
        _ => {
            let (low, high) = bits.split_at(bits.len() / 2);
            let low = one_hot(&mut cs.namespace(|| "low"), low)?;
            let high = one_hot(&mut cs.namespace(|| "high"), high)?;
            let mut flags = Vec::with_capacity(low.len() * high.len());
            // The rest of each low flag once the rows of the other high flags are taken from it.
            let mut rest = low.clone();
            for (h, high_flag) in high.iter().enumerate() {
                if h + 1 == high.len() {
                    flags.append(&mut rest);
                    break;
                }
                let mut row_rest = high_flag.clone();
                for (l, low_flag) in low.iter().enumerate() {
                    let flag = if l + 1 == low.len() {
                        row_rest.clone()
                    } else {
                        Lc::mul(cs, || format!("flag {h}.{l}"), low_flag, high_flag)?
                    };
                    row_rest = row_rest.minus(&flag);
                    rest[l] = rest[l].minus(&flag);
                    flags.push(flag);
                }
            }
            Ok(flags)
        }
    }
}

/// `choices[index]` for an index given by its bits, least significant first; there are `2^bits` choices.
///
/// A tree of selections. *Soundness and completeness:* the bits are boolean. Rows: one per pair of different choices at
/// each level, `2^n − 1` at most.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn choose<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    bits: &[Lc<F>],
    choices: Vec<Lc<F>>,
) -> Result<Lc<F>, SynthesisError> {
    let mut level = choices;
    for (depth, bit) in bits.iter().enumerate() {
        let mut next = Vec::with_capacity(level.len() / 2);
        for (index, pair) in level.chunks(2).enumerate() {
            if let [even, odd] = pair {
                next.push(Lc::select(cs, || format!("choose {depth}.{index}"), bit, odd, even)?);
            }
        }
        level = next;
    }
    Ok(level.pop().unwrap_or_else(Lc::zero))
}
