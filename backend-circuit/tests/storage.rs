//! Storage in circuits: batches of calls that read, write, log and fail, checked row by row.

mod batches;

use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::program::Program;
use zvm_ir::{EmptyState, Halt, Word};

#[test]
fn a_batch_reads_writes_and_takes_back() {
    let (program, calls, pre) = batches::counter();
    let (execution, checked) = program.check_all(&calls, &pre).unwrap();
    let halts: Vec<Halt> = execution.outcomes.iter().map(|outcome| outcome.halt).collect();
    assert_eq!(halts, [Halt::Return, Halt::Revert, Halt::Return, Halt::Revert, Halt::Revert, Halt::Return]);
    assert_eq!(execution.outcome().data, Word::from(115).to_be_bytes::<32>());
    assert!(checked.rows > 0);
}

#[test]
fn mappings_are_keyed_by_their_path() {
    let (program, calls, pre) = batches::token();
    assert_eq!(program.unprovable(), [], "nothing needs Keccak");
    let (execution, _) = program.check_all(&calls, &pre).unwrap();
    let returned = execution.outcomes.iter().filter(|outcome| outcome.halt == Halt::Return).count();
    assert_eq!(returned, 4);
}

#[test]
fn what_is_read_and_written_is_one_leaf() {
    let (program, calls, _) = batches::counter();
    let (execution, _) = program.check_all(&calls[..1], &EmptyState).unwrap();
    assert_eq!(execution.record.leaves.len(), 1);
}

/// A plan that nobody gave calls for repeats the loop's regions; those of the state are no part of any loop.
#[test]
fn a_loop_over_storage_has_a_plan_without_calls() {
    let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u4 = trunc \
         v1\n jump block1(v2)\nblock1(v3: u4):\n v4: u1 = iszero v3\n brif v4, block3, block2\nblock2:\n v5: u256 = sload v3\n \
         v6: u256 = wadd v5, v3\n sstore v3, v6\n v7: u1 = iconst 1\n v8: u4 = sub v3, v7\n jump block1(v8)\nblock3:\n stop\n}\n";
    let program = Program::compile(&zvm_ir::parse(text).unwrap()).unwrap();
    let all = Plan::default_for(&program, 1 << 16);
    let once = Plan::new(program.rows().keys());
    assert!(program.rows().keys().all(|region| all.iter().any(|other| other == region)), "every region has a slot");
    assert!(all.len() > once.len(), "the loop has more than one: {} and {}", all.len(), once.len());
}
