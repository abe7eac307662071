//! What is known about one value: bounds as an unsigned and as a signed integer, and single bits.
//!
//! A [`Fact`] stands for a set of words; an operation on facts may give a larger set than necessary, never a smaller one.
//! No fact stands for the empty set: where operations find one, they answer `None` (the code is never reached).

use crate::Word;
use crate::types::Type;

/// The sign bit of a word. Signed bounds are kept with this bit flipped ("biased"), so that they compare as unsigned.
pub(crate) const SIGN: Word = Word::from_limbs([0, 0, 0, 1 << 63]);

/// What is known about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    /// The least it can be.
    pub lo: Word,
    /// The most it can be.
    pub hi: Word,
    /// The least it can be as a two's complement word, biased.
    pub slo: Word,
    /// The most it can be as a two's complement word, biased.
    pub shi: Word,
    /// Bits known to be 0.
    pub zeros: Word,
    /// Bits known to be 1.
    pub ones: Word,
}

impl Fact {
    /// Any word.
    pub(crate) const ANY: Self =
        Self { lo: Word::ZERO, hi: Word::MAX, slo: Word::ZERO, shi: Word::MAX, zeros: Word::ZERO, ones: Word::ZERO };

    /// Any value of the type.
    pub(crate) fn of_type(ty: Type) -> Self {
        Self::range(Word::ZERO, ty.max_value()).unwrap_or(Self::ANY)
    }

    /// Exactly this word.
    pub(crate) fn exact(word: Word) -> Self {
        Self { lo: word, hi: word, slo: word ^ SIGN, shi: word ^ SIGN, zeros: !word, ones: word }
    }

    /// A condition: known, or 0 or 1.
    pub(crate) fn truth(known: Option<bool>) -> Self {
        known.map_or_else(|| Self::of_type(Type::BOOL), |known| Self::exact(Word::from(known)))
    }

    /// `lo ..= hi`.
    pub(crate) fn range(lo: Word, hi: Word) -> Option<Self> {
        Self { lo, hi, ..Self::ANY }.reduce()
    }

    /// `slo ..= shi` as biased signed bounds.
    pub(crate) fn signed_range(slo: Word, shi: Word) -> Option<Self> {
        Self { slo, shi, ..Self::ANY }.reduce()
    }

    /// Any word with these bits.
    pub(crate) fn bits(zeros: Word, ones: Word) -> Option<Self> {
        Self { zeros, ones, ..Self::ANY }.reduce()
    }

    /// The word, if only one is left.
    pub(crate) fn constant(&self) -> Option<Word> {
        (self.lo == self.hi).then_some(self.lo)
    }

    /// The narrowest type that holds every member.
    pub(crate) fn ty(&self) -> Type {
        Type::of(&self.hi)
    }

    /// Whether it is known whether the value, as a condition, holds (any nonzero value counts as true).
    pub(crate) fn as_truth(&self) -> Option<bool> {
        if self.hi.is_zero() {
            Some(false)
        } else if !self.lo.is_zero() {
            Some(true)
        } else {
            None
        }
    }

    /// Whether the sign bit is known to be clear.
    pub(crate) fn is_nonnegative(&self) -> bool {
        self.hi < SIGN
    }

    /// Whether `word` is a member.
    #[cfg(test)]
    pub(crate) fn contains(&self, word: Word) -> bool {
        let biased = word ^ SIGN;
        self.lo <= word
            && word <= self.hi
            && self.slo <= biased
            && biased <= self.shi
            && (word & self.zeros).is_zero()
            && word & self.ones == self.ones
    }

    /// Lets each part sharpen the others; `None` when they contradict each other.
    pub(crate) fn reduce(mut self) -> Option<Self> {
        for _ in 0..3 {
            let before = self;
            self.lo = self.lo.max(self.ones);
            self.hi = self.hi.min(!self.zeros);
            if self.lo > self.hi || self.slo > self.shi {
                return None;
            }
            // Within one half of the words signed and unsigned order agree.
            if self.lo.bit(255) == self.hi.bit(255) {
                self.slo = self.slo.max(self.lo ^ SIGN);
                self.shi = self.shi.min(self.hi ^ SIGN);
            }
            if self.slo > self.shi {
                return None;
            }
            if self.slo.bit(255) == self.shi.bit(255) {
                self.lo = self.lo.max(self.slo ^ SIGN);
                self.hi = self.hi.min(self.shi ^ SIGN);
            }
            if self.lo > self.hi {
                return None;
            }
            // The bits above the highest one in which the bounds differ are those of the bounds.
            let open = low_mask((self.lo ^ self.hi).bit_len());
            self.ones |= self.lo & !open;
            self.zeros |= !self.lo & !open;
            if !(self.ones & self.zeros).is_zero() {
                return None;
            }
            if self == before {
                break;
            }
        }
        Some(self)
    }

    /// What holds when at least one of the two does.
    pub(crate) fn join(&self, other: &Self) -> Self {
        Self {
            lo: self.lo.min(other.lo),
            hi: self.hi.max(other.hi),
            slo: self.slo.min(other.slo),
            shi: self.shi.max(other.shi),
            zeros: self.zeros & other.zeros,
            ones: self.ones & other.ones,
        }
    }

    /// What holds when both do.
    pub(crate) fn meet(&self, other: &Self) -> Option<Self> {
        Self {
            lo: self.lo.max(other.lo),
            hi: self.hi.min(other.hi),
            slo: self.slo.max(other.slo),
            shi: self.shi.min(other.shi),
            zeros: self.zeros | other.zeros,
            ones: self.ones | other.ones,
        }
        .reduce()
    }

    /// A fact that holds of everything `self` or `next` hold of, chosen so that a chain of such steps is short: a bound
    /// that moved jumps to the next bound in a fixed list.
    pub(crate) fn widen(&self, next: &Self) -> Self {
        let up = |old: Word, new: Word| if new > old { threshold_above(new) } else { old };
        let down = |old: Word, new: Word| if new < old { threshold_below(new) } else { old };
        let hi = up(self.hi, next.hi);
        // Bits lost one by one would make a long chain: keep the alignment and what the upper bound implies.
        let mut zeros = self.zeros & next.zeros;
        if zeros != self.zeros {
            zeros &= low_mask(zeros.trailing_ones()) | !low_mask(hi.bit_len());
        }
        Self {
            lo: down(self.lo, next.lo),
            hi,
            slo: if next.slo < self.slo { Word::ZERO } else { self.slo },
            shi: if next.shi > self.shi { Word::MAX } else { self.shi },
            zeros,
            ones: if self.ones & next.ones == self.ones { self.ones } else { Word::ZERO },
        }
    }
}

/// `2^n − 1`, for `n ≤ 256`.
pub(crate) fn low_mask(n: usize) -> Word {
    if n == 0 { Word::ZERO } else { Word::MAX >> (256 - n.min(256)) }
}

/// Widths that programs use; bounds of loops jump between them.
const THRESHOLDS: [usize; 9] = [1, 8, 16, 32, 64, 128, 160, 255, 256];

fn threshold_above(word: Word) -> Word {
    THRESHOLDS.iter().map(|&n| low_mask(n)).find(|bound| *bound >= word).unwrap_or(Word::MAX)
}

fn threshold_below(word: Word) -> Word {
    if word.is_zero() { Word::ZERO } else { Word::from(1) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(n: u64) -> Word {
        Word::from(n)
    }

    #[test]
    fn bounds_and_bits_sharpen_each_other() {
        let fact = Fact::range(word(0x40), word(0x4f)).unwrap();
        assert_eq!(fact.ones, word(0x40));
        assert_eq!(fact.zeros, !word(0x4f));
        let fact = Fact::bits(!word(0xf0), word(0x10)).unwrap();
        assert_eq!((fact.lo, fact.hi), (word(0x10), word(0xf0)));
        assert!(Fact::range(word(2), word(1)).is_none());
    }

    #[test]
    fn signed_bounds_of_one_sign_are_unsigned_bounds() {
        let negative = Fact::signed_range(Word::ZERO, word(5)).unwrap();
        assert_eq!((negative.lo, negative.hi), (SIGN, SIGN + word(5)));
        let mixed = Fact::signed_range(SIGN - word(1), SIGN + word(1)).unwrap();
        assert_eq!((mixed.lo, mixed.hi), (Word::ZERO, Word::MAX));
        assert!(mixed.contains(Word::MAX) && mixed.contains(word(1)) && !mixed.contains(word(2)));
    }

    #[test]
    fn widening_ends() {
        let mut fact = Fact::exact(Word::ZERO);
        let mut steps = 0;
        loop {
            let next = Fact::range(Word::ZERO, fact.hi.saturating_add(Word::from(1))).unwrap();
            let wide = fact.widen(&fact.join(&next));
            if wide == fact {
                break;
            }
            fact = wide;
            steps += 1;
            assert!(steps < 16);
        }
        assert_eq!(fact.hi, Word::MAX);
    }
}
