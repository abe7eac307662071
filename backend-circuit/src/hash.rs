//! Poseidon of a fixed number of field elements, natively and in the circuit.
//!
//! The permutation is `neptune`'s, of 128 bits of security. Its width is one more than the number of elements; the extra element
//! starts as a domain tag, so that hashes with different tags, or of different numbers of elements, are unrelated functions. The
//! digest is the first of the other elements.
//!
//! The circuit is written anew. Every constant of the permutation is multiplied by a boolean `active`, which costs nothing: in an idle slot,
//! where the elements are zero, all witness values are zero. Elements may be any linear combinations, and constant elements save their rows.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `full r.i square`, `fourth`, `fifth` | `x² = s`, `s² = q`, `q · x = y` | the S-box of element `i` in full round `r` |
//! | `partial r …` | likewise | the S-box of the first element in partial round `r` |
//!
//! The linear layers are linear combinations; those of the partial rounds are worked out once per field, of the outputs of S-boxes.
//! *Soundness:* each row defines its value, and with `active = 1` the values are those of the permutation. With
//! `active = 0` they are those of another one, so a caller must use a digest only in rows that are multiplied by `active`.
//! *Completeness:* each row defines its value. Rows: `3 · (8 · (width − 1) + partial rounds)` plus 24 − 3 for the capacity's
//! constant first round, less 3 for each constant element.

use std::sync::Arc;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use neptune::Arity;
use neptune::hash_type::{CType, HashType};
use neptune::poseidon::{Poseidon, PoseidonConstants};

use crate::gadgets::{Lc, enforce};

/// A hash of as many elements as the arity `A` says.
#[derive(Clone, Debug)]
pub struct Hash<F: PrimeField, A: Arity<F>> {
    constants: PoseidonConstants<F, A>,
    permutation: Arc<Permutation<F>>,
}

impl<F: PrimeField, A: Arity<F>> Hash<F, A> {
    /// One hash function for each of `tags`. Deriving round constants and matrices takes some milliseconds and is done once.
    pub fn family(tags: impl IntoIterator<Item = u64>) -> Vec<Self> {
        let base = PoseidonConstants::<F, A>::new();
        let permutation = Arc::new(Permutation::new(&base));
        let tagged = |tag: u64| {
            let hash_type = HashType::Custom(CType::Arbitrary(tag));
            let mut constants = base.clone();
            constants.domain_tag = hash_type.domain_tag();
            constants.hash_type = hash_type;
            Self { constants, permutation: Arc::clone(&permutation) }
        };
        tags.into_iter().map(tagged).collect()
    }

    /// The hash of `elements`, as many as the arity says; missing ones count as zero.
    pub fn hash(&self, elements: &[F]) -> F {
        let mut block = vec![F::ZERO; A::to_usize()];
        for (to, element) in block.iter_mut().zip(elements) {
            *to = *element;
        }
        Poseidon::new_with_preimage(&block, &self.constants).hash()
    }

    /// The hash of `elements`, as many as the arity says, as a variable; missing ones count as zero. Rows: one more than at the head of this file.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn hash_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        elements: &[Lc<F>],
    ) -> Result<Lc<F>, SynthesisError> {
        let digest = self.hash_where(cs, &Lc::one(), elements)?;
        Ok(Lc::from_num(&digest.to_num(&mut cs.namespace(|| "digest"))?))
    }

    /// The hash of `elements` where the boolean `active` is one, as a combination. Where it is zero the elements must be zero as well, and the
    /// hash means nothing. Rows: see the head of this file.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn hash_where<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        active: &Lc<F>,
        elements: &[Lc<F>],
    ) -> Result<Lc<F>, SynthesisError> {
        debug_assert!(elements.len() <= A::to_usize());
        let tag = self.constants.domain_tag;
        let mut state = vec![active.times(tag)];
        state.extend_from_slice(elements);
        state.resize(1 + A::to_usize(), Lc::zero());
        let known: Vec<Option<F>> = [Some(tag)].into_iter().chain(state[1..].iter().map(Lc::as_constant)).collect();
        if !cs.is_witness_generator() {
            let boxed = |name: &dyn Fn() -> String, x: &Lc<F>| fifth_power(&mut cs.namespace(name), x);
            return self.permutation.digest(active, &known, state, boxed);
        }
        // The same values in the same order, without the combinations, which take ten times as long as the values.
        let value = |lc: &Lc<F>| lc.value().ok_or(SynthesisError::AssignmentMissing);
        let mut rounds = Vec::new();
        let boxed = |_: &dyn Fn() -> String, x: &F| {
            let square = x.square();
            let fourth = square.square();
            rounds.extend([square, fourth, fourth * x]);
            Ok::<_, SynthesisError>(fourth * x)
        };
        let state = state.iter().map(value).collect::<Result<_, _>>()?;
        let digest = self.permutation.digest(&value(active)?, &known, state, boxed)?;
        cs.extend_aux(&rounds);
        Ok(Lc::opaque(digest))
    }
}

/// What the permutation is worked out on: values, or combinations of variables.
trait Number<F>: Sized {
    /// `Σ coeff · term`.
    fn sum<'a>(terms: impl Iterator<Item = (F, &'a Self)>) -> Self
    where
        F: 'a,
        Self: 'a;
}

impl<F: PrimeField> Number<F> for F {
    fn sum<'a>(terms: impl Iterator<Item = (F, &'a Self)>) -> Self {
        terms.map(|(coeff, term)| coeff * term).sum()
    }
}

impl<F: PrimeField> Number<F> for Lc<F> {
    fn sum<'a>(terms: impl Iterator<Item = (F, &'a Self)>) -> Self
    where
        F: 'a,
    {
        Self::sum(terms)
    }
}

/// Round constants and matrices of one permutation, with the partial rounds as linear forms.
#[derive(Debug)]
struct Permutation<F> {
    width: usize,
    /// What is added before the S-boxes of each full round; in the first one after the partial rounds that is in their forms.
    full: Vec<Vec<F>>,
    matrix: Vec<Vec<F>>,
    /// The input of the S-box of each partial round: coefficients of one, of the outputs of the S-boxes of the full round before, and
    /// of the outputs of the S-boxes of the partial rounds so far.
    partial: Vec<Vec<F>>,
    /// The inputs of the S-boxes of the full round after the partial rounds, likewise.
    after: Vec<Vec<F>>,
}

impl<F: PrimeField> Permutation<F> {
    /// Works the forms out.
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
        // Neptune's own form: one constant a round, added behind the S-box, and a sparse matrix.
        let (behind, rest) = constants.compressed_round_constants[width * half..].split_at(width);
        let forms = 1 + width + partial;
        let mut state: Vec<Vec<F>> = (0..width)
            .map(|to| {
                let column = constants.pre_sparse_matrix.iter().map(|row| row[to]);
                let constant = column.clone().zip(behind).map(|(m, c)| m * c).sum();
                let mut form: Vec<F> = [constant].into_iter().chain(column).collect();
                form.resize(forms, F::ZERO);
                form
            })
            .collect();
        let mut inputs = Vec::with_capacity(partial);
        for (round, (constant, sparse)) in rest.iter().zip(&constants.sparse_matrixes).take(partial).enumerate() {
            inputs.push(state[0][..1 + width + round].to_vec());
            let mut output = vec![F::ZERO; forms];
            (output[0], output[1 + width + round]) = (*constant, F::ONE);
            state[0] = output.clone();
            let first =
                (0..forms).map(|at| state.iter().zip(&sparse.w_hat).map(|(form, w)| form[at] * w).sum()).collect();
            for (form, v) in state[1..].iter_mut().zip(&sparse.v_rest) {
                form.iter_mut().zip(&output).for_each(|(to, from)| *to += *from * v);
            }
            state[0] = first;
        }
        let mut full: Vec<Vec<F>> = rounds[..half].iter().chain(&rounds[half + partial..][..half]).cloned().collect();
        full[half] = vec![F::ZERO; width];
        Self { width, full, matrix, partial: inputs, after: state }
    }

    /// The digest of a state, with all constants multiplied by `active`: see the head of this file. Elements that are `known` are constants where
    /// `active` is one. `boxed` gives the fifth power of a number, which it may name.
    fn digest<N: Number<F>, E>(
        &self,
        active: &N,
        known: &[Option<F>],
        mut state: Vec<N>,
        mut boxed: impl FnMut(&dyn Fn() -> String, &N) -> Result<N, E>,
    ) -> Result<N, E> {
        debug_assert_eq!(state.len(), self.width);
        let sum = |row: &[F], numbers: &[N]| N::sum(row.iter().copied().zip(numbers));
        let last = self.full.len() - 1;
        for (round, constants) in self.full.iter().enumerate() {
            for (i, (x, constant)) in state.iter_mut().zip(constants).enumerate() {
                *x = match known[i].filter(|_| round == 0) {
                    // The same constant in every active slot: `active` is its own fifth power.
                    Some(known) => {
                        let constant = known + constant;
                        N::sum([(constant.square().square() * constant, active)].into_iter())
                    }
                    None => {
                        let input = N::sum([(F::ONE, &*x), (*constant, active)].into_iter());
                        boxed(&|| format!("full {round}.{i}"), &input)?
                    }
                };
            }
            if round == last {
                break;
            }
            if round + 1 != self.full.len() / 2 {
                state = self.matrix.iter().map(|row| sum(row, &state)).collect();
                continue;
            }
            let mut outputs = vec![N::sum([(F::ONE, active)].into_iter())];
            outputs.append(&mut state);
            for (round, form) in self.partial.iter().enumerate() {
                outputs.push(boxed(&|| format!("partial {round}"), &sum(form, &outputs))?);
            }
            state = self.after.iter().map(|form| sum(form, &outputs)).collect();
        }
        Ok(sum(&self.matrix[1], &state))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cs::{Assignment, CheckCs, Names};
    use crate::digest::ADVICE_ROWS;
    use typenum::{U3, U8, U11, U36};

    /// Elements of which some are constants and some are missing, so that not all are variables.
    fn agrees<F: PrimeField, A: Arity<F>>(rows: usize) {
        let hash = &Hash::<F, A>::family([1, 2])[1];
        let elements = |cs: &mut dyn FnMut(F) -> Lc<F>| -> Vec<Lc<F>> {
            let value = |i: usize| F::from(5 + i as u64).invert().unwrap();
            (0..A::to_usize() - 1).map(|i| if i == 1 { Lc::constant(value(i)) } else { cs(value(i)) }).collect()
        };
        let mut checked = CheckCs::<F>::checking(Names::Kept);
        let given = elements(&mut |value| Lc::alloc(&mut checked, || "element".into(), Some(value)).unwrap());
        let in_rows = hash.hash_in_circuit(&mut checked, &given).unwrap();
        // Two elements are constants: one that is given, and the last one, which is missing.
        assert_eq!((checked.verdict(), checked.rows()), (Ok(()), rows - 3 * 2));
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
        agrees::<crate::nova::Fr, U3>(262);
        agrees::<crate::nova::Fr, U8>(385);
        agrees::<crate::nova::Fr, U11>(457);
        agrees::<crate::nova::Fr, U36>(ADVICE_ROWS as usize);
        agrees::<blstrs::Scalar, U36>(ADVICE_ROWS as usize);
    }
}
