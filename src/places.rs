//! Where storage slots come from: the place of a slot number, from hashes that a program was seen to compute and from what a
//! user knows.
//!
//! A slot below 2^64 is a number, and so is one of a well-known name (ERC-1967, ERC-7201). Any other is a hash and an offset: it
//! is found if the words that were hashed are known, and the word among them that is the place is looked up in the same way. Hashes of
//! small numbers and of constants of the code are found by trying them. What is found has the key that proofs know it by.

use std::collections::{BTreeMap, BTreeSet};

use zvm_backend_circuit::legalize::{preimages, stands_alone};
use zvm_backend_circuit::place::{Layout, Position, Preimages, Scheme};
use zvm_backend_circuit::program::Program as CircuitProgram;
use zvm_backend_circuit::state::place::{Place, PlaceError};
use zvm_ir::Word;

use crate::input::{Contract, Input, Source};
use crate::program::Program;

/// In which order a compiler hashes a mapping's key and place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Key, place: Solidity.
    #[default]
    KeyFirst,
    /// Place, key: Vyper.
    PlaceFirst,
}

impl Order {
    /// Where the place is in a hash of two words, and in all others.
    fn scheme(self) -> Scheme {
        let mut scheme = Scheme::default();
        let position = match self {
            Self::KeyFirst => Position::Last,
            Self::PlaceFirst => Position::First,
        };
        scheme.insert(Layout::whole(2, position));
        scheme
    }
}

/// The programs of accounts, each compiled once.
#[derive(Debug, Default)]
pub struct Programs(BTreeMap<Vec<u8>, Option<CircuitProgram>>);

impl Programs {
    /// Adds to `places` what proofs make of the constants of an account's code. Code that is outside the subset has no proofs, so that
    /// there is nothing to agree with.
    pub fn add_to(&mut self, places: &mut Places, code: &[u8]) {
        let program = self.0.entry(code.to_vec()).or_insert_with(|| {
            let contract = Box::new(Contract { runtime: code.to_vec(), ..Contract::default() });
            let input = Input { origin: String::new(), source: Source::Contract(contract) };
            Program::load(&input).and_then(|program| program.circuit()).ok()
        });
        if let Some(program) = program {
            places.add_program(program);
        }
    }
}

/// What is known of the places of one account.
#[derive(Clone, Debug, Default)]
pub struct Places {
    hashed: Preimages,
    given: BTreeMap<Word, Place>,
    constants: BTreeSet<Word>,
    scheme: Scheme,
    /// Whether `hashed` has what proofs of the account's program make of its constants.
    of_program: bool,
}

impl Places {
    /// Nothing but that a compiler hashes in this order.
    pub fn new(order: Order) -> Self {
        Self { scheme: order.scheme(), ..Self::default() }
    }

    /// Bytes that are hashed.
    pub fn add_preimage(&mut self, bytes: &[u8]) {
        let Ok(len) = u32::try_from(bytes.len()) else { return };
        let word = |bytes: &[u8]| {
            let mut word = [0; 32];
            word[..bytes.len()].copy_from_slice(bytes);
            Word::from_be_bytes(word)
        };
        let (words, layout): (Vec<Word>, Layout) = (bytes.chunks(32).map(word).collect(), self.scheme.layout(len));
        self.hashed.insert(layout.hash(&words), &words, layout);
    }

    /// A place, with those on the way to it.
    pub fn add_place(&mut self, place: Place) {
        place.add_hashes(&mut self.hashed);
        self.given.insert(place.slot(), place);
    }

    /// Constants of a program's code, which may be hashed or slot numbers.
    pub fn add_code(&mut self, code: &[u8]) {
        let mut at = 0;
        while let Some(&opcode) = code.get(at) {
            at += 1;
            if (0x60..=0x7f).contains(&opcode) {
                let length = usize::from(opcode - 0x5f);
                let data = code.get(at..(at + length).min(code.len())).unwrap_or_default();
                self.constants.insert(Word::try_from_be_slice(data).unwrap_or_default());
                at += length;
            }
        }
    }

    /// What proofs of a program make of its constants, and where places are in its hashes as far as it has any that tell. From then on a place
    /// that was given counts only where the program's proofs know none: theirs is the key by which they find the slot.
    pub fn add_program(&mut self, program: &CircuitProgram) {
        self.of_program = true;
        let places = &program.legalized().places;
        self.scheme.extend(places.scheme());
        self.hashed.set_scheme(places.scheme());
        self.hashed.extend(places.known());
    }

    /// What proofs have made of the slots that they touched.
    pub(crate) fn of_proofs(hashed: &Preimages) -> Self {
        Self { hashed: hashed.clone(), of_program: true, ..Self::default() }
    }

    /// What proofs of a program that touched slots have made of them, with what constants of its code hash to for other slots: as a state file has
    /// them of which nothing else is said.
    pub(crate) fn of_state<'a>(
        program: &CircuitProgram,
        code: &[u8],
        touched: &Preimages,
        slots: impl IntoIterator<Item = &'a Word>,
    ) -> Preimages {
        let mut places = Self::default();
        places.add_code(code);
        places.add_program(program);
        places.hashed.extend(touched);
        places.try_constants(slots);
        places.hashed
    }

    /// Tries what the constants of the code and small numbers hash to, for slots whose place is not known.
    pub fn try_constants<'a>(&mut self, slots: impl IntoIterator<Item = &'a Word>) {
        let known = |slot: &Word| self.hashed.has_key(slot) || self.given.contains_key(slot) || stands_alone(slot);
        let wanted: Vec<Word> = slots.into_iter().copied().filter(|slot| !known(slot)).collect();
        if !wanted.is_empty() {
            self.hashed.extend(&preimages(&self.constants, &wanted, &self.scheme));
        }
    }

    /// The place of a slot, if it is known.
    ///
    /// # Errors
    /// When it is nested deeper than places are.
    pub fn of(&self, slot: &Word) -> Result<Option<Place>, PlaceError> {
        let given = self.given.get(slot).cloned();
        if given.is_some() && !self.of_program {
            return Ok(given);
        }
        Ok(Place::of(slot, &self.hashed, stands_alone)?.or(given))
    }
}

#[cfg(test)]
mod tests {
    use zvm_ir::eval::keccak256;

    use super::*;

    fn word(value: u64) -> Word {
        Word::from(value)
    }

    /// What was hashed on the way to `place`.
    fn known(place: &Place, order: Order, hashed: &[&[Word]]) -> Option<Place> {
        let mut places = Places::new(order);
        let bytes = |words: &[Word]| words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect::<Vec<u8>>();
        hashed.iter().for_each(|words| places.add_preimage(&bytes(words)));
        places.of(&place.slot()).unwrap()
    }

    #[test]
    fn nested_places_are_found() {
        let (key, other) = (word(7) << 200, word(9));
        let entry = Place::Plain(word(5)).entry(key).unwrap();
        let field = entry.clone().plus(2).unwrap();
        let inner = field.clone().entry(other).unwrap().items().unwrap().plus(11).unwrap();
        let hashes: [&[Word]; 3] =
            [&[key, word(5)], &[other, field.slot()], &[field.clone().entry(other).unwrap().slot()]];
        assert_eq!(known(&inner, Order::KeyFirst, &hashes), Some(inner.clone()));
        // With one hash missing, nothing is guessed: the words are numbers that say another place, or there is no place at all.
        assert_eq!(known(&inner, Order::KeyFirst, &hashes[..2]), None);
        assert_eq!(known(&entry, Order::KeyFirst, &[]), None);
    }

    /// A key that is a hash is a number for Solidity and the place for Vyper; so it is among two numbers.
    #[test]
    fn the_order_says_which_hash_is_the_place() {
        let role = Place::Plain(word(1)).items().unwrap();
        let hashes: [&[Word]; 2] = [&[word(1)], &[role.slot(), word(5)]];
        let solidity = Place::Plain(word(5)).entry(role.slot()).unwrap();
        assert_eq!(known(&solidity, Order::KeyFirst, &hashes), Some(solidity.clone()));
        let vyper = role.clone().vyper_entry(word(5)).unwrap();
        assert_eq!(vyper.slot(), solidity.slot());
        assert_eq!(known(&vyper, Order::PlaceFirst, &hashes), Some(vyper));
    }

    /// Hashes of small numbers and of constants are found, names are numbers, and nothing else is.
    #[test]
    fn constants_are_what_proofs_take_them_for() {
        let role = Word::MAX / word(3);
        let code = [&[0x60, 0x7f, 0x7f][..], &role.to_be_bytes::<32>(), &[0x54, 0x7f, 1]].concat();
        let named = keccak256(b"eip1967.proxy.admin") - word(1);
        for order in [Order::KeyFirst, Order::PlaceFirst] {
            let entry = |key: Word, place: Place| match order {
                Order::KeyFirst => place.entry(key).unwrap(),
                Order::PlaceFirst => place.vyper_entry(key).unwrap(),
            };
            let member = entry(role, Place::Plain(word(6))).plus(1).unwrap();
            let nested = entry(word(9), entry(role, Place::Plain(word(6))));
            let item = Place::Plain(word(127)).items().unwrap().plus(40).unwrap();
            let mut places = Places::new(order);
            places.add_code(&code);
            let slots =
                [member.slot(), entry(role, Place::Plain(word(6))).slot(), nested.slot(), item.slot(), named, role];
            assert_eq!(places.of(&member.slot()), Ok(None));
            places.try_constants(&slots);
            for place in [member, nested, item, Place::Plain(named), Place::Plain(word(u64::MAX))] {
                assert_eq!(places.of(&place.slot()), Ok(Some(place)));
            }
            assert_eq!(places.of(&role), Ok(None));
        }
    }
}
