//! Between field elements and 256-bit integers, for any prime field of about 254 bits.
//!
//! The gadgets are generic over the field, and `ff` leaves the byte order of a representation open, so the order is
//! read off the representation of one.

use ff::PrimeField;
use zvm_ir::Word as U256;

/// Integers below `2^CAPACITY` are distinct field elements in every field the crate supports: BN254's scalar field
/// (modulus about 2^253.6) and BLS12-381's (about 2^254.9).
pub const CAPACITY: u32 = 253;

/// The field element congruent to `value`.
pub fn from_u256<F: PrimeField>(value: &U256) -> F {
    // `F::from_u128` doubles an element 64 times.
    let radix = two_pow::<F>(64);
    let limbs = value.as_limbs().iter().rev().skip_while(|&&limb| limb == 0);
    limbs
        .fold(None, |sum: Option<F>, &limb| Some(sum.map_or(F::ZERO, |sum| sum * radix) + F::from(limb)))
        .unwrap_or(F::ZERO)
}

/// The integer in `0 .. p` that represents `element`.
pub fn to_u256<F: PrimeField>(element: &F) -> U256 {
    let repr = element.to_repr();
    let mut bytes = [0u8; 32];
    for (to, from) in bytes.iter_mut().zip(repr.as_ref()) {
        *to = *from;
    }
    if F::ONE.to_repr().as_ref().first() == Some(&1) { U256::from_le_bytes(bytes) } else { U256::from_be_bytes(bytes) }
}

/// `2^exponent`.
pub fn two_pow<F: PrimeField>(exponent: u32) -> F {
    if exponent < 64 {
        return F::from(1 << exponent);
    }
    F::from(1 << 63) * two_pow::<F>(exponent - 63)
}

/// `2^−exponent`.
pub fn two_pow_neg<F: PrimeField>(exponent: u32) -> F {
    F::TWO_INV.pow_vartime([u64::from(exponent)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip<F: PrimeField>() {
        for shift in 0..CAPACITY as usize {
            let value = (U256::from(1) << shift) + U256::from(shift / 2);
            assert_eq!(to_u256(&from_u256::<F>(&value)), value);
            assert_eq!(to_u256(&two_pow::<F>(shift as u32)), U256::from(1) << shift);
        }
        assert_eq!(from_u256::<F>(&U256::ZERO), F::ZERO);
        assert_eq!(from_u256::<F>(&U256::MAX), two_pow::<F>(256) - F::ONE);
        assert_eq!(to_u256(&two_pow::<F>(200)), U256::from(1) << 200);
        assert_eq!(two_pow::<F>(200) * two_pow_neg::<F>(200), F::ONE);
        assert!(F::CAPACITY >= CAPACITY);
    }

    #[test]
    fn integers_survive_both_fields() {
        round_trip::<crate::nova::Fr>();
        round_trip::<blstrs::Scalar>();
    }
}
