//! A chain of one account that sends transactions, in revm: whole transactions, with intrinsic gas and calldata.

use revm::context::{CfgEnv, TxEnv};
use revm::context_interface::result::{ExecutionResult, Output};
use revm::database::InMemoryDB;
use revm::handler::MainnetContext;
use revm::primitives::hardfork::SpecId;
use revm::primitives::{Address, Bytes, TxKind, U256};
use revm::{Database, ExecuteCommitEvm, MainBuilder};

/// The forks on which the contracts are tried.
pub(crate) const FORKS: [SpecId; 2] = [SpecId::PRAGUE, SpecId::OSAKA];
/// More than any transaction here needs, and no more than Osaka allows.
const GAS_LIMIT: u64 = 16_000_000;

pub(crate) struct Chain {
    db: InMemoryDB,
    fork: SpecId,
    nonce: u64,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) success: bool,
    pub(crate) output: Vec<u8>,
    pub(crate) gas: u64,
    pub(crate) created: Option<Address>,
}

impl Chain {
    pub(crate) fn new(fork: SpecId) -> Self {
        Self { db: InMemoryDB::default(), fork, nonce: 0 }
    }

    pub(crate) fn send(&mut self, kind: TxKind, data: &[u8]) -> Receipt {
        let tx = TxEnv {
            caller: Address::repeat_byte(0x11),
            gas_limit: GAS_LIMIT,
            gas_price: 0,
            kind,
            data: Bytes::copy_from_slice(data),
            nonce: self.nonce,
            ..TxEnv::default()
        };
        self.nonce += 1;
        let mut evm = MainnetContext::new(&mut self.db, self.fork)
            .with_cfg(CfgEnv::new_with_spec(self.fork).with_chain_id(1))
            .build_mainnet();
        let result = evm.transact_commit(tx).expect("a valid transaction");
        let gas = result.gas().tx_gas_used();
        match result {
            ExecutionResult::Success { output: Output::Call(data), .. } => {
                Receipt { success: true, output: data.to_vec(), gas, created: None }
            }
            ExecutionResult::Success { output: Output::Create(data, created), .. } => {
                Receipt { success: true, output: data.to_vec(), gas, created }
            }
            ExecutionResult::Revert { output, .. } => {
                Receipt { success: false, output: output.to_vec(), gas, created: None }
            }
            ExecutionResult::Halt { .. } => Receipt { success: false, output: Vec::new(), gas, created: None },
        }
    }

    /// Deploys creation code; `None` if it fails.
    pub(crate) fn deploy(&mut self, creation: &[u8]) -> Option<Address> {
        let receipt = self.send(TxKind::Create, creation);
        receipt.created.filter(|_| receipt.success)
    }

    pub(crate) fn call(&mut self, to: Address, data: &[u8]) -> Receipt {
        self.send(TxKind::Call(to), data)
    }

    pub(crate) fn storage(&mut self, account: Address, slot: u64) -> U256 {
        self.db.storage(account, U256::from(slot)).expect("no error of a memory database")
    }
}
