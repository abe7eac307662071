//! Every gadget against the reference semantics, and against a prover who lies about a hint.
//!
//! Operands come in three forms: *cold* limbs whose bits are unknown, words whose bits are known, and constants. The value
//! and each row are checked on corner and random words, over BN254's scalar field and over `blstrs`.

use std::collections::BTreeSet;

use bellpepper_core::ConstraintSystem;
use ff::PrimeField;
use zvm_backend_circuit::cs::{CheckCs, CountCs, Names};
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::gadgets::{Lc, Word, limb_count, lower_pure, native_limbs};
use zvm_backend_circuit::nova::Fr;
use zvm_ir::{Imm, Opcode, Type, Word as U256, eval};

/// How an operand reaches a gadget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Cold,
    Bits,
    Constant,
}

use Form::{Bits, Cold, Constant};

/// An operand: its type's width and its form.
type Operand = (u16, Form);

fn operand<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    index: usize,
    (width, form): Operand,
    value: Option<U256>,
) -> Word<F> {
    let width = u32::from(width);
    let mut cs = cs.namespace(|| format!("operand {index}"));
    match form {
        Bits => Word::alloc_checked(&mut cs, width, value).unwrap(),
        Constant => Word::constant(width, value.unwrap()),
        Cold => {
            let values = value.map(|value| native_limbs::<F>(width, &value));
            let limbs: Vec<Lc<F>> = (0..limb_count(width))
                .map(|i| Lc::alloc(&mut cs, || format!("limb {i}"), values.as_ref().map(|v| v[i])).unwrap())
                .collect();
            Word::from_limbs(width, &limbs).unwrap()
        }
    }
}

fn result_type(opcode: Opcode, operands: &[Operand]) -> Type {
    let types: Vec<Type> = operands.iter().map(|(width, _)| Type::new(*width).unwrap()).collect();
    opcode.result_type(&types).unwrap().unwrap()
}

fn lower<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    opcode: Opcode,
    operands: &[Operand],
    result: Type,
    values: &[Option<U256>],
) -> Word<F> {
    let args: Vec<Word<F>> = operands
        .iter()
        .zip(values)
        .enumerate()
        .map(|(index, (spec, value))| operand(cs, index, *spec, *value))
        .collect();
    lower_pure(cs, opcode, Imm::None, &args, result).unwrap()
}

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

/// A small generator of test words, deterministic per seed (SplitMix64).
struct Words(u64);

impl Words {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A corner as often as not; below `2^width`.
    fn word(&mut self, width: u16) -> U256 {
        let random = U256::from_limbs([self.next(), self.next(), self.next(), self.next()]);
        let width = usize::from(width);
        let max = U256::MAX >> (256 - width);
        let small = U256::from(self.next() % 300);
        let one = U256::from(1);
        let power = one << (self.next() as usize % width);
        (match self.next() % 12 {
            0 => U256::ZERO,
            1 => one,
            2 => max,
            3 => max - small.min(max),
            4 => small,
            5 => power,
            6 => power - one,
            7 => one << (width - 1),
            8 => low_limb_corner(random),
            9 => random >> (self.next() as usize % 256),
            _ => random,
        }) & max
    }
}

/// A word whose low limb is zero or full: where carries and borrows cross.
fn low_limb_corner(random: U256) -> U256 {
    let high = (random >> 128) << 128;
    if random.bit(0) { high } else { high | (U256::MAX >> 128) }
}

/// Operand lists worth testing for one instruction: the widths of interest in all forms.
fn shapes(opcode: Opcode) -> Vec<Vec<Operand>> {
    let unary: Vec<Vec<Operand>> =
        [256, 255, 252, 200, 128, 64, 8, 1].iter().flat_map(|&w| [vec![(w, Cold)], vec![(w, Bits)]]).collect();
    let binary: Vec<Vec<Operand>> = [
        [(256, Cold), (256, Cold)],
        [(256, Bits), (256, Bits)],
        [(256, Bits), (256, Constant)],
        [(256, Constant), (256, Cold)],
        [(256, Cold), (64, Cold)],
        [(64, Cold), (256, Cold)],
        [(256, Cold), (1, Cold)],
        [(255, Cold), (254, Bits)],
        [(252, Cold), (252, Cold)],
        [(200, Cold), (160, Bits)],
        [(160, Cold), (256, Bits)],
        [(128, Cold), (128, Cold)],
        [(128, Bits), (100, Constant)],
        [(64, Cold), (64, Cold)],
        [(64, Bits), (8, Constant)],
        [(8, Cold), (8, Cold)],
        [(1, Cold), (1, Cold)],
        [(1, Cold), (256, Bits)],
    ]
    .iter()
    .map(|pair| pair.to_vec())
    .collect();
    let exact_sum: Vec<Vec<Operand>> = [
        [(255, Cold), (255, Cold)],
        [(255, Cold), (1, Cold)],
        [(255, Cold), (64, Cold)],
        [(252, Cold), (252, Cold)],
        [(253, Cold), (130, Bits)],
        [(251, Cold), (128, Cold)],
        [(128, Cold), (128, Bits)],
        [(64, Cold), (1, Cold)],
        [(64, Constant), (64, Cold)],
    ]
    .iter()
    .map(|pair| pair.to_vec())
    .collect();
    let exact_product: Vec<Vec<Operand>> = [
        [(128, Cold), (128, Cold)],
        [(128, Bits), (128, Bits)],
        [(192, Cold), (64, Cold)],
        [(253, Cold), (3, Cold)],
        [(130, Cold), (126, Cold)],
        [(125, Bits), (131, Bits)],
        [(128, Cold), (124, Cold)],
        [(64, Cold), (64, Cold)],
        [(200, Cold), (56, Constant)],
        [(32, Constant), (220, Cold)],
    ]
    .iter()
    .map(|pair| pair.to_vec())
    .collect();
    let ternary: Vec<Vec<Operand>> = [
        [(256, Cold), (256, Cold), (256, Cold)],
        [(256, Bits), (256, Bits), (256, Bits)],
        [(256, Bits), (256, Cold), (256, Constant)],
        [(256, Cold), (256, Bits), (64, Cold)],
        [(128, Cold), (128, Cold), (256, Cold)],
        [(64, Cold), (64, Cold), (64, Cold)],
        [(255, Cold), (1, Cold), (130, Cold)],
    ]
    .iter()
    .map(|triple| triple.to_vec())
    .collect();
    let indexed: Vec<Vec<Operand>> = [
        [(256, Cold), (256, Cold)],
        [(8, Cold), (256, Cold)],
        [(8, Bits), (256, Bits)],
        [(5, Cold), (256, Bits)],
        [(9, Cold), (255, Cold)],
        [(64, Cold), (200, Cold)],
        [(8, Cold), (128, Bits)],
        [(8, Cold), (64, Cold)],
        [(256, Bits), (8, Cold)],
        [(8, Cold), (1, Constant)],
        [(8, Cold), (256, Constant)],
        [(9, Constant), (256, Cold)],
        [(8, Constant), (256, Bits)],
        [(8, Constant), (200, Cold)],
        [(8, Constant), (64, Bits)],
        [(5, Constant), (256, Cold)],
    ]
    .iter()
    .map(|pair| pair.to_vec())
    .collect();
    match opcode {
        Opcode::Add => exact_sum,
        Opcode::Mul => exact_product,
        Opcode::Exp => vec![
            vec![(256, Cold), (3, Cold)],
            vec![(64, Bits), (1, Cold)],
            vec![(256, Constant), (9, Cold)],
            vec![(8, Constant), (10, Cold)],
            vec![(2, Constant), (256, Cold)],
            vec![(128, Cold), (6, Constant)],
        ],
        Opcode::Select => binary.into_iter().map(|pair| [(1, Cold)].into_iter().chain(pair).collect()).collect(),
        Opcode::Shl | Opcode::Shr | Opcode::Sar | Opcode::Byte | Opcode::Signextend => indexed,
        Opcode::Addmod | Opcode::Mulmod => ternary,
        _ if opcode.info().operands.len() == 1 => unary,
        _ => binary,
    }
}

/// Whether the exact instruction's promise holds.
fn kept_promise(opcode: Opcode, values: &[U256]) -> bool {
    opcode != Opcode::Sub || values[0] >= values[1]
}

/// An index corner: shift amounts, byte positions and the like around their limits.
fn operand_values(opcode: Opcode, operands: &[Operand], words: &mut Words) -> Vec<U256> {
    let mut values: Vec<U256> = operands.iter().map(|(width, _)| words.word(*width)).collect();
    match opcode {
        Opcode::Shl | Opcode::Shr | Opcode::Sar | Opcode::Byte | Opcode::Signextend => {
            let limit = if matches!(opcode, Opcode::Byte | Opcode::Signextend) { 34 } else { 258 };
            if !words.next().is_multiple_of(4) {
                let max = U256::MAX >> (256 - usize::from(operands[0].0));
                values[0] = U256::from(words.next() % limit) & max;
            }
        }
        Opcode::Eq | Opcode::Ult | Opcode::Slt | Opcode::Sub if words.next().is_multiple_of(3) => {
            let max = U256::MAX >> (256 - usize::from(operands[1].0));
            values[1] = values[0] & max;
        }
        _ => {}
    }
    values
}

fn pure_with_operands() -> impl Iterator<Item = Opcode> {
    let done_elsewhere = [Opcode::Iconst, Opcode::Zext, Opcode::Trunc, Opcode::Narrow, Opcode::KeccakWords];
    Opcode::ALL.iter().copied().filter(move |opcode| opcode.is_pure() && !done_elsewhere.contains(opcode))
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
    for opcode in pure_with_operands().chain([Opcode::KeccakWords]) {
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

/// Hints that no row pins down for some operands, with the reason. Everything else must be forced.
fn free_by_design(name: &str) -> bool {
    // The inverse in a zero test is unconstrained when the tested value is zero; nothing else reads it.
    name.rsplit('/').next() == Some("inverse")
}

/// Changes every private variable by two deltas and expects a row to break.
fn every_hint_is_forced<F: PrimeField>(opcode: Opcode, operands: &[Operand], values: &[U256]) {
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
            match broken {
                None => assert!(free_by_design(name), "{opcode} {operands:?} {values:x?}: {name} is not forced"),
                Some(row) => assert!(row.starts_with(opcode.mnemonic()), "{opcode} {operands:?}: {name} broke {row}"),
            }
        }
    }
}

#[test]
fn every_hint_of_every_gadget_is_forced() {
    let mut words = Words(4);
    for opcode in pure_with_operands() {
        for operands in shapes(opcode) {
            let mut done = 0;
            while done < rounds(1) {
                let values = operand_values(opcode, &operands, &mut words);
                if kept_promise(opcode, &values) {
                    every_hint_is_forced::<Fr>(opcode, &operands, &values);
                    done += 1;
                }
            }
        }
    }
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
