//! What an execution does to the state, as the trace argument sees it: recorded while the program runs natively, to be
//! replayed by the slots that prove it.

use std::collections::BTreeMap;

use zvm_ir::{Address, Inst, Opcode, PreState, Word};

use super::MEMORY_BITS;
use super::access::Consumed;
use crate::legalize::{Reason, Unprovable};
use crate::place::{OFFSET_BITS, Position, Preimages};
use crate::program::Program;
use crate::registers::{Source, source};

/// What a slot consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// An access of the program: its number among those of its region, and what it consumes.
    Access(usize, Consumed),
    /// A write that a failing call takes back.
    Undo(Undo),
}

/// A write that a failing call takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undo {
    /// The slot, as the EVM numbers it.
    pub slot: Word,
    /// What it held before the write.
    pub before: Word,
    /// What it holds now.
    pub now: Consumed,
}

/// A slot of storage that an execution touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The slot, as the EVM numbers it.
    pub slot: Word,
    /// Its value before the execution.
    pub first: Word,
    /// Its value afterwards, and the time of the last access.
    pub last: Consumed,
}

/// What an execution does to the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What runs of regions consume, in order: item number `i` at time `i + 1`.
    pub items: Vec<Item>,
    /// For each run of a region, how many items were consumed up to its end. Empty if the program touches no state.
    pub ends: Vec<usize>,
    /// The slots touched, in the order of their numbers.
    pub leaves: Vec<Leaf>,
    /// The cells of memory touched, by their numbers, with what each holds at the end.
    pub memory: Vec<(u64, Consumed)>,
    /// The hashes of places that were computed.
    pub preimages: Preimages,
    /// The account whose storage is used.
    pub account: Address,
    /// The time after the last access.
    pub time: u64,
}

/// Makes a [`Record`] of an execution.
pub(crate) struct Recorder<'a> {
    program: &'a Program,
    pre: &'a dyn PreState,
    record: Record,
    cells: BTreeMap<Word, Leaf>,
    memory: BTreeMap<u64, Consumed>,
    /// The writes of the running call, with what was there before.
    journal: Vec<(Word, Word)>,
    /// The number of the running call, the first being 1.
    call: u64,
    /// The first instruction that names a slot or an offset by a number that is too large: the row `offset` does not hold there.
    far: Option<Unprovable>,
}

impl<'a> Recorder<'a> {
    /// A recorder of an execution that has not begun, from the state `pre`.
    pub(crate) fn new(program: &'a Program, pre: &'a dyn PreState, account: Address) -> Self {
        let preimages = program.legalized.places.known().clone();
        let record = Record { account, time: 1, preimages, ..Record::default() };
        let (cells, memory) = (BTreeMap::new(), BTreeMap::new());
        Self { program, pre, record, cells, memory, journal: Vec::new(), call: 1, far: None }
    }

    /// A run of a region begins.
    pub(crate) fn begin_run(&mut self) {
        if self.program.features.trace() {
            self.record.ends.push(self.record.items.len());
        }
    }

    /// An instruction of the program has run.
    pub(crate) fn ran(&mut self, inst: Inst, args: &[Word], result: Option<Word>) {
        let legalized = &self.program.legalized;
        if self.far.is_none() && self.is_far(inst, args) {
            let data = &legalized.func.insts[inst];
            self.far = Some(Unprovable { pc: data.pc, opcode: data.opcode, reason: Reason::Place });
        }
        match (legalized.func.insts[inst].opcode, args, result) {
            (Opcode::KeccakWords, words, Some(hash)) => {
                if let Some(position) = legalized.places.position(inst) {
                    self.record.preimages.insert(hash, words, position);
                }
            }
            (Opcode::Sload, &[slot], Some(value)) => {
                let consumed = self.access(slot, value);
                self.push(inst, consumed);
            }
            (Opcode::Sstore, &[slot, value], None) => {
                let consumed = self.access(slot, value);
                self.journal.push((slot, consumed.value));
                self.push(inst, consumed);
            }
            (Opcode::Mload, &[place], Some(value)) => {
                let consumed = self.memory_access(place, value);
                self.push(inst, consumed);
            }
            (Opcode::Mstore, &[place, value], None) => {
                let consumed = self.memory_access(place, value);
                self.push(inst, consumed);
            }
            _ => {}
        }
    }

    /// Leaves `value` in a cell of memory; gives what it consumes.
    fn memory_access(&mut self, place: Word, value: Word) -> Consumed {
        let index = (self.call << MEMORY_BITS) + place.saturating_to::<u64>();
        let time = self.tick();
        core::mem::replace(self.memory.entry(index).or_default(), Consumed { value, time })
    }

    /// The time of an access.
    fn tick(&mut self) -> u32 {
        // Times past the limit are found when the execution is over.
        let time = u32::try_from(self.record.time).unwrap_or(u32::MAX);
        self.record.time += 1;
        time
    }

    /// Whether an instruction uses as a place, or as an offset of one, a number of more than 64 bits.
    fn is_far(&self, inst: Inst, args: &[Word]) -> bool {
        let (func, places) = (&self.program.legalized.func, &self.program.legalized.places);
        let data = &func.insts[inst];
        let far = |at: usize| {
            let Some((&value, word)) = data.args.get(at).zip(args.get(at)) else { return false };
            let Source::Value(value) = source(func, value) else { return false };
            word.bit_len() as u32 > OFFSET_BITS && !places.is_carried(value)
        };
        match (data.opcode, places.position(inst)) {
            (Opcode::Sload | Opcode::Sstore, _) | (_, Some(Position::First)) => far(0),
            (_, Some(Position::Last)) => far(args.len().saturating_sub(1)),
            (Opcode::KeccakWords, None) => false,
            (_, None) => data.result().is_some_and(|result| places.is_carried(result)) && (0..args.len()).any(far),
        }
    }

    /// What cannot be proved of the execution so far.
    pub(crate) fn far(&self) -> Option<Unprovable> {
        self.far
    }

    fn push(&mut self, inst: Inst, consumed: Consumed) {
        let number = self.program.advice.access(inst).unwrap_or_default();
        self.record.items.push(Item::Access(number, consumed));
        self.end_item();
    }

    /// The running run has consumed one item more.
    fn end_item(&mut self) {
        if let Some(end) = self.record.ends.last_mut() {
            *end = self.record.items.len();
        }
    }

    /// Leaves `value` in a slot; gives what it consumes.
    fn access(&mut self, slot: Word, value: Word) -> Consumed {
        let (pre, account, time) = (self.pre, self.record.account, self.tick());
        let leaf = self.cells.entry(slot).or_insert_with(|| {
            let first = pre.storage(&account, &slot);
            Leaf { slot, first, last: Consumed { value: first, time: 0 } }
        });
        core::mem::replace(&mut leaf.last, Consumed { value, time })
    }

    /// A call is over. Gives how many writes it takes back.
    pub(crate) fn end_call(&mut self, failed: bool) -> usize {
        let journal = core::mem::take(&mut self.journal);
        self.call += 1;
        if !failed {
            return 0;
        }
        for &(slot, before) in journal.iter().rev() {
            self.begin_run();
            let now = self.access(slot, before);
            self.record.items.push(Item::Undo(Undo { slot, before, now }));
            self.end_item();
        }
        journal.len()
    }

    /// The record.
    pub(crate) fn finish(mut self) -> Record {
        self.record.leaves = self.cells.into_values().collect();
        self.record.memory = self.memory.into_iter().collect();
        self.record
    }
}
