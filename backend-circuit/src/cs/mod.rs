//! Constraint systems of our own: one that writes values down, one that checks and blames, two that count, one that is rows as
//! data.

mod assignment;
mod check;
mod count;
mod system;
mod tally;

pub use assignment::Assignment;
pub use check::{CheckCs, Names, Unsatisfied};
pub use count::CountCs;
pub use system::System;
pub use tally::TallyCs;
