//! What is read from files: it is read or refused, and what was read is written back the same.

use alloy_json_abi::JsonAbi;
use zvm::artifact::read_proof;
use zvm::{Input, Program, Source, State, call};
use zvm_ir::{Call, EmptyState, Env, parse, run, verify};

/// Instructions that a program read from text may execute.
const STEPS: u64 = 10_000;

/// Text of the IR: what is read prints and reads back the same; what the verifier takes can be run.
pub(crate) fn ir_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(module) = parse(text) else { return };
    let valid = verify(&module).is_ok();
    let printed = module.to_string();
    let again = parse(&printed).unwrap_or_else(|error| panic!("{error} in\n{printed}"));
    assert_eq!(again.to_string(), printed);
    assert_eq!(verify(&again).is_ok(), valid, "{printed}");
    if valid {
        let env = Env::default();
        let _ = run(&module, Call { step_limit: STEPS, ..Call::new(&[], &env) }, &EmptyState);
    }
}

/// Bytecode, a compiler's JSON, text or a compiled program, as the command line takes it.
pub(crate) fn input(bytes: &[u8]) {
    for contract in [None, Some("A")] {
        let Ok(input) = Input::parse("fuzz", bytes.to_vec(), contract) else { continue };
        if let Source::Contract(contract) = &input.source {
            for range in contract.placeholders() {
                assert!(range.end <= contract.runtime.len() + 32, "{range:?} is outside the code");
            }
        }
    }
}

/// A file of accounts.
pub(crate) fn state(bytes: &[u8]) {
    let Ok(state) = State::from_json("fuzz", bytes) else { return };
    let text = state.to_json().to_string();
    let again = State::from_json("fuzz", text.as_bytes()).unwrap_or_else(|error| panic!("{error} in {text}"));
    assert_eq!(again, state);
}

/// A list of calls, without an interface and with one.
pub(crate) fn calls(bytes: &[u8]) {
    let abi = JsonAbi::parse(["function f(uint256 a, bytes b)", "function g(address[] a, (bool, string) b)"]);
    for abi in [None, abi.as_ref().ok()] {
        if let Ok(calls) = call::parse_list("fuzz", bytes, &Env::default(), abi) {
            assert!(calls.len() <= bytes.len());
        }
    }
}

/// A compiled program.
pub(crate) fn program_file(bytes: &[u8]) {
    let Ok(input) = Input::parse("fuzz", [b"ZVMA", bytes].concat(), None) else { return };
    let _ = Program::load(&input);
}

/// A proof.
pub(crate) fn proof_file(bytes: &[u8]) {
    let bytes = [b"ZVMP", bytes].concat();
    if let Ok(file) = read_proof("fuzz", &bytes) {
        assert_eq!(file.encode(), bytes, "a proof has one form");
    }
}
