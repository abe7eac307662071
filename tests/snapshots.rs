//! What the compiler makes of the examples and of two contracts of the corpus, for reviewers: the IR for both backends, the
//! table of the circuit, and the listing of the lowered bytecode. A snapshot shows; `agree.rs` executes every contract that
//! is shown here.

mod corpus;

use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};
use zvm::{Input, Program};
use zvm_backend_circuit::plan::Plan;
use zvm_backend_circuit::prover::TARGET_ROWS;
use zvm_backend_circuit::table::Table;
use zvm_backend_evm::Options;
use zvm_ir::passes::Goal;

fn main() {
    let arguments = Arguments::from_args();
    let example = |name: &'static str, file: &'static str| {
        Trial::test(format!("snapshots/{name}"), move || show(name, &corpus::example(file)))
    };
    let contract = |name: &'static str, file: &str| {
        corpus::trial(&format!("snapshots/{name}"), &format!("contracts/{file}.json"), move |path| show(name, path))
    };
    let trials = vec![
        example("collatz", "collatz/Collatz.json"),
        example("fixed_point", "fixed-point/FixedPoint.json"),
        contract("uni_babylonian", "uniswap-v2__UniLib4BabylonianWrapper__0.7.6-o200"),
        contract("oz_signed_math", "openzeppelin__OZ5SignedMathWrapper__0.8.30-o200"),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn show(name: &str, path: &Path) -> Result<(), Failed> {
    let input = Input::read(&path.display().to_string(), None)?;
    let program = Program::load(&input)?;
    let lowered = program.lowered(&Options::default())?;
    let circuit = program.circuit()?;
    let table = Table::new(&circuit, &Plan::default_for(&circuit, TARGET_ROWS));
    let views = [
        ("ir_lifted", program.module.to_string()),
        ("ir_evm", program.optimized(Goal::Evm)?.to_string()),
        ("ir_circuit", circuit.text().to_owned()),
        ("circuit", table.to_string()),
        ("lowered", lowered.listing()),
    ];
    insta::with_settings!({snapshot_path => "../snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        for (view, text) in views {
            insta::assert_snapshot!(format!("{name}.{view}"), text);
        }
    });
    Ok(())
}
