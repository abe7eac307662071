//! Each program's circuit is the same over BN254's scalar field and over BLS12-381's: as many rows in every region, and whole
//! executions satisfied over both. Contracts start from the state that their constructor leaves, each call from that of the calls before.

mod calls;
mod corpus;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use blstrs::Scalar;
use calls::{Generator, deployed, of_interface};
use libtest_mimic::{Arguments, Failed, Trial};
use zvm::state::World;
use zvm::{Input, Program, Source};
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::replay::Prepared;
use zvm_backend_circuit::short;

/// Executions with more rows are not checked, so that a trial takes seconds.
const ROWS: u64 = 100_000;
/// Executions that are checked of each program.
const CHECKED: usize = 4;

const CONTRACTS: [&str; 8] = [
    "abdk__ABDKMath64x64Wrapper__0.8.20-o200",
    "datetime__QFDateTimeWrapper__0.8.4-noopt",
    "openzeppelin__OZ5SignedMathWrapper__0.8.30-o200",
    "solady__SoladyLibBitWrapper__0.8.37-ir200",
    "uniswap-v2__UniLib2BabylonianWrapper__0.6.12-o200",
    "openzeppelin__ERC20PresetFixedSupply__0.8.4-o200",
    "weth__WETH9__0.5.17-o200",
    "vyper-examples_ERC20__ERC20__vy0.3.10",
];

fn main() {
    let arguments = Arguments::from_args();
    let examples = ["collatz/Collatz.json", "fixed-point/FixedPoint.json", "hashes/Hashes.json"];
    let mut trials: Vec<Trial> = examples
        .into_iter()
        .map(|file| Trial::test(format!("examples/{file}"), move || check(&corpus::example(file))))
        .collect();
    for name in CONTRACTS {
        let file = format!("contracts/{name}.json");
        trials.push(corpus::trial(&file, &file, check));
    }
    for file in ["benchmarks/revmc.fibonacci-calldata.json", "benchmarks/revmc.factorial.json"] {
        trials.push(corpus::trial(file, file, check));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn failed(error: impl std::fmt::Display) -> Failed {
    error.to_string().into()
}

fn check(path: &Path) -> Result<(), Failed> {
    let mut input = Input::read(&path.display().to_string(), None).map_err(failed)?;
    let Source::Contract(contract) = &mut input.source else { return Err("not a contract".into()) };
    let mut generator = Generator::new(7);
    let mut state = deployed(contract, &mut generator);
    let contract = &contract.clone();
    let program = Arc::new(Program::load(&input).map_err(failed)?.circuit().map_err(failed)?);
    // Splitting a key into halves takes a row for each bit of the modulus: one more over BLS12-381, in slots that walk the state tree.
    let mut more = BTreeMap::new();
    for (region, &rows) in program.rows() {
        let bn254 = program.count::<Fr>(region).map_err(failed)?;
        let bls12 = program.count::<Scalar>(region).map_err(failed)?;
        let splits = u64::from(program.system(region).is_some_and(|system| system.walks()));
        if bn254 != rows || !(rows..=rows + splits).contains(&bls12) {
            return Err(format!("{region} has {bn254} rows, not {rows}, and {bls12} over the other field").into());
        }
        more.insert(region, bls12 - bn254);
    }
    let mut checked = 0;
    for at in 0..60 {
        let call = match &contract.abi {
            Some(abi) => of_interface(&mut generator, abi, at),
            None => generator.words(1, 60),
        };
        let env = call.env_in(&state);
        let world = World { state: &state, env: &env, code: &contract.runtime };
        let call = Call { calldata: call.calldata.clone(), env: env.clone() };
        let execution = match program.execute_all(&[call], &world) {
            Ok(execution) => Arc::new(execution),
            Err(CircuitError::Unprovable(_)) => continue,
            Err(error) => return Err(failed(error)),
        };
        let bn254 = Prepared::<Fr>::alone(&program, &execution).map_err(failed)?;
        let bls12 = Prepared::<Scalar>::alone(&program, &execution).map_err(failed)?;
        let rows: u64 =
            bn254.trace.runs().iter().map(|&(region, count)| program.rows()[region].saturating_mul(count)).sum();
        if rows > ROWS {
            continue;
        }
        let runs = bn254.trace.runs().to_vec();
        let (rows, _) = short::check(&program, bn254).map_err(failed)?;
        let (other_rows, _) = short::check(&program, bls12).map_err(failed)?;
        let splits: u64 = runs.iter().map(|&(region, count)| more[&region] * count).sum();
        if rows + splits != other_rows {
            return Err(format!("{rows} rows over one field, {other_rows} over the other").into());
        }
        generator.learn(&execution.outcome().data);
        let storage = &mut state.accounts.entry(env.address).or_default().storage;
        storage.extend(execution.outcome().storage.iter().map(|(&(_, slot), &value)| (slot, value)));
        checked += 1;
        if checked == CHECKED {
            return Ok(());
        }
    }
    if checked == 0 { Err("no execution could be checked".into()) } else { Ok(()) }
}
