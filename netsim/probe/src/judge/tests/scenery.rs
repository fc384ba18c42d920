//! Networks as they are seen: one where all is well, and what may be changed about it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::{
    observe::{
        Attempt, Certificate, Chain, Fault, FaultKind, Flow, Icmp, LookUp, Observations, ProofSeen,
        Stage, StageSeen, Target, UdpTest, Variation, WitnessSeen,
    },
    protocol::{Arrival, Door, Echo, Stage as Arrived, Witness},
};

pub(super) const RELAY: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
pub(super) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
pub(super) const FIREWALL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
pub(super) const KEY: &str = "ed25519:relay";

/// All is well.
pub(super) fn healthy() -> Observations {
    let target = Target {
        host: "relay.example".into(),
        https_port: 443,
        tunnel_port: 8000,
        pin: Some(KEY.into()),
    };
    Observations {
        started_ms: 1_800_000_000_000,
        took: 100_000,
        target,
        look_ups: vec![LookUp {
            start: 0,
            end: 2_000,
            outcome: Ok(vec![RELAY]),
        }],
        addresses: vec![RELAY],
        attempts: Flow::ALL.into_iter().map(proven).collect(),
        udp: vec![udp()],
        ..Observations::default()
    }
}

pub(super) fn udp() -> UdpTest {
    UdpTest {
        to: SocketAddr::new(RELAY, 8000),
        start: 0,
        from: Some(SocketAddr::new(HERE, 40_000)),
        sent: 1,
        answered_after: Some(20_000),
        icmp: Vec::new(),
        fault: None,
    }
}

/// Stages of a flow, up to one, each of 20 ms.
fn stages(flow: Flow, last: Stage) -> Vec<StageSeen> {
    let all: &[Stage] = match flow {
        Flow::Quic => &[Stage::Quic, Stage::Proof],
        _ => &[Stage::Tcp, Stage::Tls, Stage::Websocket, Stage::Proof],
    };
    let wanted = all
        .iter()
        .filter(|stage| **stage <= last || flow == Flow::Quic && **stage == last);
    wanted
        .enumerate()
        .map(|(number, stage)| StageSeen {
            stage: *stage,
            start: 20_000 * number as u64,
            end: 20_000 * (number as u64 + 1),
            fault: None,
        })
        .collect()
}

pub(super) fn chain(issuer: &str, key: &str) -> Chain {
    Chain {
        certificates: vec![Certificate {
            subject: "CN=relay.example".into(),
            issuer: issuer.into(),
            is_self_signed: false,
            spki_sha256: key.into(),
            not_before: 0,
            not_after: i64::MAX,
        }],
        not_vouched: Some("UnknownIssuer".into()),
        may_intercept: false,
        names_host: true,
    }
}

/// An attempt that the relay has proven.
pub(super) fn proven(flow: Flow) -> Attempt {
    Attempt {
        flow,
        round: 1,
        variation: Variation::Production,
        address: Some(RELAY),
        is_through_proxy: false,
        from: Some(SocketAddr::new(HERE, 40_001)),
        stages: stages(flow, Stage::Proof),
        chain: Some(chain("CN=Sternline relay CA", "relay's")),
        proof: Some(ProofSeen {
            identity: KEY.into(),
            is_proven: true,
            is_pinned: Some(true),
        }),
        answer: None,
        echo: None,
    }
}

/// One that failed at a stage.
pub(super) fn failed(flow: Flow, stage: Stage, kind: FaultKind) -> Attempt {
    let mut attempt = proven(flow);
    attempt.stages = stages(flow, stage);
    attempt.proof = None;
    if stage <= Stage::Tls || flow == Flow::Quic {
        attempt.chain = None;
    }
    let took = match kind {
        FaultKind::TimedOut => 3_500_000,
        _ => 20_000,
    };
    let last = attempt.stages.last_mut().expect("a stage");
    last.end = last.start + took;
    last.fault = Some(Fault::new(kind, "as it was told"));
    attempt
}

/// The same for a flow of a network where all else is well, twice.
pub(super) fn with_failure(
    mut seen: Observations,
    flow: Flow,
    stage: Stage,
    kind: FaultKind,
) -> Observations {
    seen.attempts.retain(|one| one.flow != flow);
    for round in [1, 2] {
        let mut attempt = failed(flow, stage, kind);
        attempt.round = round;
        seen.attempts.push(attempt);
    }
    seen
}

/// Nothing of UDP comes back.
pub(super) fn without_udp(mut seen: Observations) -> Observations {
    for test in &mut seen.udp {
        test.answered_after = None;
        test.sent = 4;
    }
    with_failure(seen, Flow::Quic, Stage::Quic, FaultKind::TimedOut)
}

/// Every flow fails like this.
pub(super) fn with_all(stage: Stage, kind: FaultKind) -> Observations {
    let seen = with_failure(healthy(), Flow::Https, stage, kind);
    without_udp(with_failure(seen, Flow::Websocket, stage, kind))
}

pub(super) fn icmp(kind: u8, code: u8, offender: IpAddr) -> Icmp {
    Icmp {
        kind,
        code,
        offender: Some(offender),
        is_local: false,
        errno: 113,
    }
}

/// A variation of a flow's attempt that got as far as TLS.
pub(super) fn varied(flow: Flow, variation: Variation) -> Attempt {
    let mut attempt = proven(flow);
    attempt.variation = variation;
    attempt.stages = stages(flow, Stage::Tls);
    attempt.proof = None;
    attempt
}

/// The relay saw this.
pub(super) fn witness(arrivals: &[(Door, Arrived)]) -> WitnessSeen {
    let arrival = |(door, stage): &(Door, Arrived)| Arrival {
        door: *door,
        ago_ms: 10,
        from_port: 40_001,
        stage: *stage,
    };
    WitnessSeen {
        at: 8_000_000,
        from: Some(SocketAddr::new(HERE, 40_002)),
        witness: Witness {
            from: Some(SocketAddr::new(HERE, 40_002)),
            arrivals: arrivals.iter().map(arrival).collect(),
        },
    }
}

pub(super) fn echo(time_ms: i64, headers: &[(&str, &str)]) -> Echo {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Echo {
        version: 1,
        relay: "sternline-relay".into(),
        identity: KEY.into(),
        time_ms,
        from: SocketAddr::new(HERE, 40_003),
        headers: headers.iter().map(header).collect(),
    }
}
