//! Identities of bitwise instructions, shifts and changes of width.

use super::{Rewrite, Rule, Site};
use crate::Word;
use crate::opcode::Opcode::{And, Bound, Byte, Iszero, Narrow, Not, Or, Sar, Shl, Shr, Signextend, Trunc, Xor, Zext};
use crate::passes::facts::transfer::bounded;
use crate::types::Type;

/// The number of ones, if the word is `0…01…1`.
fn low_ones(word: Word) -> Option<u16> {
    let ones = word.trailing_ones();
    (ones > 0 && word.count_ones() == ones).then_some(ones as u16)
}

/// `2^n − 1`.
fn mask(n: u16) -> Word {
    Word::MAX >> (256 - usize::from(n.clamp(1, 256)))
}

/// The value and the mask, if `value` is another value with some bits cleared.
fn masked(site: &Site<'_>, value: crate::Value) -> Option<(crate::Value, Word)> {
    if let Some([a]) = site.operands(value, Trunc) {
        return Some((a, site.ty(value).max_value()));
    }
    let [a, c] = site.operands(value, And)?;
    Some((a, site.constant_of(c)?))
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "same-width",
        on: &[Zext, Trunc, Narrow],
        rewrite: |site| (site.ty(site.arg(0)) == site.result_type()).then(|| Rewrite::Same(site.arg(0))),
        before: "v4: u256 = zext v0; v4",
        after: "v0",
    },
    Rule {
        name: "bound-of-short",
        on: &[Bound],
        rewrite: |site| {
            let a = site.arg(0);
            let largest = site.constant_of(a).unwrap_or(site.ty(a).max_value());
            bounded(site.imm()).is_some_and(|all| largest <= all.hi).then_some(Rewrite::Same(a))
        },
        before: "v4: u27 = bound 32, v3; v4",
        after: "v3",
    },
    Rule {
        name: "narrow-chain",
        on: &[Narrow],
        rewrite: |site| {
            let [a] = site.operands(site.arg(0), Narrow)?;
            Some(Rewrite::Convert(Narrow, site.result_type(), a))
        },
        before: "v4: u8 = iconst 252; v5: u256 = shr v4, v0; v6: u8 = narrow v5; v7: u4 = narrow v6; v7",
        after: "v4: u8 = iconst 252; v5: u256 = shr v4, v0; v6: u4 = narrow v5; v6",
    },
    Rule {
        name: "trunc-of-narrow-value",
        on: &[Trunc],
        rewrite: |site| (site.width(site.arg(0)) <= site.result_type().bits()).then(|| Rewrite::Same(site.arg(0))),
        before: "v4: u8 = iconst 224; v5: u256 = shr v4, v0; v6: u32 = trunc v5; v6",
        after: "v4: u8 = iconst 224; v5: u256 = shr v4, v0; v6: u32 = narrow v5; v6",
    },
    Rule {
        name: "trunc-of-masked",
        on: &[Trunc],
        rewrite: |site| {
            let (a, bits) = masked(site, site.arg(0))?;
            let kept = bits & site.result_type().max_value();
            if kept.is_zero() {
                return Some(Rewrite::Word(Word::ZERO));
            }
            if let Some(n) = low_ones(kept) {
                return Some(Rewrite::Convert(Trunc, Type::new(n)?, a));
            }
            let kept = site.iconst(kept);
            Some(Rewrite::Inst(And, vec![a, kept]))
        },
        before: "v4: u32 = trunc v0; v5: u16 = trunc v4; v5",
        after: "v4: u16 = trunc v0; v4",
    },
    Rule {
        name: "trunc-of-signextend",
        on: &[Trunc],
        rewrite: |site| {
            let [k, a] = site.operands(site.arg(0), Signextend)?;
            let k = site.constant_of(k)?;
            let kept =
                Word::from(site.result_type().bits()).saturating_sub(Word::from(8)) <= k.saturating_mul(Word::from(8));
            let ty = site.result_type();
            kept.then_some(Rewrite::Convert(Trunc, ty, a))
        },
        before: "v4: u1 = iconst 1; v5: u256 = signextend v4, v0; v6: u16 = trunc v5; v6",
        after: "v4: u16 = trunc v0; v4",
    },
    Rule {
        name: "trunc-of-shl",
        on: &[Trunc],
        rewrite: |site| {
            let [n, _] = site.operands(site.arg(0), Shl)?;
            (site.shift(n)? >= site.result_type().bits()).then_some(Rewrite::Word(Word::ZERO))
        },
        before: "v4: u8 = iconst 8; v5: u256 = shl v4, v0; v6: u8 = trunc v5; v6",
        after: "v4: u1 = iconst 0; v4",
    },
    Rule {
        name: "and-or-self",
        on: &[And, Or],
        rewrite: |site| (site.arg(0) == site.arg(1)).then(|| Rewrite::Same(site.arg(0))),
        before: "v4: u256 = and v0, v0; v4",
        after: "v0",
    },
    Rule {
        name: "xor-self",
        on: &[Xor],
        rewrite: |site| (site.arg(0) == site.arg(1)).then_some(Rewrite::Word(Word::ZERO)),
        before: "v4: u256 = xor v0, v0; v4",
        after: "v4: u1 = iconst 0; v4",
    },
    Rule {
        name: "or-xor-zero",
        on: &[Or, Xor],
        rewrite: |site| site.constant(1)?.is_zero().then(|| Rewrite::Same(site.arg(0))),
        before: "v4: u1 = iconst 0; v5: u256 = or v0, v4; v5",
        after: "v0",
    },
    Rule {
        name: "and-constant",
        on: &[And],
        rewrite: |site| {
            let (bits, a) = (site.constant(1)?, site.arg(0));
            let all = mask(site.width(a));
            if (bits & all).is_zero() {
                return Some(Rewrite::Word(Word::ZERO));
            }
            if bits & all == all {
                return Some(Rewrite::Same(a));
            }
            Some(Rewrite::Convert(Trunc, Type::new(low_ones(bits)?)?, a))
        },
        before: "v4: u16 = iconst 0xffff; v5: u16 = and v0, v4; v5",
        after: "v4: u16 = trunc v0; v4",
    },
    Rule {
        name: "and-of-masked",
        on: &[And],
        rewrite: |site| {
            let (a, inner) = masked(site, site.arg(0))?;
            let bits = site.constant(1)? & inner;
            let bits = site.iconst(bits);
            Some(Rewrite::Inst(And, vec![a, bits]))
        },
        before: "v4: u16 = iconst 0xff00; v5: u12 = iconst 0xff0; v6: u16 = and v0, v4; v7: u12 = and v6, v5; v7",
        after: "v4: u12 = iconst 0xf00; v5: u12 = and v0, v4; v5",
    },
    Rule {
        name: "or-ones",
        on: &[Or],
        rewrite: |site| {
            let bits = site.constant(1)?;
            let all = mask(site.width(site.arg(0)));
            (bits & all == all).then_some(Rewrite::Word(bits))
        },
        before: "v4: u9 = iconst 0x1ff; v5: u9 = or v3, v4; v5",
        after: "v4: u9 = iconst 0x1ff; v4",
    },
    Rule {
        name: "or-chain",
        on: &[Or],
        rewrite: |site| {
            let [a, inner] = site.operands(site.arg(0), Or)?;
            let bits = site.constant(1)? | site.constant_of(inner)?;
            let bits = site.iconst(bits);
            Some(Rewrite::Inst(Or, vec![a, bits]))
        },
        before: "v4: u8 = iconst 0xf0; v5: u8 = iconst 0x0f; v6: u256 = or v0, v4; v7: u256 = or v6, v5; v7",
        after: "v4: u8 = iconst 0xff; v5: u256 = or v0, v4; v5",
    },
    Rule {
        name: "xor-chain",
        on: &[Xor],
        rewrite: |site| {
            let [a, inner] = site.operands(site.arg(0), Xor)?;
            let bits = site.constant(1)? ^ site.constant_of(inner)?;
            let bits = site.iconst(bits);
            Some(Rewrite::Inst(Xor, vec![a, bits]))
        },
        before: "v4: u8 = iconst 0xff; v5: u4 = iconst 0x0f; v6: u256 = xor v0, v4; v7: u256 = xor v6, v5; v7",
        after: "v4: u8 = iconst 0xf0; v5: u256 = xor v0, v4; v5",
    },
    Rule {
        name: "xor-one-of-condition",
        on: &[Xor],
        rewrite: |site| {
            let negates = site.constant(1)? == Word::from(1) && site.ty(site.arg(0)) == Type::BOOL;
            negates.then(|| Rewrite::Inst(Iszero, vec![site.arg(0)]))
        },
        before: "v4: u1 = iconst 1; v5: u1 = xor v2, v4; v5",
        after: "v4: u1 = iszero v2; v4",
    },
    Rule {
        name: "xor-ones",
        on: &[Xor],
        rewrite: |site| (site.constant(1)? == Word::MAX).then(|| Rewrite::Inst(Not, vec![site.arg(0)])),
        before: "v4: u1 = iconst 0; v5: u256 = not v4; v6: u256 = xor v0, v5; v6",
        after: "v4: u256 = not v0; v4",
    },
    Rule {
        name: "not-not",
        on: &[Not],
        rewrite: |site| site.operands(site.arg(0), Not).map(|[a]| Rewrite::Same(a)),
        before: "v4: u256 = not v0; v5: u256 = not v4; v5",
        after: "v0",
    },
    Rule {
        name: "shift-by-zero",
        on: &[Shl, Shr, Sar],
        rewrite: |site| site.constant(0)?.is_zero().then(|| Rewrite::Same(site.arg(1))),
        before: "v4: u1 = iconst 0; v5: u256 = sar v4, v0; v5",
        after: "v0",
    },
    Rule {
        name: "shift-out",
        on: &[Shl, Shr],
        rewrite: |site| {
            let (n, a) = (site.constant(0)?, site.arg(1));
            let right = site.func.insts[site.inst].opcode == Shr;
            let width = if right { site.width(a) } else { 256 };
            (n >= Word::from(width) || site.constant(1) == Some(Word::ZERO)).then_some(Rewrite::Word(Word::ZERO))
        },
        before: "v4: u4 = iconst 8; v5: u8 = shr v4, v3; v5",
        after: "v4: u1 = iconst 0; v4",
    },
    Rule {
        name: "sar-of-nonnegative",
        on: &[Sar],
        rewrite: |site| (site.ty(site.arg(1)).bits() < 256).then(|| Rewrite::Inst(Shr, vec![site.arg(0), site.arg(1)])),
        before: "v4: u256 = sar v0, v3; v4",
        after: "v4: u8 = shr v0, v3; v4",
    },
    Rule {
        name: "shift-chain",
        on: &[Shl, Shr],
        rewrite: |site| {
            let opcode = site.func.insts[site.inst].opcode;
            let [m, a] = site.operands(site.arg(1), opcode)?;
            let n = site.shift(site.arg(0))? + site.shift(m)?;
            if n >= 256 {
                return Some(Rewrite::Word(Word::ZERO));
            }
            let n = site.iconst(Word::from(n));
            Some(Rewrite::Inst(opcode, vec![n, a]))
        },
        before: "v4: u4 = iconst 8; v5: u5 = iconst 16; v6: u256 = shr v4, v0; v7: u256 = shr v5, v6; v7",
        after: "v4: u5 = iconst 24; v5: u256 = shr v4, v0; v5",
    },
    Rule {
        name: "shr-of-shl",
        on: &[Shr],
        rewrite: |site| {
            let [m, a] = site.operands(site.arg(1), Shl)?;
            let (n, m) = (site.shift(site.arg(0))?, site.shift(m)?);
            let a = if site.width(a) + m <= 256 {
                a
            } else {
                let ty = Type::new(256 - m)?;
                site.convert(Trunc, ty, a)
            };
            if n == m {
                return Some(Rewrite::Same(a));
            }
            let (opcode, by) = if n > m { (Shr, n - m) } else { (Shl, m - n) };
            let by = site.iconst(Word::from(by));
            Some(Rewrite::Inst(opcode, vec![by, a]))
        },
        before: "v4: u8 = iconst 224; v5: u8 = iconst 200; v6: u256 = shl v4, v0; v7: u256 = shr v5, v6; v7",
        after: "v4: u32 = trunc v0; v5: u5 = iconst 24; v6: u256 = shl v5, v4; v6",
    },
    Rule {
        name: "shl-of-shr",
        on: &[Shl],
        rewrite: |site| {
            let [m, a] = site.operands(site.arg(1), Shr)?;
            let (n, m) = (site.shift(site.arg(0))?, site.shift(m)?);
            if n != m {
                return None;
            }
            let bits = site.iconst(Word::MAX << usize::from(n));
            Some(Rewrite::Inst(And, vec![a, bits]))
        },
        before: "v4: u8 = iconst 252; v5: u256 = shr v4, v0; v6: u256 = shl v4, v5; v6",
        after: "v4: u256 = iconst 0xf000000000000000000000000000000000000000000000000000000000000000; \
                v5: u256 = and v0, v4; v5",
    },
    Rule {
        name: "byte-constant",
        on: &[Byte],
        rewrite: |site| {
            let i = site.constant(0)?;
            if i >= Word::from(32) {
                return Some(Rewrite::Word(Word::ZERO));
            }
            (i == Word::from(31)).then(|| Rewrite::Convert(Trunc, Type::new(8).unwrap_or(Type::WORD), site.arg(1)))
        },
        before: "v4: u5 = iconst 31; v5: u8 = byte v4, v0; v5",
        after: "v4: u8 = trunc v0; v4",
    },
];
