//! What passes know about memory: which bytes an instruction touches ([`access`]), sets of addresses ([`byte_set`]),
//! contents ([`known`], [`pieces`]) and functions as a whole ([`summary`]).

pub(crate) mod access;
pub(crate) mod byte_set;
pub(crate) mod known;
pub(crate) mod pieces;
pub(crate) mod summary;
