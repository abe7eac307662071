//! The reference: a whole transaction in `revm`, under the rules of any fork, with what its instructions did.

use std::collections::BTreeSet;

use revm::bytecode::opcode;
use revm::context::result::{ExecutionResult, HaltReason};
use revm::context::transaction::AccessList;
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::ContextTr;
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::database::{CacheDB, EmptyDB};
use revm::handler::FrameResult;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_types::{Jumps, LegacyBytecode};
use revm::interpreter::{FrameInput, InstructionResult, Interpreter};
use revm::primitives::hardfork::SpecId;
use revm::primitives::{Address as EvmAddress, Bytes, Log, TxKind};
use revm::state::{AccountInfo, Bytecode, EvmState};
use revm::{Context, InspectEvm, Inspector, MainBuilder, MainContext};
use zvm::State;
use zvm::state::Account;
use zvm_ir::outcome::Address;
use zvm_ir::{Env, Word};

/// A transaction.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    /// The account that is called; `None` creates one.
    pub(crate) to: Option<Address>,
    pub(crate) sender: Address,
    pub(crate) nonce: u64,
    pub(crate) data: Vec<u8>,
    pub(crate) value: Word,
    pub(crate) gas_limit: u64,
    /// Or the highest price, where there is a tip.
    pub(crate) gas_price: u128,
    pub(crate) tip: Option<u128>,
    pub(crate) access_list: Option<AccessList>,
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub(crate) struct Reference {
    /// How it ended.
    pub(crate) end: End,
    pub(crate) output: Vec<u8>,
    pub(crate) logs: Vec<Log>,
    /// The state afterwards, fees included.
    pub(crate) post: State,
    /// Accounts that are deleted if they are empty.
    pub(crate) touched: BTreeSet<Address>,
    /// Gas that is paid for.
    pub(crate) gas_used: u64,
    /// Gas that the instructions and the transaction itself took, before anything is given back.
    pub(crate) gas_spent: u64,
    pub(crate) facts: Facts,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Revert,
    Halt(HaltReason),
}

/// What the instructions of a transaction did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The gas of the first frame.
    pub(crate) first_gas: u64,
    /// Accounts whose code was executed.
    pub(crate) executed: BTreeSet<Address>,
    /// Whether code ended for want of gas, somewhere.
    pub(crate) out_of_gas: bool,
    /// Accounts whose code uses GAS for something else than the call that follows; `None` is code that creates an account.
    pub(crate) observes_gas: BTreeSet<Option<Address>>,
    /// Accounts whose code was looked at from outside.
    pub(crate) looked_at: BTreeSet<Address>,
    /// Instructions executed.
    pub(crate) steps: u64,
    /// The most memory that a frame had, or asked for as creation code, in bytes.
    pub(crate) memory: usize,
    /// Whether the hash of a block that exists was asked for.
    pub(crate) block_hash: bool,
}

/// Runs a transaction.
///
/// # Errors
/// When it is not valid under the rules of the fork.
pub(crate) fn transact(spec: SpecId, tx: &Transaction, block: &Env, pre: &State) -> Result<Reference, String> {
    let mut db = CacheDB::new(EmptyDB::default());
    for (address, account) in &pre.accounts {
        let code = Bytecode::new_legacy(Bytes::copy_from_slice(&account.code));
        let info = AccountInfo::new(account.balance, account.nonce, code.hash_slow(), code);
        db.insert_account_info(address.into(), info);
        for (key, value) in &account.storage {
            db.insert_account_storage(address.into(), *key, *value).map_err(|error| error.to_string())?;
        }
    }
    let mut cfg = CfgEnv::new_with_spec(spec);
    // The suites are older than the cap of EIP-7825.
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    let block_env = BlockEnv {
        number: block.number,
        beneficiary: block.coinbase.into(),
        timestamp: block.timestamp,
        gas_limit: u64::try_from(block.gaslimit).unwrap_or(u64::MAX),
        basefee: u64::try_from(block.basefee).map_err(|error| error.to_string())?,
        difficulty: block.prevrandao,
        prevrandao: Some(block.prevrandao.into()),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice: 1 }),
        ..BlockEnv::default()
    };
    let mut tx_env = TxEnv {
        caller: tx.sender.into(),
        gas_limit: tx.gas_limit,
        gas_price: tx.gas_price,
        gas_priority_fee: tx.tip,
        kind: tx.to.map_or(TxKind::Create, |to| TxKind::Call(to.into())),
        value: tx.value,
        data: Bytes::copy_from_slice(&tx.data),
        nonce: tx.nonce,
        access_list: tx.access_list.clone().unwrap_or_default(),
        ..TxEnv::default()
    };
    tx_env.tx_type = match (tx.tip, &tx.access_list) {
        (Some(_), _) => 2,
        (None, Some(_)) => 1,
        (None, None) => 0,
    };
    let recorder = Recorder::default();
    let context = Context::mainnet().with_db(db).with_cfg(cfg).with_block(block_env);
    let mut evm = context.build_mainnet_with_inspector(recorder);
    let result = evm.inspect_tx(tx_env).map_err(|error| error.to_string())?;
    let (gas_used, gas_spent) = (result.result.tx_gas_used(), result.result.gas().total_gas_spent());
    let (end, output, logs) = match result.result {
        ExecutionResult::Success { output, logs, .. } => (End::Success, output.data().to_vec(), logs),
        ExecutionResult::Revert { output, .. } => (End::Revert, output.to_vec(), Vec::new()),
        ExecutionResult::Halt { reason, .. } => (End::Halt(reason), Vec::new(), Vec::new()),
    };
    let (post, touched) = settled(pre, &result.state);
    Ok(Reference { end, output, logs, post, touched, gas_used, gas_spent, facts: evm.inspector.facts })
}

/// The state after what the journal holds.
fn settled(pre: &State, journal: &EvmState) -> (State, BTreeSet<Address>) {
    let mut post = pre.clone();
    let mut touched = BTreeSet::new();
    for (address, account) in journal {
        if !account.is_touched() {
            continue;
        }
        let address: Address = (*address).into();
        touched.insert(address);
        if account.is_selfdestructed() || account.is_empty() {
            post.accounts.remove(&address);
            continue;
        }
        let known = post.accounts.entry(address).or_default();
        let Account { balance, nonce, code, storage } = known;
        (*balance, *nonce) = (account.info.balance, account.info.nonce);
        if account.is_created() {
            *code = account.info.code.as_ref().map(|code| code.original_bytes().to_vec()).unwrap_or_default();
        }
        for (key, slot) in &account.storage {
            if slot.present_value.is_zero() {
                storage.remove(key);
            } else {
                storage.insert(*key, slot.present_value);
            }
        }
    }
    (post, touched)
}

#[derive(Debug, Default)]
struct Recorder {
    facts: Facts,
    /// Whether a frame has begun.
    started: bool,
}

impl<CTX: ContextTr> Inspector<CTX, EthInterpreter> for Recorder {
    fn initialize_interp(&mut self, interp: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        if !core::mem::replace(&mut self.started, true) {
            self.facts.first_gas = interp.gas.limit();
        }
    }

    fn step(&mut self, interp: &mut Interpreter<EthInterpreter>, context: &mut CTX) {
        self.facts.steps += 1;
        self.facts.memory = self.facts.memory.max(interp.memory.len());
        let account = interp.input.bytecode_address.map(Address::from);
        let top = |interp: &Interpreter<EthInterpreter>| interp.stack.data().last().copied().unwrap_or_default();
        match interp.bytecode.opcode() {
            opcode::GAS => {
                let next = interp.bytecode.bytecode_slice().get(interp.bytecode.pc() + 1).copied();
                let calls = [opcode::CALL, opcode::CALLCODE, opcode::DELEGATECALL, opcode::STATICCALL];
                if !next.is_some_and(|next| calls.contains(&next)) {
                    self.facts.observes_gas.insert(account);
                }
            }
            opcode::EXTCODESIZE | opcode::EXTCODECOPY | opcode::EXTCODEHASH => {
                let address = EvmAddress::from_word(top(interp).into());
                self.facts.looked_at.insert(address.into());
            }
            // Creation code that is too long ends a frame before its memory grows.
            opcode::CREATE | opcode::CREATE2 => {
                if let [.., len, offset, _] = interp.stack.data()[..]
                    && !len.is_zero()
                {
                    let end = usize::try_from(offset.saturating_add(len)).unwrap_or(usize::MAX);
                    self.facts.memory = self.facts.memory.max(end);
                }
            }
            opcode::BLOCKHASH => {
                let number = context.block_number();
                let age = number.checked_sub(top(interp)).unwrap_or_default();
                self.facts.block_hash |= !age.is_zero() && age <= Word::from(256);
            }
            _ => {}
        }
        self.facts.executed.extend(account);
    }

    fn step_end(&mut self, interp: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        self.facts.memory = self.facts.memory.max(interp.memory.len());
    }

    fn frame_end(&mut self, _: &mut CTX, _: &FrameInput, result: &mut FrameResult) {
        use InstructionResult as R;
        let want = [R::OutOfGas, R::MemoryOOG, R::MemoryLimitOOG, R::InvalidOperandOOG, R::ReentrancySentryOOG];
        self.facts.out_of_gas |= want.contains(&result.interpreter_result().result);
    }
}
