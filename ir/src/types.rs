//! Types: the width of an unsigned integer, as a proved upper bound.

use core::fmt;

/// The type `uN` of a value: an integer in `0 .. 2^N`, with `1 ≤ N ≤ 256`.
///
/// A width is a promise, not a storage size: the verifier derives it from the operands of the defining
/// instruction, and the circuit backend relies on it without checking it again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Type(u16);

impl Type {
    /// `u1`, the type of conditions.
    pub const BOOL: Self = Self(1);
    /// `u256`, the EVM word.
    pub const WORD: Self = Self(256);
    /// `u160`, an account address.
    pub const ADDRESS: Self = Self(160);
    /// `u64`, lengths of byte strings that exist.
    pub const LENGTH: Self = Self(64);

    /// `u27`, places in memory: up to and with its limit of 2^26 bytes.
    pub const PLACE: Self = Self(27);

    /// The type of `bits` bits; `None` unless `1 ≤ bits ≤ 256`.
    pub const fn new(bits: u16) -> Option<Self> {
        if bits >= 1 && bits <= 256 { Some(Self(bits)) } else { None }
    }

    /// The narrowest type that holds `value` (`u1` for zero).
    pub fn of(value: &crate::Word) -> Self {
        Self((value.bit_len() as u16).max(1))
    }

    /// The width `N` in bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether `value` is below `2^N`.
    pub fn holds(self, value: &crate::Word) -> bool {
        value.bit_len() <= usize::from(self.0)
    }

    /// The largest value of the type, `2^N − 1`.
    pub fn max_value(self) -> crate::Word {
        crate::Word::MAX >> (256 - usize::from(self.0))
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "u{}", self.0)
    }
}

impl fmt::Debug for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
