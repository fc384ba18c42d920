//! Completions and man pages: loaded by the shell and rendered by groff, as a person
//! who has installed them does.

use std::{fs, process::Command};

use tests::binary;

use crate::{PROGRAMS, has, says};

/// What bash offers for the last word of a line.
fn completed(program: &str, words: &[&str]) -> String {
    let path = binary(program).display().to_string();
    let last = words.last().expect("a word to complete");
    let line = format!(
        "source <({path} completions bash)\n\
         COMP_WORDS=({program} {}); COMP_CWORD={}\n\
         offer=$(complete -p {program} | sed 's/.* -F \\([^ ]*\\) .*/\\1/')\n\
         \"$offer\" {program} '{last}' ''\n\
         echo \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words.len()
    );
    says(Command::new("bash").args(["-c", &line]))
}

/// Programs with a manual.
const DOCUMENTED: [&str; 3] = [PROGRAMS[0], PROGRAMS[1], "sternline-probe"];

#[test]
fn bash_completes_commands_and_their_options() {
    if !has("bash", "bash") {
        return;
    }

    assert_eq!(completed("sternline-relay", &["exp"]).trim(), "expose");
    assert_eq!(
        completed("sternline-relay", &["env", "rel"]).trim(),
        "release"
    );
    assert_eq!(
        completed("sternline-agent", &["run", "--tok"]).trim(),
        "--token --token-file"
    );
    assert_eq!(completed("sternline-probe", &["ver"]).trim(), "verify");
}

#[test]
fn every_shell_has_completions() {
    for program in DOCUMENTED {
        for (shell, begins) in [("zsh", "#compdef"), ("fish", "#"), ("bash", "_")] {
            let text = says(Command::new(binary(program)).args(["completions", shell]));

            assert!(text.starts_with(begins), "{shell}: {}", &text[..40]);
            assert!(text.contains(program));
        }
    }
}

#[test]
fn every_command_has_a_man_page_that_renders_without_a_warning() {
    if !has("groff", "groff-base") {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    for program in DOCUMENTED {
        says(Command::new(binary(program)).arg("man").arg(folder.path()));
    }

    let mut names = Vec::new();
    for page in fs::read_dir(folder.path()).expect("it was made") {
        let path = page.expect("it can be read").path();
        let rendered = Command::new("groff")
            .args(["-ww", "-Kutf8", "-man", "-Tutf8"])
            .arg(&path)
            .output()
            .expect("groff runs");
        let warnings = String::from_utf8_lossy(&rendered.stderr).into_owned();
        assert!(warnings.is_empty(), "{}: {warnings}", path.display());
        assert!(rendered.stdout.len() > 300, "{} is empty", path.display());
        names.push(
            path.file_name()
                .expect("a file")
                .to_string_lossy()
                .into_owned(),
        );
    }

    for name in [
        "sternline-agent-run.1",
        "sternline-probe-verify.1",
        "sternline-probe.1",
        "sternline-relay-env-add.1",
        "sternline-relay.1",
    ] {
        assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
    }
}
