//! Edits that passes share: values replaced by others, and widths brought back in line with the table.

use cranelift_entity::SecondaryMap;

use crate::cfg::Cfg;
use crate::entities::{Block, Inst, Value};
use crate::function::{BlockCall, Function, Imm, InstData, Pc};
use crate::opcode::{Opcode, Rule};
use crate::passes::Context;
use crate::types::Type;
use crate::work::look;

/// Values to be replaced by others that are the same integer. The new one may be narrower, never wider.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    to: SecondaryMap<Value, Option<Value>>,
    any: bool,
}

impl Aliases {
    /// Replaces every use of `from` by `to`.
    pub(crate) fn set(&mut self, from: Value, to: Value) {
        let to = self.resolve(to);
        debug_assert!(from != to, "{from} replaced by itself");
        self.to[from] = Some(to);
        self.any = true;
    }

    /// What to use for `value`. Shortens the chains it walks.
    pub(crate) fn resolve(&mut self, value: Value) -> Value {
        let mut last = value;
        while let Some(next) = self.to[last] {
            look(1);
            last = next;
        }
        let mut walk = value;
        while let Some(next) = self.to[walk] {
            self.to[walk] = Some(last);
            walk = next;
        }
        last
    }

    /// Rewrites all uses; whether there was anything to replace.
    pub(crate) fn apply(mut self, func: &mut Function) -> bool {
        if self.any {
            func.map_uses(|value| self.resolve(value));
        }
        self.any
    }
}

/// The block that defines each value.
pub(crate) fn homes(func: &Function) -> SecondaryMap<Value, Option<Block>> {
    let mut home: SecondaryMap<Value, Option<Block>> = SecondaryMap::new();
    for &block in &func.layout {
        for &param in &func.blocks[block].params {
            home[param] = Some(block);
        }
        for &inst in &func.blocks[block].insts {
            for &result in &func.insts[inst].results {
                home[result] = Some(block);
            }
        }
    }
    home
}

/// Makes an instruction with one result, in no block yet.
pub(crate) fn new_inst(
    func: &mut Function,
    opcode: Opcode,
    imm: Imm,
    args: &[Value],
    ty: Type,
    pc: Option<Pc>,
) -> (Inst, Value) {
    let data = InstData { opcode, imm, args: args.to_vec(), targets: Vec::new(), results: Vec::new(), pc };
    let inst = func.create_inst(data, &[ty]);
    (inst, func.insts[inst].results[0])
}

/// Makes an instruction whose operands decide the width of its result; `None` if they cannot.
pub(crate) fn derived_inst(
    func: &mut Function,
    opcode: Opcode,
    args: &[Value],
    pc: Option<Pc>,
) -> Option<(Inst, Value)> {
    let types: Vec<Type> = args.iter().map(|&value| func.ty(value)).collect();
    let ty = opcode.result_type(&types).ok()??;
    Some(new_inst(func, opcode, Imm::None, args, ty, pc))
}

/// Makes a jump, in no block yet.
pub(crate) fn new_jump(func: &mut Function, target: BlockCall, pc: Option<Pc>) -> Inst {
    let data = InstData {
        opcode: Opcode::Jump,
        imm: Imm::None,
        args: Vec::new(),
        targets: vec![target],
        results: Vec::new(),
        pc,
    };
    func.create_inst(data, &[])
}

/// Removes the blocks that cannot be reached; whether there were any.
pub(crate) fn remove_unreachable(func: &mut Function, cfg: &Cfg) -> bool {
    let before = func.layout.len();
    func.layout.retain(|&block| cfg.is_reachable(block));
    func.layout.len() != before
}

/// Puts a block on every edge from a block with several successors to a block with several predecessors.
pub(crate) fn split_critical_edges(func: &mut Function) -> bool {
    let mut edges: SecondaryMap<Block, u32> = SecondaryMap::new();
    for &block in &func.layout {
        for target in func.targets(block) {
            edges[target.block] += 1;
        }
    }
    let mut layout = Vec::with_capacity(func.layout.len());
    let blocks = std::mem::take(&mut func.layout);
    let before = blocks.len();
    for block in blocks {
        layout.push(block);
        let Some(inst) = func.terminator(block) else { continue };
        if func.insts[inst].targets.len() < 2 {
            continue;
        }
        for at in 0..func.insts[inst].targets.len() {
            if edges[func.insts[inst].targets[at].block] < 2 {
                continue;
            }
            let middle = func.blocks.push(Default::default());
            let call = BlockCall { block: middle, args: Vec::new() };
            let target = std::mem::replace(&mut func.insts[inst].targets[at], call);
            let pc = func.insts[inst].pc;
            let jump = new_jump(func, target, pc);
            func.blocks[middle].insts.push(jump);
            layout.push(middle);
        }
    }
    func.layout = layout;
    func.layout.len() != before
}

/// Recomputes the width of every result after operands became narrower, and puts `zext` where a branch, a call or `ret`
/// asks for a wider value than there now is. Removes unreachable blocks first.
pub(crate) fn settle_widths(func: &mut Function, cx: &Context) {
    let cfg = Cfg::new(func);
    remove_unreachable(func, &cfg);
    for &block in cfg.reverse_postorder() {
        let mut insts = Vec::with_capacity(func.blocks[block].insts.len());
        for inst in std::mem::take(&mut func.blocks[block].insts) {
            settle(func, cx, inst, &mut insts);
            insts.push(inst);
        }
        func.blocks[block].insts = insts;
    }
}

fn settle(func: &mut Function, cx: &Context, inst: Inst, before: &mut Vec<Inst>) {
    let opcode = func.insts[inst].opcode;
    let types: Vec<Type> = func.insts[inst].args.iter().map(|&value| func.ty(value)).collect();
    match opcode.info().rule {
        Rule::Shrink => {
            let result = func.insts[inst].results[0];
            if types[0] < func.ty(result) {
                func.insts[inst].opcode = Opcode::Zext;
            }
        }
        Rule::None | Rule::Constant | Rule::Widen | Rule::Callee => {}
        Rule::Fixed(_)
        | Rule::First
        | Rule::Second
        | Rule::Min
        | Rule::Max
        | Rule::MaxOfLast
        | Rule::MaxPlusOne
        | Rule::Sum => {
            if let (Ok(Some(ty)), Some(result)) = (opcode.result_type(&types), func.insts[inst].result()) {
                func.values[result].ty = ty;
            }
        }
    }
    match (opcode, func.insts[inst].imm) {
        (Opcode::Call, Imm::Func(callee)) => {
            for (at, &ty) in cx.params(callee).iter().enumerate() {
                let value = func.insts[inst].args[at];
                func.insts[inst].args[at] = converted(func, value, ty, inst, before);
            }
        }
        (Opcode::Ret, _) => {
            for at in 0..func.results.len() {
                let (value, ty) = (func.insts[inst].args[at], func.results[at]);
                func.insts[inst].args[at] = converted(func, value, ty, inst, before);
            }
        }
        _ => {}
    }
    for target in 0..func.insts[inst].targets.len() {
        let block = func.insts[inst].targets[target].block;
        for at in 0..func.blocks[block].params.len() {
            let ty = func.ty(func.blocks[block].params[at]);
            let value = func.insts[inst].targets[target].args[at];
            func.insts[inst].targets[target].args[at] = converted(func, value, ty, inst, before);
        }
    }
}

/// `value` in the type `ty`. A wider value is the same integer as one that had the type, so it fits.
fn converted(func: &mut Function, value: Value, ty: Type, user: Inst, before: &mut Vec<Inst>) -> Value {
    let from = func.ty(value);
    if from == ty {
        return value;
    }
    let pc = func.insts[user].pc;
    let (inst, result) = match func.constant(value).filter(|word| ty.holds(word)) {
        Some(word) => new_inst(func, Opcode::Iconst, Imm::Word(word), &[], ty, pc),
        None => {
            let opcode = if from < ty { Opcode::Zext } else { Opcode::Narrow };
            new_inst(func, opcode, Imm::None, &[value], ty, pc)
        }
    };
    before.push(inst);
    result
}
