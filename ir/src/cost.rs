//! What code costs: one trait, two models.
//!
//! Passes that trade (one thing gets cheaper, another dearer) ask the model of whom they serve and know neither gas nor
//! rows. [`Gas`] is that of the EVM, by what its fork can do; [`Rows`] is that of the circuit, from the table that is
//! measured on its gadgets. Both are estimates that rank choices: nothing is metered by them, and no outcome depends on them.
//! Passes that only ever make something cheaper ask nobody; a test compares what each rule of [`crate::passes::fold`] costs
//! before and after in both models.

pub mod gas;
pub mod rows;

use core::fmt::Debug;

use crate::Word;
use crate::entities::{Inst, Value};
use crate::function::Function;
use crate::opcode::Opcode;
use crate::types::Type;

pub use gas::Gas;
pub use rows::Rows;

/// What cannot be had at any price. Sums of a few such prices do not wrap.
pub const NEVER: u64 = u64::MAX / 1024;

/// An operand, as far as costs depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// A value of a type.
    Value(Type),
    /// A constant.
    Constant(Word),
}

impl Operand {
    /// The operand that a value of a function is.
    pub fn of(func: &Function, value: Value) -> Self {
        func.constant(value).map_or_else(|| Self::Value(func.ty(value)), Self::Constant)
    }

    /// The width of the narrowest type that holds it, in bits.
    pub fn bits(&self) -> u16 {
        match self {
            Self::Value(ty) => ty.bits(),
            Self::Constant(word) => Type::of(word).bits(),
        }
    }
}

/// What instructions, values and branches cost. A model has one unit for what is paid whenever code is executed (*price*:
/// gas, rows) and one for what is paid for its being there (*room*: bytes, rows).
pub trait CostModel: Debug + Sync {
    /// The price of executing an instruction, its operands brought to it included; [`NEVER`] where it cannot be executed.
    fn price(&self, opcode: Opcode, operands: &[Operand]) -> u64;

    /// The room that an instruction takes, its operands brought to it included.
    fn room(&self, opcode: Opcode, operands: &[Operand]) -> u64;

    /// The price of a branch on a condition that was just computed.
    fn branch(&self) -> u64;

    /// The price of choosing one of sixteen ways by a number that was just computed; `None` where there is nothing but
    /// comparisons, and all of them are paid for whichever way is taken.
    fn table(&self) -> Option<u64>;

    /// The price of having a value in another block than the one that computes it, instead of computing it there.
    fn carry(&self, ty: Type) -> u64;

    /// The price of going on elsewhere in the code: around a loop, or to code that several paths share.
    fn jump(&self) -> u64;

    /// The price of a call within the module, with so many arguments and results.
    fn call(&self, arguments: usize, results: usize) -> u64;

    /// What a word is cheaper as a value than in memory at a known address, where it is only hashed, logged or returned. Zero:
    /// it goes through memory in any case.
    fn memory_word(&self) -> u64;

    /// Whether a price saved in every execution is worth so much room.
    fn is_worth(&self, saved: u64, room: u64) -> bool;

    /// The most room that code without branches is given in the place of a loop.
    fn straight_line(&self) -> u64;

    /// The number of instructions beyond which no function is made to grow.
    fn largest_function(&self) -> usize;
}

fn operands(func: &Function, inst: Inst) -> Vec<Operand> {
    func.insts[inst].args.iter().map(|&value| Operand::of(func, value)).collect()
}

/// The price of an instruction as it stands in a function.
pub fn price_of(costs: &dyn CostModel, func: &Function, inst: Inst) -> u64 {
    let data = &func.insts[inst];
    match data.opcode {
        Opcode::Call => costs.call(data.args.len(), data.results.len()),
        opcode => costs.price(opcode, &operands(func, inst)),
    }
}

/// The room of an instruction as it stands in a function.
pub fn room_of(costs: &dyn CostModel, func: &Function, inst: Inst) -> u64 {
    costs.room(func.insts[inst].opcode, &operands(func, inst))
}

/// The room of a whole function.
pub fn room_of_function(costs: &dyn CostModel, func: &Function) -> u64 {
    func.insts_in_order().fold(0, |sum, (_, inst)| sum.saturating_add(room_of(costs, func, inst)))
}
