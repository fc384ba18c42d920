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

/// Starts of agents that are written in one transaction at most; each is a row of a hundred
/// bytes, so that a commit of them takes no longer than one of one.
pub const STARTS_AT_ONCE_MAX: usize = 200;

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

/// Handshakes in a second where admission is off: the window is made of them all the same.
pub const HANDSHAKES_PER_SECOND_ASSUMED: u32 = 2_000;

/// What a handshake costs before any was measured: 1,000 a second and core at
/// [`PROCESSOR_SHARE`], which a slow core does with a release build.
pub const HANDSHAKE_COST_GUESS: Duration = Duration::from_micros(970);

/// The part of the processors that handshakes may take, together with what goes on beside
/// them. Above it a queue would grow by chance alone; far below it handshakes come one by one
/// and each costs more.
pub const PROCESSOR_SHARE: f64 = 0.97;

/// Handshakes in a second that a relay takes however slow it seems, so that what was
/// learnt in a bad moment is unlearnt.
pub const HANDSHAKE_RATE_MIN: f64 = 20.0;

/// Handshakes in a second beyond which no machine was seen.
pub const HANDSHAKE_RATE_MAX: f64 = 50_000.0;

/// What is kept beside the rate for who comes by HTTPS, as a part of it: operators.
pub const OPERATORS_SHARE: f64 = 0.05;

/// Handshakes that may come at once, in time of the rate. Below the head start that a
/// dialler gives QUIC (300 ms): one that waited longer would be dialled beside.
pub const ADMISSION_BURST: Duration = Duration::from_millis(100);

/// The same for a slow relay, in handshakes.
pub const ADMISSION_BURST_MIN: f64 = 16.0;

/// What the advertised window fills of the rate. The rate leaves a part of the processors
/// already, and chance among those who all come once makes no bursts to speak of: the largest
/// excess over a straight line is about the root of their number.
pub const WINDOW_LOAD: f64 = 1.0;

/// What times that are given out fill of what is left of the rate: who comes by chance beside
/// them shall not be sent away again.
pub const CALENDAR_LOAD: f64 = 0.97;

/// The earliest time that who is sent away is told: an agent waits as long anyway.
pub const SLOT_MIN: Duration = Duration::from_millis(250);

/// The latest, where the advertised window is shorter: no agent believes a longer one.
pub const SLOT_MAX: Duration = wire::backoff::SLOT_CAP;

/// How often the cost of handshakes is looked at.
pub const CALIBRATE_EVERY: Duration = Duration::from_millis(250);

/// Connections that were sent away and are kept until their peer has read why, or
/// [`LINGER`] is over: closing at once would have the kernel take back what was written.
pub const LINGERING_MAX: usize = 1_024;

/// See [`LINGERING_MAX`].
pub const LINGER: Duration = Duration::from_secs(1);

/// For how long after its start a relay believes that the agents of its store are about
/// to come, where its window is shorter.
pub const RETURN_TIME: Duration = Duration::from_secs(30);

/// How often agents are told of another window to come back in, if it is another.
pub const RECONNECT_WINDOW_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Below this a window says nothing: whoever reconnects spreads over a second anyway.
pub const RECONNECT_WINDOW_MIN: Duration = Duration::from_secs(1);

/// Sessions that are told of the window before others have their turn.
pub const RECONNECT_WINDOW_TOLD_AT_ONCE: usize = 256;

/// Over how long agents spread their next attempt after a drain unless configured.
pub const RECONNECT_WINDOW: Duration = Duration::from_secs(1);

/// When the first of them is told to come back after a drain: a relay that is restarted
/// listens again by then, and who comes earlier comes in vain.
pub const RESTART_TIME: Duration = Duration::from_millis(500);

/// How long a request for an environment waits that may be on its way back from a restart,
/// unless all agents together take longer.
pub const RETURN_WAIT: Duration = Duration::from_secs(15);

/// The longest: whoever opens a stream hears the true reason before its own timeout
/// ([`OPEN_TIMEOUT`](wire::limits::OPEN_TIMEOUT)).
pub const RETURN_WAIT_MAX: Duration = Duration::from_secs(27);

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

/// Longest name of a stack: it is part of the names of containers, networks and volumes.
pub const STACK_NAME_CHARS_MAX: usize = 63;

/// Longest note of a release: a paragraph.
pub const NOTE_CHARS_MAX: usize = 1_000;

/// Files in one release: the loader's bound on folders, twice.
pub const BUNDLE_FILES_MAX: usize = 4_000;

/// Largest file of a release. It is sealed, and sent, in one piece of memory.
pub const BLOB_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Bytes of all files of all releases of one customer: 64 releases as large as may be.
pub const BLOBS_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Releases of one stack: three a day for nine years.
pub const RELEASES_MAX: u64 = 10_000;

/// Releases in one answer.
pub const RELEASES_SHOWN_MAX: u32 = 200;

/// Assignments in one answer, and those that are looked through for one to go back to.
pub const HISTORY_SHOWN_MAX: u32 = 200;

/// Variables of one customer, of all levels; all are read for a deployment.
pub const VARIABLES_MAX: usize = 10_000;

/// Longest value of a variable: a certificate with its chain.
pub const VARIABLE_BYTES_MAX: usize = 64 * 1024;

/// Logins at registries of one customer.
pub const REGISTRY_LOGINS_MAX: usize = 100;

/// For how long an agent may be at a deployment unless told otherwise: images of some
/// gigabytes over a slow line.
pub const DEPLOY_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// The longest that may be asked for.
pub const DEPLOY_DEADLINE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// For how long a command that was done is remembered by its key.
pub const COMMAND_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// Largest body of a request about stacks: a manifest of [`BUNDLE_FILES_MAX`] files, and the
/// values of secrets.
pub const STACK_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// For how long the upload of one file may take: [`BLOB_BYTES_MAX`] at 1 Mbit/s.
pub const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// Changes of stacks that a slow watcher may be behind before it misses some.
pub const STACK_EVENTS_MAX: usize = 1_024;

/// Stacks of one environment that are kept in memory.
pub const STACKS_SEEN_MAX: usize = 256;

/// Largest report of one stack that is kept in memory.
pub const STACK_REPORT_BYTES_MAX: usize = 1024 * 1024;

/// Assignments that are on their way to one agent at a time.
pub const DELIVERIES_MAX: usize = 4;

/// For how long an agent may take to answer a request about stacks.
pub const STACK_REQUEST_TIMEOUT: Duration = Duration::from_secs(25);

/// For how long one part of a file may take: 4 MiB at 300 kbit/s.
pub const STACK_PART_TIMEOUT: Duration = Duration::from_secs(120);

/// An agent that says nothing for so long, not even that nothing has changed, is asked anew.
pub const STACK_SILENCE_MAX: Duration = Duration::from_secs(120);

/// The shortest and the longest wait before an agent's stacks are asked for again.
pub const STACK_RETRY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(300)];

/// Lines of output that are read ahead for an operator.
pub const LOG_LINES_AHEAD: usize = 256;

/// How often a watcher of stacks hears that nothing has changed.
pub const STACK_WATCH_ALIVE: Duration = Duration::from_secs(15);

/// Addresses whose arrivals are remembered for the probe; 16,384 of about 400 bytes are
/// 6 MiB, and more than 100 newcomers a second for as long as an arrival is remembered.
pub const LEDGER_ADDRESSES_MAX: usize = 16_384;

/// Addresses whose share of the probe is remembered; 16,384 of about 150 bytes are 2.5 MiB.
pub const PROBE_ADDRESSES_MAX: usize = 16_384;

/// Requests that one address may make of the probe at once: a full run makes about a hundred,
/// and two hosts behind one address may run it.
pub const PROBE_REQUESTS_BURST: u64 = 256;

/// And how many come back in a second.
pub const PROBE_REQUESTS_PER_SECOND: u64 = 4;

/// Bytes, both ways together, that one address may move through the probe's sockets at once:
/// eight of the largest.
pub const PROBE_BYTES_OF_ADDRESS_BURST: u64 = 256 * 1024 * 1024;

/// And how many come back in a second.
pub const PROBE_BYTES_OF_ADDRESS_PER_SECOND: u64 = 1024 * 1024;

/// The same for all addresses together.
pub const PROBE_BYTES_BURST: u64 = 1024 * 1024 * 1024;

/// And how many come back in a second: what a line of 256 Mbit/s has for them at most.
pub const PROBE_BYTES_PER_SECOND: u64 = 32 * 1024 * 1024;

/// Answers of one of the probe's sockets that wait for their time.
pub const PROBE_WAITING_MAX: usize = 16;

/// What one of the probe's connections over QUIC may have on its way in either direction: with
/// a round trip of 50 ms that measures 80 Mbit/s, and all of them hold 1 GiB at worst.
pub const PROBE_QUIC_WINDOW_BYTES: u32 = 512 * 1024;

/// For how long one message of the probe may be on its way out.
pub const PROBE_SEND_TIMEOUT: Duration = Duration::from_secs(30);

/// Downloads of the probe's program at a time.
pub const PROBE_DOWNLOADS_MAX: usize = 32;

/// For how long one may take: 12 MB at 200 kbit/s.
pub const PROBE_DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(8 * 60);

/// Largest program that is offered.
pub const PROBE_PROGRAM_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Largest report of a run with a token.
pub const PROBE_REPORT_BYTES_MAX: usize = 256 * 1024;

/// What is kept of a report: verdict and causes of a dozen flows.
pub const PROBE_SUMMARY_BYTES_MAX: usize = 16 * 1024;
