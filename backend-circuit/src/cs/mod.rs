//! Constraint systems of our own: one that checks and records, one that counts.

mod check;
mod count;

pub use check::{CheckCs, Names, Unsatisfied};
pub use count::CountCs;
