//! The rows of each instruction's gadget, as the circuit measures them.
//!
//! The lines are those of `docs/circuit-costs.md`, which is measured on the gadgets; a test of the circuit compares this file with
//! what it measures. What the circuit estimates of accesses and hashes is compared in the same place.

use crate::opcode::Opcode;

/// What an instruction costs for operands of some widths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByWidth {
    /// The instruction.
    pub opcode: Opcode,
    /// The widths of its operands, in bits.
    pub widths: &'static [u16],
    /// Rows if nothing is known of the operands but their ranges.
    pub cold: u64,
    /// Rows if the operands' bits are known.
    pub bits: u64,
}

/// An operand of a line with constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// A value of so many bits, of which nothing else is known.
    Typed(u16),
    /// A value of so many bits, which are known one by one.
    Bits(u16),
    /// A constant.
    Constant(u64),
}

/// What an instruction costs where an operand is a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The instruction.
    pub opcode: Opcode,
    /// Its operands.
    pub operands: &'static [Known],
    /// Rows.
    pub rows: u64,
}

const fn line(opcode: Opcode, widths: &'static [u16], cold: u64, bits: u64) -> ByWidth {
    ByWidth { opcode, widths, cold, bits }
}

const fn fixed(opcode: Opcode, operands: &'static [Known], rows: u64) -> Fixed {
    Fixed { opcode, operands, rows }
}

use Known::{Bits, Constant, Typed};

/// Rows of an access to memory or storage, its share of the hash of what is looked up included.
pub const ACCESS: u64 = 98;
/// Rows of a word of calldata at a computed place, in the same way.
pub const LOOKUP: u64 = 65;
/// Rows of a block of data that is hashed for the outcome, or of a log.
pub const HASH: u64 = 400;

/// By width.
pub const BY_WIDTH: &[ByWidth] = &[
    line(Opcode::Add, &[255, 255], 129, 129),
    line(Opcode::Add, &[252, 252], 253, 253),
    line(Opcode::Add, &[128, 128], 0, 0),
    line(Opcode::Add, &[64, 64], 0, 0),
    line(Opcode::Sub, &[256, 256], 129, 129),
    line(Opcode::Sub, &[256, 64], 129, 129),
    line(Opcode::Sub, &[128, 128], 0, 0),
    line(Opcode::Sub, &[64, 64], 0, 0),
    line(Opcode::Mul, &[128, 128], 517, 261),
    line(Opcode::Mul, &[192, 64], 386, 194),
    line(Opcode::Mul, &[64, 64], 1, 1),
    line(Opcode::Wadd, &[256, 256], 258, 258),
    line(Opcode::Wadd, &[256, 64], 132, 132),
    line(Opcode::Wadd, &[128, 128], 0, 0),
    line(Opcode::Wadd, &[64, 64], 0, 0),
    line(Opcode::Wsub, &[256, 256], 258, 258),
    line(Opcode::Wsub, &[256, 64], 132, 132),
    line(Opcode::Wsub, &[128, 128], 129, 129),
    line(Opcode::Wsub, &[64, 64], 65, 65),
    line(Opcode::Wmul, &[256, 256], 831, 319),
    line(Opcode::Wmul, &[256, 64], 386, 311),
    line(Opcode::Wmul, &[128, 128], 517, 261),
    line(Opcode::Wmul, &[64, 64], 1, 1),
    line(Opcode::Udiv, &[256, 256], 840, 620),
    line(Opcode::Udiv, &[256, 64], 455, 412),
    line(Opcode::Udiv, &[128, 128], 426, 325),
    line(Opcode::Udiv, &[64, 64], 196, 153),
    line(Opcode::Urem, &[256, 256], 840, 620),
    line(Opcode::Urem, &[256, 64], 455, 412),
    line(Opcode::Urem, &[128, 128], 426, 325),
    line(Opcode::Urem, &[64, 64], 196, 153),
    line(Opcode::Sdiv, &[256, 256], 1112, 856),
    line(Opcode::Sdiv, &[256, 64], 594, 423),
    line(Opcode::Sdiv, &[128, 128], 426, 325),
    line(Opcode::Sdiv, &[64, 64], 196, 153),
    line(Opcode::Srem, &[256, 256], 1111, 855),
    line(Opcode::Srem, &[256, 64], 591, 420),
    line(Opcode::Srem, &[128, 128], 426, 325),
    line(Opcode::Srem, &[64, 64], 196, 153),
    line(Opcode::Addmod, &[256, 256, 256], 839, 619),
    line(Opcode::Addmod, &[64, 64, 64], 197, 154),
    line(Opcode::Mulmod, &[256, 256, 256], 1578, 961),
    line(Opcode::Mulmod, &[64, 64, 64], 261, 218),
    line(Opcode::Exp, &[256, 2], 928, 670),
    line(Opcode::Exp, &[256, 8], 4858, 4594),
    line(Opcode::Signextend, &[256, 256], 193, 94),
    line(Opcode::Signextend, &[8, 256], 185, 94),
    line(Opcode::Signextend, &[8, 64], 120, 48),
    line(Opcode::Iszero, &[256], 2, 2),
    line(Opcode::Iszero, &[128], 2, 2),
    line(Opcode::Iszero, &[64], 2, 2),
    line(Opcode::Eq, &[256, 256], 5, 5),
    line(Opcode::Eq, &[256, 64], 5, 5),
    line(Opcode::Eq, &[128, 128], 2, 2),
    line(Opcode::Eq, &[64, 64], 2, 2),
    line(Opcode::Ult, &[256, 256], 132, 40),
    line(Opcode::Ult, &[256, 64], 132, 40),
    line(Opcode::Ult, &[128, 128], 129, 30),
    line(Opcode::Ult, &[64, 64], 65, 22),
    line(Opcode::Slt, &[256, 256], 262, 42),
    line(Opcode::Slt, &[256, 64], 261, 41),
    line(Opcode::Slt, &[128, 128], 129, 30),
    line(Opcode::Slt, &[64, 64], 65, 22),
    line(Opcode::Select, &[1, 256, 256], 2, 2),
    line(Opcode::Select, &[1, 64, 64], 1, 1),
    line(Opcode::And, &[256, 256], 768, 256),
    line(Opcode::And, &[256, 64], 256, 64),
    line(Opcode::And, &[128, 128], 384, 128),
    line(Opcode::And, &[64, 64], 192, 64),
    line(Opcode::Or, &[256, 256], 768, 256),
    line(Opcode::Or, &[256, 64], 384, 64),
    line(Opcode::Or, &[128, 128], 384, 128),
    line(Opcode::Or, &[64, 64], 192, 64),
    line(Opcode::Xor, &[256, 256], 768, 256),
    line(Opcode::Xor, &[256, 64], 384, 64),
    line(Opcode::Xor, &[128, 128], 384, 128),
    line(Opcode::Xor, &[64, 64], 192, 64),
    line(Opcode::Not, &[256], 0, 0),
    line(Opcode::Not, &[128], 0, 0),
    line(Opcode::Not, &[64], 0, 0),
    line(Opcode::Shl, &[256, 256], 362, 328),
    line(Opcode::Shl, &[8, 256], 333, 325),
    line(Opcode::Shl, &[8, 64], 122, 114),
    line(Opcode::Shr, &[256, 256], 362, 328),
    line(Opcode::Shr, &[8, 256], 333, 325),
    line(Opcode::Shr, &[8, 64], 106, 98),
    line(Opcode::Sar, &[256, 256], 494, 332),
    line(Opcode::Sar, &[8, 256], 465, 329),
    line(Opcode::Sar, &[8, 64], 106, 98),
    line(Opcode::Byte, &[256, 256], 163, 34),
    line(Opcode::Byte, &[8, 256], 155, 34),
    line(Opcode::Byte, &[8, 64], 84, 12),
    line(Opcode::Clz, &[256], 335, 79),
    line(Opcode::Clz, &[128], 183, 55),
    line(Opcode::Clz, &[64], 107, 43),
    line(Opcode::KeccakWords, &[256], 91264, 91008),
    line(Opcode::KeccakWords, &[256, 256], 92224, 91712),
    line(Opcode::KeccakWords, &[160, 256], 92032, 91616),
];

/// With a constant operand.
pub const FIXED: &[Fixed] = &[
    fixed(Opcode::Wadd, &[Typed(256), Constant(1)], 5),
    fixed(Opcode::Wadd, &[Typed(256), Constant(32)], 132),
    fixed(Opcode::Wsub, &[Typed(256), Constant(1)], 5),
    fixed(Opcode::Wsub, &[Constant(0), Typed(256)], 5),
    fixed(Opcode::Wmul, &[Typed(256), Constant(10)], 264),
    fixed(Opcode::Udiv, &[Typed(256), Constant(10)], 267),
    fixed(Opcode::Udiv, &[Typed(64), Constant(10)], 70),
    fixed(Opcode::Urem, &[Typed(64), Constant(10)], 70),
    fixed(Opcode::Udiv, &[Bits(256), Constant(8)], 0),
    fixed(Opcode::Eq, &[Typed(256), Constant(10)], 5),
    fixed(Opcode::Ult, &[Typed(256), Constant(200)], 132),
    fixed(Opcode::Ult, &[Typed(64), Constant(10)], 65),
    fixed(Opcode::And, &[Typed(256), Constant(u64::MAX)], 128),
    fixed(Opcode::Or, &[Bits(256), Constant(128)], 0),
    fixed(Opcode::Shl, &[Constant(224), Typed(256)], 128),
    fixed(Opcode::Shr, &[Constant(224), Typed(256)], 128),
    fixed(Opcode::Shr, &[Constant(3), Bits(256)], 0),
    fixed(Opcode::Shl, &[Bits(8), Constant(1)], 16),
    fixed(Opcode::Sar, &[Constant(3), Bits(256)], 0),
    fixed(Opcode::Byte, &[Constant(3), Bits(256)], 0),
    fixed(Opcode::Signextend, &[Constant(3), Bits(256)], 0),
    fixed(Opcode::Exp, &[Constant(2), Typed(8)], 24),
    fixed(Opcode::Exp, &[Constant(10), Typed(8)], 1201),
    fixed(Opcode::Exp, &[Typed(64), Constant(3)], 2),
];
