//! What an execution does to the state, as the trace argument sees it: recorded while the program runs natively, to be
//! replayed by the slots that prove it.

use std::collections::BTreeMap;

use zvm_ir::{Address, Inst, Opcode, PreState, Word};

use super::MEMORY_BITS;
use super::access::Consumed;
use crate::digest::BLOCK_WORDS;
use crate::legalize::{Legalized, Reason, Unprovable};
use crate::place::{OFFSET_BITS, Position, Preimages};
use crate::program::{AdviceAt, Program};
use crate::registers::{Source, source};

/// What a slot consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// An access of the program: where its choices stand, what it consumes, and how many came before it.
    Access(AdviceAt, Consumed, u64),
    /// A word of the calldata that is read: where its limbs stand among the elements, and the word.
    Lookup(usize, Word),
    /// A write that a failing call takes back, and how many accesses came before.
    Undo(Undo, u64),
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
    /// What runs of regions consume and read, in order.
    pub items: Vec<Item>,
    /// For each run of a region, how many items were consumed up to its end. Empty if the program touches no state.
    pub ends: Vec<usize>,
    /// The slots touched, in the order of their numbers.
    pub leaves: Vec<Leaf>,
    /// The cells of memory touched, by their numbers, with what each holds at the end.
    pub memory: Vec<(u64, Consumed)>,
    /// How often each word of each call's calldata was read at a computed place, up to the last that was.
    pub reads: Vec<Vec<u64>>,
    /// The hashes of places that were computed.
    pub preimages: Preimages,
    /// The account whose storage is used.
    pub account: Address,
    /// The time after the last access.
    pub time: u64,
}

/// How many blocks of calldata after the first are opened for these reads.
pub(crate) fn blocks_to_open(reads: &[u64]) -> usize {
    reads.len().saturating_sub(BLOCK_WORDS).div_ceil(BLOCK_WORDS)
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
    /// How often words of the running call's calldata were read.
    reads: Vec<u64>,
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
        Self { program, pre, record, cells, memory, journal: Vec::new(), reads: Vec::new(), call: 1, far: None }
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
                if let Some(layout) = legalized.places.layout(inst) {
                    self.record.preimages.insert(hash, words, layout);
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
            (Opcode::Tload | Opcode::Tstore, &[_, ref written @ ..], result) => {
                let slot = legalized.func.insts[inst].args.first();
                let place = slot.and_then(|&slot| legalized.transient_place(slot)).unwrap_or_default();
                let value = written.first().copied().or(result).unwrap_or_default();
                let consumed = self.memory_access(Word::from(place), value);
                self.push(inst, consumed);
            }
            (Opcode::FrameLoad | Opcode::FrameStore, &[number, ref written @ ..], result) => {
                let first = Legalized::frame_place(legalized.func.insts[inst].imm).unwrap_or_default();
                let place = number.saturating_mul(Word::from(32)).saturating_add(Word::from(first));
                let value = written.first().copied().or(result).unwrap_or_default();
                let consumed = self.memory_access(place, value);
                self.push(inst, consumed);
            }
            (Opcode::Calldataload, &[place], Some(word)) => self.lookup(inst, place, word),
            _ => {}
        }
    }

    /// A word of the calldata is read, if its place is computed.
    fn lookup(&mut self, inst: Inst, place: Word, word: Word) {
        let Some(at) = self.program.advice.access(inst) else { return };
        let number = (place.saturating_to::<usize>() / 32).min(1 << MEMORY_BITS);
        if self.reads.len() <= number {
            self.reads.resize(number + 1, 0);
        }
        self.reads[number] += 1;
        self.record.items.push(Item::Lookup(at.element, word));
        self.end_item();
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
        match (data.opcode, places.layout(inst).map(|layout| layout.position)) {
            (Opcode::Sload | Opcode::Sstore, _) | (_, Some(Position::First)) => far(0),
            (_, Some(Position::Last)) => far(args.len().saturating_sub(1)),
            (_, Some(Position::Nowhere)) | (Opcode::KeccakWords, None) => false,
            (_, None) => data.result().is_some_and(|result| places.is_carried(result)) && (0..args.len()).any(far),
        }
    }

    /// What cannot be proved of the execution so far.
    pub(crate) fn far(&self) -> Option<Unprovable> {
        self.far
    }

    fn push(&mut self, inst: Inst, consumed: Consumed) {
        let at = self.program.advice.access(inst).unwrap_or(AdviceAt::ONLY);
        // The access has been counted, from 1 on.
        self.record.items.push(Item::Access(at, consumed, self.record.time - 2));
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

    /// A call is over. Gives how many writes it takes back, and how many blocks of its calldata it opens.
    pub(crate) fn end_call(&mut self, failed: bool) -> (usize, usize) {
        let journal = core::mem::take(&mut self.journal);
        let reads = core::mem::take(&mut self.reads);
        let blocks = blocks_to_open(&reads);
        self.record.reads.push(reads);
        self.call += 1;
        let writes = if failed { journal.as_slice() } else { &[] };
        for &(slot, before) in writes.iter().rev() {
            self.begin_run();
            let now = self.access(slot, before);
            self.record.items.push(Item::Undo(Undo { slot, before, now }, self.record.time - 2));
            self.end_item();
        }
        (0..blocks).for_each(|_| self.begin_run());
        (writes.len(), blocks)
    }

    /// The record.
    pub(crate) fn finish(mut self) -> Record {
        self.record.leaves = self.cells.into_values().collect();
        self.record.memory = self.memory.into_iter().collect();
        self.record
    }
}
