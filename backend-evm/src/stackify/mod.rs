//! Stackifying: values to stack slots, instructions to opcodes with DUP, SWAP and POP between them.
//!
//! Each block has one entry template, frozen when the first edge to it is scheduled; every other edge arranges its stack
//! to that template. Inside a block, instructions with effects keep their order; the others are computed where
//! they are first needed ([`schedule`]). Operands are brought to the top by a bounded search ([`shuffle`]). Where a word is
//! deeper than DUP and SWAP reach ([`arrange`]) it is made again if it is cheap, else spilled to memory that the
//! program cannot see, else the stack above it is put aside beyond the end of memory for a moment.
//!
//! Junk: words nobody needs may lie below a template when the block cannot return to a caller and the edge is not part
//! of a cycle. Everywhere else templates cover the whole frame.

mod arrange;
mod edge;
mod schedule;
mod shuffle;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;
use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, Func, Imm, Module, Opcode, Pc, Value};

use crate::liveness::{self, Liveness, ModuleFacts, Remade};
use crate::machine::{End, Label, MachineInst, MachineOp, Piece, Table, gas};
use crate::memory::MemoryPlan;
use crate::{LowerError, Optimize, Options, opcodes};
use shuffle::Plans;
pub(crate) use table::ENTRY_BITS;

/// What a slot of a block's entry template holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TemplateSlot {
    /// Any word: nobody reads it.
    Junk,
    /// The address in the caller to return to.
    Return,
    /// A value of the function.
    Value(Value),
}

/// A slot of the stack while a block is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Slot {
    Junk,
    Return,
    Value(Value),
    Made(Remade),
    Label(Label),
    Table(Table),
}

/// A module lowered to pieces of machine code.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The code of every block, functions one after the other, the entry first.
    pub functions: Vec<FunctionCode>,
    /// What is known about the functions.
    pub facts: ModuleFacts,
    /// Where each value that is kept in memory is kept.
    pub spills: BTreeMap<(Func, Value), u64>,
    /// Whether the stack is put aside somewhere for want of slots, recursion apart.
    pub aside: bool,
}

/// The code of one function.
#[derive(Clone, Debug, Default)]
pub(crate) struct FunctionCode {
    /// The function; the code that starts the program has none.
    pub func: Option<Func>,
    /// Its blocks in reverse post-order.
    pub pieces: Vec<Piece>,
    /// The entry template of each block, in the order of the pieces.
    pub templates: Vec<(Block, Vec<TemplateSlot>)>,
    /// How often each piece is expected to run, relative to the function.
    pub weights: Vec<u32>,
    /// The jump tables, the address for the lowest entry first.
    pub tables: BTreeMap<Table, Vec<Label>>,
}

/// How many blocks are scheduled again at most for values that turn out to have to be spilled. A stack that grows in a
/// loop, of which each height has blocks of its own, has more such values than anyone can wait for.
const SPILL_WORK: usize = 1 << 18;

/// How hard to try, and what is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode {
    /// When values are computed. A block is scheduled in each order, and the cheapest is kept.
    orders: &'static [Order],
    /// How many states a search may expand.
    budget: usize,
    /// Whether the stack may be put aside beyond the end of memory.
    aside: bool,
    /// What junk left in a frame that must be clean costs, in gas.
    junk: u32,
}

/// When the values of a block are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Where they are first needed, in expressions that are nested at most this deep.
    Late(u32),
    /// In the order of the IR, but as part of the expression that they stand next to.
    Nested,
    /// Where the IR has them.
    Early,
}

/// Why a function could not be scheduled in a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A word is deeper than the stack instructions reach.
    OutOfReach { value: Option<Value>, pc: Option<Pc> },
    /// An invariant does not hold.
    Internal { what: &'static str, pc: Option<Pc> },
}

/// What scheduling a function needs to know.
pub(crate) struct Cx<'a> {
    pub module: &'a Module,
    pub facts: &'a ModuleFacts,
    pub plan: &'a MemoryPlan,
    pub options: &'a Options,
    pub func: Func,
    pub cfg: Cfg,
    pub live: Liveness,
    pub labels: &'a BTreeMap<(Func, Block), Label>,
    /// Whether comparisons of a few bits may become a jump table.
    pub tables: bool,
}

/// Schedules a legalized module in normal form.
pub(crate) fn stackify(
    module: &Module,
    plan: &MemoryPlan,
    options: &Options,
    tables: bool,
) -> Result<Program, LowerError> {
    let facts = liveness::analyze(module, plan.observes_msize);
    let mut labels = BTreeMap::new();
    for &func in &facts.reachable {
        for &block in &module.funcs[func].layout {
            labels.insert((func, block), Label(labels.len() as u32));
        }
    }
    let mut next_label = labels.len() as u32;
    let mut program = Program { functions: Vec::new(), facts: facts.clone(), spills: BTreeMap::new(), aside: false };
    if let Some(entry) = module.entry
        && facts.returns[entry]
    {
        program.functions.push(start(module, entry, &labels, &mut next_label));
    }
    let mut plans = Plans::new();
    let mut slots = Slots { holes: plan.holes.clone(), base: plan.spill_base };
    for &func in &facts.reachable {
        let function = &module.funcs[func];
        let cfg = Cfg::new(function);
        let live = liveness::liveness(module, &facts, func, &cfg);
        let cx = Cx { module, facts: &facts, plan, options, func, cfg, live, labels: &labels, tables };
        let none = Slots::default();
        let available = if facts.recursive[func] { &none } else { &slots };
        let done = schedule_function(&cx, available, &mut next_label, &mut plans)?;
        slots.take(done.spills.len());
        program.aside |= done.aside && !facts.recursive[func];
        program.spills.extend(done.spills.into_iter().map(|(value, address)| ((func, value), address)));
        program.functions.push(done.code);
    }
    Ok(program)
}

/// The code before a program whose entry function returns: call it, then stop.
fn start(module: &Module, entry: Func, labels: &BTreeMap<(Func, Block), Label>, next_label: &mut u32) -> FunctionCode {
    let (begin, stop) = (Label(*next_label), Label(*next_label + 1));
    *next_label += 2;
    let inst = |op| MachineInst { op, pc: None };
    let first = module.funcs[entry].entry().and_then(|block| labels.get(&(entry, block))).copied().unwrap_or(stop);
    let begin = Piece {
        label: begin,
        code: vec![inst(MachineOp::PushLabel(stop))],
        end: End::Goto(first),
        end_pc: None,
        cold: false,
        bound: 0,
    };
    let stop = Piece {
        label: stop,
        code: vec![inst(MachineOp::Plain(opcodes::STOP))],
        end: End::Closed,
        end_pc: None,
        cold: true,
        bound: 0,
    };
    FunctionCode { pieces: vec![begin, stop], weights: vec![1, 0], ..FunctionCode::default() }
}

/// Where values may be spilled to.
#[derive(Clone, Debug, Default)]
struct Slots {
    /// Words here and there.
    holes: Vec<u64>,
    /// From here on every word.
    base: Option<u64>,
}

impl Slots {
    /// The address of the slot of this number.
    fn get(&self, at: usize) -> Option<u64> {
        match self.holes.get(at) {
            Some(&hole) => Some(hole),
            None => self.base.map(|base| base + 32 * (at - self.holes.len()) as u64),
        }
    }

    /// Gives away the first slots.
    fn take(&mut self, count: usize) {
        let holes = count.min(self.holes.len());
        self.holes.drain(..holes);
        self.base = self.base.map(|base| base + 32 * (count - holes) as u64);
    }
}

struct Done {
    code: FunctionCode,
    spills: BTreeMap<Value, u64>,
    aside: bool,
}

fn modes(options: &Options) -> Vec<Mode> {
    const LATE: Order = Order::Late(24);
    let mode = |orders, budget| Mode { orders, budget, aside: false, junk: 3 };
    match options.optimize {
        Optimize::None => vec![mode(&[Order::Early], 0)],
        // What is best for each block need not be for all: templates are frozen on the way.
        Optimize::Gas | Optimize::Size => vec![
            mode(&[LATE, Order::Late(6), Order::Nested, Order::Early], 150),
            mode(&[LATE], 150),
            mode(&[Order::Early], 150),
        ],
    }
}

/// Tries each mode and keeps the cheapest result. If none works, values are spilled one by one, and at last the stack is
/// put aside where needed.
fn schedule_function(cx: &Cx<'_>, slots: &Slots, next_label: &mut u32, plans: &mut Plans) -> Result<Done, LowerError> {
    let function = &cx.module.funcs[cx.func];
    let modes = modes(cx.options);
    let first_label = *next_label;
    let mut best: Option<(u64, FunctionCode, u32)> = None;
    for &mode in &modes {
        let mut label = first_label;
        if let Ok(code) = schedule::run(cx, mode, &BTreeMap::new(), &mut label, plans) {
            let cost = cost(cx.options, &code);
            if best.as_ref().is_none_or(|(known, ..)| cost < *known) {
                best = Some((cost, code, label));
            }
        }
    }
    if let Some((_, code, label)) = best {
        *next_label = label;
        return Ok(Done { code, spills: BTreeMap::new(), aside: false });
    }
    // The set of spilled values is found without searching: it only grows, so it ends.
    let mut spilled: BTreeSet<Value> = BTreeSet::new();
    let mut mode = Mode { budget: 0, ..modes[0] };
    let most = SPILL_WORK / function.layout.len().max(1);
    loop {
        let spills: BTreeMap<Value, u64> =
            spilled.iter().enumerate().filter_map(|(at, &value)| Some((value, slots.get(at)?))).collect();
        let mut label = first_label;
        let failure = match schedule::run(cx, mode, &spills, &mut label, plans) {
            Ok(code) if mode.budget == modes[0].budget => {
                *next_label = label;
                return Ok(Done { code, spills, aside: mode.aside });
            }
            Ok(_) => {
                mode.budget = modes[0].budget;
                continue;
            }
            Err(failure) => failure,
        };
        match failure {
            Failure::OutOfReach { value: Some(value), .. }
                if spilled.len() < most && slots.get(spilled.len()).is_some() && spilled.insert(value) => {}
            Failure::OutOfReach { .. } if !mode.aside && !cx.plan.observes_msize => mode.aside = true,
            Failure::OutOfReach { pc, .. } => {
                return Err(LowerError::TooDeep { function: function.name.clone(), pc });
            }
            Failure::Internal { what, pc } => {
                return Err(LowerError::Internal { function: function.name.clone(), what, pc });
            }
        }
    }
}

/// The expected cost of a function, to compare schedules of the same function.
fn cost(options: &Options, code: &FunctionCode) -> u64 {
    let mut total = 0;
    let mut before: BTreeSet<Label> = BTreeSet::new();
    for (piece, &weight) in code.pieces.iter().zip(&code.weights) {
        before.insert(piece.label);
        total += piece_cost(options, piece, weight, |to| before.contains(&to));
    }
    total
}

/// The expected cost of a block that runs `weight` times. Tells of a label whether it is that of an earlier block.
fn piece_cost(options: &Options, piece: &Piece, weight: u32, is_before: impl Fn(Label) -> bool) -> u64 {
    // Going back to an earlier block takes a jump of its own, unless there is nothing else to do on the way.
    let jump = match piece.end {
        End::Goto(to) if is_before(to) && !piece.code.is_empty() => {
            &[MachineOp::PushLabel(to), MachineOp::Plain(opcodes::JUMP)][..]
        }
        End::Goto(_) | End::Closed | End::Branch { .. } | End::Table(_) => &[],
    };
    let mut total = 0;
    for inst in piece.code.iter().map(|inst| inst.op).chain(jump.iter().copied()) {
        let (gas, bytes) = (u64::from(gas(inst)), crate::constant::bytes(inst, options.fork) as u64);
        total += match options.optimize {
            Optimize::Size => bytes * 1000 + gas,
            Optimize::None | Optimize::Gas => gas * 16 * u64::from(weight) + bytes,
        };
    }
    total
}

/// Whether an edge must leave the frame exactly as the template of its target says.
pub(crate) fn is_exact_edge(cx: &Cx<'_>, from: Block, to: Block) -> bool {
    cx.facts.needs[cx.func].returns[to] || same_cycle(&cx.cfg, from, to)
}

/// Whether two blocks are on a common cycle.
pub(crate) fn same_cycle(cfg: &Cfg, a: Block, b: Block) -> bool {
    let mut around = cfg.innermost_loop(b);
    while let Some(at) = around {
        let Some(natural) = cfg.loops().get(at) else { break };
        if natural.blocks.contains(&a) {
            return true;
        }
        around = natural.parent;
    }
    cfg.irreducible().iter().any(|cycle| cycle.contains(&a) && cycle.contains(&b))
}

/// Whether junk in the block's frame must be cleared away some time.
pub(crate) fn is_strict(cx: &Cx<'_>, block: Block) -> bool {
    cx.facts.needs[cx.func].returns[block]
        || cx.cfg.innermost_loop(block).is_some()
        || cx.cfg.irreducible().iter().any(|cycle| cycle.contains(&block))
}

/// How often a block runs, relative to its function: eight times per loop around it; almost never when it ends badly.
pub(crate) fn weights(cx: &Cx<'_>) -> SecondaryMap<Block, u32> {
    let function = &cx.module.funcs[cx.func];
    let mut weights: SecondaryMap<Block, u32> = SecondaryMap::new();
    for &block in cx.cfg.reverse_postorder() {
        let mut weight: u32 = 4;
        let mut around = cx.cfg.innermost_loop(block);
        while let Some(natural) = around.and_then(|at| cx.cfg.loops().get(at)) {
            weight = weight.saturating_mul(8).min(1 << 20);
            around = natural.parent;
        }
        weights[block] = if is_cold(function, block) { 1 } else { weight };
    }
    weights
}

/// Whether a block ends in a revert or a trap.
pub(crate) fn is_cold(function: &zvm_ir::Function, block: Block) -> bool {
    function
        .terminator(block)
        .is_some_and(|inst| matches!(function.insts[inst].opcode, Opcode::Revert | Opcode::RevertWords | Opcode::Trap))
}

/// Whether a call instruction comes back.
pub(crate) fn call_returns(cx: &Cx<'_>, imm: Imm) -> bool {
    match imm {
        Imm::Func(callee) => cx.facts.returns[callee],
        _ => true,
    }
}
