//! One walk over the instructions of a block, shared by liveness and SSA: it moves *items* over a stack and tells a sink
//! which instructions compute something. So both agree, by construction, on what reaches which operand.

use zvm_ir::{Pc, Word};

use crate::decode::{self, CodeBlock, Exit, Inst, Kind};
use crate::effects::{Fact, Facts};

/// What stands on the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item<V> {
    /// The item at this depth when the block was entered.
    Entry(u32),
    /// A constant, with the instruction that pushed it if there is one.
    Const(Word, Option<Pc>),
    /// What an instruction computed.
    Value(V),
    /// Something that nothing reads any more.
    Dead,
}

/// A stack of items above the items `base`, `base + 1`, … of the entry stack.
#[derive(Clone, Debug)]
pub(crate) struct Items<V> {
    items: Vec<Item<V>>,
    base: u32,
}

impl<V: Copy> Items<V> {
    fn new(facts: &Facts) -> Self {
        let known = facts.last_key_value().map_or(0, |(&slot, _)| slot + 1);
        let item = |slot| match facts.get(&slot) {
            Some(Fact::Is(word)) => Item::Const(*word, None),
            Some(Fact::NonZero) | None => Item::Entry(slot),
        };
        Self { items: (0..known).rev().map(item).collect(), base: known }
    }

    fn len(&self) -> u32 {
        self.items.len() as u32
    }

    /// The item at `depth`, 0 being the top.
    pub(crate) fn get(&self, depth: u32) -> Item<V> {
        match self.len().checked_sub(depth + 1) {
            Some(at) => self.items[at as usize],
            None => Item::Entry(self.base + (depth - self.len())),
        }
    }

    fn pop(&mut self) -> Item<V> {
        self.items.pop().unwrap_or_else(|| {
            self.base += 1;
            Item::Entry(self.base - 1)
        })
    }

    fn swap(&mut self, a: u32, b: u32) {
        while self.len() <= a.max(b) {
            self.items.insert(0, Item::Entry(self.base));
            self.base += 1;
        }
        let last = self.items.len() - 1;
        self.items.swap(last - a as usize, last - b as usize);
    }

    /// Replaces the `gone` upper items by `new`, the top first.
    pub(crate) fn replace(&mut self, gone: u32, new: &[Item<V>]) {
        for _ in 0..gone {
            self.pop();
        }
        self.items.extend(new.iter().rev());
    }
}

/// Sees the instructions that are more than stack traffic.
pub(crate) trait Sink {
    /// What stands for a computed value.
    type Value: Copy;
    /// What can go wrong.
    type Error;
    /// An instruction with its operands, the top of the stack first. Gives the result if the opcode has one.
    fn op(&mut self, inst: Inst, byte: u8, args: &[Item<Self::Value>]) -> Result<Option<Self::Value>, Self::Error>;
}

/// The stack at the end of a block, without the operands of the jump, and those: the target, the condition of a JUMPI.
pub(crate) struct Walked<V> {
    pub(crate) stack: Items<V>,
    pub(crate) target: Option<Item<V>>,
    pub(crate) condition: Option<Item<V>>,
}

/// Walks over `block`, of whose entry stack `facts` are known.
pub(crate) fn walk<S: Sink>(block: &CodeBlock, facts: &Facts, sink: &mut S) -> Result<Walked<S::Value>, S::Error> {
    let mut stack = Items::new(facts);
    for inst in &block.insts {
        match inst.kind {
            Kind::Push(word) => stack.items.push(Item::Const(word, Some(inst.pc))),
            Kind::Dup(depth) => {
                let item = stack.get(depth);
                stack.items.push(item);
            }
            Kind::Swap(a, b) => stack.swap(a, b),
            Kind::Pop => {
                stack.pop();
            }
            Kind::Jump | Kind::Jumpi | Kind::Jumpdest | Kind::Invalid => {}
            Kind::Op(byte) => {
                let (inputs, outputs) = decode::stack_io(byte);
                let args: Vec<_> = (0..inputs).map(|_| stack.pop()).collect();
                let value = sink.op(*inst, byte, &args)?;
                if outputs > 0 {
                    stack.items.push(value.map_or(Item::Dead, Item::Value));
                }
            }
        }
    }
    let (target, condition) = match block.exit {
        Exit::Jump => (Some(stack.pop()), None),
        Exit::Jumpi(_) => {
            let target = stack.pop();
            (Some(target), Some(stack.pop()))
        }
        Exit::Fall(_) | Exit::Halt | Exit::End => (None, None),
    };
    Ok(Walked { stack, target, condition })
}
