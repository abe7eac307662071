//! The command line, as tests run it in a folder of their own.

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// What a command does.
pub(crate) fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_zvm")).env("NO_COLOR", "1").args(args).output().expect("zvm runs")
}

/// The exit code of a command that does not panic.
pub(crate) fn exit(output: &Output) -> i32 {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
    output.status.code().expect("no signal")
}

/// What a command that succeeds answers.
pub(crate) fn done(args: &[&str]) -> Value {
    let output = run(&[args, &["--json"]].concat());
    assert_eq!(exit(&output), 0, "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.path(name), content).expect("writable");
        self.path(name)
    }
}
