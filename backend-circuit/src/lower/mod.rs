//! From a region to constraints: one slot of a step circuit.
//!
//! A slot runs if the label register names its region (`active`). It multiplies what it reads of the registers by
//! `active`, so that an idle slot computes on zeros, and adds to the registers only what is multiplied by the predicate
//! of an exit, so that an idle slot changes nothing.
//!
//! | name | equation | meaning |
//! |---|---|---|
//! | `active` | `active · (active − 1) = 0` | a slot runs or idles |
//! | `label` | `active · (label − id) = 0` | it runs only if it is its turn |
//! | `reg · active` | `active · register = value` | what the region reads |
//! | `branch` | `predicate · condition = taken` | the predicate of a branch; the other branch has the rest |
//! | `unprovable` | `predicate · condition = 0` | no proof takes this exit |
//! | `out` | `taken · (new − old) = out − …` | what the exits taken leave in a register |
//!
//! *Soundness.* If `active` is zero, so is every predicate, and the state after the slot equals the state before. If it
//! is one, the label is this region's, the predicates of the exits are booleans of which exactly one is one (an
//! unprovable exit's is forced to zero), gadgets force every value, and the state after the slot is the one at the root of
//! the exit's target. A prover may leave a slot idle that could run; that only costs steps.
//! *Completeness.* Gadgets are satisfiable for all operands in range. `narrow` and `sub` rest on facts that hold only
//! where their block executes, so their results are multiplied by the block's predicate before a gadget sees them.
//!
//! **Idle values.** In an idle slot every value that depends on gated registers alone is a constant that is known
//! when the circuit is made: the gadgets leave no choice. So for a value `x` that is `k` in an idle slot,
//! `active · x = x − k · (1 − active)` costs no row.

mod access;
mod calls;
mod places;
mod state;
mod transfer;

use std::collections::{BTreeMap, HashMap};

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Block, BlockCall, Imm, Inst, InstData, Opcode, Pc, Value, Word as U256, eval};

pub(crate) use calls::next_call;
pub use state::{Element, Features, Layout, State};

use crate::error::CircuitError;
use crate::gadgets::keccak::keccak_f_words;
use crate::gadgets::{Arms, Lc, Limb, Word, arith, enforce, enforce_boolean, lower_pure, select};
use crate::legalize::{Support, support_of};
use crate::program::Program;
use crate::region::{Region, Target};
use crate::registers::{Register, Source, source};
use crate::replay::Feed;
use crate::trace::{Chosen, slots};

/// The place of the label in the state of every program.
pub const LABEL: usize = 2;

/// Appends a slot of `region` and gives the state after it. `feed` is the prover's input; without it only the shape is
/// made. What the prover chose is appended to `chosen`.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known; `Unsatisfiable` when a value is out of
/// range, which means that the state does not come from this program.
pub fn slot<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    program: &Program,
    region: Region,
    state: &State<F>,
    feed: Option<&mut Feed<'_, F>>,
    chosen: &mut Chosen<Lc<F>>,
) -> Result<State<F>, CircuitError> {
    let before = state.get(Element::Label);
    let label = F::from(program.label(region));
    // Slots that share a label run where the prover's input says so.
    let runs = feed.as_deref().is_none_or(|feed| feed.runs(program, region));
    let active = before.value().map(|value| if value == label && runs { F::ONE } else { F::ZERO });
    let label = Lc::constant(label);
    let active = Lc::alloc(cs, || "active".into(), active)?;
    enforce_boolean(cs, || "active".into(), &active);
    enforce(cs, || "label".into(), &active, &before.minus(&label), &Lc::zero());
    if let Some(system) = program.system(region) {
        return slots::slot(cs, program, system, state, &active, feed, chosen);
    }
    let mut lowering = Lowering {
        program,
        region,
        active: active.clone(),
        before: state,
        state: state.clone(),
        feed,
        chosen,
        held: HashMap::new(),
        permutations: BTreeMap::new(),
        keys: HashMap::new(),
        constants: BTreeMap::new(),
        gated: HashMap::new(),
        noted: Vec::new(),
        opening: Vec::new(),
        incoming: HashMap::new(),
        exits: Vec::new(),
    };
    let data = &program.regions.regions[region];
    if Some(data.root) == program.legalized.func.entry() {
        lowering.begin_call(cs, data.root)?;
    }
    if Some(data.root) == program.legalized.halt {
        return lowering.halt(cs, data.root);
    }
    for &block in &data.blocks {
        lowering.block(cs, block)?;
    }
    let opening = core::mem::take(&mut lowering.opening);
    let state = lowering.transfer(cs)?;
    chosen.elements.extend(opening);
    Ok(state)
}

/// The predicate of a block or branch.
#[derive(Clone, Debug)]
struct Predicate<F: PrimeField> {
    lc: Lc<F>,
    /// Whether it is `active` itself.
    whole: bool,
}

/// A value of the region.
#[derive(Clone, Debug)]
struct Held<F: PrimeField> {
    word: Word<F>,
    /// Its value in an idle slot, where nothing is left to the prover.
    idle: Option<U256>,
    /// The word satisfies its bounds only if this is one.
    guard: Option<Lc<F>>,
}

/// A branch into a block of the region.
struct Incoming<F: PrimeField> {
    predicate: Predicate<F>,
    args: Vec<Value>,
}

/// A branch out of the region.
struct Exit<'a, F: PrimeField> {
    predicate: Predicate<F>,
    to: Region,
    call: &'a BlockCall,
}

struct Lowering<'a, 'f, F: PrimeField> {
    program: &'a Program,
    region: Region,
    active: Lc<F>,
    before: &'a State<F>,
    /// The state as far as the slot has come: all but label and registers, which exits change.
    state: State<F>,
    feed: Option<&'a mut Feed<'f, F>>,
    chosen: &'a mut Chosen<Lc<F>>,
    held: HashMap<Value, Held<F>>,
    /// States after a permutation, by the words before it.
    permutations: BTreeMap<Vec<Value>, Vec<Word<F>>>,
    /// The keys of values that are places.
    keys: HashMap<Value, Lc<F>>,
    /// The keys of constants that are places.
    constants: BTreeMap<U256, Lc<F>>,
    /// Registers that were read, times `active`.
    gated: HashMap<Register, Lc<F>>,
    /// The words that were noted right before a log.
    noted: Vec<Word<F>>,
    /// How often the words of the calldata's first block are read: chosen after what accesses choose.
    opening: Vec<Lc<F>>,
    incoming: HashMap<Block, Vec<Incoming<F>>>,
    exits: Vec<Exit<'a, F>>,
}

fn place(pc: Option<Pc>) -> String {
    pc.map_or_else(|| "@".into(), |pc| format!("@{pc:04x}"))
}

impl<'a, F: PrimeField> Lowering<'a, '_, F> {
    fn width(&self, value: Value) -> u32 {
        u32::from(self.program.legalized.func.ty(value).bits())
    }

    /// The word of `value`, in range whether or not its block executes, and its value in an idle slot.
    fn word<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        value: Value,
    ) -> Result<(Word<F>, Option<U256>), CircuitError> {
        let width = self.width(value);
        let inner = match source(&self.program.legalized.func, value) {
            Source::Constant(word) => return Ok((Word::constant(width, word), Some(word))),
            Source::Value(inner) => inner,
        };
        let held = match self.held.get(&inner) {
            Some(Held { word, idle, guard: None }) => return Ok((word.zext(width), *idle)),
            Some(Held { word, guard: Some(guard), .. }) => {
                let word = gate(&mut cs.namespace(|| format!("{inner} gate")), guard, word)?;
                Held { word, idle: Some(U256::ZERO), guard: None }
            }
            None => self.read(cs, inner)?,
        };
        let result = (held.word.zext(width), held.idle);
        self.held.insert(inner, held);
        Ok(result)
    }

    /// Reads a value that is live at the root: its registers times `active`.
    fn read<CS: ConstraintSystem<F>>(&mut self, cs: &mut CS, value: Value) -> Result<Held<F>, CircuitError> {
        let registers = self.program.registers.of(value);
        let mut limbs = Vec::with_capacity(2);
        for &register in registers {
            limbs.push(self.gated_register(cs, value, register)?);
        }
        let word = Word::from_limbs(self.width(value), &limbs)?;
        Ok(Held { word, idle: Some(U256::ZERO), guard: None })
    }

    /// A register times `active`: one row.
    fn gated_register<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        value: Value,
        register: Register,
    ) -> Result<Lc<F>, CircuitError> {
        let old = self.before.registers.get(register_index(register)).ok_or(SynthesisError::Unsatisfiable)?;
        let gated = Lc::mul(cs, || format!("{value} {register} · active"), &self.active, old)?;
        self.gated.insert(register, gated.clone());
        Ok(gated)
    }

    fn block<CS: ConstraintSystem<F>>(&mut self, cs: &mut CS, block: Block) -> Result<(), CircuitError> {
        let program = self.program;
        let func = &program.legalized.func;
        let predicate = if block == program.regions.regions[self.region].root {
            Predicate { lc: self.active.clone(), whole: true }
        } else {
            self.join(cs, block)?
        };
        let mut insts = func.blocks[block].insts.iter().copied().peekable();
        while let Some(inst) = insts.next() {
            let data = &func.insts[inst];
            let mut cs = cs.namespace(|| format!("{} {}", place(data.pc), data.opcode));
            match support_of(func, data) {
                Support::Gadget => self.gadget(&mut cs, inst, &predicate)?,
                Support::Access => self.access(&mut cs, inst, &predicate)?,
                Support::Lookup => self.lookup(&mut cs, inst, &predicate)?,
                Support::Log => self.log(&mut cs, inst, &predicate)?,
                Support::Note => {
                    let is_first = insts.peek().is_some_and(|&next| func.insts[next].opcode == Opcode::Log);
                    self.note(&mut cs, inst, is_first, &predicate)?;
                }
                Support::Input => {}
                Support::Control => self.branch(&mut cs, block, inst, &predicate)?,
                // Legalisation leaves none of these.
                Support::Take | Support::Write | Support::Empty | Support::Unprovable(_) => {
                    return Err(SynthesisError::Unsatisfiable.into());
                }
            }
        }
        Ok(())
    }

    /// The predicate of a block that is not the root, and its parameters.
    fn join<CS: ConstraintSystem<F>>(&mut self, cs: &mut CS, block: Block) -> Result<Predicate<F>, CircuitError> {
        let program = self.program;
        let params = &program.legalized.func.blocks[block].params;
        let arms = self.incoming.remove(&block).unwrap_or_default();
        let mut cs = cs.namespace(|| format!("{block}"));
        if let [arm] = arms.as_slice() {
            for (&param, &arg) in params.iter().zip(&arm.args) {
                if program.legalized.places.is_carried(param) {
                    let key = self.key(&mut cs, arg, &arm.predicate)?;
                    self.keys.insert(param, key);
                    continue;
                }
                let (word, idle) = self.word(&mut cs, arg)?;
                let word = word.zext(self.width(param));
                self.held.insert(param, Held { word, idle, guard: None });
            }
            return Ok(arm.predicate.clone());
        }
        // Where the block does not execute, the last arm counts as taken, so that exactly one is.
        let others = Lc::sum(arms.iter().rev().skip(1).map(|arm| (F::ONE, &arm.predicate.lc)));
        for (at, &param) in params.iter().enumerate() {
            if program.legalized.places.is_carried(param) {
                let key = self.join_keys(&mut cs, &arms, at)?;
                self.keys.insert(param, key);
                continue;
            }
            let width = self.width(param);
            let mut words = Vec::with_capacity(arms.len());
            let mut last_idle = Some(U256::ZERO);
            for (index, arm) in arms.iter().enumerate() {
                let Some(&arg) = arm.args.get(at) else { return Err(SynthesisError::Unsatisfiable.into()) };
                let (word, idle) = self.word(&mut cs, arg)?;
                let flag = if index + 1 == arms.len() { others.complement() } else { arm.predicate.lc.clone() };
                words.push((flag, word));
                last_idle = idle;
            }
            let word = match words.as_slice() {
                [] => Word::constant(width, U256::ZERO),
                words => select::merge(&mut cs.namespace(|| format!("{param}")), width, words, Arms::Exhaustive)?,
            };
            self.held.insert(param, Held { word, idle: last_idle, guard: None });
        }
        let lc = Lc::sum(arms.iter().map(|arm| (F::ONE, &arm.predicate.lc)));
        let whole = transfer::constant_of(&lc.minus(&self.active)) == Some(F::ZERO);
        let lc = if whole { self.active.clone() } else { lc };
        Ok(Predicate { lc, whole })
    }

    fn gadget<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        inst: Inst,
        predicate: &Predicate<F>,
    ) -> Result<(), CircuitError> {
        let func = &self.program.legalized.func;
        let data = &func.insts[inst];
        // Uses look through constants and extensions to what they are made of.
        if matches!(data.opcode, Opcode::Iconst | Opcode::Zext) {
            return Ok(());
        }
        let result = data.result().ok_or(SynthesisError::Unsatisfiable)?;
        if self.program.legalized.places.is_carried(result) {
            let key = self.place(cs, inst, predicate)?;
            self.keys.insert(result, key);
            return Ok(());
        }
        let mut words = Vec::with_capacity(data.args.len());
        let mut idles = Some(Vec::with_capacity(data.args.len()));
        for &arg in &data.args {
            let (word, idle) = self.word(cs, arg)?;
            words.push(word);
            idles = idles.zip(idle).map(|(mut idles, idle)| {
                idles.push(idle);
                idles
            });
        }
        let width = self.width(result);
        let idle = idles.and_then(|idles| eval(data.opcode, data.imm, &idles, Some(func.ty(result))).ok());
        // The promise of `sub` and `narrow` holds if the block executes; in the root that leaves idle slots.
        let kept = predicate.whole && idle.is_some();
        let guard = (!kept).then(|| predicate.lc.clone());
        let held = match (data.opcode, words.as_slice()) {
            (Opcode::KeccakF, words) => Held { word: self.permuted(cs, data, words)?, idle, guard: None },
            (Opcode::Sub, [a, b]) => Held { word: arith::sub(cs, a, b)?, idle, guard },
            (Opcode::Narrow, [a]) if a.bound() <= width => Held { word: a.narrow(width), idle, guard: None },
            (Opcode::Narrow, [a]) => Held { word: a.narrow(width), idle, guard },
            (opcode, words) => {
                Held { word: lower_pure(cs, opcode, data.imm, words, func.ty(result))?, idle, guard: None }
            }
        };
        self.held.insert(result, held);
        Ok(())
    }

    /// A word of a state after the permutation, which is made once for all of them.
    fn permuted<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        data: &InstData,
        words: &[Word<F>],
    ) -> Result<Word<F>, CircuitError> {
        let Imm::Word(index) = data.imm else { return Err(CircuitError::Malformed(data.opcode)) };
        if !self.permutations.contains_key(&data.args) {
            let words = keccak_f_words(cs, words)?;
            self.permutations.insert(data.args.clone(), words);
        }
        let words = self.permutations.get(&data.args).map_or(&[][..], Vec::as_slice);
        words.get(index.saturating_to::<usize>()).cloned().ok_or(CircuitError::Malformed(data.opcode))
    }

    fn branch<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        block: Block,
        inst: Inst,
        predicate: &Predicate<F>,
    ) -> Result<(), CircuitError> {
        let func = &self.program.legalized.func;
        let data = &func.insts[inst];
        match (data.args.as_slice(), data.targets.as_slice()) {
            ([], [target]) => {
                if let Target::Unprovable(to) = self.program.regions.target(target.block) {
                    self.forbid(cs, to, &predicate.lc, &Lc::one());
                } else {
                    self.edge(predicate.clone(), target);
                }
                Ok(())
            }
            (&[condition], [then, otherwise]) => {
                let (condition, idle) = self.word(cs, condition)?;
                let condition = condition.as_boolean()?.clone();
                self.choose(cs, predicate, &condition, idle, then, otherwise)
            }
            _ => {
                debug_assert!(false, "{block} ends with {}", data.opcode);
                Err(SynthesisError::Unsatisfiable.into())
            }
        }
    }

    fn choose<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        predicate: &Predicate<F>,
        condition: &Lc<F>,
        idle: Option<U256>,
        then: &'a BlockCall,
        otherwise: &'a BlockCall,
    ) -> Result<(), CircuitError> {
        let regions = &self.program.regions;
        match (regions.target(then.block), regions.target(otherwise.block)) {
            (Target::Unprovable(a), Target::Unprovable(b)) => {
                self.forbid(cs, a, &predicate.lc, condition);
                self.forbid(cs, b, &predicate.lc, &condition.complement());
            }
            (Target::Unprovable(to), _) => {
                self.forbid(cs, to, &predicate.lc, condition);
                self.edge(predicate.clone(), otherwise);
            }
            (_, Target::Unprovable(to)) => {
                self.forbid(cs, to, &predicate.lc, &condition.complement());
                self.edge(predicate.clone(), then);
            }
            _ => {
                let taken = match (condition.as_constant(), idle) {
                    (None, Some(idle)) if predicate.whole => self.times_active(condition, transfer::field(&idle)),
                    _ => Lc::mul(cs, || "branch".into(), &predicate.lc, condition)?,
                };
                let rest = predicate.lc.minus(&taken);
                self.edge(Predicate { lc: taken, whole: false }, then);
                self.edge(Predicate { lc: rest, whole: false }, otherwise);
            }
        }
        Ok(())
    }

    /// `active · x` for an `x` that is `idle` in an idle slot.
    fn times_active(&self, x: &Lc<F>, idle: F) -> Lc<F> {
        if idle == F::ZERO {
            return x.clone();
        }
        Lc::sum([(F::ONE, x), (-idle, &Lc::one()), (idle, &self.active)])
    }

    /// One row: the unprovable block `to` is not reached.
    fn forbid<CS: ConstraintSystem<F>>(&self, cs: &mut CS, to: Block, predicate: &Lc<F>, condition: &Lc<F>) {
        let name = || match self.program.legalized.unprovable.get(&to) {
            Some(exit) => format!("unprovable {} {}", place(exit.pc), exit.opcode),
            None => "unprovable".into(),
        };
        enforce(cs, name, predicate, condition, &Lc::zero());
    }

    fn edge(&mut self, predicate: Predicate<F>, call: &'a BlockCall) {
        match self.program.regions.target(call.block) {
            Target::Inside(block) => {
                self.incoming.entry(block).or_default().push(Incoming { predicate, args: call.args.clone() });
            }
            Target::Enter(to) => self.exits.push(Exit { predicate, to, call }),
            Target::Unprovable(_) => {}
        }
    }
}

/// `word` if the boolean `flag`, else a word in range: the limb whose bound is only promised is multiplied by the flag.
fn gate<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    flag: &Lc<F>,
    word: &Word<F>,
) -> Result<Word<F>, CircuitError> {
    let mut limb = |limb: &Limb<F>| -> Result<Limb<F>, CircuitError> {
        let lc = Lc::mul(cs, || "limb".into(), flag, limb.lc())?;
        let value = flag.value().and_then(|flag| if flag == F::ZERO { Some(U256::ZERO) } else { limb.value() });
        Ok(Limb::new(lc, limb.bound(), value))
    };
    match (word.as_limb(), word.as_two()) {
        // The low limb was split off with its bits.
        (None, Some((low, high))) => Ok(Word::from_pair(word.width(), low.clone(), limb(high)?)),
        (Some(only), _) => Ok(Word::from_limb(word.width(), limb(only)?)),
        (None, None) => Err(SynthesisError::Unsatisfiable.into()),
    }
}

fn register_index(register: Register) -> usize {
    cranelift_entity::EntityRef::index(register)
}
