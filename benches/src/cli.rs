//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{
    failure::{Context, Failure},
    idle::{self, IdleArgs},
    reconnect::{self, ReconnectArgs},
    results::Results,
};

/// Measures Sternline beside its peers, and writes the results down.
#[derive(Debug, Parser)]
#[command(name = "sternline-bench", version)]
pub struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
struct Global {
    /// Where RESULTS.md, plots and raw rounds are written
    #[arg(long, global = true, value_name = "DIR", default_value_os_t =
        Results::default_folder().to_owned())]
    results: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says where results would be written
    Where,
    /// Memory and processor time of idle agents, at the relay and in their own process
    Idle(IdleArgs),
    /// How soon requests go through after the relay was killed and started again
    Reconnect(ReconnectArgs),
}

/// Runs one command.
///
/// # Errors
/// What could not be measured or written.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let results = Results::new(&arguments.global.results);
    match arguments.command {
        Command::Idle(args) => wait(idle::run(&args, &results))?,
        Command::Reconnect(args) => wait(reconnect::run(&args, &results))?,
        Command::Where => println!("{}", arguments.global.results.display()),
    }
    Ok(())
}

/// Runs a measurement to its end.
fn wait(measurement: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(measurement)
}
