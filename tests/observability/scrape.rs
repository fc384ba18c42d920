//! A real Prometheus scrapes a real relay, and everything that asks it gets answers.

use std::{fs, time::Duration};

use tests::{Prometheus, SOON, eventually, exchange, promtool, root};

use crate::{rules, site::Site};

/// Rates over ten scrapes need some time, and machines are busy.
const WHILE: Duration = Duration::from_secs(60);

fn config(site: &Site) -> String {
    let (target, alerts) = (site.relay.metrics, root().join("ops/prometheus/alerts.yml"));
    let job = |name: &str, path: &str| {
        format!(
            "  - job_name: {name}\n    metrics_path: {path}\n    static_configs:\n      \
             - targets: ['{target}']\n"
        )
    };
    format!(
        "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n\
         rule_files:\n  - {}\nscrape_configs:\n{}{}",
        alerts.display(),
        job("sternline-relay", "/metrics"),
        job("sternline-environments", "/metrics/environments")
    )
}

/// A panel's query as Grafana would send it.
fn resolved(query: &str) -> String {
    let query = query.replace("$__rate_interval", "10s");
    query
        .replace("$instance", ".*")
        .replace("$environment", ".*")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_dashboard_and_every_rule_is_answered() {
    let mut site = Site::start().await;
    let Some(prometheus) = Prometheus::start(&config(&site)).await else {
        return;
    };
    for job in ["sternline-relay", "sternline-environments"] {
        prometheus
            .has(&format!("up{{job=\"{job}\"}} == 1"), SOON)
            .await;
    }
    // Some traffic while it looks.
    let again = exchange(site.port, b"again").await;
    again.expect("the service answers");

    let panels = rules::panels();
    assert!(panels.len() > 50, "the dashboard was not read");
    for (title, query) in &panels {
        let query = resolved(query);
        let found = prometheus.has(&query, WHILE).await;
        assert!(!found.is_empty(), "{title}: {query}");
    }
    eventually("every rule was evaluated", SOON, async || {
        let rules = prometheus.ask("rules", &[]).await.ok()?;
        let groups = rules["groups"].as_array()?;
        let all: Vec<_> = groups
            .iter()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
            .collect();
        let sick = all.iter().find(|rule| rule["health"] == "err");
        assert!(sick.is_none(), "{sick:?}");
        let alerts = all.iter().filter(|rule| rule["type"] == "alerting");
        assert_eq!(alerts.count(), rules::alerts().len());
        all.iter().all(|rule| rule["health"] == "ok").then_some(())
    })
    .await;

    site.agent.process.kill().await;
    let down = prometheus
        .has("sternline_environment_up{environment=\"acme\"} == 0", WHILE)
        .await;
    assert_eq!(down[0]["metric"]["job"], "sternline-environments");
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_finds_nothing_to_say_about_the_pages() {
    let site = Site::start().await;

    for page in ["metrics", "metrics/environments"] {
        let file = site.relay.scratch("page.txt");
        fs::write(&file, site.relay.page(page).await).expect("a file in a temporary folder");
        let Some(checked) = promtool(&["check", "metrics"], Some(&file)).await else {
            return;
        };

        let (code, said) = (checked.status.code(), checked.stderr + &checked.stdout);
        assert_eq!(code, Some(0), "{page}: {said}");
        assert_eq!(said, "", "{page}");
    }
}
