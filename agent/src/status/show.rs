//! `sternline-agent status`: reads the file, and says how far it can be believed.

use std::{fs, io, path::Path, process::ExitCode, time::Duration};

use jiff::{SignedDuration, Timestamp};
use rustix::process::Pid;

use super::{FRESH_FOR, LastError, STATUS_FILE, StackStatus, State, Status, Written};
use crate::cli::StatusArgs;

/// How far a status file can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belief {
    /// Written a moment ago by a living process.
    Fresh,
    /// The process that wrote it has gone.
    Dead,
    /// Not written for this long; the process hangs, or the disk is full.
    Stale(Duration),
}

/// Shows the status of the agent with this state directory.
#[expect(
    clippy::disallowed_methods,
    reason = "a process of its own, for a person, in the real world"
)]
pub fn run(state_dir: &Path, arguments: &StatusArgs) -> ExitCode {
    let status = match read(&state_dir.join(STATUS_FILE)) {
        Ok(status) => status,
        Err(problem) => {
            anstream::eprintln!("sternline-agent: {problem}");
            return ExitCode::FAILURE;
        }
    };
    let belief = believe(&status, &Written::now(), is_alive);
    if arguments.healthcheck {
        return match health(&status, belief) {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                anstream::println!("{problem}");
                ExitCode::FAILURE
            }
        };
    }
    if arguments.json {
        anstream::println!("{}", to_json(&status, belief));
    } else {
        anstream::print!("{}", render(&status, belief, Timestamp::now()));
    }
    ExitCode::SUCCESS
}

/// The file's content, and how far it can be believed.
fn to_json(status: &Status, belief: Belief) -> String {
    let (running, age) = match belief {
        Belief::Fresh => (true, None),
        Belief::Dead => (false, None),
        Belief::Stale(age) => (true, Some(age.as_secs())),
    };
    let mut value = serde_json::json!(status);
    value["running"] = running.into();
    value["silent_for_seconds"] = age.into();
    format!("{value:#}")
}

/// Reads a status file.
///
/// # Errors
///
/// One line for a person: no agent has run here, or the file is not readable.
pub fn read(path: &Path) -> Result<Status, String> {
    let text = fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "no agent has run with the state directory {}; name another with --state-dir",
            path.parent().unwrap_or(path).display()
        ),
        _ => format!(
            "cannot read {}: {error}; run it as the agent's user",
            path.display()
        ),
    })?;
    serde_json::from_str(&text).map_err(|error| {
        format!(
            "{} is not a status of this version: {error}",
            path.display()
        )
    })
}

/// Judges a status file at the moment `now`; `alive` says whether a process id of the
/// reader's own namespace is in use.
pub fn believe(status: &Status, now: &Written, alive: impl Fn(u32) -> bool) -> Belief {
    let written = &status.written;
    if status.state == State::Stopped || written.boot_id != now.boot_id {
        return Belief::Dead;
    }
    // In another namespace the number belongs to somebody else.
    if written.pid_namespace == now.pid_namespace && !alive(written.pid) {
        return Belief::Dead;
    }
    let age = Duration::from_millis(now.uptime_ms.saturating_sub(written.uptime_ms));
    if age > FRESH_FOR {
        Belief::Stale(age)
    } else {
        Belief::Fresh
    }
}

/// Whether a process id is in use.
pub fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let found = pid.map(rustix::process::test_kill_process);
    // Not permitted to signal it means that it is there.
    matches!(found, Some(Ok(()) | Err(rustix::io::Errno::PERM)))
}

/// For a container's health check: nothing if all is well, else one line.
///
/// # Errors
///
/// Why the agent does not count as healthy.
pub fn health(status: &Status, belief: Belief) -> Result<(), String> {
    match (belief, status.state) {
        (Belief::Fresh, State::Online) => Ok(()),
        (Belief::Fresh, state) => Err(match &status.last_error {
            Some(error) => format!("{}: {}", state_text(state), error.message),
            None => state_text(state).to_owned(),
        }),
        (Belief::Dead, _) => Err("the agent is not running".into()),
        (Belief::Stale(age), _) => Err(format!("no sign of life for {}", span(age))),
    }
}

const BOLD: &str = "\x1b[1m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const RED: &str = "\x1b[31m";
const RESET: &str = "\x1b[0m";

/// The status for a person, with colours that `anstream` takes out where they do
/// not belong.
pub fn render(status: &Status, belief: Belief, now: Timestamp) -> String {
    let mut lines = Lines(String::new());
    match belief {
        Belief::Fresh => {}
        Belief::Dead => lines.put(
            "!",
            &format!(
                "{RED}the agent is not running; this is what it last wrote, {}{RESET}",
                ago(status.written.at, now)
            ),
        ),
        Belief::Stale(age) => lines.put(
            "!",
            &format!(
                "{RED}no sign of life for {}: the process hangs or cannot write{RESET}",
                span(age)
            ),
        ),
    }
    lines.put("state", &state_line(status, now));
    lines.put(
        "environment",
        &match &status.agent_id {
            Some(id) => format!("{} ({id})", status.environment),
            None => format!("{} (not enrolled yet)", status.environment),
        },
    );
    lines.put("relay", &relay_line(status, now));
    lines.put("docker", &docker_line(status));
    lines.put("policy", &policy_line(status));
    for rule in &status.policy.rules {
        lines.put("", rule);
    }
    lines.put("sandbox", &status.sandbox);
    for stack in &status.stacks {
        lines.put("stack", &stack_line(stack));
    }
    lines.put("streams", &format!("{} open", status.streams_open));
    if let Some(error) = &status.last_error {
        lines.put_error(error, now);
    }
    lines.put(
        "version",
        &format!("{}, process {}", status.version, status.written.pid),
    );
    lines.0
}

struct Lines(String);

impl Lines {
    fn put(&mut self, name: &str, text: &str) {
        self.0 += &format!("{BOLD}{name:<12}{RESET} {text}\n");
    }

    fn put_error(&mut self, error: &LastError, now: Timestamp) {
        let when = ago(error.at, now);
        self.put(
            "last error",
            &format!("{} ({}, {when})", error.message, error.code),
        );
        if !error.advice.is_empty() {
            self.put("what to do", &error.advice);
        }
    }
}

fn state_line(status: &Status, now: Timestamp) -> String {
    let colour = match status.state {
        State::Online => GREEN,
        State::Enrolling | State::Connecting | State::Reconnecting | State::BackingOff => YELLOW,
        State::Refused | State::Stopped => RED,
    };
    let mut line = format!("{colour}{}{RESET}", state_text(status.state));
    if let (State::Online, Some(since)) = (status.state, status.connected_since) {
        line += &format!(" for {}", span(between(since, now)));
    }
    if let Some(next) = status.next_attempt_at {
        line += &match next > now {
            true => format!(", next attempt in {}", span(between(now, next))),
            false => ", next attempt due".to_owned(),
        };
    }
    if status.attempt > 0 {
        line += &format!(", {} failed in a row", status.attempt);
    }
    line
}

fn stack_line(stack: &StackStatus) -> String {
    let (well, all) = stack.services;
    let colour = match stack.phase.as_str() {
        "committed" if well == all => GREEN,
        "failed" | "reverted" | "refused" => RED,
        _ => YELLOW,
    };
    let release = stack.committed.as_deref().or(stack.release.as_deref());
    let mut line = format!(
        "{} {}: {colour}{}{RESET}, {well} of {all} services are well",
        stack.name,
        release.unwrap_or_default(),
        stack.phase
    );
    if let Some(cause) = &stack.cause {
        line += &format!("; {cause}");
    }
    line
}

fn relay_line(status: &Status, now: Timestamp) -> String {
    let mut line = status.relay_address.clone();
    if let Some(transport) = &status.transport {
        line += &format!(" over {transport}");
    }
    if let Some(proxy) = &status.proxy {
        line += &format!(" through {proxy}");
    }
    if let Some(issuer) = &status.intercepted_by {
        line += &format!(", {YELLOW}through interception by {issuer}{RESET}");
    }
    if let Some(rtt) = status.rtt_ms {
        line += &format!(", round trip {rtt:.1} ms");
    }
    if let Some(heard) = status.last_heard {
        line += &format!(", last heard {}", ago(heard, now));
    }
    line
}

fn docker_line(status: &Status) -> String {
    let docker = &status.docker;
    match docker.state.as_str() {
        "ok" => format!(
            "{GREEN}ok{RESET}: engine {}, API {}",
            docker.engine_version, docker.api_version
        ),
        "unknown" => "not asked yet".to_owned(),
        other if docker.advice.is_empty() => format!("{YELLOW}{}{RESET}", other.replace('_', " ")),
        other => format!(
            "{YELLOW}{}{RESET}: {}",
            other.replace('_', " "),
            docker.advice
        ),
    }
}

fn policy_line(status: &Status) -> String {
    let policy = &status.policy;
    let allowed = match policy.allowed.as_slice() {
        [] => "nothing allowed".to_owned(),
        some => format!("allows {}", some.join(", ")),
    };
    let origin = match &policy.file {
        Some(file) => file.display().to_string(),
        None => "no file, the default".to_owned(),
    };
    match &policy.error {
        Some(error) => format!(
            "{origin}: {allowed}; {RED}the file has changed and is not in force: {error}{RESET}"
        ),
        None => format!("{origin}: {allowed}"),
    }
}

fn state_text(state: State) -> &'static str {
    match state {
        State::Enrolling => "enrolling",
        State::Connecting => "connecting",
        State::Online => "online",
        State::Reconnecting => "reconnecting; streams wait",
        State::BackingOff => "waiting to connect again",
        State::Refused => "refused by the relay",
        State::Stopped => "stopped",
    }
}

fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(between(then, now)))
}

/// From one moment to a later one; nothing if a clock was set back in between.
fn between(earlier: Timestamp, later: Timestamp) -> Duration {
    let span: SignedDuration = later.duration_since(earlier);
    Duration::try_from(span).unwrap_or_default()
}

/// A duration in its two largest units; below a minute in seconds.
fn span(duration: Duration) -> String {
    let seconds = Duration::from_secs(duration.as_secs());
    let text = humantime::format_duration(seconds).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
