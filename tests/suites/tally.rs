//! Counts of cases, by suite and by what became of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use libtest_mimic::Failed;

/// The memory that the interpreter gives a frame, in bytes.
pub(crate) const MEMORY: usize = 64 << 20;

/// Instructions beyond which a case is left to the runs of everything.
pub(crate) const LONG: u64 = 1_000_000;

/// Why a case is not run in our executors. Each is a fact about the case that the reference finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exclusion {
    /// The suite expects that the transaction is not valid: nothing is executed.
    InvalidTransaction,
    /// The transaction carries authorisations (EIP-7702), which change code before anything runs.
    Authorisation,
    /// The transaction creates a contract: there is no runtime code to lift.
    Creation,
    /// The account that is called has no code, or is a precompiled contract.
    NoCode,
    /// An account has storage but neither code nor nonce, which cannot come about since Spurious Dragon; `revm`'s database
    /// does not tell it that there is storage when an account is created there (EIP-7610).
    StorageAlone,
    /// Under the rules of the fork that we model, the reference itself gives something else.
    OtherFork,
    /// The execution, or that of an account it calls, ends for want of gas.
    OutOfGas,
    /// The reference's outcome is another one with more gas.
    GasLimit,
    /// Code that runs uses the remaining gas as data (ZV0103 where it is an account of the case).
    GasObserved,
    /// BLOCKHASH of a block that exists: our environment has none.
    BlockHash,
    /// A frame has more memory than the interpreter gives one.
    Memory,
    /// It takes more than [`LONG`] instructions, or measures performance: run with `ZVM_SUITES=all`.
    Long,
    /// The account that is called is refused by the frontend for another reason than gas.
    Refused(&'static str),
}

impl Exclusion {
    fn text(self) -> String {
        match self {
            Self::InvalidTransaction => "the transaction is invalid".to_owned(),
            Self::Authorisation => "authorisations".to_owned(),
            Self::Creation => "creates a contract".to_owned(),
            Self::NoCode => "calls an account without code".to_owned(),
            Self::StorageAlone => "an account with storage alone".to_owned(),
            Self::OtherFork => "rules of another fork".to_owned(),
            Self::OutOfGas => "out of gas".to_owned(),
            Self::GasLimit => "depends on the gas limit".to_owned(),
            Self::GasObserved => "observes gas".to_owned(),
            Self::BlockHash => "hash of a block".to_owned(),
            Self::Memory => "more memory than E1 has".to_owned(),
            Self::Long => "long".to_owned(),
            Self::Refused(code) => format!("refused: {code}"),
        }
    }
}

/// What became of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// E0, E1 and E2 leave what the suite says.
    Passed,
    /// E0 and E1 do; in E2 an account sees the code or code size of a program, which is not the original's.
    PassedWithoutLowered,
    /// It is not run.
    Excluded(Exclusion),
}

/// The counts of one set.
#[derive(Default)]
pub(crate) struct Tally {
    suites: BTreeMap<String, BTreeMap<Verdict, usize>>,
    failures: Vec<String>,
}

impl Tally {
    /// Counts a case; an error is a failure.
    pub(crate) fn count(&mut self, suite: &str, case: &str, result: Result<Verdict, String>) {
        match result {
            Ok(verdict) => *self.suites.entry(suite.to_owned()).or_default().entry(verdict).or_default() += 1,
            Err(reason) => self.failures.push(format!("{suite}/{case}: {reason}")),
        }
    }

    fn add(&mut self, other: Self) {
        self.failures.extend(other.failures);
        for (suite, counts) in other.suites {
            let own = self.suites.entry(suite).or_default();
            for (verdict, count) in counts {
                *own.entry(verdict).or_default() += count;
            }
        }
    }

    /// Fails if a case did, and compares the counts with the snapshot.
    pub(crate) fn finish(mut self, snapshot: &str) -> Result<(), Failed> {
        if !self.failures.is_empty() {
            self.failures.sort();
            return Err(format!("{} failures\n{}", self.failures.len(), self.failures.join("\n")).into());
        }
        let mut total: BTreeMap<Verdict, usize> = BTreeMap::new();
        for (verdict, count) in self.suites.values().flatten() {
            *total.entry(*verdict).or_default() += count;
        }
        let mut table = String::new();
        for (suite, counts) in [("total".to_owned(), total)].into_iter().chain(self.suites) {
            let of =
                |wanted: fn(&Verdict) -> bool| counts.iter().filter(|(v, _)| wanted(v)).map(|(_, n)| n).sum::<usize>();
            let passed = of(|verdict| !matches!(verdict, Verdict::Excluded(_)));
            write!(table, "{suite}: {} cases, {passed} pass", counts.values().sum::<usize>())?;
            let without = of(|verdict| *verdict == Verdict::PassedWithoutLowered);
            if without > 0 {
                write!(table, " ({without} not in E2, where code is looked at)")?;
            }
            writeln!(table)?;
            for (verdict, count) in &counts {
                if let Verdict::Excluded(reason) = verdict {
                    writeln!(table, "    {}: {count}", reason.text())?;
                }
            }
        }
        if everything() {
            println!("{table}");
            return Ok(());
        }
        insta::with_settings!({
            snapshot_path => "../../snapshots", prepend_module_to_snapshot => false, omit_expression => true
        }, {
            insta::assert_snapshot!(snapshot, table);
        });
        Ok(())
    }
}

/// Whether all cases are run.
pub(crate) fn everything() -> bool {
    std::env::var("ZVM_SUITES").is_ok_and(|value| value == "all")
}

/// Whether a suite is left to the runs of everything: its loops take minutes.
pub(crate) fn is_long(suite: &str) -> bool {
    suite.ends_with("vmPerformance") && !everything()
}

/// Runs `run` on every file (whose path contains `ZVM_ONLY`), on as many threads as there are cores.
pub(crate) fn of_files(files: &[PathBuf], run: impl Fn(&Path, &mut Tally) -> Result<(), String> + Sync) -> Tally {
    let only = std::env::var("ZVM_ONLY").unwrap_or_default();
    let files: Vec<_> = files.iter().filter(|file| file.to_string_lossy().contains(&only)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut tally = Tally::default();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(reason) = run(file, &mut tally) {
                tally.failures.push(format!("{}: {reason}", file.display()));
            }
        }
        tally
    };
    let mut total = Tally::default();
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..thread::available_parallelism().map_or(1, usize::from)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(tally) => total.add(tally),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    total
}
