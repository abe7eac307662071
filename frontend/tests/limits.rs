//! Arbitrary bytes: no panic, no hang, and if they lift, the same outcome as revm.

mod oracle;

use oracle::{Compared, Random, World, compare};
use zvm_frontend::{Fork, LiftError, LiftOptions, check, check_lift, lift};
use zvm_ir::Word;

/// Bytes with a taste for what makes control flow: small pushes, jumps, stack traffic.
fn structured(random: &mut Random, len: usize) -> Vec<u8> {
    let mut code = Vec::new();
    while code.len() < len {
        match random.below(12) {
            0..=2 => code.extend([0x60, random.below(len as u64 + 4) as u8]),
            3 => code.push(0x5b),
            4 => code.extend([0x60, random.below(len as u64) as u8, 0x56]),
            5 => code.extend([0x60, random.below(len as u64) as u8, 0x57]),
            6 => code.push(0x80 + random.below(5) as u8),
            7 => code.push(0x90 + random.below(5) as u8),
            8 => code.push(*[0x50, 0x50, 0x56, 0x57, 0x5b].get(random.below(5) as usize).unwrap_or(&0)),
            9 => code.push(*[0x35, 0x51, 0x36, 0x58, 0x38].get(random.below(5) as usize).unwrap_or(&0)),
            10 => code.push(random.below(0x1f) as u8),
            _ => code.push(*[0x00, 0xf3, 0xfd, 0x52, 0xfe].get(random.below(5) as usize).unwrap_or(&0)),
        }
    }
    code
}

/// A program of labelled pieces that call, return, branch and loop, mostly with enough on the stack, and end by
/// returning what they left in memory.
fn assembled(random: &mut Random, pieces: usize) -> Vec<u8> {
    let mut code: Vec<u8> = vec![0x5f, 0x35, 0x60, 0x20, 0x35, 0x60, 0x40, 0x35];
    let mut fixups: Vec<(usize, usize)> = Vec::new();
    let mut labels = Vec::with_capacity(pieces);
    let push_label = |code: &mut Vec<u8>, fixups: &mut Vec<(usize, usize)>, label: usize| {
        code.push(0x61);
        fixups.push((code.len(), label));
        code.extend([0, 0]);
    };
    for _ in 0..pieces {
        labels.push(code.len());
        code.push(0x5b);
        for _ in 0..random.below(7) {
            let label = random.below(pieces as u64) as usize;
            match random.below(16) {
                0..=2 => code.extend([0x60, random.below(9) as u8]),
                3 | 4 => code.push(0x80 + random.below(4) as u8),
                5 | 6 => code.push(0x90 + random.below(4) as u8),
                7 => code.push([0x01, 0x03, 0x10, 0x14, 0x15, 0x16, 0x06][random.below(7) as usize]),
                8 => code.extend([0x60, 32 * random.below(3) as u8, if random.below(3) == 0 { 0x51 } else { 0x52 }]),
                9 | 10 => {
                    // A call: the address to return to, perhaps an argument, the jump, the place to return to.
                    let back = code.len() + 3;
                    let with_argument = random.below(2) as usize;
                    let back = back + with_argument + 4;
                    code.extend([0x61, (back >> 8) as u8, back as u8]);
                    code.extend(std::iter::repeat_n(0x81, with_argument));
                    push_label(&mut code, &mut fixups, label);
                    code.extend([0x56, 0x5b]);
                }
                11 => code.push(0x50),
                12 | 13 => {
                    code.extend([0x60, 32 * random.below(3) as u8, 0x35]);
                    push_label(&mut code, &mut fixups, label);
                    code.push(0x57);
                }
                14 => push_label(&mut code, &mut fixups, label),
                _ => code.push(0x57),
            }
        }
        match random.below(8) {
            0 => {
                push_label(&mut code, &mut fixups, random.below(pieces as u64) as usize);
                code.push(0x56);
            }
            1 | 2 => code.push(0x56),
            3 => code.extend([0x90, 0x56]),
            4 => code.extend([0x91, 0x90, 0x56]),
            5 => code.extend([0x60, 0x60, 0x5f, 0xf3]),
            _ => {}
        }
    }
    code.extend([0x5f, 0x52, 0x60, 0x80, 0x5f, 0xf3]);
    for (at, label) in fixups {
        code[at..at + 2].copy_from_slice(&(labels[label] as u16).to_be_bytes());
    }
    code
}

#[test]
fn structured_bytes_agree_with_revm() {
    agree(500, |random| {
        let len = 4 + random.below(60) as usize;
        structured(random, len)
    });
}

#[test]
fn assembled_programs_agree_with_revm() {
    agree(100, |random| {
        let pieces = 2 + random.below(8) as usize;
        assembled(random, pieces)
    });
}

/// Programs of the generators above: what the checker knows of a word at a jump, a call that takes more of the stack than there is, zero beside a
/// word of memory that is followed.
#[test]
fn what_the_checker_knows_better_is_no_error() {
    for text in [
        "5f356020356040355b6100158260075790565b90565b60016100155761001261002781610015565b600790565f5260805ff3",
        "5f356020356040355b610010610016565b60086006565b60405260205160049190565b600790565f5260805ff3",
        "60025b60339160065757825826005601004600a575b60225060155b82fd60305b602760055751fe58603c926027570cfd5b92f31735601060071e600e60395760",
        "600a51600757601c518092600e935638825783600b566004f3",
        "6001515b600d51575860018438601556601e566016933658601e6006fd600c5b0a60245b586002",
    ] {
        let code = oracle::hex(text);
        let lifted = lift(&code, &LiftOptions::default()).unwrap();
        check_lift(&code, &lifted).unwrap_or_else(|errors| panic!("{text}: {}\n{}", errors[0], lifted.module));
    }
}

/// Compares generated programs, `ZVM_RUNS` of them from the seed `ZVM_SEED`.
fn agree(runs: usize, generate: impl Fn(&mut Random) -> Vec<u8>) {
    let runs: usize = std::env::var("ZVM_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(runs);
    let seed = std::env::var("ZVM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0x0123_4567_89ab_cdef);
    let mut random = Random(seed);
    let (mut lifted_count, mut same) = (0, 0);
    for _ in 0..runs {
        let code = generate(&mut random);
        let text: String = code.iter().map(|byte| format!("{byte:02x}")).collect();
        let lifted = lift(&code, &LiftOptions::default());
        let Ok(lifted) = lifted else { continue };
        zvm_ir::verify(&lifted.module).unwrap_or_else(|errors| panic!("{text}: {}\n{}", errors[0], lifted.module));
        // A loop that fills the stack becomes a thousand blocks with a thousand items each: that takes the checker minutes.
        if lifted.report.ir_blocks < 200 {
            check_lift(&code, &lifted).unwrap_or_else(|errors| panic!("{text}: {}\n{}", errors[0], lifted.module));
        }
        lifted_count += 1;
        let world = World { code: code.clone(), ..World::default() };
        for _ in 0..3 {
            let calldata: Vec<u8> = (0..96).map(|at| if at % 32 == 31 { random.below(3) as u8 } else { 0 }).collect();
            match compare(&lifted.module, &world, &calldata, Word::ZERO, 200_000) {
                Compared::Same(_, steps) => {
                    same += 1;
                    assert!(steps.edges.is_subset(&lifted.edges), "{text}: an edge is missing");
                }
                Compared::Unfit => {}
                Compared::Different(what) => panic!("{text}\n{what}\n{}", lifted.module),
            }
        }
    }
    println!("{lifted_count} of {runs} lifted, {same} runs agree");
    assert!(lifted_count > runs / 4, "most structured programs lift: {lifted_count}");
}

#[test]
fn raw_bytes_neither_panic_nor_hang() {
    let mut random = Random(0xfeed_beef_1234_5678);
    for len in [0, 1, 2, 31, 100, 1_000, 10_000, 24_576, 100_000] {
        for _ in 0..3 {
            let code: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            let report = check(&code, &LiftOptions { fork: Fork::Amsterdam, ..LiftOptions::default() });
            assert!(report.l1_ring || !report.problems.is_empty());
        }
    }
}

#[test]
fn long_structured_bytes_neither_panic_nor_hang() {
    let mut random = Random(0x5eed);
    for pieces in [10, 100, 1_000, 3_000] {
        for _ in 0..3 {
            let code = assembled(&mut random, pieces);
            let report = check(&code, &LiftOptions::default());
            assert!(report.l1_ring || !report.problems.is_empty());
        }
    }
}

/// Programs made of one byte or of one short pattern stress each limit alone.
#[test]
fn repeated_patterns_neither_panic_nor_hang() {
    let patterns: [&[u8]; 9] = [
        &[0x5b],
        &[0x58],
        &[0x60, 0x00, 0x56],
        &[0x5b, 0x60, 0x00, 0x57],
        &[0x5b, 0x80, 0x56],
        &[0x5b, 0x36, 0x58, 0x57],
        &[0x5b, 0x58, 0x36, 0x60, 0x00, 0x57],
        &[0x5b, 0x81, 0x91, 0x57],
        &[0x60, 0x00, 0x52, 0x60, 0x00, 0x51],
    ];
    for pattern in patterns {
        for count in [10, 1_000, 20_000] {
            let code: Vec<u8> = pattern.iter().copied().cycle().take(pattern.len() * count).collect();
            let _ = check(&code, &LiftOptions::default());
        }
    }
}

/// A chain of functions, each of which calls the next one twice: as deep as calls get.
#[test]
fn deep_call_chains() {
    for depth in [10, 300] {
        let mut text = String::from("@end 0 CALLDATALOAD @f0 JUMP :end 0 MSTORE 32 0 RETURN\n");
        for at in 0..depth {
            let next = at + 1;
            text.push_str(&format!(":f{at} DUP1 @go{at} JUMPI SWAP1 JUMP :go{at} @a{at} SWAP1 1 SWAP1 SUB @f{next} JUMP :a{at} @b{at} SWAP1 @f{next} JUMP :b{at} SWAP1 JUMP\n"));
        }
        text.push_str(&format!(":f{depth} 5 ADD SWAP1 JUMP"));
        let code = oracle::assemble(&text);
        let lifted = lift(&code, &LiftOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(lifted.module.funcs.len(), depth + 1, "the first is called once");
        let world = World { code, ..World::default() };
        let compared = compare(&lifted.module, &world, &[0; 32], Word::ZERO, 1_000_000);
        assert!(matches!(compared, Compared::Same(..)), "{compared:?}");
    }
}

/// A stack of `words` that `blocks` blocks pass on to where they are all stored. As many parameters as both multiplied are needed:
/// up to two millions they are made.
#[test]
fn stacks_over_many_blocks_have_a_limit() {
    let code = |words: usize, blocks: usize| {
        let (push, pass, store) = ("0 CALLDATALOAD ".repeat(words), "5b".repeat(blocks), "0 MSTORE ".repeat(words));
        oracle::assemble(&format!("{push} #{pass} {store} 32 0 RETURN"))
    };
    let small = code(900, 300);
    let lifted = lift(&small, &LiftOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(lifted.report.ir_blocks, 301);
    let world = World { code: small, ..World::default() };
    let compared = compare(&lifted.module, &world, &[5; 32], Word::ZERO, 1_000_000);
    assert!(matches!(compared, Compared::Same(..)), "{compared:?}");
    for blocks in [3_000, 20_000, 500_000] {
        let error = lift(&code(900, blocks), &LiftOptions::default()).expect_err("it is too large");
        assert!(matches!(error, LiftError::Budget { .. }), "{error}");
    }
}

/// Functions that end in one another, each leaving a word below the address to return to: their stacks are as long as there are
/// functions, and all but a thousand overflow.
#[test]
fn stacks_of_functions_have_a_limit() {
    for functions in [500, 5_000, 16_000] {
        let pieces: String = (0..functions).map(|at| format!(":f{at} CALLER SWAP1 ")).collect();
        let code = oracle::assemble(&format!("@e @f0 JUMP :e STOP {pieces} JUMP"));
        let lifted = lift(&code, &LiftOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        assert!(lifted.report.ir_blocks <= 1026, "{} blocks", lifted.report.ir_blocks);
        let world = World { code, ..World::default() };
        let compared = compare(&lifted.module, &world, &[], Word::ZERO, 1_000_000);
        assert!(matches!(compared, Compared::Same(..)), "{compared:?}");
    }
}

/// A ring of more functions than the stack has room for is refused after a bounded count of what is followed.
#[test]
fn rings_that_are_too_deep_have_a_limit() {
    let ring =
        |at: usize| format!(":f{at} CALLDATASIZE @r{at} JUMPI @a{at} @f{} JUMP :a{at} :r{at} JUMP\n", (at + 1) % 1_500);
    let pieces: String = (0..1_500).map(ring).collect();
    let code = oracle::assemble(&format!("@end @f0 JUMP :end STOP\n{pieces}"));
    let error = lift(&code, &LiftOptions::default()).expect_err("it is too deep");
    assert!(matches!(error, LiftError::Budget { what: "addresses on stacks", .. }), "{error}");
}
