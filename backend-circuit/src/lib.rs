//! The circuit backend: from a module of the IR to a step circuit, and from executions to proofs.
//!
//! | stage | module |
//! |---|---|
//! | one function, with unprovable exits | [`legalize`] |
//! | its control flow in regions, values between them in registers | [`region`], [`registers`] |
//! | a region's constraints | [`lower`] over [`gadgets`], [`input`], [`digest`] |
//! | memory of the state, and what closes it | [`trace`], [`place`], [`system`] |
//! | slots in a step, steps in a proof, and which to choose | [`plan`], [`step`], [`schedule`], [`planner`] |
//! | what instructions cost, and where an execution's rows go | [`costs`], [`mod@reference`], [`profile`] |
//! | executing and checking without a proof | [`execute`], [`replay`], [`check`] |
//! | circuits and witnesses for other tools | [`export`] |
//! | a step's witness, made and checked | [`witness`] over [`cs`] |
//! | what a proof says, and its file | [`statement`], [`artifact`] |
//! | proving and verifying | [`prover`] over [`nova`], [`checkpoint`] |
//! | the same in one short proof, for contracts | [`short`], [`keys`], [`whole`], [`public_input`] over [`mod@groth16`] |
//!
//! This crate knows nothing about bytecode and stacks, and only [`nova`] knows nova-snark, only
//! [`mod@groth16`] bellperson.

pub mod artifact;
pub mod check;
pub mod checkpoint;
pub mod costs;
pub mod cs;
pub mod digest;
pub mod error;
pub mod execute;
pub mod export;
pub mod field;
pub mod gadgets;
pub mod groth16;
pub mod hash;
pub mod input;
pub mod keys;
pub mod legalize;
pub mod lower;
pub mod nova;
pub mod place;
pub mod plan;
pub mod planner;
pub mod profile;
pub mod program;
pub mod prover;
pub mod public_input;
pub mod reference;
pub mod region;
pub mod registers;
pub mod replay;
pub mod schedule;
pub mod short;
pub mod state;
pub mod statement;
pub mod step;
pub mod system;
pub mod table;
pub mod trace;
pub mod usage;
pub mod whole;
pub mod witness;
