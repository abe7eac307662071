//! A constraint system that checks each row as it is enforced, and can record rows to be checked again.
//!
//! Two uses. While proving, each step is synthesised here first, so that an unsatisfied row is blamed on its name
//! instead of ending as an invalid proof. In tests, the recorded rows are evaluated again with one variable changed,
//! which is how every hint is shown to be forced.

use bellpepper_core::{ConstraintSystem, Index, LinearCombination, SynthesisError, Variable};
use ff::PrimeField;

/// Whether rows and variables keep their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// Full path names, for blame and tests.
    Kept,
    /// No names: several times faster.
    Dropped,
}

/// The rows of a constraint system that do not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} of {rows} rows do not hold; the first is row {row}, `{name}`")]
pub struct Unsatisfied {
    /// The index of the first row.
    pub row: usize,
    /// Its full path name; empty when names were dropped.
    pub name: String,
    /// How many rows do not hold.
    pub count: usize,
    /// How many rows there are.
    pub rows: usize,
}

type Terms<F> = Vec<(Index, F)>;

#[derive(Clone, Debug)]
struct Row<F> {
    a: Terms<F>,
    b: Terms<F>,
    c: Terms<F>,
}

/// Checks rows as they come, against the assignment that was allocated.
#[derive(Clone, Debug)]
pub struct CheckCs<F> {
    names: Names,
    path: String,
    path_ends: Vec<usize>,
    inputs: Vec<F>,
    aux: Vec<F>,
    aux_names: Vec<String>,
    row_names: Vec<String>,
    recorded: Option<Vec<Row<F>>>,
    rows: usize,
    first: Option<(usize, String)>,
    failures: usize,
}

impl<F: PrimeField> CheckCs<F> {
    /// An empty system that checks and forgets rows.
    pub fn checking(names: Names) -> Self {
        Self {
            names,
            path: String::new(),
            path_ends: Vec::new(),
            inputs: vec![F::ONE],
            aux: Vec::new(),
            aux_names: Vec::new(),
            row_names: Vec::new(),
            recorded: None,
            rows: 0,
            first: None,
            failures: 0,
        }
    }

    /// An empty system that also records rows, for [`CheckCs::broken_by`].
    pub fn recording() -> Self {
        Self { recorded: Some(Vec::new()), ..Self::checking(Names::Kept) }
    }

    /// The number of rows enforced.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of private variables.
    pub fn aux_count(&self) -> usize {
        self.aux.len()
    }

    /// The values of the private variables.
    pub fn aux(&self) -> &[F] {
        &self.aux
    }

    /// The full path name of a private variable; empty when names were dropped.
    pub fn aux_name(&self, index: usize) -> &str {
        self.aux_names.get(index).map_or("", String::as_str)
    }

    /// The full path name of a row; empty unless rows are recorded.
    pub fn row_name(&self, index: usize) -> &str {
        self.row_names.get(index).map_or("", String::as_str)
    }

    /// Whether every row so far holds.
    ///
    /// # Errors
    /// The first row that does not, by name, and how many there are.
    pub fn verdict(&self) -> Result<(), Unsatisfied> {
        match &self.first {
            None => Ok(()),
            Some((row, name)) => {
                Err(Unsatisfied { row: *row, name: name.clone(), count: self.failures, rows: self.rows })
            }
        }
    }

    /// For each private variable the recorded rows that mention it.
    pub fn rows_by_aux(&self) -> Vec<Vec<usize>> {
        let mut uses = vec![Vec::new(); self.aux.len()];
        for (index, row) in self.recorded.iter().flatten().enumerate() {
            for (variable, _) in row.a.iter().chain(&row.b).chain(&row.c) {
                if let Index::Aux(aux) = variable
                    && uses[*aux].last() != Some(&index)
                {
                    uses[*aux].push(index);
                }
            }
        }
        uses
    }

    /// The first of `candidates` (recorded rows) that does not hold once private variable `aux` is increased by `delta`.
    pub fn broken_by(&mut self, aux: usize, delta: F, candidates: &[usize]) -> Option<&str> {
        let honest = self.aux[aux];
        self.aux[aux] += delta;
        let broken = candidates.iter().copied().find(|&row| !self.row_holds(row));
        self.aux[aux] = honest;
        broken.map(|row| self.row_name(row))
    }

    /// Gives private variable `aux` a value.
    pub fn assign(&mut self, aux: usize, value: F) {
        self.aux[aux] = value;
    }

    /// The first recorded row that does not hold under the present assignment.
    pub fn first_broken(&self) -> Option<&str> {
        let rows = self.recorded.as_ref().map_or(0, Vec::len);
        (0..rows).find(|&row| !self.row_holds(row)).map(|row| self.row_name(row))
    }

    /// Whether a recorded row holds under the present assignment.
    pub fn row_holds(&self, row: usize) -> bool {
        self.recorded.as_ref().and_then(|rows| rows.get(row)).is_none_or(|row| {
            let value =
                |terms: &Terms<F>| terms.iter().map(|(variable, coeff)| *coeff * self.get(*variable)).sum::<F>();
            value(&row.a) * value(&row.b) == value(&row.c)
        })
    }

    fn get(&self, variable: Index) -> F {
        match variable {
            Index::Input(i) => self.inputs[i],
            Index::Aux(i) => self.aux[i],
        }
    }

    fn full_name<AR: Into<String>>(&self, name: impl FnOnce() -> AR) -> String {
        let name: String = name().into();
        if self.path.is_empty() { name } else { format!("{}/{name}", self.path) }
    }
}

impl<F: PrimeField> ConstraintSystem<F> for CheckCs<F> {
    type Root = Self;

    fn new() -> Self {
        Self::checking(Names::Kept)
    }

    fn alloc<V, A, AR>(&mut self, name: A, value: V) -> Result<Variable, SynthesisError>
    where
        V: FnOnce() -> Result<F, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.aux.push(value()?);
        if self.recorded.is_some() {
            self.aux_names.push(self.full_name(name));
        }
        Ok(Variable(Index::Aux(self.aux.len() - 1)))
    }

    fn alloc_input<V, A, AR>(&mut self, _: A, value: V) -> Result<Variable, SynthesisError>
    where
        V: FnOnce() -> Result<F, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.inputs.push(value()?);
        Ok(Variable(Index::Input(self.inputs.len() - 1)))
    }

    fn enforce<A, AR, LA, LB, LC>(&mut self, name: A, a: LA, b: LB, c: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
        LB: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
        LC: FnOnce(LinearCombination<F>) -> LinearCombination<F>,
    {
        let [a, b, c] = [a(LinearCombination::zero()), b(LinearCombination::zero()), c(LinearCombination::zero())];
        let value = |lc: &LinearCombination<F>| lc.eval(&self.inputs, &self.aux);
        let holds = value(&a) * value(&b) == value(&c);
        let blamed = !holds && self.first.is_none();
        if self.recorded.is_some() || (blamed && self.names == Names::Kept) {
            let name = self.full_name(name);
            if blamed {
                self.first = Some((self.rows, name.clone()));
            }
            if let Some(rows) = &mut self.recorded {
                let terms = |lc: &LinearCombination<F>| lc.iter().map(|(v, coeff)| (v.0, *coeff)).collect();
                rows.push(Row { a: terms(&a), b: terms(&b), c: terms(&c) });
                self.row_names.push(name);
            }
        } else if blamed {
            self.first = Some((self.rows, String::new()));
        }
        self.failures += usize::from(!holds);
        self.rows += 1;
    }

    fn push_namespace<NR, N>(&mut self, name: N)
    where
        NR: Into<String>,
        N: FnOnce() -> NR,
    {
        self.path_ends.push(self.path.len());
        if self.names == Names::Kept {
            let name: String = name().into();
            if !self.path.is_empty() {
                self.path.push('/');
            }
            self.path.push_str(&name);
        }
    }

    fn pop_namespace(&mut self) {
        if let Some(end) = self.path_ends.pop() {
            self.path.truncate(end);
        }
    }

    fn get_root(&mut self) -> &mut Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use blstrs::Scalar;
    use ff::Field;

    use super::*;

    fn square_root(cs: &mut CheckCs<Scalar>, root: u64, square: u64) {
        let mut cs = cs.namespace(|| "outer");
        let root = cs.alloc(|| "root", || Ok(Scalar::from(root))).unwrap();
        cs.enforce(
            || "square",
            |lc| lc + root,
            |lc| lc + root,
            |lc| lc + (Scalar::from(square), CheckCs::<Scalar>::one()),
        );
    }

    #[test]
    fn an_unsatisfied_row_is_named() {
        let mut cs = CheckCs::checking(Names::Kept);
        square_root(&mut cs, 3, 9);
        assert_eq!(cs.verdict(), Ok(()));
        square_root(&mut cs, 3, 8);
        square_root(&mut cs, 2, 8);
        let blame = cs.verdict().unwrap_err();
        assert_eq!(blame, Unsatisfied { row: 1, name: "outer/square".into(), count: 2, rows: 3 });
    }

    #[test]
    fn a_changed_variable_breaks_its_row() {
        let mut cs = CheckCs::recording();
        square_root(&mut cs, 3, 9);
        let uses = cs.rows_by_aux();
        assert_eq!(uses, vec![vec![0]]);
        assert_eq!(cs.broken_by(0, Scalar::ONE, &uses[0]), Some("outer/square"));
        assert_eq!(cs.broken_by(0, -Scalar::from(6), &uses[0]), None, "−3 is the other root");
        cs.assign(0, Scalar::from(4));
        assert_eq!(cs.first_broken(), Some("outer/square"));
    }
}
