//! Places in storage: what the EVM addresses by a slot number and the circuit by a key.
//!
//! A [`Place`] says how a slot number came about: as a number, or as the Keccak-256 hash of 32-byte words, one of which may be the
//! slot number of such a place itself, plus an offset. [`Place::slot`] is the number, [`Place::key`] a Poseidon hash of the place
//! and its account. Keccak is never computed in a circuit for either.
//!
//! | source | place |
//! |---|---|
//! | variable in slot 5 | `5` |
//! | Solidity's `mapping` in slot 5, entry `k` | `keccak(k, 5)` |
//! | Vyper's `HashMap` in slot 5, entry `k` | `keccak(5, k)` |
//! | item 7 of a dynamic array in slot 5 | `keccak(5)+7` |
//! | second field of entry `k` of a mapping in entry `j` of a mapping | `keccak(k, keccak(j, 5))+1` |
//!
//! # Keys
//! A hashed place of one or two words is one permutation of arity 8, and so is a plain one:
//!
//! | element | plain | one word `p` | two words `k, p` | two words `P, k` | more words |
//! |---|---|---|---|---|---|
//! | 0 | account | account | account | account | account |
//! | 1, 2 | 0, 0 | 0, 0 | limbs of `k` | limbs of `k` | 0, 0 |
//! | 3, 4, 5 | 0, limbs of the slot | parent `p` | parent `p` | parent `P` | digest of the words, their number, 0 |
//! | 6 | 0 | offset | offset | offset | offset |
//! | 7 | 1 | 2 | 3 | 4 | 5 |
//!
//! A *parent* is `0, limbs` for a word that is a number, and `path digest, offset, 0` for a hashed place. The *path digest* of a hashed
//! place is the same permutation with 0 for account and offset and 16 added to element 7: it stands for the place in the accounts
//! of all contracts and at all offsets. Two numbers are always `k, p`; the form `P, k` is for a first word that is a hashed place.
//! More words are hashed three at a time, `[rest so far, six limbs, number of words + 2^32 · (position of the place + 1)]` under a domain
//! of their own, where the place is `path digest, offset` instead of two limbs.
//!
//! # Different keys
//! *Different (account, place) have different keys.* The encoding is injective: element 7 says which column applies and whether it is a
//! path digest; limbs are canonical (below `2^128`), the offset is below `2^64` and the account below `2^160`, so that the elements give
//! the numbers back; a number and a hashed place in the same position differ in element 3, which is a digest, and no digest is known
//! that is zero; and by induction over the depth path digests stand for one place. So equal keys of different places are a collision
//! of Poseidon, or a preimage of zero.
//!
//! *Equal slots have equal keys* only as far as nobody uses the number of a hashed place as a number. `keccak(k, x)` with `x` the slot of
//! `keccak(j, 5)` is, for the EVM, `keccak(k, keccak(j, 5))`, while the two have different keys. Whoever makes places must therefore see
//! to it that no word in a position where hashed places occur can be such a number: a word below `2^64` cannot (nobody finds a hash that is);
//! a constant is one if a compiler, or a pass, has computed the hash of known words, so it must be known not to be (or made a place again);
//! and a word that a caller may choose must not stand where the same program has a hashed place. The same goes for slots that are given by
//! a number: a variable number of any size is no plain place beside hashed ones. Neighbouring offsets of different hashes do not meet, for nobody finds two hashes less than `2^64` apart.

use core::fmt;
use core::str::FromStr;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;
use zvm_ir::outcome::Address;

use super::poseidon::{Domain, Hasher, WIDE};
use crate::field::from_u256;
use crate::gadgets::{Lc, native_limbs};

/// The most words that a place hashes.
pub const MAX_WORDS: usize = 32;
/// The most hashes that lie in one another.
pub const MAX_DEPTH: usize = 32;

/// Where a value is stored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A slot given by its number.
    Plain(U256),
    /// A slot given by a hash.
    Hashed(Hashed),
}

/// A hash of words, and an offset from it. At most one of the words is itself the slot number of a hashed place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hashed {
    /// The words; zero where the inner place stands.
    words: Vec<U256>,
    inner: Option<(usize, Box<Hashed>)>,
    offset: u64,
}

/// A word that is hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A number.
    Word(U256),
    /// The slot number of a place.
    Place(Place),
}

/// Why words or text are no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// Nothing is hashed.
    #[error("a place hashes at least one word")]
    NoWords,
    /// More words than [`MAX_WORDS`].
    #[error("a place hashes at most {MAX_WORDS} words")]
    TooManyWords,
    /// Hashes nested deeper than [`MAX_DEPTH`].
    #[error("places are nested at most {MAX_DEPTH} deep")]
    TooDeep,
    /// Two of the words are hashed places.
    #[error("of the words that a place hashes one may be a hashed place, not two")]
    TwoPlaces,
    /// The offset does not fit.
    #[error("the offset of a place is below 2^64")]
    Offset,
    /// The text is not that of a place.
    #[error("`{text}` is not a place: {expected} at byte {at}")]
    Text {
        /// The text.
        text: String,
        /// What should be there.
        expected: &'static str,
        /// Where.
        at: usize,
    },
}

impl From<Hashed> for Place {
    fn from(hashed: Hashed) -> Self {
        Self::Hashed(hashed)
    }
}

impl Place {
    /// The place at the hash of `parts`.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn hash(parts: Vec<Part>) -> Result<Self, PlaceError> {
        if parts.is_empty() {
            return Err(PlaceError::NoWords);
        }
        if parts.len() > MAX_WORDS {
            return Err(PlaceError::TooManyWords);
        }
        let mut hashed = Hashed { words: Vec::with_capacity(parts.len()), inner: None, offset: 0 };
        for (position, part) in parts.into_iter().enumerate() {
            let word = match part {
                Part::Word(word) | Part::Place(Self::Plain(word)) => word,
                Part::Place(Self::Hashed(_)) if hashed.inner.is_some() => return Err(PlaceError::TwoPlaces),
                Part::Place(Self::Hashed(inner)) => {
                    hashed.inner = Some((position, Box::new(inner)));
                    U256::ZERO
                }
            };
            hashed.words.push(word);
        }
        if hashed.depth() > MAX_DEPTH {
            return Err(PlaceError::TooDeep);
        }
        Ok(Self::Hashed(hashed))
    }

    /// Entry `key` of a mapping of Solidity that lies at `self`.
    ///
    /// # Errors
    /// When hashes are nested too deep.
    pub fn entry(self, key: U256) -> Result<Self, PlaceError> {
        Self::hash(vec![Part::Word(key), Part::Place(self)])
    }

    /// Entry `key` of a mapping of Vyper that lies at `self`.
    ///
    /// # Errors
    /// When hashes are nested too deep.
    pub fn vyper_entry(self, key: U256) -> Result<Self, PlaceError> {
        Self::hash(vec![Part::Place(self), Part::Word(key)])
    }

    /// The first item of a dynamic array that lies at `self`.
    ///
    /// # Errors
    /// When hashes are nested too deep.
    pub fn items(self) -> Result<Self, PlaceError> {
        Self::hash(vec![Part::Place(self)])
    }

    /// The place `offset` slots further.
    ///
    /// # Errors
    /// When the sum of offsets does not fit.
    pub fn plus(self, offset: u64) -> Result<Self, PlaceError> {
        Ok(match self {
            Self::Plain(slot) => Self::Plain(slot.checked_add(U256::from(offset)).ok_or(PlaceError::Offset)?),
            Self::Hashed(hashed) => {
                let offset = hashed.offset.checked_add(offset).ok_or(PlaceError::Offset)?;
                Self::Hashed(Hashed { offset, ..hashed })
            }
        })
    }

    /// The EVM's slot number.
    pub fn slot(&self) -> U256 {
        match self {
            Self::Plain(slot) => *slot,
            Self::Hashed(hashed) => hashed.slot(),
        }
    }

    /// The key in the state tree.
    pub fn key<F: PrimeField>(&self, address: &Address) -> F {
        let account = address_element(address);
        let elements = match self {
            Self::Plain(slot) => arrange(&Kind::Plain, account, [F::ZERO; 2], plain_parent(slot), F::ZERO, F::from),
            Self::Hashed(hashed) => hashed.elements(account, F::from(hashed.offset), 0),
        };
        Hasher::shared().hash(Domain::Key, &elements)
    }
}

impl Hashed {
    fn depth(&self) -> usize {
        1 + self.inner.as_ref().map_or(0, |(_, inner)| inner.depth())
    }

    fn slot(&self) -> U256 {
        let mut bytes: Vec<u8> = Vec::with_capacity(32 * self.words.len());
        for (position, word) in self.words.iter().enumerate() {
            let word = match &self.inner {
                Some((at, inner)) if *at == position => inner.slot(),
                _ => *word,
            };
            bytes.extend(word.to_be_bytes::<32>());
        }
        zvm_ir::eval::keccak256(&bytes).wrapping_add(U256::from(self.offset))
    }

    /// The digest that stands for this place, whatever its account and offset.
    pub fn path<F: PrimeField>(&self) -> F {
        Hasher::shared().hash(Domain::Key, &self.elements(F::ZERO, F::ZERO, PATH))
    }

    fn elements<F: PrimeField>(&self, account: F, offset: F, path: u64) -> [F; WIDE] {
        let limbs = |word: &U256| native_limbs::<F>(256, word);
        let parent = self.inner.as_ref().map(|(_, inner)| [inner.path(), F::from(inner.offset), F::ZERO]);
        let at = self.inner.as_ref().map(|(position, _)| *position);
        let pair = |word: &U256| [limbs(word)[0], limbs(word)[1]];
        let (kind, key, parent) = match self.words.as_slice() {
            [word] => (Kind::One, [F::ZERO; 2], parent.unwrap_or_else(|| plain_parent(word))),
            [first, second] => match (at, parent) {
                (Some(0), Some(parent)) => (Kind::First, pair(second), parent),
                (_, parent) => (Kind::Second, pair(first), parent.unwrap_or_else(|| plain_parent(second))),
            },
            words => {
                let elements: Vec<[F; 2]> = words
                    .iter()
                    .enumerate()
                    .map(|(position, word)| match parent {
                        Some(parent) if at == Some(position) => [parent[0], parent[1]],
                        _ => pair(word),
                    })
                    .collect();
                let header = words_header(words.len(), at);
                let digest = elements.chunks(3).fold(F::ZERO, |rest, chunk| {
                    let mut block = [F::ZERO; WIDE];
                    block[0] = rest;
                    for (i, limb) in chunk.iter().flatten().enumerate() {
                        block[1 + i] = *limb;
                    }
                    block[WIDE - 1] = from_u256(&U256::from(header));
                    Hasher::shared().hash(Domain::Words, &block)
                });
                (Kind::More, [F::ZERO; 2], [digest, F::from(words.len() as u64), F::ZERO])
            }
        };
        arrange(&kind, account, key, parent, offset, |kind| F::from(kind + path))
    }
}

/// What element 7 has more in a path digest.
const PATH: u64 = 16;

/// The column of the table of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain = 1,
    One,
    Second,
    First,
    More,
}

/// The elements of a key in their order.
fn arrange<T>(
    kind: &Kind,
    account: T,
    [low, high]: [T; 2],
    parent: [T; 3],
    offset: T,
    tag: impl Fn(u64) -> T,
) -> [T; WIDE] {
    let [digest, parent_low, parent_high] = parent;
    [account, low, high, digest, parent_low, parent_high, offset, tag(*kind as u64)]
}

fn words_header(words: usize, position: Option<usize>) -> u64 {
    words as u64 + (position.map_or(0, |position| position as u64 + 1) << 32)
}

fn plain_parent<F: PrimeField>(word: &U256) -> [F; 3] {
    let limbs = native_limbs::<F>(256, word);
    [F::ZERO, limbs[0], limbs[1]]
}

/// An address as a field element.
pub fn address_element<F: PrimeField>(address: &Address) -> F {
    address.iter().fold(F::ZERO, |sum, byte| sum * F::from(256) + F::from(u64::from(*byte)))
}

// In the circuit.

/// A word in the circuit that may be a hashed place: `0, limbs` for a number, `path digest, offset, 0` for a place.
///
/// Both have the same form, so that values of either kind can be merged element by element.
#[derive(Clone, Debug)]
pub struct Parent<F: PrimeField>(pub [Lc<F>; 3]);

impl<F: PrimeField> Parent<F> {
    /// A number, given by its limbs, which are in range.
    pub fn number(limbs: &[Lc<F>; 2]) -> Self {
        Self([Lc::zero(), limbs[0].clone(), limbs[1].clone()])
    }

    /// A hashed place, given by its path digest and its offset below `2^64`.
    pub fn place(path: &Lc<F>, offset: &Lc<F>) -> Self {
        Self([path.clone(), offset.clone(), Lc::zero()])
    }
}

/// A hashed place in the circuit, without its offset.
///
/// *Soundness* of keys and digests: see the head of this file; limbs, offsets and addresses must be in range, as those of words are. Each
/// digest is one permutation: 384 rows, or 3 less for each element that is constant. Where `active` is zero the elements must be zero
/// (constants are taken care of), and the digest means nothing.
#[derive(Clone, Debug)]
pub struct HashedPlace<F: PrimeField> {
    kind: Kind,
    key: [Lc<F>; 2],
    parent: [Lc<F>; 3],
}

impl<F: PrimeField> HashedPlace<F> {
    /// The hash of one word.
    pub fn one(word: &Parent<F>) -> Self {
        Self { kind: Kind::One, key: [Lc::zero(), Lc::zero()], parent: word.0.clone() }
    }

    /// The hash of two words, of which the first is a number, given by its limbs: an entry of a mapping of Solidity, and any two
    /// numbers.
    pub fn second(key: &[Lc<F>; 2], place: &Parent<F>) -> Self {
        Self { kind: Kind::Second, key: key.clone(), parent: place.0.clone() }
    }

    /// The hash of two words, of which the first is a *hashed* place, given by path digest and offset, and the second a number: an
    /// entry of a mapping of Vyper in another one. Where the first word is a number as well, the form is [`HashedPlace::second`].
    pub fn first([path, offset]: [&Lc<F>; 2], key: &[Lc<F>; 2]) -> Self {
        Self { kind: Kind::First, key: key.clone(), parent: Parent::place(path, offset).0 }
    }

    /// The hash of three words and more, of which the one at `place` is a hashed place, given by path digest and offset; the others are
    /// numbers, given by their limbs. Rows: one permutation for each three words.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known; `Unsatisfiable` for less than three words, or
    /// more than [`MAX_WORDS`].
    pub fn more<CS: ConstraintSystem<F>>(
        cs: &mut CS,
        active: &Lc<F>,
        words: &[[Lc<F>; 2]],
        place: Option<usize>,
    ) -> Result<Self, SynthesisError> {
        if !(3..=MAX_WORDS).contains(&words.len()) || place.is_some_and(|place| place >= words.len()) {
            return Err(SynthesisError::Unsatisfiable);
        }
        let header = Lc::constant(from_u256(&U256::from(words_header(words.len(), place))));
        let mut rest = Lc::zero();
        for (index, chunk) in words.chunks(3).enumerate() {
            let mut block: [Lc<F>; WIDE] = core::array::from_fn(|_| Lc::zero());
            block[0] = rest;
            for (to, limb) in block[1..].iter_mut().zip(chunk.iter().flatten()) {
                *to = limb.clone();
            }
            block[WIDE - 1] = header.clone();
            let mut cs = cs.namespace(|| format!("words {index}"));
            let digest = Hasher::shared().hash_in_circuit(&mut cs, active, Domain::Words, &block)?;
            // In an idle slot the next block must be zero too: it is, for the digest of zeros is.
            rest = digest;
        }
        let number = Lc::constant(F::from(words.len() as u64));
        Ok(Self { kind: Kind::More, key: [Lc::zero(), Lc::zero()], parent: [rest, number, Lc::zero()] })
    }

    /// The key of the slot `offset` after this place, in the account `address`.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn key<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        active: &Lc<F>,
        address: &Lc<F>,
        offset: &Lc<F>,
    ) -> Result<Lc<F>, SynthesisError> {
        self.digest(&mut cs.namespace(|| "key"), active, address, offset, 0)
    }

    /// The path digest.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn path<CS: ConstraintSystem<F>>(&self, cs: &mut CS, active: &Lc<F>) -> Result<Lc<F>, SynthesisError> {
        self.digest(&mut cs.namespace(|| "path"), active, &Lc::zero(), &Lc::zero(), PATH)
    }

    fn digest<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        active: &Lc<F>,
        address: &Lc<F>,
        offset: &Lc<F>,
        path: u64,
    ) -> Result<Lc<F>, SynthesisError> {
        let tag = |kind| Lc::constant(F::from(kind + path));
        let (key, parent) = (self.key.clone(), self.parent.clone());
        let elements = arrange(&self.kind, address.clone(), key, parent, offset.clone(), tag);
        Hasher::shared().hash_in_circuit(cs, active, Domain::Key, &elements)
    }
}

/// The key of a slot given by its number, in the account `address`: one permutation, as [`HashedPlace::key`].
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn plain_key<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    active: &Lc<F>,
    address: &Lc<F>,
    slot: &[Lc<F>; 2],
) -> Result<Lc<F>, SynthesisError> {
    let parent = Parent::number(slot).0;
    let tag = |kind| Lc::constant(F::from(kind));
    let elements = arrange(&Kind::Plain, address.clone(), [Lc::zero(), Lc::zero()], parent, Lc::zero(), tag);
    Hasher::shared().hash_in_circuit(&mut cs.namespace(|| "plain key"), active, Domain::Key, &elements)
}

// As text.

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(slot) => write!(f, "{slot:#x}"),
            Self::Hashed(hashed) => write!(f, "{hashed}"),
        }
    }
}

impl fmt::Display for Hashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "keccak(")?;
        for (position, word) in self.words.iter().enumerate() {
            if position > 0 {
                write!(f, ", ")?;
            }
            match &self.inner {
                Some((at, inner)) if *at == position => write!(f, "{inner}")?,
                _ => write!(f, "{word:#x}")?,
            }
        }
        write!(f, ")")?;
        if self.offset > 0 { write!(f, "+{}", self.offset) } else { Ok(()) }
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    /// Reads what is displayed: a number, or `keccak(word or place, …)+offset`. Numbers are decimal or 0x-hex; spaces are free.
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        let mut reader = Reader { text, at: 0 };
        let place = reader.place(0)?;
        reader.skip_spaces();
        if reader.at < text.len() {
            return Err(reader.wrong("nothing more"));
        }
        Ok(place)
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn wrong(&self, expected: &'static str) -> PlaceError {
        let text = if self.text.chars().count() > 80 {
            format!("{}…", self.text.chars().take(80).collect::<String>())
        } else {
            self.text.to_owned()
        };
        PlaceError::Text { text, expected, at: self.at }
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn number(&mut self) -> Result<U256, PlaceError> {
        self.skip_spaces();
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let digits = &rest[..length];
        let parsed = match digits.strip_prefix("0x") {
            Some(hex) if !hex.is_empty() => U256::from_str_radix(hex, 16),
            _ if !digits.is_empty() => U256::from_str_radix(digits, 10),
            _ => return Err(self.wrong("a number or `keccak(`")),
        };
        let number = parsed.map_err(|_| self.wrong("a number below 2^256"))?;
        self.at += length;
        Ok(number)
    }

    fn place(&mut self, depth: usize) -> Result<Place, PlaceError> {
        if depth > MAX_DEPTH {
            return Err(PlaceError::TooDeep);
        }
        if !self.take("keccak") {
            return self.number().map(Place::Plain);
        }
        if !self.take("(") {
            return Err(self.wrong("`(`"));
        }
        let mut parts = Vec::new();
        loop {
            parts.push(Part::Place(self.place(depth + 1)?));
            if parts.len() > MAX_WORDS {
                return Err(PlaceError::TooManyWords);
            }
            if self.take(")") {
                break;
            }
            if !self.take(",") {
                return Err(self.wrong("`,` or `)`"));
            }
        }
        let place = Place::hash(parts)?;
        if !self.take("+") {
            return Ok(place);
        }
        let offset = u64::try_from(self.number()?).map_err(|_| PlaceError::Offset)?;
        place.plus(offset)
    }
}
