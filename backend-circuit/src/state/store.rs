//! Where the leaves and nodes of a state tree are kept: in memory, or in a file ([`super::file`]).

use std::collections::{BTreeMap, HashMap};

use ff::PrimeField;
use zvm_ir::Word as U256;

use super::tree::Leaf;
use crate::field::to_u256;

/// Leaves by number and by key, and digests of nodes. A store knows nothing about hashing.
pub trait Store<F> {
    /// The number of leaves.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn count(&self) -> Result<u64, StoreError>;
    /// Leaf `index`.
    ///
    /// # Errors
    /// When the store cannot be read, or has no such leaf.
    fn leaf(&self, index: u64) -> Result<Leaf<F>, StoreError>;
    /// The number of the leaf with the largest key up to `key`.
    ///
    /// # Errors
    /// When the store cannot be read, or is empty.
    fn floor(&self, key: &U256) -> Result<u64, StoreError>;
    /// The digest of node `index` of `level`; `None` if none was set.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn node(&self, level: usize, index: u64) -> Result<Option<F>, StoreError>;
    /// Adds a leaf and gives its number. No leaf has its key.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn push_leaf(&mut self, leaf: &Leaf<F>) -> Result<u64, StoreError>;
    /// Changes value and next key of leaf `index`.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn set_leaf(&mut self, index: u64, leaf: &Leaf<F>) -> Result<(), StoreError>;
    /// Sets the digest of a node.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn set_node(&mut self, level: usize, index: u64, digest: F) -> Result<(), StoreError>;
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system or the database failed.
    #[error("{0}")]
    Database(String),
    /// The file is no state of this program.
    #[error("this is no state file: {0}")]
    Foreign(String),
    /// The file was written by another version.
    #[error("the state file has version {found}; this program reads version {expected}")]
    Version {
        /// The file's.
        found: u64,
        /// This program's.
        expected: u64,
    },
    /// The file is a state over another field.
    #[error("the state is one over the field of {found}, not of {expected}")]
    Field {
        /// The file's.
        found: String,
        /// The one asked for.
        expected: String,
    },
    /// A part is missing or is not what the rest says.
    #[error("the state is damaged: {what} is wrong or missing")]
    Damaged {
        /// The part.
        what: String,
    },
}

/// A store in memory.
#[derive(Clone, Debug, Default)]
pub struct Memory<F> {
    leaves: Vec<Leaf<F>>,
    keys: BTreeMap<U256, u64>,
    nodes: HashMap<(usize, u64), F>,
}

impl<F: PrimeField> Store<F> for Memory<F> {
    fn count(&self) -> Result<u64, StoreError> {
        Ok(self.leaves.len() as u64)
    }

    fn leaf(&self, index: u64) -> Result<Leaf<F>, StoreError> {
        let leaf = usize::try_from(index).ok().and_then(|index| self.leaves.get(index)).copied();
        leaf.ok_or_else(|| StoreError::Damaged { what: format!("leaf {index}") })
    }

    fn floor(&self, key: &U256) -> Result<u64, StoreError> {
        let found = self.keys.range(..=*key).next_back();
        found.map(|(_, index)| *index).ok_or_else(|| StoreError::Damaged { what: "the first leaf".to_owned() })
    }

    fn node(&self, level: usize, index: u64) -> Result<Option<F>, StoreError> {
        Ok(self.nodes.get(&(level, index)).copied())
    }

    fn push_leaf(&mut self, leaf: &Leaf<F>) -> Result<u64, StoreError> {
        let index = self.leaves.len() as u64;
        self.leaves.push(*leaf);
        self.keys.insert(to_u256(&leaf.key), index);
        Ok(index)
    }

    fn set_leaf(&mut self, index: u64, leaf: &Leaf<F>) -> Result<(), StoreError> {
        let found = usize::try_from(index).ok().and_then(|index| self.leaves.get_mut(index));
        *found.ok_or_else(|| StoreError::Damaged { what: format!("leaf {index}") })? = *leaf;
        Ok(())
    }

    fn set_node(&mut self, level: usize, index: u64, digest: F) -> Result<(), StoreError> {
        self.nodes.insert((level, index), digest);
        Ok(())
    }
}
