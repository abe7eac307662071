//! What the optimiser achieved, in counts: the same program as it was lifted and after the pipeline.
//!
//! A *site* is an instruction of the bytecode, by its `pc`: one that was copied (by inlining, say) is one site, and one
//! that no instruction of the optimised module stems from is gone.

use std::collections::{BTreeMap, BTreeSet};

use crate::Word;
use crate::entities::{Block, Func, Inst, Value};
use crate::function::{Function, Imm, Module, Pc};
use crate::opcode::Opcode;
use crate::passes::{self, Goal, edit};
use crate::storage_paths::StoragePaths;
use crate::types::Type;

/// A count before and after the pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// In the module as it was lifted.
    pub before: usize,
    /// In the optimised module.
    pub after: usize,
}

impl core::ops::AddAssign for Change {
    fn add_assign(&mut self, other: Self) {
        self.before += other.before;
        self.after += other.after;
    }
}

/// Counts of one program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Instructions.
    pub instructions: Change,
    /// Integers in the optimised module that are computed or passed: results and parameters, constants and changes of
    /// width apart.
    pub values: usize,
    /// Those of them whose type, or that of a `narrow` in the same block, has fewer than 256 bits.
    pub narrow: usize,
    /// Sites of MLOAD, MSTORE and MSTORE8.
    pub memory_ops: Change,
    /// Sites of hashes in the optimised module.
    pub keccak_sites: usize,
    /// Those whose hash addresses storage.
    pub storage_sites: usize,
    /// Those of them that are structured: see [`StoragePaths`].
    pub structured_sites: usize,
    /// Sites of conditional branches one side of which can only revert or trap.
    pub checks: Change,
}

impl core::ops::AddAssign for Stats {
    fn add_assign(&mut self, other: Self) {
        self.instructions += other.instructions;
        self.values += other.values;
        self.narrow += other.narrow;
        self.memory_ops += other.memory_ops;
        self.keccak_sites += other.keccak_sites;
        self.storage_sites += other.storage_sites;
        self.structured_sites += other.structured_sites;
        self.checks += other.checks;
    }
}

impl Stats {
    /// Compares a module with what the pipeline made of it.
    pub fn new(lifted: &Module, optimised: &Module) -> Self {
        let paths = StoragePaths::new(optimised);
        let (values, narrow) = widths(optimised);
        let pcs = |sites: &BTreeSet<_>| -> usize {
            let site = |&(func, inst): &_| optimised_pc(optimised, func, inst);
            sites.iter().map(site).collect::<BTreeSet<_>>().len()
        };
        // A site that was copied counts as structured only if every copy is.
        let others: BTreeSet<_> = paths.addressing.difference(&paths.structured).copied().collect();
        let checks_before = checks(lifted);
        let branches: BTreeSet<Pc> = sites(optimised, |opcode| opcode == Opcode::Brif);
        Self {
            instructions: Change { before: instructions(lifted), after: instructions(optimised) },
            values,
            narrow,
            memory_ops: left(&sites(lifted, accesses_memory), lifted, optimised),
            keccak_sites: pcs(&paths.sites),
            storage_sites: pcs(&paths.addressing),
            structured_sites: pcs(&paths.addressing) - pcs(&others),
            checks: Change { before: checks_before.len(), after: checks_before.intersection(&branches).count() },
        }
    }
}

/// The part of a module that is executed when calldata begins with these four bytes, as far as the branches on the way to
/// it tell. Nothing else is done to it, so that its sites are those of the module.
pub fn selected(module: &Module, selector: [u8; 4]) -> Module {
    let mut module = module.clone();
    for function in module.funcs.values_mut() {
        select(function, u32::from_be_bytes(selector));
    }
    // Each pass makes the next find more; widths and branches alone are touched.
    for name in ["narrow", "simplify-cfg", "redundant-params", "narrow", "simplify-cfg", "dead-functions"] {
        if let Some(pass) = passes::find(name) {
            passes::apply(pass, &mut module, Goal::Evm);
        }
    }
    module
}

/// Puts the selector into every word of calldata that begins at its start.
fn select(function: &mut Function, selector: u32) {
    for block in function.layout.clone() {
        let mut at = 0;
        while let Some(&inst) = function.blocks[block].insts.get(at) {
            at += 1;
            let data = function.insts[inst].clone();
            let first = data.opcode == Opcode::Calldataload && function.constant(data.args[0]) == Some(Word::ZERO);
            let Some(word) = data.result().filter(|_| first) else { continue };
            let low: Word = (Word::from(1) << 224) - Word::from(1);
            let mut made = Vec::new();
            let mut constant = |function: &mut Function, imm: Word| {
                let (inst, value) = edit::new_inst(function, Opcode::Iconst, Imm::Word(imm), &[], Type::WORD, data.pc);
                made.push(inst);
                value
            };
            let mask = constant(function, low);
            let high = constant(function, Word::from(selector) << 224);
            let mut values = Vec::new();
            for (opcode, other) in [(Opcode::And, mask), (Opcode::Or, high)] {
                let operand = values.last().copied().unwrap_or(word);
                let (inst, value) = edit::new_inst(function, opcode, Imm::None, &[operand, other], Type::WORD, data.pc);
                made.push(inst);
                values.push(value);
            }
            let (rest, with) = (values[0], values[1]);
            function.map_uses(|value| if value == word { with } else { value });
            if let Some(and) = function.def_inst(rest) {
                function.insts[and].args[0] = word;
            }
            let count = made.len();
            function.blocks[block].insts.splice(at..at, made);
            at += count;
        }
    }
}

fn optimised_pc(module: &Module, func: Func, inst: Inst) -> (Option<Pc>, u32) {
    let pc = module.funcs[func].insts[inst].pc;
    // What no instruction of the bytecode stands for is a site of its own.
    (pc, if pc.is_some() { 0 } else { inst.as_u32() })
}

fn accesses_memory(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::Mload | Opcode::Mstore | Opcode::Mstore8)
}

fn instructions(module: &Module) -> usize {
    module.funcs.values().map(|function| function.insts_in_order().count()).sum()
}

/// The `pc` of every instruction with such an opcode.
fn sites(module: &Module, is: impl Fn(Opcode) -> bool) -> BTreeSet<Pc> {
    let functions = module.funcs.values();
    functions
        .flat_map(|function| function.insts_in_order().map(|(_, inst)| &function.insts[inst]))
        .filter(|data| is(data.opcode))
        .filter_map(|data| data.pc)
        .collect()
}

/// The `pc` of every branch one side of which can only revert or trap.
fn checks(module: &Module) -> BTreeSet<Pc> {
    let mut found = BTreeSet::new();
    for function in module.funcs.values() {
        let mut fails = BTreeMap::new();
        for &block in &function.layout {
            let Some(inst) = function.terminator(block) else { continue };
            let data = &function.insts[inst];
            if data.opcode == Opcode::Brif
                && data.targets.iter().any(|target| only_fails(function, target.block, &mut fails))
            {
                found.extend(data.pc);
            }
        }
    }
    found
}

/// Whether nothing but a revert or a trap can come of this block. A loop counts as something else.
fn only_fails(function: &Function, block: Block, known: &mut BTreeMap<Block, bool>) -> bool {
    if let Some(&fails) = known.get(&block) {
        return fails;
    }
    let mut path = vec![];
    let mut at = block;
    let fails = loop {
        if let Some(&fails) = known.get(&at) {
            break fails;
        }
        known.insert(at, false);
        path.push(at);
        let Some(inst) = function.terminator(at) else { break false };
        let data = &function.insts[inst];
        match data.opcode {
            Opcode::Revert | Opcode::RevertWords | Opcode::Trap => break true,
            Opcode::Jump => at = data.targets[0].block,
            _ => break false,
        }
    };
    known.extend(path.into_iter().map(|block| (block, fails)));
    fails
}

/// How many integers there are, and how many are narrow.
fn widths(module: &Module) -> (usize, usize) {
    let (mut values, mut narrow) = (0, 0);
    for function in module.funcs.values() {
        for &block in &function.layout {
            let data = &function.blocks[block];
            let narrowed: BTreeSet<Value> = data
                .insts
                .iter()
                .filter(|&&inst| function.insts[inst].opcode == Opcode::Narrow)
                .map(|&inst| function.insts[inst].args[0])
                .collect();
            let computed = data.insts.iter().flat_map(|&inst| {
                let data = &function.insts[inst];
                let counts = !matches!(data.opcode, Opcode::Iconst | Opcode::Zext | Opcode::Narrow);
                data.results.iter().copied().filter(move |_| counts)
            });
            for value in data.params.iter().copied().chain(computed) {
                values += 1;
                narrow += usize::from(function.ty(value).bits() < 256 || narrowed.contains(&value));
            }
        }
    }
    (values, narrow)
}

/// The sites of MLOAD, MSTORE and MSTORE8 that a call with this selector can reach, before and after the pipeline.
pub fn memory_ops_of(lifted: &Module, optimised: &Module, selector: [u8; 4]) -> Change {
    left(&sites(&selected(lifted, selector), accesses_memory), lifted, &selected(optimised, selector))
}

/// How many sites there were, and how many of the lifted module there are. What a bulk copy became is not a site.
fn left(before: &BTreeSet<Pc>, lifted: &Module, optimised: &Module) -> Change {
    let (all, after) = (sites(lifted, accesses_memory), sites(optimised, accesses_memory));
    Change { before: before.len(), after: after.intersection(&all).count() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use crate::passes::{Options, optimize};

    const TWO: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n    v0: u8 = iconst 0\n    \
        v1: u256 = calldataload v0\n    v2: u8 = iconst 224\n    v3: u256 = shr v2, v1\n    v4: u32 = iconst 0x11223344\n    \
        v5: u1 = eq v3, v4\n    brif v5, block1, block2\nblock1:\n    mstore v0, v4 @0010\n    v6: u256 = mload v0 @0012\n    \
        v7: u8 = iconst 32\n    mstore v7, v6 @0014\n    return v0, v7\nblock2:\n    v8: u8 = iconst 64\n    \
        mstore v8, v1 @0020\n    v9: u1 = iszero v1\n    brif v9, block3, block4 @0022\nblock3:\n    revert v0, v0\nblock4:\n    \
        v10: u256 = keccak256 v8, v7 @0030\n    v11: u256 = sload v10\n    sstore v11, v10\n    stop\n}\n";

    fn modules() -> (Module, Module) {
        let text = TWO.replace("keccak256 v8, v7", "keccak256 v8, v2");
        let lifted = parse(&text).unwrap();
        let mut optimised = lifted.clone();
        optimize(&mut optimised, &Options { goal: Goal::Circuit, ..Options::default() }).unwrap();
        (lifted, optimised)
    }

    #[test]
    fn sites_are_counted_by_pc() {
        let (lifted, optimised) = modules();
        let stats = Stats::new(&lifted, &optimised);
        assert_eq!(stats.memory_ops.before, 4);
        assert_eq!(stats.checks.before, 1);
        assert_eq!((stats.keccak_sites, stats.storage_sites, stats.structured_sites), (1, 1, 0));
        assert!(stats.narrow <= stats.values);
    }

    #[test]
    fn a_selector_selects_what_it_reaches() {
        let (lifted, optimised) = modules();
        assert_eq!(memory_ops_of(&lifted, &optimised, [0x11, 0x22, 0x33, 0x44]), Change { before: 3, after: 0 });
        assert_eq!(memory_ops_of(&lifted, &optimised, [0, 0, 0, 1]).before, 1);
    }
}
