//! Whole slots: every private value, perturbed, breaks a row; slots do not run out of turn, and idle ones do not write.

use std::collections::BTreeSet;

use crate::batches::{cells, counter, lengths, memory, narrow, token};
use crate::random::Generator;
use bellpepper_core::ConstraintSystem;
use cranelift_entity::EntityRef;
use ff::Field;
use zvm_backend_circuit::check::{allocate_state, run_slots};
use zvm_backend_circuit::cs::CheckCs;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::lower::{self, Element, Features, LABEL};
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::region::Region;
use zvm_backend_circuit::replay::{Cut, Feed, Prepared};
use zvm_backend_circuit::system::System;
use zvm_backend_circuit::trace::Chosen;
use zvm_ir::{EmptyState, Word};

use super::Fr;

/// The recorded rows of one slot from state `z`, and how many variables the state takes.
fn record(program: &Program, region: Region, feed: &Feed<'_, Fr>, z: &[Fr]) -> (CheckCs<Fr>, usize) {
    let mut cs = CheckCs::recording();
    let state = allocate_state(&mut cs, program, z).unwrap();
    let given = cs.aux_count();
    let (mut feed, mut chosen) = (feed.clone(), Chosen::default());
    let mut slot = cs.namespace(|| region.to_string());
    let after = lower::slot(&mut slot, program, region, &state, Some(&mut feed), &mut chosen).unwrap();
    drop(slot);
    // The state after the slot is what the next slot starts from, and what the slot chose is hashed: tie both to their honest values.
    for (index, lc) in after.into_elements().into_iter().chain(chosen.into_hashed_lcs()).enumerate() {
        let value = lc.value().unwrap();
        cs.enforce(
            || format!("z_out {index}"),
            |_| lc.to_bellpepper(),
            |lc| lc + CheckCs::<Fr>::one(),
            |lc| lc + (value, CheckCs::<Fr>::one()),
        );
    }
    assert_eq!(cs.verdict(), Ok(()));
    (cs, given)
}

/// Perturbs every private value of the slot; gives the names of those that no row notices.
fn unnoticed(cs: &mut CheckCs<Fr>, given: usize) -> Vec<String> {
    let rows = cs.rows_by_aux();
    let mut free = Vec::new();
    for (aux, touched) in rows.iter().enumerate().take(cs.aux_count()).skip(given) {
        for delta in [Fr::ONE, -Fr::from(0x1234_5678)] {
            // A bit has another admissible value, but only one: taking it must break what the bit is a part of.
            if cs.broken_by(aux, delta, touched).is_none() {
                free.push(cs.aux_name(aux).to_string());
                break;
            }
        }
    }
    free
}

/// An inverse of zero is any field element: the only hint that is free by design.
fn is_free_by_design(name: &str) -> bool {
    name.ends_with("/inverse")
}

/// What perturbing the slots of an execution found.
#[derive(Default)]
struct Perturbed {
    values: usize,
    free_inverses: usize,
}

/// An execution in steps of one slot each.
fn cut(program: &Program, prepared: Prepared<Fr>) -> Prepared<Fr> {
    prepared.cut(program, Cut::Runs(1), &program.commitment(), u64::MAX).unwrap()
}

/// Perturbs the values of the slots of `prepared` for which `wanted` gives yes, each slot running and idle.
fn perturb(
    program: &Program,
    prepared: &Prepared<Fr>,
    found: &mut Perturbed,
    mut wanted: impl FnMut(usize, Region) -> bool,
) {
    let mut z = prepared.initial_state(program).unwrap();
    for (step, region) in prepared.trace.iter().enumerate() {
        let mut feed = prepared.feed(step);
        if wanted(step, region) {
            let (mut cs, given) = record(program, region, &feed, &z);
            for name in unnoticed(&mut cs, given) {
                assert!(is_free_by_design(&name), "step {step}: nothing forces {name}");
                found.free_inverses += 1;
            }
            found.values += cs.aux_count() - given;
            // The same slot idle, one label further.
            let mut idle = z.clone();
            idle[LABEL] = Fr::from(program.label(region) + 1);
            let (mut cs, given) = record(program, region, &feed, &idle);
            for name in unnoticed(&mut cs, given) {
                // The walk hashes nothing while it idles, and its rows hold with zeros. What nothing forces there touches neither the state
                // after the slot nor the advice, for both are tied.
                let walks = program.system(region).is_some_and(|system| system != System::Undo);
                assert!(is_free_by_design(&name) || walks, "step {step}: nothing forces {name} of an idle slot");
            }
        }
        z = run_slots(program, [region], &mut feed, &z).unwrap().0;
    }
}

#[test]
fn every_value_of_a_slot_is_forced() {
    let mut found = Perturbed::default();
    for seed in 200..212 {
        let mut generator = Generator::new(seed);
        let program = Program::compile(&generator.module()).unwrap();
        let call = Call { calldata: generator.calldata(), ..Call::default() };
        let Ok(prepared) = program.prepare(&[call], &EmptyState) else { continue };
        perturb(&program, &cut(&program, prepared), &mut found, |step, _| step < 6);
    }
    let Perturbed { values, free_inverses } = found;
    assert!(values > 5_000 && free_inverses < values / 10, "{free_inverses} of {values}");
}

/// Slots that begin and end calls of a program with a state, log, access storage, take back what failed, and walk through the
/// state tree: one of each kind that runs, and each kind of call.
#[test]
fn every_value_of_a_slot_with_a_state_is_forced() {
    let mut found = Perturbed::default();
    let mut kinds = BTreeSet::new();
    for (program, calls, pre) in [counter(), token(), cells(), memory(), narrow(), lengths()] {
        let prepared = cut(&program, program.prepare(&calls, &pre).unwrap());
        let mut seen = vec![0; program.slot_kinds()];
        perturb(&program, &prepared, &mut found, |_, region| {
            let seen = &mut seen[region.index()];
            *seen += 1;
            // The first of a kind and one more: places in a tree and in time differ.
            matches!(*seen, 1 | 3)
        });
        // What reads and writes at every place has ways for places that no call has.
        let is_whole = !program.features().calldata;
        for (at, &runs) in seen.iter().enumerate() {
            match program.system(Region::new(at)) {
                Some(system) if runs > 0 => _ = kinds.insert(system),
                Some(_) => {}
                None => assert!(runs > 0 || !is_whole, "region {at} never runs"),
            }
        }
    }
    let all = Features { data: true, calldata: true, logs: true, storage: true, storage_writes: true, memory: true };
    assert!(System::of(&all).iter().all(|system| kinds.contains(system)), "{kinds:?}");
    let Perturbed { values, free_inverses } = found;
    assert!(values > 50_000 && free_inverses < values / 10, "{free_inverses} of {values}");
}

#[test]
fn an_idle_slot_changes_nothing() {
    for seed in 300..320 {
        let mut generator = Generator::new(seed);
        let program = Program::compile(&generator.module()).unwrap();
        let call = Call { calldata: generator.calldata(), ..Call::default() };
        let prepared = Prepared::unexecuted(&program, &[call]).unwrap();
        // Registers full of junk that no execution leaves: an idle slot must not even look at it. Time is in range wherever a slot idles.
        let mut z: Vec<Fr> = (0..program.arity()).map(|at| -Fr::from(at as u64 + 2)).collect();
        if program.features().trace() {
            let elements = program.layout().len();
            z[..elements].copy_from_slice(&prepared.initial_state(&program).unwrap()[..elements]);
        }
        for region in program.regions().regions.keys() {
            z[LABEL] = Fr::from(region.label() + 1);
            let (after, _) = run_slots(&program, [region], &mut prepared.feed(0), &z).unwrap();
            assert_eq!(but_advice(&program, after), but_advice(&program, z.clone()), "seed {seed} {region}");
        }
    }
}

/// A state without the hash of the advice, which moves on with every step.
fn but_advice(program: &Program, mut z: Vec<Fr>) -> Vec<Fr> {
    if let Some(advice) = program.layout().place(Element::Advice) {
        z[advice] = Fr::ZERO;
    }
    z
}

/// The same of programs with a state, whose slots may idle anywhere in an execution; only the hash of the advice moves on.
#[test]
fn an_idle_slot_leaves_the_state_as_it_is() {
    // Of the kinds that idle, a third beside each that runs, in turns; all of them with `ZVM_SLOW=all`.
    let all = std::env::var_os("ZVM_SLOW").as_deref() == Some("all".as_ref());
    for (program, calls, pre) in [counter(), token(), narrow(), lengths()] {
        let prepared = cut(&program, program.prepare(&calls, &pre).unwrap());
        let advice = program.layout().place(Element::Advice).unwrap();
        let mut z = prepared.initial_state(&program).unwrap();
        let (mut ran, mut idled) = (BTreeSet::new(), BTreeSet::new());
        for (step, running) in prepared.trace.iter().enumerate() {
            if !ran.insert(running.index()) {
                // Slots idle once while each kind runs.
                z = run_slots(&program, [running], &mut prepared.feed(step), &z).unwrap().0;
                continue;
            }
            let mut junk = z.clone();
            for (at, register) in junk.iter_mut().enumerate().skip(program.layout().len()) {
                *register = -Fr::from(at as u64 + 2);
            }
            let (first, stride) = if all { (0, 1) } else { (ran.len() % 3, 3) };
            for region in (first..program.slot_kinds()).step_by(stride).map(Region::new) {
                junk[LABEL] = Fr::from(program.label(region) + 1);
                let (mut after, _) = run_slots(&program, [region], &mut prepared.feed(step), &junk).unwrap();
                after[advice] = junk[advice];
                assert_eq!(after, junk, "step {step} {region}");
                idled.insert(region.index());
            }
            z = run_slots(&program, [running], &mut prepared.feed(step), &z).unwrap().0;
        }
        assert_eq!(idled.len(), program.slot_kinds(), "every kind idles");
    }
}

/// A slot whose turn it is not cannot be made to run: with `active` set, the row `label` does not hold.
#[test]
fn a_slot_does_not_run_out_of_turn() {
    let mut generator = Generator::new(5);
    let program = Program::compile(&generator.module()).unwrap();
    let call = Call { calldata: generator.calldata(), ..Call::default() };
    out_of_turn(&program, &Prepared::unexecuted(&program, &[call]).unwrap());
    for (program, calls, pre) in [counter(), token()] {
        out_of_turn(&program, &cut(&program, program.prepare(&calls, &pre).unwrap()));
    }
}

fn out_of_turn(program: &Program, prepared: &Prepared<Fr>) {
    let z = prepared.initial_state(program).unwrap();
    for region in (1..program.slot_kinds()).map(Region::new) {
        let (mut cs, given) = record(program, region, &prepared.feed(0), &z);
        assert!(cs.aux_name(given).ends_with("active"));
        cs.assign(given, Fr::ONE);
        assert_eq!(cs.first_broken(), Some(format!("{region}/label").as_str()));
        cs.assign(given, Fr::from(2));
        assert_eq!(cs.first_broken(), Some(format!("{region}/active").as_str()));
    }
}

/// A state with a label outside the program runs nothing, ever.
#[test]
fn a_label_outside_the_program_is_stuck() {
    let mut generator = Generator::new(6);
    let program = Program::compile(&generator.module()).unwrap();
    let prepared = Prepared::<Fr>::unexecuted(&program, &[Call::default()]).unwrap();
    let mut z = prepared.initial_state(&program).unwrap();
    z[LABEL] = Fr::from(1_000_000);
    let all: Vec<Region> = program.regions().regions.keys().collect();
    let (after, _) = run_slots(&program, all, &mut prepared.feed(0), &z).unwrap();
    assert_eq!(but_advice(&program, after), but_advice(&program, z));
}

/// Runs the slot in which a call begins, of a call that cannot be proved.
fn run_first(program: &Program, call: Call) -> Result<(), CircuitError> {
    let prepared = Prepared::<Fr>::unexecuted(program, &[call])?;
    let entry = program.regions().regions.keys().next().unwrap();
    run_slots(program, [entry], &mut prepared.feed(0), &prepared.initial_state(program)?).map(drop)
}

/// An execution that reaches an unprovable exit is refused before proving with the exit's pc; and a prover who goes on all
/// the same meets a row that names it.
#[test]
fn an_unprovable_path_cannot_be_proved() {
    let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u1 = iszero \
         v1\n brif v2, block1, block2\nblock1:\n stop\nblock2:\n v3: u256 = tload v1 @0042\n return_words 32, v3\n}\n";
    let module = zvm_ir::parse(text).unwrap();
    let program = Program::compile(&module).unwrap();
    let provable = Call { calldata: vec![0; 32], ..Call::default() };
    program.check(&provable).unwrap();
    let call = Call { calldata: vec![1; 32], ..Call::default() };
    match program.execute(&call) {
        Err(CircuitError::Unprovable(exit)) => assert_eq!(exit.pc, Some(0x42)),
        other => panic!("{other:?}"),
    }
    match run_first(&program, call) {
        Err(CircuitError::Unsatisfied(blame)) => {
            assert!(blame.name.contains("unprovable @0042 tload"), "{}", blame.name)
        }
        other => panic!("{other:?}"),
    }
}

/// A place in memory beyond the limit, where the original runs out of gas, cannot be proved even if nothing is accessed there
/// any more: honest provers are told where, others meet a row.
#[test]
fn a_place_beyond_the_limit_of_memory_cannot_be_proved() {
    let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u27 = \
         bound 32, v1 @0042\n v3: u28 = add v2, v2\n return_words 32, v3\n}\n";
    let program = Program::compile(&zvm_ir::parse(text).unwrap()).unwrap();
    let call = |place: Word| Call { calldata: place.to_be_bytes::<32>().to_vec(), ..Call::default() };
    let last = Word::from(zvm_ir::memory::MEMORY_LIMIT - 32);
    for place in [Word::ZERO, Word::from(7), last] {
        program.check(&call(place)).unwrap();
    }
    for place in [last + Word::from(1), Word::from(1) << 27, Word::from(1) << 128, Word::MAX] {
        match program.execute(&call(place)) {
            Err(CircuitError::Unprovable(exit)) => assert_eq!(exit.pc, Some(0x42)),
            other => panic!("{other:?}"),
        }
        match run_first(&program, call(place)) {
            Err(CircuitError::Unsatisfied(blame)) => {
                assert!(blame.name.contains("unprovable @0042 bound"), "{}", blame.name)
            }
            other => panic!("{other:?}"),
        }
    }
}
