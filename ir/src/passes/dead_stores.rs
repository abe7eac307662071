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

use cranelift_entity::SecondaryMap;

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
    let mut live_in: SecondaryMap<Block, Option<ByteSet>> = SecondaryMap::new();
    loop {
        let mut changed = false;
        for &block in cfg.reverse_postorder().iter().rev() {
            let live = walk(func, cx, &cfg, &live_in, block, |_| {});
            match &mut live_in[block] {
                Some(before) => changed |= before.union(&live),
                empty => {
                    *empty = Some(live);
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    let mut changed = false;
    for &block in cfg.reverse_postorder() {
        let mut dead = Vec::new();
        walk(func, cx, &cfg, &live_in, block, |inst| dead.push(inst));
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

/// Walks a block backwards; the bytes that may be read from its start on. `dead` is told of each write in vain.
fn walk(
    func: &Function,
    cx: &Context,
    cfg: &Cfg,
    live_in: &SecondaryMap<Block, Option<ByteSet>>,
    block: Block,
    mut dead: impl FnMut(Inst),
) -> ByteSet {
    let mut live = ByteSet::empty();
    for &succ in cfg.succs(block) {
        if let Some(of_succ) = &live_in[succ] {
            live.union(of_succ);
        }
    }
    for &inst in func.blocks[block].insts.iter().rev() {
        let data = &func.insts[inst];
        let fact = |at: usize| {
            data.args.get(at).map_or(Fact::ANY, |&value| {
                func.constant(value).map_or_else(|| Fact::of_type(func.ty(value)), Fact::exact)
            })
        };
        let access = access(data, cx, fact);
        if is_removable(data.opcode) {
            // No span: nothing is written, or what is written lies beyond what is followed.
            let empty =
                data.args.len() >= 3 && data.args.last().and_then(|&len| func.constant(len)) == Some(crate::Word::ZERO);
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
