//! The checker: holds a lifted module against the bytecode, knowing nothing of how it was found.
//!
//! Each block of the IR says which block of bytecode it stands for, and of which items of the stack its parameters are the
//! values ([`Witness`]). From there, block by block, the bytecode is run on terms and the IR is read beside it. Checked:
//!
//! - every instruction that does more than compute is there, in the same order, with the same operands and `pc`, and nothing
//!   else is; CODECOPY copies from a segment that holds those bytes;
//! - both end in the same way: the same halt, or a branch on the same condition, whose sides go on at the block that the
//!   bytecode goes on at; a jump to a word that is no JUMPDEST is a trap;
//! - a jump to a constant, to what the stack was found to hold, or to one of the values that an entry of a table in the code
//!   can have: all of them, and no other;
//! - the arguments of the next block are the items of the stack that it says they are;
//! - a call enters the function that the bytecode jumps to, with these items; each way that it can return is followed, with
//!   the stack that the function says it leaves; `ret` leaves that stack, jumps to that item of the function's entry stack,
//!   and only where the conditions of that exit hold.
//!
//! What is on the stack where several ways meet is found by iteration over the blocks of each function: an item is a
//! constant, an item that the function was entered with, or anything. Functions are checked one by one, each on the
//! promises of the others (whose entry the caller checks, and whose exits are checked where they return).
//!
//! Not checked: that the stack is high enough within functions (in the program's own body it is, and a block that is
//! nothing but a trap of the stack is counted, not proved, elsewhere), and the names of functions.

mod edges;
mod terms;
mod walk;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use zvm_ir::{Block, Func, Function, Imm, Inst, InstData, Module, Opcode, Pc, TrapCode, Value, Word};

use crate::Lifted;
use crate::decode::Code;
use crate::effects::Fact;
use crate::expr::MEMORY;
use crate::heights::STACK_LIMIT;
use crate::witness::{FunctionWitness, Witness};
use terms::{Known, Node, Source, Term, Terms};
use walk::{Below, Effect, Memory, Stack, Walked};

/// Where a lifted module differs from the bytecode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("@{function} {block} at pc {pc:#06x}: {kind}")]
pub struct CheckError {
    /// The name of the function.
    pub function: String,
    /// The block.
    pub block: Block,
    /// The position in the bytecode.
    pub pc: Pc,
    /// What is wrong.
    pub kind: CheckErrorKind,
}

/// What can be wrong with a lifted module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckErrorKind {
    /// An effect differs, is missing, or is too much.
    #[error("the bytecode has `{expected}`, the IR has `{found}`")]
    Effect {
        /// What the bytecode does.
        expected: String,
        /// What the IR does.
        found: String,
    },
    /// An instruction that the lifter does not emit.
    #[error("`{0}` does not come from bytecode")]
    Opcode(Opcode),
    /// The branch condition differs.
    #[error("the branch condition is `{expected}`, the IR has `{found}`")]
    Condition {
        /// The condition of the bytecode.
        expected: String,
        /// The condition of the IR.
        found: String,
    },
    /// The block goes elsewhere, or does not end as the bytecode does.
    #[error("the bytecode goes to {expected}, the IR does not")]
    Target {
        /// Where the bytecode goes.
        expected: String,
    },
    /// A parameter of the next block, or of a function, gets another word.
    #[error("slot {slot} is `{expected}` and is given as `{found}`")]
    Argument {
        /// The item of the stack.
        slot: u32,
        /// What the bytecode has there.
        expected: String,
        /// What the IR gives.
        found: String,
    },
    /// A return leaves another stack than the function promises.
    #[error("the return does not keep what exit {exit} promises: {what}")]
    Exit {
        /// The number of the exit.
        exit: usize,
        /// What differs.
        what: &'static str,
    },
    /// A call that a fact of the function forbids.
    #[error("the function is called with another stack than it asks for")]
    Facts,
    /// A data segment does not have the bytes that the code copies.
    #[error("the data segment does not have the bytes that are copied")]
    Data,
    /// The IR traps where the bytecode does not, or the reverse.
    #[error("the stack suffices exactly where the IR says that it does not")]
    Height,
    /// The witness does not name this block or function.
    #[error("nothing says what this stands for")]
    Unnamed,
}

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Blocks of the IR that stand for a block of bytecode.
    pub blocks: usize,
    /// Effects that are the same.
    pub effects: usize,
    /// Ways to another block, calls and returns included.
    pub edges: usize,
    /// Items of stacks that were compared.
    pub items: usize,
    /// Blocks of functions that are nothing but a trap of the stack, and ways back from calls that took more of the stack than
    /// there is: that the IR traps there is not proved.
    pub unproved: usize,
}

/// Checks a lifted module against the bytecode that it was lifted from. The module must be as [`crate::lift`] gave it: no
/// pass may have changed it.
///
/// # Errors
/// The places where they differ, at most one for each block.
pub fn check_lift(code: &[u8], lifted: &Lifted) -> Result<Checked, Vec<CheckError>> {
    let mut code = Code::new(code, lifted.witness.fork, lifted.witness.creation);
    code.immutables.clone_from(&lifted.witness.immutables);
    code.followed.clone_from(&lifted.witness.followed);
    let mut checked = Checked::default();
    let mut errors = Vec::new();
    for (func, function) in lifted.module.funcs.iter() {
        let mut checker = Checker::new(&code, &lifted.module, &lifted.witness, func, function);
        checker.run(&mut checked, &mut errors);
    }
    if errors.is_empty() { Ok(checked) } else { Err(errors) }
}

/// What is known of the stack at the start of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    /// The top last.
    items: Vec<Term>,
    /// The items of the function's entry stack below; `None` if the height depends on the way there.
    below: Option<u32>,
    /// The slots with unknown items that are not zero.
    nonzero: BTreeSet<u32>,
    /// The slots with items from tables in the code, with the values that they can have.
    values: BTreeMap<u32, BTreeSet<Word>>,
    /// Items of the function's entry stack that are zero or not.
    entries: BTreeMap<u32, bool>,
    /// The followed words of memory.
    memory: BTreeMap<u32, Term>,
}

impl State {
    fn get(&self, terms: &mut Terms, depth: u32) -> Option<Term> {
        match self.items.len().checked_sub(depth as usize + 1) {
            Some(at) => Some(self.items[at]),
            None => Some(Node::Entry(self.below? + (depth - self.items.len() as u32))).map(|node| terms.add(node)),
        }
    }

    fn height(&self) -> Option<i64> {
        self.below.map(|below| self.items.len() as i64 - i64::from(below))
    }

    fn is_nonzero(&self, terms: &Terms, depth: u32, item: Term) -> bool {
        match terms.node(item) {
            Node::Const(word) => !word.is_zero(),
            Node::Entry(slot) => self.entries.get(slot) == Some(&true),
            _ => self.nonzero.contains(&depth),
        }
    }
}

/// A place in the IR of the function, with what is known on the way there.
#[derive(Clone, Debug)]
struct Way {
    block: Block,
    at: usize,
    stack: Stack,
    memory: Memory,
    known: Known,
}

/// Where the bytecode goes.
#[derive(Clone, Debug)]
enum Dest {
    Block(Pc),
    /// To the word, if it is a target; the words that it is known not to be.
    Word(Term, BTreeSet<Pc>),
}

struct Checker<'a> {
    code: &'a Code,
    module: &'a Module,
    witness: &'a Witness,
    func: Func,
    function: &'a Function,
    is_main: bool,
    terms: Terms,
    /// The terms of the values of the function.
    env: HashMap<Value, Term>,
    states: BTreeMap<Block, State>,
    pending: BTreeSet<Block>,
    /// The effects of the bytecode that the IR has not shown yet.
    effects: std::vec::IntoIter<Effect>,
    tables: terms::Tables<'a>,
    pc: Pc,
    checked: Checked,
}

type Checks<T = ()> = Result<T, CheckErrorKind>;

impl<'a> Checker<'a> {
    fn new(code: &'a Code, module: &'a Module, witness: &'a Witness, func: Func, function: &'a Function) -> Self {
        Self {
            code,
            module,
            witness,
            func,
            function,
            is_main: module.entry == Some(func),
            terms: Terms::default(),
            env: HashMap::new(),
            states: BTreeMap::new(),
            pending: BTreeSet::new(),
            effects: Vec::new().into_iter(),
            tables: terms::Tables { code: &code.bytes, map: BTreeMap::new() },
            pc: 0,
            checked: Checked::default(),
        }
    }

    /// Runs every block that can be reached until what is known at their starts is what holds on every way there.
    fn run(&mut self, checked: &mut Checked, errors: &mut Vec<CheckError>) {
        let mut found: BTreeMap<Block, (Checked, Option<CheckError>)> = BTreeMap::new();
        let name = self.function.name.clone();
        let error = |block, pc, kind| CheckError { function: name.clone(), block, pc, kind };
        let Some(start) = self.function.entry() else { return };
        let at_start = self.start(start);
        found.insert(start, (self.checked, at_start.err().map(|kind| error(start, self.pc, kind))));
        while let Some(block) = self.pending.pop_first() {
            self.checked = Checked { blocks: 1, ..Checked::default() };
            let result = self.block(block);
            found.insert(block, (self.checked, result.err().map(|kind| error(block, self.pc, kind))));
        }
        for (_, (one, error)) in found {
            checked.blocks += one.blocks;
            checked.effects += one.effects;
            checked.edges += one.edges;
            checked.items += one.items;
            checked.unproved += one.unproved;
            errors.extend(error);
        }
    }

    fn claim(&self, func: Func) -> Checks<&'a FunctionWitness> {
        self.witness.functions.get(&func).ok_or(CheckErrorKind::Unnamed)
    }

    /// The start of the function: its entry block, or one that only goes on to the block it stands for.
    fn start(&mut self, start: Block) -> Checks {
        let claim = self.claim(self.func)?;
        self.pc = claim.pc;
        if self.is_main && (claim.pc != 0 || !claim.params.is_empty() || !claim.facts.is_empty()) {
            return Err(CheckErrorKind::Target { expected: "the start of the program".to_owned() });
        }
        let mut known = Known::default();
        let mut stack = Stack { items: Vec::new(), below: Below::Entry(0) };
        let slots = claim.facts.keys().rfind(|&&slot| slot < MEMORY).map_or(0, |last| last + 1);
        for slot in (0..slots).rev() {
            let item = match claim.facts.get(&slot) {
                Some(Fact::Is(word)) => self.terms.constant(*word),
                Some(Fact::NonZero) | None => self.terms.add(Node::Entry(slot)),
            };
            if claim.facts.get(&slot) == Some(&Fact::NonZero) {
                known.assume(&mut self.terms, item, true);
            }
            stack.items.push(item);
        }
        stack.below = Below::Entry(slots);
        let mut memory = Memory::default();
        for &address in &self.code.followed {
            let word = match claim.facts.get(&(MEMORY + address)) {
                Some(Fact::Is(word)) => self.terms.constant(*word),
                Some(Fact::NonZero) | None if self.is_main => self.terms.constant(Word::ZERO),
                Some(Fact::NonZero) | None => self.terms.add(Node::Entry(MEMORY + address)),
            };
            memory.write(address, word);
        }
        let params = self.function.blocks[start].params.clone();
        if params.len() != claim.params.len() {
            return Err(CheckErrorKind::Unnamed);
        }
        for (&slot, &param) in claim.params.iter().zip(&params) {
            let item = self.item(&stack, &memory, slot);
            self.env.insert(param, item);
        }
        let way = Way { block: start, at: 0, stack, memory, known };
        if self.witness.blocks.contains_key(&(self.func, start)) {
            return self.arrive(start, &params, &Dest::Block(claim.pc), &way);
        }
        self.go(way, Dest::Block(claim.pc))
    }

    /// The item of a stack, or the followed word of memory.
    fn item(&mut self, stack: &Stack, memory: &Memory, slot: u32) -> Term {
        match slot.checked_sub(MEMORY) {
            Some(address) => memory.word(&mut self.terms, address).unwrap_or_else(|| self.terms.unknown()),
            None => stack.get(&mut self.terms, slot),
        }
    }

    fn block(&mut self, block: Block) -> Checks {
        let Some(state) = self.states.get(&block).cloned() else { return Err(CheckErrorKind::Unnamed) };
        let claim = self.witness.blocks.get(&(self.func, block)).ok_or(CheckErrorKind::Unnamed)?;
        self.pc = claim.pc;
        let mut known = Known::default();
        for (&slot, &truth) in &state.entries {
            let item = self.terms.add(Node::Entry(slot));
            known.assume(&mut self.terms, item, truth);
        }
        for &slot in &state.nonzero {
            let item = self.terms.add(Node::Slot(block, slot));
            known.assume(&mut self.terms, item, true);
        }
        let height = state.items.len() as u32;
        let below = state.below.map_or(Below::Block(block, height), Below::Entry);
        let stack = Stack { items: state.items.clone(), below };
        // Nobody jumps to the start of the program unless it is a JUMPDEST.
        let fresh = self.is_main && claim.pc == 0 && !self.code.is_jumpdest(0);
        let mut memory = Memory::new(fresh);
        for (&address, &word) in &state.memory {
            // A write of zero to memory that is zero would only hide that its neighbours are zero too.
            if !fresh || self.terms.as_const(word) != Some(Word::ZERO) {
                memory.write(address, word);
            }
        }
        let params = self.function.blocks[block].params.clone();
        if params.len() != claim.params.len() {
            return Err(CheckErrorKind::Unnamed);
        }
        for (&slot, &param) in claim.params.iter().zip(&params) {
            let item = self.item(&stack, &memory, slot);
            self.env.insert(param, item);
        }
        let values = state.values.iter();
        let tables =
            values.map(|(&slot, set)| (self.terms.add(Node::Slot(block, slot)), Source::Known(set.clone()))).collect();
        let walked = walk::walk(self.code, claim.pc, stack, memory, tables, &mut self.terms);
        let walked = walked.ok_or(CheckErrorKind::Unnamed)?;
        if self.stack_trap(block, &state, &walked)? {
            return Ok(());
        }
        let Walked { effects, stack, memory, tables, end, .. } = walked;
        self.effects = effects.into_iter();
        self.tables = tables;
        let way = Way { block, at: 0, stack, memory, known };
        self.end(way, end)
    }

    /// Whether the block is nothing but a trap of the stack.
    fn stack_trap(&mut self, block: Block, state: &State, walked: &Walked<'_>) -> Checks<bool> {
        let first = self.function.blocks[block].insts.first().map(|&inst| self.function.insts[inst].imm);
        let code = match first {
            Some(Imm::Trap(code @ (TrapCode::StackUnderflow | TrapCode::StackOverflow))) => Some(code),
            _ => None,
        };
        let Some(height) = state.height().filter(|_| self.is_main) else {
            self.checked.unproved += usize::from(code.is_some());
            return Ok(code.is_some());
        };
        let expected = if walked.needs > height {
            Some(TrapCode::StackUnderflow)
        } else if height + walked.grows > STACK_LIMIT {
            Some(TrapCode::StackOverflow)
        } else {
            None
        };
        if code == expected { Ok(code.is_some()) } else { Err(CheckErrorKind::Height) }
    }

    /// Reads the IR from a place on, up to the instruction that decides where to go on, which is given.
    fn advance(&mut self, way: &mut Way) -> Checks<(Inst, &'a InstData)> {
        loop {
            let inst = *self.function.blocks[way.block].insts.get(way.at).ok_or(CheckErrorKind::Unnamed)?;
            let data = &self.function.insts[inst];
            match data.opcode {
                Opcode::Jump | Opcode::Brif | Opcode::Ret | Opcode::Trap | Opcode::Call => return Ok((inst, data)),
                _ => {}
            }
            way.at += 1;
            let args = self.args(&data.args)?;
            match (data.opcode, data.imm) {
                (Opcode::Iconst, Imm::Word(word)) => self.define(data, |terms| terms.constant(word)),
                (Opcode::Zext, _) => self.define(data, |_| args[0]),
                (opcode, Imm::None) if opcode.is_pure() => self.define(data, |terms| terms.pure(opcode, args)),
                (opcode, _) if opcode.is_pure() => return Err(CheckErrorKind::Opcode(opcode)),
                (opcode, _) => {
                    self.effect(data, &args)?;
                    if opcode.is_terminator() {
                        return Ok((inst, data));
                    }
                }
            }
        }
    }

    fn define(&mut self, data: &InstData, term: impl FnOnce(&mut Terms) -> Term) {
        let term = term(&mut self.terms);
        if let Some(value) = data.result() {
            self.env.insert(value, term);
        }
    }

    fn args(&self, values: &[Value]) -> Checks<Vec<Term>> {
        values.iter().map(|value| self.env.get(value).copied().ok_or(CheckErrorKind::Unnamed)).collect()
    }

    /// Holds an effect of the IR against the next one of the bytecode.
    fn effect(&mut self, data: &InstData, args: &[Term]) -> Checks {
        let expected = self.effects.next();
        if data.opcode == Opcode::Stop && expected.is_none() {
            // The code ends.
            return Ok(());
        }
        self.pc = expected.as_ref().map_or(self.pc, |effect| effect.pc);
        let same = expected.as_ref().is_some_and(|effect| {
            let operands = match effect.opcode {
                // The segment may be the part that is copied.
                Opcode::Datacopy => effect.args.len() == 3 && args.len() == 3 && effect.args[0] == args[0],
                _ => effect.args == args,
            };
            effect.opcode == data.opcode && operands && data.pc == Some(effect.pc)
        });
        let Some(effect) = expected.as_ref().filter(|_| same) else {
            let nothing = || "nothing".to_owned();
            return Err(CheckErrorKind::Effect {
                expected: expected
                    .map_or_else(nothing, |effect| self.show(Some(effect.pc), effect.opcode, &effect.args)),
                found: self.show(data.pc, data.opcode, args),
            });
        };
        if effect.opcode == Opcode::Datacopy {
            self.segment(data.imm, &effect.args, args)?;
        }
        if let Some((value, term)) = data.result().zip(effect.result) {
            self.env.insert(value, term);
        }
        self.checked.effects += 1;
        self.checked.items += args.len();
        Ok(())
    }

    fn show(&self, pc: Option<Pc>, opcode: Opcode, args: &[Term]) -> String {
        let place = pc.map_or_else(String::new, |pc| format!("@{pc:04x} "));
        let args: String = args.iter().map(|&arg| format!(" {}", self.terms.show(arg))).collect();
        format!("{place}{opcode}{args}")
    }

    /// A copy of code: the segment is the code, or just the bytes that are copied.
    fn segment(&self, imm: Imm, expected: &[Term], found: &[Term]) -> Checks {
        let Imm::Data(data) = imm else { return Err(CheckErrorKind::Data) };
        let bytes = &self.module.data[data];
        let len_is_same = expected[2] == found[2];
        if len_is_same && *bytes == self.code.bytes && expected[1] == found[1] {
            return Ok(());
        }
        let number = |term| self.terms.as_const(term).and_then(|word| usize::try_from(word).ok());
        let part = number(expected[1]).zip(number(expected[2])).and_then(|(from, len)| {
            let end = from.checked_add(len)?;
            self.code.bytes.get(from..end)
        });
        let from_start = number(found[1]) == Some(0);
        if len_is_same && from_start && part.is_some_and(|part| part == bytes.as_slice()) {
            return Ok(());
        }
        Err(CheckErrorKind::Data)
    }
}
