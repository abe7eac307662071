//! A statement as one public input: the low [`BITS`] bits of SHA-256 of its elements.
//!
//! A contract pays about 9,300 gas for each further public input of a Groth16 proof (one point more to multiply), and 200 for the
//! hash of them all, so there is one. The hash is SHA-256 and not Poseidon because a contract has to compute it, and not Keccak-256
//! because the circuit does: two or three blocks of 17,640 rows against 91,000 ([`crate::gadgets::sha256`],
//! [`crate::gadgets::keccak`]).
//!
//! The message is the elements of [`Elements::list`], 32 bytes each, big-endian. The roots come first: where the program fixes them they
//! fill the first block, whose state is then a constant of the circuit and costs no row.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `bit i` | `b · (b − 1) = 0` | 255 bits of each element |
//! | `equals` | `Σ 2^i · b_i = element` | the element that the slots see is the one that is hashed |
//! | `sha256` | [`crate::gadgets::sha256`] | the hash of all bits |
//!
//! *Soundness:* an element may have two decompositions into 255 bits, below the modulus and above. The verifier hashes integers below the
//! modulus, so by collision resistance of the truncated hash the bits in the circuit are those of that integer. A verifier must
//! therefore refuse elements that are not below the modulus, or there are two ways to write one statement; they are never two
//! statements. *Completeness:* every element of a field of at most 255 bits has such a decomposition.

use std::rc::Rc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use sha2::{Digest, Sha256};
use zvm_ir::Word as U256;

use crate::field::{CAPACITY, from_u256, to_u256};
use crate::gadgets::{Lc, Word, enforce_boolean, sha256};
use crate::statement::Elements;

/// The bits of the hash that a public input holds: as many as every field has room for.
pub const BITS: u32 = CAPACITY;
/// The bits of an element, over every field.
const ELEMENT_BITS: usize = 255;

/// What is hashed.
pub fn message<F: PrimeField>(elements: &Elements<F>) -> Vec<u8> {
    elements.list().into_iter().flat_map(|(_, element)| to_u256(element).to_be_bytes::<32>()).collect()
}

/// The public input of a message.
pub fn of_message<F: PrimeField>(message: &[u8]) -> F {
    let hash = U256::from_be_bytes::<32>(Sha256::digest(message).into());
    from_u256(&(hash & (U256::MAX >> (256 - BITS as usize))))
}

/// The public input of a statement's elements.
pub fn of<F: PrimeField>(elements: &Elements<F>) -> F {
    of_message(&message(elements))
}

/// The elements and the public input as a circuit has them.
#[derive(Clone, Debug)]
pub struct Opened<F: PrimeField> {
    /// The elements; those that are fixed are constants.
    pub elements: Elements<Lc<F>>,
    /// The public input.
    pub input: Lc<F>,
}

/// Allocates the elements that are not `fixed`, with the `values` of a witness, and hashes all.
///
/// Rows: 256 per element, and those of SHA-256.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn open<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    fixed: Elements<Option<F>>,
    values: Option<&Elements<F>>,
) -> Result<Opened<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "public input");
    let mut values =
        values.map(|values| values.list().into_iter().map(|(_, value)| *value).collect::<Vec<F>>().into_iter());
    let mut words = Vec::new();
    let elements = fixed.try_map(|name, fixed| {
        let value = values.as_mut().and_then(Iterator::next);
        let (word, element) = match fixed {
            Some(fixed) => (Word::constant(256, to_u256(&fixed)), Lc::constant(fixed)),
            None => element(&mut cs.namespace(|| name), value)?,
        };
        words.push(word);
        Ok::<_, SynthesisError>(element)
    })?;
    let hash = sha256::sha256_words(&mut cs, &words)?;
    let value = hash.value().map(|hash| from_u256(&(hash & (U256::MAX >> (256 - BITS as usize)))));
    let bits = hash.bits(&mut cs)?;
    let input = Lc::pack(&bits, 0..BITS as usize, value);
    Ok(Opened { elements, input })
}

/// An element from its bits.
fn element<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    value: Option<F>,
) -> Result<(Word<F>, Lc<F>), SynthesisError> {
    let integer = value.as_ref().map(to_u256);
    let mut bits = Vec::with_capacity(256);
    for i in 0..ELEMENT_BITS {
        let bit = integer.map(|integer| F::from(u64::from(integer.bit(i))));
        let bit = Lc::alloc(cs, || format!("bit {i}"), bit)?;
        enforce_boolean(cs, || format!("bit {i}"), &bit);
        bits.push(bit);
    }
    bits.push(Lc::zero());
    let bits: Rc<[Lc<F>]> = bits.into();
    let element = Lc::pack(&bits, 0..ELEMENT_BITS, value).to_num(cs)?;
    Ok((Word::from_bits(256, &bits, integer), Lc::from_num(&element)))
}
