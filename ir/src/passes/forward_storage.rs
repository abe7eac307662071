//! `forward-storage`: what is known of storage and transient storage is not read again, and what is overwritten is not
//! written.
//!
//! *Does*: forwards along the paths that lead to a place what `sload`, `sstore`, `tload` and `tstore` tell about slots, and replaces
//! loads of slots that are known; where paths meet, what all of them know is known. A store of what the slot holds already
//! goes where an earlier instruction on the way would have trapped in a static call just so. Backwards, a store goes that is
//! overwritten on every path before anyone can read the slot.
//! Two slots are told apart where they are constants, lie at different distances from one value, or come from hashes of
//! words that differ ([`Slot::may_be`]).
//! *Requires*: every block is reachable; equal values are one value. *Ensures*: nothing.
//! *Preserves*: equality of [`crate::Outcome`], where no two hashes that programs use as slots are within 2^64 of each other or of
//! zero.
//! *After*: load and store elimination over extended basic blocks; slots as compilers lay them out.
//!
//! ```text
//! sstore v0, v1; v2 = sload v0; sstore v0, v3   →   sstore v0, v3 (and v2 is v1)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use cranelift_entity::SecondaryMap;

use crate::Word;
use crate::cfg::Cfg;
use crate::entities::{Block, Inst, Value};
use crate::function::{Function, Imm};
use crate::opcode::{Effects, Opcode};
use crate::passes::Context;
use crate::passes::edit::{Aliases, settle_widths};
use crate::reach::root;

/// Slots that are remembered along a path.
const REMEMBERED: usize = 64;
/// Offsets from a hash below this bound stay with the hash.
const NEAR: Word = Word::from_limbs([0, 1, 0, 0]);

/// Runs the pass.
pub fn run(func: &mut Function, cx: &mut Context) -> bool {
    let touches = |inst: Inst| access(func, inst).is_some();
    if !func.insts_in_order().any(|(_, inst)| touches(inst)) {
        return false;
    }
    let mut work = func.clone();
    let cfg = Cfg::new(&work);
    let loads = forward(&mut work, &cfg);
    let stores = remove_overwritten(&mut work, &cfg);
    if !loads && !stores {
        return false;
    }
    settle_widths(&mut work, cx);
    *func = work;
    true
}

/// Which storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Space {
    Persistent,
    Transient,
}

/// A slot as a value, or nothing, and a distance modulo 2^256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    space: Space,
    base: Option<Value>,
    offset: Word,
}

/// What an instruction does to a slot.
#[derive(Clone, Copy, Debug)]
enum Access {
    Load(Slot, Value),
    Store(Slot, Value),
}

fn access(func: &Function, inst: Inst) -> Option<Access> {
    let data = &func.insts[inst];
    let (space, is_load) = match data.opcode {
        Opcode::Sload => (Space::Persistent, true),
        Opcode::Sstore => (Space::Persistent, false),
        Opcode::Tload => (Space::Transient, true),
        Opcode::Tstore => (Space::Transient, false),
        _ => return None,
    };
    let slot = Slot::of(func, space, *data.args.first()?);
    Some(if is_load { Access::Load(slot, data.result()?) } else { Access::Store(slot, *data.args.get(1)?) })
}

impl Slot {
    fn of(func: &Function, space: Space, key: Value) -> Self {
        let (mut value, mut offset) = (root(func, key), Word::ZERO);
        loop {
            if let Some(word) = func.constant(value) {
                return Self { space, base: None, offset: offset.wrapping_add(word) };
            }
            let Some(inst) = func.def_inst(value) else { break };
            let data = &func.insts[inst];
            let (Opcode::Wadd | Opcode::Add, &[a, b]) = (data.opcode, data.args.as_slice()) else { break };
            let (rest, word) = match (func.constant(a), func.constant(b)) {
                (_, Some(word)) => (a, word),
                (Some(word), None) => (b, word),
                (None, None) => break,
            };
            (value, offset) = (root(func, rest), offset.wrapping_add(word));
        }
        Self { space, base: Some(value), offset }
    }

    /// Whether the two can be one slot.
    fn may_be(&self, other: &Self, func: &Function) -> bool {
        if self.space != other.space {
            return false;
        }
        if self.base == other.base {
            return self.offset == other.offset;
        }
        match (self.near_hash(func), other.near_hash(func)) {
            (Some(a), Some(b)) => a == b || may_be_equal(func, a, b),
            // Variables at fixed slots.
            (Some(_), None) => other.base.is_some() || other.offset >= NEAR,
            (None, Some(_)) => self.base.is_some() || self.offset >= NEAR,
            (None, None) => true,
        }
    }

    /// The hash that the slot is at, or above by less than [`NEAR`].
    fn near_hash(&self, func: &Function) -> Option<Inst> {
        let mut value = self.base?;
        let mut near = self.offset < NEAR;
        // A hash, perhaps with an index, perhaps with one of an array in that.
        for _ in 0..3 {
            let inst = func.def_inst(value)?;
            let data = &func.insts[inst];
            match (data.opcode, data.args.as_slice()) {
                (Opcode::KeccakWords, _) => return near.then_some(inst),
                // The index of an array.
                (Opcode::Wadd | Opcode::Add, &[a, b]) => {
                    let is_hash = |value: Value| {
                        let value = root(func, value);
                        func.def_inst(value).is_some_and(|inst| func.insts[inst].opcode == Opcode::KeccakWords)
                    };
                    let (hash, index) = if is_hash(a) { (a, b) } else { (b, a) };
                    near &= self.offset < NEAR >> 2usize && func.ty(index).bits() < 63;
                    value = root(func, hash);
                }
                _ => return None,
            }
        }
        None
    }
}

/// Whether two hashes can be the same: they are of as many bytes, and no words differ for certain.
fn may_be_equal(func: &Function, a: Inst, b: Inst) -> bool {
    let (a, b) = (&func.insts[a], &func.insts[b]);
    let whole = match (a.imm, b.imm) {
        (Imm::Len(of_a), Imm::Len(of_b)) if of_a == of_b => (of_a / 32) as usize,
        _ => return false,
    };
    let differ = |(&a, &b): (&Value, &Value)| match (func.constant(a), func.constant(b)) {
        (Some(x), Some(y)) => x != y,
        _ => Slot::of(func, Space::Persistent, a).differs(&Slot::of(func, Space::Persistent, b), func),
    };
    // Of a word that is hashed in part the rest may be what differs.
    !a.args.iter().zip(&b.args).take(whole).any(differ)
}

impl Slot {
    /// Whether two words are different for certain, as slots or as words that are hashed.
    fn differs(&self, other: &Self, func: &Function) -> bool {
        if self.base == other.base {
            return self.offset != other.offset;
        }
        match (self.near_hash(func), other.near_hash(func)) {
            (Some(a), Some(b)) => a != b && func.insts[a].imm != func.insts[b].imm,
            (Some(_), None) => other.base.is_none() && other.offset < NEAR,
            (None, Some(_)) => self.base.is_none() && self.offset < NEAR,
            (None, None) => false,
        }
    }
}

/// What is known where the walk is.
#[derive(Clone, Debug, Default)]
struct Known {
    slots: BTreeMap<Slot, Value>,
    /// Whether a static call would have trapped before.
    may_write: bool,
}

fn forward(func: &mut Function, cfg: &Cfg) -> bool {
    let mut ends: SecondaryMap<Block, Option<Known>> = SecondaryMap::new();
    let (mut aliases, mut removed) = (Aliases::default(), false);
    for &block in cfg.reverse_postorder() {
        let mut known = meet(cfg, block, &ends);
        let mut insts = std::mem::take(&mut func.blocks[block].insts);
        insts.retain(|&inst| {
            func.insts[inst].map_uses(|value| aliases.resolve(value));
            let kept = step(func, inst, &mut known, &mut aliases);
            removed |= !kept;
            kept
        });
        func.blocks[block].insts = insts;
        ends[block] = Some(known);
    }
    aliases.apply(func);
    removed
}

/// What all ways into a block know.
fn meet(cfg: &Cfg, block: Block, ends: &SecondaryMap<Block, Option<Known>>) -> Known {
    let mut all: Option<Known> = None;
    for &pred in cfg.preds(block) {
        // A way back: nothing is known of it yet.
        let Some(end) = &ends[pred] else { return Known::default() };
        all = Some(match all {
            None => end.clone(),
            Some(mut all) => {
                all.slots.retain(|slot, value| end.slots.get(slot) == Some(value));
                all.may_write &= end.may_write;
                all
            }
        });
    }
    all.unwrap_or_default()
}

/// Brings what is known up to date; whether the instruction stays.
fn step(func: &Function, inst: Inst, known: &mut Known, aliases: &mut Aliases) -> bool {
    match access(func, inst) {
        Some(Access::Load(slot, result)) => {
            if let Some(&value) = known.slots.get(&slot) {
                aliases.set(result, value);
                return false;
            }
            known.remember(slot, result);
        }
        Some(Access::Store(slot, value)) => {
            if known.may_write && known.slots.get(&slot) == Some(&value) {
                return false;
            }
            known.slots.retain(|other, _| !slot.may_be(other, func));
            known.remember(slot, value);
            known.may_write = true;
        }
        None => {
            let data = &func.insts[inst];
            let effects = data.opcode.effects();
            let foreign = effects.has(Effects::WRITES_STORAGE) || effects.has(Effects::CALLS);
            if foreign {
                known.slots.clear();
            }
            known.may_write |= matches!(data.opcode, Opcode::Log | Opcode::LogWords);
        }
    }
    true
}

impl Known {
    fn remember(&mut self, slot: Slot, value: Value) {
        if self.slots.len() < REMEMBERED {
            self.slots.insert(slot, value);
        }
    }
}

/// Slots that are written on every path before they can be read.
type Overwritten = BTreeSet<Slot>;

fn remove_overwritten(func: &mut Function, cfg: &Cfg) -> bool {
    let mut starts: SecondaryMap<Block, Option<Overwritten>> = SecondaryMap::new();
    let mut dead: BTreeSet<Inst> = BTreeSet::new();
    // One sweep: what is behind a way back counts as read.
    for &block in cfg.reverse_postorder().iter().rev() {
        let mut all: Option<Overwritten> = None;
        for &succ in cfg.succs(block) {
            let start = starts[succ].clone().unwrap_or_default();
            all = Some(match all {
                None => start,
                Some(all) => all.intersection(&start).copied().collect(),
            });
        }
        let mut overwritten = all.unwrap_or_default();
        for &inst in func.blocks[block].insts.iter().rev() {
            let data = &func.insts[inst];
            // Before it is defined the value is another one, that of an earlier round.
            overwritten.retain(|slot| slot.base.is_none_or(|base| !data.results.contains(&base)));
            match access(func, inst) {
                Some(Access::Store(slot, _)) => {
                    if !overwritten.insert(slot) {
                        dead.insert(inst);
                    }
                }
                Some(Access::Load(slot, _)) => overwritten.retain(|other| !slot.may_be(other, func)),
                None => {
                    let effects = data.opcode.effects();
                    let reads = effects.has(Effects::READS_STORAGE) || effects.has(Effects::CALLS);
                    if reads || effects.has(Effects::WRITES_ACCOUNTS) {
                        overwritten.clear();
                    }
                }
            }
        }
        let params = &func.blocks[block].params;
        overwritten.retain(|slot| slot.base.is_none_or(|base| !params.contains(&base)));
        starts[block] = Some(overwritten);
    }
    if dead.is_empty() {
        return false;
    }
    for block in func.layout.clone() {
        func.blocks[block].insts.retain(|inst| !dead.contains(inst));
    }
    true
}
