//! Where a block goes: the end of the bytecode's block beside the instructions of the IR that decide.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::{Block, BlockCall, Imm, Inst, InstData, Opcode, TrapCode, Value, Word};

use super::terms::{Node, Term};
use super::walk::{Below, End};
use super::{CheckErrorKind, Checker, Checks, Dest, State, Way};
use crate::effects::Fact;
use crate::expr::MEMORY;
use crate::subset::{self, Lowering};
use crate::witness::{ExitWitness, Shape};

/// So many values are enumerated for one computed jump.
const VALUES_BUDGET: usize = 100_000;

impl<'a> Checker<'a> {
    /// Reads the IR of a block to its end, beside the end of the bytecode.
    pub(super) fn end(&mut self, mut way: Way, end: End) -> Checks {
        let (_, data) = self.advance(&mut way)?;
        if let Some(effect) = self.effects.next() {
            return Err(CheckErrorKind::Effect {
                expected: self.show(Some(effect.pc), effect.opcode, &effect.args),
                found: data.opcode.to_string(),
            });
        }
        let ends = |expected: &str, is: bool| {
            if is { Ok(()) } else { Err(CheckErrorKind::Target { expected: expected.to_owned() }) }
        };
        match end {
            End::Halt => ends("its halt", data.opcode.is_terminator() && data.targets.is_empty()),
            End::Invalid => ends("INVALID", data.imm == Imm::Trap(TrapCode::Invalid)),
            End::Stop => ends("STOP", data.opcode == Opcode::Stop),
            End::Next(pc) => self.go(way, Dest::Block(pc)),
            End::Jump(target, pc) => {
                self.pc = pc;
                self.go(way, Dest::Word(target, BTreeSet::new()))
            }
            End::Branch { target, condition, next, pc } => {
                self.pc = pc;
                let target = Dest::Word(target, BTreeSet::new());
                // As far as is known by now; what was found later is looked at again.
                let truth = way.known.truth(&mut self.terms, condition);
                let found = self.args(&data.args)?.first().copied().filter(|_| data.opcode == Opcode::Brif);
                let negated = self.terms.pure(Opcode::Iszero, vec![condition]);
                let (taken, other) = match (&data.targets[..], found, truth) {
                    ([taken, other], Some(found), _) if found == condition => (taken, other),
                    ([other, taken], Some(found), _) if found == negated => (taken, other),
                    (_, _, Some(true)) => return self.go(way, target),
                    (_, _, Some(false)) => return self.go(way, Dest::Block(next)),
                    _ => {
                        return Err(CheckErrorKind::Condition {
                            expected: self.terms.show(condition),
                            found: found.map_or_else(|| data.opcode.to_string(), |found| self.terms.show(found)),
                        });
                    }
                };
                for (call, side, dest) in [(taken, true, target), (other, false, Dest::Block(next))] {
                    if truth != Some(!side) {
                        let mut way = way.clone();
                        way.known.assume(&mut self.terms, condition, side);
                        self.branch(call, dest, way)?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Goes on at the target of a branch.
    fn branch(&mut self, call: &BlockCall, dest: Dest, mut way: Way) -> Checks {
        let dest = self.settle(&way, dest);
        if self.witness.blocks.contains_key(&(self.func, call.block)) {
            return self.arrive(call.block, &call.args, &dest, &way);
        }
        let params = self.function.blocks[call.block].params.clone();
        let args = self.args(&call.args)?;
        self.env.extend(params.into_iter().zip(args));
        (way.block, way.at) = (call.block, 0);
        self.go(way, dest)
    }

    /// The place that a destination is, if what is known tells.
    fn settle(&mut self, way: &Way, dest: Dest) -> Dest {
        let Dest::Word(term, not) = dest else { return dest };
        let term = way.known.norm(&mut self.terms, term);
        match self.terms.as_const(term).and_then(|word| self.code.jumpdest(&word)) {
            Some(pc) => Dest::Block(pc),
            None => Dest::Word(term, not),
        }
    }

    /// From a place in the IR on, the bytecode going to `dest`.
    pub(super) fn go(&mut self, mut way: Way, dest: Dest) -> Checks {
        let (inst, data) = self.advance(&mut way)?;
        let dest = self.settle(&way, dest);
        match data.opcode {
            Opcode::Jump => self.branch(&data.targets[0], dest, way),
            Opcode::Call => self.call(inst, data, &dest, way),
            Opcode::Ret => self.ret(data, &dest, &way),
            Opcode::Trap => self.bad_jump(data, &dest),
            Opcode::Brif => self.switch(data, dest, way),
            _ => Err(self.elsewhere(&dest)),
        }
    }

    fn elsewhere(&self, dest: &Dest) -> CheckErrorKind {
        CheckErrorKind::Target {
            expected: match dest {
                Dest::Block(pc) => format!("{pc:#06x}"),
                Dest::Word(term, _) => self.terms.show(*term),
            },
        }
    }

    /// A trap instead of a jump: the word is no target, whatever value it has.
    fn bad_jump(&mut self, data: &InstData, dest: &Dest) -> Checks {
        let (Imm::Trap(TrapCode::BadJump), Dest::Word(term, not)) = (data.imm, dest) else {
            return Err(self.elsewhere(dest));
        };
        self.checked.edges += 1;
        if self.code.jumpdests().iter().all(|pc| not.contains(pc)) {
            return Ok(());
        }
        let values = self.terms.values(*term, &self.tables, &mut { VALUES_BUDGET });
        let is_case = |word: &Word| self.code.jumpdest(word).is_none_or(|pc| not.contains(&pc));
        match values {
            Some(values) if values.iter().all(is_case) => Ok(()),
            _ => Err(self.elsewhere(dest)),
        }
    }

    /// One case of a jump that has several targets.
    fn switch(&mut self, data: &InstData, dest: Dest, way: Way) -> Checks {
        let [taken, other] = &data.targets[..] else { return Err(self.elsewhere(&dest)) };
        let condition = self.args(&data.args)?[0];
        let condition = way.known.norm(&mut self.terms, condition);
        // The checker may know more of the word here than the lifter did.
        if let Some(truth) = way.known.truth(&mut self.terms, condition) {
            return self.branch(if truth { taken } else { other }, dest, way);
        }
        let Dest::Word(term, not) = &dest else { return Err(self.elsewhere(&dest)) };
        let case = match self.terms.node(condition) {
            Node::Pure(Opcode::Eq, args) if args[0] == *term => self.terms.as_const(args[1]),
            _ => None,
        };
        let Some(pc) = case.and_then(|word| self.code.jumpdest(&word)) else { return Err(self.elsewhere(&dest)) };
        self.branch(taken, Dest::Block(pc), way.clone())?;
        let not = not.iter().copied().chain([pc]).collect();
        self.branch(other, Dest::Word(*term, not), way)
    }

    /// A jump to a block that stands for a block of bytecode.
    pub(super) fn arrive(&mut self, to: Block, args: &[Value], dest: &Dest, way: &Way) -> Checks {
        let claim = self.witness.blocks.get(&(self.func, to)).ok_or(CheckErrorKind::Unnamed)?;
        if !matches!(dest, Dest::Block(pc) if *pc == claim.pc) {
            return Err(self.elsewhere(dest));
        }
        self.passes(&claim.params, args, way)?;
        self.checked.edges += 1;
        let state = self.state(to, way);
        let joined = match self.states.get(&to) {
            Some(old) => self.join(old.clone(), &state, to),
            None => state,
        };
        if self.states.get(&to) != Some(&joined) {
            self.states.insert(to, joined);
            self.pending.insert(to);
        }
        Ok(())
    }

    /// Whether these values are the items of the stack that they should be.
    fn passes(&mut self, slots: &[u32], values: &[Value], way: &Way) -> Checks {
        let args = self.args(values)?;
        if args.len() != slots.len() {
            return Err(CheckErrorKind::Unnamed);
        }
        for (&slot, arg) in slots.iter().zip(args) {
            let item = self.item(&way.stack, &way.memory, slot);
            self.same(way, slot, item, arg)?;
        }
        Ok(())
    }

    fn same(&mut self, way: &Way, slot: u32, expected: Term, found: Term) -> Checks {
        let expected = way.known.norm(&mut self.terms, expected);
        let found = way.known.norm(&mut self.terms, found);
        self.checked.items += 1;
        if expected == found {
            return Ok(());
        }
        let (expected, found) = (self.terms.show(expected), self.terms.show(found));
        Err(CheckErrorKind::Argument { slot, expected, found })
    }

    /// What holds at the start of a block that is entered like this.
    fn state(&mut self, to: Block, way: &Way) -> State {
        let (mut nonzero, mut values) = (BTreeSet::new(), BTreeMap::new());
        let mut items = Vec::new();
        let depths = way.stack.items.len() as u32;
        for (at, &item) in way.stack.items.iter().enumerate() {
            let slot = depths - 1 - at as u32;
            let item = way.known.norm(&mut self.terms, item);
            items.push(self.kept(to, slot, item, way, &mut nonzero));
            if !self.tables.map.is_empty()
                && self.terms.reads(item, &self.tables)
                && let Some(found) = self.terms.values(item, &self.tables, &mut { VALUES_BUDGET })
            {
                values.insert(slot, found);
            }
        }
        let memory = self.code.followed.iter().map(|&address| {
            let word = way.memory.word(&mut self.terms, address).unwrap_or_else(|| self.terms.unknown());
            (address, word)
        });
        let memory: Vec<(u32, Term)> = memory.collect();
        let memory = memory
            .into_iter()
            .map(|(address, word)| (address, self.kept(to, MEMORY + address, word, way, &mut nonzero)))
            .collect();
        let below = match way.stack.below {
            Below::Entry(first) => Some(first),
            Below::Block(..) => None,
        };
        State { items, below, nonzero, values, entries: way.known.entries(&self.terms), memory }
    }

    /// What of an item is kept from one block to the next.
    fn kept(&mut self, to: Block, slot: u32, item: Term, way: &Way, nonzero: &mut BTreeSet<u32>) -> Term {
        if self.terms.is_stable(item) {
            return item;
        }
        if way.known.truth(&mut self.terms, item) == Some(true) {
            nonzero.insert(slot);
        }
        self.terms.add(Node::Slot(to, slot))
    }

    /// What holds on both ways to a block.
    fn join(&mut self, old: State, new: &State, to: Block) -> State {
        let same_height = old.height().is_some() && old.height() == new.height();
        let (longer, shorter) = if old.items.len() >= new.items.len() { (&old, new) } else { (new, &old) };
        let count = if same_height { longer.items.len() } else { shorter.items.len() };
        let (mut nonzero, mut values) = (BTreeSet::new(), BTreeMap::new());
        let mut items = Vec::new();
        for slot in (0..count as u32).rev() {
            let own = self.terms.add(Node::Slot(to, slot));
            let pair = (old.get(&mut self.terms, slot), new.get(&mut self.terms, slot));
            let (Some(a), Some(b)) = pair else {
                items.push(own);
                continue;
            };
            if a != b && old.is_nonzero(&self.terms, slot, a) && new.is_nonzero(&self.terms, slot, b) {
                nonzero.insert(slot);
            }
            if a == b && a == own && old.nonzero.contains(&slot) && new.nonzero.contains(&slot) {
                nonzero.insert(slot);
            }
            if let Some(found) = old.values.get(&slot).filter(|found| new.values.get(&slot) == Some(found)) {
                values.insert(slot, found.clone());
            }
            items.push(if a == b { a } else { own });
        }
        let memory = old
            .memory
            .iter()
            .map(|(&address, &word)| {
                let same = new.memory.get(&address) == Some(&word);
                (address, if same { word } else { self.terms.add(Node::Slot(to, MEMORY + address)) })
            })
            .collect();
        let entries = old.entries.iter().filter(|(slot, truth)| new.entries.get(slot) == Some(truth));
        let below = same_height.then_some(longer.below).flatten();
        let entries = entries.map(|(&slot, &truth)| (slot, truth)).collect();
        State { items, below, nonzero, values, entries, memory }
    }

    /// A value that is said of the stack before a call, or of the function's own entry stack (`None`).
    fn shape(&mut self, shape: &Shape, way: Option<&Way>) -> Option<Term> {
        Some(match shape {
            Shape::Const(word) => self.terms.constant(*word),
            Shape::Entry(slot) => match way {
                Some(way) => {
                    let item = self.item(&way.stack, &way.memory, *slot);
                    way.known.norm(&mut self.terms, item)
                }
                None => self.entry(*slot)?,
            },
            Shape::Op(byte, operands) => {
                let mut args = Vec::new();
                for operand in operands {
                    args.push(self.shape(operand, way)?);
                }
                match subset::row_of(*byte)?.lowering {
                    Lowering::Ins(opcode) if opcode.is_pure() => self.terms.pure(opcode, args),
                    Lowering::Swapped(opcode) if opcode.is_pure() => {
                        args.reverse();
                        self.terms.pure(opcode, args)
                    }
                    _ => return None,
                }
            }
            Shape::Unknown => return None,
        })
    }

    /// An item of the function's own entry stack.
    fn entry(&mut self, slot: u32) -> Option<Term> {
        match self.claim(self.func).ok()?.facts.get(&slot) {
            Some(Fact::Is(word)) => Some(self.terms.constant(*word)),
            Some(Fact::NonZero) | None => Some(self.terms.add(Node::Entry(slot))),
        }
    }

    fn call(&mut self, inst: Inst, data: &'a InstData, dest: &Dest, mut way: Way) -> Checks {
        let Imm::Func(callee) = data.imm else { return Err(CheckErrorKind::Unnamed) };
        let claim = self.claim(callee)?;
        if !matches!(dest, Dest::Block(pc) if *pc == claim.pc) {
            return Err(self.elsewhere(dest));
        }
        self.passes(&claim.params, &data.args, &way)?;
        self.checked.edges += 1;
        for (&slot, fact) in &claim.facts {
            let item = self.item(&way.stack, &way.memory, slot);
            let item = way.known.norm(&mut self.terms, item);
            let holds = match fact {
                Fact::Is(word) => self.terms.as_const(item) == Some(*word),
                Fact::NonZero => way.known.truth(&mut self.terms, item) == Some(true),
            };
            if !holds {
                return Err(CheckErrorKind::Facts);
            }
        }
        for (at, &result) in data.results.iter().enumerate() {
            let term = self.terms.add(Node::Returned(inst, at));
            self.env.insert(result, term);
        }
        way.at += 1;
        let mut exits = BTreeMap::new();
        for (number, exit) in claim.exits.iter().enumerate() {
            if let Some(after) = self.after(inst, claim.numbered(), exit, &way) {
                exits.insert(number, after);
            }
        }
        if exits.is_empty() {
            // It never comes back.
            return Ok(());
        }
        let number = claim.numbered().then(|| self.terms.add(Node::Returned(inst, 0)));
        self.exits(number, exits, way.block, way.at)
    }

    /// What holds after a call that returned through `exit`. `None` if it cannot return like that.
    fn after(&mut self, inst: Inst, numbered: bool, exit: &ExitWitness, way: &Way) -> Option<(Dest, Way)> {
        let mut after = way.clone();
        for (&slot, &truth) in &exit.guards {
            let item = self.item(&way.stack, &way.memory, slot);
            if way.known.truth(&mut self.terms, item) == Some(!truth) {
                return None;
            }
            after.known.assume(&mut self.terms, item, truth);
        }
        let mut items: Vec<Term> = Vec::new();
        for (depth, item) in (0u32..).zip(&exit.items) {
            let result = exit.results.iter().position(|&result| result == depth);
            let term = match (self.shape(item, Some(way)), result) {
                (Some(term), None) => term,
                (Some(term), Some(at)) => {
                    let result = self.terms.add(Node::Returned(inst, usize::from(numbered) + at));
                    after.known.same(result, term);
                    term
                }
                (None, Some(at)) => self.terms.add(Node::Returned(inst, usize::from(numbered) + at)),
                (None, None) => self.terms.unknown(),
            };
            items.push(term);
        }
        let dest = match self.shape(&exit.target, Some(way)) {
            Some(target) => target,
            None => self.terms.unknown(),
        };
        for _ in 0..exit.base {
            after.stack.pop(&mut self.terms);
        }
        if self.is_main && matches!(after.stack.below, Below::Entry(1..)) {
            // It took more items than there are: the stack has underflowed by then.
            self.checked.unproved += 1;
            return None;
        }
        after.stack.items.extend(items.into_iter().rev());
        let mut words = BTreeMap::new();
        for &address in &self.code.followed {
            let word = match exit.memory.get(&(MEMORY + address)) {
                Some(shape) => self.shape(shape, Some(way)).unwrap_or_else(|| self.terms.unknown()),
                None => self.item(&way.stack, &way.memory, MEMORY + address),
            };
            words.insert(address, word);
        }
        after.memory = super::Memory::default();
        for (address, word) in words {
            after.memory.write(address, word);
        }
        Some((Dest::Word(dest, BTreeSet::new()), after))
    }

    /// After a call, the ways on by the number of the exit.
    fn exits(
        &mut self,
        number: Option<Term>,
        mut exits: BTreeMap<usize, (Dest, Way)>,
        block: Block,
        at: usize,
    ) -> Checks {
        let Some((_, way)) = exits.values().next() else { return Ok(()) };
        let mut way = Way { block, at, ..way.clone() };
        let (_, data) = self.advance(&mut way)?;
        let case = match (number, &data.args[..]) {
            (Some(number), &[condition]) if data.opcode == Opcode::Brif => self.case(number, condition)?,
            _ => None,
        };
        let (Some(case), [taken, other]) = (case, &data.targets[..]) else {
            // The last way is not asked for.
            let only = exits.len() == 1;
            return match exits.pop_first().filter(|_| only) {
                Some((_, (dest, last))) => self.go(Way { block: way.block, at: way.at, ..last }, dest),
                None => Err(CheckErrorKind::Target { expected: "the ways on after the call".to_owned() }),
            };
        };
        if let Some((dest, way)) = exits.remove(&case) {
            self.branch(taken, dest, way)?;
        }
        if self.witness.blocks.contains_key(&(self.func, other.block)) {
            return Err(CheckErrorKind::Target { expected: "the other ways on after the call".to_owned() });
        }
        self.exits(number, exits, other.block, 0)
    }

    /// The number that `condition` compares the number of an exit with.
    fn case(&mut self, number: Term, condition: Value) -> Checks<Option<usize>> {
        let condition = self.args(&[condition])?[0];
        let case = match self.terms.node(condition) {
            Node::Pure(Opcode::Eq, args) if args[0] == number => self.terms.as_const(args[1]),
            _ => None,
        };
        Ok(case.and_then(|word| usize::try_from(word).ok()))
    }

    fn ret(&mut self, data: &InstData, dest: &Dest, way: &Way) -> Checks {
        let claim = self.claim(self.func)?;
        let args = self.args(&data.args)?;
        let exit = match (claim.numbered(), args.first()) {
            (false, _) => 0,
            (true, Some(&number)) => self
                .terms
                .as_const(number)
                .and_then(|number| usize::try_from(number).ok())
                .ok_or(CheckErrorKind::Unnamed)?,
            (true, None) => return Err(CheckErrorKind::Unnamed),
        };
        let wrong = |what| Err(CheckErrorKind::Exit { exit, what });
        let Some(promise) = claim.exits.get(exit) else { return wrong("there is no such exit") };
        let target = self.shape(&promise.target, None).map(|target| way.known.norm(&mut self.terms, target));
        let goes = match dest {
            Dest::Word(term, _) => Some(*term),
            Dest::Block(pc) => Some(self.terms.constant(Word::from(*pc))),
        };
        if target.is_none() || target != goes {
            return wrong("where it returns to");
        }
        for (&slot, &truth) in &promise.guards {
            let item = self.entry(slot).ok_or(CheckErrorKind::Unnamed)?;
            if way.known.truth(&mut self.terms, item) != Some(truth) {
                return wrong("a condition");
            }
        }
        let height = promise.items.len() as i64 - i64::from(promise.base);
        if way.stack.height() != Some(height) {
            return wrong("the height of the stack");
        }
        for (depth, item) in (0u32..).zip(&promise.items) {
            let Some(expected) = self.shape(item, None) else { continue };
            let found = way.stack.get(&mut self.terms, depth);
            if self.same(way, depth, expected, found).is_err() {
                return wrong("an item that it leaves as it was");
            }
        }
        // What lies below is as it was.
        let depths = way.stack.items.len().max(promise.items.len()) as u32;
        for depth in promise.items.len() as u32..depths {
            let slot = promise.base + depth - promise.items.len() as u32;
            let expected = self.entry(slot).ok_or(CheckErrorKind::Unnamed)?;
            let found = way.stack.get(&mut self.terms, depth);
            if self.same(way, depth, expected, found).is_err() {
                return wrong("an item below the stack that it leaves");
            }
        }
        let first = usize::from(claim.numbered());
        for (at, &depth) in promise.results.iter().enumerate() {
            let Some(&result) = args.get(first + at) else { return wrong("a result is missing") };
            let item = way.stack.get(&mut self.terms, depth);
            self.same(way, depth, item, result)?;
        }
        for &address in &self.code.followed {
            let found = self.item(&way.stack, &way.memory, MEMORY + address);
            let expected = match promise.memory.get(&(MEMORY + address)) {
                Some(shape) => self.shape(shape, None),
                None => self.entry(MEMORY + address),
            };
            if expected.is_some_and(|expected| self.same(way, MEMORY + address, expected, found).is_err()) {
                return wrong("a followed word of memory");
            }
        }
        self.checked.edges += 1;
        Ok(())
    }
}
