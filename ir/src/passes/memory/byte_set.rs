//! A set of memory addresses below [`LIMIT`].

use std::collections::BTreeMap;

use crate::passes::memory::access::{LIMIT, Span};
use crate::work::look;

const CHUNK: u32 = 32;

/// A set of addresses: a bit per byte in chunks of 32; chunks without an entry are all in the set from chunk `full_from`
/// on, and all outside it below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByteSet {
    chunks: BTreeMap<u32, u32>,
    full_from: u32,
}

/// The chunks that a span touches, each with a mask of the bytes touched.
pub(crate) fn chunks_of(from: u32, to: u32) -> impl Iterator<Item = (u32, u32)> {
    let last = to.div_ceil(CHUNK);
    (from / CHUNK..last).map(move |chunk| {
        let start = from.saturating_sub(chunk * CHUNK).min(CHUNK);
        let end = (to - chunk * CHUNK).min(CHUNK);
        let below = |n: u32| if n == CHUNK { u32::MAX } else { (1 << n) - 1 };
        (chunk, below(end) & !below(start))
    })
}

impl ByteSet {
    /// No address.
    pub(crate) fn empty() -> Self {
        Self { chunks: BTreeMap::new(), full_from: LIMIT / CHUNK }
    }

    fn get(&self, chunk: u32) -> u32 {
        self.chunks.get(&chunk).copied().unwrap_or(if chunk >= self.full_from { u32::MAX } else { 0 })
    }

    fn set(&mut self, chunk: u32, bits: u32) {
        if bits == if chunk >= self.full_from { u32::MAX } else { 0 } {
            self.chunks.remove(&chunk);
        } else {
            self.chunks.insert(chunk, bits);
        }
    }

    /// Puts in the addresses of a span.
    pub(crate) fn insert(&mut self, span: Span) {
        if span.to == LIMIT {
            let whole = span.from.div_ceil(CHUNK);
            // From the first whole chunk on everything is in the set, exceptions included.
            self.chunks.retain(|&chunk, _| chunk < whole);
            self.full_from = self.full_from.min(whole);
            if !span.from.is_multiple_of(CHUNK) {
                let chunk = span.from / CHUNK;
                let bits = self.get(chunk) | !((1 << (span.from % CHUNK)) - 1);
                self.set(chunk, bits);
            }
            return;
        }
        for (chunk, mask) in chunks_of(span.from, span.to) {
            self.set(chunk, self.get(chunk) | mask);
        }
    }

    /// Takes out the addresses of a span.
    pub(crate) fn remove(&mut self, span: Span) {
        for (chunk, mask) in chunks_of(span.from, span.to) {
            self.set(chunk, self.get(chunk) & !mask);
        }
    }

    /// Whether some address of the span is in the set.
    pub(crate) fn meets(&self, span: Span) -> bool {
        chunks_of(span.from, span.to).any(|(chunk, mask)| self.get(chunk) & mask != 0)
    }

    /// Puts in the addresses of another set; whether that added any.
    pub(crate) fn union(&mut self, other: &Self) -> bool {
        look(self.chunks.len() + other.chunks.len());
        let before = self.clone();
        let full_from = self.full_from.min(other.full_from);
        let touched: Vec<u32> = self.chunks.keys().chain(other.chunks.keys()).copied().collect();
        let merged: Vec<(u32, u32)> =
            touched.into_iter().map(|chunk| (chunk, self.get(chunk) | other.get(chunk))).collect();
        // Where both had no entry the chunk is full exactly if it was full in one of them.
        self.full_from = full_from;
        for (chunk, bits) in merged {
            self.set(chunk, bits);
        }
        *self != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u32, to: u32) -> Span {
        Span { from, to, exact: true }
    }

    #[test]
    fn spans_go_in_and_out() {
        let mut set = ByteSet::empty();
        set.insert(span(4, 36));
        assert!(set.meets(span(35, 36)) && !set.meets(span(0, 4)) && !set.meets(span(36, 100)));
        set.remove(span(4, 35));
        assert!(set.meets(span(0, 64)) && !set.meets(span(0, 35)));
        set.remove(span(35, 36));
        assert_eq!(set, ByteSet::empty());
    }

    #[test]
    fn a_span_without_end_fills_the_rest() {
        let mut set = ByteSet::empty();
        set.insert(span(0, 4));
        set.insert(span(100, LIMIT));
        assert!(set.meets(span(100, 101)) && !set.meets(span(4, 100)) && set.meets(span(LIMIT - 1, LIMIT)));
        let mut other = ByteSet::empty();
        other.insert(span(64, 128));
        assert!(set.union(&other));
        assert!(set.meets(span(64, 65)) && !set.meets(span(32, 64)) && set.meets(span(5000, 5001)));
        assert!(!set.union(&other));
        let mut all = ByteSet::empty();
        all.insert(span(0, LIMIT));
        let before = all.clone();
        all.remove(span(0, 32));
        assert!(!all.meets(span(0, 32)) && all.meets(span(32, 33)));
        all.insert(span(0, LIMIT));
        assert_eq!(all, before);
    }
}
