//! The gate before every door: [`admission`](crate::admission), with a clock, a look at the
//! processors, and a way to say no that costs next to nothing.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{Semaphore, watch},
};
use tokio_util::sync::CancellationToken;
use tracing::trace;
use tunnel::{World, world::BoxIo};
use wire::prelude::Prelude;

use crate::{
    admission::{Admission, Calibration, Door, Fleet, Rate, Sample, Verdict},
    limits::{
        CALIBRATE_EVERY, HANDSHAKES_PER_SECOND_ASSUMED, LINGER, LINGERING_MAX,
        RECONNECT_WINDOW_TOLD_EVERY,
    },
    metrics::{Admissions, Metrics},
};

/// What of a stranger's first flight is read while it is sent away: a ClientHello with a
/// post-quantum share has 2 kB.
const FLIGHT_BYTES_MAX: usize = 16 * 1024;

/// How many handshakes a second are taken, as somebody has configured it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HandshakeRate {
    /// As many as this machine turns out to do.
    #[default]
    Auto,
    /// The same, beginning with what a handshake has cost a former run.
    Learnt(Duration),
    /// So many.
    Fixed(u32),
    /// As many as come.
    Unlimited,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    world: World,
    metrics: Arc<Metrics>,
    /// `None`: everybody comes in.
    admission: Option<Mutex<Admission>>,
    is_calibrated: bool,
    /// Handshakes that have ended, since the last look.
    finished: AtomicU64,
    /// Handshakes that have begun, and how long they had waited, since the last look.
    began: AtomicU64,
    waited_micros: AtomicU64,
    lingering: Arc<Semaphore>,
}

impl Gate {
    /// A gate that nobody has come to.
    pub fn new(world: World, metrics: Arc<Metrics>, configured: HandshakeRate) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let rate = match configured {
            HandshakeRate::Auto => Some(Rate::Calibrated(Calibration::new(processors))),
            HandshakeRate::Learnt(cost) => {
                Some(Rate::Calibrated(Calibration::resuming(processors, cost)))
            }
            HandshakeRate::Fixed(rate) => Some(Rate::Fixed(f64::from(rate.max(1)))),
            HandshakeRate::Unlimited => None,
        };
        let now = world.clock.now();
        Arc::new(Self {
            world,
            metrics,
            admission: rate.map(|rate| Mutex::new(Admission::new(now, rate))),
            is_calibrated: matches!(configured, HandshakeRate::Auto | HandshakeRate::Learnt(_)),
            finished: AtomicU64::new(0),
            began: AtomicU64::new(0),
            waited_micros: AtomicU64::new(0),
            lingering: Arc::new(Semaphore::new(LINGERING_MAX)),
        })
    }

    fn admission(&self) -> Option<MutexGuard<'_, Admission>> {
        let admission = self.admission.as_ref()?;
        Some(admission.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Decides about somebody who has just come.
    pub fn arrive(&self, door: Door) -> Verdict {
        let now = self.world.clock.now();
        let verdict = self
            .admission()
            .map_or(Verdict::Admit, |mut admission| admission.arrive(now, door));
        match verdict {
            Verdict::Admit | Verdict::AdmitOperator => {}
            Verdict::Later(slot) => self.metrics.sent_away(Some(slot)),
            Verdict::Refuse => self.metrics.sent_away(None),
        }
        verdict
    }

    /// When somebody is to come back for whom there is no room now.
    pub fn book(&self) -> Duration {
        let now = self.world.clock.now();
        let slot = self
            .admission()
            .map_or(LINGER, |mut admission| admission.book(now));
        self.metrics.sent_away(Some(slot));
        slot
    }

    /// Somebody's handshake begins, who had come at this moment.
    pub fn began(&self, came: Instant) {
        let waited = self.world.clock.now().saturating_duration_since(came);
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.began.fetch_add(1, Ordering::Relaxed);
        self.waited_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// A handshake has ended, in whatever way.
    pub fn finished(&self) {
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// Over how long so many agents are to spread.
    pub fn window(&self, agents: u32) -> Duration {
        self.admission().map_or_else(
            || Duration::from_secs(agents.into()) / HANDSHAKES_PER_SECOND_ASSUMED,
            |admission| admission.window(agents),
        )
    }

    /// What a handshake costs, in processor time; `None` where that is not learnt.
    pub fn cost(&self) -> Option<Duration> {
        self.admission()?.cost()
    }

    /// What there is to say of it at a scrape; the window is for so many agents.
    pub fn reading(&self, agents: u32) -> Admissions {
        let (window, now) = (self.window(agents), self.world.clock.now());
        self.admission()
            .map_or_else(Admissions::default, |mut admission| Admissions {
                rate: Some(admission.rate()),
                booked: admission.booked(now),
                window,
            })
    }

    /// Says when to come back, and closes. It waits for nobody: what cannot be written at
    /// once is not said, and the other end then draws its time by itself.
    pub fn send_away(&self, mut tcp: BoxIo, slot: Duration) {
        let prelude = Prelude { come_back_in: slot }.encode();
        let written = async {
            tcp.write_all(&prelude).await?;
            tcp.shutdown().await
        };
        let is_said = matches!(written.now_or_never(), Some(Ok(())));
        if is_said && let Ok(permit) = self.lingering.clone().try_acquire_owned() {
            // Closed with its first flight unread, the kernel would answer by a reset, which
            // takes back what was written and not yet read.
            tokio::spawn(async move {
                tokio::time::timeout(LINGER, read_away(tcp)).await.ok();
                drop(permit);
            });
        }
    }

    /// Looks again and again at what handshakes cost, and tells who is still to come, until
    /// the token is cancelled. Where nothing is learnt from handshakes, it looks when
    /// `changes` has changed, and when a window may have been told.
    pub async fn keep(
        self: Arc<Self>,
        fleet: impl Fn() -> Fleet,
        mut changes: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let mut last = (self.world.clock.now(), processor_time());
        // Who was here before it began to look.
        changes.mark_changed();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(CALIBRATE_EVERY) => {}
            }
            if !self.is_calibrated {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    Ok(()) = changes.changed() => {}
                    () = tokio::time::sleep(RECONNECT_WINDOW_TOLD_EVERY) => {}
                }
            }
            let fleet = fleet();
            let Some(mut admission) = self.admission() else {
                return;
            };
            admission.expect(fleet);
            if !self.is_calibrated {
                continue;
            }
            let (now, spent) = (self.world.clock.now(), processor_time());
            let began = self.began.swap(0, Ordering::Relaxed).max(1);
            let sample = Sample {
                elapsed: now.saturating_duration_since(last.0),
                processor_time: spent.saturating_sub(last.1),
                admitted: admission.take_admitted(),
                finished: self.finished.swap(0, Ordering::Relaxed),
                lateness: Duration::from_micros(self.waited_micros.swap(0, Ordering::Relaxed))
                    .div_f64(began as f64),
            };
            last = (now, spent);
            admission.learn(now, sample);
            let booked = admission.booked(now);
            trace!(?sample, rate = admission.rate(), booked, "admission");
        }
    }
}

/// Reads what comes until its end, up to a bound, and forgets it.
async fn read_away(mut tcp: BoxIo) -> io::Result<()> {
    let mut into = [0; 2048];
    let mut left = FLIGHT_BYTES_MAX;
    while left > 0 {
        match tcp.read(&mut into).await? {
            0 => break,
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// What this process has had of the processors, user and system together.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
