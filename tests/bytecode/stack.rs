//! Words out of reach, loops that exchange them, recursion, the limit of the stack.

use std::fmt::Write;

use zvm::executors::{Executors, Kind};
use zvm::{Call, Exit};
use zvm_backend_evm::{Fork, Options};
use zvm_ir::{Halt, Word};

use crate::{Case, FORK, LIMITS, corners, env, wide, words};

/// Returns the word on top.
const RETURN: &str = "0 MSTORE 32 0 RETURN";

/// Hands out as much memory as there is calldata, rounded up, and copies it there.
const HEAP: &str =
    "128 64 MSTORE CALLDATASIZE 31 ADD 31 NOT AND 64 MLOAD ADD CALLDATASIZE 0 64 MLOAD CALLDATACOPY 64 MSTORE ";

/// Loads `count` words of calldata, the first one deepest, none of them cheap to make again.
fn load(count: usize) -> String {
    (0..count).fold(String::new(), |mut text, at| {
        let _ = write!(text, "{} CALLDATALOAD {} MUL ", 32 * (at % 7), 2 * at + 3);
        text
    })
}

/// Stores `count` products, and makes each of them again, in the same order, to mix them into one: whoever keeps them needs all at
/// once, the first one first. `between` comes while all are there.
fn make_twice(count: usize, between: &str) -> String {
    let product = |at: usize| format!("{} CALLDATALOAD {} MUL ", 32 * (at % 7), 2 * at + 3);
    let stores = (0..count).fold(String::new(), |text, at| text + &product(at) + &format!("{at} SSTORE "));
    (0..count).fold(stores + between + "5 ", |text, at| text + &product(at) + "XOR 7 MUL ")
}

/// Mixes the words on the stack into one, in this order of depths, 0 for the one on top.
fn mix(count: usize) -> String {
    (0..count - 1).fold(String::new(), |text, _| text + "SWAP1 7 MUL XOR ")
}

/// What else the programs do with memory; it decides where words may be put aside.
const MEMORY: [(&str, &str); 6] = [
    // A free pointer, and memory behind it that nobody sees the place of.
    (HEAP, "64 MLOAD 32 SWAP1 SUB MLOAD XOR 64 MLOAD MSTORE 32 64 MLOAD RETURN "),
    // The same, and the pointer is seen.
    (HEAP, "64 MLOAD XOR "),
    ("", ""),
    ("5 100 MSTORE ", "100 MLOAD XOR "),
    // At a place that only the call knows, which nobody may have written to.
    ("9 0 CALLDATALOAD 511 AND MSTORE8 ", "32 CALLDATALOAD 1023 AND MLOAD XOR "),
    // All of it is returned.
    ("32 0 0 CALLDATACOPY ", "0 MSTORE 64 CALLDATALOAD 2047 AND 0 RETURN "),
];

fn seven() -> Vec<Vec<u8>> {
    let corners = corners();
    let at = |n: usize| corners[n % corners.len()];
    (0..5)
        .map(|n| wide(&[at(n), at(3 * n + 1), at(5 * n + 2), at(n + 4), at(7 * n), at(2 * n + 9), at(n + 6)]))
        .collect()
}

fn with_seven(text: &str) -> Case {
    seven().iter().fold(Case::new(text), |case, calldata| case.calldata(calldata))
}

/// DUP16 and SWAP16 at every height from 17 to 40 words, with every kind of memory around them.
#[test]
fn words_out_of_reach() {
    for (before, after) in MEMORY {
        for count in [17, 24, 40] {
            let mut text = format!("{before}{}", load(count));
            // Words come up from as deep as they can, again and again, so that all of them move.
            for at in 0..2 * count {
                text += ["SWAP16 ", "DUP16 ADD ", "SWAP15 ", "DUP15 SWAP13 XOR ", "SWAP7 "][at % 5];
                // What is stored must be computed now.
                if at % 6 == 0 {
                    let _ = write!(text, "DUP{} {at} SSTORE ", 1 + at % 16);
                }
            }
            let _ = write!(text, "{}{after}{RETURN}", mix(count));
            let halts = with_seven(&text).agrees();
            assert!(halts.iter().all(|halt| *halt == Some(Halt::Return)), "{halts:?}");
        }
    }
}

/// Words are spilled below the memory that the program hands out, where it cannot tell; else they are put aside.
#[test]
fn words_below_the_free_pointer() {
    let text = |after: &str| format!("{HEAP}{}{after}{RETURN}", make_twice(30, ""));
    // Whether the stack is put aside, which takes MSIZE.
    let is_aside = |after: &str| {
        let program = with_seven(&text(after)).program().expect("it lifts");
        let lowered = program.lowered(&Options { fork: Fork::Osaka, ..Options::default() }).expect("it is lowered");
        lowered.listing().contains("MSIZE")
    };
    let agrees = |after: &str| {
        let mut case = with_seven(&text(after));
        case.forks = vec![Fork::London, Fork::Osaka];
        case.agrees();
    };
    const END: &str = "64 MLOAD MSTORE 32 64 MLOAD RETURN ";
    let unseen = [
        "",
        // How long it is, which comes first, that it is not zero.
        "128 64 MLOAD SUB XOR ",
        "64 MLOAD 200 LT XOR 64 MLOAD 128 EQ ADD 64 MLOAD ISZERO ADD ",
    ];
    for seen_not in unseen.map(|part| part.to_owned() + END) {
        assert!(!is_aside(&seen_not), "{seen_not}");
        agrees(&seen_not);
    }
    let seen = [
        "64 MLOAD XOR ",
        "64 MLOAD 0 SSTORE ",
        "64 MLOAD 2 MUL XOR ",
        "64 MLOAD DUP1 MSTORE 32 64 MLOAD KECCAK256 XOR ",
        "64 MLOAD CALLVALUE LT XOR ",
        "64 MLOAD BALANCE XOR ",
        "0 CALLDATALOAD 2047 AND MLOAD XOR ",
    ];
    for seen in seen.map(|part| part.to_owned() + END) {
        assert!(is_aside(&seen), "{seen}");
        agrees(&seen);
    }
}

/// Places that wrap around the end of all words, so that they would lie among spilled words, and memory handed out in a loop.
#[test]
fn wild_places_beside_spilled_words() {
    let ends: Vec<Vec<u8>> =
        [32u64, 96, 128, 160, 224, 320].iter().map(|&from_end| wide(&[Word::MAX - Word::from(from_end - 1)])).collect();
    for between in [
        "7 0 CALLDATALOAD 128 ADD MSTORE ",
        "0 CALLDATALOAD 7 DUP2 128 ADD MSTORE 1 DUP2 MSTORE POP ",
        "0 CALLDATALOAD 7 DUP2 160 ADD MSTORE DUP1 0 160 CALLDATACOPY POP ",
        "64 MLOAD 0 CALLDATALOAD ADD 64 MSTORE 9 64 MLOAD 32 ADD MSTORE 9 64 MLOAD MSTORE ",
        "0 CALLDATALOAD 255 AND 64 MLOAD
         :top DUP2 ISZERO @out JUMPI DUP2 DUP2 MSTORE 32 ADD SWAP1 1 SWAP1 SUB SWAP1 @top JUMP :out 64 MSTORE POP ",
    ] {
        let text = format!("{HEAP}{}64 MLOAD MSTORE 32 64 MLOAD RETURN", make_twice(30, between));
        let mut case = ends.iter().fold(Case::new(&text), |case, calldata| case.calldata(calldata));
        case = case.words(&[[0, 5, 9], [1, 2, 3], [32, 0, 7], [200, 3, 3]]);
        case.forks = vec![Fork::London, Fork::Osaka];
        let halts = case.agrees();
        assert_eq!(halts.last(), Some(&Some(Halt::Return)), "{between}");
    }
}

/// How spilled words look: kept where nobody has memory, below what the program hands out.
#[test]
fn a_listing_with_spilled_words() {
    let text = format!("{HEAP}{}64 MLOAD MSTORE 32 64 MLOAD RETURN", make_twice(24, ""));
    let lowered = with_seven(&text).program().expect("it lifts").lowered(&Options::default()).expect("it is lowered");
    insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("spilled.lowered", lowered.listing());
    });
    with_seven(&text).agrees();
}

/// Seventeen and more words that a loop turns around; SWAP1 alone exchanges two.
#[test]
fn loops_that_exchange_their_words() {
    for (before, after) in MEMORY {
        for (count, body) in [
            (2usize, "SWAP1 "),
            (3, "SWAP2 SWAP1 "),
            (5, "SWAP1 SWAP4 SWAP2 "),
            (12, "SWAP11 SWAP5 SWAP3 SWAP11 "),
            (14, "SWAP1 SWAP2 SWAP3 SWAP4 SWAP5 SWAP6 SWAP7 SWAP8 SWAP9 SWAP10 SWAP11 SWAP12 SWAP13 "),
        ] {
            // The counter is below them: calldata decides it, 0 to 15 rounds.
            let text = format!(
                "{before}96 CALLDATALOAD 15 AND {} :top {body} DUP{} ISZERO @done JUMPI
                 1 DUP{} SUB SWAP{} POP @top JUMP :done {}{after}{RETURN}",
                load(count),
                count + 1,
                count + 2,
                count + 1,
                mix(count),
            );
            with_seven(&text).words(&[[0, 1, 2, 0], [1, 2, 3, 1], [5, 6, 7, 13]]).agrees();
        }
    }
}

/// Two loops in each other that exchange their words, and leave from the inner one.
#[test]
fn nested_loops_with_two_ways_out() {
    let text = format!(
        "0 CALLDATALOAD 7 AND 32 CALLDATALOAD 64 CALLDATALOAD
         :outer DUP3 ISZERO @end JUMPI
           SWAP1 0 :inner DUP1 5 EQ @next JUMPI
             DUP3 DUP3 LT @early JUMPI
             1 ADD SWAP2 3 ADD SWAP1 SWAP2 @inner JUMP
           :next POP SWAP2 1 SWAP1 SUB SWAP2 @outer JUMP
         :early ADD SWAP1 5 MUL XOR XOR {RETURN}
         :end SUB XOR {RETURN}"
    );
    with_seven(&text).words(&[[3, 9, 1], [3, 1, 9], [7, 5, 5], [0, 1, 1], [6, 0, 0]]).agrees();
}

/// `f(n, a, b)` that calls itself twice, with words that live across both calls, in every kind of memory.
#[test]
fn recursion() {
    for (before, after) in MEMORY {
        let text = format!(
            "{before}@end 0 CALLDATALOAD 7 AND 32 CALLDATALOAD 64 CALLDATALOAD @f JUMP :end {after}{RETURN}
             :f DUP3 ISZERO @leaf JUMPI
               @one 1 DUP5 SUB DUP4 DUP4 MUL DUP6 3 ADD @f JUMP
             :one @two 1 DUP6 SUB 2 DUP7 SUB MUL 3 AND DUP5 DUP5 XOR DUP4 @f JUMP
             :two ADD SWAP3 POP ADD XOR SWAP1 JUMP
             :leaf SUB SWAP1 POP SWAP1 JUMP"
        );
        with_seven(&text).words(&[[1, 5, 9], [3, 1, 2], [4, 8, 8], [6, 3, 2]]).agrees();
    }
}

/// Two functions that call each other, one with more arguments than DUP reaches.
#[test]
fn functions_of_many_words_that_call_each_other() {
    for (before, after) in MEMORY {
        let text = format!(
            "{before}@end 0 CALLDATALOAD 3 AND {} @f JUMP :end {after}{RETURN}
             :f DUP13 ISZERO @leaf JUMPI
               @back 1 DUP15 SUB DUP3 DUP5 DUP7 DUP9 DUP11 DUP13 {} @f JUMP
             :back XOR {} SWAP1 POP SWAP1 JUMP
             :leaf {} SWAP1 POP SWAP1 JUMP",
            load(12),
            "DUP4 ".repeat(6),
            mix(12),
            mix(12),
        );
        with_seven(&text).words(&[[0; 7], [1; 7], [2, 3, 4, 5, 6, 7, 8], [3, 9, 2, 8, 4, 7, 5]]).agrees();
    }
}

/// n + f(n − 1): the address to return to and n, two words for each call.
fn sum() -> String {
    format!(
        "@end 0 CALLDATALOAD @f JUMP :end {RETURN}
         :f DUP1 ISZERO @leaf JUMPI @back 1 DUP3 SUB @f JUMP :back ADD :leaf SWAP1 JUMP"
    )
}

/// Recursion up to the limit of the stack where a call needs no more words than in the original, and up to two thirds of it
/// where it needs three instead of two: what was computed is kept, not computed again.
#[test]
fn recursion_up_to_the_limit_of_the_stack() {
    // The product is needed before the call and after it; the original makes it twice and keeps only n.
    let twice = format!(
        "@end 0 CALLDATALOAD @f JUMP :end {RETURN}
         :f DUP1 ISZERO @leaf JUMPI
            DUP1 DUP1 MUL 5 MUL 3 XOR 1 SSTORE
            @back 1 DUP3 SUB @f JUMP
         :back SWAP1 DUP1 MUL 5 MUL 3 XOR ADD :leaf SWAP1 JUMP"
    );
    for (text, most) in [(sum(), 509), (twice, 335)] {
        let halts = Case::new(&text).words(&[[0], [1], [100], [most - 9], [most]]).agrees();
        assert!(halts.iter().all(|halt| *halt == Some(Halt::Return)), "{halts:?}");
    }
}

/// Where a recursion overflows the stack, the interpreter has no outcome; where the lifter knows all words that it uses, it has one up to there.
#[test]
fn a_recursion_that_may_overflow_has_no_outcome() {
    // Three more words below every other call.
    let uneven = format!(
        "@end 0 CALLDATALOAD @f JUMP :end {RETURN}
         :f DUP1 ISZERO @leaf JUMPI DUP1 1 AND @odd JUMPI @back 1 DUP3 SUB @f JUMP
         :odd 7 8 9 @drop 1 DUP6 SUB @f JUMP :drop SWAP3 POP POP POP :back ADD :leaf SWAP1 JUMP"
    );
    // Through a function that is no part of the recursion by itself, and needs more words than the rest.
    let helped = format!(
        "@end 0 CALLDATALOAD @f JUMP :end {RETURN}
         :f DUP1 ISZERO @leaf JUMPI @back @lessened DUP3 @less JUMP :lessened @f JUMP :back ADD :leaf SWAP1 JUMP
         :less 1 2 3 4 5 6 POP POP POP POP POP SWAP1 SUB SWAP1 JUMP"
    );
    for (text, slack) in [(sum(), 2), (uneven, 300), (helped, 4)] {
        let case = Case::new(&text);
        let program = case.program().expect("it lifts");
        let interpreted = Executors::new(&program, &[Kind::Ir]).expect("an interpreter").with_limits(LIMITS);
        let (mut most, mut overflows) = (0, 0);
        for n in (1..900).rev() {
            let call = Call { calldata: words(&[n]), env: env() };
            let original = case.run(&case.code, FORK, &call).expect("it runs").map(|run| run.outcome);
            match interpreted.run(Kind::Ir, &call, &case.state) {
                Ok(run) => {
                    assert_eq!(Some(run.outcome), original, "{n}: {text}");
                    most = n.max(most);
                }
                Err(error) => assert_eq!(error.exit(), Exit::Limit, "{n}: {error}"),
            }
            if original.is_some_and(|outcome| outcome.halt == Halt::Trap) {
                overflows = n;
            }
        }
        assert!(most < overflows && most + slack >= overflows, "{most} {overflows}: {text}");
    }
}

/// The last push that fits, and the first that does not.
#[test]
fn the_last_word_of_the_stack() {
    for (count, halt) in [(1023, Halt::Return), (1024, Halt::Trap)] {
        let text = format!("{} 0 SSTORE STOP", "CALLVALUE ".repeat(count));
        assert_eq!(Case::new(&text).calldata(&[]).agrees(), [Some(halt)]);
    }
    let grow = "7 :top DUP1 0 MLOAD 1 ADD DUP1 0 MSTORE 0 CALLDATALOAD GT @top JUMPI 32 0 RETURN";
    let halts = Case::new(grow).words(&[[5], [1019], [1020], [1021], [1022], [2000]]).agrees();
    assert_eq!((halts[0], halts[5]), (Some(Halt::Return), Some(Halt::Trap)));
}

/// A stack that is too short on one path only.
#[test]
fn underflow_on_some_paths() {
    let text = format!("0 CALLDATALOAD @x JUMPI 1 2 :x 3 ADD ADD {RETURN}");
    assert_eq!(Case::new(&text).words(&[[0], [1]]).agrees(), [Some(Halt::Return), Some(Halt::Trap)]);
    // SWAP16 needs one more than there are.
    let text = format!("{} SWAP16 STOP", load(16));
    assert_eq!(with_seven(&text).agrees()[0], Some(Halt::Trap));
}

/// Too many words for a program that reads MSIZE, where nothing can be put aside: refused with a place, or right.
#[test]
fn a_program_that_sees_the_size_of_memory() {
    let program = |count: usize| {
        let stores = (0..count).fold(String::new(), |text, at| text + &format!("DUP{} {at} SSTORE ", 1 + at.min(15)));
        format!("{}{stores}{}MSIZE XOR {RETURN}", load(count), mix(count))
    };
    with_seven(&program(12)).agrees();
    with_seven(&program(30)).since(Fork::Amsterdam).agrees();
    let (code, pc) = with_seven(&program(30)).refusal();
    assert_eq!(code, "ZV0504");
    assert!(pc.is_some());
}

/// All pure instructions, with operands known and unknown, on words at every edge.
#[test]
fn arithmetic_at_the_edges() {
    const BINARY: [&str; 20] = [
        "ADD",
        "MUL",
        "SUB",
        "DIV",
        "SDIV",
        "MOD",
        "SMOD",
        "SIGNEXTEND",
        "LT",
        "GT",
        "SLT",
        "SGT",
        "EQ",
        "AND",
        "OR",
        "XOR",
        "BYTE",
        "SHL",
        "SHR",
        "SAR",
    ];
    let corners = corners();
    for opcode in BINARY {
        // Both operands from calldata, then each corner as a constant on either side; all results are mixed.
        let mut text = format!("32 CALLDATALOAD 0 CALLDATALOAD {opcode} ");
        for word in &corners {
            let _ = write!(text, "{word} 0 CALLDATALOAD {opcode} SWAP1 31 MUL ADD ");
            let _ = write!(text, "0 CALLDATALOAD {word} {opcode} SWAP1 31 MUL ADD ");
        }
        text += RETURN;
        let case = corners.iter().fold(Case::new(&text), |case, a| {
            corners.iter().step_by(3).fold(case, |case, b| case.calldata(&wide(&[*a, *b])))
        });
        case.agrees();
    }
    for opcode in ["ADDMOD", "MULMOD"] {
        let text = format!("64 CALLDATALOAD 32 CALLDATALOAD 0 CALLDATALOAD {opcode} {RETURN}");
        let case = corners.iter().fold(Case::new(&text), |case, a| {
            corners
                .iter()
                .fold(case, |case, b| case.calldata(&wide(&[*a, *b, Word::MAX])).calldata(&wide(&[*a, Word::MAX, *b])))
        });
        case.agrees();
    }
    // 0^0, powers beyond the word, one that is shifted.
    let text =
        format!("32 CALLDATALOAD 0 CALLDATALOAD EXP 32 CALLDATALOAD 2 EXP XOR 32 CALLDATALOAD 256 EXP XOR {RETURN}");
    let case = Case::new(&text).words(&[[0, 0], [0, 1], [1, 0], [2, 255], [2, 256], [3, 600], [256, 31], [256, 32]]);
    case.calldata(&wide(&[Word::MAX, Word::MAX])).agrees();
    let text = format!("0 CALLDATALOAD CLZ 0 CALLDATALOAD 1 SHR CLZ ADD {RETURN}");
    corners.iter().fold(Case::new(&text), |case, word| case.calldata(&wide(&[*word]))).agrees();
}

/// Thousands of instructions, each with the result of the one before: nothing recurses as deep as that.
#[test]
fn the_longest_chains() {
    for link in ["3 MUL 5 ADD ", "3 CALLVALUE SUB OR ", "CALLDATALOAD ", "MLOAD "] {
        let len = crate::assembler::assemble(link).len();
        let text = format!("0 CALLDATALOAD {} 0 SSTORE STOP", link.repeat(12_000 / len));
        let mut case = Case::new(&text).words(&[[0]]);
        case.forks = vec![Fork::Osaka];
        case.agrees();
    }
}
