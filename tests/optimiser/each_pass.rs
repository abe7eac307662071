//! `interp(f) = interp(pass(f))` on real contracts: after each pass of the pipeline, and each pass by itself at some place in it.

use std::path::{Path, PathBuf};

use libtest_mimic::Failed;
use zvm::{Exit, Input, Program, Source};
use zvm_ir::passes::{Goal, PIPELINE};

use crate::bodies::passes::keep_outcomes;
use crate::calls::{Generator, of_interface};

/// Calls of each contract.
const CALLS: usize = 8;

/// Every so many contracts; all with `ZVM_SLOW=1`.
const STEP: usize = 24;

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
