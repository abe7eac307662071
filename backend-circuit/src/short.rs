//! Proving a whole execution in one short proof, and verifying it: Groth16 over BLS12-381, for contracts on L1.
//!
//! Keys belong to a circuit, a circuit to a program and a plan. The plan is fixed when keys are made, from sample calls or from a
//! bound, and proves every execution that it has room for. Verification trusts nothing that the proof file carries: the keys are
//! looked up by the digest of the circuit that the verifier's own program makes with the plan in the file, and the public input is
//! the hash of the statement about the calldata, environment and outcome in the file.

use std::path::Path;
use std::sync::Arc;

use zvm_ir::Word;

use crate::artifact::{FileError, KeyHeader, Kind, Origin, ProofFile, SegmentProof};
use crate::cs::System;
use crate::error::CircuitError;
use crate::execute::{Execution, Trace};
use crate::export;
use crate::field::to_u256;
use crate::groth16::{self, Groth16Error, OneShot, Proof, ProvingKey, Scalar};
use crate::keys::{self, KeyError, Keys, Source};
use crate::plan::Plan;
use crate::program::Program;
use crate::prover::{
    Expected, MAX_STEP_ROWS, ProveFacts, VerifyError, check_expected, claimed, claimed_roots, hottest, observable,
};
use crate::public_input;
use crate::replay::Prepared;
use crate::schedule::{self, Schedule, Segment};
use crate::statement::Statement;
use crate::usage;
use crate::whole::{Whole, Witness};

/// The most cells of the table from which a common plan of two executions is read.
const MAX_TABLE: usize = 1 << 24;

/// A plan in which each of these executions fits one step, as short as is easy to find.
///
/// # Errors
/// `NoSteps` without executions.
pub fn plan_for<'a>(program: &Program, traces: impl IntoIterator<Item = &'a Trace>) -> Result<Plan, CircuitError> {
    let mut plan: Option<Plan> = None;
    for trace in traces {
        plan = Some(match plan {
            None => Plan::new(trace.iter()),
            Some(plan) => extended(program, &plan, trace),
        });
    }
    plan.ok_or(CircuitError::NoSteps)
}

/// The plan with room for `trace`: of both sequences of slots the common supersequence with the fewest rows, where the table to find it is
/// not too large; else what of the trace does not fit comes last.
fn extended(program: &Program, plan: &Plan, trace: &Trace) -> Plan {
    let rows = program.rows();
    let (old, new): (Vec<_>, Vec<_>) = (plan.iter().collect(), trace.iter().collect());
    let width = new.len() + 1;
    if (old.len() + 1).saturating_mul(width) > MAX_TABLE {
        let mut at = 0;
        for &slot in &old {
            at += usize::from(new.get(at) == Some(&slot));
        }
        return Plan::new(old.iter().chain(&new[at..]).copied());
    }
    // The rows shared by the ends of both sequences.
    let mut shared = vec![0u64; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            let skip = shared[(i + 1) * width + j].max(shared[i * width + j + 1]);
            shared[i * width + j] =
                if old[i] == new[j] { skip.max(shared[(i + 1) * width + j + 1] + rows[old[i]] + 1) } else { skip };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut merged = Vec::new();
    while i < old.len() && j < new.len() {
        let here = shared[i * width + j];
        if old[i] == new[j] && here == shared[(i + 1) * width + j + 1] + rows[old[i]] + 1 {
            merged.push(old[i]);
            (i, j) = (i + 1, j + 1);
        } else if here == shared[(i + 1) * width + j] {
            merged.push(old[i]);
            i += 1;
        } else {
            merged.push(new[j]);
            j += 1;
        }
    }
    Plan::new(merged.iter().chain(&old[i..]).chain(&new[j..]).copied())
}

/// Where the parameters of new keys come from.
#[derive(Clone, Debug)]
pub enum Setup<'a> {
    /// This machine. For development only: whoever learns the randomness can prove anything.
    InsecureLocal,
    /// A ceremony. The parameters are tried on an execution that the plan has room for.
    Ceremony {
        /// Its result, in the encoding of bellman.
        parameters: &'a [u8],
        /// The execution.
        prepared: Box<Prepared<Scalar>>,
    },
}

/// Makes the keys of a program and a plan, and writes them to `path`, or where [`keys::path_in`] says in a folder. Keys that are
/// there already are left as they are, unless those of a ceremony take the place of others.
///
/// # Errors
/// `StepSize` for more rows than are proved; `Groth16` for parameters that are not of this circuit.
pub fn setup(program: &Arc<Program>, plan: &Arc<Plan>, setup: Setup<'_>, to: Source<'_>) -> Result<Keys, CircuitError> {
    let rows = plan.rows(program.rows());
    if rows > MAX_STEP_ROWS {
        return Err(CircuitError::StepSize(rows));
    }
    let shape = Whole::<Scalar>::shape(program, plan);
    let (commitment, digest) = (program.commitment(), shape.digest());
    let path = match to {
        Source::File(path) => path.to_path_buf(),
        Source::Folder(folder) => keys::path_in(folder, &commitment, &digest),
    };
    let _lock = keys::lock(&path)?;
    let (origin, key) = match setup {
        Setup::InsecureLocal => {
            if let Ok(keys) = Keys::read(&path)
                && keys.header.circuit == digest
            {
                return Ok(keys);
            }
            (Origin::InsecureLocal, ProvingKey::insecure(&shape)?)
        }
        Setup::Ceremony { parameters, prepared } => {
            let key = ProvingKey::import(&shape, parameters)?;
            prove_verified(&key, &Whole::of(program, plan, *prepared)?)?;
            (Origin::Ceremony, key)
        }
    };
    let header = KeyHeader {
        origin,
        program: commitment,
        circuit: digest,
        rows: shape.rows()?,
        plan: plan.to_numbers(),
        verifying: key.verifying()?.to_bytes(),
    };
    Ok(Keys::write(&path, header, &key)?)
}

/// The circuit of a program and a plan as a `.r1cs` file over BLS12-381's scalar field, whose only output is the public input: what a
/// ceremony is held about.
///
/// # Errors
/// Whatever synthesis gives.
pub fn r1cs(program: &Arc<Program>, plan: &Arc<Plan>) -> Result<Vec<u8>, CircuitError> {
    use bellpepper_core::{ConstraintSystem, SynthesisError};
    let mut system = System::<Scalar>::default();
    let input = Whole::shape(program, plan).synthesize(&mut system)?;
    let output = system.alloc_input(|| "input", || Err(SynthesisError::AssignmentMissing))?;
    system.enforce(|| "input", |_| input.to_bellpepper(), |lc| lc + System::<Scalar>::one(), |lc| lc + output);
    Ok(export::r1cs(&system, 1))
}

/// The plan that keys are for, if they are of the circuit that it makes.
fn plan_of(program: &Arc<Program>, keys: &Keys) -> Result<Arc<Plan>, KeyError> {
    let other = || KeyError::OtherCircuit { path: keys.path.clone() };
    let plan = Arc::new(Plan::from_numbers(program, &keys.header.plan).ok_or_else(other)?);
    if Whole::<Scalar>::shape(program, &plan).digest() != keys.header.circuit {
        return Err(other());
    }
    Ok(plan)
}

/// The only keys of a program.
///
/// # Errors
/// `None`, `Several`; as [`keys::of_program`].
pub fn only_keys(program: &Arc<Program>, source: Source<'_>) -> Result<Keys, KeyError> {
    let mut all = keys::of_program(source, program)?;
    if all.len() != 1 {
        return Err(KeyError::Several(all.len()));
    }
    let keys = all.remove(0);
    plan_of(program, &keys)?;
    Ok(keys)
}

/// A proof, what it says and what it took.
#[derive(Clone, Debug)]
pub struct Proved {
    /// The proof with what verification needs.
    pub file: ProofFile,
    /// What it says.
    pub statement: Statement<Scalar>,
    /// What it took: one step, of all rows.
    pub facts: ProveFacts,
    /// Who made the keys.
    pub origin: Origin,
}

/// Proves that an execution has the outcomes that it has, with the smallest keys that have room for it.
///
/// # Errors
/// `Keys` when there are none; `Unsatisfied` when a row does not hold (a bug).
pub fn prove(program: &Arc<Program>, prepared: Prepared<Scalar>, source: Source<'_>) -> Result<Proved, CircuitError> {
    let known = keys::of_program(source, program)?;
    for keys in &known {
        if plan_of(program, keys)?.steps(&prepared.trace, 1).is_ok() {
            return prove_with(program, prepared, keys, &keys.proving()?);
        }
    }
    Err(KeyError::NoRoom.into())
}

/// Proves with these keys. What they take to be read is not counted.
///
/// # Errors
/// As [`prove`].
pub fn prove_with(
    program: &Arc<Program>,
    prepared: Prepared<Scalar>,
    keys: &Keys,
    key: &ProvingKey,
) -> Result<Proved, CircuitError> {
    let before = usage::cpu_seconds();
    let plan = plan_of(program, keys)?;
    if plan.steps(&prepared.trace, 1).is_err() {
        return Err(KeyError::NoRoom.into());
    }
    let circuit = Whole::of(program, &plan, prepared)?;
    let Witness { prepared, statement } = circuit.witness.as_ref().ok_or(CircuitError::NoSteps)?;
    let proof = prove_verified(key, &circuit)?;
    let schedule = Schedule { segments: vec![Segment { plan: Arc::clone(&plan), steps: 1 }] };
    let simulation = schedule::simulate(&schedule, &prepared.trace, program.rows())?;
    let (iterations_hot, slots_hot) = hottest(&prepared.trace, &schedule);
    let facts = ProveFacts {
        steps: 1,
        steps_resumed: 0,
        segments: 1,
        rows_per_step: keys.header.rows,
        rows_total: keys.header.rows,
        rows_predicted: simulation.rows,
        rows_run: simulation.rows_run,
        iterations_hot,
        slots_hot,
        nova_rows_primary: 0,
        nova_rows_secondary: 0,
        cpu_seconds: usage::cpu_seconds().zip(before).map_or(0.0, |(after, before)| after - before),
        peak_memory_bytes: usage::peak_memory_bytes().unwrap_or(0),
    };
    let Execution { calls, outcomes, .. } = &*prepared.execution;
    let file = ProofFile {
        kind: Kind::Groth16,
        calls: calls.clone(),
        outcomes: observable(outcomes),
        roots: [to_u256(&prepared.roots.pre), to_u256(&prepared.roots.post)],
        // The circuit derives the challenges itself.
        advice: Word::ZERO,
        segments: vec![SegmentProof { plan: plan.to_numbers(), steps: 1, proof: proof.to_bytes().to_vec() }],
    };
    Ok(Proved { file, statement: statement.clone(), facts, origin: keys.header.origin })
}

/// Proves, and verifies what was proved: keys of another circuit make proofs as well, and a library does not check rows. A row
/// that does not hold is named.
fn prove_verified(key: &ProvingKey, circuit: &Whole<Scalar>) -> Result<Proof, CircuitError> {
    let witness = circuit.witness.as_ref().ok_or(CircuitError::NoSteps)?;
    let proof = key.prove(circuit)?;
    match key.verifying()?.verify(&proof, public_input::of(&witness.statement.elements())) {
        Ok(()) => Ok(proof),
        Err(error) => {
            circuit.check()?;
            Err(match error {
                Groth16Error::Rejected => Groth16Error::Useless.into(),
                error => error.into(),
            })
        }
    }
}

/// A proof that was verified.
#[derive(Clone, Debug)]
pub struct Verified {
    /// What it says.
    pub statement: Statement<Scalar>,
    /// The file's content.
    pub file: ProofFile,
    /// Who made the keys.
    pub origin: Origin,
}

/// Verifies a proof file against `program`, with the keys of the circuit that it names.
///
/// # Errors
/// See [`VerifyError`]; `Proof(Keys(NoneOf))` without the keys.
pub fn verify(
    bytes: &[u8],
    program: &Arc<Program>,
    expected: &Expected,
    source: Source<'_>,
) -> Result<Verified, VerifyError> {
    let file = ProofFile::decode(bytes)?;
    if file.kind != Kind::Groth16 {
        return Err(VerifyError::Proof(CircuitError::WrongSystem));
    }
    let [segment] = file.segments.as_slice() else { return Err(VerifyError::Segments(file.segments.len())) };
    if segment.steps != 1 {
        return Err(VerifyError::Steps(segment.steps));
    }
    let plan = Arc::new(Plan::from_numbers(program, &segment.plan).ok_or(VerifyError::Plan)?);
    if file.advice != Word::ZERO {
        return Err(FileError::Malformed("hash of advice").into());
    }
    check_expected(&file, expected)?;
    let statement = claimed(&file, program, claimed_roots(&file)?, 1)?;
    let origin = verify_input(&segment.proof, program, &plan, &statement, source).map_err(VerifyError::Proof)?;
    Ok(Verified { statement, file, origin })
}

fn verify_input(
    proof: &[u8],
    program: &Arc<Program>,
    plan: &Arc<Plan>,
    statement: &Statement<Scalar>,
    source: Source<'_>,
) -> Result<Origin, CircuitError> {
    // Whether the bytes are a proof at all can be said without keys.
    let proof = Proof::from_bytes(proof)?;
    let circuit = Whole::<Scalar>::shape(program, plan).digest();
    let known = match keys::of_program(source, program) {
        Err(KeyError::None) => return Err(KeyError::NoneOf(circuit).into()),
        known => known?,
    };
    let keys = known.iter().find(|keys| keys.header.circuit == circuit).ok_or(KeyError::NoneOf(circuit))?;
    keys.verifying.verify(&proof, public_input::of(&statement.elements()))?;
    Ok(keys.header.origin)
}

/// Checks every row of the circuit of an execution over any field, from the first state to the last; gives the rows and the public
/// input. This is what a proof says, with satisfiability in the place of cryptography.
///
/// # Errors
/// `Unsatisfied` with the first row that does not hold, which is a bug.
pub fn check<F: ff::PrimeField>(program: &Arc<Program>, prepared: Prepared<F>) -> Result<(u64, F), CircuitError> {
    let plan = Arc::new(Plan::new(prepared.trace.iter()));
    let circuit = Whole::<F>::of(program, &plan, prepared)?;
    let input = circuit.check()?;
    if circuit.witness.as_ref().is_none_or(|witness| input != public_input::of(&witness.statement.elements())) {
        return Err(CircuitError::Disagreement("the public input"));
    }
    Ok((circuit.rows()?, input))
}

/// The sizes of the circuit of a program and a plan as the proof system sees it.
///
/// # Errors
/// Whatever synthesis gives.
pub fn shape(program: &Arc<Program>, plan: &Arc<Plan>) -> Result<groth16::Shape, CircuitError> {
    groth16::shape(&Whole::shape(program, plan))
}

/// The folder of keys or the file, as an option of a command says it.
pub fn source<'a>(file: Option<&'a Path>, folder: &'a Path) -> Source<'a> {
    file.map_or(Source::Folder(folder), Source::File)
}
