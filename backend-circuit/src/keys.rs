//! Files of Groth16 keys (`.zvmk`), one per circuit, and the folder in which they are kept.
//!
//! | part | bytes |
//! |---|---|
//! | length of the header, little endian | 8 |
//! | header ([`KeyHeader`]): origin, program, circuit, plan, verifying key | that many |
//! | SHA-256 of the header | 32 |
//! | parameters of the prover, in the encoding of bellman | some hundred per row |
//! | SHA-256 of the parameters | 32 |
//!
//! A verifier reads no further than the header. Keys are the user's own files: hashes guard against accidents, the digest of the
//! circuit against use for another program, and nothing against someone who can write there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zvm_ir::Word;

use crate::artifact::{FileError, KeyHeader};
use crate::groth16::{Groth16Error, ProvingKey, VerifyingKey};
use crate::plan::MAX_SLOTS;
use crate::program::Program;

/// The longest header that is read: the longest plan and some keys.
const HEADER_LIMIT: u64 = 8 * MAX_SLOTS as u64 + (1 << 16);

/// What is wrong with a file of keys, or with there being none.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file holds no keys.
    #[error("{}: {source}", path.display())]
    NotKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: FileError,
    },
    /// The file was damaged.
    #[error("{}: the keys are damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The keys are of another program, or of another circuit of it.
    #[error("{}: these keys are of another program ({found:#066x}, not {expected:#066x})", path.display())]
    OtherProgram {
        /// The file.
        path: PathBuf,
        /// The commitment of the program.
        expected: Word,
        /// The commitment that the keys are for.
        found: Word,
    },
    /// The keys name a plan that does not make the circuit that they are for.
    #[error("{}: these keys are of another circuit of the program", path.display())]
    OtherCircuit {
        /// The file.
        path: PathBuf,
    },
    /// There are no keys of the program.
    #[error("there are no keys of this program")]
    None,
    /// No keys of the program have room for the execution.
    #[error("the keys of this program have no room for this execution")]
    NoRoom,
    /// There are no keys of the circuit that a proof was made with.
    #[error("there are no keys of the circuit {0:#066x}, which this proof is of")]
    NoneOf(Word),
    /// There are several keys of the program, and it was not said which.
    #[error("there are {0} keys of this program")]
    Several(usize),
    /// The key in the file is not one.
    #[error("{}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Groth16Error,
    },
}

/// Where keys are.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// Any in this folder that are of the program.
    Folder(&'a Path),
    /// This file.
    File(&'a Path),
}

/// The keys of a circuit: where they are, and what a verifier needs of them.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The file.
    pub path: PathBuf,
    /// Its header.
    pub header: KeyHeader,
    /// The verifying key.
    pub verifying: VerifyingKey,
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> KeyError + use<> {
    let path = path.to_path_buf();
    move |source| KeyError::Io { path, source }
}

impl Keys {
    /// Reads the head of a file.
    ///
    /// # Errors
    /// `Io`, `NotKeys`, `Damaged`, `Key`.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let mut file = File::open(path).map_err(io_error(path))?;
        let header = read_header(&mut file, path)?;
        let verifying = VerifyingKey::from_bytes(&header.verifying)
            .map_err(|source| KeyError::Key { path: path.to_path_buf(), source })?;
        Ok(Self { path: path.to_path_buf(), header, verifying })
    }

    /// Reads the parameters of the prover.
    ///
    /// # Errors
    /// As [`Keys::read`].
    pub fn proving(&self) -> Result<ProvingKey, KeyError> {
        let path = &self.path;
        let mut file = File::open(path).map_err(io_error(path))?;
        let damaged = || KeyError::Damaged { path: path.clone() };
        if read_header(&mut file, path)? != self.header {
            return Err(damaged());
        }
        let mut rest = Vec::new();
        file.read_to_end(&mut rest).map_err(io_error(path))?;
        let (bytes, hash) = rest.split_last_chunk::<32>().ok_or_else(damaged)?;
        if Sha256::digest(bytes)[..] != hash[..] {
            return Err(damaged());
        }
        let key = |source| KeyError::Key { path: path.clone(), source };
        let proving = ProvingKey::from_bytes(bytes).map_err(key)?;
        if proving.verifying().map_err(key)? != self.verifying {
            return Err(damaged());
        }
        Ok(proving)
    }

    /// Writes keys under a temporary name and renames them, so that nobody ever reads half of them.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(path: &Path, header: KeyHeader, key: &ProvingKey) -> Result<Self, KeyError> {
        let partial = path.with_extension(format!("partial-{}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = io::BufWriter::new(File::create(&partial)?);
            let head = header.encode();
            file.write_all(&(head.len() as u64).to_le_bytes())?;
            file.write_all(&head)?;
            file.write_all(&Sha256::digest(&head))?;
            let bytes = key.to_bytes();
            file.write_all(&bytes)?;
            file.write_all(&Sha256::digest(&bytes))?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&partial, path)
        };
        write().map_err(io_error(&partial))?;
        Self::read(path)
    }
}

/// Keeps other processes from making the same keys, until it is dropped.
///
/// # Errors
/// `Io`.
pub fn lock(path: &Path) -> Result<File, KeyError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    let path = path.with_extension("lock");
    let lock = File::create(&path).map_err(io_error(&path))?;
    // Released when the file is closed, by a crash as well.
    lock.lock().map_err(io_error(&path))?;
    Ok(lock)
}

fn read_header(file: &mut File, path: &Path) -> Result<KeyHeader, KeyError> {
    let not_keys = |source| KeyError::NotKeys { path: path.to_path_buf(), source };
    let mut read = |len: u64| -> Result<Vec<u8>, KeyError> {
        let mut bytes = Vec::new();
        Read::by_ref(file).take(len).read_to_end(&mut bytes).map_err(io_error(path))?;
        if bytes.len() as u64 == len { Ok(bytes) } else { Err(not_keys(FileError::Truncated("header"))) }
    };
    let len = read(8)?.iter().rev().fold(0u64, |len, &byte| len << 8 | u64::from(byte));
    if len > HEADER_LIMIT {
        return Err(not_keys(FileError::Magic("ZVM key")));
    }
    let head = read(len)?;
    let header = KeyHeader::decode(&head).map_err(not_keys)?;
    if Sha256::digest(&head)[..] != read(32)?[..] {
        return Err(KeyError::Damaged { path: path.to_path_buf() });
    }
    Ok(header)
}

/// Where the keys of a circuit are kept in a folder.
pub fn path_in(folder: &Path, program: &Word, circuit: &Word) -> PathBuf {
    folder.join(format!("{}{circuit:064x}.zvmk", prefix(program)))
}

fn prefix(program: &Word) -> String {
    format!("groth16-{:016x}-", *program >> 192)
}

/// The keys of a program, the smallest circuit first; in a folder, files that are no keys are passed over.
///
/// # Errors
/// `OtherProgram` for a file of another program; `None` for a folder without any; as [`Keys::read`] for a file.
pub fn of_program(source: Source<'_>, program: &Program) -> Result<Vec<Keys>, KeyError> {
    let expected = program.commitment();
    match source {
        Source::File(path) => {
            let keys = Keys::read(path)?;
            let found = keys.header.program;
            if found != expected {
                return Err(KeyError::OtherProgram { path: path.to_path_buf(), expected, found });
            }
            Ok(vec![keys])
        }
        Source::Folder(folder) => {
            let prefix = prefix(&expected);
            let files = fs::read_dir(folder).into_iter().flatten().flatten();
            let named = |path: &PathBuf| {
                path.extension().is_some_and(|extension| extension == "zvmk")
                    && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
            };
            let paths = files.map(|entry| entry.path()).filter(named);
            let mut found: Vec<Keys> = paths.filter_map(|path| Keys::read(&path).ok()).collect();
            found.retain(|keys| keys.header.program == expected);
            found.sort_by_key(|keys| (keys.header.rows, keys.header.circuit));
            if found.is_empty() { Err(KeyError::None) } else { Ok(found) }
        }
    }
}
