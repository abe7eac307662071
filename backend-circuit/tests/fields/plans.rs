//! Any plan proves any execution: random programs under random plans, each step's rows checked, idle slots included, and
//! the states chained as folding chains them.

use crate::random::{Generator, Rng};
use cranelift_entity::EntityRef;
use zvm_backend_circuit::check::run_steps;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::lower::LABEL;
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::region::Region;
use zvm_backend_circuit::statement;

use super::Fr;

/// Every region of the program at least once, in random order, some several times.
fn random_plan(program: &Program, rng: &mut Rng) -> Plan {
    let count = program.regions().regions.len();
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
        let execution = match program.execute(&call) {
            Ok(execution) => execution,
            Err(CircuitError::Unprovable(_)) => continue,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        let start = statement::initial_state::<Fr>(&program, &call);
        for _ in 0..2 {
            let plan = random_plan(&program, &mut generator.rng);
            let steps = plan.steps(&execution.trace, 10_000).unwrap();
            let states = run_steps(&program, &plan, &call, start.clone(), steps)
                .unwrap_or_else(|error| panic!("seed {seed}, plan {plan:?}: {error}\n{module}"));
            assert_eq!(states.len() as u64, steps, "seed {seed}: predicted and real steps");
            let end = states.last().unwrap();
            statement::check_final_state(&program, &call, &execution.outcome, end).unwrap();
            // More steps change nothing.
            let (after, _) = zvm_backend_circuit::check::run_slots(&program, plan.iter(), &call, end.clone()).unwrap();
            assert_eq!(&after, end, "seed {seed}: a step after the last");
            steps_seen += steps;
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
    let start = statement::initial_state::<Fr>(&program, &call);
    let plan = random_plan(&program, &mut generator.rng);
    for state in run_steps(&program, &plan, &call, start, 10_000).unwrap() {
        let known = (0..=program.regions().regions.len() as u64).any(|label| state[LABEL] == label.into());
        assert!(known, "{:?}", state[LABEL]);
    }
}
