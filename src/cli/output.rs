//! Standard output, and files that appear whole or not at all.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use zvm::Error;

use super::Failure;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// No progress and no warnings.
    pub(crate) quiet: bool,
}

impl Output {
    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|source| match source.kind() {
            ErrorKind::BrokenPipe => Failure::Closed,
            _ => Error::Io { path: "standard output".to_owned(), source }.into(),
        })
    }

    /// Prints a JSON document.
    pub(crate) fn document(&self, value: &Value) -> Result<(), Failure> {
        self.bytes(format!("{value:#}\n").as_bytes())
    }

    /// Prints the text, or the document if JSON is asked for.
    pub(crate) fn either(&self, text: &str, document: impl FnOnce() -> Value) -> Result<(), Failure> {
        if self.json { self.document(&document()) } else { self.bytes(text.as_bytes()) }
    }

    /// Tells the user something on standard error.
    pub(crate) fn warn(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "warning: {text}");
        }
    }
}

/// Fails where [`write_file`] would, before the work whose result it would write.
pub(crate) fn check_writable(path: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::from(Error::Io { path: path.display().to_string(), source });
    match target(path).map_err(failed)? {
        Target::File(path) => {
            tempfile::tempfile_in(folder(&path)).map(drop).map_err(|source| failed(source.kind().into()))
        }
        Target::Device => fs::OpenOptions::new().write(true).open(path).map(drop).map_err(failed),
    }
}

/// What a path that is to be written names.
enum Target {
    /// A file, or nothing yet; links are followed, so that they stay.
    File(PathBuf),
    /// Something that must not be replaced by a file: a device, a pipe.
    Device,
}

fn target(path: &Path) -> io::Result<Target> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(found) if found.is_file() => fs::canonicalize(path).map(Target::File),
        Ok(_) => Ok(Target::Device),
        Err(_) => Ok(Target::File(path.to_owned())),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Writes a file under a temporary name in the same folder and renames it, so that nobody ever reads half of it.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |source| Failure::from(Error::Io { path: path.display().to_string(), source });
    let path = match target(path).map_err(failed)? {
        Target::File(path) => path,
        Target::Device => {
            let mut device = fs::OpenOptions::new().write(true).open(path).map_err(failed)?;
            return device.write_all(bytes).map_err(failed);
        }
    };
    let mut file = temporary(&path)?;
    file.write_all(bytes).map_err(failed)?;
    persist(file, &path)
}

/// Makes `path` a copy of the file `of` that `change` has changed, whole or not at all. The two may be the same.
pub(crate) fn replace_file(
    path: &Path,
    of: &Path,
    change: impl FnOnce(&Path) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let failed = |path: &Path, source| Failure::from(Error::Io { path: path.display().to_string(), source });
    let path = match target(path).map_err(|source| failed(path, source))? {
        Target::File(path) => path,
        Target::Device => return Err(failed(path, ErrorKind::InvalidInput.into())),
    };
    let mut copy = temporary(&path)?;
    let mut original = fs::File::open(of).map_err(|source| failed(of, source))?;
    io::copy(&mut original, &mut copy).map_err(|source| failed(&path, source))?;
    change(copy.path())?;
    persist(copy, &path)
}

/// A file beside `path`. Its name is nobody's concern: of an error only the kind is kept.
fn temporary(path: &Path) -> Result<tempfile::NamedTempFile, Failure> {
    tempfile::NamedTempFile::new_in(folder(path))
        .map_err(|source| Error::Io { path: path.display().to_string(), source: source.kind().into() }.into())
}

/// Gives a file its name.
fn persist(file: tempfile::NamedTempFile, path: &Path) -> Result<(), Failure> {
    let failed = |source| Failure::from(Error::Io { path: path.display().to_string(), source });
    file.as_file().sync_all().map_err(failed)?;
    make_readable(&file).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Temporary files are private; results are as readable as any file the user makes.
#[cfg(unix)]
fn make_readable(file: &tempfile::NamedTempFile) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn make_readable(_: &tempfile::NamedTempFile) -> io::Result<()> {
    Ok(())
}

/// A number with a separator between groups of three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 jump`, `2 jumps`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{} {noun}{}", grouped(number as u64), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::{check_writable, write_file};

    #[test]
    fn a_folder_is_refused_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_writable(folder.path()).is_err());
        assert!(check_writable(&folder.path().join("no/such/folder")).is_err());
        assert!(check_writable(&folder.path().join("file")).is_ok());
        assert!(write_file(folder.path(), b"x").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_file(&link, b"new").unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
    }
}
