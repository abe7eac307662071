//! The hash functions of the state tree: Poseidon permutations of fixed arity, natively and in the circuit.
//!
//! The parameters are those of [`crate::digest`] (`neptune`, 128 bits of security), and so is the construction: the capacity element
//! is a domain tag, the digest is the first rate element. [`Domain`] lists the tags; none of them is one of `digest`, whose
//! identifiers are 1 to 6. A state tree has many permutations in slots that idle, whose witness is all zeros: see [`crate::hash`].
//!
//! Rows: 384 for arity 8, 285 for arity 4; 3 less for each constant element.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use typenum::{U4, U8};

use crate::gadgets::Lc;
use crate::hash::Hash;

/// The children of a node.
pub const WIDE: usize = 8;
/// The elements of a leaf.
pub const NARROW: usize = 4;

/// What is hashed; each has a tag of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// A node of the tree.
    Node,
    /// The root: tree, open node, number of leaves.
    Root,
}

impl Domain {
    const ALL: [Self; 2] = [Self::Node, Self::Root];

    /// The identifier in the tag. Those of [`crate::digest`] are below 64.
    const fn identifier(self) -> u64 {
        64 + self as u64
    }
}

/// The identifier in the tag of leaves, whose permutation has another width.
const LEAF: u64 = 80;

/// The hash functions of one field. Making one takes some milliseconds; [`Hasher::shared`] makes each once.
#[derive(Debug)]
pub struct Hasher<F: PrimeField> {
    wide: Vec<Hash<F, U8>>,
    leaf: Hash<F, U4>,
}

impl<F: PrimeField> Hasher<F> {
    fn new() -> Self {
        Self { wide: Hash::family(Domain::ALL.map(Domain::identifier)), leaf: Hash::family([LEAF]).remove(0) }
    }

    /// The hash functions of the field, made on first use.
    pub fn shared() -> Arc<Self> {
        static HASHERS: Mutex<BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>> = Mutex::new(BTreeMap::new());
        let mut hashers = HASHERS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = hashers.get(&TypeId::of::<F>()).cloned().and_then(|known| known.downcast::<Self>().ok());
        known.unwrap_or_else(|| {
            let made = Arc::new(Self::new());
            hashers.insert(TypeId::of::<F>(), Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
            made
        })
    }

    /// The digest of eight elements.
    pub fn hash(&self, domain: Domain, elements: &[F; WIDE]) -> F {
        self.wide[domain as usize].hash(elements)
    }

    /// The digest of a leaf: key, low and high limb of the value, next key.
    pub fn leaf(&self, elements: &[F; NARROW]) -> F {
        self.leaf.hash(elements)
    }

    /// The digest of eight elements where `active` is one. Where it is zero the elements must be zero as well, and the digest means
    /// nothing. Rows: 384, or 3 less for each constant element.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn hash_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        active: &Lc<F>,
        domain: Domain,
        elements: &[Lc<F>; WIDE],
    ) -> Result<Lc<F>, SynthesisError> {
        self.wide[domain as usize].hash_where(cs, active, elements)
    }

    /// The digest of a leaf, as [`Hasher::hash_in_circuit`]. Rows: 285.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn leaf_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        active: &Lc<F>,
        elements: &[Lc<F>; NARROW],
    ) -> Result<Lc<F>, SynthesisError> {
        self.leaf.hash_where(cs, active, elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cs::{Assignment, CheckCs, Names};

    fn agrees<F: PrimeField>() {
        let hasher = Hasher::<F>::shared();
        let value = |i: usize| F::from(7 + i as u64).invert().unwrap();
        for constant in [0, 3, 8] {
            for active in [F::ONE, F::ZERO] {
                let mut cs = CheckCs::<F>::recording();
                let flag = Lc::alloc(&mut cs, || "active".into(), Some(active)).unwrap();
                let elements: [Lc<F>; WIDE] = core::array::from_fn(|i| match i < constant {
                    true => Lc::constant(value(i)),
                    false => Lc::alloc(&mut cs, || format!("{i}"), Some(value(i) * active)).unwrap(),
                });
                let given = cs.aux_count();
                let digest = hasher.hash_in_circuit(&mut cs, &flag, Domain::Node, &elements).unwrap();
                assert_eq!(cs.verdict(), Ok(()));
                assert_eq!(cs.rows(), 384 - 3 * constant);
                let mut assigned = Assignment::<F>::with_capacity(1, 0);
                for value in &cs.aux()[..given] {
                    Lc::alloc(&mut assigned, || "given".into(), Some(*value)).unwrap();
                }
                let in_witness = hasher.hash_in_circuit(&mut assigned, &flag, Domain::Node, &elements).unwrap();
                assert_eq!(in_witness.value(), digest.value());
                assert_eq!(assigned.into_parts().1, cs.aux());
                if active == F::ONE {
                    let values = core::array::from_fn(value);
                    assert_eq!(digest.value(), Some(hasher.hash(Domain::Node, &values)));
                } else {
                    assert!(cs.aux()[given..].iter().all(|value| *value == F::ZERO));
                }
            }
        }
        let mut cs = CheckCs::<F>::checking(Names::Kept);
        let elements: [Lc<F>; NARROW] =
            core::array::from_fn(|i| Lc::alloc(&mut cs, || format!("{i}"), Some(value(i))).unwrap());
        let digest = hasher.leaf_in_circuit(&mut cs, &Lc::one(), &elements).unwrap();
        assert_eq!(digest.value(), Some(hasher.leaf(&core::array::from_fn(value))));
        assert_eq!((cs.verdict(), cs.rows()), (Ok(()), 285));
    }

    #[test]
    fn the_circuit_is_the_hash_and_idles_on_zeros() {
        agrees::<crate::nova::Fr>();
        agrees::<blstrs::Scalar>();
    }

    #[test]
    fn domains_are_apart() {
        let hasher = Hasher::<blstrs::Scalar>::shared();
        let mut digests: Vec<_> =
            Domain::ALL.iter().map(|&domain| hasher.hash(domain, &[blstrs::Scalar::from(0); WIDE])).collect();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), Domain::ALL.len());
    }
}
