//! The programs of the public EVM suites (hand-made, and much stranger than a compiler's): each is lifted or refused, and
//! what is lifted does what revm does. The calls are those of the suites, run on the account alone.

mod oracle;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use oracle::{Compared, compare, suite_programs, with_corpus};
use zvm_frontend::{LiftOptions, lift};
use zvm_ir::Word;

fn main() {
    with_corpus(&[("suite_programs_agree_with_revm", suite_programs_agree_with_revm)]);
}

fn suite_programs_agree_with_revm() {
    let programs = suite_programs();
    let mut refused: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut failures = Vec::new();
    let (mut lifted_count, mut same, mut unfit) = (0, 0, 0);
    for (name, world, inputs) in &programs {
        let lifted = match lift(&world.code, &LiftOptions::default()) {
            Ok(lifted) => lifted,
            Err(error) => {
                refused.entry(error.code()).or_default().push(format!("{name}: {error}"));
                continue;
            }
        };
        lifted_count += 1;
        if let Err(errors) = zvm_ir::verify(&lifted.module) {
            failures.push(format!("{name}: {}", errors[0]));
            continue;
        }
        for calldata in inputs {
            match compare(&lifted.module, world, calldata, Word::ZERO, 10_000_000) {
                Compared::Unfit => unfit += 1,
                Compared::Same(_, steps) => {
                    same += 1;
                    if !steps.edges.is_subset(&lifted.edges) {
                        failures.push(format!("{name}: an edge is missing"));
                    }
                }
                Compared::Different(what) => {
                    failures.push(format!("{name}: {}\n{what}", calldata.len()));
                    break;
                }
            }
        }
    }
    let mut table = format!("{} programs, {lifted_count} lifted\n", programs.len());
    for (code, list) in refused {
        writeln!(table, "{code}: {}", list.len()).expect("a string");
        for line in list {
            writeln!(table, "    {line}").expect("a string");
        }
    }
    println!("{same} runs agree, {unfit} unfit");
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    insta::with_settings!({
        snapshot_path => "../../snapshots", prepend_module_to_snapshot => false, omit_expression => true
    }, {
        insta::assert_snapshot!("lift_suites", table);
    });
}
