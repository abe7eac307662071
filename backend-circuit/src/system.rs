//! Slots that no part of the program becomes: those that take back what failed, and those that close the trace argument.
//!
//! They come after the program's regions, and only in programs that need them. What a slot does is in [`crate::trace::slots`]; the
//! order in which they run is
//!
//! ```text
//! the calls, each with the writes that it takes back and the calldata that it opens  ⟶  Sweep*  ⟶  Enter  ⟶  (Write | Read | Gap | Flush | Close)*  ⟶  Leave
//! ```

use crate::digest::BLOCK_WORDS;
use crate::lower::Features;
use crate::trace::slots::{SWEPT, SWEPT_ELEMENTS};

/// What a slot of the system does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum System {
    /// Takes back one write of a call that does not return.
    Undo,
    /// Opens a block of the calldata of a call that is over.
    Open,
    /// Opens and closes cells of memory.
    Sweep,
    /// Opens the root of the state tree.
    Enter,
    /// Opens and closes a slot of storage that has a leaf, which may change.
    Write,
    /// The same for one that does not change.
    Read,
    /// Opens and closes a slot of storage that has no leaf.
    Gap,
    /// Puts a full node of new leaves in its place.
    Flush,
    /// Leaves the gap behind a leaf.
    Close,
    /// Makes the root afterwards.
    Leave,
}

impl System {
    /// The slots that programs with these features have, in order.
    pub fn of(features: &Features) -> Vec<Self> {
        let mut all = Vec::new();
        if features.storage_writes {
            all.push(Self::Undo);
        }
        if features.calldata {
            all.push(Self::Open);
        }
        if features.memory {
            all.push(Self::Sweep);
        }
        if features.storage {
            all.extend([Self::Enter, Self::Write, Self::Read, Self::Gap, Self::Flush, Self::Close, Self::Leave]);
        }
        all
    }

    /// The name in tables and constraints.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Undo => "undo",
            Self::Open => "open",
            Self::Sweep => "sweep",
            Self::Enter => "enter",
            Self::Write => "write",
            Self::Read => "read",
            Self::Gap => "gap",
            Self::Flush => "flush",
            Self::Close => "close",
            Self::Leave => "leave",
        }
    }

    /// Whether slots of this kind share their label: the prover says which of them comes next.
    pub const fn walks(self) -> bool {
        matches!(self, Self::Write | Self::Read | Self::Gap | Self::Flush | Self::Close)
    }

    /// How many accesses a slot makes.
    pub const fn accesses(self) -> usize {
        match self {
            Self::Undo => 1,
            _ => 0,
        }
    }

    /// How many elements the prover chooses in a slot besides those of its accesses.
    pub const fn elements(self) -> usize {
        match self {
            Self::Undo => 3,
            Self::Open => BLOCK_WORDS,
            Self::Sweep => SWEPT * SWEPT_ELEMENTS,
            Self::Write | Self::Read => 7,
            Self::Gap => 5,
            Self::Enter | Self::Flush | Self::Close | Self::Leave => 0,
        }
    }
}
