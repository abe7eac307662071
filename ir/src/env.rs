//! The environment of an execution: who called whom with what, and in which block.

use crate::outcome::Address;
use crate::{Opcode, Word};

/// Everything an execution reads that is fixed while it runs, calldata apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Env {
    /// The account whose storage is used (ADDRESS).
    pub address: Address,
    /// Who called (CALLER).
    pub caller: Address,
    /// Who signed the transaction (ORIGIN).
    pub origin: Address,
    /// Wei sent with the call (CALLVALUE).
    pub callvalue: Word,
    /// Effective gas price (GASPRICE).
    pub gasprice: Word,
    /// The block's beneficiary (COINBASE).
    pub coinbase: Address,
    /// The block's time in seconds (TIMESTAMP).
    pub timestamp: Word,
    /// The block's number (NUMBER).
    pub number: Word,
    /// The beacon chain's randomness (PREVRANDAO).
    pub prevrandao: Word,
    /// The block's gas limit (GASLIMIT).
    pub gaslimit: Word,
    /// The chain's identifier (CHAINID).
    pub chainid: Word,
    /// The block's base fee (BASEFEE).
    pub basefee: Word,
    /// The block's blob base fee (BLOBBASEFEE).
    pub blobbasefee: Word,
    /// The balance of `address` after the value arrived (SELFBALANCE).
    pub selfbalance: Word,
}

impl Default for Env {
    /// A call of the account `0xcc…cc` by `0xca…ca` without value, in block 1 of chain 1.
    fn default() -> Self {
        Self {
            address: [0xcc; 20],
            caller: [0xca; 20],
            origin: [0xca; 20],
            callvalue: Word::ZERO,
            gasprice: Word::ZERO,
            coinbase: [0; 20],
            timestamp: Word::from(1),
            number: Word::from(1),
            prevrandao: Word::ZERO,
            gaslimit: Word::from(30_000_000),
            chainid: Word::from(1),
            basefee: Word::ZERO,
            blobbasefee: Word::from(1),
            selfbalance: Word::ZERO,
        }
    }
}

impl Env {
    /// What an environment instruction without operands reads; `None` for every other instruction.
    pub fn read(&self, opcode: Opcode) -> Option<Word> {
        Some(match opcode {
            Opcode::Address => address_word(&self.address),
            Opcode::Caller => address_word(&self.caller),
            Opcode::Origin => address_word(&self.origin),
            Opcode::Coinbase => address_word(&self.coinbase),
            Opcode::Callvalue => self.callvalue,
            Opcode::Gasprice => self.gasprice,
            Opcode::Timestamp => self.timestamp,
            Opcode::Number => self.number,
            Opcode::Prevrandao => self.prevrandao,
            Opcode::Gaslimit => self.gaslimit,
            Opcode::Chainid => self.chainid,
            Opcode::Basefee => self.basefee,
            Opcode::Blobbasefee => self.blobbasefee,
            Opcode::Selfbalance => self.selfbalance,
            _ => return None,
        })
    }
}

/// An address as the word the EVM pushes for it.
pub fn address_word(address: &Address) -> Word {
    Word::from_be_slice(address)
}

/// The address in the low 160 bits of a word; the EVM ignores the rest.
pub fn word_address(word: &Word) -> Address {
    let bytes = word.to_be_bytes::<32>();
    core::array::from_fn(|at| bytes[12 + at])
}
