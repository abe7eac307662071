//! Poseidon of a fixed number of field elements, natively and in the circuit.
//!
//! The permutation is `neptune`'s, of 128 bits of security. Its width is one more than the number of elements; the extra element
//! starts as a domain tag, so that hashes with different tags, or of different numbers of elements, are unrelated functions.
//!
//! Rows of one hash: 264 for 3 elements, 387 for 8, 460 for 11, 1,068 for 36, and one for each element that is neither a
//! variable nor a constant.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use neptune::Arity;
use neptune::circuit2::{Elt, PoseidonCircuit2};
use neptune::hash_type::{CType, HashType};
use neptune::poseidon::{Poseidon, PoseidonConstants};

use crate::gadgets::Lc;

/// A hash of as many elements as the arity `A` says.
#[derive(Clone, Debug)]
pub struct Hash<F: PrimeField, A: Arity<F>>(PoseidonConstants<F, A>);

impl<F: PrimeField, A: Arity<F>> Hash<F, A> {
    /// One hash function for each of `1 ..= count` as the tag. Deriving round constants and matrices takes some milliseconds
    /// and is done once.
    pub fn family(count: u64) -> Vec<Self> {
        let base = PoseidonConstants::<F, A>::new();
        let tagged = |tag: u64| {
            let hash_type = HashType::Custom(CType::Arbitrary(tag));
            let mut constants = base.clone();
            constants.domain_tag = hash_type.domain_tag();
            constants.hash_type = hash_type;
            Self(constants)
        };
        (1..=count).map(tagged).collect()
    }

    /// The hash of `elements`, as many as the arity says; missing ones count as zero.
    pub fn hash(&self, elements: &[F]) -> F {
        let mut block = vec![F::ZERO; A::to_usize()];
        for (to, element) in block.iter_mut().zip(elements) {
            *to = *element;
        }
        Poseidon::new_with_preimage(&block, &self.0).hash()
    }

    /// The hash of `elements`, as many as the arity says; missing ones count as zero. Rows: see the head of this file.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn hash_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        elements: &[Lc<F>],
    ) -> Result<Lc<F>, SynthesisError> {
        debug_assert!(elements.len() <= A::to_usize());
        let mut inputs = vec![Elt::num_from_fr::<CS>(self.0.domain_tag)];
        for index in 0..A::to_usize() {
            let constant = elements.get(index).map_or(Some(F::ZERO), Lc::as_constant);
            inputs.push(match (constant, elements.get(index)) {
                (None, Some(element)) => {
                    Elt::Allocated(element.to_num(&mut cs.namespace(|| format!("element {index}")))?)
                }
                (constant, _) => Elt::num_from_fr::<CS>(constant.unwrap_or(F::ZERO)),
            });
        }
        let mut circuit = PoseidonCircuit2::new(inputs, &self.0);
        let digest = circuit.hash(&mut cs.namespace(|| "rounds"))?;
        Ok(Lc::from_num(&digest.ensure_allocated(&mut cs.namespace(|| "digest"), true)?))
    }
}
