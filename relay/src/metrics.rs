//! Every series of a relay, declared once, over a registry that is handed in.
//!
//! Labels are bounded: kinds, codes and transports, never a name, an id or an
//! address; series by environment are an exposition of their own (`environment`).
//! The help text of a family is its documentation, and `docs/metrics.md` has it.
//!
//! | module | what it has |
//! |---|---|
//! | `session`, `stream`, `admission`, `service`, `probe` | counted where it happens |
//! | `live`, `accept_queue`, `process` | looked at when somebody scrapes |
//! | `environment` | series by environment, where the configuration says so |

mod accept_queue;
mod admission;
mod declare;
mod environment;
mod fleet;
mod live;
mod probe;
mod process;
mod service;
mod session;
mod stack;
mod stream;
#[cfg(test)]
mod tests;

use prometheus::{IntGaugeVec, Registry, Result, TextEncoder};

use self::{
    admission::AdmissionSeries, declare::Declare, fleet::FleetSeries, live::LiveSeries,
    probe::ProbeSeries, process::ProcessSeries, service::ServiceSeries, session::SessionSeries,
    stack::StackSeries, stream::StreamSeries,
};
pub use self::{
    environment::{EnvironmentRow, SessionRow, render_environments},
    fleet::Sandbox,
    live::{Admissions, Doorway, Reading, SessionSums},
    probe::{ProbeKind, ProbeOutcome, ProbeSums},
    service::{ExposureGuard, ReloadOutcome},
    session::{Resumed, Role, SessionGuard},
    stack::{STACK_PHASES, StackSums},
    stream::{Direction, Origin, StreamGuard},
};

/// Every series of a relay.
#[derive(Debug)]
pub struct Metrics {
    admission: AdmissionSeries,
    environments: IntGaugeVec,
    fleet: FleetSeries,
    live: LiveSeries,
    probe: ProbeSeries,
    service: ServiceSeries,
    session: SessionSeries,
    stack: StackSeries,
    stream: StreamSeries,
}

/// Environments by what the store knows of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct EnvironmentCounts {
    /// An agent has enrolled, and is not held.
    pub enrolled: u64,
    /// Their identity was seen twice.
    pub held: u64,
    /// No agent has enrolled.
    pub never_enrolled: u64,
}

impl Metrics {
    /// Declares every family in the registry.
    ///
    /// # Errors
    ///
    /// Where the registry has a family of one of the names already.
    pub fn new(registry: &Registry, version: &str, commit: &str) -> Result<Self> {
        let declare = Declare { registry };
        let build = declare.gauges(
            "build_info",
            "Always 1; the labels name the release and the commit of this program.",
            &["version", "commit"],
        )?;
        build.with_label_values(&[version, commit]).set(1);
        let live = LiveSeries::new()?;
        registry.register(Box::new(live.clone()))?;
        registry.register(Box::new(ProcessSeries::new()?))?;
        Ok(Self {
            admission: AdmissionSeries::declare(&declare)?,
            environments: declare.gauges(
                "environments",
                "Environments in the store, by state: `enrolled`, `held` because their \
                 identity was seen twice, `never_enrolled`.",
                &["state"],
            )?,
            fleet: FleetSeries::declare(&declare)?,
            live,
            probe: ProbeSeries::declare(&declare)?,
            service: ServiceSeries::declare(&declare)?,
            session: SessionSeries::declare(&declare)?,
            stack: StackSeries::declare(&declare)?,
            stream: StreamSeries::declare(&declare)?,
        })
    }

    /// The store was asked how many environments there are. `None`: it did not say,
    /// and an old count is not shown for a new one.
    pub fn environments_counted(&self, counts: Option<EnvironmentCounts>) {
        let Some(counts) = counts else {
            return self.environments.reset();
        };
        for (state, count) in [
            ("enrolled", counts.enrolled),
            ("held", counts.held),
            ("never_enrolled", counts.never_enrolled),
        ] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.environments.with_label_values(&[state]).set(count);
        }
    }
}

/// The registry's content in Prometheus' text format.
///
/// # Errors
///
/// Where a family cannot be written, which only a bug can cause.
pub fn render(registry: &Registry) -> Result<String> {
    TextEncoder::new().encode_to_string(&registry.gather())
}
