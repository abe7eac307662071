//! Machine code before addresses are known: EVM instructions with symbolic labels.

use core::fmt;

use zvm_ir::{Data, Pc, Word};

use crate::opcodes;

/// A place in the emitted code that a jump goes to: a block, or the point after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(pub u32);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}

/// A jump table of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Table(pub u32);

/// One machine instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MachineOp {
    /// An opcode without immediate.
    Plain(u8),
    /// A constant, materialised in the cheapest way.
    Push(Word),
    /// The word that the constructor puts at this position of the original code: a PUSH32 of zeros until then.
    PushImmutable(u32),
    /// The address of a label.
    PushLabel(Label),
    /// The address of a data segment plus an offset.
    PushData(Data, u64),
    /// The addresses of a jump table, two bytes each, the first lowest.
    PushTable(Table),
    /// Copies the item at the depth (the top is 1).
    Dup(u8),
    /// Exchanges the top with the item that is this far below it (the item below the top is 1).
    Swap(u8),
    /// Exchanges the items that are this far below the top (EXCHANGE, by its immediate).
    Exchange(u8),
    /// The label is here: a JUMPDEST, if anybody jumps to it.
    Mark(Label),
}

/// A machine instruction with the bytecode position that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MachineInst {
    pub op: MachineOp,
    pub pc: Option<Pc>,
}

/// How a piece of code ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// With an instruction that does not come back here: a halt, a jump to a computed address.
    Closed,
    /// By going to a label.
    Goto(Label),
    /// By a branch on the word on top of the stack.
    Branch { nonzero: Label, zero: Label },
    /// By a jump to one of the labels of a table.
    Table(Table),
}

/// The code of one block.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    /// The block's label.
    pub label: Label,
    /// The instructions, the jump at the end excluded.
    pub code: Vec<MachineInst>,
    /// The jump at the end.
    pub end: End,
    /// The position of the terminator.
    pub end_pc: Option<Pc>,
    /// Whether the block ends in a revert or a trap, so that it is placed last.
    pub cold: bool,
    /// The least gas of DUP, SWAP, POP and PUSH that any schedule of the block needs.
    pub bound: u32,
}

impl Piece {
    /// Static gas of the DUP, SWAP, POP and PUSH in the code.
    pub(crate) fn traffic(&self) -> u32 {
        let is_traffic = |op: MachineOp| match op {
            MachineOp::Plain(byte) => byte == opcodes::POP || opcodes::is_input(byte),
            MachineOp::Push(_)
            | MachineOp::PushImmutable(_)
            | MachineOp::PushLabel(_)
            | MachineOp::PushData(..)
            | MachineOp::PushTable(_)
            | MachineOp::Dup(_)
            | MachineOp::Swap(_)
            | MachineOp::Exchange(_) => true,
            MachineOp::Mark(_) => false,
        };
        // A zero is pushed for two gas where PUSH0 exists; the bound takes it to be so too.
        let cost = |op: MachineOp| if op == MachineOp::Push(Word::ZERO) { 2 } else { gas(op) };
        self.code.iter().map(|inst| inst.op).filter(|&op| is_traffic(op)).map(cost).sum()
    }
}

/// Static gas of an instruction; a constant counts as one PUSH.
pub(crate) fn gas(op: MachineOp) -> u32 {
    match op {
        MachineOp::Plain(byte) => opcodes::gas(byte),
        MachineOp::Push(_)
        | MachineOp::PushImmutable(_)
        | MachineOp::PushLabel(_)
        | MachineOp::PushData(..)
        | MachineOp::PushTable(_)
        | MachineOp::Dup(_)
        | MachineOp::Swap(_)
        | MachineOp::Exchange(_) => 3,
        MachineOp::Mark(_) => 1,
    }
}
