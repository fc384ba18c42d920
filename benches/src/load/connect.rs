//! New connections: each is made, sends 64 bytes, has them back, and ends.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{LoadArgs, Measured, add_latency, turns};
use crate::{
    backend::ECHO,
    failure::{Context, Failure},
};

/// The bytes that are echoed.
pub(super) const PAYLOAD: [u8; 64] = [0x5a; 64];

/// How long one connection may take before the test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// One connection after the other, on one thread that blocks.
pub(super) fn one_by_one(args: &LoadArgs) -> Result<Measured, Failure> {
    let warm = Instant::now() + args.warm_up();
    while Instant::now() < warm {
        once(args.raw)?;
    }
    let (end, mut latencies) = (Instant::now() + args.window(), Vec::new());
    while Instant::now() < end {
        let began = Instant::now();
        once(args.raw)?;
        latencies.push(began.elapsed().as_nanos() as u64);
    }
    let mut measured = Measured::new();
    add_latency(&mut latencies, &mut measured)?;
    Ok(measured)
}

fn once(raw: SocketAddr) -> Result<(), Failure> {
    let mut tcp = std::net::TcpStream::connect(raw).context(raw)?;
    tcp.set_nodelay(true).context(raw)?;
    tcp.set_read_timeout(Some(PATIENCE)).context(raw)?;
    let mut back = [0; PAYLOAD.len()];
    tcp.write_all(&first_bytes()).context(raw)?;
    tcp.read_exact(&mut back)
        .context("a new connection's echo")?;
    check(&back)
}

/// Several at a time; counts those that are complete within the window.
pub(super) async fn at_once(args: &LoadArgs, workers: usize) -> Result<Measured, Failure> {
    let raw = args.raw;
    turns::measure(
        args,
        workers,
        async || Ok(()),
        async move |_: &mut ()| once_async(raw).await,
    )
    .await
}

async fn once_async(raw: SocketAddr) -> Result<(), Failure> {
    let mut tcp = tokio::net::TcpStream::connect(raw).await.context(raw)?;
    tcp.set_nodelay(true).context(raw)?;
    let mut back = [0; PAYLOAD.len()];
    tcp.write_all(&first_bytes()).await.context(raw)?;
    let read = tcp.read_exact(&mut back).await;
    read.context("a new connection's echo")?;
    check(&back)
}

fn first_bytes() -> [u8; PAYLOAD.len() + 1] {
    let mut bytes = [ECHO; PAYLOAD.len() + 1];
    bytes[1..].copy_from_slice(&PAYLOAD);
    bytes
}

/// A tunnel that gives back something else is no tunnel.
pub(super) fn check(back: &[u8]) -> Result<(), Failure> {
    if back == PAYLOAD {
        return Ok(());
    }
    Err(Failure::new("other bytes came back than were sent"))
}
