//! Every gadget against the reference semantics, and against a prover who lies about a hint.
//!
//! Operands come in three forms: *cold* limbs whose bits are unknown, words whose bits are known, and constants. The value
//! and each row are checked on corner and random words, over BN254's scalar field and over `blstrs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use ff::PrimeField;
use zvm_backend_circuit::cs::{CheckCs, CountCs, Names};
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::gadgets::{Word, lower_pure, native_limbs};
use zvm_backend_circuit::nova::Fr;
use zvm_ir::{Imm, Opcode, Type, Word as U256, eval};

mod operands;

use operands::{
    Bits, Cold, Constant, Operand, Words, kept_promise, lower, operand, operand_values, pure_with_operands,
    result_type, shapes,
};

/// Lowers with a witness and compares with the reference semantics.
fn check<F: PrimeField>(opcode: Opcode, operands: &[Operand], result: Type, values: &[U256]) {
    let context = || format!("{opcode} {operands:?} {values:x?}");
    let expected = eval(opcode, Imm::None, values, Some(result)).unwrap();
    let some: Vec<_> = values.iter().copied().map(Some).collect();
    let mut cs = CheckCs::<F>::checking(Names::Kept);
    let word = lower(&mut cs, opcode, operands, result, &some);
    cs.verdict().unwrap_or_else(|error| panic!("{}: {error}", context()));
    assert_eq!(word.value(), Some(expected), "{}", context());
    assert!(expected.bit_len() as u32 <= word.bound(), "{}: bound {}", context(), word.bound());
    let limbs = word.limbs(&mut cs).unwrap();
    let values: Vec<F> = limbs.iter().map(|limb| limb.value().unwrap()).collect();
    assert_eq!(values, native_limbs::<F>(word.width(), &expected), "{}", context());
    if word.missing_bits() == 0 {
        let bits = word.bits(&mut cs).unwrap();
        for (i, bit) in bits.iter().enumerate() {
            let bit = to_u256(&bit.value().unwrap());
            assert_eq!(bit, U256::from(u8::from(expected.bit(i))), "{}: bit {i}", context());
        }
    }
    cs.verdict().unwrap_or_else(|error| panic!("{}: {error}", context()));
}

fn agrees_with_eval<F: PrimeField>(rounds: usize, seed: u64) {
    let mut words = Words(seed);
    for opcode in pure_with_operands() {
        for operands in shapes(opcode) {
            let result = result_type(opcode, &operands);
            let mut done = 0;
            while done < rounds {
                let values = operand_values(opcode, &operands, &mut words);
                if kept_promise(opcode, &values) {
                    check::<F>(opcode, &operands, result, &values);
                    done += 1;
                }
            }
        }
    }
}

/// How many operand tuples per shape: few by default, more with `ZVM_GADGET_ROUNDS`.
fn rounds(default: usize) -> usize {
    std::env::var("ZVM_GADGET_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn gadgets_agree_with_eval_over_bn254() {
    agrees_with_eval::<Fr>(rounds(6), 1);
}

#[test]
fn gadgets_agree_with_eval_over_bls12_381() {
    agrees_with_eval::<blstrs::Scalar>(rounds(2), 2);
}

#[test]
fn width_changes_agree_with_eval() {
    let mut words = Words(3);
    for from in [256u16, 254, 252, 200, 129, 128, 127, 64, 8, 1] {
        for form in [Cold, Bits, Constant] {
            for to in [256u16, 255, 253, 252, 251, 200, 130, 129, 128, 127, 64, 7, 1] {
                let value = words.word(from);
                let result = Type::new(to).unwrap();
                if to >= from {
                    check::<Fr>(Opcode::Zext, &[(from, form)], result, &[value]);
                } else {
                    check::<Fr>(Opcode::Trunc, &[(from, form)], result, &[value]);
                    check::<Fr>(Opcode::Narrow, &[(from, form)], result, &[value & result.max_value()]);
                }
            }
        }
    }
}

#[test]
fn constants_fold() {
    let mut words = Words(7);
    for opcode in pure_with_operands() {
        for _ in 0..8 {
            let operands: Vec<Operand> = match opcode {
                Opcode::Select => vec![(1, Constant), (256, Constant), (256, Constant)],
                Opcode::Add | Opcode::Mul => vec![(128, Constant), (128, Constant)],
                _ => vec![(256, Constant); opcode.info().operands.len()],
            };
            let values = operand_values(opcode, &operands, &mut words);
            if !kept_promise(opcode, &values) {
                continue;
            }
            let result = result_type(opcode, &operands);
            let some: Vec<_> = values.iter().copied().map(Some).collect();
            let mut cs = CheckCs::<Fr>::checking(Names::Kept);
            let word = lower(&mut cs, opcode, &operands, result, &some);
            assert_eq!(word.as_constant(), eval(opcode, Imm::None, &values, Some(result)).ok(), "{opcode} {values:x?}");
            assert_eq!(cs.rows(), 0, "{opcode}");
        }
    }
}

/// The rows of a gadget without those that prepare its operands, counted without a witness.
fn rows(opcode: Opcode, operands: &[Operand]) -> usize {
    let result = result_type(opcode, operands);
    let mut cs = CountCs::<Fr>::default();
    let args: Vec<Word<Fr>> =
        operands.iter().enumerate().map(|(index, spec)| operand(&mut cs, index, *spec, None)).collect();
    let before = cs.rows();
    lower_pure(&mut cs, opcode, Imm::None, &args, result).unwrap();
    cs.rows() - before
}

/// Why a hint that no row pins down for some operands is free by design. Everything else must be forced.
fn free_by_design(name: &str) -> Option<&'static str> {
    match name.rsplit('/').next() {
        Some("inverse") => {
            Some("x · inverse = 1 − zero says nothing of the inverse where x = 0, and nothing else reads it")
        }
        _ => None,
    }
}

/// Changes every private variable by two deltas and expects a row of the gadget to break, or notes the hint as free.
fn every_hint_is_forced<F: PrimeField>(
    opcode: Opcode,
    operands: &[Operand],
    values: &[U256],
    free: &mut BTreeMap<&'static str, BTreeSet<String>>,
) {
    let result = result_type(opcode, operands);
    let some: Vec<_> = values.iter().copied().map(Some).collect();
    let mut cs = CheckCs::<F>::recording();
    // Operands are fixed by whoever made them: only what the gadget adds is perturbed.
    let args: Vec<Word<F>> = operands.iter().enumerate().map(|(i, spec)| operand(&mut cs, i, *spec, some[i])).collect();
    let given = cs.aux_count();
    lower_pure(&mut cs, opcode, Imm::None, &args, result).unwrap();
    cs.verdict().unwrap();
    let uses = cs.rows_by_aux();
    for (aux, rows) in uses.iter().enumerate().skip(given) {
        for delta in [F::ONE, -F::from(0x1_0000_0001)] {
            let broken = cs.broken_by(aux, delta, rows).map(str::to_owned);
            let name = cs.aux_name(aux);
            match (broken, free_by_design(name)) {
                (None, None) => panic!("{opcode} {operands:?} {values:x?}: {name} is not forced"),
                (None, Some(reason)) => {
                    let name = name.replace(|digit: char| digit.is_ascii_digit(), "#").replace("##", "#");
                    free.entry(reason).or_default().insert(name);
                }
                (Some(row), _) => {
                    assert!(row.starts_with(opcode.mnemonic()), "{opcode} {operands:?}: {name} broke {row}");
                }
            }
        }
    }
}

#[test]
fn every_hint_of_every_gadget_is_forced() {
    let mut words = Words(4);
    let mut free = BTreeMap::new();
    for opcode in pure_with_operands() {
        for operands in shapes(opcode) {
            let zeros = vec![U256::ZERO; operands.len()];
            every_hint_is_forced::<Fr>(opcode, &operands, &zeros, &mut free);
            let mut done = 0;
            while done < rounds(1) {
                let values = operand_values(opcode, &operands, &mut words);
                if kept_promise(opcode, &values) {
                    every_hint_is_forced::<Fr>(opcode, &operands, &values, &mut free);
                    every_hint_is_forced::<blstrs::Scalar>(opcode, &operands, &values, &mut free);
                    done += 1;
                }
            }
        }
    }
    if rounds(1) > 1 {
        // More operands find more of the same.
        return;
    }
    let mut listed = String::new();
    for (reason, names) in &free {
        let _ = writeln!(listed, "# {reason}");
        names.iter().for_each(|name| {
            let _ = writeln!(listed, "{name}");
        });
    }
    insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("circuit_free_hints", listed);
    });
}

#[test]
fn names_in_a_gadget_are_unique() {
    let mut words = Words(5);
    for opcode in pure_with_operands() {
        for operands in shapes(opcode) {
            let values = loop {
                let values = operand_values(opcode, &operands, &mut words);
                if kept_promise(opcode, &values) {
                    break values;
                }
            };
            let some: Vec<_> = values.iter().copied().map(Some).collect();
            let mut cs = CheckCs::<Fr>::recording();
            lower(&mut cs, opcode, &operands, result_type(opcode, &operands), &some);
            let names: BTreeSet<&str> = (0..cs.rows()).map(|row| cs.row_name(row)).collect();
            assert_eq!(names.len(), cs.rows(), "{opcode} {operands:?}: row names repeat");
        }
    }
}

#[test]
fn rows_do_not_depend_on_the_witness() {
    let mut words = Words(6);
    for opcode in pure_with_operands() {
        for operands in shapes(opcode) {
            if operands.iter().any(|(_, form)| *form == Constant) {
                continue;
            }
            let expected = rows(opcode, &operands);
            for _ in 0..2 {
                let values = operand_values(opcode, &operands, &mut words);
                let some: Vec<_> = values.iter().copied().map(Some).collect();
                let mut cs = CheckCs::<Fr>::checking(Names::Dropped);
                let args: Vec<Word<Fr>> =
                    operands.iter().enumerate().map(|(i, spec)| operand(&mut cs, i, *spec, some[i])).collect();
                let before = cs.rows();
                lower_pure(&mut cs, opcode, Imm::None, &args, result_type(opcode, &operands)).unwrap();
                assert_eq!(cs.rows() - before, expected, "{opcode} {operands:?}");
            }
        }
    }
}
