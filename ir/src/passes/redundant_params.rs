//! `redundant-params`: block parameters that are always the same value become that value.
//!
//! *Does*: a parameter to which all branches to its block give one value, or the parameter itself, becomes that value; a
//! parameter that gets the same as another one of its block from every branch becomes that one.
//! Sweeps in reverse post-order until none is left: a sweep settles everything but loops, a nest of loops is settled from
//! the inside.
//! *Requires*: every block is reachable. *Ensures*: no parameter is redundant in this sense.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: Cranelift's `remove_constant_phis`, and trivial phi removal by Braun et al.
//!
//! ```text
//! jump block1(v1, v2)  …  block1(v3, v4): … jump block1(v3, v5)   →   jump block1(v2) … block1(v4): … jump block1(v5)
//! ```

use cranelift_entity::SecondaryMap;

use crate::cfg::Cfg;
use crate::entities::{Block, Value};
use crate::function::Function;
use crate::passes::Context;
use crate::passes::edit::Aliases;

/// Runs the pass.
pub fn run(func: &mut Function, _cx: &mut Context) -> bool {
    let cfg = Cfg::new(func);
    let mut aliases = Aliases::default();
    let mut redundant: SecondaryMap<Block, Vec<bool>> = SecondaryMap::new();
    for &block in &func.layout {
        redundant[block] = vec![false; func.blocks[block].params.len()];
    }
    loop {
        let mut changed = false;
        for &block in cfg.reverse_postorder().iter().skip(1) {
            for at in 0..redundant[block].len() {
                if redundant[block][at] {
                    continue;
                }
                let value = only_argument(func, &cfg, block, at, &mut aliases)
                    .or_else(|| twin(func, &cfg, block, at, &redundant[block], &mut aliases));
                if let Some(value) = value {
                    aliases.set(func.blocks[block].params[at], value);
                    redundant[block][at] = true;
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    let changed = aliases.apply(func);
    if changed {
        func.retain_params(|block, at| !redundant[block].get(at).copied().unwrap_or(false));
    }
    changed
}

/// The value that every branch gives for a parameter, apart from the parameter itself.
fn only_argument(func: &Function, cfg: &Cfg, block: Block, at: usize, aliases: &mut Aliases) -> Option<Value> {
    let param = func.blocks[block].params[at];
    let mut only = None;
    for &pred in cfg.preds(block) {
        for target in func.targets(pred).iter().filter(|target| target.block == block) {
            let arg = aliases.resolve(*target.args.get(at)?);
            if arg != param && only.is_some_and(|only| only != arg) {
                return None;
            }
            if arg != param {
                only = Some(arg);
            }
        }
    }
    only
}

/// An earlier parameter of the block that gets the same argument from every branch (or itself, where this one does).
fn twin(
    func: &Function,
    cfg: &Cfg,
    block: Block,
    at: usize,
    redundant: &[bool],
    aliases: &mut Aliases,
) -> Option<Value> {
    let params = &func.blocks[block].params;
    let first = cfg.preds(block).first().and_then(|&pred| func.targets(pred).iter().find(|t| t.block == block))?;
    let sought = aliases.resolve(*first.args.get(at)?);
    (0..at).find_map(|other| {
        let candidate = !redundant[other]
            && func.ty(params[other]) == func.ty(params[at])
            && aliases.resolve(*first.args.get(other)?) == sought;
        let same = candidate
            && cfg.preds(block).iter().all(|&pred| {
                func.targets(pred).iter().filter(|target| target.block == block).all(|target| {
                    match (target.args.get(other), target.args.get(at)) {
                        (Some(&a), Some(&b)) => {
                            let (a, b) = (aliases.resolve(a), aliases.resolve(b));
                            a == b || (a == params[other] && b == params[at])
                        }
                        _ => false,
                    }
                })
            });
        same.then_some(params[other])
    })
}
