//! What accesses to memory tell about their operands.
//!
//! An execution that touches memory beyond [`MEMORY_LIMIT`] has no outcome (on the EVM it runs out of gas). So wherever an
//! access is certain to follow, its address and its length are below the limit: at the start of its block and where its
//! operands are computed, as long as nothing in between can end the execution.

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::entities::{Block, Inst, Value};
use crate::function::{Function, InstData, ValueDef};
use crate::memory::MEMORY_LIMIT;
use crate::opcode::{Effects, Opcode};
use crate::passes::facts::constraint::{Constraint, Other, Relation};

/// Upper bounds of values, as accesses that are certain to follow tell them.
#[derive(Debug, Default)]
pub(crate) struct Touched {
    /// What is told of values that come from other blocks, wherever control enters the block.
    pub(crate) at_entry: SecondaryMap<Block, Vec<Constraint>>,
    /// Bounds of values wherever they are defined.
    pub(crate) at_definition: SecondaryMap<Value, Option<Word>>,
}

impl Touched {
    /// Looks at every block by itself, backwards.
    pub(crate) fn new(func: &Function) -> Self {
        let mut touched = Self::default();
        for &block in &func.layout {
            let mut bounds: BTreeMap<Value, Word> = BTreeMap::new();
            let mut sums: Vec<(Value, Value, Word)> = Vec::new();
            for &inst in func.blocks[block].insts.iter().rev() {
                let data = &func.insts[inst];
                for &result in &data.results {
                    if let Some(bound) = bounds.remove(&result) {
                        touched.at_definition[result] = Some(bound);
                        if matches!(data.opcode, Opcode::Zext | Opcode::Narrow | Opcode::Add) {
                            data.args.iter().for_each(|&value| lower(func, &mut bounds, value, bound));
                        }
                        if let (Opcode::Wadd, &[a, b]) = (data.opcode, data.args.as_slice()) {
                            sums.push((a, b, bound));
                            sums.push((b, a, bound));
                        }
                    }
                }
                let effects = data.opcode.effects();
                if effects.has(Effects::MAY_TRAP) || effects.has(Effects::CALLS) {
                    // It may end the execution before it touches memory itself.
                    bounds.clear();
                    sums.clear();
                    continue;
                }
                for (value, bound) in operands(func, data) {
                    lower(func, &mut bounds, value, bound);
                }
            }
            for &param in &func.blocks[block].params {
                touched.at_definition[param] = bounds.remove(&param);
            }
            // A constant can be told of, wherever it stands; other values of the block are not there yet.
            let here: BTreeSet<Inst> =
                if sums.is_empty() { BTreeSet::new() } else { func.blocks[block].insts.iter().copied().collect() };
            let outside = |value: Value| match func.values[value].def {
                ValueDef::Param(..) => true,
                ValueDef::Result(inst, _) => !here.contains(&inst),
            };
            let below = bounds.into_iter().map(|(subject, bound)| Constraint {
                subject,
                relation: Relation::Ule,
                other: Other::Word(bound),
            });
            let of_sums = sums.into_iter().filter_map(|(subject, other, bound)| {
                let other = match func.constant(other) {
                    Some(word) => Other::Word(word),
                    None if outside(other) => Other::Value(other),
                    None => return None,
                };
                let told = func.constant(subject).is_none() && outside(subject);
                told.then_some(Constraint { subject, relation: Relation::SumUle(bound), other })
            });
            touched.at_entry[block] = below.chain(of_sums).collect();
        }
        touched
    }
}

fn lower(func: &Function, bounds: &mut BTreeMap<Value, Word>, value: Value, bound: Word) {
    if func.constant(value).is_none() && !func.ty(value).max_value().le(&bound) {
        bounds.entry(value).and_modify(|old| *old = (*old).min(bound)).or_insert(bound);
    }
}

/// The operands of an access that cannot end the execution by itself, each with the most that it can be.
fn operands(func: &Function, data: &InstData) -> Vec<(Value, Word)> {
    let limit = Word::from(MEMORY_LIMIT);
    let fixed = |at: usize, len: u64| vec![(data.args[at], limit - Word::from(len))];
    let ranges = |ranges: &[usize], len: usize| {
        let len = data.args[len];
        let mut out = vec![(len, limit)];
        if let Some(len) = func.constant(len).filter(|len| !len.is_zero() && *len <= limit) {
            out.extend(ranges.iter().map(|&at| (data.args[at], limit - len)));
        }
        out
    };
    match data.opcode {
        Opcode::Mload | Opcode::Mstore => fixed(0, 32),
        Opcode::Mstore8 => fixed(0, 1),
        Opcode::Mcopy => ranges(&[0, 1], 2),
        Opcode::Keccak256 | Opcode::Return | Opcode::Revert => ranges(&[0], 1),
        Opcode::Calldatacopy | Opcode::Datacopy => ranges(&[0], 2),
        Opcode::Extcodecopy => ranges(&[1], 3),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn bounds(body: &str) -> (Vec<Constraint>, Vec<Value>) {
        let text = format!("zvm 1\nentry @f\nfunc @f(u256, u256) {{\nblock0(v0: u256, v1: u256):\n{body}}}\n");
        let module = parse(&text).unwrap();
        let func = module.funcs.values().next().unwrap();
        let touched = Touched::new(func);
        let defined = func.values.keys().filter(|&value| touched.at_definition[value].is_some()).collect();
        (touched.at_entry[*func.layout.last().unwrap()].clone(), defined)
    }

    #[test]
    fn an_access_bounds_its_address_where_it_is_defined_and_where_its_block_begins() {
        let (entry, defined) = bounds(
            "    jump block1\nblock1:\n    v2: u256 = wadd v0, v1\n    mstore v0, v2\n    \
                                       mstore8 v2, v1\n    stop\n",
        );
        let (v0, v1) = (Value::from_u32(0), Value::from_u32(1));
        let told = |subject, relation, other| Constraint { subject, relation, other };
        let sum = Relation::SumUle(Word::from(MEMORY_LIMIT - 1));
        let least = told(v0, Relation::Ule, Other::Word(Word::from(MEMORY_LIMIT - 32)));
        assert_eq!(entry, [least, told(v0, sum, Other::Value(v1)), told(v1, sum, Other::Value(v0))]);
        assert_eq!(defined, [Value::from_u32(2)]);
    }

    #[test]
    fn nothing_is_told_across_what_may_end_the_execution() {
        let (entry, defined) = bounds("    jump block1\nblock1:\n    sstore v1, v1\n    mstore v0, v1\n    stop\n");
        assert!(entry.is_empty() && defined.is_empty());
    }

    #[test]
    fn an_access_of_unknown_length_bounds_the_length_alone() {
        let (entry, _) = bounds("    jump block1\nblock1:\n    return v0, v1\n");
        let other = Other::Word(Word::from(MEMORY_LIMIT));
        assert_eq!(entry, [Constraint { subject: Value::from_u32(1), relation: Relation::Ule, other }]);
    }
}
