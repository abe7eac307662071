//! ZVM: EVM bytecode compiled to a typed SSA form that runs on the EVM and inside a proof.

pub mod call;
pub mod error;
pub mod evm;
pub mod input;
pub mod state;

pub use call::Call;
pub use error::{Error, Exit};
pub use input::{Contract, Input, Source};
pub use state::State;
