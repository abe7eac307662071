//! That rows admit one value, shown a second way: from exported rows alone, without a witness.
//!
//! The checker reads a gadget as a `.r1cs` file (with the parser of the `r1cs-file` crate) and knows nothing of gadgets. It
//! starts from the public inputs and the constant one, and derives that more wires have one value, by four rules:
//!
//! - *defined*: a row with one wire left, in `C` alone, whose other wires have one value each;
//! - *zero test*: `x · i = 1 − z` and `x · z = 0` for an `x` that has one value give `z` one value;
//! - *digits*: a linear equation between booleans whose coefficients, as integers of least size, each exceed the sum of the
//!   smaller ones and together stay below the modulus, has one solution; equations are combined where they share one wire
//!   that is not a boolean;
//! - *table*: a row with one wire left, of degree one in it, whose other wires are booleans with one value: its solution is
//!   computed for all of their values.
//!
//! The rules are sound and far from complete: products of hints (quotient times divisor) are beyond them, as is an equation
//! that needs a second modulus. The snapshot says for each gadget whether all its wires but free hints were shown to have one
//! value, or which were not; those rest on perturbation, on the attacks, and on the argument beside the gadget.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bellpepper_core::ConstraintSystem;
use ff::Field;
use r1cs_file::R1csFile;
use zvm_backend_circuit::cs::System;
use zvm_backend_circuit::export::r1cs;
use zvm_backend_circuit::field::{from_u256, to_u256};
use zvm_backend_circuit::gadgets::keccak::keccak_f;
use zvm_backend_circuit::gadgets::{Lc, Word, enforce_boolean, limb_count, lower_pure};
use zvm_backend_circuit::nova::Fr;
use zvm_ir::{Imm, Opcode, Type, Word as U256};

type Wire = usize;
type Form = BTreeMap<Wire, Fr>;

/// The constant one.
const ONE: Wire = 0;

struct Checker {
    rows: Vec<[Form; 3]>,
    /// Linear equations `form = 0`, with further wires for forms that a row says are boolean.
    equations: Vec<Form>,
    boolean: BTreeSet<Wire>,
    unique: BTreeSet<Wire>,
    wires: usize,
}

fn add(form: &mut Form, wire: Wire, coefficient: Fr) {
    let sum = form.entry(wire).or_insert(Fr::ZERO);
    *sum += coefficient;
    if *sum == Fr::ZERO {
        form.remove(&wire);
    }
}

fn plus(a: &Form, scale: Fr, b: &Form) -> Form {
    let mut sum = a.clone();
    b.iter().for_each(|(wire, coefficient)| add(&mut sum, *wire, scale * coefficient));
    sum
}

impl Checker {
    fn read(bytes: &[u8]) -> Self {
        let file = R1csFile::<32>::read(bytes).unwrap();
        let form = |terms: &[(r1cs_file::FieldElement<32>, u32)]| {
            let mut form = Form::new();
            for (coefficient, wire) in terms {
                let value = U256::try_from_le_slice(coefficient.as_bytes()).unwrap();
                add(&mut form, *wire as usize, from_u256(&value));
            }
            form
        };
        let rows: Vec<[Form; 3]> =
            file.constraints.0.iter().map(|row| [form(&row.0), form(&row.1), form(&row.2)]).collect();
        let wires = file.header.n_wires as usize;
        let known = 1 + (file.header.n_pub_out + file.header.n_pub_in) as usize;
        let mut checker = Self {
            equations: Vec::new(),
            boolean: BTreeSet::new(),
            unique: (0..known).collect(),
            wires,
            rows: Vec::new(),
        };
        let mut next = wires;
        for row in &rows {
            let [a, b, c] = row;
            let constant = |form: &Form| form.keys().all(|wire| *wire == ONE);
            if let Some((constant, other)) = [(a, b), (b, a)].into_iter().find(|(form, _)| constant(form)) {
                let scale = constant.get(&ONE).copied().unwrap_or(Fr::ZERO);
                checker.equations.push(plus(c, -scale, other));
            } else if c.is_empty() && plus(a, -Fr::ONE, b) == Form::from([(ONE, Fr::ONE)]) {
                // f · (f − 1) = 0
                match a.iter().next() {
                    Some((wire, coefficient)) if a.len() == 1 && *coefficient == Fr::ONE => {
                        checker.boolean.insert(*wire);
                    }
                    _ => {
                        checker.boolean.insert(next);
                        checker.equations.push(plus(a, -Fr::ONE, &Form::from([(next, Fr::ONE)])));
                        next += 1;
                    }
                }
            }
        }
        checker.rows = rows;
        checker
    }

    fn left<'a>(&'a self, form: &'a Form) -> impl Iterator<Item = Wire> + 'a {
        form.keys().copied().filter(|wire| !self.unique.contains(wire))
    }

    fn known(&self, form: &Form) -> bool {
        self.left(form).next().is_none()
    }

    /// Applies all rules until none gives more.
    fn run(&mut self) {
        loop {
            let before = self.unique.len();
            self.rows_define();
            self.zero_tests();
            self.digits();
            if self.unique.len() == before {
                return;
            }
        }
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
        // By the one wire of an equation that is neither known nor boolean, if there is one.
        let mut by_wire: BTreeMap<Wire, Vec<Form>> = BTreeMap::new();
        let mut candidates = Vec::new();
        for equation in &self.equations {
            let left: Vec<Wire> = self.left(equation).collect();
            let others: Vec<Wire> = left.iter().copied().filter(|wire| !self.boolean.contains(wire)).collect();
            match others.as_slice() {
                [] if !left.is_empty() => candidates.push(equation.clone()),
                [wire] => by_wire.entry(*wire).or_default().push(equation.clone()),
                _ => {}
            }
        }
        for (wire, equations) in &by_wire {
            for (i, first) in equations.iter().enumerate() {
                for second in &equations[i + 1..] {
                    let scale = -first[wire] * second[wire].invert().unwrap();
                    candidates.push(plus(first, scale, second));
                }
            }
        }
        for candidate in candidates {
            let left: Vec<Wire> = self.left(&candidate).collect();
            if has_one_solution(&left.iter().map(|wire| candidate[wire]).collect::<Vec<_>>()) {
                self.unique.extend(left);
            }
        }
    }
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

/// What the checker finds for a gadget whose operands are public inputs.
fn find(build: impl FnOnce(&mut System<Fr>)) -> (usize, usize) {
    let mut system = System::<Fr>::default();
    build(&mut system);
    let mut checker = Checker::read(&r1cs(&system, 0));
    checker.run();
    // The inverse of zero is free: it is used in one row, as a factor of what is tested.
    let free = |wire: &Wire| {
        let uses: Vec<&[Form; 3]> =
            checker.rows.iter().filter(|row| row.iter().any(|form| form.contains_key(wire))).collect();
        matches!(uses.as_slice(), [[x, i, z]] if i.len() == 1 && checker.known(x) && checker.known(z))
    };
    let open = (0..checker.wires).filter(|wire| !checker.unique.contains(wire) && !free(wire)).count();
    (checker.wires - system.inputs(), open)
}

fn operand(system: &mut System<Fr>, width: u16) -> Word<Fr> {
    let width = u32::from(width);
    let limbs: Vec<Lc<Fr>> = (0..limb_count(width))
        .map(|i| Lc::variable(system.alloc_input(|| format!("limb {i}"), || Ok(Fr::ZERO)).unwrap(), None))
        .collect();
    Word::from_limbs(width, &limbs).unwrap()
}

#[test]
fn exported_rows_admit_one_value() {
    let mut report = String::new();
    let pairs: &[&[u16]] = &[&[256, 256], &[256, 64], &[128, 128], &[64, 64]];
    let mut shown = 0;
    for &opcode in Opcode::ALL.iter().filter(|opcode| opcode.is_pure()) {
        let shapes: &[&[u16]] = match opcode {
            Opcode::Iconst | Opcode::Zext | Opcode::Trunc | Opcode::Narrow | Opcode::KeccakWords => continue,
            Opcode::Add => &[&[255, 255], &[252, 252]],
            Opcode::Mul => &[&[128, 128], &[192, 64], &[64, 64]],
            Opcode::Select => &[&[1, 256, 256]],
            Opcode::Exp => &[&[256, 2]],
            Opcode::Shl | Opcode::Shr | Opcode::Sar | Opcode::Byte | Opcode::Signextend => &[&[256, 256], &[8, 64]],
            Opcode::Addmod | Opcode::Mulmod => &[&[256, 256, 256], &[64, 64, 64]],
            _ if opcode.info().operands.len() == 1 => &[&[256], &[64]],
            _ => pairs,
        };
        for widths in shapes {
            let types: Vec<Type> = widths.iter().map(|&width| Type::new(width).unwrap()).collect();
            let result = opcode.result_type(&types).unwrap().unwrap();
            let (wires, open) = find(|system| {
                let args: Vec<Word<Fr>> = widths.iter().map(|&width| operand(system, width)).collect();
                lower_pure(system, opcode, Imm::None, &args, result).unwrap();
            });
            let widths: Vec<String> = widths.iter().map(|width| format!("u{width}")).collect();
            let found = if open == 0 { "one value each".to_owned() } else { format!("{open} not shown") };
            let _ = writeln!(report, "{} {}: {wires} wires, {found}", opcode.mnemonic(), widths.join(", "));
            shown += usize::from(open == 0);
        }
    }
    let (wires, open) = find(|system| {
        let state: Vec<Lc<Fr>> = (0..1600).map(|_| operand(system, 1).packed()).collect();
        state.iter().enumerate().for_each(|(i, bit)| enforce_boolean(system, || format!("bit {i}"), bit));
        keccak_f(system, &state).unwrap();
    });
    let found = if open == 0 { "one value each".to_owned() } else { format!("{open} not shown") };
    let _ = writeln!(report, "keccak-f[1600]: {wires} wires, {found}");
    assert!(shown > 40, "{report}");
    insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("circuit_unique", report);
    });
}

/// The checker must be able to fail: rows that admit two values are not called unique.
#[test]
fn a_gadget_with_a_row_missing_is_not_unique() {
    let mut system = System::<Fr>::default();
    let args = [operand(&mut system, 256), operand(&mut system, 256)];
    lower_pure(&mut system, Opcode::Wadd, Imm::None, &args, Type::WORD).unwrap();
    let whole = r1cs(&system, 0);
    let mut checker = Checker::read(&whole);
    checker.run();
    assert_eq!(checker.unique.range(..checker.wires).count(), checker.wires);
    for missing in (0..system.rows()).step_by(5) {
        let mut checker = Checker::read(&whole);
        let removed = checker.rows.remove(missing);
        // What was derived from the row goes with it.
        let [a, ..] = &removed;
        match a.iter().next() {
            Some((wire, _)) if a.len() == 1 => {
                checker.boolean.remove(wire);
            }
            _ => {
                let virtual_wire = checker.equations.iter().position(|equation| {
                    let own: Vec<Wire> = equation.keys().copied().filter(|wire| *wire >= checker.wires).collect();
                    matches!(own.as_slice(), [own] if plus(equation, Fr::ONE, &Form::from([(*own, Fr::ONE)])) == *a)
                });
                checker.equations.remove(virtual_wire.unwrap());
            }
        }
        checker.run();
        assert!(checker.unique.range(..checker.wires).count() < checker.wires, "row {missing}");
    }
}
