//! Checkpoints: a proof in the making as a file, to be gone on with after an interruption or a crash.
//!
//! A folder holds one checkpoint, `proof.zvmc`. It is written under another name and renamed, so that a crash while writing leaves the one
//! before it; it ends in a hash of everything before, so that a file that is not whole is refused. It names the program, the first
//! state and the outcome that it is about, and is refused for any other. A process that uses the folder holds a lock on it.
//!
//! The hash guards against accidents, not against forgery; nor need it: what a checkpoint says is folded into a proof that verifies
//! or does not, and the folded proof in it is verified before it is gone on with.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use zvm_ir::Word;
use zvm_ir::eval::keccak256;

use crate::artifact::{FileError, Kind, Reader, SegmentProof, Writer};
use crate::error::CircuitError;

/// The first bytes of a checkpoint.
pub const CHECKPOINT_MAGIC: [u8; 4] = *b"ZVMC";

/// The name of the file in its folder.
pub const FILE_NAME: &str = "proof.zvmc";

const HASH_BYTES: usize = 32;

/// Where checkpoints are kept, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep<'a> {
    /// The folder.
    pub directory: &'a Path,
    /// How many steps there are between two checkpoints; zero counts as one.
    pub every: u64,
    /// Whether to go on from the checkpoint in the folder, if there is one. Otherwise there may be none.
    pub resume: bool,
}

/// Why a checkpoint is not gone on with.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file is no checkpoint, or not whole.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file does not end in the hash of what precedes it.
    #[error("it is damaged or truncated")]
    Damaged,
    /// The checkpoint is of another program.
    #[error("it is of another program")]
    Program,
    /// The checkpoint is of another call, environment or state.
    #[error("it is of another call, environment or state")]
    Statement,
    /// The checkpoint is of the other kind of proof, and part of that is made already.
    #[error("it is of a {} proof", .0.name())]
    Kind(Kind),
    /// What the checkpoint says does not fit together.
    #[error("it contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// A proof is in the making in the folder already, and nobody said to go on with it.
    #[error("it is of a proof that is not finished")]
    Unfinished,
    /// Another process uses the folder.
    #[error("another process makes a proof in this folder")]
    InUse,
    /// The folder or file cannot be read or written.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl CheckpointError {
    /// The error with the folder that it is about.
    pub(crate) fn within(self, directory: &Path) -> CircuitError {
        CircuitError::Checkpoint { directory: directory.to_path_buf(), source: self }
    }
}

/// What a checkpoint is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The commitment to the program.
    pub program: Word,
    /// The first state and the outcome.
    pub statement: Word,
}

/// A proof in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it is about.
    pub subject: Subject,
    /// Which proof is to be made in the end.
    pub kind: Kind,
    /// The segments in order. Those that are finished hold their proof, of the kind to be made.
    pub segments: Vec<SegmentProof>,
    /// How many are finished.
    pub finished: u64,
    /// How many steps of the next one are folded.
    pub steps: u64,
    /// The recursive proof of these; empty if there are none.
    pub proof: Vec<u8>,
}

impl Checkpoint {
    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new(CHECKPOINT_MAGIC);
        out.word(&self.subject.program);
        out.word(&self.subject.statement);
        out.0.push(match self.kind {
            Kind::Recursive => 0,
            Kind::Compressed => 1,
            Kind::Groth16 => 2,
        });
        out.segments(&self.segments);
        out.0.extend(self.finished.to_le_bytes());
        out.0.extend(self.steps.to_le_bytes());
        out.bytes(&self.proof);
        let hash = keccak256(&out.0);
        out.word(&hash);
        out.0
    }

    /// Reads a file.
    ///
    /// # Errors
    /// `File` or `Damaged` for anything that is not a whole checkpoint.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let mut from = Reader::new(bytes, CHECKPOINT_MAGIC, "ZVM checkpoint")?;
        let end = bytes.len().checked_sub(HASH_BYTES).ok_or(CheckpointError::Damaged)?;
        let (content, hash) = bytes.split_at(end);
        if keccak256(content).to_be_bytes::<HASH_BYTES>() != hash {
            return Err(CheckpointError::Damaged);
        }
        let subject = Subject { program: from.word("program")?, statement: from.word("statement")? };
        let kind = match from.byte("kind of proof")? {
            0 => Kind::Recursive,
            1 => Kind::Compressed,
            _ => return Err(FileError::Malformed("kind of proof").into()),
        };
        let segments = from.segments()?;
        let finished = from.number("finished segments")?;
        let steps = from.number("folded steps")?;
        let proof = from.bytes("proof")?.to_vec();
        from.word("hash")?;
        from.end()?;
        Ok(Self { subject, kind, segments, finished, steps, proof })
    }
}

/// A folder of a checkpoint, held by this process.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    every: u64,
    /// Released when it is closed, by a crash as well.
    _lock: File,
}

impl Folder {
    /// Opens a folder, which is made if there is none, and reads the checkpoint in it if it is to be gone on with.
    ///
    /// # Errors
    /// `InUse`, `Unfinished`, `Io`; what is wrong with the checkpoint, if it is not one of a proof like this.
    pub fn open(keep: Keep<'_>, subject: &Subject, kind: Kind) -> Result<(Self, Option<Checkpoint>), CheckpointError> {
        let Keep { directory, every, resume } = keep;
        fs::create_dir_all(directory).map_err(CheckpointError::Io)?;
        let lock = File::create(directory.join("lock")).map_err(CheckpointError::Io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(CheckpointError::InUse),
            Err(fs::TryLockError::Error(error)) => return Err(CheckpointError::Io(error)),
        }
        let path = directory.join(FILE_NAME);
        let folder = Self { path, every: every.max(1), _lock: lock };
        let bytes = match fs::read(&folder.path) {
            Ok(_) if !resume => return Err(CheckpointError::Unfinished),
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((folder, None)),
            Err(error) => return Err(CheckpointError::Io(error)),
        };
        let checkpoint = Checkpoint::decode(&bytes)?;
        if checkpoint.subject.program != subject.program {
            return Err(CheckpointError::Program);
        }
        if checkpoint.subject.statement != subject.statement {
            return Err(CheckpointError::Statement);
        }
        if checkpoint.kind != kind && checkpoint.finished > 0 {
            return Err(CheckpointError::Kind(checkpoint.kind));
        }
        Ok((folder, Some(checkpoint)))
    }

    /// The folder itself.
    pub(crate) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Whether a checkpoint is due after so many steps.
    pub fn is_due(&self, steps: u64) -> bool {
        steps.is_multiple_of(self.every)
    }

    /// Replaces the checkpoint.
    ///
    /// # Errors
    /// `Io`.
    pub fn write(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let partial = self.path.with_extension("partial");
        let write = || -> io::Result<()> {
            let mut file = File::create(&partial)?;
            file.write_all(&checkpoint.encode())?;
            file.sync_all()?;
            fs::rename(&partial, &self.path)
        };
        write().map_err(CheckpointError::Io)
    }
}

/// Removes the checkpoint of a proof that is made and kept elsewhere.
///
/// # Errors
/// Whatever the system says.
pub fn discard(directory: &Path) -> io::Result<()> {
    for name in [FILE_NAME, "proof.partial", "lock"] {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            subject: Subject { program: Word::from(1), statement: Word::from(2) },
            kind: Kind::Compressed,
            segments: vec![SegmentProof { plan: vec![(0, 1), (2, 9)], steps: 3, proof: vec![1, 2, 3] }],
            finished: 1,
            steps: 5,
            proof: vec![7; 300],
        }
    }

    #[test]
    fn a_checkpoint_that_is_not_whole_is_refused() {
        let bytes = checkpoint().encode();
        assert_eq!(Checkpoint::decode(&bytes).unwrap(), checkpoint());
        for len in 0..bytes.len() {
            assert!(Checkpoint::decode(&bytes[..len]).is_err(), "{len} bytes of {}", bytes.len());
        }
        for at in 5..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(matches!(Checkpoint::decode(&altered), Err(CheckpointError::Damaged)), "byte {at}");
        }
    }

    #[test]
    fn another_subject_an_unfinished_proof_and_a_folder_in_use_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let keep = |resume| Keep { directory: directory.path(), every: 2, resume };
        let Checkpoint { subject, kind, .. } = checkpoint();
        let (folder, none) = Folder::open(keep(true), &subject, kind).unwrap();
        assert_eq!(none, None);
        assert!(folder.is_due(4) && !folder.is_due(5));
        assert!(matches!(Folder::open(keep(true), &subject, kind), Err(CheckpointError::InUse)));
        folder.write(&checkpoint()).unwrap();
        drop(folder);
        let refused = |resume, subject: Subject, kind| Folder::open(keep(resume), &subject, kind).unwrap_err();
        assert!(matches!(refused(false, subject.clone(), kind), CheckpointError::Unfinished));
        let other = Subject { program: Word::from(9), ..subject.clone() };
        assert!(matches!(refused(true, other, kind), CheckpointError::Program));
        let other = Subject { statement: Word::from(9), ..subject.clone() };
        assert!(matches!(refused(true, other, kind), CheckpointError::Statement));
        assert!(matches!(refused(true, subject.clone(), Kind::Recursive), CheckpointError::Kind(Kind::Compressed)));
        let (_, found) = Folder::open(keep(true), &subject, kind).unwrap();
        assert_eq!(found, Some(checkpoint()));
        discard(directory.path()).unwrap();
        discard(directory.path()).unwrap();
    }
}
