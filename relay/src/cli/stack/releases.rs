//! `history` and `diff`: releases of a stack.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::cli::{
    api,
    client::Client,
    failure::Failure,
    human,
    name::StackName,
    output::{self, BOLD, DIM, Format, GREEN, PLAIN, RED},
    table::{Cell, Table},
};

/// Characters of a digest that people are shown.
const DIGEST_SHOWN: usize = 12;
/// Lines around a change.
const CONTEXT: usize = 2;

#[derive(Debug, Deserialize)]
struct Release {
    number: u64,
    digest: String,
    author: String,
    #[serde(default)]
    note: String,
    created_at: String,
    #[serde(default)]
    pins: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Deployment {
    environment: String,
    release: Option<u64>,
    state: String,
}

#[derive(Debug, Deserialize)]
struct Difference {
    files: Vec<FileDiff>,
    variables: Vec<ValueDiff>,
    secrets_removed: Vec<String>,
    secrets_added: Vec<String>,
    profiles: Option<(Vec<String>, Vec<String>)>,
    pins: Vec<ValueDiff>,
}

#[derive(Debug, Deserialize)]
struct FileDiff {
    path: String,
    change: String,
    before: Option<String>,
    after: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ValueDiff {
    name: String,
    before: Option<String>,
    after: Option<String>,
}

/// Lists the releases of a stack, and where each shall run.
pub(super) async fn history(
    client: &Client,
    stack: &StackName,
    format: Format,
) -> Result<(), Failure> {
    let answer = client
        .get(&["stacks", stack.as_str(), "releases"], &[])
        .await?;
    if format == Format::Json {
        return output::print_json(&answer);
    }
    let releases: Vec<Release> = api::read_list(&answer, "releases")?;
    let which = [("stack", stack.as_str().to_owned())];
    let places = client.get(&["deployments"], &which).await?;
    let places: Vec<Deployment> = api::read_list(&places, "deployments")?;
    let headings = [
        "RELEASE",
        "DIGEST",
        "MADE",
        "BY",
        "IMAGES PINNED",
        "WHERE",
        "NOTE",
    ];
    let mut table = Table::new(&headings);
    for release in &releases {
        let here = places
            .iter()
            .filter(|place| place.release == Some(release.number));
        let here = here.map(|place| {
            format!(
                "{} ({})",
                human::printable(&place.environment),
                human::printable(&place.state)
            )
        });
        let digest = release.digest.trim_start_matches("sha256:");
        let short: String = digest.chars().take(DIGEST_SHOWN).collect();
        table.row(vec![
            Cell::styled(format!("r{}", release.number), BOLD),
            human::printable(&short).into(),
            human::moment(&release.created_at).into(),
            human::printable(&release.author).into(),
            release.pins.len().to_string().into(),
            here.collect::<Vec<_>>().join(", ").into(),
            human::printable(&release.note).into(),
        ]);
    }
    output::print(&table.render())
}

/// Shows what is different between two releases.
pub(super) async fn diff(
    client: &Client,
    (stack, from, to): (&StackName, u64, u64),
    format: Format,
) -> Result<(), Failure> {
    let query = [("from", from.to_string()), ("to", to.to_string())];
    let answer = client
        .get(&["stacks", stack.as_str(), "diff"], &query)
        .await?;
    if format == Format::Json {
        return output::print_json(&answer);
    }
    let difference: Difference = api::read(&answer)?;
    let mut text = String::new();
    for file in &difference.files {
        text.push_str(&file_text(file));
    }
    for (what, values) in [
        ("variable", &difference.variables),
        ("image", &difference.pins),
    ] {
        for value in values {
            let name = human::printable(&value.name);
            text.push_str(&format!("{BOLD}{what} {name}{PLAIN}\n"));
            text.push_str(&lines_text(
                RED,
                "-",
                value.before.as_deref().unwrap_or_default(),
            ));
            text.push_str(&lines_text(
                GREEN,
                "+",
                value.after.as_deref().unwrap_or_default(),
            ));
        }
    }
    for (colour, sign, names) in [
        (RED, "-", &difference.secrets_removed),
        (GREEN, "+", &difference.secrets_added),
    ] {
        for name in names {
            let name = human::printable(name);
            text.push_str(&format!("{colour}{sign} secret {name}{PLAIN}\n"));
        }
    }
    if let Some((before, after)) = &difference.profiles {
        text.push_str(&format!("{BOLD}profiles{PLAIN}\n"));
        text.push_str(&lines_text(RED, "-", &before.join(" ")));
        text.push_str(&lines_text(GREEN, "+", &after.join(" ")));
    }
    if text.is_empty() {
        output::note("They are the same.");
        return Ok(());
    }
    output::print(&text)
}

fn lines_text(colour: &str, sign: &str, text: &str) -> String {
    let lines = text.lines().map(|line| {
        let line = human::printable(line);
        format!("{colour}{sign} {line}{PLAIN}\n")
    });
    lines.collect()
}

fn file_text(file: &FileDiff) -> String {
    let path = human::printable(&file.path);
    let change = human::printable(&file.change);
    let mut text = format!("{BOLD}{path}{PLAIN} {DIM}{change}{PLAIN}\n");
    if let (Some(before), Some(after)) = (&file.before, &file.after) {
        text.push_str(&changed_lines(before, after));
    }
    text
}

/// What is between the lines that both begin and end with, and a little around it.
fn changed_lines(before: &str, after: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let rest = a.len().min(b.len()) - same;
    let ends = a.iter().rev().zip(b.iter().rev());
    let same_end = ends.take(rest).take_while(|(a, b)| a == b).count();
    let mut text = String::new();
    let around = |lines: &[&str]| -> String {
        lines
            .iter()
            .map(|line| format!("  {}\n", human::printable(line)))
            .collect()
    };
    text.push_str(&around(&a[same.saturating_sub(CONTEXT)..same]));
    text.push_str(&lines_text(
        RED,
        "-",
        &a[same..a.len() - same_end].join("\n"),
    ));
    text.push_str(&lines_text(
        GREEN,
        "+",
        &b[same..b.len() - same_end].join("\n"),
    ));
    let end = a.len() - same_end;
    text.push_str(&around(&a[end..a.len().min(end + CONTEXT)]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_differ_are_shown_as_changed() {
        let before = "a\nb\nc\nd\ne\n";
        let after = "a\nb\nX\nd\ne\n";

        let text = output::without_colour(&changed_lines(before, after));

        assert_eq!(text, "  a\n  b\n- c\n+ X\n  d\n  e\n");
    }

    #[test]
    fn lines_that_are_added_or_removed_are_told_apart() {
        let added = output::without_colour(&changed_lines("a\n", "a\nb\n"));
        let removed = output::without_colour(&changed_lines("a\na\n", "a\n"));

        assert_eq!(added, "  a\n+ b\n");
        assert_eq!(removed, "  a\n- a\n");
    }
}
