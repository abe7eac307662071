//! The adapter to nova-snark: the only file that sees it.
//!
//! A [`Step`] written against `bellpepper-core` is synthesised in nova-snark's own front end through [`Bridge`], which maps
//! variables one to one and adds no rows. Curves are BN254 and Grumpkin; compression is Spartan with inner-product
//! arguments, so nothing is trusted and nothing is downloaded.
//!
//! Proofs are read from untrusted bytes: their size is bounded by the parameters before anything is allocated, points off
//! the curve and scalars out of range are refused while decoding, vector lengths while verifying, and an encoding that is not
//! the canonical one is refused, so that a proof has one form. Should the library panic on a proof nevertheless, the panic is
//! caught and counts as a refusal. Cached parameters, in contrast, are trusted like any file of the user: they are checked
//! against accidents (truncation, another circuit, another version), not against forgery.

use core::fmt;
use core::iter;
use core::ops::ControlFlow;
use std::fs::{self, File};
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use bellpepper_core as bp;
use ff::{Field, PrimeField};
use nova_snark::errors::NovaError;
use nova_snark::frontend as nf;
use nova_snark::nova::{CompressedSNARK, ProverKey, PublicParams, RecursiveSNARK, VerifierKey};
use nova_snark::provider::ipa_pc::EvaluationEngine;
use nova_snark::provider::{Bn256EngineIPA, GrumpkinEngine};
use nova_snark::spartan::snark::RelaxedR1CSSNARK;
use nova_snark::traits::Engine;
use nova_snark::traits::circuit::StepCircuit;
use nova_snark::traits::snark::RelaxedR1CSSNARKTrait;

use crate::error::CircuitError;
use crate::gadgets::Lc;
use crate::witness::{self, Recorded, Witness};

type E1 = Bn256EngineIPA;
type E2 = GrumpkinEngine;
type S1 = RelaxedR1CSSNARK<E1, EvaluationEngine<E1>>;
type S2 = RelaxedR1CSSNARK<E2, EvaluationEngine<E2>>;

/// The scalar field of BN254, over which step circuits are proved.
pub type Fr = <E1 as Engine>::Scalar;

/// What is in a parameter file besides the circuit's key: bump it when the encoding of this crate or the library changes.
const PARAMS_MAGIC: &[u8; 16] = b"zvm-pp1 nova0.76";

/// The bytes of a compressed proof beyond its state: a few hundred points and scalars.
const COMPRESSED_LIMIT: usize = 1 << 20;

/// One step of an incrementally verifiable computation over `F`.
///
/// Synthesis must not depend on values: the same rows and variables in the same order for every witness and for none.
pub trait Step<F: PrimeField>: Clone + Send + Sync {
    /// The number of field elements of the state.
    fn arity(&self) -> usize;

    /// Constrains the state after the step, given the state before it.
    ///
    /// # Errors
    /// Whatever keeps the circuit from being synthesised; a missing witness value when the constraint system asks for it.
    fn synthesize<CS: bp::ConstraintSystem<F>>(&self, cs: &mut CS, z: &[Lc<F>]) -> Result<Vec<Lc<F>>, CircuitError>;
}

/// A reason given by nova-snark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(NovaError);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            NovaError::ProofVerifyError { reason } | NovaError::UnSat { reason } => f.write_str(reason),
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for Reason {}

fn proving(error: NovaError) -> CircuitError {
    CircuitError::Proving(Reason(error))
}

fn rejected(error: NovaError) -> CircuitError {
    CircuitError::Rejected(Reason(error))
}

// The bridge between the two front ends.

/// nova-snark's constraint system, seen as one of `bellpepper-core`. Names are dropped: neither shape nor witness keeps them.
struct Bridge<'a, CS>(&'a mut CS);

fn to_nova(variable: bp::Variable) -> nf::Variable {
    nf::Variable::new_unchecked(match variable.0 {
        bp::Index::Input(i) => nf::Index::Input(i),
        bp::Index::Aux(i) => nf::Index::Aux(i),
    })
}

fn from_nova(variable: nf::Variable) -> bp::Variable {
    bp::Variable::new_unchecked(match variable.0 {
        nf::Index::Input(i) => bp::Index::Input(i),
        nf::Index::Aux(i) => bp::Index::Aux(i),
    })
}

fn combination<F: PrimeField>(
    lc: nf::LinearCombination<F>,
    make: impl FnOnce(bp::LinearCombination<F>) -> bp::LinearCombination<F>,
) -> nf::LinearCombination<F> {
    make(bp::LinearCombination::zero()).iter().fold(lc, |lc, (variable, coeff)| lc + (*coeff, to_nova(variable)))
}

fn nova_error(error: &bp::SynthesisError) -> nf::SynthesisError {
    match error {
        bp::SynthesisError::AssignmentMissing => nf::SynthesisError::AssignmentMissing,
        _ => nf::SynthesisError::Unsatisfiable("step circuit".into()),
    }
}

impl<F: PrimeField, CS: nf::ConstraintSystem<F>> bp::ConstraintSystem<F> for Bridge<'_, CS> {
    type Root = Self;

    fn alloc<V, A, AR>(&mut self, name: A, value: V) -> Result<bp::Variable, bp::SynthesisError>
    where
        V: FnOnce() -> Result<F, bp::SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        let variable = self.0.alloc(name, || value().map_err(|error| nova_error(&error)));
        variable.map(from_nova).map_err(|_| bp::SynthesisError::AssignmentMissing)
    }

    fn alloc_input<V, A, AR>(&mut self, _: A, _: V) -> Result<bp::Variable, bp::SynthesisError>
    where
        V: FnOnce() -> Result<F, bp::SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        // The inputs of Nova's circuit are Nova's own; a step has none.
        Err(bp::SynthesisError::Unsatisfiable)
    }

    fn enforce<A, AR, LA, LB, LC>(&mut self, name: A, a: LA, b: LB, c: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(bp::LinearCombination<F>) -> bp::LinearCombination<F>,
        LB: FnOnce(bp::LinearCombination<F>) -> bp::LinearCombination<F>,
        LC: FnOnce(bp::LinearCombination<F>) -> bp::LinearCombination<F>,
    {
        self.0.enforce(name, |lc| combination(lc, a), |lc| combination(lc, b), |lc| combination(lc, c));
    }

    fn push_namespace<NR, N>(&mut self, _: N)
    where
        NR: Into<String>,
        N: FnOnce() -> NR,
    {
    }

    fn pop_namespace(&mut self) {}

    fn get_root(&mut self) -> &mut Self {
        self
    }
}

/// An allocated number of nova-snark for a variable that exists already (see [`crate::gadgets::existing_num`]).
fn existing_nova_num<F: PrimeField>(
    variable: nf::Variable,
    value: Option<F>,
) -> Result<nf::num::AllocatedNum<F>, nf::SynthesisError> {
    struct Existing<F>(nf::Variable, Option<F>);

    impl<F: PrimeField> nf::ConstraintSystem<F> for Existing<F> {
        type Root = Self;

        fn alloc<V, A, AR>(&mut self, _: A, value: V) -> Result<nf::Variable, nf::SynthesisError>
        where
            V: FnOnce() -> Result<F, nf::SynthesisError>,
            A: FnOnce() -> AR,
            AR: Into<String>,
        {
            if self.1.is_some() {
                value()?;
            }
            Ok(self.0)
        }

        fn alloc_input<V, A, AR>(&mut self, name: A, value: V) -> Result<nf::Variable, nf::SynthesisError>
        where
            V: FnOnce() -> Result<F, nf::SynthesisError>,
            A: FnOnce() -> AR,
            AR: Into<String>,
        {
            self.alloc(name, value)
        }

        fn enforce<A, AR, LA, LB, LC>(&mut self, _: A, _: LA, _: LB, _: LC)
        where
            A: FnOnce() -> AR,
            AR: Into<String>,
            LA: FnOnce(nf::LinearCombination<F>) -> nf::LinearCombination<F>,
            LB: FnOnce(nf::LinearCombination<F>) -> nf::LinearCombination<F>,
            LC: FnOnce(nf::LinearCombination<F>) -> nf::LinearCombination<F>,
        {
        }

        fn push_namespace<NR, N>(&mut self, _: N)
        where
            NR: Into<String>,
            N: FnOnce() -> NR,
        {
        }

        fn pop_namespace(&mut self) {}

        fn get_root(&mut self) -> &mut Self {
            self
        }
    }

    nf::num::AllocatedNum::alloc(Existing(variable, value), || value.ok_or(nf::SynthesisError::AssignmentMissing))
}

/// A [`Step`] as nova-snark wants it. With a witness, nothing is synthesised while proving.
#[derive(Clone, Debug)]
struct Adapter<S> {
    step: S,
    witness: Option<Arc<Witness<Fr>>>,
}

impl<S: Step<Fr>> StepCircuit<Fr> for Adapter<S> {
    fn arity(&self) -> usize {
        self.step.arity()
    }

    fn synthesize<CS: nf::ConstraintSystem<Fr>>(
        &self,
        cs: &mut CS,
        z: &[nf::num::AllocatedNum<Fr>],
    ) -> Result<Vec<nf::num::AllocatedNum<Fr>>, nf::SynthesisError> {
        match &self.witness {
            Some(witness) if cs.is_witness_generator() => assign(cs, z, witness),
            _ => self.rows(cs, z),
        }
    }
}

/// Writes a step's variables as they are. A witness generator keeps no rows, so which variables the outputs are does not matter
/// beyond their values.
fn assign<CS: nf::ConstraintSystem<Fr>>(
    cs: &mut CS,
    z: &[nf::num::AllocatedNum<Fr>],
    witness: &Witness<Fr>,
) -> Result<Vec<nf::num::AllocatedNum<Fr>>, nf::SynthesisError> {
    if !z.iter().map(nf::num::AllocatedNum::get_value).eq(witness.before().iter().map(|&value| Some(value))) {
        return Err(nf::SynthesisError::Unsatisfiable("the witness is of another state".into()));
    }
    let first = cs.aux_slice().len();
    cs.extend_aux(witness.private());
    let num = |&value| existing_nova_num(nf::Variable::new_unchecked(nf::Index::Aux(first)), Some(value));
    witness.after().iter().map(num).collect()
}

impl<S: Step<Fr>> Adapter<S> {
    fn rows<CS: nf::ConstraintSystem<Fr>>(
        &self,
        cs: &mut CS,
        z: &[nf::num::AllocatedNum<Fr>],
    ) -> Result<Vec<nf::num::AllocatedNum<Fr>>, nf::SynthesisError> {
        let z: Vec<Lc<Fr>> = z.iter().map(|num| Lc::variable(from_nova(num.get_variable()), num.get_value())).collect();
        let mut bridge = Bridge(cs);
        let outputs = match self.step.synthesize(&mut bridge, &z) {
            Ok(outputs) => outputs,
            Err(CircuitError::Synthesis(error)) => return Err(nova_error(&error)),
            Err(error) => return Err(nf::SynthesisError::Unsatisfiable(error.to_string())),
        };
        let mut nums = Vec::with_capacity(outputs.len());
        for output in &outputs {
            let num = output.to_num(&mut bridge).map_err(|error| nova_error(&error))?;
            nums.push(existing_nova_num(to_nova(num.get_variable()), num.get_value())?);
        }
        Ok(nums)
    }
}

// Public parameters.

/// The sizes of the circuits that are folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Rows of the step circuit alone.
    pub step_rows: usize,
    /// Rows of the circuit on BN254: the step and Nova's verifier.
    pub primary_rows: usize,
    /// Variables of the same.
    pub primary_variables: usize,
    /// Rows of the circuit on Grumpkin: Nova's verifier alone.
    pub secondary_rows: usize,
    /// Variables of the same.
    pub secondary_variables: usize,
}

impl Facts {
    /// Rows on BN254 that are Nova's own.
    pub fn overhead_rows(&self) -> usize {
        self.primary_rows.saturating_sub(self.step_rows)
    }
}

/// Where parameters came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Read from the cache.
    Cached,
    /// Made, because the cache had none or none that is valid.
    Made,
}

/// The public parameters of one step circuit.
pub struct Params<S: Step<Fr>> {
    inner: PublicParams<E1, E2, Adapter<S>>,
    facts: Facts,
    arity: usize,
    /// The rows as data, once a prover has asked for them.
    recorded: OnceLock<Recorded<Fr>>,
}

impl<S: Step<Fr>> fmt::Debug for Params<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Params").field("facts", &self.facts).field("arity", &self.arity).finish_non_exhaustive()
    }
}

impl<S: Step<Fr>> Params<S> {
    /// Makes the parameters. `step` needs no witness.
    ///
    /// # Errors
    /// `Proving` if the circuit cannot be set up; whatever synthesis gives.
    pub fn setup(step: &S) -> Result<Self, CircuitError> {
        let floor = (&*S1::ck_floor(), &*S2::ck_floor());
        let inner =
            PublicParams::setup(&Adapter { step: step.clone(), witness: None }, floor.0, floor.1).map_err(proving)?;
        Self::with_facts(inner, step)
    }

    fn with_facts(inner: PublicParams<E1, E2, Adapter<S>>, step: &S) -> Result<Self, CircuitError> {
        let (primary_rows, secondary_rows) = inner.num_constraints();
        let (primary_variables, secondary_variables) = inner.num_variables();
        let step_rows = witness::rows(step)?;
        let facts = Facts { step_rows, primary_rows, primary_variables, secondary_rows, secondary_variables };
        Ok(Self { inner, facts, arity: step.arity(), recorded: OnceLock::new() })
    }

    /// Reads the parameters from `directory`, or makes them and writes them there.
    ///
    /// `key` identifies the circuit: two circuits with the same key are taken for the same. A lock file keeps a second
    /// process from doing the same work; the parameters appear under their name only when they are complete.
    ///
    /// # Errors
    /// `Cache` if the directory cannot be written; as [`Params::setup`]. A file that is not valid is no error: it is replaced.
    pub fn cached(step: &S, key: &[u8; 32], directory: &Path) -> Result<(Self, Origin), CircuitError> {
        let path = cache_path(key, directory);
        if let Some(params) = Self::read(step, key, &path)? {
            return Ok((params, Origin::Cached));
        }
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            move |source| CircuitError::Cache { path, source }
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let lock_path = path.with_extension("lock");
        let lock = File::create(&lock_path).map_err(failed(&lock_path))?;
        // Released when the file is closed, by a crash as well.
        lock.lock().map_err(failed(&lock_path))?;
        if let Some(params) = Self::read(step, key, &path)? {
            return Ok((params, Origin::Cached));
        }
        let params = Self::setup(step)?;
        let partial = path.with_extension("partial");
        params.write(key, &partial).map_err(failed(&partial))?;
        fs::rename(&partial, &path).map_err(failed(&path))?;
        Ok((params, Origin::Made))
    }

    /// Whether [`Params::cached`] would find valid parameters.
    ///
    /// # Errors
    /// Whatever synthesis gives.
    pub fn is_cached(step: &S, key: &[u8; 32], directory: &Path) -> Result<bool, CircuitError> {
        Ok(Self::read(step, key, &cache_path(key, directory))?.is_some())
    }

    fn write(&self, key: &[u8; 32], path: &Path) -> io::Result<()> {
        let mut file = io::BufWriter::new(File::create(path)?);
        file.write_all(PARAMS_MAGIC)?;
        file.write_all(key)?;
        file.write_all(self.inner.digest().to_repr().as_ref())?;
        bincode::serde::encode_into_std_write(&self.inner, &mut file, ENCODING).map_err(io::Error::other)?;
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }

    /// `None` if there is no such file or it is not these parameters.
    fn read(step: &S, key: &[u8; 32], path: &Path) -> Result<Option<Self>, CircuitError> {
        let Ok(bytes) = fs::read(path) else {
            return Ok(None);
        };
        let Some((digest, payload)) = bytes
            .strip_prefix(PARAMS_MAGIC)
            .and_then(|rest| rest.strip_prefix(key))
            .and_then(|rest| rest.split_at_checked(32))
        else {
            return Ok(None);
        };
        let decoded: Option<PublicParams<E1, E2, Adapter<S>>> = decode_all(payload).ok();
        // The library's digest covers everything that was decoded.
        let Some(inner) = decoded.filter(|inner| inner.digest().to_repr().as_ref() == digest) else {
            return Ok(None);
        };
        Self::with_facts(inner, step).map(Some)
    }

    /// The rows of the step as data, recorded by whoever asks first.
    ///
    /// # Errors
    /// Whatever synthesis gives.
    pub fn recorded(&self, step: &S) -> Result<&Recorded<Fr>, CircuitError> {
        if let Some(recorded) = self.recorded.get() {
            return Ok(recorded);
        }
        let made = Recorded::new(step)?;
        Ok(self.recorded.get_or_init(|| made))
    }

    /// The circuits' sizes.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// The library's digest of the parameters: of the folded circuits and the commitment keys. A proof binds it.
    pub fn digest(&self) -> Fr {
        self.inner.digest()
    }

    /// The most bytes a recursive proof may have.
    fn recursive_limit(&self) -> usize {
        let facts = &self.facts;
        let scalars = facts.primary_rows
            + facts.primary_variables
            + facts.secondary_rows
            + 2 * facts.secondary_variables
            + 2 * self.arity;
        32 * scalars + (1 << 12)
    }
}

fn cache_path(key: &[u8; 32], directory: &Path) -> PathBuf {
    let name: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    directory.join(name).with_extension("pp")
}

// Encodings.

/// Little-endian, fixed-width integers: one form for each value.
const ENCODING: bincode::config::Configuration<bincode::config::LittleEndian, bincode::config::Fixint> =
    bincode::config::legacy();

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, CircuitError> {
    bincode::serde::encode_to_vec(value, ENCODING).map_err(|error| CircuitError::Encoding(error.to_string()))
}

/// Decodes all of `bytes`. Vectors grow as their elements are read, so a length that lies allocates nothing.
fn decode_all<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CircuitError> {
    let unreadable = |reason: String| CircuitError::UnreadableProof(reason);
    let decoded = catch_unwind(|| bincode::serde::decode_from_slice::<T, _>(bytes, ENCODING));
    let (value, used) = decoded
        .map_err(|_| unreadable("the decoder panicked".into()))?
        .map_err(|error| unreadable(error.to_string()))?;
    if used != bytes.len() {
        return Err(unreadable(format!("{} bytes too many", bytes.len() - used)));
    }
    Ok(value)
}

/// Decodes untrusted bytes of at most `limit`, and refuses what would not be encoded in the same way.
fn decode_canonical<T: serde::Serialize + serde::de::DeserializeOwned>(
    bytes: &[u8],
    limit: usize,
) -> Result<T, CircuitError> {
    if bytes.len() > limit {
        return Err(CircuitError::UnreadableProof(format!("{} bytes, more than {limit}", bytes.len())));
    }
    let value = decode_all(bytes)?;
    if encode(&value)? != bytes {
        return Err(CircuitError::UnreadableProof("not the canonical encoding".into()));
    }
    Ok(value)
}

/// Runs a verifier of the library; a panic is a refusal.
fn verifying<T>(verify: impl FnOnce() -> Result<T, NovaError>) -> Result<T, CircuitError> {
    match catch_unwind(AssertUnwindSafe(verify)) {
        Ok(result) => result.map_err(rejected),
        Err(_) => Err(CircuitError::MalformedProof),
    }
}

// Proofs.

/// Whether each step is checked natively before it is folded. Folding itself never checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// An unsatisfied row is found at once and named.
    EachStep,
    /// Faster; a step that does not hold ends in a proof that does not verify.
    Trust,
}

/// A proof of a number of steps, which can be extended, verified, and compressed. It holds the folded witness, so it is as
/// large as a step.
#[derive(Clone, Debug)]
pub struct RecursiveProof<S: Step<Fr>> {
    inner: RecursiveSNARK<E1, E2, Adapter<S>>,
}

impl<S: Step<Fr>> RecursiveProof<S> {
    /// Proves the first step, from the state `z0`.
    ///
    /// # Errors
    /// `Unsatisfied` if the step is checked and does not hold; `Proving` if the library refuses.
    pub fn start(params: &Params<S>, step: &S, z0: &[Fr], check: Check) -> Result<Self, CircuitError> {
        let witness = params.recorded(step)?.witness(step, z0, check)?;
        Self::start_with(params, step, witness)
    }

    /// Proves the first step, from the state before `witness`.
    ///
    /// # Errors
    /// `Proving` if the library refuses. The witness is not checked.
    pub fn start_with(params: &Params<S>, step: &S, witness: Witness<Fr>) -> Result<Self, CircuitError> {
        let witness = Arc::new(witness);
        let circuit = Adapter { step: step.clone(), witness: Some(Arc::clone(&witness)) };
        let mut inner = RecursiveSNARK::new(&params.inner, &circuit, witness.before()).map_err(proving)?;
        // The library proves the first step in `new`, and its first `prove_step` does nothing but count it.
        inner.prove_step(&params.inner, &circuit).map_err(proving)?;
        Self { inner }.ending_in(&witness)
    }

    /// Proves one more step.
    ///
    /// # Errors
    /// As [`RecursiveProof::start`]. The proof is unchanged then.
    pub fn extend(&mut self, params: &Params<S>, step: &S, check: Check) -> Result<(), CircuitError> {
        let witness = params.recorded(step)?.witness(step, self.state(), check)?;
        self.extend_with(params, step, witness)
    }

    /// Proves one more step, whose witness starts from [`RecursiveProof::state`].
    ///
    /// # Errors
    /// As [`RecursiveProof::start_with`]. The proof is unchanged then.
    pub fn extend_with(&mut self, params: &Params<S>, step: &S, witness: Witness<Fr>) -> Result<(), CircuitError> {
        let witness = Arc::new(witness);
        let circuit = Adapter { step: step.clone(), witness: Some(Arc::clone(&witness)) };
        self.inner.prove_step(&params.inner, &circuit).map_err(proving)?;
        if witness.after() != self.state() {
            return Err(CircuitError::Disagreement("the folded state is not the witness's"));
        }
        Ok(())
    }

    fn ending_in(self, witness: &Witness<Fr>) -> Result<Self, CircuitError> {
        if witness.after() != self.state() {
            return Err(CircuitError::Disagreement("the folded state is not the witness's"));
        }
        Ok(self)
    }

    /// The number of steps proved.
    pub fn steps(&self) -> usize {
        self.inner.num_steps()
    }

    /// The state after the last step.
    pub fn state(&self) -> &[Fr] {
        self.inner.outputs()
    }

    /// The state after `steps` steps from `z0`, if the proof says so.
    ///
    /// # Errors
    /// `Rejected` if the proof is not valid for these parameters, steps and state; `MalformedProof` if it confuses the library.
    pub fn verify(&self, params: &Params<S>, steps: usize, z0: &[Fr]) -> Result<Vec<Fr>, CircuitError> {
        verifying(|| self.inner.verify(&params.inner, steps, z0))
    }

    /// The canonical encoding.
    ///
    /// # Errors
    /// `Encoding`, which does not happen to a proof that was made or read here.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CircuitError> {
        encode(&self.inner)
    }

    /// Reads a proof from untrusted bytes. It still has to be verified.
    ///
    /// # Errors
    /// `UnreadableProof` for anything that is not the canonical encoding of a proof of this size.
    pub fn from_bytes(params: &Params<S>, bytes: &[u8]) -> Result<Self, CircuitError> {
        Ok(Self { inner: decode_canonical(bytes, params.recursive_limit())? })
    }
}

/// Proves steps one after the other, from the state `z0` or on from `proof`. `progress` sees the proof after each and may stop
/// there.
///
/// The witness of a step is made and checked on a thread of its own while the step before it is folded; it is at most one step
/// ahead.
///
/// # Errors
/// Whatever the iterator and `progress` give; as [`RecursiveProof::start`]; `NoSteps` if there is neither a step nor a proof.
pub fn prove<S: Step<Fr>>(
    params: &Params<S>,
    mut proof: Option<RecursiveProof<S>>,
    steps: impl IntoIterator<Item = Result<S, CircuitError>, IntoIter: Send>,
    z0: &[Fr],
    check: Check,
    mut progress: impl FnMut(&RecursiveProof<S>) -> Result<ControlFlow<()>, CircuitError>,
) -> Result<RecursiveProof<S>, CircuitError> {
    let mut steps = steps.into_iter();
    let Some(first) = steps.next().transpose()? else { return proof.ok_or(CircuitError::NoSteps) };
    let recorded = params.recorded(&first)?;
    let mut z = proof.as_ref().map_or_else(|| z0.to_vec(), |proof| proof.state().to_vec());
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel(0);
        scope.spawn(move || {
            for step in iter::once(Ok(first)).chain(steps) {
                let made = step.and_then(|step| {
                    let witness = recorded.witness(&step, &z, check)?;
                    z = witness.after().to_vec();
                    Ok((step, witness))
                });
                let failed = made.is_err();
                // The receiver is gone once the proof is stopped.
                if sender.send(made).is_err() || failed {
                    return;
                }
            }
        });
        for made in receiver {
            let (step, witness) = made?;
            let extended = match proof.take() {
                None => RecursiveProof::start_with(params, &step, witness)?,
                Some(mut proof) => {
                    proof.extend_with(params, &step, witness)?;
                    proof
                }
            };
            let flow = progress(&extended)?;
            proof = Some(extended);
            if flow.is_break() {
                break;
            }
        }
        proof.ok_or(CircuitError::NoSteps)
    })
}

/// The keys of the compressed proof, derived from the parameters.
pub struct CompressionKeys<S: Step<Fr>> {
    prover: ProverKey<E1, E2, Adapter<S>, S1, S2>,
    verifier: VerifierKey<E1, E2, Adapter<S>, S1, S2>,
    arity: usize,
}

impl<S: Step<Fr>> fmt::Debug for CompressionKeys<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompressionKeys").field("arity", &self.arity).finish_non_exhaustive()
    }
}

impl<S: Step<Fr>> CompressionKeys<S> {
    /// Derives the keys.
    ///
    /// # Errors
    /// `Proving` if the library refuses.
    pub fn setup(params: &Params<S>) -> Result<Self, CircuitError> {
        let (prover, verifier) = CompressedSNARK::setup(&params.inner).map_err(proving)?;
        Ok(Self { prover, verifier, arity: params.arity })
    }
}

/// A short proof of a number of steps: some tens of kilobytes.
pub struct CompressedProof<S: Step<Fr>> {
    inner: Box<Compressed<S>>,
}

type Compressed<S> = CompressedSNARK<E1, E2, Adapter<S>, S1, S2>;

impl<S: Step<Fr>> fmt::Debug for CompressedProof<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompressedProof").finish_non_exhaustive()
    }
}

impl<S: Step<Fr>> CompressedProof<S> {
    /// Compresses a recursive proof.
    ///
    /// # Errors
    /// `Proving` if the library refuses.
    pub fn prove(
        params: &Params<S>,
        keys: &CompressionKeys<S>,
        proof: &RecursiveProof<S>,
    ) -> Result<Self, CircuitError> {
        let inner = CompressedSNARK::prove(&params.inner, &keys.prover, &proof.inner).map_err(proving)?;
        Ok(Self { inner: Box::new(inner) })
    }

    /// The state after `steps` steps from `z0`, if the proof says so.
    ///
    /// # Errors
    /// `Rejected` if the proof is not valid for these keys, steps and state; `MalformedProof` if it confuses the library.
    pub fn verify(&self, keys: &CompressionKeys<S>, steps: usize, z0: &[Fr]) -> Result<Vec<Fr>, CircuitError> {
        verifying(|| self.inner.verify(&keys.verifier, steps, z0))
    }

    /// The canonical encoding.
    ///
    /// # Errors
    /// `Encoding`, which does not happen to a proof that was made or read here.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CircuitError> {
        encode(&*self.inner)
    }

    /// Reads a proof from untrusted bytes. It still has to be verified.
    ///
    /// # Errors
    /// `UnreadableProof` for anything that is not the canonical encoding of a proof.
    pub fn from_bytes(keys: &CompressionKeys<S>, bytes: &[u8]) -> Result<Self, CircuitError> {
        let inner: Compressed<S> = decode_canonical(bytes, COMPRESSED_LIMIT + 32 * keys.arity)?;
        Ok(Self { inner: Box::new(inner) })
    }
}

/// The zero state of `arity` elements.
pub fn zero_state(arity: usize) -> Vec<Fr> {
    vec![Fr::ZERO; arity]
}

/// Where parameters are kept unless the user says otherwise: `zvm` in the user's cache directory (`XDG_CACHE_HOME`, or `.cache`
/// in `HOME`), or in the system's temporary directory if neither is set.
pub fn default_cache() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("zvm")
}
