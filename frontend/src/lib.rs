//! The frontend: EVM runtime bytecode → ZVM IR, or the reasons why not.
//!
//! The stages, each in its file, in the order they run:
//!
//! 1. `decode`: bytes → instructions and basic blocks, with revm's opcode table and jump analysis.
//! 2. `effects`: one block → its effect on a symbolic entry stack.
//! 3. `summaries`: how control leaves each block through the stack it was entered with.
//! 4. `functions` (with `heights`): which blocks form which function, what every jump is, where the stack runs out.
//!    Where these two fail, `exact` copies blocks per stack instead.
//! 5. `liveness`, 6. `ssa`: values instead of a stack.
//!
//! A lift is checked: every jump that can be reached goes to a known set of targets, or the lift is refused with the
//! jumps named. What came out can be held against the bytecode again by `checker`, which shares nothing with 2 to 6. This crate knows nothing about lowering, circuits, files or artifacts.

mod arrivals;
mod called;
pub mod checker;
mod decode;
mod effects;
mod error;
mod exact;
mod expr;
mod functions;
mod gas;
mod given;
mod heights;
mod items;
mod liveness;
mod memory;
mod plan;
mod report;
mod ssa;
mod subset;
mod summaries;
mod witness;

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::{Module, Pc};

pub use called::Called;
pub use checker::{CheckError, CheckErrorKind, Checked, check_lift};
pub use error::LiftError;
pub use report::{Problem, Report, Ring};
pub use subset::{Fork, Row, Status, row_of, subset_markdown};

use decode::{Code, CodeBlock, Inst, Kind};
use exact::Effort;
use expr::Arena;
use plan::Plan;
use summaries::Summaries;
pub use witness::Witness;

/// The longest bytecode that is lifted, in bytes: forty times what the mainnet allows.
pub const CODE_LIMIT: usize = 1 << 20;

/// Return addresses are followed through at most this many words of memory.
const FOLLOWED_LIMIT: usize = 4;

/// How to lift.
#[derive(Clone, Debug, Default)]
pub struct LiftOptions {
    /// The fork that decides which opcodes exist.
    pub fork: Fork,
    /// Parts of the code (start and length in bytes) that deployment fills in: immutables and library addresses. A
    /// program that can reach an instruction with such a part is refused; without this list, zeros are zeros.
    pub placeholders: Vec<(Pc, u32)>,
    /// Whether a PUSH32 whose whole operand is a placeholder becomes the instruction `immutable`: such a module can be
    /// re-emitted for its constructor to fill in, not executed.
    pub immutables: bool,
    /// Whether the code is creation code: its length and what comes after it are not known, because constructor arguments are
    /// appended. It has no calldata of its own; in the IR its calldata is the code with what is appended.
    pub creation: bool,
    /// Names for functions by the `pc` of their first instruction; `fn_<pc>` otherwise.
    pub names: BTreeMap<Pc, String>,
}

/// A program that was lifted.
#[derive(Clone, Debug)]
pub struct Lifted {
    /// The IR. It passes the verifier.
    pub module: Module,
    /// What was found out on the way.
    pub report: Report,
    /// For each jump that can be executed, and each JUMPI that can be passed: its `pc` and that of the instruction it
    /// goes to. Every such step of every execution is in the set.
    pub edges: BTreeSet<(Pc, Pc)>,
    /// The blocks of bytecode that can be reached, by their first instruction.
    pub blocks: BTreeSet<Pc>,
    /// The functions that are called, by their first instruction, with what they take and leave on the stack. Empty if
    /// the program is not a compiler's.
    pub called: BTreeMap<Pc, Called>,
    /// How many edges were visited, over all rounds, to find the functions; zero if the program is not a compiler's. Says without a
    /// clock how lifting grows with the code.
    pub visits: usize,
    /// Where the compiler's metadata trailer starts, if there is one. Data that the program copies may lie before it.
    pub metadata: Option<Pc>,
    /// What the parts of the module stand for, for [`check_lift`].
    pub witness: Witness,
}

/// Lifts runtime bytecode.
///
/// The same bytes and options give the same module, to the byte of its text. The module does what the bytecode does on
/// every input, with two limits: gas does not exist (see the row of GAS in [`subset_markdown`]), and where a recursion may overflow the
/// EVM's stack, which traps there, the module has no outcome ([`zvm_ir::Function::stack`]).
///
/// # Errors
/// See [`LiftError`]. Any bytes may be given; none make it panic, or use time or memory without bound.
pub fn lift(code: &[u8], options: &LiftOptions) -> Result<Lifted, LiftError> {
    if code.len() > CODE_LIMIT {
        return Err(LiftError::TooLong { len: code.len(), limit: CODE_LIMIT });
    }
    let mut code = Code::new(code, options.fork, options.creation);
    if options.immutables {
        let whole = options.placeholders.iter().filter(|&&(start, len)| start > 0 && len == 32);
        code.immutables = whole.map(|&(start, _)| start - 1).filter(|&pc| code.is_push32(pc)).collect();
    }
    let error = match by_summaries(&mut code) {
        Ok((arena, plan, blocks)) => return finish(&code, &arena, &blocks, plan, options),
        Err(error) => error,
    };
    // What a compiler does not do needs the costly way: with more and more of it.
    code.followed.clear();
    for effort in [Effort::Labels, Effort::Constants, Effort::Anywhere] {
        let mut arena = Arena::new();
        match exact::plan(&code, &mut arena, effort) {
            Ok((plan, blocks)) => return finish(&code, &arena, &blocks, plan, options),
            Err(LiftError::Unresolved { .. }) => {}
            // More constants make more copies.
            Err(_) => break,
        }
    }
    Err(error)
}

type Blocks = BTreeMap<Pc, CodeBlock>;

/// Stages 3 and 4.
fn by_summaries(code: &mut Code) -> Result<(Arena, Plan, Blocks), LiftError> {
    loop {
        let mut arena = Arena::new();
        let table = Summaries::compute(code, &mut arena)?;
        let before = code.followed.len();
        code.followed.extend(&table.wanted);
        if code.followed.len() == before || code.followed.len() > FOLLOWED_LIMIT {
            let plan = functions::plan(code, &mut arena, &table)?;
            return Ok((arena, plan, table.blocks));
        }
    }
}

/// Stages 5 and 6, and what is asked of the result.
fn finish(code: &Code, arena: &Arena, blocks: &Blocks, plan: Plan, options: &LiftOptions) -> Result<Lifted, LiftError> {
    let block = |node: u32| blocks.get(&plan.nodes[node as usize].pc);
    let live: BTreeSet<u32> = plan.reachable();
    let insts: BTreeMap<Pc, Inst> = live
        .iter()
        .filter(|&&node| plan.nodes[node as usize].trap.is_none())
        .filter_map(|&node| block(node))
        .flat_map(|block| block.insts.iter().map(|inst| (inst.pc, *inst)))
        .collect();
    for &(start, len) in &options.placeholders {
        let end = start.saturating_add(len);
        let first = start.saturating_sub(33);
        for (&pc, inst) in insts.range(first..end) {
            if matches!(inst.kind, Kind::Push(_)) && pc < end && start < code.inst(pc).1 {
                return Err(LiftError::Placeholder { start, end });
            }
        }
    }
    if let Some(&pc) = insts.keys().find(|&&pc| code.reads_no_calldata(pc)) {
        let problem = Problem {
            ring: Ring::L1,
            pc: Some(pc),
            opcode: code.name(pc).to_owned(),
            reason: "creation code reads calldata, which a creation does not have".to_owned(),
            help: "only the runtime code of this contract can be compiled".to_owned(),
        };
        return Err(LiftError::Subset { problems: vec![problem] });
    }
    let problems = report::opcode_problems(code, &insts.keys().copied().collect());
    let rejected: Vec<_> = problems.iter().filter(|problem| problem.ring == Ring::L1).cloned().collect();
    if !rejected.is_empty() {
        return Err(LiftError::Subset { problems: rejected });
    }
    let liveness = liveness::analyse(&plan, arena, block)?;
    let (module, witness) = ssa::build(code, &plan, arena, &liveness, block, &options.names)?;
    let misuses = gas::misuses(&module);
    if !misuses.is_empty() {
        let problem = |pc| Problem {
            ring: Ring::L1,
            pc: Some(pc),
            opcode: code.name(pc).to_owned(),
            reason: "it uses the remaining gas for something else than the gas of a call".to_owned(),
            help: "gas is not part of an outcome: remove what depends on `gasleft()`".to_owned(),
        };
        return Err(LiftError::Subset { problems: misuses.into_iter().map(problem).collect() });
    }
    let pcs: BTreeSet<Pc> = live.iter().map(|&node| plan.nodes[node as usize].pc).collect();
    let report = Report {
        l1_ring: true,
        proof_ring: problems.is_empty(),
        problems,
        blocks: pcs.len(),
        ir_blocks: module.funcs.values().map(|function| function.layout.len()).sum(),
        functions: module.funcs.len(),
        jumps: insts.values().filter(|inst| matches!(inst.kind, Kind::Jump | Kind::Jumpi)).count(),
        unresolved: 0,
    };
    Ok(Lifted {
        module,
        report,
        edges: plan.edges,
        blocks: pcs,
        called: plan.called,
        visits: plan.visits,
        metadata: code.metadata(),
        witness,
    })
}

/// What can be said of runtime bytecode in both rings; never fails.
pub fn check(code: &[u8], options: &LiftOptions) -> Report {
    match lift(code, options) {
        Ok(lifted) => lifted.report,
        Err(error) => {
            let code = (code.len() <= CODE_LIMIT).then(|| Code::new(code, options.fork, options.creation));
            Report::failed(&error, code.as_ref())
        }
    }
}
