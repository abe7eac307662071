//! Gadgets: the IR's pure instructions as rank-1 constraints, generic over the field.
//!
//! Every gadget takes and gives [`Word`]s whose ranges are constrained, is satisfiable for all operands in range (the
//! untaken branches of a region are synthesised too), and opens a namespace with its own name, so that an unsatisfied
//! row says which gadget it belongs to. Row counts are pinned in the snapshot `circuit_costs`.

pub mod arith;
pub mod columns;
pub mod compare;
mod lc;
mod limb;
pub mod select;
mod word;

pub use lc::{Lc, enforce, enforce_boolean, enforce_equal, existing_num};
pub use limb::{LIMB, Limb, NARROW, decompose, divide_pow2};
pub use select::Arms;
pub use word::{Word, limb_bits, limb_count, native_limbs};
