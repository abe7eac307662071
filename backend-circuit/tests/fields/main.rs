//! What is about circuits and not about a proof system, over both fields that circuits are proved over: gadgets attacked by provers who lie
//! consistently, slots with each value perturbed, plans, digests.

// Once for each field.
#![allow(clippy::duplicate_mod)]

#[path = "../batches/mod.rs"]
mod batches;
#[path = "../random/mod.rs"]
mod random;

/// BN254, which Nova folds over.
#[path = "."]
mod bn254 {
    type Fr = zvm_backend_circuit::nova::Fr;

    #[path = "attacks.rs"]
    mod attacks;
    #[path = "digest.rs"]
    mod digest;
    #[path = "plans.rs"]
    mod plans;
    #[path = "tamper.rs"]
    mod tamper;
    #[path = "trace.rs"]
    mod trace;
    #[path = "wraps.rs"]
    mod wraps;
}

/// BLS12-381, for Groth16.
#[path = "."]
mod bls12_381 {
    type Fr = zvm_backend_circuit::groth16::Scalar;

    #[path = "attacks.rs"]
    mod attacks;
    #[path = "digest.rs"]
    mod digest;
    #[path = "plans.rs"]
    mod plans;
    #[path = "tamper.rs"]
    mod tamper;
    #[path = "trace.rs"]
    mod trace;
    #[path = "wraps.rs"]
    mod wraps;
}
