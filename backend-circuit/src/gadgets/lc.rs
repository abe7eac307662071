//! Linear combinations that cost nothing until a constraint uses them.
//!
//! Gadgets add, scale and pack values far more often than they constrain them, and while a witness is generated no
//! constraint is built at all. An [`Lc`] therefore holds its value and a shared expression; the sorted list of
//! variables is computed, once per node, when a constraint asks for it.

use std::cell::OnceCell;
use std::rc::Rc;

use bellpepper_core::num::AllocatedNum;
use bellpepper_core::{ConstraintSystem, Index, LinearCombination, SynthesisError, Variable};
use ff::PrimeField;

use crate::field::two_pow;

/// The variable that is one in every constraint system.
const ONE: Variable = Variable(Index::Input(0));

/// A linear combination of variables, with its value where a witness is known.
#[derive(Clone, Debug)]
pub struct Lc<F: PrimeField> {
    value: Option<F>,
    node: Node<F>,
}

#[derive(Clone, Debug)]
enum Node<F: PrimeField> {
    Const(F),
    Var(Variable),
    Sum(Rc<Sum<F>>),
}

#[derive(Debug)]
struct Sum<F: PrimeField> {
    terms: Terms<F>,
    flat: OnceCell<Vec<(Variable, F)>>,
}

#[derive(Debug)]
enum Terms<F: PrimeField> {
    Scaled(Vec<(F, Node<F>)>),
    /// `Σ 2^i · bits[i]` over a part of shared bits.
    Bits(Rc<[Lc<F>]>, core::ops::Range<usize>),
}

fn order(variable: Variable) -> (u8, usize) {
    match variable.0 {
        Index::Input(i) => (0, i),
        Index::Aux(i) => (1, i),
    }
}

impl<F: PrimeField> Node<F> {
    fn append(&self, coeff: F, out: &mut Vec<(Variable, F)>) {
        match self {
            Self::Const(value) => out.push((ONE, coeff * value)),
            Self::Var(variable) => out.push((*variable, coeff)),
            Self::Sum(sum) => out.extend(sum.flat().iter().map(|(variable, inner)| (*variable, coeff * inner))),
        }
    }
}

impl<F: PrimeField> Sum<F> {
    fn flat(&self) -> &[(Variable, F)] {
        self.flat.get_or_init(|| {
            let mut all = Vec::new();
            match &self.terms {
                Terms::Scaled(parts) => parts.iter().for_each(|(coeff, node)| node.append(*coeff, &mut all)),
                Terms::Bits(bits, range) => {
                    let mut coeff = F::ONE;
                    for bit in &bits[range.clone()] {
                        bit.node.append(coeff, &mut all);
                        coeff = coeff.double();
                    }
                }
            }
            all.sort_by_key(|(variable, _)| order(*variable));
            let mut merged: Vec<(Variable, F)> = Vec::with_capacity(all.len());
            for (variable, coeff) in all {
                match merged.last_mut() {
                    Some((last, sum)) if *last == variable => *sum += coeff,
                    _ => merged.push((variable, coeff)),
                }
            }
            merged.retain(|(_, coeff)| !bool::from(coeff.is_zero()));
            merged
        })
    }
}

impl<F: PrimeField> Lc<F> {
    /// A constant.
    pub fn constant(value: F) -> Self {
        Self { value: Some(value), node: Node::Const(value) }
    }

    /// Zero.
    pub fn zero() -> Self {
        Self::constant(F::ZERO)
    }

    /// One.
    pub fn one() -> Self {
        Self::constant(F::ONE)
    }

    /// A variable with its value.
    pub fn variable(variable: Variable, value: Option<F>) -> Self {
        Self { value, node: Node::Var(variable) }
    }

    /// A combination of which nothing but the value is ever asked for, as by a system that generates a witness.
    pub(crate) fn opaque(value: F) -> Self {
        let sum = Sum { terms: Terms::Scaled(Vec::new()), flat: OnceCell::new() };
        Self { value: Some(value), node: Node::Sum(Rc::new(sum)) }
    }

    /// An allocated number of `bellpepper-core`.
    pub fn from_num(num: &AllocatedNum<F>) -> Self {
        Self::variable(num.get_variable(), num.get_value())
    }

    /// A new private variable, unconstrained. `value` is only asked for while a witness is generated.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants the value and there is none.
    pub fn alloc<CS: ConstraintSystem<F>>(
        cs: &mut CS,
        name: impl FnOnce() -> String,
        value: Option<F>,
    ) -> Result<Self, SynthesisError> {
        let variable = cs.alloc(name, || value.ok_or(SynthesisError::AssignmentMissing))?;
        Ok(Self::variable(variable, value))
    }

    /// The value, where a witness is known.
    pub fn value(&self) -> Option<F> {
        self.value
    }

    /// The value, if it is a constant of the circuit.
    pub fn as_constant(&self) -> Option<F> {
        match self.node {
            Node::Const(value) => Some(value),
            Node::Var(_) | Node::Sum(_) => None,
        }
    }

    /// Whether this is the constant zero of the circuit.
    pub fn is_zero(&self) -> bool {
        self.as_constant().is_some_and(|value| value.is_zero().into())
    }

    /// `Σ coeff · term`.
    pub fn sum<'a>(terms: impl IntoIterator<Item = (F, &'a Self)>) -> Self
    where
        F: 'a,
    {
        let mut value = Some(F::ZERO);
        let mut constant = F::ZERO;
        let mut parts = Vec::new();
        for (coeff, term) in terms {
            value = value.zip(term.value).map(|(sum, term)| sum + coeff * term);
            match &term.node {
                Node::Const(term) => constant += coeff * term,
                node if coeff != F::ZERO => parts.push((coeff, node.clone())),
                _ => {}
            }
        }
        if parts.is_empty() {
            return Self::constant(constant);
        }
        if constant != F::ZERO {
            parts.push((constant, Node::Const(F::ONE)));
        }
        if let [(coeff, node)] = parts.as_slice()
            && *coeff == F::ONE
        {
            return Self { value, node: node.clone() };
        }
        let sum = Sum { terms: Terms::Scaled(parts), flat: OnceCell::new() };
        Self { value, node: Node::Sum(Rc::new(sum)) }
    }

    /// `Σ 2^i · bits[from + i]` over a part of shared bits. `value` is that sum, which the caller knows as an integer.
    pub fn pack(bits: &Rc<[Self]>, range: core::ops::Range<usize>, value: Option<F>) -> Self {
        match range.len() {
            0 => Self::zero(),
            1 => bits[range.start].clone(),
            _ if bits[range.clone()].iter().all(|bit| bit.as_constant().is_some()) => {
                let mut coeff = F::ONE;
                let mut sum = F::ZERO;
                for bit in &bits[range] {
                    sum += coeff * bit.as_constant().unwrap_or(F::ZERO);
                    coeff = coeff.double();
                }
                Self::constant(sum)
            }
            _ => {
                let sum = Sum { terms: Terms::Bits(Rc::clone(bits), range), flat: OnceCell::new() };
                Self { value, node: Node::Sum(Rc::new(sum)) }
            }
        }
    }

    /// `self + other`.
    pub fn plus(&self, other: &Self) -> Self {
        Self::sum([(F::ONE, self), (F::ONE, other)])
    }

    /// `self − other`.
    pub fn minus(&self, other: &Self) -> Self {
        Self::sum([(F::ONE, self), (-F::ONE, other)])
    }

    /// `coeff · self`.
    pub fn times(&self, coeff: F) -> Self {
        Self::sum([(coeff, self)])
    }

    /// `2^exponent · self`.
    pub fn shifted(&self, exponent: u32) -> Self {
        self.times(two_pow(exponent))
    }

    /// `1 − self`, the negation of a boolean.
    pub fn complement(&self) -> Self {
        Self::one().minus(self)
    }

    /// The product: one row, none when a factor is constant.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn mul<CS: ConstraintSystem<F>>(
        cs: &mut CS,
        name: impl Fn() -> String,
        a: &Self,
        b: &Self,
    ) -> Result<Self, SynthesisError> {
        if let Some(a) = a.as_constant() {
            return Ok(b.times(a));
        }
        if let Some(b) = b.as_constant() {
            return Ok(a.times(b));
        }
        let value = a.value.zip(b.value).map(|(a, b)| a * b);
        let product = Self::alloc(cs, &name, value)?;
        enforce(cs, &name, a, b, &product);
        Ok(product)
    }

    /// `when_true` if the boolean `flag`, else `when_false`: one row, none when both are constant.
    ///
    /// # Errors
    /// See [`Lc::mul`].
    pub fn select<CS: ConstraintSystem<F>>(
        cs: &mut CS,
        name: impl Fn() -> String,
        flag: &Self,
        when_true: &Self,
        when_false: &Self,
    ) -> Result<Self, SynthesisError> {
        let difference = Self::mul(cs, name, flag, &when_true.minus(when_false))?;
        Ok(when_false.plus(&difference))
    }

    /// The same value as an allocated number: one row, none when it is a variable already.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn to_num<CS: ConstraintSystem<F>>(&self, cs: &mut CS) -> Result<AllocatedNum<F>, SynthesisError> {
        if let Node::Var(variable) = self.node {
            return existing_num(variable, self.value);
        }
        let mut cs = cs.namespace(|| "allocate");
        let num = AllocatedNum::alloc(&mut cs, || self.value.ok_or(SynthesisError::AssignmentMissing))?;
        enforce(&mut cs, || "equals".into(), self, &Self::one(), &Self::from_num(&num));
        Ok(num)
    }

    /// Calls `visit` with each variable and coefficient, the constant term as a coefficient of one, in a fixed order.
    pub fn for_each_term(&self, mut visit: impl FnMut(Variable, F)) {
        match &self.node {
            Node::Const(value) if *value == F::ZERO => {}
            Node::Const(value) => visit(ONE, *value),
            Node::Var(variable) => visit(*variable, F::ONE),
            Node::Sum(sum) => sum.flat().iter().for_each(|(variable, coeff)| visit(*variable, *coeff)),
        }
    }

    /// As a linear combination of `bellpepper-core`.
    pub fn to_bellpepper(&self) -> LinearCombination<F> {
        let mut lc = LinearCombination::zero();
        self.for_each_term(|variable, coeff| lc = std::mem::take(&mut lc) + (coeff, variable));
        lc
    }
}

/// An [`AllocatedNum`] for a variable that exists already.
///
/// `bellpepper-core` makes such a number only by allocating, so this allocates in a constraint system whose only
/// variable is the one wanted.
///
/// # Errors
/// None in practice; the signature is that of an allocation.
pub fn existing_num<F: PrimeField>(variable: Variable, value: Option<F>) -> Result<AllocatedNum<F>, SynthesisError> {
    struct Existing<F>(Variable, Option<F>);

    impl<F: PrimeField> ConstraintSystem<F> for Existing<F> {
        type Root = Self;

        fn alloc<V, A, AR>(&mut self, _: A, value: V) -> Result<Variable, SynthesisError>
        where
            V: FnOnce() -> Result<F, SynthesisError>,
            A: FnOnce() -> AR,
            AR: Into<String>,
        {
            if self.1.is_some() {
                value()?;
            }
            Ok(self.0)
        }

        fn alloc_input<V, A, AR>(&mut self, name: A, value: V) -> Result<Variable, SynthesisError>
        where
            V: FnOnce() -> Result<F, SynthesisError>,
            A: FnOnce() -> AR,
            AR: Into<String>,
        {
            self.alloc(name, value)
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

    AllocatedNum::alloc(Existing(variable, value), || value.ok_or(SynthesisError::AssignmentMissing))
}

/// One row: `a · b = c`.
pub fn enforce<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    name: impl FnOnce() -> String,
    a: &Lc<F>,
    b: &Lc<F>,
    c: &Lc<F>,
) {
    cs.enforce(name, |_| a.to_bellpepper(), |_| b.to_bellpepper(), |_| c.to_bellpepper());
}

/// One row: `x · (x − 1) = 0`.
pub fn enforce_boolean<F: PrimeField, CS: ConstraintSystem<F>>(cs: &mut CS, name: impl FnOnce() -> String, x: &Lc<F>) {
    cs.enforce(name, |_| x.to_bellpepper(), |_| x.minus(&Lc::one()).to_bellpepper(), |lc| lc);
}

/// One row: `a = b`. None when both are the same constant.
pub fn enforce_equal<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    name: impl FnOnce() -> String,
    a: &Lc<F>,
    b: &Lc<F>,
) {
    let difference = a.minus(b);
    if !difference.is_zero() {
        enforce(cs, name, &difference, &Lc::one(), &Lc::zero());
    }
}
