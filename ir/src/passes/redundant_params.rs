//! `redundant-params`: block parameters that are always the same value become that value.
//!
//! *Does*: finds for each block parameter whether all branches to its block give it one value (or the parameter
//! itself, or a parameter that is that value), and if so uses the value instead.
//! *Requires*: every block is reachable. *Ensures*: no parameter is redundant in this sense.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: Cranelift's `remove_constant_phis`.
//!
//! ```text
//! jump block1(v1, v2)  …  block1(v3, v4): … jump block1(v3, v5)   →   jump block1(v2) … block1(v4): … jump block1(v5)
//! ```

use cranelift_entity::SecondaryMap;

use crate::cfg::Cfg;
use crate::entities::Value;
use crate::function::{Function, ValueDef};
use crate::passes::Context;
use crate::passes::edit::Aliases;

/// What the branches give for a parameter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Given {
    /// Nothing yet.
    #[default]
    Nothing,
    /// This value every time.
    One(Value),
    /// Different values.
    Many,
}

/// Runs the pass.
pub fn run(func: &mut Function, _cx: &mut Context) -> bool {
    let cfg = Cfg::new(func);
    let mut given: SecondaryMap<Value, Given> = SecondaryMap::new();
    let Some(entry) = func.entry() else { return false };
    loop {
        let mut changed = false;
        for &block in cfg.reverse_postorder() {
            for target in func.targets(block) {
                for (&param, &arg) in func.blocks[target.block].params.iter().zip(&target.args) {
                    let is_param = matches!(func.values[arg].def, ValueDef::Param(block, _) if block != entry);
                    let arg = match given[arg] {
                        Given::One(value) if is_param => value,
                        // Not reached yet: it will be looked at again when it is.
                        Given::Nothing if is_param => continue,
                        _ => arg,
                    };
                    let next = match given[param] {
                        Given::Nothing => Given::One(arg),
                        Given::One(value) if value == arg || arg == param => Given::One(value),
                        Given::One(_) | Given::Many => Given::Many,
                    };
                    if given[param] != next {
                        given[param] = next;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    let mut aliases = Aliases::default();
    let mut redundant: SecondaryMap<Value, bool> = SecondaryMap::new();
    for &block in func.layout.iter().skip(1) {
        for &param in &func.blocks[block].params {
            if let Given::One(value) = given[param]
                && value != param
            {
                aliases.set(param, value);
                redundant[param] = true;
            }
        }
    }
    let changed = aliases.apply(func);
    if changed {
        let params: SecondaryMap<_, Vec<Value>> = {
            let mut map = SecondaryMap::new();
            for &block in &func.layout {
                map[block] = func.blocks[block].params.clone();
            }
            map
        };
        func.retain_params(|block, at| !redundant[params[block][at]]);
    }
    changed
}
