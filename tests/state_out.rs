//! `--state` and `--state-out`: calls start from a state in JSON or in a state file, and leave one of the same shape, whose root is the
//! one that was proved.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

mod command;

use command::{Folder, done, exit, run};

/// `storage[keccak(5, k)] = v` for the two words of calldata, a mapping as Vyper hashes it; reverts where v is zero.
const PROGRAM: &str = "0x60203515601c576005600052600035602052602035604060002055005b60006000fd";
const ACCOUNT: &str = "0x1111111111111111111111111111111111111111";

/// Exit code, error code and message.
fn refused(args: &[&str]) -> (i32, String, String) {
    let output = run(&[args, &["--json"]].concat());
    let error: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let text = |name: &str| error["error"][name].as_str().unwrap_or_default().to_owned();
    (exit(&output), text("code"), text("message") + &text("help"))
}

impl Folder {
    /// The account with balance and a slot of its own, in JSON and as a state file.
    fn state(&self) -> (String, String) {
        let state = json!({ACCOUNT: {"balance": "0x7", "nonce": 3, "code": PROGRAM, "storage": {"0x3": "0x64"}}});
        let (document, file) = (self.write("before.json", state.to_string()), self.path("before.zvms"));
        done(&["state", "import", &document, "-o", &file]);
        (document, file)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("readable");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn calldata(k: u64, v: u64) -> String {
    format!("0x{k:064x}{v:064x}")
}

fn document(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON")
}

fn root(file: &str) -> Value {
    done(&["state", "root", file, "--check"])["root"].clone()
}

/// One folder of public parameters for all tests of this file.
fn cache() -> String {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("state-out").display().to_string()
}

fn prove<'a>(call: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let common = ["prove", PROGRAM, "--address", ACCOUNT, "--recursive", "--calldata", call];
    [&common, more].concat()
}

#[test]
fn states_are_carried_from_proof_to_proof() {
    let folder = Folder::new();
    let (document_before, before) = folder.state();
    let (cache, proof, first) = (cache(), folder.path("proof.zvmp"), folder.path("first.zvms"));
    let call = calldata(1, 9);
    let common = ["-o", &proof, "--cache", &cache, "--state-out", &first];
    let proved = done(&prove(&call, &[&common[..], &["--state", &before, "--value", "5"]].concat()));
    assert_eq!(proved["state"], json!(first));
    let statement = proved["statement"].clone();
    assert_eq!(statement["pre_root"], root(&before));
    assert_eq!(statement["post_root"], root(&first));
    assert_ne!(statement["pre_root"], statement["post_root"]);
    // Nothing is written where the state was read.
    assert_eq!(done(&["state", "export", &before]), document_export(&document_before));
    assert_eq!(statement["pre_root"], root(&before));
    // The state is the one that revm leaves, balance included.
    let by_revm = folder.path("revm.json");
    let run_call = ["run", PROGRAM, "--address", ACCOUNT, "--calldata", &call, "--value", "5"];
    done(&[&run_call[..], &["--state", &document_before, "--state-out", &by_revm]].concat());
    assert_eq!(done(&["state", "export", &first]), document(&by_revm));
    // From JSON the same state has the same roots.
    let in_json = folder.path("first.json");
    let common = ["-o", &proof, "--cache", &cache, "--state-out", &in_json];
    let again = done(&prove(&call, &[&common[..], &["--state", &document_before, "--value", "5"]].concat()));
    assert_eq!(
        (&again["statement"]["pre_root"], &again["statement"]["post_root"]),
        (&statement["pre_root"], &statement["post_root"])
    );
    assert_eq!(document(&in_json), document(&by_revm));
    // On from there, in the same file: the next proof begins where this one ended. A failing call changes nothing.
    let fails = calldata(2, 0);
    let list = json!([{"calldata": fails, "value": "4"}, {"calldata": calldata(2, 8)}]);
    let calls = folder.write("calls.json", list.to_string());
    let second = ["prove", PROGRAM, "--address", ACCOUNT, "--recursive", "--calls", &calls];
    let files = ["-o", &proof, "--cache", &cache, "--state", &first, "--state-out", &first];
    let after = done(&[&second[..], &files].concat())["statement"].clone();
    assert_eq!(after["pre_root"], statement["post_root"]);
    assert_eq!(after["post_root"], root(&first));
    let run_calls = ["run", PROGRAM, "--address", ACCOUNT, "--calls", &calls];
    done(&[&run_calls[..], &["--state", &by_revm, "--state-out", &by_revm]].concat());
    assert_eq!(done(&["state", "export", &first]), document(&by_revm));
    let names = ["before.json", "before.zvms", "calls.json", "first.json", "first.zvms", "proof.zvmp", "revm.json"];
    assert_eq!(folder.names(), names);
}

/// A state in JSON may have slots that no call touches, where constants of the code say what is hashed for them: the root is that of the state file
/// that is made of it. What nothing is known of is refused, and named.
#[test]
fn slots_that_no_call_touches_may_be_there() {
    let folder = Folder::new();
    let (document_before, _) = folder.state();
    let (json, file) = (folder.path("more.json"), folder.path("more.zvms"));
    // The first item of an array in slot 5, which the code names.
    let item = zvm_ir::eval::keccak256(&zvm_ir::Word::from(5).to_be_bytes::<32>());
    let with = |slot: String| {
        let mut state = document(&document_before);
        state[ACCOUNT]["storage"][slot] = json!("0x2a");
        fs::write(&json, state.to_string()).expect("writable");
    };
    with(format!("{item:#066x}"));
    done(&["state", "import", &json, "-o", &file]);
    let (cache, proof) = (cache(), folder.path("proof.zvmp"));
    let call = calldata(1, 9);
    let files = ["-o", &proof, "--cache", &cache, "--state", &json];
    let statement = done(&prove(&call, &files))["statement"].clone();
    assert_eq!(statement["pre_root"], root(&file));
    let unknown = format!("{:#066x}", item ^ zvm_ir::Word::MAX);
    with(unknown.clone());
    let (code, _, said) = refused(&prove(&call, &files));
    assert!(code != 0 && said.contains(&unknown), "{code} {said}");
}

/// Short proofs carry a state file over their own field, from one proof to the next with the same keys.
#[test]
fn short_proofs_carry_a_state_too() {
    let folder = Folder::new();
    let (document_before, _) = folder.state();
    let (before, first, second) = (folder.path("bls.zvms"), folder.path("first.zvms"), folder.path("second.zvms"));
    let (keys, proof) = (folder.path("keys.zvmk"), folder.path("proof.zvmp"));
    done(&["state", "import", &document_before, "-o", &before, "--field", "bls12-381"]);
    let call = calldata(1, 9);
    let setup = ["setup", PROGRAM, "--address", ACCOUNT, "--calldata", &call, "--state", &before, "-o", &keys];
    done(&setup);
    let prove = |call: &str, from: &str, to: &str| {
        let short = ["prove", PROGRAM, "--address", ACCOUNT, "--system", "groth16", "--keys", &keys, "-o", &proof];
        done(&[&short[..], &["--calldata", call, "--state", from, "--state-out", to]].concat())["statement"].clone()
    };
    let one = prove(&call, &before, &first);
    assert_eq!((&one["pre_root"], &one["post_root"]), (&root(&before), &root(&first)));
    let two = prove(&calldata(1, 10), &first, &second);
    assert_eq!((&two["pre_root"], &two["post_root"]), (&one["post_root"], &root(&second)));
    assert_ne!(two["pre_root"], two["post_root"]);
    let verify = ["verify", &proof, "--program", PROGRAM, "--keys", &keys, "--post-root"];
    let root_of = |statement: &Value| statement["post_root"].as_str().expect("a root").to_owned();
    done(&[&verify[..], &[&root_of(&two)]].concat());
    let (code, ..) = refused(&[&verify[..], &[&root_of(&one)]].concat());
    assert_eq!(code, 1);
    let by_revm = folder.path("revm.json");
    let run = |call: &str, from: &str| {
        done(&["run", PROGRAM, "--address", ACCOUNT, "--calldata", call, "--state", from, "--state-out", &by_revm])
    };
    run(&call, &document_before);
    run(&calldata(1, 10), &by_revm.clone());
    assert_eq!(done(&["state", "export", &second]), document(&by_revm));
}

/// What `export` makes of the document.
fn document_export(path: &str) -> Value {
    let folder = Folder::new();
    let file = folder.path("file");
    done(&["state", "import", path, "-o", &file]);
    done(&["state", "export", &file])
}

/// Runs and proofs leave the same tree.
#[test]
fn runs_carry_state_files_too() {
    let folder = Folder::new();
    let (_, before) = folder.state();
    let mut file = before;
    for (at, (k, v)) in [(4, 9), (2, 8), (4, 3), (9, 9)].into_iter().enumerate() {
        let (call, next) = (calldata(k, v), folder.path(&format!("{at}.zvms")));
        let run_call = ["run", PROGRAM, "--address", ACCOUNT, "--calldata", &call, "--state", &file];
        let ran = done(&[&run_call[..], &["--state-out", &next]].concat());
        assert_eq!(ran["agree"], json!(true));
        assert_ne!(root(&next), root(&file));
        file = next;
    }
    assert_eq!(done(&["state", "root", &file])["leaves"], json!(5));
    for (key, value) in [(4, 3), (2, 8), (9, 9)] {
        let got = done(&["state", "get", &file, ACCOUNT, &format!("keccak([5], {key})")]);
        assert_eq!(got["value"], json!(format!("{value:#066x}")));
    }
    // What else reads a state reads such a file.
    let call = calldata(4, 1);
    let about = ["--address", ACCOUNT, "--calldata", &call, "--state", &file];
    assert!(done(&[&["profile", PROGRAM][..], &about].concat())["rows_total"].as_u64().expect("rows") > 8_000);
    let (r1cs, wtns) = (folder.path("step.r1cs"), folder.path("step.wtns"));
    done(&[&["circuit", "export", PROGRAM, "--r1cs", &r1cs, "--wtns", &wtns][..], &about].concat());
    let keys = ["setup", PROGRAM, "--r1cs", &r1cs];
    let (code, error, message) = refused(&[&keys[..], &about].concat());
    assert_eq!((code, error.as_str()), (2, "ZV0716"));
    assert!(message.contains(&file) && message.contains("--field"), "{message}");
    let short = folder.path("short.zvms");
    let exported = folder.path("exported.json");
    done(&["state", "export", &file, "-o", &exported]);
    let calls = json!([2, 4, 9].map(|k| json!({"calldata": calldata(k, 1), "address": ACCOUNT})));
    let calls = folder.write("calls.json", calls.to_string());
    done(&["state", "import", &exported, "-o", &short, "--field", "bls12-381", "--calls", &calls]);
    let about = ["--address", ACCOUNT, "--calldata", &call, "--state", &short];
    done(&[&keys[..], &about].concat());
}

/// Nothing is written unless all of it is true.
#[test]
fn a_state_that_is_not_proved_is_not_written() {
    let folder = Folder::new();
    let (_, before) = folder.state();
    let (out, proof, cache) = (folder.path("out.zvms"), folder.path("proof.zvmp"), cache());
    let files = ["-o", &proof, "--cache", &cache, "--state-out", &out];
    let call = calldata(1, 9);
    let refuse = |state: &str, more: &[&str]| {
        let found = refused(&prove(&call, &[&files[..], &["--state", state], more].concat()));
        assert!(!Path::new(&out).exists() && !Path::new(&proof).exists(), "{found:?}");
        found
    };
    // The program knows the slots as other places than the file, which was not told of the program.
    let key_first = json!({ACCOUNT: {"storage": {
        format!("{:#066x}", zvm_ir::eval::keccak256(&hex::decode(format!("{:064x}{:064x}", 5, 1)).expect("hex"))): "0x1"}}});
    let key_first = folder.write("other.json", key_first.to_string());
    let places = folder.write("places.json", r#"["keccak(5, 1)"]"#);
    let other = folder.path("other.zvms");
    done(&["state", "import", &key_first, "-o", &other, "--places", &places]);
    let (code, error, message) = refuse(&other, &[]);
    assert_eq!((code, error.as_str()), (2, "ZV0716"));
    for part in [other.as_str(), "`keccak(0x5, 0x1)`", "`keccak([0x5], 0x1)`", "import the state anew"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    // Files that are damaged, of the other field, or nothing.
    let mut bytes = fs::read(&before).expect("there");
    let middle = bytes.len() / 2;
    bytes[..middle].iter_mut().skip(64).for_each(|byte| *byte ^= 0x55);
    let damaged = folder.write("damaged.zvms", bytes);
    assert_eq!(refuse(&damaged, &[]).0, 2);
    assert!(refuse(&damaged, &[]).2.contains(&damaged));
    let text = folder.write("text", "no state");
    assert_eq!(refuse(&text, &[]).1, "ZV0705");
    assert_eq!(refuse(&folder.path("none"), &[]).1, "ZV0701");
    // Places to write to that are none, before the work.
    let nowhere = folder.path("no/such/folder/out.zvms");
    let same = ["-o", &out, "--cache", &cache, "--state", &before, "--state-out", &out];
    assert_eq!(refused(&prove(&call, &same)).1, "ZV0805");
    let far = ["-o", &proof, "--cache", &cache, "--state", &before, "--state-out", &nowhere];
    assert_eq!(refused(&prove(&call, &far)).1, "ZV0701");
    assert!(!Path::new(&proof).exists());
    let unwritten = ["run", PROGRAM, "--calldata", &call, "--state", &before, "--state-out", &nowhere];
    assert_eq!(refused(&unwritten).1, "ZV0701");
    // JSON with a slot that the calls do not compute: a state file keeps its place.
    let calls = folder
        .write("calls.json", json!([{"calldata": calldata(0x1234_5678_9abc, 9), "address": ACCOUNT}]).to_string());
    let more = folder.path("more.json");
    done(&["run", PROGRAM, "--calls", &calls, "--state", &before, "--state-out", &folder.path("more.zvms")]);
    done(&["state", "export", &folder.path("more.zvms"), "-o", &more]);
    let (code, error, message) = refuse(&more, &[]);
    assert_eq!((code, error.as_str()), (2, "ZV0612"));
    assert!(message.contains("zvm state import"), "{message}");
}
