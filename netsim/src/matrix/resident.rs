//! Code of our own that lives on a host of the lab beside its programs, in a thread with a runtime
//! of its own.

use std::{
    io,
    sync::{Arc, mpsc::sync_channel},
    thread::{self, JoinHandle},
};

use tokio_util::sync::CancellationToken;

use crate::lab::Host;

/// See the module. It ends when dropped.
#[derive(Debug)]
pub(super) struct Resident {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Resident {
    /// Has a host inhabited: `begin` opens the doors, after which this returns, and `live` goes
    /// on behind them until the resident is dropped.
    ///
    /// # Errors
    ///
    /// The thread cannot move in, or what `begin` says.
    pub(super) fn move_in<T>(
        host: &Arc<Host>,
        name: &str,
        begin: impl AsyncFnOnce() -> io::Result<T> + Send + 'static,
        live: impl AsyncFnOnce(T) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let (ready, is_ready) = sync_channel(1);
        let (host, stopped) = (Arc::clone(host), stop.clone());
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let runtime = host.inhabit().and_then(|()| {
                    tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                });
                let lived = runtime.and_then(|runtime| {
                    runtime.block_on(async {
                        let begun = begin().await?;
                        ready.try_send(Ok(())).ok();
                        tokio::select! {
                            () = stopped.cancelled() => {}
                            () = live(begun) => {}
                        }
                        Ok(())
                    })
                });
                if let Err(error) = lived {
                    // There is room for one, and who waits is told one thing.
                    ready.try_send(Err(error)).ok();
                }
            })?;
        let ended = || io::Error::other(format!("the {name} has ended"));
        is_ready.recv().map_err(|_| ended())??;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
