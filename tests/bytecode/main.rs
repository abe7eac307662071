//! Bytecode that no compiler writes: if it lifts, then lowered for every fork, whatever it is made cheap in, it does what the
//! original does, state and logs included, and so does the interpreter.
//!
//! - [`stack`]: words out of reach, loops that exchange them, recursion, the limit of the stack
//! - [`memory`]: memory that nobody has written, its size, copies from past every end, return data
//! - [`code`]: code that reads itself, jumps that go nowhere, long dispatches
//! - [`accounts`]: calls of itself and of others, storage between them, creation, destruction, static frames
//! - [`constructors`]: creation code with arguments and immutables
//! - [`growth`]: what compiling takes, by how much there is

mod accounts;
mod assembler;
mod code;
mod constructors;
mod growth;
mod memory;
mod stack;

use std::collections::BTreeMap;

use assembler::assemble;
use revm::bytecode::opcode;
use zvm::evm::Evm;
use zvm::executors::{Executors, Kind, Limits, Run, difference};
use zvm::state::Account;
use zvm::{Call, Contract, Error, Exit, Input, Place, Program, Source, State};
use zvm_backend_evm::{Fork, LowerError, Optimize, Options, check};
use zvm_ir::{Env, Halt, Word};

/// Enough for every program here.
const LIMITS: Limits = Limits { gas: 1_000_000_000, instructions: 10_000_000 };

/// An account with code of its own, which programs here may call.
const OTHER: [u8; 20] = [0xbb; 20];

/// A program and how it is called.
struct Case {
    code: Vec<u8>,
    calls: Vec<Call>,
    state: State,
    /// The forks that it is lowered for.
    forks: Vec<Fork>,
}

impl Case {
    fn new(text: &str) -> Self {
        Self::of(assemble(text))
    }

    fn of(code: Vec<u8>) -> Self {
        Self { code, calls: Vec::new(), state: State::default(), forks: Fork::ALL.to_vec() }
    }

    /// Adds a call with this calldata.
    fn calldata(mut self, calldata: &[u8]) -> Self {
        self.calls.push(Call { calldata: calldata.to_vec(), env: env() });
        self
    }

    /// Adds a call for each list of words.
    fn words<const N: usize>(self, lists: &[[u64; N]]) -> Self {
        lists.iter().fold(self, |case, list| case.calldata(&words(list)))
    }

    /// Adds an account.
    fn account(mut self, address: [u8; 20], text: &str) -> Self {
        let account = Account { code: assemble(text), balance: Word::from(1000), ..Account::default() };
        self.state.accounts.insert(address, account);
        self
    }

    /// Leaves older forks out.
    fn since(mut self, fork: Fork) -> Self {
        self.forks.retain(|&other| other >= fork);
        self
    }

    /// Every way to run the program agrees on every call. Gives how each call halts, `None` where it has no outcome.
    #[track_caller]
    fn agrees(self) -> Vec<Option<Halt>> {
        self.compare().unwrap_or_else(|what| panic!("{what}\n{}", hex::encode(&self.code)))
    }

    fn compare(&self) -> Result<Vec<Option<Halt>>, String> {
        let program = self.program().map_err(|error| format!("{}: {error}", error.code()))?;
        let interpreted = Executors::new(&program, &[Kind::Ir]).map_err(|error| error.to_string())?.with_limits(LIMITS);
        let mut halts = Vec::new();
        for call in &self.calls {
            let expected = self.run(&self.code, FORK, call)?;
            let found = match interpreted.run(Kind::Ir, call, &self.state) {
                Ok(run) => Some(run),
                Err(error) if error.exit() == Exit::Limit => None,
                Err(error) => return Err(format!("E1: {error}")),
            };
            self.same("E1", call, expected.as_ref(), found.as_ref())?;
            halts.push(expected.map(|run| run.outcome.halt));
        }
        for &fork in &self.forks {
            // What the fork lacks would trap in the original, and is made of something else in ours.
            let rules = fork.max(self.needs());
            let expected: Vec<Option<Run>> =
                self.calls.iter().map(|call| self.run(&self.code, rules, call)).collect::<Result<_, _>>()?;
            for optimize in [Optimize::None, Optimize::Gas, Optimize::Size] {
                let options = Options { fork, optimize, ..Options::default() };
                let name = format!("{fork}, {optimize:?}");
                let lowered = match program.lowered(&options) {
                    Ok(lowered) => lowered,
                    Err(Error::Lower(LowerError::Unsupported { .. })) if fork < self.needs() => continue,
                    Err(error) => return Err(format!("{name}: {error}")),
                };
                check(&lowered).map_err(|errors| format!("{name}: {}\n{}", errors[0], lowered.listing()))?;
                for (call, expected) in self.calls.iter().zip(&expected) {
                    let found = self.run(&lowered.code, fork, call)?;
                    self.same(&name, call, expected.as_ref(), found.as_ref())
                        .map_err(|what| format!("{what}\n{}\n{}", lowered.legalized(), lowered.listing()))?;
                }
            }
        }
        Ok(halts)
    }

    fn program(&self) -> Result<Program, Error> {
        let contract = Contract { runtime: self.code.clone(), ..Contract::default() };
        Program::load(&Input { origin: "test".to_owned(), source: Source::Contract(Box::new(contract)) })
    }

    /// The code and the place of the refusal.
    #[track_caller]
    fn refusal(&self) -> (&'static str, Option<Place>) {
        match self.program() {
            Ok(program) => match program.lowered(&Options::default()) {
                Ok(lowered) => panic!("it is compiled:\n{}", lowered.listing()),
                Err(error) => (error.code(), error.place()),
            },
            Err(error) => (error.code(), error.place()),
        }
    }

    /// `None` where there is no outcome.
    fn run(&self, code: &[u8], fork: Fork, call: &Call) -> Result<Option<Run>, String> {
        let evm = Evm::new(code).with_gas_limit(LIMITS.gas).with_fork(fork);
        match evm.run(&call.calldata, &call.env_in(&self.state), &self.state) {
            Ok(run) => Ok(Some(Run { outcome: run.outcome, changes: Some(run.changes), gas: None, rows: None })),
            Err(error) if error.exit() == Exit::Limit => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn same(&self, name: &str, call: &Call, expected: Option<&Run>, found: Option<&Run>) -> Result<(), String> {
        let part = match (expected, found) {
            (Some(expected), Some(found)) => difference(expected, found),
            (None, None) => None,
            // Where the original runs out of gas for want of memory, emitted code may halt by an instruction put there.
            (None, Some(found)) if found.outcome.halt == Halt::Trap => None,
            (Some(_), None) | (None, Some(_)) => Some("whether there is an outcome"),
        };
        let show = || format!("calldata 0x{}, value {}", hex::encode(&call.calldata), call.env.callvalue);
        match part {
            None => Ok(()),
            Some(part) => Err(format!("{name} differs in {part} at {}\n{expected:?}\n{found:?}", show())),
        }
    }

    /// The oldest fork that has all instructions of the program.
    fn needs(&self) -> Fork {
        let mut needs = Fork::London;
        let mut at = 0;
        while let Some(&byte) = self.code.get(at) {
            let since = match byte {
                opcode::PUSH0 => Fork::Shanghai,
                opcode::MCOPY | opcode::TLOAD | opcode::TSTORE | opcode::BLOBHASH | opcode::BLOBBASEFEE => Fork::Cancun,
                opcode::CLZ => Fork::Osaka,
                _ => Fork::London,
            };
            needs = needs.max(since);
            at += 1 + usize::from(byte.saturating_sub(opcode::PUSH0)).min(32) * usize::from(byte <= opcode::PUSH32);
        }
        needs
    }
}

/// The fork of the interpreter.
const FORK: Fork = Fork::Osaka;

/// Each field differs from every other.
fn env() -> Env {
    Env {
        callvalue: Word::from(7),
        coinbase: [0xcb; 20],
        origin: [0xc0; 20],
        gasprice: Word::from(11),
        timestamp: Word::from(1_700_000_000u64),
        number: Word::from(20_000_000u64),
        prevrandao: Word::from(0xdead_beef_u64),
        basefee: Word::from(10),
        ..Env::default()
    }
}

fn words(list: &[u64]) -> Vec<u8> {
    list.iter().flat_map(|&word| Word::from(word).to_be_bytes::<32>()).collect()
}

fn wide(list: &[Word]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_be_bytes::<32>()).collect()
}

/// Words at the edges of what instructions distinguish.
fn corners() -> Vec<Word> {
    let one = Word::from(1);
    let of = |number: u64| Word::from(number);
    vec![
        Word::ZERO,
        one,
        of(31),
        of(32),
        of(255),
        of(256),
        of(u64::MAX),
        one << 64,
        (one << 128) - one,
        (one << 255) - one,
        one << 255,
        Word::MAX - one,
        Word::MAX,
    ]
}

/// Halts in the order of their kinds.
fn count(halts: &[Option<Halt>]) -> BTreeMap<Option<Halt>, usize> {
    halts.iter().fold(BTreeMap::new(), |mut counts, halt| {
        *counts.entry(*halt).or_default() += 1;
        counts
    })
}
