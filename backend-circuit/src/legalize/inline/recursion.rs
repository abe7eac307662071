//! `recursion`: functions that call themselves or each other keep what they need after a call on a stack of frames.
//!
//! Does: what [`super::share`] does for a function, for those of a recursion together. A call stores every value that is live across it in a
//! frame (`frame_store`) and jumps to the entry with the arguments, a number that names the call, and how many functions of the recursion are
//! active then; the exit branches on the number, and the block after the call loads what was stored. A call from outside has the
//! frame before those of the recursion. Where more functions would be active than the EVM's stack is sure to hold, the way ends in a
//! call that is left, which no proof may reach.
//! Requires: as `share`. Ensures: no call of the recursion is left, but on such ways.
//! Preserves: equality of `Outcome`, where the recursion is not too deep.
//!
//! Each value has a word of the frame of its own, so that what is known of what a word of all frames holds is what is known of the
//! value: how narrow it is, and where in a word of memory it points. The label of an
//! activation is one of these values where the activation goes on after a call; its depth is not, for what returns knows it.
//!
//! ```text
//! func @f(v0):                   f(v0, label, depth):
//!     v1 = …                         v1 = …; frame_store 2 · depth, v1; frame_store 2 · depth + 1, label
//!     v2 = call @f(v1)       ⟶       brif depth < limit, f(v1, 1, depth + 1), (too deep)
//!     use v1, v2                 after1(v2, depth'): v1' = frame_load 2 · depth', …; use v1', v2
//!     ret v2                     exit(v3): brif label = 0, after0(v3), after1(v3, depth − 1)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use zvm_ir::interp::CALL_DEPTH_LIMIT;
use zvm_ir::{
    Block, BlockCall, Func, Function, Imm, InstData, Module, Opcode, Pc, STACK_LIMIT, TrapCode, Type, Value, Word,
};

use super::Body;
use super::share::{Site, homes, join_ends, live_in, needed, place, preds, reachable, rename};
use crate::legalize::emit::Emit;
use crate::legalize::exits::instruction;

/// How many words all frames have together.
pub(crate) const FRAME_WORDS: u64 = 1 << 20;

/// The functions of a recursion.
#[derive(Clone, Debug)]
pub(in crate::legalize) struct Recursion {
    /// Its functions.
    pub(in crate::legalize) bodies: Vec<Body>,
    /// How many of them may be active at once.
    pub(in crate::legalize) limit: u32,
}

/// How many functions of a recursion may be active at once, where up to `nested` recursions call each other: then no execution of the
/// bytecode overflows its stack.
pub(super) fn limit(module: &Module, main: Func, funcs: &[Func], nested: u32) -> u32 {
    let peak = module.funcs.values().map(|function| function.stack.peak).max().unwrap_or(0);
    let each = funcs.iter().map(|&func| module.funcs[func].stack.below).max().unwrap_or(0).max(1);
    let words = STACK_LIMIT.saturating_sub(module.funcs[main].stack.below.saturating_add(peak));
    // Nothing is above the last one but its peak.
    let most = if nested > 1 { words / nested / each } else { words / each + 1 };
    most.min(CALL_DEPTH_LIMIT as u32 - 1)
}

/// One of the functions, while its calls are joined with it.
struct Part {
    entry: Block,
    exit: Block,
    label: Value,
    depth: Value,
    calls: Vec<Site>,
    /// Its blocks.
    inside: BTreeSet<Block>,
}

/// What a function's calls are joined with: its blocks that end in `ret`, and the calls.
pub(super) type Joints = (Vec<Block>, Vec<Site>);

/// Joins the calls of the functions with their bodies; `joints` are theirs in order. The first free word of frames is `first`; gives
/// the next one.
pub(super) fn join(func: &mut Function, recursion: &Recursion, joints: Vec<Joints>, first: u64) -> u64 {
    let limit = Word::from(recursion.limit);
    let depth_type = Type::of(&(limit + Word::from(1)));
    let mut parts = Vec::with_capacity(joints.len());
    for (body, (ends, calls)) in recursion.bodies.iter().zip(joints) {
        let Some(&entry) = body.blocks.first().filter(|_| !calls.is_empty()) else { continue };
        let label = func.append_param(entry, Type::of(&Word::from(calls.len() - 1)));
        let depth = func.append_param(entry, depth_type);
        let exit = exit(func, &ends, &calls, [label, depth]);
        let inside = reachable(func, [entry].into_iter());
        parts.push(Part { entry, exit, label, depth, calls, inside });
    }
    let homes = homes(func);
    let preds = preds(func);
    let live = live_in(func, &preds, &homes);
    // What each call keeps, and in which word of its frame.
    let owner = |site: &Site| parts.iter().position(|part| part.inside.contains(&site.before));
    let kept = |site: &Site| {
        let depth = owner(site).map(|owner| parts[owner].depth);
        let live = live.get(&site.after).into_iter().flatten().copied();
        live.filter(|&value| Some(value) != depth).collect()
    };
    let across: Vec<Vec<Vec<Value>>> = parts.iter().map(|part| part.calls.iter().map(kept).collect()).collect();
    let words: Vec<Value> = needed(across.iter().flatten(), |value| value);
    let next = first + (u64::from(recursion.limit) + 1) * words.len() as u64;
    if recursion.limit == 0 || next >= FRAME_WORDS {
        parts.iter().for_each(|part| part.calls.iter().for_each(|site| leave(func, site)));
        return first;
    }
    let mut defs: BTreeMap<Value, BTreeMap<Block, Value>> = BTreeMap::new();
    for (part, across) in parts.iter().zip(&across) {
        let mut handed = Vec::with_capacity(part.calls.len());
        for (index, (site, values)) in part.calls.iter().zip(across).enumerate() {
            let owner = owner(site).map(|owner| parts[owner].depth);
            let placed = place(values, &words, |value| value);
            let InstData { mut args, pc, .. } = func.insts[site.jump].clone();
            func.blocks[site.before].insts.pop();
            let frames = Frames { first, len: words.len() };
            frames.keep(&mut Emit { func, block: site.before, pc }, owner, &placed);
            let label_type = func.ty(part.label);
            args.push(Emit { func, block: site.before, pc }.typed_constant(label_type, Word::from(index)));
            enter(func, part, site, args, owner, (limit, pc));
            // What comes back.
            let rest = core::mem::take(&mut func.blocks[site.after].insts);
            let depth = owner.map(|depth| {
                let again = func.append_param(site.after, depth_type);
                defs.entry(depth).or_default().insert(site.after, again);
                again
            });
            for (value, again) in frames.take(&mut Emit { func, block: site.after, pc }, depth, &placed) {
                defs.entry(value).or_default().insert(site.after, again);
            }
            func.blocks[site.after].insts.extend(rest);
            handed.push(depth.is_some());
        }
        dispatch(func, part, &handed);
    }
    rename(func, &preds, &live, &homes, &defs);
    next
}

/// The block to which what returned goes on. Until the calls are known, it returns what it needs of the activation.
fn exit(func: &mut Function, ends: &[Block], calls: &[Site], kept: [Value; 2]) -> Block {
    let exit = join_ends(func, ends, calls);
    let end = InstData { args: kept.to_vec(), ..instruction(Opcode::Ret, Imm::None, None) };
    let end = func.create_inst(end, &[]);
    func.blocks[exit].insts.push(end);
    exit
}

/// The frames of a recursion: so many words each, from a first one on.
#[derive(Clone, Copy)]
struct Frames {
    first: u64,
    len: usize,
}

impl Frames {
    /// The number of the first word of the frame at `depth`, the frame of the caller outside if there is none, less that of all frames.
    fn number(self, emit: &mut Emit<'_>, depth: Option<Value>) -> Value {
        let Some(depth) = depth else { return emit.constant(0u64) };
        let len = emit.constant(self.len as u64);
        let number = emit.op(Opcode::Mul, &[depth, len]);
        // It is below the number of all words, which its factors may not show.
        match Type::new(FRAME_WORDS.ilog2() as u16) {
            Some(ty) if emit.func.ty(number) > ty => emit.typed(Opcode::Narrow, &[number], ty),
            _ => number,
        }
    }

    fn imm(self, at: usize) -> Imm {
        Imm::Word(Word::from(self.first + at as u64))
    }

    /// Stores values in the frame at `depth`.
    fn keep(self, emit: &mut Emit<'_>, depth: Option<Value>, placed: &[(Value, usize)]) {
        if placed.is_empty() {
            return;
        }
        let number = self.number(emit, depth);
        for &(value, at) in placed {
            emit.immediate(Opcode::FrameStore, self.imm(at), &[number, value], None);
        }
    }

    /// Loads them again: each with what it is then.
    fn take(self, emit: &mut Emit<'_>, depth: Option<Value>, placed: &[(Value, usize)]) -> Vec<(Value, Value)> {
        if placed.is_empty() {
            return Vec::new();
        }
        let number = self.number(emit, depth);
        let load = |&(value, at): &(Value, usize)| {
            let loaded = emit.immediate(Opcode::FrameLoad, self.imm(at), &[number], Some(Type::WORD))?;
            let ty = emit.func.ty(value);
            let again = if ty == Type::WORD { loaded } else { emit.typed(Opcode::Narrow, &[loaded], ty) };
            Some((value, again))
        };
        placed.iter().filter_map(load).collect()
    }
}

/// Ends a block in the way to the entry of the function it calls.
fn enter(
    func: &mut Function,
    part: &Part,
    site: &Site,
    mut args: Vec<Value>,
    owner: Option<Value>,
    (limit, pc): (Word, Option<Pc>),
) {
    let depth_type = func.ty(part.depth);
    let mut emit = Emit { func, block: site.before, pc };
    let Some(depth) = owner else {
        args.push(emit.typed_constant(depth_type, Word::from(1)));
        emit.jump(part.entry, args);
        return;
    };
    let one = emit.constant(1u64);
    let deeper = emit.op(Opcode::Add, &[depth, one]);
    args.push(if emit.func.ty(deeper) > depth_type {
        emit.typed(Opcode::Narrow, &[deeper], depth_type)
    } else {
        deeper
    });
    let most = emit.constant(limit);
    let fits = emit.op(Opcode::Ult, &[depth, most]);
    let too_deep = func.create_block();
    let targets = vec![BlockCall { block: part.entry, args }, BlockCall { block: too_deep, args: Vec::new() }];
    let branch = InstData { args: vec![fits], targets, ..instruction(Opcode::Brif, Imm::None, pc) };
    let branch = func.create_inst(branch, &[]);
    func.blocks[site.before].insts.push(branch);
    blame(func, too_deep, pc);
}

/// Makes a call one that has no circuit.
fn leave(func: &mut Function, site: &Site) {
    func.blocks[site.before].insts.pop();
    blame(func, site.before, func.insts[site.jump].pc);
}

/// Ends a block in a call that has no circuit, of no function.
fn blame(func: &mut Function, block: Block, pc: Option<Pc>) {
    let call = func.create_inst(instruction(Opcode::Call, Imm::None, pc), &[]);
    let trap = func.create_inst(instruction(Opcode::Trap, Imm::Trap(TrapCode::StackOverflow), pc), &[]);
    func.blocks[block].insts.extend([call, trap]);
}

/// The way back from the exit of a function to its calls; those that are `handed` the depth are of the recursion.
fn dispatch(func: &mut Function, part: &Part, handed: &[bool]) {
    func.blocks[part.exit].insts.pop();
    let results = func.blocks[part.exit].params.clone();
    let mut emit = Emit { func, block: part.exit, pc: None };
    let one = emit.constant(1u64);
    let depth = emit.op(Opcode::Sub, &[part.depth, one]);
    // All of them here, where the label is renamed.
    let last = part.calls.len() - 1;
    let numbers: Vec<Value> = (0..last)
        .map(|index| {
            let number = emit.typed_constant(emit.func.ty(part.label), Word::from(index));
            emit.op(Opcode::Eq, &[part.label, number])
        })
        .collect();
    let back = |index: usize| BlockCall {
        block: part.calls[index].after,
        args: results.iter().copied().chain(handed[index].then_some(depth)).collect(),
    };
    let mut at = part.exit;
    for (index, &is_this) in numbers.iter().enumerate() {
        let next = if index + 1 == last { None } else { Some(func.create_block()) };
        let otherwise = next.map_or_else(|| back(last), |block| BlockCall { block, args: Vec::new() });
        let branch = InstData {
            args: vec![is_this],
            targets: vec![back(index), otherwise],
            ..instruction(Opcode::Brif, Imm::None, None)
        };
        let branch = func.create_inst(branch, &[]);
        func.blocks[at].insts.push(branch);
        at = next.unwrap_or(at);
    }
    if last == 0 {
        let BlockCall { block, args } = back(0);
        Emit { func, block: at, pc: None }.jump(block, args);
    }
}

#[cfg(test)]
mod tests {
    use zvm_ir::{EmptyState, Env, Halt, InterpError, Module, Outcome, Word, interp, parse, verify};

    use crate::error::CircuitError;
    use crate::execute::Call;
    use crate::legalize::Reason;
    use crate::program::Program;

    /// What a module gives for words of calldata, by the interpreter and by the circuit, which is checked.
    fn both(text: &str, words: &[u64]) -> [Result<Outcome, Option<Reason>>; 2] {
        let module: Module = parse(text).unwrap();
        assert_eq!(verify(&module), Ok(()));
        let calldata: Vec<u8> = words.iter().flat_map(|&word| Word::from(word).to_be_bytes::<32>()).collect();
        let env = Env::default();
        let native = interp::run(&module, interp::Call::new(&calldata, &env), &EmptyState);
        let native = native.map_err(|error| match error {
            InterpError::CallDepth { .. } => None,
            error => panic!("{error}"),
        });
        let program = Program::compile(&module).unwrap();
        let circuit = program.check(&Call { calldata, env }).map(|(outcome, _)| outcome);
        let circuit = circuit.map_err(|error| match error {
            CircuitError::Unprovable(exit) => Some(exit.reason),
            error => panic!("{error}"),
        });
        [native, circuit]
    }

    fn agree(text: &str, words: &[u64]) -> Word {
        let [native, circuit] = both(text, words);
        assert_eq!(native, circuit, "{words:?}");
        let outcome = native.unwrap();
        assert_eq!(outcome.halt, Halt::Return);
        Word::from_be_slice(&outcome.data)
    }

    /// Two calls in one function, of which the second needs what the first returned, and callers that need different words.
    #[test]
    fn each_activation_has_its_own_words() {
        let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u8 = trunc v1\n v3: u6 = \
                    iconst 32\n v4: u256 = calldataload v3\n v5: u256 = call @fib(v2)\n v6: u256 = wadd v5, v4\n v7: u3 = iconst 5\n v8: \
                    u8 = zext v7\n v9: u256 = call @fib(v8)\n v10: u256 = wmul v6, v9\n v11: u256 = wadd v10, v1\n return_words 32, \
                    v11\n}\nfunc @fib(u8) -> u256 {\nblock0(v0: u8):\n v1: u2 = iconst 2\n v2: u1 = ult v0, v1\n brif v2, block1, \
                    block2\nblock1:\n v3: u256 = zext v0\n ret v3\nblock2:\n v4: u1 = iconst 1\n v5: u8 = sub v0, v4\n v6: u256 = call \
                    @fib(v5)\n v7: u8 = sub v0, v1\n v8: u256 = call @fib(v7)\n v9: u256 = wadd v6, v8\n ret v9\n}\n";
        for (n, fib) in [(0, 0), (1, 1), (2, 1), (7, 13), (11, 89)] {
            assert_eq!(agree(text, &[n, 1000]), Word::from((fib + 1000) * 5 + n), "{n}");
        }
    }

    /// Functions that call each other, one of which calls another recursion.
    #[test]
    fn functions_that_call_each_other() {
        let text = "zvm 1\nentry @main\nfunc @main() {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u8 = trunc v1\n v3: u256 = \
                    call @even(v2)\n return_words 32, v3\n}\nfunc @even(u8) -> u256 {\nblock0(v0: u8):\n v1: u1 = iszero v0\n brif v1, \
                    block1, block2\nblock1:\n v2: u256 = zext v1\n ret v2\nblock2:\n v3: u1 = iconst 1\n v4: u8 = sub v0, v3\n v5: u256 \
                    = call @odd(v4)\n v6: u256 = call @sum(v0)\n v7: u256 = wadd v5, v6\n ret v7\n}\nfunc @odd(u8) -> u256 \
                    {\nblock0(v0: u8):\n v1: u1 = iszero v0\n brif v1, block1, block2\nblock1:\n v2: u256 = iconst 1000000\n ret \
                    v2\nblock2:\n v3: u1 = iconst 1\n v4: u8 = sub v0, v3\n v5: u256 = call @even(v4)\n ret v5\n}\nfunc @sum(u8) -> \
                    u256 {\nblock0(v0: u8):\n v1: u1 = iszero v0\n brif v1, block1, block2\nblock1:\n v2: u256 = zext v0\n ret \
                    v2\nblock2:\n v3: u1 = iconst 1\n v4: u8 = sub v0, v3\n v5: u256 = call @sum(v4)\n v6: u256 = wadd v5, v0\n ret \
                    v6\n}\n";
        let sum = |n: u64| n * (n + 1) / 2;
        for n in 0..12 {
            let visited = (1..=n).rev().step_by(2).map(sum).sum::<u64>();
            let end = if n % 2 == 0 { 1 } else { 1_000_000 };
            assert_eq!(agree(text, &[n]), Word::from(visited + end), "{n}");
        }
    }

    /// As deep as the stack is sure to be, and no deeper.
    #[test]
    fn a_recursion_is_as_deep_as_the_stack() {
        let text = "zvm 1\nentry @main\nfunc @main() stack 24 30 {\nblock0:\n v0: u1 = iconst 0\n v1: u256 = calldataload v0\n v2: u16 = trunc \
                    v1\n v3: u256 = call @f(v2)\n return_words 32, v3\n}\nfunc @f(u16) -> u256 stack 10 15 {\nblock0(v0: u16):\n v1: u1 \
                    = iszero v0\n brif v1, block1, block2\nblock1:\n v2: u256 = zext v0\n ret v2\nblock2:\n v3: u1 = iconst 1\n v4: u16 \
                    = sub v0, v3\n v5: u256 = call @f(v4) @0009\n v6: u256 = wadd v5, v0\n ret v6\n}\n";
        assert_eq!(agree(text, &[97]), Word::from(97 * 98 / 2));
        assert_eq!(both(text, &[99]), [Err(None), Err(Some(Reason::Recursion))]);
        // The circuit takes the highest peak of all functions for each: the limit is one call earlier here.
        assert!(matches!(both(text, &[98]), [Ok(_), _]));
        // Hand-made functions, of which nothing is known.
        let unknown = text.replace(" stack 24 30", "").replace(" stack 10 15", "");
        assert_eq!(agree(&unknown, &[700]), Word::from(700 * 701 / 2));
        assert_eq!(both(&unknown, &[1100]), [Err(None), Err(Some(Reason::Recursion))]);
    }
}
