//! Compute gas and size of lowered code against the original bytecode, for every contract of the corpus that lifts.
//!
//! *Compute gas* is the execution gas of the program's own instructions except SLOAD, SSTORE, TLOAD, TSTORE, LOG0–LOG4,
//! CREATE, CREATE2, CALL, CALLCODE, DELEGATECALL, STATICCALL and SELFDESTRUCT; memory growth and hashing count. A contract's
//! ratio is the sum over the calls that return (in the original), new by original. The contract is what its constructor makes
//! of typed arguments; calls are typed by the interface, always the same, with the state carried from one to the next. Outcomes are compared: a difference is an error.
//!
//! ```text
//! cargo bench --bench compute_gas                     the table of docs/evm-backend.md
//! cargo bench --bench compute_gas -- --only weth      contracts whose name has a part, with functions
//! cargo bench --bench compute_gas -- --kinds          where the gas goes, by kind of instruction
//! cargo bench --bench compute_gas -- --list           the figures of each contract
//! cargo bench --bench compute_gas -- --peers          legacy code, lowered, against what solc makes via IR
//! ```

#[expect(dead_code, reason = "shared with the tests of agreement, which need more of it")]
#[path = "../tests/calls/mod.rs"]
mod calls;
#[expect(dead_code, reason = "shared with the tests of agreement, which need more of it")]
#[path = "../tests/corpus/mod.rs"]
mod corpus;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

use calls::{Generator, deployed, of_interface};
use clap::Parser;
use zvm::evm::{Evm, Execution, Trace};
use zvm::executors::{Run, difference};
use zvm::{Call, Contract, Error, Exit, Input, Program, Source, State};
use zvm_backend_evm::{Optimize, Options, ScheduleFacts, opcodes};
use zvm_ir::Halt;

/// A call that needs more gas is not made.
const GAS_LIMIT: u64 = 3_000_000;

/// The longest code that an account can hold, in bytes (EIP-170).
const CODE_SIZE_LIMIT: u64 = zvm::program::CODE_SIZE_LIMIT as u64;

/// Compute gas and size of lowered code against the original, over the corpus.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only contracts whose file name contains this; shows their functions.
    #[arg(long)]
    only: Option<String>,
    /// Show where the gas goes, by kind of instruction.
    #[arg(long)]
    kinds: bool,
    /// Compare with via-IR: contracts of the corpus that solc compiled both ways, the lowered code of the legacy way
    /// against the original of the other, on the same calls.
    #[arg(long)]
    peers: bool,
    /// Print the lowered code, with the blocks of the IR and their templates.
    #[arg(long)]
    listing: bool,
    /// Show the figures of each contract.
    #[arg(long)]
    list: bool,
    /// What to optimise for: gas, size or none.
    #[arg(long, default_value = "gas", value_parser = optimize)]
    optimize: Optimize,
    /// Calls per function of the interface.
    #[arg(long, default_value_t = 6)]
    calls: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn optimize(name: &str) -> Result<Optimize, String> {
    match name {
        "gas" => Ok(Optimize::Gas),
        "size" => Ok(Optimize::Size),
        "none" => Ok(Optimize::None),
        _ => Err("one of gas, size, none".to_owned()),
    }
}

/// What made the original code; the bars are set by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Unoptimised,
    Legacy,
    ViaIr,
    Vyper,
    Other,
}

impl Class {
    const ALL: [Self; 5] = [Self::Unoptimised, Self::Legacy, Self::ViaIr, Self::Vyper, Self::Other];

    const fn name(self) -> &'static str {
        match self {
            Self::Unoptimised => "solc, unoptimised",
            Self::Legacy => "solc, legacy optimised",
            Self::ViaIr => "solc, via-IR optimised",
            Self::Vyper => "vyper",
            Self::Other => "hand-made",
        }
    }

    /// From the record's compiler and settings. Where an artifact does not tell, a mask of 20 bytes written out does: the
    /// optimiser of every release computes it.
    fn of(record: &serde_json::Value, runtime: &[u8]) -> Self {
        let compiler = record["compiler"].as_str().unwrap_or_default();
        if compiler.starts_with("vyper") {
            return Self::Vyper;
        }
        if !compiler.starts_with("solc") {
            return Self::Other;
        }
        let settings = &record["settings"];
        if settings["viaIR"].as_bool() == Some(true) {
            return Self::ViaIr;
        }
        let mut mask = vec![opcodes::PUSH1 + 19];
        mask.extend([0xff; 20]);
        mask.push(opcodes::AND);
        let enabled = settings["optimizer"]["enabled"].as_bool();
        let written_out = runtime.windows(mask.len()).any(|window| window == mask);
        if enabled.unwrap_or(!written_out) { Self::Legacy } else { Self::Unoptimised }
    }
}

/// Compute gas and instructions of the original and of the new code.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    old: u64,
    new: u64,
}

impl Pair {
    fn ratio(self) -> f64 {
        self.new as f64 / self.old.max(1) as f64
    }
}

/// What was measured of a contract.
#[derive(Debug)]
struct Measured {
    class: Class,
    returned: usize,
    gas: Pair,
    size: Pair,
    functions: BTreeMap<String, Pair>,
    kinds: BTreeMap<&'static str, Pair>,
    compile: Duration,
    schedule: ScheduleFacts,
}

enum Answer {
    Measured(Box<Measured>),
    Refused(String),
    Wrong(String),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(folder) = corpus::folder() else {
        println!("skipped: there is no corpus (ZVM_CORPUS, or ../shared/corpus)");
        return ExitCode::SUCCESS;
    };
    let entries = folder.join("contracts").read_dir().into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    let wanted = |path: &PathBuf| arguments.only.as_deref().is_none_or(|part| name(path).contains(part));
    files.retain(wanted);
    files.sort();
    if arguments.peers {
        return compare_peers(&files, &arguments);
    }
    let (next, answers) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let answer = measure(path, &arguments);
                    if let Ok(mut answers) = answers.lock() {
                        answers.insert(name(path), answer);
                    }
                }
            });
        }
    });
    let Ok(answers) = answers.into_inner() else { return ExitCode::FAILURE };
    let (text, good) = report(&answers, &arguments);
    print!("{text}");
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn name(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn measure(path: &Path, arguments: &Arguments) -> Answer {
    match try_measure(path, arguments) {
        Ok(measured) => Answer::Measured(Box::new(measured)),
        Err(Failure::Error(error)) if error.exit() == Exit::Subset => Answer::Refused(error.to_string()),
        Err(Failure::Error(error)) => Answer::Wrong(error.to_string()),
        Err(Failure::Other(text)) => Answer::Wrong(text),
    }
}

enum Failure {
    Error(Error),
    Other(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

fn try_measure(path: &Path, arguments: &Arguments) -> Result<Measured, Failure> {
    let other = |text: String| Failure::Other(text);
    let json = std::fs::read(path).map_err(|error| other(error.to_string()))?;
    let record: serde_json::Value = serde_json::from_slice(&json).map_err(|error| other(error.to_string()))?;
    let input = Input::parse(&path.display().to_string(), json, None)?;
    let Source::Contract(mut contract) = input.source else { return Err(other("not a contract".to_owned())) };
    let mut generator = Generator::new(contract.runtime.len() as u64);
    let mut state = deployed(&mut contract, &mut generator);
    let input = Input { origin: input.origin, source: Source::Contract(contract.clone()) };
    let contract = &*contract;
    let started = cpu_time();
    let program = Program::load(&input)?;
    let lowered = program.lowered(&Options { optimize: arguments.optimize, ..Options::default() })?;
    let compile = cpu_time().saturating_sub(started);
    if arguments.listing {
        println!("{}", lowered.listing());
    }
    if let Err(errors) = zvm_backend_evm::check(&lowered) {
        return Err(other(errors.first().map(ToString::to_string).unwrap_or_default()));
    }
    let size = Pair { old: contract.runtime.len() as u64, new: lowered.code.len() as u64 };
    let mut measured = Measured {
        class: Class::of(&record, &contract.runtime),
        returned: 0,
        gas: Pair::default(),
        size,
        functions: BTreeMap::new(),
        kinds: BTreeMap::new(),
        compile,
        schedule: lowered.schedule(),
    };
    let codes = [contract.runtime.as_slice(), lowered.code.as_slice()];
    let executors = codes.map(|code| Evm::new(code).with_gas_limit(GAS_LIMIT));
    for at in 0..calls_of(contract, arguments) {
        let call = match &contract.abi {
            Some(abi) => of_interface(&mut generator, abi, at),
            None => generator.unknown(),
        };
        let env = call.env_in(&state);
        let Ok((old, old_trace)) = executors[0].inspect(&call.calldata, &env, &state) else { continue };
        let (new, new_trace) = executors[1].inspect(&call.calldata, &env, &state)?;
        if let Some(part) = difference(&run_of(&old), &run_of(&new)) {
            return Err(other(format!("differs in {part} at calldata 0x{}", hex::encode(&call.calldata))));
        }
        if old.outcome.halt != Halt::Return {
            continue;
        }
        measured.returned += 1;
        generator.learn(&old.outcome.data);
        let gas = Pair { old: old_trace.compute_gas, new: new_trace.compute_gas };
        for sum in [&mut measured.gas, measured.functions.entry(function(contract, &call)).or_default()] {
            sum.old += gas.old;
            sum.new += gas.new;
        }
        for (kind, gas) in kinds(codes[0], &old_trace) {
            measured.kinds.entry(kind).or_default().old += gas;
        }
        for (kind, gas) in kinds(codes[1], &new_trace) {
            measured.kinds.entry(kind).or_default().new += gas;
        }
        state.apply(&old.changes);
    }
    Ok(measured)
}

/// CPU time of this thread so far; wall time where the system does not tell.
fn cpu_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn run_of(execution: &Execution) -> Run {
    let Execution { outcome, changes, gas } = execution.clone();
    Run { outcome, changes: Some(changes), gas: Some(gas), rows: None }
}

/// How many calls to make.
fn calls_of(contract: &Contract, arguments: &Arguments) -> usize {
    let functions = contract.abi.as_ref().map_or(0, |abi| abi.functions().count());
    (functions * arguments.calls).max(60)
}

/// The function that a call reaches.
fn function(contract: &Contract, call: &Call) -> String {
    let selector = call.calldata.first_chunk::<4>().copied();
    let function = contract.abi.as_ref().zip(selector).and_then(|(abi, found)| abi.function_by_selector(found.into()));
    function.map_or_else(|| "(none)".to_owned(), |function| function.name.clone())
}

/// Static gas by kind of instruction.
fn kinds(code: &[u8], trace: &Trace) -> BTreeMap<&'static str, u64> {
    let mut kinds: BTreeMap<&'static str, u64> = BTreeMap::new();
    for (&pc, &count) in &trace.counts {
        let byte = code.get(pc as usize).copied().unwrap_or_default();
        let (kind, gas) = match byte {
            opcodes::POP => ("pop", 2),
            opcodes::PUSH0 => ("push", 2),
            opcodes::PUSH1..=opcodes::PUSH32 => ("push", 3),
            opcodes::DUP1..=opcodes::DUP16 => ("dup", 3),
            opcodes::SWAP1..=opcodes::SWAP16 => ("swap", 3),
            opcodes::JUMPDEST => ("jump", 1),
            opcodes::JUMP | opcodes::JUMPI => ("jump", opcodes::gas(byte)),
            opcodes::MLOAD
            | opcodes::MSTORE
            | opcodes::MSTORE8
            | opcodes::MCOPY
            | opcodes::CALLDATACOPY
            | opcodes::CODECOPY
            | opcodes::RETURNDATACOPY => ("memory", 3),
            opcodes::KECCAK256 => ("keccak", 36),
            opcodes::ADD..=opcodes::CLZ => ("arithmetic", opcodes::gas(byte)),
            _ if opcodes::gas(byte) >= 100 => ("apart", 0),
            _ => ("input", opcodes::gas(byte)),
        };
        *kinds.entry(kind).or_default() += gas as u64 * count;
    }
    kinds
}

/// For each contract that solc compiled via IR and the legacy way: compute gas of the legacy code, of that code lowered, and
/// of the via-IR code, over the calls that return the same in both originals.
fn compare_peers(files: &[PathBuf], arguments: &Arguments) -> ExitCode {
    type Key = (String, String);
    let mut ways: BTreeMap<Key, [Vec<Box<Contract>>; 2]> = BTreeMap::new();
    for path in files {
        let Ok(json) = std::fs::read(path) else { continue };
        let Ok(record) = serde_json::from_slice::<serde_json::Value>(&json) else { continue };
        let Ok(Input { source: Source::Contract(contract), .. }) = Input::parse(&name(path), json, None) else {
            continue;
        };
        let way = match Class::of(&record, &contract.runtime) {
            Class::Legacy => 0,
            Class::ViaIr => 1,
            Class::Unoptimised | Class::Vyper | Class::Other => continue,
        };
        let text = |field: &str| record[field].as_str().unwrap_or_default().to_owned();
        ways.entry((text("family"), text("name"))).or_default()[way].push(contract);
    }
    println!("| contract | calls | lowered / legacy | via-IR / legacy | lowered / via-IR |\n|---|--:|--:|--:|--:|");
    let mut ratios = Vec::new();
    for ((_, name), [legacy, via_ir]) in &ways {
        for (legacy, via_ir) in legacy.iter().flat_map(|a| via_ir.iter().map(move |b| (a, b))) {
            let Some((calls, [old, new, peer])) = peers(legacy, via_ir, arguments) else { continue };
            let ratio = |a: u64, b: u64| a as f64 / b.max(1) as f64;
            let row = [ratio(new, old), ratio(peer, old), ratio(new, peer)];
            println!("| {name} | {calls} | {:.3} | {:.3} | {:.3} |", row[0], row[1], row[2]);
            ratios.push(row);
        }
    }
    let mean = |at: usize| geometric_mean(ratios.iter().map(|row| row[at]));
    println!("| geometric mean | | {:.3} | {:.3} | {:.3} |", mean(0), mean(1), mean(2));
    ExitCode::SUCCESS
}

/// How many calls both originals answer alike, and the compute gas of the legacy code, of it lowered, and of the via-IR
/// code. `None` where fewer than ten return.
fn peers(legacy: &Contract, via_ir: &Contract, arguments: &Arguments) -> Option<(usize, [u64; 3])> {
    let input = Input { origin: String::new(), source: Source::Contract(Box::new(legacy.clone())) };
    let options = Options { optimize: arguments.optimize, ..Options::default() };
    let lowered = Program::load(&input).and_then(|program| program.lowered(&options)).ok()?;
    let codes = [&legacy.runtime, &lowered.code, &via_ir.runtime];
    let executors = codes.map(|code| Evm::new(code).with_gas_limit(GAS_LIMIT));
    let abi = legacy.abi.as_ref()?;
    let mut generator = Generator::new(legacy.runtime.len() as u64);
    let (mut state, mut calls, mut gas) = (State::default(), 0, [0; 3]);
    for at in 0..calls_of(legacy, arguments) {
        let call = of_interface(&mut generator, abi, at);
        let env = call.env_in(&state);
        let runs: Option<Vec<_>> = executors.iter().map(|evm| evm.inspect(&call.calldata, &env, &state).ok()).collect();
        let Some(runs) = runs else { continue };
        let same = difference(&run_of(&runs[0].0), &run_of(&runs[2].0)).is_none();
        if !same || runs[0].0.outcome.halt != Halt::Return {
            continue;
        }
        calls += 1;
        for (sum, (_, trace)) in gas.iter_mut().zip(&runs) {
            *sum += trace.compute_gas;
        }
        generator.learn(&runs[0].0.outcome.data);
        state.apply(&runs[0].0.changes);
    }
    (calls >= 10).then_some((calls, gas))
}

fn geometric_mean(ratios: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = ratios.fold((0.0, 0), |(sum, count), ratio| (sum + ratio.ln(), count + 1));
    if count == 0 { f64::NAN } else { (sum / f64::from(count)).exp() }
}

/// The table, and whether every contract that lifts was lowered and behaves as before.
fn report(answers: &BTreeMap<String, Answer>, arguments: &Arguments) -> (String, bool) {
    let mut text = String::new();
    let measured: BTreeMap<&String, &Measured> = answers
        .iter()
        .filter_map(|(name, answer)| match answer {
            Answer::Measured(measured) => Some((name, &**measured)),
            Answer::Refused(_) | Answer::Wrong(_) => None,
        })
        .collect();
    let _ = write!(
        text,
        "| class | contracts | with calls that return | compute gas | best | worst | above 1.00 | size |\n|---|--:|--:|--:|--:|--:|--:|--:|\n"
    );
    for class in Class::ALL {
        let of_class: Vec<&Measured> = measured.values().copied().filter(|m| m.class == class).collect();
        let ratios: Vec<f64> = of_class.iter().filter(|m| m.returned > 0).map(|m| m.gas.ratio()).collect();
        if of_class.is_empty() {
            continue;
        }
        let _ = writeln!(
            text,
            "| {} | {} | {} | {:.3} | {:.2} | {:.2} | {} | {:.3} |",
            class.name(),
            of_class.len(),
            ratios.len(),
            geometric_mean(ratios.iter().copied()),
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
            ratios.iter().filter(|&&ratio| ratio > 1.0).count(),
            geometric_mean(of_class.iter().map(|m| m.size.ratio())),
        );
    }
    let size = geometric_mean(measured.values().map(|m| m.size.ratio()));
    let gas = geometric_mean(measured.values().filter(|m| m.returned > 0).map(|m| m.gas.ratio()));
    let grown = measured.values().filter(|m| m.size.ratio() > 1.0).count();
    let time: Duration = measured.values().map(|m| m.compile).sum();
    let _ = writeln!(
        text,
        "\nAll: compute gas {gas:.3}, size {size:.3}, {grown} larger than before; compiled in {time:.1?} of CPU time."
    );
    let sum = |part: fn(&ScheduleFacts) -> u64| measured.values().map(|m| part(&m.schedule)).sum::<u64>();
    let (blocks, optimal) = (sum(|facts| facts.blocks as u64), sum(|facts| facts.optimal as u64));
    let _ = writeln!(
        text,
        "Schedules: {optimal} of {blocks} blocks ({:.1} %) need no more DUP, SWAP, POP and PUSH than the lower bound; all together \
         {:.3} times as much gas for them as the bound.",
        100.0 * optimal as f64 / blocks.max(1) as f64,
        sum(|facts| facts.gas) as f64 / sum(|facts| facts.bound).max(1) as f64,
    );
    for (name, m) in measured.iter().filter(|(_, m)| m.size.old <= CODE_SIZE_LIMIT && m.size.new > CODE_SIZE_LIMIT) {
        let _ = writeln!(text, "does not fit an account any more: {name}, {} bytes", m.size.new);
    }
    let mut above: Vec<_> = measured.iter().filter(|(_, m)| m.returned > 0 && m.gas.ratio() > 1.0).collect();
    above.sort_by(|a, b| b.1.gas.ratio().total_cmp(&a.1.gas.ratio()));
    for (name, m) in above {
        let _ = writeln!(text, "above 1.00: {name} {:.3}", m.gas.ratio());
    }
    if arguments.kinds {
        kinds_table(&mut text, &measured);
    }
    if arguments.list {
        for (name, m) in &measured {
            let (gas, size) = (m.gas.ratio(), m.size.ratio());
            let _ = writeln!(text, "{name:<70} {gas:.3} {size:.3}  {} → {} bytes", m.size.old, m.size.new);
        }
    }
    if arguments.only.is_some() {
        functions_table(&mut text, &measured);
    }
    let mut good = true;
    for (name, answer) in answers {
        match answer {
            Answer::Measured(_) => {}
            Answer::Refused(reason) => drop(writeln!(text, "refused: {name}: {reason}")),
            Answer::Wrong(what) => {
                good = false;
                let _ = writeln!(text, "WRONG: {name}: {what}");
            }
        }
    }
    (text, good)
}

fn kinds_table(text: &mut String, measured: &BTreeMap<&String, &Measured>) {
    for class in Class::ALL {
        let mut kinds: BTreeMap<&str, Pair> = BTreeMap::new();
        for m in measured.values().filter(|m| m.class == class) {
            for (kind, pair) in &m.kinds {
                // Each contract weighs the same.
                let part = |gas: u64| gas * 1_000_000 / m.gas.old.max(1);
                let sum = kinds.entry(kind).or_default();
                sum.old += part(pair.old);
                sum.new += part(pair.new);
            }
        }
        let total: u64 = kinds.values().map(|pair| pair.old).sum();
        if total == 0 {
            continue;
        }
        let _ = writeln!(text, "\n{}: percent of the original's compute gas, original → new", class.name());
        for (kind, pair) in kinds {
            let percent = |gas: u64| 100.0 * gas as f64 / total as f64;
            let _ = writeln!(text, "  {kind:<12}{:6.1} → {:5.1}", percent(pair.old), percent(pair.new));
        }
    }
}

fn functions_table(text: &mut String, measured: &BTreeMap<&String, &Measured>) {
    for (name, m) in measured {
        let (gas, size) = (m.gas, m.size);
        let _ = writeln!(
            text,
            "\n{name}: {} calls, gas {} → {} ({:.3}), size {} → {} ({:.3})",
            m.returned,
            gas.old,
            gas.new,
            gas.ratio(),
            size.old,
            size.new,
            size.ratio()
        );
        for (function, pair) in &m.functions {
            let _ = writeln!(text, "  {function:<40}{:>9} → {:>9}  {:.3}", pair.old, pair.new, pair.ratio());
        }
    }
}
