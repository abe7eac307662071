//! `interp(m) = revm(lower(m))` on hand-written programs: control flow, calls, memory, data.

use crate::harness::{Random, agree, all_options, corner_words, parse, words};
use zvm_ir::{Module, Word};

fn inputs(count: usize) -> Vec<Vec<u8>> {
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut all = vec![vec![]];
    for corner in corner_words() {
        all.push(words(&[corner, Word::from(3), corner]));
    }
    while all.len() < count {
        all.push(words(&[random.word(), random.word(), random.word(), random.word()]));
    }
    all.truncate(count);
    all
}

#[test]
fn a_loop_with_permuted_parameters() {
    let module = parse(
        "zvm 1
        entry @main
        func @main() {
        block0:
            v0: u8 = iconst 0
            v1: u256 = calldataload v0
            v2: u8 = iconst 32
            v3: u256 = calldataload v2
            v4: u256 = iconst 9
            jump block1(v1, v3, v4)
        block1(v5: u256, v6: u256, v7: u256):
            v8: u256 = wadd v5, v6
            v9: u1 = iconst 1
            v10: u256 = wsub v7, v9
            v11: u1 = iszero v10
            brif v11, block2, block1(v6, v8, v10)
        block2:
            return_words 64, v8, v5
        }",
    );
    agree(&module, &all_options(), &inputs(25));
}

#[test]
fn swapped_parameters() {
    let module = parse(
        "zvm 1
        entry @main
        func @main() {
        block0:
            v0: u8 = iconst 0
            v1: u256 = calldataload v0
            v2: u8 = iconst 32
            v3: u256 = calldataload v2
            v4: u256 = caller
            v5: u256 = iconst 5
            jump block1(v1, v3, v4, v5)
        block1(v6: u256, v7: u256, v8: u256, v9: u256):
            v10: u1 = iconst 1
            v11: u256 = wsub v9, v10
            v12: u1 = iszero v11
            brif v12, block2, block1(v7, v8, v6, v11)
        block2:
            return_words 90, v6, v7, v8
        }"
        .replace("v4: u256 = caller", "v4: u160 = caller\n v13: u256 = zext v4")
        .replace("block1(v1, v3, v4, v5)", "block1(v1, v3, v13, v5)")
        .as_str(),
    );
    agree(&module, &all_options(), &inputs(8));
}

#[test]
fn calls_with_several_results_and_recursion() {
    let module = parse(
        "zvm 1
        entry @main
        func @main() {
        block0:
            v0: u8 = iconst 0
            v1: u256 = calldataload v0
            v2: u256 = iconst 15
            v3: u256 = and v1, v2
            v4: u256 = call @factorial(v3)
            v5: u256, v6: u1 = call @pair(v4, v1)
            v7: u256, v8: u1 = call @pair(v1, v5)
            v9: u256, v10: u256 = call @hanoi(v3, v5)
            sstore v3, v4
            return_words 192, v4, v5, v6, v7, v9, v10
        }
        func @pair(u256, u256) -> u256, u1 {
        block0(v0: u256, v1: u256):
            v2: u256 = wsub v0, v1
            v3: u1 = ult v0, v1
            ret v2, v3
        }
        func @factorial(u256) -> u256 {
        block0(v0: u256):
            v1: u1 = iszero v0
            brif v1, block1, block2
        block1:
            v2: u256 = iconst 1
            ret v2
        block2:
            v3: u1 = iconst 1
            v4: u256 = wsub v0, v3
            v5: u256 = call @factorial(v4)
            v6: u256 = wmul v0, v5
            ret v6
        }
        func @hanoi(u256, u256) -> u256, u256 {
        block0(v0: u256, v1: u256):
            v2: u1 = iszero v0
            brif v2, block1, block2
        block1:
            ret v1, v0
        block2:
            v3: u256 = iconst 6
            v4: u1 = ult v3, v0
            brif v4, block3, block4
        block3:
            v5: u256 = call @never(v1)
            ret v5, v5
        block4:
            v6: u1 = iconst 1
            v7: u256 = wsub v0, v6
            v8: u256, v9: u256 = call @hanoi(v7, v1)
            v10: u256, v11: u256 = call @hanoi(v7, v8)
            v12: u256 = wadd v9, v11
            v13: u256 = wadd v12, v6
            ret v10, v13
        }
        func @never(u256) -> u256 {
        block0(v0: u256):
            v1: u256 = wadd v0, v0
            revert_words 33, v1, v0
        }",
    );
    agree(&module, &all_options(), &inputs(25));
}

#[test]
fn branches_that_share_blocks_and_drop_values() {
    let module = parse(
        "zvm 1
        entry @main
        func @main() {
        block0:
            v0: u8 = iconst 0
            v1: u256 = calldataload v0
            v2: u8 = iconst 32
            v3: u256 = calldataload v2
            v4: u256 = wmul v1, v3
            v5: u1 = ult v1, v3
            brif v5, block1, block2(v4, v1)
        block1:
            v6: u256 = xor v1, v3
            v7: u1 = eq v6, v4
            brif v7, block2(v6, v6), block3
        block2(v8: u256, v9: u256):
            v10: u1 = slt v8, v9
            brif v10, block3, block4(v8)
        block3:
            revert_words 4, v1
        block4(v11: u256):
            v12: u256 = select v5, v11, v9
            return_words 32, v12
        }",
    );
    agree(&module, &all_options(), &inputs(40));
}

/// Looks four bits of the first word up; of the 16 buckets those in `cases` lead to results of their own, and the first of
/// these asks for the whole word.
fn buckets(cases: &[u64]) -> String {
    let mut text = String::from(
        "zvm 1
entry @main
func @main() {
block0:
    v0: u8 = iconst 0
    v1: u256 = calldataload v0
    v2: u8 = iconst 240
    v3: u8 = and v1, v2
    v4: u6 = iconst 32
    v5: u256 = calldataload v4
    jump block1\n",
    );
    for (at, case) in cases.iter().enumerate() {
        let (k, c, next) = (10 + 2 * at, 11 + 2 * at, at + 2);
        text += &format!(
            "block{}:\n    v{k}: u8 = iconst {}\n    v{c}: u1 = eq v3, v{k}\n    brif v{c}, block{}, block{next}\n",
            at + 1,
            16 * case,
            100 + at,
        );
    }
    text += &format!("block{}:\n    v200: u256 = wadd v1, v5\n    return_words 32, v200\n", cases.len() + 1);
    for at in 0..cases.len() {
        text += &match at {
            0 => "block100:\n    v300: u1 = eq v1, v5\n    brif v300, block99, block98\n".to_owned(),
            _ => format!(
                "block{}:\n    v{}: u256 = wsub v1, v{}\n    return_words 64, v{}, v5\n",
                100 + at,
                300 + at,
                10 + 2 * at,
                300 + at
            ),
        };
    }
    text + "block99:\n    return_words 32, v1\nblock98:\n    revert_words 0\n}"
}

#[test]
fn four_bits_are_looked_up_in_a_table() {
    let all: Vec<u64> = (0..15).collect();
    for cases in [&all[..], &[3, 1, 4, 15, 9], &[7, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6]] {
        let module = parse(&buckets(cases));
        let mut inputs = inputs(40);
        for low in 0..=255u64 {
            inputs.push(words(&[Word::from(low), Word::from(low)]));
            inputs.push(words(&[Word::MAX << 8 | Word::from(low), Word::from(1)]));
        }
        agree(&module, &all_options(), &inputs);
        let code = crate::harness::lowered(&module, &zvm_backend_evm::Options::default()).listing();
        assert!(code.contains("PUSH32") && code.contains("SHR"), "there is no table in\n{code}");
    }
    // Three comparisons cost less than a table, and a mask of other bits has no place in one.
    let few = buckets(&[1, 2, 3]);
    let other = buckets(&all).replace("iconst 240\n    v3", "iconst 241\n    v3");
    for text in [few, other] {
        let module = parse(&text);
        agree(&module, &all_options(), &inputs(20));
        assert!(!crate::harness::lowered(&module, &zvm_backend_evm::Options::default()).listing().contains("PUSH32"));
    }
}

/// `count` products modulo a prime of 32 bytes.
fn products(count: usize) -> Module {
    let prime = "0x30644e72e131a029b85045b68181585d2833e84879b9709143e1f593f0000001";
    let mut text = format!(
        "zvm 1\nentry @main\nfunc @main() {{\nblock0:\n    v0: u1 = iconst 0\n    v1: u256 = calldataload v0
    v2: u254 = iconst {prime}\n    v3: u256 = iconst {prime}\n"
    );
    for at in 0..count {
        let (product, factor) = (at + 4, if at == 0 { 1 } else { at + 3 });
        text += &format!("    v{product}: u256 = mulmod v{factor}, v1, v{}\n    sstore v{product}, v1\n", 2 + at % 2);
    }
    parse(&(text + &format!("    return_words 32, v{}\n}}", count + 3)))
}

#[test]
fn a_long_constant_is_pushed_once_where_bytes_are_short() {
    use zvm_backend_evm::{Optimize, Options};
    let pushes = |module: &Module, optimize| {
        let lowered = crate::harness::lowered(module, &Options { optimize, ..Options::default() });
        lowered.listing().matches("PUSH32").count()
    };
    let few = products(12);
    agree(&few, &all_options(), &inputs(10));
    assert_eq!((pushes(&few, Optimize::Gas), pushes(&few, Optimize::Size)), (12, 1));
    // What would not fit an account is made short for gas, too.
    let many = products(800);
    agree(&many, &[Options::default()], &inputs(3));
    assert_eq!(pushes(&many, Optimize::Gas), 1);
}

#[test]
fn a_loop_that_ends_at_its_bottom_jumps_back_once() {
    let module = parse(
        "zvm 1
        entry @main
        func @main() {
        block0:
            v0: u8 = iconst 0
            v1: u256 = calldataload v0
            v2: u8 = iconst 15
            v13: u8 = and v1, v2
            v3: u256 = zext v13
            v4: u8 = iconst 32
            v5: u256 = calldataload v4
            jump block1(v3, v5)
        block1(v6: u256, v7: u256):
            v8: u256 = wmul v7, v5
            v9: u256 = xor v8, v6
            v10: u1 = iconst 1
            v11: u256 = wsub v6, v10
            v12: u1 = iszero v6
            brif v12, block2, block1(v11, v9)
        block2:
            return_words 64, v9, v5
        }",
    );
    agree(&module, &all_options(), &inputs(25));
    let listing = crate::harness::lowered(&module, &zvm_backend_evm::Options::default()).listing();
    assert_eq!((listing.matches("JUMPI").count(), listing.matches("  JUMP\n").count()), (1, 0), "{listing}");
}

#[test]
fn every_instruction_has_an_origin() {
    let module = parse(
        "zvm 1
        entry @main
        func @main() {
        block0:
            v0: u8 = iconst 0 @0000
            v1: u256 = calldataload v0 @0001
            v2: u8 = iconst 32
            v3: u256 = calldataload v2 @0004
            jump block1(v1, v3) @0007
        block1(v5: u256, v6: u256):
            v7: u256 = wadd v5, v6 @0011
            v8: u1 = ult v7, v5
            brif v8, block2, block1(v6, v7) @0014
        block2:
            v9: u256, v10: u256 = call @swap(v5, v7) @0020
            return_words 64, v9, v10 @0030
        }
        func @swap(u256, u256) -> u256, u256 {
        block0(v0: u256, v1: u256):
            sstore v0, v1 @0040
            ret v1, v0 @0041
        }",
    );
    for options in all_options() {
        let lowered = crate::harness::lowered(&module, &options);
        let known = [0, 1, 4, 7, 0x11, 0x14, 0x20, 0x30, 0x40, 0x41];
        for at in 0..lowered.code_len() as u32 {
            assert!(lowered.origin(at).is_some_and(|pc| known.contains(&pc)), "{at:#x}\n{}", lowered.listing());
        }
        assert_eq!(lowered.origin(lowered.code_len() as u32), None);
        // Code of a function has origins in that function.
        let swap = lowered.blocks.iter().find(|block| block.function == "swap").unwrap();
        assert!((swap.start..swap.end).all(|at| lowered.origin(at).is_some_and(|pc| pc >= 0x40)));
    }
}
