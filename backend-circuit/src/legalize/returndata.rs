//! `no-return-data`: what calls return is empty, since no execution with a call of another account is proved.
//!
//! Does: makes `returndatasize` zero, and `returndatacopy` a trap unless it copies nothing from the start.
//! Requires: a verified function. Ensures: neither instruction is left.
//! Preserves: equality of `Outcome` for every execution that runs no other account's code.
//!
//! ```text
//! v3: u64 = returndatasize                v3: u64 = iconst 0
//! returndatacopy v0, v1, v2       ⟶       v4: u256 = or v1, v2
//! …                                       brif v4, block8, block9
//!                                     block8: trap invalid
//!                                     block9: …
//! ```
//!
//! Contracts read its size where they want a zero, and copy it where they want to halt: `RETURNDATASIZE` costs less than `PUSH1`.

use zvm_ir::{Block, BlockCall, Function, Imm, Inst, Opcode, TrapCode, Word};

use super::emit::Emit;
use super::exits::instruction;

/// Runs the pass.
pub(super) fn run(func: &mut Function) {
    let mut at = 0;
    // Blocks that are made here come at the end of the layout, and are looked at in turn.
    while let Some(&block) = func.layout.get(at) {
        at += 1;
        for &inst in &func.blocks[block].insts {
            if func.insts[inst].opcode == Opcode::Returndatasize {
                (func.insts[inst].opcode, func.insts[inst].imm) = (Opcode::Iconst, Imm::Word(Word::ZERO));
            }
        }
        let is_copy = |&inst: &Inst| func.insts[inst].opcode == Opcode::Returndatacopy;
        if let Some(copy) = func.blocks[block].insts.iter().position(is_copy) {
            split(func, block, copy);
        }
    }
}

/// Ends `block` at the copy, which goes on in a new block if it copies nothing.
fn split(func: &mut Function, block: Block, at: usize) {
    let rest = func.blocks[block].insts.split_off(at);
    let (beyond, within) = (func.create_block(), func.create_block());
    let Some((&copy, rest)) = rest.split_first() else { return };
    let pc = func.insts[copy].pc;
    let [_, from, len] = func.insts[copy].args[..] else { return };
    let mut emit = Emit { func, block, pc };
    let any = emit.op(Opcode::Or, &[from, len]);
    let is_none = emit.op(Opcode::Iszero, &[any]);
    let mut brif = instruction(Opcode::Brif, Imm::None, pc);
    brif.args = vec![is_none];
    brif.targets = [within, beyond].map(|block| BlockCall { block, args: Vec::new() }).to_vec();
    let brif = func.create_inst(brif, &[]);
    func.blocks[block].insts.push(brif);
    let trap = func.create_inst(instruction(Opcode::Trap, Imm::Trap(TrapCode::Invalid), pc), &[]);
    func.blocks[beyond].insts.push(trap);
    func.blocks[within].insts = rest.to_vec();
}
