//! The operator's commands: clients of a relay's API and of its tunnel.
//!
//! Nothing here runs inside the relay: `serve` stands elsewhere. In floor order:
//! words ([`name`], [`listen_address`]) and looks ([`output`], [`human`], [`table`],
//! [`failure`]); the way to the relay ([`discover`], [`client`], [`api`],
//! [`operator`]); local connections ([`local_listener`], [`bridge`]); commands.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use failure::Failure;
use output::Format;

pub mod api;
pub mod client;
pub mod discover;
pub mod env;
pub mod expose;
pub mod failure;
pub mod human;
pub mod listen_address;
pub mod name;
pub mod output;
pub mod table;

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
    /// Data directory of the relay [default: /var/lib/sternline-relay]
    #[arg(long, global = true, env = "STERNLINE_RELAY_DATA_DIR", value_name = "DIR")]
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
    #[command(after_help = failure::EXIT_CODES_HELP)]
    Env {
        /// What to do.
        #[command(subcommand)]
        command: env::EnvCommand,
    },
    /// Open a port on the relay's host that leads to a target, kept across restarts
    #[command(after_help = failure::EXIT_CODES_HELP)]
    Expose(expose::ExposeArgs),
    /// End an exposure
    #[command(after_help = failure::EXIT_CODES_HELP)]
    Unexpose(expose::UnexposeArgs),
}

/// Runs a command, prints its result or its failure, and says how to exit.
pub async fn run(command: Command, global: Global) -> ExitCode {
    let format = if global.json { Format::Json } else { Format::Text };
    match dispatch(command, &global, format).await {
        Ok(code) => code,
        Err(failure) => failure.report(format),
    }
}

async fn dispatch(command: Command, global: &Global, format: Format) -> Result<ExitCode, Failure> {
    let access = discover::discover(global, std::env::var("STERNLINE_API_TOKEN").ok())?;
    let client = client::Client::new(&access)?;
    match command {
        Command::Env { command } => env::run(command, &client, format).await?,
        Command::Expose(args) => expose::expose(args, &client, format).await?,
        Command::Unexpose(args) => expose::unexpose(args, &client, format).await?,
    }
    Ok(ExitCode::SUCCESS)
}
