//! Writes the rows of each instruction's gadget as a `.r1cs` file, for tools that check them: operands are public inputs, the
//! result's limbs public outputs.
//!
//! `cargo run -p zvm-backend-circuit --example gadgets DIR`

use std::error::Error;
use std::path::PathBuf;

use bellpepper_core::ConstraintSystem;
use ff::Field;
use zvm_backend_circuit::cs::System;
use zvm_backend_circuit::export::r1cs;
use zvm_backend_circuit::gadgets::{Lc, Word, enforce_equal, limb_count, lower_pure};
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::reference::by_width;
use zvm_ir::{Imm, Opcode, Type};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("which folder?")?);
    std::fs::create_dir_all(&folder)?;
    for cost in by_width()? {
        if cost.opcode == Opcode::KeccakWords {
            continue;
        }
        let mut system = System::<Fr>::default();
        let mut args = Vec::new();
        for &width in cost.widths {
            let mut limbs = Vec::new();
            for limb in 0..limb_count(u32::from(width)) {
                let variable = system.alloc_input(|| format!("limb {limb}"), || Ok(Fr::ZERO))?;
                limbs.push(Lc::variable(variable, None));
            }
            args.push(Word::from_limbs(u32::from(width), &limbs)?);
        }
        let types: Vec<Type> = cost.widths.iter().filter_map(|&width| Type::new(width)).collect();
        let result = cost.opcode.result_type(&types)?.ok_or("no result")?;
        let limbs = lower_pure(&mut system, cost.opcode, Imm::None, &args, result)?.limbs(&mut system)?;
        for (index, limb) in limbs.iter().enumerate() {
            let variable = system.alloc_input(|| format!("result {index}"), || Ok(Fr::ZERO))?;
            enforce_equal(&mut system, || format!("result {index}"), limb, &Lc::variable(variable, None));
        }
        let widths: Vec<String> = cost.widths.iter().map(|width| format!("u{width}")).collect();
        let name = format!("{}-{}.r1cs", cost.opcode.mnemonic(), widths.join("-"));
        std::fs::write(folder.join(name), r1cs(&system, limbs.len()))?;
    }
    Ok(())
}
