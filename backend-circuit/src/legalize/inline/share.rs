//! `share-calls`: functions that are called from several places are parts of the caller that are entered with a return label.
//!
//! Does: gives each function of `shared`, whose body is in the caller already, one entry and one exit. A call becomes a jump to the
//! entry with the arguments, a number that names the call, and every value that is live across it; the exit branches on the number,
//! back to the block after the call, and hands these values back. Functions of a recursion are [`super::recursion`]'s.
//! Requires: bodies that are entered by nothing yet and end in `ret`; `shared` with callers before callees.
//! Ensures: no call of a shared function is left; SSA, with parameters where what is handed back meets what was there.
//! Preserves: equality of `Outcome`.
//!
//! Values live across calls have places by type, so that two calls share a place only if its type is the same, and no value changes
//! its width on the way. They are parameters of the entry, not of the blocks inside, so that the function's regions keep them where
//! they are. Constants and extensions have no place: they are made again where they are used.
//!
//! ```text
//!     v1 = call @f(v0)         jump f(v0, 0, v9)        f(v2, label, place): …
//!     use v9              ⟶    after0(v1, v9'):         exit(v3): v4 = iszero label
//!     v5 = call @f(v1)         use v9' …                brif v4, after0(v3, place), after1(v3)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;
use zvm_ir::cfg::Cfg;
use zvm_ir::{Block, BlockCall, Func, Function, Imm, Inst, InstData, Opcode, Pc, Type, Value, ValueDef, Word};

use super::recursion::{self, Recursion};

/// A function whose body is in the caller.
#[derive(Clone, Debug)]
pub(in crate::legalize) struct Body {
    /// The function.
    pub(in crate::legalize) callee: Func,
    /// Its blocks, the entry first.
    pub(in crate::legalize) blocks: Vec<Block>,
}

/// What is joined at once.
#[derive(Clone, Debug)]
pub(in crate::legalize) enum Group {
    /// A function that does not call itself.
    Shared(Body),
    /// Functions that call each other, or one that calls itself.
    Recursion(Recursion),
}

impl Group {
    /// The functions.
    pub(super) fn bodies(&self) -> &[Body] {
        match self {
            Self::Shared(body) => core::slice::from_ref(body),
            Self::Recursion(recursion) => &recursion.bodies,
        }
    }
}

/// What values share a place: those of one type that are all places in storage, or all are not.
type Class = (Type, bool);

/// A call, cut out of its block. Until it is joined with the body, the block before it ends in a jump to the block after it
/// that uses the arguments of the call, so that liveness sees a call as what it is to the caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    pub(super) before: Block,
    pub(super) after: Block,
    pub(super) jump: Inst,
}

/// Runs the pass. `is_place` tells the values that are places in storage, as far as they are known; the parameters of `kept` are left.
pub(in crate::legalize) fn run(
    func: &mut Function,
    shared: &[Group],
    kept: Option<Block>,
    is_place: impl Fn(Value) -> bool,
) {
    if shared.is_empty() {
        return;
    }
    let mut ends: BTreeMap<Func, Vec<Block>> = BTreeMap::new();
    let bodies = || shared.iter().flat_map(Group::bodies);
    for body in bodies() {
        let entry = body.blocks.first().copied().into_iter();
        ends.insert(body.callee, returns(func, &reachable(func, entry)));
    }
    remake_constants(func);
    let mut sites: BTreeMap<Func, Vec<Site>> = bodies().map(|body| (body.callee, Vec::new())).collect();
    cut_calls(func, &mut sites);
    // A returning block was cut as well if it called: its end is in the last piece.
    for blocks in ends.values_mut() {
        for block in blocks {
            while let Some(site) = sites.values().flatten().find(|site| site.before == *block) {
                *block = site.after;
            }
        }
    }
    let mut words = 0;
    for group in shared {
        let mut joints = |body: &Body| {
            (ends.remove(&body.callee).unwrap_or_default(), sites.remove(&body.callee).unwrap_or_default())
        };
        match group {
            Group::Shared(body) => {
                let (ends, calls) = joints(body);
                if let Some(&entry) = body.blocks.first() {
                    join(func, entry, &ends, &calls, &is_place);
                }
            }
            Group::Recursion(recursion) => {
                let joints = recursion.bodies.iter().map(joints).collect();
                words = recursion::join(func, recursion, joints, words);
            }
        }
        drop_redundant_params(func, kept);
    }
}

pub(super) fn reachable(func: &Function, from: impl Iterator<Item = Block>) -> BTreeSet<Block> {
    let mut seen: BTreeSet<Block> = BTreeSet::new();
    let mut work: Vec<Block> = from.collect();
    while let Some(block) = work.pop() {
        if seen.insert(block) {
            work.extend(func.targets(block).iter().map(|target| target.block));
        }
    }
    seen
}

fn returns(func: &Function, blocks: &BTreeSet<Block>) -> Vec<Block> {
    let is_return = |block: &Block| func.terminator(*block).is_some_and(|end| func.insts[end].opcode == Opcode::Ret);
    blocks.iter().copied().filter(is_return).collect()
}

/// Makes constants and extensions again in each block that uses those of another.
fn remake_constants(func: &mut Function) {
    for block in func.layout.clone() {
        let mut made: BTreeMap<Value, Value> = BTreeMap::new();
        let mut own: BTreeSet<Value> = BTreeSet::new();
        let mut insts = Vec::new();
        for inst in func.blocks[block].insts.clone() {
            own.extend(&func.insts[inst].results);
            for value in func.insts[inst].uses().collect::<Vec<_>>() {
                remake(func, value, &own, &mut made, &mut insts);
            }
            func.insts[inst].map_uses(|value| made.get(&value).copied().unwrap_or(value));
            insts.push(inst);
        }
        func.blocks[block].insts = insts;
    }
}

/// A copy of the constant or extension `value` at the end of `insts`, if the block has not its own.
fn remake(
    func: &mut Function,
    value: Value,
    own: &BTreeSet<Value>,
    made: &mut BTreeMap<Value, Value>,
    insts: &mut Vec<Inst>,
) {
    // From the value to what it extends; then back, copying what is of another block.
    let mut chain = Vec::new();
    let mut at = value;
    while let Some(inst) = func.def_inst(at).filter(|_| !own.contains(&at) && !made.contains_key(&at)) {
        let data = &func.insts[inst];
        match (data.opcode, data.args.first()) {
            (Opcode::Iconst, _) => {
                chain.push((at, inst));
                break;
            }
            (Opcode::Zext, Some(&inner)) => {
                chain.push((at, inst));
                at = inner;
            }
            _ => break,
        }
    }
    for (value, inst) in chain.into_iter().rev() {
        let mut data = func.insts[inst].clone();
        data.map_uses(|value| made.get(&value).copied().unwrap_or(value));
        let ty = func.ty(value);
        let copy = func.create_inst(data, &[ty]);
        insts.push(copy);
        made.extend(func.insts[copy].result().map(|result| (value, result)));
    }
}

/// Cuts blocks after their calls of shared functions.
fn cut_calls(func: &mut Function, sites: &mut BTreeMap<Func, Vec<Site>>) {
    let mut work: Vec<Block> = func.layout.iter().rev().copied().collect();
    while let Some(block) = work.pop() {
        let callee = |inst: Inst| match func.insts[inst].imm {
            Imm::Func(callee) if func.insts[inst].opcode == Opcode::Call && sites.contains_key(&callee) => Some(callee),
            _ => None,
        };
        let call = func.blocks[block].insts.iter().enumerate().find_map(|(at, &inst)| Some((at, callee(inst)?)));
        let Some((at, callee)) = call else { continue };
        let rest = func.blocks[block].insts.split_off(at);
        let after = func.create_block();
        func.blocks[after].insts.extend(rest.iter().skip(1));
        let Some(&call) = rest.first() else { continue };
        let InstData { results, args, pc, .. } = func.insts[call].clone();
        for (at, &value) in results.iter().enumerate() {
            func.values[value].def = ValueDef::Param(after, at);
        }
        func.blocks[after].params = results;
        let targets = vec![BlockCall { block: after, args: Vec::new() }];
        let jump = func.create_inst(InstData { args, ..jump(targets, pc) }, &[]);
        func.blocks[block].insts.push(jump);
        if let Some(list) = sites.get_mut(&callee) {
            list.push(Site { before: block, after, jump });
        }
        work.push(after);
    }
}

/// Joins the calls of a function with its body.
fn join(func: &mut Function, entry: Block, ends: &[Block], calls: &[Site], is_place: &dyn Fn(Value) -> bool) {
    let homes = homes(func);
    let preds = preds(func);
    let live = live_in(func, &preds, &homes);
    let across: Vec<Vec<Value>> =
        calls.iter().map(|site| live.get(&site.after).into_iter().flatten().copied().collect()).collect();
    // A place for each value that is live across a call: as many of a class as one call needs.
    let class = |func: &Function, value: Value| (func.ty(value), is_place(value));
    let classes = needed(&across, |value| class(func, value));
    let label_type = Type::of(&Word::from(calls.len().saturating_sub(1)));
    let label = func.append_param(entry, label_type);
    let places: Vec<(Class, Value)> = classes.iter().map(|&class| (class, func.append_param(entry, class.0))).collect();
    let placed: Vec<Vec<(Value, usize)>> =
        across.iter().map(|values| place(values, &classes, |value| class(func, value))).collect();

    // The exit, and the way back from it.
    let exit = join_ends(func, ends, calls);
    let results = func.blocks[exit].params.clone();
    let back = |index: usize| {
        let kept = placed[index].iter().map(|&(_, at)| places[at].1);
        BlockCall { block: calls[index].after, args: results.iter().copied().chain(kept).collect() }
    };
    let mut at = exit;
    for index in 0..calls.len() {
        let pc = func.insts[calls[index].jump].pc;
        if index + 1 == calls.len() {
            let jump = jump(vec![back(index)], pc);
            let jump = func.create_inst(jump, &[]);
            func.blocks[at].insts.push(jump);
            break;
        }
        let next = func.create_block();
        let number = constant(func, at, label_type, Word::from(index), pc);
        let is_this = InstData { opcode: Opcode::Eq, args: vec![label, number], ..jump(Vec::new(), pc) };
        let is_this = func.create_inst(is_this, &[Type::BOOL]);
        let condition = func.insts[is_this].results.clone();
        let targets = vec![back(index), BlockCall { block: next, args: Vec::new() }];
        let branch = InstData { opcode: Opcode::Brif, args: condition, ..jump(targets, pc) };
        let branch = func.create_inst(branch, &[]);
        func.blocks[at].insts.extend([is_this, branch]);
        at = next;
    }

    // The way there. Which definition of a value that is, if another call handed it back, `rename` says.
    for (index, site) in calls.iter().enumerate() {
        func.blocks[site.before].insts.pop();
        let InstData { mut args, pc, .. } = func.insts[site.jump].clone();
        args.push(constant(func, site.before, label_type, Word::from(index), pc));
        for (at, &((ty, _), _)) in places.iter().enumerate() {
            let value = placed[index].iter().find(|(_, place)| *place == at).map(|(value, _)| *value);
            args.push(match value {
                Some(value) => value,
                None => constant(func, site.before, ty, Word::ZERO, pc),
            });
        }
        let there = func.create_inst(jump(vec![BlockCall { block: entry, args }], pc), &[]);
        func.blocks[site.before].insts.push(there);
    }
    let mut defs: BTreeMap<Value, BTreeMap<Block, Value>> = BTreeMap::new();
    for (site, placed) in calls.iter().zip(&placed) {
        for &(value, _) in placed {
            let ty = func.ty(value);
            let again = func.append_param(site.after, ty);
            defs.entry(value).or_default().insert(site.after, again);
        }
    }
    rename(func, &preds, &live, &homes, &defs);
}

/// A block, still empty, to which what returns goes on with the results.
pub(super) fn join_ends(func: &mut Function, ends: &[Block], calls: &[Site]) -> Block {
    let exit = func.create_block();
    let results = calls.first().map(|site| func.blocks[site.after].params.clone()).unwrap_or_default();
    for value in results {
        let ty = func.ty(value);
        func.append_param(exit, ty);
    }
    for &end in ends {
        if let Some(inst) = func.terminator(end) {
            let data = &mut func.insts[inst];
            data.opcode = Opcode::Jump;
            data.targets = vec![BlockCall { block: exit, args: core::mem::take(&mut data.args) }];
        }
    }
    exit
}

/// The classes of the places that any of these lists needs: as many of each as the list with the most.
pub(super) fn needed<'a, C: Copy + Ord>(
    lists: impl IntoIterator<Item = &'a Vec<Value>>,
    class: impl Fn(Value) -> C,
) -> Vec<C> {
    let mut needed: BTreeMap<C, usize> = BTreeMap::new();
    for values in lists {
        let mut count: BTreeMap<C, usize> = BTreeMap::new();
        values.iter().for_each(|&value| *count.entry(class(value)).or_insert(0) += 1);
        for (class, count) in count {
            let most = needed.entry(class).or_insert(0);
            *most = count.max(*most);
        }
    }
    needed.into_iter().flat_map(|(class, count)| std::iter::repeat_n(class, count)).collect()
}

/// The place of each value among those of its class.
pub(super) fn place<C: PartialEq>(values: &[Value], places: &[C], class: impl Fn(Value) -> C) -> Vec<(Value, usize)> {
    let mut taken = vec![false; places.len()];
    let mut placed = Vec::with_capacity(values.len());
    for &value in values {
        let free = (0..places.len()).find(|&at| !taken[at] && places[at] == class(value));
        if let Some(at) = free {
            taken[at] = true;
            placed.push((value, at));
        }
    }
    placed
}

/// Where each value is defined.
pub(super) fn homes(func: &Function) -> SecondaryMap<Value, Option<Block>> {
    let mut homes = SecondaryMap::new();
    for &block in &func.layout {
        func.blocks[block].params.iter().for_each(|&value| homes[value] = Some(block));
        for &inst in &func.blocks[block].insts {
            func.insts[inst].results.iter().for_each(|&value| homes[value] = Some(block));
        }
    }
    homes
}

/// The values that are live at the beginning of each block and defined in another.
pub(super) fn live_in(
    func: &Function,
    preds: &BTreeMap<Block, Vec<Block>>,
    homes: &SecondaryMap<Value, Option<Block>>,
) -> BTreeMap<Block, BTreeSet<Value>> {
    let mut live: BTreeMap<Block, BTreeSet<Value>> = BTreeMap::new();
    for &block in &func.layout {
        let uses = func.blocks[block].insts.iter().flat_map(|&inst| func.insts[inst].uses().collect::<Vec<_>>());
        let mut work: Vec<(Block, Value)> = uses.map(|value| (block, value)).collect();
        while let Some((block, value)) = work.pop() {
            if homes[value] == Some(block) || !live.entry(block).or_default().insert(value) {
                continue;
            }
            work.extend(preds.get(&block).into_iter().flatten().map(|&pred| (pred, value)));
        }
    }
    live
}

pub(super) fn preds(func: &Function) -> BTreeMap<Block, Vec<Block>> {
    let mut preds: BTreeMap<Block, Vec<Block>> = BTreeMap::new();
    for &block in &func.layout {
        func.targets(block).iter().for_each(|target| preds.entry(target.block).or_default().push(block));
    }
    preds
}

/// Gives each use of a value with several definitions the one that reaches it. `preds` and `live` are those of the caller, to which a
/// call goes on in the block after it.
pub(super) fn rename(
    func: &mut Function,
    preds: &BTreeMap<Block, Vec<Block>>,
    live: &BTreeMap<Block, BTreeSet<Value>>,
    homes: &SecondaryMap<Value, Option<Block>>,
    defs: &BTreeMap<Value, BTreeMap<Block, Value>>,
) {
    for (&value, again) in defs {
        let ty = func.ty(value);
        let Some(home) = homes[value] else { continue };
        let blocks: Vec<Block> = func
            .layout
            .iter()
            .copied()
            .filter(|block| live.get(block).is_some_and(|values| values.contains(&value)))
            .collect();
        // What reaches the beginning of each block in which the value is live: what was handed back, a new parameter where
        // ways meet, or what reaches the end of the only block before.
        let mut at_start: BTreeMap<Block, Value> = BTreeMap::new();
        let mut merged: Vec<Block> = Vec::new();
        for &block in &blocks {
            if let Some(&handed) = again.get(&block) {
                at_start.insert(block, handed);
            } else if preds.get(&block).is_none_or(|preds| preds.len() != 1) {
                at_start.insert(block, func.append_param(block, ty));
                merged.push(block);
            }
        }
        let reaching = |at_start: &BTreeMap<Block, Value>, from: Block| -> Option<Value> {
            let mut block = from;
            // At most as many steps as there are blocks: each goes to the only block before.
            for _ in 0..=blocks.len() {
                if block == home {
                    return Some(value);
                }
                if let Some(&found) = at_start.get(&block) {
                    return Some(found);
                }
                block = preds.get(&block)?.first().copied()?;
            }
            None
        };
        let mut reached: BTreeMap<Block, Value> = BTreeMap::new();
        for &block in &blocks {
            if let Some(found) = reaching(&at_start, block) {
                reached.insert(block, found);
            }
        }
        for &block in &blocks {
            let Some(&found) = reached.get(&block) else { continue };
            for inst in func.blocks[block].insts.clone() {
                func.insts[inst].map_uses(|used| if used == value { found } else { used });
            }
        }
        // The new parameters get what reaches the end of each block before. (No call is before one: what follows a call has one
        // block before it.)
        for &block in &merged {
            for &pred in preds.get(&block).into_iter().flatten().collect::<BTreeSet<_>>() {
                let found = if pred == home { Some(value) } else { reached.get(&pred).copied() };
                let (Some(found), Some(end)) = (found, func.terminator(pred)) else { continue };
                for target in func.insts[end].targets.iter_mut().filter(|target| target.block == block) {
                    target.args.push(found);
                }
            }
        }
    }
}

/// Drops parameters that are always given the same value, or themselves, of all blocks but `kept`.
fn drop_redundant_params(func: &mut Function, kept: Option<Block>) {
    loop {
        let cfg = Cfg::new(func);
        let mut given: BTreeMap<Value, Option<Value>> = BTreeMap::new();
        let mut several: BTreeSet<Value> = BTreeSet::new();
        for &block in &func.layout {
            for target in func.targets(block).iter().filter(|target| Some(target.block) != kept) {
                for (&param, &arg) in func.blocks[target.block].params.iter().zip(&target.args) {
                    match given.get(&param) {
                        _ if arg == param => {}
                        None | Some(None) => {
                            given.insert(param, Some(arg));
                        }
                        Some(&Some(other)) if other == arg => {}
                        Some(_) => {
                            several.insert(param);
                        }
                    }
                }
            }
        }
        let homes = homes(func);
        // One at a time where they depend on each other: the first is replaced, the others wait for the next round.
        let mut replaced: BTreeMap<Value, Value> = BTreeMap::new();
        let mut used: BTreeSet<Value> = BTreeSet::new();
        for (param, arg) in given {
            let Some(arg) = arg.filter(|_| !several.contains(&param)) else { continue };
            let (Some(home), Some(of)) = (homes[param], homes[arg]) else { continue };
            let fits = func.ty(arg) == func.ty(param) && of != home && cfg.dominates(of, home);
            if fits && !replaced.contains_key(&arg) && !used.contains(&param) {
                replaced.insert(param, arg);
                used.insert(arg);
            }
        }
        if replaced.is_empty() {
            return;
        }
        let params: SecondaryMap<Block, Vec<Value>> = {
            let mut map = SecondaryMap::new();
            func.layout.iter().for_each(|&block| map[block] = func.blocks[block].params.clone());
            map
        };
        func.retain_params(|block, at| params[block].get(at).is_none_or(|param| !replaced.contains_key(param)));
        func.map_uses(|value| replaced.get(&value).copied().unwrap_or(value));
    }
}

fn jump(targets: Vec<BlockCall>, pc: Option<Pc>) -> InstData {
    InstData { opcode: Opcode::Jump, imm: Imm::None, args: Vec::new(), targets, results: Vec::new(), pc }
}

fn constant(func: &mut Function, block: Block, ty: Type, word: Word, pc: Option<Pc>) -> Value {
    let data = InstData { opcode: Opcode::Iconst, imm: Imm::Word(word), ..jump(Vec::new(), pc) };
    let inst = func.create_inst(data, &[ty]);
    func.blocks[block].insts.push(inst);
    func.insts[inst].results[0]
}
