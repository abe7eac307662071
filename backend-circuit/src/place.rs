//! Places in storage: the key of a slot in the state tree.
//!
//! On the EVM the entry `k` of a mapping at slot `p` lies at `keccak256(k ‖ p)`, and the items of a dynamic array from
//! `keccak256(p)` on. What such a hash *means* is a place, and the circuit names it by a field element, its *key*:
//!
//! | slot on the EVM | key |
//! |---|---|
//! | `n` below 2^64 | `origin + n`, where `origin` is the hash of the account |
//! | `keccak256(k ‖ p)`, `keccak256(p)` | `PlaceLast(k, key of p)`, with `k` zero and a tag where there is none |
//! | `keccak256(p ‖ k)` | `PlaceFirst(k, key of p)` |
//! | `keccak256(w … ‖ p)`, more than two words | the words before the last two folded into the key of `p` first |
//! | a constant of 2^64 or more | `Constant(constant / 2^64, origin) + constant mod 2^64` |
//! | a place and an offset below 2^64 | the key of the place plus the offset |
//!
//! So adding an offset costs no row, a mapping entry 264, and a place is one field element wherever it goes.
//!
//! *Different places have different keys*, by collision resistance of Poseidon and because no two hashes lie within 2^64 of
//! each other. The EVM's own layout rests on the same two assumptions about Keccak, with hashes of 256 bits where these have 254. A
//! key is that of one account, because every chain of hashes begins at its origin.
//!
//! A hash that is not of words, or whose words hold no place, has no key. Neither has a number of 2^64 or more that is no
//! constant of the program: on the EVM it could be any of these hashes.

use std::collections::BTreeMap;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::env::address_word;
use zvm_ir::{Address, Word as U256};

use crate::digest::{Hasher, KeyDomain};
use crate::field::from_u256;
use crate::gadgets::{Lc, Word, native_limbs};

/// Offsets and slot numbers are below `2^OFFSET_BITS`.
pub const OFFSET_BITS: u32 = 64;

/// Which word of a hash is a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Position {
    /// The last one, or the only one.
    Last,
    /// The first of several.
    First,
}

impl Position {
    /// The word that is the place, and the others.
    pub fn split(self, words: &[U256]) -> Option<(&U256, &[U256])> {
        match self {
            Self::Last => words.split_last(),
            Self::First => words.split_first(),
        }
    }
}

/// The key of the slot 0 of `address`.
pub fn origin<F: PrimeField>(address: &Address) -> F {
    Hasher::shared().key(KeyDomain::Origin, [from_u256(&address_word(address)), F::ZERO, F::ZERO])
}

/// As [`origin`], in the circuit, of an address below 2^160: 264 rows.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn origin_in_circuit<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    address: &Lc<F>,
) -> Result<Lc<F>, SynthesisError> {
    Hasher::shared().key_in_circuit(cs, KeyDomain::Origin, &[address.clone(), Lc::zero(), Lc::zero()])
}

/// What marks the hash of a lone place, where a mapping has the high limb of its key: no limb is as large.
fn lone<F: PrimeField>() -> F {
    crate::field::two_pow(128)
}

/// The constant's part of the key of a constant slot, which an origin completes: `None` below 2^64.
pub fn constant_key<F: PrimeField>(slot: &U256, origin: F) -> F {
    if slot.bit_len() as u32 <= OFFSET_BITS {
        return origin + from_u256::<F>(slot);
    }
    let high: F = from_u256(&(*slot >> OFFSET_BITS as usize));
    let low: F = from_u256(&(slot & U256::from(u64::MAX)));
    Hasher::shared().key(KeyDomain::Constant, [high, origin, F::ZERO]) + low
}

/// The key of the place that hashing `words` gives, of which the one at `position` is a place with the key `place`.
pub fn hashed_key<F: PrimeField>(words: &[U256], position: Position, place: F) -> F {
    let hasher = Hasher::shared();
    let others: Vec<&U256> = match position {
        Position::Last => words.iter().rev().skip(1).collect(),
        Position::First => words.iter().skip(1).collect(),
    };
    let domain = domain(position);
    let Some((&last, before)) = others.split_last() else {
        return hasher.key(domain, [F::ZERO, lone(), place]);
    };
    let limbs = |word: &U256| {
        let limbs = native_limbs::<F>(256, word);
        (limbs[0], limbs[1])
    };
    let mut key = place;
    for word in before {
        let (low, high) = limbs(word);
        key = hasher.key(KeyDomain::Word, [low, high, key]);
    }
    let (low, high) = limbs(last);
    hasher.key(domain, [low, high, key])
}

fn domain(position: Position) -> KeyDomain {
    match position {
        Position::Last => KeyDomain::PlaceLast,
        Position::First => KeyDomain::PlaceFirst,
    }
}

/// As [`constant_key`], in the circuit: no rows below 2^64, else 264.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn constant_key_in_circuit<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    slot: &U256,
    origin: &Lc<F>,
) -> Result<Lc<F>, SynthesisError> {
    if slot.bit_len() as u32 <= OFFSET_BITS {
        return Ok(origin.plus(&Lc::constant(from_u256(slot))));
    }
    let high = Lc::constant(from_u256(&(*slot >> OFFSET_BITS as usize)));
    let low = Lc::constant(from_u256(&(slot & U256::from(u64::MAX))));
    let elements = [high, origin.clone(), Lc::zero()];
    Ok(Hasher::shared().key_in_circuit(cs, KeyDomain::Constant, &elements)?.plus(&low))
}

/// As [`hashed_key`], in the circuit, of the words besides the place: 264 rows, and as many for each word after the first of them.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn hashed_key_in_circuit<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    others: &[Word<F>],
    position: Position,
    place: &Lc<F>,
) -> Result<Lc<F>, SynthesisError> {
    let hasher = Hasher::shared();
    let domain = domain(position);
    // In the order in which they are folded: away from the place.
    let ordered: Vec<&Word<F>> = match position {
        Position::Last => others.iter().rev().collect(),
        Position::First => others.iter().collect(),
    };
    let Some((last, before)) = ordered.split_last() else {
        return hasher.key_in_circuit(cs, domain, &[Lc::zero(), Lc::constant(lone()), place.clone()]);
    };
    let mut key = place.clone();
    for (index, word) in before.iter().enumerate() {
        let mut cs = cs.namespace(|| format!("word {index}"));
        let elements = limbs(&mut cs, word, key)?;
        key = hasher.key_in_circuit(&mut cs, KeyDomain::Word, &elements)?;
    }
    let elements = limbs(cs, last, key)?;
    hasher.key_in_circuit(cs, domain, &elements)
}

fn limbs<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    word: &Word<F>,
    key: Lc<F>,
) -> Result<[Lc<F>; 3], SynthesisError> {
    let (low, high) = word.zext(256).pair(cs)?;
    Ok([low.lc().clone(), high.lc().clone(), key])
}

/// The places that an execution has hashed: from slots as the EVM numbers them to keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preimages(BTreeMap<U256, (Vec<U256>, Position)>);

impl Preimages {
    /// Remembers that `hash` is that of `words`, of which the one at `position` is a place.
    pub fn insert(&mut self, hash: U256, words: &[U256], position: Position) {
        self.0.entry(hash).or_insert_with(|| (words.to_vec(), position));
    }

    /// Whether the key of a slot is known without asking what a constant means: it is a small number or a known hash.
    pub fn has_key(&self, slot: &U256) -> bool {
        slot.bit_len() as u32 <= OFFSET_BITS || self.is_known(slot)
    }

    /// Whether a slot is a hash that is known, or a little above one.
    pub fn is_known(&self, slot: &U256) -> bool {
        self.below(slot).is_some()
    }

    /// The hash up to 2^64 below a slot, with its words and the position of the place among them.
    pub fn below(&self, slot: &U256) -> Option<(&U256, &[U256], Position)> {
        let (hash, (words, position)) = self.0.range(..=*slot).next_back()?;
        (slot - hash <= U256::from(u64::MAX)).then_some((hash, words.as_slice(), *position))
    }

    /// Moves the place in all hashes of two words.
    pub fn set_pairs(&mut self, position: Position) {
        for (words, at) in self.0.values_mut() {
            if words.len() == 2 {
                *at = position;
            }
        }
    }

    /// Remembers what `others` knows.
    pub fn extend(&mut self, others: &Self) {
        for (hash, (words, position)) in &others.0 {
            self.insert(*hash, words, *position);
        }
    }

    /// The key of a slot: that of the hash up to 2^64 below it, if one is known, else that of a constant.
    pub fn key<F: PrimeField>(&self, slot: &U256, origin: F) -> F {
        let mut slot = *slot;
        let mut hashes = Vec::new();
        // Nobody finds hashes that lie in one another in a circle, but they could be claimed.
        while slot.bit_len() as u32 > OFFSET_BITS && hashes.len() <= self.0.len() {
            let Some((hash, words, position)) = self.below(&slot) else { break };
            hashes.push((words, position, slot - hash));
            slot = position.split(words).map_or(U256::ZERO, |(place, _)| *place);
        }
        hashes.into_iter().rev().fold(constant_key(&slot, origin), |place, (words, position, offset)| {
            hashed_key(words, position, place) + from_u256::<F>(&offset)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cs::CheckCs;
    use crate::nova::Fr;

    fn word<F: PrimeField>(cs: &mut CheckCs<F>, name: &str, value: U256) -> Word<F> {
        Word::alloc_checked(&mut cs.namespace(|| name.to_owned()), 256, Some(value)).unwrap()
    }

    fn agrees<F: PrimeField>() {
        let origin = origin::<F>(&[7; 20]);
        let words = [U256::from(5), U256::MAX - U256::from(3), U256::from(1) << 200];
        for count in 1..=3 {
            for position in [Position::Last, Position::First] {
                let place = if position == Position::Last { count - 1 } else { 0 };
                let mut cs = CheckCs::<F>::recording();
                let key = constant_key(&words[place], origin);
                let others: Vec<Word<F>> = (0..count)
                    .filter(|&at| at != place)
                    .map(|at| word(&mut cs, &format!("word {at}"), words[at]))
                    .collect();
                let lc = Lc::alloc(&mut cs, || "place".into(), Some(key)).unwrap();
                let got = hashed_key_in_circuit(&mut cs, &others, position, &lc).unwrap();
                assert_eq!(cs.verdict(), Ok(()));
                assert_eq!(got.value(), Some(hashed_key(&words[..count], position, key)), "{count} {position:?}");
            }
        }
        for slot in [U256::from(3), U256::from(u64::MAX), U256::MAX, U256::from(1) << 64] {
            let mut cs = CheckCs::<F>::recording();
            let lc = Lc::alloc(&mut cs, || "origin".into(), Some(origin)).unwrap();
            let got = constant_key_in_circuit(&mut cs, &slot, &lc).unwrap();
            assert_eq!(got.value(), Some(constant_key(&slot, origin)), "{slot}");
        }
    }

    #[test]
    fn keys_in_the_circuit_are_keys_natively() {
        agrees::<Fr>();
        agrees::<blstrs::Scalar>();
    }

    #[test]
    fn different_places_have_different_keys() {
        let origin = origin::<Fr>(&[7; 20]);
        let (k, p) = (U256::from(5), U256::from(2));
        let place = constant_key(&p, origin);
        let all = [
            place,
            constant_key(&(U256::from(1) << 64), origin),
            hashed_key(&[p], Position::Last, place),
            hashed_key(&[k, p], Position::Last, place),
            hashed_key(&[p, k], Position::First, place),
            hashed_key(&[U256::ZERO, p], Position::Last, place),
            hashed_key(&[k, k, p], Position::Last, place),
            hashed_key(&[k, p], Position::Last, constant_key(&p, super::origin(&[8; 20]))),
        ];
        for (at, key) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other != key), "{at}");
        }
    }

    #[test]
    fn slots_are_found_by_their_hashes() {
        let origin = origin::<Fr>(&[7; 20]);
        let keccak = |words: &[U256]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
            zvm_ir::eval::keccak256(&bytes)
        };
        let mut preimages = Preimages::default();
        let outer = [U256::from(9), U256::from(1)];
        let inner = [U256::from(4), keccak(&outer)];
        preimages.insert(keccak(&outer), &outer, Position::Last);
        preimages.insert(keccak(&inner), &inner, Position::Last);
        let first = hashed_key(&outer, Position::Last, constant_key(&U256::from(1), origin));
        let second = hashed_key(&inner, Position::Last, first);
        assert_eq!(preimages.key(&keccak(&inner), origin), second);
        assert_eq!(preimages.key(&(keccak(&inner) + U256::from(2)), origin), second + Fr::from(2));
        assert_eq!(preimages.key(&U256::from(6), origin), origin + Fr::from(6));
    }
}
