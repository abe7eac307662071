//! The adapter to bellperson, a Groth16 prover over BLS12-381: the only file that sees it.
//!
//! A [`OneShot`] written against `bellpepper-core` 0.4 is synthesised in bellperson's own, older version of it through [`Bridge`],
//! which maps variables one to one and adds no rows. A circuit has one public input, which is the last thing it computes.
//!
//! A proof is three points, 192 bytes compressed. Reading one refuses points that are not on the curve, not in the subgroup of prime order, or
//! at infinity, and encodings that are not canonical. Proofs can be changed into other proofs of the same statement by anyone: they
//! are no receipts.

use core::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use bellpepper_core as bp;
use bellperson::groth16::{
    Parameters, PreparedVerifyingKey, Proof as LibraryProof, VerifyingKey as LibraryKey, create_random_proof,
    generate_random_parameters, prepare_verifying_key, verify_proof,
};
use bellperson::{self as bell, SynthesisError as LibraryError};
use blstrs::{Bls12, G1Affine, G2Affine};
use ff::PrimeField;
use group::prime::PrimeCurveAffine;
use rand_core::OsRng;

use crate::error::CircuitError;
use crate::gadgets::Lc;

/// The scalar field of BLS12-381, over which these circuits are proved.
pub use blstrs::Scalar;

/// The bytes of a proof.
pub const PROOF_BYTES: usize = 192;
/// The bytes of a proof as EIP-2537 encodes points: A, B, C in 128, 256 and 128.
pub const EVM_PROOF_BYTES: usize = 512;
/// The public inputs of a circuit.
const INPUTS: usize = 1;

/// A circuit with one public input.
///
/// Synthesis must not depend on values: the same rows and variables in the same order for every witness and for none.
pub trait OneShot<F: PrimeField>: Send + Sync {
    /// Appends the circuit and gives the public input.
    ///
    /// # Errors
    /// Whatever keeps the circuit from being synthesised; a missing witness value when the constraint system asks for it.
    fn synthesize<CS: bp::ConstraintSystem<F>>(&self, cs: &mut CS) -> Result<Lc<F>, CircuitError>;
}

/// A reason given by bellperson.
#[derive(Debug)]
pub struct Reason(LibraryError);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Reason {}

/// What can go wrong with keys and proofs.
#[derive(Debug, thiserror::Error)]
pub enum Groth16Error {
    /// The library could not make keys or a proof.
    #[error("Groth16 failed: {0}")]
    Library(Reason),
    /// The parameters cannot be read. The fault of whoever made them.
    #[error("the parameters cannot be read: {0}")]
    Unreadable(io::Error),
    /// A point of the key is at infinity: everything could be proved.
    #[error("the key is degenerate: {0} is at infinity")]
    Degenerate(&'static str),
    /// The parameters are of another circuit.
    #[error("the parameters are not of this circuit: they have {found} {what}, it has {expected}")]
    Shape {
        /// What differs.
        what: &'static str,
        /// How many the circuit has.
        expected: usize,
        /// How many the parameters have.
        found: usize,
    },
    /// A proof made with the parameters does not verify: they are of another circuit, or broken.
    #[error("a proof made with these parameters does not verify: they are not of this circuit")]
    Useless,
    /// The bytes are no proof. The fault of whoever made them.
    #[error("this is no proof: {0}")]
    NoProof(&'static str),
    /// The proof is not valid for the statement. The fault of whoever made it.
    #[error("the proof is not valid for this statement")]
    Rejected,
}

fn library(error: LibraryError) -> Groth16Error {
    Groth16Error::Library(Reason(error))
}

// The bridge between the two versions of bellpepper-core.

/// bellperson's constraint system, seen as one of `bellpepper-core` 0.4. Names are dropped: no key keeps them.
struct Bridge<'a, CS>(&'a mut CS);

fn to_library(variable: bp::Variable) -> bell::Variable {
    bell::Variable::new_unchecked(match variable.0 {
        bp::Index::Input(i) => bell::Index::Input(i),
        bp::Index::Aux(i) => bell::Index::Aux(i),
    })
}

fn from_library(variable: bell::Variable) -> bp::Variable {
    bp::Variable::new_unchecked(match variable.get_unchecked() {
        bell::Index::Input(i) => bp::Index::Input(i),
        bell::Index::Aux(i) => bp::Index::Aux(i),
    })
}

fn combination<F: PrimeField>(
    make: impl FnOnce(bp::LinearCombination<F>) -> bp::LinearCombination<F>,
) -> bell::LinearCombination<F> {
    let terms = make(bp::LinearCombination::zero());
    terms.iter().fold(bell::LinearCombination::zero(), |lc, (variable, coeff)| lc + (*coeff, to_library(variable)))
}

fn library_error(error: &bp::SynthesisError) -> LibraryError {
    match error {
        bp::SynthesisError::AssignmentMissing => LibraryError::AssignmentMissing,
        _ => LibraryError::Unsatisfiable,
    }
}

impl<F: PrimeField, CS: bell::ConstraintSystem<F>> bp::ConstraintSystem<F> for Bridge<'_, CS> {
    type Root = Self;

    fn alloc<V, A, AR>(&mut self, name: A, value: V) -> Result<bp::Variable, bp::SynthesisError>
    where
        V: FnOnce() -> Result<F, bp::SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        let variable = self.0.alloc(name, || value().map_err(|error| library_error(&error)));
        variable.map(from_library).map_err(|_| bp::SynthesisError::AssignmentMissing)
    }

    fn alloc_input<V, A, AR>(&mut self, _: A, _: V) -> Result<bp::Variable, bp::SynthesisError>
    where
        V: FnOnce() -> Result<F, bp::SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        // The only input is what the circuit computes, and it is allocated outside.
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
        self.0.enforce(name, |_| combination(a), |_| combination(b), |_| combination(c));
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

/// A circuit as bellperson wants it, and the error that it ended with: the library keeps no reasons.
struct Adapter<'a, C> {
    circuit: &'a C,
    failure: &'a Mutex<Option<CircuitError>>,
}

impl<C: OneShot<Scalar>> bell::Circuit<Scalar> for Adapter<'_, C> {
    fn synthesize<CS: bell::ConstraintSystem<Scalar>>(self, cs: &mut CS) -> Result<(), LibraryError> {
        let computed = self.circuit.synthesize(&mut Bridge(&mut *cs)).map_err(|error| {
            let library = match &error {
                CircuitError::Synthesis(error) => library_error(error),
                _ => LibraryError::Unsatisfiable,
            };
            if let Ok(mut failure) = self.failure.lock() {
                *failure = Some(error);
            }
            library
        })?;
        let input = cs.alloc_input(|| "input", || computed.value().ok_or(LibraryError::AssignmentMissing))?;
        cs.enforce(|| "input", |_| combination(|_| computed.to_bellpepper()), |lc| lc + CS::one(), |lc| lc + input);
        Ok(())
    }
}

/// Runs the library on a circuit; the circuit's own error is the reason, where there is one.
fn with_circuit<C: OneShot<Scalar>, T>(
    circuit: &C,
    run: impl FnOnce(Adapter<'_, C>) -> Result<T, LibraryError>,
) -> Result<T, CircuitError> {
    let failure = Mutex::new(None);
    let result = run(Adapter { circuit, failure: &failure });
    let failure = failure.into_inner().ok().flatten();
    result.map_err(|error| failure.unwrap_or_else(|| library(error).into()))
}

// Shapes.

/// What the parameters of a circuit are as many as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Rows, those of the inputs included.
    pub rows: usize,
    /// Private variables.
    pub variables: usize,
    /// Variables on the left side of some row, inputs included.
    pub left: usize,
    /// Variables on the right side of some row.
    pub right: usize,
}

#[derive(Default)]
struct ShapeCs {
    rows: usize,
    inputs: usize,
    left: Vec<bool>,
    right: Vec<bool>,
    right_inputs: Vec<bool>,
}

impl bell::ConstraintSystem<Scalar> for ShapeCs {
    type Root = Self;

    fn alloc<V, A, AR>(&mut self, _: A, _: V) -> Result<bell::Variable, LibraryError>
    where
        V: FnOnce() -> Result<Scalar, LibraryError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.left.push(false);
        self.right.push(false);
        Ok(bell::Variable::new_unchecked(bell::Index::Aux(self.left.len() - 1)))
    }

    fn alloc_input<V, A, AR>(&mut self, _: A, _: V) -> Result<bell::Variable, LibraryError>
    where
        V: FnOnce() -> Result<Scalar, LibraryError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.inputs += 1;
        self.right_inputs.push(false);
        Ok(bell::Variable::new_unchecked(bell::Index::Input(self.inputs - 1)))
    }

    fn enforce<A, AR, LA, LB, LC>(&mut self, _: A, a: LA, b: LB, _: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(bell::LinearCombination<Scalar>) -> bell::LinearCombination<Scalar>,
        LB: FnOnce(bell::LinearCombination<Scalar>) -> bell::LinearCombination<Scalar>,
        LC: FnOnce(bell::LinearCombination<Scalar>) -> bell::LinearCombination<Scalar>,
    {
        for (variable, _) in a(bell::LinearCombination::zero()).iter() {
            if let bell::Index::Aux(i) = variable.get_unchecked() {
                self.left[i] = true;
            }
        }
        for (variable, _) in b(bell::LinearCombination::zero()).iter() {
            match variable.get_unchecked() {
                bell::Index::Aux(i) => self.right[i] = true,
                bell::Index::Input(i) => self.right_inputs[i] = true,
            }
        }
        self.rows += 1;
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

/// The shape of a circuit.
///
/// # Errors
/// Whatever synthesis gives.
pub fn shape<C: OneShot<Scalar>>(circuit: &C) -> Result<Shape, CircuitError> {
    use bell::{Circuit, ConstraintSystem};
    let cs = with_circuit(circuit, |adapter| {
        let mut cs = ShapeCs::default();
        cs.alloc_input(|| "one", || Err(LibraryError::AssignmentMissing))?;
        adapter.synthesize(&mut cs)?;
        Ok(cs)
    })?;
    let count = |flags: &[bool]| flags.iter().filter(|flag| **flag).count();
    Ok(Shape {
        // One row more per input keeps its point from being at infinity; it is on the left side.
        rows: cs.rows + cs.inputs,
        variables: cs.left.len(),
        left: count(&cs.left) + cs.inputs,
        right: count(&cs.right) + count(&cs.right_inputs),
    })
}

// Keys.

/// What a prover needs: some hundred bytes per row.
pub struct ProvingKey {
    inner: Parameters<Bls12>,
}

impl fmt::Debug for ProvingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProvingKey").field("variables", &self.inner.l.len()).finish_non_exhaustive()
    }
}

impl ProvingKey {
    /// Makes the keys of a circuit from the system's randomness. Whoever sees that randomness can prove anything, and
    /// nobody else can tell: these keys are for development. `circuit` needs no witness.
    ///
    /// # Errors
    /// `Library` if the circuit leaves a variable without a row; whatever synthesis gives.
    pub fn insecure<C: OneShot<Scalar>>(circuit: &C) -> Result<Self, CircuitError> {
        let inner = with_circuit(circuit, |adapter| generate_random_parameters::<Bls12, _, _>(adapter, &mut OsRng))?;
        Ok(Self { inner })
    }

    /// Reads the parameters of a ceremony in the encoding of bellman, each point checked, and compares their shape with
    /// the circuit's. That they are of *this* circuit shows when a proof made with them verifies; that nobody knows
    /// their secret is what the ceremony is for.
    ///
    /// # Errors
    /// `Unreadable`, `Degenerate`, `Shape`.
    pub fn import<C: OneShot<Scalar>>(circuit: &C, bytes: &[u8]) -> Result<Self, CircuitError> {
        // Checking points takes long; what can be said without is said first.
        let mut rest = bytes;
        VerifyingKey::new(LibraryKey::read(&mut rest).map_err(Groth16Error::Unreadable)?)?;
        let shape = shape(circuit)?;
        for (what, expected, size) in [
            // A row is one coefficient; the highest is not needed.
            ("powers", shape.rows.next_power_of_two() - 1, 96),
            ("private variables", shape.variables, 96),
            ("variables on the left", shape.left, 96),
            ("variables on the right", shape.right, 96),
            ("variables on the right in G2", shape.right, 192),
        ] {
            let (count, after) =
                rest.split_first_chunk::<4>().ok_or_else(|| unreadable("they are truncated".into()))?;
            let found = u32::from_be_bytes(*count) as usize;
            if expected != found {
                return Err(Groth16Error::Shape { what, expected, found }.into());
            }
            let points = found.checked_mul(size).and_then(|len| after.get(len..));
            rest = points.ok_or_else(|| unreadable("they are truncated".into()))?;
        }
        if !rest.is_empty() {
            return Err(unreadable(format!("{} bytes too many", rest.len())).into());
        }
        Ok(Self { inner: Parameters::read(bytes, true).map_err(Groth16Error::Unreadable)? })
    }

    /// Reads what [`ProvingKey::to_bytes`] wrote. Points are not checked: the bytes are the user's own.
    ///
    /// # Errors
    /// `Unreadable`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Groth16Error> {
        Ok(Self { inner: Parameters::read(bytes, false).map_err(Groth16Error::Unreadable)? })
    }

    /// The parameters in the encoding of bellman.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        let _ = self.inner.write(&mut bytes);
        bytes
    }

    /// The verifying key.
    ///
    /// # Errors
    /// `Degenerate` for a key that would accept what it should not, `Shape` if it has not one public input.
    pub fn verifying(&self) -> Result<VerifyingKey, Groth16Error> {
        VerifyingKey::new(self.inner.vk.clone())
    }

    /// Proves a circuit with its witness. The randomness of the proof is the system's, so that it says nothing of the witness.
    ///
    /// # Errors
    /// `Library`; whatever synthesis gives. A witness that does not satisfy the circuit gives a proof that does not verify.
    pub fn prove<C: OneShot<Scalar>>(&self, circuit: &C) -> Result<Proof, CircuitError> {
        // The library indexes its parameters by the circuit's densities.
        let proved = catch_unwind(AssertUnwindSafe(|| {
            with_circuit(circuit, |adapter| create_random_proof(adapter, &self.inner, &mut OsRng))
        }));
        let inner = proved.map_err(|_| CircuitError::from(Groth16Error::Useless))??;
        Ok(Proof { inner })
    }
}

fn unreadable(reason: String) -> Groth16Error {
    Groth16Error::Unreadable(io::Error::new(io::ErrorKind::InvalidData, reason))
}

/// What a verifier needs: six points.
#[derive(Clone)]
pub struct VerifyingKey {
    inner: LibraryKey<Bls12>,
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("VerifyingKey").field(&self.inner.alpha_g1).finish()
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl VerifyingKey {
    fn new(inner: LibraryKey<Bls12>) -> Result<Self, Groth16Error> {
        if inner.ic.len() != INPUTS + 1 {
            return Err(Groth16Error::Shape {
                what: "public inputs",
                expected: INPUTS,
                found: inner.ic.len().saturating_sub(1),
            });
        }
        let degenerate = [
            ("alpha", inner.alpha_g1.is_identity()),
            ("beta", inner.beta_g2.is_identity() | inner.beta_g1.is_identity()),
            ("gamma", inner.gamma_g2.is_identity()),
            ("delta", inner.delta_g2.is_identity() | inner.delta_g1.is_identity()),
            ("the point of the input", inner.ic[1].is_identity()),
        ];
        match degenerate.into_iter().find(|(_, identity)| bool::from(*identity)) {
            Some((what, _)) => Err(Groth16Error::Degenerate(what)),
            None => Ok(Self { inner }),
        }
    }

    /// Reads what [`VerifyingKey::to_bytes`] wrote; every point is checked.
    ///
    /// # Errors
    /// `Unreadable`, `Degenerate`, `Shape`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Groth16Error> {
        let mut rest = bytes;
        let inner = LibraryKey::read(&mut rest).map_err(Groth16Error::Unreadable)?;
        if !rest.is_empty() {
            return Err(unreadable(format!("{} bytes too many", rest.len())));
        }
        Self::new(inner)
    }

    /// The key in the encoding of bellman.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        let _ = self.inner.write(&mut bytes);
        bytes
    }

    /// Whether `proof` proves that the circuit has this public input.
    ///
    /// # Errors
    /// `Rejected` if it does not.
    pub fn verify(&self, proof: &Proof, input: Scalar) -> Result<(), Groth16Error> {
        let prepared: PreparedVerifyingKey<Bls12> = prepare_verifying_key(&self.inner);
        match verify_proof(&prepared, &proof.inner, &[input]) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Groth16Error::Rejected),
            Err(error) => Err(library(error)),
        }
    }

    /// The points that a contract checks a proof with, as EIP-2537 encodes them.
    pub fn evm(&self) -> EvmKey {
        let key = &self.inner;
        EvmKey {
            alpha: g1(&key.alpha_g1),
            minus_beta: g2(&-key.beta_g2),
            minus_gamma: g2(&-key.gamma_g2),
            minus_delta: g2(&-key.delta_g2),
            constant: g1(&key.ic[0]),
            input: g1(&key.ic[1]),
        }
    }
}

/// A verifying key for a contract: with `X = constant + x · input` for the public input `x`, a proof `(A, B, C)` is valid if
/// `e(A, B) · e(C, −δ) · e(X, −γ) · e(α, −β) = 1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvmKey {
    /// α, in G1.
    pub alpha: [u8; 128],
    /// −β, in G2.
    pub minus_beta: [u8; 256],
    /// −γ, in G2.
    pub minus_gamma: [u8; 256],
    /// −δ, in G2.
    pub minus_delta: [u8; 256],
    /// The part of X that no input changes, in G1.
    pub constant: [u8; 128],
    /// The point that the input multiplies, in G1.
    pub input: [u8; 128],
}

/// A point of G1 as EIP-2537 encodes it: x and y in 64 bytes each, big-endian; zeros for infinity.
fn g1(point: &G1Affine) -> [u8; 128] {
    let mut out = [0; 128];
    if !bool::from(point.is_identity()) {
        let bytes = point.to_uncompressed();
        out[16..64].copy_from_slice(&bytes[..48]);
        out[80..].copy_from_slice(&bytes[48..]);
    }
    out
}

/// A point of G2 as EIP-2537 encodes it: the two parts of x and of y, the real part first; zeros for infinity. The encoding that it
/// is read from has the real part last.
fn g2(point: &G2Affine) -> [u8; 256] {
    let mut out = [0; 256];
    if !bool::from(point.is_identity()) {
        let bytes = point.to_uncompressed();
        for (to, from) in [1, 0, 3, 2].into_iter().enumerate() {
            out[64 * to + 16..64 * to + 64].copy_from_slice(&bytes[48 * from..48 * from + 48]);
        }
    }
    out
}

/// A proof.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    inner: LibraryProof<Bls12>,
}

impl Proof {
    /// The compressed encoding: A, B and C in 48, 96 and 48 bytes.
    pub fn to_bytes(&self) -> [u8; PROOF_BYTES] {
        let mut bytes = [0; PROOF_BYTES];
        bytes[..48].copy_from_slice(&self.inner.a.to_compressed());
        bytes[48..144].copy_from_slice(&self.inner.b.to_compressed());
        bytes[144..].copy_from_slice(&self.inner.c.to_compressed());
        bytes
    }

    /// Reads a proof from untrusted bytes.
    ///
    /// # Errors
    /// `NoProof` unless they are the canonical encoding of three points of the subgroups, none of them at infinity.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Groth16Error> {
        let bytes: &[u8; PROOF_BYTES] = bytes.try_into().map_err(|_| Groth16Error::NoProof("it has not 192 bytes"))?;
        let inner = LibraryProof::read(&bytes[..])
            .map_err(|_| Groth16Error::NoProof("a point is not on the curve, not in the subgroup, or at infinity"))?;
        let proof = Self { inner };
        if proof.to_bytes() != *bytes {
            return Err(Groth16Error::NoProof("not the canonical encoding"));
        }
        Ok(proof)
    }

    /// The proof as a contract takes it: A, B and C as EIP-2537 encodes points.
    pub fn to_evm(&self) -> [u8; EVM_PROOF_BYTES] {
        let mut bytes = [0; EVM_PROOF_BYTES];
        bytes[..128].copy_from_slice(&g1(&self.inner.a));
        bytes[128..384].copy_from_slice(&g2(&self.inner.b));
        bytes[384..].copy_from_slice(&g1(&self.inner.c));
        bytes
    }
}
