//! Documents: what must be there, how long it may be, and whether it still tells
//! the truth.

use std::collections::BTreeSet;

use crate::sources::{self, none, read};

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
        "relay/openapi.json",
    ] {
        assert!(read(path).lines().count() > 15, "{path} is nearly empty");
    }
}

#[test]
fn the_architecture_is_read_in_one_sitting() {
    let lines = read("ARCHITECTURE.md").lines().count();

    assert!(
        lines <= 300,
        "ARCHITECTURE.md has {lines} lines, at most 300"
    );
}

#[test]
fn the_readme_lists_exactly_the_metrics_there_are() {
    let declared: BTreeSet<String> = sources::rust()
        .iter()
        .filter(|file| file.path.starts_with("relay/src/"))
        .flat_map(|file| metric_names(&file.text))
        .collect();
    let listed: BTreeSet<String> = read("README.md")
        .lines()
        .filter(|line| line.starts_with("| `sternline_relay_"))
        .flat_map(metric_names)
        .collect();

    assert!(!declared.is_empty(), "no metric is declared in relay/src");
    assert_eq!(listed, declared, "left: README.md, right: relay/src");
}

/// Names of metric families in quotes or backticks.
fn metric_names(text: &str) -> Vec<String> {
    text.split(['"', '`'])
        .filter_map(|word| word.strip_prefix("sternline_relay_"))
        .filter(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        .map(|rest| format!("sternline_relay_{rest}"))
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
    ] {
        for target in read(path)
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") && !sources::root().join(file).exists() {
                offences.push(format!("{path}: {target}"));
            }
        }
    }

    none(&offences);
}
