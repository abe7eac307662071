//! Room for spilled words below the memory that a program hands out to itself.
//!
//! Does: all that a program keeps in memory from some address on goes a number of bytes further up, and the bytes below are free:
//! the free pointer begins later. An address is *moved* if it is as much greater as memory is. Every place that a moved address comes
//! from or goes to must be understood: sums with what is not moved, differences of two, comparisons of two or with
//! a constant, rounding, parameters, arguments, results, the word of the free pointer. If one is put elsewhere, stored or hashed or
//! returned say, the program could tell the difference, and nothing is moved.
//! Requires: a verified module that does not read MSIZE. Ensures: a verified module.
//! Preserves: equality of `Outcome`, for executions that gas can pay for.
//! After: the rule that an abstract machine with pointers as a sort of their own cannot see where they point.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, Func, Function, Imm, Inst, InstData, Module, Opcode, Type, Value, ValueDef, Word};

use crate::bounds::clears_low_bits;
use crate::memory::{MAX_STATIC, MemoryPlan, Span, accesses, spans};
use crate::ranges::{Ranges, of_pointer};

/// The most words to make room for: more of them cost more gas than they save.
const MOST: usize = 256;

/// A place where an instruction reads a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// The operand of this number.
    Arg(usize),
    /// The argument of that number for the target of this number.
    Target(usize, usize),
}

/// A module whose memory is moved.
#[derive(Clone, Debug)]
pub(crate) struct Raised {
    pub module: Module,
    /// The first address that was moved: from here on there is room.
    pub start: u64,
}

/// Makes room for so many spilled words, in addition to the places that the plan has. `None` where that is not possible.
pub(crate) fn make_room(module: &Module, plan: &MemoryPlan, words: usize) -> Option<(Module, MemoryPlan)> {
    let start = start_of(module)?;
    let mut holes: Vec<u64> = plan.holes.iter().copied().filter(|&hole| hole + 32 <= start).collect();
    let missing = words.checked_sub(holes.len()).filter(|&words| words <= MOST)? as u64;
    // What scratch and exits use stays where it is, below the moved memory.
    let base = start.max(plan.own_end).next_multiple_of(32);
    let by = (base - start).next_multiple_of(32) + 32 * missing;
    let raised = raise(module, by)?;
    debug_assert_eq!(raised.start, start, "the same module starts at the same address");
    holes.extend((0..missing).map(|at| base + 32 * at));
    Some((raised.module, MemoryPlan { spill_base: None, holes, ..plan.clone() }))
}

/// Where the memory of a module starts that can be moved.
fn start_of(module: &Module) -> Option<u64> {
    let ranges = Ranges::new(module);
    let all = module.funcs.keys().flat_map(|func| spans(module, func, &ranges));
    start(all.map(|(.., span)| span).filter(|&span| span != (0, Some(0))))
}

/// Moves the memory of a module up by `by` bytes, a multiple of 32. `None` where a use of an address is not understood.
pub(crate) fn raise(module: &Module, by: u64) -> Option<Raised> {
    let ranges = Ranges::new(module);
    let mut all: BTreeMap<Func, Vec<(Inst, usize, Span)>> = BTreeMap::new();
    for func in module.funcs.keys() {
        let found = spans(module, func, &ranges).into_iter().filter(|(.., span)| *span != (0, Some(0)));
        all.insert(func, found.map(|(inst, access, span)| (inst, access.at, span)).collect());
    }
    let start = start(all.values().flatten().map(|&(.., span)| span))?;
    let mut search = Search::new(module, &ranges, by);
    for (&func, spans) in &all {
        for &(inst, at, (from, _)) in spans {
            if from >= start {
                search.demand(func, inst, Use::Arg(at))?;
            }
        }
    }
    search.close()?;
    for (&func, spans) in &all {
        for &(inst, at, (from, _)) in spans {
            let offset = search.value(func, inst, Use::Arg(at))?;
            // What is moved must not wrap around.
            if (from >= start) != search.is_moved(func, inst, Use::Arg(at)) || !search.is_small(func, offset) {
                return None;
            }
        }
    }
    Some(Raised { module: search.rewrite()?, start })
}

/// The address that every access lies below or from which on it lies, as low as accesses whose end is unknown ask for.
fn start(spans: impl Iterator<Item = Span>) -> Option<u64> {
    let spans: Vec<Span> = spans.collect();
    // What ends too far up for a place behind it is as good as without an end.
    let is_far = |end: Option<u64>| end.is_none_or(|end| end > MAX_STATIC);
    let mut start = spans.iter().filter(|&&(_, end)| is_far(end)).map(|&(from, _)| from).min()?;
    while let Some(&(from, _)) = spans.iter().find(|&&(from, end)| from < start && end.is_none_or(|end| end > start)) {
        start = from;
    }
    Some(start).filter(|&start| start > 0)
}

struct Search<'a> {
    module: &'a Module,
    ranges: &'a Ranges,
    by: Word,
    /// The values that are moved addresses.
    moved: BTreeSet<(Func, Value)>,
    /// The uses of constants that are.
    constants: BTreeSet<(Func, Inst, Use)>,
    /// The results of functions that are.
    results: BTreeSet<(Func, usize)>,
    /// Whether the word of the free pointer is.
    pointer: bool,
    work: Vec<(Func, Value)>,
    uses: BTreeMap<(Func, Value), Vec<(Inst, Use)>>,
    incoming: BTreeMap<(Func, Block), Vec<(Inst, usize)>>,
    callers: BTreeMap<Func, Vec<(Func, Inst)>>,
}

impl<'a> Search<'a> {
    fn new(module: &'a Module, ranges: &'a Ranges, by: u64) -> Self {
        let mut uses: BTreeMap<(Func, Value), Vec<(Inst, Use)>> = BTreeMap::new();
        let mut incoming: BTreeMap<(Func, Block), Vec<(Inst, usize)>> = BTreeMap::new();
        let mut callers: BTreeMap<Func, Vec<(Func, Inst)>> = BTreeMap::new();
        for (func, function) in &module.funcs {
            for (_, inst) in function.insts_in_order() {
                let data = &function.insts[inst];
                for (at, &arg) in data.args.iter().enumerate() {
                    uses.entry((func, arg)).or_default().push((inst, Use::Arg(at)));
                }
                for (target, call) in data.targets.iter().enumerate() {
                    incoming.entry((func, call.block)).or_default().push((inst, target));
                    for (at, &arg) in call.args.iter().enumerate() {
                        uses.entry((func, arg)).or_default().push((inst, Use::Target(target, at)));
                    }
                }
                if let Imm::Func(callee) = data.imm {
                    callers.entry(callee).or_default().push((func, inst));
                }
            }
        }
        Self {
            module,
            ranges,
            by: Word::from(by),
            moved: BTreeSet::new(),
            constants: BTreeSet::new(),
            results: BTreeSet::new(),
            pointer: false,
            work: Vec::new(),
            uses,
            incoming,
            callers,
        }
    }

    fn function(&self, func: Func) -> &'a Function {
        &self.module.funcs[func]
    }

    fn value(&self, func: Func, inst: Inst, at: Use) -> Option<Value> {
        let data = &self.function(func).insts[inst];
        match at {
            Use::Arg(at) => data.args.get(at).copied(),
            Use::Target(target, at) => data.targets.get(target)?.args.get(at).copied(),
        }
    }

    fn is_moved(&self, func: Func, inst: Inst, at: Use) -> bool {
        self.constants.contains(&(func, inst, at))
            || self.value(func, inst, at).is_some_and(|value| self.moved.contains(&(func, value)))
    }

    /// Whether a value, moved or not, is far from the end of the words.
    fn is_small(&self, func: Func, value: Value) -> bool {
        self.ranges.of(self.module, func, value).1 <= Word::from(u128::MAX)
    }

    /// What is read there must be moved.
    fn demand(&mut self, func: Func, inst: Inst, at: Use) -> Option<()> {
        let value = self.value(func, inst, at)?;
        match self.function(func).constant(value) {
            Some(_) => drop(self.constants.insert((func, inst, at))),
            None => self.shift(func, value),
        }
        Some(())
    }

    fn shift(&mut self, func: Func, value: Value) {
        if self.moved.insert((func, value)) {
            self.work.push((func, value));
        }
    }

    /// Follows moved addresses to where they come from and where they go.
    fn close(&mut self) -> Option<()> {
        loop {
            while let Some((func, value)) = self.work.pop() {
                self.origin(func, value)?;
                for (inst, at) in self.uses.get(&(func, value)).cloned().unwrap_or_default() {
                    self.goes_to(func, inst, at)?;
                }
            }
            if !self.differences()? {
                return Some(());
            }
        }
    }

    /// Decides, when nothing else is left to follow, what the differences from moved addresses are: of two, a length; else
    /// an address. Tells whether there is more to follow.
    fn differences(&mut self) -> Option<bool> {
        let mut found = false;
        for (func, function) in &self.module.funcs {
            for (_, inst) in function.insts_in_order() {
                let data = &function.insts[inst];
                let (Opcode::Sub | Opcode::Wsub, Some(result)) = (data.opcode, data.result()) else { continue };
                let [from, what] = [0, 1].map(|at| self.is_moved(func, inst, Use::Arg(at)));
                match (from, what, self.moved.contains(&(func, result))) {
                    (true, false, false) => {
                        self.shift(func, result);
                        found = true;
                    }
                    (false, true, _) | (true, true, true) | (false, false, true) => return None,
                    (true, false, true) | (true, true, false) | (false, false, false) => {}
                }
            }
        }
        Some(found)
    }

    /// Where a moved value is made, whatever it is made of must be moved.
    fn origin(&mut self, func: Func, value: Value) -> Option<()> {
        let function = self.function(func);
        let inst = match function.values[value].def {
            ValueDef::Param(block, at) => {
                for (inst, target) in self.incoming.get(&(func, block)).cloned().unwrap_or_default() {
                    self.demand(func, inst, Use::Target(target, at))?;
                }
                if function.entry() == Some(block) {
                    for (caller, inst) in self.callers.get(&func).cloned().unwrap_or_default() {
                        self.demand(caller, inst, Use::Arg(at))?;
                    }
                }
                return Some(());
            }
            ValueDef::Result(inst, at) => {
                if let Imm::Func(callee) = function.insts[inst].imm {
                    return self.result(callee, at);
                }
                inst
            }
        };
        let data = &function.insts[inst];
        match data.opcode {
            Opcode::Zext | Opcode::Narrow | Opcode::Sub | Opcode::Wsub => self.demand(func, inst, Use::Arg(0)),
            Opcode::Bound => {
                let arg = *data.args.first()?;
                // Before the access that stands for it, it could be any word, moved past the last one.
                self.is_small(func, arg).then_some(())?;
                self.demand(func, inst, Use::Arg(0))
            }
            Opcode::Add | Opcode::Wadd => {
                let at = self.base(func, inst)?;
                self.demand(func, inst, Use::Arg(at))
            }
            Opcode::And => {
                let at = usize::from(function.constant(*data.args.first()?).is_some());
                self.is_rounding(func, data, at).then_some(())?;
                self.demand(func, inst, Use::Arg(at))
            }
            Opcode::Select => {
                self.demand(func, inst, Use::Arg(1))?;
                self.demand(func, inst, Use::Arg(2))
            }
            Opcode::Mload if of_pointer(function, data) => self.free_pointer(),
            _ => None,
        }
    }

    /// Which operand of a sum that must be moved is an address.
    fn base(&self, func: Func, inst: Inst) -> Option<usize> {
        let function = self.function(func);
        let &[a, b] = function.insts[inst].args.as_slice() else { return None };
        let moved = [0, 1].map(|at| self.is_moved(func, inst, Use::Arg(at)));
        let constant = [a, b].map(|value| function.constant(value).is_some());
        // An address lies beyond the free pointer; what is below is a length, an index, or zero.
        let high = [a, b].map(|value| self.ranges.of(self.module, func, value).0 > Word::from(64));
        match (moved, constant, high) {
            ([true, true], ..) => None,
            ([true, false], ..) => Some(0),
            ([false, true], ..) => Some(1),
            (_, [true, false], [_, high]) => Some(usize::from(high)),
            (_, [false, true], [high, _]) => Some(usize::from(!high)),
            (_, _, [true, false]) => Some(0),
            (_, _, [false, true]) => Some(1),
            _ => None,
        }
    }

    /// Whether an instruction only clears low bits of this operand, fewer than what is added has.
    fn is_rounding(&self, func: Func, data: &InstData, at: usize) -> bool {
        let function = self.function(func);
        let mask = data.args.get(1 - at).and_then(|&mask| function.constant(mask));
        let (Some(mask), Some(&arg)) = (mask, data.args.get(at)) else { return false };
        let high = self.ranges.of(self.module, func, arg).1.checked_add(self.by);
        mask.trailing_zeros() <= self.by.trailing_zeros()
            && high.is_some_and(|high| clears_low_bits((mask, mask), high))
    }

    fn result(&mut self, callee: Func, at: usize) -> Option<()> {
        if !self.results.insert((callee, at)) {
            return Some(());
        }
        let function = self.function(callee);
        for (_, inst) in function.insts_in_order() {
            if function.insts[inst].opcode == Opcode::Ret {
                self.demand(callee, inst, Use::Arg(at))?;
            }
        }
        for (caller, inst) in self.callers.get(&callee).cloned().unwrap_or_default() {
            let result = *self.function(caller).insts[inst].results.get(at)?;
            self.shift(caller, result);
        }
        Some(())
    }

    /// The word of the free pointer is moved: so is all that is stored there and loaded from there.
    fn free_pointer(&mut self) -> Option<()> {
        if !self.ranges.pointer {
            return None;
        }
        if core::mem::replace(&mut self.pointer, true) {
            return Some(());
        }
        for (func, function) in &self.module.funcs {
            for (_, inst) in function.insts_in_order() {
                let data = &function.insts[inst];
                if !of_pointer(function, data) {
                    continue;
                }
                match data.result() {
                    Some(result) => self.shift(func, result),
                    None => self.demand(func, inst, Use::Arg(1))?,
                }
            }
        }
        Some(())
    }

    /// A moved address goes there: what is made of it must be moved too, or not depend on that.
    fn goes_to(&mut self, func: Func, inst: Inst, at: Use) -> Option<()> {
        let function = self.function(func);
        let data = &function.insts[inst];
        let at = match at {
            Use::Target(target, at) => {
                let block = data.targets.get(target)?.block;
                self.shift(func, *function.blocks[block].params.get(at)?);
                return Some(());
            }
            Use::Arg(at) => at,
        };
        let other = 1usize.wrapping_sub(at);
        match data.opcode {
            Opcode::Zext | Opcode::Narrow => self.shift(func, data.result()?),
            Opcode::Bound => {
                self.is_small(func, *data.args.first()?).then_some(())?;
                self.shift(func, data.result()?);
            }
            Opcode::Add | Opcode::Wadd => {
                let twice = data.args.first() == data.args.get(1) || self.is_moved(func, inst, Use::Arg(other));
                (!twice).then_some(())?;
                self.shift(func, data.result()?);
            }
            // The result is looked at when all moved addresses are known.
            Opcode::Sub | Opcode::Wsub if at == 0 => {}
            Opcode::Sub | Opcode::Wsub => self.demand(func, inst, Use::Arg(0))?,
            Opcode::And => {
                self.is_rounding(func, data, at).then_some(())?;
                self.shift(func, data.result()?);
            }
            Opcode::Select if at > 0 => {
                self.demand(func, inst, Use::Arg(3 - at))?;
                self.shift(func, data.result()?);
            }
            Opcode::Eq | Opcode::Ult => {
                let both = [0, 1].iter().all(|&at| data.args.get(at).is_some_and(|&arg| self.compares(func, arg)));
                both.then_some(())?;
                self.demand(func, inst, Use::Arg(other))?;
            }
            // No address is zero, wherever memory is.
            Opcode::Iszero => {
                let arg = *data.args.first()?;
                let above = !self.ranges.of(self.module, func, arg).0.is_zero();
                (above && self.compares(func, arg)).then_some(())?;
            }
            Opcode::Mstore if at == 1 && of_pointer(function, data) => self.free_pointer()?,
            Opcode::Call => {
                let Imm::Func(callee) = data.imm else { return None };
                let entry = self.function(callee).entry()?;
                self.shift(callee, *self.function(callee).blocks[entry].params.get(at)?);
            }
            Opcode::Ret => self.result(func, at)?,
            _ => accesses(data).iter().any(|access| access.at == at).then_some(())?,
        }
        Some(())
    }

    /// Whether a value stays in order with others when all are moved: it does not wrap around.
    fn compares(&self, func: Func, value: Value) -> bool {
        self.ranges.of(self.module, func, value).1.checked_add(self.by).is_some()
    }

    fn rewrite(&self) -> Option<Module> {
        let mut out = self.module.clone();
        for &(func, at) in &self.results {
            *out.funcs[func].results.get_mut(at)? = Type::WORD;
        }
        for (func, function) in &mut out.funcs {
            self.widen(func, function);
            for block in function.layout.clone() {
                let insts = core::mem::take(&mut function.blocks[block].insts);
                let mut made: Vec<Inst> = Vec::with_capacity(insts.len());
                for inst in insts {
                    self.instruction(func, function, inst, &mut made)?;
                }
                function.blocks[block].insts = made;
            }
        }
        Some(out)
    }

    /// Gives moved addresses types that hold them.
    fn widen(&self, func: Func, function: &mut Function) {
        let moved: Vec<Value> = self.moved.iter().filter(|(of, _)| *of == func).map(|&(_, value)| value).collect();
        for &value in &moved {
            let bound = function.def_inst(value).is_some_and(|inst| function.insts[inst].opcode == Opcode::Bound);
            if !bound {
                function.values[value].ty = Type::WORD;
            }
        }
        let cfg = Cfg::new(function);
        for &block in cfg.reverse_postorder() {
            for at in 0..function.blocks[block].insts.len() {
                let inst = function.blocks[block].insts[at];
                let data = &function.insts[inst];
                let (Opcode::And, Some(result)) = (data.opcode, data.result()) else { continue };
                let types: Vec<Type> = data.args.iter().map(|&arg| function.ty(arg)).collect();
                if let (true, Ok(Some(ty))) = (moved.contains(&result), data.opcode.result_type(&types)) {
                    function.values[result].ty = ty;
                }
            }
        }
    }

    fn instruction(&self, func: Func, function: &mut Function, inst: Inst, made: &mut Vec<Inst>) -> Option<()> {
        let data = function.insts[inst].clone();
        let exact = matches!(data.opcode, Opcode::Call | Opcode::Ret | Opcode::Select);
        let args = (0..data.args.len()).map(|at| (Use::Arg(at), exact));
        let targets = data.targets.iter().enumerate();
        let targets =
            targets.flat_map(|(target, call)| (0..call.args.len()).map(move |at| (Use::Target(target, at), true)));
        let mut push = |function: &mut Function, opcode, imm, args: &[Value], ty| {
            let pc = data.pc;
            let data = InstData { opcode, imm, args: args.to_vec(), targets: Vec::new(), results: Vec::new(), pc };
            let inst = function.create_inst(data, &[ty]);
            made.push(inst);
            function.insts[inst].results[0]
        };
        for (at, exact) in args.chain(targets) {
            let old = self.value(func, inst, at)?;
            let new = if self.constants.contains(&(func, inst, at)) {
                let word = function.constant(old)?.checked_add(self.by)?;
                let ty = if exact { Type::WORD } else { Type::of(&word) };
                push(function, Opcode::Iconst, Imm::Word(word), &[], ty)
            } else if exact && self.moved.contains(&(func, old)) && function.ty(old) != Type::WORD {
                push(function, Opcode::Zext, Imm::None, &[old], Type::WORD)
            } else {
                continue;
            };
            match at {
                Use::Arg(at) => function.insts[inst].args[at] = new,
                Use::Target(target, at) => function.insts[inst].targets[target].args[at] = new,
            }
        }
        let moved = data.result().is_some_and(|result| self.moved.contains(&(func, result)));
        let both = [0, 1].iter().all(|&at| self.is_moved(func, inst, Use::Arg(at)));
        let opcode = match data.opcode {
            Opcode::Zext | Opcode::Narrow if moved => Opcode::Zext,
            Opcode::Add if moved => Opcode::Wadd,
            Opcode::Sub if moved => Opcode::Wsub,
            // A length is as wide as it was.
            Opcode::Sub if both => {
                let args = function.insts[inst].args.clone();
                let difference = push(function, Opcode::Wsub, Imm::None, &args, Type::WORD);
                function.insts[inst].args = vec![difference];
                Opcode::Narrow
            }
            opcode => opcode,
        };
        function.insts[inst].opcode = opcode;
        made.push(inst);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program that hands out memory as long as calldata, from the free pointer on, and does something with what it knows of it.
    fn program(body: &str) -> Module {
        let text = format!(
            "zvm 1\nentry @main\nfunc @main() {{\nblock0:\nv0: u7 = iconst 64\nv1: u8 = iconst 128\nmstore v0, v1
            v2: u64 = calldatasize\nv3: u256 = mload v0\nv4: u256 = wadd v3, v2\nv5: u27 = bound 32, v4
            v6: u256 = zext v5\nmstore v0, v6\nmstore v5, v2\nv7: u6 = iconst 32\n{body}\n}}"
        );
        let module = zvm_ir::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        zvm_ir::verify(&module).unwrap_or_else(|errors| panic!("{}\n{text}", errors[0]));
        module
    }

    fn raised(body: &str) -> Option<String> {
        let raised = raise(&program(body), 320)?;
        assert_eq!(raised.start, 128);
        zvm_ir::verify(&raised.module).unwrap_or_else(|errors| panic!("{}\n{}", errors[0], raised.module));
        Some(raised.module.to_string())
    }

    #[test]
    fn the_free_pointer_begins_later() {
        let text = raised("return v5, v7").expect("nothing is seen");
        assert!(text.contains("iconst 448"), "{text}");
        // What lies below stays, lengths too.
        assert!(text.contains("mstore v0, ") && text.contains("iconst 32"), "{text}");
    }

    #[test]
    fn what_is_the_same_wherever_memory_is() {
        for body in [
            // A difference, a comparison, and one with a constant.
            "v8: u256 = wsub v6, v3\nsstore v7, v8\nstop",
            "v8: u1 = ult v3, v6\nsstore v7, v8\nstop",
            "v8: u9 = iconst 300\nv9: u1 = ult v8, v5\nsstore v7, v9\nstop",
            "v8: u1 = iszero v5\nsstore v7, v8\nstop",
            // A round sum, a choice, a loop over memory.
            "v8: u26 = iconst 0x3ffffe0\nv9: u6 = iconst 31\nv10: u28 = add v5, v9\nv11: u256 = zext v10
            v12: u256 = iconst 0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe0\nv13: u256 = and v11, v12
            v14: u27 = bound 32, v13\nmstore v14, v7\nstop",
            "v8: u1 = iszero v2\nv9: u8 = iconst 200\nv10: u27 = select v8, v9, v5\nmstore v10, v7\nstop",
            "jump block1(v5)\nblock1(v8: u27):\nv9: u28 = add v8, v7\nv10: u27 = bound 32, v9\nv11: u256 = mload v10
            v12: u1 = iszero v11\nbrif v12, block2, block1(v10)\nblock2:\nstop",
        ] {
            assert!(raised(body).is_some(), "{body}");
        }
    }

    #[test]
    fn what_would_be_seen() {
        for body in [
            "sstore v7, v5\nstop",
            "sstore v5, v7\nstop",
            "mstore v5, v6\nstop",
            "return_words 32, v6",
            "v8: u256 = keccak_words 32, v6\nsstore v7, v8\nstop",
            "v8: u256 = wmul v6, v7\nsstore v7, v8\nstop",
            "v8: u256 = wadd v6, v3\nsstore v7, v8\nstop",
            "v8: u256 = calldataload v5\nsstore v7, v8\nstop",
            // The order beside a word that is no address; an address that is bounded only by an access that comes later.
            "v8: u256 = callvalue\nv9: u1 = ult v8, v6\nsstore v7, v9\nstop",
            "v8: u256 = callvalue\nv9: u256 = wadd v8, v6\nmstore v9, v7\nstop",
            // Memory from both sides of where it starts, at any place, and the pointer as bytes.
            "return v0, v1",
            "v8: u64 = calldatasize\nv9: u256 = mload v8\nsstore v7, v9\nstop",
            "v8: u256 = keccak256 v0, v7\nsstore v7, v8\nstop",
        ] {
            let module = program(body);
            assert!(raise(&module, 320).is_none(), "{body}");
        }
    }
}
