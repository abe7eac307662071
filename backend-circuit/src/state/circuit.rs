//! The state tree in the circuit: a walk through it, operation by operation. See [`super::walk`] for what a walk is.
//!
//! Between operations the walk is a [`Cursor`] of eight elements, which may be carried from step to step. [`Cursor::enter`] opens a
//! root; [`Cursor::leave`] gives the root afterwards. An operation is gated by the boolean `active`: where it is zero, the operation
//! changes nothing and is satisfied by zeros (but for zero tests, and the bits that compare zero with the modulus).
//!
//! # Soundness
//! Let the root before be that of a well-formed tree: leaves in the places `0 .. count` and none elsewhere, whose next keys link all keys in
//! increasing order. Every digest is bound to what it hashes by collision resistance, and every row that uses one is multiplied by
//! `active`. Then
//! - a visited leaf is one of the tree (an empty place holds zero, of which nobody knows a preimage), and its key is larger than
//!   the last, so it was not visited before, nor appended in this walk;
//! - a visited leaf's next key changes only if the gap behind it is opened, and no leaf can be visited or the walk left until the gap is
//!   closed;
//! - keys in the gap increase from the visited leaf's, and the last is below the gap's end, the next key that the visited leaf
//!   had: that is checked on closing. So each of them had no leaf, and its value was zero;
//! - a leaf is appended exactly for the keys in the gap whose value is not zero, for the last promise was that key; its next key is the
//!   next promise, and the last promise is the gap's end. So the keys are linked in increasing order again;
//! - a new leaf's place is `count`, which is below `2^30` and grows by one; the open node is full exactly when `count` becomes a multiple of
//!   eight with an open node that is not empty, and then nothing can be appended, nor the walk left, until it is put in its place.
//!
//! So the tree afterwards is well-formed, holds the values given and no other change, and is determined by the tree before and those
//! values: a prover has no choice of root. Keys are visited in increasing order, each once.
//!
//! Keys are digests ([`super::place`]), hence nobody knows a place whose key is zero, the sentinel's. Values must be limbs in range; what a
//! leaf holds is, if what was ever written was.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;

use super::order::{Split, enforce_less};
use super::poseidon::{Domain, Hasher, WIDE};
use super::tree::{Children, LEVELS, Parts, empty_node, root_elements};
use super::walk::{Flush, Gap, Visit};
use crate::field::{to_u256, two_pow_neg};
use crate::gadgets::compare::is_zero_element;
use crate::gadgets::{Lc, decompose, enforce, enforce_boolean, enforce_equal};

/// The bits of a leaf's number.
const INDEX_BITS: u32 = 3 * LEVELS as u32;

/// Where a walk is.
#[derive(Clone, Debug)]
pub struct Cursor<F: PrimeField> {
    /// The topmost node.
    pub tree: Lc<F>,
    /// The open node.
    pub open: Lc<F>,
    /// The number of leaves.
    pub count: Lc<F>,
    /// The last key, its low 128 bits and the rest; −1 and 0 before the first.
    pub last: [Lc<F>; 2],
    /// The next key of the leaf that was written last.
    pub promised: Lc<F>,
    /// The next key that the leaf visited last had: the end of the gap.
    pub end: Lc<F>,
    /// Whether the gap is open.
    pub gap: Lc<F>,
}

/// The number of elements of a [`Cursor`].
pub const CURSOR: usize = 8;

/// Whether a visit may change the leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It may.
    Write,
    /// It may not: half as many rows. Keys in the gap behind it can be shown absent, but get no leaf.
    Read,
}

/// A value in two limbs, low and high.
pub type Value<F> = [Lc<F>; 2];

/// Rows `active · (a − b) = 0`.
fn enforce_where<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    name: &'static str,
    active: &Lc<F>,
    a: &Lc<F>,
    b: &Lc<F>,
) {
    enforce(cs, || name.into(), active, &a.minus(b), &Lc::zero());
}

/// `after` where `flag` is one, else `before`.
fn update<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    name: &'static str,
    flag: &Lc<F>,
    before: &Lc<F>,
    after: &Lc<F>,
) -> Result<Lc<F>, SynthesisError> {
    Lc::select(cs, || name.into(), flag, after, before)
}

/// A witness: zero in an idle slot, unknown without a prover.
fn hint<F: PrimeField, T>(active: &Lc<F>, witness: Option<&T>, value: impl FnOnce(&T) -> F) -> Option<F> {
    if active.value()? == F::ZERO { Some(F::ZERO) } else { witness.map(value) }
}

fn flag<F: PrimeField>(set: bool) -> F {
    if set { F::ONE } else { F::ZERO }
}

impl<F: PrimeField> Cursor<F> {
    /// The elements in the order of the fields.
    pub fn into_elements(self) -> [Lc<F>; CURSOR] {
        let [low, high] = self.last;
        [self.tree, self.open, self.count, low, high, self.promised, self.end, self.gap]
    }

    /// A cursor from its elements, which an earlier step has constrained.
    pub fn from_elements([tree, open, count, low, high, promised, end, gap]: [Lc<F>; CURSOR]) -> Self {
        Self { tree, open, count, last: [low, high], promised, end, gap }
    }

    /// The cursor in which nothing has been entered: all zero.
    pub fn idle() -> Self {
        Self::from_elements(core::array::from_fn(|_| Lc::zero()))
    }

    /// Begins a walk at `root`, where `active`; the cursor before is dropped then.
    ///
    /// | name | equation | meaning |
    /// |---|---|---|
    /// | `root` | `active · (H(tree, open, count) − root) = 0` | the parts are those of the root |
    /// | `tree` … `gap` | `active · (new − old)` | the cursor; `last` is −1, so that any key may follow |
    ///
    /// *Soundness:* collision resistance. *Completeness:* the parts. Rows: 378.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn enter<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        active: &Lc<F>,
        root: &Lc<F>,
        parts: Option<&Parts<F>>,
    ) -> Result<(), SynthesisError> {
        let mut cs = cs.namespace(|| "enter");
        let tree = Lc::alloc(&mut cs, || "tree".into(), hint(active, parts, |parts| parts.tree))?;
        let open = Lc::alloc(&mut cs, || "open".into(), hint(active, parts, |parts| parts.open))?;
        let count = Lc::alloc(&mut cs, || "count".into(), hint(active, parts, |parts| F::from(parts.count)))?;
        let digest = root_digest(&mut cs, active, [&tree, &open, &count])?;
        enforce_where(&mut cs, "root", active, &digest, root);
        self.tree = update(&mut cs, "tree", active, &self.tree, &tree)?;
        self.open = update(&mut cs, "open", active, &self.open, &open)?;
        self.count = update(&mut cs, "count", active, &self.count, &count)?;
        let before_all = Lc::constant(-F::ONE);
        self.last[0] = update(&mut cs, "last low", active, &self.last[0], &before_all)?;
        self.last[1] = update(&mut cs, "last high", active, &self.last[1], &Lc::zero())?;
        self.promised = update(&mut cs, "promised", active, &self.promised, &Lc::zero())?;
        self.end = update(&mut cs, "end", active, &self.end, &Lc::zero())?;
        self.gap = update(&mut cs, "gap", active, &self.gap, &Lc::zero())?;
        Ok(())
    }

    /// Ends a walk, where `active`, and gives the root afterwards; elsewhere the digest means nothing.
    ///
    /// | name | equation | meaning |
    /// |---|---|---|
    /// | `gap closed` | `active · gap = 0` | |
    /// | `count` | bits of `active · count` | its remainder by eight |
    /// | `full` | zero test of that remainder, times `active` | |
    /// | `flushed` | `full · (open − empty) = 0` | a full node is in its place |
    ///
    /// *Soundness and completeness:* see the head of this file. Rows: 406.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn leave<CS: ConstraintSystem<F>>(&self, cs: &mut CS, active: &Lc<F>) -> Result<Lc<F>, SynthesisError> {
        let mut cs = cs.namespace(|| "leave");
        enforce(&mut cs, || "gap closed".into(), active, &self.gap, &Lc::zero());
        let tree = Lc::mul(&mut cs, || "tree".into(), active, &self.tree)?;
        let open = Lc::mul(&mut cs, || "open".into(), active, &self.open)?;
        let count = Lc::mul(&mut cs, || "count".into(), active, &self.count)?;
        let value = count.value().map(|value| to_u256(&value));
        let bits = decompose(&mut cs.namespace(|| "count"), &count, value, INDEX_BITS)?;
        let remainder = Lc::pack(&bits, 0..3, value.map(|value| F::from(value.as_limbs()[0] % WIDE as u64)));
        let full = is_zero_element(&mut cs.namespace(|| "full"), &remainder)?;
        let empty = empty_node::<F>(&Hasher::shared());
        // In an idle slot both sides are zero.
        enforce_where(&mut cs, "flushed", &full, &open, &active.times(empty));
        root_digest(&mut cs, active, [&tree, &open, &count])
    }

    /// Visits the leaf of `key`, where `active`: its value was `old` and becomes `new`. Where `active` is zero, key and values must be
    /// zero. The caller says which value is new: for a leaf that is visited only for the gap behind it, that must be the old one.
    ///
    /// | name | equation | meaning |
    /// |---|---|---|
    /// | `closed` | `active · gap = 0` | no gap is open |
    /// | `less` | [`enforce_less`] of `last` and `key` | keys increase |
    /// | `gap` | boolean `g`; `g · (1 − active) = 0` | whether the gap behind the leaf is opened |
    /// | `next` | `(1 − g) · (next' − next) = 0` | only then the next key changes |
    /// | `level i` | see [`climb`] | the nodes above the leaf, before and after |
    /// | `in open` | boolean `h`, and 6 rows | the leaf's node is the open one, or else the topmost node is the tree's |
    /// | `last`, `promised`, `end` | `active · (new − old)` | |
    ///
    /// *Soundness and completeness:* see the head of this file. Rows: 8,558 to write, 4,421 to read.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn visit<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        active: &Lc<F>,
        access: Access,
        key: &Split<F>,
        [old, new]: [&Value<F>; 2],
        witness: Option<&Visit<F>>,
    ) -> Result<(), SynthesisError> {
        let mut cs = cs.namespace(|| "visit");
        let hasher = Hasher::<F>::shared();
        enforce(&mut cs, || "closed".into(), active, &self.gap, &Lc::zero());
        self.follow(&mut cs, active, key)?;

        let gap = Lc::alloc(&mut cs, || "gap".into(), hint(active, witness, |visit| flag(visit.gap)))?;
        enforce_boolean(&mut cs, || "gap".into(), &gap);
        enforce(&mut cs, || "gap where active".into(), &gap, &active.complement(), &Lc::zero());
        let next = Lc::alloc(&mut cs, || "next before".into(), hint(active, witness, |visit| visit.before.next))?;
        let before = [key.element.clone(), old[0].clone(), old[1].clone(), next.clone()];
        let before = hasher.leaf_in_circuit(&mut cs.namespace(|| "leaf before"), active, &before)?;
        let (after, next_after) = match access {
            Access::Read => {
                // Where nothing is written the values are the same.
                enforce_equal(&mut cs, || "value low".into(), &old[0], &new[0]);
                enforce_equal(&mut cs, || "value high".into(), &old[1], &new[1]);
                (None, next.clone())
            }
            Access::Write => {
                let after = Lc::alloc(&mut cs, || "next after".into(), hint(active, witness, |visit| visit.next))?;
                let changed = after.minus(&next);
                enforce(&mut cs, || "next".into(), &gap.complement(), &changed, &Lc::zero());
                let leaf = [key.element.clone(), new[0].clone(), new[1].clone(), after.clone()];
                let leaf = hasher.leaf_in_circuit(&mut cs.namespace(|| "leaf after"), active, &leaf)?;
                (Some(leaf), after)
            }
        };

        let mut nodes = (before, after);
        let mut lowest = nodes.clone();
        for level in 0..LEVELS {
            let children = witness.map(|visit| (visit.path[level], visit.position(level)));
            nodes =
                climb(&mut cs.namespace(|| format!("level {level}")), active, (&nodes.0, nodes.1.as_ref()), children)?;
            if level == 0 {
                lowest = nodes.clone();
            }
        }
        let in_open = Lc::alloc(&mut cs, || "in open".into(), hint(active, witness, |visit| flag(visit.open)))?;
        enforce_boolean(&mut cs, || "in open".into(), &in_open);
        let found = Lc::select(&mut cs, || "found".into(), &in_open, &lowest.0, &nodes.0)?;
        let held = Lc::select(&mut cs, || "held".into(), &in_open, &self.open, &self.tree)?;
        enforce_where(&mut cs, "root", active, &found, &held);
        if let (Some(lowest), Some(top)) = (&lowest.1, &nodes.1) {
            let after = Lc::select(&mut cs, || "after".into(), &in_open, lowest, top)?;
            let change = Lc::mul(&mut cs, || "change".into(), active, &after.minus(&found))?;
            let open = Lc::mul(&mut cs, || "change of open".into(), &in_open, &change)?;
            self.open = self.open.plus(&open);
            self.tree = self.tree.plus(&change).minus(&open);
        }
        self.promised = update(&mut cs, "promised", active, &self.promised, &next_after)?;
        self.end = update(&mut cs, "end", active, &self.end, &next)?;
        // Where the slot is active the gap was closed.
        self.gap = self.gap.plus(&gap);
        Ok(())
    }

    /// Passes a key in the open gap, where `active`: its value was zero and becomes `value`. Where `active` is zero, key and value
    /// must be zero.
    ///
    /// | name | equation | meaning |
    /// |---|---|---|
    /// | `opened` | `active · (1 − gap) = 0` | |
    /// | `less` | [`enforce_less`] of `last` and `key` | keys increase |
    /// | `absent`, `append` | zero test of `value_0 + value_1`; `active · (1 − z) = a` | whether there is a new leaf |
    /// | `promise` | `a · (key − promised) = 0` | it is the one that was promised |
    /// | `count` | bits of `active · count` | the place in the open node |
    /// | `flushed` | `a · first · (open − empty) = 0` | a full node is in its place |
    /// | `open node` | [`climb`] by one level; `a · (before − open) = 0` | |
    ///
    /// *Soundness and completeness:* see the head of this file. Rows: 1,241.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn gap<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        active: &Lc<F>,
        key: &Split<F>,
        value: &Value<F>,
        witness: Option<&Gap<F>>,
    ) -> Result<(), SynthesisError> {
        let mut cs = cs.namespace(|| "gap");
        let hasher = Hasher::<F>::shared();
        enforce(&mut cs, || "opened".into(), active, &self.gap.complement(), &Lc::zero());
        self.follow(&mut cs, active, key)?;

        // The limbs are below 2^128, so their sum is zero only if both are.
        let absent = is_zero_element(&mut cs.namespace(|| "absent"), &value[0].plus(&value[1]))?;
        let append = Lc::mul(&mut cs, || "append".into(), active, &absent.complement())?;
        enforce_where(&mut cs, "promise", &append, &key.element, &self.promised);
        let next = Lc::alloc(&mut cs, || "next".into(), hint(active, witness, |gap| gap.next))?;
        let leaf = [key.element.clone(), value[0].clone(), value[1].clone(), next.clone()];
        let leaf = hasher.leaf_in_circuit(&mut cs.namespace(|| "leaf"), active, &leaf)?;

        let count = Lc::mul(&mut cs, || "count".into(), active, &self.count)?;
        let count_value = count.value().map(|value| to_u256(&value));
        let bits = decompose(&mut cs.namespace(|| "count"), &count, count_value, INDEX_BITS)?;
        let places = one_hot(&mut cs.namespace(|| "place"), &Lc::one(), [&bits[0], &bits[1], &bits[2]])?;
        let first = Lc::mul(&mut cs, || "first of a node".into(), &append, &places[0])?;
        let empty = empty_node::<F>(&hasher);
        enforce_where(&mut cs, "flushed", &first, &self.open, &Lc::constant(empty));
        let children = allocate_children(&mut cs, active, witness.map(|gap| gap.children))?;
        let (_, after) = replace(&mut cs, &places, &children, &leaf)?;
        let nodes = [&children, &after].map(|children| children.clone());
        let [before, after] = nodes;
        let before = hasher.hash_in_circuit(&mut cs.namespace(|| "before"), active, Domain::Node, &before)?;
        let after = hasher.hash_in_circuit(&mut cs.namespace(|| "after"), active, Domain::Node, &after)?;
        enforce_where(&mut cs, "open node", &append, &before, &self.open);
        self.open = update(&mut cs, "open", &append, &self.open, &after)?;
        self.promised = update(&mut cs, "promised", &append, &self.promised, &next)?;
        self.count = self.count.plus(&append);
        Ok(())
    }

    /// Puts the full open node in its place, where `active`.
    ///
    /// | name | equation | meaning |
    /// |---|---|---|
    /// | `place` | bits of `active · (count − 8) / 8` | the number of leaves is a multiple of eight, and this the node's number |
    /// | `level i` | see [`climb`] | an empty node stood there |
    /// | `tree` | `active · (before − tree) = 0`, `active · (after − tree)` | |
    /// | `open` | `active · (empty − open)` | |
    ///
    /// *Soundness and completeness:* see the head of this file. Rows: 7,061.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn flush<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        active: &Lc<F>,
        witness: Option<&Flush<F>>,
    ) -> Result<(), SynthesisError> {
        let mut cs = cs.namespace(|| "flush");
        let hasher = Hasher::<F>::shared();
        let empty = empty_node::<F>(&hasher);
        let eight = F::from(WIDE as u64);
        let number = self.count.minus(&Lc::constant(eight)).times(two_pow_neg(3));
        let number = Lc::mul(&mut cs, || "number".into(), active, &number)?;
        let number_value = number.value().map(|value| to_u256(&value));
        let bits = decompose(&mut cs.namespace(|| "place"), &number, number_value, INDEX_BITS - 3)?;
        let full = Lc::mul(&mut cs, || "full".into(), active, &self.open)?;
        let (mut before, mut after) = (active.times(empty), full);
        for level in 1..LEVELS {
            let mut cs = cs.namespace(|| format!("level {level}"));
            let at = 3 * (level - 1);
            let places = one_hot(&mut cs.namespace(|| "place"), active, [&bits[at], &bits[at + 1], &bits[at + 2]])?;
            let known = witness.and_then(|flush| flush.path.get(level - 1)).copied();
            let children = allocate_children(&mut cs, active, known)?;
            let (chosen, changed) = replace(&mut cs, &places, &children, &after)?;
            enforce_equal(&mut cs, || "child".into(), &chosen, &before);
            before = hasher.hash_in_circuit(&mut cs.namespace(|| "before"), active, Domain::Node, &children)?;
            after = hasher.hash_in_circuit(&mut cs.namespace(|| "after"), active, Domain::Node, &changed)?;
        }
        enforce_where(&mut cs, "root", active, &before, &self.tree);
        self.tree = update(&mut cs, "tree", active, &self.tree, &after)?;
        self.open = update(&mut cs, "open", active, &self.open, &Lc::constant(empty))?;
        Ok(())
    }

    /// Closes the gap, where `active`. Closing a gap that is closed changes nothing.
    ///
    /// | name | equation | meaning |
    /// |---|---|---|
    /// | `linked` | `active · (promised − end) = 0` | the last new leaf is linked to the gap's end |
    /// | `end` | `active · end`, split into halves | |
    /// | `endless` | zero test of the end | no leaf is behind the gap |
    /// | `less` | [`enforce_less`] of `last` and `end` unless endless | no key was beyond the gap's end |
    ///
    /// *Soundness and completeness:* see the head of this file. Rows: 431, or 432 over BLS12-381's field.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn close<CS: ConstraintSystem<F>>(&mut self, cs: &mut CS, active: &Lc<F>) -> Result<(), SynthesisError> {
        let mut cs = cs.namespace(|| "close");
        enforce_where(&mut cs, "linked", active, &self.promised, &self.end);
        let end = Lc::mul(&mut cs, || "end".into(), active, &self.end)?;
        let end = Split::new(&mut cs.namespace(|| "end"), &end)?;
        let endless = is_zero_element(&mut cs.namespace(|| "endless"), &end.element)?;
        // An end that is not zero is that of an active slot.
        let bounded = endless.complement();
        enforce_less(&mut cs, &bounded, [&self.last[0], &self.last[1]], [end.low.lc(), end.high.lc()])?;
        self.gap = update(&mut cs, "gap", active, &self.gap, &Lc::zero())?;
        Ok(())
    }

    /// `last < key`, and `key` becomes the last.
    fn follow<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        active: &Lc<F>,
        key: &Split<F>,
    ) -> Result<(), SynthesisError> {
        enforce_less(cs, active, [&self.last[0], &self.last[1]], [key.low.lc(), key.high.lc()])?;
        self.last[0] = update(cs, "last low", active, &self.last[0], key.low.lc())?;
        self.last[1] = update(cs, "last high", active, &self.last[1], key.high.lc())?;
        Ok(())
    }
}

fn root_digest<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    active: &Lc<F>,
    [tree, open, count]: [&Lc<F>; 3],
) -> Result<Lc<F>, SynthesisError> {
    let elements = root_elements(tree.clone(), open.clone(), count.clone(), Lc::constant);
    Hasher::shared().hash_in_circuit(&mut cs.namespace(|| "root"), active, Domain::Root, &elements)
}

/// Which of eight places three bits name: eight booleans of which one is one where `active`, and all zero elsewhere. Rows: 4.
fn one_hot<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    active: &Lc<F>,
    [b0, b1, b2]: [&Lc<F>; 3],
) -> Result<[Lc<F>; WIDE], SynthesisError> {
    let both = Lc::mul(cs, || "both".into(), b1, b2)?;
    let upper = [
        Lc::sum([(F::ONE, active), (-F::ONE, b1), (-F::ONE, b2), (F::ONE, &both)]),
        b1.minus(&both),
        b2.minus(&both),
        both,
    ];
    let mut odd = Vec::with_capacity(4);
    for (index, pair) in upper[1..].iter().enumerate() {
        odd.push(Lc::mul(cs, || format!("odd {}", index + 1), b0, pair)?);
    }
    // The products of one bit with all four add up to the bit.
    let first = Lc::sum([(F::ONE, b0), (-F::ONE, &odd[0]), (-F::ONE, &odd[1]), (-F::ONE, &odd[2])]);
    odd.insert(0, first);
    Ok(core::array::from_fn(|place| {
        if place % 2 == 1 { odd[place / 2].clone() } else { upper[place / 2].minus(&odd[place / 2]) }
    }))
}

fn allocate_children<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    active: &Lc<F>,
    children: Option<Children<F>>,
) -> Result<[Lc<F>; WIDE], SynthesisError> {
    let mut all: [Lc<F>; WIDE] = core::array::from_fn(|_| Lc::zero());
    for (place, child) in all.iter_mut().enumerate() {
        let value = hint(active, children.as_ref(), |children| children[place]);
        *child = Lc::alloc(cs, || format!("child {place}"), value)?;
    }
    Ok(all)
}

/// The child that `places` names (zero if they name none), and the children with `new` in its stead.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `place i` | `f_i · (new − c_i) = d_i` | the child afterwards is `c_i + d_i` |
///
/// The differences add up to `(Σ f_i) · new − chosen`, so the chosen child costs no row. *Soundness and completeness:* at most
/// one place is named. Rows: 8.
fn replace<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    places: &[Lc<F>; WIDE],
    children: &[Lc<F>; WIDE],
    new: &Lc<F>,
) -> Result<(Lc<F>, [Lc<F>; WIDE]), SynthesisError> {
    let mut after = children.clone();
    let mut chosen = vec![(F::ONE, new.clone())];
    for (place, child) in after.iter_mut().enumerate() {
        let change = Lc::mul(cs, || format!("place {place}"), &places[place], &new.minus(child))?;
        chosen.push((-F::ONE, change.clone()));
        *child = child.plus(&change);
    }
    Ok((Lc::sum(chosen.iter().map(|(coefficient, term)| (*coefficient, term))), after))
}

/// From a child to the node above it, before and after: the digests of that node.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `bit i` | booleans | the child's place |
/// | `place` | 4 rows | see [`one_hot`] |
/// | `place i` | see [`replace`] | |
/// | `child` | chosen − before = 0 | the child before stands in that place |
/// | `before`, `after` | two permutations | |
///
/// *Soundness:* the node before has the child before in one place, and the node after differs only there. *Completeness:* the
/// children and the place. Rows: 784, or 399 to read.
fn climb<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    active: &Lc<F>,
    (before, after): (&Lc<F>, Option<&Lc<F>>),
    witness: Option<(Children<F>, usize)>,
) -> Result<(Lc<F>, Option<Lc<F>>), SynthesisError> {
    let hasher = Hasher::<F>::shared();
    let mut bits = Vec::with_capacity(3);
    for bit in 0..3 {
        let value = hint(active, witness.as_ref(), |(_, position)| flag(position >> bit & 1 == 1));
        let lc = Lc::alloc(cs, || format!("bit {bit}"), value)?;
        enforce_boolean(cs, || format!("bit {bit}"), &lc);
        bits.push(lc);
    }
    let places = one_hot(&mut cs.namespace(|| "place"), &Lc::one(), [&bits[0], &bits[1], &bits[2]])?;
    let children = allocate_children(cs, active, witness.map(|(children, _)| children))?;
    let Some(after) = after else {
        // `f_i · (c_i − before) = 0`: the place that is named holds the child.
        for (place, child) in children.iter().enumerate() {
            enforce(cs, || format!("place {place}"), &places[place], &child.minus(before), &Lc::zero());
        }
        let node = hasher.hash_in_circuit(&mut cs.namespace(|| "before"), active, Domain::Node, &children)?;
        return Ok((node, None));
    };
    let (chosen, changed) = replace(cs, &places, &children, after)?;
    enforce_equal(cs, || "child".into(), &chosen, before);
    let node = hasher.hash_in_circuit(&mut cs.namespace(|| "before"), active, Domain::Node, &children)?;
    let changed = hasher.hash_in_circuit(&mut cs.namespace(|| "after"), active, Domain::Node, &changed)?;
    Ok((node, Some(changed)))
}
