//! `sink`: instructions move to the side of a branch that uses them.
//!
//! *Does*: an instruction without effect (or one that reads what is fixed during an execution) whose uses all lie below
//! one side of its block's branch moves to the start of that side, and on from there. Nothing moves into a loop, because
//! a side of a branch is entered from that branch alone. Constants stay.
//! *Requires*: every block is reachable. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: code sinking; here for two ends: work is done only where it is needed, and a subtraction that is checked after
//! it was computed (as solc writes it) comes to stand where the check has told that it cannot borrow.
//!
//! ```text
//! v2 = wsub v0, v1; v3 = ult v0, v1; brif v3, block1, block2   →   block2: v2 = wsub v0, v1
//! ```

use cranelift_entity::SecondaryMap;

use crate::cfg::Cfg;
use crate::entities::{Block, Inst, Value};
use crate::function::Function;
use crate::opcode::{Effects, Opcode};
use crate::passes::Context;

/// Runs the pass.
pub fn run(func: &mut Function, _cx: &mut Context) -> bool {
    let cfg = Cfg::new(func);
    let mut users: SecondaryMap<Value, Vec<Inst>> = SecondaryMap::new();
    let mut home: SecondaryMap<Inst, Option<Block>> = SecondaryMap::new();
    for &block in cfg.reverse_postorder() {
        for &inst in &func.blocks[block].insts {
            home[inst] = Some(block);
            for value in func.insts[inst].uses() {
                if users[value].last() != Some(&inst) {
                    users[value].push(inst);
                }
            }
        }
    }
    let mut changed = false;
    for &block in cfg.reverse_postorder() {
        let sides: Vec<Block> =
            cfg.succs(block).iter().copied().filter(|&succ| cfg.preds(succ).len() == 1 && succ != block).collect();
        if cfg.succs(block).len() < 2 || sides.is_empty() {
            continue;
        }
        let mut kept = Vec::with_capacity(func.blocks[block].insts.len());
        let mut moved: SecondaryMap<Block, Vec<Inst>> = SecondaryMap::new();
        // The last first, so that what an instruction needs can follow it.
        for inst in std::mem::take(&mut func.blocks[block].insts).into_iter().rev() {
            let side = is_movable(func, inst).then(|| {
                sides.iter().copied().find(|&side| {
                    let mut uses = func.insts[inst].results.iter().flat_map(|&result| &users[result]).peekable();
                    uses.peek().is_some()
                        && uses.all(|&user| home[user].is_some_and(|block| cfg.dominates(side, block)))
                })
            });
            match side.flatten() {
                Some(side) => {
                    home[inst] = Some(side);
                    moved[side].push(inst);
                    changed = true;
                }
                None => kept.push(inst),
            }
        }
        kept.reverse();
        func.blocks[block].insts = kept;
        for &side in &sides {
            let insts = std::mem::take(&mut moved[side]);
            func.blocks[side].insts.splice(0..0, insts.into_iter().rev());
        }
    }
    changed
}

fn is_movable(func: &Function, inst: Inst) -> bool {
    let opcode = func.insts[inst].opcode;
    let effects = opcode.effects();
    (effects.is_pure() || effects == Effects::READS_INPUT) && opcode != Opcode::Iconst
}
