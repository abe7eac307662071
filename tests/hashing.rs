//! Outcome(E0) = Outcome(E1) = Outcome(E2) = Outcome(E3) for programs that hash words of memory: hand-made bytecode, and
//! `examples/hashes` as solc compiles it.

use std::path::Path;

use serde_json::{Value, json};
use zvm::call::{encode, function};
use zvm::executors::{Executors, Kind, agree};
use zvm::{Call, Input, Program, Source, State};
use zvm_ir::{Env, Halt, Outcome};

struct Hashing {
    executors: Executors,
    input: Input,
}

impl Hashing {
    fn new(input: &str) -> Self {
        let input = Input::read(input, None).unwrap_or_else(|error| panic!("{error}"));
        let program = Program::load(&input).unwrap_or_else(|error| panic!("{error}"));
        let executors = Executors::new(&program, &Kind::ALL).unwrap_or_else(|error| panic!("{error}"));
        let unprovable = executors.circuit_program().map(|circuit| circuit.unprovable());
        assert_eq!(unprovable, Some(vec![]), "every path can be proved");
        Self { executors, input }
    }

    fn example() -> Self {
        Self::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/hashes/Hashes.json").display().to_string())
    }

    /// The outcome on which all executors agree, and the rows that were checked.
    fn run(&self, calldata: Vec<u8>) -> (Outcome, u64) {
        let call = Call { calldata, env: Env::default() };
        let results: Vec<_> =
            Kind::ALL.into_iter().map(|kind| (kind, self.executors.run(kind, &call, &State::default()))).collect();
        for (kind, result) in &results {
            assert!(
                result.is_ok(),
                "{}: {}",
                kind.name(),
                result.as_ref().err().map(ToString::to_string).unwrap_or_default()
            );
        }
        assert!(agree(&results), "{results:?}");
        let rows = results.iter().find_map(|(_, result)| result.as_ref().ok()?.rows).unwrap_or_default();
        (results.into_iter().find_map(|(_, result)| result.ok()).expect("an outcome").outcome, rows)
    }

    fn call(&self, name: &str, args: &[Value]) -> (Outcome, u64) {
        let Source::Contract(contract) = &self.input.source else { panic!("not a contract") };
        let function = function(name, contract.abi.as_ref()).unwrap_or_else(|error| panic!("{error}"));
        self.run(encode(&function, args).unwrap_or_else(|error| panic!("{error}")))
    }
}

/// A 32-byte word that starts with `tag`.
fn word(tag: u8) -> String {
    format!("0x{tag:02x}{}", "5a".repeat(31))
}

#[test]
fn bytecode_that_hashes() {
    // keccak256 of the first two words of the calldata.
    let pair = Hashing::new("0x5f355f5260203560205260405f205f5260205ff3");
    let (outcome, rows) = pair.run(vec![7; 64]);
    assert_eq!(outcome.data, zvm_ir::eval::keccak256(&[7; 64]).to_be_bytes::<32>());
    assert!((90_000..95_000).contains(&rows), "{rows} rows");
    pair.run(vec![]);

    // keccak256 of the caller only if there is calldata; else nothing is hashed.
    let branch = Hashing::new("0x36600557005b335f5260205f205f5260205ff3");
    assert!(branch.run(vec![1]).1 > 90_000);
    assert!(branch.run(vec![]).1 < 10_000);
}

#[test]
fn solidity_that_hashes() {
    let hashes = Hashing::example();
    let (pair, rows) = hashes.call("pair", &[json!(word(1)), json!(word(2))]);
    assert_eq!(pair.halt, Halt::Return);
    assert!(rows < 100_000, "{rows} rows");
    let account = format!("0x{}", "ab".repeat(20));
    let commitment = |deadline: &str| {
        hashes.call("commitment", &[json!(account), json!("1000000"), json!(word(3)), json!(deadline)])
    };
    // Five words are two permutations.
    assert!(commitment("18446744073709551615").1 > 180_000);
    assert_eq!(commitment("0").0.halt, Halt::Revert);
    for times in ["0", "1", "3"] {
        assert_eq!(hashes.call("chain", &[json!(word(4)), json!(times)]).0.halt, Halt::Return);
    }
}

#[test]
fn merkle_paths_are_walked() {
    let hashes = Hashing::example();
    let path: Vec<String> = [0x10, 0x80, 0xf0].map(word).to_vec();
    let mut node = word(0x40);
    for other in &path {
        let (low, high) = if node < *other { (&node, other) } else { (other, &node) };
        node = format!("0x{}", hex::encode(hashes.call("pair", &[json!(low), json!(high)]).0.data));
    }
    let is_member = |root: &str| {
        let args: Vec<Value> =
            [root, &word(0x40)].into_iter().map(Value::from).chain(path.iter().map(|node| json!(node))).collect();
        hashes.call("isMember", &args).0.data.last().copied()
    };
    assert_eq!(is_member(&node), Some(1));
    assert_eq!(is_member(&word(0)), Some(0));
}
