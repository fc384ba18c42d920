//! The command line: results on standard output, everything else on standard error,
//! colour only on a terminal.

#[cfg(target_os = "linux")]
mod far;
mod matrix;
mod replay;
mod run;

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use probe::cli::ProbeArguments;

use crate::{
    check::{self, CheckError},
    list, shipped, version,
};

/// Networks of customers as scenarios: what a relay and an agent must survive.
#[derive(Debug, Parser)]
#[command(
    name = "sternline-netsim",
    version = version::SHORT,
    long_version = version::LONG,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = EXIT_CODES_HELP
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the scenarios, what each models, and who observed it.
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Check scenario files; every mistake at once, with line and column.
    Check {
        /// The files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Run scenarios in virtual time, on the real kernel, or in both.
    Run(run::RunArguments),
    /// Run a failure once more: the same events, the same verdict.
    Replay(replay::ReplayArguments),
    /// Make a failure as small as it gets.
    Shrink(replay::ShrinkArguments),
    /// What this network lets through to a relay, who blocks, and which rule to add.
    #[command(after_help = probe::cli::EXIT_CODES_HELP)]
    Probe(Box<ProbeArguments>),
    /// Ask the probe about networks of which is known what is wrong with them: how often it
    /// is right.
    Matrix(matrix::MatrixArguments),
    /// Measure one stream over a long and fast line, beside plain TCP, and pings beside it.
    #[cfg(target_os = "linux")]
    Far(far::FarArguments),
}

const EXIT_CODES_HELP: &str = "\
Exit codes:
    0  done
    1  a scenario does not make sense, or a run has failed
   64  the command line is wrong
   66  a file cannot be read
   69  what is needed is not there: namespaces, a tool, a program
   74  a result cannot be written";

/// A scenario does not make sense.
const EXIT_MISTAKES: u8 = 1;
/// A run has failed.
const EXIT_FAILED: u8 = 1;
/// As in sysexits.h.
const EXIT_USAGE: u8 = 64;
const EXIT_NO_INPUT: u8 = 66;
const EXIT_UNAVAILABLE: u8 = 69;
const EXIT_OUTPUT: u8 = 74;

/// Says why a command line is not understood, or the help that was asked for.
pub fn report_usage(error: &clap::Error) -> ExitCode {
    // Where nobody reads it, nobody misses it.
    error.print().ok();
    if error.use_stderr() {
        ExitCode::from(EXIT_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

/// Does what was asked.
pub fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.command {
        Command::List { json: true } => print(&format!("{:#}\n", list::json(&shipped::all()))),
        Command::List { json: false } => print(&list::text(&shipped::all())),
        Command::Check { files } => check_all(files),
        Command::Run(arguments) => run::run(arguments),
        Command::Replay(arguments) => replay::replay(arguments),
        Command::Shrink(arguments) => replay::shrink(arguments),
        Command::Probe(arguments) => {
            tunnel::look_up_without_libraries();
            probe::cli::run(arguments)
        }
        Command::Matrix(arguments) => matrix::run(arguments),
        #[cfg(target_os = "linux")]
        Command::Far(arguments) => far::run(arguments),
    }
}

/// What the lab makes lives in a sandbox: runs this very command in one, and gives its end;
/// none where this is one already.
#[cfg(target_os = "linux")]
fn sandboxed() -> Option<ExitCode> {
    use crate::lab::{preflight, sandbox};

    if sandbox::is_inside() {
        return None;
    }
    if let Err(missing) = preflight() {
        for one in missing {
            anstream::eprintln!("error: the lab cannot be run here: {one}");
        }
        return Some(ExitCode::from(EXIT_UNAVAILABLE));
    }
    match sandbox::run(std::env::args_os().skip(1)) {
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            Some(ExitCode::from(code.unwrap_or(EXIT_FAILED)))
        }
        Err(error) => {
            anstream::eprintln!("error: no sandbox for the lab: {error}");
            Some(ExitCode::from(EXIT_UNAVAILABLE))
        }
    }
}

/// There is no lab elsewhere: whoever runs it says so.
#[cfg(not(target_os = "linux"))]
const fn sandboxed() -> Option<ExitCode> {
    None
}

fn check_all(files: &[PathBuf]) -> ExitCode {
    let mut worst = ExitCode::SUCCESS;
    for path in files {
        match check::file(path) {
            Ok(scenario) => {
                let written = print(&format!("{}\n", check::praise(path, &scenario)));
                if written != ExitCode::SUCCESS {
                    return written;
                }
            }
            Err(error) => {
                anstream::eprintln!("{error}");
                worst = ExitCode::from(match error {
                    CheckError::Unreadable { .. } => EXIT_NO_INPUT,
                    CheckError::Mistaken { .. } => EXIT_MISTAKES,
                });
            }
        }
    }
    worst
}

/// Writes a result. A reader that went away has seen what it wanted.
fn print(text: &str) -> ExitCode {
    let mut stdout = anstream::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            anstream::eprintln!("error: cannot write to standard output: {error}");
            ExitCode::from(EXIT_OUTPUT)
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_check_of_nothing_is_refused() {
        assert!(Arguments::try_parse_from(["sternline-netsim", "check"]).is_err());
    }
}
