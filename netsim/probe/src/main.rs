//! `sternline-probe`: reads the command line, and hands over.

use std::process::ExitCode;

use clap::Parser;
use probe::cli::{self, EXIT_CODES_HELP, EXIT_USAGE, ProbeArguments};

/// What this network lets through to a relay, who blocks, and which rule to add.
#[derive(Debug, Parser)]
#[command(
    name = "sternline-probe",
    version,
    arg_required_else_help = true,
    after_help = EXIT_CODES_HELP
)]
struct Arguments {
    #[command(flatten)]
    probe: ProbeArguments,
}

fn main() -> ExitCode {
    tunnel::look_up_without_libraries();
    match Arguments::try_parse() {
        Ok(arguments) => cli::run(&arguments.probe),
        Err(error) => {
            // Where nobody reads it, nobody misses it.
            error.print().ok();
            match error.use_stderr() {
                true => ExitCode::from(EXIT_USAGE),
                false => ExitCode::SUCCESS,
            }
        }
    }
}
