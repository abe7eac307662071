//! `calldata`: calldata are read at places that are 4 modulo 32.
//!
//! The digest of calldata ([`crate::digest`]) is of the words from byte 4 on, and the trace argument shows what stands in one of them. This pass
//! makes a `calldataload` from an unknown place one or two of those, and zero past the end.
//!
//! *Requires*: a verified function without calls, its blocks in reverse post-order. *Ensures*: a `calldataload` whose place is not constant has one
//! that is 4 modulo 32, below the length of the calldata, and of at most [`super::PLACE_BITS`] bits.
//! *Preserves*: equality of `Outcome`, where no calldata are read at `2^26` or beyond.
//!
//! ```text
//! v1 = calldataload v0   ⟶   v2 = calldatasize; v3 = ult v0, v2; brif v3, block1, block2
//!                            block1: …; v4 = calldataload v0; jump block3(v4)
//!                            block2: jump block3(0)
//! ```

use cranelift_entity::SecondaryMap;
use zvm_ir::{Block, Function, Imm, Opcode, TrapCode, Type, Value, Word};

use super::emit::Emit;
use super::exits::{UnprovableBlocks, instruction};
use super::residues::Residues;
use super::support::{Reason, Support, Unprovable, support_of};

/// The bytes before the first word of the digest.
const SELECTOR: u32 = 4;
/// The bytes of a word.
const WORD: u32 = 32;
/// No calldata are read from here on.
const LIMIT: u64 = 1 << 26;

/// Runs the pass. Blocks that no proof may reach are added to `unprovable`.
pub(super) fn lower(func: &mut Function, unprovable: &mut UnprovableBlocks) {
    zeros_far_out(func);
    let is_computed = |func: &Function, inst| support_of(func, &func.insts[inst]) == Support::Lookup;
    if !func.insts_in_order().any(|(_, inst)| is_computed(func, inst)) {
        return;
    }
    let residues = Residues::new(func);
    let mut renamed: SecondaryMap<Value, Option<Value>> = SecondaryMap::new();
    for mut block in func.layout.clone() {
        for inst in core::mem::take(&mut func.blocks[block].insts) {
            if !is_computed(func, inst) {
                func.blocks[block].insts.push(inst);
                continue;
            }
            let data = func.insts[inst].clone();
            let mut read = Read { emit: Emit { func, block, pc: data.pc }, unprovable };
            let loaded = read.computed(data.args[0], residues.of(data.args[0]));
            block = read.emit.block;
            data.results.iter().for_each(|&result| renamed[result] = Some(loaded));
        }
    }
    func.map_uses(|value| renamed[value].unwrap_or(value));
}

/// No calldata are as long as half the address space: what is read there is zero. Copies from past the end read there.
fn zeros_far_out(func: &mut Function) {
    for block in func.layout.clone() {
        for inst in func.blocks[block].insts.clone() {
            let data = &func.insts[inst];
            let place = data.args.first().and_then(|&place| func.constant(place));
            if data.opcode == Opcode::Calldataload && place.is_some_and(|place| place >= Word::from(1u64 << 63)) {
                let data = &mut func.insts[inst];
                (data.opcode, data.imm, data.args) = (Opcode::Iconst, Imm::Word(Word::ZERO), Vec::new());
            }
        }
    }
}

struct Read<'a, 'u> {
    emit: Emit<'a>,
    unprovable: &'u mut UnprovableBlocks,
}

impl Read<'_, '_> {
    /// The word at a place; goes on in a new block.
    fn computed(&mut self, place: Value, residue: Option<u32>) -> Value {
        let size = self.emit.typed(Opcode::Calldatasize, &[], Type::of(&Word::from(u64::MAX)));
        let is_inside = self.emit.op(Opcode::Ult, &[place, size]);
        let [inside, outside, done] = self.emit.blocks();
        self.emit.brif(is_inside, [inside, outside]);
        self.emit.block = outside;
        self.zero(done);
        self.emit.block = inside;
        let place = self.near(place);
        let loaded = match residue {
            Some(residue) if residue == SELECTOR => self.word(place),
            Some(residue) => self.elsewhere(place, size, Some(residue)),
            None => {
                let [aligned, other, both] = self.emit.fork(place, SELECTOR);
                self.emit.block = aligned;
                let loaded = self.word(place);
                self.emit.jump(both, vec![loaded]);
                self.emit.block = other;
                let loaded = self.elsewhere(place, size, None);
                self.emit.jump(both, vec![loaded]);
                self.join(both)
            }
        };
        self.emit.jump(done, vec![loaded]);
        self.join(done)
    }

    fn join(&mut self, block: Block) -> Value {
        self.emit.block = block;
        self.emit.func.append_param(block, Type::WORD)
    }

    fn zero(&mut self, block: Block) {
        let zero = self.emit.typed_constant(Type::WORD, Word::ZERO);
        self.emit.jump(block, vec![zero]);
    }

    fn word(&mut self, place: Value) -> Value {
        self.emit.op(Opcode::Calldataload, &[place])
    }

    /// A place that is below the limit, else no proof goes on.
    fn near(&mut self, place: Value) -> Value {
        if self.emit.func.ty(place).max_value() >= Word::from(LIMIT) {
            let last = self.emit.constant(LIMIT - 1);
            let is_far = self.emit.op(Opcode::Ult, &[last, place]);
            let [far, near] = self.emit.blocks();
            self.emit.brif(is_far, [far, near]);
            let pc = self.emit.pc;
            let trap = self.emit.func.create_inst(instruction(Opcode::Trap, Imm::Trap(TrapCode::Invalid), pc), &[]);
            self.emit.func.blocks[far].insts.push(trap);
            let exit = Unprovable { pc, opcode: Opcode::Calldataload, reason: Reason::CalldataLimit };
            self.unprovable.insert(far, exit);
            self.emit.block = near;
        }
        self.emit.place(place)
    }

    /// The word at a place that is not 4 modulo 32, from the two words that it lies in.
    fn elsewhere(&mut self, place: Value, size: Value, residue: Option<u32>) -> Value {
        // The first word is cut from the selector and the word behind it.
        if residue.is_some_and(|residue| residue > SELECTOR) {
            return self.two(place, size, residue);
        }
        let [first, other, done] = self.emit.blocks();
        let four = self.emit.constant(u64::from(SELECTOR));
        let is_first = self.emit.op(Opcode::Ult, &[place, four]);
        self.emit.brif(is_first, [first, other]);
        self.emit.block = first;
        let (zero, next) = (self.emit.constant(0u64), self.emit.constant(u64::from(WORD)));
        let (high, low) = (self.word(zero), self.word(next));
        let eight = self.emit.constant(8u64);
        let offset = self.emit.residue(place);
        let bits = self.emit.op(Opcode::Mul, &[offset, eight]);
        let loaded = self.joined(high, low, bits);
        self.emit.jump(done, vec![loaded]);
        self.emit.block = other;
        let loaded = self.two(place, size, residue);
        self.emit.jump(done, vec![loaded]);
        self.join(done)
    }

    /// The same for a place that is not below 4.
    fn two(&mut self, place: Value, size: Value, residue: Option<u32>) -> Value {
        let (offset, bits) = match residue {
            Some(residue) => {
                let offset = u64::from((residue + WORD - SELECTOR) % WORD);
                (self.emit.constant(offset), self.emit.constant(8 * offset))
            }
            None => {
                let four = self.emit.constant(u64::from(SELECTOR));
                let behind = self.emit.op(Opcode::Sub, &[place, four]);
                let offset = self.emit.residue(behind);
                let eight = self.emit.constant(8u64);
                (offset, self.emit.op(Opcode::Mul, &[offset, eight]))
            }
        };
        let start = self.emit.op(Opcode::Sub, &[place, offset]);
        let next = self.emit.beyond(start, WORD);
        let high = self.word(start);
        let [some, none, done] = self.emit.blocks();
        let is_inside = self.emit.op(Opcode::Ult, &[next, size]);
        self.emit.brif(is_inside, [some, none]);
        self.emit.block = some;
        let low = self.word(next);
        self.emit.jump(done, vec![low]);
        self.emit.block = none;
        self.zero(done);
        let low = self.join(done);
        self.joined(high, low, bits)
    }

    /// 256 bits from number `bits` of two words on.
    fn joined(&mut self, high: Value, low: Value, bits: Value) -> Value {
        let all = self.emit.constant(256u64);
        let rest = match self.emit.func.constant(bits) {
            Some(bits) => self.emit.constant(Word::from(256) - bits),
            None => self.emit.op(Opcode::Sub, &[all, bits]),
        };
        let high = self.emit.op(Opcode::Shl, &[bits, high]);
        let low = self.emit.op(Opcode::Shr, &[rest, low]);
        self.emit.op(Opcode::Or, &[high, low])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use zvm_ir::interp::{self, Call};
    use zvm_ir::{EmptyState, Env, Module};

    use super::*;

    /// Every place from before the selector's end to past the end of the data, with what is known of it and without.
    #[test]
    fn words_are_the_same_at_every_place() {
        let data: Vec<u8> = (1..=100).collect();
        for shift in [0u32, 5] {
            // Five bits are known where the place is a multiple of 32 and a constant.
            for rest in 0..32u32 {
                let text = format!(
                    "zvm 1\nentry @main\nfunc @main() {{\nblock0:\n v0: u1 = iconst 0\n v1: u256 = caller\n v2: u6 = iconst {shift}\n v3: \
                     u256 = shl v2, v1\n v4: u6 = iconst {rest}\n v5: u256 = wadd v3, v4\n v6: u256 = calldataload v5\n return_words 32, \
                     v6\n}}\n"
                )
                .replace("v1: u256 = caller", "v9: u160 = caller\n v1: u256 = zext v9");
                let module = zvm_ir::parse(&text).unwrap();
                let mut func = module.funcs.values().next().unwrap().clone();
                let mut unprovable = BTreeMap::new();
                lower(&mut func, &mut unprovable);
                super::super::prune::order(&mut func);
                assert_eq!(unprovable.len(), 1);
                let mut lowered = Module::new();
                lowered.entry = Some(lowered.funcs.push(func));
                assert_eq!(zvm_ir::verify(&lowered), Ok(()));
                for at in (0..=140u8).step_by(if shift == 0 { 7 } else { 1 }) {
                    let mut caller = [0; 20];
                    caller[19] = at;
                    let env = Env { caller, ..Env::default() };
                    let run = |module: &Module| interp::run(module, Call::new(&data, &env), &EmptyState).unwrap();
                    assert_eq!(run(&module), run(&lowered), "{at} << {shift} + {rest}");
                }
            }
        }
    }
}
