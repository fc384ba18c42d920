//! Told by every session how it fares; and keeps count of those that have lost their
//! connection, so that what a node holds for them is bounded.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;
use tunnel::session::Observe;
use wire::{close::CloseCode, transport::Transport};

use crate::{
    limits::WAITING_BYTES_MAX,
    metrics::{Metrics, Resumed},
};

/// See the module. One serves all sessions of a node.
#[derive(Debug)]
pub struct Watcher {
    metrics: Arc<Metrics>,
    /// See [`Registry::changes`](super::Registry::changes).
    changes: watch::Sender<u64>,
    /// Held by sessions that wait.
    bytes: AtomicU64,
}

impl Watcher {
    pub(super) const fn new(metrics: Arc<Metrics>, changes: watch::Sender<u64>) -> Self {
        Self {
            metrics,
            changes,
            bytes: AtomicU64::new(0),
        }
    }

    fn note_change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Observe for Watcher {
    fn round_trip(&self, transport: Transport, rtt: Duration) {
        self.metrics.heartbeat_rtt(transport, rtt);
    }

    fn lost(&self, transport: Transport, code: CloseCode) {
        self.metrics.connection_lost(transport, code);
    }

    fn may_wait(&self, bytes: u64) -> bool {
        let held = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if held > WAITING_BYTES_MAX {
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.metrics.resume(Resumed::Refused);
            return false;
        }
        self.metrics.session_waits(bytes);
        self.note_change();
        true
    }

    fn waited(&self, bytes: u64, resumed: Option<(Transport, Duration)>) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.session_waited(bytes);
        match resumed {
            Some((transport, gap)) => {
                self.metrics.resume(Resumed::Resumed);
                self.metrics.came_back(transport, gap);
            }
            None => self.metrics.resume(Resumed::Ended),
        }
        self.note_change();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_lost_counts_though_its_session_goes_on() {
        let registry = prometheus::Registry::new();
        let metrics = Metrics::new(&registry, "0", "0").unwrap();
        let watcher = Watcher::new(Arc::new(metrics), watch::Sender::new(0));

        watcher.lost(Transport::Ws, CloseCode::HeartbeatTimeout);
        assert!(watcher.may_wait(1));
        watcher.waited(1, Some((Transport::Quic, Duration::ZERO)));

        let page = crate::metrics::render(&registry).unwrap();
        let line = "sternline_relay_connections_lost_total{close_code=\"heartbeat_timeout\",transport=\"ws\"} 1";
        assert!(page.contains(line), "{page}");
    }

    #[test]
    fn a_node_keeps_no_more_for_sessions_that_wait_than_it_may() {
        let metrics = Metrics::new(&prometheus::Registry::new(), "0", "0").unwrap();
        let watcher = Watcher::new(Arc::new(metrics), watch::Sender::new(0));

        assert!(watcher.may_wait(WAITING_BYTES_MAX - 1));
        assert!(!watcher.may_wait(2));
        assert!(watcher.may_wait(1));
        watcher.waited(WAITING_BYTES_MAX - 1, None);
        assert!(watcher.may_wait(2));
    }
}
