//! A program names the commit that it was built from, and nothing else.

use std::process::Command;

use tests::{binary, skip};

use crate::{PROGRAMS, root, says};

fn short(program: &str) -> String {
    let line = says(Command::new(binary(program)).arg("-V"));
    line.trim().to_owned()
}

/// The commit in `NAME RELEASE (COMMIT)`.
fn commit(program: &str) -> String {
    let line = short(program);
    let begin = format!("{program} {} (", env!("CARGO_PKG_VERSION"));
    line.strip_prefix(&begin)
        .and_then(|rest| rest.strip_suffix(')'))
        .unwrap_or_else(|| panic!("`{line}` is not `{begin}COMMIT)`"))
        .to_owned()
}

#[test]
fn the_long_version_begins_with_the_short_one_and_names_target_compiler_and_tls() {
    for program in PROGRAMS {
        let long = says(Command::new(binary(program)).arg("--version"));

        let lines: Vec<&str> = long.lines().collect();
        assert_eq!(lines[0], short(program));
        assert!(lines[1].starts_with("target: "), "{long}");
        assert!(lines[2].starts_with("compiler: rustc 1."), "{long}");
        assert!(lines[3].contains("rustls 0.") && lines[3].contains("aws-lc-rs 1."));
    }
}

#[test]
fn a_commit_without_a_mark_has_the_very_sources_that_the_program_was_built_from() {
    let git = |arguments: &[&str]| {
        Command::new("git")
            .arg("--no-optional-locks")
            .args(arguments)
            .current_dir(root())
            .output()
            .is_ok_and(|output| output.status.success())
    };
    if !git(&["rev-parse", "HEAD"]) {
        skip("these sources are not in a git repository");
        return;
    }
    for (program, own) in [("sternline-relay", "relay"), ("sternline-agent", "agent")] {
        let commit = commit(program);
        if let Ok(told) = std::env::var("STERNLINE_COMMIT") {
            assert_eq!(commit, told);
            continue;
        }
        let object = format!("{}^{{commit}}", commit.trim_end_matches("-dirty"));
        assert!(git(&["cat-file", "-e", &object]), "{program}: {commit}");
        if commit.ends_with("-dirty") {
            continue;
        }
        let sources = [
            &format!("{own}/src"),
            "tunnel/src",
            "wire/src",
            "Cargo.lock",
        ];
        let mut diff = vec!["diff", "--quiet", &commit, "--"];
        diff.extend(sources.iter().map(|path| -> &str { path }));
        assert!(
            git(&diff),
            "{program} says {commit}, whose sources are others; is it built?"
        );
    }
}
