//! Memory in proofs: whatever a program does to it, the circuit says what the interpreter says.

use zvm_backend_circuit::check::Checked;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::program::Program;
use zvm_ir::{EmptyState, Module, Word, interp};

/// Writes the second word of the calldata at the place that the first says, and reads at the third's.
const PLACES: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u6 = iconst \
     32\n v3: u256 = calldataload v2\n v4: u7 = iconst 64\n v5: u256 = calldataload v4\n v6: u9 = iconst 256\n mstore v6, v3\n mstore v1, \
     v3\n v7: u256 = mload v5\n v8: u256 = mload v6\n mstore8 v5, v3\n v9: u256 = mload v5\n return_words 96, v7, v8, v9\n}\n";

/// Fills memory with the squares of numbers below the first word of the calldata, adds them up again from the last to the first, and returns
/// the sum with 40 bytes of memory from the second word on.
const SQUARES: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u8 = trunc v1\n \
     v3: u6 = iconst 32\n v4: u256 = calldataload v3\n v21: u8 = zext v0\n v22: u256 = zext v0\n jump block1(v21)\nblock1(v5: u8):\n v6: u1 = ult v5, v2\n brif v6, block2, \
     block3(v2, v22)\nblock2:\n v7: u16 = mul v5, v5\n v8: u14 = mul v5, v3\n mstore v8, v7\n v9: u1 = iconst 1\n v10: u9 = add v5, v9\n \
     v11: u8 = narrow v10\n jump block1(v11)\nblock3(v12: u8, v13: u256):\n v14: u1 = iszero v12\n brif v14, block5, block4\nblock4:\n \
     v15: u1 = iconst 1\n v16: u8 = sub v12, v15\n v17: u14 = mul v16, v3\n v18: u256 = mload v17\n v19: u256 = wadd v13, v18\n jump \
     block3(v16, v19)\nblock5:\n mstore v4, v13\n v20: u6 = iconst 40\n return v4, v20\n}\n";

fn module(text: &str) -> Module {
    let module = zvm_ir::parse(text).unwrap();
    assert_eq!(zvm_ir::verify(&module), Ok(()));
    module
}

fn call(words: &[u64]) -> Call {
    Call { calldata: words.iter().flat_map(|&word| Word::from(word).to_be_bytes::<32>()).collect(), ..Call::default() }
}

fn agrees(module: &Module, program: &Program, call: &Call) -> Checked {
    let native = interp::run(module, interp::Call::new(&call.calldata, &call.env), &EmptyState).unwrap();
    let (outcome, checked) = program.check(call).unwrap_or_else(|error| panic!("{:x?}: {error}", call.calldata));
    assert_eq!(outcome, native, "{:x?}", call.calldata);
    checked
}

#[test]
fn words_are_where_they_were_put() {
    let module = module(PLACES);
    let program = Program::compile(&module).unwrap();
    assert_eq!(program.unprovable(), [], "only places beyond the limit, which nobody can pay for");
    for to in [0, 256, 224, 257, 255, 287, 288, 100_000] {
        for from in [0, 256, 255, 240, 259, 287, 288, 289, 100_001] {
            agrees(&module, &program, &call(&[to, 0x1122_3344_5566_7788, from]));
        }
    }
}

#[test]
fn loops_read_what_they_wrote() {
    let module = module(SQUARES);
    let program = Program::compile(&module).unwrap();
    for words in [[0, 0], [1, 0], [5, 64], [5, 65], [200, 31], [9, 4_000_000]] {
        agrees(&module, &program, &call(&words));
    }
    let [short, long] = [[10, 0], [110, 0]].map(|words| agrees(&module, &program, &call(&words)).rows);
    let rows = (long - short) / 200;
    assert!(rows < 360, "{rows} rows per access, loop and cell included");
}
