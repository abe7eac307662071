//! If a program compiles then for every input `Outcome(E0) = Outcome(E1) = Outcome(E2) = Outcome(E3)`.
//!
//! Each trial is a contract: at least 200 calls of the kinds in `calls`, state carried from one to the next. E3 is left out
//! only of executions that the circuit refuses as unprovable.

mod calls;
mod corpus;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use calls::{Generator, deployed, of_interface};
use libtest_mimic::{Arguments, Failed, Trial};
use zvm::evm::Evm;
use zvm::executors::{Executors, Kind, Limits, agree, difference};
use zvm::{Call, Contract, Error, Exit, Input, Program, Source, State};
use zvm_ir::Halt;

/// A call that needs more is not made: no program here needs as much for a call that is not a loop without end.
const LIMITS: Limits = Limits { gas: 3_000_000, instructions: 30_000_000 };

/// Which executors a contract is run in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ring {
    /// All four; every function can be proved except the named ones, in alphabetical order.
    Proof(&'static [&'static str]),
    /// E3 is tried and may refuse everything.
    L1,
    /// As `L1`, without E3: every contract of the corpus, deployed by its constructor where there is one that succeeds;
    /// every jump that E0 takes is an edge of the lift.
    Sweep,
}

impl Ring {
    fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Proof(_) | Self::L1 => &Kind::ALL,
            Self::Sweep => &[Kind::Evm, Kind::Ir, Kind::Lowered],
        }
    }

    fn calls(self) -> usize {
        match self {
            Self::Proof(_) | Self::L1 => 220,
            Self::Sweep => 300,
        }
    }
}

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = vec![
        example("collatz/Collatz.json"),
        example("fixed-point/FixedPoint.json"),
        words("benchmarks/revmc.fibonacci-calldata.json", 300),
        words("benchmarks/revmc.factorial.json", 300),
    ];
    for (file, unprovable) in PURE {
        trials.push(contract(file, Ring::Proof(unprovable)));
    }
    for file in STATEFUL {
        trials.push(contract(file, Ring::L1));
    }
    if std::env::var_os("ZVM_SLOW").is_some() {
        trials.extend(all_contracts().into_iter().map(|name| contract(&name, Ring::Sweep)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// The names of all contracts of the corpus, in order.
fn all_contracts() -> BTreeSet<String> {
    let entries = corpus::folder().and_then(|folder| folder.join("contracts").read_dir().ok());
    let files = entries.into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect()
}

/// Storage-free contracts, and those of their functions that need memory which cannot be promoted.
const PURE: &[(&str, &[&str])] = &[
    ("abdk__ABDKMath64x64Wrapper__0.8.20-noopt", &[]),
    ("abdk__ABDKMath64x64Wrapper__0.8.20-o200", &[]),
    ("abdk__ABDKMath64x64Wrapper__0.8.28-ir200", &[]),
    ("datetime__QFDateTimeWrapper__0.8.20-o200", &[]),
    ("datetime__QFDateTimeWrapper__0.8.4-noopt", &[]),
    ("openzeppelin__OZ5SafeCastWrapper__0.8.30-o200", &[]),
    ("openzeppelin__OZ5SignedMathWrapper__0.8.30-o200", &[]),
    ("solady__SoladyLibBitWrapper__0.8.30-o200", &[]),
    ("solady__SoladyLibBitWrapper__0.8.37-ir200", &[]),
    ("solady__SoladySafeCastLibWrapper__0.8.30-o200", &[]),
    ("uniswap-v2__UniLib2BabylonianWrapper__0.6.12-o200", &[]),
    ("uniswap-v2__UniLib2BitMathWrapper__0.6.12-o200", &[]),
    ("uniswap-v2__UniLib4BabylonianWrapper__0.7.6-o200", &[]),
    ("uniswap-v2__UniLib4BitMathWrapper__0.7.6-o200", &[]),
];

/// Contracts with storage.
const STATEFUL: &[&str] = &[
    "openzeppelin__ERC20PresetFixedSupply__0.8.4-o200",
    "weth__WETH9__0.5.17-o200",
    "vyper-examples_storage__storage__vy0.4.0-venom",
    "vyper-examples_ERC20__ERC20__vy0.3.10",
];

/// Contracts that are refused although nothing in them is left to be filled in: their outcome depends on gas.
const REFUSED: &[(&str, &str)] = &[
    ("aragon__KernelProxy__0.4.24-artifact", "ZV0103"),
    ("openzeppelin__ERC2771Forwarder__0.8.37-o200", "ZV0103"),
    ("openzeppelin__MinimalForwarder__0.8.15-o200", "ZV0103"),
];

fn example(file: &'static str) -> Trial {
    Trial::test(format!("examples/{file}"), move || check(&corpus::example(file), Ring::Proof(&[]), None))
}

fn words(file: &'static str, below: u64) -> Trial {
    corpus::trial(file, file, move |path| check(path, Ring::Proof(&[]), Some(below)))
}

fn contract(name: &str, ring: Ring) -> Trial {
    let file = format!("contracts/{name}.json");
    let name = if ring == Ring::Sweep { format!("all/{file}") } else { file.clone() };
    corpus::trial(&name, &file, move |path| check(path, ring, None))
}

/// What happened to the calls of a function.
#[derive(Default)]
struct Count {
    calls: usize,
    returned: usize,
    proved: usize,
}

fn check(path: &Path, ring: Ring, words_below: Option<u64>) -> Result<(), Failed> {
    let mut input = Input::read(&path.display().to_string(), None).map_err(failed)?;
    let Source::Contract(contract) = &mut input.source else { return Err("not a contract".into()) };
    let mut generator = Generator::new(contract.runtime.len() as u64);
    let mut state = if ring == Ring::Sweep { deployed(contract, &mut generator) } else { State::default() };
    let contract = &contract.clone();
    let program = match Program::load(&input) {
        Err(error) if ring == Ring::Sweep && error.exit() == Exit::Subset => {
            return expected_refusal(path, contract, &error);
        }
        result => result.map_err(failed)?,
    };
    let executors = Executors::new(&program, ring.kinds()).map_err(failed)?.with_limits(LIMITS);
    let evm = Evm::new(&contract.runtime).with_gas_limit(LIMITS.gas);
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let (mut made, mut jumps) = (0, 0);
    for at in 0.. {
        if made == ring.calls() {
            break;
        }
        if at == 20 * ring.calls() {
            return Err(format!("only {made} of {at} calls stay below the limits").into());
        }
        let call = match (&contract.abi, words_below) {
            (Some(abi), _) => of_interface(&mut generator, abi, at),
            (None, Some(below)) if at % 7 != 6 => generator.words(1, below),
            (None, _) => generator.unknown(),
        };
        let original = match executors.run(Kind::Evm, &call, &state) {
            Ok(run) => run,
            Err(error) if error.exit() == Exit::Limit => continue,
            Err(error) => return Err(failed(error)),
        };
        made += 1;
        if let (Ring::Sweep, Some(lifted)) = (ring, &program.lifted) {
            let (_, trace) = evm.inspect(&call.calldata, &call.env_in(&state), &state).map_err(failed)?;
            if let Some(edge) = trace.jumps.difference(&lifted.edges).next() {
                return Err(format!("the jump {edge:x?} is not in the lift").into());
            }
            jumps += trace.taken;
        }
        let count = counts.entry(name(contract, &call)).or_default();
        count.calls += 1;
        count.returned += usize::from(original.outcome.halt == Halt::Return);
        if original.outcome.halt == Halt::Return {
            generator.learn(&original.outcome.data);
        }
        let mut results = vec![(Kind::Evm, Ok(original))];
        for &kind in &ring.kinds()[1..] {
            results.push((kind, executors.run(kind, &call, &state)));
        }
        count.proved += results.iter().filter(|(kind, result)| *kind == Kind::Circuit && result.is_ok()).count();
        compare(&results, &call)?;
        let Some((_, Ok(original))) = results.into_iter().next() else { continue };
        if let Some(changes) = original.changes {
            state.apply(&changes);
        }
    }
    report(path, &counts, jumps);
    match ring {
        Ring::L1 | Ring::Sweep => Ok(()),
        Ring::Proof(unprovable) => every_function_is_proved(&counts, unprovable),
    }
}

/// Code with immutables is refused until they are filled in; everything else only as listed.
fn expected_refusal(path: &Path, contract: &Contract, error: &Error) -> Result<(), Failed> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    println!("{name}: refused, {error}");
    let listed = REFUSED.contains(&(name.as_ref(), error.code()));
    let unfilled = error.code() == "ZV0106" && !contract.placeholders().is_empty();
    if listed || unfilled { Ok(()) } else { Err(format!("refused: {error}").into()) }
}

/// All outcomes are there and equal, but for what an executor may refuse.
fn compare(results: &zvm::executors::Results, call: &Call) -> Result<(), Failed> {
    let context = || format!("calldata 0x{}, value {}", hex::encode(&call.calldata), call.env.callvalue);
    let Some((_, Ok(original))) = results.first() else { return Err("no outcome".into()) };
    for (kind, result) in results {
        match result {
            Ok(run) => {
                if let Some(part) = difference(original, run) {
                    let (expected, found) = (original, run);
                    let name = kind.name();
                    return Err(format!("{name} differs in {part} at {}\n{expected:?}\n{found:?}", context()).into());
                }
            }
            Err(error) if *kind == Kind::Circuit && error.exit() == Exit::Subset => {}
            Err(error) => return Err(format!("{}: {error} at {}", kind.name(), context()).into()),
        }
    }
    if agree(results) { Ok(()) } else { Err("`agree` says otherwise".into()) }
}

fn every_function_is_proved(counts: &BTreeMap<String, Count>, unprovable: &[&str]) -> Result<(), Failed> {
    let refused = counts.iter().filter(|(_, count)| count.proved < count.calls);
    let refused: Vec<_> = refused.map(|(name, _)| name.as_str()).collect();
    if refused == unprovable {
        return Ok(());
    }
    Err(format!("the circuit refuses calls of {refused:?}, not of {unprovable:?}").into())
}

fn report(path: &Path, counts: &BTreeMap<String, Count>, jumps: u64) {
    let sum = |part: fn(&Count) -> usize| counts.values().map(part).sum::<usize>();
    let (calls, returned, proved) = (sum(|c| c.calls), sum(|c| c.returned), sum(|c| c.proved));
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let share = 100 * returned / calls.max(1);
    println!("{name}: {calls} calls, {share}% return, {proved} in the circuit, {jumps} jumps followed");
}

/// The name of the function that a call reaches.
fn name(contract: &Contract, call: &Call) -> String {
    let selector = call.calldata.first_chunk::<4>().copied();
    let function = contract.abi.as_ref().zip(selector).and_then(|(abi, found)| abi.function_by_selector(found.into()));
    function.map_or_else(|| "(none)".to_owned(), |function| function.name.clone())
}

fn failed(error: Error) -> Failed {
    format!("{}: {error}", error.code()).into()
}
