//! A stream that takes all it can get, and pings: small requests, each after the answer to the
//! one before, on a connection of their own.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::road::Road;
use crate::report::figure::percentile;

/// What one read or write of a stream moves at most.
const BULK_BYTES: usize = 256 * 1024;

/// A ping, and its answer.
const PING: [u8; 64] = [b'p'; 64];

/// Pings with nothing beside them.
const ALONE: usize = 20;

/// In which direction a stream goes, as the relay's host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Down,
    Up,
}

/// When a stream is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// From its start on, this long, it is not.
    pub(super) warm_up: Duration,
    /// Then this long.
    pub(super) window: Duration,
}

/// How long pings took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pings {
    /// Half of them took at most so long.
    pub p50: Duration,
    /// Of a hundred, ninety-nine.
    pub p99: Duration,
    /// How many there were.
    pub count: usize,
}

impl Pings {
    fn of(mut all: Vec<Duration>) -> io::Result<Self> {
        all.sort_unstable();
        let [p50, p99] = [50, 99].map(|hundredths| percentile(&all, hundredths));
        let none = || io::Error::other("no ping came back");
        Ok(Self {
            p50: p50.ok_or_else(none)?,
            p99: p99.ok_or_else(none)?,
            count: all.len(),
        })
    }
}

/// A stream, and the pings beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flow {
    /// Bytes a second that arrived while it was measured.
    pub bytes_per_second: f64,
    /// Bytes a second that arrived before that, from its start on.
    pub bytes_per_second_at_first: f64,
    /// Pings while it was measured.
    pub pings: Pings,
}

/// Pings with nothing beside them.
pub(super) fn alone(road: &Road<'_>) -> io::Result<Pings> {
    let pair = road.connect()?;
    thread::scope(|scope| {
        scope.spawn(|| answer(&pair.far));
        let all: io::Result<Vec<Duration>> = (0..ALONE).map(|_| ping(&pair.near)).collect();
        pair.end();
        Pings::of(all?)
    })
}

/// A stream, and pings beside it.
pub(super) fn stream(road: &Road<'_>, direction: Direction, times: Times) -> io::Result<Flow> {
    let (bulk, pings) = (road.connect()?, road.connect()?);
    let (from, to) = match direction {
        Direction::Down => (&bulk.far, &bulk.near),
        Direction::Up => (&bulk.near, &bulk.far),
    };
    let taken = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| give(from));
        scope.spawn(|| take(to, &taken));
        scope.spawn(|| answer(&pings.far));
        let flow = watch(&pings.near, &taken, times);
        bulk.end();
        pings.end();
        flow
    })
}

fn watch(near: &TcpStream, taken: &AtomicU64, times: Times) -> io::Result<Flow> {
    let begun = Instant::now();
    let count = || (begun.elapsed(), taken.load(Ordering::Relaxed));
    while begun.elapsed() < times.warm_up {
        ping(near)?;
    }
    let (start, before) = count();
    let mut all = Vec::new();
    while begun.elapsed() < start + times.window {
        all.push(ping(near)?);
    }
    let (end, after) = count();
    if after == before {
        return Err(io::Error::other("not a byte came while it was measured"));
    }
    Ok(Flow {
        bytes_per_second: speed(after - before, end - start),
        bytes_per_second_at_first: speed(before, start),
        pings: Pings::of(all)?,
    })
}

#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn speed(bytes: u64, within: Duration) -> f64 {
    bytes as f64 / within.as_secs_f64()
}

/// Writes until the connection ends.
fn give(mut to: &TcpStream) {
    // Nothing that anybody could compress to nothing.
    let bytes: Vec<u8> = (0..BULK_BYTES).map(|at| ((at * 31) >> 3) as u8).collect();
    while to.write_all(&bytes).is_ok() {}
}

/// Reads and counts until the connection ends.
fn take(mut from: &TcpStream, taken: &AtomicU64) {
    let mut room = vec![0; BULK_BYTES];
    while let Ok(length @ 1..) = from.read(&mut room) {
        taken.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Answers pings until the connection ends.
fn answer(mut far: &TcpStream) {
    let mut room = PING;
    while far.read_exact(&mut room).is_ok() && far.write_all(&room).is_ok() {}
}

fn ping(mut near: &TcpStream) -> io::Result<Duration> {
    let mut room = [0; PING.len()];
    let begun = Instant::now();
    near.write_all(&PING)?;
    near.read_exact(&mut room)?;
    let took = begun.elapsed();
    if room == PING {
        Ok(took)
    } else {
        Err(io::Error::other("another answer came back"))
    }
}
