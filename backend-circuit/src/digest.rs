//! Poseidon digests of calldata, environment and outcome, natively and in the circuit.
//!
//! Everything is hashed in blocks of eight field elements (`neptune`, arity 8, 128 bits of security), right-nested: the last
//! element of a block is the digest of the blocks after it, zero after the last. A circuit that reads only the first words
//! therefore opens only the first blocks and takes the rest as one unread witness.
//!
//! | digest | first block | further blocks |
//! |---|---|---|
//! | calldata | length + 2^64 · selector, three words, rest | three words, rest, 0 |
//! | outcome | length + 2^64 · halt code, three words, rest | three words, rest, 0 |
//! | environment | the fields of [`ENV_BLOCKS`], zeros, rest | likewise |
//!
//! A word is two elements, its low 128 bits and the rest; an address is one. Calldata words start at byte 4, after the
//! selector (the first four bytes, big-endian, zero-padded); outcome words at byte 0. The last word is padded with zero bytes,
//! and there are as many blocks as words need, at least one. The innermost rest of an outcome is the digest of its effects (logs
//! and state), zero when there are none. Each kind of block has its own domain tag.

use std::any::{Any, TypeId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use neptune::circuit2::{Elt, PoseidonCircuit2};
use neptune::hash_type::{CType, HashType};
use neptune::poseidon::{Poseidon, PoseidonConstants};
use typenum::U8;
use zvm_ir::{Env, Opcode, Word as U256};

use crate::field::two_pow;
use crate::gadgets::{Lc, Word, compare, enforce, enforce_boolean, limb_count, native_limbs};

/// Field elements per block.
const BLOCK: usize = 8;
/// Words per block of calldata or outcome.
pub const BLOCK_WORDS: usize = 3;
/// Field elements for the words of a block.
const WORD_ELEMENTS: usize = 2 * BLOCK_WORDS;

/// The fields of the environment by block, those that contracts read most often first. The digest depends on this order.
pub const ENV_BLOCKS: [&[Opcode]; 4] = [
    &[Opcode::Caller, Opcode::Callvalue, Opcode::Address, Opcode::Timestamp, Opcode::Origin],
    &[Opcode::Number, Opcode::Chainid, Opcode::Basefee, Opcode::Coinbase],
    &[Opcode::Gasprice, Opcode::Prevrandao, Opcode::Gaslimit],
    &[Opcode::Selfbalance, Opcode::Blobbasefee],
];

/// What a block is part of; its tag separates it from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    CalldataHead,
    CalldataRest,
    OutcomeHead,
    OutcomeRest,
    EnvHead,
    EnvRest,
}

impl Domain {
    const ALL: [Self; 6] =
        [Self::CalldataHead, Self::CalldataRest, Self::OutcomeHead, Self::OutcomeRest, Self::EnvHead, Self::EnvRest];
}

/// Calldata or outcome: what the first block and the others are tagged with.
#[derive(Clone, Copy)]
struct Chain {
    head: Domain,
    rest: Domain,
}

const CALLDATA: Chain = Chain { head: Domain::CalldataHead, rest: Domain::CalldataRest };
const OUTCOME: Chain = Chain { head: Domain::OutcomeHead, rest: Domain::OutcomeRest };

/// The hash functions of one field. Making one takes some milliseconds; [`Hasher::shared`] makes each once.
#[derive(Debug)]
pub struct Hasher<F: PrimeField> {
    constants: Vec<PoseidonConstants<F, U8>>,
}

impl<F: PrimeField> Default for Hasher<F> {
    fn default() -> Self {
        Self::new()
    }
}

impl<F: PrimeField> Hasher<F> {
    /// Derives round constants and matrices.
    pub fn new() -> Self {
        let base = PoseidonConstants::<F, U8>::new();
        let tagged = |domain: &Domain| {
            let hash_type = HashType::Custom(CType::Arbitrary(*domain as u64 + 1));
            let mut constants = base.clone();
            constants.domain_tag = hash_type.domain_tag();
            constants.hash_type = hash_type;
            constants
        };
        Self { constants: Domain::ALL.iter().map(tagged).collect() }
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
        Poseidon::new_with_preimage(block, &self.constants[domain as usize]).hash()
    }

    /// Rows: 387, and one for each element that is neither a variable nor a constant.
    fn hash_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        domain: Domain,
        block: &[Lc<F>],
    ) -> Result<Lc<F>, SynthesisError> {
        let constants = &self.constants[domain as usize];
        let mut elements = vec![Elt::num_from_fr::<CS>(constants.domain_tag)];
        for (index, element) in block.iter().enumerate() {
            elements.push(match element.as_constant() {
                Some(constant) => Elt::num_from_fr::<CS>(constant),
                None => Elt::Allocated(element.to_num(&mut cs.namespace(|| format!("element {index}")))?),
            });
        }
        let mut circuit = PoseidonCircuit2::new(elements, constants);
        let digest = circuit.hash(&mut cs.namespace(|| "rounds"))?;
        Ok(Lc::from_num(&digest.ensure_allocated(&mut cs.namespace(|| "digest"), true)?))
    }

    // Natively.

    /// The digest of calldata.
    pub fn calldata(&self, data: &[u8]) -> F {
        let (head, words) = calldata_parts(data);
        self.chain(CALLDATA, head, &words, F::ZERO)
    }

    /// The digest of an outcome: the halt code ([`zvm_ir::Halt::code`]), the data, and the digest of the effects (zero for none).
    pub fn outcome(&self, halt: u8, data: &[u8], effects: F) -> F {
        let head = F::from(data.len() as u64) + F::from(u64::from(halt)) * two_pow::<F>(64);
        self.chain(OUTCOME, head, &words_of(data), effects)
    }

    /// The digest of an environment.
    pub fn env(&self, env: &Env) -> F {
        self.env_rest(env, 0)
    }

    fn chain(&self, chain: Chain, head: F, words: &[U256], innermost: F) -> F {
        let (first, rest) = words.split_at(words.len().min(BLOCK_WORDS));
        let mut block = [F::ZERO; BLOCK];
        block[0] = head;
        fill(&mut block[1..], first);
        block[BLOCK - 1] = self.rest(chain, rest, innermost);
        self.hash(chain.head, &block)
    }

    /// The digest of the blocks after the first, which hold `words`.
    fn rest(&self, chain: Chain, words: &[U256], innermost: F) -> F {
        words.chunks(BLOCK_WORDS).rev().fold(innermost, |rest, words| {
            let mut block = [F::ZERO; BLOCK];
            fill(&mut block, words);
            block[WORD_ELEMENTS] = rest;
            self.hash(chain.rest, &block)
        })
    }

    /// The digest of the environment's blocks from `from` on.
    fn env_rest(&self, env: &Env, from: usize) -> F {
        ENV_BLOCKS.iter().enumerate().skip(from).rev().fold(F::ZERO, |rest, (index, fields)| {
            let mut block = [F::ZERO; BLOCK];
            let elements = fields
                .iter()
                .flat_map(|&field| native_limbs::<F>(env_width(field), &env.read(field).unwrap_or_default()));
            for (to, element) in block.iter_mut().zip(elements) {
                *to = element;
            }
            block[BLOCK - 1] = rest;
            self.hash(env_domain(index), &block)
        })
    }

    // In the circuit.

    /// The digest of calldata of which `words` (from byte 4 on) are read, with its length (`u64`) and selector (`u32`).
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
    /// check the ranges of `words` against a digest that was made natively. *Completeness:* calldata is zero past its end. Rows: 387
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
    ) -> Result<Lc<F>, SynthesisError> {
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
            self.rest(CALLDATA, &native[opened..], F::ZERO)
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
                let head = head_element(length, selector);
                return self.hash_in_circuit(&mut cs, Domain::CalldataHead, &head_block(head, elements, rest));
            }
            // Element by element: the caller may leave ranges to the digest, so a sum of zero would say nothing.
            for (index, element) in elements[..2 * read.len()].iter().enumerate() {
                enforce(&mut cs, || format!("absent {index}"), element, &flag.complement(), &Lc::zero());
            }
            let hash = self.hash_in_circuit(&mut cs, Domain::CalldataRest, &rest_block(elements, rest))?;
            rest = Lc::mul(&mut cs, || format!("rest {j}"), flag, &hash)?;
        }
        Ok(rest)
    }

    /// The digest of an outcome: halt code (`u8`), length of the data in bytes (at most `u64`), its words, and the digest of the
    /// effects (zero for none). There is room for `words`; those from `⌈length / 32⌉` on, and the bytes past the length in the
    /// last word, must be zero, else the digest is that of no outcome.
    ///
    /// The digest is the same however much room there is: block `j` counts if the length reaches into it (`present j`, one
    /// comparison with a constant), else the effects stand in its place. Rows: 387 per block, and for each after the first the
    /// length's bits and 2.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn outcome_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        halt: &Word<F>,
        length: &Word<F>,
        words: &[Word<F>],
        effects: &Lc<F>,
    ) -> Result<Lc<F>, SynthesisError> {
        let mut cs = cs.namespace(|| "outcome digest");
        let mut rest = effects.clone();
        let (first, further) = words.split_at(words.len().min(BLOCK_WORDS));
        for (j, words) in further.chunks(BLOCK_WORDS).enumerate().rev() {
            let mut cs = cs.namespace(|| format!("block {}", j + 1));
            let start = Word::constant(64, U256::from(32 * BLOCK_WORDS * (j + 1)));
            let present = compare::ult(&mut cs.namespace(|| "present"), &start, length)?;
            let present = present.as_boolean()?;
            if present.is_zero() {
                continue;
            }
            let mut elements = word_elements(&mut cs, words)?;
            elements.resize_with(WORD_ELEMENTS, Lc::zero);
            let hash = self.hash_in_circuit(&mut cs, Domain::OutcomeRest, &rest_block(elements, rest))?;
            rest = Lc::select(&mut cs, || "rest".into(), present, &hash, effects)?;
        }
        let mut cs = cs.namespace(|| "block 0");
        let mut elements = word_elements(&mut cs, first)?;
        elements.resize_with(WORD_ELEMENTS, Lc::zero);
        let head = head_element(length, halt);
        self.hash_in_circuit(&mut cs, Domain::OutcomeHead, &head_block(head, elements, rest))
    }

    /// The digest of an environment of which `fields` are read: instructions of [`ENV_BLOCKS`] with their values, `u160` for
    /// addresses. `env` is the environment itself, for a witness of what is not read.
    ///
    /// Only the blocks up to the last that is read are opened. *Soundness:* collision resistance; fields that are not read are
    /// unconstrained witnesses that nothing else sees. Rows: 387 per block opened.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn env_in_circuit<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        fields: &[(Opcode, Word<F>)],
        env: Option<&Env>,
    ) -> Result<Lc<F>, SynthesisError> {
        let mut cs = cs.namespace(|| "env digest");
        let read = |field: Opcode| fields.iter().find(|(opcode, _)| *opcode == field).map(|(_, word)| word);
        let opened = ENV_BLOCKS
            .iter()
            .rposition(|block| block.iter().any(|&field| read(field).is_some()))
            .map_or(1, |last| last + 1);
        let mut rest = if opened < ENV_BLOCKS.len() {
            Lc::alloc(&mut cs, || "unread blocks".into(), env.map(|env| self.env_rest(env, opened)))?
        } else {
            Lc::zero()
        };
        for (index, block) in ENV_BLOCKS.iter().enumerate().take(opened).rev() {
            let mut cs = cs.namespace(|| format!("block {index}"));
            let mut elements = Vec::with_capacity(BLOCK);
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
            rest = self.hash_in_circuit(&mut cs, env_domain(index), &elements)?;
        }
        Ok(rest)
    }
}

fn env_domain(block: usize) -> Domain {
    if block == 0 { Domain::EnvHead } else { Domain::EnvRest }
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
