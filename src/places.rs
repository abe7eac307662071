//! Where storage slots come from: the place of a slot number, from hashes that a program was seen to compute and from what a
//! user knows.
//!
//! A slot below 2^64 is a number. One that a program's code has as a constant, or that follows such a constant, is a number too (the slots of
//! ERC-1967 and ERC-7201). Any other is a hash and an offset: it is found if the words that were hashed are known, and a word
//! among them that is a slot number itself is looked up in the same way.

use std::collections::{BTreeMap, BTreeSet};

use zvm_backend_circuit::state::place::{MAX_DEPTH, Part, Place};
use zvm_ir::Word;
use zvm_ir::eval::keccak256;

/// In which order a compiler hashes a mapping's key and place, which matters where the key is a hash itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Key, place: Solidity.
    #[default]
    KeyFirst,
    /// Place, key: Vyper.
    PlaceFirst,
}

/// What is known of the places of one account.
#[derive(Clone, Debug, Default)]
pub struct Places {
    hashed: BTreeMap<Word, Vec<Word>>,
    given: BTreeMap<Word, Place>,
    constants: BTreeSet<Word>,
    order: Order,
}

impl Places {
    /// Nothing but that a compiler hashes in this order.
    pub fn new(order: Order) -> Self {
        Self { order, ..Self::default() }
    }

    /// Words that are hashed.
    pub fn add_preimage(&mut self, words: &[Word]) {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
        self.hashed.insert(keccak256(&bytes), words.to_vec());
    }

    /// A place.
    pub fn add_place(&mut self, place: Place) {
        self.given.insert(place.slot(), place);
    }

    /// Constants of at least 2^64 in a program's code, which may be slot numbers.
    pub fn add_code(&mut self, code: &[u8]) {
        let mut at = 0;
        while let Some(&opcode) = code.get(at) {
            at += 1;
            if (0x60..=0x7f).contains(&opcode) {
                let length = usize::from(opcode - 0x5f);
                let data = code.get(at..(at + length).min(code.len())).unwrap_or_default();
                let constant = Word::try_from_be_slice(data).unwrap_or_default();
                if constant.bit_len() > 64 {
                    self.constants.insert(constant);
                }
                at += length;
            }
        }
    }

    /// The place of a slot, if it is known.
    pub fn of(&self, slot: &Word) -> Option<Place> {
        self.given.get(slot).cloned().or_else(|| self.search(slot, 0))
    }

    fn search(&self, slot: &Word, depth: usize) -> Option<Place> {
        if slot.bit_len() <= 64 {
            return Some(Place::Plain(*slot));
        }
        if let Some((words, offset)) = self.hash_before(slot)
            && depth < MAX_DEPTH
        {
            let last = words.len() - 1;
            let first_is_place = self.is_hash(&words[0]) && (last == 0 || self.order == Order::PlaceFirst);
            let place_at = if self.is_hash(&words[last]) { Some(last) } else { first_is_place.then_some(0) };
            let part = |(at, word): (usize, &Word)| match place_at {
                Some(place) if place == at => self.search(word, depth + 1).map(Part::Place),
                _ => Some(Part::Word(*word)),
            };
            let parts: Option<Vec<Part>> = words.iter().enumerate().map(part).collect();
            return Place::hash(parts?).and_then(|place| place.plus(offset)).ok();
        }
        let before = self.constants.range(..=*slot).next_back()?;
        ((*slot - *before).bit_len() <= 64).then_some(Place::Plain(*slot))
    }

    fn is_hash(&self, word: &Word) -> bool {
        word.bit_len() > 64 && self.hash_before(word).is_some()
    }

    /// The words whose hash is less than 2^64 below a slot, and how far.
    fn hash_before(&self, slot: &Word) -> Option<(&[Word], u64)> {
        let (hash, words) = self.hashed.range(..=*slot).next_back()?;
        Some((words, u64::try_from(*slot - *hash).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(value: u64) -> Word {
        Word::from(value)
    }

    /// What was hashed on the way to `place`.
    fn known(place: &Place, order: Order, hashed: &[&[Word]]) -> Option<Place> {
        let mut places = Places::new(order);
        hashed.iter().for_each(|words| places.add_preimage(words));
        places.of(&place.slot())
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

    /// A key that is a hash is a number for Solidity and the place for Vyper.
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

    #[test]
    fn constants_of_the_code_are_numbers() {
        let constant = Word::MAX / word(3);
        let code = [&[0x60, 0x7f, 0x7f][..], &constant.to_be_bytes::<32>(), &[0x54, 0x7f, 1]].concat();
        let mut places = Places::default();
        places.add_code(&code);
        assert_eq!(places.of(&(constant + word(3))), Some(Place::Plain(constant + word(3))));
        assert_eq!(places.of(&(constant - word(1))), None);
        assert_eq!(places.of(&word(u64::MAX)), Some(Place::Plain(word(u64::MAX))));
    }
}
