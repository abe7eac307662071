//! Code that is left out because other code does the same: calls in tail position, tails and routines that blocks share,
//! constants from tables.

use zvm_backend_evm::{Fork, Lowered, Optimize, Options, check, opcodes};
use zvm_ir::{Halt, Module, Word};

use crate::harness::{Random, agree, all_options, execute, interpret, lowered, parse, words};

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

/// A function of two results that ends with a call of another, and goes on to `last` with what that gives.
fn chain(last: &str) -> Module {
    parse(&format!(
        "zvm 1
        entry @main
        func @main() {{
        block0:
            v0: u256 = iconst 0
            v1: u256 = calldataload v0
            v2: u256, v3: u256 = call @first(v1, v0)
            sstore v2, v3
            v4: u256, v5: u256 = call @first(v3, v2)
            return_words 64, v4, v5
        }}
        func @first(u256, u256) -> u256, u256 {{
        block0(v0: u256, v1: u256):
            v13: u1 = iszero v0
            brif v13, block2, block1
        block1:
            v3: u1 = iconst 1
            v4: u256 = wsub v0, v3
            v5: u256 = wadd v1, v0
            v6: u256 = wmul v0, v5
            v8: u256, v9: u256 = call @second(v4, v5, v6)
            {last}
        block2:
            jump block3(v1, v0)
        block3(v10: u256, v11: u256):
            ret v10, v11
        }}
        func @second(u256, u256, u256) -> u256, u256 {{
        block0(v0: u256, v1: u256, v2: u256):
            v3: u256 = xor v0, v1
            sstore v3, v2
            v4: u256 = wsub v2, v3
            ret v4, v3
        }}"
    ))
}

/// How many places a function comes back to after calls.
fn returns_to(lowered: &Lowered, function: &str) -> usize {
    let blocks: Vec<_> = lowered.blocks.iter().filter(|block| block.function == function).collect();
    let marks = instructions(lowered).into_iter().filter(|&at| lowered.code[at] == opcodes::JUMPDEST);
    let inside = |at: &usize| blocks.iter().any(|block| (block.start as usize + 1..block.end as usize).contains(at));
    marks.filter(inside).count()
}

/// A function that ends with a call gives its place on the stack away, also where others return by the same block.
#[test]
fn a_last_call_returns_to_the_caller_of_its_function() {
    for last in ["ret v8, v9", "jump block3(v8, v9)"] {
        let module = chain(last);
        agree(&module, &all_options(), &inputs());
        for optimize in [Optimize::Gas, Optimize::Size] {
            assert_eq!(returns_to(&lowered(&module, &options(optimize)), "first"), 0, "{last}");
        }
        assert_eq!(returns_to(&lowered(&module, &options(Optimize::None)), "first"), 1, "{last}");
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
        agree(&chain(last), &all_options(), &inputs());
        assert_eq!(returns_to(&lowered(&chain(last), &Options::default()), "first"), 1, "{last}");
    }
}

/// A recursion takes its place on the stack for each level, whatever the call is followed by, so that one without end
/// traps as it does in the original.
#[test]
fn a_recursion_that_does_not_end_traps() {
    let module = parse(
        "zvm 1
        entry @main
        func @main() {
        block0:
            v0: u256 = iconst 0
            v1: u256 = calldataload v0
            v2: u256 = call @even(v1)
            return_words 32, v2
        }
        func @even(u256) -> u256 {
        block0(v0: u256):
            v1: u256 = iconst 1
            v2: u256 = wsub v0, v1
            v3: u1 = iszero v0
            brif v3, block2, block1
        block1:
            v4: u256 = call @odd(v2)
            ret v4
        block2:
            ret v1
        }
        func @odd(u256) -> u256 {
        block0(v0: u256):
            v1: u256 = iconst 1
            v2: u256 = wsub v0, v1
            v4: u256 = call @even(v2)
            ret v4
        }",
    );
    agree(&module, &all_options(), &[words(&[Word::from(100)])]);
    for options in all_options() {
        let code = lowered(&module, &options).code;
        let halt = execute(&code, options.fork, &words(&[Word::from(5001)])).map(|(outcome, _)| outcome.halt);
        assert_eq!(halt, Some(Halt::Trap), "{options:?}");
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
    assert_every_change_is_found(&lowered(&chain("ret v8, v9"), &Options::default()));
}

/// A function that stores words in a row of blocks that do nearly the same, ends that are alike among them.
fn alike() -> Module {
    let mut text = String::from(
        "zvm 1\nentry @main\nfunc @main() {\nblock0:\n    v0: u256 = iconst 0\n    v1: u256 = calldataload v0
    v2: u256 = iconst 32\n    v3: u256 = calldataload v2\n    v4: u256 = iconst 64\n    v5: u256 = calldataload v4
    jump block1\n",
    );
    for at in 0..6 {
        let [sum, product, mixed, last, key, found, number] = [0, 1, 2, 3, 4, 5, 6].map(|of| 10 + 10 * at + of);
        text += &format!(
            "block{}:
    v{number}: u256 = iconst {at}
    v{key}: u256 = iconst 0xc0ffee254729296a45a3885639ac7e10f9d54979f3b1a2c4d5e6f708192a3b4c
    v{sum}: u256 = wadd v1, v{key}
    v{product}: u256 = wmul v{sum}, v3
    v{mixed}: u256 = xor v{product}, v5
    v{last}: u256 = wsub v{mixed}, v{number}
    sstore v{number}, v{last}
    v{found}: u1 = ult v{last}, v5
    brif v{found}, block{}, block{}
block{}:
    v{}: u256 = iconst {}
    revert_words 68, v{}, v{key}, v{last}\n",
            at + 1,
            100 + at,
            at + 2,
            100 + at,
            1000 + at,
            at * at,
            1000 + at,
        );
    }
    parse(&(text + "block7:\n    return_words 64, v1, v3\n}"))
}

/// How often bytes are found in others.
fn count(code: &[u8], part: &[u8]) -> usize {
    code.windows(part.len()).filter(|window| *window == part).count()
}

/// Code that comes again and again is there once, in both kinds: the end of a block, and a routine.
#[test]
fn code_in_several_places_is_emitted_once() {
    let module = alike();
    agree(&module, &all_options(), &inputs());
    let [none, gas, size] = [Optimize::None, Optimize::Gas, Optimize::Size].map(|optimize| {
        let code = lowered(&module, &options(optimize)).code;
        let reverts = instructions(&lowered(&module, &options(optimize)))
            .iter()
            .filter(|&&at| code[at] == opcodes::REVERT)
            .count();
        (code.len(), reverts, count(&code, &[0xc0, 0xff, 0xee, 0x25, 0x47]))
    });
    assert_eq!(none.1, 6);
    // Where gas comes first, only what ends badly is shared.
    assert!(gas.1 <= 2 && size.1 <= 2, "{gas:?} {size:?}");
    assert!(size.2 <= 2 && (7..=8).contains(&gas.2), "{gas:?} {size:?}");
    assert!(5 * size.0 < 3 * gas.0, "{none:?} {gas:?} {size:?}");
}

#[test]
fn changed_tails_and_routines_are_found() {
    for optimize in [Optimize::Gas, Optimize::Size] {
        assert_every_change_is_found(&lowered(&alike(), &options(optimize)));
    }
}

/// A routine needs a word of the stack, but not one for each level of a recursion that its code is part of.
#[test]
fn a_recursion_is_not_deeper_for_sharing() {
    let arm = |at: u64| {
        format!(
            "block{at}:
            v{0}: u256 = iconst {1}
            v{2}: u256 = wmul v{0}, v0
            v{3}: u256 = iconst 0x1234567890abcdef1234567890abcdef1234567890abcdef
            v{4}: u256 = xor v{2}, v{3}
            v{5}: u256 = wadd v{4}, v1
            v{6}: u1 = iconst 1
            v{7}: u256 = wsub v0, v{6}
            v{8}: u256 = call @again(v{7}, v{5})
            v{9}: u256 = wadd v{8}, v{0}
            ret v{9}",
            10 * at,
            at + 3,
            10 * at + 1,
            10 * at + 2,
            10 * at + 3,
            10 * at + 4,
            10 * at + 5,
            10 * at + 6,
            10 * at + 7,
            10 * at + 8
        )
    };
    let module = parse(&format!(
        "zvm 1
        entry @main
        func @main() {{
        block0:
            v0: u256 = iconst 0
            v1: u256 = calldataload v0
            v2: u256 = call @again(v1, v0)
            return_words 32, v2
        }}
        func @again(u256, u256) -> u256 {{
        block0(v0: u256, v1: u256):
            v2: u1 = iszero v0
            brif v2, block1, block2
        block1:
            ret v1
        block2:
            v3: u256 = iconst 3
            v4: u256 = urem v0, v3
            v5: u1 = iszero v4
            brif v5, block4, block3
        block3:
            v6: u160 = caller
            v8: u256 = zext v6
            v7: u1 = ult v8, v1
            brif v7, block5, block6
        {}\n{}\n{}
        }}",
        arm(4),
        arm(5),
        arm(6)
    ));
    let deepest = |optimize| {
        let code = lowered(&module, &options(optimize)).code;
        let returns =
            |levels: u64| execute(&code, Fork::Osaka, &words(&[Word::from(levels)])).unwrap().0.halt == Halt::Return;
        (1..1024).take_while(|&levels| returns(levels)).count()
    };
    let [gas, size] = [Optimize::Gas, Optimize::Size].map(deepest);
    assert!(gas > 250 && size + 4 >= gas, "{gas} levels, {size} where code is shared");
    agree(&module, &all_options(), &[words(&[Word::from(40)]), words(&[Word::from(3)])]);
}

/// Twelve long constants, each used in three ways in changing order, so that no code comes twice.
fn constants(memory: &str) -> Module {
    let mut text = format!(
        "zvm 1\nentry @main\nfunc @main() {{\nblock0:\n    v0: u256 = iconst 0\n    v1: u256 = calldataload v0
    v2: u256 = iconst 32\n    v3: u256 = calldataload v2\n{memory}"
    );
    let mut at = 10;
    for constant in 0..12u64 {
        text += &format!("    v{}: u256 = iconst 0x{}\n", 1000 + constant, word(constant));
    }
    let mut last = 1;
    for round in 0..3 {
        for step in 0..12 {
            let constant = 1000 + (step * [1, 5, 7][round]) % 12;
            let operation = ["wmul", "xor", "wadd", "and", "or"][(step + round * round) % 5];
            text += &format!(
                "    v{at}: u256 = {operation} v{last}, v{constant}\n    v{}: u256 = wadd v{at}, v3\n",
                at + 1
            );
            last = at + 1;
            at += 2;
        }
        text += &format!("    sstore v{last}, v{}\n", at - 4);
    }
    parse(&format!("{text}    return_words 32, v{last}\n}}"))
}

fn word(at: u64) -> String {
    let mut random = Random(0xc0_ffee + at);
    format!("{:016x}{:016x}{:016x}{:016x}", random.next() | 1 << 63, random.next(), random.next(), random.next() | 1)
}

/// Long constants that are used often are copied from the code to memory that nobody sees, where bytes count and there is such
/// memory.
#[test]
fn constants_come_from_a_table_where_bytes_count() {
    let hidden = constants("    mstore v2, v1\n    v4: u256 = mload v2\n    sstore v0, v4\n");
    agree(&hidden, &all_options(), &inputs());
    let result = lowered(&hidden, &options(Optimize::Size));
    for at in 0..12 {
        let bytes = hex(&word(at));
        assert_eq!(count(&result.code, &bytes), 1);
        assert!(count(&result.code[..result.code_len()], &bytes) == 0, "{}", result.listing());
    }
    for input in inputs() {
        assert_eq!(interpret(result.legalized(), &input), interpret(&hidden, &input));
    }
    assert_every_change_is_found(&result);
    let mut tampered = result.clone();
    *tampered.code.last_mut().unwrap() ^= 1;
    assert!(check(&tampered).is_err());
    // A constant that is pushed costs less gas.
    let fast = lowered(&hidden, &options(Optimize::Gas));
    assert_eq!(fast.code.len(), fast.code_len());
    assert!(5 * result.code.len() < 3 * fast.code.len(), "{} {}", result.code.len(), fast.code.len());
    // Memory that the program reads wherever it likes has no place for them.
    let seen = constants("    v4: u256 = mload v1\n    sstore v0, v4\n");
    let result = lowered(&seen, &options(Optimize::Size));
    assert_eq!(result.code.len(), result.code_len());
    agree(&seen, &all_options(), &[words(&[Word::from(33), Word::from(7)])]);
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
