//! Alerts, dashboard and runbook: they belong together, and use what is documented.

use std::collections::BTreeSet;

use serde_json::Value;
use tests::{document, promtool, root};

const ALERTS: &str = "ops/prometheus/alerts.yml";

/// Names of alerts, in order.
pub(crate) fn alerts() -> Vec<String> {
    let text = document(ALERTS);
    let names = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

/// Titles and queries of the dashboard's panels.
pub(crate) fn panels() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&document("ops/grafana/relay.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    panels
        .iter()
        .flat_map(|panel| {
            let title = panel["title"].as_str().expect("a title").to_owned();
            let targets = panel["targets"].as_array().cloned().unwrap_or_default();
            let expression = |target: Value| target["expr"].as_str().map(str::to_owned);
            let queries = targets.into_iter().filter_map(expression);
            queries
                .map(|query| (title.clone(), query))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Series of ours, or of every process, that a text names.
fn series(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))
        .filter(|word| word.starts_with("sternline_") || word.starts_with("process_"))
        .map(|word| {
            let ends = ["_bucket", "_count", "_sum"];
            let family = ends.iter().find_map(|end| word.strip_suffix(end));
            family.unwrap_or(word).to_owned()
        })
        .collect()
}

/// Series that docs/metrics.md has.
fn documented() -> BTreeSet<String> {
    let text = document("docs/metrics.md");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn alerts_and_panels_use_documented_series_and_every_series_has_a_panel() {
    let queries: String = panels()
        .iter()
        .map(|(_, query)| format!("{query}\n"))
        .collect();
    let mut used = series(&queries);
    let shown = used.clone();
    // Comments name other things.
    let rules: String = document(ALERTS)
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    used.extend(series(&rules));
    let documented = documented();

    let unknown: Vec<_> = used.difference(&documented).collect();
    let unseen: Vec<_> = documented.difference(&shown).collect();

    assert!(unknown.is_empty(), "not in docs/metrics.md: {unknown:?}");
    assert!(unseen.is_empty(), "on no panel: {unseen:?}");
}

#[test]
fn the_table_names_exactly_the_alerts_that_use_a_series() {
    let rules = document(ALERTS);
    let mut used: BTreeSet<(String, String)> = BTreeSet::new();
    for rule in rules.split("- alert: ").skip(1) {
        let alert = rule.lines().next().expect("a name").to_owned();
        let expression = rule.split("annotations:").next().unwrap_or_default();
        // Recorded figures stand for what they are made of.
        let recorded = expression.contains("sternline:agents_connected:ratio");
        let made_of = if recorded {
            "sternline_relay_sessions sternline_relay_environments"
        } else {
            ""
        };
        for name in series(&format!("{expression} {made_of}")) {
            used.insert((name, alert.clone()));
        }
    }
    let table = document("docs/metrics.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let named: BTreeSet<(String, String)> = rows
        .flat_map(|row| {
            let name = row.split('`').next().unwrap_or_default().to_owned();
            let links = row.split("[Sternline").skip(1);
            let alerts =
                links.filter_map(|link| Some(format!("Sternline{}", link.split(']').next()?)));
            alerts
                .map(|alert| (name.clone(), alert))
                .collect::<Vec<_>>()
        })
        .collect();

    assert_eq!(named, used, "left: docs/metrics.md, right: {ALERTS}");
}

#[test]
fn the_runbook_has_an_entry_for_every_alert_and_for_nothing_else() {
    let runbook = document("docs/runbook.md");
    let entries: Vec<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();

    assert_eq!(entries, alerts(), "left: docs/runbook.md, right: {ALERTS}");
    let rules = document(ALERTS);
    for entry in runbook.split("\n## ").skip(1) {
        let name = entry.lines().next().expect("a heading");
        for part in ["**Means.**", "**Look.**", "**Do.**"] {
            assert!(entry.contains(part), "{name} lacks {part}");
        }
        let link = format!("docs/runbook.md#{}\n", name.to_ascii_lowercase());
        assert!(rules.contains(&link), "{name} does not link to its entry");
    }
}

#[tokio::test]
async fn promtool_finds_nothing_to_say_about_the_rules_and_every_alert_has_its_cases() {
    let path = |file: &str| root().join(file).display().to_string();
    let cases = document("ops/prometheus/alerts.test.yml");
    for alert in alerts() {
        for case in ["fires", "is quiet"] {
            let name = format!("name: {alert} {case}\n");
            assert!(
                cases.contains(&name),
                "{alert} has no case in which it {case}"
            );
        }
    }

    let Some(checked) = promtool(&["check", "rules", &path(ALERTS)], None).await else {
        return;
    };
    let cases = path("ops/prometheus/alerts.test.yml");
    let tested = promtool(&["test", "rules", &cases], None).await;

    checked.success();
    tested.expect("it is installed").success();
}
