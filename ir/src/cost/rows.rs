//! Rows of the circuit, from the table that is measured on its gadgets.
//!
//! An instruction costs what the narrowest measured operands cost that are not narrower than its own ([`table`]). In a circuit
//! code is paid for whether it runs or not, so that price and room are the same.

pub mod table;

use super::{CostModel, NEVER, Operand};
use crate::opcode::{Effects, Opcode};
use crate::types::Type;
use table::{ACCESS, BY_WIDTH, ByWidth, FIXED, Fixed, HASH, Known, LOOKUP};

/// A permutation of Keccak-256, beyond the one that the table's lines have.
const PERMUTATION: u64 = 92_160;
/// The bytes that a permutation takes.
const RATE: u64 = 136;
/// A limb of a state register: a product where a slot reads it, and one where a slot replaces it.
const REGISTER: u64 = 2;
/// Passing control from one slot to the next: the label, and whether the slot runs.
const SLOT: u64 = 8;
/// Wider values have two limbs.
const ONE_LIMB: u16 = 252;
/// A limb that is taken apart into bits.
const LIMB_BITS: u16 = 128;

/// The cost model of the circuit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows;

impl Rows {
    /// The rows of a pure instruction with operands of these widths, of which nothing else is known; `None` if it is not in the
    /// table.
    pub fn by_width(opcode: Opcode, widths: &[u16]) -> Option<u64> {
        let lines = || BY_WIDTH.iter().filter(|line| line.opcode == opcode && line.widths.len() == widths.len());
        let fits = |line: &&ByWidth| line.widths.iter().zip(widths).all(|(measured, width)| measured >= width);
        // Nothing was measured that wide: the dearest will do.
        lines().filter(fits).map(|line| line.cold).min().or_else(|| lines().map(|line| line.cold).max())
    }

    /// The rows of an instruction some of whose operands are constants, if there is a line with constants in their place. Of
    /// lines that differ in the constant alone the dearest counts.
    pub fn with_constants(opcode: Opcode, operands: &[Operand]) -> Option<u64> {
        let fits = |line: &&Fixed| {
            line.opcode == opcode
                && line.operands.len() == operands.len()
                && line.operands.iter().zip(operands).all(|pair| match pair {
                    (Known::Constant(_), Operand::Constant(_)) => true,
                    (Known::Typed(measured), Operand::Value(ty)) => *measured >= ty.bits(),
                    _ => false,
                })
        };
        let widths = |line: &Fixed| -> u32 {
            let width = |known: &Known| match known {
                Known::Typed(bits) | Known::Bits(bits) => u32::from(*bits),
                Known::Constant(_) => 0,
            };
            line.operands.iter().map(width).sum()
        };
        let narrowest = FIXED.iter().filter(fits).map(widths).min()?;
        FIXED.iter().filter(fits).filter(|line| widths(line) == narrowest).map(|line| line.rows).max()
    }
}

impl CostModel for Rows {
    fn price(&self, opcode: Opcode, operands: &[Operand]) -> u64 {
        let effects = opcode.effects();
        let outside =
            [Effects::READS_ACCOUNTS, Effects::WRITES_ACCOUNTS, Effects::READS_RETURN_DATA, Effects::READS_GAS];
        // Copies of bytes are made words of before.
        let copies = [Opcode::Calldatacopy, Opcode::Mcopy, Opcode::Datacopy, Opcode::Msize];
        if copies.contains(&opcode) || outside.into_iter().any(|effect| effects.has(effect)) {
            return NEVER;
        }
        let widths: Vec<u16> = operands.iter().map(Operand::bits).collect();
        match opcode {
            Opcode::KeccakWords => {
                let bytes = 32 * operands.len() as u64;
                let measured = BY_WIDTH.iter().filter(|line| line.opcode == opcode).map(|line| line.cold).max();
                return measured.unwrap_or(PERMUTATION) + bytes / RATE * PERMUTATION;
            }
            Opcode::Keccak256 | Opcode::KeccakF => return PERMUTATION,
            Opcode::Trunc => return widths.first().map_or(0, |&bits| u64::from(bits.min(LIMB_BITS))),
            Opcode::Calldataload => return LOOKUP,
            Opcode::Log | Opcode::LogWords | Opcode::Note => return HASH,
            Opcode::Call => return self.call(operands.len(), 0),
            Opcode::Brif => return self.branch(),
            _ => {}
        }
        let touches = [
            Effects::READS_MEMORY,
            Effects::WRITES_MEMORY,
            Effects::READS_STORAGE,
            Effects::WRITES_STORAGE,
            Effects::READS_TRANSIENT,
            Effects::WRITES_TRANSIENT,
            Effects::READS_FRAMES,
            Effects::WRITES_FRAMES,
        ];
        if touches.into_iter().any(|effect| effects.has(effect)) {
            return ACCESS;
        }
        // What is computed of constants alone is folded.
        if !operands.is_empty() && operands.iter().all(|operand| matches!(operand, Operand::Constant(_))) {
            return 0;
        }
        // Both are upper bounds. What is not in the table, an input or a change of width, has no rows.
        let fixed = Self::with_constants(opcode, operands);
        Self::by_width(opcode, &widths).into_iter().chain(fixed).min().unwrap_or(0)
    }

    fn room(&self, opcode: Opcode, operands: &[Operand]) -> u64 {
        self.price(opcode, operands)
    }

    fn branch(&self) -> u64 {
        // Which blocks of a region run is one product for each.
        1
    }

    fn table(&self) -> Option<u64> {
        None
    }

    fn carry(&self, ty: Type) -> u64 {
        if ty.bits() > ONE_LIMB { 2 * REGISTER } else { REGISTER }
    }

    fn jump(&self) -> u64 {
        SLOT
    }

    fn call(&self, _arguments: usize, _results: usize) -> u64 {
        // There are no calls in a circuit: memory and widths are seen whole where everything is in one function.
        NEVER
    }

    fn memory_word(&self) -> u64 {
        ACCESS
    }

    fn is_worth(&self, saved: u64, room: u64) -> bool {
        // Whatever cannot be had is worth all the room that there is, with what cannot be had either in it.
        saved >= NEVER || saved >= room
    }

    fn straight_line(&self) -> u64 {
        // Eight words from memory to memory.
        8 * 2 * ACCESS
    }

    fn largest_function(&self) -> usize {
        60_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Word;

    #[test]
    fn what_can_be_proved_has_a_price() {
        for &opcode in Opcode::ALL.iter().filter(|opcode| opcode.is_pure()) {
            let operands = vec![Operand::Value(Type::WORD); opcode.info().operands.len()];
            assert!(Rows.price(opcode, &operands) < NEVER, "{opcode}");
        }
        assert_eq!(Rows.price(Opcode::Mcopy, &[]), NEVER);
        assert_eq!(Rows.price(Opcode::EvmCall, &[]), NEVER);
    }

    #[test]
    fn narrower_operands_cost_no_more() {
        for &ByWidth { opcode, widths, .. } in BY_WIDTH {
            let rows = |bits: u16| Rows::by_width(opcode, &vec![bits; widths.len()]);
            assert!(rows(64) <= rows(256), "{opcode} {:?} {:?}", rows(64), rows(256));
        }
        assert_eq!(Rows::by_width(Opcode::Wadd, &[64, 64]), Some(0));
        assert_eq!(Rows::by_width(Opcode::Iconst, &[]), None);
    }

    #[test]
    fn constants_cost_less() {
        let [word, ten] = [Operand::Value(Type::WORD), Operand::Constant(Word::from(10))];
        assert_eq!(Rows.price(Opcode::Wmul, &[word, ten]), 264);
        assert_eq!(Rows.price(Opcode::Wmul, &[word, word]), 831);
        // 1 and 32 are measured: for any constant the dearer counts, but never more than what no constant costs.
        assert_eq!(Rows.price(Opcode::Wadd, &[word, ten]), 132);
        assert_eq!(Rows.price(Opcode::Wadd, &[ten, ten]), 0);
    }

    #[test]
    fn there_are_no_calls() {
        assert!(Rows.is_worth(Rows.call(1, 1), 3 * NEVER) && !Rows.is_worth(98, 99));
    }

    #[test]
    fn longer_hashes_cost_more() {
        let words = |count| Rows.price(Opcode::KeccakWords, &vec![Operand::Value(Type::WORD); count]);
        assert!(words(1) == words(4) && words(4) < words(5), "{} {} {}", words(1), words(4), words(5));
    }
}
