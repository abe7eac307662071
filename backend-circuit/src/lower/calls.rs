//! Where a call begins and where it ends.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `calls` | `active · (digest − calls) = calls' − calls` | the call is the next of those that the statement names |
//! | `account` | `active · (address − account) = 0` | it is of the account whose storage is used |
//! | `failing` | `f · (f − active) = 0`, at the end `active · (f − fails) = 0` | said when the call begins, checked when it ends |
//! | `times` | `times · (1 − active) = 0` | how often a word of the calldata's first block is read at a computed place |
//! | `unread`, `opened` | `active · (rest − unread) = …` | the blocks after it can be opened ([`crate::trace::slots`]) |
//! | `data` | `predicate · (digest − data) = data' − data` | a note puts words before those that were noted; what takes them leaves none |
//! | `logs` | `active · (outcomes − logs) = logs' − logs` | a call begins without logs |
//! | `outcomes` | `active · (digest − outcomes) = outcomes' − outcomes` | its outcome is the next |
//! | `more` | `more · (more − active) = 0` | another call follows; if there is none its digest cannot be that of the statement |
//!
//! *Soundness.* Digests of calls and outcomes are chains, and the last of each is the statement's; so by collision resistance
//! the calls that begin are those of the statement, in order, and so are the outcomes. The digest of a statement is one of limbs
//! in range, so what is opened of it needs no range checks.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Block, Halt, Imm, Inst, Value, Word as U256};

use super::{Element, Held, Lowering, Predicate, State};
use crate::digest::{BLOCK_WORDS, Hasher, inline_words};
use crate::error::CircuitError;
use crate::gadgets::{Lc, Word, compare, enforce};
use crate::input::{self, Wanted};
use crate::legalize::{Support, support_of};
use crate::region::{DONE, ENTRY};
use crate::replay::Feed;
use crate::system::System;
use crate::trace::access::Limbs;
use crate::trace::slots::{self, FIRST_BLOCK, FIRST_BLOCK_END};

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
        let call = call.map(|call| call.unwrap_or_else(input::nothing));
        let failing = self.feed.as_deref().map(|feed| !is_idle && feed.is_failing());
        let reads = func.blocks[entry]
            .insts
            .iter()
            .copied()
            .filter(|&inst| support_of(func, &func.insts[inst]) == Support::Input);
        let before = self.state.get(Element::Calls);
        let wanted = Wanted {
            address: self.state.layout().place(Element::Account).is_some(),
            calldata: self.program.features.calldata,
        };
        let opened = input::open(&mut cs.namespace(|| "input"), func, reads, call.as_ref(), &before, wanted)?;
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
        if let Some((words, rest)) = opened.calldata {
            self.change(cs, Element::Unread, &active, &rest)?;
            self.change(cs, Element::Opened, &active, &Lc::constant(F::from(FIRST_BLOCK_END)))?;
            let times =
                self.feed.as_deref_mut().map(|feed| if is_idle { Default::default() } else { feed.first_reads() });
            let mut limbs = Vec::with_capacity(words.len());
            for (at, word) in words.iter().enumerate() {
                let (low, high) = word.pair(&mut cs.namespace(|| format!("word {at}")))?;
                limbs.push(Limbs { low: low.lc().clone(), high: high.lc().clone() });
            }
            let first = Lc::constant(F::from(FIRST_BLOCK));
            self.opening = slots::offer(cs, &mut self.state, &active, &first, &limbs, times)?;
        }
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
        let topics = data.topics().ok_or(SynthesisError::Unsatisfiable)?;
        let values = self.words(cs, topics)?;
        let hasher = Hasher::shared();
        let (length, words, rest) = match (data.imm, data.args.as_slice()) {
            (Imm::Len(len), args) => {
                let mut words = self.words(cs, &args[topics.len()..])?;
                let further = words.split_off(words.len().min(inline_words(topics.len())));
                let mut rest = Lc::zero();
                for (index, words) in further.chunks(BLOCK_WORDS).enumerate().rev() {
                    rest = hasher.data_in_circuit(&mut cs.namespace(|| format!("data {index}")), words, &rest)?;
                }
                (Lc::constant(F::from(u64::from(len))), words, rest)
            }
            (_, &[_, len, ..]) => {
                let length = self.word(cs, len)?.0.packed();
                (length, core::mem::take(&mut self.noted), self.take_noted(cs, &predicate.lc)?)
            }
            _ => return Err(SynthesisError::Unsatisfiable.into()),
        };
        let (before, account) = (self.state.get(Element::Logs), self.state.get(Element::Account));
        let digest = hasher.log_in_circuit(cs, &before, &account, (&values, &length), &words, &rest)?;
        Ok(self.change(cs, Element::Logs, &predicate.lc, &digest)?)
    }

    fn words<CS: ConstraintSystem<F>>(&mut self, cs: &mut CS, values: &[Value]) -> Result<Vec<Word<F>>, CircuitError> {
        values.iter().map(|&value| Ok(self.word(cs, value)?.0)).collect()
    }

    /// Words of data: those that were noted stand behind them. Those of a log's first block are kept for it. Rows: 383, or none.
    pub(super) fn note<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        inst: Inst,
        is_first: bool,
        predicate: &Predicate<F>,
    ) -> Result<(), CircuitError> {
        let words = self.words(cs, &self.program.legalized.func.insts[inst].args)?;
        if is_first {
            self.noted = words;
            return Ok(());
        }
        let digest = Hasher::shared().data_in_circuit(cs, &words, &self.state.get(Element::Data))?;
        Ok(self.change(cs, Element::Data, &predicate.lc, &digest)?)
    }

    /// The digest of what was noted, of which nothing is left where `predicate` is one.
    fn take_noted<CS: ConstraintSystem<F>>(&mut self, cs: &mut CS, predicate: &Lc<F>) -> Result<Lc<F>, SynthesisError> {
        let noted = self.state.get(Element::Data);
        self.change(cs, Element::Data, predicate, &Lc::zero())?;
        Ok(noted)
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
        let words = self.words(cs, params)?;
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
        let noted = self.take_noted(cs, &active)?;
        let digest = input::outcome(&mut cs.namespace(|| "outcome"), &words, &noted, &effects)?;
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

/// The label after a call, and after what it takes back and opens of its calldata: that of `undo` if its flag is one, else that of what opens
/// calldata if the prover says so, else that of the entry if more calls follow, else that of what closes the proof. The label is `own` in a
/// slot that is active.
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
    let flag = |cs: &mut CS, name: &str, flag: Option<bool>| {
        let flag = flag.map(|flag| if !is_idle && flag { F::ONE } else { F::ZERO });
        let flag = Lc::alloc(cs, || name.into(), flag)?;
        enforce(cs, || name.into(), &flag, &flag.minus(active), &Lc::zero());
        Ok::<_, SynthesisError>(flag)
    };
    let more = flag(cs, "more", feed.as_deref().map(Feed::has_more_calls))?;
    let after = [System::Sweep, System::Enter].into_iter().find_map(|system| program.system_region(system));
    let last = after.map_or(DONE, |region| region.label());
    let after = more.times(F::from(ENTRY) - F::from(last)).plus(&active.times(F::from(last) - F::from(own)));
    let after = match program.system_region(System::Open) {
        None => after,
        Some(open) => {
            let opens = flag(cs, "opens", feed.as_deref().map(Feed::has_more_blocks))?;
            let open = active.times(F::from(open.label()) - F::from(own));
            Lc::select(cs, || "opens".into(), &opens, &open, &after)?
        }
    };
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
