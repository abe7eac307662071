//! A walk: how a proof reads and writes the state tree, natively. The circuit does the same: see [`super::circuit`].
//!
//! A walk goes once through the keys that an execution touched, in increasing order, and takes each from its value before to its value
//! after. It visits leaves of the tree as it was; keys without a leaf lie in the *gap* between a leaf and the next. Its operations:
//!
//! | operation | what it does |
//! |---|---|
//! | `Visit` | reads a leaf, gives it a new value, and opens the gap behind it, if keys in it follow |
//! | `Gap` | a key in the open gap: its value was zero; if its value after is not zero, a leaf is appended |
//! | `Flush` | puts the open node, which the eighth leaf has filled, in the tree |
//! | `Close` | leaves the gap |
//!
//! Leaves that are appended are linked as the walk goes: each, and the leaf that is visited before a gap, gets the key that follows as
//! its next key, a promise that the next `Gap` with a value keeps or `Close` finds equal to the old next key. So each leaf is
//! written once. A key that stays zero leaves no trace, and a walk that changes nothing keeps the root.

use ff::PrimeField;
use zvm_ir::Word as U256;

use super::poseidon::WIDE;
use super::store::Store;
use super::tree::{Children, Leaf, Parts, Path, Tree, TreeError, position};
use crate::field::to_u256;

/// A leaf that is visited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit<F> {
    /// The leaf before.
    pub before: Leaf<F>,
    /// The value after.
    pub value: U256,
    /// The next key after.
    pub next: F,
    /// Whether keys in the gap behind the leaf follow.
    pub gap: bool,
    /// Whether the key is one of those touched, not only the predecessor of one.
    pub touched: bool,
    /// The number of the leaf.
    pub index: u64,
    /// Whether it is in the open node.
    pub open: bool,
    /// The children of the nodes above it, before.
    pub path: Path<F>,
}

impl<F: PrimeField> Visit<F> {
    /// Whether the leaf is another one afterwards.
    pub fn writes(&self) -> bool {
        self.value != self.before.value || self.next != self.before.next
    }

    /// The place of the path in the node of each level.
    pub fn position(&self, level: usize) -> usize {
        position(self.index, level)
    }
}

/// A key in the open gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap<F> {
    /// The key.
    pub key: F,
    /// The value after; zero for a key that gets no leaf.
    pub value: U256,
    /// The next key of the new leaf; zero if there is none.
    pub next: F,
    /// The children of the open node before.
    pub children: Children<F>,
}

/// A full node that is put in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flush<F> {
    /// The children of the nodes above that place, before, from the second level.
    pub path: Vec<Children<F>>,
}

/// A part of a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<F> {
    /// A leaf is visited.
    Visit(Box<Visit<F>>),
    /// A key in the open gap.
    Gap(Gap<F>),
    /// The full open node is put in its place.
    Flush(Flush<F>),
    /// The gap is left.
    Close,
}

/// A walk with its witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk<F> {
    /// The operations in order.
    pub ops: Vec<Op<F>>,
    /// The root's parts before.
    pub before: Parts<F>,
    /// The root's parts after.
    pub after: Parts<F>,
}

/// Walks through the keys in `touched`, each with its value afterwards, and leaves the tree as it is afterwards.
///
/// # Errors
/// `Order` if the keys are not in increasing order without zero; when the tree is full or its store fails. The store may hold a part of
/// the changes then.
pub fn walk<F: PrimeField, S: Store<F>>(tree: &mut Tree<F, S>, touched: &[(F, U256)]) -> Result<Walk<F>, TreeError> {
    let increasing = |pair: &[(F, U256)]| to_u256(&pair[0].0) < to_u256(&pair[1].0);
    if !touched.windows(2).all(increasing) || touched.first().is_some_and(|(key, _)| *key == F::ZERO) {
        return Err(TreeError::Order);
    }
    let before = tree.parts()?;
    let mut ops = Vec::new();
    let mut rest = touched;
    while let Some(&(key, value)) = rest.first() {
        let (index, leaf) = tree.find(&key)?;
        let present = leaf.key == key;
        let visited = if present { value } else { leaf.value };
        if present {
            rest = &rest[1..];
        }
        // All that lies before the next leaf is behind this one.
        let inside = rest.iter().take_while(|(key, _)| leaf.excludes(key)).count();
        let (gap, further) = rest.split_at(inside);
        rest = further;
        let new_keys: Vec<F> = gap.iter().filter(|(_, value)| !value.is_zero()).map(|(key, _)| *key).collect();
        let mut next_keys = new_keys.iter().copied().chain([leaf.next]);
        let next = next_keys.next().unwrap_or(leaf.next);
        let (open, path) = (tree.in_open(index)?, tree.path(index)?);
        let visit = Visit { before: leaf, value: visited, next, gap: inside > 0, touched: present, index, open, path };
        if visit.writes() {
            tree.set_leaf(index, &Leaf { key: leaf.key, value: visited, next })?;
        }
        ops.push(Op::Visit(Box::new(visit)));
        for &(key, value) in gap {
            let children = tree.open_children()?;
            if value.is_zero() {
                ops.push(Op::Gap(Gap { key, value, next: F::ZERO, children }));
                continue;
            }
            let next = next_keys.next().unwrap_or(leaf.next);
            ops.push(Op::Gap(Gap { key, value, next, children }));
            let index = tree.append(&Leaf { key, value, next })?;
            if (index + 1).is_multiple_of(WIDE as u64) {
                ops.push(Op::Flush(Flush { path: tree.open_path()? }));
                tree.flush()?;
            }
        }
        if inside > 0 {
            ops.push(Op::Close);
        }
    }
    Ok(Walk { ops, before, after: tree.parts()? })
}
