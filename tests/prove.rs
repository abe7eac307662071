//! A proof of what happened verifies; a proof of anything else does not.
//!
//! "If `verify` accepts then the program with this commitment, run on the calls with this digest one after the other, halts with
//! these outcomes." Each field of the statement and each part of the file is altered in turn. What is altered inside the
//! folding itself (states, steps, slots) is attacked in the circuit backend's own tests.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::{Value, json};
use zvm::artifact::{self, Expected, Kind, Limits, ProofFile, Proved};
use zvm::call::{encode, function};
use zvm::{Call, Error, Exit, Input, Program, Source, State};
use zvm_ir::{Env, Halt, Log, Word};

/// Few rows, so that the tests fold several steps.
const ROWS: u64 = 6_000;

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).display().to_string()
}

fn collatz_path() -> String {
    example("collatz/Collatz.json")
}

fn load(path: &str) -> (Input, Program) {
    let input = Input::read(path, None).expect("readable");
    let program = Program::load(&input).expect("inside the subset");
    (input, program)
}

fn call(input: &Input, name: &str, args: &[&str]) -> Call {
    let Source::Contract(contract) = &input.source else { panic!("a contract is expected") };
    let args: Vec<_> = args.iter().map(|&text| Value::from(text)).collect();
    let function = function(name, contract.abi.as_ref()).expect("in the interface");
    Call { calldata: encode(&function, &args).expect("encodes"), env: Env::default() }
}

/// One folder of public parameters for all tests of this file.
fn cache() -> &'static Path {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    CACHE.get_or_init(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("parameters"))
}

fn prove(program: &Program, calls: &[Call], kind: Kind) -> Result<Proved, Error> {
    let mut progress = |_| ControlFlow::Continue(());
    let limits = Limits { rows_per_step: Some(ROWS), ..Limits::default() };
    let options = artifact::Options { kind, cache: Some(cache()), limits, keep: None, progress: &mut progress };
    artifact::prove(program, calls, &State::default(), options)
}

fn verify(program: &Program, file: &ProofFile, expected: &Expected) -> Result<(), Error> {
    artifact::verify("proof", &file.encode(), program, expected, Some(cache())).map(drop)
}

/// The proof that most tests alter: recursive, of several steps.
fn proof() -> &'static (Program, Proved) {
    static PROOF: OnceLock<(Program, Proved)> = OnceLock::new();
    PROOF.get_or_init(|| {
        let (input, program) = load(&collatz_path());
        let proved = prove(&program, &[call(&input, "steps", &["7"])], Kind::Recursive).expect("proved");
        (program, proved)
    })
}

/// The proof, altered, is refused: not valid, or not a proof any more.
fn refused(what: &str, alter: impl FnOnce(&mut ProofFile)) {
    let (program, proved) = proof();
    let mut file = proved.file.clone();
    alter(&mut file);
    assert_ne!(file, proved.file, "{what}: nothing was altered");
    let error = verify(program, &file, &Expected::default()).expect_err(what);
    assert!([Exit::No, Exit::Usage].contains(&error.exit()), "{what}: {error}");
}

#[test]
fn the_truth_is_accepted() {
    let (program, proved) = proof();
    assert_eq!(proved.file.outcomes[0].halt, Halt::Return);
    assert_eq!(proved.file.outcomes[0].data, Word::from(16).to_be_bytes_vec());
    assert!(proved.facts.steps > 2, "several steps are folded, not {}", proved.facts.steps);
    verify(program, &proved.file, &Expected::default()).expect("valid");
    let expected = Expected {
        calldata: Some(proved.file.calls[0].calldata.clone()),
        env: Some(proved.file.calls[0].env.clone()),
        halt: Some(Halt::Return),
        data: Some(proved.file.outcomes[0].data.clone()),
        calls: Some(proved.file.calls.clone()),
        pre_root: Some(Word::ZERO),
        post_root: Some(Word::ZERO),
        steps: Some(proved.facts.steps),
    };
    verify(program, &proved.file, &expected).expect("valid, and as expected");
}

#[test]
fn another_statement_is_refused() {
    refused("calldata", |file| file.calls[0].calldata[35] ^= 1);
    refused("longer calldata", |file| file.calls[0].calldata.push(0));
    refused("shorter calldata", |file| file.calls[0].calldata.truncate(35));
    refused("data", |file| file.outcomes[0].data[31] ^= 1);
    refused("longer data", |file| file.outcomes[0].data.push(0));
    refused("shorter data", |file| file.outcomes[0].data.truncate(31));
    refused("halt", |file| file.outcomes[0].halt = Halt::Revert);
    refused("trap", |file| file.outcomes[0].halt = Halt::Trap);
    refused("no call", |file| file.calls.clear());
    refused("no outcome", |file| file.outcomes.clear());
    refused("neither", |file| {
        file.calls.clear();
        file.outcomes.clear();
    });
    refused("the call twice", |file| file.calls.push(file.calls[0].clone()));
    refused("the outcome twice", |file| file.outcomes.push(file.outcomes[0].clone()));
    refused("both twice", |file| {
        file.calls.push(file.calls[0].clone());
        file.outcomes.push(file.outcomes[0].clone());
    });
    refused("a log", |file| file.outcomes[0].logs.push(Log { address: [0; 20], topics: vec![], data: vec![] }));
    refused("a log of a call that reverts", |file| {
        file.outcomes[0].halt = Halt::Revert;
        file.outcomes[0].logs.push(Log { address: [0; 20], topics: vec![], data: vec![] });
    });
    for at in [0, 1] {
        refused("a root", |file| file.roots[at] = Word::from(1));
        refused("a root that is no element", |file| file.roots[at] = Word::MAX);
    }
    refused("advice", |file| file.advice = Word::from(1));
    refused("advice that is no element", |file| file.advice = Word::MAX);
    refused("one step less", |file| file.segments[0].steps -= 1);
    refused("one step more", |file| file.segments[0].steps += 1);
    refused("no steps", |file| file.segments[0].steps = 0);
    refused("as many steps as there are numbers", |file| file.segments[0].steps = u64::MAX);
}

#[test]
fn another_environment_is_refused() {
    refused("address", |file| file.calls[0].env.address[0] ^= 1);
    refused("caller", |file| file.calls[0].env.caller[19] ^= 1);
    refused("origin", |file| file.calls[0].env.origin[19] ^= 1);
    refused("coinbase", |file| file.calls[0].env.coinbase[19] ^= 1);
    type Field = fn(&mut Env) -> &mut Word;
    let words: [(&str, Field); 10] = [
        ("value", |env| &mut env.callvalue),
        ("gas price", |env| &mut env.gasprice),
        ("timestamp", |env| &mut env.timestamp),
        ("number", |env| &mut env.number),
        ("prevrandao", |env| &mut env.prevrandao),
        ("gas limit", |env| &mut env.gaslimit),
        ("chain id", |env| &mut env.chainid),
        ("base fee", |env| &mut env.basefee),
        ("blob base fee", |env| &mut env.blobbasefee),
        ("balance", |env| &mut env.selfbalance),
    ];
    for (name, field) in words {
        refused(name, |file| *field(&mut file.calls[0].env) ^= Word::from(1));
        refused(name, |file| *field(&mut file.calls[0].env) ^= Word::from(1) << 255);
    }
}

#[test]
fn another_plan_is_refused() {
    refused("a slot more", |file| file.segments[0].plan[0].1 += 1);
    refused("another region", |file| file.segments[0].plan[0].0 += 1);
    refused("a region that does not exist", |file| file.segments[0].plan[0].0 = u32::MAX);
    refused("more slots than anybody builds", |file| file.segments[0].plan[0].1 = u32::MAX);
    refused("no slots", |file| file.segments[0].plan.clear());
    refused("other order", |file| file.segments[0].plan.reverse());
    refused("no segments", |file| file.segments.clear());
    refused("the segment twice", |file| file.segments.push(file.segments[0].clone()));
}

#[test]
fn altered_bytes_are_refused() {
    let len = proof().1.file.segments[0].proof.len();
    for at in (0..len).step_by(len / 40 + 1) {
        refused(&format!("byte {at} of {len}"), |file| file.segments[0].proof[at] ^= 1 << (at % 8));
    }
    for part in [0, 1, 2, 9] {
        refused(&format!("{part} tenths of the proof"), |file| file.segments[0].proof.truncate(len * part / 10));
    }
    refused("a longer proof", |file| file.segments[0].proof.push(0));
    refused("the other kind", |file| file.kind = Kind::Compressed);
}

#[test]
fn another_program_is_refused() {
    let (_, proved) = proof();
    // The same contract, but for one constant: 3n + 1 becomes 3n + 2.
    let (input, _) = load(&collatz_path());
    let Source::Contract(contract) = &input.source else { panic!("a contract is expected") };
    let other = load(&example("fixed-point/FixedPoint.json")).1;
    verify(&other, &proved.file, &Expected::default()).expect_err("another contract");
    let mut changed = 0;
    for at in 0..contract.runtime.len() - 1 {
        // PUSH1 1
        if contract.runtime[at..at + 2] != [0x60, 0x01] {
            continue;
        }
        let mut contract = contract.clone();
        contract.runtime[at + 1] = 2;
        let source = Source::Contract(contract);
        let Ok(program) = Program::load(&Input { origin: "altered".to_owned(), source }) else { continue };
        let circuit = program.circuit().expect("compiles");
        if circuit.commitment() == proof().0.circuit().expect("compiles").commitment() {
            continue;
        }
        let error = verify(&program, &proved.file, &Expected::default()).expect_err("another constant");
        assert_eq!(error.exit(), Exit::No, "{error}");
        changed += 1;
        if changed == 3 {
            break;
        }
    }
    assert!(changed > 0, "no constant could be changed");
}

#[test]
fn what_is_not_expected_is_refused() {
    let (program, proved) = proof();
    let not = |expected: Expected| {
        let error = verify(program, &proved.file, &expected).expect_err("unexpected");
        assert_eq!(error.exit(), Exit::No);
    };
    not(Expected { calldata: Some(vec![1]), ..Expected::default() });
    not(Expected { env: Some(Env { number: Word::from(9), ..Env::default() }), ..Expected::default() });
    not(Expected { halt: Some(Halt::Revert), ..Expected::default() });
    not(Expected { data: Some(vec![]), ..Expected::default() });
    not(Expected { calls: Some(vec![]), ..Expected::default() });
    not(Expected { pre_root: Some(Word::from(1)), ..Expected::default() });
    not(Expected { post_root: Some(Word::from(1)), ..Expected::default() });
    not(Expected { steps: Some(proved.facts.steps + 1), ..Expected::default() });
}

fn zvm(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_zvm")).args(args).output().expect("zvm runs");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    output
}

/// A compressed proof of a call that reverts, on the command line: made, verified, and attacked.
#[test]
fn the_command_line_proves_and_verifies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("proof.zvmp");
    let proof = path.display().to_string();
    let (contract, other) = (example("fixed-point/FixedPoint.json"), collatz_path());
    let cache = cache().display().to_string();
    let output = zvm(&[
        "prove",
        &contract,
        "--sig",
        "div",
        "5",
        "0",
        "--block",
        "number=77",
        "-o",
        &proof,
        "--cache",
        &cache,
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    for field in [
        "proof",
        "system",
        "steps",
        "rows_per_step",
        "rows_total",
        "iterations_hot",
        "cpu_seconds",
        "peak_memory_bytes",
        "statement",
    ] {
        assert!(!made[field].is_null(), "no `{field}` in {made:#}");
    }

    let verify = |more: &[&str]| {
        let mut args = vec!["verify", &proof, "--program", &contract, "--cache", &cache, "--json"];
        args.extend(more);
        let output = zvm(&args);
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), document)
    };
    let (code, said) = verify(&[]);
    assert_eq!((code, &said["valid"]), (Some(0), &json!(true)), "{said:#}");
    assert_eq!(said["statement"], made["statement"]);
    let fields = [
        "program",
        "calls",
        "calls_digest",
        "calldata_digest",
        "pre_root",
        "post_root",
        "halt",
        "outcome_digest",
        "steps",
    ];
    for field in fields {
        assert!(!said["statement"][field].is_null(), "no `{field}` in {said:#}");
    }
    assert_eq!(said["statement"]["halt"], json!("revert"));
    // DivisionByZero(5)
    let data = said["outcome"]["data"].as_str().expect("hex").to_owned();
    assert!(data.len() == 2 + 8 + 64 && data.ends_with('5'), "{data}");

    let good: [&[&str]; 4] =
        [&["--sig", "div", "5", "0"], &["--block", "number=77"], &["--halt", "revert"], &["--data", &data]];
    for expected in good {
        assert_eq!(verify(expected).0, Some(0), "{expected:?}");
    }
    let bad: [&[&str]; 6] = [
        &["--sig", "div", "6", "0"],
        &["--block", "number=78"],
        &["--caller", "0x0000000000000000000000000000000000000001"],
        &["--halt", "return"],
        &["--data", "0x"],
        &["--steps", "99"],
    ];
    for expected in bad {
        let (code, said) = verify(expected);
        assert_eq!((code, &said["valid"]), (Some(1), &json!(false)), "{expected:?}");
        assert!(said["reason"].is_string());
    }
    let output = zvm(&["verify", &proof, "--program", &other, "--cache", &cache]);
    assert_eq!(output.status.code(), Some(1), "another program");

    let bytes = std::fs::read(&path).expect("written");
    let attacks = (0..bytes.len()).step_by(bytes.len() / 12 + 1);
    for at in attacks {
        let mut altered = bytes.clone();
        altered[at] ^= 0x10;
        std::fs::write(&path, &altered).expect("writable");
        let output = zvm(&["verify", &proof, "--program", &contract, "--cache", &cache]);
        let code = output.status.code();
        assert!(matches!(code, Some(1 | 2)), "byte {at}: {code:?} {}", String::from_utf8_lossy(&output.stderr));
        assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"), "byte {at}");
    }
    for len in [0, 3, 4, 5, 40, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..len]).expect("writable");
        let output = zvm(&["verify", &proof, "--program", &contract, "--cache", &cache]);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{len} bytes");
    }
}

/// Memory that no step fits is refused before anything is made, with what it takes.
#[test]
fn too_little_memory_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let to = folder.path().join("out").display().to_string();
    let contract = collatz_path();
    let call = ["--sig", "steps", "7", "--max-memory", "1M", "--json"];
    let commands = [
        [&["prove", &contract, "-o", &to][..], &call].concat(),
        [&["profile", &contract][..], &call].concat(),
        vec!["compile", &contract, "-o", &to, "--max-memory", "1M", "--json"],
    ];
    for command in commands {
        let output = zvm(&command);
        assert_eq!(output.status.code(), Some(Exit::Limit as i32), "{command:?}");
        let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let message = said["error"]["message"].as_str().expect("a message");
        assert!(message.contains("at least") && message.contains("no more than 1 "), "{message}");
        assert!(!Path::new(&to).join("artifact.zvma").exists() && !Path::new(&to).is_file());
    }
}

/// What is expected of the calls of a batch is compared before anything is built, so no proof is needed to see it.
#[test]
fn what_is_expected_of_a_batch_is_compared() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (_, proved) = proof();
    let mut file = proved.file.clone();
    let mut second = file.calls[0].clone();
    (second.env.caller, second.env.origin) = ([0xbb; 20], [0xbb; 20]);
    second.env.number = Word::from(9);
    file.calls.push(second);
    file.outcomes.push(file.outcomes[0].clone());
    let (batch, list) = (path("batch.zvmp"), path("calls.json"));
    std::fs::write(&batch, file.encode()).expect("writable");
    let (contract, cache) = (collatz_path(), cache().display().to_string());
    let reason = |more: &[&str], calls: Value| {
        std::fs::write(&list, calls.to_string()).expect("writable");
        let args = ["verify", &batch, "--program", &contract, "--cache", &cache, "--json"];
        let output = zvm(&[&args[..], more].concat());
        assert_eq!(output.status.code(), Some(1), "the proof is of one call only");
        let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        document["reason"].as_str().expect("a reason").to_owned()
    };
    let one = json!({"sig": "steps", "args": ["7"]});
    let with = |name: &str, value: Value| {
        let mut call = one.clone();
        call[name] = value;
        json!([one, call])
    };
    let bb = "0xbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
    let listed: &[&str] = &["--calls", &list];
    let as_claimed = [
        (&[][..], json!([])),
        (listed, json!([one, one])),
        (listed, with("caller", json!(bb))),
        (listed, with("block", json!({"number": 9}))),
    ];
    for (more, list) in as_claimed {
        let reason = reason(more, list.clone());
        assert!(!reason.contains("than expected"), "{more:?} {list}: {reason}");
    }
    let otherwise = [
        (listed, json!([one])),
        (listed, json!([one, one, one])),
        (listed, json!([one, {"sig": "steps", "args": ["8"]}])),
        (listed, with("caller", json!("0x0000000000000000000000000000000000000001"))),
        (listed, with("value", json!(1))),
        (listed, with("gasprice", json!(77))),
        (listed, with("block", json!({"number": 10}))),
        (&["--caller", bb][..], json!([])),
        (&["--block", "number=9"][..], json!([])),
        (&["--sig", "steps", "7"][..], json!([])),
        (&["--pre-root", "1"][..], json!([])),
        (&["--post-root", "1"][..], json!([])),
    ];
    for (more, list) in otherwise {
        let reason = reason(more, list.clone());
        assert!(reason.contains("than expected"), "{more:?} {list}: {reason}");
    }
    // Who signed is asked where it is given, and only there.
    for call in &mut file.calls {
        (call.env.caller, call.env.origin) = ([0xbb; 20], [0xdd; 20]);
    }
    std::fs::write(&batch, file.encode()).expect("writable");
    let expected = |origin: &[&str]| reason(&[&["--caller", bb], origin].concat(), json!([])).contains("than expected");
    assert!(!expected(&[]));
    assert!(!expected(&["--origin", "0xdddddddddddddddddddddddddddddddddddddddd"]));
    assert!(expected(&["--origin", bb]));
}

/// A compiled program is enough to verify: nothing but the artifact is needed.
#[test]
fn an_artifact_verifies() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let to = folder.path().display().to_string();
    assert_eq!(zvm(&["compile", &collatz_path(), "-o", &to, "-q"]).status.code(), Some(0));
    let artifact = folder.path().join("artifact.zvma").display().to_string();
    let program = load(&artifact).1;
    let (_, proved) = proof();
    verify(&program, &proved.file, &Expected::default()).expect("the same program");
}

/// A prover on the command line that keeps checkpoints; its small steps are many.
#[cfg(unix)]
mod interrupts {
    use std::process::{Child, Stdio};
    use std::thread::sleep;
    use std::time::Duration;

    use zvm_backend_circuit::checkpoint::{Checkpoint, FILE_NAME};

    use super::*;

    struct Prover {
        folder: tempfile::TempDir,
        contract: String,
    }

    impl Prover {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().expect("a temporary folder"), contract: collatz_path() }
        }

        fn path(&self, name: &str) -> String {
            self.folder.path().join(name).display().to_string()
        }

        fn arguments(&self, resume: bool) -> Vec<String> {
            let cache = cache().display().to_string();
            let rows = ROWS.to_string();
            let (proof, kept) = (self.path("proof.zvmp"), self.path("kept"));
            let mut arguments = vec!["prove", &self.contract, "--sig", "steps", "871", "-o", &proof, "--cache", &cache];
            arguments.extend(["--rows-per-step", &rows, "--recursive", "--checkpoint", &kept]);
            arguments.extend(["--checkpoint-every", "1", "--json"]);
            if resume {
                arguments.push("--resume");
            }
            arguments.into_iter().map(str::to_owned).collect()
        }

        fn start(&self, resume: bool) -> Child {
            let mut command = Command::new(env!("CARGO_BIN_EXE_zvm"));
            command.args(self.arguments(resume)).stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().expect("zvm runs")
        }

        /// The steps in the checkpoint; none if there is no checkpoint yet. What is there is always whole.
        fn kept(&self) -> u64 {
            match std::fs::read(Path::new(&self.path("kept")).join(FILE_NAME)) {
                Ok(bytes) => {
                    let Checkpoint { segments, finished, steps, .. } =
                        Checkpoint::decode(&bytes).expect("a whole checkpoint");
                    steps + segments[..finished as usize].iter().map(|segment| segment.steps).sum::<u64>()
                }
                Err(_) => 0,
            }
        }

        fn finish(&self) -> Value {
            let output = self.start(true).wait_with_output().expect("zvm ends");
            assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
            let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            let bytes = std::fs::read(self.path("proof.zvmp")).expect("written");
            let program = load(&self.contract).1;
            artifact::verify("proof", &bytes, &program, &Expected::default(), Some(cache())).expect("valid");
            assert!(!Path::new(&self.path("kept")).join(FILE_NAME).exists(), "a checkpoint of a finished proof");
            made
        }
    }

    #[test]
    fn a_prover_that_is_killed_goes_on() {
        let prover = Prover::new();
        let mut seed = 0x9e37_79b9_u64;
        let mut before = 0;
        for round in 0..10 {
            let mut child = prover.start(true);
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sleep(Duration::from_millis(200 + (seed >> 33) % 2_500));
            if child.try_wait().expect("the process is ours").is_some() {
                panic!("round {round}: the proof was made before it could be killed; make it longer");
            }
            // SIGKILL: the process cannot notice.
            child.kill().expect("killed");
            child.wait().expect("ended");
            let kept = prover.kept();
            assert!(kept >= before, "round {round}: {kept} steps kept after {before}");
            before = kept;
        }
        let made = prover.finish();
        assert_eq!(made["steps_resumed"], json!(before), "all that was kept is gone on with");
    }

    #[test]
    fn an_interrupt_keeps_every_folded_step() {
        let prover = Prover::new();
        let mut child = prover.start(false);
        while prover.kept() < 2 && child.try_wait().expect("the process is ours").is_none() {
            sleep(Duration::from_millis(20));
        }
        let before = prover.kept();
        let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
        let output = child.wait_with_output().expect("zvm ends");
        assert_eq!(output.status.code(), Some(Exit::Limit as i32), "{}", String::from_utf8_lossy(&output.stderr));
        let kept = prover.kept();
        assert!(kept >= before, "{kept} steps kept, {before} folded");

        // The same folder is not begun anew by accident, and not gone on with for another call.
        let again = prover.start(false).wait_with_output().expect("zvm ends");
        assert_eq!(again.status.code(), Some(Exit::Usage as i32));
        let mut arguments = prover.arguments(true);
        let at = arguments.iter().position(|argument| argument == "871").expect("the argument");
        arguments[at] = "872".to_owned();
        let other = zvm(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(other.status.code(), Some(Exit::Usage as i32));
        let said: Value = serde_json::from_slice(&other.stdout).expect("JSON");
        let message = said["error"]["message"].as_str().expect("a message");
        assert!(message.contains("another call") && message.contains(&prover.path("kept")), "{message}");

        let made = prover.finish();
        assert_eq!(made["steps_resumed"], json!(kept));
    }
}
