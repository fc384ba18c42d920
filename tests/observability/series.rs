//! The table of series, against a relay that runs.

use std::collections::{BTreeMap, BTreeSet};

use tests::{SOON, document, eventually};

use crate::{
    page::{self, Family, Labels},
    site::Site,
};

/// A row of the table in docs/metrics.md.
#[derive(Debug, Default)]
struct Row {
    kind: String,
    labels: Labels,
}

/// Labels whose values are texts of their own.
const FREE: [&str; 5] = ["commit", "environment", "environment_id", "le", "version"];

/// Rows by name: `` | `name` | kind | label: `value` `value`; label: … | meaning | alerts | ``.
fn table() -> BTreeMap<String, Row> {
    document("docs/metrics.md")
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split(" | ");
            let name = cells.next()?.trim_end_matches('`').to_owned();
            let kind = cells.next()?.to_owned();
            let labels = cells.next()?.split(';').filter_map(|one| {
                let (label, values) = one.split_once(':')?;
                let values = values.split('`').skip(1).step_by(2).map(str::to_owned);
                Some((label.trim().to_owned(), values.collect()))
            });
            let labels = labels.collect();
            Some((name, Row { kind, labels }))
        })
        .collect()
}

async fn shown(site: &Site) -> BTreeMap<String, Family> {
    let mut families = page::families(&site.relay.page("metrics").await);
    let environments = site.relay.page("metrics/environments").await;
    families.extend(page::families(&environments));
    families
}

/// What nothing here brings about, and where else it is tested.
const ELSEWHERE: [(&str, &str); 27] = [
    (
        "sternline_environment_agent_docker_up",
        "relay::metrics::environment",
    ),
    ("sternline_environment_held", "relay::metrics::environment"),
    (
        "sternline_environments_left_out",
        "relay::metrics::environment",
    ),
    (
        "sternline_relay_accept_queue_connections",
        "relay::metrics::accept_queue",
    ),
    ("sternline_relay_admission_permits_used", "relay::metrics"),
    ("sternline_relay_admission_slot_seconds", "relay::metrics"),
    ("sternline_relay_admission_slots_booked", "relay::metrics"),
    ("sternline_relay_bulk_lanes", "tests::it::bulk"),
    (
        "sternline_relay_certificate_reloads_total",
        "tests::it::tls",
    ),
    (
        "sternline_relay_intercepted_sessions_total",
        "netsim::sim::tests::proxies",
    ),
    ("sternline_relay_connections_lost_total", "relay::registry"),
    ("sternline_relay_panics_total", "relay::metrics"),
    ("sternline_relay_resumes_total", "tests::it::resume"),
    (
        "sternline_relay_policy_refusals_total",
        "tests::docker::policy",
    ),
    ("sternline_relay_probe_requests_total", "tests::it::probe"),
    ("sternline_relay_probe_sockets_open", "relay::probe"),
    ("sternline_relay_session_queue_bytes", "relay::metrics"),
    ("sternline_relay_sessions_stalled", "relay::metrics"),
    ("sternline_relay_sessions_waiting", "relay::registry"),
    ("sternline_relay_sessions_waiting_bytes", "relay::registry"),
    (
        "sternline_relay_stack_deployment_duration_seconds",
        "relay::metrics",
    ),
    ("sternline_relay_stack_deployments_total", "relay::metrics"),
    ("sternline_relay_stack_troubles_total", "relay::metrics"),
    ("sternline_relay_stacks", "relay::metrics"),
    ("sternline_relay_stacks_drifted", "relay::metrics"),
    ("sternline_relay_stacks_overdue", "relay::metrics"),
    ("sternline_relay_store_failures_total", "tests::it::disk"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_series_is_in_the_table_and_moves_when_what_it_counts_happens() {
    let site = Site::start().await;
    let table = table();
    assert!(table.len() > 40, "the table was not read: {table:?}");
    let still: BTreeSet<&str> = ELSEWHERE.iter().map(|(name, _)| *name).collect();

    let mut waited_for = Vec::new();
    eventually(
        "every series but those tested elsewhere moves",
        SOON * 3,
        async || {
            let families = shown(&site).await;
            let moved = |name: &str| families.get(name).is_some_and(|family| family.has_moved);
            let names = table.keys().map(String::as_str);
            let missing: Vec<&str> = names
                .filter(|name| !still.contains(name) && !moved(name))
                .collect();
            if missing != waited_for {
                eprintln!("waiting for {missing:?}");
                waited_for.clone_from(&missing);
            }
            missing.is_empty().then_some(())
        },
    )
    .await;

    let families = shown(&site).await;
    let listed: Vec<&String> = table.keys().collect();
    let there: Vec<&String> = families.keys().collect();
    assert_eq!(listed, there, "left: docs/metrics.md, right: the relay");
    for (name, family) in &families {
        let row = &table[name];
        assert_eq!(row.kind, family.kind, "{name}");
        for (label, values) in &family.labels {
            let is_free = FREE.contains(&label.as_str());
            let known = row.labels.get(label);
            let documented = known.is_some() || label == "le";
            assert!(documented, "{name} has the label {label}");
            let unknown: Vec<_> = values
                .iter()
                .filter(|value| !is_free && known.is_none_or(|known| !known.contains(*value)))
                .collect();
            assert!(unknown.is_empty(), "{name}: {label} is {unknown:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_label_names_an_environment_but_where_the_configuration_says_so() {
    let site = Site::start().await;
    let environment = site.relay.environment("acme").await;
    let [id, agent] = [&environment["id"], &environment["agent"]["id"]];
    let id = id.as_str().expect("an id");

    let page = site.relay.page("metrics").await;
    let environments = site.relay.page("metrics/environments").await;

    assert!(!page.contains("acme") && !page.contains(id), "{page}");
    let up = format!("sternline_environment_up{{environment=\"acme\",environment_id=\"{id}\"}} 1");
    assert!(environments.contains(&up), "{environments}");
    let waiting = "sternline_environment_up{environment=\"nobody\"";
    assert!(
        !environments.contains(waiting),
        "nobody enrolled, and is down"
    );
    let agent = agent.as_str().expect("an id");
    assert!(!environments.contains(agent), "{environments}");
}
