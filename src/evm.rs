//! Executors E0 and E2: bytecode in `revm`.
//!
//! One call frame is run with the code installed at [`Env::address`], not a transaction: there is no intrinsic gas, no nonce,
//! no fee and no check of balances, so that `origin` may differ from `caller`, and gas is *execution gas* only. Running
//! out of the (high) gas limit is an error of the executor, never an outcome. Transaction-level refunds are not
//! subtracted from gas.
//!
//! Not modelled: BLOCKHASH and BLOBHASH are zero for every argument, and SLOTNUM does not exist in this fork.

pub mod deploy;
mod interpreted;
pub mod preimages;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use revm::bytecode::{Bytecode, opcode};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::result::EVMError;
use revm::handler::{EthFrame, FrameResult, Handler, MainnetContext, MainnetHandler, pre_execution};
use revm::inspector::InspectorHandler;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_action::FrameInit;
use revm::interpreter::interpreter_types::{Jumps, LoopControl};
use revm::interpreter::{
    CallInput, CallInputs, CallScheme, CallValue, FrameInput, InstructionResult, Interpreter, SharedMemory,
};
use revm::primitives::hardfork::SpecId;
use revm::primitives::{Address as EvmAddress, B256, Bytes, KECCAK_EMPTY, TxKind};
use revm::state::{AccountInfo, EvmState, TransientStorage};
use revm::{Database, Inspector, MainBuilder, MainnetEvm};
use zvm_backend_evm::Fork;
use zvm_ir::outcome::{Address, Halt, Log, Outcome};
use zvm_ir::{Env, Pc, Word};

use crate::error::Error;
use crate::state::{AccountChange, Changes, State};

/// The fork whose rules E0 and E2 apply unless another is asked for: the newest that is final in the pinned `revm`.
pub const FORK: SpecId = SpecId::OSAKA;

/// The gas an execution may use. Quadratic memory cost keeps memory below 80 MB.
pub const GAS_LIMIT: u64 = 10_000_000_000;

/// The result of one execution.
#[derive(Clone, Debug)]
pub struct Execution {
    /// What is observable.
    pub outcome: Outcome,
    /// What changed in the state; empty unless the program returned.
    pub changes: Changes,
    /// Execution gas.
    pub gas: u64,
}

/// What [`Evm::inspect`] saw of the program's own instructions; code of other accounts does not count.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Execution gas without the storage, log, call and create instructions.
    pub compute_gas: u64,
    /// Instructions executed.
    pub instructions: u64,
    /// Every jump that was taken: position of the JUMP or JUMPI, position of the JUMPDEST.
    pub jumps: BTreeSet<(Pc, Pc)>,
    /// How many jumps were taken.
    pub taken: u64,
    /// How often each instruction was executed, by its position.
    pub counts: BTreeMap<Pc, u64>,
}

/// Runs one program in `revm`.
#[derive(Clone, Debug)]
pub struct Evm {
    code: Bytecode,
    hash: B256,
    gas_limit: u64,
    fork: SpecId,
}

impl Evm {
    /// An executor of runtime bytecode, of any length.
    pub fn new(code: &[u8]) -> Self {
        let code = Bytecode::new_legacy(Bytes::copy_from_slice(code));
        let hash = code.hash_slow();
        Self { code, hash, gas_limit: GAS_LIMIT, fork: FORK }
    }

    /// The same executor with another gas limit, in gas.
    pub fn with_gas_limit(mut self, gas_limit: u64) -> Self {
        self.gas_limit = gas_limit;
        self
    }

    /// The same executor by the rules of another fork.
    pub fn with_fork(mut self, fork: Fork) -> Self {
        self.fork = match fork {
            Fork::London => SpecId::LONDON,
            Fork::Paris => SpecId::MERGE,
            Fork::Shanghai => SpecId::SHANGHAI,
            Fork::Cancun => SpecId::CANCUN,
            Fork::Prague => SpecId::PRAGUE,
            Fork::Osaka => SpecId::OSAKA,
            Fork::Amsterdam => SpecId::AMSTERDAM,
        };
        self
    }

    /// The gas an execution may use.
    pub fn gas_limit(&self) -> u64 {
        self.gas_limit
    }

    /// Runs a call.
    ///
    /// # Errors
    /// When the gas limit is reached, or the environment cannot exist in a block.
    pub fn run(&self, calldata: &[u8], env: &Env, pre: &State) -> Result<Execution, Error> {
        let mut evm = self.context(env, pre)?.build_mainnet();
        let frame = self.prepare(&mut evm, calldata, env)?;
        let result = Mainnet::default().run_exec_loop(&mut evm, frame);
        self.finish(result, &mut evm)
    }

    /// Runs a call and records what its instructions did. Slower than [`Evm::run`].
    ///
    /// # Errors
    /// As [`Evm::run`].
    pub fn inspect(&self, calldata: &[u8], env: &Env, pre: &State) -> Result<(Execution, Trace), Error> {
        let recorder = Recorder::new(EvmAddress::from(env.address));
        let mut evm = self.context(env, pre)?.build_mainnet_with_inspector(recorder);
        let frame = self.prepare(&mut evm, calldata, env)?;
        let result = Mainnet::default().inspect_run_exec_loop(&mut evm, frame);
        let execution = self.finish(result, &mut evm)?;
        Ok((execution, evm.inspector.trace))
    }

    pub(crate) fn context<'s>(&'s self, env: &Env, pre: &'s State) -> Result<MainnetContext<View<'s>>, Error> {
        let address = EvmAddress::from(env.address);
        let db = View { state: pre, program: address, code: &self.code, hash: self.hash, balance: env.selfbalance };
        let block = BlockEnv {
            number: env.number,
            beneficiary: env.coinbase.into(),
            timestamp: env.timestamp,
            gas_limit: fit(env.gaslimit, "gas limit")?,
            basefee: fit(env.basefee, "base fee")?,
            prevrandao: Some(env.prevrandao.into()),
            blob_excess_gas_and_price: Some(BlobExcessGasAndPrice {
                excess_blob_gas: 0,
                blob_gasprice: fit(env.blobbasefee, "blob base fee")?,
            }),
            ..BlockEnv::default()
        };
        let tx = TxEnv {
            caller: env.origin.into(),
            gas_limit: self.gas_limit,
            gas_price: fit(env.gasprice, "gas price")?,
            kind: TxKind::Call(address),
            ..TxEnv::default()
        };
        let chain_id = fit(env.chainid, "chain id")?;
        let cfg = CfgEnv::new_with_spec(self.fork).with_chain_id(chain_id);
        Ok(MainnetContext::new(db, self.fork).with_cfg(cfg).with_block(block).with_tx(tx))
    }

    pub(crate) fn prepare<I>(
        &self,
        evm: &mut MainnetEvm<MainnetContext<View<'_>>, I>,
        calldata: &[u8],
        env: &Env,
    ) -> Result<FrameInit, Error> {
        let address = EvmAddress::from(env.address);
        let inputs = CallInputs {
            input: CallInput::Bytes(Bytes::copy_from_slice(calldata)),
            return_memory_offset: 0..0,
            gas_limit: self.gas_limit,
            reservoir: 0,
            bytecode_address: address,
            known_bytecode: (self.hash, self.code.clone()),
            target_address: address,
            caller: env.caller.into(),
            // The value has arrived already: `selfbalance` includes it.
            value: CallValue::Apparent(env.callvalue),
            scheme: CallScheme::Call,
            is_static: false,
            charged_new_account_state_gas: false,
        };
        first_frame(evm, env, env.address, FrameInput::Call(Box::new(inputs)))
    }

    pub(crate) fn finish<I>(
        &self,
        result: Result<FrameResult, FrameError>,
        evm: &mut MainnetEvm<MainnetContext<View<'_>>, I>,
    ) -> Result<Execution, Error> {
        let result = result.map_err(|error| Error::Revm(error.to_string()))?;
        let output = result.interpreter_result();
        let gas = output.gas.total_gas_spent();
        let halt = match halt(output.result) {
            Ok(halt) => halt,
            Err(Limit::Gas(reason)) => return Err(Error::OutOfGas { limit: self.gas_limit, reason }),
            Err(Limit::Fatal) => return Err(Error::Revm(format!("{:?}", output.result))),
        };
        let data = if halt == Halt::Trap { Vec::new() } else { output.output.to_vec() };
        let mut outcome = Outcome::halted(halt, data);
        let mut changes = Changes::default();
        if halt == Halt::Return {
            let journal = &mut evm.ctx.journaled_state.inner;
            outcome.logs = journal.take_logs().iter().map(log).collect();
            outcome.transient = transient(&journal.transient_storage);
            let pre = evm.ctx.journaled_state.database.state;
            changes = describe(&journal.state, pre);
            outcome.storage = changes
                .accounts
                .iter()
                .flat_map(|(address, change)| change.storage.iter().map(|(key, value)| ((*address, *key), *value)))
                .collect();
        }
        Ok(Execution { outcome, changes, gas })
    }
}

/// The outermost frame, with the accounts that a transaction finds loaded, and `account`.
fn first_frame<I>(
    evm: &mut MainnetEvm<MainnetContext<View<'_>>, I>,
    env: &Env,
    account: Address,
    frame_input: FrameInput,
) -> Result<FrameInit, Error> {
    if evm.precompiles.contains(&EvmAddress::from(env.address)) {
        return Err(Error::Precompile(env.address));
    }
    pre_execution::load_accounts::<_, FrameError>(evm).map_err(|error| Error::Revm(error.to_string()))?;
    let Ok(_) = evm.ctx.journaled_state.inner.load_account(&mut evm.ctx.journaled_state.database, account.into());
    let memory = SharedMemory::new_with_buffer(evm.ctx.local.shared_memory_buffer.clone());
    Ok(FrameInit { depth: 0, memory, frame_input })
}

pub(crate) type FrameError = EVMError<Infallible>;
type Mainnet<'s, I> = MainnetHandler<MainnetEvm<MainnetContext<View<'s>>, I>, FrameError, EthFrame<EthInterpreter>>;

enum Limit {
    Gas(&'static str),
    Fatal,
}

/// The halt of the outermost frame, or why there is none. Every reason is spelled out: a new one must be classified.
fn halt(result: InstructionResult) -> Result<Halt, Limit> {
    use InstructionResult as R;
    Ok(match result {
        R::Stop | R::Return | R::SelfDestruct => Halt::Return,
        R::Revert => Halt::Revert,
        R::OutOfGas => return Err(Limit::Gas("computation")),
        R::MemoryOOG | R::MemoryLimitOOG => return Err(Limit::Gas("memory")),
        R::PrecompileOOG => return Err(Limit::Gas("precompile")),
        // An offset or length beyond 2^64 costs more gas than can exist.
        R::InvalidOperandOOG => return Err(Limit::Gas("operand")),
        R::ReentrancySentryOOG => return Err(Limit::Gas("reentrancy sentry")),
        R::OpcodeNotFound
        | R::CallNotAllowedInsideStatic
        | R::StateChangeDuringStaticCall
        | R::InvalidFEOpcode
        | R::InvalidJump
        | R::NotActivated
        | R::StackUnderflow
        | R::StackOverflow
        | R::OutOfOffset
        | R::CreateCollision
        | R::OverflowPayment
        | R::PrecompileError
        | R::NonceOverflow
        | R::CreateContractSizeLimit
        | R::CreateContractStartingWithEF
        | R::CreateInitCodeSizeLimit
        | R::InvalidImmediateEncoding => Halt::Trap,
        // Reasons that only a frame inside another can have, and a database that failed.
        R::Suspend
        | R::CallTooDeep
        | R::OutOfFunds
        | R::CreateInitCodeStartingEF00
        | R::InvalidEOFInitCode
        | R::InvalidExtDelegateCallTarget
        | R::FatalExternalError => return Err(Limit::Fatal),
    })
}

fn fit<T>(value: Word, field: &'static str) -> Result<T, Error>
where
    T: TryFrom<Word>,
{
    let bits = 8 * size_of::<T>() as u32;
    T::try_from(value).map_err(|_| Error::EnvRange { field, value, bits })
}

fn log(log: &revm::primitives::Log) -> Log {
    Log {
        address: log.address.into(),
        topics: log.data.topics().iter().map(|topic| Word::from_be_bytes(topic.0)).collect(),
        data: log.data.data.to_vec(),
    }
}

fn transient(storage: &TransientStorage) -> BTreeMap<(Address, Word), Word> {
    let slots =
        storage.iter().flat_map(|(address, slots)| slots.iter().map(move |(key, value)| (*address, *key, *value)));
    slots.filter(|(_, _, value)| !value.is_zero()).map(|(address, key, value)| ((address.into(), key), value)).collect()
}

/// What the journal holds that differs from the pre-state.
fn describe(state: &EvmState, pre: &State) -> Changes {
    let mut changes = Changes::default();
    for (address, account) in state {
        let address: Address = (*address).into();
        let before = pre.accounts.get(&address);
        let mut change = AccountChange::default();
        if account.is_selfdestructed() {
            // Created and destroyed by the same execution: nothing is left, not even what had been sent there before.
            change.balance = before.filter(|a| !a.balance.is_zero()).map(|_| Word::ZERO);
            if change.balance.is_some() {
                changes.accounts.insert(address, change);
            }
            continue;
        }
        for (key, slot) in &account.storage {
            if slot.present_value != pre.slot(&address, key) {
                change.storage.insert(*key, slot.present_value);
            }
        }
        if account.info.balance != before.map_or(Word::ZERO, |a| a.balance) {
            change.balance = Some(account.info.balance);
        }
        if account.info.nonce != before.map_or(0, |a| a.nonce) {
            change.nonce = Some(account.info.nonce);
        }
        if account.is_created() && account.info.code_hash != KECCAK_EMPTY {
            change.code = account.info.code.as_ref().map(|code| code.original_bytes().to_vec());
        }
        if change != AccountChange::default() {
            changes.accounts.insert(address, change);
        }
    }
    changes
}

/// The pre-state as revm's database, with the program at its address.
#[derive(Debug)]
pub(crate) struct View<'s> {
    state: &'s State,
    program: EvmAddress,
    code: &'s Bytecode,
    hash: B256,
    balance: Word,
}

impl Database for View<'_> {
    type Error = Infallible;

    fn basic(&mut self, address: EvmAddress) -> Result<Option<AccountInfo>, Infallible> {
        let account = self.state.accounts.get(&address.into_array());
        if address == self.program {
            let nonce = account.map_or(0, |account| account.nonce);
            return Ok(Some(AccountInfo::new(self.balance, nonce, self.hash, self.code.clone())));
        }
        Ok(account.map(|account| {
            let code = Bytecode::new_legacy(Bytes::copy_from_slice(&account.code));
            AccountInfo::new(account.balance, account.nonce, code.hash_slow(), code)
        }))
    }

    fn code_by_hash(&mut self, _: B256) -> Result<Bytecode, Infallible> {
        // `basic` always gives the code, so that revm has no hash to look up but that of accounts without code.
        Ok(Bytecode::new())
    }

    fn storage(&mut self, address: EvmAddress, key: Word) -> Result<Word, Infallible> {
        Ok(self.state.slot(&address.into_array(), &key))
    }

    fn block_hash(&mut self, _: u64) -> Result<B256, Infallible> {
        Ok(B256::ZERO)
    }
}

/// Records jumps and gas of the frames that run the program's code.
#[derive(Debug)]
struct Recorder {
    program: EvmAddress,
    trace: Trace,
    /// Position and opcode of the instruction being executed, and the gas left before it; `None` in foreign code.
    current: Option<(usize, u8, u64)>,
}

impl Recorder {
    fn new(program: EvmAddress) -> Self {
        Self { program, trace: Trace::default(), current: None }
    }
}

impl<CTX> Inspector<CTX, EthInterpreter> for Recorder {
    fn step(&mut self, interp: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        if interp.input.bytecode_address != Some(self.program) {
            self.current = None;
            return;
        }
        let pc = interp.bytecode.pc();
        self.current = Some((pc, interp.bytecode.opcode(), interp.gas.remaining()));
        self.trace.instructions += 1;
        *self.trace.counts.entry(pc as Pc).or_default() += 1;
    }

    fn step_end(&mut self, interp: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        let Some((pc, op, before)) = self.current.take() else { return };
        if !is_priced_apart(op) {
            self.trace.compute_gas += before.saturating_sub(interp.gas.remaining());
        }
        let after = interp.bytecode.pc();
        if matches!(op, opcode::JUMP | opcode::JUMPI) && interp.bytecode.is_not_end() && after != pc + 1 {
            self.trace.jumps.insert((pc as Pc, after as Pc));
            self.trace.taken += 1;
        }
    }
}

/// The storage, log, call and create instructions, which compute gas leaves out.
fn is_priced_apart(op: u8) -> bool {
    matches!(
        op,
        opcode::SLOAD | opcode::SSTORE | opcode::TLOAD | opcode::TSTORE | opcode::LOG0
            ..=opcode::LOG4
                | opcode::CREATE
                | opcode::CREATE2
                | opcode::CALL
                | opcode::CALLCODE
                | opcode::DELEGATECALL
                | opcode::STATICCALL
                | opcode::SELFDESTRUCT
    )
}
