//! How much a long path needs in flight, so that what waits before its narrowest link is a few
//! milliseconds and not all that its buffer holds.
//!
//! CUBIC fills a buffer until it overflows, and every small stream waits behind that. What a
//! path delivers, times its least round trip, is what fills it; all above it only waits. So
//! once a queue has shown itself, no more is in flight than that and a little: the same product
//! as BBR's (Cardwell et al., ACM Queue 14(5), 2016), as a bound upon CUBIC and not in its
//! stead, so that nothing is ever sent that CUBIC would not send.
//!
//! Where others fill the queue, a bound only gives away our share: then the round trip stays
//! long though ours is bounded, and for a while there is no bound.
//!
//! *Invariant:* none applies before a queue was seen, so slow start is CUBIC's.

use std::time::{Duration, Instant};

/// What may wait, at least.
const QUEUE_MIN: Duration = Duration::from_millis(15);

/// The same as a part of the least round trip: by as much can a path's rate be seen to rise
/// within one.
const QUEUE_PART: u32 = 8;

/// How long the fastest delivery is remembered, once to twice.
const MEMORY: Duration = Duration::from_secs(5);

/// A queue that is twice as long as ours may be, for so many round trips, is not ours.
const ROUNDS_OF_OTHERS: u32 = 10;

/// So long nothing is bounded then.
const UNBOUNDED: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue {
    /// What was acknowledged, and since when that is counted.
    acknowledged: u64,
    counted_since: Option<Instant>,
    /// The fastest delivery of late and of before, in bytes a second.
    fastest: [f64; 2],
    fastest_since: Option<Instant>,
    bound: Option<u64>,
    /// Since when the queue is longer than ours can make it.
    crowded_since: Option<Instant>,
    unbounded_until: Option<Instant>,
}

impl Queue {
    /// Learns from an acknowledgement; round trips are the smoothed one and the least. Of who
    /// has little to send (`bytes` is none) nothing is learnt of how fast the path is.
    pub(super) fn on_ack(
        &mut self,
        now: Instant,
        bytes: Option<u64>,
        (rtt, least): (Duration, Duration),
    ) {
        match bytes {
            Some(bytes) => self.measure(now, bytes, rtt),
            None => (self.counted_since, self.acknowledged) = (None, 0),
        }
        let allowed = QUEUE_MIN.max(least / QUEUE_PART);
        let waits = rtt.saturating_sub(least);
        self.look_for_others(now, rtt, waits > 2 * allowed);
        if self.unbounded_until.is_some_and(|until| now < until) {
            self.bound = None;
        } else if self.bound.is_some() || waits > allowed {
            let useful = self.fastest[0].max(self.fastest[1]) * (least + allowed).as_secs_f64();
            self.bound = (useful > 0.0).then_some(useful as u64);
        }
    }

    /// How many bytes may be in flight; `None`: as many as others allow.
    pub(super) const fn bound(&self) -> Option<u64> {
        self.bound
    }

    /// Takes in how fast the path delivers, once a round trip.
    fn measure(&mut self, now: Instant, bytes: u64, rtt: Duration) {
        let Some(since) = self.counted_since else {
            // What is acknowledged now was delivered before.
            self.counted_since = Some(now);
            return;
        };
        self.acknowledged += bytes;
        let elapsed = now.saturating_duration_since(since);
        if elapsed < rtt || elapsed.is_zero() {
            return;
        }
        let turned = *self.fastest_since.get_or_insert(now);
        if now.saturating_duration_since(turned) >= MEMORY {
            self.fastest = [0.0, self.fastest[0]];
            self.fastest_since = Some(now);
        }
        let rate = self.acknowledged as f64 / elapsed.as_secs_f64();
        self.fastest[0] = self.fastest[0].max(rate);
        self.acknowledged = 0;
        self.counted_since = Some(now);
    }

    fn look_for_others(&mut self, now: Instant, rtt: Duration, is_crowded: bool) {
        if !is_crowded || self.bound.is_none() {
            self.crowded_since = None;
            return;
        }
        let since = *self.crowded_since.get_or_insert(now);
        if now.saturating_duration_since(since) > rtt * ROUNDS_OF_OTHERS {
            self.unbounded_until = Some(now + UNBOUNDED);
            self.crowded_since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(80);

    /// A link of so many bytes a second, where others have so many bytes in its queue, and a
    /// sender that has as much in flight as it may; gives how long bytes wait, a line a round.
    fn rounds(queue: &mut Queue, rate: f64, window: u64, others: u64, count: u32) -> Vec<Duration> {
        let mut now = queue
            .counted_since
            .unwrap_or_else(|| tokio::time::Instant::now().into_std());
        let mut rtt = LEAST;
        (0..count)
            .map(|_| {
                let flight = queue.bound().unwrap_or(window).min(window);
                let fills = rate * LEAST.as_secs_f64();
                let waiting = ((flight + others) as f64 - fills).max(0.0);
                let sample = LEAST + Duration::from_secs_f64(waiting / rate);
                // Many packets of a round are acknowledged, each with a sample.
                rtt = (rtt + 7 * sample) / 8;
                now += sample;
                queue.on_ack(now, Some(flight), (rtt, LEAST));
                sample.saturating_sub(LEAST)
            })
            .collect()
    }

    #[test]
    fn a_queue_that_is_ours_becomes_a_few_milliseconds_and_the_path_stays_full() {
        let (rate, window) = (25e6, 4 << 20);
        let mut queue = Queue::default();

        let waits = rounds(&mut queue, rate, window, 0, 60);

        assert!(waits[0] > Duration::from_millis(80), "{:?}", waits[0]);
        let last = waits[59];
        assert!(last <= Duration::from_millis(16), "{last:?}");
        assert!(last > Duration::ZERO, "the path is not filled");
    }

    #[test]
    fn before_a_queue_nothing_is_bounded() {
        let mut queue = Queue::default();

        rounds(&mut queue, 25e6, 1 << 20, 0, 60);

        assert_eq!(queue.bound(), None);
    }

    #[test]
    fn how_fast_a_path_is_is_not_forgotten_while_there_is_little_to_send() {
        let mut queue = Queue::default();
        rounds(&mut queue, 25e6, 8 << 20, 0, 60);
        let before = queue.bound().unwrap();

        let mut now = queue.counted_since.unwrap();
        for _ in 0..300 {
            now += LEAST;
            queue.on_ack(now, None, (LEAST, LEAST));
        }
        rounds(&mut queue, 25e6, 8 << 20, 0, 2);

        assert!(queue.bound().unwrap() * 10 >= before * 9);
    }

    #[test]
    fn a_path_that_becomes_faster_is_filled_again() {
        let mut queue = Queue::default();
        rounds(&mut queue, 5e6, 8 << 20, 0, 60);
        let before = queue.bound().unwrap();

        let waits = rounds(&mut queue, 25e6, 8 << 20, 0, 60);

        assert!(queue.bound().unwrap() > 4 * before);
        assert!(waits[59] > Duration::ZERO, "the path is not filled");
    }

    #[test]
    fn a_path_that_becomes_slower_has_a_short_queue_again() {
        let mut queue = Queue::default();
        rounds(&mut queue, 25e6, 8 << 20, 0, 60);

        let waits = rounds(&mut queue, 5e6, 8 << 20, 0, 400);

        let shortest = waits.iter().skip(200).min().unwrap();
        assert!(*shortest <= Duration::from_millis(16), "{shortest:?}");
    }

    #[test]
    fn where_others_fill_the_queue_our_share_is_not_given_away() {
        let (window, others) = (4 << 20, 4 << 20);
        let mut queue = Queue::default();

        rounds(&mut queue, 25e6, window, others, 400);
        let unbounded = (0..400)
            .filter(|_| {
                rounds(&mut queue, 25e6, window, others, 1);
                queue.bound().is_none()
            })
            .count();

        assert!(unbounded > 240, "{unbounded} of 400 rounds");
    }
}
