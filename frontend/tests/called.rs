//! The functions that bytecode calls, one small program for each case that is told apart.
//!
//! - [x] one caller, two callers; parameters and results
//! - [x] a branch and a call inside the arguments; a function that starts with a loop
//! - [x] a function entered by falling into it; one that never returns, with and without a return address
//! - [x] jumps within a function are no calls

mod oracle;

use std::collections::BTreeMap;

use oracle::assemble;
use zvm_frontend::{Called, LiftOptions, lift};

const RETURN: &str = "0 MSTORE 32 0 RETURN";

/// The functions of a program by parameters and results, in the order of their places.
fn called(text: &str) -> Vec<(u32, Option<u32>)> {
    let lifted = lift(&assemble(text), &LiftOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    let called: BTreeMap<u32, Called> = lifted.called;
    called.values().map(|called| (called.params, called.results)).collect()
}

#[test]
fn functions_with_one_and_two_callers() {
    let once = format!("@a 0 CALLDATALOAD @f JUMP :a {RETURN} :f DUP1 MUL SWAP1 JUMP");
    assert_eq!(called(&once), [(1, Some(1))]);
    let twice =
        format!("@a 1 0 CALLDATALOAD @f JUMP :a @b 2 32 CALLDATALOAD @f JUMP :b ADD {RETURN} :f DUP2 MUL SWAP2 JUMP");
    assert_eq!(called(&twice), [(2, Some(2))]);
}

#[test]
fn arguments_with_branches_and_calls() {
    let branch = format!(
        "@a 0 CALLDATALOAD @one JUMPI 32 CALLDATALOAD @go JUMP :one 1 :go @f JUMP :a {RETURN} :f 3 MUL SWAP1 JUMP"
    );
    assert_eq!(called(&branch), [(1, Some(1))]);
    let call =
        format!("@a @b 0 CALLDATALOAD @g JUMP :b @f JUMP :a {RETURN} :f 3 MUL SWAP1 JUMP :g DUP1 ADD SWAP1 JUMP");
    assert_eq!(called(&call), [(1, Some(1)), (1, Some(1))]);
}

#[test]
fn jumps_within_a_function_are_no_calls() {
    let text = format!(
        "@a 0 CALLDATALOAD @f JUMP :a {RETURN}
         :f 10 DUP2 GT ISZERO @done JUMPI 3 SWAP1 DIV @f JUMP :done @end JUMP :other STOP :end SWAP1 JUMP"
    );
    assert_eq!(called(&text), [(1, Some(1))]);
}

#[test]
fn a_function_that_is_fallen_into() {
    let text = format!("@a 0 CALLDATALOAD @f JUMP :a POP @b 7 :f DUP1 MUL SWAP1 JUMP :b {RETURN}");
    assert_eq!(called(&text), [(1, Some(1))]);
}

#[test]
fn functions_that_never_return() {
    let given = "0 CALLDATALOAD @fail JUMPI STOP :fail @x 99 @panic JUMP :x STOP :panic 0 MSTORE 32 0 REVERT";
    assert_eq!(called(given), [(1, None)]);
    let not_given = "0 CALLDATALOAD @fail JUMPI STOP :fail @panic JUMP :x STOP :panic 0 0 REVERT";
    assert_eq!(called(not_given), [(0, None)]);
}
