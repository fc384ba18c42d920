//! The command `serve`: from arguments to an exit code.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use tracing::{info, warn};

use super::{Stopped, serve};
use crate::{
    args::ServeArgs,
    config::{self, Flags, Inputs, KEYS, Loaded},
    data_dir, log,
    log::Format,
    tls::{self, TlsSource},
};

/// Exit code for a configuration that does not hold, as `sysexits.h` has it.
const EXIT_USAGE: u8 = 64;

/// Exit code for a stop in order that had to cut streams. None of `sysexits.h`.
const EXIT_STREAMS_CUT: u8 = 3;

/// Where Linux tells the host's name.
const HOSTNAME: &str = "/proc/sys/kernel/hostname";

/// Runs the command; prints what is wrong and says how to exit.
pub async fn main(args: ServeArgs, data_dir: Option<PathBuf>) -> ExitCode {
    let checks_only = args.check_config;
    let loaded = match load(args, data_dir) {
        Ok(loaded) => loaded,
        Err(text) => {
            anstream::eprintln!("error: {text}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if checks_only {
        return check(&loaded);
    }
    if let Err(error) = log::init(loaded.config.log_format, &loaded.config.log_level) {
        anstream::eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    tell(&loaded);
    let format = loaded.config.log_format;
    match serve(loaded.config).await {
        Ok(Stopped::InOrder) => ExitCode::SUCCESS,
        Ok(Stopped::StreamsCut(_)) => ExitCode::from(EXIT_STREAMS_CUT),
        Err(error) => {
            match format {
                Format::Json => tracing::error!(%error, "relay cannot run"),
                Format::Text => anstream::eprintln!("error: {error}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn load(args: ServeArgs, data_dir: Option<PathBuf>) -> Result<Loaded, String> {
    let file = match args.config {
        Some(path) => {
            let content = data_dir::read_file(&path).map_err(|e| e.to_string())?;
            let text = String::from_utf8(content.to_vec())
                .map_err(|_| format!("`{}` is not text in UTF-8", path.display()))?;
            Some((path, text))
        }
        None => None,
    };
    let inputs = Inputs {
        flags: Flags {
            data_dir: data_dir.map(|path| path.display().to_string()),
            https: args.https,
            tunnel: args.tunnel,
            metrics: args.metrics,
            public_name: args.public_name,
        },
        variables: variables(),
        file,
        hostname: std::fs::read_to_string(HOSTNAME)
            .unwrap_or_default()
            .trim()
            .to_owned(),
    };
    config::load(&inputs).map_err(|mistakes| mistakes.to_string())
}

/// The environment's variables; what is not text cannot be one of ours.
fn variables() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Prints the configuration in effect, and whether the files that it names can be used.
fn check(loaded: &Loaded) -> ExitCode {
    anstream::print!("{}", loaded.to_toml());
    if let TlsSource::Files { certificate, key } = &loaded.config.tls
        && let Err(error) = tls::check_files(certificate, key)
    {
        anstream::eprintln!("error: {error}");
        return ExitCode::from(EXIT_USAGE);
    }
    for name in &loaded.unknown_variables {
        anstream::eprintln!("warning: {name} is none of the relay's variables");
    }
    anstream::eprintln!("the configuration holds");
    ExitCode::SUCCESS
}

/// Logs what differs from the defaults.
fn tell(loaded: &Loaded) {
    for name in &loaded.unknown_variables {
        warn!(name, "variable is none of the relay's: it is ignored");
    }
    if loaded
        .effective
        .iter()
        .any(|e| e.key == "public_name" && e.is_of_host())
    {
        warn!(
            public_name = loaded.config.public_name,
            "agents will dial the host's name: say what they shall dial with --public-name"
        );
    }
    let defaults: BTreeMap<_, _> = KEYS.iter().map(|key| (key.name, key.default)).collect();
    for effective in &loaded.effective {
        let default = defaults.get(effective.key).copied().flatten();
        if effective.value.is_some() && effective.value.as_deref() != default {
            let value = effective.value.as_deref().unwrap_or_default();
            info!(
                key = effective.key,
                value,
                origin = effective.origin,
                "configured"
            );
        }
    }
}
