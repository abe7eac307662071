//! Provers who lie consistently: not one hint changed, but a whole witness made for another claim.
//!
//! A gadget's hints follow from the integer values that its operands carry beside their linear combinations. An operand whose
//! integer is not that of its combination therefore yields a witness for the lie, in which every hint agrees with every
//! other, and only the rows can tell.

use bellpepper_core::ConstraintSystem;
use zvm_backend_circuit::cs::{CheckCs, Names};
use zvm_backend_circuit::field::{from_u256, to_u256};
use zvm_backend_circuit::gadgets::{LIMB, Lc, Limb, Word, lower_pure};
use zvm_ir::{Imm, Opcode, Type, Word as U256, eval};

use super::Fr;

fn modulus() -> U256 {
    to_u256(&-Fr::from(1)) + U256::from(1)
}

fn n(value: u64) -> U256 {
    U256::from(value)
}

/// A word of type `u{width}` whose variables hold `truth` and whose integer is `lie`.
fn lying(cs: &mut CheckCs<Fr>, name: &str, width: u32, truth: U256, lie: U256) -> Word<Fr> {
    let mut limb = |index: usize, bound: u32| {
        let part = |value: U256| (value >> (index * LIMB as usize)) & (U256::MAX >> (256 - bound as usize));
        let value = Some(from_u256(&part(truth)));
        let lc = Lc::alloc(cs, || format!("{name} {index}"), value).unwrap();
        Limb::new(lc, bound, Some(part(lie)))
    };
    if width <= 252 {
        let limb = limb(0, width);
        return Word::from_limb(width, limb);
    }
    let low = limb(0, LIMB);
    let high = limb(1, width - LIMB);
    Word::from_pair(width, low, high)
}

/// Lowers with operands `(width, truth, lie)` and gives the result and the name of the first row that does not hold.
fn attack(opcode: Opcode, operands: &[(u16, U256, U256)]) -> (U256, Option<String>) {
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    let args: Vec<Word<Fr>> = operands
        .iter()
        .enumerate()
        .map(|(i, &(width, truth, lie))| lying(&mut cs, &format!("operand {i}"), u32::from(width), truth, lie))
        .collect();
    let types: Vec<Type> = operands.iter().map(|operand| Type::new(operand.0).unwrap()).collect();
    let result = opcode.result_type(&types).unwrap().unwrap();
    let word = lower_pure(&mut cs, opcode, Imm::None, &args, result).unwrap();
    // What the constraint system holds, not what the word believes.
    let limbs = word.limbs(&mut cs).unwrap();
    let claimed = limbs.iter().rev().fold(U256::ZERO, |sum, limb| (sum << 128) + to_u256(&limb.value().unwrap()));
    (claimed, cs.verdict().err().map(|unsatisfied| unsatisfied.name))
}

/// Expects a row of the gadget to notice the lie, unless the gadget took its hints from the variables and told the truth.
fn refused(opcode: Opcode, operands: &[(u16, U256, U256)]) {
    assert!(refused_if_different(opcode, operands), "{opcode} {operands:x?}: the lie changes nothing");
}

/// As [`refused`], for operands where the lie may happen to have the same result; whether it had another.
fn refused_if_different(opcode: Opcode, operands: &[(u16, U256, U256)]) -> bool {
    let meaning = |values: Vec<U256>| eval(opcode, Imm::None, &values, Some(Type::WORD)).unwrap();
    let truth = meaning(operands.iter().map(|operand| operand.1).collect());
    let lie = meaning(operands.iter().map(|operand| operand.2).collect());
    match attack(opcode, operands) {
        (_, Some(row)) => assert!(row.starts_with(opcode.mnemonic()), "{opcode}: broke {row}"),
        (claimed, None) => assert_eq!(claimed, truth, "{opcode} {operands:x?}: accepted {claimed:x}"),
    }
    truth != lie
}

#[test]
fn equations_hold_over_the_integers_and_not_modulo_the_field() {
    let p = modulus();
    let big = U256::MAX / n(7);
    let mut attempts = Vec::new();
    for multiple in 1..5 {
        // The lie is congruent to the truth modulo the field.
        let truth = n(123_456_789);
        let lie = truth + p * n(multiple);
        let wide = (256, truth, lie);
        for divisor in [n(3), n(1) << 64, n(1) << 130, big, p + n(2)] {
            attempts.push(refused_if_different(Opcode::Udiv, &[wide, (256, divisor, divisor)]));
            attempts.push(refused_if_different(Opcode::Addmod, &[wide, (256, n(5), n(5)), (256, p + n(1), p + n(1))]));
            attempts.push(refused_if_different(
                Opcode::Mulmod,
                &[wide, (256, big - n(3), big - n(3)), (256, divisor, divisor)],
            ));
        }
        attempts.push(refused_if_different(Opcode::Udiv, &[wide, (64, n(10), n(10))]));
        attempts.push(refused_if_different(Opcode::Urem, &[wide, (256, n(1) << 200, n(1) << 200)]));
        attempts.push(refused_if_different(Opcode::Wmul, &[wide, (256, big, big)]));
        attempts.push(refused_if_different(Opcode::Wmul, &[wide, (64, n(10), n(10))]));
        attempts.push(refused_if_different(Opcode::Wadd, &[wide, (256, big, big)]));
        attempts.push(refused_if_different(Opcode::Wsub, &[wide, (256, big, big)]));
        attempts.push(refused_if_different(Opcode::Shr, &[(8, n(17), n(17)), wide]));
        attempts.push(refused_if_different(Opcode::Shl, &[(8, n(17), n(17)), wide]));
        attempts.push(refused_if_different(Opcode::Exp, &[wide, (3, n(5), n(5))]));
        attempts.push(refused_if_different(Opcode::And, &[wide, (256, U256::MAX, U256::MAX)]));
        attempts.push(refused_if_different(Opcode::Byte, &[(8, n(2), n(2)), wide]));
    }
    let effective = attempts.iter().filter(|effective| **effective).count();
    assert!(effective * 10 > attempts.len() * 9, "{effective} of {} lies change the result", attempts.len());
}

#[test]
fn limbs_are_not_exchangeable_with_their_sum() {
    // The same value modulo p, with 2^128 moved from the high limb to the low one: out of range.
    let truth = (n(5) << 128) | n(9);
    let lie = n(4) << 128 | n(9);
    for opcode in [Opcode::Wadd, Opcode::Wmul, Opcode::Udiv, Opcode::Wsub] {
        refused(opcode, &[(256, truth, lie), (256, n(3) << 100, n(3) << 100)]);
    }
}

#[test]
fn comparisons_cannot_be_turned() {
    let corner = U256::MAX >> 128;
    for (a, b) in [(n(1), n(2)), (n(2), n(1)), (n(7), n(7)), (corner, corner + n(1)), (U256::MAX, n(0)), (n(0), n(0))] {
        for (lie_a, lie_b) in [(b, a), (n(3), n(5)), (n(5), n(3)), (n(4), n(4)), (U256::MAX, n(1)), (n(1), U256::MAX)] {
            for opcode in [Opcode::Ult, Opcode::Slt] {
                let truth = eval(opcode, Imm::None, &[a, b], Some(Type::BOOL)).unwrap();
                let (claimed, broken) = attack(opcode, &[(256, a, lie_a), (256, b, lie_b)]);
                assert!(claimed == truth || broken.is_some(), "{opcode} {a:x} {b:x}: accepted {claimed}");
            }
        }
    }
    for width in [8u16, 64, 200, 252] {
        let max = U256::MAX >> (256 - usize::from(width));
        for (a, b) in [(n(0), max), (max, n(0)), (n(1), n(2)), (max, max)] {
            let (claimed, broken) = attack(Opcode::Ult, &[(width, a, b), (width, b, a)]);
            assert!(claimed == U256::from(u8::from(a < b)) || broken.is_some(), "u{width} {a:x} {b:x}");
        }
    }
}

#[test]
fn evm_corners_cannot_be_claimed_otherwise() {
    let min = n(1) << 255;
    let minus_one = U256::MAX;
    let same = |value: U256| (256u16, value, value);
    // Division by zero claimed to be division by something.
    for opcode in [Opcode::Udiv, Opcode::Sdiv, Opcode::Urem, Opcode::Srem] {
        let (claimed, broken) = attack(opcode, &[same(n(77)), (256, n(0), n(5))]);
        assert!(claimed.is_zero() || broken.is_some(), "{opcode}");
    }
    for opcode in [Opcode::Addmod, Opcode::Mulmod] {
        refused(opcode, &[same(U256::MAX), same(n(76)), (256, n(0), n(11))]);
    }
    // MIN / −1 claimed to be MIN / 1, shifts past the word claimed within, an exponent claimed zero.
    refused(Opcode::Sdiv, &[(256, min, min), (256, minus_one, n(2))]);
    refused(Opcode::Shl, &[(256, n(256), n(1)), same(n(3))]);
    refused(Opcode::Shr, &[(256, n(1) << 200, n(1)), same(n(3) << 100)]);
    refused(Opcode::Sar, &[(256, n(300), n(1)), same(min)]);
    refused(Opcode::Byte, &[(256, n(32), n(31)), same(n(3))]);
    refused(Opcode::Signextend, &[(256, n(31), n(0)), same(n(0xff))]);
    refused(Opcode::Exp, &[same(n(3)), (4, n(5), n(0))]);
    refused(Opcode::Clz, &[(256, n(1), n(0))]);
    // Indices that are small only modulo the field, or only in one limb.
    let p = modulus();
    for alias in [p, p * n(2), p * n(5), n(1) << 128, n(7) << 128] {
        refused(Opcode::Byte, &[(256, alias + n(31), n(31)), same(n(3))]);
        refused(Opcode::Signextend, &[(256, alias, n(0)), same(n(0x80ff))]);
        refused(Opcode::Shl, &[(256, alias + n(1), n(1)), same(n(3))]);
        refused(Opcode::Shr, &[(256, alias + n(1), n(1)), same(n(3) << 100)]);
        refused(Opcode::Sar, &[(256, alias + n(1), n(1)), same(min)]);
    }
}

/// Writes `value` over a variable and its bits, which are named below `prefix`.
fn forge_limb(cs: &mut CheckCs<Fr>, prefix: &str, value: U256) {
    for aux in 0..cs.aux_count() {
        let Some(name) = cs.aux_name(aux).strip_prefix(prefix).and_then(|name| name.strip_prefix('/')) else {
            continue;
        };
        if name == "value" {
            cs.assign(aux, from_u256(&value));
        } else if let Some(bit) = name.strip_prefix("bit ").and_then(|bit| bit.parse::<usize>().ok()) {
            cs.assign(aux, Fr::from(u64::from(value.bit(bit))));
        }
    }
}

fn forge_variable(cs: &mut CheckCs<Fr>, name: &str, value: Fr) {
    let aux = (0..cs.aux_count()).find(|&aux| cs.aux_name(aux) == name).unwrap();
    cs.assign(aux, value);
}

/// A prover who turns a signed comparison of cold words around and adapts every hint: all the pairs of arcs that the last two
/// rows might let through, and points on the lines on which one factor of each of them vanishes.
#[test]
fn a_signed_comparison_cannot_be_turned_by_choosing_other_arcs() {
    let middle = n(1) << 127;
    let full = (n(1) << 128) - n(1);
    let word = |high: U256, low: U256| (high << 128) | low;
    let mut pairs = vec![
        (word(n(5), n(1)), word(n(9), n(0))),
        (word(middle + n(5), n(1)), word(n(9), n(0))),
        (word(n(9), n(0)), word(middle + n(5), n(1))),
        (word(middle, n(0)), word(middle - n(1), full)),
        (word(full, full), word(n(0), n(0))),
        (word(full, n(3)), word(full - n(2), n(3))),
        (word(n(7), n(3)), word(n(7), n(4))),
        (word(n(7), n(4)), word(n(7), n(4))),
        (word(full, full), word(full, n(0))),
    ];
    // Equal high limbs, with low limbs that make the lines of the two rows meet.
    for k in 0..40 {
        pairs.push((word(middle + n(k), n(3 * k + 1)), word(middle + n(k), n(0))));
        pairs.push((word(middle - n(k), n(0)), word(middle - n(k), n((3 * k).max(1) - 1))));
        pairs.push((word(n(k), full), word(n(k), full - n(k))));
    }
    for (a, b) in pairs {
        let truth = eval(Opcode::Slt, Imm::None, &[a, b], Some(Type::BOOL)).unwrap();
        let lie = U256::from(1) - truth;
        let [a_high, b_high] = [a >> 128, b >> 128].map(|high: U256| from_u256::<Fr>(&high));
        let [a_low, b_low] = [a, b].map(|word| from_u256::<Fr>(&(word & full)));
        let flag = from_u256::<Fr>(&lie);
        let delta = a_high - b_high;
        let swap = flag * delta;
        let same = if delta == Fr::from(0) { Fr::from(1) } else { Fr::from(0) };
        let low = same * (a_low - b_low + from_u256::<Fr>(&(n(1) << 128)) * flag);
        let alpha = delta - swap - swap + low;
        let beta = from_u256::<Fr>(&(middle - n(1))) - a_high + swap;
        let gamma = b_high + swap - from_u256::<Fr>(&middle);
        let mut attempts = vec![(alpha, beta), (gamma, beta), (alpha, gamma), (gamma, gamma), (beta, alpha)];
        for x in 0..6 {
            // On `Y − X = γ − α`, and on `X − Y = γ − β`.
            attempts.push((Fr::from(x), Fr::from(x) + gamma - alpha));
            attempts.push((Fr::from(x) + gamma - beta, Fr::from(x)));
            attempts.push((alpha - gamma + Fr::from(x), Fr::from(x)));
        }
        let mut cs = CheckCs::<Fr>::recording();
        let mut limb = |name: &str, value: U256| {
            let lc = Lc::alloc(&mut cs, || name.into(), Some(from_u256(&value))).unwrap();
            Limb::new(lc, LIMB, Some(value))
        };
        let a_word = Word::from_pair(256, limb("a 0", a & full), limb("a 1", a >> 128));
        let b_word = Word::from_pair(256, limb("b 0", b & full), limb("b 1", b >> 128));
        lower_pure(&mut cs, Opcode::Slt, Imm::None, &[a_word, b_word], Type::BOOL).unwrap();
        assert_eq!(cs.first_broken(), None);
        forge_variable(&mut cs, "slt/less", flag);
        // A product with a constant has no variable; none of the factors is constant here.
        forge_variable(&mut cs, "slt/swap", swap);
        forge_variable(&mut cs, "slt/low", low);
        for (x, y) in attempts {
            forge_limb(&mut cs, "slt/first", to_u256(&x));
            forge_limb(&mut cs, "slt/second", to_u256(&y));
            let broken = cs.first_broken().map(str::to_owned);
            let broken = broken.unwrap_or_else(|| panic!("{a:x} {b:x}: {lie} accepted with arcs {x:?} {y:?}"));
            assert!(broken.starts_with("slt/first") || broken.starts_with("slt/second"), "{broken}");
        }
    }
}

/// Writes `value` over the variables of a range-checked word: its limbs and their bits.
fn forge(cs: &mut CheckCs<Fr>, prefix: &str, value: U256) {
    for index in 0..2 {
        let limb = (value >> (128 * index)) & (U256::MAX >> 128);
        let limb_prefix = format!("{prefix}/limb {index}/");
        for aux in 0..cs.aux_count() {
            let Some(name) = cs.aux_name(aux).strip_prefix(&limb_prefix).map(str::to_owned) else { continue };
            if name == "value" {
                cs.assign(aux, from_u256(&limb));
            } else if let Some(bit) = name.strip_prefix("bit ").and_then(|bit| bit.parse::<usize>().ok()) {
                cs.assign(aux, Fr::from(u64::from(limb.bit(bit))));
            }
        }
    }
}

#[test]
fn a_product_off_by_the_modulus_is_refused() {
    let p = modulus();
    let operand: U256 = (U256::MAX >> 128) - n(6);
    let product = operand.wrapping_mul(operand);
    // As many multiples as there are below the product: five over one field, two over the other.
    let forged: Vec<U256> = (1..=5).map_while(|k| product.checked_sub(p.checked_mul(n(k))?)).collect();
    assert!(forged.len() >= 2);
    for forged in forged {
        let mut cs = CheckCs::<Fr>::recording();
        let a = Word::alloc_checked(&mut cs.namespace(|| "a"), 128, Some(operand)).unwrap();
        let b = Word::alloc_checked(&mut cs.namespace(|| "b"), 128, Some(operand)).unwrap();
        let result = lower_pure(&mut cs, Opcode::Mul, Imm::None, &[a, b], Type::WORD).unwrap();
        assert_eq!(result.value(), Some(product));
        assert_eq!(cs.first_broken(), None);
        forge(&mut cs, "mul/result", forged);
        // Every row over the field still holds; the one modulo 8 does not.
        let broken = cs.first_broken().unwrap().to_owned();
        assert!(broken.starts_with("mul/low carry/"), "{broken}");
    }
}
