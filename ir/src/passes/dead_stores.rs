//! `dead-stores`: writes to memory that nobody reads are removed.
//!
//! *Does*: finds backwards which bytes of memory may still be read, in the function and by its callers after it has
//! returned, and removes stores and copies whose bytes are not among them. A range that is read whole after it was copied to
//! whole (the return data of a call that failed) is not read before. On the EVM a store stays that a `bound` costs
//! nothing for.
//! *Requires*: addresses folded to constants where they are. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`]. A module that observes `msize` is left alone, and so is what may trap.
//! *After*: liveness of memory, byte by byte.
//!
//! ```text
//! mstore 0x40, 0x80; stop   →   stop
//! ```

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;

use crate::cfg::CallGraph;
use crate::entities::{Block, Func, Inst, Value};
use crate::function::{Function, Imm, InstData, Module};
use crate::opcode::{Effects, Opcode};
use crate::passes::facts::flow::Flow;
use crate::passes::memory::access::{LIMIT, Span};
use crate::passes::memory::byte_set::ByteSet;
use crate::passes::{Context, Goal};
use crate::reach::{last_checks, root};

/// Runs the pass.
pub fn run(module: &mut Module, cx: &mut Context) -> bool {
    if cx.observes_msize() {
        return false;
    }
    let graph = CallGraph::new(module);
    let mut changed = false;
    // Callers first: what they read after a call is what their callees write for.
    let mut after: SecondaryMap<Func, ByteSet> = SecondaryMap::with_default(ByteSet::empty());
    for &func in graph.components().iter().rev().flatten() {
        if graph.is_recursive(func) {
            after[func].insert(Span::ALL);
        }
        let function = &module.funcs[func];
        let flow = Flow::new(function, cx, Some(cx.memory_at_start(func)));
        let live = Live::new(function, cx, &flow, after[func].clone());
        let mut dead = BTreeSet::new();
        for &block in flow.cfg.reverse_postorder() {
            live.walk(function, cx, &flow, block, |inst, bytes, unread| {
                let data = &function.insts[inst];
                if let Imm::Func(callee) = data.imm {
                    after[callee].union(bytes);
                }
                if unread {
                    dead.insert(inst);
                }
            });
        }
        let function = &mut module.funcs[func];
        if cx.goal() == Goal::Evm && !dead.is_empty() {
            for check in last_checks(function, |inst| dead.contains(&inst)) {
                dead.remove(&check);
            }
        }
        for block in function.layout.clone() {
            function.blocks[block].insts.retain(|inst| !dead.contains(inst));
        }
        changed |= !dead.is_empty();
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

/// For each block the bytes of memory that may be read from its start on before they are written again.
pub(super) struct Live {
    at_entry: SecondaryMap<Block, Option<ByteSet>>,
    /// What the callers may read after the function has returned.
    returned: ByteSet,
}

/// A read of a range whose place or length is known by its values only.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Range {
    offset: Value,
    len: Len,
    span: Span,
}

/// How long a range is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Len {
    /// As this value says.
    Value(Value),
    /// As long as the return data are at this place.
    ReturnData,
}

impl Live {
    /// Computes the sets backwards, to a fixed point.
    pub(super) fn new(func: &Function, cx: &Context, flow: &Flow, returned: ByteSet) -> Self {
        let mut live = Self { at_entry: SecondaryMap::new(), returned };
        loop {
            let mut changed = false;
            for &block in flow.cfg.reverse_postorder().iter().rev() {
                let bytes = live.walk(func, cx, flow, block, |_, _, _| {});
                match &mut live.at_entry[block] {
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
        self.at_entry[block].clone().unwrap_or_else(ByteSet::empty)
    }

    /// Walks a block backwards; the bytes that may be read from its start on. `tell` hears of each instruction the bytes
    /// that may be read after it, and whether it is a write in vain.
    fn walk(
        &self,
        func: &Function,
        cx: &Context,
        flow: &Flow,
        block: Block,
        mut tell: impl FnMut(Inst, &ByteSet, bool),
    ) -> ByteSet {
        let mut live = ByteSet::empty();
        for &succ in flow.cfg.succs(block) {
            if let Some(of_succ) = &self.at_entry[succ] {
                live.union(of_succ);
            }
        }
        let mut ranges: Vec<Range> = Vec::new();
        let sizes = ReturnSizes::new(func, block);
        for &inst in func.blocks[block].insts.iter().rev() {
            let data = &func.insts[inst];
            if data.opcode == Opcode::Ret {
                live.union(&self.returned);
                continue;
            }
            let access = flow.access(func, cx, inst);
            if is_removable(data.opcode) {
                // A copy of any length may cost more than an execution can pay: that it ends there is not for us to undo.
                let bounded = data.args.len() == 2 || access.writes.iter().all(|span| span.to < LIMIT);
                let read = |span: &Span| live.meets(*span) || ranges.iter().any(|range| overlap(*span, range.span));
                if bounded && !access.writes.iter().any(read) {
                    tell(inst, &live, true);
                    continue;
                }
            }
            if changes_return_data(data) {
                ranges.drain(..).for_each(|range| live.insert(range.span));
            }
            tell(inst, &live, false);
            for &span in access.writes.iter().filter(|span| span.exact) {
                live.remove(span);
            }
            if let Some((offset, len)) = copied_range(data) {
                let (offset, len) = (root(func, offset), sizes.len(func, inst, len));
                ranges.retain(|range| (range.offset, range.len) != (offset, len));
            }
            match (read_range(data), access.reads.as_slice()) {
                (Some((offset, len)), &[span]) if !span.exact => {
                    ranges.push(Range { offset: root(func, offset), len: sizes.len(func, inst, len), span });
                }
                (_, spans) => spans.iter().for_each(|&span| live.insert(span)),
            }
        }
        ranges.into_iter().for_each(|range| live.insert(range.span));
        live
    }
}

/// Which instructions of a block read the same return data: the number of calls before each.
struct ReturnSizes {
    calls_before: BTreeMap<Inst, usize>,
}

impl ReturnSizes {
    fn new(func: &Function, block: Block) -> Self {
        let insts = &func.blocks[block].insts;
        let mut calls_before = BTreeMap::new();
        // Without a copy of return data nothing is overwritten that is as long.
        if insts.iter().any(|&inst| func.insts[inst].opcode == Opcode::Returndatacopy) {
            let mut calls = 0;
            for &inst in insts {
                calls_before.insert(inst, calls);
                calls += usize::from(changes_return_data(&func.insts[inst]));
            }
        }
        Self { calls_before }
    }

    /// The length that a value is at an instruction of the block.
    fn len(&self, func: &Function, at: Inst, value: Value) -> Len {
        let value = root(func, value);
        let of_return_data = func.def_inst(value).is_some_and(|size| {
            func.insts[size].opcode == Opcode::Returndatasize
                && self.calls_before.get(&size).is_some_and(|calls| self.calls_before.get(&at) == Some(calls))
        });
        if of_return_data { Len::ReturnData } else { Len::Value(value) }
    }
}

fn changes_return_data(data: &InstData) -> bool {
    let effects = data.opcode.effects();
    effects.has(Effects::WRITES_RETURN_DATA) || effects.has(Effects::CALLS)
}

fn overlap(a: Span, b: Span) -> bool {
    a.from < b.to && b.from < a.to
}

/// The range of memory that the instruction reads, as values.
fn read_range(data: &InstData) -> Option<(Value, Value)> {
    matches!(data.opcode, Opcode::Return | Opcode::Revert | Opcode::Keccak256 | Opcode::Log)
        .then(|| (data.args[0], data.args[1]))
}

/// The range of memory that the instruction overwrites whenever it is executed to its end, as values.
fn copied_range(data: &InstData) -> Option<(Value, Value)> {
    matches!(data.opcode, Opcode::Calldatacopy | Opcode::Datacopy | Opcode::Returndatacopy)
        .then(|| (data.args[0], data.args[2]))
}
