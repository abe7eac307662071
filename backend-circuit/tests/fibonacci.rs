//! The benchmark loop: its rows per iteration are the project's first measure.

use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::program::Program;
use zvm_ir::{Halt, Word};

/// The public benchmark `fibonacci-calldata` as the optimiser leaves it.
const FIBONACCI: &str = include_str!("programs/fibonacci.zvm");

fn program() -> Program {
    let module = zvm_ir::parse(FIBONACCI).unwrap();
    Program::compile(&module).unwrap()
}

fn call(n: u64) -> Call {
    Call { calldata: Word::from(n).to_be_bytes::<32>().to_vec(), ..Call::default() }
}

#[test]
fn an_iteration_takes_at_most_290_rows() {
    let program = program();
    let rows: Vec<u64> = program.rows().values().copied().collect();
    assert_eq!(rows, [1128, 274, 444], "entry, loop, halt");
    assert_eq!(program.arity(), 3 + 6, "three words and no more");
    // All rows of a step by the iterations in it.
    let execution = program.execute(&call(20_000)).unwrap();
    let plan = Plan::from_trace(&program, &execution.trace, 1 << 16, 10_000);
    let iterations = plan.slots().iter().map(|slots| u64::from(slots.count)).max().unwrap();
    assert!(plan.rows(program.rows()) <= 290 * iterations, "{plan:?}");
    let steps = plan.steps(&execution.trace, 1000).unwrap();
    assert_eq!(steps, 20_001u64.div_ceil(iterations));
}

#[test]
fn numbers_are_right_modulo_the_word() {
    let program = program();
    let mut pair = (Word::ZERO, Word::from(1));
    for n in 0..400u64 {
        if [0, 1, 2, 186, 369, 370, 371, 399].contains(&n) {
            let (outcome, checked) = program.check(&call(n)).unwrap();
            assert_eq!(outcome.halt, Halt::Return);
            assert_eq!(outcome.data, pair.0.to_be_bytes::<32>(), "n = {n}");
            assert_eq!(checked.slots, n + 3);
        }
        pair = (pair.1, pair.0.wrapping_add(pair.1));
    }
}
