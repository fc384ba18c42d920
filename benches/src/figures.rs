//! The figures that Sternline is to reach, and whether a run has reached them.

use crate::{
    load::Test,
    run::{Metric, Run},
};

/// Whom ratios are relative to.
pub const REFERENCE: &str = "rathole-tls";

/// One figure that is to be reached.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// What, in words.
    pub words: &'static str,
    /// Over which transports.
    pub transports: &'static [&'static str],
    /// What is measured.
    pub metric: Metric,
    /// What it is to be.
    pub bound: Bound,
}

/// What a figure is to be.
#[derive(Debug, Clone, Copy)]
pub enum Bound {
    /// At least so many times [`REFERENCE`] in the same run.
    RatioAtLeast(f64),
    /// At most so many times [`REFERENCE`] in the same run.
    RatioAtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

const BOTH: &[&str] = &["ws", "quic"];
const WS: &[&str] = &["ws"];
const QUIC: &[&str] = &["quic"];

const fn figure(
    words: &'static str,
    transports: &'static [&'static str],
    (test, name): (Test, &'static str),
    bound: Bound,
) -> Figure {
    Figure {
        words,
        transports,
        metric: Metric { test, name },
        bound,
    }
}

/// All of them.
pub const FIGURES: [Figure; 13] = [
    figure(
        "one stream down",
        WS,
        (Test::DownOne, "mb_per_s"),
        Bound::RatioAtLeast(1.0),
    ),
    figure(
        "one stream up",
        WS,
        (Test::UpOne, "mb_per_s"),
        Bound::RatioAtLeast(1.0),
    ),
    figure(
        "16 streams down",
        WS,
        (Test::DownMany, "mb_per_s"),
        Bound::RatioAtLeast(1.0),
    ),
    figure(
        "16 streams up",
        WS,
        (Test::UpMany, "mb_per_s"),
        Bound::RatioAtLeast(1.0),
    ),
    figure(
        "one stream down",
        QUIC,
        (Test::DownOne, "mb_per_s"),
        Bound::RatioAtLeast(0.8),
    ),
    figure(
        "one stream up",
        QUIC,
        (Test::UpOne, "mb_per_s"),
        Bound::RatioAtLeast(0.8),
    ),
    figure(
        "new stream and echo, p50",
        BOTH,
        (Test::Connect, "p50_us"),
        Bound::RatioAtMost(0.4),
    ),
    figure(
        "new streams per second, 16 at a time",
        BOTH,
        (Test::ConnectMany, "per_s"),
        Bound::RatioAtLeast(8.0),
    ),
    figure(
        "HTTP requests per second, 64 connections",
        BOTH,
        (Test::Http, "per_s"),
        Bound::RatioAtLeast(1.0),
    ),
    figure(
        "ping on one processor, p50",
        BOTH,
        (Test::PingPinned, "p50_us"),
        Bound::RatioAtMost(1.2),
    ),
    figure(
        "ping beside a download, p50 in µs",
        BOTH,
        (Test::PingBeside, "p50_us"),
        Bound::AtMost(400.0),
    ),
    figure(
        "ping beside a download, p99 in µs",
        BOTH,
        (Test::PingBeside, "p99_us"),
        Bound::AtMost(5000.0),
    ),
    figure(
        "speed kept beside a stalled reader",
        BOTH,
        (Test::Stalled, "kept_ratio"),
        Bound::AtLeast(0.8),
    ),
];

/// What a run says of a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// In the bound's unit.
    pub measured: f64,
    /// Whether it is within the bound.
    pub is_reached: bool,
}

impl Figure {
    /// What a run says of it for one of ours; `None` where it was not measured.
    pub fn verdict(&self, run: &Run, peer: &str) -> Option<Verdict> {
        let measured = match self.bound {
            Bound::RatioAtLeast(_) | Bound::RatioAtMost(_) => {
                run.ratio(peer, REFERENCE, self.metric)
            }
            Bound::AtLeast(_) | Bound::AtMost(_) => {
                run.spread(peer, self.metric).map(|spread| spread.median)
            }
        }?;
        let is_reached = match self.bound {
            Bound::RatioAtLeast(least) | Bound::AtLeast(least) => measured >= least,
            Bound::RatioAtMost(most) | Bound::AtMost(most) => measured <= most,
        };
        Some(Verdict {
            measured,
            is_reached,
        })
    }
}

impl Bound {
    /// As a reader knows it.
    pub fn words(self) -> String {
        match self {
            Self::RatioAtLeast(bound) => format!("≥ {bound}× {REFERENCE}"),
            Self::RatioAtMost(bound) => format!("≤ {bound}× {REFERENCE}"),
            Self::AtLeast(bound) => format!("≥ {bound}"),
            Self::AtMost(bound) => format!("≤ {bound}"),
        }
    }

    /// A measured value as it is written beside the bound.
    pub fn show(self, measured: f64) -> String {
        match self {
            Self::RatioAtLeast(_) | Self::RatioAtMost(_) => format!("{measured:.2}×"),
            Self::AtLeast(_) => format!("{measured:.2}"),
            Self::AtMost(_) => format!("{measured:.0}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::{SPEED, run};

    fn verdict(bound: Bound) -> Option<Verdict> {
        let run = run(&[("sternline-ws", &[10.0]), (REFERENCE, &[20.0])]);
        let figure = Figure {
            words: "speed",
            transports: BOTH,
            metric: SPEED,
            bound,
        };
        figure.verdict(&run, "sternline-ws")
    }

    #[test]
    fn a_ratio_is_judged_against_the_reference_of_the_same_run() {
        let is_reached = |bound| verdict(bound).map(|verdict| verdict.is_reached);

        assert_eq!(is_reached(Bound::RatioAtLeast(0.5)), Some(true));
        assert_eq!(is_reached(Bound::RatioAtLeast(0.51)), Some(false));
        assert_eq!(is_reached(Bound::RatioAtMost(0.5)), Some(true));
        assert_eq!(is_reached(Bound::RatioAtMost(0.49)), Some(false));
    }

    #[test]
    fn an_absolute_figure_needs_no_reference() {
        let is_reached = |bound| verdict(bound).map(|verdict| verdict.is_reached);

        assert_eq!(is_reached(Bound::AtLeast(10.0)), Some(true));
        assert_eq!(is_reached(Bound::AtMost(9.0)), Some(false));
    }

    #[test]
    fn what_was_not_measured_is_neither_reached_nor_missed() {
        let run = run(&[("sternline-ws", &[10.0])]);

        assert_eq!(FIGURES[0].verdict(&run, "sternline-ws"), None);
    }
}
