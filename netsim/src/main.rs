//! The process: command line and exit code.

use std::process::ExitCode;

use clap::Parser;
use netsim::cli::{self, Arguments};

fn main() -> ExitCode {
    match Arguments::try_parse() {
        Ok(arguments) => cli::run(&arguments),
        Err(error) => cli::report_usage(&error),
    }
}
