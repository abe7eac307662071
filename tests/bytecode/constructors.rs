//! Creation code with arguments and immutables, by hand.

use zvm::creation::creation;
use zvm::evm::Evm;
use zvm::evm::deploy::deploy;
use zvm::{Contract, Input, Program, Source, State};
use zvm_backend_evm::{Fork, Optimize, Options, check};
use zvm_ir::Word;

use crate::assembler::assemble;
use crate::{corners, env, wide};

/// A constructor that ends where the runtime code begins. `@runtime` and `@end` are the places of that, `.slot` of an
/// immutable in it.
fn contract(constructor: &str, runtime: &str, immutables: &[usize]) -> Contract {
    let code = assemble(runtime);
    let at = |text: &str| text.replace("LEN", &code.len().to_string());
    let creation = [assemble(&format!("{} .runtime", at(constructor))), code.clone()].concat();
    Contract {
        immutables: immutables.iter().map(|&start| start..start + 32).collect(),
        runtime: code,
        creation: Some(creation),
        ..Contract::default()
    }
}

/// Deploys both for each list of arguments, and calls what they deploy.
#[track_caller]
fn agrees(contract: &Contract, arguments: &[Vec<u8>]) -> usize {
    let input = Input { origin: "test".to_owned(), source: Source::Contract(Box::new(contract.clone())) };
    let program = Program::load_template(&input).expect("it lifts");
    let old = contract.creation.clone().expect("creation code");
    let mut deployed = 0;
    for fork in [Fork::London, Fork::Osaka] {
        for optimize in [Optimize::None, Optimize::Gas, Optimize::Size] {
            let options = Options { fork, optimize, ..Options::default() };
            let runtime = program.lowered(&options).expect("it is lowered");
            let new = creation(contract, &runtime, &options).expect("it is compiled").expect("creation code");
            for code in [&runtime, &new] {
                check(code).unwrap_or_else(|errors| panic!("{}\n{}", errors[0], code.listing()));
            }
            for arguments in arguments {
                let both = [&old, &new.code].map(|code| deploy(&[code, arguments.as_slice()].concat(), &env(), &State::default()));
                let show = || format!("{options:?}, arguments {}\n{}", hex::encode(arguments), new.listing());
                match both {
                    [Ok(old), Ok(new)] => {
                        deployed += 1;
                        let account = |state: &State| state.accounts.get(&env().address).map(|a| (a.storage.clone(), a.balance, a.nonce));
                        assert_eq!(account(&old.state), account(&new.state), "{}", show());
                        let calls = [&old, &new].map(|done| {
                            Evm::new(&done.runtime).run(&[1, 2, 3], &env(), &done.state).expect("an outcome").outcome
                        });
                        assert_eq!(calls[0], calls[1], "{}", show());
                    }
                    [Err(old), Err(new)] => assert_eq!(old.to_string(), new.to_string(), "{}", show()),
                    [old, new] => panic!("{:?} and {:?}: {}", old.map(|d| d.runtime), new.map(|d| d.runtime), show()),
                }
            }
        }
    }
    deployed
}

/// One word behind the code, as compilers read it; a second one where the first says so.
#[test]
fn arguments_behind_the_code() {
    let constructor = "64 CODESIZE 64 SWAP1 SUB 0 CODECOPY 0 MLOAD 1 SSTORE 32 MLOAD 0 MLOAD MUL 2 SSTORE
        0 MLOAD 3 EQ @bad JUMPI LEN @runtime 0 CODECOPY LEN 0 RETURN :bad 32 0 REVERT";
    let contract = contract(constructor, "1 SLOAD 2 SLOAD XOR 0 MSTORE 32 0 RETURN", &[]);
    let list: Vec<Vec<u8>> = corners().iter().map(|word| wide(&[*word, Word::from(7)])).chain([wide(&[Word::from(3), Word::ZERO])]).collect();
    assert!(agrees(&contract, &list) > 0);
}

/// Immutables: an argument, the caller, a constant; at places that nothing but the constructor tells.
#[test]
fn immutables() {
    let word = "PUSH32 #0000000000000000000000000000000000000000000000000000000000000000";
    let runtime = format!("{word} {word} ADD {word} XOR 0 MSTORE 32 0 RETURN");
    let constructor = "32 CODESIZE 32 SWAP1 SUB 500 CODECOPY LEN @runtime 0 CODECOPY
        500 MLOAD 1 MSTORE CALLER 34 MSTORE 500 MLOAD 5 MUL 68 MSTORE LEN 0 RETURN";
    let contract = contract(constructor, &runtime, &[1, 34, 68]);
    let list: Vec<Vec<u8>> = corners().iter().map(|word| wide(&[*word])).collect();
    assert!(agrees(&contract, &list) > 0);
}

/// A loop over all that is appended; nothing is appended; value that is sent.
#[test]
fn arguments_of_any_number() {
    let constructor = "@runtime LEN ADD DUP1 CODESIZE SUB 31 NOT AND 0
        :top DUP2 DUP2 LT ISZERO @done JUMPI 32 DUP4 DUP3 ADD 0 CODECOPY 0 MLOAD DUP2 SSTORE 32 ADD @top JUMP
        :done CALLVALUE 1 SSTORE LEN @runtime 0 CODECOPY LEN 0 RETURN";
    let contract = contract(constructor, "32 SLOAD 0 MSTORE 32 0 RETURN", &[]);
    let list: Vec<Vec<u8>> = (0..4).map(|n| wide(&corners()[3..3 + n])).collect();
    assert!(agrees(&contract, &list) > 0);
}
