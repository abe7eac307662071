//! The constructor that is compiled anew deploys what the original deploys: for every constructor call, both fail alike or
//! leave the same accounts, and the codes they leave behave alike, immutables included.
//!
//! Each trial is a contract; with `ZVM_SLOW` all of the corpus.

#[expect(dead_code, reason = "shared with the tests of agreement, which need more of it")]
mod calls;
mod corpus;

use std::collections::BTreeSet;
use std::path::Path;

use calls::{Generator, of_interface};
use libtest_mimic::{Arguments, Failed, Trial};
use zvm::creation::creation;
use zvm::evm::Evm;
use zvm::evm::deploy::{Deployment, deploy};
use zvm::executors::{Run, difference};
use zvm::{Call, Contract, Error, Exit, Input, Program, Source, State};
use zvm_backend_evm::{Optimize, Options, check};
use zvm_ir::Halt;

/// Constructor calls per contract.
const CONSTRUCTIONS: usize = 12;
/// Calls of the deployed code, after the constructor calls together.
const CALLS: usize = 120;
/// A call that needs more is not made.
const GAS_LIMIT: u64 = 3_000_000;

/// Contracts of every kind: with and without arguments, state and immutables, several compilers.
const CONTRACTS: &[&str] = &[
    "openzeppelin__ERC20PresetFixedSupply__0.8.4-o200",
    "openzeppelin__TokenTimelock__0.8.20-o200-paris",
    "openzeppelin__BeaconProxy__0.8.30-ir200",
    "openzeppelin__VestingWallet__0.8.30-noopt",
    "uniswap-v2__UniswapV2Router02__0.6.6-o999999",
    "vyper-examples_ERC20__ERC20__vy0.3.10",
    "weth__WETH9__0.5.17-o200",
];

/// Constructors that are not compiled anew, with the code of the reason.
// A library puts its own address into its code; the constructor reads calldata.
const REFUSED: &[(&str, &str)] = &[
    ("matic-pos__ChildERC20__0.6.6-o200", "ZV0103"),
    ("matic-pos__MaticWETH__0.6.6-noopt", "ZV0103"),
    ("poseidon__PoseidonT2__0.8.20-o200", "ZV0507"),
    ("poseidon__PoseidonT3__0.7.6-o200", "ZV0507"),
    ("poseidon__PoseidonT3__0.8.20-o200", "ZV0507"),
    ("poseidon__PoseidonT4__0.8.20-o200", "ZV0507"),
];

fn main() {
    let arguments = Arguments::from_args();
    let mut names: BTreeSet<String> = CONTRACTS.iter().map(|&name| name.to_owned()).collect();
    if std::env::var_os("ZVM_SLOW").is_some() {
        let entries = corpus::folder().and_then(|folder| folder.join("contracts").read_dir().ok());
        let files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        names.extend(files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())));
    }
    let trial = |name: &String| {
        let file = format!("contracts/{name}.json");
        corpus::trial(name, &file, check_contract)
    };
    let mut trials: Vec<Trial> = names.iter().map(trial).collect();
    trials.push(Trial::test("examples/collatz/Collatz.json", || {
        check_contract(&corpus::example("collatz/Collatz.json"))
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

fn check_contract(path: &Path) -> Result<(), Failed> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let input = Input::read(&path.display().to_string(), None).map_err(failed)?;
    let Source::Contract(contract) = &input.source else { return Err("not a contract".into()) };
    let program = match Program::load_template(&input) {
        // What does not lift is the lifter's matter.
        Err(error) if error.exit() == Exit::Subset => return Ok(()),
        result => result.map_err(failed)?,
    };
    let old = contract.creation.clone().ok_or("no creation code")?;
    for optimize in [Optimize::Gas, Optimize::Size] {
        let options = Options { optimize, ..Options::default() };
        let runtime = program.lowered(&options).map_err(failed)?;
        let new = match creation(contract, &runtime, &options) {
            Ok(Some(code)) => code,
            Ok(None) => return Err("no creation code".into()),
            Err(error) => {
                println!("{name}: {}: {error}", error.code());
                let listed = REFUSED.contains(&(name.as_str(), error.code()));
                return if listed { Ok(()) } else { Err(failed(error)) };
            }
        };
        for code in [&runtime, &new] {
            check(code).map_err(|errors| format!("{errors:?}"))?;
        }
        let deployed = compare(contract, &old, &new.code)?;
        println!("{name}: {} → {} bytes, {deployed} deployments", old.len(), new.code.len());
    }
    Ok(())
}

/// Deploys both codes again and again, and calls what they deploy. How often both deployed something.
fn compare(contract: &Contract, old: &[u8], new: &[u8]) -> Result<usize, Failed> {
    let mut generator = Generator::new(old.len() as u64);
    let mut deployed = 0;
    for _ in 0..CONSTRUCTIONS {
        let call = generator.construction(contract.abi.as_ref().and_then(|abi| abi.constructor.as_ref()));
        let results = [old, new].map(|code| {
            let code = [code, call.calldata.as_slice()].concat();
            deploy(&code, &call.env, &State::default())
        });
        let context = || format!("arguments 0x{}, value {}", hex::encode(&call.calldata), call.env.callvalue);
        match results {
            [Ok(old), Ok(new)] => {
                deployed += 1;
                same_accounts(&old, &new, &call).map_err(|what| format!("{what} at {}", context()))?;
                same_behaviour(contract, old, new, &mut generator)
                    .map_err(|what| format!("{what} at {}", context()))?;
            }
            [Err(old), Err(new)] if old.to_string() == new.to_string() => {}
            [old, new] => {
                let [old, new] = [old, new].map(|result| result.map(|done| done.runtime.len()));
                return Err(format!("{old:?} and {new:?} at {}", context()).into());
            }
        }
    }
    Ok(deployed)
}

/// The same accounts, but for the deployed code itself.
fn same_accounts(old: &Deployment, new: &Deployment, call: &Call) -> Result<(), String> {
    let strip = |deployment: &Deployment| {
        let mut state = deployment.state.clone();
        if let Some(account) = state.accounts.get_mut(&call.env.address) {
            account.code.clear();
        }
        state.to_json()
    };
    if strip(old) == strip(new) { Ok(()) } else { Err(format!("{}\nand {}", strip(old), strip(new))) }
}

fn same_behaviour(
    contract: &Contract,
    old: Deployment,
    new: Deployment,
    generator: &mut Generator,
) -> Result<(), String> {
    let executors = [&old, &new].map(|deployment| Evm::new(&deployment.runtime).with_gas_limit(GAS_LIMIT));
    let mut states = [old.state, new.state];
    for at in 0..CALLS / CONSTRUCTIONS {
        let call = match &contract.abi {
            Some(abi) => of_interface(generator, abi, at),
            None => generator.unknown(),
        };
        let runs: Result<Vec<_>, Error> = executors
            .iter()
            .zip(&states)
            .map(|(evm, state)| Ok(evm.inspect(&call.calldata, &call.env_in(state), state)?.0))
            .collect();
        let Ok(runs) = runs else { continue };
        let [old, new] = &runs[..] else { return Err("two runs".to_owned()) };
        let run_of = |execution: &zvm::evm::Execution| {
            let zvm::evm::Execution { outcome, changes, gas } = execution.clone();
            Run { outcome, changes: Some(changes), gas: Some(gas), rows: None }
        };
        if let Some(part) = difference(&run_of(old), &run_of(new)) {
            return Err(format!("differs in {part} at calldata 0x{}", hex::encode(&call.calldata)));
        }
        if old.outcome.halt == Halt::Return {
            generator.learn(&old.outcome.data);
        }
        for (state, run) in states.iter_mut().zip(&runs) {
            state.apply(&run.changes);
        }
    }
    Ok(())
}

fn failed(error: Error) -> Failed {
    format!("{}: {error}", error.code()).into()
}
