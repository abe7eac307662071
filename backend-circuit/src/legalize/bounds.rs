//! `bounds`: a place in memory that is not below the limit is where no proof can go.
//!
//! ```text
//! v1: u27 = bound 32, v0       →   v2: u1 = ult 0x3ffffe0, v0; brif v2, block8, block9
//! …                                block8: (unprovable)
//!                                  block9: v1: u27 = narrow v0; …
//! ```

use zvm_ir::memory::MEMORY_LIMIT;
use zvm_ir::{Block, BlockCall, Function, Imm, Inst, Opcode, TrapCode, Type, Word};

use super::exits::{constant, instruction};

/// Turns each `bound` that some places pass into a branch around itself.
pub(super) fn branch(func: &mut Function) {
    let mut at = 0;
    // Blocks that are made here come at the end of the layout, and are looked at in turn.
    while let Some(&block) = func.layout.get(at) {
        at += 1;
        let bound =
            func.blocks[block].insts.iter().enumerate().find_map(|(at, &inst)| Some((at, inst, last(func, inst)?)));
        if let Some((at, inst, last)) = bound {
            split(func, block, at, inst, last);
        }
    }
}

/// The last place that passes a `bound`.
fn last(func: &Function, inst: Inst) -> Option<Word> {
    let data = &func.insts[inst];
    match (data.opcode, data.imm) {
        (Opcode::Bound, Imm::Word(room)) => Word::from(MEMORY_LIMIT).checked_sub(room),
        _ => None,
    }
}

fn split(func: &mut Function, block: Block, at: usize, inst: Inst, last: Word) {
    let rest = func.blocks[block].insts.split_off(at);
    let (data, beyond, within) = (func.insts[inst].clone(), func.create_block(), func.create_block());
    let place = data.args[0];
    let last = constant(func, block, data.pc, Type::of(&last), last);
    let mut compare = instruction(Opcode::Ult, Imm::None, data.pc);
    compare.args = vec![last, place];
    let compare = func.create_inst(compare, &[Type::BOOL]);
    let mut brif = instruction(Opcode::Brif, Imm::None, data.pc);
    brif.args = func.insts[compare].results.clone();
    brif.targets = [beyond, within].map(|block| BlockCall { block, args: Vec::new() }).to_vec();
    let brif = func.create_inst(brif, &[]);
    func.blocks[block].insts.extend([compare, brif]);
    // What no proof may reach keeps the name of the instruction that is to blame.
    let mut culprit = instruction(Opcode::Bound, Imm::Word(Word::MAX), data.pc);
    culprit.args = vec![place];
    let culprit = func.create_inst(culprit, &[Type::PLACE]);
    let trap = func.create_inst(instruction(Opcode::Trap, Imm::Trap(TrapCode::Invalid), data.pc), &[]);
    func.blocks[beyond].insts.extend([culprit, trap]);
    let data = &mut func.insts[inst];
    (data.opcode, data.imm) = (Opcode::Narrow, Imm::None);
    if data.results.iter().any(|&value| func.values[value].ty > func.values[place].ty) {
        func.insts[inst].opcode = Opcode::Zext;
    }
    func.blocks[within].insts = rest;
}
