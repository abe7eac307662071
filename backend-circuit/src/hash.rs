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
    /// One hash function for each of `1 ..= count` as the tag. Deriving round constants and matrices takes some milliseconds
    /// and is done once.
    pub fn family(count: u64) -> Vec<Self> {
        let base = PoseidonConstants::<F, A>::new();
        let permutation = Arc::new(Permutation::new(&base));
        let tagged = |tag: u64| Self { constants: tagged(&base, tag), permutation: Arc::clone(&permutation) };
        (1..=count).map(tagged).collect()
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
        debug_assert!(elements.len() <= A::to_usize());
        let mut block = elements.to_vec();
        block.resize(A::to_usize(), Lc::zero());
        let digest = self.permutation.hash(cs, &Lc::one(), self.constants.domain_tag, &block)?;
        Ok(Lc::from_num(&digest.to_num(&mut cs.namespace(|| "digest"))?))
    }
}

/// The constants with another domain tag.
pub(crate) fn tagged<F: PrimeField, A: Arity<F>>(
    base: &PoseidonConstants<F, A>,
    identifier: u64,
) -> PoseidonConstants<F, A> {
    let hash_type = HashType::Custom(CType::Arbitrary(identifier));
    let mut constants = base.clone();
    constants.domain_tag = hash_type.domain_tag();
    constants.hash_type = hash_type;
    constants
}

/// Round constants and matrices of one permutation, with the partial rounds as linear forms.
#[derive(Debug)]
pub(crate) struct Permutation<F> {
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
    pub(crate) fn new<A: Arity<F>>(constants: &PoseidonConstants<F, A>) -> Self {
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

    fn mix(&self, state: &[Lc<F>]) -> Vec<Lc<F>> {
        self.matrix.iter().map(|row| Lc::sum(row.iter().copied().zip(state))).collect()
    }

    /// The digest of `elements`, with all constants multiplied by `active`: see the head of this file.
    pub(crate) fn hash<CS: ConstraintSystem<F>>(
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
            return Ok(Lc::opaque(digest));
        }
        let mut state: Vec<Lc<F>> = [active.times(tag)].into_iter().chain(elements.iter().cloned()).collect();
        let half = self.full.len() / 2;
        for (round, constants) in self.full.iter().enumerate() {
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
            state = match round + 1 == half {
                true => self.partial_rounds(cs, active, &boxed)?,
                false => self.mix(&boxed),
            };
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
            if round + 1 == half {
                let mut known = vec![active];
                known.extend(&state);
                for form in &self.partial {
                    known.push(fifth(dot(form, &known)));
                }
                state = self.after.iter().map(|form| dot(form, &known)).collect();
            } else {
                state = self.matrix.iter().map(|row| dot(row, &state)).collect();
            }
        }
        None
    }

    fn partial_rounds<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        active: &Lc<F>,
        boxed: &[Lc<F>],
    ) -> Result<Vec<Lc<F>>, SynthesisError> {
        let mut known: Vec<Lc<F>> = [active.clone()].into_iter().chain(boxed.iter().cloned()).collect();
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
