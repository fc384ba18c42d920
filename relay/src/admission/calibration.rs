//! How many handshakes in a second this machine does, from what they cost it.
//!
//! The processor time of the whole process, over the handshakes that it finished meanwhile:
//! so nothing that belongs to one is forgotten (the kernel's part, the store's), and where
//! streams need the processors too, each handshake seems to cost more and fewer are let in,
//! until both together take the share that is meant for them. Only times in which handshakes
//! are what the machine does tell anything; at rest, what was learnt stays. And where the
//! processors are not full, what a handshake costs is no less than it would be if they were:
//! then only less is believed. While a crowd begins or ends, what has begun and what has ended
//! are of different times, and no cost is learnt from either, unless those that begin wait.
//!
//! What others on the machine take, the process does not see in its own time. But where work
//! lies about, the processor time that it got is all that there is for it; and where none
//! does, though as many come in as may, there is a little more.

use std::time::Duration;

use crate::limits::{
    HANDSHAKE_COST_GUESS, HANDSHAKE_RATE_MAX, HANDSHAKE_RATE_MIN, PROCESSOR_SHARE,
};

/// Fewer handshakes than this say nothing.
const HANDSHAKES_MIN: u64 = 16;

/// From this part of the rate on, handshakes are what the machine does.
const STORM: f64 = 0.5;

/// From this part of the rate on, more would have come in if they might.
const WANTED: f64 = 0.9;

/// By which part of the larger one those that begin and those that end may differ, in a time
/// that tells what one costs.
const UNSTEADY: f64 = 0.35;

/// What former samples count for beside a new one.
const MEMORY: f64 = 0.85;

/// As many handshakes does the first guess count for.
const GUESS_WEIGHT: f64 = 32.0;

/// In seconds: no machine does a handshake in less, and a rate is no division by nothing.
const COST_MIN: f64 = 1e-6;

/// Whoever waits in the mean for as long as so many handshakes take waits behind more than
/// a burst: the processors do not keep up.
const LATE: f64 = 8.0;

/// With as many before it, none waits to speak of.
const PROMPT: f64 = 2.0;

/// By what the processors are believed to be more again where none waits.
const RAISE: f64 = 1.05;

/// Of how much of a processor a relay is sure: others are on the machine, and not a hundred.
const PROCESSORS_MIN: f64 = 0.05;

/// What the machine did in a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sample {
    /// The while.
    pub elapsed: Duration,
    /// Processor time of the process, in it.
    pub processor_time: Duration,
    /// How many were let in.
    pub admitted: u64,
    /// How many were done, in whatever way.
    pub finished: u64,
    /// How long who was let in waited for a processor, in the mean.
    pub lateness: Duration,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Calibration {
    /// Those of the machine, and what is left of them by others.
    processors: f64,
    available: f64,
    /// Seconds of processor time, and the handshakes that they were spent on.
    seconds: f64,
    handshakes: f64,
}

impl Calibration {
    /// Begins with a guess for a machine with so many processors.
    pub fn new(processors: usize) -> Self {
        Self::resuming(processors, HANDSHAKE_COST_GUESS)
    }

    /// Begins with what a former run on this machine has learnt.
    pub fn resuming(processors: usize, cost: Duration) -> Self {
        let processors = f64::from(u32::try_from(processors.max(1)).unwrap_or(u32::MAX));
        Self {
            processors,
            available: processors,
            seconds: cost.as_secs_f64().max(COST_MIN) * GUESS_WEIGHT,
            handshakes: GUESS_WEIGHT,
        }
    }

    /// Handshakes in a second that leave the rest of the machine to others.
    pub fn rate(&self) -> f64 {
        let rate = self.available * PROCESSOR_SHARE * self.handshakes / self.seconds;
        rate.clamp(HANDSHAKE_RATE_MIN, HANDSHAKE_RATE_MAX)
    }

    /// What a handshake costs, in processor time.
    pub fn cost(&self) -> Duration {
        Duration::from_secs_f64(self.seconds / self.handshakes)
    }

    /// Learns from a while.
    pub fn learn(&mut self, sample: Sample) {
        let admitted = sample.admitted as f64;
        let finished = sample.finished as f64;
        let spent = sample.processor_time.as_secs_f64();
        let elapsed = sample.elapsed.as_secs_f64();
        let queued = sample.lateness.as_secs_f64() * self.handshakes / self.seconds;
        let load = admitted / (self.rate() * elapsed).max(f64::EPSILON);
        if sample.finished < HANDSHAKES_MIN || (load < STORM && queued <= LATE) {
            return;
        }
        let got = spent / elapsed.max(f64::EPSILON);
        // What has begun and what has ended: those under way have cost half, as it were.
        let handshakes = f64::midpoint(admitted, finished);
        // Below the share that is meant for them, handshakes wake somebody up one by one, and
        // cost up to half as much again.
        let is_saturated = got >= PROCESSOR_SHARE * self.processors || queued > LATE;
        let is_cheaper = spent * self.handshakes < self.seconds * handshakes;
        let is_steady = (admitted - finished).abs() <= UNSTEADY * admitted.max(finished);
        // Where far more begin than end, and wait for it, the rate is wrong, however steady.
        let is_flooded = queued > LATE && admitted > finished;
        if (is_steady || is_flooded) && (is_saturated || is_cheaper) {
            self.seconds = self.seconds.mul_add(MEMORY, spent.max(f64::EPSILON));
            self.handshakes = self.handshakes.mul_add(MEMORY, handshakes);
        }
        if queued > LATE {
            self.available = f64::midpoint(self.available, got);
        } else if queued < PROMPT && load >= WANTED {
            self.available *= RAISE;
        }
        self.available = self.available.clamp(PROCESSORS_MIN, self.processors);
    }
}
