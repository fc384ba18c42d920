//! From serving to stopped: signals, and the order of the end.

use std::time::{Duration, Instant};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
    task::JoinSet,
};
use tracing::{error, info, warn};
use wire::close::CloseCode;

use super::{Relay, ServeError, running::Running};
use crate::{config::Config, control::Drain};

/// How often a drain looks whether streams are left.
const LOOK: Duration = Duration::from_millis(50);

/// How long sessions may take to tell their peers that they end, and requests of the
/// API to be answered: two of [`wire::limits::CLOSE_TIMEOUT`].
pub(super) const FAREWELL: Duration = Duration::from_secs(4);

/// What a person or a supervisor tells the process.
#[derive(Debug)]
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> Result<Self, ServeError> {
        let listen = |kind| {
            signal(kind).map_err(|source| ServeError::System {
                what: "listen to signals",
                source,
            })
        };
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the signal to stop.
    ///
    /// Cancel safe: a signal that came is kept.
    async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "INT",
            _ = self.terminate.recv() => "TERM",
        }
    }
}

/// What ends the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// A signal.
    Signal(&'static str),
    /// A part that ended by itself.
    Ended(&'static str),
}

/// Serves until a signal says to stop or a part ends by itself; on the way, hands
/// hang-ups on as wishes to reload.
pub(super) async fn until_told(
    signals: &mut Signals,
    parts: &mut JoinSet<&'static str>,
    reload: &Notify,
) -> Told {
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => reload.notify_one(),
            _ = signals.interrupt.recv() => return Told::Signal("INT"),
            _ = signals.terminate.recv() => return Told::Signal("TERM"),
            Some(ended) = parts.join_next() => {
                let part = ended.unwrap_or("a part that panicked");
                error!(part, "part ended by itself");
                return Told::Ended(part);
            }
        }
    }
}

/// Takes nothing new, sends everybody away, waits for streams until the deadline,
/// and ends what is left.
pub(super) async fn drain(config: &Config, signals: &mut Signals, relay: &Relay, running: Running) {
    let sessions: &dyn Drain = &*relay.registry;
    let started = Instant::now();
    let streams_open = sessions.streams_open();
    info!(streams_open, timeout = ?config.drain_timeout, "relay drains");
    running.accepting.cancel();
    sessions.goaway_all(config.reconnect_window, config.drain_timeout);
    let won = tokio::select! {
        () = streams_finished(sessions) => "every stream finished",
        () = tokio::time::sleep(config.drain_timeout) => "the deadline passed",
        _ = signals.stop() => "a second signal came",
    };
    let streams_left = sessions.streams_open();
    sessions.close_all(CloseCode::Shutdown, "the relay stops");
    let farewell = tokio::time::timeout(FAREWELL, running.finish(relay));
    tokio::select! {
        done = farewell => if done.is_err() {
            warn!("some connections did not end in time");
        },
        _ = signals.stop() => warn!("a further signal came: connections are cut"),
    }
    info!(won, streams_left, took = ?started.elapsed(), "relay stopped");
}

async fn streams_finished(sessions: &dyn Drain) {
    while sessions.streams_open() > 0 {
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_by_itself_ends_the_service_by_its_name() {
        let mut signals = Signals::new().unwrap();
        let mut parts = JoinSet::new();
        parts.spawn(async { "the listener" });

        let told = until_told(&mut signals, &mut parts, &Notify::new()).await;

        assert_eq!(told, Told::Ended("the listener"));
    }
}
