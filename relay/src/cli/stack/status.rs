//! `status`: per service what shall be, what is, and why it is not well.

use std::{collections::BTreeMap, time::Duration};

use compose::exchange::{Cause, ServiceReport, ServiceState, StackReport};
use serde::Deserialize;
use serde_json::Value;

use crate::cli::{
    api,
    client::Client,
    failure::Failure,
    human,
    output::{self, BOLD, DIM, Format, GREEN, PLAIN, RED, YELLOW},
    table::{Cell, Table},
};

/// Within it the relay says something, if only that nothing has changed.
pub(super) const WATCH_PATIENCE: Duration = Duration::from_secs(60);

/// A stack at an environment, as the API describes it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Deployment {
    pub(super) environment: String,
    pub(super) stack: String,
    pub(super) assignment: u64,
    pub(super) release: Option<u64>,
    pub(super) state: String,
    #[serde(default)]
    pub(super) settled: bool,
    pub(super) cause: Option<Cause>,
    #[serde(default)]
    pub(super) overdue: bool,
    #[serde(default)]
    pub(super) live: bool,
    pub(super) heard_ms_ago: Option<u64>,
    pub(super) report: Option<StackReport>,
}

/// Shows how stacks fare.
pub(super) async fn show(
    client: &Client,
    which: &[(&str, String)],
    format: Format,
) -> Result<(), Failure> {
    let answer = client.get(&["deployments"], which).await?;
    if format == Format::Json {
        return output::print_json(&answer);
    }
    let all: Vec<Deployment> = api::read_list(&answer, "deployments")?;
    if all.is_empty() {
        output::note("Nothing is assigned.");
        return Ok(());
    }
    let texts: Vec<String> = all.iter().map(render).collect();
    output::print(&texts.join("\n"))
}

/// Shows how stacks fare, and every change.
pub(super) async fn watch(
    client: &Client,
    which: &[(&str, String)],
    format: Format,
) -> Result<(), Failure> {
    let path = ["deployments", "watch"];
    let mut lines = client.lines(&path, which, Some(WATCH_PATIENCE)).await?;
    let mut shown: BTreeMap<(String, String), String> = BTreeMap::new();
    while let Some(line) = lines.next().await? {
        if format == Format::Json {
            output::print(&line.to_string())?;
            continue;
        }
        let Some(deployment) = deployment_of(&line)? else {
            continue;
        };
        let text = render(&deployment);
        let key = (deployment.stack, deployment.environment);
        // Only what a person sees counts as a change.
        if shown.get(&key) != Some(&text) {
            output::print(&text)?;
            shown.insert(key, text);
        }
    }
    Ok(())
}

/// The deployment that a line of a watch tells of, if it does.
pub(super) fn deployment_of(line: &Value) -> Result<Option<Deployment>, Failure> {
    line.get("deployment").map(api::read).transpose()
}

/// A deployment in lines: one of its own, one a service, and why.
pub(super) fn render(one: &Deployment) -> String {
    let release = one
        .release
        .map_or_else(|| "nothing".to_owned(), |number| format!("r{number}"));
    let mut text = format!(
        "{BOLD}{}{PLAIN} at {BOLD}{}{PLAIN}: {release} {}{}\n",
        human::printable(&one.stack),
        human::printable(&one.environment),
        state(one),
        age(one),
    );
    if let Some(cause) = &one.cause {
        text.push_str(&format!("  {}\n", cause_line(cause)));
        for line in cause.output.iter().take(10) {
            text.push_str(&format!("    {DIM}{}{PLAIN}\n", human::printable(line)));
        }
    }
    if one.overdue {
        text.push_str(&format!("  {YELLOW}It takes longer than it may.{PLAIN}\n"));
    }
    if let Some(report) = &one.report {
        text.push_str(&services(report));
        for drift in &report.drift {
            text.push_str(&format!(
                "  {YELLOW}changed by hand:{PLAIN} {} {}: {} (the release has {})\n",
                human::printable(&drift.subject),
                human::printable(&drift.field),
                human::printable(&drift.observed),
                human::printable(&drift.desired),
            ));
        }
    }
    text
}

fn state(one: &Deployment) -> String {
    let colour = match one.state.as_str() {
        "committed" | "removed" => GREEN,
        "failed" | "reverted" | "refused" | "unreachable" => RED,
        _ => YELLOW,
    };
    format!("{colour}{}{PLAIN}", human::printable(&one.state))
}

/// That what is shown is not of this moment.
fn age(one: &Deployment) -> String {
    match (one.live, one.heard_ms_ago) {
        (true, _) => String::new(),
        // The agent is there, and says so in the line below.
        (false, None) if one.state == "unreachable" => String::new(),
        (false, Some(ms)) => {
            let ago = human::ago(Duration::from_millis(ms));
            format!(" {DIM}(offline; last known {ago}){PLAIN}")
        }
        (false, None) => format!(" {DIM}(offline){PLAIN}"),
    }
}

/// One line that says what happened.
pub(super) fn cause_line(cause: &Cause) -> String {
    let line = human::printable(&cause.line);
    let Some(service) = cause.service.as_deref().map(human::printable) else {
        return line;
    };
    // Agents begin the line with the service themselves.
    let prefix = format!("{service}: ");
    let rest = line.strip_prefix(&prefix).unwrap_or(&line);
    format!("{RED}{service}:{PLAIN} {rest}")
}

fn services(report: &StackReport) -> String {
    if report.services.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["  SERVICE", "WANTED", "RUNNING", "STATE", "HEALTH", "WHY"]);
    for (name, service) in &report.services {
        let running = service
            .containers
            .iter()
            .filter(|one| one.state == "running")
            .count();
        table.row(vec![
            format!("  {}", human::printable(name)).into(),
            service.desired.to_string().into(),
            running.to_string().into(),
            service_state(service),
            health(service).into(),
            human::printable(service.why.as_deref().unwrap_or_default()).into(),
        ]);
    }
    table.render()
}

fn service_state(service: &ServiceReport) -> Cell {
    match service.state {
        ServiceState::Ok => Cell::styled("ok", GREEN),
        ServiceState::Starting => Cell::styled("starting", YELLOW),
        ServiceState::Bad => Cell::styled("bad", RED),
        ServiceState::Orphan => Cell::styled("orphan", YELLOW),
    }
}

/// The worst that a container of it says, and how often they were started again.
fn health(service: &ServiceReport) -> String {
    let said = |word: &str| {
        let mut all = service.containers.iter();
        all.any(|one| one.health.as_deref() == Some(word))
    };
    let worst = ["unhealthy", "starting", "healthy"]
        .into_iter()
        .find(|word| said(word));
    let restarts: u64 = service.containers.iter().map(|one| one.restarts).sum();
    match (worst, restarts) {
        (None, 0) => "-".to_owned(),
        (Some(word), 0) => word.to_owned(),
        (word, restarts) => format!("{} ({restarts} restarts)", word.unwrap_or("-")),
    }
}
