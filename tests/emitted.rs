//! What is promised of emitted code besides that it does the same (`tests/agree.rs`): code that fits an account still fits,
//! twice is the same bytes, each block is checked, the source map leads to instructions, and code for every fork, made cheap in
//! whatever, does by the rules of that fork what the original does.
//!
//! Each trial is a contract. With `ZVM_SLOW=1` those that are not listed here are compiled cheap in gas for every fork and otherwise
//! once in each mode; with `ZVM_SLOW=all` in every mode for every fork, twice.

#[expect(dead_code, reason = "shared with the tests of agreement, which need more of it")]
mod calls;
mod corpus;

use std::collections::BTreeSet;
use std::path::Path;

use calls::{Generator, of_interface};
use libtest_mimic::{Arguments, Failed, Trial};
use revm::bytecode::opcode;
use zvm::evm::{Evm, Execution};
use zvm::executors::{Run, difference};
use zvm::program::CODE_SIZE_LIMIT;
use zvm::state::Changes;
use zvm::{Error, Exit, Input, Program, Source, State};
use zvm_backend_evm::{Fork, LowerError, Lowered, Optimize, Options, check};

const MODES: [Optimize; 3] = [Optimize::Gas, Optimize::Size, Optimize::None];

/// Calls for each fork.
const CALLS: usize = 40;
/// A call that needs more is not made.
const GAS_LIMIT: u64 = 3_000_000;
/// What calls that are made get, by the rules of every fork: creating an account costs much more in the newest.
const GAS: u64 = 100_000_000;

/// Contracts whose code comes close to the limit, and some of every compiler.
const CONTRACTS: &[&str] = &[
    "abdk__ABDKMathQuadWrapper__0.8.4-noopt",
    "circomlibjs__Poseidon5__circomlibjs",
    "openzeppelin__Create2Impl__0.5.17-artifact",
    "openzeppelin__ERC20PresetFixedSupply__0.8.4-o200",
    "poseidon__PoseidonT3__0.8.20-o200",
    "solady__SoladyLibBitWrapper__0.8.37-ir200",
    "solady__SoladyP256Wrapper__0.8.30-o200",
    "uniswap-v2__UniswapV2Router02__0.6.6-o999999",
    "vyper-examples_ERC20__ERC20__vy0.3.10-Ocodesize",
    "weth__WETH9__0.5.17-o200",
];

fn main() {
    let arguments = Arguments::from_args();
    let mut names: BTreeSet<String> = CONTRACTS.iter().map(|&name| name.to_owned()).collect();
    if std::env::var_os("ZVM_SLOW").is_some() {
        let entries = corpus::folder().and_then(|folder| folder.join("contracts").read_dir().ok());
        let files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
        names.extend(files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())));
    }
    let trial = |name: &String| corpus::trial(name, &format!("contracts/{name}.json"), check_contract);
    let mut trials: Vec<Trial> = names.iter().map(trial).collect();
    trials.push(Trial::test("examples/fixed-point/FixedPoint.json", || {
        check_contract(&corpus::example("fixed-point/FixedPoint.json"))
    }));
    libtest_mimic::run(&arguments, trials).exit();
}

fn check_contract(path: &Path) -> Result<(), Failed> {
    let input = Input::read(&path.display().to_string(), None).map_err(failed)?;
    let program = match Program::load_template(&input) {
        // What does not lift is the lifter's matter.
        Err(error) if error.exit() == Exit::Subset => return Ok(()),
        result => result.map_err(failed)?,
    };
    let code = program.code().ok_or("no bytecode")?;
    let modes = modes(path);
    for optimize in MODES {
        let options = Options { optimize, ..Options::default() };
        let lowered = program.lowered(&options).map_err(failed)?;
        if modes.contains(&optimize) {
            let again = program.lowered(&options).map_err(failed)?;
            if (&lowered.code, &lowered.source_map) != (&again.code, &again.source_map) {
                return Err(format!("{optimize:?}: twice is not the same").into());
            }
        }
        if optimize != Optimize::None && code.len() <= CODE_SIZE_LIMIT && lowered.code.len() > CODE_SIZE_LIMIT {
            return Err(format!("{optimize:?}: {} bytes do not fit an account", lowered.code.len()).into());
        }
        check(&lowered).map_err(|errors| format!("{optimize:?}: {errors:?}"))?;
        check_map(&lowered, code).map_err(|what| format!("{optimize:?}: {what}"))?;
    }
    // Only code without gaps can be run.
    match Program::load(&input) {
        Err(error) if error.exit() == Exit::Subset => Ok(()),
        result => check_forks(&input, &result.map_err(failed)?, modes),
    }
}

/// The modes in which a contract is compiled for every fork, and twice.
fn modes(path: &Path) -> &'static [Optimize] {
    let listed = CONTRACTS.iter().any(|&name| path.file_stem() == Some(name.as_ref()));
    let all = std::env::var_os("ZVM_SLOW").as_deref() == Some("all".as_ref());
    if listed || all { &MODES } else { &MODES[..1] }
}

/// Where the instructions of some code start.
fn starts(code: &[u8]) -> BTreeSet<u32> {
    let mut starts = BTreeSet::new();
    let mut at = 0;
    while let Some(&byte) = code.get(at) {
        starts.insert(at as u32);
        at += match byte {
            opcode::PUSH1..=opcode::PUSH32 => 2 + usize::from(byte - opcode::PUSH1),
            _ => 1,
        };
    }
    starts
}

/// Every instruction has an origin, which is one; immutables are the words of a PUSH32 in both; nothing is out of range.
fn check_map(lowered: &Lowered, original: &[u8]) -> Result<(), String> {
    let instructions = starts(&lowered.code[..lowered.code_len()]);
    let origins = starts(original);
    for &here in &instructions {
        match lowered.origin(here) {
            Some(there) if origins.contains(&there) => {}
            other => return Err(format!("the instruction at {here:#x} comes from {other:x?}")),
        }
    }
    let sorted = lowered.source_map.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !sorted || lowered.source_map.iter().any(|(here, _)| !instructions.contains(here)) {
        return Err("the map is not a list of instructions in order".to_owned());
    }
    for &(here, there) in &lowered.immutables {
        let zeros = [0u8; 32];
        let at = |code: &[u8], place: u32| code.get(place as usize - 1) == Some(&opcode::PUSH32);
        if !instructions.contains(&(here - 1)) || !at(&lowered.code, here) || !at(original, there) {
            return Err(format!("the immutable at {here:#x} ({there:#x}) is not a word of a PUSH32"));
        }
        if lowered.code.get(here as usize..here as usize + 32) != Some(&zeros) {
            return Err(format!("the immutable at {here:#x} is filled in"));
        }
    }
    let mut end = lowered.code_len() as u32;
    for data in &lowered.data {
        if data.start != end {
            return Err(format!("the data at {:#x} do not follow {end:#x}", data.start));
        }
        end += data.len;
    }
    if end as usize == lowered.code.len() { Ok(()) } else { Err("there are bytes behind the data".to_owned()) }
}

/// Who logs transfers of value (EIP-7708).
const SYSTEM: [u8; 20] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xfe,
];

/// The oldest fork that has all instructions of some code.
fn needs(code: &[u8]) -> Fork {
    let since = |at: u32| match code.get(at as usize) {
        Some(&opcode::PUSH0) => Fork::Shanghai,
        Some(&(opcode::MCOPY | opcode::TLOAD | opcode::TSTORE | opcode::BLOBHASH | opcode::BLOBBASEFEE)) => {
            Fork::Cancun
        }
        Some(&opcode::CLZ) => Fork::Osaka,
        _ => Fork::London,
    };
    starts(code).into_iter().map(since).max().unwrap_or(Fork::London)
}

/// Code for each fork, by its rules, does what the original does by the same rules, or by those of the oldest fork that has
/// its instructions: forks also differ in their precompiled contracts.
fn check_forks(input: &Input, program: &Program, modes: &[Optimize]) -> Result<(), Failed> {
    let Source::Contract(contract) = &input.source else { return Err("not a contract".into()) };
    let end = contract.runtime.len() - program.metadata().map_or(0, <[u8]>::len);
    let since = needs(&contract.runtime[..end]);
    let probe = Evm::new(&contract.runtime).with_gas_limit(GAS_LIMIT);
    for fork in Fork::ALL {
        let original = Evm::new(&contract.runtime).with_gas_limit(GAS).with_fork(fork.max(since));
        let mut emitted: Vec<(Optimize, Evm)> = Vec::new();
        for &optimize in modes {
            let lowered = match program.lowered(&Options { fork, optimize, ..Options::default() }) {
                Err(Error::Lower(LowerError::Unsupported { .. })) if fork < Fork::Cancun => continue,
                result => result.map_err(failed)?,
            };
            check(&lowered).map_err(|errors| format!("{fork} {optimize:?}: {errors:?}"))?;
            emitted.push((optimize, Evm::new(&lowered.code).with_gas_limit(GAS).with_fork(fork)));
        }
        let mut generator = Generator::new(contract.runtime.len() as u64);
        let mut state = State::default();
        for at in 0..if emitted.is_empty() { 0 } else { CALLS } {
            let call = match &contract.abi {
                Some(abi) => of_interface(&mut generator, abi, at),
                None => generator.unknown(),
            };
            let env = call.env_in(&state);
            if probe.run(&call.calldata, &env, &state).is_err() {
                continue;
            }
            let expected = original.run(&call.calldata, &env, &state).map_err(failed)?;
            for (optimize, emitted) in &emitted {
                let found = emitted.run(&call.calldata, &env, &state).map_err(failed)?;
                if let Some(part) = difference(&run_of(&expected), &run_of(&found)) {
                    let calldata = hex::encode(&call.calldata);
                    return Err(format!(
                        "{fork} {optimize:?} differs in {part} at calldata 0x{calldata}\n{expected:?}\n{found:?}"
                    )
                    .into());
                }
            }
            generator.learn(&expected.outcome.data);
            state.apply(&expected.changes);
        }
    }
    Ok(())
}

fn run_of(execution: &Execution) -> Run {
    let mut outcome = execution.outcome.clone();
    outcome.logs.retain(|log| log.address != SYSTEM);
    let changes: Changes = execution.changes.clone();
    Run { outcome, changes: Some(changes), gas: None, rows: None }
}

fn failed(error: Error) -> Failed {
    format!("{}: {error}", error.code()).into()
}
