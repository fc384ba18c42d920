//! One run of a comparison: what was asked for, and every figure of every round.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{load::Test, machine::Machine, statistics::Spread};

/// One figure of one round.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Sample {
    /// From 1.
    pub round: u32,
    /// Who was measured.
    pub peer: String,
    /// Which test.
    pub test: String,
    /// What of it; the name ends in its unit.
    pub metric: String,
    /// How much.
    pub value: f64,
}

/// A test that came to nothing.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Miscarried {
    /// From 1.
    pub round: u32,
    /// Who was measured.
    pub peer: String,
    /// What was measured, or that it did not start.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// Everything that a comparison has seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Where.
    pub machine: Machine,
    /// The command line.
    pub command: String,
    /// How often everybody had their turn.
    pub rounds: u32,
    /// How long each test was measured, in milliseconds.
    pub window_ms: u64,
    /// Who was measured, in order; ours by their transport.
    pub peers: Vec<Measuree>,
    /// Peers that nobody has put on the PATH.
    pub lacking: Vec<String>,
    /// Every figure.
    pub samples: Vec<Sample>,
    /// Every test without one.
    pub miscarried: Vec<Miscarried>,
}

/// Who was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Measuree {
    /// In samples.
    pub name: String,
    /// Of ours: `ws` or `quic`.
    pub transport: Option<String>,
}

/// What a sample is a figure of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Which test.
    pub test: Test,
    /// What of it.
    pub name: &'static str,
}

impl Run {
    /// All rounds of one figure of one peer.
    pub fn spread(&self, peer: &str, metric: Metric) -> Option<Spread> {
        Spread::of(self.by_round(peer, metric).into_values())
    }

    /// How one peer's median relates to another's in this run.
    pub fn ratio(&self, peer: &str, to: &str, metric: Metric) -> Option<f64> {
        let to = self.spread(to, metric)?.median;
        let ratio = self.spread(peer, metric)?.median / to;
        ratio.is_finite().then_some(ratio)
    }

    /// How two peers relate in each round that has both.
    pub fn ratio_by_round(&self, peer: &str, to: &str, metric: Metric) -> Option<Spread> {
        let (ours, theirs) = (self.by_round(peer, metric), self.by_round(to, metric));
        let both = ours
            .iter()
            .filter_map(|(round, value)| Some(value / theirs.get(round)?));
        Spread::of(both)
    }

    /// One figure of every test that has it, such as the share of other processes.
    pub fn over_all(&self, name: &str) -> Option<Spread> {
        let all = self.samples.iter().filter(|sample| sample.metric == name);
        Spread::of(all.map(|sample| sample.value))
    }

    fn by_round(&self, peer: &str, metric: Metric) -> BTreeMap<u32, f64> {
        let test = metric.test.name();
        self.samples
            .iter()
            .filter(|one| one.peer == peer && one.test == test && one.metric == metric.name)
            .map(|one| (one.round, one.value))
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const SPEED: Metric = Metric {
        test: Test::DownOne,
        name: "mb_per_s",
    };

    /// A run of bulk with these speeds, by peer and round.
    pub(crate) fn run(speeds: &[(&str, &[f64])]) -> Run {
        let sample = |peer: &str, round: usize, value: f64| Sample {
            round: round as u32,
            peer: peer.to_owned(),
            test: Test::DownOne.name(),
            metric: "mb_per_s".to_owned(),
            value,
        };
        let transport = |name: &str| {
            ["ws", "quic"]
                .into_iter()
                .find(|transport| name.ends_with(transport))
                .map(str::to_owned)
        };
        Run {
            machine: Machine::this(),
            command: "sternline-bench compare".to_owned(),
            rounds: 2,
            window_ms: 1000,
            peers: speeds
                .iter()
                .map(|(name, _)| Measuree {
                    name: (*name).to_owned(),
                    transport: transport(name),
                })
                .collect(),
            lacking: Vec::new(),
            samples: speeds
                .iter()
                .flat_map(|(peer, rounds)| {
                    let rounds = rounds.iter().enumerate();
                    rounds.map(|(round, value)| sample(peer, round, *value))
                })
                .collect(),
            miscarried: Vec::new(),
        }
    }

    #[test]
    fn a_ratio_is_that_of_the_medians_and_its_range_that_of_the_rounds() {
        let run = run(&[("ours", &[10.0, 40.0]), ("theirs", &[10.0, 20.0])]);

        let by_round = run.ratio_by_round("ours", "theirs", SPEED).unwrap();

        assert_eq!(run.ratio("ours", "theirs", SPEED), Some(25.0 / 15.0));
        assert_eq!((by_round.least, by_round.most), (1.0, 2.0));
    }

    #[test]
    fn there_is_no_ratio_to_what_was_not_measured() {
        let run = run(&[("ours", &[10.0]), ("theirs", &[])]);

        assert_eq!(run.ratio("ours", "theirs", SPEED), None);
        assert_eq!(run.ratio("theirs", "ours", SPEED), None);
    }
}
