//! Symbolic values of the stack, hash-consed, and symbolic stacks.
//!
//! An expression is built from constants and from the slots of the stack that a block was entered with. Whatever else a
//! block computes is *opaque*: the analysis of jumps does not need its value. Folding is the reference semantics.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use zvm_ir::{Imm, Opcode, Pc, Word, eval};

use crate::subset::{self, Lowering};

/// A handle of an expression in an [`Arena`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Expr(u32);

/// Some value that the analysis knows nothing about. Not even equal to itself.
pub(crate) const TOP: Expr = Expr(0);

/// What an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    /// Unknown.
    Top,
    /// A constant.
    Const(Word),
    /// The item at this depth (0 is the top) of the stack that the block was entered with.
    Entry(u32),
    /// The item `.1` of the stack that the function `.0` was entered with. Used for classes only, see `functions`.
    Param(u32, u32),
    /// What the instruction at this place computed; equal to itself within one execution of a block. Whether it is
    /// zero or one for certain.
    Local(Pc, bool),
    /// One of the values of this set: what an entry of a table in the code can be.
    Set(u32),
    /// An opcode of the EVM applied to its operands, top of the stack first.
    Op(u8, [Expr; 3]),
}

#[derive(Clone, Copy, Debug, Default)]
struct Traits {
    size: u8,
    entry: bool,
    param: bool,
    opaque: bool,
    set: bool,
}

/// Larger expressions become opaque. A masked function pointer has three nodes, a selector table entry about a dozen.
const SIZE_LIMIT: u8 = 48;
/// A set of values with more members is not followed.
const SET_LIMIT: usize = 2048;
/// So many values are enumerated in one lift.
const VALUES_LIMIT: usize = 2_000_000;

/// All expressions of one lift. Handles are given in order of creation, so they are deterministic.
#[derive(Debug)]
pub(crate) struct Arena {
    nodes: Vec<(Node, Traits)>,
    index: HashMap<Node, Expr>,
    sets: Vec<BTreeSet<Word>>,
    set_index: HashMap<BTreeSet<Word>, u32>,
    /// How many more values may be enumerated.
    budget: usize,
}

impl Arena {
    pub(crate) fn new() -> Self {
        let (nodes, index, sets, set_index) = (Vec::new(), HashMap::new(), Vec::new(), HashMap::new());
        let mut arena = Self { nodes, index, sets, set_index, budget: VALUES_LIMIT };
        arena.insert(Node::Top, Traits { size: 1, opaque: true, ..Traits::default() });
        arena
    }

    fn insert(&mut self, node: Node, traits: Traits) -> Expr {
        let next = Expr(self.nodes.len() as u32);
        let expr = *self.index.entry(node).or_insert(next);
        if expr == next {
            self.nodes.push((node, traits));
        }
        expr
    }

    pub(crate) fn node(&self, expr: Expr) -> Node {
        self.nodes[expr.0 as usize].0
    }

    fn traits(&self, expr: Expr) -> Traits {
        self.nodes[expr.0 as usize].1
    }

    pub(crate) fn constant(&mut self, word: Word) -> Expr {
        self.insert(Node::Const(word), Traits { size: 1, ..Traits::default() })
    }

    pub(crate) fn entry(&mut self, slot: u32) -> Expr {
        self.insert(Node::Entry(slot), Traits { size: 1, entry: true, ..Traits::default() })
    }

    pub(crate) fn param(&mut self, function: u32, slot: u32) -> Expr {
        self.insert(Node::Param(function, slot), Traits { size: 1, param: true, ..Traits::default() })
    }

    pub(crate) fn local(&mut self, pc: Pc, is_bool: bool) -> Expr {
        self.insert(Node::Local(pc, is_bool), Traits { size: 1, opaque: true, ..Traits::default() })
    }

    /// One of these values.
    pub(crate) fn set(&mut self, values: BTreeSet<Word>) -> Expr {
        if values.len() == 1
            && let Some(&word) = values.first()
        {
            return self.constant(word);
        }
        let next = self.sets.len() as u32;
        let at = *self.set_index.entry(values.clone()).or_insert(next);
        if at == next {
            self.sets.push(values);
        }
        self.insert(Node::Set(at), Traits { size: 1, set: true, ..Traits::default() })
    }

    /// Every value that an expression can have; `None` if they are too many or not known.
    pub(crate) fn values(&mut self, expr: Expr) -> Option<BTreeSet<Word>> {
        let granted = self.budget.min(4 * SET_LIMIT);
        let mut left = granted;
        let values = self.values_within(expr, &mut left).filter(|values| values.len() <= SET_LIMIT);
        self.budget -= granted - left;
        values
    }

    fn values_within(&mut self, expr: Expr, budget: &mut usize) -> Option<BTreeSet<Word>> {
        *budget = budget.checked_sub(1)?;
        // The same set twice in an expression is the same member twice.
        if let Some(set) = self.set_leaf(expr) {
            let Node::Set(at) = self.node(set) else { return None };
            let mut all = BTreeSet::new();
            for word in self.sets[at as usize].clone() {
                let member = self.constant(word);
                let one = self.map(expr, &mut |_, leaf| (leaf == set).then_some(member));
                all.extend(self.values_within(one, budget)?);
                if all.len() > SET_LIMIT {
                    return None;
                }
            }
            return Some(all);
        }
        let Node::Op(byte, operands) = self.node(expr) else {
            return self.as_const(expr).map(|word| BTreeSet::from([word]));
        };
        let count = operand_count(byte);
        let mut known = Vec::new();
        for &operand in &operands[..count] {
            known.push(self.values_within(operand, budget));
        }
        let only = |values: &Option<BTreeSet<Word>>| match values {
            Some(values) if values.len() == 1 => values.first().copied(),
            _ => None,
        };
        let limit = Word::from(SET_LIMIT);
        match (byte, &known[..]) {
            (MOD, [None, modulus]) => {
                let modulus = only(modulus).filter(|modulus| *modulus <= limit)?;
                *budget = budget.checked_sub(modulus.saturating_to::<usize>())?;
                return Some(up_to(modulus, |word| word < modulus || modulus.is_zero()));
            }
            (AND, [None, mask] | [mask, None]) => {
                let mask = only(mask).filter(|mask| *mask <= limit)?;
                *budget = budget.checked_sub(mask.saturating_to::<usize>())?;
                return Some(up_to(mask, |word| word & !mask == Word::ZERO));
            }
            _ => {}
        }
        let mut rows: Vec<Vec<Word>> = vec![Vec::new()];
        for values in known {
            let values = values?;
            if rows.len() * values.len() > SET_LIMIT {
                return None;
            }
            rows = rows
                .iter()
                .flat_map(|row| values.iter().map(move |&word| row.iter().copied().chain([word]).collect()))
                .collect();
        }
        *budget = budget.checked_sub(rows.len())?;
        let mut all = BTreeSet::new();
        for row in rows {
            let args: Vec<_> = row.into_iter().map(|word| self.constant(word)).collect();
            let value = self.op(byte, &args, TOP);
            all.insert(self.as_const(value)?);
        }
        Some(all)
    }

    fn set_leaf(&self, expr: Expr) -> Option<Expr> {
        match self.node(expr) {
            Node::Set(_) => Some(expr),
            Node::Op(byte, operands) if self.traits(expr).set => {
                operands[..operand_count(byte)].iter().find_map(|&operand| self.set_leaf(operand))
            }
            _ => None,
        }
    }

    /// The constant that an expression is.
    pub(crate) fn as_const(&self, expr: Expr) -> Option<Word> {
        match self.node(expr) {
            Node::Const(word) => Some(word),
            _ => None,
        }
    }

    /// Whether the expression depends on something unknown.
    pub(crate) fn is_opaque(&self, expr: Expr) -> bool {
        self.traits(expr).opaque
    }

    /// Whether the expression depends on nothing but constants and members of sets.
    pub(crate) fn is_fixed(&self, expr: Expr) -> bool {
        let Traits { entry, param, opaque, .. } = self.traits(expr);
        !entry && !param && !opaque
    }

    /// Whether the expression depends on the stack that the block was entered with.
    pub(crate) fn has_entry(&self, expr: Expr) -> bool {
        self.traits(expr).entry
    }

    /// The opcode `byte` applied to `args`, folded if they are constants; `otherwise` when the expression would be too
    /// large or the opcode has no pure meaning of its own.
    pub(crate) fn op(&mut self, byte: u8, args: &[Expr], otherwise: Expr) -> Expr {
        let Some(row) = subset::row_of(byte) else { return otherwise };
        let (opcode, swapped) = match row.lowering {
            Lowering::Ins(opcode) => (opcode, false),
            Lowering::Swapped(opcode) => (opcode, true),
            Lowering::None | Lowering::Codecopy => return otherwise,
        };
        if !opcode.is_pure() || args.len() > 3 {
            return otherwise;
        }
        let mut words: Vec<_> = args.iter().filter_map(|&arg| self.as_const(arg)).collect();
        if words.len() == args.len() {
            if swapped {
                words.reverse();
            }
            return match eval(opcode, Imm::None, &words, None) {
                Ok(word) => self.constant(word),
                Err(_) => otherwise,
            };
        }
        if opcode == Opcode::And {
            // A mask of the width of a label leaves a label as it is, which only its value can tell; but a zero mask,
            // or an operand masked twice, can be seen here.
            for (a, b) in [(args[0], args[1]), (args[1], args[0])] {
                if self.as_const(a) == Some(Word::ZERO) {
                    return a;
                }
                if let Node::Op(inner, operands) = self.node(b)
                    && inner == byte
                    && operands[..2].contains(&a)
                {
                    return b;
                }
            }
        }
        let size = args.iter().fold(1u8, |size, &arg| size.saturating_add(self.traits(arg).size));
        if size > SIZE_LIMIT || args.contains(&TOP) {
            return otherwise;
        }
        let mut operands = [TOP; 3];
        operands[..args.len()].copy_from_slice(args);
        let traits =
            args.iter().map(|&arg| self.traits(arg)).fold(Traits { size, ..Traits::default() }, |all, one| Traits {
                entry: all.entry | one.entry,
                param: all.param | one.param,
                opaque: all.opaque | one.opaque,
                set: all.set | one.set,
                ..all
            });
        self.insert(Node::Op(byte, operands), traits)
    }

    /// `expr` with its leaves replaced; a leaf for which `leaf` gives nothing stays.
    pub(crate) fn map(&mut self, expr: Expr, leaf: &mut dyn FnMut(&mut Self, Expr) -> Option<Expr>) -> Expr {
        if let Some(replaced) = leaf(self, expr) {
            return replaced;
        }
        let Node::Op(byte, operands) = self.node(expr) else { return expr };
        let count = operand_count(byte);
        let mut mapped = operands;
        for operand in &mut mapped[..count] {
            *operand = self.map(*operand, leaf);
        }
        if mapped == operands { expr } else { self.op(byte, &mapped[..count], TOP) }
    }

    /// `expr`, over the entry of a block, as an expression over whatever `stack` is over, when the block is entered with
    /// that stack. Expressions over local values lose their identity.
    pub(crate) fn subst(&mut self, expr: Expr, stack: &Stack) -> Expr {
        if !self.has_entry(expr) {
            return if self.is_opaque(expr) { TOP } else { expr };
        }
        if self.is_opaque(expr) {
            return TOP;
        }
        self.map(expr, &mut |arena, leaf| match arena.node(leaf) {
            Node::Entry(slot) => Some(stack.get(arena, slot)),
            _ => None,
        })
    }

    /// The slots of the entry stack in `expr`, each once, in order.
    pub(crate) fn slots(&self, expr: Expr) -> Vec<u32> {
        let mut slots = Vec::new();
        let mut pending = vec![expr];
        while let Some(expr) = pending.pop() {
            match self.node(expr) {
                Node::Entry(slot) => slots.push(slot),
                Node::Op(byte, operands) if self.has_entry(expr) => pending.extend(&operands[..operand_count(byte)]),
                _ => {}
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// The only parameter in `expr`; `None` if there are several.
    pub(crate) fn single_param(&self, expr: Expr) -> Option<(u32, u32)> {
        let mut found = None;
        let mut pending = vec![expr];
        while let Some(expr) = pending.pop() {
            match self.node(expr) {
                Node::Param(function, slot) => {
                    if found.is_some_and(|old| old != (function, slot)) {
                        return None;
                    }
                    found = Some((function, slot));
                }
                Node::Op(byte, operands) => pending.extend(&operands[..operand_count(byte)]),
                _ => {}
            }
        }
        found
    }

    /// Whether the value is zero or one for certain.
    fn is_bool(&self, expr: Expr) -> bool {
        match self.node(expr) {
            Node::Op(byte, _) => matches!(byte, 0x10..=0x15),
            Node::Local(_, is_bool) => is_bool,
            Node::Const(word) => word <= Word::ONE,
            _ => false,
        }
    }

    /// What follows from `condition` being zero (`truth` is false) or not: pairs of an expression and its value.
    pub(crate) fn facts(&mut self, condition: Expr, truth: bool) -> Vec<(Expr, Expr)> {
        let (zero, one) = (self.constant(Word::ZERO), self.constant(Word::ONE));
        let mut facts = Vec::new();
        let (mut expr, mut truth) = (condition, truth);
        loop {
            if !truth {
                facts.push((expr, zero));
            } else if self.is_bool(expr) {
                facts.push((expr, one));
            }
            match self.node(expr) {
                Node::Op(ISZERO, [inner, ..]) => {
                    expr = inner;
                    truth = !truth;
                }
                Node::Op(EQ, [a, b, _]) if truth => {
                    if self.as_const(b).is_some() {
                        facts.push((a, b));
                    } else if self.as_const(a).is_some() {
                        facts.push((b, a));
                    }
                    return facts;
                }
                _ => return facts,
            }
        }
    }

    /// If `condition` is a slot of the entry stack through any number of ISZERO: the slot, and whether the condition is
    /// true when the slot is not zero.
    pub(crate) fn tested_slot(&self, condition: Expr) -> Option<(u32, bool)> {
        let (mut expr, mut sense) = (condition, true);
        loop {
            match self.node(expr) {
                Node::Entry(slot) => return Some((slot, sense)),
                Node::Op(ISZERO, [inner, ..]) => {
                    expr = inner;
                    sense = !sense;
                }
                _ => return None,
            }
        }
    }
}

fn up_to(last: Word, keep: impl Fn(Word) -> bool) -> BTreeSet<Word> {
    let mut word = Word::ZERO;
    let mut all = BTreeSet::new();
    while word <= last {
        if keep(word) {
            all.insert(word);
        }
        word += Word::ONE;
    }
    all
}

const MOD: u8 = 0x06;
const AND: u8 = 0x16;
const EQ: u8 = 0x14;
const ISZERO: u8 = 0x15;

fn operand_count(byte: u8) -> usize {
    (crate::decode::stack_io(byte).0 as usize).min(3)
}

/// Slots from here on are not of the stack: slot `MEMORY + a` is the word of memory at `a`. Only words that some jump
/// takes its target from are followed.
pub(crate) const MEMORY: u32 = 1 << 24;

/// A stack: known items above the items `base`, `base + 1`, … of the stack at some entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stack {
    /// The known items, the top last.
    items: Vec<Expr>,
    /// How many items of the entry stack are gone.
    pub(crate) base: u32,
    /// The words of memory that were written, by their slot.
    pub(crate) memory: BTreeMap<u32, Expr>,
}

impl Stack {
    /// The known items, the top first.
    pub(crate) fn top_down(&self) -> impl Iterator<Item = Expr> + '_ {
        self.items.iter().rev().copied()
    }

    /// A stack with these known items, the top first, above the entry's item `base`.
    pub(crate) fn from_top_down(items: Vec<Expr>, base: u32) -> Self {
        let mut items = items;
        items.reverse();
        Self { items, base, memory: BTreeMap::new() }
    }

    /// How many items are known.
    pub(crate) fn len(&self) -> u32 {
        self.items.len() as u32
    }

    /// How much higher it is than the entry stack.
    pub(crate) fn delta(&self) -> i64 {
        i64::from(self.len()) - i64::from(self.base)
    }

    /// The item at `depth`, 0 being the top.
    pub(crate) fn get(&self, arena: &mut Arena, depth: u32) -> Expr {
        if depth >= MEMORY {
            return self.memory.get(&depth).copied().unwrap_or_else(|| arena.entry(depth));
        }
        match self.len().checked_sub(depth + 1) {
            Some(at) => self.items[at as usize],
            None => arena.entry(self.base + (depth - self.len())),
        }
    }

    pub(crate) fn push(&mut self, item: Expr) {
        self.items.push(item);
    }

    pub(crate) fn pop(&mut self, arena: &mut Arena) -> Expr {
        self.items.pop().unwrap_or_else(|| {
            self.base += 1;
            arena.entry(self.base - 1)
        })
    }

    /// Makes the items down to `depth` known ones.
    fn reach(&mut self, arena: &mut Arena, depth: u32) {
        while self.len() <= depth {
            let item = arena.entry(self.base);
            self.items.insert(0, item);
            self.base += 1;
        }
    }

    pub(crate) fn swap(&mut self, arena: &mut Arena, a: u32, b: u32) {
        self.reach(arena, a.max(b));
        let last = self.items.len() - 1;
        self.items.swap(last - a as usize, last - b as usize);
    }

    /// Removes known items at the bottom that are the entry's own, so that equal stacks look equal.
    pub(crate) fn normalise(&mut self, arena: &mut Arena) {
        let mut kept = 0;
        while let Some(&item) = self.items.get(kept)
            && self.base > 0
            && item == arena.entry(self.base - 1)
        {
            kept += 1;
            self.base -= 1;
        }
        self.items.drain(..kept);
    }

    /// Rewrites every known item.
    pub(crate) fn map(&mut self, mut map: impl FnMut(Expr) -> Expr) {
        for item in self.items.iter_mut().chain(self.memory.values_mut()) {
            *item = map(*item);
        }
    }

    /// The stack after something with the stack effect `effect` ran on `self`.
    pub(crate) fn then(&self, arena: &mut Arena, effect: &Self) -> Self {
        let keep = self.len().saturating_sub(effect.base) as usize;
        let mut items = self.items[..keep].to_vec();
        items.extend(effect.items.iter().map(|&item| arena.subst(item, self)));
        let mut memory = self.memory.clone();
        for (&slot, &item) in &effect.memory {
            memory.insert(slot, arena.subst(item, self));
        }
        let mut stack = Self { items, base: self.base + effect.base.saturating_sub(self.len()), memory };
        stack.normalise(arena);
        stack
    }
}
