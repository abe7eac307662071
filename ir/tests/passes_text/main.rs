//! Each pass on small programs: text in, text out, and what it must leave alone. Every program is also run before and after.

mod copies;
mod loops;
mod memory;
mod redundancy;
mod storage;
mod structure;
mod values;

use zvm_ir::EmptyState;
use zvm_ir::interp::{Call, run};
use zvm_ir::passes::{Goal, apply, find};
use zvm_ir::{Env, Module, parse, verify};

fn module(text: &str) -> Module {
    let module = parse(&format!("zvm 1\n{text}")).unwrap_or_else(|error| panic!("{error}\n{text}"));
    verify(&module).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    module
}

fn main_of(body: &str) -> String {
    format!("entry @main\nfunc @main() {{\n{body}\n}}")
}

/// Applies the named passes in turn and compares with the text expected.
fn rewrites(passes: &[&str], goal: Goal, before: &str, after: &str) {
    let original = module(before);
    let mut changed = original.clone();
    for name in passes {
        let pass = find(name).unwrap_or_else(|| panic!("no pass {name}"));
        apply(pass, &mut changed, goal);
        verify(&changed).unwrap_or_else(|errors| panic!("{name}: {errors:#?}\n{changed}"));
    }
    let (changed, expected) = (changed.compact(), module(after).compact());
    assert!(changed == expected, "{passes:?} gives\n{changed}\nnot\n{expected}");
    agree(&original, &changed);
}

/// The pass says that it changed nothing, and did not.
fn keeps(pass: &str, text: &str) {
    let original = module(text);
    let mut same = original.clone();
    let changed = apply(find(pass).unwrap_or_else(|| panic!("no pass {pass}")), &mut same, Goal::Circuit);
    assert!(same == original && !changed, "{pass} changed ({changed})\n{original}\nto\n{same}");
}

fn agree(a: &Module, b: &Module) {
    let env = Env::default();
    let mut word = [0u8; 96];
    for fill in [0u8, 1, 7, 0x80, 0xff] {
        for at in [0, 31, 32, 63, 95] {
            word[at] = fill;
            let (left, right) =
                (run(a, Call::new(&word, &env), &EmptyState), run(b, Call::new(&word, &env), &EmptyState));
            assert!(left.is_ok(), "{left:?}\n{a}");
            assert_eq!(left, right, "on {word:02x?}\n{a}\n{b}");
        }
    }
}

/// Reads `n` words of calldata as `v0`, `v1`, …; the numbers of the constants used come after them.
fn inputs(n: usize) -> String {
    let mut text = String::from("block0:\n");
    for at in 0..n {
        text += &format!("    v{}: u{} = iconst {}\n", 90 + at, [1, 6, 7][at], 32 * at);
        text += &format!("    v{at}: u256 = calldataload v{}\n", 90 + at);
    }
    text
}
