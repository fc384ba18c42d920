//! The repository's files.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file of the repository.
#[derive(Debug)]
pub(crate) struct Source {
    /// From the repository's root, with `/`.
    pub path: String,
    pub text: String,
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the root")
        .to_owned()
}

/// Reads one file of the repository.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file, in order of its path.
pub(crate) fn rust() -> Vec<Source> {
    let mut found = Vec::new();
    for folder in [
        "wire", "tunnel", "relay", "agent", "netsim", "benches", "tests",
    ] {
        collect(&root().join(folder), &mut found);
    }
    assert!(
        found.len() > 40,
        "the walk over the sources is broken: {} files",
        found.len()
    );
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn collect(folder: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}")) {
        let path = entry.expect("a folder of ours can be read").path();
        if path.is_dir() {
            // What cargo-fuzz writes is not ours.
            if !path.ends_with("fuzz/target") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inside = path.strip_prefix(root()).expect("below the root");
            let text = fs::read_to_string(&path).expect("sources are UTF-8");
            found.push(Source {
                path: inside.display().to_string(),
                text,
            });
        }
    }
}

/// Fails with every offence, one a line.
pub(crate) fn none(offences: &[String]) {
    assert!(
        offences.is_empty(),
        "{} offences:\n{}",
        offences.len(),
        offences.join("\n")
    );
}
