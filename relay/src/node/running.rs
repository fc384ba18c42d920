//! A node that serves: its tasks, with an owner that drains them, waits for them, or cuts
//! them off.

use std::{sync::Arc, time::Duration};

use ::probe::protocol::ALPN;
use rustls::ServerConfig;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};
use tunnel::world::{AsyncUdpSocket, Listen};
use wire::close::CloseCode;

use super::Node;
use crate::{
    control::{Control, Drain},
    http::{self, ApiState},
    limits::EXPOSURE_RETRY,
    listener,
    session::Sessions,
    tls::DoorTls,
};

/// How often a drain looks whether streams are left.
const LOOK: Duration = Duration::from_millis(50);

/// How long a drain waits for operators to go once no stream is open: one that has not heard
/// yet that it is to go may open another, and one of an earlier release stays.
const LEAVE: Duration = Duration::from_secs(2);

/// How long sessions may take to tell their peers that they end, and requests of the
/// API to be answered: two of [`wire::limits::CLOSE_TIMEOUT`].
pub const FAREWELL: Duration = Duration::from_secs(4);

/// Where peers come in.
#[derive(Debug)]
pub struct Doors {
    /// The API, and the tunnel under its path.
    pub https: Box<dyn Listen>,
    /// The tunnel over WebSocket.
    pub tunnel_tcp: Box<dyn Listen>,
    /// The tunnel over QUIC.
    pub tunnel_udp: Arc<dyn AsyncUdpSocket>,
}

/// How a node drains.
#[derive(Debug, Clone, Copy)]
pub struct DrainOptions {
    /// How long streams may take to finish.
    pub timeout: Duration,
    /// Over how long agents spread their return, unless there are so many that they need
    /// longer.
    pub reconnect_window: Duration,
}

/// The tasks of a node that serves. Dropped, it takes nothing new, and cuts off what it
/// serves where that was asked for.
///
/// What QUIC keeps of a connection for three round trips, to answer what is under way, ends by
/// itself: its last word may still leave by the socket that was handed in.
#[derive(Debug)]
pub struct Running {
    node: Node,
    /// Listeners: none may end before it is told to.
    parts: JoinSet<&'static str>,
    /// What runs beside them until nothing new is taken.
    upkeep: JoinSet<()>,
    /// Requests of the API that write.
    requests: TaskTracker,
    /// Cancelled: nothing new is taken.
    accepting: CancellationToken,
}

impl Node {
    /// Serves at every door.
    pub fn serve(&self, doors: Doors, tls: &DoorTls) -> Running {
        let (accepting, requests) = (CancellationToken::new(), TaskTracker::new());
        let api = ApiState::new(self.control.clone(), self.metrics.clone(), requests.clone())
            .with_probe(self.sessions.probe().cloned());
        let mut parts = JoinSet::new();
        let https = listener::run_https(
            self.sessions.clone(),
            doors.https,
            tls.tcp.clone(),
            http::router(api),
            accepting.clone(),
        );
        parts.spawn(async move {
            https.await;
            "the HTTPS listener"
        });
        let websocket = listener::run_tunnel_tcp(
            self.sessions.clone(),
            doors.tunnel_tcp,
            tls.tcp.clone(),
            accepting.clone(),
        );
        parts.spawn(async move {
            websocket.await;
            "the tunnel's TCP listener"
        });
        let quic = listener::run_tunnel_quic(
            self.sessions.clone(),
            doors.tunnel_udp,
            quic_tls(&self.sessions, tls),
            accepting.clone(),
        );
        parts.spawn(async move {
            if let Err(error) = quic.await {
                error!(%error, "QUIC cannot be served");
            }
            "the tunnel's QUIC listener"
        });
        let mut upkeep = JoinSet::new();
        upkeep.spawn(keep_gate(self.clone(), accepting.clone()));
        upkeep.spawn(begin_stacks(self.clone()));
        upkeep.spawn(self.registry.clone().keep_windows(accepting.clone()));
        upkeep.spawn(keep_exposures(self.control.clone(), accepting.clone()));
        Running {
            node: self.clone(),
            parts,
            upkeep,
            requests,
            accepting,
        }
    }
}

/// TLS of QUIC: the probe is spoken beside the tunnel, where it is served.
fn quic_tls(sessions: &Sessions, tls: &DoorTls) -> Arc<ServerConfig> {
    let mut quic = tls.quic.clone();
    if sessions.probe().is_some() {
        Arc::make_mut(&mut quic).alpn_protocols.push(ALPN.to_vec());
    }
    quic
}

/// Has the gate know who is on the way: at first everybody that the store knows of.
async fn keep_gate(node: Node, stop: CancellationToken) {
    match node.control.count_environments().await {
        Ok(counts) => {
            let enrolled = u32::try_from(counts.enrolled).unwrap_or(u32::MAX);
            node.registry.expect_back(enrolled);
        }
        Err(error) => warn!(%error, "the store does not say how many agents are to come"),
    }
    let registry = Arc::clone(&node.registry);
    let changes = registry.changes();
    let fleet = move || registry.fleet();
    node.gate.clone().keep(fleet, changes, stop).await;
}

/// Has agents asked for their stacks that anything is assigned to.
async fn begin_stacks(node: Node) {
    node.stacks.begin(&node.control).await;
}

/// Opens the stored exposures whose port is not free yet as soon as it is.
async fn keep_exposures(control: Arc<Control>, stop: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EXPOSURE_RETRY) => {}
        }
        if control.waiting_exposures() > 0
            && let Err(error) = control.open_exposures().await
        {
            warn!(%error, "exposures not tried again");
        }
    }
}

impl Running {
    /// The node that serves.
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Waits until a listener ends by itself, which none should; gives its name.
    ///
    /// Cancel safe.
    pub async fn ended(&mut self) -> &'static str {
        match self.parts.join_next().await {
            Some(ended) => ended.unwrap_or("a part that panicked"),
            None => std::future::pending().await,
        }
    }

    /// Takes nothing new, sends everybody away, waits for streams until the deadline,
    /// and ends what is left.
    ///
    /// Whoever is in a hurry lets `hurried` come to its end: at first nobody waits for streams
    /// any longer, the second time not even for farewells.
    ///
    /// Gives how many streams were cut.
    pub async fn drain(mut self, options: DrainOptions, mut hurried: impl AsyncFnMut()) -> usize {
        let registry = Arc::clone(&self.node.registry);
        let sessions: &dyn Drain = &*registry;
        let started = Instant::now();
        let streams_open = self.streams_open();
        info!(streams_open, timeout = ?options.timeout, "relay drains");
        self.accepting.cancel();
        self.node.exposures.stop_accepting();
        // A fleet that is too large for the window as configured needs a longer one.
        let window = options.reconnect_window.max(registry.reconnect_window());
        sessions.goaway_all(window, options.timeout);
        let won = tokio::select! {
            biased;
            () = hurried() => "somebody is in a hurry",
            () = self.everybody_done() => "every stream finished",
            () = tokio::time::sleep(options.timeout) => "the deadline passed",
        };
        let streams_left = self.streams_open();
        sessions.close_all(CloseCode::Shutdown, "the relay stops");
        let farewell = tokio::time::timeout(FAREWELL, self.finish());
        tokio::select! {
            biased;
            () = hurried() => warn!("somebody is in a hurry still: connections are cut"),
            done = farewell => if done.is_err() {
                warn!("some connections did not end in time");
            },
        }
        info!(won, streams_left, took = ?started.elapsed(), "relay stopped");
        streams_left
    }

    /// Streams that somebody waits for. What the relay asks of agents for itself, it asks
    /// again when it is back.
    fn streams_open(&self) -> usize {
        let sessions: &dyn Drain = &*self.node.registry;
        let own = self.node.metrics.own_streams_open();
        sessions.streams_open().saturating_sub(own)
    }

    /// Waits until nobody's stream is open any more, and operators have gone.
    async fn everybody_done(&self) {
        let sessions: &dyn Drain = &*self.node.registry;
        let mut idle_since = None;
        loop {
            if self.streams_open() > 0 {
                idle_since = None;
            } else {
                let since: Instant = *idle_since.get_or_insert_with(Instant::now);
                if sessions.operators() == 0 || since.elapsed() >= LEAVE {
                    return;
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until every task has ended, those that serve peers first.
    async fn finish(&mut self) {
        self.node.exposures.stop_all().await;
        self.node.stacks.stop_all().await;
        self.node.sessions.tasks().finish().await;
        self.requests.close();
        self.requests.wait().await;
        while self.upkeep.join_next().await.is_some() {}
        while self.parts.join_next().await.is_some() {}
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.accepting.cancel();
        self.node.exposures.close_all();
        self.node.sessions.sever();
    }
}
