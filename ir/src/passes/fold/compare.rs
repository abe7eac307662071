//! Identities of comparisons and selections.

use super::{Rewrite, Rule};
use crate::Word;
use crate::opcode::Opcode::{Eq, Iszero, Mul, Or, Select, Slt, Sub, Trunc, Udiv, Ult, Wadd, Wmul, Wsub, Xor};
use crate::types::Type;

const ONE: Word = Word::from_limbs([1, 0, 0, 0]);
const TRUE: Rewrite = Rewrite::Word(ONE);
const FALSE: Rewrite = Rewrite::Word(Word::ZERO);

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "iszero-iszero",
        on: &[Iszero],
        rewrite: |site| {
            let [a] = site.operands(site.arg(0), Iszero)?;
            if site.ty(a) == Type::BOOL {
                return Some(Rewrite::Same(a));
            }
            let [a] = site.operands(a, Iszero)?;
            Some(Rewrite::Inst(Iszero, vec![a]))
        },
        before: "v4: u1 = iszero v2; v5: u1 = iszero v4; v5",
        after: "v2",
    },
    Rule {
        name: "iszero-of-difference",
        on: &[Iszero],
        rewrite: |site| {
            let a = site.arg(0);
            let pair = [Wsub, Sub, Xor].into_iter().find_map(|opcode| site.operands::<2>(a, opcode))?;
            Some(Rewrite::Inst(Eq, pair.to_vec()))
        },
        before: "v4: u256 = wsub v0, v1; v5: u1 = iszero v4; v5",
        after: "v4: u1 = eq v0, v1; v4",
    },
    Rule {
        name: "iszero-of-offset",
        on: &[Iszero],
        rewrite: |site| {
            let [a, c] = site.operands(site.arg(0), Wadd)?;
            let word = site.constant_of(c)?.wrapping_neg();
            let word = site.iconst(word);
            Some(Rewrite::Inst(Eq, vec![a, word]))
        },
        before: "v4: u1 = iconst 1; v5: u256 = wadd v0, v4; v6: u1 = iszero v5; v6",
        after: "v4: u256 = iconst 0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff; \
                v5: u1 = eq v0, v4; v5",
    },
    Rule {
        // The product of x and a constant c did not wrap exactly when x ≤ ⌊(2^256 − 1) / c⌋.
        name: "product-by-constant-fits",
        on: &[Eq],
        rewrite: |site| {
            (0..2).find_map(|at| {
                let (x, quotient) = (site.arg(at), site.arg(1 - at));
                let [product, c] = site.operands(quotient, Udiv)?;
                let [a, d] = site.operands(product, Wmul)?;
                let (c, d) = (site.constant_of(c)?, site.constant_of(d)?);
                if a != x || c != d || c <= ONE {
                    return None;
                }
                let bound = site.iconst(Word::MAX / c + ONE);
                Some(Rewrite::Inst(Ult, vec![x, bound]))
            })
        },
        before: "v4: u2 = iconst 3; v5: u256 = wmul v0, v4; v6: u256 = udiv v5, v4; v7: u1 = eq v0, v6; v7",
        after: "v4: u255 = iconst 0x5555555555555555555555555555555555555555555555555555555555555556; \
                v5: u1 = ult v0, v4; v5",
    },
    Rule {
        // a = ⌊ab / b⌋ or b = 0, where ab is exact: what a check for overflow comes to when there cannot be one.
        name: "exact-product-fits",
        on: &[Or],
        rewrite: |site| {
            (0..2).find_map(|at| {
                let [a, quotient] = site.operands(site.arg(at), Eq)?;
                let [b] = site.operands(site.arg(1 - at), Iszero)?;
                [(a, quotient), (quotient, a)].into_iter().find_map(|(a, quotient)| {
                    let [product, divisor] = site.operands(quotient, Udiv)?;
                    let factors: [crate::Value; 2] = site.operands(product, Mul)?;
                    (divisor == b && (factors == [a, b] || factors == [b, a])).then_some(TRUE)
                })
            })
        },
        before: "v4: u9 = mul v3, v2; v5: u9 = udiv v4, v2; v6: u1 = eq v5, v3; v7: u1 = iszero v2; v8: u1 = or v6, v7; v8",
        after: "v4: u1 = iconst 1; v4",
    },
    Rule {
        name: "eq-self",
        on: &[Eq],
        rewrite: |site| (site.arg(0) == site.arg(1)).then_some(TRUE),
        before: "v4: u1 = eq v0, v0; v4",
        after: "v4: u1 = iconst 1; v4",
    },
    Rule {
        name: "eq-zero",
        on: &[Eq],
        rewrite: |site| site.constant(1)?.is_zero().then(|| Rewrite::Inst(Iszero, vec![site.arg(0)])),
        before: "v4: u1 = iconst 0; v5: u1 = eq v0, v4; v5",
        after: "v4: u1 = iszero v0; v4",
    },
    Rule {
        name: "eq-true",
        on: &[Eq],
        rewrite: |site| {
            (site.constant(1)? == ONE && site.ty(site.arg(0)) == Type::BOOL).then(|| Rewrite::Same(site.arg(0)))
        },
        before: "v4: u1 = iconst 1; v5: u1 = eq v2, v4; v5",
        after: "v2",
    },
    Rule {
        name: "eq-out-of-range",
        on: &[Eq],
        rewrite: |site| (site.constant(1)? > site.ty(site.arg(0)).max_value()).then_some(FALSE),
        before: "v4: u9 = iconst 256; v5: u1 = eq v3, v4; v5",
        after: "v4: u1 = iconst 0; v4",
    },
    Rule {
        name: "eq-of-trunc",
        on: &[Eq],
        rewrite: |site| {
            (0..2).find_map(|at| {
                let (narrow, wide) = (site.arg(at), site.arg(1 - at));
                let [a] = site.operands(narrow, Trunc)?;
                if a != wide {
                    return None;
                }
                let bound = site.ty(narrow).max_value().checked_add(ONE)?;
                let bound = site.iconst(bound);
                Some(Rewrite::Inst(Ult, vec![wide, bound]))
            })
        },
        before: "v4: u8 = trunc v0; v5: u1 = eq v0, v4; v5",
        after: "v4: u9 = iconst 256; v5: u1 = ult v0, v4; v5",
    },
    Rule {
        name: "eq-of-offset",
        on: &[Eq],
        rewrite: |site| {
            let c = site.constant(1)?;
            let (a, word) = if let Some([a, d]) = site.operands::<2>(site.arg(0), Wadd) {
                (a, c.wrapping_sub(site.constant_of(d)?))
            } else if let Some([a, d]) = site.operands::<2>(site.arg(0), Wsub) {
                (a, c.wrapping_add(site.constant_of(d)?))
            } else {
                let [a, d] = site.operands(site.arg(0), Xor)?;
                (a, c ^ site.constant_of(d)?)
            };
            let word = site.iconst(word);
            Some(Rewrite::Inst(Eq, vec![a, word]))
        },
        before: "v4: u3 = iconst 4; v5: u4 = iconst 10; v6: u256 = wadd v0, v4; v7: u1 = eq v6, v5; v7",
        after: "v4: u3 = iconst 6; v5: u1 = eq v0, v4; v5",
    },
    Rule {
        name: "less-than-self",
        on: &[Ult, Slt],
        rewrite: |site| (site.arg(0) == site.arg(1)).then_some(FALSE),
        before: "v4: u1 = slt v0, v0; v4",
        after: "v4: u1 = iconst 0; v4",
    },
    Rule {
        name: "ult-right-constant",
        on: &[Ult],
        rewrite: |site| {
            let bound = site.constant(1)?;
            if bound.is_zero() {
                Some(FALSE)
            } else if bound > site.ty(site.arg(0)).max_value() {
                Some(TRUE)
            } else if bound == ONE {
                Some(Rewrite::Inst(Iszero, vec![site.arg(0)]))
            } else {
                None
            }
        },
        before: "v4: u9 = iconst 256; v5: u1 = ult v3, v4; v5",
        after: "v4: u1 = iconst 1; v4",
    },
    Rule {
        name: "ult-left-constant",
        on: &[Ult],
        rewrite: |site| {
            let bound = site.constant(0)?;
            let b = site.arg(1);
            if bound >= site.ty(b).max_value() {
                Some(FALSE)
            } else if bound.is_zero() {
                let zero = site.emit(Iszero, &[b])?;
                Some(Rewrite::Inst(Iszero, vec![zero]))
            } else {
                None
            }
        },
        before: "v4: u1 = iconst 0; v5: u1 = ult v4, v0; v5",
        after: "v4: u1 = iszero v0; v5: u1 = iszero v4; v5",
    },
    Rule {
        // a < a − b (wrapping) exactly when the subtraction borrows: a < b.
        name: "borrow",
        on: &[Ult],
        rewrite: |site| {
            let a = site.arg(0);
            let [x, y] = site.operands(site.arg(1), Wsub)?;
            (a == x).then(|| Rewrite::Inst(Ult, vec![x, y]))
        },
        before: "v4: u256 = wsub v0, v1; v5: u1 = ult v0, v4; v5",
        after: "v4: u1 = ult v0, v1; v4",
    },
    Rule {
        // a − c < d exactly when a < c + d, if a − c does not borrow and c + d does not wrap.
        name: "ult-of-exact-offset",
        on: &[Ult],
        rewrite: |site| {
            let [a, c] = site.operands(site.arg(0), Sub)?;
            let bound = site.constant_of(c)?.checked_add(site.constant(1)?)?;
            let bound = site.iconst(bound);
            Some(Rewrite::Inst(Ult, vec![a, bound]))
        },
        before: "v4: u9 = iconst 256; v5: u9 = or v3, v4; v6: u3 = iconst 4; v7: u9 = sub v5, v6; \
                 v8: u10 = iconst 512; v9: u1 = ult v7, v8; v9",
        after: "v4: u9 = iconst 256; v5: u9 = or v3, v4; v6: u10 = iconst 516; v7: u1 = ult v5, v6; v7",
    },
    Rule {
        name: "slt-of-nonnegatives",
        on: &[Slt],
        rewrite: |site| {
            let nonnegative = |at| site.ty(site.arg(at)).bits() < 256;
            (nonnegative(0) && nonnegative(1)).then(|| Rewrite::Inst(Ult, vec![site.arg(0), site.arg(1)]))
        },
        before: "v4: u1 = slt v2, v3; v4",
        after: "v4: u1 = ult v2, v3; v4",
    },
    Rule {
        name: "select-same",
        on: &[Select],
        rewrite: |site| (site.arg(1) == site.arg(2)).then(|| Rewrite::Same(site.arg(1))),
        before: "v4: u256 = select v2, v0, v0; v4",
        after: "v0",
    },
    Rule {
        name: "select-constant",
        on: &[Select],
        rewrite: |site| {
            let taken = if site.constant(0)?.is_zero() { 2 } else { 1 };
            Some(Rewrite::Same(site.arg(taken)))
        },
        before: "v4: u1 = iconst 0; v5: u256 = select v4, v0, v1; v5",
        after: "v1",
    },
    Rule {
        name: "select-condition",
        on: &[Select],
        rewrite: |site| match (site.constant(1)?, site.constant(2)?) {
            (ONE, Word::ZERO) => Some(Rewrite::Same(site.arg(0))),
            (Word::ZERO, ONE) => Some(Rewrite::Inst(Iszero, vec![site.arg(0)])),
            _ => None,
        },
        before: "v4: u1 = iconst 1; v5: u1 = iconst 0; v6: u1 = select v2, v5, v4; v6",
        after: "v4: u1 = iszero v2; v4",
    },
];
