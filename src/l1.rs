//! Contracts on L1 that verify proofs of a program: a verifier, and an anchor that holds a state root.
//!
//! Both are made twice of one key: as Solidity, for people to read and compile, and as bytecode, from the IR in `l1/*.zvm` by this
//! project's own EVM backend. Which gives smaller code, and what a verification costs, is in `docs/l1.md`.
//!
//! Layout of memory while a proof is checked (the numbers in `l1/verifier.zvm`): the statement's elements at 0, hashed; then
//! four pairs of points for the pairing check, of which the key fills one stretch and the calldata another:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 512 | A, B, C: the calldata |
//! | 512 | 256 | −δ |
//! | 768 | 128 | X, the point of the public input |
//! | 896 | 640 | −γ, α, −β |
//! | 1536 | 256 | the constant part of X, the point that the input multiplies |
//! | 1792 | 32 | the public input |

use serde_json::{Value, json};
use zvm_backend_circuit::artifact::KeyHeader;
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::groth16::{EVM_PROOF_BYTES, EvmKey, Proof, Scalar};
use zvm_backend_circuit::keys::Keys;
use zvm_backend_circuit::public_input;
use zvm_backend_circuit::statement::Elements;
use zvm_backend_evm::{Optimize, Options, lower};
use zvm_ir::eval::keccak256;
use zvm_ir::passes::{self, Goal};
use zvm_ir::{Word, parse};

use crate::error::Error;

const VERIFIER_IR: &str = include_str!("l1/verifier.zvm");
const ANCHOR_IR: &str = include_str!("l1/anchor.zvm");
const VERIFIER_SOLIDITY: &str = include_str!("l1/ZvmVerifier.sol");
const ANCHOR_SOLIDITY: &str = include_str!("l1/ZvmAnchor.sol");

/// Words of a proof in calldata.
const PROOF_WORDS: usize = EVM_PROOF_BYTES / 32;
/// The selector of a function in calldata.
const SELECTOR: usize = 4;

/// A contract, ready to be deployed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Its name.
    pub name: &'static str,
    /// The same contract in Solidity.
    pub solidity: String,
    /// Its interface.
    pub abi: Value,
    /// What a transaction that creates it sends; a constructor's arguments follow.
    pub creation: Vec<u8>,
    /// What the account then holds.
    pub runtime: Vec<u8>,
}

/// The contracts of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contracts {
    /// Verifies proofs.
    pub verifier: Contract,
    /// Holds a state root, and moves it on a valid proof only. It verifies by itself, with the verifier's functions.
    pub anchor: Contract,
}

/// The names of a statement's elements as a contract takes them.
fn element_names() -> Vec<&'static str> {
    let none = Elements { pre_root: (), post_root: (), account: (), calls: (), outcomes: () };
    none.list().into_iter().map(|(name, ())| name).collect()
}

fn signature(name: &str, elements: usize) -> String {
    format!("{name}(uint256[{PROOF_WORDS}],uint256[{elements}])")
}

fn selector(signature: &str) -> [u8; SELECTOR] {
    let hash = keccak256(signature.as_bytes()).to_be_bytes::<32>();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// The modulus of the field.
fn modulus() -> Word {
    to_u256(&-Scalar::from(1)) + Word::from(1)
}

/// The calldata of `verify`: selector, proof, every element of the statement.
pub fn verify_calldata(proof: &Proof, elements: &Elements<Scalar>) -> Vec<u8> {
    let message = public_input::message(elements);
    [&selector(&signature("verify", message.len() / 32))[..], &proof.to_evm(), &message].concat()
}

/// The calldata of `advance`: as that of `verify` without the first element, the root before, which the anchor holds.
pub fn advance_calldata(proof: &Proof, elements: &Elements<Scalar>) -> Vec<u8> {
    let message = public_input::message(elements);
    let rest = &message[32..];
    [&selector(&signature("advance", rest.len() / 32))[..], &proof.to_evm(), rest].concat()
}

/// The contracts that verify proofs made with these keys.
///
/// # Errors
/// When the IR of the contracts cannot be lowered, which is a bug.
pub fn contracts(keys: &Keys) -> Result<Contracts, Error> {
    let fill = Fill::new(&keys.verifying.evm(), &keys.header);
    let verifier = fill.of(VERIFIER_IR).replace("{MORE}", "").replace("{NEXT}", "block9");
    let anchor = fill.of(&VERIFIER_IR.replace("{MORE}", ANCHOR_IR)).replace("{NEXT}", "block13");
    let (verifier, anchor) = (compile(&verifier)?, compile(&anchor)?);
    Ok(Contracts {
        verifier: Contract {
            name: "ZvmVerifier",
            solidity: fill.of(VERIFIER_SOLIDITY),
            abi: verifier_abi(),
            creation: [&deployer(verifier.len())[..], &verifier].concat(),
            runtime: verifier,
        },
        anchor: Contract {
            name: "ZvmAnchor",
            solidity: fill.of(ANCHOR_SOLIDITY),
            abi: anchor_abi(),
            creation: [&anchor_deployer(anchor.len())[..], &anchor].concat(),
            runtime: anchor,
        },
    })
}

/// From IR text to code: the smaller of what comes of it as written and optimised, for nothing here is worth more gas than bytes.
fn compile(text: &str) -> Result<Vec<u8>, Error> {
    let at = || "the verifier's IR".to_owned();
    let mut module = parse(text).map_err(|source| Error::Parse { path: at(), source })?;
    zvm_ir::verify(&module).map_err(|errors| Error::Verify { path: at(), errors })?;
    let options = Options { optimize: Optimize::Size, ..Options::default() };
    let written = lower(&module, &options)?.code;
    passes::optimize(&mut module, &passes::Options { goal: Goal::Evm, ..passes::Options::default() })?;
    let optimised = lower(&module, &options)?.code;
    Ok(if written.len() < optimised.len() { written } else { optimised })
}

/// What the templates leave open.
struct Fill(Vec<(&'static str, String)>);

impl Fill {
    fn new(key: &EvmKey, header: &KeyHeader) -> Self {
        let names = element_names();
        let count = names.len();
        let EvmKey { alpha, minus_beta, minus_gamma, minus_delta, constant, input } = key;
        // What comes after −δ in memory, past the room for X.
        let others = [&minus_gamma[..], alpha, minus_beta, constant, input].concat();
        let points = [&minus_delta[..], &[0; 128], &others].concat();
        let hex_selector = |signature: &str| hex::encode(selector(signature));
        let word = |word: &Word| format!("{word:064x}");
        let size = |elements: usize| (SELECTOR + EVM_PROOF_BYTES + 32 * elements).to_string();
        let range = |i: usize| {
            let (offset, element, below) = (300 + 3 * i, 301 + 3 * i, 302 + 3 * i);
            let at = 32 * i;
            format!(
                "    v{offset}: u16 = iconst {at}\n    v{element}: u256 = mload v{offset}\n    \
                 v{below}: u1 = ult v{element}, v200\n"
            )
        };
        let mut ranges = format!("    v200: u255 = iconst 0x{}\n", word(&modulus()));
        (0..count).for_each(|i| ranges += &range(i));
        let mut all = "v302".to_owned();
        for i in 1..count {
            ranges += &format!("    v{}: u1 = and {all}, v{}\n", 200 + i, 302 + 3 * i);
            all = format!("v{}", 200 + i);
        }
        Self(vec![
            ("KEY", hex::encode(points)),
            ("DELTA", hex::encode(minus_delta)),
            ("OTHERS", hex::encode(others)),
            ("VERIFY", hex_selector(&signature("verify", count))),
            ("VERIFY_SIZE", size(count)),
            ("MESSAGE_SIZE", (32 * count).to_string()),
            ("ADVANCE", hex_selector(&signature("advance", count - 1))),
            ("ADVANCE_SIZE", size(count - 1)),
            ("ADVANCE_MESSAGE", (32 * (count - 1)).to_string()),
            ("PROGRAM_SELECTOR", hex_selector("program()")),
            ("CIRCUIT_SELECTOR", hex_selector("circuit()")),
            ("FIELD_SELECTOR", hex_selector("field()")),
            ("ROOT_SELECTOR", hex_selector("root()")),
            ("PROGRAM", word(&header.program)),
            ("CIRCUIT", word(&header.circuit)),
            ("FIELD", word(&modulus())),
            ("SHIFT", (256 - public_input::BITS).to_string()),
            ("RANGES", ranges.trim_end().to_owned()),
            ("IN_RANGE", all),
            ("ORIGIN", origin_note(header)),
            ("ELEMENTS", names.join(", ")),
            ("COUNT", count.to_string()),
            ("ADVANCE_ELEMENTS", names[1..].join(", ")),
            ("ADVANCE_COUNT", (count - 1).to_string()),
        ])
    }

    fn of(&self, template: &str) -> String {
        self.0.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }
}

/// Who made the keys, as the contracts say it.
fn origin_note(header: &KeyHeader) -> String {
    use zvm_backend_circuit::artifact::Origin;
    match header.origin {
        Origin::InsecureLocal => {
            "INSECURE: made on one machine. Whoever made them may prove anything. For development only.".to_owned()
        }
        Origin::Ceremony => "of a ceremony".to_owned(),
    }
}

mod op {
    pub(super) const LT: u8 = 0x10;
    pub(super) const EQ: u8 = 0x14;
    pub(super) const ISZERO: u8 = 0x15;
    pub(super) const OR: u8 = 0x17;
    pub(super) const CALLVALUE: u8 = 0x34;
    pub(super) const CODESIZE: u8 = 0x38;
    pub(super) const CODECOPY: u8 = 0x39;
    pub(super) const MLOAD: u8 = 0x51;
    pub(super) const SSTORE: u8 = 0x55;
    pub(super) const JUMPI: u8 = 0x57;
    pub(super) const JUMPDEST: u8 = 0x5b;
    pub(super) const PUSH0: u8 = 0x5f;
    pub(super) const PUSH1: u8 = 0x60;
    pub(super) const PUSH2: u8 = 0x61;
    pub(super) const PUSH32: u8 = 0x7f;
    pub(super) const DUP1: u8 = 0x80;
    pub(super) const SWAP1: u8 = 0x90;
    pub(super) const RETURN: u8 = 0xf3;
    pub(super) const REVERT: u8 = 0xfd;
}

/// Code that returns the `len` bytes after it, which are fewer than 24,577. By hand: the IR has no code that is longer than itself.
fn deployer(len: usize) -> Vec<u8> {
    const SIZE: u8 = 10;
    let [high, low] = size(len);
    vec![op::PUSH2, high, low, op::DUP1, op::PUSH1, SIZE, op::PUSH0, op::CODECOPY, op::PUSH0, op::RETURN]
}

/// Code that checks and stores the constructor's arguments (the field, the first root), which follow the `len` bytes after it, and
/// returns these. By hand, for the same reason.
fn anchor_deployer(len: usize) -> Vec<u8> {
    const ARGUMENTS: usize = 64;
    let build = |own: usize, fail: u8| {
        let (arguments, all) = (size(own + len), size(own + len + ARGUMENTS));
        let mut code = vec![op::PUSH1, ARGUMENTS as u8, op::PUSH2, arguments[0], arguments[1], op::PUSH0, op::CODECOPY];
        code.push(op::PUSH32);
        code.extend(modulus().to_be_bytes::<32>());
        // Wrong: the root is not below the modulus,
        code.extend([op::DUP1, op::PUSH1, 32, op::MLOAD, op::LT, op::ISZERO]);
        // or the field is another (the modulus is below it on the stack),
        code.extend([op::SWAP1, op::PUSH0, op::MLOAD, op::EQ, op::ISZERO, op::OR]);
        // or there are not two arguments, or there is value.
        code.extend([op::CODESIZE, op::PUSH2, all[0], all[1], op::EQ, op::ISZERO, op::OR, op::CALLVALUE, op::OR]);
        code.extend([op::PUSH1, fail, op::JUMPI]);
        code.extend([op::PUSH1, 32, op::MLOAD, op::PUSH0, op::SSTORE]);
        let [high, low] = size(len);
        let own = size(own);
        code.extend([
            op::PUSH2,
            high,
            low,
            op::DUP1,
            op::PUSH2,
            own[0],
            own[1],
            op::PUSH0,
            op::CODECOPY,
            op::PUSH0,
            op::RETURN,
        ]);
        let at = code.len();
        code.extend([op::JUMPDEST, op::PUSH0, op::PUSH0, op::REVERT]);
        (code, at)
    };
    // Its size does not depend on the numbers in it.
    let (code, fail) = build(0, 0);
    build(code.len(), u8::try_from(fail).unwrap_or_default()).0
}

fn size(len: usize) -> [u8; 2] {
    u16::try_from(len).unwrap_or_default().to_be_bytes()
}

fn parameter(name: &str, ty: &str) -> Value {
    json!({"name": name, "type": ty, "internalType": ty})
}

fn getter(name: &str, ty: &str) -> Value {
    json!({"type": "function", "name": name, "inputs": [], "outputs": [parameter("", ty)], "stateMutability": "view"})
}

fn verifier_abi() -> Value {
    let statement = format!("uint256[{}]", element_names().len());
    json!([
        {
            "type": "function",
            "name": "verify",
            "inputs": [parameter("proof", &format!("uint256[{PROOF_WORDS}]")), parameter("statement", &statement)],
            "outputs": [parameter("", "bool")],
            "stateMutability": "view",
        },
        getter("program", "bytes32"),
        getter("circuit", "bytes32"),
        getter("field", "uint256"),
    ])
}

fn anchor_abi() -> Value {
    let statement = format!("uint256[{}]", element_names().len() - 1);
    let more = json!([
        {
            "type": "constructor",
            "inputs": [parameter("stateField", "uint256"), parameter("first", "uint256")],
            "stateMutability": "nonpayable",
        },
        {
            "type": "function",
            "name": "advance",
            "inputs": [parameter("proof", &format!("uint256[{PROOF_WORDS}]")), parameter("statement", &statement)],
            "outputs": [],
            "stateMutability": "nonpayable",
        },
        getter("root", "uint256"),
    ]);
    let entries = [more, verifier_abi()].into_iter().filter_map(|list| match list {
        Value::Array(list) => Some(list),
        _ => None,
    });
    Value::Array(entries.flatten().collect())
}
