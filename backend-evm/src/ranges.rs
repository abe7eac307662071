//! Ranges of the values of a whole module: through loops, calls and returns.
//!
//! The free pointer of solc is followed through memory. A value's range only grows while the module is looked at again and again; one that grows too often is given up, in
//! steps up to its type, so this ends. [`crate::bounds`] says what an instruction makes of the ranges of its operands.

use cranelift_entity::SecondaryMap;
use zvm_ir::cfg::Cfg;
use zvm_ir::memory::MEMORY_LIMIT;
use zvm_ir::{Block, Func, Function, Imm, Inst, InstData, Module, Opcode, Value, Word};

use crate::bounds;
use crate::memory::{self, Span};

/// Where solc keeps the address of the first byte of memory that nobody has: the word that functions hand pointers on by.
pub(crate) const POINTER: u64 = 0x40;

/// How often a range may grow before it is given up: first its upper end, then the lower one.
const PATIENCE: u8 = 4;

/// A range with how often it has grown. `None` while nothing is known to make such a value.
type Known = Option<(Word, Word, u8)>;

/// The smallest and the largest word of each value.
#[derive(Clone, Debug)]
pub(crate) struct Ranges {
    values: SecondaryMap<Func, SecondaryMap<Value, Known>>,
    /// Whether the word at [`POINTER`] is taken to hold what the program stores there and nothing else, and its range.
    pub pointer: bool,
    stored: Known,
}

impl Ranges {
    pub(crate) fn new(module: &Module) -> Self {
        if begins_with_pointer(module) {
            // If no access breaks it as long as the assumption holds, none ever does.
            let ranges = Self::assuming(module, true);
            if module.funcs.keys().all(|func| ranges.keeps_pointer(module, func)) {
                return ranges;
            }
        }
        Self::assuming(module, false)
    }

    /// Whether every access of a function to the word at [`POINTER`] loads or stores it as a whole.
    fn keeps_pointer(&self, module: &Module, func: Func) -> bool {
        let function = &module.funcs[func];
        memory::spans(module, func, self).into_iter().all(|(inst, _, (from, end)): (_, _, Span)| {
            let apart = from >= POINTER + 32 || end.is_some_and(|end| end <= POINTER);
            apart || of_pointer(function, &function.insts[inst])
        })
    }

    fn assuming(module: &Module, pointer: bool) -> Self {
        let mut ranges = Self { values: SecondaryMap::new(), pointer, stored: None };
        let mut results: SecondaryMap<Func, Vec<Known>> = SecondaryMap::new();
        for (func, function) in &module.funcs {
            results[func] = vec![None; function.results.len()];
        }
        let cfgs: Vec<(Func, Cfg)> = module.funcs.iter().map(|(func, function)| (func, Cfg::new(function))).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for (func, cfg) in &cfgs {
                changed |= ranges.function(module, *func, cfg, &mut results);
            }
        }
        ranges
    }

    /// The range of a value; that of its type where nothing is known to make it.
    pub(crate) fn of(&self, module: &Module, func: Func, value: Value) -> (Word, Word) {
        let widest = module.funcs.get(func).map_or(Word::MAX, |function| function.ty(value).max_value());
        self.known(func, value).unwrap_or((Word::ZERO, widest))
    }

    fn known(&self, func: Func, value: Value) -> Option<(Word, Word)> {
        self.values[func][value].map(|(low, high, _)| (low, high))
    }

    fn function(
        &mut self,
        module: &Module,
        func: Func,
        cfg: &Cfg,
        results: &mut SecondaryMap<Func, Vec<Known>>,
    ) -> bool {
        let function = &module.funcs[func];
        let mut changed = false;
        for &block in cfg.reverse_postorder() {
            for &inst in &function.blocks[block].insts {
                let data = &function.insts[inst];
                let args: Vec<Option<(Word, Word)>> = data.args.iter().map(|&arg| self.known(func, arg)).collect();
                if let (Opcode::Call, Imm::Func(callee)) = (data.opcode, data.imm) {
                    let target = &module.funcs[callee];
                    let params = target.entry().map_or(&[][..], |entry| &target.blocks[entry].params);
                    for (&param, &arg) in params.iter().zip(&args) {
                        changed |= self.join(target, callee, param, arg);
                    }
                    for (at, &result) in data.results.iter().enumerate() {
                        let made = results[callee].get(at).copied().flatten();
                        changed |= self.join(function, func, result, made.map(|(low, high, _)| (low, high)));
                    }
                } else if self.pointer && data.opcode == Opcode::Mload && of_pointer(function, data) {
                    let stored = self.stored.map(|(low, high, _)| (low, high));
                    changed |= data.result().is_some_and(|result| self.join(function, func, result, stored));
                } else if let Some(result) = data.result() {
                    let all: Option<Vec<(Word, Word)>> = args.iter().copied().collect();
                    let most = function.ty(result).max_value();
                    let made = all.map(|args| bounds::result(data, &args, most));
                    changed |= self.join(function, func, result, made);
                }
                if self.pointer && data.opcode == Opcode::Mstore && of_pointer(function, data) {
                    changed |= grow(&mut self.stored, args.get(1).copied().flatten(), Word::MAX);
                }
                for target in &data.targets {
                    for (&param, &arg) in function.blocks[target.block].params.iter().zip(&target.args) {
                        changed |= self.join(function, func, param, self.known(func, arg));
                    }
                }
                if data.opcode == Opcode::Ret {
                    for (at, &arg) in args.iter().enumerate() {
                        let most = function.results.get(at).map_or(Word::MAX, |ty| ty.max_value());
                        if let Some(known) = results[func].get_mut(at) {
                            changed |= grow(known, arg, most);
                        }
                    }
                }
            }
        }
        changed
    }

    fn join(&mut self, function: &Function, func: Func, value: Value, made: Option<(Word, Word)>) -> bool {
        let most = function.ty(value).max_value();
        grow(&mut self.values[func][value], made, most)
    }
}

/// Whether an instruction loads or stores exactly the word at [`POINTER`].
pub(crate) fn of_pointer(function: &Function, data: &InstData) -> bool {
    let at = data.args.first().and_then(|&address| function.constant(address));
    matches!(data.opcode, Opcode::Mload | Opcode::Mstore) && at == Some(Word::from(POINTER))
}

/// Whether a program stores a word at [`POINTER`] on every path before it loads it.
fn begins_with_pointer(module: &Module) -> bool {
    let Some((entry, main)) = module.entry.and_then(|entry| Some((entry, module.funcs.get(entry)?))) else {
        return false;
    };
    // The functions that may load it, themselves or by calls.
    let mut loading: SecondaryMap<Func, bool> = SecondaryMap::new();
    let mut changed = true;
    while changed {
        changed = false;
        for (func, function) in &module.funcs {
            let loads = !loading[func]
                && func != entry
                && function.insts_in_order().any(|(_, inst)| loads_pointer(function, inst, &loading));
            loading[func] |= loads;
            changed |= loads;
        }
    }
    let cfg = Cfg::new(main);
    let stores = |inst: &Inst| {
        let data = &main.insts[*inst];
        data.opcode == Opcode::Mstore && of_pointer(main, data)
    };
    // The blocks that can be reached without a store, from their start on.
    let mut bare: SecondaryMap<Block, bool> = SecondaryMap::new();
    let mut work: Vec<Block> = main.entry().into_iter().collect();
    while let Some(block) = work.pop() {
        if core::mem::replace(&mut bare[block], true) {
            continue;
        }
        let insts = &main.blocks[block].insts;
        let before = insts.iter().position(stores).unwrap_or(insts.len());
        if insts[..before].iter().any(|&inst| loads_pointer(main, inst, &loading)) {
            return false;
        }
        if before == insts.len() {
            work.extend_from_slice(cfg.succs(block));
        }
    }
    true
}

fn loads_pointer(function: &Function, inst: Inst, loading: &SecondaryMap<Func, bool>) -> bool {
    let data = &function.insts[inst];
    match data.imm {
        Imm::Func(callee) => loading[callee],
        _ => data.opcode == Opcode::Mload && of_pointer(function, data),
    }
}

/// Makes a range hold another one; whether it had to grow.
fn grow(known: &mut Known, made: Option<(Word, Word)>, most: Word) -> bool {
    let Some((low, high)) = made else { return false };
    let high = high.min(most);
    let low = low.min(high);
    let Some((old_low, old_high, times)) = *known else {
        *known = Some((low, high, 0));
        return true;
    };
    if old_low <= low && high <= old_high {
        return false;
    }
    let high = if high <= old_high {
        old_high
    } else if times < PATIENCE {
        high
    } else {
        // What is added to in a loop often stays below some limit all the same.
        let steps = [MEMORY_LIMIT as u128, u128::from(u64::MAX), u128::MAX].map(Word::from);
        steps.into_iter().find(|&step| high <= step).unwrap_or(most).min(most)
    };
    let low = if low >= old_low {
        old_low
    } else if times < 2 * PATIENCE {
        low
    } else {
        Word::ZERO
    };
    *known = Some((low, high, times.saturating_add(1)));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The range of the value of that number in the first function.
    fn range(text: &str, value: u32) -> (Word, Word) {
        let module = zvm_ir::parse(text).unwrap();
        zvm_ir::verify(&module).unwrap();
        Ranges::new(&module).of(&module, Func::from_u32(0), Value::from_u32(value))
    }

    #[test]
    fn what_a_loop_adds_to_stays_above_where_it_began() {
        let text =
            "zvm 1\nentry @main\nfunc @main() {\nblock0:\nv0: u8 = iconst 160\nv1: u26 = zext v0\njump block1(v1)
            block1(v2: u26):\nv3: u6 = iconst 32\nv4: u27 = add v2, v3\nv5: u27 = bound 32, v4\nv6: u26 = narrow v5
            mstore v6, v3\nv7: u256 = callvalue\nv8: u1 = iszero v7\nbrif v8, block1(v6), block2\nblock2:\nstop\n}";
        assert_eq!(range(text, 2).0, Word::from(160));
        assert_eq!(range(text, 4).0, Word::from(192));
        assert!(range(text, 6).1 <= Word::from(1 << 26));
    }

    #[test]
    fn what_a_loop_takes_from_goes_down_to_nothing() {
        let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\nv0: u256 = iconst 160\njump block1(v0)
            block1(v1: u256):\nv2: u256 = iconst 1\nv3: u256 = wsub v1, v2\nv4: u1 = iszero v3\nbrif v4, block2, block1(v3)
            block2:\nstop\n}";
        assert_eq!(range(text, 1), (Word::ZERO, Word::MAX));
    }

    #[test]
    fn calls_give_and_return_ranges() {
        let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\nv0: u256 = iconst 160\nv1: u256 = iconst 300
            v2: u256 = call @next(v0)\nv3: u256 = call @next(v1)\nstop\n}
            func @next(u256) -> u256 {\nblock0(v0: u256):\nv1: u256 = iconst 32\nv2: u256 = wadd v0, v1\nret v2\n}";
        for value in [2, 3] {
            assert_eq!(range(text, value), (Word::from(192), Word::from(332)));
        }
    }
}
