//! Documents: what must be there, how long it may be, and whether it still tells
//! the truth.

use std::collections::BTreeSet;

use crate::sources::{self, none, read, root};

#[test]
fn every_document_a_reader_expects_is_there() {
    for path in [
        "README.md",
        "ARCHITECTURE.md",
        "PROTOCOL.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "deny.toml",
        "docs/metrics.md",
        "docs/netsim.md",
        "docs/netsim-scenarios.md",
        "docs/runbook.md",
        "relay/openapi.json",
    ] {
        assert!(read(path).lines().count() > 15, "{path} is nearly empty");
    }
}

#[test]
fn the_scenarios_and_tests_that_stand_against_failures_of_others_are_there() {
    let (document, code) = (read("docs/rivals.md"), sources::rust());
    let rows = document
        .lines()
        .filter(|line| line.contains(" #") || line.contains(" PR "));
    let shown: Vec<&str> = rows.filter_map(|row| row.split(" | ").nth(1)).collect();
    let is_there = |name: &&str| {
        let test = format!("fn {}", name.trim_end_matches('…'));
        root().join(name).is_dir()
            || root().join(format!("{name}.rs")).is_file()
            || root()
                .join(format!("netsim/scenarios/{name}.toml"))
                .is_file()
            || code.iter().any(|file| file.text.contains(&test))
    };

    assert_eq!(shown.len(), 12, "{shown:?}");
    for words in shown {
        // `Upgrade` and the like are of the first column.
        let names: Vec<&str> = words.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "nothing shows it: {words}");
        let missing: Vec<_> = names.iter().filter(|name| !is_there(name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}

#[test]
fn the_architecture_is_read_in_one_sitting() {
    let lines = read("ARCHITECTURE.md").lines().count();

    assert!(
        lines <= 330,
        "ARCHITECTURE.md has {lines} lines, at most 330"
    );
}

#[test]
fn the_table_of_metrics_lists_exactly_those_there_are() {
    let declared: BTreeSet<String> = sources::rust()
        .iter()
        .filter(|file| file.path.starts_with("relay/src/metrics"))
        .flat_map(|file| declared_metrics(&file.text))
        .collect();
    let listed: BTreeSet<String> = read("docs/metrics.md")
        .lines()
        .filter(|line| line.starts_with("| `sternline_relay_"))
        .filter_map(|line| line.split('`').nth(1).map(str::to_owned))
        .collect();

    assert!(
        declared.len() > 25,
        "the declarations were not read: {declared:?}"
    );
    assert_eq!(
        listed, declared,
        "left: docs/metrics.md, right: relay/src/metrics"
    );
}

/// Names that are declared: the first text after each `declare.kind(`, and after each
/// `gauges_at_scrape(`.
fn declared_metrics(code: &str) -> BTreeSet<String> {
    let declared = code.split("declare.").skip(1);
    let at_scrape = code.split("gauges_at_scrape").skip(1);
    declared
        .chain(at_scrape)
        .filter_map(|rest| {
            rest.split_once('(')?
                .1
                .trim_start()
                .strip_prefix('"')?
                .split('"')
                .next()
        })
        .map(|name| format!("sternline_relay_{name}"))
        .collect()
}

#[test]
fn the_readme_lists_exactly_the_keys_of_the_relays_configuration() {
    let code = read("relay/src/config/key.rs");
    let (_, keys) = code
        .split_once("pub const KEYS")
        .expect("the table of keys");
    let declared: BTreeSet<String> = keys
        .split("key(")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
        .map(str::to_owned)
        .collect();

    assert!(declared.len() > 10, "the keys were not read: {declared:?}");
    assert_eq!(
        table("### Relay"),
        declared,
        "left: README.md, right: key.rs"
    );
}

#[test]
fn the_readme_lists_exactly_the_keys_of_the_agents_configuration() {
    let code = read("agent/src/config.rs");
    let (_, keys) = code.split_once("const KEYS").expect("the list of keys");
    let (keys, _) = keys.split_once("];").expect("its end");
    let declared: BTreeSet<String> = keys
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect();

    assert!(declared.len() > 5, "the keys were not read: {declared:?}");
    assert_eq!(
        table("### Agent"),
        declared,
        "left: README.md, right: config.rs"
    );
}

/// First cells, in backticks, of the table under a heading of the README.
fn table(heading: &str) -> BTreeSet<String> {
    let readme = read("README.md");
    let (_, section) = readme.split_once(heading).expect("the heading");
    section
        .lines()
        .take_while(|line| !line.starts_with("##"))
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_code_of_the_protocol_is_described() {
    let protocol = read("PROTOCOL.md");
    let close = wire::close::CloseCode::ALL.iter().map(|code| code.as_str());
    let reset = wire::close::ResetCode::ALL.iter().map(|code| code.as_str());
    let refusal = wire::close::RefusalCode::ALL
        .iter()
        .map(|code| code.as_str());

    let missing: Vec<String> = close
        .chain(reset)
        .chain(refusal)
        .filter(|code| !protocol.contains(&format!("`{code}`")))
        .map(|code| format!("PROTOCOL.md does not describe `{code}`"))
        .collect();

    none(&missing);
}

#[test]
fn links_inside_the_repository_lead_somewhere() {
    let mut offences = Vec::new();
    for path in [
        "README.md",
        "ARCHITECTURE.md",
        "PROTOCOL.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "docs/metrics.md",
        "docs/netsim.md",
        "docs/netsim-scenarios.md",
        "docs/runbook.md",
    ] {
        let folder = root().join(path);
        let folder = folder.parent().expect("a file is in a folder");
        for target in read(path)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !folder.join(file).exists() {
                offences.push(format!("{path}: {target}"));
            }
        }
    }

    none(&offences);
}
