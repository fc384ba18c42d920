//! What became of each host, for its lane: when it was online, over what, and what else
//! happened to it.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use netsim_core::{model::Word, term::Name};

use crate::outcome::Run;

/// The most lanes of a picture: as many as are seen at once.
pub(super) const LANES_MAX: usize = 20;

/// A host's part of a run.
#[derive(Debug)]
pub(super) struct Lane<'a> {
    /// Which.
    pub(super) host: &'a Name,
    /// When it was online, in order.
    pub(super) bands: Vec<Band<'a>>,
    /// What happened, in order.
    pub(super) marks: Vec<(Duration, Mark, &'a str)>,
    /// When one end knew nothing of its session.
    pub(super) half_open: Vec<(Duration, Duration)>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Band<'a> {
    pub(super) from: Duration,
    pub(super) until: Duration,
    /// Over what.
    pub(super) transport: &'a str,
}

/// What is marked on a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    Attempt,
    Refused,
    Done,
    Resumed,
    Reset,
    Deployed,
    Alarm,
}

impl Mark {
    pub(super) const ALL: [Self; 7] = [
        Self::Attempt,
        Self::Refused,
        Self::Done,
        Self::Resumed,
        Self::Reset,
        Self::Deployed,
        Self::Alarm,
    ];

    const fn of(word: Word) -> Option<Self> {
        match word {
            Word::Attempt => Some(Self::Attempt),
            Word::Refused => Some(Self::Refused),
            Word::StreamDone => Some(Self::Done),
            Word::StreamResumed => Some(Self::Resumed),
            Word::StreamReset => Some(Self::Reset),
            Word::Deployed => Some(Self::Deployed),
            Word::Corrupted
            | Word::DeployedTwice
            | Word::InboundFlow
            | Word::Listening
            | Word::Leaked
            | Word::Panicked => Some(Self::Alarm),
            Word::Online
            | Word::Offline
            | Word::StreamOpened
            | Word::HalfOpen
            | Word::Closed
            | Word::Event
            | Word::Undone => None,
        }
    }

    /// Its symbol's name on the page.
    pub(super) const fn symbol(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Refused => "refused",
            Self::Done => "done",
            Self::Resumed => "resumed",
            Self::Reset => "reset",
            Self::Deployed => "deployed",
            Self::Alarm => "alarm",
        }
    }

    /// What it stands for.
    pub(super) const fn says(self) -> &'static str {
        match self {
            Self::Attempt => "attempt to connect",
            Self::Refused => "refused",
            Self::Done => "stream done",
            Self::Resumed => "stream resumed",
            Self::Reset => "stream reset",
            Self::Deployed => "deployed",
            Self::Alarm => "must not be: deployed twice, flow from outside, listening, leak",
        }
    }

    /// Whether it is about connections, and not about what they carry.
    pub(super) const fn is_of_connection(self) -> bool {
        matches!(self, Self::Attempt | Self::Refused | Self::Alarm)
    }
}

/// Every host of which something was seen, in order of names with numbers in their own
/// order.
pub(super) fn lanes(run: &Run) -> Vec<Lane<'_>> {
    let mut lanes: BTreeMap<(&str, u64, &Name), Lane<'_>> = BTreeMap::new();
    for one in &run.observations {
        let Some(host) = &one.host else { continue };
        let lane = lanes.entry(natural(host)).or_insert_with(|| Lane::of(host));
        let at = one.at.since_start();
        match one.word {
            Word::Online => {
                lane.end_band(at);
                lane.bands.push(Band {
                    from: at,
                    until: Duration::MAX,
                    transport: &one.detail,
                });
            }
            Word::Offline => lane.end_band(at),
            Word::HalfOpen => lane.half_open.push((at, Duration::MAX)),
            Word::Closed => {
                let open = lane.half_open.iter_mut();
                for (_, until) in open.filter(|(_, until)| *until == Duration::MAX) {
                    *until = at;
                }
            }
            word => {
                let mark = Mark::of(word);
                let detail = match word {
                    // Its word says more than its mark.
                    Word::DeployedTwice | Word::InboundFlow | Word::Listening | Word::Leaked => {
                        word.as_str()
                    }
                    _ => &one.detail,
                };
                lane.marks.extend(mark.map(|mark| (at, mark, detail)));
            }
        }
    }
    for sample in &run.samples {
        let host = &sample.host;
        lanes.entry(natural(host)).or_insert_with(|| Lane::of(host));
    }
    let mut lanes: Vec<_> = lanes.into_values().collect();
    lanes.iter_mut().for_each(|lane| lane.end(run.lasted));
    lanes
}

/// `agent-2` before `agent-10`.
fn natural(host: &Name) -> (&str, u64, &Name) {
    let text = host.as_str();
    let digits = text.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (stem, number) = text.split_at(text.len() - digits);
    (stem, number.parse().unwrap_or(0), host)
}

impl<'a> Lane<'a> {
    const fn of(host: &'a Name) -> Self {
        Self {
            host,
            bands: Vec::new(),
            marks: Vec::new(),
            half_open: Vec::new(),
        }
    }

    fn end_band(&mut self, at: Duration) {
        if let Some(band) = self.bands.last_mut() {
            band.until = band.until.min(at);
        }
    }

    /// The run has ended: so has what was left.
    fn end(&mut self, lasted: Duration) {
        self.end_band(lasted);
        for (_, until) in &mut self.half_open {
            *until = (*until).min(lasted);
        }
    }

    /// How long it was online.
    pub(super) fn online(&self) -> Duration {
        let spans = self.bands.iter();
        spans.map(|band| band.until.saturating_sub(band.from)).sum()
    }

    /// What went wrong with it, in number.
    fn troubles(&self) -> usize {
        let wrong = |mark: Mark| matches!(mark, Mark::Refused | Mark::Reset | Mark::Alarm);
        let marks = self.marks.iter();
        marks.filter(|(_, mark, _)| wrong(*mark)).count() + self.half_open.len()
    }
}

/// The lanes that are drawn, in their order: those that a failure names, then those with
/// the most trouble and the least time online.
pub(super) fn shown<'l, 'a>(lanes: &'l [Lane<'a>], run: &Run) -> Vec<&'l Lane<'a>> {
    let failures = run.failures();
    let words = failures.iter().flat_map(|sentence| {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        sentence.split(move |c| !is_of_name(c))
    });
    let named: BTreeSet<&str> = words.collect();
    let mut ranked: Vec<_> = lanes.iter().enumerate().collect();
    ranked.sort_by_key(|(place, lane)| {
        let is_named = named.contains(lane.host.as_str());
        (!is_named, Reverse(lane.troubles()), lane.online(), *place)
    });
    ranked.truncate(LANES_MAX);
    ranked.sort_by_key(|(place, _)| *place);
    ranked.into_iter().map(|(_, lane)| lane).collect()
}

#[cfg(test)]
mod tests {
    use netsim_core::{expect::Outcome, model::World};

    use super::{super::super::fixture, *};

    #[test]
    fn a_lane_has_a_band_for_each_session_with_its_transport() {
        let run = fixture::run("open", World::Sim, 1);

        let lanes = lanes(&run);

        let band = |from, until, transport| Band {
            from: Duration::from_millis(from),
            until: Duration::from_millis(until),
            transport,
        };
        assert_eq!(
            lanes[0].bands,
            [band(180, 24_500, "quic"), band(31_137, 60_000, "ws")]
        );
        assert_eq!(lanes[0].online(), Duration::from_millis(53_183));
    }

    #[test]
    fn lanes_are_in_order_of_numbers_and_those_that_failed_are_shown() {
        let mut run = fixture::fleet(1_000);
        run.checks[0].outcome = Outcome::Failed {
            at: fixture::at(1),
            why: "agent-777: online was not observed".to_owned(),
        };

        let lanes = lanes(&run);
        let shown = shown(&lanes, &run);

        assert_eq!(lanes.len(), 1_000);
        assert_eq!(lanes[10].host.as_str(), "agent-10");
        assert_eq!(shown.len(), LANES_MAX);
        assert!(shown.iter().any(|lane| lane.host.as_str() == "agent-777"));
    }

    #[test]
    fn a_half_open_session_lasts_until_it_is_closed_or_the_run_ends() {
        let mut run = fixture::run("open", World::Sim, 1);
        run.observations = vec![
            fixture::saw(1_000, "agent", Word::HalfOpen, ""),
            fixture::saw(2_000, "agent", Word::Closed, ""),
            fixture::saw(3_000, "agent", Word::HalfOpen, ""),
        ];

        let half_open: Vec<_> = lanes(&run)[0]
            .half_open
            .iter()
            .map(|(from, until)| (from.as_secs(), until.as_secs()))
            .collect();

        assert_eq!(half_open, [(1, 2), (3, 60)]);
    }
}
