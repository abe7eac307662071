//! Passes over storage and transient storage.

use zvm_ir::passes::Goal;

use crate::{inputs, keeps, main_of, rewrites};

const PASS: &[&str] = &["forward-storage"];

fn becomes(before: &str, after: &str) {
    rewrites(PASS, Goal::Evm, &main_of(&(inputs(3) + before)), &main_of(&(inputs(3) + after)));
}

fn stays(body: &str) {
    keeps("forward-storage", &main_of(&(inputs(3) + body)));
}

#[test]
fn what_was_stored_or_loaded_is_known() {
    becomes(
        "    sstore v0, v1\n    v3: u256 = sload v0\n    tstore v0, v3\n    v4: u256 = tload v0\n    v5: u256 = sload v1
    v6: u256 = sload v1\n    return_words 96, v4, v5, v6",
        "    sstore v0, v1\n    tstore v0, v1\n    v5: u256 = sload v1\n    return_words 96, v1, v5, v5",
    );
    // The two storages are apart.
    stays("    sstore v0, v1\n    v3: u256 = tload v0\n    return_words 32, v3");
}

#[test]
fn slots_that_may_be_one_are_not_told_apart() {
    stays("    v3: u256 = sload v0\n    sstore v1, v2\n    v4: u256 = sload v0\n    return_words 64, v3, v4");
    stays("    v3: u256 = sload v90\n    sstore v1, v2\n    v4: u256 = sload v90\n    return_words 64, v3, v4");
    // Entries of one mapping.
    stays(
        "    v3: u256 = keccak_words 64, v0, v90\n    v4: u256 = keccak_words 64, v1, v90\n    v5: u256 = sload v3\n    sstore v4, v2
    v6: u256 = sload v3\n    return_words 64, v5, v6",
    );
    // An item of an array at any distance.
    stays(
        "    v3: u256 = keccak_words 32, v90\n    v4: u256 = wadd v3, v1\n    v5: u256 = sload v91\n    sstore v4, v2
    v6: u256 = sload v91\n    return_words 64, v5, v6",
    );
}

#[test]
fn slots_that_differ_are_told_apart() {
    let between = |slots: &str, slot: &str, other: &str| {
        becomes(
            &format!(
                "{slots}    v8: u256 = sload {slot}\n    sstore {other}, v2\n    v9: u256 = sload {slot}\n    return_words 64, v8, v9"
            ),
            &format!("{slots}    v8: u256 = sload {slot}\n    sstore {other}, v2\n    return_words 64, v8, v8"),
        );
    };
    between("", "v90", "v91");
    // Members of a struct.
    between("    v3: u256 = wadd v0, v91\n", "v3", "v0");
    // A mapping and a variable, two mappings, a mapping and a mapping of mappings.
    let hashes = "    v3: u256 = keccak_words 64, v0, v90\n    v4: u256 = keccak_words 64, v1, v91\n    v5: u256 = keccak_words 64, v2, v3\n";
    between(hashes, "v3", "v91");
    between(hashes, "v3", "v4");
    between(hashes, "v4", "v5");
    // Items of an array, below 2^62, and a mapping.
    let items = "    v3: u256 = keccak_words 32, v90\n    v4: u32 = trunc v1\n    v5: u256 = wadd v3, v4\n    v6: u256 = keccak_words 64, v0, v91\n";
    between(items, "v5", "v6");
}

#[test]
fn what_all_paths_know_is_known_where_they_meet() {
    let body = |joined: &str, returned: &str| {
        format!(
            "    v3: u256 = sload v0
    v4: u1 = iszero v1
    brif v4, block1, block2
block1:
    sstore v90, v1
    jump block3
block2:
    v5: u256 = sload v91
    sstore v90, v1
    jump block3
block3:
{joined}    return_words 64, {returned}"
        )
    };
    becomes(
        &body("    v6: u256 = sload v90\n    v7: u256 = sload v91\n", "v6, v7"),
        &body("    v7: u256 = sload v91\n", "v1, v7"),
    );
}

#[test]
fn a_loop_knows_nothing_of_the_round_before() {
    stays(
        "    v3: u8 = trunc v0
    sstore v90, v1
    jump block1(v3)
block1(v4: u8):
    v5: u256 = sload v90
    v6: u256 = wadd v5, v91
    sstore v90, v6
    v7: u8 = shr v97, v4
    v8: u1 = iszero v7
    brif v8, block2, block1(v7)
block2:
    stop"
            .replace("v97", "v98")
            .replacen("    v3: u8", "    v98: u1 = iconst 1\n    v3: u8", 1)
            .as_str(),
    );
}

#[test]
fn stores_that_are_overwritten_unread_go() {
    becomes(
        "    sstore v0, v1\n    sstore v91, v1\n    sstore v0, v2\n    stop",
        "    sstore v91, v1\n    sstore v0, v2\n    stop",
    );
    becomes(
        "    sstore v0, v1\n    v3: u1 = iszero v1\n    brif v3, block1, block2\nblock1:\n    sstore v0, v90\n    stop\nblock2:
    sstore v0, v91\n    stop",
        "    v3: u1 = iszero v1\n    brif v3, block1, block2\nblock1:\n    sstore v0, v90\n    stop\nblock2:
    sstore v0, v91\n    stop",
    );
    // On one path only, read before, or not by everyone's leave.
    stays(
        "    sstore v0, v1\n    v3: u1 = iszero v1\n    brif v3, block1, block2\nblock1:\n    sstore v0, v90\n    stop\nblock2:\n    stop",
    );
    stays("    sstore v0, v1\n    v3: u256 = sload v2\n    sstore v0, v3\n    stop");
    stays("    sstore v0, v1\n    call @f()\n    sstore v0, v2\n    stop\n}\n\nfunc @f() {\nblock0:\n    ret");
    // A static call would have been told by the first one alone.
    stays(
        "    sstore v0, v1\n    v3: u1 = iszero v1\n    brif v3, block1, block2\nblock1:\n    revert_words 0\nblock2:\n    sstore v0, v90\n    stop",
    );
}

#[test]
fn a_store_of_what_is_there_goes_where_a_static_call_has_ended() {
    becomes(
        "    v3: u256 = sload v0\n    tstore v1, v2\n    sstore v0, v3\n    stop",
        "    v3: u256 = sload v0\n    tstore v1, v2\n    stop",
    );
    stays("    v3: u256 = sload v0\n    sstore v0, v3\n    stop");
}
