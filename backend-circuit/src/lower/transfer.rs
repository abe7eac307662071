//! What the exits of a region leave in the label and the registers.

use std::collections::BTreeMap;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Value, Word as U256};

use super::{Element, Lowering, State, register_index};
use crate::error::CircuitError;
use crate::field::from_u256;
use crate::gadgets::{LIMB, Lc, Word, enforce, limb_count, native_limbs};
use crate::registers::{Register, Source, source};

/// A state element with more terms than this becomes a variable of its own, so that the rows that read it stay short.
const MAX_TERMS: usize = 16;

/// The field element of a small integer.
pub(super) fn field<F: PrimeField>(value: &U256) -> F {
    from_u256(value)
}

/// The constant that a combination of variables is once equal variables are cancelled.
pub(super) fn constant_of<F: PrimeField>(lc: &Lc<F>) -> Option<F> {
    if let Some(constant) = lc.as_constant() {
        return Some(constant);
    }
    let one = bellpepper_core::Variable::new_unchecked(bellpepper_core::Index::Input(0));
    let mut constant = Some(F::ZERO);
    lc.for_each_term(|variable, coeff| {
        constant = if variable == one { Some(coeff) } else { None }.filter(|_| constant.is_some())
    });
    constant
}

/// What an exit leaves in a register.
#[derive(Clone, Debug)]
struct New<F: PrimeField> {
    key: Key<F>,
    lc: Lc<F>,
    /// Its value in an idle slot, if that is forced.
    idle: Option<F>,
}

/// Equal keys, equal values.
#[derive(Clone, Debug, PartialEq)]
enum Key<F> {
    /// What the register held before.
    Old,
    /// What another register held before.
    Moved(Register),
    Constant(F),
    /// The key of a constant slot.
    Slot(U256),
    /// Limb `index` of a value in a layout of `limbs` limbs. One value may leave as one limb and as the lower of two.
    Limb {
        value: Value,
        limbs: usize,
        index: usize,
    },
}

/// A product to be constrained.
type Row<F> = (Lc<F>, Lc<F>);

/// What a register becomes: terms that cost nothing, and products that cost a row each.
type Update<F> = (Vec<Lc<F>>, Vec<Row<F>>);

impl<F: PrimeField> Lowering<'_, '_, F> {
    /// The state after the slot.
    pub(super) fn transfer<CS: ConstraintSystem<F>>(mut self, cs: &mut CS) -> Result<State<F>, CircuitError> {
        let program = self.program;
        let func = &program.legalized.func;
        let mut news: BTreeMap<Register, Vec<(usize, New<F>)>> = BTreeMap::new();
        for index in 0..self.exits.len() {
            let (to, call) = (self.exits[index].to, self.exits[index].call);
            let params = &func.blocks[call.block].params;
            let mut cs = cs.namespace(|| format!("exit {index}"));
            for &value in program.registers.live(to) {
                let arg = params.iter().position(|&param| param == value).and_then(|at| call.args.get(at)).copied();
                let limbs = self.leave(&mut cs, arg.unwrap_or(value), value, index)?;
                for (&register, new) in program.registers.of(value).iter().zip(limbs) {
                    news.entry(register).or_default().push((index, new));
                }
            }
        }
        let mut after = self.state.clone();
        for element in [Element::Sum, Element::Time, Element::Undone] {
            after.set(element, shorten(cs, || element.name().into(), self.state.get(element))?);
        }
        let label = F::from(self.region.label());
        let steps: Vec<(F, &Lc<F>)> =
            self.exits.iter().map(|exit| (F::from(exit.to.label()) - label, &exit.predicate.lc)).collect();
        let next = Lc::sum([(F::ONE, &self.before.get(Element::Label))].into_iter().chain(steps));
        after.set(Element::Label, shorten(cs, || "label".into(), next)?);
        for (register, news) in news {
            let index = register_index(register);
            let old = self.before.registers.get(index).ok_or(SynthesisError::Unsatisfiable)?;
            if let Some(new) = self.update(cs, register, old, &news)? {
                after.registers[index] = new;
            }
        }
        Ok(after)
    }

    /// The limbs of `value`, in the layout of the type of `target`, as exit number `exit` leaves them in the registers of `target`.
    fn leave<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        value: Value,
        target: Value,
        exit: usize,
    ) -> Result<Vec<New<F>>, CircuitError> {
        let program = self.program;
        let is_place = program.legalized.places.is_carried(target);
        if is_place && let Source::Constant(slot) = source(&program.legalized.func, value) {
            return Ok(vec![New { key: Key::Slot(slot), lc: self.constant_key(cs, &slot)?, idle: None }]);
        }
        let width = self.width(target);
        let constant = |limb: F| New { key: Key::Constant(limb), lc: Lc::constant(limb), idle: Some(limb) };
        let inner = match source(&program.legalized.func, value) {
            Source::Constant(word) => return Ok(native_limbs::<F>(width, &word).into_iter().map(constant).collect()),
            Source::Value(inner) => inner,
        };
        let to = program.registers.of(target);
        let from = program.registers.of(inner);
        let is_live = program.registers.live(self.region).contains(&inner);
        let inner_width = self.width(inner);
        let fits = match is_place {
            true => program.legalized.places.is_carried(inner),
            false => limb_count(inner_width) == limb_count(width) || inner_width <= LIMB,
        };
        if is_live && fits {
            // Passed on as it is. Where it was read, the value times `active` serves as well, and is zero when idle.
            let mut limbs = Vec::with_capacity(2);
            for (index, &register) in to.iter().enumerate() {
                limbs.push(match from.get(index) {
                    None => constant(F::ZERO),
                    Some(&held) => {
                        let key = if held == register { Key::Old } else { Key::Moved(held) };
                        match self.gated.get(&held) {
                            Some(gated) => New { key, lc: gated.clone(), idle: Some(F::ZERO) },
                            None => {
                                let old = self.before.registers.get(register_index(held));
                                New { key, lc: old.cloned().ok_or(SynthesisError::Unsatisfiable)?, idle: None }
                            }
                        }
                    }
                });
            }
            return Ok(limbs);
        }
        if is_place {
            let predicate = self.exits[exit].predicate.clone();
            let key = Key::Limb { value: inner, limbs: 1, index: 0 };
            return Ok(vec![New { key, lc: self.key(cs, inner, &predicate)?, idle: None }]);
        }
        // A result whose promise holds only on the path needs no gate here: the exit multiplies it by a predicate that
        // implies the path. Only a split into limbs needs it in range.
        let splits = |word: &Word<F>| limb_count(width) == 2 && word.as_limb().is_some_and(|limb| limb.bound() > LIMB);
        let unguarded = self.held.get(&inner).filter(|held| held.guard.is_some() && !splits(&held.word));
        let (word, idle) = match unguarded {
            Some(held) => (held.word.zext(width.max(held.word.bound())), None),
            None => {
                let (word, idle) = self.word(cs, inner)?;
                (word.zext(width), idle)
            }
        };
        let elements = word.limbs(&mut cs.namespace(|| format!("{inner}")))?;
        let limbs = elements.len();
        let idles = idle.map(|idle| native_limbs::<F>(width, &idle));
        let new = |(index, lc): (usize, Lc<F>)| {
            let idle = idles.as_ref().and_then(|idles| idles.get(index)).copied();
            let key = lc.as_constant().map_or(Key::Limb { value: inner, limbs, index }, Key::Constant);
            New { key, lc, idle }
        };
        Ok(elements.into_iter().enumerate().map(new).collect())
    }

    /// What a register holds after the slot; `None` if what it held before. Exits without an entry do not care.
    fn update<CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        register: Register,
        old: &Lc<F>,
        news: &[(usize, New<F>)],
    ) -> Result<Option<Lc<F>>, CircuitError> {
        // Exits that leave the same value count as one.
        let mut groups: Vec<(Vec<usize>, New<F>)> = Vec::new();
        for (exit, new) in news {
            match groups.iter_mut().find(|(_, other)| other.key == new.key) {
                Some((exits, _)) => exits.push(*exit),
                None => groups.push((vec![*exit], new.clone())),
            }
        }
        let kept = groups.iter().position(|(_, new)| new.key == Key::Old).map(|at| groups.remove(at));
        if groups.is_empty() {
            return Ok(None);
        }
        let (current, current_idle) = match self.gated.get(&register) {
            Some(gated) => (gated.clone(), Some(F::ZERO)),
            None => (old.clone(), None),
        };
        // Either the old value is the base that exits change, or one of the new values is, if no exit or only cheap ones
        // keep the old one.
        let mut best: Option<Update<F>> = None;
        for base in core::iter::once(None).chain((0..groups.len()).map(Some)) {
            let mut free = vec![old.clone()];
            let mut rows = Vec::new();
            let mut term = |flag: &Lc<F>, whole: bool, x: Lc<F>, idle: Option<F>| match constant_of(&x) {
                Some(constant) => free.push(flag.times(constant)),
                None => match idle {
                    Some(idle) if whole => free.push(self.times_active(&x, idle)),
                    _ => rows.push((flag.clone(), x)),
                },
            };
            let difference = |a: Option<F>, b: Option<F>| a.zip(b).map(|(a, b)| a - b);
            match base.map(|at| &groups[at].1) {
                None => {
                    for (exits, new) in &groups {
                        let flag = self.flag(exits);
                        let whole = groups.len() == 1
                            && kept.is_none()
                            && constant_of(&flag.minus(&self.active)) == Some(F::ZERO);
                        term(&flag, whole, new.lc.minus(&current), difference(new.idle, current_idle));
                    }
                }
                Some(base_new) => {
                    term(&self.active, true, base_new.lc.minus(&current), difference(base_new.idle, current_idle));
                    for (at, (exits, new)) in groups.iter().enumerate() {
                        if Some(at) != base {
                            term(&self.flag(exits), false, new.lc.minus(&base_new.lc), None);
                        }
                    }
                    if let Some((exits, _)) = &kept {
                        term(&self.flag(exits), false, current.minus(&base_new.lc), None);
                    }
                }
            }
            if best.as_ref().is_none_or(|(_, fewest)| rows.len() < fewest.len()) {
                best = Some((free, rows));
            }
        }
        let Some((mut terms, mut rows)) = best else { return Ok(None) };
        let last = rows.pop();
        for (index, (flag, x)) in rows.iter().enumerate() {
            terms.push(Lc::mul(cs, || format!("out {register} term {index}"), flag, x)?);
        }
        let rest = Lc::sum(terms.iter().map(|term| (F::ONE, term)));
        let Some((flag, x)) = last else { return shorten(cs, || format!("out {register}"), rest).map(Some) };
        // The last product defines the register itself, so that it is one variable.
        let value = flag.value().zip(x.value()).zip(rest.value()).map(|((flag, x), rest)| flag * x + rest);
        let out = Lc::alloc(cs, || format!("out {register}"), value)?;
        enforce(cs, || format!("out {register}"), &flag, &x, &out.minus(&rest));
        Ok(Some(out))
    }

    fn flag(&self, exits: &[usize]) -> Lc<F> {
        Lc::sum(exits.iter().filter_map(|&exit| self.exits.get(exit)).map(|exit| (F::ONE, &exit.predicate.lc)))
    }
}

/// `lc`, as a variable of its own if it has many terms.
pub(super) fn shorten<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    name: impl Fn() -> String,
    lc: Lc<F>,
) -> Result<Lc<F>, CircuitError> {
    let mut terms = 0;
    lc.for_each_term(|_, _| terms += 1);
    if terms <= MAX_TERMS {
        return Ok(lc);
    }
    let out = Lc::alloc(cs, &name, lc.value())?;
    enforce(cs, &name, &lc, &Lc::one(), &out);
    Ok(out)
}
