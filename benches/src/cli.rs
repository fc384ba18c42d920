//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::{failure::Failure, results::Results};

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
}

/// Runs one command.
///
/// # Errors
/// What could not be measured or written.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Where => println!("{}", arguments.global.results.display()),
    }
    Ok(())
}
