//! State registers: where values live between regions.
//!
//! A value that is live at the root of a region (a parameter of the root, or one that passes through) has one register
//! per limb, the same at every root, so that a region which does not touch it costs nothing for it. Two values live at
//! the same root never share a register ([`check`]). Among the free registers a parameter takes that of an argument, so
//! that passing it on is free. Constants have no registers: they are built into the regions that use them, and so are
//! extensions of narrower values.

use cranelift_entity::{PrimaryMap, SecondaryMap, entity_impl, packed_option::PackedOption};
use zvm_ir::{Block, Function, Inst, Opcode, Value, ValueDef, Word};

use crate::legalize::Legalized;
use crate::region::{Region, Regions, Target};

/// A field element of the state between regions, `reg0`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register(u32);
entity_impl!(Register, "reg");

/// How a value reaches its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// It is a constant.
    Constant(Word),
    /// It is this value, or an extension of it.
    Value(Value),
}

/// The constant that `value` is, or the value that it extends.
pub fn source(func: &Function, value: Value) -> Source {
    if let Some(word) = func.constant(value) {
        // A narrowed constant that does not fit stands on a path that is never taken.
        return Source::Constant(word & func.ty(value).max_value());
    }
    let mut value = value;
    while let Some(inst) = func.def_inst(value).filter(|&inst| func.insts[inst].opcode == Opcode::Zext) {
        let Some(&inner) = func.insts[inst].args.first() else { break };
        value = inner;
    }
    Source::Value(value)
}

/// The registers of a program.
#[derive(Clone, Debug)]
pub struct Registers {
    live: PrimaryMap<Region, Vec<Value>>,
    at: SecondaryMap<Value, Vec<Register>>,
    count: usize,
}

impl Registers {
    /// The number of registers.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The values that are live at the root of `region`: parameters in order, then the others in order.
    pub fn live(&self, region: Region) -> &[Value] {
        &self.live[region]
    }

    /// The registers of a value's limbs; none if it is live at no root.
    pub fn of(&self, value: Value) -> &[Register] {
        &self.at[value]
    }
}

/// Allocates registers.
pub fn allocate(program: &Legalized, regions: &Regions) -> Registers {
    let func = &program.func;
    let live = liveness(program, regions);
    // Roots at which each value is live; arguments and parameters that would like to share.
    let mut roots: SecondaryMap<Value, Vec<Region>> = SecondaryMap::new();
    for (region, values) in &live {
        for &value in values {
            roots[value].push(region);
        }
    }
    let mut partners: SecondaryMap<Value, Vec<Value>> = SecondaryMap::new();
    for region in regions.regions.keys() {
        for (_, _, call) in regions.branches(func, region) {
            if let Target::Enter(_) = regions.target(call.block) {
                for (&param, &arg) in func.blocks[call.block].params.iter().zip(&call.args) {
                    if let Source::Value(arg) = source(func, arg)
                        && arg != param
                    {
                        partners[param].push(arg);
                        partners[arg].push(param);
                    }
                }
            }
        }
    }
    let mut used: PrimaryMap<Region, Vec<bool>> = live.keys().map(|_| Vec::new()).collect();
    let mut at: SecondaryMap<Value, Vec<Register>> = SecondaryMap::new();
    let mut count = 0;
    for values in live.values() {
        for &value in values {
            if !at[value].is_empty() {
                continue;
            }
            let limbs = program.limb_count(value);
            let mut chosen: Vec<Register> = Vec::with_capacity(limbs);
            for limb in 0..limbs {
                let is_free = |register: usize| {
                    roots[value].iter().all(|&root| !used[root].get(register).copied().unwrap_or(false))
                };
                let wanted = partners[value].iter().filter_map(|&partner| at[partner].get(limb));
                let register = wanted
                    .map(|register| register.0 as usize)
                    .find(|&register| is_free(register))
                    .or_else(|| (0..count).find(|&register| is_free(register)))
                    .unwrap_or(count);
                count = count.max(register + 1);
                for &root in &roots[value] {
                    if used[root].len() <= register {
                        used[root].resize(register + 1, false);
                    }
                    used[root][register] = true;
                }
                chosen.push(Register(register as u32));
            }
            at[value] = chosen;
        }
    }
    Registers { live, at, count }
}

/// The values live at the root of each region.
fn liveness(program: &Legalized, regions: &Regions) -> PrimaryMap<Region, Vec<Value>> {
    let func = &program.func;
    let mut preds: SecondaryMap<Block, Vec<Block>> = SecondaryMap::new();
    for &block in &func.layout {
        for target in func.targets(block) {
            preds[target.block].push(block);
        }
    }
    let mut live: PrimaryMap<Region, Vec<Value>> = regions.regions.values().map(|_| Vec::new()).collect();
    let mut uses: SecondaryMap<Value, Vec<Block>> = SecondaryMap::new();
    let mut order = Vec::new();
    let mut homes: SecondaryMap<Inst, PackedOption<Block>> = SecondaryMap::new();
    for (block, inst) in func.insts_in_order() {
        let data = &func.insts[inst];
        homes[inst] = block.into();
        if data.opcode == Opcode::Zext {
            continue;
        }
        for value in data.uses() {
            if let Source::Value(value) = source(func, value) {
                if uses[value].is_empty() {
                    order.push(value);
                }
                if uses[value].last() != Some(&block) {
                    uses[value].push(block);
                }
            }
        }
    }
    let halt_params = program.halt.map_or(&[][..], |halt| &func.blocks[halt].params);
    for (region, data) in &regions.regions {
        let params = &func.blocks[data.root].params;
        live[region].extend(params.iter().filter(|&&value| !uses[value].is_empty() || halt_params.contains(&value)));
    }
    // Values are walked one after the other; a block remembers the round it was last seen in.
    let mut seen: SecondaryMap<Block, u32> = SecondaryMap::new();
    order.sort();
    for (round, &value) in order.iter().enumerate() {
        let home = match func.values[value].def {
            ValueDef::Param(block, _) => Some(block),
            ValueDef::Result(inst, _) => homes[inst].expand(),
        };
        let mut work = uses[value].clone();
        while let Some(block) = work.pop() {
            if Some(block) == home || core::mem::replace(&mut seen[block], round as u32 + 1) == round as u32 + 1 {
                continue;
            }
            if let Some(region) = regions.rooted_at(block) {
                live[region].push(value);
            }
            work.extend(&preds[block]);
        }
    }
    live
}

/// A violation of the allocation's rules.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// Two values live at one root share a register.
    #[error("{0} and {1}, both live at {2:?}, share a register")]
    Shared(Value, Value, Region),
    /// A value is live at a root and has no or too few registers.
    #[error("{0} is live at {1:?} and has no register for each limb")]
    Missing(Value, Region),
    /// A region uses a value that it neither defines nor is given.
    #[error("{0} is used in {1:?}, which neither defines nor is given it")]
    NotLive(Value, Region),
}

/// Checks an allocation: everything that a region uses it defines or is given, and no register is asked to hold two
/// values at once. The liveness that the allocation computed is checked, not recomputed.
pub fn check(program: &Legalized, regions: &Regions, registers: &Registers) -> Vec<RegisterError> {
    let func = &program.func;
    let mut errors = Vec::new();
    for (region, data) in &regions.regions {
        let live = registers.live(region);
        let mut holder: Vec<Option<Value>> = vec![None; registers.count()];
        for &value in live {
            if registers.of(value).len() != program.limb_count(value) {
                errors.push(RegisterError::Missing(value, region));
            }
            for &Register(register) in registers.of(value) {
                if let Some(other) = holder[register as usize].replace(value) {
                    errors.push(RegisterError::Shared(other, value, region));
                }
            }
        }
        let mut known: SecondaryMap<Value, bool> = SecondaryMap::new();
        live.iter().for_each(|&value| known[value] = true);
        for &block in &data.blocks {
            if block != data.root {
                func.blocks[block].params.iter().for_each(|&param| known[param] = true);
            }
            for &inst in &func.blocks[block].insts {
                func.insts[inst].results.iter().for_each(|&result| known[result] = true);
            }
        }
        let mut use_of = |value: Value| {
            if let Source::Value(value) = source(func, value)
                && !core::mem::replace(&mut known[value], true)
            {
                errors.push(RegisterError::NotLive(value, region));
            }
        };
        for &block in &data.blocks {
            for &inst in &func.blocks[block].insts {
                if func.insts[inst].opcode != Opcode::Zext {
                    func.insts[inst].args.iter().for_each(|&arg| use_of(arg));
                }
            }
        }
        for (_, _, call) in regions.branches(func, region) {
            let params = &func.blocks[call.block].params;
            match regions.target(call.block) {
                Target::Unprovable(_) => {}
                Target::Inside(_) => call.args.iter().for_each(|&arg| use_of(arg)),
                Target::Enter(next) => {
                    let live = registers.live(next);
                    let given = params.iter().zip(&call.args).filter(|(param, _)| live.contains(param));
                    given.for_each(|(_, &arg)| use_of(arg));
                    live.iter().filter(|value| !params.contains(value)).for_each(|&value| use_of(value));
                }
            }
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use cranelift_entity::EntityRef;
    use zvm_ir::cfg::Cfg;

    use super::*;
    use crate::legalize::legalize;
    use crate::region;

    /// Two nested loops with values that pass through both.
    const NEST: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n \
         v2: u6 = iconst 32\n v3: u256 = calldataload v2\n jump block1(v1, v0)\nblock1(v4: u256, v5: u1):\n v6: u1 = \
         iszero v4\n brif v6, block4, block2(v3, v5)\nblock2(v7: u256, v8: u1):\n v9: u1 = iszero v7\n brif v9, block3, \
         block5\nblock5:\n v10: u1 = iconst 1\n v11: u256 = wsub v7, v10\n v12: u1 = xor v8, v10\n jump block2(v11, \
         v12)\nblock3:\n v13: u1 = iconst 1\n v14: u256 = wsub v4, v13\n jump block1(v14, v8)\nblock4:\n v15: u256 = \
         zext v5\n return_words 64, v15, v3\n}\n";

    fn setup() -> (Legalized, Regions, Registers) {
        let module = zvm_ir::parse(NEST).unwrap();
        assert_eq!(zvm_ir::verify(&module), Ok(()));
        let program = legalize(&module).unwrap();
        let cfg = Cfg::new(&program.func);
        let regions = region::form(&program, &cfg, &SecondaryMap::new());
        assert_eq!(region::check(&program, &cfg, &regions), []);
        let registers = allocate(&program, &regions);
        (program, regions, registers)
    }

    #[test]
    fn live_values_have_registers_of_their_own() {
        let (program, regions, registers) = setup();
        assert_eq!(check(&program, &regions, &registers), [], "{}", program.func);
        // Two words and two counters of two limbs would be eight; the flag takes one more.
        assert!(registers.count() <= 9, "{} registers", registers.count());
        assert_eq!(registers.live(Region::new(0)), [], "nothing is live at the entry");
    }

    #[test]
    fn the_checker_sees_a_shared_register_and_a_value_not_given() {
        let (program, regions, mut registers) = setup();
        let (inner, _) = regions.regions.iter().find(|(_, data)| data.depth == 2).unwrap();
        let (a, b) = (registers.live(inner)[0], registers.live(inner)[1]);
        registers.at[b][0] = registers.at[a][0];
        assert!(check(&program, &regions, &registers).iter().any(|error| matches!(error, RegisterError::Shared(..))));
        registers.live[inner].retain(|&value| value != a);
        assert!(check(&program, &regions, &registers).contains(&RegisterError::NotLive(a, inner)));
    }
}
