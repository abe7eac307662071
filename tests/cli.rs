//! The command line: exit codes, the fields that scripts rely on, and input of every bad kind. Nothing panics.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tempfile::TempDir;

fn zvm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zvm"));
    command.env("NO_COLOR", "1");
    command
}

fn run(args: &[&str]) -> Output {
    zvm().args(args).output().expect("zvm runs")
}

/// The exit code; a panic and a signal are failures whatever the test is about.
fn exit(output: &Output) -> i32 {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
    let code = output.status.code().expect("no signal");
    assert!((0..=4).contains(&code), "exit code {code}: {errors}");
    code
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).display().to_string()
}

fn collatz() -> String {
    example("collatz/Collatz.json")
}

fn fixed_point() -> String {
    example("fixed-point/FixedPoint.json")
}

fn file(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    fs::write(&path, content).expect("writable");
    path.display().to_string()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// All names, and no others, are fields of an object; more may be added by listing them here.
fn has_fields(value: &Value, names: &[&str]) {
    for name in names {
        assert!(value.get(name).is_some(), "no field `{name}` in {value:#}");
    }
}

#[test]
fn check_reports_both_rings() {
    let output = run(&["check", &collatz(), "--json"]);
    assert_eq!(exit(&output), 0);
    let report = document(&output);
    has_fields(
        &report,
        &["l1_ring", "proof_ring", "problems", "blocks", "ir_blocks", "functions", "jumps", "unresolved"],
    );
    assert_eq!((&report["l1_ring"], &report["proof_ring"]), (&json!(true), &json!(true)));

    // sstore(0, calldataload(0)): on L1 and in a proof.
    let report = document(&run(&["check", "0x5f355f5500", "--json"]));
    assert_eq!((&report["l1_ring"], &report["proof_ring"]), (&json!(true), &json!(true)));

    // tstore(callvalue(), calldataload(0)): on L1, not in a proof, for its slot is computed.
    let output = run(&["check", "0x5f35345d00", "--json"]);
    assert_eq!(exit(&output), 0);
    let report = document(&output);
    assert_eq!((&report["l1_ring"], &report["proof_ring"]), (&json!(true), &json!(false)));
    let problem = &report["problems"][0];
    has_fields(problem, &["ring", "pc", "opcode", "reason", "help"]);
    assert_eq!((&problem["ring"], &problem["pc"], &problem["opcode"]), (&json!("proof"), &json!(3), &json!("TSTORE")));

    // jump(calldataload(0)) with many places to go: outside both.
    let code = format!("0x5f3556{}00", "5b".repeat(200));
    let output = run(&["check", &code, "--json"]);
    assert_eq!(exit(&output), 3);
    let report = document(&output);
    assert_eq!((&report["l1_ring"], &report["unresolved"]), (&json!(false), &json!(1)));
    assert_eq!(report["problems"][0]["pc"], json!(2));
    let text = run(&["check", &code]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("0x0002 JUMP"), "{}", String::from_utf8_lossy(&text.stdout));
}

#[test]
fn graphs_are_drawn() {
    let output = run(&["ir", &collatz(), "--cfg", "dot"]);
    assert_eq!(exit(&output), 0, "{}", errors(&output));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.starts_with("digraph zvm {") && text.trim_end().ends_with('}'), "{text}");
    assert!(text.contains("subgraph \"cluster_fn0\"") && text.contains("style=dashed"), "a loop: {text}");
    has_fields(&document(&run(&["ir", &collatz(), "--raw", "--cfg", "dot", "--json"])), &["dot"]);
}

#[test]
fn deploy_writes_runtime_code_and_state() {
    let folder = folder();
    let state = folder.path().join("state.json");
    let state = state.to_str().expect("UTF-8");
    // The constructor stores its argument, and the runtime code that it returns loads it: sload(0).
    let creation = "0x6020601d5f395f515f55600960145f3960095ff3 5f545f5260205ff3fe".replace(' ', "");
    let code = "0x5f545f5260205ff3fe";
    let deploy =
        |args: &[&str]| run(&[&["deploy", code, "--creation", &creation, "-o", state, "--json"], args].concat());
    let output = deploy(&["--sig", "constructor(uint256)", "77"]);
    assert_eq!(exit(&output), 0, "{}", errors(&output));
    has_fields(&document(&output), &["address", "gas", "runtime_bytes", "state", "runtime"]);
    let runtime = fs::read_to_string(folder.path().join("runtime.hex")).expect("runtime.hex");
    let output = run(&["run", runtime.trim(), "--calldata", "0x", "--state", state, "--executor", "evm", "--json"]);
    assert_eq!(exit(&output), 0, "{}", errors(&output));
    assert_eq!(document(&output)["executors"]["evm"]["data"], json!(format!("0x{:064x}", 77)));

    // Arguments of another number or type, a constructor that reverts, and nothing to deploy.
    assert_eq!(exit(&deploy(&["--sig", "constructor(uint256)"])), 2);
    assert_eq!(exit(&deploy(&["--sig", "constructor(uint256)", "x"])), 2);
    let reverts = run(&["deploy", code, "--creation", "0x60aa5f5360015ffd", "-o", state]);
    assert_eq!(exit(&reverts), 1);
    assert!(errors(&reverts).contains("reverts with 0xaa"), "{}", errors(&reverts));
    assert_eq!(exit(&run(&["deploy", code, "-o", state])), 2);
    // An example, with nothing given, into a folder that is not there yet.
    let deep = folder.path().join("a/b/state.json");
    assert_eq!(exit(&run(&["deploy", &collatz(), "-o", &deep.display().to_string()])), 0);
    assert!(deep.with_file_name("runtime.hex").exists());
    // Where a file is in the way, the error names what was asked for.
    let inside = deep.join("state.json");
    let output = run(&["deploy", &collatz(), "-o", &inside.display().to_string()]);
    assert_eq!(exit(&output), 2);
    assert!(
        errors(&output).contains("state.json") && !errors(&output).contains("state.json/.tmp"),
        "{}",
        errors(&output)
    );
}

#[test]
fn run_compares_all_executors() {
    let output = run(&["run", &collatz(), "--sig", "steps", "6", "--json"]);
    assert_eq!(exit(&output), 0, "{}", errors(&output));
    let result = document(&output);
    assert_eq!(result["agree"], json!(true));
    for name in ["evm", "ir", "lowered", "circuit"] {
        has_fields(&result["executors"][name], &["halt", "data", "logs", "storage"]);
        assert_eq!(result["executors"][name]["data"], json!(format!("0x{:064x}", 8)), "{name}");
    }
    assert!(result["executors"]["evm"]["gas"].is_number());

    // A revert is an outcome: the exit code says that everything worked.
    let output = run(&["run", &collatz(), "--sig", "steps(uint256)", "0"]);
    assert_eq!(exit(&output), 0);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("revert") && text.contains("NotPositive()"), "{text}");
    let output = run(&["run", &fixed_point(), "--sig", "div", "5", "0"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("DivisionByZero(5)"));
    let output = run(&["run", &fixed_point(), "--sig", "mul", "-q", "--executor", "ir", &"9".repeat(77), "2"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("Panic(17): arithmetic overflow"));
}

#[test]
fn calls_carry_state() {
    let folder = folder();
    // With calldata: sstore(0, sload(0) + calldataload(0)). Without: return sload(0).
    let program = "0x36600c575f545f5260205ff35b5f355f54015f5500";
    let adds = json!([
        {"calldata": format!("0x{:064x}", 5)}, {"calldata": format!("0x{:064x}", 7)}, {"calldata": "0x"},
    ]);
    let calls = file(&folder, "calls.json", adds.to_string());
    let account = format!("0x{}", "cc".repeat(20));
    let before = json!({ account.clone(): {"balance": "0x1", "storage": {"0x0": "0x64"}} });
    let state = file(&folder, "state.json", before.to_string());
    let after = folder.path().join("after.json").display().to_string();
    let args = ["run", program, "--calls", &calls, "--state", &state, "--state-out", &after, "--json"];
    let output = run(&args);
    assert_eq!(exit(&output), 0, "{}", errors(&output));
    let result = document(&output);
    assert_eq!(result["agree"], json!(true));
    let calls = result["calls"].as_array().expect("a list");
    assert_eq!(calls[1]["executors"]["lowered"]["storage"][0]["value"], json!(format!("0x{:064x}", 112)));
    has_fields(&calls[1]["executors"]["evm"]["storage"][0], &["address", "slot", "value"]);
    assert_eq!(calls[2]["executors"]["evm"]["data"], json!(format!("0x{:064x}", 112)));
    assert_eq!(calls[1]["executors"]["circuit"]["storage"][0]["value"], json!(format!("0x{:064x}", 112)));
    assert_eq!(calls[2]["executors"]["circuit"]["data"], json!(format!("0x{:064x}", 112)));
    let written: Value = serde_json::from_slice(&fs::read(&after).expect("written")).expect("JSON");
    assert_eq!(written[&account]["storage"][format!("0x{:064x}", 0)], json!(format!("0x{:064x}", 112)));
}

#[test]
fn ir_round_trips() {
    let folder = folder();
    for args in [&["--raw"][..], &[], &["--circuit"], &["--pass", "gvn"], &["--pass", "unroll"]] {
        let output = zvm().args(["ir", &collatz()]).args(args).output().expect("runs");
        assert_eq!(exit(&output), 0, "{args:?}: {}", errors(&output));
        let path = file(&folder, "program.zvm", &output.stdout);
        let again = run(&["ir", &path]);
        assert_eq!(exit(&again), 0, "{args:?}: {}", errors(&again));
        assert!(again.stdout == output.stdout, "{args:?}: the text changes when it is read and printed");
    }
    let text = run(&["ir", &collatz(), "--circuit"]).stdout;
    let path = file(&folder, "program.zvm", &text);
    let calldata = format!("0x7217e0b9{:064x}", 6);
    let output = run(&["run", &path, "--calldata", &calldata, "--json"]);
    assert_eq!(exit(&output), 0, "{}", errors(&output));
    let result = document(&output);
    assert_eq!(result["executors"]["lowered"]["data"], json!(format!("0x{:064x}", 8)));
    assert!(result["executors"].get("evm").is_none(), "IR has no original bytecode");
    assert_eq!(exit(&run(&["run", &path, "--calldata", &calldata, "--executor", "evm"])), 2);
    assert_eq!(exit(&run(&["ir", &collatz(), "--pass", "no-such-pass"])), 2);

    let broken = String::from_utf8_lossy(&text).replacen("iconst", "icnst", 1);
    let output = run(&["ir", &file(&folder, "broken.zvm", broken)]);
    assert_eq!(exit(&output), 2);
    assert!(errors(&output).contains("ZV0201") && errors(&output).contains("icnst"), "{}", errors(&output));
}

#[test]
fn compile_is_deterministic() {
    let folder = folder();
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    for to in [&a, &b] {
        let output = run(&["compile", &collatz(), "-o", &to.display().to_string(), "--json"]);
        assert_eq!(exit(&output), 0, "{}", errors(&output));
        let result = document(&output);
        has_fields(&result, &["runtime_bytes", "lowered_bytes", "rows_per_step", "slots", "arity", "digest"]);
        has_fields(&result["slots"][0], &["region", "count", "rows"]);
    }
    let names = [
        "program.zvm",
        "runtime.hex",
        "runtime.map.json",
        "creation.hex",
        "circuit.json",
        "artifact.zvma",
        "report.html",
    ];
    for name in names {
        let (first, second) = (fs::read(a.join(name)).expect(name), fs::read(b.join(name)).expect(name));
        assert!(!first.is_empty() && first == second, "{name} differs between two runs");
    }
    // The lowered code runs, and the artifact is a program.
    let lowered = a.join("runtime.hex").display().to_string();
    let calldata = format!("0x7217e0b9{:064x}", 6);
    let result = document(&run(&["run", &lowered, "--calldata", &calldata, "--executor", "evm", "--json"]));
    assert_eq!(result["executors"]["evm"]["data"], json!(format!("0x{:064x}", 8)));
    let artifact = a.join("artifact.zvma").display().to_string();
    let result = document(&run(&["run", &artifact, "--calldata", &calldata, "--json"]));
    assert_eq!(result["executors"]["circuit"]["data"], json!(format!("0x{:064x}", 8)));
    let left: Vec<_> = fs::read_dir(&a).expect("readable").flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), names.len(), "temporary files are left behind: {left:?}");
}

/// What the bytecode is made for: the fork, the goal, the metadata; its source map; its constructor.
#[test]
fn compile_makes_bytecode_as_asked() {
    let folder = folder();
    let to = folder.path().join("out").display().to_string();
    let compile = |args: &[&str]| {
        let output = run(&[&["compile", &collatz(), "-o", &to, "--json"], args].concat());
        assert_eq!(exit(&output), 0, "{}", errors(&output));
        let code = fs::read_to_string(folder.path().join("out/runtime.hex")).expect("runtime.hex");
        (document(&output), hex::decode(code.trim()).expect("hex"))
    };
    let (result, gas) = compile(&["--verify"]);
    has_fields(&result, &["creation_bytes", "creation_problem", "verified_blocks"]);
    assert!(result["verified_blocks"].as_u64().is_some_and(|blocks| blocks > 3), "{result:#}");
    let (_, size) = compile(&["--optimize", "size"]);
    let (_, none) = compile(&["--optimize", "none"]);
    assert!(size.len() <= gas.len() && gas.len() < none.len(), "{} {} {}", size.len(), gas.len(), none.len());

    // Each entry of the source map is an instruction of the original; PUSH0 is Shanghai's.
    let (_, london) = compile(&["--fork", "london", "--metadata", "drop"]);
    let map: Value =
        serde_json::from_slice(&fs::read(folder.path().join("out/runtime.map.json")).expect("the map")).expect("JSON");
    has_fields(&map, &["fork", "code_bytes", "map", "immutables", "data"]);
    assert_eq!(map["fork"], json!("london"));
    let record: Value = serde_json::from_slice(&fs::read(collatz()).expect("the example")).expect("JSON");
    let text = record.to_string();
    let entries = map["map"].as_array().expect("a list");
    let of = |entry: &Value, at: usize| entry[at].as_u64().expect("a position");
    assert!(entries.len() > 10 && entries.windows(2).all(|two| of(&two[0], 0) < of(&two[1], 0)));
    assert!(entries.iter().all(|entry| of(entry, 0) < map["code_bytes"].as_u64().unwrap_or(0)));
    assert!(opcodes(&london[..]).all(|byte| byte != 0x5f) && opcodes(&gas[..]).any(|byte| byte == 0x5f));

    // The metadata is that of the original, at the end.
    let (_, kept) = compile(&["--metadata", "keep"]);
    assert!(kept.len() > gas.len() && kept.starts_with(&gas));
    assert!(text.contains(&hex::encode(&kept[gas.len()..])));

    // The constructor deploys the code.
    let creation = fs::read_to_string(folder.path().join("out/creation.hex")).expect("creation.hex");
    let state = folder.path().join("state.json").display().to_string();
    let output = run(&["deploy", "0x00", "--creation", creation.trim(), "-o", &state]);
    assert_eq!(exit(&output), 0, "{}", errors(&output));
    let deployed = fs::read_to_string(folder.path().join("runtime.hex")).expect("runtime.hex");
    assert_eq!(deployed.trim(), format!("0x{}", hex::encode(&kept)));

    // What has no creation code leaves none of an earlier program.
    let output = run(&["compile", "0x5f355f5500", "-o", &to, "--json"]);
    assert_eq!(exit(&output), 0, "{}", errors(&output));
    assert!(document(&output)["creation_bytes"].is_null());
    assert!(!folder.path().join("out/creation.hex").exists());
    for wrong in [["--fork", "byzantium"], ["--optimize", "speed"], ["--metadata", "all"]] {
        assert_eq!(exit(&run(&[&["compile", &collatz(), "-o", &to][..], &wrong].concat())), 2);
    }
}

/// The opcodes of bytecode, without what they push.
fn opcodes(code: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let byte = *code.get(at)?;
        at += 1 + if (0x60..0x80).contains(&byte) { usize::from(byte) - 0x5f } else { 0 };
        Some(byte)
    })
}

#[test]
fn wrong_usage_exits_with_2() {
    let folder = folder();
    let empty = file(&folder, "empty", "");
    let text = file(&folder, "text", "not a program");
    let json = file(&folder, "other.json", "{\"a\": 1}");
    let bad_state = file(&folder, "state.json", "[]");
    let (collatz, fixed) = (collatz(), fixed_point());
    let cases: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["check"],
        &["check", "no/such/file"],
        &["check", &empty],
        &["check", &text],
        &["check", &json],
        &["check", "0x60zz"],
        &["check", &collatz, "--contract", "Other"],
        &["run", &collatz],
        &["run", &collatz, "6"],
        &["run", &collatz, "--sig", "steps"],
        &["run", &collatz, "--sig", "steps", "6", "7"],
        &["run", &collatz, "--sig", "steps", "six"],
        &["run", &collatz, "--sig", "step(uint256)", "6"],
        &["run", &collatz, "--sig", "steps", "6", "--calldata", "0x"],
        &["run", &collatz, "--calldata", "0x1"],
        &["run", &collatz, "--calldata", "0x", "--value", "-1"],
        &["run", &collatz, "--calldata", "0x", "--caller", "0x12"],
        &["run", &collatz, "--calldata", "0x", "--block", "height=3"],
        &["run", &collatz, "--calldata", "0x", "--state", &bad_state],
        &["run", &collatz, "--calldata", "0x", "--executor", "gpu"],
        &["run", &collatz, "--calldata", "0x", "--executor", "evm", "--block", "basefee=0x10000000000000000"],
        &["run", &fixed, "--calls", &json],
        &["compile", &collatz],
        &["prove", &collatz, "--calldata", "0x", "-o", "no/such/folder/proof.zvmp"],
        &["verify", &text, "--program", &collatz],
        &["verify", "no/such/proof", "--program", &collatz],
    ];
    for args in cases {
        let output = run(args);
        assert_eq!(exit(&output), 2, "{args:?}: {}", errors(&output));
        assert!(!errors(&output).is_empty(), "{args:?} says nothing");
    }
    let output = run(&["check", &text, "--json"]);
    assert_eq!(document(&output)["error"]["code"], json!("ZV0707"), "errors are JSON too");
    for args in [&["--help"][..], &["--version"], &["prove", "--help"], &["completions", "bash"]] {
        let output = run(args);
        assert_eq!(exit(&output), 0, "{args:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_limit_exits_with_4() {
    let output = run(&["run", "0x5b5f56", "--calldata", "0x", "--executor", "ir"]);
    assert_eq!(exit(&output), 4, "{}", errors(&output));
    let output = run(&["run", "0x60015f1952", "--calldata", "0x", "--executor", "evm", "--json"]);
    assert_eq!(exit(&output), 4);
    assert_eq!(document(&output)["error"]["code"], json!("ZV0901"));
}

#[test]
fn a_proof_that_needs_transient_storage_is_refused_with_its_place() {
    let folder = folder();
    let proof = folder.path().join("proof.zvmp").display().to_string();
    // calldatasize is zero: stop. Otherwise tstore(callvalue(), 1), at a slot that is computed.
    let output = run(&["prove", "0x36600557005b6001345d00", "--calldata", "0x01", "-o", &proof]);
    assert_eq!(exit(&output), 3, "{}", errors(&output));
    let text = errors(&output);
    assert!(text.contains("ZV0602") && text.contains("TSTORE") && text.contains("0x0009"), "{text}");
    assert!(!Path::new(&proof).exists());
}

#[test]
fn random_bytes_are_refused_or_compiled() {
    let folder = folder();
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut large = vec![0; 100 << 10];
    rng.fill(&mut large[..]);
    let path = file(&folder, "large", &large);
    for command in ["check", "ir"] {
        let output = run(&[command, &path]);
        assert_eq!(exit(&output), 3, "{command}: {}", errors(&output));
        assert!(errors(&output).contains("ZV0100") && errors(&output).contains("disassembled"), "{}", errors(&output));
        assert_eq!(document(&run(&[command, &path, "--json"]))["error"]["pc"], json!(0x6000));
    }
    let proof = folder.path().join("proof").display().to_string();
    let output = run(&["prove", &path, "--calldata", "0x", "-o", &proof]);
    assert_eq!(exit(&output), 3);
    for round in 0..40 {
        let mut bytes = vec![0; rng.random_range(1..3000)];
        rng.fill(&mut bytes[..]);
        // Half of them begin with what puts enough on the stack for the rest to be reached.
        if round % 2 == 0 {
            let pushes = [0x5f; 40];
            bytes.splice(0..0, pushes);
        }
        let path = file(&folder, "bytes", &bytes);
        let output = run(&["check", &path, "--json", "-q"]);
        assert!([0, 3].contains(&exit(&output)), "{}", errors(&output));
        document(&output);
        if exit(&output) == 0 {
            let output = run(&["run", &path, "--calldata", "0x0102", "--json", "-q"]);
            assert!([0, 4].contains(&exit(&output)), "0x{}: {}", hex::encode(&bytes), errors(&output));
        }
    }
}

#[test]
fn truncated_and_altered_files_are_refused() {
    let folder = folder();
    let whole = fs::read(collatz()).expect("the example");
    for part in 1..20 {
        let path = file(&folder, "part.json", &whole[..whole.len() * part / 20]);
        assert_eq!(exit(&run(&["check", &path])), 2, "{part} twentieths of the JSON");
    }
    let text = run(&["ir", &collatz()]).stdout;
    for part in 1..20 {
        let path = file(&folder, "part.zvm", &text[..text.len() * part / 20]);
        let code = exit(&run(&["ir", &path]));
        assert_eq!(code, 2, "{part} twentieths of the IR");
    }
    let compiled = folder.path().join("compiled");
    assert_eq!(exit(&run(&["compile", &collatz(), "-q", "-o", &compiled.display().to_string()])), 0);
    let artifact = fs::read(compiled.join("artifact.zvma")).expect("written");
    for part in 1..20 {
        let path = file(&folder, "part.zvma", &artifact[..artifact.len() * part / 20]);
        assert_eq!(exit(&run(&["check", &path])), 2, "{part} twentieths of the artifact");
    }
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for _ in 0..30 {
        let mut altered = artifact.clone();
        let at = rng.random_range(5..altered.len());
        altered[at] ^= 1 << rng.random_range(0..8);
        let path = file(&folder, "altered.zvma", &altered);
        exit(&run(&["check", &path]));
    }
}

#[test]
fn standard_input_and_a_closed_pipe() {
    let mut child =
        zvm().args(["check", "-", "--json"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("runs");
    child.stdin.take().expect("piped").write_all(b"0x00").expect("written");
    let output = child.wait_with_output().expect("ends");
    assert_eq!(document(&output)["l1_ring"], json!(true));

    let mut child = zvm()
        .args(["ir", &fixed_point(), "--raw"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("runs");
    drop(child.stdout.take());
    let mut text = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut text).expect("text");
    assert_eq!((child.wait().expect("ends").code(), text.as_str()), (Some(0), ""));
}

/// Files appear whole or not at all: an output that cannot be written leaves nothing.
#[test]
fn outputs_replace_files_whole() {
    let folder = folder();
    let state: PathBuf = folder.path().join("state.json");
    fs::write(&state, "before").expect("writable");
    let path = state.display().to_string();
    assert_eq!(exit(&run(&["run", "0x00", "--calldata", "0x", "--state-out", &path])), 0);
    assert_eq!(serde_json::from_slice::<Value>(&fs::read(&state).expect("written")).expect("JSON"), json!({}));
    let output = run(&["run", "0x00", "--calldata", "0x", "--state-out", "no/such/folder/state.json"]);
    assert_eq!(exit(&output), 2);
    assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
}

/// Slots that read and write the state tree are no part of the bytecode; tables and pictures have them all the same.
#[test]
fn programs_with_a_state_are_profiled_and_compiled() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    // The slot that the first word of calldata names in a mapping becomes the second, if slot 1 is zero; else it reverts.
    let program = "0x600154601b57600035600052600260205260203560406000205500 5b60006000fd".replace(' ', "");
    let words = |words: [u64; 2]| {
        let hex: Vec<String> = words.iter().map(|word| format!("{word:064x}")).collect();
        format!("0x{}", hex.concat())
    };
    let calls = path("calls.json");
    let list = json!([{"calldata": words([5, 7])}, {"calldata": words([6, 7])}, {"calldata": words([5, 0])}]);
    fs::write(&calls, list.to_string()).expect("writable");
    let (svg, cfg, html) = (path("a.svg"), path("b.svg"), path("c.html"));
    let pictures = ["--svg", &svg, "--cfg", &cfg, "--html", &html];
    let output = run(&[&["profile", &program, "--calls", &calls, "--json"][..], &pictures].concat());
    assert_eq!(exit(&output), 0, "{}", errors(&output));
    let profile = document(&output);
    let regions = profile["regions"].as_array().expect("a list");
    for name in ["region0", "enter", "leave"] {
        assert!(regions.iter().any(|region| region["name"] == json!(name)), "no {name}: {profile:#}");
    }
    let sum = |list: &Value, field: &str| -> u64 {
        list.as_array().expect("a list").iter().map(|item| item[field].as_u64().expect("a number")).sum()
    };
    assert_eq!(sum(&profile["regions"], "rows_total"), profile["rows_run"].as_u64().expect("a number"));
    assert_eq!(sum(&profile["instructions"], "rows"), profile["rows_run"].as_u64().expect("a number"));

    // A plan without calls has slots of the system too, so that what is compiled can prove.
    let to = path("out");
    let output = run(&["compile", &program, "-o", &to, "--json"]);
    assert_eq!(exit(&output), 0, "{}", errors(&output));
    let slots = document(&output)["slots"].clone();
    for name in ["undo", "enter", "write", "read", "gap", "flush", "close", "leave"] {
        assert!(slots.as_array().expect("a list").iter().any(|slot| slot["region"] == json!(name)), "no {name}");
    }
    let report = fs::read_to_string(Path::new(&to).join("report.html")).expect("written");
    assert!(report.contains("<td>leave<td>"));
}
