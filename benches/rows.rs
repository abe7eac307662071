//! Rows per executed EVM instruction, for programs with irregular control flow.
//!
//! Each program is called with arguments typed by its interface, always the same; calls that return and whose execution can be
//! proved count. The calls of a program are taken as one batch: the planner chooses one plan for all of them, and the simulator runs
//! the batch through it, idle slots included. Nova's own rows are not counted. Every twentieth call is also checked row by row
//! (executor E3). The exit code is 1 if the geometric mean exceeds 60 rows per instruction.
//!
//! The column *naive* is what a circuit with one EVM instruction per slot would need at least, by the same rows: each slot has every
//! arithmetic instruction once at full width, and neither fetches, decodes nor keeps a stack.
//!
//! ```text
//! cargo bench --bench rows                       the table of docs/proving.md
//! cargo bench --bench rows -- --only datetime    programs whose name has a part
//! cargo bench --bench rows -- --calls 50         fewer calls of each program
//! ```

#[expect(dead_code, reason = "shared with the tests of agreement, which need more of it")]
#[path = "../tests/calls/mod.rs"]
mod calls;
#[expect(dead_code, reason = "shared with the tests of agreement, which need more of it")]
#[path = "../tests/corpus/mod.rs"]
mod corpus;

use std::process::ExitCode;

use calls::Generator;
use clap::Parser;
use zvm::evm::Evm;
use zvm::{Call, Input, Program, Source, State};
use zvm_backend_circuit::execute::{Call as CircuitCall, Trace};
use zvm_backend_circuit::planner::{self, Limits};
use zvm_backend_circuit::reference::by_width;
use zvm_ir::{Env, Halt, Word};

/// Arguments of the benchmark.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only programs whose name has this part.
    #[arg(long)]
    only: Option<String>,
    /// How many calls of each program to count.
    #[arg(long, default_value_t = 200)]
    calls: usize,
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

struct Row {
    calls: usize,
    tried: usize,
    instructions: u64,
    rows: u64,
    rows_run: u64,
    steps: u64,
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
        "| program | calls | EVM instructions | steps | rows | idle | rows per instruction | naive, times as many |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let (mut logarithms, mut count) = (0.0, 0);
    for &(what, file, functions) in PROGRAMS {
        let name = format!("{what} ({})", file.rsplit('/').next().unwrap_or(file).trim_end_matches(".json"));
        if arguments.only.as_ref().is_some_and(|part| !name.contains(part.as_str())) {
            continue;
        }
        match measure(&folder.join(file).display().to_string(), functions, arguments.calls) {
            Ok(Row { calls: 0, tried, .. }) => println!("| {name} | none of {tried} can be proved | | | | | | |"),
            Ok(Row { calls, tried, instructions, rows, rows_run, steps }) => {
                let rate = rows as f64 / instructions.max(1) as f64;
                println!(
                    "| {name} | {calls} of {tried} | {instructions} | {steps} | {rows} | {:.1} % | {rate:.1} | {:.0} |",
                    100.0 * (rows - rows_run) as f64 / rows.max(1) as f64,
                    naive as f64 / rate
                );
                logarithms += rate.ln();
                count += 1;
            }
            Err(error) => println!("| {name} | {error} | | | | | | |"),
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

fn measure(path: &str, functions: &[&str], wanted: usize) -> Result<Row, zvm::Error> {
    let input = Input::read(path, None)?;
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(path).unwrap_or_default()).unwrap_or_default();
    let program = Program::load(&input)?;
    let circuit = program.circuit()?;
    let evm = Evm::new(program.code().ok_or(zvm::Error::NoBytecode)?);
    let mut generator = Generator::new(7);
    let state = State::default();
    let mut traces: Vec<Trace> = Vec::new();
    let (mut instructions, mut tried) = (0, 0);
    while traces.len() < wanted && tried < 20 * wanted {
        let Some(mut call) = next_call(&record, &input, functions, &mut generator, tried) else { break };
        tried += 1;
        call.env.callvalue = Word::ZERO;
        let env = call.env_in(&state);
        let (execution, trace) = evm.inspect(&call.calldata, &env, &state)?;
        if execution.outcome.halt != Halt::Return {
            continue;
        }
        let circuit_call = CircuitCall { calldata: call.calldata.clone(), env };
        let Ok(run) = circuit.execute(&circuit_call) else { continue };
        assert_eq!(*run.outcome(), execution.outcome, "{path}: the executors disagree");
        if traces.len().is_multiple_of(20) {
            let (outcome, _) = circuit.check(&circuit_call)?;
            assert_eq!(outcome, execution.outcome, "{path}: the circuit disagrees");
        }
        instructions += trace.instructions;
        traces.push(run.trace);
    }
    if traces.is_empty() {
        return Ok(Row { calls: 0, tried, instructions, rows: 0, rows_run: 0, steps: 0 });
    }
    let (_, estimate) = planner::plan(&circuit, &traces, Limits::default())?;
    let simulation = estimate.simulation;
    Ok(Row {
        calls: traces.len(),
        tried,
        instructions,
        rows: simulation.rows,
        rows_run: simulation.rows_run,
        steps: simulation.steps,
    })
}
