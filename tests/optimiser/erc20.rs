//! What is left of an ERC-20 token of OpenZeppelin for the circuit: what `transfer`, `transferFrom` and `approve` do, without memory
//! and with no hash but as a place in storage.

use std::path::Path;

use libtest_mimic::Failed;
use zvm::{Input, Program};
use zvm_ir::passes::Goal;
use zvm_ir::stats::selected;
use zvm_ir::{Effects, Opcode, StoragePaths};

/// The contract.
pub(crate) const FILE: &str = "contracts/openzeppelin__ERC20PresetFixedSupply__0.8.4-o200.json";

const FUNCTIONS: [(&str, [u8; 4]); 3] = [
    ("approve", [0x09, 0x5e, 0xa7, 0xb3]),
    ("transfer", [0xa9, 0x05, 0x9c, 0xbb]),
    ("transferFrom", [0x23, 0xb8, 0x72, 0xdd]),
];

/// Shows the three functions and checks what they are free of.
pub(crate) fn functions(path: &Path) -> Result<(), Failed> {
    let program = Program::load(&Input::read(&path.display().to_string(), None)?)?;
    let module = program.optimized(Goal::Circuit)?;
    for (name, selector) in FUNCTIONS {
        let part = selected(&module, selector).compact();
        let paths = StoragePaths::new(&part);
        if let Some((func, inst)) = paths.sites.difference(&paths.structured).next() {
            return Err(format!("{name}: {inst} of {} is a hash and no path", part.funcs[*func].name).into());
        }
        let all = part.funcs.values().flat_map(|function| {
            function.insts_in_order().map(|(_, inst)| function.insts[inst].opcode).collect::<Vec<_>>()
        });
        let touches = |opcode: &Opcode| {
            let effects = opcode.effects();
            effects.has(Effects::READS_MEMORY) || effects.has(Effects::WRITES_MEMORY)
        };
        let opcodes: Vec<Opcode> = all.collect();
        if let Some(opcode) = opcodes.iter().find(|opcode| touches(opcode)) {
            return Err(format!("{name} still has `{opcode}`").into());
        }
        if !opcodes.contains(&Opcode::LogWords) || !opcodes.contains(&Opcode::Sstore) {
            return Err(format!("{name} neither logs nor stores: what was selected is not the function").into());
        }
        insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(format!("erc20_{name}"), part.to_string());
        });
    }
    Ok(())
}
