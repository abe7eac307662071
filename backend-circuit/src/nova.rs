//! The adapter to nova-snark: the only file that sees it.

/// The scalar field of BN254, over which step circuits are proved.
pub type Fr = <nova_snark::provider::Bn256EngineIPA as nova_snark::traits::Engine>::Scalar;
