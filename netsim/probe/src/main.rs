//! `sternline-probe`: reads the command line, and hands over.

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use probe::{
    cli::{self, EXIT_CODES_HELP, EXIT_USAGE, ProbeArguments, RunArguments},
    manual,
};

/// What this network lets through to a relay, who blocks, and which rule to add.
#[derive(Debug, Parser)]
#[command(
    name = "sternline-probe",
    version,
    arg_required_else_help = true,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = EXIT_CODES_HELP
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

/// Something else than a run.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Probe(cli::Command),
    /// Print the completions of a shell
    Completions {
        /// Which shell
        shell: Shell,
    },
    /// Write the man pages into a folder
    #[command(hide = true)]
    Man {
        /// The folder, made where it is missing
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    tunnel::look_up_without_libraries();
    let Arguments { command, run } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where nobody reads it, nobody misses it.
            error.print().ok();
            return match error.use_stderr() {
                true => ExitCode::from(EXIT_USAGE),
                false => ExitCode::SUCCESS,
            };
        }
    };
    let command = match command {
        Some(Command::Completions { shell }) => {
            return cli::written(manual::print_completions(Arguments::command(), shell));
        }
        Some(Command::Man { folder }) => {
            return cli::written(manual::write_pages(Arguments::command(), &folder));
        }
        Some(Command::Probe(command)) => Some(command),
        None => None,
    };
    cli::run(&ProbeArguments { command, run })
}
