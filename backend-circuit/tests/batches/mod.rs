//! Batches of calls that read, write, log and fail.

#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::BTreeMap;

use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::program::Program;
use zvm_ir::passes::{Goal, Options};
use zvm_ir::{Address, Env, Module, PreState, Word};

/// Adds the amount to slot 0, logs it, and reverts if it is seven.
const COUNTER: &str = "zvm 1
entry @main
func @main() {
block0:
    v0: u3 = iconst 4
    v1: u256 = calldataload v0
    v2: u1 = iconst 0
    v3: u256 = sload v2
    v4: u256 = wadd v3, v1
    sstore v2, v4
    log_words 32, v1, v4
    v5: u3 = iconst 7
    v6: u1 = eq v1, v5
    brif v6, block1, block2
block1:
    revert_words 32, v4
block2:
    return_words 32, v4
}
";

/// Balances by address in a mapping at slot 3: takes the amount from the caller, gives it to the first argument.
const TOKEN: &str = "zvm 1
entry @main
func @main() {
block0:
    v0: u3 = iconst 4
    v1: u256 = calldataload v0
    v2: u6 = iconst 36
    v3: u256 = calldataload v2
    v4: u160 = caller
    v5: u2 = iconst 3
    v6: u256 = keccak_words 64, v4, v5
    v7: u256 = sload v6
    v8: u1 = ult v7, v3
    brif v8, block1, block2
block1:
    v9: u1 = iconst 0
    revert_words 0
block2:
    v10: u256 = wsub v7, v3
    sstore v6, v10
    v11: u256 = keccak_words 64, v1, v5
    v12: u256 = sload v11
    v13: u256 = wadd v12, v3
    sstore v11, v13
    log_words 32, v4, v1, v3
    v14: u256 = wadd v11, v0
    sstore v14, v3
    v15: u1 = iconst 1
    return_words 32, v15
}
";

/// Writes the second word of the calldata to the slot that the first numbers, or returns what is there if it is zero.
const CELLS: &str = "zvm 1
entry @main
func @main() {
block0:
    v0: u3 = iconst 4
    v1: u256 = calldataload v0
    v2: u6 = iconst 36
    v3: u256 = calldataload v2
    v4: u1 = iszero v3
    brif v4, block1, block2
block1:
    v5: u256 = sload v1
    return_words 32, v5
block2:
    sstore v1, v3
    stop
}
";

/// Keeps the second word of the calldata in memory, where the first says, and returns what is in memory where the third says.
const MEMORY: &str = "zvm 1
entry @main
func @main() {
block0:
    v0: u3 = iconst 4
    v1: u256 = calldataload v0
    v2: u6 = iconst 36
    v3: u256 = calldataload v2
    v4: u7 = iconst 68
    v5: u256 = calldataload v4
    v6: u5 = trunc v1
    v7: u6 = iconst 32
    v8: u11 = mul v6, v7
    v9: u5 = trunc v5
    v10: u11 = mul v9, v7
    mstore v8, v3
    v11: u256 = mload v10
    return_words 32, v11
}
";

/// Copies as many bytes of the calldata as the second word says, from the place that the third says to that of the first; keeps the second word in
/// transient storage; logs the copy with one topic, and with four; and returns it behind what is at the place, or reverts with it if the fourth word
/// is not zero.
pub(crate) const LENGTHS: &str = "zvm 1
entry @main
func @main() {
block0:
    v0: u3 = iconst 4
    v1: u256 = calldataload v0
    v2: u6 = iconst 36
    v3: u256 = calldataload v2
    v4: u7 = iconst 68
    v5: u256 = calldataload v4
    v6: u7 = iconst 100
    v7: u256 = calldataload v6
    v8: u64 = iconst 0xfffffffffffffffe
    tstore v8, v3
    calldatacopy v1, v5, v3
    log v1, v3, v5
    v9: u256 = tload v8
    log v1, v9, v1, v3, v5, v7
    v10: u256 = calldataload v5
    v11: u256 = wadd v1, v9
    mstore v11, v10
    v12: u6 = iconst 32
    v13: u256 = wadd v9, v12
    v14: u1 = iszero v7
    brif v14, block1, block2
block1:
    return v1, v13
block2:
    revert v1, v13
}
";

/// Adds to a place of transient storage, which begins as zero, and returns what is there then.
pub(crate) const TRANSIENT: &str = "zvm 1
entry @main
func @main() {
block0:
    v0: u3 = iconst 4
    v1: u256 = calldataload v0
    v2: u4 = iconst 9
    v3: u256 = tload v2
    v4: u256 = wadd v1, v3
    tstore v2, v4
    v5: u256 = tload v2
    v6: u1 = iconst 0
    mstore v6, v5
    v7: u6 = iconst 32
    return v6, v7
}
";

/// Accesses of each call of [`TRANSIENT`].
pub(crate) const TRANSIENT_ACCESSES: usize = 5;

/// Fibonacci numbers by recursion: what the first of two calls returns is kept while the second runs, and so is where to go on.
pub(crate) const RECURSION: &str = "zvm 1
entry @main
func @main() {
block0:
    v0: u3 = iconst 4
    v1: u256 = calldataload v0
    v2: u64 = trunc v1
    v3: u64 = call @fib(v2)
    v4: u256 = zext v3
    v5: u256 = wadd v4, v1
    return_words 32, v5
}
func @fib(u64) -> u64 {
block0(v0: u64):
    v1: u2 = iconst 2
    v2: u1 = ult v0, v1
    brif v2, block1, block2
block1:
    ret v0
block2:
    v3: u1 = iconst 1
    v4: u64 = sub v0, v3
    v5: u64 = call @fib(v4)
    v6: u64 = sub v0, v1
    v7: u64 = call @fib(v6)
    v8: u65 = add v5, v7
    v9: u64 = narrow v8
    ret v9
}
";

/// Stores values below 2^64 in memory, some more than once, and returns one of them.
pub(crate) const NARROW: &str = "zvm 1
entry @main
func @main() {
block0:
    v0: u3 = iconst 4
    v1: u256 = calldataload v0
    v2: u6 = iconst 36
    v3: u256 = calldataload v2
    v4: u64 = trunc v1
    v5: u256 = zext v4
    v6: u6 = iconst 32
    v7: u8 = trunc v3
    v8: u3 = trunc v7
    v9: u9 = mul v8, v6
    v10: u1 = iconst 0
    mstore v10, v5
    mstore v9, v5
    v11: u256 = mload v10
    v12: u256 = mload v6
    v13: u256 = or v11, v12
    mstore v6, v13
    return v6, v6
}
";

/// Accesses of each call of [`NARROW`], with that of the word that it returns.
pub(crate) const NARROW_ACCESSES: usize = 6;

fn program(text: &str) -> Program {
    Program::compile(&zvm_ir::parse(text).unwrap()).unwrap()
}

fn call(caller: u8, words: &[u64]) -> Call {
    let mut calldata = vec![0; 4];
    words.iter().for_each(|&word| calldata.extend(Word::from(word).to_be_bytes::<32>()));
    Call { calldata, env: Env { caller: [caller; 20], ..Env::default() } }
}

/// As bytecode would be: optimised for the circuit.
pub(crate) fn optimized(text: &str) -> Module {
    let mut module = zvm_ir::parse(text).unwrap();
    assert_eq!(zvm_ir::verify(&module), Ok(()));
    let options = Options { goal: Goal::Circuit, ..Options::default() };
    zvm_ir::passes::optimize(&mut module, &options).unwrap();
    module
}

/// A state of one account's slots.
pub(crate) struct Slots(pub(crate) BTreeMap<Word, Word>);

impl PreState for Slots {
    fn storage(&self, _: &Address, key: &Word) -> Word {
        self.0.get(key).copied().unwrap_or_default()
    }
    fn balance(&self, _: &Address) -> Word {
        Word::ZERO
    }
    fn code(&self, _: &Address) -> &[u8] {
        &[]
    }
    fn exists(&self, _: &Address) -> bool {
        true
    }
    fn block_hash(&self, _: u64) -> Option<Word> {
        None
    }
    fn blob_hash(&self, _: u64) -> Option<Word> {
        None
    }
}

/// A program, calls of it, and the state that they start from.
pub(crate) type Batch = (Program, Vec<Call>, Slots);

/// Three calls that return and three that revert.
pub(crate) fn counter() -> Batch {
    let calls = [5, 7, 0, 7, 7, 100].iter().map(|&amount| call(1, &[amount])).collect();
    (program(COUNTER), calls, Slots(BTreeMap::from([(Word::ZERO, Word::from(10))])))
}

/// Transfers, two of which fail, to an account that has nothing and between two that have something.
pub(crate) fn token() -> Batch {
    let balance = |owner: u8| {
        let mut bytes = [0u8; 64];
        bytes[12..32].fill(owner);
        bytes[63] = 3;
        zvm_ir::eval::keccak256(&bytes)
    };
    let pre = Slots(BTreeMap::from([(balance(1), Word::from(1000)), (balance(2), Word::from(5))]));
    let calls =
        [call(1, &[9, 10]), call(2, &[9, 6]), call(2, &[1, 5]), call(2, &[1, 0]), call(1, &[2, 990]), call(1, &[2, 1])];
    (program(TOKEN), calls.to_vec(), pre)
}

/// Slots that are read only, and found or not; and enough new ones to fill nodes of the tree.
pub(crate) fn cells() -> Batch {
    // Nothing new comes between the first two, so that the first leaf stays as it is.
    let pre = Slots([(3, 9), (4, 1), (205, 1)].map(|(slot, value)| (Word::from(slot), Word::from(value))).into());
    let mut calls = vec![call(1, &[3, 0]), call(1, &[4, 0]), call(1, &[100, 0]), call(1, &[300, 0])];
    calls.extend((200..220).map(|slot| call(1, &[slot, slot])));
    (program(CELLS), calls, pre)
}

/// Words that are read where they were written, and where nothing was; no call sees what another wrote.
pub(crate) fn memory() -> Batch {
    let calls = [[1, 7, 1], [2, 8, 3], [2, 9, 2], [0, 1, 2], [31, 5, 31]].map(|words| call(1, &words)).to_vec();
    (program(MEMORY), calls, Slots(BTreeMap::new()))
}

/// Data of no, few and many bytes, that begin and end inside words, from every part of the calldata and past its end.
pub(crate) fn lengths() -> Batch {
    let calls = [[64, 200, 132, 0], [65, 40, 2, 0], [96, 0, 36, 1], [64, 170, 131, 1], [70, 128, 300, 0]];
    let mut calls = calls.map(|words| call(1, &words)).to_vec();
    calls.iter_mut().for_each(|call| call.calldata.extend((1..=210).map(|byte: u8| byte)));
    let program = Program::compile(&optimized(LENGTHS)).unwrap();
    (program, calls, Slots(BTreeMap::new()))
}

/// Two calls that store in one cell, and in two.
pub(crate) fn narrow() -> Batch {
    (program(NARROW), vec![call(1, &[200, 1]), call(2, &[30, 2])], Slots(BTreeMap::new()))
}

/// Two calls, of which the second finds all words of frames zero.
pub(crate) fn recursion() -> Batch {
    (program(RECURSION), vec![call(1, &[3]), call(2, &[2])], Slots(BTreeMap::new()))
}

/// Two calls that each find the place zero.
pub(crate) fn transient() -> Batch {
    (program(TRANSIENT), vec![call(1, &[200]), call(2, &[30])], Slots(BTreeMap::new()))
}
