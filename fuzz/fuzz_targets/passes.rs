//! See `tests/fuzz/bodies/passes.rs`.
#![no_main]

#[allow(dead_code)]
#[path = "../../tests/fuzz/bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bodies::passes::passes(bytes));
