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

mod transfer;

use std::collections::HashMap;

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::{Block, BlockCall, Inst, Opcode, Pc, Value, Word as U256, eval};

use crate::error::CircuitError;
use crate::execute::Call;
use crate::gadgets::{Arms, Lc, Limb, Word, arith, enforce, enforce_boolean, lower_pure, select};
use crate::legalize::{Support, support};
use crate::program::Program;
use crate::region::{DONE, Region, Target};
use crate::registers::{Register, Source, source};

/// The state between slots.
#[derive(Clone, Debug)]
pub struct State<F: PrimeField> {
    /// The digest of the calldata; never changes.
    pub calldata: Lc<F>,
    /// The digest of the environment; never changes.
    pub env: Lc<F>,
    /// The root of the state tree.
    pub root: Lc<F>,
    /// The digest of the outcome; zero until the program halts.
    pub outcome: Lc<F>,
    /// The label of the region to run next.
    pub label: Lc<F>,
    /// The registers.
    pub registers: Vec<Lc<F>>,
}

/// The number of elements of the state before the registers.
pub const STATE_HEAD: usize = 5;
/// The place of the label in the state.
pub const LABEL: usize = 4;

impl<F: PrimeField> State<F> {
    /// The state in the order of the step's input and output; `None` if there are too few elements.
    pub fn from_elements(elements: Vec<Lc<F>>) -> Option<Self> {
        let mut elements = elements.into_iter();
        Some(Self {
            calldata: elements.next()?,
            env: elements.next()?,
            root: elements.next()?,
            outcome: elements.next()?,
            label: elements.next()?,
            registers: elements.collect(),
        })
    }

    /// The elements in the order of [`State::from_elements`].
    pub fn into_elements(self) -> Vec<Lc<F>> {
        let mut elements = vec![self.calldata, self.env, self.root, self.outcome, self.label];
        elements.extend(self.registers);
        elements
    }
}

/// Appends a slot of `region` and gives the state after it. `call` is the prover's input; without it only the shape is
/// made.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known; `Unsatisfiable` when a value is out of
/// range, which means that the state does not come from this program.
pub fn slot<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    program: &Program,
    region: Region,
    state: &State<F>,
    call: Option<&Call>,
) -> Result<State<F>, CircuitError> {
    let label = Lc::constant(F::from(region.label()));
    let active = state.label.value().map(|value| if value == F::from(region.label()) { F::ONE } else { F::ZERO });
    let active = Lc::alloc(cs, || "active".into(), active)?;
    enforce_boolean(cs, || "active".into(), &active);
    enforce(cs, || "label".into(), &active, &state.label.minus(&label), &Lc::zero());
    let mut lowering = Lowering {
        program,
        region,
        active: active.clone(),
        before: state,
        held: HashMap::new(),
        gated: HashMap::new(),
        incoming: HashMap::new(),
        exits: Vec::new(),
    };
    let data = &program.regions.regions[region];
    if Some(data.root) == program.legalized.func.entry() {
        lowering.inputs(cs, data.root, call)?;
    }
    if Some(data.root) == program.legalized.halt {
        return lowering.halt(cs, data.root);
    }
    for &block in &data.blocks {
        lowering.block(cs, block)?;
    }
    lowering.transfer(cs)
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

struct Lowering<'a, F: PrimeField> {
    program: &'a Program,
    region: Region,
    active: Lc<F>,
    before: &'a State<F>,
    held: HashMap<Value, Held<F>>,
    /// Registers that were read, times `active`.
    gated: HashMap<Register, Lc<F>>,
    incoming: HashMap<Block, Vec<Incoming<F>>>,
    exits: Vec<Exit<'a, F>>,
}

fn place(pc: Option<Pc>) -> String {
    pc.map_or_else(|| "@".into(), |pc| format!("@{pc:04x}"))
}

impl<'a, F: PrimeField> Lowering<'a, F> {
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
            let old = self.before.registers.get(register_index(register)).ok_or(SynthesisError::Unsatisfiable)?;
            let gated = Lc::mul(cs, || format!("{value} {register} · active"), &self.active, old)?;
            self.gated.insert(register, gated.clone());
            limbs.push(gated);
        }
        let word = Word::from_limbs(self.width(value), &limbs)?;
        Ok(Held { word, idle: Some(U256::ZERO), guard: None })
    }

    /// Opens the digests of the statement and defines the values that the entry block reads of the input.
    fn inputs<CS: ConstraintSystem<F>>(
        &mut self,
        cs: &mut CS,
        entry: Block,
        call: Option<&Call>,
    ) -> Result<(), CircuitError> {
        let func = &self.program.legalized.func;
        let reads =
            func.blocks[entry].insts.iter().copied().filter(|&inst| support(func.insts[inst].opcode) == Support::Input);
        let opened = crate::input::open(&mut cs.namespace(|| "input"), func, reads, call, &self.active, self.before)?;
        for (value, word) in opened {
            self.held.insert(value, Held { word, idle: None, guard: None });
        }
        Ok(())
    }

    fn block<CS: ConstraintSystem<F>>(&mut self, cs: &mut CS, block: Block) -> Result<(), CircuitError> {
        let program = self.program;
        let func = &program.legalized.func;
        let predicate = if block == program.regions.regions[self.region].root {
            Predicate { lc: self.active.clone(), whole: true }
        } else {
            self.join(cs, block)?
        };
        for &inst in &func.blocks[block].insts {
            let data = &func.insts[inst];
            let mut cs = cs.namespace(|| format!("{} {}", place(data.pc), data.opcode));
            match support(data.opcode) {
                Support::Gadget => self.gadget(&mut cs, inst, &predicate)?,
                Support::Input => {}
                Support::Control => self.branch(&mut cs, block, inst, &predicate)?,
                // Legalisation leaves none of these.
                Support::UnseenWrite | Support::Unprovable(_) => return Err(SynthesisError::Unsatisfiable.into()),
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
                let (word, idle) = self.word(&mut cs, arg)?;
                let word = word.zext(self.width(param));
                self.held.insert(param, Held { word, idle, guard: None });
            }
            return Ok(arm.predicate.clone());
        }
        // Where the block does not execute, the last arm counts as taken, so that exactly one is.
        let others = Lc::sum(arms.iter().rev().skip(1).map(|arm| (F::ONE, &arm.predicate.lc)));
        for (at, &param) in params.iter().enumerate() {
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

    /// The halt block: the digest of the outcome, and no region to run next.
    fn halt<CS: ConstraintSystem<F>>(mut self, cs: &mut CS, block: Block) -> Result<State<F>, CircuitError> {
        let params = &self.program.legalized.func.blocks[block].params;
        let mut words = Vec::with_capacity(params.len());
        for &param in params {
            words.push(self.word(cs, param)?.0);
        }
        let digest = crate::input::outcome(&mut cs.namespace(|| "outcome"), &words)?;
        let mut after = self.before.clone();
        let change = Lc::mul(cs, || "outcome · active".into(), &self.active, &digest.minus(&self.before.outcome))?;
        after.outcome = self.before.outcome.plus(&change);
        let label = F::from(self.region.label()) - F::from(DONE);
        after.label = Lc::sum([(F::ONE, &self.before.label), (-label, &self.active)]);
        Ok(after)
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
