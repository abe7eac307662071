//! Calls that make sense: of tokens, collections, registries and libraries by people who mostly own what they spend and now and then do
//! not. What they own is asked of the contract as it is, so that each batch is a story; the same seed tells the same one.

use alloy_dyn_abi::{DynSolType, DynSolValue, JsonAbiExt, Specifier};
use alloy_json_abi::{Function, JsonAbi};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use zvm::evm::Evm;
use zvm::{Call, State};
use zvm_ir::eval::keccak256;
use zvm_ir::{Env, Halt, Word};

type Account = [u8; 20];

/// Who takes part: the first one deploys, the last two never call.
pub(crate) const PEOPLE: [Account; 8] =
    [[0xca; 20], [0xa1; 20], [0xa2; 20], [0xa3; 20], [0xa4; 20], [0xa5; 20], [0xee; 20], [0; 20]];
/// How many of them call.
const CALLERS: usize = 6;

/// What a contract is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A fungible token.
    Token,
    /// Tokens with numbers.
    Collection,
    /// The registry of ENS.
    Registry,
    /// Functions without state.
    Library,
}

/// Makes calls.
pub(crate) struct Scene {
    rng: ChaCha8Rng,
    kind: Kind,
    abi: JsonAbi,
    evm: Evm,
    /// The account that is called.
    address: Account,
    /// Functions that are never called.
    without: &'static [&'static str],
    /// Nodes of the registry that were made.
    nodes: Vec<Word>,
}

/// Encoded arguments of a constructor with these names and types: strings of a few letters, a supply of a billion, the owner.
pub(crate) fn construction(abi: &JsonAbi) -> Vec<u8> {
    let inputs = abi.constructor.as_ref().map(|constructor| constructor.inputs.as_slice()).unwrap_or_default();
    let values = inputs.iter().map(|input| match input.resolve().expect("a type that the compiler wrote") {
        DynSolType::String => DynSolValue::String(format!("Example {}", input.name)),
        DynSolType::Uint(8) => DynSolValue::Uint(Word::from(18), 8),
        DynSolType::Uint(bits) => DynSolValue::Uint(Word::from(10u64.pow(9)) * Word::from(10u64.pow(9)), bits),
        DynSolType::Address => DynSolValue::Address(PEOPLE[0].into()),
        other => panic!("no constructor takes {other}"),
    });
    DynSolValue::Tuple(values.collect()).abi_encode_params()
}

fn address_value(account: Account) -> DynSolValue {
    DynSolValue::Address(account.into())
}

fn account_of(word: Word) -> Account {
    let bytes = word.to_be_bytes::<32>();
    bytes[12..].try_into().expect("20 bytes")
}

impl Scene {
    pub(crate) fn new(
        kind: Kind,
        abi: &JsonAbi,
        code: &[u8],
        address: Account,
        without: &'static [&'static str],
        seed: u64,
    ) -> Self {
        let (rng, evm) = (rand::SeedableRng::seed_from_u64(seed), Evm::new(code));
        Self { rng, kind, abi: abi.clone(), evm, address, without, nodes: vec![Word::ZERO] }
    }

    /// The next call, in this state.
    pub(crate) fn next(&mut self, state: &State) -> Call {
        let function = self.function();
        let mut caller = PEOPLE[self.rng.random_range(0..CALLERS)];
        let values = self.arguments(&function, &mut caller, state);
        let mut calldata = function.abi_encode_input(&values).expect("values of their types");
        match self.rng.random_range(0..60) {
            0 | 1 => calldata.truncate(self.rng.random_range(0..calldata.len())),
            2 => calldata.extend([0xff; 33]),
            3 => calldata[self.rng.random_range(0..4)] ^= 1,
            // A bit above what the type has.
            4 if calldata.len() > 4 => calldata[4] ^= 1,
            _ => {}
        }
        let value =
            if self.rng.random_ratio(1, 40) { Word::from(self.rng.random_range(1..1000u64)) } else { Word::ZERO };
        Call { calldata, env: self.env(caller, value) }
    }

    fn env(&self, caller: Account, callvalue: Word) -> Env {
        Env { caller, origin: caller, callvalue, address: self.address, ..Env::default() }
    }

    /// Functions that change something are called more often, the more so the more there is to say about them.
    fn function(&mut self) -> Function {
        let functions: Vec<&Function> =
            self.abi.functions().filter(|function| !self.without.contains(&function.name.as_str())).collect();
        let weight = |function: &&Function| match (self.kind, function.name.as_str()) {
            (Kind::Token, "transfer") => 30,
            (Kind::Token | Kind::Collection, "transferFrom" | "mint") => 20,
            (Kind::Token | Kind::Collection, "approve") => 12,
            (Kind::Registry, "setSubnodeOwner" | "setOwner") => 10,
            (Kind::Token | Kind::Collection, "pause") => 1,
            (Kind::Library, _) => 1,
            (_, _) if function.inputs.is_empty() => 1,
            (_, _) => 4,
        };
        let chosen = functions.choose_weighted(&mut self.rng, weight).expect("functions");
        (**chosen).clone()
    }

    /// What a view says; `None` if it fails.
    fn ask(&self, state: &State, name: &str, args: &[DynSolValue]) -> Option<Word> {
        let function = self.abi.function(name)?.first()?;
        let calldata = function.abi_encode_input(args).ok()?;
        let call = Call { calldata, env: self.env(PEOPLE[0], Word::ZERO) };
        let run = self.evm.run(&call.calldata, &call.env_in(state), state).ok()?;
        let word = run.outcome.data.first_chunk::<32>()?;
        (run.outcome.halt == Halt::Return).then(|| Word::from_be_bytes(*word))
    }

    /// Up to `limit`: a share of it, all of it, nothing; and now and then more.
    fn amount(&mut self, limit: Word) -> Word {
        match self.rng.random_range(0..12) {
            0 => limit,
            1 => limit.saturating_add(Word::from(1)),
            2 => Word::ZERO,
            3 => Word::MAX,
            4 => limit.saturating_mul(Word::from(3)),
            _ => limit / Word::from(self.rng.random_range(2..40u64)),
        }
    }

    fn anyone(&mut self) -> Account {
        *PEOPLE.choose(&mut self.rng).expect("not empty")
    }

    fn arguments(&mut self, function: &Function, caller: &mut Account, state: &State) -> Vec<DynSolValue> {
        let special = match self.kind {
            Kind::Token => self.of_token(function, caller, state),
            Kind::Collection => self.of_collection(function, caller, state),
            Kind::Registry => self.of_registry(function, caller, state),
            Kind::Library => None,
        };
        special.unwrap_or_else(|| {
            let types = function.inputs.iter().map(|input| input.resolve().expect("a type that the compiler wrote"));
            let types: Vec<DynSolType> = types.collect();
            types.iter().map(|ty| self.value(ty, state)).collect()
        })
    }

    fn of_token(&mut self, function: &Function, caller: &mut Account, state: &State) -> Option<Vec<DynSolValue>> {
        let address = address_value;
        let balance = |scene: &Self, who| scene.ask(state, "balanceOf", &[address(who)]).unwrap_or_default();
        let uint = |amount| DynSolValue::Uint(amount, 256);
        // Most of what needs a role is done by who has it.
        let privileged = ["mint", "pause", "unpause", "grantRole", "revokeRole", "transferOwnership"];
        if privileged.contains(&function.name.as_str()) && self.rng.random_ratio(3, 4) {
            *caller = PEOPLE[0];
        }
        Some(match (function.name.as_str(), function.inputs.len()) {
            ("transfer", 2) => {
                let limit = balance(self, *caller);
                let to = self.anyone();
                vec![address(to), uint(self.amount(limit))]
            }
            ("transferFrom", 3) | ("burnFrom", 2) => {
                // Who may spend something of somebody else, if a few tries find one.
                let mut pair = (self.anyone(), Word::ZERO);
                for _ in 0..6 {
                    let (owner, spender) = (self.anyone(), PEOPLE[self.rng.random_range(0..CALLERS)]);
                    let allowed = self.ask(state, "allowance", &[address(owner), address(spender)]).unwrap_or_default();
                    if !allowed.is_zero() {
                        *caller = spender;
                        pair = (owner, allowed.min(balance(self, owner)));
                        break;
                    }
                }
                let amount = uint(self.amount(pair.1));
                match function.inputs.len() {
                    3 => vec![address(pair.0), address(self.anyone()), amount],
                    _ => vec![address(pair.0), amount],
                }
            }
            ("approve" | "increaseAllowance", 2) => {
                let limit = balance(self, *caller);
                vec![address(self.anyone()), uint(self.amount(limit))]
            }
            ("decreaseAllowance", 2) => {
                let spender = self.anyone();
                let limit = self.ask(state, "allowance", &[address(*caller), address(spender)]).unwrap_or_default();
                vec![address(spender), uint(self.amount(limit))]
            }
            ("burn", 1) => {
                let limit = balance(self, *caller);
                vec![uint(self.amount(limit))]
            }
            ("mint", 2) => vec![address(self.anyone()), uint(self.amount(Word::from(10u64.pow(15))))],
            ("mint", 1) => vec![uint(self.amount(Word::from(10u64.pow(15))))],
            _ => return None,
        })
    }

    fn of_collection(&mut self, function: &Function, caller: &mut Account, state: &State) -> Option<Vec<DynSolValue>> {
        let address = address_value;
        let privileged = ["mint", "pause", "unpause", "grantRole", "revokeRole"];
        if privileged.contains(&function.name.as_str()) && self.rng.random_ratio(4, 5) {
            *caller = PEOPLE[0];
        }
        let id = self.rng.random_range(0..12u64);
        let uint = |number: u64| DynSolValue::Uint(Word::from(number), 256);
        let owner = self.ask(state, "ownerOf", &[uint(id)]).map(account_of);
        if owner.is_some_and(|owner| owner != [0; 20]) && self.rng.random_ratio(4, 5) {
            *caller = owner?;
        }
        Some(match (function.name.as_str(), function.inputs.len()) {
            ("transferFrom" | "safeTransferFrom", length @ (3 | 4)) => {
                let from = owner.filter(|_| self.rng.random_ratio(6, 7)).unwrap_or_else(|| self.anyone());
                let mut values = vec![address(from), address(self.anyone()), uint(id)];
                if length == 4 {
                    values.push(DynSolValue::Bytes(vec![7; self.rng.random_range(0..40)]));
                }
                values
            }
            ("approve", 2) => vec![address(self.anyone()), uint(id)],
            ("mint", 2) => {
                *caller = PEOPLE[0];
                vec![address(self.anyone()), uint(id)]
            }
            ("mint", 1) => {
                *caller = if self.rng.random_ratio(4, 5) { PEOPLE[0] } else { *caller };
                vec![address(self.anyone())]
            }
            ("burn" | "ownerOf" | "getApproved" | "tokenURI" | "tokenByIndex", 1) => vec![uint(id)],
            ("tokenOfOwnerByIndex", 2) => vec![address(self.anyone()), uint(id % 4)],
            _ => return None,
        })
    }

    fn of_registry(&mut self, function: &Function, caller: &mut Account, state: &State) -> Option<Vec<DynSolValue>> {
        let node = *self.nodes.choose(&mut self.rng).expect("the root");
        let bytes = |word: Word| DynSolValue::FixedBytes(word.into(), 32);
        let owner = self.ask(state, "owner", &[bytes(node)]).map(account_of);
        if owner.is_some_and(|owner| owner != [0; 20]) && self.rng.random_ratio(5, 6) {
            *caller = owner?;
        }
        let mut values = Vec::new();
        for (index, input) in function.inputs.iter().enumerate() {
            values.push(match input.resolve().expect("a type that the compiler wrote") {
                DynSolType::FixedBytes(32) if index == 0 => bytes(node),
                DynSolType::FixedBytes(32) => {
                    let label = keccak256(&[self.rng.random_range(b'a'..b'g')]);
                    let pair = [node.to_be_bytes::<32>(), label.to_be_bytes::<32>()].concat();
                    self.nodes.push(keccak256(&pair));
                    bytes(label)
                }
                ty => self.value(&ty, state),
            });
        }
        Some(values)
    }

    fn value(&mut self, ty: &DynSolType, state: &State) -> DynSolValue {
        match ty {
            DynSolType::Bool => DynSolValue::Bool(self.rng.random()),
            DynSolType::Uint(bits) => {
                let word = match self.rng.random_range(0..8) {
                    0 => Word::from_limbs(self.rng.random()),
                    1 => Word::MAX,
                    2 => Word::from(self.rng.random_range(0..1u64 << 40)),
                    _ => Word::from(self.rng.random_range(0..24u64)),
                };
                DynSolValue::Uint(word >> (256 - bits), *bits)
            }
            DynSolType::Int(bits) => {
                let number: i64 = self.rng.random_range(-9..99);
                let word = revm::primitives::I256::try_from(number).expect("small");
                DynSolValue::Int(word, *bits)
            }
            DynSolType::Address => address_value(self.anyone()),
            DynSolType::FixedBytes(size) => {
                let role = ["DEFAULT_ADMIN_ROLE", "MINTER_ROLE", "PAUSER_ROLE"][self.rng.random_range(0..3)];
                let word = match self.ask(state, role, &[]) {
                    Some(word) if *size == 32 && self.rng.random_ratio(5, 6) => word,
                    _ if self.rng.random_ratio(1, 3) => Word::from(0x01ff_c9a7u64) << 224,
                    _ => Word::from_limbs(self.rng.random()),
                };
                let mut bytes = word.to_be_bytes::<32>();
                bytes[*size..].fill(0);
                DynSolValue::FixedBytes(bytes.into(), *size)
            }
            DynSolType::Bytes => {
                let len = self.length();
                DynSolValue::Bytes((0..len).map(|_| self.rng.random()).collect())
            }
            DynSolType::String => {
                let len = self.length();
                let text = (0..len).map(|_| char::from(*b"abcdQRST0189+/=_-".choose(&mut self.rng).expect("letters")));
                DynSolValue::String(text.collect())
            }
            DynSolType::Array(inner) => {
                let len = self.rng.random_range(0..9);
                let mut items: Vec<DynSolValue> = (0..len).map(|_| self.value(inner, state)).collect();
                if self.rng.random_ratio(2, 3) {
                    items.sort_by_key(|item| item.as_word().unwrap_or_default());
                }
                DynSolValue::Array(items)
            }
            other => panic!("no function here takes {other}"),
        }
    }

    fn length(&mut self) -> usize {
        *[0, 1, 2, 3, 31, 32, 33, 70].choose(&mut self.rng).expect("not empty")
    }
}
