//! `sternline-agent plan`: what a Compose file would do on this host, for the customer to read.
//! A process of its own; it changes nothing.

use std::{env, ffi::OsString, fs, process::ExitCode};

use compose::{
    folder::Folder,
    load::{self, Level, Loaded, Sources, Variables, dotenv, variables::Value},
    plan::{self, Plan},
};
use tunnel::World;

use super::{
    engine::Engine,
    fault::Fault,
    rules,
    site::{Prepared, observed, wanted},
};
use crate::{
    cli::PlanArgs,
    config::{self, Settings},
    policy_file::PolicyFile,
};

/// As in sysexits.h: the command line is wrong.
const EXIT_USAGE: u8 = 64;
/// The policy refuses the stack.
const EXIT_REFUSED: u8 = 2;

/// Runs the command.
pub fn run(asked: &PlanArgs) -> ExitCode {
    let environment: Vec<(OsString, OsString)> = env::vars_os().collect();
    let file = asked.places.config.as_deref();
    let settings = match config::load(file, &asked.flags(), &environment) {
        Ok(settings) => settings,
        Err(error) => return fail(&error.to_string(), EXIT_USAGE),
    };
    let loaded = match loaded(asked) {
        Ok(loaded) => loaded,
        Err(problem) => return fail(&problem, EXIT_USAGE),
    };
    for warning in &loaded.warnings {
        anstream::eprintln!("sternline-agent: note: {warning}");
    }
    if asked.rendered {
        anstream::print!("{}", load::preview(&loaded.stack));
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string(), 1),
    };
    let prepared = match runtime.block_on(prepared(&loaded, &settings)) {
        Ok(prepared) => prepared,
        Err(fault) => return fail(&fault.to_string(), 1),
    };
    let refusals = match PolicyFile::open(settings.policy) {
        Ok(file) => rules::refusals(&file.subscribe().borrow().policy, &prepared),
        Err(error) => return fail(&error.to_string(), 1),
    };
    let Prepared {
        stack,
        options,
        observed,
    } = &prepared;
    match plan::plan(stack, observed, options) {
        Ok(plan) => show(asked, &plan, &refusals),
        Err(obstacles) => {
            let lines: Vec<String> = obstacles.iter().map(ToString::to_string).collect();
            fail(&lines.join("\n  "), 1)
        }
    }
}

fn show(asked: &PlanArgs, plan: &Plan, refusals: &[String]) -> ExitCode {
    match asked.json {
        true => {
            let document = serde_json::json!({ "plan": plan, "refused_by_policy": refusals });
            anstream::println!("{document:#}");
        }
        false => anstream::print!("{}", render(plan, refusals)),
    }
    match refusals.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(EXIT_REFUSED),
    }
}

fn render(plan: &Plan, refusals: &[String]) -> String {
    let mut text = String::new();
    for (number, step) in (1..).zip(&plan.steps) {
        text += &format!("{number:>4}  {}", step.operation);
        if !step.why.is_empty() {
            text += &format!("  ({})", step.why);
        }
        text.push('\n');
    }
    for note in &plan.notes {
        text += &format!("note: {note}\n");
    }
    match (plan.steps.len(), plan.changes()) {
        (0, _) => text += "nothing to do: the stack is as it shall be\n",
        (steps, changes) => text += &format!("{steps} steps, {changes} of them change something\n"),
    }
    for refusal in refusals {
        text += &format!("the policy refuses it: {refusal}\n");
    }
    text
}

fn loaded(asked: &PlanArgs) -> Result<Loaded, String> {
    let (folder, compose) = Folder::of(&asked.files, asked.project_directory.as_deref())
        .map_err(|error| error.to_string())?;
    let name = folder
        .path()
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let sources = Sources {
        variables: variables(asked, &folder)?,
        files: &folder,
        compose,
        name: asked.project_name.clone(),
        folder: name,
        profiles: asked.profiles.iter().cloned().collect(),
    };
    load::load(&sources).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n  ")
    })
}

fn variables(asked: &PlanArgs, folder: &Folder) -> Result<Variables, String> {
    let mut variables = Variables::default();
    let usual = folder.path().join(".env");
    let mut files = asked.env_files.clone();
    if files.is_empty() && usual.is_file() {
        files.push(usual);
    }
    for path in files {
        let wrong = |problem: String| format!("`{}`: {problem}", path.display());
        let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        dotenv::set(&mut variables, Level::File, &text)
            .map_err(|mistake| wrong(format!("line {}: {}", mistake.line, mistake.message)))?;
    }
    for pair in &asked.set {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("--set takes NAME=VALUE, and `{pair}` has no `=`"))?;
        variables.plain(Level::Given, name, value);
    }
    for name in &asked.secret {
        variables.set(Level::Given, name, Value::Secret);
    }
    Ok(variables)
}

async fn prepared(loaded: &Loaded, settings: &Settings) -> Result<Prepared, Fault> {
    let world = World::real();
    let engine = Engine::connect(&world.net, &settings.docker_socket).await?;
    let stack = super::addressed::addressed(&loaded.stack, &Default::default());
    let found = engine.look(&stack.name, &wanted(&stack)).await?;
    let observed = observed(&engine, found).await?;
    let root = settings.state_dir.join("stacks/files").join(&stack.name);
    let context = plan::Context {
        api: engine.api,
        shipped_root: root.to_string_lossy().into_owned(),
        ..plan::Context::default()
    };
    let options = plan::Options {
        context,
        now_seconds: Some(world.clock.unix_seconds()),
        ..plan::Options::default()
    };
    Ok(Prepared {
        stack,
        options,
        observed,
    })
}

fn fail(problem: &str, code: u8) -> ExitCode {
    anstream::eprintln!("sternline-agent: {problem}");
    ExitCode::from(code)
}
