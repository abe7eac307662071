//! Walks in the circuit for the tests of the state tree, and keys and values for them.

#![allow(dead_code, reason = "each test program uses a part")]

use bellpepper_core::ConstraintSystem;
use ff::PrimeField;
use zvm_backend_circuit::cs::CheckCs;
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::gadgets::{Lc, native_limbs};
use zvm_backend_circuit::state::circuit::{Access, CURSOR, Cursor};
use zvm_backend_circuit::state::order::Split;
use zvm_backend_circuit::state::place::Place;
use zvm_backend_circuit::state::walk::{Op, Walk};
use zvm_ir::Word as U256;

/// A pseudo-random number, the same in each run.
pub(crate) fn random(a: u64, b: u64) -> u64 {
    let mut x = a.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ b.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 29)
}

/// The key of entry `i` of a mapping.
pub(crate) fn element<F: PrimeField>(i: u64) -> F {
    Place::Plain(U256::ZERO).entry(U256::from(i)).unwrap().key(&[7; 20])
}

/// A value: zero, small, or of all 256 bits.
pub(crate) fn value(seed: u64) -> U256 {
    match seed % 3 {
        0 => U256::ZERO,
        1 => U256::from(seed >> 8),
        _ => U256::MAX / U256::from(seed | 1),
    }
}

/// What a walk in the circuit saw.
pub(crate) struct Seen<F> {
    /// The root afterwards.
    pub(crate) root: F,
    /// The keys touched, with their values before.
    pub(crate) before: Vec<(F, U256)>,
}

pub(crate) fn alloc<F: PrimeField>(cs: &mut CheckCs<F>, name: &str, value: F) -> Lc<F> {
    Lc::alloc(cs, || name.into(), Some(value)).unwrap()
}

pub(crate) fn limbs<F: PrimeField>(cs: &mut CheckCs<F>, name: &str, value: &U256) -> [Lc<F>; 2] {
    let limbs = native_limbs::<F>(256, value);
    [alloc(cs, &format!("{name} low"), limbs[0]), alloc(cs, &format!("{name} high"), limbs[1])]
}

/// One operation, active; the key and value before of the slot that it touches.
pub(crate) fn step<F: PrimeField>(
    cs: &mut CheckCs<F>,
    cursor: &mut Cursor<F>,
    active: &Lc<F>,
    op: &Op<F>,
) -> Option<(F, U256)> {
    match op {
        Op::Visit(visit) => {
            let key = alloc(cs, "key", visit.before.key);
            let key = Split::new(cs, &key).unwrap();
            let old = limbs(cs, "old", &visit.before.value);
            if visit.writes() {
                let new = limbs(cs, "new", &visit.value);
                cursor.visit(cs, active, Access::Write, &key, [&old, &new], Some(visit)).unwrap();
            } else {
                cursor.visit(cs, active, Access::Read, &key, [&old, &old], Some(visit)).unwrap();
            }
            visit.touched.then_some((visit.before.key, visit.before.value))
        }
        Op::Gap(gap) => {
            let key = alloc(cs, "key", gap.key);
            let key = Split::new(cs, &key).unwrap();
            let new = limbs(cs, "new", &gap.value);
            cursor.gap(cs, active, &key, &new, Some(gap)).unwrap();
            Some((gap.key, U256::ZERO))
        }
        Op::Flush(flush) => {
            cursor.flush(cs, active, Some(flush)).unwrap();
            None
        }
        Op::Close => {
            cursor.close(cs, active).unwrap();
            None
        }
    }
}

/// A whole walk.
pub(crate) fn run<F: PrimeField>(cs: &mut CheckCs<F>, walk: &Walk<F>) -> Seen<F> {
    let hasher = zvm_backend_circuit::state::poseidon::Hasher::<F>::shared();
    let mut cursor = Cursor::idle();
    let root = alloc(cs, "root", walk.before.root(&hasher));
    cursor.enter(cs, &Lc::one(), &root, Some(&walk.before)).unwrap();
    let mut before = Vec::new();
    for (index, op) in walk.ops.iter().enumerate() {
        let active = Lc::one();
        cs.push_namespace(|| format!("op {index}"));
        before.extend(step(cs, &mut cursor, &active, op));
        cs.pop_namespace();
    }
    let root = cursor.leave(cs, &Lc::one()).unwrap().value().unwrap();
    Seen { root, before }
}

/// A whole walk whose cursor is in fresh variables before each operation, as between steps.
pub(crate) fn registers<F: PrimeField>(cs: &mut CheckCs<F>, walk: &Walk<F>) -> Lc<F> {
    let hasher = zvm_backend_circuit::state::poseidon::Hasher::<F>::shared();
    let mut cursor = Cursor::idle();
    cursor.enter(cs, &Lc::one(), &Lc::constant(walk.before.root(&hasher)), Some(&walk.before)).unwrap();
    for op in &walk.ops {
        let values: [F; CURSOR] = cursor.into_elements().map(|element| element.value().unwrap());
        cursor = Cursor::from_elements(values.map(|value| alloc(cs, "register", value)));
        let active = alloc(cs, "active", F::ONE);
        step(cs, &mut cursor, &active, op);
    }
    cursor.leave(cs, &Lc::one()).unwrap()
}

/// The integer of a field element, for messages.
pub(crate) fn integer<F: PrimeField>(element: &F) -> U256 {
    to_u256(element)
}
