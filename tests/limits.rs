//! What reaches beyond the limit of memory has no outcome, in any form of the program: the original runs out of gas, the
//! interpreter says so, lowered code halts, and there is no proof, even where the passes removed the access.

use zvm::executors::{Executors, Kind, Limits};
use zvm::{Call, Contract, Input, Program, Source, State};
use zvm_ir::passes::{Goal, Options, optimize};
use zvm_ir::{EmptyState, Env, Halt, InterpError, Word};

/// Programs that access memory at the first word of calldata, to no avail, and return 32 bytes.
const PROGRAMS: [(&str, &str); 8] = [
    ("a load that nobody uses", "5f355150 60075f5260205ff3"),
    ("a store that nobody reads", "60015f3552 60075f5260205ff3"),
    ("a byte that nobody reads", "60015f3553 60075f5260205ff3"),
    ("a hash that nobody uses", "60205f352050 60075f5260205ff3"),
    ("calldata that nobody reads, of known length", "60205f5f3537 60075f5260205ff3"),
    ("calldata that nobody reads, of a length from calldata", "6020355f5f3537 60075f5260205ff3"),
    ("a load beside one that looks the same in the bits below 2^26", "5f358051506303ffffff165150 60075f5260205ff3"),
    (
        "a load whose address depends on how far another reaches",
        "5f355150 5f356303ffffe003 67ffffffffffffffff16 5f3501 5150 60075f5260205ff3",
    ),
];

/// Runs of a program on a place in memory and a length.
fn runs(code: &str, words: [Word; 2]) -> (Executors, Program, Call) {
    let runtime = hex::decode(code.replace(' ', "")).expect("hex");
    let contract = Contract { runtime, ..Contract::default() };
    let input = Input { origin: "test".to_owned(), source: Source::Contract(Box::new(contract)) };
    let program = Program::load(&input).expect("a program");
    let executors = Executors::new(&program, &Kind::ALL).expect("every backend takes it");
    let calldata = words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
    (executors.with_limits(Limits::default()), program, Call { calldata, ..Call::default() })
}

#[test]
fn what_is_within_the_limit_returns() {
    for (name, code) in PROGRAMS {
        for place in [0u64, 31, 4096] {
            let (executors, _, call) = runs(code, [Word::from(place), Word::from(64)]);
            let runs = Kind::ALL.map(|kind| executors.run(kind, &call, &State::default()));
            for (kind, run) in Kind::ALL.into_iter().zip(runs) {
                let run = run.unwrap_or_else(|error| panic!("{name} at {place}, {}: {error}", kind.name()));
                assert_eq!(run.outcome.halt, Halt::Return, "{name} at {place}, {}", kind.name());
            }
        }
    }
}

#[test]
fn what_is_beyond_the_limit_has_no_outcome() {
    let one = Word::from(1);
    let beyond = [one << 26, one << 30, one << 64, one << 255, Word::MAX - Word::from(40), Word::MAX];
    for (name, code) in PROGRAMS {
        for place in beyond {
            let (executors, program, call) = runs(code, [place, Word::from(64)]);
            let run = |kind| executors.run(kind, &call, &State::default());
            let returns = |kind| run(kind).is_ok_and(|run| run.outcome.halt != Halt::Trap);
            // The gas that executors are given pays for a little more than the limit.
            if place > Word::from(9 << 23) {
                assert!(!returns(Kind::Evm) && !returns(Kind::Lowered), "{name} at {place:#x} returns");
            }
            assert!(run(Kind::Circuit).is_err(), "{name} at {place:#x} can be proved");
            for goal in [Goal::Evm, Goal::Circuit] {
                let (mut module, env) = (program.module.clone(), Env::default());
                let before = zvm_ir::run(&module, zvm_ir::Call::new(&call.calldata, &env), &EmptyState);
                assert!(matches!(before, Err(InterpError::MemoryLimit { .. })), "{name} at {place:#x}: {before:?}");
                optimize(&mut module, &Options { goal, ..Options::default() }).expect("passes keep the module valid");
                let after = zvm_ir::run(&module, zvm_ir::Call::new(&call.calldata, &env), &EmptyState);
                assert!(
                    matches!(after, Err(InterpError::MemoryLimit { .. })),
                    "{name} at {place:#x}, {goal:?}: {after:?}"
                );
            }
        }
    }
}
