//! A control over a real store, with presence, ports, time and chance at hand.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use async_trait::async_trait;
use compose::{
    exchange::{Assignment, LogLine},
    plan::Plan,
};
use tempfile::TempDir;
use tokio::sync::{broadcast, mpsc};
use wire::{
    close::{CloseCode, RefusalCode},
    id::{AgentId, Epoch, InstanceId},
    key::Secret,
    token::EnrolToken,
    transport::Transport,
};

use super::*;
use crate::store::sqlite::SqliteStore;

/// A clock that stands, and chance that counts.
#[derive(Default)]
pub(crate) struct Fixed {
    pub(crate) second: AtomicI64,
    pub(crate) drawn: AtomicU64,
}

impl Sources for Fixed {
    fn now(&self) -> Timestamp {
        let second = self.second.load(Ordering::Relaxed);
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn fill(&self, bytes: &mut [u8]) {
        let number = self.drawn.fetch_add(1, Ordering::Relaxed) + 1;
        bytes[..8].copy_from_slice(&number.to_be_bytes());
    }
}

/// Who is online, and who was closed why.
#[derive(Default)]
pub(crate) struct Live {
    pub(crate) online: Mutex<BTreeSet<EnvironmentId>>,
    pub(crate) closed: Mutex<Vec<(EnvironmentId, CloseCode)>>,
}

impl Presence for Live {
    fn view(&self, environment: EnvironmentId) -> Option<SessionView> {
        locked(&self.online)
            .contains(&environment)
            .then(|| SessionView {
                transport: Transport::Quic,
                rtt: Some(Duration::from_millis(3)),
                connected_since: Timestamp::UNIX_EPOCH,
                last_heard_ago: Duration::ZERO,
                remote: "127.0.0.1:9".parse().unwrap(),
                software: "sternline-agent/0".to_owned(),
                is_intercepted: false,
                is_connected: true,
                epoch: Epoch::default(),
                streams_open: 0,
                bytes_sent: 0,
                bytes_received: 0,
                report: None,
                figures: None,
            })
    }

    fn last_heard_ago(&self, _environment: EnvironmentId) -> Option<Duration> {
        None
    }

    fn close(&self, environment: EnvironmentId, code: CloseCode, _reason: &str) {
        locked(&self.closed).push((environment, code));
    }

    fn open_sessions(&self) -> usize {
        locked(&self.online).len()
    }
}

/// Ports that open unless they are in the way.
#[derive(Default)]
pub(crate) struct Ports {
    pub(crate) open: Mutex<BTreeSet<ExposureId>>,
    pub(crate) blocked: Mutex<BTreeSet<u16>>,
}

#[async_trait]
impl Exposer for Ports {
    async fn start(&self, exposure: Exposure) -> Result<SocketAddr, String> {
        if locked(&self.blocked).contains(&exposure.listen.port()) {
            return Err("address in use".to_owned());
        }
        locked(&self.open).insert(exposure.id);
        Ok(exposure.listen)
    }

    async fn stop(&self, id: ExposureId) {
        locked(&self.open).remove(&id);
    }
}

/// Agents that do as they are told, and tell what a test has them tell.
pub(crate) struct Agents {
    pub(crate) told: Mutex<Vec<EnvironmentId>>,
    pub(crate) seen: Mutex<BTreeMap<(EnvironmentId, String), Seen>>,
    pub(crate) asked: Mutex<Vec<String>>,
    pub(crate) events: broadcast::Sender<StackEvent>,
}

impl Default for Agents {
    fn default() -> Self {
        Self {
            told: Mutex::default(),
            seen: Mutex::default(),
            asked: Mutex::default(),
            events: broadcast::Sender::new(16),
        }
    }
}

#[async_trait]
impl Converger for Agents {
    fn assigned(&self, environment: EnvironmentId) {
        locked(&self.told).push(environment);
    }

    fn forget(&self, environment: EnvironmentId) {
        locked(&self.seen).retain(|(id, _), _| *id != environment);
    }

    fn seen(&self, environment: EnvironmentId, stack: &str) -> Seen {
        let seen = locked(&self.seen);
        let own = seen.get(&(environment, stack.to_owned()));
        own.cloned().unwrap_or_default()
    }

    fn watch(&self) -> broadcast::Receiver<StackEvent> {
        self.events.subscribe()
    }

    async fn plan(
        &self,
        _environment: EnvironmentId,
        (_, assignment): (&Principal, &Assignment),
    ) -> Result<Plan, AskError> {
        locked(&self.asked).push(format!("plan {:?}", assignment));
        Err(AskError::Offline)
    }

    async fn cancel(
        &self,
        _environment: EnvironmentId,
        (principal, stack): (&Principal, &str),
    ) -> Result<(), AskError> {
        locked(&self.asked).push(format!("{principal} cancel {stack}"));
        Ok(())
    }

    async fn restart(
        &self,
        _environment: EnvironmentId,
        (principal, stack): (&Principal, &str),
        service: Option<&str>,
    ) -> Result<(), AskError> {
        locked(&self.asked).push(format!("{principal} restart {stack} {service:?}"));
        Ok(())
    }

    async fn logs(
        &self,
        _environment: EnvironmentId,
        _asked: (&Principal, &LogRequest),
    ) -> Result<mpsc::Receiver<LogLine>, AskError> {
        Err(AskError::Offline)
    }
}

pub(crate) struct Fixture {
    _dir: TempDir,
    pub(crate) control: Arc<Control>,
    pub(crate) live: Arc<Live>,
    pub(crate) ports: Arc<Ports>,
    pub(crate) sources: Arc<Fixed>,
    pub(crate) stacks: Arc<Agents>,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) admin: Principal,
    /// The administrator's token in text.
    pub(crate) api_token: String,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let store = Arc::new(
            SqliteStore::open(&dir.path().join("relay.db"))
                .await
                .unwrap(),
        );
        let (live, ports, sources) = (
            Arc::new(Live::default()),
            Arc::new(Ports::default()),
            Arc::new(Fixed::default()),
        );
        let stacks = Arc::new(Agents::default());
        let parts = Parts {
            store: store.clone(),
            presence: live.clone(),
            exposer: ports.clone(),
            sources: sources.clone(),
            converger: stacks.clone(),
            sealer: Sealer::new(&Secret::from_bytes([4; 32])).unwrap(),
        };
        let control = Arc::new(Control::new(parts, facts()));
        let token = ApiToken::from_random(&[1; 32]);
        install_admin_token(&*store, &*sources, &token)
            .await
            .unwrap();
        let admin = control.authenticate(token.expose()).await.unwrap();
        Self {
            _dir: dir,
            control,
            live,
            ports,
            sources,
            stacks,
            store,
            admin,
            api_token: token.expose().to_owned(),
        }
    }

    pub(crate) async fn add(&self, name: &str) -> (EnvironmentView, EnrolToken) {
        let (view, token) = self
            .control
            .add_environment(&self.admin, name, BTreeMap::new())
            .await
            .unwrap();
        (view, token.text.parse().unwrap())
    }

    /// Enrols an agent of the first run and start for the environment.
    pub(crate) async fn enrol(&self, name: &str) -> Admitted {
        let (_, token) = self.add(name).await;
        self.control
            .admit_agent(hello(token.secret, 1))
            .await
            .unwrap()
    }

    pub(crate) async fn come(
        &self,
        agent_id: AgentId,
        start_counter: u64,
        run: u8,
    ) -> Result<Admitted, RefusalCode> {
        let credential = AgentCredential::Known {
            agent_id,
            start_counter,
        };
        self.control
            .admit_agent(AgentHello {
                credential,
                instance: instance(run),
            })
            .await
    }

    pub(crate) async fn status(&self, name: &str) -> EnvironmentStatus {
        self.control
            .environment(&self.admin, name)
            .await
            .unwrap()
            .status
    }
}

pub(crate) fn facts() -> RelayFacts {
    RelayFacts {
        version: "0.1.0",
        commit: "unknown",
        node: "relay-1".to_owned(),
        identity: PublicKey([8; 32]),
        address: RelayAddress {
            host: "relay.example".to_owned(),
            tunnel_port: 8000,
            https_port: 443,
        },
        agent_image: "sternline/agent:0.1.0".to_owned(),
        token_validity: Duration::from_secs(100),
    }
}

pub(crate) fn instance(run: u8) -> InstanceId {
    InstanceId::from_bytes([run; 16])
}

pub(crate) fn hello(secret: Secret, run: u8) -> AgentHello {
    let credential = AgentCredential::Enrol {
        secret,
        public_key: PublicKey([7; 32]),
        start_counter: 1,
    };
    AgentHello {
        credential,
        instance: instance(run),
    }
}
