//! The world an execution starts from: accounts with balance, nonce, code and storage.
//!
//! This is plain data with a deterministic order; executors read it and describe what changed as a [`Changes`].

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use zvm_ir::outcome::Address;
use zvm_ir::{Env, PreState, Word};

use crate::call;
use crate::error::Error;

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
            self.accounts.entry(*address).or_default().apply(change);
        }
    }
}

impl Account {
    /// Applies what an execution changed.
    pub fn apply(&mut self, change: &AccountChange) {
        if let Some(balance) = change.balance {
            self.balance = balance;
        }
        if let Some(nonce) = change.nonce {
            self.nonce = nonce;
        }
        if let Some(code) = &change.code {
            self.code.clone_from(code);
        }
        for (key, value) in &change.storage {
            if value.is_zero() {
                self.storage.remove(key);
            } else {
                self.storage.insert(*key, *value);
            }
        }
    }
}

impl Changes {
    /// What a later execution changed as well.
    pub fn extend(&mut self, later: &Self) {
        for (address, change) in &later.accounts {
            let AccountChange { balance, nonce, code, storage } = change;
            let all = self.accounts.entry(*address).or_default();
            all.balance = balance.or(all.balance);
            all.nonce = nonce.or(all.nonce);
            all.code = code.clone().or(all.code.take());
            all.storage.extend(storage);
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

impl PreState for World<'_> {
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

impl State {
    /// Reads the JSON shape of geth's `prestateTracer`: accounts by address, each with any of `balance`, `nonce`, `code`,
    /// `storage`. Numbers are JSON numbers, decimal strings or 0x-hex.
    ///
    /// # Errors
    /// Naming the account and field that is wrong.
    pub fn from_json(path: &str, json: &[u8]) -> Result<Self, Error> {
        let document: Value =
            serde_json::from_slice(json).map_err(|source| Error::Json { path: path.to_owned(), source })?;
        let wrong = |at: &str, expected| Error::Field { path: path.to_owned(), at: at.to_owned(), expected };
        let object = document.as_object().ok_or_else(|| wrong("the document", "an object of accounts"))?;
        let mut state = Self::default();
        for (key, fields) in object {
            let address = call::address(path, key)?;
            let fields = fields.as_object().ok_or_else(|| wrong(key, "an object"))?;
            let mut account = Account::default();
            for (name, value) in fields {
                let at = format!("{key}.{name}");
                let text = || call::scalar(value).ok_or_else(|| wrong(&at, "a number or a string"));
                match name.as_str() {
                    "balance" => account.balance = call::word(&at, &text()?)?,
                    "nonce" => {
                        let nonce = call::word(&at, &text()?)?;
                        account.nonce = u64::try_from(nonce).map_err(|_| wrong(&at, "below 2^64"))?;
                    }
                    "code" => account.code = call::bytes(&at, &text()?)?,
                    "codeHash" => {}
                    "storage" => {
                        let slots = value.as_object().ok_or_else(|| wrong(&at, "an object of slots"))?;
                        for (slot, value) in slots {
                            let at = format!("{at}.{slot}");
                            let value = call::scalar(value).ok_or_else(|| wrong(&at, "a number or a string"))?;
                            let value = call::word(&at, &value)?;
                            if !value.is_zero() {
                                account.storage.insert(call::word(&at, slot)?, value);
                            }
                        }
                    }
                    _ => return Err(wrong(&at, "one of balance, nonce, code, codeHash, storage")),
                }
            }
            state.accounts.insert(address, account);
        }
        Ok(state)
    }

    /// The same shape that [`State::from_json`] reads, with sorted keys and nothing that is zero.
    pub fn to_json(&self) -> Value {
        let accounts = self.accounts.iter().map(|(address, account)| {
            let mut fields = Map::new();
            fields.insert("balance".to_owned(), Value::from(format!("{:#x}", account.balance)));
            if account.nonce != 0 {
                fields.insert("nonce".to_owned(), Value::from(account.nonce));
            }
            if !account.code.is_empty() {
                fields.insert("code".to_owned(), Value::from(format!("0x{}", hex::encode(&account.code))));
            }
            if !account.storage.is_empty() {
                let slots = account.storage.iter();
                let slots = slots.map(|(key, value)| (format!("{key:#066x}"), Value::from(format!("{value:#066x}"))));
                fields.insert("storage".to_owned(), Value::Object(slots.collect()));
            }
            (format!("0x{}", hex::encode(address)), Value::Object(fields))
        });
        Value::Object(accounts.collect())
    }
}
