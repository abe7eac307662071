//! Choices between words: select, gate, merge.

use bellpepper_core::{ConstraintSystem, SynthesisError};
use ff::PrimeField;
use zvm_ir::Word as U256;

use super::lc::Lc;
use super::limb::{LIMB, Limb};
use super::word::Word;

/// `a` if the boolean `c`, else `b`.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `limb i` | `c · (a_i − b_i) = d_i` | the result is `b_i + d_i` |
///
/// *Soundness and completeness:* `c` is boolean, and the result is one of two words in range. Rows: one per limb; none
/// where both words are constant.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn select<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    c: &Lc<F>,
    a: &Word<F>,
    b: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    let width = a.width().max(b.width());
    merge(
        &mut cs.namespace(|| "select"),
        width,
        &[(c.clone(), a.clone()), (c.complement(), b.clone())],
        Arms::Exhaustive,
    )
}

/// The word if the boolean `flag`, else zero: [`merge`] with one arm. Rows: one per limb that is not constant.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn gate<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    flag: &Lc<F>,
    a: &Word<F>,
) -> Result<Word<F>, SynthesisError> {
    merge(&mut cs.namespace(|| "gate"), a.width(), &[(flag.clone(), a.clone())], Arms::AtMostOne)
}

/// What is known of the flags of a [`merge`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arms {
    /// Exactly one flag is one.
    Exhaustive,
    /// At most one flag is one; the result is zero if none is.
    AtMostOne,
}

/// `Σ flag · word` over arms of which at most one is taken.
///
/// | name | equation | meaning |
/// |---|---|---|
/// | `limb i arm j` | `f_j · (x_ij − y_i) = d_ij` | with `y_i` the last arm's limb if the arms are exhaustive, else zero |
///
/// *Soundness and completeness:* the flags are boolean and at most one is one, which the caller has constrained; the
/// result is one of the words, hence in range. Rows, per limb: one for each arm that is not constant, or one less than
/// the number of arms if they are exhaustive and that is fewer. Arms with the same limb share a row.
///
/// # Errors
/// `AssignmentMissing` when the constraint system wants a value that is not known.
pub fn merge<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    width: u32,
    arms: &[(Lc<F>, Word<F>)],
    kind: Arms,
) -> Result<Word<F>, SynthesisError> {
    let single: Option<Vec<(Lc<F>, Limb<F>)>> =
        arms.iter().map(|(flag, word)| Some((flag.clone(), word.as_limb()?.clone()))).collect();
    if let Some(single) = single {
        let limb = merge_limbs(&mut cs.namespace(|| "limb 0"), &single, kind)?;
        return Ok(Word::from_limb(width, limb));
    }
    let mut low = Vec::with_capacity(arms.len());
    let mut high = Vec::with_capacity(arms.len());
    for (index, (flag, word)) in arms.iter().enumerate() {
        let (word_low, word_high) = word.pair(&mut cs.namespace(|| format!("arm {index}")))?;
        low.push((flag.clone(), word_low));
        high.push((flag.clone(), word_high));
    }
    let low = merge_limbs(&mut cs.namespace(|| "limb 0"), &low, kind)?;
    let high = merge_limbs(&mut cs.namespace(|| "limb 1"), &high, kind)?;
    debug_assert!(low.bound() <= LIMB);
    Ok(Word::from_pair(width, low, high))
}

fn merge_limbs<F: PrimeField, CS: ConstraintSystem<F>>(
    cs: &mut CS,
    arms: &[(Lc<F>, Limb<F>)],
    kind: Arms,
) -> Result<Limb<F>, SynthesisError> {
    // Group by limb; a limb that occurs twice is taken when either flag is one.
    let mut groups: Vec<(Vec<&Lc<F>>, &Limb<F>)> = Vec::new();
    for (flag, limb) in arms {
        let same = |other: &Limb<F>| match (limb.as_constant(), other.as_constant()) {
            (Some(a), Some(b)) => a == b,
            _ => limb.id() == other.id(),
        };
        match groups.iter_mut().find(|(_, other)| same(other)) {
            Some((flags, _)) => flags.push(flag),
            None => groups.push((vec![flag], limb)),
        }
    }
    if let ([(_, limb)], Arms::Exhaustive) = (groups.as_slice(), kind) {
        return Ok((*limb).clone());
    }
    let bound = groups.iter().map(|(_, limb)| limb.bound()).max().unwrap_or(0);
    let value = arms
        .iter()
        .try_fold(U256::ZERO, |value, (flag, limb)| Some(if flag.value()? == F::ZERO { value } else { limb.value()? }));
    let variable = groups.iter().filter(|(_, limb)| limb.as_constant().is_none()).count();
    // With a base arm each other arm costs a row; without one each arm that is not constant does.
    let base = if kind == Arms::Exhaustive && variable + 1 > groups.len() { groups.pop() } else { None };
    let base_lc = base.map_or_else(Lc::zero, |(_, limb)| limb.lc().clone());
    let mut terms = vec![base_lc.clone()];
    for (index, (flags, limb)) in groups.iter().enumerate() {
        let flag = Lc::sum(flags.iter().map(|flag| (F::ONE, *flag)));
        terms.push(Lc::mul(cs, || format!("arm {index}"), &flag, &limb.lc().minus(&base_lc))?);
    }
    let lc = Lc::sum(terms.iter().map(|term| (F::ONE, term)));
    Ok(Limb::new(lc, bound, value))
}
