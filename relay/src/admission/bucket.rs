//! A token bucket.

use std::time::Instant;

/// Fills by its rate up to its burst. Time must not run backwards; where it does, it stands.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: f64,
    rate: f64,
    burst: f64,
    at: Instant,
}

impl Bucket {
    /// Empty, and never filled until it is measured.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            tokens: 0.0,
            rate: 0.0,
            burst: 0.0,
            at: now,
        }
    }

    /// Sets tokens in a second, and how many there may be.
    pub(super) const fn measure(&mut self, rate: f64, burst: f64) {
        self.rate = rate;
        self.burst = burst;
        self.tokens = self.tokens.min(burst);
    }

    /// As if nobody had come for long.
    pub(super) const fn fill(&mut self) {
        self.tokens = self.burst;
    }

    /// Takes in what has run up.
    pub(super) fn advance(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = elapsed.mul_add(self.rate, self.tokens).min(self.burst);
        self.at = self.at.max(now);
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.advance(now);
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }

    /// Tokens in a second.
    pub(super) const fn rate(&self) -> f64 {
        self.rate
    }
}
