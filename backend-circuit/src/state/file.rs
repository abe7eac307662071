//! A state tree in a file: an embedded database (`redb`) that is either as it was before a commit or as it is after one.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | `version`, `count`: little-endian; `field`: its name; `root`: 32 bytes |
//! | `leaves` | number | key, value, next key: 32 bytes each, big-endian |
//! | `keys` | key, big-endian | number |
//! | `nodes` | level · 2^56 + number | digest, big-endian |
//! | `records` | bytes | bytes, for what is kept beside the tree |
//!
//! What is written is held in memory until [`File::commit`] writes all of it in one transaction. A file is checked when it is opened:
//! the database checks its pages, and the root is computed from what it is the hash of. [`super::tree::Tree::check`] computes all digests.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use ff::PrimeField;
use redb::{Database, DatabaseError, ReadOnlyTable, ReadableDatabase, StorageError, TableDefinition, TableError};
use zvm_ir::Word as U256;

use super::order::modulus;
use super::store::{Store, StoreError};
use super::tree::{CAPACITY, LEVELS, Leaf, Tree};
use crate::field::{from_u256, to_u256};

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const LEAVES: TableDefinition<u64, [u8; LEAF]> = TableDefinition::new("leaves");
const KEYS: TableDefinition<[u8; 32], u64> = TableDefinition::new("keys");
const NODES: TableDefinition<u64, [u8; 32]> = TableDefinition::new("nodes");
const RECORDS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("records");

/// Bytes of a leaf.
const LEAF: usize = 96;
/// The version of the file's tables.
pub const VERSION: u64 = 2;

/// A state tree's store in a file.
pub struct File<F> {
    database: Database,
    committed: Committed,
    pending: Pending<F>,
}

/// The tables as they were at the last commit.
struct Committed {
    count: u64,
    leaves: ReadOnlyTable<u64, [u8; LEAF]>,
    keys: ReadOnlyTable<[u8; 32], u64>,
    nodes: ReadOnlyTable<u64, [u8; 32]>,
    records: ReadOnlyTable<&'static [u8], &'static [u8]>,
}

/// What was written since.
#[derive(Debug)]
struct Pending<F> {
    count: u64,
    leaves: BTreeMap<u64, Leaf<F>>,
    keys: BTreeMap<U256, u64>,
    nodes: BTreeMap<(usize, u64), F>,
    records: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl<F> std::fmt::Debug for File<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("File").field("count", &self.pending.count).finish_non_exhaustive()
    }
}

/// The name of a field in files.
pub fn field_name<F: PrimeField>() -> String {
    match F::NUM_BITS {
        254 => "bn254".to_owned(),
        255 => "bls12-381".to_owned(),
        _ => format!("{:#x}", modulus::<F>()),
    }
}

/// What a file of the database begins with.
const MAGIC: &[u8] = b"redb";

/// Whether the file at `path` begins like a state file; what else is in it shows when it is opened.
///
/// # Errors
/// When it cannot be read.
pub fn is_state_file(path: &Path) -> std::io::Result<bool> {
    let mut start = Vec::new();
    std::fs::File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == MAGIC)
}

/// The field that the file at `path` is over, by [`field_name`].
///
/// # Errors
/// As [`File::open`].
pub fn field_of(path: &Path) -> Result<String, StoreError> {
    let database = open(path)?;
    meta(&database, "field").map(|name| String::from_utf8_lossy(&name).into_owned())
}

impl<F: PrimeField> File<F> {
    /// A new file, which must not exist. Until the first commit it is no state file.
    ///
    /// # Errors
    /// When the file exists or cannot be written.
    pub fn create(path: &Path) -> Result<Tree<F, Self>, StoreError> {
        if path.exists() {
            return Err(StoreError::Database("the file exists already".to_owned()));
        }
        let database = Database::create(path).map_err(unopened)?;
        let write = database.begin_write().map_err(failed)?;
        write.open_table(META).map_err(failed)?;
        write.open_table(LEAVES).map_err(failed)?;
        write.open_table(KEYS).map_err(failed)?;
        write.open_table(NODES).map_err(failed)?;
        write.open_table(RECORDS).map_err(failed)?;
        write.commit().map_err(failed)?;
        let committed = Committed::new(&database, 0)?;
        Tree::new(Self { database, committed, pending: Pending::new(0) })
    }

    /// Opens a file.
    ///
    /// # Errors
    /// When it cannot be read, is no state file or one of another version or field, or is damaged.
    pub fn open(path: &Path) -> Result<Tree<F, Self>, StoreError> {
        let database = open(path)?;
        let field = String::from_utf8_lossy(&meta(&database, "field")?).into_owned();
        if field != field_name::<F>() {
            return Err(StoreError::Field { found: field, expected: field_name::<F>() });
        }
        let count = number(&meta(&database, "count")?, "the number of leaves")?;
        let root = meta(&database, "root")?;
        let committed = Committed::new(&database, count)?;
        if count == 0 || count > CAPACITY {
            return Err(StoreError::Damaged { what: "the number of leaves".to_owned() });
        }
        let tree = Tree::new(Self { database, committed, pending: Pending::new(count) })?;
        if to_u256(&tree.root()?).to_be_bytes::<32>() != root.as_slice() {
            return Err(StoreError::Damaged { what: "the root".to_owned() });
        }
        Ok(tree)
    }

    /// A record kept beside the tree.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn record(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(pending) = self.pending.records.get(name) {
            return Ok(pending.clone());
        }
        let found = self.committed.records.get(name).map_err(unread)?;
        Ok(found.map(|bytes| bytes.value().to_vec()))
    }

    /// Sets a record, or removes it.
    pub fn set_record(&mut self, name: &[u8], value: Option<&[u8]>) {
        self.pending.records.insert(name.to_vec(), value.map(<[u8]>::to_vec));
    }

    /// Calls `visit` with each record whose name begins with `prefix`, in the order of names.
    ///
    /// # Errors
    /// When the file cannot be read; what `visit` returns.
    pub fn for_each_record<E: From<StoreError>>(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let pending = &self.pending.records;
        let mut new = pending.range(prefix.to_vec()..).take_while(|(name, _)| name.starts_with(prefix)).peekable();
        for entry in self.committed.records.range(prefix..).map_err(unread)? {
            let (name, value) = entry.map_err(unread)?;
            let (name, value) = (name.value(), value.value());
            if !name.starts_with(prefix) {
                break;
            }
            while let Some((new_name, new_value)) = new.next_if(|(new_name, _)| new_name.as_slice() < name) {
                if let Some(value) = new_value {
                    visit(new_name, value)?;
                }
            }
            match new.next_if(|(new_name, _)| new_name.as_slice() == name) {
                Some((_, Some(value))) => visit(name, value)?,
                Some((_, None)) => {}
                None => visit(name, value)?,
            }
        }
        for (name, value) in new {
            if let Some(value) = value {
                visit(name, value)?;
            }
        }
        Ok(())
    }

    /// Writes all that was changed since the last commit, or nothing. `root` is that of the tree over this store.
    fn commit(&mut self, root: &F) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(failed)?;
        {
            let mut leaves = write.open_table(LEAVES).map_err(failed)?;
            for (index, leaf) in &self.pending.leaves {
                leaves.insert(index, leaf_bytes(leaf)).map_err(failed)?;
            }
            let mut keys = write.open_table(KEYS).map_err(failed)?;
            for (key, index) in &self.pending.keys {
                keys.insert(key.to_be_bytes::<32>(), index).map_err(failed)?;
            }
            let mut nodes = write.open_table(NODES).map_err(failed)?;
            for ((level, index), digest) in &self.pending.nodes {
                nodes.insert(node_key(*level, *index), to_u256(digest).to_be_bytes::<32>()).map_err(failed)?;
            }
            let mut records = write.open_table(RECORDS).map_err(failed)?;
            for (name, value) in &self.pending.records {
                match value {
                    Some(value) => drop(records.insert(name.as_slice(), value.as_slice()).map_err(failed)?),
                    None => drop(records.remove(name.as_slice()).map_err(failed)?),
                }
            }
            let mut meta = write.open_table(META).map_err(failed)?;
            meta.insert("version", VERSION.to_le_bytes().as_slice()).map_err(failed)?;
            meta.insert("field", field_name::<F>().as_bytes()).map_err(failed)?;
            meta.insert("count", self.pending.count.to_le_bytes().as_slice()).map_err(failed)?;
            meta.insert("root", to_u256(root).to_be_bytes::<32>().as_slice()).map_err(failed)?;
        }
        write.commit().map_err(failed)?;
        self.committed = Committed::new(&self.database, self.pending.count)?;
        self.pending = Pending::new(self.pending.count);
        Ok(())
    }
}

impl<F: PrimeField> Tree<F, File<F>> {
    /// Writes all that was changed since the last commit, or nothing.
    ///
    /// # Errors
    /// When the file cannot be written: it is then as it was.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        let root = self.root()?;
        self.store_mut().commit(&root)
    }

    /// Forgets all that was changed since the last commit.
    ///
    /// # Errors
    /// When the store fails.
    pub fn roll_back(&mut self) -> Result<(), StoreError> {
        let count = self.store().committed.count;
        self.store_mut().pending = Pending::new(count);
        self.begin()
    }

    /// Calls `visit` with each leaf in the order of keys, the sentinel left out.
    ///
    /// # Errors
    /// When the file cannot be read; what `visit` returns.
    pub fn for_each_leaf<E: From<StoreError>>(&self, mut visit: impl FnMut(Leaf<F>) -> Result<(), E>) -> Result<(), E> {
        let count = self.store().count()?;
        let mut leaf = self.store().leaf(0)?;
        for _ in 1..count {
            let (_, next) = self.find(&leaf.next)?;
            if next.key != leaf.next || next.key == F::ZERO {
                return Err(StoreError::Damaged { what: "a next key".to_owned() }.into());
            }
            visit(next)?;
            leaf = next;
        }
        Ok(())
    }
}

impl<F: PrimeField> Store<F> for File<F> {
    fn count(&self) -> Result<u64, StoreError> {
        Ok(self.pending.count)
    }

    fn leaf(&self, index: u64) -> Result<Leaf<F>, StoreError> {
        if let Some(leaf) = self.pending.leaves.get(&index) {
            return Ok(*leaf);
        }
        let damaged = || StoreError::Damaged { what: format!("leaf {index}") };
        let bytes = self.committed.leaves.get(index).map_err(unread)?.ok_or_else(damaged)?.value();
        let part = |from: usize| U256::try_from_be_slice(&bytes[from..from + 32]).ok_or_else(damaged);
        let element = |from: usize| {
            let integer = part(from)?;
            if integer < modulus::<F>() { Ok(from_u256(&integer)) } else { Err(damaged()) }
        };
        Ok(Leaf { key: element(0)?, value: part(32)?, next: element(64)? })
    }

    fn floor(&self, key: &U256) -> Result<u64, StoreError> {
        let new = self.pending.keys.range(..=*key).next_back().map(|(key, index)| (*key, *index));
        let old = match self.committed.keys.range(..=key.to_be_bytes::<32>()).map_err(unread)?.next_back() {
            None => None,
            Some(entry) => {
                let (key, index) = entry.map_err(unread)?;
                Some((U256::from_be_bytes(key.value()), index.value()))
            }
        };
        let larger = new.into_iter().chain(old).max_by_key(|(key, _)| *key);
        larger.map(|(_, index)| index).ok_or_else(|| StoreError::Damaged { what: "the first leaf".to_owned() })
    }

    fn node(&self, level: usize, index: u64) -> Result<Option<F>, StoreError> {
        if let Some(digest) = self.pending.nodes.get(&(level, index)) {
            return Ok(Some(*digest));
        }
        let found = self.committed.nodes.get(node_key(level, index)).map_err(unread)?;
        let digest = found.map(|bytes| U256::from_be_bytes(bytes.value()));
        match digest {
            Some(digest) if digest >= modulus::<F>() => {
                Err(StoreError::Damaged { what: format!("node {index} of level {level}") })
            }
            digest => Ok(digest.as_ref().map(from_u256)),
        }
    }

    fn push_leaf(&mut self, leaf: &Leaf<F>) -> Result<u64, StoreError> {
        let index = self.pending.count;
        self.pending.leaves.insert(index, *leaf);
        self.pending.keys.insert(to_u256(&leaf.key), index);
        self.pending.count += 1;
        Ok(index)
    }

    fn set_leaf(&mut self, index: u64, leaf: &Leaf<F>) -> Result<(), StoreError> {
        self.pending.leaves.insert(index, *leaf);
        Ok(())
    }

    fn set_node(&mut self, level: usize, index: u64, digest: F) -> Result<(), StoreError> {
        self.pending.nodes.insert((level, index), digest);
        Ok(())
    }
}

impl Committed {
    fn new(database: &Database, count: u64) -> Result<Self, StoreError> {
        let read = database.begin_read().map_err(failed)?;
        Ok(Self {
            count,
            leaves: read.open_table(LEAVES).map_err(missing)?,
            keys: read.open_table(KEYS).map_err(missing)?,
            nodes: read.open_table(NODES).map_err(missing)?,
            records: read.open_table(RECORDS).map_err(missing)?,
        })
    }
}

impl<F> Pending<F> {
    fn new(count: u64) -> Self {
        Self { count, leaves: BTreeMap::new(), keys: BTreeMap::new(), nodes: BTreeMap::new(), records: BTreeMap::new() }
    }
}

fn leaf_bytes<F: PrimeField>(leaf: &Leaf<F>) -> [u8; LEAF] {
    let mut bytes = [0; LEAF];
    for (to, word) in bytes.chunks_mut(32).zip([to_u256(&leaf.key), leaf.value, to_u256(&leaf.next)]) {
        to.copy_from_slice(&word.to_be_bytes::<32>());
    }
    bytes
}

fn node_key(level: usize, index: u64) -> u64 {
    debug_assert!(level <= LEVELS);
    (level as u64) << 56 | index
}

/// Opens the database with all its pages checked, and reads its version.
fn open(path: &Path) -> Result<Database, StoreError> {
    // The database makes an empty file a new one.
    match std::fs::metadata(path) {
        Err(error) => return Err(StoreError::Database(error.to_string())),
        Ok(metadata) if metadata.len() == 0 => return Err(StoreError::Foreign("the file is empty".to_owned())),
        Ok(_) => {}
    }
    let database = Database::builder().set_check_integrity_on_open(true).open(path).map_err(unopened)?;
    let version = number(&meta(&database, "version")?, "the version")?;
    if version != VERSION {
        return Err(StoreError::Version { found: version, expected: VERSION });
    }
    Ok(database)
}

fn meta(database: &Database, name: &str) -> Result<Vec<u8>, StoreError> {
    let read = database.begin_read().map_err(failed)?;
    let table = read.open_table(META).map_err(missing)?;
    let value = table.get(name).map_err(unread)?;
    value.map(|bytes| bytes.value().to_vec()).ok_or_else(|| StoreError::Foreign(format!("it has no {name}")))
}

fn number(bytes: &[u8], what: &str) -> Result<u64, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::Damaged { what: what.to_owned() })?;
    Ok(u64::from_le_bytes(bytes))
}

fn failed<E: Into<redb::Error>>(error: E) -> StoreError {
    StoreError::Database(error.into().to_string())
}

fn unread(error: StorageError) -> StoreError {
    match error {
        StorageError::Corrupted(what) => StoreError::Damaged { what },
        error => failed(error),
    }
}

fn unopened(error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(what)) => StoreError::Damaged { what },
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::Foreign(error.to_string())
        }
        DatabaseError::DatabaseAlreadyOpen => StoreError::Database("another program has the file open".to_owned()),
        error => failed(error),
    }
}

fn missing(error: TableError) -> StoreError {
    match error {
        TableError::Storage(error) => unread(error),
        error => StoreError::Foreign(error.to_string()),
    }
}
