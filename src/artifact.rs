//! Proofs and compiled programs: the circuit backend's proving and verifying for a [`Program`].

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zvm_backend_circuit::artifact::ProgramFile;
use zvm_backend_circuit::checkpoint;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::{Call as CircuitCall, Trace};
use zvm_backend_circuit::export;
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::nova::{self, Check};
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::planner::{self, Model};
use zvm_backend_circuit::program::{COMPILER, Program as CircuitProgram};
use zvm_backend_circuit::prover::{self, ProveFacts, ProveOptions};
use zvm_backend_circuit::schedule::Schedule;
use zvm_backend_circuit::statement;

pub use zvm_backend_circuit::artifact::{Kind, ProofFile};
pub use zvm_backend_circuit::checkpoint::Keep;
pub use zvm_backend_circuit::planner::{Estimate, Limits, MEMORY_BYTES};
pub use zvm_backend_circuit::prover::{Expected, Progress};

use crate::call::Call;
use crate::error::Error;
use crate::program::Program;
use crate::state::State;

/// How to prove.
pub struct Options<'a> {
    /// Which proof to make.
    pub kind: Kind,
    /// Where public parameters are kept; `None` makes them anew.
    pub cache: Option<&'a Path>,
    /// What the plan has to keep to.
    pub limits: Limits,
    /// Where checkpoints are kept, if they are.
    pub keep: Option<Keep<'a>>,
    /// Told where proving is; may end it.
    pub progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

/// A proof, what it says and what it took.
#[derive(Clone, Debug)]
pub struct Proved {
    /// The file.
    pub file: ProofFile,
    /// What it says.
    pub statement: Statement,
    /// What it took.
    pub facts: ProveFacts,
}

/// What a proof says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement(statement::Statement);

impl Statement {
    /// The fields with their names in text and JSON: digests and roots as 0x-hex, the number of steps in decimal.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let statement::Statement {
            program,
            calldata_digest,
            env_digest,
            pre_root,
            post_root,
            halt,
            outcome_digest,
            steps,
        } = &self.0;
        let field = |element| format!("{:#066x}", to_u256(element));
        vec![
            ("program", format!("{program:#066x}")),
            ("calldata_digest", field(calldata_digest)),
            ("env_digest", field(env_digest)),
            ("pre_root", field(pre_root)),
            ("post_root", field(post_root)),
            ("halt", halt.name().to_owned()),
            ("outcome_digest", field(outcome_digest)),
            ("steps", steps.to_string()),
        ]
    }
}

/// Where public parameters are kept unless the user says otherwise.
pub fn default_cache() -> PathBuf {
    nova::default_cache()
}

/// The compiled program as a file.
pub fn of(circuit: &CircuitProgram, plan: &Plan) -> ProgramFile {
    ProgramFile {
        compiler: COMPILER.to_owned(),
        text: circuit.text().to_owned(),
        plan: plan.to_numbers(),
        digest: circuit.circuit_digest(plan),
    }
}

/// Proves that a call, from the empty state, has the outcome that running it gives. The plan follows the execution, unless the
/// program was compiled with one that is as good: its parameters are the same for all calls.
///
/// # Errors
/// When the execution cannot be proved, or `options.progress` ends it.
pub fn prove(program: &Program, call: &Call, options: Options<'_>) -> Result<Proved, Error> {
    let circuit = Arc::new(program.circuit()?);
    let call = CircuitCall { calldata: call.calldata.clone(), env: call.env_in(&State::default()) };
    let execution = circuit.execute(&call)?;
    let Options { kind, cache, limits, keep, progress } = options;
    let schedule = schedule(program, &circuit, &execution.trace, limits)?;
    let options = ProveOptions { kind, cache, check: Check::EachStep, keep, progress };
    let prover::Proved { file, statement, facts } = prover::prove(&circuit, &schedule, &call, options)?;
    Ok(Proved { file, statement: Statement(statement), facts })
}

/// The schedule for an execution.
fn schedule(
    program: &Program,
    circuit: &CircuitProgram,
    trace: &Trace,
    limits: Limits,
) -> Result<Schedule, CircuitError> {
    let compiled = program.compiled().and_then(|file| Plan::from_numbers(circuit, &file.plan));
    match compiled {
        Some(plan) if limits.rows_per_step.is_none() => planner::schedule_with(circuit, &plan, trace, limits),
        _ => Ok(planner::schedule(circuit, trace, limits)?.0),
    }
}

/// The plan for a program: for executions of these calls, or from its loops if there are none; and what was expected of it on them.
///
/// # Errors
/// When a call cannot be proved.
pub fn plan(circuit: &CircuitProgram, calls: &[Call], limits: Limits) -> Result<(Plan, Option<Estimate>), Error> {
    if calls.is_empty() {
        let most = Model::default().rows_in(limits.memory_bytes);
        let rows = limits.rows_per_step.unwrap_or_else(|| prover::TARGET_ROWS.min(most));
        return Ok((Plan::default_for(circuit, rows), None));
    }
    let mut traces = Vec::with_capacity(calls.len());
    for call in calls {
        let call = CircuitCall { calldata: call.calldata.clone(), env: call.env_in(&State::default()) };
        traces.push(circuit.execute(&call)?.trace);
    }
    let (plan, estimate) = planner::plan(circuit, &traces, limits)?;
    Ok((plan, Some(estimate)))
}

/// Removes the checkpoint of a proof that was written.
///
/// # Errors
/// When the system refuses.
pub fn discard_checkpoint(directory: &Path) -> Result<(), Error> {
    checkpoint::discard(directory).map_err(|source| Error::Io { path: directory.display().to_string(), source })
}

/// A step's circuit and witness, as files for other tools.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The contents of the files.
    pub files: export::Exported,
    /// How many steps the execution takes.
    pub steps: u64,
}

/// The circuit and the witness of step `step` (from 0) of a proof of a call in one segment.
///
/// # Errors
/// When the execution cannot be proved, or has fewer steps.
pub fn export(program: &Program, call: &Call, step: u64, rows: u64) -> Result<Exported, Error> {
    let circuit = Arc::new(program.circuit()?);
    let call = Arc::new(CircuitCall { calldata: call.calldata.clone(), env: call.env_in(&State::default()) });
    let execution = circuit.execute(&call)?;
    let limits = Limits { rows_per_step: Some(rows), ..Limits::default() };
    let plan = Arc::new(planner::plan(&circuit, core::slice::from_ref(&execution.trace), limits)?.0);
    let steps = plan.steps(&execution.trace, u64::MAX)?;
    if step >= steps {
        return Err(Error::NoStep { step, steps });
    }
    Ok(Exported { files: export::export_step(&circuit, &plan, &call, step)?, steps })
}

/// Reads a proof without verifying it: what it claims.
///
/// # Errors
/// When the bytes are no proof.
pub fn read_proof(path: &str, bytes: &[u8]) -> Result<ProofFile, Error> {
    ProofFile::decode(bytes).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}

/// Verifies a proof against a program; gives what it says and the file's content.
///
/// # Errors
/// When the bytes cannot be read as a proof ([`crate::Exit::Usage`]), or are not a valid one ([`crate::Exit::No`]).
pub fn verify(
    path: &str,
    bytes: &[u8],
    program: &Program,
    expected: &Expected,
    cache: Option<&Path>,
) -> Result<(Statement, ProofFile), Error> {
    let circuit = Arc::new(program.circuit()?);
    let (statement, file) = prover::verify(bytes, &circuit, expected, cache)
        .map_err(|source| Error::Proof { path: path.to_owned(), source: Box::new(source) })?;
    Ok((Statement(statement), file))
}
