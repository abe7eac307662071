//! What a program reads of its call, opened from the digest of the calls, and the digest of what it returns.
//!
//! *Soundness.* The digest that results is the next of the chain that ends in the statement's, which the verifier computed of limbs in
//! range; so by collision resistance every limb that was hashed here equals one in range: words need no range checks of their own.
//! Only the selector and the length, which share an element, are checked where one of them is read. In an idle slot nothing is bound
//! and nothing has an effect.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::interp::padded_word;
use zvm_ir::{Env, Function, Inst, Opcode, Value, Word as U256};

use crate::digest::{BLOCK_WORDS, Hasher, selector, words_of};
use crate::error::CircuitError;
use crate::execute::Call;
use crate::gadgets::{Lc, Word, limb_count, native_limbs};

/// The bytes before the first word of the digest.
const SELECTOR: u32 = 4;

/// A read of the input.
struct Read {
    value: Value,
    opcode: Opcode,
    /// The offset in the calldata.
    offset: u32,
}

/// What was opened of a call.
pub struct Opened<F: PrimeField> {
    /// What instructions read.
    pub values: Vec<(Value, Word<F>)>,
    /// The account that is called, if it was asked for.
    pub address: Option<Word<F>>,
    /// The words of the calldata's first block, and the digest of those after it, if they were asked for.
    pub calldata: Option<(Vec<Word<F>>, Lc<F>)>,
    /// The digest of the calls so far and this one.
    pub digest: Lc<F>,
}

/// What is opened of a call besides what instructions read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The account that is called.
    pub address: bool,
    /// The first block of the calldata.
    pub calldata: bool,
}

/// Defines the results of `reads`, the instructions of the entry block that read the input. `call` is the prover's input, and
/// `before` the digest of the calls before it.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn open<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    func: &Function,
    reads: impl Iterator<Item = Inst>,
    call: Option<&Call>,
    before: &Lc<F>,
    wanted: Wanted,
) -> Result<Opened<F>, CircuitError> {
    let mut values = Vec::new();
    let (mut calldata, mut env) = (Vec::new(), Vec::new());
    let mut block = None;
    for inst in reads {
        let data = &func.insts[inst];
        let value = data.result().ok_or(SynthesisError::Unsatisfiable)?;
        let constant = data.args.first().and_then(|&value| func.constant(value)).unwrap_or_default();
        let offset = u32::try_from(constant).map_err(|_| SynthesisError::Unsatisfiable)?;
        let read = Read { value, opcode: data.opcode, offset };
        match data.opcode {
            Opcode::Calldataload | Opcode::Calldatasize => calldata.push(read),
            _ => env.push(read),
        }
    }
    let calldata = match calldata.as_slice() {
        [] if !wanted.calldata => {
            let digest = call.map(|call| Hasher::shared().calldata(&call.calldata));
            Lc::alloc(cs, || "unread calldata".into(), digest)?
        }
        reads => {
            let least = if wanted.calldata { BLOCK_WORDS } else { 0 };
            let OpenedCalldata { digest, mut words, rest } = open_calldata(cs, reads, least, call, &mut values)?;
            words.truncate(BLOCK_WORDS);
            block = wanted.calldata.then_some((words, rest));
            digest
        }
    };
    let mut fields = Vec::with_capacity(env.len() + 1);
    for read in &env {
        let width = u32::from(func.ty(read.value).bits());
        let word = field(cs, read.opcode, width, call)?;
        fields.push((read.opcode, word.clone()));
        values.push((read.value, word));
    }
    let mut address = fields.iter().find(|(opcode, _)| *opcode == Opcode::Address).map(|(_, word)| word.clone());
    if wanted.address && address.is_none() {
        let word = field(cs, Opcode::Address, 160, call)?;
        fields.push((Opcode::Address, word.clone()));
        address = Some(word);
    }
    let digest = Hasher::shared().call_in_circuit(cs, before, &calldata, &fields, call.map(|call| &call.env))?;
    Ok(Opened { values, address, calldata: block, digest })
}

fn field<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    opcode: Opcode,
    width: u32,
    call: Option<&Call>,
) -> Result<Word<F>, SynthesisError> {
    unchecked(&mut cs.namespace(|| opcode.mnemonic()), width, call.and_then(|call| call.env.read(opcode)))
}

/// What was opened of calldata.
struct OpenedCalldata<F: PrimeField> {
    digest: Lc<F>,
    words: Vec<Word<F>>,
    rest: Lc<F>,
}

/// The digest of calldata, of which `reads` are read, the words that were opened, at least `least`, and the digest of the blocks after the
/// first.
fn open_calldata<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    reads: &[Read],
    least: usize,
    call: Option<&Call>,
    opened: &mut Vec<(Value, Word<F>)>,
) -> Result<OpenedCalldata<F>, CircuitError> {
    let data = call.map(|call| call.calldata.as_slice());
    let loads = || reads.iter().filter(|read| read.opcode == Opcode::Calldataload);
    let needed = loads().map(|read| (read.offset + 32 - SELECTOR).div_ceil(32)).max().unwrap_or(0).max(least as u32);
    let native = data.map(|data| words_of(data.get(SELECTOR as usize..).unwrap_or_default()));
    let mut words = Vec::with_capacity(needed as usize);
    for index in 0..needed as usize {
        let value = native.as_ref().map(|native| native.get(index).copied().unwrap_or_default());
        words.push(unchecked(&mut cs.namespace(|| format!("word {index}")), 256, value)?);
    }
    let length = data.map(|data| U256::from(data.len()));
    let head = data.map(|data| U256::from(selector(data)));
    let splits =
        loads().any(|read| read.offset < SELECTOR) || reads.iter().any(|read| read.opcode == Opcode::Calldatasize);
    // Otherwise only their packing is bound, and neither is read.
    let mut part = |name: &'static str, width: u32, value: Option<U256>| {
        let mut cs = cs.namespace(|| name);
        if splits { Word::alloc_checked(&mut cs, width, value) } else { unchecked(&mut cs, width, value) }
    };
    let length = part("length", 64, length)?;
    let head = part("selector", 32, head)?;
    let [digest, rest] = Hasher::shared().calldata_in_circuit(cs, &length, &head, &words, data)?;
    for read in reads {
        let mut cs = cs.namespace(|| format!("{} {}", read.opcode, read.offset));
        let word = match read.opcode {
            Opcode::Calldatasize => length.clone(),
            _ => load(&mut cs, read.offset, &head, &words, data)?,
        };
        opened.push((read.value, word));
    }
    Ok(OpenedCalldata { digest, words, rest })
}

/// The word at byte `offset`: one of `words`, or cut from the bits of the selector and two words.
fn load<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    offset: u32,
    selector: &Word<F>,
    words: &[Word<F>],
    data: Option<&[u8]>,
) -> Result<Word<F>, CircuitError> {
    let word = |index: u32| words.get(index as usize).ok_or(SynthesisError::Unsatisfiable);
    // `high` and `low` are neighbours in the calldata; the word starts `skipped` bytes into `high`, of `bytes` bytes.
    let (high, bytes, skipped, low) = match offset.checked_sub(SELECTOR) {
        Some(at) if at % 32 == 0 => return Ok(word(at / 32)?.clone()),
        Some(at) => (word(at / 32)?, 32, at % 32, word(at / 32 + 1)?),
        None => (selector, SELECTOR, offset, word(0)?),
    };
    let kept = 8 * (bytes - skipped) as usize;
    let high = padded(high.bits(&mut cs.namespace(|| "high"))?.to_vec());
    let low = padded(low.bits(&mut cs.namespace(|| "low"))?.to_vec());
    let bits: Vec<Lc<F>> = low[kept..].iter().chain(&high[..kept]).cloned().collect();
    let value = data.map(|data| padded_word(data, U256::from(offset)));
    Ok(Word::from_bits(256, &bits.into(), value))
}

fn padded<F: PrimeField>(mut bits: Vec<Lc<F>>) -> Vec<Lc<F>> {
    bits.resize_with(256, Lc::zero);
    bits
}

/// A witness whose range is not checked here.
fn unchecked<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    width: u32,
    value: Option<U256>,
) -> Result<Word<F>, SynthesisError> {
    let values = value.map(|value| native_limbs::<F>(width, &value));
    let mut limbs = Vec::with_capacity(2);
    for index in 0..limb_count(width) {
        limbs.push(Lc::alloc(cs, || format!("limb {index}"), values.as_ref().map(|values| values[index]))?);
    }
    Word::from_limbs(width, &limbs)
}

/// What an idle slot opens: zeros cost less to commit to.
pub(crate) fn nothing() -> Call {
    let env = Env {
        address: [0; 20],
        caller: [0; 20],
        origin: [0; 20],
        callvalue: U256::ZERO,
        gasprice: U256::ZERO,
        coinbase: [0; 20],
        timestamp: U256::ZERO,
        number: U256::ZERO,
        prevrandao: U256::ZERO,
        gaslimit: U256::ZERO,
        chainid: U256::ZERO,
        basefee: U256::ZERO,
        blobbasefee: U256::ZERO,
        selfbalance: U256::ZERO,
    };
    Call { calldata: Vec::new(), env }
}

/// The digest of an outcome, from the halt block's parameters (code, length, words), the digest of what was noted and that of what came
/// before it (see [`crate::digest`]).
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn outcome<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    params: &[Word<F>],
    noted: &Lc<F>,
    effects: &Lc<F>,
) -> Result<Lc<F>, CircuitError> {
    let [halt, length, words @ ..] = params else { return Err(SynthesisError::Unsatisfiable.into()) };
    Ok(Hasher::shared().outcome_in_circuit(cs, (halt, length), words, noted, effects)?)
}
