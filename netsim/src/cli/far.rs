//! `far`: one stream over a long and fast line, beside plain TCP.

use std::{
    num::{NonZeroU64, NonZeroUsize},
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{EXIT_UNAVAILABLE, EXIT_USAGE, print};
use crate::far::{self, FarError, Line, Plan, Way, table};

/// What is measured, and over which line.
#[derive(Debug, Args)]
pub struct FarArguments {
    /// How long a packet is under way, in either direction
    #[arg(long, value_name = "SPAN", default_value = "40ms")]
    delay: String,
    /// How fast the line is, in either direction
    #[arg(long, value_name = "RATE", default_value = "200Mbit")]
    rate: String,
    /// How much waits for its turn; what does not fit is lost
    #[arg(long, value_name = "SIZE", default_value = "2MiB")]
    queue: String,
    /// The congestion control of the kernels' TCP, such as cubic [default: the machine's own]
    #[arg(long, value_name = "NAME", value_parser = congestion)]
    congestion: Option<String>,
    /// How a stream goes
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "plain,ws,quic,auto"
    )]
    ways: Vec<Way>,
    /// How often each; all take turns
    #[arg(long, value_name = "N", default_value = "3")]
    rounds: NonZeroUsize,
    /// How long a stream is measured
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    seconds: NonZeroU64,
}

/// Does it.
pub(super) fn run(arguments: &FarArguments) -> ExitCode {
    if let Some(ended) = super::sandboxed() {
        return ended;
    }
    let plan = Plan {
        line: Line {
            delay: arguments.delay.clone(),
            rate: arguments.rate.clone(),
            queue: arguments.queue.clone(),
        },
        congestion: arguments.congestion.clone(),
        ways: arguments.ways.clone(),
        rounds: arguments.rounds.get(),
        window: Duration::from_secs(arguments.seconds.get()),
    };
    let measured = far::run(&plan, |sample| anstream::eprint!("{}", table::line(sample)));
    match measured {
        Ok(samples) => print(&table::markdown(&plan, &samples)),
        Err(error) => {
            anstream::eprintln!("error: {error}");
            ExitCode::from(match error {
                FarError::Line(_) => EXIT_USAGE,
                FarError::Lab(_) | FarError::Failed { .. } => EXIT_UNAVAILABLE,
            })
        }
    }
}

/// A name of one, which becomes a word of a command.
fn congestion(text: &str) -> Result<String, String> {
    let is_word = |one: char| one.is_ascii_alphanumeric() || one == '_' || one == '-';
    if !text.is_empty() && text.chars().all(is_word) {
        Ok(text.to_owned())
    } else {
        Err("expected a name such as cubic, of those in \
             /proc/sys/net/ipv4/tcp_available_congestion_control"
            .to_owned())
    }
}
