//! Expectations: one statement each, about somebody who is there.

use crate::{
    model::{Expectation, Pattern, Role, Scenario, TargetKind, Word},
    term::{At, Reader, nearest},
};

pub(super) fn check(scenario: &Scenario, reader: &mut Reader<'_>) {
    if scenario.expectations.is_empty() && reader.is_clean() {
        reader.report(&(0..0), "nothing is expected: add `[[expect]]`");
    }
    for expectation in &scenario.expectations {
        if let Err(problem) = expectation.operator() {
            reader.report(&expectation.place(), problem);
        }
        patterns(scenario, expectation, reader);
        whose(scenario, expectation, reader);
        period(scenario, expectation, reader);
    }
}

fn patterns(scenario: &Scenario, expectation: &Expectation, reader: &mut Reader<'_>) {
    let given = [
        &expectation.always,
        &expectation.never,
        &expectation.sometimes,
        &expectation.see,
        &expectation.after,
    ];
    for pattern in given.into_iter().flatten() {
        of_timeline(scenario, pattern, reader);
    }
    if let Some(always) = &expectation.always
        && always.word.ended_by().is_none()
    {
        let states: Vec<&str> = Word::ALL
            .iter()
            .filter(|word| word.ended_by().is_some())
            .map(|word| word.as_str())
            .collect();
        reader.report(
            &always.place(),
            format!(
                "`{}` is a moment and cannot hold; {} can",
                always.word,
                states.join(", ")
            ),
        );
    }
}

/// `event:NAME` and `undone:NAME` name an event that there is.
fn of_timeline(scenario: &Scenario, pattern: &At<Pattern>, reader: &mut Reader<'_>) {
    if !pattern.word.is_of_timeline() {
        return;
    }
    let Some(detail) = &pattern.detail else {
        let problem = format!("say of which event: `{}:NAME`", pattern.word);
        reader.report(&pattern.place(), problem);
        return;
    };
    let named = |event: &crate::model::Event| event.name.as_ref().map(|name| name.to_string());
    let names: Vec<String> = scenario.events.iter().filter_map(named).collect();
    let known: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut events = scenario.events.iter();
    match events.find(|event| named(event).as_ref() == Some(detail)) {
        None => {
            let advice = nearest(detail, &known).map_or_else(
                || "give the event a `name`".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            reader.report(
                &pattern.place(),
                format!("no event is called `{detail}`; {advice}"),
            );
        }
        Some(event) if pattern.word == Word::Undone && event.lasts.is_none() => {
            let problem = format!("the event `{detail}` is never undone; it has no `for`");
            reader.report(&pattern.place(), problem);
        }
        Some(_) => {}
    }
}

fn whose(scenario: &Scenario, expectation: &Expectation, reader: &mut Reader<'_>) {
    let Some(of) = &expectation.of else {
        return;
    };
    let agents: Vec<&str> = scenario
        .hosts
        .iter()
        .filter(|host| host.runs == Role::Agent)
        .map(|host| host.name.as_str())
        .collect();
    match scenario.host(of).or_else(|| scenario.copy(of)) {
        None => super::must_exist(scenario, TargetKind::Host, (of, of.place()), reader),
        Some(host) => {
            let about_agents = [
                &expectation.always,
                &expectation.see,
                &expectation.sometimes,
            ];
            let is_about_agents = about_agents
                .into_iter()
                .flatten()
                .any(|pattern| matches!(pattern.word, Word::Online | Word::Attempt));
            if is_about_agents && host.runs != Role::Agent {
                let problem = format!(
                    "`{}` is no agent, and only agents come online; agents are {}",
                    **of,
                    agents.join(", ")
                );
                reader.report(&of.place(), problem);
            }
        }
    }
}

fn period(scenario: &Scenario, expectation: &Expectation, reader: &mut Reader<'_>) {
    let run = scenario.duration.get();
    let (from, until) = (&expectation.from, &expectation.until);
    for bound in [from, until].into_iter().flatten() {
        if bound.get() > run && !run.is_zero() {
            let problem = format!("this is after the end of the run at {run:?}");
            reader.report(&bound.place(), problem);
        }
    }
    if let (Some(from), Some(until)) = (from, until)
        && from.get() >= until.get()
    {
        reader.report(&until.place(), "the period from `from` to `until` is empty");
    }
}
