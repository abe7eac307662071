//! Legalizing: IR to IR, such that every instruction left is one EVM instruction of the fork.
//!
//! Does: expands `bound`, `select`, `trunc`, `keccak_words`, `log_words`, the exits of words, CLZ and MCOPY where the fork lacks
//! them, `datacopy` past the end of a segment, and `calldataload` in creation code.
//! Requires: a verified module. Ensures: a verified module whose `datacopy` stay inside their segments, and without the
//! instructions that [`crate::selection`] calls expanded.
//! Preserves: equality of `Outcome`.

use cranelift_entity::EntityRef;
use zvm_ir::memory::MEMORY_LIMIT;
use zvm_ir::reach::implied;
use zvm_ir::{Data, Func, Function, Imm, Inst, InstData, Module, Opcode, Pc, Type, Value, Word};

use crate::bounds::bounds;
use crate::memory::{MemoryPlan, Scratch};
use crate::{Fork, LowerError, Options};

/// Legalizes a module.
pub(crate) fn legalize(module: &Module, plan: &MemoryPlan, options: &Options) -> Result<Module, LowerError> {
    let fork = options.fork;
    let mut out = module.clone();
    let copies =
        |function: &Function| function.insts_in_order().any(|(_, inst)| function.insts[inst].opcode == Opcode::Mcopy);
    let mcopy = if !fork.has_mcopy() && module.funcs.values().any(copies) {
        Some(add_mcopy(&mut out, plan.observes_msize)?)
    } else {
        None
    };
    let sizes: Vec<u64> = module.data.values().map(|bytes| bytes.len() as u64).collect();
    let cx = Context { plan, fork, creation: options.creation, mcopy, sizes };
    for function in out.funcs.values_mut() {
        cx.function(function)?;
    }
    Ok(out)
}

struct Context<'a> {
    plan: &'a MemoryPlan,
    fork: Fork,
    creation: bool,
    mcopy: Option<Func>,
    sizes: Vec<u64>,
}

impl Context<'_> {
    fn function(&self, function: &mut Function) -> Result<(), LowerError> {
        let implied = implied(function);
        for block in function.layout.clone() {
            let insts = core::mem::take(&mut function.blocks[block].insts);
            let mut expand = Expand { func: function, out: Vec::with_capacity(insts.len()), pc: None };
            for inst in insts {
                if expand.func.insts[inst].opcode == Opcode::Bound {
                    expand.bound(inst, implied.contains_key(&inst));
                } else {
                    self.instruction(&mut expand, inst)?;
                }
            }
            let out = expand.out;
            function.blocks[block].insts = out;
        }
        Ok(())
    }

    fn instruction(&self, expand: &mut Expand<'_>, inst: Inst) -> Result<(), LowerError> {
        let InstData { opcode, imm, args, pc, .. } = expand.func.insts[inst].clone();
        expand.pc = pc;
        let unsupported = || LowerError::Unsupported { opcode, fork: self.fork, pc };
        match (opcode, imm) {
            (Opcode::Select, _) => expand.select(inst, &args),
            (Opcode::Trunc, _) => expand.trunc(inst, &args),
            (Opcode::KeccakWords, Imm::Len(len)) => {
                self.words_in_scratch(expand, inst, &args, Opcode::Keccak256, u64::from(len), &[])?;
            }
            (Opcode::LogWords, Imm::Len(len)) => {
                let topics = expand.func.insts[inst].topics().map_or(0, <[Value]>::len);
                let (topics, words) = args.split_at(topics);
                self.words_in_scratch(expand, inst, words, Opcode::Log, u64::from(len), topics)?;
            }
            (Opcode::KeccakF | Opcode::FrameLoad | Opcode::FrameStore, _) => return Err(unsupported()),
            // Nothing happens on the EVM either.
            (Opcode::Note, _) => {}
            (Opcode::Calldataload, _) if self.creation => self.code_word(expand, inst, &args)?,
            (Opcode::ReturnWords, Imm::Len(len)) => expand.exit_words(inst, Opcode::Return, &args, len),
            (Opcode::RevertWords, Imm::Len(len)) => expand.exit_words(inst, Opcode::Revert, &args, len),
            (Opcode::Clz, _) if !self.fork.has_clz() => expand.clz(inst, &args),
            (Opcode::Mcopy, _) if self.mcopy.is_some() => {
                if let Some(func) = self.mcopy {
                    let args: Vec<Value> = args.iter().map(|&arg| expand.widen(Type::WORD, arg)).collect();
                    expand.replace(inst, Opcode::Call, Imm::Func(func), args);
                }
            }
            (Opcode::Datacopy, Imm::Data(data)) => {
                let size = self.sizes.get(data.index()).copied().unwrap_or_default();
                expand.datacopy(inst, &args, data, size);
            }
            (Opcode::Tload | Opcode::Tstore, _) if !self.fork.has_transient() => return Err(unsupported()),
            (Opcode::Blobhash | Opcode::Blobbasefee, _) if !self.fork.has_blobs() => return Err(unsupported()),
            _ => expand.out.push(inst),
        }
        Ok(())
    }

    /// A word of the code itself: no instruction reads one but by way of memory.
    fn code_word(&self, expand: &mut Expand<'_>, inst: Inst, args: &[Value]) -> Result<(), LowerError> {
        let &[from] = args else {
            expand.out.push(inst);
            return Ok(());
        };
        let base = match self.plan.scratch {
            Scratch::Free(base) => base,
            Scratch::Restore => 0,
            Scratch::Forbidden => return Err(LowerError::ScratchSeen { opcode: Opcode::Calldataload, pc: expand.pc }),
        };
        let (address, len) = (expand.constant(base), expand.constant(32));
        let saved = (self.plan.scratch == Scratch::Restore).then(|| expand.op(Opcode::Mload, &[address]));
        expand.effect(Opcode::Calldatacopy, &[address, from, len]);
        expand.replace(inst, Opcode::Mload, Imm::None, vec![address]);
        if let Some(saved) = saved {
            expand.effect(Opcode::Mstore, &[address, saved]);
        }
        Ok(())
    }

    /// `reader` of the first `len` bytes of `words`, put into memory where the program does not see them.
    fn words_in_scratch(
        &self,
        expand: &mut Expand<'_>,
        inst: Inst,
        words: &[Value],
        reader: Opcode,
        len: u64,
        more: &[Value],
    ) -> Result<(), LowerError> {
        let base = match self.plan.scratch {
            Scratch::Free(base) => base,
            Scratch::Restore => 0,
            Scratch::Forbidden if words.is_empty() => 0,
            Scratch::Forbidden => {
                let opcode = expand.func.insts[inst].opcode;
                return Err(LowerError::ScratchSeen { opcode, pc: expand.pc });
            }
        };
        let addresses: Vec<Value> = (0..words.len() as u64).map(|at| expand.constant(base + 32 * at)).collect();
        let saved: Vec<Value> = match self.plan.scratch {
            Scratch::Restore => addresses.iter().map(|&at| expand.op(Opcode::Mload, &[at])).collect(),
            Scratch::Free(_) | Scratch::Forbidden => Vec::new(),
        };
        for (&address, &word) in addresses.iter().zip(words) {
            expand.effect(Opcode::Mstore, &[address, word]);
        }
        let (base, len) = (expand.constant(base), expand.constant(len));
        expand.replace(inst, reader, Imm::None, [&[base, len], more].concat());
        for (&address, &word) in addresses.iter().zip(&saved) {
            expand.effect(Opcode::Mstore, &[address, word]);
        }
        Ok(())
    }
}

/// Rewrites the instructions of one block.
struct Expand<'f> {
    func: &'f mut Function,
    out: Vec<Inst>,
    pc: Option<Pc>,
}

impl Expand<'_> {
    fn push(&mut self, opcode: Opcode, imm: Imm, args: &[Value], results: &[Type]) -> Inst {
        let data = InstData { opcode, imm, args: args.to_vec(), targets: Vec::new(), results: Vec::new(), pc: self.pc };
        let inst = self.func.create_inst(data, results);
        self.out.push(inst);
        inst
    }

    fn word(&mut self, word: Word) -> Value {
        let inst = self.push(Opcode::Iconst, Imm::Word(word), &[], &[Type::of(&word)]);
        self.func.insts[inst].results[0]
    }

    fn constant(&mut self, value: u64) -> Value {
        self.word(Word::from(value))
    }

    /// An instruction whose result width its operands decide.
    fn op(&mut self, opcode: Opcode, args: &[Value]) -> Value {
        let types: Vec<Type> = args.iter().map(|&arg| self.func.ty(arg)).collect();
        let ty = opcode.result_type(&types).ok().flatten().unwrap_or(Type::WORD);
        let inst = self.push(opcode, Imm::None, args, &[ty]);
        self.func.insts[inst].results[0]
    }

    fn effect(&mut self, opcode: Opcode, args: &[Value]) {
        self.push(opcode, Imm::None, args, &[]);
    }

    fn widen(&mut self, ty: Type, value: Value) -> Value {
        if self.func.ty(value) == ty {
            return value;
        }
        let inst = self.push(Opcode::Zext, Imm::None, &[value], &[ty]);
        self.func.insts[inst].results[0]
    }

    /// Turns `inst` into another instruction with the same results and puts it here.
    fn replace(&mut self, inst: Inst, opcode: Opcode, imm: Imm, args: Vec<Value>) {
        let data = &mut self.func.insts[inst];
        (data.opcode, data.imm, data.args) = (opcode, imm, args);
        self.out.push(inst);
    }

    /// Makes the result of `inst` be `value`, which is known to fit its type.
    fn become_value(&mut self, inst: Inst, value: Value) {
        let ty = self.func.insts[inst].result().map_or(Type::WORD, |result| self.func.ty(result));
        let opcode = if self.func.ty(value) < ty { Opcode::Zext } else { Opcode::Narrow };
        self.replace(inst, opcode, Imm::None, vec![value]);
    }

    /// `b ⊕ c·(a ⊕ b)`: `c` is 0 or 1. Simpler where `a` or `b` is constant.
    fn select(&mut self, inst: Inst, args: &[Value]) {
        let &[c, a, b] = args else { return self.out.push(inst) };
        let (ka, kb) = (self.func.constant(a), self.func.constant(b));
        let value = match (ka, kb) {
            (Some(ka), Some(kb)) if ka == Word::from(1) && kb.is_zero() => c,
            (Some(ka), Some(kb)) if ka.is_zero() && kb == Word::from(1) => self.op(Opcode::Iszero, &[c]),
            (_, Some(kb)) if kb.is_zero() => self.op(Opcode::Wmul, &[c, a]),
            (Some(ka), _) if ka.is_zero() => {
                let not = self.op(Opcode::Iszero, &[c]);
                self.op(Opcode::Wmul, &[not, b])
            }
            (Some(ka), Some(kb)) => {
                let difference = self.word(ka.wrapping_sub(kb));
                let chosen = self.op(Opcode::Wmul, &[c, difference]);
                self.op(Opcode::Wadd, &[chosen, b])
            }
            _ if a == b => a,
            _ => {
                let difference = self.op(Opcode::Xor, &[a, b]);
                let chosen = self.op(Opcode::Wmul, &[c, difference]);
                self.op(Opcode::Xor, &[b, chosen])
            }
        };
        self.become_value(inst, value);
    }

    /// Where an access that follows does not run out of gas by itself, an instruction that halts: the place is beyond
    /// the limit, so is the position in the return data.
    fn bound(&mut self, inst: Inst, implied: bool) {
        let InstData { imm, args, pc, .. } = self.func.insts[inst].clone();
        self.pc = pc;
        let (Imm::Word(room), &[a]) = (imm, args.as_slice()) else { return self.out.push(inst) };
        if !implied {
            let limit = Word::from(MEMORY_LIMIT);
            let past = match limit.checked_sub(room) {
                Some(last) => {
                    let last = self.word(last);
                    self.op(Opcode::Ult, &[last, a])
                }
                None => self.constant(1),
            };
            let (zero, top) = (self.constant(0), self.constant(255));
            let position = self.op(Opcode::Shl, &[top, past]);
            self.effect(Opcode::Returndatacopy, &[zero, position, zero]);
        }
        self.become_value(inst, a);
    }

    fn trunc(&mut self, inst: Inst, args: &[Value]) {
        let (&[a], Some(result)) = (args, self.func.insts[inst].result()) else { return self.out.push(inst) };
        let ty = self.func.ty(result);
        if self.func.ty(a) <= ty {
            return self.become_value(inst, a);
        }
        let mask = self.word(ty.max_value());
        self.replace(inst, Opcode::And, Imm::None, vec![a, mask]);
    }

    /// Nothing is seen of memory after an exit, so its words may be assembled anywhere.
    fn exit_words(&mut self, inst: Inst, exit: Opcode, args: &[Value], len: u32) {
        let needed = u64::from(len).div_ceil(32) as usize;
        for (at, &word) in args.iter().take(needed).enumerate() {
            let address = self.constant(32 * at as u64);
            self.effect(Opcode::Mstore, &[address, word]);
        }
        let (base, len) = (self.constant(0), self.constant(u64::from(len)));
        self.replace(inst, exit, Imm::None, vec![base, len]);
    }

    /// The position of the highest bit by bisection: 255 minus it, plus one for zero.
    fn clz(&mut self, inst: Inst, args: &[Value]) {
        let &[a] = args else { return self.out.push(inst) };
        let mut rest = a;
        let mut position = self.constant(0);
        for step in [7u64, 6, 5, 4, 3, 2, 1, 0] {
            let below = self.word((Word::from(1) << (1usize << step)) - Word::from(1));
            let above = self.op(Opcode::Ult, &[below, rest]);
            let log = self.constant(step);
            let shift = self.op(Opcode::Shl, &[log, above]);
            position = if step == 7 { shift } else { self.op(Opcode::Or, &[position, shift]) };
            if step > 0 {
                rest = self.op(Opcode::Shr, &[shift, rest]);
            }
        }
        let top = self.constant(255);
        let zero = self.op(Opcode::Iszero, &[a]);
        let leading = self.op(Opcode::Wsub, &[top, position]);
        let count = self.op(Opcode::Wadd, &[leading, zero]);
        self.become_value(inst, count);
    }

    /// Past the end of the segment the EVM would read what follows it in the code: those bytes are zeros from past
    /// the end of calldata instead.
    fn datacopy(&mut self, inst: Inst, args: &[Value], data: Data, size: u64) {
        let &[to, from, len] = args else { return self.out.push(inst) };
        let end = Word::from(size);
        let constant_len = self.func.constant(len);
        if constant_len.is_some_and(|len| len.is_zero()) {
            return;
        }
        let (last, longest) = (bounds(self.func, from).1, bounds(self.func, len).1);
        if last.checked_add(longest).is_some_and(|past| past <= end) {
            return self.out.push(inst);
        }
        let size = self.word(end);
        let from = self.min(from, size);
        let available = match self.func.constant(from) {
            Some(from) => self.word(end.wrapping_sub(from)),
            None => self.op(Opcode::Wsub, &[size, from]),
        };
        let copied = self.min(len, available);
        let (to_rest, len_rest) = if self.func.constant(copied).is_some_and(|n| n.is_zero()) {
            (to, len)
        } else {
            self.push(Opcode::Datacopy, Imm::Data(data), &[to, from, copied], &[]);
            (self.op(Opcode::Wadd, &[to, copied]), self.op(Opcode::Wsub, &[len, copied]))
        };
        let past = self.op(Opcode::Calldatasize, &[]);
        self.replace(inst, Opcode::Calldatacopy, Imm::None, vec![to_rest, past, len_rest]);
    }

    fn min(&mut self, a: Value, b: Value) -> Value {
        match (self.func.constant(a), self.func.constant(b)) {
            (Some(x), Some(y)) => self.word(x.min(y)),
            (_, Some(y)) if y.is_zero() => self.constant(0),
            _ => {
                let less = self.op(Opcode::Ult, &[a, b]);
                let difference = self.op(Opcode::Xor, &[a, b]);
                let chosen = self.op(Opcode::Wmul, &[less, difference]);
                self.op(Opcode::Xor, &[b, chosen])
            }
        }
    }
}

/// The copy routine for forks without MCOPY. The one by bytes touches no more memory than MCOPY does.
fn add_mcopy(module: &mut Module, observes_msize: bool) -> Result<Func, LowerError> {
    let text = if observes_msize {
        include_str!("routines/mcopy_bytes.zvm")
    } else {
        include_str!("routines/mcopy_words.zvm")
    };
    let routine = zvm_ir::parse(text).ok().and_then(|routine| routine.funcs.values().next().cloned());
    let Some(mut routine) = routine else {
        let what = "the copy routine does not parse";
        return Err(LowerError::Internal { function: "zvm.mcopy".to_owned(), what, pc: None });
    };
    while module.funcs.values().any(|function| function.name == routine.name) {
        routine.name.push('_');
    }
    Ok(module.funcs.push(routine))
}
