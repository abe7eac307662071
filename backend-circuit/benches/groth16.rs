//! What proving with Groth16 costs beside the library alone.
//!
//!     cargo bench -p zvm-backend-circuit --bench groth16 [-- LOG_ROWS…]
//!
//! For circuits of nearly 2^16, 2^17 and 2^18 rows (Fibonacci numbers): CPU seconds and peak memory of proving a call (executing it, making
//! the witness, proving, verifying), and of bellperson alone on the same rows with the same witness, which it reads from a file as plain
//! numbers. Both use the same keys. Each is a process of its own, five times in turns, and the least of five counts; exit code 1
//! if a ratio exceeds 1.1.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use bellpepper::util_cs::witness_cs::WitnessCS;
use bellpepper_core::ConstraintSystem as _;
use bellperson::groth16::{Parameters, create_random_proof};
use bellperson::{Circuit, ConstraintSystem, Index, LinearCombination, SynthesisError, Variable};
use blstrs::{Bls12, Scalar};
use ff::{Field, PrimeField};
use rand_core::OsRng;
use zvm_backend_circuit::cs::System;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::groth16::{self, OneShot};
use zvm_backend_circuit::keys::{Keys, Source};
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::replay::Prepared;
use zvm_backend_circuit::short::{self, Setup};
use zvm_backend_circuit::usage;
use zvm_backend_circuit::whole::Whole;
use zvm_ir::{EmptyState, Word};

const FIBONACCI: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u1 = \
     iconst 1\n v3: u256 = zext v0\n v4: u256 = zext v2\n jump block1(v1, v3, v4)\nblock1(v5: u256, v6: u256, v7: u256):\n v8: u1 = \
     iszero v5\n brif v8, block2, block3\nblock2:\n return_words 32, v6\nblock3:\n v9: u256 = sub v5, v2\n v10: u256 = wadd v6, \
     v7\n jump block1(v9, v7, v10)\n}\n";
/// The most that proving may cost, as a multiple of what the library costs.
const BAR: f64 = 1.1;
const RUNS: usize = 5;

fn program() -> Arc<Program> {
    Arc::new(Program::compile(&zvm_ir::parse(FIBONACCI).expect("parses")).expect("compiles"))
}

fn prepared(program: &Program, n: u64) -> Prepared<Scalar> {
    let call = Call { calldata: Word::from(n).to_be_bytes::<32>().to_vec(), ..Call::default() };
    program.prepare(&[call], &EmptyState).expect("executes")
}

/// The slots of the execution, each once.
fn plan(program: &Arc<Program>, n: u64) -> Arc<Plan> {
    Arc::new(short::plan_for(program, [&prepared(program, n).trace]).expect("provable"))
}

/// The largest Fibonacci number whose circuit, as the library counts, has at most 2^log rows.
fn largest(program: &Arc<Program>, log: u32) -> u64 {
    let rows = |n: u64| {
        let plan = plan(program, n);
        short::shape(program, &plan).expect("synthesised").rows as u64
    };
    let (two, three) = (rows(2), rows(3));
    let mut n = 2 + ((1 << log) - two) / (three - two);
    // Later iterations may have a few rows more.
    while rows(n) > 1 << log {
        n -= 1;
    }
    n
}

/// A circuit as numbers in a file: rows as terms, then the witness.
struct Bare<'a>(&'a Path);

fn write_bare(circuit: &Whole<Scalar>, path: &Path) {
    let mut system = System::<Scalar>::default();
    let mut witness = WitnessCS::<Scalar>::new();
    let input = circuit.synthesize(&mut system).expect("synthesised");
    let value = circuit.synthesize(&mut witness).expect("has a witness").value().expect("known");
    let output = system.alloc_input(|| "", || Ok(value)).expect("allocated");
    system.enforce(|| "", |_| input.to_bellpepper(), |lc| lc + System::<Scalar>::one(), |lc| lc + output);
    let mut file = BufWriter::new(File::create(path).expect("writable"));
    let number = |file: &mut BufWriter<File>, number: usize| {
        file.write_all(&(number as u32).to_le_bytes()).expect("writable");
    };
    let scalar = |file: &mut BufWriter<File>, scalar: &Scalar| {
        let small = scalar.to_repr()[1..].iter().all(|&byte| byte == 0);
        file.write_all(&[u8::from(!small)]).expect("writable");
        file.write_all(&scalar.to_repr()[..if small { 1 } else { 32 }]).expect("writable");
    };
    let aux = witness.aux_assignment();
    number(&mut file, aux.len());
    aux.iter().for_each(|value| scalar(&mut file, value));
    scalar(&mut file, &value);
    number(&mut file, system.rows());
    for row in 0..system.rows() {
        for side in 0..3 {
            let mut terms = Vec::new();
            system.for_each_term(row, side, |wire, coefficient| terms.push((wire, coefficient)));
            number(&mut file, terms.len());
            for (wire, coefficient) in terms {
                number(&mut file, wire);
                scalar(&mut file, &coefficient);
            }
        }
    }
    file.flush().expect("writable");
}

fn read_number(file: &mut impl Read) -> usize {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes).expect("complete");
    u32::from_le_bytes(bytes) as usize
}

fn read_scalar(file: &mut impl Read) -> Scalar {
    let mut tag = [0];
    file.read_exact(&mut tag).expect("complete");
    let mut bytes = [0; 32];
    file.read_exact(&mut bytes[..if tag[0] == 0 { 1 } else { 32 }]).expect("complete");
    match bytes {
        _ if tag[0] == 0 && bytes[0] == 0 => Scalar::ZERO,
        _ if tag[0] == 0 && bytes[0] == 1 => Scalar::ONE,
        bytes => Option::from(Scalar::from_repr(bytes)).expect("reduced"),
    }
}

impl Circuit<Scalar> for Bare<'_> {
    fn synthesize<CS: ConstraintSystem<Scalar>>(self, cs: &mut CS) -> Result<(), SynthesisError> {
        let mut file = BufReader::with_capacity(1 << 20, File::open(self.0).expect("readable"));
        let aux = (0..read_number(&mut file))
            .map(|_| cs.alloc(|| "", || Ok(read_scalar(&mut file))))
            .collect::<Result<Vec<_>, _>>()?;
        let input = cs.alloc_input(|| "", || Ok(read_scalar(&mut file)))?;
        let variable = |wire: usize| match wire {
            0 => Variable::new_unchecked(Index::Input(0)),
            1 => input,
            wire => aux[wire - 2],
        };
        for _ in 0..read_number(&mut file) {
            let mut side = || {
                (0..read_number(&mut file)).fold(LinearCombination::zero(), |lc, _| {
                    let variable = variable(read_number(&mut file));
                    lc + (read_scalar(&mut file), variable)
                })
            };
            let (a, b, c) = (side(), side(), side());
            cs.enforce(|| "", |_| a, |_| b, |_| c);
        }
        Ok(())
    }
}

/// One measurement in this process: CPU seconds and peak memory. Keys are read before the clock starts, in the same way by both: the
/// file as a whole, then its points.
fn measure(what: &str, path: &Path, bare: &Path, n: u64) {
    let cpu = || usage::cpu_seconds().expect("the system tells");
    let seconds = if what == "bare" {
        let bytes = std::fs::read(path).expect("keys");
        let header = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let parameters = Parameters::<Bls12>::read(&bytes[8 + header + 32..], false).expect("parameters");
        drop(bytes);
        let before = cpu();
        create_random_proof(Bare(bare), &parameters, &mut OsRng).expect("proved");
        cpu() - before
    } else {
        let keys = Keys::read(path).expect("keys");
        let key = keys.proving().expect("keys");
        let program = program();
        let before = cpu();
        short::prove_with(&program, prepared(&program, n), &keys, &key).expect("proved");
        cpu() - before
    };
    println!("{seconds} {}", usage::peak_memory_bytes().expect("the system tells"));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [what, keys, bare, n] = &arguments[..]
        && what != "16"
    {
        measure(what, Path::new(keys), Path::new(bare), n.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    let logs: Vec<u32> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let logs = if logs.is_empty() { vec![16, 17, 18] } else { logs };
    let folder: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("groth16-bench");
    std::fs::create_dir_all(&folder).expect("writable");
    let program = program();
    let mut good = true;
    println!("| rows | variables | CPU s | library | ratio | peak MB | library | ratio | setup, CPU s | keys, MB |");
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    for log in logs {
        let n = largest(&program, log);
        let plan = plan(&program, n);
        let groth16::Shape { rows, variables, .. } = short::shape(&program, &plan).expect("synthesised");
        // Made anew, so that their cost is seen.
        let path = folder.join(format!("{log}.zvmk"));
        let _ = std::fs::remove_file(&path);
        let before = usage::cpu_seconds().expect("the system tells");
        let keys = short::setup(&program, &plan, Setup::InsecureLocal, Source::File(&path)).expect("keys");
        let setup = usage::cpu_seconds().expect("the system tells") - before;
        let key_bytes = std::fs::metadata(&path).expect("written").len();
        let bare = folder.join(format!("{log}.rows"));
        write_bare(&Whole::of(&program, &plan, prepared(&program, n)).expect("room"), &bare);
        let run = |what: &str| -> (f64, f64) {
            let output = Command::new(std::env::current_exe().expect("known"))
                .args([what.as_ref(), keys.path.as_os_str(), bare.as_os_str(), n.to_string().as_ref()])
                .output()
                .expect("runs");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let text = String::from_utf8(output.stdout).expect("text");
            let numbers: Vec<f64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
            (numbers[0], numbers[1] / f64::from(1 << 20))
        };
        let (mut ours, mut theirs) = ((f64::MAX, f64::MAX), (f64::MAX, f64::MAX));
        for _ in 0..RUNS {
            let (o, t) = (run("ours"), run("bare"));
            ours = (ours.0.min(o.0), ours.1.min(o.1));
            theirs = (theirs.0.min(t.0), theirs.1.min(t.1));
        }
        let (cpu, memory) = (ours.0 / theirs.0, ours.1 / theirs.1);
        println!(
            "| {rows} | {variables} | {:.2} | {:.2} | {cpu:.3} | {:.0} | {:.0} | {memory:.3} | {setup:.1} | {:.1} |",
            ours.0,
            theirs.0,
            ours.1,
            theirs.1,
            key_bytes as f64 / f64::from(1 << 20)
        );
        good &= cpu <= BAR && memory <= BAR;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
