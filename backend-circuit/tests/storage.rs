//! Storage in circuits: batches of calls that read, write, log and fail, checked row by row.

mod batches;

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
