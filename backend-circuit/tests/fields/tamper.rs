//! Whole slots: every private value, perturbed, breaks a row; slots do not run out of turn, and idle ones do not write.

use crate::random::Generator;
use bellpepper_core::ConstraintSystem;
use ff::Field;
use zvm_backend_circuit::check::{allocate_state, run_slots};
use zvm_backend_circuit::cs::CheckCs;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::lower::{self, LABEL};
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::region::Region;
use zvm_backend_circuit::statement;
use zvm_ir::Word;

use super::Fr;

/// The recorded rows of one slot from state `z`, and how many variables the state takes.
fn record(program: &Program, region: Region, call: &Call, z: &[Fr]) -> (CheckCs<Fr>, usize) {
    let mut cs = CheckCs::recording();
    let state = allocate_state(&mut cs, z).unwrap();
    let given = cs.aux_count();
    let after = lower::slot(&mut cs.namespace(|| region.to_string()), program, region, &state, Some(call)).unwrap();
    // The state after the slot is what the next slot starts from: tie it to its honest value.
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

#[test]
fn every_value_of_a_slot_is_forced() {
    let (mut perturbed, mut free_inverses) = (0, 0);
    for seed in 200..212 {
        let mut generator = Generator::new(seed);
        let program = Program::compile(&generator.module()).unwrap();
        let call = Call { calldata: generator.calldata(), ..Call::default() };
        let Ok(execution) = program.execute(&call) else { continue };
        let mut z = statement::initial_state::<Fr>(&program, &call);
        for region in execution.trace.iter().take(6) {
            let (mut cs, given) = record(&program, region, &call, &z);
            for name in unnoticed(&mut cs, given) {
                assert!(is_free_by_design(&name), "seed {seed}: nothing forces {name}");
                free_inverses += 1;
            }
            perturbed += cs.aux_count() - given;
            // The same slot idle, one label further.
            let mut idle = z.clone();
            idle[LABEL] = Fr::from(region.label() + 1);
            let (mut cs, given) = record(&program, region, &call, &idle);
            for name in unnoticed(&mut cs, given) {
                assert!(is_free_by_design(&name), "seed {seed}: nothing forces {name} of an idle slot");
            }
            z = run_slots(&program, [region], &call, z).unwrap().0;
        }
    }
    assert!(perturbed > 5_000 && free_inverses < perturbed / 10, "{free_inverses} of {perturbed}");
}

#[test]
fn an_idle_slot_changes_nothing() {
    for seed in 300..320 {
        let mut generator = Generator::new(seed);
        let program = Program::compile(&generator.module()).unwrap();
        let call = Call { calldata: generator.calldata(), ..Call::default() };
        // Registers full of junk that no execution leaves: an idle slot must not even look at it.
        let mut z: Vec<Fr> = (0..program.arity()).map(|at| -Fr::from(at as u64 + 2)).collect();
        for region in program.regions().regions.keys() {
            z[LABEL] = Fr::from(region.label() + 1);
            let (after, _) = run_slots(&program, [region], &call, z.clone()).unwrap();
            assert_eq!(after, z, "seed {seed} {region}");
        }
    }
}

/// A slot whose turn it is not cannot be made to run: with `active` set, the row `label` does not hold.
#[test]
fn a_slot_does_not_run_out_of_turn() {
    let mut generator = Generator::new(5);
    let program = Program::compile(&generator.module()).unwrap();
    let call = Call { calldata: generator.calldata(), ..Call::default() };
    let z = statement::initial_state::<Fr>(&program, &call);
    for region in program.regions().regions.keys().skip(1) {
        let (mut cs, given) = record(&program, region, &call, &z);
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
    let call = Call::default();
    let mut z = statement::initial_state::<Fr>(&program, &call);
    z[LABEL] = Fr::from(1_000_000);
    let all: Vec<Region> = program.regions().regions.keys().collect();
    assert_eq!(run_slots(&program, all, &call, z.clone()).unwrap().0, z);
}

/// An execution that reaches an unprovable exit is refused before proving with the exit's pc; and a prover who goes on all
/// the same meets a row that names it.
#[test]
fn an_unprovable_path_cannot_be_proved() {
    let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u1 = iszero \
         v1\n brif v2, block1, block2\nblock1:\n stop\nblock2:\n v3: u256 = sload v1 @0042\n return_words 32, v3\n}\n";
    let module = zvm_ir::parse(text).unwrap();
    let program = Program::compile(&module).unwrap();
    let provable = Call { calldata: vec![0; 32], ..Call::default() };
    program.check(&provable).unwrap();
    let call = Call { calldata: vec![1; 32], ..Call::default() };
    match program.execute(&call) {
        Err(CircuitError::Unprovable(exit)) => assert_eq!(exit.pc, Some(0x42)),
        other => panic!("{other:?}"),
    }
    let z = statement::initial_state::<Fr>(&program, &call);
    match run_slots(&program, program.regions().regions.keys().take(1), &call, z) {
        Err(CircuitError::Unsatisfied(blame)) => {
            assert!(blame.name.contains("unprovable @0042 sload"), "{}", blame.name)
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
        let z = statement::initial_state::<Fr>(&program, &call(place));
        match run_slots(&program, program.regions().regions.keys().take(1), &call(place), z) {
            Err(CircuitError::Unsatisfied(blame)) => {
                assert!(blame.name.contains("unprovable @0042 bound"), "{}", blame.name)
            }
            other => panic!("{other:?}"),
        }
    }
}
