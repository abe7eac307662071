//! `dead-stores`: writes to memory that nobody reads are removed.
//!
//! *Does*: finds backwards which bytes of memory may still be read, and removes stores and copies whose bytes are not
//! among them.
//! *Requires*: addresses folded to constants where they are. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`]. A module that observes `msize` is left alone, and so is what may trap.
//! *After*: liveness of memory, byte by byte.
//!
//! ```text
//! mstore 0x40, 0x80; stop   →   stop
//! ```

use std::collections::BTreeSet;

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::cfg::Cfg;
use crate::entities::{Block, Inst};
use crate::function::Function;
use crate::opcode::Opcode;
use crate::passes::Context;
use crate::passes::facts::Fact;
use crate::passes::memory::access::{LIMIT, access};
use crate::passes::memory::byte_set::ByteSet;

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    if cx.observes_msize() || !func.insts_in_order().any(|(_, inst)| is_removable(func.insts[inst].opcode)) {
        return false;
    }
    let cfg = Cfg::new(func);
    let live = Live::new(func, cx, &cfg);
    let mut changed = false;
    for &block in cfg.reverse_postorder() {
        let mut dead = BTreeSet::new();
        live.walk(func, cx, &cfg, block, |inst| {
            dead.insert(inst);
        });
        if !dead.is_empty() {
            func.blocks[block].insts.retain(|inst| !dead.contains(inst));
            changed = true;
        }
    }
    changed
}

/// What may be written to memory and nothing else.
fn is_removable(opcode: Opcode) -> bool {
    matches!(
        opcode,
        Opcode::Mstore
            | Opcode::Mstore8
            | Opcode::Mcopy
            | Opcode::Calldatacopy
            | Opcode::Datacopy
            | Opcode::Extcodecopy
    )
}

/// What the function itself says about an operand: a constant, or a type.
pub(super) fn operand_fact(func: &Function, inst: Inst, at: usize) -> Fact {
    func.insts[inst]
        .args
        .get(at)
        .map_or(Fact::ANY, |&value| func.constant(value).map_or_else(|| Fact::of_type(func.ty(value)), Fact::exact))
}

/// For each block the bytes of memory that may be read from its start on before they are written again.
pub(super) struct Live(SecondaryMap<Block, Option<ByteSet>>);

impl Live {
    /// Computes the sets backwards, to a fixed point.
    pub(super) fn new(func: &Function, cx: &Context, cfg: &Cfg) -> Self {
        let mut live = Self(SecondaryMap::new());
        loop {
            let mut changed = false;
            for &block in cfg.reverse_postorder().iter().rev() {
                let bytes = live.walk(func, cx, cfg, block, |_| {});
                match &mut live.0[block] {
                    Some(before) => changed |= before.union(&bytes),
                    empty => {
                        *empty = Some(bytes);
                        changed = true;
                    }
                }
            }
            if !changed {
                return live;
            }
        }
    }

    /// The bytes that may be read from the start of `block` on.
    pub(super) fn at_entry(&self, block: Block) -> ByteSet {
        self.0[block].clone().unwrap_or_else(ByteSet::empty)
    }

    /// Walks a block backwards; the bytes that may be read from its start on. `dead` is told of each write in vain.
    fn walk(&self, func: &Function, cx: &Context, cfg: &Cfg, block: Block, mut dead: impl FnMut(Inst)) -> ByteSet {
        let mut live = ByteSet::empty();
        for &succ in cfg.succs(block) {
            if let Some(of_succ) = &self.0[succ] {
                live.union(of_succ);
            }
        }
        for &inst in func.blocks[block].insts.iter().rev() {
            let data = &func.insts[inst];
            let access = access(data, cx, |at| operand_fact(func, inst, at));
            if is_removable(data.opcode) {
                // No span: nothing is written, or what is written lies beyond what is followed.
                let len = data.args.last().filter(|_| data.args.len() >= 3);
                let empty = len.is_some_and(|&len| func.constant(len) == Some(Word::ZERO));
                let followed = access.writes.iter().all(|span| span.to < LIMIT) && !access.writes.is_empty();
                if empty || followed && !access.writes.iter().any(|&span| live.meets(span)) {
                    dead(inst);
                    continue;
                }
            }
            for &span in access.writes.iter().filter(|span| span.exact) {
                live.remove(span);
            }
            for &span in &access.reads {
                live.insert(span);
            }
        }
        live
    }
}
