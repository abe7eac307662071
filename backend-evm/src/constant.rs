//! Constants: the cheapest instructions that push a word.

use zvm_ir::Word;

use crate::machine::MachineOp;
use crate::{Fork, Optimize, Options, opcodes};

/// A way to push a word: a PUSH of `word`, then instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe {
    /// The bytes.
    pub code: Vec<u8>,
    /// Static gas.
    pub gas: u32,
}

/// Bytes that a gas is worth. With `gas`, 8 bytes: the price of deploying a byte over 1,600 runs.
fn price(recipe: &Recipe, optimize: Optimize) -> u32 {
    match optimize {
        Optimize::Size => recipe.code.len() as u32 * 64 + recipe.gas,
        Optimize::None | Optimize::Gas => recipe.gas * 8 + recipe.code.len() as u32,
    }
}

fn push(word: Word, fork: Fork) -> Recipe {
    let len = word.byte_len();
    if len == 0 && fork.has_push0() {
        return Recipe { code: vec![opcodes::PUSH0], gas: 2 };
    }
    let len = len.max(1);
    let mut code = vec![opcodes::PUSH1 + len as u8 - 1];
    code.extend_from_slice(&word.to_be_bytes::<32>()[32 - len..]);
    Recipe { code, gas: 3 }
}

/// The cheapest instructions that push `word`: PUSH, the complement of a shorter constant, or a shorter one shifted.
pub(crate) fn materialize(word: Word, fork: Fork, optimize: Optimize) -> Recipe {
    let mut best = push(word, fork);
    let mut consider = |recipe: Recipe| {
        if price(&recipe, optimize) < price(&best, optimize) {
            best = recipe;
        }
    };
    let then = |mut recipe: Recipe, tail: &[u8], gas: u32| {
        recipe.code.extend_from_slice(tail);
        recipe.gas += gas;
        recipe
    };
    if word.byte_len() > 3 {
        consider(then(push(!word, fork), &[opcodes::NOT], 3));
        let zeros = word.trailing_zeros();
        if (8..256).contains(&zeros) {
            consider(then(push(word >> zeros, fork), &[opcodes::PUSH1, zeros as u8, opcodes::SHL], 6));
        }
        // 2^n − 1: all ones, shifted right.
        let ones = word.trailing_ones();
        if (8..256).contains(&ones) && word >> ones == Word::ZERO {
            let all = then(push(Word::ZERO, fork), &[opcodes::NOT], 3);
            consider(then(all, &[opcodes::PUSH1, (256 - ones) as u8, opcodes::SHR], 6));
        }
        // All ones but the lowest n: all ones, shifted left.
        if (8..256).contains(&zeros) && !word == (Word::MAX >> (256 - zeros)) {
            let all = then(push(Word::ZERO, fork), &[opcodes::NOT], 3);
            consider(then(all, &[opcodes::PUSH1, zeros as u8, opcodes::SHL], 6));
        }
    }
    best
}

/// The size of a machine instruction as it will be emitted, labels taken to have two bytes.
pub(crate) fn len(op: MachineOp, options: &Options) -> usize {
    match op {
        MachineOp::Push(word) => materialize(word, options.fork, options.optimize).code.len(),
        op => bytes(op, options.fork),
    }
}

/// The size of a machine instruction, labels taken to have two bytes and constants to be pushed.
pub(crate) fn bytes(op: MachineOp, fork: Fork) -> usize {
    match op {
        MachineOp::Plain(_) | MachineOp::Mark(_) => 1,
        MachineOp::Push(word) => push(word, fork).code.len(),
        MachineOp::PushLabel(_) | MachineOp::PushData(..) => 3,
        MachineOp::Exchange(_) => 2,
        MachineOp::PushTable(_) | MachineOp::PushImmutable(_) => 33,
        MachineOp::Dup(depth) => {
            if depth <= 16 {
                1
            } else {
                2
            }
        }
        MachineOp::Swap(below) => {
            if below <= 16 {
                1
            } else {
                2
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Executes a recipe.
    fn value(code: &[u8]) -> Word {
        let mut stack = Vec::new();
        let mut at = 0;
        while at < code.len() {
            let byte = code[at];
            at += 1;
            match byte {
                opcodes::PUSH0 => stack.push(Word::ZERO),
                opcodes::PUSH1..=opcodes::PUSH32 => {
                    let len = usize::from(byte - opcodes::PUSH1 + 1);
                    stack.push(Word::from_be_slice(&code[at..at + len]));
                    at += len;
                }
                opcodes::NOT => {
                    let a = stack.pop().unwrap();
                    stack.push(!a);
                }
                opcodes::SHL | opcodes::SHR => {
                    let by = stack.pop().unwrap().to::<usize>();
                    let a = stack.pop().unwrap();
                    stack.push(if byte == opcodes::SHL { a << by } else { a >> by });
                }
                _ => panic!("unexpected opcode {byte:#x}"),
            }
        }
        assert_eq!(stack.len(), 1);
        stack[0]
    }

    #[test]
    fn every_recipe_makes_its_word() {
        let one = Word::from(1);
        let mut words = vec![Word::ZERO, one, Word::MAX, Word::MAX - one];
        for bit in 0..256usize {
            words.extend([
                one << bit,
                (one << bit) - one,
                !((one << bit) - one),
                !(one << bit),
                Word::from(0xab_cdef) << bit,
            ]);
        }
        for fork in [Fork::London, Fork::Osaka] {
            for optimize in [Optimize::None, Optimize::Gas, Optimize::Size] {
                for &word in &words {
                    let recipe = materialize(word, fork, optimize);
                    assert_eq!(value(&recipe.code), word);
                    assert!(recipe.code.len() <= 33);
                    assert!(fork.has_push0() || !recipe.code.starts_with(&[opcodes::PUSH0]));
                }
            }
        }
    }

    #[test]
    fn long_masks_are_short_code() {
        let minus_one = materialize(Word::MAX, Fork::Osaka, Optimize::Gas);
        assert_eq!(minus_one.code, [opcodes::PUSH0, opcodes::NOT]);
        let selector = Word::from(0x4e48_7b71u64) << 224;
        assert_eq!(materialize(selector, Fork::Osaka, Optimize::Size).code.len(), 8);
        assert_eq!(materialize(Word::from(0x80), Fork::Osaka, Optimize::Gas).code, [0x60, 0x80]);
    }
}
