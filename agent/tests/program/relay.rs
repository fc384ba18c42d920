//! A relay of one port that welcomes everybody, unless told otherwise.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::pki_types::PrivateKeyDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tunnel::{KeyPair, Session, World, handshake::Connection, websocket, world::BoxIo};
use wire::{
    close::RefusalCode,
    handshake::{Credential, EXPORTER_LABEL, Hello, Refusal, Welcome},
    id::{AgentId, EnvironmentId, Epoch, SessionId},
    key::{PublicKey, Secret},
    token::{EnrolToken, RelayAddress},
    transport::Transport,
};

/// The id that every enrolled agent gets.
pub(crate) const AGENT: AgentId = AgentId::from_bytes([4; 16]);

/// What to do with the next hello.
pub(crate) enum Verdict {
    Refuse(RefusalCode),
    /// As a cable cut after the hello: the agent cannot know what became of it.
    HangUp,
}

/// An agent that was welcomed.
pub(crate) struct Welcomed {
    pub(crate) hello: Hello,
    /// The key that the agent has proven to hold.
    pub(crate) proven_by: PublicKey,
    pub(crate) session: Session,
}

#[derive(Default)]
struct Memory {
    verdicts: VecDeque<Verdict>,
    agent_key: Option<PublicKey>,
}

pub(crate) struct Relay {
    port: u16,
    memory: Arc<Mutex<Memory>>,
    welcomed: mpsc::Receiver<Welcomed>,
    turned_away: mpsc::Receiver<Hello>,
}

fn identity() -> KeyPair {
    KeyPair::from_seed(&Secret::from_bytes([1; 32]))
}

impl Relay {
    pub(crate) async fn start() -> Self {
        tunnel::install_crypto_provider();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let memory = Arc::new(Mutex::new(Memory::default()));
        let (welcome, welcomed) = mpsc::channel(16);
        let (turn_away, turned_away) = mpsc::channel(16);
        let (acceptor, shared) = (acceptor(), Arc::clone(&memory));
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let connection = connection(&acceptor, tcp).await;
                let hello = judge(connection, &shared, &welcome).await;
                if let Some(hello) = hello {
                    turn_away.send(hello).await.unwrap();
                }
            }
        });
        Self {
            port,
            memory,
            welcomed,
            turned_away,
        }
    }

    /// A token for this relay.
    pub(crate) fn token(&self, secret: u8, environment: &str) -> String {
        let token = EnrolToken {
            addresses: vec![RelayAddress {
                host: "127.0.0.1".into(),
                tunnel_port: self.port,
                https_port: self.port,
            }],
            relay_identity: identity().public(),
            secret: Secret::from_bytes([secret; 32]),
            expires_unix_seconds: i64::MAX,
            environment: environment.into(),
        };
        token.to_text()
    }

    /// Answers one hello so, and those after it with a welcome again.
    pub(crate) fn answer(&self, verdict: Verdict) {
        self.memory.lock().unwrap().verdicts.push_back(verdict);
    }

    /// The next agent that was welcomed.
    pub(crate) async fn welcomed(&mut self) -> Welcomed {
        timeout(Duration::from_secs(20), self.welcomed.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// The next hello that was not.
    pub(crate) async fn seen(&mut self) -> Hello {
        timeout(Duration::from_secs(20), self.turned_away.recv())
            .await
            .unwrap()
            .unwrap()
    }
}

fn acceptor() -> TlsAcceptor {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(tunnel::tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![tunnel::tls::ALPN_HTTP.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn connection(acceptor: &TlsAcceptor, tcp: TcpStream) -> Connection {
    let tls = acceptor.accept(Box::new(tcp) as BoxIo).await.unwrap();
    let exporter = tls
        .get_ref()
        .1
        .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
        .unwrap();
    Connection::over_websocket(
        websocket::accept(tls).await.unwrap().0,
        exporter,
        Transport::Ws,
    )
}

/// Gives back the hello of whoever was turned away.
async fn judge(
    mut connection: Connection,
    memory: &Mutex<Memory>,
    welcomed: &mpsc::Sender<Welcomed>,
) -> Option<Hello> {
    let received = connection
        .challenge(&identity(), "node", [7; 32])
        .await
        .unwrap();
    let key = match &received.hello.credential {
        Credential::Enrol { public_key, .. } => Some(*public_key),
        Credential::Known { .. } | Credential::Operator { .. } => memory.lock().unwrap().agent_key,
    };
    let key = key.expect("a known agent before any has enrolled");
    assert!(
        received.is_proven_by(&key, &tunnel::crypto::verify),
        "a proof that does not hold"
    );
    let verdict = memory.lock().unwrap().verdicts.pop_front();
    match verdict {
        Some(Verdict::Refuse(code)) => {
            connection.refuse(&Refusal::new(code)).await;
            return Some(received.hello);
        }
        Some(Verdict::HangUp) => return Some(received.hello),
        None => memory.lock().unwrap().agent_key = Some(key),
    }
    let (session, driver) = connection
        .welcome(&World::real(), &welcome(), Arc::new(()))
        .await
        .unwrap();
    tokio::spawn(driver);
    let hello = received.hello;
    welcomed
        .send(Welcomed {
            hello,
            proven_by: key,
            session,
        })
        .await
        .ok()?;
    None
}

fn welcome() -> Welcome {
    Welcome {
        session_id: SessionId::from_bytes([1; 16]),
        epoch: Epoch {
            generation: 1,
            counter: 1,
        },
        agent_id: Some(AGENT),
        environment_id: Some(EnvironmentId::from_bytes([6; 16])),
        environment: "berlin".into(),
        reconnect_window: Duration::ZERO,
        heartbeat_idle: Duration::ZERO,
        bulk_lanes_max: 0,
        resume_window: Duration::ZERO,
    }
}
