//! Circuits and witnesses in the binary formats of iden3 (`.r1cs` version 1, `.wtns` version 2), which snarkjs and its tools
//! read.
//!
//! Wires are numbered as the formats ask: the constant one, public outputs, public inputs, private variables. A
//! [`System`] lists its public variables in the order of their allocation; the last of them are the outputs.

use std::sync::Arc;

use bellpepper::util_cs::witness_cs::WitnessCS;
use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use crate::check::run_slots;
use crate::cs::System;
use crate::error::CircuitError;
use crate::field::to_u256;
use crate::gadgets::{Lc, enforce_equal};
use crate::nova::{Fr, Step};
use crate::plan::Plan;
use crate::program::Program;
use crate::replay::Prepared;
use crate::step::StepCircuit;

/// The bytes of a field element in the formats.
const ELEMENT: u32 = 32;

/// A circuit and a witness that satisfies it, as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The contents of a `.r1cs` file.
    pub r1cs: Vec<u8>,
    /// The contents of a `.wtns` file.
    pub wtns: Vec<u8>,
    /// The number of constraints.
    pub rows: usize,
    /// The number of wires, the constant one included.
    pub wires: usize,
    /// The number of public outputs; there are as many public inputs.
    pub outputs: usize,
}

/// The circuit of one step of `plan` and the witness of step `step` (from 0) of an execution that was cut by it.
///
/// Public outputs are the state after the step, public inputs the state before it. The circuit is that which Nova folds,
/// without Nova's own part, over BN254's scalar field.
///
/// # Errors
/// As [`Program::check`] for the steps before; `Unsatisfied` with the first row that does not hold, which is a bug.
pub fn export_step(
    program: &Arc<Program>,
    plan: &Arc<Plan>,
    prepared: &Arc<Prepared<Fr>>,
    step: usize,
) -> Result<Exported, CircuitError> {
    let mut z = prepared.initial_state(program)?;
    for before in 0..step {
        z = run_slots(program, plan.iter(), &mut prepared.feed(before), &z)?.0;
    }
    let circuit = StepCircuit::shape(program, plan).with_input(prepared, step);
    let mut system = System::<Fr>::default();
    let outputs = allocate_step(&mut system, &circuit, &z)?;
    let mut witness = WitnessCS::<Fr>::new();
    allocate_step(&mut witness, &circuit, &z)?;
    let (public, private) = (witness.input_assignment(), witness.aux_assignment());
    if let Some(row) = system.first_broken(public, private) {
        let rows = system.rows();
        return Err(crate::cs::Unsatisfied { row, name: String::new(), count: 1, rows }.into());
    }
    Ok(Exported {
        r1cs: r1cs(&system, outputs),
        wtns: wtns(public, private, outputs),
        rows: system.rows(),
        wires: public.len() + private.len(),
        outputs,
    })
}

/// Synthesises a step between public states; the number of its outputs.
fn allocate_step<CS: ConstraintSystem<Fr>>(
    cs: &mut CS,
    circuit: &StepCircuit<Fr>,
    z: &[Fr],
) -> Result<usize, CircuitError> {
    let mut state = Vec::with_capacity(z.len());
    for (index, &value) in z.iter().enumerate() {
        let variable = cs.alloc_input(|| format!("z_in {index}"), || Ok(value))?;
        state.push(Lc::variable(variable, Some(value)));
    }
    let after = circuit.synthesize(&mut cs.namespace(|| "step"), &state)?;
    for (index, lc) in after.iter().enumerate() {
        let value = || lc.value().ok_or(SynthesisError::AssignmentMissing);
        let variable = cs.alloc_input(|| format!("z_out {index}"), value)?;
        enforce_equal(cs, || format!("z_out {index}"), lc, &Lc::variable(variable, lc.value()));
    }
    Ok(after.len())
}

/// The file `.r1cs` of a system whose last `outputs` public variables are outputs.
///
/// Sections: 1 the header, 2 the constraints, 3 the map from wires to labels, which is the identity.
pub fn r1cs<F: PrimeField>(system: &System<F>, outputs: usize) -> Vec<u8> {
    let wires = Wires::new(system.inputs(), system.aux(), outputs);
    let mut header = Vec::new();
    put_field::<F>(&mut header);
    put_u32(&mut header, wires.count());
    put_u32(&mut header, wires.outputs);
    put_u32(&mut header, wires.inputs - wires.outputs - 1);
    put_u32(&mut header, 0);
    header.extend_from_slice(&(wires.count() as u64).to_le_bytes());
    put_u32(&mut header, system.rows());

    let mut constraints = Vec::new();
    for row in 0..system.rows() {
        for side in 0..3 {
            let mut terms = Vec::new();
            system.for_each_term(row, side, |wire, coefficient| terms.push((wires.exported(wire), coefficient)));
            // The format asks for ascending wires.
            terms.sort_by_key(|(wire, _)| *wire);
            put_u32(&mut constraints, terms.len());
            for (wire, coefficient) in terms {
                put_u32(&mut constraints, wire);
                put_element(&mut constraints, &coefficient);
            }
        }
    }
    let labels: Vec<u8> = (0..wires.count() as u64).flat_map(u64::to_le_bytes).collect();
    file(*b"r1cs", 1, &[header, constraints, labels])
}

/// The file `.wtns` of an assignment, of public variables (the constant one first, then as in [`r1cs`]) and private ones.
///
/// Sections: 1 the header, 2 the values.
pub fn wtns<F: PrimeField>(public: &[F], private: &[F], outputs: usize) -> Vec<u8> {
    let wires = Wires::new(public.len(), private.len(), outputs);
    let mut header = Vec::new();
    put_field::<F>(&mut header);
    put_u32(&mut header, wires.count());
    let mut values = vec![F::ZERO; wires.count()];
    for (wire, value) in public.iter().chain(private).enumerate() {
        values[wires.exported(wire)] = *value;
    }
    let mut data = Vec::with_capacity(values.len() * ELEMENT as usize);
    values.iter().for_each(|value| put_element(&mut data, value));
    file(*b"wtns", 2, &[header, data])
}

/// From our numbers of wires to those of the formats.
struct Wires {
    inputs: usize,
    aux: usize,
    outputs: usize,
}

impl Wires {
    fn new(inputs: usize, aux: usize, outputs: usize) -> Self {
        Self { inputs, aux, outputs: outputs.min(inputs.saturating_sub(1)) }
    }

    fn count(&self) -> usize {
        self.inputs + self.aux
    }

    fn exported(&self, wire: usize) -> usize {
        let first_output = self.inputs - self.outputs;
        match wire {
            0 => 0,
            wire if wire < first_output => wire + self.outputs,
            wire if wire < self.inputs => wire - first_output + 1,
            wire => wire,
        }
    }
}

/// Magic, version, number of sections, and each section with its number and size.
fn file(magic: [u8; 4], version: u32, sections: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend_from_slice(&version.to_le_bytes());
    put_u32(&mut bytes, sections.len());
    for (index, section) in sections.iter().enumerate() {
        put_u32(&mut bytes, index + 1);
        bytes.extend_from_slice(&(section.len() as u64).to_le_bytes());
        bytes.extend_from_slice(section);
    }
    bytes
}

/// The size of an element and the modulus.
fn put_field<F: PrimeField>(bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&ELEMENT.to_le_bytes());
    let modulus = to_u256(&-F::ONE) + U256::from(1);
    bytes.extend_from_slice(&modulus.to_le_bytes::<{ ELEMENT as usize }>());
}

fn put_element<F: PrimeField>(bytes: &mut Vec<u8>, element: &F) {
    bytes.extend_from_slice(&to_u256(element).to_le_bytes::<{ ELEMENT as usize }>());
}

/// A count: no circuit that fits in memory has more than 2^32 wires or rows.
fn put_u32(bytes: &mut Vec<u8>, count: usize) {
    bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
}
