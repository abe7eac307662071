//! Calls of other accounts mean the same in all executors: their code runs, comes back into the program, fails, creates,
//! destroys; what of it lasts is the same to the last wei.

use zvm::executors::{Executors, Kind, Run, difference};
use zvm::state::{Account, State};
use zvm::{Call, Input, Program};
use zvm_ir::outcome::Halt;
use zvm_ir::{Env, Word};

const OTHER: [u8; 20] = [0xbb; 20];

/// With calldata the program adds its first word to slot 0 and returns the sum. Without, it runs `OTHER` by the
/// instruction `call` on the word 7, and returns the result, the first word of what came back, and its length.
fn program(call: &str) -> String {
    let other = hex::encode(OTHER);
    let head =
        format!("60075f52602060206020 5f {call} 5f52 3d604052 60605ff3").replace("{other}", &other).replace(' ', "");
    let inner = 3 + 1 + head.len() / 2;
    format!("3660{inner:02x}57{head}5b5f355f54015f555f545f5260205ff3")
}

const CALL: &str = "60 01 73 {other} 5a f1";
const CALL_WITHOUT_VALUE: &str = "5f 73 {other} 5a f1";
const CALL_WITHOUT_GAS: &str = "60 01 73 {other} 5f f1";
const CALLCODE: &str = "60 01 73 {other} 5a f2";
const DELEGATECALL: &str = "73 {other} 5a f4";
const STATICCALL: &str = "73 {other} 5a fa";

/// What runs at `OTHER`, by name.
const OTHERS: [(&str, &str); 12] = [
    ("nothing", ""),
    ("stops", "00"),
    ("echoes", "365f5f37365ff3"),
    ("comes back", "365f5f3760205f365f5f335af15060205ff3"),
    ("comes back and reverts", "365f5f3760205f365f5f335af15060205ffd"),
    ("comes back by DELEGATECALL", "365f5f3760205f365f335af45060205ff3"),
    ("comes back by STATICCALL", "365f5f3760205f365f335afa5060205ff3"),
    ("is invalid", "fe"),
    (
        "writes, logs and returns who called with what",
        "60055f55 6006600755 60085f5f5f a2 335f52 34602052 47604052 60605ff3",
    ),
    ("writes transient storage and returns it", "60055f5d5f5c5f5260205ff3"),
    ("destroys itself", "33ff"),
    // The created code is `6001 5f 55 00`: sstore(0, 1).
    ("creates, and calls what it created", CREATOR),
];

const CREATOR: &str = "6c 6460015f55005f526005601bf3 5f52 600d 6013 5f f0 5f5f5f5f5f855af1 602052 60405ff3";

fn env() -> Env {
    Env { selfbalance: Word::from(10), ..Env::default() }
}

fn state(other: &str, balance: u64) -> State {
    let mut state = State::default();
    let code = hex::decode(other.replace(' ', "")).expect("hex");
    state.accounts.insert(OTHER, Account { balance: Word::from(3), nonce: 1, code, ..Account::default() });
    let program = Account { balance: Word::from(balance), nonce: 1, ..Account::default() };
    state.accounts.insert(env().address, program);
    state
}

/// The runs of E0, E1 and E2, which must agree.
fn agreed(code: &str, calldata: &[u8], state: &State, context: &str) -> Run {
    let input = Input::read(&format!("0x{code}"), None).expect("bytecode");
    let program = Program::load(&input).unwrap_or_else(|error| panic!("{context}: {error}"));
    let executors = Executors::new(&program, &[Kind::Evm, Kind::Ir, Kind::Lowered]).expect("executors");
    let call = Call { calldata: calldata.to_vec(), env: env() };
    let run = |kind| executors.run(kind, &call, state).unwrap_or_else(|error| panic!("{context}: {error}"));
    let original = run(Kind::Evm);
    for kind in [Kind::Ir, Kind::Lowered] {
        let other = run(kind);
        assert_eq!(difference(&original, &other), None, "{context}: {original:#?}\n{}: {other:#?}", kind.name());
    }
    original
}

#[test]
fn every_way_to_call_every_account() {
    let ways = [CALL, CALL_WITHOUT_VALUE, CALL_WITHOUT_GAS, CALLCODE, DELEGATECALL, STATICCALL];
    let (mut succeeded, mut changed) = (0, 0);
    for call in ways {
        for (name, other) in OTHERS {
            // Whether the program can do anything on 2300 gas is a question of gas.
            if call == CALL_WITHOUT_GAS && name.starts_with("comes back") {
                continue;
            }
            for balance in [0, 100] {
                let context = format!("{call}, {name}, balance {balance}");
                let run = agreed(&program(call), &[], &state(other, balance), &context);
                assert_eq!(run.outcome.halt, Halt::Return, "{context}");
                succeeded += u64::from(run.outcome.data[31]);
                changed += run.outcome.storage.len();
            }
        }
    }
    assert!(succeeded > 60 && changed > 20, "{succeeded} calls succeed, {changed} slots change");
}

/// A call that comes back sees what the program wrote before, and the program sees what it wrote meanwhile.
#[test]
fn coming_back_shares_the_state() {
    let (_, other) = OTHERS[3];
    let run = agreed(&program(CALL), &[], &state(other, 100), "comes back");
    let word = |at: usize| Word::from_be_slice(&run.outcome.data[32 * at..32 * at + 32]);
    assert_eq!((word(0), word(1), word(2)), (Word::from(1), Word::from(7), Word::from(32)));
    assert_eq!(run.outcome.storage[&(env().address, Word::ZERO)], Word::from(7));
}

/// Precompiled contracts: SHA-256 and the identity.
#[test]
fn precompiles_run() {
    for (address, len) in [(2, 32), (4, 32), (5, 0)] {
        let call = format!("5f 73 {address:040x} 5a f1");
        let run = agreed(&program(&call), &[], &state("", 100), &call);
        assert_eq!(run.outcome.data[95], len, "{call}");
    }
}

/// The program creates an account with its calldata as creation code, by CREATE and by CREATE2, calls it, and returns its
/// address, the result, and the return data buffer's size after the creation.
#[test]
fn created_accounts_can_be_called() {
    let codes = [("6460015f55005f526005601bf3", true), ("", true), ("60205ffd", false), ("fe", false)];
    // calldatacopy(0, 0, size), then the operands of the creation, the last first.
    for create in ["365f5f f0", "6005365f5f f5"] {
        let code = format!("365f5f37 {create} 805f52 3d604052 5f5f5f5f5f855af1 602052 60605ff3").replace(' ', "");
        for (init, succeeds) in codes {
            let calldata = hex::decode(init).expect("hex");
            let context = format!("{create} of {init}");
            let run = agreed(&code, &calldata, &state("", 100), &context);
            let address = Word::from_be_slice(&run.outcome.data[..32]);
            assert_eq!(!address.is_zero(), succeeds, "{context}");
        }
    }
}

/// Creation code beyond the limit of EIP-3860 ends the program.
#[test]
fn creation_code_that_is_too_long_traps() {
    for (size, halt) in [(49_152, Halt::Return), (49_153, Halt::Trap)] {
        let run = agreed(&format!("62{size:06x}5f5ff0 5f52 60205ff3").replace(' ', ""), &[], &state("", 100), "size");
        assert_eq!(run.outcome.halt, halt, "{size} bytes");
    }
}

/// In a static call the program may not create, write, log or send.
#[test]
fn a_static_call_of_the_program_changes_nothing() {
    let (_, other) = OTHERS[6];
    let run = agreed(&program(CALL), &[], &state(other, 100), "comes back by STATICCALL");
    assert!(run.outcome.storage.is_empty());
}
