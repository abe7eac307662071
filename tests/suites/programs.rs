//! The code of the suites, compiled once each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use zvm::{Contract, Exit, Input, Program, Source};
use zvm_backend_evm::Options;
use zvm_ir::Module;
use zvm_ir::passes::Goal;

/// A program at each stage that E1 runs, and lowered.
pub(crate) struct Compiled {
    /// As lifted, after the pipeline for the EVM, after that for the circuit.
    pub(crate) stages: [Module; 3],
    /// The lowered bytecode.
    pub(crate) lowered: Vec<u8>,
}

/// A program, or the code of the reason for which the frontend refuses it.
pub(crate) type Compilation = Result<Arc<Compiled>, &'static str>;

/// The stages, as they are named in failures.
pub(crate) const STAGES: [&str; 3] = ["E1 as lifted", "E1 optimised for the EVM", "E1 optimised for the circuit"];

/// What was compiled so far.
#[derive(Default)]
pub(crate) struct Programs(Mutex<BTreeMap<Vec<u8>, Compilation>>);

impl Programs {
    /// Compiles runtime code. Only the frontend may refuse it; anything else is an error.
    pub(crate) fn compile(&self, code: &[u8]) -> Result<Compilation, String> {
        if let Ok(known) = self.0.lock()
            && let Some(known) = known.get(code)
        {
            return Ok(known.clone());
        }
        let compilation = match load(code) {
            Ok(program) => Ok(Arc::new(compiled(&program).map_err(|error| format!("{}: {error}", error.code()))?)),
            Err(error) if error.exit() == Exit::Subset => Err(error.code()),
            Err(error) => return Err(format!("{}: {error}", error.code())),
        };
        if let Ok(mut known) = self.0.lock() {
            known.insert(code.to_vec(), compilation.clone());
        }
        Ok(compilation)
    }
}

/// Lifts runtime code that an account holds.
pub(crate) fn load(code: &[u8]) -> Result<Program, zvm::Error> {
    let contract = Contract { runtime: code.to_vec(), ..Contract::default() };
    Program::load(&Input { origin: "suite".to_owned(), source: Source::Contract(Box::new(contract)) })
}

fn compiled(program: &Program) -> Result<Compiled, zvm::Error> {
    Ok(Compiled {
        stages: [program.module.clone(), program.optimized(Goal::Evm)?, program.optimized(Goal::Circuit)?],
        lowered: program.lowered(&Options::default())?.code,
    })
}
