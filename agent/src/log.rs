//! Where log lines go: to standard error, as text or JSON.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, Settings};

/// Says at every attempt over a closed port what the attempt itself reports.
const QUIET: &str = "quinn_udp=error";

/// Starts logging. Once a process; a second call changes nothing.
pub fn start(settings: &Settings) {
    // The filter was parsed when the settings were read.
    let filter = EnvFilter::builder().parse_lossy(with_quiet(&settings.log_level));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    let started = match settings.log_format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    };
    // In a test, or where a program embeds the agent, somebody else has the log.
    drop(started);
}

/// Quietens what repeats others, unless the filter speaks of single targets itself.
fn with_quiet(filter: &str) -> String {
    match filter.contains('=') || matches!(filter, "debug" | "trace" | "error" | "off") {
        true => filter.to_owned(),
        false => format!("{filter},{QUIET}"),
    }
}
