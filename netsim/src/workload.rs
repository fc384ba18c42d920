//! What the vendor does meanwhile: streams to the Docker Engine of every agent, whose bytes
//! come back and are compared, and deployments there, each of which is asked for until it is
//! answered.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use netsim_core::{
    model::{Scenario, Word},
    random::{Seed, Stream as Dice},
    term::Name,
    time,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::Instant,
};
use tunnel::world::BoxIo;
use wire::id::RequestId;

use crate::{
    docker,
    outcome::{Reading, Sample},
};

/// How long a stream that is to last waits between its parts.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a vendor waits for the answer to a deployment before it asks again.
const ANSWER: Duration = Duration::from_secs(20);

/// The streams that one agent is asked for.
#[derive(Debug, Clone)]
pub struct Workload {
    streams: u32,
    every: Duration,
    bytes: usize,
    lasts: Duration,
    deployments: u32,
    run: Duration,
}

impl Workload {
    /// That of a drawn scenario.
    pub fn of(scenario: &Scenario) -> Self {
        let workload = &scenario.workload;
        Self {
            streams: workload.streams.get(),
            every: workload.every.get(),
            bytes: usize::try_from(workload.bytes.get().bytes).unwrap_or(usize::MAX),
            lasts: workload.lasts.get(),
            deployments: workload.deployments.get(),
            run: scenario.duration.get(),
        }
    }

    /// Does all of it, and ends with the last of it.
    pub async fn run(self, desk: Desk) {
        tokio::join!(self.clone().open_streams(desk.clone()), self.deploy(desk));
    }

    /// Asks for deployments, spread over the run. One that was not answered is asked for again,
    /// with the same name: it is to be there once.
    async fn deploy(self, desk: Desk) {
        let begun = Instant::now();
        for number in 1..=self.deployments {
            let at = self.run * number / (self.deployments + 1);
            tokio::time::sleep_until(begun + at).await;
            let name = format!("deployment-{number}");
            let mut dice = desk
                .seed
                .stream(&format!("deployment.{}.{number}", desk.host));
            while desk.ask_for(&name, &mut dice).await.is_err() {
                tokio::time::sleep(PAUSE).await;
            }
            desk.vendor
                .observe(&desk.host, Word::Deployed, &number.to_string());
        }
    }

    /// Opens streams one after the other, whatever becomes of those before.
    async fn open_streams(self, desk: Desk) {
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
        let begun_at = desk.vendor.now();
        let word = match self.carry(desk, &mut dice).await {
            Ok(()) => {
                // Opened while it was online, so that this is another connection.
                if desk.vendor.came_online_since(&desk.host, begun_at) {
                    let detail = number.to_string();
                    desk.vendor
                        .observe(&desk.host, Word::StreamResumed, &detail);
                }
                let bytes = u64::try_from(self.bytes).unwrap_or(u64::MAX);
                desk.measure(Reading::Carried {
                    bytes: bytes.saturating_mul(2),
                    took: begun.elapsed(),
                });
                (Word::StreamDone, String::new())
            }
            Err(Failed::NeverOpened) => return,
            Err(Failed::EndedEarly) if !desk.vendor.tells_breaks() => {
                (Word::StreamReset, "ended early".to_owned())
            }
            Err(Failed::Corrupted | Failed::EndedEarly) => {
                (Word::Corrupted, format!("stream {number}"))
            }
            Err(Failed::Reset(why)) => (Word::StreamReset, why),
        };
        desk.vendor.observe(&desk.host, word.0, &word.1);
    }

    /// Sends bytes, and has them back.
    async fn carry(&self, desk: &Desk, dice: &mut Dice) -> Result<(), Failed> {
        let mut id = [0; 16];
        dice.fill(&mut id);
        // An agent that is away is asked for nothing: that it is away is seen already.
        let opened = desk
            .vendor
            .open(&desk.host, RequestId::from_bytes(id))
            .await;
        let stream = opened.map_err(|_| Failed::NeverOpened)?;
        let never = |_| Failed::NeverOpened;
        let echo = docker::hijack(stream, b"").await.map_err(never)?;
        desk.vendor.observe(&desk.host, Word::StreamOpened, "");
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
            writer.shutdown().await.map_err(Failed::from)
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
                    let is_all = seen == sent.len();
                    return if is_all {
                        Ok(())
                    } else {
                        Err(Failed::EndedEarly)
                    };
                }
                if sent.get(seen..seen + read) != Some(&room[..read]) {
                    return Err(Failed::Corrupted);
                }
                seen += read;
            }
        };
        tokio::try_join!(send, receive)?;
        Ok(())
    }
}

/// A vendor, in whichever world: how streams are opened, and where is noted what became of
/// them.
#[async_trait]
pub trait Vendor: Send + Sync {
    /// Opens a stream to the Docker Engine beside the agent on a host.
    async fn open(&self, host: &Name, id: RequestId) -> std::io::Result<BoxIo>;

    /// Notes what was seen of an agent.
    fn observe(&self, host: &Name, word: Word, detail: &str);

    /// Whether an agent came online after a moment.
    fn came_online_since(&self, host: &Name, since: time::Instant) -> bool;

    /// Whether a stream that was broken off ends otherwise than one that was finished. Where it
    /// does, bytes that are missing before an end in order are lost ones.
    fn tells_breaks(&self) -> bool;

    /// How long the run has been going on.
    fn now(&self) -> time::Instant;
}

/// Samples, as they are taken.
#[derive(Debug, Clone, Default)]
pub struct Measured(Arc<Mutex<Vec<Sample>>>);

impl Measured {
    fn note(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push(sample);
    }

    /// Takes them out.
    pub fn take(&self) -> Vec<Sample> {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut samples)
    }
}

/// What the streams of one agent need.
#[derive(Clone)]
pub struct Desk {
    /// Who opens them.
    pub vendor: Arc<dyn Vendor>,
    /// The agent's host.
    pub host: Name,
    /// What their bytes grow from.
    pub seed: Seed,
    /// Where is noted what was measured.
    pub measured: Measured,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk")
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Desk {
    /// Asks for a deployment once.
    async fn ask_for(&self, name: &str, dice: &mut Dice) -> std::io::Result<()> {
        let mut id = [0; 16];
        dice.fill(&mut id);
        let id = RequestId::from_bytes(id);
        let ask = async {
            let stream = self.vendor.open(&self.host, id).await?;
            docker::create(stream, name, &id.to_string()).await
        };
        tokio::time::timeout(ANSWER, ask).await?
    }

    fn dice(&self, number: u32) -> Dice {
        self.seed
            .stream(&format!("workload.{}.{number}", self.host))
    }

    fn measure(&self, reading: Reading) {
        self.measured.note(Sample {
            at: self.vendor.now(),
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
    /// Other bytes came back.
    Corrupted,
    /// Not all of them came back before the end.
    EndedEarly,
    /// It was broken off.
    Reset(String),
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        Self::Reset(error.to_string())
    }
}
