//! The end of a block: halts, returns, branches, and edges to blocks with several predecessors.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::{Block, BlockCall, Inst, Opcode, Value};

use super::schedule::Scheduler;
use super::{Failure, Order, Slot, TemplateSlot, is_exact_edge, same_cycle};
use crate::liveness::ValueSet;
use crate::machine::{End, MachineOp};
use crate::opcodes;
use crate::selection::{Selection, select};

impl Scheduler<'_> {
    pub(super) fn terminator(&mut self, inst: Inst) -> Result<End, Failure> {
        let data = &self.function.insts[inst];
        match select(data.opcode, data.args.len()) {
            Selection::Jump => {
                let target = data.targets.first().ok_or_else(|| self.internal("a jump has no target"))?;
                self.edge(target)?;
                Ok(End::Goto(self.label(target.block)?))
            }
            Selection::Brif => self.branch(inst),
            Selection::Ret => {
                let mut goal: Vec<Slot> = data.args.iter().map(|&arg| self.operand(arg)).collect();
                self.define_slots(&goal)?;
                goal.push(Slot::Return);
                self.pc = data.pc;
                self.arrange_exactly(&goal)?;
                self.emit(MachineOp::Plain(opcodes::JUMP));
                Ok(End::Closed)
            }
            Selection::Evm(byte) => {
                self.strict = false;
                self.leaving = true;
                let operands: Vec<Slot> = data.args.iter().rev().map(|&arg| self.operand(arg)).collect();
                self.prepare(&operands, false)?;
                self.pc = data.pc;
                debug_assert!(data.opcode != Opcode::Jump);
                self.emit(MachineOp::Plain(byte));
                Ok(End::Closed)
            }
            Selection::Remade | Selection::Alias | Selection::Datacopy | Selection::Call | Selection::Expanded => {
                Err(self.internal("the instruction does not end a block"))
            }
        }
    }

    /// Computes the pending values among the slots.
    pub(super) fn define_slots(&mut self, slots: &[Slot]) -> Result<(), Failure> {
        for &slot in slots {
            if let Slot::Value(value) = slot
                && self.pending.contains_key(&value)
            {
                self.define(value)?;
            }
        }
        Ok(())
    }

    /// Computes the pending values that later blocks need.
    pub(super) fn define_live_out(&mut self) -> Result<(), Failure> {
        let mut late: Vec<(u32, Value)> =
            self.pending.iter().filter(|&(&value, _)| self.live_out.contains(value)).map(|(&v, &at)| (at, v)).collect();
        late.sort_unstable();
        for (_, value) in late {
            if self.pending.contains_key(&value) {
                self.define(value)?;
            }
        }
        Ok(())
    }

    fn branch(&mut self, inst: Inst) -> Result<End, Failure> {
        let data = &self.function.insts[inst];
        self.define_live_out()?;
        self.pop_dead();
        let condition = data.args.first().map(|&arg| self.operand(arg));
        let condition = condition.ok_or_else(|| self.internal("a branch has no condition"))?;
        match self.frame_of_next_round(inst) {
            Some(mut goal) if self.order != Order::Early => {
                self.define_slots(&[condition])?;
                goal.push(condition);
                self.arrange_exactly(&goal)?;
            }
            _ => drop(self.prepare(&[condition], false)?),
        }
        self.pc = data.pc;
        self.stack.pop();
        if let Slot::Value(value) = condition
            && let Some(count) = self.remaining.get_mut(&value)
        {
            *count = count.saturating_sub(1);
        }
        let [then, otherwise] = &data.targets[..] else { return Err(self.internal("a branch has two targets")) };
        for target in [then, otherwise] {
            if self.templates[target.block].is_none() {
                let template = self.inherited_template(target.block);
                self.freeze(target.block, template);
            }
        }
        Ok(End::Branch { nonzero: self.label(then.block)?, zero: self.label(otherwise.block)? })
    }

    /// For a branch that leaves a loop or goes on to its next round, the frame that the next round expects, if whatever
    /// comes after the loop finds all it needs in it. With that frame the branch itself jumps back.
    fn frame_of_next_round(&self, inst: Inst) -> Option<Vec<Slot>> {
        let [then, otherwise] = &self.function.insts[inst].targets[..] else { return None };
        if !self.spills.is_empty() || self.stack.len() > self.cx.options.fork.reach() {
            return None;
        }
        [(then, otherwise), (otherwise, then)].into_iter().find_map(|(edge, exit)| {
            let back = self.only_jump(edge.block)?;
            let header = back.block;
            if !same_cycle(&self.cx.cfg, self.block, header) || same_cycle(&self.cx.cfg, self.block, exit.block) {
                return None;
            }
            let params = &self.function.blocks[header].params;
            let mut goal = Vec::new();
            for slot in self.templates[header].as_ref()? {
                let slot = match *slot {
                    TemplateSlot::Junk => return None,
                    TemplateSlot::Return => Slot::Return,
                    TemplateSlot::Value(value) => match params.iter().position(|&param| param == value) {
                        Some(at) => self.operand(*back.args.get(at)?),
                        None => Slot::Value(value),
                    },
                };
                // What is made anew, or there twice, would have to be made on the edge all the same.
                if matches!(slot, Slot::Made(_)) || goal.contains(&slot) {
                    return None;
                }
                goal.push(slot);
            }
            let found = |value: Value| goal.contains(&Slot::Value(value));
            let returns = self.cx.facts.needs[self.cx.func].returns[exit.block];
            let all = self.cx.live.live_in[exit.block].iter().all(found);
            (all && (!returns || goal.contains(&Slot::Return))).then_some(goal)
        })
    }

    /// The jump of a block that does nothing else.
    pub(super) fn only_jump(&self, block: Block) -> Option<&BlockCall> {
        let data = &self.function.insts[self.function.terminator(block)?];
        let alone = self.function.blocks[block].insts.iter().all(|&inst| {
            let data = &self.function.insts[inst];
            matches!(select(data.opcode, data.args.len()), Selection::Remade | Selection::Alias | Selection::Jump)
        });
        if alone { data.targets.first() } else { None }
    }

    /// The stack as it is, for a block that is reached from here only.
    pub(super) fn inherited_template(&self, target: Block) -> Vec<TemplateSlot> {
        let live = &self.cx.live.live_in[target];
        let returns = self.cx.facts.needs[self.cx.func].returns[target];
        let mut above: BTreeSet<Slot> = BTreeSet::new();
        let mut template: Vec<TemplateSlot> = self
            .stack
            .iter()
            .rev()
            .map(|&slot| match slot {
                // Of several copies the topmost counts.
                _ if !above.insert(slot) => TemplateSlot::Junk,
                Slot::Value(value) if live.contains(value) && !self.spills.contains_key(&value) => {
                    TemplateSlot::Value(value)
                }
                Slot::Return if returns => TemplateSlot::Return,
                _ => TemplateSlot::Junk,
            })
            .collect();
        template.reverse();
        if !is_exact_edge(self.cx, self.block, target) {
            let junk = template.iter().take_while(|&&slot| slot == TemplateSlot::Junk).count();
            template.drain(..junk);
        }
        template
    }

    /// Goes to a block with several predecessors.
    fn edge(&mut self, target: &BlockCall) -> Result<(), Failure> {
        let live = &self.cx.live.live_in[target.block];
        // The word that each value live in the target has on this edge.
        let mut sources: BTreeMap<Value, Slot> = live.iter().map(|value| (value, Slot::Value(value))).collect();
        for (at, &param) in self.function.blocks[target.block].params.iter().enumerate() {
            if live.contains(param) {
                let arg = target.args.get(at).copied();
                let source = self.operand(arg.ok_or_else(|| self.internal("a branch lacks an argument"))?);
                sources.insert(param, source);
            }
        }
        let mut pending: Vec<(u32, Slot)> = sources
            .values()
            .filter_map(|&source| match source {
                Slot::Value(value) => self.pending.get(&value).map(|&at| (at, source)),
                _ => None,
            })
            .collect();
        pending.sort_unstable();
        pending.dedup();
        self.pop_dead();
        for (_, source) in pending {
            self.define_slots(&[source])?;
        }
        // Spilled parameters get their new words: at once where nobody reads their old ones, else when all are read.
        let moved: Vec<(Value, Slot)> = sources
            .iter()
            .map(|(&value, &source)| (value, source))
            .filter(|&(value, source)| self.spills.contains_key(&value) && source != Slot::Value(value))
            .collect();
        let read: BTreeSet<Slot> =
            sources.iter().filter(|&(&v, &read)| read != Slot::Value(v)).map(|(_, &r)| r).collect();
        let mut late: Vec<(Value, Slot)> = Vec::new();
        for &(value, source) in &moved {
            if read.contains(&Slot::Value(value)) {
                late.push((value, source));
            } else {
                self.arrange(&[source], false)?;
                self.store_spill(value)?;
            }
        }
        sources.retain(|value, _| !self.spills.contains_key(value));
        let template = match &self.templates[target.block] {
            Some(template) => template.clone(),
            None => {
                let template = self.choose_template(target.block, &sources);
                self.freeze(target.block, template.clone());
                template
            }
        };
        let mut goal = Vec::with_capacity(template.len());
        for slot in &template {
            goal.push(match *slot {
                TemplateSlot::Junk => Slot::Junk,
                TemplateSlot::Return => Slot::Return,
                TemplateSlot::Value(value) => {
                    *sources.get(&value).ok_or_else(|| self.internal("a template names a dead value"))?
                }
            });
        }
        goal.extend(late.iter().map(|&(_, source)| source));
        if is_exact_edge(self.cx, self.block, target.block) {
            self.arrange_exactly(&goal)?;
        } else {
            self.strict = false;
            self.leaving = true;
            self.returns = false;
            self.live_out = ValueSet::default();
            self.arrange_last(&goal)?;
        }
        for &(value, _) in late.iter().rev() {
            self.store_spill(value)?;
        }
        Ok(())
    }

    fn store_spill(&mut self, value: Value) -> Result<(), Failure> {
        let address = self.spills.get(&value).copied().ok_or_else(|| self.internal("a value is not spilled"))?;
        self.store(address);
        Ok(())
    }

    /// Freezes the template of a block at the first edge to it: words that are there stay where they are, holes are filled
    /// from the top, and what is missing comes on top.
    fn choose_template(&self, target: Block, sources: &BTreeMap<Value, Slot>) -> Vec<TemplateSlot> {
        let returns = self.cx.facts.needs[self.cx.func].returns[target];
        let mut left: BTreeSet<Value> = sources.keys().copied().collect();
        // The values that are a slot's word in the target, the last first.
        let mut wanting: BTreeMap<Slot, Vec<Value>> = BTreeMap::new();
        for (&value, &source) in sources.iter().rev() {
            wanting.entry(source).or_default().push(value);
        }
        let mut address = returns;
        let mut take = |slot: Slot| {
            if slot == Slot::Return {
                return core::mem::take(&mut address).then_some(TemplateSlot::Return);
            }
            // A value that lives on keeps its own slot; only then may a parameter have it.
            let wanting = wanting.get_mut(&slot)?;
            let through = wanting.iter().position(|&value| slot == Slot::Value(value));
            let value = wanting.remove(through.or_else(|| wanting.len().checked_sub(1))?);
            left.remove(&value);
            Some(TemplateSlot::Value(value))
        };
        let mut slots: Vec<Option<TemplateSlot>> = self.stack.iter().map(|&slot| take(slot)).collect();
        if !is_exact_edge(self.cx, self.block, target) {
            let holes = slots.iter().take_while(|slot| slot.is_none()).count();
            slots.drain(..holes);
        }
        let mut at = 0;
        while at < slots.len() {
            if slots.last().is_some_and(Option::is_none) {
                slots.pop();
            } else if slots[at].is_none() {
                slots.swap_remove(at);
            } else {
                at += 1;
            }
        }
        slots.into_iter().flatten().chain(left.into_iter().map(TemplateSlot::Value)).collect()
    }
}
