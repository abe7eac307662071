//! The rules that need no sizes: what rows define, tests for zero, digits, tables; and linear equations for the others.

use std::collections::{BTreeMap, BTreeSet};

use ff::Field;
use r1cs_file::R1csFile;
use zvm_backend_circuit::field::{from_u256, to_u256};
use zvm_backend_circuit::nova::Fr;
use zvm_ir::Word as U256;

pub(crate) type Wire = usize;
pub(crate) type Form = BTreeMap<Wire, Fr>;

/// The constant one.
pub(crate) const ONE: Wire = 0;

/// How many known booleans are tried both ways at once.
const SPLITS: usize = 1;

/// The rows of a file, and what has been derived from them.
#[derive(Clone)]
pub(crate) struct Checker {
    pub(crate) rows: Vec<[Form; 3]>,
    /// Linear equations `form = 0`, with further wires for forms that a row says are boolean, and for products of known forms.
    pub(crate) equations: Vec<Form>,
    pub(crate) boolean: BTreeSet<Wire>,
    pub(crate) unique: BTreeSet<Wire>,
    /// The bits of inputs.
    pub(crate) ranges: BTreeMap<Wire, u32>,
    /// The wires of the file.
    pub(crate) wires: usize,
    next: Wire,
    /// Rows whose product is known, and stands in `equations`.
    products: BTreeSet<usize>,
}

fn add(form: &mut Form, wire: Wire, coefficient: Fr) {
    let sum = form.entry(wire).or_insert(Fr::ZERO);
    *sum += coefficient;
    if *sum == Fr::ZERO {
        form.remove(&wire);
    }
}

/// `a + scale · b`.
pub(crate) fn plus(a: &Form, scale: Fr, b: &Form) -> Form {
    let mut sum = a.clone();
    b.iter().for_each(|(wire, coefficient)| add(&mut sum, *wire, scale * coefficient));
    sum
}

impl Checker {
    /// Reads a file whose public inputs are integers of so many bits each.
    pub(crate) fn read(bytes: &[u8], inputs: &[u32]) -> Self {
        let file = R1csFile::<32>::read(bytes).unwrap();
        let form = |terms: &[(r1cs_file::FieldElement<32>, u32)]| {
            let mut form = Form::new();
            for (coefficient, wire) in terms {
                let value = U256::try_from_le_slice(coefficient.as_bytes()).unwrap();
                add(&mut form, *wire as usize, from_u256(&value));
            }
            form
        };
        let rows = file.constraints.0.iter().map(|row| [form(&row.0), form(&row.1), form(&row.2)]).collect();
        let known = 1 + (file.header.n_pub_out + file.header.n_pub_in) as usize;
        let first = known - inputs.len();
        let ranges = inputs.iter().enumerate().map(|(index, bits)| (first + index, *bits)).collect();
        Self::new(rows, file.header.n_wires as usize, (0..known).collect(), ranges)
    }

    /// What is known before any rule, from one row less.
    pub(crate) fn without_row(&self, missing: usize) -> Self {
        let mut rows = self.rows.clone();
        rows.remove(missing);
        Self::new(rows, self.wires, self.unique.range(..self.wires).copied().collect(), self.ranges.clone())
    }

    fn new(rows: Vec<[Form; 3]>, wires: usize, unique: BTreeSet<Wire>, ranges: BTreeMap<Wire, u32>) -> Self {
        let (mut equations, mut boolean, mut next) = (Vec::new(), BTreeSet::new(), wires);
        let mut ranges = ranges;
        for [a, b, c] in &rows {
            let constant = |form: &Form| form.keys().all(|wire| *wire == ONE);
            if let Some((constant, other)) = [(a, b), (b, a)].into_iter().find(|(form, _)| constant(form)) {
                let scale = constant.get(&ONE).copied().unwrap_or(Fr::ZERO);
                let equation = plus(c, -scale, other);
                if let [wire] = equation.keys().collect::<Vec<_>>()[..]
                    && let Some(bits) = ranges.get_mut(wire)
                {
                    // It is zero.
                    *bits = 0;
                }
                equations.push(equation);
            } else if c.is_empty() && plus(a, -Fr::ONE, b) == Form::from([(ONE, Fr::ONE)]) {
                // f · (f − 1) = 0
                match a.iter().next() {
                    Some((wire, coefficient)) if a.len() == 1 && *coefficient == Fr::ONE => {
                        boolean.insert(*wire);
                    }
                    _ => {
                        boolean.insert(next);
                        equations.push(plus(a, -Fr::ONE, &Form::from([(next, Fr::ONE)])));
                        next += 1;
                    }
                }
            }
        }
        Self { rows, equations, boolean, unique, ranges, wires, next, products: BTreeSet::new() }
    }

    pub(crate) fn left<'a>(&'a self, form: &'a Form) -> impl Iterator<Item = Wire> + 'a {
        form.keys().copied().filter(|wire| !self.unique.contains(wire))
    }

    pub(crate) fn known(&self, form: &Form) -> bool {
        self.left(form).next().is_none()
    }

    /// Applies all rules until none gives more.
    pub(crate) fn run(&mut self) {
        self.run_split(SPLITS);
    }

    fn run_split(&mut self, splits: usize) {
        loop {
            let before = self.unique.len();
            self.rows_define();
            self.zero_tests();
            if self.unique.len() > before {
                continue;
            }
            self.digits();
            if self.unique.len() == before {
                self.quotients();
            }
            if self.unique.len() == before && splits > 0 && !self.open().is_empty() {
                self.split(splits);
            }
            if self.unique.len() == before {
                return;
            }
        }
    }

    /// The wires that are not shown to have one value, but for free hints: the inverse of zero, which stands in one row, as a
    /// factor of what is tested.
    pub(crate) fn open(&self) -> Vec<Wire> {
        let left: Vec<Wire> = (0..self.wires).filter(|wire| !self.unique.contains(wire)).collect();
        let mut uses: BTreeMap<Wire, Vec<&[Form; 3]>> = left.iter().map(|&wire| (wire, Vec::new())).collect();
        for row in &self.rows {
            for wire in row.iter().flat_map(Form::keys).collect::<BTreeSet<_>>() {
                if let Some(uses) = uses.get_mut(wire) {
                    uses.push(row);
                }
            }
        }
        let is_free = |wire: &Wire| matches!(uses[wire].as_slice(), [[x, i, z]] if i.len() == 1 && i.contains_key(wire) && self.known(x) && self.known(z));
        left.into_iter().filter(|wire| !is_free(wire)).collect()
    }

    fn rows_define(&mut self) {
        for index in 0..self.rows.len() {
            let [a, b, c] = &self.rows[index];
            let all: BTreeSet<Wire> = self.left(a).chain(self.left(b)).chain(self.left(c)).collect();
            let Some(&wire) = all.first() else { continue };
            if all.len() > 1 || (a.contains_key(&wire) && b.contains_key(&wire)) {
                continue;
            }
            if !a.contains_key(&wire) && !b.contains_key(&wire) {
                self.unique.insert(wire);
            } else if let Some(boolean) = self.table(index, wire) {
                self.unique.insert(wire);
                if boolean {
                    self.boolean.insert(wire);
                }
            }
        }
        for equation in &self.equations {
            let left: Vec<Wire> = equation.keys().copied().filter(|wire| !self.unique.contains(wire)).collect();
            if let [wire] = left.as_slice() {
                self.unique.insert(*wire);
            }
        }
    }

    /// Whether a row has one solution for `wire` whatever its other wires, all booleans, are; and if so, whether that is
    /// always a boolean.
    fn table(&self, row: usize, wire: Wire) -> Option<bool> {
        let forms = &self.rows[row];
        let others: BTreeSet<Wire> =
            forms.iter().flat_map(BTreeMap::keys).copied().filter(|other| ![wire, ONE].contains(other)).collect();
        if others.len() > 4 || !others.is_subset(&self.boolean) {
            return None;
        }
        let mut boolean = true;
        for assignment in 0..1u32 << others.len() {
            let value = |form: &Form, at: Fr| {
                form.iter()
                    .map(|(other, coefficient)| match others.iter().position(|wire| wire == other) {
                        Some(place) if assignment >> place & 1 == 1 => *coefficient,
                        Some(_) => Fr::ZERO,
                        None if *other == wire => *coefficient * at,
                        None => *coefficient,
                    })
                    .sum::<Fr>()
            };
            let at = |at: Fr| value(&forms[0], at) * value(&forms[1], at) - value(&forms[2], at);
            let slope = at(Fr::ONE) - at(Fr::ZERO);
            let solution = -at(Fr::ZERO) * Option::<Fr>::from(slope.invert())?;
            boolean &= solution == Fr::ZERO || solution == Fr::ONE;
        }
        Some(boolean)
    }

    fn zero_tests(&mut self) {
        for [x, z, c] in &self.rows {
            let [(wire, coefficient)] = z.iter().collect::<Vec<_>>()[..] else { continue };
            if !c.is_empty() || *coefficient != Fr::ONE || self.unique.contains(wire) {
                continue;
            }
            let complement = Form::from([(ONE, Fr::ONE), (*wire, -Fr::ONE)]);
            if self.known(x) && self.rows.iter().any(|[other, _, result]| other == x && *result == complement) {
                self.unique.insert(*wire);
                self.boolean.insert(*wire);
            }
        }
    }

    fn digits(&mut self) {
        for index in 0..self.rows.len() {
            let [a, b, c] = &self.rows[index];
            if !self.products.contains(&index) && self.known(a) && self.known(b) && !self.known(c) {
                // What the product is does not matter: it has one value.
                self.equations.push(plus(c, -Fr::ONE, &Form::from([(self.next, Fr::ONE)])));
                self.unique.insert(self.next);
                self.products.insert(index);
                self.next += 1;
            }
        }
        let (_, eliminated) = self.eliminate();
        let mut found = Vec::new();
        for equation in &eliminated {
            let left: Vec<Wire> = self.left(equation).collect();
            if left.iter().all(|wire| self.boolean.contains(wire))
                && has_one_solution(&left.iter().map(|wire| equation[wire]).collect::<Vec<_>>())
            {
                found.extend(left);
            }
        }
        self.unique.extend(found);
    }

    /// What each wire is in terms of booleans and known wires, where linear equations say; and the equations in those terms,
    /// those that are used up left out.
    pub(crate) fn eliminate(&self) -> (BTreeMap<Wire, Form>, Vec<Form>) {
        let mut solved: BTreeMap<Wire, Form> = BTreeMap::new();
        let mut open: Vec<Form> = self.equations.iter().filter(|equation| !self.known(equation)).cloned().collect();
        loop {
            let mut rest = Vec::with_capacity(open.len());
            let before = solved.len();
            for equation in open {
                let equation = substitute(&equation, &solved);
                let others: Vec<Wire> = self.left(&equation).filter(|wire| !self.boolean.contains(wire)).collect();
                if let [wire] = others[..] {
                    let scale = -equation[&wire].invert().unwrap();
                    let mut form = plus(&Form::new(), scale, &equation);
                    form.remove(&wire);
                    solved.insert(wire, form);
                } else if !self.known(&equation) {
                    rest.push(equation);
                }
            }
            open = rest;
            if solved.len() == before {
                return (solved, open);
            }
        }
    }

    /// Known wires in terms of booleans and other known wires, from equations between booleans and known wires: what looks like
    /// `n − 1 − r − 2·(…)` in a row may be a boolean by another one.
    pub(crate) fn known_in_booleans(&self, equations: &[Form]) -> BTreeMap<Wire, Form> {
        let mut found: BTreeMap<Wire, Form> = BTreeMap::new();
        for equation in equations {
            let equation = substitute(equation, &found);
            let Some(wire) = equation.keys().copied().find(|wire| *wire != ONE && self.unique.contains(wire)) else {
                continue;
            };
            let mut form = plus(&Form::new(), -equation[&wire].invert().unwrap(), &equation);
            form.remove(&wire);
            let by = BTreeMap::from([(wire, form)]);
            found.values_mut().for_each(|known| *known = substitute(known, &by));
            found.extend(by);
        }
        found
    }

    /// A known form in terms of inputs with a range, and booleans.
    pub(crate) fn in_range(&self, form: &Form) -> Option<Form> {
        let mut form = form.clone();
        for _ in 0..16 {
            let ranged = |wire: &Wire| *wire == ONE || self.ranges.contains_key(wire) || self.boolean.contains(wire);
            let Some(wire) = form.keys().copied().find(|wire| !ranged(wire)) else { return Some(form) };
            let equation = self.equations.iter().find(|equation| {
                equation.contains_key(&wire) && equation.keys().all(|other| *other == wire || ranged(other))
            })?;
            let scale = -form[&wire] * Option::<Fr>::from(equation[&wire].invert())?;
            form = plus(&form, scale, equation);
        }
        None
    }

    /// Tries a known boolean that multiplies something as zero and as one: what has one value either way has one value.
    fn split(&mut self, splits: usize) {
        let switches: BTreeSet<Wire> = self
            .rows
            .iter()
            .filter(|[a, b, c]| !c.is_empty() || plus(a, -Fr::ONE, b) != Form::from([(ONE, Fr::ONE)]))
            .flat_map(|[a, b, _]| [a, b])
            .filter_map(|factor| {
                let mut wires = factor.keys().copied().filter(|wire| *wire != ONE);
                let wire = wires.next().filter(|_| wires.next().is_none())?;
                (self.unique.contains(&wire) && self.boolean.contains(&wire)).then_some(wire)
            })
            .collect();
        for switch in switches {
            let [mut off, on] = [false, true].map(|value| {
                let value = if value { Form::from([(ONE, Fr::ONE)]) } else { Form::new() };
                let values = BTreeMap::from([(switch, value)]);
                let mut rows = self.rows.clone();
                let put = |rows: &mut Vec<[Form; 3]>, values: &BTreeMap<Wire, Form>| {
                    rows.iter_mut().for_each(|row| *row = row.each_ref().map(|form| substitute(form, values)));
                };
                put(&mut rows, &values);
                // A product with zero is zero.
                let zero = rows.iter().filter(|[a, b, c]| c.len() == 1 && (a.is_empty() || b.is_empty()));
                let zero = zero.flat_map(|[_, _, c]| c.keys().map(|wire| (*wire, Form::new()))).collect();
                put(&mut rows, &zero);
                let unique = self.unique.range(..self.wires).copied().collect();
                let mut case = Self::new(rows, self.wires, unique, self.ranges.clone());
                case.boolean.extend(self.boolean.range(..self.wires));
                case.unique.extend(zero.keys());
                case.run_split(splits - 1);
                case.unique
            });
            off.retain(|wire| *wire < self.wires && on.contains(wire));
            if off.iter().any(|wire| !self.unique.contains(wire)) {
                self.unique.extend(off);
                return;
            }
        }
    }
}

/// The form with forms in the place of some wires.
pub(crate) fn substitute(form: &Form, by: &BTreeMap<Wire, Form>) -> Form {
    if !form.keys().any(|wire| by.contains_key(wire)) {
        return form.clone();
    }
    let mut out = Form::new();
    for (wire, coefficient) in form {
        match by.get(wire) {
            Some(inner) => inner.iter().for_each(|(wire, inner)| add(&mut out, *wire, *coefficient * inner)),
            None => add(&mut out, *wire, *coefficient),
        }
    }
    out
}

/// Whether `Σ coefficient · boolean` takes each of its values once.
fn has_one_solution(coefficients: &[Fr]) -> bool {
    let modulus = to_u256(&-Fr::ONE) + U256::from(1);
    let size = |value: Fr| to_u256(&value).min(modulus - to_u256(&value));
    coefficients.iter().any(|unit| {
        let inverse = unit.invert().unwrap();
        let mut sizes: Vec<U256> = coefficients.iter().map(|coefficient| size(*coefficient * inverse)).collect();
        sizes.sort();
        let mut sum = U256::ZERO;
        for size in sizes {
            // Sizes are at most half the modulus, so the sum does not overflow before it is too large.
            if size <= sum || sum >= modulus {
                return false;
            }
            sum += size;
        }
        // Two solutions differ by a multiple of the modulus that is smaller than it, hence by nothing.
        sum < modulus
    })
}
