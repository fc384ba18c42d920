//! The direction of imports: crates by cargo's own account, modules by their `crate::`
//! paths. Nothing imports upwards, nothing imports beside itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

use crate::sources::{self, none, root};

/// Our crates, and which of ours each may import.
const CRATES: [(&str, &[&str]); 10] = [
    ("wire", &[]),
    ("compose", &[]),
    ("netsim-core", &[]),
    ("tunnel", &["wire"]),
    ("probe", &["tunnel", "wire"]),
    ("relay", &["compose", "probe", "tunnel", "wire"]),
    ("agent", &["compose", "probe", "tunnel", "wire"]),
    (
        "netsim",
        &["agent", "netsim-core", "probe", "relay", "tunnel", "wire"],
    ),
    ("benches", &["agent", "relay", "tunnel", "wire"]),
    ("tests", &["agent", "relay", "tunnel", "wire"]),
];

/// What may never be under `wire`: runtimes, sockets, clocks, randomness, TLS.
const IMPURE: [&str; 20] = [
    "async-std",
    "aws-lc-rs",
    "chrono",
    "fastrand",
    "futures-util",
    "getrandom",
    "hyper",
    "jiff",
    "libc",
    "mio",
    "openssl",
    "quinn",
    "rand",
    "rand_core",
    "rustix",
    "rustls",
    "smol",
    "socket2",
    "time",
    "tokio",
];

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo runs where it built this");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

#[test]
fn crates_import_downwards_only() {
    let metadata = cargo(&[
        "metadata",
        "--format-version",
        "1",
        "--no-deps",
        "--locked",
        "--offline",
    ]);
    let metadata: Value = serde_json::from_str(&metadata).expect("cargo prints JSON");

    let mut seen = BTreeSet::new();
    let mut offences = Vec::new();
    for package in metadata["packages"].as_array().expect("a list of packages") {
        let name = package["name"].as_str().expect("a name");
        let Some((_, allowed)) = CRATES.iter().find(|(known, _)| *known == name) else {
            offences.push(format!("{name}: has no floor in tests/tidy/floors.rs"));
            continue;
        };
        seen.insert(name);
        for dependency in package["dependencies"]
            .as_array()
            .expect("a list of dependencies")
        {
            let on = dependency["name"].as_str().expect("a name");
            let is_ours = CRATES.iter().any(|(known, _)| *known == on);
            // A test of a lower crate may use what stands above it.
            let is_for_tests = dependency["kind"] == "dev";
            if is_ours && !is_for_tests && !allowed.contains(&on) {
                offences.push(format!("{name} imports {on}"));
            }
        }
    }

    none(&offences);
    assert_eq!(seen.len(), CRATES.len(), "a crate is gone: {seen:?}");
}

#[test]
fn pure_crates_stand_on_nothing_that_has_a_clock_a_socket_or_dice() {
    for (name, known) in [("wire", "bytes"), ("netsim-core", "smoltcp")] {
        pure(name, known);
    }
}

/// Fails where a crate stands on something impure; `known` shows that its tree was read.
fn pure(name: &str, known: &str) {
    let tree = cargo(&[
        "tree",
        "-p",
        name,
        "-e",
        "normal",
        "--prefix",
        "none",
        "--locked",
        "--offline",
    ]);
    let below: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();

    let impure: Vec<&&str> = IMPURE
        .iter()
        .filter(|name| below.contains(**name))
        .collect();

    assert!(below.contains(known), "the tree was not read: {tree}");
    assert!(impure.is_empty(), "{name} depends on {impure:?}");
}

#[test]
fn pure_crates_ask_nobody_what_time_it_is() {
    let pure = ["wire/src/", "netsim/core/src/"];
    let calls = [
        "Instant::now",
        "SystemTime::now",
        "std::thread",
        "std::fs",
        "std::process",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "HashMap",
        "HashSet",
        "std::env::",
    ];
    let mut offences = Vec::new();
    for file in sources::rust()
        .iter()
        .filter(|file| pure.iter().any(|folder| file.path.starts_with(folder)))
    {
        let is_test = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for call in calls
            .iter()
            .filter(|call| !is_test && code.contains(**call))
        {
            offences.push(format!("{}: {call}", file.path));
        }
    }

    none(&offences);
}

#[test]
fn one_stack_of_each_kind_is_built() {
    let banned = ["openssl", "openssl-sys", "native-tls", "ring", "async-std"];

    let tree = cargo(&[
        "tree",
        "--workspace",
        "-e",
        "normal,build",
        "--prefix",
        "none",
        "--locked",
        "--offline",
    ]);

    let built: BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let offences: Vec<&&str> = banned
        .iter()
        .filter(|name| built.contains(**name))
        .collect();
    assert!(offences.is_empty(), "{offences:?} are built: see deny.toml");
}

#[test]
fn layers_of_the_relay_do_not_know_each_others_trade() {
    let rules: [(&str, &[&str]); 4] = [
        ("relay/src/control", &["axum", "sqlx", "http::", "hyper"]),
        (
            "relay/src/http",
            &["sqlx", "crate::store", "crate::registry"],
        ),
        (
            "relay/src/store",
            &[
                "axum",
                "crate::registry",
                "crate::session",
                "crate::control",
            ],
        ),
        (
            "relay/src/cli",
            &["sqlx", "crate::store", "crate::control", "crate::registry"],
        ),
    ];
    let mut offences = Vec::new();
    for file in sources::rust() {
        for (folder, foreign) in rules {
            if !file.path.starts_with(folder) {
                continue;
            }
            for line in file
                .text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"))
            {
                let named = foreign.iter().find(|word| names(line, word));
                if let Some(word) = named {
                    offences.push(format!("{}: {word}: {}", file.path, line.trim()));
                }
            }
        }
    }

    none(&offences);
}

/// Whether a line of code has `word` as a path's beginning.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '"')
    })
}

#[test]
fn modules_import_downwards_only() {
    let mut offences = Vec::new();
    for (name, _) in CRATES {
        let mut imports = imports_of(name);
        // What imports nothing that is left stands on the next floor; what is left
        // in the end imports itself by some way round.
        loop {
            let floor: Vec<String> = imports
                .iter()
                .filter(|(_, below)| below.iter().all(|module| !imports.contains_key(module)))
                .map(|(module, _)| module.clone())
                .collect();
            if floor.is_empty() {
                break;
            }
            imports.retain(|module, _| !floor.contains(module));
        }
        for (module, below) in &imports {
            let around: Vec<&String> = below
                .iter()
                .filter(|below| imports.contains_key(*below))
                .collect();
            offences.push(format!("{name}::{module} is in a circle with {around:?}"));
        }
    }

    none(&offences);
}

/// A crate's modules at its root, and which of the others each imports.
fn imports_of(name: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in sources::rust() {
        // `netsim-core` is in `netsim/core`.
        let folder = name.replace('-', "/");
        let Some(inside) = file.path.strip_prefix(&format!("{folder}/src/")) else {
            continue;
        };
        let module = inside
            .split(['/', '.'])
            .next()
            .unwrap_or_default()
            .to_owned();
        // The roof of a crate may see all of it; tests may look down from anywhere.
        let is_test = inside.ends_with("/tests.rs");
        if matches!(module.as_str(), "lib" | "main" | "bin") || is_test {
            continue;
        }
        let code = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        let mut imports = crate_paths(code);
        imports.remove(&module);
        found.entry(module).or_default().extend(imports);
    }
    found
}

/// First segments of every `crate::` path in the text.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| [line, "\n"])
        .collect();
    for (at, prefix) in code.match_indices("crate::") {
        let rest = &code[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0_i32;
            let mut start = true;
            for (index, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => start = true,
                    c if start && depth == 0 && (c.is_alphabetic() || c == '_') => {
                        found.insert(identifier(&group[index..]));
                        start = false;
                    }
                    _ => {}
                }
            }
        } else {
            found.insert(identifier(rest));
        }
    }
    found
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn the_reader_of_paths_sees_groups_and_ignores_comments() {
    let text = "use crate::{a::{b, c}, d as e,\n    f};\n// crate::g\nlet x = crate::h::i();";

    let found: Vec<String> = crate_paths(text).into_iter().collect();

    assert_eq!(found, ["a", "d", "f", "h"]);
}
