//! What is known about the contents of memory at a place: which bytes were written by stores at known addresses on every
//! path ("tracked"), which of those are constants, and facts about whole words.

use std::collections::BTreeMap;

use crate::Word;
use crate::passes::facts::Fact;
use crate::passes::memory::access::{LIMIT, Span};
use crate::passes::memory::byte_set::chunks_of;
use crate::work::look;

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

/// How facts about words are brought together where paths meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// What holds on either path.
    Exact,
    /// The same, with bounds that jump, so that loops come to an end.
    Widening,
    /// Facts that differ are dropped.
    GivingUp,
}

/// What is known about memory. Chunks of 32 bytes without an entry are fresh (zero) below chunk `fresh_below` and
/// unknown from there on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Known {
    chunks: BTreeMap<u32, Chunk>,
    fresh_below: u32,
    /// What is known of words that are not constants, by their address. Below [`LIMIT`] and not trivial.
    words: BTreeMap<u32, Fact>,
}

impl Clone for Known {
    fn clone(&self) -> Self {
        let Self { chunks, fresh_below, words } = self;
        look(chunks.len() + words.len());
        Self { chunks: chunks.clone(), fresh_below: *fresh_below, words: words.clone() }
    }
}

impl Known {
    /// Memory at the start of an execution: all zero.
    pub(crate) fn fresh() -> Self {
        Self { chunks: BTreeMap::new(), fresh_below: LIMIT / CHUNK, words: BTreeMap::new() }
    }

    /// Memory about which nothing is known.
    pub(crate) fn nothing() -> Self {
        Self { chunks: BTreeMap::new(), fresh_below: 0, words: BTreeMap::new() }
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
    pub(crate) fn join(&mut self, other: &Self, how: Joining) -> bool {
        let fresh_below = self.fresh_below.min(other.fresh_below);
        let touched: Vec<u32> = self.chunks.keys().chain(other.chunks.keys()).copied().collect();
        look(touched.len() + self.words.len() + other.words.len());
        let mut joined = Self { chunks: BTreeMap::new(), fresh_below, words: self.joined_words(other, how) };
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

    fn joined_words(&self, other: &Self, how: Joining) -> BTreeMap<u32, Fact> {
        let mut words = BTreeMap::new();
        for &at in self.words.keys().chain(other.words.keys()) {
            let span = Span { from: at, to: at + CHUNK, exact: true };
            let (Some(a), Some(b)) = (self.word(span), other.word(span)) else { continue };
            let joined = a.join(&b);
            let fact = match how {
                _ if joined == a => a,
                Joining::Exact => joined,
                Joining::Widening => a.widen(&joined),
                Joining::GivingUp => continue,
            };
            if fact != Fact::ANY {
                words.insert(at, fact);
            }
        }
        // Constants that differ: bounds of the free memory pointer are worth keeping.
        for (&chunk, contents) in &self.chunks {
            let at = chunk * CHUNK;
            let span = Span { from: at, to: at + CHUNK, exact: true };
            if contents.constant != u32::MAX || how == Joining::GivingUp || words.contains_key(&at) {
                continue;
            }
            if let (Some(a), Some(b)) = (self.word(span), other.word(span))
                && a != b
            {
                let joined = a.join(&b);
                words.insert(at, if how == Joining::Widening { a.widen(&joined) } else { joined });
            }
        }
        words
    }

    /// Forgets the bytes of a span.
    pub(crate) fn forget(&mut self, span: Span) {
        self.forget_words(span.from, span.to);
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

    /// The word at a span is known to be so, whoever wrote it.
    pub(crate) fn note(&mut self, span: Span, fact: Fact) {
        if self.word(span).is_none() && fact != Fact::ANY {
            self.words.insert(span.from, fact);
        }
    }

    fn forget_words(&mut self, from: u32, to: u32) {
        let first = from.saturating_sub(CHUNK - 1);
        let gone: Vec<u32> = self.words.range(first..to).map(|(&at, _)| at).collect();
        for at in gone {
            self.words.remove(&at);
        }
    }

    /// The bytes of a span hold values that can be named; `fact` is what is known of them when they are one word.
    pub(crate) fn track(&mut self, span: Span, fact: Fact) {
        self.update(span.from, span.to, None, false);
        if span.len() == CHUNK && fact != Fact::ANY {
            self.words.insert(span.from, fact);
        }
    }

    /// The bytes of a span hold these constants.
    pub(crate) fn store(&mut self, span: Span, bytes: &[u8]) {
        self.update(span.from, span.to, Some(bytes), false);
    }

    fn update(&mut self, from: u32, to: u32, bytes: Option<&[u8]>, forget: bool) {
        self.forget_words(from, to);
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

    /// What is known of the word at a span of 32 bytes.
    pub(crate) fn word(&self, span: Span) -> Option<Fact> {
        if let Some(bytes) = self.constant(span) {
            return Word::try_from_be_slice(&bytes).map(Fact::exact);
        }
        self.words.get(&span.from).copied()
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
        known.track(span(5, 6), Fact::ANY);
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
        assert!(a.join(&b, Joining::Exact) && !a.join(&b, Joining::Exact));
        assert_eq!(a.constant(span(0, 1)), Some(vec![1]));
        assert!(a.is_tracked(span(0, 64)) && a.constant(span(1, 2)).is_none() && !a.is_tracked(span(64, 66)));
    }

    #[test]
    fn words_keep_their_bounds() {
        let fp = span(0x40, 0x60);
        let (mut a, mut b) = (Known::fresh(), Known::fresh());
        a.store(fp, &Word::from(0x80).to_be_bytes::<32>());
        b.store(fp, &Word::from(0xc0).to_be_bytes::<32>());
        assert!(a.join(&b, Joining::Exact) && !a.join(&b, Joining::Exact));
        assert_eq!(a.word(fp).map(|fact| (fact.lo, fact.hi)), Some((Word::from(0x80), Word::from(0xc0))));
        b.track(fp, Fact::range(Word::from(0x100), Word::from(0x1_0000)).unwrap());
        assert!(a.join(&b, Joining::Widening) && !a.join(&b, Joining::Widening));
        assert_eq!(a.word(fp).map(|fact| fact.lo), Some(Word::from(0x80)));
        a.forget(span(0x80, LIMIT));
        assert!(a.word(fp).is_some());
        a.track(span(0x5f, 0x60), Fact::ANY);
        assert!(a.word(fp).is_none());
    }
}
