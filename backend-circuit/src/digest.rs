//! Poseidon digests of calls and outcomes, natively and in the circuit.
//!
//! Everything is hashed in blocks, right-nested: the last element of a block is the digest of the blocks after it, zero after the
//! last. A circuit that reads only the first words therefore opens only the first blocks and takes the rest as one unread witness; and
//! one that hashes data from its last block to its first holds one element, however long the data are.
//!
//! | digest | first block | further blocks |
//! |---|---|---|
//! | calldata | length + 2^64 · selector, three words, rest | three words, rest, 0 |
//! | call | calldata, calls before, the fields of [`CALL_BLOCKS`], zeros, rest | fields, zeros, rest |
//! | outcome | what was before, length + 2^64 · halt code, four words, rest | three words, rest, 0 |
//! | log | what was before, address + 2^160 · length + 2^192 · topics, the topics, words ([`inline_words`]), rest | three words, rest, 0 |
//!
//! A word is two elements, its low 128 bits and the rest; an address is one. Calldata words start at byte 4, after the
//! selector (the first four bytes, big-endian, zero-padded); other words at byte 0. The last word is padded with zero bytes,
//! and there are as many blocks as words need, at least one. A block has eight elements, the first of an outcome or a log eleven. Each
//! kind of block has its own domain tag.
//!
//! Calls, and outcomes with logs, are chains: the digest of a call contains that of the calls before it. What was before a log are the
//! outcomes and logs before it; what was before an outcome are the outcomes before it, and, if it returned, its logs after them.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use typenum::{U3, U8, U11, U36};
use zvm_ir::env::address_word;
use zvm_ir::{Address, Env, Halt, Log, Opcode, Outcome, Word as U256};

use crate::execute::Call;
use crate::field::{from_u256, two_pow};
use crate::gadgets::{Lc, Word, enforce, enforce_boolean, limb_count, native_limbs};
use crate::hash::Hash;
use crate::trace::access::Limbs;

/// Field elements per block.
const BLOCK: usize = 8;
/// Words per block of calldata or outcome.
pub const BLOCK_WORDS: usize = 3;
/// Field elements for the words of a block.
const WORD_ELEMENTS: usize = 2 * BLOCK_WORDS;

/// The fields of a call's environment by block, those that contracts read most often first. The digest depends on this order.
pub const CALL_BLOCKS: [&[Opcode]; 4] = [
    &[Opcode::Caller, Opcode::Callvalue, Opcode::Address],
    &[Opcode::Timestamp, Opcode::Number, Opcode::Origin, Opcode::Chainid],
    &[Opcode::Basefee, Opcode::Coinbase, Opcode::Gasprice, Opcode::Prevrandao],
    &[Opcode::Gaslimit, Opcode::Selfbalance, Opcode::Blobbasefee],
];
/// The elements of a call's first block before its fields: the digests of the calldata and of the calls before.
const CALL_HEAD: usize = 2;

/// The elements of the first block of a log or an outcome after what was before and its head; the last is the rest.
const LOG_ELEMENTS: usize = 9;
/// The elements of that block.
const EFFECT_BLOCK: usize = 2 + LOG_ELEMENTS;
/// The field elements of advice that are hashed at once, besides the hash so far.
pub const ADVICE_BLOCK: usize = 35;
/// The rows of that hash.
pub const ADVICE_ROWS: u64 = 1066;

/// What a block of eight is part of; its tag separates it from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    CalldataHead,
    CalldataRest,
    /// Blocks of words after the first of an outcome or a log.
    DataRest,
    CallHead,
    CallRest,
    Challenge,
}

impl Domain {
    const COUNT: u64 = Self::Challenge as u64 + 1;
}

/// What three elements are hashed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyDomain {
    /// An account: its slot 0.
    Origin,
    /// The words of a hash whose last word is a place: Solidity's mappings, and arrays.
    PlaceLast,
    /// The words of a hash whose first word is a place, and not the only one: Vyper's mappings.
    PlaceFirst,
    /// A word of a hash that has more than two.
    Word,
    /// A constant slot number of more than 64 bits.
    Constant,
    /// How many bytes are hashed, where they are not whole words or hold no place.
    Bytes,
}

impl KeyDomain {
    const COUNT: u64 = Self::Bytes as u64 + 1;
}

/// What the first blocks of outcomes and logs are tagged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EffectDomain {
    Log,
    Outcome,
}

impl EffectDomain {
    const COUNT: u64 = Self::Outcome as u64 + 1;
}

/// How many words of data the first block of a log with this many topics holds; that of an outcome holds as many as with none.
pub const fn inline_words(topics: usize) -> usize {
    LOG_ELEMENTS.saturating_sub(2 * topics) / 2
}

/// The hash functions of one field. Making them takes some milliseconds; [`Hasher::shared`] makes each once.
#[derive(Debug)]
pub struct Hasher<F: PrimeField> {
    blocks: Vec<Hash<F, U8>>,
    keys: Vec<Hash<F, U3>>,
    effects: Vec<Hash<F, U11>>,
    /// Its matrices take a hundred times as long as the others', and a program that accesses nothing has no use for them.
    advice: LazyLock<Hash<F, U36>>,
}

impl<F: PrimeField> Default for Hasher<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: PrimeField> Hasher<F> {
    /// Derives round constants and matrices.
    pub fn new() -> Self {
        Self {
            blocks: Hash::family(1..=Domain::COUNT),
            keys: Hash::family(1..=KeyDomain::COUNT),
            effects: Hash::family(1..=EffectDomain::COUNT),
            advice: LazyLock::new(|| Hash::family([1]).remove(0)),
        }
    }

    /// The hash functions of the field, made on first use.
    pub fn shared() -> Arc<Self> {
        static HASHERS: Mutex<BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>> = Mutex::new(BTreeMap::new());
        let mut hashers = HASHERS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = hashers.get(&TypeId::of::<F>()).cloned().and_then(|known| known.downcast::<Self>().ok());
        known.unwrap_or_else(|| {
            let made = Arc::new(Self::new());
            hashers.insert(TypeId::of::<F>(), Arc::clone(&made) as Arc<dyn Any + Send + Sync>);
            made
        })
    }

    fn hash(&self, domain: Domain, block: &[F; BLOCK]) -> F {
        self.blocks[domain as usize].hash(block)
    }

    fn hash_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        domain: Domain,
        block: &[Lc<F>],
    ) -> Result<Lc<F>, SynthesisError> {
        self.blocks[domain as usize].hash_in_circuit(cs, block)
    }

    /// The hash of three elements that makes a storage key: see [`crate::place`].
    pub fn key(&self, domain: KeyDomain, elements: [F; 3]) -> F {
        self.keys[domain as usize].hash(&elements)
    }

    /// As [`Hasher::key`], in the circuit: 262 rows, 3 less for each constant element.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn key_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        domain: KeyDomain,
        elements: &[Lc<F>; 3],
    ) -> Result<Lc<F>, SynthesisError> {
        self.keys[domain as usize].hash_in_circuit(cs, elements)
    }

    /// The running hash `before` of the prover's advice, with `elements` added in blocks of [`ADVICE_BLOCK`].
    pub fn advice(&self, before: F, elements: &[F]) -> F {
        elements.chunks(ADVICE_BLOCK).fold(before, |before, block| {
            let mut all = vec![before];
            all.extend(block);
            self.advice.hash(&all)
        })
    }

    /// As [`Hasher::advice`], in the circuit: 1,066 rows a block, 3 less for each element that the last one lacks.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn advice_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        before: &Lc<F>,
        elements: &[Lc<F>],
    ) -> Result<Lc<F>, SynthesisError> {
        let mut hash = before.clone();
        for (index, block) in elements.chunks(ADVICE_BLOCK).enumerate() {
            let all: Vec<Lc<F>> = [hash].into_iter().chain(block.iter().cloned()).collect();
            hash = self.advice.hash_in_circuit(&mut cs.namespace(|| format!("advice {index}")), &all)?;
        }
        Ok(hash)
    }

    /// The challenge number `index` that follows from a statement and the hash of the prover's advice, `seed`.
    pub fn challenge(&self, seed: &[F; BLOCK - 1], index: u64) -> F {
        let mut block = [F::ZERO; BLOCK];
        block[..BLOCK - 1].copy_from_slice(seed);
        block[BLOCK - 1] = F::from(index);
        self.hash(Domain::Challenge, &block)
    }

    /// As [`Hasher::challenge`], in the circuit: 382 rows.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn challenge_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        seed: &[Lc<F>; BLOCK - 1],
        index: u64,
    ) -> Result<Lc<F>, SynthesisError> {
        let mut block = seed.to_vec();
        block.push(Lc::constant(F::from(index)));
        self.hash_in_circuit(cs, Domain::Challenge, &block)
    }

    // Natively.

    /// The digest of calldata.
    pub fn calldata(&self, data: &[u8]) -> F {
        let (head, words) = calldata_parts(data);
        let (first, further) = words.split_at(words.len().min(BLOCK_WORDS));
        let mut block = [F::ZERO; BLOCK];
        block[0] = head;
        fill(&mut block[1..], first);
        block[BLOCK - 1] = self.rest(Domain::CalldataRest, further);
        self.hash(Domain::CalldataHead, &block)
    }

    /// The first `count` blocks of calldata after the first one of all, each with the digest of what follows it.
    pub(crate) fn calldata_blocks(&self, data: &[u8], count: usize) -> Vec<([U256; BLOCK_WORDS], F)> {
        if count == 0 {
            return Vec::new();
        }
        let words = words_of(data.get(4..).unwrap_or_default());
        let further = words.get(BLOCK_WORDS..).unwrap_or_default();
        let (near, far) = further.split_at(further.len().min(count * BLOCK_WORDS));
        let mut rest = self.rest(Domain::CalldataRest, far);
        let mut blocks: Vec<_> = near
            .chunks(BLOCK_WORDS)
            .rev()
            .map(|words| {
                let behind = rest;
                rest = self.rest_before(Domain::CalldataRest, words, rest);
                (core::array::from_fn(|at| words.get(at).copied().unwrap_or_default()), behind)
            })
            .collect();
        blocks.reverse();
        blocks
    }

    /// The digest of an outcome after what was before, `effects`: the halt code ([`zvm_ir::Halt::code`]) and the data.
    pub fn outcome(&self, halt: u8, data: &[u8], effects: F) -> F {
        self.effect(EffectDomain::Outcome, effects, outcome_head(halt, data.len()), &[], data)
    }

    /// The digest of outcomes: `before`, that of the outcomes before, and one more.
    pub fn outcome_after(&self, before: F, outcome: &Outcome) -> F {
        let logs = if outcome.halt == Halt::Return { outcome.logs.as_slice() } else { &[] };
        let effects = logs.iter().fold(before, |before, log| self.log(before, log));
        self.outcome(outcome.halt.code(), &outcome.data, effects)
    }

    /// The digest of `before` and one more log.
    pub fn log(&self, before: F, log: &Log) -> F {
        let head = log_head(&log.address, log.data.len(), log.topics.len());
        self.effect(EffectDomain::Log, before, head, &log.topics, &log.data)
    }

    fn effect(&self, domain: EffectDomain, before: F, head: F, topics: &[U256], data: &[u8]) -> F {
        let words = words_of(data);
        let (first, further) = words.split_at(words.len().min(inline_words(topics.len())));
        let mut block = [F::ZERO; EFFECT_BLOCK];
        (block[0], block[1]) = (before, head);
        fill(&mut block[2..], &[topics, first].concat());
        block[EFFECT_BLOCK - 1] = self.rest(Domain::DataRest, further);
        self.effects[domain as usize].hash(&block)
    }

    /// The digest of a list of calls.
    pub fn calls<'a>(&self, calls: impl IntoIterator<Item = &'a Call>) -> F {
        calls.into_iter().fold(F::ZERO, |before, call| self.call_after(before, call))
    }

    /// The digest of calls: `before`, that of the calls before, and one more.
    pub fn call_after(&self, before: F, call: &Call) -> F {
        let mut block = [F::ZERO; BLOCK];
        block[0] = self.calldata(&call.calldata);
        block[1] = before;
        fill_fields(&mut block[CALL_HEAD..BLOCK - 1], CALL_BLOCKS[0], &call.env);
        block[BLOCK - 1] = self.env_rest(&call.env, 1);
        self.hash(Domain::CallHead, &block)
    }

    /// The digest of the blocks after the first, which hold `words`.
    fn rest(&self, domain: Domain, words: &[U256]) -> F {
        words.chunks(BLOCK_WORDS).rev().fold(F::ZERO, |rest, words| self.rest_before(domain, words, rest))
    }

    /// The digest of a block of `words` and what follows it.
    fn rest_before(&self, domain: Domain, words: &[U256], rest: F) -> F {
        let mut block = [F::ZERO; BLOCK];
        fill(&mut block, words);
        block[WORD_ELEMENTS] = rest;
        self.hash(domain, &block)
    }

    /// The digest of the environment's blocks from `from` on, which is at least one.
    fn env_rest(&self, env: &Env, from: usize) -> F {
        CALL_BLOCKS.iter().skip(from).rev().fold(F::ZERO, |rest, fields| {
            let mut block = [F::ZERO; BLOCK];
            fill_fields(&mut block, fields, env);
            block[BLOCK - 1] = rest;
            self.hash(Domain::CallRest, &block)
        })
    }

    // In the circuit.

    /// The digest of calldata of which `words` (from byte 4 on) are read, with its length (`u64`) and selector (`u32`); and that of the
    /// blocks after the first.
    ///
    /// `data` is the calldata itself, for a witness of what is not read: the rest of the last block and the blocks after.
    ///
    /// | name | equation | meaning |
    /// |---|---|---|
    /// | `present j` | `p_j · (p_j − 1) = 0`, `p_{j+1} · (1 − p_j) = 0` | whether block `j` exists; once one does not, none does |
    /// | `absent i` | `e_i · (1 − p_j) = 0` | elements read of a block that does not exist are zero |
    /// | `rest j` | `p_j · hash_j` | and its digest is zero |
    ///
    /// *Soundness:* by collision resistance the digest binds length, selector, words and which blocks exist: a block that exists has a
    /// digest other than zero. What is read of existing blocks is in range because the calldata's words are, so the caller need not
    /// check the ranges of `words` against a digest that was made natively. *Completeness:* calldata is zero past its end. Rows: 385
    /// per block, 10 for each after the first.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn calldata_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        length: &Word<F>,
        selector: &Word<F>,
        words: &[Word<F>],
        data: Option<&[u8]>,
    ) -> Result<[Lc<F>; 2], SynthesisError> {
        let mut cs = cs.namespace(|| "calldata digest");
        let native = data.map(|data| calldata_parts::<F>(data).1);
        let blocks = words.len().div_ceil(BLOCK_WORDS).max(1);
        let mut present = vec![Lc::one()];
        for j in 1..blocks {
            let exists = native.as_ref().map(|native| native.len() > j * BLOCK_WORDS);
            let flag = exists.map(|exists| if exists { F::ONE } else { F::ZERO });
            let flag = Lc::alloc(&mut cs, || format!("present {j}"), flag)?;
            enforce_boolean(&mut cs, || format!("present {j}"), &flag);
            if j > 1 {
                let gone = present[j - 1].complement();
                enforce(&mut cs, || format!("present {j} after {}", j - 1), &flag, &gone, &Lc::zero());
            }
            present.push(flag);
        }
        // The unread words of the last block, and the blocks after it.
        let unread = |j: usize, element: usize| {
            let word = native.as_ref()?.get(j * BLOCK_WORDS + element / 2).copied().unwrap_or_default();
            Some(native_limbs::<F>(256, &word)[element % 2])
        };
        let after = native.as_ref().map(|native| {
            let opened = native.len().min(blocks * BLOCK_WORDS);
            self.rest(Domain::CalldataRest, &native[opened..])
        });
        let mut rest = Lc::alloc(&mut cs, || "unread blocks".into(), after)?;
        for (j, flag) in present.iter().enumerate().rev() {
            let mut cs = cs.namespace(|| format!("block {j}"));
            let from = words.len().min(j * BLOCK_WORDS);
            let read = &words[from..words.len().min(from + BLOCK_WORDS)];
            let mut elements = word_elements(&mut cs, read)?;
            for element in elements.len()..WORD_ELEMENTS {
                elements.push(Lc::alloc(&mut cs, || format!("unread {element}"), unread(j, element))?);
            }
            if j == 0 {
                let block = head_block(head_element(length, selector), elements, rest.clone());
                return Ok([self.hash_in_circuit(&mut cs, Domain::CalldataHead, &block)?, rest]);
            }
            // Element by element: the caller may leave ranges to the digest, so a sum of zero would say nothing.
            for (index, element) in elements[..2 * read.len()].iter().enumerate() {
                enforce(&mut cs, || format!("absent {index}"), element, &flag.complement(), &Lc::zero());
            }
            let hash = self.hash_in_circuit(&mut cs, Domain::CalldataRest, &rest_block(elements, rest))?;
            rest = Lc::mul(&mut cs, || format!("rest {j}"), flag, &hash)?;
        }
        Err(SynthesisError::Unsatisfiable)
    }

    /// The digest of a block of calldata after the first. Rows: 382.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub(crate) fn calldata_block_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        words: &[Limbs<F>],
        rest: &Lc<F>,
    ) -> Result<Lc<F>, SynthesisError> {
        let elements = words.iter().flat_map(|word| [word.low.clone(), word.high.clone()]).collect();
        self.hash_in_circuit(cs, Domain::CalldataRest, &rest_block(elements, rest.clone()))
    }

    /// The digest of an outcome: halt code (`u8`), length of the data in bytes (at most `u64`), its first words (at most four), the digest
    /// of the blocks after them, and that of what was before. Words and bytes past the length must be zero, else the digest is that of
    /// no outcome. Rows: 457.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn outcome_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        (halt, length): (&Word<F>, &Word<F>),
        words: &[Word<F>],
        rest: &Lc<F>,
        effects: &Lc<F>,
    ) -> Result<Lc<F>, SynthesisError> {
        let head = head_element(length, halt);
        self.effect_in_circuit(cs, EffectDomain::Outcome, [effects.clone(), head], (&[], words), rest)
    }

    /// The digest of up to three words of data and of the blocks after them. Rows: 382.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn data_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        words: &[Word<F>],
        rest: &Lc<F>,
    ) -> Result<Lc<F>, SynthesisError> {
        let mut elements = word_elements(cs, words)?;
        elements.resize_with(WORD_ELEMENTS, Lc::zero);
        self.hash_in_circuit(cs, Domain::DataRest, &rest_block(elements, rest.clone()))
    }

    fn effect_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        domain: EffectDomain,
        head: [Lc<F>; 2],
        (topics, words): (&[Word<F>], &[Word<F>]),
        rest: &Lc<F>,
    ) -> Result<Lc<F>, SynthesisError> {
        debug_assert!(words.len() <= inline_words(topics.len()));
        let mut elements = Vec::from(head);
        elements.extend(word_elements(&mut cs.namespace(|| "topics"), topics)?);
        elements.extend(word_elements(&mut cs.namespace(|| "data"), words)?);
        elements.resize_with(EFFECT_BLOCK - 1, Lc::zero);
        elements.push(rest.clone());
        self.effects[domain as usize].hash_in_circuit(cs, &elements)
    }

    /// The digest of calls: `before`, that of the calls before, and one more, with the digest `calldata` of its calldata. `fields`
    /// are those that are read: instructions of [`CALL_BLOCKS`] with their values, `u160` for addresses. `env` is the environment
    /// itself, for a witness of what is not read.
    ///
    /// Only the blocks up to the last that is read are opened. *Soundness:* collision resistance; fields that are not read are
    /// unconstrained witnesses that nothing else sees. Rows: 385 per block opened.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn call_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        before: &Lc<F>,
        calldata: &Lc<F>,
        fields: &[(Opcode, Word<F>)],
        env: Option<&Env>,
    ) -> Result<Lc<F>, SynthesisError> {
        let mut cs = cs.namespace(|| "call digest");
        let read = |field: Opcode| fields.iter().find(|(opcode, _)| *opcode == field).map(|(_, word)| word);
        let opened = CALL_BLOCKS
            .iter()
            .rposition(|block| block.iter().any(|&field| read(field).is_some()))
            .map_or(1, |last| last + 1);
        let mut rest = if opened < CALL_BLOCKS.len() {
            Lc::alloc(&mut cs, || "unread blocks".into(), env.map(|env| self.env_rest(env, opened)))?
        } else {
            Lc::zero()
        };
        for (index, block) in CALL_BLOCKS.iter().enumerate().take(opened).rev() {
            let mut cs = cs.namespace(|| format!("block {index}"));
            let mut elements = Vec::with_capacity(BLOCK);
            if index == 0 {
                elements.extend([calldata.clone(), before.clone()]);
            }
            for &field in block.iter() {
                let mut cs = cs.namespace(|| field.mnemonic());
                let width = env_width(field);
                match read(field) {
                    Some(word) => elements.extend(word.zext(width).limbs(&mut cs)?),
                    None => {
                        let values = env.and_then(|env| env.read(field)).map(|value| native_limbs::<F>(width, &value));
                        for limb in 0..limb_count(width) {
                            let value = values.as_ref().map(|values| values[limb]);
                            elements.push(Lc::alloc(&mut cs, || format!("unread {limb}"), value)?);
                        }
                    }
                }
            }
            elements.resize_with(BLOCK - 1, Lc::zero);
            elements.push(rest);
            let domain = if index == 0 { Domain::CallHead } else { Domain::CallRest };
            rest = self.hash_in_circuit(&mut cs, domain, &elements)?;
        }
        Ok(rest)
    }

    /// The digest of `before` and one more log of `account`: its topics, the length of its data in bytes (below 2^32), their first words
    /// (at most [`inline_words`]), and the digest of the blocks after them. Words and bytes past the length must be zero. Rows: 457.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn log_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        before: &Lc<F>,
        account: &Lc<F>,
        (topics, length): (&[Word<F>], &Lc<F>),
        words: &[Word<F>],
        rest: &Lc<F>,
    ) -> Result<Lc<F>, SynthesisError> {
        let head =
            Lc::sum([(F::ONE, account), (two_pow(160), length), (log_head(&[0; 20], 0, topics.len()), &Lc::one())]);
        self.effect_in_circuit(cs, EffectDomain::Log, [before.clone(), head], (topics, words), rest)
    }
}

/// `length + 2^64 · halt code`.
fn outcome_head<F: PrimeField>(halt: u8, len: usize) -> F {
    F::from(len as u64) + F::from(u64::from(halt)) * two_pow::<F>(64)
}

/// `address + 2^160 · length + 2^192 · topics`.
fn log_head<F: PrimeField>(address: &Address, len: usize, topics: usize) -> F {
    from_u256(&(address_word(address) | U256::from(len) << 160 | U256::from(topics) << 192))
}

/// Writes the limbs of fields of the environment into a block.
fn fill_fields<F: PrimeField>(block: &mut [F], fields: &[Opcode], env: &Env) {
    let limbs = |&field: &Opcode| native_limbs::<F>(env_width(field), &env.read(field).unwrap_or_default());
    for (to, element) in block.iter_mut().zip(fields.iter().flat_map(limbs)) {
        *to = element;
    }
}

/// The width of an environment field's type.
fn env_width(field: Opcode) -> u32 {
    field.result_type(&[]).ok().flatten().map_or(256, |ty| u32::from(ty.bits()))
}

/// Length and selector as one element, and the words from byte 4 on.
fn calldata_parts<F: PrimeField>(data: &[u8]) -> (F, Vec<U256>) {
    let head = F::from(data.len() as u64) + F::from(u64::from(selector(data))) * two_pow::<F>(64);
    (head, words_of(data.get(4..).unwrap_or_default()))
}

/// The first four bytes of calldata, big-endian, zero-padded.
pub fn selector(data: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(data) {
        *to = *from;
    }
    u32::from_be_bytes(bytes)
}

/// Bytes as big-endian words, the last padded with zeros.
pub fn words_of(data: &[u8]) -> Vec<U256> {
    let word = |chunk: &[u8]| {
        let mut bytes = [0; 32];
        bytes[..chunk.len()].copy_from_slice(chunk);
        U256::from_be_bytes(bytes)
    };
    data.chunks(32).map(word).collect()
}

fn fill<F: PrimeField>(elements: &mut [F], words: &[U256]) {
    let limbs = words.iter().flat_map(|word| native_limbs::<F>(256, word));
    for (to, limb) in elements.iter_mut().zip(limbs) {
        *to = limb;
    }
}

fn word_elements<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    words: &[Word<F>],
) -> Result<Vec<Lc<F>>, SynthesisError> {
    let mut elements = Vec::with_capacity(WORD_ELEMENTS);
    for (index, word) in words.iter().enumerate() {
        elements.extend(word.zext(256).limbs(&mut cs.namespace(|| format!("word {index}")))?);
    }
    Ok(elements)
}

fn head_element<F: PrimeField>(length: &Word<F>, tag: &Word<F>) -> Lc<F> {
    length.packed().plus(&tag.packed().shifted(64))
}

fn head_block<F: PrimeField>(head: Lc<F>, words: Vec<Lc<F>>, rest: Lc<F>) -> Vec<Lc<F>> {
    [head].into_iter().chain(words).chain([rest]).collect()
}

fn rest_block<F: PrimeField>(words: Vec<Lc<F>>, rest: Lc<F>) -> Vec<Lc<F>> {
    words.into_iter().chain([rest, Lc::zero()]).collect()
}
