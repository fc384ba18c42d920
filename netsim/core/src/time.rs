//! Time as the simulator counts it: nanoseconds since a run began.
//!
//! Not `std::time::Instant`, which only a clock can make: every instant here is an
//! argument, so that the same code runs in virtual time and beside a real kernel.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

/// A moment of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(Duration);

impl Instant {
    /// The beginning of the run.
    pub const START: Self = Self(Duration::ZERO);

    /// The moment that long after the beginning.
    pub const fn at(since_start: Duration) -> Self {
        Self(since_start)
    }

    /// How long after the beginning.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// How long after an earlier moment; zero where that is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates: a timer of centuries is one that never fires.
    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Saturates at the beginning.
    fn sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0.as_secs(), self.0.subsec_micros())
    }
}
