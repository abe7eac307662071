//! Passes: what they make of a program has the outcome that it had.

use arbitrary::Unstructured;
use zvm::{Contract, Input, Program, Source};
use zvm_ir::passes::{BESIDE, Goal, PIPELINE, all, apply};
use zvm_ir::{Call, EmptyState, Env, InterpError, Module, Outcome, run, verify};

use super::generator;

/// An execution that needs more is given up.
const STEPS: u64 = 200_000;

/// Two bytes that say which passes of the pipeline run before and which one then; a program made from the others; calldata.
pub(crate) fn passes(bytes: &[u8]) {
    let &[goal, first, ref rest @ ..] = bytes else { return };
    let mut source = Unstructured::new(rest);
    let Ok(code) = generator::program(&mut source) else { return };
    let contract = Contract { runtime: code, ..Contract::default() };
    let input = Input { origin: "fuzz".to_owned(), source: Source::Contract(Box::new(contract)) };
    let Ok(program) = Program::load(&input) else { return };
    let goal = if goal % 2 == 0 { Goal::Evm } else { Goal::Circuit };
    let calldata = source.take_rest();
    let calls: Vec<&[u8]> = [0, 4, 32, 96].map(|len| &calldata[..calldata.len().min(len)]).to_vec();
    keep_outcomes(&program.module, goal, usize::from(first) % (PIPELINE.len() + 1), &calls);
}

/// Applies the passes of the pipeline up to a number, and after it every one by itself on what there is then.
///
/// # Panics
/// When a pass breaks the module or changes an outcome.
pub(crate) fn keep_outcomes(module: &Module, goal: Goal, number: usize, calls: &[&[u8]]) {
    let mut stage = module.clone();
    let mut before = outcomes(&stage, calls);
    for pass in &PIPELINE[..number] {
        if apply(pass, &mut stage, goal) {
            before = compare(pass.name, goal, &before, &stage, calls);
        }
    }
    // What removes accesses may do so only where their addresses are bounded.
    let bounded = PIPELINE.iter().position(|pass| pass.name == "bound-addresses").is_some_and(|at| at < number);
    let known: Vec<_> = before.iter().cloned().map(|run| run.filter(|run| bounded || run.is_ok())).collect();
    for pass in all() {
        let mut changed = stage.clone();
        if apply(pass, &mut changed, goal) {
            compare(pass.name, goal, &known, &changed, calls);
        }
    }
    // The passes beside the pipeline build on each other.
    for pass in BESIDE {
        if apply(pass, &mut stage, goal) {
            compare(pass.name, goal, &known, &stage, calls);
        }
    }
}

/// What a call comes to; `None` where nothing can be compared.
type Ended = Option<Result<Outcome, InterpError>>;

fn outcomes(module: &Module, calls: &[&[u8]]) -> Vec<Ended> {
    let env = Env::default();
    let one = |calldata: &&[u8]| {
        let ended = run(module, Call { step_limit: STEPS, ..Call::new(calldata, &env) }, &EmptyState);
        match ended {
            // Where in the bytecode the limit was met is not what passes keep.
            Err(InterpError::MemoryLimit { .. }) => Some(Err(InterpError::MemoryLimit { pc: None })),
            Ok(outcome) => Some(Ok(outcome)),
            Err(InterpError::StepLimit { .. } | InterpError::CallDepth { .. } | InterpError::Foreign { .. }) => None,
            Err(error) => panic!("{error}\n{module}"),
        }
    };
    calls.iter().map(one).collect()
}

/// The outcomes of the changed module, where they are those of before.
fn compare(name: &str, goal: Goal, before: &[Ended], changed: &Module, calls: &[&[u8]]) -> Vec<Ended> {
    if let Err(errors) = verify(changed) {
        panic!("{name} ({goal:?}): {errors:#?}\n{changed}");
    }
    let after = outcomes(changed, calls);
    for ((before, after), calldata) in before.iter().zip(&after).zip(calls) {
        if let (Some(before), Some(after)) = (before, after) {
            assert_eq!(before, after, "{name} ({goal:?}) on {}\n{changed}", hex::encode(calldata));
        }
    }
    after
}
