//! `zvm circuit`: the table of costs, and files for other tools, which the parsers of `r1cs-file` and `wtns-file` read and
//! whose rows the witness satisfies.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use r1cs_file::{FieldElement, R1csFile};
use serde_json::Value;
use tempfile::TempDir;
use wtns_file::WtnsFile;
use zvm_backend_circuit::field::{from_u256, to_u256};
use zvm_backend_circuit::nova::Fr;
use zvm_ir::Word;

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zvm"));
    command.env("NO_COLOR", "1").args(args).output().expect("zvm runs")
}

fn exit(output: &Output) -> i32 {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
    output.status.code().expect("no signal")
}

fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

fn collatz() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/collatz/Collatz.json").display().to_string()
}

/// The path of a file in `folder`, as text.
fn path(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

#[test]
fn costs_are_listed_by_width() {
    let output = run(&["circuit", "costs", "--json"]);
    assert_eq!(exit(&output), 0);
    let list = document(&output);
    let list = list.as_array().expect("a list");
    let rows = |instruction: &str, widths: &[u64]| {
        let widths: Value = widths.iter().copied().collect();
        let entry = list.iter().find(|entry| entry["instruction"] == instruction && entry["widths"] == widths);
        let entry = entry.unwrap_or_else(|| panic!("no {instruction} of {widths}"));
        (entry["rows"].as_u64().expect("a number"), entry["rows_with_bits"].as_u64().expect("a number"))
    };
    assert_eq!(rows("add", &[64, 64]), (0, 0));
    assert_eq!(rows("mul", &[64, 64]), (1, 1));
    let (cold, bits) = rows("wmul", &[256, 256]);
    assert!(bits < cold, "{bits} rows with bits, {cold} without");
    let text = String::from_utf8(run(&["circuit", "costs"]).stdout).expect("UTF-8");
    assert!(
        text.lines().any(|line| line.starts_with("and ") && line.contains("u64, u64") && line.contains("192")),
        "{text}"
    );
    assert_eq!(text.lines().count(), list.len() + 1);
}

fn element(bytes: &[u8]) -> Fr {
    let value = Word::try_from_le_slice(bytes).expect("32 bytes");
    assert_eq!(to_u256(&from_u256::<Fr>(&value)), value, "below the modulus");
    from_u256(&value)
}

#[test]
fn a_step_is_exported_with_a_witness_that_satisfies_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (r1cs, wtns) = (path(&folder, "step.r1cs"), path(&folder, "step.wtns"));
    let export = |more: &[&str]| {
        let program = collatz();
        let args = ["circuit", "export", &program, "--sig", "steps", "27", "--r1cs", &r1cs, "--wtns", &wtns, "--json"];
        run(&[&args[..], more].concat())
    };
    let mut before: Option<(Vec<u8>, Vec<Fr>)> = None;
    for step in ["0", "1"] {
        // Small steps, so that there are several.
        let output = export(&["--step", step, "--rows-per-step", "4000"]);
        assert_eq!(exit(&output), 0, "{}", String::from_utf8_lossy(&output.stderr));
        let facts = document(&output);
        let bytes = fs::read(&r1cs).expect("written");
        let circuit = R1csFile::<32>::read(bytes.as_slice()).expect("an .r1cs file");
        let witness = WtnsFile::<32>::read(fs::read(&wtns).expect("written").as_slice()).expect("a .wtns file");
        let values: Vec<Fr> = witness.witness.0.iter().map(|value| element(value.as_bytes())).collect();
        assert_eq!(facts["rows"], circuit.constraints.0.len());
        assert_eq!(facts["wires"], values.len());
        assert_eq!(facts["public_outputs"], circuit.header.n_pub_out);
        let sum = |terms: &[(FieldElement<32>, u32)]| {
            terms.iter().map(|(coefficient, wire)| element(coefficient.as_bytes()) * values[*wire as usize]).sum::<Fr>()
        };
        for (row, constraint) in circuit.constraints.0.iter().enumerate() {
            assert_eq!(sum(&constraint.0) * sum(&constraint.1), sum(&constraint.2), "step {step}, row {row}");
        }
        // The circuit is the same in every step, and the state before a step is that after the one before.
        let outputs = circuit.header.n_pub_out as usize;
        if let Some((first, after)) = &before {
            assert!(*first == bytes, "step {step} has another circuit");
            assert_eq!(after[..], values[1 + outputs..1 + 2 * outputs]);
        }
        before = Some((bytes, values[1..=outputs].to_vec()));
    }
    let output = export(&["--step", "100000"]);
    assert_eq!(exit(&output), 2);
    assert_eq!(document(&output)["error"]["code"], "ZV0809");
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (r1cs, wtns) = (path(&folder, "a.r1cs"), path(&folder, "a.wtns"));
    // tstore(gasprice(), 1) is outside the circuit: its slot is computed.
    let output = run(&["circuit", "export", "0x60013a5d00", "--calldata", "0x", "--r1cs", &r1cs, "--wtns", &wtns]);
    assert_eq!(exit(&output), 3, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!Path::new(&r1cs).exists() && !Path::new(&wtns).exists());
    let nowhere = path(&folder, "no/such/folder");
    for args in [
        &["circuit"][..],
        &["circuit", "export", "0x00", "--calldata", "0x"],
        &["circuit", "export", "0x00", "--r1cs", &r1cs, "--wtns", &wtns],
        &["circuit", "export", "0x00", "--calldata", "0x", "--r1cs", &nowhere, "--wtns", &wtns],
    ] {
        assert_eq!(exit(&run(args)), 2, "{args:?}");
    }
}
