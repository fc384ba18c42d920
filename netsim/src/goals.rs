//! What the shipped scenarios must reach together at least once: a suite in which no agent
//! ever fell back has tested no fallback.

use std::collections::BTreeMap;

use netsim_core::{
    middlebox::Cause,
    model::{Word, World},
    trace::Observation,
};

use crate::outcome::{MissedGoal, Run};

/// Something that must be seen in one of all runs.
struct Goal {
    says: &'static str,
    is_seen: fn(&Run) -> bool,
}

const GOALS: [Goal; 11] = [
    Goal {
        says: "an agent that knocked by QUIC came online by WebSocket",
        is_seen: |run| saw(run, Word::Attempt, "quic") && saw(run, Word::Online, "ws"),
    },
    Goal {
        says: "an agent that knocked on 8000 came online by WebSocket on 443",
        is_seen: |run| saw(run, Word::Attempt, "ws") && saw(run, Word::Online, "ws-443"),
    },
    Goal {
        says: "an agent lost its session and came back",
        is_seen: |run| !run.recoveries().is_empty(),
    },
    Goal {
        says: "a stream went on over another connection",
        is_seen: |run| saw_any(run, Word::StreamResumed),
    },
    Goal {
        says: "a session moved from WebSocket to QUIC",
        is_seen: moved_to_quic,
    },
    Goal {
        says: "an agent refused whom it had found",
        is_seen: |run| saw_any(run, Word::Refused),
    },
    Goal {
        says: "a stream was broken off by a fault",
        is_seen: |run| saw_any(run, Word::StreamReset),
    },
    Goal {
        says: "a packet from outside was kept out",
        is_seen: |run| touched(run, &[Cause::Unsolicited, Cause::Filtered]),
    },
    Goal {
        says: "a flow was forgotten by a firewall or a NAT",
        is_seen: |run| touched(run, &[Cause::Expired]),
    },
    Goal {
        says: "a mapping changed its port in the middle of a flow",
        is_seen: |run| touched(run, &[Cause::Rebound]),
    },
    Goal {
        says: "packets were lost in bursts",
        is_seen: |run| touched(run, &[Cause::Burst]),
    },
];

fn saw(run: &Run, word: Word, detail: &str) -> bool {
    let fits = |one: &Observation| one.word == word && one.detail == detail;
    run.observations.iter().any(fits)
}

fn saw_any(run: &Run, word: Word) -> bool {
    run.observations.iter().any(|one| one.word == word)
}

/// Whether an agent that was online by WebSocket came online by QUIC without a pause.
fn moved_to_quic(run: &Run) -> bool {
    let mut latest = BTreeMap::new();
    run.observations.iter().any(|one| {
        let is_move = match one.word {
            Word::Online if one.detail == "quic" => latest
                .get(&one.host)
                .is_some_and(|(at, by_quic)| *at == one.at && !by_quic),
            _ => false,
        };
        match one.word {
            Word::Online => latest.insert(&one.host, (one.at, one.detail == "quic")),
            // A session in the place of another is told as both, at one moment.
            Word::Offline => latest.get_mut(&one.host).map(|state| {
                state.0 = one.at;
                *state
            }),
            _ => None,
        };
        is_move
    })
}

fn touched(run: &Run, causes: &[Cause]) -> bool {
    causes.iter().any(|cause| run.touched.of(*cause) > 0)
}

/// Goals that no run has reached; none where there was no run.
pub(crate) fn missed(runs: &[&Run], world: World) -> Vec<MissedGoal> {
    if runs.is_empty() {
        return Vec::new();
    }
    let missed = GOALS.iter();
    missed
        .filter(|goal| !runs.iter().any(|run| (goal.is_seen)(run)))
        .map(|goal| MissedGoal {
            scenario: None,
            world,
            says: goal.says.to_owned(),
        })
        .collect()
}
