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
use neptune::circuit2_witness::poseidon_hash_scalar_witness;
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
        let mut inputs = Vec::with_capacity(A::to_usize());
        for index in 0..A::to_usize() {
            let constant = elements.get(index).map_or(Some(F::ZERO), Lc::as_constant);
            inputs.push(match (constant, elements.get(index)) {
                (None, Some(element)) => {
                    Elt::Allocated(element.to_num(&mut cs.namespace(|| format!("element {index}")))?)
                }
                (constant, _) => Elt::num_from_fr::<CS>(constant.unwrap_or(F::ZERO)),
            });
        }
        if cs.is_witness_generator() {
            // The same values in the same order, without the linear combinations, which take ten times as long as the values.
            let values = inputs.iter().map(|input| input.val().ok_or(SynthesisError::AssignmentMissing));
            let (rounds, digest) = poseidon_hash_scalar_witness(&values.collect::<Result<Vec<F>, _>>()?, &self.0);
            cs.extend_aux(&rounds);
            return Lc::alloc(cs, || "digest".into(), Some(digest));
        }
        inputs.insert(0, Elt::num_from_fr::<CS>(self.0.domain_tag));
        let mut circuit = PoseidonCircuit2::new(inputs, &self.0);
        let digest = circuit.hash(&mut cs.namespace(|| "rounds"))?;
        Ok(Lc::from_num(&digest.ensure_allocated(&mut cs.namespace(|| "digest"), true)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cs::{Assignment, CheckCs, Names};
    use typenum::{U3, U36};

    /// Elements of which some are constants and some are missing, so that not all are variables.
    fn agrees<F: PrimeField, A: Arity<F>>() {
        let hash = &Hash::<F, A>::family(2)[1];
        let elements = |cs: &mut dyn FnMut(F) -> Lc<F>| -> Vec<Lc<F>> {
            let value = |i: usize| F::from(5 + i as u64).invert().unwrap();
            (0..A::to_usize() - 1).map(|i| if i == 1 { Lc::constant(value(i)) } else { cs(value(i)) }).collect()
        };
        let mut checked = CheckCs::<F>::checking(Names::Kept);
        let given = elements(&mut |value| Lc::alloc(&mut checked, || "element".into(), Some(value)).unwrap());
        let in_rows = hash.hash_in_circuit(&mut checked, &given).unwrap();
        assert_eq!(checked.verdict(), Ok(()));
        let mut assigned = Assignment::<F>::with_capacity(1, 0);
        let given = elements(&mut |value| Lc::alloc(&mut assigned, || "element".into(), Some(value)).unwrap());
        let in_witness = hash.hash_in_circuit(&mut assigned, &given).unwrap();
        let values: Vec<F> = given.iter().filter_map(Lc::value).collect();
        assert_eq!(in_rows.value(), Some(hash.hash(&values)));
        assert_eq!(in_witness.value(), in_rows.value());
        assert_eq!(assigned.into_parts().1, checked.aux());
    }

    #[test]
    fn witnesses_are_those_of_the_rows() {
        agrees::<crate::nova::Fr, U3>();
        agrees::<crate::nova::Fr, U36>();
        agrees::<blstrs::Scalar, U36>();
    }
}
