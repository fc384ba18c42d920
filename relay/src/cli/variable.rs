//! `variable` and `registry`: what is put into Compose files, and logins that agents pull with.

use std::io::Read as _;

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{
    api,
    client::Client,
    failure::{Exit, Failure},
    human,
    name::{EnvironmentName, StackName, Tag},
    output::{self, BOLD, DIM, Format, PLAIN, YELLOW},
    stack::secret_value,
    table::{Cell, Table},
};

/// The longest password that is read.
const PASSWORD_BYTES_MAX: u64 = 64 * 1024;

/// Where a variable counts: without any of it, for every stack everywhere.
#[derive(Debug, Clone, Args)]
pub struct Level {
    /// For every stack of this environment
    #[arg(long = "env", value_name = "ENV")]
    environment: Option<EnvironmentName>,
    /// For this stack everywhere
    #[arg(long, value_name = "STACK", conflicts_with = "environment")]
    stack: Option<StackName>,
}

/// What to do with variables of Compose files.
#[derive(Debug, Subcommand)]
pub enum VariableCommand {
    /// Set variables: for everything, for an environment, or for a stack
    ///
    /// A later level wins: everything, environment, stack, and then what a release brings.
    ///
    ///   sternline-relay variable set --env berlin LEVEL=debug
    ///   sternline-relay variable set --stack shop --secret PASSWORD=@password.txt
    ///   sternline-relay variable set --required DOMAIN
    #[command(verbatim_doc_comment)]
    Set {
        /// Where.
        #[command(flatten)]
        level: Level,
        /// Variables that everybody may read
        #[arg(value_name = "KEY=VALUE")]
        values: Vec<Tag>,
        /// A secret one: kept sealed, and shown to nobody; `@-` reads standard input
        #[arg(long = "secret", value_name = "KEY=@FILE")]
        secrets: Vec<Tag>,
        /// One that must have a value before anything is deployed
        #[arg(long = "required", value_name = "KEY")]
        required: Vec<String>,
        /// What values must look like
        #[arg(long = "type", value_name = "TYPE", default_value = "string",
              value_parser = ["string", "int", "bool"])]
        kind: String,
    },
    /// List variables of all levels; values of secret ones are shown to nobody
    List {
        /// Only those that count for this stack or environment.
        #[command(flatten)]
        level: Level,
    },
    /// Remove variables at one level
    Unset {
        /// Where.
        #[command(flatten)]
        level: Level,
        /// Which
        #[arg(value_name = "KEY", required = true)]
        names: Vec<String>,
    },
}

/// What to do with logins at registries of images.
#[derive(Debug, Subcommand)]
pub enum RegistryCommand {
    /// Keep a login, sealed: agents get it with stacks that pull from there
    ///
    ///   sternline-relay registry login registry.example:5000 --user ci --password-stdin < token
    #[command(verbatim_doc_comment)]
    Login {
        /// The registry, as images name it; docker.io for those that name none
        host: String,
        /// The account
        #[arg(long, value_name = "USER")]
        user: String,
        /// Read the password or token from standard input
        #[arg(long, required = true)]
        password_stdin: bool,
    },
    /// List logins, without passwords
    List,
    /// Forget a login
    Logout {
        /// The registry
        host: String,
    },
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    environment: Option<String>,
    stack: Option<String>,
    kind: String,
    #[serde(default)]
    secret: bool,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    set: bool,
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Login {
    host: String,
    user: String,
    updated_at: Option<String>,
}

/// Runs one command about variables.
///
/// # Errors
///
/// What the relay refused, or why it cannot be reached.
pub async fn run(command: VariableCommand, client: &Client, format: Format) -> Result<(), Failure> {
    match command {
        VariableCommand::Set {
            level,
            values,
            secrets,
            required,
            kind,
        } => {
            let mut all: Vec<(String, Value)> = Vec::new();
            for one in values {
                let is_required = required.contains(&one.key);
                all.push((
                    one.key,
                    json!({ "value": one.value, "required": is_required }),
                ));
            }
            for one in secrets {
                let value = secret_value(&one.key, &one.value)?;
                let is_required = required.contains(&one.key);
                let body = json!({
                    "value": value.as_str(), "secret": true, "required": is_required,
                });
                all.push((one.key, body));
            }
            for name in required {
                if all.iter().all(|(had, _)| *had != name) {
                    all.push((name, json!({ "required": true })));
                }
            }
            if all.is_empty() {
                return Err(Failure::new(Exit::Usage, "there is nothing to set")
                    .advise("give KEY=VALUE, --secret KEY=@FILE, or --required KEY"));
            }
            set(client, &level, (all, &kind), format).await
        }
        VariableCommand::List { level } => list(client, &level, format).await,
        VariableCommand::Unset { level, names } => {
            for name in &names {
                client
                    .delete_where(&["variables", name], &level.query())
                    .await?;
            }
            match format {
                Format::Json => output::print_json(&json!({ "removed": names })),
                Format::Text => {
                    output::print(&format!("{BOLD}{}{PLAIN}: unset.", names.join(", ")))
                }
            }
        }
    }
}

impl Level {
    fn query(&self) -> Vec<(&'static str, String)> {
        let environment = self.environment.as_ref();
        let environment = environment.map(|name| ("environment", name.as_str().to_owned()));
        let stack = self
            .stack
            .as_ref()
            .map(|name| ("stack", name.as_str().to_owned()));
        environment.into_iter().chain(stack).collect()
    }
}

async fn set(
    client: &Client,
    level: &Level,
    (all, kind): (Vec<(String, Value)>, &str),
    format: Format,
) -> Result<(), Failure> {
    let mut names = Vec::new();
    for (name, mut body) in all {
        body["kind"] = kind.into();
        for (key, value) in level.query() {
            body[key] = value.into();
        }
        client.put(&["variables", &name], body).await?;
        names.push(name);
    }
    match format {
        Format::Json => output::print_json(&json!({ "set": names })),
        Format::Text => output::print(&format!(
            "{BOLD}{}{PLAIN}: set. It counts from the next deployment on.",
            names.join(", ")
        )),
    }
}

async fn list(client: &Client, level: &Level, format: Format) -> Result<(), Failure> {
    let answer = client.get(&["variables"], &[]).await?;
    if format == Format::Json {
        return output::print_json(&answer);
    }
    let all: Vec<Variable> = api::read_list(&answer, "variables")?;
    let of = |wanted: Option<&str>, own: Option<&String>| {
        wanted.is_none_or(|wanted| own.is_none_or(|own| own == wanted))
    };
    let environment = level.environment.as_ref().map(EnvironmentName::as_str);
    let stack = level.stack.as_ref().map(StackName::as_str);
    let mut table = Table::new(&["NAME", "LEVEL", "TYPE", "VALUE", ""]);
    let mut is_empty = true;
    for one in &all {
        if !of(environment, one.environment.as_ref()) || !of(stack, one.stack.as_ref()) {
            continue;
        }
        is_empty = false;
        let value = match (one.set, &one.value) {
            (false, _) => Cell::styled("not set", YELLOW),
            (true, None) => Cell::styled("****", DIM),
            (true, Some(value)) => human::printable(value).into(),
        };
        let flags = [(one.secret, "secret"), (one.required, "required")];
        let flags = flags
            .into_iter()
            .filter_map(|(is, word)| is.then_some(word));
        table.row(vec![
            human::printable(&one.name).into(),
            level_text(one).into(),
            human::printable(&one.kind).into(),
            value,
            flags.collect::<Vec<_>>().join(", ").into(),
        ]);
    }
    if is_empty {
        output::note("There are no variables.");
        return Ok(());
    }
    output::print(&table.render())
}

fn level_text(one: &Variable) -> String {
    match (&one.environment, &one.stack) {
        (Some(name), _) => format!("environment {}", human::printable(name)),
        (None, Some(name)) => format!("stack {}", human::printable(name)),
        (None, None) => "everything".to_owned(),
    }
}

/// Runs one command about registries.
///
/// # Errors
///
/// What the relay refused, or why it cannot be reached.
pub async fn run_registry(
    command: RegistryCommand,
    client: &Client,
    format: Format,
) -> Result<(), Failure> {
    match command {
        RegistryCommand::Login { host, user, .. } => {
            let password = read_password()?;
            let body = json!({ "user": user, "password": password.as_str() });
            client.put(&["registries", &host], body).await?;
            match format {
                Format::Json => output::print_json(&json!({ "host": host, "user": user })),
                Format::Text => output::print(&format!(
                    "The login of {user} at {BOLD}{host}{PLAIN} is kept. It goes to agents with \
                     stacks that pull from there."
                )),
            }
        }
        RegistryCommand::List => {
            let answer = client.get(&["registries"], &[]).await?;
            if format == Format::Json {
                return output::print_json(&answer);
            }
            let logins: Vec<Login> = api::read_list(&answer, "registries")?;
            let mut table = Table::new(&["REGISTRY", "USER", "WRITTEN"]);
            for login in &logins {
                table.row(vec![
                    human::printable(&login.host).into(),
                    human::printable(&login.user).into(),
                    human::moment(login.updated_at.as_deref().unwrap_or_default()).into(),
                ]);
            }
            output::print(&table.render())
        }
        RegistryCommand::Logout { host } => {
            client.delete(&["registries", &host]).await?;
            match format {
                Format::Json => output::print_json(&json!({ "removed": host })),
                Format::Text => output::print(&format!("The login at {host} is forgotten.")),
            }
        }
    }
}

fn read_password() -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin()
        .lock()
        .take(PASSWORD_BYTES_MAX)
        .read_to_string(&mut text);
    read.map_err(|error| Failure::new(Exit::Usage, format!("cannot read the password: {error}")))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(
            Failure::new(Exit::Usage, "there is no password on standard input")
                .advise("give it with `< FILE`, or by a pipe"),
        );
    }
    Ok(Zeroizing::new(password.to_owned()))
}
