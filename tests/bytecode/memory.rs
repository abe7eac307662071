//! Memory that nobody has written, its size, copies from past every end, return data.

use zvm_ir::{Halt, Word};

use crate::{Case, OTHER, corners, wide, words};

fn hex(address: [u8; 20]) -> String {
    format!("PUSH20 #{}", hex::encode(address))
}

/// Memory reads as zero before it is written, whatever the code keeps there.
#[test]
fn memory_that_nobody_has_written() {
    let load = "0 CALLDATALOAD 4095 AND MLOAD 0 MSTORE 32 0 RETURN";
    Case::new(load).words(&[[0], [1], [64], [2000], [4095]]).agrees();
    // Hashing in scratch space, then all of memory is returned.
    let text = "0 CALLDATALOAD 0 MSTORE 5 32 MSTORE 64 0 KECCAK256 SLOAD 32 CALLDATALOAD 7 AND 0 SSTORE
        0 0 MSTORE 0 32 MSTORE 1024 32 CALLDATALOAD RETURN";
    Case::new(text).words(&[[1, 0], [2, 31], [3, 700]]).agrees();
    // A hash of words next to a read of what is below them.
    let text =
        "0 CALLDATALOAD 64 MSTORE 32 CALLDATALOAD 96 MSTORE 64 64 KECCAK256 0 SSTORE 0 MLOAD 32 MLOAD ADD 1 SSTORE
        64 CALLDATALOAD 255 AND MLOAD 2 SSTORE 160 0 RETURN";
    Case::new(text).words(&[[1, 2, 0], [3, 4, 64], [3, 4, 80], [5, 6, 255]]).agrees();
}

/// Each access that extends memory does, also where its value is for nobody.
#[test]
fn the_size_of_memory() {
    for access in [
        "4096 MLOAD POP",
        "0 CALLDATALOAD 1023 AND MLOAD POP",
        "5 100 MSTORE8",
        "33 64 KECCAK256 POP",
        "0 1000000000000000000000000 KECCAK256 POP",
        "10 0 70 CALLDATACOPY",
        "0 0 115792089237316195423570985008687907853269984665640564039457584007913129639935 CALLDATACOPY",
        "1 115792089237316195423570985008687907853269984665640564039457584007913129639935 200 CODECOPY",
        "0 0 3000 RETURNDATACOPY",
        "40 300 LOG0",
        "0 999999999999999999 LOG0",
        "64 500 32 600 0 GAS STATICCALL POP",
        "0 99999999999999 0 99999999999999 0 GAS STATICCALL POP",
        "0 0 500 CREATE POP",
        "32 0 600 700 EXTCODECOPY",
        "",
    ] {
        let text = format!("{access} MSIZE 0 SSTORE 64 0 CALLDATALOAD 255 AND MSTORE MSIZE 1 SSTORE 32 0 RETURN");
        Case::new(&text).words(&[[0], [31], [200]]).agrees();
    }
    // Between two reads of it, in a loop.
    let text =
        "0 CALLDATALOAD 7 AND :top DUP1 ISZERO @end JUMPI MSIZE MLOAD POP MSIZE DUP2 SSTORE 1 SWAP1 SUB @top JUMP
        :end MSIZE 0 MSTORE 32 0 RETURN";
    Case::new(text).words(&[[0], [1], [5]]).agrees();
    Case::new("0 0 32 MCOPY 32 0 CALLDATALOAD 255 AND 96 MCOPY MSIZE 0 MSTORE 64 0 RETURN")
        .words(&[[0], [64], [255]])
        .agrees();
}

/// Reads of calldata past its end, at places beyond 2^64 and around 2^256.
#[test]
fn calldata_past_its_end() {
    let load = "0 CALLDATALOAD CALLDATALOAD 0 SSTORE STOP";
    let case = corners().iter().fold(Case::new(load), |case, word| case.calldata(&wide(&[*word, Word::MAX])));
    case.calldata(&[]).calldata(&[0, 1]).calldata(&[0xff; 31]).agrees();
    let copy = "64 CALLDATALOAD 127 AND 32 CALLDATALOAD 0 CALLDATALOAD 127 AND 5 0 MSTORE CALLDATACOPY 256 0 RETURN";
    let case = corners().iter().fold(Case::new(copy), |case, from| {
        case.calldata(&wide(&[Word::from(3), *from, Word::from(100)])).calldata(&wide(&[Word::ZERO, *from, Word::ZERO]))
    });
    case.calldata(&words(&[5, 90, 60])).agrees();
    // Words that overlap in part, at every distance.
    let text = "0 CALLDATALOAD 0 MSTORE 32 CALLDATALOAD 7 MSTORE 64 CALLDATALOAD 255 AND 12 MSTORE8 1 MLOAD 0 SSTORE
        9 MLOAD 1 SSTORE 31 MLOAD 2 SSTORE 5 3 RETURN";
    Case::new(text).calldata(&wide(&[Word::MAX, Word::from(5), Word::from(0xab)])).words(&[[1, 2, 3]]).agrees();
}

/// MCOPY on top of itself, in both directions, of nothing to far away, and past what was written.
#[test]
fn copies_that_overlap() {
    let text = "96 0 0 CALLDATACOPY 160 CALLDATALOAD 127 AND 128 CALLDATALOAD 127 AND 96 CALLDATALOAD 127 AND MCOPY 256 0 RETURN";
    let mut case = Case::new(text);
    for (to, from, len) in [
        (0, 1, 64),
        (1, 0, 64),
        (32, 0, 96),
        (0, 32, 96),
        (5, 5, 40),
        (0, 100, 127),
        (100, 0, 127),
        (3, 3, 0),
        (64, 33, 33),
    ] {
        let head: Vec<u8> = (1..=96).collect();
        case = case.calldata(&[head, words(&[to, from, len])].concat());
    }
    case.agrees();
    let far = "0 1267650600228229401496703205376 1267650600228229401496703205376 MCOPY 7 0 SSTORE STOP";
    assert_eq!(Case::new(far).calldata(&[]).agrees(), [Some(Halt::Return)]);
}

/// Places so far away that no gas pays for them have no outcome, here as there; of no length they are fine.
#[test]
fn memory_out_of_reach() {
    for access in [
        "MLOAD POP",
        "1 SWAP1 MSTORE",
        "1 SWAP1 MSTORE8",
        "32 SWAP1 KECCAK256 POP",
        "1 SWAP1 0 SWAP1 CALLDATACOPY",
        "1 SWAP1 LOG0",
        "1 SWAP1 RETURN",
        "1 SWAP1 REVERT",
        "1 SWAP1 0 SWAP1 MCOPY",
    ] {
        let text = format!("0 CALLDATALOAD {access} 7 0 SSTORE STOP");
        let case = Case::new(&text).words(&[[0], [64], [1 << 40], [u64::MAX]]);
        let halts = case.calldata(&wide(&[Word::MAX])).calldata(&wide(&[Word::from(1) << 255])).agrees();
        assert!(halts[0].is_some() && halts[2..].iter().all(Option::is_none), "{access}: {halts:?}");
    }
}

/// Return data: none yet, as much as there is, one byte more, positions that wrap around.
#[test]
fn return_data_past_its_end() {
    let copy = |before: &str| {
        format!(
            "{before} RETURNDATASIZE 0 SSTORE 32 CALLDATALOAD 0 CALLDATALOAD 0 RETURNDATACOPY RETURNDATASIZE 1 SSTORE 64 0 RETURN"
        )
    };
    let inputs = |text: &str| {
        Case::new(text)
            .account(OTHER, "CALLER 0 MSTORE 40 0 RETURN")
            .words(&[[0, 0], [0, 1], [1, 0], [40, 0], [41, 0], [0, 40], [0, 41], [39, 1], [40, 1]])
            .calldata(&wide(&[Word::MAX, Word::from(1)]))
            .calldata(&wide(&[Word::MAX, Word::from(2)]))
            .calldata(&wide(&[Word::from(1) << 64, Word::ZERO]))
    };
    let halts = inputs(&copy("")).agrees();
    assert_eq!(halts[..3], [Some(Halt::Return), Some(Halt::Trap), Some(Halt::Trap)]);
    let other = hex(OTHER);
    let halts = inputs(&copy(&format!("0 0 0 0 0 {other} GAS CALL 2 SSTORE"))).agrees();
    assert_eq!(halts.iter().filter(|halt| **halt == Some(Halt::Return)).count(), 6, "{halts:?}");
    // Known places, one inside and one past the end: that one traps, although nobody uses what it copies.
    for (len, halt) in [(40, Halt::Return), (41, Halt::Trap)] {
        let text = format!("0 0 0 0 0 {other} GAS CALL POP {len} 0 0 RETURNDATACOPY STOP");
        assert_eq!(inputs(&text).agrees()[0], Some(halt));
    }
    // A creation that succeeds leaves none, one that reverts leaves its data.
    for init in ["#60205ff3", "#60205ffd"] {
        let code = format!("PUSH4 {init} 0 MSTORE 4 28 0 CREATE ISZERO 3 SSTORE");
        inputs(&copy(&code)).agrees();
    }
}

/// The area for return data is larger than what comes, smaller, and on top of the arguments.
#[test]
fn where_return_data_goes() {
    let other = hex(OTHER);
    for (out, len) in [(0, 96), (16, 40), (16, 10), (50, 0), (200, 64)] {
        let text = format!("CALLDATASIZE 0 0 CALLDATACOPY {len} {out} 64 0 0 {other} GAS CALL 300 MSTORE 400 0 RETURN");
        let call = Case::new(&text)
            .account(OTHER, "CALLDATASIZE 0 1 CALLDATACOPY 40 0 CALLDATALOAD @r JUMPI RETURN :r REVERT");
        call.words(&[[0, 1, 2], [7, 8, 9]]).agrees();
    }
    // The identity precompile onto its own input; one that fails.
    let text = "CALLDATASIZE 0 0 CALLDATACOPY 64 16 64 0 4 GAS STATICCALL 128 MSTORE 32 0 64 0 10 GAS STATICCALL 160 MSTORE 192 0 RETURN";
    Case::new(text).words(&[[1, 2, 3], [4, 5, 6]]).agrees();
}

/// Logs of no length far away, of part of a word, of what overlaps.
#[test]
fn logs() {
    let far = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    for topics in 0..=4 {
        let list = (0..topics).fold(String::new(), |text, at| text + &format!("{} CALLDATALOAD ", 32 * at));
        let text = format!(
            "{list} 0 {far} LOG{topics} {list} CALLDATASIZE 0 0 CALLDATACOPY 33 31 LOG{topics}
             {list} 0 CALLDATALOAD 0 LOG{topics} 3 0 MSTORE {list} 1 31 LOG{topics} {list} 64 0 LOG{topics} STOP"
        );
        Case::new(&text).words(&[[0, 1, 2, 3], [31, 0, 0, 0], [64, 9, 9, 9], [200, 1, 1, 1]]).agrees();
    }
}
