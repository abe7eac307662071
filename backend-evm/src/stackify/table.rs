//! Jump tables: comparisons of a few bits in a row become one computed jump.
//!
//! The optimiser looks selectors up in buckets: `and x, 0xf0`, compared with one multiple of 16 after the other. The addresses
//! of the buckets, two bytes each, fit one PUSH32; shifted right by those bits they leave the address on top of other bits,
//! which a mask takes away. That costs 35 gas, whatever the bucket, where each comparison costs 22.

use zvm_ir::{Block, Function, Inst, Opcode, Value, Word};

use super::schedule::Scheduler;
use super::{Cx, Failure, Slot};
use crate::liveness::{self, ValueSet};
use crate::machine::{End, Label, MachineOp, Table};
use crate::opcodes;
use crate::selection::{Selection, select};

/// Fewer comparisons are not worth a table.
const SHORTEST: usize = 4;
/// Bits of an address in a table.
pub(crate) const ENTRY_BITS: usize = 16;

/// Comparisons of `hash` that end a block.
pub(super) struct Chain {
    /// The word that is looked up: a multiple of [`ENTRY_BITS`].
    pub hash: Value,
    /// The first comparison, which is not needed.
    pub comparison: Inst,
    /// Where each value of the hash leads, in ascending order.
    targets: Vec<Block>,
    /// The blocks that compare further.
    pub inner: Vec<Block>,
}

/// The comparisons that end `block`, if a table can do them.
pub(super) fn chain(cx: &Cx<'_>, block: Block) -> Option<Chain> {
    let function = &cx.module.funcs[cx.func];
    if !cx.tables {
        return None;
    }
    let (comparison, hash, _) = compared(function, block)?;
    let mask = usize::try_from(mask(function, hash)?).ok().filter(|&mask| mask < 256)?;
    // A mask of adjacent bits from the lowest bit of an entry's distance on.
    let entries = mask / ENTRY_BITS + 1;
    if mask == 0 || mask != (entries - 1) * ENTRY_BITS || !entries.is_power_of_two() || entries * ENTRY_BITS > 256 {
        return None;
    }
    let mut targets: Vec<Option<Block>> = vec![None; entries];
    let mut inner = Vec::new();
    let mut at = block;
    let rest = loop {
        let (_, _, word) = compared(function, at)?;
        let [then, otherwise] = function.targets(at) else { return None };
        let place = usize::try_from(word).ok().filter(|word| word % ENTRY_BITS == 0).map(|word| word / ENTRY_BITS);
        // What the hash cannot be is never equal to it.
        if let Some(target @ None) = place.and_then(|place| targets.get_mut(place)) {
            *target = Some(then.block);
        }
        at = otherwise.block;
        // The last value needs no comparison: what would do one is a block like any other.
        let open = targets.iter().filter(|target| target.is_none()).count() > 1;
        let goes_on = open
            && cx.cfg.preds(at).len() == 1
            && function.blocks[at].params.is_empty()
            && compared(function, at).is_some_and(|(_, other, _)| other == hash)
            && only_compares(cx, at);
        if !goes_on || inner.contains(&at) || at == block {
            break at;
        }
        inner.push(at);
    };
    let worthwhile = targets.iter().flatten().count() >= SHORTEST;
    let targets = targets.into_iter().map(|target| target.unwrap_or(rest)).collect();
    worthwhile.then_some(Chain { hash, comparison, targets, inner })
}

/// The comparison on which a block branches: the instruction, its operand, and the constant.
fn compared(function: &Function, block: Block) -> Option<(Inst, Value, Word)> {
    let branch = &function.insts[function.terminator(block)?];
    if branch.opcode != Opcode::Brif {
        return None;
    }
    let inst = function.def_inst(*branch.args.first()?)?;
    let data = &function.insts[inst];
    let (Opcode::Eq, &[a, b]) = (data.opcode, data.args.as_slice()) else { return None };
    let (hash, word) = (liveness::canonical(function, a), function.constant(b)?);
    mask(function, hash)?;
    // The comparison is left out, so it must be here and for nobody else.
    let here = function.blocks[block].insts.contains(&inst);
    let result = data.result()?;
    let uses = function.insts_in_order().flat_map(|(_, inst)| function.insts[inst].uses());
    (here && uses.filter(|&value| value == result).count() == 1).then_some((inst, hash, word))
}

/// The mask that makes `hash`.
fn mask(function: &Function, hash: Value) -> Option<Word> {
    let data = &function.insts[function.def_inst(hash)?];
    let (Opcode::And, &[_, mask]) = (data.opcode, data.args.as_slice()) else { return None };
    function.constant(mask)
}

/// Whether a block only compares and branches.
fn only_compares(cx: &Cx<'_>, block: Block) -> bool {
    let function = &cx.module.funcs[cx.func];
    let code = function.blocks[block].insts.iter().filter(|&&inst| {
        let data = &function.insts[inst];
        cx.facts.needs[cx.func].insts[inst]
            && !matches!(select(data.opcode, data.args.len()), Selection::Remade | Selection::Alias)
    });
    code.count() == 2
}

impl Scheduler<'_> {
    /// Ends the block with a jump through a table.
    pub(super) fn table(&mut self, chain: Chain) -> Result<End, Failure> {
        let mut live = ValueSet::default();
        for &target in &chain.targets {
            live.extend(&self.cx.live.live_in[target]);
        }
        self.live_out = live;
        for &block in &chain.inner {
            self.skipped[block] = true;
        }
        self.define_live_out()?;
        self.pop_dead();
        let table = Table(self.label(self.block)?.0);
        let hash = self.operand(chain.hash);
        self.prepare(&[Slot::Table(table), hash], false)?;
        self.emit(MachineOp::Plain(opcodes::SHR));
        self.emit(MachineOp::Push((Word::from(1) << ENTRY_BITS) - Word::from(1)));
        self.emit(MachineOp::Plain(opcodes::AND));
        self.emit(MachineOp::Plain(opcodes::JUMP));
        self.stack.truncate(self.stack.len().saturating_sub(2));
        if let Some(count) = self.remaining.get_mut(&chain.hash) {
            *count = count.saturating_sub(1);
        }
        for &target in &chain.targets {
            if self.templates[target].is_none() {
                let template = self.inherited_template(target);
                self.freeze(target, template);
            }
        }
        let labels: Result<Vec<Label>, Failure> = chain.targets.iter().map(|&target| self.label(target)).collect();
        self.tables.insert(table, labels?);
        Ok(End::Table(table))
    }
}
