//! Small indices: byte positions and shift amounts, of any width.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use super::compare::is_zero_element;
use super::lc::Lc;
use super::limb::{Limb, decompose};
use super::word::Word;
use crate::field::to_u256;

/// An index taken apart.
#[derive(Clone, Debug)]
pub struct Index<F: PrimeField> {
    /// The low bits, least significant first: of the index if it is within, else of nothing in particular.
    pub bits: Vec<Lc<F>>,
    /// The integer that `bits` make.
    pub value: Option<U256>,
    /// Whether the index is below `2^bits`.
    pub within: Lc<F>,
}

/// The low `count` bits of an index, and whether the index is below `2^count`.
///
/// With the index's bits: its low bits, and a zero test of the rest. Where that costs more, without them, for a low limb
/// `x` (see [`membership`]):
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `high` | [`is_zero_element`] of the high limb | `z` |
/// | `low` | `z · (x − 2^count) = x' − 2^count` | an index with a high limb is out of range |
/// | `member` | [`is_zero_element`] of `Π (x' − k)` | whether `x'` is one of `0 .. 2^count` |
/// | `index` | `within · x'` | decomposed into `count` bits, all zero if the index is not within |
///
/// *Soundness:* limbs are in range, so `x'` is an integer and the product is zero for those integers alone. *Completeness:*
/// each row defines its value. Rows: `count` for an index of that width; 18 and 36 for 5 and 8 bits of two cold limbs, 15 and
/// 33 of one; 2 where the bits are known.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn index_bits<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    index: &Word<F>,
    count: usize,
) -> Result<Index<F>, SynthesisError> {
    let mut cs = cs.namespace(|| "index");
    let (low, high) = match (index.as_two(), index.as_limb()) {
        (Some((low, high)), _) => (low.clone(), high.clone()),
        (None, Some(limb)) => (limb.clone(), Limb::zero()),
        (None, None) => (Limb::zero(), Limb::zero()),
    };
    let without_bits = 2 * u32::from(high.bound() > 0) + membership_rows(count) + 3 + count as u32;
    if low.known_bits().is_some() || low.bound() as usize <= count || low.bound() <= without_bits {
        let bits = low.bits(&mut cs)?;
        let kept: Vec<Lc<F>> = (0..count).map(|i| bits.get(i).cloned().unwrap_or_else(Lc::zero)).collect();
        let above = Lc::sum(bits.iter().skip(count).map(|bit| (F::ONE, bit)));
        let within = is_zero_element(&mut cs.namespace(|| "within"), &above.plus(high.lc()))?;
        let value = low.value().map(|value| value & U256::from((1u64 << count) - 1));
        return Ok(Index { bits: kept, value, within });
    }
    let limit = Lc::constant(F::from(1u64 << count));
    let high_zero = is_zero_element(&mut cs.namespace(|| "high"), high.lc())?;
    let low = Lc::select(&mut cs, || "low".into(), &high_zero, low.lc(), &limit)?;
    let product = membership(&mut cs.namespace(|| "member"), &low, count)?;
    let within = is_zero_element(&mut cs.namespace(|| "member"), &product)?;
    let lc = Lc::mul(&mut cs, || "index".into(), &within, &low)?;
    let value = lc.value().map(|value| to_u256(&value));
    let bits = decompose(&mut cs.namespace(|| "index bits"), &lc, value, count as u32)?;
    Ok(Index { bits: bits.to_vec(), value, within })
}

/// The number of factors that one power of `y` more makes cheapest, for `roots` values of `y`.
fn block(roots: usize) -> usize {
    (1..=roots).min_by_key(|&size| size + roots.div_ceil(size)).unwrap_or(1)
}

fn membership_rows(count: usize) -> u32 {
    let roots = 1usize << (count - 1);
    (block(roots) + roots.div_ceil(block(roots)) - 1) as u32
}

/// `Π (x − k)` over `k < 2^count`, up to its sign.
///
/// With `y = x · (2^count − 1 − x)` the factors for `k` and `2^count − 1 − k` are one, `y − k · (2^count − 1 − k)`. A block of `s`
/// of these is a linear combination of `y … y^s`, which are computed once. Rows: 7 for 5 bits, 22 for 8.
fn membership<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    x: &Lc<F>,
    count: usize,
) -> Result<Lc<F>, SynthesisError> {
    let last = (1u64 << count) - 1;
    let roots: Vec<F> = (0..=last / 2).map(|k| F::from(k * (last - k))).collect();
    let size = block(roots.len());
    let y = Lc::mul(cs, || "square".into(), x, &Lc::constant(F::from(last)).minus(x))?;
    let mut powers = vec![Lc::one(), y];
    for exponent in 2..=size {
        let half = exponent / 2;
        let power = Lc::mul(cs, || format!("power {exponent}"), &powers[half], &powers[exponent - half])?;
        powers.push(power);
    }
    let mut product: Option<Lc<F>> = None;
    for (index, chunk) in roots.chunks(size).enumerate() {
        // The coefficients of the chunk's polynomial in y, constant first.
        let mut coefficients = vec![F::ONE];
        for root in chunk {
            coefficients.insert(0, F::ZERO);
            for i in 1..coefficients.len() {
                let next = coefficients[i];
                coefficients[i - 1] -= *root * next;
            }
        }
        let factor = Lc::sum(coefficients.into_iter().zip(&powers));
        product = Some(match product {
            None => factor,
            Some(product) => Lc::mul(cs, || format!("block {index}"), &product, &factor)?,
        });
    }
    Ok(product.unwrap_or_else(Lc::one))
}

#[cfg(test)]
mod tests {
    use ff::Field;

    use super::*;
    use crate::cs::{CheckCs, Names};
    use crate::field::from_u256;

    #[test]
    fn the_product_vanishes_on_the_range_and_nowhere_near() {
        type F = blstrs::Scalar;
        for count in [5, 8] {
            let mut cs = CheckCs::<F>::checking(Names::Dropped);
            for x in 0..(1u64 << count) + 40 {
                let before = cs.rows();
                let product = membership(&mut cs, &alloc(&mut CheckCs::new(), F::from(x)), count).unwrap();
                assert_eq!(product.value() == Some(F::ZERO), x < 1 << count, "{x}");
                assert_eq!(cs.rows() - before, membership_rows(count) as usize);
            }
            let huge = from_u256::<F>(&(U256::MAX >> 128));
            let product = membership(&mut cs, &alloc(&mut CheckCs::new(), huge), count).unwrap();
            assert_ne!(product.value(), Some(F::ZERO));
        }
    }

    fn alloc<F: PrimeField>(cs: &mut CheckCs<F>, value: F) -> Lc<F> {
        Lc::alloc(cs, || "x".into(), Some(value)).unwrap()
    }
}
