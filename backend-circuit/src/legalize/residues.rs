//! What is known of the low bits of values: where in a word of memory an address points.
//!
//! A fact is a set of known bits among the lowest five. Facts start from "no execution reaches this" and grow until nothing changes, so that
//! a loop that adds 32 keeps what is known before it.

use std::collections::BTreeMap;

use cranelift_entity::SecondaryMap;
use zvm_ir::{Function, Imm, InstData, Opcode, Value, Word};

/// The bits of a place within a word.
const BITS: u8 = 31;

/// Known bits of a value modulo 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    mask: u8,
    bits: u8,
}

impl Known {
    const NOTHING: Self = Self { mask: 0, bits: 0 };
    const ZERO: Self = Self { mask: BITS, bits: 0 };

    fn constant(word: &Word) -> Self {
        Self { mask: BITS, bits: word.as_limbs()[0] as u8 & BITS }
    }

    fn meet(self, other: Self) -> Self {
        let mask = self.mask & other.mask & !(self.bits ^ other.bits);
        Self { mask, bits: self.bits & mask }
    }

    /// How many of the lowest bits are known, without a gap.
    fn run(self) -> u32 {
        self.mask.trailing_ones()
    }

    /// How many of the lowest bits are known to be zero.
    fn zeros(self) -> u32 {
        self.run().min((self.bits | !BITS).trailing_zeros())
    }

    fn low(count: u32) -> u8 {
        ((1u16 << count.min(5)) - 1) as u8
    }

    fn arithmetic(known: u32, bits: u8) -> Self {
        let mask = Self::low(known);
        Self { mask, bits: bits & mask }
    }
}

/// What is known of every value of a function.
#[derive(Debug)]
pub(super) struct Residues(SecondaryMap<Value, Option<Known>>);

impl Residues {
    /// Looks at a function whose blocks are all reachable, in reverse post-order.
    pub(super) fn new(func: &Function) -> Self {
        let mut facts: SecondaryMap<Value, Option<Known>> = SecondaryMap::new();
        if let Some(entry) = func.entry() {
            func.blocks[entry].params.iter().for_each(|&param| facts[param] = Some(Known::NOTHING));
        }
        // What the words of frames hold that all frames have in the same place: zeros, and what is stored there.
        let mut frames: BTreeMap<Word, Known> = BTreeMap::new();
        let mut changed = true;
        while changed {
            changed = false;
            for (_, inst) in func.insts_in_order() {
                let data = &func.insts[inst];
                if let (Opcode::FrameStore, Imm::Word(place), &[_, stored]) = (data.opcode, data.imm, &data.args[..])
                    && let Some(stored) = facts[stored]
                {
                    let held = frames.entry(place).or_insert(Known::ZERO);
                    let met = held.meet(stored);
                    changed |= *held != met;
                    *held = met;
                }
                for (at, &result) in data.results.iter().enumerate() {
                    let fact = match (data.opcode, data.imm) {
                        _ if at > 0 => Some(Known::NOTHING),
                        (Opcode::FrameLoad, Imm::Word(place)) => {
                            Some(frames.get(&place).copied().unwrap_or(Known::ZERO))
                        }
                        _ => transfer(func, &facts, data),
                    };
                    let fact = fact.map(|fact| of_type(func, result, fact));
                    changed |= fact != facts[result];
                    facts[result] = fact;
                }
                for target in &data.targets {
                    for (&param, &arg) in func.blocks[target.block].params.iter().zip(&target.args) {
                        let Some(arg) = facts[arg] else { continue };
                        let met = facts[param].map_or(arg, |fact| fact.meet(arg));
                        changed |= facts[param] != Some(met);
                        facts[param] = Some(met);
                    }
                }
            }
        }
        Self(facts)
    }

    /// The value modulo 32, if it is the same in every execution.
    pub(super) fn of(&self, value: Value) -> Option<u32> {
        let known = self.0[value]?;
        (known.mask == BITS).then_some(u32::from(known.bits))
    }
}

/// Bits past the width of a type are zero.
fn of_type(func: &Function, value: Value, fact: Known) -> Known {
    let beyond = !Known::low(u32::from(func.ty(value).bits())) & BITS;
    Known { mask: fact.mask | beyond, bits: fact.bits & !beyond }
}

fn transfer(func: &Function, facts: &SecondaryMap<Value, Option<Known>>, data: &InstData) -> Option<Known> {
    let arg = |at: usize| data.args.get(at).and_then(|&value| facts[value]);
    let shift = || data.args.first().and_then(|&value| func.constant(value));
    Some(match data.opcode {
        Opcode::Iconst => {
            data.result().and_then(|value| func.constant(value)).map_or(Known::NOTHING, |word| Known::constant(&word))
        }
        Opcode::Zext | Opcode::Trunc | Opcode::Narrow | Opcode::Bound => arg(0)?,
        Opcode::Select => arg(1)?.meet(arg(2)?),
        Opcode::Add | Opcode::Wadd => {
            let (a, b) = (arg(0)?, arg(1)?);
            Known::arithmetic(a.run().min(b.run()), a.bits.wrapping_add(b.bits))
        }
        Opcode::Sub | Opcode::Wsub => {
            let (a, b) = (arg(0)?, arg(1)?);
            Known::arithmetic(a.run().min(b.run()), a.bits.wrapping_sub(b.bits))
        }
        Opcode::Mul | Opcode::Wmul => {
            let (a, b) = (arg(0)?, arg(1)?);
            // a · b is known as far as a is past the zeros of b, and the other way round.
            let known = (a.run() + b.zeros()).min(b.run() + a.zeros());
            Known::arithmetic(known, a.bits.wrapping_mul(b.bits))
        }
        Opcode::And => {
            let (a, b) = (arg(0)?, arg(1)?);
            let mask = a.mask & b.mask | a.mask & !a.bits | b.mask & !b.bits;
            Known { mask, bits: a.bits & b.bits & mask }
        }
        Opcode::Or => {
            let (a, b) = (arg(0)?, arg(1)?);
            let mask = a.mask & b.mask | a.mask & a.bits | b.mask & b.bits;
            Known { mask, bits: (a.bits | b.bits) & mask }
        }
        Opcode::Xor => {
            let (a, b) = (arg(0)?, arg(1)?);
            Known { mask: a.mask & b.mask, bits: (a.bits ^ b.bits) & a.mask & b.mask }
        }
        Opcode::Not => arg(0).map(|a| Known { mask: a.mask, bits: !a.bits & a.mask })?,
        Opcode::Shl => {
            let a = arg(1)?;
            match shift().map(|by| by.saturating_to::<u32>().min(5)) {
                Some(by) => {
                    let low = Known::low(by);
                    Known { mask: (a.mask << by | low) & BITS, bits: a.bits << by & BITS }
                }
                None => Known::arithmetic(a.zeros(), 0),
            }
        }
        _ => Known::NOTHING,
    })
}

#[cfg(test)]
mod tests {
    use cranelift_entity::EntityRef;

    use super::*;

    fn residues(body: &str) -> Residues {
        let text = format!("zvm 1\nentry @f\nfunc @f(u256) {{\nblock0(v0: u256):\n{body}}}\n");
        let func = zvm_ir::parse(&text).unwrap().funcs.values().next().unwrap().clone();
        Residues::new(&func)
    }

    #[test]
    fn loops_keep_their_residue() {
        let known = residues(
            "v1: u6 = iconst 32\n v2: u3 = iconst 4\n v3: u256 = iconst \
             0xffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffe0\n v4: u256 = and v0, v3\n v5: u256 = wadd v4, v2\n \
             jump block1(v5, v0)\nblock1(v6: u256, v7: u256):\n v8: u256 = wadd v6, v1\n v9: u256 = wadd v7, v1\n v10: u1 = ult v8, \
             v0\n brif v10, block1(v8, v9), block2\nblock2:\n stop\n",
        );
        let of = |value: usize| known.of(Value::new(value));
        assert_eq!((of(4), of(5), of(6), of(8)), (Some(0), Some(4), Some(4), Some(4)));
        assert_eq!((of(0), of(7), of(9)), (None, None, None));
    }

    #[test]
    fn frames_hold_zeros_and_what_is_stored() {
        let known = residues(
            "v1: u6 = iconst 32\n v2: u256 = wmul v0, v1\n v3: u3 = iconst 4\n v4: u256 = or v2, v3\n v5: u1 = iconst 0\n \
             frame_store 0, v5, v2\n frame_store 1, v5, v4\n frame_store 2, v5, v0\n v6: u256 = frame_load 0, v5\n v7: u256 = \
             frame_load 1, v5\n v8: u256 = frame_load 2, v5\n v9: u256 = frame_load 3, v5\n stop\n",
        );
        let of = |value: usize| known.of(Value::new(value));
        assert_eq!((of(6), of(9)), (Some(0), Some(0)));
        assert_eq!((of(7), of(8)), (None, None), "a word that nothing was stored in is zero");
    }

    #[test]
    fn products_and_shifts_bring_zeros() {
        let known = residues(
            "v1: u6 = iconst 32\n v2: u256 = wmul v0, v1\n v3: u3 = iconst 5\n v4: u256 = shl v3, v0\n v5: u2 = iconst 3\n v6: u256 = or v2, \
             v5\n v7: u256 = shl v3, v6\n v8: u4 = iconst 8\n v9: u256 = wmul v6, v8\n v10: u256 = not v2\n v11: u256 = wsub v5, v2\n stop\n",
        );
        let of = |value: usize| known.of(Value::new(value));
        assert_eq!((of(2), of(4), of(6), of(7)), (Some(0), Some(0), Some(3), Some(0)));
        assert_eq!((of(9), of(10), of(11)), (Some(24), Some(31), Some(3)));
    }
}
