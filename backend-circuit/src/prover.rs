//! Proving an execution and verifying a proof of one.
//!
//! Verification trusts nothing that the file carries: the circuit of each segment is built from the verifier's own program and the
//! plan in the file; the first state from the digests of the calls and outcomes in the file, its roots, and the challenges that follow from
//! them and from the file's hash of advice; each segment starts from the state in which the one before it ends; and the last state must
//! hold those digests, the root afterwards, that hash, and the label of a halted program. What the caller expects is compared with the
//! statement that results.

use core::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use ff::PrimeField;
use zvm_ir::eval::keccak256;
use zvm_ir::{Env, Halt, Outcome, Word};

use crate::artifact::{FileError, Kind, ProofFile, SegmentProof};
use crate::checkpoint::{Checkpoint, CheckpointError, Folder, Keep, Subject};
use crate::error::CircuitError;
use crate::execute::{Call, Execution, Trace};
use crate::field::{from_u256, to_u256};
use crate::keys::KeyError;
use crate::nova::{self, Check, CompressedProof, CompressionKeys, Fr, Params, RecursiveProof};
use crate::plan::Plan;
use crate::program::Program;
use crate::replay::{Cut, Prepared};
use crate::schedule::{self, MAX_SEGMENTS, Schedule, Segment, Simulation};
use crate::statement::{Roots, StateError, Statement};
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
    /// Where checkpoints are kept, if they are.
    pub keep: Option<Keep<'a>>,
    /// Told where proving is; may end it, after a checkpoint of the steps done.
    pub progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

/// What proving took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProveFacts {
    /// Steps of the proof.
    pub steps: u64,
    /// Steps that were in the checkpoint which proving went on from.
    pub steps_resumed: u64,
    /// Segments, each with a step circuit of its own.
    pub segments: u64,
    /// Rows of a step of the segment with the largest steps, Nova's own apart.
    pub rows_per_step: u64,
    /// Rows of all steps, Nova's own apart.
    pub rows_total: u64,
    /// What the simulator said of them: rows of slots alone.
    pub rows_predicted: u64,
    /// Those of them in slots that run.
    pub rows_run: u64,
    /// How often the region that runs most often ran.
    pub iterations_hot: u64,
    /// How many slots of that region the steps have, of the segment where they are most.
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
    circuit: &StepCircuit<Fr>,
    program: &Program,
    plan: &Plan,
    cache: Option<&Path>,
) -> Result<Params<StepCircuit<Fr>>, CircuitError> {
    match cache {
        None => Params::setup(circuit),
        Some(directory) => {
            let mut made_of = program.circuit_digest(plan).to_be_bytes::<32>().to_vec();
            // Another build of the compiler may make other rows of the same program.
            for slots in plan.slots() {
                made_of.extend(program.rows()[slots.region].to_be_bytes());
            }
            let key = keccak256(&made_of).to_be_bytes::<32>();
            Params::cached(circuit, &key, directory).map(|(params, _)| params)
        }
    }
}

/// Proves that an execution has the outcomes that it has.
///
/// # Errors
/// `PlanLacks` when the schedule misses a region or ends too early, `Unsatisfied` when a step does not hold (a bug), `Interrupted` when
/// `options.progress` ends it, `Checkpoint` when there is one that is not of this proof, `WrongSystem` for a kind of proof that is not folded.
pub fn prove(
    program: &Arc<Program>,
    schedule: &Schedule,
    prepared: Prepared<Fr>,
    options: ProveOptions<'_>,
) -> Result<Proved, CircuitError> {
    let ProveOptions { kind, cache, check, keep, progress } = options;
    if kind == Kind::Groth16 {
        return Err(CircuitError::WrongSystem);
    }
    let execution = Arc::clone(&prepared.execution);
    let Execution { calls, outcomes, .. } = &*execution;
    let statement = Statement::new(program, calls, outcomes, prepared.roots, 0);
    let statement = statement.ok_or(CircuitError::Batch("there is no call"))?;
    let subject = Subject { program: statement.program, statement: subject(&statement) };
    let (folder, found) = match keep {
        None => (None, None),
        Some(keep) => {
            let (folder, found) = Folder::open(keep, &subject, kind).map_err(|error| error.within(keep.directory))?;
            (Some(folder), found)
        }
    };
    // A checkpoint brings its schedule with it: steps that are folded cannot be planned anew.
    let (schedule, mut done) = match found {
        // Nothing of its kind is made before a segment is finished, so that the kind may be another one than it was begun for.
        Some(checkpoint) => {
            let schedule = scheduled(program, &checkpoint).map_err(|error| in_folder(folder.as_ref(), error))?;
            (schedule, Checkpoint { kind, ..checkpoint })
        }
        None => (schedule.clone(), begun(&subject, kind, schedule)),
    };
    check_size(program, &schedule)?;
    let simulation = schedule::simulate(&schedule, &prepared.trace, program.rows())?;
    let statement = Statement { steps: schedule.steps(), ..statement };
    let prepared = prepared.cut(program, Cut::Schedule(&schedule), &schedule.digest(program), MAX_STEPS)?;
    let first = statement.initial_state(program, &prepared.derived);
    let facts = facts(&prepared.trace, &schedule, simulation);
    let mut proving = Proving {
        program,
        cache,
        check,
        folder,
        prepared: Arc::new(prepared),
        steps: schedule.steps(),
        progress,
        facts,
    };
    proving.facts.steps_resumed = schedule.segments[..done.finished as usize].iter().map(|segment| segment.steps).sum();
    proving.facts.steps_resumed += done.steps;
    let mut z = first;
    for (index, segment) in schedule.segments.iter().enumerate() {
        z = proving.segment(index, segment, z, &mut done)?;
    }
    let prepared = proving.prepared;
    statement.check_final_state(program, prepared.advice, &z)?;
    let facts = ProveFacts { peak_memory_bytes: usage::peak_memory_bytes().unwrap_or(0), ..proving.facts };
    let file = ProofFile {
        kind,
        calls: calls.clone(),
        outcomes: observable(outcomes),
        roots: [to_u256(&prepared.roots.pre), to_u256(&prepared.roots.post)],
        advice: to_u256(&prepared.advice),
        segments: done.segments,
    };
    Ok(Proved { file, statement, facts })
}

fn in_folder(folder: Option<&Folder>, error: CheckpointError) -> CircuitError {
    error.within(folder.map_or(Path::new(""), Folder::directory))
}

/// What a checkpoint is about besides the program: calls, outcomes and state.
fn subject(statement: &Statement) -> Word {
    let Statement { calls_digest, outcome_digest, roots: Roots { pre, post }, .. } = statement;
    let elements = [calls_digest, outcome_digest, pre, post];
    let bytes: Vec<u8> = elements.into_iter().flat_map(|element| to_u256(element).to_be_bytes::<32>()).collect();
    keccak256(&bytes)
}

fn begun(subject: &Subject, kind: Kind, schedule: &Schedule) -> Checkpoint {
    let segment =
        |segment: &Segment| SegmentProof { plan: segment.plan.to_numbers(), steps: segment.steps, proof: Vec::new() };
    let segments = schedule.segments.iter().map(segment).collect();
    Checkpoint { subject: subject.clone(), kind, segments, finished: 0, steps: 0, proof: Vec::new() }
}

/// The schedule of a checkpoint, which is read from a file.
fn scheduled(program: &Program, checkpoint: &Checkpoint) -> Result<Schedule, CheckpointError> {
    let inconsistent = CheckpointError::Inconsistent;
    let mut schedule = Schedule::default();
    for SegmentProof { plan, steps, .. } in &checkpoint.segments {
        let plan = Plan::from_numbers(program, plan).ok_or(inconsistent("its plan is of another program"))?;
        schedule.segments.push(Segment { plan: Arc::new(plan), steps: *steps });
    }
    let finished = usize::try_from(checkpoint.finished).ok().filter(|&finished| finished <= schedule.segments.len());
    let finished = finished.ok_or(inconsistent("more segments are finished than there are"))?;
    let current = schedule.segments.get(finished).map_or(0, |segment| segment.steps);
    if checkpoint.steps > current {
        return Err(inconsistent("more steps are folded than there are"));
    }
    Ok(schedule)
}

fn check_size(program: &Program, schedule: &Schedule) -> Result<(), CircuitError> {
    if schedule.segments.is_empty() {
        return Err(CircuitError::NoSteps);
    }
    if schedule.segments.len() > MAX_SEGMENTS {
        return Err(CircuitError::TooManySegments(schedule.segments.len()));
    }
    let largest = schedule.segments.iter().map(|segment| segment.plan.rows(program.rows())).max().unwrap_or(0);
    if largest > MAX_STEP_ROWS {
        return Err(CircuitError::StepSize(largest));
    }
    let steps = schedule.segments.iter().try_fold(0u64, |steps, segment| steps.checked_add(segment.steps));
    if steps.is_none_or(|steps| steps > MAX_STEPS) {
        return Err(CircuitError::TooManySteps(MAX_STEPS));
    }
    Ok(())
}

/// What stays the same from segment to segment.
struct Proving<'a> {
    program: &'a Arc<Program>,
    cache: Option<&'a Path>,
    check: Check,
    folder: Option<Folder>,
    prepared: Arc<Prepared<Fr>>,
    steps: u64,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    facts: ProveFacts,
}

impl Proving<'_> {
    fn report(&mut self, at: Progress) -> Result<(), CircuitError> {
        match (self.progress)(at) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(CircuitError::Interrupted),
        }
    }

    fn inconsistent(&self, what: &'static str) -> CircuitError {
        in_folder(self.folder.as_ref(), CheckpointError::Inconsistent(what))
    }

    /// Makes the proof of a segment from the state `z`, or what is missing of it; gives the state after it.
    fn segment(
        &mut self,
        index: usize,
        segment: &Segment,
        z: Vec<Fr>,
        done: &mut Checkpoint,
    ) -> Result<Vec<Fr>, CircuitError> {
        let step = StepCircuit::shape(self.program, &segment.plan);
        let count = usize::try_from(segment.steps).map_err(|_| CircuitError::TooManySteps(MAX_STEPS))?;
        self.report(Progress::Parameters)?;
        let params = params(&step, self.program, &segment.plan, self.cache)?;
        let sizes = params.facts();
        self.facts.rows_per_step = self.facts.rows_per_step.max(sizes.step_rows as u64);
        self.facts.rows_total += sizes.step_rows as u64 * segment.steps;
        self.facts.nova_rows_primary = sizes.overhead_rows() as u64;
        self.facts.nova_rows_secondary = sizes.secondary_rows as u64;
        if (index as u64) < done.finished {
            let proof = &done.segments[index].proof;
            return verify_segment(done.kind, &params, proof, count, &z)
                .map_err(|_| self.inconsistent("a finished segment does not verify"));
        }
        let resumed = match done.proof.as_slice() {
            [] => None,
            bytes => {
                let wrong = |_| self.inconsistent("the folded steps do not verify");
                let proof = RecursiveProof::from_bytes(&params, bytes).map_err(wrong)?;
                let steps = usize::try_from(done.steps).unwrap_or(usize::MAX);
                proof.verify(&params, steps, &z).map_err(wrong)?;
                Some(proof)
            }
        };
        let before = usage::cpu_seconds();
        let left = segment.steps - done.steps;
        let earlier: u64 = done.segments[..index].iter().map(|segment| segment.steps).sum();
        let prepared = Arc::clone(&self.prepared);
        let from = usize::try_from(earlier + done.steps).map_err(|_| CircuitError::TooManySteps(MAX_STEPS))?;
        let inputs = (from..from + left as usize).map(|number| Ok(step.with_input(&prepared, number)));
        let rows_per_step = sizes.step_rows as u64;
        let check = self.check;
        let proof = nova::prove(&params, resumed, inputs, &z, check, |proof: &RecursiveProof<_>| {
            done.steps = proof.steps() as u64;
            let flow = self.report(Progress::Folded { steps: earlier + done.steps, of: self.steps, rows_per_step });
            // What was folded is kept if the user ends proving here, and before the long work of compression.
            if let Some(folder) = &self.folder
                && (flow.is_err() || folder.is_due(done.steps) || done.steps == segment.steps)
            {
                done.proof = proof.to_bytes()?;
                folder.write(done).map_err(|error| error.within(folder.directory()))?;
            }
            flow.map(ControlFlow::Continue)
        })?;
        done.segments[index].proof = match done.kind {
            Kind::Recursive => proof.to_bytes()?,
            Kind::Compressed => {
                self.report(Progress::Compressing)?;
                let keys = CompressionKeys::setup(&params)?;
                CompressedProof::prove(&params, &keys, &proof)?.to_bytes()?
            }
            Kind::Groth16 => return Err(CircuitError::WrongSystem),
        };
        done.finished = index as u64 + 1;
        done.steps = 0;
        done.proof.clear();
        if let Some(folder) = &self.folder {
            folder.write(done).map_err(|error| error.within(folder.directory()))?;
        }
        self.facts.cpu_seconds += usage::cpu_seconds().zip(before).map_or(0.0, |(after, before)| after - before);
        Ok(proof.state().to_vec())
    }
}

/// What is known before anything is folded.
fn facts(trace: &Trace, schedule: &Schedule, simulation: Simulation) -> ProveFacts {
    let (iterations_hot, slots_hot) = hottest(trace, schedule);
    ProveFacts {
        steps: simulation.steps,
        steps_resumed: 0,
        segments: schedule.segments.len() as u64,
        rows_per_step: 0,
        rows_total: 0,
        rows_predicted: simulation.rows,
        rows_run: simulation.rows_run,
        iterations_hot,
        slots_hot,
        nova_rows_primary: 0,
        nova_rows_secondary: 0,
        cpu_seconds: 0.0,
        peak_memory_bytes: 0,
    }
}

/// How often the region that runs most often runs, and how many slots of it a step has.
pub(crate) fn hottest(trace: &Trace, schedule: &Schedule) -> (u64, u64) {
    let mut counts = std::collections::BTreeMap::new();
    for &(region, count) in trace.runs() {
        *counts.entry(region).or_insert(0u64) += count;
    }
    let Some((&region, &count)) = counts.iter().max_by_key(|(region, count)| (**count, core::cmp::Reverse(**region)))
    else {
        return (0, 0);
    };
    let slots = |segment: &Segment| segment.plan.iter().filter(|&slot| slot == region).count() as u64;
    (count, schedule.segments.iter().map(slots).max().unwrap_or(0))
}

/// What a verifier expects a proof to be about; `None` accepts anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The calls, in order.
    pub calls: Option<Vec<Call>>,
    /// The calldata of the only call.
    pub calldata: Option<Vec<u8>>,
    /// The environment of the only call.
    pub env: Option<Env>,
    /// How the last call halts.
    pub halt: Option<Halt>,
    /// What the last call returns or reverts with.
    pub data: Option<Vec<u8>>,
    /// The root of the state before.
    pub pre_root: Option<Word>,
    /// The root of the state after.
    pub post_root: Option<Word>,
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
    #[error("the number of steps that the proof claims, {0}, is zero or past the limit")]
    Steps(u64),
    /// The proof has no segments, or more than verifiers build circuits for.
    #[error("the proof has {0} segments; one to {MAX_SEGMENTS} are verified")]
    Segments(usize),
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
            Self::Proof(error) => matches!(error, CircuitError::UnreadableProof(_) | CircuitError::WrongSystem),
            _ => false,
        }
    }

    /// What is wrong with the verifier's keys, or with there being none: nothing is said of the proof then.
    pub fn keys(&self) -> Option<&KeyError> {
        match self {
            Self::Proof(CircuitError::Keys(error)) => Some(error),
            _ => None,
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
    let count = file.segments.len();
    if count == 0 || count > MAX_SEGMENTS {
        return Err(VerifyError::Segments(count));
    }
    let mut segments = Vec::with_capacity(count);
    let mut total = 0u64;
    for segment in &file.segments {
        let plan = Plan::from_numbers(program, &segment.plan).ok_or(VerifyError::Plan)?;
        let rows = plan.rows(program.rows());
        if rows > MAX_STEP_ROWS {
            return Err(VerifyError::PlanSize(rows));
        }
        total = total.checked_add(segment.steps).ok_or(VerifyError::Steps(segment.steps))?;
        let steps = usize::try_from(segment.steps).ok().filter(|&steps| steps > 0 && total <= MAX_STEPS);
        segments.push((Arc::new(plan), steps.ok_or(VerifyError::Steps(segment.steps))?));
    }
    let roots = claimed_roots(&file)?;
    let advice = element(&file.advice, "hash of advice")?;
    let statement = claimed(&file, program, roots, total)?;
    // Cheap answers first.
    check_expected(&file, expected)?;
    let plans = segments.iter().map(|(plan, steps)| Segment { plan: Arc::clone(plan), steps: *steps as u64 });
    let binding = Schedule { segments: plans.collect() }.digest(program);
    let mut z = statement.initial_state(program, &statement.derived(&binding, advice));
    for (segment, (plan, steps)) in file.segments.iter().zip(segments) {
        let step = StepCircuit::<Fr>::shape(program, &plan);
        let verified = params(&step, program, &step.plan, cache)
            .and_then(|params| verify_segment(file.kind, &params, &segment.proof, steps, &z));
        // What one segment ends in is what the next one has to start from.
        z = verified.map_err(VerifyError::Proof)?;
    }
    statement.check_final_state(program, advice, &z)?;
    Ok((statement, file))
}

/// What digests hold of outcomes: the state is in the roots.
pub(crate) fn observable(outcomes: &[Outcome]) -> Vec<Outcome> {
    let of = |outcome: &Outcome| Outcome {
        logs: outcome.logs.clone(),
        ..Outcome::halted(outcome.halt, outcome.data.clone())
    };
    outcomes.iter().map(of).collect()
}

/// The statement that a file claims.
pub(crate) fn claimed<F: PrimeField>(
    file: &ProofFile,
    program: &Program,
    roots: Roots<F>,
    steps: u64,
) -> Result<Statement<F>, FileError> {
    if file.outcomes.iter().any(|outcome| outcome.halt != Halt::Return && !outcome.logs.is_empty()) {
        // No digest holds the logs of a call that did not return.
        return Err(FileError::Malformed("log"));
    }
    let statement = Statement::new(program, &file.calls, &file.outcomes, roots, steps);
    statement.ok_or(FileError::Malformed("number of calls"))
}

/// The roots in a file.
pub(crate) fn claimed_roots<F: PrimeField>(file: &ProofFile) -> Result<Roots<F>, FileError> {
    let [pre, post] = file.roots;
    Ok(Roots { pre: element(&pre, "state root")?, post: element(&post, "state root")? })
}

/// A field element in the one form that a file may have it in.
fn element<F: PrimeField>(word: &Word, what: &'static str) -> Result<F, FileError> {
    let element: F = from_u256(word);
    if to_u256(&element) == *word { Ok(element) } else { Err(FileError::Malformed(what)) }
}

/// The state after the `steps` steps of a segment from the state `first`, if its proof says so.
fn verify_segment(
    kind: Kind,
    params: &Params<StepCircuit<Fr>>,
    proof: &[u8],
    steps: usize,
    first: &[Fr],
) -> Result<Vec<Fr>, CircuitError> {
    match kind {
        Kind::Recursive => RecursiveProof::from_bytes(params, proof)?.verify(params, steps, first),
        Kind::Compressed => {
            let keys = CompressionKeys::setup(params)?;
            CompressedProof::from_bytes(&keys, proof)?.verify(&keys, steps, first)
        }
        Kind::Groth16 => Err(CircuitError::WrongSystem),
    }
}

pub(crate) fn check_expected(file: &ProofFile, expected: &Expected) -> Result<(), VerifyError> {
    let Expected { calls, calldata, env, halt, data, pre_root, post_root, steps } = expected;
    let only = match file.calls.as_slice() {
        [call] => Some(call),
        _ => None,
    };
    let last = file.outcomes.last();
    let differs = [
        (calls.as_ref().is_some_and(|calls| *calls != file.calls), "calls"),
        (calldata.as_ref().is_some_and(|calldata| only.is_none_or(|call| *calldata != call.calldata)), "calldata"),
        (env.as_ref().is_some_and(|env| only.is_none_or(|call| *env != call.env)), "an environment"),
        (halt.is_some_and(|halt| last.is_none_or(|outcome| halt != outcome.halt)), "a kind of halt"),
        (data.as_ref().is_some_and(|data| last.is_none_or(|outcome| *data != outcome.data)), "an outcome"),
        (pre_root.is_some_and(|root| root != file.roots[0]), "a state before"),
        (post_root.is_some_and(|root| root != file.roots[1]), "a state after"),
        (steps.is_some_and(|steps| steps != file.steps()), "a number of steps"),
    ];
    match differs.into_iter().find(|(differs, _)| *differs) {
        Some((_, what)) => Err(VerifyError::Unexpected(what)),
        None => Ok(()),
    }
}
