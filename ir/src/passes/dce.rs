//! `dce`: dead code elimination.
//!
//! *Does*: removes instructions without effect whose results nobody needs, and block parameters that nobody needs, in
//! cycles too. Calls stay, whatever they return.
//! *Requires*: every block is reachable. *Ensures*: every instruction left has an effect or a result that is needed.
//! *Preserves*: equality of [`crate::Outcome`]. Reads of memory stay in a module that observes `msize`.
//! *After*: Cytron et al., mark and sweep over SSA.
//!
//! ```text
//! v1: u256 = calldataload v0     →   (removed, if v1 is not used)
//! ```

use cranelift_entity::SecondaryMap;

use crate::entities::{Inst, Value};
use crate::function::{Function, InstData, ValueDef};
use crate::opcode::{Effects, Opcode};
use crate::passes::{Context, Goal};

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let needed = needed_values(func, |inst| !is_removable(func, &func.insts[inst], cx));
    let mut changed = false;
    for at in 0..func.layout.len() {
        let block = func.layout[at];
        let before = func.blocks[block].insts.len();
        let mut insts = std::mem::take(&mut func.blocks[block].insts);
        insts.retain(|&inst| {
            let data = &func.insts[inst];
            !is_removable(func, data, cx) || data.results.iter().any(|&value| needed[value])
        });
        func.blocks[block].insts = insts;
        changed |= func.blocks[block].insts.len() != before;
    }
    let mut dead: SecondaryMap<_, Vec<bool>> = SecondaryMap::new();
    let mut any = false;
    for &block in func.layout.iter().skip(1) {
        dead[block] = func.blocks[block].params.iter().map(|&param| !needed[param]).collect();
        any |= dead[block].contains(&true);
    }
    if any {
        func.retain_params(|block, at| !dead[block].get(at).copied().unwrap_or(false));
    }
    changed | any
}

fn is_removable(func: &Function, data: &InstData, cx: &Context) -> bool {
    let effects = data.opcode.effects();
    // A hash of any length may reach beyond the limit of memory; in a circuit a bound of its end says so.
    let dynamic = data.opcode == Opcode::Keccak256
        && cx.goal() == Goal::Evm
        && data.args.get(1).is_some_and(|&len| func.constant(len).is_none());
    effects.is_removable() && !dynamic && !(cx.observes_msize() && effects.has(Effects::READS_MEMORY))
}

/// The values that the instructions which have to stay depend on.
pub(crate) fn needed_values(func: &Function, stays: impl Fn(Inst) -> bool) -> SecondaryMap<Value, bool> {
    // For each parameter, the arguments that branches give it.
    let mut arguments: SecondaryMap<Value, Vec<Value>> = SecondaryMap::new();
    let mut needed: SecondaryMap<Value, bool> = SecondaryMap::new();
    let mut work: Vec<Value> = Vec::new();
    for (_, inst) in func.insts_in_order() {
        let data = &func.insts[inst];
        for target in &data.targets {
            for (&param, &arg) in func.blocks[target.block].params.iter().zip(&target.args) {
                arguments[param].push(arg);
            }
        }
        if stays(inst) {
            work.extend_from_slice(&data.args);
        }
    }
    let mut seen: SecondaryMap<Inst, bool> = SecondaryMap::new();
    while let Some(value) = work.pop() {
        if needed[value] {
            continue;
        }
        needed[value] = true;
        match func.values[value].def {
            ValueDef::Param(..) => work.extend_from_slice(&arguments[value]),
            ValueDef::Result(inst, _) if !seen[inst] => {
                seen[inst] = true;
                work.extend_from_slice(&func.insts[inst].args);
            }
            ValueDef::Result(..) => {}
        }
    }
    needed
}
