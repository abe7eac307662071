//! Scheduling the instructions of a block.
//!
//! Instructions with effects, the roots, keep their order. The others wait (are *pending*) until a root, an edge or
//! another block needs their result. A result with one use is computed as an operand in place; one with several is
//! computed once, before the operands of the root that first needs it. A pending read is computed before a root whose
//! effects conflict with it.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;
use zvm_ir::{Block, Effects, Func, Function, Imm, Inst, Opcode, Pc, Value};

use super::shuffle::Plans;
use super::{
    Cx, Failure, FunctionCode, Mode, Order, Slot, TemplateSlot, call_returns, is_cold, is_strict, piece_cost, table,
    weights,
};
use crate::liveness::{self, Remade, ValueSet, remade};
use crate::machine::{End, Label, MachineInst, MachineOp, Piece, Table};
use crate::selection::{Selection, select};
use crate::{Optimize, opcodes};

/// How deep expressions are nested in [`Order::Nested`]: computing one recurses as deep.
const DEPTH: u32 = 64;

/// A change of what is pending and remaining.
#[derive(Clone, Copy, Debug)]
enum Change {
    /// A value that was pending, with its place.
    Computed(Value, u32),
    /// How often a value was to be read before it was.
    Read(Value, u32),
}

/// The state of scheduling one function, and within it one block.
pub(super) struct Scheduler<'a> {
    pub cx: &'a Cx<'a>,
    pub function: &'a Function,
    pub mode: Mode,
    pub spills: &'a BTreeMap<Value, u64>,
    next_label: &'a mut u32,
    pub plans: &'a mut Plans,
    pub templates: SecondaryMap<Block, Option<Vec<TemplateSlot>>>,
    /// The blocks whose templates the current block has frozen.
    frozen: Vec<Block>,

    pub block: Block,
    /// When the values of the block are computed.
    pub order: Order,
    /// In [`Order::Nested`], the values that wait for the instruction that they stand next to.
    nested: BTreeSet<Value>,
    /// Whether the block can return to the function's caller.
    pub returns: bool,
    /// Whether junk must be cleared away some time.
    pub strict: bool,
    /// Whether the frame is given up, so that nothing below the goal matters.
    pub leaving: bool,
    pub live_out: ValueSet,
    /// From the bottom of the frame to the top.
    pub stack: Vec<Slot>,
    pub code: Vec<MachineInst>,
    /// How often each value is still to be read in this block.
    pub remaining: BTreeMap<Value, u32>,
    /// The values not computed yet, with their place in the block.
    pub pending: BTreeMap<Value, u32>,
    /// What was done to these two in this block, to be undone.
    journal: Vec<Change>,
    /// How deep the expression of a pending value is.
    depth: BTreeMap<Value, u32>,
    /// Slots below this index are operands in place: they are not moved.
    pub floor: usize,
    /// The operands in place.
    pub reserved: Vec<Slot>,
    pub pc: Option<Pc>,
    /// The jump tables made so far.
    pub tables: BTreeMap<Table, Vec<Label>>,
    /// The blocks whose comparisons a jump table does.
    pub skipped: SecondaryMap<Block, bool>,
}

/// Schedules a function. Spilled values live at the given addresses from their definition on.
pub(super) fn run(
    cx: &Cx<'_>,
    mode: Mode,
    spills: &BTreeMap<Value, u64>,
    next_label: &mut u32,
    plans: &mut Plans,
) -> Result<FunctionCode, Failure> {
    let function = &cx.module.funcs[cx.func];
    let mut code = FunctionCode { func: Some(cx.func), ..FunctionCode::default() };
    let Some(entry) = function.entry() else { return Ok(code) };
    let mut scheduler = Scheduler {
        cx,
        function,
        mode,
        spills,
        next_label,
        plans,
        templates: SecondaryMap::new(),
        frozen: Vec::new(),
        block: entry,
        order: Order::Early,
        nested: BTreeSet::new(),
        returns: false,
        strict: false,
        leaving: false,
        live_out: ValueSet::default(),
        stack: Vec::new(),
        code: Vec::new(),
        remaining: BTreeMap::new(),
        pending: BTreeMap::new(),
        journal: Vec::new(),
        depth: BTreeMap::new(),
        floor: 0,
        reserved: Vec::new(),
        pc: None,
        tables: BTreeMap::new(),
        skipped: SecondaryMap::new(),
    };
    scheduler.templates[entry] = Some(entry_template(cx));
    let weights = weights(cx);
    for &block in cx.cfg.reverse_postorder() {
        if scheduler.skipped[block] {
            continue;
        }
        let piece = scheduler.cheapest(block, &weights)?;
        code.pieces.push(piece);
        code.weights.push(weights[block]);
        code.templates.push((block, scheduler.templates[block].clone().unwrap_or_default()));
    }
    code.tables = scheduler.tables;
    Ok(code)
}

/// What a caller leaves on the stack: the return address, if the function returns, and the parameters it needs.
pub(super) fn entry_template(cx: &Cx<'_>) -> Vec<TemplateSlot> {
    let function = &cx.module.funcs[cx.func];
    let needs = &cx.facts.needs[cx.func];
    let params = function.entry().map_or(&[][..], |entry| &function.blocks[entry].params);
    let address = cx.facts.returns[cx.func].then_some(TemplateSlot::Return);
    let params = liveness::needed_params(function, needs).into_iter().map(|at| TemplateSlot::Value(params[at]));
    address.into_iter().chain(params).collect()
}

impl Scheduler<'_> {
    pub(super) fn internal(&self, what: &'static str) -> Failure {
        Failure::Internal { what, pc: self.pc }
    }

    pub(super) fn canonical(&self, value: Value) -> Value {
        liveness::canonical(self.function, value)
    }

    /// The slot that an operand is read from.
    pub(super) fn operand(&self, value: Value) -> Slot {
        let value = self.canonical(value);
        remade(self.function, value).map_or(Slot::Value(value), Slot::Made)
    }

    /// Schedules a block in each way that the mode has, and keeps the cheapest.
    fn cheapest(&mut self, block: Block, weights: &SecondaryMap<Block, u32>) -> Result<Piece, Failure> {
        let weight = weights[block];
        let orders = self.mode.orders;
        let label = *self.next_label;
        let mut best: Option<(u64, Order)> = None;
        let mut last = Err(self.internal("a mode without a way to schedule"));
        for &order in orders {
            self.undo(block, label);
            self.order = order;
            last = self.block(block);
            if let Ok(piece) = &last {
                let cost = piece_cost(self.cx.options, piece, weight, |_| false) + self.edges_cost(block, weights);
                if best.is_none_or(|(known, _)| cost < known) {
                    best = Some((cost, order));
                }
            }
        }
        match best {
            Some((_, order)) if order != self.order => {
                self.undo(block, label);
                self.order = order;
                self.block(block)
            }
            _ => last,
        }
        .inspect(|_| self.frozen.clear())
    }

    /// What the blocks cost that do nothing but go on from this branch to a block whose template is frozen: that depends on how
    /// the branch leaves the stack. A branch that arranges it for the next round of a loop has none.
    fn edges_cost(&mut self, block: Block, weights: &SecondaryMap<Block, u32>) -> u64 {
        let function = self.function;
        let Some(inst) = function.terminator(block).filter(|&inst| function.insts[inst].opcode == Opcode::Brif) else {
            return 0;
        };
        let mut cost = 0;
        for edge in &function.insts[inst].targets {
            let frozen = |to: Block| self.templates[to].is_some() && !self.frozen.contains(&to);
            if self.skipped[edge.block] || !self.only_jump(edge.block).is_some_and(|back| frozen(back.block)) {
                continue;
            }
            if let Ok(piece) = self.block(edge.block) {
                cost += piece_cost(self.cx.options, &piece, weights[edge.block], |_| true);
            }
        }
        cost
    }

    /// Forgets what scheduling a block has decided for others.
    fn undo(&mut self, block: Block, label: u32) {
        *self.next_label = label;
        for target in self.frozen.drain(..) {
            self.templates[target] = None;
        }
        if let Some(chain) = table::chain(self.cx, block) {
            for &inner in &chain.inner {
                self.skipped[inner] = false;
            }
        }
    }

    /// Freezes the template of a block.
    pub(super) fn freeze(&mut self, block: Block, template: Vec<TemplateSlot>) {
        self.templates[block] = Some(template);
        self.frozen.push(block);
    }

    fn block(&mut self, block: Block) -> Result<Piece, Failure> {
        let template = self.templates[block].clone();
        let template = template.ok_or_else(|| self.internal("a block is scheduled before every edge to it"))?;
        self.block = block;
        self.returns = self.cx.facts.needs[self.cx.func].returns[block];
        self.strict = is_strict(self.cx, block);
        self.leaving = false;
        self.live_out = self.cx.live.live_out[block].clone();
        self.stack = template
            .iter()
            .map(|&slot| match slot {
                TemplateSlot::Junk => Slot::Junk,
                TemplateSlot::Return => Slot::Return,
                TemplateSlot::Value(value) => Slot::Value(value),
            })
            .collect();
        self.code = Vec::new();
        self.remaining.clear();
        self.pending.clear();
        self.journal.clear();
        self.depth.clear();
        self.floor = 0;
        self.reserved.clear();
        let chain = table::chain(self.cx, block);
        let insts: Vec<Inst> = self.function.blocks[block]
            .insts
            .iter()
            .copied()
            .filter(|&inst| self.cx.facts.needs[self.cx.func].insts[inst])
            .filter(|&inst| chain.as_ref().is_none_or(|chain| chain.comparison != inst))
            .collect();
        for &inst in &insts {
            for value in liveness::stack_uses(self.cx.module, self.cx.facts, self.cx.func, inst) {
                *self.remaining.entry(value).or_default() += 1;
            }
        }
        if let Some(chain) = &chain {
            *self.remaining.entry(chain.hash).or_default() += 1;
        }
        let bound = self.traffic_bound(&insts);
        self.nested = if self.order == Order::Nested { self.neighbours(&insts) } else { BTreeSet::new() };
        self.pc = insts.first().and_then(|&inst| self.function.insts[inst].pc);
        self.store_spilled_params(&template)?;
        let mut end = End::Closed;
        let mut end_pc = None;
        for (at, &inst) in insts.iter().enumerate() {
            let data = &self.function.insts[inst];
            self.pc = data.pc;
            if data.opcode.is_terminator() {
                end_pc = data.pc;
                end = match chain {
                    Some(chain) => self.table(chain)?,
                    None => self.terminator(inst)?,
                };
                break;
            }
            if self.is_tail_call(inst, insts.get(at + 1).copied()) {
                self.tail_call(inst)?;
                break;
            }
            self.instruction(inst, at as u32)?;
            if !call_returns(self.cx, data.imm) {
                break;
            }
        }
        Ok(Piece {
            label: self.label(block)?,
            code: core::mem::take(&mut self.code),
            end,
            end_pc,
            cold: is_cold(self.function, block),
            bound,
        })
    }

    /// The least gas of DUP, SWAP, POP and PUSH that a schedule of the block needs. A word is there once, from the block's
    /// entry or its definition; every further time that an instruction or a later block takes it, it must have been copied
    /// or made. Words that are made where they are used are made or copied each time.
    fn traffic_bound(&self, insts: &[Inst]) -> u32 {
        let mut taken: BTreeMap<Value, u32> = self.remaining.clone();
        let mut bound = 0;
        let made = |value: Value| match remade(self.function, self.canonical(value)) {
            Some(Remade::Constant(word)) if !word.is_zero() => 3,
            Some(Remade::Constant(_) | Remade::Input(_)) => 2,
            Some(Remade::Immutable(_)) => 3,
            None => 0,
        };
        for (at, &inst) in insts.iter().enumerate() {
            let data = &self.function.insts[inst];
            let kind = select(data.opcode, data.args.len());
            match kind {
                Selection::Evm(_) | Selection::Brif | Selection::Ret => {
                    bound += data.args.iter().map(|&arg| made(arg)).sum::<u32>();
                }
                // The place of the segment is pushed.
                Selection::Datacopy => bound += 3 + made(data.args[0]) + made(data.args[2]),
                Selection::Call => {
                    if let Imm::Func(callee) = data.imm {
                        let target = &self.cx.module.funcs[callee];
                        let needed = liveness::needed_params(target, &self.cx.facts.needs[callee]);
                        bound += needed.iter().filter_map(|&at| data.args.get(at)).map(|&arg| made(arg)).sum::<u32>();
                        // The function's address and that to come back to.
                        let comes_back = self.cx.facts.returns[callee];
                        let back = comes_back && !self.is_tail_call(inst, insts.get(at + 1).copied());
                        bound += 3 + 3 * u32::from(back);
                    }
                }
                Selection::Jump | Selection::Remade | Selection::Alias | Selection::Expanded => {}
            }
            if kind == Selection::Jump
                && let Some(target) = data.targets.first()
            {
                let params = &self.function.blocks[target.block].params;
                for (&param, &arg) in params.iter().zip(&target.args) {
                    if self.cx.live.live_in[target.block].contains(param) {
                        bound += made(arg);
                    }
                }
            }
        }
        for value in self.live_out.iter() {
            *taken.entry(value).or_default() += 1;
        }
        // Spilled words come from memory instead.
        let copies = taken.iter().filter(|(value, _)| !self.spills.contains_key(value));
        bound + copies.map(|(_, &times)| 3 * times.saturating_sub(1)).sum::<u32>()
    }

    /// The values that are computed right before the one instruction that uses them, nothing but its other operands in
    /// between, in expressions nested at most [`DEPTH`] deep. Calls, edges and returns do not count: they want many words at
    /// once.
    fn neighbours(&self, insts: &[Inst]) -> BTreeSet<Value> {
        let mut nested = BTreeSet::new();
        // Values that nobody has used yet, with how deep the expression of each is.
        let mut open: Vec<(Value, u32)> = Vec::new();
        for &inst in insts {
            let data = &self.function.insts[inst];
            let kind = select(data.opcode, data.args.len());
            if matches!(kind, Selection::Remade | Selection::Alias) {
                continue;
            }
            let args: Vec<Value> = data.args.iter().map(|&arg| self.canonical(arg)).collect();
            let takes = matches!(kind, Selection::Evm(_) | Selection::Datacopy | Selection::Brif);
            let mut depth = 0;
            while let Some(&(last, below)) = open.last()
                && takes
                && below < DEPTH
                && args.contains(&last)
                && !self.is_shared(last, count(&args, last))
            {
                open.pop();
                nested.insert(last);
                depth = depth.max(below + 1);
            }
            match data.result() {
                Some(result) => open.push((result, depth)),
                None => open.clear(),
            }
        }
        nested
    }

    pub(super) fn label(&self, block: Block) -> Result<Label, Failure> {
        self.cx.labels.get(&(self.cx.func, block)).copied().ok_or_else(|| self.internal("a block has no label"))
    }

    /// Spilled parameters of the function arrive on the stack.
    fn store_spilled_params(&mut self, template: &[TemplateSlot]) -> Result<(), Failure> {
        for &slot in template.iter().rev() {
            if let TemplateSlot::Value(value) = slot
                && let Some(&address) = self.spills.get(&value)
            {
                self.move_to_top(value)?;
                self.store(address);
            }
        }
        Ok(())
    }

    /// Brings the only copy of a spilled value, which is not stored yet, to the top.
    fn move_to_top(&mut self, value: Value) -> Result<(), Failure> {
        let len = self.stack.len();
        let at = self.stack.iter().rposition(|&slot| slot == Slot::Value(value));
        let below = at.map(|at| len - 1 - at).ok_or_else(|| self.internal("a spilled value is not there"))?;
        if below > self.cx.options.fork.reach() {
            // It cannot be reached to be spilled: what lies above it must be spilled first.
            let above = self.stack[len - below..].iter().find_map(|slot| match slot {
                Slot::Value(value) if !self.spills.contains_key(value) => Some(*value),
                _ => None,
            });
            return Err(Failure::OutOfReach { value: above, pc: self.pc });
        }
        if below > 0 {
            self.emit(MachineOp::Swap(below as u8));
            self.stack.swap(len - 1, len - 1 - below);
        }
        Ok(())
    }

    /// Stores the word on top in a spill slot.
    pub(super) fn store(&mut self, address: u64) {
        self.emit(MachineOp::Push(zvm_ir::Word::from(address)));
        self.emit(MachineOp::Plain(opcodes::MSTORE));
        self.stack.pop();
    }

    fn instruction(&mut self, inst: Inst, at: u32) -> Result<(), Failure> {
        let data = &self.function.insts[inst];
        match select(data.opcode, data.args.len()) {
            Selection::Remade | Selection::Alias => return Ok(()),
            Selection::Expanded => return Err(self.internal("the instruction should have been legalized")),
            Selection::Jump | Selection::Brif | Selection::Ret => {
                return Err(self.internal("a terminator before the end of the block"));
            }
            Selection::Evm(_) | Selection::Datacopy | Selection::Call => {}
        }
        let effects = data.opcode.effects();
        let ordered = self.cx.plan.observes_msize && effects.has(Effects::READS_MEMORY);
        let waits = effects.is_removable() && !ordered;
        if let Some(result) = data.result().filter(|_| waits) {
            let depth = 1 + data
                .args
                .iter()
                .map(|&arg| self.canonical(arg))
                .filter(|arg| self.pending.contains_key(arg))
                .map(|arg| self.depth.get(&arg).copied().unwrap_or_default())
                .max()
                .unwrap_or_default();
            self.pending.insert(result, at);
            self.depth.insert(result, depth);
            let waits = match self.order {
                Order::Late(limit) => depth <= limit,
                Order::Nested => self.nested.contains(&result),
                Order::Early => false,
            };
            if !waits {
                self.depth.insert(result, 0);
                self.pop_dead();
                self.define(result)?;
            }
            return Ok(());
        }
        self.pop_dead();
        self.settle_conflicts(inst)?;
        self.pc = self.function.insts[inst].pc;
        self.operation(inst)?;
        for &result in self.function.insts[inst].results.iter().rev() {
            if let Some(&address) = self.spills.get(&result) {
                self.move_to_top(result)?;
                self.store(address);
            }
        }
        Ok(())
    }

    /// Computes the pending reads that must not come after `inst`.
    fn settle_conflicts(&mut self, inst: Inst) -> Result<(), Failure> {
        let data = &self.function.insts[inst];
        let effects = data.opcode.effects();
        let mut operands = Vec::new();
        let args = liveness::stack_uses(self.cx.module, self.cx.facts, self.cx.func, inst);
        for &arg in &args {
            self.single_uses(arg, count(&args, arg), &mut operands);
        }
        let mut early: Vec<(u32, Value)> = self
            .pending
            .iter()
            .filter(|&(value, _)| !operands.contains(value))
            .filter(|&(value, _)| {
                let def = self.function.def_inst(*value);
                def.is_some_and(|def| conflict(effects, self.function.insts[def].opcode.effects()))
            })
            .map(|(&value, &at)| (at, value))
            .collect();
        early.sort_unstable();
        for (_, value) in early {
            if self.pending.contains_key(&value) {
                self.define(value)?;
            }
        }
        Ok(())
    }

    /// The pending values that will be computed in place as part of `value`, an operand so many times.
    fn single_uses(&self, value: Value, times: u32, out: &mut Vec<Value>) {
        if !self.pending.contains_key(&value) || self.is_shared(value, times) || out.contains(&value) {
            return;
        }
        out.push(value);
        let args = self.args_of(value);
        for &arg in &args {
            self.single_uses(arg, count(&args, arg), out);
        }
    }

    /// Whether a pending value is needed by others than an instruction whose operand it is so many times, or must be
    /// stored. Otherwise it is computed in place as the first of those operands, and copied for the rest.
    fn is_shared(&self, value: Value, times: u32) -> bool {
        self.is_needed(value, times) || self.spills.contains_key(&value)
    }

    /// The operands of the instruction that makes a value.
    fn args_of(&self, value: Value) -> Vec<Value> {
        let def = self.function.def_inst(value);
        def.map(|def| self.function.insts[def].args.iter().map(|&arg| self.canonical(arg)).collect())
            .unwrap_or_default()
    }

    /// Computes a pending value and leaves it on the stack, or in its spill slot.
    pub(super) fn define(&mut self, value: Value) -> Result<(), Failure> {
        if self.order == Order::Nested {
            self.compute_in_parts(value)?;
        } else {
            self.compute(value)?;
        }
        if let Some(&address) = self.spills.get(&value) {
            self.store(address);
        }
        Ok(())
    }

    /// Computes a pending value on top of the stack. If something is out of reach, its largest part is computed first.
    fn compute_in_parts(&mut self, value: Value) -> Result<(), Failure> {
        let (stack, reserved) = (self.stack.clone(), self.reserved.clone());
        let (floor, pc, code, journal) = (self.floor, self.pc, self.code.len(), self.journal.len());
        let failure = match self.compute(value) {
            Err(failure @ Failure::OutOfReach { .. }) => failure,
            done => return done,
        };
        (self.stack, self.reserved, self.floor, self.pc) = (stack, reserved, floor, pc);
        self.code.truncate(code);
        for change in self.journal.drain(journal..).rev() {
            match change {
                Change::Computed(value, at) => drop(self.pending.insert(value, at)),
                Change::Read(value, count) => drop(self.remaining.insert(value, count)),
            }
        }
        let parts = self.args_of(value).into_iter().filter(|part| self.pending.contains_key(part));
        let largest = parts.max_by_key(|&part| self.height(Slot::Value(part))).ok_or(failure)?;
        self.define(largest)?;
        self.compute_in_parts(value)
    }

    /// Computes a pending value on top of the stack.
    fn compute(&mut self, value: Value) -> Result<(), Failure> {
        if let Some(at) = self.pending.remove(&value) {
            self.journal.push(Change::Computed(value, at));
        }
        let inst = self.function.def_inst(value).ok_or_else(|| self.internal("a pending value has no definition"))?;
        let before = core::mem::replace(&mut self.pc, self.function.insts[inst].pc);
        self.operation(inst)?;
        self.pc = before;
        Ok(())
    }

    /// The shared pending values in the expression of `value`, an operand so many times.
    fn shared(&self, value: Value, times: u32, out: &mut Vec<(u32, Value)>) {
        let Some(&at) = self.pending.get(&value) else { return };
        if self.is_shared(value, times) {
            if !out.contains(&(at, value)) {
                out.push((at, value));
            }
            return;
        }
        let args = self.args_of(value);
        for &arg in &args {
            self.shared(arg, count(&args, arg), out);
        }
    }

    /// Brings operands to the top, the last topmost, computing the pending ones. Tells whether the two topmost are
    /// exchanged, which `commutes` allows.
    pub(super) fn prepare(&mut self, operands: &[Slot], commutes: bool) -> Result<bool, Failure> {
        let mut shared = Vec::new();
        let mut exchanged = false;
        for &operand in operands {
            if let Slot::Value(value) = operand {
                self.shared(value, count(operands, operand), &mut shared);
            }
        }
        shared.sort_unstable();
        for (_, value) in shared {
            if self.pending.contains_key(&value) {
                self.define(value)?;
            }
        }
        let mut operands = operands.to_vec();
        if let (true, [.., below, top]) = (commutes, &mut operands[..])
            && self.height(*top) > self.height(*below)
        {
            core::mem::swap(below, top);
            exchanged = true;
        }
        let (floor, reserved) = (self.floor, self.reserved.len());
        let mut ready: Vec<Slot> = Vec::with_capacity(operands.len());
        for &operand in &operands {
            if let Slot::Value(value) = operand
                && self.pending.contains_key(&value)
            {
                if !ready.is_empty() {
                    self.arrange(&ready, false)?;
                    self.floor = self.stack.len();
                    self.reserved.extend_from_slice(&ready);
                }
                self.compute(value)?;
                self.floor = floor;
                self.reserved.truncate(reserved);
            }
            ready.push(operand);
        }
        Ok(exchanged != self.arrange(&ready, commutes)?)
    }

    /// How many words computing a pending slot in place takes at most (Sethi and Ullman); zero if it is there or made.
    fn height(&self, slot: Slot) -> u32 {
        let Slot::Value(value) = slot else { return 0 };
        if !self.pending.contains_key(&value) {
            return 0;
        }
        // Of an operand that comes twice, the second is a copy; so every value is looked at once.
        let mut args = self.args_of(value);
        args.sort_unstable();
        args.dedup();
        let mut heights: Vec<u32> = args.iter().map(|&arg| self.height(self.operand(arg))).collect();
        heights.sort_unstable_by(|a, b| b.cmp(a));
        heights.iter().zip(0..).map(|(&height, at)| height.max(1) + at).max().unwrap_or(1)
    }

    /// Emits an instruction: operands, opcode, results.
    fn operation(&mut self, inst: Inst) -> Result<(), Failure> {
        let data = &self.function.insts[inst];
        let (pc, args) = (data.pc, &data.args);
        let operands: Vec<Slot> = args.iter().rev().map(|&arg| self.operand(arg)).collect();
        let mut popped = operands.len();
        match select(data.opcode, args.len()) {
            Selection::Evm(byte) => {
                let exchanged = self.prepare(&operands, commutes(data.opcode))?;
                self.pc = pc;
                self.emit(MachineOp::Plain(match byte {
                    opcodes::LT if exchanged => opcodes::GT,
                    opcodes::SLT if exchanged => opcodes::SGT,
                    byte => byte,
                }));
            }
            Selection::Datacopy => {
                let (&[to, from, len], Imm::Data(segment)) = (&args[..], data.imm) else {
                    return Err(self.internal("a datacopy is malformed"));
                };
                let (to, from, len) = (self.operand(to), self.operand(from), self.operand(len));
                let constant = self.function.constant(args[1]).and_then(|word| u64::try_from(word).ok());
                if let Some(offset) = constant {
                    self.prepare(&[len, to], false)?;
                    self.pc = pc;
                    popped = 2;
                    self.emit(MachineOp::PushData(segment, offset));
                } else {
                    self.prepare(&[len, to, from], false)?;
                    self.pc = pc;
                    self.emit(MachineOp::PushData(segment, 0));
                    self.emit(MachineOp::Plain(opcodes::ADD));
                }
                self.emit(MachineOp::Swap(1));
                self.emit(MachineOp::Plain(opcodes::CODECOPY));
            }
            Selection::Call => {
                popped = self.call(inst)?;
            }
            Selection::Remade
            | Selection::Alias
            | Selection::Jump
            | Selection::Brif
            | Selection::Ret
            | Selection::Expanded => return Err(self.internal("the instruction is not an operation")),
        }
        for value in liveness::stack_uses(self.cx.module, self.cx.facts, self.cx.func, inst) {
            if let Some(count) = self.remaining.get_mut(&value) {
                self.journal.push(Change::Read(value, *count));
                *count = count.saturating_sub(1);
            }
        }
        self.stack.truncate(self.stack.len().saturating_sub(popped));
        self.stack.extend(data.results.iter().map(|&result| Slot::Value(result)));
        Ok(())
    }

    /// Emits a call of a function of the module; gives how many operands it takes from the stack.
    fn call(&mut self, inst: Inst) -> Result<usize, Failure> {
        let (callee, entry, args) = self.callee(inst)?;
        let returns = self.cx.facts.returns[callee];
        let back = Label(*self.next_label);
        let mut operands = Vec::new();
        if returns {
            *self.next_label += 1;
            operands.push(Slot::Label(back));
        }
        operands.extend(args);
        self.prepare(&operands, false)?;
        self.pc = self.function.insts[inst].pc;
        self.emit(MachineOp::PushLabel(entry));
        self.emit(MachineOp::Plain(opcodes::JUMP));
        if returns {
            self.emit(MachineOp::Mark(back));
        }
        Ok(operands.len())
    }

    /// The function that an instruction calls, its label, and the arguments that it needs.
    fn callee(&self, inst: Inst) -> Result<(Func, Label, Vec<Slot>), Failure> {
        let data = &self.function.insts[inst];
        let Imm::Func(callee) = data.imm else { return Err(self.internal("a call is malformed")) };
        let target = &self.cx.module.funcs[callee];
        let entry = target.entry().and_then(|entry| self.cx.labels.get(&(callee, entry))).copied();
        let entry = entry.ok_or_else(|| self.internal("a callee has no code"))?;
        let mut args = Vec::new();
        for at in liveness::needed_params(target, &self.cx.facts.needs[callee]) {
            let arg = data.args.get(at).copied().ok_or_else(|| self.internal("a call lacks an argument"))?;
            args.push(self.operand(arg));
        }
        Ok((callee, entry, args))
    }

    /// Whether `inst` is a call whose results are what the function returns, in order, and nothing comes between: then the
    /// callee may return to the caller of this function. Not so in a recursion: one without end must reach the end of the stack.
    fn is_tail_call(&self, inst: Inst, next: Option<Inst>) -> bool {
        let (data, last) = (&self.function.insts[inst], next.map(|next| &self.function.insts[next]));
        let Some(last) = last.filter(|last| last.opcode == Opcode::Ret) else { return false };
        let Imm::Func(callee) = data.imm else { return false };
        let returned = last.args.iter().map(|&arg| self.canonical(arg));
        let recursive = &self.cx.facts.recursive;
        data.opcode == Opcode::Call
            && !(recursive[self.cx.func] && recursive[callee])
            && self.cx.options.optimize != Optimize::None
            && call_returns(self.cx, data.imm)
            && returned.eq(data.results.iter().copied())
    }

    /// Jumps to a function that returns to the caller of this one: the frame is given up for its arguments, above the address
    /// that this function was given.
    fn tail_call(&mut self, inst: Inst) -> Result<(), Failure> {
        let (_, entry, args) = self.callee(inst)?;
        self.define_slots(&args)?;
        let goal: Vec<Slot> = core::iter::once(Slot::Return).chain(args).collect();
        self.pc = self.function.insts[inst].pc;
        self.arrange_exactly(&goal)?;
        self.emit(MachineOp::PushLabel(entry));
        self.emit(MachineOp::Plain(opcodes::JUMP));
        Ok(())
    }
}

/// Whether the first two operands may come in either order, if only by another opcode.
fn commutes(opcode: Opcode) -> bool {
    opcode.is_commutative() || matches!(opcode, Opcode::Ult | Opcode::Slt | Opcode::Addmod | Opcode::Mulmod)
}

/// How often an item is in a list.
fn count<T: PartialEq + Copy>(items: &[T], item: T) -> u32 {
    items.iter().filter(|&&other| other == item).count() as u32
}

/// Whether a read with effects `read` must not be moved after an instruction with effects `write`.
fn conflict(write: Effects, read: Effects) -> bool {
    const PAIRS: [(Effects, Effects); 5] = [
        (Effects::WRITES_MEMORY, Effects::READS_MEMORY),
        (Effects::WRITES_STORAGE, Effects::READS_STORAGE),
        (Effects::WRITES_TRANSIENT, Effects::READS_TRANSIENT),
        (Effects::WRITES_RETURN_DATA, Effects::READS_RETURN_DATA),
        (Effects::WRITES_ACCOUNTS, Effects::READS_ACCOUNTS),
    ];
    PAIRS.iter().any(|&(w, r)| read.has(r) && (write.has(w) || write.has(Effects::CALLS)))
}
