//! Neither backend does work that grows with the square of a program: twice as many pieces one behind the other take twice the looks
//! ([`zvm_ir::work`]), and a little more.

use zvm::Program;
use zvm_backend_evm::Options;
use zvm_ir::work::looks;

use crate::Case;

/// Looks that may be more than twice as many, in percent of twice.
const SLACK: u64 = 10;

/// What programs are made of, each piece with the word on the stack that the one before left.
const PIECES: [(&str, &str); 11] = [
    ("arithmetic", "3 MUL 5 ADD"),
    ("calldata at computed places", "CALLDATALOAD"),
    ("words at computed places", "MLOAD"),
    ("words written to computed places", "DUP1 DUP1 MSTORE 7 MUL"),
    ("the state at constant slots", "DUP1 9 SSTORE 8 SLOAD XOR"),
    ("the state at slots of a mapping", "0 MSTORE 1 32 MSTORE 64 0 KECCAK256 SLOAD"),
    ("hashes", "0 MSTORE 32 0 KECCAK256"),
    ("logs", "DUP1 0 MSTORE 32 0 LOG0"),
    ("the environment", "CALLER XOR TIMESTAMP ADD"),
    ("checks that fail in one place", "DUP1 5 LT ISZERO @fails JUMPI 3 ADD"),
    ("copies of what is there", "DUP1 DUP1 0 MSTORE 32 0 32 MCOPY 32 MLOAD ADD"),
];

#[test]
fn programs_twice_as_long_take_twice_the_work() {
    let mut found = String::new();
    for (what, piece) in PIECES {
        for (backend, compile) in [("circuit", circuit as fn(&Program)), ("EVM", evm)] {
            let took = |pieces: usize| {
                let case = Case::new(&format!(
                    "0 CALLDATALOAD {} 0 SSTORE STOP :fails 0 0 REVERT",
                    format!("{piece} ").repeat(pieces)
                ));
                let program = case.program().unwrap_or_else(|error| panic!("{what}: {error}"));
                let before = looks().expect("this build counts");
                compile(&program);
                looks().expect("this build counts") - before
            };
            let [one, two] = [300, 600].map(took);
            let line = format!("{what} ({backend}): {one} looks, {two} for twice as much\n");
            eprint!("{line}");
            if two > 2 * one + 2 * one * SLACK / 100 {
                found += &line;
            }
        }
    }
    assert!(found.is_empty(), "\n{found}");
}

fn circuit(program: &Program) {
    program.circuit().expect("it has a circuit");
}

fn evm(program: &Program) {
    program.lowered(&Options::default()).expect("it is lowered");
}
