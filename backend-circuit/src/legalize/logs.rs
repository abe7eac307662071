//! `mask-logs`: the bytes past the length of a log's last word are zero, as its digest wants them.
//!
//! Requires: a verified function. Ensures: words of `log_words` hold nothing past its length.
//! Preserves: equality of `Outcome`: a log is its first `len` bytes.
//!
//! ```text
//! log_words 33, v0, v1, v2        ⟶       v3: u256 = iconst 0xff00…00
//!                                         v4: u256 = and v2, v3
//!                                         log_words 33, v0, v1, v4
//! ```

use zvm_ir::{Function, Imm, Opcode, Type, Word};

use super::exits::instruction;

/// Runs the pass.
pub(super) fn mask(func: &mut Function) {
    for block in func.layout.clone() {
        let mut at = 0;
        while let Some(&inst) = func.blocks[block].insts.get(at) {
            at += 1;
            let data = &func.insts[inst];
            let (Opcode::LogWords, Imm::Len(len), Some(&last)) = (data.opcode, data.imm, data.args.last()) else {
                continue;
            };
            let used = len % 32;
            if used == 0 {
                continue;
            }
            let pc = data.pc;
            let mask = Word::MAX << (8 * (32 - used) as usize);
            let mask = func.create_inst(instruction(Opcode::Iconst, Imm::Word(mask), pc), &[Type::WORD]);
            let mut and = instruction(Opcode::And, Imm::None, pc);
            and.args = vec![last, func.insts[mask].results[0]];
            let and = func.create_inst(and, &[Type::WORD]);
            let masked = func.insts[and].results[0];
            if let Some(last) = func.insts[inst].args.last_mut() {
                *last = masked;
            }
            func.blocks[block].insts.splice(at - 1..at - 1, [mask, and]);
            at += 2;
        }
    }
}
