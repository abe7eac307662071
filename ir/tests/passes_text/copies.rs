//! Bulk copies that become words.

use zvm_ir::passes::Goal;

use crate::{inputs, keeps, main_of, module, rewrites};

/// Memory filled, a copy, and all of memory returned; `rewrites` runs it on both sides.
fn around(copy: &str) -> String {
    let fill = "    v3: u8 = trunc v0\n    v4: u8 = trunc v1\n    v5: u8 = trunc v2\n    v50: u256 = not v91
    v51: u8 = iconst 64\n    v52: u8 = iconst 96\n    v53: u9 = iconst 320\n    v54: u10 = iconst 640\n    mstore v90, v50
    mstore v91, v0\n    mstore v51, v1\n    mstore v52, v50\n    mstore v53, v50\n";
    main_of(&(inputs(3) + fill + copy + "    return v90, v54"))
}

/// Every program that a copy becomes is run and compared; what is left of copies is counted.
fn lowered(copy: &str) -> String {
    let text = around(copy);
    let mut changed = module(&text);
    let pass = zvm_ir::passes::find("lower-copies").unwrap();
    assert!(zvm_ir::passes::apply(pass, &mut changed, Goal::Circuit), "{text}");
    let changed = changed.compact().to_string();
    for opcode in ["calldatacopy", "mcopy", "datacopy"] {
        assert!(!changed.contains(opcode), "{changed}");
    }
    let after = changed.strip_prefix("zvm 1\n").unwrap();
    rewrites(&["lower-copies"], Goal::Circuit, &text, after);
    changed
}

#[test]
fn few_bytes_are_stored_without_a_loop() {
    rewrites(
        &["lower-copies", "fold", "gvn", "dce"],
        Goal::Circuit,
        &main_of(
            &(inputs(2)
                + "    v8: u8 = trunc v0\n    v9: u8 = trunc v1\n    v2: u7 = iconst 64\n    mcopy v8, v9, v2\n    stop"),
        ),
        &main_of(
            &(inputs(2)
                + "    v8: u8 = trunc v0
    v9: u8 = trunc v1
    v3: u256 = mload v9
    v4: u256 = wadd v9, v91
    v5: u256 = mload v4
    mstore v8, v3
    v6: u256 = wadd v8, v91
    mstore v6, v5
    stop"),
        ),
    );
    for len in [0, 1, 31, 32, 33, 64, 95] {
        let copy = |text: &str| lowered(&format!("    v60: u8 = iconst {len}\n{text}\n"));
        assert!(!copy("    mcopy v91, v3, v60").contains("brif"));
        copy("    mcopy v3, v91, v60");
        copy("    calldatacopy v91, v3, v60");
        copy("    calldatacopy v3, v0, v60");
    }
}

#[test]
fn any_number_of_bytes_is_copied_in_a_loop() {
    for copy in ["mcopy v3, v4, v5", "mcopy v4, v3, v5", "mcopy v91, v3, v5", "mcopy v3, v91, v5", "mcopy v3, v3, v4"] {
        assert!(lowered(&format!("    {copy}\n")).contains("brif"));
    }
    for copy in ["calldatacopy v3, v4, v5", "calldatacopy v3, v0, v5", "calldatacopy v91, v50, v5"] {
        assert!(lowered(&format!("    {copy}\n")).contains("brif"));
    }
}

#[test]
fn data_becomes_constants() {
    let with = |body: String| format!("data0 = 0x{}\n{}", "a1".repeat(40), body);
    let body = |copy: &str| {
        main_of(
            &(inputs(1)
                + &format!(
                    "    v1: u6 = iconst 33\n    v2: u8 = iconst 128\n    mstore v90, v0\n{copy}    return v90, v2"
                )),
        )
    };
    let before = with(body("    datacopy data0, v90, v90, v1\n"));
    let after = body(
        "    v3: u256 = iconst 0xa1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1
    mstore v90, v3
    v4: u256 = iconst 0xa100000000000000000000000000000000000000000000000000000000000000
    v5: u6 = iconst 32
    v6: u256 = wadd v90, v5
    v7: u256 = iconst 0xff00000000000000000000000000000000000000000000000000000000000000
    v8: u256 = mload v6
    v9: u256 = and v4, v7
    v10: u256 = not v7
    v11: u256 = and v8, v10
    v12: u256 = or v9, v11
    mstore v6, v12
",
    );
    rewrites(&["lower-copies"], Goal::Circuit, &before, &with(after));
}

#[test]
fn what_the_evm_has_stays() {
    let body = main_of(&(inputs(2) + "    v2: u8 = trunc v0\n    mcopy v90, v91, v2\n    stop"));
    rewrites(&["lower-copies"], Goal::Evm, &body, &body);
    // Nor is anything done where memory is measured, or where the bytes of data are not known.
    keeps("lower-copies", &body.replace("    stop", "    v3: u64 = msize\n    return_words 32, v3"));
    keeps(
        "lower-copies",
        &format!("data0 = 0x0102\n{}", body.replace("mcopy v90, v91, v2", "datacopy data0, v90, v90, v2")),
    );
}
