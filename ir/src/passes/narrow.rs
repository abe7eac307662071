//! `narrow`: widths, and what else follows from facts about values.
//!
//! *Does*: with bounds and bits of every value at every place (conditional constants, refined by branches): values that can
//! only be one word become constants, branches that can only go one way become jumps; `wadd`, `wsub`, `wmul` that
//! cannot wrap become exact; signed instructions on nonnegative values become unsigned; masks and sign extensions that
//! change nothing go; results, block parameters and values below a branch get the narrowest width that is proved.
//! *Requires*: every block is reachable; equal values are one value. *Ensures*: widths as narrow as the facts.
//! *Preserves*: equality of [`crate::Outcome`]. A `narrow` or `sub` stands only where its promise holds whenever it is
//! executed: whoever executes it speculatively must expect a broken promise.
//! *After*: Wegman and Zadeck; ABCD; the widths are this IR's own.
//!
//! ```text
//! brif (ult v0, 256), block1, block2; block1: v2 = wadd v0, 1   →   block1: v3: u8 = narrow v0; v2: u9 = add v3, 1
//! ```

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::entities::{Block, Inst, Value};
use crate::function::{Function, Imm};
use crate::opcode::Opcode;
use crate::passes::Context;
use crate::passes::edit::{Aliases, new_inst, new_jump, settle_widths, split_critical_edges};
use crate::passes::facts::Fact;
use crate::passes::facts::fact::{SIGN, low_mask};
use crate::passes::facts::flow::{Flow, Name};
use crate::passes::facts::transfer::bounded;
use crate::types::Type;

/// Widths above this are not worth a `narrow`: nothing gets cheaper by the last few bits of a word.
const WIDEST: u16 = 248;

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let mut work = func.clone();
    split_critical_edges(&mut work);
    let flow = Flow::new(&work, cx, None);
    let mut narrowing = Narrowing {
        func: &mut work,
        flow: &flow,
        standing: Vec::new(),
        heads: SecondaryMap::new(),
        made_in: Vec::new(),
        aliases: Aliases::default(),
        changed: false,
    };
    narrowing.run();
    if !narrowing.changed {
        return false;
    }
    settle_widths(&mut work, cx);
    *func = work;
    true
}

struct Narrowing<'a> {
    func: &'a mut Function,
    flow: &'a Flow,
    /// For each name the value that stands for it, where one was chosen.
    standing: Vec<Option<Value>>,
    /// Instructions to be put at the start of a block.
    heads: SecondaryMap<Block, Vec<Inst>>,
    /// The block that makes each refined name.
    made_in: Vec<Option<Block>>,
    aliases: Aliases,
    changed: bool,
}

impl Narrowing<'_> {
    fn run(&mut self) {
        let order: Vec<Block> = self.flow.cfg.reverse_postorder().to_vec();
        for &block in &order {
            for (name, _, _) in self.flow.names_made(block) {
                set_at(&mut self.made_in, name.index(), block);
            }
            if self.flow.is_reached(block) {
                self.narrow_params(block);
                self.rewrite_block(block);
            }
        }
        for &block in &order {
            let head = std::mem::take(&mut self.heads[block]);
            self.func.blocks[block].insts.splice(0..0, head);
        }
        std::mem::take(&mut self.aliases).apply(self.func);
    }

    fn narrow_params(&mut self, block: Block) {
        let is_entry = self.func.entry() == Some(block);
        for at in 0..self.func.blocks[block].params.len() {
            let param = self.func.blocks[block].params[at];
            let Some(fact) = self.flow.fact(param) else { continue };
            if let Some(word) = fact.constant().filter(|_| !is_entry) {
                let value = self.iconst_at_head(block, word);
                self.stand(param, value);
                self.changed = true;
            } else if !is_entry && worth(fact.ty(), self.func.ty(param)) {
                // The arguments are brought to the type when widths are settled.
                self.func.values[param].ty = fact.ty();
                self.changed = true;
            }
        }
    }

    fn rewrite_block(&mut self, block: Block) {
        let old = std::mem::take(&mut self.func.blocks[block].insts);
        let mut insts = Vec::with_capacity(old.len());
        for (at, &inst) in old.iter().enumerate() {
            let next = old.get(at + 1).copied();
            self.rewrite(inst, next, &mut insts);
        }
        self.func.blocks[block].insts = insts;
    }

    fn rewrite(&mut self, inst: Inst, next: Option<Inst>, insts: &mut Vec<Inst>) {
        let facts: Vec<Fact> =
            (0..self.func.insts[inst].args.len()).map(|at| self.flow.operand(self.func, inst, at)).collect();
        self.replace_operands(inst, &facts);
        if self.func.insts[inst].opcode == Opcode::Brif {
            self.decide(inst, &facts, insts);
            return;
        }
        let opcode = self.func.insts[inst].opcode;
        let Some(result) = self.func.insts[inst].result().filter(|_| opcode != Opcode::Call) else {
            insts.push(inst);
            return;
        };
        let fact = self.flow.fact(result);
        if let Some(word) = fact.and_then(|fact| fact.constant())
            && opcode.effects().is_removable()
            && opcode != Opcode::Iconst
            && opcode.is_pure()
        {
            let value = self.iconst(word, self.func.insts[inst].pc, insts);
            self.stand(result, value);
            self.changed = true;
            return;
        }
        if let Some(same) = self.identity(inst, &facts) {
            // The operand may be wider than the result, whose fact then says that it fits.
            let fits = self.func.ty(same) <= self.func.ty(result);
            let value = if fits { same } else { self.narrow(same, self.func.ty(result), inst, insts) };
            self.changed |= opcode != Opcode::Narrow;
            self.stand(result, value);
            return;
        }
        self.strengthen(inst, &facts);
        self.derive_type(inst);
        insts.push(inst);
        if let Some(fact) = fact
            && opcode != Opcode::Iconst
            && worth(fact.ty(), self.func.ty(result))
        {
            let ty = fact.ty();
            let follows = next.is_some_and(|next| {
                let data = &self.func.insts[next];
                data.opcode == Opcode::Narrow && data.args == [result] && self.func.ty(data.results[0]) == ty
            });
            if !follows {
                let value = self.narrow(result, ty, inst, insts);
                set_at(&mut self.standing, result.as_u32() as usize, value);
                self.changed = true;
            }
        }
    }

    /// Every operand is read through the value that stands for its name.
    fn replace_operands(&mut self, inst: Inst, facts: &[Fact]) {
        let opcode = self.func.insts[inst].opcode;
        // Where a type is asked for, a narrower value would only be widened again; a change of width keeps the operand
        // it has, or it would be made again for each.
        let typed = matches!(opcode, Opcode::Narrow | Opcode::Trunc | Opcode::Zext | Opcode::Call | Opcode::Ret);
        let uses: Vec<Value> = self.func.insts[inst].uses().collect();
        let mut replaced = Vec::with_capacity(uses.len());
        for (at, &value) in uses.iter().enumerate() {
            let Some(name) = self.flow.operand_name(inst, at) else {
                replaced.push(value);
                continue;
            };
            let is_constant = self.flow.fact_of(name).is_some_and(|fact| fact.constant().is_some());
            let new = if (typed || at >= facts.len()) && !is_constant {
                self.standing_or(self.base(name), value)
            } else {
                self.value_for(name, value)
            };
            self.changed |= new != value && !typed;
            replaced.push(new);
        }
        let mut replaced = replaced.into_iter();
        self.func.insts[inst].map_uses(|value| replaced.next().unwrap_or(value));
    }

    /// The name without what branches told.
    fn base(&self, mut name: Name) -> Name {
        while let Some(parent) = self.flow.parent(name) {
            name = parent;
        }
        name
    }

    fn standing_or(&self, name: Name, value: Value) -> Value {
        self.standing.get(name.index()).copied().flatten().unwrap_or(value)
    }

    /// The value that stands for a name, made at the start of the block that made the name if that is worth it.
    fn value_for(&mut self, name: Name, value: Value) -> Value {
        if let Some(standing) = self.standing.get(name.index()).copied().flatten() {
            return standing;
        }
        let Some(parent) = self.flow.parent(name) else { return value };
        let parent = self.value_for(parent, value);
        let made_in = self.made_in.get(name.index()).copied().flatten();
        let (Some(fact), Some(block)) = (self.flow.fact_of(name), made_in) else { return parent };
        let standing = if let Some(word) = fact.constant() {
            if self.func.constant(parent) == Some(word) { parent } else { self.iconst_at_head(block, word) }
        } else if worth(fact.ty(), self.func.ty(parent)) {
            let (inst, narrowed) = new_inst(self.func, Opcode::Narrow, Imm::None, &[parent], fact.ty(), None);
            self.heads[block].push(inst);
            narrowed
        } else {
            parent
        };
        set_at(&mut self.standing, name.index(), standing);
        standing
    }

    fn decide(&mut self, inst: Inst, facts: &[Fact], insts: &mut Vec<Inst>) {
        let Some(truth) = facts.first().and_then(Fact::as_truth) else {
            insts.push(inst);
            return;
        };
        let data = &self.func.insts[inst];
        let (target, pc) = (data.targets[usize::from(!truth)].clone(), data.pc);
        let jump = new_jump(self.func, target, pc);
        insts.push(jump);
        self.changed = true;
    }

    /// The operand that the instruction's result equals, given the facts.
    fn identity(&self, inst: Inst, facts: &[Fact]) -> Option<Value> {
        let data = &self.func.insts[inst];
        let possible = |fact: &Fact| !fact.zeros;
        let covers = |mask: &Fact, a: &Fact| possible(a) & !mask.ones == Word::ZERO;
        match (data.opcode, data.args.as_slice(), facts) {
            (Opcode::Zext, &[a], _) => Some(a),
            (Opcode::Narrow, &[a], _) if self.func.ty(a) <= self.func.ty(data.results[0]) => Some(a),
            (Opcode::Trunc, &[a], [fact]) if self.func.ty(data.results[0]).holds(&fact.hi) => Some(a),
            (Opcode::And, &[a, b], [x, y]) => {
                if covers(y, x) {
                    Some(a)
                } else if covers(x, y) {
                    Some(b)
                } else {
                    None
                }
            }
            (Opcode::Or, &[a, b], [x, y]) => {
                if possible(y) & !x.ones == Word::ZERO {
                    Some(a)
                } else if possible(x) & !y.ones == Word::ZERO {
                    Some(b)
                } else {
                    None
                }
            }
            (Opcode::Bound, &[a], [x]) if bounded(data.imm).is_some_and(|all| x.hi <= all.hi) => Some(a),
            (Opcode::Urem, &[a, _], [x, y]) if x.hi < y.lo => Some(a),
            (Opcode::Select, &[_, a, b], [c, _, _]) => c.as_truth().map(|truth| if truth { a } else { b }),
            (Opcode::Signextend, &[_, a], [k, x]) => {
                let bits = u16::try_from(k.constant()?).ok().filter(|&k| k < 31).map(|k| 8 * usize::from(k) + 7);
                let fits =
                    bits.is_none_or(|n| x.slo >= SIGN - low_mask(n) - Word::from(1) && x.shi <= SIGN + low_mask(n));
                fits.then_some(a)
            }
            _ => None,
        }
    }

    /// Replaces the instruction by one that says more, where the facts allow it.
    fn strengthen(&mut self, inst: Inst, facts: &[Fact]) {
        let data = &self.func.insts[inst];
        let &[a, b] = facts else { return };
        let bits = |at: usize| self.func.ty(data.args[at]).bits();
        let nonnegative = a.is_nonnegative() && b.is_nonnegative();
        let same_sign = nonnegative || (a.lo >= SIGN && b.lo >= SIGN);
        let opcode = match data.opcode {
            Opcode::Wadd if a.hi.checked_add(b.hi).is_some() && bits(0).max(bits(1)) < 256 => Opcode::Add,
            Opcode::Wsub if a.lo >= b.hi || self.flow.related(inst) == Some(true) => Opcode::Sub,
            Opcode::Wmul if a.hi.checked_mul(b.hi).is_some() && bits(0) + bits(1) <= 256 => Opcode::Mul,
            Opcode::Sdiv if nonnegative => Opcode::Udiv,
            Opcode::Srem if nonnegative => Opcode::Urem,
            Opcode::Slt if same_sign => Opcode::Ult,
            Opcode::Sar if b.is_nonnegative() => Opcode::Shr,
            _ => return,
        };
        self.func.insts[inst].opcode = opcode;
        self.changed = true;
    }

    /// Brings the result's type in line with the operands as they are now.
    fn derive_type(&mut self, inst: Inst) {
        let data = &self.func.insts[inst];
        let types: Vec<Type> = data.args.iter().map(|&value| self.func.ty(value)).collect();
        if let (Ok(Some(ty)), Some(result)) = (data.opcode.result_type(&types), data.result()) {
            self.func.values[result].ty = ty;
        }
    }

    /// Lets `value` stand for another value everywhere.
    fn stand(&mut self, for_value: Value, value: Value) {
        set_at(&mut self.standing, for_value.as_u32() as usize, value);
        self.aliases.set(for_value, value);
    }

    fn narrow(&mut self, value: Value, ty: Type, origin: Inst, insts: &mut Vec<Inst>) -> Value {
        let pc = self.func.insts[origin].pc;
        let (inst, narrowed) = new_inst(self.func, Opcode::Narrow, Imm::None, &[value], ty, pc);
        insts.push(inst);
        narrowed
    }

    fn iconst(&mut self, word: Word, pc: Option<u32>, insts: &mut Vec<Inst>) -> Value {
        let (inst, value) = new_inst(self.func, Opcode::Iconst, Imm::Word(word), &[], Type::of(&word), pc);
        insts.push(inst);
        value
    }

    fn iconst_at_head(&mut self, block: Block, word: Word) -> Value {
        let (inst, value) = new_inst(self.func, Opcode::Iconst, Imm::Word(word), &[], Type::of(&word), None);
        self.heads[block].push(inst);
        value
    }
}

/// Whether a narrower type is worth an instruction.
fn worth(narrow: Type, wide: Type) -> bool {
    narrow < wide && narrow.bits() <= WIDEST
}

fn set_at<T: Clone>(items: &mut Vec<Option<T>>, at: usize, item: T) {
    if items.len() <= at {
        items.resize(at + 1, None);
    }
    items[at] = Some(item);
}
