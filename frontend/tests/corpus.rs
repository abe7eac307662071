//! Every contract of the corpus: lifted or refused, as a snapshot; the module verifies; its size is bounded.

mod oracle;

use std::fmt::Write as _;

use oracle::{contracts, with_corpus};
use zvm_frontend::{LiftError, LiftOptions, lift};

fn main() {
    with_corpus(&[
        ("every_contract_is_lifted_or_refused_for_a_reason", every_contract_is_lifted_or_refused_for_a_reason),
        ("lifting_is_deterministic", lifting_is_deterministic),
    ]);
}

fn every_contract_is_lifted_or_refused_for_a_reason() {
    let contracts = contracts();
    let mut table = String::from("contract: blocks of bytecode, blocks of IR, functions, jumps\n");
    let (mut blocks, mut ir_blocks, mut trailers) = (0, 0, 0);
    for contract in &contracts {
        let text = match lift(&contract.runtime, &LiftOptions::default()) {
            Ok(lifted) => {
                let errors = zvm_ir::verify(&lifted.module).err().unwrap_or_default();
                assert!(errors.is_empty(), "{}: {}", contract.name, errors[0]);
                let report = &lifted.report;
                assert!(report.l1_ring && report.unresolved == 0);
                blocks += report.blocks;
                ir_blocks += report.ir_blocks;
                trailers += usize::from(lifted.metadata.is_some());
                format!("{} {} {} {}", report.blocks, report.ir_blocks, report.functions, report.jumps)
            }
            Err(error) => {
                // What a compiler writes is refused for one reason only: its outcome depends on gas.
                let gas = matches!(&error, LiftError::Subset { problems } if problems.iter().all(|p| p.reason.contains("remaining gas")));
                assert!(gas, "{}: {error}", contract.name);
                format!("{} {error}", error.code())
            }
        };
        writeln!(table, "{}: {text}", contract.name).expect("a string");
    }
    println!("{ir_blocks} blocks of IR for {blocks} of bytecode, {trailers} metadata trailers");
    assert!(2 * ir_blocks <= 3 * blocks, "{ir_blocks} blocks of IR for {blocks} of bytecode");
    insta::with_settings!({
        snapshot_path => "../../snapshots", prepend_module_to_snapshot => false, omit_expression => true
    }, {
        insta::assert_snapshot!("lift_corpus", table);
    });
}

fn lifting_is_deterministic() {
    for contract in contracts().iter().step_by(25) {
        let text = || lift(&contract.runtime, &LiftOptions::default()).map(|lifted| lifted.module.to_string());
        assert_eq!(text(), text(), "{}", contract.name);
    }
}
