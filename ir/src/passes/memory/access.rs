//! Which bytes of memory an instruction reads and writes, as far as facts about its operands tell.

use crate::function::{Imm, InstData};
use crate::opcode::Opcode;
use crate::passes::Context;
use crate::passes::facts::Fact;
use crate::{Value, Word};

/// Addresses from the last one below this on are not told apart: that one byte stands for all of them.
pub(crate) const LIMIT: u32 = 0x8000;

/// The longest bulk copy that is followed word by word, in bytes.
pub(crate) const COPY_LIMIT: u32 = 1024;

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    /// The first byte.
    pub from: u32,
    /// One past the last byte; [`LIMIT`] stands for the end of memory.
    pub to: u32,
    /// Whether all these bytes are accessed whenever the instruction is executed, in this order. Otherwise any part
    /// of them may be.
    pub exact: bool,
}

impl Span {
    /// All of memory.
    pub(crate) const ALL: Self = Self { from: 0, to: LIMIT, exact: false };

    /// `len` bytes at `offset`; `None` if these are no bytes.
    pub(crate) fn of(offset: &Fact, len: &Fact) -> Option<Self> {
        let clamp = |word: Word| u32::try_from(word).unwrap_or(LIMIT).min(LIMIT);
        let from = clamp(offset.lo).min(LIMIT - 1);
        let end = offset.hi.saturating_add(len.hi);
        let to = clamp(end);
        if len.hi.is_zero() {
            return None;
        }
        let exact = offset.constant().is_some() && len.constant().is_some() && end < Word::from(LIMIT);
        Some(Self { from, to, exact })
    }

    /// How many bytes.
    pub(crate) fn len(&self) -> u32 {
        self.to - self.from
    }
}

/// What an instruction does to memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    /// Bytes that may be read.
    pub reads: Vec<Span>,
    /// Bytes that may be written.
    pub writes: Vec<Span>,
}

impl Access {
    /// Anything.
    pub(crate) fn all() -> Self {
        Self { reads: vec![Span::ALL], writes: vec![Span::ALL] }
    }
}

/// What an instruction does to memory, whatever memory holds. `fact` answers what is known of an operand, by its position.
pub(crate) fn access(data: &InstData, cx: &Context, fact: impl Fn(usize) -> Fact) -> Access {
    let span = |offset: usize, len: usize| Span::of(&fact(offset), &fact(len)).into_iter().collect::<Vec<_>>();
    let fixed = |offset: usize, len: u64| -> Vec<Span> {
        Span::of(&fact(offset), &Fact::exact(Word::from(len))).into_iter().collect()
    };
    // The output of a foreign call is as long as its return data, at most the operand.
    let inexact = |mut spans: Vec<Span>| {
        for span in &mut spans {
            span.exact = false;
        }
        spans
    };
    let reads = |reads: Vec<Span>| Access { reads, writes: Vec::new() };
    let writes = |writes: Vec<Span>| Access { reads: Vec::new(), writes };
    match data.opcode {
        Opcode::Mload => reads(fixed(0, 32)),
        Opcode::Mstore => writes(fixed(0, 32)),
        Opcode::Mstore8 => writes(fixed(0, 1)),
        Opcode::Mcopy => Access { reads: span(1, 2), writes: span(0, 2) },
        Opcode::Keccak256 | Opcode::Log | Opcode::Return | Opcode::Revert => reads(span(0, 1)),
        Opcode::Calldatacopy | Opcode::Datacopy | Opcode::Returndatacopy => writes(span(0, 2)),
        Opcode::Extcodecopy => writes(span(1, 3)),
        Opcode::EvmCall | Opcode::EvmCallcode => Access { reads: span(3, 4), writes: inexact(span(5, 6)) },
        Opcode::EvmDelegatecall | Opcode::EvmStaticcall => Access { reads: span(2, 3), writes: inexact(span(4, 5)) },
        Opcode::EvmCreate | Opcode::EvmCreate2 => reads(span(1, 2)),
        Opcode::Call => match data.imm {
            Imm::Func(callee) => cx.summary(callee).anyhow.clone(),
            _ => Access::all(),
        },
        // The caller may read all of memory afterwards.
        Opcode::Ret => reads(vec![Span::ALL]),
        _ => Access::default(),
    }
}

/// The span that the instruction overwrites with values that can be named (see [`Source`]), if it does just that.
pub(crate) fn tracked_write(data: &InstData, cx: &Context, fact: impl Fn(usize) -> Fact) -> Option<(Span, Source)> {
    let span = *access(data, cx, &fact).writes.first()?;
    if !span.exact {
        return None;
    }
    let copied = span.len() <= COPY_LIMIT;
    match data.opcode {
        Opcode::Mstore | Opcode::Mstore8 => Some((span, Source::Value(*data.args.get(1)?))),
        // Calldataload wraps where calldatacopy pads with zeros, so the last address must not.
        Opcode::Calldatacopy if copied && fact(1).hi.checked_add(Word::from(COPY_LIMIT)).is_some() => {
            Some((span, Source::Calldata))
        }
        Opcode::Datacopy if copied => {
            let Imm::Data(segment) = data.imm else { return None };
            let bytes = cx.data(segment);
            let from = usize::try_from(fact(1).constant()?).unwrap_or(usize::MAX);
            let byte = |at: usize| from.checked_add(at).and_then(|at| bytes.get(at)).copied().unwrap_or(0);
            Some((span, Source::Bytes((0..span.len() as usize).map(byte).collect())))
        }
        _ => None,
    }
}

/// Where the bytes of a write come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The last bytes of a value, big-endian.
    Value(Value),
    /// Calldata, from the instruction's second operand on.
    Calldata,
    /// These constants.
    Bytes(Vec<u8>),
}
