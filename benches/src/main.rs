//! The process: command line and exit code.

use std::process::ExitCode;

use benches::cli::Arguments;
use clap::Parser;

fn main() -> ExitCode {
    // As relay and agent do: thousands of dials would otherwise clear three megabytes each.
    tunnel::keep_what_bulk_needs();
    match benches::cli::run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
