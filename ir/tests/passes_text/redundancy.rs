//! Passes over what several paths do: `pre` and `tail-merge`.

use zvm_ir::passes::{Goal, apply, find};

use crate::{agree, inputs, keeps, main_of, module, rewrites};

/// Two paths to a block, with what they hand over to it.
fn diamond(first: (&str, &str), second: (&str, &str), params: &str, join: &str) -> String {
    let (first, with) = first;
    let (second, with_second) = second;
    main_of(
        &(inputs(3)
            + &format!(
                "    v502: u1 = trunc v2\n    brif v502, block1, block2
block1:
{first}    jump block3{with}
block2:
{second}    jump block3{with_second}
block3{params}:
{join}"
            )),
    )
}

/// The same without parameters.
fn plain(first: &str, second: &str, join: &str) -> String {
    diamond((first, ""), (second, ""), "", join)
}

const DEAR: &str = "    v3: u256 = mulmod v0, v1, v0\n    sstore v90, v3\n";

#[test]
fn pre_computes_on_the_path_that_lacks_it() {
    for goal in [Goal::Evm, Goal::Circuit] {
        rewrites(
            &["pre"],
            goal,
            &plain(DEAR, "", "    v4: u256 = mulmod v0, v1, v0\n    return_words 32, v4"),
            &diamond(
                (DEAR, "(v3)"),
                ("    v5: u256 = mulmod v0, v1, v0\n", "(v5)"),
                "(v4: u256)",
                "    return_words 32, v4",
            ),
        );
    }
}

#[test]
fn pre_sees_through_parameters() {
    // On the first path v6 is v0, on the second it is v1: what is computed from it has been computed on both.
    let first = DEAR.replace("mulmod v0, v1, v0", "mulmod v0, v0, v0");
    let second = DEAR.replace("v3", "v7").replace("mulmod v0, v1, v0", "mulmod v1, v1, v1");
    rewrites(
        &["pre", "dce"],
        Goal::Evm,
        &diamond(
            (&first, "(v0)"),
            (&second, "(v1)"),
            "(v6: u256)",
            "    v4: u256 = mulmod v6, v6, v6\n    return_words 32, v4",
        ),
        &diamond((&first, "(v3)"), (&second, "(v7)"), "(v4: u256)", "    return_words 32, v4"),
    );
}

#[test]
fn pre_leaves_what_a_round_has_not_computed() {
    // The header needs it in every round, and only the way in could bring it.
    keeps(
        "pre",
        &main_of(
            &(inputs(2)
                + "    jump block1(v0)
block1(v2: u256):
    v3: u256 = mulmod v2, v1, v1
    v4: u1 = ult v2, v3
    brif v4, block2, block3
block2:
    v5: u1 = iconst 1
    v6: u256 = shr v5, v2
    v7: u256 = or v3, v6
    jump block1(v7)
block3:
    return_words 32, v2"),
        ),
    );
}

#[test]
fn pre_leaves_what_no_path_has_what_is_cheap_and_what_is_promised() {
    let joins = [
        // On neither path.
        ("", "", "    v4: u256 = mulmod v0, v1, v0\n    return_words 32, v4"),
        // Costs nothing in a circuit.
        ("    v3: u256 = not v0\n    sstore v90, v3\n", "", "    v4: u256 = not v0\n    return_words 32, v4"),
        // Of other operands.
        (DEAR, "", "    v4: u256 = mulmod v1, v0, v1\n    return_words 32, v4"),
        // It reads memory.
        (
            "    v3: u256 = keccak256 v90, v91\n    sstore v90, v3\n",
            "",
            "    v4: u256 = keccak256 v90, v91\n    return_words 32, v4",
        ),
    ];
    for (first, second, join) in joins {
        keeps("pre", &plain(first, second, join));
    }
}

/// Two checks that fail in blocks of their own.
fn checks(first: &str, second: &str) -> String {
    main_of(
        &(inputs(3)
            + &format!(
                "    v500: u1 = trunc v0\n    brif v500, block1, block2
block1:
{first}block2:
    v501: u1 = trunc v1\n    brif v501, block3, block4
block3:
{second}block4:
    return_words 32, v2"
            )),
    )
}

/// A panic as compilers write it, with names of its own.
fn panic(a: u32, b: u32) -> String {
    format!(
        "    v{a}: u255 = iconst 0x4e487b7100000000000000000000000000000000000000000000000000000000
    v{b}: u253 = iconst 0x1100000000000000000000000000000000000000000000000000000000000000
    revert_words 36, v{a}, v{b}\n"
    )
}

#[test]
fn tail_merge_has_one_panic_for_all() {
    let original = module(&checks(&panic(80, 81), &panic(70, 71)));
    let mut changed = original.clone();
    assert!(apply(find("tail-merge").unwrap(), &mut changed, Goal::Evm), "nothing was merged");
    zvm_ir::verify(&changed).unwrap();
    assert_eq!(changed.to_string().matches("revert_words").count(), 1, "{changed}");
    agree(&original, &changed);
}

#[test]
fn tail_merge_goes_up_through_blocks_that_go_on_to_the_same() {
    // Twenty bytes of code: a jump costs less.
    let step = |n: u32| {
        format!(
            "    v{n}: u256 = mulmod v2, v2, v1\n    v{}: u256 = mulmod v{n}, v0, v1\n    v{}: u256 = wmul v{}, v0\n    jump block5(v{})\n",
            n + 1,
            n + 2,
            n + 1,
            n + 2
        )
    };
    let text = main_of(
        &(inputs(3)
            + &format!(
                "    v500: u1 = trunc v0\n    brif v500, block1, block2
block1:
{}block2:
    v501: u1 = trunc v1\n    brif v501, block3, block4
block3:
{}block4:
    jump block5(v2)
block5(v20: u256):
    return_words 32, v20",
                step(10),
                step(14)
            )),
    );
    let original = module(&text);
    let mut changed = original.clone();
    assert!(apply(find("tail-merge").unwrap(), &mut changed, Goal::Evm));
    zvm_ir::verify(&changed).unwrap();
    assert_eq!(changed.to_string().matches("mulmod").count(), 2, "{changed}");
    agree(&original, &changed);
}

#[test]
fn tail_merge_leaves_what_differs_what_is_small_and_what_touches_memory() {
    let two = |first: String, second: String| keeps("tail-merge", &checks(&first, &second));
    let words = |a: u32, b: u32, end: &str| {
        format!("    v{a}: u256 = mulmod v2, v2, v1\n    v{b}: u256 = wmul v{a}, v0\n    {end}\n")
    };
    // Of different values, of different lengths, of different numbers of words.
    two(words(80, 81, "revert_words 36, v80, v81"), words(70, 71, "revert_words 36, v71, v70"));
    two(words(80, 81, "revert_words 36, v80, v81"), words(70, 71, "revert_words 37, v70, v71"));
    two(words(80, 81, "revert_words 36, v80, v81"), words(70, 71, "revert_words 32, v70"));
    // No longer than a jump to it.
    two("    trap invalid\n".to_owned(), "    trap invalid\n".to_owned());
    // What is known of memory differs by path.
    let store = "mstore v90, v2\n    revert v90, v91";
    two(words(80, 81, store), words(70, 71, store));
}
