//! The data of a module: functions, blocks, instructions, values.
//!
//! A function's blocks are kept in `layout`, the first being its entry; a block that is not in the layout does not
//! exist. Values and instructions are never removed from their maps, only from the blocks: [`Module::compact`] renumbers
//! what is left in the order of the text form.

use cranelift_entity::{PrimaryMap, SecondaryMap};

use crate::Word;
use crate::entities::{Block, Data, Func, Inst, Value};
use crate::opcode::{Opcode, TrapCode};
use crate::types::Type;
use crate::work::look;

/// The words that the EVM's stack holds.
pub const STACK_LIMIT: u32 = 1024;

/// The words of the EVM's stack that an activation of a function uses, with all that it calls which says nothing itself: lifted functions of a
/// recursion do, and the program's entry for what is outside.
///
/// An execution in which what is below all active functions together, and the peak of the last of them, are more than [`STACK_LIMIT`], has no
/// outcome: on the EVM it may overflow the stack, which traps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackUse {
    /// At most so many are below the arguments of what it calls.
    pub below: u32,
    /// At most so many are there at once, but for those of what says so itself.
    pub peak: u32,
}

impl StackUse {
    /// Whether nothing is said.
    pub fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// A position in the bytecode that was lifted, in bytes from its start.
pub type Pc = u32;

/// The immediate of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Imm {
    /// None.
    None,
    /// A constant.
    Word(Word),
    /// A data segment.
    Data(Data),
    /// A function.
    Func(Func),
    /// A length in bytes.
    Len(u32),
    /// A position in the original bytecode that the constructor fills in.
    Place(u32),
    /// A reason to trap.
    Trap(TrapCode),
}

/// A block with the arguments for its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlockCall {
    /// Where to go.
    pub block: Block,
    /// One value per parameter of the block, of the same type.
    pub args: Vec<Value>,
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstData {
    /// Its row in the table.
    pub opcode: Opcode,
    /// Its immediate.
    pub imm: Imm,
    /// Its operands.
    pub args: Vec<Value>,
    /// The blocks a terminator goes to.
    pub targets: Vec<BlockCall>,
    /// The values it defines (more than one only for `call`).
    pub results: Vec<Value>,
    /// The bytecode instruction it came from.
    pub pc: Option<Pc>,
}

impl InstData {
    /// The only result.
    pub fn result(&self) -> Option<Value> {
        self.results.first().copied()
    }

    /// The operands of `log` and `log_words` that are topics. `None` for other instructions, and where operands are
    /// missing.
    pub fn topics(&self) -> Option<&[Value]> {
        match (self.opcode, self.imm) {
            (Opcode::Log, _) => self.args.get(2..),
            (Opcode::LogWords, Imm::Len(len)) => {
                let count = self.args.len().checked_sub((len as usize).div_ceil(32))?;
                self.args.get(..count)
            }
            _ => None,
        }
    }

    /// Every value read: operands, then the arguments of each target.
    pub fn uses(&self) -> impl Iterator<Item = Value> + '_ {
        let used = self.args.iter().chain(self.targets.iter().flat_map(|target| &target.args)).copied();
        used.inspect(|_| look(1))
    }

    /// Rewrites every value read.
    pub fn map_uses(&mut self, mut map: impl FnMut(Value) -> Value) {
        for value in self.args.iter_mut().chain(self.targets.iter_mut().flat_map(|target| &mut target.args)) {
            look(1);
            *value = map(*value);
        }
    }
}

/// Where a value is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueDef {
    /// Parameter number `.1` of a block.
    Param(Block, usize),
    /// Result number `.1` of an instruction.
    Result(Inst, usize),
}

/// A value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueData {
    /// Its width.
    pub ty: Type,
    /// Where it is defined.
    pub def: ValueDef,
}

/// A basic block: parameters, then instructions, the last of which is a terminator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockData {
    /// Its parameters.
    pub params: Vec<Value>,
    /// Its instructions in order.
    pub insts: Vec<Inst>,
}

/// A function: parameters are those of its entry block.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Its name, unique in the module: letters, digits, `_`, `.` and `$`.
    pub name: String,
    /// The types of what `ret` returns.
    pub results: Vec<Type>,
    /// The words of the EVM's stack that it uses; zero in modules without recursion, and those that were not lifted.
    pub stack: StackUse,
    /// The blocks, those outside the layout included.
    pub blocks: PrimaryMap<Block, BlockData>,
    /// The instructions, those outside any block included.
    pub insts: PrimaryMap<Inst, InstData>,
    /// The values, those that nothing defines any more included.
    pub values: PrimaryMap<Value, ValueData>,
    /// The blocks that exist, in order; the first is the entry.
    pub layout: Vec<Block>,
}

impl Function {
    /// A function without blocks.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// The first block. `None` only while the function is being built.
    pub fn entry(&self) -> Option<Block> {
        self.layout.first().copied()
    }

    /// Appends an empty block to the layout.
    pub fn create_block(&mut self) -> Block {
        let block = self.blocks.push(BlockData::default());
        self.layout.push(block);
        block
    }

    /// Appends a parameter to a block. Every branch to the block must be given one more argument.
    pub fn append_param(&mut self, block: Block, ty: Type) -> Value {
        let at = self.blocks[block].params.len();
        let value = self.values.push(ValueData { ty, def: ValueDef::Param(block, at) });
        self.blocks[block].params.push(value);
        value
    }

    /// Makes an instruction with results of the given types, in no block yet.
    pub fn create_inst(&mut self, mut data: InstData, results: &[Type]) -> Inst {
        let inst = self.insts.next_key();
        data.results = results
            .iter()
            .enumerate()
            .map(|(at, &ty)| self.values.push(ValueData { ty, def: ValueDef::Result(inst, at) }))
            .collect();
        self.insts.push(data)
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> Type {
        look(1);
        self.values[value].ty
    }

    /// The types of the function's parameters.
    pub fn param_types(&self) -> Vec<Type> {
        self.entry().map_or_else(Vec::new, |entry| self.blocks[entry].params.iter().map(|&v| self.ty(v)).collect())
    }

    /// The instruction that ends `block`, if it has one.
    pub fn terminator(&self, block: Block) -> Option<Inst> {
        look(1);
        self.blocks[block].insts.last().copied().filter(|&inst| self.insts[inst].opcode.is_terminator())
    }

    /// The targets of the block's terminator.
    pub fn targets(&self, block: Block) -> &[BlockCall] {
        self.terminator(block).map_or(&[], |inst| &self.insts[inst].targets)
    }

    /// The instruction that defines `value`, unless it is a block parameter.
    pub fn def_inst(&self, value: Value) -> Option<Inst> {
        look(1);
        match self.values[value].def {
            ValueDef::Result(inst, _) => Some(inst),
            ValueDef::Param(..) => None,
        }
    }

    /// The constant that `value` is, if an `iconst` (through `zext`, `narrow` and `bound`) defines it.
    pub fn constant(&self, value: Value) -> Option<Word> {
        let mut value = value;
        loop {
            let data = &self.insts[self.def_inst(value)?];
            match (data.opcode, data.imm) {
                (Opcode::Iconst, Imm::Word(word)) => return Some(word),
                (Opcode::Zext | Opcode::Narrow | Opcode::Bound, _) => value = *data.args.first()?,
                _ => return None,
            }
        }
    }

    /// Every instruction in a block of the layout, in order, with its block.
    pub fn insts_in_order(&self) -> impl Iterator<Item = (Block, Inst)> + '_ {
        let all = self.layout.iter().flat_map(|&block| self.blocks[block].insts.iter().map(move |&inst| (block, inst)));
        all.inspect(|_| look(1))
    }

    /// Rewrites every use of every value. `map` is applied once, not repeatedly.
    pub fn map_uses(&mut self, mut map: impl FnMut(Value) -> Value) {
        let Self { layout, blocks, insts, .. } = self;
        for &block in layout.iter() {
            for &inst in &blocks[block].insts {
                insts[inst].map_uses(&mut map);
            }
        }
    }

    /// Removes the parameters for which `keep` is false, and the arguments every branch gives for them.
    pub fn retain_params(&mut self, mut keep: impl FnMut(Block, usize) -> bool) {
        let kept: SecondaryMap<Block, Vec<bool>> = {
            let mut map = SecondaryMap::new();
            for &block in &self.layout {
                map[block] = (0..self.blocks[block].params.len()).map(|at| keep(block, at)).collect();
            }
            map
        };
        let Self { layout, blocks, insts, values, .. } = self;
        for &block in layout.iter() {
            retain(&mut blocks[block].params, &kept[block]);
            for (at, &param) in blocks[block].params.iter().enumerate() {
                values[param].def = ValueDef::Param(block, at);
            }
            for &inst in &blocks[block].insts {
                for target in &mut insts[inst].targets {
                    retain(&mut target.args, &kept[target.block]);
                }
            }
        }
    }

    /// The same function, its entities numbered in the order of the text form and nothing else kept.
    pub fn compact(&self) -> Self {
        let mut out = Self::new(self.name.clone());
        out.results.clone_from(&self.results);
        out.stack = self.stack;
        let mut block_map: SecondaryMap<Block, Option<Block>> = SecondaryMap::new();
        let mut value_map: SecondaryMap<Value, Option<Value>> = SecondaryMap::new();
        for &block in &self.layout {
            block_map[block] = Some(out.create_block());
        }
        for &block in &self.layout {
            let Some(new_block) = block_map[block] else { continue };
            for &param in &self.blocks[block].params {
                value_map[param] = Some(out.append_param(new_block, self.ty(param)));
            }
            for &inst in &self.blocks[block].insts {
                let data = &self.insts[inst];
                let types: Vec<_> = data.results.iter().map(|&value| self.ty(value)).collect();
                let new_inst = out.create_inst(data.clone(), &types);
                for (&old, &new) in data.results.iter().zip(&out.insts[new_inst].results) {
                    value_map[old] = Some(new);
                }
                out.blocks[new_block].insts.push(new_inst);
            }
        }
        // A use without a definition (malformed input, which the verifier reports) keeps its old number.
        for data in out.insts.values_mut() {
            data.map_uses(|value| value_map[value].unwrap_or(value));
            for target in &mut data.targets {
                target.block = block_map[target.block].unwrap_or(target.block);
            }
        }
        out
    }
}

fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut flags = keep.iter();
    items.retain(|_| flags.next().copied().unwrap_or(true));
}

/// A compiled program: functions, one of which is the entry, and constant data.
#[derive(Clone, Debug, Default)]
pub struct Module {
    /// The functions.
    pub funcs: PrimaryMap<Func, Function>,
    /// Where execution starts: a function without parameters and results.
    pub entry: Option<Func>,
    /// The data segments.
    pub data: PrimaryMap<Data, Vec<u8>>,
}

impl Module {
    /// A module without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same module with every function compacted.
    pub fn compact(&self) -> Self {
        let mut out = self.clone();
        for function in out.funcs.values_mut() {
            *function = function.compact();
        }
        out
    }

    /// Whether some instruction of a function reads the size of memory, so that reads of memory can be seen.
    pub fn observes_msize(&self) -> bool {
        self.funcs
            .values()
            .any(|function| function.insts_in_order().any(|(_, inst)| function.insts[inst].opcode == Opcode::Msize))
    }
}

/// Equality up to the numbering of blocks, instructions and values.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.compact(), other.compact());
        a.name == b.name
            && a.results == b.results
            && a.stack == b.stack
            && a.blocks == b.blocks
            && a.insts == b.insts
            && a.values == b.values
            && a.layout == b.layout
    }
}

impl Eq for Function {}

impl PartialEq for Module {
    fn eq(&self, other: &Self) -> bool {
        self.entry == other.entry && self.data == other.data && self.funcs == other.funcs
    }
}

impl Eq for Module {}
