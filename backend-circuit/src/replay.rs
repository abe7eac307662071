//! The prover's input to the slots of a proof: what they cannot compute from the state before them.
//!
//! An execution is recorded once ([`crate::trace::record`]). [`Prepared`] is that record for one field, with keys for slots and the walk
//! through the state tree; [`Prepared::cut`] adds what depends on the plan: the challenges, which come from the hash of all advice,
//! and the place in the record at which each step begins. A [`Feed`] reads on from such a place as slots ask; only slots that run ask.

use std::collections::BTreeMap;
use std::sync::Arc;

use ff::PrimeField;
use zvm_ir::{Halt, Outcome, Word as U256};

use crate::digest::{BLOCK_WORDS, Hasher};
use crate::error::CircuitError;
use crate::execute::{Call, Execution, Trace};
use crate::field::{from_u256, to_u256, two_pow};
use crate::place::origin;
use crate::plan::Plan;
use crate::program::{AdviceAt, Program};
use crate::region::Region;
use crate::schedule::Schedule;
use crate::state::store::{Memory, Store};
use crate::state::tree::{Parts, Tree};
use crate::state::walk::{Op, Walk, walk};
use crate::statement::{Derived, Roots, Statement};
use crate::system::System;
use crate::trace::access::Consumed;
use crate::trace::record::{Item, Leaf, Record, Undo, blocks_to_open};
use crate::trace::slots::{SWEPT, SWEPT_ELEMENTS};
use crate::trace::{Challenges, Chosen, INDEX_BITS, age};

/// How far an execution has been replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Regions that have run.
    pub run: u64,
    /// Calls that have begun.
    pub call: usize,
    /// Items of the record that were consumed.
    pub item: usize,
    /// Cells of memory that were closed.
    pub cell: usize,
    /// Operations of the walk through the state tree.
    pub op: usize,
    /// Blocks of the calldata of the last call that has begun which were opened, after the first.
    pub block: usize,
}

/// An execution, ready to be proved over `F`.
#[derive(Clone, Debug)]
pub struct Prepared<F: PrimeField> {
    /// What was executed.
    pub execution: Arc<Execution>,
    /// The regions that run, those of the system included.
    pub trace: Trace,
    /// The walk through the state tree; `None` if the program touches no storage.
    pub walk: Option<Walk<F>>,
    /// The state tree's roots.
    pub roots: Roots<F>,
    /// The hash of all advice.
    pub advice: F,
    /// What follows from the statement and the advice.
    pub derived: Derived<F>,
    /// Where each step begins.
    pub steps: Vec<Cursor>,
    /// The key of the account's slot 0.
    origin: F,
    /// What the slots touched hold at the end, by their keys as integers.
    last: BTreeMap<U256, Consumed>,
    /// For each call, the blocks of its calldata that are opened.
    blocks: Vec<Vec<([U256; BLOCK_WORDS], F)>>,
}

/// A block of the calldata, as the prover opens it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenedBlock<F> {
    /// Its words.
    pub words: [U256; BLOCK_WORDS],
    /// The digest of the blocks after it.
    pub rest: F,
    /// How often its words are read at computed places.
    pub times: [u64; BLOCK_WORDS],
}

/// How an execution is cut into steps.
#[derive(Clone, Copy, Debug)]
pub enum Cut<'a> {
    /// Every step has the slots of a plan.
    Plan(&'a Plan),
    /// The steps of a schedule.
    Schedule(&'a Schedule),
    /// Every step has the next regions of the execution, this many at most.
    Runs(usize),
}

/// The slots of storage that an execution touches, by their keys as integers.
fn keyed<F: PrimeField>(record: &Record) -> BTreeMap<U256, (F, Leaf)> {
    let origin = origin::<F>(&record.account);
    let keyed = |leaf: &Leaf| {
        let key: F = record.preimages.key(&leaf.slot, origin);
        (to_u256(&key), (key, *leaf))
    };
    record.leaves.iter().map(keyed).collect()
}

impl<F: PrimeField> Prepared<F> {
    /// An execution from the state that `tree` holds, which holds the state afterwards then.
    ///
    /// # Errors
    /// `StateTree` if the tree cannot be read or written, `StateValue` if it holds another value than the execution found.
    pub fn new<S: Store<F>>(
        program: &Program,
        execution: &Arc<Execution>,
        tree: &mut Tree<F, S>,
    ) -> Result<Self, CircuitError> {
        let record = &execution.record;
        let leaves = keyed::<F>(record);
        let mut trace = execution.trace.clone();
        let mut roots = Roots::none();
        let mut walked = None;
        let hasher = Hasher::<F>::shared();
        let blocks = execution.calls.iter().zip(&record.reads);
        let blocks =
            blocks.map(|(call, reads)| hasher.calldata_blocks(&call.calldata, blocks_to_open(reads))).collect();
        if let Some(sweep) = program.system_region(System::Sweep) {
            // One runs even if there is nothing to close.
            (0..record.memory.len().div_ceil(SWEPT).max(1)).for_each(|_| trace.push(sweep));
        }
        if program.features().storage {
            roots.pre = tree.root()?;
            for (key, leaf) in leaves.values() {
                if tree.value(key)? != leaf.first {
                    return Err(CircuitError::StateValue(leaf.slot));
                }
            }
            let touched: Vec<(F, U256)> = leaves.values().map(|(key, leaf)| (*key, leaf.last.value)).collect();
            let walk = walk(tree, &touched)?;
            roots.post = tree.root()?;
            let ops = walk.ops.iter().map(system_of);
            let all = [System::Enter].into_iter().chain(ops).chain([System::Leave]);
            all.filter_map(|system| program.system_region(system)).for_each(|region| trace.push(region));
            walked = Some(walk);
        }
        Ok(Self {
            execution: Arc::clone(execution),
            trace,
            walk: walked,
            roots,
            advice: F::ZERO,
            derived: Derived { origin: F::ZERO, challenges: Challenges::none() },
            steps: Vec::new(),
            origin: origin(&record.account),
            blocks,
            last: leaves.into_iter().map(|(key, (_, leaf))| (key, leaf.last)).collect(),
        })
    }

    /// An execution from the storage `slots` of its account, every slot of which must be a place whose key is known: a number below
    /// 2^64, a hash that the execution computed, or a constant of the program.
    ///
    /// # Errors
    /// As [`Prepared::new`]; `UnknownSlot` with the first slot without a key.
    pub fn from_slots(
        program: &Program,
        execution: &Arc<Execution>,
        slots: impl IntoIterator<Item = (U256, U256)>,
    ) -> Result<Self, CircuitError> {
        let record = &execution.record;
        let origin = origin::<F>(&record.account);
        let mut entries = BTreeMap::new();
        for (slot, value) in slots.into_iter().filter(|(_, value)| !value.is_zero()) {
            if !record.preimages.has_key(&slot) && !crate::legalize::stands_alone(&slot) {
                return Err(CircuitError::UnknownSlot(slot));
            }
            entries.insert(to_u256(&record.preimages.key(&slot, origin)), value);
        }
        Self::new(program, execution, &mut Tree::build(Memory::default(), &entries)?)
    }

    /// An execution from a state of which nothing is known but what the execution touches: for checks without a proof.
    ///
    /// # Errors
    /// As [`Prepared::new`].
    pub fn alone(program: &Program, execution: &Arc<Execution>) -> Result<Self, CircuitError> {
        let keyed = keyed::<F>(&execution.record);
        let entries = keyed.iter().map(|(&key, (_, leaf))| (key, leaf.first)).filter(|(_, value)| !value.is_zero());
        let mut tree = Tree::build(Memory::default(), &entries.collect())?;
        Self::new(program, execution, &mut tree)
    }

    /// Calls as if each had failed before it did anything: what a prover could feed to slots whose execution is not provable.
    ///
    /// # Errors
    /// `Batch` if there is no call.
    pub fn unexecuted(program: &Program, calls: &[Call]) -> Result<Self, CircuitError> {
        let account = calls.first().ok_or(CircuitError::Batch("there is no call"))?.env.address;
        let execution = Execution {
            calls: calls.to_vec(),
            outcomes: vec![Outcome::halted(Halt::Trap, Vec::new()); calls.len()],
            trace: Trace::default(),
            record: Record { account, ..Record::default() },
        };
        let mut prepared = Self::alone(program, &Arc::new(execution))?;
        prepared.steps.push(Cursor::default());
        Ok(prepared)
    }

    /// Cuts the execution into steps. `binding` is what the challenges depend on besides what was executed: the circuit's digest.
    ///
    /// # Errors
    /// `PlanLacks` when the plan has no slot of a region that runs, `TooManySteps` past `max_steps`.
    pub fn cut(
        mut self,
        program: &Program,
        cut: Cut<'_>,
        binding: &U256,
        max_steps: u64,
    ) -> Result<Self, CircuitError> {
        self.advice = F::ZERO;
        self.steps.clear();
        self.walk_steps(program, cut, max_steps)?;
        self.derived = self.statement(program)?.derived(binding, self.advice);
        Ok(self)
    }

    /// Walks through the steps: where each begins, and what all of them hash.
    fn walk_steps(&mut self, program: &Program, cut: Cut<'_>, max_steps: u64) -> Result<(), CircuitError> {
        let hasher = Hasher::shared();
        let trace = core::mem::take(&mut self.trace);
        let mut runs = trace.iter().peekable();
        let mut cursor = Cursor::default();
        let mut scheduled = match cut {
            Cut::Schedule(schedule) => Some(schedule.plans()),
            Cut::Plan(_) | Cut::Runs(_) => None,
        };
        while let Some(&first) = runs.peek() {
            if self.steps.len() as u64 == max_steps {
                return Err(CircuitError::TooManySteps(max_steps));
            }
            let start = cursor.run;
            self.steps.push(cursor);
            let mut chosen = Chosen::default();
            let mut slot = |region: Region, runs: &mut core::iter::Peekable<_>| {
                let (mut here, limbs) = program.advice.idle(region);
                if runs.next_if(|&next: &Region| next == region).is_some() {
                    let before = cursor;
                    self.advance(program, region, &mut cursor);
                    self.choose(program, region, &mut here, limbs, before, cursor);
                }
                chosen.extend(here);
            };
            match cut {
                Cut::Plan(plan) => plan.iter().for_each(|region| slot(region, &mut runs)),
                Cut::Schedule(_) => match scheduled.as_mut().and_then(Iterator::next) {
                    Some(plan) => plan.iter().for_each(|region| slot(region, &mut runs)),
                    None => return Err(CircuitError::PlanLacks(first)),
                },
                Cut::Runs(count) => {
                    for _ in 0..count {
                        let Some(&region) = runs.peek() else { break };
                        slot(region, &mut runs);
                    }
                }
            }
            self.advice = hasher.advice(self.advice, &chosen.into_hashed());
            if cursor.run == start && scheduled.is_none() {
                return Err(CircuitError::PlanLacks(first));
            }
        }
        drop(runs);
        self.trace = trace;
        Ok(())
    }

    /// Moves a cursor past a run of `region`.
    fn advance(&self, program: &Program, region: Region, cursor: &mut Cursor) {
        match program.system(region) {
            Some(system) if system.walks() => cursor.op += 1,
            Some(System::Open) => cursor.block += 1,
            Some(System::Sweep) => cursor.cell = (cursor.cell + SWEPT).min(self.execution.record.memory.len()),
            Some(System::Enter | System::Leave) => {}
            Some(_) | None => {
                if let Some(&end) = self.execution.record.ends.get(cursor.run as usize) {
                    cursor.item = end;
                }
                if program.is_entry(region) {
                    (cursor.call, cursor.block) = (cursor.call + 1, 0);
                }
            }
        }
        cursor.run += 1;
    }

    /// What the prover chooses in a run between two cursors, of a region so many of whose elements are of accesses and lookups.
    fn choose(
        &self,
        program: &Program,
        region: Region,
        chosen: &mut Chosen<F>,
        of_accesses: usize,
        from: Cursor,
        to: Cursor,
    ) {
        let limbs = |value: &U256| {
            let (low, high) = halves::<F>(value);
            [low, high]
        };
        let Chosen { elements, ages } = chosen;
        let (of_accesses, others) = elements.split_at_mut(of_accesses);
        let items = self.execution.record.items.get(from.item..to.item).unwrap_or_default();
        for item in items {
            let (at, consumed, number) = match item {
                Item::Access(at, consumed, number) => (*at, consumed, *number),
                Item::Undo(undo, number) => {
                    let [low, high] = limbs(&undo.before);
                    put(others, &[low, high, self.key(&undo.slot)]);
                    (AdviceAt::ONLY, &undo.now, *number)
                }
                Item::Lookup(element, word) => {
                    put(of_accesses.get_mut(*element..).unwrap_or_default(), &limbs(word));
                    continue;
                }
            };
            put(of_accesses.get_mut(at.element..at.element + at.limbs).unwrap_or_default(), &limbs(&consumed.value));
            put(ages.get_mut(at.age..).unwrap_or_default(), &[age(number, consumed.time)]);
        }
        let opened = match program.system(region) {
            Some(System::Open) => Some(from.block + 1),
            _ => program.is_entry(region).then_some(0),
        };
        if let Some(block) = opened {
            put(others, &self.reads(to.call, block).map(F::from));
        }
        let cells = self.execution.record.memory.get(from.cell..to.cell).unwrap_or_default();
        let before = from.cell.checked_sub(1).and_then(|last| self.execution.record.memory.get(last));
        let mut next = before.map_or(0, |(index, _)| index + 1);
        for ((index, last), elements) in cells.iter().zip(others.chunks_mut(SWEPT_ELEMENTS)) {
            let which = F::from(*index) - F::from(next) + two_pow::<F>(INDEX_BITS);
            let [low, high] = limbs(&last.value);
            put(elements, &[low, high, F::from(u64::from(last.time)), which]);
            next = index + 1;
        }
        let op = self.walk.as_ref().filter(|_| from.op < to.op).and_then(|walk| walk.ops.get(from.op));
        match op {
            Some(Op::Visit(visit)) => {
                let [low, high] = limbs(&visit.before.value);
                let [new_low, new_high] = limbs(&visit.value);
                let touched = if visit.touched { F::ONE } else { F::ZERO };
                let time = F::from(u64::from(self.last_of(&visit.before.key).time));
                put(others, &[new_low, new_high, time, touched, low, high, visit.before.key]);
            }
            Some(Op::Gap(gap)) => {
                let [low, high] = limbs(&gap.value);
                let time = F::from(u64::from(self.last_of(&gap.key).time));
                put(others, &[low, high, time, F::ONE, gap.key]);
            }
            Some(Op::Flush(_) | Op::Close) | None => {}
        }
    }

    /// How often the words of a block of the calldata of call number `call`, from 1 on, are read at computed places.
    fn reads(&self, call: usize, block: usize) -> [u64; BLOCK_WORDS] {
        let reads = call.checked_sub(1).and_then(|call| self.execution.record.reads.get(call));
        let number = |at: usize| block * BLOCK_WORDS + at;
        core::array::from_fn(|at| reads.and_then(|reads| reads.get(number(at))).copied().unwrap_or_default())
    }

    /// What a slot of storage holds at the end; nothing if it was not touched.
    fn last_of(&self, key: &F) -> Consumed {
        self.last.get(&to_u256(key)).copied().unwrap_or_default()
    }

    /// The key of a slot.
    fn key(&self, slot: &U256) -> F {
        self.execution.record.preimages.key(slot, self.origin)
    }

    /// The statement that is proved.
    ///
    /// # Errors
    /// `Batch` if there is no call.
    pub fn statement(&self, program: &Program) -> Result<Statement<F>, CircuitError> {
        let Execution { calls, outcomes, .. } = &*self.execution;
        let statement = Statement::new(program, calls, outcomes, self.roots, self.steps.len() as u64);
        statement.ok_or(CircuitError::Batch("there is no call"))
    }

    /// The state before the first step.
    ///
    /// # Errors
    /// As [`Prepared::statement`].
    pub fn initial_state(&self, program: &Program) -> Result<Vec<F>, CircuitError> {
        Ok(self.statement(program)?.initial_state(program, &self.derived))
    }

    /// The input of step number `step`; of a step that runs nothing past the last.
    pub fn feed(&self, step: usize) -> Feed<'_, F> {
        let end = Cursor {
            run: self.trace.len(),
            call: self.execution.calls.len(),
            item: self.execution.record.items.len(),
            cell: self.execution.record.memory.len(),
            op: self.walk.as_ref().map_or(0, |walk| walk.ops.len()),
            block: usize::MAX,
        };
        Feed { prepared: self, cursor: self.steps.get(step).copied().unwrap_or(end) }
    }
}

/// Puts `from` at the start of `to`.
fn put<F: PrimeField>(to: &mut [F], from: &[F]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}

fn halves<F: PrimeField>(value: &U256) -> (F, F) {
    let low = value & ((U256::from(1) << 128) - U256::from(1));
    (from_u256(&low), from_u256(&(*value >> 128)))
}

/// The input of slots, from a cursor on. Slots that run take what they need, in order.
#[derive(Clone, Debug)]
pub struct Feed<'a, F: PrimeField> {
    prepared: &'a Prepared<F>,
    cursor: Cursor,
}

impl<F: PrimeField> Feed<'_, F> {
    /// The next call, which begins.
    pub fn call(&mut self) -> Option<&Call> {
        let call = self.prepared.execution.calls.get(self.cursor.call);
        self.cursor.call += usize::from(call.is_some());
        self.cursor.block = 0;
        call
    }

    /// Whether the call that has begun last does not return.
    pub fn is_failing(&self) -> bool {
        let running = self.cursor.call.checked_sub(1).and_then(|call| self.prepared.execution.outcomes.get(call));
        running.is_some_and(|outcome| outcome.halt != Halt::Return)
    }

    /// Whether another call follows.
    pub fn has_more_calls(&self) -> bool {
        self.cursor.call < self.prepared.execution.calls.len()
    }

    /// What the next access consumes.
    pub fn access(&mut self) -> Consumed {
        match self.item() {
            Some(Item::Access(_, consumed, _)) => consumed,
            _ => Consumed::default(),
        }
    }

    /// The next write that is taken back, with its key.
    pub fn undo(&mut self) -> Option<(F, Undo)> {
        match self.item() {
            Some(Item::Undo(undo, _)) => Some((self.prepared.key(&undo.slot), undo)),
            _ => None,
        }
    }

    /// The next word of the calldata that is read at a computed place.
    pub fn lookup(&mut self) -> U256 {
        match self.item() {
            Some(Item::Lookup(_, word)) => word,
            _ => U256::ZERO,
        }
    }

    /// How often the words of the first block of the calldata of the call that has begun last are read at computed places.
    pub fn first_reads(&self) -> [u64; BLOCK_WORDS] {
        self.prepared.reads(self.cursor.call, 0)
    }

    /// The next block of the calldata of the call that has begun last.
    pub fn block(&mut self) -> OpenedBlock<F> {
        let number = self.cursor.block;
        self.cursor.block += 1;
        let blocks = self.cursor.call.checked_sub(1).and_then(|call| self.prepared.blocks.get(call));
        let Some(&(words, rest)) = blocks.and_then(|blocks| blocks.get(number)) else { return OpenedBlock::default() };
        OpenedBlock { words, rest, times: self.prepared.reads(self.cursor.call, number + 1) }
    }

    /// Whether another block of that calldata has to be opened.
    pub fn has_more_blocks(&self) -> bool {
        let blocks = self.cursor.call.checked_sub(1).and_then(|call| self.prepared.blocks.get(call));
        blocks.is_some_and(|blocks| self.cursor.block < blocks.len())
    }

    /// The next cell of memory that is closed, and what it holds.
    pub fn cell(&mut self) -> Option<(u64, Consumed)> {
        let cell = self.prepared.execution.record.memory.get(self.cursor.cell).copied();
        self.cursor.cell += usize::from(cell.is_some());
        cell
    }

    /// Whether another cell of memory has to be closed.
    pub fn has_more_cells(&self) -> bool {
        self.cursor.cell < self.prepared.execution.record.memory.len()
    }

    fn item(&mut self) -> Option<Item> {
        let item = self.prepared.execution.record.items.get(self.cursor.item).copied();
        self.cursor.item += usize::from(item.is_some());
        item
    }

    /// The parts of the state tree's root before.
    pub fn parts(&self) -> Option<Parts<F>> {
        self.prepared.walk.as_ref().map(|walk| walk.before)
    }

    /// The next operation of the walk through the state tree, and what the slot of storage that it is about holds at the end.
    pub fn op(&mut self) -> Option<(Op<F>, Consumed)> {
        let op = self.prepared.walk.as_ref()?.ops.get(self.cursor.op)?.clone();
        self.cursor.op += 1;
        let last = match &op {
            Op::Visit(visit) => self.prepared.last_of(&visit.before.key),
            Op::Gap(gap) => self.prepared.last_of(&gap.key),
            Op::Flush(_) | Op::Close => Consumed::default(),
        };
        Some((op, last))
    }

    /// Whether the walk goes on.
    pub fn has_more_ops(&self) -> bool {
        self.prepared.walk.as_ref().is_some_and(|walk| self.cursor.op < walk.ops.len())
    }

    /// Whether a slot of `region` may run, as far as its label leaves that open.
    pub fn runs(&self, program: &Program, region: Region) -> bool {
        let Some(system) = program.system(region).filter(|system| system.walks()) else { return true };
        let op = self.prepared.walk.as_ref().and_then(|walk| walk.ops.get(self.cursor.op));
        op.is_some_and(|op| system_of(op) == system)
    }
}

/// The slot that an operation of the walk needs.
fn system_of<F: PrimeField>(op: &Op<F>) -> System {
    match op {
        Op::Visit(visit) if visit.writes() => System::Write,
        Op::Visit(_) => System::Read,
        Op::Gap(_) => System::Gap,
        Op::Flush(_) => System::Flush,
        Op::Close => System::Close,
    }
}
