//! The program as a person runs it, and whether its lab can be had here.

use std::{path::Path, process::Command};

use netsim::lab;

/// Why no lab can be run here; where nothing may be skipped, that is a failure.
pub(crate) fn is_missing(test: &str) -> bool {
    let Err(missing) = lab::preflight() else {
        return false;
    };
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let missing = missing.join("; ");
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!is_ci, "{test}: {missing}");
    eprintln!("skipped: {test}: {missing}");
    true
}

/// The program, with those that it runs beside it, wherever a test runner puts what it was
/// given.
pub(crate) fn program() -> Command {
    let program = env!("CARGO_BIN_EXE_sternline-netsim");
    let beside = Path::new(program).parent().expect("a folder");
    let mut command = Command::new(program);
    command.env("STERNLINE_PROGRAMS", beside);
    command
}
