//! Suites for tests: a run that passes, one that fails, and everything that may go wrong.

use std::time::Duration;

use netsim_core::{
    expect::Outcome,
    middlebox::{Cause, Touched},
    model::{Word, World},
    random::Seed,
    term::Name,
    time::Instant,
    trace::Observation,
};

use super::About;
use crate::outcome::{Check, MissedGoal, Parity, Reading, Run, Sample, Skipped, Suite};

pub(super) fn about() -> About {
    About {
        program: "sternline-netsim 0.1.0 (2f1c9c9)".to_owned(),
        command: "sternline-netsim run --all --seeds 80".to_owned(),
        began: "2030-01-01T00:00:00Z".to_owned(),
    }
}

pub(super) fn at(millis: u64) -> Instant {
    Instant::at(Duration::from_millis(millis))
}

pub(super) fn saw(millis: u64, host: &str, word: Word, detail: &str) -> Observation {
    Observation {
        at: at(millis),
        host: (!host.is_empty()).then(|| Name::of(host)),
        word,
        detail: detail.to_owned(),
    }
}

fn check(says: &str, outcome: Outcome) -> Check {
    Check {
        says: says.to_owned(),
        is_built_in: says.starts_with("never"),
        is_marked: matches!(outcome, Outcome::KnownFailing { .. }),
        outcome,
    }
}

/// A minute with one cut of ten seconds, after which WebSocket takes over from QUIC.
pub(super) fn run(scenario: &str, world: World, seed: u64) -> Run {
    let mut touched = Touched::default();
    (0..412).for_each(|_| touched.count(Cause::Cut));
    (0..37).for_each(|_| touched.count(Cause::UdpBlocked));
    Run {
        scenario: Name::of(scenario),
        world,
        seed: Seed(seed),
        lasted: Duration::from_secs(60),
        took: Duration::from_millis(23),
        checks: vec![
            check("online within 10s after event:cut", Outcome::Held),
            check(
                "sometimes stream-resumed",
                Outcome::Goal {
                    is_seen: seed.is_multiple_of(2),
                },
            ),
            check("never inbound-flow", Outcome::Held),
        ],
        observations: observations(seed),
        samples: samples(seed),
        touched,
        vacuous: Vec::new(),
        notes: Vec::new(),
        repro: None,
    }
}

fn observations(seed: u64) -> Vec<Observation> {
    let back = 31_000 + seed * 137;
    let mut all = vec![
        saw(40, "agent", Word::Attempt, "quic"),
        saw(180, "agent", Word::Online, "quic"),
        saw(20_000, "", Word::Event, "cut"),
        saw(24_500, "agent", Word::Offline, ""),
        saw(24_600, "agent", Word::Attempt, "quic"),
        saw(27_000, "agent", Word::Attempt, "ws"),
        saw(
            28_000,
            "agent",
            Word::Refused,
            "captive <portal> & \"friends\"",
        ),
        saw(30_000, "", Word::Undone, "cut"),
        saw(back - 200, "agent", Word::Attempt, "ws"),
        saw(back, "agent", Word::Online, "ws"),
        saw(back + 90, "agent", Word::StreamResumed, "4"),
        saw(back + 300, "agent", Word::StreamReset, "5"),
    ];
    for stream in 0..19_u64 {
        let begin = 1_000 + stream * 3_000;
        if !(20_000..31_000).contains(&begin) {
            all.push(saw(begin, "agent", Word::StreamOpened, &stream.to_string()));
            all.push(saw(
                begin + 400,
                "agent",
                Word::StreamDone,
                &stream.to_string(),
            ));
        }
    }
    all.sort_by_key(|one| one.at);
    all
}

fn samples(seed: u64) -> Vec<Sample> {
    let sample = |millis, reading| Sample {
        at: at(millis),
        host: Name::of("agent"),
        reading,
    };
    let mut dice = Seed(seed).stream("samples");
    let mut all = Vec::new();
    for second in (1..60_u64).filter(|second| !(20..31).contains(second)) {
        let waited = 38 + dice.below(9) + if second > 50 { dice.below(400) } else { 0 };
        all.push(sample(
            second * 1000,
            Reading::RoundTrip(Duration::from_millis(waited)),
        ));
        if second % 3 == 1 {
            all.push(sample(
                second * 1000 + 400,
                Reading::Carried {
                    bytes: 200_000 + dice.below(90_000),
                    took: Duration::from_millis(400),
                },
            ));
        }
    }
    all
}

/// A run that is not back in time after the cut.
pub(super) fn failed_run(seed: u64) -> Run {
    let mut run = run("udp-blocked", World::Sim, seed);
    run.checks[0].outcome = Outcome::Failed {
        at: at(30_000),
        why: "agent: online was not observed after 20.000000s".to_owned(),
    };
    run.checks.push(check(
        "never stream-reset",
        Outcome::KnownFailing {
            reason: "a stream does not outlive a change of transport <yet>".to_owned(),
        },
    ));
    run.repro = Some(format!("report/failures/udp-blocked-sim-{seed}.toml"));
    run
}

/// Everything that may go wrong, and something that goes well.
pub(super) fn suite() -> Suite {
    let mut runs: Vec<Run> = (3..8).rev().map(failed_run).collect();
    runs[4].vacuous = vec!["cut of uplink touched no packet".to_owned()];
    runs.extend((1..3).map(|seed| run("udp-blocked", World::Sim, seed)));
    runs.push(run("open", World::Lab, 1));
    runs.extend((1..3).map(|seed| run("open", World::Sim, seed)));
    Suite {
        runs,
        skipped: vec![Skipped {
            scenario: Name::of("vpn-flap"),
            world: World::Lab,
            why: "user namespaces are not permitted: set `kernel.unprivileged_userns_clone`"
                .to_owned(),
        }],
        goals_missed: vec![MissedGoal {
            scenario: None,
            world: World::Sim,
            says: "sometimes online:ws-443".to_owned(),
        }],
        parity: vec![
            Parity {
                scenario: Name::of("open"),
                says: "online within 10s".to_owned(),
                sim: Outcome::Held,
                lab: Outcome::Held,
            },
            Parity {
                scenario: Name::of("open"),
                says: "never stream-reset".to_owned(),
                sim: Outcome::Held,
                lab: Outcome::Failed {
                    at: at(1_500),
                    why: "agent: stream-reset was observed".to_owned(),
                },
            },
        ],
        repeated: 2,
        differing: vec!["open/sim seed 2: packet 17: a, then b".to_owned()],
    }
}

/// So many agents, which one restart of the relay throws out, and which come back one by
/// one.
pub(super) fn fleet(agents: u64) -> Run {
    let mut run = run("relay-rolling-restart", World::Sim, 1);
    let mut dice = Seed(7).stream("fleet");
    let mut all = vec![
        saw(20_000, "", Word::Event, "restart"),
        saw(22_000, "", Word::Undone, "restart"),
    ];
    for agent in 0..agents {
        let name = format!("agent-{agent}");
        let back = 22_500 + dice.below(9_000);
        all.push(saw(100 + dice.below(900), &name, Word::Online, "quic"));
        all.push(saw(20_050 + dice.below(300), &name, Word::Offline, ""));
        all.push(saw(back - 100, &name, Word::Attempt, "quic"));
        all.push(saw(back, &name, Word::Online, "quic"));
    }
    all.sort_by_key(|one| one.at);
    run.observations = all;
    run.samples.clear();
    run
}
