//! Events of the timeline, above the lanes: from when until when, and in which row, so
//! that no name covers another.

use std::time::Duration;

use netsim_core::model::Word;

use super::scale::{RIGHT, Time};
use crate::outcome::Run;

/// The most events that are drawn: more would be a grey area.
pub(super) const EVENTS_MAX: usize = 200;

/// The most rows of events that have their names.
const ROWS_MAX: usize = 6;

/// How wide a letter is, or somewhat less.
const LETTER: f64 = 6.4;

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Event<'a> {
    pub(super) name: &'a str,
    pub(super) from: Duration,
    /// When it was undone, if it was.
    pub(super) until: Option<Duration>,
    /// In which row, and where in it its name is; none where no row has room.
    pub(super) place: Option<(usize, Naming)>,
}

/// Where the name of an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    Inside,
    After,
    Before,
}

impl Event<'_> {
    /// Its ends on the picture.
    pub(super) fn ends(&self, time: Time) -> (f64, f64) {
        let from = time.x(self.from);
        let until = self.until.map_or(from, |until| time.x(until));
        (from, until.max(from + 3.0))
    }

    /// Where its name is, and what it takes of a row with it.
    fn room(&self, time: Time) -> (Naming, f64, f64) {
        let (from, until) = self.ends(time);
        let letters = u32::try_from(self.name.chars().count()).unwrap_or(u32::MAX);
        let width = f64::from(letters) * LETTER + 10.0;
        if until - from > width {
            (Naming::Inside, from, until)
        } else if until + width <= RIGHT {
            (Naming::After, from, until + width)
        } else {
            (Naming::Before, from - width, until)
        }
    }
}

/// The first events of a run, in order, each in its row.
pub(super) fn events(run: &Run, time: Time) -> Vec<Event<'_>> {
    let mut events: Vec<Event<'_>> = Vec::new();
    for one in &run.observations {
        let at = one.at.since_start();
        match one.word {
            Word::Event if events.len() < EVENTS_MAX => events.push(Event {
                name: &one.detail,
                from: at,
                until: None,
                place: None,
            }),
            Word::Undone => {
                let is_its =
                    |event: &&mut Event<'_>| event.until.is_none() && event.name == one.detail;
                if let Some(event) = events.iter_mut().find(is_its) {
                    event.until = Some(at);
                }
            }
            _ => {}
        }
    }
    arrange(&mut events, time);
    events
}

/// Gives each event the first row in which it has room for itself and its name.
fn arrange(events: &mut [Event<'_>], time: Time) {
    let mut taken_until: Vec<f64> = Vec::new();
    for event in events {
        let (naming, begin, end) = event.room(time);
        let free = taken_until.iter().position(|taken| *taken <= begin);
        let row = free.unwrap_or(taken_until.len());
        if row == ROWS_MAX {
            continue;
        }
        taken_until.resize(taken_until.len().max(row + 1), 0.0);
        taken_until[row] = end + 4.0;
        event.place = Some((row, naming));
    }
}

#[cfg(test)]
mod tests {
    use netsim_core::model::World;
    use proptest::prelude::*;

    use super::{super::super::fixture, *};

    #[test]
    fn an_event_lasts_until_it_is_undone() {
        let mut run = fixture::run("open", World::Sim, 1);
        run.observations = vec![
            fixture::saw(1_000, "", Word::Event, "cut"),
            fixture::saw(2_000, "", Word::Event, "rebind"),
            fixture::saw(3_000, "", Word::Undone, "cut"),
            fixture::saw(4_000, "", Word::Event, "cut"),
        ];

        let events = events(&run, Time::of(run.lasted));

        let until: Vec<_> = events.iter().map(|event| event.until).collect();
        assert_eq!(until, [Some(Duration::from_secs(3)), None, None]);
    }

    proptest! {
        #[test]
        fn no_name_covers_another(
            starts in prop::collection::vec((0..60_000_u64, "[a-z]{1,20}"), 0..40),
        ) {
            let mut run = fixture::run("open", World::Sim, 1);
            let mut starts = starts;
            starts.sort_unstable();
            let events_of = starts.iter();
            run.observations = events_of
                .map(|(at, name)| fixture::saw(*at, "", Word::Event, name))
                .collect();
            let time = Time::of(run.lasted);

            let events = events(&run, time);

            for (number, one) in events.iter().enumerate() {
                for other in &events[..number] {
                    let (Some((row, _)), Some((of_other, _))) = (one.place, other.place) else {
                        continue;
                    };
                    let ((_, begin, end), (_, from, until)) = (one.room(time), other.room(time));
                    prop_assert!(row != of_other || begin >= until || end <= from);
                }
            }
        }
    }
}
