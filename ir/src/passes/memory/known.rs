//! What is known about the contents of memory at a place: which bytes were written by stores at known addresses on every
//! path ("tracked"), and which of those are constants.

use std::collections::BTreeMap;

use crate::passes::memory::access::{LIMIT, Span};
use crate::passes::memory::byte_set::chunks_of;

const CHUNK: u32 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Chunk {
    tracked: u32,
    constant: u32,
    bytes: [u8; CHUNK as usize],
}

impl Chunk {
    const UNKNOWN: Self = Self { tracked: 0, constant: 0, bytes: [0; CHUNK as usize] };
    const FRESH: Self = Self { tracked: u32::MAX, constant: u32::MAX, bytes: [0; CHUNK as usize] };
}

/// What is known about memory. Chunks of 32 bytes without an entry are fresh (zero) below chunk `fresh_below` and
/// unknown from there on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    chunks: BTreeMap<u32, Chunk>,
    fresh_below: u32,
}

impl Known {
    /// Memory at the start of an execution: all zero.
    pub(crate) fn fresh() -> Self {
        Self { chunks: BTreeMap::new(), fresh_below: LIMIT / CHUNK }
    }

    /// Memory about which nothing is known.
    pub(crate) fn nothing() -> Self {
        Self { chunks: BTreeMap::new(), fresh_below: 0 }
    }

    fn default(&self, chunk: u32) -> Chunk {
        if chunk < self.fresh_below { Chunk::FRESH } else { Chunk::UNKNOWN }
    }

    fn get(&self, chunk: u32) -> Chunk {
        self.chunks.get(&chunk).copied().unwrap_or_else(|| self.default(chunk))
    }

    fn set(&mut self, chunk: u32, contents: Chunk) {
        if contents == self.default(chunk) {
            self.chunks.remove(&chunk);
        } else {
            self.chunks.insert(chunk, contents);
        }
    }

    /// Keeps what both know; whether `self` lost anything.
    pub(crate) fn join(&mut self, other: &Self) -> bool {
        let fresh_below = self.fresh_below.min(other.fresh_below);
        let touched: Vec<u32> = self.chunks.keys().chain(other.chunks.keys()).copied().collect();
        let mut joined = Self { chunks: BTreeMap::new(), fresh_below };
        for chunk in touched {
            let (a, b) = (self.get(chunk), other.get(chunk));
            let mut contents =
                Chunk { tracked: a.tracked & b.tracked, constant: a.constant & b.constant, bytes: a.bytes };
            for at in 0..CHUNK as usize {
                if a.bytes[at] != b.bytes[at] {
                    contents.constant &= !(1 << at);
                }
                if contents.constant >> at & 1 == 0 {
                    contents.bytes[at] = 0;
                }
            }
            joined.set(chunk, contents);
        }
        let changed = joined != *self;
        *self = joined;
        changed
    }

    /// Forgets the bytes of a span.
    pub(crate) fn forget(&mut self, span: Span) {
        if span.to == LIMIT {
            let whole = span.from.div_ceil(CHUNK);
            self.chunks.retain(|&chunk, _| chunk < whole);
            if !span.from.is_multiple_of(CHUNK) {
                self.update(span.from, whole * CHUNK, None, true);
            }
            self.fresh_below = self.fresh_below.min(whole);
            // Entries equal to what is now the default would make equal states differ.
            let kept: Vec<(u32, Chunk)> = std::mem::take(&mut self.chunks).into_iter().collect();
            for (chunk, contents) in kept {
                self.set(chunk, contents);
            }
        } else {
            self.update(span.from, span.to, None, true);
        }
    }

    /// The bytes of a span hold values that can be named.
    pub(crate) fn track(&mut self, span: Span) {
        self.update(span.from, span.to, None, false);
    }

    /// The bytes of a span hold these constants.
    pub(crate) fn store(&mut self, span: Span, bytes: &[u8]) {
        self.update(span.from, span.to, Some(bytes), false);
    }

    fn update(&mut self, from: u32, to: u32, bytes: Option<&[u8]>, forget: bool) {
        for (chunk, mask) in chunks_of(from, to) {
            let mut contents = self.get(chunk);
            contents.tracked = if forget { contents.tracked & !mask } else { contents.tracked | mask };
            contents.constant = if bytes.is_some() { contents.constant | mask } else { contents.constant & !mask };
            for at in (0..CHUNK).filter(|at| mask >> at & 1 == 1) {
                let byte = bytes.and_then(|bytes| bytes.get((chunk * CHUNK + at - from) as usize));
                contents.bytes[at as usize] = byte.copied().unwrap_or(0);
            }
            self.set(chunk, contents);
        }
    }

    /// Whether every byte of the span can be named.
    pub(crate) fn is_tracked(&self, span: Span) -> bool {
        chunks_of(span.from, span.to).all(|(chunk, mask)| self.get(chunk).tracked & mask == mask)
    }

    /// The bytes of the span, if all are known.
    pub(crate) fn constant(&self, span: Span) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(span.len() as usize);
        for (chunk, mask) in chunks_of(span.from, span.to) {
            let contents = self.get(chunk);
            if contents.constant & mask != mask {
                return None;
            }
            out.extend((0..CHUNK).filter(|at| mask >> at & 1 == 1).map(|at| contents.bytes[at as usize]));
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u32, to: u32) -> Span {
        Span { from, to, exact: true }
    }

    #[test]
    fn stores_overlap_by_bytes() {
        let mut known = Known::fresh();
        known.store(span(0, 32), &[0xaa; 32]);
        known.store(span(4, 36), &[0xbb; 32]);
        assert_eq!(known.constant(span(2, 6)), Some(vec![0xaa, 0xaa, 0xbb, 0xbb]));
        assert_eq!(known.constant(span(35, 38)), Some(vec![0xbb, 0, 0]));
        known.track(span(5, 6));
        assert!(known.is_tracked(span(0, 64)) && known.constant(span(4, 6)).is_none());
        known.forget(span(5, 6));
        assert!(!known.is_tracked(span(0, 64)) && known.is_tracked(span(6, 64)));
    }

    #[test]
    fn a_write_without_end_keeps_what_is_below() {
        let mut known = Known::fresh();
        known.store(span(0x40, 0x60), &[7; 32]);
        known.forget(span(0x84, LIMIT));
        assert_eq!(known.constant(span(0x40, 0x60)), Some(vec![7; 32]));
        assert!(known.is_tracked(span(0, 0x84)) && !known.is_tracked(span(0x84, 0x85)));
        known.forget(Span::ALL);
        assert_eq!(known, Known::nothing());
    }

    #[test]
    fn join_keeps_what_both_know() {
        let mut a = Known::fresh();
        let mut b = Known::fresh();
        a.store(span(0, 2), &[1, 2]);
        b.store(span(0, 2), &[1, 3]);
        b.forget(span(64, 65));
        assert!(a.join(&b) && !a.join(&b));
        assert_eq!(a.constant(span(0, 1)), Some(vec![1]));
        assert!(a.is_tracked(span(0, 64)) && a.constant(span(1, 2)).is_none() && !a.is_tracked(span(64, 66)));
    }
}
