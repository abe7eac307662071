//! How many external functions of real contracts can be proved, and why the others cannot.
//!
//! A function counts as proved if every call of it can be, whatever its arguments and the state ([`zvm::coverage`]). Functions that
//! may call other accounts or create one are counted apart: those of their calls that do not come there can be proved, like those of
//! all others that avoid what is listed. The exit code is 1 if fewer than 95 % of the rest can be proved.
//!
//! ```text
//! cargo bench --bench coverage                     the table of docs/proving.md
//! cargo bench --bench coverage -- --list           and every function that cannot be proved, with its reasons
//! cargo bench --bench coverage -- --only solady    contracts whose name has a part
//! ```

#[expect(dead_code, reason = "shared with tests, which need more of it")]
#[path = "../tests/calls/mod.rs"]
mod calls;
#[expect(dead_code, reason = "shared with tests, which need more of it")]
#[path = "../tests/corpus/mod.rs"]
mod corpus;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use calls::{Generator, deployed};
use clap::Parser;
use zvm::coverage::coverage;
use zvm::{Input, Source};

/// Arguments of the benchmark.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only contracts whose name has this part.
    #[arg(long)]
    only: Option<String>,
    /// Name every function that cannot be proved.
    #[arg(long)]
    list: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The share of functions without calls that have to be provable.
const BAR: f64 = 0.95;

#[derive(Debug, Default)]
struct Totals {
    contracts: usize,
    refused: usize,
    /// Functions that may run other accounts' code, and those of them that can be proved all the same.
    calling: usize,
    functions: usize,
    provable: usize,
    /// Functions and contracts by what keeps them from being proved.
    reasons: BTreeMap<String, (usize, BTreeSet<String>)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(folder) = corpus::folder() else {
        eprintln!("the corpus is needed: ZVM_CORPUS, or ../shared/corpus");
        return ExitCode::FAILURE;
    };
    let mut totals = Totals::default();
    let mut paths: Vec<_> = match std::fs::read_dir(folder.join("contracts")) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    paths.sort();
    for path in paths {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if arguments.only.as_ref().is_some_and(|part| !name.contains(part)) {
            continue;
        }
        let Ok(input) = Input::read(&path.display().to_string(), None) else { continue };
        let Source::Contract(mut contract) = input.source else { continue };
        let Some(abi) = contract.abi.clone() else { continue };
        // For the immutables: the code is what the constructor makes.
        let mut generator = Generator::new(contract.runtime.len() as u64);
        deployed(&mut contract, &mut generator);
        totals.contracts += 1;
        match coverage(&contract, &abi) {
            Err(error) => {
                totals.refused += 1;
                println!("{name}: {error}");
            }
            Ok(functions) => {
                for function in functions {
                    if function.reaches_accounts {
                        totals.calling += 1;
                        continue;
                    }
                    totals.functions += 1;
                    totals.provable += usize::from(function.is_provable());
                    let reasons: BTreeSet<String> =
                        function.unprovable.iter().map(|exit| exit.reason.to_string()).collect();
                    if arguments.list && !reasons.is_empty() {
                        let exits: Vec<String> = function.unprovable.iter().map(ToString::to_string).collect();
                        println!("{name}: {}: {}", function.signature, exits.join("; "));
                    }
                    for reason in reasons {
                        let (functions, contracts) = totals.reasons.entry(reason).or_default();
                        *functions += 1;
                        contracts.insert(name.clone());
                    }
                }
            }
        }
    }
    let share = totals.provable as f64 / totals.functions.max(1) as f64;
    println!(
        "| contracts | refused | functions that may run other code | other functions | of these provable | share | bar |"
    );
    println!("|---|---|---|---|---|---|---|");
    println!(
        "| {} | {} | {} | {} | {} | {:.1} % | {:.0} % |",
        totals.contracts,
        totals.refused,
        totals.calling,
        totals.functions,
        totals.provable,
        100.0 * share,
        100.0 * BAR
    );
    println!("\n| no circuit for | functions | contracts |\n|---|---|---|");
    let mut reasons: Vec<_> = totals.reasons.into_iter().collect();
    reasons.sort_by(|(a, (count, _)), (b, (other, _))| other.cmp(count).then_with(|| a.cmp(b)));
    for (reason, (functions, contracts)) in reasons {
        println!("| {reason} | {functions} | {} |", contracts.len());
    }
    if share >= BAR { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
