//! Who answers in another's place: hops to a refusal, and connections to where nobody is.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use futures_util::future::join_all;

use super::{
    Run,
    http::{self, Http},
    tcp::{self, Changed},
    udp,
};
use crate::observe::{FaultKind, HopOutcome, HopTest, HttpAnswer, Micros, Pace, PortalTest};

/// Nobody has it (RFC 5737): who answers there answers in everybody's place.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

const NOWHERE_WITHIN: Duration = Duration::from_millis(1_500);

/// Devices between a customer's host and a relay, as far as they are counted.
pub(super) const HOPS_MAX: u8 = 16;

const HOP_WITHIN: Duration = Duration::from_millis(1_500);

/// Within how many hops a port answers, all numbers at once.
pub(super) async fn hops(to: SocketAddr) -> Vec<HopTest> {
    let tests = (1..=HOPS_MAX).map(|hops| async move {
        let changed = Changed {
            hops: Some(hops),
            mss: None,
        };
        let outcome = match tcp::connect(to, changed, HOP_WITHIN).await {
            Ok(_) => HopOutcome::Open,
            Err(fault) if fault.kind == FaultKind::Refused => HopOutcome::Refused,
            Err(_) => HopOutcome::Short,
        };
        HopTest { to, hops, outcome }
    });
    let mut tests = join_all(tests).await;
    // What the first one that was answered says is all that there is to know.
    let first = tests
        .iter()
        .position(|test| test.outcome != HopOutcome::Short);
    tests.truncate(first.map_or(0, |first| first + 1));
    tests
}

/// Of how many tries the shortest counts.
const PACE_TRIES: u8 = 4;

/// How fast a port is refused, and how fast the relay's host answers: by a port that is open,
/// or by a bare datagram. For a host that does answer: both are waited for.
pub(super) async fn pace(run: &Run, to: SocketAddr, open: Option<SocketAddr>) -> Option<Pace> {
    let open = open.filter(|open| open.ip() == to.ip());
    let (mut refused, mut answered): (Option<Micros>, Option<Micros>) = (None, None);
    let shorter =
        |so_far: Option<Micros>, new: Micros| Some(so_far.map_or(new, |old| old.min(new)));
    for _ in 0..PACE_TRIES {
        let start = run.now();
        let outcome = tcp::connect(to, Changed::default(), HOP_WITHIN).await;
        if outcome.is_err_and(|fault| fault.kind == FaultKind::Refused) {
            refused = shorter(refused, run.now() - start);
        }
        let start = run.now();
        match open {
            Some(open) => {
                if tcp::connect(open, Changed::default(), HOP_WITHIN)
                    .await
                    .is_ok()
                {
                    answered = shorter(answered, run.now() - start);
                }
            }
            None => {
                let udp = SocketAddr::new(to.ip(), run.target.tunnel_port);
                match udp::ask(run, udp).await.answered_after {
                    Some(after) => answered = shorter(answered, after),
                    // Nobody answers datagrams: once is enough to know.
                    None => break,
                }
            }
        }
    }
    refused.map(|refused| Pace {
        to,
        refused,
        answered,
    })
}

/// Whether somebody answers where nobody is, and what answers plain HTTP.
pub(super) async fn portal(run: &Run, relay: Option<SocketAddr>) -> PortalTest {
    let nowhere = |port| tcp::connect((NOWHERE, port).into(), Changed::default(), NOWHERE_WITHIN);
    let host = run.target.host.as_str();
    let at_relay = async {
        let relay = SocketAddr::new(relay?.ip(), 80);
        plain(relay, host).await
    };
    let (at_80, at_443, plain_at_nowhere, plain_at_relay) = tokio::join!(
        nowhere(80),
        nowhere(443),
        plain((NOWHERE, 80).into(), host),
        at_relay,
    );
    PortalTest {
        is_nowhere_80_open: at_80.is_ok(),
        is_nowhere_443_open: at_443.is_ok(),
        answer: plain_at_nowhere,
        at_relay: plain_at_relay,
    }
}

async fn plain(to: SocketAddr, host: &str) -> Option<HttpAnswer> {
    let stream = tcp::connect(to, Changed::default(), NOWHERE_WITHIN)
        .await
        .ok()?;
    let mut http = Http::over(stream);
    let asking = async {
        http.send(&http::get("/", host), &[]).await?;
        http.answer().await
    };
    let answered = tokio::time::timeout(NOWHERE_WITHIN, asking).await.ok()?;
    answered.ok().map(|(answer, _)| answer)
}
