//! What a search leaves to be asked when the selector is found, for each selector with what is known then.
//!
//! A dense table keeps the least size of calldata, whether value may be sent, and the address of the function in one word;
//! the blocks after the search take it apart, the same blocks for every selector. Each selector gets its own copies, in
//! which that word is a constant.

use std::collections::{BTreeMap, BTreeSet};

use super::Search;
use crate::Word;
use crate::entities::{Block, Value};
use crate::function::{BlockCall, Function, Imm, InstData};
use crate::opcode::{Effects, Opcode};
use crate::passes::edit::new_jump;

/// Blocks with more instructions are not copied.
const LARGEST: usize = 40;
/// How many blocks in a row are copied for one selector.
const LONGEST: u32 = 64;

/// A branch on the selector and something else, as a branch on the selector and one on the rest: the function with that.
pub(super) fn split(func: &Function, root: Block, selector: Value) -> Option<Function> {
    let branch = func.terminator(root)?;
    let data = &func.insts[branch];
    let (Opcode::Brif, &[condition], [then, otherwise]) = (data.opcode, data.args.as_slice(), data.targets.as_slice())
    else {
        return None;
    };
    let both = &func.insts[func.def_inst(condition)?];
    let (Opcode::And, &[a, b]) = (both.opcode, both.args.as_slice()) else { return None };
    let asks = |value: Value| {
        let data = func.def_inst(value).map(|inst| &func.insts[inst]);
        data.is_some_and(|data| data.opcode == Opcode::Eq && data.args.iter().any(|&arg| is(func, arg, selector)))
    };
    let (first, rest) = if asks(a) { (a, b) } else { (b, a) };
    let booleans = [a, b].iter().all(|&value| func.ty(value).bits() == 1);
    if !booleans || !asks(first) {
        return None;
    }
    let (pc, otherwise, then) = (data.pc, otherwise.clone(), then.clone());
    let mut func = func.clone();
    let block = func.create_block();
    let brif =
        |args, targets| InstData { opcode: Opcode::Brif, imm: Imm::None, args, targets, results: Vec::new(), pc };
    let asked = func.create_inst(brif(vec![rest], vec![then, otherwise.clone()]), &[]);
    func.blocks[block].insts.push(asked);
    let data = &mut func.insts[branch];
    data.args = vec![first];
    data.targets = vec![BlockCall { block, args: Vec::new() }, otherwise];
    Some(func)
}

fn is(func: &Function, value: Value, selector: Value) -> bool {
    value == selector
        || func.def_inst(value).is_some_and(|inst| {
            let data = &func.insts[inst];
            matches!(data.opcode, Opcode::Narrow | Opcode::Zext | Opcode::Trunc) && data.args == [selector]
        })
}

/// Copies, for each case, the blocks that ask for what is known there. The originals are counted to the search.
pub(super) fn specialise(func: &mut Function, search: &mut Search) {
    let mut copied = BTreeSet::new();
    for (selector, call) in search.cases.clone() {
        let known = search.known.get(&selector).cloned().unwrap_or_default();
        let mut copy = Copy { func, known, copied: &mut copied, depth: 0 };
        let call = copy.follow(&call, &BTreeMap::new(), true);
        search.cases.insert(selector, call);
    }
    search.inner.extend(copied);
}

struct Copy<'a> {
    func: &'a mut Function,
    /// The words of the values of the original that are known.
    known: BTreeMap<Value, Word>,
    copied: &'a mut BTreeSet<Block>,
    depth: u32,
}

impl Copy<'_> {
    /// Where to go instead of where a branch of the original goes, its arguments being those of the copy.
    fn follow(&mut self, call: &BlockCall, values: &BTreeMap<Value, Value>, always: bool) -> BlockCall {
        let asks = |copy: &Self| {
            let next = copy.func.targets(call.block).iter().any(|target| copy.asks(target.block));
            next || copy.asks(call.block)
        };
        if self.depth == LONGEST || !self.can_copy(call.block) || !(always || asks(self)) {
            return call.clone();
        }
        self.depth += 1;
        let mut values = values.clone();
        let params = self.func.blocks[call.block].params.clone();
        for (&param, &arg) in params.iter().zip(&call.args) {
            values.insert(param, arg);
            // A known argument is a constant in the copy already.
            if let Some(word) = self.func.constant(arg) {
                self.known.insert(param, word);
            }
        }
        let block = self.block(call.block, values);
        BlockCall { block, args: Vec::new() }
    }

    /// Whether a block computes without effects and branches.
    fn can_copy(&self, block: Block) -> bool {
        let insts = &self.func.blocks[block].insts;
        insts.len() <= LARGEST
            && insts.iter().all(|&inst| {
                let data = &self.func.insts[inst];
                let effects = data.opcode.effects();
                match data.opcode {
                    Opcode::Jump | Opcode::Brif => true,
                    _ if data.opcode.is_terminator() => false,
                    _ => effects.is_removable() && !effects.has(Effects::READS_MEMORY),
                }
            })
    }

    /// Whether a block reads something known that is no constant in the original.
    fn asks(&self, block: Block) -> bool {
        let reads = |&inst: &crate::Inst| {
            let uses = self.func.insts[inst].uses();
            uses.into_iter().any(|value| self.known.contains_key(&value) && self.func.constant(value).is_none())
        };
        self.func.blocks[block].insts.iter().any(reads)
    }

    /// The word that a value of the original is.
    fn word(&self, value: Value) -> Option<Word> {
        self.func.constant(value).or_else(|| self.known.get(&value).copied())
    }

    fn block(&mut self, from: Block, mut values: BTreeMap<Value, Value>) -> Block {
        self.copied.insert(from);
        let to = self.func.create_block();
        for inst in self.func.blocks[from].insts.clone() {
            let data = self.func.insts[inst].clone();
            if data.opcode.is_pure()
                && data.opcode != Opcode::KeccakWords
                && let Some(result) = data.result()
                && let Some(words) = data.args.iter().map(|&arg| self.word(arg)).collect::<Option<Vec<Word>>>()
                && let Ok(word) = crate::eval(data.opcode, data.imm, &words, Some(self.func.ty(result)))
            {
                self.known.insert(result, word);
                continue;
            }
            let args: Vec<Value> = data.args.iter().map(|&arg| self.value(arg, to, &values)).collect();
            let calls: Vec<BlockCall> = match (data.opcode, data.args.first().and_then(|&arg| self.word(arg))) {
                (Opcode::Brif, Some(word)) => {
                    data.targets.get(usize::from(word.is_zero())).into_iter().cloned().collect()
                }
                _ => data.targets.clone(),
            };
            let mut targets = Vec::with_capacity(calls.len());
            for call in calls {
                let args = call.args.iter().map(|&arg| self.value(arg, to, &values)).collect();
                targets.push(self.follow(&BlockCall { block: call.block, args }, &values, false));
            }
            if let (Opcode::Brif, [only]) = (data.opcode, targets.as_slice()) {
                let jump = new_jump(self.func, only.clone(), data.pc);
                self.func.blocks[to].insts.push(jump);
                continue;
            }
            let types: Vec<_> = data.results.iter().map(|&result| self.func.ty(result)).collect();
            let copy = InstData { args, targets, results: Vec::new(), ..data.clone() };
            let copy = self.func.create_inst(copy, &types);
            self.func.blocks[to].insts.push(copy);
            for (&old, &new) in data.results.iter().zip(&self.func.insts[copy].results) {
                values.insert(old, new);
            }
        }
        to
    }

    /// What stands for a value of the original in the copy `to`.
    fn value(&mut self, value: Value, to: Block, values: &BTreeMap<Value, Value>) -> Value {
        if let Some(&copy) = values.get(&value) {
            return copy;
        }
        let Some(word) = self.word(value) else { return value };
        let data = InstData {
            opcode: Opcode::Iconst,
            imm: Imm::Word(word),
            args: Vec::new(),
            targets: Vec::new(),
            results: Vec::new(),
            pc: None,
        };
        let ty = self.func.ty(value);
        let inst = self.func.create_inst(data, &[ty]);
        self.func.blocks[to].insts.push(inst);
        self.func.insts[inst].results[0]
    }
}
