//! `zvm check --functions`: which functions of an interface can be proved, whatever the call.

use serde_json::{Value, json};
use zvm_ir::eval::keccak256;

mod command;

use command::{Folder, done, exit, run};

fn selector(signature: &str) -> String {
    hex::encode(&keccak256(signature.as_bytes()).to_be_bytes::<32>()[..4])
}

/// `one()` returns 1, `size(address)` the length of an account's code; `call(address)` calls it.
fn contract() -> Value {
    let [one, size, call] = ["one()", "size(address)", "call(address)"].map(selector);
    let dispatch = format!("5f3560e01c8063{one}1460255780 63{size}14602e5763{call}146039575f5ffd").replace(' ', "");
    let code =
        format!("0x{dispatch}5b60015f5260205ff3 5b6004353b5f5260205ff3 5b5f5f5f5f5f6004355af15000").replace(' ', "");
    let function = |name: &str, inputs: Value| json!({"type": "function", "name": name, "inputs": inputs, "outputs": [], "stateMutability": "nonpayable"});
    let address = json!([{"name": "account", "type": "address"}]);
    json!({"contractName": "Three", "bytecode": "0x", "deployedBytecode": code,
        "abi": [function("one", json!([])), function("size", address.clone()), function("call", address)]})
}

#[test]
fn each_function_by_itself() {
    let folder = Folder::new();
    let file = folder.write("Three.json", contract().to_string());
    let answer = done(&["check", &file, "--functions"]);
    assert_eq!(answer["proof_ring"], json!(false));
    let functions = answer["by_function"].as_array().expect("a list");
    let facts = functions.iter().map(|function| {
        let exits: Vec<&Value> = function["exits"].as_array().expect("a list").iter().map(|exit| &exit["pc"]).collect();
        json!([function["signature"], function["provable"], function["reaches_accounts"], exits])
    });
    let expected = json!([
        ["call(address)", false, true, [66]],
        ["one()", true, false, []],
        ["size(address)", false, false, [50]],
    ]);
    assert_eq!(Value::from_iter(facts), expected);
    let text = run(&["check", &file, "--functions"]);
    assert_eq!(exit(&text), 0);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("1 of 3 functions can be proved, whatever the call"), "{text}");
}

#[test]
fn without_an_interface_there_are_no_functions() {
    let output = run(&["check", "0x5f5ff3", "--functions", "--json"]);
    assert_eq!(exit(&output), 2);
    let error: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(error["error"]["code"], json!("ZV0718"));
}
