//! `redundant-params`: block parameters that are always the same value become that value.
//!
//! *Does*: a parameter to which all branches to its block give one value, or the parameter itself, becomes that value; a
//! parameter that gets the same as another one of its block from every branch becomes that one.
//! Sweeps in reverse post-order until none is left; what goes around in loops is taken for redundant until something else comes in.
//! *Requires*: every block is reachable. *Ensures*: no parameter is redundant in this sense.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: Cranelift's `remove_constant_phis`, and the removal of redundant sets of phis by Braun et al.
//!
//! ```text
//! jump block1(v1, v2)  …  block1(v3, v4): … jump block1(v3, v5)   →   jump block1(v2) … block1(v4): … jump block1(v5)
//! ```

use std::collections::BTreeMap;

use cranelift_entity::SecondaryMap;

use crate::cfg::Cfg;
use crate::entities::{Block, Value};
use crate::function::Function;
use crate::passes::Context;
use crate::passes::edit::Aliases;
use crate::types::Type;

/// Runs the pass.
pub fn run(func: &mut Function, _cx: &mut Context) -> bool {
    let cfg = Cfg::new(func);
    let mut aliases = Aliases::default();
    let mut redundant: SecondaryMap<Block, Vec<bool>> = SecondaryMap::new();
    for &block in &func.layout {
        redundant[block] = vec![false; func.blocks[block].params.len()];
    }
    while only_values(func, &cfg, &mut redundant, &mut aliases) | twins(func, &cfg, &mut redundant, &mut aliases) {}
    let changed = aliases.apply(func);
    if changed {
        func.retain_params(|block, at| !redundant[block].get(at).copied().unwrap_or(false));
    }
    changed
}

/// Finds parameters that are always one value: each is taken for what the first branch gives until another one gives something else.
fn only_values(
    func: &Function,
    cfg: &Cfg,
    redundant: &mut SecondaryMap<Block, Vec<bool>>,
    aliases: &mut Aliases,
) -> bool {
    // What each parameter that is still in question stands for: nothing yet, a value, or itself.
    let mut open: SecondaryMap<Value, bool> = SecondaryMap::new();
    let mut stands_for: SecondaryMap<Value, Option<Value>> = SecondaryMap::new();
    let blocks = cfg.reverse_postorder().get(1..).unwrap_or_default();
    for &block in blocks {
        func.blocks[block].params.iter().for_each(|&param| open[param] = true);
    }
    let mut changed = true;
    while changed {
        changed = false;
        for &block in blocks {
            for (at, &param) in func.blocks[block].params.iter().enumerate() {
                if redundant[block][at] || stands_for[param] == Some(param) {
                    continue;
                }
                let mut only = None;
                for &pred in cfg.preds(block) {
                    for target in func.targets(pred).iter().filter(|target| target.block == block) {
                        let Some(&arg) = target.args.get(at) else { continue };
                        let arg = aliases.resolve(arg);
                        let given = if open[arg] { stands_for[arg] } else { Some(arg) };
                        if given.is_some() && only.is_some() && only != given {
                            only = Some(param);
                        }
                        only = only.or(given);
                    }
                }
                changed |= stands_for[param] != only;
                stands_for[param] = only;
            }
        }
    }
    let mut found = false;
    for &block in blocks {
        for (at, &param) in func.blocks[block].params.iter().enumerate() {
            if let Some(value) = stands_for[param].filter(|&value| value != param && !redundant[block][at]) {
                aliases.set(param, value);
                redundant[block][at] = true;
                found = true;
            }
        }
    }
    found
}

/// Finds parameters that get the same as an earlier one of their block.
fn twins(func: &Function, cfg: &Cfg, redundant: &mut SecondaryMap<Block, Vec<bool>>, aliases: &mut Aliases) -> bool {
    let mut found = false;
    for &block in cfg.reverse_postorder().iter().skip(1) {
        let params = &func.blocks[block].params;
        let first = cfg.preds(block).first().and_then(|&pred| func.targets(pred).iter().find(|t| t.block == block));
        let Some(first) = first.filter(|_| params.len() > 1) else { continue };
        // Those that stay, by what the first branch gives for them.
        let mut given: BTreeMap<(Type, Value), Vec<usize>> = BTreeMap::new();
        for (at, (&param, &arg)) in params.iter().zip(&first.args).enumerate() {
            if redundant[block][at] {
                continue;
            }
            let others = given.entry((func.ty(param), aliases.resolve(arg))).or_default();
            match others.iter().find(|&&other| is_twin(func, cfg, block, [other, at], aliases)) {
                Some(&other) => {
                    aliases.set(param, params[other]);
                    redundant[block][at] = true;
                    found = true;
                }
                None => others.push(at),
            }
        }
    }
    found
}

/// Whether two parameters of a block get the same argument from every branch, or each itself.
fn is_twin(func: &Function, cfg: &Cfg, block: Block, [one, other]: [usize; 2], aliases: &mut Aliases) -> bool {
    let params = &func.blocks[block].params;
    cfg.preds(block).iter().all(|&pred| {
        func.targets(pred).iter().filter(|target| target.block == block).all(|target| {
            match (target.args.get(one), target.args.get(other)) {
                (Some(&a), Some(&b)) => {
                    let (a, b) = (aliases.resolve(a), aliases.resolve(b));
                    a == b || (a == params[one] && b == params[other])
                }
                _ => false,
            }
        })
    })
}
