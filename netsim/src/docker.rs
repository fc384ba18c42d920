//! A model of the Docker Engine: the part of its API that agents and workloads need, in
//! real HTTP, over whatever carries bytes.
//!
//! In a simulation each agent's host has one behind its [`World`], in the process; in the
//! lab the same model listens on a Unix socket. It counts what it was asked, and keeps a ledger
//! of what it created, so that a run can be compared with what was to happen in it. What the
//! real Engine does not have is
//! `POST /echo`: a connection that is hijacked as attach and exec are, and then sends back
//! what it gets.

mod api;
mod client;
mod ledger;
mod socket;

use std::{
    convert::Infallible,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use hyper::{server::conn::http1, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixListener,
    task::JoinSet,
};
use tunnel::{World, world::TargetSocket};

use self::ledger::Ledger;
pub use api::{API_VERSION, ENGINE_VERSION};
pub use client::{create, echo, hijack};

/// Connections at one time: far above what one session has streams.
const CONNECTIONS_MAX: usize = 4_096;

/// What is echoed in one piece: what a stream's frame carries.
const ECHO_BYTES: usize = 16 * 1024;

/// One Engine; clones are the same one. Its connections end with the last of them.
#[derive(Debug, Clone, Default)]
pub struct Engine(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    counts: Arc<Counts>,
    /// Of connections within the process.
    connections: Mutex<JoinSet<()>>,
    is_stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct Counts {
    open: AtomicU64,
    connections: AtomicU64,
    requests: AtomicU64,
    echoes: AtomicU64,
    finished: AtomicU64,
    echoed_bytes: AtomicU64,
    ledger: Mutex<Ledger>,
}

impl Counts {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an Engine was asked so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections open at the moment.
    pub open: u64,
    /// Connections ever opened.
    pub connections: u64,
    /// Requests, those for echoes included.
    pub requests: u64,
    /// Echoes that began.
    pub echoes: u64,
    /// Echoes that came to their end in order: the peer finished, and has everything.
    pub finished: u64,
    /// Bytes that were sent back.
    pub echoed_bytes: u64,
    /// Containers that were created.
    pub containers: usize,
}

impl Engine {
    /// What it was asked so far.
    pub fn seen(&self) -> Seen {
        let counts = &self.0.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Seen {
            open: read(&counts.open),
            connections: read(&counts.connections),
            requests: read(&counts.requests),
            echoes: read(&counts.echoes),
            finished: read(&counts.finished),
            echoed_bytes: read(&counts.echoed_bytes),
            containers: counts.ledger().containers(),
        }
    }

    /// Requests to create a container that were sent once and have arrived several times, by
    /// the numbers that they were given.
    pub fn repeated(&self) -> Vec<String> {
        self.0.counts.ledger().repeated()
    }

    /// A host on which this Engine has the socket at `path`.
    pub fn on_host(&self, mut world: World, path: impl Into<PathBuf>) -> World {
        world.net = Arc::new(socket::WithEngine {
            net: world.net,
            engine: self.clone(),
            path: path.into(),
        });
        world
    }

    /// Connects within the process, as over a Unix socket.
    ///
    /// # Errors
    ///
    /// It is stopped, or has as many connections as it takes.
    pub fn connect(&self) -> io::Result<TargetSocket> {
        if self.0.is_stopped.load(Ordering::Relaxed) {
            return Err(rustix::io::Errno::CONNREFUSED.into());
        }
        let mut connections = self.connections();
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            // As where a listener's queue is full.
            return Err(rustix::io::Errno::AGAIN.into());
        }
        let (near, far) = socket::pair();
        connections.spawn(serve(self.0.counts.clone(), far));
        Ok(TargetSocket::Simulated(near))
    }

    /// Cuts every connection within the process, and takes none until [`start`](Self::start).
    pub fn stop(&self) {
        self.0.is_stopped.store(true, Ordering::Relaxed);
        self.connections().abort_all();
    }

    /// Takes connections again, as a daemon that was restarted.
    pub fn start(&self) {
        self.0.is_stopped.store(false, Ordering::Relaxed);
    }

    fn connections(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one connection to its end.
    pub async fn serve<IO>(&self, connection: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        serve(self.0.counts.clone(), connection).await;
    }

    /// Serves a Unix socket that is listened on, until that fails. Connections end with
    /// this future.
    ///
    /// # Errors
    ///
    /// The kernel gives no more connections.
    pub async fn serve_unix(&self, listener: &UnixListener) -> io::Result<Infallible> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                    let (connection, _) = accepted?;
                    connections.spawn(serve(self.0.counts.clone(), connection));
                }
            }
        }
    }
}

/// Not a method: a connection must not keep the Engine that owns it.
async fn serve<IO>(counts: Arc<Counts>, connection: IO)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let _open = Open::new(&counts);
    let hijacked: Mutex<Option<OnUpgrade>> = Mutex::default();
    let answer = |mut request| {
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let (answer, upgrade) = match api::creates(&request) {
            Some((name, number)) => {
                let created = counts.ledger().create(&name, &number);
                (api::created(&name, created), None)
            }
            None => api::answer(&mut request),
        };
        if upgrade.is_some() {
            *hijacked.lock().unwrap_or_else(PoisonError::into_inner) = upgrade;
        }
        std::future::ready(Ok::<_, Infallible>(answer))
    };
    let http = http1::Builder::new()
        .half_close(true)
        // The wall clock would make runs differ.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(connection), service_fn(answer))
        .with_upgrades();
    if let Err(error) = http.await {
        tracing::debug!(%error, "a connection to the model of Docker broke");
    }
    let upgrade = hijacked
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let Some(upgrade) = upgrade else { return };
    counts.echoes.fetch_add(1, Ordering::Relaxed);
    let echoed = match upgrade.await {
        Ok(raw) => send_back(&counts, TokioIo::new(raw)).await,
        Err(error) => Err(io::Error::other(error)),
    };
    match echoed {
        Ok(()) => drop(counts.finished.fetch_add(1, Ordering::Relaxed)),
        Err(error) => tracing::debug!(%error, "an echo broke"),
    }
}

async fn send_back<IO: AsyncRead + AsyncWrite + Unpin>(
    counts: &Counts,
    mut raw: IO,
) -> io::Result<()> {
    let mut room = vec![0; ECHO_BYTES];
    loop {
        let read = raw.read(&mut room).await?;
        if read == 0 {
            return raw.shutdown().await;
        }
        raw.write_all(&room[..read]).await?;
        raw.flush().await?;
        let bytes = u64::try_from(read).unwrap_or_default();
        counts.echoed_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Counts a connection for as long as it is open, however it ends.
struct Open<'a>(&'a Counts);

impl<'a> Open<'a> {
    fn new(counts: &'a Counts) -> Self {
        counts.open.fetch_add(1, Ordering::Relaxed);
        counts.connections.fetch_add(1, Ordering::Relaxed);
        Self(counts)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
