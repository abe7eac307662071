//! `fold`: constants and algebraic identities.
//!
//! *Does*: evaluates pure instructions on constants with [`crate::eval()`]; applies the identities of the rule tables
//! ([`arithmetic`], [`bits`], [`compare`]); reads through `zext` where any width will do; exchanges the sides of a
//! branch on a negated condition.
//! *Requires*: every block is reachable. *Ensures*: in a sweep in reverse post-order, no rule applies any more.
//! *Preserves*: equality of [`crate::Outcome`].
//! *After*: rule tables with evidence, as in forves: each rule carries an example that a test rewrites and evaluates on
//! both sides.
//!
//! ```text
//! v2 = iszero v1; v3 = iszero v2; brif v3, block1, block2   →   v2 = iszero v1; brif v2, block2, block1
//! ```

mod arithmetic;
mod bits;
mod compare;

use std::sync::LazyLock;

use crate::Word;
use crate::cfg::Cfg;
use crate::entities::{Inst, Value};
use crate::function::{Function, Imm};
use crate::opcode::{Opcode, Rule as WidthRule};
use crate::passes::Context;
use crate::passes::edit::{Aliases, derived_inst, new_inst, settle_widths};
use crate::types::Type;

/// How often one instruction may be rewritten in a sweep.
const REWRITES: usize = 12;

/// An identity: how to rewrite an instruction, and an example.
pub(crate) struct Rule {
    /// Its name.
    #[cfg_attr(not(test), allow(dead_code, reason = "names the rule in test failures"))]
    name: &'static str,
    /// The instructions it may apply to.
    on: &'static [Opcode],
    /// The rewriting, if it applies.
    rewrite: fn(&mut Site<'_>) -> Option<Rewrite>,
    /// Instructions on `v0: u256, v1: u256, v2: u1, v3: u8`, separated by `;`, and the resulting value.
    #[cfg_attr(not(test), allow(dead_code, reason = "evidence, read by the test"))]
    before: &'static str,
    /// What they become.
    #[cfg_attr(not(test), allow(dead_code, reason = "evidence, read by the test"))]
    after: &'static str,
}

/// What an instruction becomes.
pub(crate) enum Rewrite {
    /// Its result is this value.
    Same(Value),
    /// Its result is this constant.
    Word(Word),
    /// It becomes this instruction.
    Inst(Opcode, Vec<Value>),
    /// It becomes this change of width.
    Convert(Opcode, Type, Value),
}

/// The instruction that a rule looks at.
pub(crate) struct Site<'a> {
    func: &'a mut Function,
    inst: Inst,
    /// Instructions that will stand before it.
    before: &'a mut Vec<Inst>,
}

impl Site<'_> {
    fn arg(&self, at: usize) -> Value {
        self.func.insts[self.inst].args[at]
    }

    fn imm(&self) -> Imm {
        self.func.insts[self.inst].imm
    }

    fn constant(&self, at: usize) -> Option<Word> {
        self.func.constant(self.arg(at))
    }

    fn constant_of(&self, value: Value) -> Option<Word> {
        self.func.constant(value)
    }

    fn ty(&self, value: Value) -> Type {
        self.func.ty(value)
    }

    fn result_type(&self) -> Type {
        self.func.insts[self.inst].result().map_or(Type::WORD, |value| self.func.ty(value))
    }

    /// The operands of the instruction that defines `value`, if it is an `opcode`.
    fn operands<const N: usize>(&self, value: Value, opcode: Opcode) -> Option<[Value; N]> {
        let data = &self.func.insts[self.func.def_inst(value)?];
        if data.opcode == opcode { data.args.as_slice().try_into().ok() } else { None }
    }

    /// A width that holds `value`, which a look at its definition may make narrower than its type.
    fn width(&self, value: Value) -> u16 {
        let bits = self.ty(value).bits();
        if let Some(word) = self.constant_of(value) {
            return Type::of(&word).bits();
        }
        if let Some([n, a]) = self.operands(value, Opcode::Shr)
            && let Some(n) = self.shift(n)
        {
            return self.ty(a).bits().saturating_sub(n).max(1);
        }
        bits
    }

    /// A constant shift amount below 256.
    fn shift(&self, value: Value) -> Option<u16> {
        u16::try_from(self.constant_of(value)?).ok().filter(|&n| n < 256)
    }

    fn iconst(&mut self, word: Word) -> Value {
        let pc = self.func.insts[self.inst].pc;
        let (inst, value) = new_inst(self.func, Opcode::Iconst, Imm::Word(word), &[], Type::of(&word), pc);
        self.before.push(inst);
        value
    }

    fn emit(&mut self, opcode: Opcode, args: &[Value]) -> Option<Value> {
        let pc = self.func.insts[self.inst].pc;
        let (inst, value) = derived_inst(self.func, opcode, args, pc)?;
        self.before.push(inst);
        Some(value)
    }

    fn convert(&mut self, opcode: Opcode, ty: Type, value: Value) -> Value {
        let pc = self.func.insts[self.inst].pc;
        let (inst, value) = new_inst(self.func, opcode, Imm::None, &[value], ty, pc);
        self.before.push(inst);
        value
    }
}

/// The rules by instruction.
static RULES: LazyLock<Vec<Vec<&'static Rule>>> = LazyLock::new(|| by_opcode(all_rules()));

fn all_rules() -> impl Iterator<Item = &'static Rule> {
    arithmetic::RULES.iter().chain(bits::RULES).chain(compare::RULES)
}

fn by_opcode(rules: impl Iterator<Item = &'static Rule>) -> Vec<Vec<&'static Rule>> {
    let mut table: Vec<Vec<&'static Rule>> = vec![Vec::new(); Opcode::ALL.len()];
    for rule in rules {
        for &opcode in rule.on {
            table[opcode as usize].push(rule);
        }
    }
    table
}

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    run_with(func, cx, &RULES)
}

fn run_with(func: &mut Function, cx: &mut Context, rules: &[Vec<&'static Rule>]) -> bool {
    let cfg = Cfg::new(func);
    let mut aliases = Aliases::default();
    let mut changed = false;
    for &block in cfg.reverse_postorder() {
        let mut insts = Vec::with_capacity(func.blocks[block].insts.len());
        for inst in std::mem::take(&mut func.blocks[block].insts) {
            func.insts[inst].map_uses(|value| aliases.resolve(value));
            changed |= fold_inst(func, rules, inst, &mut insts, &mut aliases);
        }
        func.blocks[block].insts = insts;
    }
    if changed {
        aliases.apply(func);
        settle_widths(func, cx);
    }
    changed
}

/// Folds one instruction and puts what is left of it at the end of `insts`; whether anything changed.
fn fold_inst(
    func: &mut Function,
    rules: &[Vec<&'static Rule>],
    inst: Inst,
    insts: &mut Vec<Inst>,
    aliases: &mut Aliases,
) -> bool {
    let mut changed = read_through_zext(func, inst, insts) | order_constant_last(func, inst);
    changed |= negate_branch(func, inst) | know_condition(func, inst, insts);
    for _ in 0..REWRITES {
        if let Some(word) = evaluate(func, inst) {
            // A widened constant is there because its user asks for the type.
            let ty = func.insts[inst].result().map(|value| func.ty(value));
            let asked = ty.filter(|_| func.insts[inst].opcode == Opcode::Zext);
            make_constant(func, inst, word, asked);
            changed = true;
            break;
        }
        let opcode = func.insts[inst].opcode;
        let rewrite = rules[opcode as usize].iter().find_map(|rule| {
            let mut site = Site { func, inst, before: insts };
            (rule.rewrite)(&mut site)
        });
        let Some(rewrite) = rewrite else { break };
        let Some(result) = func.insts[inst].result() else { break };
        changed = true;
        match rewrite {
            Rewrite::Word(word) => make_constant(func, inst, word, None),
            Rewrite::Same(value) if func.ty(value) <= func.ty(result) => {
                aliases.set(result, value);
                return true;
            }
            Rewrite::Same(value) => set(func, inst, Opcode::Narrow, vec![value]),
            Rewrite::Convert(opcode, ty, value) => {
                set(func, inst, opcode, vec![value]);
                func.values[result].ty = ty;
            }
            Rewrite::Inst(opcode, args) => {
                let types: Vec<Type> = args.iter().map(|&value| func.ty(value)).collect();
                set(func, inst, opcode, args);
                if let Ok(Some(ty)) = opcode.result_type(&types) {
                    debug_assert!(ty <= func.ty(result), "{opcode} is wider than what it replaces");
                    func.values[result].ty = ty;
                }
            }
        }
        read_through_zext(func, inst, insts);
        order_constant_last(func, inst);
    }
    insts.push(inst);
    changed
}

fn set(func: &mut Function, inst: Inst, opcode: Opcode, args: Vec<Value>) {
    let data = &mut func.insts[inst];
    data.opcode = opcode;
    data.imm = Imm::None;
    data.args = args;
}

fn make_constant(func: &mut Function, inst: Inst, word: Word, ty: Option<Type>) {
    set(func, inst, Opcode::Iconst, Vec::new());
    func.insts[inst].imm = Imm::Word(word);
    if let Some(result) = func.insts[inst].result() {
        func.values[result].ty = ty.unwrap_or(Type::of(&word));
    }
}

/// The value of a pure instruction on constants.
fn evaluate(func: &Function, inst: Inst) -> Option<Word> {
    let data = &func.insts[inst];
    if !data.opcode.is_pure() || matches!(data.opcode, Opcode::Iconst | Opcode::KeccakWords) {
        return None;
    }
    let words: Option<Vec<Word>> = data.args.iter().map(|&value| func.constant(value)).collect();
    crate::eval(data.opcode, data.imm, &words?, data.result().map(|value| func.ty(value))).ok()
}

/// Operands of any width are read as integers: the value before a `zext` does as well, and a constant in its own width.
fn read_through_zext(func: &mut Function, inst: Inst, before: &mut Vec<Inst>) -> bool {
    let opcode = func.insts[inst].opcode;
    if matches!(opcode, Opcode::Call | Opcode::Ret | Opcode::Brif) {
        return false;
    }
    let mut changed = false;
    for at in 0..func.insts[inst].args.len() {
        let value = func.insts[inst].args[at];
        let Some(def) = func.def_inst(value) else { continue };
        match (func.insts[def].opcode, func.insts[def].imm) {
            (Opcode::Zext, _) => func.insts[inst].args[at] = func.insts[def].args[0],
            (Opcode::Iconst, Imm::Word(word)) if Type::of(&word) < func.ty(value) => {
                let pc = func.insts[def].pc;
                let (narrow, value) = new_inst(func, Opcode::Iconst, Imm::Word(word), &[], Type::of(&word), pc);
                before.push(narrow);
                func.insts[inst].args[at] = value;
            }
            _ => continue,
        }
        changed = true;
    }
    if changed && let Some(result) = func.insts[inst].result() {
        let types: Vec<Type> = func.insts[inst].args.iter().map(|&value| func.ty(value)).collect();
        match opcode.info().rule {
            WidthRule::Shrink if types[0] < func.ty(result) => func.insts[inst].opcode = Opcode::Zext,
            _ => {
                if let Ok(Some(ty)) = opcode.result_type(&types) {
                    func.values[result].ty = ty;
                }
            }
        }
    }
    changed
}

fn order_constant_last(func: &mut Function, inst: Inst) -> bool {
    let data = &func.insts[inst];
    let &[a, b] = data.args.as_slice() else { return false };
    let swap = data.opcode.is_commutative() && func.constant(a).is_some() && func.constant(b).is_none();
    if swap {
        func.insts[inst].args.swap(0, 1);
    }
    swap
}

/// `brif` on `iszero` of a condition takes the other side on the condition itself.
fn negate_branch(func: &mut Function, inst: Inst) -> bool {
    let mut changed = false;
    while func.insts[inst].opcode == Opcode::Brif {
        let Some(def) = func.def_inst(func.insts[inst].args[0]) else { break };
        let (opcode, inner) = (func.insts[def].opcode, func.insts[def].args.first().copied());
        let Some(inner) = inner.filter(|&value| opcode == Opcode::Iszero && func.ty(value) == Type::BOOL) else {
            break;
        };
        func.insts[inst].args[0] = inner;
        func.insts[inst].targets.swap(0, 1);
        changed = true;
    }
    changed
}

/// What a branch passes on that is its condition, or the negation of it, is known on each side.
fn know_condition(func: &mut Function, inst: Inst, before: &mut Vec<Inst>) -> bool {
    if func.insts[inst].opcode != Opcode::Brif {
        return false;
    }
    let condition = func.insts[inst].args[0];
    let mut changed = false;
    for side in 0..func.insts[inst].targets.len() {
        for at in 0..func.insts[inst].targets[side].args.len() {
            let arg = func.insts[inst].targets[side].args[at];
            let negated = func
                .def_inst(arg)
                .is_some_and(|def| func.insts[def].opcode == Opcode::Iszero && func.insts[def].args[0] == condition);
            if arg != condition && !negated {
                continue;
            }
            let word = Word::from((side == 0) != negated);
            let pc = func.insts[inst].pc;
            let (constant, value) = new_inst(func, Opcode::Iconst, Imm::Word(word), &[], Type::BOOL, pc);
            before.push(constant);
            func.insts[inst].targets[side].args[at] = value;
            changed = true;
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::{CostModel, Gas, Operand, Rows};
    use crate::passes::{Goal, dce};
    use crate::{Module, parse};

    fn module(text: &str) -> (Module, String) {
        let (body, result) = text.rsplit_once(';').unwrap_or(("", text));
        let lines: String = body.split(';').map(|line| format!("    {}\n", line.trim())).collect();
        let text = format!(
            "zvm 1\nfunc @f(u256, u256, u1, u8) {{\nblock0(v0: u256, v1: u256, v2: u1, v3: u8):\n{}    \
             return_words 32, {}\n}}\n",
            if body.is_empty() { String::new() } else { lines },
            result.trim()
        );
        (parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}")), text)
    }

    /// What a straight-line function returns.
    fn outcome(func: &Function, params: &[Word]) -> Word {
        let mut values = std::collections::BTreeMap::new();
        for (&param, &word) in func.blocks[func.layout[0]].params.iter().zip(params) {
            values.insert(param, word);
        }
        for &inst in &func.blocks[func.layout[0]].insts {
            let data = &func.insts[inst];
            let args: Vec<Word> = data.args.iter().map(|value| values[value]).collect();
            if data.opcode == Opcode::ReturnWords {
                return args[0];
            }
            let result = data.result().unwrap();
            if data.opcode == Opcode::Bound {
                values.insert(result, args[0]);
                continue;
            }
            values.insert(result, crate::eval(data.opcode, data.imm, &args, Some(func.ty(result))).unwrap());
        }
        panic!("no return");
    }

    #[test]
    fn every_rule_has_evidence() {
        let sign = Word::from(1) << 255;
        let corners = [
            Word::ZERO,
            Word::from(1),
            Word::from(2),
            Word::from(0x7f),
            Word::from(0x80),
            Word::from(0xff),
            Word::from(0x100),
            Word::from(u64::MAX),
            Word::MAX >> 128,
            sign - Word::from(1),
            sign,
            sign + Word::from(1),
            Word::MAX - Word::from(1),
            Word::MAX,
        ];
        for rule in all_rules() {
            let (mut before, before_text) = module(rule.before);
            let (after, _) = module(rule.after);
            let original = before.funcs.values().next().unwrap().clone();
            let mut cx = Context::new(&before, Goal::Evm, false);
            let func = before.funcs.values_mut().next().unwrap();
            assert!(
                run_with(func, &mut cx, &by_opcode(std::iter::once(rule))),
                "{}: does not apply\n{before_text}",
                rule.name
            );
            dce::run(func, &mut cx);
            assert_eq!(before, after, "{}: gives\n{before}\nnot\n{after}", rule.name);
            let rewritten = before.funcs.values().next().unwrap();
            for &a in &corners {
                for &b in &corners {
                    for flag in [0, 1] {
                        let byte = b & Word::from(0xff);
                        let params = [a, b, Word::from(flag), byte];
                        assert_eq!(
                            outcome(&original, &params),
                            outcome(rewritten, &params),
                            "{}: differs on {params:x?}",
                            rule.name
                        );
                    }
                }
            }
        }
    }

    /// No rule trades: what comes out costs no more than what went in, in gas and in rows. So `fold` asks no model.
    #[test]
    fn no_rule_makes_anything_dearer() {
        // On the stack what was just computed need not be brought.
        let total = |text: &str, stack: Option<Gas>| -> u64 {
            let module = module(text).0;
            let func = module.funcs.values().next().unwrap();
            let price = |inst: Inst| {
                let data = &func.insts[inst];
                let args = data.args.iter().copied();
                match stack {
                    Some(gas) => {
                        let brought = args.filter(|&arg| func.def_inst(arg).is_none() || func.constant(arg).is_some());
                        gas.price(data.opcode, &brought.map(|arg| Operand::of(func, arg)).collect::<Vec<_>>())
                    }
                    None => Rows.price(data.opcode, &args.map(|arg| Operand::of(func, arg)).collect::<Vec<_>>()),
                }
            };
            let insts = func.insts_in_order().map(|(_, inst)| inst);
            insts.filter(|&inst| !func.insts[inst].opcode.is_terminator()).map(price).sum()
        };
        let mut dearer = Vec::new();
        for rule in all_rules() {
            for stack in [Some(Gas::NEWEST), None] {
                let (before, after) = (total(rule.before, stack), total(rule.after, stack));
                if after > before {
                    dearer.push((rule.name, stack.is_some(), before, after));
                }
            }
        }
        // A negation is a gas more than a comparison with zero, until the branch on it takes it in. No `iszero` of a single bit is
        // measured, which is linear in a circuit.
        let known = [("ult-left-constant", true, 8, 9), ("select-condition", false, 1, 2)];
        assert_eq!(dearer, known, "rule, whether in gas, before, after");
    }

    #[test]
    fn rules_have_different_names() {
        let names: std::collections::BTreeSet<_> = all_rules().map(|rule| rule.name).collect();
        assert_eq!(names.len(), all_rules().count());
    }
}
