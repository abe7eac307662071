//! The checker finds changed code: it is the judge of all other tests, so it must be able to fail.

use zvm_backend_evm::{Lowered, Options, check, lower, opcodes};
use zvm_ir::Module;

fn program() -> Module {
    zvm_ir::parse(
        "zvm 1
        data0 = 0x0102030405
        entry @main
        func @main() {
        block0:
            v0: u6 = iconst 32
            v1: u1 = iconst 0
            v2: u256 = calldataload v0
            v3: u256 = calldataload v1
            v4: u256 = wmul v2, v3
            v5: u256 = wsub v4, v3
            sstore v5, v4
            v6: u3 = iconst 5
            datacopy data0, v0, v1, v6
            v7: u1 = ult v2, v3
            brif v7, block1(v4, v5), block2
        block1(v8: u256, v9: u256):
            v10: u256 = wsub v8, v6
            v11: u1 = iszero v10
            brif v11, block3, block1(v9, v10)
        block2:
            v12: u256, v13: u256 = call @divide(v5, v2)
            mstore v0, v12
            log v0, v6, v13
            stop
        block3:
            v14: u256 = mload v0
            return_words 64, v14, v9
        }
        func @divide(u256, u256) -> u256, u256 {
        block0(v0: u256, v1: u256):
            v2: u256 = udiv v0, v1
            v3: u256 = urem v0, v1
            ret v2, v3
        }",
    )
    .unwrap()
}

/// Where instructions start.
fn instructions(lowered: &Lowered) -> Vec<usize> {
    let mut at = 0;
    let mut all = Vec::new();
    while at < lowered.code_len() {
        all.push(at);
        let byte = lowered.code[at];
        at += 1 + if (opcodes::PUSH1..=opcodes::PUSH32).contains(&byte) {
            usize::from(byte - opcodes::PUSH1) + 1
        } else {
            0
        };
    }
    all
}

#[test]
fn changed_instructions_are_found() {
    let lowered = lower(&program(), &Options::default()).unwrap();
    check(&lowered).unwrap();
    let mut changed = 0;
    for at in instructions(&lowered) {
        let byte = lowered.code[at];
        let others: Vec<u8> = match byte {
            opcodes::DUP1..=opcodes::DUP16 => vec![byte ^ 1, opcodes::SWAP1, opcodes::POP],
            opcodes::SWAP1..=opcodes::SWAP16 => vec![byte + 1, opcodes::POP],
            opcodes::POP => vec![opcodes::JUMPDEST],
            opcodes::PUSH0 => vec![opcodes::CALLDATASIZE],
            opcodes::PUSH1..=opcodes::PUSH32 => vec![],
            opcodes::SUB | opcodes::DIV | opcodes::MOD => vec![opcodes::ADD, opcodes::MUL, opcodes::SDIV],
            opcodes::MUL => vec![opcodes::ADD],
            opcodes::JUMPDEST => vec![opcodes::STOP],
            opcodes::JUMPI => vec![opcodes::POP, opcodes::JUMP],
            opcodes::SSTORE => vec![opcodes::MSTORE, opcodes::TSTORE],
            opcodes::LT => vec![opcodes::GT, opcodes::SLT],
            opcodes::LOG1 => vec![opcodes::LOG2, opcodes::LOG0],
            opcodes::RETURN => vec![opcodes::REVERT],
            _ => vec![opcodes::INVALID],
        };
        for other in others {
            let mut tampered = lowered.clone();
            tampered.code[at] = other;
            assert!(
                check(&tampered).is_err(),
                "{} at {at:#x} for {}\n{}",
                opcodes::name(other),
                opcodes::name(byte),
                lowered.listing()
            );
            changed += 1;
        }
    }
    assert!(changed > 80, "{changed}");
}

#[test]
fn changed_constants_and_targets_are_found() {
    let lowered = lower(&program(), &Options::default()).unwrap();
    for at in instructions(&lowered) {
        let byte = lowered.code[at];
        if (opcodes::PUSH1..=opcodes::PUSH32).contains(&byte) {
            for bit in 0..8 {
                let mut tampered = lowered.clone();
                tampered.code[at + 1] ^= 1 << bit;
                assert!(check(&tampered).is_err(), "bit {bit} at {at:#x}\n{}", lowered.listing());
            }
        }
    }
}

#[test]
fn changed_data_and_templates_are_found() {
    let lowered = lower(&program(), &Options::default()).unwrap();
    let mut tampered = lowered.clone();
    *tampered.code.last_mut().unwrap() ^= 1;
    assert!(check(&tampered).is_err());
    for at in 0..lowered.blocks.len() {
        let mut tampered = lowered.clone();
        if tampered.blocks[at].template.len() >= 2 {
            tampered.blocks[at].template.swap(0, 1);
            assert!(check(&tampered).is_err(), "template {at}");
        }
    }
}

#[test]
fn errors_name_the_place() {
    let lowered = lower(&program(), &Options::default()).unwrap();
    let mut tampered = lowered.clone();
    let at = instructions(&lowered).into_iter().find(|&at| lowered.code[at] == opcodes::SSTORE).unwrap();
    tampered.code[at] = opcodes::TSTORE;
    let errors = check(&tampered).unwrap_err();
    assert!(errors[0].to_string().starts_with("@main block0 at 0x"), "{}", errors[0]);
    assert!(errors[0].to_string().contains("the IR has `SSTORE"), "{}", errors[0]);
}

/// Every entry of a jump table counts, and so do the mask, the shift and the width of the entries.
#[test]
fn changed_jump_tables_are_found() {
    let mut text = String::from(
        "zvm 1\nentry @main\nfunc @main() {\nblock0:\n    v0: u1 = iconst 0\n    v1: u256 = calldataload v0
    v2: u8 = iconst 240\n    v3: u8 = and v1, v2\n    jump block1\n",
    );
    for at in 0..15 {
        text += &format!(
            "block{}:\n    v{}: u8 = iconst {}\n    v{}: u1 = eq v3, v{}\n    brif v{}, block{}, block{}\n",
            at + 1,
            10 + 2 * at,
            16 * at,
            11 + 2 * at,
            10 + 2 * at,
            11 + 2 * at,
            100 + at,
            at + 2
        );
        text += &format!("block{}:\n    v{}: u256 = wadd v1, v{}\n", 100 + at, 200 + at, 10 + 2 * at);
        text += &format!("    return_words 32, v{}\n", 200 + at);
    }
    let module = zvm_ir::parse(&(text + "block16:\n    stop\n}")).unwrap();
    let lowered = lower(&module, &Options::default()).unwrap();
    check(&lowered).unwrap();
    let table = instructions(&lowered).into_iter().find(|&at| lowered.code[at] == opcodes::PUSH32).unwrap() + 1;
    let entries: Vec<[u8; 2]> = lowered.code[table..table + 32].chunks(2).map(|entry| [entry[0], entry[1]]).collect();
    for at in 0..16 {
        for other in [entries[(at + 1) % 16], [0, 0], [entries[at][0], entries[at][1] + 1]] {
            let mut tampered = lowered.clone();
            tampered.code[table + 2 * at..table + 2 * at + 2].copy_from_slice(&other);
            assert!(check(&tampered).is_err(), "entry {at} changed to {other:02x?}\n{}", tampered.listing());
        }
    }
    let pushes: Vec<usize> =
        instructions(&lowered).into_iter().filter(|at| (table.saturating_sub(33)..table + 48).contains(at)).collect();
    for at in pushes {
        let change = match lowered.code[at] {
            opcodes::PUSH1 => (at + 1, lowered.code[at + 1] ^ 0x10),
            byte if byte == opcodes::PUSH1 + 1 => (at + 2, lowered.code[at + 2] ^ 1),
            opcodes::SHR => (at, opcodes::SHL),
            opcodes::AND => (at, opcodes::OR),
            _ => continue,
        };
        let mut tampered = lowered.clone();
        tampered.code[change.0] = change.1;
        assert!(check(&tampered).is_err(), "a change at {:#x} was not found\n{}", change.0, tampered.listing());
    }
}
