//! Bringing slots to the top, and what to do when they are out of reach.

use zvm_ir::{Opcode, Value, Word};

use super::schedule::Scheduler;
use super::shuffle::{FIRST, JUNK, Named, OTHER, Problem, Step};
use super::{Failure, Slot};
use crate::liveness::{Remade, remade};
use crate::machine::{MachineInst, MachineOp};
use crate::{Optimize, constant, opcodes};

/// A frame this high has its junk cleared away even where junk does no harm, so that values stay in reach.
const HIGH: usize = 11;

impl Scheduler<'_> {
    pub(super) fn emit(&mut self, op: MachineOp) {
        self.code.push(MachineInst { op, pc: self.pc });
    }

    /// Whether nobody needs the word in a slot any more.
    pub(super) fn is_dead(&self, slot: Slot) -> bool {
        match slot {
            Slot::Junk | Slot::Made(_) | Slot::Label(_) | Slot::Table(_) => true,
            Slot::Return => !self.returns,
            Slot::Value(value) => self.spills.contains_key(&value) || !self.is_needed(value, 0),
        }
    }

    /// Whether `value` is used beyond the next `uses` uses in this block.
    pub(super) fn is_needed(&self, value: Value, uses: u32) -> bool {
        self.remaining.get(&value).copied().unwrap_or_default() > uses || self.live_out.contains(value)
    }

    /// How a slot is made without taking it from the stack, and its price.
    fn making(&self, slot: Slot) -> Option<u32> {
        let price = |gas: u32, bytes: usize| self.price(gas, bytes);
        match slot {
            Slot::Made(Remade::Constant(word)) => {
                let recipe = constant::materialize(word, self.cx.options.fork, self.cx.options.optimize);
                Some(price(recipe.gas, recipe.code.len()))
            }
            Slot::Made(Remade::Input(_)) => Some(price(2, 1)),
            Slot::Made(Remade::Immutable(_)) => Some(price(3, 33)),
            Slot::Label(_) => Some(price(3, 3)),
            Slot::Table(_) => Some(price(3, 33)),
            Slot::Value(value) if self.spills.contains_key(&value) => {
                (!self.pending.contains_key(&value)).then(|| price(6, 4))
            }
            Slot::Value(value) => self.cheap_load(value).map(|_| price(6, 4)),
            Slot::Junk => Some(price(2, 1)),
            Slot::Return => None,
        }
    }

    /// The remade operand of a `calldataload`, which may be repeated instead of kept.
    fn cheap_load(&self, value: Value) -> Option<Remade> {
        let data = &self.function.insts[self.function.def_inst(value)?];
        if data.opcode != Opcode::Calldataload || self.pending.contains_key(&value) {
            return None;
        }
        remade(self.function, self.canonical(*data.args.first()?))
    }

    pub(super) fn price(&self, gas: u32, bytes: usize) -> u32 {
        match self.cx.options.optimize {
            Optimize::Size => bytes as u32 * 64 + gas,
            Optimize::None | Optimize::Gas => gas * 8 + bytes as u32,
        }
    }

    fn emit_making(&mut self, slot: Slot) {
        match slot {
            Slot::Made(made) => self.emit_remade(made),
            Slot::Label(label) => self.emit(MachineOp::PushLabel(label)),
            Slot::Table(table) => self.emit(MachineOp::PushTable(table)),
            Slot::Value(value) => {
                if let Some(&address) = self.spills.get(&value) {
                    self.emit(MachineOp::Push(Word::from(address)));
                    self.emit(MachineOp::Plain(opcodes::MLOAD));
                } else if let Some(offset) = self.cheap_load(value) {
                    self.emit_remade(offset);
                    self.emit(MachineOp::Plain(opcodes::CALLDATALOAD));
                }
            }
            Slot::Junk => self.emit(MachineOp::Push(Word::ZERO)),
            Slot::Return => {}
        }
    }

    fn emit_remade(&mut self, made: Remade) {
        self.emit(match made {
            Remade::Constant(word) => MachineOp::Push(word),
            Remade::Input(byte) => MachineOp::Plain(byte),
            Remade::Immutable(place) => MachineOp::PushImmutable(place),
        });
    }

    /// Applies a planned step to the stack and emits it.
    fn step(&mut self, step: Step, names: &[Slot]) {
        let name = |id: u8| names.get(usize::from(id.saturating_sub(FIRST))).copied().unwrap_or(Slot::Junk);
        match step {
            Step::Dup(depth) => self.emit(MachineOp::Dup(depth)),
            Step::Swap(below) => self.emit(MachineOp::Swap(below)),
            Step::Pop => self.emit(MachineOp::Plain(opcodes::POP)),
            Step::Make(id) => self.emit_making(name(id)),
        }
        Problem::apply(&mut self.stack, step, name);
    }

    /// How often words of the goal must stay below it: once if needed later, and as often as they are locked.
    fn kept(&self, slot: Slot, in_goal: u32) -> u32 {
        let reserved = self.reserved.iter().filter(|&&other| other == slot).count() as u32;
        let needed = match slot {
            Slot::Value(value) => !self.spills.contains_key(&value) && self.is_needed(value, in_goal + reserved),
            Slot::Return => self.returns,
            Slot::Junk | Slot::Made(_) | Slot::Label(_) | Slot::Table(_) => false,
        };
        reserved + u32::from(needed)
    }

    /// Brings `goal` to the top (its last word topmost), keeping everything that is needed later below it. With
    /// `commutes` the two topmost words may come in either order; tells whether they are exchanged.
    pub(super) fn arrange(&mut self, goal: &[Slot], commutes: bool) -> Result<bool, Failure> {
        if self.try_arrange(goal, commutes, false).is_err() {
            self.clear_junk();
            if let Err(victim) = self.try_arrange(goal, commutes, false) {
                if !self.mode.aside {
                    return Err(self.out_of_reach(victim));
                }
                let desired = self.with_goal(goal);
                self.put_aside(&desired)?;
            }
        }
        let len = self.stack.len();
        Ok(commutes && goal.len() >= 2 && self.stack[len - 1] != goal[goal.len() - 1])
    }

    /// Makes the frame be exactly `goal`.
    pub(super) fn arrange_exactly(&mut self, goal: &[Slot]) -> Result<(), Failure> {
        if let Err(victim) = self.try_arrange(goal, false, true) {
            if !self.mode.aside {
                return Err(self.out_of_reach(victim));
            }
            self.put_aside(goal)?;
        }
        Ok(())
    }

    /// Brings `goal` to the top; what lies below it does not matter any more.
    pub(super) fn arrange_last(&mut self, goal: &[Slot]) -> Result<(), Failure> {
        if let Err(victim) = self.try_arrange(goal, false, false) {
            if !self.mode.aside {
                return Err(self.out_of_reach(victim));
            }
            self.put_aside(goal)?;
        }
        Ok(())
    }

    /// On failure, the slot that is out of reach.
    fn try_arrange(&mut self, goal: &[Slot], commutes: bool, exact: bool) -> Result<(), Option<Slot>> {
        let reach = self.cx.options.fork.reach();
        let len = self.stack.len();
        // An exact goal leaves alone what is in place already at the bottom.
        let settled =
            if exact { self.stack.iter().zip(goal).take_while(|(have, want)| have == want).count() } else { 0 };
        let window = len.saturating_sub(reach + 1).max(if exact { 0 } else { self.window_limit() });
        if exact && settled < window {
            return Err(self.stack.get(settled).copied());
        }
        let window = if exact { window.min(settled) } else { window };
        let goal = &goal[settled..];
        let mut names: Vec<Slot> = Vec::new();
        for &slot in goal {
            if !names.contains(&slot) {
                names.push(slot);
            }
        }
        if names.len() > 200 {
            return Err(None);
        }
        let id = |slot: Slot| names.iter().position(|&name| name == slot).map(|at| at as u8 + FIRST);
        let stack: Vec<u8> = self.stack[window..]
            .iter()
            .map(|&slot| id(slot).unwrap_or(if exact || self.is_dead(slot) { JUNK } else { OTHER }))
            .collect();
        let floor = if exact { settled - window } else { self.floor.saturating_sub(window) };
        let named = names
            .iter()
            .map(|&name| {
                let in_goal = goal.iter().filter(|&&slot| slot == name).count() as u32;
                let copies = if exact {
                    let settled = self.stack[window..settled].iter().filter(|&&slot| slot == name).count() as u32;
                    in_goal + settled
                } else {
                    let outside = self.stack[..window].iter().filter(|&&slot| slot == name).count() as u32;
                    in_goal + self.kept(name, in_goal).saturating_sub(outside)
                };
                Named { copies: copies.min(250) as u8, make: self.making(name) }
            })
            .collect();
        let junk_cost = if self.leaving {
            0
        } else if exact || self.strict || len > HIGH {
            self.price(self.mode.junk, 1)
        } else {
            1
        };
        let problem = Problem {
            stack,
            floor,
            goal: goal.iter().filter_map(|&slot| id(slot)).collect(),
            exact,
            commutes,
            named,
            junk_cost,
            reach,
            move_cost: self.price(3, 1),
            pop_cost: self.price(2, 1),
        };
        let problem = problem.trimmed();
        let key = (problem, self.mode.budget);
        let plan = match self.plans.get(&key) {
            Some(plan) => plan.clone(),
            None => {
                let plan = key.0.solve(self.mode.budget);
                self.plans.insert(key, plan.clone());
                plan
            }
        };
        match plan {
            Ok(steps) => {
                for step in steps {
                    self.step(step, &names);
                }
                Ok(())
            }
            Err(out) => Err(out.0.and_then(|id| names.get(usize::from(id - FIRST))).copied()),
        }
    }

    /// Slots below this index cannot matter to an arrangement: they are beyond the reach of DUP.
    fn window_limit(&self) -> usize {
        self.stack.len().saturating_sub(self.cx.options.fork.reach() + 1)
    }

    fn out_of_reach(&self, slot: Option<Slot>) -> Failure {
        let spillable = |slot: &Slot| match *slot {
            Slot::Value(value) if !self.spills.contains_key(&value) => Some(value),
            _ => None,
        };
        let value = slot
            .as_ref()
            .and_then(spillable)
            .or_else(|| self.stack.iter().filter(|&&slot| !self.is_dead(slot)).find_map(spillable))
            .or_else(|| self.stack.iter().find_map(spillable));
        Failure::OutOfReach { value, pc: self.pc }
    }

    /// Drops the dead words on top.
    pub(super) fn pop_dead(&mut self) {
        if !self.strict && self.stack.len() <= HIGH {
            return;
        }
        while self.stack.len() > self.floor && self.stack.last().is_some_and(|&slot| self.is_dead(slot)) {
            self.emit(MachineOp::Plain(opcodes::POP));
            self.stack.pop();
        }
    }

    /// Drops all dead words that SWAP reaches, so that the others come closer.
    fn clear_junk(&mut self) {
        loop {
            let len = self.stack.len();
            let lowest = len.saturating_sub(self.cx.options.fork.reach() + 1).max(self.floor);
            let Some(at) = (lowest..len).rev().find(|&at| self.is_dead(self.stack[at])) else { return };
            if at != len - 1 {
                self.emit(MachineOp::Swap((len - 1 - at) as u8));
                self.stack.swap(at, len - 1);
            }
            self.emit(MachineOp::Plain(opcodes::POP));
            self.stack.pop();
        }
    }

    /// The stack without what is dead, and `goal` on top.
    fn with_goal(&self, goal: &[Slot]) -> Vec<Slot> {
        let mut desired: Vec<Slot> = self.stack[..self.floor].to_vec();
        for &slot in &self.stack[self.floor..] {
            let in_goal = goal.iter().filter(|&&other| other == slot).count() as u32;
            let have = desired.iter().filter(|&&other| other == slot).count() as u32;
            let wanted = if in_goal > 0 { self.kept(slot, in_goal) } else { u32::from(!self.is_dead(slot)).max(have) };
            let keep = if in_goal > 0 { have < wanted } else { !self.is_dead(slot) };
            if keep {
                desired.push(slot);
            }
        }
        desired.extend_from_slice(goal);
        desired
    }

    /// Rebuilds the stack with the help of memory that nobody has touched yet: words are stored at MSIZE, one after the
    /// other, and loaded in the order of `desired`; then the memory is cleared. The program can only see this
    /// by MSIZE.
    fn put_aside(&mut self, desired: &[Slot]) -> Result<(), Failure> {
        let internal = |what| Failure::Internal { what, pc: self.pc };
        let mut keep = self.stack.iter().zip(desired).take_while(|(have, want)| have == want).count();
        // A word that is only below must be put aside too, in order to be copied.
        let mut at = keep;
        while at < desired.len() {
            let want = desired[at];
            let available = self.stack[keep..].contains(&want) || self.making(want).is_some();
            if available {
                at += 1;
                continue;
            }
            keep =
                self.stack[..keep].iter().rposition(|&slot| slot == want).ok_or_else(|| internal("a word is lost"))?;
            at = keep;
        }
        let aside: Vec<Slot> = self.stack[keep..].iter().rev().copied().collect();
        for _ in &aside {
            self.emit(MachineOp::Plain(opcodes::MSIZE));
            self.emit(MachineOp::Plain(opcodes::MSTORE));
            self.stack.pop();
        }
        let back = |at: usize| Word::from(32 * (aside.len() - at) as u64);
        for &want in &desired[keep..] {
            match aside.iter().position(|&slot| slot == want) {
                Some(at) => {
                    self.emit(MachineOp::Push(back(at)));
                    self.emit(MachineOp::Plain(opcodes::MSIZE));
                    self.emit(MachineOp::Plain(opcodes::SUB));
                    self.emit(MachineOp::Plain(opcodes::MLOAD));
                }
                None => self.emit_making(want),
            }
            self.stack.push(want);
        }
        if !aside.is_empty() {
            // CALLDATACOPY from past the end of calldata writes zeros.
            self.emit(MachineOp::Push(back(0)));
            self.emit(MachineOp::Plain(opcodes::CALLDATASIZE));
            self.emit(MachineOp::Push(back(0)));
            self.emit(MachineOp::Plain(opcodes::MSIZE));
            self.emit(MachineOp::Plain(opcodes::SUB));
            self.emit(MachineOp::Plain(opcodes::CALLDATACOPY));
        }
        Ok(())
    }
}
