//! Creation code anew: the constructor of a contract, compiled to deploy the lowered runtime code.
//!
//! The data of a transaction that creates a contract is the creation code with the constructor's arguments behind it. That is
//! what a lifted constructor has as calldata (`LiftOptions::creation`), so the IR reads the arguments behind the old code.
//! They lie behind the new code instead, at a distance known once that code is emitted: it is emitted again until the
//! distance that it assumes is its own. A place that is computed from the arguments, as that of a string, must lie behind the
//! code: where it does not, or is 2^255 bytes away, which no encoder writes, the original would read its own code (or zeros),
//! and the new code traps.
//!
//! A constructor ends by copying the runtime code to memory, putting immutables into it, and returning it. Each return must
//! be of that form, seen in one block; it then returns the lowered runtime code, with the same words at the places where
//! that code has its immutables. What the constructor does before stays as it is.

use std::collections::BTreeMap;

use zvm_backend_evm::{Lowered, Optimize, Options, lower};
use zvm_frontend::{LiftOptions, lift};
use zvm_ir::passes::{self, Goal};
use zvm_ir::{Block, BlockCall, Data, Function, Imm, Inst, InstData, Module, Opcode, Pc, TrapCode, Type, Value, Word};

use crate::error::Error;
use crate::input::Contract;

/// How often the creation code is emitted before it is padded with zeros to the length that it assumes.
const ROUNDS: usize = 6;

/// Why a constructor cannot be compiled anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreationError {
    /// A return is not seen to return the runtime code.
    #[error("a return of the constructor is not seen to return the runtime code{}", at(*.pc))]
    Return {
        /// The return.
        pc: Option<Pc>,
    },
    /// Nothing returns code.
    #[error("the constructor never returns")]
    NoReturn,
    /// The constructor reads a part of its own code that is not known, or together with its arguments.
    #[error("the constructor reads its own code at a place that is not known{}", at(*.pc))]
    OwnCode {
        /// The read.
        pc: Option<Pc>,
    },
}

impl CreationError {
    /// Where in the creation code the reason is.
    pub const fn pc(&self) -> Option<Pc> {
        match *self {
            Self::Return { pc } | Self::OwnCode { pc } => pc,
            Self::NoReturn => None,
        }
    }
}

fn at(pc: Option<Pc>) -> String {
    pc.map(|pc| format!(" (creation code, pc {pc:#06x})")).unwrap_or_default()
}

/// The creation code of `contract` that deploys `runtime`; `None` if the contract has no creation code.
///
/// # Errors
/// When the constructor is outside the subset, or [`CreationError`].
pub fn creation(contract: &Contract, runtime: &Lowered, options: &Options) -> Result<Option<Lowered>, Error> {
    let Some(old) = &contract.creation else { return Ok(None) };
    crate::program::check_creation_size(old)?;
    let mut module = lift(old, &LiftOptions { creation: true, ..LiftOptions::default() })?.module;
    deploy_instead(&mut module, old, &contract.runtime, runtime)?;
    copy_known_code(&mut module, old);
    let gas = options.fork.costs();
    passes::optimize(&mut module, &passes::Options { goal: Goal::Evm, gas, ..passes::Options::default() })?;
    // What is known only now.
    copy_known_code(&mut module, old);
    // It runs once: its bytes cost more than its gas.
    let optimize = if options.optimize == Optimize::None { Optimize::None } else { Optimize::Size };
    let options = Options { optimize, creation: true, ..*options };
    let old_len = old.len() as u64;
    let mut assumed = (old_len + runtime.code.len() as u64).saturating_sub(contract.runtime.len() as u64);
    let mut round = 0;
    loop {
        let mut moved = module.clone();
        move_arguments(&mut moved, old_len, assumed)?;
        let mut lowered = lower(&moved, &options)?;
        let len = lowered.code.len() as u64;
        round += 1;
        if len == assumed || (len < assumed && round > ROUNDS) {
            lowered.append(&vec![0; (assumed - len) as usize]);
            return Ok(Some(lowered));
        }
        // Once it only grows, it is at most as long as assumed in the end.
        assumed = if round > ROUNDS { assumed.max(len) + 1 } else { len };
    }
}

/// How deep expressions of constants are computed.
const DEPTH: u32 = 8;

/// The constant that a value is.
fn constant(function: &Function, value: Value, depth: u32) -> Option<Word> {
    let data = &function.insts[function.def_inst(value)?];
    if let (Opcode::Iconst, Imm::Word(word)) = (data.opcode, data.imm) {
        return Some(word);
    }
    if depth == 0 || !data.opcode.is_pure() || data.opcode == Opcode::KeccakWords {
        return None;
    }
    let args: Option<Vec<Word>> = data.args.iter().map(|&arg| constant(function, arg, depth - 1)).collect();
    zvm_ir::eval(data.opcode, data.imm, &args?, Some(function.ty(value))).ok()
}

/// A value as a constant distance from another, or from nothing.
fn distance(function: &Function, mut value: Value) -> (Option<Value>, Word) {
    let mut sum = Word::ZERO;
    loop {
        if let Some(word) = constant(function, value, DEPTH) {
            return (None, sum.wrapping_add(word));
        }
        let Some(inst) = function.def_inst(value) else { return (Some(value), sum) };
        let data = &function.insts[inst];
        match (data.opcode, data.args.as_slice()) {
            (Opcode::Zext | Opcode::Narrow, &[a]) => value = a,
            (Opcode::Add | Opcode::Wadd, &[a, b]) => match (function.constant(a), function.constant(b)) {
                (Some(word), _) => (value, sum) = (b, sum.wrapping_add(word)),
                (None, Some(word)) => (value, sum) = (a, sum.wrapping_add(word)),
                (None, None) => return (Some(value), sum),
            },
            _ => return (Some(value), sum),
        }
    }
}

/// The known bytes of its own code that an instruction copies to memory.
fn copied<'a>(function: &Function, data: &InstData, old: &'a [u8]) -> Option<&'a [u8]> {
    let (Opcode::Calldatacopy, &[_, from, len]) = (data.opcode, data.args.as_slice()) else { return None };
    let small = |value| match distance(function, value) {
        (None, word) => usize::try_from(word).ok(),
        (Some(_), _) => None,
    };
    let (from, len) = (small(from)?, small(len)?);
    old.get(from..from.checked_add(len)?)
}

/// What an instruction copies to memory of its own code that copies as many bytes as all of it has, from a known place on: the rest of the code,
/// and what is behind it.
fn copied_to_the_end<'a>(function: &Function, data: &InstData, old: &'a [u8]) -> Option<&'a [u8]> {
    let (Opcode::Calldatacopy, &[_, from, len]) = (data.opcode, data.args.as_slice()) else { return None };
    let (Some(size), Word::ZERO) = distance(function, len) else { return None };
    let is_whole = function.insts[function.def_inst(size)?].opcode == Opcode::Calldatasize;
    let (None, from) = distance(function, from) else { return None };
    old.get(usize::try_from(from).ok().filter(|_| is_whole)?..)
}

/// Makes every return one of the new runtime code.
fn deploy_instead(module: &mut Module, old: &[u8], old_runtime: &[u8], runtime: &Lowered) -> Result<(), Error> {
    let returns: Vec<(zvm_ir::Func, Block)> = module
        .funcs
        .iter()
        .flat_map(|(func, function)| {
            let returns = |&block: &Block| {
                let last = function.terminator(block);
                last.is_some_and(|inst| function.insts[inst].opcode == Opcode::Return)
            };
            function.layout.iter().copied().filter(returns).map(move |block| (func, block)).collect::<Vec<_>>()
        })
        .collect();
    if returns.is_empty() {
        return Err(CreationError::NoReturn.into());
    }
    let segment = module.data.push(runtime.code.clone());
    for (func, block) in returns {
        let function = &mut module.funcs[func];
        let pc = function.terminator(block).and_then(|inst| function.insts[inst].pc);
        let returned = returned(function, block, old, old_runtime).ok_or(CreationError::Return { pc })?;
        return_new(function, block, segment, old_runtime, runtime, &returned.filled);
        function.blocks[block].insts.retain(|inst| !returned.unread.contains(inst));
    }
    Ok(())
}

/// How a block returns the runtime code.
struct Returned {
    /// The words that it writes into the code, by their places.
    filled: BTreeMap<u64, Value>,
    /// The instructions that put the code into memory, if only the return can read it there.
    unread: Vec<Inst>,
}

/// If a block copies the runtime code to memory, writes words into it and returns it: how.
fn returned(function: &Function, block: Block, old: &[u8], runtime: &[u8]) -> Option<Returned> {
    let (&last, insts) = function.blocks[block].insts.split_last()?;
    let &[start, len] = function.insts[last].args.as_slice() else { return None };
    if distance(function, len) != (None, Word::from(runtime.len())) {
        return None;
    }
    let start = distance(function, start);
    let is_copy = |&inst: &Inst| {
        let data = &function.insts[inst];
        let bytes =
            copied(function, data, old).or_else(|| copied_to_the_end(function, data, old)?.get(..runtime.len()));
        bytes == Some(runtime) && distance(function, data.args[0]) == start
    };
    let copy = insts.iter().rposition(is_copy)?;
    let mut filled = BTreeMap::new();
    let mut unread = vec![insts[copy]];
    let mut is_read = false;
    for &inst in &insts[copy + 1..] {
        let data = &function.insts[inst];
        let effects = data.opcode.effects();
        is_read |= effects.has(zvm_ir::Effects::READS_MEMORY);
        if !effects.has(zvm_ir::Effects::WRITES_MEMORY) && !effects.has(zvm_ir::Effects::CALLS) {
            continue;
        }
        let (Opcode::Mstore, &[to, word]) = (data.opcode, data.args.as_slice()) else { return None };
        let (base, offset) = distance(function, to);
        // Whole words within the code; nothing else is written until it is returned.
        let place = u64::try_from(offset.wrapping_sub(start.1)).ok().filter(|_| base == start.0)?;
        if place.checked_add(32)? > runtime.len() as u64 {
            return None;
        }
        filled.insert(place, word);
        unread.push(inst);
    }
    if is_read {
        unread.clear();
    }
    let apart = filled.keys().zip(filled.keys().skip(1)).all(|(a, b)| b - a >= 32);
    apart.then_some(Returned { filled, unread })
}

/// Puts a return of the new code in the place of that of the old.
fn return_new(
    function: &mut Function,
    block: Block,
    segment: Data,
    old_runtime: &[u8],
    runtime: &Lowered,
    filled: &BTreeMap<u64, Value>,
) {
    let Some(last) = function.blocks[block].insts.pop() else { return };
    let mut writer = Writer { function, block, pc: None };
    writer.pc = writer.function.insts[last].pc;
    let (zero, len) = (writer.constant(Word::ZERO), writer.constant(Word::from(runtime.code.len())));
    writer.push(Opcode::Datacopy, Imm::Data(segment), &[zero, zero, len], None);
    for &(here, place) in &runtime.immutables {
        let word = filled.get(&u64::from(place)).copied().unwrap_or_else(|| {
            let bytes = old_runtime.get(place as usize..place as usize + 32);
            writer.constant(bytes.map(Word::from_be_slice).unwrap_or_default())
        });
        let to = writer.constant(Word::from(here));
        writer.push(Opcode::Mstore, Imm::None, &[to, word], None);
    }
    writer.push(Opcode::Return, Imm::None, &[zero, len], None);
}

/// Copies of known parts of the code become copies of data: the code itself is another now.
fn copy_known_code(module: &mut Module, old: &[u8]) {
    let mut segments: BTreeMap<Vec<u8>, Data> = BTreeMap::new();
    for function in module.funcs.values_mut() {
        for block in function.layout.clone() {
            for at in 0..function.blocks[block].insts.len() {
                let inst = function.blocks[block].insts[at];
                if let Some(bytes) = copied(function, &function.insts[inst], old) {
                    let segment = *segments.entry(bytes.to_vec()).or_insert_with(|| module.data.push(bytes.to_vec()));
                    let zero = zero_before(function, block, inst);
                    let data = &mut function.insts[inst];
                    (data.opcode, data.imm) = (Opcode::Datacopy, Imm::Data(segment));
                    data.args[1] = zero;
                }
            }
        }
    }
}

/// Appends a zero to the instructions before `inst`; gives it.
fn zero_before(function: &mut Function, block: Block, inst: Inst) -> Value {
    let pc = function.insts[inst].pc;
    let data = InstData {
        opcode: Opcode::Iconst,
        imm: Imm::Word(Word::ZERO),
        args: Vec::new(),
        targets: Vec::new(),
        results: Vec::new(),
        pc,
    };
    let zero = function.create_inst(data, &[Type::of(&Word::ZERO)]);
    let insts = &mut function.blocks[block].insts;
    let at = insts.iter().position(|&other| other == inst).unwrap_or_default();
    insts.insert(at, zero);
    function.insts[zero].results[0]
}

/// Reads behind the old code become reads behind code of another length.
fn move_arguments(module: &mut Module, old_len: u64, new_len: u64) -> Result<(), Error> {
    for function in module.funcs.values_mut() {
        for block in function.layout.clone() {
            let mut block = block;
            let insts = core::mem::take(&mut function.blocks[block].insts);
            for inst in insts {
                let InstData { opcode, args, pc, .. } = function.insts[inst].clone();
                let from = match opcode {
                    Opcode::Calldatacopy => Some(1),
                    Opcode::Calldataload => Some(0),
                    _ => None,
                };
                let mut writer = Writer { function, block, pc };
                if let Some(at) = from {
                    let (old_end, new_end) = (Word::from(old_len), Word::from(new_len));
                    let moved = match args.get(at).map(|&from| (from, distance(writer.function, from))) {
                        // No calldata is as long as 2^64 bytes.
                        Some((_, (None, word))) if word >= old_end => {
                            writer.constant((word - old_end).saturating_add(new_end))
                        }
                        Some((from, (Some(_), base))) if base >= old_end && base < Word::from(u32::MAX) => {
                            writer.behind(from, old_end, new_end)
                        }
                        _ => return Err(CreationError::OwnCode { pc }.into()),
                    };
                    block = writer.block;
                    writer.function.insts[inst].args[at] = moved;
                } else if let (Opcode::Calldatasize, Some(&result)) =
                    (opcode, writer.function.insts[inst].results.first())
                {
                    let ty = writer.function.ty(result);
                    let now = writer.push(Opcode::Calldatasize, Imm::None, &[], Some(ty));
                    let difference = writer.constant(Word::from(old_len).wrapping_sub(Word::from(new_len)));
                    let then = writer.push(Opcode::Wadd, Imm::None, &[now, difference], Some(Type::WORD));
                    let data = &mut writer.function.insts[inst];
                    (data.opcode, data.args) = (Opcode::Narrow, vec![then]);
                }
                function.blocks[block].insts.push(inst);
            }
        }
    }
    Ok(())
}

/// Appends instructions to a block.
struct Writer<'f> {
    function: &'f mut Function,
    block: Block,
    pc: Option<Pc>,
}

impl Writer<'_> {
    /// The result, if the instruction has one; otherwise a value that means nothing.
    fn push(&mut self, opcode: Opcode, imm: Imm, args: &[Value], ty: Option<Type>) -> Value {
        let data = InstData { opcode, imm, args: args.to_vec(), targets: Vec::new(), results: Vec::new(), pc: self.pc };
        let inst = self.function.create_inst(data, ty.as_slice());
        self.function.blocks[self.block].insts.push(inst);
        self.function.insts[inst].results.first().copied().unwrap_or(Value::from_u32(0))
    }

    /// The place behind the new code that is as far from its end as `from` is from that of the old; traps where that is no
    /// place that an encoder writes. What follows goes to another block.
    fn behind(&mut self, from: Value, old_end: Word, new_end: Word) -> Value {
        let old_end = self.constant(old_end);
        let distance = self.push(Opcode::Wsub, Imm::None, &[from, old_end], Some(Type::WORD));
        let most = self.constant(Word::MAX >> 1);
        let far = self.push(Opcode::Ult, Imm::None, &[most, distance], Some(Type::BOOL));
        let (trap, rest) = (self.function.create_block(), self.function.create_block());
        let call = |block| BlockCall { block, args: Vec::new() };
        let branch = InstData {
            opcode: Opcode::Brif,
            imm: Imm::None,
            args: vec![far],
            targets: vec![call(trap), call(rest)],
            results: Vec::new(),
            pc: self.pc,
        };
        let branch = self.function.create_inst(branch, &[]);
        self.function.blocks[self.block].insts.push(branch);
        self.block = trap;
        self.push(Opcode::Trap, Imm::Trap(TrapCode::Invalid), &[], None);
        self.block = rest;
        let new_end = self.constant(new_end);
        self.push(Opcode::Wadd, Imm::None, &[distance, new_end], Some(Type::WORD))
    }

    fn constant(&mut self, word: Word) -> Value {
        self.push(Opcode::Iconst, Imm::Word(word), &[], Some(Type::of(&word)))
    }
}
