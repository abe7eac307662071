//! `docs/ir.md` is what the instruction table generates.

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ir.md");
    let page = std::fs::read_to_string(path).expect("docs/ir.md exists");
    assert!(
        page == zvm_ir::reference::markdown(),
        "docs/ir.md is stale: run `cargo run -p zvm-ir --example ir > docs/ir.md`"
    );
}
