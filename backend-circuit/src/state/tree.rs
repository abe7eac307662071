//! The state tree: an indexed Merkle tree with nodes of eight children.
//!
//! Each leaf holds a key, its value and the next larger key, so that a leaf also shows which keys are absent: those between its
//! key and the next. The last leaf's next key is zero, and the first leaf is the sentinel with key zero, which is no place's.
//! Keys are field elements in the order of the integers below the modulus.
//!
//! ```text
//! root = H(tree, open, count, field, version)
//! tree = 10 levels of nodes H(8 children) over leaves H(key, value low, value high, next key)
//! ```
//!
//! Leaves are numbered in the order in which they came, never by key. The `count` says how many there are; a new one takes the
//! number `count`, so that none is overwritten. The node of the last eight numbers is *open* while it has room: it is a part of the root,
//! not of `tree`, where its place is empty. A new leaf is then a change of one node; each eighth time the open node is full and is put in
//! its place in `tree`, a change of one path. An empty leaf is zero, an empty node the hash of empty children.
//!
//! **Roots and states.** A slot that is cleared keeps its leaf, with value zero, which says the same as no leaf. Leaves are numbered by
//! history. So one root stands for one state, but one state may have several roots; [`Tree::build`] makes the canonical one: leaves
//! in the order of their keys, and none of value zero.
//!
//! **Why this shape** (rows of `docs/state-tree.md`). A permutation of arity 8 has 384 rows and selects by 3 bits; arity 4 and
//! 16 cost 11 and 13 % more rows per bit. Ten levels hold 2^30 leaves. With the new leaf in `tree`, an insertion would be two paths
//! (its predecessor's and its own), about 17,800 rows; with the open node it is one and an eighth.

use std::collections::BTreeMap;
use std::sync::Arc;

use ff::PrimeField;
use zvm_ir::Word as U256;

use super::order::modulus;
use super::poseidon::{Domain, Hasher, WIDE};
use super::store::{Store, StoreError};
use crate::field::{from_u256, to_u256};
use crate::gadgets::native_limbs;

/// Levels of nodes between leaves and `tree`.
pub const LEVELS: usize = 10;
/// The most leaves.
pub const CAPACITY: u64 = 1 << (3 * LEVELS);
/// The version of the tree's shape, a part of each root.
pub const VERSION: u64 = 1;

/// The children of a node.
pub type Children<F> = [F; WIDE];
/// The children of the nodes above a leaf, from the lowest.
pub type Path<F> = [Children<F>; LEVELS];

/// A leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf<F> {
    /// The key; zero for the sentinel.
    pub key: F,
    /// The value.
    pub value: U256,
    /// The next larger key; zero for the last leaf.
    pub next: F,
}

impl<F: PrimeField> Leaf<F> {
    /// The first leaf of an empty tree.
    pub fn sentinel() -> Self {
        Self { key: F::ZERO, value: U256::ZERO, next: F::ZERO }
    }

    /// The digest.
    pub fn digest(&self, hasher: &Hasher<F>) -> F {
        let value = native_limbs::<F>(256, &self.value);
        hasher.leaf(&[self.key, value[0], value[1], self.next])
    }

    /// Whether this leaf shows that `key` has no leaf.
    pub fn excludes(&self, key: &F) -> bool {
        let key = to_u256(key);
        to_u256(&self.key) < key && (self.next == F::ZERO || key < to_u256(&self.next))
    }
}

/// What a root is the hash of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<F> {
    /// The topmost node.
    pub tree: F,
    /// The open node; an empty one where the number of leaves is a multiple of eight.
    pub open: F,
    /// The number of leaves, the sentinel included.
    pub count: u64,
}

impl<F: PrimeField> Parts<F> {
    /// The root.
    pub fn root(&self, hasher: &Hasher<F>) -> F {
        hasher.hash(Domain::Root, &root_elements(self.tree, self.open, F::from(self.count), |constant| constant))
    }
}

/// The elements that the root hashes.
pub(super) fn root_elements<F: PrimeField, T>(tree: T, open: T, count: T, constant: impl Fn(F) -> T) -> [T; WIDE] {
    // The modulus is 1 modulo a power of two, so its upper half tells fields apart.
    let field = from_u256(&(modulus::<F>() >> 128));
    let zero = || constant(F::ZERO);
    [tree, open, count, constant(field), constant(F::from(VERSION)), zero(), zero(), zero()]
}

/// The digest of a node without leaves.
pub(super) fn empty_node<F: PrimeField>(hasher: &Hasher<F>) -> F {
    hasher.hash(Domain::Node, &[F::ZERO; WIDE])
}

/// Digests of empty leaves and nodes, by level.
pub fn empty_digests<F: PrimeField>(hasher: &Hasher<F>) -> [F; LEVELS + 1] {
    let mut digests = [F::ZERO; LEVELS + 1];
    for level in 1..=LEVELS {
        digests[level] = hasher.hash(Domain::Node, &[digests[level - 1]; WIDE]);
    }
    digests
}

/// The place of the child of level `level` (0 for leaves) in the node above it, on the path of leaf `index`.
pub(super) fn position(index: u64, level: usize) -> usize {
    (index >> (3 * level)) as usize % WIDE
}

/// A state tree over a store of leaves and nodes.
#[derive(Debug)]
pub struct Tree<F: PrimeField, S> {
    store: S,
    hasher: Arc<Hasher<F>>,
    empty: [F; LEVELS + 1],
}

/// Keys that a walk touches are not in order, or the tree is full.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no room for another leaf.
    #[error("the state tree is full: it holds {CAPACITY} leaves")]
    Full,
    /// Keys were not given in increasing order, or one of them is zero. A fault of the caller.
    #[error("keys must be given once each, in increasing order, and none is zero")]
    Order,
}

impl<F: PrimeField, S: Store<F>> Tree<F, S> {
    /// The tree in a store; an empty store gets the tree without entries.
    ///
    /// # Errors
    /// When the store fails.
    pub fn new(store: S) -> Result<Self, StoreError> {
        let hasher = Hasher::shared();
        let empty = empty_digests(&hasher);
        let mut tree = Self { store, hasher, empty };
        tree.begin()?;
        Ok(tree)
    }

    /// Gives an empty store the sentinel.
    pub(super) fn begin(&mut self) -> Result<(), StoreError> {
        if self.store.count()? == 0 {
            self.push(&Leaf::sentinel())?;
        }
        Ok(())
    }

    /// The canonical tree of these entries, in a store that is empty. Entries of value zero are left out.
    ///
    /// # Errors
    /// When the store fails or is not empty, a key is zero, or there are too many.
    pub fn build(store: S, entries: &BTreeMap<U256, U256>) -> Result<Self, TreeError> {
        let mut tree = Self::new(store)?;
        tree.fill(entries)?;
        Ok(tree)
    }

    /// Makes a tree without entries the canonical one of these. Entries of value zero are left out.
    ///
    /// # Errors
    /// When the store fails, there are entries already, a key is zero, or there are too many.
    pub fn fill(&mut self, entries: &BTreeMap<U256, U256>) -> Result<(), TreeError> {
        let entries: Vec<(F, U256)> =
            entries.iter().filter(|(_, value)| !value.is_zero()).map(|(key, value)| (from_u256(key), *value)).collect();
        let in_order = |pair: &[(F, U256)]| to_u256(&pair[0].0) < to_u256(&pair[1].0);
        if self.store.count()? != 1
            || !entries.windows(2).all(in_order)
            || entries.first().is_some_and(|e| e.0 == F::ZERO)
        {
            return Err(TreeError::Order);
        }
        if entries.len() as u64 >= CAPACITY {
            return Err(TreeError::Full);
        }
        let next = |at: usize| entries.get(at).map_or(F::ZERO, |(key, _)| *key);
        self.set(0, &Leaf { next: next(0), ..Leaf::sentinel() })?;
        let mut full = Vec::with_capacity(entries.len() / WIDE);
        for (at, (key, value)) in entries.iter().enumerate() {
            let index = self.push(&Leaf { key: *key, value: *value, next: next(at + 1) })?;
            if (index + 1).is_multiple_of(WIDE as u64) {
                full.push(self.hash_children(1, index / WIDE as u64)?);
            }
        }
        // Level by level, each node once.
        for level in 1..=LEVELS {
            let mut above = Vec::with_capacity(full.len() / WIDE + 1);
            for (index, digest) in full.iter().enumerate() {
                self.store.set_node(level, index as u64, *digest)?;
            }
            if level < LEVELS {
                for chunk in full.chunks(WIDE) {
                    let mut children = [self.empty[level]; WIDE];
                    children[..chunk.len()].copy_from_slice(chunk);
                    above.push(self.hasher.hash(Domain::Node, &children));
                }
            }
            full = above;
        }
        Ok(())
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, to be written to beside the tree.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// The store, with what was changed.
    pub fn into_store(self) -> S {
        self.store
    }

    /// The hash functions.
    pub fn hasher(&self) -> &Hasher<F> {
        &self.hasher
    }

    /// What the root is the hash of.
    ///
    /// # Errors
    /// When the store fails.
    pub fn parts(&self) -> Result<Parts<F>, StoreError> {
        let count = self.store.count()?;
        let tree = self.node(LEVELS, 0)?;
        let open = self.hash_children(1, count / WIDE as u64)?;
        Ok(Parts { tree, open, count })
    }

    /// The root.
    ///
    /// # Errors
    /// When the store fails.
    pub fn root(&self) -> Result<F, StoreError> {
        Ok(self.parts()?.root(&self.hasher))
    }

    /// The number of the leaf of `key`, or of its predecessor, and that leaf.
    ///
    /// # Errors
    /// When the store fails.
    pub fn find(&self, key: &F) -> Result<(u64, Leaf<F>), StoreError> {
        let index = self.store.floor(&to_u256(key))?;
        Ok((index, self.store.leaf(index)?))
    }

    /// The value of `key`; zero where there is no leaf.
    ///
    /// # Errors
    /// When the store fails.
    pub fn value(&self, key: &F) -> Result<U256, StoreError> {
        let (_, leaf) = self.find(key)?;
        Ok(if leaf.key == *key { leaf.value } else { U256::ZERO })
    }

    /// Whether leaf `index` is in the open node.
    ///
    /// # Errors
    /// When the store fails.
    pub fn in_open(&self, index: u64) -> Result<bool, StoreError> {
        Ok(index / WIDE as u64 == self.store.count()? / WIDE as u64)
    }

    /// The children of the nodes above leaf `index`. For a leaf in the open node those above it belong to no node of the tree: they
    /// are zero beside the path.
    ///
    /// # Errors
    /// When the store fails.
    pub fn path(&self, index: u64) -> Result<Path<F>, StoreError> {
        let mut path = [[F::ZERO; WIDE]; LEVELS];
        path[0] = self.children(1, index / WIDE as u64)?;
        let open = self.in_open(index)?;
        for level in 1..LEVELS {
            path[level] = if open {
                let mut children = [F::ZERO; WIDE];
                children[position(index, level)] = self.hasher.hash(Domain::Node, &path[level - 1]);
                children
            } else {
                self.children(level + 1, index >> (3 * (level + 1)))?
            };
        }
        Ok(path)
    }

    /// The children of the nodes above the place of the open node, which must be full: from level 2 on.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn open_path(&self) -> Result<Vec<Children<F>>, StoreError> {
        let index = self.store.count()?.saturating_sub(1);
        (1..LEVELS).map(|level| self.children(level + 1, index >> (3 * (level + 1)))).collect()
    }

    /// Changes leaf `index`.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn set_leaf(&mut self, index: u64, leaf: &Leaf<F>) -> Result<(), StoreError> {
        self.set(index, leaf)?;
        if !self.in_open(index)? {
            self.rehash(index, 1)?;
        }
        Ok(())
    }

    /// Adds a leaf to the open node. Whoever does that sees to the next keys, and to [`Tree::flush`] when the node is full.
    ///
    /// # Errors
    /// When the store fails or the tree is full.
    pub(super) fn append(&mut self, leaf: &Leaf<F>) -> Result<u64, TreeError> {
        if self.store.count()? >= CAPACITY - 1 {
            return Err(TreeError::Full);
        }
        Ok(self.push(leaf)?)
    }

    /// The children of the open node.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn open_children(&self) -> Result<Children<F>, StoreError> {
        self.children(1, self.store.count()? / WIDE as u64)
    }

    /// Puts the open node, which is full, in its place.
    ///
    /// # Errors
    /// When the store fails.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        self.rehash(self.store.count()?.saturating_sub(1), 1)
    }

    /// Checks every digest, the order of the leaves and the chain of next keys.
    ///
    /// # Errors
    /// `Damaged` with what is wrong; when the store fails.
    pub fn check(&self) -> Result<(), StoreError> {
        let damaged = |what| StoreError::Damaged { what };
        let count = self.store.count()?;
        let (mut index, mut seen) = (0, 0u64);
        loop {
            let leaf = self.store.leaf(index)?;
            seen += 1;
            if self.node(0, index)? != leaf.digest(&self.hasher) {
                return Err(damaged(format!("the digest of leaf {index}")));
            }
            if self.store.floor(&to_u256(&leaf.key))? != index {
                return Err(damaged(format!("the index of the key of leaf {index}")));
            }
            if leaf.next == F::ZERO {
                break;
            }
            if to_u256(&leaf.next) <= to_u256(&leaf.key) || seen > count {
                return Err(damaged(format!("the next key of leaf {index}")));
            }
            index = self.store.floor(&to_u256(&leaf.next))?;
            if self.store.leaf(index)?.key != leaf.next {
                return Err(damaged(format!("the next key of leaf {index}")));
            }
        }
        if seen != count {
            return Err(damaged("the number of leaves".to_owned()));
        }
        let mut nodes = count / WIDE as u64;
        for level in 1..=LEVELS {
            for index in 0..nodes {
                if self.node(level, index)? != self.hash_children(level, index)? {
                    return Err(damaged(format!("node {index} of level {level}")));
                }
            }
            nodes = nodes.div_ceil(WIDE as u64);
        }
        Ok(())
    }

    /// The digest of node `index` of `level`, or of leaf `index` for level 0.
    fn node(&self, level: usize, index: u64) -> Result<F, StoreError> {
        Ok(self.store.node(level, index)?.unwrap_or(self.empty[level]))
    }

    fn children(&self, level: usize, index: u64) -> Result<Children<F>, StoreError> {
        let mut children = [F::ZERO; WIDE];
        for (child, digest) in children.iter_mut().enumerate() {
            *digest = self.node(level - 1, index * WIDE as u64 + child as u64)?;
        }
        Ok(children)
    }

    fn hash_children(&self, level: usize, index: u64) -> Result<F, StoreError> {
        Ok(self.hasher.hash(Domain::Node, &self.children(level, index)?))
    }

    /// Computes the nodes above leaf `index` anew, from level `from` on.
    fn rehash(&mut self, index: u64, from: usize) -> Result<(), StoreError> {
        for level in from..=LEVELS {
            let node = index >> (3 * level);
            let digest = self.hash_children(level, node)?;
            self.store.set_node(level, node, digest)?;
        }
        Ok(())
    }

    fn set(&mut self, index: u64, leaf: &Leaf<F>) -> Result<(), StoreError> {
        self.store.set_leaf(index, leaf)?;
        self.store.set_node(0, index, leaf.digest(&self.hasher))
    }

    fn push(&mut self, leaf: &Leaf<F>) -> Result<u64, StoreError> {
        let index = self.store.push_leaf(leaf)?;
        self.store.set_node(0, index, leaf.digest(&self.hasher))?;
        Ok(index)
    }
}
