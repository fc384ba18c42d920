//! Expectations as cases, and against a naive model that looks at every moment.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    model::Word,
    term::{At, Scalar, Term, Text},
};

fn at(seconds: u64) -> Instant {
    Instant::at(Duration::from_secs(seconds))
}

fn seen(seconds: u64, text: &str) -> Observation {
    let pattern = Pattern::from_text(text).expect("a pattern");
    let is_of_timeline = pattern.word.is_of_timeline();
    Observation {
        at: at(seconds),
        host: (!is_of_timeline).then(|| Name::of("agent")),
        word: pattern.word,
        detail: pattern.detail.unwrap_or_default(),
    }
}

fn pattern(text: &str) -> Option<At<Pattern>> {
    Some(At::nowhere(Pattern::from_text(text).expect("a pattern")))
}

fn always(text: &str) -> Expectation {
    Expectation {
        always: pattern(text),
        ..Expectation::blank()
    }
}

fn never(text: &str) -> Expectation {
    Expectation {
        never: pattern(text),
        ..Expectation::blank()
    }
}

fn within(see: &str, seconds: u64, after: &str) -> Expectation {
    Expectation {
        see: pattern(see),
        within: Some(Choice::Fixed(Duration::from_secs(seconds))),
        after: pattern(after),
        ..Expectation::blank()
    }
}

fn from(mut expectation: Expectation, seconds: u64) -> Expectation {
    expectation.from = Some(At::nowhere(Choice::Fixed(Duration::from_secs(seconds))));
    expectation
}

fn judged(expectation: &Expectation, observations: &[Observation]) -> Outcome {
    evaluate(expectation, &[Name::of("agent")], observations, at(100))
}

fn failed_at(outcome: &Outcome) -> Option<Instant> {
    match outcome {
        Outcome::Failed { at, .. } => Some(*at),
        _ => None,
    }
}

#[test]
fn always_is_broken_by_the_end_of_the_state() {
    let run = [
        seen(1, "online:quic"),
        seen(50, "offline"),
        seen(51, "online:ws"),
    ];

    assert_eq!(
        failed_at(&judged(&from(always("online"), 2), &run)),
        Some(at(50))
    );
    assert_eq!(judged(&from(always("online"), 2), &run[..1]), Outcome::Held);
    assert_eq!(
        failed_at(&judged(&always("online"), &run[..1])),
        Some(at(0))
    );
}

#[test]
fn a_change_of_detail_ends_a_state_with_the_other_detail() {
    let run = [seen(1, "online:quic"), seen(50, "online:ws")];

    assert_eq!(judged(&from(always("online"), 2), &run), Outcome::Held);
    assert_eq!(
        failed_at(&judged(&from(always("online:quic"), 2), &run)),
        Some(at(50))
    );
}

#[test]
fn never_names_the_first_time() {
    let run = [seen(3, "stream-reset"), seen(4, "stream-reset")];

    assert_eq!(
        failed_at(&judged(&never("stream-reset"), &run)),
        Some(at(3))
    );
    assert_eq!(judged(&never("inbound-flow"), &run), Outcome::Held);
    assert_eq!(judged(&from(never("stream-reset"), 5), &run), Outcome::Held);
}

#[test]
fn within_looks_after_each_time_that_the_other_is_seen() {
    let expectation = within("online", 5, "undone:flap");
    let slow = [
        seen(10, "undone:flap"),
        seen(15, "online:ws"),
        seen(19, "offline"),
        seen(20, "undone:flap"),
        seen(26, "online:ws"),
    ];

    assert_eq!(failed_at(&judged(&expectation, &slow)), Some(at(25)));
    assert_eq!(judged(&expectation, &slow[..3]), Outcome::Held);
}

#[test]
fn a_state_that_still_holds_need_not_begin_again() {
    let run = [seen(1, "online:ws"), seen(10, "undone:flap")];

    assert_eq!(
        judged(&within("online", 5, "undone:flap"), &run),
        Outcome::Held
    );
}

#[test]
fn what_was_never_put_to_the_test_is_vacuous() {
    let expectation = within("online", 5, "undone:flap");

    let never = judged(&expectation, &[seen(1, "online:ws")]);
    let too_late = judged(&expectation, &[seen(98, "undone:flap")]);

    assert!(matches!(never, Outcome::Vacuous { .. }), "{never}");
    assert!(matches!(too_late, Outcome::Vacuous { .. }), "{too_late}");
    assert!(!never.passes());
}

#[test]
fn without_an_event_the_time_runs_from_the_start() {
    let mut expectation = within("online", 5, "undone:flap");
    expectation.after = None;

    assert_eq!(judged(&expectation, &[seen(5, "online:ws")]), Outcome::Held);
    assert_eq!(
        failed_at(&judged(&expectation, &[seen(6, "online:ws")])),
        Some(at(5))
    );
}

#[test]
fn every_copy_must_fulfil_it_and_the_one_that_does_not_is_named() {
    let names = [Name::of("agent"), Name::of("agent-1")];
    let run = [seen(1, "online:ws")];

    let outcome = evaluate(&from(always("online"), 2), &names, &run, at(100));

    let Outcome::Failed { why, .. } = outcome else {
        panic!("{outcome}")
    };
    assert!(why.starts_with("agent-1: "), "{why}");
}

#[test]
fn a_goal_is_missed_only_where_no_run_has_seen_it() {
    let mut scenario = Scenario::blank();
    let goal = Expectation {
        sometimes: pattern("stream-resumed"),
        ..Expectation::blank()
    };
    scenario.expectations = vec![At::nowhere(goal)];
    let seen = vec![Outcome::Goal { is_seen: true }];
    let unseen = vec![Outcome::Goal { is_seen: false }];

    assert_eq!(
        goals_missed(&scenario, &[unseen.clone(), seen]),
        Vec::<String>::new()
    );
    assert_eq!(
        goals_missed(&scenario, &[unseen]),
        ["sometimes stream-resumed"]
    );
}

#[test]
fn a_mark_that_is_no_longer_true_fails_the_run() {
    let mut expectation = never("stream-reset");
    expectation.known_failing = Some(Text::from_text("no resumption yet").expect("a text"));

    let fails = with_mark(
        &expectation,
        judged(&expectation, &[seen(3, "stream-reset")]),
    );
    let holds = with_mark(&expectation, judged(&expectation, &[]));

    assert!(matches!(fails, Outcome::KnownFailing { .. }) && fails.passes());
    assert!(holds == Outcome::HeldUnexpectedly && !holds.passes());
}

/// Few words, few details, few moments: so that everything meets everything.
fn observation() -> impl Strategy<Value = (u64, Word, &'static str)> {
    let words = [
        Word::Online,
        Word::Offline,
        Word::Event,
        Word::Undone,
        Word::StreamReset,
    ];
    let detail = prop::sample::select(vec!["quic", "ws"]);
    (0..20_u64, prop::sample::select(words.to_vec()), detail)
}

fn run() -> impl Strategy<Value = Vec<Observation>> {
    prop::collection::vec(observation(), 0..15).prop_map(|mut drawn| {
        drawn.sort_by_key(|(time, ..)| *time);
        let observed = |(time, word, detail): (u64, Word, &str)| Observation {
            at: at(time),
            host: (!word.is_of_timeline()).then(|| Name::of("agent")),
            word,
            detail: detail.to_owned(),
        };
        drawn.into_iter().map(observed).collect()
    })
}

fn any_pattern() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "online",
        "online:quic",
        "offline",
        "stream-reset:ws",
        "event:ws",
    ])
}

/// The naive model: the state is recounted from the beginning for every moment.
fn state_after(pattern: &Pattern, run: &[Observation]) -> bool {
    let mut holds = false;
    for one in run {
        if Some(one.word) == pattern.word.ended_by() {
            holds = false;
        } else if one.word == pattern.word {
            holds = pattern.word.ended_by().is_some() && one.fits(pattern);
        }
    }
    holds
}

fn naive_always(pattern: &Pattern, run: &[Observation], from: u64) -> bool {
    let begin = run.iter().filter(|one| one.at <= at(from)).count();
    (begin..=run.len()).all(|count| state_after(pattern, &run[..count]))
}

fn naive_seen(pattern: &Pattern, run: &[Observation], from: u64) -> bool {
    let begin = run.iter().filter(|one| one.at <= at(from)).count();
    state_after(pattern, &run[..begin])
        || run
            .iter()
            .any(|one| one.at >= at(from) && one.fits(pattern))
}

fn naive_within(see: &Pattern, run: &[Observation], span: u64, after: &Pattern) -> bool {
    run.iter()
        .enumerate()
        .filter(|(_, one)| one.fits(after))
        .all(|(number, trigger)| {
            let deadline = trigger.at + Duration::from_secs(span);
            (number + 1..=run.len()).any(|count| {
                let last = &run[count - 1];
                last.at <= deadline
                    && (state_after(see, &run[..=number]) || (count > number + 1 && last.fits(see)))
            })
        })
}

proptest! {
    #[test]
    fn judgements_are_those_of_the_naive_model(
        run in run(),
        text in any_pattern(),
        after in any_pattern(),
        (begin, span) in (0..20_u64, 0..10_u64),
    ) {
        let meant = Pattern::from_text(text).expect("a pattern");
        let follows = Pattern::from_text(after).expect("a pattern");

        let holds = judged(&from(always(text), begin), &run) == Outcome::Held;
        let never = judged(&from(never(text), begin), &run) == Outcome::Held;
        let soon = judged(&within(text, span, after), &run);

        prop_assert_eq!(holds, naive_always(&meant, &run, begin));
        prop_assert_eq!(never, !naive_seen(&meant, &run, begin));
        let is_judged = run.iter().any(|one| one.fits(&follows));
        match soon {
            Outcome::Vacuous { .. } => prop_assert!(!is_judged),
            outcome => prop_assert_eq!(
                outcome == Outcome::Held,
                naive_within(&meant, &run, span, &follows)
            ),
        }
    }
}
