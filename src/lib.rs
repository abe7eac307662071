//! ZVM: EVM bytecode compiled to a typed SSA form that runs on the EVM and inside a proof.
//!
//! [`Input`] is what a user gives, [`Program`] its IR, [`Executors`] the four ways to run it. The backends are crates of
//! their own; this one is where they meet.

pub mod artifact;
pub mod call;
pub mod coverage;
pub mod creation;
pub mod disassembly;
pub mod error;
pub mod evm;
pub mod executors;
pub mod input;
pub mod l1;
pub mod names;
pub mod picture;
pub mod places;
pub mod profile;
pub mod program;
pub mod start;
pub mod state;
pub mod state_file;
pub mod storage_layout;

pub use call::Call;
pub use error::{Error, Exit, Place};
pub use executors::Executors;
pub use input::{Contract, Immutables, Input, Source};
pub use program::Program;
pub use start::Start;
pub use state::State;
