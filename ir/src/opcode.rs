//! The instruction table: one row per instruction.
//!
//! A row gives the mnemonic, the operands, the immediate, the rule for the result's width, the effects, and the
//! prose meaning. Printer, parser, verifier, builder and `docs/ir.md` are driven by it. The executable meaning of pure
//! instructions is [`crate::eval()`]; that of the others is [`crate::interp`].

use core::fmt;

use crate::types::Type;

/// What an operand must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A value of any width, read as an unsigned integer (zero-extended where a word is needed).
    Any,
    /// A condition, `u1`.
    Bool,
    /// Zero or more values of any width; last in the row.
    Many,
}

/// One operand of a row.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// The name used in the documentation.
    pub name: &'static str,
    /// What the operand must be.
    pub class: Class,
}

/// What immediate an instruction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImmKind {
    /// None.
    None,
    /// A 256-bit constant.
    Word,
    /// A data segment.
    Data,
    /// A function of the module.
    Func,
    /// A length in bytes.
    Len,
    /// A position in the original bytecode.
    Place,
    /// Why the program traps.
    Trap,
}

/// How the width of the result follows from the widths of the operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// The instruction has no result.
    None,
    /// Always `uN`.
    Fixed(u16),
    /// Written at the instruction: the constant must fit.
    Constant,
    /// Written at the instruction: at least the operand's width.
    Widen,
    /// Written at the instruction: at most the operand's width.
    Shrink,
    /// The width of the first operand.
    First,
    /// The width of the second operand.
    Second,
    /// The smaller of the widths of the two operands.
    Min,
    /// The larger of the widths of the two operands.
    Max,
    /// The larger of the widths of the last two of three operands.
    MaxOfLast,
    /// The larger of the widths of the two operands, plus one; at most 256.
    MaxPlusOne,
    /// The sum of the widths of the two operands; at most 256.
    Sum,
    /// The result types of the function called.
    Callee,
}

/// A set of effects. The order of two instructions matters only when their effects conflict.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Effects(u32);

impl Effects {
    /// No effect: the result depends on operands and immediate alone.
    pub const PURE: Self = Self(0);
    /// Reads memory (and may extend `msize`).
    pub const READS_MEMORY: Self = Self(1);
    /// Writes memory (and may extend `msize`).
    pub const WRITES_MEMORY: Self = Self(1 << 1);
    /// Reads persistent storage.
    pub const READS_STORAGE: Self = Self(1 << 2);
    /// Writes persistent storage.
    pub const WRITES_STORAGE: Self = Self(1 << 3);
    /// Reads transient storage.
    pub const READS_TRANSIENT: Self = Self(1 << 4);
    /// Writes transient storage.
    pub const WRITES_TRANSIENT: Self = Self(1 << 5);
    /// Reads the return data buffer.
    pub const READS_RETURN_DATA: Self = Self(1 << 6);
    /// Replaces the return data buffer.
    pub const WRITES_RETURN_DATA: Self = Self(1 << 7);
    /// Reads what is fixed during the whole execution: calldata, caller, block fields, data segments.
    pub const READS_INPUT: Self = Self(1 << 8);
    /// Reads balances or code of accounts, which calls may change.
    pub const READS_ACCOUNTS: Self = Self(1 << 9);
    /// Creates accounts, moves value, or runs foreign code.
    pub const WRITES_ACCOUNTS: Self = Self(1 << 10);
    /// Appends to the log.
    pub const LOGS: Self = Self(1 << 11);
    /// May halt the execution exceptionally.
    pub const MAY_TRAP: Self = Self(1 << 12);
    /// Ends its block.
    pub const TERMINATES: Self = Self(1 << 13);
    /// Reads the remaining gas.
    pub const READS_GAS: Self = Self(1 << 14);
    /// Unknown: does whatever the callee does.
    pub const CALLS: Self = Self(1 << 15);
    /// Reads the words that are kept for calls.
    pub const READS_FRAMES: Self = Self(1 << 16);
    /// Writes the words that are kept for calls.
    pub const WRITES_FRAMES: Self = Self(1 << 17);

    const WRITES: u32 = Self::WRITES_MEMORY.0
        | Self::WRITES_STORAGE.0
        | Self::WRITES_TRANSIENT.0
        | Self::WRITES_RETURN_DATA.0
        | Self::WRITES_ACCOUNTS.0
        | Self::LOGS.0
        | Self::MAY_TRAP.0
        | Self::TERMINATES.0
        | Self::CALLS.0
        | Self::WRITES_FRAMES.0;

    /// The union of two sets.
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every effect of `other` is in `self`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    pub const fn is_pure(self) -> bool {
        self.0 == 0
    }

    /// Whether an instruction with these effects may be removed when nobody uses its results. (Reads of memory extend
    /// `msize`: a pass that removes them asks [`crate::Module::observes_msize`] first.)
    pub const fn is_removable(self) -> bool {
        self.0 & Self::WRITES == 0
    }

    /// The names of the effects, in the order of the bits.
    pub fn names(self) -> Vec<&'static str> {
        const NAMES: [&str; 18] = [
            "reads memory",
            "writes memory",
            "reads storage",
            "writes storage",
            "reads transient",
            "writes transient",
            "reads return data",
            "writes return data",
            "reads input",
            "reads accounts",
            "writes accounts",
            "logs",
            "may trap",
            "terminates",
            "reads gas",
            "calls",
            "reads frames",
            "writes frames",
        ];
        NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1).map(|(_, name)| *name).collect()
    }
}

/// Why a program traps. The reason is for people: all traps are the same [`crate::Halt::Trap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrapCode {
    /// The designated INVALID instruction or an undefined opcode.
    Invalid,
    /// A jump whose target is not a JUMPDEST.
    BadJump,
    /// An instruction with too few operands on the stack.
    StackUnderflow,
    /// A push beyond 1024 words.
    StackOverflow,
}

impl TrapCode {
    /// All codes with their names in the text form.
    pub const ALL: [(Self, &'static str); 4] = [
        (Self::Invalid, "invalid"),
        (Self::BadJump, "bad_jump"),
        (Self::StackUnderflow, "stack_underflow"),
        (Self::StackOverflow, "stack_overflow"),
    ];

    /// The name in the text form.
    pub const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct OpcodeInfo {
    /// The name in the text form.
    pub mnemonic: &'static str,
    /// The operands in order.
    pub operands: &'static [Operand],
    /// The immediate.
    pub imm: ImmKind,
    /// How many blocks a terminator names.
    pub targets: usize,
    /// The width of the result.
    pub rule: Rule,
    /// What it does besides computing its result.
    pub effects: Effects,
    /// The meaning, in prose.
    pub doc: &'static str,
}

macro_rules! class {
    () => {
        Class::Any
    };
    (bool) => {
        Class::Bool
    };
    (many) => {
        Class::Many
    };
}

macro_rules! or_default {
    ($default:expr) => {
        $default
    };
    ($default:expr, $given:expr) => {
        $given
    };
}

macro_rules! instructions {
    ($(
        $(#[doc = $doc:literal])*
        $variant:ident $mnemonic:literal ( $($operand:ident $(: $class:ident)?),* )
        $([imm $imm:ident])? $([targets $targets:literal])? -> $rule:expr, $effects:expr;
    )*) => {
        /// An instruction of the IR. See [`Opcode::info`] for its row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Opcode {
            $( $(#[doc = $doc])* $variant, )*
        }

        impl Opcode {
            /// All instructions, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            const TABLE: &'static [OpcodeInfo] = &[$(OpcodeInfo {
                mnemonic: $mnemonic,
                operands: &[$(Operand { name: stringify!($operand), class: class!($($class)?) }),*],
                imm: or_default!(ImmKind::None $(, ImmKind::$imm)?),
                targets: or_default!(0 $(, $targets)?),
                rule: $rule,
                effects: $effects,
                doc: concat!($($doc),*),
            }),*];
        }
    };
}

use Effects as E;
use Rule::{
    Callee, Constant, First, Fixed, Max, MaxOfLast, MaxPlusOne, Min, None as NoResult, Second, Shrink, Sum, Widen,
};

const BOOL: Rule = Fixed(1);
const WORD: Rule = Fixed(256);
const ADDRESS: Rule = Fixed(160);
const LENGTH: Rule = Fixed(64);
const PLACE: Rule = Fixed(Type::PLACE.bits());
const INPUT: E = E::READS_INPUT;
const STOPS: E = E::TERMINATES;
const FOREIGN: E = E::READS_MEMORY
    .and(E::WRITES_MEMORY)
    .and(E::READS_STORAGE)
    .and(E::WRITES_STORAGE)
    .and(E::READS_TRANSIENT)
    .and(E::WRITES_TRANSIENT)
    .and(E::WRITES_RETURN_DATA)
    .and(E::READS_ACCOUNTS)
    .and(E::WRITES_ACCOUNTS)
    .and(E::LOGS)
    .and(E::MAY_TRAP);

instructions! {
    // Constants and widths.
    /// The constant `imm`.
    Iconst "iconst" () [imm Word] -> Constant, E::PURE;
    /// `a` in a wider type.
    Zext "zext" (a) -> Widen, E::PURE;
    /// `a` modulo 2^N, N being the result's width.
    Trunc "trunc" (a) -> Shrink, E::PURE;
    /// `a` in a narrower type that is known to hold it. A pass emits it only with a proof; executing it on a value that
    /// does not fit is an error of the compiler, not an outcome.
    Narrow "narrow" (a) -> Shrink, E::PURE;

    // Exact arithmetic: integers, no wrapping.
    /// `a + b`.
    Add "add" (a, b) -> MaxPlusOne, E::PURE;
    /// `a − b`, where `a ≥ b` is known (as with `narrow`, a pass must have proved it).
    Sub "sub" (a, b) -> First, E::PURE;
    /// `a · b`.
    Mul "mul" (a, b) -> Sum, E::PURE;

    // Word arithmetic: modulo 2^256, as the EVM defines it.
    /// `a + b mod 2^256` (ADD).
    Wadd "wadd" (a, b) -> WORD, E::PURE;
    /// `a − b mod 2^256` (SUB).
    Wsub "wsub" (a, b) -> WORD, E::PURE;
    /// `a · b mod 2^256` (MUL).
    Wmul "wmul" (a, b) -> WORD, E::PURE;
    /// `⌊a / b⌋`, zero when `b` is zero (DIV).
    Udiv "udiv" (a, b) -> First, E::PURE;
    /// `a mod b`, zero when `b` is zero (MOD).
    Urem "urem" (a, b) -> Min, E::PURE;
    /// Signed division, truncated; zero when `b` is zero; MIN / −1 is MIN (SDIV).
    Sdiv "sdiv" (a, b) -> WORD, E::PURE;
    /// Signed remainder with the sign of `a`; zero when `b` is zero (SMOD).
    Srem "srem" (a, b) -> WORD, E::PURE;
    /// `(a + b) mod n` on unbounded integers; zero when `n` is zero (ADDMOD).
    Addmod "addmod" (a, b, n) -> WORD, E::PURE;
    /// `(a · b) mod n` on unbounded integers; zero when `n` is zero (MULMOD).
    Mulmod "mulmod" (a, b, n) -> WORD, E::PURE;
    /// `a^b mod 2^256`, with 0^0 = 1 (EXP).
    Exp "exp" (a, b) -> WORD, E::PURE;
    /// `a` with the sign bit of its byte `k` (counted from the least significant) copied upwards; `a` itself when
    /// `k ≥ 31` (SIGNEXTEND).
    Signextend "signextend" (k, a) -> WORD, E::PURE;

    // Comparisons.
    /// 1 if `a` is zero (ISZERO).
    Iszero "iszero" (a) -> BOOL, E::PURE;
    /// 1 if `a = b` (EQ).
    Eq "eq" (a, b) -> BOOL, E::PURE;
    /// 1 if `a < b`, unsigned (LT; GT with its operands exchanged).
    Ult "ult" (a, b) -> BOOL, E::PURE;
    /// 1 if `a < b` as two's complement words (SLT; SGT with its operands exchanged).
    Slt "slt" (a, b) -> BOOL, E::PURE;
    /// `a` if `c`, else `b`.
    Select "select" (c: bool, a, b) -> MaxOfLast, E::PURE;

    // Bits.
    /// Bitwise and (AND).
    And "and" (a, b) -> Min, E::PURE;
    /// Bitwise or (OR).
    Or "or" (a, b) -> Max, E::PURE;
    /// Bitwise exclusive or (XOR).
    Xor "xor" (a, b) -> Max, E::PURE;
    /// Bitwise complement of the word (NOT).
    Not "not" (a) -> WORD, E::PURE;
    /// `a · 2^n mod 2^256`, zero when `n ≥ 256` (SHL).
    Shl "shl" (n, a) -> WORD, E::PURE;
    /// `⌊a / 2^n⌋`, zero when `n ≥ 256` (SHR).
    Shr "shr" (n, a) -> Second, E::PURE;
    /// Shift right of the two's complement word, copying the sign (SAR).
    Sar "sar" (n, a) -> WORD, E::PURE;
    /// Byte `i` of the word, counted from the most significant; zero when `i ≥ 32` (BYTE).
    Byte "byte" (i, a) -> Fixed(8), E::PURE;
    /// The number of leading zeros of the 256-bit word; 256 for zero (CLZ, EIP-7939).
    Clz "clz" (a) -> Fixed(9), E::PURE;

    // Hashes.
    /// Keccak-256 of the first `imm` bytes of the big-endian words, concatenated.
    KeccakWords "keccak_words" (words: many) [imm Len] -> WORD, E::PURE;
    /// Word `imm` of the seven that hold a state of 200 bytes, big-endian and 24 zeros behind them, after the permutation Keccak-f (FIPS 202, 3.3).
    /// The last 24 bytes of `g` do not count. Made for the circuit, which hashes bytes of any number block by block; the EVM has none.
    KeccakF "keccak_f" (a, b, c, d, e, f, g) [imm Word] -> WORD, E::PURE;
    /// Keccak-256 of `len` bytes of memory at `offset` (KECCAK256).
    Keccak256 "keccak256" (offset, len) -> WORD, E::READS_MEMORY;

    // Memory.
    /// `a`, where `imm` bytes from `a` on are below the limit of memory (2^26 bytes). Otherwise the execution has no outcome: a
    /// program that goes on to access them runs out of gas on the EVM, and whatever stands for it must not return.
    Bound "bound" (a) [imm Word] -> PLACE, E::MAY_TRAP;
    /// The word at byte `offset` of memory (MLOAD).
    Mload "mload" (offset) -> WORD, E::READS_MEMORY;
    /// Stores a word at byte `offset` (MSTORE).
    Mstore "mstore" (offset, a) -> NoResult, E::WRITES_MEMORY;
    /// Stores the least significant byte of `a` (MSTORE8).
    Mstore8 "mstore8" (offset, a) -> NoResult, E::WRITES_MEMORY;
    /// Copies `len` bytes within memory, as if through a buffer (MCOPY, EIP-5656).
    Mcopy "mcopy" (to, from, len) -> NoResult, E::READS_MEMORY.and(E::WRITES_MEMORY);
    /// The size of touched memory in bytes, a multiple of 32 (MSIZE).
    Msize "msize" () -> LENGTH, E::READS_MEMORY;

    /// Word `n + imm` of a store of its own, which is no memory of the program and holds zeros first. Made for the circuit, which keeps there
    /// what is needed after a call of a recursion; the EVM has none.
    FrameLoad "frame_load" (n) [imm Word] -> WORD, E::READS_FRAMES;
    /// Sets word `n + imm` of the store that `frame_load` reads.
    FrameStore "frame_store" (n, a) [imm Word] -> NoResult, E::WRITES_FRAMES;

    // Input: fixed during one execution.
    /// The word at byte `offset` of the calldata, zero-padded (CALLDATALOAD).
    Calldataload "calldataload" (offset) -> WORD, INPUT;
    /// The length of the calldata in bytes (CALLDATASIZE).
    Calldatasize "calldatasize" () -> LENGTH, INPUT;
    /// Copies calldata to memory, zero-padded (CALLDATACOPY).
    Calldatacopy "calldatacopy" (to, from, len) -> NoResult, INPUT.and(E::WRITES_MEMORY);
    /// Copies a data segment to memory, zero-padded (CODECOPY).
    Datacopy "datacopy" (to, from, len) [imm Data] -> NoResult, INPUT.and(E::WRITES_MEMORY);
    /// The word that the constructor puts at a position of the deployed code (an immutable, PUSH32 of a placeholder). It has
    /// a value only in deployed code, so no execution of the IR reads it.
    Immutable "immutable" () [imm Place] -> WORD, INPUT;
    /// The account that executes (ADDRESS).
    Address "address" () -> ADDRESS, INPUT;
    /// The account that called (CALLER).
    Caller "caller" () -> ADDRESS, INPUT;
    /// The account that signed the transaction (ORIGIN).
    Origin "origin" () -> ADDRESS, INPUT;
    /// The value sent with the call, in wei (CALLVALUE).
    Callvalue "callvalue" () -> WORD, INPUT;
    /// The effective gas price (GASPRICE).
    Gasprice "gasprice" () -> WORD, INPUT;
    /// The beneficiary of the block (COINBASE).
    Coinbase "coinbase" () -> ADDRESS, INPUT;
    /// The block's time (TIMESTAMP).
    Timestamp "timestamp" () -> WORD, INPUT;
    /// The block's number (NUMBER).
    Number "number" () -> WORD, INPUT;
    /// The beacon chain's randomness (PREVRANDAO, EIP-4399).
    Prevrandao "prevrandao" () -> WORD, INPUT;
    /// The block's gas limit (GASLIMIT).
    Gaslimit "gaslimit" () -> WORD, INPUT;
    /// The chain's identifier (CHAINID, EIP-1344).
    Chainid "chainid" () -> WORD, INPUT;
    /// The block's base fee (BASEFEE, EIP-3198).
    Basefee "basefee" () -> WORD, INPUT;
    /// The block's blob base fee (BLOBBASEFEE, EIP-7516).
    Blobbasefee "blobbasefee" () -> WORD, INPUT;
    /// The hash of block `n`, zero if it is not one of the latest 256 (BLOCKHASH).
    Blockhash "blockhash" (n) -> WORD, INPUT;
    /// The versioned hash of the transaction's blob `i`, zero if there is none (BLOBHASH, EIP-4844).
    Blobhash "blobhash" (i) -> WORD, INPUT;

    // Accounts.
    /// The balance of the executing account (SELFBALANCE, EIP-1884).
    Selfbalance "selfbalance" () -> WORD, E::READS_ACCOUNTS;
    /// The balance of account `a` (BALANCE).
    Balance "balance" (a) -> WORD, E::READS_ACCOUNTS;
    /// The length of the code of account `a` (EXTCODESIZE).
    Extcodesize "extcodesize" (a) -> LENGTH, E::READS_ACCOUNTS;
    /// The hash of the code of account `a`, zero if the account does not exist (EXTCODEHASH).
    Extcodehash "extcodehash" (a) -> WORD, E::READS_ACCOUNTS;
    /// Copies the code of account `a` to memory, zero-padded (EXTCODECOPY).
    Extcodecopy "extcodecopy" (a, to, from, len) -> NoResult, E::READS_ACCOUNTS.and(E::WRITES_MEMORY);
    /// The remaining gas (GAS). Only a call's gas operand may depend on it.
    Gas "gas" () -> WORD, E::READS_GAS;

    // Storage.
    /// The word at `key` of persistent storage (SLOAD).
    Sload "sload" (key) -> WORD, E::READS_STORAGE;
    /// Stores a word in persistent storage; traps in a static call (SSTORE).
    Sstore "sstore" (key, a) -> NoResult, E::WRITES_STORAGE.and(E::MAY_TRAP);
    /// The word at `key` of transient storage (TLOAD, EIP-1153).
    Tload "tload" (key) -> WORD, E::READS_TRANSIENT;
    /// Stores a word in transient storage; traps in a static call (TSTORE, EIP-1153).
    Tstore "tstore" (key, a) -> NoResult, E::WRITES_TRANSIENT.and(E::MAY_TRAP);

    // Logs and calls.
    /// Appends a log of `len` bytes of memory at `offset` with up to four topics; traps in a static call (LOG0–LOG4).
    Log "log" (offset, len, topics: many) -> NoResult, E::LOGS.and(E::READS_MEMORY).and(E::MAY_TRAP);
    /// Appends a log of the first `imm` bytes of the big-endian words that end the operands, concatenated; the operands
    /// before those words are its topics, at most four. Traps in a static call (LOG0–LOG4).
    LogWords "log_words" (topics_and_words: many) [imm Len] -> NoResult, E::LOGS.and(E::MAY_TRAP);
    /// Does nothing. Whoever watches an execution sees the words; a circuit hashes them, so that data of any length are part of what
    /// it shows.
    Note "note" (words: many) -> NoResult, E::LOGS;
    /// The length of the return data of the latest call (RETURNDATASIZE, EIP-211).
    Returndatasize "returndatasize" () -> LENGTH, E::READS_RETURN_DATA;
    /// Copies return data to memory; traps when it reads past the end (RETURNDATACOPY, EIP-211).
    Returndatacopy "returndatacopy" (to, from, len) -> NoResult,
        E::READS_RETURN_DATA.and(E::WRITES_MEMORY).and(E::MAY_TRAP);
    /// Calls an account with value; 1 on success (CALL).
    EvmCall "evm_call" (gas, to, value, in_offset, in_len, out_offset, out_len) -> BOOL, FOREIGN;
    /// Runs another account's code as oneself, with value (CALLCODE).
    EvmCallcode "evm_callcode" (gas, to, value, in_offset, in_len, out_offset, out_len) -> BOOL, FOREIGN;
    /// Runs another account's code as oneself, keeping caller and value (DELEGATECALL, EIP-7).
    EvmDelegatecall "evm_delegatecall" (gas, to, in_offset, in_len, out_offset, out_len) -> BOOL, FOREIGN;
    /// Calls an account that may not change the state (STATICCALL, EIP-214).
    EvmStaticcall "evm_staticcall" (gas, to, in_offset, in_len, out_offset, out_len) -> BOOL, FOREIGN;
    /// Creates an account; its address, or zero (CREATE).
    EvmCreate "evm_create" (value, offset, len) -> ADDRESS, FOREIGN;
    /// Creates an account at an address that depends on code and salt (CREATE2, EIP-1014).
    EvmCreate2 "evm_create2" (value, offset, len, salt) -> ADDRESS, FOREIGN;
    /// Calls a function of the module.
    Call "call" (args: many) [imm Func] -> Callee, E::CALLS;

    // Terminators.
    /// Goes to a block.
    Jump "jump" () [targets 1] -> NoResult, STOPS;
    /// Goes to the first block if `c`, else to the second.
    Brif "brif" (c: bool) [targets 2] -> NoResult, STOPS;
    /// Returns from the function to its caller in the module.
    Ret "ret" (results: many) -> NoResult, STOPS;
    /// Halts with success and no data (STOP).
    Stop "stop" () -> NoResult, STOPS;
    /// Halts with success and `len` bytes of memory at `offset` (RETURN).
    Return "return" (offset, len) -> NoResult, STOPS.and(E::READS_MEMORY);
    /// Halts with success and the first `imm` bytes of the big-endian words, concatenated.
    ReturnWords "return_words" (words: many) [imm Len] -> NoResult, STOPS;
    /// Undoes all state effects and halts with `len` bytes of memory at `offset` (REVERT, EIP-140).
    Revert "revert" (offset, len) -> NoResult, STOPS.and(E::READS_MEMORY);
    /// Undoes all state effects and halts with the first `imm` bytes of the big-endian words, concatenated.
    RevertWords "revert_words" (words: many) [imm Len] -> NoResult, STOPS;
    /// Undoes all state effects and halts exceptionally (INVALID and every other exceptional halt).
    Trap "trap" () [imm Trap] -> NoResult, STOPS;
    /// Sends the balance to account `a` and halts with success (SELFDESTRUCT, EIP-6780).
    Selfdestruct "selfdestruct" (a) -> NoResult, STOPS.and(E::WRITES_ACCOUNTS).and(E::MAY_TRAP);
}

/// Why a result width could not be derived.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WidthError {
    /// The rule gives more than 256 bits.
    #[error("the result would need {0} bits, more than 256")]
    TooWide(u16),
    /// The instruction does not have as many operands as its row.
    #[error("expected {expected} operands, found {found}")]
    Arity {
        /// What the row asks for.
        expected: usize,
        /// What there is.
        found: usize,
    },
    /// The type is written at the instruction (a constant or a width change), so it cannot be derived.
    #[error("the result type must be written at the instruction")]
    Declared,
}

impl Opcode {
    /// The row of the instruction.
    pub const fn info(self) -> &'static OpcodeInfo {
        &Self::TABLE[self as usize]
    }

    /// The name in the text form.
    pub const fn mnemonic(self) -> &'static str {
        self.info().mnemonic
    }

    /// What it does besides computing its result.
    pub const fn effects(self) -> Effects {
        self.info().effects
    }

    /// Whether the result depends on operands and immediate alone.
    pub const fn is_pure(self) -> bool {
        self.info().effects.is_pure()
    }

    /// Whether it ends its block.
    pub const fn is_terminator(self) -> bool {
        self.info().effects.has(Effects::TERMINATES)
    }

    /// Whether the operands may be exchanged.
    pub const fn is_commutative(self) -> bool {
        matches!(self, Self::Add | Self::Mul | Self::Wadd | Self::Wmul | Self::Eq | Self::And | Self::Or | Self::Xor)
    }

    /// The instruction with this name.
    pub fn from_mnemonic(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| op.mnemonic() == name)
    }

    /// The width of the result where the operands decide it; `Ok(None)` when there is no single result.
    pub fn result_type(self, args: &[Type]) -> Result<Option<Type>, WidthError> {
        let arg = |i: usize| {
            args.get(i)
                .map(|ty| ty.bits())
                .ok_or(WidthError::Arity { expected: self.info().operands.len(), found: args.len() })
        };
        let bits = match self.info().rule {
            NoResult | Callee => return Ok(None),
            Constant | Widen | Shrink => return Err(WidthError::Declared),
            Fixed(bits) => bits,
            First => arg(0)?,
            Second => arg(1)?,
            Min => arg(0)?.min(arg(1)?),
            Max => arg(0)?.max(arg(1)?),
            MaxOfLast => arg(1)?.max(arg(2)?),
            MaxPlusOne => arg(0)?.max(arg(1)?) + 1,
            Sum => arg(0)? + arg(1)?,
        };
        Type::new(bits).map(Some).ok_or(WidthError::TooWide(bits))
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.mnemonic())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn mnemonics_are_unique_and_found() {
        let names: BTreeSet<_> = Opcode::ALL.iter().map(|op| op.mnemonic()).collect();
        assert_eq!(names.len(), Opcode::ALL.len());
        for &op in Opcode::ALL {
            assert_eq!(Opcode::from_mnemonic(op.mnemonic()), Some(op));
        }
    }

    #[test]
    fn rows_are_well_formed() {
        for op in Opcode::ALL {
            let row = op.info();
            let many = row.operands.iter().position(|operand| operand.class == Class::Many);
            assert!(many.is_none_or(|at| at + 1 == row.operands.len()), "{op}: a variadic operand is last");
            assert!(!row.doc.trim().is_empty(), "{op} has no meaning");
            assert!(row.targets == 0 || op.is_terminator(), "{op} has targets");
            assert!(!op.is_terminator() || row.rule == Rule::None, "{op}: terminators have no result");
        }
    }

    #[test]
    fn trap_codes_match_their_names() {
        for (code, name) in TrapCode::ALL {
            assert_eq!(code.name(), name);
        }
    }
}
