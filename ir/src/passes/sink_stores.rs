//! `sink-stores`: stores to memory move to the paths that read them.
//!
//! *Does*: where a word costs less as a value than in memory, as in a circuit, a store at the end of whose block its bytes have not been touched again moves through the
//! block's branch to those sides on which the bytes may still be read. A contract's first act, storing the free memory
//! pointer, then happens only on the paths that need memory, and all others can be proved without it.
//! For the EVM, where that would only make the code longer, nothing is done.
//! *Requires*: every block is reachable. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`]. A module that observes `msize` is left alone.
//! *After*: partial dead code elimination (Knoop, Rüthing, Steffen), stores only, sinking only.
//!
//! ```text
//! mstore 0x40, 0x80; brif v1, block1, block2   →   brif v1, block1, block2; block1: mstore 0x40, 0x80; …
//! ```

use crate::entities::{Block, Inst};
use crate::function::Function;
use crate::opcode::Opcode;
use crate::passes::Context;
use crate::passes::dead_stores::Live;
use crate::passes::facts::flow::Flow;
use crate::passes::memory::access::Span;
use crate::passes::memory::byte_set::ByteSet;

/// How many copies of stores may be made, as a share of the function's instructions.
const GROWTH: usize = 4;

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let stores = func.insts_in_order().any(|(_, inst)| func.insts[inst].opcode == Opcode::Mstore);
    if cx.costs().memory_word() == 0 || cx.observes_msize() || !stores {
        return false;
    }
    let flow = Flow::new(func, cx, Some(cx.memory_at_start_here()));
    let cfg = &flow.cfg;
    let mut anything = ByteSet::empty();
    anything.insert(Span::ALL);
    let live = Live::new(func, cx, &flow, anything);
    let size: usize = func.layout.iter().map(|&block| func.blocks[block].insts.len()).sum();
    let mut budget = size / GROWTH + 100;
    let mut changed = false;
    // Successors come later, so that a store goes all the way down in one sweep.
    for &block in cfg.reverse_postorder() {
        let succs = cfg.succs(block);
        if succs.len() != 2 {
            continue;
        }
        for inst in sinkable(func, cx, &flow, block) {
            let Some(span) = store_span(func, cx, &flow, inst) else { continue };
            let wanted: Vec<Block> = succs.iter().copied().filter(|&succ| live.at_entry(succ).meets(span)).collect();
            if wanted.iter().any(|&succ| cfg.preds(succ).len() != 1) {
                continue;
            }
            if wanted.len() > budget {
                return changed;
            }
            budget -= wanted.len();
            func.blocks[block].insts.retain(|&other| other != inst);
            for (number, succ) in wanted.into_iter().enumerate() {
                let moved = if number == 0 { inst } else { func.create_inst(func.insts[inst].clone(), &[]) };
                func.blocks[succ].insts.insert(0, moved);
            }
            changed = true;
        }
    }
    changed
}

fn store_span(func: &Function, cx: &Context, flow: &Flow, inst: Inst) -> Option<Span> {
    let access = flow.access(func, cx, inst);
    access.writes.first().copied().filter(|span| span.exact)
}

/// The stores of a block whose bytes nothing after them touches, the last first.
fn sinkable(func: &Function, cx: &Context, flow: &Flow, block: Block) -> Vec<Inst> {
    let mut touched: Vec<Span> = Vec::new();
    let mut found = Vec::new();
    for &inst in func.blocks[block].insts.iter().rev() {
        let access = flow.access(func, cx, inst);
        let spans = access.reads.iter().chain(&access.writes);
        let meets = |span: &Span| touched.iter().any(|other| other.from < span.to && span.from < other.to);
        if func.insts[inst].opcode == Opcode::Mstore
            && access.writes.first().is_some_and(|span| span.exact && !meets(span))
        {
            // What is moved may be moved past by earlier stores only in order, so it counts as touched.
            found.push(inst);
        }
        touched.extend(spans.copied());
    }
    found
}
