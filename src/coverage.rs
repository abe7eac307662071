//! What of a contract's interface can be proved: its functions, one by one.
//!
//! A function is looked at as the program that the contract is while calldata begin with its selector: what the optimiser leaves of
//! that has no path into another function. What the circuit refuses of it is what keeps proofs from some calls of the function.

use std::collections::BTreeSet;

use alloy_json_abi::{Function as AbiFunction, JsonAbi};
use zvm_backend_circuit::legalize::Unprovable;
use zvm_backend_circuit::program::Program as CircuitProgram;
use zvm_ir::passes::Goal;
use zvm_ir::{Imm, InstData, Module, Opcode, Type, Word};

use crate::Error;
use crate::input::Contract;
use crate::program::{Program, lift_contract};

/// A function of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// As the interface has it: `transfer(address,uint256)`.
    pub signature: String,
    /// The first four bytes of its calldata.
    pub selector: [u8; 4],
    /// Whether it may call another account, or create one: `CALL` and its family, `CREATE`, `CREATE2`.
    pub reaches_accounts: bool,
    /// Where it does what circuits do not, in order. Calls that do not come there can be proved.
    pub unprovable: Vec<Unprovable>,
}

impl Covered {
    /// Whether every call of the function can be proved.
    pub fn is_provable(&self) -> bool {
        self.unprovable.is_empty()
    }
}

/// The functions of `abi`, in the order of their signatures, as the contract implements them.
///
/// # Errors
/// When the bytecode is outside the subset of the L1 ring, or a backend contradicts itself.
pub fn coverage(contract: &Contract, abi: &JsonAbi) -> Result<Vec<Covered>, Error> {
    let module = lift_contract(contract)?.module;
    // A constant that is worked out once the selector is known need not be one of the program that is proved.
    let whole: BTreeSet<Unprovable> = Program::of_module(module.clone()).circuit()?.unprovable().into_iter().collect();
    let mut functions: Vec<&AbiFunction> = abi.functions().collect();
    functions.sort_by_key(|function| function.signature());
    functions.into_iter().map(|function| covered(&module, &whole, function)).collect()
}

fn covered(module: &Module, whole: &BTreeSet<Unprovable>, function: &AbiFunction) -> Result<Covered, Error> {
    let selector = function.selector().0;
    let mut module = module.clone();
    begin_with(&mut module, selector);
    let optimized = Program::of_module(module).optimized(Goal::Circuit)?;
    let reaches_accounts = optimized
        .funcs
        .values()
        .any(|func| func.insts_in_order().any(|(_, inst)| runs_other_code(func.insts[inst].opcode)));
    let mut unprovable = CircuitProgram::compile(&optimized)?.unprovable();
    unprovable.retain(|exit| whole.iter().any(|other| (other.pc, other.reason) == (exit.pc, exit.reason)));
    Ok(Covered { signature: function.signature(), selector, reaches_accounts, unprovable })
}

/// Whether an instruction may run the code of another account.
fn runs_other_code(opcode: Opcode) -> bool {
    matches!(
        opcode,
        Opcode::EvmCall
            | Opcode::EvmCallcode
            | Opcode::EvmDelegatecall
            | Opcode::EvmStaticcall
            | Opcode::EvmCreate
            | Opcode::EvmCreate2
    )
}

/// Makes the calldata begin with four bytes: what is read there says so, whatever it is.
fn begin_with(module: &mut Module, selector: [u8; 4]) {
    let word = Word::from(u32::from_be_bytes(selector)) << 224;
    for func in module.funcs.values_mut() {
        for block in func.layout.clone() {
            for inst in core::mem::take(&mut func.blocks[block].insts) {
                let data = func.insts[inst].clone();
                // What is read, which bits of it are kept, and those that are known to be one.
                let known = match (data.opcode, data.args.as_slice()) {
                    (Opcode::Calldataload, &[at]) if func.constant(at) == Some(Word::ZERO) => {
                        Some((Word::MAX >> 32, word))
                    }
                    // Four bytes or more.
                    (Opcode::Calldatasize, []) => Some((Word::MAX, Word::from(4))),
                    _ => None,
                };
                if let (Some((kept, ones)), Some(result)) = (known, data.result()) {
                    let ty = func.ty(result);
                    let mut add = |opcode, args, imm, ty: Type| {
                        let data =
                            InstData { opcode, args, imm, results: Vec::new(), targets: Vec::new(), pc: data.pc };
                        let inst = func.create_inst(data, &[ty]);
                        func.blocks[block].insts.push(inst);
                        func.insts[inst].result()
                    };
                    let read = add(data.opcode, data.args.clone(), data.imm, ty);
                    let kept = add(Opcode::Iconst, Vec::new(), Imm::Word(kept & ty.max_value()), ty);
                    let masked = add(Opcode::And, read.into_iter().chain(kept).collect(), Imm::None, ty);
                    let ones = add(Opcode::Iconst, Vec::new(), Imm::Word(ones), ty);
                    let data = &mut func.insts[inst];
                    (data.opcode, data.imm) = (Opcode::Or, Imm::None);
                    data.args = masked.into_iter().chain(ones).collect();
                }
                func.blocks[block].insts.push(inst);
            }
        }
    }
}
