//! Everything that is tried, over real sockets, as an ordinary user: what came of it, and nothing
//! of what it means.
//!
//! First all of production at once. What fails is tried again, beside tests that change one
//! thing; what works is asked for what the relay saw. Every wait has its bound.

mod attempt;
mod channel;
mod destination;
mod follow;
mod http;
mod ladder;
mod message;
mod name;
mod own;
mod place;
mod proof;
mod quic;
mod registry;
mod report;
mod tcp;
mod tls;
mod udp;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;
use tunnel::{World, dial::proxy::ProxyUse, tls::RootCertStore};
use wire::key::PublicKey;

use crate::{
    observe::{Attempt, Flow, Micros, Observations, Target, UdpTest, Variation},
    protocol::QUIC_SILENCE_MAX,
};
use attempt::{Goal, What};

pub use destination::{Asked, Came, destination};
pub use report::{NotLeft, leave};

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// What an admin waits for at a terminal: within 3 s where all is well.
    Quick,
    /// The idle ladder, and sizes.
    Usual,
    /// Bytes in time as well, and many connections at once.
    Full,
}

/// What a run is to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Who is asked.
    pub target: Target,
    /// The relay's key.
    pub pin: Option<PublicKey>,
    /// Its addresses, where they are not to be looked up.
    pub addresses: Option<Vec<IpAddr>>,
    /// On the way, for TCP.
    pub proxy: Option<ProxyUse>,
    /// Vouch for a proxy over TLS, and are shown certificates to.
    pub roots: Arc<RootCertStore>,
    /// Vouch for whoever an agent here is told may intercept TLS; `None`: nobody may.
    pub interceptors: Option<Arc<RootCertStore>>,
    /// How much.
    pub depth: Depth,
    /// Silences of the idle ladder.
    pub rungs: Vec<Duration>,
    /// `HOST` or `HOST:PORT` that images come from.
    pub registry: Option<String>,
}

/// Told what is being done, for a terminal.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// What all parts of a run share.
#[derive(Debug)]
pub(crate) struct Run {
    target: Target,
    pin: Option<PublicKey>,
    roots: Arc<RootCertStore>,
    judges: tls::Judges,
    world: World,
    started: Instant,
}

impl Run {
    fn of(plan: &Plan) -> Self {
        Self {
            target: plan.target.clone(),
            pin: plan.pin,
            roots: Arc::clone(&plan.roots),
            judges: tls::Judges::of(&plan.roots, plan.interceptors.as_ref()),
            world: World::real(),
            started: Instant::now(),
        }
    }

    /// For what asks no relay.
    fn bare() -> Self {
        Self {
            target: Target::default(),
            pin: None,
            roots: Arc::new(RootCertStore::empty()),
            judges: tls::Judges::default(),
            world: World::real(),
            started: Instant::now(),
        }
    }

    /// From the start, in microseconds.
    fn now(&self) -> Micros {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// Tries everything.
pub async fn run(plan: &Plan, progress: &Progress) -> Observations {
    tunnel::install_crypto_provider();
    // The first random bytes of a process take long, and are nobody's round trip.
    let _warm = tunnel::random_bytes::<1>();
    let run = Run::of(plan);
    let resends = own::resends_refused();
    let mut seen = begin(plan, run.world.clock.unix_milliseconds());
    progress("looking up the relay's name");
    names(&run, plan, &mut seen).await;
    progress("trying all ways to the relay");
    let (attempts, udp) = production(&run, plan, &seen.addresses).await;
    (seen.attempts, seen.udp) = (attempts, udp);
    follow::up(&run, plan, &mut seen, progress).await;
    let after = own::resends_refused().unwrap_or_default();
    seen.own.resends_refused = after.saturating_sub(resends.unwrap_or(after));
    follow::witness(&run, plan, &mut seen).await;
    deeper(&run, plan, &mut seen, progress).await;
    if let Some(registry) = &plan.registry {
        progress("asking the registry");
        seen.registry = registry::all(&run, registry).await;
    }
    seen.took = run.now();
    seen
}

fn begin(plan: &Plan, started_ms: i64) -> Observations {
    let proxy = plan.proxy.as_ref();
    let target = &plan.target;
    let proxy = proxy.and_then(|proxy| proxy.towards(&target.host, target.https_port));
    Observations {
        started_ms,
        target: target.clone(),
        proxy: proxy.map(ToString::to_string),
        is_pinned_address: plan.addresses.is_some(),
        ..Observations::default()
    }
}

async fn names(run: &Run, plan: &Plan, seen: &mut Observations) {
    let host = &plan.target.host;
    if let Some(addresses) = &plan.addresses {
        seen.addresses.clone_from(addresses);
        return;
    }
    if let Ok(address) = host.parse() {
        seen.addresses = vec![address];
        return;
    }
    seen.look_ups = name::look_up(run, host).await;
    seen.addresses = name::addresses(&seen.look_ups);
    seen.is_nat64 = name::is_nat64(run, &seen.addresses).await;
}

/// The proxy towards a flow's port.
fn proxy_of(plan: &Plan, flow: Flow) -> Option<&tunnel::dial::proxy::Proxy> {
    let target = &plan.target;
    let proxy = plan.proxy.as_ref().filter(|_| flow != Flow::Quic)?;
    proxy.towards(&target.host, target.port(flow))
}

/// What production does on a flow, over every way.
fn whats(plan: &Plan, addresses: &[IpAddr], flow: Flow, goal: Goal) -> Vec<What> {
    let port = plan.target.port(flow);
    let what = |to, proxy| What {
        flow,
        round: 1,
        variation: Variation::Production,
        to,
        proxy,
        goal,
        is_hurried: false,
    };
    let proxied = proxy_of(plan, flow).map(|proxy| what(None, Some(proxy.clone())));
    let direct = addresses.iter();
    let direct = direct.map(|address| what(Some(SocketAddr::new(*address, port)), None));
    proxied.into_iter().chain(direct).collect()
}

async fn production(run: &Run, plan: &Plan, addresses: &[IpAddr]) -> (Vec<Attempt>, Vec<UdpTest>) {
    let mut all = Vec::new();
    for flow in Flow::ALL {
        all.extend(whats(plan, addresses, flow, Goal::Tunnel));
    }
    all.extend(whats(plan, addresses, Flow::Https, Goal::Echo));
    let trying: FuturesUnordered<_> = all.iter().map(|what| one(run, what)).collect();
    let port = plan.target.tunnel_port;
    let asking: FuturesUnordered<_> = addresses
        .iter()
        .map(|address| udp::ask(run, SocketAddr::new(*address, port)))
        .collect();
    let (mut attempts, udp) = tokio::join!(trying.collect::<Vec<_>>(), asking.collect::<Vec<_>>());
    sort(&mut attempts);
    (attempts, udp)
}

/// As they began: the same network gives the same report.
fn sort(attempts: &mut [Attempt]) {
    attempts.sort_by_key(|attempt| {
        let start = attempt.stages.first().map(|stage| stage.start);
        (attempt.flow, attempt.round, start)
    });
}

/// One attempt of whichever kind.
async fn one(run: &Run, what: &What) -> Attempt {
    match what.flow {
        Flow::Quic => Box::pin(quic::attempt(run, what)).await,
        Flow::Https | Flow::Websocket => Box::pin(attempt::attempt(run, what)).await,
    }
}

/// What only works over connections that work.
async fn deeper(run: &Run, plan: &Plan, seen: &mut Observations, progress: &Progress) {
    if plan.depth == Depth::Quick && plan.rungs.is_empty() {
        return;
    }
    let channels: Vec<What> = [Flow::Websocket, Flow::Quic]
        .into_iter()
        .filter_map(|flow| follow::working(seen, plan, flow))
        .collect();
    if let Some(longest) = plan.rungs.iter().max().filter(|_| !channels.is_empty()) {
        progress(&format!(
            "waiting in silence for up to {} s",
            longest.as_secs()
        ));
    }
    let rungs = |flow| {
        let is_borne = |rung: &Duration| flow != Flow::Quic || *rung <= QUIC_SILENCE_MAX;
        let rungs = plan.rungs.iter().copied().filter(is_borne);
        rungs.collect::<Vec<_>>()
    };
    let idle = channels.iter().map(|what| async {
        let rungs = rungs(what.flow);
        ladder::idle(run, what, &rungs).await
    });
    let idle = futures_util::future::join_all(idle);
    let rest = async {
        let (mut sizes, mut rates, mut parallel) = (Vec::new(), Vec::new(), None);
        if plan.depth >= Depth::Usual {
            for what in &channels {
                sizes.extend(ladder::sizes(run, what).await);
            }
        }
        if plan.depth == Depth::Full {
            rates = ladder::rates(run, &channels).await;
            let tcp = channels.iter().find(|what| what.flow == Flow::Websocket);
            if let Some(to) = tcp.and_then(|what| what.to) {
                parallel = Some(ladder::parallel(to).await);
            }
        }
        (sizes, rates, parallel)
    };
    let (idle, (sizes, rates, parallel)) = tokio::join!(idle, rest);
    seen.idle = idle.into_iter().flatten().collect();
    (seen.sizes, seen.rates, seen.parallel) = (sizes, rates, parallel);
}
