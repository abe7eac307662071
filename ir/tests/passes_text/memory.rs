//! Passes over memory.

use zvm_ir::passes::{Goal, apply, find};
use zvm_ir::verify;

use crate::{inputs, keeps, main_of, module, rewrites};

#[test]
fn promote_memory_follows_the_free_memory_pointer() {
    rewrites(
        &["promote-memory", "simplify-cfg", "redundant-params", "fold", "gvn", "dead-stores", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(1)
                + "    v1: u7 = iconst 64
    v2: u8 = iconst 128
    mstore v1, v2
    v3: u1 = iszero v0
    brif v3, block1, block2
block1:
    v4: u256 = mload v1
    v5: u256 = iconst 0x4e487b7100000000000000000000000000000000000000000000000000000000
    mstore v4, v5
    v6: u3 = iconst 4
    v7: u256 = wadd v4, v6
    v8: u5 = iconst 17
    mstore v7, v8
    v9: u6 = iconst 36
    revert v4, v9
block2:
    v10: u256 = mload v1
    mstore v10, v0
    v11: u6 = iconst 32
    v12: u256 = wadd v10, v11
    mstore v1, v12
    v13: u256 = mload v1
    v14: u256 = wsub v13, v10
    return v10, v14"),
        ),
        &main_of(
            &(inputs(1)
                + "    v3: u1 = iszero v0
    brif v3, block1, block2
block1:
    v5: u256 = iconst 0x4e487b7100000000000000000000000000000000000000000000000000000000
    v6: u229 = iconst 0x1100000000000000000000000000000000000000000000000000000000
    revert_words 36, v5, v6
block2:
    return_words 32, v0")
                .replace("v5: u256", "v5: u255"),
        ),
    );
}

#[test]
fn promote_memory_puts_overlapping_stores_together() {
    rewrites(
        &["promote-memory", "dead-stores", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v2: u1 = iconst 0
    v3: u3 = iconst 4
    mstore v2, v0
    mstore v3, v1
    v4: u256 = mload v2
    return_words 32, v4"),
        ),
        &main_of(
            &(inputs(2)
                + "    v2: u8 = iconst 224
    v3: u256 = shr v2, v0
    v4: u32 = trunc v3
    v5: u8 = iconst 224
    v6: u256 = shl v5, v4
    v7: u6 = iconst 32
    v8: u256 = shr v7, v1
    v9: u224 = trunc v8
    v10: u256 = or v6, v9
    return_words 32, v10"),
        ),
    );
}

#[test]
fn promote_memory_makes_parameters_where_paths_meet() {
    rewrites(
        &["promote-memory", "dead-stores", "dce", "simplify-cfg"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v2: u1 = iconst 0
    v3: u1 = ult v0, v1
    brif v3, block1, block2
block1:
    mstore v2, v0
    jump block3
block2:
    mstore8 v90, v1
    jump block3
block3:
    v4: u6 = iconst 32
    v5: u256 = keccak256 v2, v4
    return_words 32, v5"),
        ),
        &main_of(
            "block0:
    v90: u1 = iconst 0
    v0: u256 = calldataload v90
    v91: u6 = iconst 32
    v1: u256 = calldataload v91
    v3: u1 = ult v0, v1
    brif v3, block3(v0), block2
block2:
    v6: u8 = trunc v1
    v7: u8 = iconst 248
    v8: u256 = shl v7, v6
    jump block3(v8)
block3(v9: u256):
    v5: u256 = keccak_words 32, v9
    return_words 32, v5",
        ),
    );
}

#[test]
fn promote_memory_reads_calldata_and_data_through_copies() {
    rewrites(
        &["promote-memory", "dead-stores", "fold", "gvn", "dce"],
        Goal::Evm,
        &("data0 = 0x0102\n".to_owned()
            + &main_of(
                "block0:
    v0: u8 = iconst 0
    v1: u8 = iconst 32
    v2: u8 = iconst 36
    calldatacopy v0, v1, v1
    datacopy data0, v1, v0, v1
    return v0, v2",
            )),
        &("data0 = 0x0102\n".to_owned()
            + &main_of(
                "block0:
    v1: u6 = iconst 32
    v2: u256 = calldataload v1
    v3: u249 = iconst 0x0102000000000000000000000000000000000000000000000000000000000000
    return_words 36, v2, v3",
            )),
    );
}

#[test]
fn promote_memory_keeps_what_it_cannot_follow() {
    // A store to an unknown address, a callee's own view of memory, and a module that observes msize.
    for text in [
        main_of(
            &(inputs(2)
                + "    mstore v90, v0
    mstore v0, v1
    v2: u256 = mload v90
    return_words 32, v2"),
        ),
        main_of("block0:\n    v0: u8 = call @f()\n    stop")
            + "
func @f() -> u8 {
block0:
    v0: u8 = iconst 0
    v1: u256 = mload v0
    v2: u8 = trunc v1
    ret v2
}",
        main_of(
            "block0:
    v0: u8 = iconst 0
    mstore v0, v0
    v1: u256 = mload v0
    v2: u64 = msize
    return_words 64, v1, v2",
        ),
    ] {
        keeps("promote-memory", &text);
    }
}

#[test]
fn promote_memory_looks_past_writes_that_are_elsewhere() {
    rewrites(
        &["promote-memory", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    mstore v90, v0
    v2: u8 = iconst 255
    v3: u8 = and v0, v2
    v4: u256 = wadd v3, v91
    mstore v4, v1
    v5: u256 = mload v90
    return_words 32, v5"),
        ),
        &main_of(
            &(inputs(2)
                + "    mstore v90, v0
    v2: u8 = iconst 255
    v3: u8 = and v0, v2
    v4: u256 = wadd v3, v91
    mstore v4, v1
    return_words 32, v0"),
        ),
    );
}

#[test]
fn dead_stores_go_and_live_ones_stay() {
    rewrites(
        &["dead-stores"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    mstore v90, v0
    mstore v90, v1
    v2: u8 = iconst 16
    mstore v2, v0
    mstore8 v91, v1
    return v90, v2"),
        ),
        &main_of(
            &(inputs(2)
                + "    mstore v90, v1
    v2: u8 = iconst 16
    return v90, v2"),
        ),
    );
    keeps(
        "dead-stores",
        &main_of(
            &(inputs(2)
                + "    mstore v90, v0
    v2: u8 = iconst 40
    jump block1
block1:
    v3: u256 = mload v1
    v4: u1 = iszero v3
    brif v4, block2, block1
block2:
    mstore v91, v1
    return v90, v2")
                .replace("mload v1", "mload v90"),
        ),
    );
}

#[test]
fn duplicate_exits_gives_each_path_its_own() {
    let shared = main_of(
        &(inputs(1)
            + "    v1: u256 = iconst 4
    v2: u256 = iconst 32
    v3: u1 = iszero v0
    brif v3, block1, block2
block1:
    mstore v90, v1
    jump block3(v1)
block2:
    mstore v90, v2
    jump block3(v2)
block3(v4: u256):
    revert v90, v4"),
    );
    rewrites(
        &["duplicate-exits"],
        Goal::Circuit,
        &shared,
        &main_of(
            &(inputs(1)
                + "    v1: u256 = iconst 4
    v2: u256 = iconst 32
    v3: u1 = iszero v0
    brif v3, block1, block2
block1:
    mstore v90, v1
    revert v90, v1
block2:
    mstore v90, v2
    revert v90, v2"),
        ),
    );
    rewrites(&["duplicate-exits"], Goal::Evm, &shared, &shared);
    keeps("duplicate-exits", &shared.replace("revert v90, v4", "revert v90, v2"));
}

#[test]
fn sink_stores_leaves_paths_without_memory() {
    rewrites(
        &["sink-stores"],
        Goal::Circuit,
        &main_of(
            &(inputs(1)
                + "    v1: u8 = iconst 64
    v2: u8 = iconst 128
    mstore v1, v2
    v3: u1 = iszero v0
    brif v3, block1, block2
block1:
    return_words 32, v0
block2:
    v4: u256 = mload v1
    return_words 32, v4"),
        ),
        &main_of(
            &(inputs(1)
                + "    v1: u8 = iconst 64
    v2: u8 = iconst 128
    v3: u1 = iszero v0
    brif v3, block1, block2
block1:
    return_words 32, v0
block2:
    mstore v1, v2
    v4: u256 = mload v1
    return_words 32, v4"),
        ),
    );
    keeps(
        "sink-stores",
        &main_of(
            &(inputs(1)
                + "    mstore v90, v0
    v4: u256 = mload v90
    v3: u1 = iszero v0
    brif v3, block1, block2
block1:
    return_words 32, v0
block2:
    v5: u8 = iconst 32
    return v90, v5"),
        ),
    );
}

#[test]
fn forward_memory_reads_back_around_an_unknown_pointer() {
    // The second word is written over in part, and the return is of 36 bytes.
    rewrites(
        &["forward-memory", "dead-stores", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(3)
                + "    v70: u8 = trunc v0
    v3: u6 = iconst 32
    v4: u256 = wadd v70, v3
    mstore v4, v2
    mstore v70, v1
    v5: u256 = mload v4
    v6: u256 = mload v70
    v7: u256 = wadd v5, v6
    v8: u7 = iconst 64
    v9: u256 = keccak256 v70, v8
    sstore v9, v7
    stop"),
        ),
        &main_of(
            &(inputs(3).replace("    v90: u1 = iconst 0\n    v0: u256 = calldataload v90\n", "")
                + "    v7: u256 = wadd v2, v1
    v9: u256 = keccak_words 64, v1, v2
    sstore v9, v7
    stop"),
        ),
    );
    rewrites(
        &["forward-memory", "fold", "dead-stores", "dce"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v70: u8 = trunc v0
    mstore v70, v1
    v2: u6 = iconst 36
    v3: u3 = iconst 4
    v4: u256 = wadd v70, v3
    v5: u256 = iconst 0x11000000000000000000000000000000000000000000000000000000000000
    mstore v70, v5
    mstore v4, v1
    revert v70, v2")
                .replace("v5: u256", "v5: u245"),
        ),
        &main_of(
            &(inputs(2).replace("    v90: u1 = iconst 0\n    v0: u256 = calldataload v90\n", "")
                + "    v5: u245 = iconst 0x11000000000000000000000000000000000000000000000000000000000000
    v6: u6 = iconst 32
    v7: u256 = shr v6, v1
    v8: u224 = narrow v7
    v9: u245 = or v8, v5
    v10: u32 = trunc v1
    v11: u8 = iconst 224
    v12: u256 = shl v11, v10
    revert_words 36, v9, v12"),
        ),
    );
}

#[test]
fn forward_memory_does_not_read_past_writes_at_other_addresses() {
    // v1 may be anything, so that the store there may be the one that is read.
    keeps(
        "forward-memory",
        &main_of(
            &(inputs(3)
                + "    v70: u8 = trunc v0
    v71: u8 = trunc v1
    mstore v70, v2
    mstore v71, v2
    v3: u256 = mload v70
    return_words 32, v3"),
        ),
    );
    // One byte of the word is written over.
    keeps(
        "forward-memory",
        &main_of(
            &(inputs(3)
                + "    v70: u8 = trunc v0
    v71: u8 = trunc v1
    mstore v70, v2
    v3: u5 = iconst 31
    v4: u256 = wadd v70, v3
    returndatacopy v4, v90, v3
    v5: u256 = mload v70
    return_words 32, v5"),
        ),
    );
    // Where paths meet nothing is known.
    keeps(
        "forward-memory",
        &main_of(
            &(inputs(3)
                + "    v70: u8 = trunc v0
    v71: u8 = trunc v1
    mstore v70, v2
    v3: u1 = iszero v1
    brif v3, block1, block2
block1:
    v4: u256 = mload v70
    mstore v4, v1
    jump block3
block2:
    jump block3
block3:
    v5: u256 = mload v70
    return_words 32, v5")
                .replace("    v4: u256 = mload v70\n    mstore v4, v1\n", "    mstore v71, v1\n"),
        ),
    );
}

#[test]
fn dead_stores_knows_what_callers_read() {
    let module = |reads: &str| {
        format!(
            "entry @main\nfunc @main() {{\nblock0:\n    v0: u1 = iconst 0\n    v1: u256 = calldataload v0\n    \
             call @hash(v1)\n{reads}    stop\n}}\n\nfunc @hash(u256) {{\nblock0(v0: u256):\n    v1: u1 = iconst 0\n    \
             mstore v1, v0\n    v2: u256 = sload v0\n    sstore v2, v0\n    ret\n}}\n"
        )
    };
    let without =
        module("").replace("    mstore v1, v0\n", "").replace("    v1: u1 = iconst 0\n    v2: u256", "    v2: u256");
    let without = without.replace("v2", "v1");
    rewrites(&["dead-stores", "dce"], Goal::Evm, &module(""), &without);
    keeps("dead-stores", &module("    v2: u256 = mload v1\n    sstore v2, v2\n").replace("mload v1", "mload v0"));
}

#[test]
fn dead_stores_sees_that_a_copy_writes_what_is_read() {
    let body = |len: &str| {
        main_of(
            &(inputs(2)
                + &format!(
                    "    v70: u8 = trunc v0
    v71: u8 = trunc v1
    mstore v90, v0
    calldatacopy v90, v90, v71
    revert v90, {len}"
                )),
        )
    };
    rewrites(&["dead-stores"], Goal::Evm, &body("v71"), &body("v71").replace("    mstore v90, v0\n", ""));
    keeps("dead-stores", &body("v70"));
}

#[test]
fn logs_of_known_words_leave_memory_for_the_circuit() {
    let stored = |log: &str| {
        main_of(
            &(inputs(2)
                + &format!(
                    "    v2: u8 = iconst 128
    v3: u8 = iconst 160
    mstore v2, v0
    mstore v3, v1
{log}    stop"
                )),
        )
    };
    let (before, passes) =
        (stored("    v4: u6 = iconst 40\n    log v2, v4, v1\n"), ["promote-memory", "dead-stores", "dce"]);
    let after = main_of(
        &(inputs(2)
            + "    v2: u8 = iconst 192
    v3: u256 = shr v2, v1
    v4: u64 = trunc v3
    v5: u8 = iconst 192
    v6: u256 = shl v5, v4
    log_words 40, v1, v0, v6
    stop"),
    );
    rewrites(&passes, Goal::Circuit, &before, &after);
    // On the EVM the words have to be in memory, and are.
    rewrites(&passes, Goal::Evm, &before, &before);
    // Words that nobody stored stay where they are.
    keeps("promote-memory", &stored("    log v0, v91, v1\n"));
}

#[test]
fn forward_memory_logs_what_was_stored_around_a_pointer() {
    let body = |log: &str| {
        main_of(
            &(inputs(2)
                + &format!(
                    "    v2: u8 = trunc v0
    v3: u8 = trunc v1
    mstore v2, v1
{log}    stop"
                )),
        )
    };
    rewrites(&["forward-memory"], Goal::Circuit, &body("    log v2, v91, v0\n"), &body("    log_words 32, v0, v1\n"));
    rewrites(&["forward-memory"], Goal::Evm, &body("    log v2, v91, v0\n"), &body("    log v2, v91, v0\n"));
    keeps("forward-memory", &body("    log v3, v91, v0\n"));
}

#[test]
fn bound_addresses_bounds_what_is_certain_to_be_accessed_once() {
    rewrites(
        &["bound-addresses"],
        Goal::Circuit,
        &main_of(
            &(inputs(2)
                + "    v5: u28 = trunc v0
    v2: u256 = wadd v5, v91
    mstore v5, v1
    mstore v2, v1
    sstore v0, v0
    v3: u256 = mload v2
    return_words 32, v3"),
        ),
        &main_of(
            &(inputs(2)
                + "    v5: u28 = trunc v0
    v6: u27 = bound 64, v5
    v2: u256 = wadd v6, v91
    mstore v6, v1
    mstore v2, v1
    sstore v0, v0
    v3: u256 = mload v2
    return_words 32, v3"),
        ),
    );
    // A sum may have wrapped: that says nothing about what was added.
    rewrites(
        &["bound-addresses"],
        Goal::Circuit,
        &main_of(
            &(inputs(1)
                + "    v1: u8 = trunc v0\n    v2: u256 = not v1\n    v3: u256 = not v2\n    mstore8 v3, v0\n    stop"),
        ),
        &main_of(
            &(inputs(1)
                + "    v1: u8 = trunc v0
    v2: u256 = not v1
    v3: u256 = not v2
    v4: u27 = bound 1, v3
    mstore8 v4, v0
    stop"),
        ),
    );
    // What is short enough needs no bound, and what is bounded needs no other.
    keeps("bound-addresses", &main_of(&(inputs(1) + "    v1: u25 = trunc v0\n    mstore v1, v0\n    stop")));
    keeps(
        "bound-addresses",
        &main_of(
            &(inputs(1)
                + "    v1: u8 = trunc v0\n    v2: u256 = not v1\n    v3: u256 = not v2\n    v4: u27 = bound 32, v3\n    mstore v4, v0\n    stop"),
        ),
    );
}

#[test]
fn an_access_that_goes_leaves_its_bound() {
    let body =
        |access: &str| main_of(&(inputs(2) + &format!("    v5: u28 = trunc v0\n{access}    return_words 32, v1")));
    let (passes, bounded) = (["bound-addresses", "dead-stores", "dce"], body("    v6: u27 = bound 32, v5\n"));
    let (store, load) = ("    mstore v5, v1\n", "    v6: u256 = mload v5\n");
    rewrites(&passes, Goal::Circuit, &body(store), &bounded);
    rewrites(&passes, Goal::Circuit, &body(load), &bounded);
    rewrites(&passes, Goal::Evm, &body(load), &bounded);
    // The EVM would need more code for the check than for the store.
    rewrites(&passes, Goal::Evm, &body(store), &body("    v7: u27 = bound 32, v5\n    mstore v7, v1\n"));
    // One access is enough.
    rewrites(
        &["bound-addresses", "dead-stores", "dce"],
        Goal::Evm,
        &body("    mstore v5, v1\n    mstore v5, v0\n"),
        &body("    v7: u27 = bound 32, v5\n    mstore v7, v0\n"),
    );
    keeps("dce", &body("    v6: u27 = bound 32, v5\n"));
}

#[test]
fn the_end_of_an_access_of_unknown_length_is_bounded_for_the_circuit() {
    let body = |bounds: &str, start: &str, len: &str| {
        main_of(
            &(inputs(2)
                + &format!(
                    "    v4: u28 = trunc v0\n    v5: u28 = trunc v1\n{bounds}    \
                     calldatacopy {start}, v90, {len}\n    stop"
                )),
        )
    };
    rewrites(
        &["bound-addresses"],
        Goal::Circuit,
        &body("", "v4", "v5"),
        &body(
            "    v6: u27 = bound 0, v5
    v7: u1 = iconst 0
    v8: u1 = iszero v6
    v9: u28 = select v8, v7, v4
    v10: u27 = bound 0, v9
    v11: u256 = wadd v10, v6
    v12: u27 = bound 0, v11
",
            "v4",
            "v6",
        ),
    );
    let bounded = body("    v6: u27 = bound 0, v5\n", "v4", "v6");
    rewrites(&["bound-addresses"], Goal::Evm, &body("", "v4", "v5"), &bounded);
}

#[test]
fn a_bound_of_a_sum_bounds_a_counter_from_there_on() {
    // What is stored at 32 is not read by a loop over an array that begins at 160, however long it is said to be.
    let body = |store: &str| {
        main_of(
            &(inputs(2)
                + &format!(
                    "    v2: u8 = iconst 160
{store}    v4: u256 = iconst 0
    jump block1(v4)
block1(v5: u256):
    v6: u1 = ult v5, v0
    brif v6, block2, block3
block2:
    v7: u256 = wadd v2, v5
    v8: u27 = bound 32, v7
    v9: u256 = mload v8
    sstore v9, v90
    v10: u256 = wadd v5, v91
    jump block1(v10)
block3:
    stop"
                )),
        )
    };
    let original = module(&body("    mstore v91, v1\n"));
    let mut changed = original.clone();
    let pass = find("dead-stores").unwrap();
    assert!(apply(pass, &mut changed, Goal::Circuit));
    assert!(changed == module(&body("")), "{changed}");
    // Without the bound the sum may wrap.
    keeps(
        "dead-stores",
        &body("    mstore v91, v1\n").replace("    v8: u27 = bound 32, v7\n", "").replace("mload v8", "mload v7"),
    );
}

#[test]
fn dead_stores_sees_that_return_data_cover_what_is_read() {
    // The message of a call that failed, handed on: stores to the scratch space before it are read by nobody.
    let passed_on = |first: &str, second: &str| {
        main_of(&format!(
            "block0:
    v0: u1 = iconst 0
    v1: u8 = iconst 7
    v2: u256 = gas{first}
    v3: u1 = evm_call v2, v1, v0, v0, v0, v0, v0
    v4: u64 = returndatasize
    returndatacopy v0, v0, v4{second}
    v5: u64 = returndatasize
    v6: u27 = bound 0, v5
    revert v0, v6"
        ))
    };
    let store = "\n    mstore v0, v1";
    let once = |before: &str, after: &str| {
        let mut changed = module(before);
        apply(find("dead-stores").unwrap(), &mut changed, Goal::Circuit);
        verify(&changed).unwrap();
        assert_eq!(changed.compact().to_string(), module(after).compact().to_string());
    };
    once(&passed_on(store, ""), &passed_on("", ""));
    // A store over the copy is read, and another call brings data of another length.
    keeps("dead-stores", &passed_on("", store));
    let again = "\n    v7: u1 = evm_call v2, v1, v0, v0, v0, v0, v0";
    keeps("dead-stores", &passed_on(store, again));
}
