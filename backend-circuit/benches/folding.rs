//! What proving costs beside nova-snark itself, and what Nova's recursion costs beside the program.
//!
//! Three provers fold in one process, taking turns, each the same number of steps:
//!
//! | prover | folds |
//! |---|---|
//! | ours | the benchmark loop, with witnesses made from the program and every row checked before it is folded |
//! | raw | the same rows on the same values, which lie ready in a slice: nova-snark's own API and nothing else |
//! | empty | a step without rows that passes the same state on: what Nova's recursion costs |
//!
//! Parameters and compression are measured for ours, once. The peak of memory is that of the whole process, with the parameters of all
//! three; `zvm prove` tells that of proving alone.
//!
//! The overhead is CPU time of ours by that of raw; the recursion's share is CPU time of empty by that of ours. CPU time is that
//! of all threads, as the system counts it.
//!
//! ```text
//! cargo bench -p zvm-backend-circuit --bench folding                   steps of 2^14 and 2^16 rows, and of what the planner chooses
//! cargo bench -p zvm-backend-circuit --bench folding -- 65536 8        one size, so many steps of each prover
//! ```
//!
//! What the planner chooses is for the loop's 200,000 iterations. The exit code is 1 if ours costs more than 1.15 times what raw
//! costs, or if there the recursion's share is more than a fifth.

use std::process::ExitCode;
use std::sync::Arc;

use core::ops::ControlFlow;
use nova_snark::frontend::num::AllocatedNum;
use nova_snark::frontend::{ConstraintSystem, LinearCombination, SynthesisError, Variable};
use nova_snark::nova::{PublicParams, RecursiveSNARK};
use nova_snark::provider::ipa_pc::EvaluationEngine;
use nova_snark::provider::{Bn256EngineIPA, GrumpkinEngine};
use nova_snark::spartan::snark::RelaxedR1CSSNARK;
use nova_snark::traits::circuit::StepCircuit;
use nova_snark::traits::snark::RelaxedR1CSSNARKTrait;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::nova::{Check, CompressedProof, CompressionKeys, Fr, Params, prove};
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::planner::{self, Limits};
use zvm_backend_circuit::program::Program;
use zvm_backend_circuit::region::Region;
use zvm_backend_circuit::replay::Cut;
use zvm_backend_circuit::step::StepCircuit as Step;
use zvm_backend_circuit::usage;
use zvm_backend_circuit::witness::{Recorded, Witness};
use zvm_ir::{EmptyState, Word};

type E1 = Bn256EngineIPA;
type E2 = GrumpkinEngine;
type S1 = RelaxedR1CSSNARK<E1, EvaluationEngine<E1>>;
type S2 = RelaxedR1CSSNARK<E2, EvaluationEngine<E2>>;

/// The public benchmark `fibonacci-calldata` as the optimiser leaves it.
const FIBONACCI: &str = include_str!("../tests/programs/fibonacci.zvm");

/// The most that ours may cost, as a multiple of what raw costs.
const OVERHEAD_BAR: f64 = 1.15;
/// The most that the recursion may cost of ours, where the planner chooses the size.
const RECURSION_BAR: f64 = 0.2;
/// The iterations that the planner chooses for.
const ITERATIONS: u64 = 200_000;

/// Rows from data, values from a slice.
#[derive(Clone)]
struct Raw {
    rows: Arc<Recorded<Fr>>,
    witness: Option<Arc<Witness<Fr>>>,
}

impl StepCircuit<Fr> for Raw {
    fn arity(&self) -> usize {
        self.rows.outputs().len()
    }

    fn synthesize<CS: ConstraintSystem<Fr>>(
        &self,
        cs: &mut CS,
        z: &[AllocatedNum<Fr>],
    ) -> Result<Vec<AllocatedNum<Fr>>, SynthesisError> {
        let system = self.rows.system();
        let mut wires: Vec<(Variable, Option<Fr>)> = vec![(CS::one(), Some(Fr::from(1)))];
        wires.extend(z.iter().map(|num| (num.get_variable(), num.get_value())));
        let mut nums = Vec::with_capacity(system.aux());
        for index in 0..system.aux() {
            let value = self.witness.as_ref().map(|witness| witness.private()[index]);
            let num = AllocatedNum::alloc(cs.namespace(|| ""), || value.ok_or(SynthesisError::AssignmentMissing))?;
            nums.push(num);
        }
        if !cs.is_witness_generator() {
            wires.extend(nums.iter().map(|num| (num.get_variable(), None)));
            for row in 0..system.rows() {
                let side = |side: usize| {
                    let mut lc = LinearCombination::zero();
                    system.for_each_term(row, side, |wire, coefficient| {
                        lc = std::mem::take(&mut lc) + (coefficient, wires[wire].0);
                    });
                    lc
                };
                cs.enforce(|| "", |_| side(0), |_| side(1), |_| side(2));
            }
        }
        let output = |&wire: &usize| match wire.checked_sub(system.inputs()) {
            Some(aux) => nums[aux].clone(),
            None => z[wire - 1].clone(),
        };
        Ok(self.rows.outputs().iter().map(output).collect())
    }
}

/// Passes the state on.
#[derive(Clone)]
struct Empty(usize);

impl StepCircuit<Fr> for Empty {
    fn arity(&self) -> usize {
        self.0
    }

    fn synthesize<CS: ConstraintSystem<Fr>>(
        &self,
        _: &mut CS,
        z: &[AllocatedNum<Fr>],
    ) -> Result<Vec<AllocatedNum<Fr>>, SynthesisError> {
        Ok(z.to_vec())
    }
}

fn library<C: StepCircuit<Fr>>(circuit: &C) -> PublicParams<E1, E2, C> {
    PublicParams::setup(circuit, &*S1::ck_floor(), &*S2::ck_floor()).expect("the circuit is set up")
}

fn cpu() -> f64 {
    usage::cpu_seconds().expect("the system tells the CPU time")
}

/// CPU seconds.
struct Times {
    /// Per step.
    ours: f64,
    /// Per step.
    raw: f64,
    /// Per step.
    empty: f64,
    /// Of making the parameters of our circuit.
    setup: f64,
    /// Of compressing our proof, keys included.
    compression: f64,
}

/// The region of the loop.
fn hot(program: &Program) -> Region {
    program.regions().regions.keys().nth(1).expect("a loop")
}

/// Each region, that of the loop as often as fits so many rows.
fn sized(program: &Program, rows: u64) -> Plan {
    let once: u64 = program.rows().values().sum();
    let slots = 1 + rows.saturating_sub(once) / program.rows()[hot(program)];
    let mut plan = Plan::default();
    for region in program.regions().regions.keys() {
        plan.push(region, if region == hot(program) { slots as u32 } else { 1 });
    }
    plan
}

fn measure(program: &Arc<Program>, plan: Plan, steps: usize) -> Result<(usize, u64, Times), CircuitError> {
    let plan = Arc::new(plan);
    let slots = plan.iter().filter(|&region| region == hot(program)).count();
    let call = Call { calldata: Word::from(slots * (steps + 2)).to_be_bytes::<32>().to_vec(), ..Call::default() };
    let prepared = program.prepare(&[call], &EmptyState)?;
    let prepared = prepared.cut(program, Cut::Plan(&plan), &program.circuit_digest(&plan), u64::MAX)?;
    let z0 = prepared.initial_state(program)?;
    let prepared = Arc::new(prepared);
    let step = Step::shape(program, &plan);

    let start = cpu();
    let params = Params::setup(&step)?;
    let setup = cpu() - start;
    let facts = params.facts();
    let recorded = Arc::new(Recorded::new(&step)?);
    let mut z = z0.clone();
    let mut witnesses = Vec::new();
    for number in 0..steps {
        let witness = recorded.witness(&step.with_input(&prepared, number), &z, Check::EachStep)?;
        z = witness.after().to_vec();
        witnesses.push(Arc::new(witness));
    }
    let at = |witness: &Arc<Witness<Fr>>| Raw { rows: Arc::clone(&recorded), witness: Some(Arc::clone(witness)) };
    let raw_params = library(&Raw { rows: Arc::clone(&recorded), witness: None });
    assert_eq!(raw_params.num_constraints().0, facts.primary_rows, "the raw circuit has other rows");
    let empty = Empty(z0.len());
    let empty_params = library(&empty);

    // The first step of each builds tables that later ones use, so it is not measured.
    let mut times = Times { ours: 0.0, raw: 0.0, empty: 0.0, setup, compression: 0.0 };
    {
        let mut raw = RecursiveSNARK::new(&raw_params, &at(&witnesses[0]), &z0).expect("folds");
        raw.prove_step(&raw_params, &at(&witnesses[0])).expect("folds");
        raw.prove_step(&raw_params, &at(&witnesses[1])).expect("folds");
        let start = cpu();
        for witness in &witnesses[2..] {
            raw.prove_step(&raw_params, &at(witness)).expect("folds");
        }
        times.raw = cpu() - start;
        assert_eq!(raw.outputs(), z, "the raw prover ends elsewhere");
    }
    {
        let mut start = 0.0;
        let inputs = (0..steps).map(|number| Ok(step.with_input(&prepared, number)));
        let proof = prove(&params, None, inputs, &z0, Check::EachStep, |proof| {
            if proof.steps() == 2 {
                start = cpu();
            }
            Ok(ControlFlow::Continue(()))
        })?;
        times.ours = cpu() - start;
        assert_eq!(proof.state(), z, "our prover ends elsewhere");
        let start = cpu();
        let keys = CompressionKeys::setup(&params)?;
        let compressed = CompressedProof::prove(&params, &keys, &proof)?;
        times.compression = cpu() - start;
        assert_eq!(compressed.verify(&keys, steps, &z0)?, z, "the compressed proof says something else");
    }
    {
        let mut snark = RecursiveSNARK::new(&empty_params, &empty, &z0).expect("folds");
        snark.prove_step(&empty_params, &empty).expect("folds");
        snark.prove_step(&empty_params, &empty).expect("folds");
        let start = cpu();
        for _ in 2..steps {
            snark.prove_step(&empty_params, &empty).expect("folds");
        }
        times.empty = cpu() - start;
    }
    let count = (steps - 2) as f64;
    let times = Times { ours: times.ours / count, raw: times.raw / count, empty: times.empty / count, ..times };
    Ok((facts.step_rows, usage::peak_memory_bytes().unwrap_or(0), times))
}

/// The plan that is expected to cost least for the whole execution.
fn planned(program: &Program) -> Result<Plan, CircuitError> {
    let call = Call { calldata: Word::from(ITERATIONS).to_be_bytes::<32>().to_vec(), ..Call::default() };
    let (schedule, _) = planner::schedule(program, &program.execute(&call)?.trace, Limits::default())?;
    let longest = schedule.segments.iter().max_by_key(|segment| segment.steps);
    longest.map(|segment| Plan::clone(&segment.plan)).ok_or(CircuitError::NoSteps)
}

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let module = zvm_ir::parse(FIBONACCI).expect("the program parses");
    let program = Arc::new(Program::compile(&module).expect("the program compiles"));
    let chosen = match planned(&program) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let sized = |rows| sized(&program, rows);
    let plans: Vec<(Plan, usize)> = match numbers[..] {
        [rows, steps, ..] => vec![(sized(rows), (steps as usize).max(3))],
        [rows] => vec![(sized(rows), 8)],
        [] => vec![(sized(1 << 14), 14), (sized(1 << 16), 10), (chosen.clone(), 6)],
    };
    let mut good = true;
    println!(
        "| rows per step | ours, CPU s | raw, CPU s | empty, CPU s | ours / raw | recursion's share | µs per row | setup, CPU s | compression, CPU s | peak MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for (plan, steps) in plans {
        let is_chosen = plan == chosen;
        match measure(&program, plan, steps) {
            Ok((rows, peak, Times { ours, raw, empty, setup, compression })) => {
                println!(
                    "| {rows} | {ours:.3} | {raw:.3} | {empty:.3} | {:.3} | {:.1} % | {:.2} | {setup:.1} | {compression:.1} | {} |",
                    ours / raw,
                    100.0 * empty / ours,
                    1e6 * (ours - empty) / rows as f64,
                    peak >> 20
                );
                good &= ours / raw <= OVERHEAD_BAR && (!is_chosen || empty / ours <= RECURSION_BAR);
            }
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::FAILURE;
            }
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
