//! Every series of a relay, declared once, over a registry that is handed in.
//!
//! Labels are bounded: kinds, codes and transports, never a name, an id or an
//! address. The help text of a family is its documentation.

use std::time::Duration;

use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector,
};
use wire::{
    close::{CloseCode, ResetCode},
    transport::Transport,
};

/// Bounds of handshakes: from a loopback's millisecond to the deadline of 10 s.
const HANDSHAKE_SECONDS: [f64; 10] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

/// Bounds of round trips: one machine, one city, one continent, the world, trouble.
const ROUND_TRIP_SECONDS: [f64; 10] = [
    0.000_5, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
];

/// Bounds of API requests: a look-up, a write that reaches the disk, trouble.
const REQUEST_SECONDS: [f64; 7] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0];

/// Whose session it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An agent's.
    Agent,
    /// An operator's.
    Operator,
}

impl Role {
    /// Value of the label `role`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Operator => "operator",
        }
    }
}

/// Which way bytes go, seen from the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the relay.
    Received,
    /// From the relay.
    Sent,
}

/// What became of a look at the certificate files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// They cannot be used; the former certificate stays.
    Failed,
    /// A different certificate is in use from then on.
    Reloaded,
}

/// Every series of a relay.
#[derive(Debug)]
pub struct Metrics {
    session: SessionSeries,
    stream: StreamSeries,
    service: ServiceSeries,
}

impl Metrics {
    /// Declares every family in the registry.
    ///
    /// # Errors
    ///
    /// Where the registry has a family of one of the names already.
    pub fn new(registry: &Registry, version: &str, commit: &str) -> prometheus::Result<Self> {
        let declare = Declare { registry };
        let build = declare.gauges(
            "build_info",
            "Always 1; the labels name the release and the commit of this program.",
            &["version", "commit"],
        )?;
        build.with_label_values(&[version, commit]).set(1);
        Ok(Self {
            session: SessionSeries::declare(&declare)?,
            stream: StreamSeries::declare(&declare)?,
            service: ServiceSeries::declare(&declare)?,
        })
    }

    /// A session was admitted; it counts until the guard is dropped.
    pub fn session_opened(&self, transport: Transport, role: Role) -> SessionGuard {
        let gauge = |state| {
            self.session
                .sessions
                .with_label_values(&[transport.as_str(), role.as_str(), state])
        };
        let guard = SessionGuard {
            draining: gauge("draining"),
            current: gauge("live"),
        };
        guard.current.inc();
        guard
    }

    /// A handshake ended: `result` is `admitted`, a refusal code, or a close code.
    pub fn handshake(&self, transport: Transport, result: &'static str, duration: Duration) {
        self.session
            .handshake
            .with_label_values(&[transport.as_str(), result])
            .observe(duration.as_secs_f64());
    }

    /// A heartbeat was answered.
    pub fn heartbeat_rtt(&self, transport: Transport, rtt: Duration) {
        self.session
            .heartbeat_rtt
            .with_label_values(&[transport.as_str()])
            .observe(rtt.as_secs_f64());
    }

    /// A stream towards an agent was opened; it counts as open until the guard is
    /// dropped. `target_kind` is [`Target::kind`](wire::target::Target::kind).
    pub fn stream_opened(&self, target_kind: &'static str) -> StreamGuard {
        self.stream
            .streams_opened
            .with_label_values(&[target_kind])
            .inc();
        let open = self.stream.streams_open.with_label_values(&[target_kind]);
        open.inc();
        StreamGuard { open }
    }

    /// Payload went through a session.
    pub fn bytes(&self, direction: Direction, bytes: u64) {
        match direction {
            Direction::Received => self.stream.bytes_received.inc_by(bytes),
            Direction::Sent => self.stream.bytes_sent.inc_by(bytes),
        }
    }

    /// A session ended.
    pub fn closed(&self, code: CloseCode) {
        self.session
            .closes
            .with_label_values(&[code.as_str()])
            .inc();
    }

    /// A stream was broken off.
    pub fn reset(&self, code: ResetCode) {
        self.stream.resets.with_label_values(&[code.as_str()]).inc();
    }

    /// A connection or a hello did not become a session.
    pub fn refused(&self, reason: &'static str) {
        self.session.refusals.with_label_values(&[reason]).inc();
    }

    /// So many datagrams did not belong to a session, and cannot.
    pub fn refused_many(&self, reason: &'static str, count: u64) {
        self.session
            .refusals
            .with_label_values(&[reason])
            .inc_by(count);
    }

    /// A request to the API was answered.
    pub fn api_request(&self, method: &str, status: u16, duration: Duration) {
        let method = match method {
            "GET" | "POST" | "DELETE" | "PUT" | "PATCH" | "HEAD" | "OPTIONS" => method,
            _ => "other",
        };
        let class = match status {
            100..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        self.service
            .api_requests
            .with_label_values(&[method, class])
            .observe(duration.as_secs_f64());
    }

    /// A request to the API had no valid token.
    pub fn api_auth_failed(&self) {
        self.service.api_auth_failures.inc();
    }

    /// The certificate in use ends at this second.
    pub fn certificate_expires(&self, unix_seconds: i64) {
        self.service.certificate_expiry.set(unix_seconds);
    }

    /// Changed certificate files were looked at.
    pub fn certificate_reloaded(&self, outcome: ReloadOutcome) {
        let outcome = match outcome {
            ReloadOutcome::Failed => "failed",
            ReloadOutcome::Reloaded => "reloaded",
        };
        self.service
            .certificate_reloads
            .with_label_values(&[outcome])
            .inc();
    }

    /// A task panicked.
    pub fn panicked(&self) {
        self.service.panics.inc();
    }
}

/// Counts a session for as long as it lives.
#[derive(Debug)]
pub struct SessionGuard {
    current: IntGauge,
    draining: IntGauge,
}

impl SessionGuard {
    /// The session has been told to go elsewhere.
    pub fn draining(&mut self) {
        self.current.dec();
        self.draining.inc();
        self.current = self.draining.clone();
    }
}

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.current.dec();
    }
}

/// Counts a stream as open for as long as it lives.
#[derive(Debug)]
pub struct StreamGuard {
    open: IntGauge,
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        self.open.dec();
    }
}

/// The registry's content in Prometheus' text format.
///
/// # Errors
///
/// Where a family cannot be written, which only a bug can cause.
pub fn render(registry: &Registry) -> prometheus::Result<String> {
    TextEncoder::new().encode_to_string(&registry.gather())
}

/// Sessions, from the accepted connection to the end.
#[derive(Debug)]
struct SessionSeries {
    sessions: IntGaugeVec,
    handshake: HistogramVec,
    heartbeat_rtt: HistogramVec,
    closes: IntCounterVec,
    refusals: IntCounterVec,
}

impl SessionSeries {
    fn declare(declare: &Declare<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            sessions: declare.gauges(
                "sessions",
                "Sessions at this moment, by transport, by whose they are, and by state: \
                 `live`, or `draining` once told to go elsewhere.",
                &["transport", "role", "state"],
            )?,
            handshake: declare.histograms(
                "handshake_duration_seconds",
                "From the accepted connection to the end of its handshake, by transport and \
                 result: `admitted`, or why it was not.",
                &["transport", "result"],
                &HANDSHAKE_SECONDS,
            )?,
            heartbeat_rtt: declare.histograms(
                "heartbeat_round_trip_seconds",
                "Round trips of heartbeats through sessions, by transport.",
                &["transport"],
                &ROUND_TRIP_SECONDS,
            )?,
            closes: declare.counters(
                "closes_total",
                "Sessions that ended, by close code.",
                &["close_code"],
            )?,
            refusals: declare.counters(
                "refusals_total",
                "Connections and hellos that did not become a session, by reason.",
                &["reason"],
            )?,
        })
    }
}

/// Streams towards agents.
#[derive(Debug)]
struct StreamSeries {
    streams_opened: IntCounterVec,
    streams_open: IntGaugeVec,
    bytes_sent: IntCounter,
    bytes_received: IntCounter,
    resets: IntCounterVec,
}

impl StreamSeries {
    fn declare(declare: &Declare<'_>) -> prometheus::Result<Self> {
        let bytes = declare.counters(
            "bytes_total",
            "Payload bytes of streams to and from agents, by direction seen from the relay.",
            &["direction"],
        )?;
        Ok(Self {
            streams_opened: declare.counters(
                "streams_opened_total",
                "Streams opened towards agents, by kind of target.",
                &["target"],
            )?,
            streams_open: declare.gauges(
                "streams_open",
                "Streams towards agents open at this moment, by kind of target.",
                &["target"],
            )?,
            bytes_sent: bytes.with_label_values(&["sent"]),
            bytes_received: bytes.with_label_values(&["received"]),
            resets: declare.counters(
                "resets_total",
                "Streams that were broken off, by reset code.",
                &["reset_code"],
            )?,
        })
    }
}

/// The API, the certificate, and the process.
#[derive(Debug)]
struct ServiceSeries {
    api_requests: HistogramVec,
    api_auth_failures: IntCounter,
    certificate_expiry: IntGauge,
    certificate_reloads: IntCounterVec,
    panics: IntCounter,
}

impl ServiceSeries {
    fn declare(declare: &Declare<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            api_requests: declare.histograms(
                "api_request_duration_seconds",
                "Requests to the API, by method and status class of the answer.",
                &["method", "status"],
                &REQUEST_SECONDS,
            )?,
            api_auth_failures: declare.counter(
                "api_auth_failures_total",
                "Requests to the API without a valid token.",
            )?,
            certificate_expiry: declare.gauge(
                "certificate_expiry_timestamp_seconds",
                "When the certificate in use ends, in seconds since 1970.",
            )?,
            certificate_reloads: declare.counters(
                "certificate_reloads_total",
                "Changed certificate files, by outcome: `reloaded`, or `failed` with the \
                 former certificate kept.",
                &["outcome"],
            )?,
            panics: declare.counter(
                "panics_total",
                "Panics of tasks: each is a bug of the relay; its log says where.",
            )?,
        })
    }
}

/// Declares families under the relay's prefix.
struct Declare<'a> {
    registry: &'a Registry,
}

impl Declare<'_> {
    fn register<C: Collector + Clone + 'static>(&self, family: C) -> prometheus::Result<C> {
        self.registry.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        self.register(IntCounter::with_opts(opts(name, help))?)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        self.register(IntGauge::with_opts(opts(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, by: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(opts(name, help), by)?)
    }

    fn gauges(&self, name: &str, help: &str, by: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(opts(name, help), by)?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        by: &[&str],
        bounds: &[f64],
    ) -> prometheus::Result<HistogramVec> {
        let opts = HistogramOpts::from(opts(name, help)).buckets(bounds.to_vec());
        self.register(HistogramVec::new(opts, by)?)
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("sternline_relay_{name}"), help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics() -> (Registry, Metrics) {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry, "0.1.0", "abc").unwrap();
        (registry, metrics)
    }

    fn shows(registry: &Registry, line: &str) -> bool {
        render(registry).unwrap().lines().any(|shown| shown == line)
    }

    #[test]
    fn a_session_counts_in_its_state_until_its_guard_is_dropped() {
        let (registry, metrics) = metrics();
        let line = |state, count| {
            format!(
                "sternline_relay_sessions{{role=\"agent\",state=\"{state}\",transport=\"quic\"}} {count}"
            )
        };

        let mut guard = metrics.session_opened(Transport::Quic, Role::Agent);
        assert!(shows(&registry, &line("live", 1)));
        guard.draining();
        assert!(shows(&registry, &line("live", 0)) && shows(&registry, &line("draining", 1)));
        drop(guard);

        assert!(shows(&registry, &line("live", 0)) && shows(&registry, &line("draining", 0)));
    }

    #[test]
    fn a_stream_counts_as_open_until_its_guard_is_dropped_and_as_opened_for_ever() {
        let (registry, metrics) = metrics();

        drop(metrics.stream_opened("docker"));
        let _open = metrics.stream_opened("docker");

        assert!(shows(
            &registry,
            "sternline_relay_streams_open{target=\"docker\"} 1"
        ));
        assert!(shows(
            &registry,
            "sternline_relay_streams_opened_total{target=\"docker\"} 2"
        ));
    }

    #[test]
    fn every_family_has_help_a_prefix_and_a_series_once_touched() {
        let (registry, metrics) = metrics();
        let _session = metrics.session_opened(Transport::Ws, Role::Operator);
        let _stream = metrics.stream_opened("tcp");
        metrics.handshake(Transport::Ws, "admitted", Duration::from_millis(3));
        metrics.heartbeat_rtt(Transport::Ws, Duration::from_millis(3));
        metrics.bytes(Direction::Sent, 1);
        metrics.bytes(Direction::Received, 2);
        metrics.closed(CloseCode::Shutdown);
        metrics.reset(ResetCode::Cancelled);
        metrics.refused("tls_error");
        metrics.api_request("GET", 200, Duration::from_millis(3));
        metrics.api_request("BREW", 999, Duration::from_millis(3));
        metrics.api_auth_failed();
        metrics.certificate_expires(1);
        metrics.certificate_reloaded(ReloadOutcome::Reloaded);
        metrics.certificate_reloaded(ReloadOutcome::Failed);
        metrics.panicked();

        let families = registry.gather();

        assert_eq!(families.len(), 15);
        for family in families {
            assert!(
                family.name().starts_with("sternline_relay_"),
                "{}",
                family.name()
            );
            assert!(
                family.help().ends_with('.'),
                "{} has no help",
                family.name()
            );
            assert!(
                !family.get_metric().is_empty(),
                "{} has no series",
                family.name()
            );
        }
    }
}
