//! What the tests of this crate compare with: bytecode in revm (E0), a generator of ABI-shaped calls, and the corpus.
//! Each test file uses a part of it.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use libtest_mimic::{Arguments, Trial};
use revm::bytecode::opcode::OpCode;
use revm::bytecode::{Bytecode, opcode};
use revm::context::result::{ExecutionResult, HaltReason};
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::database::{CacheDB, EmptyDB};
use revm::interpreter::Interpreter;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_types::{Jumps, LoopControl};
use revm::primitives::hardfork::SpecId;
use revm::primitives::{Address as EvmAddress, Bytes, TxKind};
use revm::state::AccountInfo;
use revm::{Context, InspectEvm, Inspector, MainBuilder, MainContext};
use serde_json::Value as Json;
use zvm_ir::{Address, Call, Env, Halt, InterpError, Log, Module, Outcome, PreState, Word};

/// Gas for real contracts; running out of it makes a call unfit for comparison.
pub(crate) const GAS: u64 = 40_000_000;

/// The state of one contract.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub code: Vec<u8>,
    pub storage: BTreeMap<Word, Word>,
}

impl PreState for World {
    fn storage(&self, address: &Address, key: &Word) -> Word {
        if *address == Env::default().address { self.storage.get(key).copied().unwrap_or_default() } else { Word::ZERO }
    }
    fn balance(&self, _: &Address) -> Word {
        Word::ZERO
    }
    fn code(&self, address: &Address) -> &[u8] {
        if *address == Env::default().address { &self.code } else { &[] }
    }
    fn exists(&self, address: &Address) -> bool {
        *address == Env::default().address
    }
    fn block_hash(&self, _: u64) -> Option<Word> {
        None
    }
    fn blob_hash(&self, _: u64) -> Option<Word> {
        None
    }
}

/// The jumps of an execution: `pc` of the jump and of where it went, JUMPIs that were passed included.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub edges: BTreeSet<(u32, u32)>,
    /// Whether code of another account (a precompile included) was run.
    pub foreign: bool,
    pub count: u64,
    current: Option<(u32, u8)>,
    program: EvmAddress,
}

impl<CTX> Inspector<CTX, EthInterpreter> for Steps {
    fn step(&mut self, interp: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        let op = interp.bytecode.opcode();
        self.current = matches!(op, opcode::JUMP | opcode::JUMPI).then_some((interp.bytecode.pc() as u32, op));
        self.foreign |= matches!(
            op,
            opcode::CALL
                | opcode::CALLCODE
                | opcode::DELEGATECALL
                | opcode::STATICCALL
                | opcode::CREATE
                | opcode::CREATE2
        );
    }
    fn step_end(&mut self, interp: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        if let Some((pc, _)) = self.current.take()
            && interp.bytecode.is_not_end()
            && !self.foreign
        {
            self.count += 1;
            self.edges.insert((pc, interp.bytecode.pc() as u32));
        }
    }
}

/// Runs a call in revm. `None` when it ran out of gas.
pub(crate) fn evm(world: &World, calldata: &[u8], value: Word, gas: u64, env: &Env) -> Option<(Outcome, Steps)> {
    let address = EvmAddress::from(env.address);
    let caller = EvmAddress::from(env.caller);
    let mut db = CacheDB::new(EmptyDB::default());
    let code = Bytecode::new_legacy(Bytes::copy_from_slice(&world.code));
    db.insert_account_info(address, AccountInfo::new(Word::ZERO, 1, code.hash_slow(), code));
    db.insert_account_info(caller, AccountInfo { balance: value, ..AccountInfo::default() });
    for (key, word) in &world.storage {
        db.insert_account_storage(address, *key, *word).ok()?;
    }
    let mut cfg = CfgEnv::new_with_spec(SpecId::OSAKA);
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    cfg.limit_contract_code_size = Some(usize::MAX);
    cfg.tx_chain_id_check = false;
    let block = BlockEnv {
        number: env.number,
        beneficiary: env.coinbase.into(),
        timestamp: env.timestamp,
        gas_limit: GAS,
        basefee: 0,
        prevrandao: Some(env.prevrandao.into()),
        ..BlockEnv::default()
    };
    let tx = TxEnv {
        caller,
        gas_limit: gas,
        gas_price: 0,
        kind: TxKind::Call(address),
        value,
        data: Bytes::copy_from_slice(calldata),
        ..TxEnv::default()
    };
    let steps = Steps { program: address, ..Steps::default() };
    let mut evm = Context::mainnet().with_db(db).with_cfg(cfg).with_block(block).build_mainnet_with_inspector(steps);
    let result = evm.inspect_tx(tx).ok()?;
    let outcome = match result.result {
        ExecutionResult::Success { output, logs, .. } => {
            let mut outcome = Outcome::halted(Halt::Return, output.data().to_vec());
            outcome.logs = logs
                .iter()
                .map(|log| Log {
                    address: log.address.into(),
                    topics: log.data.topics().iter().map(|topic| Word::from_be_bytes(topic.0)).collect(),
                    data: log.data.data.to_vec(),
                })
                .collect();
            if let Some(account) = result.state.get(&address) {
                for (key, slot) in &account.storage {
                    if slot.present_value != world.storage.get(key).copied().unwrap_or_default() {
                        outcome.storage.insert((env.address, *key), slot.present_value);
                    }
                }
            }
            outcome
        }
        ExecutionResult::Revert { output, .. } => Outcome::halted(Halt::Revert, output.to_vec()),
        ExecutionResult::Halt { reason: HaltReason::OutOfGas(_), .. } => return None,
        ExecutionResult::Halt { .. } => Outcome::halted(Halt::Trap, Vec::new()),
    };
    Some((outcome, evm.inspector))
}

/// What comparing one call in E0 and E1 gave.
#[derive(Debug)]
pub(crate) enum Compared {
    /// Both have this outcome; the jumps are those of E0.
    Same(Outcome, Steps),
    /// The call needs more gas than there is, or another account's code.
    Unfit,
    /// They differ, or E1 failed.
    Different(String),
}

/// Runs a call in both executors.
pub(crate) fn compare(module: &Module, world: &World, calldata: &[u8], value: Word, gas: u64) -> Compared {
    let env = Env {
        callvalue: value,
        selfbalance: value,
        timestamp: Word::from(1_700_000_000u64),
        gaslimit: Word::from(GAS),
        ..Env::default()
    };
    let Some((mut expected, steps)) = evm(world, calldata, value, gas, &env) else { return Compared::Unfit };
    let call = Call { step_limit: 20_000_000, ..Call::new(calldata, &env) };
    match zvm_ir::run(module, call, world) {
        // The stack of the EVM bounds a recursion, that of the IR does not.
        Err(InterpError::Foreign { .. } | InterpError::CallDepth { .. }) => Compared::Unfit,
        Err(_) if steps.foreign => Compared::Unfit,
        Err(error) => Compared::Different(format!("E0: {expected:?}\nE1: {error}")),
        Ok(mut found) => {
            // A transaction ends with empty transient storage, which hides it from this oracle.
            found.transient.clear();
            expected.transient.clear();
            if found == expected {
                Compared::Same(expected, steps)
            } else {
                Compared::Different(format!("E0: {expected:?}\nE1: {found:?}"))
            }
        }
    }
}

/// Assembles a program. Words are separated by blanks: an opcode's name, a number (pushed with as few bytes as it needs),
/// `:name` (a JUMPDEST with that label), `@name` (pushes the label, always two bytes), `#hex` (bytes as they are).
pub(crate) fn assemble(text: &str) -> Vec<u8> {
    let mut code = Vec::new();
    let mut labels = BTreeMap::new();
    let mut uses = Vec::new();
    for word in text.split_whitespace() {
        let (first, rest) = word.split_at(1);
        match first {
            ":" => {
                labels.insert(rest.to_owned(), code.len());
                code.push(opcode::JUMPDEST);
            }
            "@" => {
                code.push(opcode::PUSH2);
                uses.push((code.len(), rest.to_owned()));
                code.extend([0, 0]);
            }
            "#" => code.extend(hex(rest)),
            _ if first.starts_with(|c: char| c.is_ascii_digit()) => {
                let number: Word = word.parse().expect("a number");
                let bytes = number.to_be_bytes_trimmed_vec();
                code.push(opcode::PUSH0 + bytes.len() as u8);
                code.extend(bytes);
            }
            _ => {
                let byte = (0..=255u8).find(|&byte| OpCode::new(byte).is_some_and(|op| op.as_str() == word));
                code.push(byte.unwrap_or_else(|| panic!("no opcode {word}")));
            }
        }
    }
    for (at, label) in uses {
        let target = labels.get(&label).unwrap_or_else(|| panic!("no label {label}"));
        code[at..at + 2].copy_from_slice(&(*target as u16).to_be_bytes());
    }
    code
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits = text.trim().trim_start_matches("0x");
    (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hex")).collect()
}

pub(crate) fn corpus() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    std::env::var_os("ZVM_CORPUS").map_or_else(beside, PathBuf::from)
}

/// Runs tests that need the corpus. Where it is absent they count as ignored, unless `CI=true`: then they fail.
pub(crate) fn with_corpus(tests: &[(&str, fn())]) {
    let ci = std::env::var("CI").as_deref() == Ok("true");
    let present = corpus().join("contracts").is_dir();
    if !present {
        eprintln!("skipped: no corpus at {} (ZVM_CORPUS, or ../shared/corpus)", corpus().display());
    }
    let trial = |&(name, test): &(&str, fn())| {
        let run = move || {
            test();
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(!present && !ci)
    };
    libtest_mimic::run(&Arguments::from_args(), tests.iter().map(trial).collect()).exit();
}

/// One contract of the corpus.
pub(crate) struct Contract {
    pub name: String,
    pub runtime: Vec<u8>,
    pub abi: Json,
}

pub(crate) fn contracts() -> Vec<Contract> {
    let mut paths: Vec<_> = std::fs::read_dir(corpus().join("contracts"))
        .expect("the folder can be read")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let record: Json =
                serde_json::from_str(&std::fs::read_to_string(&path).expect("a file")).expect("a JSON record");
            Contract {
                name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
                runtime: hex(record["runtime"].as_str().expect("runtime code")),
                abi: record["abi"].clone(),
            }
        })
        .collect()
}

/// A program of the public EVM suites: the name of a test, the account, the calldata that tests give.
pub(crate) type SuiteProgram = (String, World, BTreeSet<Vec<u8>>);

/// The code in the public EVM suites, each distinct one once.
pub(crate) fn suite_programs() -> Vec<SuiteProgram> {
    let mut pending = vec![corpus().join("ethereum-tests")];
    let mut files = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(folder).expect("the folder can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|ext| ext == "json") {
                files.push(path);
            }
        }
    }
    files.sort();
    type Program = (String, World, BTreeSet<Vec<u8>>);
    let mut programs: BTreeMap<Vec<u8>, Program> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a file");
        let Ok(Json::Object(tests)) = serde_json::from_str::<Json>(&text) else { continue };
        for (name, test) in tests {
            let mut inputs = BTreeSet::from([Vec::new()]);
            inputs.extend(test["exec"]["data"].as_str().map(hex));
            for data in test["transaction"]["data"].as_array().into_iter().flatten().take(12) {
                inputs.extend(data.as_str().map(hex));
            }
            for account in test["pre"].as_object().into_iter().flat_map(|accounts| accounts.values()) {
                let code = hex(account["code"].as_str().unwrap_or(""));
                if code.is_empty() {
                    continue;
                }
                let slots = account["storage"].as_object().into_iter().flatten();
                let word = |text: &str| text.parse::<Word>().unwrap_or_default();
                let storage = slots.map(|(key, value)| (word(key), word(value.as_str().unwrap_or("0")))).collect();
                let world = World { code: code.clone(), storage };
                programs.entry(code).or_insert_with(|| (name.clone(), world, BTreeSet::new())).2.extend(inputs.clone());
            }
        }
    }
    programs.into_values().collect()
}

/// A small deterministic generator (xorshift).
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// A word: often small, at a power of two, or at an end of the range.
    pub(crate) fn word(&mut self) -> Word {
        match self.below(8) {
            0 => Word::ZERO,
            1 => Word::from(self.below(4)),
            2 => Word::from(self.below(1000)),
            3 => Word::from(self.next()),
            4 => (Word::from(1) << self.below(256) as usize).wrapping_sub(Word::from(self.below(2))),
            5 => Word::MAX - Word::from(self.below(3)),
            6 => Word::from(self.next()) << self.below(200) as usize,
            _ => Word::from_limbs([self.next(), self.next(), self.next(), self.next()]),
        }
    }
}

/// A call of one of the functions of `abi`, most of them well-formed.
pub(crate) fn random_call(abi: &Json, random: &mut Random) -> Vec<u8> {
    let functions: Vec<&Json> =
        abi.as_array().into_iter().flatten().filter(|entry| entry["type"] == "function").collect();
    if functions.is_empty() || random.below(40) == 0 {
        return (0..random.below(80)).map(|_| random.next() as u8).collect();
    }
    let function = functions[random.below(functions.len() as u64) as usize];
    let inputs: Vec<&Json> = function["inputs"].as_array().into_iter().flatten().collect();
    let types: Vec<String> = inputs.iter().map(|input| type_name(input)).collect();
    let signature = format!("{}({})", function["name"].as_str().unwrap_or(""), types.join(","));
    let mut data = zvm_ir::eval::keccak256(signature.as_bytes()).to_be_bytes::<32>()[..4].to_vec();
    data.extend(encode_tuple(&inputs, random));
    match random.below(30) {
        0 => data.truncate(random.below(data.len() as u64 + 1) as usize),
        1 => {
            let at = random.below(data.len() as u64) as usize;
            data[at] ^= 1 << random.below(8);
        }
        _ => {}
    }
    data
}

fn type_name(input: &Json) -> String {
    let name = input["type"].as_str().unwrap_or("");
    match name.strip_prefix("tuple") {
        Some(suffix) => {
            let parts: Vec<String> = input["components"].as_array().into_iter().flatten().map(type_name).collect();
            format!("({}){suffix}", parts.join(","))
        }
        None => name.to_owned(),
    }
}

fn encode_tuple(inputs: &[&Json], random: &mut Random) -> Vec<u8> {
    let parts: Vec<(bool, Vec<u8>)> = inputs.iter().map(|input| encode(input, random)).collect();
    let head: usize = parts.iter().map(|(dynamic, bytes)| if *dynamic { 32 } else { bytes.len() }).sum();
    let (mut heads, mut tails) = (Vec::new(), Vec::new());
    for (dynamic, bytes) in parts {
        if dynamic {
            heads.extend(Word::from(head + tails.len()).to_be_bytes::<32>());
            tails.extend(bytes);
        } else {
            heads.extend(bytes);
        }
    }
    heads.extend(tails);
    heads
}

/// The encoding of a random value of a type, and whether the type is dynamic.
fn encode(input: &Json, random: &mut Random) -> (bool, Vec<u8>) {
    let name = input["type"].as_str().unwrap_or("");
    if let Some(open) = name.rfind('[') {
        let length = &name[open + 1..name.len() - 1];
        let mut element = input.clone();
        element["type"] = Json::from(&name[..open]);
        let count = length.parse().unwrap_or_else(|_| random.below(5) as usize);
        let elements = vec![&element; count];
        let body = encode_tuple(&elements, random);
        let dynamic = length.is_empty() || encode(&element, random).0;
        let mut bytes = Vec::new();
        if length.is_empty() {
            bytes.extend(Word::from(count).to_be_bytes::<32>());
        }
        bytes.extend(body);
        return (dynamic, bytes);
    }
    let word = random.word();
    match name {
        "tuple" => {
            let parts: Vec<&Json> = input["components"].as_array().into_iter().flatten().collect();
            let dynamic = parts.iter().any(|part| encode(part, random).0);
            (dynamic, encode_tuple(&parts, random))
        }
        "bytes" | "string" => {
            let len = random.below(70) as usize;
            let mut bytes = Word::from(len).to_be_bytes::<32>().to_vec();
            let text = random.below(2) == 0;
            bytes.extend((0..len).map(|_| {
                if text { b"0123456789abcdef{}[]\",: -"[random.below(24) as usize] } else { random.next() as u8 }
            }));
            bytes.resize(32 + len.div_ceil(32) * 32, 0);
            (true, bytes)
        }
        "address" => {
            let known = [Env::default().caller, Env::default().address, [0x11; 20], [0; 20], [0x22; 20]];
            let mut bytes = vec![0; 12];
            bytes.extend(known[random.below(5) as usize]);
            (false, bytes)
        }
        "bool" => (false, Word::from(random.below(2)).to_be_bytes::<32>().to_vec()),
        _ => {
            let number = |prefix: &str| name.strip_prefix(prefix).map(|bits| bits.parse().unwrap_or(256usize));
            let bytes = if let Some(bits) = number("uint") {
                (word & (Word::MAX >> (256 - bits))).to_be_bytes::<32>()
            } else if let Some(bits) = number("int") {
                let low = word & (Word::MAX >> (256 - bits));
                let negative = low.bit(bits - 1);
                (if negative && bits < 256 { low | (Word::MAX << bits) } else { low }).to_be_bytes::<32>()
            } else if let Some(len) = number("bytes") {
                (if len < 32 { word << (256 - 8 * len) } else { word }).to_be_bytes::<32>()
            } else {
                word.to_be_bytes::<32>()
            };
            (false, bytes.to_vec())
        }
    }
}
