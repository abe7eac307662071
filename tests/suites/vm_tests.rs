//! The legacy VMTests: one account, one execution, and what it leaves.
//!
//! They were made for the rules of Frontier, where a call of the account was no transaction: there are no transfers. A test
//! without `post` expects that the execution fails; only the reference can tell for want of what.

use std::path::Path;

use libtest_mimic::Failed;
use revm::context::result::HaltReason;
use revm::primitives::B256;
use revm::primitives::hardfork::SpecId;
use serde_json::Value;
use zvm::executors::{Executors, Kind, Limits, Run};
use zvm::{Call, Exit, State};
use zvm_ir::{Env, Halt, Word};

use crate::fixture;
use crate::programs::load;
use crate::reference::{End, Transaction, transact};
use crate::tally::{Exclusion, LONG, Tally, Verdict, everything, is_long, of_files};
use crate::trie::{evm_logs, logs_hash};

/// More than any of these needs that ends; they were not made for the prices of today.
const LIMITS: Limits = Limits { gas: 5_000_000_000, instructions: 1_000_000_000 };

/// Runs the tests of a folder.
pub(crate) fn run(folder: &Path) -> Result<(), Failed> {
    let tally = of_files(&fixture::files(folder)?, |file, tally: &mut Tally| {
        let suite = fixture::suite(folder, file);
        for (name, test) in fixture::tests(file)? {
            let result = if is_long(&suite) { Ok(Verdict::Excluded(Exclusion::Long)) } else { check(&test) };
            tally.count(&suite, &name, result);
        }
        Ok(())
    });
    tally.finish("suite_vm_tests")
}

fn check(test: &Value) -> Result<Verdict, String> {
    let exec = &test["exec"];
    let (caller, address) = (account(&exec["caller"])?, account(&exec["address"])?);
    let value = fixture::word(&exec["value"])?;
    let mut pre = fixture::state(&test["pre"])?;
    // The suite's balance is that after the value has come.
    let holder = pre.accounts.get_mut(&address).ok_or("the account is not in the state")?;
    holder.balance = holder.balance.checked_sub(value).ok_or("the value is more than the balance")?;
    let code = holder.code.clone();
    let data = fixture::bytes(&exec["data"])?;
    let gas: u64 = fixture::number(&exec["gas"])?;

    let excluded = |reason| Ok(Verdict::Excluded(reason));
    let reference = reference(test, &pre, &data, value, gas)?;
    if reference.3 > LONG && !everything() {
        return excluded(Exclusion::Long);
    }
    let expected = if test["post"].is_null() {
        match reference.0 {
            End::Success | End::Revert => return Err("the reference does not fail".to_owned()),
            End::Halt(HaltReason::OutOfGas(_)) => return excluded(Exclusion::OutOfGas),
            // Opcodes that did not exist: ours may know them.
            End::Halt(HaltReason::OpcodeNotFound | HaltReason::NotActivated) if code.iter().any(is_newer) => {
                return excluded(Exclusion::OtherFork);
            }
            End::Halt(_) => None,
        }
    } else {
        let expected = Expected::read(test)?;
        let (end, run, spent, _) = &reference;
        if *end != End::Success || *spent != expected.gas_spent {
            return Err(format!("the reference ends by {end:?} and spends {spent}, not {}", expected.gas_spent));
        }
        expected.check("the reference", &pre, run)?;
        Some(expected)
    };

    let program = match load(&code) {
        Ok(program) => program,
        Err(error) if error.code() == "ZV0103" => return excluded(Exclusion::GasObserved),
        Err(error) if error.exit() == Exit::Subset => return excluded(Exclusion::Refused(error.code())),
        Err(error) => return Err(error.to_string()),
    };
    let kinds = [Kind::Evm, Kind::Ir, Kind::Lowered];
    let executors = Executors::new(&program, &kinds).map_err(|error| error.to_string())?.with_limits(LIMITS);
    let env = Env {
        address,
        caller,
        origin: account(&exec["origin"])?,
        callvalue: value,
        gasprice: fixture::word(&exec["gasPrice"])?,
        ..fixture::block(&test["env"])?
    };
    let call = Call { calldata: data, env };
    for kind in kinds {
        let run = match executors.run(kind, &call, &pre) {
            Ok(run) => run,
            Err(error) => return Err(format!("{}: {error}", kind.name())),
        };
        match &expected {
            Some(expected) => expected.check(kind.name(), &pre, &run)?,
            None if run.outcome.halt == Halt::Trap => {}
            None => return Err(format!("{} does not trap: {run:?}", kind.name())),
        }
    }
    Ok(Verdict::Passed)
}

/// Opcodes that Frontier lacked.
fn is_newer(byte: &u8) -> bool {
    matches!(byte, 0x1b..=0x1e | 0x3d..=0x3f | 0x46..=0x4b | 0x5c..=0x5f | 0xf4..=0xfd)
}

/// What a test says.
struct Expected {
    post: State,
    output: Vec<u8>,
    logs: B256,
    gas_spent: u64,
}

impl Expected {
    fn read(test: &Value) -> Result<Self, String> {
        let (before, after): (u64, u64) = (fixture::number(&test["exec"]["gas"])?, fixture::number(&test["gas"])?);
        Ok(Self {
            post: fixture::state(&test["post"])?,
            output: fixture::bytes(&test["out"])?,
            logs: fixture::word(&test["logs"])?.into(),
            gas_spent: before - after,
        })
    }

    fn check(&self, executor: &str, pre: &State, run: &Run) -> Result<(), String> {
        let outcome = &run.outcome;
        if outcome.data != self.output {
            return Err(format!("{executor} returns 0x{}", hex::encode(&outcome.data)));
        }
        if logs_hash(&evm_logs(&outcome.logs)) != self.logs {
            return Err(format!("{executor} logs {:?}", outcome.logs));
        }
        let mut post = pre.clone();
        for ((address, key), value) in &outcome.storage {
            let slots = &mut post.accounts.entry(*address).or_default().storage;
            if value.is_zero() {
                slots.remove(key)
            } else {
                slots.insert(*key, *value)
            };
        }
        for (address, account) in &self.post.accounts {
            let found = post.accounts.remove(address).unwrap_or_default().storage;
            if found != account.storage {
                return Err(format!("{executor} leaves the storage {found:?}, not {:?}", account.storage));
            }
        }
        Ok(())
    }
}

/// The execution as a transaction under the rules of Frontier: how it ends, what it leaves, the gas of its
/// instructions and their number.
fn reference(test: &Value, pre: &State, data: &[u8], value: Word, gas: u64) -> Result<(End, Run, u64, u64), String> {
    let exec = &test["exec"];
    let (sender, to) = (account(&exec["caller"])?, account(&exec["address"])?);
    let mut funded = pre.clone();
    let payer = funded.accounts.entry(sender).or_default();
    payer.balance += Word::from(1) << 200;
    if sender != to {
        // Who sends a transaction has no code (EIP-3607).
        payer.code.clear();
    }
    let of_data: u64 = data.iter().map(|byte| if *byte == 0 { 4 } else { 68 }).sum();
    let tx = Transaction {
        to: Some(to),
        sender,
        nonce: funded.accounts[&sender].nonce,
        data: data.to_vec(),
        value,
        gas_limit: gas + 21_000 + of_data,
        gas_price: fixture::number(&exec["gasPrice"])?,
        tip: None,
        access_list: None,
    };
    let mut block = fixture::block(&test["env"])?;
    // The suite's gas is that of the execution alone.
    block.gaslimit = block.gaslimit.max(Word::from(tx.gas_limit));
    let run = transact(SpecId::FRONTIER, &tx, &block, &funded)?;
    let mut outcome = zvm_ir::Outcome::halted(Halt::Return, run.output);
    for log in run.logs {
        outcome.logs.push(zvm_ir::Log {
            address: log.address.into(),
            topics: log.data.topics().iter().map(|topic| Word::from_be_bytes(topic.0)).collect(),
            data: log.data.data.to_vec(),
        });
    }
    let after = run.post.accounts.get(&to).map(|account| account.storage.clone()).unwrap_or_default();
    let before = &pre.accounts[&to].storage;
    for key in before.keys().chain(after.keys()) {
        outcome.storage.insert((to, *key), after.get(key).copied().unwrap_or_default());
    }
    let run_of = Run { outcome, changes: None, gas: None, rows: None };
    Ok((run.end, run_of, run.gas_spent - 21_000 - of_data, run.facts.steps))
}

fn account(value: &Value) -> Result<zvm_ir::Address, String> {
    fixture::address(fixture::text(value)?)
}
