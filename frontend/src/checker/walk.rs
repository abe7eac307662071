//! The bytecode of one block, run on terms.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::{Block, Opcode, Pc, Word};

use super::terms::{Node, Source, Table, Tables, Term, Terms};
use crate::decode::{self, Code, Exit, Kind, PUSH32};
use crate::expr::MEMORY;
use crate::subset::{self, Lowering};

/// A stack of terms: items above one whose items have names.
#[derive(Clone, Debug)]
pub(super) struct Stack {
    /// The top last.
    pub(super) items: Vec<Term>,
    pub(super) below: Below,
}

/// What lies below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Below {
    /// The items of the function's entry stack from this one on.
    Entry(u32),
    /// The items at the start of this block from this one on: how high the stack is depends on the way there.
    Block(Block, u32),
}

impl Stack {
    pub(super) fn get(&self, terms: &mut Terms, depth: u32) -> Term {
        match self.items.len().checked_sub(depth as usize + 1) {
            Some(at) => self.items[at],
            None => {
                let further = depth - self.items.len() as u32;
                terms.add(match self.below {
                    Below::Entry(first) => Node::Entry(first + further),
                    Below::Block(block, first) => Node::Slot(block, first + further),
                })
            }
        }
    }

    pub(super) fn pop(&mut self, terms: &mut Terms) -> Term {
        self.reach(terms, 1);
        self.items.pop().unwrap_or_else(|| terms.unknown())
    }

    /// Names as many items as that.
    fn reach(&mut self, terms: &mut Terms, count: u32) {
        while self.items.len() < count as usize {
            let item = self.get(terms, self.items.len() as u32);
            self.items.insert(0, item);
            match &mut self.below {
                Below::Entry(first) | Below::Block(_, first) => *first += 1,
            }
        }
    }

    /// How much higher it is than the function's entry stack, if that is known.
    pub(super) fn height(&self) -> Option<i64> {
        match self.below {
            Below::Entry(first) => Some(self.items.len() as i64 - i64::from(first)),
            Below::Block(..) => None,
        }
    }
}

/// The words of memory that a block knows.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Whether whatever was not written is zero.
    fresh: bool,
    writes: Vec<(u32, u32, Content)>,
}

#[derive(Clone, Copy, Debug)]
enum Content {
    Word(Term),
    Code(Term),
    Other,
}

impl Memory {
    /// Memory of which nothing is known, or that is zero.
    pub(super) fn new(fresh: bool) -> Self {
        Self { fresh, writes: Vec::new() }
    }

    pub(super) fn write(&mut self, start: u32, word: Term) {
        self.writes.push((start, 32, Content::Word(word)));
    }

    /// Forgets everything but the followed words, which become unknown.
    pub(super) fn clobber(&mut self, terms: &mut Terms, followed: &BTreeSet<u32>) {
        self.fresh = false;
        self.writes.clear();
        for &address in followed {
            let unknown = terms.unknown();
            self.write(address, unknown);
        }
    }

    pub(super) fn word(&self, terms: &mut Terms, address: u32) -> Option<Term> {
        match self.last(address)? {
            Some((start, len, Content::Word(word))) if start == address && len == 32 => Some(word),
            None if self.fresh => Some(terms.constant(Word::ZERO)),
            _ => None,
        }
    }

    /// The last write that touches the word at `address`, if any does.
    fn last(&self, address: u32) -> Option<Option<(u32, u32, Content)>> {
        let end = address.checked_add(32)?;
        let touches = |&&(start, len, _): &&(u32, u32, Content)| start < end && address < start.saturating_add(len);
        Some(self.writes.iter().rev().find(touches).copied())
    }

    /// The part of the code that the word at `address` is, if the rest of it is zero.
    fn table(&self, address: u32) -> Option<Table> {
        let (start, len, content) = self.last(address)??;
        let Content::Code(from) = content else { return None };
        let (stop, end) = (start + len, address.checked_add(32)?);
        let covered = |(first, len, _): &(u32, u32, Content)| {
            let after = first.saturating_add(*len);
            after <= address || *first >= end || (start <= *first && after <= stop)
        };
        let rest_is_zero = self.fresh && self.writes.iter().all(covered);
        let shift = end.checked_sub(stop)?;
        (rest_is_zero && address <= start).then_some(Table { from, len, shift })
    }
}

/// An instruction that does more than compute.
#[derive(Clone, Debug)]
pub(super) struct Effect {
    pub(super) pc: Pc,
    pub(super) opcode: Opcode,
    /// The operands, the top of the stack first.
    pub(super) args: Vec<Term>,
    pub(super) result: Option<Term>,
}

/// How a block ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The last effect halts.
    Halt,
    /// INVALID, or a byte that is no instruction.
    Invalid,
    /// The code ends: STOP.
    Stop,
    Next(Pc),
    Jump(Term, Pc),
    Branch {
        target: Term,
        condition: Term,
        next: Pc,
        pc: Pc,
    },
}

/// A block of bytecode that was run.
#[derive(Debug)]
pub(super) struct Walked<'c> {
    pub(super) effects: Vec<Effect>,
    pub(super) stack: Stack,
    pub(super) memory: Memory,
    pub(super) tables: Tables<'c>,
    pub(super) end: End,
    /// How many items of the entry stack it needs.
    pub(super) needs: i64,
    /// How much higher than at the entry the stack gets.
    pub(super) grows: i64,
}

/// Runs the block at `pc`. `None` if it contains an opcode without a row.
pub(super) fn walk<'c>(
    code: &'c Code,
    pc: Pc,
    stack: Stack,
    memory: Memory,
    known: BTreeMap<Term, Source>,
    terms: &mut Terms,
) -> Option<Walked<'c>> {
    let block = code.block(pc);
    let tables = Tables { code: &code.bytes, map: known };
    let mut run = Walked { effects: Vec::new(), stack, memory, tables, end: End::Stop, needs: 0, grows: 0 };
    let mut height = 0;
    let mut last = pc;
    for inst in &block.insts {
        last = inst.pc;
        let (takes, gives) = match inst.kind {
            Kind::Push(_) => (0, 1),
            Kind::Dup(depth) => (i64::from(depth) + 1, i64::from(depth) + 2),
            Kind::Swap(a, b) => (i64::from(a.max(b)) + 1, i64::from(a.max(b)) + 1),
            Kind::Pop | Kind::Jump => (1, 0),
            Kind::Jumpi => (2, 0),
            Kind::Jumpdest | Kind::Invalid => (0, 0),
            Kind::Op(byte) => {
                let (takes, gives) = decode::stack_io(byte);
                (i64::from(takes), i64::from(gives))
            }
        };
        run.needs = run.needs.max(takes - height);
        height += gives - takes;
        run.grows = run.grows.max(height);
        match inst.kind {
            Kind::Push(word) => {
                let word = terms.constant(word);
                run.stack.items.push(word);
            }
            Kind::Dup(depth) => {
                let item = run.stack.get(terms, depth);
                run.stack.items.push(item);
            }
            Kind::Swap(a, b) => {
                run.stack.reach(terms, a.max(b) + 1);
                let top = run.stack.items.len() - 1;
                run.stack.items.swap(top - a as usize, top - b as usize);
            }
            Kind::Pop => {
                run.stack.pop(terms);
            }
            Kind::Jump | Kind::Jumpi | Kind::Jumpdest | Kind::Invalid => {}
            Kind::Op(byte) => run.op(code, byte, inst.pc, terms)?,
        }
    }
    run.end = match block.exit {
        Exit::End => End::Stop,
        Exit::Halt if block.insts.last().is_some_and(|inst| inst.kind == Kind::Invalid) => End::Invalid,
        Exit::Halt => End::Halt,
        Exit::Fall(next) => End::Next(next),
        Exit::Jump => End::Jump(run.stack.pop(terms), last),
        Exit::Jumpi(next) => {
            let target = run.stack.pop(terms);
            End::Branch { target, condition: run.stack.pop(terms), next, pc: last }
        }
    };
    Some(run)
}

/// The constant that `term` is, as an address or length.
fn small(terms: &Terms, term: Term) -> Option<u32> {
    terms.as_const(term).and_then(|word| u32::try_from(word).ok()).filter(|word| *word < MEMORY)
}

impl Walked<'_> {
    fn op(&mut self, code: &Code, byte: u8, pc: Pc, terms: &mut Terms) -> Option<()> {
        let row = subset::row_of(byte)?;
        let (inputs, outputs) = decode::stack_io(byte);
        let mut args: Vec<Term> = (0..inputs).map(|_| self.stack.pop(terms)).collect();
        let opcode = match row.lowering {
            Lowering::Ins(opcode) => opcode,
            Lowering::Swapped(opcode) => {
                args.reverse();
                opcode
            }
            Lowering::Codecopy => Opcode::Datacopy,
            Lowering::None if byte == PUSH32 => Opcode::Immutable,
            Lowering::None => return None,
        };
        if opcode.is_pure() {
            let value = terms.pure(opcode, args);
            self.stack.items.push(value);
            return Some(());
        }
        self.touch(code, opcode, &args, terms);
        let result = (outputs > 0).then(|| {
            let loaded = (opcode == Opcode::Mload).then(|| small(terms, args[0])).flatten();
            let word = loaded.and_then(|address| self.memory.word(terms, address));
            let result = word.unwrap_or_else(|| terms.add(Node::Result(pc)));
            if let (None, Some(table)) = (word, loaded.and_then(|address| self.memory.table(address))) {
                self.tables.map.insert(result, Source::Code(table));
            }
            result
        });
        self.stack.items.extend(result);
        self.effects.push(Effect { pc, opcode, args, result });
        Some(())
    }

    /// What an instruction writes to memory.
    fn touch(&mut self, code: &Code, opcode: Opcode, args: &[Term], terms: &mut Terms) {
        let word = terms.constant(Word::from(32));
        let byte = terms.constant(Word::ONE);
        let (start, len, content) = match (opcode, args) {
            (Opcode::Mstore, &[start, value]) => (start, word, Content::Word(value)),
            (Opcode::Mstore8, &[start, _]) => (start, byte, Content::Other),
            (Opcode::Datacopy, &[start, from, len]) => (start, len, Content::Code(from)),
            (Opcode::Calldatacopy | Opcode::Returndatacopy | Opcode::Mcopy, &[start, _, len])
            | (Opcode::Extcodecopy, &[_, start, _, len])
            | (Opcode::EvmCall | Opcode::EvmCallcode, &[_, _, _, _, _, start, len])
            | (Opcode::EvmDelegatecall | Opcode::EvmStaticcall, &[_, _, _, _, start, len]) => {
                (start, len, Content::Other)
            }
            _ => return,
        };
        match (small(terms, start), small(terms, len)) {
            (_, Some(0)) => {}
            (Some(start), Some(len)) => self.memory.writes.push((start, len, content)),
            _ => self.memory.clobber(terms, &code.followed),
        }
    }
}
