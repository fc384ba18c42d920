//! The command line.

use std::{fs, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{
    backend,
    compare::{self, CompareArgs},
    failure::{Context, Failure},
    idle::{self, IdleArgs},
    load::{self, LoadArgs},
    reconnect::{self, ReconnectArgs},
    report,
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
    /// Memory and processor time of idle agents, at the relay and in their own process
    Idle(IdleArgs),
    /// How soon requests go through after the relay was killed and started again
    Reconnect(ReconnectArgs),
    /// Measures ours beside every peer in interleaved rounds, and prints the tables
    Compare {
        #[command(flatten)]
        args: CompareArgs,
        /// Write the results into RESULTS.md, too
        #[arg(long)]
        write: bool,
        /// Write every round's figures to this file
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Runs one test against a tunnel that is there, and prints JSON
    Load(LoadArgs),
    /// Serves echo, source, sink and HTTP until standard input ends
    Backend,
}

/// Runs one command.
///
/// # Errors
/// What could not be measured or written.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let results = Results::new(&arguments.global.results);
    match arguments.command {
        Command::Idle(args) => wait(idle::run(&args, &results)),
        Command::Reconnect(args) => wait(reconnect::run(&args, &results)),
        Command::Compare { args, write, json } => {
            let run = compare::measure(&args)?;
            if let Some(path) = json {
                let text = serde_json::to_string_pretty(&run).context("JSON")?;
                fs::write(&path, text).context(path.display())?;
            }
            println!("{}", report::markdown(&run));
            if write {
                results.raw("compare", &run)?;
                results.section("compare", &report::markdown(&run))?;
            }
            Ok(())
        }
        Command::Load(args) => load::run(&args),
        Command::Backend => backend::run(),
    }
}

/// Runs a measurement to its end.
fn wait(measurement: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(measurement)
}
