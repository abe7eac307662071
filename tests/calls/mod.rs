//! Calls of a contract: typed by its interface, random and corner values, always the same for the same seed.

use alloy_dyn_abi::{DynSolType, DynSolValue, JsonAbiExt, Specifier};
use alloy_json_abi::{Constructor, Function, JsonAbi};
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use zvm::evm::deploy::deploy;
use zvm::input::Immutables;
use zvm::{Call, Contract, State};
use zvm_ir::{Env, Word};

/// Accounts that calls come from and mention, so that later calls meet the state of earlier ones.
pub(crate) const ACCOUNTS: [[u8; 20]; 4] = [[0xca; 20], [0xa1; 20], [0xa2; 20], [0; 20]];

/// Makes calls.
pub(crate) struct Generator {
    rng: ChaCha8Rng,
    /// Words that earlier calls returned.
    seen: Vec<Word>,
}

impl Generator {
    /// A generator; the same seed gives the same calls.
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: rand::SeedableRng::seed_from_u64(seed), seen: Vec::new() }
    }

    /// Remembers returned words, to be used as arguments.
    pub(crate) fn learn(&mut self, data: &[u8]) {
        let words = data.chunks_exact(32).take(4).map(Word::from_be_slice);
        self.seen.extend(words);
        let excess = self.seen.len().saturating_sub(64);
        self.seen.drain(..excess);
    }

    /// A call of a function: mostly well-formed, now and then with calldata that is too short, too long, or with dirty bits.
    pub(crate) fn call(&mut self, function: &Function) -> Call {
        let values: Vec<_> = function
            .inputs
            .iter()
            .map(|input| input.resolve().expect("a type that the compiler wrote"))
            .map(|ty: DynSolType| self.value(&ty, 0))
            .collect();
        let mut calldata = function.abi_encode_input(&values).expect("values of their types");
        if self.rng.random_ratio(1, 12) {
            self.damage(&mut calldata);
        }
        let payable = function.state_mutability == alloy_json_abi::StateMutability::Payable;
        let value = if self.rng.random_ratio(1, if payable { 2 } else { 40 }) { self.word(96) } else { Word::ZERO };
        Call { calldata, env: self.env(value) }
    }

    /// The arguments of a constructor, encoded, with who deploys and the value. Now and then all are zero.
    pub(crate) fn construction(&mut self, constructor: Option<&Constructor>) -> Call {
        let inputs = constructor.map(|constructor| constructor.inputs.as_slice()).unwrap_or_default();
        let types = inputs.iter().map(|input| input.resolve().expect("a type that the compiler wrote"));
        let values: Vec<_> = types.map(|ty: DynSolType| self.value(&ty, 0)).collect();
        let mut calldata = DynSolValue::Tuple(values).abi_encode_params();
        if self.rng.random_ratio(1, 8) {
            calldata.fill(0);
        }
        let payable = constructor.is_some_and(|it| it.state_mutability == alloy_json_abi::StateMutability::Payable);
        let value = if payable { self.word(64) } else { Word::ZERO };
        Call { calldata, env: self.env(value) }
    }

    /// A call with `words` small words as calldata, for programs without an interface.
    pub(crate) fn words(&mut self, words: usize, below: u64) -> Call {
        let mut calldata = Vec::new();
        for _ in 0..words {
            calldata.extend(Word::from(self.rng.random_range(0..below)).to_be_bytes::<32>());
        }
        Call { calldata, env: self.env(Word::ZERO) }
    }

    /// Calls that no interface describes: no calldata, a few bytes, an unknown selector.
    pub(crate) fn unknown(&mut self) -> Call {
        let len = *[0, 1, 3, 4, 5, 36].choose(&mut self.rng).expect("not empty");
        let calldata = (0..len).map(|_| self.rng.random()).collect();
        Call { calldata, env: self.env(Word::ZERO) }
    }

    fn env(&mut self, callvalue: Word) -> Env {
        let caller = *ACCOUNTS[..3].choose(&mut self.rng).expect("not empty");
        Env { caller, origin: caller, callvalue, ..Env::default() }
    }

    fn damage(&mut self, calldata: &mut Vec<u8>) {
        match self.rng.random_range(0..4) {
            0 => {
                let len = self.rng.random_range(0..=calldata.len());
                calldata.truncate(len);
            }
            1 => calldata.extend([0xff; 33]),
            2 if calldata.len() > 4 => {
                let at = self.rng.random_range(4..calldata.len());
                calldata[at] ^= 1 << self.rng.random_range(0..8);
            }
            _ => {
                for byte in calldata.iter_mut().skip(4).take(32) {
                    *byte = 0xff;
                }
            }
        }
    }

    /// A word of at most `bits` bits: corners, powers of two and their neighbours, what earlier calls returned, round
    /// decimal numbers, and random words of random length.
    fn word(&mut self, bits: usize) -> Word {
        let max = Word::MAX >> (256 - bits);
        let power = |exponent: usize| Word::from(1) << exponent;
        let word = match self.rng.random_range(0..10) {
            0 => Word::from(self.rng.random_range(0..4u64)),
            1 => max - Word::from(self.rng.random_range(0..3u64)),
            2 => power(bits - 1).wrapping_sub(Word::from(self.rng.random_range(0..2u64))),
            3 => {
                let power = power(self.rng.random_range(0..bits));
                match self.rng.random_range(0..3) {
                    0 => power,
                    1 => power.wrapping_sub(Word::from(1)),
                    _ => power.wrapping_add(Word::from(1)),
                }
            }
            4 if !self.seen.is_empty() => *self.seen.choose(&mut self.rng).expect("not empty"),
            5 => Word::from(self.rng.random_range(1..100u64)) * Word::from(10u64.pow(self.rng.random_range(0..19))),
            6 | 7 => Word::from(self.rng.random_range(0..1000u64)),
            _ => Word::from_limbs(self.rng.random()) >> self.rng.random_range(0..256),
        };
        word & max
    }

    fn value(&mut self, ty: &DynSolType, depth: usize) -> DynSolValue {
        match ty {
            DynSolType::Bool => DynSolValue::Bool(self.rng.random()),
            DynSolType::Uint(bits) => DynSolValue::Uint(self.word(*bits), *bits),
            DynSolType::Int(bits) => {
                let word = self.word(*bits);
                let word = if self.rng.random_ratio(1, 3) { word.wrapping_neg() } else { word };
                DynSolValue::Int(sign_extended(word, *bits), *bits)
            }
            DynSolType::Address => DynSolValue::Address(ACCOUNTS.choose(&mut self.rng).expect("not empty").into()),
            DynSolType::FixedBytes(size) => {
                let mut bytes = self.word(256).to_be_bytes::<32>();
                bytes[*size..].fill(0);
                DynSolValue::FixedBytes(bytes.into(), *size)
            }
            DynSolType::Function => DynSolValue::Function(alloy_dyn_abi_function(self.rng.random())),
            DynSolType::Bytes => {
                let len = self.len();
                DynSolValue::Bytes((0..len).map(|_| self.rng.random()).collect())
            }
            DynSolType::String => {
                let len = self.len();
                let alphabet = b"0123456789abcXYZ \"{}[]:,-";
                let text = (0..len).map(|_| char::from(*alphabet.choose(&mut self.rng).expect("not empty")));
                DynSolValue::String(text.collect())
            }
            DynSolType::Array(inner) => {
                let len = if depth > 1 { 1 } else { self.rng.random_range(0..5) };
                DynSolValue::Array((0..len).map(|_| self.value(inner, depth + 1)).collect())
            }
            DynSolType::FixedArray(inner, size) => {
                DynSolValue::FixedArray((0..*size).map(|_| self.value(inner, depth + 1)).collect())
            }
            DynSolType::Tuple(types) => DynSolValue::Tuple(types.iter().map(|ty| self.value(ty, depth + 1)).collect()),
        }
    }

    fn len(&mut self) -> usize {
        *[0, 1, 2, 5, 31, 32, 33, 64, 100].choose(&mut self.rng).expect("not empty")
    }
}

fn alloy_dyn_abi_function(bytes: [u8; 24]) -> revm::primitives::alloy_primitives::Function {
    bytes.into()
}

/// The low `bits` of a word as a signed number of the interface library's type.
fn sign_extended(word: Word, bits: usize) -> revm::primitives::I256 {
    let shift = 256 - bits;
    let raw = revm::primitives::I256::from_raw(word << shift);
    raw.asr(shift)
}

/// `count` calls of a contract, all its functions in turn, with some that match none.
pub(crate) fn of_interface<'a>(generator: &'a mut Generator, abi: &'a JsonAbi, at: usize) -> Call {
    let functions: Vec<_> = abi.functions().collect();
    if functions.is_empty() || at % 41 == 40 {
        return generator.unknown();
    }
    generator.call(functions[at % functions.len()])
}

/// The state after the constructor, with its runtime code in the contract. Constructors get typed random arguments, several
/// times where they refuse them; where they refuse all, or there are none, the runtime code is called as it was published,
/// with an account in the place of each immutable.
pub(crate) fn deployed(contract: &mut Contract, generator: &mut Generator) -> State {
    let parts = contract.creation.clone().zip(contract.abi.clone());
    for (creation, abi) in std::iter::repeat_n(parts, 40).flatten() {
        let call = generator.construction(abi.constructor.as_ref());
        let code = [creation.as_slice(), &call.calldata].concat();
        if let Ok(deployment) = deploy(&code, &call.env, &State::default())
            && !deployment.runtime.is_empty()
        {
            contract.runtime = deployment.runtime;
            contract.immutables = Immutables::Deployed;
            return deployment.state;
        }
    }
    for range in contract.placeholders() {
        let account = &ACCOUNTS[1];
        let from = range.end - account.len().min(range.len());
        if let Some(place) = contract.runtime.get_mut(from..range.end) {
            place.copy_from_slice(&account[account.len() - place.len()..]);
        }
    }
    contract.immutables = Immutables::Deployed;
    State::default()
}
