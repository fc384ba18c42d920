//! What is looked at when somebody scrapes, and never otherwise: sums over live
//! sessions, slots and queues of the doors, exposures, the runtime.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use prometheus::{
    GaugeVec, IntGaugeVec, Result,
    core::{Collector, Desc},
    proto::MetricFamily,
};
use tokio::{runtime::Handle, sync::Semaphore};
use tunnel::Occupancy;

use super::{
    Metrics, accept_queue,
    declare::{float_gauges_at_scrape, gauges_at_scrape},
    fleet::Sandbox,
    probe::{ProbeGauges, ProbeSums},
    session::Role,
    stack::{StackGauges, StackSums},
};

/// Where connections come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doorway {
    /// The API.
    Https,
    /// The tunnel under a path of the API's port.
    HttpsTunnel,
    /// The tunnel: WebSocket.
    TunnelTcp,
    /// The tunnel: QUIC.
    TunnelUdp,
}

impl Doorway {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::HttpsTunnel => "https_tunnel",
            Self::TunnelTcp => "tunnel_tcp",
            Self::TunnelUdp => "tunnel_udp",
        }
    }
}

/// Live sessions of one role, summed up.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct SessionSums {
    /// How full they are.
    pub occupancy: Occupancy,
    /// How many of them wait for their peer's credit and for nothing else.
    pub stalled: u64,
}

impl SessionSums {
    /// Adds one session.
    pub const fn add(&mut self, one: &Occupancy) {
        let sum = &mut self.occupancy;
        sum.unsent += one.unsent;
        sum.unacknowledged += one.unacknowledged;
        sum.unread += one.unread;
        sum.send_credit += one.send_credit;
        sum.receive_credit += one.receive_credit;
        if one.is_stalled() {
            self.stalled += 1;
        }
    }
}

/// Who may come in, and when.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Admissions {
    /// Handshakes that are taken in a second; `None`: as many as come.
    pub rate: Option<f64>,
    /// How many have been told a time that is still to come.
    pub booked: u64,
    /// Over how long agents are told to spread.
    pub window: Duration,
}

/// What the relay's parts say at a scrape.
#[derive(Debug, Default, Clone, Copy)]
pub struct Reading {
    /// Who may come in, and when.
    pub admissions: Admissions,
    /// Agents' sessions.
    pub agents: SessionSums,
    /// Operators' sessions.
    pub operators: SessionSums,
    /// Agents by how far their processes are fenced in, in the order of [`Sandbox::ALL`].
    pub sandboxes: [u64; Sandbox::ALL.len()],
    /// Exposures whose port is open.
    pub exposures_listening: u64,
    /// Exposures whose port could not be opened, and is tried again.
    pub exposures_waiting: u64,
    /// What is known of stacks.
    pub stacks: StackSums,
    /// What the probe remembers.
    pub probe: ProbeSums,
}

/// Slots of a door, for as long as it is open.
type Slots = (Doorway, Weak<Semaphore>, usize);

/// Filled at each scrape. Clones are the same.
#[derive(Clone)]
pub(super) struct LiveSeries(Arc<Inner>);

struct Inner {
    read: OnceLock<Box<dyn Fn() -> Reading + Send + Sync>>,
    slots: Mutex<Vec<Slots>>,
    listeners: Mutex<Vec<(Doorway, SocketAddr)>>,
    queues: IntGaugeVec,
    credit: IntGaugeVec,
    stalled: IntGaugeVec,
    slots_used: IntGaugeVec,
    slots_max: IntGaugeVec,
    accept_queue: IntGaugeVec,
    exposures: IntGaugeVec,
    sandboxes: IntGaugeVec,
    tasks: IntGaugeVec,
    rate: IntGaugeVec,
    booked: IntGaugeVec,
    window: GaugeVec,
    stacks: StackGauges,
    probe: ProbeGauges,
}

impl fmt::Debug for LiveSeries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveSeries").finish_non_exhaustive()
    }
}

fn admission_families() -> Result<[IntGaugeVec; 2]> {
    Ok([
        gauges_at_scrape(
            "admission_rate_per_second",
            "Handshakes that are taken in a second, as configured or as this machine \
             turned out to do; missing where as many are taken as come.",
            &[],
        )?,
        gauges_at_scrape(
            "admission_slots_booked",
            "Agents that were told a time to come back which is still to come.",
            &[],
        )?,
    ])
}

impl LiveSeries {
    pub(super) fn new() -> Result<Self> {
        let [rate, booked] = admission_families()?;
        Ok(Self(Arc::new(Inner {
            read: OnceLock::new(),
            slots: Mutex::default(),
            listeners: Mutex::default(),
            queues: gauges_at_scrape(
                "session_queue_bytes",
                "Bytes that sessions hold, by whose they are and queue: `unsent`, \
                 `unacknowledged` (sent, and kept until the peer has them), `unread`.",
                &["role", "queue"],
            )?,
            credit: gauges_at_scrape(
                "session_credit_bytes",
                "Credit of sessions that is left, by whose they are and direction seen from \
                 the relay: what may yet be sent, or received.",
                &["role", "direction"],
            )?,
            stalled: gauges_at_scrape(
                "sessions_stalled",
                "Sessions that have bytes to send and no credit left, by whose they are: \
                 their peer does not read.",
                &["role"],
            )?,
            slots_used: gauges_at_scrape(
                "admission_permits_used",
                "Connections being admitted (of door `https`: open), by door.",
                &["door"],
            )?,
            slots_max: gauges_at_scrape(
                "admission_permits",
                "Connections that may be admitted at a time, by door; further ones are \
                 turned away.",
                &["door"],
            )?,
            accept_queue: gauges_at_scrape(
                "accept_queue_connections",
                "Connections that the kernel has taken and the relay has not, by door.",
                &["door"],
            )?,
            exposures: gauges_at_scrape(
                "exposures",
                "Exposures, by state: `listening`, or `waiting` for a port that could not be \
                 opened.",
                &["state"],
            )?,
            sandboxes: sandboxes()?,
            tasks: gauges_at_scrape(
                "runtime_tasks",
                "Tasks of the runtime, by state: `alive`, or `queued` of them with no worker \
                 yet.",
                &["state"],
            )?,
            rate,
            booked,
            window: float_gauges_at_scrape(
                "reconnect_window_seconds",
                "Over how long agents are told to spread where all come back at once.",
                &[],
            )?,
            stacks: StackGauges::new()?,
            probe: ProbeGauges::new()?,
        })))
    }

    fn families(&self) -> [&dyn Collector; 17] {
        let inner = &*self.0;
        let [stacks, drifted, overdue] = inner.stacks.families();
        let [arrivals, sockets] = inner.probe.families();
        [
            arrivals,
            sockets,
            stacks,
            drifted,
            overdue,
            &inner.rate,
            &inner.booked,
            &inner.window,
            &inner.queues,
            &inner.credit,
            &inner.stalled,
            &inner.slots_used,
            &inner.slots_max,
            &inner.accept_queue,
            &inner.exposures,
            &inner.sandboxes,
            &inner.tasks,
        ]
    }
}

fn sandboxes() -> Result<IntGaugeVec> {
    gauges_at_scrape(
        "agents",
        "Agents with a session, by what their kernels enforce on their processes: \
         `whole` (outbound only), `partial`, or `unknown`.",
        &["sandbox"],
    )
}

impl Inner {
    fn fill(&self) {
        if let Some(read) = self.read.get() {
            self.fill_reading(&read());
        }
        for (door, slots, max) in &*locked(&self.slots) {
            let free = slots
                .upgrade()
                .map_or(*max, |slots| slots.available_permits());
            let of = |family: &IntGaugeVec| family.with_label_values(&[door.as_str()]);
            of(&self.slots_used).set(gauge(max.saturating_sub(free) as u64));
            of(&self.slots_max).set(gauge(*max as u64));
        }
        for (door, address) in &*locked(&self.listeners) {
            if let Some(waiting) = accept_queue::waiting(*address) {
                self.accept_queue
                    .with_label_values(&[door.as_str()])
                    .set(gauge(waiting));
            }
        }
        if let Ok(runtime) = Handle::try_current() {
            let (runtime, of) = (runtime.metrics(), |state| {
                self.tasks.with_label_values(&[state])
            });
            of("alive").set(gauge(runtime.num_alive_tasks() as u64));
            of("queued").set(gauge(runtime.global_queue_depth() as u64));
        }
    }

    fn fill_reading(&self, reading: &Reading) {
        self.stacks.fill(&reading.stacks);
        self.probe.fill(reading.probe);
        for role in Role::ALL {
            let sums = match role {
                Role::Agent => &reading.agents,
                Role::Operator => &reading.operators,
            };
            let (role, full) = (role.as_str(), &sums.occupancy);
            let set = |family: &IntGaugeVec, second, value| {
                family.with_label_values(&[role, second]).set(gauge(value));
            };
            set(&self.queues, "unsent", full.unsent);
            set(&self.queues, "unacknowledged", full.unacknowledged);
            set(&self.queues, "unread", full.unread);
            set(&self.credit, "sent", full.send_credit);
            set(&self.credit, "received", full.receive_credit);
            self.stalled
                .with_label_values(&[role])
                .set(gauge(sums.stalled));
        }
        let exposures = |state, count| {
            self.exposures.with_label_values(&[state]).set(gauge(count));
        };
        for (sandbox, count) in Sandbox::ALL.iter().zip(reading.sandboxes) {
            let labels = [sandbox.as_str()];
            self.sandboxes.with_label_values(&labels).set(gauge(count));
        }
        exposures("listening", reading.exposures_listening);
        exposures("waiting", reading.exposures_waiting);
        let Admissions {
            rate,
            booked,
            window,
        } = reading.admissions;
        let none: &[&str] = &[];
        if let Some(rate) = rate {
            let rate = gauge(rate.round() as u64);
            self.rate.with_label_values(none).set(rate);
        }
        self.booked.with_label_values(none).set(gauge(booked));
        self.window
            .with_label_values(none)
            .set(window.as_secs_f64());
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn locked<T>(table: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Collector for LiveSeries {
    fn desc(&self) -> Vec<&Desc> {
        self.families()
            .into_iter()
            .flat_map(|family| family.desc())
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.0.fill();
        self.families()
            .into_iter()
            .flat_map(|family| family.collect())
            .filter(|family| !family.get_metric().is_empty())
            .collect()
    }
}

impl Metrics {
    /// Asks for a reading at each scrape from now on. It is to be quick: it runs while
    /// the scraper waits. The first one counts.
    pub fn at_scrape(&self, read: impl Fn() -> Reading + Send + Sync + 'static) {
        // Of two, the later would be a second relay in this process.
        drop(self.live.0.read.set(Box::new(read)));
    }

    /// A door admits at most `max` connections at a time, each with a permit of these.
    pub fn watch_slots(&self, door: Doorway, slots: &Arc<Semaphore>, max: usize) {
        locked(&self.live.0.slots).push((door, Arc::downgrade(slots), max));
    }

    /// A door listens on this TCP address.
    pub fn watch_accept_queue(&self, door: Doorway, address: SocketAddr) {
        locked(&self.live.0.listeners).push((door, address));
    }
}
