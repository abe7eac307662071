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

/// A program that looks for `n` selectors one after the other; each returns its number.
fn selectors(n: u32) -> String {
    let mut text = String::from(
        "block0:
    v0: u1 = iconst 0
    v1: u256 = calldataload v0
    v2: u8 = iconst 224
    v3: u256 = shr v2, v1
    v4: u32 = narrow v3
    jump block100\n",
    );
    for at in 0..n {
        let next = if at + 1 < n { format!("block{}", 101 + at) } else { "block99".to_owned() };
        text += &format!(
            "block{}:\n    v{}: u32 = iconst 0x{:08x}\n    v{}: u1 = eq v4, v{}\n    brif v{}, block{}, {next}\n",
            100 + at,
            100 + 3 * at,
            0x0101_0101 * (at + 1) + 0x10 * at,
            101 + 3 * at,
            100 + 3 * at,
            101 + 3 * at,
            200 + at,
        );
    }
    for at in 0..n {
        text += &format!(
            "block{}:\n    v{}: u16 = iconst {}\n    return_words 32, v{}\n",
            200 + at,
            102 + 3 * at,
            700 + at,
            102 + 3 * at
        );
    }
    main_of(&(text + "block99:\n    revert_words 0"))
}

/// Calls every selector and some others before and after.
fn searched(before: &str, goal: Goal, selectors: impl Iterator<Item = u32>) -> zvm_ir::Module {
    let original = crate::module(before);
    let mut changed = original.clone();
    for name in ["simplify-cfg", "dispatch", "dce", "dead-stores", "simplify-cfg", "dce"] {
        zvm_ir::passes::apply(zvm_ir::passes::find(name).expect(name), &mut changed, goal);
        zvm_ir::verify(&changed).unwrap_or_else(|errors| panic!("{name}: {errors:#?}\n{changed}"));
    }
    for selector in selectors.chain([0, 1, 0x0101_0102, u32::MAX]) {
        for len in 0..=5 {
            let calldata = &[&selector.to_be_bytes()[..], &[7]].concat()[..len];
            let outcome = |module| {
                let env = zvm_ir::Env::default();
                crate::run(module, crate::Call::new(calldata, &env), &zvm_ir::EmptyState)
            };
            assert_eq!(outcome(&original), outcome(&changed), "0x{selector:08x}\n{changed}");
        }
    }
    changed
}

#[test]
fn dispatch_looks_many_selectors_up_by_four_bits() {
    let cases = (0..20).map(|at| 0x0101_0101 * (at + 1) + 0x10 * at);
    let changed = searched(&selectors(20), Goal::Evm, cases).to_string();
    assert_eq!(changed.matches("= and v").count(), 1, "{changed}");
    assert_eq!(changed.matches("return_words").count(), 20, "{changed}");
}

#[test]
fn dispatch_keeps_short_searches_and_those_of_the_circuit() {
    for (count, goal) in [(3, Goal::Evm), (20, Goal::Circuit)] {
        let mut module = crate::module(&selectors(count));
        zvm_ir::passes::apply(zvm_ir::passes::find("simplify-cfg").expect("a pass"), &mut module, goal);
        let before = module.clone();
        let changed = zvm_ir::passes::apply(zvm_ir::passes::find("dispatch").expect("a pass"), &mut module, goal);
        assert!(!changed && module == before, "{module}");
    }
}

/// The table has the address of the first or of the second comparison, by the selector modulo 2.
const TABLE: &str = "data0 = 0x00110022
entry @main
func @main() {
block0:
    v0: u1 = iconst 0
    v1: u256 = calldataload v0
    v2: u8 = iconst 224
    v3: u256 = shr v2, v1
    v4: u2 = iconst 2
    v5: u2 = urem v3, v4
    v6: u1 = iconst 1
    v7: u256 = shl v6, v5
    v8: u256 = wsub v7, v6
    v9: u256 = shl v6, v8
    v10: u5 = iconst 30
    datacopy data0, v10, v9, v4
    v11: u256 = mload v0
    v12: u6 = iconst 34
    v13: u1 = eq v11, v12
    brif v13, block1, block2
block1:
    v14: u24 = iconst 0xaa0001
    v15: u1 = eq v3, v14
    brif v15, block3, block5
block2:
    v16: u24 = iconst 0xaa0002
    v17: u1 = eq v3, v16
    brif v17, block4, block5
block3:
    return_words 32, v6
block4:
    return_words 32, v4
block5:
    revert_words 0
}";

#[test]
fn dispatch_replaces_a_table_in_the_code() {
    for goal in [Goal::Evm, Goal::Circuit] {
        let changed = searched(TABLE, goal, [0x00aa_0001, 0x00aa_0002, 0xaa00_0100].into_iter());
        let text = changed.to_string();
        assert!(!text.contains("datacopy") && !text.contains("mload"), "{text}");
    }
}

#[test]
fn dispatch_replaces_a_table_that_memory_still_shows() {
    // One function returns what the table left in memory, the other does not look.
    let shows =
        TABLE.replace("block3:\n    return_words 32, v6", "block3:\n    v20: u6 = iconst 32\n    return v0, v20");
    let by_bits = shows.replace("v5: u2 = urem v3, v4", "v5: u1 = trunc v3");
    for (text, goal) in [(&shows, Goal::Evm), (&shows, Goal::Circuit), (&by_bits, Goal::Evm)] {
        let changed = searched(text, goal, [0x00aa_0001, 0x00aa_0002, 0xaa00_0100].into_iter()).to_string();
        assert!(!changed.contains("datacopy") && changed.matches("mstore").count() == 1, "{changed}");
    }
    // What was read of the table is returned: the table stays.
    let read = TABLE.replace("block3:\n    return_words 32, v6", "block3:\n    return_words 32, v11");
    let changed = searched(&read, Goal::Evm, [0x00aa_0001, 0x00aa_0002].into_iter()).to_string();
    assert!(changed.contains("datacopy") && changed.contains("mload"), "{changed}");
}

/// Each row of the table has a selector and the least size of calldata; both are asked at once, then the size decides.
const DENSE: &str = "data0 = 0x00aa00020500aa000104
entry @main
func @main() {
block0:
    v0: u1 = iconst 0
    v1: u256 = calldataload v0
    v2: u8 = iconst 224
    v3: u256 = shr v2, v1
    v4: u2 = iconst 2
    v5: u2 = urem v3, v4
    v6: u3 = iconst 5
    v7: u5 = mul v5, v6
    v8: u5 = iconst 27
    datacopy data0, v8, v7, v6
    v9: u256 = mload v0
    v10: u4 = iconst 8
    v11: u256 = shr v10, v9
    v12: u1 = eq v11, v3
    v13: u64 = calldatasize
    v14: u2 = iconst 3
    v15: u1 = ult v14, v13
    v16: u1 = and v12, v15
    brif v16, block1(v9), block5
block1(v17: u256):
    v18: u8 = iconst 255
    v19: u8 = and v17, v18
    v20: u1 = ult v13, v19
    brif v20, block5, block2
block2:
    v21: u1 = eq v19, v6
    brif v21, block3, block4
block3:
    return_words 32, v6
block4:
    return_words 32, v4
block5:
    revert_words 0
}";

#[test]
fn dispatch_takes_a_table_apart_that_says_what_else_to_check() {
    let selectors = || [0x00aa_0001, 0x00aa_0002, 0xaa00_0100].into_iter();
    let changed = searched(DENSE, Goal::Evm, selectors()).to_string();
    assert!(!changed.contains("datacopy") && !changed.contains("mload") && !changed.contains("urem"), "{changed}");
    // The function that needs the size of the table's word in another way keeps the table.
    let used = DENSE.replace("block4:\n    return_words 32, v4", "block4:\n    return_words 32, v9");
    let changed = searched(&used, Goal::Evm, selectors()).to_string();
    assert!(changed.contains("datacopy") && changed.contains("mload"), "{changed}");
}

#[test]
fn dispatch_drops_a_size_check_that_the_search_repeats() {
    let check = "block0:
    v0: u64 = calldatasize
    v1: u3 = iconst 4
    v2: u1 = ult v0, v1
    brif v2, block9, block1
block1:
    v3: u1 = iconst 0
    v4: u256 = calldataload v3
    v5: u8 = iconst 224
    v6: u256 = shr v5, v4
    v7: u32 = iconst 0xaabbccSS
    v8: u1 = eq v6, v7
    brif v8, block2, block9
block2:
    return_words 32, v1
block9:
    revert_words 0";
    let whole = searched(&main_of(&check.replace("SS", "dd")), Goal::Evm, [0xaabb_ccdd].into_iter()).to_string();
    assert!(!whole.contains("calldatasize"), "{whole}");
    // Three bytes of calldata would find this one.
    let cut = searched(&main_of(&check.replace("SS", "00")), Goal::Evm, [0xaabb_cc00].into_iter()).to_string();
    assert!(cut.contains("calldatasize"), "{cut}");
}
