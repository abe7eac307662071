//! The interpreter: the reference semantics of effects and control flow, executor E1.
//!
//! Pure instructions go through [`crate::eval()`]. What the program reads and changes of the world goes through a [`Host`].
//! Where it calls another account the [`Machine`] stops with an [`Event::Foreign`] and goes on once it is told what came of it:
//! whoever drives it runs the other account's code, and may enter the program again meanwhile. A run that reaches a
//! limit is an error, never an outcome.

mod error;

use std::borrow::Cow;

use cranelift_entity::SecondaryMap;

pub use error::InterpError;

use std::collections::BTreeMap;

use crate::Word;
use crate::entities::{Block, Func, Inst, Value};
use crate::env::{Env, word_address};
use crate::eval::{eval, keccak256, words_data};
use crate::function::{BlockCall, Function, Imm, InstData, Module, Pc, STACK_LIMIT, StackUse};
use crate::host::{Host, Ledger, PreState};
use crate::memory::{Memory, MemoryLimit};
use crate::opcode::Opcode;
use crate::outcome::{Address, Halt, Log, Outcome};

/// Sees each block as it is entered, and each instruction whose meaning is more than its operands.
pub trait Observer {
    /// `block` of `func` is about to run; its parameters have their values.
    fn enter(&mut self, func: Func, block: Block, values: &Values);

    /// `inst` of `func` has run on these operands and given this result, if it has one. Called for instructions with effects
    /// that neither end a block nor call, for hashes, whose operands cannot be found again from the result, and for sums, which may be
    /// places in storage.
    fn ran(&mut self, _func: Func, _inst: Inst, _args: &[Word], _result: Option<Word>) {}
}

/// Sees nothing.
impl Observer for () {
    fn enter(&mut self, _: Func, _: Block, _: &Values) {}
}

/// The values of a function's frame.
#[derive(Clone, Debug, Default)]
pub struct Values(SecondaryMap<Value, Word>);

impl Values {
    /// The current word of `value`; zero if it has none yet.
    pub fn get(&self, value: Value) -> Word {
        self.0[value]
    }
}

/// One execution to run.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// The calldata.
    pub calldata: Cow<'a, [u8]>,
    /// The environment.
    pub env: Cow<'a, Env>,
    /// Whether state may not be changed (EIP-214).
    pub is_static: bool,
    /// The largest number of instructions to execute.
    pub step_limit: u64,
}

impl<'a> Call<'a> {
    /// A call that may change state, with the default limit of 10^9 instructions.
    pub fn new(calldata: &'a [u8], env: &'a Env) -> Self {
        let (calldata, env) = (Cow::Borrowed(calldata), Cow::Borrowed(env));
        Self { calldata, env, is_static: false, step_limit: 1_000_000_000 }
    }
}

/// Why a [`Machine`] stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The program halted with this data.
    Halt(Halt, Vec<u8>),
    /// It runs another account's code and waits for [`Machine::resume`].
    Foreign(Foreign),
}

/// What the program asks of another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// To run its code.
    Call(ForeignCall),
    /// To come into being.
    Create(ForeignCreate),
}

/// A call of another account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignCall {
    /// The instruction: `evm_call`, `evm_callcode`, `evm_delegatecall` or `evm_staticcall`.
    pub opcode: Opcode,
    /// The gas that it may use; it takes what there is if there is less (EIP-150).
    pub gas: Word,
    /// Whose code is run.
    pub code: Address,
    /// The wei that are sent; zero for the last two instructions.
    pub value: Word,
    /// Its calldata.
    pub input: Vec<u8>,
}

/// The creation of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignCreate {
    /// The wei that it starts with.
    pub value: Word,
    /// The code that is run to create it. Beyond the fork's limit (EIP-3860) the program traps: the driver's to decide.
    pub init_code: Vec<u8>,
    /// What its address depends on besides the code (EIP-1014); `None` for the creator's nonce.
    pub salt: Option<Word>,
}

/// What came of an [`Event::Foreign`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// What the instruction gives: one or the new account's address on success, else zero.
    pub result: Word,
    /// The return data buffer afterwards (EIP-211).
    pub data: Vec<u8>,
}

/// The largest number of functions of the module that may be active at once. The EVM's stack of 1024 words stops a
/// recursion earlier.
pub const CALL_DEPTH_LIMIT: usize = 1024;

/// Runs a verified module.
///
/// # Errors
/// See [`InterpError`]: limits, and the first call of another account.
pub fn run(module: &Module, call: Call<'_>, pre: &dyn PreState) -> Result<Outcome, InterpError> {
    run_observed(module, call, pre, &mut ())
}

/// Runs a verified module and shows every block to `observer`.
///
/// # Errors
/// As [`run`].
pub fn run_observed(
    module: &Module,
    call: Call<'_>,
    pre: &dyn PreState,
    observer: &mut dyn Observer,
) -> Result<Outcome, InterpError> {
    let mut ledger = Ledger::new(pre, call.env.address, call.env.selfbalance);
    let mut machine = Machine::new(module, call)?;
    match machine.run(&mut ledger, observer)? {
        Event::Halt(halt, data) => Ok(ledger.outcome(halt, data)),
        Event::Foreign(_) => Err(machine.foreign_error()),
    }
}

/// An active function.
#[derive(Debug)]
struct Frame {
    func: Func,
    block: Block,
    next: usize,
    values: Values,
    /// The words of the EVM's stack that are below what it calls.
    stack: u32,
}

/// One execution of a module, which stops where it calls another account.
#[derive(Debug)]
pub struct Machine<'a> {
    module: &'a Module,
    call: Call<'a>,
    steps: u64,
    memory: Memory,
    return_data: Vec<u8>,
    /// What `frame_store` has stored.
    kept: BTreeMap<Word, Word>,
    frames: Vec<Frame>,
    pending: Option<Pending<'a>>,
}

/// The instruction that waits for another account.
#[derive(Clone, Copy, Debug)]
struct Pending<'a> {
    data: &'a InstData,
    /// Where in memory what is returned goes, and how much of it.
    out: (Word, Word),
}

/// What an instruction did.
enum Effect {
    /// Its result; the next instruction follows.
    Value(Word),
    /// No result; the next instruction follows.
    Done,
    /// The execution waits or is over.
    Stop(Event),
}

impl<'a> Machine<'a> {
    /// An execution of a verified module that has not begun.
    ///
    /// # Errors
    /// `Malformed` if the module has no entry.
    pub fn new(module: &'a Module, call: Call<'a>) -> Result<Self, InterpError> {
        if module.entry.is_none() {
            return Err(InterpError::Malformed { pc: None });
        }
        let (memory, return_data, kept) = (Memory::default(), Vec::new(), BTreeMap::new());
        Ok(Self { module, call, steps: 0, memory, return_data, kept, frames: Vec::new(), pending: None })
    }

    /// Instructions executed so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Runs until the program halts or calls another account.
    ///
    /// # Errors
    /// See [`InterpError`]; `Malformed` if it has halted already or waits for [`Machine::resume`].
    pub fn run(&mut self, host: &mut dyn Host, observer: &mut dyn Observer) -> Result<Event, InterpError> {
        if let Some(pending) = &self.pending {
            return Err(InterpError::Malformed { pc: pending.data.pc });
        }
        if self.steps == 0 {
            let entry = self.module.entry.ok_or(InterpError::Malformed { pc: None })?;
            self.enter_function(entry, &[], None, observer)?;
        }
        loop {
            if let Some(event) = self.step(host, observer)? {
                if matches!(event, Event::Halt(..)) {
                    self.frames.clear();
                }
                return Ok(event);
            }
        }
    }

    /// Tells what came of the last [`Event::Foreign`]; then [`Machine::run`] goes on behind it.
    ///
    /// # Errors
    /// `Malformed` if it waits for nothing.
    pub fn resume(&mut self, returned: Returned) -> Result<(), InterpError> {
        let Pending { data, out: (offset, len) } = self.pending.take().ok_or(InterpError::Malformed { pc: None })?;
        let len = len.min(Word::from(returned.data.len()));
        self.memory
            .copy_padded(offset, &returned.data, Word::ZERO, len)
            .map_err(|_| InterpError::MemoryLimit { pc: data.pc })?;
        self.return_data = returned.data;
        self.set_result(data, returned.result)
    }

    /// That the instruction waited for cannot be run here.
    pub fn foreign_error(&self) -> InterpError {
        match &self.pending {
            Some(pending) => InterpError::Foreign { opcode: pending.data.opcode, pc: pending.data.pc },
            None => InterpError::Malformed { pc: None },
        }
    }

    fn enter_function(
        &mut self,
        func: Func,
        args: &[Word],
        pc: Option<Pc>,
        observer: &mut dyn Observer,
    ) -> Result<(), InterpError> {
        let malformed = InterpError::Malformed { pc };
        let function = self.module.funcs.get(func).ok_or_else(|| malformed.clone())?;
        let block = function.entry().ok_or_else(|| malformed.clone())?;
        let below = self.frames.last().map_or(0, |frame| frame.stack);
        let StackUse { below: own, peak } = function.stack;
        let stack = below.saturating_add(own);
        let overflows = !function.stack.is_none() && below.saturating_add(peak) > STACK_LIMIT;
        if self.frames.len() >= CALL_DEPTH_LIMIT || overflows {
            return Err(InterpError::CallDepth { pc });
        }
        let mut values = Values::default();
        let params = &function.blocks[block].params;
        if params.len() != args.len() {
            return Err(malformed);
        }
        for (&param, &arg) in params.iter().zip(args) {
            values.0[param] = arg;
        }
        observer.enter(func, block, &values);
        self.frames.push(Frame { func, block, next: 0, values, stack });
        Ok(())
    }

    /// Executes one instruction; the event, if it is where the machine stops.
    fn step(&mut self, host: &mut dyn Host, observer: &mut dyn Observer) -> Result<Option<Event>, InterpError> {
        let module = self.module;
        let frame = self.frames.last_mut().ok_or(InterpError::Malformed { pc: None })?;
        let function = &module.funcs[frame.func];
        let Some(&inst) = function.blocks[frame.block].insts.get(frame.next) else {
            return Err(InterpError::Malformed { pc: None });
        };
        frame.next += 1;
        let data = &function.insts[inst];
        self.steps += 1;
        if self.steps > self.call.step_limit {
            return Err(InterpError::StepLimit { limit: self.call.step_limit, pc: data.pc });
        }
        let args: Vec<Word> = data.args.iter().map(|&value| frame.values.get(value)).collect();
        if data.opcode.is_pure() {
            let ty = data.result().map(|value| function.ty(value));
            let word =
                eval(data.opcode, data.imm, &args, ty).map_err(|error| InterpError::Eval { error, pc: data.pc })?;
            if matches!(data.opcode, Opcode::KeccakWords | Opcode::Add | Opcode::Wadd) {
                observer.ran(frame.func, inst, &args, Some(word));
            }
            return self.set_result(data, word).map(|()| None);
        }
        let func = frame.func;
        match data.opcode {
            Opcode::Jump | Opcode::Brif => self.branch(function, inst, &args, observer)?,
            Opcode::Call => match data.imm {
                Imm::Func(callee) => self.enter_function(callee, &args, data.pc, observer)?,
                _ => return Err(InterpError::Malformed { pc: data.pc }),
            },
            Opcode::Ret => self.ret(&args, data.pc)?,
            _ => match self.effect(data, &args, host)? {
                Effect::Value(word) => {
                    observer.ran(func, inst, &args, Some(word));
                    self.set_result(data, word)?;
                }
                Effect::Done => observer.ran(func, inst, &args, None),
                Effect::Stop(event) => return Ok(Some(event)),
            },
        }
        Ok(None)
    }

    fn set_result(&mut self, data: &InstData, word: Word) -> Result<(), InterpError> {
        let malformed = InterpError::Malformed { pc: data.pc };
        let (Some(frame), Some(value)) = (self.frames.last_mut(), data.result()) else { return Err(malformed) };
        frame.values.0[value] = word;
        Ok(())
    }

    fn branch(
        &mut self,
        function: &Function,
        inst: Inst,
        args: &[Word],
        observer: &mut dyn Observer,
    ) -> Result<(), InterpError> {
        let data = &function.insts[inst];
        let malformed = InterpError::Malformed { pc: data.pc };
        let taken = usize::from(args.first().is_some_and(Word::is_zero));
        let (Some(BlockCall { block, args }), Some(frame)) = (data.targets.get(taken), self.frames.last_mut()) else {
            return Err(malformed);
        };
        let params = &function.blocks[*block].params;
        if params.len() != args.len() {
            return Err(malformed);
        }
        // All arguments are read before the first parameter changes: a loop may exchange its parameters.
        let words: Vec<Word> = args.iter().map(|&value| frame.values.get(value)).collect();
        for (&param, word) in params.iter().zip(words) {
            frame.values.0[param] = word;
        }
        frame.block = *block;
        frame.next = 0;
        observer.enter(frame.func, *block, &frame.values);
        Ok(())
    }

    fn ret(&mut self, words: &[Word], pc: Option<Pc>) -> Result<(), InterpError> {
        let malformed = InterpError::Malformed { pc };
        self.frames.pop();
        let Some(frame) = self.frames.last_mut() else { return Err(malformed) };
        let function = &self.module.funcs[frame.func];
        // The caller stands behind its `call`.
        let call = frame.next.checked_sub(1).and_then(|at| function.blocks[frame.block].insts.get(at));
        let Some(&call) = call else { return Err(malformed) };
        let results = &function.insts[call].results;
        if results.len() != words.len() {
            return Err(malformed);
        }
        for (&result, &word) in results.iter().zip(words) {
            frame.values.0[result] = word;
        }
        Ok(())
    }

    /// Executes an instruction that touches something besides values and control.
    fn effect(&mut self, data: &'a InstData, args: &[Word], host: &mut dyn Host) -> Result<Effect, InterpError> {
        let pc = data.pc;
        let malformed = || InterpError::Malformed { pc };
        let limit = |_: MemoryLimit| InterpError::MemoryLimit { pc };
        let halt = |halt: Halt, data: Vec<u8>| Effect::Stop(Event::Halt(halt, data));
        let trap = halt(Halt::Trap, Vec::new());
        let arg = |at: usize| args.get(at).copied().ok_or_else(malformed);
        let call = &self.call;
        let (env, calldata) = (&*call.env, &*call.calldata);
        let account = &env.address;

        Ok(match data.opcode {
            Opcode::Bound => {
                let Imm::Word(room) = data.imm else { return Err(malformed()) };
                let a = arg(0)?;
                if a.checked_add(room).is_none_or(|end| end > Word::from(crate::memory::MEMORY_LIMIT)) {
                    return Err(limit(MemoryLimit));
                }
                Effect::Value(a)
            }
            Opcode::Mload => Effect::Value(self.memory.load(arg(0)?).map_err(limit)?),
            Opcode::Mstore => {
                self.memory.store(arg(0)?, &arg(1)?.to_be_bytes::<32>()).map_err(limit)?;
                Effect::Done
            }
            Opcode::Mstore8 => {
                self.memory.store(arg(0)?, &[arg(1)?.byte(0)]).map_err(limit)?;
                Effect::Done
            }
            Opcode::Mcopy => {
                self.memory.copy_within(arg(0)?, arg(1)?, arg(2)?).map_err(limit)?;
                Effect::Done
            }
            Opcode::Msize => Effect::Value(Word::from(self.memory.size())),
            Opcode::Keccak256 => Effect::Value(keccak256(&self.memory.read(arg(0)?, arg(1)?).map_err(limit)?)),
            Opcode::Calldataload => Effect::Value(padded_word(calldata, arg(0)?)),
            Opcode::Calldatasize => Effect::Value(Word::from(calldata.len())),
            Opcode::Calldatacopy => {
                self.memory.copy_padded(arg(0)?, calldata, arg(1)?, arg(2)?).map_err(limit)?;
                Effect::Done
            }
            Opcode::Immutable => return Err(InterpError::Unfilled { pc: data.pc }),
            Opcode::Datacopy => {
                let Imm::Data(segment) = data.imm else { return Err(malformed()) };
                let bytes = self.module.data.get(segment).ok_or_else(malformed)?;
                self.memory.copy_padded(arg(0)?, bytes, arg(1)?, arg(2)?).map_err(limit)?;
                Effect::Done
            }
            Opcode::Address
            | Opcode::Caller
            | Opcode::Origin
            | Opcode::Callvalue
            | Opcode::Gasprice
            | Opcode::Coinbase
            | Opcode::Timestamp
            | Opcode::Number
            | Opcode::Prevrandao
            | Opcode::Gaslimit
            | Opcode::Chainid
            | Opcode::Basefee
            | Opcode::Blobbasefee => Effect::Value(env.read(data.opcode).ok_or_else(malformed)?),
            Opcode::Blockhash => {
                let hash = u64::try_from(arg(0)?).ok().and_then(|number| host.block_hash(number));
                Effect::Value(hash.unwrap_or_default())
            }
            Opcode::Blobhash => {
                let hash = u64::try_from(arg(0)?).ok().and_then(|index| host.blob_hash(index));
                Effect::Value(hash.unwrap_or_default())
            }
            Opcode::Selfbalance => Effect::Value(host.balance(account)),
            Opcode::Balance => Effect::Value(host.balance(&word_address(&arg(0)?))),
            Opcode::Extcodesize => Effect::Value(Word::from(host.code(&word_address(&arg(0)?)).len())),
            Opcode::Extcodehash => {
                let address = word_address(&arg(0)?);
                let exists = host.exists(&address);
                Effect::Value(if exists { keccak256(&host.code(&address)) } else { Word::ZERO })
            }
            Opcode::Extcodecopy => {
                let code = host.code(&word_address(&arg(0)?));
                self.memory.copy_padded(arg(1)?, &code, arg(2)?, arg(3)?).map_err(limit)?;
                Effect::Done
            }
            // Only a call's gas operand may depend on it, and calls take all they are given.
            Opcode::Gas => Effect::Value(Word::from(u64::MAX)),
            Opcode::Sload => Effect::Value(host.storage(account, &arg(0)?)),
            Opcode::Tload => Effect::Value(host.transient(account, &arg(0)?)),
            Opcode::Sstore
            | Opcode::Tstore
            | Opcode::Log
            | Opcode::LogWords
            | Opcode::Selfdestruct
            | Opcode::EvmCreate
            | Opcode::EvmCreate2
                if call.is_static =>
            {
                trap
            }
            Opcode::EvmCall if call.is_static && !arg(2)?.is_zero() => trap,
            Opcode::Sstore => {
                host.set_storage(account, arg(0)?, arg(1)?);
                Effect::Done
            }
            Opcode::Tstore => {
                host.set_transient(account, arg(0)?, arg(1)?);
                Effect::Done
            }
            Opcode::Log => {
                let bytes = self.memory.read(arg(0)?, arg(1)?).map_err(limit)?;
                host.log(Log { address: *account, topics: args[2..].to_vec(), data: bytes });
                Effect::Done
            }
            Opcode::LogWords => {
                let topics = data.topics().ok_or_else(malformed)?.len();
                let bytes = words_data(data.imm, &args[topics..]).ok_or_else(malformed)?;
                host.log(Log { address: *account, topics: args[..topics].to_vec(), data: bytes });
                Effect::Done
            }
            Opcode::Note => Effect::Done,
            Opcode::FrameLoad | Opcode::FrameStore => {
                let Imm::Word(offset) = data.imm else { return Err(malformed()) };
                let number = arg(0)?.wrapping_add(offset);
                if data.opcode == Opcode::FrameStore {
                    self.kept.insert(number, arg(1)?);
                    Effect::Done
                } else {
                    Effect::Value(self.kept.get(&number).copied().unwrap_or_default())
                }
            }
            Opcode::Returndatasize => Effect::Value(Word::from(self.return_data.len())),
            Opcode::Returndatacopy => {
                let (from, len) = (arg(1)?, arg(2)?);
                let end = from.checked_add(len);
                if end.is_none_or(|end| end > Word::from(self.return_data.len())) {
                    trap
                } else {
                    self.memory.copy_padded(arg(0)?, &self.return_data, from, len).map_err(limit)?;
                    Effect::Done
                }
            }
            Opcode::EvmCall | Opcode::EvmCallcode => self.foreign_call(data, args, arg(2)?, 3)?,
            Opcode::EvmDelegatecall | Opcode::EvmStaticcall => self.foreign_call(data, args, Word::ZERO, 2)?,
            Opcode::EvmCreate => self.foreign_create(data, args, None)?,
            Opcode::EvmCreate2 => self.foreign_create(data, args, Some(arg(3)?))?,
            Opcode::Stop => halt(Halt::Return, Vec::new()),
            Opcode::Selfdestruct => {
                host.selfdestruct(account, &word_address(&arg(0)?));
                halt(Halt::Return, Vec::new())
            }
            Opcode::Return => halt(Halt::Return, self.memory.read(arg(0)?, arg(1)?).map_err(limit)?),
            Opcode::Revert => halt(Halt::Revert, self.memory.read(arg(0)?, arg(1)?).map_err(limit)?),
            Opcode::ReturnWords => halt(Halt::Return, words_data(data.imm, args).ok_or_else(malformed)?),
            Opcode::RevertWords => halt(Halt::Revert, words_data(data.imm, args).ok_or_else(malformed)?),
            Opcode::Trap => trap,
            Opcode::Jump | Opcode::Brif | Opcode::Ret | Opcode::Call => return Err(malformed()),
            Opcode::Iconst
            | Opcode::Zext
            | Opcode::Trunc
            | Opcode::Narrow
            | Opcode::Add
            | Opcode::Sub
            | Opcode::Mul
            | Opcode::Wadd
            | Opcode::Wsub
            | Opcode::Wmul
            | Opcode::Udiv
            | Opcode::Urem
            | Opcode::Sdiv
            | Opcode::Srem
            | Opcode::Addmod
            | Opcode::Mulmod
            | Opcode::Exp
            | Opcode::Signextend
            | Opcode::Iszero
            | Opcode::Eq
            | Opcode::Ult
            | Opcode::Slt
            | Opcode::Select
            | Opcode::And
            | Opcode::Or
            | Opcode::Xor
            | Opcode::Not
            | Opcode::Shl
            | Opcode::Shr
            | Opcode::Sar
            | Opcode::Byte
            | Opcode::Clz
            | Opcode::KeccakWords
            | Opcode::KeccakF => return Err(malformed()),
        })
    }

    /// A call of another account whose buffers begin at operand `at`.
    fn foreign_call(
        &mut self,
        data: &'a InstData,
        args: &[Word],
        value: Word,
        at: usize,
    ) -> Result<Effect, InterpError> {
        let pc = data.pc;
        let limit = |_: MemoryLimit| InterpError::MemoryLimit { pc };
        let &[gas, to, ..] = args else { return Err(InterpError::Malformed { pc }) };
        let Some(&[in_offset, in_len, out_offset, out_len]) = args.get(at..) else {
            return Err(InterpError::Malformed { pc });
        };
        let input = self.memory.read(in_offset, in_len).map_err(limit)?;
        self.memory.touch(out_offset, out_len).map_err(limit)?;
        self.pending = Some(Pending { data, out: (out_offset, out_len) });
        let call = ForeignCall { opcode: data.opcode, gas, code: word_address(&to), value, input };
        Ok(Effect::Stop(Event::Foreign(Foreign::Call(call))))
    }

    fn foreign_create(&mut self, data: &'a InstData, args: &[Word], salt: Option<Word>) -> Result<Effect, InterpError> {
        let pc = data.pc;
        let &[value, offset, len, ..] = args else { return Err(InterpError::Malformed { pc }) };
        let init_code = self.memory.read(offset, len).map_err(|_| InterpError::MemoryLimit { pc })?;
        self.pending = Some(Pending { data, out: (Word::ZERO, Word::ZERO) });
        Ok(Effect::Stop(Event::Foreign(Foreign::Create(ForeignCreate { value, init_code, salt }))))
    }
}

/// The word at byte `offset`, zero past the end.
pub fn padded_word(bytes: &[u8], offset: Word) -> Word {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let available = &bytes[from..bytes.len().min(from.saturating_add(32))];
    let mut word = [0; 32];
    word[..available.len()].copy_from_slice(available);
    Word::from_be_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::EmptyState;
    use crate::{parse, verify};

    fn outcome(text: &str, calldata: &[u8]) -> Result<Outcome, InterpError> {
        let module = parse(text).unwrap();
        verify(&module).unwrap();
        run(&module, Call { step_limit: 10_000, ..Call::new(calldata, &Env::default()) }, &EmptyState)
    }

    fn main(body: &str, calldata: &[u8]) -> Result<Outcome, InterpError> {
        outcome(&format!("zvm 1\nentry @main\nfunc @main() {{\n{body}\n}}"), calldata)
    }

    #[test]
    fn a_loop_exchanges_its_parameters() {
        let fibonacci = "block0:
            v0: u1 = iconst 0
            v1: u256 = calldataload v0
            v2: u256 = iconst 0
            v3: u256 = iconst 1
            jump block1(v1, v2, v3)
        block1(v4: u256, v5: u256, v6: u256):
            v7: u1 = iszero v4
            brif v7, block2, block3
        block2:
            return_words 32, v5
        block3:
            v8: u1 = iconst 1
            v9: u256 = sub v4, v8
            v10: u256 = wadd v5, v6
            jump block1(v9, v6, v10)";
        let mut calldata = [0; 32];
        calldata[31] = 10;
        let result = main(fibonacci, &calldata).unwrap();
        assert_eq!(Word::from_be_slice(&result.data), Word::from(55));
    }

    #[test]
    fn functions_call_themselves() {
        let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\nv0: u8 = iconst 5\nv1: u256 = call @f(v0)\nreturn_words 32, v1\n}
        func @f(u8) -> u256 {
        block0(v0: u8):
            v1: u1 = iszero v0
            brif v1, block1, block2
        block1:
            v2: u256 = iconst 1
            ret v2
        block2:
            v3: u1 = iconst 1
            v4: u8 = sub v0, v3
            v5: u256 = call @f(v4)
            v6: u256 = wmul v5, v0
            ret v6
        }";
        assert_eq!(Word::from_be_slice(&outcome(text, &[]).unwrap().data), Word::from(120));
    }

    #[test]
    fn state_is_undone_unless_it_returns() {
        let body =
            |end: &str| format!("block0:\nv0: u8 = iconst 1\nsstore v0, v0\ntstore v0, v0\nlog v0, v0, v0\n{end}");
        let kept = main(&body("stop"), &[]).unwrap();
        assert_eq!((kept.storage.len(), kept.transient.len(), kept.logs.len()), (1, 1, 1));
        for end in ["revert v0, v0", "trap invalid", "revert_words 3, v0"] {
            let undone = main(&body(end), &[]).unwrap();
            assert!(undone.storage.is_empty() && undone.transient.is_empty() && undone.logs.is_empty());
        }
    }

    #[test]
    fn logs_of_words_end_with_their_data() {
        let logs = |text: &str| {
            main(&format!("block0:\nv0: u8 = iconst 7\nv1: u8 = iconst 9\n{text}\nstop"), &[]).unwrap().logs
        };
        let words = logs("log_words 33, v1, v0, v1, v0");
        let in_memory = logs(
            "v2: u1 = iconst 0\nv3: u6 = iconst 32\nv4: u6 = iconst 33\nmstore v2, v1\nmstore v3, v0\nlog v2, v4, v1, v0",
        );
        assert_eq!(words, in_memory);
        assert_eq!((words[0].topics.as_slice(), words[0].data.len()), (&[Word::from(9), Word::from(7)][..], 33));
        assert!(logs("log_words 0")[0].topics.is_empty());
        let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\nlog_words 0\nstop\n}";
        let (module, env) = (parse(text).unwrap(), Env::default());
        let call = Call { is_static: true, ..Call::new(&[], &env) };
        assert_eq!(run(&module, call, &EmptyState).unwrap(), Outcome::halted(Halt::Trap, vec![]));
    }

    #[test]
    fn a_write_of_the_old_value_is_no_change() {
        let body = "block0:\nv0: u8 = iconst 1\nv1: u8 = iconst 0\nsstore v0, v0\nsstore v0, v1\nstop";
        assert!(main(body, &[]).unwrap().storage.is_empty());
    }

    #[test]
    fn limits_are_errors() {
        let forever = main("block0:\njump block1\nblock1:\njump block1", &[]);
        assert!(matches!(forever, Err(InterpError::StepLimit { limit: 10_000, .. })));
        let huge = "block0:\nv0: u256 = iconst 0xffffffffffffffffffff\nv1: u256 = mload v0 @0007\nstop";
        assert_eq!(main(huge, &[]), Err(InterpError::MemoryLimit { pc: Some(7) }));
        for (place, passes) in [(0x3ffffe0u64, true), (0x3ffffe1, false), (u64::MAX, false)] {
            let bound = format!("block0:\nv0: u256 = iconst {place:#x}\nv1: u27 = bound 32, v0 @0007\nstop");
            let expected = if passes { Ok(Outcome::halted(Halt::Return, vec![])) } else { main(huge, &[]) };
            assert_eq!(main(&bound, &[]), expected, "{place:#x}");
        }
        let recursion =
            "zvm 1\nentry @main\nfunc @main() {\nblock0:\ncall @f()\nstop\n}\nfunc @f() {\nblock0:\ncall @f()\nret\n}";
        assert!(matches!(outcome(recursion, &[]), Err(InterpError::CallDepth { .. })));
        // 24 words below a function that has ten below itself, and up to 15.
        let stack = |times: usize| {
            let text = format!(
                "zvm 1\nentry @main\nfunc @main() stack 24 30 {{\nblock0:\nv0: u8 = iconst {times}\ncall @f(v0)\nstop\n}}\nfunc @f(u8) \
                 stack 10 15 {{\nblock0(v0: u8):\nv1: u1 = iszero v0\nbrif v1, block1, block2\nblock1:\nret\nblock2:\nv2: u8 = iconst \
                 1\nv3: u8 = sub v0, v2\ncall @f(v3) @0009\nret\n}}"
            );
            outcome(&text, &[])
        };
        assert_eq!(stack(98), Ok(Outcome::halted(Halt::Return, vec![])));
        assert_eq!(stack(99), Err(InterpError::CallDepth { pc: Some(9) }));
    }

    #[test]
    fn a_call_of_another_account_stops_the_machine() {
        let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:
            v0: u8 = iconst 5
            v1: u8 = iconst 64
            v2: u1 = iconst 1
            mstore v2, v0
            v3: u1 = evm_call v0, v1, v2, v2, v1, v0, v1 @0009
            v4: u64 = returndatasize
            v5: u256 = mload v0
            return_words 96, v3, v4, v5\n}";
        let module = parse(text).unwrap();
        verify(&module).unwrap();
        let env = Env::default();
        let mut host = Ledger::new(&EmptyState, env.address, Word::ZERO);
        let mut machine = Machine::new(&module, Call::new(&[], &env)).unwrap();
        let Ok(Event::Foreign(Foreign::Call(call))) = machine.run(&mut host, &mut ()) else { panic!("no call") };
        assert_eq!((call.opcode, call.gas, call.value), (Opcode::EvmCall, Word::from(5), Word::from(1)));
        assert_eq!((call.code[19], call.input.len(), call.input[31]), (64, 64, 5));
        assert_eq!(machine.foreign_error(), InterpError::Foreign { opcode: Opcode::EvmCall, pc: Some(9) });
        // It waits, goes on once, and what came back is where the program wants it.
        assert!(matches!(machine.run(&mut host, &mut ()), Err(InterpError::Malformed { pc: Some(9) })));
        machine.resume(Returned { result: Word::from(1), data: vec![0xee; 7] }).unwrap();
        assert!(machine.resume(Returned::default()).is_err());
        let Ok(Event::Halt(Halt::Return, data)) = machine.run(&mut host, &mut ()) else { panic!("no halt") };
        assert_eq!((data[31], data[63]), (1, 7));
        assert_eq!(data[64..72], [0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0xee, 0]);
        assert!(machine.run(&mut host, &mut ()).is_err());
        // `run` has nobody to ask.
        let error = run(&module, Call::new(&[], &env), &EmptyState);
        assert_eq!(error, Err(InterpError::Foreign { opcode: Opcode::EvmCall, pc: Some(9) }));
    }

    #[test]
    fn return_data_past_its_end_traps() {
        let body = "block0:\nv0: u1 = iconst 0\nv1: u1 = iconst 1\nreturndatacopy v0, v0, v1\nstop";
        assert_eq!(main(body, &[]).unwrap(), Outcome::halted(Halt::Trap, vec![]));
        assert_eq!(main(&body.replace("v0, v0, v1", "v0, v0, v0"), &[]).unwrap().halt, Halt::Return);
    }

    #[test]
    fn broken_promises_stop_the_run() {
        let body = "block0:\nv0: u9 = iconst 256\nv1: u8 = narrow v0 @0003\nstop";
        assert!(matches!(main(body, &[]), Err(InterpError::Eval { pc: Some(3), .. })));
    }
}
