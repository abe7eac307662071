//! Gas and bytes of code, by what the fork can do.
//!
//! Figures are those of the Yellow Paper's appendix G and of the EIPs that changed them; storage and accounts as if they were
//! touched before (EIP-2929). An operand is one DUP or PUSH. The EVM backend has the same figures for what it emits; a test of
//! it compares them.

use super::{CostModel, NEVER, Operand};
use crate::opcode::Opcode;
use crate::types::Type;

/// A DUP, a PUSH or a SWAP.
const VERY_LOW: u64 = 3;
/// Instructions that read an input, and PUSH0.
const BASE: u64 = 2;
const LOW: u64 = 5;
const JUMPDEST: u64 = 1;
const JUMP: u64 = 8;
const JUMPI: u64 = 10;
/// A byte of the exponent of EXP.
const EXP_BYTE: u64 = 50;
/// A topic of a log, and a log without any.
const LOG: u64 = 375;
/// CLZ by comparisons and shifts: a step for each of the eight bits of its result.
const CLZ_STEPS: u64 = 8 * 18;
/// MCOPY as a call of the identity contract.
const COPYING_CALL: u64 = 140;
/// DUP and a PUSH of the table's place, a PUSH of the distance and SHR, a mask, JUMP, JUMPDEST.
const TABLE: u64 = 36;

/// The cost model of the EVM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gas {
    /// Whether there is PUSH0 (EIP-3855).
    pub push0: bool,
    /// Whether there is MCOPY (EIP-5656); before it, copies are loops or calls of the identity contract.
    pub mcopy: bool,
    /// Whether there is CLZ (EIP-7939); before it, it is a dozen comparisons and shifts.
    pub clz: bool,
}

impl Default for Gas {
    fn default() -> Self {
        Self::NEWEST
    }
}

impl Gas {
    /// The newest fork.
    pub const NEWEST: Self = Self { push0: true, mcopy: true, clz: true };

    /// The static gas of the EVM instruction that the instruction becomes; `None` where it becomes none or several.
    pub const fn of(opcode: Opcode) -> Option<u64> {
        Some(match opcode {
            // What it becomes depends on where it stands, or is nothing.
            Opcode::Iconst
            | Opcode::Zext
            | Opcode::Narrow
            | Opcode::Trunc
            | Opcode::Select
            | Opcode::Bound
            | Opcode::Immutable
            | Opcode::KeccakWords
            | Opcode::KeccakF
            | Opcode::FrameLoad
            | Opcode::FrameStore
            | Opcode::LogWords
            | Opcode::Note
            | Opcode::ReturnWords
            | Opcode::RevertWords
            | Opcode::Log
            | Opcode::Call
            | Opcode::Jump
            | Opcode::Brif
            | Opcode::Ret => return None,
            Opcode::Add | Opcode::Sub | Opcode::Wadd | Opcode::Wsub => VERY_LOW,
            Opcode::Mul | Opcode::Wmul | Opcode::Udiv | Opcode::Urem | Opcode::Sdiv | Opcode::Srem => LOW,
            Opcode::Signextend | Opcode::Clz | Opcode::Selfbalance => LOW,
            Opcode::Addmod | Opcode::Mulmod => 8,
            Opcode::Exp => 10,
            Opcode::Iszero | Opcode::Eq | Opcode::Ult | Opcode::Slt => VERY_LOW,
            Opcode::And | Opcode::Or | Opcode::Xor | Opcode::Not | Opcode::Byte => VERY_LOW,
            Opcode::Shl | Opcode::Shr | Opcode::Sar => VERY_LOW,
            Opcode::Keccak256 => 30,
            Opcode::Mload | Opcode::Mstore | Opcode::Mstore8 | Opcode::Mcopy | Opcode::Blobhash => VERY_LOW,
            Opcode::Calldataload | Opcode::Calldatacopy | Opcode::Datacopy | Opcode::Returndatacopy => VERY_LOW,
            Opcode::Msize
            | Opcode::Calldatasize
            | Opcode::Address
            | Opcode::Caller
            | Opcode::Origin
            | Opcode::Callvalue
            | Opcode::Gasprice
            | Opcode::Coinbase
            | Opcode::Timestamp
            | Opcode::Number
            | Opcode::Prevrandao
            | Opcode::Gaslimit
            | Opcode::Chainid
            | Opcode::Basefee
            | Opcode::Blobbasefee
            | Opcode::Gas
            | Opcode::Returndatasize => BASE,
            Opcode::Blockhash => 20,
            Opcode::Balance | Opcode::Extcodesize | Opcode::Extcodehash | Opcode::Extcodecopy => 100,
            Opcode::Sload | Opcode::Tload | Opcode::Sstore | Opcode::Tstore => 100,
            Opcode::EvmCall | Opcode::EvmCallcode | Opcode::EvmDelegatecall | Opcode::EvmStaticcall => 100,
            Opcode::EvmCreate | Opcode::EvmCreate2 => 32_000,
            Opcode::Stop | Opcode::Return | Opcode::Revert | Opcode::Trap => 0,
            Opcode::Selfdestruct => 5_000,
        })
    }

    fn operand(&self, operand: &Operand) -> u64 {
        match operand {
            Operand::Constant(word) if word.is_zero() && self.push0 => BASE,
            Operand::Constant(_) | Operand::Value(_) => VERY_LOW,
        }
    }

    /// The bytes of a DUP, or of a PUSH and its immediate.
    fn operand_room(&self, operand: &Operand) -> u64 {
        match operand {
            Operand::Value(_) => 1,
            Operand::Constant(word) if word.is_zero() && self.push0 => 1,
            Operand::Constant(word) => 1 + u64::from(Type::of(word).bits().div_ceil(8)),
        }
    }
}

impl CostModel for Gas {
    fn price(&self, opcode: Opcode, operands: &[Operand]) -> u64 {
        let count = operands.len() as u64;
        let own = match opcode {
            // A `bound` is the access that it speaks of; an extension is the word that it was; constants count where they are used.
            Opcode::Zext | Opcode::Narrow | Opcode::Bound | Opcode::Iconst | Opcode::Note => return 0,
            Opcode::Immutable => return VERY_LOW,
            // A mask.
            Opcode::Trunc => 2 * VERY_LOW,
            // b ^ ((a ^ b) · c).
            Opcode::Select => LOW + 3 * VERY_LOW,
            Opcode::Clz if !self.clz => CLZ_STEPS,
            Opcode::Mcopy if !self.mcopy => COPYING_CALL,
            Opcode::Exp => {
                let bits = operands.get(1).map_or(256, Operand::bits);
                10 + EXP_BYTE * u64::from(bits.div_ceil(8))
            }
            // A store for each word, at a place that is pushed.
            Opcode::KeccakWords => 30 + 2 * VERY_LOW * (count + 1),
            Opcode::ReturnWords | Opcode::RevertWords => 2 * VERY_LOW * (count + 1),
            Opcode::LogWords => LOG + 2 * VERY_LOW * (count + 1),
            Opcode::Log => LOG * count.saturating_sub(1).max(1),
            Opcode::Call => return self.call(operands.len(), 0),
            Opcode::Jump => VERY_LOW + JUMP + JUMPDEST,
            Opcode::Brif => return self.branch(),
            Opcode::Ret => JUMP,
            opcode => Self::of(opcode).unwrap_or(NEVER),
        };
        own + operands.iter().map(|operand| self.operand(operand)).sum::<u64>()
    }

    fn room(&self, opcode: Opcode, operands: &[Operand]) -> u64 {
        let own = match opcode {
            Opcode::Zext | Opcode::Narrow | Opcode::Bound | Opcode::Iconst | Opcode::Note => return 0,
            Opcode::Immutable => 33,
            Opcode::Trunc => 2 + u64::from(operands.first().map_or(256, Operand::bits).div_ceil(8)),
            Opcode::Select => 5,
            Opcode::Clz if !self.clz => CLZ_STEPS / VERY_LOW,
            Opcode::Mcopy if !self.mcopy => COPYING_CALL / VERY_LOW,
            Opcode::KeccakWords | Opcode::LogWords | Opcode::ReturnWords | Opcode::RevertWords => {
                3 + 3 * operands.len() as u64
            }
            // PUSH2 and a jump, mostly behind JUMPDEST.
            Opcode::Jump | Opcode::Brif => 5,
            // Two places are pushed, one jump is made, one is come back to.
            Opcode::Call => 8,
            _ => 1,
        };
        own + operands.iter().map(|operand| self.operand_room(operand)).sum::<u64>()
    }

    fn branch(&self) -> u64 {
        VERY_LOW + JUMPI
    }

    fn table(&self) -> Option<u64> {
        Some(TABLE)
    }

    fn carry(&self, _: Type) -> u64 {
        VERY_LOW
    }

    fn jump(&self) -> u64 {
        VERY_LOW + JUMP + JUMPDEST
    }

    fn call(&self, arguments: usize, results: usize) -> u64 {
        // The places to go to and to come back to are pushed; what is passed is brought in order, there and back.
        2 * (VERY_LOW + JUMP + JUMPDEST) + VERY_LOW * (arguments + results) as u64
    }

    fn memory_word(&self) -> u64 {
        0
    }

    fn is_worth(&self, saved: u64, room: u64) -> bool {
        // A byte of code is 200 gas when it is deployed, and a program is taken to run 200 times.
        saved >= room
    }

    fn straight_line(&self) -> u64 {
        // Six words from memory to memory, at 17 bytes each.
        102
    }

    fn largest_function(&self) -> usize {
        20_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Word;

    #[test]
    fn every_instruction_has_a_price() {
        for model in [Gas::NEWEST, Gas { push0: false, mcopy: false, clz: false }] {
            for &opcode in Opcode::ALL {
                let operands = vec![Operand::Value(Type::WORD); opcode.info().operands.len()];
                let is_circuits = matches!(opcode, Opcode::KeccakF | Opcode::FrameLoad | Opcode::FrameStore);
                assert_eq!(model.price(opcode, &operands) < NEVER, !is_circuits, "{opcode}");
            }
        }
    }

    #[test]
    fn older_forks_are_dearer() {
        let old = Gas { push0: false, mcopy: false, clz: false };
        let [word, zero] = [Operand::Value(Type::WORD), Operand::Constant(Word::ZERO)];
        let dearer = [(Opcode::Clz, vec![word]), (Opcode::Mcopy, vec![word; 3]), (Opcode::Mload, vec![zero])];
        for (opcode, operands) in dearer {
            assert!(old.price(opcode, &operands) > Gas::NEWEST.price(opcode, &operands), "{opcode}");
        }
        assert!(old.room(Opcode::Mload, &[zero]) > Gas::NEWEST.room(Opcode::Mload, &[zero]));
    }

    #[test]
    fn a_comparison_with_a_branch_is_what_the_yellow_paper_says() {
        // DUP, PUSH, EQ, PUSH, JUMPI.
        let operands = [Operand::Value(Type::WORD), Operand::Constant(Word::from(7))];
        assert_eq!(Gas::NEWEST.price(Opcode::Eq, &operands) + Gas::NEWEST.branch(), 3 + 3 + 3 + 3 + 10);
    }
}
