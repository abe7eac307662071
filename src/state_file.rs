//! States in files of their own: accounts, and their storage as a state tree.
//!
//! [`import`] makes such a file of a [`State`], for which the place of each slot must be known; [`export`] gives the state back, slot
//! by slot, as an EVM has it. The root is about storage alone: balances, nonces and code are kept beside the tree.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use zvm_backend_circuit::state::place::{Place, PlaceError};
use zvm_backend_circuit::state::poseidon::WIDE;
use zvm_backend_circuit::state::storage::{self, PlainProof, PlainProofError, Storage, StorageError, Write};
use zvm_ir::Word;
use zvm_ir::outcome::Address;

use crate::call;
use crate::error::Error;
use crate::places::Places;
use crate::state::{Account, AccountChange, Changes, State};

/// The fields over which there are state trees.
pub const FIELDS: [&str; 2] = ["bn254", "bls12-381"];

/// Why a state file cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file, or what is in it.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Nobody knows what was hashed for a slot.
    #[error("the place of slot {slot:#066x} of account 0x{} is not known", hex::encode(account))]
    UnknownPlace {
        /// The account.
        account: Address,
        /// The slot.
        slot: Word,
    },
    /// The program knows a slot by another key than the file.
    #[error(
        "slot {slot:#066x} of account 0x{} is `{file}` in the file, and `{program}` in proofs of the program",
        hex::encode(account)
    )]
    OtherPlace {
        /// The account.
        account: Address,
        /// The slot.
        slot: Word,
        /// Its place in the file.
        file: Box<Place>,
        /// Its place in proofs.
        program: Box<Place>,
    },
    /// The file has changed since a proof began.
    #[error("its root is {found:#066x}, and was {expected:#066x} when the proof began")]
    Moved {
        /// The root that it has.
        found: Word,
        /// The root that the proof begins with.
        expected: Word,
    },
    /// The tree after the calls has another root than the proof says: a bug.
    #[error("the root after the calls is {found:#066x}, and the proof says {expected:#066x}")]
    OtherRoot {
        /// The root that the tree has.
        found: Word,
        /// The root that the proof ends with.
        expected: Word,
    },
    /// A place is malformed.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The record of an account is malformed.
    #[error("the record of account 0x{} is damaged", hex::encode(.0))]
    Account(Address),
    /// A layout and keys give more hashes than are tried.
    #[error("the layout and the keys give more than {0} hashes")]
    TooManyHashes(usize),
    /// A proof of a slot does not hold.
    #[error("the proof does not hold: {0}")]
    Proof(#[from] PlainProofError),
}

impl Problem {
    /// The error about a file.
    pub fn of(self, path: &Path) -> Error {
        Error::StateFile { path: path.display().to_string(), source: Box::new(self) }
    }
}

/// What is known of the places of each account's slots.
pub type Known<'a> = dyn Fn(&Address) -> Places + 'a;

/// Makes a file of a state. Every slot gets its leaf in the order of keys, so that equal states have equal roots.
///
/// # Errors
/// `UnknownPlace` for the first slot whose place is not known; when the file exists or cannot be written. No file is left then.
pub fn import(path: &Path, field: &str, state: &State, known: &Known<'_>) -> Result<Box<dyn Storage>, Error> {
    let mut writes: Vec<Write> = Vec::new();
    for (address, account) in &state.accounts {
        let mut places = known(address);
        places.try_constants(account.storage.keys());
        for (slot, value) in &account.storage {
            let place = places.of(slot).map_err(|error| Problem::from(error).of(path))?;
            let unknown = || Problem::UnknownPlace { account: *address, slot: *slot }.of(path);
            writes.push((*address, place.ok_or_else(unknown)?, *value));
        }
    }
    let existed = path.exists();
    let made = fill(path, field, state, &writes);
    if made.is_err() && !existed {
        // Nothing but what this function has begun; that it cannot be removed is not what went wrong.
        let _ = std::fs::remove_file(path);
    }
    made.map_err(|problem| problem.of(path))
}

fn fill(path: &Path, field: &str, state: &State, writes: &[Write]) -> Result<Box<dyn Storage>, Problem> {
    let mut storage = storage::create(path, field)?;
    for (address, account) in &state.accounts {
        storage.set_account(address, &account_record(account));
    }
    storage.write(writes)?;
    storage.commit()?;
    Ok(storage)
}

/// Opens a state file.
///
/// # Errors
/// When it cannot be read, is no state file, or is damaged.
pub fn open(path: &Path) -> Result<Box<dyn Storage>, Error> {
    storage::open(path).map_err(|error| Problem::from(error).of(path))
}

/// Takes the slots and accounts of a file that have changed to what they are now, and gives the root. All of it is in the file then, or, on an
/// error, nothing. `known` tells the places of slots that get their leaf now. `roots`, where it is given, are the roots that a proof of
/// the changes begins and ends with.
///
/// # Errors
/// `UnknownPlace` for the first new slot whose place is not known; `Moved` and `OtherRoot` if the roots are others.
pub fn advance(
    path: &Path,
    changes: &Changes,
    known: &mut dyn FnMut(&Address) -> Places,
    roots: Option<[Word; 2]>,
) -> Result<Word, Problem> {
    let mut storage = storage::open(path)?;
    let found = storage.root()?;
    if let Some([expected, _]) = roots.filter(|[expected, _]| *expected != found) {
        return Err(Problem::Moved { found, expected });
    }
    let mut writes: Vec<Write> = Vec::new();
    for (address, change) in &changes.accounts {
        let mut new = BTreeMap::new();
        for (slot, value) in &change.storage {
            match storage.place(address, slot)? {
                Some(place) => writes.push((*address, place, *value)),
                None if value.is_zero() => {}
                None => drop(new.insert(*slot, *value)),
            }
        }
        if !new.is_empty() {
            let mut places = known(address);
            places.try_constants(new.keys());
            for (slot, value) in new {
                let place = places.of(&slot)?.ok_or(Problem::UnknownPlace { account: *address, slot })?;
                writes.push((*address, place, value));
            }
        }
        let mut account = match storage.account(address)? {
            Some(record) => account_of(&record).ok_or(Problem::Account(*address))?,
            None => Account::default(),
        };
        let before = account_record(&account);
        account.apply(&AccountChange { storage: BTreeMap::new(), ..change.clone() });
        let after = account_record(&account);
        if after != before {
            storage.set_account(address, &after);
        }
    }
    storage.write(&writes)?;
    let found = storage.root()?;
    if let Some([_, expected]) = roots.filter(|[_, expected]| *expected != found) {
        return Err(Problem::OtherRoot { found, expected });
    }
    storage.commit()?;
    Ok(found)
}

/// The state in a file.
///
/// # Errors
/// When the file is damaged.
pub fn export(storage: &dyn Storage) -> Result<State, Problem> {
    let mut state = accounts(storage)?;
    storage.for_each_slot(&mut |slot| {
        if !slot.value.is_zero() {
            state.accounts.entry(slot.address).or_default().storage.insert(slot.slot, slot.value);
        }
    })?;
    Ok(state)
}

/// The accounts in a file, without their storage.
///
/// # Errors
/// When the file is damaged.
pub fn accounts(storage: &dyn Storage) -> Result<State, Problem> {
    let mut state = State::default();
    let mut damaged = None;
    storage.for_each_account(&mut |address, record| match account_of(record) {
        Some(account) => drop(state.accounts.insert(address, account)),
        None => damaged = damaged.or(Some(address)),
    })?;
    match damaged {
        Some(address) => Err(Problem::Account(address)),
        None => Ok(state),
    }
}

/// The place that a user means by a place's text or a slot number.
///
/// # Errors
/// When the text is malformed, or it is the number of a hash that the file does not know.
pub fn place(storage: &dyn Storage, address: &Address, text: &str) -> Result<Place, Problem> {
    match text.parse::<Place>()? {
        Place::Plain(slot) if slot.bit_len() > 64 => {
            storage.place(address, &slot)?.ok_or(Problem::UnknownPlace { account: *address, slot })
        }
        place => Ok(place),
    }
}

/// Balance, nonce, code.
fn account_record(account: &Account) -> Vec<u8> {
    let balance = account.balance.to_be_bytes::<32>();
    [&balance[..], &account.nonce.to_be_bytes()[..], account.code.as_slice()].concat()
}

fn account_of(record: &[u8]) -> Option<Account> {
    let balance = Word::from_be_bytes::<32>(record.get(..32)?.try_into().ok()?);
    let nonce = u64::from_be_bytes(record.get(32..40)?.try_into().ok()?);
    Some(Account { balance, nonce, code: record.get(40..)?.to_vec(), ..Account::default() })
}

// Proofs of slots as JSON.

/// A proof, and what it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotProof {
    /// The account.
    pub address: Address,
    /// The place.
    pub place: Place,
    /// What shows its value.
    pub proof: PlainProof,
}

fn hex_word(word: &Word) -> Value {
    Value::from(format!("{word:#066x}"))
}

impl SlotProof {
    /// The proof of a slot in a file.
    ///
    /// # Errors
    /// When the file is damaged.
    pub fn new(storage: &dyn Storage, address: &Address, place: &Place) -> Result<Self, Problem> {
        Ok(Self { address: *address, place: place.clone(), proof: storage.prove(address, place)? })
    }

    /// The value of the slot in the state of `root`.
    ///
    /// # Errors
    /// What does not hold.
    pub fn verify(&self, root: &Word) -> Result<Word, PlainProofError> {
        self.proof.verify(root, &self.address, &self.place)
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let proof = &self.proof;
        let path: Vec<Vec<Value>> = proof.path.iter().map(|node| node.iter().map(hex_word).collect()).collect();
        json!({
            "address": format!("0x{}", hex::encode(self.address)),
            "place": self.place.to_string(),
            "slot": hex_word(&self.place.slot()),
            "field": proof.field,
            "tree": hex_word(&proof.tree),
            "open": hex_word(&proof.open),
            "count": proof.count,
            "leaf": {
                "index": proof.index,
                "key": hex_word(&proof.leaf[0]),
                "value": hex_word(&proof.leaf[1]),
                "next": hex_word(&proof.leaf[2]),
            },
            "path": path,
        })
    }

    /// From JSON. The slot is not read: it follows from the place.
    ///
    /// # Errors
    /// Naming the field that is wrong.
    pub fn from_json(path: &str, json: &[u8]) -> Result<Self, Error> {
        let document: Value =
            serde_json::from_slice(json).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        let wrong = |at: &str, expected| Error::Field { path: path.to_owned(), at: at.to_owned(), expected };
        let at = |pointer: &str| document.pointer(&format!("/{}", pointer.replace('.', "/")));
        let text =
            |pointer: &str| at(pointer).and_then(call::scalar).ok_or_else(|| wrong(pointer, "a number or a string"));
        let word = |pointer: &str| call::word(pointer, &text(pointer)?);
        let number = |pointer: &str| u64::try_from(word(pointer)?).map_err(|_| wrong(pointer, "below 2^64"));
        let list = at("path").and_then(Value::as_array).ok_or_else(|| wrong("path", "a list of nodes"))?;
        let mut nodes = Vec::new();
        for level in 0..list.len().min(64) {
            let mut node = [Word::ZERO; WIDE];
            for (child, digest) in node.iter_mut().enumerate() {
                *digest = word(&format!("path.{level}.{child}"))?;
            }
            nodes.push(node);
        }
        let place = text("place")?.parse::<Place>().map_err(|_| wrong("place", "a place"))?;
        Ok(Self {
            address: call::address("address", &text("address")?)?,
            place,
            proof: PlainProof {
                field: text("field")?,
                tree: word("tree")?,
                open: word("open")?,
                count: number("count")?,
                leaf: [word("leaf.key")?, word("leaf.value")?, word("leaf.next")?],
                index: number("leaf.index")?,
                path: nodes,
            },
        })
    }
}
