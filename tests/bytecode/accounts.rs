//! Calls of itself and of others, storage between them, creation, destruction, static frames.

use zvm_backend_evm::Fork;
use zvm_ir::{Halt, Word};

use crate::{Case, OTHER, wide, words};

fn other() -> String {
    format!("PUSH20 #{}", hex::encode(OTHER))
}

/// A program whose first word of calldata says what to do: 0 is `outer`, everything else `inner`.
fn reentrant(outer: &str, inner: &str) -> String {
    format!("0 CALLDATALOAD @inner JUMPI {outer} :inner {inner}")
}

/// What was loaded before a call of itself is loaded again after it.
#[test]
fn storage_between_calls_of_itself() {
    for (store, load) in [("SSTORE", "SLOAD"), ("TSTORE", "TLOAD")] {
        // Each kind of call, and what it may change.
        for call in [
            "0 0 32 0 0 ADDRESS GAS CALL",
            "0 0 32 0 ADDRESS GAS DELEGATECALL",
            "0 0 32 0 ADDRESS GAS STATICCALL",
            "0 0 32 0 0 ADDRESS GAS CALLCODE",
        ] {
            let outer = format!(
                "5 1 {store} 1 {load} 1 0 MSTORE {call} 1 {load} ADD SWAP1 2 MUL XOR 32 MSTORE 1 {load} 64 MSTORE RETURNDATASIZE 96 MSTORE 128 0 RETURN"
            );
            let inner = format!("1 {load} 3 MUL 1 {store} CALLVALUE 2 {store} 8 1 LOG0 1 {load} 0 MSTORE 32 0 RETURN");
            let halts = Case::new(&reentrant(&outer, &inner)).words(&[[0], [1]]).agrees();
            assert_eq!(halts, [Some(Halt::Return); 2], "{call}");
        }
    }
}

/// What the inner call did is undone when it reverts or traps; what the outer one had done stays.
#[test]
fn calls_that_fail_are_undone() {
    for end in ["0 0 REVERT", "32 0 REVERT", "INVALID", "1 0 0 RETURNDATACOPY STOP", "STOP", "POP POP"] {
        let outer = "7 1 SSTORE 9 1 TSTORE 1 0 MSTORE 64 128 32 0 0 ADDRESS 100000 CALL 0 SSTORE 1 SLOAD 160 MSTORE 1 TLOAD 192 MSTORE
            RETURNDATASIZE 2 SSTORE 3 SLOAD 4 SSTORE 300 0 RETURN";
        let inner = format!("1 SLOAD 1 ADD 1 SSTORE 8 1 TSTORE 1 3 SSTORE 42 0 MSTORE 32 0 LOG0 {end}");
        Case::new(&reentrant(outer, &inner)).words(&[[0], [1]]).agrees();
    }
}

/// In a static frame each instruction that changes something traps, and those that only read do not.
#[test]
fn static_frames() {
    for action in [
        "1 0 SSTORE",
        "1 0 TSTORE",
        "0 0 LOG0",
        "0 0 0 CREATE POP",
        "0 0 0 0 CREATE2 POP",
        "CALLER SELFDESTRUCT",
        "0 0 0 0 1 CALLER GAS CALL POP",
        "0 0 0 0 0 CALLER GAS CALL POP",
        "0 0 0 0 1 CALLER GAS CALLCODE POP",
        "0 SLOAD POP 0 TLOAD POP",
    ] {
        let outer = "1 0 MSTORE 32 64 32 0 ADDRESS 1000000 STATICCALL 0 SSTORE 96 0 RETURN";
        let inner = format!("{action} CALLVALUE 0 MSTORE 32 0 RETURN");
        Case::new(&reentrant(outer, &inner)).words(&[[0]]).agrees();
    }
}

/// Calls of another account, with value and without, where the balance is looked at before and after.
#[test]
fn values_that_move() {
    let other = other();
    let text = format!(
        "CALLDATASIZE @go JUMPI STOP :go SELFBALANCE 0 MSTORE {other} BALANCE 32 MSTORE 0 0 0 0 0 CALLDATALOAD {other} GAS CALL 64 MSTORE
         SELFBALANCE 96 MSTORE {other} BALANCE 128 MSTORE ADDRESS BALANCE 160 MSTORE CALLVALUE 192 MSTORE 224 0 RETURN"
    );
    for code in ["STOP", "0 0 REVERT", "0 0 0 0 2 CALLER GAS CALL POP STOP", "CALLER SELFDESTRUCT"] {
        Case::new(&text).account(OTHER, code).words(&[[0], [3], [7], [8], [u64::MAX]]).agrees();
    }
    // An account that nobody has; gas that is too little.
    Case::new("0 0 0 0 1 99999999999999999999 GAS CALL 0 SSTORE 99999999999999999999 BALANCE 1 SSTORE STOP")
        .words(&[[0]])
        .agrees();
    let text = format!("0 0 0 0 0 {other} 5 CALL 0 SSTORE RETURNDATASIZE 1 SSTORE STOP");
    Case::new(&text).account(OTHER, "1 0 SSTORE STOP").words(&[[0]]).agrees();
}

/// Code of others: its size, its hash, copies past its end; accounts without code and without anything.
#[test]
fn code_of_others() {
    let other = other();
    let text = format!(
        "{other} EXTCODESIZE 0 MSTORE {other} EXTCODEHASH 32 MSTORE 99 EXTCODESIZE 64 MSTORE 99 EXTCODEHASH 96 MSTORE CALLER EXTCODEHASH 128 MSTORE
         32 CALLDATALOAD 127 AND 0 CALLDATALOAD 160 {other} EXTCODECOPY 320 0 RETURN"
    );
    let case = Case::new(&text).account(OTHER, "1 2 3 4 5 6 7 8 9 STOP").words(&[
        [0, 5],
        [3, 100],
        [18, 1],
        [19, 1],
        [u64::MAX, 40],
    ]);
    case.calldata(&wide(&[Word::MAX, Word::from(10)])).agrees();
}

/// CREATE and CREATE2: the address, the nonce, code that reverts, code from calldata, the same place twice.
#[test]
fn creation() {
    let text = "96 0 CALLDATALOAD 32 CALLDATALOAD POP CALLDATASIZE 0 0 CALLDATACOPY POP POP
        32 CALLDATALOAD 64 0 0 CALLDATALOAD CREATE 0 SSTORE RETURNDATASIZE 1 SSTORE
        5 32 CALLDATALOAD 64 0 CREATE2 DUP1 2 SSTORE EXTCODESIZE 3 SSTORE
        5 32 CALLDATALOAD 64 0 CREATE2 4 SSTORE RETURNDATASIZE 5 SSTORE SELFBALANCE 6 SSTORE STOP";
    // mstore8(31, 0xfe); return(31, 1) · revert(0, 32) · invalid · code that begins with 0xef
    for init in ["60fe601f536001601ff3", "60206000fd", "fe", "60ef60005360016000f3", ""] {
        let init = hex::decode(init).expect("hex");
        let call = |value: u64| [words(&[value, init.len() as u64]), init.clone()].concat();
        Case::new(text).calldata(&call(0)).calldata(&call(3)).calldata(&call(8)).agrees();
    }
    // Init code that is part of the program's own code.
    let text = "10 @init 0 CODECOPY 10 0 0 CREATE DUP1 0 SSTORE 0 0 0 0 0 DUP6 GAS CALL 1 SSTORE STOP .init #60fe601f536001601ff3";
    Case::new(text).calldata(&[]).agrees();
}

/// SELFDESTRUCT to itself, to another, to nobody; alone, and in a frame of a call of itself.
#[test]
fn destruction() {
    for to in ["ADDRESS", "CALLER", &other(), "0 CALLDATALOAD", "1"] {
        let text = format!("5 1 SSTORE 1 0 LOG0 {to} SELFDESTRUCT");
        assert_eq!(Case::new(&text).words(&[[0], [77]]).agrees()[0], Some(Halt::Return));
        let outer = "1 0 MSTORE 0 0 32 0 0 ADDRESS GAS CALL 0 SSTORE SELFBALANCE 1 SSTORE 6 SLOAD 2 SSTORE ADDRESS EXTCODESIZE ISZERO 3 SSTORE STOP";
        Case::new(&reentrant(outer, &format!("8 6 SSTORE {to} SELFDESTRUCT"))).words(&[[0], [1]]).agrees();
    }
}

/// Inputs that are the same in all of a call, and those that are not.
#[test]
fn the_environment() {
    let reads = [
        "ADDRESS",
        "ORIGIN",
        "CALLER",
        "CALLVALUE",
        "CALLDATASIZE",
        "CODESIZE",
        "GASPRICE",
        "RETURNDATASIZE",
        "COINBASE",
        "TIMESTAMP",
        "NUMBER",
        "DIFFICULTY",
        "GASLIMIT",
        "CHAINID",
        "SELFBALANCE",
        "BASEFEE",
        "PC",
    ];
    let text: String = reads
        .iter()
        .enumerate()
        .map(|(at, opcode)| format!("{opcode} DUP1 {} MSTORE 7 MUL {} SSTORE ", 32 * at, at + 1))
        .collect();
    Case::new(&format!("{text} 1 SLOAD 17 SLOAD XOR 600 MSTORE 632 0 RETURN")).words(&[[1]]).calldata(&[]).agrees();
    Case::new("0 BLOBHASH 0 SSTORE BLOBBASEFEE 1 SSTORE 5 BLOCKHASH 2 SSTORE NUMBER BLOCKHASH 3 SSTORE STOP")
        .since(Fork::Cancun)
        .calldata(&[])
        .agrees();
}
