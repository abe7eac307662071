//! The storage of accounts in a file: a state tree with the place and the slot of each leaf beside it.
//!
//! A tree knows keys only. Here every leaf comes with its account, its place and the slot number that the EVM has for it, so that the
//! state can be given back to an EVM. [`Storage`] is the same for all fields: numbers go in and out as integers.

use std::collections::BTreeMap;
use std::path::Path as FilePath;

use ff::PrimeField;
use zvm_ir::Word as U256;
use zvm_ir::outcome::Address;

use super::file::{File, field_name, field_of};
use super::place::Place;
use super::poseidon::WIDE;
use super::proof::{Proof, ProofError};
use super::store::StoreError;
use super::tree::{LEVELS, Leaf, Parts, Tree, TreeError};
use super::walk::{Walk, walk};
use crate::field::{from_u256, to_u256};

/// The scalar field of BN254, over which long executions are folded.
pub type Bn254 = crate::nova::Fr;
/// The scalar field of BLS12-381, whose proofs the EVM's precompiles verify.
pub type Bls12 = blstrs::Scalar;

/// Why a storage cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tree is full.
    #[error(transparent)]
    Tree(TreeError),
    /// There is no such field.
    #[error("there is no field `{0}`; there are bn254 and bls12-381")]
    UnknownField(String),
    /// Two places of an account are one slot: they were not made by one compiler.
    #[error("`{0}` and `{1}` of account 0x{account} are the same slot", account = hex(.2))]
    OneSlot(Place, Place, Address),
    /// Two different slots have one key, or the same was given twice.
    #[error("`{0}` was given twice")]
    Twice(Place),
}

impl From<TreeError> for StorageError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Store(error) => Self::Store(error),
            error => Self::Tree(error),
        }
    }
}

fn hex(address: &Address) -> String {
    address.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A slot of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// The account.
    pub address: Address,
    /// The place.
    pub place: Place,
    /// The slot number, which follows from the place.
    pub slot: U256,
    /// The value.
    pub value: U256,
}

/// A slot and the value that it gets.
pub type Write = (Address, Place, U256);

/// Storage in a file, over one of the fields.
pub trait Storage {
    /// The name of the field.
    fn field(&self) -> String;
    /// The root.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn root(&self) -> Result<U256, StorageError>;
    /// The number of leaves, the sentinel included.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn leaves(&self) -> Result<u64, StorageError>;
    /// The value at a place.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn value(&self, address: &Address, place: &Place) -> Result<U256, StorageError>;
    /// The place of a slot that has a leaf.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn place(&self, address: &Address, slot: &U256) -> Result<Option<Place>, StorageError>;
    /// Calls `visit` with each slot that has a leaf, in the order of accounts and slots.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn for_each_slot(&self, visit: &mut dyn FnMut(Slot)) -> Result<(), StorageError>;
    /// Takes slots to new values. Nothing is in the file before [`Storage::commit`].
    ///
    /// # Errors
    /// When the tree is full, two places are one slot, or a place is given twice.
    fn write(&mut self, writes: &[Write]) -> Result<(), StorageError>;
    /// A record about an account, in whatever form the caller likes.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn account(&self, address: &Address) -> Result<Option<Vec<u8>>, StorageError>;
    /// Sets the record about an account.
    fn set_account(&mut self, address: &Address, record: &[u8]);
    /// Calls `visit` with each account that has a record.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn for_each_account(&self, visit: &mut dyn FnMut(Address, &[u8])) -> Result<(), StorageError>;
    /// Writes all changes to the file, or none.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn commit(&mut self) -> Result<(), StorageError>;
    /// What shows the value at a place.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn prove(&self, address: &Address, place: &Place) -> Result<PlainProof, StorageError>;
    /// Checks every digest, the chain of keys, and the place of each leaf.
    ///
    /// # Errors
    /// With what is wrong.
    fn check(&self) -> Result<(), StorageError>;
}

/// A new file over a field, which must not exist.
///
/// # Errors
/// When there is no such field, the file exists, or it cannot be written.
pub fn create(path: &FilePath, field: &str) -> Result<Box<dyn Storage>, StorageError> {
    match field {
        "bn254" => Ok(Box::new(File::<Bn254>::create(path)?)),
        "bls12-381" => Ok(Box::new(File::<Bls12>::create(path)?)),
        _ => Err(StorageError::UnknownField(field.to_owned())),
    }
}

/// Opens a file over whatever field it is.
///
/// # Errors
/// As [`File::open`].
pub fn open(path: &FilePath) -> Result<Box<dyn Storage>, StorageError> {
    let field = field_of(path)?;
    match field.as_str() {
        "bn254" => Ok(Box::new(File::<Bn254>::open(path)?)),
        "bls12-381" => Ok(Box::new(File::<Bls12>::open(path)?)),
        _ => Err(StorageError::UnknownField(field)),
    }
}

/// The record of a slot: its name is the prefix, the account and the slot, so that records are in that order.
const SLOT: u8 = b's';
/// The record of an account.
const ACCOUNT: u8 = b'a';

fn slot_name(address: &Address, slot: &U256) -> Vec<u8> {
    [&[SLOT], address.as_slice(), &slot.to_be_bytes::<32>()].concat()
}

/// The account, slot and place of a record.
fn slot_of(name: &[u8], value: &[u8]) -> Result<(Address, U256, Place), StoreError> {
    let damaged = || StoreError::Damaged { what: "the place of a slot".to_owned() };
    let address = name.get(1..21).and_then(|bytes| bytes.try_into().ok()).ok_or_else(damaged)?;
    let slot = name.get(21..).filter(|bytes| bytes.len() == 32).and_then(U256::try_from_be_slice);
    let place: Place = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
    let slot = slot.filter(|slot| *slot == place.slot()).ok_or_else(damaged)?;
    Ok((address, slot, place))
}

impl<F: PrimeField> Tree<F, File<F>> {
    /// Takes slots to new values, and gives the walk that does so in a proof. Slots that stay as they are may be among them: the walk
    /// reads them. Nothing is in the file before the commit.
    ///
    /// # Errors
    /// As [`Storage::write`].
    pub fn touch(&mut self, slots: &[Write]) -> Result<Walk<F>, StorageError> {
        let touched = self.note(slots)?;
        let list: Vec<(F, U256)> = touched.iter().map(|(key, value)| (from_u256(key), *value)).collect();
        Ok(walk(self, &list)?)
    }

    /// Writes down the places of new leaves; keys and values in the order of keys.
    fn note(&mut self, slots: &[Write]) -> Result<Vec<(U256, U256)>, StorageError> {
        let mut touched: Vec<(U256, &Write)> =
            slots.iter().map(|write| (to_u256(&write.1.key::<F>(&write.0)), write)).collect();
        touched.sort_by_key(|(key, _)| *key);
        if let Some(pair) = touched.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(StorageError::Twice(pair[1].1.1.clone()));
        }
        for (_, (address, place, value)) in &touched {
            let name = slot_name(address, &place.slot());
            match self.store().record(&name)? {
                Some(known) => {
                    let (_, _, known) = slot_of(&name, &known)?;
                    if known != *place {
                        return Err(StorageError::OneSlot(known, place.clone(), *address));
                    }
                }
                None if value.is_zero() => {}
                None => self.store_mut().set_record(&name, Some(place.to_string().as_bytes())),
            }
        }
        Ok(touched.into_iter().map(|(key, (_, _, value))| (key, *value)).collect())
    }
}

impl<F: PrimeField> Storage for Tree<F, File<F>> {
    fn field(&self) -> String {
        field_name::<F>()
    }

    fn root(&self) -> Result<U256, StorageError> {
        Ok(to_u256(&Self::root(self)?))
    }

    fn leaves(&self) -> Result<u64, StorageError> {
        Ok(self.parts()?.count)
    }

    fn value(&self, address: &Address, place: &Place) -> Result<U256, StorageError> {
        Ok(Self::value(self, &place.key(address))?)
    }

    fn place(&self, address: &Address, slot: &U256) -> Result<Option<Place>, StorageError> {
        let name = slot_name(address, slot);
        let record = self.store().record(&name)?;
        Ok(record.map(|value| slot_of(&name, &value)).transpose()?.map(|(_, _, place)| place))
    }

    fn for_each_slot(&self, visit: &mut dyn FnMut(Slot)) -> Result<(), StorageError> {
        self.store().for_each_record(&[SLOT], |name, value| {
            let (address, slot, place) = slot_of(name, value)?;
            let value = Self::value(self, &place.key(&address))?;
            visit(Slot { address, place, slot, value });
            Ok(())
        })
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StorageError> {
        if self.parts()?.count > 1 {
            return self.touch(writes).map(drop);
        }
        // The same leaves in the same order, with each node computed once.
        let entries: BTreeMap<U256, U256> = self.note(writes)?.into_iter().collect();
        Ok(self.fill(&entries)?)
    }

    fn account(&self, address: &Address) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.store().record(&[&[ACCOUNT], address.as_slice()].concat())?)
    }

    fn set_account(&mut self, address: &Address, record: &[u8]) {
        self.store_mut().set_record(&[&[ACCOUNT], address.as_slice()].concat(), Some(record));
    }

    fn for_each_account(&self, visit: &mut dyn FnMut(Address, &[u8])) -> Result<(), StorageError> {
        self.store().for_each_record(&[ACCOUNT], |name, value| {
            let address = name.get(1..).and_then(|bytes| bytes.try_into().ok());
            let address = address.ok_or_else(|| StoreError::Damaged { what: "the record of an account".to_owned() })?;
            visit(address, value);
            Ok(())
        })
    }

    fn commit(&mut self) -> Result<(), StorageError> {
        Ok(Self::commit(self)?)
    }

    fn prove(&self, address: &Address, place: &Place) -> Result<PlainProof, StorageError> {
        let proof = Proof::new(self, &place.key::<F>(address))?;
        Ok(PlainProof::from_proof(&proof))
    }

    fn check(&self) -> Result<(), StorageError> {
        Self::check(self)?;
        let mut placed = 1u64;
        self.store().for_each_record(&[SLOT], |name, value| {
            let (address, _, place) = slot_of(name, value)?;
            let key = place.key::<F>(&address);
            placed += 1;
            if self.find(&key)?.1.key == key {
                return Ok(());
            }
            Err(StoreError::Damaged { what: format!("the leaf of `{place}`") })
        })?;
        if placed == self.parts()?.count {
            return Ok(());
        }
        Err(StoreError::Damaged { what: "the place of a leaf".to_owned() }.into())
    }
}

/// A [`Proof`] whose elements are integers, with the name of its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainProof {
    /// The field.
    pub field: String,
    /// The topmost node.
    pub tree: U256,
    /// The open node.
    pub open: U256,
    /// The number of leaves.
    pub count: u64,
    /// The leaf's key, value and next key.
    pub leaf: [U256; 3],
    /// The leaf's number.
    pub index: u64,
    /// The children of the nodes above the leaf.
    pub path: Vec<[U256; WIDE]>,
}

/// Why a [`PlainProof`] shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlainProofError {
    /// It does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// There is no such field.
    #[error("there is no field `{0}`; there are bn254 and bls12-381")]
    UnknownField(String),
    /// A number is no element of the field.
    #[error("{0:#x} is no element of the field")]
    Element(U256),
    /// The path has another length than trees have.
    #[error("the path has {0} nodes, those of a state tree have {LEVELS}")]
    Length(usize),
}

impl PlainProof {
    fn from_proof<F: PrimeField>(proof: &Proof<F>) -> Self {
        let Leaf { key, value, next } = proof.leaf;
        Self {
            field: field_name::<F>(),
            tree: to_u256(&proof.parts.tree),
            open: to_u256(&proof.parts.open),
            count: proof.parts.count,
            leaf: [to_u256(&key), value, to_u256(&next)],
            index: proof.index,
            path: proof.path.iter().map(|children| children.map(|child| to_u256(&child))).collect(),
        }
    }

    /// The value at `place` of `address` in the state of `root`.
    ///
    /// # Errors
    /// What does not hold.
    pub fn verify(&self, root: &U256, address: &Address, place: &Place) -> Result<U256, PlainProofError> {
        match self.field.as_str() {
            "bn254" => self.verify_over::<Bn254>(root, address, place),
            "bls12-381" => self.verify_over::<Bls12>(root, address, place),
            _ => Err(PlainProofError::UnknownField(self.field.clone())),
        }
    }

    fn verify_over<F: PrimeField>(
        &self,
        root: &U256,
        address: &Address,
        place: &Place,
    ) -> Result<U256, PlainProofError> {
        let element = |integer: &U256| {
            if *integer < super::order::modulus::<F>() {
                Ok(from_u256::<F>(integer))
            } else {
                Err(PlainProofError::Element(*integer))
            }
        };
        if self.path.len() != LEVELS {
            return Err(PlainProofError::Length(self.path.len()));
        }
        let mut path = [[F::ZERO; WIDE]; LEVELS];
        for (to, from) in path.iter_mut().flatten().zip(self.path.iter().flatten()) {
            *to = element(from)?;
        }
        let proof = Proof {
            parts: Parts { tree: element(&self.tree)?, open: element(&self.open)?, count: self.count },
            leaf: Leaf { key: element(&self.leaf[0])?, value: self.leaf[1], next: element(&self.leaf[2])? },
            index: self.index,
            path,
        };
        Ok(proof.verify(&element(root)?, &place.key(address))?)
    }
}
