//! `deploy`, `plan`, and what else assigns: send the files, ask, show what came of it.

use std::{process::ExitCode, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tunnel::World;

use super::{
    FileArgs, HowArgs, Places,
    gather::{Gathered, gather},
    wait,
};
use crate::cli::{
    api,
    client::Client,
    failure::{Exit, Failure},
    human,
    name::StackName,
    output::{self, BOLD, DIM, Format, GREEN, PLAIN, YELLOW},
};

/// A deployment as the command line has it.
pub(super) struct Asked<'a> {
    pub(super) stack: &'a StackName,
    pub(super) places: &'a Places,
    pub(super) files: &'a FileArgs,
    pub(super) how: &'a HowArgs,
    pub(super) note: &'a str,
}

/// What was assigned.
#[derive(Debug, Deserialize)]
struct Answer {
    assignments: Vec<Assignment>,
    #[serde(default)]
    warnings: Vec<String>,
}

/// What was assigned to one environment.
#[derive(Debug, Deserialize)]
pub(super) struct Assignment {
    pub(super) environment: String,
    pub(super) release: Option<u64>,
    pub(super) assignment: u64,
    #[serde(default)]
    new: bool,
}

/// What a deployment would do at one environment.
#[derive(Debug, Deserialize)]
struct Plan {
    environment: String,
    plan: Option<Value>,
    #[serde(default)]
    operations: Vec<String>,
    unavailable: Option<String>,
    #[serde(default)]
    rendered: String,
    #[serde(default)]
    warnings: Vec<String>,
}

/// A key for a request, drawn anew for each command.
fn draw_key() -> String {
    let bytes: [u8; 16] = World::real().random();
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Has environments run a stack; with `wait`, until that is done.
pub(super) async fn deploy(
    asked: &Asked<'_>,
    client: &Client,
    (wait, format): (Option<Duration>, Format),
) -> Result<ExitCode, Failure> {
    let Some(gathered) = gather(asked.stack, asked.files)? else {
        return Err(Failure::new(Exit::Usage, "there is no Compose file here")
            .advise("name one with -f, such as -f compose.yml"));
    };
    let body = body(asked, Some(gathered), client).await?;
    assign(client, (asked.stack, "deploy"), &body, (wait, format)).await
}

/// Asks for an assignment, and shows it.
pub(super) async fn assign(
    client: &Client,
    (stack, what): (&StackName, &str),
    body: &Value,
    (wait, format): (Option<Duration>, Format),
) -> Result<ExitCode, Failure> {
    let path = ["stacks", stack.as_str(), what];
    let answer = client.post_once(&path, body, &draw_key()).await?;
    if format == Format::Json && wait.is_none() {
        output::print_json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let read: Answer = api::read(&answer)?;
    for warning in &read.warnings {
        output::note(&format!(
            "{YELLOW}warning:{PLAIN} {}",
            human::printable(warning)
        ));
    }
    if format == Format::Text {
        for one in &read.assignments {
            output::note(&line_of(stack, one));
        }
    }
    if let Some(patience) = wait {
        let which = (stack, &read.assignments[..]);
        return wait::until_settled(client, which, (patience, format)).await;
    }
    output::note(&format!(
        "{DIM}Watch it with `sternline-relay stack status {stack} --watch`.{PLAIN}"
    ));
    Ok(ExitCode::SUCCESS)
}

fn line_of(stack: &StackName, one: &Assignment) -> String {
    let environment = human::printable(&one.environment);
    match (one.release, one.new) {
        (Some(release), true) => {
            format!("{BOLD}{environment}{PLAIN} shall run {stack} r{release}.")
        }
        (Some(release), false) => {
            format!("{BOLD}{environment}{PLAIN} runs {stack} r{release} already.")
        }
        (None, _) => format!("{BOLD}{environment}{PLAIN} shall run nothing of {stack}."),
    }
}

/// Shows what a deployment would do.
pub(super) async fn plan(
    asked: &Asked<'_>,
    client: &Client,
    (is_rendered, format): (bool, Format),
) -> Result<ExitCode, Failure> {
    let gathered = match asked.files.files.is_empty() {
        true => None,
        false => gather(asked.stack, asked.files)?,
    };
    let body = body(asked, gathered, client).await?;
    let path = ["stacks", asked.stack.as_str(), "plan"];
    let answer = client.post_once(&path, &body, &draw_key()).await?;
    let plans: Vec<Plan> = api::read_list(&answer, "plans")?;
    let code = match plans.iter().all(|plan| plan.plan.is_some()) {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Exit::Unavailable as u8),
    };
    if format == Format::Json {
        output::print_json(&answer)?;
        return Ok(code);
    }
    for plan in &plans {
        show_plan(plan, is_rendered)?;
    }
    Ok(code)
}

fn show_plan(plan: &Plan, is_rendered: bool) -> Result<(), Failure> {
    let environment = human::printable(&plan.environment);
    for warning in &plan.warnings {
        output::note(&format!(
            "{YELLOW}warning:{PLAIN} {}",
            human::printable(warning)
        ));
    }
    if is_rendered {
        let lines = plan.rendered.lines().map(human::printable);
        output::print(&lines.collect::<Vec<_>>().join("\n"))?;
    }
    if let Some(reason) = &plan.unavailable {
        let reason = human::printable(reason);
        output::note(&format!("{YELLOW}{environment}: no plan:{PLAIN} {reason}"));
        return Ok(());
    }
    if plan.operations.is_empty() {
        return output::print(&format!("{GREEN}{environment}: nothing to do{PLAIN}"));
    }
    output::print(&format!("{BOLD}{environment}{PLAIN}"))?;
    let steps = plan
        .plan
        .as_ref()
        .and_then(|plan| plan.get("steps")?.as_array().cloned());
    let steps = steps.unwrap_or_default();
    for (number, operation) in plan.operations.iter().enumerate() {
        let why = steps.get(number).and_then(|step| step.get("why")?.as_str());
        let why = why.map_or_else(String::new, |why| {
            format!("  {DIM}{}{PLAIN}", human::printable(why))
        });
        let operation = human::printable(operation);
        output::print(&format!("{:>4}. {operation}{why}", number + 1))?;
    }
    Ok(())
}

/// The request, once the relay has every file.
async fn body(
    asked: &Asked<'_>,
    gathered: Option<Gathered>,
    client: &Client,
) -> Result<Value, Failure> {
    let mut body = json!({
        "places": asked.places.to_json(),
        "note": asked.note,
        "deadline_seconds": asked.how.deadline,
        "force_recreate": asked.how.force_recreate,
        "remove_orphans": asked.how.remove_orphans,
    });
    let Some(gathered) = gathered else {
        return Ok(body);
    };
    let mut files = Map::new();
    let mut digests = Vec::new();
    for (path, file) in &gathered.bundle {
        let digest = digest_of(&file.bytes);
        let one = json!({ "digest": digest, "size": file.bytes.len(), "mode": file.mode });
        files.insert(path.clone(), one);
        digests.push((digest, file));
    }
    let named: Vec<&str> = digests.iter().map(|(digest, _)| digest.as_str()).collect();
    let answer = client
        .post(&["blobs", "missing"], json!({ "digests": named }))
        .await?;
    let missing: Vec<String> = api::read_list(&answer, "missing")?;
    for (digest, file) in &digests {
        if missing.contains(digest) {
            client
                .put_bytes(&["blobs", digest], file.bytes.to_vec())
                .await?;
        }
    }
    let refresh = if asked.files.refresh {
        draw_key()
    } else {
        String::new()
    };
    let secrets = gathered.secrets.iter();
    body["secrets"] = secrets
        .map(|(name, value)| (name.clone(), Value::String(value.to_string())))
        .collect::<Map<String, Value>>()
        .into();
    body["bundle"] = json!({
        "compose": gathered.compose,
        "files": files,
        "profiles": asked.files.profiles,
        "variables": gathered.variables,
        "refresh": refresh,
    });
    Ok(body)
}

fn digest_of(bytes: &[u8]) -> String {
    let hash = tunnel::sha256(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}
