//! `dead-functions`: functions that nothing calls are removed.
//!
//! *Does*: keeps the functions that the entry can call, directly or through others, and renumbers them in their order.
//! *Requires*: nothing. *Ensures*: every function can be called.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: reachability.
//!
//! ```text
//! func @unused() { … }   →   (removed)
//! ```

use cranelift_entity::{PrimaryMap, SecondaryMap};

use crate::entities::Func;
use crate::function::{Imm, Module};
use crate::passes::Context;

/// Runs the pass. A module without entry is left alone.
pub fn run(module: &mut Module, _cx: &mut Context) -> bool {
    let Some(entry) = module.entry else { return false };
    let mut live: SecondaryMap<Func, bool> = SecondaryMap::new();
    let mut work = vec![entry];
    while let Some(func) = work.pop() {
        if live[func] {
            continue;
        }
        live[func] = true;
        let function = &module.funcs[func];
        work.extend(function.insts_in_order().filter_map(|(_, inst)| match function.insts[inst].imm {
            Imm::Func(callee) => Some(callee),
            _ => None,
        }));
    }
    if module.funcs.keys().all(|func| live[func]) {
        return false;
    }
    let mut renumbered: SecondaryMap<Func, Option<Func>> = SecondaryMap::new();
    let mut kept = PrimaryMap::new();
    for (func, function) in std::mem::take(&mut module.funcs) {
        if live[func] {
            renumbered[func] = Some(kept.push(function));
        }
    }
    for function in kept.values_mut() {
        // Instructions outside the layout may still name functions that are gone; nobody looks at them.
        for data in function.insts.values_mut() {
            if let Imm::Func(callee) = &mut data.imm
                && let Some(new) = renumbered[*callee]
            {
                *callee = new;
            }
        }
    }
    module.funcs = kept;
    module.entry = renumbered[entry];
    true
}
