//! What the circuit can do with each instruction, and why not.

use core::fmt;

use zvm_ir::{Function, InstData, Opcode, Pc};

/// How the circuit treats an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// A gadget computes the result from the operands.
    Gadget,
    /// An access to storage or memory, which the trace argument proves.
    Access,
    /// A word of the calldata at a computed place, which the trace argument proves.
    Lookup,
    /// A log, hashed into the outcome.
    Log,
    /// Words of the data of a log or an outcome, hashed.
    Note,
    /// A value fixed during the execution, opened from a digest of the statement at the entry.
    Input,
    /// A block's end that becomes edges between blocks.
    Control,
    /// Hashes bytes of memory: words, if they are a constant number.
    Take,
    /// The data that a call returned: none, for where another account's code ran nothing is proved.
    Empty,
    /// A write to memory that legalisation drops or makes one of words.
    Write,
    /// No circuit: an execution that reaches it cannot be proved.
    Unprovable(Reason),
}

/// Why an execution that reaches an instruction cannot be proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A storage slot whose number is made in a way that does not say which place it is.
    Place,
    /// A constant storage slot that may be the hash of anything.
    ConstantSlot,
    /// Transient storage at a computed slot.
    Transient,
    /// A copy of bytes that was not turned into stores of words.
    Copy,
    /// Another account's code runs, or an account is created or destroyed.
    ForeignCall,
    /// The size of memory.
    Memory,
    /// Memory beyond the limit, which no execution can pay for.
    MemoryLimit,
    /// A Keccak hash of bytes whose number is not constant, or of more than [`super::MAX_HASH_WORDS`] words.
    HashSize,
    /// The offset in the calldata is constant and beyond [`super::MAX_CALLDATA`].
    CalldataRange,
    /// The offset in the calldata is computed and beyond the limit, where no block has room for calldata.
    CalldataLimit,
    /// The remaining gas.
    Gas,
    /// Balance or code of an account, or a hash of an old block or blob.
    ChainState,
    /// A recursion deeper than the EVM's stack is sure to hold.
    Recursion,
    /// A function whose body, copied into its callers, exceeds [`super::MAX_INSTS`].
    CodeSize,
}

impl Reason {
    /// The reason for people, after "because the circuit has no …".
    pub const fn text(self) -> &'static str {
        match self {
            Self::Place => "storage slots that are neither numbers nor structured hashes",
            Self::ConstantSlot => "constant storage slots whose meaning is unknown",
            Self::Transient => "transient storage at computed slots",
            Self::Copy => "copies of bytes of unknown length",
            Self::ForeignCall => "calls to other accounts",
            Self::Memory => "size of memory",
            Self::MemoryLimit => "memory this far from the start",
            Self::HashSize => "hashes of this length",
            Self::CalldataRange | Self::CalldataLimit => "calldata words this far from the start",
            Self::Gas => "gas",
            Self::ChainState => "balances, code and hashes of the chain",
            Self::Recursion => "recursion this deep",
            Self::CodeSize => "functions of this size after inlining",
        }
    }
}

impl Reason {
    /// Whether no execution that the EVM has gas and a stack for gets there: what is out of reach for the circuit is out of reach for everyone.
    pub const fn is_limit(self) -> bool {
        matches!(self, Self::MemoryLimit | Self::CalldataLimit | Self::Recursion)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// An exit that no proof can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Unprovable {
    /// Where in the bytecode the instruction is.
    pub pc: Option<Pc>,
    /// The instruction.
    pub opcode: Opcode,
    /// Why there is no circuit for it.
    pub reason: Reason,
}

impl fmt::Display for Unprovable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.opcode)?;
        if let Some(pc) = self.pc {
            write!(f, " at pc {pc:#06x}")?;
        }
        write!(f, ": the circuit has no {}", self.reason)
    }
}

/// How the circuit treats an instruction, with its operands.
pub(crate) fn support_of(func: &Function, data: &InstData) -> Support {
    match support(data.opcode) {
        Support::Input if data.args.first().is_some_and(|&place| func.constant(place).is_none()) => Support::Lookup,
        of_opcode => of_opcode,
    }
}

/// How the circuit treats `opcode`. (`keccak_words` needs a bounded number of words, and transient storage constant slots;
/// `calldataload` from a computed offset is a lookup.)
pub const fn support(opcode: Opcode) -> Support {
    use Opcode as Op;
    match opcode {
        Op::Iconst
        | Op::Zext
        | Op::Trunc
        | Op::Narrow
        | Op::Add
        | Op::Sub
        | Op::Mul
        | Op::Wadd
        | Op::Wsub
        | Op::Wmul
        | Op::Udiv
        | Op::Urem
        | Op::Sdiv
        | Op::Srem
        | Op::Addmod
        | Op::Mulmod
        | Op::Exp
        | Op::Signextend
        | Op::Iszero
        | Op::Eq
        | Op::Ult
        | Op::Slt
        | Op::Select
        | Op::And
        | Op::Or
        | Op::Xor
        | Op::Not
        | Op::Shl
        | Op::Shr
        | Op::Sar
        | Op::Byte
        | Op::Clz
        | Op::KeccakWords
        | Op::KeccakF => Support::Gadget,
        Op::Calldataload
        | Op::Calldatasize
        | Op::Address
        | Op::Caller
        | Op::Origin
        | Op::Callvalue
        | Op::Gasprice
        | Op::Coinbase
        | Op::Timestamp
        | Op::Number
        | Op::Prevrandao
        | Op::Gaslimit
        | Op::Chainid
        | Op::Basefee
        | Op::Blobbasefee
        | Op::Selfbalance => Support::Input,
        Op::Jump
        | Op::Brif
        | Op::Ret
        | Op::Stop
        | Op::Return
        | Op::ReturnWords
        | Op::Revert
        | Op::RevertWords
        | Op::Trap => Support::Control,
        Op::Mstore8 | Op::Mcopy | Op::Calldatacopy | Op::Datacopy => Support::Write,
        Op::Keccak256 => Support::Take,
        Op::Msize => Support::Unprovable(Reason::Memory),
        // One that some places pass has become a branch around it.
        Op::Bound => Support::Unprovable(Reason::MemoryLimit),
        Op::Sload | Op::Sstore | Op::Mload | Op::Mstore | Op::Tload | Op::Tstore | Op::FrameLoad | Op::FrameStore => {
            Support::Access
        }
        Op::Log | Op::LogWords => Support::Log,
        Op::Note => Support::Note,
        Op::Returndatasize | Op::Returndatacopy => Support::Empty,
        Op::EvmCall
        | Op::EvmCallcode
        | Op::EvmDelegatecall
        | Op::EvmStaticcall
        | Op::EvmCreate
        | Op::EvmCreate2
        | Op::Selfdestruct => Support::Unprovable(Reason::ForeignCall),
        Op::Gas => Support::Unprovable(Reason::Gas),
        Op::Immutable
        | Op::Blockhash
        | Op::Blobhash
        | Op::Balance
        | Op::Extcodesize
        | Op::Extcodehash
        | Op::Extcodecopy => Support::Unprovable(Reason::ChainState),
        // What inlining left of too large functions; where a recursion is too deep, the call names none.
        Op::Call => Support::Unprovable(Reason::CodeSize),
    }
}
