//! One attempt to reach a relay: resolve, connect over the better transport with a
//! head start, shake hands, and keep whichever session is welcomed first.

use std::{fmt, io, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustls::{RootCertStore, pki_types::ServerName};
use tokio::{task::JoinSet, time::Instant};
use tokio_rustls::TlsConnector;
use wire::{
    handshake::{Answer, EXPORTER_LABEL, Hello, Welcome},
    id::{AgentId, InstanceId, Side},
    key::{PublicKey, Secret},
    limits::HANDSHAKE_TIMEOUT,
    token::RelayAddress,
    transport::{ParseTransportError, Transport},
};
use zeroize::Zeroizing;

use crate::{
    busy::Listening,
    crypto::KeyPair,
    handshake::{Connection, Turn},
    quic,
    session::Session,
    tls::{self, SeenCertificate},
    websocket,
    world::{BoxIo, World},
};

mod error;
mod tally;

pub use error::{Cause, DialError};
pub use tally::{DialCounts, DialTally};

/// What a better transport gets ahead of the next one.
const HEAD_START: Duration = Duration::from_millis(300);

/// How long an address of a host may take to answer before the next one has its turn beside it
/// (RFC 8305, section 8).
const ADDRESS_PAUSE: Duration = Duration::from_millis(250);

/// What QUIC gets, at least, once nobody listens where all other transports lead: the
/// relay restarts, and where the network swallows QUIC, waiting for it would hold up the
/// next try over what the network lets through.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// Which transports to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TransportChoice {
    /// All, the better ones with a head start.
    #[default]
    Auto,
    /// This one alone.
    Only(Transport),
    /// Those that are better than this one.
    Above(Transport),
}

impl TransportChoice {
    /// The transports, the better ones first.
    fn transports(self) -> Vec<Transport> {
        let all = Transport::ALL.into_iter();
        match self {
            Self::Auto => all.collect(),
            Self::Only(transport) => vec![transport],
            Self::Above(transport) => all.take_while(|better| *better != transport).collect(),
        }
    }
}

impl FromStr for TransportChoice {
    type Err = ParseTransportError;

    fn from_str(text: &str) -> Result<Self, ParseTransportError> {
        match text {
            "auto" => Ok(Self::Auto),
            text => text.parse().map(Self::Only),
        }
    }
}

impl fmt::Display for TransportChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(transport) => transport.fmt(f),
            Self::Above(transport) => write!(f, "better than {transport}"),
        }
    }
}

/// How the relay is recognised.
#[derive(Debug, Clone)]
pub enum Trust {
    /// By its identity key, which it proves above TLS. Its certificate is not judged.
    Identity(PublicKey),
    /// By its certificate.
    Certificates(Arc<RootCertStore>),
}

/// What is shown to the relay.
#[derive(Debug)]
pub enum Credential {
    /// A one-time token, and the key to make known with it.
    Enrol {
        /// From the token.
        secret: Secret,
        /// The agent's own.
        key: KeyPair,
        /// How often the agent has started.
        start_counter: u64,
    },
    /// A known agent.
    Known {
        /// From the welcome that enrolled it.
        agent_id: AgentId,
        /// The agent's own.
        key: KeyPair,
        /// How often the agent has started.
        start_counter: u64,
    },
    /// An operator.
    Operator {
        /// A bearer token of the API.
        api_token: Zeroizing<String>,
    },
}

/// Where to and how.
#[derive(Debug, Clone)]
pub struct DialOptions {
    /// Tried in this order.
    pub addresses: Vec<RelayAddress>,
    /// Which transports.
    pub transports: TransportChoice,
    /// How the relay is recognised.
    pub trust: Trust,
    /// Program and version.
    pub software: String,
    /// The run of this process.
    pub instance: InstanceId,
    /// How long a session may be without a connection, if the relay agrees; zero: it ends
    /// with its connection.
    pub resume_window: Duration,
    /// The session that shall go on over the connection, where the relay still has it.
    pub resume: Option<Session>,
    /// For how long a connection must have held before the relay is asked for a session.
    pub hold: Duration,
}

/// A session that was welcomed.
#[derive(Debug)]
pub struct Dialled {
    /// The session; its driver runs.
    pub session: Session,
    /// Whether it is the one that was to be resumed.
    pub is_resumed: bool,
    /// What the relay said.
    pub welcome: Welcome,
    /// Which of the addresses it was.
    pub address: RelayAddress,
    /// The other end's socket.
    pub remote: SocketAddr,
    /// What carries it.
    pub transport: Transport,
}

/// Tries every address over every transport asked for; the first welcome wins, and
/// the others are dropped.
///
/// A refusal ends the attempt: the relay has answered, and another transport would
/// get the same answer.
///
/// # Errors
///
/// The failure that says most of all that happened.
pub async fn dial(
    world: &World,
    options: &DialOptions,
    credential: &Credential,
) -> Result<Dialled, DialError> {
    dial_counting(world, options, credential, &DialTally::default()).await
}

/// The same, and counts what becomes of every attempt.
///
/// # Errors
///
/// As [`dial`].
pub async fn dial_counting(
    world: &World,
    options: &DialOptions,
    credential: &Credential,
    tally: &DialTally,
) -> Result<Dialled, DialError> {
    let transports = options.transports.transports();
    let routes: Vec<_> = options
        .addresses
        .iter()
        .flat_map(|address| {
            transports
                .iter()
                .map(move |transport| (address.clone(), *transport))
        })
        .collect();
    let mut worst = None;
    let turn = Turn::after(options.hold);
    let mut attempts: JoinSet<Result<Dialled, DialError>> = JoinSet::new();
    let mut routes = routes.into_iter();
    let mut next_at = Instant::now();
    let (mut last_chance, since) = (None, Instant::now());
    let is_tcp = |transport: &Transport| *transport != Transport::Quic;
    let mut unanswered = transports.iter().filter(|one| is_tcp(one)).count();
    unanswered *= options.addresses.len();
    loop {
        // In a fixed order, so that a simulated run is the same one again; a welcome
        // comes before a further attempt.
        tokio::select! {
            biased;
            Some(attempt) = attempts.join_next(), if !attempts.is_empty() => {
                match &attempt {
                    Ok(Ok(dialled)) => tally.welcomed(dialled.transport),
                    Ok(Err(error)) => tally.failed(error),
                    Err(_) => {}
                }
                match attempt {
                    Ok(Ok(dialled)) => return Ok(dialled),
                    Ok(Err(error)) if error.refusal().is_some() => return Err(error),
                    // Whoever waits behind a failed one need not wait any longer.
                    Ok(Err(error)) => {
                        next_at = Instant::now();
                        if error.is_busy() {
                            // Its other ports are as busy. What is under way may be through.
                            let elsewhere = |(address, _): &(RelayAddress, _)| {
                                !error.is_of(address)
                            };
                            routes = routes.filter(elsewhere).collect::<Vec<_>>().into_iter();
                            if routes.len() == 0 {
                                last_chance = Some(next_at + HEAD_START);
                            }
                        }
                        let is_last = error.is_nobody_listening() && unanswered == 1;
                        unanswered -= usize::from(error.is_nobody_listening());
                        if is_last {
                            // A slow path fails slowly: QUIC gets a multiple of it.
                            let chance = LAST_CHANCE.max(3 * since.elapsed());
                            last_chance = Some(next_at + chance);
                        }
                        worst = Some(DialError::more_telling(worst, error));
                    }
                    Err(error) => tracing::error!(%error, "an attempt to dial failed by itself"),
                }
            }
            () = tokio::time::sleep_until(next_at), if routes.len() > 0 => {
                if let Some(route) = routes.next() {
                    let route = Route::new(world, options, credential, (route, &turn));
                    attempts.spawn(route.attempt());
                    next_at = Instant::now() + HEAD_START;
                }
            }
            () = tokio::time::sleep_until(last_chance.unwrap_or(next_at)),
                if last_chance.is_some() && !attempts.is_empty() => break,
            else => break,
        }
    }
    Err(worst.unwrap_or_else(DialError::nowhere))
}

/// Dials a bulk lane for a session, the way that the session was dialled. It joins the
/// session and runs until either ends it. False: the session takes no further one.
///
/// # Errors
///
/// Why the relay could not be reached, or refused.
pub fn dial_bulk(
    world: &World,
    options: &DialOptions,
    credential: &Credential,
    dialled: &Dialled,
) -> impl Future<Output = Result<bool, DialError>> + Send + use<> {
    let turn = Turn::after(Duration::ZERO);
    let way = (dialled.address.clone(), dialled.transport);
    let mut route = Route::new(world, options, credential, (way, &turn));
    route.hello.bulk_lane_of = Some(dialled.session.id());
    route.hello.resume_of = None;
    let (session, remote) = (dialled.session.clone(), dialled.remote);
    route.within_time(async move |mut route: Route| {
        let connection = route.connect(remote).await?;
        let (connection, _) = route.introduce(connection).await?;
        let driver = connection.join(&session);
        let is_joined = driver.is_some();
        // Owned by the session, as the driver of its own connection is.
        driver.map(tokio::spawn);
        Ok(is_joined)
    })
}

/// One address over one transport.
struct Route {
    world: World,
    address: RelayAddress,
    transport: Transport,
    trust: Trust,
    hello: Hello,
    key: Option<KeyPair>,
    seen: SeenCertificate,
    resume: Option<Session>,
    /// Whose hello the relay hears; shared by all routes of one dial.
    turn: Turn,
}

impl Route {
    fn new(
        world: &World,
        options: &DialOptions,
        credential: &Credential,
        ((address, transport), turn): ((RelayAddress, Transport), &Turn),
    ) -> Self {
        let (shown, key) = credential.shown();
        let hello = Hello {
            instance: options.instance,
            software: options.software.clone(),
            credential: shown,
            heartbeat_idle: transport.heartbeat_idle(),
            bulk_lane_of: None,
            resume_of: options.resume.as_ref().map(Session::id),
            resume_window: options.resume_window,
        };
        Self {
            world: world.clone(),
            address,
            transport,
            trust: options.trust.clone(),
            hello,
            key,
            seen: SeenCertificate::default(),
            resume: options.resume.clone(),
            turn: turn.clone(),
        }
    }

    async fn attempt(self) -> Result<Dialled, DialError> {
        self.within_time(Self::run).await
    }

    /// Does what the route is for in the time that a handshake has, and says of a failure
    /// where it was.
    async fn within_time<T, F>(self, work: impl FnOnce(Self) -> F) -> Result<T, DialError>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        let (address, transport, seen) = (self.address.clone(), self.transport, self.seen.clone());
        let result = match tokio::time::timeout(HANDSHAKE_TIMEOUT, work(self)).await {
            Ok(result) => result,
            Err(_) => Err(Cause::TimedOut),
        };
        result.map_err(|cause| DialError::new(address, transport, cause, seen.issuer()))
    }

    /// The session's handshake, up to the welcome.
    async fn introduce(
        &mut self,
        mut connection: Connection,
    ) -> Result<(Connection, Welcome), Cause> {
        let relay = match &self.trust {
            Trust::Identity(key) => Some(*key),
            Trust::Certificates(_) => None,
        };
        let hello = self.hello.clone();
        let answer = connection
            .introduce(relay, hello, self.key.take().as_ref(), &self.turn)
            .await?;
        match answer {
            Answer::Welcome(welcome) => Ok((connection, welcome)),
            Answer::Refusal(refusal) => Err(Cause::Refused(refusal)),
        }
    }

    async fn run(mut self) -> Result<Dialled, Cause> {
        let remotes = self.remotes().await?;
        let (connection, remote) = self.connect_any(&remotes).await?;
        let (connection, welcome) = self.introduce(connection).await?;
        let kept = self.resume.take();
        let kept = kept.filter(|session| session.id() == welcome.session_id);
        let is_resumed = kept.is_some();
        let (session, driver) = match kept {
            Some(session) => {
                let driver = connection.resume(&session, &welcome);
                (session, driver.ok_or(Cause::SessionOver)?)
            }
            None => connection.begin(&self.world, &welcome, Side::Dialler, Arc::new(())),
        };
        // Owned by the session: it ends when the last handle is dropped.
        drop(tokio::spawn(driver));
        let Self {
            address, transport, ..
        } = self;
        Ok(Dialled {
            session,
            is_resumed,
            welcome,
            address,
            remote,
            transport,
        })
    }

    async fn remotes(&self) -> Result<Vec<SocketAddr>, Cause> {
        let port = match self.transport {
            Transport::Quic | Transport::Ws => self.address.tunnel_port,
            Transport::Ws443 => self.address.https_port,
        };
        let resolved = self.world.resolver.resolve(&self.address.host).await;
        let addresses = resolved.map_err(Cause::Resolve)?;
        if addresses.is_empty() {
            return Err(Cause::Resolve(io::ErrorKind::NotFound.into()));
        }
        Ok(addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, port))
            .collect())
    }

    /// Tries the host's addresses, the next one while those before have no answer yet
    /// (RFC 8305, section 5): IPv6 that leads nowhere costs a pause, and not the attempt.
    async fn connect_any(&self, remotes: &[SocketAddr]) -> Result<(Connection, SocketAddr), Cause> {
        let mut waiting = remotes.iter();
        let mut trying = FuturesUnordered::new();
        let mut last = Cause::TimedOut;
        loop {
            match waiting.next() {
                Some(remote) => {
                    trying.push(async move { (self.connect(*remote).await, *remote) });
                }
                None if trying.is_empty() => return Err(last),
                None => {}
            }
            let pause = tokio::time::sleep(ADDRESS_PAUSE);
            tokio::select! {
                biased;
                Some((connected, remote)) = trying.next() => match connected {
                    Ok(connection) => return Ok((connection, remote)),
                    Err(cause) => last = cause,
                },
                () = pause, if !waiting.as_slice().is_empty() => {}
            }
        }
    }

    async fn connect(&self, remote: SocketAddr) -> Result<Connection, Cause> {
        match self.transport {
            Transport::Quic => {
                let socket = self.world.net.connect_udp(remote).map_err(Cause::Connect)?;
                let tls = self.tls(tls::ALPN_QUIC);
                let connection =
                    quic::connect(socket, remote, &self.address.host, tls, &self.world)
                        .await
                        .map_err(Cause::Connect)?;
                Connection::over_dialled_quic(connection)
                    .await
                    .map_err(Cause::Connect)
            }
            Transport::Ws | Transport::Ws443 => self.connect_websocket(remote).await,
        }
    }

    async fn connect_websocket(&self, remote: SocketAddr) -> Result<Connection, Cause> {
        let tcp = self
            .world
            .net
            .connect_tcp(remote)
            .await
            .map_err(Cause::Connect)?;
        let name = ServerName::try_from(self.address.host.clone())
            .map_err(|error| Cause::Connect(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let tcp: BoxIo = match self.transport {
            Transport::Ws => Box::new(Listening::over(tcp)),
            Transport::Quic | Transport::Ws443 => tcp,
        };
        let connector = TlsConnector::from(Arc::new(self.tls(tls::ALPN_HTTP)));
        let tls = connector.connect(name, tcp).await.map_err(Cause::of_tls)?;
        let exporter = tls
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
            .map_err(|error| Cause::Tls(io::Error::other(error)))?;
        let websocket =
            websocket::connect(tls, &self.authority(remote.port()), self.world.random()).await?;
        Ok(Connection::over_websocket(
            websocket,
            exporter,
            self.transport,
        ))
    }

    fn tls(&self, alpn: &[u8]) -> rustls::ClientConfig {
        let clock = &self.world.clock;
        match &self.trust {
            Trust::Identity(_) => tls::identity_client(alpn, &self.seen, clock),
            Trust::Certificates(roots) => tls::certificate_client(alpn, roots, clock),
        }
    }

    /// The relay as an HTTP authority.
    fn authority(&self, port: u16) -> String {
        let host = &self.address.host;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        if port == 443 {
            host
        } else {
            format!("{host}:{port}")
        }
    }
}

impl Credential {
    /// What goes into the hello, and the key that signs it.
    fn shown(&self) -> (wire::handshake::Credential, Option<KeyPair>) {
        match self {
            Self::Enrol {
                secret,
                key,
                start_counter,
            } => (
                wire::handshake::Credential::Enrol {
                    secret: secret.clone(),
                    public_key: key.public(),
                    start_counter: *start_counter,
                },
                Some(key.clone()),
            ),
            Self::Known {
                agent_id,
                key,
                start_counter,
            } => (
                wire::handshake::Credential::Known {
                    agent_id: *agent_id,
                    start_counter: *start_counter,
                },
                Some(key.clone()),
            ),
            Self::Operator { api_token } => (
                wire::handshake::Credential::Operator {
                    api_token: api_token.clone(),
                },
                None,
            ),
        }
    }
}
