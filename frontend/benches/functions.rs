//! Recovered functions against what solc says of its own code (`functionDebugData`), for code compiled afresh.
//!
//! *solc's functions* are the entries of `functionDebugData` with an entry point that can be reached: what was inlined has
//! none, and what nobody calls is not part of the program. *Ours* are the functions that the lift says are called
//! ([`zvm_frontend::Lifted::called`]). F1 is the harmonic mean of precision and recall, over the entries, and over entries with
//! the right number of parameters and results. What a function that never returns would return cannot be seen in bytecode,
//! so of those only the parameters count. Functions defined in inline assembly have no entry when solc generates legacy code:
//! of contracts whose sources have some, what solc does not list is counted apart.
//!
//! Every lift is also held against its bytecode by [`zvm_frontend::check_lift`].
//!
//! ```text
//! node benches/debug-data/compile.js                          compiles: npm, network, minutes
//! cargo bench -p zvm-frontend --bench functions               the table of docs/lifting.md
//! cargo bench -p zvm-frontend --bench functions -- --misses   what is missed, and what is too much
//! ```

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value as Json;
use zvm_frontend::{LiftOptions, check_lift, lift};

/// Counts of one kind of code.
#[derive(Default)]
struct Counts {
    contracts: usize,
    refused: usize,
    /// Lifts that the checker does not accept.
    wrong: usize,
    /// What we found in code with functions in assembly, and solc does not list.
    apart: usize,
    /// solc's functions, ours, those in both, those with the same parameters and results.
    theirs: usize,
    ours: usize,
    both: usize,
    same: usize,
}

/// The number of items that solc gives for a function: parameters and results.
type Slots = (u32, u32);

fn main() -> ExitCode {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/debug-data/out");
    let Ok(entries) = folder.read_dir() else {
        println!("skipped: run `node benches/debug-data/compile.js` first");
        return ExitCode::SUCCESS;
    };
    let misses = std::env::args().any(|argument| argument == "--misses");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut table: BTreeMap<String, Counts> = BTreeMap::new();
    for file in &files {
        let record: Json = match std::fs::read(file).map(|text| serde_json::from_slice(&text)) {
            Ok(Ok(record)) => record,
            _ => return ExitCode::FAILURE,
        };
        let counts = table.entry(record["mode"].as_str().unwrap_or_default().to_owned()).or_default();
        compare(&record, counts, misses);
    }
    println!(
        "| code | contracts | refused | wrong | functions of solc | ours | apart | F1 of entries | F1 with signatures | bar |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let mut good = true;
    for (mode, counts) in &table {
        let (name, bar) = match mode.as_str() {
            "legacy" => ("legacy, not optimised", 0.97),
            "legacy_o" => ("legacy, optimised", 0.99),
            "ir" => ("via IR, not optimised", 0.97),
            "ir_o" => ("via IR, optimised", 0.99),
            other => (other, 1.0),
        };
        let f1 = |both: usize| 2.0 * both as f64 / (counts.theirs + counts.ours).max(1) as f64;
        good &= f1(counts.same) >= bar && counts.wrong == 0;
        let Counts { contracts, refused, wrong, theirs, ours, apart, both, same } = counts;
        let (entries, signatures) = (f1(*both), f1(*same));
        println!(
            "| {name} | {contracts} | {refused} | {wrong} | {theirs} | {ours} | {apart} | {entries:.4} | {signatures:.4} | {bar} |"
        );
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

fn compare(record: &Json, counts: &mut Counts, misses: bool) {
    let name = ["name", "solc", "mode"].map(|key| record[key].as_str().unwrap_or_default()).join(" ");
    let code = bytes(record["runtime"].as_str().unwrap_or_default());
    counts.contracts += 1;
    let lifted = match lift(&code, &LiftOptions::default()) {
        Ok(lifted) => lifted,
        Err(error) => {
            counts.refused += 1;
            if misses {
                println!("{name}: refused: {error}");
            }
            return;
        }
    };
    if let Err(errors) = check_lift(&code, &lifted) {
        counts.wrong += 1;
        println!("{name}: {}", errors[0]);
    }
    let mut theirs: BTreeMap<u32, Vec<(&str, Slots)>> = BTreeMap::new();
    for (function, data) in record["functions"].as_object().into_iter().flatten() {
        let number = |key: &str| data[key].as_u64().and_then(|number| u32::try_from(number).ok());
        if let (Some(entry), Some(params), Some(results)) =
            (number("entryPoint"), number("parameterSlots"), number("returnSlots"))
            && lifted.blocks.contains(&entry)
        {
            theirs.entry(entry).or_default().push((function, (params, results)));
        }
    }
    counts.theirs += theirs.len();
    let is_extra = |entry: &&u32| !theirs.contains_key(entry);
    let is_legacy = record["mode"].as_str().is_some_and(|mode| mode.starts_with("legacy"));
    let unlisted = is_legacy && record["assembly"] == true;
    let apart = if unlisted { lifted.called.keys().filter(is_extra).count() } else { 0 };
    counts.apart += apart;
    counts.ours += lifted.called.len() - apart;
    for (entry, names) in &theirs {
        let Some(called) = lifted.called.get(entry) else {
            if misses {
                println!("{name}: missed {entry:#06x} {names:?}");
            }
            continue;
        };
        counts.both += 1;
        let same = |(_, (params, results)): &&(&str, Slots)| {
            *params == called.params && called.results.is_none_or(|found| found == *results)
        };
        if names.iter().any(|name| same(&name)) {
            counts.same += 1;
        } else if misses {
            println!("{name}: differs {entry:#06x} {names:?} {called:?}");
        }
    }
    if misses && !unlisted {
        for (entry, called) in lifted.called.iter().filter(|(entry, _)| !theirs.contains_key(entry)) {
            println!("{name}: too much {entry:#06x} {called:?}");
        }
    }
}
