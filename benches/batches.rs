//! What batches of calls cost: rows of a token transfer, of a slot of the state, of an access to memory, each by its bar; and a batch of
//! transfers folded.
//!
//! The transfers are those of OpenZeppelin's ERC20PresetFixedSupply (0.8.4) among some accounts, always the same; the state is a file, as
//! `zvm state import` makes it. *Hot slots* are those of the program: arithmetic, hashing of keys, accesses with their share of the
//! hash of the advice, log; and, counted apart, the digests that bind call and outcome to the statement. What the state tree costs is counted by distinct slots touched. Rows are counted
//! on the executions themselves, slot by slot; idle slots and Nova's own rows are in the figures of the plan and of the fold.
//!
//! Accesses to memory are those of two sorts: Solady's, called with words in its calldata, and one that makes its words itself.
//!
//! Beside them stands what the same transfers cost an interpreter in a RISC-V machine: the instructions that the EVM executes, each
//! with the cycles that were published for it ([`RISC_V_CYCLES`]). Those without a figure count nothing, nor do the state tree and all around the call.
//!
//! ```text
//! cargo bench --bench batches                      the tables of docs/proving.md that need no folding
//! cargo bench --bench batches -- --fold 100        and a batch of so many transfers, folded and verified
//! ZVM_SLOW=1 cargo bench --bench batches           the same with all of them
//! ```

#[expect(dead_code, reason = "shared with tests, which need more of it")]
#[path = "../tests/corpus/mod.rs"]
mod corpus;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;

use alloy_dyn_abi::{DynSolValue, JsonAbiExt};
use alloy_json_abi::Function;
use clap::Parser;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use zvm::artifact::{self, Expected, Kind};
use zvm::evm::Evm;
use zvm::evm::deploy::deploy;
use zvm::places::Places;
use zvm::{Call, Error, Immutables, Input, Program, Source, Start, State, state_file};
use zvm_backend_circuit::digest::{ADVICE_BLOCK, ADVICE_ROWS};
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::{Call as CircuitCall, Execution};
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::planner::{self, Limits};
use zvm_backend_circuit::profile::{self, Part};
use zvm_backend_circuit::program::Program as CircuitProgram;
use zvm_backend_circuit::replay::Prepared;
use zvm_backend_circuit::trace::AGES;
use zvm_backend_circuit::trace::record::Item;
use zvm_backend_circuit::usage;
use zvm_ir::{Env, Halt, Word};

/// Arguments of the benchmark.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many transfers a batch has.
    #[arg(long, default_value_t = 1000)]
    calls: usize,
    /// Among how many accounts.
    #[arg(long, default_value_t = 200)]
    accounts: u64,
    /// How many words are sorted.
    #[arg(long, default_value_t = 1000)]
    words: u64,
    /// Fold a batch of so many transfers [default: none; with ZVM_SLOW=1 as many as are counted].
    #[arg(long)]
    fold: Option<usize>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

const TOKEN: &str = "contracts/openzeppelin__ERC20PresetFixedSupply__0.8.4-o200.json";
const SORT: &str = "contracts/solady__SoladyLibSortWrapper__0.8.30-o200.json";

/// The bars, in rows.
const TRANSFER_BAR: f64 = 3_500.0;
const SLOT_BAR: f64 = 12_000.0;
const WORD_BAR: f64 = 110.0;
const NARROW_BAR: f64 = 80.0;

/// Cycles of a RISC-V machine for an EVM instruction in ZKsync OS, as its pull requests 635, 672, 679 and 686 say (github.com/matter-labs/zksync-os):
/// medians over blocks of the main network; for ADD, LT, ISZERO and AND what it charges, the most that was seen rounded up to tens.
/// First and last opcode of a row, cycles.
const RISC_V_CYCLES: &[(u8, u8, u64)] = &[
    (0x01, 0x01, 60),    // ADD
    (0x04, 0x04, 246),   // DIV
    (0x10, 0x10, 100),   // LT
    (0x15, 0x15, 70),    // ISZERO
    (0x16, 0x16, 90),    // AND
    (0x20, 0x20, 4_725), // KECCAK256
    (0x35, 0x35, 239),   // CALLDATALOAD
    (0x50, 0x50, 46),    // POP
    (0x51, 0x51, 178),   // MLOAD
    (0x52, 0x52, 202),   // MSTORE
    (0x54, 0x54, 1_257), // SLOAD
    (0x55, 0x55, 2_825), // SSTORE
    (0x56, 0x56, 76),    // JUMP
    (0x57, 0x57, 108),   // JUMPI
    (0x5b, 0x5b, 42),    // JUMPDEST
    (0x60, 0x60, 66),    // PUSH1
    (0x61, 0x61, 72),    // PUSH2
    (0x63, 0x63, 145),   // PUSH4
    (0x73, 0x73, 218),   // PUSH20
    (0x7f, 0x7f, 295),   // PUSH32
    (0x80, 0x83, 57),    // DUP1 to DUP4
    (0x90, 0x92, 64),    // SWAP1 to SWAP3
    (0xa3, 0xa3, 1_049), // LOG3
];

/// RISC-V cycles that RISC Zero 3.0 proves in a second on a core of a machine such as these figures are from.
const CYCLES_PER_SECOND: f64 = 840.0;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(folder) = corpus::folder() else {
        eprintln!("the corpus is needed: ZVM_CORPUS, or ../shared/corpus");
        return ExitCode::FAILURE;
    };
    match run(&arguments, &folder) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments, corpus: &Path) -> Result<(), Error> {
    let token = Token::new(&corpus.join(TOKEN), arguments.accounts)?;
    println!("| what | count | rows | rows each | bar | ratio |");
    println!("|---|---|---|---|---|---|");
    token.count(arguments.calls)?;
    match sorted_by_solady(&corpus.join(SORT), arguments.words) {
        Ok((circuit, execution)) => accesses("Solady's sort, full words", &circuit, &execution, WORD_BAR)?,
        Err(Error::Circuit(CircuitError::Unprovable(exit))) => {
            println!("| Solady's sort: no {} | | | | | |", exit.reason)
        }
        Err(error) => return Err(error),
    }
    for (what, shift, bar) in [("own sort, full words", 0, WORD_BAR), ("own sort, words below 2^128", 128, NARROW_BAR)]
    {
        let (circuit, execution) = sorted_by_shells(arguments.words, shift)?;
        accesses(what, &circuit, &execution, bar)?;
    }
    let slow = std::env::var_os("ZVM_SLOW").is_some();
    match arguments.fold.or_else(|| slow.then_some(arguments.calls)) {
        Some(calls) => token.fold(calls),
        None => Ok(()),
    }
}

fn line(what: &str, count: u64, rows: u64, bar: f64) {
    let each = rows as f64 / count.max(1) as f64;
    println!("| {what} | {count} | {rows} | {each:.1} | {bar} | {:.2} |", each / bar);
}

/// A token, deployed, with a share for each account.
struct Token {
    program: Program,
    circuit: CircuitProgram,
    state: tempfile::TempDir,
    accounts: Vec<[u8; 20]>,
    address: [u8; 20],
}

fn io(source: std::io::Error) -> Error {
    Error::Io { path: "the folder for temporary files".to_owned(), source }
}

fn encode(signature: &str, values: &[DynSolValue]) -> Vec<u8> {
    let function = Function::parse(signature).expect("a signature");
    function.abi_encode_input(values).expect("values of their types")
}

fn transfer(to: [u8; 20], amount: Word) -> Vec<u8> {
    encode("transfer(address,uint256)", &[DynSolValue::Address(to.into()), DynSolValue::Uint(amount, 256)])
}

impl Token {
    fn new(path: &Path, accounts: u64) -> Result<Self, Error> {
        let mut input = Input::read(&path.display().to_string(), None)?;
        let no_creation = || Error::NoCreation { path: path.display().to_string() };
        let Source::Contract(contract) = &mut input.source else { return Err(no_creation()) };
        let creation = contract.creation.clone().ok_or_else(no_creation)?;
        let account = |number: u64| {
            let hash = zvm_ir::eval::keccak256(&number.to_be_bytes()).to_be_bytes::<32>();
            let mut address = [0; 20];
            address.copy_from_slice(&hash[..20]);
            address
        };
        let accounts: Vec<[u8; 20]> = (0..accounts.max(1)).map(account).collect();
        let env = Env { caller: accounts[0], origin: accounts[0], ..Env::default() };
        let supply = Word::from(10u64.pow(18)) * Word::from(10u64.pow(9));
        let text = |text: &str| DynSolValue::String(text.to_owned());
        let arguments =
            [text("Example"), text("EXA"), DynSolValue::Uint(supply, 256), DynSolValue::Address(env.caller.into())];
        let arguments = DynSolValue::Tuple(arguments.to_vec()).abi_encode_params();
        let deployed = deploy(&[creation, arguments].concat(), &env, &State::default())?;
        contract.runtime = deployed.runtime;
        contract.immutables = Immutables::Deployed;
        let program = Program::load(&input)?;
        let circuit = program.circuit()?;
        let mut places = Places::default();
        deployed.preimages.iter().for_each(|bytes| places.add_preimage(bytes));
        let (mut state, evm) = (deployed.state, Evm::new(program.code().unwrap_or_default()));
        for &to in &accounts[1..] {
            let call = Call { calldata: transfer(to, supply / Word::from(accounts.len())), env: env.clone() };
            let (execution, hashed) = evm.preimages(&call.calldata, &call.env_in(&state), &state)?;
            hashed.iter().for_each(|bytes| places.add_preimage(bytes));
            state.apply(&execution.changes);
        }
        places.add_program(&circuit);
        let folder = tempfile::tempdir().map_err(io)?;
        state_file::import(&folder.path().join("state"), "bn254", &state, &|_| places.clone())?;
        Ok(Self { program, circuit, state: folder, accounts, address: env.address })
    }

    /// Transfers between any two accounts of up to a thousandth of what each had.
    fn transfers(&self, calls: usize) -> Vec<Call> {
        let mut rng: ChaCha8Rng = rand::SeedableRng::seed_from_u64(8);
        let account = |rng: &mut ChaCha8Rng| self.accounts[rng.random_range(0..self.accounts.len())];
        let call = |_| {
            let (caller, to) = (account(&mut rng), account(&mut rng));
            let amount = Word::from(rng.random_range(1..10u64.pow(18)));
            let env = Env { caller, origin: caller, address: self.address, ..Env::default() };
            Call { calldata: transfer(to, amount), env }
        };
        (0..calls).map(call).collect()
    }

    fn count(&self, calls: usize) -> Result<(), Error> {
        let calls = self.transfers(calls);
        let file = self.state.path().join("state");
        let code = self.program.code().unwrap_or_default();
        let prepared: Prepared<Fr> = Start::File(&file).prepare(&self.circuit, code, &calls)?;
        assert!(prepared.execution.outcomes.iter().all(|outcome| outcome.halt == Halt::Return), "all transfers return");
        let (mut hot, mut tree) = (0, 0);
        for &(region, count) in prepared.trace.runs() {
            let rows = self.circuit.rows()[region] * count;
            match self.circuit.system(region) {
                None => hot += rows,
                Some(_) => tree += rows,
            }
        }
        let mut digests = 0;
        for region in profile::by_region(&self.circuit, &prepared.trace)? {
            let of_call = |(part, rows): (&Part, &u64)| matches!(part, Part::Input | Part::Outcome).then_some(*rows);
            if self.circuit.system(region.region).is_none() {
                digests += region.executions * region.parts.iter().filter_map(of_call).sum::<u64>();
            }
        }
        let transfers = calls.len() as u64;
        line("transfer: arithmetic, hashing of keys, accesses, log", transfers, hot - digests, TRANSFER_BAR);
        line("transfer: the same with the digests of call and outcome", transfers, hot, TRANSFER_BAR);
        line("slot touched, rows of the state tree", prepared.execution.record.leaves.len() as u64, tree, SLOT_BAR);
        let (schedule, estimate) = planner::schedule(&self.circuit, &prepared.trace, Limits::default())?;
        let simulation = estimate.simulation;
        println!(
            "| all of it as planned, idle slots included: {} steps, {} segments, {:.1} % run | {} | {} | {:.1} | | |",
            simulation.steps,
            schedule.segments.len(),
            100.0 * simulation.utilisation(),
            calls.len(),
            simulation.rows,
            simulation.rows as f64 / calls.len().max(1) as f64
        );
        self.interpreted(&calls)
    }

    /// What the calls cost an interpreter in a RISC-V machine.
    fn interpreted(&self, calls: &[Call]) -> Result<(), Error> {
        let code = self.program.code().unwrap_or_default();
        let (evm, mut state) = (Evm::new(code), Start::File(&self.state.path().join("state")).whole()?.into_owned());
        let (mut instructions, mut known, mut cycles) = (0, 0, 0);
        for call in calls {
            let (execution, trace) = evm.inspect(&call.calldata, &call.env_in(&state), &state)?;
            state.apply(&execution.changes);
            instructions += trace.instructions;
            for (pc, count) in trace.counts {
                let opcode = code.get(pc as usize).copied().unwrap_or_default();
                let row = RISC_V_CYCLES.iter().find(|&&(first, last, _)| (first..=last).contains(&opcode));
                if let Some(&(.., each)) = row {
                    known += count;
                    cycles += count * each;
                }
            }
        }
        let each = |total: u64| total as f64 / calls.len().max(1) as f64;
        println!(
            "| transfer: EVM instructions, with published RISC-V cycles, those cycles | {} | {:.0} | {:.0} | {:.0} | |",
            calls.len(),
            each(instructions),
            each(known),
            each(cycles)
        );
        println!(
            "| proved by RISC Zero 3.0 at {CYCLES_PER_SECOND} cycles per second and core: {:.0} seconds | | | | | |",
            each(cycles) / CYCLES_PER_SECOND
        );
        Ok(())
    }

    fn fold(&self, calls: usize) -> Result<(), Error> {
        let calls = self.transfers(calls);
        let (file, cache) = (self.state.path().join("state"), self.state.path().join("parameters"));
        let mut progress = |_| ControlFlow::Continue(());
        let options = artifact::Options {
            kind: Kind::Compressed,
            cache: Some(&cache),
            limits: Limits::default(),
            keep: None,
            progress: &mut progress,
        };
        let cpu = || usage::cpu_seconds().unwrap_or_default();
        let begun = cpu();
        let proved = artifact::prove(&self.program, &calls, Start::File(&file), options)?;
        let (all, facts, peak) = (cpu() - begun, &proved.facts, usage::peak_memory_bytes().unwrap_or_default());
        let bytes = proved.file.encode();
        let begun = cpu();
        let [pre, post] = proved.left.roots.unwrap_or_default();
        let expected = Expected {
            calls: Some(proved.file.calls.clone()),
            pre_root: Some(pre),
            post_root: Some(post),
            ..Expected::default()
        };
        artifact::verify("proof", &bytes, &self.program, &expected, Some(&cache))?;
        let verify = cpu() - begun;
        let each = |total: f64| total / calls.len().max(1) as f64;
        let segments: usize = proved.file.segments.iter().map(|segment| segment.proof.len()).sum();
        println!("\n| a batch of {} transfers, folded | |\n|---|---|", calls.len());
        println!(
            "| steps, segments, rows of the largest step | {}, {}, {} |",
            facts.steps, facts.segments, facts.rows_per_step
        );
        println!("| rows, per call | {}, {:.0} |", facts.rows_total, each(facts.rows_total as f64));
        println!(
            "| CPU seconds of folding and compressing, per call | {:.1}, {:.3} |",
            facts.cpu_seconds,
            each(facts.cpu_seconds)
        );
        println!("| CPU seconds with parameters and planning | {all:.1} |");
        println!("| peak memory | {} MiB |", peak >> 20);
        println!("| proof, without calls and outcomes | {} bytes, {segments} |", bytes.len());
        println!("| verification, parameters cached | {verify:.1} CPU seconds |");
        Ok(())
    }
}

/// The instructions that access memory, a program's or that of its frames.
const ACCESSES: [&str; 4] = ["mload", "mstore", "frame_load", "frame_store"];

/// Rows of accesses to memory, by what they are for.
fn accesses(what: &str, circuit: &CircuitProgram, execution: &Execution, bar: f64) -> Result<(), Error> {
    let limbs: Vec<u64> = execution
        .record
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Access(at, ..) => Some(at.limbs as u64),
            Item::Undo(..) | Item::Lookup(..) => None,
        })
        .collect();
    let accesses = limbs.len() as u64;
    let mut own = 0;
    for region in profile::by_region(circuit, &execution.trace)? {
        for (part, rows) in &region.parts {
            if matches!(part, Part::Instruction { mnemonic, .. } if ACCESSES.contains(&mnemonic.as_str())) {
                own += rows * region.executions;
            }
        }
    }
    let elements = limbs.iter().sum::<u64>() + accesses.div_ceil(AGES as u64);
    let advice = (elements * ADVICE_ROWS).div_ceil(ADVICE_BLOCK as u64);
    line(what, accesses, own + advice, bar);
    let cells: BTreeSet<u64> = execution.record.memory.iter().map(|(cell, _)| *cell).collect();
    println!(
        "| of these: age and fingerprints {:.1}, hash of the advice {:.1}; {} cells | | | | | |",
        own as f64 / accesses.max(1) as f64,
        advice as f64 / accesses.max(1) as f64,
        cells.len()
    );
    Ok(())
}

fn executed(program: &Program, calldata: Vec<u8>) -> Result<(CircuitProgram, Execution), Error> {
    let circuit = program.circuit()?;
    let execution = circuit.execute(&CircuitCall { calldata, env: Env::default() })?;
    assert_eq!(execution.outcome().halt, Halt::Return, "the words are sorted");
    Ok((circuit, execution))
}

fn sorted_by_solady(path: &Path, words: u64) -> Result<(CircuitProgram, Execution), Error> {
    let program = Program::load(&Input::read(&path.display().to_string(), None)?)?;
    let mut rng: ChaCha8Rng = rand::SeedableRng::seed_from_u64(9);
    let words = (0..words).map(|_| DynSolValue::Uint(Word::from_limbs(rng.random()), 256)).collect();
    executed(&program, encode("sort(uint256[])", &[DynSolValue::Array(words)]))
}

/// Fills memory with words that a multiplication scatters, shifted right by `shift`, and sorts them by insertion in strides of 701, 301, 132, 57, 23,
/// 10, 4 and 1.
fn sorted_by_shells(words: u64, shift: u32) -> Result<(CircuitProgram, Execution), Error> {
    let factor = Word::MAX / Word::from(7) * Word::from(5);
    let mask = Word::MAX >> shift as usize;
    let width = 256 - shift;
    let end = 32 * words;
    let mut text = format!(
        "zvm 1\nentry @main\nfunc @main() {{\nblock0:\n v0: u26 = iconst 0\n v1: u256 = iconst {factor:#x}\n v2: u26 = iconst {end}\n v3: u6 = \
         iconst 32\n v4: u{width} = iconst {mask:#x}\n v5: u256 = iconst 1\n jump block1(v0, v5)\nblock1(v10: u26, v11: u256):\n v12: u1 = ult \
         v10, v2\n brif v12, block2, block3(v0)\nblock2:\n v13: u256 = wmul v11, v1\n v14: u256 = wadd v13, v10\n v15: u{width} = and v14, \
         v4\n mstore v10, v15\n v16: u27 = add v10, v3\n v17: u26 = narrow v16\n jump block1(v17, v14)\n"
    );
    let strides: Vec<u64> =
        [701, 301, 132, 57, 23, 10, 4, 1].into_iter().filter(|stride| *stride < words.max(2)).collect();
    for (at, stride) in strides.iter().enumerate() {
        let (block, value, step) = (3 + 5 * at, 100 + 20 * at, 32 * stride);
        let next =
            if at + 1 == strides.len() { format!("block{}", block + 5) } else { format!("block{}(v0)", block + 5) };
        let (b, v) = (|index: usize| block + index, |index: usize| value + index);
        text += &format!(
            "block{b0}(v{v0}: u26):\n v{v1}: u26 = iconst {step}\n v{v2}: u27 = add v{v0}, v{v1}\n v{v3}: u1 = ult v{v2}, v2\n brif v{v3}, \
             block{b1}, {next}\nblock{b1}:\n v{v4}: u26 = narrow v{v2}\n v{v5}: u256 = mload v{v4}\n jump block{b2}(v{v0}, \
             v{v4})\nblock{b2}(v{v6}: u26, v{v7}: u26):\n v{v8}: u256 = mload v{v6}\n v{v9}: u1 = ult v{v5}, v{v8}\n brif v{v9}, block{b3}, \
             block{b4}(v{v7})\nblock{b3}:\n mstore v{v7}, v{v8}\n v{v10}: u1 = ult v{v6}, v{v1}\n v{v15}: u256 = wsub v{v6}, v{v1}\n v{v11}: u26 = trunc v{v15}\n brif \
             v{v10}, block{b4}(v{v6}), block{b2}(v{v11}, v{v6})\nblock{b4}(v{v12}: u26):\n mstore v{v12}, v{v5}\n v{v13}: u27 = add v{v0}, \
             v3\n v{v14}: u26 = narrow v{v13}\n jump block{b0}(v{v14})\n",
            b0 = b(0),
            b1 = b(1),
            b2 = b(2),
            b3 = b(3),
            b4 = b(4),
            v0 = v(0),
            v1 = v(1),
            v2 = v(2),
            v3 = v(3),
            v4 = v(4),
            v5 = v(5),
            v6 = v(6),
            v7 = v(7),
            v8 = v(8),
            v9 = v(9),
            v10 = v(10),
            v11 = v(11),
            v12 = v(12),
            v13 = v(13),
            v14 = v(14),
            v15 = v(15),
        );
    }
    let last = 3 + 5 * strides.len();
    text += &format!("block{last}:\n v90: u256 = mload v0\n return_words 32, v90\n}}\n");
    let program = Program::load(&Input::parse("the sort", text.into_bytes(), None)?)?;
    executed(&program, Vec::new())
}
