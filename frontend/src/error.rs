//! Why a program was not lifted. Every variant is about the bytecode or a limit, never about this crate being used
//! wrongly; a bug of this crate shows as [`LiftError::Internal`], which is never an answer about the program.

use zvm_ir::Pc;

use crate::report::Problem;

/// Why a program was not lifted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LiftError {
    /// The bytecode is longer than [`crate::CODE_LIMIT`] bytes.
    #[error("the bytecode has {len} bytes, the limit is {limit}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The targets of some jumps could not be found: the program computes them in a way that is not followed.
    #[error("{} cannot be resolved: {}", plural(jumps.len(), "jump"), pcs(jumps))]
    Unresolved {
        /// The jumps, in order.
        jumps: Vec<Pc>,
    },
    /// The program leaves the subset of the L1 ring.
    #[error("outside the subset: {}", first(problems))]
    Subset {
        /// Every reason, in order of the `pc`. Never empty.
        problems: Vec<Problem>,
    },
    /// The program has more paths than are followed.
    #[error("more than {limit} {what} are needed, at pc {pc:#06x}")]
    Budget {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// Where it was reached.
        pc: Pc,
    },
    /// The same instruction runs at different heights of the stack, at some of which it traps.
    #[error("whether the stack suffices at pc {pc:#06x} depends on the path there")]
    StackHeight {
        /// The first instruction of the block.
        pc: Pc,
    },
    /// The bytecode contains a reference that the linker or constructor has not filled in.
    #[error("the bytes from {start:#06x} to {end:#06x} are a placeholder that deployment fills in")]
    Placeholder {
        /// The first byte.
        start: Pc,
        /// The byte after the last one.
        end: Pc,
    },
    /// The lifter contradicted itself: please report it together with the bytecode.
    #[error("internal error of the lifter at pc {pc:#06x}: {what}")]
    Internal {
        /// Where.
        pc: Pc,
        /// What did not hold.
        what: &'static str,
    },
}

impl LiftError {
    /// The stable code, `ZV0101` and so on.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "ZV0101",
            Self::Unresolved { .. } => "ZV0102",
            Self::Subset { .. } => "ZV0103",
            Self::Budget { .. } => "ZV0104",
            Self::StackHeight { .. } => "ZV0105",
            Self::Placeholder { .. } => "ZV0106",
            Self::Internal { .. } => "ZV0199",
        }
    }

    /// The place in the bytecode, where there is one.
    pub fn pc(&self) -> Option<Pc> {
        match self {
            Self::TooLong { .. } => None,
            Self::Unresolved { jumps } => jumps.first().copied(),
            Self::Subset { problems } => problems.first().and_then(|problem| problem.pc),
            Self::Budget { pc, .. } | Self::StackHeight { pc } | Self::Internal { pc, .. } => Some(*pc),
            Self::Placeholder { start, .. } => Some(*start),
        }
    }

    /// What a user can do about it.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "give the runtime bytecode of one contract",
            Self::Unresolved { .. } => {
                "targets must be constants that travel over the stack; function pointers kept in memory or storage are \
                 not followed"
            }
            Self::Subset { .. } => "see the reason of each problem",
            Self::Budget { .. } => "the bytecode does not look like a compiler's output: check that it is runtime code",
            Self::StackHeight { .. } => "check that this is the runtime code, not creation code or data",
            Self::Placeholder { .. } => "use `zvm deploy`, which runs the constructor and writes the filled-in code",
            Self::Internal { .. } => "this is a bug of zvm",
        }
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn pcs(list: &[Pc]) -> String {
    let mut text: Vec<_> = list.iter().take(8).map(|pc| format!("{pc:#06x}")).collect();
    if list.len() > text.len() {
        text.push("…".to_owned());
    }
    text.join(", ")
}

fn first(problems: &[Problem]) -> String {
    problems.first().map_or_else(String::new, |problem| match problem.pc {
        Some(pc) => format!("{} at pc {pc:#06x}: {}", problem.opcode, problem.reason),
        None => problem.reason.clone(),
    })
}
