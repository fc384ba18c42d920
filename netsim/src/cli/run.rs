//! `run`: what was asked for, its progress, its table, and its reports.

use std::{
    collections::BTreeMap,
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use clap::{Args, ValueEnum};
use netsim_core::{
    model::{Scenario, World},
    repro::Repro,
};

use super::{EXIT_FAILED, EXIT_MISTAKES, EXIT_NO_INPUT, EXIT_OUTPUT, EXIT_USAGE, print};
use crate::{
    check::{self, CheckError},
    outcome::{Run, Suite},
    report::{About, progress::Progress, table, write},
    run::{self, Request, Seeds},
    shipped, version,
};

/// Where failures are kept that no report was asked for.
const FAILURES: &str = "netsim-failures";

/// How many failures are kept as files: after so many, more of them tell nothing new.
const KEPT_MAX: usize = 100;

/// What to run, and where.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// Names of shipped scenarios, and files (what ends in .toml or has a slash)
    #[arg(value_name = "NAME|FILE", required_unless_present = "all")]
    scenarios: Vec<String>,
    /// Every shipped scenario
    #[arg(long, conflicts_with = "scenarios")]
    all: bool,
    /// Where to run them
    #[arg(long, value_enum, default_value_t = Worlds::Sim)]
    world: Worlds,
    /// The first N seeds, or those from A to B; of scenarios with 500 hosts or more, two
    #[arg(long, value_name = "N|A..B", default_value = "1")]
    seeds: Seeds,
    /// How many runs at the same time [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// In the lab, take as long as the scenarios say; without, long times are divided by 10,
    /// and what still takes more than 40 s is left to virtual time
    #[arg(long)]
    full: bool,
    /// Write a report there: index.html, report.json, junit.xml, failures/
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
}

/// Where to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Worlds {
    /// Virtual time, simulated hosts
    Sim,
    /// The real kernel and the release programs
    Lab,
    /// One after the other, and whether they agree
    Both,
}

impl Worlds {
    fn all(self) -> Vec<World> {
        match self {
            Self::Sim => vec![World::Sim],
            Self::Lab => vec![World::Lab],
            Self::Both => vec![World::Sim, World::Lab],
        }
    }
}

/// Runs what was asked for.
pub(super) fn run(arguments: &RunArguments) -> ExitCode {
    let request = match request(arguments) {
        Ok(request) => request,
        Err(code) => return code,
    };
    if request.worlds.contains(&World::Lab)
        && let Some(ended) = super::sandboxed()
    {
        return ended;
    }
    if let Some(directory) = &arguments.report
        && let Err(error) = write::examine(directory)
    {
        anstream::eprintln!("error: {error}");
        return ExitCode::from(EXIT_USAGE);
    }
    let mut keeper = Keeper::new(arguments.report.as_deref());
    let began = Instant::now();
    let mut progress = Progress::on_stderr(run::count(&request));
    let suite = run::run(&request, |run, repro| {
        let mut shown = run.clone();
        shown.repro = repro.and_then(|repro| keeper.keep(run, repro));
        if let Some(text) = progress.done(&shown, began.elapsed()) {
            anstream::eprint!("{text}");
        }
        shown.repro
    });
    if let Some(text) = progress.finish() {
        anstream::eprint!("{text}");
    }
    let suite = match suite {
        Ok(suite) => suite,
        Err(error) => {
            anstream::eprintln!("error: {error}");
            return ExitCode::from(super::EXIT_UNAVAILABLE);
        }
    };
    conclude(arguments, &suite, &keeper.kept)
}

fn conclude(
    arguments: &RunArguments,
    suite: &Suite,
    repros: &BTreeMap<String, String>,
) -> ExitCode {
    let written = print(&table::text(suite));
    if written != ExitCode::SUCCESS {
        return written;
    }
    if let Some(directory) = &arguments.report {
        match write::directory(directory, suite, &about(), repros) {
            Ok(page) => anstream::eprintln!("report: {}", page.display()),
            Err(error) => {
                anstream::eprintln!("error: {error}");
                return ExitCode::from(EXIT_OUTPUT);
            }
        }
    }
    if suite.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILED)
    }
}

fn about() -> About {
    let command: Vec<String> = std::env::args().skip(1).collect();
    About {
        program: format!("sternline-netsim {}", version::SHORT),
        command: format!("sternline-netsim {}", command.join(" ")),
        began: jiff::Timestamp::now().strftime("%F %H:%M UTC").to_string(),
    }
}

fn request(arguments: &RunArguments) -> Result<Request, ExitCode> {
    let scenarios = if arguments.all {
        shipped::all()
    } else {
        named(&arguments.scenarios)?
    };
    let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Ok(Request {
        scenarios,
        worlds: arguments.world.all(),
        seeds: arguments.seeds,
        jobs: arguments.jobs.unwrap_or(processors),
        is_whole_suite: arguments.all,
        is_full_length: arguments.full,
    })
}

/// Every scenario that was named; every mistake in any of them is told.
fn named(names: &[String]) -> Result<Vec<Scenario>, ExitCode> {
    let (mut scenarios, mut worst) = (Vec::new(), None);
    for name in names {
        match find(name) {
            Ok(scenario) => scenarios.push(scenario),
            Err(error) => {
                anstream::eprintln!("error: {error}");
                worst = Some(match error {
                    FindError::Check(CheckError::Mistaken { .. }) => EXIT_MISTAKES,
                    FindError::Check(CheckError::Unreadable { .. }) => EXIT_NO_INPUT,
                    FindError::Unknown { .. } => EXIT_USAGE,
                });
            }
        }
    }
    worst.map_or(Ok(scenarios), |code| Err(ExitCode::from(code)))
}

/// Why there is no such scenario.
#[derive(Debug, thiserror::Error)]
enum FindError {
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error("no scenario is called `{name}`{}", nearest(.name))]
    Unknown { name: String },
}

fn nearest(name: &str) -> String {
    let mut known = shipped::SHIPPED.iter().map(|(known, _)| *known);
    let similar = known.find(|known| known.contains(name) || name.contains(known));
    match similar {
        Some(known) => format!("; did you mean `{known}`?"),
        None => "; `sternline-netsim list` names those that are shipped, and a file ends in \
                 .toml"
            .to_owned(),
    }
}

fn find(name: &str) -> Result<Scenario, FindError> {
    let is_file = name.contains('/') || name.ends_with(".toml");
    if is_file {
        return Ok(check::file(Path::new(name))?);
    }
    let mut all = shipped::all().into_iter();
    all.find(|scenario| scenario.name.as_str() == name)
        .ok_or_else(|| FindError::Unknown {
            name: name.to_owned(),
        })
}

/// Keeps what replays failures: in the report, or in a directory of their own.
struct Keeper {
    directory: PathBuf,
    /// Whether files are written with the report, and not at once.
    is_report: bool,
    kept: BTreeMap<String, String>,
}

impl Keeper {
    fn new(report: Option<&Path>) -> Self {
        Self {
            directory: match report {
                Some(report) => report.join(write::FAILURES),
                None => PathBuf::from(FAILURES),
            },
            is_report: report.is_some(),
            kept: BTreeMap::new(),
        }
    }

    /// The argument of `replay`.
    fn keep(&mut self, run: &Run, repro: &Repro) -> Option<String> {
        if self.kept.len() >= KEPT_MAX {
            return None;
        }
        let name = format!("{}-{}-{}.toml", run.scenario, run.world, run.seed.0);
        let path = self.directory.join(&name);
        let text = repro.to_toml();
        if !self.is_report
            && let Err(error) = self.write(&path, &text)
        {
            anstream::eprintln!("error: cannot keep {}: {error}", path.display());
            return None;
        }
        self.kept.insert(name, text);
        Some(path.display().to_string())
    }

    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        fs::write(path, text)
    }
}
