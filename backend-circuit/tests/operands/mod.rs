//! Operands for tests of gadgets: the forms in which they reach a gadget, widths of interest, corner and random words.

use bellpepper_core::ConstraintSystem;
use ff::PrimeField;
use zvm_backend_circuit::gadgets::{Lc, Word, limb_count, lower_pure, native_limbs};
use zvm_ir::{Imm, Opcode, Type, Word as U256};

/// How an operand reaches a gadget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Cold,
    Bits,
    Constant,
}

pub(crate) use Form::{Bits, Cold, Constant};

/// An operand: its type's width and its form.
pub(crate) type Operand = (u16, Form);

pub(crate) fn operand<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    index: usize,
    (width, form): Operand,
    value: Option<U256>,
) -> Word<F> {
    let width = u32::from(width);
    let mut cs = cs.namespace(|| format!("operand {index}"));
    match form {
        Bits => Word::alloc_checked(&mut cs, width, value).unwrap(),
        Constant => Word::constant(width, value.unwrap()),
        Cold => {
            let values = value.map(|value| native_limbs::<F>(width, &value));
            let limbs: Vec<Lc<F>> = (0..limb_count(width))
                .map(|i| Lc::alloc(&mut cs, || format!("limb {i}"), values.as_ref().map(|v| v[i])).unwrap())
                .collect();
            Word::from_limbs(width, &limbs).unwrap()
        }
    }
}

pub(crate) fn result_type(opcode: Opcode, operands: &[Operand]) -> Type {
    let types: Vec<Type> = operands.iter().map(|(width, _)| Type::new(*width).unwrap()).collect();
    opcode.result_type(&types).unwrap().unwrap()
}

pub(crate) fn lower<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    opcode: Opcode,
    operands: &[Operand],
    result: Type,
    values: &[Option<U256>],
) -> Word<F> {
    let args: Vec<Word<F>> = operands
        .iter()
        .zip(values)
        .enumerate()
        .map(|(index, (spec, value))| operand(cs, index, *spec, *value))
        .collect();
    lower_pure(cs, opcode, Imm::None, &args, result).unwrap()
}

/// A small generator of test words, deterministic per seed (SplitMix64).
pub(crate) struct Words(pub(crate) u64);

impl Words {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A corner as often as not; below `2^width`.
    pub(crate) fn word(&mut self, width: u16) -> U256 {
        let random = U256::from_limbs([self.next(), self.next(), self.next(), self.next()]);
        let width = usize::from(width);
        let max = U256::MAX >> (256 - width);
        let small = U256::from(self.next() % 300);
        let one = U256::from(1);
        let power = one << (self.next() as usize % width);
        (match self.next() % 12 {
            0 => U256::ZERO,
            1 => one,
            2 => max,
            3 => max - small.min(max),
            4 => small,
            5 => power,
            6 => power - one,
            7 => one << (width - 1),
            8 => low_limb_corner(random),
            9 => random >> (self.next() as usize % 256),
            _ => random,
        }) & max
    }
}

/// A word whose low limb is zero or full: where carries and borrows cross.
fn low_limb_corner(random: U256) -> U256 {
    let high = (random >> 128) << 128;
    if random.bit(0) { high } else { high | (U256::MAX >> 128) }
}

/// Operand lists worth testing for one instruction: the widths of interest in all forms.
pub(crate) fn shapes(opcode: Opcode) -> Vec<Vec<Operand>> {
    let unary: Vec<Vec<Operand>> =
        [256, 255, 252, 200, 128, 64, 8, 1].iter().flat_map(|&w| [vec![(w, Cold)], vec![(w, Bits)]]).collect();
    let binary: Vec<Vec<Operand>> = [
        [(256, Cold), (256, Cold)],
        [(256, Bits), (256, Bits)],
        [(256, Bits), (256, Constant)],
        [(256, Constant), (256, Cold)],
        [(256, Cold), (64, Cold)],
        [(64, Cold), (256, Cold)],
        [(256, Cold), (1, Cold)],
        [(255, Cold), (254, Bits)],
        [(252, Cold), (252, Cold)],
        [(200, Cold), (160, Bits)],
        [(160, Cold), (256, Bits)],
        [(128, Cold), (128, Cold)],
        [(128, Bits), (100, Constant)],
        [(64, Cold), (64, Cold)],
        [(64, Bits), (8, Constant)],
        [(8, Cold), (8, Cold)],
        [(1, Cold), (1, Cold)],
        [(1, Cold), (256, Bits)],
    ]
    .iter()
    .map(|pair| pair.to_vec())
    .collect();
    let exact_sum: Vec<Vec<Operand>> = [
        [(255, Cold), (255, Cold)],
        [(255, Cold), (1, Cold)],
        [(255, Cold), (64, Cold)],
        [(252, Cold), (252, Cold)],
        [(253, Cold), (130, Bits)],
        [(251, Cold), (128, Cold)],
        [(128, Cold), (128, Bits)],
        [(64, Cold), (1, Cold)],
        [(64, Constant), (64, Cold)],
    ]
    .iter()
    .map(|pair| pair.to_vec())
    .collect();
    let exact_product: Vec<Vec<Operand>> = [
        [(128, Cold), (128, Cold)],
        [(128, Bits), (128, Bits)],
        [(192, Cold), (64, Cold)],
        [(253, Cold), (3, Cold)],
        [(130, Cold), (126, Cold)],
        [(125, Bits), (131, Bits)],
        [(128, Cold), (124, Cold)],
        [(64, Cold), (64, Cold)],
        [(200, Cold), (56, Constant)],
        [(32, Constant), (220, Cold)],
    ]
    .iter()
    .map(|pair| pair.to_vec())
    .collect();
    let ternary: Vec<Vec<Operand>> = [
        [(256, Cold), (256, Cold), (256, Cold)],
        [(256, Bits), (256, Bits), (256, Bits)],
        [(256, Bits), (256, Cold), (256, Constant)],
        [(256, Cold), (256, Bits), (64, Cold)],
        [(128, Cold), (128, Cold), (256, Cold)],
        [(64, Cold), (64, Cold), (64, Cold)],
        [(255, Cold), (1, Cold), (130, Cold)],
    ]
    .iter()
    .map(|triple| triple.to_vec())
    .collect();
    let indexed: Vec<Vec<Operand>> = [
        [(256, Cold), (256, Cold)],
        [(8, Cold), (256, Cold)],
        [(8, Bits), (256, Bits)],
        [(5, Cold), (256, Bits)],
        [(9, Cold), (255, Cold)],
        [(64, Cold), (200, Cold)],
        [(8, Cold), (128, Bits)],
        [(8, Cold), (64, Cold)],
        [(256, Bits), (8, Cold)],
        [(8, Cold), (1, Constant)],
        [(8, Cold), (256, Constant)],
        [(9, Constant), (256, Cold)],
        [(8, Constant), (256, Bits)],
        [(8, Constant), (200, Cold)],
        [(8, Constant), (64, Bits)],
        [(5, Constant), (256, Cold)],
    ]
    .iter()
    .map(|pair| pair.to_vec())
    .collect();
    match opcode {
        Opcode::Add => exact_sum,
        Opcode::Mul => exact_product,
        Opcode::Exp => vec![
            vec![(256, Cold), (3, Cold)],
            vec![(64, Bits), (1, Cold)],
            vec![(256, Constant), (9, Cold)],
            vec![(8, Constant), (10, Cold)],
            vec![(2, Constant), (256, Cold)],
            vec![(128, Cold), (6, Constant)],
        ],
        Opcode::Select => binary.into_iter().map(|pair| [(1, Cold)].into_iter().chain(pair).collect()).collect(),
        Opcode::Shl | Opcode::Shr | Opcode::Sar | Opcode::Byte | Opcode::Signextend => indexed,
        Opcode::Addmod | Opcode::Mulmod => ternary,
        _ if opcode.info().operands.len() == 1 => unary,
        _ => binary,
    }
}

/// Whether the exact instruction's promise holds.
pub(crate) fn kept_promise(opcode: Opcode, values: &[U256]) -> bool {
    opcode != Opcode::Sub || values[0] >= values[1]
}

/// An index corner: shift amounts, byte positions and the like around their limits.
pub(crate) fn operand_values(opcode: Opcode, operands: &[Operand], words: &mut Words) -> Vec<U256> {
    let mut values: Vec<U256> = operands.iter().map(|(width, _)| words.word(*width)).collect();
    match opcode {
        Opcode::Shl | Opcode::Shr | Opcode::Sar | Opcode::Byte | Opcode::Signextend => {
            let limit = if matches!(opcode, Opcode::Byte | Opcode::Signextend) { 34 } else { 258 };
            if !words.next().is_multiple_of(4) {
                let max = U256::MAX >> (256 - usize::from(operands[0].0));
                values[0] = U256::from(words.next() % limit) & max;
            }
        }
        Opcode::Eq | Opcode::Ult | Opcode::Slt | Opcode::Sub if words.next().is_multiple_of(3) => {
            let max = U256::MAX >> (256 - usize::from(operands[1].0));
            values[1] = values[0] & max;
        }
        _ => {}
    }
    values
}

pub(crate) fn pure_with_operands() -> impl Iterator<Item = Opcode> {
    let done_elsewhere =
        [Opcode::Iconst, Opcode::Zext, Opcode::Trunc, Opcode::Narrow, Opcode::KeccakWords, Opcode::KeccakF];
    Opcode::ALL.iter().copied().filter(move |opcode| opcode.is_pure() && !done_elsewhere.contains(opcode))
}
