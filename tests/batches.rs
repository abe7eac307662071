//! Batches of calls of real contracts: "if a batch is proved from a root then it leads to this root with these outcomes", and both are
//! those of revm.
//!
//! Each trial deploys a contract with its constructor, puts the state into a file, and makes 200 calls of the kinds in `scenes`, of which some fail. E0, E1
//! and E2 have the same outcome call by call. The calls go through the circuit (E3) in batches over BN254's scalar field, row by row, each
//! from the root that the one before has left; outcomes are again the same, and in the end the tree, given back slot by slot,
//! is revm's state. Which calls the program itself refuses to prove is counted by reason in a snapshot; they are made in E0, E1 and
//! E2, and leave nothing.
//!
//! With `ZVM_SLOW=1` shorter batches of two contracts are folded, compressed and verified as well, and every lie about their order and roots
//! is refused; with `ZVM_SLOW=all` the whole batches of all contracts.

#[allow(dead_code, reason = "nothing is in the examples")]
mod corpus;
mod scenes;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use libtest_mimic::{Arguments, Failed};
use scenes::{Kind, PEOPLE, Scene, construction};
use zvm::artifact::{self, Expected, Limits, ProofFile};
use zvm::evm::deploy::deploy;
use zvm::executors::{Executors, Kind as Executor, Results, Run, agree, difference};
use zvm::places::{Order, Places};
use zvm::start::Left;
use zvm::state::World;
use zvm::{Call, Error, Exit, Immutables, Input, Program, Source, Start, State, state_file};
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call as CircuitCall;
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::program::Program as CircuitProgram;
use zvm_backend_circuit::prover::ProveFacts;
use zvm_backend_circuit::replay::Prepared;
use zvm_ir::{Env, Halt, Outcome, Word};

/// Calls of a contract, and of a batch.
const CALLS: usize = 200;
const BATCH: usize = 50;
/// Calls of a shorter batch that is folded.
const SHORT: usize = 12;

/// `permit` needs the precompile that recovers signers.
const CONTRACTS: &[(&str, Kind, &[&str])] = &[
    ("openzeppelin__ERC20PresetFixedSupply__0.8.4-o200", Kind::Token, &[]),
    ("openzeppelin__ERC20PresetFixedSupply__0.8.15-noopt", Kind::Token, &[]),
    ("openzeppelin__ERC20PresetMinterPauser__0.8.20-ir200", Kind::Token, &[]),
    ("openzeppelin__SimpleToken__0.5.17-artifact", Kind::Token, &[]),
    ("0x__DummyERC20Token__0.5.17-artifact", Kind::Token, &[]),
    ("vyper-examples_ERC20__ERC20__vy0.4.0", Kind::Token, &[]),
    ("vyper-examples_ERC20__ERC20__vy0.4.3-venom", Kind::Token, &[]),
    ("uniswap-v2__UniswapV2ERC20__0.5.16-o200", Kind::Token, &["permit"]),
    ("openzeppelin__ERC721PresetMinterPauserAutoId__0.8.10-noopt", Kind::Collection, &[]),
    ("vyper-examples_ERC721__ERC721__vy0.4.3", Kind::Collection, &[]),
    ("ens__ENSRegistry__0.5.0-artifact", Kind::Registry, &[]),
    ("solady__SoladyLibSortWrapper__0.8.30-o200", Kind::Library, &[]),
    ("openzeppelin__OZ5Base64Wrapper__0.8.30-o200", Kind::Library, &[]),
    ("solidity-bytes-utils__BytesLibSBUWrapper__0.8.20-o200", Kind::Library, &[]),
    // Slots that are hashes of 32 and of 52 bytes without a slot among them.
    ("solady__WETH__0.8.30-ir200", Kind::Token, &["permit"]),
    // Hashes of lists, two words at a time.
    ("openzeppelin__OZ5MerkleProofWrapper__0.8.30-o200", Kind::Library, &[]),
];

/// Those of which a batch is folded with `ZVM_SLOW=1`.
const SLOW: [&str; 2] = ["openzeppelin__ERC20PresetFixedSupply__0.8.4-o200", "vyper-examples_ERC20__ERC20__vy0.4.0"];

fn main() {
    let arguments = Arguments::from_args();
    let slow = std::env::var_os("ZVM_SLOW");
    let (all, slow) = (slow.as_deref() == Some("all".as_ref()), slow.is_some());
    let trials = CONTRACTS.iter().map(|&(name, kind, without)| {
        let file = format!("contracts/{name}.json");
        corpus::trial(name, &file, move |path| check(name, &Stage::new(path, kind, without)?))
    });
    let folded =
        CONTRACTS.iter().filter(|(name, ..)| all || slow && SLOW.contains(name)).map(|&(name, kind, without)| {
            let (title, file) = (format!("folded/{name}"), format!("contracts/{name}.json"));
            corpus::trial(&title, &file, move |path| fold(name, kind, &Stage::new(path, kind, without)?, all))
        });
    libtest_mimic::run(&arguments, trials.chain(folded).collect()).exit();
}

fn failed(error: impl ToString) -> Failed {
    error.to_string().into()
}

/// A contract, deployed.
struct Stage {
    program: Program,
    circuit: CircuitProgram,
    executors: Executors,
    scene: std::cell::RefCell<Scene>,
    state: State,
    folder: tempfile::TempDir,
}

impl Stage {
    fn new(path: &Path, kind: Kind, without: &'static [&'static str]) -> Result<Self, Failed> {
        let mut input = Input::read(&path.display().to_string(), None).map_err(failed)?;
        let Source::Contract(contract) = &mut input.source else { return Err("not a contract".into()) };
        let (Some(creation), Some(abi)) = (contract.creation.clone(), contract.abi.clone()) else {
            return Err("no creation code".into());
        };
        let env = Env { caller: PEOPLE[0], origin: PEOPLE[0], ..Env::default() };
        let creation = [creation, construction(&abi)].concat();
        let deployment = deploy(&creation, &env, &State::default()).map_err(failed)?;
        contract.runtime = deployment.runtime;
        contract.immutables = Immutables::Deployed;
        let seed = 11 + contract.runtime.len() as u64;
        let scene = Scene::new(kind, &abi, &contract.runtime, env.address, without, seed);
        let program = Program::load(&input).map_err(failed)?;
        let circuit = program.circuit().map_err(failed)?;
        let executors = [Executor::Evm, Executor::Ir, Executor::Lowered];
        let executors = Executors::new(&program, &executors).map_err(failed)?;
        let folder = tempfile::tempdir().map_err(failed)?;
        let stage = Self { program, circuit, executors, scene: scene.into(), state: deployment.state, folder };
        let mut places = Places::new(Order::KeyFirst);
        deployment.preimages.iter().for_each(|bytes| places.add_preimage(bytes));
        places.add_program(&stage.circuit);
        let known = |_: &_| places.clone();
        state_file::import(&stage.file(), "bn254", &stage.state, &known).map_err(failed)?;
        Ok(stage)
    }

    /// The state as a tree.
    fn file(&self) -> PathBuf {
        self.folder.path().join("state.zvms")
    }

    /// The outcome in E0 of the next call, which is that in E1 and E2, and what was changed.
    fn next(&self, state: &State) -> Result<(Call, Run), Failed> {
        let call = self.scene.borrow_mut().next(state);
        let kinds = [Executor::Evm, Executor::Ir, Executor::Lowered];
        let mut results: Results = kinds.iter().map(|&kind| (kind, self.executors.run(kind, &call, state))).collect();
        let about = || format!("calldata 0x{} by 0x{}", hex::encode(&call.calldata), hex::encode(call.env.caller));
        let Some((_, Ok(first))) = results.first() else { return Err(format!("no outcome: {}", about()).into()) };
        for (kind, result) in &results {
            let run = result.as_ref().map_err(|error| format!("{}: {error}, {}", kind.name(), about()))?;
            if let Some(part) = difference(first, run) {
                return Err(format!("{} differs in {part}, {}", kind.name(), about()).into());
            }
        }
        if !agree(&results) {
            return Err("`agree` says otherwise".into());
        }
        let (_, run) = results.swap_remove(0);
        Ok((call, run.map_err(failed)?))
    }

    /// The outcome of a call in a state as the circuit's own execution has it; why it cannot be proved.
    fn provable(&self, call: &Call, state: &State) -> Result<Result<Outcome, String>, Failed> {
        let env = call.env_in(state);
        let world = World { state, env: &env, code: self.program.code().unwrap_or_default() };
        let call = CircuitCall { calldata: call.calldata.clone(), env: env.clone() };
        match self.circuit.execute_all(&[call], &world) {
            Ok(execution) => Ok(Ok(execution.outcome().clone())),
            Err(CircuitError::Unprovable(exit)) => Ok(Err(exit.reason.to_string())),
            Err(error) => Err(failed(error)),
        }
    }

    /// The name of the function that a call reaches.
    fn function(&self, call: &Call) -> String {
        let abi = self.program.contract.as_ref().and_then(|contract| contract.abi.as_ref());
        let found = abi.zip(call.calldata.first_chunk::<4>());
        let function = found.and_then(|(abi, selector)| abi.function_by_selector((*selector).into()));
        function.map_or_else(|| "(none)".to_owned(), |function| function.name.clone())
    }
}

/// How calls ended.
#[derive(Default)]
struct Count {
    returned: usize,
    failed: usize,
    /// By reason, then by function.
    left_out: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Count {
    fn text(&self) -> String {
        let left_out: usize = self.left_out.values().flat_map(BTreeMap::values).sum();
        let Self { returned, failed, .. } = self;
        let mut out = format!("{CALLS} calls: in the circuit {returned} return, {failed} fail; {left_out} left out\n");
        for (reason, functions) in &self.left_out {
            let all: usize = functions.values().sum();
            let list: Vec<String> = functions.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let _ = writeln!(out, "{all} for {reason}: {}", list.join(", "));
        }
        out
    }
}

fn check(name: &str, stage: &Stage) -> Result<(), Failed> {
    let mut state = stage.state.clone();
    let mut count = Count::default();
    let (mut calls, mut outcomes) = (Vec::new(), Vec::new());
    for _ in 0..CALLS {
        let (call, run) = stage.next(&state)?;
        match stage.provable(&call, &state)? {
            Err(reason) => {
                *count.left_out.entry(reason).or_default().entry(stage.function(&call)).or_default() += 1;
                continue;
            }
            Ok(outcome) if outcome != run.outcome => {
                return Err(
                    format!("the circuit's execution differs: calldata 0x{}", hex::encode(&call.calldata)).into()
                );
            }
            Ok(_) => {}
        }
        match run.outcome.halt {
            Halt::Return => count.returned += 1,
            Halt::Revert | Halt::Trap => count.failed += 1,
        }
        if let Some(changes) = &run.changes {
            state.apply(changes);
        }
        calls.push(call);
        outcomes.push(run.outcome);
    }
    let mut rows = 0;
    for (calls, outcomes) in calls.chunks(BATCH).zip(outcomes.chunks(BATCH)) {
        rows += batch(stage, calls, outcomes)?;
    }
    println!("{name}: {}, {rows} rows hold", count.text().trim_end().replace('\n', "; "));
    let storage = state_file::open(&stage.file()).map_err(failed)?;
    storage.check().map_err(failed)?;
    if state_file::export(storage.as_ref()).map_err(failed)?.to_json() != state.to_json() {
        return Err("the tree gives back another state than revm's".into());
    }
    insta::with_settings!({snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(format!("batch.{name}"), count.text());
    });
    Ok(())
}

/// Checks a batch from the state in the file, which has the state afterwards then; gives how many rows there were.
fn batch(stage: &Stage, calls: &[Call], outcomes: &[Outcome]) -> Result<u64, Failed> {
    let path = stage.file();
    let root = || -> Result<Word, Failed> { state_file::open(&path).map_err(failed)?.root().map_err(failed) };
    let before = root()?;
    let code = stage.program.code().unwrap_or_default();
    let prepared: Prepared<Fr> = Start::File(&path).prepare(&stage.circuit, code, calls).map_err(failed)?;
    if prepared.execution.outcomes != outcomes {
        return Err("the outcomes of the batch are not those of its calls".into());
    }
    let left = Left::of(&prepared).map_err(failed)?;
    let (statement, checked) = stage.circuit.check_prepared(prepared).map_err(failed)?;
    if statement.calls != calls.len() {
        return Err("another number of calls".into());
    }
    if !stage.circuit.features().storage {
        return Ok(checked.rows);
    }
    if to_u256(&statement.roots.pre) != before {
        return Err("the batch begins with another root than the file's".into());
    }
    let known = &mut |_: &_| left.places.clone();
    state_file::advance(&path, &left.changes, known, left.roots).map_err(failed)?;
    if to_u256(&statement.roots.post) != root()? {
        return Err("the batch ends with another root than the file's".into());
    }
    Ok(checked.rows)
}

/// Proves a batch, of which all or few calls are made, and tries to pass it off as another.
fn fold(name: &str, kind: Kind, stage: &Stage, all: bool) -> Result<(), Failed> {
    let (most, of_a_kind) = if all { (CALLS, CALLS) } else { (SHORT, SHORT / 2) };
    let mut state = stage.state.clone();
    let mut calls = Vec::new();
    let mut halts = [0, 0];
    for _ in 0..CALLS {
        let (call, run) = stage.next(&state)?;
        let returned = usize::from(run.outcome.halt == Halt::Return);
        // Few calls are as many of either kind.
        if halts[returned] == of_a_kind || stage.provable(&call, &state)?.is_err() {
            continue;
        }
        halts[returned] += 1;
        if let Some(changes) = &run.changes {
            state.apply(changes);
        }
        calls.push(call);
        if calls.len() == most {
            break;
        }
    }
    let file = stage.file();
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("batches");
    let mut progress = |_| ControlFlow::Continue(());
    let (compressed, limits) = (artifact::Kind::Compressed, Limits::default());
    let options =
        artifact::Options { kind: compressed, cache: Some(&cache), limits, keep: None, progress: &mut progress };
    let proved = artifact::prove(&stage.program, &calls, Start::File(&file), options).map_err(failed)?;
    let ProveFacts { steps, segments, rows_per_step, cpu_seconds, .. } = proved.facts;
    let size = format!("{steps} steps of at most {rows_per_step} rows in {segments} segments");
    println!("{name}: {} calls folded in {size}, {cpu_seconds:.0} CPU s", calls.len());
    let verify = |file: &ProofFile, expected: &Expected| {
        artifact::verify("proof", &file.encode(), &stage.program, expected, Some(&cache)).map(drop)
    };
    // Only libraries may have no state.
    let roots = proved.left.roots;
    if roots.is_none() && kind != Kind::Library {
        return Err("no roots".into());
    }
    let expected = Expected {
        calls: Some(proved.file.calls.clone()),
        pre_root: roots.map(|[first, _]| first),
        post_root: roots.map(|[_, last]| last),
        ..Expected::default()
    };
    verify(&proved.file, &expected).map_err(failed)?;
    state_file::advance(&file, &proved.left.changes, &mut |_| proved.left.places.clone(), roots).map_err(failed)?;
    if state_file::export(state_file::open(&file).map_err(failed)?.as_ref()).map_err(failed)?.to_json()
        != state.to_json()
    {
        return Err("the state that was proved is not revm's".into());
    }
    let refused = |what: &str, result: Result<(), Error>| match result {
        Err(error) if error.exit() == Exit::No => Ok(()),
        Err(error) => Err(Failed::from(format!("{what}: {error}"))),
        Ok(()) => Err(format!("{what} is accepted").into()),
    };
    let lie = |what: &str, change: &dyn Fn(&mut ProofFile)| {
        let mut lie = proved.file.clone();
        change(&mut lie);
        refused(what, verify(&lie, &Expected::default()))?;
        // An honest proof is no proof of the lie.
        let claim = Expected { calls: Some(lie.calls), ..Expected::default() };
        if claim.calls == expected.calls { Ok(()) } else { refused(what, verify(&proved.file, &claim)) }
    };
    lie("a reordered call", &|file| {
        file.calls.swap(2, 3);
        file.outcomes.swap(2, 3);
    })?;
    lie("a dropped call", &|file| {
        file.calls.remove(4);
        file.outcomes.remove(4);
    })?;
    lie("a duplicated call", &|file| {
        file.calls.insert(4, file.calls[4].clone());
        file.outcomes.insert(4, file.outcomes[4].clone());
    })?;
    lie("a foreign root", &|file| file.roots[1] = Word::from(5))?;
    lie("an outcome that was not", &|file| file.outcomes[1].data.push(1))?;
    let Some([_, last]) = roots.filter(|[first, last]| first != last) else { return Ok(()) };
    lie("a stale root", &|file| file.roots[0] = file.roots[1])?;
    let stale = Expected { pre_root: Some(last), ..Expected::default() };
    refused("a root that is not the state's", verify(&proved.file, &stale))
}
