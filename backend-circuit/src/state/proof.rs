//! A proof that a slot has a value in the state of a root, without the state.
//!
//! It shows a leaf and its path: that of the slot's key, or the one behind which the key would be, whose next key is beyond it.

use ff::PrimeField;
use zvm_ir::Word as U256;

use super::poseidon::{Domain, Hasher, WIDE};
use super::store::{Store, StoreError};
use super::tree::{CAPACITY, LEVELS, Leaf, Parts, Path, Tree, position};

/// What shows the value of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof<F> {
    /// What the root is the hash of.
    pub parts: Parts<F>,
    /// The leaf of the key, or of its predecessor.
    pub leaf: Leaf<F>,
    /// The leaf's number.
    pub index: u64,
    /// The children of the nodes above it. Only the first node counts for a leaf in the open node.
    pub path: Path<F>,
}

/// Why a proof shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The root is not the hash of the parts.
    #[error("the proof is about another root")]
    Root,
    /// The leaf's number is beyond the number of leaves.
    #[error("there is no leaf of that number")]
    Index,
    /// A node is not the one below the next, or the leaf is not in its place.
    #[error("the path does not lead from the leaf to the root")]
    Path,
    /// The leaf is about another key.
    #[error("the leaf neither has the key nor shows that it is absent")]
    Key,
}

impl<F: PrimeField> Proof<F> {
    /// The proof for `key` in `tree`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn new<S: Store<F>>(tree: &Tree<F, S>, key: &F) -> Result<Self, StoreError> {
        let (index, leaf) = tree.find(key)?;
        Ok(Self { parts: tree.parts()?, leaf, index, path: tree.path(index)? })
    }

    /// The value of `key` in the state of `root`; zero where it is absent.
    ///
    /// # Errors
    /// What does not hold.
    pub fn verify(&self, root: &F, key: &F) -> Result<U256, ProofError> {
        let hasher = Hasher::<F>::shared();
        if self.parts.root(&hasher) != *root {
            return Err(ProofError::Root);
        }
        if self.index >= self.parts.count || self.parts.count > CAPACITY {
            return Err(ProofError::Index);
        }
        let open = self.index / WIDE as u64 == self.parts.count / WIDE as u64;
        let mut digest = self.leaf.digest(&hasher);
        for (level, children) in self.path.iter().enumerate().take(if open { 1 } else { LEVELS }) {
            if children[position(self.index, level)] != digest {
                return Err(ProofError::Path);
            }
            digest = hasher.hash(Domain::Node, children);
        }
        if digest != if open { self.parts.open } else { self.parts.tree } {
            return Err(ProofError::Path);
        }
        if self.leaf.key == *key && *key != F::ZERO {
            return Ok(self.leaf.value);
        }
        if self.leaf.excludes(key) { Ok(U256::ZERO) } else { Err(ProofError::Key) }
    }
}
