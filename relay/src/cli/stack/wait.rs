//! `--wait`: shows how far a deployment is until it is done everywhere.
//!
//! On a terminal, one block that is drawn anew; elsewhere a line for each change.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, stderr},
    process::ExitCode,
    time::Duration,
};

use compose::exchange::{Progress, ServiceState};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{
    deploy::Assignment,
    status::{Deployment, WATCH_PATIENCE, cause_line, deployment_of},
};
use crate::cli::{
    api,
    client::Client,
    failure::{Exit, Failure},
    human,
    name::StackName,
    output::{self, BOLD, DIM, Format, GREEN, PLAIN, RED},
};

/// Layers that are shown at a time, of each environment.
const LAYERS_SHOWN: usize = 8;
/// Columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;
/// How often a watch that broke is begun anew, before the command gives up.
const TRIES: u32 = 5;

/// What is shown of one environment.
#[derive(Default)]
struct Shown {
    wanted: u64,
    latest: Option<Deployment>,
    layers: BTreeMap<(String, String), Progress>,
}

/// Everything that is waited for.
struct Board {
    environments: BTreeMap<String, Shown>,
    format: Format,
    is_terminal: bool,
    /// Lines that were drawn last.
    drawn: usize,
    /// What was said last, where lines are not drawn anew.
    said: BTreeMap<String, String>,
}

/// Waits until every assignment is settled, or for so long, and says what came of it.
pub(super) async fn until_settled(
    client: &Client,
    (stack, assignments): (&StackName, &[Assignment]),
    (patience, format): (Duration, Format),
) -> Result<ExitCode, Failure> {
    let mut board = Board::new(assignments, format);
    let settled = timeout(patience, settle(client, stack, &mut board)).await;
    // What is not settled by now is told like everything else.
    settled.unwrap_or(Ok(()))?;
    board.finish(stack, patience)
}

async fn settle(client: &Client, stack: &StackName, board: &mut Board) -> Result<(), Failure> {
    let query = [("stack", stack.as_str().to_owned())];
    let mut tries = 0;
    while !board.is_done() {
        let watched = watch(client, &query, board).await;
        if board.is_done() {
            break;
        }
        tries += 1;
        match watched {
            Err(failure) if tries > TRIES => return Err(failure),
            Err(_) | Ok(()) if tries <= TRIES => {
                sleep(Duration::from_secs(1)).await;
            }
            _ => {
                return Err(
                    Failure::new(Exit::Unavailable, "the relay ends the watch each time")
                        .advise("what was assigned goes on: see `sternline-relay stack status`"),
                );
            }
        }
    }
    Ok(())
}

async fn watch(
    client: &Client,
    query: &[(&str, String)],
    board: &mut Board,
) -> Result<(), Failure> {
    let path = ["deployments", "watch"];
    let mut lines = client.lines(&path, query, Some(WATCH_PATIENCE)).await?;
    while let Some(line) = lines.next().await? {
        board.note(&line)?;
        if board.is_done() {
            break;
        }
    }
    Ok(())
}

/// Whether a state is what was asked for.
fn is_well(state: &str) -> bool {
    matches!(state, "committed" | "removed")
}

impl Shown {
    fn is_done(&self) -> bool {
        self.latest.as_ref().is_some_and(|one| {
            // A later assignment has taken its place: nothing more will be told of this one.
            one.assignment > self.wanted || (one.assignment == self.wanted && one.settled)
        })
    }

    fn is_well(&self) -> bool {
        let latest = self.latest.as_ref();
        latest.is_some_and(|one| one.assignment == self.wanted && is_well(&one.state))
    }
}

impl Board {
    fn new(assignments: &[Assignment], format: Format) -> Self {
        let shown = |one: &Assignment| Shown {
            wanted: one.assignment,
            ..Shown::default()
        };
        let environments = assignments
            .iter()
            .map(|one| (one.environment.clone(), shown(one)));
        Self {
            environments: environments.collect(),
            format,
            is_terminal: stderr().is_terminal() && format == Format::Text,
            drawn: 0,
            said: BTreeMap::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.environments.values().all(Shown::is_done)
    }

    fn note(&mut self, line: &Value) -> Result<(), Failure> {
        if let Some(deployment) = deployment_of(line)? {
            let Some(shown) = self.environments.get_mut(&deployment.environment) else {
                return Ok(());
            };
            if deployment.state != "pulling" {
                shown.layers.clear();
            }
            shown.latest = Some(deployment);
        } else if let Some(progress) = line.get("progress") {
            let name = progress.get("environment").and_then(Value::as_str);
            let Some(shown) = name.and_then(|name| self.environments.get_mut(name)) else {
                return Ok(());
            };
            let one: Progress = api::read(progress.get("progress").unwrap_or(&Value::Null))?;
            let key = (one.subject.clone(), one.layer.clone().unwrap_or_default());
            shown.layers.insert(key, one);
        } else {
            return Ok(());
        }
        if self.format == Format::Json {
            return output::print(&line.to_string());
        }
        match self.is_terminal {
            true => self.draw(),
            false => self.say(),
        }
        Ok(())
    }

    /// Every line there is to show now, each with what it is about.
    fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for (name, shown) in &self.environments {
            let environment = human::printable(name);
            let Some(one) = &shown.latest else { continue };
            let state = human::printable(&one.state);
            // Whoever waits is to know that it may take until the agent returns.
            let is_away = !one.live && !one.settled;
            let away = if is_away {
                " (the agent is offline)"
            } else {
                ""
            };
            lines.push((environment.clone(), format!("{environment}: {state}{away}")));
            let services = one.report.iter().flat_map(|report| &report.services);
            for (service, report) in services {
                let running = report
                    .containers
                    .iter()
                    .filter(|c| c.state == "running")
                    .count();
                let state = match report.state {
                    ServiceState::Ok => "ok",
                    ServiceState::Starting => "starting",
                    ServiceState::Bad => "bad",
                    ServiceState::Orphan => "orphan",
                };
                let service = human::printable(service);
                let why = human::printable(report.why.as_deref().unwrap_or_default());
                let about = format!("{environment}/{service}");
                let line = format!("  {service}: {running}/{} {state} {why}", report.desired);
                lines.push((about, line.trim_end().to_owned()));
            }
            for ((subject, layer), progress) in shown.layers.iter().rev().take(LAYERS_SHOWN) {
                let (subject, layer) = (human::printable(subject), human::printable(layer));
                let line = format!("  {subject} {layer} {}", amount(progress));
                lines.push((format!("{environment} {subject} {layer}"), line));
            }
        }
        lines
    }

    fn draw(&mut self) {
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok());
        let columns: usize = columns.unwrap_or(COLUMNS);
        let lines: Vec<String> = self
            .lines()
            .into_iter()
            // A line that wraps would be counted as one, and stay.
            .map(|(_, line)| line.chars().take(columns.saturating_sub(1)).collect())
            .collect();
        let up = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        };
        self.drawn = lines.len();
        output::note(&format!("{up}{}", lines.join("\n")));
    }

    fn say(&mut self) {
        for (about, line) in self.lines() {
            // Bytes of layers change all the time: without a terminal only their states count.
            let said = line.split(" of ").next().unwrap_or_default().to_owned();
            if self.said.get(&about) != Some(&said) {
                output::note(&line);
                self.said.insert(about, said);
            }
        }
    }

    /// One line for each environment, with its cause where it is not well.
    fn finish(self, stack: &StackName, patience: Duration) -> Result<ExitCode, Failure> {
        let is_well = self.environments.values().all(Shown::is_well);
        for (name, shown) in &self.environments {
            let environment = human::printable(name);
            let latest = shown.latest.as_ref();
            let state = latest.map_or("unknown", |one| one.state.as_str());
            if self.format == Format::Json {
                let cause = latest.and_then(|one| one.cause.as_ref());
                let done = json!({ "done": {
                    "environment": name, "stack": stack.as_str(), "state": state,
                    "well": shown.is_well(), "cause": cause,
                }});
                output::print(&done.to_string())?;
                continue;
            }
            if shown.is_well() {
                let line = format!("{GREEN}{environment}: {stack} is {state}{PLAIN}");
                output::print(&line)?;
                continue;
            }
            let cause = match latest {
                Some(one) if one.assignment > shown.wanted => {
                    "a later assignment has taken its place".to_owned()
                }
                Some(one) if !shown.is_done() => still_going(one, patience),
                Some(one) => one.cause.as_ref().map_or_else(String::new, cause_line),
                None => String::new(),
            };
            let state = human::printable(state);
            output::print(&format!(
                "{RED}{environment}: {stack} is {state}{PLAIN}{DIM}:{PLAIN} {BOLD}{cause}{PLAIN}"
            ))?;
        }
        Ok(match is_well {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(Exit::Declined as u8),
        })
    }
}

/// Of what is not settled when nobody waits any longer.
fn still_going(one: &Deployment, patience: Duration) -> String {
    let waited = human::span(patience);
    match one.live {
        true => format!("not done within {waited}; it goes on, see `sternline-relay stack status`"),
        false => {
            format!("not done within {waited}: the agent is offline, and does it on its return")
        }
    }
}

fn amount(progress: &Progress) -> String {
    let state = human::printable(&progress.state);
    match (progress.current, progress.total) {
        (Some(current), Some(total)) => {
            format!(
                "{state} {} of {}",
                human::bytes(current),
                human::bytes(total)
            )
        }
        _ => state,
    }
}
