//! `docs/subset.md` is what the table of opcodes generates.

#[test]
fn the_page_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/subset.md");
    let page = std::fs::read_to_string(path).expect("docs/subset.md exists");
    assert!(
        page == zvm_frontend::subset_markdown(),
        "docs/subset.md is stale: run `cargo run -p zvm-frontend --example subset > docs/subset.md`"
    );
}
