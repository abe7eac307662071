//! Appending instructions to blocks.

use core::cmp::Ordering;

use zvm_ir::{Block, BlockCall, Function, Imm, Inst, InstData, Opcode, Pc, Type, Value, Word};

use super::exits::instruction;

/// Appends instructions to a block.
pub(super) struct Emit<'a> {
    pub(super) func: &'a mut Function,
    pub(super) block: Block,
    pub(super) pc: Option<Pc>,
}

impl Emit<'_> {
    fn append(&mut self, data: InstData, types: &[Type]) -> Inst {
        let inst = self.func.create_inst(data, types);
        self.func.blocks[self.block].insts.push(inst);
        inst
    }

    pub(super) fn constant(&mut self, word: impl TryInto<Word>) -> Value {
        let word: Word = word.try_into().unwrap_or_default();
        self.typed_constant(Type::of(&word), word)
    }

    pub(super) fn typed_constant(&mut self, ty: Type, word: Word) -> Value {
        super::exits::constant(self.func, self.block, self.pc, ty, word)
    }

    /// An instruction whose operands say what type its result has: the caller sees to it that they do.
    pub(super) fn op(&mut self, opcode: Opcode, args: &[Value]) -> Value {
        let types: Vec<Type> = args.iter().map(|&value| self.func.ty(value)).collect();
        let ty = opcode.result_type(&types).ok().flatten().unwrap_or(Type::WORD);
        self.typed(opcode, args, ty)
    }

    /// An instruction with a result of type `ty`.
    pub(super) fn typed(&mut self, opcode: Opcode, args: &[Value], ty: Type) -> Value {
        let data = InstData { args: args.to_vec(), ..instruction(opcode, Imm::None, self.pc) };
        let inst = self.append(data, &[ty]);
        self.func.insts[inst].results[0]
    }

    /// `value`, which fits, in the type of places in memory.
    pub(super) fn place(&mut self, value: Value) -> Value {
        match self.func.ty(value).cmp(&Type::PLACE) {
            Ordering::Less => self.typed(Opcode::Zext, &[value], Type::PLACE),
            Ordering::Equal => value,
            Ordering::Greater => self.typed(Opcode::Narrow, &[value], Type::PLACE),
        }
    }

    /// `value` as a word.
    pub(super) fn word(&mut self, value: Value) -> Value {
        if self.func.ty(value) == Type::WORD { value } else { self.typed(Opcode::Zext, &[value], Type::WORD) }
    }

    /// The sum of `value`, a place, and a number, which is a place, or at most some words beyond the last one.
    pub(super) fn beyond(&mut self, value: Value, distance: u32) -> Value {
        if distance == 0 {
            return value;
        }
        let distance = self.constant(u64::from(distance));
        let sum = self.op(Opcode::Add, &[value, distance]);
        // A step at a time, types would grow by a bit where the place does not.
        match Type::new(Type::PLACE.bits() + 1) {
            Some(widest) if self.func.ty(sum) > widest => self.typed(Opcode::Narrow, &[sum], widest),
            _ => sum,
        }
    }

    /// An instruction with an immediate; its result, if it has one, of type `ty`.
    pub(super) fn immediate(&mut self, opcode: Opcode, imm: Imm, args: &[Value], ty: Option<Type>) -> Option<Value> {
        let data = InstData { args: args.to_vec(), ..instruction(opcode, imm, self.pc) };
        let inst = self.append(data, ty.as_slice());
        self.func.insts[inst].result()
    }

    /// An instruction without a result.
    pub(super) fn effect(&mut self, opcode: Opcode, args: &[Value]) {
        self.append(InstData { args: args.to_vec(), ..instruction(opcode, Imm::None, self.pc) }, &[]);
    }

    pub(super) fn jump(&mut self, block: Block, args: Vec<Value>) {
        let targets = vec![BlockCall { block, args }];
        self.append(InstData { targets, ..instruction(Opcode::Jump, Imm::None, self.pc) }, &[]);
    }

    pub(super) fn brif(&mut self, flag: Value, targets: [Block; 2]) {
        let targets = targets.map(|block| BlockCall { block, args: Vec::new() }).to_vec();
        self.append(InstData { args: vec![flag], targets, ..instruction(Opcode::Brif, Imm::None, self.pc) }, &[]);
    }

    /// New blocks, which nothing goes to yet.
    pub(super) fn blocks<const N: usize>(&mut self) -> [Block; N] {
        core::array::from_fn(|_| self.func.create_block())
    }

    /// `value` modulo 32.
    pub(super) fn residue(&mut self, value: Value) -> Value {
        let mask = self.constant(31u64);
        self.op(Opcode::And, &[value, mask])
    }

    /// Ends the block with a branch on whether `place` is `residue` modulo 32: the block where it is, where it is not, and where both
    /// are to meet.
    pub(super) fn fork(&mut self, place: Value, residue: u32) -> [Block; 3] {
        let offset = self.residue(place);
        let wanted = self.constant(u64::from(residue));
        let is_aligned = self.op(Opcode::Eq, &[offset, wanted]);
        let blocks = self.blocks();
        self.brif(is_aligned, [blocks[0], blocks[1]]);
        blocks
    }
}
