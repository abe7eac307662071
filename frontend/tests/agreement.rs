//! If `lift(p) = Ok(m)` then for every call `Outcome_revm(p) = Outcome_interp(m)`, and every jump that revm takes is an
//! edge of the lift. Checked on ABI-shaped random calls of the corpus, with the storage carried from call to call.

mod oracle;

use oracle::{Compared, GAS, Random, World, compare, contracts, random_call, with_corpus};
use zvm_frontend::{LiftOptions, lift};
use zvm_ir::{Halt, Word};

fn main() {
    with_corpus(&[("corpus_contracts_agree_with_revm", corpus_contracts_agree_with_revm)]);
}

fn corpus_contracts_agree_with_revm() {
    let only = std::env::var("ZVM_ONLY").unwrap_or_default();
    let calls: usize = std::env::var("ZVM_CALLS").ok().and_then(|n| n.parse().ok()).unwrap_or(60);
    let mut failures = Vec::new();
    let (mut compared, mut returned, mut unfit, mut jumps) = (0, 0, 0, 0);
    for contract in contracts().into_iter().filter(|contract| contract.name.contains(&only)) {
        let Ok(lifted) = lift(&contract.runtime, &LiftOptions::default()) else { continue };
        let mut world = World { code: contract.runtime.clone(), ..World::default() };
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..calls {
            let calldata = random_call(&contract.abi, &mut random);
            let value = Word::from(if random.below(16) == 0 { random.below(1000) } else { 0 });
            match compare(&lifted.module, &world, &calldata, value, GAS) {
                Compared::Unfit => unfit += 1,
                Compared::Same(outcome, steps) => {
                    compared += 1;
                    jumps += steps.count;
                    if outcome.halt == Halt::Return {
                        returned += 1;
                        world.storage.extend(outcome.storage.iter().map(|((_, key), value)| (*key, *value)));
                    }
                    let missing: Vec<_> = steps.edges.difference(&lifted.edges).collect();
                    if !missing.is_empty() {
                        failures.push(format!("{}: edges {missing:?} are missing", contract.name));
                    }
                }
                Compared::Different(what) => {
                    let data: String = calldata.iter().map(|byte| format!("{byte:02x}")).collect();
                    failures.push(format!("{}: calldata {data} value {value}\n{what}", contract.name));
                    break;
                }
            }
        }
    }
    println!("{compared} calls compared ({returned} returned), {unfit} unfit, {jumps} jumps");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}
