//! Any plan proves any execution: random programs under random plans, each step's rows checked, idle slots included, and
//! the states chained as folding chains them.

use std::sync::Arc;

use crate::batches::{counter, token};
use crate::random::{Generator, Rng};
use cranelift_entity::EntityRef;
use zvm_backend_circuit::check::{run_slots, run_steps};
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::lower::{Element, LABEL};
use zvm_backend_circuit::nova::Check;
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::planner::{self, Limits, Model};
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::region::Region;
use zvm_backend_circuit::replay::{Cut, Prepared};
use zvm_backend_circuit::schedule::{Schedule, Segment, simulate};
use zvm_backend_circuit::step::StepCircuit;
use zvm_backend_circuit::witness::Recorded;
use zvm_ir::{EmptyState, Word};

use super::Fr;

/// Every kind of slot of the program at least once, in random order, some several times.
fn random_plan(program: &Program, rng: &mut Rng) -> Plan {
    let count = program.slot_kinds();
    let mut regions: Vec<Region> = (0..count).map(Region::new).collect();
    regions.extend((0..rng.below(count + 3)).map(|_| Region::new(rng.below(count))));
    for at in (1..regions.len()).rev() {
        regions.swap(at, rng.below(at + 1));
    }
    Plan::new(regions)
}

#[test]
fn any_plan_proves_any_execution() {
    let mut steps_seen = 0;
    for seed in 100..140 {
        let mut generator = Generator::new(seed);
        let module = generator.module();
        let program = Program::compile(&module).unwrap();
        let call = Call { calldata: generator.calldata(), ..Call::default() };
        let prepared = match program.prepare::<Fr>(&[call], &EmptyState) {
            Ok(prepared) => prepared,
            Err(CircuitError::Unprovable(_)) => continue,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        for _ in 0..2 {
            let plan = random_plan(&program, &mut generator.rng);
            steps_seen += planned(&program, &plan, &prepared, &format!("seed {seed}\n{module}"));
        }
    }
    assert!(steps_seen > 60, "{steps_seen} steps");
}

/// Runs an execution in the steps of a plan; gives how many there are.
fn planned(program: &Program, plan: &Plan, prepared: &Prepared<Fr>, what: &str) -> u64 {
    // What a file holds of it is enough for a verifier to have it.
    assert_eq!(Plan::from_numbers(program, &plan.to_numbers()).as_ref(), Some(plan), "{what}");
    assert_eq!(Plan::from_numbers(program, &[(program.slot_kinds() as u32, 1)]), None, "{what}");
    let steps = plan.steps(&prepared.trace, 10_000).unwrap();
    let prepared = prepared.clone().cut(program, Cut::Plan(plan), &program.circuit_digest(plan), steps).unwrap();
    let start = prepared.initial_state(program).unwrap();
    let states = run_steps(program, plan, &prepared, start, steps)
        .unwrap_or_else(|error| panic!("plan {plan:?}: {error}, {what}"));
    assert_eq!(states.len() as u64, steps, "predicted and real steps: {what}");
    let end = states.last().unwrap();
    prepared.statement(program).unwrap().check_final_state(program, prepared.advice, end).unwrap();
    // More steps change nothing, but that more advice is hashed.
    let mut feed = prepared.feed(states.len());
    let (mut after, _) = run_slots(program, plan.iter().collect::<Vec<_>>(), &mut feed, end).unwrap();
    if let Some(advice) = program.layout().place(Element::Advice) {
        assert_ne!(after[advice], end[advice], "a step after the last hashes nothing: {what}");
        after[advice] = end[advice];
    }
    assert_eq!(&after, end, "a step after the last: {what}");
    steps
}

/// The same of batches of calls that touch a state, where the walk through the state tree chooses among slots.
#[test]
fn any_plan_proves_any_batch() {
    let mut rng = Rng::new(17);
    let mut steps_seen = 0;
    for (program, calls, pre) in [counter(), token()] {
        let prepared = program.prepare::<Fr>(&calls, &pre).unwrap();
        for _ in 0..4 {
            let plan = random_plan(&program, &mut rng);
            steps_seen += planned(&program, &plan, &prepared, "a batch");
        }
    }
    assert!(steps_seen > 60, "{steps_seen} steps");
}

#[test]
fn a_plan_without_a_needed_region_is_named() {
    let mut generator = Generator::new(3);
    let program = Program::compile(&generator.module()).unwrap();
    let call = Call { calldata: generator.calldata(), ..Call::default() };
    let execution = program.execute(&call).unwrap();
    let last = execution.trace.iter().last().unwrap();
    let plan = Plan::new(execution.trace.iter().filter(|&region| region != last));
    match plan.steps(&execution.trace, 1000) {
        Err(CircuitError::PlanLacks(region)) => assert_eq!(region, last),
        other => panic!("{other:?}"),
    }
}

/// The label of every state is one of the program's regions or none.
#[test]
fn labels_stay_inside_the_program() {
    let mut generator = Generator::new(7);
    let program = Program::compile(&generator.module()).unwrap();
    let call = Call { calldata: generator.calldata(), ..Call::default() };
    let plan = random_plan(&program, &mut generator.rng);
    let prepared = program.prepare::<Fr>(&[call], &EmptyState).unwrap();
    let prepared = prepared.cut(&program, Cut::Plan(&plan), &program.circuit_digest(&plan), 10_000).unwrap();
    let start = prepared.initial_state(&program).unwrap();
    for state in run_steps(&program, &plan, &prepared, start, 10_000).unwrap() {
        let known = (0..=program.regions().regions.len() as u64).any(|label| state[LABEL] == label.into());
        assert!(known, "{:?}", state[LABEL]);
    }
}

/// Folds nothing: checks that each step of each segment is satisfied, idle slots included, and chains the states as a verifier does.
fn mock_fold(program: &Program, schedule: &Schedule, prepared: &Arc<Prepared<Fr>>) -> Result<Vec<Fr>, CircuitError> {
    let program = Arc::new(program.clone());
    let mut z = prepared.initial_state(&program)?;
    let mut step = 0;
    for Segment { plan, steps } in &schedule.segments {
        let circuit = StepCircuit::shape(&program, plan);
        let recorded = Recorded::new(&circuit)?;
        for _ in 0..*steps {
            let witness = recorded.witness(&circuit.with_input(prepared, step), &z, Check::EachStep)?;
            assert_eq!(witness.before(), z);
            z = witness.after().to_vec();
            step += 1;
        }
    }
    Ok(z)
}

/// Random chains of random plans, and the planner's own: the simulator says how many steps there are, what runs of them, and that
/// is what happens.
#[test]
fn any_schedule_proves_any_execution() {
    let (mut several, mut planned) = (0, 0);
    for seed in 500..530 {
        let mut generator = Generator::new(seed);
        let module = generator.module();
        let program = Program::compile(&module).unwrap();
        let call = Call { calldata: generator.calldata(), ..Call::default() };
        let prepared = match program.prepare::<Fr>(&[call], &EmptyState) {
            Ok(prepared) => prepared,
            Err(CircuitError::Unprovable(_)) => continue,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        let trace = &prepared.trace;
        let mut cuts: Vec<u64> = (0..3).map(|_| generator.rng.below(trace.len() as usize) as u64).collect();
        cuts.sort_unstable();
        let plans: Vec<(Plan, u64)> =
            cuts.iter().map(|&until| (random_plan(&program, &mut generator.rng), until)).collect();
        let random = Schedule::chain(&plans, trace, 10_000).unwrap();
        several += usize::from(random.segments.len() > 1);
        let limits = Limits { rows_per_step: generator.rng.chance(50).then_some(3_000), ..Limits::default() };
        let (chosen, estimate) = planner::schedule(&program, trace, limits).unwrap();
        assert_eq!(estimate.simulation, simulate(&chosen, trace, program.rows()).unwrap());
        planned += estimate.simulation.steps;
        for schedule in [random, chosen] {
            let simulation = simulate(&schedule, trace, program.rows()).unwrap();
            assert_eq!(simulation.steps, schedule.steps(), "seed {seed}");
            assert_eq!(simulation.slots_run, trace.len(), "seed {seed}: each region of the trace runs once");
            assert_eq!(simulation.rows, schedule.rows(program.rows()), "seed {seed}");
            let cut = Cut::Schedule(&schedule);
            let prepared = prepared.clone().cut(&program, cut, &schedule.digest(&program), 10_000).unwrap();
            let prepared = Arc::new(prepared);
            let statement = prepared.statement(&program).unwrap();
            let end = mock_fold(&program, &schedule, &prepared)
                .unwrap_or_else(|error| panic!("seed {seed}, {schedule:?}: {error}\n{module}"));
            statement.check_final_state(&program, prepared.advice, &end).unwrap();
            // A step less is not enough.
            let mut shorter = schedule.clone();
            shorter.segments.last_mut().unwrap().steps -= 1;
            assert!(matches!(simulate(&shorter, trace, program.rows()), Err(CircuitError::PlanLacks(_))));
            let end = mock_fold(&program, &shorter, &prepared).unwrap();
            assert!(statement.check_final_state(&program, prepared.advice, &end).is_err(), "seed {seed}");
        }
    }
    assert!(several > 5 && planned > 20, "{several} chains of several segments, {planned} steps planned");
}

/// Two loops one after the other, with nothing in common: one plan would idle half of the time.
const PHASES: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u16 = iconst \
     65535\n v3: u16 = and v1, v2\n jump block1(v3, v1)\nblock1(v6: u16, v7: u256):\n v8: u1 = iszero v6\n brif v8, block2(v3, v7), \
     block3\nblock3:\n v9: u1 = iconst 1\n v10: u16 = sub v6, v9\n v11: u256 = wmul v7, v1\n jump block1(v10, v11)\nblock2(v12: \
     u16, v13: u256):\n v14: u1 = iszero v12\n brif v14, block4, block5\nblock5:\n v15: u1 = iconst 1\n v16: u16 = sub v12, v15\n \
     v17: u256 = udiv v13, v1\n v18: u256 = not v17\n jump block2(v16, v18)\nblock4:\n return_words 32, v13\n}\n";

#[test]
fn phases_get_segments_of_their_own() {
    let program = Program::compile(&zvm_ir::parse(PHASES).unwrap()).unwrap();
    let call = |count: u64| Call { calldata: Word::from(count).to_be_bytes::<32>().to_vec(), ..Call::default() };
    let long = program.execute(&call(30_000)).unwrap().trace;
    let (schedule, estimate) = planner::schedule(&program, &long, Limits::default()).unwrap();
    assert_eq!(schedule.segments.len(), 2, "{schedule:?}");
    assert!(estimate.simulation.utilisation() > 0.95, "{estimate:?}");
    let (_, whole) = planner::plan(&program, &[long], Limits::default()).unwrap();
    assert!(whole.simulation.utilisation() < 0.8, "{whole:?}");
    // What is done in a few steps is not cut.
    let short = program.execute(&call(20)).unwrap().trace;
    let (schedule, _) = planner::schedule(&program, &short, Limits::default()).unwrap();
    assert_eq!(schedule.segments.len(), 1, "{schedule:?}");
}

/// A stated budget bounds the steps; the same trace gives the same plan.
#[test]
fn plans_keep_to_their_limits_and_are_the_same_each_time() {
    let program = Program::compile(&zvm_ir::parse(PHASES).unwrap()).unwrap();
    let call = Call { calldata: Word::from(5_000).to_be_bytes::<32>().to_vec(), ..Call::default() };
    let trace = program.execute(&call).unwrap().trace;
    let model = Model::default();
    for memory_bytes in [256 << 20, 512 << 20, 1 << 30, 4 << 30] {
        let limits = Limits { memory_bytes: Some(memory_bytes), rows_per_step: None };
        let (schedule, estimate) = planner::schedule(&program, &trace, limits).unwrap();
        assert!(estimate.memory_bytes <= memory_bytes, "{estimate:?}");
        for segment in &schedule.segments {
            assert!(model.memory(segment.plan.rows(program.rows())) <= memory_bytes);
        }
        assert_eq!(planner::schedule(&program, &trace, limits).unwrap(), (schedule, estimate));
    }
    // Less than one slot of each region takes is refused, with what it takes; that much is enough.
    for allowed in [0, 1, 130 << 20] {
        let limits = Limits { memory_bytes: Some(allowed), rows_per_step: Some(1 << 20) };
        let refused = planner::schedule(&program, &trace, limits).unwrap_err();
        let CircuitError::Memory { needed, allowed: said } = refused else { panic!("{refused}") };
        assert_eq!(said, allowed);
        let limits = Limits { memory_bytes: Some(needed), ..limits };
        assert!(planner::schedule(&program, &trace, limits).unwrap().1.memory_bytes <= needed);
        let limits = Limits { memory_bytes: Some(needed - 1), ..limits };
        assert!(matches!(planner::schedule(&program, &trace, limits), Err(CircuitError::Memory { .. })));
    }
    let limits = Limits { rows_per_step: Some(20_000), ..Limits::default() };
    let (schedule, _) = planner::schedule(&program, &trace, limits).unwrap();
    for segment in &schedule.segments {
        assert!(segment.plan.rows(program.rows()) <= 20_000 + 2_000, "{}", segment.plan.rows(program.rows()));
    }
}
