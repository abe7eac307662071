//! Facts about values: which words each can be, at each place.
//!
//! [`fact`] is the domain, [`transfer`] the effect of each instruction on it, [`constraint`] what a branch tells,
//! [`flow`] the propagation through a function; [`trip_count`] counts the rounds of loops. Facts only ever describe more executions than there are; passes that use
//! them say what they rely on. What an access to memory says about its address, a `bound` says.

pub(crate) mod constraint;
pub(crate) mod fact;
pub(crate) mod flow;
pub(crate) mod transfer;
pub(crate) mod trip_count;

pub(crate) use fact::Fact;
