//! What is expected of every run, whatever its scenario says.

use std::time::Duration;

use super::{Outcome, Period, Subject, agents, of_one, together};
use crate::{
    model::{Operator, Pattern, Role, Scenario, Word},
    time::Instant,
    trace::Observation,
};

/// How long one end may keep a session of which the other knows nothing: the relay's and the
/// agent's deadline of an idle session is 35 s, and it may just have been heard from.
const HALF_OPEN_MAX: Duration = Duration::from_secs(45);

/// How often an agent may knock at one address by one transport in a minute: in the first
/// minute of a failure, pauses are 0.6 s on average.
const ATTEMPTS_MAX: usize = 150;

/// The span that attempts are counted in.
const MINUTE: Duration = Duration::from_secs(60);

/// What must never be seen.
const NEVER: [Word; 6] = [
    Word::InboundFlow,
    Word::Listening,
    Word::Corrupted,
    Word::DeployedTwice,
    Word::Leaked,
    Word::Panicked,
];

/// Judges what is expected of every run: what it says, and what became of it.
pub fn built_in(
    scenario: &Scenario,
    observations: &[Observation],
    end: Instant,
) -> Vec<(String, Outcome)> {
    let agents = agents(scenario);
    let subjects = Subject::all(&agents, observations);
    let period = Period {
        from: Instant::START,
        until: end,
    };
    let judge = |operator: &Operator<'_>| {
        let each = subjects.iter();
        let each = each.map(|one| (one.name, of_one(operator, &one.observations, &period)));
        // Nothing that could go wrong is no failure of a rule that is for everybody.
        match together(each) {
            Outcome::Vacuous { .. } => Outcome::Held,
            outcome => outcome,
        }
    };
    let of_word = |word| Pattern { word, detail: None };
    let mut judged = Vec::new();
    for word in NEVER {
        let pattern = of_word(word);
        judged.push((format!("never {word}"), judge(&Operator::Never(&pattern))));
    }
    let (closed, half_open) = (of_word(Word::Closed), of_word(Word::HalfOpen));
    let within = Operator::Within {
        see: &closed,
        within: HALF_OPEN_MAX,
        after: Some(&half_open),
    };
    let says = format!("closed within {HALF_OPEN_MAX:?} after half-open");
    judged.push((says, judge(&within)));
    let bound = ATTEMPTS_MAX * relay_addresses(scenario);
    let says = format!("at most {bound} attempts a minute by one transport");
    let each = subjects.iter();
    let each = each.map(|one| (one.name, attempts(&one.observations, bound)));
    judged.push((says, together(each)));
    judged
}

fn relay_addresses(scenario: &Scenario) -> usize {
    let relays = scenario.hosts.iter();
    let relays = relays.filter(|host| host.runs == Role::Relay);
    let each = relays.map(|host| host.addresses.len() * usize::try_from(*host.count).unwrap_or(1));
    each.sum::<usize>().max(1)
}

/// Whether there were at most so many attempts in any minute.
fn attempts(own: &[&Observation], bound: usize) -> Outcome {
    for transport in ["quic", "ws", "ws-443"] {
        let by_it = own.iter().filter(|one| one.word == Word::Attempt);
        let times: Vec<Instant> = by_it
            .filter(|one| one.detail == transport)
            .map(|one| one.at)
            .collect();
        // The one that comes `bound` later must be more than a minute later.
        let crowded = times
            .iter()
            .zip(times.iter().skip(bound))
            .find(|(first, last)| last.since(**first) < MINUTE);
        if let Some((_, last)) = crowded {
            return Outcome::Failed {
                at: *last,
                why: format!("more than {bound} attempts by {transport} in a minute"),
            };
        }
    }
    Outcome::Held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::check, term::Name};

    fn scenario() -> Scenario {
        let text = r#"
name = "small"
summary = "An agent and its relay."
observed = "these tests"
duration = "60s"
host = [
    { name = "relay", runs = "relay", addresses = "203.0.113.10/24" },
    { name = "agent", runs = "agent", addresses = "203.0.113.20/24" },
]
cable = [{ name = "cable", ends = ["agent", "relay"] }]
expect = [{ never = "stream-reset" }]
"#;
        check(text).expect("a sound scenario")
    }

    fn seen(millis: u64, word: Word, detail: &str) -> Observation {
        Observation {
            at: Instant::at(Duration::from_millis(millis)),
            host: Some(Name::of("agent")),
            word,
            detail: detail.to_owned(),
        }
    }

    fn failures(observations: &[Observation]) -> Vec<String> {
        let end = Instant::at(Duration::from_secs(600));
        built_in(&scenario(), observations, end)
            .into_iter()
            .filter(|(_, outcome)| !outcome.passes())
            .map(|(says, _)| says)
            .collect()
    }

    #[test]
    fn a_quiet_run_has_nothing_against_it() {
        assert_eq!(failures(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_half_open_session_may_last_for_a_while_and_no_longer() {
        let begins = seen(1_000, Word::HalfOpen, "");

        let in_time = [begins.clone(), seen(40_000, Word::Closed, "")];
        let late = [begins, seen(60_000, Word::Closed, "")];

        assert_eq!(failures(&in_time), Vec::<String>::new());
        assert_eq!(failures(&late), ["closed within 45s after half-open"]);
    }

    #[test]
    fn an_agent_that_knocks_too_often_is_told() {
        let knocks = |pause: u64| -> Vec<Observation> {
            (0..400)
                .map(|number| seen(number * pause, Word::Attempt, "ws"))
                .collect()
        };

        assert_eq!(failures(&knocks(600)), Vec::<String>::new());
        assert_eq!(
            failures(&knocks(300)),
            ["at most 150 attempts a minute by one transport"]
        );
    }

    #[test]
    fn what_must_never_be_seen_is_named() {
        assert_eq!(
            failures(&[
                seen(5, Word::InboundFlow, ""),
                seen(9, Word::Leaked, "a task")
            ]),
            ["never inbound-flow", "never leaked"]
        );
    }
}
