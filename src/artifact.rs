//! Proofs and compiled programs: the circuit backend's proving and verifying for a [`Program`].

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ff::PrimeField;
use zvm_backend_circuit::artifact::ProgramFile;
use zvm_backend_circuit::checkpoint;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Trace;
use zvm_backend_circuit::export;
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::groth16::{self, Proof};
use zvm_backend_circuit::keys::{Keys, Source};
use zvm_backend_circuit::nova::{self, Check, Fr};
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::planner::{self, Model};
use zvm_backend_circuit::program::{COMPILER, Program as CircuitProgram};
use zvm_backend_circuit::prover::{self, ProveFacts, ProveOptions};
use zvm_backend_circuit::replay::Cut;
use zvm_backend_circuit::schedule::Schedule;
use zvm_backend_circuit::short::{self, Setup};
use zvm_backend_circuit::statement;

pub use zvm_backend_circuit::artifact::{Kind, Origin, ProofFile};
pub use zvm_backend_circuit::checkpoint::Keep;
pub use zvm_backend_circuit::planner::{Estimate, Limits};
pub use zvm_backend_circuit::prover::{Expected, Progress};

use crate::call::Call;
use crate::error::Error;
use crate::l1;
use crate::program::Program;
use crate::start::{Left, Start};
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
    /// What the calls leave.
    pub left: Left,
}

/// What a proof says, over the field of its proof system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Of a folded proof: over BN254's scalar field.
    Nova(statement::Statement),
    /// Of a short proof: over BLS12-381's scalar field.
    Groth16(statement::Statement<groth16::Scalar>),
}

impl Statement {
    /// The fields with their names in text and JSON: digests and roots as 0x-hex, numbers in decimal. `field` names the field that
    /// digests and roots are elements of; those of one field say nothing over another.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Nova(of) => fields(of, "bn254"),
            Self::Groth16(of) => fields(of, "bls12-381"),
        }
    }
}

fn fields<F: PrimeField>(of: &statement::Statement<F>, field: &str) -> Vec<(&'static str, String)> {
    let statement::Statement {
        program,
        calls,
        calls_digest,
        calldata_digest,
        account,
        roots,
        halt,
        outcome_digest,
        steps,
    } = of;
    let element = |element: &F| format!("{:#066x}", to_u256(element));
    let mut fields = vec![
        ("program", format!("{program:#066x}")),
        ("field", field.to_owned()),
        ("calls", calls.to_string()),
        ("calls_digest", element(calls_digest)),
        ("calldata_digest", element(calldata_digest)),
        ("pre_root", element(&roots.pre)),
        ("post_root", element(&roots.post)),
        ("halt", halt.name().to_owned()),
        ("outcome_digest", element(outcome_digest)),
        ("steps", steps.to_string()),
    ];
    if let Some(account) = account {
        fields.insert(5, ("account", format!("0x{}", hex::encode(account))));
    }
    fields
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

/// Proves that calls, one after the other from a state, have the outcomes that running them gives. The plan follows the execution,
/// unless the program was compiled with one that is as good: its parameters are the same for all calls.
///
/// # Errors
/// When the execution cannot be proved, or `options.progress` ends it.
pub fn prove<'a>(
    program: &Program,
    calls: &[Call],
    start: impl Into<Start<'a>>,
    options: Options<'_>,
) -> Result<Proved, Error> {
    let circuit = Arc::new(program.circuit()?);
    let prepared = start.into().prepare(&circuit, program.code().unwrap_or_default(), calls)?;
    let left = Left::of(&prepared)?;
    let Options { kind, cache, limits, keep, progress } = options;
    let schedule = schedule(program, &circuit, &prepared.trace, limits)?;
    let options = ProveOptions { kind, cache, check: Check::EachStep, keep, progress };
    let prover::Proved { file, statement, facts } = prover::prove(&circuit, &schedule, prepared, options)?;
    Ok(Proved { file, statement: Statement::Nova(statement), facts, left })
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

/// The plan for a program: for executions of these calls, or from its loops if there are none; and what was expected of it on them. Where no step
/// holds all regions of the program, the plan for any execution lacks the largest: executions that come there are planned when they are proved.
///
/// # Errors
/// When a call cannot be proved.
pub fn plan(circuit: &CircuitProgram, calls: &[Call], limits: Limits) -> Result<(Plan, Option<Estimate>), Error> {
    if calls.is_empty() {
        let (model, once) = (Model::default(), circuit.rows().values().sum());
        let held = match once {
            0..=prover::MAX_STEP_ROWS => once,
            _ => model.rows_in(limits.memory_bytes.unwrap_or(planner::MEMORY_BYTES)),
        };
        let most = limits.most_rows(&model, held)?;
        let rows = limits.rows_per_step.unwrap_or(prover::TARGET_ROWS).min(most);
        return Ok((Plan::default_for(circuit, rows).within(circuit.rows(), held), None));
    }
    let trace = Start::State(&State::default()).prepare::<Fr>(circuit, &[], calls)?.trace;
    let (plan, estimate) = planner::plan(circuit, core::slice::from_ref(&trace), limits)?;
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

/// The circuit and the witness of step `step` (from 0) of a proof of calls in one segment.
///
/// # Errors
/// When the execution cannot be proved, or has fewer steps.
pub fn export<'a>(
    program: &Program,
    calls: &[Call],
    start: impl Into<Start<'a>>,
    step: u64,
    rows: u64,
) -> Result<Exported, Error> {
    let circuit = Arc::new(program.circuit()?);
    let prepared = start.into().prepare(&circuit, program.code().unwrap_or_default(), calls)?;
    let limits = Limits { rows_per_step: Some(rows), ..Limits::default() };
    let plan = Arc::new(planner::plan(&circuit, core::slice::from_ref(&prepared.trace), limits)?.0);
    let steps = plan.steps(&prepared.trace, u64::MAX)?;
    if step >= steps {
        return Err(Error::NoStep { step, steps });
    }
    let prepared = Arc::new(prepared.cut(&circuit, Cut::Plan(&plan), &circuit.circuit_digest(&plan), steps)?);
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    Ok(Exported { files: export::export_step(&circuit, &plan, &prepared, step)?, steps })
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
    let (statement, file) = prover::verify(bytes, &circuit, expected, cache).map_err(invalid(path))?;
    Ok((Statement::Nova(statement), file))
}

fn invalid(path: &str) -> impl FnOnce(prover::VerifyError) -> Error {
    let path = path.to_owned();
    move |source| Error::Proof { path, source: Box::new(source) }
}

// Short proofs.

/// What keys are made of.
#[derive(Clone, Copy, Debug)]
pub enum Room<'a> {
    /// Lists of calls, each from this state: the circuit has room for each list.
    Calls(&'a [&'a [Call]], Start<'a>),
    /// This many rows, shared out as the loops of the program suggest.
    Rows(u64),
}

/// A program with the plan that short proofs of it have.
#[derive(Clone, Debug)]
pub struct ShortCircuit {
    program: Arc<CircuitProgram>,
    code: Vec<u8>,
    plan: Arc<Plan>,
}

impl ShortCircuit {
    /// The circuit with room for what is asked.
    ///
    /// # Errors
    /// When a call cannot be proved.
    pub fn new(program: &Program, room: Room<'_>) -> Result<Self, Error> {
        let code = program.code().unwrap_or_default().to_vec();
        let program = Arc::new(program.circuit()?);
        let plan = match room {
            Room::Calls(batches, start) => {
                let mut traces = Vec::with_capacity(batches.len());
                for calls in batches {
                    traces.push(start.prepare::<groth16::Scalar>(&program, &code, calls)?.trace);
                }
                short::plan_for(&program, &traces)?
            }
            Room::Rows(rows) => Plan::default_for(&program, rows),
        };
        Ok(Self { program, code, plan: Arc::new(plan) })
    }

    /// Makes keys on this machine, for development only, or finds those that are there.
    ///
    /// # Errors
    /// When the circuit is too large, or the keys cannot be written.
    pub fn insecure_setup(&self, to: Source<'_>) -> Result<Keys, Error> {
        Ok(short::setup(&self.program, &self.plan, Setup::InsecureLocal, to)?)
    }

    /// Imports the parameters of a ceremony, and tries them on calls from a state.
    ///
    /// # Errors
    /// When they are not of this circuit, or the keys cannot be written.
    pub fn import(&self, parameters: &[u8], calls: &[Call], start: Start<'_>, to: Source<'_>) -> Result<Keys, Error> {
        let prepared = Box::new(start.prepare(&self.program, &self.code, calls)?);
        Ok(short::setup(&self.program, &self.plan, Setup::Ceremony { parameters, prepared }, to)?)
    }

    /// The circuit as a `.r1cs` file over BLS12-381's scalar field: what a ceremony is held about.
    ///
    /// # Errors
    /// When it cannot be synthesised.
    pub fn r1cs(&self) -> Result<Vec<u8>, Error> {
        Ok(short::r1cs(&self.program, &self.plan)?)
    }

    /// How many slots it has.
    pub fn slots(&self) -> usize {
        self.plan.len()
    }
}

/// Proves calls, one after the other from a state, in one short proof; gives who made the keys as well.
///
/// # Errors
/// When the execution cannot be proved, or no keys have room for it.
pub fn prove_short<'a>(
    program: &Program,
    calls: &[Call],
    start: impl Into<Start<'a>>,
    keys: Source<'_>,
) -> Result<(Proved, Origin), Error> {
    let circuit = Arc::new(program.circuit()?);
    let prepared = start.into().prepare(&circuit, program.code().unwrap_or_default(), calls)?;
    let left = Left::of(&prepared)?;
    let short::Proved { file, statement, facts, origin } = short::prove(&circuit, prepared, keys)?;
    Ok((Proved { file, statement: Statement::Groth16(statement), facts, left }, origin))
}

/// A short proof that was verified.
#[derive(Clone, Debug)]
pub struct VerifiedShort {
    /// What it says.
    pub statement: Statement,
    /// The file's content.
    pub file: ProofFile,
    /// Who made the keys.
    pub origin: Origin,
    /// The calldata of the verifier's `verify` that says the same on L1.
    pub verify_calldata: Vec<u8>,
    /// The calldata of the anchor's `advance`.
    pub advance_calldata: Vec<u8>,
}

/// Verifies a short proof against a program.
///
/// # Errors
/// As [`verify`]; without keys of the circuit that the proof is of ([`crate::Exit::Usage`]).
pub fn verify_short(
    path: &str,
    bytes: &[u8],
    program: &Program,
    expected: &Expected,
    keys: Source<'_>,
) -> Result<VerifiedShort, Error> {
    let circuit = Arc::new(program.circuit()?);
    let short::Verified { statement, file, origin } =
        short::verify(bytes, &circuit, expected, keys).map_err(invalid(path))?;
    let bytes = file.segments.first().map_or(&[][..], |segment| &segment.proof);
    let proof = Proof::from_bytes(bytes).map_err(CircuitError::from)?;
    let elements = statement.elements();
    Ok(VerifiedShort {
        verify_calldata: l1::verify_calldata(&proof, &elements),
        advance_calldata: l1::advance_calldata(&proof, &elements),
        statement: Statement::Groth16(statement),
        file,
        origin,
    })
}

/// The only keys of a program.
///
/// # Errors
/// When there are none, or several.
pub fn keys(program: &Program, keys: Source<'_>) -> Result<Keys, Error> {
    let circuit = Arc::new(program.circuit()?);
    Ok(short::only_keys(&circuit, keys).map_err(CircuitError::from)?)
}
