//! What a block writes to memory, as far as jumps depend on it.
//!
//! Two programs take a jump's target from memory: Vyper's dispatcher, which copies an entry of a table in the code to
//! memory and loads it, both in the first block of the program, where memory is still zero; and hand-made code that keeps
//! a return address in a fixed word of memory. Of the first, the value becomes the set of the table's entries; for
//! the second, the word is followed like an item of the stack.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::{Pc, Word};

use crate::decode::{Code, CodeBlock};
use crate::expr::{Arena, Expr, MEMORY, TOP};

/// A write to known addresses.
#[derive(Debug)]
struct Write {
    start: u32,
    len: u32,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// A word.
    Word(Expr),
    /// As many bytes of the code as are written, from one of these positions.
    Code(BTreeSet<Word>),
    /// Something else.
    Unknown,
}

/// How far back a read looks for the write it sees.
const LOOK_BACK: usize = 64;

/// The memory during one block.
#[derive(Debug)]
pub(crate) struct Memory<'c> {
    code: &'c Code,
    /// Whether memory was zero when the block started.
    zero: bool,
    /// Whether something was written to an unknown address.
    clobbered: bool,
    writes: Vec<Write>,
    followed: BTreeMap<u32, Expr>,
    /// Where the loads of this block that were not understood read from.
    loads: BTreeMap<Expr, u32>,
}

impl<'c> Memory<'c> {
    pub(crate) fn new(code: &'c Code, block: &CodeBlock) -> Self {
        // Nobody can jump to the start of the program unless it is a JUMPDEST.
        let zero = block.insts.first().is_some_and(|inst| inst.pc == 0) && !code.is_jumpdest(0);
        let (writes, followed, loads) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { code, zero, clobbered: false, writes, followed, loads }
    }

    /// Takes note of what an instruction writes.
    pub(crate) fn write(&mut self, arena: &mut Arena, byte: u8, args: &[Expr]) {
        let (start, len, content) = match (byte, args) {
            (MSTORE, &[start, value]) => (start, Some(32), Content::Word(value)),
            (MSTORE8, &[start, _]) => (start, Some(1), Content::Unknown),
            (CODECOPY, &[start, from, len]) => {
                let len = small(arena, len);
                let content = match len {
                    Some(1..=32) => arena.values(from).map_or(Content::Unknown, Content::Code),
                    _ => Content::Unknown,
                };
                (start, len, content)
            }
            (CALLDATACOPY | RETURNDATACOPY | MCOPY, &[start, _, len])
            | (EXTCODECOPY, &[_, start, _, len])
            | (CALL | CALLCODE, &[_, _, _, _, _, start, len])
            | (DELEGATECALL | STATICCALL, &[_, _, _, _, start, len]) => (start, small(arena, len), Content::Unknown),
            _ => return,
        };
        if len == Some(0) {
            return;
        }
        let range = small(arena, start).zip(len).filter(|(start, len)| start.checked_add(*len).is_some());
        let Some((start, len)) = range else {
            self.clobbered = true;
            self.writes.clear();
            for &address in &self.code.followed {
                self.followed.insert(MEMORY + address, TOP);
            }
            return;
        };
        for &address in &self.code.followed {
            if start < address.saturating_add(32) && address < start + len {
                let value = match content {
                    Content::Word(value) if start == address => value,
                    Content::Word(_) | Content::Code(_) | Content::Unknown => TOP,
                };
                self.followed.insert(MEMORY + address, value);
            }
        }
        self.writes.push(Write { start, len, content });
    }

    /// What a load gives, if that is known.
    pub(crate) fn read(&mut self, arena: &mut Arena, byte: u8, args: &[Expr], pc: Pc) -> Option<Expr> {
        let (MLOAD, &[address]) = (byte, args) else { return None };
        let address = small(arena, address)?;
        let slot = MEMORY.checked_add(address).filter(|_| self.code.followed.contains(&address));
        if let Some(slot) = slot {
            return Some(match self.followed.get(&slot) {
                Some(&TOP) => arena.local(pc, false),
                Some(&value) => value,
                None => arena.entry(slot),
            });
        }
        let value = self.load(arena, address);
        if value.is_none() {
            let opaque = arena.local(pc, false);
            self.loads.insert(opaque, address);
        }
        value
    }

    fn load(&self, arena: &mut Arena, address: u32) -> Option<Expr> {
        let end = address.checked_add(32)?;
        let mut over = self.writes.iter().rev().take(LOOK_BACK).filter(|w| w.start < end && address < w.start + w.len);
        let untouched = self.zero && !self.clobbered && self.writes.len() <= LOOK_BACK;
        let Some(last) = over.next() else {
            return untouched.then(|| arena.constant(Word::ZERO));
        };
        match &last.content {
            Content::Word(value) => (last.start == address && *value != TOP).then_some(*value),
            Content::Unknown => None,
            Content::Code(sources) => {
                let stop = last.start + last.len;
                let rest_is_zero =
                    untouched && over.all(|write| last.start <= write.start && write.start + write.len <= stop);
                if !rest_is_zero || last.start < address || stop > end {
                    return None;
                }
                let entry = |source: &Word| {
                    (0..last.len).fold(Word::ZERO, |word, at| {
                        let from = source.checked_add(Word::from(at)).and_then(|from| usize::try_from(from).ok());
                        let byte = from.and_then(|from| self.code.bytes.get(from)).copied().unwrap_or(0);
                        (word << 8) | Word::from(byte)
                    }) << (8 * (end - stop) as usize)
                };
                Some(arena.set(sources.iter().map(entry).collect()))
            }
        }
    }

    /// The words that are followed and were written.
    pub(crate) fn followed(&self) -> BTreeMap<u32, Expr> {
        self.followed.clone()
    }

    /// Where a value was loaded from that is not understood.
    pub(crate) fn source(&self, value: Expr) -> Option<u32> {
        self.loads.get(&value).copied().filter(|address| *address < MEMORY)
    }
}

fn small(arena: &Arena, value: Expr) -> Option<u32> {
    arena.as_const(value).and_then(|word| u32::try_from(word).ok())
}

const CALLDATACOPY: u8 = 0x37;
const CODECOPY: u8 = 0x39;
const EXTCODECOPY: u8 = 0x3c;
const RETURNDATACOPY: u8 = 0x3e;
const MLOAD: u8 = 0x51;
const MSTORE: u8 = 0x52;
const MSTORE8: u8 = 0x53;
const MCOPY: u8 = 0x5e;
const CALL: u8 = 0xf1;
const CALLCODE: u8 = 0xf2;
const DELEGATECALL: u8 = 0xf4;
const STATICCALL: u8 = 0xfa;
