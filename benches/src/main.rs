//! The process: command line and exit code.

use std::process::ExitCode;

use benches::cli::Arguments;
use clap::Parser;

fn main() -> ExitCode {
    match benches::cli::run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
