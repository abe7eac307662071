//! Entities: small indices that stand for the parts of a module, each with the prefix it is printed with.
//!
//! `Block`, `Value` and `Inst` belong to one [`crate::Function`]; `Func` and `Data` to a [`crate::Module`]. An entity
//! of one owner means nothing in another.

use cranelift_entity::entity_impl;

/// A function of a module, `fn0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Func(u32);
entity_impl!(Func, "fn");

/// A constant byte string of a module, `data0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Data(u32);
entity_impl!(Data, "data");

/// A basic block of a function, `block0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block(u32);
entity_impl!(Block, "block");

/// An SSA value of a function, `v0`: a block parameter or a result of an instruction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(u32);
entity_impl!(Value, "v");

/// An instruction of a function, `inst0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inst(u32);
entity_impl!(Inst, "inst");
