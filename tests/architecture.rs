//! The invariants of `ARCHITECTURE.md` that can be read off manifests and sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The dependencies of each package of the workspace, with their kind: `normal`, `dev` or `build`.
fn dependencies() -> BTreeMap<String, BTreeSet<(String, String)>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("a list").iter();
    packages
        .map(|package| {
            let list = package["dependencies"].as_array().expect("a list").iter();
            let entry = |dependency: &Value| {
                let name = dependency["name"].as_str().expect("a name").to_owned();
                (name, dependency["kind"].as_str().unwrap_or("normal").to_owned())
            };
            (package["name"].as_str().expect("a name").to_owned(), list.map(entry).collect())
        })
        .collect()
}

/// Every Rust file below a folder of the repository, as a path relative to its root.
fn sources(folder: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    found.into_iter().map(|path| path.strip_prefix(root()).expect("inside").to_owned()).collect()
}

const CRATES: [&str; 4] = ["ir", "frontend", "backend-evm", "backend-circuit"];

/// The code of a file without comment lines.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(root().join(path)).expect("readable");
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Whether a path starts with the crate's name: `name::`, or `use name;`.
fn names(code: &str, krate: &str) -> bool {
    code.match_indices(krate).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + krate.len()..];
        let starts = before.is_none_or(|c| !(c.is_alphanumeric() || c == '_'));
        starts && (after.starts_with("::") || after.starts_with(';') || after.starts_with(" as "))
    })
}

#[test]
fn crates_meet_only_in_the_root() {
    let dependencies = dependencies();
    let ours = |name: &str| -> Vec<&str> {
        let all = dependencies[name].iter().map(|(name, _)| name.as_str());
        all.filter(|name| name.starts_with("zvm")).collect()
    };
    assert_eq!(ours("zvm-ir"), [""; 0]);
    for name in ["zvm-frontend", "zvm-backend-evm", "zvm-backend-circuit"] {
        assert_eq!(ours(name), ["zvm-ir"], "{name}, its tests included");
    }
    assert_eq!(ours("zvm"), ["zvm-backend-circuit", "zvm-backend-evm", "zvm-frontend", "zvm-ir"]);
}

#[test]
fn prescribed_crates_are_where_they_belong() {
    let dependencies = dependencies();
    let users = |krate: &str| -> Vec<&str> {
        let normal = (krate.to_owned(), "normal".to_owned());
        dependencies.iter().filter(|(_, list)| list.contains(&normal)).map(|(name, _)| name.as_str()).collect()
    };
    assert_eq!(users("petgraph"), ["zvm-ir"]);
    assert_eq!(users("revm-interpreter"), ["zvm-frontend"]);
    assert_eq!(users("revm"), ["zvm"]);
    for krate in ["bellpepper", "bellpepper-core", "bellperson", "blstrs", "neptune", "nova-snark"] {
        assert_eq!(users(krate), ["zvm-backend-circuit"], "{krate}");
    }
    assert!(users("cranelift-entity").contains(&"zvm-ir"));
}

#[test]
fn one_file_sees_each_of_these_crates() {
    let seen = |krate: &str, folders: &[&str]| -> Vec<String> {
        let files = folders.iter().flat_map(|folder| sources(&format!("{folder}/src")));
        let files = files.filter(|path| names(&code(path), krate));
        files.map(|path| path.display().to_string()).collect()
    };
    let all: Vec<&str> = CRATES.into_iter().chain(["."]).collect();
    assert_eq!(seen("petgraph", &all), ["ir/src/cfg.rs"]);
    assert_eq!(seen("nova_snark", &all), ["backend-circuit/src/nova.rs"]);
    assert_eq!(seen("bellperson", &all), ["backend-circuit/src/groth16.rs"]);
    assert_eq!(seen("redb", &all), ["backend-circuit/src/state/file.rs"]);
    assert_eq!(seen("revm_interpreter", &all), ["frontend/src/decode.rs"]);
    let revm = seen("revm", &all);
    assert!(revm.iter().all(|path| path == "src/disassembly.rs" || path.starts_with("src/evm")), "{revm:?}");
    assert_eq!(seen("miette", &all), ["src/diagnostics.rs"]);
    assert_eq!(seen("indicatif", &all), ["src/cli/progress.rs"]);
}

#[test]
fn the_library_does_not_print() {
    let library = sources("src").into_iter().filter(|path| {
        !(path.starts_with("src/cli")
            || ["src/main.rs", "src/cli.rs", "src/diagnostics.rs"].iter().any(|p| path == Path::new(p)))
    });
    let crates = CRATES.iter().flat_map(|name| sources(&format!("{name}/src")));
    for path in library.chain(crates) {
        let code = code(&path);
        let before_tests = code.split("#[cfg(test)]").next().unwrap_or_default();
        for word in ["println!", "eprintln!", "print!(", "process::exit"] {
            assert!(!before_tests.contains(word), "{} uses {word}", path.display());
        }
    }
}

#[test]
fn files_are_short_named_and_introduced() {
    let folders = CRATES.iter().flat_map(|name| [format!("{name}/src"), format!("{name}/tests")]);
    for folder in folders.chain(["src", "tests", "benches"].map(str::to_owned)) {
        for path in sources(&folder) {
            let text = fs::read_to_string(root().join(&path)).expect("readable");
            assert!(text.lines().count() <= 800, "{} has more than 800 lines", path.display());
            assert!(text.starts_with("//!"), "{} does not say what it is", path.display());
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            assert!(!["utils", "util", "helpers", "common", "misc"].contains(&stem), "{}", path.display());
        }
    }
}

/// Snapshots are in one folder, so that a reviewer finds them.
#[test]
fn snapshots_are_in_one_folder() {
    for name in CRATES {
        for folder in [format!("{name}/src/snapshots"), format!("{name}/tests/snapshots")] {
            assert!(!root().join(&folder).exists(), "{folder} exists");
        }
    }
}
