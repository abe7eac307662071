//! Keccak-f\[1600\] and Keccak-256 of words and bytes.

use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;
use zvm_ir::eval::STATE_WORDS;

use super::forms::{CHI, XOR3};
use super::lc::Lc;
use super::word::Word;

/// The bits of a state: lane `x + 5y` is the 64 bits from `64 (x + 5y)`, least significant first.
pub type State<F> = Vec<Lc<F>>;

const LANE: usize = 64;
const LANES: usize = 25;
const STATE: usize = LANE * LANES;
const ROUNDS: usize = 24;

/// The bits that one permutation absorbs in Keccak-256.
const RATE: usize = 1088;

/// The rotation of lane `x + 5y`.
const ROTATIONS: [usize; LANES] =
    [0, 1, 62, 28, 27, 36, 44, 6, 55, 20, 3, 10, 43, 25, 39, 41, 45, 15, 21, 8, 18, 2, 61, 56, 14];

/// Round constants, from the linear feedback register of the specification (FIPS 202, 3.2.5).
fn round_constants() -> [u64; ROUNDS] {
    let mut register: u8 = 1;
    let mut constants = [0; ROUNDS];
    for constant in &mut constants {
        for j in 0..7 {
            if register & 1 == 1 {
                *constant |= 1 << ((1u32 << j) - 1);
            }
            register = if register & 0x80 != 0 { (register << 1) ^ 0x71 } else { register << 1 };
        }
    }
    constants
}

/// The permutation Keccak-f\[1600\] of boolean `state`.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `parity a x.z`, `parity b x.z` | [`XOR3`] | the parity of a column of five, in two rows |
/// | `theta x.y.z` | [`XOR3`] | a bit and the parities of two columns |
/// | `chi x.y.z` | [`CHI`] | `a ⊕ (¬b ∧ c)` |
///
/// Rotations, lane moves and round constants are free. *Soundness and completeness:* those of the forms; the state's bits are
/// boolean. Rows: 92,160 = 24 · (640 + 1600 + 1600), fewer where bits of the state are constant.
///
/// # Errors
/// `Unsatisfiable` if the state does not have 1600 bits; `AssignmentMissing` when the constraint system wants a value that is
/// not known.
pub fn keccak_f<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    state: &[Lc<F>],
) -> Result<State<F>, SynthesisError> {
    if state.len() != STATE {
        return Err(SynthesisError::Unsatisfiable);
    }
    let mut cs = cs.namespace(|| "keccak-f");
    let mut state = state.to_vec();
    for (index, constant) in round_constants().into_iter().enumerate() {
        state = round(&mut cs.namespace(|| format!("round {index}")), &state, constant)?;
    }
    Ok(state)
}

/// [`keccak_f`] of a state of 200 bytes in seven words, big-endian and zeros behind them: the meaning of `keccak_f`, all seven words of it.
///
/// Rows: those of [`keccak_f`], and the words' bits where they are not known. What stands behind the 200 bytes does not count.
///
/// # Errors
/// `Unsatisfiable` if the words are not seven; `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn keccak_f_words<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    words: &[Word<F>],
) -> Result<Vec<Word<F>>, SynthesisError> {
    if words.len() != STATE_WORDS {
        return Err(SynthesisError::Unsatisfiable);
    }
    let mut cs = cs.namespace(|| "keccak_f");
    let mut bits = message_of_words(&mut cs, words, 32)?;
    bits.truncate(STATE);
    let mut state = keccak_f(&mut cs, &bits)?;
    state.resize_with(256 * STATE_WORDS, Lc::zero);
    Ok(state.chunks(256).map(word_of_bytes).collect())
}

/// The word whose first byte, the most significant, is made of the first eight bits, least significant first.
fn word_of_bytes<F: PrimeField>(bits: &[Lc<F>]) -> Word<F> {
    let bits: Rc<[Lc<F>]> = bits.chunks(8).rev().flat_map(<[_]>::to_vec).collect();
    Word::from_bits(256, &bits, bits_value(&bits))
}

fn round<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    state: &[Lc<F>],
    constant: u64,
) -> Result<State<F>, SynthesisError> {
    let at = |x: usize, y: usize, z: usize| LANE * (x % 5 + 5 * (y % 5)) + z % LANE;
    let mut parity = Vec::with_capacity(5 * LANE);
    for x in 0..5 {
        for z in 0..LANE {
            let bit = |y: usize| &state[at(x, y, z)];
            let first = XOR3.apply(cs, || format!("parity a {x}.{z}"), [bit(0), bit(1), bit(2)])?;
            parity.push(XOR3.apply(cs, || format!("parity b {x}.{z}"), [&first, bit(3), bit(4)])?);
        }
    }
    // Theta, then rho and pi: each bit goes where the next step reads it.
    let mut moved = vec![Lc::zero(); STATE];
    for y in 0..5 {
        for x in 0..5 {
            for z in 0..LANE {
                let left = &parity[LANE * ((x + 4) % 5) + z];
                let right = &parity[LANE * ((x + 1) % 5) + (z + LANE - 1) % LANE];
                let bit = XOR3.apply(cs, || format!("theta {x}.{y}.{z}"), [&state[at(x, y, z)], left, right])?;
                moved[at(y, 2 * x + 3 * y, z + ROTATIONS[x + 5 * y])] = bit;
            }
        }
    }
    let mut next = Vec::with_capacity(STATE);
    for y in 0..5 {
        for x in 0..5 {
            for z in 0..LANE {
                let inputs = [0, 1, 2].map(|i| &moved[at(x + i, y, z)]);
                let bit = CHI.apply(cs, || format!("chi {x}.{y}.{z}"), inputs)?;
                let flipped = x + y == 0 && constant >> z & 1 == 1;
                next.push(if flipped { bit.complement() } else { bit });
            }
        }
    }
    Ok(next)
}

/// Keccak-256 (the EVM's `KECCAK256`) of a message given by its bits: byte after byte, least significant bit first.
///
/// Rows: those of [`keccak_f`] per block of 136 bytes, and one per bit that a later block adds to the state.
///
/// # Errors
/// `Unsatisfiable` if the bits are not whole bytes; `AssignmentMissing` when the constraint system wants a value that is not
/// known.
pub fn keccak256_bits<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    message: &[Lc<F>],
) -> Result<Word<F>, SynthesisError> {
    if !message.len().is_multiple_of(8) {
        return Err(SynthesisError::Unsatisfiable);
    }
    let mut padded = message.to_vec();
    padded.push(Lc::one());
    padded.resize_with(padded.len().next_multiple_of(RATE), Lc::zero);
    if let Some(last) = padded.last_mut() {
        *last = last.plus(&Lc::one());
    }
    let zero = Lc::zero();
    let mut state = vec![Lc::zero(); STATE];
    for (index, block) in padded.chunks(RATE).enumerate() {
        let mut cs = cs.namespace(|| format!("block {index}"));
        for (i, bit) in block.iter().enumerate() {
            state[i] = XOR3.apply(&mut cs, || format!("absorb {i}"), [&state[i], bit, &zero])?;
        }
        state = keccak_f(&mut cs, &state)?;
    }
    Ok(word_of_bytes(&state[..256]))
}

/// The integer that 256 bits make.
fn bits_value<F: PrimeField>(bits: &[Lc<F>]) -> Option<U256> {
    bits.iter().enumerate().try_fold(U256::ZERO, |sum, (i, bit)| {
        Some(if bit.value()? == F::ZERO { sum } else { sum | U256::from(1) << i })
    })
}

/// The bits of words as a message of `bytes` bytes each, in big-endian order. Rows: the words' bits where they are not known.
///
/// # Errors
/// `Unsatisfiable` for a word that may need more bytes; `AssignmentMissing` when the constraint system wants a value that is not known.
pub(super) fn message_of_words<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    words: &[Word<F>],
    bytes: usize,
) -> Result<Vec<Lc<F>>, SynthesisError> {
    if words.iter().any(|word| word.bound() as usize > 8 * bytes) {
        return Err(SynthesisError::Unsatisfiable);
    }
    let mut message = Vec::with_capacity(8 * bytes * words.len());
    for (index, word) in words.iter().enumerate() {
        let bits = word.bits(&mut cs.namespace(|| format!("word {index}")))?;
        let bit = |i: usize| bits.get(i).cloned().unwrap_or_else(Lc::zero);
        message.extend((0..bytes).rev().flat_map(|byte| (0..8).map(move |i| 8 * byte + i)).map(bit));
    }
    Ok(message)
}

/// Keccak-256 of words, 32 bytes each.
///
/// Rows: as [`keccak256_bits`], and the words' bits where they are not known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn keccak_words<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    words: &[Word<F>],
) -> Result<Word<F>, SynthesisError> {
    keccak_first_bytes(cs, words, 32 * words.len())
}

/// Keccak-256 of the first `len` bytes of words: the meaning of `keccak_words`.
///
/// Rows: as [`keccak256_bits`], and the words' bits where they are not known.
///
/// # Errors
/// `Unsatisfiable` if the words are too few; `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn keccak_first_bytes<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    words: &[Word<F>],
    len: usize,
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "keccak_words");
    let message = message_of_words(&mut cs, words, 32)?;
    keccak256_bits(&mut cs, message.get(..8 * len).ok_or(SynthesisError::Unsatisfiable)?)
}

/// Keccak-256 of bytes, words of at most 8 bits.
///
/// # Errors
/// `Unsatisfiable` for a word that may exceed 255; `AssignmentMissing` when the constraint system wants a value that is not
/// known.
pub fn keccak_bytes<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    bytes: &[Word<F>],
) -> Result<Word<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "keccak_bytes");
    let message = message_of_words(&mut cs, bytes, 1)?;
    keccak256_bits(&mut cs, &message)
}
