//! A constraint system that counts rows by the namespace they stand in.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use bellpepper_core::{ConstraintSystem, Index, LinearCombination, SynthesisError, Variable};
use ff::PrimeField;

/// Counts rows by outermost namespace; rows outside of any count for the empty name. It never asks for a value.
#[derive(Clone, Debug)]
pub struct TallyCs<F> {
    counts: BTreeMap<String, u64>,
    current: String,
    depth: usize,
    inputs: usize,
    aux: usize,
    _field: PhantomData<F>,
}

impl<F: PrimeField> TallyCs<F> {
    /// The rows of each namespace.
    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }
}

impl<F: PrimeField> Default for TallyCs<F> {
    fn default() -> Self {
        Self { counts: BTreeMap::new(), current: String::new(), depth: 0, inputs: 1, aux: 0, _field: PhantomData }
    }
}

impl<F: PrimeField> ConstraintSystem<F> for TallyCs<F> {
    type Root = Self;

    fn new() -> Self {
        Self::default()
    }

    fn alloc<V, A, AR>(&mut self, _: A, _: V) -> Result<Variable, SynthesisError>
    where
        V: FnOnce() -> Result<F, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.aux += 1;
        Ok(Variable(Index::Aux(self.aux - 1)))
    }

    fn alloc_input<V, A, AR>(&mut self, _: A, _: V) -> Result<Variable, SynthesisError>
    where
        V: FnOnce() -> Result<F, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.inputs += 1;
        Ok(Variable(Index::Input(self.inputs - 1)))
    }

    fn enforce<A, AR, LA, LB, LC>(&mut self, _: A, _: LA, _: LB, _: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
        LB: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
        LC: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
    {
        match self.counts.get_mut(&self.current) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(self.current.clone(), 1);
            }
        }
    }

    fn push_namespace<NR, N>(&mut self, name: N)
    where
        NR: Into<String>,
        N: FnOnce() -> NR,
    {
        if self.depth == 0 {
            self.current = name().into();
        }
        self.depth += 1;
    }

    fn pop_namespace(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        if self.depth == 0 {
            self.current.clear();
        }
    }

    fn get_root(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use blstrs::Scalar;

    use super::*;

    #[test]
    fn rows_count_for_their_outermost_namespace() {
        let mut cs = TallyCs::<Scalar>::default();
        let row = |cs: &mut TallyCs<Scalar>| cs.enforce(|| "", |lc| lc, |lc| lc, |lc| lc);
        row(&mut cs);
        {
            let mut outer = cs.namespace(|| "outer");
            outer.enforce(|| "", |lc| lc, |lc| lc, |lc| lc);
            outer.namespace(|| "inner").enforce(|| "", |lc| lc, |lc| lc, |lc| lc);
        }
        row(&mut cs);
        let counts: Vec<(&str, u64)> = cs.counts().iter().map(|(name, count)| (name.as_str(), *count)).collect();
        assert_eq!(counts, [("", 2), ("outer", 2)]);
    }
}
