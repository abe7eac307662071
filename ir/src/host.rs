//! The world outside the program: what an execution reads of it and changes in it.
//!
//! [`Host`] is what the interpreter asks. [`Ledger`] is a host over a [`PreState`] that never changes: it keeps what the
//! program did in memory and makes the [`Outcome`] of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::Word;
use crate::outcome::{Address, Halt, Log, Outcome};

/// The world as an execution sees and changes it. Accounts that were never heard of are empty.
///
/// A host undoes nothing: what an execution that reverts or traps has done is for whoever runs it to drop.
pub trait Host {
    /// The word at `key` of the storage of `account`.
    fn storage(&mut self, account: &Address, key: &Word) -> Word;
    /// Writes `value` there.
    fn set_storage(&mut self, account: &Address, key: Word, value: Word);
    /// The word at `key` of the transient storage of `account` (EIP-1153).
    fn transient(&mut self, account: &Address, key: &Word) -> Word;
    /// Writes `value` there.
    fn set_transient(&mut self, account: &Address, key: Word, value: Word);
    /// Appends a log.
    fn log(&mut self, log: Log);
    /// The balance of `account` in wei.
    fn balance(&mut self, account: &Address) -> Word;
    /// The code of `account`; empty if there is none.
    fn code(&mut self, account: &Address) -> Cow<'_, [u8]>;
    /// Whether `account` exists (EIP-161: nonce, balance or code is not zero).
    fn exists(&mut self, account: &Address) -> bool;
    /// The hash of block `number`, if it is one of the latest 256 before the current one.
    fn block_hash(&mut self, number: u64) -> Option<Word>;
    /// The versioned hash of the transaction's blob `index`.
    fn blob_hash(&mut self, index: u64) -> Option<Word>;
    /// `account` leaves its balance to `heir`, and exists no more if it was created in this transaction (EIP-6780).
    fn selfdestruct(&mut self, account: &Address, heir: &Address);
}

/// The state of the world before an execution.
pub trait PreState {
    /// The word at `key` of the storage of `account`.
    fn storage(&self, account: &Address, key: &Word) -> Word;
    /// The balance of `account` in wei.
    fn balance(&self, account: &Address) -> Word;
    /// The code of `account`; empty if there is none.
    fn code(&self, account: &Address) -> &[u8];
    /// Whether `account` exists (EIP-161: nonce, balance or code is not zero).
    fn exists(&self, account: &Address) -> bool;
    /// The hash of block `number`, if it is one of the latest 256 before the current one.
    fn block_hash(&self, number: u64) -> Option<Word>;
    /// The versioned hash of the transaction's blob `index`.
    fn blob_hash(&self, index: u64) -> Option<Word>;
}

/// A world in which nothing exists: no storage, no balances, no code.
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyState;

impl PreState for EmptyState {
    fn storage(&self, _: &Address, _: &Word) -> Word {
        Word::ZERO
    }
    fn balance(&self, _: &Address) -> Word {
        Word::ZERO
    }
    fn code(&self, _: &Address) -> &[u8] {
        &[]
    }
    fn exists(&self, _: &Address) -> bool {
        false
    }
    fn block_hash(&self, _: u64) -> Option<Word> {
        None
    }
    fn blob_hash(&self, _: u64) -> Option<Word> {
        None
    }
}

/// A host for one execution that runs no code of other accounts: writes and logs over a [`PreState`].
pub struct Ledger<'a> {
    pre: &'a dyn PreState,
    account: Address,
    balance: Word,
    storage: BTreeMap<(Address, Word), Word>,
    transient: BTreeMap<(Address, Word), Word>,
    logs: Vec<Log>,
}

impl<'a> Ledger<'a> {
    /// A host of the executing `account`, which holds `balance` wei, the value of the call included.
    pub fn new(pre: &'a dyn PreState, account: Address, balance: Word) -> Self {
        Self { pre, account, balance, storage: BTreeMap::new(), transient: BTreeMap::new(), logs: Vec::new() }
    }

    /// The outcome of an execution that halted so: what it did counts if it returned.
    pub fn outcome(self, halt: Halt, data: Vec<u8>) -> Outcome {
        let mut outcome = Outcome::halted(halt, data);
        if halt == Halt::Return {
            let pre = self.pre;
            outcome.logs = self.logs;
            outcome.storage = self.storage;
            outcome.storage.retain(|(account, key), value| pre.storage(account, key) != *value);
            outcome.transient = self.transient;
            outcome.transient.retain(|_, value| !value.is_zero());
        }
        outcome
    }
}

impl Host for Ledger<'_> {
    fn storage(&mut self, account: &Address, key: &Word) -> Word {
        let written = self.storage.get(&(*account, *key)).copied();
        written.unwrap_or_else(|| self.pre.storage(account, key))
    }
    fn set_storage(&mut self, account: &Address, key: Word, value: Word) {
        self.storage.insert((*account, key), value);
    }
    fn transient(&mut self, account: &Address, key: &Word) -> Word {
        self.transient.get(&(*account, *key)).copied().unwrap_or_default()
    }
    fn set_transient(&mut self, account: &Address, key: Word, value: Word) {
        self.transient.insert((*account, key), value);
    }
    fn log(&mut self, log: Log) {
        self.logs.push(log);
    }
    fn balance(&mut self, account: &Address) -> Word {
        if *account == self.account { self.balance } else { self.pre.balance(account) }
    }
    fn code(&mut self, account: &Address) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.pre.code(account))
    }
    fn exists(&mut self, account: &Address) -> bool {
        self.pre.exists(account)
    }
    fn block_hash(&mut self, number: u64) -> Option<Word> {
        self.pre.block_hash(number)
    }
    fn blob_hash(&mut self, index: u64) -> Option<Word> {
        self.pre.blob_hash(index)
    }
    /// Balances are not part of an outcome, and the execution ends here.
    fn selfdestruct(&mut self, _: &Address, _: &Address) {}
}
