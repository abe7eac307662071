//! Executor E1 among other accounts: `revm` runs their code, the interpreter runs the program's.
//!
//! The frames are revm's own, so that values move, states are kept or dropped, accounts are created and depth is limited
//! exactly as in E0; only where a frame would run the program's bytecode it runs the module. Other accounts may call back
//! into the program: then there are several such frames, each with a [`Machine`] that waits for the one above it.
//!
//! The program itself uses no gas here. Other accounts share the gas limit of the executor, of which each call may take all
//! but a 64th (EIP-150).

use std::borrow::Cow;
use std::collections::BTreeMap;

use revm::context_interface::{Cfg, ContextTr, Host as _, JournalTr};
use revm::handler::{EthFrame, EvmTr, FrameResult, ItemOrResult, MainnetContext};
use revm::interpreter::interpreter_action::FrameInit;
use revm::interpreter::{
    CallInput, CallInputs, CallScheme, CallValue, CreateInputs, CreateScheme, FrameInput, InstructionResult,
    InterpreterAction, InterpreterResult,
};
use revm::primitives::{Address as EvmAddress, B256};
use revm::{MainBuilder, MainnetEvm};
use zvm_ir::interp::{Call, Event, Foreign, ForeignCall, ForeignCreate, Machine, Returned};
use zvm_ir::outcome::{Address, Halt, Log};
use zvm_ir::{Env, Host, Module, Opcode, Word};

use crate::error::Error;
use crate::evm::{Evm, Execution, FrameError, View};
use crate::state::State;

/// The gas that a call with value adds to what it is given.
const STIPEND: u64 = 2300;

type Context<'s> = MainnetContext<View<'s>>;

impl Evm {
    /// Runs a call with `module` in the place of the program's bytecode, which other accounts still see as its code.
    ///
    /// # Errors
    /// As [`Evm::run`]; when the interpreter has no outcome, as after `step_limit` instructions.
    pub fn run_module(
        &self,
        module: &Module,
        calldata: &[u8],
        env: &Env,
        pre: &State,
        step_limit: u64,
    ) -> Result<Execution, Error> {
        self.run_modules(&BTreeMap::from([(env.address, module)]), calldata, env, pre, step_limit)
    }

    /// As [`Evm::run_module`], with a module in the place of the bytecode of each account that `modules` names. The account
    /// that is called need not be one of them.
    ///
    /// # Errors
    /// As [`Evm::run_module`].
    pub fn run_modules(
        &self,
        modules: &BTreeMap<Address, &Module>,
        calldata: &[u8],
        env: &Env,
        pre: &State,
        step_limit: u64,
    ) -> Result<Execution, Error> {
        let mut evm = self.context(env, pre)?.build_mainnet();
        let first = self.prepare(&mut evm, calldata, env)?;
        let mut run = Run { modules, env, step_limit, gas: self.gas_limit(), frames: Vec::new() };
        let result = run.finish(&mut evm, first)?;
        self.finish(Ok(result), &mut evm)
    }
}

/// An execution in progress.
struct Run<'m> {
    /// What runs instead of bytecode, by account.
    modules: &'m BTreeMap<Address, &'m Module>,
    env: &'m Env,
    /// Instructions that may still be executed.
    step_limit: u64,
    /// Gas that other accounts may still use.
    gas: u64,
    /// What runs in each of revm's frames.
    frames: Vec<Option<Box<Machine<'m>>>>,
}

impl<'m> Run<'m> {
    fn finish(&mut self, evm: &mut MainnetEvm<Context<'_>>, first: FrameInit) -> Result<FrameResult, Error> {
        let mut next = ItemOrResult::Item(first);
        loop {
            let result = match next {
                ItemOrResult::Item(init) => match evm.frame_init(init).map_err(revm_error)? {
                    ItemOrResult::Item(_) => {
                        let machine = self.machine(evm)?;
                        self.frames.push(machine);
                        next = self.run_frame(evm)?;
                        continue;
                    }
                    // Without a frame: a precompile, an account without code, or a call that cannot be made.
                    ItemOrResult::Result(result) => result,
                },
                ItemOrResult::Result(result) => {
                    self.frames.pop();
                    result
                }
            };
            if let Some(Some(machine)) = self.frames.last_mut() {
                self.gas = self.gas.saturating_sub(result.gas().total_gas_spent());
                machine.resume(returned(&result))?;
            }
            if let Some(result) = evm.frame_return_result(result).map_err(revm_error)? {
                return Ok(result);
            }
            next = self.run_frame(evm)?;
        }
    }

    /// The machine of the frame on top, if it runs the code of an account that has a module.
    fn machine(&self, evm: &mut MainnetEvm<Context<'_>>) -> Result<Option<Box<Machine<'m>>>, Error> {
        let EthFrame { interpreter, .. } = evm.frame_stack.get();
        let input = &interpreter.input;
        let module = input.bytecode_address.and_then(|account| self.modules.get(&account.into_array()));
        let Some(module) = module else { return Ok(None) };
        let env = Env {
            address: input.target_address.into(),
            caller: input.caller_address.into(),
            callvalue: input.call_value,
            ..self.env.clone()
        };
        let calldata = input.input.bytes(&evm.ctx).to_vec();
        let call = Call {
            calldata: Cow::Owned(calldata),
            env: Cow::Owned(env),
            is_static: interpreter.runtime_flag.is_static,
            step_limit: self.step_limit,
        };
        Ok(Some(Box::new(Machine::new(module, call)?)))
    }

    /// Runs the frame on top until it ends or needs another.
    fn run_frame(&mut self, evm: &mut MainnetEvm<Context<'_>>) -> Result<ItemOrResult<FrameInit, FrameResult>, Error> {
        let Some(Some(machine)) = self.frames.last_mut() else { return evm.frame_run().map_err(revm_error) };
        let before = machine.steps();
        let mut event = machine.run(&mut Journal(&mut evm.ctx), &mut ())?;
        self.step_limit = self.step_limit.saturating_sub(machine.steps() - before);
        if let Event::Foreign(Foreign::Create(create)) = &event
            && create.init_code.len() > evm.ctx.cfg().max_initcode_size()
        {
            event = Event::Halt(Halt::Trap, Vec::new());
        }
        let action = match event {
            Event::Halt(halt, data) => {
                let result = match halt {
                    Halt::Return => InstructionResult::Return,
                    Halt::Revert => InstructionResult::Revert,
                    Halt::Trap => InstructionResult::InvalidFEOpcode,
                };
                let gas = evm.frame_stack.get().interpreter.gas;
                InterpreterAction::Return(InterpreterResult { result, output: data.into(), gas })
            }
            Event::Foreign(foreign) => InterpreterAction::NewFrame(self.request(evm, foreign)?),
        };
        let frame = evm.frame_stack.get();
        let next = frame.process_next_action::<_, FrameError>(&mut evm.ctx, action).map_err(revm_error)?;
        if next.is_result() {
            evm.frame_stack.get().set_finished(true);
        }
        Ok(next)
    }

    /// The frame that the program asks for.
    fn request(&self, evm: &mut MainnetEvm<Context<'_>>, foreign: Foreign) -> Result<FrameInput, Error> {
        let available = self.gas - self.gas / 64;
        let interpreter = &evm.frame_stack.get().interpreter;
        let (this, caller) = (interpreter.input.target_address, interpreter.input.caller_address);
        let (apparent, is_static) = (interpreter.input.call_value, interpreter.runtime_flag.is_static);
        match foreign {
            Foreign::Create(ForeignCreate { value, init_code, salt }) => {
                let scheme = salt.map_or(CreateScheme::Create, |salt| CreateScheme::Create2 { salt });
                let inputs = CreateInputs::new(this, scheme, value, init_code.into(), available, 0);
                Ok(FrameInput::Create(Box::new(inputs)))
            }
            Foreign::Call(ForeignCall { opcode, gas, code, value, input }) => {
                let code = EvmAddress::from(code);
                let (scheme, target, caller, value) = match opcode {
                    Opcode::EvmCall => (CallScheme::Call, code, this, CallValue::Transfer(value)),
                    Opcode::EvmCallcode => (CallScheme::CallCode, this, this, CallValue::Transfer(value)),
                    Opcode::EvmDelegatecall => (CallScheme::DelegateCall, this, caller, CallValue::Apparent(apparent)),
                    _ => (CallScheme::StaticCall, code, this, CallValue::Transfer(Word::ZERO)),
                };
                let stipend = if matches!(value, CallValue::Transfer(value) if !value.is_zero()) { STIPEND } else { 0 };
                let Ok(account) = evm.ctx.journal_mut().load_account_with_code(code);
                let bytecode = account.info.code.clone().unwrap_or_default();
                Ok(FrameInput::Call(Box::new(CallInputs {
                    input: CallInput::Bytes(input.into()),
                    return_memory_offset: 0..0,
                    gas_limit: u64::try_from(gas).unwrap_or(u64::MAX).min(available) + stipend,
                    reservoir: 0,
                    bytecode_address: code,
                    known_bytecode: (account.info.code_hash, bytecode),
                    target_address: target,
                    caller,
                    value,
                    is_static: is_static || scheme == CallScheme::StaticCall,
                    scheme,
                    charged_new_account_state_gas: false,
                })))
            }
        }
    }
}

/// What the program learns of a frame that it asked for.
fn returned(result: &FrameResult) -> Returned {
    let InterpreterResult { result: halt, output, .. } = result.interpreter_result();
    let ok = halt.is_ok();
    match result {
        FrameResult::Call(_) => {
            let data = if halt.is_ok_or_revert() { output.to_vec() } else { Vec::new() };
            Returned { result: Word::from(ok), data }
        }
        FrameResult::Create(outcome) => {
            let address = outcome.address.filter(|_| ok).unwrap_or_default();
            let data = if halt.is_revert() { output.to_vec() } else { Vec::new() };
            Returned { result: address.into_word().into(), data }
        }
    }
}

fn revm_error<E: core::fmt::Debug>(error: E) -> Error {
    Error::Revm(format!("{error:?}"))
}

/// revm's journal as the interpreter's host. The database cannot fail, so that nothing here can.
struct Journal<'c, 's>(&'c mut Context<'s>);

impl Host for Journal<'_, '_> {
    fn storage(&mut self, account: &Address, key: &Word) -> Word {
        self.0.sload(account.into(), *key).map(|slot| slot.data).unwrap_or_default()
    }
    fn set_storage(&mut self, account: &Address, key: Word, value: Word) {
        self.0.sstore(account.into(), key, value);
    }
    fn transient(&mut self, account: &Address, key: &Word) -> Word {
        self.0.tload(account.into(), *key)
    }
    fn set_transient(&mut self, account: &Address, key: Word, value: Word) {
        self.0.tstore(account.into(), key, value);
    }
    fn log(&mut self, log: Log) {
        let topics = log.topics.iter().map(|topic| B256::from(*topic)).collect();
        self.0.log(revm::primitives::Log::new_unchecked(log.address.into(), topics, log.data.into()));
    }
    fn balance(&mut self, account: &Address) -> Word {
        revm::context_interface::Host::balance(self.0, account.into()).map(|balance| balance.data).unwrap_or_default()
    }
    fn code(&mut self, account: &Address) -> Cow<'_, [u8]> {
        let code = self.0.load_account_code(account.into()).map(|code| code.data.to_vec());
        Cow::Owned(code.unwrap_or_default())
    }
    fn exists(&mut self, account: &Address) -> bool {
        // The hash of an account that does not exist is zero (EIP-1052).
        self.0.load_account_code_hash(account.into()).is_some_and(|hash| !hash.data.is_zero())
    }
    fn block_hash(&mut self, number: u64) -> Option<Word> {
        let latest = self.0.block_number();
        let age = latest.checked_sub(Word::from(number))?;
        let known = !age.is_zero() && age <= Word::from(256);
        self.0.block_hash(number).filter(|_| known).map(Into::into)
    }
    fn blob_hash(&mut self, index: u64) -> Option<Word> {
        self.0.blob_hash(usize::try_from(index).ok()?)
    }
    fn selfdestruct(&mut self, account: &Address, heir: &Address) {
        // The result says what gas it costs.
        let _ = self.0.selfdestruct(account.into(), heir.into(), false);
    }
}
