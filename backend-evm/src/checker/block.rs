//! One block, executed as IR and as code, and compared.

use std::collections::BTreeMap;

use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, BlockCall, Effects, Func, Function, Imm, Inst, Opcode, Value, Word};

use super::machine::{Effect, Machine, Stop, Trace, is_effect};
use super::terms::{Meanings, Term, TermData, Terms};
use super::{CheckErrorKind, Checker};
use crate::emit::{BlockInfo, Lowered};
use crate::liveness::{self, Liveness, ModuleFacts, Remade, ValueSet};
use crate::opcodes;
use crate::selection::{Selection, select};
use crate::stackify::{TemplateSlot, same_cycle};

/// What the checker needs to know of a function.
#[derive(Debug)]
pub(super) struct FunctionInfo {
    /// How many arguments its callers push.
    pub params: usize,
    /// Whether it comes back.
    pub returns: bool,
    pub results: usize,
    /// The value in each of its spill slots.
    pub slots: BTreeMap<u64, Value>,
    cfg: Cfg,
    live: Liveness,
}

impl FunctionInfo {
    pub(super) fn new(lowered: &Lowered, facts: &ModuleFacts, func: Func) -> Self {
        let function = &lowered.module.funcs[func];
        let cfg = Cfg::new(function);
        let live = liveness::liveness(&lowered.module, facts, func, &cfg);
        let slots = lowered.program.spills.iter().filter(|((owner, _), _)| *owner == func);
        Self {
            params: liveness::needed_params(function, &facts.needs[func]).len(),
            returns: facts.returns[func],
            results: function.results.len(),
            slots: slots.map(|(&(_, value), &address)| (address, value)).collect(),
            cfg,
            live,
        }
    }
}

/// A block executed as IR.
#[derive(Clone, Debug, Default)]
struct Source {
    /// The words of values defined so far; others are defined before the block.
    words: BTreeMap<Value, Term>,
    trace: Trace,
}

/// How the IR leaves a block.
#[derive(Clone)]
enum Exit {
    /// With a halt, a `ret`, or a call that does not come back: the last effect says it.
    Ended,
    Goto(BlockCall),
    Branch(Term, BlockCall, BlockCall),
}

/// One path that is still to be compared.
struct Path {
    source: Source,
    machine: Machine,
    /// Where the IR goes next.
    target: BlockCall,
}

struct Symbols {
    terms: Terms,
    meanings: Meanings,
}

impl Checker<'_> {
    pub(super) fn block(&mut self, info: &BlockInfo) {
        let mut symbols = Symbols { terms: Terms::default(), meanings: Meanings::new() };
        let mut machine = self.entry_state(info, &mut symbols.terms);
        let trace = Trace::new(self.lowered.plan.observes_msize);
        let mut source = Source { words: BTreeMap::new(), trace };
        let exit = self.execute(info.func, info.block, &mut source, &mut symbols);
        let mut paths = Vec::new();
        let result = self.compare(info, exit, source, &mut machine, &mut symbols, &mut paths);
        if let Err(kind) = result {
            self.report(Some(info), machine.pc, kind);
        }
        // An empty block may disappear; then the IR goes on through it while the code has arrived already.
        while let Some(mut path) = paths.pop() {
            let result = self.follow(info, &mut path, &mut symbols, &mut paths);
            if let Err(kind) = result {
                self.report(Some(info), path.machine.pc, kind);
            }
        }
    }

    fn entry_state(&self, info: &BlockInfo, terms: &mut Terms) -> Machine {
        let stack = info
            .template
            .iter()
            .map(|slot| match *slot {
                TemplateSlot::Junk => terms.unknown(),
                TemplateSlot::Return => terms.term(TermData::Return),
                TemplateSlot::Value(value) => self.free(info.func, terms, value),
            })
            .collect();
        let function = &self.functions[&info.func];
        let is_entry = self.lowered.module.funcs[info.func].entry() == Some(info.block);
        let mut spills = BTreeMap::new();
        for (&address, &value) in &function.slots {
            if !is_entry && function.live.live_in[info.block].contains(value) {
                spills.insert(address, (value, self.free(info.func, terms, value)));
            }
        }
        Machine {
            pc: info.start,
            stack,
            trace: Trace::new(self.lowered.plan.observes_msize),
            spills,
            aside: Vec::new(),
            era: 0,
        }
    }

    fn function(&self, func: Func) -> &Function {
        &self.lowered.module.funcs[func]
    }

    /// The word that an operand is.
    fn word(&self, func: Func, source: &Source, terms: &mut Terms, value: Value) -> Term {
        let value = liveness::canonical(self.function(func), value);
        match liveness::remade(self.function(func), value) {
            Some(Remade::Constant(word)) => terms.constant(word),
            Some(Remade::Input(byte)) => terms.op(byte, vec![], 0),
            Some(Remade::Immutable(place)) => terms.term(TermData::Immutable(place)),
            None => source.words.get(&value).copied().unwrap_or_else(|| self.free(func, terms, value)),
        }
    }

    /// The word of a value that is defined before the block. Calldata does not change, so a word of it at a fixed place
    /// is the same whenever it is read.
    fn free(&self, func: Func, terms: &mut Terms, value: Value) -> Term {
        let function = self.function(func);
        let load = function.def_inst(value).map(|inst| &function.insts[inst]);
        if let Some(data) = load.filter(|data| data.opcode == Opcode::Calldataload)
            && let Some(&offset) = data.args.first()
            && let Some(offset) = liveness::remade(function, liveness::canonical(function, offset))
        {
            let offset = match offset {
                Remade::Constant(word) => terms.constant(word),
                Remade::Input(byte) => terms.op(byte, vec![], 0),
                Remade::Immutable(place) => terms.term(TermData::Immutable(place)),
            };
            return terms.op(opcodes::CALLDATALOAD, vec![offset], 0);
        }
        terms.term(TermData::Value(value))
    }

    /// Executes the instructions of a block as IR.
    fn execute(&self, func: Func, block: Block, source: &mut Source, symbols: &mut Symbols) -> Option<Exit> {
        let function = self.function(func);
        for &inst in &function.blocks[block].insts {
            let data = &function.insts[inst];
            match select(data.opcode, data.args.len()) {
                Selection::Remade | Selection::Alias => {}
                Selection::Expanded => return None,
                Selection::Jump => return data.targets.first().cloned().map(Exit::Goto),
                Selection::Brif => {
                    let condition = self.word(func, source, &mut symbols.terms, *data.args.first()?);
                    let [then, otherwise] = &data.targets[..] else { return None };
                    return Some(Exit::Branch(condition, then.clone(), otherwise.clone()));
                }
                Selection::Ret => {
                    let results =
                        data.args.iter().map(|&arg| self.word(func, source, &mut symbols.terms, arg)).collect();
                    source.trace.record(Effect::Ret(results), Effects::TERMINATES);
                    return Some(Exit::Ended);
                }
                Selection::Call => {
                    let Imm::Func(callee) = data.imm else { return None };
                    let needed = liveness::needed_params(self.function(callee), &self.facts.needs[callee]);
                    let args: Option<Vec<Term>> = needed
                        .iter()
                        .map(|&at| Some(self.word(func, source, &mut symbols.terms, *data.args.get(at)?)))
                        .collect();
                    let effect = source.trace.record(Effect::Call(callee, args?), Effects::CALLS);
                    if !self.facts.returns[callee] {
                        return Some(Exit::Ended);
                    }
                    for (at, &result) in data.results.iter().enumerate() {
                        let term = symbols.terms.term(TermData::Result(effect, at as u32));
                        source.words.insert(result, term);
                    }
                }
                Selection::Evm(byte) => {
                    if self.operation_of(func, inst, byte, source, symbols) {
                        return Some(Exit::Ended);
                    }
                }
                Selection::Datacopy => {
                    let (&[to, from, len], Imm::Data(segment)) = (&data.args[..], data.imm) else { return None };
                    let start = self.lowered.data.iter().find(|info| info.data == segment)?.start;
                    let [to, from, len] = [to, from, len].map(|arg| self.word(func, source, &mut symbols.terms, arg));
                    let start = symbols.terms.constant(Word::from(start));
                    let from = symbols.terms.op(opcodes::ADD, vec![start, from], 0);
                    // In creation code both instructions read the code itself.
                    let byte = opcodes::meant(opcodes::CODECOPY, self.lowered.creation)?;
                    source.trace.record(Effect::Op(byte, vec![to, from, len]), data.opcode.effects());
                }
            }
        }
        None
    }

    /// Executes an instruction that is one EVM instruction. Tells whether it halts.
    fn operation_of(&self, func: Func, inst: Inst, byte: u8, source: &mut Source, symbols: &mut Symbols) -> bool {
        let data = &self.function(func).insts[inst];
        let effects = data.opcode.effects();
        let args: Vec<Term> = data.args.iter().map(|&arg| self.word(func, source, &mut symbols.terms, arg)).collect();
        if is_effect(byte, effects, self.lowered.plan.observes_msize) {
            let effect = source.trace.record(Effect::Op(byte, args), effects);
            if let Some(result) = data.result() {
                let term = symbols.terms.term(TermData::Result(effect, 0));
                source.words.insert(result, term);
            }
        } else if let Some(result) = data.result() {
            let term = symbols.terms.op(byte, args, source.trace.epoch(effects));
            source.words.insert(result, term);
        }
        data.opcode.is_terminator()
    }

    /// Runs the code to the end of the block and compares it with how the IR leaves the block.
    fn compare(
        &self,
        info: &BlockInfo,
        exit: Option<Exit>,
        source: Source,
        machine: &mut Machine,
        symbols: &mut Symbols,
        paths: &mut Vec<Path>,
    ) -> Result<(), CheckErrorKind> {
        let exit = exit.ok_or(CheckErrorKind::Target)?;
        // A block without code has arrived where it starts.
        let stop = if info.start == info.end {
            Stop::Arrived(info.start)
        } else {
            self.run(machine, &mut symbols.terms, &symbols.meanings, info.func)?
        };
        self.same_effects(&source, machine, &symbols.terms)?;
        match (exit, stop) {
            (Exit::Ended, Stop::Ended) => Ok(()),
            (Exit::Goto(target), Stop::Arrived(_)) => {
                paths.push(Path { source, machine: machine.clone(), target });
                Ok(())
            }
            // Both sides go to the same place: nothing was asked.
            (Exit::Branch(_, then, otherwise), Stop::Arrived(_)) => {
                for target in [then, otherwise] {
                    paths.push(Path { source: source.clone(), machine: machine.clone(), target });
                }
                Ok(())
            }
            (Exit::Branch(condition, then, otherwise), Stop::Branch(taken, found)) => {
                let (expected, negated) = symbols.terms.truth(condition);
                let (asked, flipped) = symbols.terms.truth(found);
                if expected != asked {
                    let (expected, found) = (symbols.terms.text(condition), symbols.terms.text(found));
                    return Err(CheckErrorKind::Condition { expected, found });
                }
                let (jumped, passed) = if negated == flipped { (then, otherwise) } else { (otherwise, then) };
                let mut there = machine.clone();
                there.pc = taken;
                self.advance(info, &mut there, symbols)?;
                paths.push(Path { source: source.clone(), machine: there, target: jumped });
                self.advance(info, machine, symbols)?;
                paths.push(Path { source, machine: machine.clone(), target: passed });
                Ok(())
            }
            (exit @ Exit::Branch(..), Stop::Table(hash, entries)) => {
                for (value, pc) in entries {
                    let mut source = source.clone();
                    let target = self.decide(info.func, &exit, (hash, value), &mut source, symbols)?;
                    let mut there = machine.clone();
                    there.pc = pc;
                    self.advance(info, &mut there, symbols)?;
                    paths.push(Path { source, machine: there, target });
                }
                Ok(())
            }
            _ => Err(CheckErrorKind::Target),
        }
    }

    /// Where the IR goes when a word has a value, through blocks without code that compare it further.
    fn decide(
        &self,
        func: Func,
        exit: &Exit,
        (hash, value): (Term, Word),
        source: &mut Source,
        symbols: &mut Symbols,
    ) -> Result<BlockCall, CheckErrorKind> {
        let mut exit = exit.clone();
        // Each block is passed at most once.
        for _ in 0..=self.function(func).layout.len() {
            let Exit::Branch(condition, then, otherwise) = exit else { break };
            let compared = match symbols.terms.data(condition) {
                TermData::Op(opcodes::EQ, args, _) if args.len() == 2 => {
                    let other = if args[0] == hash { Some(args[1]) } else { (args[1] == hash).then_some(args[0]) };
                    other.and_then(|other| symbols.terms.word(other))
                }
                _ => None,
            };
            let Some(word) = compared else {
                let (expected, found) = (symbols.terms.text(condition), symbols.terms.text(hash));
                return Err(CheckErrorKind::Condition { expected, found });
            };
            let target = if word == value { then } else { otherwise };
            if self.blocks.contains_key(&(func, target.block)) || !target.args.is_empty() {
                return Ok(target);
            }
            let mut further = source.clone();
            match self.execute(func, target.block, &mut further, symbols) {
                Some(next @ Exit::Branch(..)) => {
                    *source = further;
                    exit = next;
                }
                Some(Exit::Goto(_) | Exit::Ended) | None => return Ok(target),
            }
        }
        Err(CheckErrorKind::Target)
    }

    /// Goes on to the start of a block, without effects.
    fn advance(&self, info: &BlockInfo, machine: &mut Machine, symbols: &mut Symbols) -> Result<(), CheckErrorKind> {
        if self.starts.contains(&machine.pc) {
            return Ok(());
        }
        match self.run(machine, &mut symbols.terms, &symbols.meanings, info.func)? {
            Stop::Arrived(_) => Ok(()),
            Stop::Branch(..) | Stop::Table(..) | Stop::Ended => Err(CheckErrorKind::Target),
        }
    }

    fn same_effects(&self, source: &Source, machine: &Machine, terms: &Terms) -> Result<(), CheckErrorKind> {
        let (expected, found) = (&source.trace.effects, &machine.trace.effects);
        if expected == found {
            return Ok(());
        }
        let at = expected.iter().zip(found).take_while(|(a, b)| a == b).count();
        let text =
            |effects: &[Effect]| effects.get(at).map_or_else(|| "nothing".to_owned(), |effect| effect.text(terms));
        Err(CheckErrorKind::Effects { at, expected: text(expected), found: text(found) })
    }

    /// The code stands at the start of a block: it must be the one the IR goes to, with its words in place.
    fn follow(
        &self,
        info: &BlockInfo,
        path: &mut Path,
        symbols: &mut Symbols,
        paths: &mut Vec<Path>,
    ) -> Result<(), CheckErrorKind> {
        let func = info.func;
        let function = self.function(func);
        // The words of parameters are read before any is bound: an argument may be a parameter of the same block.
        let params = function.blocks.get(path.target.block).map_or(&[][..], |block| &block.params);
        let args: Vec<Term> =
            path.target.args.iter().map(|&arg| self.word(func, &path.source, &mut symbols.terms, arg)).collect();
        for (&param, &arg) in params.iter().zip(&args) {
            path.source.words.insert(param, arg);
        }
        let Some(&target) = self.blocks.get(&(func, path.target.block)) else {
            // The block has no code of its own: it must have no effects, and jump on.
            return match self.execute(func, path.target.block, &mut path.source, symbols) {
                Some(Exit::Goto(target)) => {
                    paths.push(Path { source: path.source.clone(), machine: path.machine.clone(), target });
                    Ok(())
                }
                Some(Exit::Ended | Exit::Branch(..)) | None => Err(CheckErrorKind::Target),
            };
        };
        self.same_effects(&path.source, &path.machine, &symbols.terms)?;
        if path.machine.pc != target.start {
            return Err(CheckErrorKind::Target);
        }
        self.matches(info, target, path, symbols)
    }

    fn matches(
        &self,
        info: &BlockInfo,
        target: &BlockInfo,
        path: &Path,
        symbols: &mut Symbols,
    ) -> Result<(), CheckErrorKind> {
        let function = &self.functions[&info.func];
        let (expected, found) = (target.template.len(), path.machine.stack.len());
        let exact =
            self.facts.needs[info.func].returns[target.block] || same_cycle(&function.cfg, info.block, target.block);
        if found < expected || (exact && found != expected) {
            return Err(CheckErrorKind::Height { expected, found });
        }
        for (slot, (want, &have)) in target.template.iter().zip(&path.machine.stack[found - expected..]).enumerate() {
            let want = match *want {
                TemplateSlot::Junk => continue,
                TemplateSlot::Return => symbols.terms.term(TermData::Return),
                TemplateSlot::Value(value) => self.word(info.func, &path.source, &mut symbols.terms, value),
            };
            if want != have {
                let (expected, found) = (symbols.terms.text(want), symbols.terms.text(have));
                return Err(CheckErrorKind::Slot { slot, expected, found });
            }
        }
        let live: &ValueSet = &function.live.live_in[target.block];
        for (address, &value) in &function.slots {
            if !live.contains(value) {
                continue;
            }
            let want = self.word(info.func, &path.source, &mut symbols.terms, value);
            let have = path.machine.spills.get(address).map(|&(_, word)| word);
            if have != Some(want) {
                let expected = symbols.terms.text(want);
                let found = have.map_or_else(|| "?".to_owned(), |have| symbols.terms.text(have));
                return Err(CheckErrorKind::Spill { value, expected, found });
            }
        }
        Ok(())
    }
}
