//! What stands behind every tunnel, as a process of its own: echo, source, sink, and
//! small HTTP answers.
//!
//! On the raw port a connection's first byte says what it is for: [`ECHO`], [`SOURCE`]
//! or [`SINK`]. Bulk has a thread of its own, so that an echo beside it waits for the
//! tunnel, and not for us. What the sink has taken is asked for on a third port, past
//! every tunnel: a count that came back through the tunnel would measure its return
//! path.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::mpsc,
    task::{LocalSet, spawn_local},
};

use crate::failure::{Context, Failure};

/// First byte: every further byte comes back.
pub const ECHO: u8 = b'e';
/// First byte: bytes come until the connection ends.
pub const SOURCE: u8 = b's';
/// First byte: every further byte is counted and dropped.
pub const SINK: u8 = b'k';

/// What one read or write of bulk moves at most: fits the second-level cache.
pub const BULK_BYTES: usize = 256 * 1024;

/// What every HTTP request is answered with.
pub const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 64\r\n\r\n\
    0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Connections that wait for the bulk thread; it takes them at once.
const HANDED_OVER_MAX: usize = 1024;

/// Where a backend listens.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Addresses {
    /// Echo, source and sink.
    pub raw: SocketAddr,
    /// HTTP/1.1.
    pub http: SocketAddr,
    /// What the sink has taken.
    pub control: SocketAddr,
}

/// What the sink had taken at a moment.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Taken {
    /// Bytes since the backend began.
    pub bytes: u64,
    /// Nanoseconds since the backend began, by its own clock.
    pub nanoseconds: u64,
}

static TAKEN: AtomicU64 = AtomicU64::new(0);

/// Prints its addresses as one line of JSON, and serves until standard input ends.
///
/// # Errors
/// It cannot listen.
pub fn run() -> Result<(), Failure> {
    let (bulk, handed_over) = mpsc::channel(HANDED_OVER_MAX);
    std::thread::spawn(move || serve_bulk(handed_over));
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("a runtime")?;
    LocalSet::new().block_on(&runtime, async {
        let (raw, http, control) = tokio::try_join!(listen(), listen(), listen())?;
        let addresses = Addresses {
            raw: raw.local_addr().context("an address")?,
            http: http.local_addr().context("an address")?,
            control: control.local_addr().context("an address")?,
        };
        println!("{}", serde_json::to_string(&addresses).context("JSON")?);
        let began = Instant::now();
        spawn_local(accept(raw, move |tcp| sort(tcp, bulk.clone())));
        spawn_local(accept(http, answer));
        spawn_local(accept(control, move |tcp| tell(tcp, began)));
        // Standard input is the harness's end of a pipe: it ends when the harness does.
        let mut rest = Vec::new();
        tokio::io::stdin()
            .read_to_end(&mut rest)
            .await
            .context("standard input")?;
        Ok(())
    })
}

async fn listen() -> Result<TcpListener, Failure> {
    TcpListener::bind("127.0.0.1:0").await.context("listening")
}

async fn accept<F, Served>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream) -> Served,
    Served: Future<Output = io::Result<()>> + 'static,
{
    loop {
        // A connection that was gone before it was taken is nobody's any more.
        let Ok((tcp, _)) = listener.accept().await else {
            continue;
        };
        if tcp.set_nodelay(true).is_ok() {
            let served = serve(tcp);
            // How a connection ends is the client's to judge.
            spawn_local(async move { drop(served.await) });
        }
    }
}

async fn sort(mut tcp: TcpStream, bulk: mpsc::Sender<(std::net::TcpStream, u8)>) -> io::Result<()> {
    match tcp.read_u8().await? {
        ECHO => echo(tcp).await,
        kind @ (SOURCE | SINK) => {
            let tcp = tcp.into_std()?;
            bulk.send((tcp, kind)).await.map_err(io::Error::other)
        }
        _ => Ok(()),
    }
}

async fn echo(mut tcp: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match tcp.read(&mut buffer).await? {
            0 => return Ok(()),
            length => tcp.write_all(&buffer[..length]).await?,
        }
    }
}

async fn answer(mut tcp: TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; 4 * 1024];
    let mut kept = 0;
    loop {
        let length = tcp.read(&mut buffer[kept..]).await?;
        if length == 0 {
            return Ok(());
        }
        kept += length;
        while let Some(end) = buffer[..kept]
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
        {
            buffer.copy_within(end + 4..kept, 0);
            kept -= end + 4;
            tcp.write_all(ANSWER).await?;
        }
        if kept == buffer.len() {
            return Err(io::Error::other("a request that is too long"));
        }
    }
}

/// Any byte is the question.
async fn tell(mut tcp: TcpStream, began: Instant) -> io::Result<()> {
    loop {
        tcp.read_u8().await?;
        let taken = Taken {
            bytes: TAKEN.load(Ordering::Relaxed),
            nanoseconds: began.elapsed().as_nanos() as u64,
        };
        let mut line = serde_json::to_string(&taken)?;
        line.push('\n');
        tcp.write_all(line.as_bytes()).await?;
    }
}

fn serve_bulk(mut handed_over: mpsc::Receiver<(std::net::TcpStream, u8)>) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the first runtime was made, too");
    LocalSet::new().block_on(&runtime, async {
        let scratch = Rc::new(RefCell::new(vec![0; BULK_BYTES]));
        let pattern = pattern();
        while let Some((tcp, kind)) = handed_over.recv().await {
            let Ok(tcp) = TcpStream::from_std(tcp) else {
                continue;
            };
            if kind == SOURCE {
                let pattern = Rc::clone(&pattern);
                spawn_local(async move { drop(give(tcp, &pattern).await) });
            } else {
                let scratch = Rc::clone(&scratch);
                spawn_local(async move {
                    drop(
                        take(tcp, &scratch, |length| {
                            TAKEN.fetch_add(length, Ordering::Relaxed);
                        })
                        .await,
                    );
                });
            }
        }
    });
}

/// What bulk consists of: nothing that a tunnel could compress to nothing.
pub fn pattern() -> Rc<[u8]> {
    (0..BULK_BYTES).map(|at| ((at * 31) >> 3) as u8).collect()
}

/// Writes a pattern again and again.
///
/// # Errors
/// How the connection ended.
pub async fn give(mut tcp: TcpStream, pattern: &[u8]) -> io::Result<()> {
    loop {
        tcp.write_all(pattern).await?;
    }
}

/// Reads to the end into memory that all connections of a thread share, and counts.
///
/// # Errors
/// How the connection ended.
pub async fn take(
    mut tcp: TcpStream,
    scratch: &RefCell<Vec<u8>>,
    mut count: impl FnMut(u64),
) -> io::Result<()> {
    loop {
        let length = poll_fn(|context| {
            let mut scratch = scratch.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            Pin::new(&mut tcp)
                .poll_read(context, &mut buffer)
                .map_ok(|()| buffer.filled().len())
        })
        .await?;
        if length == 0 {
            return Ok(());
        }
        count(length as u64);
    }
}
