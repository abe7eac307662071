//! Running a program natively, for its outcomes and for the order in which its regions run.
//!
//! The legalised function is an ordinary module, so the IR's interpreter runs it; nothing here knows what an instruction
//! means. What the interpreter does to the state is recorded as the trace argument sees it: see [`crate::trace::record`].

use std::collections::BTreeMap;

use zvm_ir::interp::{self, InterpError, Observer, Values};
use zvm_ir::{Address, Block, Env, Func, Halt, Inst, Opcode, Outcome, PreState, Word};

use crate::digest::BLOCK_WORDS;
use crate::error::CircuitError;
use crate::program::Program;
use crate::region::Region;
use crate::system::System;
use crate::trace::TIME_BITS;
use crate::trace::record::{Record, Recorder};

/// What a proof is about, the prover's input: the program's calldata and environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// The calldata.
    pub calldata: Vec<u8>,
    /// The environment.
    pub env: Env,
}

/// The regions that an execution runs, in order; equal neighbours are counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    runs: Vec<(Region, u64)>,
    len: u64,
}

impl Trace {
    /// Appends a region.
    pub fn push(&mut self, region: Region) {
        self.len += 1;
        match self.runs.last_mut() {
            Some((last, count)) if *last == region => *count += 1,
            _ => self.runs.push((region, 1)),
        }
    }

    /// Appends what another execution runs.
    pub fn extend(&mut self, other: &Self) {
        for &(region, count) in &other.runs {
            match self.runs.last_mut() {
                Some((last, total)) if *last == region => *total += count,
                _ => self.runs.push((region, count)),
            }
        }
        self.len += other.len;
    }

    /// The first `at` regions, and the others.
    pub fn split(&self, at: u64) -> (Self, Self) {
        let (mut head, mut tail) = (Self::default(), Self::default());
        for &(region, count) in &self.runs {
            let first = at.saturating_sub(head.len).min(count);
            for (part, count) in [(&mut head, first), (&mut tail, count - first)] {
                if count > 0 {
                    part.runs.push((region, count));
                    part.len += count;
                }
            }
        }
        (head, tail)
    }

    /// Runs of equal regions.
    pub fn runs(&self) -> &[(Region, u64)] {
        &self.runs
    }

    /// How many regions run.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether no region runs.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every region in order.
    pub fn iter(&self) -> impl Iterator<Item = Region> + '_ {
        self.runs.iter().flat_map(|&(region, count)| (0..count).map(move |_| region))
    }
}

/// What an execution did and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// The calls, in the order in which they ran.
    pub calls: Vec<Call>,
    /// What is observable of each of them.
    pub outcomes: Vec<Outcome>,
    /// The regions it runs, up to the end of the last call.
    pub trace: Trace,
    /// What it did to the state.
    pub record: Record,
}

impl Execution {
    /// The outcome of the last call.
    pub fn outcome(&self) -> &Outcome {
        &self.outcomes[self.outcomes.len() - 1]
    }
}

struct Watch<'a, 'b> {
    program: &'a Program,
    trace: &'b mut Trace,
    recorder: &'b mut Recorder<'a>,
    last: Option<Block>,
    /// The words that were noted since data were last taken, the last ones first.
    noted: Vec<Word>,
    halt: Option<(Halt, Vec<u8>)>,
}

impl Observer for Watch<'_, '_> {
    fn enter(&mut self, _: Func, block: Block, values: &Values) {
        self.last = Some(block);
        if let Some(region) = self.program.regions.rooted_at(block) {
            self.trace.push(region);
            self.recorder.begin_run();
        }
        if Some(block) != self.program.legalized.halt {
            return;
        }
        let mut params = self.program.legalized.func.blocks[block].params.iter().map(|&param| values.get(param));
        let code = params.next().unwrap_or_default();
        let len = params.next().unwrap_or_default().saturating_to::<usize>();
        // Blocks were noted from the last to the first.
        let noted = self.noted.chunks(BLOCK_WORDS).rev().flatten().copied();
        let mut data: Vec<u8> = params.chain(noted).flat_map(|word| word.to_be_bytes::<32>()).collect();
        data.truncate(len);
        let halt = [Halt::Return, Halt::Revert, Halt::Trap].into_iter().find(|halt| code == Word::from(halt.code()));
        self.halt = halt.map(|halt| (halt, data));
    }

    fn ran(&mut self, _: Func, inst: Inst, args: &[Word], result: Option<Word>) {
        match self.program.legalized.func.insts[inst].opcode {
            Opcode::Note => {
                self.noted.extend(args);
                // The last block may have fewer words.
                self.noted.resize(self.noted.len().next_multiple_of(BLOCK_WORDS), Word::ZERO);
            }
            Opcode::Log => self.noted.clear(),
            _ => {}
        }
        self.recorder.ran(inst, args, result);
    }
}

/// A state with the storage that earlier calls left.
struct Overlay<'a> {
    pre: &'a dyn PreState,
    account: Address,
    storage: BTreeMap<Word, Word>,
}

impl PreState for Overlay<'_> {
    fn storage(&self, account: &Address, key: &Word) -> Word {
        let written = if *account == self.account { self.storage.get(key) } else { None };
        written.copied().unwrap_or_else(|| self.pre.storage(account, key))
    }
    fn balance(&self, account: &Address) -> Word {
        self.pre.balance(account)
    }
    fn code(&self, account: &Address) -> &[u8] {
        self.pre.code(account)
    }
    fn exists(&self, account: &Address) -> bool {
        self.pre.exists(account)
    }
    fn block_hash(&self, number: u64) -> Option<Word> {
        self.pre.block_hash(number)
    }
    fn blob_hash(&self, index: u64) -> Option<Word> {
        self.pre.blob_hash(index)
    }
}

/// Executes calls one after the other, each in the state that those before it left. Each call's environment has the balance as if it
/// were the first; the wei that earlier calls left is added.
///
/// # Errors
/// `Unprovable` with the instruction to blame when an execution leaves the provable part, `Execution` when it reaches
/// the limit of `max_instructions`, `Batch` when there is no call or calls of several accounts.
pub fn execute(
    program: &Program,
    calls: &[Call],
    pre: &dyn PreState,
    max_instructions: u64,
) -> Result<Execution, CircuitError> {
    let account = calls.first().ok_or(CircuitError::Batch("there is no call"))?.env.address;
    if calls.iter().any(|call| call.env.address != account) {
        return Err(CircuitError::Batch("its calls are of several accounts"));
    }
    let mut trace = Trace::default();
    let mut recorder = Recorder::new(program, pre, account);
    let mut overlay = Overlay { pre, account, storage: BTreeMap::new() };
    let mut outcomes = Vec::with_capacity(calls.len());
    let mut ran: Vec<Call> = Vec::with_capacity(calls.len());
    let mut received = Word::ZERO;
    for call in calls {
        let mut call = call.clone();
        call.env.selfbalance = call.env.selfbalance.wrapping_add(received);
        let mut watch =
            Watch { program, trace: &mut trace, recorder: &mut recorder, last: None, noted: Vec::new(), halt: None };
        let mut native = interp::Call::new(&call.calldata, &call.env);
        native.step_limit = max_instructions;
        let effects = interp::run_observed(&program.shell, native, &overlay, &mut watch)?;
        let malformed = CircuitError::Execution(InterpError::Malformed { pc: None });
        let Watch { last, halt, .. } = watch;
        if let Some(&exit) = last.and_then(|last| program.legalized.unprovable.get(&last)) {
            return Err(CircuitError::Unprovable(exit));
        }
        if let Some(far) = recorder.far() {
            return Err(CircuitError::Unprovable(far));
        }
        let (halt, data) = halt.ok_or(malformed)?;
        let failed = halt != Halt::Return;
        if !failed {
            received = received.wrapping_add(call.env.callvalue);
        }
        // The legalised program always ends in a `stop`: what it did counts only if it says that it returned.
        let effects = if failed { Outcome::halted(halt, Vec::new()) } else { effects };
        let outcome = Outcome { halt, data, ..effects };
        overlay.storage.extend(outcome.storage.iter().map(|(&(_, slot), &value)| (slot, value)));
        outcomes.push(outcome);
        ran.push(call);
        let (undone, opened) = recorder.end_call(failed);
        for (system, count) in [(System::Undo, undone), (System::Open, opened)] {
            if let Some(region) = program.system_region(system) {
                (0..count).for_each(|_| trace.push(region));
            }
        }
    }
    let record = recorder.finish();
    if record.time >> TIME_BITS != 0 {
        return Err(CircuitError::Batch("it accesses the state more than 2^30 times"));
    }
    Ok(Execution { calls: ran, outcomes, trace, record })
}
