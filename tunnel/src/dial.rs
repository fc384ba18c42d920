//! One attempt to reach a relay: resolve, connect over the better transport with a
//! head start, shake hands, and keep whichever session is welcomed first.

use std::{fmt, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use rustls::RootCertStore;
use tokio::task::JoinSet;
use wire::{
    handshake::Welcome,
    id::InstanceId,
    key::PublicKey,
    token::RelayAddress,
    transport::{ParseTransportError, Transport},
};

use crate::{handshake::Turn, session::Session, world::World};

mod addresses;
mod credential;
mod error;
mod network;
pub mod proxy;
mod race;
mod route;
mod tally;
mod way;

pub use addresses::KnownAddresses;
pub use credential::Credential;
pub use error::{Cause, DialError};
pub use network::{ANYWHERE, network, own_address};
pub use tally::{DialCounts, DialTally};
pub use way::{Preference, Way};

use proxy::ProxyUse;
use race::Race;
use route::Route;

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
    /// How long an idle session may be silent, at most; the transport's own pause is another
    /// bound.
    pub quiet_max: Duration,
    /// The proxy on the way, where there is one.
    pub proxy: Option<ProxyUse>,
    /// Vouch for a proxy that is spoken to over TLS.
    pub roots: Arc<RootCertStore>,
    /// Vouch for whoever is allowed to intercept TLS: the session's own is then inside. None:
    /// nobody is.
    pub interceptors: Option<Arc<RootCertStore>>,
    /// Where hosts were found by former dials; whoever dials again and again shares it among them.
    pub addresses_known: Arc<KnownAddresses>,
    /// What led to a session the last time that this host was in the network where it is.
    /// None: nothing is known, and a ClientHello that leads to nothing is tried smaller.
    pub prefer: Option<Preference>,
}

impl DialOptions {
    /// Every transport to these addresses, directly, with no memory of earlier dials, for a
    /// session that ends with its connection.
    pub fn new(
        addresses: Vec<RelayAddress>,
        trust: Trust,
        (software, instance): (String, InstanceId),
    ) -> Self {
        Self {
            addresses,
            transports: TransportChoice::Auto,
            trust,
            software,
            instance,
            resume_window: Duration::ZERO,
            resume: None,
            quiet_max: Duration::MAX,
            proxy: None,
            roots: Arc::new(RootCertStore::empty()),
            interceptors: None,
            addresses_known: Arc::default(),
            prefer: None,
        }
    }
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
    /// The way that it came.
    pub way: Way,
    /// The other end's socket: the relay's, or the proxy's.
    pub remote: SocketAddr,
    /// Whether it came about without a post-quantum key share, because a larger first flight
    /// did not arrive.
    pub is_classical: bool,
    /// Who intercepts TLS on the way, and is allowed to: the session's own TLS is inside.
    pub intercepted_by: Option<String>,
}

impl Dialled {
    /// What carries it.
    pub const fn transport(&self) -> Transport {
        self.way.transport
    }

    /// What the next dial in the same network is to begin with.
    pub const fn preference(&self) -> Preference {
        Preference {
            transport: self.way.transport,
            is_proxied: self.way.proxy.is_some(),
            is_classical: self.is_classical,
        }
    }
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
    let turn = Turn::after(Duration::ZERO);
    dial_counting(world, options, credential, (&DialTally::default(), &turn)).await
}

/// The same, and counts what becomes of every attempt. Dials that go on side by side on behalf
/// of one agent share a turn, so that one of them at a time asks for a session.
///
/// # Errors
///
/// As [`dial`].
pub async fn dial_counting(
    world: &World,
    options: &DialOptions,
    credential: &Credential,
    (tally, turn): (&DialTally, &Turn),
) -> Result<Dialled, DialError> {
    let mut race = Race::among(way::ways(options));
    let mut attempts: JoinSet<Result<Dialled, DialError>> = JoinSet::new();
    loop {
        let (next_at, last_chance) = (race.next_at(), race.last_chance());
        if next_at.is_none() && attempts.is_empty() {
            return Err(race.lost());
        }
        // In a fixed order, so that a simulated run is the same one again; a welcome
        // comes before a further attempt. Whoever is left behind is dropped, which closes
        // its connection.
        tokio::select! {
            biased;
            Some(attempt) = attempts.join_next(), if !attempts.is_empty() => match attempt {
                Ok(Ok(dialled)) => {
                    tally.welcomed(&dialled.way);
                    return Ok(dialled);
                }
                Ok(Err(error)) => {
                    tally.failed(&error);
                    if error.refusal().is_some() {
                        return Err(error);
                    }
                    race.failed(error);
                }
                Err(error) => tracing::error!(%error, "an attempt to dial failed by itself"),
            },
            () = race::until(next_at), if next_at.is_some() => {
                if let Some(way) = race.next() {
                    let route = Route::new(world, options, credential, (way, turn));
                    attempts.spawn(route.attempt());
                }
            }
            () = race::until(last_chance), if last_chance.is_some() => {
                if !turn.is_taken() {
                    return Err(race.lost());
                }
                race.wait_longer();
            }
        }
    }
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
    let way = (dialled.way.clone(), &turn);
    let mut route = Route::new(world, options, credential, way).again(dialled);
    route.hello.bulk_lane_of = Some(dialled.session.id());
    route.hello.resume_of = None;
    let (session, remote) = (dialled.session.clone(), dialled.remote);
    route.within_time(async move |route: Route| {
        let driver = route.join(remote).await?.join(&session);
        let is_joined = driver.is_some();
        // Owned by the session, as the driver of its own connection is.
        driver.map(tokio::spawn);
        Ok(is_joined)
    })
}
