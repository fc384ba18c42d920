//! One try over TCP, from the first packet to what it was for.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use rustls::pki_types::ServerName;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tunnel::{
    dial::proxy::{Proxy, ProxyError},
    tls::{ALPN_HTTP, KeyShares},
    websocket::{SUBPROTOCOL, TUNNEL_PATH},
    world::BoxIo,
};
use wire::handshake::EXPORTER_LABEL;

use super::{
    Run,
    http::{self, Http},
    message::{Frames, Incoming},
    proof, tcp, tls,
};
use crate::{
    observe::{Attempt, Fault, FaultKind, Flow, Stage, StageSeen, Variation},
    protocol::{self, ECHO_PATH, WITNESS_PATH, Witness},
};

/// How long a connection may take: first packets are sent after 0, 1 and 3 s.
pub(super) const TCP_WITHIN: Duration = Duration::from_millis(3_500);
/// The same of a repetition where all is silent: first packets are sent after 0 and 1 s.
pub(super) const HURRIED_WITHIN: Duration = Duration::from_millis(2_000);
/// How long each stage above may take.
pub(super) const STAGE_WITHIN: Duration = Duration::from_millis(4_000);
/// A name that nobody filters, for a ClientHello that differs in nothing else.
const NEUTRAL_NAME: &str = "example.com";
/// An application protocol that every web server knows.
const NEUTRAL_ALPN: &[u8] = b"h2";

/// What is tried.
#[derive(Debug, Clone)]
pub(super) struct What {
    pub(super) flow: Flow,
    pub(super) round: u8,
    pub(super) variation: Variation,
    /// Of the relay; `None`: the proxy resolves its name.
    pub(super) to: Option<SocketAddr>,
    pub(super) proxy: Option<Proxy>,
    pub(super) goal: Goal,
    /// Nothing has come back from anywhere so far: it is asked again, and not waited for as long.
    pub(super) is_hurried: bool,
}

impl What {
    /// How long a connection may take.
    const fn tcp_within(&self) -> Duration {
        match self.is_hurried {
            true => HURRIED_WITHIN,
            false => TCP_WITHIN,
        }
    }
}

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// The tunnel's WebSocket, up to the relay's proof.
    Tunnel,
    /// What the relay sees of this host.
    Echo,
    /// TLS alone.
    Tls,
}

/// An attempt under way.
#[derive(Debug)]
pub(super) struct Trying<'a> {
    pub(super) run: &'a Run,
    pub(super) seen: Attempt,
}

impl<'a> Trying<'a> {
    pub(super) fn new(run: &'a Run, what: &What) -> Self {
        Self {
            run,
            seen: Attempt {
                flow: what.flow,
                round: what.round,
                variation: what.variation,
                address: what.to.map(|to| to.ip()),
                is_through_proxy: what.proxy.is_some(),
                from: None,
                stages: Vec::new(),
                chain: None,
                proof: None,
                answer: None,
                echo: None,
            },
        }
    }

    /// Runs a stage, and notes when and how it ended.
    pub(super) async fn stage<T>(
        &mut self,
        (stage, within): (Stage, Duration),
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Option<T> {
        let start = self.run.now();
        let done = tokio::time::timeout(within, work).await;
        let done = done.unwrap_or_else(|_| Err(tcp::timed_out(within)));
        let (value, fault) = match done {
            Ok(value) => (Some(value), None),
            Err(fault) => (None, Some(fault)),
        };
        let end = self.run.now();
        self.seen.stages.push(StageSeen {
            stage,
            start,
            end,
            fault,
        });
        value
    }
}

/// Tries.
pub(super) async fn attempt(run: &Run, what: &What) -> Attempt {
    let mut trying = Trying::new(run, what);
    let Some(io) = connect(&mut trying, what).await else {
        return trying.seen;
    };
    match (what.variation, what.goal) {
        (Variation::Plain, _) => plain(&mut trying, io, run).await,
        (_, Goal::Tunnel) => tunnel(&mut trying, io, what).await,
        (_, Goal::Echo) => echo(&mut trying, io, what).await,
        (_, Goal::Tls) => {
            secure(&mut trying, io, what).await;
        }
    }
    trying.seen
}

/// A connection to the relay's port, through the proxy where one is to be used.
pub(super) async fn connect(trying: &mut Trying<'_>, what: &What) -> Option<BoxIo> {
    let mss = match what.variation {
        Variation::Mss(bytes) => Some(bytes),
        _ => None,
    };
    let changed = tcp::Changed { mss, hops: None };
    let Some(proxy) = &what.proxy else {
        let to = what.to?;
        let connecting = tcp::connect(to, changed, what.tcp_within());
        let stream = trying
            .stage((Stage::Tcp, TCP_WITHIN * 2), connecting)
            .await?;
        trying.seen.from = stream.local_addr().ok();
        return Some(Box::new(stream));
    };
    let run = trying.run;
    let connecting = async {
        let unreached = |says: String| Fault::new(FaultKind::ProxyUnreached, says);
        let remotes = proxy.remotes(&run.world).await;
        let remotes = remotes.map_err(|error| unreached(tcp::bounded(&error.to_string())))?;
        let mut last = unreached("its name has no address".to_owned());
        for remote in remotes {
            match tcp::connect(remote, changed, TCP_WITHIN).await {
                Ok(stream) => return Ok(stream),
                Err(fault) => last = unreached(format!("{remote}: {}", fault.says)),
            }
        }
        Err(last)
    };
    let stream = trying
        .stage((Stage::Tcp, TCP_WITHIN * 2), connecting)
        .await?;
    trying.seen.from = stream.local_addr().ok();
    let port = run.target.port(what.flow);
    let leading = async {
        let to = (run.target.host.as_str(), port);
        let led = proxy
            .lead((Box::new(stream), &run.world), to, &run.roots)
            .await;
        led.map_err(|error| of_proxy(&error))
    };
    trying
        .stage((Stage::Proxy, STAGE_WITHIN * 2), leading)
        .await
}

fn of_proxy(error: &ProxyError) -> Fault {
    let kind = match error {
        ProxyError::Resolve(_) | ProxyError::Connect(_) => FaultKind::ProxyUnreached,
        ProxyError::Http(answer) if answer.status == 407 => FaultKind::ProxyLogin,
        ProxyError::SocksLogin => FaultKind::ProxyLogin,
        ProxyError::Http(_) | ProxyError::Socks(_) => FaultKind::ProxyDenied,
        _ => FaultKind::ProxyBroken,
    };
    let (status, schemes) = match error {
        ProxyError::Http(answer) => (Some(answer.status), answer.schemes().join(", ")),
        _ => (None, String::new()),
    };
    let wanted = match (kind, schemes.as_str()) {
        (FaultKind::ProxyLogin, schemes) if !schemes.is_empty() => {
            format!(" (it takes {schemes})")
        }
        _ => String::new(),
    };
    Fault {
        status,
        ..Fault::new(
            kind,
            format!("{}{wanted}", tcp::bounded(&error.to_string())),
        )
    }
}

/// TLS as production speaks it, or with the one thing changed.
pub(super) async fn secure(
    trying: &mut Trying<'_>,
    io: BoxIo,
    what: &What,
) -> Option<TlsStream<BoxIo>> {
    let run = trying.run;
    let alpn = match what.variation {
        Variation::NeutralAlpn => NEUTRAL_ALPN,
        _ => ALPN_HTTP,
    };
    let shares = KeyShares::of(what.variation == Variation::SmallHello);
    let host = match what.variation {
        Variation::NeutralName => NEUTRAL_NAME,
        _ => run.target.host.as_str(),
    };
    let shown = tls::Shown::default();
    let handshaking = async {
        let name: ServerName<'static> = tls::name(host)?;
        let config = tls::client((alpn, shares), &run.judges, &shown)?;
        let (io, first) = tls::Listening::over(io);
        let connector = TlsConnector::from(Arc::new(config));
        let done = connector.connect(name, io).await;
        done.map_err(|error| tls::failed(&error, &first))
    };
    let done = trying.stage((Stage::Tls, STAGE_WITHIN), handshaking).await;
    trying.seen.chain = shown.chain();
    done
}

/// A line of plain HTTP, to see whether any byte comes back.
async fn plain(trying: &mut Trying<'_>, io: BoxIo, run: &Run) {
    let mut http = Http::over(io);
    let asking = async {
        http.send(&http::get("/", &run.target.host), &[]).await?;
        http.fill().await
    };
    trying.stage((Stage::Http, STAGE_WITHIN), asking).await;
    if !http.unread.is_empty() {
        let says = String::from_utf8_lossy(&http.unread).into_owned();
        let fault = Fault::new(FaultKind::NotTls, tcp::bounded(&says));
        if let Some(last) = trying.seen.stages.last_mut() {
            last.fault = Some(fault);
        }
    }
}

async fn tunnel(trying: &mut Trying<'_>, io: BoxIo, what: &What) {
    let Some(tls) = secure(trying, io, what).await else {
        return;
    };
    let exporting = tls.get_ref().1;
    let exported = exporting.export_keying_material([0; 32], EXPORTER_LABEL, Some(b""));
    let Some(mut frames) = upgrade(trying, tls, (what, TUNNEL_PATH, SUBPROTOCOL)).await else {
        return;
    };
    let pin = trying.run.pin;
    let proving = async {
        let exporter = exported.map_err(|error| Fault::new(FaultKind::Other, error.to_string()))?;
        loop {
            match frames.next().await? {
                Incoming::Message(message) => return proof::read(message, &exporter, pin),
                Incoming::Other => {}
            }
        }
    };
    let proof = trying.stage((Stage::Proof, STAGE_WITHIN), proving).await;
    trying.seen.proof = proof;
    // The relay waits for a hello that does not come: it is told so.
    let _closed = tokio::time::timeout(Duration::from_millis(200), frames.close()).await;
}

/// The switch to WebSocket, as production asks for it.
pub(super) async fn upgrade<S>(
    trying: &mut Trying<'_>,
    io: S,
    (what, path, subprotocol): (&What, &str, &str),
) -> Option<Frames<S>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let run = trying.run;
    let port = run.target.port(what.flow);
    let key = BASE64.encode(tunnel::random_bytes::<16>());
    let lines = vec![
        format!("GET {path} HTTP/1.1"),
        format!("Host: {}", http::authority(&run.target.host, port)),
        "Connection: Upgrade".to_owned(),
        "Upgrade: websocket".to_owned(),
        "Sec-Websocket-Version: 13".to_owned(),
        format!("Sec-Websocket-Protocol: {subprotocol}"),
        format!("Sec-Websocket-Key: {key}"),
    ];
    let mut http = Http::over(io);
    let mut kept = None;
    let asking = async {
        http.send(&lines, &[]).await?;
        let answer = http.head().await?;
        let status = answer.status;
        let protocol = answer.header("sec-websocket-protocol").map(str::to_owned);
        kept = Some(answer);
        match (status, protocol.as_deref()) {
            (101, Some(protocol)) if protocol == subprotocol => Ok(()),
            (101, _) => Err(Fault::new(
                FaultKind::Protocol,
                "it switches to WebSocket, and not to our protocol",
            )),
            (status, _) => Err(Fault {
                status: Some(status),
                ..Fault::new(
                    FaultKind::Status,
                    format!("HTTP {status} instead of the switch to WebSocket"),
                )
            }),
        }
    };
    let switched = trying.stage((Stage::Websocket, STAGE_WITHIN), asking).await;
    trying.seen.answer = kept;
    switched.map(|()| Frames::over(http))
}

async fn echo(trying: &mut Trying<'_>, io: BoxIo, what: &What) {
    let Some(tls) = secure(trying, io, what).await else {
        return;
    };
    let run = trying.run;
    let host = http::authority(&run.target.host, run.target.port(what.flow));
    let mut http = Http::over(tls);
    let asking = async {
        http.send(&http::get(ECHO_PATH, &host), &[]).await?;
        http.answer().await
    };
    let answered = trying.stage((Stage::Http, STAGE_WITHIN), asking).await;
    if let Some((answer, body)) = answered {
        let echo = serde_json::from_slice::<protocol::Echo>(&body).ok();
        trying.seen.echo = echo.filter(|_| answer.status == 200);
        trying.seen.answer = Some(answer);
    }
}

/// What the relay saw arrive, asked over one door; `None` where it does not say.
pub(super) async fn witness(run: &Run, what: &What) -> Option<(Witness, Option<SocketAddr>)> {
    let mut trying = Trying::new(run, what);
    let io = connect(&mut trying, what).await?;
    let from = trying.seen.from;
    let tls = secure(&mut trying, io, what).await?;
    let host = http::authority(&run.target.host, run.target.port(what.flow));
    let mut http = Http::over(tls);
    let asking = async {
        http.send(&http::get(WITNESS_PATH, &host), &[]).await?;
        http.answer().await
    };
    let (answer, body) = trying.stage((Stage::Http, STAGE_WITHIN), asking).await?;
    let witness = serde_json::from_slice(&body).ok()?;
    (answer.status == 200).then_some((witness, from))
}
