//! Passes over blocks and functions.

use zvm_ir::passes::Goal;

use crate::{inputs, keeps, main_of, rewrites};

#[test]
fn simplify_cfg_decides_skips_and_merges() {
    rewrites(
        &["simplify-cfg", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(1)
                + "    v1: u1 = iconst 0
    brif v1, block1(v0), block2
block1(v2: u256):
    return_words 32, v2
block2:
    v3: u1 = iszero v0
    brif v3, block3, block4
block3:
    jump block5(v0)
block4:
    jump block5(v90)
block5(v4: u256):
    return_words 32, v4")
                .replace("jump block5(v90)", "v99: u256 = zext v90\n    jump block5(v99)"),
        ),
        &main_of(
            &(inputs(1)
                + "    v3: u1 = iszero v0
    brif v3, block5(v0), block4
block4:
    v99: u256 = zext v90
    jump block5(v99)
block5(v4: u256):
    return_words 32, v4"),
        ),
    );
}

#[test]
fn simplify_cfg_cuts_after_calls_that_never_return() {
    let tail = "\nfunc @fail(u8) {\nblock0(v0: u8):\n    revert_words 1, v0\n}";
    rewrites(
        &["simplify-cfg"],
        Goal::Evm,
        &(main_of(
            "block0:
    v0: u8 = iconst 7
    call @fail(v0)
    jump block1
block1:
    stop",
        ) + tail),
        &(main_of(
            "block0:
    v0: u8 = iconst 7
    call @fail(v0)
    trap invalid",
        ) + tail),
    );
}

#[test]
fn simplify_cfg_keeps_loops_and_shared_blocks() {
    keeps(
        "simplify-cfg",
        &main_of(
            &(inputs(2)
                + "    jump block1(v0)
block1(v2: u256):
    v3: u1 = ult v2, v1
    brif v3, block2, block3
block2:
    v4: u256 = wadd v2, v91
    jump block1(v4)
block3:
    return_words 32, v2"),
        ),
    );
}

#[test]
fn redundant_params_go_through_nested_loops() {
    rewrites(
        &["redundant-params"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    jump block1(v0, v1)
block1(v2: u256, v3: u256):
    v4: u1 = iszero v3
    brif v4, block4, block2(v2, v3)
block2(v5: u256, v6: u256):
    v7: u256 = shr v91, v6
    v8: u1 = ult v7, v5
    brif v8, block3, block2(v5, v7)
block3:
    jump block1(v5, v7)
block4:
    return_words 32, v2"),
        ),
        &main_of(
            &(inputs(2)
                + "    jump block1(v1)
block1(v3: u256):
    v4: u1 = iszero v3
    brif v4, block4, block2(v3)
block2(v6: u256):
    v7: u256 = shr v91, v6
    v8: u1 = ult v7, v0
    brif v8, block3, block2(v7)
block3:
    jump block1(v7)
block4:
    return_words 32, v0"),
        ),
    );
}

#[test]
fn redundant_params_keep_what_differs() {
    keeps(
        "redundant-params",
        &main_of(
            &(inputs(2)
                + "    v2: u1 = ult v0, v1
    brif v2, block1(v0), block1(v1)
block1(v3: u256):
    return_words 32, v3"),
        ),
    );
}

#[test]
fn dce_removes_cycles_of_parameters() {
    rewrites(
        &["dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v2: u256 = mload v0
    jump block1(v0, v1)
block1(v3: u256, v4: u256):
    v5: u256 = wadd v4, v91
    v6: u256 = shr v91, v3
    v7: u1 = iszero v6
    brif v7, block2, block1(v6, v5)
block2:
    stop")
                .replace("mload v0", "mload v90"),
        ),
        &main_of(
            "block0:
    v90: u1 = iconst 0
    v0: u256 = calldataload v90
    v91: u6 = iconst 32
    jump block1(v0)
block1(v3: u256):
    v6: u256 = shr v91, v3
    v7: u1 = iszero v6
    brif v7, block2, block1(v6)
block2:
    stop",
        ),
    );
}

#[test]
fn dce_keeps_effects_and_loads_that_msize_sees() {
    keeps(
        "dce",
        &(main_of(
            "block0:
    v0: u8 = iconst 96
    v1: u256 = mload v0
    v2: u64 = msize
    v3: u8 = call @f()
    return_words 32, v2",
        ) + "\nfunc @f() -> u8 {\nblock0:\n    v0: u8 = iconst 1\n    sstore v0, v0\n    ret v0\n}"),
    );
}

#[test]
fn inline_cuts_the_block_at_the_call() {
    rewrites(
        &["inline", "dead-functions", "simplify-cfg"],
        Goal::Evm,
        &(main_of(
            &(inputs(1)
                + "    v1: u256, v2: u1 = call @half(v0)
    brif v2, block1, block2
block1:
    return_words 32, v1
block2:
    stop"),
        ) + "
func @half(u256) -> u256, u1 {
block0(v0: u256):
    v1: u1 = iconst 1
    v2: u256 = shr v1, v0
    v3: u1 = trunc v0
    ret v2, v3
}"),
        &main_of(
            &(inputs(1)
                + "    v3: u1 = iconst 1
    v1: u256 = shr v3, v0
    v2: u1 = trunc v0
    brif v2, block1, block2
block1:
    return_words 32, v1
block2:
    stop"),
        ),
    );
}

#[test]
fn inline_keeps_recursion() {
    keeps(
        "inline",
        &(main_of(
            "block0:
    v0: u8 = iconst 3
    v1: u8 = call @f(v0)
    return_words 32, v1",
        ) + "
func @f(u8) -> u8 {
block0(v0: u8):
    v1: u1 = iszero v0
    brif v1, block1, block2
block1:
    ret v0
block2:
    v2: u1 = iconst 1
    v3: u8 = shr v2, v0
    v4: u8 = call @f(v3)
    ret v4
}"),
    );
}

#[test]
fn simplify_cfg_branches_where_the_condition_is_made() {
    // `a || b` as compilers write it, then a branch on it.
    rewrites(
        &["fold", "simplify-cfg", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v2: u1 = iszero v0
    v3: u1 = iszero v2
    brif v3, block2(v3), block1
block1:
    v4: u1 = ult v0, v1
    jump block2(v4)
block2(v5: u1):
    brif v5, block3, block4
block3:
    stop
block4:
    return_words 32, v1"),
        ),
        &main_of(
            &(inputs(2)
                + "    v2: u1 = iszero v0
    brif v2, block1, block3
block1:
    v4: u1 = ult v0, v1
    brif v4, block3, block4
block3:
    stop
block4:
    return_words 32, v1"),
        ),
    );
}

#[test]
fn redundant_params_find_twins() {
    rewrites(
        &["redundant-params"],
        Goal::Evm,
        &main_of(
            &(inputs(1)
                + "    v1: u6 = iconst 32
    jump block1(v0, v0, v0)
block1(v2: u256, v3: u256, v4: u256):
    v5: u256 = shr v1, v2
    v6: u1 = iszero v5
    brif v6, block2, block1(v5, v5, v4)
block2:
    return_words 96, v2, v3, v4"),
        ),
        &main_of(
            &(inputs(1)
                + "    v1: u6 = iconst 32
    jump block1(v0)
block1(v2: u256):
    v5: u256 = shr v1, v2
    v6: u1 = iszero v5
    brif v6, block2, block1(v5)
block2:
    return_words 96, v2, v2, v0"),
        ),
    );
}
