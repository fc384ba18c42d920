//! Cables: what lies between two ends, and what it does to packets.

use std::{fmt, time::Duration};

use toml::Value;

use crate::term::{At, Choice, Name, Probability, Rate, Scalar, Size, record, words};

words! {
    /// A side of an edge.
    pub enum Side as "side" {
        /// The customer's.
        "inside" Inside,
        /// The world's.
        "outside" Outside,
    }
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Inside => Self::Outside,
            Self::Outside => Self::Inside,
        }
    }
}

/// Where a cable ends: at a host, or on a side of an edge.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct End {
    /// The host or the edge.
    pub node: Name,
    /// The side, where it is an edge.
    pub side: Option<Side>,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            Some(side) => write!(f, "{}:{side}", self.node),
            None => write!(f, "{}", self.node),
        }
    }
}

impl Scalar for End {
    const KIND: &'static str = "`HOST`, `EDGE:inside` or `EDGE:outside`";

    fn blank() -> Self {
        Self {
            node: Name::default(),
            side: None,
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let (node, side) = match text.split_once(':') {
            Some((node, side)) => (node, Some(Side::from_text(side)?)),
            None => (text, None),
        };
        Ok(Self {
            node: Name::from_text(node)?,
            side,
        })
    }

    fn to_value(&self) -> Value {
        Value::String(self.to_string())
    }
}

record! {
    /// A line between two ends. Where an end is a host of several copies, each copy has
    /// a cable of its own.
    pub struct Cable {
        /// What events call it.
        "name" name: At<Name>,
        /// Its two ends.
        "ends" ends: Vec<At<End>>,
        /// What it does to packets, in both directions.
        "line" line: Line = Line::IDEAL,
        /// What it does from the second end to the first, where that differs.
        "back" back: Option<Line> = None,
        /// Whether it is plugged in from the start; a VPN's is not.
        "up" up: bool = true,
    }
}

words! {
    /// How jitter is distributed.
    pub enum Shape as "shape" {
        /// Anything up to the spread, all alike.
        "uniform" Uniform,
        /// Around nothing, with the spread as deviation; never early.
        "normal" Normal,
        /// Mostly little, rarely much: Pareto with the exponent 3 and mean half the spread.
        "pareto" Pareto,
    }
}

record! {
    /// How much later than the delay a packet may be. Jitter delays, and never reorders.
    pub struct Jitter {
        /// How it is distributed.
        "shape" shape: Shape = Shape::Uniform,
        /// How wide it is.
        "spread" spread: Choice<Duration>,
    }
}

record! {
    /// Loss in bursts (Gilbert and Elliott): a good state and a bad one, changed between
    /// by the packet.
    pub struct Bursts {
        /// From good to bad, a packet.
        "enter" enter: Choice<Probability>,
        /// From bad to good, a packet; 1/this is how long a burst is.
        "leave" leave: Choice<Probability>,
        /// Lost in the bad state.
        "bad" bad: Choice<Probability>,
        /// Lost in the good state.
        "good" good: Choice<Probability> = Choice::Fixed(Probability::default()),
    }
}

record! {
    /// Packets that are overtaken by later ones.
    pub struct Reorder {
        /// How often.
        "share" share: Choice<Probability>,
        /// How much longer than others such a packet is under way.
        "by" by: Choice<Duration>,
    }
}

words! {
    /// What becomes of a packet that does not fit the MTU and may not be fragmented.
    pub enum TooBig as "answer" {
        /// Its sender hears so: ICMP fragmentation needed, or packet too big.
        "icmp" Icmp,
        /// It is gone, and nobody hears of it: a black hole.
        "silence" Silence,
    }
}

record! {
    /// What a line does to packets.
    pub struct Line {
        /// How long a packet is under way.
        "delay" delay: Choice<Duration> = Choice::Fixed(Duration::ZERO),
        /// How much later it may be.
        "jitter" jitter: Option<Jitter> = None,
        /// Packets lost, each for itself.
        "loss" loss: Choice<Probability> = Choice::Fixed(Probability::default()),
        /// Packets lost in bursts.
        "bursts" bursts: Option<Bursts> = None,
        /// Packets that are overtaken.
        "reorder" reorder: Option<Reorder> = None,
        /// Packets that arrive twice.
        "duplicate" duplicate: Choice<Probability> = Choice::Fixed(Probability::default()),
        /// Packets of which one bit is turned round.
        "corrupt" corrupt: Choice<Probability> = Choice::Fixed(Probability::default()),
        /// How fast it is; without this, as fast as anybody sends.
        "rate" rate: Option<Choice<Rate>> = None,
        /// How much waits for its turn; what does not fit is lost.
        "queue" queue: Choice<Size> = Choice::Fixed(Line::QUEUE),
        /// The longest packet.
        "mtu" mtu: At<Choice<u32>> = At::nowhere(Choice::Fixed(1500)),
        /// What a longer packet gets.
        "too-big" too_big: TooBig = TooBig::Icmp,
    }
}

impl Line {
    /// The usual queue of a home router (Gettys and Nichols 2011 measured 64 KiB to MiB).
    const QUEUE: Size = Size { bytes: 256 * 1024 };

    /// A line that does nothing to packets.
    pub const IDEAL: Self = Self {
        delay: Choice::Fixed(Duration::ZERO),
        jitter: None,
        loss: Choice::Fixed(Probability::NONE),
        bursts: None,
        reorder: None,
        duplicate: Choice::Fixed(Probability::NONE),
        corrupt: Choice::Fixed(Probability::NONE),
        rate: None,
        queue: Choice::Fixed(Self::QUEUE),
        mtu: At::nowhere(Choice::Fixed(1500)),
        too_big: TooBig::Icmp,
    };
}
