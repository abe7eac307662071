//! Data of any length, from any place: whatever a program copies, logs and returns, the circuit says what the interpreter says.

use zvm_backend_circuit::check::Checked;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::program::Program;
use zvm_ir::{EmptyState, Log, Module, Word, interp};

#[path = "batches/mod.rs"]
mod batches;

use batches::{LENGTHS, optimized};

fn call(words: [u64; 4], further: usize) -> Call {
    let mut calldata = vec![0xde, 0xad, 0xbe, 0xef];
    words.iter().for_each(|&word| calldata.extend(Word::from(word).to_be_bytes::<32>()));
    calldata.extend((0..further).map(|at| (at % 251) as u8 + 1));
    Call { calldata, ..Call::default() }
}

fn agrees(module: &Module, program: &Program, call: &Call) -> Checked {
    let native = interp::run(module, interp::Call::new(&call.calldata, &call.env), &EmptyState).unwrap();
    let (outcome, checked) = program.check(call).unwrap_or_else(|error| panic!("{:x?}: {error}", call.calldata));
    assert_eq!(outcome, native, "{:x?}", call.calldata);
    checked
}

fn lengths() -> (Module, Program) {
    let module = optimized(LENGTHS);
    let program = Program::compile(&module).unwrap();
    assert_eq!(program.unprovable(), []);
    (module, program)
}

#[test]
fn data_of_any_length_are_what_they_are() {
    let (module, program) = lengths();
    for (to, len, from) in [
        (64, 0, 132),
        (64, 1, 132),
        (64, 31, 132),
        (64, 32, 132),
        (64, 33, 133),
        (96, 64, 100),
        (96, 95, 36),
        (96, 96, 4),
        (0, 97, 132),
        (1, 127, 132),
        (31, 128, 131),
        (64, 129, 1),
        (64, 160, 0),
        (64, 224, 3),
        (7, 225, 5),
        (64, 500, 132),
        (64, 1000, 200),
        (65, 70, 290),
        (64, 70, 331),
        (64, 40, 332),
        (64, 40, 100_000),
    ] {
        for fails in [0, 1] {
            agrees(&module, &program, &call([to, len, from, fails], 200));
        }
    }
}

/// Copies data to a place in the middle of a word, and returns them.
const ASKEW: &str = "zvm 1
entry @main
func @main() {
block0:
    v0: u3 = iconst 4
    v1: u256 = calldataload v0
    v2: u6 = iconst 36
    v3: u256 = calldataload v2
    v4: u21 = trunc v1
    v5: u6 = iconst 32
    v6: u27 = mul v4, v5
    v7: u5 = iconst 28
    v8: u28 = add v6, v7
    v9: u8 = iconst 132
    calldatacopy v8, v9, v3
    return v8, v3
}
";

/// A word that is known to lie in the middle of two is made of both, wherever they are.
#[test]
fn data_from_the_middle_of_a_word() {
    let module = optimized(ASKEW);
    let program = Program::compile(&module).unwrap();
    for (at, len) in [(0, 0), (0, 3), (0, 4), (1, 5), (2, 36), (3, 70), (9, 132), ((1 << 21) - 9, 200)] {
        agrees(&module, &program, &call([at, len, 0, 0], 300));
    }
}

/// Lengths and places that no block can hold are not proved.
#[test]
fn beyond_the_limits_nothing_is_proved() {
    let (_, program) = lengths();
    for words in [[64, 1 << 27, 132, 0], [1 << 27, 64, 132, 0], [(1 << 26) - 31, 32, 132, 0]] {
        let error = program.check(&call(words, 10)).unwrap_err().to_string();
        assert!(error.contains("this far from the start"), "{error}");
    }
}

/// Words that cost the same each, however many there are: loops, not slots for the longest.
#[test]
fn a_word_costs_the_same_in_any_data() {
    let (module, program) = lengths();
    // The rows of slots with their share of the hash of the advice, as in a step of many.
    let rows = |len| {
        let call = call([64, len, 132, 0], 3000);
        agrees(&module, &program, &call);
        let trace = program.execute(&call).unwrap().trace;
        trace.runs().iter().map(|&(region, count)| program.rows()[region] * count).sum::<u64>()
    };
    let (short, middle, long) = (rows(960), rows(1920), rows(2880));
    let word = (long - middle) / 30;
    assert_eq!(long - middle, middle - short, "{word} rows a word");
    // Copied from the calldata, logged twice, and returned.
    assert!(word < 2100, "{word} rows a word");
}

/// The words of a program's own notes mean nothing.
#[test]
fn notes_of_programs_are_dropped() {
    let module = zvm_ir::parse(
        "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u3 = iconst 4\n v1: u256 = calldataload v0\n note v1, v0\n log_words 32, v1\n note \
         v1\n return_words 32, v1\n}\n",
    )
    .unwrap();
    let program = Program::compile(&module).unwrap();
    let call = Call { calldata: vec![7; 40], ..Call::default() };
    agrees(&module, &program, &call);
    let (outcome, _) = program.check(&call).unwrap();
    assert_eq!(outcome.logs, [Log { address: call.env.address, topics: vec![], data: vec![7; 32] }]);
    assert!(!program.features().data);
}

/// Constant lengths of more words than an outcome's first block has room for, in words and in memory.
#[test]
fn constant_lengths_are_no_different() {
    for len in [128, 129, 160, 224, 512, 513, 4000] {
        let body = format!(
            "block0:\n v0: u3 = iconst 4\n v1: u256 = calldataload v0\n v2: u13 = iconst {len}\n v3: u13 = iconst {}\n v4: u1 = iconst 0\n mstore \
             v3, v1\n mstore v4, v1\n log v4, v2\n return v4, v2\n",
            len - 20
        );
        let module = zvm_ir::parse(&format!("zvm 1\nentry @main\nfunc @main() {{\n{body}}}\n")).unwrap();
        let program = Program::compile(&module).unwrap();
        agrees(&module, &program, &Call { calldata: vec![0x5a; 36], ..Call::default() });
        let words = usize::div_ceil(len, 32);
        let args = vec!["v1"; words].join(", ");
        let body = format!(
            "block0:\n v0: u3 = iconst 4\n v1: u256 = calldataload v0\n log_words {len}, {args}\n revert_words {len}, {args}\n"
        );
        let module = zvm_ir::parse(&format!("zvm 1\nentry @main\nfunc @main() {{\n{body}}}\n")).unwrap();
        let program = Program::compile(&module).unwrap();
        agrees(&module, &program, &Call { calldata: vec![0x5a; 36], ..Call::default() });
    }
}
