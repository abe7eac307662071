//! Creation code with arguments and immutables, by hand.

use zvm::creation::creation;
use zvm::evm::Evm;
use zvm::evm::deploy::deploy;
use zvm::input::Immutables;
use zvm::{Contract, Input, Program, Source, State};
use zvm_backend_evm::{Fork, Optimize, Options, check};
use zvm_ir::Word;

use crate::assembler::assemble;
use crate::{corners, env, wide};

/// Code that nobody reaches, so that the arguments lie beyond the first 255 bytes.
fn pad() -> String {
    "STOP ".repeat(256)
}

/// A contract. In the constructor `@runtime` is where the runtime code begins, `LEN` its length, `END` where the arguments
/// begin.
fn contract(constructor: &str, runtime: &str, immutables: &[usize]) -> Contract {
    let code = assemble(runtime);
    let at = |text: &str| text.replace("LEN", &code.len().to_string());
    let assembled = |end: usize| assemble(&format!("{} .runtime", at(constructor).replace("END", &end.to_string())));
    // The end is pushed with two bytes, whatever it is.
    let end = assembled(0xffff).len() + code.len();
    assert!(end > 0xff, "pad the runtime code");
    let creation = [assembled(end), code.clone()].concat();
    Contract {
        immutables: Immutables::Listed(immutables.iter().map(|&start| start..start + 32).collect()),
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
                let both = [&old, &new.code]
                    .map(|code| deploy(&[code, arguments.as_slice()].concat(), &env(), &State::default()));
                let show = || format!("{options:?}, arguments {}\n{}", hex::encode(arguments), new.listing());
                match both {
                    [Ok(old), Ok(new)] => {
                        deployed += 1;
                        let account = |state: &State| {
                            state.accounts.get(&env().address).map(|a| (a.storage.clone(), a.balance, a.nonce))
                        };
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
    let constructor = "END CODESIZE SUB END 0 CODECOPY 0 MLOAD 1 SSTORE 32 MLOAD 0 MLOAD MUL 2 SSTORE
        0 MLOAD 3 EQ @bad JUMPI LEN @runtime 0 CODECOPY LEN 0 RETURN :bad 32 0 REVERT";
    let contract = contract(constructor, &format!("1 SLOAD 2 SLOAD XOR 0 MSTORE 32 0 RETURN {}", pad()), &[]);
    let list: Vec<Vec<u8>> = corners()
        .iter()
        .map(|word| wide(&[*word, Word::from(7)]))
        .chain([wide(&[Word::from(3), Word::ZERO])])
        .collect();
    assert!(agrees(&contract, &list) > 0);
}

/// Immutables: an argument, the caller, a constant; at places that nothing but the constructor tells.
#[test]
fn immutables() {
    let word = "PUSH32 #0000000000000000000000000000000000000000000000000000000000000000";
    let runtime = format!("{word} {word} ADD {word} XOR 0 MSTORE 32 0 RETURN {}", pad());
    let constructor = "32 END 500 CODECOPY LEN @runtime 0 CODECOPY
        500 MLOAD 1 MSTORE CALLER 34 MSTORE 500 MLOAD 5 MUL 68 MSTORE LEN 0 RETURN";
    let contract = contract(constructor, &runtime, &[1, 34, 68]);
    let list: Vec<Vec<u8>> = corners().iter().map(|word| wide(&[*word])).collect();
    assert!(agrees(&contract, &list) > 0);
}

/// A loop over all that is appended; nothing is appended; value that is sent.
#[test]
fn arguments_of_any_number() {
    let constructor = "END DUP1 CODESIZE SUB 31 NOT AND 0
        :top DUP2 DUP2 LT ISZERO @done JUMPI 32 DUP4 DUP3 ADD 0 CODECOPY 0 MLOAD DUP2 SSTORE 32 ADD @top JUMP
        :done CALLVALUE 1 SSTORE LEN @runtime 0 CODECOPY LEN 0 RETURN";
    let contract = contract(constructor, &format!("32 SLOAD 0 MSTORE 32 0 RETURN {}", pad()), &[]);
    let list: Vec<Vec<u8>> = (0..4).map(|n| wide(&corners()[3..3 + n])).collect();
    assert!(agrees(&contract, &list) > 0);
}

/// The last words of the code may be its own where arguments are missing: that it reads them is said, with the place.
#[test]
fn words_that_may_be_code_or_arguments() {
    let constructor = "32 CODESIZE 32 SWAP1 SUB 0 CODECOPY 0 MLOAD 1 SSTORE LEN @runtime 0 CODECOPY LEN 0 RETURN";
    let contract = contract(constructor, &format!("1 SLOAD 0 MSTORE 32 0 RETURN {}", pad()), &[]);
    let input = Input { origin: "test".to_owned(), source: Source::Contract(Box::new(contract.clone())) };
    let runtime =
        Program::load(&input).and_then(|program| program.lowered(&Options::default())).expect("it is lowered");
    let error = creation(&contract, &runtime, &Options::default()).expect_err("it reads its own code");
    assert!(error.to_string().contains("0x0009"), "{error}");
}
