//! `mask-words`: the bytes past the length of the last word of a log or a hash are zero, as digests and keys want them.
//!
//! Requires: a verified function. Ensures: words of `log_words` and `keccak_words` hold nothing past their length.
//! Preserves: equality of `Outcome`: a log is its first `len` bytes, and so is what is hashed.
//!
//! ```text
//! log_words 33, v0, v1, v2        ⟶       v3: u256 = iconst 0xff00…00
//!                                         v4: u256 = and v2, v3
//!                                         log_words 33, v0, v1, v4
//! ```

use zvm_ir::{Block, Function, Imm, Inst, InstData, Opcode, Type, Value, Word};

use super::emit::Emit;

/// Runs the pass.
pub(super) fn run(func: &mut Function) {
    for block in func.layout.clone() {
        for inst in core::mem::take(&mut func.blocks[block].insts) {
            if let Some((last, unused)) = partial(&func.insts[inst]) {
                mask(func, block, inst, last, unused);
            }
            func.blocks[block].insts.push(inst);
        }
    }
}

/// The last word of a log or a hash, and how many of its bits do not count, if there are any.
fn partial(data: &InstData) -> Option<(Value, usize)> {
    let (Opcode::LogWords | Opcode::KeccakWords, Imm::Len(len)) = (data.opcode, data.imm) else { return None };
    let used = len as usize % 32;
    let last = data.args.last().copied().filter(|_| used > 0)?;
    Some((last, 8 * (32 - used)))
}

fn mask(func: &mut Function, block: Block, inst: Inst, last: Value, unused: usize) {
    if is_shifted(func, last, unused) {
        return;
    }
    let mask = Word::MAX << unused;
    let (constant, pc) = (func.constant(last), func.insts[inst].pc);
    let mut emit = Emit { func, block, pc };
    let masked = match constant {
        Some(word) => emit.constant(word & mask),
        None => {
            let mask = emit.typed_constant(Type::WORD, mask);
            emit.op(Opcode::And, &[last, mask])
        }
    };
    if let Some(last) = func.insts[inst].args.last_mut() {
        *last = masked;
    }
}

/// Whether a value was shifted up by at least so many bits.
fn is_shifted(func: &Function, value: Value, bits: usize) -> bool {
    let Some(data) = func.def_inst(value).map(|inst| &func.insts[inst]) else { return false };
    match (data.opcode, data.args.as_slice()) {
        (Opcode::Shl, &[by, _]) => func.constant(by).is_some_and(|by| by >= Word::from(bits)),
        _ => false,
    }
}
