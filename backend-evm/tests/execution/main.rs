//! The edge `evm` of the square of tests: if `lower(m) = Ok(code)` then for every input `Outcome(m) = Outcome(code)`. The
//! interpreter is the oracle, `revm` runs the code, and the symbolic checker must accept it.

mod deep;
mod generated;
mod harness;
mod opcodes;
mod programs;
mod sharing;
mod tampering;
