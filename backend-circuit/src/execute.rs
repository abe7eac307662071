//! Running a program natively, for its outcome and for the order in which its regions run.
//!
//! The legalised function is an ordinary module, so the IR's interpreter runs it; nothing here knows what an instruction
//! means.

use zvm_ir::EmptyState;
use zvm_ir::interp::{self, InterpError, Observer, Values};
use zvm_ir::{Block, Env, Func, Halt, Outcome};

use crate::error::CircuitError;
use crate::program::Program;
use crate::region::Region;

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
    /// What is observable of it.
    pub outcome: Outcome,
    /// The regions it runs.
    pub trace: Trace,
}

struct Recorder<'a> {
    program: &'a Program,
    trace: Trace,
    last: Option<Block>,
    halt: Option<Outcome>,
}

impl Observer for Recorder<'_> {
    fn enter(&mut self, _: Func, block: Block, values: &Values) {
        self.last = Some(block);
        if let Some(region) = self.program.regions.rooted_at(block) {
            self.trace.push(region);
        }
        if Some(block) != self.program.legalized.halt {
            return;
        }
        let mut params = self.program.legalized.func.blocks[block].params.iter().map(|&param| values.get(param));
        let code = params.next().unwrap_or_default();
        let len = params.next().unwrap_or_default().saturating_to::<usize>();
        let mut data: Vec<u8> = params.flat_map(|word| word.to_be_bytes::<32>()).collect();
        data.truncate(len);
        let halt =
            [Halt::Return, Halt::Revert, Halt::Trap].into_iter().find(|halt| code == zvm_ir::Word::from(halt.code()));
        self.halt = halt.map(|halt| Outcome::halted(halt, data));
    }
}

/// Executes a program.
///
/// # Errors
/// `Unprovable` with the instruction to blame when the execution leaves the provable part, `Execution` when it reaches
/// the limit of `max_instructions`.
pub fn execute(program: &Program, call: &Call, max_instructions: u64) -> Result<Execution, CircuitError> {
    let mut recorder = Recorder { program, trace: Trace::default(), last: None, halt: None };
    let mut native = interp::Call::new(&call.calldata, &call.env);
    native.step_limit = max_instructions;
    interp::run_observed(&program.shell, native, &EmptyState, &mut recorder)?;
    let last = recorder.last.ok_or(CircuitError::Execution(InterpError::Malformed { pc: None }))?;
    if let Some(&exit) = program.legalized.unprovable.get(&last) {
        return Err(CircuitError::Unprovable(exit));
    }
    let outcome = recorder.halt.ok_or(CircuitError::Execution(InterpError::Malformed { pc: None }))?;
    Ok(Execution { outcome, trace: recorder.trace })
}
