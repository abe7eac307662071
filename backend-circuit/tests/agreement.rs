//! E1 = E3: the interpreter on the module, and the circuit's witness, say the same of every execution.
//!
//! "If `compile(p) = Ok(q)` then for every input `Outcome(p) = Outcome(q)`, unless the execution is unprovable."

mod random;

use random::Generator;
use zvm_backend_circuit::error::CircuitError;
use zvm_backend_circuit::execute::Call;
use zvm_backend_circuit::legalize::SHARED_ROWS;
use zvm_backend_circuit::program::Program;
use zvm_ir::EmptyState;
use zvm_ir::interp;

/// Seeds that found something: 156, a value that leaves whole on one branch and cut into limbs on another, in one register.
const FOUND: [u64; 1] = [156];

/// Random programs, each on several inputs.
#[test]
fn random_programs_agree() {
    let programs: u64 = if std::env::var_os("ZVM_SLOW").is_some() { 1200 } else { 60 };
    let first: u64 = std::env::var("ZVM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let (mut proved, mut refused) = (0, 0);
    for seed in FOUND.into_iter().chain(first..first + programs) {
        let mut generator = Generator::new(seed);
        let module = generator.module();
        // Every other program shares all functions that it calls several times.
        let shared_rows = if seed % 2 == 0 { SHARED_ROWS } else { 0 };
        let program = Program::compile_sharing(&module, shared_rows)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}\n{module}"));
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

/// Functions that call each other, in a loop and out of it, with values live across: some that every call has, and some that one has.
const CALLS: &str = "zvm 1\nentry @main\nfunc @square(u256) -> u256 {\nblock0(v0: u256):\n v1: u256 = wmul v0, v0\n ret v1\n}\nfunc \
     @mix(u256, u256) -> u256, u256 {\nblock0(v0: u256, v1: u256):\n v2: u1 = ult v0, v1\n brif v2, block1, block2\nblock1:\n v3: u256 \
     = call @square(v0)\n v4: u256 = wadd v3, v1\n ret v4, v0\nblock2:\n v5: u256 = call @square(v1)\n v6: u256 = call @square(v5)\n \
     v7: u256 = wsub v6, v0\n ret v7, v5\n}\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u6 = iconst \
     32\n v3: u256 = calldataload v2\n v4: u8 = iconst 255\n v5: u8 = and v1, v4\n v6: u256, v7: u256 = call @mix(v1, v3)\n jump \
     block1(v5, v6, v7)\nblock1(v8: u8, v9: u256, v10: u256):\n v11: u1 = iszero v8\n brif v11, block2, block3\nblock3:\n v12: u1 = \
     iconst 1\n v13: u8 = sub v8, v12\n v14: u256, v15: u256 = call @mix(v9, v10)\n v16: u256 = zext v8\n v17: u256 = wadd v14, v16\n \
     v18: u256 = call @square(v17)\n v19: u256 = xor v18, v3\n jump block1(v13, v19, v15)\nblock2:\n v20: u256 = call @square(v3)\n v21: \
     u256 = wadd v20, v9\n return_words 96, v21, v10, v1\n}\n";

#[test]
fn shared_functions_return_to_where_they_were_called() {
    let module = zvm_ir::parse(CALLS).unwrap();
    assert_eq!(zvm_ir::verify(&module), Ok(()));
    let copied = Program::compile_sharing(&module, u64::MAX).unwrap();
    let shared = Program::compile_sharing(&module, 0).unwrap();
    let products = |program: &Program| {
        let func = &program.legalized().func;
        func.insts_in_order().filter(|&(_, inst)| func.insts[inst].opcode == zvm_ir::Opcode::Wmul).count()
    };
    assert_eq!((products(&copied), products(&shared)), (8, 1), "{}", shared.legalized().func);
    for (a, b) in [(0, 7), (3, 1), (5, 5), (255, 2), (6, u64::MAX)] {
        let words = [zvm_ir::Word::from(a), zvm_ir::Word::from(b)];
        let call =
            Call { calldata: words.iter().flat_map(|word| word.to_be_bytes::<32>()).collect(), ..Call::default() };
        let native = interp::run(&module, interp::Call::new(&call.calldata, &call.env), &EmptyState).unwrap();
        assert_eq!(copied.check(&call).unwrap().0, native);
        assert_eq!(shared.check(&call).unwrap().0, native);
    }
}
