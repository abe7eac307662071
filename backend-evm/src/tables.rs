//! Long constants that are used often come from a table in the code.
//!
//! Does: where bytes count and memory has a place that the program cannot see, the long constants of a function become a
//! data segment, which one CODECOPY brings to that place before the first of them is used; each use is an MLOAD. That is three or four
//! bytes where a PUSH32 has 33, and three gas more.
//! Requires: a legalized module, and a memory plan with a place for what is spilled. Ensures: a verified, legalized module, and a
//! plan whose place for spills lies behind the tables.
//! Preserves: equality of `Outcome`.

use std::collections::BTreeMap;

use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, Func, Function, Imm, Inst, Module, Opcode, Type, Word};

use crate::memory::{MAX_STATIC, MemoryPlan};
use crate::shared::{home, push};
use crate::{Options, constant};

/// Bytes and gas of bringing a table to its place, memory aside: two PUSH1, a PUSH2, a SWAP or PUSH0, CODECOPY.
const COPY: (i64, i64) = (9, 18);
/// The most constants in the table of a function: each makes memory larger by a word.
const LONGEST: usize = 64;

/// Makes tables for the functions of a module; whether there were any to make.
pub(crate) fn tabulate(module: &mut Module, plan: &mut MemoryPlan, options: &Options) -> bool {
    let mut changed = false;
    let funcs: Vec<Func> = module.funcs.keys().collect();
    for func in funcs {
        let Some(base) = plan.spill_base.filter(|&base| base < MAX_STATIC) else { break };
        let function = &module.funcs[func];
        let cfg = Cfg::new(function);
        let table = table(function, &cfg, base, options);
        let blocks: Vec<Block> = function.layout.iter().copied().filter(|&at| uses(function, at, &table)).collect();
        let Some(home) = home(&cfg, &blocks) else { continue };
        let bytes: Vec<u8> = table.iter().flat_map(|word| word.to_be_bytes::<32>()).collect();
        plan.spill_base = Some(base + bytes.len() as u64);
        let len = bytes.len() as u64;
        let data = module.data.push(bytes);
        let function = &mut module.funcs[func];
        for block in blocks {
            load(function, block, &table, base);
        }
        bring(function, home, Imm::Data(data), base, len);
        changed = true;
    }
    changed
}

/// The constants of a function that are worth a place in its table, those that save most first.
fn table(function: &Function, cfg: &Cfg, base: u64, options: &Options) -> Vec<Word> {
    let address = constant::materialize(Word::from(base + 32), options.fork, options.optimize);
    // What each constant saves, in sixteenths of a byte: a byte is worth four gas of what is done once in a function.
    let mut saved: BTreeMap<Word, i64> = BTreeMap::new();
    for &block in cfg.reverse_postorder() {
        for &inst in &function.blocks[block].insts {
            for word in function.insts[inst].args.iter().filter_map(|&arg| function.constant(arg)) {
                let pushed = constant::materialize(word, options.fork, options.optimize);
                let bytes = pushed.code.len() as i64 - address.code.len() as i64 - 1;
                let gas = i64::from(address.gas) + 3 - i64::from(pushed.gas);
                *saved.entry(word).or_insert(-16 * 32) += 16 * bytes - ((4 * gas) << (3 * depth(cfg, block)).min(30));
            }
        }
    }
    let mut found: Vec<(i64, Word)> =
        saved.into_iter().filter(|&(saved, _)| saved > 0).map(|(word, saved)| (saved, word)).collect();
    found.sort_unstable_by(|a, b| b.cmp(a));
    found.truncate(LONGEST);
    let all: i64 = found.iter().map(|&(saved, _)| saved).sum();
    if all <= 16 * COPY.0 + 4 * (COPY.1 + 6 * found.len() as i64) {
        found.clear();
    }
    found.into_iter().map(|(_, word)| word).collect()
}

/// How many loops are around a block.
fn depth(cfg: &Cfg, block: Block) -> u32 {
    let mut depth = 0;
    let mut around = cfg.innermost_loop(block);
    while let Some(natural) = around.and_then(|at| cfg.loops().get(at)) {
        depth += 1;
        around = natural.parent;
    }
    depth
}

/// Whether a block uses a word of the table.
fn uses(function: &Function, block: Block, table: &[Word]) -> bool {
    let args = function.blocks[block].insts.iter().flat_map(|&inst| &function.insts[inst].args);
    args.filter_map(|&arg| function.constant(arg)).any(|word| table.contains(&word))
}

/// Lets the instructions of a block load the words of the table, each right before it uses it.
fn load(function: &mut Function, block: Block, table: &[Word], base: u64) {
    let insts = core::mem::take(&mut function.blocks[block].insts);
    let mut out: Vec<Inst> = Vec::with_capacity(insts.len());
    for inst in insts {
        for at in 0..function.insts[inst].args.len() {
            let arg = function.insts[inst].args[at];
            let Some(place) = function.constant(arg).and_then(|word| table.iter().position(|&other| other == word))
            else {
                continue;
            };
            let ty = function.ty(arg);
            let address = Word::from(base + 32 * place as u64);
            let address = push(function, &mut out, Opcode::Iconst, Imm::Word(address), &[], Type::of(&address), inst);
            let word = push(function, &mut out, Opcode::Mload, Imm::None, &[address], Type::WORD, inst);
            let word = match ty == Type::WORD {
                true => word,
                false => push(function, &mut out, Opcode::Narrow, Imm::None, &[word], ty, inst),
            };
            function.insts[inst].args[at] = word;
        }
        out.push(inst);
    }
    function.blocks[block].insts = out;
}

/// Copies the table to its place at the start of a block.
fn bring(function: &mut Function, home: Block, data: Imm, base: u64, len: u64) {
    let Some(&first) = function.blocks[home].insts.first() else { return };
    let mut made: Vec<Inst> = Vec::new();
    let args = [base, 0, len].map(|word| {
        let word = Word::from(word);
        push(function, &mut made, Opcode::Iconst, Imm::Word(word), &[], Type::of(&word), first)
    });
    let pc = function.insts[first].pc;
    let copy = zvm_ir::InstData {
        opcode: Opcode::Datacopy,
        imm: data,
        args: args.to_vec(),
        targets: Vec::new(),
        results: Vec::new(),
        pc,
    };
    made.push(function.create_inst(copy, &[]));
    function.blocks[home].insts.splice(0..0, made);
}
