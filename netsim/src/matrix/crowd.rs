//! Others who come to a relay all the time, more of them than it takes: what a relay in a storm
//! tells a probe is its own fault, and nobody's between.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::lab::Host;

/// Doors that they come to: each has tokens of its own for a burst.
const PORTS: [u16; 2] = [443, 8000];

/// Between two of them. A relay that takes one handshake a second has none left for others.
const EVERY: Duration = Duration::from_millis(10);

/// More than a relay takes at once of the slowest rate.
const BURST: u32 = 64;

const WITHIN: Duration = Duration::from_secs(1);

/// See the module. They leave when it is dropped.
#[derive(Debug)]
pub(super) struct Crowd {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// On the relay's own host; the burst has come once this returns.
    pub(super) fn come_to(relay: &Host) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (ready, is_ready) = sync_channel(1);
        let namespace = relay.namespace().handle()?;
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("crowd".to_owned())
            .spawn(move || {
                let came = namespace.enter().and_then(|()| come(&stopped, &ready));
                if let Err(error) = came {
                    // There is room for one, and who waits is told one thing.
                    ready.try_send(Err(error)).ok();
                }
            })?;
        let ended = || io::Error::other("nobody came to the relay");
        is_ready.recv().map_err(|_| ended())??;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn come(stopped: &AtomicBool, ready: &SyncSender<io::Result<()>>) -> io::Result<()> {
    let mut rounds = 0;
    while !stopped.load(Ordering::Relaxed) {
        for port in PORTS {
            let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
            // Who is sent away has come as well.
            TcpStream::connect_timeout(&to, WITHIN)?;
        }
        rounds += 1;
        if rounds == BURST {
            ready.try_send(Ok(())).ok();
        }
        thread::park_timeout(EVERY);
    }
    Ok(())
}
