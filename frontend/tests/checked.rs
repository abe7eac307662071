//! If `lift(p) = Ok(m)` then walking over the bytecode of each block, and over the IR, gives the same effects and the same
//! stack: for every contract of the corpus and every program of the suites.

mod oracle;

use oracle::{contracts, suite_programs, with_corpus};
use zvm_frontend::{Checked, LiftOptions, check_lift, lift};

fn main() {
    with_corpus(&[
        ("corpus_contracts_are_what_their_bytecode_is", corpus_contracts_are_what_their_bytecode_is),
        ("suite_programs_are_what_their_bytecode_is", suite_programs_are_what_their_bytecode_is),
    ]);
}

/// Checks every program that lifts; how many there were.
fn check_all<'a>(programs: impl Iterator<Item = (&'a str, &'a [u8])>) -> usize {
    let only = std::env::var("ZVM_ONLY").unwrap_or_default();
    let (mut failures, mut all, mut count) = (Vec::new(), Checked::default(), 0);
    for (name, code) in programs.filter(|(name, _)| name.contains(&only)) {
        let Ok(lifted) = lift(code, &LiftOptions::default()) else { continue };
        count += 1;
        match check_lift(code, &lifted) {
            Ok(checked) => {
                let Checked { blocks, effects, edges, items, unproved } = checked;
                all.blocks += blocks;
                all.effects += effects;
                all.edges += edges;
                all.items += items;
                all.unproved += unproved;
            }
            Err(errors) => {
                failures.push(format!("{name}: {} of {}: {}", errors.len(), lifted.report.ir_blocks, errors[0]))
            }
        }
    }
    println!("{count} programs: {all:?}");
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    count
}

fn corpus_contracts_are_what_their_bytecode_is() {
    let contracts = contracts();
    check_all(contracts.iter().map(|contract| (contract.name.as_str(), contract.runtime.as_slice())));
}

fn suite_programs_are_what_their_bytecode_is() {
    let programs = suite_programs();
    check_all(programs.iter().map(|(name, world, _)| (name.as_str(), world.code.as_slice())));
}
