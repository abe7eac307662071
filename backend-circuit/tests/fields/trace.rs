//! Provers who lie about what the state holds, and tell all that follows from the lie: advice, challenges and sums are those of the lie, and
//! every row that can hold does.

use std::sync::Arc;

use zvm_backend_circuit::check::run_slots;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::{Execution, Trace};
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::replay::{Cut, Prepared};
use zvm_backend_circuit::statement::StateError;
use zvm_backend_circuit::system::System;
use zvm_backend_circuit::trace::access::Consumed;
use zvm_backend_circuit::trace::record::{Item, Record};
use zvm_ir::{Halt, Word};

use super::Fr;
use crate::batches::{
    Batch, NARROW_ACCESSES, Slots, TRANSIENT_ACCESSES, cells, counter, lengths, memory, narrow, recursion, token,
    transient,
};

/// What gives a lie away.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    /// The last part of the name of the first row that does not hold.
    Row(String),
    State(StateError),
}

/// Proves an execution from the state `pre`, whatever it says.
fn prove(program: &Program, execution: Execution, pre: &Slots) -> Found {
    let slots = pre.0.iter().map(|(&slot, &value)| (slot, value));
    let prepared = Prepared::<Fr>::from_slots(program, &Arc::new(execution), slots).unwrap();
    let prepared = prepared.cut(program, Cut::Runs(1), &program.commitment(), u64::MAX).unwrap();
    let mut z = prepared.initial_state(program).unwrap();
    for (step, region) in prepared.trace.iter().enumerate() {
        match run_slots(program, [region], &mut prepared.feed(step), &z) {
            Ok((after, _)) => z = after,
            Err(CircuitError::Unsatisfied(broken)) => {
                return Found::Row(broken.name.rsplit('/').next().unwrap().to_owned());
            }
            Err(error) => panic!("{error}"),
        }
    }
    match prepared.statement(program).unwrap().check_final_state(program, prepared.advice, &z) {
        Ok(()) => Found::Nothing,
        Err(error) => Found::State(error),
    }
}

fn lie(batch: &Batch, change: impl FnOnce(&mut Execution)) -> Found {
    let (program, calls, pre) = batch;
    let mut execution = program.execute_all(calls, pre).unwrap();
    let honest = execution.clone();
    change(&mut execution);
    assert_ne!(execution, honest, "nothing was altered");
    prove(program, execution, pre)
}

fn accessed(record: &mut Record, at: usize) -> &mut Consumed {
    let mut accesses = record.items.iter_mut().filter_map(|item| match item {
        Item::Access(_, consumed, _) => Some(consumed),
        Item::Undo(..) | Item::Lookup(..) => None,
    });
    accesses.nth(at).unwrap()
}

fn undone(record: &mut Record) -> &mut zvm_backend_circuit::trace::record::Undo {
    let undo = record.items.iter_mut().find_map(|item| match item {
        Item::Undo(undo, _) => Some(undo),
        Item::Access(..) | Item::Lookup(..) => None,
    });
    undo.unwrap()
}

#[test]
fn the_truth_is_proved() {
    for (program, calls, pre) in [counter(), token(), cells(), memory(), lengths(), recursion()] {
        let execution = program.execute_all(&calls, &pre).unwrap();
        assert_eq!(prove(&program, execution, &pre), Found::Nothing);
    }
}

/// An execution from another state than the root's: it reads what was never written, and all it does follows from that.
#[test]
fn what_was_never_written_is_not_read() {
    for (program, calls, pre) in [counter(), token()] {
        let mut other = Slots(pre.0.clone());
        *other.0.values_mut().next().unwrap() += Word::from(1);
        let mut execution = program.execute_all(&calls, &other).unwrap();
        for leaf in &mut execution.record.leaves {
            leaf.first = pre.0.get(&leaf.slot).copied().unwrap_or_default();
        }
        assert_eq!(prove(&program, execution, &pre), Found::State(StateError::Sum));
    }
}

#[test]
fn an_access_consumes_what_the_last_one_left() {
    let batch = counter();
    let sum = Found::State(StateError::Sum);
    // The first write consumes again what the first read has consumed; the second call reads what the first one found.
    assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, 1).time = 0), sum);
    assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, 3).time -= 1), sum);
    for at in [1, 3, 5] {
        assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, at).value += Word::from(1)), sum);
        assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, at).value = Word::MAX), sum);
    }
    // What will be left is not there yet, nor is what the access itself leaves.
    let age = |found: Found| matches!(found, Found::Row(_));
    assert!(age(lie(&batch, |execution| accessed(&mut execution.record, 1).time += 1)));
    assert!(age(lie(&batch, |execution| accessed(&mut execution.record, 1).time = u32::MAX)));
}

#[test]
fn what_fails_is_taken_back() {
    let batch = counter();
    let sum = Found::State(StateError::Sum);
    assert_eq!(lie(&batch, |execution| undone(&mut execution.record).before += Word::from(1)), sum);
    assert_eq!(lie(&batch, |execution| undone(&mut execution.record).slot += Word::from(1)), sum);
    assert_eq!(lie(&batch, |execution| undone(&mut execution.record).now.value += Word::from(1)), sum);
    assert_eq!(lie(&batch, |execution| undone(&mut execution.record).now.time -= 1), sum);
    // Without taking it back, nothing can follow.
    let (program, ..) = &batch;
    let without = |execution: &mut Execution| {
        let undo = program.system_region(System::Undo).unwrap();
        let mut trace = Trace::default();
        execution.trace.iter().filter(|&region| region != undo).for_each(|region| trace.push(region));
        execution.trace = trace;
    };
    assert_eq!(lie(&batch, without), Found::State(StateError::Label));
}

/// Whether a call fails is said when it begins, and checked when it ends.
#[test]
fn a_call_fails_if_it_says_so() {
    let batch = counter();
    let failing = Found::Row("failing".to_owned());
    assert_eq!(lie(&batch, |execution| execution.outcomes[0].halt = Halt::Revert), failing);
    assert_eq!(lie(&batch, |execution| execution.outcomes[1].halt = Halt::Return), failing);
}

/// The root afterwards is that of what was written last, and every slot that was accessed is visited.
#[test]
fn the_walk_takes_what_is_left() {
    let sum = Found::State(StateError::Sum);
    for batch in [counter(), token()] {
        let leaves = batch.0.execute_all(&batch.1, &batch.2).unwrap().record.leaves.len();
        for at in 0..leaves {
            assert_eq!(lie(&batch, |execution| execution.record.leaves[at].last.value += Word::from(1)), sum);
            assert_eq!(lie(&batch, |execution| execution.record.leaves[at].last.time -= 1), sum);
            assert_eq!(lie(&batch, |execution| _ = execution.record.leaves.remove(at)), sum);
        }
    }
}

/// A word of memory is what was last written there in its call, and zero before; every cell is closed.
#[test]
fn memory_is_what_was_written() {
    let sum = Found::State(StateError::Sum);
    let batch = memory();
    let (program, calls, pre) = &batch;
    for at in 0..2 * calls.len() {
        let found = lie(&batch, |execution| {
            accessed(&mut execution.record, at).value += Word::from(1);
            // Each call stores and loads, and returns what it loads.
            execution.outcomes[at / 2].data[31] += (at % 2) as u8;
        });
        assert_eq!(found, sum, "access {at}");
    }
    // The third call reads what it wrote, not what the second left in that place; the fourth what nobody wrote in it.
    assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, 5).time = 3), sum);
    assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, 7).time = 6), sum);
    let cells = program.execute_all(calls, pre).unwrap().record.memory.len();
    for at in 0..cells {
        assert_eq!(lie(&batch, |execution| execution.record.memory[at].1.value += Word::from(1)), sum);
        assert_eq!(lie(&batch, |execution| execution.record.memory[at].1.time += 1), sum);
        assert_eq!(lie(&batch, |execution| execution.record.memory[at].0 += 1), sum);
        assert_eq!(lie(&batch, |execution| _ = execution.record.memory.remove(at)), sum);
    }
    // No cell is opened twice.
    let twice = lie(&batch, |execution| {
        let cell = execution.record.memory[1];
        execution.record.memory.insert(1, cell);
    });
    assert!(matches!(twice, Found::Row(_)), "{twice:?}");
}

/// The words of calldata that are read at computed places are those of the calldata, each from where it stands.
#[test]
fn calldata_are_what_the_call_has() {
    let sum = Found::State(StateError::Sum);
    let batch = lengths();
    let (program, calls, pre) = &batch;
    let honest = program.execute_all(calls, pre).unwrap();
    let lookups: Vec<usize> =
        (0..honest.record.items.len()).filter(|&at| matches!(honest.record.items[at], Item::Lookup(..))).collect();
    assert!(lookups.len() > 20, "{} words are read at computed places", lookups.len());
    // A proof of the whole batch for each lie: some of them, of every call.
    for &at in lookups.iter().step_by(5) {
        for change in [Word::from(1), Word::from(1) << 200] {
            let found = lie(&batch, |execution| match &mut execution.record.items[at] {
                Item::Lookup(_, word) => *word ^= change,
                _ => unreachable!(),
            });
            // What is read is stored and hashed too: that is as wrong as the sum.
            assert!(found == sum || found == Found::State(StateError::Outcome), "{found:?}");
        }
    }
    // Each word counts as often as it was read: of the first block, and of those after it.
    for (call, reads) in honest.record.reads.iter().enumerate() {
        for at in (0..reads.len()).step_by(4) {
            assert_eq!(lie(&batch, |execution| execution.record.reads[call][at] += 1), sum);
        }
        if reads.len() > 3 {
            // A block that is not opened.
            let open = program.system_region(System::Open).unwrap();
            let found = lie(&batch, |execution| {
                execution.record.reads[call].truncate(3);
                let (mut trace, mut ends, mut begun) = (Trace::default(), Vec::new(), 0);
                for (region, &end) in execution.trace.iter().zip(&execution.record.ends) {
                    begun += usize::from(program.is_entry(region));
                    if region != open || begun != call + 1 {
                        trace.push(region);
                        ends.push(end);
                    }
                }
                (execution.trace, execution.record.ends) = (trace, ends);
            });
            assert_eq!(found, sum);
        }
    }
}

/// Blocks are opened one after the other, each as the digest says.
#[test]
fn no_other_block_is_opened() {
    let (program, calls, pre) = lengths();
    let mut other = calls.clone();
    let last = other[0].calldata.len() - 1;
    other[0].calldata[last] ^= 1;
    let mut execution = program.execute_all(&other, &pre).unwrap();
    assert!(execution.record.reads[0].len() > 3);
    // All that follows from the other calldata is told; only the calls are those of the statement.
    execution.calls = calls;
    let found = prove(&program, execution, &pre);
    assert!(matches!(found, Found::State(StateError::Sum)), "{found:?}");
}

/// Data that a loop notes: every block of what is logged, returned and reverted with is what it was, and so is the length.
#[test]
fn noted_data_are_what_they_are() {
    let batch = lengths();
    let outcome = Found::State(StateError::Outcome);
    for at in [0, 127, 128, 231] {
        assert_eq!(lie(&batch, |execution| execution.outcomes[0].data[at] ^= 1), outcome);
        assert_eq!(lie(&batch, |execution| execution.outcomes[0].logs[at % 2].data[at * 199 / 231] ^= 1), outcome);
    }
    assert_eq!(lie(&batch, |execution| execution.outcomes[3].data[170] ^= 1), outcome);
    assert_eq!(lie(&batch, |execution| _ = execution.outcomes[0].data.pop()), outcome);
    assert_eq!(lie(&batch, |execution| execution.outcomes[0].logs[1].data.push(0)), outcome);
}

/// Transient storage is zero when a call begins, whatever the call before left, and then what was stored last.
#[test]
fn transient_storage_is_what_was_stored() {
    let sum = Found::State(StateError::Sum);
    let batch = transient();
    // Each call loads, stores and loads again, and then writes and reads the word it returns.
    let stored = |batch: &Batch| batch.0.execute_all(&batch.1, &batch.2).unwrap().record;
    assert_eq!(*accessed(&mut stored(&batch), 0), Consumed { value: Word::ZERO, time: 0 });
    assert_eq!(*accessed(&mut stored(&batch), 2), Consumed { value: Word::from(200), time: 2 });
    assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, 0).value = Word::from(1)), sum);
    assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, 2).value = Word::ZERO), sum);
    assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, 2).time = 1), sum);
    let second = TRANSIENT_ACCESSES;
    assert_eq!(*accessed(&mut stored(&batch), second), Consumed { value: Word::ZERO, time: 0 });
    assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, second).value = Word::from(200)), sum);
}

/// What an activation of a recursion goes on with is what it kept, and not what another one kept in that place, before or in another call.
#[test]
fn frames_hold_what_was_kept() {
    let batch = recursion();
    let execution = batch.0.execute_all(&batch.1, &batch.2).unwrap();
    let results: Vec<u8> = execution.outcomes.iter().map(|outcome| outcome.data[31]).collect();
    assert_eq!(results, [2 + 3, 1 + 2]);
    let consumed: Vec<Consumed> = execution
        .record
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Access(_, consumed, _) => Some(*consumed),
            Item::Undo(..) | Item::Lookup(..) => None,
        })
        .collect();
    let (mut overwritten, mut first) = (0, 0);
    for (at, &before) in consumed.iter().enumerate() {
        let found = lie(&batch, |execution| accessed(&mut execution.record, at).value += Word::from(1));
        assert_ne!(found, Found::Nothing, "access {at}");
        // What the access before this one found, a label or a value; no smaller ones, of which nothing can be
        // subtracted.
        for other in
            consumed[..at].iter().rev().take(1).filter(|&&other| other != before && other.value >= before.value)
        {
            let found = lie(&batch, |execution| *accessed(&mut execution.record, at) = *other);
            assert_ne!(found, Found::Nothing, "access {at} finds {other:?}");
        }
        overwritten += usize::from(before.time > 0);
        first += usize::from(before.time == 0);
    }
    // The second call begins with zeros where the first has left something.
    assert!(overwritten > 8 && first > 5, "{overwritten} {first}");
}

/// Cells of values below 2^128 hold what was stored, as others do.
#[test]
fn narrow_cells_hold_what_was_stored() {
    let sum = Found::State(StateError::Sum);
    let batch = narrow();
    let honest = batch.0.execute_all(&batch.1, &batch.2).unwrap();
    let accesses = honest.record.items.iter().map(|item| match item {
        Item::Access(at, ..) => at.limbs,
        Item::Undo(..) | Item::Lookup(..) => 0,
    });
    assert_eq!(accesses.collect::<Vec<_>>(), [1; 2 * NARROW_ACCESSES]);
    for at in 0..2 * NARROW_ACCESSES {
        let found = lie(&batch, |execution| accessed(&mut execution.record, at).value += Word::from(1));
        // The last word of a call is the one that it returns.
        let is_last = at % NARROW_ACCESSES == NARROW_ACCESSES - 1;
        assert_eq!(found, if is_last { Found::State(StateError::Outcome) } else { sum.clone() }, "access {at}");
    }
    assert_eq!(lie(&batch, |execution| accessed(&mut execution.record, 2).value = Word::ZERO), sum);
}

/// Logs and data are those that were; a call that fails has no logs to add.
#[test]
fn outcomes_are_what_happened() {
    let batch = counter();
    let outcome = Found::State(StateError::Outcome);
    assert_eq!(lie(&batch, |execution| execution.outcomes[0].data[31] ^= 1), outcome);
    assert_eq!(lie(&batch, |execution| drop(execution.outcomes[0].logs.pop())), outcome);
    assert_eq!(lie(&batch, |execution| execution.outcomes[2].logs[0].data[31] ^= 1), outcome);
    assert_eq!(lie(&batch, |execution| execution.outcomes[2].logs[0].address[0] ^= 1), outcome);
    assert_eq!(lie(&batch, |execution| execution.outcomes.swap(0, 2)), outcome);
}

/// The challenges depend on all that a prover could choose before, and the last state holds the hash that they come from.
#[test]
fn challenges_come_from_everything() {
    for (program, calls, pre) in [counter(), token()] {
        let prepared = program.prepare::<Fr>(&calls, &pre).unwrap();
        let binding = program.commitment();
        let prepared = prepared.cut(&program, Cut::Runs(100), &binding, u64::MAX).unwrap();
        let statement = prepared.statement(&program).unwrap();
        let honest = statement.derived(&binding, prepared.advice);
        assert_eq!(honest, prepared.derived);
        let one = Fr::from(1);
        let mut lies = vec![
            statement.derived(&(binding + Word::from(1)), prepared.advice),
            statement.derived(&binding, prepared.advice + one),
        ];
        let mut with = |change: &dyn Fn(&mut zvm_backend_circuit::statement::Statement<Fr>)| {
            let mut statement = statement.clone();
            change(&mut statement);
            lies.push(statement.derived(&binding, prepared.advice));
        };
        with(&|statement| statement.calls_digest += one);
        with(&|statement| statement.outcome_digest += one);
        with(&|statement| statement.roots.pre += one);
        with(&|statement| statement.roots.post += one);
        with(&|statement| statement.account = Some([1; 20]));
        for lie in lies {
            let (a, b) = (honest.challenges, lie.challenges);
            assert!(a.gamma != b.gamma && a.low != b.low && a.high != b.high && a.key != b.key);
        }
        // Other advice than was hashed.
        let steps = prepared.steps.len();
        let runs: Vec<_> = prepared.trace.iter().collect();
        let mut z = prepared.initial_state(&program).unwrap();
        for step in 0..steps {
            let runs = runs.chunks(100).nth(step).unwrap().to_vec();
            z = run_slots(&program, runs, &mut prepared.feed(step), &z).unwrap().0;
        }
        assert_eq!(statement.check_final_state(&program, prepared.advice, &z), Ok(()));
        let other = statement.check_final_state(&program, prepared.advice + one, &z);
        assert_eq!(other, Err(StateError::Advice));
    }
}
