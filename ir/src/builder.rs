//! The cursor: appends instructions to a block, deriving result types from the table.

use crate::Word;
use crate::entities::{Block, Data, Func, Inst, Value};
use crate::function::{BlockCall, Function, Imm, InstData, Pc};
use crate::opcode::{ImmKind, Opcode, TrapCode, WidthError};
use crate::types::Type;

/// Appends instructions at the end of a block. Each gets the current `pc`.
#[derive(Debug)]
pub struct Cursor<'f> {
    /// The function being built.
    pub func: &'f mut Function,
    block: Block,
    pc: Option<Pc>,
}

impl<'f> Cursor<'f> {
    /// A cursor at the end of `block`.
    pub fn new(func: &'f mut Function, block: Block) -> Self {
        Self { func, block, pc: None }
    }

    /// The block that instructions are appended to.
    pub fn block(&self) -> Block {
        self.block
    }

    /// Goes to the end of another block.
    pub fn switch_to(&mut self, block: Block) {
        self.block = block;
    }

    /// Sets the position in the bytecode that the next instructions come from.
    pub fn set_pc(&mut self, pc: Option<Pc>) {
        self.pc = pc;
    }

    fn push(&mut self, opcode: Opcode, imm: Imm, args: &[Value], targets: Vec<BlockCall>, results: &[Type]) -> Inst {
        let data = InstData { opcode, imm, args: args.to_vec(), targets, results: Vec::new(), pc: self.pc };
        let inst = self.func.create_inst(data, results);
        self.func.blocks[self.block].insts.push(inst);
        inst
    }

    /// Appends an instruction whose width the operands decide, and gives its result.
    ///
    /// # Errors
    /// When the width rule cannot be applied, or the instruction has no result.
    /// What takes a number of bytes of its words takes all of them.
    pub fn ins(&mut self, opcode: Opcode, args: &[Value]) -> Result<Value, WidthError> {
        let types: Vec<_> = args.iter().map(|&value| self.func.ty(value)).collect();
        let ty = opcode.result_type(&types)?.ok_or(WidthError::Declared)?;
        let imm = match opcode.info().imm {
            ImmKind::Len => Imm::Len(32 * args.len() as u32),
            _ => Imm::None,
        };
        let inst = self.push(opcode, imm, args, Vec::new(), &[ty]);
        Ok(self.func.insts[inst].results[0])
    }

    /// Appends `keccak_words`: the hash of the first `len` bytes of `words`.
    pub fn keccak_words(&mut self, len: u32, words: &[Value]) -> Value {
        let inst = self.push(Opcode::KeccakWords, Imm::Len(len), words, Vec::new(), &[Type::WORD]);
        self.func.insts[inst].results[0]
    }

    /// Appends an instruction without result and without immediate: a store, a log, a halt.
    pub fn effect(&mut self, opcode: Opcode, args: &[Value]) -> Inst {
        self.push(opcode, Imm::None, args, Vec::new(), &[])
    }

    /// Appends an instruction without result that carries an immediate: `datacopy`, `return_words`.
    pub fn effect_imm(&mut self, opcode: Opcode, imm: Imm, args: &[Value]) -> Inst {
        self.push(opcode, imm, args, Vec::new(), &[])
    }

    /// Appends a constant of the given type; the type is widened if the constant does not fit.
    pub fn iconst(&mut self, ty: Type, value: Word) -> Value {
        let ty = ty.max(Type::of(&value));
        let inst = self.push(Opcode::Iconst, Imm::Word(value), &[], Vec::new(), &[ty]);
        self.func.insts[inst].results[0]
    }

    /// Appends a change of width (`zext`, `trunc` or `narrow`) to `ty`.
    pub fn convert(&mut self, opcode: Opcode, ty: Type, value: Value) -> Value {
        let inst = self.push(opcode, Imm::None, &[value], Vec::new(), &[ty]);
        self.func.insts[inst].results[0]
    }

    /// `value` in the wider type `ty`; `value` itself if it has that type already.
    pub fn zext(&mut self, ty: Type, value: Value) -> Value {
        if self.func.ty(value) == ty { value } else { self.convert(Opcode::Zext, ty, value) }
    }

    /// Appends `immutable`: the word that the constructor puts at a position of the code.
    pub fn immutable(&mut self, place: Pc) -> Value {
        let inst = self.push(Opcode::Immutable, Imm::Place(place), &[], Vec::new(), &[Type::WORD]);
        self.func.insts[inst].results[0]
    }

    /// Appends `bound`: `value`, from which on there is room for so many bytes below the limit of memory.
    pub fn bound(&mut self, room: u32, value: Value) -> Value {
        let inst = self.push(Opcode::Bound, Imm::Word(Word::from(room)), &[value], Vec::new(), &[Type::PLACE]);
        self.func.insts[inst].results[0]
    }

    /// Appends `datacopy`.
    pub fn datacopy(&mut self, data: Data, args: &[Value]) -> Inst {
        self.push(Opcode::Datacopy, Imm::Data(data), args, Vec::new(), &[])
    }

    /// Appends a call of a function with results of the given types.
    pub fn call(&mut self, callee: Func, args: &[Value], results: &[Type]) -> Vec<Value> {
        let inst = self.push(Opcode::Call, Imm::Func(callee), args, Vec::new(), results);
        self.func.insts[inst].results.clone()
    }

    /// Ends the block with a jump.
    pub fn jump(&mut self, block: Block, args: &[Value]) -> Inst {
        self.push(Opcode::Jump, Imm::None, &[], vec![BlockCall { block, args: args.to_vec() }], &[])
    }

    /// Ends the block with a branch on `condition`, a `u1`.
    pub fn brif(&mut self, condition: Value, then: BlockCall, otherwise: BlockCall) -> Inst {
        self.push(Opcode::Brif, Imm::None, &[condition], vec![then, otherwise], &[])
    }

    /// Ends the block with an exceptional halt.
    pub fn trap(&mut self, code: TrapCode) -> Inst {
        self.push(Opcode::Trap, Imm::Trap(code), &[], Vec::new(), &[])
    }
}
