//! Which memory the program cannot see.
//!
//! Three things need memory that the IR does not mention: `keccak_words` and `log_words` (the words are hashed and logged
//! from memory), the exits `return_words` and `revert_words`, and values spilled from the stack. What each may use follows from where the
//! program itself reads and writes: an access at an unknown place still has a lowest one, below which memory that nobody
//! names is free.

use cranelift_entity::SecondaryMap;
use zvm_ir::reach::{implied, root};
use zvm_ir::{Func, Function, Imm, Inst, InstData, Module, Opcode, Value, Word};

use crate::ranges::Ranges;

/// One access of an instruction to memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Where it begins.
    pub offset: Value,
    /// Which operand that is.
    pub at: usize,
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

/// Addresses that contain those of an access, from the first to the one behind the last. `None` where the end is not known
/// to be below 2^32.
pub(crate) type Span = (u64, Option<u64>);

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemoryPlan {
    /// Whether the program reads MSIZE.
    pub observes_msize: bool,
    /// Where `keccak_words` and `log_words` put their words.
    pub scratch: Scratch,
    /// From here on the program neither reads nor writes, and neither do scratch and exits. `None` if no such address
    /// is known.
    pub spill_base: Option<u64>,
    /// Scratch and exits end before this address.
    pub own_end: u64,
    /// Words below `spill_base` with the same property, in ascending order.
    pub holes: Vec<u64>,
}

/// Addresses from here on are not worth using: memory of this size costs 150,000 gas.
pub(crate) const MAX_STATIC: u64 = 1 << 18;

/// How many words are looked for between those that the program uses.
const HOLES: usize = 256;

/// Analyses a module. Creation code reads words of itself by way of scratch memory.
pub(crate) fn plan(module: &Module, creation: bool) -> MemoryPlan {
    let observes_msize = module.observes_msize();
    let ranges = Ranges::new(module);
    let mut reads: Vec<Span> = Vec::new();
    let mut writes: Vec<Span> = Vec::new();
    let mut words_end: u64 = 0;
    let mut hashed: u64 = 0;
    for (func, function) in &module.funcs {
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
        }
        for (_, access, span) in spans(module, func, &ranges) {
            match access.kind {
                Kind::Read => reads.push(span),
                Kind::Write => writes.push(span),
            }
        }
    }
    let scratch = if observes_msize {
        Scratch::Forbidden
    } else {
        gap(&reads, hashed).filter(|&base| base <= MAX_STATIC).map_or(Scratch::Restore, Scratch::Free)
    };
    let own = match scratch {
        Scratch::Free(base) => (base, Some(base + hashed)),
        Scratch::Restore | Scratch::Forbidden => (0, Some(hashed)),
    };
    let mut used = [reads, writes].concat();
    used.extend([own, (0, Some(words_end))]);
    let own_end = own.1.map_or(words_end, |end| end.max(words_end));
    if observes_msize {
        return MemoryPlan { observes_msize, scratch, spill_base: None, own_end, holes: Vec::new() };
    }
    let end = used.iter().map(|&(_, end)| end).try_fold(0, |most: u64, end| end.map(|end| most.max(end)));
    let spill_base = end.map(|end| end.next_multiple_of(32)).filter(|&base| base <= MAX_STATIC);
    let holes = holes(used, spill_base.unwrap_or(MAX_STATIC));
    MemoryPlan { observes_msize, scratch, spill_base, own_end, holes }
}

/// The lowest address, a multiple of 32, from which so many bytes are in none of the spans.
fn gap(spans: &[Span], len: u64) -> Option<u64> {
    let mut sorted: Vec<Span> = spans.iter().copied().filter(|&(from, end)| end != Some(from)).collect();
    sorted.sort_unstable();
    let mut base: u64 = 0;
    for (from, end) in sorted {
        if from >= base.checked_add(len)? {
            break;
        }
        base = base.max(end?.checked_next_multiple_of(32)?);
    }
    Some(base)
}

/// The words below `limit` that are in none of the spans.
fn holes(mut spans: Vec<Span>, limit: u64) -> Vec<u64> {
    spans.retain(|&(from, end)| end != Some(from));
    spans.sort_unstable();
    let mut holes = Vec::new();
    let mut at: u64 = 0;
    for (from, end) in spans.into_iter().chain([(limit, None)]) {
        while at + 32 <= from.min(limit) && holes.len() < HOLES {
            holes.push(at);
            at += 32;
        }
        match end {
            Some(end) => at = at.max(end.next_multiple_of(32)),
            None => break,
        }
    }
    holes
}

/// The accesses of a function to memory, with the addresses that contain theirs.
///
/// A `bound` that an access implies is no instruction of the EVM: up to that access, a sum with its result may wrap around. So may one with
/// what is loaded, if such a result was stored where solc keeps its pointer.
pub(crate) fn spans(module: &Module, func: Func, ranges: &Ranges) -> Vec<(Inst, Access, Span)> {
    let function = &module.funcs[func];
    let implied = implied(function);
    let mut places: SecondaryMap<Inst, usize> = SecondaryMap::new();
    function.insts_in_order().zip(1..).for_each(|((_, inst), at)| places[inst] = at);
    // Up to the instruction at which place a sum with a value may wrap around: zero where none may.
    let mut until: SecondaryMap<Value, usize> = SecondaryMap::new();
    let mut stored = 0;
    let mut found = Vec::new();
    for (_, inst) in function.insts_in_order() {
        let data = &function.insts[inst];
        for access in accesses(data) {
            let wraps = wraps_until(function, access.offset, &until) >= places[inst];
            found.push((inst, access, if wraps { (0, None) } else { span(module, func, access, ranges) }));
        }
        let mut last = data.args.iter().map(|&arg| until[arg]).max().unwrap_or(0);
        match (data.opcode, &data.args[..]) {
            (Opcode::Bound, &[arg]) if ranges.of(module, func, arg).1 > Word::from(u128::MAX) => {
                let access = implied.get(&inst).and_then(|by| by.first());
                last = last.max(access.map_or(0, |&access| places[access]));
            }
            (Opcode::Mload, _) => last = last.max(stored),
            (Opcode::Mstore, &[_, value]) => stored = stored.max(until[value]),
            _ => {}
        }
        data.results.iter().for_each(|&result| until[result] = last);
    }
    found
}

/// Up to which place an access at this value may be at any address. Through bounds and changes of width it is the same word as that which
/// is bounded, and then one that no gas pays for.
fn wraps_until(function: &Function, value: Value, until: &SecondaryMap<Value, usize>) -> usize {
    let root = root(function, value);
    match function.def_inst(root).map(|def| &function.insts[def]) {
        Some(data) if data.opcode == Opcode::Mload => until[root],
        Some(data) => data.args.iter().map(|&arg| until[arg]).max().unwrap_or(0),
        None => 0,
    }
}

/// The addresses that contain those of an access. An empty one is `(0, Some(0))`.
fn span(module: &Module, func: Func, access: Access, ranges: &Ranges) -> Span {
    let small = |word: Word| u64::try_from(word).ok().filter(|&n| n < 1 << 32);
    let len = match access.len {
        Extent::Bytes(len) => Some(len),
        Extent::Dynamic(len) => small(ranges.of(module, func, len).1),
    };
    if len == Some(0) {
        return (0, Some(0));
    }
    let (low, high) = ranges.of(module, func, access.offset);
    let end = len.zip(small(high)).map(|(len, high)| high + len);
    // An address that is no word of 64 bits is one that no gas pays for.
    (u64::try_from(low).unwrap_or(u64::MAX), end)
}

/// The accesses of an instruction to memory. The words of `keccak_words` and of the exits are not the program's.
pub(crate) fn accesses(data: &InstData) -> Vec<Access> {
    let bytes = |at: usize, len: u64, kind| {
        data.args.get(at).map(|&offset| Access { offset, at, len: Extent::Bytes(len), kind })
    };
    let range = |at: usize, len: usize, kind| match (data.args.get(at), data.args.get(len)) {
        (Some(&offset), Some(&len)) => Some(Access { offset, at, len: Extent::Dynamic(len), kind }),
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
        | Opcode::KeccakF
        | Opcode::LogWords
        | Opcode::Note
        | Opcode::Bound
        | Opcode::Msize
        | Opcode::FrameLoad
        | Opcode::FrameStore
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
