//! E1 = E3: the interpreter on the module, and the circuit's witness, say the same of every execution.
//!
//! "If `compile(p) = Ok(q)` then for every input `Outcome(p) = Outcome(q)`, unless the execution is unprovable."

mod random;

use random::Generator;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::program::Program;
use zvm_ir::EmptyState;
use zvm_ir::interp;

/// Seeds that found something: 156, a value that leaves whole on one branch and cut into limbs on another, in one register.
const FOUND: [u64; 1] = [156];

/// Random programs, each on several inputs.
#[test]
fn random_programs_agree() {
    let programs: u64 = if std::env::var_os("ZVM_SLOW").is_some() { 2000 } else { 60 };
    let first: u64 = std::env::var("ZVM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let (mut proved, mut refused) = (0, 0);
    for seed in FOUND.into_iter().chain(first..first + programs) {
        let mut generator = Generator::new(seed);
        let module = generator.module();
        let program = Program::compile(&module).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{module}"));
        for _ in 0..4 {
            let call = Call { calldata: generator.calldata(), ..Call::default() };
            let native = interp::run(&module, interp::Call::new(&call.calldata, &call.env), &EmptyState)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{module}"));
            match program.check(&call) {
                Ok((outcome, _)) => {
                    assert_eq!(outcome, native, "seed {seed}\n{module}");
                    proved += 1;
                }
                Err(CircuitError::Unprovable(exit)) => {
                    assert_eq!(exit.pc, Some(0x99), "seed {seed}\n{module}");
                    refused += 1;
                }
                Err(error) => panic!("seed {seed}: {error}\n{module}\n{}", program.legalized().func),
            }
        }
    }
    assert!(proved > refused && refused > 0, "{proved} proved, {refused} refused");
}
