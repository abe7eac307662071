//! What a fuzz target does with its input, in ordinary functions: `fuzz/` feeds them from libFuzzer, the tests beside this
//! file from fixed seeds. Each panics on what must not be.

pub(crate) mod generator;
pub(crate) mod parsers;
pub(crate) mod passes;
pub(crate) mod programs;
