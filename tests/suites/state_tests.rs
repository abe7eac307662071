//! Transactions among several accounts.
//!
//! Our executors run the call that the transaction makes; what a transaction does around it (the nonce, the value, the price of
//! the gas that the reference used) is added here, and then the root of the state is the suite's.

use std::collections::BTreeMap;
use std::path::Path;

use libtest_mimic::Failed;
use revm::context::result::HaltReason;
use revm::context::transaction::{AccessList, AccessListItem};
use revm::primitives::hardfork::SpecId;
use revm::primitives::{B256, Log};
use serde_json::Value;
use zvm::evm::{Evm, Execution, FORK};
use zvm::state::Account;
use zvm::{Error, State};
use zvm_ir::outcome::Address;
use zvm_ir::{Env, Halt, Module, Word};

use crate::fixture;
use crate::programs::{Compiled, Programs, STAGES};
use crate::reference::{End, Reference, Transaction, transact};
use crate::tally::{Exclusion, LONG, MEMORY, Verdict, everything, is_long, of_files};
use crate::trie::{evm_logs, logs_hash, state_root};

/// What an execution may use in our executors once the suite's own limit was tried: more than any that ends needs.
const GAS: u64 = 200_000_000;
const STEPS: u64 = 20_000_000;

/// Runs the tests of a folder.
pub(crate) fn run(folder: &Path, snapshot: &str) -> Result<(), Failed> {
    let programs = Programs::default();
    let tally = of_files(&fixture::files(folder)?, |file, tally| {
        let suite = fixture::suite(folder, file);
        for (name, test) in fixture::tests(file)? {
            for (case, post) in cases(&test)? {
                let long = is_long(&suite).then_some(Ok(Verdict::Excluded(Exclusion::Long)));
                let result = long.unwrap_or_else(|| check(&programs, &test, case, post));
                tally.count(&suite, &format!("{name} {case} {}", post["indexes"]), result);
            }
        }
        Ok(())
    });
    tally.finish(snapshot)
}

/// The cases of a test: the fork, and what the suite says.
fn cases(test: &Value) -> Result<Vec<(&str, &Value)>, String> {
    let mut cases = Vec::new();
    for (fork, posts) in test["post"].as_object().ok_or("there are no post-states")? {
        let posts = posts.as_array().ok_or("the post-states are no list")?;
        cases.extend(posts.iter().map(|post| (fork.as_str(), post)));
    }
    Ok(cases)
}

fn check(programs: &Programs, test: &Value, fork: &str, post: &Value) -> Result<Verdict, String> {
    let (pre, block) = (fixture::state(&test["pre"])?, fixture::block(&test["env"])?);
    let spec = spec(fork)?;
    let tx = transaction(&test["transaction"], &post["indexes"]);
    if !post["expectException"].is_null() {
        // What does not fit its field cannot even be read.
        return match tx {
            Ok(tx) if transact(spec, &tx, &block, &pre).is_ok() => {
                Err("the reference takes the transaction".to_owned())
            }
            _ => Ok(Verdict::Excluded(Exclusion::InvalidTransaction)),
        };
    }
    if !test["transaction"]["authorizationList"].is_null() {
        return Ok(Verdict::Excluded(Exclusion::Authorisation));
    }
    let alone = |account: &Account| account.nonce == 0 && account.code.is_empty() && !account.storage.is_empty();
    if pre.accounts.values().any(alone) {
        return Ok(Verdict::Excluded(Exclusion::StorageAlone));
    }
    let tx = tx?;
    let expected = Expected { root: hash(&post["hash"])?, logs: hash(&post["logs"])? };
    let reference = transact(spec, &tx, &block, &pre)?;
    expected.check("the reference", &reference.post, &reference.logs)?;
    Case { programs, spec, pre, block, tx, expected, reference }.verdict()
}

/// What the suite says.
struct Expected {
    root: B256,
    logs: B256,
}

impl Expected {
    fn check(&self, executor: &str, post: &State, logs: &[Log]) -> Result<(), String> {
        if logs_hash(logs) != self.logs {
            return Err(format!("{executor}: other logs than expected: {logs:?}"));
        }
        if state_root(post) != self.root {
            return Err(format!("{executor}: another state than expected"));
        }
        Ok(())
    }
}

struct Case<'p> {
    programs: &'p Programs,
    spec: SpecId,
    pre: State,
    block: Env,
    tx: Transaction,
    expected: Expected,
    reference: Reference,
}

impl Case<'_> {
    fn verdict(&self) -> Result<Verdict, String> {
        let excluded = |reason| Ok(Verdict::Excluded(reason));
        let facts = &self.reference.facts;
        let Some(to) = self.tx.to else { return excluded(Exclusion::Creation) };
        let code = self.pre.accounts.get(&to).map_or(&[][..], |account| &account.code);
        if code.is_empty() || !facts.executed.contains(&to) {
            return excluded(Exclusion::NoCode);
        }
        if facts.block_hash {
            return excluded(Exclusion::BlockHash);
        }
        if facts.steps > LONG && !everything() {
            return excluded(Exclusion::Long);
        }
        // E0 with the suite's gas. The state root covers every account.
        let (before, env) = (self.before(to)?, self.env(to)?);
        let with_suite_gas = Evm::new(code).with_gas_limit(facts.first_gas).run(&self.tx.data, &env, &before);
        let with_suite_gas = match with_suite_gas {
            Err(Error::OutOfGas { .. }) if matches!(self.reference.end, End::Halt(HaltReason::OutOfGas(_))) => {
                return excluded(Exclusion::OutOfGas);
            }
            // What is a precompiled contract in our fork has no code there.
            Err(Error::Precompile(_)) if self.spec != FORK => return excluded(Exclusion::OtherFork),
            Err(Error::OutOfGas { .. }) if self.fork_matters()? => return excluded(Exclusion::OtherFork),
            Err(error) => return Err(format!("E0: {error}")),
            Ok(execution) => execution,
        };
        if let Err(reason) = self.settle("E0", to, &with_suite_gas) {
            return if self.fork_matters()? { excluded(Exclusion::OtherFork) } else { Err(reason) };
        }
        if facts.out_of_gas {
            return excluded(Exclusion::OutOfGas);
        }
        if facts.memory > MEMORY {
            return excluded(Exclusion::Memory);
        }
        let mut compiled = BTreeMap::new();
        for address in &facts.executed {
            let Some(account) = self.pre.accounts.get(address).filter(|account| !account.code.is_empty()) else {
                continue;
            };
            match self.programs.compile(&account.code)? {
                Ok(program) => _ = compiled.insert(*address, program),
                Err("ZV0103") => return excluded(Exclusion::GasObserved),
                Err(code) if *address == to => return excluded(Exclusion::Refused(code)),
                // It runs in revm, like that of accounts that are created.
                Err(_) => {}
            }
        }
        let in_revm = |account: &Option<Address>| account.is_none_or(|account| !compiled.contains_key(&account));
        if facts.observes_gas.iter().any(in_revm) {
            return excluded(Exclusion::GasObserved);
        }
        match Evm::new(code).with_gas_limit(GAS).run(&self.tx.data, &env, &before) {
            Ok(rich) if rich.outcome == with_suite_gas.outcome && rich.changes == with_suite_gas.changes => {}
            Ok(_) | Err(Error::OutOfGas { .. }) => return excluded(Exclusion::GasLimit),
            Err(error) => return Err(format!("E0 with more gas: {error}")),
        }
        for (at, stage) in STAGES.iter().enumerate() {
            let modules: BTreeMap<Address, &Module> =
                compiled.iter().map(|(address, program)| (*address, &program.stages[at])).collect();
            let evm = Evm::new(code).with_gas_limit(GAS);
            let execution = evm.run_modules(&modules, &self.tx.data, &env, &before, STEPS);
            self.settle(stage, to, &execution.map_err(|error| format!("{stage}: {error}"))?)?;
        }
        if compiled.keys().any(|address| facts.looked_at.contains(address)) {
            return Ok(Verdict::PassedWithoutLowered);
        }
        let mut lowered = before.clone();
        for (address, program) in &compiled {
            let Compiled { lowered: code, .. } = &**program;
            lowered.accounts.entry(*address).or_default().code.clone_from(code);
        }
        let code = compiled.get(&to).map_or(code, |program| &program.lowered);
        let execution = Evm::new(code).with_gas_limit(GAS).run(&self.tx.data, &env, &lowered);
        self.settle("E2", to, &execution.map_err(|error| format!("E2: {error}"))?)?;
        Ok(Verdict::Passed)
    }

    /// Whether the reference leaves something else under the rules of our fork, apart from fees.
    fn fork_matters(&self) -> Result<bool, String> {
        let Ok(ours) = transact(FORK, &self.tx, &self.block, &self.pre) else { return Ok(true) };
        let what = |run: &Reference| -> Result<_, String> {
            let mut post = run.post.clone();
            self.fees(&mut post, run.gas_used, Word::wrapping_add, Word::wrapping_sub)?;
            post.accounts.retain(|_, account| *account != Default::default());
            Ok((run.end.clone(), run.output.clone(), run.logs.clone(), post))
        };
        Ok(self.spec != FORK && what(&ours)? != what(&self.reference)?)
    }

    /// The price of gas for the sender, and what of it the coinbase gets.
    fn prices(&self) -> Result<(Word, Word), String> {
        let base = u128::try_from(self.block.basefee).map_err(|error| error.to_string())?;
        let price = self.tx.tip.map_or(self.tx.gas_price, |tip| self.tx.gas_price.min(base.saturating_add(tip)));
        let reward = if self.spec.is_enabled_in(SpecId::LONDON) { price.saturating_sub(base) } else { price };
        Ok((Word::from(price), Word::from(reward)))
    }

    /// Changes the balances of the sender and of the coinbase by the fee for an amount of gas.
    fn fees(
        &self,
        state: &mut State,
        gas: u64,
        sender: fn(Word, Word) -> Word,
        coinbase: fn(Word, Word) -> Word,
    ) -> Result<(), String> {
        let (price, reward) = self.prices()?;
        let mut change = |address: Address, by: fn(Word, Word) -> Word, amount: Word| {
            let account = state.accounts.entry(address).or_default();
            account.balance = by(account.balance, amount);
        };
        change(self.tx.sender, sender, price * Word::from(gas));
        change(self.block.coinbase, coinbase, reward * Word::from(gas));
        Ok(())
    }

    /// The state that the call finds: the sender has paid for all gas and sent the value.
    fn before(&self, to: Address) -> Result<State, String> {
        let (price, _) = self.prices()?;
        let mut state = self.pre.clone();
        let sender = state.accounts.entry(self.tx.sender).or_default();
        sender.nonce += 1;
        sender.balance -= price * Word::from(self.tx.gas_limit) + self.tx.value;
        state.accounts.entry(to).or_default().balance += self.tx.value;
        Ok(state)
    }

    fn env(&self, to: Address) -> Result<Env, String> {
        let selfbalance = self.before(to)?.accounts.get(&to).map_or(Word::ZERO, |account| account.balance);
        let (gasprice, _) = self.prices()?;
        Ok(Env {
            address: to,
            caller: self.tx.sender,
            origin: self.tx.sender,
            callvalue: self.tx.value,
            gasprice,
            selfbalance,
            ..self.block.clone()
        })
    }

    /// Checks the state that an execution leaves, when the transaction is over.
    fn settle(&self, executor: &str, to: Address, execution: &Execution) -> Result<(), String> {
        let mut post = self.before(to)?;
        if execution.outcome.halt == Halt::Return {
            post.apply(&execution.changes);
        } else {
            post.accounts.entry(to).or_default().balance -= self.tx.value;
            post.accounts.entry(self.tx.sender).or_default().balance += self.tx.value;
        }
        let unused = self.tx.gas_limit - self.reference.gas_used;
        let (price, _) = self.prices()?;
        post.accounts.entry(self.tx.sender).or_default().balance += price * Word::from(unused);
        self.fees(&mut post, self.reference.gas_used, |balance, _| balance, Word::wrapping_add)?;
        post.accounts.retain(|address, account| {
            let empty = account.nonce == 0 && account.balance.is_zero() && account.code.is_empty();
            let existed = self.pre.accounts.contains_key(address);
            !empty || (existed && !self.reference.touched.contains(address))
        });
        self.expected.check(executor, &post, &evm_logs(&execution.outcome.logs))?;
        // The suite's hashes do not show the output.
        let same = execution.outcome.halt == Halt::Trap || execution.outcome.data == self.reference.output;
        if same { Ok(()) } else { Err(format!("{executor}: another output than the reference's")) }
    }
}

fn spec(fork: &str) -> Result<SpecId, String> {
    Ok(match fork {
        "Byzantium" => SpecId::BYZANTIUM,
        "Constantinople" | "ConstantinopleFix" => SpecId::PETERSBURG,
        "Istanbul" => SpecId::ISTANBUL,
        "Berlin" => SpecId::BERLIN,
        "London" => SpecId::LONDON,
        "Paris" => SpecId::MERGE,
        "Shanghai" => SpecId::SHANGHAI,
        "Cancun" => SpecId::CANCUN,
        "Osaka" => SpecId::OSAKA,
        _ => return Err(format!("unknown fork {fork}")),
    })
}

fn hash(value: &Value) -> Result<B256, String> {
    Ok(B256::from(fixture::word(value)?))
}

/// The transaction that `indexes` picks from the lists of a test.
fn transaction(test: &Value, indexes: &Value) -> Result<Transaction, String> {
    let index = |name: &str| indexes[name].as_u64().map(|at| at as usize).ok_or_else(|| format!("no index {name}"));
    let to = fixture::text(&test["to"])?;
    let highest = !test["maxFeePerGas"].is_null();
    let price = if highest { "maxFeePerGas" } else { "gasPrice" };
    Ok(Transaction {
        to: if to.is_empty() { None } else { Some(fixture::address(to)?) },
        sender: fixture::address(fixture::text(&test["sender"])?)?,
        nonce: fixture::number(&test["nonce"])?,
        data: fixture::bytes(&test["data"][index("data")?])?,
        value: fixture::word(&test["value"][index("value")?])?,
        gas_limit: fixture::number(&test["gasLimit"][index("gas")?])?,
        gas_price: fixture::number(&test[price])?,
        tip: if highest { Some(fixture::number(&test["maxPriorityFeePerGas"])?) } else { None },
        access_list: access_list(&test["accessLists"][index("data")?])?,
    })
}

fn access_list(value: &Value) -> Result<Option<AccessList>, String> {
    let Some(items) = value.as_array() else { return Ok(None) };
    let item = |item: &Value| -> Result<AccessListItem, String> {
        let keys = item["storageKeys"].as_array().ok_or("no storage keys")?;
        Ok(AccessListItem {
            address: fixture::address(fixture::text(&item["address"])?)?.into(),
            storage_keys: keys.iter().map(hash).collect::<Result<_, _>>()?,
        })
    };
    Ok(Some(AccessList(items.iter().map(item).collect::<Result<_, _>>()?)))
}
