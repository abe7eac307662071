//! Programs that hash: the circuit says what the interpreter says, a hash is a region of its own and stands in a plan as often
//! as it pays, and nothing about it can be changed. With `ZVM_SLOW=1` also a proof.

use core::ops::ControlFlow;
use std::sync::Arc;

use bellpepper_core::ConstraintSystem;
use ff::Field;
use zvm_backend_circuit::artifact::Kind;
use zvm_backend_circuit::check::{allocate_state, run_slots};
use zvm_backend_circuit::cs::CheckCs;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::lower;
use zvm_backend_circuit::nova::{Check, Fr};
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::planner::{Limits, schedule_with};
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::prover::{Expected, ProveOptions, prove, verify};
use zvm_backend_circuit::region::Region;
use zvm_backend_circuit::replay::Cut;
use zvm_backend_circuit::schedule::{Schedule, Segment};
use zvm_backend_circuit::trace::Chosen;
use zvm_ir::{EmptyState, Word, interp};

/// A permutation's rows, nearly.
const HASH_ROWS: u64 = 90_000;

/// Hashes a word and the caller as often as the second word of the calldata says (below 4), unless the first word is zero.
const CHAIN: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u6 = iconst \
     32\n v3: u256 = calldataload v2\n v4: u2 = trunc v3\n v5: u160 = caller\n v6: u256 = zext v5\n v7: u1 = iszero v1\n brif v7, \
     block3(v1), block1(v1, v4)\nblock1(v10: u256, v11: u2):\n v12: u1 = iszero v11\n brif v12, block3(v10), block2\nblock2:\n v13: \
     u256 = keccak_words 64, v10, v6 @0020\n v14: u1 = iconst 1\n v15: u2 = sub v11, v14\n jump block1(v13, v15)\nblock3(v20: u256):\n \
     return_words 32, v20\n}\n";

fn program(text: &str) -> Arc<Program> {
    let module = zvm_ir::parse(text).unwrap();
    Arc::new(Program::compile(&module).unwrap())
}

fn call(words: [Word; 2]) -> Call {
    Call { calldata: words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect(), ..Call::default() }
}

fn hash_regions(program: &Program) -> Vec<Region> {
    program.rows().iter().filter(|(_, rows)| **rows > HASH_ROWS).map(|(region, _)| region).collect()
}

/// A program that hashes words of all widths in straight lines, on one path only, and twice in a row.
const BRANCHES: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u6 = iconst \
     32\n v3: u256 = calldataload v2\n v4: u8 = trunc v3\n v5: u256 = zext v4\n v6: u256 = iconst 7\n v7: u1 = ult v1, v3\n brif v7, \
     block1, block2(v3)\nblock1:\n v10: u256 = keccak_words 64, v5, v6\n v11: u256 = keccak_words 150, v10, v1, v10, v3, v5\n v12: u256 = wadd \
     v11, v10\n jump block2(v12)\nblock2(v20: u256):\n v21: u256 = xor v20, v1\n return_words 32, v21\n}\n";

/// Writes to the item of an array whose number is the first word, and reads it and its neighbour with a pointer from the start of the array on; the
/// hash of the array's slot, ten, is a constant.
const ARRAY: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u6 = iconst 32\n v3: u256 = \
     calldataload v2\n v4: u254 = iconst 0x39a5844729cae3e308f36a5ce933956d7c6367997d26743ca06a70b77c062d58\n v5: u256 = wsub v1, v4\n sstore v5, v3\n \
     v6: u256 = iconst 0xc65a7bb8d6351c1cf70c95a316cc6a92839c986682d98bc35f958f4883f9d2a8\n v7: u2 = iconst 3\n v8: u256 = zext v7\n jump \
     block1(v6, v8, v0)\nblock1(v10: u256, v11: u256, v12: u1):\n v13: u256 = sload v10\n v14: u1 = iconst 1\n v15: u256 = wadd v10, v14\n v16: \
     u256 = wsub v11, v14\n v17: u256 = zext v12\n v18: u256 = or v13, v17\n v19: u1 = iszero v18\n v22: u1 = iszero v16\n brif v22, block2, block1(v15, v16, v19)\nblock2:\n \
     v20: u256 = wadd v1, v6\n v21: u256 = sload v20\n return_words 64, v18, v21\n}\n";

#[test]
fn hashing_programs_agree_with_the_interpreter() {
    let random = Word::MAX / Word::from(13);
    let small = Word::from(2);
    for (text, inputs) in [
        (CHAIN, vec![[random, Word::ZERO], [random, Word::from(3)], [Word::ZERO, small], [small, small]]),
        (BRANCHES, vec![[small, random], [random, small], [Word::ZERO, Word::MAX]]),
        (ARRAY, vec![[small, random], [Word::ZERO, small], [Word::from(u64::MAX), random]]),
    ] {
        let module = zvm_ir::parse(text).unwrap();
        let program = program(text);
        assert!(program.unprovable().is_empty());
        for words in inputs {
            let call = call(words);
            let native = interp::run(&module, interp::Call::new(&call.calldata, &call.env), &EmptyState).unwrap();
            let (outcome, _) = program.check(&call).unwrap_or_else(|error| panic!("{words:x?}: {error}"));
            assert_eq!(outcome, native, "{words:x?}");
        }
    }
}

/// Copies ten words of the calldata to memory and hashes bytes of it, whose place and number are the first words of the calldata, and the
/// hash of as many from the place 5 on.
fn bytes() -> String {
    let copied: String = (0..10)
        .map(|at| {
            let (offset, from, word) = (100 + 3 * at, 101 + 3 * at, 102 + 3 * at);
            format!(
                " v{from}: u9 = iconst {}\n v{offset}: u9 = iconst {}\n v{word}: u256 = calldataload v{from}\n mstore v{offset}, v{word}\n",
                64 + 32 * at,
                128 + 32 * at
            )
        })
        .collect();
    format!(
        "zvm 1\nentry @main\nfunc @main() {{\nblock0:\n v0: u1 = iconst 0\n v1: u6 = iconst 32\n v4: u256 = calldataload v0\n v5: u256 = \
         calldataload v1\n{copied} v7: u256 = keccak256 v4, v5 @0040\n v8: u3 = iconst 5\n mstore v8, v7\n v9: u256 = keccak256 v8, v5 \
         @0050\n v10: u256 = xor v7, v9\n return_words 64, v7, v10\n}}\n"
    )
}

/// Lengths and places on both sides of every edge: of words, of blocks, of the padding.
#[test]
fn bytes_of_any_number_are_hashed() {
    let text = bytes();
    let module = zvm_ir::parse(&text).unwrap();
    let program = program(&text);
    assert_eq!(program.unprovable().iter().filter(|exit| !exit.reason.is_limit()).count(), 0);
    assert_eq!(hash_regions(&program).len(), 1, "both hashes have one permutation");
    let data: Vec<Word> = (1..=10u64).map(|at| Word::MAX / Word::from(2 * at + 1)).collect();
    for (place, len) in [
        (128u64, 0u64),
        (128, 1),
        (129, 31),
        (159, 32),
        (131, 33),
        (160, 96),
        (133, 128),
        (128, 134),
        (128, 135),
        (134, 136),
        (130, 137),
        (140, 271),
        (128, 272),
        (151, 300),
        (10_000, 140),
    ] {
        let words: Vec<Word> = [Word::from(place), Word::from(len)].iter().chain(&data).copied().collect();
        let calldata: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
        let call = Call { calldata, ..Call::default() };
        let native = interp::run(&module, interp::Call::new(&call.calldata, &call.env), &EmptyState).unwrap();
        let (outcome, _) = program.check(&call).unwrap_or_else(|error| panic!("{place} {len}: {error}"));
        assert_eq!(outcome, native, "{place} {len}");
    }
}

#[test]
fn a_hash_is_a_region_that_a_plan_has_once() {
    let program = program(CHAIN);
    let regions = hash_regions(&program);
    let [hash] = regions[..] else { panic!("{:?}", program.rows()) };
    let others: u64 = program.rows().iter().filter(|(region, _)| *region != hash).map(|(_, rows)| rows).sum();
    assert!(others < 5_000, "{others} rows outside the hash");
    let slots = |plan: &Plan| plan.iter().filter(|&region| region == hash).count();
    // Without a profile, and with one, a step holds no second hash that its size has no room for.
    let target = 1 << 16;
    assert_eq!(slots(&Plan::default_for(&program, target)), 1);
    let execution = program.execute(&call([Word::MAX, Word::from(3)])).unwrap();
    // Where a step has no room for it, the others have slots, and an execution that hashes gets a plan of its own.
    let all = Plan::default_for(&program, target);
    let without = all.clone().within(program.rows(), 50_000);
    assert_eq!((slots(&without), without.regions().len()), (0, all.regions().len() - 1));
    assert_eq!(all.clone().within(program.rows(), u64::MAX), all);
    let schedule = schedule_with(&program, &without, &execution.trace, Limits::default()).unwrap();
    assert!(schedule.segments.iter().any(|segment| slots(&segment.plan) > 0));
    let plan = Plan::from_trace(&program, &execution.trace, target, 20_000);
    assert_eq!(slots(&plan), 1);
    assert_eq!(plan.steps(&execution.trace, 100).unwrap(), 3);
    assert!(plan.rows(program.rows()) < 100_000);
    // With room for all of them, all of them.
    let plan = Plan::from_trace(&program, &execution.trace, 1 << 19, 20_000);
    assert_eq!((slots(&plan), plan.steps(&execution.trace, 100).unwrap()), (3, 1));
    // An execution that does not hash does not pay for it.
    let execution = program.execute(&call([Word::MAX, Word::ZERO])).unwrap();
    let plan = Plan::from_trace(&program, &execution.trace, target, 20_000);
    assert_eq!(slots(&plan), 0);
}

#[test]
fn an_item_behind_the_end_of_every_array_has_no_key() {
    let program = program(ARRAY);
    let error = program.check(&call([Word::from(1) << 64, Word::MAX])).unwrap_err();
    assert!(matches!(error, CircuitError::Unprovable(_)), "{error}");
}

#[test]
fn a_hash_too_long_is_an_exit() {
    let words = ["v1"; 34].join(", ");
    let text = format!(
        "zvm 1\nentry @main\nfunc @main() {{\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u256 = keccak_words \
         1088, {words} @0042\n return_words 32, v2\n}}\n"
    );
    let error = program(&text).check(&call([Word::ZERO, Word::ZERO])).unwrap_err();
    let CircuitError::Unprovable(exit) = error else { panic!("{error}") };
    assert_eq!(exit.to_string(), "`keccak_words` at pc 0x0042: the circuit has no hashes of this length");
}

/// A proof whose steps a verifier would not build is not made.
#[test]
fn a_step_of_too_many_hashes_is_refused() {
    let program = program(CHAIN);
    let hash = hash_regions(&program)[0];
    let plan = Arc::new(Plan::new(std::iter::repeat_n(hash, 24)));
    let schedule = Schedule { segments: vec![Segment { plan, steps: 1 }] };
    let prepared = program.prepare(&[call([Word::MAX, Word::from(1)])], &EmptyState).unwrap();
    let mut progress = |_| ControlFlow::Continue(());
    let options = ProveOptions {
        kind: Kind::Recursive,
        cache: None,
        check: Check::EachStep,
        keep: None,
        progress: &mut progress,
    };
    let error = prove(&program, &schedule, prepared, options).map(drop).unwrap_err();
    assert!(matches!(error, CircuitError::StepSize(rows) if rows > 1 << 21), "{error}");
}

#[test]
fn no_value_of_a_hash_slot_is_free() {
    let program = program(CHAIN);
    let hash = hash_regions(&program)[0];
    let call = call([Word::MAX / Word::from(5), Word::from(1)]);
    let prepared = program.prepare::<Fr>(&[call], &EmptyState).unwrap();
    let prepared = prepared.cut(&program, Cut::Runs(100), &program.commitment(), 1).unwrap();
    let before: Vec<Region> = prepared.trace.iter().take_while(|&region| region != hash).collect();
    let mut feed = prepared.feed(0);
    let z = run_slots(&program, before, &mut feed, &prepared.initial_state(&program).unwrap()).unwrap().0;
    let mut cs = CheckCs::<Fr>::recording();
    let state = allocate_state(&mut cs, &program, &z).unwrap();
    let given = cs.aux_count();
    let mut chosen = Chosen::default();
    let mut slot = cs.namespace(|| "slot");
    let after = lower::slot(&mut slot, &program, hash, &state, Some(&mut feed), &mut chosen).unwrap();
    drop(slot);
    assert!(chosen.elements.is_empty() && chosen.ages.is_empty(), "a hash leaves nothing to the prover");
    for (index, lc) in after.into_elements().into_iter().enumerate() {
        let value = lc.value().unwrap();
        cs.enforce(
            || format!("z_out {index}"),
            |_| lc.to_bellpepper(),
            |lc| lc + CheckCs::<Fr>::one(),
            |lc| lc + (value, CheckCs::<Fr>::one()),
        );
    }
    assert_eq!(cs.verdict(), Ok(()));
    let rows = cs.rows_by_aux();
    let mut perturbed = 0;
    for (aux, touched) in rows.iter().enumerate().take(cs.aux_count()).skip(given) {
        for delta in [Fr::ONE, -Fr::from(0x1234_5678)] {
            assert!(cs.broken_by(aux, delta, touched).is_some(), "nothing forces {}", cs.aux_name(aux));
        }
        perturbed += 1;
    }
    assert!(perturbed as u64 > HASH_ROWS, "{perturbed}");
}

#[test]
fn a_proof_of_a_hash_says_that_hash() {
    if std::env::var_os("ZVM_SLOW").is_none() {
        eprintln!("skipped: folding a hash takes a minute; set ZVM_SLOW");
        return;
    }
    let program = program(CHAIN);
    let call = call([Word::MAX / Word::from(5), Word::from(2)]);
    let execution = program.execute(&call).unwrap();
    let plan = Plan::from_trace(&program, &execution.trace, 1 << 16, 20_000);
    let schedule = Schedule::single(plan, &execution.trace, 100).unwrap();
    let mut progress = |_| ControlFlow::Continue(());
    let options = ProveOptions {
        kind: Kind::Recursive,
        cache: None,
        check: Check::EachStep,
        keep: None,
        progress: &mut progress,
    };
    let prepared = program.prepare(&[call], &EmptyState).unwrap();
    let proved = prove(&program, &schedule, prepared, options).unwrap();
    assert_eq!(proved.facts.steps, 2);
    let bytes = proved.file.encode();
    let (statement, file) = verify(&bytes, &program, &Expected::default(), None).unwrap();
    assert_eq!(statement, proved.statement);
    assert_eq!(file.outcomes, execution.outcomes);
    // Another digest, another preimage, one hash less.
    type Change = fn(&mut zvm_backend_circuit::artifact::ProofFile);
    let changes: [Change; 4] = [
        |file| file.outcomes[0].data[31] ^= 1,
        |file| file.calls[0].calldata[0] ^= 1,
        |file| file.calls[0].calldata[63] = 1,
        |file| file.segments[0].steps = 1,
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut file = proved.file.clone();
        change(&mut file);
        assert!(verify(&file.encode(), &program, &Expected::default(), None).is_err(), "change {index}");
    }
}
