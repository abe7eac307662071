//! The JSON of the suites: files, numbers, accounts.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use zvm::State;
use zvm::state::Account;
use zvm_ir::outcome::Address;
use zvm_ir::{Env, Word};

/// All JSON files below a folder, in order.
pub(crate) fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut pending, mut files) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ext| ext == "json") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The tests of a file, by name.
pub(crate) fn tests(path: &Path) -> Result<Map<String, Value>, String> {
    let text = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

/// The suite of a file: its folder.
pub(crate) fn suite(root: &Path, file: &Path) -> String {
    let folder = file.parent().unwrap_or(file);
    folder.strip_prefix(root).unwrap_or(folder).display().to_string()
}

pub(crate) fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("{value} is no string"))
}

pub(crate) fn word(value: &Value) -> Result<Word, String> {
    let text = text(value)?;
    let digits = text.strip_prefix("0x").ok_or_else(|| format!("{text} is not hexadecimal"))?;
    if digits.is_empty() {
        return Ok(Word::ZERO);
    }
    Word::from_str_radix(digits, 16).map_err(|error| format!("{text}: {error}"))
}

/// A field that may be absent: then it is zero.
pub(crate) fn word_or_zero(value: &Value) -> Result<Word, String> {
    if value.is_null() { Ok(Word::ZERO) } else { word(value) }
}

pub(crate) fn number<T: TryFrom<Word>>(value: &Value) -> Result<T, String> {
    T::try_from(word(value)?).map_err(|_| format!("{value} is too large"))
}

pub(crate) fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    let text = text(value)?;
    hex::decode(text.trim_start_matches("0x")).map_err(|error| format!("{text}: {error}"))
}

pub(crate) fn address(text: &str) -> Result<Address, String> {
    let mut address = [0; 20];
    hex::decode_to_slice(text.trim_start_matches("0x"), &mut address).map_err(|error| format!("{text}: {error}"))?;
    Ok(address)
}

/// Accounts, as `pre` and `post` give them.
pub(crate) fn state(value: &Value) -> Result<State, String> {
    let mut state = State::default();
    for (key, fields) in value.as_object().ok_or("the accounts are no object")? {
        let mut account = Account {
            balance: word(&fields["balance"])?,
            nonce: number(&fields["nonce"])?,
            code: bytes(&fields["code"])?,
            ..Account::default()
        };
        for (key, value) in fields["storage"].as_object().ok_or("the storage is no object")? {
            let value = word(value)?;
            if !value.is_zero() {
                account.storage.insert(word(&Value::from(key.as_str()))?, value);
            }
        }
        state.accounts.insert(address(key)?, account);
    }
    Ok(state)
}

/// The fields of the block. The random value stands where the difficulty was.
pub(crate) fn block(value: &Value) -> Result<Env, String> {
    let random = if value["currentRandom"].is_null() { &value["currentDifficulty"] } else { &value["currentRandom"] };
    Ok(Env {
        coinbase: address(text(&value["currentCoinbase"])?)?,
        timestamp: word(&value["currentTimestamp"])?,
        number: word(&value["currentNumber"])?,
        gaslimit: word(&value["currentGasLimit"])?,
        basefee: word_or_zero(&value["currentBaseFee"])?,
        prevrandao: word(random)?,
        blobbasefee: Word::from(1),
        ..Env::default()
    })
}
