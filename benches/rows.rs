//! Rows per executed EVM instruction, for programs with irregular control flow.
//!
//! Each program is called with arguments typed by its interface, always the same; calls that return and whose execution can be
//! proved count. The calls of a program are one batch, which is folded under the plan that the planner chooses for it, and verified. What
//! counts are the rows of the steps that were folded, idle slots included, Nova's own apart; and how many of them the simulator said
//! there would be. The exit code is 1 if the geometric mean exceeds 60 rows per instruction.
//!
//! The column *naive* is what a circuit with one EVM instruction per slot would need at least, by the same rows: each slot has every
//! arithmetic instruction once at full width, and neither fetches, decodes nor keeps a stack.
//!
//! ```text
//! cargo bench --bench rows                       the table of docs/proving.md
//! cargo bench --bench rows -- --count            nothing is folded: rows are the simulator's
//! cargo bench --bench rows -- --only datetime    programs whose name has a part
//! cargo bench --bench rows -- --calls 50         fewer calls of each program
//! ```

#[expect(dead_code, reason = "shared with the tests of agreement, which need more of it")]
#[path = "../tests/calls/mod.rs"]
mod calls;
#[expect(dead_code, reason = "shared with the tests of agreement, which need more of it")]
#[path = "../tests/corpus/mod.rs"]
mod corpus;

use std::ops::ControlFlow;
use std::process::ExitCode;

use calls::Generator;
use clap::Parser;
use zvm::artifact::{self, Expected, Kind};
use zvm::evm::Evm;
use zvm::{Call, Input, Program, Source, Start, State};
use zvm_backend_circuit::execute::Call as CircuitCall;
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::planner::{self, Limits};
use zvm_backend_circuit::reference::by_width;
use zvm_backend_circuit::usage;
use zvm_ir::{Env, Halt, Word};

/// Arguments of the benchmark.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only programs whose name has this part.
    #[arg(long)]
    only: Option<String>,
    /// How many calls of each program make its batch.
    #[arg(long, default_value_t = 200)]
    calls: usize,
    /// Count the rows of the plan and fold nothing.
    #[arg(long)]
    count: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What the programs do, the file of the corpus, and the functions that are called; all that are pure if none is named.
const PROGRAMS: &[(&str, &str, &[&str])] = &[
    ("date conversion", "contracts/solady__SoladyDateTimeLibWrapper__0.8.30-o200.json", &[]),
    ("date conversion", "contracts/datetime__QFDateTimeWrapper__0.8.20-o200.json", &[]),
    (
        "fixed-point logarithm",
        "contracts/solady__SoladyFixedPointMathLibWrapper__0.8.30-o200.json",
        &["lnWad", "log2", "log10", "log256"],
    ),
    (
        "fixed-point exponent and power",
        "contracts/solady__SoladyFixedPointMathLibWrapper__0.8.30-o200.json",
        &["expWad", "powWad", "rpow"],
    ),
    ("logarithm in 64.64", "contracts/abdk__ABDKMath64x64Wrapper__0.8.20-o200.json", &["log_2", "ln"]),
    ("exponent and power in 64.64", "contracts/abdk__ABDKMath64x64Wrapper__0.8.20-o200.json", &["exp", "exp_2", "pow"]),
    ("integer square root", "contracts/uniswap-v2__UniLib2BabylonianWrapper__0.6.12-o200.json", &[]),
    ("integer square root", "contracts/openzeppelin__OZ5MathWrapper__0.8.30-o200.json", &["sqrt"]),
    ("square and cube root", "contracts/solady__SoladyFixedPointMathLibWrapper__0.8.30-o200.json", &["sqrt", "cbrt"]),
    ("bit tricks", "contracts/solady__SoladyLibBitWrapper__0.8.30-o200.json", &[]),
    ("bit tricks", "contracts/uniswap-v2__UniLib4BitMathWrapper__0.7.6-o200.json", &[]),
    ("factorial", "benchmarks/revmc.factorial.json", &[]),
    ("Fibonacci numbers", "benchmarks/revmc.fibonacci-calldata.json", &[]),
    ("Poseidon in Solidity", "contracts/poseidon__PoseidonT3__0.8.20-o200.json", &[]),
    ("quadruple precision", "contracts/abdk__ABDKMathQuadWrapper__0.8.20-o200.json", &[]),
];

/// The most rows per executed EVM instruction, in the geometric mean.
const BAR: f64 = 60.0;

/// What a program's batch takes.
#[derive(Default)]
struct Row {
    calls: usize,
    tried: usize,
    instructions: u64,
    steps: u64,
    /// The rows of all steps.
    rows: u64,
    /// Those of slots that run.
    rows_run: u64,
    /// What the simulator says of the rows of slots.
    predicted: u64,
    /// Of folding and of verification; zero where nothing was folded.
    cpu_seconds: [f64; 2],
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(folder) = corpus::folder() else {
        eprintln!("the corpus is needed: ZVM_CORPUS, or ../shared/corpus");
        return ExitCode::FAILURE;
    };
    let naive: u64 = match by_width() {
        Ok(costs) => {
            let full = |cost: &&zvm_backend_circuit::reference::Cost| cost.widths.iter().all(|&width| width == 256);
            costs.iter().filter(full).map(|cost| cost.cold).sum()
        }
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    println!(
        "| program | calls | EVM instructions | steps | rows | of the simulator | idle | CPU seconds, verified in | rows per instruction | \
         naive, times as many |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let (mut logarithms, mut count) = (0.0, 0);
    for &(what, file, functions) in PROGRAMS {
        let name = format!("{what} ({})", file.rsplit('/').next().unwrap_or(file).trim_end_matches(".json"));
        if arguments.only.as_ref().is_some_and(|part| !name.contains(part.as_str())) {
            continue;
        }
        match measure(&folder.join(file).display().to_string(), functions, &arguments) {
            Ok(Row { calls: 0, tried, .. }) => println!("| {name} | none of {tried} can be proved | | | | | | | | |"),
            Ok(row) => {
                let rate = row.rows as f64 / row.instructions.max(1) as f64;
                let share = |part: u64| part as f64 / row.rows.max(1) as f64;
                let Row { calls, tried, instructions, steps, rows, cpu_seconds: [fold, verify], .. } = row;
                println!(
                    "| {name} | {calls} of {tried} | {instructions} | {steps} | {rows} | {:.3} | {:.1} % | {fold:.0}, {verify:.1} | {rate:.1} | \
                     {:.0} |",
                    share(row.predicted),
                    100.0 * (1.0 - share(row.rows_run)),
                    naive as f64 / rate
                );
                logarithms += rate.ln();
                count += 1;
            }
            Err(error) => println!("| {name} | {error} | | | | | | | | |"),
        }
    }
    if count == 0 {
        return ExitCode::FAILURE;
    }
    let mean = (logarithms / f64::from(count)).exp();
    println!("\ngeometric mean: {mean:.1} rows per executed EVM instruction");
    if mean <= BAR { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The calls of a record of the public benchmarks, or typed ones.
fn next_call(
    record: &serde_json::Value,
    input: &Input,
    functions: &[&str],
    generator: &mut Generator,
    at: usize,
) -> Option<Call> {
    if let Some(calls) = record["calls"].as_array() {
        let data = hex::decode(calls.first()?["calldata"].as_str()?.trim_start_matches("0x")).ok()?;
        // The published call has the number in its last word; smaller ones make a batch.
        let mut calldata = data;
        let end = calldata.len();
        if at > 0 && end >= 32 {
            calldata[end - 32..].copy_from_slice(&Word::from(at as u64 * 37 % 400).to_be_bytes::<32>());
        }
        return Some(Call { calldata, env: Env::default() });
    }
    let Source::Contract(contract) = &input.source else { return None };
    let abi = contract.abi.as_ref()?;
    let wanted: Vec<_> = abi
        .functions()
        .filter(|function| functions.is_empty() || functions.contains(&function.name.as_str()))
        .filter(|function| !function.inputs.is_empty())
        .collect();
    let function = wanted.get(at % wanted.len().max(1))?;
    Some(generator.call(function))
}

fn measure(path: &str, functions: &[&str], arguments: &Arguments) -> Result<Row, zvm::Error> {
    let input = Input::read(path, None)?;
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).unwrap_or_default()).unwrap_or_default();
    let program = Program::load(&input)?;
    let circuit = program.circuit()?;
    let code = program.code().ok_or(zvm::Error::NoBytecode)?;
    let evm = Evm::new(code);
    let mut generator = Generator::new(7);
    let state = State::default();
    let mut calls: Vec<Call> = Vec::new();
    let mut outcomes = Vec::new();
    let mut row = Row::default();
    while calls.len() < arguments.calls && row.tried < 20 * arguments.calls {
        let Some(mut call) = next_call(&record, &input, functions, &mut generator, row.tried) else { break };
        row.tried += 1;
        call.env.callvalue = Word::ZERO;
        let env = call.env_in(&state);
        let (execution, trace) = evm.inspect(&call.calldata, &env, &state)?;
        if execution.outcome.halt != Halt::Return {
            continue;
        }
        if circuit.execute(&CircuitCall { calldata: call.calldata.clone(), env }).is_err() {
            continue;
        }
        row.instructions += trace.instructions;
        calls.push(call);
        outcomes.push(execution.outcome);
    }
    row.calls = calls.len();
    if calls.is_empty() {
        return Ok(row);
    }
    if arguments.count {
        let prepared = Start::State(&state).prepare::<Fr>(&circuit, code, &calls)?;
        assert_eq!(prepared.execution.outcomes, outcomes, "{path}: the executors disagree");
        let (_, estimate) = planner::schedule(&circuit, &prepared.trace, Limits::default())?;
        let simulation = estimate.simulation;
        (row.steps, row.rows, row.rows_run) = (simulation.steps, simulation.rows, simulation.rows_run);
        row.predicted = row.rows;
        return Ok(row);
    }
    let mut progress = |_| ControlFlow::Continue(());
    let options = artifact::Options {
        kind: Kind::Recursive,
        cache: None,
        limits: Limits::default(),
        keep: None,
        progress: &mut progress,
    };
    let proved = artifact::prove(&program, &calls, &state, options)?;
    assert_eq!(proved.file.outcomes, outcomes, "{path}: the executors disagree");
    let facts = &proved.facts;
    (row.steps, row.rows, row.rows_run) = (facts.steps, facts.rows_total, facts.rows_run);
    row.predicted = facts.rows_predicted;
    let begun = usage::cpu_seconds().unwrap_or_default();
    let expected = Expected { calls: Some(proved.file.calls.clone()), ..Expected::default() };
    artifact::verify(path, &proved.file.encode(), &program, &expected, None)?;
    row.cpu_seconds = [facts.cpu_seconds, usage::cpu_seconds().unwrap_or_default() - begun];
    Ok(row)
}
