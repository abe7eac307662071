//! `lower-copies`: bulk copies become loads and stores of words.
//!
//! *Does*: where there are no copies of bytes, as in a circuit: `calldatacopy`, `mcopy` and `datacopy` of so few bytes that the
//! cost model has no loop for them become that many stores, those of unknown or more bytes become loops. Behind the last whole word the bytes that are not copied keep their
//! value: a word is put together from both and stored. `mcopy` goes up where it copies down, and down where it copies up,
//! as if through a buffer. `datacopy` from an unknown place or of unknown length stays.
//! For the EVM, which has the instructions (or a contract that does it), nothing is done.
//! *Requires*: every block is reachable; lengths are bounded ([`super::bound_addresses`]). *Ensures*: no `calldatacopy` and no `mcopy` is left.
//! *Preserves*: equality of [`crate::Outcome`], where up to 31 more bytes are below the limit of memory. A module that observes
//! `msize` is left alone.
//! *After*: expansion of block moves, as compilers do it.
//!
//! ```text
//! calldatacopy v0, v1, v2   →   block1(v3): …; brif (v2 < v3 + 32), block3, block2; block2: mstore v0 + v3, (calldataload v1 + v3); …
//! ```

use crate::Word;
use crate::cost::{NEVER, Operand};
use crate::entities::{Block, Inst, Value};
use crate::function::{BlockCall, Function, Imm, InstData, Pc};
use crate::opcode::Opcode;
use crate::passes::Context;
use crate::passes::edit::{derived_inst, new_inst, new_jump, settle_widths};
use crate::passes::memory::pieces::WORD;
use crate::types::Type;

/// So many bytes of data are written as constants: nothing else can be done with them.
const DATA: u32 = 1024;

/// A place in the calldata that none reach.
const OUTSIDE: u64 = (1 << 63) + 4;

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    if cx.costs().price(Opcode::Mcopy, &[]) < NEVER || cx.observes_msize() {
        return false;
    }
    let (mut at, mut changed) = (0, false);
    // The block behind a copy comes right behind its block, and is looked at in turn.
    while let Some(&block) = func.layout.get(at) {
        match func.blocks[block].insts.iter().position(|&inst| is_lowered(func, &func.insts[inst])) {
            Some(position) => {
                lower(func, cx, at, position);
                changed = true;
            }
            None => at += 1,
        }
    }
    if changed {
        settle_widths(func, cx);
    }
    changed
}

fn small(func: &Function, value: Value, most: u32) -> Option<u32> {
    func.constant(value).and_then(|word| u32::try_from(word).ok()).filter(|&len| len <= most)
}

fn is_lowered(func: &Function, data: &InstData) -> bool {
    match data.opcode {
        Opcode::Calldatacopy | Opcode::Mcopy => true,
        Opcode::Datacopy => func.constant(data.args[1]).is_some() && small(func, data.args[2], DATA).is_some(),
        _ => false,
    }
}

/// Where the words come from.
#[derive(Clone, Copy)]
enum From {
    Calldata(Value),
    Memory(Value),
}

fn lower(func: &mut Function, cx: &Context, at: usize, position: usize) {
    let block = func.layout[at];
    let rest = func.blocks[block].insts.split_off(position + 1);
    let Some(copy) = func.blocks[block].insts.pop() else { return };
    let data = func.insts[copy].clone();
    let mut emit = Emit { func, block, pc: data.pc, made: Vec::new() };
    let &[to, from, len] = data.args.as_slice() else { return };
    match (data.opcode, data.imm) {
        (Opcode::Datacopy, Imm::Data(segment)) => emit.constants(to, from, len, cx.data(segment)),
        (Opcode::Calldatacopy, _) => {
            // Beyond the end there are zeros, and sums with a place that no calldata reach do not wrap. Modulo 32 it is where words of arguments are, so
            // that what is known of places modulo 32 is not lost.
            let size = emit.op(Opcode::Calldatasize, &[]);
            let inside = emit.op(Opcode::Ult, &[from, size]);
            let outside = emit.word(Word::from(OUTSIDE));
            let from = emit.op(Opcode::Select, &[inside, from, outside]);
            match small(emit.func, len, emit.unrolled(cx, Opcode::Calldataload, to, from)) {
                Some(len) => emit.words(to, From::Calldata(from), len),
                None => emit.upwards(to, From::Calldata(from), len),
            }
        }
        _ => match small(emit.func, len, emit.unrolled(cx, Opcode::Mload, to, from)) {
            Some(len) => emit.words(to, From::Memory(from), len),
            None => {
                let down = emit.op(Opcode::Ult, &[from, to]);
                let (back, forth, done) = (emit.block(), emit.block(), emit.block());
                emit.brif(down, back, forth);
                emit.block = back;
                emit.downwards(to, from, len);
                emit.jump(done, &[]);
                emit.block = forth;
                emit.upwards(to, From::Memory(from), len);
                emit.jump(done, &[]);
                emit.block = done;
            }
        },
    }
    let (last, made) = (emit.block, emit.made);
    func.blocks[last].insts.extend(rest);
    func.layout.splice(at + 1..at + 1, made);
}

/// Appends instructions to a block.
struct Emit<'a> {
    func: &'a mut Function,
    block: Block,
    pc: Option<Pc>,
    made: Vec<Block>,
}

impl Emit<'_> {
    fn push(&mut self, inst: Inst) {
        self.func.blocks[self.block].insts.push(inst);
    }

    fn block(&mut self) -> Block {
        let block = self.func.blocks.push(Default::default());
        self.made.push(block);
        block
    }

    /// So many bytes are copied without a loop. Both places are taken to be short: widths are proved later.
    fn unrolled(&self, cx: &Context, load: Opcode, to: Value, from: Value) -> u32 {
        let (costs, place) = (cx.costs(), Operand::Value(Type::PLACE));
        let sum = |base: Value| {
            let base = Operand::Value(self.func.ty(base).min(Type::PLACE));
            costs.room(Opcode::Wadd, &[base, Operand::Constant(Word::from(WORD))])
        };
        let word = costs.room(load, &[place]) + costs.room(Opcode::Mstore, &[place, Operand::Value(Type::WORD)]);
        let words = costs.straight_line() / (word + sum(to) + sum(from)).max(1);
        u32::try_from(words).unwrap_or(u32::MAX).saturating_mul(WORD)
    }

    fn op(&mut self, opcode: Opcode, args: &[Value]) -> Value {
        match derived_inst(self.func, opcode, args, self.pc) {
            Some((inst, value)) => {
                self.push(inst);
                value
            }
            // Only instructions whose width rule always applies are emitted here.
            None => args[0],
        }
    }

    fn word(&mut self, word: Word) -> Value {
        let (inst, value) = new_inst(self.func, Opcode::Iconst, Imm::Word(word), &[], Type::of(&word), self.pc);
        self.push(inst);
        value
    }

    fn narrow(&mut self, value: Value) -> Value {
        if self.func.ty(value) <= Type::PLACE {
            return value;
        }
        let (inst, value) = new_inst(self.func, Opcode::Narrow, Imm::None, &[value], Type::PLACE, self.pc);
        self.push(inst);
        value
    }

    fn plus(&mut self, base: Value, distance: u32) -> Value {
        if distance == 0 {
            return base;
        }
        let distance = self.word(Word::from(distance));
        self.op(Opcode::Wadd, &[base, distance])
    }

    fn store(&mut self, address: Value, word: Value) {
        let data = InstData {
            opcode: Opcode::Mstore,
            imm: Imm::None,
            args: vec![address, word],
            targets: Vec::new(),
            results: Vec::new(),
            pc: self.pc,
        };
        let inst = self.func.create_inst(data, &[]);
        self.push(inst);
    }

    fn load(&mut self, from: From, at: impl Fn(&mut Self, Value) -> Value) -> Value {
        let (opcode, base) = match from {
            From::Calldata(base) => (Opcode::Calldataload, base),
            From::Memory(base) => (Opcode::Mload, base),
        };
        let address = at(self, base);
        self.op(opcode, &[address])
    }

    fn jump(&mut self, block: Block, args: &[Value]) {
        let jump = new_jump(self.func, BlockCall { block, args: args.to_vec() }, self.pc);
        self.push(jump);
    }

    fn brif(&mut self, condition: Value, then: Block, otherwise: Block) {
        let data = InstData {
            opcode: Opcode::Brif,
            imm: Imm::None,
            args: vec![condition],
            targets: [then, otherwise].map(|block| BlockCall { block, args: Vec::new() }).to_vec(),
            results: Vec::new(),
            pc: self.pc,
        };
        let inst = self.func.create_inst(data, &[]);
        self.push(inst);
    }

    /// Stores the first bytes of a word, as many as `kept` has ones at its top; the others keep their value.
    fn store_part(&mut self, address: Value, word: Value, kept: Value) {
        let old = self.op(Opcode::Mload, &[address]);
        let new = self.op(Opcode::And, &[word, kept]);
        let others = self.op(Opcode::Not, &[kept]);
        let old = self.op(Opcode::And, &[old, others]);
        let both = self.op(Opcode::Or, &[new, old]);
        self.store(address, both);
    }

    /// The first `len` bytes of a data segment from a place on.
    fn constants(&mut self, to: Value, from: Value, len: Value, bytes: &[u8]) {
        let from = self.func.constant(from).and_then(|from| usize::try_from(from).ok()).unwrap_or(usize::MAX);
        let len = small(self.func, len, DATA).unwrap_or(0);
        let byte = |at: u32| from.checked_add(at as usize).and_then(|at| bytes.get(at)).copied().unwrap_or(0);
        for at in (0..len).step_by(WORD as usize) {
            let word: [u8; 32] = core::array::from_fn(|i| if at + (i as u32) < len { byte(at + i as u32) } else { 0 });
            let (word, address) = (self.word(Word::from_be_bytes(word)), self.plus(to, at));
            self.store_first(address, word, len - at);
        }
    }

    /// Stores at most `left` bytes of a word.
    fn store_first(&mut self, address: Value, word: Value, left: u32) {
        if left >= WORD {
            self.store(address, word);
        } else {
            let kept = self.word(Word::MAX << (8 * (WORD - left) as usize));
            self.store_part(address, word, kept);
        }
    }

    /// A known number of bytes: all is loaded before any is stored.
    fn words(&mut self, to: Value, from: From, len: u32) {
        let loaded: Vec<(u32, Value)> =
            (0..len).step_by(WORD as usize).map(|at| (at, self.load(from, |emit, base| emit.plus(base, at)))).collect();
        for (at, word) in loaded {
            let address = self.plus(to, at);
            self.store_first(address, word, len - at);
        }
    }

    /// Up to 31 bytes at a distance; goes on in a new block.
    fn rest(&mut self, to: Value, from: From, at: Option<Value>, left: Value) {
        let (none, some, done) = (self.op(Opcode::Iszero, &[left]), self.block(), self.block());
        self.brif(none, done, some);
        self.block = some;
        let plus = |emit: &mut Self, base: Value| match at {
            Some(at) => emit.op(Opcode::Wadd, &[base, at]),
            None => base,
        };
        let word = self.load(from, plus);
        let address = plus(self, to);
        let (all, three) = (self.word(Word::from(256)), self.word(Word::from(3)));
        let bits = self.op(Opcode::Shl, &[three, left]);
        let unused = self.op(Opcode::Wsub, &[all, bits]);
        let ones = self.word(Word::MAX);
        let kept = self.op(Opcode::Shl, &[unused, ones]);
        self.store_part(address, word, kept);
        self.jump(done, &[]);
        self.block = done;
    }

    /// From the first word on; goes on in a new block.
    fn upwards(&mut self, to: Value, from: From, len: Value) {
        let len = self.length(len);
        let zero = self.word(Word::ZERO);
        let (head, body, tail) = (self.block(), self.block(), self.block());
        let at = self.func.append_param(head, Type::PLACE);
        self.jump(head, &[zero]);
        self.block = head;
        let word = self.word(Word::from(WORD));
        let next = self.op(Opcode::Add, &[at, word]);
        let last = self.op(Opcode::Ult, &[len, next]);
        self.brif(last, tail, body);
        self.block = body;
        let loaded = self.load(from, |emit, base| emit.op(Opcode::Wadd, &[base, at]));
        let address = self.op(Opcode::Wadd, &[to, at]);
        self.store(address, loaded);
        let next = self.narrow(next);
        self.jump(head, &[next]);
        self.block = tail;
        let left = self.op(Opcode::Sub, &[len, at]);
        self.rest(to, from, Some(at), left);
    }

    /// From the last word down; goes on in a new block.
    fn downwards(&mut self, to: Value, from: Value, len: Value) {
        let len = self.length(len);
        let (head, body, tail) = (self.block(), self.block(), self.block());
        let left = self.func.append_param(head, Type::PLACE);
        self.jump(head, &[len]);
        self.block = head;
        let word = self.word(Word::from(WORD));
        let last = self.op(Opcode::Ult, &[left, word]);
        self.brif(last, tail, body);
        self.block = body;
        let next = self.op(Opcode::Sub, &[left, word]);
        let loaded = self.load(From::Memory(from), |emit, base| emit.op(Opcode::Wadd, &[base, next]));
        let address = self.op(Opcode::Wadd, &[to, next]);
        self.store(address, loaded);
        self.jump(head, &[next]);
        self.block = tail;
        self.rest(to, From::Memory(from), None, left);
    }

    /// A length that fits in memory, as the copy says.
    fn length(&mut self, len: Value) -> Value {
        if self.func.ty(len) <= Type::PLACE {
            return len;
        }
        let (inst, value) = new_inst(self.func, Opcode::Bound, Imm::Word(Word::ZERO), &[len], Type::PLACE, self.pc);
        self.push(inst);
        value
    }
}
