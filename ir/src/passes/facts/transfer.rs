//! The effect of each pure instruction on facts. The meaning is [`crate::eval()`]'s; a test draws members of random facts
//! and checks that the result is a member of what [`transfer`] answers.

use crate::Word;
use crate::function::Imm;
use crate::memory::MEMORY_LIMIT;
use crate::opcode::Opcode;
use crate::passes::facts::fact::{Fact, SIGN, low_mask};
use crate::types::Type;

const ONE: Word = Word::from_limbs([1, 0, 0, 0]);

/// What is known about the result of an instruction. `args` has one fact per operand; `ty` is the type of the result.
/// `None`: the operands contradict each other, so the instruction is never reached.
pub(crate) fn transfer(opcode: Opcode, imm: Imm, args: &[Fact], ty: Type) -> Option<Fact> {
    let top = Fact::of_type(ty);
    if opcode.is_pure()
        && let Some(words) = args.iter().map(Fact::constant).collect::<Option<Vec<_>>>()
        && let Ok(word) = crate::eval(opcode, imm, &words, Some(ty))
    {
        return Some(Fact::exact(word));
    }
    let fact = match (opcode, args) {
        (Opcode::Zext, [a]) => *a,
        (Opcode::Trunc, [a]) => trunc(a, ty)?,
        (Opcode::Narrow, [a]) => *a,
        (Opcode::Bound, [a]) => a.meet(&bounded(imm)?)?,
        (Opcode::Add | Opcode::Wadd, [a, b]) => wadd(a, b)?,
        (Opcode::Sub, [a, b]) => sub_exact(a, b)?,
        (Opcode::Wsub, [a, b]) => wsub(a, b)?,
        (Opcode::Mul | Opcode::Wmul, [a, b]) => wmul(a, b)?,
        (Opcode::Udiv, [a, b]) => udiv(a, b)?,
        (Opcode::Urem, [a, b]) => urem(a, b)?,
        (Opcode::Sdiv, [a, b]) => sdiv(a, b)?,
        (Opcode::Srem, [a, b]) => srem(a, b)?,
        (Opcode::Addmod | Opcode::Mulmod, [_, _, n]) => Fact::range(Word::ZERO, n.hi.saturating_sub(ONE))?,
        (Opcode::Exp, [a, b]) => exp(a, b)?,
        (Opcode::Signextend, [k, a]) => signextend(k, a)?,
        (Opcode::Iszero, [a]) => Fact::truth(a.as_truth().map(|truth| !truth)),
        (Opcode::Eq, [a, b]) => Fact::truth(equal(a, b)),
        (Opcode::Ult, [a, b]) => Fact::truth(less(a.lo, a.hi, b.lo, b.hi)),
        (Opcode::Slt, [a, b]) => Fact::truth(less(a.slo, a.shi, b.slo, b.shi)),
        (Opcode::Select, [c, a, b]) => match c.as_truth() {
            Some(true) => *a,
            Some(false) => *b,
            None => a.join(b),
        },
        (Opcode::And, [a, b]) => {
            let bits = Fact::bits(a.zeros | b.zeros, a.ones & b.ones)?;
            bits.meet(&Fact::range(Word::ZERO, a.hi.min(b.hi))?)?
        }
        (Opcode::Or, [a, b]) => {
            let bits = Fact::bits(a.zeros & b.zeros, a.ones | b.ones)?;
            bits.meet(&Fact::range(a.lo.max(b.lo), low_mask(a.hi.bit_len().max(b.hi.bit_len())))?)?
        }
        (Opcode::Xor, [a, b]) => {
            let bits = Fact::bits(a.zeros & b.zeros | a.ones & b.ones, a.zeros & b.ones | a.ones & b.zeros)?;
            bits.meet(&Fact::range(Word::ZERO, low_mask(a.hi.bit_len().max(b.hi.bit_len())))?)?
        }
        (Opcode::Not, [a]) => {
            Fact { lo: !a.hi, hi: !a.lo, slo: !a.shi, shi: !a.slo, zeros: a.ones, ones: a.zeros }.reduce()?
        }
        (Opcode::Shl, [n, a]) => shl(n, a)?,
        (Opcode::Shr, [n, a]) => shr(n, a)?,
        (Opcode::Sar, [n, a]) => sar(n, a)?,
        (Opcode::Byte, [i, a]) => byte(i, a)?,
        (Opcode::Clz, [a]) => Fact::range(Word::from(256 - a.hi.bit_len()), Word::from(256 - a.lo.bit_len()))?,
        // A constant without operands was evaluated above; nothing is known of hashes, of what is read from memory, state
        // and environment beyond the type, and of operand lists that the verifier would refuse.
        _ => top,
    };
    fact.meet(&top)
}

/// What a `bound` lets pass.
pub(crate) fn bounded(imm: Imm) -> Option<Fact> {
    let Imm::Word(room) = imm else { return Some(Fact::ANY) };
    Fact::range(Word::ZERO, Word::from(MEMORY_LIMIT).checked_sub(room)?)
}

/// Whether `a < b`, from bounds in any one order.
fn less(alo: Word, ahi: Word, blo: Word, bhi: Word) -> Option<bool> {
    if ahi < blo {
        Some(true)
    } else if alo >= bhi {
        Some(false)
    } else {
        None
    }
}

fn equal(a: &Fact, b: &Fact) -> Option<bool> {
    match (a.constant(), b.constant()) {
        (Some(a), Some(b)) => Some(a == b),
        _ => a.meet(b).is_none().then_some(false),
    }
}

fn trunc(a: &Fact, ty: Type) -> Option<Fact> {
    let mask = ty.max_value();
    if a.hi <= mask {
        return Some(*a);
    }
    let bits = Fact::bits(a.zeros | !mask, a.ones & mask)?;
    // If the bounds agree above the mask, the low parts keep their order.
    if a.lo & !mask == a.hi & !mask { bits.meet(&Fact::range(a.lo & mask, a.hi & mask)?) } else { Some(bits) }
}

/// The bits of `a + b + carry`, where the bits of the operands are known in part.
fn add_bits(azeros: Word, aones: Word, bzeros: Word, bones: Word, carry: bool) -> Option<Fact> {
    let carry = Word::from(carry);
    let most = (!azeros).wrapping_add(!bzeros).wrapping_add(carry);
    let least = aones.wrapping_add(bones).wrapping_add(carry);
    let carry_zeros = !(most ^ azeros ^ bzeros);
    let carry_ones = least ^ aones ^ bones;
    let known = (azeros | aones) & (bzeros | bones) & (carry_zeros | carry_ones);
    Fact::bits(!most & known, least & known)
}

fn wadd(a: &Fact, b: &Fact) -> Option<Fact> {
    let mut fact = add_bits(a.zeros, a.ones, b.zeros, b.ones, false)?;
    let (lo, lo_carry) = a.lo.overflowing_add(b.lo);
    let (hi, hi_carry) = a.hi.overflowing_add(b.hi);
    if lo_carry == hi_carry {
        fact = fact.meet(&Fact::range(lo, hi)?)?;
    }
    if let (Some(slo), Some(shi)) = (signed_add(a.slo, b.slo), signed_add(a.shi, b.shi)) {
        fact = fact.meet(&Fact::signed_range(slo, shi)?)?;
    }
    Some(fact)
}

/// The biased sum of two biased words, if it does not overflow.
fn signed_add(a: Word, b: Word) -> Option<Word> {
    let (sum, carry) = a.overflowing_add(b);
    (carry != (sum >= SIGN)).then(|| sum ^ SIGN)
}

/// The biased difference of two biased words, if it does not overflow.
fn signed_sub(a: Word, b: Word) -> Option<Word> {
    if a >= b {
        let difference = a - b;
        (difference < SIGN).then(|| difference ^ SIGN)
    } else {
        let difference = b - a;
        (difference <= SIGN).then(|| SIGN - difference)
    }
}

/// `a − b` where `a ≥ b` is promised.
fn sub_exact(a: &Fact, b: &Fact) -> Option<Fact> {
    let bits = add_bits(a.zeros, a.ones, b.ones, b.zeros, true)?;
    if a.hi < b.lo {
        return None;
    }
    bits.meet(&Fact::range(a.lo.saturating_sub(b.hi), a.hi - b.lo)?)
}

fn wsub(a: &Fact, b: &Fact) -> Option<Fact> {
    let mut fact = add_bits(a.zeros, a.ones, b.ones, b.zeros, true)?;
    let (lo, lo_borrow) = a.lo.overflowing_sub(b.hi);
    let (hi, hi_borrow) = a.hi.overflowing_sub(b.lo);
    if lo_borrow == hi_borrow {
        fact = fact.meet(&Fact::range(lo, hi)?)?;
    }
    if let (Some(slo), Some(shi)) = (signed_sub(a.slo, b.shi), signed_sub(a.shi, b.slo)) {
        fact = fact.meet(&Fact::signed_range(slo, shi)?)?;
    }
    Some(fact)
}

/// The largest absolute value of a member as a signed integer, at most 2^255.
fn magnitude(a: &Fact) -> Word {
    let below = if a.slo < SIGN { SIGN - a.slo } else { Word::ZERO };
    let above = if a.shi > SIGN { a.shi - SIGN } else { Word::ZERO };
    below.max(above)
}

/// Signed values from `−magnitude` to `magnitude`.
fn within(magnitude: Word) -> Option<Fact> {
    Fact::signed_range(SIGN - magnitude.min(SIGN), SIGN + magnitude.min(SIGN - ONE))
}

fn wmul(a: &Fact, b: &Fact) -> Option<Fact> {
    let aligned = (a.zeros.trailing_ones() + b.zeros.trailing_ones()).min(256);
    let mut fact = Fact::bits(low_mask(aligned), Word::ZERO)?;
    if let Some(hi) = a.hi.checked_mul(b.hi) {
        // Without overflow the product is at least as large as that of the lower bounds.
        fact = fact.meet(&Fact::range(a.lo * b.lo, hi)?)?;
    }
    if let Some(bound) = magnitude(a).checked_mul(magnitude(b))
        && bound < SIGN
    {
        fact = fact.meet(&within(bound)?)?;
    }
    Some(fact)
}

fn udiv(a: &Fact, b: &Fact) -> Option<Fact> {
    if b.hi.is_zero() {
        return Some(Fact::exact(Word::ZERO));
    }
    let lo = if b.lo.is_zero() { Word::ZERO } else { a.lo / b.hi };
    Fact::range(lo, a.hi / b.lo.max(ONE))
}

fn urem(a: &Fact, b: &Fact) -> Option<Fact> {
    if b.hi.is_zero() {
        return Some(Fact::exact(Word::ZERO));
    }
    if a.hi < b.lo {
        return Some(*a);
    }
    Fact::range(Word::ZERO, a.hi.min(b.hi - ONE))
}

fn sdiv(a: &Fact, b: &Fact) -> Option<Fact> {
    if a.is_nonnegative() && b.is_nonnegative() {
        return udiv(a, b);
    }
    // MIN / −1 is MIN: within the bounds of a magnitude of 2^255, which leaves out +2^255.
    within(magnitude(a))
}

fn srem(a: &Fact, b: &Fact) -> Option<Fact> {
    if a.is_nonnegative() && b.is_nonnegative() {
        return urem(a, b);
    }
    let bound = magnitude(a).min(magnitude(b).saturating_sub(ONE));
    if a.is_nonnegative() { Fact::range(Word::ZERO, bound) } else { within(bound) }
}

fn exp(a: &Fact, b: &Fact) -> Option<Fact> {
    match a.hi.max(ONE).checked_pow(b.hi) {
        Some(hi) => {
            let lo = if a.lo.is_zero() { Word::ZERO } else { a.lo.checked_pow(b.lo).unwrap_or(ONE) };
            Fact::range(lo, hi)
        }
        None => Some(Fact::ANY),
    }
}

fn signextend(k: &Fact, a: &Fact) -> Option<Fact> {
    let Some(k) = k.constant() else { return Some(Fact::ANY) };
    let Some(sign_bit) = u8::try_from(k).ok().filter(|&k| k < 31).map(|k| 8 * usize::from(k) + 7) else {
        return Some(*a);
    };
    let magnitude = ONE << sign_bit;
    let narrow = Fact::signed_range(SIGN - magnitude, SIGN + magnitude - ONE)?;
    if a.slo >= narrow.slo && a.shi <= narrow.shi {
        return Some(*a);
    }
    let low = low_mask(sign_bit + 1);
    let upper = |known: Word| if known.bit(sign_bit) { !low } else { Word::ZERO };
    narrow.meet(&Fact::bits(a.zeros & low | upper(a.zeros), a.ones & low | upper(a.ones))?)
}

/// The shift amounts as bounds, at most 256 (all larger ones act like 256).
fn amounts(n: &Fact) -> (usize, usize) {
    let clamp = |word: Word| usize::try_from(word).map_or(256, |n| n.min(256));
    (clamp(n.lo), clamp(n.hi))
}

fn shl(n: &Fact, a: &Fact) -> Option<Fact> {
    let (least, most) = amounts(n);
    let mut fact = Fact::bits(low_mask((a.zeros.trailing_ones() + least).min(256)), Word::ZERO)?;
    if least == most {
        fact = fact.meet(&Fact::bits(a.zeros << least | low_mask(least), a.ones << least)?)?;
    }
    if a.hi.bit_len() + most <= 256 {
        fact = fact.meet(&Fact::range(a.lo << least, a.hi << most)?)?;
    }
    Some(fact)
}

fn shr(n: &Fact, a: &Fact) -> Option<Fact> {
    let (least, most) = amounts(n);
    let mut fact = Fact::range(a.lo >> most, a.hi >> least)?;
    if least == most {
        fact = fact.meet(&Fact::bits(a.zeros >> least | !(Word::MAX >> least), a.ones >> least)?)?;
    }
    Some(fact)
}

fn sar(n: &Fact, a: &Fact) -> Option<Fact> {
    if a.is_nonnegative() {
        return shr(n, a);
    }
    let (least, most) = amounts(n);
    // Shifting further moves a value towards 0 if it is positive and towards −1 if it is negative.
    let shifted = |biased: Word, n: usize| (biased ^ SIGN).arithmetic_shr(n) ^ SIGN;
    let slo = shifted(a.slo, if a.slo < SIGN { least } else { most });
    let shi = shifted(a.shi, if a.shi < SIGN { most } else { least });
    Fact::signed_range(slo, shi)
}

fn byte(i: &Fact, a: &Fact) -> Option<Fact> {
    match i.constant().map(usize::try_from) {
        Some(Ok(i)) if i < 32 => trunc(&shr(&Fact::exact(Word::from(8 * (31 - i))), a)?, Type::new(8)?),
        Some(_) => Some(Fact::exact(Word::ZERO)),
        None => Some(Fact::ANY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator of pseudo-random words (xorshift64*), so that failures repeat.
    struct Random(u64);

    impl Random {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
        }

        fn below(&mut self, n: u64) -> u64 {
            self.next() % n
        }

        fn word(&mut self) -> Word {
            let corner = Word::from(1) << self.below(256) as usize;
            match self.below(8) {
                0 => Word::from(self.below(4)),
                1 => Word::MAX - Word::from(self.below(4)),
                2 => corner,
                3 => corner.wrapping_sub(Word::from(1)),
                4 => corner.wrapping_neg(),
                5 => SIGN.wrapping_add(Word::from(self.below(3))).wrapping_sub(Word::from(1)),
                6 => Word::from(self.below(300)),
                _ => Word::from_limbs([self.next(), self.next(), self.next(), self.next()]),
            }
        }

        /// A fact with a list of some of its members.
        fn fact(&mut self, ty: Type) -> (Fact, Vec<Word>) {
            let mask = ty.max_value();
            let members: Vec<Word> = (0..1 + self.below(4)).map(|_| self.word() & mask).collect();
            let mut fact = Fact::exact(members[0]);
            for &member in &members[1..] {
                fact = fact.join(&Fact::exact(member));
            }
            if self.below(2) == 0 {
                fact = fact.reduce().expect("has members");
            }
            if self.below(4) == 0 {
                fact = fact.widen(&Fact::of_type(ty));
            }
            (fact, members)
        }
    }

    #[test]
    fn every_result_is_a_member() {
        let mut random = Random(7);
        let pure = Opcode::ALL.iter().filter(|op| op.is_pure() && !matches!(op, Opcode::Iconst));
        for &op in pure {
            let arity = if op == Opcode::KeccakWords { 2 } else { op.info().operands.len() };
            for round in 0..4000 {
                let types: Vec<Type> = (0..arity)
                    .map(|at| match (op, at) {
                        (Opcode::Select, 0) => Type::BOOL,
                        (Opcode::Add | Opcode::Mul, _) => Type::new(128 - random.below(120) as u16).unwrap(),
                        _ => Type::new(256 - if round % 2 == 0 { 0 } else { random.below(256) as u16 }).unwrap(),
                    })
                    .collect();
                let operands: Vec<_> = types.iter().map(|&ty| random.fact(ty)).collect();
                let ty = match op {
                    Opcode::Zext => Type::WORD,
                    Opcode::Trunc => Type::new(1 + random.below(u64::from(types[0].bits())) as u16).unwrap(),
                    Opcode::Narrow => Type::of(operands[0].1.iter().max().unwrap()).min(types[0]),
                    _ => op.result_type(&types).unwrap().unwrap(),
                };
                let facts: Vec<Fact> = operands.iter().map(|(fact, _)| *fact).collect();
                let imm = match op {
                    Opcode::KeccakWords => Imm::Len(64),
                    Opcode::KeccakF => Imm::Word(Word::ZERO),
                    _ => Imm::None,
                };
                let answer = transfer(op, imm, &facts, ty);
                for pick in 0..6 {
                    let words: Vec<Word> =
                        operands.iter().map(|(_, members)| members[pick * 7 % members.len()]).collect();
                    let Ok(word) = crate::eval(op, imm, &words, Some(ty)) else { continue };
                    let Some(answer) = answer else { panic!("{op} {words:x?}: reached, but said never to be") };
                    assert!(answer.contains(word), "{op} {words:x?} = {word:x}, not in {answer:x?} of {facts:x?}");
                }
            }
        }
    }

    #[test]
    fn results_are_narrow() {
        let byte = Fact::of_type(Type::new(8).unwrap());
        let word = Type::WORD;
        let bits = |op, args: &[Fact]| transfer(op, Imm::None, args, word).unwrap().ty().bits();
        assert_eq!(bits(Opcode::Wadd, &[byte, byte]), 9);
        assert_eq!(bits(Opcode::Wmul, &[byte, byte]), 16);
        assert_eq!(bits(Opcode::Shl, &[Fact::exact(Word::from(4)), byte]), 12);
        assert_eq!(bits(Opcode::Signextend, &[Fact::exact(Word::from(1)), byte]), 8);
        assert_eq!(bits(Opcode::Sdiv, &[byte, Fact::ANY]), 256);
        assert_eq!(bits(Opcode::Exp, &[Fact::exact(Word::from(2)), Fact::of_type(Type::new(4).unwrap())]), 16);
        assert_eq!(bits(Opcode::Addmod, &[Fact::ANY, Fact::ANY, byte]), 8);
    }
}
