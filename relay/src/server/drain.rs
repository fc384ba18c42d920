//! What ends the service: a signal, or a part that ends by itself.

use std::pin::pin;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tracing::error;

use super::ServeError;

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
    pub(super) async fn stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What ends the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// A signal.
    Signal(&'static str),
    /// An operator's command.
    Operator,
    /// A part that ended by itself.
    Ended(&'static str),
}

/// Serves until a signal says to stop or a part has `ended` by itself; on the way, hands
/// hang-ups on as wishes to reload.
pub(super) async fn until_told(
    signals: &mut Signals,
    ended: impl Future<Output = &'static str>,
    reload: &Notify,
) -> Told {
    let mut ended = pin!(ended);
    loop {
        tokio::select! {
            _ = signals.hangup.recv() => reload.notify_one(),
            _ = signals.interrupt.recv() => return Told::Signal("INT"),
            _ = signals.terminate.recv() => return Told::Signal("TERM"),
            part = &mut ended => {
                error!(part, "part ended by itself");
                return Told::Ended(part);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_by_itself_ends_the_service_by_its_name() {
        let mut signals = Signals::new().unwrap();
        let ended = async { "the listener" };

        let told = until_told(&mut signals, ended, &Notify::new()).await;

        assert_eq!(told, Told::Ended("the listener"));
    }
}
