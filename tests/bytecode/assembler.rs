//! Bytecode from text: mnemonics, decimal numbers (`PUSH1` at least, so that every fork has them), `#` and bytes, `:label`
//! for a JUMPDEST, `@label` for its address; `.label` is a label without a JUMPDEST.

use std::collections::BTreeMap;

use revm::bytecode::opcode::{self, OpCode};
use zvm_ir::Word;

/// Assembles a program.
#[track_caller]
pub(crate) fn assemble(text: &str) -> Vec<u8> {
    let mut code = Vec::new();
    let mut labels: BTreeMap<&str, usize> = BTreeMap::new();
    let mut uses: Vec<(usize, &str)> = Vec::new();
    for word in text.split_whitespace() {
        let (first, rest) = word.split_at(1);
        match first {
            ":" => {
                assert!(labels.insert(rest, code.len()).is_none(), "`{rest}` is there twice");
                code.push(opcode::JUMPDEST);
            }
            "." => assert!(labels.insert(rest, code.len()).is_none(), "`{rest}` is there twice"),
            "@" => {
                code.push(opcode::PUSH2);
                uses.push((code.len(), rest));
                code.extend([0, 0]);
            }
            "#" => code.extend(hex::decode(rest).expect("hex")),
            _ if first.starts_with(|c: char| c.is_ascii_digit()) => push(&mut code, word.parse().expect("a number")),
            _ => {
                let byte = (0..=255u8).find(|&byte| OpCode::new(byte).is_some_and(|op| op.as_str() == word));
                code.push(byte.unwrap_or_else(|| panic!("no opcode {word}")));
            }
        }
    }
    for (at, label) in uses {
        let target = labels.get(label).unwrap_or_else(|| panic!("no label {label}"));
        code[at..at + 2].copy_from_slice(&(*target as u16).to_be_bytes());
    }
    code
}

fn push(code: &mut Vec<u8>, number: Word) {
    let mut bytes = number.to_be_bytes_trimmed_vec();
    if bytes.is_empty() {
        bytes.push(0);
    }
    code.push(opcode::PUSH0 + bytes.len() as u8);
    code.extend(bytes);
}
