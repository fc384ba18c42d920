//! What a person on this host can see of the agent: `status.json`, replaced on every
//! change and at least every ten seconds.
//!
//! A file and no socket, because the agent never listens. A reader tells a fresh
//! file from one left by a dead process by the boot-relative time and the process id
//! in it; the wall clock may jump.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    file::{self, Durability},
    sandbox::Fence,
};

pub mod show;

/// The file's name in the state directory.
pub const STATUS_FILE: &str = "status.json";
/// At least this often the file is written.
pub const WRITE_EVERY: Duration = Duration::from_secs(10);
/// Older than this, the file says nothing about the present: four missed writes.
pub const FRESH_FOR: Duration = Duration::from_secs(40);
/// Changes closer together than this are written once.
const WRITE_PAUSE: Duration = Duration::from_millis(50);

/// What the agent is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Dialling for the first time, with a token.
    Enrolling,
    /// Dialling.
    Connecting,
    /// A session is open.
    Online,
    /// The session has lost its connection, and waits for another with its streams.
    Reconnecting,
    /// Waiting to dial again.
    BackingOff,
    /// The relay refuses this agent; it asks again, rarely.
    Refused,
    /// The process has ended in order.
    Stopped,
}

/// Everything that `status` shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program that wrote the file.
    pub version: String,
    /// What the agent is doing.
    pub state: State,
    /// Name of the environment.
    pub environment: String,
    /// The agent's id, once enrolled.
    pub agent_id: Option<String>,
    /// The relay's address: of the session, else the first that is dialled.
    pub relay_address: String,
    /// The id of the session that is open, as in the relay's log.
    pub session_id: Option<String>,
    /// The transport of the session.
    pub transport: Option<String>,
    /// The proxy that the session goes through, without its login.
    pub proxy: Option<String>,
    /// Who intercepts TLS on the way, and is allowed to: the certificate's issuer.
    pub intercepted_by: Option<String>,
    /// The session's round trip.
    pub rtt_ms: Option<f64>,
    /// When the session was opened.
    pub connected_since: Option<Timestamp>,
    /// When the relay was last heard.
    pub last_heard: Option<Timestamp>,
    /// The last thing that went wrong, even if it goes well again.
    pub last_error: Option<LastError>,
    /// When the next attempt to connect is made.
    pub next_attempt_at: Option<Timestamp>,
    /// How many attempts in a row have failed.
    pub attempt: u32,
    /// The Docker Engine on this host.
    pub docker: DockerStatus,
    /// The customer's policy.
    pub policy: PolicyStatus,
    /// What the kernel enforces on the process.
    pub sandbox: String,
    /// The same, fence by fence, each of which was tried.
    pub fences: Vec<Fence>,
    /// Stacks that the vendor runs on this host.
    #[serde(default)]
    pub stacks: Vec<StackStatus>,
    /// Streams open in the session.
    pub streams_open: usize,
    /// When and by whom the file was written.
    pub written: Written,
}

/// A stack that the vendor runs on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackStatus {
    /// Its name.
    pub name: String,
    /// How far it is: `committed`, `applying`, `reverted`, …
    pub phase: String,
    /// The release that was asked for.
    pub release: Option<String>,
    /// The release that was last found well.
    pub committed: Option<String>,
    /// Services that are as they shall be, and all of them.
    pub services: (usize, usize),
    /// Why it is not as it was asked for.
    pub cause: Option<String>,
}

/// Something that went wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    /// Stable, for scripts.
    pub code: String,
    /// For people.
    pub message: String,
    /// What to do about it; empty where there is nothing to do.
    pub advice: String,
    /// When.
    pub at: Timestamp,
}

/// The Docker Engine as the agent finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DockerStatus {
    /// `ok`, `missing`, `permission_denied`, `not_responding`, `not_allowed`, or
    /// `unknown` until it was asked.
    pub state: String,
    /// Such as `20.10.24`; empty where unknown.
    pub engine_version: String,
    /// Such as `1.41`; empty where unknown.
    pub api_version: String,
    /// What to do about it; empty where there is nothing to do.
    pub advice: String,
}

/// The policy as it is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// The file, where one is in force.
    pub file: Option<PathBuf>,
    /// Whether the file on the disk is what is in force.
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
    /// Targets that are allowed, in the policy's own words.
    pub allowed: Vec<String>,
    /// What else it says, in its own words: `docker.…` and `limits.…`.
    pub rules: Vec<String>,
}

/// When and by whom the file was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// By the wall clock, for people.
    pub at: Timestamp,
    /// The writing process.
    pub pid: u32,
    /// In which process ids are counted; another reader's may differ.
    pub pid_namespace: String,
    /// Which boot of the host.
    pub boot_id: String,
    /// Since that boot, suspended time included.
    pub uptime_ms: u64,
}

impl Written {
    /// Not yet.
    pub const fn never() -> Self {
        Self {
            at: Timestamp::UNIX_EPOCH,
            pid: 0,
            pid_namespace: String::new(),
            boot_id: String::new(),
            uptime_ms: 0,
        }
    }

    /// The present moment, and this process.
    #[expect(
        clippy::disallowed_methods,
        reason = "who writes to a disk, or reads there, is outside of every simulation"
    )]
    pub fn now() -> Self {
        let uptime = rustix::time::clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(uptime.tv_sec).unwrap_or_default();
        let milliseconds = u64::try_from(uptime.tv_nsec).unwrap_or_default() / 1_000_000;
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id");
        let namespace = fs::read_link("/proc/self/ns/pid");
        Self {
            at: Timestamp::now(),
            pid: std::process::id(),
            pid_namespace: namespace
                .map(|link| link.display().to_string())
                .unwrap_or_default(),
            boot_id: boot_id.map(|id| id.trim().to_owned()).unwrap_or_default(),
            uptime_ms: seconds * 1_000 + milliseconds,
        }
    }
}

/// Told of every change of the status, at once and in order.
pub type OnChange = Box<dyn Fn(&Status) + Send + Sync>;

/// Holds the status, tells of its changes, and has it written where somebody wants that.
#[derive(Debug)]
pub struct Board {
    shown: Mutex<Shown>,
    changed: Notify,
}

struct Shown {
    status: Status,
    hooks: Vec<OnChange>,
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.status.fmt(f)
    }
}

impl Board {
    /// A board in memory; [`Board::keep_written`] has it on a disk, too.
    pub fn new(first: Status) -> Arc<Self> {
        Arc::new(Self {
            shown: Mutex::new(Shown {
                status: first,
                hooks: Vec::new(),
            }),
            changed: Notify::new(),
        })
    }

    /// Has `hook` told of every change from now on, before whoever makes the next one
    /// goes on. It must not ask this board for anything.
    pub fn on_change(&self, hook: OnChange) {
        self.shown().hooks.push(hook);
    }

    /// Changes the status, tells of it and has it written.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut shown = self.shown();
        let before = shown.status.clone();
        change(&mut shown.status);
        if shown.status == before {
            return;
        }
        for hook in &shown.hooks {
            hook(&shown.status);
        }
        drop(shown);
        self.changed.notify_one();
    }

    /// The status as it is.
    pub fn view(&self) -> Status {
        self.shown().status.clone()
    }

    /// A panic elsewhere leaves plain values behind: they are still good to show.
    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the file on every change and at least every [`WRITE_EVERY`]; when told
    /// to stop, once more. A full disk is logged once and never stops the agent.
    pub async fn keep_written(self: Arc<Self>, path: PathBuf, stop: CancellationToken) {
        let mut failing = false;
        loop {
            let written = self.write(&path);
            match &written {
                Err(error) if !failing => tracing::error!(
                    path = %path.display(), %error, "cannot write the status; trying on"
                ),
                Ok(()) if failing => tracing::info!("the status is written again"),
                Err(_) | Ok(()) => {}
            }
            failing = written.is_err();
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = self.wait_for_change() => {}
                () = tokio::time::sleep(WRITE_EVERY) => {}
            }
        }
    }

    /// The first change after a pause is written at once, a flood of them in bundles.
    async fn wait_for_change(&self) {
        tokio::time::sleep(WRITE_PAUSE).await;
        self.changed.notified().await;
    }

    /// Some kilobytes to the page cache: quicker than handing them to another thread.
    fn write(&self, path: &Path) -> io::Result<()> {
        let mut status = self.view();
        status.written = Written::now();
        let mut text = serde_json::to_string_pretty(&status)?;
        text.push('\n');
        file::replace(path, text.as_bytes(), 0o644, Durability::Fleeting)
    }
}
