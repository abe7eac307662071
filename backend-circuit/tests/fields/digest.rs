//! Digests: the circuit computes what the native functions do, and what a digest must bind it binds.

use bellpepper_core::ConstraintSystem;
use ff::PrimeField;
use zvm_backend_circuit::cs::CheckCs;
use zvm_backend_circuit::digest::{BLOCK_WORDS, CALL_BLOCKS, Hasher, inline_words, selector, words_of};
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::gadgets::{Lc, Word, enforce_equal};
use zvm_ir::{Env, Halt, Log, Opcode, Outcome, Word as U256};

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
    let [digest, _] = hasher.calldata_in_circuit(cs, &length, &tag, &read, Some(data)).unwrap();
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
        let [digest, _] = hasher.calldata_in_circuit(&mut cs, &length, &tag, &words, Some(short)).unwrap();
        digest.value().unwrap()
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

/// Hashes the words after the first `inline` in blocks of three, the last first.
fn noted<F: PrimeField>(cs: &mut CheckCs<F>, words: &[Word<F>]) -> Lc<F> {
    let hasher = Hasher::<F>::shared();
    words.chunks(BLOCK_WORDS).enumerate().rev().fold(Lc::zero(), |rest, (at, words)| {
        hasher.data_in_circuit(&mut cs.namespace(|| format!("block {at}")), words, &rest).unwrap()
    })
}

/// With room for `room` words of zeros past the end, in the first block.
fn outcome_circuit<F: PrimeField>(halt: u8, data: &[u8], room: usize, effects: F) -> CheckCs<F> {
    let hasher = Hasher::<F>::shared();
    let mut cs = CheckCs::<F>::recording();
    let mut values = words_of(data);
    values.resize(room.max(values.len()), U256::ZERO);
    let words: Vec<Word<F>> = values
        .iter()
        .enumerate()
        .map(|(i, &value)| Word::alloc_checked(&mut cs.namespace(|| format!("word {i}")), 256, Some(value)).unwrap())
        .collect();
    let code = Word::alloc_checked(&mut cs.namespace(|| "halt"), 2, Some(U256::from(halt))).unwrap();
    let length = Word::alloc_checked(&mut cs.namespace(|| "length"), 12, Some(U256::from(data.len()))).unwrap();
    let (first, further) = words.split_at(words.len().min(inline_words(0)));
    let rest = noted(&mut cs, further);
    let effects_lc = Lc::alloc(&mut cs, || "effects".into(), Some(effects)).unwrap();
    let digest = hasher.outcome_in_circuit(&mut cs, (&code, &length), first, &rest, &effects_lc).unwrap();
    enforce_equal(&mut cs, || "expected".into(), &digest, &Lc::constant(hasher.outcome(halt, data, effects)));
    cs
}

#[test]
fn an_outcome_digest_does_not_depend_on_the_room() {
    for len in [0, 1, 32, 33, 96, 97, 128, 192, 193, 230] {
        for room in 0..=inline_words(0) {
            for effects in [Fr::from(0), Fr::from(5)] {
                let cs = outcome_circuit(1, &bytes(len), room, effects);
                assert_eq!(cs.verdict(), Ok(()), "{len} bytes in {room} words");
            }
        }
    }
    assert_eq!(outcome_circuit(2, &bytes(200), 0, blstrs::Scalar::from(0)).verdict(), Ok(()));
    all_forced(outcome_circuit(2, &bytes(200), 0, Fr::from(0)));
    all_forced(outcome_circuit(2, &bytes(40), 4, Fr::from(0)));
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
    ];
    let (call, other) = (Call::default(), Call { calldata: vec![0], ..Call::default() });
    for calls in [
        &[][..],
        core::slice::from_ref(&call),
        core::slice::from_ref(&other),
        &[call.clone(), call.clone()],
        &[call.clone(), other.clone()],
        &[other.clone(), call.clone()],
        &[call.clone(), call.clone(), call.clone()],
    ] {
        digests.push(hasher.calls(calls));
    }
    for field in CALL_BLOCKS.concat() {
        digests.push(hasher.calls([&Call { env: with_field(field, 7), ..Call::default() }]));
    }
    let count = digests.len();
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), count);
}

/// Logs in their order, what each holds, and whether they are of this call or of the one before.
#[test]
fn digests_separate_logs() {
    let hasher = Hasher::<Fr>::shared();
    let log = |address: u8, topics: &[u64], data: &[u8]| Log {
        address: [address; 20],
        topics: topics.iter().map(|&topic| U256::from(topic)).collect(),
        data: data.to_vec(),
    };
    let logs = [
        log(1, &[], &[]),
        log(2, &[], &[]),
        log(1, &[0], &[]),
        log(1, &[7], &[]),
        log(1, &[], &[0; 32]),
        log(1, &[], &[0; 31]),
        log(1, &[1, 2], &[3; 64]),
        log(1, &[2, 1], &[3; 64]),
        log(1, &[1], &[3; 96]),
        log(1, &[1], &[3; 97]),
        log(1, &[1, 2, 3, 4], &[3; 200]),
        log(1, &[1, 2, 3, 4], &[3; 201]),
    ];
    let outcome = |halt: Halt, logs: &[Log]| Outcome { logs: logs.to_vec(), ..Outcome::halted(halt, vec![]) };
    let after = |before: Fr, outcome: &Outcome| hasher.outcome_after(before, outcome);
    let mut digests: Vec<Fr> =
        logs.iter().map(|log| after(Fr::from(0), &outcome(Halt::Return, core::slice::from_ref(log)))).collect();
    let none = outcome(Halt::Return, &[]);
    digests.push(after(Fr::from(0), &none));
    for (first, second) in [(&logs[..2], &logs[2..3]), (&logs[..1], &logs[1..3]), (&logs[..3], &[]), (&[], &logs[..3])]
    {
        let first = after(Fr::from(0), &outcome(Halt::Return, first));
        digests.push(after(first, &outcome(Halt::Return, second)));
    }
    digests.push(after(Fr::from(0), &outcome(Halt::Return, &[logs[1].clone(), logs[0].clone()])));
    digests.push(after(Fr::from(0), &outcome(Halt::Return, &[logs[0].clone(), logs[1].clone()])));
    digests.push(after(after(Fr::from(0), &none), &none));
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

fn call_circuit<F: PrimeField>(fields: &[Opcode], before: F, call: &Call) -> CheckCs<F> {
    let hasher = Hasher::<F>::shared();
    let mut cs = CheckCs::<F>::recording();
    let read: Vec<(Opcode, Word<F>)> = fields
        .iter()
        .map(|&field| {
            let width = u32::from(field.result_type(&[]).unwrap().unwrap().bits());
            let value = call.env.read(field);
            (field, Word::alloc_checked(&mut cs.namespace(|| format!("read {field}")), width, value).unwrap())
        })
        .collect();
    let calldata = Lc::alloc(&mut cs, || "calldata".into(), Some(hasher.calldata(&call.calldata))).unwrap();
    let earlier = Lc::alloc(&mut cs, || "before".into(), Some(before)).unwrap();
    let digest = hasher.call_in_circuit(&mut cs, &earlier, &calldata, &read, Some(&call.env)).unwrap();
    enforce_equal(&mut cs, || "expected".into(), &digest, &Lc::constant(hasher.call_after(before, call)));
    cs
}

#[test]
fn a_call_is_opened_as_far_as_it_is_read() {
    let env = Env { callvalue: U256::MAX, selfbalance: U256::from(9), ..Env::default() };
    let call = Call { calldata: bytes(70), env };
    let all: Vec<Opcode> = CALL_BLOCKS.concat();
    for fields in [&[][..], &[Opcode::Caller], &[Opcode::Callvalue, Opcode::Chainid], &[Opcode::Selfbalance], &all] {
        for before in [Fr::from(0), -Fr::from(3)] {
            let cs = call_circuit(fields, before, &call);
            assert_eq!(cs.verdict(), Ok(()), "{fields:?}");
            all_forced(cs);
        }
    }
    assert_eq!(call_circuit(&all, blstrs::Scalar::from(8), &call).verdict(), Ok(()));
    assert!(call_circuit::<Fr>(&[Opcode::Caller], Fr::from(0), &call).rows() < 600);
}

#[test]
fn every_environment_field_has_a_place() {
    let placed: Vec<Opcode> = CALL_BLOCKS.concat();
    for &opcode in Opcode::ALL {
        assert_eq!(placed.contains(&opcode), Env::default().read(opcode).is_some(), "{opcode}");
    }
}

fn log_circuit<F: PrimeField>(before: F, log: &Log) -> CheckCs<F> {
    let hasher = Hasher::<F>::shared();
    let mut cs = CheckCs::<F>::recording();
    let mut words = |name: &str, values: &[U256]| -> Vec<Word<F>> {
        let word = |(i, &value): (usize, &U256)| {
            Word::alloc_checked(&mut cs.namespace(|| format!("{name} {i}")), 256, Some(value)).unwrap()
        };
        values.iter().enumerate().map(word).collect()
    };
    let (topics, data) = (words("topic", &log.topics), words("data", &words_of(&log.data)));
    let (first, further) = data.split_at(data.len().min(inline_words(topics.len())));
    let rest = noted(&mut cs, further);
    let earlier = Lc::alloc(&mut cs, || "before".into(), Some(before)).unwrap();
    let account = field_of(&zvm_ir::env::address_word(&log.address));
    let account = Lc::alloc(&mut cs, || "account".into(), Some(account)).unwrap();
    let length = Lc::alloc(&mut cs, || "length".into(), Some(F::from(log.data.len() as u64))).unwrap();
    let digest = hasher.log_in_circuit(&mut cs, &earlier, &account, (&topics, &length), first, &rest).unwrap();
    enforce_equal(&mut cs, || "expected".into(), &digest, &Lc::constant(hasher.log(before, log)));
    cs
}

fn field_of<F: PrimeField>(word: &U256) -> F {
    zvm_backend_circuit::field::from_u256(word)
}

#[test]
fn a_log_in_the_circuit_is_a_log_natively() {
    for topics in 0..=4usize {
        for len in [0, 1, 32, 33, 32 * inline_words(topics), 32 * inline_words(topics) + 1, 300] {
            let topics = (1..=topics).map(|i| U256::MAX / U256::from(i)).collect();
            let log = Log { address: [0xab; 20], topics, data: bytes(len) };
            let cs = log_circuit::<Fr>(-Fr::from(5), &log);
            assert_eq!(cs.verdict(), Ok(()), "{len} bytes, {} topics", log.topics.len());
            if log.topics.len() == 2 {
                all_forced(cs);
            }
            assert_eq!(log_circuit(blstrs::Scalar::from(5), &log).verdict(), Ok(()));
        }
    }
}
