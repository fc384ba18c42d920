//! A receive window that tunes itself, for a stream or for a session.
//!
//! The reader grants credit when a quarter of the window has been read. Where that
//! took less than one and a half round trips, the sender is held up by the window
//! and not by the path, and the window doubles, much as in quic-go and HTTP/2 stacks
//! with BDP estimation. A window that looks good on loopback so grows on an 80 ms
//! path, and one that nobody uses stays small.

use std::time::{Duration, Instant};

/// Below this a round trip is taken for this: on loopback, scheduling noise would
/// otherwise decide. Much more, and a window there grows until a keystroke waits
/// milliseconds behind what a bulk stream has under way.
const RTT_MIN: Duration = Duration::from_micros(200);

/// Credit given to the peer, and how much of it was used. Offsets are absolute.
#[derive(Debug, Clone)]
pub(super) struct Window {
    size: u64,
    max: u64,
    /// Bytes received, in all.
    received: u64,
    /// Bytes handed to the application or dropped, in all.
    consumed: u64,
    /// The peer may send up to here.
    granted: u64,
    granted_at: Option<Instant>,
}

impl Window {
    pub(super) const fn new(initial: u64, max: u64) -> Self {
        Self {
            size: initial,
            max,
            received: 0,
            consumed: 0,
            granted: initial,
            granted_at: None,
        }
    }

    /// Counts bytes that arrived; false where the peer had no credit for them.
    #[must_use]
    pub(super) const fn receive(&mut self, bytes: u64) -> bool {
        self.received += bytes;
        self.received <= self.granted
    }

    pub(super) const fn received(&self) -> u64 {
        self.received
    }

    pub(super) const fn granted(&self) -> u64 {
        self.granted
    }

    /// Bytes received that are neither read nor dropped.
    pub(super) const fn unread(&self) -> u64 {
        self.received.saturating_sub(self.consumed)
    }

    /// What the peer may still send.
    pub(super) const fn credit_left(&self) -> u64 {
        self.granted.saturating_sub(self.received)
    }

    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Doubles the window where more than half of it waits for readers, up to the
    /// maximum: those who read shall not wait for those who do not. True where the
    /// peer is to be told.
    #[must_use]
    pub(super) fn make_room(&mut self) -> bool {
        if self.unread() <= self.size / 2 || self.size >= self.max {
            return false;
        }
        self.size = (self.size * 2).min(self.max);
        self.granted = self.granted.max(self.consumed + self.size);
        true
    }

    /// Raises the window to at least `size`, within its own maximum.
    pub(super) fn raise(&mut self, size: u64) {
        self.size = self.size.max(size.min(self.max));
    }

    /// Counts bytes that were read; true where the peer is now to be told of new credit.
    #[must_use]
    pub(super) fn consume(&mut self, now: Instant, bytes: u64, rtt: Option<Duration>) -> bool {
        self.consumed += bytes;
        // Consumed beyond the grant is a violation that the caller has reported.
        if self.granted.saturating_sub(self.consumed) > self.size / 4 * 3 {
            return false;
        }
        let rtt = rtt.unwrap_or(RTT_MIN).max(RTT_MIN);
        if self
            .granted_at
            .is_some_and(|at| now.saturating_duration_since(at) < rtt * 3 / 2)
        {
            self.size = (self.size * 2).min(self.max);
        }
        self.granted_at = Some(now);
        self.granted = self.consumed + self.size;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(80);

    fn read_rounds(rounds: u32, pause: Duration) -> Window {
        let mut window = Window::new(64, 1024);
        let mut now = Instant::now();
        for _ in 0..rounds {
            let bytes = window.granted() - window.received();
            assert!(window.receive(bytes));
            let _told = window.consume(now, bytes, Some(RTT));
            now += pause;
        }
        window
    }

    #[test]
    fn a_window_that_holds_up_the_sender_grows_to_its_maximum_and_no_further() {
        assert_eq!(read_rounds(20, RTT).size(), 1024);
    }

    #[test]
    fn a_window_that_is_used_slowly_stays_small() {
        assert_eq!(read_rounds(20, 3 * RTT).size(), 64);
    }

    #[test]
    fn a_byte_beyond_the_credit_is_noticed() {
        let mut window = Window::new(64, 1024);

        assert!(window.receive(64));
        assert!(!window.receive(1));
    }
}
