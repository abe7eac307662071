//! Bytecode: it is refused, or E0, E1 and E2 agree, E2 also when it is made for another fork and another goal.

use arbitrary::Unstructured;
use zvm::evm::Evm;
use zvm::executors::{Executors, Kind, Limits, Run, difference};
use zvm::{Call, Contract, Error, Exit, Input, Program, Source, State};
use zvm_backend_evm::{Fork, LowerError, Optimize, Options, check};

use super::generator;

/// Longer code is not tried: time goes into variety.
const CODE_LIMIT: usize = 4096;

/// An execution that needs more is given up.
const LIMITS: Limits = Limits { gas: 300_000, instructions: 1_000_000 };

/// Any bytes: one that says how long the calldata is, the calldata, the code.
pub(crate) fn raw(bytes: &[u8]) {
    let Some((len, rest)) = bytes.split_first() else { return };
    let (calldata, code) = rest.split_at(usize::from(*len).min(96).min(rest.len()));
    agree(code, calldata);
}

/// A program that never lacks a word on the stack, made from the bytes; then calldata.
pub(crate) fn structured(bytes: &[u8]) {
    let mut source = Unstructured::new(bytes);
    let Ok(code) = generator::program(&mut source) else { return };
    let rest = source.take_rest();
    for len in [0, 4, 32, 96] {
        agree(&code, &rest[..rest.len().min(len)]);
    }
}

/// Compiles code and runs it in all executors but the circuit. Whether it was compiled.
///
/// # Panics
/// When a backend refuses what the frontend takes, or executors differ.
pub(crate) fn agree(code: &[u8], calldata: &[u8]) -> bool {
    if code.is_empty() || code.len() > CODE_LIMIT {
        return false;
    }
    let contract = Contract { runtime: code.to_vec(), ..Contract::default() };
    let input = Input { origin: "fuzz".to_owned(), source: Source::Contract(Box::new(contract)) };
    let program = match Program::load(&input) {
        Ok(program) => program,
        Err(error) => {
            assert_eq!(error.exit(), Exit::Subset, "{error} of {}", hex::encode(code));
            return false;
        }
    };
    let show = || format!("code {}, calldata {}", hex::encode(code), hex::encode(calldata));
    let executors = Executors::new(&program, &[Kind::Evm, Kind::Ir, Kind::Lowered]);
    let executors = executors.unwrap_or_else(|error| panic!("{error}: {}", show())).with_limits(LIMITS);
    let call = Call { calldata: calldata.to_vec(), ..Call::default() };
    let state = State::default();
    let original = match executors.run(Kind::Evm, &call, &state) {
        Ok(run) => run,
        Err(error) if error.exit() == Exit::Limit => return true,
        Err(error) => panic!("E0: {error}: {}", show()),
    };
    // Calls can fail for want of gas, which only E0 knows; the length and hash of its own code E2 cannot know.
    let evm = Evm::new(code).with_gas_limit(LIMITS.gas);
    let executed = match evm.inspect(calldata, &call.env_in(&state), &state) {
        Ok((_, trace)) => {
            let lifted = program.lifted.as_ref().map(|lifted| &lifted.edges);
            let missing = lifted.and_then(|edges| trace.jumps.difference(edges).next());
            assert_eq!(missing, None, "a jump is not in the lift: {}", show());
            trace.counts.into_keys().filter_map(|pc| code.get(pc as usize).copied()).collect()
        }
        Err(_) => Vec::new(),
    };
    let any = |opcodes: &[u8]| executed.iter().any(|opcode| opcodes.contains(opcode));
    if any(&[0xf0, 0xf1, 0xf2, 0xf4, 0xf5, 0xfa]) {
        return true;
    }
    let looks_at_code = any(&[0x3b, 0x3c, 0x3f]);
    // What SELFDESTRUCT does, and whether it is logged, depends on the fork.
    if !looks_at_code && !any(&[0xff]) {
        agree_otherwise(&program, code, &call, &state, &original);
    }
    for kind in [Kind::Ir, Kind::Lowered] {
        if kind == Kind::Lowered && looks_at_code {
            continue;
        }
        match executors.run(kind, &call, &state) {
            Ok(run) => {
                let part = difference(&original, &run);
                assert_eq!(part, None, "{}: {}\n{original:?}\n{run:?}", kind.name(), show());
            }
            // Instructions and memory have limits of their own there, lowered code uses gas of its own.
            Err(error) if error.exit() == Exit::Limit => {}
            Err(error) => panic!("{}: {error}: {}", kind.name(), show()),
        }
    }
    true
}

/// Lowers the program for another fork and another goal, which the code decides, and runs that by the rules of the fork.
fn agree_otherwise(program: &Program, code: &[u8], call: &Call, state: &State, original: &Run) {
    let choice = code.iter().fold(0usize, |sum, &byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    let fork = Fork::ALL[choice % Fork::ALL.len()];
    let optimize = [Optimize::None, Optimize::Gas, Optimize::Size][choice / Fork::ALL.len() % 3];
    let options = Options { fork, optimize, ..Options::default() };
    let show = || format!("{options:?}, code {}, calldata {}", hex::encode(code), hex::encode(&call.calldata));
    let lowered = match program.lowered(&options) {
        Ok(lowered) => lowered,
        Err(Error::Lower(LowerError::Unsupported { .. })) if fork < Fork::Cancun => return,
        // A program that reads MSIZE leaves no memory for words that DUP does not reach.
        Err(Error::Lower(LowerError::TooDeep { .. } | LowerError::ScratchSeen { .. })) if code.contains(&0x59) => {
            return;
        }
        Err(error) => panic!("{error}: {}", show()),
    };
    if let Err(errors) = check(&lowered) {
        panic!("{}: {}\n{}", errors[0], show(), lowered.listing());
    }
    let evm = Evm::new(&lowered.code).with_gas_limit(LIMITS.gas).with_fork(fork);
    match evm.run(&call.calldata, &call.env_in(state), state) {
        Ok(run) => {
            let run = Run { outcome: run.outcome, changes: Some(run.changes), gas: None, rows: None };
            let part = difference(original, &run);
            assert_eq!(part, None, "{}\n{original:?}\n{run:?}\n{}", show(), lowered.listing());
        }
        Err(error) if error.exit() == Exit::Limit => {}
        Err(error) => panic!("{error}: {}", show()),
    }
}
