//! A storm without a machine: the agents' own backoff and the relay's own admission over a
//! model of its processors, in virtual time.
//!
//! What is modelled is one queue of handshakes that takes what was measured, answers that
//! cost a fiftieth of one, and a dialler's timeout. Round trips and losses are not.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use relay::admission::{Admission, Calibration, Door, Fleet, Rate, Sample, Verdict};
use serde::{Deserialize, Serialize};
use wire::{backoff::Backoff, close::Retry, limits::HANDSHAKE_TIMEOUT};

/// How often a relay looks at what handshakes cost.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Within this every agent has noticed that the relay is gone.
const NOTICED_WITHIN: Duration = Duration::from_millis(300);

/// What turning one away costs, in handshakes: a fiftieth.
const REFUSALS_PER_HANDSHAKE: u32 = 50;

/// A storm that is not over by then has failed.
const GIVE_UP: Duration = Duration::from_secs(3_600);

/// What happens.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    /// Agents that had a session.
    pub agents: u32,
    /// Handshakes that the machine does in a second, with all of its processors.
    pub per_second: f64,
    /// Those.
    pub processors: usize,
    /// For how long nobody listens.
    pub outage: Duration,
    /// Whether agents know a window.
    pub has_window: bool,
    /// What is drawn.
    pub seed: u64,
}

/// What came of it; times from when the relay listens again.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Half, nine tenths and all of the agents were back.
    pub half: f64,
    /// See `half`.
    pub most: f64,
    /// See `half`.
    pub all: f64,
    /// The least time that is possible: agents over handshakes in a second.
    pub floor: f64,
    /// Tries of an agent, in the mean.
    pub attempts: f64,
    /// Handshakes that were done and whose dialler had gone.
    pub wasted: u32,
    /// Agents that did not come back.
    pub missing: u32,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Look,
    Try(u32),
    Done { agent: u32, came: Instant },
}

/// Runs it.
pub fn run(storm: Storm) -> Outcome {
    Model::new(storm).run()
}

struct Model {
    storm: Storm,
    dice: Dice,
    events: BinaryHeap<Reverse<(Instant, Event)>>,
    agents: Vec<(Backoff, u32)>,
    /// As the relay that is gone advertised it.
    window: Duration,
    listens_at: Instant,
    admission: Option<Admission>,
    busy_until: Instant,
    back: Vec<Duration>,
    wasted: u32,
    seen: Seen,
}

/// What a relay sees between two looks.
#[derive(Default)]
struct Seen {
    finished: u32,
    began: u32,
    waited: Duration,
}

impl Model {
    fn new(storm: Storm) -> Self {
        let start = Instant::now();
        let learnt = Admission::new(start, Rate::Calibrated(learnt(&storm)));
        let window = match storm.has_window {
            true => learnt.window(storm.agents),
            false => Duration::ZERO,
        };
        let listens_at = start + storm.outage;
        let mut model = Self {
            dice: Dice(storm.seed),
            events: BinaryHeap::new(),
            agents: (0..storm.agents).map(|_| (Backoff::new(), 0)).collect(),
            window,
            listens_at,
            admission: None,
            busy_until: listens_at,
            back: Vec::new(),
            wasted: 0,
            seen: Seen::default(),
            storm,
        };
        for agent in 0..storm.agents {
            let noticed = start + NOTICED_WITHIN.mul_f64(model.dice.unit());
            model.try_again(noticed, agent, Retry::Backoff);
        }
        model.events.push(Reverse((listens_at, Event::Look)));
        model
    }

    fn run(mut self) -> Outcome {
        while let Some(Reverse((now, event))) = self.events.pop() {
            let is_over = self.back.len() == self.agents.len();
            if is_over || now > self.listens_at + GIVE_UP {
                break;
            }
            match event {
                Event::Look => self.look(now),
                Event::Try(agent) => self.attempt(now, agent),
                Event::Done { agent, came } => self.done(now, agent, came),
            }
        }
        self.outcome()
    }

    /// The relay looks at what it did; the first time, it begins to listen.
    fn look(&mut self, now: Instant) {
        let cost = self.storm.processors as f64 / self.storm.per_second;
        let seen = std::mem::take(&mut self.seen);
        // A relay begins with what the one before has learnt; a new one has its guess.
        let learnt = match self.storm.has_window {
            true => Calibration::resuming(self.storm.processors, learnt(&self.storm).cost()),
            false => Calibration::new(self.storm.processors),
        };
        let learnt = Rate::Calibrated(learnt);
        let admission = self
            .admission
            .get_or_insert_with(|| Admission::new(now, learnt));
        let admitted = admission.take_admitted();
        admission.learn(
            now,
            Sample {
                elapsed: LOOK_EVERY,
                processor_time: Duration::from_secs_f64(cost * f64::from(seen.finished)),
                admitted,
                finished: seen.finished.into(),
                lateness: seen.waited / seen.began.max(1),
            },
        );
        let back = u32::try_from(self.back.len()).unwrap_or(u32::MAX);
        admission.expect(Fleet {
            missing: self.storm.agents - back,
            window: admission.window(self.storm.agents),
        });
        self.events.push(Reverse((now + LOOK_EVERY, Event::Look)));
    }

    fn attempt(&mut self, now: Instant, agent: u32) {
        let service = Duration::from_secs_f64(1.0 / self.storm.per_second);
        let Some(admission) = &mut self.admission else {
            return self.try_again(now, agent, Retry::Backoff);
        };
        self.agents[agent as usize].1 += 1;
        let begins = self.busy_until.max(now);
        match admission.arrive(now, Door::Tunnel) {
            Verdict::Admit | Verdict::AdmitOperator => {
                self.seen.began += 1;
                self.seen.waited += begins - now;
                self.busy_until = begins + service;
                let done = Event::Done { agent, came: now };
                self.events.push(Reverse((self.busy_until, done)));
            }
            Verdict::Later(slot) => {
                self.busy_until = begins + service / REFUSALS_PER_HANDSHAKE;
                self.try_again(now, agent, Retry::Slot(slot));
            }
            Verdict::Refuse => self.try_again(now, agent, Retry::Backoff),
        }
    }

    fn done(&mut self, now: Instant, agent: u32, came: Instant) {
        self.seen.finished += 1;
        if now - came > HANDSHAKE_TIMEOUT {
            self.wasted += 1;
            return self.try_again(now, agent, Retry::Backoff);
        }
        self.back.push(now - self.listens_at);
    }

    fn try_again(&mut self, now: Instant, agent: u32, retry: Retry) {
        let random = self.dice.unit();
        let backoff = &mut self.agents[agent as usize].0;
        let pause = backoff.next_delay(now, self.window, retry, random);
        let pause = pause.unwrap_or(GIVE_UP);
        self.events.push(Reverse((now + pause, Event::Try(agent))));
    }

    fn outcome(self) -> Outcome {
        let agents = self.agents.len();
        let at = |share: f64| {
            let index = (share * agents as f64) as usize;
            let index = index.min(self.back.len().saturating_sub(1));
            self.back
                .get(index)
                .map_or(f64::INFINITY, Duration::as_secs_f64)
        };
        let tries: u32 = self.agents.iter().map(|(_, tries)| tries).sum();
        Outcome {
            half: at(0.5),
            most: at(0.9),
            all: at(1.0),
            floor: agents as f64 / self.storm.per_second,
            attempts: f64::from(tries) / agents as f64,
            wasted: self.wasted,
            missing: u32::try_from(agents - self.back.len()).unwrap_or(u32::MAX),
        }
    }
}

/// What a relay has learnt by the time that its agents are there.
fn learnt(storm: &Storm) -> Calibration {
    let mut calibration = Calibration::new(storm.processors);
    let cost = storm.processors as f64 / storm.per_second;
    for _ in 0..100 {
        let handshakes = (calibration.rate() * LOOK_EVERY.as_secs_f64()).max(16.0) as u32;
        calibration.learn(Sample {
            elapsed: LOOK_EVERY,
            processor_time: Duration::from_secs_f64(f64::from(handshakes) * cost),
            admitted: handshakes.into(),
            finished: handshakes.into(),
            lateness: Duration::ZERO,
        });
    }
    calibration
}

/// splitmix64: the same for a seed on every machine.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn storm(agents: u32, per_second: f64, outage: u64) -> Storm {
        Storm {
            agents,
            per_second,
            processors: 2,
            outage: Duration::from_secs(outage),
            has_window: true,
            seed: 7,
        }
    }

    #[test]
    fn a_hundred_thousand_are_back_about_as_fast_as_handshakes_go() {
        let outcome = run(storm(100_000, 2_000.0, 1));

        assert_eq!((outcome.missing, outcome.wasted), (0, 0), "{outcome:?}");
        assert!(outcome.all <= 1.15 * outcome.floor, "{outcome:?}");
        assert!(outcome.attempts <= 1.2, "{outcome:?}");
    }

    #[test]
    fn they_are_after_a_long_outage_too_with_few_more_tries() {
        for (per_second, outage) in [(5_000.0, 10), (2_000.0, 120)] {
            let outcome = run(storm(100_000, per_second, outage));

            assert_eq!((outcome.missing, outcome.wasted), (0, 0), "{outcome:?}");
            assert!(outcome.all <= 1.2 * outcome.floor, "{outcome:?}");
            assert!(outcome.attempts <= 1.6, "{outcome:?}");
        }
    }

    #[test]
    fn without_a_window_the_times_alone_make_a_queue_of_them() {
        let without = Storm {
            has_window: false,
            ..storm(100_000, 2_000.0, 1)
        };

        let outcome = run(without);

        assert_eq!((outcome.missing, outcome.wasted), (0, 0), "{outcome:?}");
        assert!(outcome.all <= 2.0 * outcome.floor, "{outcome:?}");
        assert!(outcome.attempts <= 3.0, "{outcome:?}");
    }

    #[test]
    fn a_slow_machine_whose_guess_is_far_too_high_lets_everybody_in() {
        let outcome = run(storm(10_000, 250.0, 2));

        assert_eq!((outcome.missing, outcome.wasted), (0, 0), "{outcome:?}");
        assert!(outcome.all <= 1.4 * outcome.floor, "{outcome:?}");
    }
}
