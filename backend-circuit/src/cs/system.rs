//! A constraint system as data: the rows of a circuit, recorded once without a witness.
//!
//! Recorded rows are evaluated on the witness of every step before it is folded ([`crate::witness`]), on many witnesses in tests,
//! and exported ([`crate::export`]). Evaluation relies on what gadgets look like: most variables are bits and most coefficients
//! are one or a power of two, so most terms are an addition or nothing.

use std::collections::HashMap;

use bellpepper_core::{ConstraintSystem, Index, LinearCombination, SynthesisError, Variable};
use ff::PrimeField;

/// A term: its wire, and the place of its coefficient in the table. A wire is twice its number, one more for public variables,
/// since their count is not known before the last row.
#[derive(Clone, Copy, Debug)]
struct Term {
    wire: u32,
    coefficient: u32,
}

/// The places in the table of the two coefficients that need no multiplication.
const ONE: u32 = 0;
const MINUS_ONE: u32 = 1;

/// Rows `a · b = c` and the number of variables they are about. A term takes eight bytes.
#[derive(Clone, Debug)]
pub struct System<F> {
    inputs: usize,
    aux: usize,
    terms: Vec<Term>,
    /// Where the terms of `a`, `b` and `c` of each row end.
    ends: Vec<[u32; 3]>,
    /// The distinct coefficients.
    table: Vec<F>,
    /// The places of coefficients in the table, by their representation.
    places: HashMap<Vec<u8>, u32>,
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
        self.ends.len()
    }

    /// The number of terms of all rows.
    pub fn terms(&self) -> usize {
        self.terms.len()
    }

    /// The terms of one side (0, 1 or 2) of a row; none if there is no such row.
    fn side(&self, row: usize, side: usize) -> &[Term] {
        let Some(ends) = self.ends.get(row) else { return &[] };
        let from = match side {
            0 => row.checked_sub(1).and_then(|row| self.ends.get(row)).map_or(0, |ends| ends[2]),
            1 | 2 => ends[side - 1],
            _ => return &[],
        };
        self.terms.get(from as usize..ends[side] as usize).unwrap_or_default()
    }

    /// Calls `visit` with the wire and coefficient of each term of one side (0, 1 or 2) of a row. Wires number the public
    /// variables from the constant one, then the private ones.
    pub fn for_each_term(&self, row: usize, side: usize, mut visit: impl FnMut(usize, F)) {
        for term in self.side(row, side) {
            let number = (term.wire >> 1) as usize;
            let wire = if term.wire & 1 == 1 { number } else { self.inputs + number };
            visit(wire, self.table[term.coefficient as usize]);
        }
    }

    /// The first row that does not hold, for values of all public (the constant one first) and private variables.
    ///
    /// # Panics
    /// If there are fewer values than variables.
    pub fn first_broken(&self, inputs: &[F], aux: &[F]) -> Option<usize> {
        self.broken(inputs, aux).next()
    }

    /// The rows that do not hold, in order.
    ///
    /// # Panics
    /// As [`System::first_broken`].
    pub fn broken<'a>(&'a self, inputs: &'a [F], aux: &'a [F]) -> impl Iterator<Item = usize> + 'a {
        let value = |terms: &[Term]| {
            let mut sum = F::ZERO;
            for term in terms {
                let number = (term.wire >> 1) as usize;
                let value = if term.wire & 1 == 1 { &inputs[number] } else { &aux[number] };
                if *value == F::ZERO {
                    continue;
                }
                match term.coefficient {
                    ONE => sum += value,
                    MINUS_ONE => sum -= value,
                    coefficient if *value == F::ONE => sum += self.table[coefficient as usize],
                    coefficient => sum += self.table[coefficient as usize] * value,
                }
            }
            sum
        };
        let mut from = 0;
        self.ends.iter().enumerate().filter_map(move |(row, ends)| {
            let [a_end, b_end, c_end] = ends.map(|end| end as usize);
            let a = value(&self.terms[from..a_end]);
            let product = if a == F::ZERO { a } else { a * value(&self.terms[a_end..b_end]) };
            let holds = product == value(&self.terms[b_end..c_end]);
            from = c_end;
            (!holds).then_some(row)
        })
    }

    fn append(&mut self, lc: &LinearCombination<F>) -> u32 {
        for (variable, coefficient) in lc.iter() {
            let wire = match variable.0 {
                Index::Input(number) => (number as u32) << 1 | 1,
                Index::Aux(number) => (number as u32) << 1,
            };
            let coefficient = match self.places.get(coefficient.to_repr().as_ref()) {
                Some(&place) => place,
                None => {
                    let place = self.table.len() as u32;
                    self.table.push(*coefficient);
                    self.places.insert(coefficient.to_repr().as_ref().to_vec(), place);
                    place
                }
            };
            self.terms.push(Term { wire, coefficient });
        }
        self.terms.len() as u32
    }
}

impl<F: PrimeField> Default for System<F> {
    fn default() -> Self {
        let table = vec![F::ONE, -F::ONE];
        let places = (ONE..).zip(&table).map(|(place, value)| (value.to_repr().as_ref().to_vec(), place)).collect();
        Self { inputs: 1, aux: 0, terms: Vec::new(), ends: Vec::new(), table, places }
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
        let [a, b, c] = [a(LinearCombination::zero()), b(LinearCombination::zero()), c(LinearCombination::zero())];
        let ends = [self.append(&a), self.append(&b), self.append(&c)];
        self.ends.push(ends);
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
