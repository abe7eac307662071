//! Prints the instruction reference, `docs/ir.md`.

fn main() {
    print!("{}", zvm_ir::reference::markdown());
}
