//! Runs bytecode in `revm` and IR in the reference interpreter, and compares the outcomes.

use std::collections::BTreeMap;

use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::context_interface::result::{ExecutionResult, HaltReason, Output};
use revm::database::{CacheDB, EmptyDB};
use revm::primitives::hardfork::SpecId;
use revm::primitives::{Address, B256, Bytes, TxKind, U256};
use revm::state::{AccountInfo, Bytecode};
use revm::{Context, ExecuteEvm, MainBuilder, MainContext};
use zvm_backend_evm::{Fork, Lowered, Optimize, Options, check, lower};
use zvm_ir::EmptyState;
use zvm_ir::interp::{self, Call};
use zvm_ir::{Env, Halt, Log, Module, Outcome, Word};

/// Who logs transfers of value (EIP-7708).
const SYSTEM: Address = revm::primitives::address!("0xfffffffffffffffffffffffffffffffffffffffe");

/// The fork of `revm` that is the same as ours.
pub(crate) fn spec(fork: Fork) -> SpecId {
    match fork {
        Fork::London => SpecId::LONDON,
        Fork::Paris => SpecId::MERGE,
        Fork::Shanghai => SpecId::SHANGHAI,
        Fork::Cancun => SpecId::CANCUN,
        Fork::Prague => SpecId::PRAGUE,
        Fork::Osaka => SpecId::OSAKA,
        Fork::Amsterdam => SpecId::AMSTERDAM,
    }
}

/// The environment of all tests: every field differs from every other.
pub(crate) fn env() -> Env {
    Env {
        callvalue: Word::from(7),
        gasprice: Word::from(11),
        coinbase: [0xcb; 20],
        timestamp: Word::from(1_700_000_000u64),
        number: Word::from(20_000_000u64),
        prevrandao: Word::from(0xdead_beefu64),
        gaslimit: Word::from(1u64 << 50),
        basefee: Word::from(10),
        blobbasefee: Word::from(1),
        selfbalance: Word::from(1007),
        ..Env::default()
    }
}

/// What bytecode does in `revm`, transient storage left out, and the gas it used. `None` when it ran out of gas.
pub(crate) fn execute(code: &[u8], fork: Fork, calldata: &[u8]) -> Option<(Outcome, u64)> {
    let env = env();
    let (address, caller) = (Address::from(env.address), Address::from(env.caller));
    let mut db = CacheDB::new(EmptyDB::default());
    let balance = U256::from(1000);
    let code = Bytecode::new_legacy(Bytes::copy_from_slice(code));
    db.insert_account_info(
        address,
        AccountInfo { balance, code_hash: code.hash_slow(), code: Some(code), ..AccountInfo::default() },
    );
    db.insert_account_info(caller, AccountInfo { balance: U256::from(u128::MAX), ..AccountInfo::default() });
    let mut cfg = CfgEnv::new_with_spec(spec(fork));
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    cfg.limit_contract_code_size = Some(usize::MAX);
    let block = BlockEnv {
        number: env.number,
        beneficiary: env.coinbase.into(),
        timestamp: env.timestamp,
        gas_limit: 1 << 50,
        basefee: 10,
        difficulty: env.prevrandao,
        prevrandao: Some(B256::from(env.prevrandao)),
        blob_excess_gas_and_price: Some(BlobExcessGasAndPrice { excess_blob_gas: 0, blob_gasprice: 1 }),
        ..BlockEnv::default()
    };
    let tx = TxEnv {
        caller,
        gas_limit: 2_000_000_000,
        gas_price: 11,
        kind: TxKind::Call(address),
        value: env.callvalue,
        data: Bytes::copy_from_slice(calldata),
        ..TxEnv::default()
    };
    let mut evm = Context::mainnet().with_db(db).with_cfg(cfg).with_block(block).build_mainnet();
    let result = evm.transact(tx).expect("the transaction is valid");
    let gas = result.result.tx_gas_used();
    let mut outcome = match result.result {
        ExecutionResult::Success { output, logs, .. } => {
            let data = match output {
                Output::Call(data) | Output::Create(data, _) => data.to_vec(),
            };
            let mut outcome = Outcome::halted(Halt::Return, data);
            outcome.logs = logs
                .iter()
                // From Amsterdam on, the arrival of the value is itself a log (EIP-7708), of the system's address.
                .filter(|log| log.address != SYSTEM)
                .map(|log| Log {
                    address: log.address.into(),
                    topics: log.topics().iter().map(|topic| Word::from_be_bytes(topic.0)).collect(),
                    data: log.data.data.to_vec(),
                })
                .collect();
            outcome
        }
        ExecutionResult::Revert { output, .. } => Outcome::halted(Halt::Revert, output.to_vec()),
        ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. } => return None,
        ExecutionResult::Halt { .. } => Outcome::halted(Halt::Trap, vec![]),
    };
    if outcome.halt == Halt::Return {
        for (account, state) in &result.state {
            for (key, slot) in &state.storage {
                if slot.is_changed() {
                    outcome.storage.insert(((*account).into(), *key), slot.present_value());
                }
            }
        }
    }
    Some((outcome, gas))
}

/// A module in text.
pub(crate) fn parse(text: &str) -> Module {
    zvm_ir::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// What the reference interpreter says, transient storage left out.
pub(crate) fn interpret(module: &Module, calldata: &[u8]) -> Outcome {
    let env = env();
    let mut outcome =
        interp::run(module, Call::new(calldata, &env), &EmptyState).expect("the interpreter has a result");
    outcome.transient = BTreeMap::new();
    outcome
}

/// Every way to lower.
pub(crate) fn all_options() -> Vec<Options> {
    let mut all = Vec::new();
    for fork in Fork::ALL {
        for optimize in [Optimize::None, Optimize::Gas, Optimize::Size] {
            all.push(Options { fork, optimize, ..Options::default() });
        }
    }
    all
}

/// The oldest, the default and the newest fork, each made cheap in another way.
pub(crate) fn some_options() -> Vec<Options> {
    vec![
        Options { fork: Fork::London, optimize: Optimize::None, ..Options::default() },
        Options { fork: Fork::Osaka, optimize: Optimize::Gas, ..Options::default() },
        Options { fork: Fork::Amsterdam, optimize: Optimize::Size, ..Options::default() },
    ]
}

/// Lowers, checks the code symbolically, and checks that lowering is deterministic.
#[track_caller]
pub(crate) fn lowered(module: &Module, options: &Options) -> Lowered {
    let result = match lower(module, options) {
        Ok(result) => result,
        Err(error) => panic!("{error}\n{module}"),
    };
    if let Err(errors) = check(&result) {
        panic!("the checker found: {:#?}\n{}\n{}", errors, result.legalized(), result.listing());
    }
    assert_eq!(lower(module, options).expect("it lowered once").code, result.code, "lowering is not deterministic");
    let schedule = result.schedule();
    assert!(
        schedule.bound <= schedule.gas && schedule.optimal <= schedule.blocks,
        "{schedule:?}\n{}",
        result.listing()
    );
    result
}

/// Lowers with the given options and compares with the interpreter on each calldata.
#[track_caller]
pub(crate) fn agree(module: &Module, options: &[Options], inputs: &[Vec<u8>]) {
    zvm_ir::verify(module).unwrap_or_else(|errors| panic!("{}\n{module}", errors[0]));
    let expected: Vec<Outcome> = inputs.iter().map(|input| interpret(module, input)).collect();
    for options in options {
        let result = lowered(module, options);
        for (input, expected) in inputs.iter().zip(&expected) {
            let found = execute(&result.code, options.fork, input).map(|(outcome, _)| outcome);
            if found.as_ref() != Some(expected) {
                panic!(
                    "{options:?}\ninput {input:02x?}\nexpected {expected:?}\nfound {found:?}\n{module}\n{}\n{}",
                    result.legalized(),
                    result.listing()
                );
            }
        }
    }
}

/// The calldata of some words.
pub(crate) fn words(words: &[Word]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect()
}

/// Words at the edges of what instructions distinguish.
pub(crate) fn corner_words() -> Vec<Word> {
    let one = Word::from(1);
    let half = one << 255;
    vec![
        Word::ZERO,
        one,
        Word::from(2),
        Word::from(7),
        Word::from(31),
        Word::from(32),
        Word::from(255),
        Word::from(256),
        Word::from(257),
        (one << 64) - one,
        (one << 128) - one,
        one << 128,
        (one << 128) + one,
        half - one,
        half,
        half + one,
        Word::MAX - one,
        Word::MAX,
    ]
}

/// A small random generator: the same numbers on every machine.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end.max(1)
    }

    pub(crate) fn word(&mut self) -> Word {
        let corners = corner_words();
        match self.below(3) {
            0 => corners[self.below(corners.len())],
            1 => Word::from(self.next()),
            _ => Word::from_limbs([self.next(), self.next(), self.next(), self.next()]),
        }
    }
}
