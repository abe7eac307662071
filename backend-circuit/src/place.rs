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
//! | `keccak256(p ‖ w …)`, the last word in part | as `keccak256(p ‖ w …)`, with `Bytes(number of bytes, 1, key of p)` for the key of `p` |
//! | a hash of words that are no places | `PlaceFirst` of all of them, with `Bytes(number of bytes, 0, origin)` for the key of a place |
//! | a constant of 2^64 or more | `Constant(constant / 2^64, origin) + constant mod 2^64` |
//! | a place and an offset below 2^64 | the key of the place plus the offset |
//!
//! So adding an offset costs no row, a mapping entry 262, and a place is one field element wherever it goes.
//!
//! *Different places have different keys*, by collision resistance of Poseidon and because no two hashes lie within 2^64 of
//! each other. The EVM's own layout rests on the same two assumptions about Keccak, with hashes of 256 bits where these have 254. A
//! key is that of one account, because every chain of hashes begins at its origin.
//!
//! Where the place is among the words is the same for all hashes of as many bytes of a program ([`Scheme`]), so that two hashes of the same
//! bytes are one place. A hash of a number of bytes that is not known has no key. Neither has a number of 2^64 or more that is no
//! constant of the program: on the EVM it could be any of these hashes.

use std::collections::BTreeMap;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::env::address_word;
use zvm_ir::eval::keccak256;
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
    /// None: all of them are data.
    Nowhere,
}

/// What a hash that is a place is of: so many bytes of words, the last of which may count in part, and which word is a place itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layout {
    /// How many bytes are hashed.
    pub len: u32,
    /// The place among the words.
    pub position: Position,
}

impl Layout {
    /// The layout of `count` whole words.
    pub const fn whole(count: usize, position: Position) -> Self {
        Self { len: 32 * count as u32, position }
    }

    /// How many words hold the bytes.
    pub const fn words(self) -> usize {
        self.len.div_ceil(32) as usize
    }

    /// The word that is the place, if there is one, and the others.
    pub fn split<T>(self, words: &[T]) -> (Option<&T>, &[T]) {
        let parts = match self.position {
            Position::Last => words.split_last(),
            Position::First => words.split_first(),
            Position::Nowhere => None,
        };
        parts.map_or((None, words), |(place, others)| (Some(place), others))
    }

    /// The words with `place` where the place is.
    pub fn join<T: Clone>(self, place: T, others: &[T]) -> Vec<T> {
        let mut words = others.to_vec();
        match self.position {
            Position::Last => words.push(place),
            Position::First => words.insert(0, place),
            Position::Nowhere => {}
        }
        words
    }

    /// The Keccak-256 hash of the bytes; words that are missing are zero.
    pub fn hash(self, words: &[U256]) -> U256 {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
        bytes.resize(self.len as usize, 0);
        keccak256(&bytes)
    }

    /// Whether the key begins with the number of bytes: where these are whole words with a place among them, the chain of hashes says how many.
    pub const fn is_tagged(self) -> bool {
        !self.len.is_multiple_of(32) || matches!(self.position, Position::Nowhere)
    }

    /// The hashes of a key.
    pub fn hashes(self) -> usize {
        let others = self.words() - usize::from(self.position != Position::Nowhere).min(self.words());
        others.max(1) + usize::from(self.is_tagged())
    }

    /// What a tagged key begins with, besides the place.
    fn tag<F: PrimeField>(self) -> [F; 2] {
        [F::from(u64::from(self.len)), if self.position == Position::Nowhere { F::ZERO } else { F::ONE }]
    }

    fn domain(self) -> KeyDomain {
        match self.position {
            Position::Last => KeyDomain::PlaceLast,
            Position::First | Position::Nowhere => KeyDomain::PlaceFirst,
        }
    }

    /// The words besides the place in the order in which they are hashed: away from it.
    fn ordered<T>(self, others: &[T]) -> Vec<&T> {
        match self.position {
            Position::Last => others.iter().rev().collect(),
            Position::First | Position::Nowhere => others.iter().collect(),
        }
    }
}

/// Where the place is in the hashes of a program: at the same position in all hashes of as many bytes, so that a hash says what place it is
/// whichever instruction makes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheme(BTreeMap<u32, Position>);

impl Scheme {
    /// That of hashes of `len` bytes: as Solidity has it, if the program does not say.
    pub fn layout(&self, len: u32) -> Layout {
        let usual = match len {
            _ if len.is_multiple_of(32) => Position::Last,
            0..=31 => Position::Nowhere,
            _ => Position::First,
        };
        Layout { len, position: self.0.get(&len).copied().unwrap_or(usual) }
    }

    /// Says where the place is in hashes of as many bytes.
    pub fn insert(&mut self, layout: Layout) {
        self.0.insert(layout.len, layout.position);
    }

    /// What `other` says comes before what was said.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(&other.0);
    }
}

/// The key of the slot 0 of `address`.
pub fn origin<F: PrimeField>(address: &Address) -> F {
    Hasher::shared().key(KeyDomain::Origin, [from_u256(&address_word(address)), F::ZERO, F::ZERO])
}

/// As [`origin`], in the circuit, of an address below 2^160: 256 rows.
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

/// The key of the place that hashing `words` gives, of which the one that `layout` says is a place with the key `place`; where none is,
/// `place` is the account's [`origin`].
pub fn hashed_key<F: PrimeField>(words: &[U256], layout: Layout, place: F) -> F {
    let hasher = Hasher::shared();
    let mut key = place;
    if layout.is_tagged() {
        let [len, kind] = layout.tag();
        key = hasher.key(KeyDomain::Bytes, [len, kind, key]);
    }
    let others = layout.ordered(layout.split(words).1);
    let Some((&last, before)) = others.split_last() else {
        return hasher.key(layout.domain(), [F::ZERO, lone(), key]);
    };
    let limbs = |word: &U256| {
        let limbs = native_limbs::<F>(256, word);
        (limbs[0], limbs[1])
    };
    for word in before {
        let (low, high) = limbs(word);
        key = hasher.key(KeyDomain::Word, [low, high, key]);
    }
    let (low, high) = limbs(last);
    hasher.key(layout.domain(), [low, high, key])
}

/// As [`constant_key`], in the circuit: no rows below 2^64, else 256.
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

/// As [`hashed_key`], in the circuit, of the words besides the place: 262 rows at most for each of [`Layout::hashes`].
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn hashed_key_in_circuit<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    others: &[Word<F>],
    layout: Layout,
    place: &Lc<F>,
) -> Result<Lc<F>, SynthesisError> {
    let hasher = Hasher::shared();
    let mut key = place.clone();
    if layout.is_tagged() {
        let [len, kind] = layout.tag();
        let elements = [Lc::constant(len), Lc::constant(kind), key];
        key = hasher.key_in_circuit(&mut cs.namespace(|| "bytes"), KeyDomain::Bytes, &elements)?;
    }
    let ordered = layout.ordered(others);
    let Some((last, before)) = ordered.split_last() else {
        return hasher.key_in_circuit(cs, layout.domain(), &[Lc::zero(), Lc::constant(lone()), key]);
    };
    for (index, word) in before.iter().enumerate() {
        let mut cs = cs.namespace(|| format!("word {index}"));
        let elements = limbs(&mut cs, word, key)?;
        key = hasher.key_in_circuit(&mut cs, KeyDomain::Word, &elements)?;
    }
    let elements = limbs(cs, last, key)?;
    hasher.key_in_circuit(cs, layout.domain(), &elements)
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
pub struct Preimages(BTreeMap<U256, (Vec<U256>, Layout)>);

impl Preimages {
    /// Remembers that `hash` is that of `words`, in which the place is where `layout` says.
    pub fn insert(&mut self, hash: U256, words: &[U256], layout: Layout) {
        self.0.entry(hash).or_insert_with(|| (words.to_vec(), layout));
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
    pub fn below(&self, slot: &U256) -> Option<(&U256, &[U256], Layout)> {
        let (hash, (words, layout)) = self.0.range(..=*slot).next_back()?;
        (slot - hash <= U256::from(u64::MAX)).then_some((hash, words.as_slice(), *layout))
    }

    /// Moves the place in hashes of which a program says where it is.
    pub fn set_scheme(&mut self, scheme: &Scheme) {
        for (_, layout) in self.0.values_mut() {
            if let Some(&position) = scheme.0.get(&layout.len) {
                layout.position = position;
            }
        }
    }

    /// Remembers what `others` knows.
    pub fn extend(&mut self, others: &Self) {
        for (hash, (words, layout)) in &others.0 {
            self.insert(*hash, words, *layout);
        }
    }

    /// The key of a slot: that of the hash up to 2^64 below it, if one is known, else that of a constant.
    pub fn key<F: PrimeField>(&self, slot: &U256, origin: F) -> F {
        let mut slot = *slot;
        let mut hashes = Vec::new();
        // Nobody finds hashes that lie in one another in a circle, but they could be claimed.
        while slot.bit_len() as u32 > OFFSET_BITS && hashes.len() <= self.0.len() {
            let Some((hash, words, layout)) = self.below(&slot) else { break };
            hashes.push((words, layout, slot - hash));
            slot = layout.split(words).0.copied().unwrap_or_default();
        }
        hashes.into_iter().rev().fold(constant_key(&slot, origin), |place, (words, layout, offset)| {
            hashed_key(words, layout, place) + from_u256::<F>(&offset)
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
        for len in [1, 31, 32, 36, 52, 64, 65, 96] {
            for position in [Position::Last, Position::First, Position::Nowhere] {
                let layout = Layout { len, position };
                // A word that counts in part is no place.
                if (layout.words() == 1 || position == Position::Last) && len % 32 > 0 && position != Position::Nowhere
                {
                    continue;
                }
                let words = &words[..layout.words()];
                let (place, others) = layout.split(words);
                assert_eq!(layout.join(place.copied().unwrap_or_default(), others), words);
                let mut cs = CheckCs::<F>::recording();
                let key = constant_key(&place.copied().unwrap_or_default(), origin);
                let count = others.len();
                let others: Vec<Word<F>> =
                    (0..count).map(|at| word(&mut cs, &format!("word {at}"), others[at])).collect();
                for (at, other) in others.iter().enumerate() {
                    drop(other.pair(&mut cs.namespace(|| format!("limbs {at}"))).unwrap());
                }
                let lc = Lc::alloc(&mut cs, || "place".into(), Some(key)).unwrap();
                let before = cs.rows();
                let got = hashed_key_in_circuit(&mut cs, &others, layout, &lc).unwrap();
                assert_eq!(cs.verdict(), Ok(()));
                assert_eq!(got.value(), Some(hashed_key(words, layout, key)), "{layout:?}");
                // A constant element saves three rows.
                let (rows, hashes) = (cs.rows() - before, layout.hashes());
                assert!((256 * hashes..=262 * hashes).contains(&rows), "{layout:?}: {rows}");
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
            hashed_key(&[p], Layout::whole(1, Position::Last), place),
            hashed_key(&[k, p], Layout::whole(2, Position::Last), place),
            hashed_key(&[p, k], Layout::whole(2, Position::First), place),
            hashed_key(&[U256::ZERO, p], Layout::whole(2, Position::Last), place),
            hashed_key(&[k, k, p], Layout::whole(3, Position::Last), place),
            hashed_key(&[k, p], Layout::whole(2, Position::Last), constant_key(&p, super::origin(&[8; 20]))),
            hashed_key(&[p, k], Layout { len: 36, position: Position::First }, place),
            hashed_key(&[p, k], Layout { len: 37, position: Position::First }, place),
            hashed_key(&[p, k], Layout::whole(2, Position::Nowhere), origin),
            hashed_key(&[k, p], Layout::whole(2, Position::Nowhere), origin),
            hashed_key(&[k], Layout::whole(1, Position::Nowhere), origin),
            hashed_key(&[k], Layout { len: 31, position: Position::Nowhere }, origin),
            hashed_key(&[p, k], Layout { len: 36, position: Position::Nowhere }, origin),
            hashed_key(&[k], Layout::whole(1, Position::Nowhere), super::origin(&[8; 20])),
        ];
        for (at, key) in all.iter().enumerate() {
            assert!(all[..at].iter().all(|other| other != key), "{at}");
        }
    }

    #[test]
    fn slots_are_found_by_their_hashes() {
        let origin = origin::<Fr>(&[7; 20]);
        let pair = Layout::whole(2, Position::Last);
        let keccak = |words: &[U256]| pair.hash(words);
        let mut preimages = Preimages::default();
        let outer = [U256::from(9), U256::from(1)];
        let inner = [U256::from(4), keccak(&outer)];
        preimages.insert(keccak(&outer), &outer, pair);
        preimages.insert(keccak(&inner), &inner, pair);
        let first = hashed_key(&outer, pair, constant_key(&U256::from(1), origin));
        let second = hashed_key(&inner, pair, first);
        assert_eq!(preimages.key(&keccak(&inner), origin), second);
        assert_eq!(preimages.key(&(keccak(&inner) + U256::from(2)), origin), second + Fr::from(2));
        assert_eq!(preimages.key(&U256::from(6), origin), origin + Fr::from(6));
    }
}
