//! Liveness of one connection, from what was heard and when.
//!
//! The dialler of an idle session asks every idle interval; its question is the
//! acceptor's sign of life, and the answer its own, so that one exchange serves
//! both deadlines. While streams are open either end asks after the shorter busy
//! interval. Any byte heard counts as life. Neither TCP nor WebSocket reports a
//! dead peer by itself in useful time.

use std::time::{Duration, Instant};

use crate::{
    id::Side,
    limits::{HEARTBEAT_ANSWER_MAX, HEARTBEAT_ANSWER_MIN},
    transport::Transport,
};

/// The liveness of one connection.
#[derive(Debug, Clone)]
pub(super) struct Heartbeat {
    side: Side,
    idle: Duration,
    busy: Duration,
    last_heard: Instant,
    sequence: u64,
    /// The question that has not been answered.
    asked: Option<Asked>,
    rtt: Option<Duration>,
    rtt_min: Option<Duration>,
    /// Since when a ping is to be sent.
    ping_due: Option<Instant>,
    /// The peer's question that is to be answered.
    pong_due: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Asked {
    sequence: u64,
    at: Instant,
}

/// What the passing of time means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing, or a ping is due.
    Alive,
    /// The peer was silent until the deadline.
    Dead,
}

impl Heartbeat {
    pub(super) fn new(now: Instant, side: Side, transport: Transport, idle: Duration) -> Self {
        Self {
            side,
            idle,
            busy: transport.heartbeat_busy().min(idle),
            last_heard: now,
            sequence: 0,
            asked: None,
            rtt: None,
            rtt_min: None,
            // The first exchange measures the round trip.
            ping_due: Some(now),
            pong_due: None,
        }
    }

    pub(super) const fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Smoothed: 7/8 old, 1/8 new, as in RFC 6298.
    pub(super) const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// The shortest of late: the path's own, without what waited before it. Down with a
    /// sample, up by an eighth of it.
    pub(super) const fn rtt_min(&self) -> Option<Duration> {
        self.rtt_min
    }

    pub(super) const fn on_heard(&mut self, now: Instant) {
        self.last_heard = now;
    }

    pub(super) const fn on_ping(&mut self, sequence: u64) {
        self.pong_due = Some(sequence);
    }

    /// Gives the round trip where the answer fits the question.
    pub(super) fn on_pong(&mut self, now: Instant, sequence: u64) -> Option<Duration> {
        let asked = self.asked.take_if(|asked| asked.sequence == sequence)?;
        let sample = now.saturating_duration_since(asked.at);
        self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
        self.rtt_min = Some(match self.rtt_min {
            // A path may have become longer, as behind a VPN that came up.
            Some(least) if sample > least => least + (sample - least) / 8,
            Some(_) | None => sample,
        });
        Some(sample)
    }

    /// The ping to send, if one is due.
    pub(super) fn take_ping(&mut self, now: Instant) -> Option<u64> {
        self.ping_due.take()?;
        self.sequence += 1;
        self.asked = Some(Asked {
            sequence: self.sequence,
            at: now,
        });
        Some(self.sequence)
    }

    /// A question is due now, unless one waits for its answer or to be sent.
    pub(super) fn ask(&mut self, now: Instant) {
        if self.silent_since().is_none() {
            self.ping_due = Some(now);
        }
    }

    /// The answer to send, if one is due.
    pub(super) const fn take_pong(&mut self) -> Option<u64> {
        self.pong_due.take()
    }

    /// When [`Self::on_timeout`] has something to say.
    pub(super) fn deadline(&self, is_busy: bool) -> Option<Instant> {
        Some(match self.silent_since() {
            Some(since) => since + self.answer_timeout(),
            None => self.ask_at(is_busy),
        })
    }

    pub(super) fn on_timeout(&mut self, now: Instant, is_busy: bool) -> Verdict {
        match self.silent_since() {
            Some(since) if now >= since + self.answer_timeout() => return Verdict::Dead,
            Some(_) => return Verdict::Alive,
            None => {}
        }
        if now >= self.ask_at(is_busy) {
            self.ping_due = Some(now);
        }
        Verdict::Alive
    }

    /// When the question was put after which nothing at all was heard. One that
    /// could not even be sent counts: behind a dead peer, writing stops as well.
    fn silent_since(&self) -> Option<Instant> {
        let asked = self.asked.map(|asked| asked.at);
        let since = asked.filter(|at| self.last_heard < *at).or(self.ping_due)?;
        (self.last_heard < since).then_some(since)
    }

    /// Whether a question or an answer is to be sent.
    pub(super) const fn has_output(&self) -> bool {
        self.ping_due.is_some() || self.pong_due.is_some()
    }

    fn ask_at(&self, is_busy: bool) -> Instant {
        let pause = match (is_busy, self.side) {
            (true, _) => self.busy,
            (false, Side::Dialler) => self.idle,
            // The dialler asks; the acceptor does only where it should have, and has not.
            (false, Side::Acceptor) => self.idle + HEARTBEAT_ANSWER_MIN,
        };
        self.last_heard + pause
    }

    fn answer_timeout(&self) -> Duration {
        self.rtt
            .map_or(HEARTBEAT_ANSWER_MAX, |rtt| 4 * rtt)
            .clamp(HEARTBEAT_ANSWER_MIN, HEARTBEAT_ANSWER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn answered(side: Side, transport: Transport) -> (Heartbeat, Instant) {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(start, side, transport, transport.heartbeat_idle());
        let sequence = heartbeat.take_ping(start).unwrap();
        let now = start + Duration::from_millis(20);
        heartbeat.on_heard(now);
        heartbeat.on_pong(now, sequence);
        (heartbeat, now)
    }

    /// How long a peer that says nothing more is believed alive.
    fn time_to_death(side: Side, transport: Transport, is_busy: bool) -> Duration {
        let (mut heartbeat, start) = answered(side, transport);
        let mut now = start;
        for _ in 0..10 {
            if let Some(deadline) = heartbeat.deadline(is_busy) {
                now = now.max(deadline);
            }
            if heartbeat.on_timeout(now, is_busy) == Verdict::Dead {
                return now - start;
            }
            heartbeat.take_ping(now);
        }
        panic!("believed alive for ever");
    }

    #[test]
    fn a_silent_peer_is_dead_within_the_deadlines() {
        for side in [Side::Dialler, Side::Acceptor] {
            assert!(time_to_death(side, Transport::Quic, true) <= 5 * SECOND);
            assert!(time_to_death(side, Transport::Ws, true) <= 15 * SECOND);
            assert!(time_to_death(side, Transport::Quic, false) <= 35 * SECOND);
            assert!(time_to_death(side, Transport::Ws, false) <= 35 * SECOND);
        }
    }

    #[test]
    fn the_shortest_round_trip_follows_a_path_that_became_longer() {
        let (mut heartbeat, mut now) = answered(Side::Dialler, Transport::Ws);
        let mut measure = |millis| {
            heartbeat.ping_due = Some(now);
            let sequence = heartbeat.take_ping(now).unwrap();
            now += Duration::from_millis(millis);
            heartbeat.on_pong(now, sequence);
            heartbeat.rtt_min().unwrap()
        };

        let (one, many) = (measure(100), (0..30).map(|_| measure(100)).last().unwrap());
        let short = measure(10);

        assert!(
            one <= Duration::from_millis(30),
            "{one:?} after one that waited"
        );
        assert!(
            many >= Duration::from_millis(95),
            "{many:?} on the longer path"
        );
        assert_eq!(short, Duration::from_millis(10));
    }

    #[test]
    fn any_byte_counts_as_life_even_without_the_answer() {
        let (mut heartbeat, start) = answered(Side::Dialler, Transport::Ws);
        let mut now = start + Transport::Ws.heartbeat_idle();
        heartbeat.on_timeout(now, false);
        heartbeat.take_ping(now);

        now += SECOND;
        heartbeat.on_heard(now);

        assert_eq!(
            heartbeat.on_timeout(now + 20 * SECOND, false),
            Verdict::Alive
        );
    }

    #[test]
    fn opening_a_stream_on_an_idle_session_arms_the_shorter_deadline() {
        let (heartbeat, start) = answered(Side::Dialler, Transport::Quic);

        assert_eq!(
            heartbeat.deadline(false),
            Some(start + Transport::Quic.heartbeat_idle())
        );
        assert_eq!(
            heartbeat.deadline(true),
            Some(start + Transport::Quic.heartbeat_busy())
        );
    }

    #[test]
    fn a_peer_that_is_asked_at_once_and_says_nothing_is_dead_within_the_deadline_of_an_answer() {
        let (mut heartbeat, start) = answered(Side::Dialler, Transport::Ws);
        let now = start + SECOND;

        heartbeat.ask(now);
        heartbeat.take_ping(now);
        heartbeat.ask(now + SECOND);

        let deadline = heartbeat.deadline(false).unwrap();
        assert_eq!(deadline, now + HEARTBEAT_ANSWER_MIN);
        assert_eq!(heartbeat.on_timeout(deadline, false), Verdict::Dead);
    }

    #[test]
    fn an_answer_to_another_question_measures_nothing() {
        let (mut heartbeat, now) = answered(Side::Dialler, Transport::Quic);

        assert_eq!(heartbeat.on_pong(now, 77), None);
    }
}
