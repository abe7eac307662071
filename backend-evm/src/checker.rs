//! The checker: proves that emitted code does what the legalized IR says, knowing nothing of how it was scheduled.
//!
//! Each block is executed twice on symbols, once as IR and once as the bytes that were emitted, from its entry template to
//! the next blocks. Terms are hash-consed, so equal words are equal numbers; a term that reads memory, storage, … carries
//! how many writes came before it. Checked, for every path through a block:
//!
//! - the effects (writes, logs, calls, the halt) are the same, in the same order, with the same operands;
//! - the branch condition is the same up to truth, and each side goes to the right block;
//! - the target's template holds the arguments and the values that live on, in its slots and in its spilled words; the
//!   height of the frame is kept on cycles and where the function returns;
//! - a call pushes an address that is a JUMPDEST, and the code after it goes on with the results; `ret` jumps to the return
//!   address with exactly the results left;
//! - spilled words and words put aside beyond the end of memory are read as they were written, and the latter are cleared
//!   before the program can see them; spill slots of different functions are disjoint and not re-entered;
//! - data segments are where the code copies them from.
//!
//! Not checked: memory that is moved, the legalizer and normal form (tests compare them with the interpreter), that spill slots and scratch lie
//! outside what the program sees ([`crate::memory`] argues that), and that the stack stays below 1024 words.

mod block;
mod machine;
mod terms;

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::{Block, Func, Pc, Value};

use crate::emit::{BlockInfo, Lowered};
use crate::liveness::ModuleFacts;
use crate::{opcodes, outline};

/// Where emitted code differs from the IR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("@{function} {block} at {at:#06x}{}: {kind}", pc.map(|pc| format!(" (pc {pc:#06x})")).unwrap_or_default())]
pub struct CheckError {
    /// The name of the function.
    pub function: String,
    /// The block whose code is wrong.
    pub block: String,
    /// The position in the emitted code.
    pub at: u32,
    /// The position in the original bytecode of the block's end.
    pub pc: Option<Pc>,
    /// What is wrong.
    pub kind: CheckErrorKind,
}

/// What can be wrong with emitted code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckErrorKind {
    /// The code takes a word from below its frame.
    #[error("the code takes a word from below its frame")]
    Underflow,
    /// The byte is no instruction that the backend emits.
    #[error("byte {0:#04x} is not an instruction of the backend")]
    UnknownOpcode(u8),
    /// A jump goes to a place that is no JUMPDEST, or to a computed address.
    #[error("a jump goes to a place that is no JUMPDEST")]
    BadJump,
    /// The effects differ.
    #[error("effect {at} differs: the IR has `{expected}`, the code has `{found}`")]
    Effects {
        /// The number of the first effect that differs.
        at: usize,
        /// What the IR does.
        expected: String,
        /// What the code does.
        found: String,
    },
    /// The branch condition differs.
    #[error("the branch condition differs: the IR has `{expected}`, the code has `{found}`")]
    Condition {
        /// The condition of the IR.
        expected: String,
        /// The condition of the code.
        found: String,
    },
    /// The block goes elsewhere, or does not end as the IR does.
    #[error("the code does not go where the IR goes")]
    Target,
    /// A slot of the target's template, counted from the bottom, holds another word.
    #[error("slot {slot} should be `{expected}` and is `{found}`")]
    Slot {
        /// The slot.
        slot: usize,
        /// The word it should hold.
        expected: String,
        /// The word it holds.
        found: String,
    },
    /// A spilled value is not in its slot.
    #[error("the spilled value {value} should be `{expected}` and is `{found}`")]
    Spill {
        /// The value.
        value: Value,
        /// The word it should hold.
        expected: String,
        /// The word it holds.
        found: String,
    },
    /// The frame has another height than the target expects.
    #[error("the frame has {found} words where the target expects {expected}")]
    Height {
        /// The words of the target's template.
        expected: usize,
        /// The words there are.
        found: usize,
    },
    /// Memory beyond the program's is not cleared when the program can see it.
    #[error("memory beyond the program's is not cleared")]
    NotCleared,
    /// The spill slot is used by two functions, or by one that can be entered again.
    #[error("the spill slot {0:#x} is shared")]
    SharedSpill(u64),
    /// A data segment does not have its bytes.
    #[error("{0} does not have its bytes")]
    Data(String),
    /// The code does not start with the entry block.
    #[error("the code does not start with the entry block")]
    Start,
}

/// Checks emitted code. All errors are collected, at most one for each path through a block.
///
/// # Errors
/// The places where the code differs from the IR.
pub fn check(lowered: &Lowered) -> Result<(), Vec<CheckError>> {
    let mut checker = Checker::new(lowered);
    checker.start();
    checker.data();
    checker.spills();
    for info in &lowered.blocks {
        checker.block(info);
    }
    if checker.errors.is_empty() { Ok(()) } else { Err(checker.errors) }
}

/// The JUMPDESTs that are instructions: the EVM looks for them from the first byte on, and skips what is pushed.
fn jumpdests(lowered: &Lowered) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut at = 0;
    while let Some(&byte) = lowered.code.get(at).filter(|_| at < lowered.code_len()) {
        if byte == opcodes::JUMPDEST {
            found.insert(at as u32);
        }
        at += match byte {
            opcodes::PUSH1..=opcodes::PUSH32 => 2 + usize::from(byte - opcodes::PUSH1),
            _ => 1,
        };
    }
    found
}

/// What the checker knows of a module and its code.
struct Checker<'a> {
    lowered: &'a Lowered,
    facts: &'a ModuleFacts,
    blocks: BTreeMap<(Func, Block), &'a BlockInfo>,
    /// The function that starts at a position.
    entries: BTreeMap<u32, Func>,
    /// Where blocks start.
    starts: BTreeSet<u32>,
    /// Where the EVM lets a jump go.
    jumpdests: BTreeSet<u32>,
    functions: BTreeMap<Func, block::FunctionInfo>,
    /// How many instructions a block may execute at most.
    steps: usize,
    errors: Vec<CheckError>,
}

impl<'a> Checker<'a> {
    fn new(lowered: &'a Lowered) -> Self {
        let facts = &lowered.program.facts;
        let blocks: BTreeMap<_, _> = lowered.blocks.iter().map(|info| ((info.func, info.block), info)).collect();
        let mut entries = BTreeMap::new();
        let mut functions = BTreeMap::new();
        for &func in &facts.reachable {
            let entry = lowered.module.funcs[func].entry();
            if let Some(info) = entry.and_then(|entry| blocks.get(&(func, entry))) {
                entries.insert(info.start, func);
            }
            functions.insert(func, block::FunctionInfo::new(lowered, facts, func));
        }
        let starts = lowered.blocks.iter().map(|info| info.start).collect();
        let pieces = lowered.program.functions.iter().flat_map(|code| &code.pieces);
        let longest = pieces.map(|piece| piece.code.len()).max().unwrap_or_default();
        let steps = 2 * lowered.code.len() + outline::SLOWEST * longest + 2;
        Self {
            lowered,
            facts,
            blocks,
            entries,
            starts,
            jumpdests: jumpdests(lowered),
            functions,
            steps,
            errors: Vec::new(),
        }
    }

    fn report(&mut self, info: Option<&BlockInfo>, at: u32, kind: CheckErrorKind) {
        let function = info.map_or_else(String::new, |info| info.function.clone());
        let block = info.map_or_else(String::new, |info| info.block.to_string());
        let pc = info.and_then(|info| {
            let function = self.lowered.module.funcs.get(info.func)?;
            function.insts.get(function.terminator(info.block)?)?.pc
        });
        self.errors.push(CheckError { function, block, at, pc, kind });
    }

    /// The code starts with the entry function, entered with nothing on the stack or with the address of a STOP.
    fn start(&mut self) {
        let entry = self.lowered.module.entry;
        let info = entry.and_then(|func| {
            let block = self.lowered.module.funcs[func].entry()?;
            self.blocks.get(&(func, block)).copied()
        });
        let good = info.is_some_and(|info| {
            let code = &self.lowered.code;
            if info.template.is_empty() {
                return info.start == 0;
            }
            // PUSH stop; then the entry block.
            let pushed = match code.first() {
                Some(&byte @ opcodes::PUSH1..=0x63) => {
                    let len = usize::from(byte - opcodes::PUSH1) + 1;
                    (info.start as usize == 1 + len)
                        .then(|| {
                            code.get(1..1 + len).map(|bytes| bytes.iter().fold(0usize, |n, &b| n << 8 | usize::from(b)))
                        })
                        .flatten()
                }
                _ => None,
            };
            info.template.len() == 1
                && pushed.is_some_and(|stop| code.get(stop..stop + 2) == Some(&[opcodes::JUMPDEST, opcodes::STOP]))
        });
        if !good {
            self.report(info, 0, CheckErrorKind::Start);
        }
    }

    fn data(&mut self) {
        for segment in self.lowered.data.clone() {
            let (start, end) = (segment.start as usize, (segment.start + segment.len) as usize);
            let bytes = self.lowered.module.data.get(segment.data).map(|bytes| &bytes[..]);
            if bytes.is_none() || self.lowered.code.get(start..end) != bytes {
                self.report(None, segment.start, CheckErrorKind::Data(segment.data.to_string()));
            }
        }
    }

    fn spills(&mut self) {
        let mut seen = BTreeSet::new();
        for (&(func, _), &address) in &self.lowered.program.spills {
            if !seen.insert(address) || self.facts.recursive[func] {
                self.report(None, 0, CheckErrorKind::SharedSpill(address));
            }
        }
    }
}
