//! Where the corpus of real contracts is, and what happens without it.
//!
//! It is looked for at `ZVM_CORPUS`, or else at `../shared/corpus` beside the workspace. Tests that need it are counted as
//! ignored where it is missing, unless `CI=true`: then they fail.

use std::env;
use std::path::{Path, PathBuf};

use libtest_mimic::{Failed, Trial};

/// The folder of the corpus, if it is there.
pub(crate) fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let folder = env::var_os("ZVM_CORPUS").map_or(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

/// A test of a file or folder of the corpus.
pub(crate) fn trial(name: &str, file: &str, test: impl FnOnce(&Path) -> Result<(), Failed> + Send + 'static) -> Trial {
    let path = folder().map(|folder| folder.join(file)).filter(|path| path.exists());
    let name = name.to_owned();
    match path {
        Some(path) => Trial::test(name, move || test(&path)),
        None if env::var("CI").is_ok_and(|value| value == "true") => {
            let file = file.to_owned();
            Trial::test(name, move || Err(format!("{file} is not in the corpus, and CI=true").into()))
        }
        None => {
            eprintln!("skipped: {name} needs {file} of the corpus (ZVM_CORPUS, or ../shared/corpus)");
            Trial::test(name, || Ok(())).with_ignored_flag(true)
        }
    }
}

/// A file of the examples that the repository ships.
pub(crate) fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(file)
}
