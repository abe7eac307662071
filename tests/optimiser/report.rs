//! What the optimiser achieves on the corpus, as a page of Markdown: `docs/optimiser.md`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use zvm::evm::Evm;
use zvm::state::World;
use zvm::{Call, Contract, Error, Exit, Input, Program, Source, State};
use zvm_ir::interp::{self, Event, Machine};
use zvm_ir::passes::Goal;
use zvm_ir::stats::memory_ops_of;
use zvm_ir::{Change, Ledger, Module, Stats};

use crate::beside::Beside;
use crate::calls::{Generator, deployed, of_interface};

/// Calls of each contract.
const CALLS: usize = 40;
/// A call that needs more gas is not made.
const GAS_LIMIT: u64 = 3_000_000;
/// Instructions after which a run is given up: more than the gas limit pays for.
const STEP_LIMIT: u64 = 5_000_000;

const HEADER: &str = "\
# What the optimiser achieves

Counts over the corpus, one row per contract. A test writes this page and keeps it up to date, so that a change of a pass
shows here: `ZVM_SLOW=1 INSTA_UPDATE=always cargo test --test optimiser`.

Each contract is taken as its constructor deployed it, where one of a few typed random calls of the constructor succeeds.
Compared are the IR as it was lifted and as the pipeline for the circuit leaves it; the totals have those of the pipeline for
the EVM too, which inlines less and so knows less of memory.

- *memory*: sites of MLOAD, MSTORE and MSTORE8 before and after. A site is an instruction of the bytecode: one that was
  copied counts once, and one is gone when no instruction stems from it any more. The words of bulk copies are none.
- *narrow*: integers, constants and changes of width apart, that are proved narrower than 256 bits, of all.
- *paths*: sites of hashes that address storage and do nothing else (`StoragePaths`), of all that address storage.
- *checks*: sites of branches one side of which can only revert or trap.
- *per opcode*: instructions of the IR that are executed for each instruction that the EVM executes, over calls that reach no
  other account, constants and changes of width apart (they cost nothing in a circuit, and next to nothing on the EVM).

| contract | instructions | memory | narrow | paths | checks | per opcode |
|---|---:|---:|---:|---:|---:|---:|
";

const FOOTER: &str = "
## Costs

What a pass trades it asks one trait, `zvm_ir::cost::CostModel`: `Gas`, by what the fork has, or `Rows`, the circuit's table of measured
gadgets ([circuit-costs.md](circuit-costs.md)). The backends' tests compare both with what they emit and measure.

| pass | what it asks |
|---|---|
| `inline` | whether the price of a call is worth the room of the body; a circuit has no calls |
| `lower-copies` | whether there are copies of bytes; how many words are copied before a loop takes less room |
| `duplicate-exits`, `sink-stores` | what a word costs in memory and not as a value |
| `dispatch` | a comparison, a computed jump, a shift |
| `licm`, `pre` | whether an instruction costs more than to have its value at hand |
| `unroll` | what a round saves, and the room of a copy |
| `tail-merge` | whether a jump costs less than the room of what would be there twice |

`fold` asks nothing: none of its rules trades, which a test holds against both models.

## Work

The inner loops of passes count their looks in test builds (`zvm_ir::work`). `ir/tests/growth.rs` compares programs of 150 and of 300
pieces, and `work_grows_with_the_largest_contract` the contract of the corpus with the longest code, once and twice in one function: a pass may
look twice as often, and a quarter of that more, or 16 times at each instruction. `tests/bytecode/growth.rs` compares what each backend looks at
in programs of 300 and of 600 pieces: twice as often, and a tenth of that more.
";

/// One contract, or a sum.
#[derive(Clone, Copy, Debug, Default)]
struct Row {
    contracts: usize,
    circuit: Stats,
    evm: Stats,
    /// Memory sites of functions whose parameters and results are static, of contracts that solc 0.8 made.
    fixed: Change,
    fixed_evm: Change,
    /// Instructions executed, of the EVM and of the IR.
    executed: Change,
    beside: Beside,
}

impl Row {
    fn add(&mut self, other: &Self) {
        self.contracts += other.contracts;
        self.circuit += other.circuit;
        self.evm += other.evm;
        self.fixed += other.fixed;
        self.fixed_evm += other.fixed_evm;
        self.executed += other.executed;
        self.beside.add(&other.beside);
    }
}

/// The page, for the contracts in a folder.
///
/// # Errors
/// What is wrong with which contract.
pub(crate) fn page(folder: &Path) -> Result<String, String> {
    let entries = folder.join("contracts").read_dir().map_err(|error| error.to_string())?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let row = row(path);
                    if let Ok(mut rows) = rows.lock() {
                        rows.insert(path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), row);
                    }
                }
            });
        }
    });
    let rows = rows.into_inner().map_err(|error| error.to_string())?;
    let mut text = HEADER.to_owned();
    let (mut total, mut refused) = (Row::default(), Vec::new());
    for (name, row) in rows {
        match row.map_err(|error| format!("{name}: {error}"))? {
            Some(row) => {
                total.add(&row);
                line(&mut text, &name, &row.circuit, row.executed);
            }
            None => refused.push(name),
        }
    }
    line(&mut text, "**all, for the circuit**", &total.circuit, total.executed);
    line(&mut text, "**all, for the EVM**", &total.evm, Change::default());
    let _ = writeln!(
        text,
        "\n{} contracts; not lifted, and so not here: {}.\n\nMemory sites that the functions of solc 0.8 code can reach whose \
         parameters and results are all static: {} → {}, {} gone ({} → {}, {} for the EVM).",
        total.contracts,
        if refused.is_empty() { "none".to_owned() } else { refused.join(", ") },
        total.fixed.before,
        total.fixed.after,
        gone(total.fixed),
        total.fixed_evm.before,
        total.fixed_evm.after,
        gone(total.fixed_evm),
    );
    text += "\n| bar | asked | reached |\n|---|---:|---:|\n";
    let bars = [
        ("memory sites gone, functions with static types of solc 0.8", "85 %", gone(total.fixed)),
        ("memory sites gone, overall", "60 %", gone(total.circuit.memory_ops)),
        ("integers narrower than a word", "50 %", share(total.circuit.narrow, total.circuit.values)),
        ("hashes that address storage as paths", "95 %", paths(&total.circuit)),
    ];
    for (bar, asked, reached) in bars {
        let _ = writeln!(text, "| {bar} | {asked} | {reached} |");
    }
    total.beside.write(&mut text);
    text.push_str(FOOTER);
    Ok(text)
}

fn line(text: &mut String, name: &str, stats: &Stats, executed: Change) {
    let Stats { instructions, values, narrow, memory_ops, storage_sites, structured_sites, checks, .. } = *stats;
    let per_opcode = match executed.before {
        0 => "–".to_owned(),
        before => format!("{:.2}", executed.after as f64 / before as f64),
    };
    let _ = writeln!(
        text,
        "| {name} | {} → {} | {} → {}, {} gone | {} | {structured_sites} / {storage_sites} | {} → {} | {per_opcode} |",
        instructions.before,
        instructions.after,
        memory_ops.before,
        memory_ops.after,
        gone(memory_ops),
        share(narrow, values),
        checks.before,
        checks.after,
    );
}

fn gone(change: Change) -> String {
    share(change.before.saturating_sub(change.after), change.before)
}

fn paths(stats: &Stats) -> String {
    share(stats.structured_sites, stats.storage_sites)
}

fn share(part: usize, of: usize) -> String {
    if of == 0 { "–".to_owned() } else { format!("{:.1} %", 100.0 * part as f64 / of as f64) }
}

/// The row of a contract; `None` if it is outside the subset.
fn row(path: &Path) -> Result<Option<Row>, String> {
    let json = std::fs::read(path).map_err(|error| error.to_string())?;
    let record: serde_json::Value = serde_json::from_slice(&json).map_err(|error| error.to_string())?;
    let compiler = record["compiler"].as_str().unwrap_or_default();
    let text = |error: Error| error.to_string();
    let mut input = Input::parse(&path.display().to_string(), json, None).map_err(text)?;
    let Source::Contract(contract) = &mut input.source else { return Err("not a contract".to_owned()) };
    let mut generator = Generator::new(contract.runtime.len() as u64);
    let state = deployed(contract, &mut generator);
    let contract = &contract.clone();
    let program = match Program::load(&input) {
        Err(error) if error.exit() == Exit::Subset => return Ok(None),
        result => result.map_err(text)?,
    };
    let lifted = &program.module;
    let circuit = program.optimized(Goal::Circuit).map_err(text)?;
    let evm = program.optimized(Goal::Evm).map_err(text)?;
    let mut row =
        Row { contracts: 1, circuit: Stats::new(lifted, &circuit), evm: Stats::new(lifted, &evm), ..Row::default() };
    if compiler.contains("0.8.") && compiler.contains("solc") {
        for function in contract.abi.iter().flat_map(|abi| abi.functions()) {
            let mut types = function.inputs.iter().chain(&function.outputs).map(|param| param.ty.as_str());
            if types.all(is_static) && function.inputs.iter().all(|param| param.components.is_empty()) {
                row.fixed += memory_ops_of(lifted, &circuit, function.selector().into());
                row.fixed_evm += memory_ops_of(lifted, &evm, function.selector().into());
            }
        }
    }
    row.beside = Beside::new(&evm, &circuit);
    row.executed = executed(contract, &circuit, state, &mut generator).map_err(text)?;
    Ok(Some(row))
}

fn is_static(ty: &str) -> bool {
    !ty.contains("[]") && !ty.starts_with("string") && ty != "bytes" && !ty.starts_with("tuple")
}

/// Instructions that the EVM and the IR execute on the same calls.
fn executed(
    contract: &Contract,
    module: &Module,
    mut state: State,
    generator: &mut Generator,
) -> Result<Change, Error> {
    let evm = Evm::new(&contract.runtime).with_gas_limit(GAS_LIMIT);
    let mut executed = Change::default();
    for at in 0..CALLS {
        let call = match &contract.abi {
            Some(abi) => of_interface(generator, abi, at),
            None => generator.unknown(),
        };
        let env = call.env_in(&state);
        let Ok((execution, trace)) = evm.inspect(&call.calldata, &env, &state) else { continue };
        if let Some(steps) = steps(module, &call, &state, &contract.runtime) {
            executed += Change { before: trace.instructions as usize, after: steps };
        }
        if execution.outcome.halt == zvm_ir::Halt::Return {
            generator.learn(&execution.outcome.data);
            state.apply(&execution.changes);
        }
    }
    Ok(executed)
}

/// Instructions but constants and changes of width, if the call reaches no other account.
fn steps(module: &Module, call: &Call, state: &State, code: &[u8]) -> Option<usize> {
    let env = call.env_in(state);
    let world = World { state, env: &env, code };
    let mut ledger = Ledger::new(&world, env.address, env.selfbalance);
    let mut counter = Counter { module, instructions: 0 };
    let call = interp::Call { step_limit: STEP_LIMIT, ..interp::Call::new(&call.calldata, &env) };
    match Machine::new(module, call).ok()?.run(&mut ledger, &mut counter).ok()? {
        Event::Halt(..) => Some(counter.instructions),
        Event::Foreign(_) => None,
    }
}

/// Counts what is executed, by whole blocks.
struct Counter<'a> {
    module: &'a Module,
    instructions: usize,
}

impl interp::Observer for Counter<'_> {
    fn enter(&mut self, func: zvm_ir::Func, block: zvm_ir::Block, _: &interp::Values) {
        use zvm_ir::Opcode::{Iconst, Narrow, Trunc, Zext};
        let function = &self.module.funcs[func];
        let insts = function.blocks[block].insts.iter();
        let counts = |inst: &&zvm_ir::Inst| !matches!(function.insts[**inst].opcode, Iconst | Zext | Narrow | Trunc);
        self.instructions += insts.filter(counts).count();
    }
}
