//! What the lifter says that its module stands for: the claim that [`crate::checker`] checks.
//!
//! A block of the IR stands for a block of the bytecode, its parameters for items of the stack there; a function stands
//! for what lies between its entry and its exits. Nothing here is trusted.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::{Block, Func, Pc, Word};

use crate::effects::{Fact, Facts};
use crate::expr::{Arena, Expr, Node};
use crate::subset::Fork;
use crate::summaries::Leave;

/// What the parts of a lifted module stand for.
#[derive(Clone, Debug, Default)]
pub struct Witness {
    pub(crate) fork: Fork,
    /// Whether it is creation code.
    pub(crate) creation: bool,
    /// The instructions that push immutables.
    pub(crate) immutables: BTreeSet<Pc>,
    /// Words of memory, by address, that are followed like items of the stack.
    pub(crate) followed: BTreeSet<u32>,
    pub(crate) functions: BTreeMap<Func, FunctionWitness>,
    pub(crate) blocks: BTreeMap<(Func, Block), BlockWitness>,
}

/// A block: where it starts, and the slot of the entry stack that each of its parameters is.
#[derive(Clone, Debug)]
pub(crate) struct BlockWitness {
    pub(crate) pc: Pc,
    pub(crate) params: Vec<u32>,
}

/// A function.
#[derive(Clone, Debug)]
pub(crate) struct FunctionWitness {
    pub(crate) pc: Pc,
    pub(crate) params: Vec<u32>,
    /// What every caller's stack must satisfy.
    pub(crate) facts: BTreeMap<u32, Fact>,
    pub(crate) exits: Vec<ExitWitness>,
}

/// A way to return. Everything is said of the stack that the function was entered with.
#[derive(Clone, Debug)]
pub(crate) struct ExitWitness {
    pub(crate) target: Shape,
    pub(crate) guards: BTreeMap<u32, bool>,
    /// The items above the entry's item `base`, the top first.
    pub(crate) items: Vec<Shape>,
    pub(crate) base: u32,
    pub(crate) memory: BTreeMap<u32, Shape>,
    /// The depths of the items that are results, in order.
    pub(crate) results: Vec<u32>,
}

/// A value, as far as it is known.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    Const(Word),
    /// The item of the entry stack, or of followed memory.
    Entry(u32),
    /// An opcode applied to its operands.
    Op(u8, Vec<Shape>),
    Unknown,
}

impl FunctionWitness {
    pub(crate) fn new(pc: Pc, params: Vec<u32>, facts: &Facts, exits: Vec<ExitWitness>) -> Self {
        Self { pc, params, facts: facts.clone(), exits }
    }

    /// Whether the first result is the number of the exit.
    pub(crate) fn numbered(&self) -> bool {
        self.exits.len() > 1
    }
}

impl ExitWitness {
    pub(crate) fn new(arena: &Arena, leave: &Leave, results: Vec<u32>) -> Self {
        Self {
            target: Shape::new(arena, leave.target),
            guards: leave.guards.clone(),
            items: leave.stack.top_down().map(|item| Shape::new(arena, item)).collect(),
            base: leave.stack.base,
            memory: leave.stack.memory.iter().map(|(&slot, &word)| (slot, Shape::new(arena, word))).collect(),
            results,
        }
    }
}

impl Shape {
    fn new(arena: &Arena, expr: Expr) -> Self {
        match arena.node(expr) {
            Node::Const(word) => Self::Const(word),
            Node::Entry(slot) => Self::Entry(slot),
            Node::Op(byte, operands) => {
                let count = crate::decode::stack_io(byte).0 as usize;
                Self::Op(byte, operands.iter().take(count).map(|&operand| Self::new(arena, operand)).collect())
            }
            Node::Top | Node::Param(..) | Node::Local(..) | Node::Set(_) => Self::Unknown,
        }
    }
}
