//! Gadgets: the IR's pure instructions as rank-1 constraints, generic over the field.
//!
//! Every gadget takes and gives [`Word`]s whose ranges are constrained, is satisfiable for all operands in range (the
//! untaken branches of a region are synthesised too), and opens a namespace with its own name, so that an unsatisfied
//! row says which gadget it belongs to. Row counts are pinned by `docs/circuit-costs.md`.

pub mod arith;
pub mod bitwise;
pub mod bytes;
mod columns;
pub mod compare;
mod dispatch;
pub mod div;
pub mod exp;
pub mod forms;
pub mod index;
pub mod keccak;
mod lc;
mod limb;
pub mod select;
pub mod sha256;
pub mod shift;
mod word;

use zvm_ir::{Imm, Opcode, Type, Word as U256, eval};

pub use dispatch::lower_pure;
pub use lc::{Lc, enforce, enforce_boolean, enforce_equal, existing_num};
pub use limb::{LIMB, Limb, NARROW, decompose, divide_pow2};
pub use select::Arms;
pub use word::{Word, limb_bits, limb_count, native_limbs};

/// The value of an instruction for a witness: the reference semantics, where all operands are known.
fn meaning<const N: usize>(opcode: Opcode, operands: [Option<U256>; N]) -> Option<U256> {
    let operands: Option<Vec<U256>> = operands.into_iter().collect();
    eval(opcode, Imm::None, &operands?, Some(Type::WORD)).ok()
}
