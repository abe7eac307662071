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

#[cfg(test)]
mod tests {
    use zvm_ir::{EmptyState, Halt, interp};

    use super::*;
    use crate::execute::Call;
    use crate::program::Program;

    /// Copies so many bytes from so far on, and returns the size.
    const COPY: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u6 = iconst \
         32\n v3: u256 = calldataload v2\n v4: u64 = returndatasize\n returndatacopy v0, v1, v3\n v5: u256 = mload v0\n v6: u256 = \
         wadd v5, v4\n return_words 32, v6\n}\n";

    #[test]
    fn nothing_is_returned_by_nobody() {
        let module = zvm_ir::parse(COPY).unwrap();
        let program = Program::compile(&module).unwrap();
        assert_eq!(program.unprovable(), []);
        for (from, len, halt) in
            [(0u64, 0u64, Halt::Return), (1, 0, Halt::Trap), (0, 1, Halt::Trap), (7, 9, Halt::Trap)]
        {
            let calldata = [from, len].iter().flat_map(|&word| Word::from(word).to_be_bytes::<32>()).collect();
            let call = Call { calldata, ..Call::default() };
            let native = interp::run(&module, interp::Call::new(&call.calldata, &call.env), &EmptyState).unwrap();
            assert_eq!(native.halt, halt);
            assert_eq!(program.check(&call).unwrap().0, native, "{from} {len}");
        }
    }
}
