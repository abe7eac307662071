//! `docs/circuit-costs.md` is what the gadgets cost.

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/circuit-costs.md");
    let page = std::fs::read_to_string(path).expect("docs/circuit-costs.md exists");
    assert!(
        page == zvm_backend_circuit::reference::markdown().expect("every line is measured"),
        "docs/circuit-costs.md is stale: run `cargo run -p zvm-backend-circuit --example circuit_costs > docs/circuit-costs.md`"
    );
}

/// The optimiser weighs in rows what the gadgets cost.
#[test]
fn the_cost_model_of_the_optimiser_is_the_table() {
    use zvm_backend_circuit::costs::{self, Operand};
    use zvm_backend_circuit::reference::{Cost, by_width, with_constant};
    use zvm_ir::cost::rows::table::{ACCESS, BY_WIDTH, ByWidth, FIXED, HASH, Known, LOOKUP};

    let measured = by_width().expect("every line is measured");
    assert_eq!(measured.len(), BY_WIDTH.len());
    for (measured, &ByWidth { opcode, widths, cold, bits }) in measured.into_iter().zip(BY_WIDTH) {
        assert_eq!(measured, Cost { opcode, widths, cold, bits }, "ir/src/cost/rows/table.rs is stale");
    }
    let measured = with_constant().expect("every line is measured");
    assert_eq!(measured.len(), FIXED.len());
    for ((opcode, operands, rows), line) in measured.into_iter().zip(FIXED) {
        let known = |operand: &Operand| match *operand {
            Operand::Typed(bits) => Known::Typed(bits),
            Operand::Bits(bits) => Known::Bits(bits),
            Operand::Constant(_, word) => Known::Constant(word.to()),
        };
        let operands: Vec<Known> = operands.iter().map(known).collect();
        assert_eq!(
            (opcode, &*operands, rows),
            (line.opcode, line.operands, line.rows),
            "ir/src/cost/rows/table.rs is stale"
        );
    }
    assert_eq!([ACCESS, LOOKUP, HASH], [costs::ACCESS_ROWS, costs::LOOKUP_ROWS, costs::HASH_ROWS]);
    assert!(FIXED.iter().all(|line| line.operands.iter().any(|known| matches!(known, Known::Constant(_)))));
}
