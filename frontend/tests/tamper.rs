//! A lift that says something else than the bytecode is caught: each instruction, argument and target of lifted programs is
//! altered in turn, and the checker must notice every alteration that can matter.

mod oracle;

use std::collections::BTreeSet;

use oracle::assemble;
use zvm_frontend::{CheckErrorKind, LiftOptions, Lifted, check_lift, lift};
use zvm_ir::{Func, Imm, Inst, Module, Opcode, Value, Word};

const RETURN: &str = "0 MSTORE 32 0 RETURN";

/// Programs with loops, calls, calls that return in two ways, tables, stores, and copies of code.
fn programs() -> Vec<Vec<u8>> {
    let text = [
        format!(
            "0 CALLDATALOAD 0 1 :top DUP3 ISZERO @end JUMPI DUP2 ADD SWAP1 SWAP2 1 SWAP1 SUB SWAP2 @top JUMP :end POP {RETURN}"
        ),
        format!(
            "@a 0 CALLDATALOAD 7 @f JUMP :a @b 32 CALLDATALOAD 9 @f JUMP :b SUB {RETURN}
             :f DUP1 DUP3 SSTORE SWAP1 SUB SWAP1 JUMP"
        ),
        format!(
            "@yes @no 0 CALLDATALOAD @choose JUMP :yes 1 {RETURN} :no
             @yes2 @no2 32 CALLDATALOAD @choose JUMP :yes2 2 {RETURN} :no2 3 {RETURN}
             :choose @left JUMPI SWAP1 POP JUMP :left POP JUMP"
        ),
        format!(
            "@r 0 CALLDATALOAD @try JUMP :r @r2 32 CALLDATALOAD @try JUMP :r2 ADD {RETURN}
             :try DUP1 ISZERO @failed JUMPI 1 ADD 1 @meet JUMP
             :failed POP 0 :meet @success JUMPI 77 SWAP1 JUMP :success SWAP1 JUMP"
        ),
        "5 3 0 CODECOPY 64 CALLDATALOAD 32 CALLDATALOAD DUP2 8 0 LOG1 GT @x JUMPI 8 0 RETURN :x 8 0 REVERT".to_owned(),
        format!(
            "2 0 CALLDATALOAD 3 SWAP1 MOD 2 MUL 51 ADD 30 CODECOPY 0 MLOAD JUMP
             :a 11 {RETURN} :b 32 CALLDATALOAD {RETURN} :c 0 0 REVERT"
        ),
    ];
    let mut codes: Vec<Vec<u8>> = text.iter().map(|text| assemble(text)).collect();
    if let Some(table) = codes.last_mut() {
        let len = table.len();
        let labels: Vec<u16> = (0..len).filter(|&at| table[at] == 0x5b).map(|at| at as u16).collect();
        // The table starts where the code ends.
        let place = table.iter().position(|&byte| byte == 51).expect("the start of the table");
        table[place] = len as u8;
        table.extend(labels.iter().flat_map(|label| label.to_be_bytes()));
    }
    codes
}

fn lifted(code: &[u8]) -> Lifted {
    let lifted = lift(code, &LiftOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    check_lift(code, &lifted).unwrap_or_else(|errors| panic!("{}\n{}", errors[0], lifted.module));
    lifted
}

/// The values that something depends on: nobody needs to notice what happens to others.
fn needed(module: &Module, func: Func) -> BTreeSet<Value> {
    let function = &module.funcs[func];
    let mut needed: BTreeSet<Value> = BTreeSet::new();
    let mut pending: Vec<Value> = Vec::new();
    for (_, inst) in function.insts_in_order() {
        let data = &function.insts[inst];
        if !data.opcode.is_pure() || data.opcode.is_terminator() {
            pending.extend(data.uses());
        }
    }
    while let Some(value) = pending.pop() {
        if needed.insert(value)
            && let Some(inst) = function.def_inst(value)
        {
            pending.extend(function.insts[inst].uses());
        }
    }
    needed
}

/// An alteration of one instruction; gives nothing where it does not apply.
type Alter = fn(&mut Module, Func, Inst) -> Option<()>;

fn exchange_operands(module: &mut Module, func: Func, inst: Inst) -> Option<()> {
    let function = &mut module.funcs[func];
    let args = function.insts[inst].args.clone();
    let (&[a, b, ..], false) = (&args[..], function.insts[inst].opcode == Opcode::Ret) else { return None };
    let same = a == b || (function.constant(a).is_some() && function.constant(a) == function.constant(b));
    if same {
        return None;
    }
    function.insts[inst].args.swap(0, 1);
    Some(())
}

fn exchange_targets(module: &mut Module, func: Func, inst: Inst) -> Option<()> {
    let data = &mut module.funcs[func].insts[inst];
    (data.targets.len() == 2 && data.targets[0] != data.targets[1]).then(|| data.targets.swap(0, 1))
}

/// Another constant as the last argument.
fn another_argument(module: &mut Module, func: Func, inst: Inst) -> Option<()> {
    let function = &mut module.funcs[func];
    let block = function.layout.iter().copied().find(|&block| function.blocks[block].insts.contains(&inst))?;
    let data = &function.insts[inst];
    let at = data.targets.iter().position(|target| !target.args.is_empty());
    if at.is_none() && (data.args.is_empty() || data.opcode.is_pure() || data.opcode == Opcode::Brif) {
        return None;
    }
    let data = zvm_ir::InstData {
        opcode: Opcode::Iconst,
        imm: Imm::Word(Word::from(0xabcdef)),
        args: Vec::new(),
        targets: Vec::new(),
        results: Vec::new(),
        pc: None,
    };
    let constant = function.create_inst(data, &[zvm_ir::Type::WORD]);
    let value = function.insts[constant].results[0];
    let place = function.blocks[block].insts.iter().position(|&other| other == inst)?;
    function.blocks[block].insts.insert(place, constant);
    let data = &mut function.insts[inst];
    match at {
        Some(at) => *data.targets[at].args.last_mut()? = value,
        None => *data.args.last_mut()? = value,
    }
    Some(())
}

fn another_constant(module: &mut Module, func: Func, inst: Inst) -> Option<()> {
    match &mut module.funcs[func].insts[inst].imm {
        Imm::Word(word) => {
            *word ^= Word::from(2);
            Some(())
        }
        _ => None,
    }
}

fn drop_effect(module: &mut Module, func: Func, inst: Inst) -> Option<()> {
    let function = &mut module.funcs[func];
    let data = &function.insts[inst];
    if data.opcode.is_pure() || data.opcode.is_terminator() || !data.results.is_empty() {
        return None;
    }
    // A call is an effect as well.
    function.blocks.values_mut().for_each(|block| block.insts.retain(|&other| other != inst));
    Some(())
}

fn repeat_effect(module: &mut Module, func: Func, inst: Inst) -> Option<()> {
    let function = &mut module.funcs[func];
    let data = function.insts[inst].clone();
    if data.opcode.is_pure() || data.opcode.is_terminator() || !data.results.is_empty() {
        return None;
    }
    let copy = function.create_inst(data, &[]);
    let block = function.layout.iter().copied().find(|&block| function.blocks[block].insts.contains(&inst))?;
    let place = function.blocks[block].insts.iter().position(|&other| other == inst)?;
    function.blocks[block].insts.insert(place, copy);
    Some(())
}

fn another_pc(module: &mut Module, func: Func, inst: Inst) -> Option<()> {
    let data = &mut module.funcs[func].insts[inst];
    if data.opcode.is_pure() || data.opcode.is_terminator() || data.opcode == Opcode::Call {
        return None;
    }
    data.pc = data.pc.map(|pc| pc + 1);
    Some(())
}

const ALTERATIONS: &[(&str, Alter)] = &[
    ("operands are exchanged", exchange_operands),
    ("targets are exchanged", exchange_targets),
    ("another argument", another_argument),
    ("another constant", another_constant),
    ("an effect is dropped", drop_effect),
    ("an effect is repeated", repeat_effect),
    ("another pc", another_pc),
];

#[test]
fn every_alteration_is_noticed() {
    let mut counts = vec![0; ALTERATIONS.len()];
    for code in programs() {
        let original = lifted(&code);
        for (func, function) in original.module.funcs.iter() {
            let needed = needed(&original.module, func);
            for (_, inst) in function.insts_in_order() {
                let data = &function.insts[inst];
                if data.opcode.is_pure() && !data.results.iter().any(|value| needed.contains(value)) {
                    continue;
                }
                for (&(what, alter), count) in ALTERATIONS.iter().zip(&mut counts) {
                    let mut altered = original.clone();
                    if alter(&mut altered.module, func, inst).is_none() {
                        continue;
                    }
                    *count += 1;
                    assert!(
                        check_lift(&code, &altered).is_err(),
                        "{what} at @{} {} is not noticed\n{}",
                        function.name,
                        data.opcode,
                        altered.module
                    );
                }
            }
        }
    }
    println!("{counts:?}");
    assert!(counts.iter().all(|&count| count >= 5), "{counts:?}");
}

/// The bytecode may not be another one either.
#[test]
fn altered_bytecode_is_noticed() {
    for code in programs() {
        let original = lifted(&code);
        for at in 0..code.len() {
            let mut altered = code.clone();
            // What is a jump target decides nothing but where control may go.
            altered[at] = altered[at].wrapping_add(1);
            let same = lift(&altered, &LiftOptions::default()).is_ok_and(|lifted| {
                lifted.module.to_string() == original.module.to_string() && lifted.edges == original.edges
            });
            assert!(same || check_lift(&altered, &original).is_err(), "byte {at} of {code:02x?}\n{}", original.module);
        }
    }
}

#[test]
fn errors_say_what_is_wrong() {
    let code = assemble("7 3 SSTORE STOP");
    let mut lifted = lifted(&code);
    let func = lifted.module.entry.expect("an entry");
    let store = lifted.module.funcs[func]
        .insts_in_order()
        .find(|&(_, inst)| lifted.module.funcs[func].insts[inst].opcode == Opcode::Sstore);
    exchange_operands(&mut lifted.module, func, store.expect("a store").1);
    let errors = check_lift(&code, &lifted).expect_err("it is altered");
    assert_eq!(errors.len(), 1);
    assert!(matches!(errors[0].kind, CheckErrorKind::Effect { .. }));
    assert_eq!(
        errors[0].to_string(),
        "@main block0 at pc 0x0004: the bytecode has `@0004 sstore 0x3 0x7`, the IR has `@0004 sstore 0x7 0x3`"
    );
}
