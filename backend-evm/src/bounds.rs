//! Bounds of values, read off their definitions: enough to know where tables and buffers lie.

use zvm_ir::memory::MEMORY_LIMIT;
use zvm_ir::{Function, Imm, InstData, Opcode, Value, Word};

/// How many definitions are followed from a value.
const DEPTH: u32 = 8;

/// The smallest and the largest word that `value` can be. A type is a bound; definitions may give better ones.
pub(crate) fn bounds(function: &Function, value: Value) -> (Word, Word) {
    within(function, value, DEPTH)
}

fn within(function: &Function, value: Value, depth: u32) -> (Word, Word) {
    let widest = (Word::ZERO, function.ty(value).max_value());
    let Some(inst) = function.def_inst(value) else { return widest };
    let data = &function.insts[inst];
    // The word of `bound` is how much room there is, not its result.
    if let (Opcode::Iconst, Imm::Word(word)) = (data.opcode, data.imm) {
        return (word, word);
    }
    if depth == 0 {
        return widest;
    }
    let args: Vec<(Word, Word)> = data.args.iter().map(|&arg| within(function, arg, depth - 1)).collect();
    result(data, &args, widest.1)
}

/// The smallest and the largest result of an instruction, given those of its operands and the largest that its type has.
pub(crate) fn result(data: &InstData, args: &[(Word, Word)], most: Word) -> (Word, Word) {
    let widest = (Word::ZERO, most);
    if let (Opcode::Iconst, Imm::Word(word)) = (data.opcode, data.imm) {
        return (word, word);
    }
    let of = |at: usize| args.get(at).copied().unwrap_or((Word::ZERO, Word::MAX));
    let (a, b) = (of(0), of(1));
    let found = match data.opcode {
        Opcode::Zext | Opcode::Narrow => Some(a),
        Opcode::Trunc => Some(a).filter(|a| a.1 <= most),
        // What is past the limit halts.
        Opcode::Bound => match data.imm {
            Imm::Word(room) => Word::from(MEMORY_LIMIT).checked_sub(room).map(|last| (a.0.min(last), a.1.min(last))),
            _ => None,
        },
        Opcode::Select => Some((b.0.min(of(2).0), b.1.max(of(2).1))),
        Opcode::Add | Opcode::Wadd => a.1.checked_add(b.1).map(|high| (a.0.wrapping_add(b.0), high)),
        Opcode::Mul | Opcode::Wmul => a.1.checked_mul(b.1).map(|high| (a.0.wrapping_mul(b.0), high)),
        Opcode::Sub | Opcode::Wsub if a.0 >= b.1 => Some((a.0 - b.1, a.1 - b.0)),
        Opcode::Udiv if !b.0.is_zero() => Some((a.0 / b.1, a.1 / b.0)),
        Opcode::Urem if !b.0.is_zero() => Some((Word::ZERO, a.1.min(b.1 - Word::from(1)))),
        // A mask that only clears low bits keeps the order of words.
        Opcode::And if clears_low_bits(b, a.1) => Some((a.0 & b.0, a.1 & b.0)),
        Opcode::And if clears_low_bits(a, b.1) => Some((b.0 & a.0, b.1 & a.0)),
        Opcode::And => Some((Word::ZERO, a.1.min(b.1))),
        Opcode::Or => Some((a.0.max(b.0), Word::MAX >> a.1.leading_zeros().min(b.1.leading_zeros()))),
        Opcode::Shl => {
            let shift = usize::try_from(a.1).ok().filter(|&shift| shift < 256 && b.1.leading_zeros() >= shift);
            shift.map(|shift| (b.0 << usize::try_from(a.0).unwrap_or(0), b.1 << shift))
        }
        Opcode::Shr => {
            let by = |shift: Word| usize::try_from(shift).unwrap_or(256).min(256);
            Some((b.0.checked_shr(by(a.1)).unwrap_or_default(), b.1.checked_shr(by(a.0)).unwrap_or_default()))
        }
        _ => None,
    };
    match found {
        Some((low, high)) => (low.min(widest.1), high.min(widest.1)),
        None => widest,
    }
}

/// Whether `mask` is one word whose zeros are all below its ones, as far up as words to `high` go.
pub(crate) fn clears_low_bits(mask: (Word, Word), high: Word) -> bool {
    let low = mask.0.trailing_zeros();
    let ones = mask.0.checked_shr(low).unwrap_or_default();
    // Above the ones, `high` has nothing.
    mask.0 == mask.1
        && !ones.is_zero()
        && (ones & (ones.wrapping_add(Word::from(1)))).is_zero()
        && high <= (mask.0 | !(Word::MAX << low))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zvm_ir::{Module, eval};

    /// `(low, high)` of the last value of a block that only computes.
    fn bounds_of(body: &str) -> (Word, Word) {
        let text = format!("zvm 1\nentry @main\nfunc @main() {{\nblock0:\n{body}\nstop\n}}");
        let module: Module = zvm_ir::parse(&text).unwrap();
        zvm_ir::verify(&module).unwrap();
        let function = module.funcs.values().next().unwrap();
        bounds(function, function.values.keys().next_back().unwrap())
    }

    #[test]
    fn a_table_index_is_bounded() {
        let table = "v0: u64 = iconst 0\nv1: u256 = calldataload v0\nv2: u256 = iconst 7\nv3: u256 = urem v1, v2
            v4: u1 = iconst 1\nv5: u256 = shl v4, v3\nv6: u256 = iconst 300\nv7: u256 = wadd v5, v6";
        assert_eq!(bounds_of(table), (Word::from(300), Word::from(312)));
    }

    #[test]
    fn what_may_wrap_is_not_bounded() {
        let sum = "v0: u64 = iconst 0\nv1: u256 = calldataload v0\nv2: u256 = iconst 7\nv3: u256 = wadd v1, v2";
        assert_eq!(bounds_of(sum), (Word::ZERO, Word::MAX));
        let difference = sum.replace("wadd", "wsub");
        assert_eq!(bounds_of(&difference), (Word::ZERO, Word::MAX));
    }

    #[test]
    fn rounding_keeps_the_order() {
        let rounded = |mask: &str| {
            bounds_of(&format!(
                "v0: u64 = calldatasize\nv1: u8 = iconst 190\nv2: u65 = add v0, v1\nv3: u256 = iconst {mask}\nv4: u65 = and v2, v3"
            ))
        };
        assert_eq!(rounded("0x1ffffffffffffffe0").0, Word::from(160));
        // A mask that cuts above, and one with a hole.
        assert_eq!(rounded("0xffe0").0, Word::ZERO);
        assert_eq!(rounded("0x1fffffffffffffee0").0, Word::ZERO);
    }

    /// The word of every operation on small operands lies in its bounds.
    #[test]
    fn bounds_hold_on_every_pair_of_small_operands() {
        let opcodes = [
            Opcode::Wadd,
            Opcode::Wsub,
            Opcode::Wmul,
            Opcode::Udiv,
            Opcode::Urem,
            Opcode::And,
            Opcode::Or,
            Opcode::Shl,
            Opcode::Shr,
        ];
        for opcode in opcodes {
            // A three-bit value against a value between 4 and 7, in both orders.
            for swapped in [false, true] {
                let args = if swapped { "v3, v1" } else { "v1, v3" };
                let body = format!(
                    "v0: u64 = iconst 0\nv4: u256 = calldataload v0\nv1: u3 = trunc v4\nv5: u2 = trunc v4
                    v2: u3 = iconst 4\nv3: u3 = or v5, v2\nv6: u256 = zext v1\nv7: u256 = zext v3\nv8: u256 = {opcode} {}",
                    args.replace("v1", "v6").replace("v3", "v7")
                );
                let (low, high) = bounds_of(&body);
                for x in 0..8u64 {
                    for y in 4..8u64 {
                        let (a, b) = if swapped { (y, x) } else { (x, y) };
                        let word = eval(opcode, Imm::None, &[Word::from(a), Word::from(b)], None).unwrap();
                        assert!(low <= word && word <= high, "{opcode} {a} {b}: {word} in {low}..={high}");
                    }
                }
            }
        }
    }
}
