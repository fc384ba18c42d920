//! What a relay does with a connection: shake hands, admit, and serve until the end.
//!
//! An agent's session is registered and then mostly listens. An operator's session
//! opens streams, each of which is joined to one on the environment's session:
//!
//! ```text
//! operator ── stream ──► relay ── stream (principal, request id) ──► agent ──► target
//! ```

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{debug, info};
use tunnel::{
    KeyPair, Session, World,
    handshake::{Connection, ConnectionError},
};
use wire::{
    close::{CloseCode, RefusalCode},
    handshake::{Credential, Hello, ReceivedHello, Refusal, Welcome},
    id::{Epoch, SessionId},
    key::Secret,
    limits::{BULK_LANES_MAX, HANDSHAKE_TIMEOUT},
    transport::Transport,
};

use crate::{
    control::{Admitted, AgentCredential, AgentHello, Control, Principal},
    farewell::Farewells,
    gate::Gate,
    limits::HANDSHAKES_MAX,
    metrics::{Doorway, Metrics, Resumed, Role},
    probe::{Footprint, Probe},
    registry::{AgentFacts, LiveAgent, Registry},
    stack::Stacks,
    tasks::Tasks,
};

mod listen;
mod streams;

use listen::{figures_request, serve_agent};

/// Serves every session of this node.
#[derive(Debug)]
pub struct Sessions {
    parts: SessionParts,
    counter: AtomicU64,
    tasks: Tasks,
    /// For handshakes of tunnels that came by way of HTTPS, where the connection's
    /// own permit ends with the switch.
    path_handshakes: Arc<Semaphore>,
}

/// What sessions are served with.
#[derive(Debug)]
pub struct SessionParts {
    /// The seams.
    pub world: World,
    /// The use cases.
    pub control: Arc<Control>,
    /// Who is live.
    pub registry: Arc<Registry>,
    /// What agents run of stacks.
    pub stacks: Arc<Stacks>,
    /// Who may come in.
    pub gate: Arc<Gate>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The relay's own key.
    pub identity: KeyPair,
    /// How often the relay has started.
    pub generation: u64,
    /// Whom to tell when this process was killed.
    pub farewells: Arc<Farewells>,
    /// The node's name, for logs.
    pub node: String,
    /// Answers who asks what the network lets through; `None`: nobody does.
    pub probe: Option<Arc<Probe>>,
    /// Whether agents are asked for their figures.
    pub asks_figures: bool,
    /// How long a session may be without a connection, at most.
    pub resume_window: Duration,
    /// Whether sessions can be [severed](Sessions::sever).
    pub is_severable: bool,
}

/// Serves a session until its end. Of its own, so that what the handshake needed, some
/// kilobytes, is not kept for as long as the session is: who awaits it has dropped that.
pub type Stay = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who has come to a door.
#[derive(Debug, Clone, Copy)]
pub struct Visit {
    /// Where from.
    pub remote: SocketAddr,
    /// When.
    pub accepted_at: Instant,
    /// Whether all that was left is what is kept for operators.
    pub is_for_operators: bool,
}

/// Whom the relay has let in.
enum Guest {
    Agent(Admitted),
    /// An agent that adds a bulk lane to its session.
    BulkLane(Admitted, LiveAgent),
    /// An agent whose session goes on over another connection.
    Returning(Admitted, LiveAgent),
    Operator(Principal),
}

impl Sessions {
    /// A node without sessions.
    pub fn new(parts: SessionParts) -> Arc<Self> {
        let path_handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let door = Doorway::HttpsTunnel;
        parts
            .metrics
            .watch_slots(door, &path_handshakes, HANDSHAKES_MAX);
        let tasks = Tasks::new(parts.is_severable);
        Arc::new(Self {
            parts,
            counter: AtomicU64::new(0),
            tasks,
            path_handshakes,
        })
    }

    /// Every task that serves a connection or a stream; closed and waited for when
    /// the relay ends.
    pub const fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Ends every session and every task at once, as if the process were gone: nobody is
    /// told. Nothing where that was not asked for.
    pub fn sever(&self) {
        if self.parts.is_severable {
            // Who holds a session sees its end.
            self.parts.registry.abort_all("the relay is gone");
            self.tasks.sever();
        }
    }

    /// Keys what QUIC must recognise after a restart: derived from the identity, so
    /// that nothing more has to be kept. Ed25519 gives the same signature each time.
    pub fn quic_secret(&self) -> Secret {
        let signature = self.parts.identity.sign(b"sternline quic endpoint v1");
        Secret::from_bytes(tunnel::sha256(&signature.0))
    }

    /// The right to one handshake by way of HTTPS, if there is one left.
    pub fn path_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.path_handshakes).try_acquire_owned().ok()
    }

    /// Who may come in.
    pub fn gate(&self) -> &Gate {
        &self.parts.gate
    }

    /// The seams.
    pub const fn world(&self) -> &World {
        &self.parts.world
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// Answers who asks what the network lets through, if anybody does.
    pub const fn probe(&self) -> Option<&Arc<Probe>> {
        self.parts.probe.as_ref()
    }

    /// Notes that somebody has come to a door, for the probe's witness.
    pub fn arrived(&self, door: ::probe::protocol::Door, remote: SocketAddr) -> Footprint {
        self.parts
            .probe
            .as_ref()
            .map(|probe| probe.arrived(door, remote))
            .unwrap_or_default()
    }

    /// Whom to tell when this process was killed.
    pub fn farewells(&self) -> &Arc<Farewells> {
        &self.parts.farewells
    }

    /// Spawns what a connection does: arrive, and stay. The task itself is two pointers,
    /// since both are boxed before there is a task.
    pub fn spawn_visit<F>(&self, arrive: Pin<Box<F>>)
    where
        F: Future<Output = Option<Stay>> + Send + 'static,
    {
        self.tasks.spawn(async move {
            if let Some(stay) = arrive.await {
                stay.await;
            }
        });
    }

    /// Shakes hands over a connection, and gives what serves its session until the end.
    /// What is handed in as `permit` is dropped with the handshake.
    pub async fn shake_hands<P>(
        self: &Arc<Self>,
        connection: Connection,
        visit: Visit,
        permit: P,
    ) -> Option<Stay> {
        let Visit {
            remote,
            accepted_at,
            ..
        } = visit;
        let transport = connection.transport();
        let deadline = tokio::time::Instant::from_std(accepted_at + HANDSHAKE_TIMEOUT);
        let handshake = self.handshake(connection, visit);
        let result = tokio::time::timeout_at(deadline, handshake).await;
        drop(permit);
        // By HTTPS it has ended with TLS already.
        if transport != Transport::Ws443 {
            self.parts.gate.finished();
        }
        let taken = self
            .parts
            .world
            .clock
            .now()
            .saturating_duration_since(accepted_at);
        let label = match &result {
            Ok(Ok(_)) => "admitted",
            Ok(Err(Failed::Refused(code))) => code.as_str(),
            Ok(Err(Failed::Broken(_))) => "broken",
            Err(_) => CloseCode::HandshakeTimeout.as_str(),
        };
        self.parts.metrics.handshake(transport, label, taken);
        match result {
            Ok(Ok(Some(arrival))) => {
                return Some(Box::pin(Arc::clone(self).host(arrival, remote)));
            }
            // What has become part of a session ends with it.
            Ok(Ok(None)) => {}
            Ok(Err(failed)) => {
                self.parts.metrics.refused(label);
                debug!(%remote, %transport, reason = label, detail = %failed, "not admitted");
            }
            Err(_) => {
                self.parts.metrics.refused(label);
                debug!(%remote, %transport, reason = label, "not admitted");
            }
        }
        None
    }

    /// `None`: the connection has become part of a session that there was before.
    async fn handshake(
        &self,
        mut connection: Connection,
        visit: Visit,
    ) -> Result<Option<Arrival>, Failed> {
        let parts = &self.parts;
        let received = self.hear_hello(&mut connection).await;
        let received = match received {
            Ok(received) => received,
            Err(ConnectionError::Handshake(error)) => {
                let code = error.refusal();
                connection.refuse(&Refusal::new(code)).await;
                return Err(Failed::Refused(code));
            }
            Err(error) => return Err(Failed::Broken(error.to_string())),
        };
        let is_operator = matches!(received.hello.credential, Credential::Operator { .. });
        if visit.is_for_operators && !is_operator {
            let code = RefusalCode::Overloaded;
            let mut refusal = Refusal::new(code);
            refusal.retry_after = Some(parts.gate.book());
            connection.refuse(&refusal).await;
            return Err(Failed::Refused(code));
        }
        let admitted = self.admit(&received).await;
        if matches!(received.hello.credential, Credential::Enrol { .. }) {
            let outcome = admitted.as_ref().map(|_| ()).map_err(|code| *code);
            parts.metrics.enrolment(outcome);
        }
        let guest = match admitted {
            Ok(guest) => guest,
            Err(code) => {
                connection.refuse(&Refusal::new(code)).await;
                return Err(Failed::Refused(code));
            }
        };
        let (transport, is_intercepted) = (connection.transport(), connection.is_intercepted());
        let welcome = self.welcome(&guest, transport, &received.hello);
        let broken = |error: std::io::Error| Failed::Broken(error.to_string());
        match &guest {
            Guest::BulkLane(_, live) => {
                let driver = connection.welcome_to(&live.session, &welcome).await;
                if let Some(driver) = driver.map_err(broken)? {
                    let guard = parts.metrics.bulk_lane_opened();
                    self.tasks.spawn(async move {
                        driver.await;
                        drop(guard);
                    });
                }
                return Ok(None);
            }
            Guest::Returning(agent, live) => {
                let is_move = live.session.is_connected();
                self.welcome_back(connection, live, &welcome).await?;
                let from = (visit.remote, is_intercepted);
                self.note_returned(agent, live, from, is_move);
                return Ok(None);
            }
            Guest::Agent(_) | Guest::Operator(_) => {}
        }
        let (session, driver) = connection
            .welcome(&parts.world, &welcome, parts.registry.watcher())
            .await
            .map_err(broken)?;
        self.tasks.spawn(driver);
        Ok(Some(Arrival {
            session,
            guest,
            epoch: welcome.epoch,
            software: received.hello.software,
            is_intercepted,
        }))
    }

    async fn admit(&self, received: &ReceivedHello) -> Result<Guest, RefusalCode> {
        let control = &self.parts.control;
        let hello = &received.hello;
        let (key, credential) = match &hello.credential {
            Credential::Operator { api_token } => {
                let principal = control.authenticate(api_token).await;
                return principal
                    .map(Guest::Operator)
                    .map_err(|error| error.refusal());
            }
            Credential::Enrol {
                secret,
                public_key,
                start_counter,
            } => {
                let credential = AgentCredential::Enrol {
                    secret: secret.clone(),
                    public_key: *public_key,
                    start_counter: *start_counter,
                };
                (*public_key, credential)
            }
            Credential::Known {
                agent_id,
                start_counter,
            } => {
                let key = control.agent_key(*agent_id).await?;
                let credential = AgentCredential::Known {
                    agent_id: *agent_id,
                    start_counter: *start_counter,
                };
                (key, credential)
            }
        };
        if !received.is_proven_by(&key, &tunnel::crypto::verify) {
            return Err(RefusalCode::BadProof);
        }
        let admitted = AgentHello {
            credential,
            instance: hello.instance,
        };
        let agent = control.admit_agent(admitted).await?;
        // The very session of the very agent: a former one, or another's, takes no connection.
        let live = self.parts.registry.live_agent(agent.environment_id);
        let its = |id| live.filter(|live| live.session.id() == id);
        match (hello.bulk_lane_of, hello.resume_of) {
            (Some(id), _) => its(id)
                .map(|live| Guest::BulkLane(agent, live))
                .ok_or(RefusalCode::SessionUnknown),
            (None, Some(id)) => Ok(match its(id) {
                Some(live) => Guest::Returning(agent, live),
                None => {
                    self.parts.metrics.resume(Resumed::Unknown);
                    Guest::Agent(agent)
                }
            }),
            (None, None) => Ok(Guest::Agent(agent)),
        }
    }

    /// Challenges who has come, and hears who that is.
    async fn hear_hello(
        &self,
        connection: &mut Connection,
    ) -> Result<ReceivedHello, ConnectionError> {
        let SessionParts {
            world,
            identity,
            node,
            ..
        } = &self.parts;
        connection.challenge(identity, node, world.random()).await
    }

    /// Has a session go on over this connection.
    async fn welcome_back(
        &self,
        connection: Connection,
        live: &LiveAgent,
        welcome: &Welcome,
    ) -> Result<(), Failed> {
        let driver = connection.welcome_back(&live.session, welcome).await;
        let driver = driver.map_err(|error| Failed::Broken(error.to_string()))?;
        let over = || Failed::Broken("the session to be resumed has ended meanwhile".to_owned());
        self.tasks.spawn(driver.ok_or_else(over)?);
        Ok(())
    }

    /// A session goes on over another connection.
    fn note_returned(
        &self,
        agent: &Admitted,
        live: &LiveAgent,
        from: (SocketAddr, bool),
        is_move: bool,
    ) {
        let session = &live.session;
        if is_move {
            // A loss is counted by who waited.
            self.parts.metrics.resume(Resumed::Moved);
        }
        let registry = &self.parts.registry;
        registry.note_resumed(agent.environment_id, session, from);
        info!(
            environment = agent.environment, transport = %session.transport(), %is_move,
            session_id = %session.id(), epoch = %live.epoch, "agent's session goes on"
        );
        // What was under way to the agent is lost with the former connection.
        if self.parts.asks_figures {
            session.send_control(figures_request());
        }
    }

    fn welcome(&self, guest: &Guest, transport: Transport, hello: &Hello) -> Welcome {
        let (agent, live) = match guest {
            Guest::Agent(agent) => (Some(agent), None),
            Guest::BulkLane(agent, live) | Guest::Returning(agent, live) => {
                (Some(agent), Some(live))
            }
            Guest::Operator(_) => (None, None),
        };
        let is_own_connection = matches!(guest, Guest::Agent(_) | Guest::Returning(..));
        let may_have_lanes = is_own_connection && transport != Transport::Quic;
        let new = || {
            let counter = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
            let epoch = Epoch {
                generation: self.parts.generation,
                counter,
            };
            (SessionId::from_bytes(self.parts.world.random()), epoch)
        };
        let (session_id, epoch) = live.map_or_else(new, |live| (live.session.id(), live.epoch));
        Welcome {
            session_id,
            epoch,
            agent_id: agent.map(|agent| agent.agent_id),
            environment_id: agent.map(|agent| agent.environment_id),
            environment: agent
                .map(|agent| agent.environment.clone())
                .unwrap_or_default(),
            reconnect_window: self.parts.registry.reconnect_window(),
            heartbeat_idle: hello.heartbeat_idle,
            bulk_lanes_max: if may_have_lanes { BULK_LANES_MAX } else { 0 },
            resume_window: if is_own_connection {
                hello.resume_window.min(self.parts.resume_window)
            } else {
                Duration::ZERO
            },
        }
    }

    async fn host(self: Arc<Self>, arrival: Arrival, remote: SocketAddr) {
        let Arrival {
            session,
            guest,
            epoch,
            software,
            is_intercepted,
        } = arrival;
        let transport = session.transport();
        match guest {
            // Became part of a session with its welcome.
            Guest::BulkLane(..) | Guest::Returning(..) => {}
            Guest::Agent(agent) => {
                let guard = self.parts.metrics.session_opened(transport, Role::Agent);
                if is_intercepted {
                    self.parts.metrics.session_intercepted(transport);
                }
                let facts = AgentFacts {
                    environment: agent.environment_id,
                    agent: agent.agent_id,
                    epoch,
                    remote,
                    software,
                    is_intercepted,
                };
                let registered = self.parts.registry.register_agent(&session, facts, guard);
                let Some(registration) = registered else {
                    session.close(CloseCode::Superseded, "a newer session is in place");
                    return;
                };
                if self.parts.control.is_removed(agent.environment_id) {
                    session.close(CloseCode::Revoked, "the environment was removed");
                }
                info!(
                    environment = agent.environment, agent_id = %agent.agent_id, %transport, %epoch,
                    session_id = %session.id(), "agent online"
                );
                if self.parts.asks_figures {
                    session.send_control(figures_request());
                }
                let (stacks, control) = (&self.parts.stacks, &self.parts.control);
                // Boxed: of most agents it only waits.
                let attending = Box::pin(stacks.attend(control, agent.environment_id, &session));
                let closed = tokio::select! {
                    closed = serve_agent(&session, &registration) => closed,
                    never = attending => match never {},
                };
                info!(
                    environment = agent.environment, agent_id = %agent.agent_id, %epoch,
                    code = %closed.code, reason = closed.reason, "agent offline"
                );
                self.count_close(Role::Agent, &session, closed.code);
            }
            Guest::Operator(principal) => {
                let guard = self.parts.metrics.session_opened(transport, Role::Operator);
                let _registration = self.parts.registry.register_operator(&session, guard);
                debug!(principal = principal.name(), session_id = %session.id(), "operator came");
                while let Some(incoming) = session.accept().await {
                    let (sessions, principal) = (Arc::clone(&self), principal.clone());
                    self.tasks
                        .spawn(async move { sessions.forward(&principal, incoming).await });
                }
                let closed = session.closed().await;
                debug!(principal = principal.name(), code = %closed.code, "operator went");
                self.count_close(Role::Operator, &session, closed.code);
            }
        }
    }

    fn count_close(&self, role: Role, session: &Session, code: CloseCode) {
        let parts = &self.parts;
        let now = parts.world.clock.now();
        let age = now.saturating_duration_since(session.stats().opened_at);
        parts.metrics.closed(role, code, age);
    }
}

/// A session that was welcomed.
struct Arrival {
    session: Session,
    guest: Guest,
    epoch: Epoch,
    software: String,
    is_intercepted: bool,
}

/// Why a connection did not become a session.
#[derive(Debug, thiserror::Error)]
enum Failed {
    /// The dialler was told.
    #[error("refused: {0}")]
    Refused(RefusalCode),
    /// It broke off, or speaks something else.
    #[error("{0}")]
    Broken(String),
}
