//! `pre`: what some paths to a block have computed already is not computed again in it.
//!
//! *Does*: an instruction without effect (or one that reads what is fixed during an execution) in a block where paths meet,
//! which at least one path has computed with the values it brings, becomes a parameter of the block; a path that has not
//! computed it does so at its end. At most one path gets a copy, so that nothing grows, and no path does more than before: the
//! instruction would have been executed right after. What the cost model has cheaper than handing a value over and keeping it
//! stays. What carries a promise (`narrow`, `sub`) stays where the promise holds.
//! *Requires*: every block is reachable; equal values are one value. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: partial redundancy elimination on SSA (GVN-PRE, VanDrunen and Hosking), one block deep.
//!
//! ```text
//! block1: v3 = wmul v0, v0; jump block3   block2: jump block3   block3: v4 = wmul v0, v0
//!     →   block1: v3 = wmul v0, v0; jump block3(v3)   block2: v5 = wmul v0, v0; jump block3(v5)   block3(v4):
//! ```

use std::collections::HashMap;

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::cfg::Cfg;
use crate::cost::price_of;
use crate::entities::{Block, Inst, Value};
use crate::function::{Function, Imm, InstData, Pc, ValueDef};
use crate::opcode::{Effects, Opcode};
use crate::passes::Context;
use crate::passes::edit::{Aliases, homes, new_inst, split_critical_edges};
use crate::types::Type;

/// Definitions of one expression that are looked at.
const LOOKED_AT: usize = 16;
/// Blocks that more paths lead to are left alone.
const PATHS: usize = 8;

/// What makes two instructions equal.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    opcode: Opcode,
    imm: Imm,
    args: Vec<Operand>,
    ty: Type,
}

/// An operand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Operand {
    Value(Value),
    /// The same wherever it is written.
    Constant(Word, Type),
}

impl Key {
    /// The expression that an instruction is when its operands are replaced; `None` if one of them cannot be.
    fn of(func: &Function, data: &InstData, mut through: impl FnMut(Value) -> Option<Value>) -> Option<Self> {
        let ty = func.ty(data.result()?);
        let operand = |value: Value| match func.constant(value) {
            Some(word) => Operand::Constant(word, func.ty(value)),
            None => Operand::Value(value),
        };
        let mut args = Vec::with_capacity(data.args.len());
        for &value in &data.args {
            args.push(match operand(value) {
                Operand::Value(value) => operand(through(value)?),
                constant @ Operand::Constant(..) => constant,
            });
        }
        if data.opcode.is_commutative() {
            args.sort();
        }
        Some(Self { opcode: data.opcode, imm: data.imm, args, ty })
    }
}

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let mut work = func.clone();
    split_critical_edges(&mut work);
    let cfg = Cfg::new(&work);
    // Only looked up, never iterated, so that hash order cannot show.
    let mut known: HashMap<Key, Vec<(Value, Block)>> = HashMap::new();
    for (block, inst) in work.insts_in_order() {
        let data = &work.insts[inst];
        if is_eligible(data)
            && let Some(key) = Key::of(&work, data, Some)
            && let Some(result) = data.result()
        {
            known.entry(key).or_default().push((result, block));
        }
    }
    let home = homes(&work);
    let mut pass = Pass { cx, cfg: &cfg, known, home, aliases: Aliases::default(), changed: false };
    for &block in cfg.reverse_postorder() {
        if (2..=PATHS).contains(&cfg.preds(block).len()) {
            pass.run(&mut work, block);
        }
    }
    if !pass.changed {
        return false;
    }
    pass.aliases.apply(&mut work);
    *func = work;
    true
}

fn is_eligible(data: &InstData) -> bool {
    let effects = data.opcode.effects();
    (effects.is_pure() || effects == Effects::READS_INPUT)
        && !matches!(data.opcode, Opcode::Iconst | Opcode::Narrow | Opcode::Sub | Opcode::Zext)
}

/// What a path to a block has of an instruction: its value, or what to compute it from.
type Incoming = (Block, Result<Value, Key>);

struct Pass<'a> {
    cx: &'a Context,
    cfg: &'a Cfg,
    known: HashMap<Key, Vec<(Value, Block)>>,
    home: SecondaryMap<Value, Option<Block>>,
    aliases: Aliases,
    changed: bool,
}

impl Pass<'_> {
    fn run(&mut self, func: &mut Function, block: Block) {
        let mut kept = Vec::with_capacity(func.blocks[block].insts.len());
        for inst in std::mem::take(&mut func.blocks[block].insts) {
            let incoming = if self.is_dear(func, inst) { self.incoming(func, block, inst) } else { None };
            match (incoming, func.insts[inst].result()) {
                (Some(incoming), Some(result)) => self.replace(func, block, inst, result, incoming),
                _ => kept.push(inst),
            }
        }
        func.blocks[block].insts = kept;
    }

    /// Whether the instruction costs more than to hand its value over and to have it until it is used.
    fn is_dear(&self, func: &Function, inst: Inst) -> bool {
        let (costs, data) = (self.cx.costs(), &func.insts[inst]);
        is_eligible(data)
            && data.result().is_some_and(|value| price_of(costs, func, inst) > 2 * costs.carry(func.ty(value)))
    }

    /// For each path to the block what it has of the instruction; `None` if more than one has nothing.
    fn incoming(&mut self, func: &Function, block: Block, inst: Inst) -> Option<Vec<Incoming>> {
        let data = &func.insts[inst];
        let mut incoming = Vec::new();
        let mut missing = 0;
        for &pred in self.cfg.preds(block) {
            // A block that leads to itself is being taken apart and has no targets now.
            let [target] = func.targets(pred) else { return None };
            let (home, aliases) = (&self.home, &mut self.aliases);
            let through = |value: Value| {
                let value = aliases.resolve(value);
                let value = match func.values[value].def {
                    ValueDef::Param(of, at) if of == block => aliases.resolve(*target.args.get(at)?),
                    _ => value,
                };
                // What the block itself computes is not there yet on the way to it.
                home[value].filter(|&of| of != block || func.constant(value).is_some()).map(|_| value)
            };
            let key = Key::of(func, data, through)?;
            let mut found = self.known.get(&key).into_iter().flat_map(|found| found.iter().rev().take(LOOKED_AT));
            match found.find(|(_, of)| self.cfg.dominates(*of, pred)) {
                Some(&(value, _)) => incoming.push((pred, Ok(self.aliases.resolve(value)))),
                // Computed in every round of a loop it would not be saved.
                None if self.cfg.dominates(block, pred) => return None,
                None => {
                    missing += 1;
                    incoming.push((pred, Err(key)));
                }
            }
        }
        (missing <= 1 && missing < incoming.len()).then_some(incoming)
    }

    fn replace(&mut self, func: &mut Function, block: Block, inst: Inst, result: Value, incoming: Vec<Incoming>) {
        let (ty, pc) = (func.ty(result), func.insts[inst].pc);
        let param = func.append_param(block, ty);
        for (pred, value) in incoming {
            let value = match value {
                Ok(value) => value,
                Err(key) => {
                    let value = compute(func, pred, &key, pc);
                    self.home[value] = Some(pred);
                    self.known.entry(key).or_default().push((value, pred));
                    value
                }
            };
            if let Some(jump) = func.terminator(pred) {
                func.insts[jump].targets[0].args.push(value);
            }
        }
        self.home[param] = Some(block);
        self.aliases.set(result, param);
        self.changed = true;
    }
}

/// Computes an expression at the end of a block.
fn compute(func: &mut Function, block: Block, key: &Key, pc: Option<Pc>) -> Value {
    let jump = func.blocks[block].insts.pop();
    let mut args = Vec::with_capacity(key.args.len());
    for &operand in &key.args {
        args.push(match operand {
            Operand::Value(value) => value,
            Operand::Constant(word, ty) => {
                let (inst, value) = new_inst(func, Opcode::Iconst, Imm::Word(word), &[], ty, pc);
                func.blocks[block].insts.push(inst);
                value
            }
        });
    }
    let (inst, value) = new_inst(func, key.opcode, key.imm, &args, key.ty, pc);
    func.blocks[block].insts.push(inst);
    func.blocks[block].insts.extend(jump);
    value
}
