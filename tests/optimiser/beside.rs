//! What the passes that are not in the pipeline would do to what it leaves.

use std::fmt::Write;

use zvm_ir::cost::{CostModel, Gas, NEVER, Rows, room_of};
use zvm_ir::passes::{BESIDE, Goal, apply, find};
use zvm_ir::{Change, Module};

/// What cleans up behind each of them.
const CLEAN_UP: [&str; 6] = ["simplify-cfg", "redundant-params", "fold", "simplify-cfg", "gvn", "dce"];

const HEADER: &str = "
## Passes beside the pipeline

Passes that run by name only (`zvm ir --pass NAME`), on what the pipeline leaves, each followed by a clean-up. *Room* is what the
cost model says of all instructions: bytes of code for the EVM, rows for the circuit, without those that it does not have.

They are not in the pipeline, because there they brought next to nothing when it was tried: neither changed the compute gas or the size of the
corpus ([evm-backend.md](evm-backend.md); the EVM backend makes one of equal blocks itself), and of the fifteen programs of
`cargo bench --bench rows`, `pre` made one cheaper, by 0.2 %, and `tail-merge` one, by 1.3 %. `unroll` is in it: before `licm` it took compute gas from
0.575 to 0.574 of the original (Vyper from 0.729 to 0.723), for half a percent of size, and changed no rows.

| pass | for | contracts it changes | instructions | room |
|---|---|---:|---:|---:|
";

/// For each pass and goal: how many contracts it changed, and by how much.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside {
    sums: [[(usize, Change, Change); 2]; BESIDE.len()],
}

impl Beside {
    /// Applies each of the passes to what the pipeline left for the EVM and for the circuit.
    pub(crate) fn new(evm: &Module, circuit: &Module) -> Self {
        let mut beside = Self::default();
        for (goal, module) in [(Goal::Evm, evm), (Goal::Circuit, circuit)] {
            let mut without = module.clone();
            clean_up(&mut without, goal);
            let (insts, room) = size(&without, goal);
            for (at, pass) in BESIDE.iter().enumerate() {
                let mut with = module.clone();
                let changed = apply(pass, &mut with, goal);
                clean_up(&mut with, goal);
                let (insts_after, room_after) = size(&with, goal);
                beside.sums[at][usize::from(goal == Goal::Circuit)] = (
                    usize::from(changed),
                    Change { before: insts, after: insts_after },
                    Change { before: room, after: room_after },
                );
            }
        }
        beside
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (sums, more) in self.sums.iter_mut().flatten().zip(other.sums.iter().flatten()) {
            sums.0 += more.0;
            sums.1 += more.1;
            sums.2 += more.2;
        }
    }

    /// The table.
    pub(crate) fn write(&self, text: &mut String) {
        text.push_str(HEADER);
        for (pass, sums) in BESIDE.iter().zip(&self.sums) {
            for (goal, (contracts, insts, room)) in ["EVM", "circuit"].iter().zip(sums) {
                let percent = |change: &Change| 100.0 * (change.after as f64 / change.before.max(1) as f64 - 1.0);
                let _ = writeln!(
                    text,
                    "| `{}` | {goal} | {contracts} | {} → {}, {:+.2} % | {:+.2} % |",
                    pass.name,
                    insts.before,
                    insts.after,
                    percent(insts),
                    percent(room)
                );
            }
        }
    }
}

fn clean_up(module: &mut Module, goal: Goal) {
    for pass in CLEAN_UP.iter().filter_map(|name| find(name)) {
        apply(pass, module, goal);
    }
}

/// Instructions, and their room.
fn size(module: &Module, goal: Goal) -> (usize, usize) {
    let costs: &dyn CostModel = if goal == Goal::Evm { &Gas::NEWEST } else { &Rows };
    let (mut insts, mut room) = (0, 0);
    for function in module.funcs.values() {
        for (_, inst) in function.insts_in_order() {
            insts += 1;
            room += Some(room_of(costs, function, inst)).filter(|&room| room < NEVER).unwrap_or(0);
        }
    }
    (insts, room as usize)
}
