//! The trace argument: every read of the state gives what was last written there.
//!
//! An access is a tuple of a *cell* (a storage slot, say), a value and a time. It consumes the tuple that the last access of
//! the cell left and leaves its own, with its own time. If every tuple that was left was consumed once, and none that was not
//! left, then each cell's accesses form one chain in time, from its first value to its last; and because each consumes a tuple that is
//! older than itself, the chain is in the order of the execution. So a read, which leaves the value that it consumes, gives what was
//! last written.
//!
//! That both multisets are equal is checked by a sum of `± 1 / (γ + fingerprint)` that ends at zero. The challenges `γ` and `α` are
//! hashes of everything the prover was free to choose before, and of the statement: the step hashes what its slots read (the
//! *advice*) into the state, and the verifier derives the challenges from the last hash ([`challenges`]).
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `α low`, `α high`, `α key` | `α · x = y` | parts of the fingerprint `t + 2^30 · space + 2^33 · index + α_l · low + α_h · high + α_k · key` |
//! | `old`, `new` | `inverse · (γ + fingerprint) = active` | what an access adds to the sum: nothing unless it is active |
//! | `age` | bits of `time − old time − 1` | what is consumed is older |
//!
//! *Soundness.* The parts of a fingerprint's first element have disjoint ranges, so tuples that differ have fingerprints that
//! differ as polynomials in the `α`s; by Schwartz–Zippel the sum of unequal multisets is zero for less than `2^40` of the `2^253`
//! challenges. Times are below 2^30 because the verifier checks the last one. An access is active if its block runs; whether it is
//! stands in the advice, so nothing is left to choose once the challenges are known: that matters, for a prover with 2^30 ways to go on in
//! each of some hundred accesses would find a sum that is zero by a generalised birthday attack. Values that are read have limbs in
//! range because values that are written have; where a cell is known to hold values below 2^128 only, what is consumed has a zero for its high limb.
//! *Completeness.* An inactive access has zeros for advice and inverses. That `γ` hits the negative of a fingerprint happens with
//! probability below `2^−200`; such a proof cannot be made.
//!
//! Calldata do not change, so reading them takes no time: a read leaves a tuple of the word at time zero, and what opens the calldata consumes as
//! many as were left of each word, however many that are (`times / (γ + fingerprint)`, where `times` is advice). A sum of poles with other
//! coefficients than zero is not zero, so each word that was read is one that was opened.
//!
//! A multiset hash over the points of a curve would need neither challenges nor a first pass. Mapping a tuple to a point takes a
//! Poseidon hash (262 rows and more) and a square root, and an access has two tuples: over 500 rows, where this has about 100.

pub mod access;
pub mod record;
pub mod slots;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;

use crate::digest::Hasher;
use crate::field::two_pow;
use crate::gadgets::Lc;

/// Times, and the numbers of journal entries, are below `2^TIME_BITS`.
pub const TIME_BITS: u32 = 30;

/// What a tuple is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// A slot of persistent storage, by its key.
    Storage = 1,
    /// What a failing call has overwritten, by the number of the call and of the write.
    Journal = 2,
    /// A word of memory, by the number of the call and the place.
    Memory = 3,
    /// A word of the calldata, by the number of the call and the place.
    Calldata = 4,
}

/// The challenges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenges<F> {
    /// Added to each fingerprint.
    pub gamma: F,
    /// Multiplies the low limb.
    pub low: F,
    /// Multiplies the high limb.
    pub high: F,
    /// Multiplies the key.
    pub key: F,
}

impl<F: PrimeField> Challenges<F> {
    /// Those of programs without a trace argument.
    pub const fn none() -> Self {
        Self { gamma: F::ZERO, low: F::ZERO, high: F::ZERO, key: F::ZERO }
    }
}

/// The challenges for a proof whose advice has the hash `advice`, of a statement with these other elements.
pub fn challenges<F: PrimeField>(advice: F, statement: [F; 6]) -> Challenges<F> {
    let hasher = Hasher::shared();
    let [a, b, c, d, e, f] = statement;
    let seed = [advice, a, b, c, d, e, f];
    let challenge = |index| hasher.challenge(&seed, index);
    Challenges { gamma: challenge(1), low: challenge(2), high: challenge(3), key: challenge(4) }
}

/// As [`challenges`], in the circuit: 382 rows for each of the four.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn challenges_in_circuit<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    advice: &Lc<F>,
    statement: [Lc<F>; 6],
) -> Result<Challenges<Lc<F>>, SynthesisError> {
    let hasher = Hasher::shared();
    let [a, b, c, d, e, f] = statement;
    let seed = [advice.clone(), a, b, c, d, e, f];
    let mut challenge = |index| {
        let mut cs = cs.namespace(|| format!("challenge {index}"));
        hasher.challenge_in_circuit(&mut cs, &seed, index)
    };
    Ok(Challenges { gamma: challenge(1)?, low: challenge(2)?, high: challenge(3)?, key: challenge(4)? })
}

/// `2^30 · space`.
fn space_term<F: PrimeField>(space: Space) -> F {
    F::from(space as u64) * two_pow::<F>(TIME_BITS)
}

/// The first element of a fingerprint: time, space and index.
fn stamp<F: PrimeField>(time: &Lc<F>, space: Space, index: &Lc<F>) -> Lc<F> {
    Lc::sum([(F::ONE, time), (space_term(space), &Lc::one()), (two_pow(TIME_BITS + 3), index)])
}

/// The number of the cell of memory, or of calldata, at `place` (below 2^28) of a call.
pub fn memory_index<F: PrimeField>(call: &Lc<F>, place: &Lc<F>) -> Lc<F> {
    Lc::sum([(two_pow(MEMORY_BITS), call), (F::ONE, place)])
}

/// Places in memory take so many bits of a cell's number.
pub const MEMORY_BITS: u32 = 28;
/// The bits of a cell's number.
pub const INDEX_BITS: u32 = MEMORY_BITS + 32;

/// What the prover chooses in the slots of a step: field elements, and an [`age`] for each access. Both are hashed before the
/// challenges are known. The ages are packed, [`AGES`] to an element; they have ranges, so a sum of them says each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen<T> {
    /// The elements.
    pub elements: Vec<T>,
    /// The ages.
    pub ages: Vec<T>,
}

impl<T> Default for Chosen<T> {
    fn default() -> Self {
        Self { elements: Vec::new(), ages: Vec::new() }
    }
}

impl<T> Chosen<T> {
    /// Appends what another slot chose.
    pub fn extend(&mut self, other: Self) {
        self.elements.extend(other.elements);
        self.ages.extend(other.ages);
    }
}

impl<F: PrimeField> Chosen<F> {
    /// What is hashed.
    pub fn into_hashed(self) -> Vec<F> {
        let pack = |ages: &[F]| ages.iter().rev().fold(F::ZERO, |sum, age| sum * two_pow::<F>(AGE_BITS) + age);
        let mut hashed = self.elements;
        hashed.extend(self.ages.chunks(AGES).map(pack));
        hashed
    }
}

impl<F: PrimeField> Chosen<Lc<F>> {
    /// As natively, in the circuit: no rows.
    pub fn into_hashed_lcs(self) -> Vec<Lc<F>> {
        let pack =
            |ages: &[Lc<F>]| Lc::sum(ages.iter().enumerate().map(|(at, age)| (two_pow(AGE_BITS * at as u32), age)));
        let mut hashed = self.elements;
        hashed.extend(self.ages.chunks(AGES).map(pack));
        hashed
    }
}

/// `active · 2^30 + age`, where the age of what an access consumes is how many accesses came after the one that left it: below 2^30.
/// This is that of access number `number`, counted from 0, which consumes what was left at `time`.
pub fn age<F: PrimeField>(number: u64, time: u32) -> F {
    F::from(number) - F::from(u64::from(time)) + two_pow::<F>(TIME_BITS)
}

/// The bits of an [`age`].
pub const AGE_BITS: u32 = TIME_BITS + 1;
/// How many of them an element holds.
pub const AGES: usize = (crate::field::CAPACITY / AGE_BITS) as usize;
/// How many elements an access chooses at most: the limbs of what it consumes.
pub const ACCESS_ELEMENTS: usize = 2;
