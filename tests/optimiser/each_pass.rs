//! `interp(f) = interp(pass(f))` on real contracts and on the programs of the public suites: after each pass of the pipeline, and each pass by itself
//! at some place in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use serde_json::Value;
use zvm::{Contract, Exit, Input, Program, Source};
use zvm_ir::passes::{Goal, PIPELINE};

use crate::bodies::passes::keep_outcomes;
use crate::calls::{Generator, of_interface};

/// Calls of each contract.
const CALLS: usize = 8;

/// Every so many contracts; all with `ZVM_SLOW=1`.
const STEP: usize = 24;
/// Every so many programs of the suites, without and with `ZVM_SLOW=1`.
const SUITE_STEPS: [usize; 2] = [200, 5];
/// Calldata of programs that no interface belongs to, in bytes.
const LENGTHS: [usize; 3] = [0, 36, 100];

/// Tries contracts of a folder.
pub(crate) fn contracts(folder: &Path) -> Result<(), Failed> {
    let mut files: Vec<PathBuf> = folder.read_dir()?.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let step = if std::env::var_os("ZVM_SLOW").is_some() { 1 } else { STEP };
    for (at, path) in files.iter().enumerate().step_by(step) {
        let input = Input::read(&path.display().to_string(), None)?;
        let program = match Program::load(&input) {
            Err(error) if error.exit() == Exit::Subset => continue,
            result => result?,
        };
        let Source::Contract(contract) = &input.source else { continue };
        let mut generator = Generator::new(at as u64);
        let calls: Vec<Vec<u8>> = (0..CALLS)
            .map(|at| match &contract.abi {
                Some(abi) => of_interface(&mut generator, abi, at).calldata,
                None => generator.unknown().calldata,
            })
            .collect();
        let calls: Vec<&[u8]> = calls.iter().map(Vec::as_slice).collect();
        for (goal, number) in [(Goal::Evm, 7 * at), (Goal::Circuit, 11 * at)] {
            keep_outcomes(&program.module, goal, number % (PIPELINE.len() + 1), &calls);
        }
    }
    Ok(())
}

/// Tries the programs of the suites in a folder: what any account in them has as code.
pub(crate) fn suites(folder: &Path) -> Result<(), Failed> {
    let mut codes = BTreeSet::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in folder.read_dir()? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ext| ext == "json") {
                collect(&serde_json::from_slice(&std::fs::read(&path)?)?, &mut codes);
            }
        }
    }
    let step = SUITE_STEPS[usize::from(std::env::var_os("ZVM_SLOW").is_some())];
    let mut tried = 0;
    for (at, code) in codes.into_iter().enumerate().step_by(step) {
        let contract = Contract { runtime: code, ..Contract::default() };
        let input = Input { origin: "suite".to_owned(), source: Source::Contract(Box::new(contract)) };
        let Ok(program) = Program::load(&input) else { continue };
        tried += 1;
        let calls = LENGTHS.map(|len| (0..len).map(|byte| (7 * byte + at) as u8).collect::<Vec<u8>>());
        let calls: Vec<&[u8]> = calls.iter().map(Vec::as_slice).collect();
        for (goal, number) in [(Goal::Evm, 7 * at), (Goal::Circuit, 11 * at)] {
            keep_outcomes(&program.module, goal, number % (PIPELINE.len() + 1), &calls);
        }
    }
    println!("{tried} programs");
    if tried == 0 { Err("no program lifts".into()) } else { Ok(()) }
}

/// All code in a file: the texts under `code`.
fn collect(value: &Value, codes: &mut BTreeSet<Vec<u8>>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field
                    .as_str()
                    .filter(|_| name == "code")
                    .and_then(|text| hex::decode(text.strip_prefix("0x")?).ok())
                {
                    Some(code) => drop(codes.insert(code)),
                    None => collect(field, codes),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, codes)),
        _ => {}
    }
}
