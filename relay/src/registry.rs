//! Live sessions by environment: in memory alone, so that a connect and a
//! heartbeat write nothing to the store.
//!
//! The newest epoch wins. It takes all new streams at once, and never waits for the
//! session that it supersedes. A session is registered through a guard, and the
//! guard takes out what it put in and nothing newer.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use prost::Message as _;
use tokio::sync::watch;
use tunnel::{Session, World};
use wire::{
    close::CloseCode,
    frame::Goaway,
    id::{AgentId, EnvironmentId, Epoch, SessionId},
    message::{AgentFigures, AgentReport, PolicyRefusals},
};

use crate::{
    control::{Drain, Presence, SessionView},
    gate::Gate,
    limits::{ABSENCES_MAX, RESTART_TIME},
    metrics::{Metrics, Reading, Role, Sandbox, SessionGuard},
};

mod returning;
mod watcher;

pub use watcher::Watcher;

/// See the module.
#[derive(Debug)]
pub struct Registry {
    world: World,
    metrics: Arc<Metrics>,
    gate: Arc<Gate>,
    live: Mutex<Live>,
    /// How many agents there are, the absent who are expected included; as of the last count.
    expected: AtomicU32,
    /// Until when all agents of the store are believed to be on their way.
    returning_until: Mutex<Option<Instant>>,
    /// How often a session has come or gone.
    changes: watch::Sender<u64>,
    watcher: Arc<Watcher>,
}

/// In the order of their keys: who is told first is the same in every run over the same dice.
#[derive(Debug, Default)]
struct Live {
    /// Boxed: a table is up to half empty.
    agents: BTreeMap<EnvironmentId, Box<Agent>>,
    /// Environments whose agent is gone, for as long as it is.
    absences: BTreeMap<EnvironmentId, Absence>,
    operators: BTreeMap<SessionId, Operator>,
}

/// What the relay knows of an agent's session.
#[derive(Debug)]
pub struct AgentFacts {
    /// Whose it is.
    pub environment: EnvironmentId,
    /// Who has it.
    pub agent: AgentId,
    /// Fences it.
    pub epoch: Epoch,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// Program and version.
    pub software: String,
    /// Somebody on its side ends the TLS around the session's.
    pub is_intercepted: bool,
}

/// An agent's session that is live at this moment.
#[derive(Debug, Clone)]
pub struct LiveAgent {
    /// Whose it is.
    pub environment: EnvironmentId,
    /// Who has it.
    pub agent: AgentId,
    /// Fences it.
    pub epoch: Epoch,
    /// Where it comes from.
    pub remote: SocketAddr,
    /// The session itself: its id, its transport, how it fares.
    pub session: Session,
}

#[derive(Debug)]
struct Agent {
    session: Session,
    facts: AgentFacts,
    connected_since: Timestamp,
    /// Encoded: mostly nobody looks at it, and its strings would take three times as much.
    report: Option<Box<[u8]>>,
    /// What of the report is asked for at every scrape.
    sandbox: Sandbox,
    figures: Option<AgentFigures>,
    guard: SessionGuard,
}

impl Agent {
    fn live(&self) -> LiveAgent {
        LiveAgent {
            environment: self.facts.environment,
            agent: self.facts.agent,
            epoch: self.facts.epoch,
            remote: self.facts.remote,
            session: self.session.clone(),
        }
    }
}

/// Since when an agent is gone.
#[derive(Debug, Clone, Copy)]
struct Absence {
    since: Instant,
    last_heard: Instant,
}

#[derive(Debug)]
struct Operator {
    session: Session,
    guard: SessionGuard,
}

/// Takes a session out of the registry when dropped.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    entry: Entry,
}

#[derive(Debug)]
enum Entry {
    Agent(EnvironmentId, Epoch),
    Operator(SessionId),
}

impl Registry {
    /// A registry without sessions.
    pub fn new(world: World, metrics: Arc<Metrics>, gate: Arc<Gate>) -> Arc<Self> {
        let changes = watch::Sender::new(0);
        let watcher = Watcher::new(metrics.clone(), changes.clone());
        Arc::new(Self {
            world,
            metrics,
            gate,
            expected: AtomicU32::new(0),
            returning_until: Mutex::default(),
            live: Mutex::default(),
            changes,
            watcher: Arc::new(watcher),
        })
    }

    /// Who is told how sessions fare, and decides whether one that has lost its connection
    /// may wait for another.
    pub fn watcher(&self) -> Arc<Watcher> {
        self.watcher.clone()
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an agent's session the environment's. `None`: a newer one is in place.
    pub fn register_agent(
        self: &Arc<Self>,
        session: &Session,
        facts: AgentFacts,
        guard: SessionGuard,
    ) -> Option<Registration> {
        let (environment, epoch) = (facts.environment, facts.epoch);
        let connected_since =
            Timestamp::from_second(self.world.clock.unix_seconds()).unwrap_or(Timestamp::MAX);
        let mut live = self.live();
        if live
            .agents
            .get(&environment)
            .is_some_and(|agent| agent.facts.epoch > epoch)
        {
            return None;
        }
        let agent = Box::new(Agent {
            session: session.clone(),
            facts,
            connected_since,
            report: None,
            sandbox: Sandbox::default(),
            figures: None,
            guard,
        });
        let superseded = live.agents.insert(environment, agent);
        let here = u32::try_from(live.agents.len()).unwrap_or(u32::MAX);
        let absence = live.absences.remove(&environment);
        drop(live);
        if here >= self.expected.load(Ordering::Relaxed) {
            // Everybody is back: who leaves from now on is away.
            *self.returning() = None;
        }
        self.note_change();
        let now = self.world.clock.now();
        let gap = match (&superseded, absence) {
            (Some(_), _) => Some(Duration::ZERO),
            (None, absence) => absence.map(|absence| now.saturating_duration_since(absence.since)),
        };
        if let Some(gap) = gap {
            self.metrics.came_back(session.transport(), gap);
        }
        if let Some(old) = superseded {
            old.session
                .close(CloseCode::Superseded, "a newer session has taken over");
        }
        Some(Registration {
            registry: Arc::clone(self),
            entry: Entry::Agent(environment, epoch),
        })
    }

    /// Counts an operator's session in.
    pub fn register_operator(
        self: &Arc<Self>,
        session: &Session,
        guard: SessionGuard,
    ) -> Registration {
        let id = session.id();
        self.live().operators.insert(
            id,
            Operator {
                session: session.clone(),
                guard,
            },
        );
        self.note_change();
        Registration {
            registry: Arc::clone(self),
            entry: Entry::Operator(id),
        }
    }

    /// The session that reaches an environment, if there is one.
    pub fn session(&self, environment: EnvironmentId) -> Option<Session> {
        self.live()
            .agents
            .get(&environment)
            .map(|agent| agent.session.clone())
    }

    /// Every agent's session that is live, by environment. One that waits for a connection
    /// is among them.
    pub fn live_agents(&self) -> Vec<LiveAgent> {
        let live = self.live();
        live.agents.values().map(|agent| agent.live()).collect()
    }

    /// The agent of an environment, if it has a session.
    pub fn live_agent(&self, environment: EnvironmentId) -> Option<LiveAgent> {
        let live = self.live();
        live.agents.get(&environment).map(|agent| agent.live())
    }

    /// An agent's session goes on over another connection, from this address.
    pub fn note_resumed(
        &self,
        environment: EnvironmentId,
        session: &Session,
        (remote, is_intercepted): (SocketAddr, bool),
    ) {
        let mut live = self.live();
        if let Some(agent) = live.agents.get_mut(&environment)
            && agent.session.id() == session.id()
        {
            agent.facts.remote = remote;
            agent.facts.is_intercepted = is_intercepted;
            self.metrics
                .session_moved(&mut agent.guard, session.transport(), Role::Agent);
        }
        drop(live);
        self.note_change();
    }

    /// Changes whenever a session has come or gone, or its connection has: for who would
    /// otherwise have to look again and again.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn note_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// How full the live sessions are. Each is asked for sums that it keeps.
    pub fn fill_reading(&self, reading: &mut Reading) {
        // Handles first, so that no session's lock is taken under the registry's.
        let live = self.live();
        let agents: Vec<Session> = handles(live.agents.values().map(|agent| &agent.session));
        let operators: Vec<Session> =
            handles(live.operators.values().map(|operator| &operator.session));
        for agent in live.agents.values() {
            reading.sandboxes[agent.sandbox as usize] += 1;
        }
        drop(live);
        for session in agents {
            reading.agents.add(&session.stats().occupancy);
        }
        for session in operators {
            reading.operators.add(&session.stats().occupancy);
        }
    }

    /// Ends every session without a word to its peer.
    pub fn abort_all(&self, reason: &str) {
        for session in self.sessions() {
            session.abort(CloseCode::ConnectionLost, reason);
        }
    }

    fn agents(&self) -> Vec<Session> {
        let live = self.live();
        handles(live.agents.values().map(|agent| &agent.session))
    }

    fn sessions(&self) -> Vec<Session> {
        let live = self.live();
        let agents = live.agents.values().map(|agent| &agent.session);
        let operators = live.operators.values().map(|operator| &operator.session);
        handles(agents.chain(operators))
    }
}

impl Registration {
    /// Keeps what the agent tells of its host.
    pub fn report(&self, report: AgentReport) {
        let sandbox = Sandbox::of(&report);
        let report = report.encode_to_vec().into_boxed_slice();
        self.note(|agent| {
            agent.report = Some(report);
            agent.sandbox = sandbox;
        });
    }

    /// Keeps what the agent tells of its process.
    pub fn figures(&self, figures: AgentFigures) {
        self.note(|agent| agent.figures = Some(figures));
    }

    /// Counts what the agent tells to have refused.
    pub fn policy_refused(&self, refusals: &PolicyRefusals) {
        self.registry.metrics.policy_refused(refusals);
    }

    fn note(&self, note: impl FnOnce(&mut Agent)) {
        let Entry::Agent(environment, epoch) = &self.entry else {
            return;
        };
        if let Some(agent) = self.registry.live().agents.get_mut(environment)
            && agent.facts.epoch == *epoch
        {
            note(agent);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut live = self.registry.live();
        // What is taken out is dropped after the lock is: it closes a session.
        match &self.entry {
            Entry::Agent(environment, epoch) => {
                let is_ours = live
                    .agents
                    .get(environment)
                    .is_some_and(|agent| agent.facts.epoch == *epoch);
                let gone = if is_ours {
                    live.agents.remove(environment)
                } else {
                    None
                };
                if let Some(agent) = &gone
                    && live.absences.len() < ABSENCES_MAX
                {
                    let absence = Absence {
                        since: self.registry.world.clock.now(),
                        last_heard: agent.session.stats().last_heard,
                    };
                    live.absences.insert(*environment, absence);
                }
                drop(live);
                drop(gone);
            }
            Entry::Operator(id) => {
                let gone = live.operators.remove(id);
                drop(live);
                drop(gone);
            }
        }
        self.registry.note_change();
    }
}

/// Asks to come back so long after the session's end, within that window.
fn goaway(after: Duration, window: Duration, serve_for: Duration) -> Goaway {
    let milliseconds =
        |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX >> 2);
    Goaway {
        reconnect_after_ms: milliseconds(after),
        window_ms: milliseconds(window),
        drain_ms: milliseconds(serve_for),
        address: String::new(),
    }
}

fn handles<'a>(sessions: impl Iterator<Item = &'a Session>) -> Vec<Session> {
    sessions.cloned().collect()
}

impl Presence for Registry {
    fn view(&self, environment: EnvironmentId) -> Option<SessionView> {
        let live = self.live();
        let agent = live.agents.get(&environment)?;
        let stats = agent.session.stats();
        let now = self.world.clock.now();
        Some(SessionView {
            is_connected: agent.session.is_connected(),
            transport: stats.transport,
            rtt: stats.rtt,
            connected_since: agent.connected_since,
            last_heard_ago: now.saturating_duration_since(stats.last_heard),
            remote: agent.facts.remote,
            software: agent.facts.software.clone(),
            is_intercepted: agent.facts.is_intercepted,
            epoch: agent.facts.epoch,
            streams_open: stats.streams_open,
            bytes_sent: stats.bytes_sent,
            bytes_received: stats.bytes_received,
            report: agent
                .report
                .as_deref()
                .and_then(|report| AgentReport::decode(report).ok()),
            figures: agent.figures,
        })
    }

    fn last_heard_ago(&self, environment: EnvironmentId) -> Option<Duration> {
        let absence = self.live().absences.get(&environment).copied()?;
        let now = self.world.clock.now();
        Some(now.saturating_duration_since(absence.last_heard))
    }

    fn close(&self, environment: EnvironmentId, code: CloseCode, reason: &str) {
        if let Some(session) = self.session(environment) {
            session.close(code, reason);
        }
    }

    fn open_sessions(&self) -> usize {
        let live = self.live();
        live.agents.len() + live.operators.len()
    }
}

impl Drain for Registry {
    fn goaway_all(&self, spread: Duration, serve_for: Duration) {
        let mut live = self.live();
        let agents = u32::try_from(live.agents.len()).unwrap_or(u32::MAX);
        // Each has a time of its own: those of all together are as far apart as handshakes.
        let each = spread / agents.max(1);
        for (rank, agent) in (0..).zip(live.agents.values_mut()) {
            agent.guard.draining();
            let after = RESTART_TIME + each * rank;
            agent.session.goaway(goaway(after, each, serve_for));
        }
        for operator in live.operators.values_mut() {
            operator.guard.draining();
            let goaway = goaway(Duration::ZERO, Duration::ZERO, serve_for);
            operator.session.goaway(goaway);
        }
    }

    fn streams_open(&self) -> usize {
        self.sessions()
            .iter()
            .map(|session| session.stats().streams_open)
            .sum()
    }

    fn operators(&self) -> usize {
        self.live().operators.len()
    }

    fn close_all(&self, code: CloseCode, reason: &str) {
        for session in self.sessions() {
            session.close(code, reason);
        }
    }
}
