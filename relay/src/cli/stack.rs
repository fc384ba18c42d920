//! `stack`: what shall run where, what it would change, and how it fares.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::Client,
    failure::{Exit, Failure},
    human,
    name::{EnvironmentName, StackName, Tag},
    output::{self, BOLD, Format, PLAIN},
};

mod deploy;
mod gather;
mod releases;
mod status;
mod wait;

pub(super) use gather::secret_value;

/// Where: without any of it, where the stack is assigned already.
#[derive(Debug, Clone, Default, Args)]
pub struct Places {
    /// An environment; give it once for each
    #[arg(long = "env", value_name = "ENV")]
    environments: Vec<EnvironmentName>,
    /// Every environment that has this tag
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "environments")]
    tag: Option<Tag>,
}

/// What a release is made of.
#[derive(Debug, Clone, Default, Args)]
pub struct FileArgs {
    /// A Compose file; later ones are merged over earlier ones [default: compose.yaml and its
    /// like, with its override file]
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Folder that relative paths start in [default: that of the first Compose file]
    #[arg(long, value_name = "DIR")]
    project_directory: Option<PathBuf>,
    /// File of variables, part of the release [default: .env beside the first Compose file]
    #[arg(long = "env-file", value_name = "FILE")]
    env_files: Vec<PathBuf>,
    /// A variable, part of the release
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<Tag>,
    /// A secret variable: kept sealed for the stack, and shown to nobody
    #[arg(long = "secret", value_name = "KEY=@FILE")]
    secrets: Vec<Tag>,
    /// A profile to be active; * for all
    #[arg(long = "profile", value_name = "PROFILE")]
    profiles: Vec<String>,
    /// Look images up anew, even where the release is the same otherwise
    #[arg(long)]
    refresh: bool,
}

/// How a deployment is done.
#[derive(Debug, Clone, Default, Args)]
pub struct HowArgs {
    /// Seconds after which the agent takes back what is not done [default: 1800]
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u32>,
    /// Replace every container, changed or not
    #[arg(long)]
    force_recreate: bool,
    /// Also remove containers that another tool made for services which are gone
    #[arg(long)]
    remove_orphans: bool,
}

/// Whether a command stays until what it began is done.
#[derive(Debug, Clone, Default, Args)]
pub struct Waiting {
    /// Wait until it is done everywhere; show how far it is
    #[arg(long)]
    wait: bool,
    /// Wait no longer than this; what was begun goes on [default: 2700]
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    wait_timeout: Option<u32>,
}

/// An agent's own deadline is half an hour; this is some more.
const WAIT_SECONDS: u32 = 2_700;

impl Waiting {
    /// For how long; `None`: not at all.
    fn patience(&self) -> Option<Duration> {
        let seconds = self.wait_timeout.unwrap_or(WAIT_SECONDS);
        self.wait.then(|| Duration::from_secs(seconds.into()))
    }
}

/// What to do with stacks.
#[derive(Debug, Subcommand)]
pub enum StackCommand {
    /// Have environments run a stack from now on; offline ones when they return
    Deploy {
        /// Name of the stack
        stack: StackName,
        /// Where.
        #[command(flatten)]
        places: Places,
        /// What.
        #[command(flatten)]
        files: FileArgs,
        /// How.
        #[command(flatten)]
        how: HowArgs,
        /// What you have to say about the release
        #[arg(long, default_value = "", hide_default_value = true)]
        note: String,
        /// Show what would be done, and do nothing
        #[arg(long, conflicts_with = "wait")]
        plan: bool,
        /// Until when.
        #[command(flatten)]
        wait: Waiting,
    },
    /// Show the exact operations that a deployment would do
    Plan {
        /// Name of the stack
        stack: StackName,
        /// Where.
        #[command(flatten)]
        places: Places,
        /// What. Without a file: the newest release.
        #[command(flatten)]
        files: FileArgs,
        /// How.
        #[command(flatten)]
        how: HowArgs,
        /// Show the stack as well, with every variable put in; secrets are masked
        #[arg(long)]
        rendered: bool,
    },
    /// Show how stacks fare: per service what shall be, what is, and why it is not well
    Status {
        /// Name of the stack [default: all]
        stack: Option<StackName>,
        /// One environment alone
        #[arg(long = "env", value_name = "ENV")]
        environment: Option<EnvironmentName>,
        /// Go on, and show every change
        #[arg(long)]
        watch: bool,
    },
    /// List the releases of a stack
    History {
        /// Name of the stack
        stack: StackName,
    },
    /// Show what is different between two releases; values of secrets are in neither
    Diff {
        /// Name of the stack
        stack: StackName,
        /// The first, such as r3
        from: Release,
        /// The second, such as r4
        to: Release,
    },
    /// Have environments run an earlier release again
    Rollback {
        /// Name of the stack
        stack: StackName,
        /// Where.
        #[command(flatten)]
        places: Places,
        /// Which release [default: the one before that was last found well]
        #[arg(long, value_name = "REL")]
        to: Option<Release>,
        /// Seconds after which the agent takes back what is not done [default: 1800]
        #[arg(long, value_name = "SECONDS")]
        deadline: Option<u32>,
        /// Until when.
        #[command(flatten)]
        wait: Waiting,
    },
    /// Have environments run nothing of a stack from now on
    Remove {
        /// Name of the stack
        stack: StackName,
        /// Where.
        #[command(flatten)]
        places: Places,
        /// Also remove its volumes, and what is on them
        #[arg(long)]
        volumes: bool,
        /// Also remove containers that another tool made for its services
        #[arg(long)]
        remove_orphans: bool,
        /// Until when.
        #[command(flatten)]
        wait: Waiting,
    },
    /// Show what the containers of a stack have written
    Logs {
        /// Name of the stack
        stack: StackName,
        /// One service [default: all]
        service: Option<String>,
        /// The environment, where the stack is at several
        #[arg(long = "env", value_name = "ENV")]
        environment: Option<EnvironmentName>,
        /// Go on, and show what they write
        #[arg(short, long)]
        follow: bool,
        /// Lines of each container [default: 100]
        #[arg(long, value_name = "LINES")]
        tail: Option<u32>,
    },
    /// Restart the containers of a stack, or of one service
    Restart {
        /// Name of the stack
        stack: StackName,
        /// One service [default: all]
        service: Option<String>,
        /// Where.
        #[command(flatten)]
        places: Places,
    },
    /// End what is going on with a stack, and have agents go back to the last good release
    Cancel {
        /// Name of the stack
        stack: StackName,
        /// Where.
        #[command(flatten)]
        places: Places,
    },
}

/// The number of a release, with or without its `r`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release(u64);

impl std::str::FromStr for Release {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_prefix('r').unwrap_or(text).parse();
        let number = number.map_err(|_| format!("`{text}` is no release: expected r1, r2, …"))?;
        Ok(Self(number))
    }
}

impl Places {
    fn to_json(&self) -> Value {
        let names: Vec<&str> = self
            .environments
            .iter()
            .map(EnvironmentName::as_str)
            .collect();
        match &self.tag {
            Some(tag) => json!({ "tag": tag.to_string() }),
            None => json!({ "environments": names }),
        }
    }
}

/// Runs one command. What was waited for and did not come out well ends with its own code.
///
/// # Errors
///
/// What the relay refused, or why it cannot be reached.
pub async fn run(
    command: StackCommand,
    client: &Client,
    format: Format,
) -> Result<ExitCode, Failure> {
    match command {
        StackCommand::Deploy {
            stack,
            places,
            files,
            how,
            note,
            plan,
            wait,
        } => {
            let asked = deploy::Asked {
                stack: &stack,
                places: &places,
                files: &files,
                how: &how,
                note: &note,
            };
            if plan {
                return deploy::plan(&asked, client, (false, format)).await;
            }
            deploy::deploy(&asked, client, (wait.patience(), format)).await
        }
        StackCommand::Plan {
            stack,
            places,
            files,
            how,
            rendered,
        } => {
            let asked = deploy::Asked {
                stack: &stack,
                places: &places,
                files: &files,
                how: &how,
                note: "",
            };
            deploy::plan(&asked, client, (rendered, format)).await
        }
        StackCommand::Status {
            stack,
            environment,
            watch,
        } => {
            let which = which(stack.as_ref(), environment.as_ref());
            match watch {
                true => status::watch(client, &which, format).await?,
                false => status::show(client, &which, format).await?,
            }
            Ok(ExitCode::SUCCESS)
        }
        StackCommand::History { stack } => {
            releases::history(client, &stack, format).await?;
            Ok(ExitCode::SUCCESS)
        }
        StackCommand::Diff { stack, from, to } => {
            releases::diff(client, (&stack, from.0, to.0), format).await?;
            Ok(ExitCode::SUCCESS)
        }
        other => change(other, client, format).await,
    }
}

/// The commands that change what runs, without files.
async fn change(
    command: StackCommand,
    client: &Client,
    format: Format,
) -> Result<ExitCode, Failure> {
    match command {
        StackCommand::Rollback {
            stack,
            places,
            to,
            deadline,
            wait,
        } => {
            let body = json!({
                "places": places.to_json(),
                "to": to.map(|release| release.0),
                "deadline_seconds": deadline,
            });
            let how = (wait.patience(), format);
            deploy::assign(client, (&stack, "rollback"), &body, how).await
        }
        StackCommand::Remove {
            stack,
            places,
            volumes,
            remove_orphans,
            wait,
        } => {
            let body = json!({
                "places": places.to_json(),
                "volumes": volumes,
                "remove_orphans": remove_orphans,
            });
            deploy::assign(client, (&stack, "remove"), &body, (wait.patience(), format)).await
        }
        StackCommand::Restart {
            stack,
            service,
            places,
        } => {
            let body = json!({ "places": places.to_json(), "service": service });
            client
                .post(&["stacks", stack.as_str(), "restart"], body)
                .await?;
            done(&stack, "restarted", format)?;
            Ok(ExitCode::SUCCESS)
        }
        StackCommand::Cancel { stack, places } => {
            let body = json!({ "places": places.to_json() });
            client
                .post(&["stacks", stack.as_str(), "cancel"], body)
                .await?;
            done(&stack, "cancelled", format)?;
            Ok(ExitCode::SUCCESS)
        }
        StackCommand::Logs {
            stack,
            service,
            environment,
            follow,
            tail,
        } => {
            let mut query = which(None, environment.as_ref());
            query.extend(service.map(|service| ("service", service)));
            query.extend(tail.map(|tail| ("tail", tail.to_string())));
            query.push(("follow", follow.to_string()));
            logs(client, &stack, &query, format).await?;
            Ok(ExitCode::SUCCESS)
        }
        _ => Err(Failure::new(Exit::Internal, "a command without an action")),
    }
}

fn done(stack: &StackName, what: &str, format: Format) -> Result<(), Failure> {
    match format {
        Format::Json => output::print_json(&json!({ "stack": stack.as_str(), what: true })),
        Format::Text => output::print(&format!("{BOLD}{stack}{PLAIN} is {what}.")),
    }
}

/// A query for one stack, one environment, or all.
fn which(
    stack: Option<&StackName>,
    environment: Option<&EnvironmentName>,
) -> Vec<(&'static str, String)> {
    let stack = stack.map(|stack| ("stack", stack.as_str().to_owned()));
    let environment = environment.map(|name| ("environment", name.as_str().to_owned()));
    stack.into_iter().chain(environment).collect()
}

async fn logs(
    client: &Client,
    stack: &StackName,
    query: &[(&str, String)],
    format: Format,
) -> Result<(), Failure> {
    let path = ["stacks", stack.as_str(), "logs"];
    let mut lines = client.lines(&path, query, None).await?;
    while let Some(line) = lines.next().await? {
        if format == Format::Json {
            output::print(&line.to_string())?;
            continue;
        }
        let text = |key| {
            let text = line.get(key).and_then(Value::as_str).unwrap_or_default();
            human::printable(text)
        };
        output::print(&format!(
            "{BOLD}{}{PLAIN} | {}",
            text("container"),
            text("text")
        ))?;
    }
    Ok(())
}
