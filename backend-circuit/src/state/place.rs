//! Places in storage: what the EVM addresses by a slot number and the circuit by a key.
//!
//! A [`Place`] says how a slot number came about: as a number, or as the Keccak-256 hash of 32-byte words (of the last of which it may take
//! the first bytes only), one of which is the slot number of a place itself unless none is, plus an offset. [`Place::slot`] is the number, [`Place::key`] the key of [`crate::place`], which is what
//! a proof knows the slot by: the roots of states are those of proofs.
//!
//! | source | place |
//! |---|---|
//! | variable in slot 5 | `5` |
//! | Solidity's `mapping` in slot 5, entry `k` | `keccak(k, 5)` |
//! | Vyper's `HashMap` in slot 5, entry `k` | `keccak([5], k)` |
//! | item 7 of a dynamic array in slot 5 | `keccak(5)+7` |
//! | second field of entry `k` of a mapping in entry `j` of a mapping | `keccak(k, keccak(j, 5))+1` |
//! | entry `k` of a `HashMap` in entry `j` of a `HashMap` | `keccak(keccak([5], j), k)` |
//! | the 36 bytes of slot 5 and of four more, as Solady has sets | `keccak:36(5, 0x978aab92…)` |
//! | 52 bytes of which none are a place, as Solady has allowances | `keccak_data:52(0x…, 0x…)` |
//!
//! Which of the words is the place belongs to the place, for the key depends on it: it is the last one, or the first of several. Two
//! numbers alone do not tell, so brackets mark a number that is the place and comes first; without a mark it is the last word, or the first where the last
//! counts in part. A hash among the words is the place; one that is data is written as a number.
//!
//! *Different (account, place) have different keys*, and *equal slots have equal keys* as far as one position is kept for all hashes of two words of an account:
//! see the head of [`crate::place`], and [`crate::legalize::Places`] for what programs keep to.

use core::fmt;
use core::str::FromStr;

use ff::PrimeField;
use zvm_ir::Word as U256;
use zvm_ir::outcome::Address;

use crate::place::{Layout, OFFSET_BITS, Position, Preimages, constant_key, hashed_key, origin};

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

/// A hash of a place and words, and an offset from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hashed {
    /// The place among the words.
    base: Box<Place>,
    /// The words besides it, in their order.
    others: Vec<U256>,
    /// Where it stands, `Last` where it is alone, and how many bytes are hashed. Slot 0 where there is none.
    layout: Layout,
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
    /// Two of the words are places.
    #[error("of the words that a place hashes one is a place, not two")]
    TwoPlaces,
    /// The place among the words is neither the first nor the last.
    #[error("of the words that a place hashes the first or the last is a place: one between them has no key")]
    Middle,
    /// The number of bytes is not that of the words.
    #[error("{0} bytes do not end in the last of {1} words")]
    Length(u32, usize),
    /// The bytes past the last one that is hashed are not zero.
    #[error("of the last word only the first bytes are hashed: the others have to be zero")]
    PastTheEnd,
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
    /// The place at the hash of `parts`, of which one may be called the place; else it is the last.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn hash(parts: Vec<Part>) -> Result<Self, PlaceError> {
        let len = 32 * u32::try_from(parts.len()).unwrap_or(u32::MAX / 32);
        Self::hash_of_bytes(parts, len)
    }

    /// The place at the hash of the first `len` bytes of `parts`, of which one may be called the place; else it is the last if that is hashed as
    /// a whole, and the first if not.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn hash_of_bytes(parts: Vec<Part>, len: u32) -> Result<Self, PlaceError> {
        if parts.len() > MAX_WORDS {
            return Err(PlaceError::TooManyWords);
        }
        let last = parts.len().checked_sub(1).ok_or(PlaceError::NoWords)?;
        let mut places = parts.iter().enumerate().filter(|(_, part)| matches!(part, Part::Place(_))).map(|(at, _)| at);
        let at = places.next().unwrap_or(if len.is_multiple_of(32) { last } else { 0 });
        if places.next().is_some() {
            return Err(PlaceError::TwoPlaces);
        }
        drop(places);
        let position = match at {
            at if at == last => Position::Last,
            0 => Position::First,
            _ => return Err(PlaceError::Middle),
        };
        if position == Position::Last && !len.is_multiple_of(32) {
            return Err(PlaceError::Length(len, parts.len()));
        }
        let mut base = Self::Plain(U256::ZERO);
        let mut others = Vec::with_capacity(last);
        for (index, part) in parts.into_iter().enumerate() {
            match part {
                Part::Word(word) if index == at => base = Self::Plain(word),
                Part::Place(place) => base = place,
                Part::Word(word) => others.push(word),
            }
        }
        Self::beside(base, others, Layout { len, position })
    }

    /// The place at the hash of the first `len` bytes of words that are no places.
    ///
    /// # Errors
    /// See [`PlaceError`].
    pub fn hash_of_data(words: Vec<U256>, len: u32) -> Result<Self, PlaceError> {
        if words.is_empty() {
            return Err(PlaceError::NoWords);
        }
        if words.len() > MAX_WORDS {
            return Err(PlaceError::TooManyWords);
        }
        Self::beside(Self::Plain(U256::ZERO), words, Layout { len, position: Position::Nowhere })
    }

    /// The place at the hash of the place `base` and the words `others`.
    fn beside(base: Self, others: Vec<U256>, layout: Layout) -> Result<Self, PlaceError> {
        let count = others.len() + usize::from(layout.position != Position::Nowhere);
        if layout.words() != count || layout.len == 0 {
            return Err(PlaceError::Length(layout.len, count));
        }
        let unused = 8 * (32 - layout.len as usize % 32);
        if unused < 256 && others.last().is_some_and(|last| last.trailing_zeros() < unused) {
            return Err(PlaceError::PastTheEnd);
        }
        let hashed = Hashed { base: Box::new(base), others, layout, offset: 0 };
        if hashed.depth() > MAX_DEPTH { Err(PlaceError::TooDeep) } else { Ok(Self::Hashed(hashed)) }
    }

    /// The place of a slot of an account, as far as it follows from what was hashed: a number below 2^64, a hash that is known, with an offset
    /// below 2^64, or a number for which `is_constant` holds. It has the key [`Preimages::key`].
    ///
    /// # Errors
    /// `TooDeep` and `TooManyWords` for a place that has a key, and no text.
    pub fn of(
        slot: &U256,
        preimages: &Preimages,
        is_constant: impl Fn(&U256) -> bool,
    ) -> Result<Option<Self>, PlaceError> {
        let mut slot = *slot;
        let mut hashes = Vec::new();
        while slot.bit_len() as u32 > OFFSET_BITS {
            let Some((hash, words, layout)) = preimages.below(&slot) else { break };
            if hashes.len() == MAX_DEPTH {
                return Err(PlaceError::TooDeep);
            }
            let (place, others) = layout.split(words);
            hashes.push((others, layout, u64::try_from(slot - *hash).map_err(|_| PlaceError::Offset)?));
            slot = place.copied().unwrap_or_default();
        }
        if slot.bit_len() as u32 > OFFSET_BITS && !is_constant(&slot) {
            return Ok(None);
        }
        let mut found = Self::Plain(slot);
        for (others, layout, offset) in hashes.into_iter().rev() {
            if others.len() >= MAX_WORDS {
                return Err(PlaceError::TooManyWords);
            }
            let position = if others.is_empty() { Position::Last } else { layout.position };
            found = Self::beside(found, others.to_vec(), Layout { position, ..layout })?.plus(offset)?;
        }
        Ok(Some(found))
    }

    /// Entry `key` of a mapping of Solidity that lies at `self`.
    ///
    /// # Errors
    /// When hashes are nested too deep.
    pub fn entry(self, key: U256) -> Result<Self, PlaceError> {
        Self::beside(self, vec![key], Layout::whole(2, Position::Last))
    }

    /// Entry `key` of a mapping of Vyper that lies at `self`.
    ///
    /// # Errors
    /// When hashes are nested too deep.
    pub fn vyper_entry(self, key: U256) -> Result<Self, PlaceError> {
        Self::beside(self, vec![key], Layout::whole(2, Position::First))
    }

    /// The first item of a dynamic array that lies at `self`.
    ///
    /// # Errors
    /// When hashes are nested too deep.
    pub fn items(self) -> Result<Self, PlaceError> {
        Self::beside(self, Vec::new(), Layout::whole(1, Position::Last))
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
        self.key_from(origin(address))
    }

    /// The key in the account with this [`origin`].
    fn key_from<F: PrimeField>(&self, origin: F) -> F {
        match self {
            Self::Plain(slot) => constant_key(slot, origin),
            Self::Hashed(hashed) => {
                let base = hashed.base.key_from(origin);
                hashed_key(&hashed.words(U256::ZERO), hashed.layout, base) + F::from(hashed.offset)
            }
        }
    }

    /// Adds what is hashed on the way to the place.
    pub fn add_hashes(&self, to: &mut Preimages) {
        let mut place = self;
        while let Self::Hashed(hashed) = place {
            let words = hashed.words(hashed.base.slot());
            to.insert(hashed.slot().wrapping_sub(U256::from(hashed.offset)), &words, hashed.layout);
            place = &*hashed.base;
        }
    }

    fn depth(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            Self::Hashed(hashed) => hashed.depth(),
        }
    }
}

impl Hashed {
    fn depth(&self) -> usize {
        1 + self.base.depth()
    }

    /// The words that are hashed, with `base` for the place.
    fn words(&self, base: U256) -> Vec<U256> {
        self.layout.join(base, &self.others)
    }

    fn slot(&self) -> U256 {
        self.layout.hash(&self.words(self.base.slot())).wrapping_add(U256::from(self.offset))
    }
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
        let Layout { len, position } = self.layout;
        let is_whole = len.is_multiple_of(32);
        f.write_str(if position == Position::Nowhere { "keccak_data" } else { "keccak" })?;
        if !is_whole {
            write!(f, ":{len}")?;
        }
        let mut words: Vec<String> = self.others.iter().map(|word| format!("{word:#x}")).collect();
        match (position, &*self.base) {
            (Position::Last, base) => words.push(base.to_string()),
            (Position::First, Place::Plain(slot)) if is_whole => words.insert(0, format!("[{slot:#x}]")),
            (Position::First, base) => words.insert(0, base.to_string()),
            (Position::Nowhere, _) => {}
        }
        write!(f, "({})", words.join(", "))?;
        if self.offset > 0 { write!(f, "+{}", self.offset) } else { Ok(()) }
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    /// Reads what is displayed: a number, or `keccak(word or place, …)+offset`, where brackets may mark the place, or `keccak_data(word, …)+offset`;
    /// either may have `:` and a number of bytes before the parenthesis. Numbers are decimal or 0x-hex; spaces are free.
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
        let is_data = self.take("_data");
        let len = if self.take(":") { Some(self.number()?) } else { None };
        if !self.take("(") {
            return Err(self.wrong("`(`"));
        }
        let mut parts = Vec::new();
        loop {
            parts.push(self.part(depth + 1)?);
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
        let count = parts.len();
        let len = match len {
            Some(len) => u32::try_from(len).map_err(|_| PlaceError::Length(u32::MAX, count))?,
            None => 32 * count as u32,
        };
        let place = if is_data {
            let word = |part| match part {
                Part::Word(word) => Ok(word),
                Part::Place(_) => Err(self.wrong("no place among data")),
            };
            Place::hash_of_data(parts.into_iter().map(word).collect::<Result<_, _>>()?, len)?
        } else {
            Place::hash_of_bytes(parts, len)?
        };
        if !self.take("+") {
            return Ok(place);
        }
        let offset = u64::try_from(self.number()?).map_err(|_| PlaceError::Offset)?;
        place.plus(offset)
    }

    fn part(&mut self, depth: usize) -> Result<Part, PlaceError> {
        if !self.take("[") {
            return Ok(match self.place(depth)? {
                Place::Plain(word) => Part::Word(word),
                place => Part::Place(place),
            });
        }
        let place = self.place(depth)?;
        if self.take("]") { Ok(Part::Place(place)) } else { Err(self.wrong("`]`")) }
    }
}
