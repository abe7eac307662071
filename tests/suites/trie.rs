//! The roots and hashes that the suites give instead of states and logs.

use alloy_trie::TrieAccount;
use alloy_trie::root::{state_root_unhashed, storage_root_unhashed};
use revm::primitives::{Address as EvmAddress, B256, Log as EvmLog, keccak256};
use zvm::State;
use zvm_ir::Log;

/// The root of Ethereum's state trie.
pub(crate) fn state_root(state: &State) -> B256 {
    state_root_unhashed(state.accounts.iter().map(|(address, account)| {
        let storage = account.storage.iter().map(|(key, value)| (B256::from(*key), *value));
        let trie = TrieAccount {
            nonce: account.nonce,
            balance: account.balance,
            storage_root: storage_root_unhashed(storage),
            code_hash: keccak256(&account.code),
        };
        (EvmAddress::from(*address), trie)
    }))
}

/// The hash of the RLP list of logs.
pub(crate) fn logs_hash(logs: &[EvmLog]) -> B256 {
    let mut encoded = Vec::new();
    alloy_rlp::encode_list(logs, &mut encoded);
    keccak256(encoded)
}

/// Logs as `revm` has them.
pub(crate) fn evm_logs(logs: &[Log]) -> Vec<EvmLog> {
    let log = |log: &Log| {
        let topics = log.topics.iter().map(|topic| B256::from(*topic)).collect();
        EvmLog::new_unchecked(log.address.into(), topics, log.data.clone().into())
    };
    logs.iter().map(log).collect()
}
