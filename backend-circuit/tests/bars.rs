//! No gadget costs more than its bar: full words as two limbs with the result normalised, narrow operands, hashes.

use bellpepper_core::ConstraintSystem;
use zvm_backend_circuit::costs::{Operand, rows};
use zvm_backend_circuit::cs::CountCs;
use zvm_backend_circuit::gadgets::keccak::keccak_f;
use zvm_backend_circuit::gadgets::sha256::sha256_words;
use zvm_backend_circuit::gadgets::{Lc, Word};
use zvm_backend_circuit::nova::Fr;
use zvm_ir::{Imm, Opcode, Type, Word as U256};

fn measured(opcode: Opcode, operands: &[Operand]) -> u64 {
    let types: Vec<Type> = operands.iter().map(|operand| Type::new(operand.width()).unwrap()).collect();
    rows(opcode, Imm::None, operands, opcode.result_type(&types).unwrap().unwrap()).unwrap()
}

fn cold(opcode: Opcode, widths: &[u16]) -> u64 {
    measured(opcode, &widths.iter().copied().map(Operand::Typed).collect::<Vec<_>>())
}

fn with_bits(opcode: Opcode, widths: &[u16]) -> u64 {
    measured(opcode, &widths.iter().copied().map(Operand::Bits).collect::<Vec<_>>())
}

const WORD: u16 = 256;

#[test]
fn full_words_stay_below_their_bars() {
    let mut over = Vec::new();
    for (opcode, count, bar) in [
        (Opcode::Wadd, 2, 258),
        (Opcode::Wsub, 2, 258),
        (Opcode::Udiv, 2, 900),
        (Opcode::Urem, 2, 900),
        (Opcode::Sdiv, 2, 1500),
        (Opcode::Srem, 2, 1500),
        (Opcode::Addmod, 3, 1150),
        (Opcode::Mulmod, 3, 1600),
        (Opcode::Ult, 2, 258),
        (Opcode::Slt, 2, 262),
        (Opcode::Eq, 2, 6),
        (Opcode::Iszero, 1, 4),
        (Opcode::Byte, 2, 300),
        (Opcode::Shl, 2, 500),
        (Opcode::Shr, 2, 500),
        (Opcode::Sar, 2, 600),
        (Opcode::Signextend, 2, 400),
    ] {
        let rows = cold(opcode, &vec![WORD; count]);
        if rows > bar {
            over.push(format!("{opcode}: {rows} rows, bar {bar}"));
        }
    }
    assert!(over.is_empty(), "{over:?}");
    for opcode in [Opcode::Shl, Opcode::Shr] {
        assert!(with_bits(opcode, &[WORD; 2]) <= 330, "{opcode}");
    }
}

/// The bar of a product, 440 rows, is below what cold words seem to need at all (`docs/circuit-costs.md`): it holds where their
/// bits are known, and decomposing them is all that a cold product costs more.
#[test]
fn a_product_stays_below_its_bar_once_bits_are_known() {
    let rows = with_bits(Opcode::Wmul, &[WORD; 2]);
    assert!(rows <= 440, "{rows}");
    assert_eq!(cold(Opcode::Wmul, &[WORD; 2]), rows + 512);
}

#[test]
fn a_bit_of_an_exponent_stays_below_its_bar() {
    for width in [2, 8, 64] {
        let bit = cold(Opcode::Exp, &[WORD, width + 1]) - cold(Opcode::Exp, &[WORD, width]);
        assert!(bit <= 900, "{bit} rows for bit {width}");
    }
}

#[test]
fn narrow_operands_stay_below_their_bars() {
    for width in [1, 8, 64, 128, 160, 250] {
        assert_eq!(cold(Opcode::Add, &[width, width]), 0, "add u{width}");
        assert_eq!(cold(Opcode::Sub, &[width, width]), 0, "sub u{width}");
    }
    for (a, b) in [(64, 64), (1, 1), (126, 126), (248, 4), (160, 92)] {
        assert_eq!(cold(Opcode::Mul, &[a, b]), 1, "mul u{a}, u{b}");
    }
    assert!(cold(Opcode::Ult, &[64, 64]) <= 66);
    assert!(cold(Opcode::Slt, &[64, 64]) <= 66);
    assert!(cold(Opcode::And, &[64, 64]) <= 192);
    // Masks and shifts by constants are free on bits.
    let constant = |value: u64| Operand::Constant(Type::of(&U256::from(value)).bits(), U256::from(value));
    assert_eq!(measured(Opcode::And, &[Operand::Bits(WORD), constant(u64::MAX)]), 0);
    for opcode in [Opcode::Shl, Opcode::Shr, Opcode::Sar, Opcode::Byte] {
        assert_eq!(measured(opcode, &[constant(13), Operand::Bits(WORD)]), 0, "{opcode}");
    }
}

#[test]
fn hashes_stay_below_their_bars() {
    let mut cs = CountCs::<Fr>::default();
    let state: Vec<Lc<Fr>> = (0..1600).map(|i| Lc::alloc(&mut cs, || format!("{i}"), None).unwrap()).collect();
    keccak_f(&mut cs, &state).unwrap();
    assert!(cs.rows() <= 100_000, "{}", cs.rows());
    // Two words and the padding are two blocks; the second has no word of the message.
    let block = |words: usize| {
        let mut cs = CountCs::<Fr>::default();
        let words: Vec<Word<Fr>> = (0..words)
            .map(|i| Word::alloc_checked(&mut cs.namespace(|| format!("{i}")), WORD.into(), None).unwrap())
            .collect();
        let before = cs.rows();
        sha256_words(&mut cs, &words).unwrap();
        cs.rows() - before
    };
    for words in [1, 3, 5] {
        let blocks = (32 * words + 9_usize).div_ceil(64);
        assert!(block(words) <= blocks * 22_500, "{words} words: {}", block(words));
    }
}
