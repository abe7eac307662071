//! `isolate-hashes`: every hash of values that are not all constant stands alone in its block.
//!
//! Hashes that are only places in storage are left where they are: they are never computed. A Keccak permutation has 92,160 rows, more than most programs. Alone in its block it is a region of its own
//! ([`crate::region`]), of which a plan has as many slots as it likes, whatever surrounds it.
//!
//! Requires: blocks that end in terminators. Ensures: a block with such a `keccak_words` holds it and a jump.
//! Preserves: equality of `Outcome`; dominance, since the parts of a block follow each other.
//!
//! ```text
//! block0:                                 block0:
//!     v0: u256 = caller                       v0: u256 = caller
//!     v1: u256 = keccak_words 32, v0      ⟶       jump block1
//!     return_words 32, v1                 block1:
//!                                             v1: u256 = keccak_words 32, v0
//!                                             jump block2
//!                                         block2:
//!                                             return_words 32, v1
//! ```

use zvm_ir::{Block, BlockCall, Function, Imm, Inst, Opcode, Pc};

use super::exits::instruction;
use super::places::Places;

/// Runs the pass.
pub(super) fn isolate(func: &mut Function, places: &Places) {
    let mut work = func.layout.clone();
    while let Some(mut block) = work.pop() {
        let Some(at) =
            func.blocks[block].insts.iter().position(|&inst| is_hash(func, inst) && places.layout(inst).is_none())
        else {
            continue;
        };
        let pc = func.insts[func.blocks[block].insts[at]].pc;
        if at > 0 {
            block = split(func, block, at, pc);
        }
        // The hash and the jump that an earlier split may have left are all there is.
        if func.blocks[block].insts.len() > 2 || func.targets(block).len() != 1 {
            work.push(split(func, block, 1, pc));
        }
    }
}

fn is_hash(func: &Function, inst: Inst) -> bool {
    let data = &func.insts[inst];
    data.opcode == Opcode::KeccakWords && data.args.iter().any(|&value| func.constant(value).is_none())
}

/// Moves the instructions of `block` from `at` on to a new block, to which `block` jumps.
fn split(func: &mut Function, block: Block, at: usize, pc: Option<Pc>) -> Block {
    let rest = func.create_block();
    let moved = func.blocks[block].insts.split_off(at);
    func.blocks[rest].insts = moved;
    let mut jump = instruction(Opcode::Jump, Imm::None, pc);
    jump.targets = vec![BlockCall { block: rest, args: Vec::new() }];
    let jump = func.create_inst(jump, &[]);
    func.blocks[block].insts.push(jump);
    rest
}
