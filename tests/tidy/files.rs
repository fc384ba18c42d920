//! Files: their size, their opening, their names, and words that must not be in them.

use crate::sources::{self, none};

const LINES_MAX: usize = 600;
const MAIN_LINES_MAX: usize = 80;
const COLUMNS_MAX: usize = 100;

#[test]
fn every_file_begins_with_what_it_is_for() {
    let offences: Vec<String> = sources::rust()
        .into_iter()
        .filter(|file| {
            !file
                .text
                .trim_start_matches("#![no_main]")
                .trim_start()
                .starts_with("//!")
        })
        .map(|file| format!("{}: does not begin with //!", file.path))
        .collect();

    none(&offences);
}

#[test]
fn no_file_is_longer_than_a_person_reads() {
    let offences: Vec<String> = sources::rust()
        .into_iter()
        .filter_map(|file| {
            let lines = file.text.lines().count();
            let is_main = file.path.ends_with("src/main.rs");
            let most = if is_main { MAIN_LINES_MAX } else { LINES_MAX };
            (lines > most).then(|| format!("{}: {lines} lines, at most {most}", file.path))
        })
        .collect();

    none(&offences);
}

#[test]
fn no_line_is_wider_than_rustfmt_would_make_it() {
    let mut offences = Vec::new();
    for file in sources::rust() {
        for (number, line) in file.text.lines().enumerate() {
            // A long string cannot be broken without changing it.
            if line.chars().count() > COLUMNS_MAX && !line.contains('"') {
                offences.push(format!(
                    "{}:{}: wider than {COLUMNS_MAX}",
                    file.path,
                    number + 1
                ));
            }
        }
    }

    none(&offences);
}

#[test]
fn no_module_has_a_name_that_says_nothing() {
    let empty_names = [
        "manager",
        "helper",
        "helpers",
        "util",
        "utils",
        "common",
        "misc",
        "data",
        "info",
        "handler2",
        "types",
        "constants",
    ];
    let offences: Vec<String> = sources::rust()
        .into_iter()
        .filter(|file| {
            file.path
                .trim_end_matches(".rs")
                .split('/')
                .any(|part| empty_names.contains(&part))
        })
        .map(|file| format!("{}: name it by its noun", file.path))
        .collect();

    none(&offences);
}

#[test]
fn nothing_is_left_for_later() {
    // Written apart, so that this file does not find itself.
    let words = [
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("dbg", "!("),
    ];
    let mut offences = Vec::new();
    for file in sources::rust() {
        for word in words {
            if file.text.contains(word) {
                offences.push(format!("{}: {word}", file.path));
            }
        }
    }

    none(&offences);
}

#[test]
fn tests_wait_for_things_and_not_for_time() {
    let waits = [concat!("time::", "sleep"), concat!("thread::", "sleep")];
    let mut offences = Vec::new();
    for file in sources::rust() {
        let is_test = file.path.starts_with("tests/")
            || file.path.contains("/tests/")
            || file.path.ends_with("/tests.rs");
        // The one fixture in which time passes by itself.
        if !is_test || file.path == "tests/src/eventually.rs" {
            continue;
        }
        for wait in waits {
            if file.text.contains(wait) {
                offences.push(format!("{}: {wait}: use `eventually`", file.path));
            }
        }
    }

    none(&offences);
}

#[test]
fn nothing_is_ignored() {
    // Generated, and so neither documented nor written in the house style.
    let generated = ["wire/src/message.rs"];
    let words = [
        concat!("#[ig", "nore"),
        concat!("#[al", "low("),
        concat!("#![al", "low("),
    ];
    let mut offences = Vec::new();
    for file in sources::rust()
        .iter()
        .filter(|file| !generated.contains(&file.path.as_str()))
    {
        for (number, line) in file.text.lines().enumerate() {
            if words.iter().any(|word| line.trim_start().starts_with(word)) {
                offences.push(format!("{}:{}: {}", file.path, number + 1, line.trim()));
            }
        }
    }

    none(&offences);
}

#[test]
fn nothing_tells_of_the_machine_it_was_written_on() {
    let traces = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/tmp/", "plan"),
    ];
    let mut offences = Vec::new();
    for file in sources::rust() {
        for trace in traces {
            if file.text.contains(trace) {
                offences.push(format!("{}: {trace}", file.path));
            }
        }
    }

    none(&offences);
}
