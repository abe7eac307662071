//! Accesses in the circuit: see the equations of [`crate::trace`].

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use super::{Chosen, Space, TIME_BITS, stamp};
use crate::field::{to_u256, two_pow};
use crate::gadgets::{Lc, decompose, enforce, native_limbs};
use crate::lower::{Element, State};

/// A value as the trace argument holds it: two limbs of 128 bits.
#[derive(Clone, Debug)]
pub struct Limbs<F: PrimeField> {
    /// The low 128 bits.
    pub low: Lc<F>,
    /// The rest.
    pub high: Lc<F>,
}

impl<F: PrimeField> Limbs<F> {
    /// A private value, without range checks. `value` is only asked for while a witness is generated.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn alloc<CS: ConstraintSystem<F>>(
        cs: &mut CS,
        name: &str,
        value: Option<U256>,
    ) -> Result<Self, SynthesisError> {
        let limbs = value.map(|value| native_limbs::<F>(256, &value));
        let limb = |at: usize| limbs.as_ref().and_then(|limbs| limbs.get(at)).copied();
        Ok(Self {
            low: Lc::alloc(cs, || format!("{name} low"), limb(0))?,
            high: Lc::alloc(cs, || format!("{name} high"), limb(1))?,
        })
    }

    /// As [`Limbs::alloc`], of a value below 2^128: its high limb is zero.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn alloc_low<CS: ConstraintSystem<F>>(
        cs: &mut CS,
        name: &str,
        value: Option<U256>,
    ) -> Result<Self, SynthesisError> {
        let low = value.and_then(|value| native_limbs::<F>(256, &value).first().copied());
        Ok(Self { low: Lc::alloc(cs, || format!("{name} low"), low)?, high: Lc::zero() })
    }
}

/// What an access is about.
#[derive(Clone, Debug)]
pub struct Cell<F: PrimeField> {
    /// The space.
    pub space: Space,
    /// The number of the cell in its space, below 2^60.
    pub index: Lc<F>,
    /// The key of the cell among those with its index.
    pub key: KeyTerm<F>,
    /// Whether it is known to hold values below 2^128 only.
    pub is_narrow: bool,
}

impl<F: PrimeField> Cell<F> {
    /// The slot of persistent storage with this key.
    pub fn slot(key: KeyTerm<F>) -> Self {
        Self { space: Space::Storage, index: Lc::zero(), key, is_narrow: false }
    }

    /// What the running call has overwritten in the slot with this key.
    pub fn journal(state: &State<F>, key: KeyTerm<F>) -> Self {
        Self { space: Space::Journal, index: state.get(Element::Call), key, is_narrow: false }
    }

    /// The word of the calldata with this number: see [`super::memory_index`].
    pub fn calldata(index: Lc<F>) -> Self {
        Self { space: Space::Calldata, index, key: KeyTerm(Lc::zero()), is_narrow: false }
    }

    /// The word of memory with this number: see [`super::memory_index`].
    pub fn memory(index: Lc<F>) -> Self {
        Self { space: Space::Memory, index, key: KeyTerm(Lc::zero()), is_narrow: false }
    }
}

/// A value in a cell: the part of a fingerprint that does not depend on time. Makes a row for each limb and for the key.
#[derive(Clone, Debug)]
pub struct Content<F: PrimeField> {
    space: Space,
    index: Lc<F>,
    terms: Lc<F>,
}

/// `α_k · key`, which every tuple about one key needs.
#[derive(Clone, Debug)]
pub struct KeyTerm<F: PrimeField>(Lc<F>);

/// `α_k · key`: a row.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn key_term<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    state: &State<F>,
    key: &Lc<F>,
) -> Result<KeyTerm<F>, SynthesisError> {
    Ok(KeyTerm(Lc::mul(cs, || "α key".into(), &state.get(Element::AlphaKey), key)?))
}

/// `α_l · low + α_h · high`: two rows.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn value_term<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    state: &State<F>,
    value: &Limbs<F>,
) -> Result<Lc<F>, SynthesisError> {
    let low = Lc::mul(cs, || "α low".into(), &state.get(Element::AlphaLow), &value.low)?;
    let high = Lc::mul(cs, || "α high".into(), &state.get(Element::AlphaHigh), &value.high)?;
    Ok(low.plus(&high))
}

impl<F: PrimeField> Content<F> {
    /// A value, as [`value_term`] gives it, in a cell.
    pub fn new(cell: &Cell<F>, value: &Lc<F>) -> Self {
        Self { space: cell.space, index: cell.index.clone(), terms: cell.key.0.plus(value) }
    }

    /// `active / (γ + fingerprint)` at `time`: one row.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn term<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        name: &str,
        state: &State<F>,
        time: &Lc<F>,
        active: &Lc<F>,
    ) -> Result<Lc<F>, SynthesisError> {
        let stamp = stamp(time, self.space, &self.index);
        let sum = Lc::sum([(F::ONE, &state.get(Element::Gamma)), (F::ONE, &stamp), (F::ONE, &self.terms)]);
        let value = sum.value().zip(active.value()).map(|(sum, active)| {
            if active == F::ZERO { F::ZERO } else { active * Option::from(sum.invert()).unwrap_or(F::ZERO) }
        });
        let inverse = Lc::alloc(cs, || name.to_owned(), value)?;
        enforce(cs, || name.to_owned(), &inverse, &sum, active);
        Ok(inverse)
    }
}

/// What an access consumes, as the prover says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Consumed {
    /// The value that the cell held.
    pub value: U256,
    /// When it was left there.
    pub time: u32,
}

/// One access: consumes what the cell holds and leaves `write`, or the same value. Gives the value that it held, and says in
/// `chosen` what the prover chose. The state's sum and time move on if `active`.
///
/// Rows: 30 for the age, 3 for a read and 5 for a write that is not of the same value, one more with a key; and its share of the hash
/// of the advice, 65; in a narrow cell one less, and 34 of the hash.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn access<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    state: &mut State<F>,
    active: &Lc<F>,
    cell: &Cell<F>,
    write: Option<&Limbs<F>>,
    consumed: Option<Consumed>,
    chosen: &mut Chosen<Lc<F>>,
) -> Result<(Limbs<F>, Lc<F>), SynthesisError> {
    let found = consumed.map(|consumed| consumed.value);
    let old = if cell.is_narrow { Limbs::alloc_low(cs, "old", found)? } else { Limbs::alloc(cs, "old", found)? };
    let now = state.get(Element::Time);
    let then = consumed.zip(active.value()).and_then(|(consumed, active)| {
        if active == F::ZERO { now.value().map(|now| now - F::ONE) } else { Some(F::from(u64::from(consumed.time))) }
    });
    let then = Lc::alloc(cs, || "old time".into(), then)?;
    let age = Lc::sum([(F::ONE, &now), (-F::ONE, &then), (-F::ONE, &Lc::one())]);
    let value = age.value().map(|age| to_u256(&age));
    decompose(&mut cs.namespace(|| "age"), &age, value, TIME_BITS)?;
    let old_term = value_term(&mut cs.namespace(|| "old"), state, &old)?;
    let new_term = match write {
        None => old_term.clone(),
        Some(new) => value_term(&mut cs.namespace(|| "new"), state, new)?,
    };
    let consumed = Content::new(cell, &old_term).term(cs, "old", state, &then, active)?;
    let left = Content::new(cell, &new_term).term(cs, "new", state, &now, active)?;
    state.add(Element::Sum, &left.minus(&consumed));
    state.add(Element::Time, active);
    chosen.elements.push(old.low.clone());
    if !cell.is_narrow {
        chosen.elements.push(old.high.clone());
    }
    chosen.ages.push(age.plus(&active.times(two_pow(TIME_BITS))));
    Ok((old, old_term))
}
