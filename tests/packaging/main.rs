//! The programs as they are delivered: statically linked, told apart by their commit,
//! documented, supervised by systemd, and in Debian packages.

mod deb;
mod documents;
mod names;
mod notify;
mod units;
mod version;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// Both programs.
const PROGRAMS: [&str; 2] = ["sternline-relay", "sternline-agent"];

/// The repository's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the root")
        .to_owned()
}

/// Whether a program is there, with the test skipped where it is not.
fn has(program: &str, package: &str) -> bool {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {program}")])
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        tests::skip(&format!("no {program}: install {package} (./test does)"));
    }
    found
}

/// What a command prints, having succeeded.
fn says(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
