//! The state tree: walks natively and in the circuit agree, with each other and with a plain map, over both fields.

mod tree_walks;

use std::collections::BTreeMap;

use ff::{Field, PrimeField};
use tree_walks::{element, random, registers, run, value};
use zvm_backend_circuit::cs::{CheckCs, CountCs, Names};
use zvm_backend_circuit::field::{from_u256, to_u256};
use zvm_backend_circuit::gadgets::{Lc, enforce_equal};
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::state::circuit::{Access, CURSOR, Cursor};
use zvm_backend_circuit::state::order::{Split, field_lt, modulus};
use zvm_backend_circuit::state::poseidon::{Domain, Hasher, WIDE};
use zvm_backend_circuit::state::store::{Memory, Store};
use zvm_backend_circuit::state::tree::{LEVELS, Parts, Tree, TreeError};
use zvm_backend_circuit::state::walk::{Op, walk};
use zvm_ir::Word as U256;

/// The root computed from the leaves alone, as the tree's head says, with no thought for speed.
fn plain_root<F: PrimeField>(tree: &Tree<F, Memory<F>>) -> F {
    let hasher = Hasher::<F>::shared();
    let count = tree.store().count().unwrap();
    let leaves: Vec<F> = (0..count).map(|i| tree.store().leaf(i).unwrap().digest(&hasher)).collect();
    let node = |children: &[F], empty: F| {
        let mut all = [empty; WIDE];
        all[..children.len()].copy_from_slice(children);
        hasher.hash(Domain::Node, &all)
    };
    let full = leaves.len() / WIDE * WIDE;
    let open = node(&leaves[full..], F::ZERO);
    let (mut level, mut empty) = (leaves[..full].to_vec(), F::ZERO);
    for _ in 0..LEVELS {
        level = level.chunks(WIDE).map(|chunk| node(chunk, empty)).collect();
        empty = node(&[], empty);
    }
    Parts { tree: level.first().copied().unwrap_or(empty), open, count }.root(&hasher)
}

/// Walks of random keys over a tree that grows from nothing: each satisfied in the circuit, each equal to a map.
fn walks_agree<F: PrimeField>(rounds: u64) {
    let mut tree = Tree::new(Memory::<F>::default()).unwrap();
    let mut model: BTreeMap<U256, U256> = BTreeMap::new();
    let mut kinds = [0usize; 4];
    for round in 0..rounds {
        let mut touched: BTreeMap<U256, U256> = BTreeMap::new();
        for i in 0..1 + random(round, 0) % 7 {
            let key = to_u256(&element::<F>(random(round, 1 + i) % 60));
            touched.insert(key, value(random(round, 100 + i)));
        }
        let before: Vec<U256> = touched.keys().map(|key| model.get(key).copied().unwrap_or_default()).collect();
        let list: Vec<(F, U256)> = touched.iter().map(|(key, value)| (from_u256(key), *value)).collect();
        let pre = tree.root().unwrap();
        let walk = walk(&mut tree, &list).unwrap();
        assert_eq!(walk.before.root(tree.hasher()), pre);
        assert_eq!(walk.after, tree.parts().unwrap());
        for op in &walk.ops {
            kinds[match op {
                Op::Visit(_) => 0,
                Op::Gap(_) => 1,
                Op::Flush(_) => 2,
                Op::Close => 3,
            }] += 1;
        }
        model.extend(touched.clone());
        for (key, value) in &model {
            assert_eq!(tree.value(&from_u256(key)).unwrap(), *value);
        }
        tree.check().unwrap();
        assert_eq!(tree.root().unwrap(), plain_root(&tree));

        let mut cs = CheckCs::<F>::checking(Names::Kept);
        let seen = run(&mut cs, &walk);
        assert_eq!(cs.verdict(), Ok(()), "round {round}");
        assert_eq!(seen.root, tree.root().unwrap());
        // What the circuit took for the values before.
        let old: Vec<U256> = seen.before.iter().map(|(_, old)| *old).collect();
        assert_eq!(
            seen.before.iter().map(|(key, _)| *key).collect::<Vec<_>>(),
            list.iter().map(|(key, _)| *key).collect::<Vec<_>>()
        );
        assert_eq!(old, before);
    }
    assert!(kinds.iter().all(|&kind| kind > 0), "{kinds:?}");
}

#[test]
fn walks_agree_with_a_map() {
    walks_agree::<Fr>(25);
}

#[test]
fn walks_agree_with_a_map_over_the_other_field() {
    walks_agree::<blstrs::Scalar>(8);
}

/// A walk that only reads, or writes what was there, keeps the root, and keys that stay zero leave no trace.
#[test]
fn a_walk_without_changes_keeps_the_root() {
    let mut tree = Tree::new(Memory::<Fr>::default()).unwrap();
    let mut entries: Vec<(Fr, U256)> = (1..20).map(|i| (element(i), U256::from(i))).collect();
    entries.sort_by_key(|(key, _)| to_u256(key));
    walk(&mut tree, &entries).unwrap();
    let root = tree.root().unwrap();
    let mut all = entries.clone();
    all.extend((20..30).map(|i| (element::<Fr>(i), U256::ZERO)));
    all.sort_by_key(|(key, _)| to_u256(key));
    let read = walk(&mut tree, &all).unwrap();
    assert_eq!(tree.root().unwrap(), root);
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    assert_eq!(run(&mut cs, &read).root, root);
    assert_eq!(cs.verdict(), Ok(()));
    assert!(read.ops.iter().all(|op| !matches!(op, Op::Visit(visit) if visit.writes())));
}

/// A cleared slot keeps its leaf; the canonical tree of the same state has another root.
#[test]
fn one_state_may_have_several_roots_and_one_canonical_tree() {
    let mut tree = Tree::new(Memory::<Fr>::default()).unwrap();
    let mut keys: Vec<Fr> = (1..30).map(element).collect();
    keys.sort_by_key(to_u256);
    for (i, key) in keys.iter().rev().enumerate() {
        walk(&mut tree, &[(*key, U256::from(i + 1))]).unwrap();
    }
    let full: BTreeMap<U256, U256> = keys.iter().map(|key| (to_u256(key), tree.value(key).unwrap())).collect();
    walk(&mut tree, &[(keys[3], U256::ZERO)]).unwrap();
    assert_eq!(tree.value(&keys[3]).unwrap(), U256::ZERO);
    let mut entries = full;
    entries.insert(to_u256(&keys[3]), U256::ZERO);
    let built = Tree::build(Memory::default(), &entries).unwrap();
    built.check().unwrap();
    assert_eq!(built.root().unwrap(), plain_root(&built));
    assert_ne!(built.root().unwrap(), tree.root().unwrap());
    entries.remove(&to_u256(&keys[3]));
    let again = Tree::build(Memory::<Fr>::default(), &entries).unwrap();
    assert_eq!(again.root().unwrap(), built.root().unwrap());
    // In one walk the order is that of the keys: the same tree.
    let list: Vec<(Fr, U256)> = entries.iter().map(|(key, value)| (from_u256(key), *value)).collect();
    let mut walked = Tree::new(Memory::<Fr>::default()).unwrap();
    walk(&mut walked, &list).unwrap();
    assert_eq!(walked.root().unwrap(), built.root().unwrap());
}

#[test]
fn keys_out_of_order_are_refused() {
    let mut tree = Tree::new(Memory::<Fr>::default()).unwrap();
    let one = U256::from(1);
    for keys in [vec![Fr::ZERO], vec![Fr::from(5), Fr::from(5)], vec![Fr::from(6), Fr::from(5)]] {
        let list: Vec<(Fr, U256)> = keys.into_iter().map(|key| (key, one)).collect();
        assert!(matches!(walk(&mut tree, &list), Err(TreeError::Order)));
    }
}

/// Integers around zero, around powers of two and around the modulus: the order in the circuit is that of integers.
fn orders<F: PrimeField>() {
    let last = modulus::<F>() - U256::from(1);
    let half = U256::from(1) << 128;
    let mut integers: Vec<U256> = vec![U256::ZERO, U256::from(1), half - U256::from(1), half, half + U256::from(1)];
    integers.extend([last, last - U256::from(1), last - half, last >> 1, (last >> 1) + U256::from(1)]);
    for a in &integers {
        for b in &integers {
            let mut cs = CheckCs::<F>::checking(Names::Kept);
            let [x, y] = [a, b].map(|integer| {
                let element = Lc::alloc(&mut cs, || "element".into(), Some(from_u256(integer))).unwrap();
                Split::new(&mut cs, &element).unwrap()
            });
            let less = field_lt(&mut cs, &x, &y).unwrap();
            assert_eq!(less.value() == Some(F::ONE), a < b, "{a} {b}");
            assert_eq!(cs.verdict(), Ok(()));
        }
    }
}

#[test]
fn field_elements_are_ordered_as_integers() {
    orders::<Fr>();
    orders::<blstrs::Scalar>();
}

/// The other pair of halves, that of the element plus the modulus, is refused.
#[test]
fn halves_are_canonical() {
    // Small enough that the sum with the modulus has as many bits.
    for small in [0u64, 1, 5] {
        let mut cs = CheckCs::<Fr>::recording();
        let element = Lc::alloc(&mut cs, || "element".into(), Some(Fr::from(small))).unwrap();
        Split::new(&mut cs, &element).unwrap();
        assert_eq!(cs.verdict(), Ok(()));
        let alias = modulus::<Fr>() + U256::from(small);
        let low = alias & ((U256::from(1) << 128) - U256::from(1));
        let names: Vec<String> = (0..cs.aux_count()).map(|aux| cs.aux_name(aux).to_owned()).collect();
        for (aux, name) in names.iter().enumerate() {
            let bit = |name: &str| name.rsplit("bit ").next().and_then(|text| text.parse::<usize>().ok());
            if name == "split/low" {
                cs.assign(aux, from_u256(&low));
            } else if name.starts_with("split/low/bit") {
                cs.assign(aux, Fr::from(u64::from(low.bit(bit(name).unwrap()))));
            } else if name.starts_with("split/high/bit") {
                cs.assign(aux, Fr::from(u64::from(alias.bit(128 + bit(name).unwrap()))));
            }
        }
        // The bits are those of the alias; nothing but the comparison with the modulus is broken.
        let broken: Vec<&str> = (0..cs.rows()).filter(|&row| !cs.row_holds(row)).map(|row| cs.row_name(row)).collect();
        assert!(!broken.is_empty() && broken.iter().all(|name| name.contains("canonical")), "{broken:?}");
    }
}

/// Rows of each operation, with everything that comes from elsewhere in registers.
#[test]
fn rows() {
    fn count<F: PrimeField>(op: impl Fn(&mut CountCs<F>, &mut Cursor<F>, &Lc<F>, &Split<F>, &[Lc<F>; 4])) -> usize {
        let mut cs = CountCs::<F>::default();
        let registers: [Lc<F>; CURSOR] = core::array::from_fn(|i| Lc::alloc(&mut cs, || format!("{i}"), None).unwrap());
        let mut cursor = Cursor::from_elements(registers);
        let active = Lc::alloc(&mut cs, || "active".into(), None).unwrap();
        let key = Lc::alloc(&mut cs, || "key".into(), None).unwrap();
        let key = Split::new(&mut cs, &key).unwrap();
        let values: [Lc<F>; 4] = core::array::from_fn(|i| Lc::alloc(&mut cs, || format!("value {i}"), None).unwrap());
        let before = cs.rows();
        op(&mut cs, &mut cursor, &active, &key, &values);
        cs.rows() - before
    }
    fn table<F: PrimeField>() -> Vec<(&'static str, usize)> {
        let old = |v: &[Lc<F>; 4]| [v[0].clone(), v[1].clone()];
        let new = |v: &[Lc<F>; 4]| [v[2].clone(), v[3].clone()];
        vec![
            ("split of a key", count::<F>(|cs, _, _, key, _| drop(Split::new(cs, &key.element).unwrap()))),
            (
                "field_lt of split keys",
                count::<F>(|cs, _, _, key, _| {
                    let other = Split { element: key.element.clone(), low: key.high.clone(), high: key.low.clone() };
                    drop(field_lt(cs, key, &other).unwrap());
                }),
            ),
            ("enter", count::<F>(|cs, cursor, active, key, _| cursor.enter(cs, active, &key.element, None).unwrap())),
            (
                "visit, to write",
                count::<F>(|cs, cursor, active, key, v| {
                    cursor.visit(cs, active, Access::Write, key, [&old(v), &new(v)], None).unwrap();
                }),
            ),
            (
                "visit, to read",
                count::<F>(|cs, cursor, active, key, v| {
                    cursor.visit(cs, active, Access::Read, key, [&old(v), &old(v)], None).unwrap();
                }),
            ),
            ("gap", count::<F>(|cs, cursor, active, key, v| cursor.gap(cs, active, key, &new(v), None).unwrap())),
            ("flush", count::<F>(|cs, cursor, active, _, _| cursor.flush(cs, active, None).unwrap())),
            ("close", count::<F>(|cs, cursor, active, _, _| cursor.close(cs, active).unwrap())),
            ("leave", count::<F>(|cs, cursor, active, _, _| drop(cursor.leave(cs, active).unwrap()))),
        ]
    }
    let (table, other) = (table::<Fr>(), table::<blstrs::Scalar>());
    let text: String = table
        .iter()
        .zip(&other)
        .map(|((name, rows), (_, other))| format!("{name}: {rows} over BN254, {other} over BLS12-381\n"))
        .collect();
    let rows = |name: &str| table.iter().find(|(n, _)| *n == name).unwrap().1;
    // A touched slot: its key split, and what is done to it. An eighth of a flush for each new leaf.
    let present = rows("split of a key") + rows("visit, to write");
    let inserted = present + rows("split of a key") + rows("gap") + rows("flush").div_ceil(8) + rows("close");
    let absent = rows("visit, to read") + 2 * rows("split of a key") + rows("gap") + rows("close");
    let text = format!(
        "{text}\na slot that has a leaf: {present}\na slot that gets one, alone in its gap: {inserted}\n\
         a further one in the same gap: {}\na slot that stays absent, alone in its gap: {absent}\n",
        rows("split of a key") + rows("gap") + rows("flush").div_ceil(8)
    );
    assert!(present <= 12_000 && inserted <= 12_000 && absent <= 12_000, "{text}");
    insta::with_settings!({snapshot_path => "../../snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("state_tree_rows", text);
    });
}

/// Registers of a cursor survive a step: the walk in steps of one operation, through elements.
#[test]
fn a_walk_goes_on_from_its_registers() {
    let mut tree = Tree::new(Memory::<Fr>::default()).unwrap();
    let mut list: Vec<(Fr, U256)> = (1..12).map(|i| (element(i), U256::from(i))).collect();
    list.sort_by_key(|(key, _)| to_u256(key));
    let walk = walk(&mut tree, &list).unwrap();
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    let root = registers(&mut cs, &walk);
    enforce_equal(&mut cs, || "root".into(), &root, &Lc::constant(tree.root().unwrap()));
    assert_eq!(cs.verdict(), Ok(()));
}
