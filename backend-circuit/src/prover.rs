//! Proving an execution and verifying a proof of one.
//!
//! Verification trusts nothing that the file carries: the circuit is built from the verifier's own program and the plan in
//! the file, the first state from the digests of the calldata and environment in the file, and the last state must
//! hold the digest of the outcome in the file and the label of a halted program. What the caller expects is compared with the
//! statement that results.

use core::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use zvm_ir::{Env, Halt};

use crate::artifact::{FileError, Kind, ProofFile};
use crate::error::CircuitError;
use crate::execute::{Call, Trace};
use crate::nova::{self, Check, CompressedProof, CompressionKeys, Fr, Params, RecursiveProof};
use crate::plan::Plan;
use crate::program::Program;
use crate::statement::{StateError, Statement};
use crate::step::StepCircuit;
use crate::usage;

/// The most rows of a step that a verifier builds: a proof's plan is not trusted.
pub const MAX_STEP_ROWS: u64 = 1 << 21;
/// The most steps of a proof.
pub const MAX_STEPS: u64 = 1 << 32;
/// Rows per step that plans aim at unless the caller says otherwise.
pub const TARGET_ROWS: u64 = 1 << 16;
/// What a step costs beside its own rows, in rows: Nova's recursion on both curves.
pub const RECURSION_ROWS: u64 = 20_000;

/// Where proving is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Public parameters are read or made.
    Parameters,
    /// This many steps of this many are folded.
    Folded {
        /// Steps done.
        steps: u64,
        /// Steps in all.
        of: u64,
        /// Rows of one step.
        rows_per_step: u64,
    },
    /// The proof is compressed.
    Compressing,
}

/// How to prove.
pub struct ProveOptions<'a> {
    /// Which proof to make.
    pub kind: Kind,
    /// Where public parameters are kept; `None` makes them anew.
    pub cache: Option<&'a Path>,
    /// Whether each step is checked before it is folded.
    pub check: Check,
    /// Told where proving is; may end it.
    pub progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

/// What proving took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProveFacts {
    /// Steps folded.
    pub steps: u64,
    /// Rows of a step, Nova's own apart.
    pub rows_per_step: u64,
    /// Rows of all steps, Nova's own apart.
    pub rows_total: u64,
    /// How often the region that runs most often ran.
    pub iterations_hot: u64,
    /// How many slots of that region a step has.
    pub slots_hot: u64,
    /// Nova's own rows per step on BN254.
    pub nova_rows_primary: u64,
    /// Nova's own rows per step on Grumpkin.
    pub nova_rows_secondary: u64,
    /// CPU time of all threads while folding and compressing, parameters apart; zero where the system does not tell.
    pub cpu_seconds: f64,
    /// The largest resident memory of the process so far; zero where the system does not tell.
    pub peak_memory_bytes: u64,
}

/// A proof, what it says and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Proved {
    /// The proof with what verification needs.
    pub file: ProofFile,
    /// What it says.
    pub statement: Statement,
    /// What it took.
    pub facts: ProveFacts,
}

fn params(
    circuit: &StepCircuit,
    program: &Program,
    plan: &Plan,
    cache: Option<&Path>,
) -> Result<Params<StepCircuit>, CircuitError> {
    match cache {
        None => Params::setup(circuit),
        Some(directory) => {
            let key = program.circuit_digest(plan).to_be_bytes::<32>();
            Params::cached(circuit, &key, directory).map(|(params, _)| params)
        }
    }
}

/// Proves that `call` has the outcome that executing it gives.
///
/// # Errors
/// `Unprovable` when the execution reaches an instruction without a circuit, `PlanLacks` when the plan misses a region,
/// `Unsatisfied` when a step does not hold (a bug), `Interrupted` when `options.progress` ends it.
pub fn prove(
    program: &Arc<Program>,
    plan: &Arc<Plan>,
    call: &Call,
    options: ProveOptions<'_>,
) -> Result<Proved, CircuitError> {
    let ProveOptions { kind, cache, check, progress } = options;
    let mut report = |at: Progress| match progress(at) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(CircuitError::Interrupted),
    };
    let rows = plan.rows(program.rows());
    if rows > MAX_STEP_ROWS {
        return Err(CircuitError::StepSize(rows));
    }
    let execution = program.execute(call)?;
    let steps = plan.steps(&execution.trace, MAX_STEPS)?;
    let statement = Statement::new(program, call, &execution.outcome, steps);
    let step = StepCircuit { program: Arc::clone(program), plan: Arc::clone(plan), call: None };
    report(Progress::Parameters)?;
    let params = params(&step, program, plan, cache)?;
    let rows_per_step = params.facts().step_rows as u64;
    let before = usage::cpu_seconds();
    let step = StepCircuit { call: Some(Arc::new(call.clone())), ..step };
    let folded = |proof: &RecursiveProof<StepCircuit>| {
        let done = proof.steps() as u64;
        report(Progress::Folded { steps: done, of: steps, rows_per_step })?;
        Ok(ControlFlow::Continue(()))
    };
    let first = statement.initial_state(program);
    let proof = nova::prove(&params, None, (0..steps).map(|_| Ok(step.clone())), &first, check, folded)?;
    statement.check_final_state(proof.state())?;
    let bytes = match kind {
        Kind::Recursive => proof.to_bytes()?,
        Kind::Compressed => {
            report(Progress::Compressing)?;
            let keys = CompressionKeys::setup(&params)?;
            CompressedProof::prove(&params, &keys, &proof)?.to_bytes()?
        }
    };
    let (iterations_hot, slots_hot) = hottest(&execution.trace, plan);
    let sizes = params.facts();
    let facts = ProveFacts {
        steps,
        rows_per_step,
        rows_total: rows_per_step * steps,
        iterations_hot,
        slots_hot,
        nova_rows_primary: sizes.overhead_rows() as u64,
        nova_rows_secondary: sizes.secondary_rows as u64,
        cpu_seconds: usage::cpu_seconds().zip(before).map_or(0.0, |(after, before)| after - before),
        peak_memory_bytes: usage::peak_memory_bytes().unwrap_or(0),
    };
    let file = ProofFile {
        kind,
        steps,
        call: call.clone(),
        outcome: execution.outcome,
        plan: plan.to_numbers(),
        proof: bytes,
    };
    Ok(Proved { file, statement, facts })
}

/// How often the region that runs most often runs, and how many slots of it a step has.
fn hottest(trace: &Trace, plan: &Plan) -> (u64, u64) {
    let mut counts = std::collections::BTreeMap::new();
    for &(region, count) in trace.runs() {
        *counts.entry(region).or_insert(0u64) += count;
    }
    let Some((&region, &count)) = counts.iter().max_by_key(|(region, count)| (**count, core::cmp::Reverse(**region)))
    else {
        return (0, 0);
    };
    (count, plan.iter().filter(|&slot| slot == region).count() as u64)
}

/// What a verifier expects a proof to be about; `None` accepts anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The calldata.
    pub calldata: Option<Vec<u8>>,
    /// The environment.
    pub env: Option<Env>,
    /// How the program halts.
    pub halt: Option<Halt>,
    /// What it returns or reverts with.
    pub data: Option<Vec<u8>>,
    /// The number of steps.
    pub steps: Option<u64>,
}

/// Why a proof is refused.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file is not a proof file.
    #[error(transparent)]
    File(#[from] FileError),
    /// The plan names regions that the program does not have.
    #[error("the proof is not of this program: its plan names other regions")]
    Plan,
    /// The plan makes a circuit larger than verifiers build.
    #[error("the proof's plan has {0} rows per step, more than {MAX_STEP_ROWS}")]
    PlanSize(u64),
    /// The number of steps is zero or past the limit.
    #[error("the proof claims {0} steps")]
    Steps(u64),
    /// The proof system says no.
    #[error(transparent)]
    Proof(CircuitError),
    /// The last state is not that of the statement.
    #[error(transparent)]
    State(#[from] StateError),
    /// The proof is valid, and about something else than expected.
    #[error("the proof is about {0} other than expected")]
    Unexpected(&'static str),
}

impl VerifyError {
    /// Whether the bytes could not be read as a proof at all, as opposed to a proof that is not valid.
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::File(_) => true,
            Self::Proof(error) => matches!(error, CircuitError::UnreadableProof(_)),
            _ => false,
        }
    }
}

/// Verifies a proof file against `program`; gives the statement that it proves and the file's content.
///
/// # Errors
/// See [`VerifyError`].
pub fn verify(
    bytes: &[u8],
    program: &Arc<Program>,
    expected: &Expected,
    cache: Option<&Path>,
) -> Result<(Statement, ProofFile), VerifyError> {
    let file = ProofFile::decode(bytes)?;
    let plan = Plan::from_numbers(program, &file.plan).ok_or(VerifyError::Plan)?;
    let rows = plan.rows(program.rows());
    if rows > MAX_STEP_ROWS {
        return Err(VerifyError::PlanSize(rows));
    }
    let steps = usize::try_from(file.steps).ok().filter(|&steps| steps > 0 && file.steps <= MAX_STEPS);
    let steps = steps.ok_or(VerifyError::Steps(file.steps))?;
    let statement = Statement::new(program, &file.call, &file.outcome, file.steps);
    // Cheap answers first.
    check_expected(&file, expected)?;
    let z = verify_steps(&file, program, plan, steps, &statement, cache).map_err(VerifyError::Proof)?;
    statement.check_final_state(&z)?;
    Ok((statement, file))
}

fn verify_steps(
    file: &ProofFile,
    program: &Arc<Program>,
    plan: Plan,
    steps: usize,
    statement: &Statement,
    cache: Option<&Path>,
) -> Result<Vec<Fr>, CircuitError> {
    let step = StepCircuit { program: Arc::clone(program), plan: Arc::new(plan), call: None };
    let params = params(&step, program, &step.plan, cache)?;
    let first = statement.initial_state(program);
    match file.kind {
        Kind::Recursive => RecursiveProof::from_bytes(&params, &file.proof)?.verify(&params, steps, &first),
        Kind::Compressed => {
            let keys = CompressionKeys::setup(&params)?;
            CompressedProof::from_bytes(&keys, &file.proof)?.verify(&keys, steps, &first)
        }
    }
}

fn check_expected(file: &ProofFile, expected: &Expected) -> Result<(), VerifyError> {
    let Expected { calldata, env, halt, data, steps } = expected;
    let differs = [
        (calldata.as_ref().is_some_and(|calldata| *calldata != file.call.calldata), "calldata"),
        (env.as_ref().is_some_and(|env| *env != file.call.env), "an environment"),
        (halt.is_some_and(|halt| halt != file.outcome.halt), "a kind of halt"),
        (data.as_ref().is_some_and(|data| *data != file.outcome.data), "an outcome"),
        (steps.is_some_and(|steps| steps != file.steps), "a number of steps"),
    ];
    match differs.into_iter().find(|(differs, _)| *differs) {
        Some((_, what)) => Err(VerifyError::Unexpected(what)),
        None => Ok(()),
    }
}
