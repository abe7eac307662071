//! If a public EVM suite says what an execution leaves behind, so do E0, E1 and E2.
//!
//! * `vm_tests`: the legacy VMTests, one account each: output, storage, logs, and whether the execution fails.
//! * `state_tests` and `execution_spec_tests`: transactions among several accounts: the root of the state afterwards and the hash
//!   of the logs. In E1 a module stands in the place of each account's bytecode, in E2 its lowered bytecode.
//!
//! A reference, `revm` on the whole transaction under the rules of the case's own fork, must give what the suite says in
//! *every* case: it shows that the files are read rightly. It also says what an execution did, which is the only ground on
//! which a case is left out of our executors (`Exclusion`): never what one of them answered. A snapshot of each set counts
//! the cases that pass and those that are left out, by reason.
//!
//! Cases that take minutes are left out, unless `ZVM_SUITES=all`: the counts are then printed, not compared.

// Its examples are for other tests.
#[allow(dead_code)]
#[path = "../corpus/mod.rs"]
mod corpus;

mod fixture;
mod programs;
mod reference;
mod state_tests;
mod tally;
mod trie;
mod vm_tests;

use libtest_mimic::Arguments;

fn main() {
    let arguments = Arguments::from_args();
    let trials = vec![
        corpus::trial("vm_tests", "ethereum-tests/legacytests-Constantinople/VMTests", vm_tests::run),
        corpus::trial("state_tests", "ethereum-tests/GeneralStateTests", |folder| {
            state_tests::run(folder, "suite_state_tests")
        }),
        corpus::trial("execution_spec_tests", "ethereum-tests/execution-spec-tests-fusaka-devnet-5", |folder| {
            state_tests::run(folder, "suite_execution_spec_tests")
        }),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}
