//! Emission: jumps, addresses, constants, data.
//!
//! Labels are pushed with the fewest bytes: all start with one, and each that turns out too short grows, until nothing
//! changes. Data segments follow the code.

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::{Block, Data, Func, Module, Pc};

use crate::layout::{self, Placed};
use crate::machine::{End, Label, MachineInst, MachineOp, Table};
use crate::memory::MemoryPlan;
use crate::outline::{self, Callable, Callables};
use crate::stackify::{ENTRY_BITS, Program, TemplateSlot};
use crate::{Fork, Options, constant, opcodes};

/// A block of the IR in the emitted code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// The function in the legalized module.
    pub func: Func,
    /// The block in the legalized module.
    pub block: Block,
    /// The name of the function.
    pub function: String,
    /// Where its code starts: its JUMPDEST, if it has one.
    pub start: u32,
    /// Where its code ends.
    pub end: u32,
    /// What the stack holds at its start, the last slot on top.
    pub template: Vec<TemplateSlot>,
}

/// How good the schedules of a program are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScheduleFacts {
    /// The blocks.
    pub blocks: usize,
    /// Those whose schedule is as cheap as the lower bound.
    pub optimal: usize,
    /// Static gas of DUP, SWAP, POP and PUSH, each block once.
    pub gas: u64,
    /// What at least it must be.
    pub bound: u64,
}

/// A data segment in the emitted code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataInfo {
    /// The segment.
    pub data: Data,
    /// Where it starts.
    pub start: u32,
    /// Its length in bytes.
    pub len: u32,
}

/// Emitted bytecode, and what is known about it.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The bytecode: instructions, then data.
    pub code: Vec<u8>,
    /// For instructions that come from bytecode, in order: position here, position there. An entry holds until the next.
    pub source_map: Vec<(u32, Pc)>,
    /// The blocks that exist in the code, in its order. A block that only jumps may have disappeared.
    pub blocks: Vec<BlockInfo>,
    /// The data segments, in order.
    pub data: Vec<DataInfo>,
    /// The words that the constructor fills in, in order: position here, position in the original.
    pub immutables: Vec<(u32, Pc)>,
    /// The fork that the code is for.
    pub fork: Fork,
    /// Whether it is creation code; see [`Options::creation`].
    pub creation: bool,
    /// The length of the instructions.
    pub(crate) instructions: u32,
    pub(crate) module: Module,
    pub(crate) program: Program,
    pub(crate) plan: MemoryPlan,
}

impl Lowered {
    /// The position in the original bytecode that the instruction at `at` comes from, if it is an instruction.
    pub fn origin(&self, at: u32) -> Option<Pc> {
        let next = self.source_map.partition_point(|&(from, _)| from <= at);
        let inside = (at as usize) < self.code_len();
        next.checked_sub(1).filter(|_| inside).map(|entry| self.source_map[entry].1)
    }

    /// The blocks that were scheduled, how many of them with no more DUP, SWAP, POP and PUSH than any schedule needs, and the
    /// gas of those instructions: of all blocks, and the bound.
    pub fn schedule(&self) -> ScheduleFacts {
        let mut facts = ScheduleFacts::default();
        for piece in self.program.functions.iter().filter(|code| code.func.is_some()).flat_map(|code| &code.pieces) {
            let traffic = piece.traffic();
            facts.blocks += 1;
            facts.optimal += usize::from(traffic <= piece.bound);
            facts.gas += u64::from(traffic);
            facts.bound += u64::from(piece.bound);
        }
        facts
    }

    /// Whether every address in the code fits the entry of a jump table.
    pub(crate) fn fits_tables(&self) -> bool {
        self.code_len() <= 1 << ENTRY_BITS || self.program.functions.iter().all(|code| code.tables.is_empty())
    }

    /// The length of the instructions, without the data.
    pub fn code_len(&self) -> usize {
        self.instructions as usize
    }

    /// Puts bytes that nobody executes or reads behind everything else: metadata of the original, for explorers.
    pub fn append(&mut self, trailer: &[u8]) {
        self.code.extend_from_slice(trailer);
    }

    /// The legalized module in normal form: the one whose blocks [`Lowered::blocks`] names.
    pub fn legalized(&self) -> &Module {
        &self.module
    }
}

/// Emits a program.
pub(crate) fn emit(module: Module, program: Program, plan: MemoryPlan, options: &Options) -> Lowered {
    let (placed, tables) = layout::layout(&program, options.optimize);
    let mut pieces = with_jumps(&placed);
    if options.fork.has_exchange() {
        pieces.iter_mut().for_each(|piece| exchange(&mut piece.code));
    }
    outline::outline(&mut pieces, callables(&module, &program), options);
    let mut jumped: BTreeSet<Label> = BTreeSet::new();
    let mut segments: BTreeSet<Data> = BTreeSet::new();
    for inst in pieces.iter().flat_map(|piece| &piece.code) {
        match inst.op {
            MachineOp::PushLabel(label) => drop(jumped.insert(label)),
            MachineOp::PushData(data, _) => drop(segments.insert(data)),
            MachineOp::PushTable(table) => jumped.extend(tables.get(&table).into_iter().flatten()),
            _ => {}
        }
    }
    let mut assembler =
        Assembler { options, jumped, tables, labels: BTreeMap::new(), data: BTreeMap::new(), widths: Vec::new() };
    let pushes = pieces
        .iter()
        .flat_map(|piece| &piece.code)
        .filter(|inst| matches!(inst.op, MachineOp::PushLabel(_) | MachineOp::PushData(..)))
        .count();
    assembler.widths = vec![1; pushes];
    loop {
        let output = assembler.assemble(&pieces);
        let mut end = output.code.len() as u64;
        let mut data = BTreeMap::new();
        for &segment in &segments {
            data.insert(segment, end);
            end += module.data.get(segment).map_or(0, |bytes| bytes.len() as u64);
        }
        let stable = assembler.labels == output.labels && assembler.data == data && !output.grown;
        (assembler.labels, assembler.data) = (output.labels, data);
        if stable {
            return finish(
                module,
                program,
                plan,
                options,
                &placed,
                output.code,
                output.source_map,
                output.immutables,
                output.ranges,
                &assembler.data,
            );
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "assembles the result from its parts")]
fn finish(
    module: Module,
    program: Program,
    plan: MemoryPlan,
    options: &Options,
    placed: &[Placed],
    mut code: Vec<u8>,
    source_map: Vec<(u32, Pc)>,
    immutables: Vec<(u32, Pc)>,
    ranges: Vec<(u32, u32)>,
    segments: &BTreeMap<Data, u64>,
) -> Lowered {
    let templates: BTreeMap<(Func, usize), &(Block, Vec<TemplateSlot>)> = program
        .functions
        .iter()
        .flat_map(|function| {
            let func = function.func;
            function.templates.iter().enumerate().filter_map(move |(at, entry)| func.map(|func| ((func, at), entry)))
        })
        .collect();
    let mut blocks = Vec::new();
    for (placed, &(start, end)) in placed.iter().zip(&ranges) {
        let own = placed.func.map(|func| (func, placed.index));
        for (func, index) in own.into_iter().chain(placed.twins.iter().copied()) {
            if let Some((block, template)) = templates.get(&(func, index)) {
                let function = module.funcs[func].name.clone();
                blocks.push(BlockInfo { func, block: *block, function, start, end, template: template.clone() });
            }
        }
    }
    let instructions = code.len() as u32;
    let mut data = Vec::new();
    for &segment in segments.keys() {
        let bytes = module.data.get(segment).map_or(&[][..], |bytes| bytes);
        data.push(DataInfo { data: segment, start: code.len() as u32, len: bytes.len() as u32 });
        code.extend_from_slice(bytes);
    }
    let Options { fork, creation, .. } = *options;
    Lowered { code, source_map, blocks, data, immutables, fork, creation, instructions, module, program, plan }
}

/// The code of a piece, its jump included.
#[derive(Clone, Debug)]
pub(crate) struct Straight {
    /// Where it starts.
    pub label: Label,
    /// The instructions.
    pub code: Vec<MachineInst>,
    /// How often it is expected to run, relative to the function.
    pub weight: u32,
    /// Whether it ends in a revert or a trap.
    pub cold: bool,
}

/// What the functions that come back do to the stack, except those that can be entered again before they do.
fn callables(module: &Module, program: &Program) -> Callables {
    let facts = &program.facts;
    let functions = program.functions.iter().filter_map(|code| Some((code, code.func?)));
    functions
        .filter(|&(_, func)| facts.returns[func] && !facts.recursive[func])
        .filter_map(|(code, func)| {
            let pops = code.templates.first()?.1.len();
            let callable = Callable { pops, pushes: module.funcs[func].results.len(), sees: pops };
            Some((code.pieces.first()?.label, callable))
        })
        .collect()
}

/// Turns the ends of pieces into jumps, except where the target comes next.
fn with_jumps(placed: &[Placed]) -> Vec<Straight> {
    let mut out = Vec::with_capacity(placed.len());
    let mut before: BTreeSet<Label> = BTreeSet::new();
    for (at, this) in placed.iter().enumerate() {
        before.insert(this.piece.label);
        let next = placed.get(at + 1).map(|next| next.piece.label);
        let mut code = this.piece.code.clone();
        let pc = this.piece.end_pc;
        let push = |code: &mut Vec<MachineInst>, op| code.push(MachineInst { op, pc });
        let goto = |code: &mut Vec<MachineInst>, to: Label| {
            if Some(to) != next {
                push(code, MachineOp::PushLabel(to));
                push(code, MachineOp::Plain(opcodes::JUMP));
            }
        };
        match this.piece.end {
            End::Closed | End::Table(_) => {}
            End::Goto(to) => goto(&mut code, to),
            End::Branch { nonzero, zero } if nonzero == zero => {
                code.push(MachineInst { op: MachineOp::Plain(opcodes::POP), pc });
                goto(&mut code, zero);
            }
            End::Branch { nonzero, zero } => {
                let (taken, fallen) = branch(&mut code, (nonzero, zero), next, &before, pc);
                code.push(MachineInst { op: MachineOp::PushLabel(taken), pc });
                code.push(MachineInst { op: MachineOp::Plain(opcodes::JUMPI), pc });
                goto(&mut code, fallen);
            }
        }
        give_origins(&mut code, pc);
        out.push(Straight { label: this.piece.label, code, weight: this.weight, cold: this.piece.cold });
    }
    out
}

/// Instructions that no single instruction asked for belong to the one before them in their block, and the first of a
/// block to the one after them, so that the source map has no holes.
fn give_origins(code: &mut [MachineInst], end: Option<Pc>) {
    let mut last = code.iter().find_map(|inst| inst.pc).or(end);
    for inst in code {
        inst.pc = inst.pc.or(last);
        last = inst.pc;
    }
}

/// An item brought to the top, put in the place of another, and that one put where the first was: one EXCHANGE.
fn exchange(code: &mut Vec<MachineInst>) {
    let mut at = 0;
    while let Some(window) = code.get(at..at + 3) {
        if let [MachineOp::Swap(a), MachineOp::Swap(b), MachineOp::Swap(c)] = [window[0].op, window[1].op, window[2].op]
            && a == c
            && let Some(immediate) = opcodes::exchange_immediate(usize::from(a.min(b)), usize::from(a.max(b)))
        {
            code[at].op = MachineOp::Exchange(immediate);
            code.drain(at + 1..at + 3);
        }
        at += 1;
    }
}

/// Decides which way a branch jumps, rewriting the end of the condition: JUMPI asks only whether it is zero.
fn branch(
    code: &mut Vec<MachineInst>,
    (mut nonzero, mut zero): (Label, Label),
    next: Option<Label>,
    before: &BTreeSet<Label>,
    pc: Option<Pc>,
) -> (Label, Label) {
    let last = |code: &[MachineInst]| match code.last().map(|inst| inst.op) {
        Some(MachineOp::Plain(byte)) => Some(byte),
        _ => None,
    };
    while last(code) == Some(opcodes::ISZERO) {
        code.pop();
        core::mem::swap(&mut nonzero, &mut zero);
    }
    // Of two sides that are elsewhere, the one that goes back is the next round of a loop: the branch itself goes there.
    let turns_back = before.contains(&zero) && !before.contains(&nonzero);
    if Some(nonzero) != next && !turns_back {
        return (nonzero, zero);
    }
    let opposite = match last(code) {
        Some(opcodes::EQ) => Some(opcodes::SUB),
        Some(opcodes::SUB | opcodes::XOR) => Some(opcodes::EQ),
        _ => None,
    };
    match (opposite, code.last_mut()) {
        (Some(byte), Some(inst)) => inst.op = MachineOp::Plain(byte),
        _ => code.push(MachineInst { op: MachineOp::Plain(opcodes::ISZERO), pc }),
    }
    (zero, nonzero)
}

struct Assembler<'a> {
    options: &'a Options,
    jumped: BTreeSet<Label>,
    tables: BTreeMap<Table, Vec<Label>>,
    labels: BTreeMap<Label, u64>,
    data: BTreeMap<Data, u64>,
    /// How many bytes each push of an address has, in order.
    widths: Vec<usize>,
}

#[derive(Default)]
struct Output {
    code: Vec<u8>,
    labels: BTreeMap<Label, u64>,
    source_map: Vec<(u32, Pc)>,
    immutables: Vec<(u32, Pc)>,
    ranges: Vec<(u32, u32)>,
    grown: bool,
}

impl Assembler<'_> {
    fn assemble(&mut self, pieces: &[Straight]) -> Output {
        let mut out = Output::default();
        let mut pushes = 0;
        for piece in pieces {
            let start = out.code.len() as u32;
            self.mark(&mut out, piece.label);
            let mut piece_started = false;
            for inst in &piece.code {
                if let Some(pc) = inst.pc
                    && out.source_map.last().is_none_or(|&(_, last)| last != pc)
                {
                    // The JUMPDEST of a block is part of its first instruction.
                    let first = !piece_started
                        && out.code.len() as u32 == start + u32::from(self.jumped.contains(&piece.label));
                    out.source_map.push((if first { start } else { out.code.len() as u32 }, pc));
                }
                piece_started = true;
                match inst.op {
                    MachineOp::Plain(byte) => out.code.push(opcodes::reading(byte, self.options.creation)),
                    MachineOp::Push(word) => {
                        let recipe = constant::materialize(word, self.options.fork, self.options.optimize);
                        out.code.extend_from_slice(&recipe.code);
                    }
                    MachineOp::PushImmutable(place) => {
                        out.immutables.push((out.code.len() as u32 + 1, place));
                        out.code.push(opcodes::PUSH32);
                        out.code.extend([0; 32]);
                    }
                    MachineOp::PushLabel(label) => {
                        let address = self.labels.get(&label).copied().unwrap_or_default();
                        self.address(&mut out, &mut pushes, address);
                    }
                    MachineOp::PushData(data, offset) => {
                        let address = self.data.get(&data).copied().unwrap_or_default() + offset;
                        self.address(&mut out, &mut pushes, address);
                    }
                    MachineOp::PushTable(table) => {
                        let labels = self.tables.get(&table).map_or(&[][..], Vec::as_slice);
                        out.code.push(opcodes::PUSH1 + (2 * labels.len()) as u8 - 1);
                        for label in labels.iter().rev() {
                            let address = self.labels.get(label).copied().unwrap_or_default();
                            out.code.extend_from_slice(&(address as u16).to_be_bytes());
                        }
                    }
                    MachineOp::Dup(depth) => deep(&mut out.code, usize::from(depth), opcodes::DUP1, opcodes::DUPN),
                    MachineOp::Swap(below) => deep(&mut out.code, usize::from(below), opcodes::SWAP1, opcodes::SWAPN),
                    MachineOp::Exchange(immediate) => out.code.extend([opcodes::EXCHANGE, immediate]),
                    MachineOp::Mark(label) => self.mark(&mut out, label),
                }
            }
            out.ranges.push((start, out.code.len() as u32));
        }
        out
    }

    fn mark(&self, out: &mut Output, label: Label) {
        out.labels.insert(label, out.code.len() as u64);
        if self.jumped.contains(&label) {
            out.code.push(opcodes::JUMPDEST);
        }
    }

    fn address(&mut self, out: &mut Output, pushes: &mut usize, address: u64) {
        let needed = (8 - address.leading_zeros() as usize / 8).max(1);
        if let Some(width) = self.widths.get_mut(*pushes) {
            if *width < needed {
                *width = needed;
                out.grown = true;
            }
            out.code.push(opcodes::PUSH1 + *width as u8 - 1);
            out.code.extend_from_slice(&address.to_be_bytes()[8 - *width..]);
        }
        *pushes += 1;
    }
}

fn deep(code: &mut Vec<u8>, depth: usize, first: u8, far: u8) {
    match opcodes::deep_immediate(depth) {
        Some(immediate) => code.extend([far, immediate]),
        None => code.push(first + (depth as u8).wrapping_sub(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_swaps_are_one_exchange() {
        let inst = |op| MachineInst { op, pc: None };
        let swaps = |list: &[u8]| list.iter().map(|&below| inst(MachineOp::Swap(below))).collect::<Vec<_>>();
        let mut code = swaps(&[1, 2, 5, 2, 3, 4]);
        exchange(&mut code);
        let immediate = opcodes::exchange_immediate(2, 5).unwrap();
        let expected: Vec<_> =
            [MachineOp::Swap(1), MachineOp::Exchange(immediate), MachineOp::Swap(3), MachineOp::Swap(4)]
                .map(inst)
                .into();
        assert_eq!(code, expected);
        // The items come back to where they were, and what has no immediate stays.
        for kept in [[2, 2, 2], [2, 5, 3], [15, 16, 15]] {
            let mut code = swaps(&kept);
            exchange(&mut code);
            assert_eq!(code, swaps(&kept));
        }
    }
}
