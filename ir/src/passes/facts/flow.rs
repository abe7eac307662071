//! Propagates facts through a function: conditional constant propagation over bounds and bits, refined by branches.
//!
//! A value gets a new *name* in each block where a branch told more about it (as in e-SSA form, kept beside the
//! function instead of in it); operands refer to names. Facts grow from "never reached" until nothing changes, with
//! widening where control flow turns back, and then shrink again in a few sweeps, which recovers the bounds that loop
//! conditions give. What memory holds is followed alongside, so that addresses which pass through memory are known.
//!
//! *After* Wegman and Zadeck (conditional constants), Bodík, Gupta and Sarkar (ABCD, e-SSA), Cousot and Cousot
//! (widening and narrowing).

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::{EntityRef, SecondaryMap};

use crate::cfg::Cfg;
use crate::entities::{Block, Inst, Value};
use crate::function::{Function, ValueDef};
use crate::opcode::Opcode;
use crate::passes::Context;
use crate::passes::facts::Fact;
use crate::passes::facts::constraint::{Constraint, Other, Relation, constraints, of_bound};
use crate::passes::facts::transfer::transfer;
use crate::passes::memory::access::{Access, Source, access, tracked_write};
use crate::passes::memory::known::{Joining, Known};
use crate::passes::memory::summary::{POINTER, called};
use crate::{Imm, Word};

/// How often a block parameter may grow before it is widened.
const PATIENCE: u8 = 3;
/// How often any fact may grow before it is given up.
const GIVE_UP: u8 = 40;
/// How many visits each block may have on average. No contract of the corpus comes to this; in a nest of hundreds of loops each way back
/// would visit all loops in it again.
const VISITS: usize = 64;
/// Sweeps that shrink the facts in the end.
const SWEEPS: usize = 3;

/// A value, or a value as known in the blocks below a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(u32);

impl Name {
    /// A small number, for tables.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

#[derive(Clone, Copy, Debug)]
enum OtherName {
    Name(Name),
    Word(Word),
}

/// A name that a branch made.
#[derive(Clone, Copy, Debug)]
struct Refined {
    value: Value,
    parent: Name,
    relation: Relation,
    other: OtherName,
}

/// Facts about a function. Requires that it has no critical edges.
pub(crate) struct Flow {
    pub(crate) cfg: Cfg,
    values: usize,
    refined: Vec<Refined>,
    /// The names that each block makes.
    made: SecondaryMap<Block, (u32, u32)>,
    /// The names that each `bound` makes for what follows it.
    told: SecondaryMap<Inst, (u32, u32)>,
    /// For each instruction the names of its operands, then of the arguments of its targets.
    operands: SecondaryMap<Inst, Vec<Name>>,
    /// Comparisons and subtractions decided by an earlier comparison of the same values.
    related: SecondaryMap<Inst, Option<bool>>,
    facts: Vec<Option<Fact>>,
    growth: Vec<u8>,
    reached: SecondaryMap<Block, bool>,
    taken: SecondaryMap<Block, [bool; 2]>,
    memory_in: SecondaryMap<Block, Option<Known>>,
    memory_out: SecondaryMap<Block, Option<Known>>,
    memory_growth: SecondaryMap<Block, u8>,
    /// What calls do to memory as it is where they stand.
    calls: SecondaryMap<Inst, Option<Access>>,
    users: Vec<Vec<u32>>,
    /// How many visits of blocks are left before whatever still changes is given up at once.
    visits_left: usize,
}

impl Flow {
    /// Computes the facts. With `memory`, the contents of memory at the start of the function, memory is followed too.
    pub(crate) fn new(func: &Function, cx: &Context, memory: Option<Known>) -> Self {
        let cfg = Cfg::new(func);
        let values = func.values.len();
        let mut flow = Self {
            cfg,
            values,
            refined: Vec::new(),
            made: SecondaryMap::new(),
            told: SecondaryMap::new(),
            operands: SecondaryMap::new(),
            related: SecondaryMap::new(),
            facts: Vec::new(),
            growth: Vec::new(),
            reached: SecondaryMap::new(),
            taken: SecondaryMap::new(),
            memory_in: SecondaryMap::new(),
            memory_out: SecondaryMap::new(),
            memory_growth: SecondaryMap::new(),
            calls: SecondaryMap::new(),
            users: Vec::new(),
            visits_left: 0,
        };
        flow.visits_left = VISITS * flow.cfg.reverse_postorder().len();
        flow.name_operands(func);
        let names = values + flow.refined.len();
        flow.facts = vec![None; names];
        flow.growth = vec![0; names];
        flow.record_users(func);
        flow.grow(func, cx, memory);
        for _ in 0..SWEEPS {
            if !flow.shrink(func) {
                break;
            }
        }
        flow.record_calls(func, cx);
        flow
    }

    /// What calls do to memory, now that it is known what memory is where they stand.
    fn record_calls(&mut self, func: &Function, cx: &Context) {
        for at in 0..self.cfg.reverse_postorder().len() {
            let block = self.cfg.reverse_postorder()[at];
            let calls = func.blocks[block].insts.iter().any(|&inst| func.insts[inst].opcode == Opcode::Call);
            let (true, Some(mut memory)) = (calls, self.memory_in[block].clone()) else { continue };
            for &inst in &func.blocks[block].insts {
                let data = &func.insts[inst];
                if data.opcode == Opcode::Call {
                    self.calls[inst] = Some(called(data.imm, cx, Some(&memory)).0);
                }
                let args: Vec<Fact> = (0..data.args.len()).map(|at| self.operand(func, inst, at)).collect();
                follow(data, cx, &args, &mut memory);
            }
        }
    }

    /// What an instruction does to memory.
    pub(crate) fn access(&self, func: &Function, cx: &Context, inst: Inst) -> Access {
        match &self.calls[inst] {
            Some(access) => access.clone(),
            None => access(&func.insts[inst], cx, |at| self.operand(func, inst, at)),
        }
    }

    /// What memory holds at the end of a block.
    pub(crate) fn memory_after(&self, block: Block) -> Option<&Known> {
        self.memory_out[block].as_ref()
    }

    /// Whether the block can be reached.
    pub(crate) fn is_reached(&self, block: Block) -> bool {
        self.reached[block]
    }

    /// Whether control can pass from one block to another.
    pub(crate) fn is_taken(&self, func: &Function, from: Block, to: Block) -> bool {
        func.targets(from).iter().zip(self.taken[from]).any(|(target, taken)| taken && target.block == to)
    }

    /// What is known of a value wherever it is defined.
    pub(crate) fn fact(&self, value: Value) -> Option<Fact> {
        self.facts.get(value.index()).copied().flatten()
    }

    /// What is known under a name.
    pub(crate) fn fact_of(&self, name: Name) -> Option<Fact> {
        self.facts[name.index()]
    }

    /// What is known of an operand (or, after the operands, of a target's argument) of an instruction.
    pub(crate) fn operand(&self, func: &Function, inst: Inst, at: usize) -> Fact {
        let name = self.operands[inst].get(at).copied();
        name.and_then(|name| self.facts[name.0 as usize])
            .unwrap_or_else(|| func.insts[inst].uses().nth(at).map_or(Fact::ANY, |value| Fact::of_type(func.ty(value))))
    }

    /// The name of an operand (or, after the operands, of a target's argument).
    pub(crate) fn operand_name(&self, inst: Inst, at: usize) -> Option<Name> {
        self.operands[inst].get(at).copied()
    }

    /// The names that a block makes, in order: the name, its value, and what is known.
    pub(crate) fn names_made(&self, block: Block) -> impl Iterator<Item = (Name, Value, Option<Fact>)> + '_ {
        let (from, to) = self.made[block];
        (from..to).map(|at| {
            let name = Name((self.values + at as usize) as u32);
            (name, self.refined[at as usize].value, self.facts[name.0 as usize])
        })
    }

    /// The name that a name refines, if it is not a value itself.
    pub(crate) fn parent(&self, name: Name) -> Option<Name> {
        let at = (name.0 as usize).checked_sub(self.values)?;
        Some(self.refined[at].parent)
    }

    /// What an earlier branch on the same operands says about a comparison (its result) or about `wsub` (whether the
    /// first operand is at least the second).
    pub(crate) fn related(&self, inst: Inst) -> Option<bool> {
        self.related[inst]
    }

    /// What memory holds at the start of a block.
    pub(crate) fn memory_at(&self, block: Block) -> Option<&Known> {
        self.memory_in[block].as_ref()
    }

    // Names.

    /// Walks the dominator tree, making names where branches tell something.
    fn name_operands(&mut self, func: &Function) {
        let Some(entry) = func.entry() else { return };
        let mut current: SecondaryMap<Value, Option<Name>> = SecondaryMap::new();
        let mut order = Order::default();
        enum Step {
            Enter(Block),
            Leave(Vec<(Value, Option<Name>)>, usize),
        }
        let mut stack = vec![Step::Enter(entry)];
        while let Some(step) = stack.pop() {
            match step {
                Step::Leave(undo, mark) => {
                    for (value, name) in undo.into_iter().rev() {
                        current[value] = name;
                    }
                    order.undo_to(mark);
                }
                Step::Enter(block) => {
                    let mut undo = Vec::new();
                    let mark = order.mark();
                    let first = self.refined.len() as u32;
                    for constraint in self.told_by_branch(func, block) {
                        order.learn(func, &constraint);
                        self.refined_name(&constraint, &mut current, &mut undo);
                    }
                    self.made[block] = (first, self.refined.len() as u32);
                    for &inst in &func.blocks[block].insts {
                        let data = &func.insts[inst];
                        self.operands[inst] =
                            data.uses().map(|value| current[value].unwrap_or(Name(value.as_u32()))).collect();
                        self.related[inst] = order.decide(func, inst);
                        if data.opcode == Opcode::Bound {
                            let first = self.refined.len() as u32;
                            for constraint in of_bound(func, inst) {
                                self.refined_name(&constraint, &mut current, &mut undo);
                            }
                            self.told[inst] = (first, self.refined.len() as u32);
                        }
                    }
                    stack.push(Step::Leave(undo, mark));
                    stack.extend(self.cfg.dominated_children(block).iter().rev().map(|&child| Step::Enter(child)));
                }
            }
        }
    }

    /// Makes a name for what a constraint says more about its subject.
    fn refined_name(
        &mut self,
        constraint: &Constraint,
        current: &mut SecondaryMap<Value, Option<Name>>,
        undo: &mut Vec<(Value, Option<Name>)>,
    ) {
        let name_of = |value: Value| current[value].unwrap_or(Name(value.as_u32()));
        let other = match constraint.other {
            Other::Value(value) => OtherName::Name(name_of(value)),
            Other::Word(word) => OtherName::Word(word),
        };
        let (value, parent) = (constraint.subject, name_of(constraint.subject));
        let name = Name((self.values + self.refined.len()) as u32);
        self.refined.push(Refined { value, parent, relation: constraint.relation, other });
        undo.push((value, current[value].replace(name)));
    }

    /// What the branch into a block with one predecessor says.
    fn told_by_branch(&self, func: &Function, block: Block) -> Vec<Constraint> {
        let &[pred] = self.cfg.preds(block) else { return Vec::new() };
        let Some(inst) = func.terminator(pred) else { return Vec::new() };
        let data = &func.insts[inst];
        match (data.opcode, data.targets.as_slice()) {
            (Opcode::Brif, [then, _]) => constraints(func, data.args[0], then.block == block),
            _ => Vec::new(),
        }
    }

    fn record_users(&mut self, func: &Function) {
        self.users = vec![Vec::new(); self.facts.len()];
        for (position, &block) in self.cfg.reverse_postorder().iter().enumerate() {
            let position = position as u32;
            let mut uses = |name: Name, position: u32| {
                let users = &mut self.users[name.0 as usize];
                if users.last() != Some(&position) {
                    users.push(position);
                }
            };
            let told = func.blocks[block].insts.iter().map(|&inst| self.told[inst]);
            for (from, to) in core::iter::once(self.made[block]).chain(told) {
                for refined in &self.refined[from as usize..to as usize] {
                    uses(refined.parent, position);
                    if let OtherName::Name(name) = refined.other {
                        uses(name, position);
                    }
                }
            }
            for &inst in &func.blocks[block].insts {
                let data = &func.insts[inst];
                let (args, rest) = self.operands[inst].split_at(data.args.len());
                for &name in args {
                    uses(name, position);
                }
                let mut rest = rest.iter();
                for target in &data.targets {
                    let Some(to) = self.cfg.position(target.block) else { continue };
                    for &name in rest.by_ref().take(target.args.len()) {
                        uses(name, to as u32);
                    }
                }
            }
        }
    }

    // Growth.

    fn grow(&mut self, func: &Function, cx: &Context, memory: Option<Known>) {
        let Some(entry) = func.entry() else { return };
        let mut work = BTreeSet::from([0]);
        self.reached[entry] = true;
        self.memory_in[entry] = memory;
        while let Some(position) = work.pop_first() {
            let block = self.cfg.reverse_postorder()[position as usize];
            if self.reached[block] {
                self.visits_left = self.visits_left.saturating_sub(1);
                self.grow_block(func, cx, block, &mut work);
            }
        }
    }

    fn grow_block(&mut self, func: &Function, cx: &Context, block: Block, work: &mut BTreeSet<u32>) {
        let is_entry = func.entry() == Some(block);
        for (at, &param) in func.blocks[block].params.iter().enumerate() {
            let fact = if is_entry { Some(Fact::of_type(func.ty(param))) } else { self.incoming(func, block, at) };
            self.raise(func, Name(param.as_u32()), fact, self.turns_back(block), work);
        }
        let (from, to) = self.made[block];
        for at in from..to {
            let fact = self.refine(at as usize);
            if fact.is_none() {
                return;
            }
            self.raise(func, Name((self.values + at as usize) as u32), fact, false, work);
        }
        let mut memory = self.memory_in[block].clone();
        for &inst in &func.blocks[block].insts {
            let data = &func.insts[inst];
            if data.opcode.is_terminator() {
                break;
            }
            let Some(args) = self.operand_facts(inst, data.args.len()) else { return };
            let mut fact = None;
            if let Some(memory) = &mut memory {
                fact = follow(data, cx, &args, memory);
            }
            for &result in &data.results {
                let fact = fact.or_else(|| self.evaluate(func, inst, &args, result));
                if fact.is_none() {
                    return;
                }
                self.raise(func, Name(result.as_u32()), fact, false, work);
            }
            let (from, to) = self.told[inst];
            for at in from..to {
                let fact = self.refine(at as usize);
                if fact.is_none() {
                    return;
                }
                self.raise(func, Name((self.values + at as usize) as u32), fact, false, work);
            }
            let returns = !matches!((data.opcode, data.imm), (Opcode::Call, Imm::Func(f)) if !cx.summary(f).returns);
            if !returns {
                return;
            }
        }
        self.leave(func, block, memory, work);
    }

    /// Passes control and memory on to the targets that can be taken.
    fn leave(&mut self, func: &Function, block: Block, memory: Option<Known>, work: &mut BTreeSet<u32>) {
        let Some(inst) = func.terminator(block) else { return };
        let data = &func.insts[inst];
        let decided = match data.opcode {
            Opcode::Brif => {
                let Some(args) = self.operand_facts(inst, 1) else { return };
                args[0].as_truth()
            }
            _ => None,
        };
        let moved = match (&memory, &self.memory_out[block]) {
            (Some(memory), Some(before)) => memory != before,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if moved {
            self.memory_out[block] = memory;
        }
        for (at, target) in data.targets.iter().enumerate() {
            if decided.is_some_and(|truth| truth == (at == 1)) {
                continue;
            }
            let to = target.block;
            let first = !self.taken[block][at];
            self.taken[block][at] = true;
            let new_memory = (first || moved) && self.pass_memory(block, to);
            if (first || new_memory)
                && let Some(position) = self.cfg.position(to)
            {
                self.reached[to] = true;
                work.insert(position as u32);
            }
        }
    }

    fn pass_memory(&mut self, from: Block, to: Block) -> bool {
        let Some(out) = self.memory_out[from].clone() else { return false };
        match &mut self.memory_in[to] {
            // From then on each changes once more at most.
            Some(memory) if self.visits_left == 0 => {
                let changed = *memory != out && *memory != Known::nothing();
                if changed {
                    *memory = Known::nothing();
                }
                changed
            }
            Some(memory) => {
                let growth = &mut self.memory_growth[to];
                *growth = growth.saturating_add(1);
                let how = if *growth <= PATIENCE {
                    Joining::Exact
                } else if *growth <= GIVE_UP {
                    Joining::Widening
                } else {
                    Joining::GivingUp
                };
                memory.join(&out, how)
            }
            empty => {
                *empty = Some(out);
                true
            }
        }
    }

    /// The facts of the operands, if all have been reached.
    fn operand_facts(&self, inst: Inst, count: usize) -> Option<Vec<Fact>> {
        self.operands[inst].iter().take(count).map(|name| self.facts[name.0 as usize]).collect()
    }

    fn evaluate(&self, func: &Function, inst: Inst, args: &[Fact], result: Value) -> Option<Fact> {
        let data = &func.insts[inst];
        let ty = func.ty(result);
        match (data.opcode, self.related[inst]) {
            (Opcode::Wsub, Some(true)) => transfer(Opcode::Sub, data.imm, args, ty),
            (Opcode::Ult | Opcode::Slt | Opcode::Eq, Some(truth)) => Some(Fact::exact(Word::from(truth))),
            _ => transfer(data.opcode, data.imm, args, ty),
        }
    }

    fn refine(&self, at: usize) -> Option<Fact> {
        let refined = self.refined[at];
        let subject = self.facts[refined.parent.0 as usize]?;
        let other = match refined.other {
            OtherName::Name(name) => self.facts[name.0 as usize]?,
            OtherName::Word(word) => Fact::exact(word),
        };
        refined.relation.apply(&subject, &other)
    }

    /// What holds of all arguments that control can bring for a parameter.
    fn incoming(&self, func: &Function, block: Block, param: usize) -> Option<Fact> {
        let mut all: Option<Fact> = None;
        let mut last = None;
        for &pred in self.cfg.preds(block) {
            if last.replace(pred) == Some(pred) {
                continue;
            }
            let Some(inst) = func.terminator(pred) else { continue };
            let mut at = func.insts[inst].args.len();
            for (number, target) in func.insts[inst].targets.iter().enumerate() {
                if target.block == block && self.taken[pred][number] {
                    let name = self.operands[inst].get(at + param).copied();
                    if let Some(fact) = name.and_then(|name| self.facts[name.0 as usize]) {
                        all = Some(all.map_or(fact, |all| all.join(&fact)));
                    }
                }
                at += target.args.len();
            }
        }
        all
    }

    /// Whether some branch to the block comes from the block itself or from below.
    fn turns_back(&self, block: Block) -> bool {
        let position = self.cfg.position(block);
        self.cfg.preds(block).iter().any(|&pred| self.cfg.position(pred) >= position)
    }

    fn raise(&mut self, func: &Function, name: Name, fact: Option<Fact>, widen: bool, work: &mut BTreeSet<u32>) {
        let Some(fact) = fact else { return };
        let at = name.0 as usize;
        let next = match self.facts[at] {
            None => fact,
            Some(old) => {
                let joined = old.join(&fact);
                if joined == old {
                    return;
                }
                self.growth[at] = self.growth[at].saturating_add(1);
                if self.growth[at] > GIVE_UP || self.visits_left == 0 {
                    Fact::of_type(func.ty(self.value_of(name)))
                } else if widen && self.growth[at] > PATIENCE {
                    old.widen(&joined)
                } else {
                    joined
                }
            }
        };
        if self.facts[at] != Some(next) {
            self.facts[at] = Some(next);
            work.extend(self.users[at].iter().copied());
        }
    }

    fn value_of(&self, name: Name) -> Value {
        match (name.0 as usize).checked_sub(self.values) {
            Some(at) => self.refined[at].value,
            None => Value::from_u32(name.0),
        }
    }

    // Shrinking.

    /// Recomputes every fact from the others once; the result is still true of every execution.
    fn shrink(&mut self, func: &Function) -> bool {
        let mut changed = false;
        for position in 0..self.cfg.reverse_postorder().len() {
            let block = self.cfg.reverse_postorder()[position];
            if !self.reached[block] {
                continue;
            }
            if func.entry() != Some(block) {
                for (at, &param) in func.blocks[block].params.iter().enumerate() {
                    let fact = self.incoming(func, block, at);
                    changed |= self.lower(Name(param.as_u32()), fact);
                }
            }
            let (from, to) = self.made[block];
            for at in from..to {
                let fact = self.refine(at as usize);
                changed |= self.lower(Name((self.values + at as usize) as u32), fact);
            }
            for &inst in &func.blocks[block].insts {
                let data = &func.insts[inst];
                let Some(args) = self.operand_facts(inst, data.args.len()) else { continue };
                for &result in &data.results {
                    let fact = self.evaluate(func, inst, &args, result);
                    changed |= self.lower(Name(result.as_u32()), fact);
                }
                let (from, to) = self.told[inst];
                for at in from..to {
                    let fact = self.refine(at as usize);
                    changed |= self.lower(Name((self.values + at as usize) as u32), fact);
                }
            }
        }
        changed
    }

    fn lower(&mut self, name: Name, fact: Option<Fact>) -> bool {
        let at = name.0 as usize;
        let (Some(old), Some(fact)) = (self.facts[at], fact) else { return false };
        match old.meet(&fact) {
            Some(next) if next != old => {
                self.facts[at] = Some(next);
                true
            }
            _ => false,
        }
    }
}

/// Follows memory through an instruction; the answer is what is known of the word that a load reads.
pub(crate) fn follow(data: &crate::InstData, cx: &Context, args: &[Fact], memory: &mut Known) -> Option<Fact> {
    let fact = |at: usize| args.get(at).copied().unwrap_or(Fact::ANY);
    if data.opcode == Opcode::Call {
        let (access, pointer) = called(data.imm, cx, Some(memory));
        access.writes.into_iter().for_each(|span| memory.forget(span));
        if let Some(fact) = pointer {
            memory.note(POINTER, fact);
        }
        return None;
    }
    if data.opcode == Opcode::Mload {
        let span = *access(data, cx, fact).reads.first()?;
        return span.exact.then(|| memory.word(span)).flatten();
    }
    match tracked_write(data, cx, fact) {
        Some((span, Source::Value(_))) => match fact(1).constant() {
            Some(word) => {
                let bytes: [u8; 32] = word.to_be_bytes();
                memory.store(span, &bytes[32 - span.len() as usize..]);
            }
            None => memory.track(span, fact(1)),
        },
        Some((span, Source::Bytes(bytes))) => memory.store(span, &bytes),
        Some((span, Source::Calldata)) => memory.track(span, Fact::ANY),
        None => {
            for span in access(data, cx, fact).writes {
                memory.forget(span);
            }
        }
    }
    None
}

/// What comparisons on the way to a place say about pairs of values.
#[derive(Default)]
struct Order {
    /// For a pair `(a, b)`: whether `a < b` is known (else `a ≤ b`).
    below: BTreeMap<(Value, Value), bool>,
    undo: Vec<((Value, Value), Option<bool>)>,
}

impl Order {
    fn mark(&self) -> usize {
        self.undo.len()
    }

    fn undo_to(&mut self, mark: usize) {
        for (pair, before) in self.undo.drain(mark..).rev() {
            match before {
                Some(strict) => self.below.insert(pair, strict),
                None => self.below.remove(&pair),
            };
        }
    }

    fn add(&mut self, a: Value, b: Value, strict: bool) {
        let before = self.below.get(&(a, b)).copied();
        if before != Some(true) && before != Some(strict) {
            self.below.insert((a, b), strict);
            self.undo.push(((a, b), before));
        }
    }

    fn learn(&mut self, func: &Function, constraint: &Constraint) {
        let Other::Value(other) = constraint.other else { return };
        let (a, b) = (integer(func, constraint.subject), integer(func, other));
        match constraint.relation {
            Relation::Ult => self.add(a, b, true),
            Relation::Ule => self.add(a, b, false),
            Relation::Ugt => self.add(b, a, true),
            Relation::Uge => self.add(b, a, false),
            Relation::Eq => {
                self.add(a, b, false);
                self.add(b, a, false);
            }
            Relation::Ne
            | Relation::Slt
            | Relation::Sle
            | Relation::Sgt
            | Relation::Sge
            | Relation::Preimage(..)
            | Relation::SumUle(_) => {}
        }
    }

    fn decide(&self, func: &Function, inst: Inst) -> Option<bool> {
        let data = &func.insts[inst];
        let &[a, b] = data.args.as_slice() else { return None };
        let below = |a: Value, b: Value| self.below.get(&(integer(func, a), integer(func, b))).copied();
        match data.opcode {
            Opcode::Wsub => below(b, a).map(|_| true),
            Opcode::Ult => match (below(a, b), below(b, a)) {
                (Some(true), _) => Some(true),
                (_, Some(_)) => Some(false),
                _ => None,
            },
            Opcode::Eq => match (below(a, b), below(b, a)) {
                (Some(false), Some(false)) => Some(true),
                (Some(true), _) | (_, Some(true)) => Some(false),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The value that is the same integer in its first form.
fn integer(func: &Function, mut value: Value) -> Value {
    while let ValueDef::Result(inst, _) = func.values[value].def {
        match (func.insts[inst].opcode, func.insts[inst].args.as_slice()) {
            (Opcode::Zext | Opcode::Narrow | Opcode::Bound, &[a]) => value = a,
            _ => break,
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;
    use crate::parse;
    use crate::passes::Goal;

    /// A nest of loops, each of which counts in a word of memory of its own.
    fn nest(depth: usize) -> String {
        let mut text =
            String::from("zvm 1\nentry @main\nfunc @main() {\nblock0:\n    v0: u1 = iconst 1\n    jump block1\n");
        let mut value = 0;
        let mut next = || {
            value += 1;
            value
        };
        for at in 1..=depth {
            let (address, zero) = (next(), next());
            writeln!(text, "block{at}:\n    v{address}: u24 = iconst {}\n    v{zero}: u1 = iconst 0", 32 * at).unwrap();
            writeln!(text, "    mstore v{address}, v{zero}\n    jump block{}", depth + at).unwrap();
            // The header of the loop.
            writeln!(text, "block{}:\n    jump block{}", depth + at, if at == depth { 2 * depth + 1 } else { at + 1 })
                .unwrap();
        }
        for at in 1..=depth {
            let loop_ = depth + 1 - at;
            let (address, old, new, limit, more) = (next(), next(), next(), next(), next());
            writeln!(text, "block{}:\n    v{address}: u24 = iconst {}", 2 * depth + at, 32 * loop_).unwrap();
            writeln!(text, "    v{old}: u256 = mload v{address}\n    v{new}: u256 = wadd v{old}, v0").unwrap();
            writeln!(text, "    mstore v{address}, v{new}\n    v{limit}: u8 = iconst 200").unwrap();
            writeln!(text, "    v{more}: u1 = ult v{new}, v{limit}").unwrap();
            // Without critical edges.
            writeln!(text, "    brif v{more}, block{}, block{}", 3 * depth + 1 + at, 2 * depth + 1 + at).unwrap();
            writeln!(text, "block{}:\n    jump block{}", 3 * depth + 1 + at, depth + loop_).unwrap();
        }
        writeln!(text, "block{}:\n    stop\n}}", 3 * depth + 1).unwrap();
        text
    }

    #[test]
    fn nests_of_loops_are_given_up_in_time() {
        for (depth, given_up) in [(2, false), (300, true)] {
            let module = parse(&nest(depth)).unwrap_or_else(|error| panic!("{error}"));
            let cx = Context::new(&module, Goal::Evm, false);
            let func = &module.funcs[module.entry.unwrap()];
            let flow = Flow::new(func, &cx, Some(Known::fresh()));
            assert!(func.layout.iter().all(|&block| flow.is_reached(block)));
            assert_eq!(flow.visits_left == 0, given_up, "{depth} loops");
            // What was given up holds of every execution.
            let inner = flow.memory_at(func.layout[3 * depth]).and_then(|known| {
                known.constant(crate::passes::memory::access::Span { from: 32, to: 64, exact: true })
            });
            assert_eq!(inner, None);
        }
    }
}
