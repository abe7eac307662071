//! Lowers ZVM IR to EVM bytecode.
//!
//! Stages, one file each: [`memory`] (which memory the program cannot see, by the [`ranges`] of its addresses) → [`legalize`] (expand what the fork lacks and
//! what needs scratch memory) → [`exits`] (short ends for each path) → [`normal`] (no critical edges, no trivial
//! parameters) → [`sums`] (what loops compare) → [`shared`] and [`tables`] (long constants used often, for size) → [`liveness`] →
//! [`stackify`] (values to stack slots) → [`layout`] (equal blocks, block order, fall-through, cold blocks last) →
//! [`outline`] (tails and routines that blocks share) → [`emit`] (addresses, constants, data).
//! Where too few places are left for spilled words, [`raise`] makes room below the program's memory, and all begins again.
//! [`checker`] proves, independently of the last five, that the emitted bytes do what the legalized IR says.
//!
//! Correctness: if `lower(m) = Ok(code)` then for every input the outcome of `code` in the EVM is that of `m`.
//! This crate knows nothing about how the IR was made.

mod bounds;
pub mod checker;
mod constant;
mod emit;
mod exits;
mod fork;
mod layout;
mod legalize;
mod listing;
mod liveness;
mod machine;
mod memory;
mod normal;
pub mod opcodes;
mod outline;
mod raise;
mod ranges;
mod selection;
mod shared;
mod stackify;
mod sums;
mod tables;

use zvm_ir::cfg::Cfg;
use zvm_ir::{Module, Opcode, Pc, VerifyError};

pub use checker::{CheckError, check};
pub use emit::{BlockInfo, DataInfo, Lowered, ScheduleFacts};
pub use fork::{Fork, UnknownFork};
pub use machine::Label;
pub use stackify::TemplateSlot;

/// What the code is made cheap in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Optimize {
    /// Nothing: instructions in the order of the IR, the first schedule that works.
    None,
    /// Execution gas, then bytes.
    #[default]
    Gas,
    /// Bytes, then execution gas.
    Size,
}

/// How to lower.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The fork whose instructions may be used.
    pub fork: Fork,
    /// What to make cheap.
    pub optimize: Optimize,
    /// Whether the module is creation code: its calldata is the emitted code itself with whatever is appended to it, as the
    /// data of a transaction that creates a contract is. Such code reads itself with CODECOPY and CODESIZE.
    pub creation: bool,
}

/// Why a module cannot be lowered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// ZV0501. The module breaks the rules of the IR: an error of whoever made it.
    #[error("the IR is malformed: {}", .0.first().map(ToString::to_string).unwrap_or_default())]
    Invalid(Vec<VerifyError>),
    /// ZV0502. The fork has no such instruction, and nothing else does the same. Choose a newer fork.
    #[error("`{opcode}` does not exist in {fork}{}", at(*.pc))]
    Unsupported {
        /// The instruction.
        opcode: Opcode,
        /// The fork asked for.
        fork: Fork,
        /// Where the instruction came from.
        pc: Option<Pc>,
    },
    /// ZV0503. The program reads MSIZE, and this instruction needs memory that the program does not know of, which MSIZE
    /// would show.
    #[error("`{opcode}` needs scratch memory, but the program reads MSIZE{}", at(*.pc))]
    ScratchSeen {
        /// The instruction.
        opcode: Opcode,
        /// Where it came from.
        pc: Option<Pc>,
    },
    /// ZV0504. More values are needed at once than DUP and SWAP reach, and the program reads MSIZE, so that none of
    /// them can be kept in memory.
    #[error("too many live values in @{function}, and the program reads MSIZE{}", at(*.pc))]
    TooDeep {
        /// The function.
        function: String,
        /// Where the instruction came from.
        pc: Option<Pc>,
    },
    /// ZV0505. An internal invariant does not hold: an error of this crate.
    #[error("internal error in @{function}: {what}{}", at(*.pc))]
    Internal {
        /// The function.
        function: String,
        /// The invariant.
        what: &'static str,
        /// Where the instruction came from.
        pc: Option<Pc>,
    },
}

impl LowerError {
    /// The stable code of the error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "ZV0501",
            Self::Unsupported { .. } => "ZV0502",
            Self::ScratchSeen { .. } => "ZV0503",
            Self::TooDeep { .. } => "ZV0504",
            Self::Internal { .. } => "ZV0505",
        }
    }

    /// Where in the bytecode the cause is.
    pub const fn pc(&self) -> Option<Pc> {
        match self {
            Self::Invalid(_) => None,
            Self::Unsupported { pc, .. }
            | Self::ScratchSeen { pc, .. }
            | Self::TooDeep { pc, .. }
            | Self::Internal { pc, .. } => *pc,
        }
    }
}

fn at(pc: Option<Pc>) -> String {
    pc.map(|pc| format!(" (pc {pc:#06x})")).unwrap_or_default()
}

/// The longest code that an account can hold, in bytes (EIP-170).
const CODE_SIZE_LIMIT: usize = 24_576;

/// Lowers a module to EVM bytecode. The same module and options give the same bytes.
///
/// # Errors
/// See [`LowerError`]. A module that verifies is only refused when the fork lacks an instruction, or when the program
/// reads MSIZE and needs memory of its own.
pub fn lower(module: &Module, options: &Options) -> Result<Lowered, LowerError> {
    zvm_ir::verify(module).map_err(LowerError::Invalid)?;
    let plan = memory::plan(module, options.creation);
    let lowered = lower_with(module, &plan, options)?;
    if !lowered.program.aside || options.creation {
        return Ok(lowered);
    }
    // There are too few places for spilled words: make some below the program's own memory, if that goes unseen.
    let wanted = spilled_at_most(module, &plan, options)?;
    let Some((raised, plan)) = raise::make_room(module, &plan, wanted) else { return Ok(lowered) };
    zvm_ir::verify(&raised).map_err(LowerError::Invalid)?;
    let with_room = lower_with(&raised, &plan, options)?;
    Ok(if with_room.program.aside { lowered } else { with_room })
}

/// How many words are spilled where there is a place for each.
fn spilled_at_most(module: &Module, plan: &memory::MemoryPlan, options: &Options) -> Result<usize, LowerError> {
    let legal = prepare(module, plan, options)?;
    let roomy =
        memory::MemoryPlan { spill_base: Some(plan.own_end.next_multiple_of(32)), holes: vec![], ..plan.clone() };
    Ok(stackify::stackify(&legal, &roomy, options, true)?.spills.len())
}

/// A module in the form that is scheduled: legal, and normal.
fn prepare(module: &Module, plan: &memory::MemoryPlan, options: &Options) -> Result<Module, LowerError> {
    let mut legal = legalize::legalize(module, plan, options)?;
    if options.optimize == Optimize::Gas {
        legal.funcs.values_mut().for_each(exits::duplicate);
    }
    if options.optimize != Optimize::None {
        legal.funcs.values_mut().for_each(exits::return_after_calls);
    }
    let mut legal = normal::normalize(&legal);
    if options.optimize != Optimize::None {
        let facts = liveness::analyze(&legal, plan.observes_msize);
        for &func in &facts.reachable {
            let cfg = Cfg::new(&legal.funcs[func]);
            let mut live = liveness::liveness(&legal, &facts, func, &cfg);
            if sums::leave_loops(&mut legal.funcs[func], &cfg, &live) {
                live = liveness::liveness(&legal, &facts, func, &cfg);
            }
            sums::compare_sums(&mut legal.funcs[func], &live);
        }
    }
    Ok(legal)
}

/// Lowers a verified module by a plan.
fn lower_with(module: &Module, plan: &memory::MemoryPlan, options: &Options) -> Result<Lowered, LowerError> {
    let legal = prepare(module, plan, options)?;
    let (mut short, mut tabled) = (legal.clone(), legal.clone());
    let mut lowered = finish(legal, plan, options)?;
    // Gas comes first while the code fits an account.
    let tight = options.optimize == Optimize::Size || lowered.code.len() > CODE_SIZE_LIMIT;
    if tight && shared::share(&mut short, options) {
        let shorter = finish(short, plan, options)?;
        if shorter.code.len() < lowered.code.len() {
            lowered = shorter;
        }
    }
    if options.optimize == Optimize::Size {
        let mut plan = plan.clone();
        if tables::tabulate(&mut tabled, &mut plan, options) {
            let shorter = finish(tabled, &plan, options)?;
            if shorter.code.len() < lowered.code.len() {
                lowered = shorter;
            }
        }
    }
    // Where it does not fit all the same, bytes come first.
    if options.optimize != Optimize::Size && lowered.code.len() > CODE_SIZE_LIMIT && !options.creation {
        let small = lower_with(module, plan, &Options { optimize: Optimize::Size, ..*options })?;
        if small.code.len() < lowered.code.len() {
            return Ok(small);
        }
    }
    Ok(lowered)
}

/// Schedules and emits a legalized module.
fn finish(legal: Module, plan: &memory::MemoryPlan, options: &Options) -> Result<Lowered, LowerError> {
    let program = stackify::stackify(&legal, plan, options, true)?;
    let lowered = emit::emit(legal, program, plan.clone(), options);
    if lowered.fits_tables() {
        return Ok(lowered);
    }
    let program = stackify::stackify(&lowered.module, plan, options, false)?;
    Ok(emit::emit(lowered.module, program, plan.clone(), options))
}
