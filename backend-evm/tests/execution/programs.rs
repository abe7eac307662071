//! `interp(m) = revm(lower(m))` on hand-written programs: control flow, calls, memory, data.

use crate::harness::{Random, agree, all_options, corner_words, words};
use zvm_ir::{Module, Word};

fn parse(text: &str) -> Module {
    zvm_ir::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

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
