//! What is needed where: which instructions and parameters matter, which values live into and out of each block.
//!
//! Values that cost no more to make than to copy (constants, fixed inputs) are never live: they are made where they are
//! used. `zext` and `narrow` change nothing on the EVM, so their results are the same value as their operand.

use cranelift_entity::{EntityRef, SecondaryMap};
use zvm_ir::cfg::{CallGraph, Cfg};
use zvm_ir::{Block, Effects, Func, Function, Imm, Inst, Module, Opcode, Value, ValueDef, Word};

use crate::selection::{Selection, input_byte, select};

/// A value that is made where it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Remade {
    /// A constant.
    Constant(Word),
    /// An input read by this one-byte instruction.
    Input(u8),
    /// The word that the constructor puts at this position of the original code.
    Immutable(u32),
}

/// A set of values of one function: of each 64 consecutive ones of which it has any, which they are, in ascending order.
/// The values of a block are close to each other, however many the function has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ValueSet(Vec<(usize, u64)>);

impl ValueSet {
    fn place(&self, value: Value) -> Result<usize, usize> {
        self.0.binary_search_by_key(&(value.index() / 64), |&(at, _)| at)
    }

    pub(crate) fn contains(&self, value: Value) -> bool {
        self.place(value).is_ok_and(|place| self.0[place].1 >> (value.index() % 64) & 1 == 1)
    }

    pub(crate) fn insert(&mut self, value: Value) {
        let bit = 1 << (value.index() % 64);
        match self.place(value) {
            Ok(place) => self.0[place].1 |= bit,
            Err(place) => self.0.insert(place, (value.index() / 64, bit)),
        }
    }

    fn remove(&mut self, value: Value) {
        if let Ok(place) = self.place(value) {
            self.0[place].1 &= !(1 << (value.index() % 64));
            if self.0[place].1 == 0 {
                self.0.remove(place);
            }
        }
    }

    /// Adds the values of another set.
    pub(crate) fn extend(&mut self, other: &Self) {
        let mut merged = Vec::with_capacity(self.0.len().max(other.0.len()));
        let (mut mine, mut theirs) = (self.0.iter().copied().peekable(), other.0.iter().copied().peekable());
        while let Some(&(at, bits)) = mine.peek() {
            match theirs.next_if(|&(other, _)| other <= at) {
                Some((other, more)) if other == at => merged.extend(mine.next().map(|_| (at, bits | more))),
                Some(before) => merged.push(before),
                None => merged.extend(mine.next()),
            }
        }
        merged.extend(theirs);
        self.0 = merged;
    }

    /// In ascending order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Value> + '_ {
        self.0.iter().flat_map(|&(at, bits)| {
            let rest = core::iter::successors(Some(bits), |&bits| bits.checked_sub(1).map(|less| bits & less));
            rest.take_while(|&bits| bits != 0).map(move |bits| Value::new(64 * at + bits.trailing_zeros() as usize))
        })
    }
}

/// What is needed of a function.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// The instructions that have an effect or a needed result.
    pub insts: SecondaryMap<Inst, bool>,
    /// The values that something needed reads, after [`canonical`].
    pub values: SecondaryMap<Value, bool>,
    /// The blocks from which a `ret` can be reached.
    pub returns: SecondaryMap<Block, bool>,
}

/// Facts about a whole module.
#[derive(Clone, Debug)]
pub(crate) struct ModuleFacts {
    /// Facts about each function.
    pub needs: SecondaryMap<Func, Needs>,
    /// Whether a function can return.
    pub returns: SecondaryMap<Func, bool>,
    /// Whether a function can call itself.
    pub recursive: SecondaryMap<Func, bool>,
    /// The functions that can be called, the entry first.
    pub reachable: Vec<Func>,
}

/// The value that `value` is on the EVM: `zext` and `narrow` do nothing there.
pub(crate) fn canonical(function: &Function, mut value: Value) -> Value {
    while let Some(inst) = function.def_inst(value) {
        let data = &function.insts[inst];
        match (select(data.opcode, data.args.len()), data.args.first()) {
            (Selection::Alias, Some(&arg)) => value = arg,
            _ => break,
        }
    }
    value
}

/// How to make the value where it is used, if that is as cheap as copying it.
pub(crate) fn remade(function: &Function, value: Value) -> Option<Remade> {
    let data = &function.insts[function.def_inst(value)?];
    match (data.opcode, data.imm) {
        (Opcode::Iconst, Imm::Word(word)) => Some(Remade::Constant(word)),
        (Opcode::Immutable, Imm::Place(place)) => Some(Remade::Immutable(place)),
        (opcode, _) => input_byte(opcode).map(Remade::Input),
    }
}

/// Analyses a module in normal form.
pub(crate) fn analyze(module: &Module, observes_msize: bool) -> ModuleFacts {
    let graph = CallGraph::new(module);
    let order: Vec<Func> = graph.components().iter().flatten().copied().collect();
    let mut facts = ModuleFacts {
        needs: SecondaryMap::new(),
        returns: SecondaryMap::new(),
        recursive: SecondaryMap::new(),
        reachable: Vec::new(),
    };
    for &func in &order {
        facts.recursive[func] = graph.is_recursive(func);
    }
    facts.returns = returning(module, &order);
    for &func in &order {
        facts.needs[func].returns = reach_ret(&module.funcs[func], &facts.returns);
    }
    // A least fixed point: what is not shown to be needed is not.
    let mut changed = true;
    while changed {
        changed = false;
        for &func in &order {
            let returns = core::mem::take(&mut facts.needs[func].returns);
            let mut needs = needs(module, func, &facts, observes_msize);
            needs.returns = returns;
            let before = needed_params(&module.funcs[func], &facts.needs[func]);
            changed |= before != needed_params(&module.funcs[func], &needs);
            facts.needs[func] = needs;
        }
    }
    if let Some(entry) = module.entry {
        facts.reachable.push(entry);
        let mut at = 0;
        while let Some(&func) = facts.reachable.get(at) {
            at += 1;
            for (_, inst) in module.funcs[func].insts_in_order() {
                if let Imm::Func(callee) = module.funcs[func].insts[inst].imm
                    && !facts.reachable.contains(&callee)
                {
                    facts.reachable.push(callee);
                }
            }
        }
    }
    facts
}

/// The functions that can return, given an order of all functions in which callees come early. A least fixed point: what
/// is not shown to return does not.
fn returning(module: &Module, order: &[Func]) -> SecondaryMap<Func, bool> {
    let mut returns = SecondaryMap::new();
    let mut changed = true;
    while changed {
        changed = false;
        for &func in order {
            let function = &module.funcs[func];
            let reached = reach_ret(function, &returns);
            if !returns[func] && function.entry().is_some_and(|entry| reached[entry]) {
                returns[func] = true;
                changed = true;
            }
        }
    }
    returns
}

/// The functions that can return.
pub(crate) fn returning_functions(module: &Module) -> SecondaryMap<Func, bool> {
    let graph = CallGraph::new(module);
    let order: Vec<Func> = graph.components().iter().flatten().copied().collect();
    returning(module, &order)
}

/// The parameters of the function that its callers must give, as positions.
pub(crate) fn needed_params(function: &Function, needs: &Needs) -> Vec<usize> {
    let params = function.entry().map_or(&[][..], |entry| &function.blocks[entry].params);
    (0..params.len()).filter(|&at| needs.values[params[at]]).collect()
}

fn reach_ret(function: &Function, returns: &SecondaryMap<Func, bool>) -> SecondaryMap<Block, bool> {
    let cfg = Cfg::new(function);
    let passes = |block: Block| {
        function.blocks[block].insts.iter().all(|&inst| match function.insts[inst].imm {
            Imm::Func(callee) => returns[callee],
            _ => true,
        })
    };
    let mut reached: SecondaryMap<Block, bool> = SecondaryMap::new();
    let mut work: Vec<Block> = cfg
        .reverse_postorder()
        .iter()
        .copied()
        .filter(|&block| function.terminator(block).is_some_and(|inst| function.insts[inst].opcode == Opcode::Ret))
        .collect();
    while let Some(block) = work.pop() {
        if !reached[block] && passes(block) {
            reached[block] = true;
            work.extend_from_slice(cfg.preds(block));
        }
    }
    reached
}

/// Whether an instruction is needed whatever becomes of its result.
fn is_root(opcode: Opcode, observes_msize: bool) -> bool {
    let effects = opcode.effects();
    !effects.is_removable() || (observes_msize && effects.has(Effects::READS_MEMORY) && opcode != Opcode::Msize)
}

fn needs(module: &Module, func: Func, facts: &ModuleFacts, observes_msize: bool) -> Needs {
    let function = &module.funcs[func];
    let mut needs = Needs::default();
    let mut work: Vec<Value> = Vec::new();
    // The arguments that each parameter stands for, to be needed when it is.
    let mut incoming: SecondaryMap<Value, Vec<Value>> = SecondaryMap::new();
    for (_, inst) in function.insts_in_order() {
        let data = &function.insts[inst];
        for target in &data.targets {
            for (&param, &arg) in function.blocks[target.block].params.iter().zip(&target.args) {
                incoming[param].push(arg);
            }
        }
        if !is_root(data.opcode, observes_msize) {
            continue;
        }
        needs.insts[inst] = true;
        match data.imm {
            Imm::Func(callee) => {
                let params = needed_params(&module.funcs[callee], &facts.needs[callee]);
                work.extend(params.iter().filter_map(|&at| data.args.get(at)).copied());
            }
            _ => work.extend_from_slice(&data.args),
        }
    }
    while let Some(value) = work.pop() {
        let value = canonical(function, value);
        if needs.values[value] {
            continue;
        }
        needs.values[value] = true;
        match function.values[value].def {
            ValueDef::Param(..) => work.extend_from_slice(&incoming[value]),
            ValueDef::Result(inst, _) => {
                if !needs.insts[inst] {
                    needs.insts[inst] = true;
                    work.extend_from_slice(&function.insts[inst].args);
                }
            }
        }
    }
    needs
}

/// Where each value of a function is live.
#[derive(Clone, Debug, Default)]
pub(crate) struct Liveness {
    /// The values whose word must be there when the block is entered, its needed parameters included.
    pub live_in: SecondaryMap<Block, ValueSet>,
    /// The values that live in a successor, and arguments of its needed parameters.
    pub live_out: SecondaryMap<Block, ValueSet>,
}

/// The values that an instruction reads from the stack, canonical, in the order of its operands. Arguments of parameters
/// that nobody needs and values that are remade are left out.
pub(crate) fn stack_uses(module: &Module, facts: &ModuleFacts, func: Func, inst: Inst) -> Vec<Value> {
    let function = &module.funcs[func];
    let data = &function.insts[inst];
    let args: Vec<Value> = match data.imm {
        Imm::Func(callee) => {
            let params = needed_params(&module.funcs[callee], &facts.needs[callee]);
            params.iter().filter_map(|&at| data.args.get(at)).copied().collect()
        }
        _ => data.args.clone(),
    };
    args.into_iter().map(|arg| canonical(function, arg)).filter(|&arg| remade(function, arg).is_none()).collect()
}

/// Computes liveness of a function in normal form.
pub(crate) fn liveness(module: &Module, facts: &ModuleFacts, func: Func, cfg: &Cfg) -> Liveness {
    let function = &module.funcs[func];
    let needs = &facts.needs[func];
    let mut out = Liveness::default();
    let mut work: Vec<Block> = cfg.reverse_postorder().to_vec();
    let mut queued: SecondaryMap<Block, bool> = SecondaryMap::new();
    for &block in &work {
        queued[block] = true;
    }
    while let Some(block) = work.pop() {
        queued[block] = false;
        let mut live = ValueSet::default();
        for target in function.targets(block) {
            let params = &function.blocks[target.block].params;
            let mut from = out.live_in[target.block].clone();
            for &param in params {
                from.remove(param);
            }
            for (&param, &arg) in params.iter().zip(&target.args) {
                let arg = canonical(function, arg);
                if needs.values[param] && remade(function, arg).is_none() {
                    from.insert(arg);
                }
            }
            live.extend(&from);
        }
        out.live_out[block] = live.clone();
        for &inst in function.blocks[block].insts.iter().rev() {
            if !needs.insts[inst] {
                continue;
            }
            for &result in &function.insts[inst].results {
                live.remove(result);
            }
            for value in stack_uses(module, facts, func, inst) {
                live.insert(value);
            }
        }
        if live != out.live_in[block] {
            out.live_in[block] = live;
            for &pred in cfg.preds(block) {
                if !queued[pred] {
                    queued[pred] = true;
                    work.push(pred);
                }
            }
        }
    }
    out
}
