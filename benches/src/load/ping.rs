//! 64 bytes there and back on one connection, alone or beside a download.

use std::{
    cell::Cell,
    io::{Read, Write},
    net::TcpStream,
    rc::Rc,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{
    LoadArgs, Measured, add_latency, block_on, bulk,
    connect::{PATIENCE, PAYLOAD, check},
};
use crate::{
    backend::ECHO,
    failure::{Context, Failure},
};

/// How often the download looks whether the pings are through.
const LOOK: Duration = Duration::from_millis(5);

pub(super) fn alone(args: &LoadArgs) -> Result<Measured, Failure> {
    let mut measured = Measured::new();
    add_latency(&mut pings(args)?, &mut measured)?;
    Ok(measured)
}

/// The pings block on a thread of their own: they never wait for the download's.
pub(super) fn beside_a_download(args: &LoadArgs) -> Result<Measured, Failure> {
    let is_over = AtomicBool::new(false);
    let (latencies, speed) = std::thread::scope(|scope| {
        let download = scope.spawn(|| block_on(download_until(args, &is_over)));
        let latencies = pings(args);
        is_over.store(true, Ordering::Relaxed);
        (latencies, download.join())
    });
    let speed = speed.map_err(|_| Failure::new("the download panicked"))??;
    let mut measured = Measured::from([("download_mb_per_s".to_owned(), speed)]);
    add_latency(&mut latencies?, &mut measured)?;
    Ok(measured)
}

/// Downloads until told to end; its speed over all that time, in MB/s.
async fn download_until(args: &LoadArgs, is_over: &AtomicBool) -> Result<f64, Failure> {
    let count = Rc::new(Cell::new(0));
    let began = Instant::now();
    bulk::download(args.raw, 1, &count).await?;
    while !is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK).await;
    }
    Ok(count.get() as f64 / 1e6 / began.elapsed().as_secs_f64())
}

/// Latencies in nanoseconds of all pings in the window.
fn pings(args: &LoadArgs) -> Result<Vec<u64>, Failure> {
    let mut tcp = TcpStream::connect(args.raw).context(args.raw)?;
    tcp.set_nodelay(true).context(args.raw)?;
    tcp.set_read_timeout(Some(PATIENCE)).context(args.raw)?;
    tcp.write_all(&[ECHO]).context(args.raw)?;
    let begin = Instant::now() + args.warm_up();
    let end = begin + args.window();
    let (mut latencies, mut back) = (Vec::new(), [0; PAYLOAD.len()]);
    loop {
        let began = Instant::now();
        tcp.write_all(&PAYLOAD).context("a ping")?;
        tcp.read_exact(&mut back).context("a ping's echo")?;
        let now = Instant::now();
        check(&back)?;
        if began >= begin {
            latencies.push(now.duration_since(began).as_nanos() as u64);
        }
        if now >= end {
            return Ok(latencies);
        }
    }
}
