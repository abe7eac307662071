//! Which memory the program cannot see.
//!
//! Three things need memory that the IR does not mention: `keccak_words` and `log_words` (the words are hashed and logged
//! from memory), the exits `return_words` and `revert_words`, and values spilled from the stack. What each may use follows from where the
//! program itself reads and writes.

use zvm_ir::{Function, Imm, InstData, Module, Opcode, Value, Word};

use crate::bounds::bounds;

/// One access of an instruction to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Access {
    offset: Value,
    len: Extent,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    Bytes(u64),
    Dynamic(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

/// Where `keccak_words` and `log_words` put their words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scratch {
    /// At this address, which the program never reads.
    Free(u64),
    /// At address zero, whose old contents are put back.
    Restore,
    /// Nowhere: the program would see it in MSIZE.
    Forbidden,
}

/// The result of the analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    /// Whether the program reads MSIZE.
    pub observes_msize: bool,
    /// Where `keccak_words` and `log_words` put their words.
    pub scratch: Scratch,
    /// From here on the program neither reads nor writes, and neither do scratch and exits. `None` if no such address
    /// is known.
    pub spill_base: Option<u64>,
}

/// Addresses from here on are not worth using: memory of this size costs 150,000 gas.
pub(crate) const MAX_STATIC: u64 = 1 << 18;

/// Analyses a module. Creation code reads words of itself by way of scratch memory.
pub(crate) fn plan(module: &Module, creation: bool) -> MemoryPlan {
    let observes_msize = module.observes_msize();
    let mut reads_end = Some(0);
    let mut writes_end = Some(0);
    let mut reads: Vec<(u64, u64)> = Vec::new();
    let mut words_end: u64 = 0;
    let mut hashed: u64 = 0;
    for function in module.funcs.values() {
        for (_, inst) in function.insts_in_order() {
            let data = &function.insts[inst];
            let topics = data.topics().map_or(0, <[Value]>::len);
            let words = 32 * (data.args.len() - topics) as u64;
            if matches!(data.opcode, Opcode::KeccakWords | Opcode::LogWords) {
                hashed = hashed.max(words);
            } else if creation && data.opcode == Opcode::Calldataload {
                hashed = hashed.max(32);
            } else if matches!(data.imm, Imm::Len(_)) {
                words_end = words_end.max(words);
            }
            for access in accesses(data) {
                let range = address_range(function, access);
                let end = if access.kind == Kind::Read { &mut reads_end } else { &mut writes_end };
                *end = end.zip(range).map(|(end, (_, to))| to.max(end));
                if let (Kind::Read, Some(range)) = (access.kind, range) {
                    reads.push(range);
                }
            }
        }
    }
    let scratch = match reads_end {
        _ if observes_msize => Scratch::Forbidden,
        Some(_) if reads.iter().all(|&(from, to)| from >= hashed || from == to) => Scratch::Free(0),
        Some(end) if end <= MAX_STATIC => Scratch::Free(end.next_multiple_of(32)),
        _ => Scratch::Restore,
    };
    let own_end = words_end.max(match scratch {
        Scratch::Free(base) => base + hashed,
        Scratch::Restore | Scratch::Forbidden => hashed,
    });
    let spill_base = match (reads_end, writes_end) {
        (Some(reads), Some(writes)) if !observes_msize => {
            Some(reads.max(writes).max(own_end).next_multiple_of(32)).filter(|&base| base <= MAX_STATIC)
        }
        _ => None,
    };
    MemoryPlan { observes_msize, scratch, spill_base }
}

/// Addresses that contain those of an access, if they are known to be below 2^32. An empty range is `(0, 0)`.
fn address_range(function: &Function, access: Access) -> Option<(u64, u64)> {
    let small = |word: Word| u64::try_from(word).ok().filter(|&n| n < 1 << 32);
    let len = match access.len {
        Extent::Bytes(len) => len,
        Extent::Dynamic(len) => small(bounds(function, len).1)?,
    };
    if len == 0 {
        return Some((0, 0));
    }
    let (low, high) = bounds(function, access.offset);
    Some((small(low)?, small(high)? + len))
}

/// The accesses of an instruction to memory. The words of `keccak_words` and of the exits are not the program's.
fn accesses(data: &InstData) -> Vec<Access> {
    let bytes =
        |at: usize, len: u64, kind| data.args.get(at).map(|&offset| Access { offset, len: Extent::Bytes(len), kind });
    let range = |at: usize, len: usize, kind| match (data.args.get(at), data.args.get(len)) {
        (Some(&offset), Some(&len)) => Some(Access { offset, len: Extent::Dynamic(len), kind }),
        _ => None,
    };
    let (first, second) = match data.opcode {
        Opcode::Mload => (bytes(0, 32, Kind::Read), None),
        Opcode::Mstore => (bytes(0, 32, Kind::Write), None),
        Opcode::Mstore8 => (bytes(0, 1, Kind::Write), None),
        Opcode::Mcopy => (range(0, 2, Kind::Write), range(1, 2, Kind::Read)),
        Opcode::Keccak256 | Opcode::Log | Opcode::Return | Opcode::Revert => (range(0, 1, Kind::Read), None),
        Opcode::Calldatacopy | Opcode::Datacopy | Opcode::Returndatacopy => (range(0, 2, Kind::Write), None),
        Opcode::Extcodecopy => (range(1, 3, Kind::Write), None),
        Opcode::EvmCall | Opcode::EvmCallcode => (range(3, 4, Kind::Read), range(5, 6, Kind::Write)),
        Opcode::EvmDelegatecall | Opcode::EvmStaticcall => (range(2, 3, Kind::Read), range(4, 5, Kind::Write)),
        Opcode::EvmCreate | Opcode::EvmCreate2 => (range(1, 2, Kind::Read), None),
        Opcode::Iconst
        | Opcode::Zext
        | Opcode::Trunc
        | Opcode::Narrow
        | Opcode::Add
        | Opcode::Sub
        | Opcode::Mul
        | Opcode::Wadd
        | Opcode::Wsub
        | Opcode::Wmul
        | Opcode::Udiv
        | Opcode::Urem
        | Opcode::Sdiv
        | Opcode::Srem
        | Opcode::Addmod
        | Opcode::Mulmod
        | Opcode::Exp
        | Opcode::Signextend
        | Opcode::Iszero
        | Opcode::Eq
        | Opcode::Ult
        | Opcode::Slt
        | Opcode::Select
        | Opcode::And
        | Opcode::Or
        | Opcode::Xor
        | Opcode::Not
        | Opcode::Shl
        | Opcode::Shr
        | Opcode::Sar
        | Opcode::Byte
        | Opcode::Clz
        | Opcode::KeccakWords
        | Opcode::LogWords
        | Opcode::Note
        | Opcode::Bound
        | Opcode::Msize
        | Opcode::Calldataload
        | Opcode::Calldatasize
        | Opcode::Immutable
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
        | Opcode::Blockhash
        | Opcode::Blobhash
        | Opcode::Selfbalance
        | Opcode::Balance
        | Opcode::Extcodesize
        | Opcode::Extcodehash
        | Opcode::Gas
        | Opcode::Sload
        | Opcode::Sstore
        | Opcode::Tload
        | Opcode::Tstore
        | Opcode::Returndatasize
        | Opcode::Call
        | Opcode::Jump
        | Opcode::Brif
        | Opcode::Ret
        | Opcode::Stop
        | Opcode::ReturnWords
        | Opcode::RevertWords
        | Opcode::Trap
        | Opcode::Selfdestruct => (None, None),
    };
    debug_assert!(!matches!(data.imm, Imm::Len(_)) || first.is_none(), "exits of words touch no program memory");
    first.into_iter().chain(second).collect()
}
