//! Fold, prove, verify, and refuse every change to what was proved.

mod batches;

use core::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use zvm_backend_circuit::artifact::{Kind, ProofFile, SegmentProof};
use zvm_backend_circuit::checkpoint::{Checkpoint, CheckpointError, Keep};
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::nova::Check;
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::prover::{Expected, Progress, ProveOptions, Proved, VerifyError, prove, verify};
use zvm_backend_circuit::schedule::Schedule;
use zvm_ir::{EmptyState, Env, Halt, Log, Outcome, Word};

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
    let prepared = program.prepare(&[call], &EmptyState).unwrap();
    let schedule = Schedule::single(plan, &prepared.trace, 100).unwrap();
    let options = ProveOptions { kind, cache: cache(), check: Check::EachStep, keep: None, progress: &mut progress };
    let proved = prove(program, &schedule, prepared, options).unwrap();
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
    assert_eq!(file.outcomes, [Outcome::halted(Halt::Return, sum.to_be_bytes::<32>().to_vec())]);

    let none = Expected::default();
    let alter = |what: &str, change: &dyn Fn(&mut ProofFile)| {
        let mut file = proved.file.clone();
        change(&mut file);
        let error = refuse(what, &program, &file.encode(), &none);
        assert!(matches!(error, VerifyError::Proof(_) | VerifyError::State(_)), "{what}: {error}");
    };
    alter("other calldata", &|file| file.calls[0].calldata[31] ^= 1);
    alter("longer calldata", &|file| file.calls[0].calldata.push(0));
    alter("another caller", &|file| file.calls[0].env.caller[0] ^= 1);
    alter("an environment field that nobody reads", &|file| file.calls[0].env.gaslimit += Word::from(1));
    alter("another outcome", &|file| file.outcomes[0].data[31] ^= 1);
    alter("a shorter outcome", &|file| file.outcomes[0].data.truncate(31));
    alter("another kind of halt", &|file| file.outcomes[0].halt = Halt::Revert);
    alter("the call twice", &|file| {
        file.calls.push(file.calls[0].clone());
        file.outcomes.push(file.outcomes[0].clone());
    });
    alter("a log", &|file| {
        file.outcomes[0].logs.push(Log { address: [1; 20], topics: vec![], data: vec![] });
    });
    alter("a state before", &|file| file.roots[0] = Word::from(1));
    alter("a state after", &|file| file.roots[1] = Word::from(1));
    alter("advice", &|file| file.advice = Word::from(1));
    alter("one step less", &|file| file.segments[0].steps -= 1);
    alter("one step more", &|file| file.segments[0].steps += 1);
    alter("a plan with a slot more", &|file| file.segments[0].plan[1].1 += 1);
    alter("a plan in another order", &|file| file.segments[0].plan.reverse());
    alter("a changed byte of the proof", &|file| {
        let proof = &mut file.segments[0].proof;
        let at = proof.len() / 2;
        proof[at] ^= 1;
    });
    alter("a truncated proof", &|file| {
        file.segments[0].proof.pop();
    });

    let with = |change: &dyn Fn(&mut SegmentProof)| {
        let mut file = proved.file.clone();
        change(&mut file.segments[0]);
        file
    };
    // A plan that is not one of the program, or too large, is refused before anything is built.
    for plan in [vec![], vec![(9, 1)], vec![(0, 0)], vec![(1, u32::MAX)]] {
        let file = with(&|segment| segment.plan = plan.clone());
        assert!(matches!(refuse("a wild plan", &program, &file.encode(), &none), VerifyError::Plan));
    }
    let file = with(&|segment| segment.plan = vec![(1, 1 << 16)]);
    assert!(matches!(refuse("a huge plan", &program, &file.encode(), &none), VerifyError::PlanSize(_)));
    let file = with(&|segment| segment.steps = 0);
    assert!(matches!(refuse("no steps", &program, &file.encode(), &none), VerifyError::Steps(0)));

    // Another program with circuits of the same shape.
    let other = self::program(&PROGRAM.replace("wadd v7, v1", "wadd v7, v7"));
    refuse("another program", &other, &bytes, &none);

    // What the caller expects is compared.
    let good = Expected {
        calldata: Some(proved.file.calls[0].calldata.clone()),
        env: Some(Env::default()),
        halt: Some(Halt::Return),
        data: Some(proved.file.outcomes[0].data.clone()),
        calls: Some(proved.file.calls.clone()),
        pre_root: Some(Word::ZERO),
        post_root: Some(Word::ZERO),
        steps: Some(3),
    };
    verify(&bytes, &program, &good, cache()).unwrap();
    for wrong in [
        Expected { calldata: Some(vec![]), ..Expected::default() },
        Expected { env: Some(Env { number: Word::from(2), ..Env::default() }), ..Expected::default() },
        Expected { halt: Some(Halt::Trap), ..Expected::default() },
        Expected { data: Some(vec![1]), ..Expected::default() },
        Expected { calls: Some(vec![]), ..Expected::default() },
        Expected { calls: Some([&proved.file.calls[..], &proved.file.calls[..]].concat()), ..Expected::default() },
        Expected { pre_root: Some(Word::from(1)), ..Expected::default() },
        Expected { post_root: Some(Word::from(1)), ..Expected::default() },
        Expected { steps: Some(4), ..Expected::default() },
    ] {
        assert!(matches!(refuse("another expectation", &program, &bytes, &wrong), VerifyError::Unexpected(_)));
    }
}

/// A batch of calls with a state, from proving to verifying: roots, advice, calls and outcomes are what they were.
#[test]
fn a_batch_with_a_state_is_proved_and_nothing_else() {
    let (program, calls, pre) = batches::counter();
    let program = Arc::new(program);
    let prepared = program.prepare(&calls, &pre).unwrap();
    let plan = Plan::from_trace(&program, &prepared.trace, 12_000, 20_000);
    let schedule = Schedule::single(plan, &prepared.trace, 100).unwrap();
    let mut progress = |_| ControlFlow::Continue(());
    let kind = Kind::Recursive;
    let options = ProveOptions { kind, cache: cache(), check: Check::EachStep, keep: None, progress: &mut progress };
    let proved = prove(&program, &schedule, prepared, options).unwrap();
    let none = Expected::default();
    let (statement, file) = verify(&proved.file.encode(), &program, &none, cache()).unwrap();
    assert_eq!((&statement, &file), (&proved.statement, &proved.file));
    assert_ne!(file.roots[0], file.roots[1]);
    let alter = |what: &str, change: &dyn Fn(&mut ProofFile)| {
        let mut file = proved.file.clone();
        change(&mut file);
        assert_ne!(file, proved.file, "{what}: nothing was altered");
        let error = refuse(what, &program, &file.encode(), &none);
        assert!(matches!(error, VerifyError::Proof(_) | VerifyError::State(_)), "{what}: {error}");
    };
    alter("another root before", &|file| file.roots[0] = file.roots[1]);
    alter("another root after", &|file| file.roots[1] = file.roots[0]);
    alter("roots exchanged", &|file| file.roots.swap(0, 1));
    alter("other advice", &|file| file.advice = Word::from(1));
    alter("another account", &|file| file.calls.iter_mut().for_each(|call| call.env.address[0] ^= 1));
    alter("a call less", &|file| drop((file.calls.pop(), file.outcomes.pop())));
    alter("calls in another order", &|file| file.calls.swap(0, 2));
    alter("outcomes in another order", &|file| file.outcomes.swap(0, 2));
    alter("a log less", &|file| drop(file.outcomes[0].logs.pop()));
    alter("another log", &|file| file.outcomes[2].logs[0].data[0] ^= 1);
    alter("a call that returns", &|file| file.outcomes[1].halt = Halt::Return);
}

/// A proof that stops before the program halts proves nothing.
#[test]
fn an_unfinished_execution_has_no_outcome() {
    use zvm_backend_circuit::field::to_u256;
    use zvm_backend_circuit::nova::{Fr, Params, RecursiveProof};
    use zvm_backend_circuit::replay::Cut;
    use zvm_backend_circuit::schedule::Segment;
    use zvm_backend_circuit::statement::{StateError, Statement};
    use zvm_backend_circuit::step::StepCircuit;

    let program = program(PROGRAM);
    let regions: Vec<_> = program.regions().regions.keys().collect();
    let plan = Arc::new(Plan::new([regions[0], regions[1], regions[2]]));
    let call = Call { calldata: Word::from(3).to_be_bytes::<32>().to_vec(), ..Call::default() };
    let step = StepCircuit::<Fr>::shape(&program, &plan);
    let prepared = program.prepare(&[call], &EmptyState).unwrap();
    let schedule = Schedule::single(Plan::clone(&plan), &prepared.trace, 100).unwrap();
    assert!(schedule.steps() > 2);
    // Challenges and advice are those of the two steps that there are.
    let schedule = Schedule { segments: vec![Segment { steps: 2, ..schedule.segments[0].clone() }] };
    let prepared = prepared.cut(&program, Cut::Plan(&plan), &schedule.digest(&program), 100).unwrap();
    let first = prepared.initial_state(&program).unwrap();
    let prepared = Arc::new(prepared);
    let params = Params::setup(&step).unwrap();
    let statement = Statement { steps: 2, ..prepared.statement(&program).unwrap() };
    let mut proof = RecursiveProof::start(&params, &step.with_input(&prepared, 0), &first, Check::EachStep).unwrap();
    proof.extend(&params, &step.with_input(&prepared, 1), Check::EachStep).unwrap();
    let z = proof.verify(&params, 2, &first).unwrap();
    assert_eq!(statement.check_final_state(&program, prepared.advice, &z), Err(StateError::Label));
    let file = ProofFile {
        kind: Kind::Recursive,
        calls: prepared.execution.calls.clone(),
        outcomes: prepared.execution.outcomes.clone(),
        roots: [Word::ZERO; 2],
        advice: to_u256(&prepared.advice),
        segments: vec![SegmentProof { plan: plan.to_numbers(), steps: 2, proof: proof.to_bytes().unwrap() }],
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
    file.outcomes[0].data[0] ^= 1;
    refuse("another outcome", &program, &file.encode(), &Expected::default());
    let mut file = proved.file;
    let proof = &mut file.segments[0].proof;
    let at = proof.len() / 3;
    proof[at] ^= 4;
    refuse("a changed byte", &program, &file.encode(), &Expected::default());
}

/// Two loops one after the other, with little in common.
const PHASES: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u8 = iconst \
     255\n v3: u8 = and v1, v2\n jump block1(v3, v1)\nblock1(v6: u8, v7: u256):\n v8: u1 = iszero v6\n brif v8, block2(v3, v7), \
     block3\nblock3:\n v9: u1 = iconst 1\n v10: u8 = sub v6, v9\n v11: u256 = wadd v7, v1\n jump block1(v10, v11)\nblock2(v12: \
     u8, v13: u256):\n v14: u1 = iszero v12\n brif v14, block4, block5\nblock5:\n v15: u1 = iconst 1\n v16: u8 = sub v12, v15\n \
     v17: u256 = xor v13, v1\n v18: u256 = not v17\n jump block2(v16, v18)\nblock4:\n return_words 32, v13\n}\n";

fn prove_phases(
    program: &Arc<Program>,
    first: u64,
    keep: Option<Keep<'_>>,
    stop_after: u64,
) -> Result<Proved, CircuitError> {
    let calldata = Word::from(first).to_be_bytes::<32>().to_vec();
    let call = Call { calldata, ..Call::default() };
    let prepared = program.prepare(&[call], &EmptyState).unwrap();
    let regions: Vec<_> = program.regions().regions.keys().collect();
    let [entry, sum, mix, halt] = regions[..] else { panic!("four regions are expected, not {}", regions.len()) };
    let plans = [(Plan::new([entry, sum, sum]), 1 + first + 1), (Plan::new([mix, mix, halt]), u64::MAX)];
    let schedule = Schedule::chain(&plans, &prepared.trace, 100).unwrap();
    assert_eq!(schedule.segments.len(), 2);
    let mut folded = 0;
    let mut progress = |at| {
        if matches!(at, Progress::Folded { .. }) {
            folded += 1;
        }
        if folded == stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let kind = Kind::Recursive;
    let options = ProveOptions { kind, cache: cache(), check: Check::EachStep, keep, progress: &mut progress };
    prove(program, &schedule, prepared, options)
}

#[test]
fn segments_are_chained_and_none_is_swapped_dropped_or_repeated() {
    let program = program(PHASES);
    let proved = prove_phases(&program, 3, None, u64::MAX).unwrap();
    let none = Expected::default();
    let (statement, file) = verify(&proved.file.encode(), &program, &none, cache()).unwrap();
    assert_eq!(statement, proved.statement);
    assert_eq!((statement.steps, file.segments.len()), (proved.facts.steps, 2));
    assert_eq!(proved.facts.segments, 2);

    // Another execution of as many steps, to take segments from.
    let other = prove_phases(&program, 4, None, u64::MAX).unwrap().file;
    let alter = |what: &str, change: &dyn Fn(&mut Vec<SegmentProof>)| {
        let mut file = proved.file.clone();
        change(&mut file.segments);
        assert_ne!(file, proved.file, "{what}: nothing was altered");
        let error = refuse(what, &program, &file.encode(), &none);
        assert!(matches!(error, VerifyError::Proof(_) | VerifyError::State(_)), "{what}: {error}");
    };
    alter("segments in the other order", &|segments| segments.reverse());
    alter("without the first segment", &|segments| drop(segments.remove(0)));
    alter("without the last segment", &|segments| drop(segments.pop()));
    alter("with the first segment twice", &|segments| segments.insert(0, segments[0].clone()));
    alter("with the last segment twice", &|segments| segments.push(segments[1].clone()));
    alter("with the first segment again at the end", &|segments| segments.push(segments[0].clone()));
    alter("with the first segment of another call", &|segments| segments[0] = other.segments[0].clone());
    alter("with the last segment of another call", &|segments| segments[1] = other.segments[1].clone());
    alter("with a step moved from one segment to the next", &|segments| {
        segments[0].steps -= 1;
        segments[1].steps += 1;
    });
    alter("with the plans exchanged", &|segments| {
        let plan = segments[0].plan.clone();
        segments[0].plan = std::mem::replace(&mut segments[1].plan, plan);
    });
    alter("with the proofs exchanged", &|segments| {
        let proof = segments[0].proof.clone();
        segments[0].proof = std::mem::replace(&mut segments[1].proof, proof);
    });
    for count in [0, 9] {
        let mut file = proved.file.clone();
        file.segments = vec![proved.file.segments[0].clone(); count];
        let error = refuse("so many segments", &program, &file.encode(), &none);
        assert!(matches!(error, VerifyError::Segments(found) if found == count), "{count}: {error}");
    }
}

/// A proof that is ended after any step goes on from its checkpoint, and only from its own.
#[test]
fn a_proof_goes_on_from_its_checkpoint() {
    let program = program(PHASES);
    let whole = prove_phases(&program, 3, None, u64::MAX).unwrap();
    fn keep(directory: &Path, resume: bool) -> Option<Keep<'_>> {
        Some(Keep { directory, every: 1000, resume })
    }
    for after in 1..whole.facts.steps {
        let folder = tempfile::tempdir().unwrap();
        let ended = prove_phases(&program, 3, keep(folder.path(), false), after);
        assert!(matches!(ended, Err(CircuitError::Interrupted)), "{ended:?}");
        if after == 2 {
            refuse_checkpoints(&program, folder.path());
        }
        let resumed = prove_phases(&program, 3, keep(folder.path(), true), u64::MAX).unwrap();
        assert_eq!((resumed.facts.steps_resumed, &resumed.statement), (after, &whole.statement));
        verify(&resumed.file.encode(), &program, &Expected::default(), cache()).unwrap();
    }
}

/// Folding is the same for both kinds of proof, so a proof may be ended as one and gone on with as the other.
#[test]
fn a_checkpoint_is_gone_on_with_as_another_kind_of_proof() {
    let program = program(PROGRAM);
    let call = Call { calldata: (Word::MAX - Word::from(250)).to_be_bytes::<32>().to_vec(), ..Call::default() };
    let prepared = program.prepare(&[call], &EmptyState).unwrap();
    let regions: Vec<_> = program.regions().regions.keys().collect();
    let plan = Plan::new([regions[0], regions[1], regions[1], regions[2]]);
    let schedule = Schedule::single(plan, &prepared.trace, 100).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let prove = |kind, resume, stop_after| {
        let mut progress = |at| match at {
            Progress::Folded { steps, .. } if steps == stop_after => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let keep = Some(Keep { directory: folder.path(), every: 1, resume });
        let options = ProveOptions { kind, cache: cache(), check: Check::EachStep, keep, progress: &mut progress };
        prove(&program, &schedule, prepared.clone(), options)
    };
    assert!(matches!(prove(Kind::Compressed, false, 1), Err(CircuitError::Interrupted)));
    let proved = prove(Kind::Recursive, true, u64::MAX).unwrap();
    assert_eq!((proved.facts.steps_resumed, proved.file.kind), (1, Kind::Recursive));
    verify(&proved.file.encode(), &program, &Expected::default(), cache()).unwrap();
}

fn refuse_checkpoints(program: &Arc<Program>, folder: &Path) {
    let refused = |program: &Arc<Program>, first, resume| match prove_phases(
        program,
        first,
        Some(Keep { directory: folder, every: 1, resume }),
        u64::MAX,
    ) {
        Err(CircuitError::Checkpoint { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(program, 3, false), CheckpointError::Unfinished));
    assert!(matches!(refused(program, 4, true), CheckpointError::Statement));
    let other = self::program(&PHASES.replace("xor v13, v1", "or v13, v1"));
    assert!(matches!(refused(&other, 3, true), CheckpointError::Program));

    let path = folder.join(zvm_backend_circuit::checkpoint::FILE_NAME);
    let good = std::fs::read(&path).unwrap();
    for len in [0, 4, 5, 70, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..len]).unwrap();
        let error = refused(program, 3, true);
        assert!(matches!(error, CheckpointError::Damaged | CheckpointError::File(_)), "{len} bytes: {error}");
    }
    // What is not an accident has its hash right, and is refused all the same.
    let forge = |change: &dyn Fn(&mut Checkpoint)| {
        let mut checkpoint = Checkpoint::decode(&good).unwrap();
        change(&mut checkpoint);
        std::fs::write(&path, checkpoint.encode()).unwrap();
        assert!(matches!(refused(program, 3, true), CheckpointError::Inconsistent(_)));
    };
    forge(&|checkpoint| checkpoint.steps += 1);
    forge(&|checkpoint| checkpoint.steps = u64::MAX);
    forge(&|checkpoint| checkpoint.finished = 3);
    forge(&|checkpoint| checkpoint.finished = u64::MAX);
    forge(&|checkpoint| checkpoint.segments[0].plan = vec![(77, 1)]);
    forge(&|checkpoint| {
        let at = checkpoint.proof.len() / 2;
        checkpoint.proof[at] ^= 1;
    });
    std::fs::write(&path, &good).unwrap();
}
