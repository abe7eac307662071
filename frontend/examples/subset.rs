//! Prints the subset, `docs/subset.md`.

fn main() {
    print!("{}", zvm_frontend::subset_markdown());
}
