//! `bound-addresses`: every access to memory has a check of its address that stays when the access goes.
//!
//! *Does*: puts a `bound` where the address of an access is defined, or where the execution becomes certain to reach the access, and
//! lets everything after it use the bounded value. One `bound` serves all accesses at constant distances from one value.
//! Where type or constant show that an access lies within the limit of memory, there is none. Bounds that are there already
//! move up to where they are certain.
//! *Requires*: every block is reachable. *Ensures*: an access that is removed later leaves its check; facts about addresses
//! come from instructions that stand before their uses.
//! *Preserves*: equality of [`crate::Outcome`]: an execution that a `bound` ends would have ended without outcome at the
//! access. The EVM has the check for nothing where the access stays.
//! *After*: checks on pointers hoisted and coalesced, as in compilers for languages with bounds checks (Gupta).
//!
//! ```text
//! mstore v0, v1; v2 = wadd v0, 32; mstore v2, v1   →   v3 = bound 64, v0; mstore v3, v1; v2 = wadd v3, 32; …
//! ```

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::cfg::Cfg;
use crate::entities::{Block, Inst, Value};
use crate::function::{Function, Imm, Pc};
use crate::memory::MEMORY_LIMIT;
use crate::opcode::Opcode;
use crate::passes::edit::{derived_inst, new_inst, settle_widths};
use crate::passes::{Context, Goal};
use crate::reach::{Range, may_end, place, ranges, root};
use crate::types::Type;

const LIMIT: u32 = MEMORY_LIMIT as u32;

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let asks = |inst: Inst| !ranges(func, &func.insts[inst]).is_empty() || func.insts[inst].opcode == Opcode::Bound;
    if !func.insts_in_order().any(|(_, inst)| asks(inst)) {
        return false;
    }
    let mut work = func.clone();
    let cfg = Cfg::new(&work);
    let mut bounding = Bounding {
        func: &mut work,
        goal: cx.goal(),
        bounded: SecondaryMap::new(),
        renamed: SecondaryMap::new(),
        home: SecondaryMap::new(),
        undo: Vec::new(),
        ends: BTreeSet::new(),
    };
    bounding.run(&cfg);
    settle_widths(&mut work, cx);
    if work == *func {
        return false;
    }
    *func = work;
    true
}

/// A value that is bounded: so many bytes from it on are within the limit.
#[derive(Clone, Copy, Debug)]
struct Bounded {
    value: Value,
    room: u32,
}

struct Bounding<'a> {
    func: &'a mut Function,
    goal: Goal,
    /// What stands for a value where the walk is.
    bounded: SecondaryMap<Value, Option<Bounded>>,
    /// What stands for the results of bounds that were there before.
    renamed: SecondaryMap<Value, Option<Value>>,
    /// The block of each value's definition.
    home: SecondaryMap<Value, Option<(Block, usize)>>,
    undo: Vec<(Value, Option<Bounded>)>,
    /// Starts and lengths whose sum is bounded in this block.
    ends: BTreeSet<(Value, Value)>,
}

impl Bounding<'_> {
    fn run(&mut self, cfg: &Cfg) {
        enum Step {
            Enter(Block),
            Leave(usize),
        }
        let Some(entry) = self.func.entry() else { return };
        for &block in cfg.reverse_postorder() {
            for (at, &inst) in self.func.blocks[block].insts.iter().enumerate() {
                for &result in &self.func.insts[inst].results {
                    self.home[result] = Some((block, at + 1));
                }
            }
        }
        let mut stack = vec![Step::Enter(entry)];
        while let Some(step) = stack.pop() {
            match step {
                Step::Leave(mark) => {
                    while self.undo.len() > mark {
                        let Some((value, before)) = self.undo.pop() else { break };
                        self.bounded[value] = before;
                    }
                }
                Step::Enter(block) => {
                    stack.push(Step::Leave(self.undo.len()));
                    self.block(block);
                    stack.extend(cfg.dominated_children(block).iter().rev().map(|&child| Step::Enter(child)));
                }
            }
        }
    }

    fn block(&mut self, block: Block) {
        self.ends.clear();
        let old = std::mem::take(&mut self.func.blocks[block].insts);
        let mut out = Vec::with_capacity(old.len());
        let mut start = 0;
        while start < old.len() {
            let end = old[start..].iter().position(|&inst| may_end(self.func.insts[inst].opcode));
            let end = end.map_or(old.len(), |at| start + at + 1);
            self.segment(block, &old, start..end, &mut out);
            start = end;
        }
        self.func.blocks[block].insts = out;
    }

    /// Instructions of which all are executed once the first one is, the last perhaps not to its end.
    fn segment(&mut self, block: Block, old: &[Inst], at: core::ops::Range<usize>, out: &mut Vec<Inst>) {
        let mut wanted = self.wanted(old, at.clone());
        // By the place where each goes: behind its definition, or at the start.
        let mut places: BTreeMap<usize, Vec<(Value, u32, Option<Pc>)>> = BTreeMap::new();
        let order = core::mem::take(&mut wanted.order);
        for root in order {
            let Some((room, pc)) = wanted.rooms.remove(&root) else { continue };
            let place = match self.home[root] {
                Some((home, behind)) if home == block => behind.max(at.start),
                _ => at.start,
            };
            places.entry(place).or_default().push((root, room, pc));
        }
        for position in at.clone() {
            for (root, room, pc) in places.remove(&position).unwrap_or_default() {
                self.bound(root, room, pc, out);
            }
            let inst = old[position];
            self.note_end(inst);
            let data = &self.func.insts[inst];
            let pc = data.pc;
            if let (Opcode::Bound, &[a], Some(result)) = (data.opcode, data.args.as_slice(), data.result()) {
                let root = self.root_of(a);
                let mut stands = self.current(root);
                if self.func.ty(stands) > Type::PLACE {
                    // Another bound says that it fits.
                    let (narrow, narrowed) = new_inst(self.func, Opcode::Narrow, Imm::None, &[stands], Type::PLACE, pc);
                    out.push(narrow);
                    stands = narrowed;
                }
                self.renamed[result] = Some(stands);
                continue;
            }
            if self.goal == Goal::Circuit {
                self.bound_dynamic(inst, out);
            }
            let (bounded, renamed) = (&self.bounded, &self.renamed);
            self.func.insts[inst].map_uses(|value| current(bounded, renamed, value));
            out.push(inst);
        }
    }

    fn root_of(&self, value: Value) -> Value {
        root(self.func, value)
    }

    /// The roots that have to be bounded in a segment, each with the room it needs.
    fn wanted(&self, old: &[Inst], at: core::ops::Range<usize>) -> Wanted {
        let mut asked: Vec<(Value, u32, Option<Pc>)> = Vec::new();
        for &inst in &old[at] {
            let data = &self.func.insts[inst];
            if let (Opcode::Bound, &[a], Imm::Word(room)) = (data.opcode, data.args.as_slice(), data.imm) {
                asked.push((a, u32::try_from(room).unwrap_or(u32::MAX), data.pc));
            }
            for range in ranges(self.func, data) {
                asked.push(match range {
                    Range::Bytes(offset, len) => (offset, len, data.pc),
                    Range::Dynamic(_, len) => (len, 0, data.pc),
                });
            }
        }
        let mut wanted = Wanted::default();
        let mut distant = Vec::new();
        for (address, len, pc) in asked {
            let (root, offset) = place(self.func, address);
            if offset > 0 && self.func.constant(root).is_none() {
                distant.push((address, root, offset, len, pc));
            } else {
                self.want(&mut wanted, self.root_of(address), len, pc);
            }
        }
        for (address, root, offset, len, pc) in distant {
            // A sum may have wrapped, unless its root is bounded itself.
            let known = self.bounded[root].is_some() || wanted.rooms.contains_key(&root) || self.is_short(root);
            match offset.checked_add(len) {
                Some(room) if known => self.want(&mut wanted, root, room, pc),
                _ => self.want(&mut wanted, self.root_of(address), len, pc),
            }
        }
        wanted
    }

    /// Whether sums of the value and constants below 2^32 do not wrap.
    fn is_short(&self, value: Value) -> bool {
        self.func.ty(value).bits() <= 128
    }

    fn want(&self, wanted: &mut Wanted, root: Value, room: u32, pc: Option<Pc>) {
        let largest = self.func.constant(root).unwrap_or_else(|| self.func.ty(root).max_value());
        let fits = largest.checked_add(Word::from(room)).is_some_and(|end| end <= Word::from(LIMIT));
        if fits || self.bounded[root].is_some_and(|bounded| bounded.room >= room) {
            return;
        }
        let entry = wanted.rooms.entry(root).or_insert_with(|| {
            wanted.order.push(root);
            (room, pc)
        });
        entry.0 = entry.0.max(room);
    }

    fn bound(&mut self, root: Value, room: u32, pc: Option<Pc>, out: &mut Vec<Inst>) {
        let (before, operand) = (self.bounded[root], self.current(root));
        let (inst, value) =
            new_inst(self.func, Opcode::Bound, Imm::Word(Word::from(room)), &[operand], Type::PLACE, pc);
        out.push(inst);
        self.bounded[root] = Some(Bounded { value, room });
        self.undo.push((root, before));
    }

    /// Takes note of a bound of a sum, as [`Self::bound_dynamic`] makes them.
    fn note_end(&mut self, inst: Inst) {
        let operands = |value: Value, opcodes: [Opcode; 2]| {
            let data = &self.func.insts[self.func.def_inst(value)?];
            opcodes.contains(&data.opcode).then_some(data.args.as_slice())
        };
        let data = &self.func.insts[inst];
        let (Opcode::Bound, &[end]) = (data.opcode, data.args.as_slice()) else { return };
        let Some(&[start, len]) = operands(self.root_of(end), [Opcode::Wadd, Opcode::Add]) else { return };
        let (start, len) = (self.root_of(start), self.root_of(len));
        let start = match operands(start, [Opcode::Select; 2]) {
            Some(&[_, _, offset]) => self.root_of(offset),
            _ => start,
        };
        self.ends.insert((start, len));
        self.ends.insert((len, start));
    }

    /// An access of unknown length: its end is bounded, where there is anything to access.
    fn bound_dynamic(&mut self, inst: Inst, out: &mut Vec<Inst>) {
        let (data, pc) = (&self.func.insts[inst], self.func.insts[inst].pc);
        let removable = matches!(
            data.opcode,
            Opcode::Keccak256 | Opcode::Mcopy | Opcode::Calldatacopy | Opcode::Datacopy | Opcode::Extcodecopy
        );
        if !removable {
            return;
        }
        for range in ranges(self.func, data) {
            let Range::Dynamic(offset, len) = range else { continue };
            let (offset, len) = (self.current(offset), self.current(len));
            let short = |value: Value| {
                let value = self.root_of(value);
                self.bounded[value].is_some() || self.func.ty(value).bits() < Type::PLACE.bits()
            };
            if self.ends.contains(&(self.root_of(offset), self.root_of(len))) {
                continue;
            }
            let start = if short(offset) {
                offset
            } else {
                let zero = iconst(self.func, Word::ZERO, pc, out);
                let empty = emit(self.func, Opcode::Iszero, &[len], pc, out);
                let start = emit(self.func, Opcode::Select, &[empty, zero, offset], pc, out);
                let (bound, start) =
                    new_inst(self.func, Opcode::Bound, Imm::Word(Word::ZERO), &[start], Type::PLACE, pc);
                out.push(bound);
                start
            };
            let end = emit(self.func, Opcode::Wadd, &[start, len], pc, out);
            let (bound, _) = new_inst(self.func, Opcode::Bound, Imm::Word(Word::ZERO), &[end], Type::PLACE, pc);
            out.push(bound);
        }
    }

    fn current(&self, value: Value) -> Value {
        current(&self.bounded, &self.renamed, value)
    }
}

fn current(
    bounded: &SecondaryMap<Value, Option<Bounded>>,
    renamed: &SecondaryMap<Value, Option<Value>>,
    value: Value,
) -> Value {
    bounded[value].map_or_else(|| renamed[value].unwrap_or(value), |bounded| bounded.value)
}

/// The roots to be bounded, in the order of their first access.
#[derive(Default)]
struct Wanted {
    rooms: BTreeMap<Value, (u32, Option<Pc>)>,
    order: Vec<Value>,
}

fn iconst(func: &mut Function, word: Word, pc: Option<Pc>, out: &mut Vec<Inst>) -> Value {
    let (inst, value) = new_inst(func, Opcode::Iconst, Imm::Word(word), &[], Type::of(&word), pc);
    out.push(inst);
    value
}

fn emit(func: &mut Function, opcode: Opcode, args: &[Value], pc: Option<Pc>, out: &mut Vec<Inst>) -> Value {
    match derived_inst(func, opcode, args, pc) {
        Some((inst, value)) => {
            out.push(inst);
            value
        }
        // Only instructions whose width rule always applies are emitted here.
        None => args[0],
    }
}
