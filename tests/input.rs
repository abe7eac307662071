//! Every kind of INPUT, CALL and state file is read, and what is wrong with one is said with its place.

use serde_json::{Value, json};
use zvm::call::{self, Call};
use zvm::{Contract, Error, Immutables, Input, Source, State};
use zvm_ir::{Env, Word};

fn parse(content: &str, contract: Option<&str>) -> Result<Input, Error> {
    Input::parse("in", content.as_bytes().to_vec(), contract)
}

fn contract(content: &Value, name: Option<&str>) -> Contract {
    match parse(&content.to_string(), name).expect("parses").source {
        Source::Contract(contract) => *contract,
        other => panic!("not a contract: {other:?}"),
    }
}

fn error(content: &Value, name: Option<&str>) -> String {
    parse(&content.to_string(), name).expect_err("is refused").to_string()
}

fn standard() -> Value {
    let evm = |code: &str| json!({"bytecode": {"object": "00"}, "deployedBytecode": {"object": code}});
    json!({
        "sources": {},
        "contracts": {
            "a.sol": {"A": {"abi": [], "evm": evm("6001")}, "Shape": {"abi": [], "evm": evm("")}},
            "b.sol": {"B": {"abi": [], "evm": evm("6002")}, "A": {"abi": [], "evm": evm("6003")}},
        }
    })
}

#[test]
fn hex_and_binary() {
    for text in ["6001", "0x6001", " 0x60\n01 \n"] {
        let Source::Contract(found) = parse(text, None).expect(text).source else { panic!("{text}") };
        assert_eq!(found.runtime, [0x60, 1], "{text:?}");
        assert!(found.immutables == Immutables::Deployed && found.abi.is_none());
    }
    let raw = vec![0x60, 0x01, 0x00, 0xfe];
    let Source::Contract(found) = Input::parse("in", raw.clone(), None).expect("parses").source else { panic!() };
    assert_eq!(found.runtime, raw);
    assert_eq!(parse("0x60zz", None).expect_err("bad digit").to_string(), "in: not bytecode in hex: `z` at byte 4");
    assert!(parse("0x600", None).expect_err("odd").to_string().ends_with("an odd number of digits at byte 5"));
    assert!(matches!(parse(" \n", None), Err(Error::Empty { .. })));
    assert!(matches!(Input::parse("in", Vec::new(), None), Err(Error::Empty { .. })));
    assert!(matches!(parse("hello world", None), Err(Error::NotHex { offset: 0, .. })));
    assert!(matches!(parse("; a comment\nzvm 1\n", None).expect("text").source, Source::Text(_)));
}

#[test]
fn solc_standard_json_selects_a_contract() {
    let document = standard();
    let all = "in: several contracts: a.sol:A, b.sol:A, b.sol:B";
    assert_eq!(error(&document, None), all, "contracts without code are not offered");
    assert_eq!(contract(&document, Some("B")).runtime, [0x60, 2]);
    assert_eq!(contract(&document, Some("b.sol:A")).runtime, [0x60, 3]);
    assert_eq!(error(&document, Some("A")), "in: several contracts: a.sol:A, b.sol:A");
    assert_eq!(error(&document, Some("C")), "in: no contract `C`; there are: a.sol:A, b.sol:A, b.sol:B");
    assert_eq!(error(&document, Some("Shape")), "in: no runtime bytecode for `Shape`");
    let info = json!({"id": "x", "input": {}, "output": document});
    assert_eq!(contract(&info, Some("B")).runtime, [0x60, 2]);
}

#[test]
fn immutables_and_libraries() {
    let deployed = json!({
        "object": format!("0x6001{}", "00".repeat(40)),
        "immutableReferences": {"7": [{"start": 30, "length": 4}], "3": [{"start": 2, "length": 8}]},
    });
    let foundry = json!({"abi": [], "bytecode": {"object": "0x00"}, "deployedBytecode": deployed});
    let found = contract(&foundry, None);
    assert_eq!(found.immutables, Immutables::Listed(vec![2..10, 30..34]));
    assert_eq!(found.creation, Some(vec![0]));

    let mut outside = foundry.clone();
    outside["deployedBytecode"]["immutableReferences"] = json!({"7": [{"start": 40, "length": 4}]});
    assert_eq!(
        error(&outside, None),
        "in: `deployedBytecode.immutableReferences.7` should be a list of start and length inside the code"
    );

    let mut unlinked = foundry;
    unlinked["deployedBytecode"]["object"] = json!(format!("0x6001__${}$__00", "a".repeat(34)));
    assert!(error(&unlinked, None).contains("byte 2 of the code should be the address of library $aaa"));
    unlinked["deployedBytecode"]["linkReferences"] = json!({"l.sol": {"Lib": [{"start": 2, "length": 20}]}});
    assert!(error(&unlinked, None).ends_with("the address of library l.sol:Lib"), "{}", error(&unlinked, None));
}

#[test]
fn other_artifacts() {
    let combined = json!({"contracts": {"a.sol:A": {"bin": "00", "bin-runtime": "6001", "abi": "[]"}}, "version": "0"});
    let found = contract(&combined, None);
    assert_eq!((found.runtime.as_slice(), found.name.as_deref()), (&[0x60, 1][..], Some("A")));
    assert!(found.abi.is_some(), "an interface inside a string is read");

    let odd = json!([{"type": "constructor", "name": "no", "inputs": 7}, {"type": "function", "name": "f", "inputs": [],
        "outputs": [], "stateMutability": "view"}]);
    let odd = json!({"runtime": "6001", "abi": odd});
    assert_eq!(contract(&odd, None).abi.expect("an interface").len(), 1, "an item that is malformed is left out");
    assert_eq!(error(&json!({"runtime": "6001", "abi": 7}), None), "in: `abi` should be a contract interface (ABI)");

    let hardhat = json!({"_format": "hh-sol-artifact-1", "contractName": "H", "abi": [], "bytecode": "0x00",
        "deployedBytecode": "0x6001", "linkReferences": {}, "deployedLinkReferences": {}});
    let found = contract(&hardhat, None);
    assert_eq!(
        (found.name.as_deref(), found.immutables),
        (Some("H"), Immutables::Unlisted),
        "Hardhat does not tell the immutables"
    );

    let unlisted = Contract { immutables: Immutables::Unlisted, ..contract(&hardhat, None) };
    let zeros = Contract { runtime: [&[0x5f, 0x7f][..], &[0; 32], &[0x7f], &[1; 32]].concat(), ..unlisted };
    let zero = 2..34;
    assert_eq!(zeros.placeholders(), std::slice::from_ref(&zero), "a PUSH32 of zero may be an immutable");

    let vyper = json!({"a.vy": {"bytecode": "0x00", "bytecode_runtime": "0x6001", "abi": []}, "version": "0.4"});
    assert_eq!(contract(&vyper, None).runtime, [0x60, 1]);

    let record = json!({"name": "R", "runtime": "6001", "immutables": [[0, 2]], "abi": []});
    let listed = std::iter::once(0..2).collect();
    assert_eq!(contract(&record, None).immutables, Immutables::Listed(listed));

    let failed = json!({"errors": [{"severity": "warning", "message": "w"}, {"severity": "error", "message": "bad"}]});
    assert_eq!(error(&failed, None), "in: the compiler failed: bad");
    assert!(error(&json!({"a": 1, "b": 2}), None).contains("its fields are: a, b"));
    assert_eq!(error(&json!([1]), None), "in: `the document` should be an object");
    let broken = json!({"deployedBytecode": {"object": 7}});
    assert_eq!(error(&broken, None), "in: `deployedBytecode.object` should be a string");
    assert!(matches!(parse("{\"a\": ", None), Err(Error::Json { .. })));
    let deep = "[".repeat(100_000);
    assert!(matches!(parse(&deep, None), Err(Error::Json { .. })), "nesting is limited");
}

#[test]
fn calldata_from_a_signature() {
    let args = |texts: &[&str]| texts.iter().map(|&text| Value::from(text)).collect::<Vec<_>>();
    let encode = |signature: &str, texts: &[&str]| {
        call::function(signature, None).and_then(|function| call::encode(&function, &args(texts))).map(hex::encode)
    };
    let to = "0x00000000000000000000000000000000000000aa";
    let expected = format!("a9059cbb{:0>64}{:0>64}", "aa", "3e8");
    assert_eq!(encode("transfer(address,uint256)", &[to, "1000"]).expect("encodes"), expected);
    assert_eq!(encode("transfer(address,uint)", &[to, "0x3e8"]).expect("`uint` is `uint256`"), expected);
    assert_eq!(encode("f()", &[]).expect("encodes").len(), 8);
    assert!(encode("f(int8)", &["-1"]).expect("encodes").ends_with(&"f".repeat(64)));
    for (signature, texts, code) in [
        ("f(uint256", &["1"][..], "ZV0801"),
        ("f", &["1"], "ZV0801"),
        ("f(uint7)", &["1"], "ZV0801"),
        ("f(uint256)", &[], "ZV0803"),
        ("f(uint256)", &["1", "2"], "ZV0803"),
        ("f(uint256)", &["x"], "ZV0804"),
        ("f(uint8)", &["256"], "ZV0804"),
        ("f(address)", &["0x12"], "ZV0804"),
        ("f(uint8[2])", &["[1]"], "ZV0804"),
    ] {
        assert_eq!(encode(signature, texts).expect_err(signature).code(), code, "{signature} {texts:?}");
    }
    let nested = format!("f({}uint256{})", "(".repeat(100_000), ")".repeat(100_000));
    assert_eq!(encode(&nested, &["1"]).expect_err("too deep").code(), "ZV0801");
    let nested = format!("f({}uint256{})", "(".repeat(2000), ")".repeat(2000));
    assert!(encode(&nested, &["1"]).is_err());
    let values = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(encode("f(uint256)", &[&values]).is_err());
}

#[test]
fn the_interface_is_consulted() {
    let abi = json!([
        {"type": "function", "name": "get", "inputs": [], "outputs": [{"name": "", "type": "uint256"}],
         "stateMutability": "view"},
        {"type": "function", "name": "set", "inputs": [{"name": "a", "type": "uint8"}], "outputs": [],
         "stateMutability": "view"},
        {"type": "function", "name": "set", "inputs": [{"name": "a", "type": "bool"}], "outputs": [],
         "stateMutability": "view"},
    ]);
    let abi: alloy_json_abi::JsonAbi = serde_json::from_value(abi).expect("an interface");
    let get = call::function("get", Some(&abi)).expect("by name");
    assert_eq!(call::decode_output(&get, &Word::from(7).to_be_bytes_vec()), Some(vec!["7".to_owned()]));
    assert!(call::function("set", Some(&abi)).expect_err("two").to_string().contains("overloaded"));
    assert!(call::function("set(bool)", Some(&abi)).is_ok());
    let missing = call::function("put(bool)", Some(&abi)).expect_err("unknown").to_string();
    assert_eq!(missing, "the contract has no function `put(bool)`; it has: get(), set(uint8), set(bool)");
}

#[test]
fn call_lists() {
    let base = Env { address: [1; 20], ..Env::default() };
    let list = json!([
        {"sig": "f(uint256[],(address,bool))", "args": [[1, "2"], [format!("0x{}", "11".repeat(20)), true]]},
        {"calldata": "0x0102", "caller": format!("0x{}", "22".repeat(20)), "value": "5", "block": {"number": 9}},
    ]);
    let calls = call::parse_list("calls", list.to_string().as_bytes(), &base, None).expect("parses");
    assert_eq!(calls[0].calldata.len(), 4 + 32 * 6);
    assert_eq!(calls[1].calldata, [1, 2]);
    assert_eq!((calls[1].env.caller, calls[1].env.origin), ([0x22; 20], [0x22; 20]));
    assert_eq!((calls[1].env.callvalue, calls[1].env.number), (Word::from(5), Word::from(9)));
    assert_eq!(calls[1].env.address, [1; 20]);
    for (list, message) in [
        (json!({}), "calls: `the document` should be a list of calls"),
        (json!([]), "calls: `the document` should be at least one call"),
        (json!([7]), "calls: `[0]` should be an object"),
        (json!([{}]), "calls [0]: no call: give calldata or a function signature"),
        (json!([{"sig": "f()", "calldata": "0x"}]), "calls [0]: both calldata and a function signature"),
        (json!([{"calldata": "0xg"}]), "calls [0].calldata: `0xg` is not bytes in hex"),
        (json!([{"calldata": "0x", "value": 1.5}]), "calls: `[0].value` should be a number or a string"),
        (json!([{"calldata": "0x", "caller": "0x1"}]), "calls [0].caller: `0x1` is not an address (40 hex digits)"),
    ] {
        let error = call::parse_list("calls", list.to_string().as_bytes(), &base, None).expect_err(message);
        assert_eq!(error.to_string(), message);
    }
    let unknown = json!([{"calldata": "0x", "gas": 1}]).to_string();
    let error = call::parse_list("calls", unknown.as_bytes(), &base, None).expect_err("unknown field");
    assert!(error.to_string().starts_with("calls: `[0].gas` should be one of"));
}

#[test]
fn states_round_trip() {
    let account = format!("0x{}", "ab".repeat(20));
    let document = json!({ account.clone(): {"balance": "0x10", "nonce": 3, "code": "0x6001",
        "storage": {"0x01": "0x02", "5": "0"}} });
    let state = State::from_json("state", document.to_string().as_bytes()).expect("parses");
    assert_eq!(state.slot(&[0xab; 20], &Word::from(1)), Word::from(2));
    assert_eq!(state.accounts[&[0xab; 20]].storage.len(), 1, "a zero is not stored");
    let again = State::from_json("state", state.to_json().to_string().as_bytes()).expect("its own output");
    assert_eq!(again, state);
    let env = Call { env: Env { address: [0xab; 20], callvalue: Word::from(4), ..Env::default() }, ..Call::default() };
    assert_eq!(env.env_in(&state).selfbalance, Word::from(20));
    let bad = json!({ account: {"balance": -1} });
    assert!(State::from_json("state", bad.to_string().as_bytes()).is_err());
}
