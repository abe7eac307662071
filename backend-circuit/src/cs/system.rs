//! A constraint system as data: the rows of a circuit, recorded once without a witness.
//!
//! Recorded rows are evaluated on many witnesses (tests) and exported ([`crate::export`]). Evaluation relies on what gadgets
//! look like: most variables are bits and most coefficients are one or a power of two, so most terms are an addition or
//! nothing.

use bellpepper_core::{ConstraintSystem, Index, LinearCombination, SynthesisError, Variable};
use ff::PrimeField;

/// A coefficient, with the two that need no multiplication apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coefficient<F> {
    One,
    MinusOne,
    Other(F),
}

/// A term: a wire (inputs first, from the constant one, then private variables) and its coefficient.
type Terms<F> = Vec<(Index, Coefficient<F>)>;

/// Rows `a · b = c` and the number of variables they are about.
#[derive(Clone, Debug)]
pub struct System<F> {
    inputs: usize,
    aux: usize,
    rows: Vec<[Terms<F>; 3]>,
}

impl<F: PrimeField> System<F> {
    /// The number of public variables, the constant one included.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The number of private variables.
    pub fn aux(&self) -> usize {
        self.aux
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Calls `visit` with the wire and coefficient of each term of one side (0, 1 or 2) of a row. Wires number the public
    /// variables from the constant one, then the private ones.
    pub fn for_each_term(&self, row: usize, side: usize, mut visit: impl FnMut(usize, F)) {
        for (index, coefficient) in self.rows.get(row).and_then(|row| row.get(side)).into_iter().flatten() {
            let wire = match *index {
                Index::Input(input) => input,
                Index::Aux(aux) => self.inputs + aux,
            };
            visit(
                wire,
                match coefficient {
                    Coefficient::One => F::ONE,
                    Coefficient::MinusOne => -F::ONE,
                    Coefficient::Other(value) => *value,
                },
            );
        }
    }

    /// The first row that does not hold, for values of all public (the constant one first) and private variables.
    pub fn first_broken(&self, inputs: &[F], aux: &[F]) -> Option<usize> {
        let value = |terms: &Terms<F>| {
            let mut sum = F::ZERO;
            for (index, coefficient) in terms {
                let value = match *index {
                    Index::Input(input) => inputs[input],
                    Index::Aux(index) => aux[index],
                };
                if value == F::ZERO {
                    continue;
                }
                match coefficient {
                    Coefficient::One => sum += value,
                    Coefficient::MinusOne => sum -= value,
                    Coefficient::Other(coefficient) if value == F::ONE => sum += coefficient,
                    Coefficient::Other(coefficient) => sum += value * coefficient,
                }
            }
            sum
        };
        self.rows.iter().position(|[a, b, c]| {
            let a = value(a);
            let product = if a == F::ZERO { a } else { a * value(b) };
            product != value(c)
        })
    }
}

impl<F: PrimeField> Default for System<F> {
    fn default() -> Self {
        Self { inputs: 1, aux: 0, rows: Vec::new() }
    }
}

impl<F: PrimeField> ConstraintSystem<F> for System<F> {
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

    fn enforce<A, AR, LA, LB, LC>(&mut self, _: A, a: LA, b: LB, c: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
        LB: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
        LC: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
    {
        let terms = |lc: LinearCombination<F>| {
            let term = |(variable, coefficient): (Variable, &F)| {
                let coefficient = match *coefficient {
                    value if value == F::ONE => Coefficient::One,
                    value if value == -F::ONE => Coefficient::MinusOne,
                    value => Coefficient::Other(value),
                };
                (variable.0, coefficient)
            };
            lc.iter().map(term).collect()
        };
        let [a, b, c] = [a(LinearCombination::zero()), b(LinearCombination::zero()), c(LinearCombination::zero())];
        self.rows.push([terms(a), terms(b), terms(c)]);
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
