//! One stream over a line that is long and fast: how much of it comes through relay and agent,
//! beside plain TCP, and how long a ping beside it takes.
//!
//! The delay is below TCP: both hosts are namespaces with the kernel's own, and the cable between
//! them is the model's, with a rate and a queue. So windows, buffers and congestion control have
//! to fill it as they would a real one. Relay and agent are the release programs, each time
//! started anew; load and backend are threads of this process, which holds both ends of every
//! connection, and so counts what has arrived and not what was sent. Rounds of all ways take
//! turns.

mod load;
mod road;
mod session;
pub mod table;

use std::{io, time::Duration};

use clap::ValueEnum;
use netsim_core::{check::check, middlebox::Cause, model::Scenario, random::Seed};

pub use self::load::{Flow, Pings};
use self::{
    load::{Direction, Times},
    road::Road,
    session::Session,
};
use crate::lab::{Host, Lab, LabError, Options};

/// Where the relay is, and whoever takes or gives bytes there.
const RELAY: (&str, &str) = ("relay", "203.0.113.10");

/// Where the agent is, and the service behind it.
const AGENT: (&str, &str) = ("agent", "10.1.0.2");

/// The service's port on the agent's host.
const SERVICE_PORT: u16 = 7000;

/// Where the relay's host leads to that service.
const ENTRANCE: &str = "127.0.0.1:7001";

/// How old a stream is before it is measured: slow start is over, and what is heavy has moved to
/// a connection of its own.
pub const WARM_UP: Duration = Duration::from_secs(3);

/// Between two streams: what the first left in buffers and queues is gone.
const CALM: Duration = Duration::from_secs(1);

/// How a stream goes from one host to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// A TCP connection between the two hosts
    Plain,
    /// Relay and agent, over WebSocket
    Ws,
    /// Relay and agent, over QUIC
    Quic,
    /// Relay and agent, which choose
    Auto,
}

impl Way {
    /// For tables.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Plain => "plain TCP",
            Self::Ws => "ws",
            Self::Quic => "quic",
            Self::Auto => "auto",
        }
    }

    /// What the agent is told; none where there is no agent.
    const fn transport(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Ws | Self::Quic | Self::Auto => Some(self.words()),
        }
    }
}

/// The line between the two hosts, in the words of a scenario.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How long a packet is under way, in either direction.
    pub delay: String,
    /// How fast it is, in either direction.
    pub rate: String,
    /// How much waits for its turn, in either direction; what does not fit is lost.
    pub queue: String,
}

impl Line {
    fn scenario(&self) -> Result<Scenario, FarError> {
        let Self { delay, rate, queue } = self;
        let ((relay, relay_at), (agent, agent_at)) = (RELAY, AGENT);
        let text = format!(
            r#"
name = "far"
summary = "Two hosts, and a line between them that is long and fast."
observed = "benches/RESULTS.md"
duration = "1h"
host = [
    {{ name = "{relay}", runs = "relay", addresses = "{relay_at}/24", names = "{NAME}" }},
    {{ name = "dns", runs = "resolver", addresses = "203.0.113.53/24" }},
    {{ name = "{agent}", runs = "agent", addresses = "{agent_at}/24", resolver = "dns" }},
]
edge = [{{ name = "internet" }}]
cable = [
    {{ name = "lan", ends = ["{agent}", "internet:inside"] }},
    {{ name = "dns-uplink", ends = ["internet:outside", "dns"] }},
    {{ name = "line", ends = ["internet:outside", "{relay}"], line = {{ delay = {delay:?}, rate = {rate:?}, queue = {queue:?} }} }},
]
expect = [{{ never = "corrupted" }}]
"#
        );
        let scenario = check(&text).map_err(|mistakes| {
            let problems: Vec<String> = mistakes.into_iter().map(|one| one.problem).collect();
            FarError::Line(problems.join("; "))
        })?;
        Ok(scenario.drawn(Seed(1)))
    }
}

/// The relay's name.
const NAME: &str = "relay.example.com";

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Over which line.
    pub line: Line,
    /// Which congestion control the kernels' TCP has; none: the machine's own.
    pub congestion: Option<String>,
    /// Which ways, in their order.
    pub ways: Vec<Way>,
    /// How often each.
    pub rounds: usize,
    /// How long a stream is measured, once it is [`WARM_UP`] old.
    pub window: Duration,
}

/// What one round of one way has shown.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Which way.
    pub way: Way,
    /// The transport of the agent's session; none without an agent.
    pub transport: Option<String>,
    /// Pings with nothing beside them.
    pub alone: Pings,
    /// A stream from the agent's host to the relay's.
    pub down: Flow,
    /// A stream from the relay's host to the agent's.
    pub up: Flow,
    /// Packets that found the queue full.
    pub refused: u64,
    /// By how much the line itself was late at most: this machine's doing.
    pub late: Duration,
    /// What went wrong meanwhile.
    pub troubles: Vec<String>,
}

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum FarError {
    /// There is no such line.
    #[error("there is no such line: {0}")]
    Line(String),
    /// The lab cannot be had.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The kernel or a program did not do as it was told.
    #[error("{what}: {source}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// What came of it.
        source: io::Error,
    },
}

/// Names what was tried.
fn failed(what: &'static str) -> impl FnOnce(io::Error) -> FarError {
    move |source| FarError::Failed { what, source }
}

/// Measures, and tells of each sample as it is there. To be called in a sandbox.
///
/// # Errors
///
/// The first thing that did not work; samples before it have been told.
pub fn run(plan: &Plan, mut told: impl FnMut(&Sample)) -> Result<Vec<Sample>, FarError> {
    let scenario = plan.line.scenario()?;
    let mut samples = Vec::new();
    for _ in 0..plan.rounds {
        for way in &plan.ways {
            let sample = sample(plan, &scenario, *way)?;
            told(&sample);
            samples.push(sample);
        }
    }
    Ok(samples)
}

fn sample(plan: &Plan, scenario: &Scenario, way: Way) -> Result<Sample, FarError> {
    let options = Options {
        is_bare: way == Way::Plain,
        // Started here: the lab asks and looks at those that it starts, which costs time.
        is_without_agents: true,
        ..Options::default()
    };
    let lab = Lab::start(scenario, Seed(1), options)?;
    let relay = host(&lab, RELAY.0)?;
    let agent = host(&lab, AGENT.0)?;
    if let Some(congestion) = &plan.congestion {
        for (host, address) in [(relay, RELAY.1), (agent, AGENT.1)] {
            control(host, address, congestion)
                .map_err(failed("the congestion control cannot be set"))?;
        }
    }
    let session = way.transport().map(|told| Session::start(&lab, told));
    let session = session.transpose()?;
    let entrance = match &session {
        Some(_) => ENTRANCE.to_owned(),
        None => format!("{}:{SERVICE_PORT}", AGENT.1),
    };
    let road =
        Road::new((relay, &entrance), (agent, SERVICE_PORT)).map_err(failed("nobody listens"))?;
    let times = Times {
        warm_up: WARM_UP,
        window: plan.window,
    };
    let alone = load::alone(&road).map_err(failed("a ping"))?;
    let down = load::stream(&road, Direction::Down, times).map_err(failed("a stream down"))?;
    lab.wait_until(lab.now() + CALM);
    let up = load::stream(&road, Direction::Up, times).map_err(failed("a stream up"))?;
    Ok(Sample {
        way,
        transport: session.as_ref().map(Session::transport),
        alone,
        down,
        up,
        refused: lab.touched().of(Cause::QueueFull),
        late: lab.fabric().latest(),
        troubles: lab.troubles(),
    })
}

fn host<'a>(lab: &'a Lab, name: &str) -> Result<&'a Host, FarError> {
    let found = lab.host(name).map(|host| &**host);
    found.ok_or_else(|| failed("the lab")(io::Error::other(format!("no host is called {name}"))))
}

/// Has TCP connections from and to a host use a congestion control, those of programs that run
/// already included once they connect anew. By the route, for the default of a namespace may
/// only be one that the machine's administrator has let everybody use.
fn control(host: &Host, address: &str, congestion: &str) -> io::Result<()> {
    host.namespace().ip(&format!(
        "route replace 0.0.0.0/0 dev eth0 src {address} metric 1 congctl {congestion}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rate: &str) -> Line {
        Line {
            delay: "40ms".to_owned(),
            rate: rate.to_owned(),
            queue: "2MiB".to_owned(),
        }
    }

    #[test]
    fn a_line_of_the_command_line_is_a_scenario_with_that_line() {
        let scenario = line("200Mbit").scenario().unwrap();

        let cable = &scenario.cables[2];
        assert_eq!(cable.line.delay.get(), Duration::from_millis(40));
        let rate = cable.line.rate.as_ref().map(|rate| rate.get());
        assert_eq!(rate.unwrap().bits_per_second, 200_000_000);
        assert_eq!(cable.line.queue.get().bytes, 2 << 20);
    }

    #[test]
    fn a_line_that_does_not_make_sense_is_refused_with_what_is_expected() {
        let refused = line("fast").scenario().unwrap_err().to_string();

        assert!(refused.contains("a rate such as"), "{refused}");
    }
}
