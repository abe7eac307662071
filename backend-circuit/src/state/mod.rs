//! The state tree: where contracts' storage is, so that a proof needs none of it but what it touches.
//!
//! | part | module |
//! |---|---|
//! | the hash functions | [`poseidon`] |
//! | storage slots as places, their keys | [`place`] |
//! | keys as integers, and their order | [`order`] |
//! | the tree, its leaves and its root | [`tree`], over a [`store`] in memory or in a [`file`](mod@file) |
//! | reading and writing it in a proof | [`walk`](mod@walk) natively, [`circuit`] in constraints |
//! | showing one slot of it | [`proof`] |
//! | the storage of accounts in a file, over any of the fields | [`storage`] |
//!
//! Everything is generic over the field. This part knows nothing about programs, regions and steps.

pub mod circuit;
pub mod file;
pub mod order;
pub mod place;
pub mod poseidon;
pub mod proof;
pub mod storage;
pub mod store;
pub mod tree;
pub mod walk;
