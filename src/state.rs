//! The world an execution starts from: accounts with balance, nonce, code and storage.
//!
//! This is plain data with a deterministic order; executors read it and describe what changed as a [`Changes`].

use std::collections::BTreeMap;

use zvm_ir::outcome::Address;
use zvm_ir::{Env, Host, Word};

/// One account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Balance in wei.
    pub balance: Word,
    /// Transactions sent, or accounts created.
    pub nonce: u64,
    /// Runtime bytecode; empty for an account without code.
    pub code: Vec<u8>,
    /// The slots that are not zero.
    pub storage: BTreeMap<Word, Word>,
}

/// All accounts by address. An address that is absent is an account with nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The accounts.
    pub accounts: BTreeMap<Address, Account>,
}

/// What one execution changed, account by account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The accounts touched.
    pub accounts: BTreeMap<Address, AccountChange>,
}

/// What one execution changed in an account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountChange {
    /// The balance afterwards, in wei; `None` when nobody looked at the account itself.
    pub balance: Option<Word>,
    /// The nonce afterwards.
    pub nonce: Option<u64>,
    /// The code afterwards, when the account was created.
    pub code: Option<Vec<u8>>,
    /// Slots with their value afterwards; zero clears one.
    pub storage: BTreeMap<Word, Word>,
}

impl State {
    /// The value of a storage slot; zero where nothing is stored.
    pub fn slot(&self, address: &Address, key: &Word) -> Word {
        self.accounts.get(address).and_then(|account| account.storage.get(key)).copied().unwrap_or_default()
    }

    /// Applies what an execution changed.
    pub fn apply(&mut self, changes: &Changes) {
        for (address, change) in &changes.accounts {
            let account = self.accounts.entry(*address).or_default();
            if let Some(balance) = change.balance {
                account.balance = balance;
            }
            if let Some(nonce) = change.nonce {
                account.nonce = nonce;
            }
            if let Some(code) = &change.code {
                account.code.clone_from(code);
            }
            for (key, value) in &change.storage {
                if value.is_zero() {
                    account.storage.remove(key);
                } else {
                    account.storage.insert(*key, *value);
                }
            }
        }
    }
}

/// A [`State`] as the interpreter sees it: the program stands at the executing account's address.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The accounts.
    pub state: &'a State,
    /// The environment of the execution.
    pub env: &'a Env,
    /// The runtime bytecode at [`Env::address`].
    pub code: &'a [u8],
}

impl Host for World<'_> {
    fn storage(&self, address: &Address, key: &Word) -> Word {
        self.state.slot(address, key)
    }

    fn balance(&self, address: &Address) -> Word {
        if *address == self.env.address {
            return self.env.selfbalance;
        }
        self.state.accounts.get(address).map_or(Word::ZERO, |account| account.balance)
    }

    fn code(&self, address: &Address) -> &[u8] {
        if *address == self.env.address {
            return self.code;
        }
        self.state.accounts.get(address).map_or(&[], |account| &account.code)
    }

    fn exists(&self, address: &Address) -> bool {
        let known = self.state.accounts.get(address);
        known.is_some_and(|account| account.nonce != 0)
            || !self.balance(address).is_zero()
            || !self.code(address).is_empty()
    }

    fn block_hash(&self, _: u64) -> Option<Word> {
        None
    }

    fn blob_hash(&self, _: u64) -> Option<Word> {
        None
    }
}
