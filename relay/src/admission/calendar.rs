//! Who comes back when.
//!
//! Two kinds come at a time: those who were told it, and those who were not here yet. The
//! second kind cannot be told apart before TLS, and takes tokens that the first was promised.
//! So a time is given where handshakes will be left over from those who are still to come: all
//! of them try within the window that they were advertised.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::limits::{CALENDAR_LOAD, SLOT_MAX, SLOT_MIN};

/// The grain of the calendar. Within one, times are spread evenly.
const TICK: Duration = Duration::from_millis(50);

/// Over how long arrivals are counted.
const MEMORY: Duration = Duration::from_secs(1);

/// Without a refusal for so long, the next one begins another storm.
const CALM: Duration = Duration::from_secs(5);

/// Spreads those for whom the calendar has no room, each far from the last few: the fractional
/// part of the golden ratio, whose multiples are.
const SPREAD: f64 = 0.618_033_988_749_895;

/// With this, as many strangers come until the end as at the beginning.
const POWER_MAX: f64 = 20.0;

/// Who is still to come.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Fleet {
    /// How many.
    pub missing: u32,
    /// The window that they were advertised.
    pub window: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Calendar {
    began: Instant,
    /// How many have a time in each tick, from `base` on.
    ticks: VecDeque<u32>,
    base: u64,
    booked: u64,
    /// In ticks before this none is free: looked for anew with every tick.
    first_free: u64,
    came: Recent,
    due: Recent,
    storm_since: Instant,
    refused_at: Option<Instant>,
    /// How many had no room.
    beyond: u32,
}

impl Calendar {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            began: now,
            ticks: VecDeque::new(),
            base: 0,
            booked: 0,
            first_free: 0,
            came: Recent::new(now),
            due: Recent::new(now),
            storm_since: now,
            refused_at: None,
            beyond: 0,
        }
    }

    /// How many have a time that is still to come.
    pub(super) fn booked(&mut self, now: Instant) -> u64 {
        self.settle(now);
        self.booked
    }

    /// Counts who has come, let in or not.
    pub(super) fn note_arrival(&mut self, now: Instant) {
        self.came.add(now, 1.0);
    }

    /// Gives a time, from now on, where `rate` handshakes in a second are done.
    pub(super) fn book(&mut self, now: Instant, rate: f64, fleet: Fleet) -> Duration {
        self.settle(now);
        let is_calm = self
            .refused_at
            .is_none_or(|at| now.saturating_duration_since(at) > CALM);
        if is_calm && self.booked == 0 {
            let is_start = now.saturating_duration_since(self.began) < fleet.window;
            self.storm_since = if is_start { self.began } else { now };
        }
        self.refused_at = Some(now);
        let forecast = self.forecast(now, rate, fleet);
        let longest = SLOT_MAX.max(fleet.window);
        let last = self.tick_of(now + longest);
        let mut tick = self.first_free.max(self.tick_of(now + SLOT_MIN));
        while tick < last {
            let has = f64::from(self.count(tick));
            let room = forecast.room(self.start_of(tick).saturating_duration_since(now));
            if room >= 1.0 && has + 1.0 <= room {
                self.first_free = tick;
                *self.count_mut(tick) += 1;
                self.booked += 1;
                let within = TICK.mul_f64((has + 0.5) / room);
                return self
                    .start_of(tick)
                    .saturating_duration_since(now)
                    .saturating_add(within)
                    .max(SLOT_MIN);
            }
            tick += 1;
        }
        self.first_free = last;
        self.beyond = self.beyond.wrapping_add(1);
        let share = (f64::from(self.beyond) * SPREAD).fract();
        longest.mul_f64(0.5 + 0.5 * share)
    }

    /// Takes out what is past.
    fn settle(&mut self, now: Instant) {
        let current = self.tick_of(now);
        if current > self.base {
            self.first_free = 0;
        }
        while self.base < current {
            let Some(count) = self.ticks.pop_front() else {
                self.base = current;
                break;
            };
            self.booked -= u64::from(count);
            self.due.add(self.start_of(self.base), f64::from(count));
            self.base += 1;
        }
    }

    fn forecast(&self, now: Instant, rate: f64, fleet: Fleet) -> Forecast {
        let strangers = (self.came.rate(now) - self.due.rate(now)).max(0.0);
        let passed = now.saturating_duration_since(self.storm_since);
        let until = fleet.window.saturating_sub(passed).as_secs_f64();
        let missing = (f64::from(fleet.missing) - self.booked as f64).max(0.0);
        Forecast::new(rate * CALENDAR_LOAD, strangers, (until, missing))
    }

    fn tick_of(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.began).as_millis();
        u64::try_from(since / TICK.as_millis()).unwrap_or(u64::MAX)
    }

    fn start_of(&self, tick: u64) -> Instant {
        let ticks = u32::try_from(tick).unwrap_or(u32::MAX);
        self.began + TICK * ticks
    }

    fn index(&self, tick: u64) -> usize {
        usize::try_from(tick.saturating_sub(self.base)).unwrap_or(usize::MAX)
    }

    fn count(&self, tick: u64) -> u32 {
        self.ticks.get(self.index(tick)).copied().unwrap_or(0)
    }

    fn count_mut(&mut self, tick: u64) -> &mut u32 {
        let index = self.index(tick);
        if self.ticks.len() <= index {
            self.ticks.resize(index + 1, 0);
        }
        &mut self.ticks[index]
    }
}

/// What will be left over, while strangers become fewer: `strangers × (1 - (t / until)^power)`.
struct Forecast {
    /// Handshakes in a second.
    rate: f64,
    /// Who comes now without having been told to, in a second.
    strangers: f64,
    /// Seconds until none of them is left.
    until: f64,
    /// How long they stay many.
    power: f64,
}

impl Forecast {
    /// The window says when the last stranger comes at the latest, and their number how they
    /// come until then: all along where they have just begun to draw their tries, and in a
    /// straight line towards the end where they have drawn for long.
    fn new(rate: f64, strangers: f64, (until, missing): (f64, f64)) -> Self {
        // The area under the curve is `strangers × until × power / (power + 1)`.
        let at_most = strangers * until;
        let share = if at_most > 0.0 {
            missing / at_most
        } else {
            0.0
        };
        let (until, power) = if share <= 0.5 {
            (2.0 * missing / strangers.max(1.0), 1.0)
        } else {
            (until, (share / (1.0 - share).max(0.01)).min(POWER_MAX))
        };
        Self {
            rate,
            strangers,
            until,
            power,
        }
    }

    /// How many can be given the tick that begins so long from now.
    fn room(&self, from_now: Duration) -> f64 {
        let middle = (from_now + TICK / 2).as_secs_f64();
        let left = if middle < self.until {
            1.0 - (middle / self.until).powf(self.power)
        } else {
            0.0
        };
        (self.rate - self.strangers * left).max(0.0) * TICK.as_secs_f64()
    }
}

/// Events in a second, of late: older ones count less and less.
#[derive(Debug)]
struct Recent {
    /// Sum over what happened, and over time, each as much less as it is older.
    events: f64,
    seconds: f64,
    at: Instant,
}

impl Recent {
    const fn new(now: Instant) -> Self {
        Self {
            events: 0.0,
            seconds: 0.0,
            at: now,
        }
    }

    fn add(&mut self, now: Instant, events: f64) {
        (self.events, self.seconds) = self.aged(now);
        self.events += events;
        self.at = self.at.max(now);
    }

    fn rate(&self, now: Instant) -> f64 {
        let (events, seconds) = self.aged(now);
        // Of the first moments little can be said.
        events / seconds.max(MEMORY.as_secs_f64() / 10.0)
    }

    fn aged(&self, now: Instant) -> (f64, f64) {
        let memory = MEMORY.as_secs_f64();
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        let kept = (-elapsed / memory).exp();
        (
            self.events * kept,
            self.seconds.mul_add(kept, memory * (1.0 - kept)),
        )
    }
}
