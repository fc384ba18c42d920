//! `matrix`: the probe's confusion matrix.

use std::{num::NonZeroUsize, path::PathBuf, process::ExitCode};

use clap::Args;

use super::{EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_USAGE, print};
use crate::matrix::{self, Case, Kind};

/// Which cases, and what is made of them.
#[derive(Debug, Args)]
pub struct MatrixArguments {
    /// Cases, by name or by how their names begin; without any, all
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// How many at the same time; they wait most of the time
    #[arg(long, value_name = "N", default_value = "6")]
    jobs: NonZeroUsize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Say which cases there are, and run none
    #[arg(long)]
    list: bool,
    /// Write the page of the documentation there
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Run one case in this process, which is a sandbox
    #[arg(long, hide = true)]
    alone: bool,
}

/// Does it.
pub(super) fn run(arguments: &MatrixArguments) -> ExitCode {
    let cases = match chosen(&arguments.names) {
        Ok(cases) => cases,
        Err(why) => {
            anstream::eprintln!("error: {why}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if arguments.list {
        return print(&listed(&cases));
    }
    on_kernel(arguments, &cases)
}

fn chosen(names: &[String]) -> Result<Vec<Case>, String> {
    let all = matrix::all()?;
    if let Some(unknown) = names
        .iter()
        .find(|name| !all.iter().any(|case| is(case, name)))
    {
        return Err(format!(
            "no case is called `{unknown}`; `sternline-netsim matrix --list` says which there are"
        ));
    }
    let is_chosen = |case: &Case| names.is_empty() || names.iter().any(|name| is(case, name));
    // A whole name means that case alone.
    let exact = |case: &Case| names.contains(&case.name);
    let are_exact = names
        .iter()
        .all(|name| all.iter().any(|case| case.name == *name));
    let cases = all.iter().filter(|case| {
        if are_exact && !names.is_empty() {
            exact(case)
        } else {
            is_chosen(case)
        }
    });
    Ok(cases.cloned().collect())
}

fn is(case: &Case, name: &str) -> bool {
    case.name.starts_with(name)
}

fn listed(cases: &[Case]) -> String {
    let lines = cases.iter().map(|case| {
        let kind = match case.kind {
            Kind::Fault => "fault",
            Kind::Healthy => "healthy",
            Kind::Mixed => "mixed",
        };
        format!("{:<8} {:<32} {}\n", kind, case.name, case.says)
    });
    lines.collect()
}

#[cfg(target_os = "linux")]
fn on_kernel(arguments: &MatrixArguments, cases: &[Case]) -> ExitCode {
    use crate::{
        lab,
        matrix::{Score, jobs, table},
    };

    if arguments.alone {
        return alone(cases);
    }
    if let Err(missing) = lab::preflight() {
        for one in missing {
            anstream::eprintln!("error: the lab cannot be run here: {one}");
        }
        return ExitCode::from(EXIT_UNAVAILABLE);
    }
    let mut count = 0;
    let scored = jobs::run(cases, arguments.jobs, |one| {
        count += 1;
        let total = cases.len();
        anstream::eprint!("{count:>3}/{total} {}", table::line(one));
    });
    let written = if arguments.json {
        print(&format!("{:#}\n", table::json(&scored)))
    } else {
        print(&table::text(&scored))
    };
    if written != ExitCode::SUCCESS {
        return written;
    }
    if let Some(path) = &arguments.write
        && let Err(error) = std::fs::write(path, table::page(&scored))
    {
        anstream::eprintln!("error: cannot write {}: {error}", path.display());
        return ExitCode::from(super::EXIT_OUTPUT);
    }
    if Score::of(&scored).is_good_enough() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FAILED)
    }
}

/// One case, in the sandbox that this process is.
#[cfg(target_os = "linux")]
fn alone(cases: &[Case]) -> ExitCode {
    let [case] = cases else {
        anstream::eprintln!("error: one case at a time");
        return ExitCode::from(EXIT_USAGE);
    };
    match matrix::world::run(case) {
        Ok(outcome) => match serde_json::to_string(&outcome) {
            Ok(text) => print(&text),
            Err(error) => {
                anstream::eprintln!("error: {error}");
                ExitCode::from(EXIT_FAILED)
            }
        },
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::from(EXIT_UNAVAILABLE)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn on_kernel(_arguments: &MatrixArguments, _cases: &[Case]) -> ExitCode {
    anstream::eprintln!("error: the matrix is made in the lab, which wants Linux");
    ExitCode::from(EXIT_UNAVAILABLE)
}
