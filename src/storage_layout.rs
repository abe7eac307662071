//! What a compiler says about storage (solc's `storageLayout`), with the keys of mappings that a user knows: the words that are hashed
//! for the slots of a state.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use zvm_backend_circuit::state::place::MAX_DEPTH;
use zvm_ir::Word;
use zvm_ir::eval::keccak256;

use crate::call;
use crate::error::Error;
use crate::places::Places;
use crate::state_file::Problem;

/// The most values that a layout and keys are followed to.
pub const MAX_HASHES: usize = 1 << 20;

/// A layout as it is in the compiler's JSON.
#[derive(Clone, Debug)]
pub struct Layout {
    path: String,
    variables: Vec<Value>,
    types: Map<String, Value>,
}

/// Adds hashes for one account.
struct Hashes<'a> {
    layout: &'a Layout,
    keys: &'a [Word],
    storage: &'a BTreeMap<Word, Word>,
    places: &'a mut Places,
    /// Values that were followed so far.
    followed: usize,
}

impl Layout {
    /// Reads a layout: the object itself, or one that has it as `storageLayout`.
    ///
    /// # Errors
    /// Naming the field that is wrong.
    pub fn parse(path: &str, json: &[u8]) -> Result<Self, Error> {
        let document: Value =
            serde_json::from_slice(json).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        let layout = document.get("storageLayout").unwrap_or(&document);
        let wrong = |at: &str, expected| Error::Field { path: path.to_owned(), at: at.to_owned(), expected };
        let variables = layout.get("storage").and_then(Value::as_array).ok_or_else(|| wrong("storage", "a list"))?;
        // A contract without variables has no types.
        let types = match layout.get("types") {
            None | Some(Value::Null) => Map::new(),
            Some(types) => types.as_object().cloned().ok_or_else(|| wrong("types", "an object"))?,
        };
        Ok(Self { path: path.to_owned(), variables: variables.clone(), types })
    }

    /// Adds to `places` what is hashed for the variables of an account with this storage: for the entries of all mappings under each of
    /// `keys`, and for the items of arrays and long strings.
    ///
    /// # Errors
    /// Naming the field that is wrong; an error beyond [`MAX_HASHES`].
    pub fn add_to(&self, places: &mut Places, keys: &[Word], storage: &BTreeMap<Word, Word>) -> Result<(), Error> {
        let mut hashes = Hashes { layout: self, keys, storage, places, followed: 0 };
        for (index, variable) in self.variables.iter().enumerate() {
            let at = format!("storage[{index}]");
            let slot = self.text(variable, &at, "slot")?;
            hashes.walk(&self.text(variable, &at, "type")?, call::word(&at, &slot)?, 0)?;
        }
        Ok(())
    }

    fn wrong(&self, at: &str, expected: &'static str) -> Error {
        Error::Field { path: self.path.clone(), at: at.to_owned(), expected }
    }

    fn text(&self, object: &Value, at: &str, field: &str) -> Result<String, Error> {
        let text = object.get(field).and_then(call::scalar);
        text.ok_or_else(|| self.wrong(&format!("{at}.{field}"), "a number or a string"))
    }

    fn ty(&self, name: &str) -> Result<&Value, Error> {
        self.types.get(name).ok_or_else(|| self.wrong(&format!("types.{name}"), "the description of a type"))
    }

    /// The bytes that a type takes in storage.
    fn size(&self, name: &str) -> Result<u64, Error> {
        let at = format!("types.{name}");
        let size = call::word(&at, &self.text(self.ty(name)?, &at, "numberOfBytes")?)?;
        u64::try_from(size).map_err(|_| self.wrong(&format!("{at}.numberOfBytes"), "below 2^64"))
    }

    /// Whether values of a type hash something.
    fn hashes(&self, name: &str, depth: usize) -> Result<bool, Error> {
        let ty = self.ty(name)?;
        let encoding = self.text(ty, &format!("types.{name}"), "encoding")?;
        if encoding != "inplace" {
            return Ok(true);
        }
        if depth > MAX_DEPTH {
            return Err(self.wrong(&format!("types.{name}"), "nested less deeply"));
        }
        if let Some(base) = ty.get("base").and_then(Value::as_str) {
            return self.hashes(base, depth + 1);
        }
        for member in ty.get("members").and_then(Value::as_array).into_iter().flatten() {
            if self.hashes(&self.text(member, &format!("types.{name}.members"), "type")?, depth + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Hashes<'_> {
    fn add(&mut self, words: &[Word]) -> Result<Word, Error> {
        self.count()?;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
        self.places.add_preimage(&bytes);
        Ok(keccak256(&bytes))
    }

    fn count(&mut self) -> Result<(), Error> {
        self.followed += 1;
        if self.followed <= MAX_HASHES {
            return Ok(());
        }
        Err(Problem::TooManyHashes(MAX_HASHES).of(self.layout.path.as_ref()))
    }

    /// Goes through a value of type `name` at `slot`.
    fn walk(&mut self, name: &str, slot: Word, depth: usize) -> Result<(), Error> {
        let layout = self.layout;
        let at = format!("types.{name}");
        self.count()?;
        if depth > MAX_DEPTH {
            return Err(layout.wrong(&at, "nested less deeply"));
        }
        let ty = layout.ty(name)?;
        let held = || self.storage.get(&slot).copied().unwrap_or_default();
        match layout.text(ty, &at, "encoding")?.as_str() {
            "mapping" => {
                let key = layout.text(ty, &at, "key")?;
                let value = layout.text(ty, &at, "value")?;
                if layout.text(layout.ty(&key)?, &at, "encoding")? != "inplace" {
                    // The key is a string: bytes of any length are hashed, which is no place.
                    return Ok(());
                }
                let keys = self.keys;
                for key in keys {
                    let entry = self.add(&[*key, slot])?;
                    if layout.hashes(&value, 0)? {
                        self.walk(&value, entry, depth + 1)?;
                    }
                }
            }
            "dynamic_array" => {
                let base = layout.text(ty, &at, "base")?;
                let length = held();
                let items = self.add(&[slot])?;
                if layout.hashes(&base, 0)? {
                    self.items(&base, items, length, depth)?;
                }
            }
            "bytes" => {
                self.add(&[slot])?;
            }
            _ => {
                if let Some(base) = ty.get("base").and_then(Value::as_str) {
                    if layout.hashes(base, 0)? {
                        let length = layout.size(name)?.checked_div(layout.size(base)?).unwrap_or_default();
                        self.items(base, slot, Word::from(length), depth)?;
                    }
                    return Ok(());
                }
                for member in ty.get("members").and_then(Value::as_array).into_iter().flatten() {
                    let at = format!("{at}.members");
                    let offset = call::word(&at, &layout.text(member, &at, "slot")?)?;
                    self.walk(&layout.text(member, &at, "type")?, slot.wrapping_add(offset), depth + 1)?;
                }
            }
        }
        Ok(())
    }

    /// Items that hash something, and so take whole slots.
    fn items(&mut self, base: &str, first: Word, length: Word, depth: usize) -> Result<(), Error> {
        let stride = Word::from(self.layout.size(base)?.div_ceil(32).max(1));
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let mut slot = first;
        for _ in 0..length {
            self.walk(base, slot, depth + 1)?;
            slot = slot.wrapping_add(stride);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use zvm_backend_circuit::state::place::Place;

    use super::*;
    use crate::places::Order;

    const LAYOUT: &str = r#"{"storageLayout": {"storage": [
        {"label": "total", "slot": "2", "offset": 0, "type": "t_uint256"},
        {"label": "allowed", "slot": "3", "offset": 0, "type": "t_mapping(t_address,t_mapping(t_address,t_uint256))"},
        {"label": "people", "slot": "4", "offset": 0, "type": "t_array(t_struct)dyn_storage"},
        {"label": "pair", "slot": "5", "offset": 0, "type": "t_array(t_string)2_storage"}],
      "types": {
        "t_uint256": {"encoding": "inplace", "numberOfBytes": "32"},
        "t_address": {"encoding": "inplace", "numberOfBytes": "20"},
        "t_string": {"encoding": "bytes", "numberOfBytes": "32"},
        "t_array(t_string)2_storage": {"encoding": "inplace", "numberOfBytes": "64", "base": "t_string"},
        "t_mapping(t_address,t_mapping(t_address,t_uint256))": {"encoding": "mapping", "key": "t_address",
          "value": "t_mapping(t_address,t_uint256)", "numberOfBytes": "32"},
        "t_mapping(t_address,t_uint256)": {"encoding": "mapping", "key": "t_address", "value": "t_uint256",
          "numberOfBytes": "32"},
        "t_array(t_struct)dyn_storage": {"encoding": "dynamic_array", "base": "t_struct", "numberOfBytes": "32"},
        "t_struct": {"encoding": "inplace", "numberOfBytes": "64", "members": [
          {"label": "age", "slot": "0", "offset": 0, "type": "t_uint256"},
          {"label": "name", "slot": "1", "offset": 0, "type": "t_string"}]}}}}"#;

    #[test]
    fn places_of_all_kinds_are_found() {
        let layout = Layout::parse("layout.json", LAYOUT.as_bytes()).unwrap();
        let word = |value: u64| Word::from(value);
        let keys = [word(0xaa), word(0xbb)];
        let storage = BTreeMap::from([(word(4), word(3))]);
        let mut places = Places::new(Order::KeyFirst);
        layout.add_to(&mut places, &keys, &storage).unwrap();
        let allowed = Place::Plain(word(3)).entry(keys[0]).unwrap().entry(keys[1]).unwrap();
        let people = Place::Plain(word(4)).items().unwrap();
        let name = people.clone().plus(2 * 2 + 1).unwrap().items().unwrap().plus(1).unwrap();
        let second = Place::Plain(word(6)).items().unwrap().plus(2).unwrap();
        for place in [allowed, people, name, second] {
            assert_eq!(places.of(&place.slot()), Ok(Some(place)));
        }
        let beyond = Place::Plain(word(4)).items().unwrap().plus(2 * 3 + 1).unwrap().items().unwrap();
        assert_eq!(places.of(&beyond.slot()), Ok(None));
    }

    /// An array that says it has 2^64 items and more, of mappings for which no key is known.
    #[test]
    fn a_layout_is_not_followed_for_ever() {
        let endless = LAYOUT.replace(r#""base": "t_struct""#, r#""base": "t_mapping(t_address,t_uint256)""#);
        let layout = Layout::parse("layout.json", endless.as_bytes()).unwrap();
        let storage = BTreeMap::from([(Word::from(4), Word::MAX)]);
        let result = layout.add_to(&mut Places::default(), &[], &storage);
        assert!(matches!(result, Err(Error::StateFile { .. })), "{result:?}");
    }

    #[test]
    fn a_layout_is_checked() {
        for (json, at) in [
            ("{}", "storage"),
            (r#"{"storage": [{}]}"#, "storage[0].slot"),
            (r#"{"storage": [{"slot": "0", "type": "t"}]}"#, "types.t"),
        ] {
            let mut places = Places::default();
            let result = Layout::parse("layout.json", json.as_bytes())
                .and_then(|layout| layout.add_to(&mut places, &[], &BTreeMap::new()));
            assert!(matches!(&result, Err(Error::Field { at: found, .. }) if found == at), "{result:?}");
        }
        let endless = r#"{"storage": [{"slot": "0", "type": "t"}], "types": {"t": {"encoding": "inplace",
            "members": [{"slot": "0", "type": "t"}]}}}"#;
        let mut places = Places::default();
        let layout = Layout::parse("layout.json", endless.as_bytes()).unwrap();
        assert!(matches!(layout.add_to(&mut places, &[], &BTreeMap::new()), Err(Error::Field { .. })));
    }
}
