//! Divisions that hold modulo the field and modulo a power of two, but not over the integers.
//!
//! A prover chooses a quotient so large that `q · n + r` exceeds the dividend by a multiple of everything the equations see, and
//! computes every other hint from it as an honest prover would. Only the rows that bound `q · n` can tell.

use std::collections::BTreeMap;

use bellpepper_core::ConstraintSystem;
use ff::Field;
use zvm_backend_circuit::cs::{CheckCs, System};
use zvm_backend_circuit::field::{from_u256, to_u256};
use zvm_backend_circuit::gadgets::{Lc, Word, lower_pure, native_limbs};
use zvm_ir::{Imm, Opcode, Type, Word as U256, eval};

use super::Fr;

type U1024 = ruint::Uint<1024, 16>;

fn modulus() -> U1024 {
    U1024::from(to_u256(&-Fr::ONE)) + U1024::from(1)
}

fn operand<CS: ConstraintSystem<Fr>>(cs: &mut CS, index: usize, bits: bool, value: U256) -> Word<Fr> {
    let mut cs = cs.namespace(|| format!("operand {index}"));
    if bits {
        return Word::alloc_checked(&mut cs, 256, Some(value)).unwrap();
    }
    let limbs: Vec<Lc<Fr>> = native_limbs::<Fr>(256, &value)
        .into_iter()
        .enumerate()
        .map(|(i, limb)| Lc::alloc(&mut cs, || format!("limb {i}"), Some(limb)).unwrap())
        .collect();
    Word::from_limbs(256, &limbs).unwrap()
}

fn build<CS: ConstraintSystem<Fr>>(cs: &mut CS, opcode: Opcode, operands: &[(U256, bool)]) {
    let args: Vec<Word<Fr>> =
        operands.iter().enumerate().map(|(i, &(value, bits))| operand(cs, i, bits, value)).collect();
    lower_pure(cs, opcode, Imm::None, &args, Type::WORD).unwrap();
}

/// A witness that can be rewritten.
struct Forger {
    system: System<Fr>,
    row_names: Vec<String>,
    wires: BTreeMap<String, usize>,
    values: Vec<Fr>,
}

impl Forger {
    fn new(opcode: Opcode, operands: &[(U256, bool)]) -> Self {
        let mut system = System::default();
        build(&mut system, opcode, operands);
        let mut cs = CheckCs::<Fr>::recording();
        build(&mut cs, opcode, operands);
        cs.verdict().unwrap();
        let wires = (0..cs.aux_count()).map(|aux| (cs.aux_name(aux).to_owned(), aux + 1)).collect();
        let values = [Fr::ONE].iter().chain(cs.aux()).copied().collect();
        let row_names = (0..cs.rows()).map(|row| cs.row_name(row).to_owned()).collect();
        Self { system, row_names, wires, values }
    }

    fn set(&mut self, name: &str, value: U256) {
        let wire = *self.wires.get(name).unwrap_or_else(|| panic!("{name} is no variable"));
        self.values[wire] = from_u256(&value);
    }

    fn terms(&self, row: usize, side: usize) -> Vec<(usize, Fr)> {
        let mut terms = Vec::new();
        self.system.for_each_term(row, side, |wire, coefficient| terms.push((wire, coefficient)));
        terms
    }

    fn side(&self, row: usize, side: usize) -> Fr {
        self.terms(row, side).into_iter().map(|(wire, coefficient)| self.values[wire] * coefficient).sum()
    }

    /// Computes products, zero tests and decompositions again, in the order of the rows.
    fn complete(&mut self) {
        for row in 0..self.row_names.len() {
            let name = self.row_names[row].clone();
            let product = self.terms(row, 2);
            if let Some(prefix) = name.strip_suffix("bit 0") {
                let bits: Vec<(usize, usize)> = (1..256)
                    .map_while(|i| self.wires.get(&format!("{prefix}bit {i}")).map(|&wire| (i, wire)))
                    .collect();
                bits.iter().for_each(|(_, wire)| self.values[*wire] = Fr::ZERO);
                let value = to_u256(&self.side(row, 0));
                bits.iter().for_each(|(i, wire)| self.values[*wire] = Fr::from(u64::from(value.bit(*i))));
            } else if name.ends_with("/inverse") {
                let x = self.side(row, 0);
                let zero = if x == Fr::ZERO { Fr::ONE } else { Fr::ZERO };
                let inverse = self.terms(row, 1)[0].0;
                self.values[inverse] = Option::<Fr>::from(x.invert()).unwrap_or(Fr::ZERO);
                let flag = product.iter().find(|(wire, _)| *wire != 0).unwrap().0;
                self.values[flag] = zero;
            } else if let [(wire, coefficient)] = product[..]
                && coefficient == Fr::ONE
                && wire != 0
                && self.row_names[row] != "mulmod/high below"
                && !self.terms(row, 0).iter().chain(&self.terms(row, 1)).any(|(other, _)| *other == wire)
            {
                self.values[wire] = self.side(row, 0) * self.side(row, 1);
            }
        }
    }

    fn broken(&self) -> Vec<&str> {
        let holds = |row: usize| self.side(row, 0) * self.side(row, 1) == self.side(row, 2);
        (0..self.row_names.len()).filter(|&row| !holds(row)).map(|row| self.row_names[row].as_str()).collect()
    }
}

fn part(value: U1024, index: usize) -> U256 {
    (value >> (128 * index)).wrapping_to::<U256>() & (U256::MAX >> 128)
}

/// The dividend for which `q · n = dividend + modulus · 2^columns`, and that `q`: the remainder is claimed to be zero.
fn wrapped(n: U256, columns: usize, multiple: u64) -> (U256, U1024) {
    let excess = (modulus() * U1024::from(multiple)) << columns;
    let n = U1024::from(n);
    let quotient = excess.div_ceil(n);
    ((quotient * n - excess).to::<U256>(), quotient)
}

fn divisors() -> [U256; 3] {
    let one = U256::from(1);
    [(one << 255) | (one << 254), U256::MAX - U256::from(188), (one << 255) + U256::from(95)]
}

fn forge_remainder(forger: &mut Forger, gadget: &str) {
    (0..2).for_each(|i| forger.set(&format!("{gadget}/remainder/limb {i}/value"), U256::ZERO));
}

/// `d = n − 1 − r` for `r = 0`, as the cold gadgets decompose it.
fn forge_above(forger: &mut Forger, gadget: &str, n: U256) {
    let low = part(U1024::from(n - U256::from(1)), 0);
    forger.set(&format!("{gadget}/below/low/low part"), low);
}

#[test]
fn a_quotient_past_the_field_is_refused() {
    for n in divisors() {
        for bits in [false, true] {
            // a · 1 mod n, and a / n.
            let (dividend, quotient) = wrapped(n, 384, 1);
            let truth = eval(Opcode::Mulmod, Imm::None, &[dividend, U256::from(1), n], Some(Type::WORD)).unwrap();
            assert!(!truth.is_zero());
            let mut forger = Forger::new(Opcode::Mulmod, &[(dividend, true), (U256::from(1), true), (n, bits)]);
            assert_eq!(forger.broken(), Vec::<&str>::new());
            forger.complete();
            assert_eq!(forger.broken(), Vec::<&str>::new(), "an honest witness stays one");
            let parts = if bits { 4 } else { 3 };
            (0..parts).for_each(|i| forger.set(&format!("mulmod/quotient/part {i}/value"), part(quotient, i)));
            forge_remainder(&mut forger, "mulmod");
            if !bits {
                assert!(quotient.bit_len() <= 384);
                forge_above(&mut forger, "mulmod", n);
                forger.set("mulmod/shared/value", (n - U256::from(1)) >> 128);
            }
            forger.complete();
            let broken = forger.broken();
            assert!(!broken.is_empty() && broken.iter().all(|row| row.starts_with("mulmod/top")), "{n:x}: {broken:?}");

            let (dividend, quotient) = wrapped(n, 256, 1);
            let mut forger = Forger::new(Opcode::Udiv, &[(dividend, bits), (n, bits)]);
            forger.complete();
            assert_eq!(forger.broken(), Vec::<&str>::new(), "an honest witness stays one");
            (0..2).for_each(|i| forger.set(&format!("udiv/quotient/part {i}/value"), part(quotient, i)));
            forge_remainder(&mut forger, "udiv");
            if !bits {
                forge_above(&mut forger, "udiv", n);
            }
            forger.complete();
            let broken = forger.broken();
            assert!(!broken.is_empty() && broken.iter().all(|row| row.starts_with("udiv/top")), "{n:x}: {broken:?}");
        }
    }
}
