//! The command line.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, Parser, Subcommand};

use crate::{
    backend,
    callgrind::{self, CallgrindArgs, HotArgs},
    compare::{self, CompareArgs},
    failure::{Context, Failure},
    idle::{self, IdleArgs},
    load::{self, LoadArgs},
    reconnect::{self, ReconnectArgs},
    report,
    results::Results,
    run::Run,
    storm::{
        self, StormArgs,
        crew::{self, CrewArgs},
    },
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
    /// Everything there is to measure, written into RESULTS.md: takes a quiet machine, and
    /// half an hour
    All(CompareArgs),
    /// Memory and processor time of idle agents, at the relay and in their own process
    Idle(IdleArgs),
    /// How soon requests go through after the relay was killed and started again
    Reconnect(ReconnectArgs),
    /// How soon a fleet is back after the relay was killed, next to how fast handshakes go
    Storm(StormArgs),
    /// Light agents of a storm, told what to do by lines on standard input
    #[command(hide = true)]
    StormCrew(CrewArgs),
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
    /// Prints the tables of rounds that were written to a file before
    Report {
        /// As `compare --json` wrote it
        file: PathBuf,
        /// Write them into RESULTS.md, too
        #[arg(long)]
        write: bool,
    },
    /// Instructions of codec and session machine, counted by valgrind
    Callgrind(CallgrindArgs),
    /// Repeats one case of the hot path, for a profiler to look at
    Hot(HotArgs),
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
        Command::Storm(args) => wait(storm::run(&args, &results)),
        Command::StormCrew(args) => wait(crew::run(&args)),
        Command::All(args) => all(&args, &results, &arguments.global.results),
        Command::Compare { args, write, json } => {
            let run = compare::measure(&args)?;
            if let Some(path) = json {
                let text = serde_json::to_string_pretty(&run).context("JSON")?;
                fs::write(&path, text).context(path.display())?;
            }
            report(&run, write, &results)
        }
        Command::Report { file, write } => {
            let text = fs::read_to_string(&file).context(file.display())?;
            let run = serde_json::from_str(&text).context(file.display())?;
            report(&run, write, &results)
        }
        Command::Callgrind(args) => callgrind::run(&args, &results),
        Command::Hot(args) => callgrind::run_hot(&args),
        Command::Load(args) => load::run(&args),
        Command::Backend => backend::run(),
    }
}

fn report(run: &Run, write: bool, results: &Results) -> Result<(), Failure> {
    println!("{}", report::markdown(run));
    if write {
        report::write(run, results)?;
    }
    Ok(())
}

/// What `all` measures besides the comparison.
const FURTHER: [&[&str]; 4] = [
    &["callgrind", "--write"],
    &["idle"],
    &["reconnect"],
    &["storm"],
];

/// One after the other, because they would disturb each other.
fn all(args: &CompareArgs, results: &Results, folder: &Path) -> Result<(), Failure> {
    report(&compare::measure(args)?, true, results)?;
    for command in FURTHER {
        let words = ["sternline-bench"].iter().chain(command);
        let mut words: Vec<OsString> = words.map(OsString::from).collect();
        words.extend(["--results".into(), folder.into()]);
        run(Arguments::try_parse_from(words).context("a command of our own")?)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_consists_of_commands_that_there_are() {
        for command in FURTHER {
            let words = ["sternline-bench"].iter().chain(command);

            assert!(Arguments::try_parse_from(words).is_ok(), "{command:?}");
        }
    }
}
