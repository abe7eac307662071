//! `exits`: every halt becomes a jump to one halt block, every unprovable instruction an unprovable block.

use std::collections::BTreeMap;

use zvm_ir::{Block, BlockCall, Function, Halt, Imm, Inst, InstData, Opcode, Pc, TrapCode, Type, Value, Word};

use super::memory;
use super::places::Places;
use super::support::{Reason, Support, Unprovable, support};
use super::{MAX_CALLDATA, MAX_HASH_WORDS};
use crate::digest::{BLOCK_WORDS, inline_words};

/// Blocks that no proof may reach, with the instruction that is to blame.
pub(super) type UnprovableBlocks = BTreeMap<Block, Unprovable>;

/// Whether writes to memory that have no circuit matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writes {
    /// They will be dropped if nothing sees them.
    Unseen,
    /// Something sees those that are left.
    Seen,
}

/// Empties each block that runs into an instruction without a circuit; what came before it in the block has no effect.
pub(super) fn cut_unprovable(func: &mut Function, found: &mut UnprovableBlocks, writes: Writes) {
    let places = Places::new(func);
    for &block in &func.layout {
        if found.contains_key(&block) {
            continue;
        }
        let culprit = func.blocks[block].insts.iter().find_map(|&inst| {
            let data = &func.insts[inst];
            let reason = places.refused(inst).or_else(|| reason(func, data, writes))?;
            Some(Unprovable { pc: data.pc, opcode: data.opcode, reason })
        });
        if let Some(culprit) = culprit {
            found.insert(block, culprit);
        }
    }
    // A block that can only continue into one unprovable exit is that exit. Blocks are in reverse post-order, so one
    // backward sweep carries an exit through chains of jumps.
    for &block in func.layout.iter().rev() {
        if found.contains_key(&block) {
            continue;
        }
        let mut exits = func.targets(block).iter().map(|target| found.get(&target.block));
        if let Some(Some(first)) = exits.next().map(|exit| exit.copied())
            && exits.all(|exit| exit == Some(&first))
        {
            found.insert(block, first);
        }
    }
    for (&block, exit) in found.iter() {
        let placeholder = func.create_inst(instruction(Opcode::Trap, Imm::Trap(TrapCode::Invalid), exit.pc), &[]);
        func.blocks[block].insts = vec![placeholder];
    }
}

fn reason(func: &Function, data: &InstData, writes: Writes) -> Option<Reason> {
    let constant = |at: usize| data.args.get(at).and_then(|&value| func.constant(value));
    match support(data.opcode) {
        Support::Unprovable(_) if data.opcode == Opcode::Call && data.imm == Imm::None => Some(Reason::Recursion),
        Support::Unprovable(reason) => Some(reason),
        Support::Input if data.opcode == Opcode::Calldataload => match constant(0) {
            Some(offset) if offset > Word::from(MAX_CALLDATA - 32) => Some(Reason::CalldataRange),
            _ => None,
        },
        Support::Gadget if data.opcode == Opcode::KeccakWords => {
            (data.args.len() > MAX_HASH_WORDS).then_some(Reason::HashSize)
        }
        Support::Take => memory::taken(func, data).is_none().then_some(Reason::HashSize),
        Support::Write => match data.opcode {
            Opcode::Mstore8 => None,
            _ => (writes == Writes::Seen).then_some(Reason::Copy),
        },
        Support::Access => match data.opcode {
            Opcode::Tload | Opcode::Tstore => constant(0).is_none().then_some(Reason::Transient),
            _ => None,
        },
        Support::Gadget
        | Support::Input
        | Support::Lookup
        | Support::Log
        | Support::Note
        | Support::Empty
        | Support::Control => None,
    }
}

/// How many bytes of data a halt has.
#[derive(Clone, Copy)]
enum Length {
    Constant(u32),
    Computed(Value),
}

struct Exit {
    block: Block,
    inst: Inst,
    halt: Halt,
    len: Length,
    words: Vec<Value>,
}

/// Turns the halts of all provable blocks into jumps to a new halt block, whose parameters are the halt's code, the
/// length of the data in bytes, and the data's first words; words past the length are zero. Further words are noted. `None` if nothing
/// halts.
pub(super) fn merge_halts(func: &mut Function, unprovable: &UnprovableBlocks) -> Option<Block> {
    let mut exits = Vec::new();
    for &block in func.layout.iter().filter(|block| !unprovable.contains_key(block)) {
        let Some(inst) = func.terminator(block) else { continue };
        let data = &func.insts[inst];
        let computed = || match data.args.as_slice() {
            &[_, len, ref words @ ..] if !words.is_empty() => (Length::Computed(len), words.to_vec()),
            _ => (Length::Constant(0), Vec::new()),
        };
        let (halt, (len, words)) = match (data.opcode, data.imm) {
            (Opcode::Stop, _) => (Halt::Return, (Length::Constant(0), Vec::new())),
            (Opcode::Trap, _) => (Halt::Trap, (Length::Constant(0), Vec::new())),
            (Opcode::Return, _) => (Halt::Return, computed()),
            (Opcode::Revert, _) => (Halt::Revert, computed()),
            (Opcode::ReturnWords, Imm::Len(len)) => (Halt::Return, (Length::Constant(len), data.args.clone())),
            (Opcode::RevertWords, Imm::Len(len)) => (Halt::Revert, (Length::Constant(len), data.args.clone())),
            _ => continue,
        };
        exits.push(Exit { block, inst, halt, len, words });
    }
    if exits.is_empty() {
        return None;
    }
    for exit in &mut exits {
        if let Length::Constant(len) = exit.len {
            exit.words.truncate(len.div_ceil(32) as usize);
            mask_tail(func, exit, len);
            note_further(func, exit);
        }
    }
    let words = exits.iter().map(|exit| exit.words.len()).max().unwrap_or(0);
    let len_type = |exit: &Exit| match exit.len {
        Length::Constant(len) => Type::of(&Word::from(len)),
        Length::Computed(len) => widened_from(func, len),
    };
    let len_type = exits.iter().map(len_type).max().unwrap_or(Type::BOOL);
    let word_types: Vec<Type> = (0..words)
        .map(|at| {
            let types = exits.iter().filter_map(|exit| exit.words.get(at).map(|&value| widened_from(func, value)));
            types.max().unwrap_or(Type::BOOL)
        })
        .collect();
    let halt_block = func.create_block();
    let code_type = Type::of(&Word::from(Halt::Trap.code()));
    for &ty in [code_type, len_type].iter().chain(&word_types) {
        func.append_param(halt_block, ty);
    }
    let stop = func.create_inst(instruction(Opcode::Stop, Imm::None, None), &[]);
    func.blocks[halt_block].insts.push(stop);
    for exit in exits {
        let pc = func.insts[exit.inst].pc;
        func.blocks[exit.block].insts.pop();
        let code = constant(func, exit.block, pc, code_type, Word::from(exit.halt.code()));
        let len = match exit.len {
            Length::Constant(len) => constant(func, exit.block, pc, len_type, Word::from(len)),
            Length::Computed(len) => in_type(func, exit.block, pc, len_type, len),
        };
        let mut args = vec![code, len];
        for (at, &ty) in word_types.iter().enumerate() {
            args.push(match exit.words.get(at) {
                None => constant(func, exit.block, pc, ty, Word::ZERO),
                Some(&value) => in_type(func, exit.block, pc, ty, value),
            });
        }
        let mut jump = instruction(Opcode::Jump, Imm::None, pc);
        jump.targets = vec![BlockCall { block: halt_block, args }];
        let jump = func.create_inst(jump, &[]);
        func.blocks[exit.block].insts.push(jump);
    }
    Some(halt_block)
}

/// Notes the words that do not fit into the first block of an outcome, three at a time, the last first.
fn note_further(func: &mut Function, exit: &mut Exit) {
    let further = exit.words.split_off(exit.words.len().min(inline_words(0)));
    let pc = func.insts[exit.inst].pc;
    let Some(end) = func.blocks[exit.block].insts.pop() else { return };
    for words in further.chunks(BLOCK_WORDS).rev() {
        let note = InstData { args: words.to_vec(), ..instruction(Opcode::Note, Imm::None, pc) };
        let note = func.create_inst(note, &[]);
        func.blocks[exit.block].insts.push(note);
    }
    func.blocks[exit.block].insts.push(end);
}

/// Clears the bytes of the last word that lie past the length `len`.
fn mask_tail(func: &mut Function, exit: &mut Exit, len: u32) {
    let used = len % 32;
    let Some(last) = exit.words.last_mut().filter(|_| used != 0) else { return };
    let mask = Word::MAX << (8 * (32 - used) as usize);
    let pc = func.insts[exit.inst].pc;
    let end = func.blocks[exit.block].insts.pop();
    *last = match func.constant(*last) {
        Some(word) => constant(func, exit.block, pc, Type::WORD, word & mask),
        None => {
            let word = in_type(func, exit.block, pc, Type::WORD, *last);
            let mask = constant(func, exit.block, pc, Type::WORD, mask);
            let mut and = instruction(Opcode::And, Imm::None, pc);
            and.args = vec![word, mask];
            append(func, exit.block, and, Type::WORD)
        }
    };
    func.blocks[exit.block].insts.extend(end);
}

/// The type of the value that `value` widens, or of the constant it is.
fn widened_from(func: &Function, value: Value) -> Type {
    if let Some(word) = func.constant(value) {
        return Type::of(&word);
    }
    let mut value = value;
    while let Some(inst) = func.def_inst(value).filter(|&inst| func.insts[inst].opcode == Opcode::Zext) {
        value = func.insts[inst].args[0];
    }
    func.ty(value)
}

/// `value` in type `ty`, which holds it.
fn in_type(func: &mut Function, block: Block, pc: Option<Pc>, ty: Type, value: Value) -> Value {
    if let Some(word) = func.constant(value) {
        return constant(func, block, pc, ty, word);
    }
    let mut value = value;
    while let Some(inst) = func.def_inst(value).filter(|&inst| func.insts[inst].opcode == Opcode::Zext) {
        value = func.insts[inst].args[0];
    }
    if func.ty(value) == ty {
        return value;
    }
    let mut zext = instruction(Opcode::Zext, Imm::None, pc);
    zext.args = vec![value];
    append(func, block, zext, ty)
}

/// Appends a constant to `block`.
pub(super) fn constant(func: &mut Function, block: Block, pc: Option<Pc>, ty: Type, word: Word) -> Value {
    append(func, block, instruction(Opcode::Iconst, Imm::Word(word), pc), ty)
}

fn append(func: &mut Function, block: Block, data: InstData, ty: Type) -> Value {
    let inst = func.create_inst(data, &[ty]);
    func.blocks[block].insts.push(inst);
    func.insts[inst].results[0]
}

/// An instruction without operands.
pub(super) fn instruction(opcode: Opcode, imm: Imm, pc: Option<Pc>) -> InstData {
    InstData { opcode, imm, args: Vec::new(), targets: Vec::new(), results: Vec::new(), pc }
}
