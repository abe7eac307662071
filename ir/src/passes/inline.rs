//! `inline`: calls replaced by the body of the callee.
//!
//! *Does*: walks the call graph from callees to callers and inlines calls of functions that are not recursive and are
//! called once, or for which the cost model says that the price of the call is worth the room of the body, while the caller and
//! the module stay within a budget. A circuit has no calls, so that for it everything that is not recursive is inlined while
//! the budget lasts: memory and widths are then seen whole.
//! *Requires*: nothing. *Ensures*: nothing about calls that are left.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: bottom-up inlining by size, as in Cranelift's inliner: the block is cut at the call, the callee's `ret`
//! becomes a jump to the rest, whose parameters are the call's results.
//!
//! ```text
//! v1 = call @f(v0); stop   →   jump block1(v0); block1(v2): … jump block2(v3); block2(v1): stop
//! ```

use cranelift_entity::{PrimaryMap, SecondaryMap};

use crate::cfg::CallGraph;
use crate::cost::{CostModel, Operand, room_of_function};
use crate::entities::{Block, Func, Inst, Value};
use crate::function::{BlockCall, BlockData, Function, Imm, Module, ValueDef};
use crate::opcode::Opcode;
use crate::passes::Context;

/// How many instructions are copied in one module: chains of calls would otherwise make the sum of all functions grow
/// with the square of their number.
const COPIED: usize = 200_000;

/// Runs the pass.
pub fn run(module: &mut Module, cx: &mut Context) -> bool {
    let graph = CallGraph::new(module);
    let costs = cx.costs();
    let mut sizes: SecondaryMap<Func, Size> = SecondaryMap::new();
    for (func, function) in &module.funcs {
        sizes[func] = Size::of(costs, function);
    }
    let mut changed = false;
    let mut left = COPIED;
    for caller in graph.components().iter().flatten().copied() {
        let wanted = |callee: Func, sizes: &SecondaryMap<Func, Size>| {
            let Size { insts, room, price_of_call, room_of_call } = sizes[callee];
            let is_worth = costs.is_worth(price_of_call, room.saturating_sub(room_of_call));
            (is_worth || graph.call_sites(callee) == 1)
                && sizes[caller].insts + insts <= costs.largest_function()
                && !graph.is_recursive(callee)
                && callee != caller
        };
        changed |= inline_calls(&mut module.funcs, caller, &mut sizes, &mut left, wanted);
    }
    changed
}

/// How large a function is, and what each call of it costs.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    insts: usize,
    room: u64,
    price_of_call: u64,
    room_of_call: u64,
}

impl Size {
    fn of(costs: &dyn CostModel, function: &Function) -> Self {
        let params: Vec<Operand> = function.param_types().into_iter().map(Operand::Value).collect();
        Self {
            insts: function.layout.iter().map(|&block| function.blocks[block].insts.len()).sum(),
            room: room_of_function(costs, function),
            price_of_call: costs.call(params.len(), function.results.len()),
            room_of_call: costs.room(Opcode::Call, &params),
        }
    }
}

fn inline_calls(
    funcs: &mut PrimaryMap<Func, Function>,
    caller: Func,
    sizes: &mut SecondaryMap<Func, Size>,
    left: &mut usize,
    wanted: impl Fn(Func, &SecondaryMap<Func, Size>) -> bool,
) -> bool {
    let mut changed = false;
    let mut function = std::mem::take(&mut funcs[caller]);
    let mut layout = Vec::with_capacity(function.layout.len());
    // Blocks still to be looked at, the next one last. What follows an inlined call comes back here; the inlined body
    // does not, because its own calls were decided when the callee was the caller.
    let mut work: Vec<Block> = function.layout.iter().rev().copied().collect();
    while let Some(block) = work.pop() {
        layout.push(block);
        let found = function.blocks[block].insts.iter().enumerate().find_map(|(at, &inst)| {
            match (function.insts[inst].opcode, function.insts[inst].imm) {
                (Opcode::Call, Imm::Func(callee)) if sizes[callee].insts <= *left && wanted(callee, sizes) => {
                    Some((at, callee))
                }
                _ => None,
            }
        });
        if let Some((at, callee)) = found {
            let rest = splice(&mut function, block, at, &funcs[callee], &mut layout);
            sizes[caller].insts += sizes[callee].insts;
            sizes[caller].room = sizes[caller].room.saturating_add(sizes[callee].room);
            *left -= sizes[callee].insts;
            work.push(rest);
            changed = true;
        }
    }
    function.layout = layout;
    funcs[caller] = function;
    changed
}

/// Replaces the call at position `at` of `block` by a copy of `callee`, whose blocks go to `layout`; the block with what
/// followed the call.
fn splice(function: &mut Function, block: Block, at: usize, callee: &Function, layout: &mut Vec<Block>) -> Block {
    let rest_insts = function.blocks[block].insts.split_off(at + 1);
    let rest = function.blocks.push(BlockData { params: Vec::new(), insts: rest_insts });
    let call = function.blocks[block].insts.pop().map(|inst| function.insts[inst].clone()).unwrap_or_else(empty_call);
    // The call's results live on as the parameters of the rest, so that their uses need no change.
    for (place, &value) in call.results.iter().enumerate() {
        function.values[value].def = ValueDef::Param(rest, place);
    }
    function.blocks[rest].params.clone_from(&call.results);

    let mut blocks: SecondaryMap<Block, Option<Block>> = SecondaryMap::new();
    let mut values: SecondaryMap<Value, Option<Value>> = SecondaryMap::new();
    for &old in &callee.layout {
        let new = function.blocks.push(BlockData::default());
        layout.push(new);
        blocks[old] = Some(new);
        for &param in &callee.blocks[old].params {
            values[param] = Some(function.append_param(new, callee.ty(param)));
        }
    }
    let mut copies: Vec<Inst> = Vec::new();
    for (&old, new) in callee.layout.iter().filter_map(|old| blocks[*old].map(|new| (old, new))) {
        for &inst in &callee.blocks[old].insts {
            let mut data = callee.insts[inst].clone();
            let results = std::mem::take(&mut data.results);
            let types: Vec<_> = results.iter().map(|&value| callee.ty(value)).collect();
            if data.opcode == Opcode::Ret {
                data.opcode = Opcode::Jump;
                data.targets = vec![BlockCall { block: rest, args: std::mem::take(&mut data.args) }];
            } else {
                for target in &mut data.targets {
                    target.block = blocks[target.block].unwrap_or(target.block);
                }
            }
            let copy = function.create_inst(data, &types);
            for (&old, &new) in results.iter().zip(&function.insts[copy].results) {
                values[old] = Some(new);
            }
            function.blocks[new].insts.push(copy);
            copies.push(copy);
        }
    }
    for inst in copies {
        function.insts[inst].map_uses(|value| values[value].unwrap_or(value));
    }
    let Some(entry) = callee.entry().and_then(|entry| blocks[entry]) else { return rest };
    let jump = crate::passes::edit::new_jump(function, BlockCall { block: entry, args: call.args }, call.pc);
    function.blocks[block].insts.push(jump);
    rest
}

fn empty_call() -> crate::InstData {
    crate::InstData {
        opcode: Opcode::Call,
        imm: Imm::None,
        args: Vec::new(),
        targets: Vec::new(),
        results: Vec::new(),
        pc: None,
    }
}
