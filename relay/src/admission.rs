//! May this connection come in now; if not, when? Pure: what time it is, and what the
//! machine did meanwhile, are arguments.
//!
//! ```text
//!  arrives ──► bucket: a token? ──yes──► handshake ──► calibration: what did it cost?
//!                 │ no                                      │ rate
//!                 ▼                                         ▼
//!              calendar: the next free time ◄───────────────┘
//! ```
//!
//! Everybody who is turned away is told a time, and the times are as far apart as handshakes
//! are: a restart with 100,000 agents is a queue, and not a storm. Whoever keeps a time costs
//! one more try; whoever does not hear it draws within the advertised window, which is made of
//! the same rate. Measured in the model of `benches` (`sternline-bench storm`).

mod bucket;
mod calendar;
mod calibration;

use std::time::{Duration, Instant};

use self::{bucket::Bucket, calendar::Calendar};
pub use self::{
    calendar::Fleet,
    calibration::{Calibration, Sample},
};
use crate::limits::{ADMISSION_BURST, ADMISSION_BURST_MIN, OPERATORS_SHARE, WINDOW_LOAD};

/// Where somebody comes in, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The tunnel over TCP: a refusal can say when to come back.
    Tunnel,
    /// The tunnel over QUIC: a refusal says nothing, and who gets one comes by TCP at once.
    TunnelQuic,
    /// HTTPS: operators, and agents whose network lets nothing else out.
    Https,
}

/// What becomes of who comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// In.
    Admit,
    /// In, on what is kept for operators: an agent is to be sent away.
    AdmitOperator,
    /// Not now, and when.
    Later(Duration),
    /// Not now. It is not told when.
    Refuse,
}

/// How many handshakes a second are taken.
#[derive(Debug, Clone)]
pub enum Rate {
    /// As many as somebody said.
    Fixed(f64),
    /// As many as this machine turned out to do.
    Calibrated(Calibration),
}

impl Rate {
    fn per_second(&self) -> f64 {
        match self {
            Self::Fixed(rate) => *rate,
            Self::Calibrated(calibration) => calibration.rate(),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Admission {
    rate: Rate,
    /// For everybody.
    bucket: Bucket,
    /// Beside it, for who comes by HTTPS and finds the other one empty.
    operators: Bucket,
    calendar: Calendar,
    fleet: Fleet,
    admitted: u64,
}

impl Admission {
    /// Full of tokens, and with an empty calendar.
    pub fn new(now: Instant, rate: Rate) -> Self {
        let mut admission = Self {
            rate,
            bucket: Bucket::new(now),
            operators: Bucket::new(now),
            calendar: Calendar::new(now),
            fleet: Fleet::default(),
            admitted: 0,
        };
        admission.measure();
        let (bucket, operators) = (&mut admission.bucket, &mut admission.operators);
        bucket.fill();
        operators.fill();
        admission
    }

    /// Decides about somebody who has just come.
    pub fn arrive(&mut self, now: Instant, door: Door) -> Verdict {
        let verdict = if self.bucket.take(now) {
            Verdict::Admit
        } else {
            match door {
                Door::TunnelQuic => Verdict::Refuse,
                Door::Https if self.operators.take(now) => Verdict::AdmitOperator,
                Door::Https => Verdict::Refuse,
                Door::Tunnel => Verdict::Later(self.book(now)),
            }
        };
        // Who was refused without a time comes again at once by another door.
        if verdict != Verdict::Refuse {
            self.calendar.note_arrival(now);
        }
        self.admitted += u64::from(matches!(verdict, Verdict::Admit | Verdict::AdmitOperator));
        verdict
    }

    /// A time for somebody for whom there is a token, and nothing else.
    pub fn book(&mut self, now: Instant) -> Duration {
        self.calendar.book(now, self.bucket.rate(), self.fleet)
    }

    /// Says who is still to come: by it the calendar knows which times will be free.
    pub const fn expect(&mut self, fleet: Fleet) {
        self.fleet = fleet;
    }

    /// Learns from what the machine did. Nothing where the rate is fixed.
    pub fn learn(&mut self, now: Instant, sample: Sample) {
        if let Rate::Calibrated(calibration) = &mut self.rate {
            calibration.learn(sample);
            // What has run up until now has done so at the former rate.
            self.bucket.advance(now);
            self.operators.advance(now);
            self.measure();
        }
    }

    /// Handshakes in a second, over all doors.
    pub fn rate(&self) -> f64 {
        self.rate.per_second()
    }

    /// What a handshake costs, in processor time; `None` where that is not learnt.
    pub fn cost(&self) -> Option<Duration> {
        match &self.rate {
            Rate::Calibrated(calibration) => Some(calibration.cost()),
            Rate::Fixed(_) => None,
        }
    }

    /// Over how long so many agents are to spread. Below what is admitted, so that chance alone
    /// sends few away.
    pub fn window(&self, agents: u32) -> Duration {
        let rate = self.bucket.rate() * WINDOW_LOAD;
        Duration::from_secs_f64(f64::from(agents) / rate)
    }

    /// How many were let in since the last call.
    pub const fn take_admitted(&mut self) -> u64 {
        std::mem::replace(&mut self.admitted, 0)
    }

    /// How many have a time that is still to come.
    pub fn booked(&mut self, now: Instant) -> u64 {
        self.calendar.booked(now)
    }

    fn measure(&mut self) {
        let rate = self.rate.per_second();
        let burst = |rate: f64| (rate * ADMISSION_BURST.as_secs_f64()).max(ADMISSION_BURST_MIN);
        let of_operators = rate * OPERATORS_SHARE;
        self.operators.measure(of_operators, burst(of_operators));
        self.bucket.measure(rate, burst(rate));
    }
}

#[cfg(test)]
mod tests;
