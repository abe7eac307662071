//! Stage 6, SSA: plan and liveness → IR.
//!
//! Each node of the plan becomes a block whose parameters are the live items of its entry stack, as words. Operands are
//! made where they are first read, so constants that only jumps used leave no trace. A call passes the live items of the
//! callee's entry stack and gets back what it must return; items that the callee leaves as they are stay with the caller.

use std::collections::BTreeMap;

use zvm_ir::{Block, BlockCall, Cursor, Data, Func, Function, Imm, Module, Opcode, Pc, TrapCode, Type, Value, Word};

use crate::decode::{Code, CodeBlock, Inst, PUSH32};
use crate::effects::End;
use crate::error::LiftError;
use crate::expr::Arena;
use crate::items::{Item, Items, Sink, walk};
use crate::liveness::{Liveness, Origin, Slots, origin};
use crate::plan::{Next, NodeId, Plan, PlanNode};
use crate::subset::{self, Lowering};
use crate::summaries::Leave;
use crate::witness::{BlockWitness, ExitWitness, FunctionWitness, Witness};

/// Writes the module.
pub(crate) fn build<'b>(
    code: &Code,
    plan: &Plan,
    arena: &Arena,
    liveness: &Liveness,
    block: impl Fn(NodeId) -> Option<&'b CodeBlock>,
    names: &BTreeMap<Pc, String>,
) -> Result<(Module, Witness), LiftError> {
    let reachable = plan.reachable();
    let mut module = Module::new();
    let mut funcs: BTreeMap<NodeId, Func> = BTreeMap::new();
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    for &entry in plan.functions.keys().filter(|entry| reachable.contains(entry)) {
        let pc = plan.nodes[entry as usize].pc;
        let base = match names.get(&pc) {
            _ if entry == 0 => "main".to_owned(),
            Some(name) => name.clone(),
            None => format!("fn_{pc:04x}"),
        };
        let count = taken.entry(base.clone()).or_default();
        *count += 1;
        let name = if *count == 1 { base } else { format!("{base}.{count}") };
        funcs.insert(entry, module.funcs.push(Function::new(name)));
    }
    module.entry = funcs.get(&0).copied();
    let mut segments = Segments { code, map: BTreeMap::new() };
    let mut witness = Witness {
        fork: code.fork(),
        creation: code.is_creation(),
        immutables: code.immutables.clone(),
        followed: code.followed.clone(),
        ..Witness::default()
    };
    for (&entry, &func) in &funcs {
        let signature = Signature::of(plan, liveness, entry);
        let mut function = Function::new(core::mem::take(&mut module.funcs[func].name));
        function.results.clone_from(&signature.results);
        function.stack = plan.stack.get(&entry).copied().unwrap_or_default();
        let mut nodes: Vec<NodeId> =
            reachable.iter().copied().filter(|&node| plan.nodes[node as usize].owner == entry).collect();
        nodes.sort_by_key(|&node| (node != entry, plan.nodes[node as usize].pc, node));
        let mut builder = Builder {
            plan,
            arena,
            liveness,
            funcs: &funcs,
            module: &mut module,
            segments: &mut segments,
            function: &mut function,
            blocks: BTreeMap::new(),
            params: BTreeMap::new(),
            exits: &signature,
        };
        builder.build(entry, &nodes, &block)?;
        let blocks = builder.blocks;
        let slots = |node: NodeId| liveness.live[node as usize].iter().copied().collect::<Vec<_>>();
        // Blocks are numbered in the order of the layout in the end.
        let nodes: BTreeMap<Block, NodeId> = blocks.into_iter().map(|(node, block)| (block, node)).collect();
        for (at, block) in (0u32..).zip(&function.layout) {
            if let Some(&node) = nodes.get(block) {
                let pc = plan.nodes[node as usize].pc;
                witness.blocks.insert((func, Block::from_u32(at)), BlockWitness { pc, params: slots(node) });
            }
        }
        let leaves = plan.functions.get(&entry).into_iter().flatten().enumerate();
        let results = |exit| liveness.results.get(&(entry, exit)).into_iter().flatten().copied().collect();
        let exits = leaves.map(|(exit, leave)| ExitWitness::new(arena, leave, results(exit))).collect();
        let PlanNode { pc, facts, .. } = &plan.nodes[entry as usize];
        witness.functions.insert(func, FunctionWitness::new(*pc, slots(entry), facts, exits));
        module.funcs[func] = function;
    }
    Ok((module.compact(), witness))
}

/// What a function returns.
struct Signature {
    results: Vec<Type>,
    /// Whether the first result is the number of the exit.
    numbered: bool,
}

impl Signature {
    fn of(plan: &Plan, liveness: &Liveness, entry: NodeId) -> Self {
        let exits = plan.functions.get(&entry).map_or(0, Vec::len);
        let numbered = exits > 1;
        let count = (0..exits).map(|exit| liveness.results.get(&(entry, exit)).map_or(0, Slots::len)).max();
        let mut results = vec![Type::WORD; count.unwrap_or(0)];
        if numbered {
            results.insert(0, exit_type(exits));
        }
        Self { results, numbered }
    }
}

/// The type of the number of the exit, the first result of functions with more than one.
fn exit_type(exits: usize) -> Type {
    Type::of(&Word::from(exits.saturating_sub(1)))
}

/// The data segments: the code, or the parts of it that are copied.
struct Segments<'a> {
    code: &'a Code,
    map: BTreeMap<(usize, usize), Data>,
}

impl Segments<'_> {
    /// The segment for `len` bytes at `from`, if they are inside the code; else the whole code. Gives the segment and
    /// whether it is the whole code.
    fn get(&mut self, module: &mut Module, from: Option<Word>, len: Option<Word>) -> (Data, bool) {
        let size = self.code.bytes.len();
        let part = from.zip(len).and_then(|(from, len)| {
            let (from, len) = (usize::try_from(from).ok()?, usize::try_from(len).ok()?);
            (len > 0 && from.checked_add(len)? <= size).then_some((from, len))
        });
        let (from, len) = part.unwrap_or((0, size));
        let code = self.code;
        let segment =
            *self.map.entry((from, len)).or_insert_with(|| module.data.push(code.bytes[from..from + len].to_vec()));
        (segment, part.is_none())
    }
}

struct Builder<'a, 'c, 'm> {
    plan: &'a Plan,
    arena: &'a Arena,
    liveness: &'a Liveness,
    funcs: &'a BTreeMap<NodeId, Func>,
    module: &'m mut Module,
    segments: &'m mut Segments<'c>,
    function: &'m mut Function,
    blocks: BTreeMap<NodeId, Block>,
    params: BTreeMap<NodeId, BTreeMap<u32, Value>>,
    exits: &'a Signature,
}

/// Where instructions are appended: the block of a node, or one that continues it on one of its edges.
struct Here<'p> {
    node: NodeId,
    block: Block,
    params: &'p BTreeMap<u32, Value>,
    /// The constants of this block by the instruction that pushed them.
    consts: BTreeMap<Pc, Value>,
    /// The target of the jump, where it decides between several.
    target: Option<Value>,
    pc: Option<Pc>,
}

type Stack = Items<Value>;

impl Builder<'_, '_, '_> {
    fn build<'b>(
        &mut self,
        entry: NodeId,
        nodes: &[NodeId],
        code: &impl Fn(NodeId) -> Option<&'b CodeBlock>,
    ) -> Result<(), LiftError> {
        let looped = nodes.iter().any(|&node| {
            let mut found = false;
            for next in &self.plan.nodes[node as usize].nexts {
                next.visit(&mut |to| found |= to == entry, &mut |_| {});
            }
            found
        });
        // Nobody may branch to the entry block of a function: a loop at its start gets a block of its own.
        let start = looped.then(|| self.function.create_block());
        for &node in nodes {
            let block = self.function.create_block();
            let slots = &self.liveness.live[node as usize];
            let params = slots.iter().map(|&slot| (slot, self.function.append_param(block, Type::WORD))).collect();
            self.blocks.insert(node, block);
            self.params.insert(node, params);
        }
        if let Some(start) = start {
            let count = self.params[&entry].len();
            let args: Vec<_> = (0..count).map(|_| self.function.append_param(start, Type::WORD)).collect();
            Cursor::new(self.function, start).jump(self.blocks[&entry], &args);
        }
        let mut layout: Vec<Block> = start.into_iter().collect();
        for &node in nodes {
            let before = self.function.layout.len();
            self.node(node, code(node))?;
            layout.push(self.blocks[&node]);
            layout.extend(&self.function.layout[before..]);
        }
        self.function.layout = layout;
        Ok(())
    }

    fn node(&mut self, node: NodeId, code: Option<&CodeBlock>) -> Result<(), LiftError> {
        let data = &self.plan.nodes[node as usize];
        let params = self.params[&node].clone();
        let block = self.blocks[&node];
        let consts = BTreeMap::new();
        let mut here = Here { node, block, params: &params, consts, target: None, pc: Some(data.pc) };
        if let Some((trap, pc)) = data.trap {
            here.pc = Some(pc);
            self.cursor(&here).trap(trap);
            return Ok(());
        }
        let code = code.ok_or(LiftError::Internal { pc: data.pc, what: "a block was not decoded" })?;
        let walked = walk(code, &data.facts, &mut Emit { builder: self, here: &mut here })?;
        here.pc = code.insts.last().map(|inst| inst.pc).or(Some(data.pc));
        if data.nexts.iter().any(|next| matches!(next, Next::Switch(..)))
            && let Some(target) = walked.target
        {
            here.target = Some(self.value(&mut here, target)?);
        }
        match &data.effect.end {
            End::Halt => {
                let halted = self.function.terminator(block).is_some();
                if !halted {
                    match code.insts.last() {
                        Some(inst) if inst.kind == crate::decode::Kind::Invalid => {
                            self.cursor(&here).trap(TrapCode::Invalid);
                        }
                        _ => {
                            self.cursor(&here).effect(Opcode::Stop, &[]);
                        }
                    }
                }
                Ok(())
            }
            End::Goto(_) => self.next(&mut here, &data.nexts[0], &walked.stack),
            End::Branch(_) => {
                let Some(condition) = walked.condition else {
                    return Err(LiftError::Internal { pc: data.pc, what: "a branch has no condition" });
                };
                let condition = self.value(&mut here, condition)?;
                let taken = self.branch(&mut here, &data.nexts[0], &walked.stack)?;
                let other = self.branch(&mut here, &data.nexts[1], &walked.stack)?;
                let mut cursor = self.cursor(&here);
                if cursor.func.ty(condition) == Type::BOOL {
                    cursor.brif(condition, taken, other);
                } else {
                    let zero = cursor.ins(Opcode::Iszero, &[condition]).map_err(|_| width(here.pc))?;
                    cursor.brif(zero, other, taken);
                }
                Ok(())
            }
        }
    }

    fn cursor(&mut self, here: &Here<'_>) -> Cursor<'_> {
        let mut cursor = Cursor::new(self.function, here.block);
        cursor.set_pc(here.pc);
        cursor
    }

    /// The value of an item, made now if it is a constant.
    fn value(&mut self, here: &mut Here<'_>, item: Item<Value>) -> Result<Value, LiftError> {
        match item {
            Item::Value(value) => Ok(value),
            Item::Entry(slot) => here
                .params
                .get(&slot)
                .copied()
                .ok_or(LiftError::Internal { pc: here.pc.unwrap_or(0), what: "an item that is read is not live" }),
            Item::Const(word, pc) => {
                if let Some(value) = pc.and_then(|pc| here.consts.get(&pc)) {
                    return Ok(*value);
                }
                let at = here.pc;
                here.pc = pc.or(at);
                let value = self.cursor(here).iconst(Type::of(&word), word);
                here.pc = at;
                if let Some(pc) = pc {
                    here.consts.insert(pc, value);
                }
                Ok(value)
            }
            Item::Dead => {
                Err(LiftError::Internal { pc: here.pc.unwrap_or(0), what: "a result that is read was not returned" })
            }
        }
    }

    /// The value of an item as a word, as parameters and results are.
    fn word(&mut self, here: &mut Here<'_>, item: Item<Value>) -> Result<Value, LiftError> {
        let value = self.value(here, item)?;
        Ok(self.cursor(here).zext(Type::WORD, value))
    }

    /// The target of a branch: a block, or a new one for what happens on the edge.
    fn branch(&mut self, here: &mut Here<'_>, next: &Next, stack: &Stack) -> Result<BlockCall, LiftError> {
        if let Next::Goto(to) = next {
            let args = self.args(here, *to, stack)?;
            return Ok(BlockCall { block: self.blocks[to], args });
        }
        let block = self.function.create_block();
        let mut there = Here { block, consts: BTreeMap::new(), ..*here };
        self.next(&mut there, next, stack)?;
        Ok(BlockCall { block, args: Vec::new() })
    }

    fn args(&mut self, here: &mut Here<'_>, to: NodeId, stack: &Stack) -> Result<Vec<Value>, LiftError> {
        let slots: Vec<_> = self.liveness.live[to as usize].iter().copied().collect();
        slots.into_iter().map(|slot| self.word(here, stack.get(slot))).collect()
    }

    /// Ends the block with what `next` says.
    fn next(&mut self, here: &mut Here<'_>, next: &Next, stack: &Stack) -> Result<(), LiftError> {
        match next {
            Next::Goto(to) => {
                let args = self.args(here, *to, stack)?;
                let block = self.blocks[to];
                self.cursor(here).jump(block, &args);
            }
            Next::Trap(code, pc) => {
                here.pc = Some(*pc);
                self.cursor(here).trap(*code);
            }
            Next::Never => {
                self.cursor(here).trap(TrapCode::Invalid);
            }
            Next::Switch(cases, bad) => {
                let target = here.target.ok_or(LiftError::Internal {
                    pc: here.pc.unwrap_or(0),
                    what: "a jump with several targets has no target",
                })?;
                for (pc, next) in cases {
                    let is_case = {
                        let mut cursor = self.cursor(here);
                        let number = cursor.iconst(Type::BOOL, Word::from(*pc));
                        cursor.ins(Opcode::Eq, &[target, number]).map_err(|_| width(here.pc))?
                    };
                    let taken = self.branch(here, next, stack)?;
                    let rest = self.function.create_block();
                    self.cursor(here).brif(is_case, taken, BlockCall { block: rest, args: Vec::new() });
                    here.block = rest;
                    here.consts.clear();
                }
                here.pc = Some(*bad);
                self.cursor(here).trap(TrapCode::BadJump);
            }
            Next::Ret(exit) => {
                let owner = self.plan.nodes[here.node as usize].owner;
                let mut results = Vec::new();
                if self.exits.numbered {
                    let exits = self.plan.functions.get(&owner).map_or(0, Vec::len);
                    results.push(self.cursor(here).iconst(exit_type(exits), Word::from(*exit)));
                }
                for &depth in self.liveness.results.get(&(owner, *exit)).into_iter().flatten() {
                    results.push(self.word(here, stack.get(depth))?);
                }
                while results.len() < self.exits.results.len() {
                    results.push(self.cursor(here).iconst(Type::WORD, Word::ZERO));
                }
                self.cursor(here).effect(Opcode::Ret, &results);
            }
            Next::Call { callee, then } => {
                let args = self.args(here, *callee, stack)?;
                let Some(&func) = self.funcs.get(callee) else {
                    return Err(LiftError::Internal { pc: here.pc.unwrap_or(0), what: "a callee is not a function" });
                };
                let signature = Signature::of(self.plan, self.liveness, *callee);
                let results = self.cursor(here).call(func, &args, &signature.results);
                let leaves = self.plan.functions.get(callee).map_or(&[][..], Vec::as_slice);
                let ways: Vec<_> = then.iter().enumerate().filter(|(_, next)| !matches!(next, Next::Never)).collect();
                let Some(((last, last_next), others)) = ways.split_last() else {
                    self.cursor(here).trap(TrapCode::Invalid);
                    return Ok(());
                };
                for (exit, next) in others {
                    let after = self.after(*callee, *exit, &leaves[*exit], &results, &signature, stack);
                    let is_exit = {
                        let mut cursor = self.cursor(here);
                        let number = cursor.iconst(Type::BOOL, Word::from(*exit));
                        cursor.ins(Opcode::Eq, &[results[0], number]).map_err(|_| width(here.pc))?
                    };
                    let taken = self.branch(here, next, &after)?;
                    let rest = self.function.create_block();
                    self.cursor(here).brif(is_exit, taken, BlockCall { block: rest, args: Vec::new() });
                    here.block = rest;
                    here.consts.clear();
                }
                let after = self.after(*callee, *last, &leaves[*last], &results, &signature, stack);
                self.next(here, last_next, &after)?;
            }
        }
        Ok(())
    }

    /// The stack after a call returned through an exit.
    fn after(
        &self,
        callee: NodeId,
        exit: usize,
        leave: &Leave,
        results: &[Value],
        signature: &Signature,
        stack: &Stack,
    ) -> Stack {
        let returned = self.liveness.results.get(&(callee, exit));
        let first = usize::from(signature.numbered);
        let items: Vec<_> = (0..leave.stack.len())
            .map(|depth| match origin(self.arena, leave, depth) {
                Origin::Caller(slot) => stack.get(slot),
                Origin::Const(word) => Item::Const(word, None),
                Origin::Result(depth) => returned
                    .and_then(|depths| depths.iter().position(|&d| d == depth))
                    .and_then(|at| results.get(first + at))
                    .map_or(Item::Dead, |&value| Item::Value(value)),
            })
            .collect();
        let mut after = stack.clone();
        after.replace(leave.stack.base, &items);
        after
    }
}

fn width(pc: Option<Pc>) -> LiftError {
    LiftError::Internal { pc: pc.unwrap_or(0), what: "the width rule of an instruction does not apply" }
}

/// Emits the instructions of a block.
struct Emit<'e, 'a, 'c, 'm, 'p> {
    builder: &'e mut Builder<'a, 'c, 'm>,
    here: &'e mut Here<'p>,
}

impl Sink for Emit<'_, '_, '_, '_, '_> {
    type Value = Value;
    type Error = LiftError;

    fn op(&mut self, inst: Inst, byte: u8, args: &[Item<Value>]) -> Result<Option<Value>, LiftError> {
        self.here.pc = Some(inst.pc);
        let row = subset::row_of(byte)
            .ok_or(LiftError::Internal { pc: inst.pc, what: "an opcode without a row was decoded" })?;
        let (opcode, segment) = match row.lowering {
            Lowering::Ins(opcode) | Lowering::Swapped(opcode) => (opcode, None),
            Lowering::Codecopy => {
                let constant = |item: Item<Value>| match item {
                    Item::Const(word, _) => Some(word),
                    Item::Entry(_) | Item::Value(_) | Item::Dead => None,
                };
                let parts = (constant(args[1]), constant(args[2]));
                let segment = self.builder.segments.get(self.builder.module, parts.0, parts.1);
                (Opcode::Datacopy, Some(segment))
            }
            // PUSH32 comes here only where deployment fills in its operand, which follows it.
            Lowering::None if byte == PUSH32 => return Ok(Some(self.builder.cursor(self.here).immutable(inst.pc + 1))),
            Lowering::None => return Ok(None),
        };
        let mut operands = Vec::with_capacity(args.len());
        for (at, &item) in args.iter().enumerate() {
            let item = match segment {
                // The segment starts where the copy does.
                Some((_, false)) if at == 1 => Item::Const(Word::ZERO, None),
                _ => item,
            };
            operands.push(self.builder.value(self.here, item)?);
        }
        if matches!(row.lowering, Lowering::Swapped(_)) {
            operands.reverse();
        }
        let mut cursor = self.builder.cursor(self.here);
        if let Some((data, _)) = segment {
            cursor.datacopy(data, &operands);
            return Ok(None);
        }
        if opcode.info().rule == zvm_ir::Rule::None {
            cursor.effect_imm(opcode, Imm::None, &operands);
            return Ok(None);
        }
        cursor.ins(opcode, &operands).map(Some).map_err(|_| width(Some(inst.pc)))
    }
}
