//! That rows admit one value, shown a second way: from exported rows alone, without a witness.
//!
//! The checker reads a gadget as a `.r1cs` file (with the parser of the `r1cs-file` crate) and knows nothing of gadgets. It
//! starts from the public inputs, each of a known number of bits, and the constant one, and derives that more wires have one value:
//!
//! - *defined*: a row with one wire left, in `C` alone, whose other wires have one value each;
//! - *zero test*: `x · i = 1 − z` and `x · z = 0` for an `x` that has one value give `z` one value;
//! - *table*: a row with one wire left, of degree one in it, whose other wires are booleans with one value: its solution is
//!   computed for all of their values;
//! - *digits*: a linear equation between booleans whose coefficients, as integers of least size, each exceed the sum of the
//!   smaller ones and together stay below the modulus, has one solution. Other wires are eliminated first;
//! - *quotient*: what a quotient times a divisor plus a remainder says of all three ([`quotients`]);
//! - *split*: what has one value for both values of a known boolean has one value.
//!
//! The rules are sound and not complete. The snapshot says for each gadget whether all its wires but free hints were shown to
//! have one value, or how many were not; those rest on perturbation, on the attacks, and on the argument beside the gadget.

mod checker;
mod integers;
mod quotients;

use std::fmt::Write;

use bellpepper_core::ConstraintSystem;
use ff::Field;
use zvm_backend_circuit::cs::System;
use zvm_backend_circuit::export::r1cs;
use zvm_backend_circuit::gadgets::keccak::keccak_f;
use zvm_backend_circuit::gadgets::{Lc, Word, enforce_boolean, limb_bits, limb_count, lower_pure};
use zvm_backend_circuit::nova::Fr;
use zvm_ir::{Imm, Opcode, Type};

use checker::Checker;

/// What the checker finds for a gadget whose operands are public inputs.
fn find(inputs: &[u32], build: impl FnOnce(&mut System<Fr>)) -> (usize, usize) {
    let mut system = System::<Fr>::default();
    build(&mut system);
    let mut checker = Checker::read(&r1cs(&system, 0), inputs);
    checker.run();
    let open = checker.open().len();
    (checker.wires - system.inputs(), open)
}

fn operand(system: &mut System<Fr>, width: u16) -> Word<Fr> {
    let width = u32::from(width);
    let limbs: Vec<Lc<Fr>> = (0..limb_count(width))
        .map(|i| Lc::variable(system.alloc_input(|| format!("limb {i}"), || Ok(Fr::ZERO)).unwrap(), None))
        .collect();
    Word::from_limbs(width, &limbs).unwrap()
}

/// The bits of the limbs of operands of these widths.
fn limbs(widths: &[u16]) -> Vec<u32> {
    let limbs = |width: u32| (0..limb_count(width)).map(move |index| limb_bits(width, index));
    widths.iter().flat_map(|&width| limbs(u32::from(width))).collect()
}

/// Why an instruction's gadget is beyond the rules, and what shows it instead.
fn beyond_the_rules(opcode: Opcode) -> Option<&'static str> {
    match opcode {
        Opcode::Slt => Some(
            "which of two hints is which of three arcs is open, and that all choices agree is an argument about order (see \
             `slt`); attacks.rs: a_signed_comparison_cannot_be_turned_by_choosing_other_arcs",
        ),
        _ => None,
    }
}

#[test]
fn exported_rows_admit_one_value() {
    let mut report = String::new();
    let pairs: &[&[u16]] = &[&[256, 256], &[256, 64], &[128, 128], &[64, 64]];
    for &opcode in Opcode::ALL.iter().filter(|opcode| opcode.is_pure()) {
        let shapes: &[&[u16]] = match opcode {
            Opcode::Iconst | Opcode::Zext | Opcode::Trunc | Opcode::Narrow => continue,
            // The permutation is looked at by itself.
            Opcode::KeccakWords | Opcode::KeccakF => continue,
            Opcode::Add => &[&[255, 255], &[252, 252]],
            Opcode::Mul => &[&[128, 128], &[192, 64], &[64, 64]],
            Opcode::Select => &[&[1, 256, 256]],
            Opcode::Exp => &[&[256, 2]],
            Opcode::Shl | Opcode::Shr | Opcode::Sar | Opcode::Byte | Opcode::Signextend => &[&[256, 256], &[8, 64]],
            Opcode::Addmod | Opcode::Mulmod => &[&[256, 256, 256], &[64, 64, 64]],
            _ if opcode.info().operands.len() == 1 => &[&[256], &[64]],
            _ => pairs,
        };
        for widths in shapes {
            let types: Vec<Type> = widths.iter().map(|&width| Type::new(width).unwrap()).collect();
            let result = opcode.result_type(&types).unwrap().unwrap();
            let (wires, open) = find(&limbs(widths), |system| {
                let args: Vec<Word<Fr>> = widths.iter().map(|&width| operand(system, width)).collect();
                lower_pure(system, opcode, Imm::None, &args, result).unwrap();
            });
            let widths: Vec<String> = widths.iter().map(|width| format!("u{width}")).collect();
            let found = match open {
                0 => "one value each".to_owned(),
                open => format!("{open} not shown: {}", beyond_the_rules(opcode).unwrap_or("")),
            };
            let _ = writeln!(report, "{} {}: {wires} wires, {found}", opcode.mnemonic(), widths.join(", "));
            assert!(open == 0 || beyond_the_rules(opcode).is_some(), "{report}");
        }
    }
    let (wires, open) = find(&[1; 1600], |system| {
        let state: Vec<Lc<Fr>> = (0..1600).map(|_| operand(system, 1).packed()).collect();
        state.iter().enumerate().for_each(|(i, bit)| enforce_boolean(system, || format!("bit {i}"), bit));
        keccak_f(system, &state).unwrap();
    });
    let found = if open == 0 { "one value each".to_owned() } else { format!("{open} not shown") };
    let _ = writeln!(report, "keccak-f[1600]: {wires} wires, {found}");
    assert_eq!(open, 0);
    insta::with_settings!({snapshot_path => "../../../snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("circuit_unique", report);
    });
}

/// The checker must be able to fail: rows that admit two values are not called unique.
#[test]
fn a_gadget_with_a_row_missing_is_not_unique() {
    for (opcode, widths, step) in [
        (Opcode::Wadd, [256, 256], 5),
        (Opcode::Mul, [128, 128], 37),
        (Opcode::Udiv, [64, 64], 5),
        (Opcode::Udiv, [256, 64], 23),
        (Opcode::Udiv, [128, 128], 19),
    ] {
        let types = widths.map(|width| Type::new(width).unwrap());
        let mut system = System::<Fr>::default();
        let args = widths.map(|width| operand(&mut system, width));
        lower_pure(&mut system, opcode, Imm::None, &args, opcode.result_type(&types).unwrap().unwrap()).unwrap();
        let whole = Checker::read(&r1cs(&system, 0), &limbs(&widths));
        // Every few rows, and the last ones: those that the others rest on.
        let last = system.rows() - 4..system.rows();
        for missing in (0..last.start).step_by(step).chain(last) {
            let mut checker = whole.without_row(missing);
            checker.run();
            assert!(!checker.open().is_empty(), "{opcode} {widths:?} without row {missing}");
        }
    }
}
