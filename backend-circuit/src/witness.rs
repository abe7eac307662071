//! Witnesses of steps: made without names and rows, and checked against rows that were recorded once.
//!
//! A step's rows are the same for every witness, so they are recorded once as data ([`System`]). After that a step is only
//! asked for the values of its variables, which are written one after the other into a slice: no name is formatted and no
//! linear combination is built. The same slice is checked and then handed to the folding scheme as it is.

use bellpepper_core::{ConstraintSystem, Index, SynthesisError, Variable};
use ff::PrimeField;

use crate::cs::{Assignment, CheckCs, CountCs, Names, System, Unsatisfied};
use crate::error::CircuitError;
use crate::gadgets::Lc;
use crate::nova::{Check, Step};

/// The values of a step's variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness<F> {
    /// The constant one, then the state before the step.
    public: Vec<F>,
    /// The private variables, in the order in which the step allocates them.
    private: Vec<F>,
    /// The state after the step.
    after: Vec<F>,
}

impl<F> Witness<F> {
    /// The state before the step.
    pub fn before(&self) -> &[F] {
        self.public.get(1..).unwrap_or_default()
    }

    /// The state after the step.
    pub fn after(&self) -> &[F] {
        &self.after
    }

    /// The private variables, in the order in which the step allocates them.
    pub fn private(&self) -> &[F] {
        &self.private
    }
}

/// The rows of a step, as data. The state before the step is public, everything else private.
#[derive(Clone, Debug)]
pub struct Recorded<F> {
    system: System<F>,
    outputs: Vec<usize>,
}

impl<F: PrimeField> Recorded<F> {
    /// Records the rows of a step. No witness is asked for.
    ///
    /// # Errors
    /// Whatever synthesis gives.
    pub fn new<S: Step<F>>(step: &S) -> Result<Self, CircuitError> {
        let mut system = System::default();
        let after = synthesize(step, &mut system, None)?;
        let mut outputs = Vec::with_capacity(after.len());
        for lc in &after {
            lc.for_each_term(|variable, _| {
                outputs.push(match variable.get_unchecked() {
                    Index::Input(number) => number,
                    Index::Aux(number) => system.inputs() + number,
                });
            });
        }
        Ok(Self { system, outputs })
    }

    /// The wires of the state after the step, numbered as by [`System::for_each_term`].
    pub fn outputs(&self) -> &[usize] {
        &self.outputs
    }

    /// The rows.
    pub fn system(&self) -> &System<F> {
        &self.system
    }

    /// The witness of a step from the state `z`; checked row by row if `check` says so.
    ///
    /// # Errors
    /// `Unsatisfied` with the name of the first row that does not hold, `Synthesis` if a value is missing, `Disagreement` if
    /// the step allocates other variables than when it was recorded.
    pub fn witness<S: Step<F>>(&self, step: &S, z: &[F], check: Check) -> Result<Witness<F>, CircuitError> {
        let mut cs = Assignment::with_capacity(1 + z.len(), self.system.aux());
        let after = synthesize(step, &mut cs, Some(z))?;
        let missing = || CircuitError::Synthesis(SynthesisError::AssignmentMissing);
        let after = after.iter().map(|lc| lc.value().ok_or_else(missing)).collect::<Result<Vec<F>, _>>()?;
        let (public, private) = cs.into_parts();
        if private.len() != self.system.aux() || public.len() != self.system.inputs() {
            return Err(CircuitError::Disagreement("the step's variables depend on its witness"));
        }
        if check == Check::EachStep
            && let Some(row) = self.system.first_broken(&public, &private)
        {
            return Err(self.blame(step, z, row, &public, &private));
        }
        Ok(Witness { public, private, after })
    }

    /// Names cost more than the rows, so they are made only once something is wrong.
    fn blame<S: Step<F>>(&self, step: &S, z: &[F], row: usize, public: &[F], private: &[F]) -> CircuitError {
        let mut cs = CheckCs::checking(Names::Kept);
        if let Err(error) = synthesize(step, &mut cs, Some(z)) {
            return error;
        }
        match cs.verdict() {
            Err(unsatisfied) => unsatisfied.into(),
            // Another witness than the first time; blame the recorded row by its number.
            Ok(()) => {
                let count = self.system.broken(public, private).count();
                Unsatisfied { row, name: String::new(), count, rows: self.system.rows() }.into()
            }
        }
    }
}

/// The rows of a step, the allocation of its outputs included.
///
/// # Errors
/// Whatever synthesis gives.
pub fn rows<S: Step<F>, F: PrimeField>(step: &S) -> Result<usize, CircuitError> {
    let mut cs = CountCs::<F>::default();
    synthesize(step, &mut cs, None)?;
    Ok(cs.rows())
}

/// Synthesises a step between a public state before it and the variables that hold the state after it.
fn synthesize<F: PrimeField, S: Step<F>, CS: ConstraintSystem<F>>(
    step: &S,
    cs: &mut CS,
    z: Option<&[F]>,
) -> Result<Vec<Lc<F>>, CircuitError> {
    let mut before = Vec::with_capacity(step.arity());
    for index in 0..step.arity() {
        let value = z.and_then(|z| z.get(index)).copied();
        let variable: Variable =
            cs.alloc_input(|| format!("z {index}"), || value.ok_or(SynthesisError::AssignmentMissing))?;
        before.push(Lc::variable(variable, value));
    }
    let outputs = step.synthesize(cs, &before)?;
    let mut after = Vec::with_capacity(outputs.len());
    for output in &outputs {
        after.push(Lc::from_num(&output.to_num(cs)?));
    }
    Ok(after)
}
