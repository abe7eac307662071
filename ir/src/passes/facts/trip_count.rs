//! How many rounds a loop makes, where constants alone decide it.
//!
//! The rounds are counted by making them: parameters of the header that begin as constants and go on as pure functions of
//! such parameters are evaluated, by the reference semantics, until a test of them leaves the loop. That covers every way of
//! counting, up or down, by sums, products or shifts. Other exits may remain: the count is of the rounds that this test allows.

use std::collections::BTreeMap;

use crate::Word;
use crate::cfg::{Cfg, Loop};
use crate::entities::{Block, Value};
use crate::eval::eval;
use crate::function::{Function, Imm};
use crate::opcode::Opcode;

/// Values looked at for one evaluation.
const NODES: usize = 256;
/// Operands in operands that are followed.
const DEPTH: usize = 64;
/// Parameters of a header that are looked at.
const COUNTERS: usize = 32;
/// Tests that are looked at in one loop, the first ones.
const TESTS: usize = 8;

/// A test that constants decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trips {
    /// How often the test keeps control in the loop before it lets it out.
    pub stays: u32,
    /// The block that ends with the test. It is executed in every round.
    pub test: Block,
    /// Which of its targets leaves the loop.
    pub exit: usize,
    /// Parameters of the header that are constants in each round, with their first values.
    pub counters: BTreeMap<Value, Word>,
}

/// A parameter of the header, its first value, and the one of the next round.
type Counter = (Value, Word, Value);

/// Counts the rounds of a loop with one preheader and one latch; `None` if they are not known to be at most `most`.
pub(crate) fn trip_count(func: &Function, cfg: &Cfg, each: &Loop, most: u32) -> Option<Trips> {
    let (&[latch], &[a, b]) = (each.latches.as_slice(), cfg.preds(each.header)) else { return None };
    // Both sides of one branch may go back.
    let before = match (a == latch, b == latch) {
        (false, true) => a,
        (true, false) => b,
        _ => return None,
    };
    let args = |from: Block| func.targets(from).iter().find(|target| target.block == each.header).map(|to| &to.args);
    let (first, next) = (args(before)?, args(latch)?);
    let params = &func.blocks[each.header].params;
    let mut counters: Vec<Counter> = params
        .iter()
        .zip(first.iter().zip(next))
        .filter_map(|(&param, (&first, &next))| Some((param, func.constant(first)?, next)))
        .take(COUNTERS)
        .collect();
    // A parameter that goes on as something else is no counter, and neither is what depends on it.
    loop {
        let known: BTreeMap<Value, Word> = counters.iter().map(|&(param, first, _)| (param, first)).collect();
        let before = counters.len();
        let mut evaluation = Evaluation::new(func, &known);
        counters.retain(|&(_, _, next)| evaluation.is_possible(next));
        if counters.len() == before {
            break;
        }
    }
    let inside = |block: Block| each.blocks.binary_search_by_key(&cfg.position(block), |&b| cfg.position(b)).is_ok();
    let exit_of = |test: Block| match func.targets(test) {
        [then, otherwise] => match (inside(then.block), inside(otherwise.block)) {
            (false, true) => Some(0),
            (true, false) => Some(1),
            _ => None,
        },
        _ => None,
    };
    let tests = each.blocks.iter().copied().filter(|&block| cfg.dominates(block, latch));
    tests
        .filter_map(|test| exit_of(test).map(|exit| (test, exit)))
        .take(TESTS)
        .filter_map(|(test, exit)| {
            let condition = *func.insts[func.terminator(test)?].args.first()?;
            let stays = rounds(func, &counters, condition, exit, most)?;
            let counters = counters.iter().map(|&(param, first, _)| (param, first)).collect();
            Some(Trips { stays, test, exit, counters })
        })
        .min_by_key(|trips| trips.stays)
}

/// How often the condition keeps control in the loop.
fn rounds(func: &Function, counters: &[Counter], condition: Value, exit: usize, most: u32) -> Option<u32> {
    let mut known: BTreeMap<Value, Word> = counters.iter().map(|&(param, first, _)| (param, first)).collect();
    for stays in 0..=most {
        let mut evaluation = Evaluation::new(func, &known);
        let taken = usize::from(evaluation.value(condition, DEPTH)?.is_zero());
        if taken == exit {
            return Some(stays);
        }
        let next: Option<Vec<Word>> = counters.iter().map(|&(_, _, next)| evaluation.value(next, DEPTH)).collect();
        known = counters.iter().map(|&(param, ..)| param).zip(next?).collect();
    }
    None
}

/// The values of one round.
pub(crate) struct Evaluation<'a> {
    func: &'a Function,
    counters: &'a BTreeMap<Value, Word>,
    done: BTreeMap<Value, Option<Word>>,
}

impl<'a> Evaluation<'a> {
    /// In which these parameters have these values.
    pub(crate) fn new(func: &'a Function, counters: &'a BTreeMap<Value, Word>) -> Self {
        Self { func, counters, done: BTreeMap::new() }
    }

    /// Whether the value depends on counters and constants alone.
    pub(crate) fn is_possible(&mut self, value: Value) -> bool {
        self.value(value, DEPTH).is_some()
    }

    fn value(&mut self, value: Value, depth: usize) -> Option<Word> {
        if let Some(&word) = self.counters.get(&value) {
            return Some(word);
        }
        if let Some(&word) = self.done.get(&value) {
            return word;
        }
        if depth == 0 || self.done.len() >= NODES {
            return None;
        }
        let word = self.compute(value, depth - 1);
        self.done.insert(value, word);
        word
    }

    fn compute(&mut self, value: Value, depth: usize) -> Option<Word> {
        let data = &self.func.insts[self.func.def_inst(value)?];
        if let (Opcode::Iconst, Imm::Word(word)) = (data.opcode, data.imm) {
            return Some(word);
        }
        if !data.opcode.is_pure() || data.opcode == Opcode::KeccakWords {
            return None;
        }
        let args: Option<Vec<Word>> = data.args.iter().map(|&arg| self.value(arg, depth)).collect();
        // A promise that does not hold in a round that is never made is no value.
        eval(data.opcode, data.imm, &args?, Some(self.func.ty(value))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    /// The count of the only loop of a function.
    fn count(header: &str, next: &str, test: &str) -> Option<u32> {
        let text = format!(
            "zvm 1\nfunc @f(u256) {{\nblock0(v0: u256):\n    {header}\nblock1(v2: u256, v3: u256):\n    {next}\n    {test}\n\
             block2:\n    jump block1(v4, v3)\nblock3:\n    stop\n}}\n"
        );
        let module = parse(&text).unwrap_or_else(|error| panic!("{error}\\n{text}"));
        let func = module.funcs.values().next().unwrap();
        let cfg = Cfg::new(func);
        trip_count(func, &cfg, &cfg.loops()[0], 40).map(|trips| trips.stays)
    }

    #[test]
    fn counts_up_down_and_by_shifts() {
        let from = |first: &str| format!("v1: u256 = iconst {first}\\n    jump block1(v1, v0)").replace("\\n", "\n");
        let below =
            |most: &str| format!("v5: u8 = iconst {most}\n    v6: u1 = ult v2, v5\n    brif v6, block2, block3");
        let step = |op: &str, by: &str| format!("v7: u8 = iconst {by}\n    v4: u256 = {op}");
        assert_eq!(count(&from("0"), &step("wadd v2, v7", "1"), &below("7")), Some(7));
        assert_eq!(count(&from("7"), &step("wadd v2, v7", "32"), &below("200")), Some(7));
        assert_eq!(count(&from("1"), &step("wmul v2, v7", "2"), &below("64")), Some(6));
        assert_eq!(count(&from("9"), &step("wadd v2, v7", "1"), &below("9")), Some(0));
        let until_zero = "brif v2, block2, block3";
        let until_zero = format!("v8: u1 = iszero v2\n    v9: u1 = iszero v8\n    {}", until_zero.replace("v2", "v9"));
        assert_eq!(count(&from("5"), &step("wsub v2, v7", "1"), &until_zero), Some(5));
        // Too many rounds; one that never ends; a bound that is not known; a counter that goes on as something else.
        assert_eq!(count(&from("0"), &step("wadd v2, v7", "1"), &below("41")), None);
        assert_eq!(count(&from("0"), &step("wadd v2, v7", "0"), &below("7")), None);
        assert_eq!(
            count(&from("0"), &step("wadd v2, v7", "1"), "v6: u1 = ult v2, v3\n    brif v6, block2, block3"),
            None
        );
        assert_eq!(count(&from("0"), &step("wadd v3, v7", "1"), &below("7")), None);
        assert_eq!(count("v1: u256 = iconst 0\n    jump block1(v0, v1)", &step("wadd v2, v7", "1"), &below("7")), None);
    }
}
