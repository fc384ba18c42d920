//! Ladders over the probe's own connections: silences, sizes, bytes in time, and many at once.

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    Run,
    attempt::What,
    channel::Channel,
    tcp::{self, Changed},
};
use crate::{
    observe::{Fault, IdleRung, Micros, ParallelTest, RateTest, SizeRung},
    protocol::Request,
};

/// How long an answer may take after a silence.
const AFTER_SILENCE: Duration = Duration::from_secs(6);

/// Bytes of the size ladder: below, at and above the packets of usual lines and tunnels.
const SIZES: [u32; 8] = [512, 1_000, 1_220, 1_300, 1_400, 1_500, 4_096, 8_192];

/// How long one size may take.
const SIZE_WITHIN: Duration = Duration::from_secs(4);

/// Of a measurement of bytes in time.
const RATE_FOR: Duration = Duration::from_secs(2);
const RATE_BYTES_MAX: u64 = 8 * 1024 * 1024;
const RATE_PIECE: u32 = 32 * 1024;
/// The first piece; doubled with each that follows.
const RATE_FIRST: u32 = 4 * 1024;
/// Pieces that are under way at once.
const RATE_AHEAD: u32 = 8;

/// How often what is striking is measured in all.
const RATE_TIMES: u8 = 3;
/// Slower is striking: what is faster is not worth anybody's complaint.
const STRIKING_BYTES_PER_SECOND: u64 = 256 * 1024;

/// Connections at once.
const PARALLEL: u16 = 64;
const PARALLEL_WITHIN: Duration = Duration::from_secs(4);

/// All rungs at once, on one flow; each with either end speaking first after it.
pub(super) async fn idle(run: &Run, what: &What, rungs: &[Duration]) -> Vec<IdleRung> {
    let both = rungs
        .iter()
        .flat_map(|rung| [(*rung, true), (*rung, false)]);
    let measured = both.map(|(rung, is_relay_first)| idle_rung(run, what, rung, is_relay_first));
    join_all(measured).await.into_iter().flatten().collect()
}

/// `None`: the connection did not come about at all, which says nothing about silence.
async fn idle_rung(
    run: &Run,
    what: &What,
    idle: Duration,
    is_relay_first: bool,
) -> Option<IdleRung> {
    let (mut channel, _) = Channel::open(run, what).await.ok()?;
    let answered = if is_relay_first {
        channel
            .ask(&Request::Later(idle), idle + AFTER_SILENCE)
            .await
    } else {
        tokio::time::sleep(idle).await;
        channel.ask(&Request::Back(vec![0]), AFTER_SILENCE).await
    };
    channel.close().await;
    Some(IdleRung {
        flow: what.flow,
        idle_ms: u64::try_from(idle.as_millis()).unwrap_or(u64::MAX),
        is_relay_first,
        fault: answered.err(),
    })
}

/// One size after the other, to the relay and back, up to the first that does not get through.
pub(super) async fn sizes(run: &Run, what: &What) -> Vec<SizeRung> {
    let mut rungs = Vec::new();
    for is_down in [false, true] {
        let Ok((mut channel, _)) = Channel::open(run, what).await else {
            return rungs;
        };
        for bytes in SIZES {
            let fault = size(&mut channel, bytes, is_down).await.err();
            let has_failed = fault.is_some();
            rungs.push(SizeRung {
                flow: what.flow,
                bytes,
                is_down,
                fault,
            });
            if has_failed {
                break;
            }
        }
        channel.close().await;
    }
    rungs
}

async fn size(channel: &mut Channel, bytes: u32, is_down: bool) -> Result<(), Fault> {
    let request = match is_down {
        true => Request::Send(bytes),
        false => {
            let body = vec![0; bytes as usize];
            channel.send(&Request::Forget(body)).await?;
            Request::Send(1)
        }
    };
    channel.ask(&request, SIZE_WITHIN).await.map(|_| ())
}

/// Bytes in time, both ways, on one flow after the other. What is striking is measured again, on
/// all of them: random loss does not do the same thing each time, and not to one flow alone.
pub(super) async fn rates(run: &Run, channels: &[What]) -> Vec<RateTest> {
    let mut all = Vec::new();
    for is_down in [true, false] {
        let mut tests = Vec::new();
        for _ in 0..RATE_TIMES {
            for what in channels {
                tests.extend(rate(run, what, is_down).await);
            }
            if !is_striking(&tests) {
                break;
            }
        }
        all.extend(tests);
    }
    all
}

/// Of one direction: slow, and not yet as often as it takes to be sure of a slow line.
fn is_striking(tests: &[RateTest]) -> bool {
    let are_slow = tests
        .iter()
        .map(|test| test.per_second() < STRIKING_BYTES_PER_SECOND);
    let slow = are_slow.filter(|is_slow| *is_slow).count();
    slow > 0 && (slow < tests.len() || slow < usize::from(RATE_TIMES))
}

/// Bytes in time, one way, with round trips beside them; `None`: no connection came about.
async fn rate(run: &Run, what: &What, is_down: bool) -> Option<RateTest> {
    let (mut load, _) = Channel::open(run, what).await.ok()?;
    let (mut beside, _) = Channel::open(run, what).await.ok()?;
    let idle_rtt = round_trip(&mut beside).await?;
    let started = Instant::now();
    let loading = async {
        match is_down {
            true => down(&mut load, started).await,
            false => up(&mut load, started).await,
        }
    };
    let watching = async {
        let mut slowest = None;
        loop {
            match round_trip(&mut beside).await {
                Some(rtt) => slowest = slowest.max(Some(rtt)),
                None => return slowest,
            }
            if started.elapsed() > RATE_FOR {
                return slowest;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let ((bytes, micros), loaded_rtt) = tokio::join!(loading, watching);
    load.close().await;
    beside.close().await;
    Some(RateTest {
        flow: what.flow,
        is_down,
        bytes,
        micros,
        idle_rtt,
        loaded_rtt,
    })
}

async fn round_trip(channel: &mut Channel) -> Option<Micros> {
    let started = Instant::now();
    let within = Duration::from_secs(3);
    channel.ask(&Request::Back(vec![0]), within).await.ok()?;
    Some(micros(started))
}

fn micros(since: Instant) -> Micros {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

async fn down(channel: &mut Channel, started: Instant) -> (u64, Micros) {
    let (mut bytes, mut ahead) = (0, 0);
    let until = started + RATE_FOR;
    // Of a slow line, the whole of a large piece would come too late.
    let mut next = RATE_FIRST;
    while Instant::now() < until && bytes < RATE_BYTES_MAX {
        while ahead < RATE_AHEAD {
            if channel.send(&Request::Send(next)).await.is_err() {
                return (bytes, micros(started));
            }
            ahead += 1;
            next = (2 * next).min(RATE_PIECE);
        }
        let Ok(Ok(piece)) = tokio::time::timeout_at(until, channel.receive()).await else {
            break;
        };
        bytes += piece.len() as u64;
        ahead -= 1;
    }
    (bytes, micros(started))
}

async fn up(channel: &mut Channel, started: Instant) -> (u64, Micros) {
    let (mut sent, mut acknowledged) = (0, 0);
    let until = started + RATE_FOR;
    // A slow line would acknowledge nothing of much in the time that there is.
    let mut burst = RATE_FIRST;
    while Instant::now() < until && sent < RATE_BYTES_MAX {
        let mut left = burst;
        while left > 0 {
            let bytes = left.min(RATE_PIECE);
            let piece = Request::Forget(vec![0; bytes as usize - 1]);
            let sending = tokio::time::timeout_at(until, channel.send(&piece)).await;
            if !matches!(sending, Ok(Ok(()))) {
                return (acknowledged, micros(started));
            }
            sent += u64::from(bytes);
            left -= bytes;
        }
        let asking = channel.ask(&Request::Send(1), RATE_FOR);
        let asked = tokio::time::timeout_at(until, asking).await;
        if !matches!(asked, Ok(Ok(_))) {
            break;
        }
        acknowledged = sent;
        burst = (2 * burst).min(RATE_AHEAD * RATE_PIECE);
    }
    (acknowledged, micros(started))
}

/// Many connections at once, held until the last has come about or failed.
pub(super) async fn parallel(to: SocketAddr) -> ParallelTest {
    let connecting = (0..PARALLEL).map(|_| tcp::connect(to, Changed::default(), PARALLEL_WITHIN));
    let connected = join_all(connecting).await;
    let opened = connected.iter().filter(|one| one.is_ok()).count();
    let opened_first = connected.iter().take_while(|one| one.is_ok()).count();
    let counted = |count| u16::try_from(count).unwrap_or(PARALLEL);
    ParallelTest {
        to,
        wanted: PARALLEL,
        opened: counted(opened),
        opened_first: counted(opened_first),
        fault: connected.into_iter().find_map(Result::err),
    }
}
