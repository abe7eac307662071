//! Fold, prove, verify, and refuse every change to what was proved.

use core::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use zvm_backend_circuit::artifact::{Kind, ProofFile};
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::nova::Check;
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::prover::{Expected, ProveOptions, Proved, VerifyError, prove, verify};
use zvm_ir::{Env, Halt, Outcome, Word};

/// A loop that sums and compares, with an early exit, so that the state has registers of one and two limbs.
const PROGRAM: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u8 = iconst \
     255\n v3: u8 = and v1, v2\n v4: u160 = caller\n v5: u256 = zext v4\n jump block1(v3, v5)\nblock1(v6: u8, v7: u256):\n v8: u1 = \
     iszero v6\n brif v8, block2, block3\nblock2:\n return_words 32, v7\nblock3:\n v9: u1 = iconst 1\n v10: u8 = sub v6, v9\n v11: \
     u256 = wadd v7, v1\n jump block1(v10, v11)\n}\n";

/// Public parameters are made once per circuit.
fn cache() -> Option<&'static Path> {
    Some(Path::new(env!("CARGO_TARGET_TMPDIR")))
}

fn program(text: &str) -> Arc<Program> {
    let module = zvm_ir::parse(text).unwrap();
    Arc::new(Program::compile(&module).unwrap())
}

fn proved(program: &Arc<Program>, plan: Plan, kind: Kind) -> Proved {
    let call = Call { calldata: (Word::MAX - Word::from(250)).to_be_bytes::<32>().to_vec(), ..Call::default() };
    let mut seen = 0;
    let mut progress = |_| {
        seen += 1;
        ControlFlow::Continue(())
    };
    let options = ProveOptions { kind, cache: cache(), check: Check::EachStep, progress: &mut progress };
    let proved = prove(program, &Arc::new(plan), &call, options).unwrap();
    assert!(seen > proved.facts.steps);
    proved
}

fn refuse(what: &str, program: &Arc<Program>, bytes: &[u8], expected: &Expected) -> VerifyError {
    match verify(bytes, program, expected, cache()) {
        Err(error) => error,
        Ok((statement, _)) => panic!("{what} is accepted: {statement:?}"),
    }
}

#[test]
fn a_recursive_proof_says_what_happened_and_nothing_else() {
    let program = program(PROGRAM);
    let regions: Vec<_> = program.regions().regions.keys().collect();
    // Five iterations in steps of two: three steps, the last with idle slots.
    let plan = Plan::new([regions[0], regions[1], regions[1], regions[2]]);
    let proved = proved(&program, plan, Kind::Recursive);
    assert_eq!(proved.facts.steps, 3);
    let bytes = proved.file.encode();
    let (statement, file) = verify(&bytes, &program, &Expected::default(), cache()).unwrap();
    assert_eq!(statement, proved.statement);
    let caller = Word::from_be_slice(&[0xca; 20]);
    let sum = (0..5).fold(caller, |sum, _| sum.wrapping_add(Word::MAX - Word::from(250)));
    assert_eq!(file.outcome, Outcome::halted(Halt::Return, sum.to_be_bytes::<32>().to_vec()));

    let none = Expected::default();
    let alter = |what: &str, change: &dyn Fn(&mut ProofFile)| {
        let mut file = proved.file.clone();
        change(&mut file);
        let error = refuse(what, &program, &file.encode(), &none);
        assert!(matches!(error, VerifyError::Proof(_) | VerifyError::State(_)), "{what}: {error}");
    };
    alter("other calldata", &|file| file.call.calldata[31] ^= 1);
    alter("longer calldata", &|file| file.call.calldata.push(0));
    alter("another caller", &|file| file.call.env.caller[0] ^= 1);
    alter("an environment field that nobody reads", &|file| file.call.env.gaslimit += Word::from(1));
    alter("another outcome", &|file| file.outcome.data[31] ^= 1);
    alter("a shorter outcome", &|file| file.outcome.data.truncate(31));
    alter("another kind of halt", &|file| file.outcome.halt = Halt::Revert);
    alter("one step less", &|file| file.steps -= 1);
    alter("one step more", &|file| file.steps += 1);
    alter("a plan with a slot more", &|file| file.plan[1].1 += 1);
    alter("a plan in another order", &|file| file.plan.reverse());
    alter("a changed byte of the proof", &|file| {
        let at = file.proof.len() / 2;
        file.proof[at] ^= 1;
    });
    alter("a truncated proof", &|file| file.proof.truncate(file.proof.len() - 1));

    // A plan that is not one of the program, or too large, is refused before anything is built.
    for plan in [vec![], vec![(9, 1)], vec![(0, 0)], vec![(1, u32::MAX)]] {
        let file = ProofFile { plan, ..proved.file.clone() };
        assert!(matches!(refuse("a wild plan", &program, &file.encode(), &none), VerifyError::Plan));
    }
    let file = ProofFile { plan: vec![(1, 1 << 16)], ..proved.file.clone() };
    assert!(matches!(refuse("a huge plan", &program, &file.encode(), &none), VerifyError::PlanSize(_)));
    let file = ProofFile { steps: 0, ..proved.file.clone() };
    assert!(matches!(refuse("no steps", &program, &file.encode(), &none), VerifyError::Steps(0)));

    // Another program with circuits of the same shape.
    let other = self::program(&PROGRAM.replace("wadd v7, v1", "wadd v7, v7"));
    refuse("another program", &other, &bytes, &none);

    // What the caller expects is compared.
    let good = Expected {
        calldata: Some(proved.file.call.calldata.clone()),
        env: Some(Env::default()),
        halt: Some(Halt::Return),
        data: Some(proved.file.outcome.data.clone()),
        steps: Some(3),
    };
    verify(&bytes, &program, &good, cache()).unwrap();
    for wrong in [
        Expected { calldata: Some(vec![]), ..Expected::default() },
        Expected { env: Some(Env { number: Word::from(2), ..Env::default() }), ..Expected::default() },
        Expected { halt: Some(Halt::Trap), ..Expected::default() },
        Expected { data: Some(vec![1]), ..Expected::default() },
        Expected { steps: Some(4), ..Expected::default() },
    ] {
        assert!(matches!(refuse("another expectation", &program, &bytes, &wrong), VerifyError::Unexpected(_)));
    }
}

/// A proof that stops before the program halts proves nothing.
#[test]
fn an_unfinished_execution_has_no_outcome() {
    use zvm_backend_circuit::nova::{Params, RecursiveProof};
    use zvm_backend_circuit::statement::{StateError, Statement};
    use zvm_backend_circuit::step::StepCircuit;

    let program = program(PROGRAM);
    let regions: Vec<_> = program.regions().regions.keys().collect();
    let plan = Arc::new(Plan::new([regions[0], regions[1], regions[2]]));
    let call = Call { calldata: Word::from(3).to_be_bytes::<32>().to_vec(), ..Call::default() };
    let outcome = program.execute(&call).unwrap().outcome;
    let step = StepCircuit { program: program.clone(), plan: plan.clone(), call: Some(Arc::new(call.clone())) };
    let params = Params::setup(&step).unwrap();
    let statement = Statement::new(&program, &call, &outcome, 2);
    let mut proof = RecursiveProof::start(&params, &step, &statement.initial_state(&program), Check::EachStep).unwrap();
    proof.extend(&params, &step, Check::EachStep).unwrap();
    let z = proof.verify(&params, 2, &statement.initial_state(&program)).unwrap();
    assert_eq!(statement.check_final_state(&z), Err(StateError::Label));
    let file = ProofFile {
        kind: Kind::Recursive,
        steps: 2,
        call,
        outcome,
        plan: plan.to_numbers(),
        proof: proof.to_bytes().unwrap(),
    };
    let error = refuse("an unfinished execution", &program, &file.encode(), &Expected::default());
    assert!(matches!(error, VerifyError::State(StateError::Label)), "{error}");
}

/// Compression; slow, so only on request.
#[test]
fn a_compressed_proof_verifies() {
    if std::env::var_os("ZVM_SLOW").is_none() {
        eprintln!("skipped: set ZVM_SLOW=1");
        return;
    }
    let program = program(PROGRAM);
    let regions: Vec<_> = program.regions().regions.keys().collect();
    let plan = Plan::new([regions[0], regions[1], regions[1], regions[2]]);
    let proved = proved(&program, plan, Kind::Compressed);
    let bytes = proved.file.encode();
    assert!(bytes.len() < 100_000, "{} bytes", bytes.len());
    verify(&bytes, &program, &Expected::default(), cache()).unwrap();
    let mut file = proved.file.clone();
    file.outcome.data[0] ^= 1;
    refuse("another outcome", &program, &file.encode(), &Expected::default());
    let mut file = proved.file;
    let at = file.proof.len() / 3;
    file.proof[at] ^= 4;
    refuse("a changed byte", &program, &file.encode(), &Expected::default());
}
