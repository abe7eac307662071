//! The ZVM IR: a typed SSA form whose every instruction means the same on the EVM and in a circuit.
//!
//! This crate knows nothing about bytecode, about the EVM's stack, or about constraint systems.

pub mod builder;
pub mod cfg;
pub mod cost;
pub mod dot;
pub mod entities;
pub mod env;
pub mod eval;
pub mod function;
pub mod host;
pub mod interp;
pub mod memory;
pub mod opcode;
pub mod outcome;
pub mod parse;
pub mod passes;
pub mod print;
pub mod reach;
pub mod reference;
pub mod stats;
pub mod storage_paths;
pub mod types;
pub mod verify;
pub mod work;

pub use builder::Cursor;
pub use dot::dot;
pub use entities::{Block, Data, Func, Inst, Value};
pub use env::Env;
pub use eval::{EvalError, eval};
pub use function::{
    BlockCall, BlockData, Function, Imm, InstData, Module, Pc, STACK_LIMIT, StackUse, ValueData, ValueDef,
};
pub use host::{EmptyState, Host, Ledger, PreState};
pub use interp::{Call, Event, Foreign, InterpError, Machine, Observer, Returned, Values, run, run_observed};
pub use opcode::{Class, Effects, ImmKind, Opcode, OpcodeInfo, Rule, TrapCode, WidthError};
pub use outcome::{Address, Halt, Log, Outcome};
pub use parse::{ParseError, ParseErrorKind, parse};
pub use print::Labels;
pub use stats::{Change, Stats};
pub use storage_paths::StoragePaths;
pub use types::Type;
pub use verify::{VerifyError, VerifyErrorKind, verify};

/// A 256-bit word.
pub type Word = ruint::Uint<256, 4>;
