//! One proof of a whole execution: it says what happened, and nothing else is accepted.

mod batches;

use std::path::Path;
use std::sync::Arc;

use bellpepper_core::ConstraintSystem;
use blstrs::{G1Affine, G2Affine};
use ff::PrimeField;
use zvm_backend_circuit::artifact::{Kind, Origin, ProofFile};
use zvm_backend_circuit::cs::CheckCs;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::groth16::{
    Groth16Error, OneShot, PROOF_BYTES, Proof, ProvingKey, Scalar, VerifyingKey, shape,
};
use zvm_backend_circuit::keys::{self, KeyError, Keys, Source};
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::prover::{Expected, VerifyError};
use zvm_backend_circuit::public_input;
use zvm_backend_circuit::replay::Prepared;
use zvm_backend_circuit::short::{self, Proved, Setup};
use zvm_backend_circuit::statement::{Elements, Statement};
use zvm_backend_circuit::whole::Whole;
use zvm_ir::{EmptyState, Env, Halt, Log, Outcome, Word};

/// A loop that sums and compares, with an early exit, so that the state has registers of one and two limbs.
const PROGRAM: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u8 = iconst \
     255\n v3: u8 = and v1, v2\n v4: u160 = caller\n v5: u256 = zext v4\n jump block1(v3, v5)\nblock1(v6: u8, v7: u256):\n v8: u1 = \
     iszero v6\n brif v8, block2, block3\nblock2:\n return_words 32, v7\nblock3:\n v9: u1 = iconst 1\n v10: u8 = sub v6, v9\n v11: \
     u256 = wadd v7, v1\n jump block1(v10, v11)\n}\n";

/// Keys are made once.
fn cache() -> Source<'static> {
    Source::Folder(Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/groth16")))
}

fn program(text: &str) -> Arc<Program> {
    Arc::new(Program::compile(&zvm_ir::parse(text).unwrap()).unwrap())
}

/// The word that is summed: its low byte says how often.
fn word(low: u64) -> Word {
    Word::MAX - Word::from(255 - low)
}

fn call(low: u64) -> Call {
    Call { calldata: word(low).to_be_bytes::<32>().to_vec(), ..Call::default() }
}

fn prepared<F: PrimeField>(program: &Program, low: u64) -> Prepared<F> {
    program.prepare(&[call(low)], &EmptyState).unwrap()
}

/// A plan with room for each of these calls.
fn plan_for(program: &Arc<Program>, lows: &[u64]) -> Arc<Plan> {
    let traces: Vec<_> = lows.iter().map(|&low| program.execute(&call(low)).unwrap().trace).collect();
    Arc::new(short::plan_for(program, &traces).unwrap())
}

/// Keys with room for five iterations.
fn keys(program: &Arc<Program>) -> Keys {
    let plan = plan_for(program, &[5]);
    short::setup(program, &plan, Setup::InsecureLocal, cache()).unwrap()
}

fn proved(program: &Arc<Program>, low: u64) -> Proved {
    short::prove(program, prepared(program, low), cache()).unwrap()
}

#[test]
fn a_proof_says_what_happened_and_nothing_else() {
    let program = program(PROGRAM);
    let keys = keys(&program);
    assert_eq!(keys.header.origin, Origin::InsecureLocal);
    let proved = proved(&program, 5);
    assert_eq!(proved.file.segments[0].proof.len(), PROOF_BYTES);
    let caller = Word::from_be_slice(&[0xca; 20]);
    let sum = (0..5).fold(caller, |sum, _| sum.wrapping_add(word(5)));
    assert_eq!(proved.file.outcomes, [Outcome::halted(Halt::Return, sum.to_be_bytes::<32>().to_vec())]);
    let none = Expected::default();
    let verified = short::verify(&proved.file.encode(), &program, &none, cache()).unwrap();
    assert_eq!(
        (verified.statement, verified.file, verified.origin),
        (proved.statement, proved.file.clone(), proved.origin)
    );

    let alter = |what: &str, change: &dyn Fn(&mut ProofFile)| {
        let mut file = proved.file.clone();
        change(&mut file);
        short::verify(&file.encode(), &program, &none, cache()).expect_err(what)
    };
    type Change = &'static dyn Fn(&mut ProofFile);
    let changes: [(&str, Change); 11] = [
        ("other calldata", &|file| file.calls[0].calldata[31] ^= 1),
        ("longer calldata", &|file| file.calls[0].calldata.push(0)),
        ("another caller", &|file| file.calls[0].env.caller[0] ^= 1),
        ("a field that nobody reads", &|file| file.calls[0].env.gaslimit += Word::from(1)),
        ("another outcome", &|file| file.outcomes[0].data[31] ^= 1),
        ("a shorter outcome", &|file| file.outcomes[0].data.truncate(31)),
        ("another kind of halt", &|file| file.outcomes[0].halt = Halt::Revert),
        ("the call twice", &|file| {
            file.calls.push(file.calls[0].clone());
            file.outcomes.push(file.outcomes[0].clone());
        }),
        ("a log", &|file| file.outcomes[0].logs.push(Log { address: [1; 20], topics: vec![], data: vec![] })),
        ("a state before", &|file| file.roots[0] = Word::from(1)),
        ("a state after", &|file| file.roots[1] = Word::from(1)),
    ];
    for (what, change) in changes {
        let error = alter(what, change);
        let rejected = matches!(error, VerifyError::Proof(CircuitError::Groth16(Groth16Error::Rejected)));
        assert!(rejected, "{what}: {error}");
    }
    assert!(matches!(alter("steps", &|file| file.segments[0].steps = 2), VerifyError::Steps(2)));
    assert!(matches!(alter("a wild plan", &|file| file.segments[0].plan = vec![(9, 1)]), VerifyError::Plan));
    for plan in [vec![(0, 1)], vec![(0, 2), (1, 1)]] {
        let error = alter("another plan", &|file| file.segments[0].plan.clone_from(&plan));
        assert!(matches!(error, VerifyError::Proof(CircuitError::Keys(KeyError::NoneOf(_)))), "{error}");
    }
    let error = alter("a hash of advice", &|file| file.advice = Word::from(1));
    assert!(matches!(error, VerifyError::File(_)), "{error}");
    let error = alter("the other proof system", &|file| file.kind = Kind::Compressed);
    assert!(matches!(error, VerifyError::Proof(CircuitError::WrongSystem)), "{error}");

    // Every byte of the proof: no point any more, a point out of its group, or the wrong one.
    for at in 0..PROOF_BYTES {
        for bit in [0x01, 0x20, 0x40, 0x80] {
            let error = alter("a byte", &|file| file.segments[0].proof[at] ^= bit);
            assert!(matches!(error, VerifyError::Proof(CircuitError::Groth16(_))), "byte {at}: {error}");
        }
    }
    for len in [0, 48, 191] {
        let error = alter("a truncated proof", &|file| file.segments[0].proof.truncate(len));
        assert!(matches!(error, VerifyError::Proof(CircuitError::Groth16(Groth16Error::NoProof(_)))), "{error}");
    }
    alter("a longer proof", &|file| file.segments[0].proof.push(0));

    // The order of the points.
    alter("swapped points", &|file| {
        let (a, c) = (file.segments[0].proof[..48].to_vec(), file.segments[0].proof[144..].to_vec());
        file.segments[0].proof[..48].copy_from_slice(&c);
        file.segments[0].proof[144..].copy_from_slice(&a);
    });

    // What the caller expects is compared.
    let wrong = [
        Expected { calldata: Some(vec![]), ..Expected::default() },
        Expected { env: Some(Env { number: Word::from(2), ..Env::default() }), ..Expected::default() },
        Expected { halt: Some(Halt::Trap), ..Expected::default() },
        Expected { data: Some(vec![1]), ..Expected::default() },
        Expected { calls: Some(vec![]), ..Expected::default() },
        Expected { pre_root: Some(Word::from(1)), ..Expected::default() },
        Expected { post_root: Some(Word::from(1)), ..Expected::default() },
    ];
    for expected in wrong {
        let error = short::verify(&proved.file.encode(), &program, &expected, cache()).unwrap_err();
        assert!(matches!(error, VerifyError::Unexpected(_)), "{error}");
    }
}

/// Keys with room for five iterations prove four, and refuse six.
#[test]
fn keys_prove_every_execution_that_they_have_room_for() {
    let program = program(PROGRAM);
    let keys = keys(&program);
    for low in [0, 4, 5] {
        let proved = proved(&program, low);
        assert_eq!(proved.file.segments[0].plan, keys.header.plan);
        short::verify(&proved.file.encode(), &program, &Expected::default(), cache()).unwrap();
    }
    let error = short::prove(&program, prepared(&program, 6), cache()).unwrap_err();
    assert!(matches!(error, CircuitError::Keys(KeyError::NoRoom)), "{error}");
}

/// A plan for several calls has room for each, and is shorter than one after the other.
#[test]
fn one_plan_serves_several_calls() {
    let program = program(PROGRAM);
    let lows = [2, 7, 0];
    let plan = plan_for(&program, &lows);
    for low in lows {
        assert_eq!(plan.steps(&program.execute(&call(low)).unwrap().trace, 1).unwrap(), 1);
    }
    let alone = plan_for(&program, &lows[1..2]);
    assert_eq!(plan, alone, "the longest has room for all");
}

#[test]
fn keys_are_refused_for_another_program() {
    let program = program(PROGRAM);
    let keys = keys(&program);
    let other = self::program(&PROGRAM.replace("wadd v7, v1", "wadd v7, v7"));
    assert_ne!(other.commitment(), program.commitment());
    let file = Source::File(&keys.path);
    let error = short::prove(&other, prepared(&other, 1), file).unwrap_err();
    assert!(matches!(error, CircuitError::Keys(KeyError::OtherProgram { .. })), "{error}");
    let error = short::only_keys(&other, file).unwrap_err();
    assert!(matches!(error, KeyError::OtherProgram { .. }), "{error}");
    // A proof is not one of the other program either, with the keys of this one or with its own.
    let bytes = proved(&program, 5).file.encode();
    let error = short::verify(&bytes, &other, &Expected::default(), file).unwrap_err();
    assert!(matches!(error, VerifyError::Proof(CircuitError::Keys(KeyError::OtherProgram { .. }))), "{error}");
    self::keys(&other);
    let error = short::verify(&bytes, &other, &Expected::default(), cache()).unwrap_err();
    assert!(matches!(error, VerifyError::Proof(CircuitError::Groth16(Groth16Error::Rejected))), "{error}");

    // A header that claims to be of the other program, and keys whose plan was exchanged.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claimed.zvmk");
    let key = keys.proving().unwrap();
    let mut header = keys.header.clone();
    header.program = other.commitment();
    Keys::write(&path, header, &key).unwrap();
    let error = short::prove(&other, prepared(&other, 1), Source::File(&path)).unwrap_err();
    assert!(matches!(error, CircuitError::Keys(KeyError::OtherCircuit { .. })), "{error}");
    // With the digest of the other circuit as well, the proof is found out to be worthless before anyone gets it.
    let plan = plan_for(&other, &[5]);
    let mut header = keys.header.clone();
    header.program = other.commitment();
    header.circuit = Whole::<Scalar>::shape(&other, &plan).digest();
    header.plan = plan.to_numbers();
    Keys::write(&path, header, &key).unwrap();
    let error = short::prove(&other, prepared(&other, 1), Source::File(&path)).unwrap_err();
    assert!(matches!(error, CircuitError::Groth16(_)), "{error}");
}

#[test]
fn damaged_keys_are_refused() {
    let program = program(PROGRAM);
    let keys = keys(&program);
    let bytes = std::fs::read(&keys.path).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.zvmk");
    let attempt = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Keys::read(&path).and_then(|keys| keys.proving().map(drop))
    };
    attempt(&bytes).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 60 + 1).chain((0..600).step_by(13)) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        let error = attempt(&bytes).expect_err("an altered byte");
        assert!(!matches!(error, KeyError::Io { .. }), "byte {at}: {error}");
    }
    for len in [0, 7, 8, 9, 300, bytes.len() / 2, bytes.len() - 1] {
        attempt(&bytes[..len]).expect_err("truncated keys");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    attempt(&longer).expect_err("a byte too many");
    // A length that no header has allocates nothing.
    let mut huge = bytes;
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    attempt(&huge).expect_err("a huge header");
    assert!(matches!(keys::of_program(Source::Folder(folder.path()), &program), Err(KeyError::None)));
}

/// A ceremony's parameters are those of the circuit, or are refused.
#[test]
fn parameters_are_imported_and_checked() {
    // Two inputs of one type, opened from one block, make circuits of one shape.
    let text = PROGRAM.replace("v4: u160 = caller\n v5: u256 = zext v4", "v5: u256 = gaslimit");
    let program = program(&text);
    let keys = keys(&program);
    let plan = Arc::new(Plan::from_numbers(&program, &keys.header.plan).unwrap());
    let bytes = keys.proving().unwrap().to_bytes();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imported.zvmk");
    let import = |program: &Arc<Program>, plan: &Arc<Plan>, parameters: &[u8]| {
        let prepared = Box::new(prepared(program, 3));
        short::setup(program, plan, Setup::Ceremony { parameters, prepared }, Source::File(&path))
    };
    let imported = import(&program, &plan, &bytes).unwrap();
    assert_eq!(imported.header.origin, Origin::Ceremony);
    assert_eq!(imported.verifying, keys.verifying);
    let proved = short::prove(&program, prepared(&program, 3), Source::File(&path)).unwrap();
    assert_eq!(proved.origin, Origin::Ceremony);
    short::verify(&proved.file.encode(), &program, &Expected::default(), cache()).unwrap();

    // Of a circuit of another shape, and of another circuit of the same.
    let longer = plan_for(&program, &[6]);
    let error = import(&program, &longer, &bytes).unwrap_err();
    assert!(matches!(error, CircuitError::Groth16(Groth16Error::Shape { .. })), "{error}");
    let twisted = self::program(&text.replace("gaslimit", "blobbasefee"));
    assert_eq!(short::shape(&twisted, &plan).unwrap(), short::shape(&program, &plan).unwrap());
    let error = import(&twisted, &plan, &bytes).unwrap_err();
    assert!(matches!(error, CircuitError::Groth16(Groth16Error::Useless)), "{error}");

    // Points off the curve, outside the subgroup, at infinity.
    for (at, what) in [(0, "alpha"), (96, "beta"), (900, "an input"), (1100, "a power")] {
        let mut bytes = bytes.clone();
        bytes[at + 40] ^= 1;
        assert!(import(&program, &plan, &bytes).is_err(), "{what}");
    }
    let mut infinity = bytes.clone();
    infinity[..96].fill(0);
    infinity[0] = 0x40;
    let error = import(&program, &plan, &infinity).unwrap_err();
    assert!(matches!(error, CircuitError::Groth16(Groth16Error::Degenerate("alpha"))), "{error}");
    for len in [0, 100, bytes.len() / 2, bytes.len() - 1] {
        assert!(import(&program, &plan, &bytes[..len]).is_err(), "{len} bytes");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert!(import(&program, &plan, &longer).is_err(), "a byte too many");
}

/// Points that are on the curve and not in the subgroup of prime order.
#[test]
fn points_outside_the_subgroup_are_refused() {
    let program = program(PROGRAM);
    keys(&program);
    let good = proved(&program, 5).file.segments[0].proof.clone();
    let mut found = [0, 0];
    for x in 1..200u8 {
        let mut bytes = [0u8; 48];
        (bytes[0], bytes[47]) = (0x80, x);
        let point = G1Affine::from_compressed_unchecked(&bytes);
        if let Some(point) = Option::<G1Affine>::from(point)
            && !bool::from(point.is_torsion_free())
        {
            for at in [0, 144] {
                let mut proof = good.clone();
                proof[at..at + 48].copy_from_slice(&bytes);
                assert!(matches!(Proof::from_bytes(&proof), Err(Groth16Error::NoProof(_))));
            }
            found[0] += 1;
        }
        let mut bytes = [0u8; 96];
        (bytes[0], bytes[95]) = (0x80, x);
        let point = G2Affine::from_compressed_unchecked(&bytes);
        if let Some(point) = Option::<G2Affine>::from(point)
            && !bool::from(point.is_torsion_free())
        {
            let mut proof = good.clone();
            proof[48..144].copy_from_slice(&bytes);
            assert!(matches!(Proof::from_bytes(&proof), Err(Groth16Error::NoProof(_))));
            found[1] += 1;
        }
    }
    assert!(found[0] > 20 && found[1] > 20, "{found:?}");
    // Infinity, canonical and not, and a coordinate that is not reduced.
    let mut infinity = good.clone();
    infinity[..48].fill(0);
    infinity[0] = 0xc0;
    assert!(Proof::from_bytes(&infinity).is_err());
    let mut unreduced = good;
    unreduced[..48].fill(0xff);
    unreduced[0] = 0x9f;
    assert!(Proof::from_bytes(&unreduced).is_err());
}

/// A circuit that leaves out what ties the state to the statement, or starts elsewhere, would accept a lie; this one does not.
#[test]
fn the_circuit_is_tied_to_the_statement() {
    let program = program(PROGRAM);
    tied::<Fr>(&program);
    tied::<Scalar>(&program);
}

fn tied<F: PrimeField>(program: &Arc<Program>) {
    let prepared = prepared::<F>(program, 3);
    let trace = prepared.trace.clone();
    let plan = Arc::new(Plan::new(trace.iter()));
    let statement = prepared.statement(program).unwrap();
    let honest = Whole::<F>::of(program, &plan, prepared).unwrap();
    let input = honest.check().unwrap();
    assert_eq!(input, public_input::of(&statement.elements()));

    // A witness for another statement: some row says which element is another. What the program fixes is no witness at all.
    type Lie<F> = fn(&mut Statement<F>);
    let lies: [(&str, Lie<F>); 2] = [
        ("last calls", |statement| statement.calls_digest += F::ONE),
        ("last outcomes", |statement| statement.outcome_digest += F::ONE),
    ];
    for (row, lie) in lies {
        let mut forged = honest.clone();
        lie(&mut forged.witness.as_mut().unwrap().statement);
        assert_eq!(broken(&forged), row);
    }
    let fixed: [Lie<F>; 3] = [
        |statement| statement.roots.pre += F::ONE,
        |statement| statement.roots.post += F::ONE,
        |statement| statement.account = Some([7; 20]),
    ];
    for lie in fixed {
        let mut forged = honest.clone();
        lie(&mut forged.witness.as_mut().unwrap().statement);
        let lied = forged.witness.as_ref().unwrap().statement.elements();
        assert_ne!(public_input::of(&lied), input);
        assert_eq!(forged.check().unwrap(), input, "the public input is that of the truth");
    }
    // An execution that does not halt in the plan.
    let short = Arc::new(Plan::new(trace.iter().take(3)));
    assert_eq!(broken(&Whole { plan: short, ..honest.clone() }), "last label");
    // Every value that the circuit adds to its slots is forced.
    let mut cs = CheckCs::<F>::recording();
    let input = honest.synthesize(&mut cs).unwrap();
    let claimed = input.value().unwrap();
    cs.enforce(
        || "input",
        |_| input.to_bellpepper(),
        |lc| lc + CheckCs::<F>::one(),
        |lc| lc + (claimed, CheckCs::<F>::one()),
    );
    let rows = cs.rows_by_aux();
    let mut tried = 0;
    for (aux, touched) in rows.iter().enumerate() {
        let name = cs.aux_name(aux).to_owned();
        if name.starts_with("slot") || (name.contains("sha256") && aux % 50 != 0) {
            continue;
        }
        for delta in [F::ONE, -F::from(0x1234_5678)] {
            assert!(cs.broken_by(aux, delta, touched).is_some(), "nothing forces {name}");
        }
        tried += 1;
    }
    assert!(tried > 700, "{tried}");
}

/// The same of a batch with a state: roots, account, calls and outcomes, and the hash of the advice, each named by its row.
#[test]
fn the_circuit_of_a_batch_is_tied_to_the_statement() {
    for batch in [batches::counter(), batches::token()] {
        let batch = (Arc::new(batch.0), batch.1, batch.2);
        tied_batch::<Fr>(&batch);
        tied_batch::<Scalar>(&batch);
    }
}

fn tied_batch<F: PrimeField>((program, calls, pre): &(Arc<Program>, Vec<Call>, batches::Slots)) {
    let prepared = program.prepare::<F>(calls, pre).unwrap();
    let plan = Arc::new(Plan::new(prepared.trace.iter()));
    let statement = prepared.statement(program).unwrap();
    let honest = Whole::<F>::of(program, &plan, prepared).unwrap();
    assert_eq!(honest.check().unwrap(), public_input::of(&statement.elements()));
    // A lie about the statement, told with all that follows from it: challenges and first state are those of the lie.
    type Lie<F> = fn(&mut Statement<F>);
    let lies: [(&str, Lie<F>); 5] = [
        ("slot", |statement| statement.roots.pre += F::ONE),
        ("last root", |statement| statement.roots.post += F::ONE),
        ("slot", |statement| statement.account = Some([7; 20])),
        ("last calls", |statement| statement.calls_digest += F::ONE),
        ("last outcomes", |statement| statement.outcome_digest += F::ONE),
    ];
    for (row, lie) in lies {
        let mut forged = honest.clone();
        lie(&mut forged.witness.as_mut().unwrap().statement);
        let name = broken(&forged);
        assert!(name.starts_with(row), "{row}: {name}");
    }
    let mut forged = honest.clone();
    let witness = forged.witness.as_mut().unwrap();
    Arc::make_mut(&mut witness.prepared).advice += F::ONE;
    assert_eq!(broken(&forged), "last advice");
    // Only one call less in the plan, or without what closes the trace argument.
    let slots: Vec<_> = plan.iter().collect();
    let short = Arc::new(Plan::new(slots[..slots.len() - 1].iter().copied()));
    assert_eq!(broken(&Whole { plan: short, ..honest.clone() }), "last label");
}

/// The row that does not hold; the first.
fn broken<F: PrimeField>(forged: &Whole<F>) -> String {
    match forged.check() {
        Err(CircuitError::Unsatisfied(unsatisfied)) => unsatisfied.name.clone(),
        other => panic!("{other:?}"),
    }
}

/// An element has two decompositions into bits; only one of them has the hash that a verifier computes.
#[test]
fn the_other_decomposition_of_an_element_is_another_statement() {
    let modulus = zvm_backend_circuit::field::to_u256(&-Scalar::from(1)) + Word::from(1);
    let small = Scalar::from(77);
    let elements = Elements { pre_root: small, post_root: small, account: small, calls: small, outcomes: small };
    let message = public_input::message(&elements);
    assert_eq!(message.len(), 160);
    let mut other = message.clone();
    let alias = Word::from(77) + modulus;
    assert!(alias.bit_len() <= 255, "both fit the bits of an element");
    other[64..96].copy_from_slice(&alias.to_be_bytes::<32>());
    assert_ne!(public_input::of_message::<Scalar>(&message), public_input::of_message::<Scalar>(&other));
}

/// Rows and outcomes are those of the execution, whatever the field.
#[test]
fn both_fields_have_the_same_rows() {
    let program = program(PROGRAM);
    for low in [0, 1, 5] {
        let (bn254, bls12) = (prepared::<Fr>(&program, low), prepared::<Scalar>(&program, low));
        assert_eq!(bn254.execution, bls12.execution);
        assert_eq!(short::check(&program, bn254).unwrap().0, short::check(&program, bls12).unwrap().0);
    }
    let plan = Arc::new(Plan::new(program.execute(&call(5)).unwrap().trace.iter()));
    let shape = shape(&Whole::shape(&program, &plan)).unwrap();
    // One row for the input, and one for each of the two inputs of the library.
    assert_eq!(shape.rows as u64, Whole::<Fr>::shape(&program, &plan).rows().unwrap() + 3);
    let r1cs = short::r1cs(&program, &plan).unwrap();
    assert_eq!(u32::from_le_bytes(r1cs[84..88].try_into().unwrap()) as usize, shape.rows - 2);
}

/// Keys read from bytes are the same keys.
#[test]
fn keys_round_trip() {
    let program = program(PROGRAM);
    let keys = keys(&program);
    let key = keys.proving().unwrap();
    assert_eq!(ProvingKey::from_bytes(&key.to_bytes()).unwrap().to_bytes(), key.to_bytes());
    assert_eq!(VerifyingKey::from_bytes(&keys.verifying.to_bytes()).unwrap(), keys.verifying);
    assert_eq!(keys.verifying.to_bytes(), keys.header.verifying);
}

/// What the page on L1 says of the rows of the public input, over both fields, and every bit of it forced.
#[test]
fn the_public_input_costs_what_the_page_says() {
    let fixed = Elements { pre_root: Some(0), post_root: Some(0), account: Some(0), calls: None, outcomes: None };
    let free = Elements { pre_root: None, post_root: None, account: None, calls: None, outcomes: None };
    let page = include_str!("../../docs/l1.md");
    let rows = [fixed, free].map(|fixed| {
        let rows = input_rows::<Scalar>(&fixed);
        assert_eq!(rows, input_rows::<Fr>(&fixed));
        rows
    });
    let grouped = |rows: usize| format!("{},{:03}", rows / 1000, rows % 1000);
    let sentence = format!("{} rows, against {} where they are not", grouped(rows[0]), grouped(rows[1]));
    assert!(page.contains(&sentence), "docs/l1.md lacks: {sentence}");
}

fn input_rows<F: PrimeField>(fixed: &Elements<Option<u64>>) -> usize {
    let mut cs = CheckCs::<F>::checking(zvm_backend_circuit::cs::Names::Dropped);
    let fixed = fixed.clone().try_map(|_, value| Ok::<_, ()>(value.map(F::from))).unwrap();
    let mut next = 0;
    let values = fixed.clone().try_map(|_, value| {
        next += 1;
        Ok::<_, ()>(value.unwrap_or_else(|| -F::from(next)))
    });
    let values = values.unwrap();
    let opened = public_input::open(&mut cs, fixed, Some(&values)).unwrap();
    cs.verdict().unwrap();
    assert_eq!(opened.input.value(), Some(public_input::of(&values)));
    cs.rows()
}
