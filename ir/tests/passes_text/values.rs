//! Passes over values.

use zvm_ir::passes::Goal;

use crate::{inputs, keeps, main_of, rewrites};

#[test]
fn fold_exchanges_the_sides_of_a_negated_branch() {
    rewrites(
        &["fold", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(1)
                + "    v1: u1 = iszero v0
    v2: u1 = iszero v1
    v3: u1 = iszero v2
    v4: u1 = iszero v3
    brif v4, block1, block2
block1:
    stop
block2:
    return_words 32, v0"),
        ),
        &main_of(
            &(inputs(1)
                + "    v1: u1 = iszero v0
    brif v1, block2, block1
block1:
    stop
block2:
    return_words 32, v0"),
        ),
    );
}

#[test]
fn fold_evaluates_through_blocks() {
    rewrites(
        &["fold", "dce"],
        Goal::Evm,
        &main_of(
            "block0:
    v0: u8 = iconst 200
    v1: u8 = iconst 100
    v2: u256 = wadd v0, v1
    jump block1
block1:
    v3: u256 = wmul v2, v2
    return_words 32, v3",
        ),
        &main_of(
            "block0:
    jump block1
block1:
    v3: u17 = iconst 90000
    return_words 32, v3",
        ),
    );
}

#[test]
fn fold_keeps_what_no_rule_knows() {
    keeps(
        "fold",
        &main_of(
            &(inputs(2)
                + "    v2: u256 = wadd v0, v1
    v3: u1 = ult v2, v0
    brif v3, block1, block2
block1:
    revert_words 0
block2:
    return_words 32, v2"),
        ),
    );
}

#[test]
fn gvn_finds_equal_instructions_that_dominate() {
    rewrites(
        &["gvn", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v2: u256 = wadd v0, v1
    v3: u1 = iszero v2
    brif v3, block1, block2
block1:
    v4: u256 = calldataload v91
    v5: u256 = wadd v4, v0
    return_words 32, v5
block2:
    v6: u256 = wmul v0, v1
    return_words 32, v6"),
        ),
        &main_of(
            &(inputs(2)
                + "    v2: u256 = wadd v0, v1
    v3: u1 = iszero v2
    brif v3, block1, block2
block1:
    return_words 32, v2
block2:
    v6: u256 = wmul v0, v1
    return_words 32, v6"),
        ),
    );
}

#[test]
fn gvn_keeps_reads_that_may_differ_and_siblings() {
    keeps(
        "gvn",
        &main_of(
            &(inputs(1)
                + "    v1: u256 = sload v0
    sstore v0, v90
    v2: u256 = sload v0
    v3: u1 = eq v1, v2
    brif v3, block1, block2
block1:
    v4: u256 = not v0
    return_words 32, v4
block2:
    v5: u256 = not v0
    return_words 32, v5"),
        ),
    );
}

#[test]
fn narrow_follows_branches() {
    rewrites(
        &["narrow", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v2: u9 = iconst 256
    v3: u1 = ult v0, v2
    brif v3, block1, block2
block1:
    v4: u256 = wadd v0, v91
    v5: u256 = wmul v4, v4
    v6: u1 = ult v5, v0
    brif v6, block2, block3
block2:
    revert_words 0
block3:
    return_words 32, v5"),
        ),
        &main_of(
            "block0:
    v90: u1 = iconst 0
    v0: u256 = calldataload v90
    v91: u6 = iconst 32
    v2: u9 = iconst 256
    v3: u1 = ult v0, v2
    brif v3, block1, block4
block4:
    jump block2
block1:
    v7: u8 = narrow v0
    v4: u9 = add v7, v91
    v5: u18 = mul v4, v4
    v8: u17 = narrow v5
    jump block3
block2:
    revert_words 0
block3:
    return_words 32, v8",
        ),
    );
}

#[test]
fn narrow_keeps_the_bounds_of_a_loop() {
    rewrites(
        &["narrow", "dce", "gvn", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(1)
                + "    v1: u256 = iconst 0
    v2: u256 = iconst 100
    v9: u8 = iconst 1
    jump block1(v1, v0)
block1(v3: u256, v4: u256):
    v5: u1 = ult v3, v2
    brif v5, block2, block3
block2:
    v6: u256 = wadd v3, v9
    v7: u256 = wadd v4, v3
    jump block1(v6, v7)
block3:
    return_words 64, v3, v4"),
        ),
        &main_of(
            "block0:
    v90: u1 = iconst 0
    v0: u256 = calldataload v90
    v2: u256 = iconst 100
    v9: u8 = iconst 1
    v10: u7 = iconst 0
    jump block1(v10, v0)
block1(v3: u7, v4: u256):
    v5: u1 = ult v3, v2
    brif v5, block2, block3
block2:
    v6: u9 = add v3, v9
    v8: u7 = narrow v6
    v7: u256 = wadd v3, v4
    jump block1(v8, v7)
block3:
    v11: u7 = iconst 100
    return_words 64, v11, v4",
        ),
    );
}

#[test]
fn narrow_makes_subtraction_exact_where_it_cannot_borrow() {
    rewrites(
        &["narrow", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v2: u1 = ult v0, v1
    brif v2, block1, block2
block1:
    revert_words 0
block2:
    v3: u256 = wsub v0, v1
    v4: u1 = iszero v3
    brif v4, block3, block4
block3:
    stop
block4:
    v5: u256 = wsub v3, v6
    return_words 32, v5")
                .replace("    v2: u1 =", "    v6: u1 = iconst 1\n    v2: u1 ="),
        ),
        &main_of(
            &(inputs(2)
                + "    v6: u1 = iconst 1
    v2: u1 = ult v0, v1
    brif v2, block1, block2
block1:
    revert_words 0
block2:
    v3: u256 = sub v0, v1
    v4: u1 = iszero v3
    brif v4, block3, block4
block3:
    stop
block4:
    v5: u256 = sub v3, v6
    return_words 32, v5"),
        ),
    );
}

#[test]
fn narrow_turns_signed_into_unsigned() {
    rewrites(
        &["narrow", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v2: u8 = iconst 15
    v3: u256 = signextend v2, v0
    v4: u1 = iconst 0
    v5: u1 = slt v3, v4
    brif v5, block1, block2
block1:
    v8: u256 = signextend v2, v3
    return_words 32, v8
block2:
    v6: u256 = sdiv v3, v2
    v7: u256 = sar v4, v6
    return_words 32, v7")
                .replace("sar v4", "sar v2"),
        ),
        &main_of(
            "block0:
    v90: u1 = iconst 0
    v0: u256 = calldataload v90
    v2: u8 = iconst 15
    v3: u256 = signextend v2, v0
    v4: u1 = iconst 0
    v5: u1 = slt v3, v4
    brif v5, block1, block2
block1:
    return_words 32, v3
block2:
    v9: u127 = narrow v3
    v6: u127 = udiv v9, v2
    v10: u124 = narrow v6
    v7: u124 = shr v2, v10
    v11: u109 = narrow v7
    return_words 32, v11",
        ),
    );
}

#[test]
fn narrow_keeps_words_of_which_nothing_is_known() {
    keeps(
        "narrow",
        &main_of(
            &(inputs(2)
                + "    v2: u256 = wadd v0, v1
    v3: u1 = ult v2, v0
    brif v3, block1, block2
block1:
    revert_words 0
block2:
    v4: u256 = wmul v2, v0
    return_words 32, v4"),
        ),
    );
}

#[test]
fn licm_moves_what_runs_in_every_round() {
    rewrites(
        &["licm", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    jump block1(v0)
block1(v2: u256):
    v3: u256 = wmul v1, v1
    v4: u1 = ult v2, v3
    brif v4, block2, block3
block2:
    v5: u8 = iconst 1
    v6: u256 = shr v5, v2
    v7: u256 = wadd v6, v3
    v8: u256 = shr v5, v7
    jump block1(v8)
block3:
    return_words 32, v2")
                .replace(
                    "    v7: u256 = wadd v6, v3\n    v8: u256 = shr v5, v7\n    jump block1(v8)",
                    "    v7: u256 = or v6, v1\n    v9: u256 = or v7, v3\n    jump block1(v9)",
                ),
        ),
        &main_of(
            &(inputs(2)
                + "    v3: u256 = wmul v1, v1
    jump block1(v0)
block1(v2: u256):
    v4: u1 = ult v2, v3
    brif v4, block2, block3
block2:
    v5: u8 = iconst 1
    v6: u256 = shr v5, v2
    v7: u256 = or v6, v1
    v9: u256 = or v7, v3
    jump block1(v9)
block3:
    return_words 32, v2"),
        ),
    );
}

#[test]
fn licm_keeps_promises_and_rare_code_inside() {
    keeps(
        "licm",
        &main_of(
            &(inputs(2)
                + "    jump block1(v0)
block1(v2: u256):
    v3: u1 = ult v2, v91
    brif v3, block2, block3
block2:
    v4: u1 = iszero v2
    brif v4, block4, block5
block4:
    v5: u256 = wmul v1, v1
    sstore v5, v1
    jump block5
block5:
    v6: u256 = wadd v2, v91
    jump block1(v6)
block3:
    return_words 32, v2"),
        ),
    );
}

#[test]
fn sink_brings_a_subtraction_behind_its_check() {
    rewrites(
        &["fold", "sink", "narrow", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v2: u256 = wsub v0, v1
    v3: u1 = ult v0, v2
    brif v3, block1, block2
block1:
    revert_words 0
block2:
    return_words 32, v2"),
        ),
        &main_of(
            &(inputs(2)
                + "    v3: u1 = ult v0, v1
    brif v3, block1, block2
block1:
    revert_words 0
block2:
    v2: u256 = sub v0, v1
    return_words 32, v2"),
        ),
    );
}

#[test]
fn sink_keeps_what_both_sides_or_a_loop_use() {
    keeps(
        "sink",
        &main_of(
            &(inputs(2)
                + "    v2: u256 = wmul v0, v1
    jump block1(v0)
block1(v3: u256):
    v4: u256 = shr v91, v3
    v5: u1 = iszero v4
    brif v5, block2, block3
block2:
    return_words 64, v2, v4
block3:
    v6: u256 = xor v4, v2
    v7: u1 = ult v6, v1
    brif v7, block4, block1(v4)
block4:
    stop"),
        ),
    );
}
