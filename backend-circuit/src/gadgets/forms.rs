//! Boolean functions of three bits in one row each.
//!
//! A row `A · B = C` whose sides are linear in the inputs and in the output `o` says `o · h = g` for some `g` and `h` of the
//! inputs. If `h` is never zero on bits, the row has one solution; the right coefficients make it the function wanted. Those
//! below were found by solving for them (for functions of the sum `s` of the inputs, `g/h` is the rational function through
//! the values at 0 to 3); the test evaluates every row on every input. Composition of two-input gates would take two rows.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;

use super::compare::xor_bits;
use super::lc::{Lc, enforce};

/// Coefficients of one side: the constant, the three inputs, the output.
type Side = [i8; 5];

/// A function of three bits as one row.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    sides: [Side; 3],
    /// Bit `x + 2y + 4z` is the function's value.
    truth: u8,
}

/// `x ⊕ y ⊕ z`: `s · (s − 2o) = 2s − 3o`.
pub const XOR3: Form = Form { sides: [[0, 1, 1, 1, 0], [0, 1, 1, 1, -2], [0, 2, 2, 2, -3]], truth: 0b1001_0110 };

/// The majority: `s · (s − 1 − 4o) = −6o`.
pub const MAJORITY: Form = Form { sides: [[0, 1, 1, 1, 0], [-1, 1, 1, 1, -4], [0, 0, 0, 0, -6]], truth: 0b1110_1000 };

/// `x ? y : z`: `x · (y − z) = o − z`.
pub const CHOOSE: Form = Form { sides: [[0, 1, 0, 0, 0], [0, 0, 1, -1, 0], [0, 0, 0, -1, 1]], truth: 0b1101_1000 };

/// `x ⊕ (¬y ∧ z)`: with `m = 1 − y + z`, `(x + m) · (m − 5x + 4o) = m − 11x + 10o`.
pub const CHI: Form = Form { sides: [[1, 1, -1, 1, 0], [1, -5, -1, 1, 4], [1, -11, -1, 1, 10]], truth: 0b1001_1010 };

impl Form {
    /// The function's value.
    fn of(&self, inputs: [bool; 3]) -> bool {
        let index = inputs.iter().rev().fold(0u8, |index, &bit| index << 1 | u8::from(bit));
        self.truth >> index & 1 == 1
    }

    /// The function of three booleans: one row, one or none where inputs are constant.
    ///
    /// *Soundness:* the output's coefficient in the row is not zero for any input bits, so the row has one solution.
    /// *Completeness:* the function's value is it.
    ///
    /// # Errors
    /// `AssignmentMissing` when the constraint system wants a value that is not known.
    pub fn apply<F: PrimeField, CS: ConstraintSystem<F>>(
        &self,
        cs: &mut CS,
        name: impl Fn() -> String,
        inputs: [&Lc<F>; 3],
    ) -> Result<Lc<F>, SynthesisError> {
        let constants = inputs.map(|input| input.as_constant().map(|value| value != F::ZERO));
        if let Some(place) = constants.iter().position(Option::is_some) {
            let bit = constants[place] == Some(true);
            let others: Vec<usize> = (0..3).filter(|&i| i != place).collect();
            let rest = |x: bool, y: bool| {
                let mut all = [bit; 3];
                all[others[0]] = x;
                all[others[1]] = y;
                self.of(all)
            };
            return two_inputs(cs, name, rest, [inputs[others[0]], inputs[others[1]]]);
        }
        let values = inputs.map(|input| input.value().map(|value| value != F::ZERO));
        let value = match values {
            [Some(x), Some(y), Some(z)] => Some(if self.of([x, y, z]) { F::ONE } else { F::ZERO }),
            _ => None,
        };
        let output = Lc::alloc(cs, &name, value)?;
        let one = Lc::one();
        let terms = [&one, inputs[0], inputs[1], inputs[2], &output];
        let [a, b, c] = self.sides.map(|side| Lc::sum(side.into_iter().map(coefficient::<F>).zip(terms)));
        enforce(cs, name, &a, &b, &c);
        Ok(output)
    }
}

fn coefficient<F: PrimeField>(value: i8) -> F {
    let size = F::from(u64::from(value.unsigned_abs()));
    if value < 0 { -size } else { size }
}

/// Any function of two booleans: at most one row, for it is linear in them and their product.
fn two_inputs<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    name: impl Fn() -> String,
    function: impl Fn(bool, bool) -> bool,
    [x, y]: [&Lc<F>; 2],
) -> Result<Lc<F>, SynthesisError> {
    let at = |x: bool, y: bool| i8::from(function(x, y));
    let (none, first, second) =
        (at(false, false), at(true, false) - at(false, false), at(false, true) - at(false, false));
    let both = at(true, true) - none - first - second;
    if [none, first, second, both] == [0, 1, 1, -2] {
        return xor_bits(cs, name, x, y);
    }
    let product = if both == 0 { Lc::zero() } else { Lc::mul(cs, name, x, y)? };
    Ok(Lc::sum([
        (coefficient(none), &Lc::one()),
        (coefficient(first), x),
        (coefficient(second), y),
        (coefficient(both), &product),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cs::{CheckCs, CountCs, Names};

    type Meaning = fn(bool, bool, bool) -> bool;

    /// What the forms are meant to be, said otherwise than by their tables.
    fn meanings() -> [(Form, Meaning); 4] {
        [
            (XOR3, |x, y, z| x ^ y ^ z),
            (MAJORITY, |x, y, z| u8::from(x) + u8::from(y) + u8::from(z) >= 2),
            (CHOOSE, |x, y, z| if x { y } else { z }),
            (CHI, |x, y, z| x ^ (!y & z)),
        ]
    }

    fn all_inputs() -> impl Iterator<Item = [bool; 3]> {
        (0..8u8).map(|i| [i & 1 == 1, i & 2 == 2, i & 4 == 4])
    }

    #[test]
    fn each_row_has_one_solution_and_it_is_the_function() {
        for (form, meaning) in meanings() {
            for inputs in all_inputs() {
                let [x, y, z] = inputs;
                assert_eq!(form.of(inputs), meaning(x, y, z));
                let side = |side: usize, output: i64| {
                    let [constant, a, b, c, o] = form.sides[side].map(i64::from);
                    constant + a * i64::from(x) + b * i64::from(y) + c * i64::from(z) + o * output
                };
                let row = |output: i64| side(0, output) * side(1, output) - side(2, output);
                assert_eq!(row(i64::from(meaning(x, y, z))), 0);
                // Linear in the output, with a coefficient that is small and not zero: one solution in any large field.
                assert_eq!(row(2) - row(1), row(1) - row(0));
                assert_ne!(row(1) - row(0), 0);
                assert!((row(1) - row(0)).abs() < 100);
            }
        }
    }

    #[test]
    fn constants_cost_less_and_mean_the_same() {
        type F = blstrs::Scalar;
        let bit = |bit: bool| F::from(u64::from(bit));
        for (form, meaning) in meanings() {
            for constant in 0..8u8 {
                let mut most = 0;
                for inputs in all_inputs() {
                    let mut cs = CheckCs::<F>::checking(Names::Kept);
                    let lcs: Vec<Lc<F>> = (0..3)
                        .map(|i| match constant >> i & 1 {
                            1 => Lc::constant(bit(inputs[i])),
                            _ => Lc::alloc(&mut cs, || format!("input {i}"), Some(bit(inputs[i]))).unwrap(),
                        })
                        .collect();
                    let output = form.apply(&mut cs, || "form".into(), [&lcs[0], &lcs[1], &lcs[2]]).unwrap();
                    let [x, y, z] = inputs;
                    assert_eq!(output.value(), Some(bit(meaning(x, y, z))));
                    cs.verdict().unwrap();
                    most = most.max(cs.rows());
                }
                assert!(most <= usize::from(constant.count_ones() < 2), "{constant:03b}: {most} rows");
            }
        }
        let mut cs = CountCs::<F>::default();
        let inputs: Vec<Lc<F>> = (0..3).map(|i| Lc::alloc(&mut cs, || format!("{i}"), None).unwrap()).collect();
        XOR3.apply(&mut cs, || "xor".into(), [&inputs[0], &inputs[1], &inputs[2]]).unwrap();
        assert_eq!(cs.rows(), 1);
    }
}
