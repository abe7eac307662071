//! No pass does work that grows with the square of its input: on programs of `n` and of `2n` pieces, each pass of the pipeline where
//! it runs, and each beside it, may take twice the looks (`zvm_ir::work`) and a little more.
//!
//! The pieces are what contracts are made of: checks with panics of their own, paths that meet, counted loops, long expressions,
//! calls, memory. How deep loops are nested, and how many different words of memory are known at a place, does not grow here:
//! natural loops are lists of blocks, and what is known of memory is a table for each block.

use std::fmt::Write;

use zvm_ir::passes::{BESIDE, Goal, PIPELINE, Pass, all, apply, find};
use zvm_ir::work::looks;
use zvm_ir::{Module, parse, verify};

/// Looks that may be more than twice as many, in percent of twice.
const SLACK: u64 = 25;
/// Looks that do not count.
const FREE: u64 = 4000;

/// A program being written.
#[derive(Default)]
struct Text {
    lines: String,
    values: usize,
    blocks: usize,
}

impl Text {
    fn value(&mut self, ty: &str, definition: &str) -> String {
        self.values += 1;
        let _ = writeln!(self.lines, "    v{}: {ty} = {definition}", self.values);
        format!("v{}", self.values)
    }

    fn constant(&mut self, word: usize) -> String {
        let bits = (usize::BITS - word.leading_zeros()).max(1);
        self.value(&format!("u{bits}"), &format!("iconst {word}"))
    }

    fn op(&mut self, definition: &str) -> String {
        self.value("u256", definition)
    }

    fn param(&mut self) -> String {
        self.values += 1;
        format!("v{}", self.values)
    }

    fn block(&mut self) -> String {
        self.blocks += 1;
        format!("block{}", self.blocks)
    }

    fn line(&mut self, text: &str) {
        let _ = writeln!(self.lines, "{text}");
    }
}

/// A check whose failure is a panic of its own.
fn check(text: &mut Text, at: usize, a: &str, b: &str) -> String {
    let (fails, goes_on) = (text.block(), text.block());
    let sum = text.op(&format!("wadd {a}, {b}"));
    let less = text.value("u1", &format!("ult {sum}, {a}"));
    text.line(&format!("    brif {less}, {fails}, {goes_on}\n{fails}:"));
    let panic = text.value("u255", "iconst 0x4e487b7100000000000000000000000000000000000000000000000000000000");
    let code = text.constant(1 + at % 3);
    text.line(&format!("    revert_words 36, {panic}, {code}\n{goes_on}:"));
    sum
}

/// Two paths that meet, with what one of them computed computed again.
fn diamond(text: &mut Text, at: usize, a: &str, b: &str) -> String {
    let (left, right, meet) = (text.block(), text.block(), text.block());
    let bit = text.constant(at % 200);
    let shifted = text.op(&format!("shr {bit}, {a}"));
    let odd = text.value("u1", &format!("trunc {shifted}"));
    text.line(&format!("    brif {odd}, {left}, {right}\n{left}:"));
    let product = text.op(&format!("mulmod {a}, {b}, {a}"));
    text.line(&format!("    jump {meet}({product})\n{right}:"));
    text.line(&format!("    jump {meet}({b})"));
    let param = text.param();
    text.line(&format!("{meet}({param}: u256):"));
    let again = text.op(&format!("mulmod {a}, {b}, {a}"));
    text.op(&format!("xor {again}, {param}"))
}

/// A loop of a few rounds, every other time of as many as calldata say.
fn counted(text: &mut Text, at: usize, a: &str, b: &str) -> String {
    let (header, body, done) = (text.block(), text.block(), text.block());
    let (zero, one) = (text.op("iconst 0"), text.constant(1));
    let rounds = if at.is_multiple_of(2) { text.constant(2 + at % 3) } else { text.value("u4", &format!("trunc {b}")) };
    text.line(&format!("    jump {header}({zero}, {a})"));
    let (counter, carried) = (text.param(), text.param());
    text.line(&format!("{header}({counter}: u256, {carried}: u256):"));
    let less = text.value("u1", &format!("ult {counter}, {rounds}"));
    text.line(&format!("    brif {less}, {body}, {done}\n{body}:"));
    let invariant = text.op(&format!("wmul {b}, {b}"));
    let next = text.op(&format!("xor {carried}, {invariant}"));
    let up = text.op(&format!("wadd {counter}, {one}"));
    text.line(&format!("    jump {header}({up}, {next})\n{done}:"));
    text.op(&format!("wadd {carried}, {counter}"))
}

/// Arithmetic in a row.
fn expression(text: &mut Text, at: usize, a: &str, b: &str) -> String {
    let constant = text.constant(1 << (at % 8));
    let product = text.op(&format!("wmul {a}, {constant}"));
    let sum = text.op(&format!("wadd {b}, {product}"));
    let again = text.op(&format!("wadd {product}, {b}"));
    let both = text.op(&format!("and {sum}, {again}"));
    text.op(&format!("xor {both}, {a}"))
}

/// A call.
fn call(text: &mut Text, at: usize, a: &str, b: &str) -> String {
    text.op(&format!("call @f{}({a}, {b})", at % 4))
}

/// Words in memory, written, read and hashed.
fn memory(text: &mut Text, at: usize, a: &str, b: &str) -> String {
    let (low, high) = (text.constant(32 * (at % 3)), text.constant(96));
    text.line(&format!("    mstore {low}, {a}"));
    let loaded = text.op(&format!("mload {high}"));
    text.line(&format!("    mstore {high}, {b}"));
    let (zero, length) = (text.constant(0), text.constant(64));
    let hash = text.op(&format!("keccak256 {zero}, {length}"));
    text.op(&format!("xor {hash}, {loaded}"))
}

/// Places in storage.
fn storage(text: &mut Text, at: usize, a: &str, b: &str) -> String {
    let slot = text.constant(at % 5);
    let place = text.op(&format!("keccak_words 64, {a}, {slot}"));
    let old = text.op(&format!("sload {place}"));
    text.line(&format!("    sstore {place}, {b}"));
    let new = text.op(&format!("sload {place}"));
    text.op(&format!("wadd {old}, {new}"))
}

type Piece = fn(&mut Text, usize, &str, &str) -> String;

const PIECES: [(&str, Piece); 7] = [
    ("checks", check),
    ("diamonds", diamond),
    ("loops", counted),
    ("expressions", expression),
    ("calls", call),
    ("memory", memory),
    ("storage", storage),
];

/// A program of `count` pieces.
fn program(piece: Piece, count: usize) -> Module {
    let mut text = Text::default();
    text.line("block0:");
    let zero = text.constant(0);
    let word = text.constant(32);
    let (mut a, b) = (text.op(&format!("calldataload {zero}")), text.op(&format!("calldataload {word}")));
    for at in 0..count {
        a = piece(&mut text, at, &a, &b);
    }
    text.line(&format!("    return_words 32, {a}"));
    let callees: String = (0..4)
        .map(|at| {
            format!(
                "func @f{at}(u256, u256) -> u256 {{\nblock0(v0: u256, v1: u256):\n    v2: u256 = mulmod v0, v1, v0\n    \
                 v4: u1 = trunc v2\n    brif v4, block1, block2\nblock1:\n    ret v2\nblock2:\n    v3: u256 = wmul v1, v0\n    ret v3\n}}\n"
            )
        })
        .collect();
    let text = format!("zvm 1\nentry @main\nfunc @main() {{\n{}}}\n{callees}", text.lines);
    let module = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    verify(&module).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
    module
}

/// The looks of each pass on a module: alone on what was generated, then in the pipeline, then behind it.
fn measured(module: &Module, goal: Goal) -> Vec<(String, u64)> {
    let count = || looks().expect("tests count");
    let run = |name: String, pass: &Pass, module: &mut Module| {
        let before = count();
        apply(pass, module, goal);
        (name, count() - before)
    };
    let mut found: Vec<_> =
        all().into_iter().map(|pass| run(format!("{} alone", pass.name), pass, &mut module.clone())).collect();
    let mut stage = module.clone();
    for (number, pass) in PIPELINE.iter().chain(BESIDE).enumerate() {
        found.push(run(format!("{} (number {number})", pass.name), pass, &mut stage));
    }
    found
}

#[test]
fn work_grows_with_the_program() {
    for (name, piece) in PIECES {
        let (once, twice) = (program(piece, 150), program(piece, 300));
        for goal in [Goal::Evm, Goal::Circuit] {
            for ((pass, one), (_, two)) in measured(&once, goal).into_iter().zip(measured(&twice, goal)) {
                let most = 2 * one + 2 * one * SLACK / 100 + FREE;
                assert!(
                    two <= most,
                    "{name} ({goal:?}): {pass} looks {one} times, {two} times where there is twice as much"
                );
            }
        }
    }
}

/// The counter would see a pass that looks at everything for everything.
#[test]
fn a_square_would_be_seen() {
    let square = |module: &Module| {
        let before = looks().expect("tests count");
        for func in module.funcs.values() {
            let all: Vec<_> = func.insts_in_order().collect();
            assert!(all.iter().all(|_| func.insts_in_order().count() == all.len()));
        }
        looks().expect("tests count") - before
    };
    let (one, two) = (square(&program(check, 150)), square(&program(check, 300)));
    assert!(two > 2 * one + 2 * one * SLACK / 100 + FREE, "{one} {two}");
}

/// Blocks in a row, each of which may go back to the one before: loops in loops, as deep as the row is long, around which a value goes that never
/// changes, and one that does.
#[test]
fn values_that_go_around_nested_loops_are_found_at_once() {
    let looked = |count: usize| {
        let mut text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n jump block1(v1, v1)\n".to_owned();
        for at in 1..=count {
            let (same, next, last) = (10 * at, 10 * at + 2, (at == count).then(|| format!("block{}", count + 1)));
            let up = last.unwrap_or_else(|| format!("block{}(v{same}, v{next})", at + 1));
            let down = at.saturating_sub(1).max(1);
            let _ = writeln!(
                text,
                "block{at}(v{same}: u256, v{}: u256):\n v{next}: u256 = wadd v{}, v1\n v{}: u1 = trunc v{next}\n brif v{}, {up}, \
                 block{down}(v{same}, v{next})",
                same + 1,
                same + 1,
                same + 3,
                same + 3,
            );
        }
        let _ = writeln!(text, "block{}:\n return_words 32, v{}\n}}", count + 1, 10 * count);
        let mut module = parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        verify(&module).unwrap_or_else(|errors| panic!("{errors:#?}\n{text}"));
        let before = looks().expect("tests count");
        apply(find("redundant-params").expect("a pass"), &mut module, Goal::Evm);
        let func = module.funcs.values().next().expect("a function");
        let params: usize = func.layout.iter().map(|&block| func.blocks[block].params.len()).sum();
        // The last block is entered from one other only.
        assert_eq!(params, count - 1, "only what changes is left");
        looks().expect("tests count") - before
    };
    let (one, two) = (looked(100), looked(200));
    assert!(two <= 2 * one + 2 * one * SLACK / 100, "{one} {two}");
}
