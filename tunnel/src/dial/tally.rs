//! What became of attempts to dial, by transport: for the figures of an agent.

use std::sync::atomic::{AtomicU64, Ordering};

use wire::transport::Transport;

use super::{
    error::{Cause, DialError, intercepted},
    way::Way,
};

/// Attempts since it was made. Those that another one outran are not counted.
#[derive(Debug, Default)]
pub struct DialTally([Counts; Transport::ALL.len()]);

#[derive(Debug, Default)]
struct Counts {
    welcomed: AtomicU64,
    proxied: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    intercepted: AtomicU64,
    timed_out: AtomicU64,
}

/// What became of the attempts over one transport.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct DialCounts {
    /// The relay let in.
    pub welcomed: u64,
    /// Of those, the ones that came through a proxy.
    pub proxied: u64,
    /// The relay answered, and refused.
    pub refused: u64,
    /// No session came about.
    pub failed: u64,
    /// Of those, the ones at which somebody was found who ends TLS on the way, and may not.
    pub intercepted: u64,
    /// Nothing answered in time.
    pub timed_out: u64,
}

impl DialTally {
    fn of(&self, transport: Transport) -> &Counts {
        let [quic, ws, ws443] = &self.0;
        match transport {
            Transport::Quic => quic,
            Transport::Ws => ws,
            Transport::Ws443 => ws443,
        }
    }

    pub(super) fn welcomed(&self, way: &Way) {
        let counts = self.of(way.transport);
        counts.welcomed.fetch_add(1, Ordering::Relaxed);
        let is_proxied = u64::from(way.proxy.is_some());
        counts.proxied.fetch_add(is_proxied, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, error: &DialError) {
        let Some(transport) = error.transport() else {
            return;
        };
        let counts = self.of(transport);
        let count = match error.cause() {
            Cause::Refused(_) | Cause::Busy { .. } => &counts.refused,
            Cause::TimedOut => &counts.timed_out,
            Cause::Nowhere
            | Cause::Resolve(_)
            | Cause::Connect(_)
            | Cause::Proxy(_)
            | Cause::Tls(_)
            | Cause::Interceptor(_)
            | Cause::WebSocket(_)
            | Cause::Handshake(_)
            | Cause::SessionOver => &counts.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let is_intercepted =
            matches!(error.cause(), Cause::Interceptor(_)) || intercepted(error.cause());
        let is_intercepted = u64::from(is_intercepted);
        counts
            .intercepted
            .fetch_add(is_intercepted, Ordering::Relaxed);
    }

    /// The counts of one transport.
    pub fn counts(&self, transport: Transport) -> DialCounts {
        let counts = self.of(transport);
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        DialCounts {
            welcomed: read(&counts.welcomed),
            proxied: read(&counts.proxied),
            refused: read(&counts.refused),
            failed: read(&counts.failed),
            intercepted: read(&counts.intercepted),
            timed_out: read(&counts.timed_out),
        }
    }
}
