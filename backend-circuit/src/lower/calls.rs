//! Where a call begins and where it ends.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `calls` | `active · (digest − calls) = calls' − calls` | the call is the next of those that the statement names |
//! | `account` | `active · (address − account) = 0` | it is of the account whose storage is used |
//! | `failing` | `f · (f − active) = 0`, at the end `active · (f − fails) = 0` | said when the call begins, checked when it ends |
//! | `logs` | `active · (outcomes − logs) = logs' − logs` | a call begins without logs |
//! | `outcomes` | `active · (digest − outcomes) = outcomes' − outcomes` | its outcome is the next |
//! | `more` | `more · (more − active) = 0` | another call follows; if there is none its digest cannot be that of the statement |
//!
//! *Soundness.* Digests of calls and outcomes are chains, and the last of each is the statement's; so by collision resistance
//! the calls that begin are those of the statement, in order, and so are the outcomes. The digest of a statement is one of limbs
//! in range, so what is opened of it needs no range checks.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Block, Halt, Imm, Inst, Word as U256};

use super::{Element, Held, Lowering, Predicate, State};
use crate::digest::Hasher;
use crate::error::CircuitError;
use crate::gadgets::{Lc, Word, compare, enforce};
use crate::legalize::{Support, support};
use crate::region::{DONE, ENTRY};
use crate::replay::Feed;
use crate::system::System;

impl<F: PrimeField> Lowering<'_, '_, F> {
    /// Opens the next call and defines the values that the entry block reads of it.
    pub(super) fn begin_call<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        entry: Block,
    ) -> Result<(), CircuitError> {
        let func = &self.program.legalized.func;
        let is_idle = self.active.value() == Some(F::ZERO);
        let call = self.feed.as_deref_mut().map(|feed| if is_idle { None } else { feed.call().cloned() });
        let call = call.map(|call| call.unwrap_or_else(crate::input::nothing));
        let failing = self.feed.as_deref().map(|feed| !is_idle && feed.is_failing());
        let reads =
            func.blocks[entry].insts.iter().copied().filter(|&inst| support(func.insts[inst].opcode) == Support::Input);
        let before = self.state.get(Element::Calls);
        let has_account = self.state.layout().place(Element::Account).is_some();
        let opened =
            crate::input::open(&mut cs.namespace(|| "input"), func, reads, call.as_ref(), &before, has_account)?;
        for (value, word) in opened.values {
            self.held.insert(value, Held { word, idle: None, guard: None });
        }
        let active = self.active.clone();
        self.change(cs, Element::Calls, &active, &opened.digest)?;
        if let Some(address) = opened.address {
            let difference = address.packed().minus(&self.state.get(Element::Account));
            enforce(cs, || "account".into(), &active, &difference, &Lc::zero());
        }
        if self.state.layout().place(Element::Failing).is_some() {
            let failing = failing.map(|failing| if failing { F::ONE } else { F::ZERO });
            let failing = Lc::alloc(cs, || "failing".into(), failing)?;
            enforce(cs, || "failing".into(), &failing, &failing.minus(&active), &Lc::zero());
            self.change(cs, Element::Failing, &active, &failing)?;
        }
        let outcomes = self.state.get(Element::Outcomes);
        self.change(cs, Element::Logs, &active, &outcomes)?;
        self.state.add(Element::Call, &active);
        Ok(())
    }

    /// A log: the digest of what the call has logged goes on, where its block runs. Rows: see
    /// [`crate::digest::Hasher::log_in_circuit`], and one.
    pub(super) fn log<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        inst: Inst,
        predicate: &Predicate<F>,
    ) -> Result<(), CircuitError> {
        let data = &self.program.legalized.func.insts[inst];
        let Imm::Len(len) = data.imm else { return Err(SynthesisError::Unsatisfiable.into()) };
        let topics = data.args.len().checked_sub(len.div_ceil(32) as usize).ok_or(SynthesisError::Unsatisfiable)?;
        let mut words = Vec::with_capacity(data.args.len());
        for &arg in &data.args {
            words.push(self.word(cs, arg)?.0);
        }
        let (topics, words) = words.split_at(topics);
        let (before, account) = (self.state.get(Element::Logs), self.state.get(Element::Account));
        let digest = Hasher::shared().log_in_circuit(cs, &before, &account, topics, len, words)?;
        Ok(self.change(cs, Element::Logs, &predicate.lc, &digest)?)
    }

    /// Sets an element of the state if `active`: one row, none if the program does not have it.
    fn change<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        element: Element,
        active: &Lc<F>,
        new: &Lc<F>,
    ) -> Result<(), SynthesisError> {
        if self.state.layout().place(element).is_some() {
            let change = Lc::mul(cs, || element.name().into(), active, &new.minus(&self.state.get(element)))?;
            self.state.add(element, &change);
        }
        Ok(())
    }

    /// The halt block: the digest of the outcome, and what runs next.
    pub(super) fn halt<CS: ConstraintSystem<F>>(mut self, cs: &mut CS, block: Block) -> Result<State<F>, CircuitError> {
        let params = &self.program.legalized.func.blocks[block].params;
        let mut words = Vec::with_capacity(params.len());
        for &param in params {
            words.push(self.word(cs, param)?.0);
        }
        let active = self.active.clone();
        let outcomes = self.state.get(Element::Outcomes);
        let mut effects = outcomes.clone();
        if self.state.layout().place(Element::Failing).is_some() {
            let code = words.first().ok_or(SynthesisError::Unsatisfiable)?;
            let returns = Word::constant(code.width(), U256::from(Halt::Return.code()));
            let returns = compare::eq(&mut cs.namespace(|| "returns"), code, &returns)?;
            let failing = self.state.get(Element::Failing);
            let fails = returns.as_boolean()?.complement();
            enforce(cs, || "failing".into(), &active, &failing.minus(&fails), &Lc::zero());
            if self.state.layout().place(Element::Logs).is_some() {
                effects = Lc::select(cs, || "effects".into(), &failing, &outcomes, &self.state.get(Element::Logs))?;
            }
        }
        let digest = crate::input::outcome(&mut cs.namespace(|| "outcome"), &words, &effects)?;
        self.change(cs, Element::Outcomes, &active, &digest)?;
        let undone = self.state.get(Element::Undone);
        let undo = match self.program.system_region(System::Undo) {
            None => None,
            Some(undo) => {
                let none = compare::is_zero_element(&mut cs.namespace(|| "undo"), &undone)?;
                Some((none.complement(), undo.label()))
            }
        };
        let own = self.region.label();
        next_call(cs, self.program, &mut self.state, &active, own, undo, self.feed.as_deref_mut())?;
        Ok(self.state)
    }
}

/// The label after a call, and after what it takes back: that of `undo` if its flag is one, else that of the entry if more calls
/// follow, else that of what closes the proof. The label is `own` in a slot that is active.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub(crate) fn next_call<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    program: &crate::program::Program,
    state: &mut State<F>,
    active: &Lc<F>,
    own: u64,
    undo: Option<(Lc<F>, u64)>,
    feed: Option<&mut Feed<'_, F>>,
) -> Result<(), CircuitError> {
    let is_idle = active.value() == Some(F::ZERO);
    let more = feed.map(|feed| if !is_idle && feed.has_more_calls() { F::ONE } else { F::ZERO });
    let more = Lc::alloc(cs, || "more".into(), more)?;
    enforce(cs, || "more".into(), &more, &more.minus(active), &Lc::zero());
    let after = [System::Sweep, System::Enter].into_iter().find_map(|system| program.system_region(system));
    let last = after.map_or(DONE, |region| region.label());
    let after = more.times(F::from(ENTRY) - F::from(last)).plus(&active.times(F::from(last) - F::from(own)));
    let change = match undo {
        None => after,
        Some((flag, label)) => {
            let undo = active.times(F::from(label) - F::from(own));
            Lc::select(cs, || "undo".into(), &flag, &undo, &after)?
        }
    };
    state.add(Element::Label, &change);
    Ok(())
}
