//! What the vendor does meanwhile: streams to the Docker Engine of every agent, whose bytes
//! come back and are compared.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use netsim_core::{
    model::{Scenario, Word},
    random::{Seed, Stream as Dice},
    term::Name,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::Instant,
};
use tunnel::OpenRequest;
use wire::{id::RequestId, target::Target};

use super::{Measured, relays::Relays};
use crate::{
    docker,
    outcome::{Reading, Sample},
    sim::Sim,
};

/// How long a stream that is to last waits between its parts.
const PAUSE: Duration = Duration::from_secs(1);

/// The streams that one agent is asked for.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    streams: u32,
    every: Duration,
    bytes: usize,
    lasts: Duration,
}

impl Workload {
    /// That of a drawn scenario.
    pub(super) fn of(scenario: &Scenario) -> Self {
        let workload = &scenario.workload;
        Self {
            streams: workload.streams.get(),
            every: workload.every.get(),
            bytes: usize::try_from(workload.bytes.get().bytes).unwrap_or(usize::MAX),
            lasts: workload.lasts.get(),
        }
    }

    /// Opens them one after the other, whatever becomes of those before. Ends with the last.
    pub(super) async fn run(self, desk: Desk) {
        let mut streams = JoinSet::new();
        let mut at = Instant::now();
        for number in 0..self.streams {
            at += self.every;
            tokio::time::sleep_until(at).await;
            let (one, desk) = (self.clone(), desk.clone());
            streams.spawn(async move { one.stream(&desk, number).await });
            while streams.try_join_next().is_some() {}
        }
        while streams.join_next().await.is_some() {}
    }

    async fn stream(&self, desk: &Desk, number: u32) {
        let mut dice = desk.dice(number);
        let begun = Instant::now();
        let word = match self.carry(desk, &mut dice).await {
            Ok(()) => {
                let bytes = u64::try_from(self.bytes).unwrap_or(u64::MAX);
                desk.measure(Reading::Carried {
                    bytes: bytes.saturating_mul(2),
                    took: begun.elapsed(),
                });
                (Word::StreamDone, String::new())
            }
            Err(Failed::NeverOpened) => return,
            Err(Failed::Corrupted) => (Word::Corrupted, format!("stream {number}")),
            Err(Failed::Reset(why)) => (Word::StreamReset, why),
        };
        desk.sim.observe(Some(&desk.host), word.0, &word.1);
    }

    /// Sends bytes, and has them back.
    async fn carry(&self, desk: &Desk, dice: &mut Dice) -> Result<(), Failed> {
        let mut id = [0; 16];
        dice.fill(&mut id);
        let request = OpenRequest {
            environment: String::new(),
            target: Target::Docker,
            principal: String::new(),
            request_id: RequestId::from_bytes(id),
            first_bytes: Bytes::new(),
        };
        // An agent that is away is asked for nothing: that it is away is seen already.
        let opened = desk.relays.open(&desk.host, request).await;
        let (stream, _open) = opened.map_err(|_| Failed::NeverOpened)?;
        desk.sim.observe(Some(&desk.host), Word::StreamOpened, "");
        let echo = docker::hijack(stream, b"").await?;
        let (mut reader, mut writer) = tokio::io::split(echo);
        let mut sent = vec![0; self.bytes];
        dice.fill(&mut sent);
        let parts = usize::try_from(self.lasts.as_secs() / PAUSE.as_secs()).unwrap_or(1) + 1;
        let size = sent.len().div_ceil(parts).max(1);
        let begun = Instant::now();
        let send = async {
            for (place, part) in sent.chunks(size).enumerate() {
                if place > 0 {
                    tokio::time::sleep(PAUSE).await;
                }
                writer.write_all(part).await?;
            }
            writer.shutdown().await
        };
        let receive = async {
            let mut seen = 0;
            let mut room = vec![0; 64 * 1024];
            loop {
                let read = reader.read(&mut room).await?;
                if seen == 0 && read > 0 {
                    desk.measure(Reading::RoundTrip(begun.elapsed()));
                }
                if read == 0 {
                    return Ok::<bool, std::io::Error>(seen == sent.len());
                }
                if sent.get(seen..seen + read) != Some(&room[..read]) {
                    return Ok(false);
                }
                seen += read;
            }
        };
        let (_sent, is_whole) = tokio::try_join!(send, receive)?;
        if is_whole {
            Ok(())
        } else {
            Err(Failed::Corrupted)
        }
    }
}

/// What the streams of one agent need.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) sim: Sim,
    pub(super) host: Name,
    pub(super) seed: Seed,
    pub(super) relays: Arc<Relays>,
    pub(super) measured: Measured,
}

impl Desk {
    fn dice(&self, number: u32) -> Dice {
        self.seed
            .stream(&format!("workload.{}.{number}", self.host))
    }

    fn measure(&self, reading: Reading) {
        self.measured.note(Sample {
            at: self.sim.now(),
            host: self.host.clone(),
            reading,
        });
    }
}

/// Why a stream did not carry all its bytes.
#[derive(Debug)]
enum Failed {
    /// The agent, or the session, was gone before anything was sent.
    NeverOpened,
    /// Other bytes came back, or not all of them before the end.
    Corrupted,
    /// It was broken off.
    Reset(String),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Reset(error.to_string())
    }
}
