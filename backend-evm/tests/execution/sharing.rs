//! Code that is left out because other code does the same: calls in tail position, tails and routines that blocks share,
//! constants from tables.

use zvm_backend_evm::{Fork, Lowered, Optimize, Options, check, lower, opcodes};
use zvm_ir::{Halt, Module, Word};

use crate::harness::{Random, agree, all_options, execute, lowered, words};

fn parse(text: &str) -> Module {
    zvm_ir::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn options(optimize: Optimize) -> Options {
    Options { optimize, ..Options::default() }
}

fn inputs() -> Vec<Vec<u8>> {
    let mut random = Random(0x5ee_d5ee_d5ee);
    let mut all: Vec<Vec<u8>> = (0..12).map(|_| words(&[random.word(), random.word(), random.word()])).collect();
    all.extend((0..8).map(|at| words(&[Word::from(at), Word::from(at * at), Word::from(7)])));
    all.push(vec![]);
    all
}

/// Adds up the numbers up to the first word of calldata, one call each; `last` is what comes after the call.
fn sum(last: &str) -> Module {
    parse(&format!(
        "zvm 1
        entry @main
        func @main() {{
        block0:
            v0: u256 = iconst 0
            v1: u256 = calldataload v0
            v2: u256, v3: u256 = call @sum(v1, v0, v0)
            return_words 64, v2, v3
        }}
        func @sum(u256, u256, u256) -> u256, u256 {{
        block0(v0: u256, v1: u256, v2: u256):
            v13: u1 = iszero v0
            brif v13, block2, block1
        block1:
            v3: u1 = iconst 1
            v4: u256 = wsub v0, v3
            v5: u256 = wadd v1, v0
            v6: u256 = wmul v0, v0
            v7: u256 = wadd v2, v6
            v8: u256, v9: u256 = call @sum(v4, v5, v7)
            {last}
        block2:
            jump block3(v1, v2)
        block3(v10: u256, v11: u256):
            ret v10, v11
        }}"
    ))
}

/// A function that ends with a call gives its place on the stack away: a thousand levels need no more words than one, also
/// where the results pass through a block that others return by.
#[test]
fn a_last_call_returns_to_the_caller_of_its_function() {
    for last in ["ret v8, v9", "jump block3(v8, v9)"] {
        let module = sum(last);
        agree(&module, &all_options(), &inputs()[12..]);
        let deep = [words(&[Word::from(1020)])];
        for optimize in [Optimize::Gas, Optimize::Size] {
            agree(&module, &[Options { fork: Fork::London, ..options(optimize) }, options(optimize)], &deep);
        }
        // With a place for each level there are not enough.
        let code = lowered(&module, &options(Optimize::None)).code;
        assert_eq!(execute(&code, Fork::Osaka, &deep[0]).unwrap().0.halt, Halt::Trap);
    }
}

/// Where anything is left to do, or the results are returned otherwise, the call comes back.
#[test]
fn a_call_before_something_else_comes_back() {
    for last in [
        "ret v9, v8",
        "ret v8, v8",
        "jump block3(v9, v8)",
        "sstore v8, v9\n ret v8, v9",
        "v12: u256 = sload v8\n ret v8, v12",
        "v12: u256 = wadd v8, v0\n ret v12, v9",
    ] {
        agree(&sum(last), &all_options(), &inputs()[12..]);
        let code = lowered(&sum(last), &Options::default()).code;
        let deep = words(&[Word::from(1020)]);
        assert_eq!(execute(&code, Fork::Osaka, &deep).unwrap().0.halt, Halt::Trap, "{last}");
    }
}

/// Where instructions start.
fn instructions(lowered: &Lowered) -> Vec<usize> {
    let mut at = 0;
    let mut all = Vec::new();
    while at < lowered.code_len() {
        all.push(at);
        let byte = lowered.code[at];
        let push = (opcodes::PUSH1..=opcodes::PUSH32).contains(&byte);
        at += 1 + if push { usize::from(byte - opcodes::PUSH1) + 1 } else { 0 };
    }
    all
}

/// Whatever is changed in code that shares, the checker finds it: an instruction taken for another, and each bit of what is
/// pushed.
#[track_caller]
fn assert_every_change_is_found(lowered: &Lowered) {
    check(lowered).unwrap();
    for at in instructions(lowered) {
        let byte = lowered.code[at];
        if (opcodes::PUSH1..=opcodes::PUSH32).contains(&byte) {
            for bit in 0..8 {
                let mut tampered = lowered.clone();
                tampered.code[at + 1] ^= 1 << bit;
                assert!(check(&tampered).is_err(), "bit {bit} at {at:#x}\n{}", lowered.listing());
            }
            continue;
        }
        let other = match byte {
            opcodes::DUP1..=opcodes::DUP16 => byte ^ 1,
            opcodes::SWAP1..=opcodes::SWAP16 => byte + 1,
            opcodes::SUB | opcodes::MUL | opcodes::XOR => opcodes::ADD,
            opcodes::JUMPDEST => opcodes::STOP,
            _ => opcodes::INVALID,
        };
        if other != byte {
            let mut tampered = lowered.clone();
            tampered.code[at] = other;
            assert!(check(&tampered).is_err(), "{} at {at:#x}\n{}", opcodes::name(other), lowered.listing());
        }
    }
}

#[test]
fn changed_tail_calls_are_found() {
    assert_every_change_is_found(&lowered(&sum("ret v8, v9"), &Options::default()));
}
