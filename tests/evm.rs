//! The revm executor maps the environment, halts and state exactly; gas and jumps are those of the program alone.

use zvm::Error;
use zvm::evm::Evm;
use zvm::state::{Account, State};
use zvm_ir::outcome::Halt;
use zvm_ir::{Env, Word};

fn env() -> Env {
    Env {
        address: [0xa1; 20],
        caller: [0xa2; 20],
        origin: [0xa3; 20],
        callvalue: Word::from(4),
        gasprice: Word::from(5),
        coinbase: [0xa6; 20],
        timestamp: Word::from(7),
        number: Word::from(8),
        prevrandao: Word::MAX,
        gaslimit: Word::from(9),
        chainid: Word::from(10),
        basefee: Word::from(11),
        blobbasefee: Word::from(12),
        selfbalance: Word::from(13),
    }
}

fn code(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).expect("hex")
}

fn word(address: [u8; 20]) -> Word {
    Word::from_be_slice(&address)
}

/// Each environment instruction returns the field of its name.
#[test]
fn environment_is_mapped() {
    let env = env();
    let cases: [(&str, Word); 14] = [
        ("30", word(env.address)),
        ("33", word(env.caller)),
        ("32", word(env.origin)),
        ("34", env.callvalue),
        ("3a", env.gasprice),
        ("41", word(env.coinbase)),
        ("42", env.timestamp),
        ("43", env.number),
        ("44", env.prevrandao),
        ("45", env.gaslimit),
        ("46", env.chainid),
        ("48", env.basefee),
        ("4a", env.blobbasefee),
        ("47", env.selfbalance),
    ];
    for (op, expected) in cases {
        let run = Evm::new(&code(&format!("{op} 5f 52 60 20 5f f3"))).run(&[], &env, &State::default()).expect(op);
        assert_eq!(run.outcome.halt, Halt::Return, "opcode {op}");
        assert_eq!(run.outcome.data, expected.to_be_bytes_vec(), "opcode {op}");
    }
}

/// INVALID, an undefined opcode, a bad jump, stack underflow and overflow, return data out of bounds are all traps.
#[test]
fn exceptional_halts_are_one_trap() {
    let overflow = "5b 5f 5f 56";
    for text in ["fe", "0c", "60 03 56", "50", overflow, "60 01 5f 5f 3e"] {
        let run = Evm::new(&code(text)).run(&[], &env(), &State::default()).expect(text);
        assert_eq!(run.outcome, zvm_ir::Outcome::halted(Halt::Trap, Vec::new()), "{text}");
    }
}

/// A loop without end, and memory that cannot be paid for, are errors and not outcomes.
#[test]
fn out_of_gas_is_an_error() {
    for text in ["5b 5f 56", "60 01 64 ff ff ff ff ff 52", "60 01 5f 19 52", "60 01 60 01 60 ff 1b 52"] {
        let result = Evm::new(&code(text)).with_gas_limit(1_000_000).run(&[], &env(), &State::default());
        assert!(matches!(result, Err(Error::OutOfGas { limit: 1_000_000, .. })), "{text}: {result:?}");
    }
}

/// Storage, transient storage and logs appear after a return, and are undone by a revert and by a trap.
#[test]
fn state_effects_follow_the_halt() {
    // sstore(1, 7); sstore(2, 0); sstore(3, 9); tstore(4, 5); log1(0, 1, 6); then the halt.
    let body = "60 07 60 01 55  5f 60 02 55  60 09 60 03 55  60 05 60 04 5d  60 06 60 01 5f a1";
    let env = env();
    let mut pre = State::default();
    let storage = [(Word::from(2), Word::from(1)), (Word::from(3), Word::from(9))].into_iter().collect();
    pre.accounts.insert(env.address, Account { storage, ..Account::default() });

    let run = Evm::new(&code(&format!("{body} 00"))).run(&[], &env, &pre).expect("runs");
    let slots: Vec<_> = run.outcome.storage.iter().map(|((a, k), v)| (*a, *k, *v)).collect();
    assert_eq!(
        slots,
        [(env.address, Word::from(1), Word::from(7)), (env.address, Word::from(2), Word::ZERO)],
        "slot 3 keeps its value, so it is not a change"
    );
    assert_eq!(run.outcome.transient.into_iter().collect::<Vec<_>>(), [((env.address, Word::from(4)), Word::from(5))]);
    assert_eq!(run.outcome.logs.len(), 1);
    assert_eq!(run.outcome.logs[0].topics, [Word::from(6)]);
    assert_eq!(run.outcome.logs[0].data, [0]);
    pre.apply(&run.changes);
    assert_eq!(pre.slot(&env.address, &Word::from(1)), Word::from(7));
    assert_eq!(pre.accounts[&env.address].storage.len(), 2, "a slot set to zero is gone");

    for (halt, end) in [(Halt::Revert, "60 02 5f fd"), (Halt::Trap, "fe")] {
        let run = Evm::new(&code(&format!("{body} {end}"))).run(&[], &env, &State::default()).expect("runs");
        assert_eq!(run.outcome.halt, halt);
        assert!(run.outcome.logs.is_empty() && run.outcome.storage.is_empty() && run.outcome.transient.is_empty());
        assert!(run.changes.accounts.is_empty());
    }
}

/// Jumps taken are recorded, those not taken are not; compute gas leaves SLOAD out.
#[test]
fn the_trace_is_of_the_program() {
    // jumpi(0x06, calldatasize); stop; 0x06: jumpdest; sload(0); pop; stop
    let evm = Evm::new(&code("36 60 06 57 00 00 5b 5f 54 50 00"));
    let (run, trace) = evm.inspect(&[1], &env(), &State::default()).expect("runs");
    assert_eq!(trace.jumps.into_iter().collect::<Vec<_>>(), [(3, 6)]);
    // calldatasize 2, push1 3, jumpi 10, jumpdest 1, push0 2, pop 2.
    assert_eq!(trace.compute_gas, 20);
    assert_eq!(run.gas, 20 + 2100);
    assert_eq!(trace.instructions, 8);
    let (_, trace) = evm.inspect(&[], &env(), &State::default()).expect("runs");
    assert!(trace.jumps.is_empty());
}

/// Inspecting changes nothing that `run` reports; foreign code does not count.
#[test]
fn calls_to_other_accounts() {
    let env = env();
    let mut pre = State::default();
    // The callee stores its calldata size and returns its own value.
    let callee = Account { code: code("36 5f 55 60 2a 5f 52 60 20 5f f3"), ..Account::default() };
    pre.accounts.insert([0xbb; 20], callee);
    let target = "bb".repeat(20);
    // call(gas, callee, 0, 0, 3, 0, 32); return(0, 32)
    let evm = Evm::new(&code(&format!("60 20 5f 60 03 5f 5f 73 {target} 5a f1 50 60 20 5f f3")));
    let run = evm.run(&[], &env, &pre).expect("runs");
    assert_eq!(run.outcome.data, Word::from(0x2a).to_be_bytes_vec());
    assert_eq!(run.outcome.storage.into_iter().collect::<Vec<_>>(), [(([0xbb; 20], Word::ZERO), Word::from(3))]);
    let (inspected, trace) = evm.inspect(&[], &env, &pre).expect("runs");
    assert_eq!(inspected.gas, run.gas);
    assert_eq!(trace.instructions, 12);
    assert!(trace.compute_gas < 60, "the callee's gas is not the program's: {}", trace.compute_gas);
}

/// An environment that cannot exist, and a program at the address of a precompile, are refused.
#[test]
fn impossible_environments_are_refused() {
    let evm = Evm::new(&code("00"));
    let wide = Env { basefee: Word::MAX, ..env() };
    assert!(matches!(evm.run(&[], &wide, &State::default()), Err(Error::EnvRange { field: "base fee", .. })));
    let mut precompile = [0; 20];
    precompile[19] = 2;
    let at_precompile = Env { address: precompile, ..env() };
    let result = evm.run(&[], &at_precompile, &State::default());
    assert!(matches!(result, Err(Error::Precompile(address)) if address == precompile));
}
