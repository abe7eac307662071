//! What a branch tells about values, and a `bound`: a list of relations that hold on one side of it, or behind it.

use crate::Word;
use crate::entities::{Inst, Value};
use crate::function::{Function, Imm};
use crate::opcode::Opcode;
use crate::passes::facts::fact::{Fact, SIGN, low_mask};
use crate::passes::facts::transfer::{bounded, transfer};
use crate::reach::root;
use crate::types::Type;

/// How deep a condition is taken apart.
const DEPTH: usize = 8;

/// A relation between a subject and another value or constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// Equal.
    Eq,
    /// Different.
    Ne,
    /// Less, unsigned.
    Ult,
    /// At most, unsigned.
    Ule,
    /// Greater, unsigned.
    Ugt,
    /// At least, unsigned.
    Uge,
    /// Less, signed.
    Slt,
    /// At most, signed.
    Sle,
    /// Greater, signed.
    Sgt,
    /// At least, signed.
    Sge,
    /// The other value is what this instruction makes of the subject and the constant.
    Preimage(Opcode, Word),
    /// The sum with the other value, modulo 2^256, is at most this.
    SumUle(Word),
}

/// The other side of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Other {
    /// A value.
    Value(Value),
    /// A constant.
    Word(Word),
}

/// `subject` stands in `relation` to `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Constraint {
    /// What is known more about.
    pub subject: Value,
    /// How.
    pub relation: Relation,
    /// Compared to what.
    pub other: Other,
}

/// What holds where `condition` is `truth`, the most direct first.
pub(crate) fn constraints(func: &Function, condition: Value, truth: bool) -> Vec<Constraint> {
    let mut out = Vec::new();
    collect(func, condition, truth, DEPTH, &mut out);
    // What is known of a value tells something about what it was computed from.
    let mut at = 0;
    while at < out.len() && out.len() < 4 * DEPTH {
        let subject = out[at].subject;
        if let Some((operand, relation)) = preimage(func, subject) {
            let derived = Constraint { subject: operand, relation, other: Other::Value(subject) };
            if func.constant(operand).is_none() && !out.contains(&derived) {
                out.push(derived);
            }
        }
        at += 1;
    }
    out
}

/// What a `bound` of a sum says about its parts.
pub(crate) fn of_bound(func: &Function, inst: Inst) -> Vec<Constraint> {
    let data = &func.insts[inst];
    let (Opcode::Bound, &[sum]) = (data.opcode, data.args.as_slice()) else { return Vec::new() };
    let Some(def) = func.def_inst(root(func, sum)).map(|def| &func.insts[def]) else { return Vec::new() };
    let (Opcode::Wadd | Opcode::Add, &[a, b]) = (def.opcode, def.args.as_slice()) else { return Vec::new() };
    let Some(all) = bounded(data.imm) else { return Vec::new() };
    let about = |(subject, other): (Value, Value)| {
        let other = func.constant(other).map_or(Other::Value(other), Other::Word);
        func.constant(subject).is_none().then_some(Constraint { subject, relation: Relation::SumUle(all.hi), other })
    };
    [(a, b), (b, a)].into_iter().filter_map(about).collect()
}

fn collect(func: &Function, condition: Value, truth: bool, depth: usize, out: &mut Vec<Constraint>) {
    let mut relate = |subject: Value, relation: Relation, other: Other| {
        if func.constant(subject).is_none() {
            out.push(Constraint { subject, relation, other });
        }
    };
    if func.ty(condition) == Type::BOOL {
        relate(condition, Relation::Eq, Other::Word(Word::from(truth)));
    }
    let Some(inst) = func.def_inst(condition).filter(|_| depth > 0) else { return };
    let data = &func.insts[inst];
    let mut both = |a: Value, b: Value, holds: Relation, converse: Relation| {
        relate(a, holds, Other::Value(b));
        relate(b, converse, Other::Value(a));
    };
    match (data.opcode, data.args.as_slice()) {
        (Opcode::Iszero, &[a]) => {
            relate(a, if truth { Relation::Eq } else { Relation::Ne }, Other::Word(Word::ZERO));
            if func.ty(a) == Type::BOOL {
                collect(func, a, !truth, depth - 1, out);
            }
        }
        (Opcode::Eq, &[a, b]) if truth => both(a, b, Relation::Eq, Relation::Eq),
        (Opcode::Eq, &[a, b]) => both(a, b, Relation::Ne, Relation::Ne),
        (Opcode::Ult, &[a, b]) if truth => both(a, b, Relation::Ult, Relation::Ugt),
        (Opcode::Ult, &[a, b]) => both(a, b, Relation::Uge, Relation::Ule),
        (Opcode::Slt, &[a, b]) if truth => both(a, b, Relation::Slt, Relation::Sgt),
        (Opcode::Slt, &[a, b]) => both(a, b, Relation::Sge, Relation::Sle),
        (Opcode::And, &[a, b]) if truth && func.ty(condition) == Type::BOOL => {
            for part in [a, b] {
                if func.ty(part) == Type::BOOL {
                    collect(func, part, true, depth - 1, out);
                }
            }
        }
        (Opcode::Or, &[a, b]) if !truth => {
            for part in [a, b] {
                if func.ty(part) == Type::BOOL {
                    collect(func, part, false, depth - 1, out);
                } else {
                    out.push(Constraint { subject: part, relation: Relation::Eq, other: Other::Word(Word::ZERO) });
                }
            }
        }
        (Opcode::Zext | Opcode::Narrow, &[a]) if func.ty(a) == Type::BOOL => collect(func, a, truth, depth - 1, out),
        _ => {}
    }
}

/// The operand that `value` was computed from with a constant, and the relation it then stands in to `value`.
fn preimage(func: &Function, value: Value) -> Option<(Value, Relation)> {
    let data = &func.insts[func.def_inst(value)?];
    let (operand, constant) = match (data.opcode, data.args.as_slice()) {
        (Opcode::Zext | Opcode::Narrow | Opcode::Bound | Opcode::Not, &[a]) => (a, Word::ZERO),
        (Opcode::Trunc, &[a]) => (a, func.ty(value).max_value()),
        (Opcode::Wadd | Opcode::Add | Opcode::Wsub | Opcode::Sub | Opcode::And, &[a, b]) => (a, func.constant(b)?),
        (Opcode::Shr, &[n, a]) => (a, func.constant(n)?),
        _ => return None,
    };
    Some((operand, Relation::Preimage(data.opcode, constant)))
}

impl Relation {
    /// What is known of the subject, given what was known and what is known of the other side.
    pub(crate) fn apply(self, subject: &Fact, other: &Fact) -> Option<Fact> {
        let one = Word::from(1);
        let range = |lo: Option<Word>, hi: Option<Word>| Fact::range(lo?, hi?)?.meet(subject);
        let signed = |slo: Option<Word>, shi: Option<Word>| Fact::signed_range(slo?, shi?)?.meet(subject);
        let (least, most) = (Some(Word::ZERO), Some(Word::MAX));
        match self {
            Self::Eq => subject.meet(other),
            Self::Ne => match other.constant() {
                Some(word) => without(*subject, word),
                None => Some(*subject),
            },
            Self::Ult => range(least, other.hi.checked_sub(one)),
            Self::Ule => range(least, Some(other.hi)),
            Self::Ugt => range(other.lo.checked_add(one), most),
            Self::Uge => range(Some(other.lo), most),
            Self::Slt => signed(least, other.shi.checked_sub(one)),
            Self::Sle => signed(least, Some(other.shi)),
            Self::Sgt => signed(other.slo.checked_add(one), most),
            Self::Sge => signed(Some(other.slo), most),
            // Not less than minus the other value, as a signed number.
            Self::SumUle(bound) if other.hi < SIGN && bound < SIGN => {
                let (least, most) = (other.hi.wrapping_neg() ^ SIGN, bound.wrapping_sub(other.lo) ^ SIGN);
                Fact::signed_range(least, most)?.meet(subject)
            }
            Self::SumUle(_) => Some(*subject),
            Self::Preimage(opcode, constant) => subject.meet(&inverse(opcode, constant, other)?),
        }
    }
}

/// `fact` without one word, which only matters at its bounds.
fn without(mut fact: Fact, word: Word) -> Option<Fact> {
    let one = Word::from(1);
    if fact.lo == word {
        fact.lo = fact.lo.checked_add(one)?;
    }
    if fact.hi == word {
        fact.hi = fact.hi.checked_sub(one)?;
    }
    if fact.slo == word ^ SIGN {
        fact.slo = fact.slo.checked_add(one)?;
    }
    if fact.shi == word ^ SIGN {
        fact.shi = fact.shi.checked_sub(one)?;
    }
    fact.reduce()
}

/// What `a` can be when `opcode` made `result` of it and the constant.
fn inverse(opcode: Opcode, constant: Word, result: &Fact) -> Option<Fact> {
    let binary = |opcode| transfer(opcode, Imm::None, &[*result, Fact::exact(constant)], Type::WORD);
    match opcode {
        Opcode::Zext | Opcode::Narrow | Opcode::Bound => Some(*result),
        Opcode::Not => transfer(Opcode::Not, Imm::None, &[*result], Type::WORD),
        Opcode::Wadd | Opcode::Add => binary(Opcode::Wsub),
        Opcode::Wsub | Opcode::Sub => binary(Opcode::Wadd),
        Opcode::And | Opcode::Trunc => Fact::bits(result.zeros & constant, result.ones & constant),
        Opcode::Shr => match usize::try_from(constant) {
            Ok(n) if n < 256 => {
                let most = Word::MAX >> n;
                Fact::range(result.lo.min(most) << n, result.hi.min(most) << n | low_mask(n))
            }
            _ => Some(Fact::ANY),
        },
        _ => Some(Fact::ANY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn told(lines: &str, condition: &str, truth: bool) -> Vec<String> {
        let text = format!(
            "zvm 1\nfunc @f(u256, u256) {{\nblock0(v0: u256, v1: u256):\n{lines}\n    brif {condition}, block1, block1\n\
             block1:\n    stop\n}}\n"
        );
        let module = parse(&text).unwrap();
        let func = module.funcs.values().next().unwrap();
        let inst = func.terminator(func.layout[0]).unwrap();
        constraints(func, func.insts[inst].args[0], truth)
            .into_iter()
            .map(|c| format!("{} {:?} {:?}", c.subject, c.relation, c.other))
            .collect()
    }

    #[test]
    fn comparisons_tell_about_both_sides() {
        let lines = "    v2: u1 = ult v0, v1\n    v3: u1 = iszero v2";
        assert_eq!(
            told(lines, "v3", true),
            ["v3 Eq Word(1)", "v2 Eq Word(0)", "v2 Eq Word(0)", "v0 Uge Value(v1)", "v1 Ule Value(v0)"]
        );
    }

    #[test]
    fn conjunctions_are_taken_apart_on_the_true_side_only() {
        let lines = "    v2: u1 = iszero v0\n    v3: u1 = iszero v1\n    v4: u1 = and v2, v3";
        let told_true = told(lines, "v4", true);
        assert!(told_true.contains(&"v0 Eq Word(0)".into()) && told_true.contains(&"v1 Eq Word(0)".into()));
        assert_eq!(told(lines, "v4", false), ["v4 Eq Word(0)"]);
    }

    #[test]
    fn operands_are_refined_through_constants() {
        let lines = "    v2: u8 = iconst 4\n    v3: u256 = wsub v0, v2\n    v4: u1 = ult v3, v1";
        assert!(told(lines, "v4", true).iter().any(|text| text.starts_with("v0 Preimage(Wsub")));
        let lines = "    v2: u8 = iconst 64\n    v3: u256 = shr v2, v0\n    v4: u1 = iszero v3";
        assert!(told(lines, "v4", true).iter().any(|text| text.starts_with("v0 Preimage(Shr")));
        let narrow = inverse(Opcode::Shr, Word::from(64), &Fact::exact(Word::ZERO)).unwrap();
        assert_eq!(narrow.ty().bits(), 64);
    }
}
