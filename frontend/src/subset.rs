//! The subset: one row per EVM opcode, with the fork that introduced it, the IR it becomes, and its status in both rings.
//!
//! `docs/subset.md` is generated from this table. Names and stack effects are not repeated here: they come from revm's
//! opcode table; a test holds the two against each other.

use core::fmt;

use zvm_ir::Opcode as Ir;

use crate::decode;

/// A fork of Ethereum mainnet, named after its execution layer upgrade.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fork {
    /// 2015.
    Frontier,
    /// 2016: DELEGATECALL.
    Homestead,
    /// 2017: REVERT, STATICCALL, return data.
    Byzantium,
    /// 2019: shifts, EXTCODEHASH, CREATE2.
    Petersburg,
    /// 2019: CHAINID, SELFBALANCE.
    Istanbul,
    /// 2021: BASEFEE.
    London,
    /// 2023: PUSH0.
    Shanghai,
    /// 2024: transient storage, MCOPY, blobs.
    Cancun,
    /// 2025: no new opcodes.
    Prague,
    /// 2025: CLZ. The newest fork that is live.
    #[default]
    Osaka,
    /// Not live yet: DUPN, SWAPN, EXCHANGE (EIP-8024).
    Amsterdam,
}

impl Fork {
    /// All forks, oldest first.
    pub const ALL: [Self; 11] = [
        Self::Frontier,
        Self::Homestead,
        Self::Byzantium,
        Self::Petersburg,
        Self::Istanbul,
        Self::London,
        Self::Shanghai,
        Self::Cancun,
        Self::Prague,
        Self::Osaka,
        Self::Amsterdam,
    ];

    /// The name in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frontier => "frontier",
            Self::Homestead => "homestead",
            Self::Byzantium => "byzantium",
            Self::Petersburg => "petersburg",
            Self::Istanbul => "istanbul",
            Self::London => "london",
            Self::Shanghai => "shanghai",
            Self::Cancun => "cancun",
            Self::Prague => "prague",
            Self::Osaka => "osaka",
            Self::Amsterdam => "amsterdam",
        }
    }

    /// The fork of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fork| fork.name() == name)
    }
}

impl fmt::Display for Fork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether an opcode is in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Always.
    Full,
    /// When a condition holds, which the text states.
    Restricted(&'static str),
    /// Never, for the reason that the text gives.
    Rejected(&'static str),
}

impl Status {
    fn text(self) -> String {
        match self {
            Self::Full => "full".to_owned(),
            Self::Restricted(how) => format!("restricted: {how}"),
            Self::Rejected(why) => format!("rejected: {why}"),
        }
    }
}

/// What an opcode becomes in the IR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lowering {
    /// Stack traffic, jumps and constants: nothing of their own.
    None,
    /// An instruction with the operands in the order of the stack, top first.
    Ins(Ir),
    /// An instruction with its two operands exchanged.
    Swapped(Ir),
    /// CODECOPY.
    Codecopy,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The byte of the opcode; PUSH, DUP, SWAP and LOG have a row each.
    pub byte: u8,
    /// The first fork that has it. Before, the byte is an invalid instruction.
    pub since: Fork,
    /// What it becomes.
    pub(crate) lowering: Lowering,
    /// Its status in the L1 ring: lifted, interpreted and re-emitted.
    pub l1: Status,
    /// Its status in the proof ring: proved in a circuit.
    pub proof: Status,
}

impl Row {
    /// The name of the opcode.
    pub fn name(&self) -> &'static str {
        decode::name(self.byte)
    }

    /// Whether it ends the execution.
    pub(crate) fn halts(&self) -> bool {
        match self.lowering {
            Ins(ir) => ir.is_terminator(),
            Nothing | Swapped(_) | Codecopy => false,
        }
    }
}

use Fork::{Amsterdam, Byzantium, Cancun, Frontier, Homestead, Istanbul, London, Osaka, Petersburg, Shanghai};
use Lowering::{Codecopy, Ins, None as Nothing, Swapped};
use Status::{Full, Rejected, Restricted};

const COPY: Status = Restricted("of calldata or memory, or of data of constant length from a constant place");
const SIZE: Status = Rejected("the size of memory is not part of the statement");
const STORAGE: Status = Restricted(
    "the slot must be a number below 2^64, a hash of words that is used as nothing else, or a constant whose meaning is known",
);
const TRANSIENT: Status = Restricted("the slot must be constant");
const CALL: Status = Rejected("the circuit runs one account");
const ACCOUNT: Status = Rejected("accounts other than the executing one are not part of the statement");
const CHAIN: Status = Rejected("the history of the chain is not part of the statement");
const GAS: Status = Restricted("only as the gas operand of a call: an outcome that depends on gas is not one outcome");

const fn row(byte: u8, since: Fork, lowering: Lowering, proof: Status) -> Row {
    Row { byte, since, lowering, l1: Full, proof }
}

/// The table, in the order of the bytes.
const ROWS: &[Row] = &[
    row(0x00, Frontier, Ins(Ir::Stop), Full),
    row(0x01, Frontier, Ins(Ir::Wadd), Full),
    row(0x02, Frontier, Ins(Ir::Wmul), Full),
    row(0x03, Frontier, Ins(Ir::Wsub), Full),
    row(0x04, Frontier, Ins(Ir::Udiv), Full),
    row(0x05, Frontier, Ins(Ir::Sdiv), Full),
    row(0x06, Frontier, Ins(Ir::Urem), Full),
    row(0x07, Frontier, Ins(Ir::Srem), Full),
    row(0x08, Frontier, Ins(Ir::Addmod), Full),
    row(0x09, Frontier, Ins(Ir::Mulmod), Full),
    row(0x0a, Frontier, Ins(Ir::Exp), Full),
    row(0x0b, Frontier, Ins(Ir::Signextend), Full),
    row(0x10, Frontier, Ins(Ir::Ult), Full),
    row(0x11, Frontier, Swapped(Ir::Ult), Full),
    row(0x12, Frontier, Ins(Ir::Slt), Full),
    row(0x13, Frontier, Swapped(Ir::Slt), Full),
    row(0x14, Frontier, Ins(Ir::Eq), Full),
    row(0x15, Frontier, Ins(Ir::Iszero), Full),
    row(0x16, Frontier, Ins(Ir::And), Full),
    row(0x17, Frontier, Ins(Ir::Or), Full),
    row(0x18, Frontier, Ins(Ir::Xor), Full),
    row(0x19, Frontier, Ins(Ir::Not), Full),
    row(0x1a, Frontier, Ins(Ir::Byte), Full),
    row(0x1b, Petersburg, Ins(Ir::Shl), Full),
    row(0x1c, Petersburg, Ins(Ir::Shr), Full),
    row(0x1d, Petersburg, Ins(Ir::Sar), Full),
    row(0x1e, Osaka, Ins(Ir::Clz), Full),
    row(0x20, Frontier, Ins(Ir::Keccak256), Full),
    row(0x30, Frontier, Ins(Ir::Address), Full),
    row(0x31, Frontier, Ins(Ir::Balance), ACCOUNT),
    row(0x32, Frontier, Ins(Ir::Origin), Full),
    row(0x33, Frontier, Ins(Ir::Caller), Full),
    row(0x34, Frontier, Ins(Ir::Callvalue), Full),
    row(0x35, Frontier, Ins(Ir::Calldataload), Full),
    row(0x36, Frontier, Ins(Ir::Calldatasize), Full),
    row(0x37, Frontier, Ins(Ir::Calldatacopy), COPY),
    row(0x38, Frontier, Nothing, Full),
    row(0x39, Frontier, Codecopy, COPY),
    row(0x3a, Frontier, Ins(Ir::Gasprice), Full),
    row(0x3b, Frontier, Ins(Ir::Extcodesize), ACCOUNT),
    row(0x3c, Frontier, Ins(Ir::Extcodecopy), ACCOUNT),
    row(0x3d, Byzantium, Ins(Ir::Returndatasize), Restricted("without a call before it, it is zero")),
    row(
        0x3e,
        Byzantium,
        Ins(Ir::Returndatacopy),
        Restricted("without a call before it, it traps unless it copies nothing"),
    ),
    row(0x3f, Petersburg, Ins(Ir::Extcodehash), ACCOUNT),
    row(0x40, Frontier, Ins(Ir::Blockhash), CHAIN),
    row(0x41, Frontier, Ins(Ir::Coinbase), Full),
    row(0x42, Frontier, Ins(Ir::Timestamp), Full),
    row(0x43, Frontier, Ins(Ir::Number), Full),
    row(0x44, Frontier, Ins(Ir::Prevrandao), Full),
    row(0x45, Frontier, Ins(Ir::Gaslimit), Full),
    row(0x46, Istanbul, Ins(Ir::Chainid), Full),
    row(0x47, Istanbul, Ins(Ir::Selfbalance), Full),
    row(0x48, London, Ins(Ir::Basefee), Full),
    row(0x49, Cancun, Ins(Ir::Blobhash), CHAIN),
    row(0x4a, Cancun, Ins(Ir::Blobbasefee), Full),
    Row {
        byte: 0x4b,
        since: Amsterdam,
        lowering: Nothing,
        l1: Rejected("the slot number is not part of the environment"),
        proof: Rejected("the slot number is not part of the environment"),
    },
    row(0x50, Frontier, Nothing, Full),
    row(0x51, Frontier, Ins(Ir::Mload), Full),
    row(0x52, Frontier, Ins(Ir::Mstore), Full),
    row(0x53, Frontier, Ins(Ir::Mstore8), Full),
    row(0x54, Frontier, Ins(Ir::Sload), STORAGE),
    row(0x55, Frontier, Ins(Ir::Sstore), STORAGE),
    row(0x56, Frontier, Nothing, Full),
    row(0x57, Frontier, Nothing, Full),
    row(0x58, Frontier, Nothing, Full),
    row(0x59, Frontier, Ins(Ir::Msize), SIZE),
    Row { byte: 0x5a, since: Frontier, lowering: Ins(Ir::Gas), l1: GAS, proof: CALL },
    row(0x5b, Frontier, Nothing, Full),
    row(0x5c, Cancun, Ins(Ir::Tload), TRANSIENT),
    row(0x5d, Cancun, Ins(Ir::Tstore), TRANSIENT),
    row(0x5e, Cancun, Ins(Ir::Mcopy), COPY),
    row(0x5f, Shanghai, Nothing, Full),
    row(0xa0, Frontier, Ins(Ir::Log), Full),
    row(0xa1, Frontier, Ins(Ir::Log), Full),
    row(0xa2, Frontier, Ins(Ir::Log), Full),
    row(0xa3, Frontier, Ins(Ir::Log), Full),
    row(0xa4, Frontier, Ins(Ir::Log), Full),
    row(0xe6, Amsterdam, Nothing, Full),
    row(0xe7, Amsterdam, Nothing, Full),
    row(0xe8, Amsterdam, Nothing, Full),
    row(0xf0, Frontier, Ins(Ir::EvmCreate), CALL),
    row(0xf1, Frontier, Ins(Ir::EvmCall), CALL),
    row(0xf2, Frontier, Ins(Ir::EvmCallcode), CALL),
    row(0xf3, Frontier, Ins(Ir::Return), Full),
    row(0xf4, Homestead, Ins(Ir::EvmDelegatecall), CALL),
    row(0xf5, Petersburg, Ins(Ir::EvmCreate2), CALL),
    row(0xfa, Byzantium, Ins(Ir::EvmStaticcall), CALL),
    row(0xfd, Byzantium, Ins(Ir::Revert), Full),
    row(0xfe, Frontier, Nothing, Full),
    row(0xff, Frontier, Ins(Ir::Selfdestruct), CALL),
];

/// Every byte's row. PUSH1–PUSH32, DUP and SWAP are filled in here: they differ in nothing but their number.
static TABLE: [Option<Row>; 256] = {
    let mut table = [None; 256];
    let mut at = 0;
    while at < ROWS.len() {
        let row = ROWS[at];
        assert!(table[row.byte as usize].is_none(), "an opcode has two rows");
        table[row.byte as usize] = Some(row);
        at += 1;
    }
    let mut byte = 0x60;
    while byte <= 0x9f {
        table[byte as usize] = Some(row(byte, Frontier, Nothing, Full));
        byte += 1;
    }
    table
};

/// The row of an opcode; `None` if no fork has it.
pub fn row_of(byte: u8) -> Option<&'static Row> {
    TABLE[usize::from(byte)].as_ref()
}

/// The table as a Markdown page, `docs/subset.md`.
pub fn subset_markdown() -> String {
    let mut text = String::from(
        "# The subset\n\n\
         This page is generated from the table of opcodes (`frontend/src/subset.rs`) by \
         `cargo run -p zvm-frontend --example subset > docs/subset.md`; a test keeps it up to date.\n\n\
         **L1 ring**: lifted, interpreted and re-emitted as EVM bytecode. **Proof ring**: proved in a circuit. The proof \
         ring is drawn by path: an execution that does not reach a rejected instruction can be proved, whatever else the \
         contract contains. A byte without a row, or with one that its fork does not have yet, is an exceptional halt, as \
         on the EVM.\n\n\
         | byte | opcode | since | IR | L1 ring | proof ring |\n|---|---|---|---|---|---|\n",
    );
    for row in TABLE.iter().flatten() {
        let (byte, name, shown) = match row.byte {
            0x60 => ("0x60–0x7f".to_owned(), "PUSH1–PUSH32", true),
            0x80 => ("0x80–0x8f".to_owned(), "DUP1–DUP16", true),
            0x90 => ("0x90–0x9f".to_owned(), "SWAP1–SWAP16", true),
            0x61..=0x7f | 0x81..=0x8f | 0x91..=0x9f => (String::new(), "", false),
            byte => (format!("0x{byte:02x}"), row.name(), true),
        };
        if shown {
            let ir = match row.lowering {
                Ins(ir) | Swapped(ir) => format!("`{ir}`"),
                Codecopy => format!("`{}`", Ir::Datacopy),
                Nothing => "–".to_owned(),
            };
            let (l1, proof) = (row.l1.text(), row.proof.text());
            text.push_str(&format!("| {byte} | {name} | {} | {ir} | {l1} | {proof} |\n", row.since));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_opcode_of_revm_has_a_row_and_the_reverse() {
        for byte in 0..=255 {
            let known = decode::name(byte) != "INVALID" || byte == 0xfe;
            assert_eq!(known, row_of(byte).is_some(), "0x{byte:02x}");
        }
    }

    /// The operands that revm takes from the stack are those of the IR instruction.
    #[test]
    fn operands_match_the_instruction() {
        for row in TABLE.iter().flatten() {
            let (inputs, outputs) = decode::stack_io(row.byte);
            if let Ins(ir) | Swapped(ir) = row.lowering {
                let info = ir.info();
                if ir != Ir::Log {
                    assert_eq!(info.operands.len() as u32, inputs, "{}", row.name());
                }
                assert_eq!(u32::from(info.rule != zvm_ir::Rule::None), outputs, "{}", row.name());
            }
        }
    }

    #[test]
    fn forks_have_names() {
        for fork in Fork::ALL {
            assert_eq!(Fork::from_name(fork.name()), Some(fork));
        }
        assert_eq!(Fork::from_name("dao"), None);
    }
}
