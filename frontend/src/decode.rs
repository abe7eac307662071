//! Stage 1, decode: bytes → instructions and basic blocks.
//!
//! The only file that sees revm: its opcode table says how long an instruction is and what it takes from and puts on the
//! stack, its analysis says which bytes are valid jump targets. Blocks are decoded where control flow arrives, so bytes
//! that are never reached (metadata, data appended to the code) are never read as instructions.

use std::collections::BTreeSet;

use revm_interpreter::bytecode::opcode::OpCode;
use revm_interpreter::bytecode::{Bytecode, opcode};
use revm_interpreter::primitives::Bytes;
use zvm_ir::{Pc, Word};

use crate::subset::{self, Fork};

/// One instruction of the bytecode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Inst {
    /// Where it is.
    pub(crate) pc: Pc,
    /// What it does.
    pub(crate) kind: Kind,
}

/// What an instruction does, as far as the stages differ on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// PUSH0–PUSH32, PC, CODESIZE: a constant.
    Push(Word),
    /// DUP1–DUP16, DUPN: copies the item at this depth (0 is the top).
    Dup(u32),
    /// SWAP1–SWAP16, SWAPN, EXCHANGE: exchanges the items at these depths, the first being the smaller.
    Swap(u32, u32),
    /// POP.
    Pop,
    /// JUMP.
    Jump,
    /// JUMPI.
    Jumpi,
    /// JUMPDEST.
    Jumpdest,
    /// An opcode that does not exist in the fork, INVALID, or an immediate that EIP-8024 forbids.
    Invalid,
    /// Everything else: the byte of an opcode with a row in the subset table.
    Op(u8),
}

/// How a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// With a JUMP.
    Jump,
    /// With a JUMPI; the other branch continues at this `pc`.
    Jumpi(Pc),
    /// The next instruction, at this `pc`, starts another block.
    Fall(Pc),
    /// The last instruction halts (an undefined one included).
    Halt,
    /// The code ends here: STOP.
    End,
}

/// A basic block of the bytecode: entered only at its first instruction.
#[derive(Clone, Debug)]
pub(crate) struct CodeBlock {
    /// Its instructions, the JUMPDEST and the one that ends it included.
    pub(crate) insts: Vec<Inst>,
    /// How it ends.
    pub(crate) exit: Exit,
}

/// The bytecode with what the opcode table and the jump analysis say about it.
#[derive(Debug)]
pub(crate) struct Code {
    /// The bytes, those after the instructions included.
    pub(crate) bytes: Vec<u8>,
    /// Words of memory, by address, that hold return addresses.
    pub(crate) followed: BTreeSet<u32>,
    /// The PUSH32 whose operands deployment fills in.
    pub(crate) immutables: BTreeSet<Pc>,
    fork: Fork,
    /// Whether the bytes are creation code, which reads itself and what is appended to it; see [`crate::LiftOptions`].
    creation: bool,
    analysed: Bytecode,
}

impl Code {
    pub(crate) fn new(bytes: &[u8], fork: Fork, creation: bool) -> Self {
        let analysed = Bytecode::new_legacy(Bytes::copy_from_slice(bytes));
        let (followed, immutables) = (BTreeSet::new(), BTreeSet::new());
        Self { bytes: bytes.to_vec(), followed, immutables, fork, creation, analysed }
    }

    /// Whether there is a PUSH32 at `pc`, if an instruction starts there.
    pub(crate) fn is_push32(&self, pc: Pc) -> bool {
        self.bytes.get(pc as usize) == Some(&opcode::PUSH32)
    }

    /// Whether it is creation code.
    pub(crate) fn is_creation(&self) -> bool {
        self.creation
    }

    /// Whether the instruction reads calldata that creation code, whose calldata is the code in the IR, does not have.
    pub(crate) fn reads_no_calldata(&self, pc: Pc) -> bool {
        let byte = self.bytes.get(pc as usize);
        self.creation && matches!(byte, Some(&(opcode::CALLDATALOAD | opcode::CALLDATACOPY)))
    }

    /// The fork that decides which opcodes exist.
    pub(crate) fn fork(&self) -> Fork {
        self.fork
    }

    /// The valid jump target that `word` is, if it is one.
    pub(crate) fn jumpdest(&self, word: &Word) -> Option<Pc> {
        let pc = u32::try_from(*word).ok()?;
        self.is_jumpdest(pc).then_some(pc)
    }

    /// Whether a jump to `pc` is valid.
    pub(crate) fn is_jumpdest(&self, pc: Pc) -> bool {
        // The table covers the padding that revm appends, where no JUMPDEST is.
        (pc as usize) < self.bytes.len()
            && self.analysed.legacy_jump_table().is_some_and(|table| table.is_valid(pc as usize))
    }

    /// Every valid jump target.
    pub(crate) fn jumpdests(&self) -> Vec<Pc> {
        (0..self.bytes.len() as Pc).filter(|&pc| self.is_jumpdest(pc)).collect()
    }

    /// The block that starts at `pc`.
    pub(crate) fn block(&self, start: Pc) -> CodeBlock {
        let mut insts = Vec::new();
        let mut pc = start;
        let exit = loop {
            if pc as usize >= self.bytes.len() {
                break Exit::End;
            }
            if pc != start && self.is_jumpdest(pc) {
                break Exit::Fall(pc);
            }
            let (inst, next) = self.inst(pc);
            insts.push(inst);
            match inst.kind {
                Kind::Jump => break Exit::Jump,
                Kind::Jumpi => break Exit::Jumpi(next),
                Kind::Invalid => break Exit::Halt,
                Kind::Op(byte) if subset::row_of(byte).is_some_and(|row| row.halts()) => break Exit::Halt,
                _ => pc = next,
            }
        };
        CodeBlock { insts, exit }
    }

    /// The instruction at `pc`, which is inside the code, and the `pc` after it.
    pub(crate) fn inst(&self, pc: Pc) -> (Inst, Pc) {
        let byte = self.bytes[pc as usize];
        let known = subset::row_of(byte).filter(|row| self.fork >= row.since);
        let info = known.and_then(|_| OpCode::info_by_op(byte));
        let Some(info) = info else {
            return (Inst { pc, kind: Kind::Invalid }, pc + 1);
        };
        let len = u32::from(info.immediate_size());
        let kind = match byte {
            opcode::PUSH32 if self.immutables.contains(&pc) => Kind::Op(byte),
            opcode::PUSH0..=opcode::PUSH32 => Kind::Push(self.immediate(pc, len)),
            opcode::PC => Kind::Push(Word::from(pc)),
            opcode::CODESIZE if self.creation => Kind::Op(opcode::CALLDATASIZE),
            opcode::CODESIZE => Kind::Push(Word::from(self.bytes.len())),
            opcode::CODECOPY if self.creation => Kind::Op(opcode::CALLDATACOPY),
            opcode::CALLDATASIZE if self.creation => Kind::Push(Word::ZERO),
            opcode::DUP1..=opcode::DUP16 => Kind::Dup(u32::from(byte - opcode::DUP1)),
            opcode::SWAP1..=opcode::SWAP16 => Kind::Swap(0, u32::from(byte - opcode::SWAP1) + 1),
            opcode::DUPN => single(self.byte(pc + 1)).map_or(Kind::Invalid, |n| Kind::Dup(n - 1)),
            opcode::SWAPN => single(self.byte(pc + 1)).map_or(Kind::Invalid, |n| Kind::Swap(0, n)),
            opcode::EXCHANGE => pair(self.byte(pc + 1)).map_or(Kind::Invalid, |(n, m)| Kind::Swap(n, m)),
            opcode::POP => Kind::Pop,
            opcode::JUMP => Kind::Jump,
            opcode::JUMPI => Kind::Jumpi,
            opcode::JUMPDEST => Kind::Jumpdest,
            opcode::INVALID => Kind::Invalid,
            _ => Kind::Op(byte),
        };
        (Inst { pc, kind }, pc + 1 + len)
    }

    fn byte(&self, pc: Pc) -> u32 {
        self.bytes.get(pc as usize).copied().unwrap_or(0).into()
    }

    /// The `len` bytes after the opcode at `pc`; bytes past the end of the code read as zero.
    fn immediate(&self, pc: Pc, len: u32) -> Word {
        (0..len).fold(Word::ZERO, |word, at| (word << 8) | Word::from(self.byte(pc + 1 + at)))
    }

    /// The name of the opcode at `pc` in the opcode table.
    pub(crate) fn name(&self, pc: Pc) -> &'static str {
        self.bytes.get(pc as usize).map_or("STOP", |&byte| name(byte))
    }

    /// Where the metadata trailer starts that solc and vyper append: CBOR whose length is in the last two bytes. `None`
    /// if the code does not end with one.
    pub(crate) fn metadata(&self) -> Option<Pc> {
        let [.., high, low] = self.bytes[..] else { return None };
        let len = usize::from(u16::from_be_bytes([high, low]));
        // vyper counts the length field itself since 0.3.10, solc does not.
        [len + 2, len].into_iter().find_map(|len| {
            let start = self.bytes.len().checked_sub(len)?;
            let head = *self.bytes.get(start)?;
            // A CBOR map of one to five entries with text keys (solc), or an array (vyper from 0.3.10).
            let map = (0xa1..=0xa5).contains(&head) && (0x61..=0x77).contains(self.bytes.get(start + 1)?);
            let array = (0x84..=0x86).contains(&head) && len < 0x80;
            (map || array).then_some(start as Pc)
        })
    }
}

/// The instruction whose operand may be an immutable.
pub(crate) const PUSH32: u8 = opcode::PUSH32;

/// The name of an opcode.
pub(crate) fn name(byte: u8) -> &'static str {
    OpCode::new(byte).map_or("INVALID", |op| op.as_str())
}

/// How many items an opcode takes from the stack and puts on it.
pub(crate) fn stack_io(byte: u8) -> (u32, u32) {
    OpCode::new(byte).map_or((0, 0), |op| (op.inputs().into(), op.outputs().into()))
}

/// Whether an opcode's result is the success of a call: zero or one.
pub(crate) fn is_call(byte: u8) -> bool {
    matches!(byte, opcode::CALL | opcode::CALLCODE | opcode::DELEGATECALL | opcode::STATICCALL)
}

/// The operand of DUPN and SWAPN (EIP-8024).
fn single(byte: u32) -> Option<u32> {
    (byte <= 90 || byte >= 128).then_some((byte + 145) % 256)
}

/// The operands of EXCHANGE (EIP-8024): two depths, the first being the smaller.
fn pair(byte: u32) -> Option<(u32, u32)> {
    if (82..128).contains(&byte) {
        return None;
    }
    let (q, r) = ((byte ^ 143) / 16, (byte ^ 143) % 16);
    Some(if q < r { (q + 1, r + 1) } else { (r + 1, 29 - q) })
}
