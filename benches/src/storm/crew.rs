//! Light agents in a process of their own: real keys, real dials and the agents' own backoff,
//! and nothing behind them. They are told what to do by lines on standard input, and answer
//! by lines of JSON on standard output.
//!
//! | told | answers |
//! |---|---|
//! | `fill N` | once all have a session, with `N` dials at a time |
//! | `watch` | at once; from then on whoever loses its session comes back by itself |
//! | `report` | once all are back: when, and when they tried |
//! | the end | nothing, and ends |

use std::{
    io::{BufRead, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{sync::Semaphore, task::JoinSet};
use tunnel::{Credential, DialOptions, Dialled, TransportChoice, World};
use wire::{
    backoff::Backoff,
    close::{CloseCode, Retry},
    message::control,
};

use crate::{
    failure::{Context, Failure},
    fleet::Fleet,
};

/// Who is not back by then does not come.
const GIVE_UP: Duration = Duration::from_secs(180);

/// Between two looks at whether all are back.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Which agents.
#[derive(Debug, Args)]
pub struct CrewArgs {
    /// The site's folder, with its enrolled fleet
    #[arg(long, value_name = "DIR")]
    pub folder: PathBuf,
    /// The first of them
    #[arg(long)]
    pub from: usize,
    /// How many
    #[arg(long)]
    pub count: usize,
    /// What they dial over
    #[arg(long)]
    pub transport: TransportChoice,
}

/// What a crew saw, in microseconds since 1970.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// When each came back.
    pub back: Vec<u64>,
    /// When somebody tried.
    pub tried: Vec<u64>,
    /// Tries that the relay answered by a time to come back.
    pub sent_away: u64,
    /// Tries that failed in another way than that nobody listened.
    pub failed: u64,
    /// What the first of those said.
    pub failure: Option<String>,
    /// Who did not come back.
    pub missing: usize,
}

/// What is shared by the agents of a crew.
#[derive(Debug, Default)]
struct Log {
    report: Mutex<Report>,
    /// Who has come back since the last report.
    back: AtomicUsize,
}

/// Now, in microseconds since 1970: the same clock for every process of a run.
pub fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// Runs a crew until its standard input ends.
///
/// # Errors
///
/// The fleet cannot be read, or somebody is not let in at all.
pub async fn run(arguments: &CrewArgs) -> Result<(), Failure> {
    tunnel::install_crypto_provider();
    let fleet = Fleet::kept(&arguments.folder, arguments.transport)?;
    let log = Arc::new(Log::default());
    let mut crew = Crew {
        world: World::real(),
        agents: fleet.agents(arguments.from, arguments.count)?,
        sessions: Vec::new(),
        watching: JoinSet::new(),
        log,
    };
    let (lines, mut told) = tokio::sync::mpsc::channel(4);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                break;
            }
        }
    });
    while let Some(line) = told.recv().await {
        let answer = match line.split_once(' ').unwrap_or((&line, "")) {
            ("fill", at_a_time) => crew.fill(at_a_time.parse().context("fill")?).await?,
            ("watch", _) => crew.watch(),
            ("report", _) => crew.report().await,
            (other, _) => return Err(Failure::new(format!("told `{other}`"))),
        };
        let text = serde_json::to_string(&answer).context("a report")?;
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").context("standard output")?;
        out.flush().context("standard output")?;
    }
    Ok(())
}

struct Crew {
    world: World,
    agents: Vec<Agent>,
    /// Those that were filled and not yet watched.
    sessions: Vec<(Agent, Dialled)>,
    watching: JoinSet<()>,
    log: Arc<Log>,
}

/// Who an agent is.
pub type Agent = Arc<(DialOptions, Credential)>;

impl Crew {
    async fn fill(&mut self, at_a_time: usize) -> Result<Report, Failure> {
        let permits = Arc::new(Semaphore::new(at_a_time));
        let mut dialling = JoinSet::new();
        for agent in self.agents.drain(..) {
            let permit = permits.clone().acquire_owned().await.context("closed")?;
            let world = self.world.clone();
            dialling.spawn(async move {
                let dialled = tunnel::dial(&world, &agent.0, &agent.1).await;
                drop(permit);
                dialled.map(|dialled| (agent, dialled, unix_micros()))
            });
        }
        let mut report = Report::default();
        while let Some(dialled) = dialling.join_next().await {
            let (agent, dialled, at) = dialled.context("a dial")?.context("a dial")?;
            report.back.push(at);
            self.sessions.push((agent, dialled));
        }
        Ok(report)
    }

    fn watch(&mut self) -> Report {
        for (agent, dialled) in self.sessions.drain(..) {
            let (world, log) = (self.world.clone(), self.log.clone());
            self.watching.spawn(come_back(world, agent, dialled, log));
        }
        Report::default()
    }

    async fn report(&mut self) -> Report {
        let (all, began) = (self.watching.len(), tokio::time::Instant::now());
        while self.log.back.load(Ordering::Relaxed) < all && began.elapsed() < GIVE_UP {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let report = self.log.report.lock();
        let mut report = std::mem::take(&mut *report.unwrap_or_else(PoisonError::into_inner));
        report.missing = all - self.log.back.swap(0, Ordering::Relaxed).min(all);
        report
    }
}

/// Keeps a session, as an agent's supervisor does.
async fn come_back(world: World, agent: Agent, mut dialled: Dialled, log: Arc<Log>) {
    let note = |note: &dyn Fn(&mut Report)| {
        note(&mut log.report.lock().unwrap_or_else(PoisonError::into_inner));
    };
    let mut backoff = Backoff::new();
    loop {
        let mut window = dialled.welcome.reconnect_window;
        backoff.on_connected(world.clock.now());
        loop {
            let message = tokio::select! {
                message = dialled.session.recv_control() => message,
                // It would wait for another connection, and a relay that was killed has none.
                () = dialled.session.connection_lost() => None,
            };
            match message {
                Some(control::Message::ReconnectWindow(told)) => {
                    window = Duration::from_millis(told.window_ms.into());
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut retry = CloseCode::ConnectionLost.retry();
        let stats = dialled.session.stats();
        backoff.on_lost(world.clock.now(), stats.last_heard > stats.opened_at);
        dialled = loop {
            let (now, random) = (world.clock.now(), world.random_unit());
            let Some(pause) = backoff.next_delay(now, window, retry, random) else {
                return;
            };
            tokio::time::sleep(pause).await;
            let at = unix_micros();
            match tunnel::dial(&world, &agent.0, &agent.1).await {
                Ok(dialled) => {
                    let back = unix_micros();
                    note(&|report| {
                        report.tried.push(at);
                        report.back.push(back);
                    });
                    log.back.fetch_add(1, Ordering::Relaxed);
                    break dialled;
                }
                Err(error) => {
                    retry = error.retry();
                    let is_slot = matches!(retry, Retry::Slot(_));
                    let is_failure = !is_slot && error.kind() != "connect";
                    note(&|report| {
                        report.tried.push(at);
                        report.sent_away += u64::from(is_slot);
                        report.failed += u64::from(is_failure);
                        if is_failure && report.failure.is_none() {
                            report.failure = Some(error.to_string());
                        }
                    });
                }
            }
        };
    }
}
