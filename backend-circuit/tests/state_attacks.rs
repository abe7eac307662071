//! The state tree in the circuit against provers who lie: each private value perturbed, and each lie told consistently.

mod tree_walks;

use std::collections::BTreeSet;

use ff::Field;
use tree_walks::{alloc, element, limbs, run, step};
use zvm_backend_circuit::cs::{CheckCs, Names};
use zvm_backend_circuit::field::to_u256;
use zvm_backend_circuit::gadgets::{Lc, enforce_equal};
use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::state::circuit::{CURSOR, Cursor};
use zvm_backend_circuit::state::store::Memory;
use zvm_backend_circuit::state::tree::Tree;
use zvm_backend_circuit::state::walk::{Flush, Gap, Op, Visit, Walk, walk};
use zvm_ir::Word as U256;

fn sorted(range: core::ops::Range<u64>) -> Vec<Fr> {
    let mut keys: Vec<Fr> = range.map(element).collect();
    keys.sort_by_key(to_u256);
    keys
}

/// A tree with twelve entries, of which a part is in the open node, and its keys.
fn tree() -> (Tree<Fr, Memory<Fr>>, Vec<Fr>) {
    let keys = sorted(1..13);
    let mut tree = Tree::new(Memory::default()).unwrap();
    let entries: Vec<(Fr, U256)> = keys.iter().enumerate().map(|(i, key)| (*key, U256::from(i + 100))).collect();
    walk(&mut tree, &entries).unwrap();
    (tree, keys)
}

/// The name of the first row that does not hold.
fn broken(walk: &Walk<Fr>) -> String {
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    run(&mut cs, walk);
    cs.verdict().expect_err("a lie is accepted").name
}

fn visit(op: &mut Op<Fr>) -> &mut Visit<Fr> {
    match op {
        Op::Visit(visit) => visit,
        other => panic!("{other:?}"),
    }
}

fn gap(op: &mut Op<Fr>) -> &mut Gap<Fr> {
    match op {
        Op::Gap(gap) => gap,
        other => panic!("{other:?}"),
    }
}

/// A key that is absent, with a key of the tree before, which is not the first one, and one behind it.
fn absent(keys: &[Fr]) -> (Fr, Fr, Fr) {
    let mut others = sorted(100..200);
    others.retain(|key| !keys.contains(key));
    for key in others {
        let at = keys.partition_point(|other| to_u256(other) < to_u256(&key));
        if at > 1 && at < keys.len() {
            return (keys[at - 1], key, keys[at]);
        }
    }
    panic!("none of a hundred keys lies between twelve")
}

// Each private value, one at a time.

/// Records one operation on a cursor in registers, with the cursor afterwards tied to its honest values. Gives how many variables are not
/// the operation's.
fn record(cursor: &[Fr; CURSOR], active: bool, op: &Op<Fr>) -> (CheckCs<Fr>, usize) {
    let mut cs = CheckCs::<Fr>::recording();
    let mut after = Cursor::from_elements(cursor.map(|value| alloc(&mut cs, "register", value)));
    let active = alloc(&mut cs, "active", if active { Fr::ONE } else { Fr::ZERO });
    let given = cs.aux_count();
    step(&mut cs, &mut after, &active, op);
    for (index, element) in after.into_elements().into_iter().enumerate() {
        let honest = Lc::constant(element.value().unwrap());
        enforce_equal(&mut cs, || format!("after {index}"), &element, &honest);
    }
    assert_eq!(cs.verdict(), Ok(()));
    (cs, given)
}

/// What is given to an operation from outside: a caller constrains it.
fn is_given(name: &str) -> bool {
    ["key", "old low", "old high", "new low", "new high"].contains(&name)
}

/// The inverse of zero is any field element.
fn is_free_by_design(name: &str) -> bool {
    name.ends_with("/inverse")
}

fn all_forced(mut cs: CheckCs<Fr>, given: usize, what: &str) -> usize {
    let rows = cs.rows_by_aux();
    for (aux, touched) in rows.iter().enumerate().skip(given) {
        for delta in [Fr::ONE, -Fr::from(0x1234_5678)] {
            let broken = cs.broken_by(aux, delta, touched).is_some();
            let name = cs.aux_name(aux);
            assert!(broken || is_given(name) || is_free_by_design(name), "{what}: nothing forces {name}");
        }
    }
    rows.len() - given
}

/// The operations of a walk that has all kinds, each with the cursor before it.
fn operations() -> Vec<([Fr; CURSOR], Op<Fr>)> {
    // Which kinds there are depends on where the new keys lie among the others.
    let all = (50..90).step_by(4).map(operations_with);
    let kinds = |list: &[([Fr; CURSOR], Op<Fr>)]| list.iter().map(|(_, op)| kind(op)).collect::<BTreeSet<_>>().len();
    all.max_by_key(|list| kinds(list)).expect("ten walks")
}

/// The operations of a walk with four new keys from this one on.
fn operations_with(new: u64) -> Vec<([Fr; CURSOR], Op<Fr>)> {
    let (mut tree, keys) = tree();
    // Present keys of both kinds of node, absent ones that stay so, new ones that fill the open node.
    let mut touched: Vec<(Fr, U256)> = sorted(new..new + 4).into_iter().map(|key| (key, U256::MAX)).collect();
    touched.extend(sorted(160..162).into_iter().map(|key| (key, U256::ZERO)));
    touched.extend(keys.iter().enumerate().map(|(i, key)| (*key, U256::from(100 + i / 2 * 2))));
    touched.sort_by_key(|(key, _)| to_u256(key));
    let walk = walk(&mut tree, &touched).unwrap();
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    let mut cursor = Cursor::idle();
    let root = Lc::constant(walk.before.root(tree.hasher()));
    cursor.enter(&mut cs, &Lc::one(), &root, Some(&walk.before)).unwrap();
    let mut operations = Vec::new();
    for op in walk.ops {
        let before = cursor.clone().into_elements().map(|element| element.value().unwrap());
        operations.push((before, op.clone()));
        step(&mut cs, &mut cursor, &Lc::one(), &op);
    }
    assert_eq!(cs.verdict(), Ok(()));
    operations
}

/// The kind of an operation, so that one of each is perturbed.
fn kind(op: &Op<Fr>) -> (usize, bool, bool, bool) {
    match op {
        Op::Visit(visit) => (0, visit.writes(), visit.open, visit.gap),
        Op::Gap(gap) => (1, gap.value.is_zero(), false, false),
        Op::Flush(_) => (2, false, false, false),
        Op::Close => (3, false, false, false),
    }
}

#[test]
fn every_value_of_an_operation_is_forced() {
    let mut seen = Vec::new();
    let mut perturbed = 0;
    for (cursor, op) in operations() {
        let kind = kind(&op);
        if seen.contains(&kind) {
            continue;
        }
        seen.push(kind);
        let (cs, given) = record(&cursor, true, &op);
        perturbed += all_forced(cs, given, &format!("{kind:?}"));
    }
    // A write in and outside the open node, with and without a gap; a read; keys with and without a leaf; the rest.
    assert!(seen.len() >= 8 && perturbed > 30_000, "{seen:?} {perturbed}");
}

#[test]
fn an_idle_operation_changes_nothing_and_is_zero() {
    // Registers full of junk that no walk leaves.
    let junk: [Fr; CURSOR] = core::array::from_fn(|i| -Fr::from(i as u64 + 2));
    let mut seen = Vec::new();
    for (_, op) in operations() {
        if seen.contains(&kind(&op)) {
            continue;
        }
        seen.push(kind(&op));
        // An idle slot's key and values are zero, which is its caller's part.
        let zero = match &op {
            Op::Visit(visit) => {
                let mut visit = visit.clone();
                visit.value = if visit.writes() { U256::from(1) } else { U256::ZERO };
                visit.before.value = U256::ZERO;
                visit.before.key = Fr::ZERO;
                let writes = visit.writes();
                let op = Op::Visit(visit);
                assert_eq!(writes, matches!(&op, Op::Visit(visit) if visit.writes()));
                op
            }
            Op::Gap(gap) => Op::Gap(Gap { key: Fr::ZERO, value: U256::ZERO, ..gap.clone() }),
            other => other.clone(),
        };
        let mut cs = CheckCs::<Fr>::recording();
        let mut after = Cursor::from_elements(junk.map(|value| alloc(&mut cs, "register", value)));
        let active = alloc(&mut cs, "active", Fr::ZERO);
        let given = cs.aux_count();
        idle(&mut cs, &mut after, &active, &zero);
        assert_eq!(cs.verdict(), Ok(()), "{:?}", kind(&op));
        for (aux, value) in cs.aux().iter().enumerate().skip(given) {
            let name = cs.aux_name(aux);
            let constant = name.ends_with("/zero") || name.contains("/canonical/");
            assert!(*value == Fr::ZERO || constant, "{name} is {value:?} in an idle slot");
        }
        for (index, element) in after.into_elements().into_iter().enumerate() {
            assert_eq!(element.value(), Some(junk[index]));
            enforce_equal(&mut cs, || format!("after {index}"), &element, &Lc::constant(junk[index]));
        }
        unchanged(cs, given);
    }
}

/// Whatever an idle slot's value is changed to, a row breaks or the cursor, which rows tie to its values before, stays. The values that
/// no row notices are places among children that are all zero.
fn unchanged(mut cs: CheckCs<Fr>, given: usize) {
    let rows = cs.rows_by_aux();
    for (aux, touched) in rows.iter().enumerate().skip(given) {
        let broken = cs.broken_by(aux, Fr::ONE, touched).is_some();
        let name = cs.aux_name(aux);
        let place = name.starts_with("visit/level") && name.contains("/bit ");
        assert!(broken || place || is_given(name) || is_free_by_design(name), "nothing forces {name} of an idle slot");
    }
}

/// An operation on zeros.
fn idle(cs: &mut CheckCs<Fr>, cursor: &mut Cursor<Fr>, active: &Lc<Fr>, op: &Op<Fr>) {
    use zvm_backend_circuit::state::circuit::Access;
    use zvm_backend_circuit::state::order::Split;
    let key = alloc(cs, "key", Fr::ZERO);
    let old = limbs(cs, "old", &U256::ZERO);
    let new = limbs(cs, "new", &U256::ZERO);
    match op {
        Op::Visit(visit) => {
            let key = Split::new(cs, &key).unwrap();
            let (access, new) = if visit.writes() { (Access::Write, new) } else { (Access::Read, old.clone()) };
            cursor.visit(cs, active, access, &key, [&old, &new], Some(visit)).unwrap();
        }
        Op::Gap(gap) => {
            let key = Split::new(cs, &key).unwrap();
            cursor.gap(cs, active, &key, &new, Some(gap)).unwrap();
        }
        Op::Flush(flush) => cursor.flush(cs, active, Some(flush)).unwrap(),
        Op::Close => cursor.close(cs, active).unwrap(),
    }
}

// Lies that are told consistently.

#[test]
fn a_foreign_root_is_refused() {
    let (mut tree, keys) = tree();
    let mut walk = walk(&mut tree, &[(keys[2], U256::from(5))]).unwrap();
    let hasher = zvm_backend_circuit::state::poseidon::Hasher::<Fr>::shared();
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    let root = alloc(&mut cs, "root", walk.after.root(&hasher));
    let mut cursor = Cursor::idle();
    cursor.enter(&mut cs, &Lc::one(), &root, Some(&walk.before)).unwrap();
    assert_eq!(cs.verdict().unwrap_err().name, "enter/root");
    // Parts that are not the tree's: their root is another.
    walk.before.count += 8;
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    let root = Lc::constant(walk.after.root(&hasher));
    Cursor::idle().enter(&mut cs, &Lc::one(), &root, Some(&walk.before)).unwrap();
    assert_eq!(cs.verdict().unwrap_err().name, "enter/root");
}

#[test]
fn a_stale_witness_is_refused() {
    let (mut first, keys) = tree();
    let (mut second, _) = tree();
    let stale = walk(&mut first, &[(keys[2], U256::from(5))]).unwrap();
    // Another key of the same node changes; the witness is from before.
    walk(&mut second, &[(keys[3], U256::from(5))]).unwrap();
    let mut later = walk(&mut second, &[(keys[2], U256::from(5))]).unwrap();
    later.ops = stale.ops;
    assert_eq!(broken(&later), "op 0/visit/root");
}

#[test]
fn an_absent_leaf_is_not_present() {
    let (mut tree, keys) = tree();
    let (before, key, _) = absent(&keys);
    let mut walk = walk(&mut tree, &[(before, U256::from(1))]).unwrap();
    visit(&mut walk.ops[0]).before.key = key;
    assert_eq!(broken(&walk), "op 0/visit/level 0/child");
}

#[test]
fn a_value_that_the_leaf_does_not_hold_is_refused() {
    let (mut tree, keys) = tree();
    let mut walk = walk(&mut tree, &[(keys[1], U256::from(1))]).unwrap();
    visit(&mut walk.ops[0]).before.value = U256::from(7);
    assert_eq!(broken(&walk), "op 0/visit/level 0/child");
}

/// The key of a leaf is passed as a key of the gap before it.
#[test]
fn a_present_leaf_is_not_absent() {
    let (mut tree, keys) = tree();
    let (_, key, behind) = absent(&keys);
    let mut walk = walk(&mut tree, &[(key, U256::ZERO)]).unwrap();
    gap(&mut walk.ops[1]).key = behind;
    assert_eq!(broken(&walk), "op 2/close/less/difference/bit 0");
}

/// A new leaf for a key that has one: the promise is that key, but the walk cannot leave the gap.
#[test]
fn a_key_does_not_get_two_leaves() {
    let (mut tree, keys) = tree();
    let (_, key, behind) = absent(&keys);
    let mut walk = walk(&mut tree, &[(key, U256::from(1))]).unwrap();
    let mut twice = walk.clone();
    visit(&mut twice.ops[0]).next = behind;
    gap(&mut twice.ops[1]).key = behind;
    assert_eq!(broken(&twice), "op 2/close/less/difference/bit 0");
    // Or with the leaf's own next key as the next.
    gap(&mut twice.ops[1]).next = tree.find(&behind).unwrap().1.next;
    assert_eq!(broken(&twice), "op 2/close/linked");
    // Or twice in the same gap.
    let again = walk.ops[1].clone();
    gap(&mut walk.ops[1]).next = key;
    walk.ops.insert(2, again);
    assert!(broken(&walk).starts_with("op 2/gap/less/difference"));
}

#[test]
fn a_leaf_is_visited_once_and_in_order() {
    let (mut tree, keys) = tree();
    let mut again = walk(&mut tree, &[(keys[1], U256::from(101))]).unwrap();
    again.ops.push(again.ops[0].clone());
    assert!(broken(&again).starts_with("op 1/visit/less/difference"));
    let mut swapped = walk(&mut tree, &[(keys[1], U256::from(101)), (keys[4], U256::from(104))]).unwrap();
    swapped.ops.swap(0, 1);
    assert!(broken(&swapped).starts_with("op 1/visit/less/difference"));
}

/// A leaf further down is visited instead of the predecessor.
#[test]
fn the_predecessor_is_the_predecessor() {
    let (mut tree, keys) = tree();
    let (before, key, _) = absent(&keys);
    let other = keys[keys.iter().position(|k| *k == before).unwrap() - 1];
    for value in [0u64, 1] {
        let mut honest = walk(&mut tree, &[(key, U256::ZERO)]).unwrap();
        let (index, leaf) = tree.find(&other).unwrap();
        let lie = visit(&mut honest.ops[0]);
        (lie.before, lie.value, lie.index) = (leaf, leaf.value, index);
        lie.path = tree.path(index).unwrap();
        lie.open = tree.in_open(index).unwrap();
        lie.next = if value == 0 { leaf.next } else { key };
        let lie = gap(&mut honest.ops[1]);
        (lie.value, lie.next) = (U256::from(value), if value == 0 { Fr::ZERO } else { leaf.next });
        assert_eq!(broken(&honest), "op 2/close/less/difference/bit 0");
    }
}

#[test]
fn next_keys_are_linked() {
    let (mut tree, keys) = tree();
    let (before, key, _) = absent(&keys);
    let mut silent = walk(&mut tree, &[(before, U256::from(1))]).unwrap();
    // Without a gap the next key stays.
    visit(&mut silent.ops[0]).next = key;
    assert_eq!(broken(&silent), "op 0/visit/next");
    let honest = walk(&mut tree, &[(key, U256::from(1))]).unwrap();
    // The promise is another key.
    let mut walk = honest.clone();
    visit(&mut walk.ops[0]).next = key + Fr::ONE;
    assert_eq!(broken(&walk), "op 1/gap/promise");
    // The promise is not kept.
    let mut walk = honest.clone();
    walk.ops.remove(1);
    assert_eq!(broken(&walk), "op 1/close/linked");
    // The new leaf leads elsewhere.
    let mut walk = honest.clone();
    gap(&mut walk.ops[1]).next = keys[0];
    assert_eq!(broken(&walk), "op 2/close/linked");
    // The gap stays open.
    let mut walk = honest.clone();
    walk.ops.remove(2);
    assert_eq!(broken(&walk), "leave/gap closed");
    // No gap was opened.
    let mut walk = honest.clone();
    visit(&mut walk.ops[0]).gap = false;
    assert_eq!(broken(&walk), "op 0/visit/next");
    // A leaf is visited while the gap is open.
    let mut walk = honest.clone();
    walk.ops[2] = Op::Visit(Box::new(Visit { touched: false, ..visit(&mut honest.ops[0].clone()).clone() }));
    assert_eq!(broken(&walk), "op 2/visit/closed");
    // A leaf that is only read cannot make a promise.
    let mut walk = honest.clone();
    let lie = visit(&mut walk.ops[0]);
    lie.next = lie.before.next;
    assert_eq!(broken(&walk), "op 1/gap/promise");
}

/// A full node is put in its place before anything else is appended, and once.
#[test]
fn no_leaf_is_overwritten() {
    // Thirteen and six leaves fill a node; the leaf after that follows at once, without a visit to a node between.
    let walked = (50..110).step_by(6).find_map(|new| {
        let (mut tree, _) = tree();
        let touched: Vec<(Fr, U256)> = sorted(new..new + 6).into_iter().map(|key| (key, U256::from(9))).collect();
        let honest = walk(&mut tree, &touched).unwrap();
        let flush = honest.ops.windows(2).position(|pair| matches!(pair, [Op::Flush(_), Op::Gap(_)]))?;
        Some((honest, flush))
    });
    let (honest, flush) = walked.expect("one of ten walks");
    let mut skipped = honest.clone();
    skipped.ops.remove(flush);
    let name = broken(&skipped);
    assert!(name.ends_with("gap/flushed") || name == "leave/flushed", "{name}");
    let mut twice = honest.clone();
    twice.ops.insert(flush, honest.ops[flush].clone());
    assert!(broken(&twice).contains("flush/level 1/child") || broken(&twice).contains("flush/root"));
    // A node with room is not put anywhere.
    let mut early = honest.clone();
    let Op::Flush(Flush { path }) = honest.ops[flush].clone() else { panic!("no flush") };
    early.ops.insert(0, Op::Flush(Flush { path }));
    assert!(broken(&early).starts_with("op 0/flush/place/bit"));
    // The eighth leaf is the last: the node must be in its place when the walk ends.
    let mut last = honest;
    last.ops.truncate(flush);
    let name = broken(&last);
    assert!(name.starts_with("leave/"), "{name}");
}

/// A new leaf goes where the number of leaves says, nowhere else: the bits of the number are forced, and so is the place.
#[test]
fn a_leaf_is_not_appended_at_a_used_place() {
    let (mut tree, keys) = tree();
    let (_, key, _) = absent(&keys);
    let honest = walk(&mut tree, &[(key, U256::from(1))]).unwrap();
    let mut cs = CheckCs::<Fr>::recording();
    run(&mut cs, &honest);
    assert_eq!(cs.verdict(), Ok(()));
    for bit in 1..30 {
        let name = format!("op 1/gap/count/bit {bit}");
        let aux = (0..cs.aux_count()).find(|&aux| cs.aux_name(aux) == name).unwrap();
        let held = cs.aux()[aux];
        cs.assign(aux, Fr::ONE - held);
        assert_eq!(cs.first_broken(), Some("op 1/gap/count/bit 0"), "{bit}");
        cs.assign(aux, held);
    }
    // The number of leaves itself is that of the root.
    let mut fewer = honest;
    fewer.before.count -= 1;
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    let mut cursor = Cursor::idle();
    let root = Lc::constant(tree.root().unwrap());
    cursor.enter(&mut cs, &Lc::one(), &root, Some(&fewer.before)).unwrap();
    assert_eq!(cs.verdict().unwrap_err().name, "enter/root");
}

/// The key behind the last leaf: there is no end, and a claimed one is refused.
#[test]
fn the_last_gap_has_no_end() {
    let (mut tree, keys) = tree();
    let behind = (200..20_000).map(element::<Fr>).find(|key| to_u256(key) > to_u256(&keys[11])).unwrap();
    let mut honest = walk(&mut tree, &[(behind, U256::from(3))]).unwrap();
    let mut cs = CheckCs::<Fr>::checking(Names::Kept);
    assert_eq!(run(&mut cs, &honest).root, tree.root().unwrap());
    assert_eq!(cs.verdict(), Ok(()));
    visit(&mut honest.ops[0]).before.next = -Fr::ONE;
    assert_eq!(broken(&honest), "op 0/visit/level 0/child");
}
