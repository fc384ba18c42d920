//! One way to a relay, tried from the name to the welcome.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio_rustls::TlsConnector;
use wire::{
    handshake::{Answer, EXPORTER_LABEL, Hello, Welcome},
    id::Side,
    limits::HANDSHAKE_TIMEOUT,
    transport::Transport,
};

use super::{
    Cause, Credential, DialError, DialOptions, Dialled, KnownAddresses, Trust, error::intercepted,
    way::Way,
};
use crate::{
    busy::Listening,
    crypto::KeyPair,
    handshake::{Connection, Turn},
    quic,
    session::Session,
    tls::{self, KeyShares, SeenCertificate},
    websocket::{self, Purpose},
    world::{BoxIo, World},
};

/// How long an address of a host may take to answer before the next one has its turn beside it
/// (RFC 8305, section 8).
const ADDRESS_PAUSE: Duration = Duration::from_millis(250);

/// How long a connection that is open may be silent after its ClientHello before a smaller
/// one is tried beside it: some boxes on the way swallow one that does not fit a packet, as
/// with a post-quantum key share. Above what a slow path needs for a handshake.
const STALL: Duration = Duration::from_millis(1500);

/// How long the other end of a TCP connection may say nothing at all before another one is tried
/// beside it. The kernel repeats itself ever more rarely, and a tunnel that has swallowed packets
/// for a while tells nobody when it no longer does. A relay that has much to do is not asked
/// twice: its kernel answers at once.
const SILENCE: Duration = Duration::from_secs(3);

/// One way, with all that it takes.
pub(super) struct Route {
    world: World,
    way: Way,
    trust: Trust,
    /// Vouch for a proxy that is spoken to over TLS.
    roots: Arc<RootCertStore>,
    /// Whose interception of TLS is allowed.
    interceptors: Option<Arc<RootCertStore>>,
    pub(super) hello: Hello,
    key: Option<KeyPair>,
    seen: SeenCertificate,
    /// Whether the session's TLS is to be inside another one.
    is_inside: bool,
    shares: KeyShares,
    /// Whether nothing is known here of what the network lets pass: then a ClientHello that
    /// leads to nothing is tried smaller. Not otherwise, because a relay that has much to do
    /// is silent, too, and would have twice as much.
    is_unknown: bool,
    resume: Option<Session>,
    addresses_known: Arc<KnownAddresses>,
    /// Whose hello the relay hears; shared by all routes of one dial.
    turn: Turn,
}

/// A transport that is up.
struct Reached {
    connection: Connection,
    shares: KeyShares,
    remote: SocketAddr,
}

impl Route {
    pub(super) fn new(
        world: &World,
        options: &DialOptions,
        credential: &Credential,
        (way, turn): (Way, &Turn),
    ) -> Self {
        let (shown, key) = credential.shown();
        let hello = Hello {
            instance: options.instance,
            software: options.software.clone(),
            credential: shown,
            heartbeat_idle: way.transport.heartbeat_idle().min(options.quiet_max),
            bulk_lane_of: None,
            resume_of: options.resume.as_ref().map(Session::id),
            resume_window: options.resume_window,
        };
        let is_classical = options
            .prefer
            .as_ref()
            .is_some_and(|last| last.is_classical);
        Self {
            world: world.clone(),
            way,
            trust: options.trust.clone(),
            roots: Arc::clone(&options.roots),
            interceptors: options.interceptors.clone(),
            hello,
            key,
            seen: SeenCertificate::default(),
            is_inside: false,
            shares: KeyShares::of(is_classical),
            is_unknown: options.prefer.is_none(),
            resume: options.resume.clone(),
            addresses_known: Arc::clone(&options.addresses_known),
            turn: turn.clone(),
        }
    }

    /// A route as the session was dialled, for one more connection of it.
    pub(super) fn again(mut self, dialled: &Dialled) -> Self {
        self.shares = KeyShares::of(dialled.is_classical);
        self.is_unknown = false;
        self.is_inside = dialled.intercepted_by.is_some();
        self
    }

    pub(super) async fn attempt(self) -> Result<Dialled, DialError> {
        Box::pin(self.within_time(Self::run)).await
    }

    /// Does what the route is for in the time that a handshake has, and says of a failure
    /// where it was.
    pub(super) async fn within_time<T, F>(
        self,
        work: impl FnOnce(Self) -> F,
    ) -> Result<T, DialError>
    where
        F: Future<Output = Result<T, Cause>>,
    {
        let (way, seen) = (self.way.clone(), self.seen.clone());
        let result = match tokio::time::timeout(HANDSHAKE_TIMEOUT, work(self)).await {
            Ok(result) => result,
            Err(_) => Err(Cause::TimedOut),
        };
        result.map_err(|cause| DialError::new(way, cause, seen.issuer()))
    }

    /// The session's handshake, up to the welcome.
    async fn introduce(&self, mut connection: Connection) -> Result<(Connection, Welcome), Cause> {
        let relay = match &self.trust {
            Trust::Identity(key) => Some(*key),
            Trust::Certificates(_) => None,
        };
        let hello = self.hello.clone();
        let answer = connection
            .introduce(relay, hello, self.key.as_ref(), &self.turn)
            .await?;
        match answer {
            Answer::Welcome(welcome) => Ok((connection, welcome)),
            Answer::Refusal(refusal) => Err(Cause::Refused(refusal)),
        }
    }

    async fn run(mut self) -> Result<Dialled, Cause> {
        let remotes = self.remotes().await?;
        let reached = self.connect_any(&remotes).await?;
        let (mut shares, remote) = (reached.shares, reached.remote);
        let introduced = match self.introduce(reached.connection).await {
            Err(cause) if intercepted(&cause) && self.may_go_inside() => {
                // Nothing has been said yet to whoever is between.
                self.is_inside = true;
                let reached = self.connect(remote).await?;
                shares = reached.shares;
                self.introduce(reached.connection).await
            }
            introduced => introduced,
        };
        let (connection, mut welcome) = introduced?;
        if self.way.proxy.is_none() {
            let addresses = remotes.iter().map(SocketAddr::ip).collect();
            self.addresses_known.note(&self.way.address.host, addresses);
        }
        // Whatever a relay says: streams are not kept for longer than this end wants.
        welcome.resume_window = welcome.resume_window.min(self.hello.resume_window);
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
        Ok(Dialled {
            session,
            is_resumed,
            welcome,
            remote,
            is_classical: shares == KeyShares::Classical,
            intercepted_by: self
                .is_inside
                .then(|| self.seen.issuer().unwrap_or_else(|| "unknown".into())),
            way: self.way,
        })
    }

    /// One more connection of a session, up to the welcome.
    pub(super) async fn join(self, remote: SocketAddr) -> Result<Connection, Cause> {
        let reached = self.connect(remote).await?;
        let (connection, _) = self.introduce(reached.connection).await?;
        Ok(connection)
    }

    /// Whether the customer lets the session go through whoever intercepts TLS.
    const fn may_go_inside(&self) -> bool {
        self.interceptors.is_some() && !self.is_inside
    }

    /// Where to connect to: the relay, or the proxy on the way.
    async fn remotes(&self) -> Result<Vec<SocketAddr>, Cause> {
        if let Some(proxy) = &self.way.proxy {
            return Ok(proxy.remotes(&self.world).await?);
        }
        let host = &self.way.address.host;
        let resolved = self.addresses_known.resolve(&self.world, host).await;
        let addresses = resolved.map_err(Cause::Resolve)?;
        if addresses.is_empty() {
            return Err(Cause::Resolve(io::ErrorKind::NotFound.into()));
        }
        Ok(addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, self.way.port()))
            .collect())
    }

    /// Tries the host's addresses, the next one while those before have no answer yet
    /// (RFC 8305, section 5): IPv6 that leads nowhere costs a pause, and not the attempt.
    async fn connect_any(&self, remotes: &[SocketAddr]) -> Result<Reached, Cause> {
        let mut waiting = remotes.iter();
        let mut trying = FuturesUnordered::new();
        let mut last = Cause::TimedOut;
        loop {
            match waiting.next() {
                Some(remote) => trying.push(self.connect(*remote)),
                None if trying.is_empty() => return Err(last),
                None => {}
            }
            let pause = tokio::time::sleep(ADDRESS_PAUSE);
            tokio::select! {
                biased;
                Some(connected) = trying.next() => match connected {
                    Ok(reached) => return Ok(reached),
                    Err(cause) => last = cause,
                },
                () = pause, if !waiting.as_slice().is_empty() => {}
            }
        }
    }

    async fn connect(&self, remote: SocketAddr) -> Result<Reached, Cause> {
        match self.way.transport {
            Transport::Quic => {
                let connection = self.connect_quic(remote).await.map_err(Cause::Connect)?;
                Ok(Reached {
                    connection,
                    shares: self.shares,
                    remote,
                })
            }
            Transport::Ws | Transport::Ws443 => Box::pin(self.connect_websocket(remote)).await,
        }
    }

    async fn connect_quic(&self, remote: SocketAddr) -> io::Result<Connection> {
        let socket = self.world.net.connect_udp(remote)?;
        let tls = self.tls(tls::ALPN_QUIC, self.shares);
        let host = &self.way.address.host;
        let connection = quic::connect(socket, remote, host, tls, &self.world).await?;
        Connection::over_dialled_quic(connection).await
    }

    /// A WebSocket, with a smaller ClientHello beside the first one where that leads to
    /// nothing.
    async fn connect_websocket(&self, remote: SocketAddr) -> Result<Reached, Cause> {
        let reached = |connection, shares| Reached {
            connection,
            shares,
            remote,
        };
        let tcp = self.connect_tcp(remote).await?;
        let first = self.upgrade(tcp, self.shares);
        if self.shares == KeyShares::Classical || !self.is_unknown {
            return Ok(reached(first.await?, self.shares));
        }
        tokio::pin!(first);
        if let Ok(done) = tokio::time::timeout(STALL, &mut first).await {
            return Ok(reached(done?, self.shares));
        }
        let second = async {
            let tcp = self.connect_tcp(remote).await?;
            self.upgrade(tcp, KeyShares::Classical).await
        };
        tokio::pin!(second);
        // Whichever comes up; a failure of one leaves the other its time.
        tokio::select! {
            biased;
            done = &mut first => match done {
                Ok(connection) => Ok(reached(connection, self.shares)),
                Err(_) => Ok(reached(second.await?, KeyShares::Classical)),
            },
            done = &mut second => match done {
                Ok(connection) => Ok(reached(connection, KeyShares::Classical)),
                Err(_) => Ok(reached(first.await?, self.shares)),
            },
        }
    }

    /// A connection to the relay's port, through the proxy where one is on the way.
    async fn connect_tcp(&self, remote: SocketAddr) -> Result<BoxIo, Cause> {
        let connected = self.connect_persistently(remote).await;
        let Some(proxy) = &self.way.proxy else {
            return connected.map_err(Cause::Connect);
        };
        let tcp = connected.map_err(super::proxy::ProxyError::Connect)?;
        let to = (self.way.address.host.as_str(), self.way.port());
        Ok(proxy.lead((tcp, &self.world), to, &self.roots).await?)
    }

    /// A TCP connection; another one beside those from which nothing is heard. The failure is
    /// that of the first that has one.
    async fn connect_persistently(&self, remote: SocketAddr) -> io::Result<BoxIo> {
        let mut trying = FuturesUnordered::new();
        loop {
            trying.push(self.world.net.connect_tcp(remote));
            let connected = tokio::time::timeout(SILENCE, trying.next()).await;
            if let Ok(Some(connected)) = connected {
                return connected;
            }
        }
    }

    /// TLS and a WebSocket over a connection, and inside them the session's own where
    /// somebody is between.
    async fn upgrade(&self, tcp: BoxIo, shares: KeyShares) -> Result<Connection, Cause> {
        let mut io: BoxIo = match self.way.transport {
            Transport::Ws => Box::new(Listening::over(tcp)),
            Transport::Quic | Transport::Ws443 => tcp,
        };
        if let (true, Some(interceptors)) = (self.is_inside, &self.interceptors) {
            let clock = &self.world.clock;
            let outer = tls::certificate_client(tls::ALPN_HTTP, interceptors, clock);
            let tls = self
                .begin_tls(io, outer)
                .await
                .map_err(|cause| match cause {
                    Cause::Tls(error) => Cause::Interceptor(error),
                    cause => cause,
                })?;
            let (authority, key) = (self.way.authority(), self.world.random());
            let carrier = websocket::connect(tls, (&authority, Purpose::Carrier), key).await?;
            io = carrier.into_io();
        }
        let tls = self.begin_tls(io, self.tls(tls::ALPN_HTTP, shares)).await?;
        let exporter = tls
            .get_ref()
            .1
            .export_keying_material([0; 32], EXPORTER_LABEL, Some(b""))
            .map_err(|error| Cause::Tls(io::Error::other(error)))?;
        let (authority, key) = (self.way.authority(), self.world.random());
        let websocket = websocket::connect(tls, (&authority, Purpose::Session), key).await?;
        Ok(Connection::over_websocket(
            websocket,
            exporter,
            self.way.transport,
        ))
    }

    async fn begin_tls(
        &self,
        io: BoxIo,
        config: ClientConfig,
    ) -> Result<tokio_rustls::client::TlsStream<BoxIo>, Cause> {
        let name = ServerName::try_from(self.way.address.host.clone())
            .map_err(|error| Cause::Connect(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, io).await.map_err(Cause::of_tls)
    }

    fn tls(&self, alpn: &[u8], shares: KeyShares) -> ClientConfig {
        let clock = &self.world.clock;
        match &self.trust {
            Trust::Identity(_) => {
                // What is inside another TLS is the relay's own certificate, and names nobody.
                let seen = match self.is_inside {
                    true => SeenCertificate::default(),
                    false => self.seen.clone(),
                };
                tls::identity_client_with((alpn, shares), &seen, clock)
            }
            Trust::Certificates(roots) => {
                tls::certificate_client_with((alpn, shares), roots, clock)
            }
        }
    }
}
