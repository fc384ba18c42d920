//! `sternline-agent`: reads the command line, and hands over.

use std::{env, ffi::OsString, io, process::ExitCode};

use agent::{
    cli::{Cli, Command, Places, RunArgs},
    config::{self, Settings},
    log, manual, run, sandbox, status,
    token::{self, TOKEN_VARIABLE, TokenSources},
};
use clap::{CommandFactory, Parser};

/// As in sysexits.h: something must be corrected before another start.
const EXIT_CONFIG: u8 = 78;
fn main() -> ExitCode {
    tunnel::keep_what_bulk_needs();
    tunnel::look_up_without_libraries();
    match Cli::parse().command {
        Command::Run(arguments) => start(*arguments),
        Command::Status(asked) => {
            with_settings(&asked.places, |s| status::show::run(&s.state_dir, &asked))
        }
        Command::Sandbox(asked) => {
            with_settings(&asked.places, |s| sandbox::show::run(s, asked.json))
        }
        Command::Check(asked) => with_settings(&asked.places, |s| agent::check::run(s, &asked)),
        Command::Plan(asked) => agent::stacks::preview::run(&asked),
        Command::Completions { shell } => written(manual::print_completions(Cli::command(), shell)),
        Command::Man { folder } => written(manual::write_pages(Cli::command(), &folder)),
    }
}

fn start(arguments: RunArgs) -> ExitCode {
    // First of all, while nobody has had time to look at the command line.
    let still_visible = arguments.token.as_deref().map(token::move_out_of_arguments);
    let environment: Vec<(OsString, OsString)> = env::vars_os().collect();
    let file = arguments.places.config.as_deref();
    let settings = match config::load(file, &arguments.flags(), &environment) {
        Ok(settings) => settings,
        Err(error) => return fail(&error.to_string()),
    };
    log::start(&settings);
    if let Some(error) = still_visible {
        tracing::warn!(%error, "the token stays visible in the list of processes");
    }
    for name in config::unknown_variables(&environment) {
        tracing::warn!(name, "an unknown variable is ignored");
    }
    let sources = TokenSources {
        argument: arguments.token,
        file_argument: arguments.token_file,
        variable: env::var_os(TOKEN_VARIABLE),
        file: settings.token_file.clone(),
    };
    match run::run(settings, sources, &environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn with_settings(places: &Places, run: impl FnOnce(&Settings) -> ExitCode) -> ExitCode {
    let environment: Vec<_> = env::vars_os().collect();
    let loaded = config::load(places.config.as_deref(), &places.flags(), &environment);
    loaded.map_or_else(|error| fail(&error.to_string()), |settings| run(&settings))
}

fn written(outcome: io::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format!("cannot write: {error}")),
    }
}

fn fail(problem: &str) -> ExitCode {
    anstream::eprintln!("sternline-agent: {problem}");
    ExitCode::from(EXIT_CONFIG)
}
