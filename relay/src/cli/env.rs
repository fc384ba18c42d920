//! `env`: the environments of the relay, and the tokens that enrol their agents.

use std::{collections::BTreeMap, time::Duration};

use clap::Subcommand;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    api::{self, AgentProcess, Enrolment, Environment, ProbeReport, Session},
    client::Client,
    failure::{Exit, Failure},
    human,
    name::{EnvironmentName, Tag},
    output::{self, BOLD, Format, GREEN, PLAIN, RED, YELLOW},
    table::{Cell, Facts, Table},
};

/// What to do with environments.
#[derive(Debug, Subcommand)]
pub enum EnvCommand {
    /// Make an environment, and a one-time token that enrols its agent
    Add {
        /// Name: 1 to 63 of a-z, 0-9, `-`, `_` and `.`
        name: EnvironmentName,
        /// A tag; give it once for each tag
        #[arg(long = "tag", value_name = "KEY=VALUE")]
        tags: Vec<Tag>,
    },
    /// Make another one-time token; the agent that uses it replaces the former one
    Token {
        /// Name of the environment
        name: EnvironmentName,
    },
    /// List the environments with their state
    List {
        /// Only those that have this tag; give it again for more tags
        #[arg(long = "tag", value_name = "KEY=VALUE")]
        tags: Vec<Tag>,
    },
    /// Show all that is known about an environment
    Show {
        /// Name of the environment
        name: EnvironmentName,
    },
    /// Remove an environment: its session ends and its agent is refused from then on
    Remove {
        /// Name of the environment
        name: EnvironmentName,
    },
    /// Let the agent back in after a copied identity was seen
    ///
    /// The relay holds an environment when a second host used the same identity.
    /// Stop the copy first; else the next one to connect is held again.
    Release {
        /// Name of the environment
        name: EnvironmentName,
    },
}

/// Runs one command.
///
/// # Errors
///
/// What the relay refused, or why it cannot be reached.
pub async fn run(command: EnvCommand, client: &Client, format: Format) -> Result<(), Failure> {
    match command {
        EnvCommand::Add { name, tags } => add(client, &name, &tags, format).await,
        EnvCommand::Token { name } => token(client, &name, format).await,
        EnvCommand::List { tags } => list(client, &tags, format).await,
        EnvCommand::Show { name } => show(client, &name, format).await,
        EnvCommand::Remove { name } => remove(client, &name, format).await,
        EnvCommand::Release { name } => release(client, &name, format).await,
    }
}

/// Asks the relay for one environment.
///
/// # Errors
///
/// There is none of this name, or the relay cannot be reached.
pub async fn find(client: &Client, name: &EnvironmentName) -> Result<Environment, Failure> {
    let answer = client.get(&["environments", name.as_str()], &[]).await?;
    api::read(&answer)
}

async fn add(
    client: &Client,
    name: &EnvironmentName,
    tags: &[Tag],
    format: Format,
) -> Result<(), Failure> {
    let mut by_key = BTreeMap::new();
    for tag in tags {
        if by_key
            .insert(tag.key.as_str(), tag.value.as_str())
            .is_some()
        {
            return Err(Failure::new(
                Exit::Usage,
                format!("the tag `{}` is given twice", tag.key),
            ));
        }
    }
    let body = json!({ "name": name.as_str(), "tags": by_key });
    let answer = client
        .post(&["environments"], body)
        .await
        .map_err(|failure| {
            failure.advise_on(
                "environment_exists",
                format!("for another token of it: `sternline-relay env token {name}`"),
            )
        })?;
    print_enrolment(
        &answer,
        &format!("Environment {BOLD}{name}{PLAIN} is made."),
        format,
    )
}

async fn token(client: &Client, name: &EnvironmentName, format: Format) -> Result<(), Failure> {
    let path = ["environments", name.as_str(), "tokens"];
    let answer = client.post(&path, json!({})).await?;
    print_enrolment(
        &answer,
        &format!("A token for {BOLD}{name}{PLAIN} is made."),
        format,
    )
}

fn print_enrolment(answer: &Value, heading: &str, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::print_json(answer);
    }
    let enrolment: Enrolment = api::read(answer)?;
    let until = enrolment
        .token_expires_at
        .map_or_else(String::new, |moment| {
            format!(" until {}", human::moment(&moment))
        });
    let mut text = format!(
        "{heading} Its token enrols one agent{until}; it is not shown again:\n\n  {}\n",
        human::printable(&enrolment.token)
    );
    let commands = [
        (
            "\nOn the customer's host, with the agent installed:\n\n",
            enrolment.agent_command,
        ),
        ("\nor in a container:\n\n", enrolment.docker_run_command),
    ];
    for (heading, command) in commands {
        if let Some(command) = command {
            text.push_str(heading);
            for line in command.lines() {
                text.push_str(&format!("  {}\n", human::printable(line)));
            }
        }
    }
    output::print(&text)
}

async fn list(client: &Client, tags: &[Tag], format: Format) -> Result<(), Failure> {
    // The relay selects by one tag; what more is asked for is selected here.
    let (first, more) = tags.split_at(tags.len().min(1));
    let query: Vec<_> = first.iter().map(|tag| ("tag", tag.to_string())).collect();
    let mut answer = client.get(&["environments"], &query).await?;
    if let Some(Value::Array(environments)) = answer.get_mut("environments") {
        environments.retain(|environment| has_tags(environment, more));
    }
    if format == Format::Json {
        return output::print_json(&answer);
    }
    let environments: Vec<Environment> = api::read_list(&answer, "environments")?;
    if environments.is_empty() {
        let hint = match tags {
            [] => "There is no environment yet: make one with `sternline-relay env add NAME`.",
            _ => "No environment has these tags.",
        };
        output::note(hint);
        return Ok(());
    }
    output::print(&list_table(&environments).render())
}

fn has_tags(environment: &Value, tags: &[Tag]) -> bool {
    tags.iter()
        .all(|tag| environment["tags"][&tag.key] == tag.value.as_str())
}

fn list_table(environments: &[Environment]) -> Table {
    let mut table = Table::new(&[
        "NAME",
        "STATUS",
        "TRANSPORT",
        "RTT",
        "LAST HEARD",
        "DOCKER",
        "HOST",
        "TAGS",
    ]);
    for environment in environments {
        let session = environment.session.as_ref();
        let of = |value: Option<String>| Cell::from(value.unwrap_or_else(|| "-".to_owned()));
        table.row(vec![
            human::printable(&environment.name).into(),
            status_cell(&environment.status),
            of(session.map(|session| human::printable(&session.transport))),
            of(session
                .and_then(|session| session.rtt_ms)
                .map(human::round_trip)),
            of(session.and_then(last_heard)),
            session.map_or_else(|| "-".into(), docker_cell),
            of(session
                .and_then(|session| session.hostname.as_deref())
                .map(human::printable)),
            tags_text(environment).into(),
        ]);
    }
    table
}

async fn show(client: &Client, name: &EnvironmentName, format: Format) -> Result<(), Failure> {
    let answer = client.get(&["environments", name.as_str()], &[]).await?;
    if format == Format::Json {
        return output::print_json(&answer);
    }
    output::print(&facts(&api::read(&answer)?, Timestamp::now()).render())
}

fn facts(environment: &Environment, now: Timestamp) -> Facts {
    let mut facts = Facts::default();
    facts.add(
        "name",
        Cell::styled(human::printable(&environment.name), BOLD),
    );
    facts.add("id", human::printable(&environment.id));
    facts.add("status", status_cell(&environment.status));
    if let Some(advice) = status_advice(environment) {
        facts.add("", advice);
    }
    facts.add_known(
        "created",
        environment.created_at.as_deref().map(human::moment),
    );
    let tags = tags_text(environment);
    facts.add_known("tags", Some(tags).filter(|tags| !tags.is_empty()));
    if let Some(agent) = &environment.agent {
        facts.add("agent", human::printable(&agent.id));
        facts.add_known("enrolled", agent.enrolled_at.as_deref().map(human::moment));
    }
    if let Some(session) = &environment.session {
        add_session(&mut facts, session, now);
    }
    if let Some(report) = &environment.probe {
        add_probe(&mut facts, report);
    }
    facts
}

fn add_session(facts: &mut Facts, session: &Session, now: Timestamp) {
    let known = |text: &Option<String>| text.as_deref().map(human::printable);
    facts.add("transport", transport_cell(session, &known));
    facts.add_known("round trip", session.rtt_ms.map(human::round_trip));
    facts.add_known("last heard", last_heard(session));
    facts.add_known(
        "connected",
        session.connected_since.as_deref().map(|moment| {
            let lived = human::since(moment, now)
                .map(human::span)
                .unwrap_or_default();
            format!("{} ({lived})", human::moment(moment))
        }),
    );
    facts.add_known("from", known(&session.remote));
    facts.add_known("software", known(&session.software));
    facts.add_known("epoch", known(&session.epoch));
    facts.add_known(
        "streams",
        session.streams_open.map(|open| format!("{open} open")),
    );
    let bytes = session
        .bytes_sent
        .zip(session.bytes_received)
        .map(|(sent, received)| {
            format!(
                "{} sent, {} received",
                human::bytes(sent),
                human::bytes(received)
            )
        });
    facts.add_known("traffic", bytes);
    facts.add_known("agent", session.process.as_ref().map(agent_process));
    facts.add_known("host", known(&session.hostname));
    let parts = [&session.os, &session.arch, &session.kernel];
    let system: Vec<_> = parts.into_iter().filter_map(known).collect();
    facts.add_known(
        "system",
        Some(system.join(", ")).filter(|system| !system.is_empty()),
    );
    facts.add("docker", docker_cell(session));
    if let Some(detail) = session
        .docker
        .as_ref()
        .and_then(|docker| known(&docker.detail))
    {
        facts.add_known("", Some(detail).filter(|detail| !detail.is_empty()));
    }
    let targets: Vec<_> = session
        .allowed_targets
        .iter()
        .map(|target| human::printable(target))
        .collect();
    facts.add_known(
        "targets",
        Some(targets.join(", ")).filter(|text| !text.is_empty()),
    );
    add_policy(facts, session);
}

/// What the probe found before, as whoever had the token told it.
fn add_probe(facts: &mut Facts, report: &ProbeReport) {
    let style = match report.verdict.as_str() {
        "open" => GREEN,
        "blocked" => RED,
        _ => YELLOW,
    };
    let verdict = human::printable(&report.verdict).replace('-', " ");
    let when = human::moment(&report.received_at);
    facts.add("probe", Cell::styled(format!("{verdict} ({when})"), style));
    for flow in &report.flows {
        let causes: Vec<_> = flow
            .causes
            .iter()
            .map(|cause| match cause.says.is_empty() {
                true => cause.code.as_str(),
                false => cause.says.as_str(),
            })
            .collect();
        let mut line = format!("{} {}/{}: ", flow.flow, flow.port, flow.protocol);
        line += &flow.verdict.replace('-', " ");
        if !causes.is_empty() {
            line += &format!(": {}", causes.join("; "));
        }
        facts.add("", human::printable(&line));
    }
}

/// The customer's other rules, one a line, and what the agent's kernel enforces.
fn add_policy(facts: &mut Facts, session: &Session) {
    for (number, rule) in session.policy_rules.iter().enumerate() {
        let name = if number == 0 { "policy" } else { "" };
        facts.add_known(name, Some(human::printable(rule)));
    }
    if session.policy_file_broken {
        let words = "the customer's file has changed and has mistakes; the above stays in force";
        facts.add_known("", Some(words.to_owned()));
    }
    let broken = session.fences.iter().filter(|fence| !fence.in_force);
    let broken: Vec<_> = broken
        .map(|fence| {
            let kind = if fence.needed {
                "not in force"
            } else {
                "not enforced"
            };
            human::printable(&format!("{} {kind}: {}", fence.name, fence.detail))
        })
        .collect();
    let is_whole = session
        .fences
        .iter()
        .all(|fence| fence.in_force || !fence.needed);
    if !session.fences.is_empty() {
        let words = if is_whole {
            "outbound only"
        } else {
            "NOT outbound only"
        };
        let all = [vec![words.to_owned()], broken].concat();
        facts.add_known("sandbox", Some(all.join("; ")));
    }
}

/// What carries the session, and what it passes.
fn transport_cell(session: &Session, known: &impl Fn(&Option<String>) -> Option<String>) -> String {
    let mut cell = human::printable(&session.transport);
    if let Some(proxy) = known(&session.proxy) {
        cell += &format!(" through {proxy}");
    }
    if session.intercepted {
        let by = known(&session.intercepted_by);
        let by = by.map_or_else(|| "somebody".to_owned(), |by| format!("`{by}`"));
        cell += &format!(", through interception by {by}");
    }
    cell
}

fn agent_process(process: &AgentProcess) -> String {
    format!(
        "up {}, {} in memory, {:.1} s of processor, {} files open, {} sessions",
        human::span(Duration::from_secs(process.uptime_seconds)),
        human::bytes(process.resident_bytes),
        process.cpu_seconds,
        process.open_files,
        process.sessions
    )
}

async fn remove(client: &Client, name: &EnvironmentName, format: Format) -> Result<(), Failure> {
    client.delete(&["environments", name.as_str()]).await?;
    match format {
        Format::Json => output::print_json(&json!({ "removed": name.as_str() })),
        Format::Text => output::print(&format!("Environment {BOLD}{name}{PLAIN} is removed.")),
    }
}

async fn release(client: &Client, name: &EnvironmentName, format: Format) -> Result<(), Failure> {
    let path = ["environments", name.as_str(), "release"];
    let answer = client.post(&path, json!({})).await?;
    match format {
        Format::Json => output::print_json(&answer),
        Format::Text => output::print(&format!(
            "Environment {BOLD}{name}{PLAIN} is released: the next of its agents to connect is taken."
        )),
    }
}

fn status_cell(status: &str) -> Cell {
    let style = match status {
        "online" => GREEN,
        "reconnecting" | "offline" | "never_connected" => YELLOW,
        "copied_identity" => RED,
        _ => "",
    };
    Cell::styled(human::printable(status).replace('_', " "), style)
}

fn status_advice(environment: &Environment) -> Option<String> {
    let name = &environment.name;
    match environment.status.as_str() {
        "never_connected" => Some(format!(
            "enrol its agent with its token; a new one: `sternline-relay env token {name}`"
        )),
        "offline" => Some("look at `sternline-agent status` on its host".to_owned()),
        "copied_identity" => Some(format!(
            "stop the copy of the agent, then `sternline-relay env release {name}`"
        )),
        _ => None,
    }
}

fn docker_cell(session: &Session) -> Cell {
    match &session.docker {
        Some(docker) if docker.state == "ok" => {
            let version = docker.engine_version.as_deref().unwrap_or("ok");
            let api = docker.api_version.as_deref().filter(|api| !api.is_empty());
            let api = api.map_or_else(String::new, |api| format!(" (API {api})"));
            Cell::styled(human::printable(&format!("{version}{api}")), GREEN)
        }
        Some(docker) => Cell::styled(human::printable(&docker.state).replace('_', " "), YELLOW),
        None => "unknown".into(),
    }
}

fn last_heard(session: &Session) -> Option<String> {
    session
        .last_heard_ms_ago
        .map(|ms| human::ago(Duration::from_millis(ms)))
}

fn tags_text(environment: &Environment) -> String {
    let tags: Vec<_> = environment
        .tags
        .iter()
        .map(|(key, value)| human::printable(&format!("{key}={value}")))
        .collect();
    tags.join(",")
}

#[cfg(test)]
mod tests {
    use super::{super::output::without_colour, *};

    fn online() -> Environment {
        api::read(&json!({
            "id": "env_a", "name": "berlin", "tags": { "region": "eu", "tier": "1" },
            "created_at": "2026-11-23T14:00:00Z", "status": "online",
            "agent": { "id": "agt_a", "enrolled_at": "2026-11-23T14:01:00Z" },
            "session": {
                "transport": "quic", "rtt_ms": 4.24, "connected_since": "2026-11-23T14:02:00Z",
                "last_heard_ms_ago": 1200, "remote": "192.0.2.1:4000",
                "software": "sternline-agent/0.1.0", "epoch": "1.2", "streams_open": 3,
                "bytes_sent": 2048, "bytes_received": 10,
                "docker": { "state": "ok", "engine_version": "20.10.24", "api_version": "1.41" },
                "hostname": "web\u{1b}[2J1", "os": "linux", "arch": "x86_64", "kernel": "6.1.0",
                "allowed_targets": ["docker"], "sandbox": { "landlock": "full" },
                "process": {
                    "uptime_seconds": 7200, "cpu_seconds": 1.25, "resident_bytes": 9437184,
                    "open_files": 14, "sessions": 2
                }
            }
        }))
        .unwrap()
    }

    #[test]
    fn the_list_shows_an_online_and_a_fresh_environment() {
        let fresh = api::read(&json!({
            "id": "env_b", "name": "oslo", "status": "never_connected", "agent": null,
            "session": null
        }))
        .unwrap();

        let text = without_colour(&list_table(&[online(), fresh]).render());

        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(rows[1][..5], ["berlin", "online", "quic", "4.2", "ms"]);
        assert_eq!(rows[1].last(), Some(&"region=eu,tier=1"));
        assert_eq!(
            rows[2],
            ["oslo", "never", "connected", "-", "-", "-", "-", "-"]
        );
    }

    #[test]
    fn an_environment_is_selected_when_it_has_all_tags() {
        let environment = json!({ "tags": { "region": "eu", "tier": "1" } });
        let has = |texts: &[&str]| {
            let tags: Vec<Tag> = texts.iter().map(|text| text.parse().unwrap()).collect();
            has_tags(&environment, &tags)
        };

        assert!(has(&[]) && has(&["region=eu"]) && has(&["tier=1", "region=eu"]));
        assert!(!has(&["region=us"]) && !has(&["tier=1", "site=berlin"]));
    }

    #[test]
    fn nothing_of_the_agents_host_reaches_the_terminal_unescaped() {
        let now = "2026-11-23T15:02:00Z".parse().unwrap();

        let text = without_colour(&facts(&online(), now).render());

        assert!(text.contains("web\\u{1b}[2J1"), "{text}");
        assert!(text.contains("2026-11-23 14:02:00 UTC (1 h)"), "{text}");
        assert!(text.contains("up 2 h, 9.0 MiB in memory, 1.2 s"), "{text}");
    }

    #[test]
    fn what_the_probe_found_is_shown_with_who_blocks_and_never_unescaped() {
        let environment: Environment = api::read(&json!({
            "id": "env_b", "name": "oslo", "status": "never_connected", "probe": {
                "received_at": "2026-11-23T14:00:00Z", "verdict": "degraded", "flows": [
                    { "flow": "https", "port": 443, "protocol": "tcp", "verdict": "open" },
                    { "flow": "quic", "port": 8000, "protocol": "udp", "verdict": "blocked",
                      "causes": [{ "code": "firewall-drop", "says": "dropped\u{1b}[2J" }] }
                ]
            }
        }))
        .unwrap();

        let text = without_colour(&facts(&environment, Timestamp::UNIX_EPOCH).render());

        assert!(
            text.contains("degraded (2026-11-23 14:00:00 UTC)"),
            "{text}"
        );
        assert!(text.contains("https 443/tcp: open"), "{text}");
        assert!(
            text.contains("quic 8000/udp: blocked: dropped\\u{1b}[2J"),
            "{text}"
        );
    }

    #[test]
    fn every_state_that_needs_a_person_says_what_to_do() {
        for (status, want) in [
            ("never_connected", "env token berlin"),
            ("offline", "sternline-agent status"),
            ("copied_identity", "env release berlin"),
        ] {
            let environment = Environment {
                status: status.into(),
                ..online()
            };

            assert!(
                status_advice(&environment).unwrap().contains(want),
                "{status}"
            );
        }
    }
}
