//! Folding a small step: proofs verify, and nothing altered does.

use core::ops::ControlFlow;

use bellpepper_core::ConstraintSystem;
use ff::{Field, PrimeField};
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::gadgets::{Lc, Word, arith, limb_count};
use zvm_backend_circuit::nova::{
    Check, CompressedProof, CompressionKeys, Fr, Origin, Params, RecursiveProof, Step, prove,
};
use zvm_backend_circuit::witness::Recorded;
use zvm_ir::Word as U256;

/// `(a, b) → (b, a + b mod 2^256)` with both words in two limbs, and a hint that has to be zero.
#[derive(Clone, Debug, Default)]
struct Fibonacci {
    faulty: bool,
}

impl<F: PrimeField> Step<F> for Fibonacci {
    fn arity(&self) -> usize {
        2 * limb_count(256)
    }

    fn synthesize<CS: ConstraintSystem<F>>(&self, cs: &mut CS, z: &[Lc<F>]) -> Result<Vec<Lc<F>>, CircuitError> {
        let a = Word::from_limbs(256, &z[..2])?;
        let b = Word::from_limbs(256, &z[2..])?;
        let sum = arith::wadd(&mut cs.namespace(|| "0x07"), &a, &b)?;
        let bit = Lc::alloc(cs, || "fault".into(), Some(F::from(u64::from(self.faulty))))?;
        zvm_backend_circuit::gadgets::enforce_equal(cs, || "0x09 no fault".into(), &bit, &Lc::zero());
        let mut out = b.limbs(cs)?;
        out.extend(sum.limbs(cs)?);
        Ok(out)
    }
}

fn start() -> Vec<Fr> {
    // Close to the modulus, so that the sums wrap within a few steps.
    let word: U256 = U256::MAX >> 1;
    let limbs = zvm_backend_circuit::gadgets::native_limbs::<Fr>(256, &word);
    [limbs.clone(), limbs].concat()
}

fn after(steps: usize) -> Vec<Fr> {
    let (mut a, mut b): (U256, U256) = (U256::MAX >> 1, U256::MAX >> 1);
    for _ in 0..steps {
        (a, b) = (b, a.wrapping_add(b));
    }
    [a, b].iter().flat_map(|word| zvm_backend_circuit::gadgets::native_limbs::<Fr>(256, word)).collect()
}

const STEPS: usize = 3;

fn folded(params: &Params<Fibonacci>) -> RecursiveProof<Fibonacci> {
    let steps = (0..STEPS).map(|_| Ok(Fibonacci::default()));
    let mut seen = Vec::new();
    let proof = prove(params, None, steps, &start(), Check::EachStep, |proof| {
        seen.push(proof.steps());
        Ok(ControlFlow::Continue(()))
    })
    .unwrap();
    assert_eq!(seen, [1, 2, 3]);
    proof
}

fn is_refusal(error: &CircuitError) -> bool {
    matches!(error, CircuitError::Rejected(_) | CircuitError::MalformedProof | CircuitError::UnreadableProof(_))
}

#[test]
fn three_steps_fold_verify_and_resist_tampering() {
    let params = Params::setup(&Fibonacci::default()).unwrap();
    let facts = params.facts();
    assert_eq!(facts.step_rows, 258 + 1);
    assert!((8_000..14_000).contains(&facts.overhead_rows()), "{facts:?}");
    assert!((8_000..14_000).contains(&facts.secondary_rows), "{facts:?}");

    let proof = folded(&params);
    assert_eq!(proof.state(), after(STEPS));
    assert_eq!(proof.verify(&params, STEPS, &start()).unwrap(), after(STEPS));

    // Another number of steps, another beginning.
    for steps in [0, STEPS - 1, STEPS + 1] {
        assert!(is_refusal(&proof.verify(&params, steps, &start()).unwrap_err()));
    }
    for index in 0..start().len() {
        let mut z0 = start();
        z0[index] += Fr::ONE;
        assert!(is_refusal(&proof.verify(&params, STEPS, &z0).unwrap_err()));
    }
    assert!(is_refusal(&proof.verify(&params, STEPS, &start()[1..]).unwrap_err()));

    // The bytes.
    let bytes = proof.to_bytes().unwrap();
    let read = RecursiveProof::from_bytes(&params, &bytes).unwrap();
    assert_eq!(read.verify(&params, STEPS, &start()).unwrap(), after(STEPS));
    let refused = |bytes: &[u8]| match RecursiveProof::from_bytes(&params, bytes) {
        Err(error) => is_refusal(&error),
        Ok(proof) => is_refusal(&proof.verify(&params, STEPS, &start()).unwrap_err()),
    };
    // A prime stride meets lengths, points, scalars and both ends; the last bytes are the state.
    let places = (0..bytes.len()).step_by(bytes.len() / 12 + 1).chain([7, bytes.len() - 1]);
    for place in places {
        let mut altered = bytes.clone();
        altered[place] ^= 1 << (place % 8);
        assert!(refused(&altered), "byte {place} of {} altered", bytes.len());
    }
    assert!(refused(&bytes[..bytes.len() - 1]));
    assert!(refused(&[&bytes[..], &[0]].concat()));
    assert!(refused(&[]));
    assert!(refused(&vec![0xff; bytes.len()]));
    assert!(refused(&vec![0xff; 4 * bytes.len()]));

    // A step more.
    let mut longer = read;
    longer.extend(&params, &Fibonacci::default(), Check::EachStep).unwrap();
    assert_eq!(longer.verify(&params, STEPS + 1, &start()).unwrap(), after(STEPS + 1));

    compression(&params, &proof);
}

fn compression(params: &Params<Fibonacci>, proof: &RecursiveProof<Fibonacci>) {
    let keys = CompressionKeys::setup(params).unwrap();
    let compressed = CompressedProof::prove(params, &keys, proof).unwrap();
    assert_eq!(compressed.verify(&keys, STEPS, &start()).unwrap(), after(STEPS));
    assert!(is_refusal(&compressed.verify(&keys, STEPS + 1, &start()).unwrap_err()));
    assert!(is_refusal(&compressed.verify(&keys, STEPS, &after(1)).unwrap_err()));
    let bytes = compressed.to_bytes().unwrap();
    assert!(bytes.len() < 100_000, "{} bytes", bytes.len());
    let read = CompressedProof::from_bytes(&keys, &bytes).unwrap();
    assert_eq!(read.verify(&keys, STEPS, &start()).unwrap(), after(STEPS));
    let refused = |bytes: &[u8]| match CompressedProof::from_bytes(&keys, bytes) {
        Err(error) => is_refusal(&error),
        Ok(proof) => is_refusal(&proof.verify(&keys, STEPS, &start()).unwrap_err()),
    };
    for place in (0..bytes.len()).step_by(bytes.len() / 12 + 1).chain([bytes.len() - 1]) {
        let mut altered = bytes.clone();
        altered[place] ^= 1 << (place % 8);
        assert!(refused(&altered), "byte {place} of {} altered", bytes.len());
    }
    assert!(refused(&bytes[..100]));
}

#[test]
fn an_unsatisfied_step_is_named_before_it_is_folded() {
    let faulty = Fibonacci { faulty: true };
    let recorded = Recorded::new(&faulty).unwrap();
    let error = recorded.witness(&faulty, &start(), Check::EachStep).unwrap_err();
    assert!(error.to_string().contains("`0x09 no fault`"), "{error}");
}

/// A step that does not hold ends proving with its name; a witness of another state is refused, and leaves the proof as it was.
#[test]
fn a_proof_takes_only_witnesses_of_its_state() {
    let step = Fibonacci::default();
    let params = Params::setup(&step).unwrap();
    let mut steps = vec![Ok(step.clone()), Ok(step.clone())];
    let mut seen = 0;
    let mut count = |proof: &RecursiveProof<Fibonacci>| {
        seen = proof.steps();
        Ok(ControlFlow::Continue(()))
    };
    let mut proof = prove(&params, None, steps.drain(..), &start(), Check::EachStep, &mut count).unwrap();
    let recorded = params.recorded(&step).unwrap();
    let earlier = recorded.witness(&step, &start(), Check::EachStep).unwrap();
    assert!(matches!(proof.extend_with(&params, &step, earlier), Err(CircuitError::Proving(_))));
    assert_eq!(proof.verify(&params, 2, &start()).unwrap(), after(2));

    // On from what is folded, and no further than the step that does not hold.
    steps.extend([Ok(step.clone()), Ok(Fibonacci { faulty: true }), Ok(step)]);
    let error = prove(&params, Some(proof), steps, &start(), Check::EachStep, &mut count).unwrap_err();
    assert!(error.to_string().contains("`0x09 no fault`"), "{error}");
    assert_eq!(seen, 3);
}

#[test]
fn parameters_are_cached_and_a_damaged_cache_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let step = Fibonacci::default();
    let cached = |key: &[u8; 32]| Params::cached(&step, key, directory.path()).unwrap();
    let (made, origin) = cached(&[7; 32]);
    assert_eq!(origin, Origin::Made);
    let (read, origin) = cached(&[7; 32]);
    assert_eq!(origin, Origin::Cached);
    assert_eq!(read.facts(), made.facts());
    assert_eq!(read.digest(), made.digest());

    let path = directory.path().join(format!("{}.pp", "07".repeat(32)));
    let good = std::fs::read(&path).unwrap();
    let damaged: [Vec<u8>; 4] = [
        Vec::new(),
        good[..good.len() / 2].to_vec(),
        {
            let mut bytes = good.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        },
        // Parameters under another circuit's key.
        [&good[..16], &[8; 32], &good[48..]].concat(),
    ];
    // Making parameters takes seconds, so one kind of damage goes all the way and the others are only refused.
    for bytes in &damaged {
        std::fs::write(&path, bytes).unwrap();
        assert!(!Params::is_cached(&step, &[7; 32], directory.path()).unwrap());
    }
    let (again, origin) = cached(&[7; 32]);
    assert_eq!((origin, again.digest()), (Origin::Made, made.digest()));
    assert_eq!(std::fs::read(&path).unwrap(), good);
}
