//! Gadgets accept what the reference semantics says, on many operands.
//!
//! The rows of a gadget are recorded once per shape of its operands and field; then each tuple of operands fills in a witness,
//! which is compared with `eval` and checked against the recorded rows, half of them over each field. By default a few hundred tuples per instruction; with
//! `ZVM_SLOW=1` 100,000 per instruction (10,000 for exponentiation, whose rows number in the thousands).

use bellpepper::util_cs::witness_cs::WitnessCS;
use bellpepper_core::ConstraintSystem;
use ff::PrimeField;
use zvm_backend_circuit::cs::System;
use zvm_backend_circuit::gadgets::native_limbs;
use zvm_backend_circuit::nova::Fr;
use zvm_ir::{Imm, Opcode, Word as U256, eval};

mod operands;

use operands::{
    Constant, Operand, Words, kept_promise, lower, operand_values, pure_with_operands, result_type, shapes,
};

fn tuples(opcode: Opcode) -> usize {
    match (std::env::var_os("ZVM_SLOW").is_some(), opcode) {
        (true, Opcode::Exp) => 10_000,
        (true, _) => 100_000,
        (false, Opcode::Exp) => 40,
        (false, _) => 400,
    }
}

fn accepts<F: PrimeField>(opcode: Opcode, operands: &[Operand], count: usize, words: &mut Words) {
    let result = result_type(opcode, operands);
    let mut system = System::<F>::default();
    lower(&mut system, opcode, operands, result, &vec![None; operands.len()]);
    let mut done = 0;
    while done < count {
        let values = operand_values(opcode, operands, words);
        if !kept_promise(opcode, &values) {
            continue;
        }
        done += 1;
        let context = || format!("{opcode} {operands:?} {values:x?}");
        let some: Vec<Option<U256>> = values.iter().copied().map(Some).collect();
        let mut witness = WitnessCS::<F>::new();
        let word = lower(&mut witness, opcode, operands, result, &some);
        let expected = eval(opcode, Imm::None, &values, Some(result)).unwrap();
        assert_eq!(word.value(), Some(expected), "{}", context());
        let (inputs, aux) = (witness.input_assignment(), witness.aux_assignment());
        assert_eq!(aux.len(), system.aux(), "{}", context());
        assert_eq!(system.first_broken(inputs, aux), None, "{}", context());
        // The limbs themselves, not the integer beside them. Splitting a limb for this may add variables.
        let limbs = word.limbs(&mut witness).unwrap();
        let limbs: Vec<F> = limbs.iter().map(|limb| limb.value().unwrap()).collect();
        assert_eq!(limbs, native_limbs::<F>(word.width(), &expected), "{}", context());
    }
}

#[test]
fn every_instruction_accepts_its_meaning() {
    std::thread::scope(|scope| {
        for (seed, opcode) in pure_with_operands().enumerate() {
            scope.spawn(move || {
                let mut words = Words(11 + seed as u64);
                let variable = |shape: &Vec<Operand>| shape.iter().all(|(_, form)| *form != Constant);
                let shapes: Vec<_> = shapes(opcode).into_iter().filter(variable).collect();
                let each = tuples(opcode).div_ceil(2 * shapes.len());
                for shape in &shapes {
                    accepts::<Fr>(opcode, shape, each, &mut words);
                    accepts::<blstrs::Scalar>(opcode, shape, each, &mut words);
                }
            });
        }
    });
}
