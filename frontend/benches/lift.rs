//! Speed and completeness of the lifter over the corpus, beside evmole, the newest published analysis of jumps by symbolic
//! stacks.
//!
//! Both get the same runtime code on one thread; times are the best of several runs, so that they are close to CPU time.
//! *Instructions* are those that each finds reachable, *unresolved* the jumps whose targets it does not know or not all,
//! *missed* the executed edges (JUMP, and JUMPI either way) that it does not have, of those that ABI-shaped random calls of
//! each contract execute in revm. A lift that is refused counts all its edges as missed.
//!
//! ```text
//! cargo bench -p zvm-frontend --bench lift                    the tables of docs/lifting.md
//! cargo bench -p zvm-frontend --bench lift -- --each          a line for each contract
//! cargo bench -p zvm-frontend --bench lift -- --bars          fails where a bar is missed
//! ```

#[path = "../tests/oracle/mod.rs"]
mod oracle;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use evmole::control_flow_graph::{BlockType, ControlFlowGraph, DynamicJump};
use evmole::{ContractInfoArgs, contract_info};
use oracle::{Contract, GAS, Random, World, contracts, evm, random_call};
use revm::bytecode::opcode::{self, OpCode};
use zvm_frontend::{LiftOptions, Lifted, lift};
use zvm_ir::{Env, Halt, Word};

/// Times are the best of this many runs.
const RUNS: usize = 5;
/// Calls of each contract.
const CALLS: usize = 120;

type Edges = BTreeSet<(u32, u32)>;

/// What an analysis found in a contract.
#[derive(Default)]
struct Found {
    time: Duration,
    instructions: usize,
    unresolved: usize,
    edges: Edges,
    missed: usize,
}

/// What was measured of a contract.
struct Row {
    name: String,
    bytes: usize,
    blocks: usize,
    ir_blocks: usize,
    refused: Option<String>,
    executed: usize,
    ours: Found,
    theirs: Found,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if !oracle::corpus().is_dir() {
        println!("skipped: there is no corpus (ZVM_CORPUS, or ../shared/corpus)");
        return ExitCode::SUCCESS;
    }
    let rows: Vec<Row> = contracts().iter().map(measure).collect();
    if has("--each") {
        for row in &rows {
            println!(
                "{:60} {:6} bytes {:4} blocks {:4} in IR {:8.2?} {:8.2?} {:5} executed, missed {} {} {}",
                row.name,
                row.bytes,
                row.blocks,
                row.ir_blocks,
                row.ours.time,
                row.theirs.time,
                row.executed,
                row.ours.missed,
                row.theirs.missed,
                row.refused.as_deref().unwrap_or_default()
            );
        }
    }
    let good = report(&rows);
    if good || !has("--bars") { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn timed<T>(mut run: impl FnMut() -> T) -> (Duration, T) {
    let mut best: Option<(Duration, T)> = None;
    for _ in 0..RUNS {
        let start = Instant::now();
        let result = run();
        let time = start.elapsed();
        if best.as_ref().is_none_or(|(least, _)| time < *least) {
            best = Some((time, result));
        }
    }
    best.expect("it ran")
}

fn measure(contract: &Contract) -> Row {
    let code = &contract.runtime;
    let (time, lifted) = timed(|| lift(code, &LiftOptions::default()));
    let (blocks, ir_blocks) = lifted.as_ref().map_or((0, 0), |l| (l.report.blocks, l.report.ir_blocks));
    let refused = lifted.as_ref().err().map(|error| error.code().to_owned());
    let mut ours = lifted.as_ref().map_or_else(|_| Found::default(), |lifted| ours(code, lifted));
    ours.time = time;
    let (time, graph) = timed(|| contract_info(ContractInfoArgs::new(code).with_control_flow_graph()));
    let mut theirs = graph.control_flow_graph.map_or_else(Found::default, |graph| theirs(code, &graph));
    theirs.time = time;
    let executed = executed(contract);
    for found in [&mut ours, &mut theirs] {
        found.missed = executed.difference(&found.edges).count();
    }
    Row {
        name: contract.name.clone(),
        bytes: code.len(),
        blocks,
        ir_blocks,
        refused,
        executed: executed.len(),
        ours,
        theirs,
    }
}

/// How many bytes an instruction has, and whether control may go on after it.
fn shape(code: &[u8], pc: usize) -> (usize, bool) {
    let byte = code[pc];
    let Some(info) = OpCode::info_by_op(byte) else { return (1, false) };
    let goes_on = !info.is_terminating() && !matches!(byte, opcode::JUMP | opcode::JUMPI);
    (1 + usize::from(info.immediate_size()), goes_on)
}

/// The instructions from a place on, up to one that control does not simply pass.
fn straight(code: &[u8], start: u32, last: Option<usize>, into: &mut BTreeSet<usize>) {
    let mut pc = start as usize;
    while pc < code.len() && into.insert(pc) {
        let (len, goes_on) = shape(code, pc);
        if !goes_on || last == Some(pc) {
            break;
        }
        pc += len;
    }
}

fn ours(code: &[u8], lifted: &Lifted) -> Found {
    let mut instructions = BTreeSet::new();
    for start in lifted.edges.iter().map(|edge| edge.1).chain([0]) {
        straight(code, start, None, &mut instructions);
    }
    Found { instructions: instructions.len(), edges: lifted.edges.clone(), ..Found::default() }
}

fn theirs(code: &[u8], graph: &ControlFlowGraph) -> Found {
    let mut found = Found::default();
    let mut instructions = BTreeSet::new();
    let mut unresolved = BTreeSet::new();
    for block in graph.blocks.values() {
        straight(code, block.start as u32, Some(block.end), &mut instructions);
        let at = block.end as u32;
        let mut dynamic = |targets: &[DynamicJump]| {
            if targets.is_empty() || targets.iter().any(|jump| jump.to.is_none()) {
                unresolved.insert(at);
            }
            found.edges.extend(targets.iter().filter_map(|jump| Some((at, jump.to? as u32))));
        };
        match &block.btype {
            BlockType::Terminate { .. } => {}
            BlockType::Jump { to } => drop(found.edges.insert((at, *to as u32))),
            BlockType::Jumpi { true_to, false_to } => {
                found.edges.extend([(at, *true_to as u32), (at, *false_to as u32)]);
            }
            BlockType::DynamicJump { to } => dynamic(to),
            BlockType::DynamicJumpi { true_to, false_to } => {
                dynamic(true_to);
                found.edges.insert((at, *false_to as u32));
            }
        }
    }
    Found { instructions: instructions.len(), unresolved: unresolved.len(), ..found }
}

/// The edges that calls execute, with the storage carried from call to call.
fn executed(contract: &Contract) -> Edges {
    let mut world = World { code: contract.runtime.clone(), ..World::default() };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut edges = Edges::new();
    for _ in 0..CALLS {
        let calldata = random_call(&contract.abi, &mut random);
        let value = Word::from(if random.below(16) == 0 { random.below(1000) } else { 0 });
        let env = Env { callvalue: value, selfbalance: value, ..Env::default() };
        let Some((outcome, steps)) = evm(&world, &calldata, value, GAS, &env) else { continue };
        if outcome.halt == Halt::Return {
            world.storage.extend(outcome.storage.iter().map(|((_, key), value)| (*key, *value)));
        }
        edges.extend(steps.edges);
    }
    edges
}

/// Prints the tables; whether every bar is met.
fn report(rows: &[Row]) -> bool {
    let total = |of: fn(&Row) -> usize| rows.iter().map(of).sum::<usize>();
    let time: Duration = rows.iter().map(|row| row.ours.time).sum();
    let slowest = rows.iter().max_by_key(|row| row.ours.time);
    let largest = rows.iter().max_by_key(|row| row.bytes);
    let ratio = total(|row| row.ir_blocks) as f64 / total(|row| row.blocks).max(1) as f64;
    let refused: Vec<&Row> = rows.iter().filter(|row| row.refused.is_some()).collect();
    println!("| what | measured | bar |\n|---|--:|--:|");
    println!("| contracts, {} of them refused | {} | |", refused.len(), rows.len());
    println!("| time, all contracts | {:.3} s | 5 s |", time.as_secs_f64());
    for (what, row) in [("slowest", slowest), ("largest", largest)] {
        if let Some(row) = row {
            let millis = row.ours.time.as_secs_f64() * 1e3;
            println!("| time, {what}: {} ({} bytes) | {millis:.1} ms | 250 ms |", row.name, row.bytes);
        }
    }
    println!("| blocks of IR for each reachable block of bytecode | {ratio:.3} | 1.5 |");
    println!("\n| | this lifter | evmole |\n|---|--:|--:|");
    println!(
        "| reachable instructions | {} | {} |",
        total(|row| row.ours.instructions),
        total(|row| row.theirs.instructions)
    );
    println!("| unresolved jumps | {} | {} |", total(|row| row.ours.unresolved), total(|row| row.theirs.unresolved));
    println!(
        "| executed edges missed, of {} | {} | {} |",
        total(|row| row.executed),
        total(|row| row.ours.missed),
        total(|row| row.theirs.missed)
    );
    let lifted = |row: &&Row| row.refused.is_none();
    println!(
        "| the same without refused contracts | {} | {} |",
        rows.iter().filter(lifted).map(|row| row.ours.missed).sum::<usize>(),
        rows.iter().filter(lifted).map(|row| row.theirs.missed).sum::<usize>()
    );
    let contracts =
        |of: fn(&Row) -> &Found| rows.iter().filter(|row| of(row).missed > 0 || of(row).unresolved > 0).count();
    println!("| contracts with any of both | {} | {} |", contracts(|row| &row.ours), contracts(|row| &row.theirs));
    let theirs: Duration = rows.iter().map(|row| row.theirs.time).sum();
    println!("| time | {:.3} s | {:.3} s |", time.as_secs_f64(), theirs.as_secs_f64());
    let slowest_theirs = rows.iter().map(|row| row.theirs.time).max().unwrap_or_default();
    let slowest_ours = slowest.map_or(Duration::ZERO, |row| row.ours.time);
    println!("| time, slowest contract | {slowest_ours:.1?} | {slowest_theirs:.1?} |");
    for row in &refused {
        println!("\nrefused: {}: {}", row.name, row.refused.as_deref().unwrap_or_default());
    }
    let missed = rows.iter().filter(lifted).any(|row| row.ours.missed > 0);
    time.as_secs_f64() < 5.0 && slowest_ours.as_millis() < 250 && ratio <= 1.5 && !missed
}
