//! SHA-256 of words and bytes.

use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use super::forms::{CHOOSE, MAJORITY, XOR3};
use super::keccak::message_of_words;
use super::lc::Lc;
use super::limb::{Limb, divide_pow2};
use super::word::Word;

/// 32 bits, least significant first, and the number they make.
#[derive(Clone, Debug)]
pub struct Bits32<F: PrimeField> {
    bits: Rc<[Lc<F>]>,
    number: Limb<F>,
}

/// The first 32 bits of the fraction of the `root`-th root of the first primes: the constants of FIPS 180-4.
fn fractions<const N: usize>(root: usize) -> [u32; N] {
    let mut constants = [0; N];
    let primes = (2u64..).filter(|n| (2..*n).take_while(|d| d * d <= *n).all(|d| n % d != 0));
    for (constant, prime) in constants.iter_mut().zip(primes) {
        // The largest x with x^root ≤ prime · 2^(32 root), of which the low 32 bits are the fraction.
        let target = U256::from(prime) << (32 * root);
        let mut x = U256::ZERO;
        for bit in (0..40).rev() {
            let tried: U256 = x | U256::from(1) << bit;
            if tried.pow(U256::from(root)) <= target {
                x = tried;
            }
        }
        *constant = x.wrapping_to::<u32>();
    }
    constants
}

/// The initial state.
pub fn initial_state<F: PrimeField>() -> [Bits32<F>; 8] {
    fractions::<8>(2).map(Bits32::constant)
}

impl<F: PrimeField> Bits32<F> {
    /// A constant.
    pub fn constant(value: u32) -> Self {
        let bit = |i: usize| if value >> i & 1 == 1 { Lc::one() } else { Lc::zero() };
        Self { bits: (0..32).map(bit).collect(), number: Limb::constant(U256::from(value)) }
    }

    fn from_bits(bits: Rc<[Lc<F>]>) -> Self {
        let value = bits
            .iter()
            .enumerate()
            .try_fold(0u64, |sum, (i, bit)| Some(if bit.value()? == F::ZERO { sum } else { sum | 1 << i }));
        let number = Limb::from_bits(&bits, 0..32, value.map(U256::from));
        Self { bits, number }
    }

    /// The bit `count` places above bit `i`, around.
    fn rotated(&self, i: usize, count: usize) -> &Lc<F> {
        &self.bits[(i + count) % 32]
    }

    /// The sum modulo 2^32: 32 rows and those of the carry.
    fn sum<CS: ConstraintSystem<F>>(cs: &mut CS, terms: &[&Self]) -> Result<Self, SynthesisError> {
        let carry = (usize::BITS - (terms.len().max(2) - 1).leading_zeros()).max(1);
        let lc = Lc::sum(terms.iter().map(|term| (F::ONE, term.number.lc())));
        let value = terms.iter().try_fold(U256::ZERO, |sum, term| Some(sum + term.number.value()?));
        if lc.as_constant().is_some() {
            return Ok(Self::constant(value.unwrap_or_default().wrapping_to::<u32>()));
        }
        let (low, _) = divide_pow2(cs, &lc, value, 32, carry)?;
        Ok(Self { bits: low.bits(cs)?, number: low })
    }
}

/// Bitwise, the function of three places of 32 bits.
fn bitwise<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    form: super::forms::Form,
    inputs: impl Fn(usize) -> [Lc<F>; 3],
) -> Result<Bits32<F>, SynthesisError> {
    let mut bits = Vec::with_capacity(32);
    for i in 0..32 {
        let [x, y, z] = inputs(i);
        bits.push(form.apply(cs, || format!("bit {i}"), [&x, &y, &z])?);
    }
    Ok(Bits32::from_bits(bits.into()))
}

/// `x ⋙ a ⊕ x ⋙ b ⊕ x ⋙ c`, or with a plain shift in place of the last rotation.
fn mix<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    x: &Bits32<F>,
    [a, b, c]: [usize; 3],
    shift: bool,
) -> Result<Bits32<F>, SynthesisError> {
    bitwise(cs, XOR3, |i| {
        let last = if shift && i + c >= 32 { Lc::zero() } else { x.rotated(i, c).clone() };
        [x.rotated(i, a).clone(), x.rotated(i, b).clone(), last]
    })
}

/// The compression function on a block of 16 numbers.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `s0`, `s1`, `S0`, `S1` | [`XOR3`] per bit | the mixing functions |
/// | `choose`, `majority` | [`CHOOSE`], [`MAJORITY`] per bit | |
/// | `w`, `e`, `a`, `out` | sums split by [`divide_pow2`] | modulo 2^32, the carry dropped |
///
/// *Soundness and completeness:* those of the forms; a sum of `n` numbers is split into 32 bits and a carry below the least power
/// of two that is at least `n`. Rows: 17,640 at most, fewer for the initial state, which is constant.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn compress<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    state: &[Bits32<F>; 8],
    block: &[Bits32<F>; 16],
) -> Result<[Bits32<F>; 8], SynthesisError> {
    let mut schedule = block.to_vec();
    for t in 16..64 {
        let mut cs = cs.namespace(|| format!("schedule {t}"));
        let s0 = mix(&mut cs.namespace(|| "s0"), &schedule[t - 15], [7, 18, 3], true)?;
        let s1 = mix(&mut cs.namespace(|| "s1"), &schedule[t - 2], [17, 19, 10], true)?;
        let sum = [&schedule[t - 16], &s0, &schedule[t - 7], &s1];
        schedule.push(Bits32::sum(&mut cs.namespace(|| "w"), &sum)?);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state.clone();
    for (t, (constant, word)) in fractions::<64>(3).into_iter().zip(&schedule).enumerate() {
        let mut cs = cs.namespace(|| format!("round {t}"));
        let constant = Bits32::constant(constant);
        let upper_1 = mix(&mut cs.namespace(|| "S1"), &e, [6, 11, 25], false)?;
        let at = |x: &Bits32<F>, i: usize| x.bits[i].clone();
        let chosen = bitwise(&mut cs.namespace(|| "choose"), CHOOSE, |i| [at(&e, i), at(&f, i), at(&g, i)])?;
        let upper_0 = mix(&mut cs.namespace(|| "S0"), &a, [2, 13, 22], false)?;
        let majority = bitwise(&mut cs.namespace(|| "majority"), MAJORITY, |i| [at(&a, i), at(&b, i), at(&c, i)])?;
        let first = [&h, &upper_1, &chosen, &constant, word];
        let new_e = Bits32::sum(&mut cs.namespace(|| "e"), &[&first[..], &[&d]].concat())?;
        let new_a = Bits32::sum(&mut cs.namespace(|| "a"), &[&first[..], &[&upper_0, &majority]].concat())?;
        (h, g, f, e, d, c, b, a) = (g, f, e, new_e, c, b, a, new_a);
    }
    let mut out = Vec::with_capacity(8);
    for (i, (old, new)) in state.iter().zip([a, b, c, d, e, f, g, h]).enumerate() {
        out.push(Bits32::sum(&mut cs.namespace(|| format!("out {i}")), &[old, &new])?);
    }
    out.try_into().map_err(|_| SynthesisError::Unsatisfiable)
}

/// SHA-256 of a message given by its bits: byte after byte, least significant bit first.
///
/// Rows: those of [`compress`] per block of 64 bytes, of which the padding is a part.
///
/// # Errors
/// `Unsatisfiable` if the bits are not whole bytes; `AssignmentMissing` when the constraint system wants a value that is not
/// known.
fn sha256_bits<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    message: &[Lc<F>],
) -> Result<Word<F>, SynthesisError> {
    if !message.len().is_multiple_of(8) {
        return Err(SynthesisError::Unsatisfiable);
    }
    let mut padded = message.to_vec();
    let constant_byte = |byte: u8| (0..8).map(move |i| if byte >> i & 1 == 1 { Lc::one() } else { Lc::zero() });
    padded.extend(constant_byte(0x80));
    padded.resize_with((padded.len() + 64).next_multiple_of(512) - 64, Lc::zero);
    padded.extend((message.len() as u64).to_be_bytes().into_iter().flat_map(constant_byte));
    let mut state = initial_state();
    for (index, block) in padded.chunks(512).enumerate() {
        // Numbers are big-endian: the first of four bytes is the most significant.
        let numbers: Vec<Bits32<F>> = block
            .chunks(32)
            .map(|bits| {
                Bits32::from_bits((0..4).rev().flat_map(|byte| bits[8 * byte..8 * byte + 8].to_vec()).collect())
            })
            .collect();
        let numbers = numbers.try_into().map_err(|_| SynthesisError::Unsatisfiable)?;
        state = compress(&mut cs.namespace(|| format!("block {index}")), &state, &numbers)?;
    }
    let bits: Rc<[Lc<F>]> = state.iter().rev().flat_map(|number| number.bits.to_vec()).collect();
    let value = state.iter().try_fold(U256::ZERO, |sum, number| Some((sum << 32) | number.number.value()?));
    Ok(Word::from_bits(256, &bits, value))
}

/// SHA-256 of words, 32 bytes each in big-endian order.
///
/// Rows: those of [`compress`] per block, and the words' bits where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn sha256_words<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    words: &[Word<F>],
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "sha256");
    let message = message_of_words(&mut cs, words, 32)?;
    sha256_bits(&mut cs, &message)
}

/// SHA-256 of bytes, words of at most 8 bits.
///
/// # Errors
/// `Unsatisfiable` for a word that may exceed 255; `AssignmentMissing` when the constraint system wants a value that is not
/// known.
pub fn sha256_bytes<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    bytes: &[Word<F>],
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "sha256");
    let message = message_of_words(&mut cs, bytes, 1)?;
    sha256_bits(&mut cs, &message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_those_of_the_standard() {
        assert_eq!(fractions::<8>(2)[0], 0x6a09_e667);
        assert_eq!(fractions::<8>(2)[7], 0x5be0_cd19);
        assert_eq!(fractions::<64>(3)[0], 0x428a_2f98);
        assert_eq!(fractions::<64>(3)[63], 0xc671_78f2);
    }
}
