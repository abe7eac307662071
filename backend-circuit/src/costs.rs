//! What instructions cost: rows, measured on the gadgets themselves.

use std::collections::BTreeMap;

use cranelift_entity::SecondaryMap;
use zvm_ir::{Block, Imm, Opcode, Type, Word as U256};

use crate::cs::CountCs;
use crate::error::CircuitError;
use crate::gadgets::{Lc, Word, limb_count, lower_pure};
use crate::legalize::{Legalized, Support, support, support_of};
use crate::nova::Fr;
use crate::registers::{Source, source};

/// An operand, as far as its gadget's cost depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operand {
    /// A value of a type, of which nothing else is known.
    Typed(u16),
    /// A value of a type whose bits are known.
    Bits(u16),
    /// A constant of a type.
    Constant(u16, U256),
}

impl Operand {
    /// The width of the type.
    pub const fn width(&self) -> u16 {
        match *self {
            Self::Typed(width) | Self::Bits(width) | Self::Constant(width, _) => width,
        }
    }
}

/// The rows of one instruction, without those that prepare its operands. With [`Operand::Typed`] an upper bound in a
/// program, where bits are shared.
///
/// # Errors
/// `NotProvable` for an instruction without a gadget, `Malformed` for operands that do not fit its row.
pub fn rows(opcode: Opcode, imm: Imm, operands: &[Operand], result: Type) -> Result<u64, CircuitError> {
    let mut cs = CountCs::<Fr>::default();
    let mut words = Vec::with_capacity(operands.len());
    for (index, operand) in operands.iter().enumerate() {
        let width = u32::from(operand.width());
        words.push(match *operand {
            Operand::Constant(_, value) => Word::constant(width, value),
            Operand::Bits(_) => Word::alloc_checked(&mut cs, width, None)?,
            Operand::Typed(_) => {
                let mut limbs = Vec::with_capacity(2);
                for limb in 0..limb_count(width) {
                    limbs.push(Lc::alloc(&mut cs, || format!("operand {index} limb {limb}"), None)?);
                }
                Word::from_limbs(width, &limbs)?
            }
        });
    }
    let before = cs.rows();
    lower_pure(&mut cs, opcode, imm, &words, result)?;
    Ok((cs.rows() - before) as u64)
}

/// The rows of an access, its share of the hash of advice included: an estimate, for the cost of blocks.
pub const ACCESS_ROWS: u64 = 98;
/// The rows of a lookup, in the same way.
pub const LOOKUP_ROWS: u64 = 65;
/// The rows of a block of data or of a log.
pub const HASH_ROWS: u64 = 400;
/// The rows of hashing one word besides a place.
const KEY_ROWS: u64 = 262;

/// Remembers measurements: programs repeat few combinations of instruction and widths.
#[derive(Clone, Debug, Default)]
pub struct Costs {
    known: BTreeMap<(Opcode, Option<u32>, Type, Vec<Operand>), u64>,
}

impl Costs {
    /// The rows of one instruction, as [`rows`].
    ///
    /// # Errors
    /// As [`rows`].
    pub fn rows(
        &mut self,
        opcode: Opcode,
        imm: Imm,
        operands: Vec<Operand>,
        result: Type,
    ) -> Result<u64, CircuitError> {
        let len = match imm {
            Imm::Len(len) => Some(len),
            _ => None,
        };
        let key = (opcode, len, result, operands);
        if let Some(&rows) = self.known.get(&key) {
            return Ok(rows);
        }
        let rows = rows(opcode, imm, &key.3, result)?;
        self.known.insert(key, rows);
        Ok(rows)
    }

    /// The rows of the gadgets of each block: not those of its predicates and parameters.
    ///
    /// # Errors
    /// As [`rows`].
    pub fn of_blocks(&mut self, program: &Legalized) -> Result<SecondaryMap<Block, u64>, CircuitError> {
        let func = &program.func;
        let mut blocks = SecondaryMap::new();
        for (block, inst) in func.insts_in_order() {
            let data = &func.insts[inst];
            let own = match support_of(func, data) {
                Support::Access => ACCESS_ROWS,
                Support::Lookup => LOOKUP_ROWS,
                Support::Log | Support::Note => HASH_ROWS,
                _ => 0,
            };
            blocks[block] += own;
            if let Some(layout) = program.places.layout(inst) {
                blocks[block] += KEY_ROWS * layout.hashes() as u64;
                continue;
            }
            if support(data.opcode) != Support::Gadget || matches!(data.opcode, Opcode::Iconst | Opcode::Zext) {
                continue;
            }
            // The words of a permutation are made at once.
            if data.opcode == Opcode::KeccakF && data.imm != Imm::Word(U256::ZERO) {
                continue;
            }
            let Some(result) = data.result() else { continue };
            let operand = |&value| match source(func, value) {
                Source::Constant(word) => Operand::Constant(func.ty(value).bits(), word),
                // An extension costs nothing and keeps the narrower bound.
                Source::Value(inner) => Operand::Typed(func.ty(inner).bits()),
            };
            let operands = data.args.iter().map(operand).collect();
            blocks[block] += self.rows(data.opcode, data.imm, operands, func.ty(result))?;
        }
        Ok(blocks)
    }
}
