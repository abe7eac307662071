//! A constraint system that only writes values down.

use bellpepper_core::{ConstraintSystem, Index, LinearCombination, SynthesisError, Variable};
use ff::PrimeField;

/// The values of variables in the order of their allocation. Names and rows are never asked for.
#[derive(Clone, Debug)]
pub struct Assignment<F> {
    public: Vec<F>,
    private: Vec<F>,
}

impl<F: PrimeField> Assignment<F> {
    /// An empty assignment with room for this many public variables, the constant one included, and private ones.
    pub fn with_capacity(public: usize, private: usize) -> Self {
        let mut assignment = Self { public: Vec::with_capacity(public), private: Vec::with_capacity(private) };
        assignment.public.push(F::ONE);
        assignment
    }

    /// The public variables, the constant one first, and the private ones.
    pub fn into_parts(self) -> (Vec<F>, Vec<F>) {
        (self.public, self.private)
    }
}

impl<F: PrimeField> ConstraintSystem<F> for Assignment<F> {
    type Root = Self;

    fn new() -> Self {
        Self::with_capacity(1, 0)
    }

    fn alloc<V, A, AR>(&mut self, _: A, value: V) -> Result<Variable, SynthesisError>
    where
        V: FnOnce() -> Result<F, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.private.push(value()?);
        Ok(Variable(Index::Aux(self.private.len() - 1)))
    }

    fn alloc_input<V, A, AR>(&mut self, _: A, value: V) -> Result<Variable, SynthesisError>
    where
        V: FnOnce() -> Result<F, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.public.push(value()?);
        Ok(Variable(Index::Input(self.public.len() - 1)))
    }

    fn enforce<A, AR, LA, LB, LC>(&mut self, _: A, _: LA, _: LB, _: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
        LB: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
        LC: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
    {
    }

    fn is_witness_generator(&self) -> bool {
        true
    }

    fn extend_aux(&mut self, values: &[F]) {
        self.private.extend_from_slice(values);
    }

    fn push_namespace<NR, N>(&mut self, _: N)
    where
        NR: Into<String>,
        N: FnOnce() -> NR,
    {
    }

    fn pop_namespace(&mut self) {}

    fn get_root(&mut self) -> &mut Self {
        self
    }
}
