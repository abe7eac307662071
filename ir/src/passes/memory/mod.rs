//! What passes know about memory: which bytes an instruction touches ([`access`]), sets of addresses ([`byte_set`]) and
//! contents ([`known`]).

pub(crate) mod access;
pub(crate) mod byte_set;
pub(crate) mod known;
