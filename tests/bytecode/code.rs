//! Code that reads itself, jumps that go nowhere, long dispatches.

use std::fmt::Write;

use zvm_ir::{Halt, Word};

use crate::assembler::assemble;
use crate::{Case, OTHER, corners, count, wide, words};

/// The code sees itself as it was: its length, all of it, parts of it, and zeros past its end.
#[test]
fn code_that_reads_itself() {
    let texts = [
        "CODESIZE 0 0 CODECOPY CODESIZE 0 RETURN",
        "CODESIZE 0 MSTORE PC 32 MSTORE 64 0 RETURN",
        "64 CALLDATALOAD 255 AND 32 CALLDATALOAD 0 CALLDATALOAD 63 AND CODECOPY 512 0 RETURN",
        // A hash of the code, and a word of it that decides.
        "CODESIZE 0 0 CODECOPY CODESIZE 0 KECCAK256 0 SSTORE 31 MLOAD 255 AND 32 CALLDATALOAD LT @a JUMPI 1 1 SSTORE STOP :a 2 1 SSTORE STOP",
        "CODESIZE 1 SUB 7 CODECOPY 64 0 CALLDATALOAD 127 AND RETURN",
    ];
    for text in texts {
        let case = corners()
            .iter()
            .fold(Case::new(text), |case, word| case.calldata(&wide(&[Word::from(5), *word, Word::from(200)])));
        case.words(&[[0, 0, 0], [1, 7, 255], [63, 30, 40], [9, 31, 1], [2, 100, 9]]).agrees();
    }
}

/// Data behind the code, with bytes that look like instructions, read at places that the call gives.
#[test]
fn data_behind_the_code() {
    let mut code = assemble("32 0 CALLDATALOAD 63 AND @table ADD 0 CODECOPY 0 MLOAD 0 SSTORE STOP .table");
    code.extend((0..80u8).map(|at| [0x5b, 0x56, 0x60, 0x7f, at][usize::from(at) % 5]));
    Case::of(code).words(&[[0], [1], [32], [50], [63]]).agrees();
}

/// Jumps into the data of a PUSH, beyond the code, to the start of nothing; only those that are taken trap.
#[test]
fn jumps_that_go_nowhere() {
    let jumps = [
        ("4 JUMP #605b STOP", Halt::Trap),
        ("1000000 JUMP", Halt::Trap),
        ("115792089237316195423570985008687907853269984665640564039457584007913129639935 JUMP", Halt::Trap),
        ("4294967299 JUMP :x STOP", Halt::Trap),
        ("0 CALLDATALOAD 3 JUMPI 1 0 SSTORE STOP", Halt::Return),
        // A JUMPDEST that is the data of a PUSH cut off by the end.
        ("3 JUMP #615b", Halt::Trap),
        ("INVALID", Halt::Trap),
        ("#0c", Halt::Trap),
        ("#ef", Halt::Trap),
        ("#7fff", Halt::Return),
        ("#", Halt::Return),
    ];
    for (text, halt) in jumps {
        let text = if text == "#" { "" } else { text };
        if text.is_empty() {
            continue;
        }
        let halts = Case::new(text).words(&[[0], [1]]).agrees();
        assert_eq!(halts[0], Some(halt), "{text}");
    }
    // An address that is a word of calldata: each of the few places, and each between them.
    let text = "0 CALLDATALOAD JUMP :a 1 0 SSTORE STOP #605b :b 32 CALLDATALOAD 2 SSTORE STOP :c 0 0 REVERT";
    let case = (0..30).fold(Case::new(text), |case, at| case.calldata(&words(&[at, 9])));
    let halts = case
        .calldata(&wide(&[Word::MAX, Word::ZERO]))
        .calldata(&wide(&[(Word::from(1) << 32) + Word::from(4)]))
        .agrees();
    let counts = count(&halts);
    assert_eq!((counts[&Some(Halt::Return)], counts[&Some(Halt::Revert)]), (2, 1), "{counts:?}");
    // In a loop that ends at the end of the code.
    Case::new("0 CALLDATALOAD 7 AND :top DUP1 DUP1 SSTORE 1 SWAP1 SUB DUP1 @top JUMPI").words(&[[1], [5]]).agrees();
}

/// What depends on gas has no one outcome: refused where it is read. Gas for a call is not such a thing.
#[test]
fn code_that_depends_on_gas() {
    for text in [
        "GAS 0 SSTORE STOP",
        "GAS 0 MSTORE 32 0 RETURN",
        "5000 GAS LT @a JUMPI STOP :a 1 0 SSTORE STOP",
        "GAS @a JUMPI STOP :a STOP",
    ] {
        let (code, pc) = Case::new(text).refusal();
        assert_eq!(code, "ZV0103", "{text}");
        assert!(pc.is_some(), "{text}");
    }
    let other = format!("PUSH20 #{}", hex::encode(OTHER));
    let text = format!("GAS POP 0 0 0 0 0 {other} 2 GAS DIV CALL 0 SSTORE STOP");
    Case::new(&text).account(OTHER, "7 7 SSTORE STOP").calldata(&[]).agrees();
}

/// A dispatcher of `selectors`, each of which stores its place in the list; `find` looks one up, the selector on the stack.
fn dispatcher(selectors: &[u32], load: &str) -> String {
    let mut text = format!("{load} ");
    for (at, selector) in selectors.iter().enumerate() {
        let _ = write!(text, "DUP1 {selector} EQ @f{at} JUMPI ");
    }
    text += "POP 0 0 REVERT ";
    for at in 0..selectors.len() {
        let _ = write!(text, ":f{at} POP {} 4 CALLDATALOAD SSTORE {at} 0 MSTORE 32 0 RETURN ", at + 1);
    }
    text
}

/// Calls of each selector and of some beside them, with an argument, and with too little for one.
fn all_selectors(case: Case, selectors: &[u32]) -> Case {
    let beside = selectors.iter().flat_map(|&s| [s, s ^ 1, s ^ 0x10, s ^ 0x8000_0000]).chain([0, 1, u32::MAX]);
    beside.fold(case, |case, selector| {
        let call = [&selector.to_be_bytes()[..], &words(&[u64::from(selector) + 3])].concat();
        case.calldata(&call)
    })
}

fn short(case: Case) -> Case {
    (0..5).fold(case, |case, len| case.calldata(&[0, 0, 0, 0, 0][..len]).calldata(&[0xff; 5][..len]))
}

#[test]
fn dispatches_of_every_shape() {
    // Dense, sparse, all alike but in some bits, zero and the largest, the same one twice.
    let mixed = |at: u32| at.wrapping_mul(0x9e37_79b9) ^ (at << 7);
    let lists: [Vec<u32>; 9] = [
        vec![0],
        vec![u32::MAX, 0],
        (0..5).collect(),
        (0..16).map(|at| at << 28).collect(),
        (0..40).map(|at| 0x1234_5600 + at).collect(),
        (0..40).map(|at| 0xab00_00cd | at << 12).collect(),
        (0..70).map(mixed).collect(),
        [0x1111_1111, 0x2222_2222, 0x1111_1111, 0x3333_3333, 0x2222_2222, 0x4444_4444, 0x1111_1111].to_vec(),
        (0..32).map(|at| 1 << at).collect(),
    ];
    let shr = "0 CALLDATALOAD 224 SHR";
    let div = "26959946667150639794667015087019630673637144422540572481103610249216 0 CALLDATALOAD DIV 4294967295 AND";
    for (at, list) in lists.iter().enumerate() {
        let load = if at % 2 == 0 { shr } else { div };
        short(all_selectors(Case::new(&dispatcher(list, load)), list)).agrees();
    }
}

/// As many functions as fit: more than there are places in any table.
#[test]
fn a_dispatch_of_hundreds() {
    let list: Vec<u32> = (0..400u32).map(|at| at.wrapping_mul(0x0101_0155) ^ 0x5a5a_0000).collect();
    let mut case = Case::new(&dispatcher(&list, "0 CALLDATALOAD 224 SHR"));
    for selector in list.iter().step_by(7) {
        case = case.calldata(&[&selector.to_be_bytes()[..], &words(&[9])].concat());
    }
    short(case).agrees();
}

/// Halves by comparisons first, as compilers do; words wider than a selector; a case that can never be.
#[test]
fn dispatches_by_halves_and_on_whole_words() {
    let text = "0 CALLDATALOAD DUP1 100 GT @low JUMPI DUP1 100 EQ @a JUMPI DUP1 200 EQ @b JUMPI DUP1 300 EQ @c JUMPI
        DUP1 115792089237316195423570985008687907853269984665640564039457584007913129639935 EQ @d JUMPI STOP
        :low DUP1 200 EQ @b JUMPI DUP1 7 EQ @a JUMPI DUP1 0 EQ @c JUMPI 0 0 REVERT
        :a 1 0 SSTORE STOP :b 2 0 SSTORE STOP :c 3 0 SSTORE STOP :d 4 0 SSTORE STOP";
    let case = Case::new(text).words(&[[0], [7], [8], [99], [100], [101], [200], [300]]);
    case.calldata(&wide(&[Word::MAX])).calldata(&wide(&[Word::from(100) << 128])).agrees();
    // By a remainder, one after the other, eight ways.
    let mut text = "0 CALLDATALOAD 240 AND ".to_owned();
    for at in 0..16 {
        let _ = write!(text, "DUP1 {} EQ @f{at} JUMPI ", 16 * at);
    }
    text += "0 0 REVERT ";
    for at in 0..16 {
        let _ = write!(text, ":f{at} {at} SSTORE STOP ");
    }
    (0..40).fold(Case::new(&text), |case, at| case.calldata(&words(&[at * 13]))).agrees();
}

/// Function pointers: in memory, in a table in the code, masked, chosen by calldata.
#[test]
fn jumps_through_tables() {
    let text = "@a 0 MSTORE @b 32 MSTORE @c 64 MSTORE @end 0 CALLDATALOAD 3 SWAP1 MOD 32 MUL MLOAD JUMP
        :a 1 SWAP1 JUMP :b 2 SWAP1 JUMP :c 3 SWAP1 JUMP :end 0 SSTORE STOP";
    let case = Case::new(text).words(&[[0], [1], [2], [3], [100]]);
    match case.program() {
        Ok(_) => drop(case.agrees()),
        Err(error) => assert_eq!(error.code(), "ZV0102", "{error}"),
    }
    let program = |table: &str| {
        assemble(&format!(
            "0 CALLDATALOAD 3 AND 2 MUL {table} ADD 2 SWAP1 30 CODECOPY 0 MLOAD JUMP
             :a 11 0 SSTORE STOP :b 32 CALLDATALOAD 0 SSTORE STOP :c 0 0 REVERT :d INVALID"
        ))
    };
    let mut code = program("100");
    let places: Vec<u16> = (0..code.len()).filter(|&at| code[at] == 0x5b).map(|at| at as u16).collect();
    code = program(&code.len().to_string());
    code.extend(places.iter().flat_map(|place| place.to_be_bytes()));
    let halts = Case::of(code).words(&[[0, 5], [1, 5], [2, 5], [3, 5], [4, 5]]).agrees();
    assert_eq!(count(&halts)[&Some(Halt::Return)], 3);
}
