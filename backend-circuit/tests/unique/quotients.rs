//! The rule for products of hints: a quotient and a remainder have one value.
//!
//! Let `Q`, `L`, `N` be sums of open booleans over the integers, and suppose that the rows say of any two solutions for the
//! same inputs:
//!
//! 1. `N` is the same integer, and equals a known form `B` modulo the field's size `p`: by linear equations whose booleans
//!    cannot add up to `p` (*number*);
//! 2. `Q · N + L` is the same modulo `p` (a row `A · B = C`), and modulo a power of two `M` (products of pieces of `Q` and `N`,
//!    added up in columns whose carries are booleans and cancel);
//! 3. `0 ≤ Q · N + L < p · M`, where rows that say that a product of two sums of booleans is zero may be used by cases, and
//!    the ranges of inputs where they say that the equations of 1 hold over the integers;
//! 4. `L < N`, because `N − L − 1` is a sum of booleans as well.
//!
//! Then `Q · N + L` is the same integer, and so are its quotient and remainder by `N`. Where rows `A_i · B = C_i` cannot wrap, each
//! is an equation over the integers; then `M` does not matter, and they are added up until only `L` is left.

use std::collections::{BTreeMap, BTreeSet};

use ff::Field;
use zvm_backend_circuit::nova::Fr;

use super::checker::{Checker, Form, ONE, Wire, plus, substitute};
use super::integers::{Int, Integers};

/// A linear equation whose open part cannot reach the field's size.
struct Exact {
    field: Form,
    open: Integers,
}

/// A product of two sums of booleans that is a wire.
struct Product {
    factors: [Integers; 2],
    bound: Int,
}

/// A row `A · B = C` with a known `B`.
struct Multiple {
    /// `A`, in terms of booleans.
    a: Form,
    /// `C`, likewise.
    c: Form,
}

/// What wires are in terms of booleans.
struct Terms {
    solved: BTreeMap<Wire, Form>,
    known: BTreeMap<Wire, Form>,
}

impl Terms {
    fn booleans(&self, form: &Form) -> Form {
        substitute(&substitute(form, &self.solved), &self.known)
    }
}

fn one() -> Int {
    Int::power(0)
}

impl Checker {
    /// Applies the rule to every known form that multiplies something open.
    pub(crate) fn quotients(&mut self) {
        let (solved, equations) = self.eliminate();
        let is_boolean = |wire: Wire| self.boolean.contains(&wire);
        let mut exact: Vec<Form> = equations.iter().filter(|form| self.left(form).all(is_boolean)).cloned().collect();
        let known = self.known_in_booleans(&exact);
        exact.extend(known.iter().map(|(&wire, form)| plus(form, -Fr::ONE, &Form::from([(wire, Fr::ONE)]))));
        let terms = Terms { solved, known };
        let products = self.products_of_booleans(&terms);
        let mut multiples: Vec<(Form, Vec<Multiple>)> = Vec::new();
        for [a, b, c] in &self.rows {
            for (a, b) in [(a, b), (b, a)] {
                if !self.known(b) || self.known(a) || b.keys().all(|wire| *wire == ONE) {
                    continue;
                }
                let multiple = Multiple { a: substitute(a, &terms.solved), c: substitute(c, &terms.solved) };
                if !self.left(&multiple.a).chain(self.left(&multiple.c)).all(is_boolean) {
                    continue;
                }
                match multiples.iter_mut().find(|(known, _)| known == b) {
                    Some((_, list)) => list.push(multiple),
                    None => multiples.push((b.clone(), vec![multiple])),
                }
            }
        }
        let mut found: BTreeSet<Wire> = BTreeSet::new();
        for (b, list) in &multiples {
            for (number, cap) in self.numbers(b, &exact) {
                let open = self.without_wrap(&number, list).or_else(|| {
                    list.iter().find_map(|row| self.with_wrap((&number, cap), row, &products, &equations, &terms))
                });
                found.extend(open.into_iter().flatten());
            }
        }
        self.unique.extend(found);
    }

    fn open_part(&self, form: &Form) -> Form {
        form.iter().filter(|(wire, _)| !self.unique.contains(wire)).map(|(&wire, &value)| (wire, value)).collect()
    }

    fn bound(&self, wire: Wire) -> Option<Int> {
        self.boolean.contains(&wire).then(one)
    }

    /// An equation over the integers, scaled as given, if its booleans cannot reach the field's size.
    fn exact(&self, form: &Form, scale: Fr) -> Option<Exact> {
        let field = plus(&Form::new(), scale, form);
        let open = Integers::of_field(&self.open_part(&field));
        open.largest(|wire| self.bound(wire))?.below(Int::modulus()).then_some(Exact { field, open })
    }

    /// Sums of open booleans (and a constant) that have one value, which is `b` modulo the field's size. Where the ranges of
    /// inputs say that no equation can wrap, it is `b` as an integer: then with the largest `b`.
    fn numbers(&self, b: &Form, equations: &[Form]) -> Vec<(Integers, Option<Int>)> {
        let mut found = Vec::new();
        let b_wires: Vec<Wire> = b.keys().copied().filter(|wire| *wire != ONE).collect();
        // Equations by a wire of `b`, which they have with coefficient −1.
        let mut by_wire: Vec<(Wire, Exact)> = Vec::new();
        for form in equations {
            for &wire in &b_wires {
                let Some(coefficient) = form.get(&wire) else { continue };
                let Some(scale) = Option::<Fr>::from(coefficient.invert()) else { continue };
                by_wire.extend(self.exact(form, -scale).map(|exact| (wire, exact)));
            }
        }
        let mut check = |parts: &[(Int, &Exact)]| {
            let (mut field, mut open) = (Form::new(), Integers::default());
            for (scale, exact) in parts {
                field = plus(&field, scale.in_field(), &exact.field);
                open.add(*scale, &exact.open);
            }
            // open + known = 0 with known = −b + constant.
            let mut known = plus(&field, -Fr::ONE, &self.open_part(&field));
            let constant = known.remove(&ONE).unwrap_or(Fr::ZERO);
            let mut target = plus(&Form::new(), -Fr::ONE, b);
            let b_constant = -target.remove(&ONE).unwrap_or(Fr::ZERO);
            if known != target {
                return;
            }
            let constant = Int::least(constant + b_constant);
            if !constant.is_zero() {
                open.0.insert(ONE, constant);
            }
            if open.is_sum() {
                let exact = parts.iter().all(|(_, exact)| self.cannot_wrap(&exact.field));
                found.push((open, if exact { self.largest_number(parts, constant) } else { None }));
            }
        };
        for (index, (wire, first)) in by_wire.iter().enumerate() {
            let scale = Int::least(b[wire]);
            check(&[(scale, first)]);
            for (other, second) in &by_wire[index + 1..] {
                if wire != other {
                    check(&[(scale, first), (Int::least(b[other]), second)]);
                }
            }
        }
        found
    }

    /// The bound of a wire that is a boolean or an input with a range.
    fn ranged(&self, wire: Wire) -> Option<Int> {
        self.bound(wire).or_else(|| self.ranges.get(&wire).map(|bits| Int::power(*bits)))
    }

    /// Whether an equation between booleans and inputs in range holds over the integers.
    fn cannot_wrap(&self, equation: &Form) -> bool {
        let known = plus(equation, -Fr::ONE, &self.open_part(equation));
        let Some(known) = self.in_range(&known) else { return false };
        let whole = Integers::of_field(&plus(&known, Fr::ONE, &self.open_part(equation)));
        whole.largest(|wire| self.ranged(wire)).is_some_and(|size| size.below(Int::modulus()))
    }

    /// The largest value that equations over the integers leave for the sum of their open parts and a constant.
    fn largest_number(&self, parts: &[(Int, &Exact)], constant: Int) -> Option<Int> {
        let mut known = Integers(BTreeMap::from([(ONE, constant)]));
        for (scale, exact) in parts {
            let part = plus(&exact.field, -Fr::ONE, &self.open_part(&exact.field));
            known.add(scale.negated(), &Integers::of_field(&self.in_range(&part)?));
        }
        known.0.retain(|_, coefficient| !coefficient.is_negative());
        known.largest(|wire| self.ranged(wire))
    }

    /// Whether `q · number + rest` says what its quotient and remainder are; if so, their wires.
    fn divides(&self, number: &Integers, q: &Integers, rest: &Integers) -> Option<BTreeSet<Wire>> {
        let mut above = number.minus(rest);
        above.add(one().negated(), &Integers(BTreeMap::from([(ONE, one())])));
        let sums = [q, rest, &above].into_iter().all(Integers::is_sum);
        let digits = [q, rest].into_iter().all(|form| !form.0.contains_key(&ONE) && form.is_faithful());
        (sums && digits).then(|| q.0.keys().chain(rest.0.keys()).copied().collect())
    }

    /// All rows by one known form, if none of them can wrap.
    fn without_wrap(&self, number: &Integers, rows: &[Multiple]) -> Option<BTreeSet<Wire>> {
        let largest = number.largest(|wire| self.bound(wire))?;
        let mut sums: Vec<(Integers, Integers)> = Vec::new();
        for row in rows {
            // a · b − c = 0
            let q = Integers::of_field(&row.a);
            let rest = Integers::of_field(&plus(&Form::new(), -Fr::ONE, &self.open_part(&row.c)));
            let size = q.largest(|wire| self.bound(wire))?.times(largest);
            if !q.is_sum() || !size.plus(rest.largest(|wire| self.bound(wire))?).below(Int::modulus()) {
                return None;
            }
            sums.push((q, rest));
        }
        let mut combined = sums.clone();
        for (index, first) in sums.iter().enumerate() {
            for second in &sums[index + 1..] {
                for scales in cancelling(&first.1, &second.1) {
                    let add = |first: &Integers, second: &Integers| {
                        let mut sum = first.scaled(scales[0]);
                        sum.add(scales[1], second);
                        sum
                    };
                    combined.push((add(&first.0, &second.0), add(&first.1, &second.1)));
                }
            }
        }
        combined.iter().find_map(|(q, rest)| self.divides(number, q, rest))
    }

    fn products_of_booleans(&self, terms: &Terms) -> BTreeMap<Wire, Product> {
        let mut products = BTreeMap::new();
        for [a, b, c] in &self.rows {
            let [(&wire, &coefficient)] = c.iter().collect::<Vec<_>>()[..] else { continue };
            if self.known(a) && self.known(b) || coefficient != Fr::ONE || self.unique.contains(&wire) {
                continue;
            }
            let factors = [a, b].map(|form| Integers::of_field(&terms.booleans(form)));
            let sizes = factors.each_ref().map(|form| form.largest(|wire| self.bound(wire)));
            if let [Some(first), Some(second)] = sizes
                && factors.iter().all(Integers::is_sum)
                && first.times(second).below(Int::modulus())
            {
                products.insert(wire, Product { factors, bound: first.times(second) });
            }
        }
        products
    }

    /// A row that may wrap, with columns that say the same modulo a power of two.
    fn with_wrap(
        &self,
        (number, cap): (&Integers, Option<Int>),
        row: &Multiple,
        products: &BTreeMap<Wire, Product>,
        equations: &[Form],
        terms: &Terms,
    ) -> Option<BTreeSet<Wire>> {
        // The remainder: the part of the number that the row subtracts.
        let negative = plus(&Form::new(), -Fr::ONE, &self.open_part(&row.c));
        let rest = Integers(negative.keys().map(|wire| Some((*wire, *number.0.get(wire)?))).collect::<Option<_>>()?);
        if rest.0.iter().any(|(wire, coefficient)| coefficient.in_field() != negative[wire]) {
            return None;
        }
        [0, 1].into_iter().find_map(|pieces| {
            let (q, bits) = self.columns(number, &rest, pieces, products, equations)?;
            // What the columns do not see of the quotient is above them.
            let mut whole = q.clone();
            for (wire, coefficient) in &row.a {
                match q.0.get(wire) {
                    Some(seen) if seen.in_field() == *coefficient => {}
                    Some(_) => return None,
                    None => {
                        let power =
                            (bits..bits + 256).map(Int::power).find(|power| power.in_field() == *coefficient)?;
                        whole.0.insert(*wire, power);
                    }
                }
            }
            if q.0.keys().any(|wire| !row.a.contains_key(wire)) {
                return None;
            }
            let limit = Int::modulus().times(Int::power(bits));
            let fits = |zero: &BTreeSet<Wire>| {
                let bound = |wire: Wire| if zero.contains(&wire) { Some(Int::ZERO) } else { self.bound(wire) };
                let sizes = [&whole, number, &rest].map(|form| form.largest(bound));
                let [Some(q), Some(n), Some(r)] = sizes else { return false };
                let n = cap.filter(|cap| cap.below(n)).unwrap_or(n);
                q.times(n).plus(r).below(limit)
            };
            if !self.cases(terms).iter().all(fits) {
                return None;
            }
            self.divides(number, &whole, &rest)
        })
    }

    /// The booleans that are zero, case by case: of two sums whose product is zero, one is.
    fn cases(&self, terms: &Terms) -> Vec<BTreeSet<Wire>> {
        let mut cases = vec![BTreeSet::new()];
        for [a, b, c] in &self.rows {
            if !c.is_empty() || self.known(a) || self.known(b) || cases.len() > 16 {
                continue;
            }
            let sums = [a, b].map(|form| {
                let form = terms.booleans(form);
                let sum = Integers::of_field(&form);
                let sum = if sum.is_sum() { sum } else { sum.scaled(one().negated()) };
                let size = sum.largest(|wire| self.bound(wire)).filter(|size| size.below(Int::modulus()));
                (size.is_some() && sum.is_sum() && !sum.0.contains_key(&ONE)).then_some(sum)
            });
            if let [Some(first), Some(second)] = sums {
                let with = |case: &BTreeSet<Wire>, zero: &Integers| case.iter().chain(zero.0.keys()).copied().collect();
                cases = cases.iter().flat_map(|case| [with(case, &first), with(case, &second)]).collect();
            }
        }
        cases
    }

    /// The quotient, as far as columns of products see it, and the bits of the power of two modulo which they say that
    /// `quotient · number + rest` has one value. `pieces` is which factor of the products is a piece of the quotient.
    fn columns(
        &self,
        number: &Integers,
        rest: &Integers,
        pieces: usize,
        products: &BTreeMap<Wire, Product>,
        equations: &[Form],
    ) -> Option<(Integers, u32)> {
        let bound = |wire: Wire| self.bound(wire).or_else(|| products.get(&wire).map(|product| product.bound));
        // A carry stands in the next column as what was divided: put the booleans that it is in its place.
        let held = |form: &Form| -> BTreeSet<Wire> {
            form.keys().copied().filter(|wire| products.contains_key(wire)).collect()
        };
        let mut forms: Vec<Form> =
            equations.iter().map(|form| self.open_part(form)).filter(|form| !held(form).is_empty()).collect();
        forms.sort_by_key(|form| held(form).len());
        for later in 1..forms.len() {
            for earlier in 0..later {
                let wires = held(&forms[earlier]);
                if let Some(wire) = wires.first()
                    && wires.is_subset(&held(&forms[later]))
                {
                    let ratio = forms[later][wire] * forms[earlier][wire].invert().unwrap();
                    forms[later] = plus(&forms[later], -ratio, &forms[earlier]);
                }
            }
        }
        let mut columns: Vec<Integers> = Vec::new();
        for open in forms {
            let exact = open.values().find_map(|unit| {
                let scaled = Integers::of_field(&plus(&Form::new(), Option::from(unit.invert())?, &open));
                scaled.largest(bound)?.below(Int::modulus()).then_some(scaled)
            });
            columns.extend(exact);
        }
        let mut total = columns.pop()?;
        while !columns.is_empty() {
            let (index, scales) = columns.iter().enumerate().find_map(|(index, column)| {
                let strip = |form: &Integers| {
                    Integers(
                        form.0.iter().filter(|(wire, _)| !number.0.contains_key(wire)).map(|(&w, &c)| (w, c)).collect(),
                    )
                };
                Some((index, cancelling(&strip(&total), &strip(column)).into_iter().next()?))
            })?;
            let column = columns.swap_remove(index);
            total = total.scaled(scales[0]);
            total.add(scales[1], &column);
        }
        // Scaled and signed so that the remainder stands as it is.
        let (wire, coefficient) = rest.0.iter().find(|(wire, _)| total.0.contains_key(wire))?;
        let scale = total.0[wire].over(*coefficient)?;
        let divided: Option<BTreeMap<Wire, Int>> =
            total.0.iter().map(|(&wire, &coefficient)| Some((wire, coefficient.over(scale)?))).collect();
        let total = Integers(divided?);
        let carries = total.minus(rest);
        let carries = Integers(carries.0.into_iter().filter(|(wire, _)| !products.contains_key(wire)).collect());
        let bits = carries.0.values().map(|coefficient| coefficient.twos()).min()?;
        let mut by_piece: Vec<(Integers, Integers)> = Vec::new();
        for (wire, &weight) in total.0.iter().filter(|(wire, _)| products.contains_key(wire)) {
            let factors = &products[wire].factors;
            let (piece, window) = (&factors[pieces], &factors[1 - pieces]);
            match by_piece.iter_mut().find(|(known, _)| known == piece) {
                Some((_, sum)) => sum.add(weight, window),
                None => by_piece.push((piece.clone(), window.scaled(weight))),
            }
        }
        let mut quotient = Integers::default();
        for (piece, windows) in &by_piece {
            let shift = (0..bits).find(|&shift| {
                let mut difference = windows.clone();
                difference.add(Int::power(shift).negated(), number);
                difference.is_multiple_of_power(bits)
            })?;
            quotient.add(Int::power(shift), piece);
        }
        Some((quotient, bits))
    }
}

/// Scales under which two forms lose a wire that they share, the first positive; one pair per ratio.
fn cancelling(first: &Integers, second: &Integers) -> Vec<[Int; 2]> {
    let mut found: Vec<[Int; 2]> = Vec::new();
    if !first.shares(second) {
        return found;
    }
    for (wire, &a) in first.0.iter().filter(|(wire, _)| **wire != ONE) {
        let Some(&b) = second.0.get(wire) else { continue };
        let scales = match (b.over(a), a.over(b)) {
            (Some(ratio), _) => [ratio.negated(), one()],
            (_, Some(ratio)) => [one(), ratio.negated()],
            (None, None) => continue,
        };
        let scales = if scales[0].is_negative() { scales.map(Int::negated) } else { scales };
        if !found.contains(&scales) {
            found.push(scales);
        }
    }
    found
}
