//! Hash gadgets against independent implementations, and against a prover who lies about a bit.

use std::collections::BTreeSet;

use bellpepper_core::ConstraintSystem;
use zvm_backend_circuit::cs::{CheckCs, CountCs, Names};
use zvm_backend_circuit::gadgets::keccak::{keccak_bytes, keccak_f, keccak_words};
use zvm_backend_circuit::gadgets::sha256::{sha256_bytes, sha256_words};
use zvm_backend_circuit::gadgets::{Lc, Word, lower_pure};
use zvm_backend_circuit::nova::Fr;
use zvm_ir::{Imm, Opcode, Type, Word as U256, eval};

fn word_of(bytes: &[u8]) -> U256 {
    U256::try_from_be_slice(bytes).unwrap()
}

fn message(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * i + 7 * i + 3) as u8).collect()
}

type Hash = fn(&mut CheckCs<Fr>, &[Word<Fr>]) -> Result<Word<Fr>, bellpepper_core::SynthesisError>;

fn of_bytes(hash: Hash, message: &[u8]) -> U256 {
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    let bytes: Vec<Word<Fr>> = message
        .iter()
        .enumerate()
        .map(|(i, &byte)| {
            Word::alloc_checked(&mut cs.namespace(|| format!("byte {i}")), 8, Some(U256::from(byte))).unwrap()
        })
        .collect();
    let word = hash(&mut cs, &bytes).unwrap();
    cs.verdict().unwrap();
    let limbs = word.limbs(&mut cs).unwrap();
    let held = limbs
        .iter()
        .rev()
        .fold(U256::ZERO, |sum, limb| (sum << 128) + zvm_backend_circuit::field::to_u256(&limb.value().unwrap()));
    assert_eq!(word.value(), Some(held));
    held
}

/// Around the ends of blocks (136 and 64 bytes) and of the length's place (56).
#[test]
fn hashes_of_bytes_agree_with_independent_implementations() {
    for length in [0, 1, 31, 135, 136, 137, 272] {
        let message = message(length);
        let words = eval_keccak(&message);
        assert_eq!(of_bytes(keccak_bytes, &message), words, "Keccak of {length} bytes");
    }
    use sha2::Digest;
    for length in [0, 1, 3, 55, 56, 63, 64, 65, 119, 120] {
        let message = message(length);
        assert_eq!(
            of_bytes(sha256_bytes, &message),
            word_of(&sha2::Sha256::digest(&message)),
            "SHA-256 of {length} bytes"
        );
    }
}

fn eval_keccak(message: &[u8]) -> U256 {
    use tiny_keccak::Hasher;
    let mut keccak = tiny_keccak::Keccak::v256();
    keccak.update(message);
    let mut digest = [0; 32];
    keccak.finalize(&mut digest);
    word_of(&digest)
}

#[test]
fn hashes_of_words_agree_with_the_semantics() {
    for count in 1..=3usize {
        let values: Vec<U256> = (0..count).map(|i| (U256::MAX / U256::from(7 + i)) ^ U256::from(i)).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_be_bytes::<32>()).collect();
        let mut cs = CheckCs::<Fr>::checking(Names::Kept);
        let words: Vec<Word<Fr>> = values
            .iter()
            .enumerate()
            .map(|(i, &value)| {
                Word::alloc_checked(&mut cs.namespace(|| format!("operand {i}")), 256, Some(value)).unwrap()
            })
            .collect();
        let expected = eval(Opcode::KeccakWords, Imm::Len(32 * count as u32), &values, Some(Type::WORD)).unwrap();
        assert_eq!(expected, eval_keccak(&bytes));
        assert_eq!(keccak_words(&mut cs, &words).unwrap().value(), Some(expected));
        // The first bytes of the last word only.
        let len = bytes.len() - 13;
        let hash =
            lower_pure(&mut cs.namespace(|| "part"), Opcode::KeccakWords, Imm::Len(len as u32), &words, Type::WORD);
        assert_eq!(hash.unwrap().value(), Some(eval_keccak(&bytes[..len])));
        use sha2::Digest;
        let expected = word_of(&sha2::Sha256::digest(&bytes));
        assert_eq!(sha256_words(&mut cs, &words).unwrap().value(), Some(expected));
        cs.verdict().unwrap();
    }
}

#[test]
fn states_of_words_agree_with_the_semantics() {
    let values: Vec<U256> = (0..7usize).map(|i| (U256::MAX / U256::from(5 + i)) ^ U256::from(i)).collect();
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    let words: Vec<Word<Fr>> = values
        .iter()
        .enumerate()
        .map(|(i, &value)| Word::alloc_checked(&mut cs.namespace(|| format!("operand {i}")), 256, Some(value)).unwrap())
        .collect();
    for index in 0..8u64 {
        let imm = Imm::Word(U256::from(index));
        let word = lower_pure(&mut cs.namespace(|| format!("{index}")), Opcode::KeccakF, imm, &words, Type::WORD);
        let expected = eval(Opcode::KeccakF, imm, &values, Some(Type::WORD));
        assert_eq!(word.ok().and_then(|word| word.value()), expected.ok(), "{index}");
    }
    cs.verdict().unwrap();
}

#[test]
fn rows_of_hashes() {
    let mut cs = CountCs::<Fr>::default();
    let state: Vec<Lc<Fr>> = (0..1600).map(|i| Lc::alloc(&mut cs, || format!("{i}"), None).unwrap()).collect();
    keccak_f(&mut cs, &state).unwrap();
    assert_eq!(cs.rows(), 92_160);
    type Count<'a> = &'a dyn Fn(&mut CountCs<Fr>, &[Word<Fr>]);
    let rows = |hash: Count<'_>, count: usize| {
        let mut cs = CountCs::<Fr>::default();
        let words: Vec<Word<Fr>> = (0..count).map(|_| Word::alloc_checked(&mut cs, 256, None).unwrap()).collect();
        let before = cs.rows();
        hash(&mut cs, &words);
        cs.rows() - before
    };
    let keccak = |count| rows(&|cs, words| drop(keccak_words(cs, words).unwrap()), count);
    let sha = |count| rows(&|cs, words| drop(sha256_words(cs, words).unwrap()), count);
    // Constant bits of the first block save rows. The exact counts are in `docs/circuit-costs.md`.
    assert!(keccak(2) <= 100_000);
    assert!(sha(1) <= 22_500);
}

/// Changes variables all over the circuit and expects a row to break: every hint is a bit that its row forces, or a bit of a
/// sum.
#[test]
fn every_bit_of_a_hash_is_forced() {
    for hash in [keccak_words, sha256_words] {
        let mut cs = CheckCs::<Fr>::recording();
        let word = Word::alloc_checked(&mut cs.namespace(|| "operand"), 256, Some(U256::MAX / U256::from(11))).unwrap();
        let given = cs.aux_count();
        hash(&mut cs, &[word]).unwrap();
        cs.verdict().unwrap();
        let names: BTreeSet<&str> = (0..cs.rows()).map(|row| cs.row_name(row)).collect();
        assert_eq!(names.len(), cs.rows());
        let uses = cs.rows_by_aux();
        for (aux, rows) in uses.iter().enumerate().skip(given) {
            for delta in [Fr::from(1), -Fr::from(0x1_0000_0001)] {
                let name = cs.aux_name(aux).to_owned();
                assert!(cs.broken_by(aux, delta, rows).is_some(), "{name} is not forced");
            }
        }
    }
}
