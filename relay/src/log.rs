//! Log lines on standard error, as text or as JSON.
//!
//! What is logged is decided where it is logged; secrets have types that do not
//! print themselves.

use std::{io::IsTerminal, panic, sync::Arc};

use thiserror::Error;
use tracing::error;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::metrics::Metrics;

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// For reading.
    Text,
}

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("the log filter cannot be read: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// A log has been set up before.
    #[error("the log cannot be set up: {0}")]
    Init(#[from] tracing_subscriber::util::TryInitError),
}

/// Whether a filter can be read.
///
/// # Errors
///
/// Why it cannot.
pub fn check_filter(filter: &str) -> Result<(), LogError> {
    EnvFilter::builder().parse(filter)?;
    Ok(())
}

/// Sends log lines to standard error from now on.
///
/// # Errors
///
/// A filter that cannot be read; a log that is set up already.
pub fn init(format: Format, filter: &str) -> Result<(), LogError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let registry = tracing_subscriber::registry().with(filter);
    let stderr = std::io::stderr;
    match format {
        Format::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_writer(stderr);
            registry.with(layer).try_init()?;
        }
        Format::Text => {
            let is_terminal = stderr().is_terminal();
            registry
                .with(fmt::layer().with_ansi(is_terminal).with_writer(stderr))
                .try_init()?;
        }
    }
    Ok(())
}

/// Logs and counts every panic: a task that panics ends alone, and is a bug.
pub fn watch_panics(metrics: Arc<Metrics>) {
    panic::set_hook(Box::new(move |info| {
        metrics.panicked();
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        error!(place, cause = info.payload_as_str().unwrap_or("?"), %backtrace, "task panicked");
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_people_write_are_taken_and_others_refused() {
        assert!(check_filter("info").is_ok());
        assert!(check_filter("info,relay::session=debug").is_ok());
        assert!(check_filter("relay=loud").is_err());
    }
}
