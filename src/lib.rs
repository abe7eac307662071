//! ZVM: EVM bytecode compiled to a typed SSA form that runs on the EVM and inside a proof.

pub mod evm;
pub mod state;
