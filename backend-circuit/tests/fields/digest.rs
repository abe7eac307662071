//! Digests: the circuit computes what the native functions do, and what a digest must bind it binds.

use bellpepper_core::ConstraintSystem;
use ff::PrimeField;
use zvm_backend_circuit::cs::CheckCs;
use zvm_backend_circuit::digest::{ENV_BLOCKS, Hasher, selector, words_of};
use zvm_backend_circuit::gadgets::{Lc, Word, enforce_equal};
use zvm_ir::{Env, Opcode, Word as U256};

use super::Fr;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 37 + 11) as u8).collect()
}

/// Reads the first `words` words of calldata in the circuit and expects the native digest.
fn calldata_circuit<F: PrimeField>(data: &[u8], words: usize, cs: &mut CheckCs<F>) {
    let hasher = Hasher::<F>::shared();
    let mut values = words_of(data.get(4..).unwrap_or_default());
    values.resize(words.max(values.len()), U256::ZERO);
    let read: Vec<Word<F>> = (0..words)
        .map(|i| Word::alloc_checked(&mut cs.namespace(|| format!("word {i}")), 256, Some(values[i])).unwrap())
        .collect();
    let length = Word::alloc_checked(&mut cs.namespace(|| "length"), 64, Some(U256::from(data.len()))).unwrap();
    let tag = Word::alloc_checked(&mut cs.namespace(|| "selector"), 32, Some(U256::from(selector(data)))).unwrap();
    let digest = hasher.calldata_in_circuit(cs, &length, &tag, &read, Some(data)).unwrap();
    let expected = Lc::constant(hasher.calldata(data));
    enforce_equal(cs, || "expected".into(), &digest, &expected);
}

fn calldata_agrees<F: PrimeField>() {
    for len in [0, 1, 4, 5, 36, 68, 100, 101, 132, 196, 197, 300, 420] {
        for words in [0, 1, 2, 3, 4, 6, 7, 10] {
            let mut cs = CheckCs::<F>::recording();
            calldata_circuit(&bytes(len), words, &mut cs);
            assert_eq!(cs.verdict(), Ok(()), "{len} bytes, {words} words");
        }
    }
}

#[test]
fn calldata_in_the_circuit_is_calldata_natively() {
    calldata_agrees::<Fr>();
}

#[test]
fn calldata_over_the_other_field() {
    let mut cs = CheckCs::<blstrs::Scalar>::recording();
    calldata_circuit(&bytes(100), 4, &mut cs);
    assert_eq!(cs.verdict(), Ok(()));
}

/// Every private variable changed, with the digest fixed: nothing is free.
fn all_forced<F: PrimeField>(mut cs: CheckCs<F>) {
    cs.verdict().unwrap();
    for (aux, rows) in cs.rows_by_aux().iter().enumerate() {
        for delta in [F::ONE, -F::from(77)] {
            let broken = cs.broken_by(aux, delta, rows).is_some();
            // The inverse in a zero test is free when the tested value is zero.
            assert!(broken || cs.aux_name(aux).ends_with("inverse"), "{} is not forced", cs.aux_name(aux));
        }
    }
}

#[test]
fn a_calldata_digest_binds_what_is_read_and_what_is_not() {
    for (len, words) in [(36, 1), (68, 4), (196, 4), (300, 7), (4, 7)] {
        let mut cs = CheckCs::<Fr>::recording();
        calldata_circuit(&bytes(len), words, &mut cs);
        all_forced(cs);
    }
}

/// A prover who says that a block exists which does not, or the reverse, and recomputes all that follows from it.
#[test]
fn blocks_cannot_be_hidden_or_invented() {
    let hasher = Hasher::<Fr>::shared();
    let long = bytes(4 + 32 * 5);
    let truncated = {
        // As long as the original, but with the second block claimed absent: length and first words are equal.
        let mut cs = CheckCs::<Fr>::recording();
        let words: Vec<Word<Fr>> = words_of(&long[4..])[..3].iter().map(|&word| Word::constant(256, word)).collect();
        let length = Word::constant(64, U256::from(long.len()));
        let tag = Word::constant(32, U256::from(selector(&long)));
        let short = &long[..4 + 96];
        hasher.calldata_in_circuit(&mut cs, &length, &tag, &words, Some(short)).unwrap().value().unwrap()
    };
    assert_ne!(truncated, hasher.calldata(&long));
    // With the flag down, words of that block other than zero break a row by name.
    let mut cs = CheckCs::<Fr>::recording();
    calldata_circuit(&long, 5, &mut cs);
    let flag = (0..cs.aux_count()).find(|&aux| cs.aux_name(aux).ends_with("present 1")).unwrap();
    cs.assign(flag, Fr::from(0));
    assert_eq!(cs.first_broken(), Some("calldata digest/block 1/absent 0"));
}

/// Words whose ranges nobody checked: in a block claimed absent, limbs that cancel each other are refused as well.
#[test]
fn words_of_an_absent_block_are_zero_and_not_merely_their_sum() {
    let hasher = Hasher::<Fr>::shared();
    let data = bytes(4 + 96);
    let mut cs = CheckCs::<Fr>::recording();
    let mut limbs = Vec::new();
    for index in 0..8 {
        limbs.push(Lc::alloc(&mut cs, || format!("limb {index}"), Some(Fr::from(0))).unwrap());
    }
    let words: Vec<Word<Fr>> = limbs.chunks(2).map(|pair| Word::from_limbs(256, pair).unwrap()).collect();
    let length = Word::constant(64, U256::from(data.len()));
    let tag = Word::constant(32, U256::from(selector(&data)));
    hasher.calldata_in_circuit(&mut cs, &length, &tag, &words, Some(&data)).unwrap();
    assert_eq!(cs.verdict(), Ok(()));
    // The fourth word is in the second block, which does not exist.
    cs.assign(6, Fr::from(5));
    cs.assign(7, -Fr::from(5));
    let broken: Vec<&str> = (0..cs.rows())
        .filter(|&row| !cs.row_holds(row))
        .map(|row| cs.row_name(row))
        .filter(|name| name.contains("absent"))
        .collect();
    assert_eq!(broken, ["calldata digest/block 1/absent 0", "calldata digest/block 1/absent 1"]);
}

fn outcome_circuit<F: PrimeField>(halt: u8, data: &[u8], room: usize, effects: F) -> CheckCs<F> {
    let hasher = Hasher::<F>::shared();
    let mut cs = CheckCs::<F>::recording();
    let mut values = words_of(data);
    values.resize(room, U256::ZERO);
    let words: Vec<Word<F>> = values
        .iter()
        .enumerate()
        .map(|(i, &value)| Word::alloc_checked(&mut cs.namespace(|| format!("word {i}")), 256, Some(value)).unwrap())
        .collect();
    let code = Word::alloc_checked(&mut cs.namespace(|| "halt"), 2, Some(U256::from(halt))).unwrap();
    let length = Word::alloc_checked(&mut cs.namespace(|| "length"), 12, Some(U256::from(data.len()))).unwrap();
    let digest = hasher.outcome_in_circuit(&mut cs, &code, &length, &words, &Lc::constant(effects)).unwrap();
    enforce_equal(&mut cs, || "expected".into(), &digest, &Lc::constant(hasher.outcome(halt, data, effects)));
    cs
}

#[test]
fn an_outcome_digest_does_not_depend_on_the_room() {
    for len in [0, 1, 32, 33, 96, 97, 128, 192, 193, 230] {
        let needed = usize::div_ceil(len, 32);
        for room in needed..needed + 5 {
            for effects in [Fr::from(0), Fr::from(5)] {
                let cs = outcome_circuit(1, &bytes(len), room, effects);
                assert_eq!(cs.verdict(), Ok(()), "{len} bytes in {room} words");
            }
        }
    }
    assert_eq!(outcome_circuit(2, &bytes(100), 5, blstrs::Scalar::from(0)).verdict(), Ok(()));
    all_forced(outcome_circuit(2, &bytes(100), 5, Fr::from(0)));
}

#[test]
fn digests_separate_what_differs() {
    let hasher = Hasher::<Fr>::shared();
    let mut digests = vec![
        hasher.calldata(&[]),
        hasher.calldata(&[0]),
        hasher.calldata(&[0; 4]),
        hasher.calldata(&[0; 5]),
        hasher.calldata(&[0; 36]),
        hasher.calldata(&[0; 132]),
        hasher.outcome(1, &[], Fr::from(0)),
        hasher.outcome(2, &[], Fr::from(0)),
        hasher.outcome(1, &[0], Fr::from(0)),
        hasher.outcome(1, &[0; 32], Fr::from(0)),
        hasher.outcome(1, &[0; 32], Fr::from(1)),
        hasher.outcome(1, &[0; 128], Fr::from(0)),
        hasher.env(&Env::default()),
    ];
    for block in ENV_BLOCKS {
        for &field in block {
            digests.push(hasher.env(&with_field(field, 7)));
        }
    }
    let count = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

fn with_field(field: Opcode, value: u64) -> Env {
    let mut env = Env::default();
    let word = U256::from(value);
    match field {
        Opcode::Caller => env.caller[19] = 7,
        Opcode::Address => env.address[19] = 7,
        Opcode::Origin => env.origin[19] = 7,
        Opcode::Coinbase => env.coinbase[19] = 7,
        Opcode::Callvalue => env.callvalue = word,
        Opcode::Gasprice => env.gasprice = word,
        Opcode::Timestamp => env.timestamp = word,
        Opcode::Number => env.number = word,
        Opcode::Prevrandao => env.prevrandao = word,
        Opcode::Gaslimit => env.gaslimit = word,
        Opcode::Chainid => env.chainid = word,
        Opcode::Basefee => env.basefee = word,
        Opcode::Blobbasefee => env.blobbasefee = word,
        Opcode::Selfbalance => env.selfbalance = word,
        other => panic!("{other} is no environment field"),
    }
    env
}

fn env_circuit<F: PrimeField>(fields: &[Opcode], env: &Env) -> CheckCs<F> {
    let hasher = Hasher::<F>::shared();
    let mut cs = CheckCs::<F>::recording();
    let read: Vec<(Opcode, Word<F>)> = fields
        .iter()
        .map(|&field| {
            let width = u32::from(field.result_type(&[]).unwrap().unwrap().bits());
            let value = env.read(field);
            (field, Word::alloc_checked(&mut cs.namespace(|| format!("read {field}")), width, value).unwrap())
        })
        .collect();
    let digest = hasher.env_in_circuit(&mut cs, &read, Some(env)).unwrap();
    enforce_equal(&mut cs, || "expected".into(), &digest, &Lc::constant(hasher.env(env)));
    cs
}

#[test]
fn the_environment_is_opened_as_far_as_it_is_read() {
    let env = Env { callvalue: U256::MAX, selfbalance: U256::from(9), ..Env::default() };
    let all: Vec<Opcode> = ENV_BLOCKS.concat();
    for fields in [&[][..], &[Opcode::Caller], &[Opcode::Callvalue, Opcode::Chainid], &[Opcode::Selfbalance], &all] {
        let cs = env_circuit::<Fr>(fields, &env);
        assert_eq!(cs.verdict(), Ok(()), "{fields:?}");
        all_forced(cs);
    }
    assert_eq!(env_circuit::<blstrs::Scalar>(&all, &env).verdict(), Ok(()));
    assert!(env_circuit::<Fr>(&[Opcode::Caller], &env).rows() < 600);
}

#[test]
fn every_environment_field_has_a_place() {
    let placed: Vec<Opcode> = ENV_BLOCKS.concat();
    for &opcode in Opcode::ALL {
        assert_eq!(placed.contains(&opcode), Env::default().read(opcode).is_some(), "{opcode}");
    }
}
