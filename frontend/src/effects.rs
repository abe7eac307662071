//! Stage 2, effects: one basic block → its effect on a symbolic entry stack.
//!
//! A block is interpreted once over an entry stack whose items are names. What comes out says for each way to leave the
//! block where it goes and how the stack then looks, and what the branch taken says about values that are still there.

use std::collections::BTreeMap;

use zvm_ir::{Pc, Word};

use crate::decode::{self, Code, CodeBlock, Exit, Kind};
use crate::expr::{Arena, Expr, MEMORY, Stack, TOP};
use crate::memory::Memory;

/// What is known of an item of the entry stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fact {
    /// Its value.
    Is(Word),
    /// It is not zero.
    NonZero,
}

/// What is known of the entry stack, by slot.
pub(crate) type Facts = BTreeMap<u32, Fact>;

/// Where an edge goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// The next instruction, which is entered without a jump.
    Next(Pc),
    /// Where the value says.
    Jump(Expr),
}

/// A way to leave a block.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    /// Where it goes.
    pub(crate) target: Target,
    /// The stack then, over the block's entry stack.
    pub(crate) stack: Stack,
    /// A slot of the entry stack that is zero (`false`) or not whenever the edge is taken.
    pub(crate) guard: Option<(u32, bool)>,
    /// The jump, or the last instruction.
    pub(crate) pc: Pc,
}

/// How a block ends.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// The execution halts.
    Halt,
    /// It always goes the same way.
    Goto(Edge),
    /// JUMPI: taken, not taken.
    Branch(Box<[Edge; 2]>),
}

impl End {
    pub(crate) fn edges(&self) -> &[Edge] {
        match self {
            Self::Halt => &[],
            Self::Goto(edge) => core::slice::from_ref(edge),
            Self::Branch(edges) => &edges[..],
        }
    }
}

/// What one block does to the stack.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    /// How many items of the entry stack must exist, with the instruction that needs the last of them: increasing.
    pub(crate) needs: Vec<(u32, Pc)>,
    /// How much higher than at the entry the stack gets, with the instruction that makes it so: increasing.
    pub(crate) grows: Vec<(u32, Pc)>,
    /// How it ends.
    pub(crate) end: End,
    /// The address in memory from which the target of its jump is taken, if that is not understood.
    pub(crate) wanted: Option<u32>,
}

/// Interprets `block` over an entry stack of which `facts` are known.
pub(crate) fn interpret(code: &Code, block: &CodeBlock, facts: &Facts, arena: &mut Arena) -> Effect {
    let mut run = Run { stack: entry_stack(facts, arena), height: 0, needs: Vec::new(), grows: Vec::new() };
    let mut memory = Memory::new(code, block);
    let mut last = 0;
    for inst in &block.insts {
        last = inst.pc;
        match inst.kind {
            Kind::Push(word) => {
                run.touch(inst.pc, 0, 1);
                let item = arena.constant(word);
                run.stack.push(item);
            }
            Kind::Dup(depth) => {
                run.touch(inst.pc, depth + 1, depth + 2);
                let item = run.stack.get(arena, depth);
                run.stack.push(item);
            }
            Kind::Swap(a, b) => {
                run.touch(inst.pc, b.max(a) + 1, b.max(a) + 1);
                run.stack.swap(arena, a, b);
            }
            Kind::Pop => {
                run.touch(inst.pc, 1, 0);
                run.stack.pop(arena);
            }
            Kind::Jumpdest | Kind::Invalid => {}
            Kind::Jump => run.touch(inst.pc, 1, 0),
            Kind::Jumpi => run.touch(inst.pc, 2, 0),
            Kind::Op(byte) => {
                let (inputs, outputs) = decode::stack_io(byte);
                run.touch(inst.pc, inputs, outputs);
                let args: Vec<_> = (0..inputs).map(|_| run.stack.pop(arena)).collect();
                memory.write(arena, byte, &args);
                if outputs > 0 {
                    let opaque = arena.local(inst.pc, decode::is_call(byte));
                    let item = match memory.read(arena, byte, &args, inst.pc) {
                        Some(item) => item,
                        None => arena.op(byte, &args, opaque),
                    };
                    run.stack.push(item);
                }
            }
        }
    }
    let Run { mut stack, needs, grows, .. } = run;
    stack.memory = memory.followed();
    let mut wanted = None;
    let end = match block.exit {
        Exit::Halt | Exit::End => End::Halt,
        Exit::Fall(next) => End::Goto(edge(arena, Target::Next(next), stack, last)),
        Exit::Jump => {
            let target = stack.pop(arena);
            wanted = memory.source(target);
            End::Goto(edge(arena, Target::Jump(target), stack, last))
        }
        Exit::Jumpi(next) => {
            let target = stack.pop(arena);
            wanted = memory.source(target);
            let condition = stack.pop(arena);
            match decided(arena, condition, facts) {
                Some(true) => End::Goto(edge(arena, Target::Jump(target), stack, last)),
                Some(false) => End::Goto(edge(arena, Target::Next(next), stack, last)),
                None => {
                    let mut way = |truth: bool, target: Target| {
                        let known = arena.facts(condition, truth);
                        let mut stack = stack.clone();
                        stack.map(|item| assume(arena, item, &known));
                        let guard = arena.tested_slot(condition).map(|(slot, sense)| (slot, sense == truth));
                        Edge { guard, ..edge(arena, target, stack, last) }
                    };
                    End::Branch(Box::new([way(true, Target::Jump(target)), way(false, Target::Next(next))]))
                }
            }
        }
    };
    Effect { needs, grows, end, wanted }
}

struct Run {
    stack: Stack,
    height: i64,
    needs: Vec<(u32, Pc)>,
    grows: Vec<(u32, Pc)>,
}

impl Run {
    /// Records that an instruction takes `inputs` items and puts back `outputs`.
    fn touch(&mut self, pc: Pc, inputs: u32, outputs: u32) {
        let need = u32::try_from(i64::from(inputs) - self.height).unwrap_or(0);
        if need > self.needs.last().map_or(0, |last| last.0) {
            self.needs.push((need, pc));
        }
        self.height += i64::from(outputs) - i64::from(inputs);
        let grow = u32::try_from(self.height).unwrap_or(0);
        if grow > self.grows.last().map_or(0, |last| last.0) {
            self.grows.push((grow, pc));
        }
    }
}

fn entry_stack(facts: &Facts, arena: &mut Arena) -> Stack {
    let known = facts.range(..MEMORY).next_back().map_or(0, |(&slot, _)| slot + 1);
    let items = (0..known)
        .map(|slot| match facts.get(&slot) {
            Some(Fact::Is(word)) => arena.constant(*word),
            Some(Fact::NonZero) | None => arena.entry(slot),
        })
        .collect();
    Stack::from_top_down(items, known)
}

fn edge(arena: &mut Arena, target: Target, mut stack: Stack, pc: Pc) -> Edge {
    let target = match target {
        // A target computed within few bounds is one of few values.
        Target::Jump(item) if arena.is_opaque(item) => {
            Target::Jump(arena.values(item).map_or(TOP, |values| arena.set(values)))
        }
        Target::Jump(item) => Target::Jump(item),
        Target::Next(next) => Target::Next(next),
    };
    stack.map(|item| if arena.is_opaque(item) { TOP } else { item });
    stack.normalise(arena);
    Edge { target, stack, guard: None, pc }
}

/// Whether a value is zero (`false`) or not, if that is known.
pub(crate) fn decided(arena: &Arena, value: Expr, facts: &Facts) -> Option<bool> {
    if let Some(word) = arena.as_const(value) {
        return Some(!word.is_zero());
    }
    let (slot, sense) = arena.tested_slot(value)?;
    Some(match facts.get(&slot)? {
        Fact::Is(word) => word.is_zero() != sense,
        Fact::NonZero => sense,
    })
}

fn assume(arena: &mut Arena, item: Expr, known: &[(Expr, Expr)]) -> Expr {
    arena.map(item, &mut |_, part| known.iter().find(|(expr, _)| *expr == part).map(|&(_, value)| value))
}
