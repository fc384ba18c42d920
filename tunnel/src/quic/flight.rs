//! How much a connection has in flight: CUBIC's window, never more than a path that short can
//! use, and on a long one no more than fills it ([`Queue`]).
//!
//! CUBIC grows until something is lost. Between two processes of one host or one network
//! that is the receiver's socket buffer, and until then all of it is a queue that a small
//! stream waits behind: 4 MiB of it are 12 ms at 350 MB/s. A path's least round trip says
//! how much can be under way at all; the rest only waits.
//!
//! *Invariant:* the bound by length is never below [`FLIGHT_BYTES_MIN`] and slows no path of
//! less than [`PATH_BYTES_PER_MICROSECOND`]; that by a queue is never below
//! [`QUEUED_BYTES_MIN`]. A route that becomes longer under a connection
//! keeps the bound of the shorter one.

use std::{
    any::Any,
    sync::Arc,
    time::{Duration, Instant},
};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics, CubicConfig};
use quinn_proto::RttEstimator;

use super::queue::Queue;

/// What may be in flight on the shortest path: four frames, so that neither end runs dry
/// while the other is not scheduled.
const FLIGHT_BYTES_MIN: u64 = 256 * 1024;

/// What may be in flight where a queue has shown itself: packets enough for acknowledgements to
/// keep coming. At 10 Mbit/s they are a queue of 26 ms.
const QUEUED_BYTES_MIN: u64 = 32 * 1024;

/// The fastest path that is filled: 8 Gbit/s, nearly twice what two cores move on loopback.
const PATH_BYTES_PER_MICROSECOND: u64 = 1_000;

/// Makes a [`Flight`] for each path.
#[derive(Debug, Default)]
pub(super) struct FlightConfig {
    cubic: Arc<CubicConfig>,
}

impl ControllerFactory for FlightConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::clone(&self.cubic);
        Box::new(Flight {
            cubic: cubic.build(now, current_mtu),
            max: u64::MAX,
            queue: Queue::default(),
        })
    }
}

/// See the module.
struct Flight {
    cubic: Box<dyn Controller>,
    max: u64,
    queue: Queue,
}

/// What a path of this least round trip can use.
fn flight_max(rtt: Duration) -> u64 {
    let micros = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
    let useful = micros.saturating_mul(PATH_BYTES_PER_MICROSECOND);
    useful.max(FLIGHT_BYTES_MIN)
}

impl Controller for Flight {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        let measured = (!app_limited).then_some(bytes);
        self.queue.on_ack(now, measured, (rtt.get(), rtt.min()));
        let bound = self.queue.bound().unwrap_or(u64::MAX);
        self.max = flight_max(rtt.min()).min(bound.max(QUEUED_BYTES_MIN));
        // A window that is not used says nothing of the path, and must not grow.
        let is_limited = app_limited || self.cubic.window() >= self.max;
        self.cubic.on_ack(now, sent, bytes, is_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.cubic
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window().min(self.max)
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = self.cubic.metrics();
        metrics.congestion_window = self.window();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            cubic: self.cubic.clone_box(),
            max: self.max,
            queue: self.queue.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_path_is_filled_and_a_short_one_holds_no_more_than_it_needs() {
        let window = wire::limits::SESSION_WINDOW_MAX_BYTES;

        assert_eq!(flight_max(Duration::from_micros(50)), FLIGHT_BYTES_MIN);
        assert!(flight_max(Duration::from_millis(5)) > wire::limits::STREAM_WINDOW_MAX_BYTES);
        assert!(flight_max(Duration::from_millis(40)) > window);
    }
}
