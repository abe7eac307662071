//! What is observable of an execution: the [`Outcome`]. Two executors agree when their outcomes are equal.
//!
//! Gas, memory, the order of storage writes and the reason of a trap are not observable. Storage and transient storage
//! appear as the slots whose value differs from the pre-state.

use std::collections::BTreeMap;

use crate::Word;

/// An account address, 20 bytes.
pub type Address = [u8; 20];

/// How an execution halted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Halt {
    /// STOP, RETURN or SELFDESTRUCT: success.
    Return,
    /// REVERT: state effects undone, with data.
    Revert,
    /// Every exceptional halt: state effects undone, no data.
    Trap,
}

impl Halt {
    /// The name in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Return => "return",
            Self::Revert => "revert",
            Self::Trap => "trap",
        }
    }

    /// The code in digests and circuits: 1, 2, 3; zero is left to "still running".
    pub const fn code(self) -> u8 {
        match self {
            Self::Return => 1,
            Self::Revert => 2,
            Self::Trap => 3,
        }
    }
}

/// One log entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Who logged.
    pub address: Address,
    /// Up to four topics.
    pub topics: Vec<Word>,
    /// The data.
    pub data: Vec<u8>,
}

/// What an execution did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it halted.
    pub halt: Halt,
    /// What it returned or reverted with.
    pub data: Vec<u8>,
    /// The logs in order; empty unless it returned.
    pub logs: Vec<Log>,
    /// Slots of persistent storage whose value changed, with the new value.
    pub storage: BTreeMap<(Address, Word), Word>,
    /// Slots of transient storage whose value is not zero at the end.
    pub transient: BTreeMap<(Address, Word), Word>,
}

impl Outcome {
    /// A halt without state effects.
    pub fn halted(halt: Halt, data: Vec<u8>) -> Self {
        Self { halt, data, logs: Vec::new(), storage: BTreeMap::new(), transient: BTreeMap::new() }
    }
}
