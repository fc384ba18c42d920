//! Every bound of a relay, in one place, with its arithmetic; those of the
//! protocol are in [`wire::limits`].

use std::time::Duration;

/// Longest environment name: a DNS label, so that it may become one.
pub const NAME_CHARS_MAX: usize = 63;

/// Tags of one environment; 32 × (63 + 255) bytes are about 10 KiB.
pub const TAGS_MAX: usize = 32;

/// Longest value of a tag.
pub const TAG_VALUE_CHARS_MAX: usize = 255;

/// Environments of one relay. Well above the 100,000 agents it is made for.
pub const ENVIRONMENTS_MAX: u64 = 250_000;

/// What sessions that wait for another connection hold together, at most; one that would
/// bring it above ends instead. A thirtieth of an ordinary session's window (1 MiB) for
/// each of 10,000 agents that a failing network cuts off at the same moment.
pub const WAITING_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Environments whose absence is remembered, so that the gap until their agent is back
/// can be told; 65,536 × about 64 bytes are 4 MiB. The gaps of others are not counted.
pub const ABSENCES_MAX: usize = 65_536;

/// Environments shown on `/metrics/environments`, first by name. At about 45 series of
/// 130 bytes each a scrape brings 225,000 series and 30 MB, which one Prometheus takes
/// at every 30 s; what is left out is itself a series.
pub const ENVIRONMENT_SERIES_MAX: u32 = 5_000;

/// How often agents tell their figures where somebody asked for them: 10,000 agents at
/// about 150 bytes each are 50 kB/s.
pub const AGENT_FIGURES_INTERVAL: Duration = Duration::from_secs(30);

/// Exposures of one relay; each is a listening socket, and below the usual
/// limit of 1,024 open files only together with a raised one.
pub const EXPOSURES_MAX: usize = 1_000;

/// How long an enrolment token is good for: long enough to be sent to a customer
/// and used on the next working day after a week-end.
pub const TOKEN_VALIDITY: Duration = Duration::from_secs(72 * 60 * 60);

/// How long a token past its expiry is remembered, so that its user is told
/// "expired" and not "unknown".
pub const TOKEN_MEMORY: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Longest API token in text that is hashed at all; ours have 56 characters.
pub const API_TOKEN_CHARS_MAX: usize = 256;

/// How long a statement waits for another process's lock on the store.
pub const STORE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a use case waits for a connection to the store.
pub const STORE_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that read the store beside the one that writes: reads are point
/// look-ups of microseconds, so a few saturate any disk cache.
pub const STORE_READERS: u32 = 4;

/// Largest body of an API request: a name and the largest set of tags take 10 KiB.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// How much of a body that is too long is read and dropped, so that its client hears
/// why: what a socket's buffers hold on the way (4 MiB) may be sent before any answer.
pub const BODY_DISCARDED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// From an API request's head to its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Refused API tokens before further ones wait: a person mistypes a few times.
pub const AUTH_FAILURES_BURST: u32 = 20;

/// Pause after which one more refused API token is answered at once.
pub const AUTH_FAILURES_INTERVAL: Duration = Duration::from_millis(500);

/// How often certificate files are compared with what is in use.
pub const CERTIFICATE_POLL: Duration = Duration::from_secs(30);

/// How often an exposure whose port could not be opened is tried again.
pub const EXPOSURE_RETRY: Duration = Duration::from_secs(10);

/// Largest certificate, key or configuration file that is read.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// How long a drain waits for streams to finish unless configured.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// QUIC connections whose peers are told when the relay was killed: the file that keeps
/// them has at most 34 bytes for each, 8.5 MB.
pub const FAREWELLS_MAX: u32 = 250_000;

/// Peers of a former run that are told at once, of which one goes after the other within
/// [`FAREWELL_PAUSE`]: 100,000 a second, which no socket's buffer is too small for.
pub const FAREWELLS_AT_ONCE: usize = 1_000;

/// Between two times of telling peers of a former run.
pub const FAREWELL_PAUSE: Duration = Duration::from_millis(10);

/// Agents that are to come back in a second, where all come at once. A handshake costs
/// a relay below 1 ms, so that this takes two cores at most.
pub const RECONNECTS_PER_SECOND: u32 = 2_000;

/// How often agents are told of another window to come back in, if it is another.
pub const RECONNECT_WINDOW_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Below this a window says nothing: whoever reconnects spreads over a second anyway.
pub const RECONNECT_WINDOW_MIN: Duration = Duration::from_secs(1);

/// Sessions that are told of the window before others have their turn.
pub const RECONNECT_WINDOW_TOLD_AT_ONCE: usize = 256;

/// Over how long agents spread their next attempt after a drain unless configured.
pub const RECONNECT_WINDOW: Duration = Duration::from_secs(5);

/// How long a request on the metrics listener may take in all.
pub const METRICS_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections open at a time on the metrics listener: a scraper, a probe and a
/// person take three.
pub const METRICS_CONNECTIONS_MAX: usize = 64;

/// Handshakes under way at a time on each port of the tunnel. At 5,000 a second and
/// core they are done in 0.2 s; more would only wait for each other.
pub const HANDSHAKES_MAX: usize = 1_024;

/// Connections open at a time on the HTTPS port, tunnels apart.
pub const HTTPS_CONNECTIONS_MAX: usize = 4_096;

/// Connections open at a time through one exposure.
pub const EXPOSURE_CONNECTIONS_MAX: usize = 1_024;

/// Pause after a connection could not be accepted: out of files or memory, which
/// passes.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
