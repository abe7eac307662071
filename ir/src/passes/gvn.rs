//! `gvn`: global value numbering.
//!
//! *Does*: an instruction without effect, or one that reads what is fixed during an execution, is replaced by an equal one
//! that dominates it. Operands of commutative instructions are ordered, constants last.
//! *Requires*: every block is reachable. *Ensures*: no two such instructions are equal where one dominates the other.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: Briggs, Cooper and Simpson, the dominator-tree form with a scoped table.
//!
//! ```text
//! v2 = wadd v0, v1   v3 = wadd v1, v0   →   v3 becomes v2
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::cfg::Cfg;
use crate::entities::{Block, Value};
use crate::function::{Function, Imm};
use crate::opcode::{Effects, Opcode};
use crate::passes::Context;
use crate::passes::edit::Aliases;
use crate::types::Type;

/// What makes two instructions equal.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    opcode: Opcode,
    imm: Imm,
    args: Vec<Value>,
    ty: Type,
}

/// Runs the pass.
pub fn run(func: &mut Function, _cx: &mut Context) -> bool {
    enum Step {
        Enter(Block),
        Leave(Vec<Key>),
    }
    let cfg = Cfg::new(func);
    let Some(entry) = func.entry() else { return false };
    let mut aliases = Aliases::default();
    let mut changed = false;
    // Only looked up, never iterated, so that hash order cannot show.
    let mut table: HashMap<Key, Value> = HashMap::new();
    let mut stack = vec![Step::Enter(entry)];
    while let Some(step) = stack.pop() {
        match step {
            Step::Leave(keys) => {
                for key in keys {
                    table.remove(&key);
                }
            }
            Step::Enter(block) => {
                let mut entered = Vec::new();
                let mut kept = Vec::with_capacity(func.blocks[block].insts.len());
                for inst in std::mem::take(&mut func.blocks[block].insts) {
                    func.insts[inst].map_uses(|value| aliases.resolve(value));
                    changed |= order_operands(func, inst);
                    let data = &func.insts[inst];
                    let effects = data.opcode.effects();
                    if (effects.is_pure() || effects == Effects::READS_INPUT)
                        && let Some(result) = data.result()
                    {
                        let ty = func.ty(result);
                        let key = Key { opcode: data.opcode, imm: data.imm, args: data.args.clone(), ty };
                        match table.entry(key) {
                            Entry::Occupied(earlier) => {
                                aliases.set(result, *earlier.get());
                                changed = true;
                                continue;
                            }
                            Entry::Vacant(vacant) => {
                                entered.push(vacant.key().clone());
                                vacant.insert(result);
                            }
                        }
                    }
                    kept.push(inst);
                }
                func.blocks[block].insts = kept;
                stack.push(Step::Leave(entered));
                stack.extend(cfg.dominated_children(block).iter().rev().map(|&child| Step::Enter(child)));
            }
        }
    }
    aliases.apply(func);
    changed
}

/// Orders the operands of a commutative instruction: constants last, then by number.
fn order_operands(func: &mut Function, inst: crate::Inst) -> bool {
    let data = &func.insts[inst];
    let &[a, b] = data.args.as_slice() else { return false };
    if !data.opcode.is_commutative() {
        return false;
    }
    let rank = |value: Value| (func.constant(value).is_some(), value);
    if rank(a) <= rank(b) {
        return false;
    }
    func.insts[inst].args.swap(0, 1);
    true
}
