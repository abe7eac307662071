//! `dispatch`: the search for the function that calldata selects is made as short as the selectors allow.
//!
//! *Does*: finds the blocks that do nothing but look for the selector (the first four bytes of calldata), whether by
//! comparisons in a row, by bisection, or by a table in the code; executes them on each selector that they compare with and
//! on "any other", and puts a search of its own in their place, if the cost model says that it is cheaper: for the EVM
//! comparisons in a row where there are few, else buckets by four bits of the selector, which the EVM backend turns into one
//! computed jump. For the circuit, which has no such jump and computes all comparisons anyway, only searches that read memory
//! are replaced, by comparisons in a row. A check for at least four
//! bytes of calldata goes where its failure ends as the search does: no selector ends in a zero byte, and the bytes that
//! are not there are zero. Where the search is joined with a check of something else, and a table says what else is to be
//! checked, each selector gets its own checks ([`specialise`]).
//! *Requires*: every block is reachable. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: perfect hashing of selectors as in solady's and Vyper's dispatchers, here on any bytecode.
//!
//! ```text
//! brif (eq v0, 0x11…), f, next … brif (eq v0, 0x88…), m, none
//!     →   v1 = and v0, 0xf0; brif (eq v1, 0), b0, next … ; b0: brif (eq v0, 0x11…), f, none
//! ```

mod specialise;

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::cfg::Cfg;
use crate::cost::{CostModel, Operand};
use crate::entities::{Block, Inst, Value};
use crate::function::{BlockCall, Function, Imm, InstData, Pc, ValueDef};
use crate::opcode::{Effects, Opcode};
use crate::passes::Context;
use crate::passes::edit::{derived_inst, new_inst, new_jump, remove_unreachable};
use crate::passes::facts::Fact;
use crate::passes::facts::flow::{Flow, follow};
use crate::passes::memory::access::Span;
use crate::passes::memory::known::Known;
use crate::types::Type;

/// How many instructions the search may be executed for, over all selectors.
const BUDGET: usize = 200_000;
/// The largest modulus by which a search may take apart selectors that it does not know.
const LARGEST_MODULUS: u64 = 256;

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let cfg = Cfg::new(func);
    for &block in cfg.reverse_postorder() {
        let selector = func.blocks[block].insts.iter().find_map(|&inst| is_selector(func, inst));
        let Some(selector) = selector else { continue };
        if let Some(search) = Search::new(func, cx, block, selector).and_then(|search| search.closed(func, &cfg))
            && replace(func, cx, &cfg, &search)
        {
            return true;
        }
        if cx.costs().table().is_some()
            && let Some(mut split) = specialise::split(func, block, selector)
            && let Some(mut search) = Search::new(&split, cx, block, selector)
        {
            specialise::specialise(&mut split, &mut search);
            let cfg = Cfg::new(&split);
            if let Some(search) = search.closed(&split, &cfg)
                && replace(&mut split, cx, &cfg, &search)
            {
                *func = split;
                return true;
            }
        }
    }
    false
}

/// The result of the instruction, if that is the selector: `shr 224, (calldataload 0)`.
fn is_selector(func: &Function, inst: Inst) -> Option<Value> {
    let data = &func.insts[inst];
    let (Opcode::Shr, &[shift, word]) = (data.opcode, data.args.as_slice()) else { return None };
    let load = &func.insts[func.def_inst(word)?];
    let first = load.opcode == Opcode::Calldataload && func.constant(*load.args.first()?) == Some(Word::ZERO);
    (first && func.constant(shift) == Some(Word::from(224))).then(|| data.result()).flatten()
}

/// What a value is while the search is executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Abstract {
    /// This word.
    Word(Word),
    /// The selector, not equal to any word that it is compared with.
    Selector,
    /// Whether the selector is below some word.
    Order,
}

/// Where a search ends.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Leaf {
    /// With this halt, which needs nothing.
    Exit(Opcode, Imm),
    /// In this block, with these arguments.
    Block(BlockCall),
}

/// One execution of the search, in the middle.
#[derive(Clone, Debug)]
struct State {
    call: BlockCall,
    at: usize,
    values: BTreeMap<Value, Abstract>,
    memory: Known,
}

/// A search for the selector.
#[derive(Debug)]
struct Search {
    /// The block that ends with the first branch.
    root: Block,
    /// The selector as a value of 32 bits, or as defined.
    selector: Value,
    /// Where each selector leads, in ascending order; those that lead where any other does are left out.
    cases: BTreeMap<Word, BlockCall>,
    /// Where any other selector leads.
    default: BlockCall,
    /// The blocks of the search but the root.
    inner: BTreeSet<Block>,
    /// Whether the search reads memory.
    reads_memory: bool,
    /// Branches taken on the way to a case, on average times the number of cases.
    branches: u64,
    /// The copies of the table to memory, if stores of constants can stand for them.
    copied: Option<Copied>,
    /// What is known of the values of the search when a selector is found.
    known: BTreeMap<Word, BTreeMap<Value, Word>>,
}

/// Copies of entries of a table at the root, and what memory then holds in each case.
#[derive(Debug)]
struct Copied {
    copies: Vec<Inst>,
    /// Where the words of memory start that the copies write to.
    chunks: BTreeSet<u32>,
    /// For each selector the contents of those words.
    words: BTreeMap<Word, Vec<Word>>,
}

/// The copies from computed places of data to fixed places of memory in the root, and the words of memory that they touch.
fn table_copies(func: &Function, root: Block) -> (Vec<Inst>, BTreeSet<u32>) {
    let small = |value: Value| func.constant(value).and_then(|word| u32::try_from(word).ok()).filter(|&n| n < 1024);
    let mut copies = Vec::new();
    let mut chunks = BTreeSet::new();
    for &inst in &func.blocks[root].insts {
        let data = &func.insts[inst];
        if let (Opcode::Datacopy, &[to, from, len]) = (data.opcode, data.args.as_slice())
            && let (Some(to), Some(len)) = (small(to), small(len))
            && func.constant(from).is_none()
            && len > 0
        {
            copies.push(inst);
            chunks.extend((to / 32..=(to + len - 1) / 32).map(|chunk| 32 * chunk));
        }
    }
    (copies, chunks)
}

fn word_at(memory: &Known, at: u32) -> Option<Word> {
    memory.constant(Span { from: at, to: at + 32, exact: true }).and_then(|bytes| Word::try_from_be_slice(&bytes))
}

struct Walk<'a> {
    func: &'a Function,
    cx: &'a Context,
    root: Block,
    selector: Value,
    memory: Known,
    /// The selectors that the search compares with.
    found: BTreeSet<Word>,
    inner: BTreeSet<Block>,
    reads_memory: bool,
    budget: usize,
}

impl Search {
    fn new(func: &Function, cx: &Context, root: Block, selector: Value) -> Option<Self> {
        let touches = |inst: &Inst| func.insts[*inst].opcode.effects().has(Effects::READS_MEMORY);
        let memory = if func.blocks[root].insts.iter().any(touches) && cx.starts_execution() && !cx.observes_msize() {
            Flow::new(func, cx, Some(Known::fresh())).memory_at(root).cloned()
        } else {
            None
        };
        let mut walk = Walk {
            func,
            cx,
            root,
            selector,
            memory: memory.unwrap_or_else(Known::nothing),
            found: BTreeSet::new(),
            inner: BTreeSet::new(),
            reads_memory: false,
            budget: BUDGET,
        };
        let mut default: Option<(Leaf, BlockCall)> = None;
        for Ended { call, .. } in walk.run(None)? {
            let leaf = leaf_of(func, &call);
            match &default {
                None => default = Some((leaf, call)),
                Some((first, _)) if *first == leaf => {}
                Some(_) => return None,
            }
        }
        let (default_leaf, default) = default?;
        let mut cases = BTreeMap::new();
        let mut words: BTreeMap<Word, Option<Vec<Word>>> = BTreeMap::new();
        let mut known = BTreeMap::new();
        let mut branches = 0;
        let (copies, chunks) = table_copies(func, root);
        for word in walk.found.clone() {
            let leaves = walk.run(Some(word))?;
            let [Ended { call, passed, memory, values }] = leaves.as_slice() else { return None };
            if leaf_of(func, call) != default_leaf {
                branches += passed;
                cases.insert(word, call.clone());
                known.insert(word, values.clone());
                words.insert(word, chunks.iter().map(|&at| word_at(memory.as_ref()?, at)).collect());
            }
        }
        let Walk { inner, reads_memory, .. } = walk;
        let words: Option<BTreeMap<Word, Vec<Word>>> =
            words.into_iter().map(|(word, contents)| Some((word, contents?))).collect();
        let forgets = matches!(default_leaf, Leaf::Exit(..)) && !cx.observes_msize();
        let replaced = words.filter(|_| forgets && reads_memory && !copies.is_empty());
        let copied = replaced.map(|words| Copied { copies, chunks, words });
        Some(Self { root, selector, cases, default, inner, reads_memory, branches, copied, known })
    }

    /// The search, if nobody needs anything of it but where it leads; without its copies, if somebody reads them.
    fn closed(mut self, func: &Function, cfg: &Cfg) -> Option<Self> {
        if self.copied.as_ref().is_some_and(|copied| self.keeps_reads(func, &copied.copies)) {
            self.copied = None;
        }
        self.stands_alone(func, cfg).then_some(self)
    }

    /// Whether something that the root reads from memory matters after the search, or to an effect other than `copies`.
    fn keeps_reads(&self, func: &Function, copies: &[Inst]) -> bool {
        let mut read: SecondaryMap<Value, bool> = SecondaryMap::new();
        for &inst in &func.blocks[self.root].insts {
            let data = &func.insts[inst];
            let effects = data.opcode.effects();
            let uses = data.args.iter().any(|&value| read[value]);
            if uses && !effects.is_removable() && !data.opcode.is_terminator() && !copies.contains(&inst) {
                return true;
            }
            for &result in &data.results {
                read[result] = uses || effects.has(Effects::READS_MEMORY);
            }
        }
        let elsewhere = func.layout.iter().filter(|&block| *block != self.root && !self.inner.contains(block));
        let mut insts = elsewhere.flat_map(|&block| &func.blocks[block].insts);
        let mut calls = self.cases.values().chain([&self.default]);
        insts.any(|&inst| func.insts[inst].uses().any(|value| read[value]))
            || calls.any(|call| call.args.iter().any(|&value| read[value]))
    }

    /// Whether nobody enters the search but by its root, and nobody needs what it computes but constants.
    fn stands_alone(&self, func: &Function, cfg: &Cfg) -> bool {
        let within = |block: Block| block == self.root || self.inner.contains(&block);
        let entered = self.inner.iter().all(|&block| cfg.preds(block).iter().all(|&pred| within(pred)));
        let leaves = self.cases.values().chain([&self.default]);
        let private = |value: Value| match func.values[value].def {
            ValueDef::Result(..) => func.constant(value).is_none(),
            ValueDef::Param(..) => true,
        };
        let mut home: SecondaryMap<Value, bool> = SecondaryMap::new();
        for &block in &self.inner {
            for &inst in &func.blocks[block].insts {
                for &value in &func.insts[inst].results {
                    home[value] = true;
                }
            }
        }
        let needed = |value: &Value| home[*value] && private(*value);
        entered
            && !leaves.clone().any(|call| within(call.block) || call.args.iter().any(&needed))
            && !func.layout.iter().filter(|&&block| !self.inner.contains(&block)).any(|&block| {
                func.blocks[block].insts.iter().any(|&inst| func.insts[inst].uses().any(|value| needed(&value)))
            })
    }
}

fn leaf_of(func: &Function, call: &BlockCall) -> Leaf {
    if let &[inst] = func.blocks[call.block].insts.as_slice() {
        let data = &func.insts[inst];
        if data.args.is_empty() && data.targets.is_empty() {
            return Leaf::Exit(data.opcode, data.imm);
        }
    }
    Leaf::Block(call.clone())
}

impl Walk<'_> {
    /// Executes the search on a selector, or on any that it does not know. The places where it ends, each with how many
    /// branches led there; `None` if this is no search.
    fn run(&mut self, selector: Option<Word>) -> Option<Vec<Ended>> {
        let call = BlockCall { block: self.root, args: Vec::new() };
        let start = State { call, at: 0, values: BTreeMap::new(), memory: self.memory.clone() };
        let mut work = vec![(start, 0)];
        let mut leaves: Vec<Ended> = Vec::new();
        while let Some((mut state, passed)) = work.pop() {
            let block = state.call.block;
            let entry = state.call.clone();
            let fresh = state.at == 0;
            let before = (state.memory.clone(), state.values.clone());
            if fresh && block != self.root && !self.may_be_inner(block) {
                note(&mut leaves, entry, passed, before);
                continue;
            }
            let read_before = std::mem::take(&mut self.reads_memory);
            let ways = self.block(&mut state, selector);
            // What a block reads after the search does not count.
            self.reads_memory = read_before || (self.reads_memory && ways.is_some());
            let Some(ways) = ways else {
                if block == self.root || !fresh {
                    return None;
                }
                note(&mut leaves, entry, passed, before);
                continue;
            };
            if block != self.root {
                self.inner.insert(block);
            }
            for (way, branches) in ways {
                work.push((way, passed + branches));
            }
        }
        Some(leaves)
    }

    /// Whether a block could be part of a search: it takes nothing, does nothing, and asks something or only goes on.
    fn may_be_inner(&self, block: Block) -> bool {
        let data = &self.func.blocks[block];
        let opcode = |inst: &Inst| self.func.insts[*inst].opcode;
        let asks = data.insts.last().is_some_and(|inst| opcode(inst) == Opcode::Brif);
        data.params.is_empty()
            && data.insts.iter().all(|inst| match opcode(inst) {
                Opcode::Jump | Opcode::Brif | Opcode::Iconst => true,
                opcode => asks && opcode.effects().is_removable(),
            })
    }

    /// Executes a block from where the state stands. The states that it leads to, each with the branches it took; `None`
    /// if it branches on something else than the selector.
    fn block(&mut self, state: &mut State, selector: Option<Word>) -> Option<Vec<(State, u64)>> {
        let insts = &self.func.blocks[state.call.block].insts;
        while let Some(&inst) = insts.get(state.at) {
            self.budget = self.budget.checked_sub(1)?;
            let data = &self.func.insts[inst];
            let args: Vec<Option<Abstract>> = data.args.iter().map(|value| state.values.get(value).copied()).collect();
            match data.opcode {
                Opcode::Jump | Opcode::Brif => {
                    let sides: Vec<&BlockCall> = match (data.opcode, args.first().copied().flatten()) {
                        (Opcode::Jump, _) => vec![data.targets.first()?],
                        (_, Some(Abstract::Word(word))) => vec![data.targets.get(usize::from(word.is_zero()))?],
                        (_, Some(Abstract::Order)) => data.targets.iter().collect(),
                        (_, Some(Abstract::Selector) | None) => return None,
                    };
                    let branches = u64::from(data.opcode == Opcode::Brif);
                    let to = |call: &BlockCall| {
                        let next = State { call: call.clone(), at: 0, ..state.clone() };
                        (next, branches)
                    };
                    return Some(sides.into_iter().map(to).collect());
                }
                _ if data.opcode.is_terminator() => return None,
                Opcode::Urem | Opcode::Trunc => {
                    if let (None | Some(Abstract::Selector), Some(result)) = (args[0], data.result())
                        && let Some(modulus) = self.modulus(inst, &args)
                    {
                        state.at += 1;
                        let of = |rest: u64| {
                            let mut state = state.clone();
                            state.values.insert(result, Abstract::Word(Word::from(rest)));
                            (state, 0)
                        };
                        return Some((0..modulus).map(of).collect());
                    }
                }
                _ => {}
            }
            let found = self.inst(inst, &args, selector, &mut state.memory);
            if let (Some(found), Some(result)) = (found, data.result()) {
                state.values.insert(result, found);
            }
            state.at += 1;
        }
        None
    }

    /// By what the instruction takes its operand modulo, if that is small.
    fn modulus(&self, inst: Inst, args: &[Option<Abstract>]) -> Option<u64> {
        let data = &self.func.insts[inst];
        let modulus = match (data.opcode, args.get(1)) {
            (Opcode::Urem, Some(Some(Abstract::Word(modulus)))) => u64::try_from(*modulus).ok()?,
            (Opcode::Trunc, _) => 1 << self.func.ty(data.result()?).bits().min(63),
            _ => return None,
        };
        (1..=LARGEST_MODULUS).contains(&modulus).then_some(modulus)
    }

    /// What the result of an instruction is.
    fn inst(
        &mut self,
        inst: Inst,
        args: &[Option<Abstract>],
        selector: Option<Word>,
        memory: &mut Known,
    ) -> Option<Abstract> {
        let data = &self.func.insts[inst];
        if data.result() == Some(self.selector) {
            return Some(selector.map_or(Abstract::Selector, Abstract::Word));
        }
        let effects = data.opcode.effects();
        if effects.has(Effects::READS_MEMORY) || effects.has(Effects::WRITES_MEMORY) {
            let facts: Vec<Fact> = args
                .iter()
                .map(|arg| match arg {
                    Some(Abstract::Word(word)) => Fact::exact(*word),
                    Some(Abstract::Selector | Abstract::Order) | None => Fact::ANY,
                })
                .collect();
            let word = follow(data, self.cx, &facts, memory)?.constant()?;
            self.reads_memory = true;
            return Some(Abstract::Word(word));
        }
        match (data.opcode, args) {
            (Opcode::Zext | Opcode::Narrow, &[Some(Abstract::Selector)]) => Some(Abstract::Selector),
            (Opcode::Eq, &[Some(Abstract::Selector), Some(Abstract::Word(word))])
            | (Opcode::Eq, &[Some(Abstract::Word(word)), Some(Abstract::Selector)]) => {
                self.found.insert(word);
                Some(Abstract::Word(Word::ZERO))
            }
            (Opcode::Ult, &[Some(Abstract::Selector), Some(Abstract::Word(_))])
            | (Opcode::Ult, &[Some(Abstract::Word(_)), Some(Abstract::Selector)])
            | (Opcode::Iszero, &[Some(Abstract::Order)]) => Some(Abstract::Order),
            _ if data.opcode.is_pure() && data.opcode != Opcode::KeccakWords => {
                let words: Option<Vec<Word>> = args
                    .iter()
                    .map(|arg| match arg {
                        Some(Abstract::Word(word)) => Some(*word),
                        Some(Abstract::Selector | Abstract::Order) | None => None,
                    })
                    .collect();
                let ty = data.result().map(|value| self.func.ty(value));
                crate::eval(data.opcode, data.imm, &words?, ty).ok().map(Abstract::Word)
            }
            _ => None,
        }
    }
}

/// Where an execution of the search ends.
struct Ended {
    call: BlockCall,
    /// After how many branches.
    passed: u64,
    /// What is in memory, if always the same.
    memory: Option<Known>,
    /// The values that are known, if always the same.
    values: BTreeMap<Value, Word>,
}

fn note(leaves: &mut Vec<Ended>, call: BlockCall, passed: u64, (memory, values): (Known, BTreeMap<Value, Abstract>)) {
    let word = |(value, known)| match known {
        Abstract::Word(word) => Some((value, word)),
        Abstract::Selector | Abstract::Order => None,
    };
    let values: BTreeMap<Value, Word> = values.into_iter().filter_map(word).collect();
    match leaves.iter_mut().find(|ended| ended.call == call) {
        Some(ended) => {
            ended.memory = ended.memory.take().filter(|known| *known == memory);
            ended.values.retain(|value, word| values.get(value) == Some(word));
        }
        None => leaves.push(Ended { call, passed, memory: Some(memory), values }),
    }
}

/// What a search costs.
struct Prices {
    /// A comparison of the selector with a branch.
    compare: u64,
    /// A choice by four bits of it; `None` if there is none.
    table: Option<u64>,
    /// Shifting the four bits into place.
    shift: u64,
}

impl Prices {
    fn new(costs: &dyn CostModel) -> Self {
        let selector = Operand::Value(Type::new(32).unwrap_or(Type::WORD));
        let constant = |at: u32| Operand::Constant(Word::from(at));
        let mask = costs.price(Opcode::And, &[selector, constant(0xf0)]);
        // What is shifted is brought there for the mask in any case.
        let brought = mask.saturating_sub(costs.price(Opcode::And, &[constant(0xf0)]));
        Self {
            compare: costs.price(Opcode::Eq, &[selector, constant(u32::MAX)]) + costs.branch(),
            table: costs.table(),
            shift: costs.price(Opcode::Shr, &[constant(8), selector]).saturating_sub(brought),
        }
    }
}

/// Four bits of the selector by which it is looked up, from bit `shift + 4` on.
fn best_shift(cases: &BTreeMap<Word, BlockCall>, prices: &Prices) -> (u16, u64) {
    let Some(table) = prices.table else { return (0, u64::MAX) };
    let cost = |shift: u16| {
        let mut buckets = [0u64; 16];
        let mut gas = if shift > 0 { prices.shift * cases.len() as u64 } else { 0 };
        for &word in cases.keys() {
            let bucket = &mut buckets[bucket_of(word, shift)];
            *bucket += 1;
            gas += table + prices.compare * *bucket;
        }
        gas
    };
    (0..=24).map(|shift| (shift, cost(shift))).min_by_key(|&(_, cost)| cost).unwrap_or((0, u64::MAX))
}

fn bucket_of(word: Word, shift: u16) -> usize {
    ((word >> usize::from(shift + 4)).to::<u64>() & 15) as usize
}

/// Puts a new search in the place of the old one, if that is cheaper.
fn replace(func: &mut Function, cx: &Context, cfg: &Cfg, search: &Search) -> bool {
    let count = search.cases.len() as u64;
    if count == 0 || search.cases.keys().any(|word| word.bit_len() > 32) {
        return false;
    }
    let checked = skips_size_check(func, cfg, search);
    let prices = Prices::new(cx.costs());
    let linear = prices.compare * count * (count + 1) / 2;
    let (shift, table) = best_shift(&search.cases, &prices);
    let now = if search.reads_memory { u64::MAX } else { prices.compare * search.branches };
    let (rebuild, buckets) = match prices.table {
        Some(_) => (linear.min(table) < now, table < linear),
        None => (search.reads_memory, false),
    };
    if prices.table.is_some()
        && let Some((pred, inst)) = checked
    {
        let pc = func.insts[inst].pc;
        let jump = new_jump(func, BlockCall { block: search.root, args: Vec::new() }, pc);
        func.blocks[pred].insts.pop();
        func.blocks[pred].insts.push(jump);
        remove_unreachable(func, &Cfg::new(func));
        if !rebuild {
            return true;
        }
    }
    if rebuild {
        build(func, search, buckets.then_some(shift));
        remove_unreachable(func, &Cfg::new(func));
    }
    rebuild
}

/// The block before the root, and its branch, if all it does is to send calldata of fewer than four bytes where selectors
/// go that match nothing.
fn skips_size_check(func: &Function, cfg: &Cfg, search: &Search) -> Option<(Block, Inst)> {
    let &[pred] = cfg.preds(search.root) else { return None };
    let inst = func.terminator(pred)?;
    let data = &func.insts[inst];
    let (Opcode::Brif, [short, enough]) = (data.opcode, data.targets.as_slice()) else { return None };
    let test = &func.insts[func.def_inst(data.args[0])?];
    let &[size, four] = test.args.as_slice() else { return None };
    let asks = test.opcode == Opcode::Ult
        && func.def_inst(size).is_some_and(|inst| func.insts[inst].opcode == Opcode::Calldatasize)
        && func.constant(four) == Some(Word::from(4));
    let same = matches!(leaf_of(func, short), Leaf::Exit(..)) && leaf_of(func, short) == leaf_of(func, &search.default);
    // Bytes past the end are zero, so a selector that is cut short ends in zero.
    let whole = search.cases.keys().all(|word| word.byte(0) != 0);
    // What the root computes it now computes for short calldata too: no promise may rest on the size.
    let safe = func.blocks[search.root].insts.iter().all(|&inst| {
        let data = &func.insts[inst];
        let promised = match data.opcode {
            Opcode::Sub => true,
            Opcode::Narrow => func.def_inst(data.args[0]).is_none_or(|def| is_selector(func, def).is_none()),
            _ => false,
        };
        !promised && (data.opcode == Opcode::Brif || data.opcode.effects().is_removable())
    });
    (asks && enough.block == search.root && same && whole && safe).then_some((pred, inst))
}

struct Builder<'a> {
    func: &'a mut Function,
    block: Block,
    pc: Option<Pc>,
}

impl Builder<'_> {
    fn iconst(&mut self, word: Word) -> Value {
        let (inst, value) = new_inst(self.func, Opcode::Iconst, Imm::Word(word), &[], Type::of(&word), self.pc);
        self.func.blocks[self.block].insts.push(inst);
        value
    }

    fn op(&mut self, opcode: Opcode, args: &[Value]) -> Value {
        match derived_inst(self.func, opcode, args, self.pc) {
            Some((inst, value)) => {
                self.func.blocks[self.block].insts.push(inst);
                value
            }
            // Only instructions whose width rule always applies are emitted here.
            None => args[0],
        }
    }

    /// Goes to `then` if `value` is `word`, and goes on in a new block otherwise.
    fn compare(&mut self, value: Value, word: Word, then: BlockCall) {
        let constant = self.iconst(word);
        let equal = self.op(Opcode::Eq, &[value, constant]);
        let next = self.func.create_block();
        let data = InstData {
            opcode: Opcode::Brif,
            imm: Imm::None,
            args: vec![equal],
            targets: vec![then, BlockCall { block: next, args: Vec::new() }],
            results: Vec::new(),
            pc: self.pc,
        };
        let inst = self.func.create_inst(data, &[]);
        self.func.blocks[self.block].insts.push(inst);
        self.block = next;
    }

    fn jump(&mut self, to: BlockCall) {
        let inst = new_jump(self.func, to, self.pc);
        self.func.blocks[self.block].insts.push(inst);
    }

    /// Compares the selector with each case; the last comparison leaves to `default`.
    fn chain<'c>(
        &mut self,
        selector: Value,
        cases: impl Iterator<Item = (&'c Word, &'c BlockCall)>,
        default: &BlockCall,
    ) {
        for (&word, call) in cases {
            self.compare(selector, word, call.clone());
        }
        self.jump(default.clone());
    }
}

/// Builds the new search at the end of the root: buckets by four bits from `shift + 4` on, or comparisons in a row.
fn build(func: &mut Function, search: &Search, shift: Option<u16>) {
    let Some(branch) = func.blocks[search.root].insts.pop() else { return };
    let pc = func.insts[branch].pc;
    hoist_constants(func, search);
    let search = &store_constants(func, search, pc);
    let mut builder = Builder { func, block: search.root, pc };
    let narrowed = narrowed(builder.func, search);
    let selector = narrowed.unwrap_or_else(|| {
        let (inst, value) = new_inst(
            builder.func,
            Opcode::Narrow,
            Imm::None,
            &[search.selector],
            Type::new(32).unwrap_or(Type::WORD),
            pc,
        );
        builder.func.blocks[search.root].insts.push(inst);
        value
    });
    let Some(shift) = shift else {
        builder.chain(selector, search.cases.iter(), &search.default);
        return;
    };
    let shifted = if shift > 0 {
        let distance = builder.iconst(Word::from(shift));
        builder.op(Opcode::Shr, &[distance, selector])
    } else {
        selector
    };
    let mask = builder.iconst(Word::from(0xf0));
    let hash = builder.op(Opcode::And, &[shifted, mask]);
    for bucket in 0..16u64 {
        let cases: Vec<_> =
            search.cases.iter().filter(|&(&word, _)| bucket_of(word, shift) == bucket as usize).collect();
        let entry = if cases.is_empty() {
            search.default.clone()
        } else {
            BlockCall { block: builder.func.create_block(), args: Vec::new() }
        };
        if bucket < 15 {
            builder.compare(hash, Word::from(16 * bucket), entry.clone());
        } else {
            builder.jump(entry.clone());
        }
        if !cases.is_empty() {
            let around = std::mem::replace(&mut builder.block, entry.block);
            builder.chain(selector, cases.into_iter(), &search.default);
            builder.block = around;
        }
    }
}

/// Puts stores of constants on the way to each case in the place of copies of the table: most are dead.
fn store_constants(func: &mut Function, search: &Search, pc: Option<Pc>) -> Search {
    let mut cases = search.cases.clone();
    if let Some(Copied { copies, chunks, words }) = &search.copied {
        func.blocks[search.root].insts.retain(|inst| !copies.contains(inst));
        for (selector, call) in &mut cases {
            let block = func.create_block();
            let contents = words.get(selector).map_or(&[][..], Vec::as_slice);
            let mut builder = Builder { func, block, pc };
            for (&at, &word) in chunks.iter().zip(contents) {
                let (address, word) = (builder.iconst(Word::from(at)), builder.iconst(word));
                let data = InstData {
                    opcode: Opcode::Mstore,
                    imm: Imm::None,
                    args: vec![address, word],
                    targets: Vec::new(),
                    results: Vec::new(),
                    pc,
                };
                let store = builder.func.create_inst(data, &[]);
                builder.func.blocks[block].insts.push(store);
            }
            builder.jump(std::mem::replace(call, BlockCall { block, args: Vec::new() }));
        }
    }
    let (default, inner) = (search.default.clone(), search.inner.clone());
    Search { cases, copied: None, default, inner, known: BTreeMap::new(), ..*search }
}

/// The selector in 32 bits, if the root has it.
fn narrowed(func: &Function, search: &Search) -> Option<Value> {
    func.blocks[search.root].insts.iter().find_map(|&inst| {
        let data = &func.insts[inst];
        let narrow = data.opcode == Opcode::Narrow && data.args == [search.selector];
        data.result().filter(|&value| narrow && func.ty(value).bits() == 32)
    })
}

/// The constants of the search that others use are made in the root.
fn hoist_constants(func: &mut Function, search: &Search) {
    for &block in &search.inner {
        let constants: Vec<Inst> = func.blocks[block]
            .insts
            .iter()
            .copied()
            .filter(|&inst| func.insts[inst].opcode == Opcode::Iconst)
            .collect();
        func.blocks[search.root].insts.extend(constants);
    }
    for &block in &search.inner {
        func.blocks[block].insts.clear();
    }
}
