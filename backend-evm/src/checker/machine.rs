//! Symbolic execution: effects and epochs, shared by both sides, and the emitted bytes.

use std::collections::BTreeMap;

use zvm_ir::{Effects, Func, Function, Opcode, Value, Word};

use super::terms::{Meaning, Meanings, Term, TermData, Terms};
use super::{CheckErrorKind, Checker};
use crate::opcodes;

/// Something observable, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// An instruction with its operands.
    Op(u8, Vec<Term>),
    /// A call of a function of the module with the arguments it needs.
    Call(Func, Vec<Term>),
    /// A return with the results.
    Ret(Vec<Term>),
}

impl Effect {
    pub(super) fn text(&self, terms: &Terms) -> String {
        let list = |args: &[Term]| args.iter().map(|&arg| terms.text(arg)).collect::<Vec<_>>().join(", ");
        match self {
            Self::Op(byte, args) => format!("{} {}", opcodes::name(*byte), list(args)),
            Self::Call(func, args) => format!("call {func}({})", list(args)),
            Self::Ret(args) => format!("ret {}", list(args)),
        }
    }
}

/// The effects so far, and how often each space was written.
#[derive(Clone, Debug, Default)]
pub(super) struct Trace {
    pub effects: Vec<Effect>,
    /// Whether reads count as writes of memory, because MSIZE shows them.
    observes_msize: bool,
    memory: u32,
    storage: u32,
    transient: u32,
    return_data: u32,
    accounts: u32,
}

impl Trace {
    pub(super) fn new(observes_msize: bool) -> Self {
        Self { observes_msize, ..Self::default() }
    }

    /// Records an effect; gives its number.
    pub(super) fn record(&mut self, effect: Effect, effects: Effects) -> u32 {
        self.effects.push(effect);
        let all = effects.has(Effects::CALLS);
        let extends = self.observes_msize && effects.has(Effects::READS_MEMORY);
        self.memory += u32::from(all || extends || effects.has(Effects::WRITES_MEMORY));
        self.storage += u32::from(all || effects.has(Effects::WRITES_STORAGE));
        self.transient += u32::from(all || effects.has(Effects::WRITES_TRANSIENT));
        self.return_data += u32::from(all || effects.has(Effects::WRITES_RETURN_DATA));
        self.accounts += u32::from(all || effects.has(Effects::WRITES_ACCOUNTS));
        self.effects.len() as u32 - 1
    }

    /// How many writes a read with these effects comes after. No instruction that is not an effect reads two spaces.
    pub(super) fn epoch(&self, effects: Effects) -> u32 {
        let mut epoch = 0;
        for (space, count) in [
            (Effects::READS_MEMORY, self.memory),
            (Effects::READS_STORAGE, self.storage),
            (Effects::READS_TRANSIENT, self.transient),
            (Effects::READS_RETURN_DATA, self.return_data),
            (Effects::READS_ACCOUNTS, self.accounts),
        ] {
            if effects.has(space) {
                epoch = count;
            }
        }
        epoch
    }
}

/// Whether an instruction is an effect, so that its place among the others matters.
pub(super) fn is_effect(byte: u8, effects: Effects, observes_msize: bool) -> bool {
    !effects.is_removable() || (observes_msize && byte != opcodes::MSIZE && effects.has(Effects::READS_MEMORY))
}

/// The emitted code in the middle of a block.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub pc: u32,
    /// From the bottom of the frame.
    pub stack: Vec<Term>,
    pub trace: Trace,
    /// The words in the function's spill slots.
    pub spills: BTreeMap<u64, (Value, Term)>,
    /// Words put aside beyond the end of memory.
    pub aside: Vec<Term>,
    /// How often MSIZE may have changed without this being about words put aside.
    pub era: u32,
}

/// Where the code is when it stops being straight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the start of a block.
    Arrived(u32),
    /// At a JUMPI: the target, and the condition. The machine is behind it.
    Branch(u32, Term),
    /// At a jump through a table: the word that is looked up, and for each value it can have the target.
    Table(Term, Vec<(Word, u32)>),
    /// It has halted, returned, or called a function that does not come back.
    Ended,
}

impl Machine {
    fn pop(&mut self) -> Result<Term, CheckErrorKind> {
        self.stack.pop().ok_or(CheckErrorKind::Underflow)
    }

    /// Whether all words put aside are cleared; forgets them.
    fn clear(&mut self, terms: &Terms) -> Result<(), CheckErrorKind> {
        let cleared = self.aside.iter().all(|&term| terms.word(term) == Some(Word::ZERO));
        self.aside.clear();
        self.era += 1;
        if cleared { Ok(()) } else { Err(CheckErrorKind::NotCleared) }
    }
}

impl Checker<'_> {
    /// Executes code until it is at a block, at a branch, or over. The start of a block where the machine stands already
    /// does not count.
    pub(super) fn run(
        &self,
        machine: &mut Machine,
        terms: &mut Terms,
        meanings: &Meanings,
        func: Func,
    ) -> Result<Stop, CheckErrorKind> {
        let code = &self.lowered.code[..self.lowered.code_len()];
        let mut first = true;
        // No block goes back to code of its own except by way of routines, so this bound is never reached by emitted code.
        for _ in 0..self.steps {
            if !core::mem::take(&mut first) && self.starts.contains(&machine.pc) {
                machine.clear(terms)?;
                return Ok(Stop::Arrived(machine.pc));
            }
            let Some(&byte) = code.get(machine.pc as usize) else { return Err(CheckErrorKind::UnknownOpcode(0)) };
            let byte = opcodes::meant(byte, self.lowered.creation).ok_or(CheckErrorKind::UnknownOpcode(byte))?;
            machine.pc += 1;
            match byte {
                opcodes::JUMPDEST => {}
                opcodes::PUSH0 => machine.stack.push(terms.constant(Word::ZERO)),
                opcodes::PUSH1..=opcodes::PUSH32 => {
                    let len = u32::from(byte - opcodes::PUSH1) + 1;
                    let bytes = code.get(machine.pc as usize..(machine.pc + len) as usize);
                    let bytes = bytes.ok_or(CheckErrorKind::UnknownOpcode(byte))?;
                    let place = self.immutable(machine.pc).filter(|_| len == 32);
                    machine.stack.push(match place {
                        Some(place) => terms.term(TermData::Immutable(place)),
                        None => terms.constant(Word::from_be_slice(bytes)),
                    });
                    machine.pc += len;
                }
                opcodes::DUP1..=opcodes::DUP16 => dup(machine, usize::from(byte - opcodes::DUP1) + 1)?,
                opcodes::SWAP1..=opcodes::SWAP16 => swap(machine, usize::from(byte - opcodes::SWAP1) + 1)?,
                opcodes::DUPN | opcodes::SWAPN => {
                    let depth = code.get(machine.pc as usize).copied().and_then(opcodes::deep_depth);
                    let depth = depth.ok_or(CheckErrorKind::UnknownOpcode(byte))?;
                    machine.pc += 1;
                    if byte == opcodes::DUPN { dup(machine, depth)? } else { swap(machine, depth)? }
                }
                opcodes::EXCHANGE => {
                    let depths = code.get(machine.pc as usize).copied().and_then(opcodes::exchange_depths);
                    let (near, far) = depths.ok_or(CheckErrorKind::UnknownOpcode(byte))?;
                    machine.pc += 1;
                    exchange(machine, near, far)?;
                }
                opcodes::POP => drop(machine.pop()?),
                opcodes::JUMP => {
                    let target = machine.pop()?;
                    if *terms.data(target) == TermData::Return {
                        machine.clear(terms)?;
                        let results = core::mem::take(&mut machine.stack);
                        machine.trace.record(Effect::Ret(results), Effects::TERMINATES);
                        return Ok(Stop::Ended);
                    }
                    if let Some((hash, table)) = self.table(terms, target, func) {
                        machine.clear(terms)?;
                        let mut entries = Vec::with_capacity(table.len());
                        for (value, address) in table {
                            let address = terms.constant(address);
                            entries.push((value, self.jumpdest(terms, address)?));
                        }
                        return Ok(Stop::Table(hash, entries));
                    }
                    let target = self.jumpdest(terms, target)?;
                    let Some(&callee) = self.entries.get(&target) else {
                        machine.pc = target;
                        first = false;
                        continue;
                    };
                    if !self.call(machine, terms, callee)? {
                        return Ok(Stop::Ended);
                    }
                    first = true;
                }
                opcodes::JUMPI => {
                    let target = machine.pop()?;
                    let condition = machine.pop()?;
                    machine.clear(terms)?;
                    return Ok(Stop::Branch(self.jumpdest(terms, target)?, condition));
                }
                _ => {
                    let meaning = meanings.get(byte).ok_or(CheckErrorKind::UnknownOpcode(byte))?;
                    if self.operation(machine, terms, byte, meaning, func)? {
                        return Ok(Stop::Ended);
                    }
                }
            }
        }
        Err(CheckErrorKind::Target)
    }

    /// The entries of a jump table, if an address is `and (shr hash, table), 0xffff` with `hash = and x, mask`: each value that
    /// the mask lets through, and the address for it.
    fn table(&self, terms: &Terms, address: Term, func: Func) -> Option<(Term, Vec<(Word, Word)>)> {
        let (shifted, entry) = masked(terms, address)?;
        let TermData::Op(opcodes::SHR, args, _) = terms.data(shifted) else { return None };
        let &[hash, table] = args.as_slice() else { return None };
        let table = terms.word(table)?;
        // The hash may have been computed in a block before this one.
        let mask = match *terms.data(hash) {
            TermData::Value(value) => mask(&self.lowered.module.funcs[func], value)?,
            _ => masked(terms, hash)?.1,
        };
        let mask = usize::try_from(mask).ok().filter(|&mask| mask < 256)?;
        let values = (0..=mask).filter(|value| value & mask == *value);
        Some((hash, values.map(|value| (Word::from(value), (table >> value) & entry)).collect()))
    }

    /// The immutable that the constructor puts at a position of the emitted code.
    fn immutable(&self, at: u32) -> Option<u32> {
        let list = &self.lowered.immutables;
        list.binary_search_by_key(&at, |&(here, _)| here).ok().map(|found| list[found].1)
    }

    fn jumpdest(&self, terms: &Terms, target: Term) -> Result<u32, CheckErrorKind> {
        let target = terms.word(target).and_then(|word| u32::try_from(word).ok()).ok_or(CheckErrorKind::BadJump)?;
        if self.jumpdests.contains(&target) { Ok(target) } else { Err(CheckErrorKind::BadJump) }
    }

    /// A jump to the entry of a function: a call. Tells whether it comes back here. Where the address to come back to is that
    /// in the caller, nothing may be left of the frame, and what the callee returns is what this function returns.
    fn call(&self, machine: &mut Machine, terms: &mut Terms, callee: Func) -> Result<bool, CheckErrorKind> {
        machine.clear(terms)?;
        let info = &self.functions[&callee];
        let start = machine.stack.len().checked_sub(info.params + usize::from(info.returns));
        let operands = machine.stack.split_off(start.ok_or(CheckErrorKind::Underflow)?);
        let (back, args) = operands.split_at(usize::from(info.returns));
        let effect = machine.trace.record(Effect::Call(callee, args.to_vec()), Effects::CALLS);
        let Some(&back) = back.first() else { return Ok(false) };
        let results = (0..info.results).map(|at| terms.term(TermData::Result(effect, at as u32))).collect();
        if *terms.data(back) == TermData::Return {
            let found = machine.stack.len();
            if found != 0 {
                return Err(CheckErrorKind::Height { expected: 0, found });
            }
            machine.trace.record(Effect::Ret(results), Effects::TERMINATES);
            return Ok(false);
        }
        machine.pc = self.jumpdest(terms, back)?;
        machine.stack.extend(results);
        Ok(true)
    }

    /// An instruction that is neither a stack nor a control instruction. Tells whether it halts.
    fn operation(
        &self,
        machine: &mut Machine,
        terms: &mut Terms,
        byte: u8,
        meaning: Meaning,
        func: Func,
    ) -> Result<bool, CheckErrorKind> {
        let mut args = Vec::with_capacity(meaning.pops);
        for _ in 0..meaning.pops {
            args.push(machine.pop()?);
        }
        if self.own_memory(machine, terms, byte, &args, func)? {
            return Ok(false);
        }
        let effects = meaning.effects;
        if effects.has(Effects::READS_MEMORY) || effects.has(Effects::WRITES_MEMORY) || meaning.halts {
            machine.clear(terms)?;
        }
        if is_effect(byte, effects, self.lowered.plan.observes_msize) {
            let effect = machine.trace.record(Effect::Op(byte, args), effects);
            for at in 0..meaning.pushes {
                machine.stack.push(terms.term(TermData::Result(effect, at as u32)));
            }
        } else {
            let epoch = machine.trace.epoch(effects);
            let term = terms.op(byte, args, epoch);
            machine.stack.push(term);
        }
        Ok(meaning.halts)
    }

    /// Spill slots, and words put aside beyond the end of memory. Tells whether the instruction was one of those.
    fn own_memory(
        &self,
        machine: &mut Machine,
        terms: &mut Terms,
        byte: u8,
        args: &[Term],
        func: Func,
    ) -> Result<bool, CheckErrorKind> {
        let slots = &self.functions[&func].slots;
        let slot = |terms: &Terms, term: Term| {
            let address = terms.word(term).and_then(|word| u64::try_from(word).ok())?;
            slots.get(&address).map(|&value| (address, value))
        };
        let now = machine.era;
        let aside = |terms: &Terms, term: Term| match *terms.data(term) {
            TermData::Aside(when, at) if when == now => Some(at as usize),
            _ => None,
        };
        match (byte, args) {
            (opcodes::MSIZE, []) if !self.lowered.plan.observes_msize => {
                let term = terms.term(TermData::Aside(now, machine.aside.len() as u32));
                machine.stack.push(term);
            }
            (opcodes::SUB, &[end, back]) => match (aside(terms, end), terms.word(back)) {
                (Some(end), Some(back)) if back % Word::from(32) == Word::ZERO => {
                    let words = usize::try_from(back / Word::from(32)).ok();
                    let Some(at) = words.and_then(|words| end.checked_sub(words)) else { return Ok(false) };
                    let term = terms.term(TermData::Aside(now, at as u32));
                    machine.stack.push(term);
                }
                _ => return Ok(false),
            },
            (opcodes::MSTORE, &[to, word]) => {
                if let Some((address, value)) = slot(terms, to) {
                    machine.spills.insert(address, (value, word));
                } else if let Some(at) = aside(terms, to) {
                    if at == machine.aside.len() {
                        machine.aside.push(word);
                    }
                    *machine.aside.get_mut(at).ok_or(CheckErrorKind::NotCleared)? = word;
                } else {
                    return Ok(false);
                }
            }
            (opcodes::MLOAD, &[from]) => {
                let held = match (slot(terms, from), aside(terms, from)) {
                    (Some((address, _)), _) => machine.spills.get(&address).map(|&(_, word)| word),
                    (None, Some(at)) => machine.aside.get(at).copied(),
                    (None, None) => return Ok(false),
                };
                let word = held.unwrap_or_else(|| terms.unknown());
                machine.stack.push(word);
            }
            (opcodes::CALLDATACOPY, &[to, from, len]) => {
                let Some(at) = aside(terms, to) else { return Ok(false) };
                let past = *terms.data(from) == TermData::Op(opcodes::CALLDATASIZE, vec![], 0);
                let all = terms.word(len) == Some(Word::from(32 * machine.aside.len().saturating_sub(at) as u64));
                if !past || !all {
                    return Err(CheckErrorKind::NotCleared);
                }
                let zero = terms.constant(Word::ZERO);
                machine.aside[at..].fill(zero);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// A term and the constant that it is masked with.
fn masked(terms: &Terms, term: Term) -> Option<(Term, Word)> {
    let TermData::Op(opcodes::AND, args, _) = terms.data(term) else { return None };
    let &[a, b] = args.as_slice() else { return None };
    terms.word(b).map(|word| (a, word)).or_else(|| terms.word(a).map(|word| (b, word)))
}

/// The constant that a value is masked with by its definition.
fn mask(function: &Function, value: Value) -> Option<Word> {
    let data = &function.insts[function.def_inst(value)?];
    let (Opcode::And, &[a, b]) = (data.opcode, data.args.as_slice()) else { return None };
    function.constant(b).or_else(|| function.constant(a))
}

fn dup(machine: &mut Machine, depth: usize) -> Result<(), CheckErrorKind> {
    let at = machine.stack.len().checked_sub(depth).ok_or(CheckErrorKind::Underflow)?;
    machine.stack.push(machine.stack[at]);
    Ok(())
}

fn exchange(machine: &mut Machine, near: usize, far: usize) -> Result<(), CheckErrorKind> {
    let top = machine.stack.len().checked_sub(1).ok_or(CheckErrorKind::Underflow)?;
    let at = |below: usize| top.checked_sub(below).ok_or(CheckErrorKind::Underflow);
    machine.stack.swap(at(near)?, at(far)?);
    Ok(())
}

fn swap(machine: &mut Machine, below: usize) -> Result<(), CheckErrorKind> {
    let top = machine.stack.len().checked_sub(1).ok_or(CheckErrorKind::Underflow)?;
    let at = top.checked_sub(below).ok_or(CheckErrorKind::Underflow)?;
    machine.stack.swap(at, top);
    Ok(())
}
