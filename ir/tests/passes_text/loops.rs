//! Passes over loops: `canonical-loops` and `unroll`.

use zvm_ir::passes::{Goal, apply, find};
use zvm_ir::verify;

use crate::{agree, inputs, keeps, main_of, module, rewrites};

#[test]
fn canonical_loops_have_one_way_in_one_way_back_and_ways_out_of_their_own() {
    rewrites(
        &["canonical-loops"],
        Goal::Evm,
        &main_of(
            &(inputs(2)
                + "    v501: u1 = trunc v1\n    brif v501, block1(v0), block4(v1)
block1(v2: u256):
    v3: u1 = iconst 1
    v4: u256 = shr v3, v2
    v504: u1 = trunc v4\n    brif v504, block2, block4(v4)
block2:
    v5: u1 = ult v4, v91
    brif v5, block1(v4), block3
block3:
    v6: u256 = shr v91, v4
    jump block1(v6)
block4(v7: u256):
    return_words 32, v7"),
        ),
        &main_of(
            &(inputs(2)
                + "    v501: u1 = trunc v1\n    brif v501, block5(v0), block4(v1)
block5(v8: u256):
    jump block1(v8)
block1(v2: u256):
    v3: u1 = iconst 1
    v4: u256 = shr v3, v2
    v504: u1 = trunc v4\n    brif v504, block2, block6
block6:
    jump block4(v4)
block2:
    v5: u1 = ult v4, v91
    brif v5, block7(v4), block3
block3:
    v6: u256 = shr v91, v4
    jump block7(v6)
block7(v9: u256):
    jump block1(v9)
block4(v7: u256):
    return_words 32, v7"),
        ),
    );
}

#[test]
fn canonical_loops_settle_nests_at_once() {
    // The way out of the inner loop is the way back of the outer one.
    let text = main_of(
        &(inputs(2)
            + "    jump block1(v0)
block1(v2: u256):
    v502: u1 = trunc v2\n    brif v502, block2(v2), block3
block2(v3: u256):
    v4: u1 = iconst 1
    v5: u256 = shr v4, v3
    v6: u1 = ult v5, v91
    brif v6, block1(v5), block2(v5)
block3:
    return_words 32, v1"),
    );
    let original = module(&text);
    let mut changed = original.clone();
    assert!(apply(find("canonical-loops").unwrap(), &mut changed, Goal::Evm));
    verify(&changed).unwrap();
    agree(&original, &changed);
    let mut again = changed.clone();
    assert!(!apply(find("canonical-loops").unwrap(), &mut again, Goal::Evm) && again == changed, "{changed}");
}

#[test]
fn canonical_loops_leave_what_has_the_shape_and_what_has_no_loops() {
    let shape = main_of(
        &(inputs(2)
            + "    jump block1(v0)
block1(v2: u256):
    v3: u1 = ult v2, v91
    brif v3, block2, block3
block2:
    v4: u256 = wadd v2, v91
    jump block1(v4)
block3:
    return_words 32, v2"),
    );
    keeps("canonical-loops", &shape);
    keeps(
        "canonical-loops",
        &main_of(
            &(inputs(1)
                + "    v500: u1 = trunc v0\n    brif v500, block1, block2\nblock1:\n    stop\nblock2:\n    trap invalid"),
        ),
    );
}

/// A loop that counts to three, with something in it and something behind it.
fn counted(rounds: &str, body: &str, end: &str) -> String {
    main_of(
        &(inputs(2)
            + &format!(
                "    v10: u1 = iconst 0
    v11: u8 = iconst {rounds}
    v12: u1 = iconst 1
    v13: u256 = zext v10
    jump block1(v13, v0)
block1(v20: u256, v21: u256):
    v22: u1 = ult v20, v11
    brif v22, block2, block3
block2:
{body}    v24: u256 = wadd v20, v12
    jump block1(v24, v23)
block3:
{end}"
            )),
    )
    .replace("    v13: u256 = zext v10\n", "    v13: u256 = iconst 0\n")
}

const STEP: &str = "    v23: u256 = xor v21, v1\n";

#[test]
fn unroll_makes_rounds_of_a_short_loop() {
    for goal in [Goal::Evm, Goal::Circuit] {
        // The loop is in canonical form; nothing is left of its tests and its counter.
        let step = if goal == Goal::Evm { STEP } else { "    v23: u256 = not v21\n" };
        let original = module(&counted("3", step, "    return_words 32, v21"));
        let mut changed = original.clone();
        for pass in ["canonical-loops", "unroll", "simplify-cfg", "redundant-params", "fold", "simplify-cfg", "dce"] {
            apply(find(pass).unwrap(), &mut changed, goal);
            verify(&changed).unwrap_or_else(|errors| panic!("{pass}: {errors:#?}\n{changed}"));
        }
        let text = changed.to_string();
        assert!(!text.contains("brif") && !text.contains("jump"), "{text}");
        agree(&original, &changed);
    }
}

#[test]
fn unroll_writes_each_round() {
    rewrites(
        &["unroll", "simplify-cfg", "redundant-params", "dce"],
        Goal::Evm,
        &counted("2", STEP, "    return_words 32, v21"),
        &main_of(&(inputs(2) + "    v3: u256 = xor v0, v1\n    v4: u256 = xor v3, v1\n    return_words 32, v4")),
    );
}

#[test]
fn unroll_keeps_other_ways_out_with_what_they_need() {
    // The second exit is reached in any round, and both exits use what the loop computed.
    let body = "    v23: u256 = not v21\n    v523: u1 = iszero v23\n    brif v523, block4, block5\nblock5:\n";
    let end = "    return_words 64, v21, v20\nblock4:\n    return_words 64, v20, v23";
    let text = counted("3", body, end);
    let original = module(&text);
    let mut changed = original.clone();
    assert!(apply(find("unroll").unwrap(), &mut changed, Goal::Evm), "{changed}");
    verify(&changed).unwrap_or_else(|errors| panic!("{errors:#?}\n{changed}"));
    assert_eq!(changed.to_string().matches("return_words").count(), 2, "{changed}");
    agree(&original, &changed);
}

#[test]
fn unroll_leaves_what_is_long_unknown_or_nested() {
    let end = "    return_words 32, v21";
    // Too many rounds.
    keeps("unroll", &counted("33", STEP, end));
    // More rows than what is saved.
    keeps("unroll", &counted("3", "    v23: u256 = mulmod v21, v21, v1\n", end));
    // The number of rounds is not known.
    keeps("unroll", &counted("3", STEP, end).replace("ult v20, v11", "ult v20, v1"));
    // The counter goes on as something else.
    keeps("unroll", &counted("3", STEP, end).replace("wadd v20, v12", "wadd v20, v1"));
    // A loop in it: the inner one has no known number of rounds.
    let inner = "    jump block6(v21)
block6(v30: u256):
    v31: u256 = shr v12, v30
    v531: u1 = trunc v31\n    brif v531, block6(v31), block7
block7:
    v23: u256 = xor v21, v31\n";
    keeps("unroll", &counted("3", inner, end));
    // Two ways out meet before the use.
    let meets = "    v23: u256 = xor v21, v1\n    v523: u1 = trunc v23\n    brif v523, block4, block3\nblock4:\n";
    keeps("unroll", &counted("3", meets, end));
}
