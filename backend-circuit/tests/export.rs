//! Exported files are read by independent parsers, and say what the circuit says.

use std::sync::Arc;

use ff::Field;
use r1cs_file::R1csFile;
use wtns_file::WtnsFile;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::export::export_step;
use zvm_backend_circuit::field::{from_u256, to_u256};
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::region::Region;
use zvm_backend_circuit::replay::{Cut, Prepared};
use zvm_ir::{EmptyState, Word as U256};

/// Divides the word by the one after it, where that is not zero.
const PROGRAM: &str = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u6 = \
     iconst 32\n v3: u256 = calldataload v2\n v4: u1 = iszero v3\n brif v4, block1, block2\nblock1:\n return_words 32, v1\nblock2:\n \
     v5: u256 = udiv v1, v3\n return_words 32, v5\n}\n";

fn prepared(program: &Program, plan: &Plan, calldata: Vec<u8>) -> Arc<Prepared<Fr>> {
    let prepared = program.prepare(&[Call { calldata, ..Call::default() }], &EmptyState).unwrap();
    Arc::new(prepared.cut(program, Cut::Plan(plan), &program.circuit_digest(plan), 10).unwrap())
}

fn element(bytes: &[u8]) -> Fr {
    from_u256(&U256::try_from_le_slice(bytes).unwrap())
}

/// The rows that do not hold, by the parsers' reading of both files.
fn broken(r1cs: &R1csFile<32>, witness: &[Fr]) -> usize {
    let value = |terms: &[(r1cs_file::FieldElement<32>, u32)]| {
        terms.iter().map(|(coefficient, wire)| element(coefficient.as_bytes()) * witness[*wire as usize]).sum::<Fr>()
    };
    r1cs.constraints.0.iter().filter(|row| value(&row.0) * value(&row.1) != value(&row.2)).count()
}

#[test]
fn a_step_is_read_back_and_holds() {
    let program = Arc::new(Program::compile(&zvm_ir::parse(PROGRAM).unwrap()).unwrap());
    let mut calldata = U256::from(1_000_003).to_be_bytes::<32>().to_vec();
    calldata.extend(U256::from(17).to_be_bytes::<32>());
    let plan = Arc::new(Plan::new(program.regions().regions.keys().collect::<Vec<Region>>()));
    let prepared = prepared(&program, &plan, calldata);
    let exported = export_step(&program, &plan, &prepared, 0).unwrap();

    let r1cs = R1csFile::<32>::read(exported.r1cs.as_slice()).unwrap();
    let wtns = WtnsFile::<32>::read(exported.wtns.as_slice()).unwrap();
    assert_eq!(element(r1cs.header.prime.as_bytes()), Fr::ZERO);
    assert_eq!(r1cs.header.prime.as_bytes(), wtns.header.prime.as_bytes());
    assert_eq!(r1cs.header.n_pub_out as usize, program.arity());
    assert_eq!(r1cs.header.n_pub_in as usize, program.arity());
    assert_eq!(u64::from(r1cs.header.n_constraints), plan.rows(program.rows()) + program.arity() as u64);
    assert_eq!(r1cs.constraints.0.len(), r1cs.header.n_constraints as usize);
    assert_eq!(r1cs.map.0.len(), r1cs.header.n_wires as usize);
    assert_eq!(wtns.header.witness_len, r1cs.header.n_wires);
    let mut witness: Vec<Fr> = wtns.witness.0.iter().map(|value| element(value.as_bytes())).collect();
    assert_eq!(witness[0], Fr::ONE);
    assert_eq!(broken(&r1cs, &witness), 0);

    // Public wires are the states: outputs first, then inputs.
    let start = prepared.initial_state(&program).unwrap();
    let arity = program.arity();
    assert_eq!(witness[1 + arity..1 + 2 * arity], start);
    let end = zvm_backend_circuit::check::run_steps(&program, &plan, &prepared, start, 10).unwrap();
    assert_eq!(witness[1..1 + arity], end[0]);

    // An input register that the step does not read may be anything.
    for wire in [1, arity, arity + 1, witness.len() - 1] {
        witness[wire] += Fr::ONE;
        assert_ne!(broken(&r1cs, &witness), 0, "wire {wire}");
        witness[wire] -= Fr::ONE;
    }
    assert!(witness.iter().all(|value| to_u256(value) < to_u256(&-Fr::ONE) + U256::from(1)));

    // Written back by the parsers, the files are the same.
    let mut again = Vec::new();
    r1cs.write(&mut again).unwrap();
    let read_again = R1csFile::<32>::read(again.as_slice()).unwrap();
    assert_eq!(read_again.constraints.0.len(), r1cs.constraints.0.len());
}

#[test]
fn later_steps_start_where_earlier_ones_end() {
    let program = Arc::new(Program::compile(&zvm_ir::parse(PROGRAM).unwrap()).unwrap());
    // Backwards, so that a step does little.
    let regions: Vec<Region> = program.regions().regions.keys().collect();
    let plan = Arc::new(Plan::new(regions.into_iter().rev()));
    let prepared = prepared(&program, &plan, vec![9; 64]);
    let arity = program.arity();
    let public = |step: usize| {
        let exported = export_step(&program, &plan, &prepared, step).unwrap();
        let wtns = WtnsFile::<32>::read(exported.wtns.as_slice()).unwrap();
        let values: Vec<Fr> = wtns.witness.0[1..1 + 2 * arity].iter().map(|value| element(value.as_bytes())).collect();
        (values[..arity].to_vec(), values[arity..].to_vec(), exported.r1cs)
    };
    let (first, second) = (public(0), public(1));
    assert_eq!(first.0, second.1);
    assert_eq!(first.2, second.2, "one circuit for all steps");
}
