//! The hash functions of the state tree: Poseidon permutations of fixed arity, natively and in the circuit.
//!
//! The parameters are those of [`crate::digest`] (`neptune`, 128 bits of security), and so is the construction: the capacity element
//! is a domain tag, the digest is the first rate element. [`Domain`] lists the tags; none of them is one of `digest`, whose
//! identifiers are 1 to 6.
//!
//! The circuit is written anew, because a state tree has many permutations in slots that idle. Here every constant of the
//! permutation is multiplied by the boolean `active`, which costs nothing: in an idle slot, where the elements are zero, all
//! witness values are zero. Besides, inputs may be any linear combinations, and constant inputs save their rows.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `full r.i square`, `fourth`, `fifth` | `x² = s`, `s² = q`, `q · x = y` | the S-box of element `i` in full round `r` |
//! | `partial r …` | likewise | the S-box of the first element in partial round `r` |
//!
//! The linear layers are linear combinations; those of the partial rounds are worked out once per field.
//! *Soundness:* each row defines its value, and with `active = 1` the values are those of the permutation. With
//! `active = 0` they are those of another one, so a caller must use a digest only in rows that are multiplied by `active`.
//! *Completeness:* each row defines its value. Rows: `3 · (8 · (width − 1) + partial rounds)` plus 24 − 3 for the capacity's
//! constant first round: 384 for arity 8, 285 for arity 4; 3 less for each constant element.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use neptune::Arity;
use neptune::hash_type::{CType, HashType};
use neptune::poseidon::{Poseidon, PoseidonConstants};
use typenum::{U4, U8};

use crate::gadgets::{Lc, enforce};

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

/// Round constants and matrices of one permutation, with the partial rounds as linear forms.
#[derive(Debug)]
struct Permutation<F> {
    width: usize,
    /// The constants of each full round.
    full: Vec<Vec<F>>,
    matrix: Vec<Vec<F>>,
    /// The input of the S-box of each partial round: coefficients of one, of the state before the first partial round, and of
    /// the outputs of the S-boxes so far.
    partial: Vec<Vec<F>>,
    /// The state after the partial rounds, likewise.
    after: Vec<Vec<F>>,
}

impl<F: PrimeField> Permutation<F> {
    fn new<A: Arity<F>>(constants: &PoseidonConstants<F, A>) -> Self {
        let width = constants.width();
        let matrix = constants.mds_matrices.m.clone();
        let rounds: Vec<Vec<F>> = constants
            .round_constants
            .iter()
            .flatten()
            .copied()
            .collect::<Vec<F>>()
            .chunks(width)
            .map(<[F]>::to_vec)
            .collect();
        let (half, partial) = (constants.half_full_rounds, constants.partial_rounds);
        let forms = 1 + width + partial;
        let unit = |at: usize| (0..forms).map(|i| if i == at { F::ONE } else { F::ZERO }).collect::<Vec<F>>();
        let mut state: Vec<Vec<F>> = (0..width).map(|i| unit(1 + i)).collect();
        let mut inputs = Vec::with_capacity(partial);
        for round in 0..partial {
            for (form, constant) in state.iter_mut().zip(&rounds[half + round]) {
                form[0] += constant;
            }
            inputs.push(state[0][..1 + width + round].to_vec());
            state[0] = unit(1 + width + round);
            state = matrix
                .iter()
                .map(|row| (0..forms).map(|at| row.iter().zip(&state).map(|(m, form)| *m * form[at]).sum()).collect())
                .collect();
        }
        let full = rounds[..half].iter().chain(&rounds[half + partial..][..half]).cloned().collect();
        Self { width, full, matrix, partial: inputs, after: state }
    }

    fn mix(&self, state: &[Lc<F>]) -> Vec<Lc<F>> {
        self.matrix.iter().map(|row| Lc::sum(row.iter().copied().zip(state))).collect()
    }

    /// The digest of `elements`, with all constants multiplied by `active`.
    fn hash<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        active: &Lc<F>,
        tag: F,
        elements: &[Lc<F>],
    ) -> Result<Lc<F>, SynthesisError> {
        debug_assert_eq!(elements.len() + 1, self.width);
        if cs.is_witness_generator() {
            let (values, digest) = self.witness(active, tag, elements).ok_or(SynthesisError::AssignmentMissing)?;
            cs.extend_aux(&values);
            // A witness generator is asked for no row, so it does not matter what the digest is a combination of.
            return Ok(Lc::variable(CS::one(), Some(digest)));
        }
        let mut state: Vec<Lc<F>> = [active.times(tag)].into_iter().chain(elements.iter().cloned()).collect();
        let half = self.full.len() / 2;
        for (round, constants) in self.full.iter().enumerate() {
            if round == half {
                state = self.partial_rounds(cs, active, &state)?;
            }
            let mut boxed = Vec::with_capacity(self.width);
            for (i, (x, constant)) in state.iter().zip(constants).enumerate() {
                let first = round == 0 && (i == 0 || x.as_constant().is_some());
                boxed.push(match (first, x.as_constant()) {
                    // The same constant in every active slot: `active` is its own fifth power.
                    (true, known) => {
                        let constant = known.unwrap_or(tag) + constant;
                        active.times(constant.square().square() * constant)
                    }
                    (false, _) => {
                        let x = Lc::sum([(F::ONE, x), (*constant, active)]);
                        fifth_power(&mut cs.namespace(|| format!("full {round}.{i}")), &x)?
                    }
                });
            }
            if round + 1 == self.full.len() {
                return Ok(Lc::sum(self.matrix[1].iter().copied().zip(&boxed)));
            }
            state = self.mix(&boxed);
        }
        Err(SynthesisError::Unsatisfiable)
    }

    /// The values of the variables of [`Permutation::hash`] in order, and the digest; `None` where a value is missing.
    fn witness(&self, active: &Lc<F>, tag: F, elements: &[Lc<F>]) -> Option<(Vec<F>, F)> {
        let active = active.value()?;
        let mut values = Vec::with_capacity(3 * (self.full.len() * self.width + self.partial.len()));
        let mut fifth = |x: F| {
            let square = x.square();
            let fourth = square.square();
            values.extend([square, fourth, fourth * x]);
            fourth * x
        };
        let dot = |row: &[F], state: &[F]| row.iter().zip(state).map(|(a, b)| *a * b).sum::<F>();
        let mut state = vec![active * tag];
        for element in elements {
            state.push(element.value()?);
        }
        let half = self.full.len() / 2;
        for (round, constants) in self.full.iter().enumerate() {
            if round == half {
                let mut known = vec![active];
                known.extend(&state);
                for form in &self.partial {
                    known.push(fifth(dot(form, &known)));
                }
                state = self.after.iter().map(|form| dot(form, &known)).collect();
            }
            for (i, (x, constant)) in state.iter_mut().zip(constants).enumerate() {
                let known = if i == 0 { Some(tag) } else { elements[i - 1].as_constant() };
                *x = match known.filter(|_| round == 0) {
                    Some(known) => active * (known + constant).pow_vartime([5]),
                    None => fifth(*x + *constant * active),
                };
            }
            if round + 1 == self.full.len() {
                let digest = dot(&self.matrix[1], &state);
                return Some((values, digest));
            }
            state = self.matrix.iter().map(|row| dot(row, &state)).collect();
        }
        None
    }

    fn partial_rounds<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        active: &Lc<F>,
        state: &[Lc<F>],
    ) -> Result<Vec<Lc<F>>, SynthesisError> {
        let mut known: Vec<Lc<F>> = [active.clone()].into_iter().chain(state.iter().cloned()).collect();
        for (round, form) in self.partial.iter().enumerate() {
            let x = Lc::sum(form.iter().copied().zip(&known));
            known.push(fifth_power(&mut cs.namespace(|| format!("partial {round}")), &x)?);
        }
        Ok(self.after.iter().map(|form| Lc::sum(form.iter().copied().zip(&known))).collect())
    }
}

/// `x⁵`: three rows.
fn fifth_power<F: PrimeField, CS: ConstraintSystem<F>>(cs: &mut CS, x: &Lc<F>) -> Result<Lc<F>, SynthesisError> {
    let product = |cs: &mut CS, name: &'static str, a: &Lc<F>, b: &Lc<F>| {
        let value = a.value().zip(b.value()).map(|(a, b)| a * b);
        let product = Lc::alloc(cs, || name.into(), value)?;
        enforce(cs, || name.into(), a, b, &product);
        Ok::<_, SynthesisError>(product)
    };
    let square = product(cs, "square", x, x)?;
    let fourth = product(cs, "fourth", &square, &square)?;
    product(cs, "fifth", &fourth, x)
}

/// The hash functions of one field. Making one takes some milliseconds; [`Hasher::shared`] makes each once.
#[derive(Debug)]
pub struct Hasher<F: PrimeField> {
    wide: Vec<PoseidonConstants<F, U8>>,
    leaf: PoseidonConstants<F, U4>,
    wide_rounds: Permutation<F>,
    leaf_rounds: Permutation<F>,
}

impl<F: PrimeField> Hasher<F> {
    fn new() -> Self {
        let wide = PoseidonConstants::<F, U8>::new();
        let leaf = tagged(&PoseidonConstants::<F, U4>::new(), LEAF);
        Self {
            wide_rounds: Permutation::new(&wide),
            leaf_rounds: Permutation::new(&leaf),
            wide: Domain::ALL.iter().map(|domain| tagged(&wide, domain.identifier())).collect(),
            leaf,
        }
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
        Poseidon::new_with_preimage(elements, &self.wide[domain as usize]).hash()
    }

    /// The digest of a leaf: key, low and high limb of the value, next key.
    pub fn leaf(&self, elements: &[F; NARROW]) -> F {
        Poseidon::new_with_preimage(elements, &self.leaf).hash()
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
        self.wide_rounds.hash(cs, active, self.wide[domain as usize].domain_tag, elements)
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
        self.leaf_rounds.hash(cs, active, self.leaf.domain_tag, elements)
    }
}

fn tagged<F: PrimeField, A: Arity<F>>(base: &PoseidonConstants<F, A>, identifier: u64) -> PoseidonConstants<F, A> {
    let hash_type = HashType::Custom(CType::Arbitrary(identifier));
    let mut constants = base.clone();
    constants.domain_tag = hash_type.domain_tag();
    constants.hash_type = hash_type;
    constants
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
