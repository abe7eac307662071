//! Contracts on L1: they accept what the native verifier accepts, refuse everything else, and cost what `docs/l1.md` says.
//!
//! Real proofs, in whole transactions, at Prague and Osaka. Keys are made once and kept between runs.

mod chain;
mod token;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use bellpepper_core::ConstraintSystem;
use blstrs::{G1Affine, G2Affine, Scalar};
use chain::{Chain, FORKS};
use revm::primitives::Address;
use serde_json::Value;
use zvm::artifact::{self, Expected, Room, ShortCircuit, VerifiedShort};
use zvm::l1::{self, Contracts};
use zvm::{Call, Input, Program, Source as Given, State};
use zvm_backend_circuit::artifact::{KeyHeader, Origin};
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::gadgets::{Lc, enforce_equal};
use zvm_backend_circuit::groth16::{OneShot, Proof, ProvingKey};
use zvm_backend_circuit::keys::{self, Keys, Source};
use zvm_backend_circuit::public_input;
use zvm_backend_circuit::statement::Elements;
use zvm_ir::{Env, Halt, Word};

/// The transaction gas that a verification may cost.
const BAR: u64 = 215_000;
/// What a verification costs besides the bytes of its calldata; `docs/l1.md` says of what.
const WITHOUT_CALLDATA: u64 = 202_699;

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/groth16"))
}

fn load(input: Input) -> (Input, Program) {
    let program = Program::load(&input).expect("inside the subset");
    (input, program)
}

fn fixed_point() -> (Input, Program) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fixed-point/FixedPoint.json");
    load(Input::read(&path.display().to_string(), None).expect("readable"))
}

/// The public benchmark `fibonacci-calldata`.
fn fibonacci() -> Program {
    let code = "0x5f355f60015b8215601a578181019150909160019003916005565b9150505f5260205ff3";
    load(Input::read(code, None).expect("readable")).1
}

fn call(input: &Input, name: &str, args: &[&str]) -> Call {
    let Given::Contract(contract) = &input.source else { panic!("a contract is expected") };
    let args: Vec<_> = args.iter().map(|&text| Value::from(text)).collect();
    let function = zvm::call::function(name, contract.abi.as_ref()).expect("in the interface");
    Call { calldata: zvm::call::encode(&function, &args).expect("encodes"), env: Env::default() }
}

/// A program with its keys, their contracts, and a verified proof of each call.
struct Proved {
    keys: Keys,
    contracts: Contracts,
    proofs: Vec<VerifiedShort>,
}

fn prove(program: &Program, calls: &[Call]) -> Proved {
    let to = Source::Folder(folder());
    let state = State::default();
    let each: Vec<&[Call]> = calls.chunks(1).collect();
    let room = Room::Calls(&each, zvm::Start::State(&state));
    let keys = ShortCircuit::new(program, room).expect("provable").insecure_setup(to).expect("keys");
    let proofs = each
        .iter()
        .map(|calls| {
            let (proved, origin) =
                artifact::prove_short(program, calls, &state, Source::File(&keys.path)).expect("a proof that verifies");
            assert_eq!(origin, Origin::InsecureLocal);
            let bytes = proved.file.encode();
            artifact::verify_short("proof", &bytes, program, &Expected::default(), to).expect("valid")
        })
        .collect();
    Proved { contracts: l1::contracts(&keys).expect("compiles"), keys, proofs }
}

/// One call that returns and one that reverts.
fn divisions() -> &'static Proved {
    static PROVED: OnceLock<Proved> = OnceLock::new();
    PROVED.get_or_init(|| {
        let (input, program) = fixed_point();
        let calls = [call(&input, "div", &["5", "0"]), call(&input, "div", &["6000000000000000000", "3"])];
        let proved = prove(&program, &calls);
        let halts: Vec<Halt> = proved.proofs.iter().map(|proof| proof.file.outcomes[0].halt).collect();
        assert_eq!(halts, [Halt::Revert, Halt::Return]);
        proved
    })
}

/// A transition that moves the root by the number that stands for its calls: what a program with a state does.
#[derive(Clone)]
struct Moved(Option<Elements<Scalar>>);

impl Moved {
    fn by(pre_root: u64, calls: u64) -> Self {
        let [pre_root, calls] = [pre_root, calls].map(Scalar::from);
        let post_root = pre_root + calls;
        Self(Some(Elements { pre_root, post_root, account: Scalar::from(4), calls, outcomes: Scalar::from(5) }))
    }
}

impl OneShot<Scalar> for Moved {
    fn synthesize<CS: ConstraintSystem<Scalar>>(&self, cs: &mut CS) -> Result<Lc<Scalar>, CircuitError> {
        let [account, outcomes] = [4, 5].map(|value| Some(Scalar::from(value)));
        let fixed = Elements { pre_root: None, post_root: None, account, calls: None, outcomes };
        let public_input::Opened { elements, input } = public_input::open(cs, fixed, self.0.as_ref())?;
        let moved = elements.pre_root.plus(&elements.calls);
        enforce_equal(cs, || "moved".into(), &moved, &elements.post_root);
        Ok(input)
    }
}

/// The keys of [`Moved`], and their contracts.
fn moving() -> &'static (ProvingKey, Contracts) {
    static KEYS: OnceLock<(ProvingKey, Contracts)> = OnceLock::new();
    KEYS.get_or_init(|| {
        let path: PathBuf = folder().join("moved.zvmk");
        let _lock = keys::lock(&path).expect("a lock");
        let header = |key: &ProvingKey| KeyHeader {
            origin: Origin::InsecureLocal,
            program: Word::from(1),
            circuit: Word::from(2),
            rows: 0,
            plan: vec![],
            verifying: key.verifying().expect("a key").to_bytes(),
        };
        let keys = Keys::read(&path).unwrap_or_else(|_| {
            let key = ProvingKey::insecure(&Moved(None)).expect("keys");
            Keys::write(&path, header(&key), &key).expect("written")
        });
        (keys.proving().expect("readable"), l1::contracts(&keys).expect("compiles"))
    })
}

fn proof_of(moved: &Moved) -> Proof {
    moving().0.prove(moved).expect("proved")
}

fn anchor_creation(contracts: &Contracts, field: Word, root: Word) -> Vec<u8> {
    [&contracts.anchor.creation[..], &field.to_be_bytes::<32>(), &root.to_be_bytes::<32>()].concat()
}

fn modulus() -> Word {
    to_u256(&-Scalar::from(1)) + Word::from(1)
}

/// A transaction is refused, and costs no less than it should: nothing is returned.
fn refused(chain: &mut Chain, to: Address, what: &str, data: &[u8]) {
    let receipt = chain.call(to, data);
    assert!(!receipt.success && receipt.output.is_empty(), "{what}: {receipt:?}");
}

fn calldata_gas(data: &[u8]) -> u64 {
    data.iter().map(|&byte| if byte == 0 { 4 } else { 16 }).sum()
}

#[test]
fn valid_proofs_are_accepted_within_the_bar() {
    let proved = divisions();
    for fork in FORKS {
        let mut chain = Chain::new(fork);
        let verifier = chain.deploy(&proved.contracts.verifier.creation).expect("deployed");
        let anchor = chain.deploy(&anchor_creation(&proved.contracts, modulus(), Word::ZERO)).expect("deployed");
        for proof in &proved.proofs {
            let data = &proof.verify_calldata;
            for to in [verifier, anchor] {
                let receipt = chain.call(to, data);
                assert!(receipt.success, "{fork:?}");
                assert_eq!(receipt.output, Word::from(1).to_be_bytes_vec());
                assert!(receipt.gas <= BAR, "{} gas", receipt.gas);
            }
            let receipt = chain.call(verifier, data);
            assert_eq!(receipt.gas - calldata_gas(data), WITHOUT_CALLDATA, "docs/l1.md says what it is made of");
        }
    }
}

/// The benchmark for n = 100, whose result is the 101st Fibonacci number: the largest of the circuits here.
#[test]
fn fibonacci_is_accepted_within_the_bar() {
    if std::env::var_os("ZVM_SLOW").is_none() {
        eprintln!("skipped: set ZVM_SLOW=1");
        return;
    }
    let call = Call { calldata: Word::from(100).to_be_bytes_vec(), env: Env::default() };
    let proved = prove(&fibonacci(), &[call]);
    let number =
        proved.proofs[0].file.outcomes[0].data.iter().fold(0u128, |number, &byte| number << 8 | u128::from(byte));
    assert_eq!(number, 573_147_844_013_817_084_101);
    for fork in FORKS {
        let mut chain = Chain::new(fork);
        let verifier = chain.deploy(&proved.contracts.verifier.creation).expect("deployed");
        let receipt = chain.call(verifier, &proved.proofs[0].verify_calldata);
        assert!(receipt.success && receipt.gas <= BAR, "{receipt:?}");
    }
}

/// The page says what is measured, and the bar holds for the worst calldata: every byte that can be other than zero is.
#[test]
fn the_page_says_what_a_verification_costs() {
    let page = include_str!("../../docs/l1.md");
    let (proof_bytes, padding, elements, selector) = (512, 128, 160, 4);
    let proof = 16 * (proof_bytes - padding) + 4 * padding;
    let (elements, selector) = (16 * elements, 16 * selector);
    let (transaction, pairing, multiplication, addition, hash) =
        (21_000, 32_600 * 4 + 37_700, 12_000, 375, 60 + 12 * 5);
    let rest = WITHOUT_CALLDATA - transaction - pairing - multiplication - addition - hash;
    let total = WITHOUT_CALLDATA + proof + elements + selector;
    assert!(total <= BAR, "{total}");
    let rows = [
        ("transaction", transaction),
        ("calldata: selector", selector),
        ("calldata: proof", proof),
        ("calldata: statement", elements),
        ("pairing check, four pairs", pairing),
        ("G1MSM, one point", multiplication),
        ("G1ADD", addition),
        ("SHA-256 of 160 bytes", hash),
        ("the contract's own instructions and memory", rest),
        ("**at most**", total),
    ];
    for (what, gas) in rows {
        let row = format!("| {what} | {} |", grouped(gas));
        assert!(page.contains(&row), "docs/l1.md lacks: {row}");
    }
    let contracts = &divisions().contracts;
    for contract in [&contracts.verifier, &contracts.anchor] {
        let row = format!("| `{}` | {} |", contract.name, grouped(contract.runtime.len() as u64));
        assert!(page.contains(&row), "docs/l1.md lacks: {row}");
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_interface_is_what_it_says() {
    let proved = divisions();
    let abi: alloy_json_abi::JsonAbi =
        serde_json::from_value(proved.contracts.anchor.abi.clone()).expect("an interface");
    let data = &proved.proofs[0].verify_calldata;
    let verify = &abi.functions["verify"][0];
    assert_eq!(verify.selector().as_slice(), &data[..4]);
    assert_eq!(verify.signature(), "verify(uint256[16],uint256[5])");
    assert_eq!(abi.functions["advance"][0].selector().as_slice(), &proved.proofs[0].advance_calldata[..4]);
    assert_eq!(data.len(), 4 + 512 + 160);
    let mut chain = Chain::new(FORKS[0]);
    let anchor = chain.deploy(&anchor_creation(&proved.contracts, modulus(), Word::from(77))).expect("deployed");
    let header = &proved.keys.header;
    let expected =
        [("program", header.program), ("circuit", header.circuit), ("field", modulus()), ("root", Word::from(77))];
    for (name, value) in expected {
        let selector = abi.functions[name][0].selector();
        let receipt = chain.call(anchor, selector.as_slice());
        assert!(receipt.success, "{name}");
        assert_eq!(receipt.output, value.to_be_bytes_vec(), "{name}");
    }
    for data in [&[][..], &[1], &[1, 2, 3, 4], &data[..3]] {
        refused(&mut chain, anchor, "no function", data);
    }
    for contract in [&proved.contracts.verifier, &proved.contracts.anchor] {
        assert!(contract.solidity.contains("INSECURE") == (contract.name == "ZvmVerifier"));
        assert!(!contract.solidity.contains('{') || !contract.solidity.contains("{KEY}"));
    }
}

/// Every byte of proof and statement, at Prague; some of them at Osaka.
#[test]
fn every_altered_byte_is_refused() {
    let proved = divisions();
    let good = &proved.proofs[0].verify_calldata;
    for (fork, step) in FORKS.into_iter().zip([1, 41]) {
        let mut chain = Chain::new(fork);
        let verifier = chain.deploy(&proved.contracts.verifier.creation).expect("deployed");
        for at in (0..good.len()).step_by(step) {
            let mut data = good.clone();
            data[at] ^= 1 << (at % 8);
            refused(&mut chain, verifier, &format!("byte {at}"), &data);
        }
        assert!(chain.call(verifier, good).success);
    }
}

#[test]
fn calldata_of_another_length_is_refused() {
    let proved = divisions();
    let good = &proved.proofs[0].verify_calldata;
    for fork in FORKS {
        let mut chain = Chain::new(fork);
        let verifier = chain.deploy(&proved.contracts.verifier.creation).expect("deployed");
        for len in [0, 3, 4, 5, 515, 516, 517, 675] {
            refused(&mut chain, verifier, &format!("{len} bytes"), &good[..len]);
        }
        for more in [1, 32, 100_000] {
            let data = [&good[..], &vec![0; more]].concat();
            refused(&mut chain, verifier, &format!("{more} bytes more"), &data);
        }
    }
}

/// An element and the same element plus the modulus are the same number in the field, and one of them is no statement.
#[test]
fn elements_past_the_modulus_are_refused() {
    let proved = divisions();
    let good = &proved.proofs[0].verify_calldata;
    let mut chain = Chain::new(FORKS[1]);
    let verifier = chain.deploy(&proved.contracts.verifier.creation).expect("deployed");
    for element in 0..5 {
        let at = 516 + 32 * element;
        let value = Word::from_be_slice(&good[at..at + 32]);
        let Some(alias) = value.checked_add(modulus()) else { continue };
        for value in [alias, modulus(), Word::MAX] {
            let mut data = good.clone();
            data[at..at + 32].copy_from_slice(&value.to_be_bytes::<32>());
            refused(&mut chain, verifier, &format!("element {element}"), &data);
        }
    }
}

fn eip(coordinates: &[&[u8]]) -> Vec<u8> {
    coordinates.iter().flat_map(|part| [&[0; 16], *part].concat()).collect()
}

/// Points that are off the curve, on it and outside the subgroup, at infinity, of unreduced coordinates, and good points of other places.
#[test]
fn points_that_are_none_are_refused() {
    let proved = divisions();
    let good = &proved.proofs[0].verify_calldata;
    let (a, b, c) = (4..132, 132..388, 388..516);
    let mut attacks: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut attack = |what, range: core::ops::Range<usize>, bytes: &[u8]| {
        let mut data = good.clone();
        data[range].copy_from_slice(bytes);
        assert_ne!(&data, good, "{what}");
        attacks.push((what, data));
    };
    let [mut outside_1, mut outside_2] = [0, 0];
    for x in 1..=60u8 {
        let mut bytes = [0u8; 48];
        (bytes[0], bytes[47]) = (0x80, x);
        if let Some(point) = Option::<G1Affine>::from(G1Affine::from_compressed_unchecked(&bytes))
            && !bool::from(point.is_torsion_free())
            && outside_1 < 3
        {
            let u = point.to_uncompressed();
            attack("A outside the subgroup", a.clone(), &eip(&[&u[..48], &u[48..]]));
            attack("C outside the subgroup", c.clone(), &eip(&[&u[..48], &u[48..]]));
            outside_1 += 1;
        }
        let mut bytes = [0u8; 96];
        (bytes[0], bytes[95]) = (0x80, x);
        if let Some(point) = Option::<G2Affine>::from(G2Affine::from_compressed_unchecked(&bytes))
            && !bool::from(point.is_torsion_free())
            && outside_2 < 3
        {
            let u = point.to_uncompressed();
            attack("B outside the subgroup", b.clone(), &eip(&[&u[48..96], &u[..48], &u[144..], &u[96..144]]));
            outside_2 += 1;
        }
    }
    assert_eq!((outside_1, outside_2), (3, 3));
    attack("A at infinity", a.clone(), &[0; 128]);
    attack("B at infinity", b.clone(), &[0; 256]);
    attack("C at infinity", c.clone(), &[0; 128]);
    attack("C in the place of A", a.clone(), &good[c.clone()]);
    attack("A of all ones", a.clone(), &[0xff; 128]);
    let mut off = [0; 128];
    (off[63], off[127]) = (1, 1);
    attack("A off the curve", a.clone(), &off);
    attack("C off the curve", c.clone(), &off);
    let mut off = [0; 256];
    (off[63], off[191]) = (1, 1);
    attack("B off the curve", b.clone(), &off);
    // The negative of a point: y becomes p − y.
    let p = "1a0111ea397fe69a4b1ba7b6434bacd764774b84f38512bf6730d2a0f6b0f6241eabfffeb153ffffb9feffffffffaaab";
    let p = hex::decode(p).expect("hex");
    let minus = |y: &[u8]| -> Vec<u8> {
        let mut borrow = 0i16;
        let digits = p.iter().zip(y).rev().map(|(&p, &y)| {
            let digit = i16::from(p) - i16::from(y) - borrow;
            borrow = i16::from(digit < 0);
            digit.rem_euclid(256) as u8
        });
        let mut bytes: Vec<u8> = digits.collect();
        bytes.reverse();
        bytes
    };
    let y = &good[a.start + 80..a.end];
    attack("−A", a.start + 80..a.end, &minus(y));
    // x + p is x, written otherwise.
    let mut carry = 0u16;
    let mut alias: Vec<u8> = p
        .iter()
        .zip(&good[a.start + 16..a.start + 64])
        .rev()
        .map(|(&p, &x)| {
            let sum = u16::from(p) + u16::from(x) + carry;
            carry = sum >> 8;
            sum as u8
        })
        .collect();
    alias.reverse();
    attack("A with an unreduced coordinate", a.start + 16..a.start + 64, &alias);
    for fork in FORKS {
        let mut chain = Chain::new(fork);
        let verifier = chain.deploy(&proved.contracts.verifier.creation).expect("deployed");
        for (what, data) in &attacks {
            refused(&mut chain, verifier, what, data);
        }
    }
    // With −A and −B the product of pairings is the same: another proof of the same statement, which is valid. Proofs are no receipts.
    let mut data = good.clone();
    data[a.start + 80..a.end].copy_from_slice(&minus(&good[a.start + 80..a.end]));
    for part in [2, 3] {
        let at = b.start + 64 * part + 16..b.start + 64 * part + 64;
        data[at.clone()].copy_from_slice(&minus(&good[at]));
    }
    let mut chain = Chain::new(FORKS[0]);
    let verifier = chain.deploy(&proved.contracts.verifier.creation).expect("deployed");
    assert!(chain.call(verifier, &data).success, "re-randomised proofs are proofs");
}

/// Proofs of other statements, and of other circuits.
#[test]
fn proofs_of_something_else_are_refused() {
    let proved = divisions();
    let [one, other] = &proved.proofs[..] else { panic!("two proofs") };
    let mixed = [&one.verify_calldata[..516], &other.verify_calldata[516..]].concat();
    let moved = Moved::by(3, 8);
    let foreign = l1::verify_calldata(&proof_of(&moved), moved.0.as_ref().expect("a witness"));
    for fork in FORKS {
        let mut chain = Chain::new(fork);
        let verifier = chain.deploy(&proved.contracts.verifier.creation).expect("deployed");
        refused(&mut chain, verifier, "the proof of another call", &mixed);
        refused(&mut chain, verifier, "the proof of another program", &foreign);
        let at_home = chain.deploy(&moving().1.verifier.creation).expect("deployed");
        assert!(chain.call(at_home, &foreign).success);
        let swapped = [&foreign[..516], &foreign[548..580], &foreign[516..548], &foreign[580..]].concat();
        refused(&mut chain, at_home, "swapped roots", &swapped);
        refused(&mut chain, at_home, "a proof of this program, there", &one.verify_calldata);
    }
}

/// Where the precompiles of EIP-2537 do not exist, nothing is accepted: calls to them succeed and return nothing.
#[test]
fn without_the_precompiles_nothing_is_accepted() {
    use revm::primitives::hardfork::SpecId;
    let proved = divisions();
    let good = &proved.proofs[0].verify_calldata;
    // A whose first word is one: what the pairing check would leave.
    let mut forged = good.clone();
    forged[4..36].copy_from_slice(&Word::from(1).to_be_bytes::<32>());
    let mut chain = Chain::new(SpecId::CANCUN);
    let verifier = chain.deploy(&proved.contracts.verifier.creation).expect("deployed");
    refused(&mut chain, verifier, "a good proof", good);
    refused(&mut chain, verifier, "a forged one", &forged);
}

#[test]
fn the_anchor_moves_on_valid_proofs_only() {
    let contracts = &moving().1;
    let steps = [Moved::by(1000, 7), Moved::by(1007, 35)];
    let data: Vec<Vec<u8>> =
        steps.iter().map(|step| l1::advance_calldata(&proof_of(step), step.0.as_ref().expect("a witness"))).collect();
    for fork in FORKS {
        let mut chain = Chain::new(fork);
        let anchor = chain.deploy(&anchor_creation(contracts, modulus(), Word::from(1000))).expect("deployed");
        let root = |chain: &mut Chain| chain.storage(anchor, 0);
        assert_eq!(root(&mut chain), Word::from(1000));
        // The second step first: its root before is another.
        refused(&mut chain, anchor, "a step from another root", &data[1]);
        for at in (0..data[0].len()).step_by(if fork == FORKS[0] { 3 } else { 67 }) {
            let mut altered = data[0].clone();
            altered[at] ^= 0x80 >> (at % 8);
            refused(&mut chain, anchor, &format!("byte {at}"), &altered);
            assert_eq!(root(&mut chain), Word::from(1000), "byte {at}");
        }
        // The roots exchanged: the anchor at 1007, and a step to 1000.
        let mut backwards = data[0].clone();
        backwards[516..548].copy_from_slice(&Word::from(1000).to_be_bytes::<32>());
        let there = chain.deploy(&anchor_creation(contracts, modulus(), Word::from(1007))).expect("deployed");
        refused(&mut chain, there, "swapped roots", &backwards);
        assert_eq!(chain.storage(there, 0), Word::from(1007));
        for len in [0, 4, 600, data[0].len() - 1] {
            refused(&mut chain, anchor, "truncated", &data[0][..len]);
        }
        let longer = [&data[0][..], &[0; 32]].concat();
        refused(&mut chain, anchor, "longer", &longer);
        assert_eq!(root(&mut chain), Word::from(1000));

        let first = chain.call(anchor, &data[0]);
        assert!(first.success && first.output.is_empty());
        assert_eq!(root(&mut chain), Word::from(1007));
        refused(&mut chain, anchor, "the same step again", &data[0]);
        assert!(chain.call(anchor, &data[1]).success);
        assert_eq!(root(&mut chain), Word::from(1042));
        refused(&mut chain, anchor, "an old step", &data[0]);
        assert_eq!(root(&mut chain), Word::from(1042));
    }
}

/// A root over another field, a root that is none, and arguments that are missing or too many.
#[test]
fn an_anchor_starts_from_a_root_over_its_field() {
    let contracts = &moving().1;
    let bn254 = to_u256(&-zvm_backend_circuit::nova::Fr::from(1)) + Word::from(1);
    let good = anchor_creation(contracts, modulus(), Word::from(5));
    let longer = [&good[..], &[0]].concat();
    let wrong = [
        anchor_creation(contracts, bn254, Word::from(5)),
        anchor_creation(contracts, modulus(), modulus()),
        anchor_creation(contracts, modulus(), Word::MAX),
        contracts.anchor.creation.clone(),
        good[..good.len() - 32].to_vec(),
        longer,
    ];
    for fork in FORKS {
        let mut chain = Chain::new(fork);
        for creation in &wrong {
            assert!(chain.deploy(creation).is_none());
        }
        assert!(chain.deploy(&good).is_some());
        assert!(chain.deploy(&anchor_creation(contracts, modulus(), modulus() - Word::from(1))).is_some());
    }
}

/// The same keys give the same contracts.
#[test]
fn contracts_are_deterministic() {
    let proved = divisions();
    assert_eq!(l1::contracts(&proved.keys).expect("compiles"), proved.contracts);
}

/// The Solidity compiles and does the same; needs `solcjs`, whose path `ZVM_SOLCJS` names (`npm install solc@0.8.37`).
#[test]
fn the_solidity_does_the_same() {
    let Some(solc) = std::env::var_os("ZVM_SOLCJS") else {
        eprintln!("skipped: set ZVM_SOLCJS to the path of solcjs");
        return;
    };
    let compiled = |contracts: &Contracts| -> Contracts {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut compiled = contracts.clone();
        for contract in [&contracts.verifier, &contracts.anchor] {
            let path = folder.path().join(format!("{}.sol", contract.name));
            std::fs::write(path, &contract.solidity).expect("writable");
        }
        let output = std::process::Command::new(&solc)
            .args(["--bin", "--optimize", "--base-path", ".", "-o", "out", "ZvmVerifier.sol", "ZvmAnchor.sol"])
            .current_dir(folder.path())
            .output()
            .expect("solcjs runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("Warning"), "{said}");
        for contract in [&mut compiled.verifier, &mut compiled.anchor] {
            let name = format!("out/{0}_sol_{0}.bin", contract.name);
            let text = std::fs::read_to_string(folder.path().join(name)).expect("compiled");
            contract.creation = hex::decode(text.trim()).expect("hex");
            println!("{}: {} bytes of creation code by solc", contract.name, contract.creation.len());
        }
        compiled
    };
    let proved = divisions();
    let theirs = compiled(&proved.contracts);
    let moving_theirs = compiled(&moving().1);
    let good = &proved.proofs[0].verify_calldata;
    let steps = [Moved::by(1000, 7), Moved::by(1007, 35)];
    let data: Vec<Vec<u8>> =
        steps.iter().map(|step| l1::advance_calldata(&proof_of(step), step.0.as_ref().expect("a witness"))).collect();
    for fork in FORKS {
        let mut chain = Chain::new(fork);
        let [ours, solidity] =
            [&proved.contracts, &theirs].map(|contracts| chain.deploy(&contracts.verifier.creation).expect("deployed"));
        let mut same = |data: &[u8]| {
            let (ours, solidity) = (chain.call(ours, data), chain.call(solidity, data));
            assert_eq!((ours.success, &ours.output), (solidity.success, &solidity.output), "{}", hex::encode(data));
            (ours, solidity)
        };
        let (by_us, by_solc) = same(good);
        assert!(by_us.success);
        println!("{fork:?}: {} gas, {} by solc", by_us.gas, by_solc.gas);
        for getter in ["program()", "circuit()", "field()", "root()"] {
            same(&zvm_ir::eval::keccak256(getter.as_bytes()).to_be_bytes::<32>()[..4]);
        }
        for at in (0..good.len()).step_by(23) {
            let mut altered = good.clone();
            altered[at] ^= 0x40;
            assert!(!same(&altered).0.success);
        }
        for len in [0, 3, 4, 600, 675] {
            assert!(!same(&good[..len]).0.success);
        }
        assert!(!same(&[&good[..], &[0]].concat()).0.success);
        let mut past = good.clone();
        past[516 + 64..516 + 96].copy_from_slice(&Word::MAX.to_be_bytes::<32>());
        assert!(!same(&past).0.success);

        for field in [modulus(), modulus() - Word::from(1)] {
            for root in [Word::from(1000), modulus()] {
                let [ours, solidity] = [&moving().1, &moving_theirs]
                    .map(|contracts| chain.deploy(&anchor_creation(contracts, field, root)).is_some());
                assert_eq!(ours, solidity);
            }
        }
        let anchors = [&moving().1, &moving_theirs]
            .map(|contracts| chain.deploy(&anchor_creation(contracts, modulus(), Word::from(1000))).expect("deployed"));
        for data in [&data[1], &data[0], &data[0], &data[1]] {
            let [ours, solidity] = anchors.map(|anchor| (chain.call(anchor, data).success, chain.storage(anchor, 0)));
            assert_eq!(ours, solidity);
        }
        assert_eq!(chain.storage(anchors[0], 0), Word::from(1042));
    }
}

/// What the choice of one hash in the place of five inputs rests on, measured: a multiplication for each input.
#[test]
fn one_point_to_multiply_is_cheaper_than_five() {
    let mut chain = Chain::new(FORKS[1]);
    let precompile = Address::with_last_byte(0x0c);
    let point = &divisions().keys.verifying.evm().input;
    let mut price = |points: usize| {
        let data = [&point[..], &Word::from(7).to_be_bytes::<32>()].concat().repeat(points);
        let receipt = chain.call(precompile, &data);
        assert!(receipt.success && receipt.output.len() == 128);
        receipt.gas - 21_000 - calldata_gas(&data)
    };
    assert_eq!((price(1), price(5)), (12_000, 45_840));
    let page = include_str!("../../docs/l1.md");
    assert!(page.contains("is 12,000 and 45,840"));
}
