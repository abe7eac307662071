//! Short proofs on the command line: keys are made and imported, a call is proved, verified and attacked, contracts are written.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn example(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name).display().to_string()
}

fn zvm(args: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_zvm")).args(args).output().expect("zvm runs");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The folder of keys that all tests of this package share.
const KEYS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/groth16");

#[test]
fn a_call_is_proved_verified_and_put_on_l1() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let contract = example("fixed-point/FixedPoint.json");
    let other = example("collatz/Collatz.json");
    // The calls of the tests on L1, in the same order: one set of keys.
    let calls = file("calls.json");
    let list = json!([{"sig": "div", "args": ["5", "0"]}, {"sig": "div", "args": ["6000000000000000000", "3"]}]);
    std::fs::write(&calls, list.to_string()).expect("writable");

    let output = zvm(&["setup", &contract, "--calls", &calls, "--cache", KEYS, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("for development only"));
    let setup = json(&output);
    assert_eq!(setup["origin"], "insecure-local");
    let keys = setup["keys"].as_str().expect("a path").to_owned();
    assert!(keys.starts_with(KEYS) && keys.ends_with(".zvmk"), "{keys}");

    let proof = file("proof.zvmp");
    let call = ["--sig", "div", "7", "0", "--block", "number=77"];
    let prove =
        [&["prove", &contract][..], &call, &["--system", "groth16", "-o", &proof, "--keys", &keys, "--json"]].concat();
    let output = zvm(&prove);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let made = json(&output);
    let fields =
        ["steps", "rows_per_step", "rows_total", "iterations_hot", "cpu_seconds", "peak_memory_bytes", "statement"];
    for field in fields {
        assert!(!made[field].is_null(), "no `{field}` in {made:#}");
    }
    assert_eq!(
        (&made["system"], &made["keys"], &made["proof_bytes"]),
        (&json!("groth16"), &json!("insecure-local"), &json!(192))
    );
    assert_eq!(made["statement"]["field"], "bls12-381");

    let verify = |more: &[&str]| {
        let args = [&["verify", &proof, "--program", &contract, "--cache", KEYS, "--json"][..], more].concat();
        let output = zvm(&args);
        (output.status.code(), json(&output))
    };
    let (code, said) = verify(&[]);
    assert_eq!((code, &said["valid"], &said["keys"]), (Some(0), &json!(true), &json!("insecure-local")), "{said:#}");
    assert_eq!(said["statement"], made["statement"]);
    assert_eq!(said["statement"]["halt"], "revert");
    let bytes = |call: &str| (said["l1"][call].as_str().expect("hex").len() - 2) / 2;
    assert_eq!((bytes("verify"), bytes("advance")), (4 + 512 + 160, 4 + 512 + 128));
    for good in [&call[..], &["--halt", "revert"]] {
        assert_eq!(verify(good).0, Some(0), "{good:?}");
    }
    let bad: [&[&str]; 5] = [
        &["--sig", "div", "6", "0"],
        &["--block", "number=78"],
        &["--halt", "return"],
        &["--data", "0x"],
        &["--steps", "2"],
    ];
    for expected in bad {
        let (code, said) = verify(expected);
        assert_eq!((code, &said["valid"]), (Some(1), &json!(false)), "{expected:?}");
    }

    // Without its keys nothing can be said of a proof; with keys of another program neither.
    let empty = file("empty");
    let unknown = |args: &[&str]| {
        let output = zvm(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        json(&output)["error"]["code"].clone()
    };
    assert_eq!(unknown(&["verify", &proof, "--program", &contract, "--cache", &empty, "--json"]), "ZV0609");
    assert_eq!(unknown(&["verifier", &other, "--keys", &keys, "-o", &empty, "--json"]), "ZV0609");
    let foreign = ["prove", &other, "--sig", "steps", "7", "--system", "groth16", "-o", &proof, "--json"];
    assert_eq!(unknown(&[&foreign[..], &["--keys", &keys]].concat()), "ZV0609");
    assert_eq!(unknown(&[&foreign[..], &["--cache", &empty]].concat()), "ZV0609");
    // A call that takes another way than those that the keys were made for.
    let output = zvm(&["prove", &contract, "--sig", "sqrt", "9", "--system", "groth16", "-o", &proof, "--keys", &keys]);
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("zvm setup"));

    let proof_bytes = std::fs::read(&proof).expect("written");
    for at in (0..proof_bytes.len()).step_by(proof_bytes.len() / 16 + 1).chain([4, 5]) {
        let mut altered = proof_bytes.clone();
        altered[at] ^= 0x10;
        std::fs::write(&proof, &altered).expect("writable");
        let output = zvm(&["verify", &proof, "--program", &contract, "--cache", KEYS]);
        let code = output.status.code();
        assert!(matches!(code, Some(1 | 2)), "byte {at}: {code:?} {}", String::from_utf8_lossy(&output.stderr));
    }

    let contracts = file("contracts");
    let output = zvm(&["verifier", &contract, "--target", "evm", "-o", &contracts, "--keys", &keys, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let written = json(&output);
    assert_eq!(written["program"], made["statement"]["program"]);
    for name in ["ZvmVerifier", "ZvmAnchor"] {
        for extension in ["sol", "abi", "bin", "bin-runtime"] {
            let path = Path::new(&contracts).join(format!("{name}.{extension}"));
            let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{}", path.display()));
            match extension {
                "sol" => assert!(text.contains(&format!("contract {name}"))),
                "abi" => assert!(serde_json::from_str::<Value>(&text).expect("JSON").is_array()),
                _ => assert!(hex::decode(text.trim()).is_ok_and(|code| code.len() > 1000)),
            }
        }
    }
    let source = std::fs::read_to_string(Path::new(&contracts).join("ZvmVerifier.sol")).expect("written");
    assert!(source.contains("INSECURE"));

    let r1cs = file("circuit.r1cs");
    let output = zvm(&["setup", &contract, "--calls", &calls, "--r1cs", &r1cs]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read(&r1cs).is_ok_and(|bytes| bytes.starts_with(b"r1cs")));
    // What is no ceremony's result.
    let output = zvm(&["setup", &contract, "--calls", &calls, "--import", &r1cs, "-o", &file("imported.zvmk")]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}
