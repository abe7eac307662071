//! State files: they give back what was committed, whole or not at all, and refuse what is no state.

use std::fs;
use std::path::{Path, PathBuf};

use zvm_backend_circuit::nova::Fr;
use zvm_backend_circuit::state::file::File;
use zvm_backend_circuit::state::place::Place;
use zvm_backend_circuit::state::storage::{self, PlainProofError, Slot, Storage, StorageError, Write};
use zvm_backend_circuit::state::store::{Memory, StoreError};
use zvm_backend_circuit::state::tree::Tree;
use zvm_backend_circuit::state::walk::walk;
use zvm_ir::Word as U256;

const ACCOUNT: [u8; 20] = [0x11; 20];

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.zvms");
    (folder, path)
}

fn writes(range: core::ops::Range<u64>) -> Vec<Write> {
    let place = |i: u64| Place::Plain(U256::from(3)).entry(U256::from(i) << 77).unwrap();
    range.map(|i| (ACCOUNT, place(i), U256::from(i + 1))).collect()
}

/// A file with forty entries, closed.
fn filled(path: &Path) -> U256 {
    let mut storage = storage::create(path, "bn254").unwrap();
    storage.write(&writes(0..40)).unwrap();
    storage.set_account(&ACCOUNT, b"rich");
    storage.commit().unwrap();
    storage.root().unwrap()
}

fn slots(storage: &dyn Storage) -> Vec<Slot> {
    let mut slots = Vec::new();
    storage.for_each_slot(&mut |slot| slots.push(slot)).unwrap();
    slots
}

#[test]
fn a_file_gives_back_what_was_committed() {
    let (_folder, path) = folder();
    let root = filled(&path);
    let mut storage = storage::open(&path).unwrap();
    assert_eq!((storage.root().unwrap(), storage.leaves().unwrap(), storage.field().as_str()), (root, 41, "bn254"));
    for (address, place, value) in writes(0..40) {
        assert_eq!(storage.value(&address, &place).unwrap(), value);
        assert_eq!(storage.place(&address, &place.slot()).unwrap(), Some(place.clone()));
    }
    assert_eq!(storage.account(&ACCOUNT).unwrap().as_deref(), Some(&b"rich"[..]));
    storage.check().unwrap();
    // Updates, inserts and clears, over a commit.
    storage.write(&writes(35..60)).unwrap();
    let mut cleared = writes(3..4);
    cleared[0].2 = U256::ZERO;
    storage.write(&cleared).unwrap();
    let later = storage.root().unwrap();
    assert_ne!(later, root);
    storage.commit().unwrap();
    drop(storage);
    let storage = storage::open(&path).unwrap();
    assert_eq!(storage.root().unwrap(), later);
    storage.check().unwrap();
    let slots = slots(storage.as_ref());
    assert_eq!(slots.len(), 60);
    assert!(slots.windows(2).all(|pair| pair[0].slot < pair[1].slot));
    assert_eq!(slots.iter().filter(|slot| slot.value.is_zero()).count(), 1);
}

#[test]
fn a_file_has_the_root_of_the_tree_in_memory() {
    let (_folder, path) = folder();
    let mut file = File::<Fr>::create(&path).unwrap();
    let mut memory = Tree::new(Memory::<Fr>::default()).unwrap();
    for round in 0..6 {
        let writes = writes(round * 3..round * 9 + 5);
        let mut list: Vec<(Fr, U256)> =
            writes.iter().map(|(address, place, value)| (place.key(address), *value)).collect();
        list.sort_by_key(|(key, _)| zvm_backend_circuit::field::to_u256(key));
        // The same witnesses too.
        assert_eq!(file.touch(&writes).unwrap(), walk(&mut memory, &list).unwrap());
        if round % 2 == 0 {
            file.commit().unwrap();
        }
        assert_eq!(file.root().unwrap(), memory.root().unwrap());
    }
}

#[test]
fn what_was_not_committed_is_not_there() {
    let (_folder, path) = folder();
    let root = filled(&path);
    let mut storage = storage::open(&path).unwrap();
    storage.write(&writes(40..80)).unwrap();
    drop(storage);
    assert_eq!(storage::open(&path).unwrap().root().unwrap(), root);
    let mut tree = File::<Fr>::open(&path).unwrap();
    tree.touch(&writes(40..80)).unwrap();
    tree.roll_back().unwrap();
    assert_eq!(Storage::root(&tree).unwrap(), root);
    tree.commit().unwrap();
    drop(tree);
    assert_eq!(storage::open(&path).unwrap().root().unwrap(), root);
    // Before any commit, what is left is the tree without entries.
    let mut tree = File::<Fr>::create(&path.with_file_name("new")).unwrap();
    let empty = Storage::root(&tree).unwrap();
    tree.touch(&writes(0..5)).unwrap();
    tree.roll_back().unwrap();
    assert_eq!(Storage::root(&tree).unwrap(), empty);
}

/// The file as a machine leaves it that fails while it is open, between commits and after many.
#[test]
fn a_file_that_was_never_closed_is_as_of_the_last_commit() {
    let (folder, path) = folder();
    filled(&path);
    let mut storage = storage::open(&path).unwrap();
    for round in 0..4 {
        storage.write(&writes(40 + round * 10..50 + round * 10)).unwrap();
        storage.commit().unwrap();
        let root = storage.root().unwrap();
        storage.write(&writes(500..600)).unwrap();
        let copy = folder.path().join(format!("copy{round}"));
        fs::copy(&path, &copy).unwrap();
        let copy = storage::open(&copy).unwrap();
        assert_eq!(copy.root().unwrap(), root);
        copy.check().unwrap();
        // Forget what was not committed.
        drop(storage);
        storage = storage::open(&path).unwrap();
    }
}

fn refused(path: &Path) -> StoreError {
    match storage::open(path).map(|_| ()) {
        Err(StorageError::Store(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn foreign_files_are_refused() {
    let (folder, path) = folder();
    assert!(matches!(refused(&path), StoreError::Database(_)), "no file");
    for content in [&b""[..], b"{}", &[0; 5000], &[0xff; 100_000]] {
        fs::write(&path, content).unwrap();
        assert!(matches!(refused(&path), StoreError::Foreign(_)), "{} bytes", content.len());
        assert_eq!(fs::read(&path).unwrap(), content, "it is not touched");
    }
    // A database that is no state.
    let other = folder.path().join("other");
    let database = redb::Database::create(&other).unwrap();
    drop(database);
    assert!(matches!(refused(&other), StoreError::Foreign(_)));
    // A state that was created and never committed.
    let empty = folder.path().join("empty");
    drop(File::<Fr>::create(&empty).unwrap());
    assert!(matches!(refused(&empty), StoreError::Foreign(_)));
    assert!(matches!(File::<Fr>::create(&empty), Err(StoreError::Database(_))), "it exists");
    // Another version.
    let newer = folder.path().join("newer");
    filled(&newer);
    let database = redb::Database::create(&newer).unwrap();
    let write = database.begin_write().unwrap();
    let table: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    write.open_table(table).unwrap().insert("version", 9u64.to_le_bytes().as_slice()).unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(matches!(refused(&newer), StoreError::Version { found: 9, .. }));
    // Another field.
    let field = folder.path().join("field");
    storage::create(&field, "bls12-381").unwrap().commit().unwrap();
    assert!(matches!(File::<Fr>::open(&field), Err(StoreError::Field { .. })));
    assert!(matches!(storage::create(&folder.path().join("x"), "pasta"), Err(StorageError::UnknownField(_))));
    // Open elsewhere.
    let held = storage::open(&field).unwrap();
    assert!(matches!(refused(&field), StoreError::Database(_)));
    drop(held);
}

/// A digest, a leaf, a count: whatever is changed inside a well-formed database is found.
#[test]
fn contents_that_do_not_fit_together_are_refused() {
    type Edit = fn(&redb::WriteTransaction);
    const NODES: redb::TableDefinition<u64, [u8; 32]> = redb::TableDefinition::new("nodes");
    const LEAVES: redb::TableDefinition<u64, [u8; 96]> = redb::TableDefinition::new("leaves");
    const META: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("meta");
    const RECORDS: redb::TableDefinition<&[u8], &[u8]> = redb::TableDefinition::new("records");
    let on_opening: [Edit; 5] = [
        |write| drop(write.open_table(NODES).unwrap().insert(10u64 << 56, [1; 32]).unwrap()),
        |write| drop(write.open_table(NODES).unwrap().insert(40, [0xff; 32]).unwrap()),
        |write| drop(write.open_table(META).unwrap().insert("count", 33u64.to_le_bytes().as_slice()).unwrap()),
        |write| drop(write.open_table(META).unwrap().insert("count", &[1, 2][..]).unwrap()),
        |write| drop(write.open_table(META).unwrap().insert("root", &[1; 32][..]).unwrap()),
    ];
    let on_checking: [Edit; 4] = [
        |write| drop(write.open_table(NODES).unwrap().insert(3, [1; 32]).unwrap()),
        |write| drop(write.open_table(LEAVES).unwrap().insert(3, [1; 96]).unwrap()),
        |write| drop(write.open_table(LEAVES).unwrap().remove(3).unwrap()),
        |write| drop(write.open_table(RECORDS).unwrap().pop_first().unwrap()),
    ];
    let (folder, path) = folder();
    filled(&path);
    for (index, edit) in on_opening.iter().chain(&on_checking).enumerate() {
        let copy = folder.path().join(format!("copy{index}"));
        fs::copy(&path, &copy).unwrap();
        let database = redb::Database::create(&copy).unwrap();
        let write = database.begin_write().unwrap();
        edit(&write);
        write.commit().unwrap();
        drop(database);
        let opened = storage::open(&copy);
        assert_eq!(opened.is_err(), index < on_opening.len(), "{index}");
        if let Ok(storage) = opened {
            // The account's record is the first of the records: what is lost with it is no slot.
            let lost = storage.check().is_err() || storage.account(&ACCOUNT).unwrap().is_none();
            assert!(lost, "{index}");
        }
    }
}

#[test]
fn damaged_files_are_refused_or_whole() {
    let (folder, path) = folder();
    let root = filled(&path);
    let bytes = fs::read(&path).unwrap();
    let copy = folder.path().join("copy");
    let mut refused = 0;
    for at in (0..bytes.len()).step_by(bytes.len() / 150) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x5a;
        fs::write(&copy, &damaged).unwrap();
        match storage::open(&copy) {
            Err(_) => refused += 1,
            // A byte that no page uses.
            Ok(storage) => {
                assert_eq!(storage.root().unwrap(), root, "byte {at}");
                storage.check().unwrap();
            }
        }
    }
    for length in (0..bytes.len()).step_by(bytes.len() / 20) {
        fs::write(&copy, &bytes[..length]).unwrap();
        refused += usize::from(storage::open(&copy).is_err());
    }
    assert!(refused > 10, "{refused}");
}

#[test]
fn two_places_are_not_one_slot() {
    let (_folder, path) = folder();
    let mut storage = storage::create(&path, "bn254").unwrap();
    let entry = Place::Plain(U256::from(3)).entry(U256::from(7)).unwrap();
    let number = Place::Plain(entry.slot());
    let one = U256::from(1);
    let both = [(ACCOUNT, entry.clone(), one), (ACCOUNT, number, one)];
    assert!(matches!(storage.write(&both), Err(StorageError::OneSlot(..))));
    let twice = [(ACCOUNT, entry.clone(), one), (ACCOUNT, entry, one)];
    assert!(matches!(storage.write(&twice), Err(StorageError::Twice(_))));
}

#[test]
fn proofs_of_slots() {
    for field in ["bn254", "bls12-381"] {
        let (_folder, path) = folder();
        let mut storage = storage::create(&path, field).unwrap();
        storage.write(&writes(0..40)).unwrap();
        storage.write(&writes(40..45)).unwrap();
        let root = storage.root().unwrap();
        for (address, place, value) in writes(0..60) {
            // Forty-five were written.
            let expected = if value <= U256::from(45) { value } else { U256::ZERO };
            let proof = storage.prove(&address, &place).unwrap();
            assert_eq!(proof.verify(&root, &address, &place), Ok(expected));
            // Of another account it shows nothing, or that its slot is absent, as it is.
            assert!(proof.verify(&root, &[1; 20], &place).map_or(true, |value| value.is_zero()));
            // Not of another root.
            assert!(proof.verify(&(root - U256::from(1)), &address, &place).is_err());
            if value.as_limbs()[0] % 9 != 0 {
                continue;
            }
            // Nor with any number changed.
            let one = U256::from(1);
            let mut lies = Vec::new();
            for level in 0..proof.path.len() {
                for child in 0..8 {
                    let mut lie = proof.clone();
                    lie.path[level][child] = lie.path[level][child].wrapping_add(one);
                    lies.push((lie, format!("level {level} child {child}")));
                }
            }
            for part in 0..3 {
                let mut lie = proof.clone();
                lie.leaf[part] = lie.leaf[part].wrapping_add(one);
                lies.push((lie, format!("leaf {part}")));
            }
            let edits: [fn(&mut storage::PlainProof); 6] = [
                |lie| lie.index += 1,
                |lie| lie.index += 8,
                |lie| lie.count += 1,
                |lie| lie.tree = lie.tree.wrapping_add(U256::from(1)),
                |lie| lie.open = lie.open.wrapping_add(U256::from(1)),
                |lie| lie.path.truncate(9),
            ];
            for (index, edit) in edits.iter().enumerate() {
                let mut lie = proof.clone();
                edit(&mut lie);
                lies.push((lie, format!("edit {index}")));
            }
            // Above a leaf of the open node there is nothing that is read.
            let open = proof.index / 8 == proof.count / 8;
            for (lie, name) in lies {
                let read = !open || !name.starts_with("level") || name.starts_with("level 0 ");
                assert_eq!(lie.verify(&root, &address, &place).is_err(), read, "{name}");
            }
        }
        let mut proof = storage.prove(&ACCOUNT, &Place::Plain(U256::from(1))).unwrap();
        proof.field = "pasta".to_owned();
        let place = Place::Plain(U256::from(1));
        assert!(matches!(proof.verify(&root, &ACCOUNT, &place), Err(PlainProofError::UnknownField(_))));
    }
}

/// A million entries with `ZVM_SLOW=all`, a fifth of it with `ZVM_SLOW=1`: made, committed, opened, changed, checked.
#[test]
fn many_leaves() {
    let slow = std::env::var_os("ZVM_SLOW");
    let count = match slow.as_deref() {
        Some(slow) if slow == "all" => 1_000_000,
        Some(_) => 200_000,
        None => 3_000,
    };
    let (_folder, path) = folder();
    let mut storage = storage::create(&path, "bn254").unwrap();
    storage.write(&writes(0..count)).unwrap();
    storage.commit().unwrap();
    let root = storage.root().unwrap();
    drop(storage);
    let mut tree = File::<Fr>::open(&path).unwrap();
    assert_eq!(Storage::root(&tree).unwrap(), root);
    let walk = tree.touch(&writes(count - 100..count + 100)).unwrap();
    assert!(walk.ops.len() > 200);
    tree.commit().unwrap();
    assert_ne!(Storage::root(&tree).unwrap(), root);
    assert_eq!(tree.parts().unwrap().count, count + 101);
    Storage::check(&tree).unwrap();
}
