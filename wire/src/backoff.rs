//! When to try the next connection: a pure function of the past, the relay's
//! advertised window and a random number.
//!
//! A fixed or exponential pause is metastable with 100,000 agents: those that find
//! the relay full come back together. Spread over the window that the relay
//! advertises, and reset only after proven stability, everybody is back within
//! about 1.05 of the least possible time.

use std::time::{Duration, Instant};

use crate::close::Retry;

/// The shortest pause.
pub const DELAY_MIN: Duration = Duration::from_millis(200);
/// The upper end of the first pauses, where the window is shorter.
pub const DELAY_FIRST: Duration = Duration::from_secs(1);
/// Where the upper end stops growing, where the window is shorter.
pub const DELAY_CAP: Duration = Duration::from_secs(30);
/// For how long the upper end stays at the first value.
pub const EAGER_PERIOD: Duration = Duration::from_secs(60);
/// A window longer than this is not believed: a mistaken or lying relay must not
/// silence an agent for a day.
pub const WINDOW_MAX: Duration = Duration::from_secs(30 * 60);
/// A session that lived this long, and in which the relay said anything, has proven the
/// path stable.
pub const STABLE_AFTER: Duration = Duration::from_secs(30);
/// A time that the relay has named is believed up to this, or twice the window.
pub const SLOT_CAP: Duration = Duration::from_secs(120);
/// How exactly a time that the relay has named is kept. It is there against two agents on
/// one timer's tick; the relay spreads them itself.
pub const SLOT_TOLERANCE: Duration = Duration::from_millis(50);

/// The pause policy of one dialler. Time must not run backwards.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    attempt: u32,
    /// When the present row of failures began.
    failing_since: Option<Instant>,
    connected_at: Option<Instant>,
    /// How often the upper end has grown by a half.
    growth: i32,
}

impl Backoff {
    /// A policy that has seen no failure.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many attempts have failed in this row, counted from 1.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// A session was welcomed. Alone it proves nothing: see [`Self::on_lost`].
    pub fn on_connected(&mut self, now: Instant) {
        self.connected_at = Some(now);
    }

    /// The session ended. One that lived for [`STABLE_AFTER`] ends the row of failures,
    /// if anything was `heard` of the relay after its welcome: a path that lets handshakes
    /// through and nothing else has proven nothing, however long nobody noticed.
    pub fn on_lost(&mut self, now: Instant, heard: bool) {
        let lived = self
            .connected_at
            .take()
            .map(|since| now.saturating_duration_since(since));
        if heard && lived.is_some_and(|lived| lived >= STABLE_AFTER) {
            *self = Self::default();
        }
    }

    /// The network is another one, or a person asks for a try: what failed before says
    /// nothing of what comes. The attempts go on being counted.
    pub fn on_change(&mut self) {
        self.failing_since = None;
        self.growth = 0;
    }

    /// The pause before the next attempt, or `None` where only a person can help.
    ///
    /// `window` is what the relay advertised; `random` lies in `[0, 1)`.
    pub fn next_delay(
        &mut self,
        now: Instant,
        window: Duration,
        retry: Retry,
        random: f64,
    ) -> Option<Duration> {
        let window = window.min(WINDOW_MAX);
        let since = *self.failing_since.get_or_insert(now);
        self.attempt = self.attempt.saturating_add(1);
        let first = DELAY_FIRST.max(window);
        let cap = DELAY_CAP.max(window);
        if now.saturating_duration_since(since) >= EAGER_PERIOD {
            self.growth = self.growth.saturating_add(1).min(64);
        }
        let upper = first.as_secs_f64() * 1.5_f64.powi(self.growth);
        let upper = upper.min(cap.as_secs_f64());
        let drawn = |low: f64, high: f64| {
            Duration::from_secs_f64(low + (high - low).max(0.0) * random.clamp(0.0, 1.0))
        };
        match retry {
            Retry::Never => None,
            Retry::Backoff => Some(drawn(DELAY_MIN.as_secs_f64(), upper)),
            // Nobody earlier than asked, and not all at the same moment.
            Retry::After(pause) => {
                let pause = pause.min(WINDOW_MAX).as_secs_f64();
                Some(drawn(pause, pause * 1.2 + upper))
            }
            // Advisory: whoever is on the way can name a time, and silences nobody by it.
            Retry::Slot(slot) => {
                let slot = slot.clamp(DELAY_MIN, SLOT_CAP.max(2 * window));
                let slot = slot.as_secs_f64();
                Some(drawn(slot, slot + SLOT_TOLERANCE.as_secs_f64()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_pause_lies_within_a_second_of_nothing() {
        let mut backoff = Backoff::new();
        let now = Instant::now();

        let delay = backoff
            .next_delay(now, Duration::ZERO, Retry::Backoff, 0.999)
            .unwrap();

        assert!(delay >= DELAY_MIN && delay <= DELAY_FIRST);
    }

    #[test]
    fn a_short_session_does_not_reset_the_row_of_failures() {
        let (mut backoff, now) = (Backoff::new(), Instant::now());
        backoff.next_delay(now, Duration::ZERO, Retry::Backoff, 0.5);

        backoff.on_connected(now);
        backoff.on_lost(now + Duration::from_secs(2), true);

        assert_eq!(backoff.attempt(), 1);
    }

    #[test]
    fn a_stable_session_resets_it() {
        let (mut backoff, now) = (Backoff::new(), Instant::now());
        backoff.next_delay(now, Duration::ZERO, Retry::Backoff, 0.5);

        backoff.on_connected(now);
        backoff.on_lost(now + STABLE_AFTER, true);

        assert_eq!(backoff.attempt(), 0);
    }

    #[test]
    fn a_session_in_which_nothing_was_heard_resets_nothing() {
        let (mut backoff, now) = (Backoff::new(), Instant::now());
        backoff.next_delay(now, Duration::ZERO, Retry::Backoff, 0.5);

        backoff.on_connected(now);
        backoff.on_lost(now + 2 * STABLE_AFTER, false);

        assert_eq!(backoff.attempt(), 1);
    }

    #[test]
    fn a_slot_is_kept_to_the_tolerance_and_not_believed_for_ever() {
        let (mut backoff, now) = (Backoff::new(), Instant::now());
        let window = Duration::from_secs(90);
        let mut told = |slot, random| {
            backoff
                .next_delay(now, window, Retry::Slot(slot), random)
                .unwrap()
        };

        let slot = Duration::from_millis(7_300);
        assert_eq!(told(slot, 0.0), slot);
        assert!(told(slot, 0.999) <= slot + SLOT_TOLERANCE);
        assert_eq!(told(Duration::ZERO, 0.0), DELAY_MIN);
        assert_eq!(told(Duration::from_secs(86_400), 0.0), 2 * window);
    }

    #[test]
    fn another_network_makes_the_next_pauses_short_again() {
        let (mut backoff, mut now) = (Backoff::new(), Instant::now());
        for _ in 0..40 {
            now += Duration::from_secs(10);
            backoff.next_delay(now, Duration::ZERO, Retry::Backoff, 0.5);
        }

        backoff.on_change();

        let pause = backoff.next_delay(now, Duration::ZERO, Retry::Backoff, 0.999);
        assert!(pause.unwrap() <= DELAY_FIRST);
        assert_eq!(backoff.attempt(), 41);
    }

    #[test]
    fn what_only_a_person_can_mend_is_not_tried_again() {
        let mut backoff = Backoff::new();

        assert_eq!(
            backoff.next_delay(Instant::now(), Duration::ZERO, Retry::Never, 0.5),
            None
        );
    }

    proptest! {
        #[test]
        fn a_pause_is_never_below_the_least_nor_above_cap_and_window(
            steps in prop::collection::vec((0_u64..90, 0.0_f64..1.0), 1..200),
            window_s in 0_u64..4000,
        ) {
            let mut backoff = Backoff::new();
            let mut now = Instant::now();
            let window = Duration::from_secs(window_s);
            for (pause_s, random) in steps {
                let delay = backoff.next_delay(now, window, Retry::Backoff, random).unwrap();
                prop_assert!(delay >= DELAY_MIN);
                prop_assert!(delay <= DELAY_CAP.max(window.min(WINDOW_MAX)));
                now += delay + Duration::from_secs(pause_s);
            }
        }
    }
}
