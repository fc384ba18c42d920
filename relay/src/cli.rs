//! The operator's commands: clients of a relay's API and of its tunnel.
//!
//! Nothing here runs inside the relay: `serve` stands elsewhere. In floor order:
//! words ([`name`], [`listen_address`]) and looks ([`output`], [`human`], [`table`],
//! [`failure`]); the way to the relay ([`discover`], [`client`], [`api`],
//! [`operator`]); local connections ([`local_listener`], [`bridge`]); commands.

#![expect(
    clippy::disallowed_methods,
    reason = "a command runs on an operator's host, and in no simulation"
)]

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use client::Client;
use failure::Failure;
use output::Format;

pub mod api;
pub mod bridge;
pub mod client;
pub mod discover;
pub mod docker;
pub mod docker_answer;
pub mod drain;
pub mod env;
pub mod expose;
pub mod failure;
pub mod forward;
pub mod health;
pub mod human;
pub mod listen_address;
pub mod local_listener;
pub mod name;
pub mod operator;
pub mod output;
pub mod stack;
pub mod table;
pub mod variable;

/// Options that every operator's command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of the operator's commands")]
pub struct Global {
    /// The relay's HTTPS address, such as https://relay.example:443
    ///
    /// Needs an API token in STERNLINE_API_TOKEN or --api-token-file. Without it, address
    /// and token of a relay on this host are read from its data directory.
    #[arg(long, global = true, env = "STERNLINE_RELAY", value_name = "URL")]
    pub relay: Option<String>,
    /// CA certificate (PEM) that vouches for the relay [default: the system's CAs]
    #[arg(long, global = true, env = "STERNLINE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// The proxy to reach the relay through, http://, https:// or socks5://HOST:PORT, or
    /// none [default: HTTPS_PROXY or ALL_PROXY, less NO_PROXY]
    #[arg(long, global = true, value_name = "URL")]
    pub proxy: Option<String>,
    /// Data directory of the relay [default: /var/lib/sternline-relay]
    #[arg(
        long,
        global = true,
        env = "STERNLINE_RELAY_DATA_DIR",
        value_name = "DIR"
    )]
    pub data_dir: Option<PathBuf>,
    /// File with the API token, in place of STERNLINE_API_TOKEN
    #[arg(long, global = true, value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,
    /// Print JSON for scripts
    #[arg(long, global = true)]
    pub json: bool,
}

/// The operator's commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make, list and remove environments
    #[command(after_long_help = failure::EXIT_CODES_HELP)]
    Env {
        /// What to do.
        #[command(subcommand)]
        command: env::EnvCommand,
    },
    /// Run the local docker command against an environment, or listen for other tools
    ///
    /// Everything after `--` is the docker command's own:
    ///
    ///   sternline-relay docker berlin -- logs -f web
    ///   sternline-relay docker berlin -- exec -it web sh
    ///
    /// Any other tool that takes a DOCKER_HOST finds it at a socket:
    ///
    ///   sternline-relay docker berlin --listen unix:///run/user/1000/berlin.sock
    #[command(after_long_help = failure::EXIT_CODES_HELP, verbatim_doc_comment)]
    Docker(docker::DockerArgs),
    /// Open a port on this machine that leads to a target
    ///
    /// It is there until Ctrl-C. The policy on the agent's host must name the target:
    ///
    ///   sternline-relay forward berlin tcp:db.internal:5432 --listen 127.0.0.1:5432
    #[command(after_long_help = failure::EXIT_CODES_HELP, verbatim_doc_comment)]
    Forward(forward::ForwardArgs),
    /// Open a port on the relay's host that leads to a target, kept across restarts
    ///
    /// Whoever reaches the address reaches the target, without any credential:
    ///
    ///   sternline-relay expose berlin tcp:db.internal:5432 --listen 127.0.0.1:5432
    ///   sternline-relay expose --list
    #[command(after_long_help = failure::EXIT_CODES_HELP, verbatim_doc_comment)]
    Expose(expose::ExposeArgs),
    /// Have the relay end in order, as the signal TERM does
    ///
    /// It takes nothing new, tells each agent when to come back, and waits for streams until
    /// its deadline (`drain.timeout`). Whatever supervises it starts it again, if it is to.
    #[command(after_long_help = failure::EXIT_CODES_HELP)]
    Drain,
    /// Deploy Compose stacks to environments, and see how they fare
    ///
    ///   sternline-relay stack deploy shop --env berlin -f compose.yml --wait
    ///   sternline-relay stack status
    #[command(after_long_help = failure::EXIT_CODES_HELP, verbatim_doc_comment)]
    Stack {
        /// What to do.
        #[command(subcommand)]
        command: stack::StackCommand,
    },
    /// Set and list the variables of Compose files
    #[command(after_long_help = failure::EXIT_CODES_HELP)]
    Variable {
        /// What to do.
        #[command(subcommand)]
        command: variable::VariableCommand,
    },
    /// Keep logins at registries of images
    #[command(after_long_help = failure::EXIT_CODES_HELP)]
    Registry {
        /// What to do.
        #[command(subcommand)]
        command: variable::RegistryCommand,
    },
    /// Ask the relay on this host whether it takes sessions
    ///
    /// Prints nothing where it does. Needs no API token; for a container's health check:
    ///
    ///   HEALTHCHECK CMD ["sternline-relay", "health"]
    #[command(after_long_help = failure::EXIT_CODES_HELP, verbatim_doc_comment)]
    Health,
    /// End an exposure
    #[command(after_long_help = failure::EXIT_CODES_HELP)]
    Unexpose(expose::UnexposeArgs),
}

/// Runs a command, prints its result or its failure, and says how to exit.
pub async fn run(command: Command, global: Global) -> ExitCode {
    let format = if global.json {
        Format::Json
    } else {
        Format::Text
    };
    match dispatch(command, &global, format).await {
        Ok(code) => code,
        Err(failure) => failure.report(format),
    }
}

/// Prints what is wrong with a command line, or the help that was asked for, and says
/// how to exit.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    // Where neither stream can be written, there is nobody to tell.
    error.print().ok();
    match error.use_stderr() {
        true => ExitCode::from(failure::Exit::Usage as u8),
        false => ExitCode::SUCCESS,
    }
}

async fn dispatch(command: Command, global: &Global, format: Format) -> Result<ExitCode, Failure> {
    if let Command::Health = command {
        health::run(global).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let api_token = std::env::var("STERNLINE_API_TOKEN").ok();
    let variables: Vec<_> = std::env::vars_os().collect();
    let access = discover::discover(global, api_token, &variables)?;
    let client = || Client::new(&access);
    match command {
        Command::Docker(args) => return docker::run(args, &access, format).await,
        Command::Forward(args) => return forward::run(args, &access, format).await,
        Command::Drain => drain::run(&client()?, format).await?,
        Command::Env { command } => env::run(command, &client()?, format).await?,
        Command::Expose(args) => expose::expose(args, &client()?, format).await?,
        Command::Health => unreachable!("done above, without an API token"),
        Command::Stack { command } => return stack::run(command, &client()?, format).await,
        Command::Variable { command } => variable::run(command, &client()?, format).await?,
        Command::Registry { command } => {
            variable::run_registry(command, &client()?, format).await?;
        }
        Command::Unexpose(args) => expose::unexpose(args, &client()?, format).await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        global: Global,
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn the_command_line_is_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn global_options_are_taken_before_and_after_the_command() {
        let before = Line::parse_from(["x", "--json", "--data-dir", "/d", "env", "list"]);
        let after = Line::parse_from(["x", "env", "list", "--json", "--data-dir", "/d"]);

        for line in [before, after] {
            assert!(line.global.json);
            assert_eq!(line.global.data_dir, Some(PathBuf::from("/d")));
        }
    }

    #[test]
    fn an_api_token_is_no_argument_because_every_user_sees_arguments() {
        let mut command = Line::command();
        command.build();

        let with_token: Vec<_> = command
            .get_arguments()
            .filter_map(clap::Arg::get_long)
            .filter(|long| long.contains("token"))
            .collect();

        assert_eq!(with_token, ["api-token-file"]);
    }
}
