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
