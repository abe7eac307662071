//! `zvm state`: a state goes into a file and comes back equal, slot by slot; what is not known is refused; proofs of slots.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use zvm::state::World;
use zvm::{Input, Program, State};
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::replay::Prepared;
use zvm_backend_circuit::state::storage::{Bls12, Bn254};
use zvm_ir::{Env, Word};

mod command;

use command::{Folder, done, exit, run};

/// `storage[keccak(j, keccak(k, 5)) + 1] = v` for the three words of calldata.
const NESTED: &str = "0x6000356000526005602052604060002060203560005260205260406000206001016040359055005b";
const ACCOUNT: &str = "0x1111111111111111111111111111111111111111";

fn refused(args: &[&str]) -> (i32, Value) {
    let output = run(&[args, &["--json"]].concat());
    (exit(&output), serde_json::from_slice(&output.stdout).expect("JSON"))
}

fn word(value: u64) -> String {
    format!("{value:064x}")
}

fn calldata(k: u64, j: u64, v: u64) -> String {
    format!("0x{}{}{}", word(k), word(j), word(v))
}

/// A state in which the program has run twenty times, the calls that did so, and nothing known of the slots.
fn ran(folder: &Folder) -> (String, String, Value) {
    let calls: Vec<Value> =
        (0..20).map(|i| json!({"calldata": calldata(i % 5, i, i + 100), "address": ACCOUNT})).collect();
    let calls = folder.write("calls.json", Value::from(calls).to_string());
    let before = json!({ACCOUNT: {
        "balance": "0x7", "nonce": 3, "code": NESTED, "storage": {"0x2": "0x63", "0x3": "0x64"},
    }, "0x2222222222222222222222222222222222222222": {"balance": "0x8", "storage": {"0x0": "0x1"}}});
    let before = folder.write("before.json", before.to_string());
    let after = folder.path("after.json");
    done(&["run", NESTED, "--calls", &calls, "--executor", "evm", "--state", &before, "--state-out", &after]);
    let state: Value = serde_json::from_slice(&fs::read(&after).expect("written")).expect("JSON");
    let storage = state[ACCOUNT]["storage"].as_object().expect("slots");
    assert_eq!(storage.len(), 22);
    (after, calls, state)
}

#[test]
fn a_state_comes_back_slot_by_slot() {
    let folder = Folder::new();
    let (after, calls, state) = ran(&folder);
    for field in ["bn254", "bls12-381"] {
        let file = folder.path(&format!("{field}.zvms"));
        let made = done(&["state", "import", &after, "-o", &file, "--calls", &calls, "--field", field]);
        assert_eq!((&made["leaves"], &made["accounts"], &made["field"]), (&json!(24), &json!(2), &json!(field)));
        assert_eq!(done(&["state", "export", &file]), state);
        let copy = folder.path("copy.json");
        done(&["state", "export", &file, "-o", &copy]);
        assert_eq!(serde_json::from_slice::<Value>(&fs::read(&copy).expect("written")).expect("JSON"), state);
        let root = done(&["state", "root", &file, "--check"]);
        assert_eq!((&root["root"], &root["leaves"]), (&made["root"], &json!(24)));
        // Again: the same root.
        let again = folder.path(&format!("{field}.again"));
        assert_eq!(
            done(&["state", "import", &after, "-o", &again, "--calls", &calls, "--field", field])["root"],
            made["root"]
        );
    }
}

#[test]
fn slots_are_read_by_number_and_by_place() {
    let folder = Folder::new();
    let (after, calls, state) = ran(&folder);
    let file = folder.path("state.zvms");
    done(&["state", "import", &after, "-o", &file, "--calls", &calls]);
    let place = "keccak(0x7, keccak(0x2, 0x5))+1";
    let by_place = done(&["state", "get", &file, ACCOUNT, place]);
    assert_eq!(by_place["value"], json!(format!("0x{}", word(107))));
    let slot = by_place["slot"].as_str().expect("text");
    assert_eq!(state[ACCOUNT]["storage"][slot], by_place["value"]);
    assert_eq!(done(&["state", "get", &file, ACCOUNT, slot]), by_place);
    assert_eq!(by_place["place"], json!(place));
    let absent = done(&["state", "get", &file, ACCOUNT, "keccak(0x9, keccak(0x2, 0x5))+1"]);
    assert_eq!(absent["value"], json!(format!("0x{}", word(0))));
    assert_eq!(done(&["state", "get", &file, ACCOUNT, "3"])["value"], json!(format!("0x{}", word(100))));
    // The number of a hash that nobody knows.
    let unknown = format!("0x{}", "ab".repeat(32));
    let (code, error) = refused(&["state", "get", &file, ACCOUNT, &unknown]);
    assert_eq!((code, &error["error"]["code"]), (2, &json!("ZV0717")));
    assert_eq!(refused(&["state", "get", &file, ACCOUNT, "keccak(1"]).0, 2);
    assert_eq!(refused(&["state", "get", &file, "0x11", "3"]).0, 2);
}

#[test]
fn proofs_of_slots_are_verified() {
    let folder = Folder::new();
    let (after, calls, _) = ran(&folder);
    let file = folder.path("state.zvms");
    let root =
        done(&["state", "import", &after, "-o", &file, "--calls", &calls])["root"].as_str().expect("text").to_owned();
    for (place, value) in [("keccak(0x7, keccak(0x2, 0x5))+1", 107), ("3", 100), ("4", 0)] {
        let proof = folder.path("proof.json");
        done(&["state", "prove", &file, ACCOUNT, place, "-o", &proof]);
        let verified = done(&["state", "prove", "--verify", &proof, "--root", &root]);
        assert_eq!((&verified["valid"], &verified["value"]), (&json!(true), &json!(format!("0x{}", word(value)))));
        // Another root, another value, another place, another account.
        let other = format!("0x{}", word(5));
        let (code, answer) = refused(&["state", "prove", "--verify", &proof, "--root", &other]);
        assert_eq!((code, &answer["valid"]), (1, &json!(false)));
        let honest: Value = serde_json::from_slice(&fs::read(&proof).expect("written")).expect("JSON");
        let edits: [(&str, Value); 4] = [
            ("/leaf/value", json!("0x9")),
            ("/place", json!("keccak(0x8, keccak(0x3, 0x5))+1")),
            ("/address", json!("0x2222222222222222222222222222222222222222")),
            ("/path/0/0", json!("0x9")),
        ];
        for (at, new) in edits {
            let mut lie = honest.clone();
            *lie.pointer_mut(at).expect("a field") = new;
            let lie = folder.write("lie.json", lie.to_string());
            let (code, answer) = refused(&["state", "prove", "--verify", &lie, "--root", &root]);
            // An absent slot's leaf may show that its neighbours are absent too, but never another value.
            let absent = answer["valid"] == json!(true) && answer["value"] == json!(format!("0x{}", word(0)));
            assert!(code == 1 || absent, "{place} {at}: {answer}");
        }
        for at in ["/leaf", "/path", "/field", "/place", "/count"] {
            let mut lie = honest.clone();
            *lie.pointer_mut(at).expect("a field") = json!(true);
            let lie = folder.write("lie.json", lie.to_string());
            assert_eq!(refused(&["state", "prove", "--verify", &lie, "--root", &root]).0, 2, "{at}");
        }
    }
    assert_eq!(exit(&run(&["state", "prove", &file, ACCOUNT])), 2);
    assert_eq!(exit(&run(&["state", "prove", "--verify", &file])), 2);
}

/// Numbers that no hash lies near are slots by themselves: below 2^128, and as near to 2^256. A larger one may be the hash of anything.
#[test]
fn slots_far_from_hashes_have_places() {
    let folder = Folder::new();
    let file = folder.path("state.zvms");
    let (small, large) = ("0x5345cdf77eb68f44c", format!("0x{}74873927", "f".repeat(56)));
    let state = |slot: &str| json!({ACCOUNT: {"storage": {slot: "0x7"}}}).to_string();
    for (at, slot) in [small, &large].into_iter().enumerate() {
        let (document, file) = (folder.write("far.json", state(slot)), format!("{file}{at}"));
        done(&["state", "import", &document, "-o", &file]);
        let back = done(&["state", "export", &file]);
        let slots = back[ACCOUNT]["storage"].as_object().expect("slots");
        assert!(slots.len() == 1 && slots.keys().any(|key| key.ends_with(slot.trim_start_matches("0x"))), "{back}");
    }
    let middle = folder.write("middle.json", state(&format!("0x1{}", "0".repeat(32))));
    let (code, error) = refused(&["state", "import", &middle, "-o", &file]);
    assert_eq!((code, &error["error"]["code"]), (2, &json!("ZV0717")));
}

#[test]
fn a_slot_whose_place_is_not_known_is_named() {
    let folder = Folder::new();
    let (after, calls, state) = ran(&folder);
    let file = folder.path("state.zvms");
    let import = |more: &[&str]| refused(&[&["state", "import", &after, "-o", &file], more].concat());
    let (code, error) = import(&[]);
    assert_eq!((code, &error["error"]["code"]), (2, &json!("ZV0717")));
    let message = error["error"]["message"].as_str().expect("text");
    let named =
        state[ACCOUNT]["storage"].as_object().expect("slots").keys().find(|slot| message.contains(slot.as_str()));
    assert!(named.is_some() && message.contains(ACCOUNT), "{message}");
    assert!(error["error"]["help"].as_str().expect("help").contains("--preimages"));
    assert!(!Path::new(&file).exists());
    // Calls that do not read all of it.
    let few: Value = serde_json::from_slice(&fs::read(&calls).expect("there")).expect("JSON");
    let few = folder.write("few.json", Value::from(few.as_array().expect("a list")[..19].to_vec()).to_string());
    assert_eq!(import(&["--calls", &few]).0, 2);
    // A call of an account without code.
    let none =
        folder.write("none.json", r#"[{"calldata": "0x", "address": "0x3333333333333333333333333333333333333333"}]"#);
    assert_eq!(import(&["--calls", &none]).0, 2);
    // An existing file is not overwritten.
    fs::write(&file, "mine").expect("writable");
    assert_eq!(import(&["--calls", &calls]).0, 2);
    assert_eq!(fs::read(&file).expect("there"), b"mine");
}

/// The same file by each of the ways to say what is hashed.
#[test]
fn places_come_from_preimages_lists_and_layouts() {
    let folder = Folder::new();
    let (after, calls, _) = ran(&folder);
    let import = |name: &str, more: &[&str]| {
        let file = folder.path(name);
        done(&[&["state", "import", &after, "-o", &file], more].concat())["root"].clone()
    };
    let root = import("calls.zvms", &["--calls", &calls]);
    let keccak = |words: &str| {
        let bytes = hex::decode(words).expect("hex");
        format!("{:064x}", zvm_ir::eval::keccak256(&bytes))
    };
    let mut preimages = Vec::new();
    let mut places = Vec::new();
    for i in 0..20 {
        let outer = word(i % 5) + &word(5);
        preimages.push(format!("0x{}{}", word(i), keccak(&outer)));
        preimages.push(format!("0x{outer}"));
        places.push(format!("keccak({i}, keccak({}, 5))+1", i % 5));
    }
    let list = folder.write("list.json", json!(preimages).to_string());
    assert_eq!(import("list.zvms", &["--preimages", &list]), root);
    let map: Value =
        preimages.iter().map(|text| (keccak(&text[2..]), json!(text))).collect::<serde_json::Map<_, _>>().into();
    let map = folder.write("map.json", map.to_string());
    assert_eq!(import("map.zvms", &["--preimages", &map]), root);
    let places = folder.write("places.json", json!(places).to_string());
    assert_eq!(import("places.zvms", &["--places", &places]), root);
    let layout = json!({"storage": [{"slot": "5", "offset": 0, "label": "m", "type": "outer"}], "types": {
        "outer": {"encoding": "mapping", "key": "word", "value": "inner", "numberOfBytes": "32"},
        "inner": {"encoding": "mapping", "key": "word", "value": "pair", "numberOfBytes": "32"},
        "pair": {"encoding": "inplace", "numberOfBytes": "64", "members": [
            {"slot": "0", "offset": 0, "label": "a", "type": "word"}, {"slot": "1", "offset": 0, "label": "b", "type": "word"}]},
        "word": {"encoding": "inplace", "numberOfBytes": "32"},
    }});
    let layout = folder.write("layout.json", layout.to_string());
    let keys = folder.write("keys.json", json!((0..20).collect::<Vec<u64>>()).to_string());
    assert_eq!(import("layout.zvms", &["--layout", &layout, "--keys", &keys]), root);
}

/// `storage[keccak(5, k)] = v` for the two words of calldata: a mapping as Vyper hashes it.
const PLACE_FIRST: &str = "0x600560005260003560205260203560406000205500";

/// `storage[C + 1] = v` for the word of calldata, and `storage[keccak(k, 7)] = v` for one more, where C is the entry 3 of the mapping 7.
fn with_constant() -> String {
    let entry = zvm_ir::eval::keccak256(&hex::decode(word(3) + &word(7)).expect("hex")) + Word::from(1);
    format!("0x6000357f{entry:064x}55600035602035600052600760205260406000205500")
}

/// The roots of the account's storage that proofs of these calls begin with.
fn roots_of_proofs(code: &str, calls: &str, state: &str) -> [Word; 2] {
    let program = Program::load(&Input::read(code, None).expect("a program")).expect("inside the subset");
    let circuit = program.circuit().expect("compiles");
    let read = |path: &str| fs::read(path).expect("there");
    let state = State::from_json(state, &read(state)).expect("a state");
    let calls = zvm::call::parse_list(calls, &read(calls), &Env::default(), None).expect("calls");
    let world = World { state: &state, env: &calls[0].env, code: program.code().expect("bytecode") };
    let run: Vec<_> = calls.iter().map(|call| circuit_call(call.calldata.clone(), call.env_in(&state))).collect();
    let execution = Arc::new(circuit.execute_all(&run, &world).expect("provable"));
    let slots = &state.accounts[&execution.record.account].storage;
    let slots = || slots.iter().map(|(&slot, &value)| (slot, value));
    let bn254 = Prepared::<Bn254>::from_slots(&circuit, &execution, slots()).expect("all slots are known");
    let bls12 = Prepared::<Bls12>::from_slots(&circuit, &execution, slots()).expect("all slots are known");
    [to_u256(&bn254.roots.pre), to_u256(&bls12.roots.pre)]
}

fn circuit_call(calldata: Vec<u8>, env: Env) -> zvm_backend_circuit::execute::Call {
    zvm_backend_circuit::execute::Call { calldata, env }
}

/// The root of a state file is the root that a proof of the same storage begins with, over each field, however the program hashes, and
/// without being told how.
#[test]
fn roots_of_files_are_roots_of_proofs() {
    let folder = Folder::new();
    let pairs = |i: u64| format!("0x{}{}", word(i % 7), word(i + 100));
    let cases: [(&str, String, Vec<String>, &[&str]); 3] = [
        ("solidity", NESTED.to_owned(), (0..12).map(|i| calldata(i % 5, i, i + 100)).collect(), &["--calls"]),
        ("vyper", PLACE_FIRST.to_owned(), (0..9).map(pairs).collect(), &["--calls"]),
        // Nothing is said of it: its only large slot is a constant of the code.
        ("constant", with_constant(), vec![format!("0x{}{}", word(9), word(3))], &[]),
    ];
    for (name, code, calls, options) in cases {
        let list: Vec<Value> = calls.iter().map(|data| json!({"calldata": data, "address": ACCOUNT})).collect();
        let calls = folder.write(&format!("{name}.calls"), Value::from(list).to_string());
        let before = json!({ACCOUNT: {"balance": "0x7", "code": code, "storage": {"0x2": "0x63"}}});
        let before = folder.write(&format!("{name}.before"), before.to_string());
        let after = folder.path(&format!("{name}.after"));
        done(&["run", &code, "--calls", &calls, "--state", &before, "--state-out", &after]);
        let roots = roots_of_proofs(&code, &calls, &after);
        assert_ne!(roots[0], roots[1]);
        for (field, root) in ["bn254", "bls12-381"].iter().zip(roots) {
            let file = folder.path(&format!("{name}.{field}"));
            let mut import = vec!["state", "import", &after, "-o", &file, "--field", field];
            options.iter().for_each(|option| import.extend([*option, &calls]));
            assert_eq!(done(&import)["root"], json!(format!("{root:#066x}")), "{name} {field}");
        }
    }
}

/// A place that a user gives has the key that proofs give it.
#[test]
fn places_that_are_given_are_those_of_the_program() {
    let folder = Folder::new();
    let calls = json!([{"calldata": format!("0x{}{}", word(4), word(9)), "address": ACCOUNT}]);
    let calls = folder.write("calls.json", calls.to_string());
    let before = folder.write("before.json", json!({ACCOUNT: {"code": PLACE_FIRST}}).to_string());
    let after = folder.path("after.json");
    done(&["run", PLACE_FIRST, "--calls", &calls, "--state", &before, "--state-out", &after]);
    let root = json!(format!("{:#066x}", roots_of_proofs(PLACE_FIRST, &calls, &after)[0]));
    for (at, place) in ["keccak([5], 4)", "keccak(5, 4)"].iter().enumerate() {
        let (places, file) = (folder.write("places.json", json!([place]).to_string()), folder.path(&at.to_string()));
        let made = done(&["state", "import", &after, "-o", &file, "--places", &places]);
        assert_eq!(made["root"], root, "{place}");
        let slot = zvm_ir::eval::keccak256(&hex::decode(word(5) + &word(4)).expect("hex"));
        let got = done(&["state", "get", &file, ACCOUNT, &format!("{slot:#066x}")]);
        assert_eq!(got["place"], json!("keccak([0x5], 0x4)"));
    }
}

#[test]
fn files_that_are_no_state_are_refused() {
    let folder = Folder::new();
    for content in [&b""[..], b"{}", &[7; 4096]] {
        let file = folder.write("file", content);
        for args in [&["root"][..], &["export"], &["get"]] {
            let more: &[&str] = if args == ["get"] { &[ACCOUNT, "1"] } else { &[] };
            let (code, error) = refused(&[&["state"], args, &[&file], more].concat());
            assert_eq!((code, &error["error"]["code"]), (2, &json!("ZV0716")));
        }
    }
    assert_eq!(refused(&["state", "root", &folder.path("none")]).0, 2);
}
