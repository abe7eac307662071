//! The rule about GAS: what depends on it may reach the gas operand of a call, and nothing else.
//!
//! Checked on the IR, by following GAS forward through pure instructions, block parameters, calls and returns.

use std::collections::BTreeSet;

use zvm_ir::{Effects, Func, Imm, Module, Opcode, Pc, Value};

/// The places where something that depends on GAS is used for anything but the gas of a call.
pub(crate) fn misuses(module: &Module) -> BTreeSet<Pc> {
    let uses_gas = |(func, function): (Func, &zvm_ir::Function)| {
        let _ = func;
        function.insts_in_order().any(|(_, inst)| function.insts[inst].opcode == Opcode::Gas)
    };
    if !module.funcs.iter().any(uses_gas) {
        return BTreeSet::new();
    }
    let mut tainted: BTreeSet<(Func, Value)> = BTreeSet::new();
    let mut results: BTreeSet<(Func, usize)> = BTreeSet::new();
    let mut misuses = BTreeSet::new();
    loop {
        let before = (tainted.len(), results.len());
        for (func, function) in module.funcs.iter() {
            for (_, inst) in function.insts_in_order() {
                let data = &function.insts[inst];
                let pc = data.pc.unwrap_or(0);
                if data.opcode.effects().has(Effects::READS_GAS) {
                    tainted.extend(data.results.iter().map(|&value| (func, value)));
                }
                for target in &data.targets {
                    let params = &function.blocks[target.block].params;
                    for (&arg, &param) in target.args.iter().zip(params) {
                        if tainted.contains(&(func, arg)) {
                            tainted.insert((func, param));
                        }
                    }
                }
                if let Imm::Func(callee) = data.imm {
                    for (at, &value) in data.results.iter().enumerate() {
                        if results.contains(&(callee, at)) {
                            tainted.insert((func, value));
                        }
                    }
                }
                for (at, &arg) in data.args.iter().enumerate() {
                    if !tainted.contains(&(func, arg)) {
                        continue;
                    }
                    match (data.opcode, data.imm) {
                        (Opcode::Call, Imm::Func(callee)) => {
                            let target = &module.funcs[callee];
                            let param = target.entry().and_then(|block| target.blocks[block].params.get(at).copied());
                            tainted.extend(param.map(|param| (callee, param)));
                        }
                        (Opcode::Ret, _) => {
                            results.insert((func, at));
                        }
                        (
                            Opcode::EvmCall | Opcode::EvmCallcode | Opcode::EvmDelegatecall | Opcode::EvmStaticcall,
                            _,
                        ) if at == 0 => {}
                        (opcode, _) if opcode.is_pure() => {
                            tainted.extend(data.results.iter().map(|&value| (func, value)));
                        }
                        _ => {
                            misuses.insert(pc);
                        }
                    }
                }
            }
        }
        if before == (tainted.len(), results.len()) {
            return misuses;
        }
    }
}
