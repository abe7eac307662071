//! Programs as a compiler could write them: selectors and functions with arguments, loops, branches, memory, storage, hashes. No
//! statement takes a word from the stack that is not its own, and every loop ends.

use arbitrary::{Result, Unstructured};

/// How deep statements nest, and how many there are in a row.
const DEPTH: usize = 3;
const LENGTH: usize = 6;

const ADD: u8 = 0x01;
const SUB: u8 = 0x03;
const EQ: u8 = 0x14;
const ISZERO: u8 = 0x15;
const SHR: u8 = 0x1c;
const KECCAK256: u8 = 0x20;
const CALLDATALOAD: u8 = 0x35;
const CALLDATACOPY: u8 = 0x37;
const CODECOPY: u8 = 0x39;
const POP: u8 = 0x50;
const MLOAD: u8 = 0x51;
const MSTORE: u8 = 0x52;
const MSTORE8: u8 = 0x53;
const SLOAD: u8 = 0x54;
const SSTORE: u8 = 0x55;
const JUMP: u8 = 0x56;
const JUMPI: u8 = 0x57;
const JUMPDEST: u8 = 0x5b;
const TLOAD: u8 = 0x5c;
const TSTORE: u8 = 0x5d;
const MCOPY: u8 = 0x5e;
const PUSH0: u8 = 0x5f;
const DUP1: u8 = 0x80;
const SWAP1: u8 = 0x90;
const LOG0: u8 = 0xa0;
const RETURN: u8 = 0xf3;
const REVERT: u8 = 0xfd;

/// Pure instructions with the number of their operands.
const PURE: [(u8, usize); 26] = [
    (0x01, 2),
    (0x02, 2),
    (0x03, 2),
    (0x04, 2),
    (0x05, 2),
    (0x06, 2),
    (0x07, 2),
    (0x08, 3),
    (0x09, 3),
    (0x0a, 2),
    (0x0b, 2),
    (0x10, 2),
    (0x11, 2),
    (0x12, 2),
    (0x13, 2),
    (0x14, 2),
    (0x15, 1),
    (0x16, 2),
    (0x17, 2),
    (0x18, 2),
    (0x19, 1),
    (0x1a, 2),
    (0x1b, 2),
    (0x1c, 2),
    (0x1d, 2),
    (0x1e, 1),
];

/// Instructions that only push: ADDRESS, CALLER, CALLVALUE, CALLDATASIZE, CODESIZE, TIMESTAMP, CHAINID, MSIZE and so on.
const SOURCES: [u8; 14] = [0x30, 0x32, 0x33, 0x34, 0x36, 0x38, 0x3a, 0x3d, 0x41, 0x42, 0x43, 0x46, 0x47, 0x59];

/// A function of the program.
#[derive(Clone, Copy)]
struct Signature {
    label: usize,
    arguments: usize,
    results: usize,
}

/// A program from a source of choices.
///
/// # Errors
/// When the source has no bytes to begin with.
pub(crate) fn program(source: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut assembler = Assembler::default();
    let count = source.int_in_range(0..=3)?;
    let functions: Vec<Signature> = (0..count)
        .map(|_| {
            let (arguments, results) = (source.int_in_range(0..=3)?, source.int_in_range(0..=2)?);
            Ok(Signature { label: assembler.label(), arguments, results })
        })
        .collect::<Result<_>>()?;
    if source.ratio(2, 3)? {
        // The free memory pointer.
        assembler.push(0x80).push(0x40).op(MSTORE);
    }
    let mut stack = 0;
    if source.ratio(1, 2)? {
        dispatch(source, &mut assembler, &functions)?;
    }
    statements(source, &mut assembler, &functions, &mut stack, DEPTH)?;
    end(source, &mut assembler, stack)?;
    for (at, function) in functions.iter().enumerate() {
        assembler.place(function.label);
        // The address to return to lies below the arguments.
        let mut stack = function.arguments;
        // Only later functions are called, so that there is no recursion without end.
        statements(source, &mut assembler, &functions[at + 1..], &mut stack, DEPTH - 1)?;
        while stack > function.results {
            assembler.op(POP);
            stack -= 1;
        }
        while stack < function.results {
            assembler.op(PUSH0);
            stack += 1;
        }
        // The return address comes up through the results.
        for depth in 1..=function.results {
            assembler.op(SWAP1 + depth as u8 - 1);
        }
        assembler.op(JUMP);
    }
    Ok(assembler.finish())
}

/// Compares the selector with constants, as compilers do; each function's results are returned.
fn dispatch(source: &mut Unstructured<'_>, out: &mut Assembler, functions: &[Signature]) -> Result<()> {
    out.op(PUSH0).op(CALLDATALOAD).push(0xe0).op(SHR);
    let mut entries = Vec::new();
    for function in functions {
        let entry = out.label();
        // Few selectors, so that some calldata meets one.
        let selector = source.int_in_range(0..=3u64)? * 0x0101_0101;
        out.op(DUP1).push(selector).op(EQ).push_label(entry).op(JUMPI);
        entries.push((entry, *function));
    }
    let rest = out.label();
    out.op(POP).push_label(rest).op(JUMP);
    for (entry, function) in entries {
        out.place(entry);
        out.op(POP);
        let back = out.label();
        out.push_label(back);
        for argument in 0..function.arguments {
            out.push(4 + 32 * argument as u64).op(CALLDATALOAD);
        }
        out.push_label(function.label).op(JUMP);
        out.place(back);
        end(source, out, function.results)?;
    }
    out.place(rest);
    Ok(())
}

/// Stores the words of the stack and halts.
fn end(source: &mut Unstructured<'_>, out: &mut Assembler, stack: usize) -> Result<()> {
    for at in 0..stack.min(8) {
        out.push(32 * at as u64).op(MSTORE);
    }
    let len = source.int_in_range(0..=8u64)? * 32;
    out.push(len).op(PUSH0);
    out.op(if source.ratio(1, 6)? { REVERT } else { RETURN });
    Ok(())
}

/// Some statements; `stack` is how many words they own. Below them lie those of others.
fn statements(
    source: &mut Unstructured<'_>,
    out: &mut Assembler,
    functions: &[Signature],
    stack: &mut usize,
    depth: usize,
) -> Result<()> {
    for _ in 0..source.int_in_range(0..=LENGTH)? {
        if source.is_empty() {
            break;
        }
        statement(source, out, functions, stack, depth)?;
    }
    Ok(())
}

fn statement(
    source: &mut Unstructured<'_>,
    out: &mut Assembler,
    functions: &[Signature],
    stack: &mut usize,
    depth: usize,
) -> Result<()> {
    match source.int_in_range(0..=19u8)? {
        0 | 1 => constant(source, out, stack)?,
        2..=5 => {
            let (opcode, operands) = *source.choose(&PURE)?;
            need(source, out, stack, operands)?;
            out.op(opcode);
            *stack -= operands - 1;
        }
        6 => {
            out.op(*source.choose(&SOURCES)?);
            *stack += 1;
        }
        7 => {
            offset(source, out)?;
            out.op(CALLDATALOAD);
            *stack += 1;
        }
        8 if *stack > 0 => {
            out.op(DUP1 + source.int_in_range(0..=stack.saturating_sub(1).min(15))? as u8);
            *stack += 1;
        }
        9 if *stack > 1 => _ = out.op(SWAP1 + source.int_in_range(0..=(*stack - 2).min(15))? as u8),
        10 if *stack > 0 => {
            out.op(POP);
            *stack -= 1;
        }
        11 | 12 => {
            let store = *source.choose(&[MSTORE, MSTORE, MSTORE8])?;
            need(source, out, stack, 1)?;
            offset(source, out)?;
            out.op(store);
            *stack -= 1;
        }
        13 => {
            offset(source, out)?;
            out.op(MLOAD);
            *stack += 1;
        }
        14 => {
            let (load, store) = *source.choose(&[(SLOAD, SSTORE), (TLOAD, TSTORE)])?;
            let key = source.int_in_range(0..=3u64)?;
            if source.arbitrary()? {
                out.push(key).op(load);
                *stack += 1;
            } else {
                need(source, out, stack, 1)?;
                out.push(key).op(store);
                *stack -= 1;
            }
        }
        15 => {
            len(source, out)?;
            offset(source, out)?;
            out.op(KECCAK256);
            *stack += 1;
        }
        16 => {
            let copy = *source.choose(&[CALLDATACOPY, CODECOPY, MCOPY])?;
            len(source, out)?;
            offset(source, out)?;
            offset(source, out)?;
            out.op(copy);
        }
        17 => {
            let topics = source.int_in_range(0..=2usize)?;
            need(source, out, stack, topics)?;
            len(source, out)?;
            offset(source, out)?;
            out.op(LOG0 + topics as u8);
            *stack -= topics;
        }
        18 if depth > 0 => branch_or_loop(source, out, functions, stack, depth)?,
        19 if !functions.is_empty() => {
            let function = *source.choose(functions)?;
            let back = out.label();
            out.push_label(back);
            for at in 0..function.arguments {
                // Copies of words of ours, where there are any: they lie below the label and the copies before.
                if *stack > 0 && at + 1 < 16 && source.arbitrary()? {
                    out.op(DUP1 + at as u8 + 1);
                } else {
                    constant(source, out, &mut 0)?;
                }
            }
            out.push_label(function.label).op(JUMP);
            out.place(back);
            *stack += function.results;
        }
        _ => constant(source, out, stack)?,
    }
    Ok(())
}

/// What is inside leaves the stack as high as it was.
fn branch_or_loop(
    source: &mut Unstructured<'_>,
    out: &mut Assembler,
    functions: &[Signature],
    stack: &mut usize,
    depth: usize,
) -> Result<()> {
    let balanced = |source: &mut Unstructured<'_>, out: &mut Assembler| -> Result<()> {
        let mut own = 0;
        statements(source, out, functions, &mut own, depth - 1)?;
        (0..own).for_each(|_| _ = out.op(POP));
        Ok(())
    };
    if source.arbitrary()? {
        need(source, out, stack, 1)?;
        *stack -= 1;
        let (otherwise, after) = (out.label(), out.label());
        if source.arbitrary()? {
            out.op(ISZERO);
        }
        out.push_label(otherwise).op(JUMPI);
        balanced(source, out)?;
        out.push_label(after).op(JUMP);
        out.place(otherwise);
        balanced(source, out)?;
        out.place(after);
    } else {
        let again = out.label();
        out.push(source.int_in_range(1..=4u64)?);
        out.place(again);
        balanced(source, out)?;
        out.push(1).op(SWAP1).op(SUB).op(DUP1).push_label(again).op(JUMPI);
        out.op(POP);
    }
    Ok(())
}

/// Pushes until the stack has as many words.
fn need(source: &mut Unstructured<'_>, out: &mut Assembler, stack: &mut usize, words: usize) -> Result<()> {
    while *stack < words {
        constant(source, out, stack)?;
    }
    Ok(())
}

fn constant(source: &mut Unstructured<'_>, out: &mut Assembler, stack: &mut usize) -> Result<()> {
    match source.int_in_range(0..=5u8)? {
        0..=2 => _ = out.push(source.int_in_range(0..=40u64)?),
        3 => _ = out.push(source.arbitrary()?),
        4 => {
            let mut word = [0u8; 32];
            source.fill_buffer(&mut word)?;
            out.bytes(&word);
        }
        // Close to an end of the range of signed or of unsigned words.
        _ => {
            let mut word = [if source.arbitrary()? { 0xff } else { 0 }; 32];
            word[0] ^= *source.choose(&[0, 0x80])?;
            out.bytes(&word);
        }
    }
    *stack += 1;
    Ok(())
}

/// A place in memory or calldata: mostly a constant, sometimes one that the calldata gives.
fn offset(source: &mut Unstructured<'_>, out: &mut Assembler) -> Result<()> {
    match source.int_in_range(0..=5u8)? {
        0..=2 => _ = out.push(32 * source.int_in_range(0..=6u64)?),
        3 => _ = out.push(source.int_in_range(0..=200u64)?),
        4 => _ = out.push(0x40).op(MLOAD).push(0xff).op(0x16),
        _ => _ = out.push(32 * source.int_in_range(0..=2u64)?).op(CALLDATALOAD).push(0x7f).op(0x16),
    }
    if source.ratio(1, 8)? {
        out.push(source.int_in_range(1..=40u64)?).op(ADD);
    }
    Ok(())
}

fn len(source: &mut Unstructured<'_>, out: &mut Assembler) -> Result<()> {
    out.push(*source.choose(&[0u64, 1, 4, 31, 32, 33, 64, 96])?);
    Ok(())
}

/// Bytecode with labels.
#[derive(Default)]
struct Assembler {
    code: Vec<u8>,
    labels: Vec<u16>,
    uses: Vec<(usize, usize)>,
}

impl Assembler {
    fn op(&mut self, opcode: u8) -> &mut Self {
        self.code.push(opcode);
        self
    }

    fn push(&mut self, value: u64) -> &mut Self {
        let bytes = value.to_be_bytes();
        let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(8);
        self.bytes(&bytes[start..])
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.code.push(PUSH0 + bytes.len() as u8);
        self.code.extend(bytes);
        self
    }

    fn label(&mut self) -> usize {
        self.labels.push(0);
        self.labels.len() - 1
    }

    fn push_label(&mut self, label: usize) -> &mut Self {
        self.code.push(PUSH0 + 2);
        self.uses.push((self.code.len(), label));
        self.code.extend([0, 0]);
        self
    }

    fn place(&mut self, label: usize) {
        self.labels[label] = self.code.len() as u16;
        self.code.push(JUMPDEST);
    }

    fn finish(mut self) -> Vec<u8> {
        for (at, label) in self.uses {
            self.code[at..at + 2].copy_from_slice(&self.labels[label].to_be_bytes());
        }
        self.code
    }
}
