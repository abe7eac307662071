//! What a person calls the parts of a program: the function of the interface that a block or a function of the IR belongs to.
//!
//! A contract's functions are found where the program compares the first four bytes of the calldata with a constant: what runs
//! only if they are equal is named after the signature that the interface gives, or after the selector (`fn_a9059cbb`) where
//! there is none. Names are shown as comments in text and graphs and in messages; they are no part of the IR, so that
//! the same bytecode has the same commitment with and without an interface.

use std::collections::{BTreeMap, BTreeSet};

use alloy_json_abi::JsonAbi;
use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, Func, Function, Imm, Labels, Module, Opcode, Pc, Value, ValueDef, Word};

/// The longest name that is shown, in characters.
const NAME_LIMIT: usize = 120;

/// The names of a module's parts.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// As comments on functions and blocks: a block where a function of the interface begins, a function that only one of
    /// them uses.
    pub labels: Labels,
    /// The function of the interface that each instruction belongs to, where it is one.
    functions: BTreeMap<Pc, String>,
}

impl Names {
    /// Finds the functions of the interface in a module, after whichever passes.
    pub fn of(module: &Module, abi: Option<&JsonAbi>) -> Self {
        let mut names = Self::default();
        let Some((entry, function)) = module.entry.and_then(|func| Some((func, module.funcs.get(func)?))) else {
            return names;
        };
        let cfg = Cfg::new(function);
        let begins = beginnings(function, &cfg);
        for (block, selectors) in &begins {
            names.labels.blocks.insert((entry, *block), name(selectors, abi));
        }
        // The beginning that dominates a block is the innermost one: selectors are compared one after the other.
        let owner = |block: Block| {
            let mut at = cfg.is_reachable(block).then_some(block);
            while let Some(block) = at {
                if begins.contains_key(&block) {
                    return Some(block);
                }
                at = cfg.idom(block);
            }
            None
        };
        let users = users(module, entry, owner);
        for (func, users) in &users {
            if let (1, Some(Some(user))) = (users.len(), users.first()) {
                names.labels.functions.insert(*func, format!("of {}", name(&begins[user], abi)));
            }
        }
        names.index(module, entry, |block| Some(name(&begins[&owner(block)?], abi)));
        names
    }

    /// The function of the interface that the instruction belongs to that came from `pc`.
    pub fn function_at(&self, pc: Pc) -> Option<&str> {
        self.functions.get(&pc).map(String::as_str)
    }

    fn index(&mut self, module: &Module, entry: Func, name_of: impl Fn(Block) -> Option<String>) {
        let mut shared = BTreeSet::new();
        for (func, function) in &module.funcs {
            let of_function = self.labels.functions.get(&func).and_then(|label| label.strip_prefix("of "));
            for (block, inst) in function.insts_in_order() {
                let Some(pc) = function.insts[inst].pc else { continue };
                let name = if func == entry { name_of(block) } else { of_function.map(str::to_owned) };
                match name {
                    Some(name) if self.functions.get(&pc).is_none_or(|known| *known == name) => {
                        self.functions.insert(pc, name);
                    }
                    // Copies of an instruction in several functions belong to none.
                    _ => _ = shared.insert(pc),
                }
            }
        }
        self.functions.retain(|pc, _| !shared.contains(pc));
    }
}

/// The labels that the text of a module shows, so that they are kept when it is printed again.
pub fn written(module: &Module, text: &str) -> Labels {
    let mut labels = Labels::default();
    let mut functions = module.funcs.iter();
    let mut current = None;
    for line in text.lines() {
        let (code, label) = line.split_once(';').unwrap_or((line, ""));
        let (code, label) = (code.trim_end(), label.trim());
        if code.starts_with("func ") {
            current = functions.next().map(|(func, function)| (func, function.layout.iter()));
            if let Some((func, _)) = current.as_ref().filter(|_| !label.is_empty()) {
                labels.functions.insert(*func, label.to_owned());
            }
        } else if code.starts_with("block") && code.ends_with(':') {
            let Some((func, blocks)) = current.as_mut() else { continue };
            if let Some(&block) = blocks.next().filter(|_| !label.is_empty()) {
                labels.blocks.insert((*func, block), label.to_owned());
            }
        }
    }
    labels
}

/// For each function that is called: the beginnings that calls of it lie behind; `None` is the rest of the entry function.
fn users(
    module: &Module,
    entry: Func,
    owner: impl Fn(Block) -> Option<Block>,
) -> BTreeMap<Func, BTreeSet<Option<Block>>> {
    let mut calls: Vec<(Func, Option<Block>, Func)> = Vec::new();
    for (func, function) in &module.funcs {
        for (block, inst) in function.insts_in_order() {
            let data = &function.insts[inst];
            if let (Opcode::Call, Imm::Func(callee)) = (data.opcode, data.imm) {
                calls.push((func, if func == entry { owner(block) } else { None }, callee));
            }
        }
    }
    let mut users: BTreeMap<Func, BTreeSet<Option<Block>>> = BTreeMap::new();
    loop {
        let mut changed = false;
        for (caller, block, callee) in &calls {
            let found = if *caller == entry {
                BTreeSet::from([*block])
            } else {
                users.get(caller).cloned().unwrap_or_default()
            };
            let known = users.entry(*callee).or_default();
            let before = known.len();
            known.extend(found);
            changed |= known.len() != before;
        }
        if !changed {
            return users;
        }
    }
}

/// The blocks that run only if the selector is one of some constants.
fn beginnings(function: &Function, cfg: &Cfg) -> BTreeMap<Block, BTreeSet<u32>> {
    let mut dispatch = Dispatch { function, cfg, known: BTreeMap::new() };
    let mut found: BTreeMap<Block, BTreeSet<u32>> = BTreeMap::new();
    let mut edges: BTreeMap<Block, usize> = BTreeMap::new();
    for &block in &function.layout {
        let Some(inst) = function.terminator(block).filter(|_| cfg.is_reachable(block)) else { continue };
        let data = &function.insts[inst];
        if let (Opcode::Brif, Some(&condition), [yes, no]) = (data.opcode, data.args.first(), &data.targets[..])
            && let Some((selector, equal)) = dispatch.comparison(condition, 0)
            && yes.block != no.block
        {
            let target = if equal { yes.block } else { no.block };
            found.entry(target).or_default().insert(selector);
            *edges.entry(target).or_default() += 1;
        }
    }
    // What is also reached otherwise is not the function's own.
    found.retain(|block, _| cfg.preds(*block).len() == edges[block] && function.entry() != Some(*block));
    found
}

/// What values are, as far as the choice of the function goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The first word of the calldata.
    FirstWord,
    /// Its first four bytes as a number.
    Selector,
}

/// How deep a value is looked into.
const DEPTH_LIMIT: usize = 64;

struct Dispatch<'f> {
    function: &'f Function,
    cfg: &'f Cfg,
    known: BTreeMap<(Value, Kind), bool>,
}

impl Dispatch<'_> {
    /// The constant that a condition compares the selector with, and whether the condition holds when they are equal.
    fn comparison(&mut self, condition: Value, depth: usize) -> Option<(u32, bool)> {
        if depth == DEPTH_LIMIT {
            return None;
        }
        let data = &self.function.insts[self.function.def_inst(condition)?];
        match (data.opcode, &data.args[..]) {
            (Opcode::Eq, &[a, b]) => Some((self.with_constant(a, b)?, true)),
            (Opcode::Xor | Opcode::Wsub | Opcode::Sub, &[a, b]) => Some((self.with_constant(a, b)?, false)),
            (Opcode::Iszero, &[a]) if self.is(a, Kind::Selector, 0) => Some((0, true)),
            (Opcode::Iszero, &[a]) => {
                let (selector, equal) = self.comparison(a, depth + 1)?;
                Some((selector, !equal))
            }
            _ => None,
        }
    }

    fn with_constant(&mut self, a: Value, b: Value) -> Option<u32> {
        let (value, constant) = match (self.function.constant(a), self.function.constant(b)) {
            (Some(constant), None) => (b, constant),
            (None, Some(constant)) => (a, constant),
            _ => return None,
        };
        if self.is(value, Kind::Selector, 0) { u32::try_from(constant).ok() } else { None }
    }

    /// Whether a value is of a kind. Around a loop it is until something says otherwise.
    fn is(&mut self, value: Value, kind: Kind, depth: usize) -> bool {
        if let Some(&known) = self.known.get(&(value, kind)) {
            return known;
        }
        if depth == DEPTH_LIMIT {
            return false;
        }
        self.known.insert((value, kind), true);
        let answer = match self.function.values[value].def {
            ValueDef::Param(block, at) => self.is_param(block, at, kind, depth),
            ValueDef::Result(inst, _) => {
                let data = &self.function.insts[inst];
                let constant = |value: Value| self.function.constant(value);
                match (kind, data.opcode, &data.args[..]) {
                    (Kind::FirstWord, Opcode::Calldataload, &[offset]) => constant(offset) == Some(Word::ZERO),
                    (Kind::Selector, Opcode::Shr, &[by, word]) => {
                        constant(by) == Some(Word::from(224)) && self.is(word, Kind::FirstWord, depth + 1)
                    }
                    (Kind::Selector, Opcode::Udiv, &[word, by]) => {
                        constant(by) == Some(Word::from(1) << 224) && self.is(word, Kind::FirstWord, depth + 1)
                    }
                    (Kind::Selector, Opcode::And, &[a, b]) => {
                        let mask = Some(Word::from(u32::MAX));
                        (constant(a) == mask && self.is(b, kind, depth + 1))
                            || (constant(b) == mask && self.is(a, kind, depth + 1))
                    }
                    (Kind::Selector, Opcode::Zext | Opcode::Trunc | Opcode::Narrow, &[a]) => {
                        self.function.ty(value).bits() >= 32 && self.is(a, kind, depth + 1)
                    }
                    _ => false,
                }
            }
        };
        if !answer {
            // What was taken to hold meanwhile may rest on this.
            self.known.retain(|_, known| !*known);
        }
        self.known.insert((value, kind), answer);
        answer
    }

    fn is_param(&mut self, block: Block, at: usize, kind: Kind, depth: usize) -> bool {
        let (function, cfg) = (self.function, self.cfg);
        let preds: BTreeSet<Block> = cfg.preds(block).iter().copied().collect();
        let targets = preds.iter().flat_map(|&pred| function.targets(pred)).filter(|target| target.block == block);
        let args: BTreeSet<Value> = targets.filter_map(|target| target.args.get(at).copied()).collect();
        !args.is_empty() && function.entry() != Some(block) && args.iter().all(|&arg| self.is(arg, kind, depth + 1))
    }
}

/// The name of the functions with some selectors, which share their code.
fn name(selectors: &BTreeSet<u32>, abi: Option<&JsonAbi>) -> String {
    let one = |selector: &u32| {
        let known = abi.and_then(|abi| abi.function_by_selector(selector.to_be_bytes().into()));
        known.map_or_else(|| format!("fn_{selector:08x}"), |function| function.signature())
    };
    let text = selectors.iter().map(one).collect::<Vec<_>>().join(", ");
    // An interface is input: its names may hold anything.
    text.chars().take(NAME_LIMIT).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}
