//! Identities of arithmetic.

use super::{Rewrite, Rule};
use crate::Word;
use crate::opcode::Opcode::{
    Add, Addmod, Exp, Mul, Mulmod, Not, Sdiv, Shl, Shr, Signextend, Srem, Sub, Trunc, Udiv, Urem, Wadd, Wmul, Wsub,
};
use crate::types::Type;

const ONE: Word = Word::from_limbs([1, 0, 0, 0]);

/// The exponent of a power of two from 2 on.
fn log2(word: Word) -> Option<u16> {
    (word.count_ones() == 1 && word != ONE).then(|| word.trailing_zeros() as u16)
}

pub(super) const RULES: &[Rule] = &[
    Rule {
        name: "add-zero",
        on: &[Wadd, Add],
        rewrite: |site| site.constant(1)?.is_zero().then(|| Rewrite::Same(site.arg(0))),
        before: "v4: u1 = iconst 0; v5: u256 = wadd v0, v4; v5",
        after: "v0",
    },
    Rule {
        name: "sub-zero",
        on: &[Wsub, Sub],
        rewrite: |site| site.constant(1)?.is_zero().then(|| Rewrite::Same(site.arg(0))),
        before: "v4: u1 = iconst 0; v5: u256 = wsub v0, v4; v5",
        after: "v0",
    },
    Rule {
        name: "sub-self",
        on: &[Wsub, Sub],
        rewrite: |site| (site.arg(0) == site.arg(1)).then_some(Rewrite::Word(Word::ZERO)),
        before: "v4: u256 = wsub v0, v0; v4",
        after: "v4: u1 = iconst 0; v4",
    },
    Rule {
        name: "sub-from-ones",
        on: &[Wsub],
        rewrite: |site| (site.constant(0)? == Word::MAX).then(|| Rewrite::Inst(Not, vec![site.arg(1)])),
        before: "v4: u1 = iconst 0; v5: u256 = not v4; v6: u256 = wsub v5, v0; v6",
        after: "v4: u256 = not v0; v4",
    },
    Rule {
        name: "add-chain",
        on: &[Wadd, Wsub],
        rewrite: |site| {
            let outer = site.constant(1)?;
            let is_add = site.func.insts[site.inst].opcode == Wadd;
            let outer = if is_add { outer } else { outer.wrapping_neg() };
            let (base, inner) = match (site.operands::<2>(site.arg(0), Wadd), site.operands::<2>(site.arg(0), Wsub)) {
                (Some([a, c]), _) => (a, site.constant_of(c)?),
                (_, Some([a, c])) => (a, site.constant_of(c)?.wrapping_neg()),
                _ => return None,
            };
            let sum = inner.wrapping_add(outer);
            if sum.is_zero() {
                return Some(Rewrite::Same(base));
            }
            let (opcode, word) = if sum.bit(255) { (Wsub, sum.wrapping_neg()) } else { (Wadd, sum) };
            let constant = site.iconst(word);
            Some(Rewrite::Inst(opcode, vec![base, constant]))
        },
        before: "v4: u8 = iconst 4; v5: u8 = iconst 36; v6: u256 = wsub v0, v4; v7: u256 = wadd v6, v5; v7",
        after: "v4: u6 = iconst 32; v5: u256 = wadd v0, v4; v5",
    },
    Rule {
        name: "add-negative",
        on: &[Wadd],
        rewrite: |site| {
            let word = site.constant(1)?;
            if !word.bit(255) || site.constant(0).is_some() {
                return None;
            }
            let constant = site.iconst(word.wrapping_neg());
            Some(Rewrite::Inst(Wsub, vec![site.arg(0), constant]))
        },
        before: "v4: u2 = iconst 3; v5: u256 = not v4; v6: u256 = wadd v0, v5; v6",
        after: "v4: u3 = iconst 4; v5: u256 = wsub v0, v4; v5",
    },
    Rule {
        name: "sub-of-sum",
        on: &[Wsub],
        rewrite: |site| {
            let [a, b] = site.operands(site.arg(0), Wadd)?;
            if site.arg(1) == a {
                Some(Rewrite::Same(b))
            } else if site.arg(1) == b {
                Some(Rewrite::Same(a))
            } else {
                None
            }
        },
        before: "v4: u256 = wadd v0, v1; v5: u256 = wsub v4, v0; v5",
        after: "v1",
    },
    Rule {
        name: "sum-of-sub",
        on: &[Wadd],
        rewrite: |site| {
            (0..2).find_map(|at| {
                let [a, b] = site.operands(site.arg(at), Wsub)?;
                (b == site.arg(1 - at)).then_some(Rewrite::Same(a))
            })
        },
        before: "v4: u256 = wsub v0, v1; v5: u256 = wadd v1, v4; v5",
        after: "v0",
    },
    Rule {
        name: "sub-of-offsets",
        on: &[Wsub],
        rewrite: |site| {
            let [a, c] = site.operands(site.arg(0), Wadd)?;
            let [b, d] = site.operands(site.arg(1), Wadd)?;
            let word = site.constant_of(c)?.wrapping_sub(site.constant_of(d)?);
            (a == b).then_some(Rewrite::Word(word))
        },
        before: "v4: u8 = iconst 64; v5: u8 = iconst 4; v6: u256 = wadd v0, v4; v7: u256 = wadd v0, v5; \
                 v8: u256 = wsub v6, v7; v8",
        after: "v4: u6 = iconst 60; v4",
    },
    Rule {
        name: "mul-zero",
        on: &[Wmul, Mul],
        rewrite: |site| site.constant(1)?.is_zero().then_some(Rewrite::Word(Word::ZERO)),
        before: "v4: u1 = iconst 0; v5: u256 = wmul v0, v4; v5",
        after: "v4: u1 = iconst 0; v4",
    },
    Rule {
        name: "mul-one",
        on: &[Wmul, Mul],
        rewrite: |site| (site.constant(1)? == ONE).then(|| Rewrite::Same(site.arg(0))),
        before: "v4: u1 = iconst 1; v5: u256 = wmul v0, v4; v5",
        after: "v0",
    },
    Rule {
        name: "mul-power-of-two",
        on: &[Wmul],
        rewrite: |site| {
            let n = log2(site.constant(1)?)?;
            let n = site.iconst(Word::from(n));
            Some(Rewrite::Inst(Shl, vec![n, site.arg(0)]))
        },
        before: "v4: u8 = iconst 32; v5: u256 = wmul v0, v4; v5",
        after: "v4: u3 = iconst 5; v5: u256 = shl v4, v0; v5",
    },
    Rule {
        name: "div-one",
        on: &[Udiv, Sdiv],
        rewrite: |site| (site.constant(1)? == ONE).then(|| Rewrite::Same(site.arg(0))),
        before: "v4: u1 = iconst 1; v5: u256 = sdiv v0, v4; v5",
        after: "v0",
    },
    Rule {
        name: "div-power-of-two",
        on: &[Udiv],
        rewrite: |site| {
            let n = log2(site.constant(1)?)?;
            let n = site.iconst(Word::from(n));
            Some(Rewrite::Inst(Shr, vec![n, site.arg(0)]))
        },
        before: "v4: u8 = iconst 32; v5: u256 = udiv v0, v4; v5",
        after: "v4: u3 = iconst 5; v5: u256 = shr v4, v0; v5",
    },
    Rule {
        name: "rem-power-of-two",
        on: &[Urem],
        rewrite: |site| {
            let divisor = site.constant(1)?;
            if divisor == ONE {
                return Some(Rewrite::Word(Word::ZERO));
            }
            let (n, a) = (log2(divisor)?, site.arg(0));
            if n >= site.width(a) {
                return Some(Rewrite::Same(a));
            }
            Some(Rewrite::Convert(Trunc, Type::new(n)?, a))
        },
        before: "v4: u8 = iconst 32; v5: u8 = urem v0, v4; v5",
        after: "v4: u5 = trunc v0; v4",
    },
    Rule {
        name: "div-of-or-by-zero",
        on: &[Udiv, Urem, Sdiv, Srem],
        rewrite: |site| {
            let zero = |at| site.constant(at).is_some_and(|word| word.is_zero());
            (zero(0) || zero(1)).then_some(Rewrite::Word(Word::ZERO))
        },
        before: "v4: u1 = iconst 0; v5: u256 = srem v0, v4; v5",
        after: "v4: u1 = iconst 0; v4",
    },
    Rule {
        name: "signed-division-of-nonnegatives",
        on: &[Sdiv, Srem],
        rewrite: |site| {
            let opcode = if site.func.insts[site.inst].opcode == Sdiv { Udiv } else { Urem };
            let nonnegative = |at| site.ty(site.arg(at)).bits() < 256;
            (nonnegative(0) && nonnegative(1)).then(|| Rewrite::Inst(opcode, vec![site.arg(0), site.arg(1)]))
        },
        before: "v4: u256 = sdiv v3, v2; v4",
        after: "v4: u8 = udiv v3, v2; v4",
    },
    Rule {
        name: "modulus-zero-or-one",
        on: &[Addmod, Mulmod],
        rewrite: |site| (site.constant(2)? <= ONE).then_some(Rewrite::Word(Word::ZERO)),
        before: "v4: u1 = iconst 1; v5: u256 = mulmod v0, v1, v4; v5",
        after: "v4: u1 = iconst 0; v4",
    },
    Rule {
        name: "exp-small",
        on: &[Exp],
        rewrite: |site| {
            let exponent = site.constant(1)?;
            if exponent.is_zero() {
                Some(Rewrite::Word(ONE))
            } else if exponent == ONE {
                Some(Rewrite::Same(site.arg(0)))
            } else if exponent == Word::from(2) {
                Some(Rewrite::Inst(Wmul, vec![site.arg(0), site.arg(0)]))
            } else {
                None
            }
        },
        before: "v4: u2 = iconst 2; v5: u256 = exp v0, v4; v5",
        after: "v4: u256 = wmul v0, v0; v4",
    },
    Rule {
        name: "exp-of-two",
        on: &[Exp],
        rewrite: |site| {
            if site.constant(0)? != Word::from(2) {
                return None;
            }
            let (n, one) = (site.arg(1), site.iconst(ONE));
            Some(Rewrite::Inst(Shl, vec![n, one]))
        },
        before: "v4: u2 = iconst 2; v5: u256 = exp v4, v0; v5",
        after: "v4: u1 = iconst 1; v5: u256 = shl v0, v4; v5",
    },
    Rule {
        name: "signextend-wide",
        on: &[Signextend],
        rewrite: |site| {
            let (k, a) = (site.constant(0)?, site.arg(1));
            let sign_bit = u16::try_from(k).ok().filter(|&k| k < 31).map_or(256, |k| 8 * k + 7);
            (sign_bit >= site.width(a)).then_some(Rewrite::Same(a))
        },
        before: "v4: u1 = iconst 1; v5: u256 = signextend v4, v3; v5",
        after: "v3",
    },
    Rule {
        name: "signextend-of-trunc",
        on: &[Signextend],
        rewrite: |site| {
            let (k, a) = (site.constant(0)?, site.arg(1));
            let [inner] = site.operands(a, Trunc)?;
            let kept = Word::from(site.ty(a).bits()) >= (k.checked_add(ONE)?).checked_mul(Word::from(8))?;
            kept.then(|| Rewrite::Inst(Signextend, vec![site.arg(0), inner]))
        },
        before: "v4: u1 = iconst 0; v5: u8 = trunc v0; v6: u256 = signextend v4, v5; v6",
        after: "v4: u1 = iconst 0; v5: u256 = signextend v4, v0; v5",
    },
    Rule {
        name: "signextend-twice",
        on: &[Signextend],
        rewrite: |site| {
            let [k, inner] = site.operands(site.arg(1), Signextend)?;
            let (outer, k) = (site.constant(0)?, site.constant_of(k)?);
            if outer >= k {
                return Some(Rewrite::Same(site.arg(1)));
            }
            Some(Rewrite::Inst(Signextend, vec![site.arg(0), inner]))
        },
        before: "v4: u1 = iconst 1; v5: u2 = iconst 3; v6: u256 = signextend v4, v0; v7: u256 = signextend v5, v6; v7",
        after: "v4: u1 = iconst 1; v5: u256 = signextend v4, v0; v5",
    },
];
