//! What the shipped scenarios must reach together at least once: a suite in which no agent
//! ever fell back has tested no fallback.

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

const GOALS: [Goal; 9] = [
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
        says: "an agent refused whom it had found",
        is_seen: |run| run.observations.iter().any(|one| one.word == Word::Refused),
    },
    Goal {
        says: "a stream was broken off by a fault",
        is_seen: |run| {
            run.observations
                .iter()
                .any(|one| one.word == Word::StreamReset)
        },
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
