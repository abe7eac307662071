//! Accesses to memory that are certain, and the bounds that they imply where whoever executes them pays for memory.
//!
//! A [`Opcode::Bound`] ends an execution that would reach beyond the limit of memory. On the EVM an access does that by
//! itself: it costs more gas than there is. So a `bound` needs no code there if it is certain to be followed by an access at its
//! result.

use std::collections::BTreeMap;

use cranelift_entity::SecondaryMap;

use crate::entities::{Block, Inst, Value};
use crate::function::{Function, InstData};
use crate::opcode::{Effects, Opcode};
use crate::passes::dce::needed_values;

/// Where an access lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// So many bytes at a value; not zero.
    Bytes(Value, u32),
    /// As many bytes at the first value as the second says.
    Dynamic(Value, Value),
}

/// What an instruction accesses whenever it is executed. Nothing for instructions that may end the execution otherwise:
/// these are never removed.
pub fn ranges(func: &Function, data: &InstData) -> Vec<Range> {
    let fixed = |at: usize, len: u32| data.args.get(at).map(|&offset| Range::Bytes(offset, len)).into_iter().collect();
    let by_len = |offsets: &[usize], len: usize| {
        let Some(&len) = data.args.get(len) else { return Vec::new() };
        let constant = func.constant(len).map(|len| u32::try_from(len).unwrap_or(u32::MAX));
        let range = |&at: &usize| match (data.args.get(at), constant) {
            (None, _) | (_, Some(0)) => None,
            (Some(&offset), Some(len)) => Some(Range::Bytes(offset, len)),
            (Some(&offset), None) => Some(Range::Dynamic(offset, len)),
        };
        offsets.iter().filter_map(range).collect()
    };
    match data.opcode {
        Opcode::Mload | Opcode::Mstore => fixed(0, 32),
        Opcode::Mstore8 => fixed(0, 1),
        Opcode::Mcopy => by_len(&[0, 1], 2),
        Opcode::Keccak256 | Opcode::Return | Opcode::Revert => by_len(&[0], 1),
        Opcode::Calldatacopy | Opcode::Datacopy => by_len(&[0], 2),
        Opcode::Extcodecopy => by_len(&[1], 3),
        _ => Vec::new(),
    }
}

/// Whether the instruction may end the execution with an outcome before it does anything else.
pub fn may_end(opcode: Opcode) -> bool {
    let effects = opcode.effects();
    opcode != Opcode::Bound && (effects.has(Effects::MAY_TRAP) || effects.has(Effects::CALLS))
}

/// The value behind bounds and changes of width: the same integer.
pub fn root(func: &Function, mut value: Value) -> Value {
    while let Some(inst) = func.def_inst(value) {
        match (func.insts[inst].opcode, func.insts[inst].args.as_slice()) {
            (Opcode::Zext | Opcode::Narrow | Opcode::Bound, &[a]) => value = a,
            _ => break,
        }
    }
    value
}

/// The root and the constant below 2^32 that an address is the sum of.
pub fn place(func: &Function, address: Value) -> (Value, u32) {
    let (mut value, mut offset) = (root(func, address), 0u32);
    while let Some(inst) = func.def_inst(value) {
        let data = &func.insts[inst];
        let (Opcode::Wadd | Opcode::Add, &[a, b]) = (data.opcode, data.args.as_slice()) else { break };
        let constant = |value: Value| func.constant(value).and_then(|word| u32::try_from(word).ok());
        let step = match (constant(a), constant(b)) {
            (_, Some(step)) => Some((a, step)),
            (Some(step), None) => Some((b, step)),
            (None, None) => None,
        };
        let Some((rest, sum)) = step.and_then(|(rest, step)| Some((rest, offset.checked_add(step)?))) else { break };
        (value, offset) = (root(func, rest), sum);
    }
    (value, offset)
}

/// The bounds that accesses in the same block imply, each with those accesses. A load that nothing depends on implies nothing:
/// whoever lowers the function leaves it out.
pub fn implied(func: &Function) -> BTreeMap<Inst, Vec<Inst>> {
    let mut implied: BTreeMap<Inst, Vec<Inst>> = BTreeMap::new();
    if !func.insts_in_order().any(|(_, inst)| func.insts[inst].opcode == Opcode::Bound) {
        return implied;
    }
    let needed = needed_values(func, |inst| !func.insts[inst].opcode.effects().is_removable());
    for &block in &func.layout {
        implied_in(func, block, &needed, &mut implied);
    }
    implied
}

fn implied_in(
    func: &Function,
    block: Block,
    needed: &SecondaryMap<Value, bool>,
    implied: &mut BTreeMap<Inst, Vec<Inst>>,
) {
    // The bounds of each root since the execution could last end.
    let mut open: BTreeMap<Value, Vec<(Inst, bool)>> = BTreeMap::new();
    for &inst in &func.blocks[block].insts {
        let data = &func.insts[inst];
        if let (Opcode::Bound, &[a]) = (data.opcode, data.args.as_slice()) {
            // Sums with constants do not wrap if the value was bounded before.
            let was_bounded = func.ty(a).bits() <= 128 || is_bounded(func, a);
            open.entry(root(func, a)).or_default().push((inst, was_bounded));
            continue;
        }
        let stays = !data.opcode.effects().is_removable() || data.results.iter().any(|&value| needed[value]);
        let mut reach = |root: Value, offset: u32| {
            for &(bound, was_bounded) in open.get(&root).into_iter().flatten() {
                if stays && (offset == 0 || was_bounded) {
                    implied.entry(bound).or_default().push(inst);
                }
            }
        };
        for range in ranges(func, data) {
            let value = match range {
                Range::Bytes(offset, _) => offset,
                Range::Dynamic(_, len) => len,
            };
            let (from, offset) = place(func, value);
            reach(from, offset);
            if offset > 0 {
                reach(root(func, value), 0);
            }
        }
        if may_end(data.opcode) {
            open.clear();
        }
    }
}

fn is_bounded(func: &Function, mut value: Value) -> bool {
    while let Some(inst) = func.def_inst(value) {
        match (func.insts[inst].opcode, func.insts[inst].args.as_slice()) {
            (Opcode::Bound, _) => return true,
            (Opcode::Zext | Opcode::Narrow, &[a]) => value = a,
            _ => return false,
        }
    }
    false
}

/// Of instructions that are dead, those that have to stay on the EVM: for each bound that nothing else implies, one.
pub(crate) fn last_checks(func: &Function, is_dead: impl Fn(Inst) -> bool) -> Vec<Inst> {
    let mut kept: Vec<Inst> = Vec::new();
    for accesses in implied(func).into_values() {
        if accesses.iter().all(|&inst| is_dead(inst) && !kept.contains(&inst)) {
            kept.extend(accesses.last());
        }
    }
    kept
}
