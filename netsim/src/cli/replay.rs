//! `replay` and `shrink`: a failure from a file, once more, and as small as it gets.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use netsim_core::{
    limits,
    model::World,
    repro::Repro,
    shrink::{self, Shrunk},
};

use super::{EXIT_FAILED, EXIT_MISTAKES, EXIT_NO_INPUT, EXIT_OUTPUT, print};
use crate::{
    check,
    outcome::{Run, Suite},
    play::{self, Keeps, Played},
    report::table,
    run,
};

/// The longest repro: a scenario whose repetitions are written out, four times over. What is
/// longer is cut here, and refused for it.
const REPRO_BYTES_MAX: usize = 4 * limits::SCENARIO_BYTES_MAX;

/// How many smaller scenarios are tried.
const CANDIDATES: &str = "2000";

/// What to replay.
#[derive(Debug, Args)]
pub struct ReplayArguments {
    /// A file that a failed run has written
    #[arg(value_name = "REPRO")]
    repro: PathBuf,
    /// Write what passed on the cables, for Wireshark, with the keys of TLS
    #[arg(long, value_name = "FILE")]
    pcapng: Option<PathBuf>,
}

/// What to shrink.
#[derive(Debug, Args)]
pub struct ShrinkArguments {
    /// A file that a failed run has written
    #[arg(value_name = "REPRO")]
    repro: PathBuf,
    /// Where to write the smaller one [default: beside it, as NAME.shrunk.toml]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How many smaller ones are tried at the most
    #[arg(long, value_name = "N", default_value = CANDIDATES)]
    runs: usize,
}

/// Reads a repro, or says what is wrong with it, each mistake with its line.
fn read(path: &Path) -> Result<Repro, ExitCode> {
    let shown = path.display();
    let text = check::read_bounded(path, REPRO_BYTES_MAX).map_err(|error| {
        anstream::eprintln!("error: {shown}: {error}");
        ExitCode::from(EXIT_NO_INPUT)
    })?;
    Repro::parse(&text).map_err(|mistakes| {
        for mistake in mistakes {
            let (line, column) = (mistake.line, mistake.column);
            anstream::eprintln!("{shown}:{line}:{column}: {}", mistake.problem);
        }
        ExitCode::from(EXIT_MISTAKES)
    })
}

/// Runs a failure once more: the same events, the same verdict.
pub(super) fn replay(arguments: &ReplayArguments) -> ExitCode {
    let repro = match read(&arguments.repro) {
        Ok(repro) => repro,
        Err(code) => return code,
    };
    if repro.world == World::Lab
        && let Some(ended) = super::sandboxed()
    {
        return ended;
    }
    let keeps = match &arguments.pcapng {
        Some(_) => Keeps::Packets,
        None => Keeps::Nothing,
    };
    let Played {
        mut run, pcapng, ..
    } = match run::replay(&repro, keeps) {
        Ok(played) => played,
        Err(error) => {
            anstream::eprintln!("error: {error}");
            return ExitCode::from(super::EXIT_UNAVAILABLE);
        }
    };
    if let (Some(path), Some(bytes)) = (&arguments.pcapng, pcapng)
        && let Err(error) = fs::write(path, bytes)
    {
        anstream::eprintln!("error: {}: {error}", path.display());
        return ExitCode::from(EXIT_OUTPUT);
    }
    run.repro = Some(arguments.repro.display().to_string());
    let passed = run.passed();
    let suite = Suite {
        runs: vec![run],
        ..Suite::default()
    };
    let written = print(&table::text(&suite));
    if written != ExitCode::SUCCESS || passed {
        return written;
    }
    ExitCode::from(EXIT_FAILED)
}

/// Makes a failure as small as it gets.
pub(super) fn shrink(arguments: &ShrinkArguments) -> ExitCode {
    let repro = match read(&arguments.repro) {
        Ok(repro) => repro,
        Err(code) => return code,
    };
    if repro.world != World::Sim {
        anstream::eprintln!(
            "note: this failure was seen in the {}; it is shrunk in virtual time",
            repro.world
        );
    }
    let seed = repro.seed();
    let first = play::play(&repro.scenario, seed, Keeps::Nothing).run;
    let wanted = failing(&first);
    if wanted.is_empty() {
        anstream::eprintln!(
            "error: {} passes in virtual time: there is nothing to shrink",
            arguments.repro.display()
        );
        return ExitCode::from(EXIT_FAILED);
    }
    let mut tried = 0;
    let shrunk = shrink::shrink(&repro.scenario, arguments.runs, |candidate| {
        tried += 1;
        if tried % 25 == 0 {
            anstream::eprintln!("{tried} smaller ones tried");
        }
        let run = play::play(candidate, seed, Keeps::Nothing).run;
        // Smaller, and the same failure: another one is another story.
        failing(&run).iter().any(|says| wanted.contains(says))
    });
    write_shrunk(arguments, &repro, shrunk)
}

/// What a run fails by: the words of expectations, which a smaller scenario has too.
fn failing(run: &Run) -> Vec<String> {
    let failing = run.checks.iter().filter(|check| !check.outcome.passes());
    let says = failing.map(|check| check.says.clone());
    let vacuous = (!run.vacuous.is_empty()).then(|| "a vacuous fault".to_owned());
    says.chain(vacuous).collect()
}

fn write_shrunk(arguments: &ShrinkArguments, repro: &Repro, shrunk: Shrunk) -> ExitCode {
    let Shrunk {
        scenario,
        runs,
        is_minimal,
    } = shrunk;
    let path = arguments
        .output
        .clone()
        .unwrap_or_else(|| arguments.repro.with_extension("shrunk.toml"));
    let last = play::play(&scenario, repro.seed(), Keeps::Nothing).run;
    let events = (repro.scenario.events.len(), scenario.events.len());
    let smaller = run::repro(scenario, repro.seed(), World::Sim, &last.failures());
    if let Err(error) = fs::write(&path, smaller.to_toml()) {
        anstream::eprintln!("error: {}: {error}", path.display());
        return ExitCode::from(EXIT_OUTPUT);
    }
    let verdict = if is_minimal {
        "nothing more can be taken away"
    } else {
        "more might be taken away: give --runs more"
    };
    print(&format!(
        "{}: {} events of {}, after {runs} runs; {verdict}\nsternline-netsim replay {}\n",
        path.display(),
        events.1,
        events.0,
        path.display(),
    ))
}
