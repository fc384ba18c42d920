//! `sternline-agent run`: puts the parts together and keeps them until SIGTERM.
//!
//! The order matters. What reads files of other folders comes first, then the fence,
//! then the runtime and its threads: a thread that starts before the fence would
//! stand outside of it.

use std::{io, sync::Arc};

use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tunnel::{Notifier, World};
use wire::{id::InstanceId, key::Secret, limits::CLOSE_TIMEOUT};

use crate::{
    audit::{self, AUDIT_FILE},
    config::Settings,
    docker::{self, Health},
    enrol::{self, Start, StartError},
    figures::Figures,
    host::Host,
    identity::{self, IdentityError},
    policy_file::{PolicyFile, PolicyFileError},
    sandbox::{self, Needs, NotEnforced, Sandbox},
    state_dir::{StateDir, StateDirError},
    status::{Board, STATUS_FILE},
    supervisor::{Facts, Supervisor, TokenRefused},
    token::TokenSources,
    view,
    work::Work,
};

/// Threads that carry streams: more than a host's Docker can use would only cost memory.
const THREADS_MAX: usize = 4;

/// Why `run` ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The identity cannot be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is nothing to start with.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The policy is not usable.
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    /// The kernel enforces less than is required.
    #[error(transparent)]
    Sandbox(#[from] NotEnforced),
    /// The relay refuses the token.
    #[error(transparent)]
    TokenRefused(#[from] TokenRefused),
    /// The system has no more of something: threads, file descriptors.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

impl RunError {
    /// As in sysexits.h: 78 where a person must correct something first, 74 where a
    /// disk or the system failed.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Start(_) | Self::Policy(_) | Self::Sandbox(_) | Self::TokenRefused(_) => 78,
            Self::StateDir(_) | Self::Identity(_) | Self::System(_) => 74,
        }
    }
}

/// Everything that was made before the runtime.
struct Prepared {
    settings: Settings,
    state: StateDir,
    start: Start,
    policy: PolicyFile,
    sandbox: Sandbox,
    notifier: Notifier,
}

/// Runs the agent until SIGTERM or SIGINT. To be called while the process has one thread.
///
/// # Errors
///
/// See [`RunError`].
pub fn run(mut settings: Settings, token: TokenSources) -> Result<(), RunError> {
    tunnel::install_crypto_provider();
    let state = StateDir::open(&settings.state_dir)?;
    settings.state_dir = state.path().to_owned();
    let policy = PolicyFile::open(settings.policy.clone())?;
    let start = begin(&state, &token)?;
    let notifier = Notifier::from_environment()?;
    let sandbox = sandbox::apply(&Needs::of(&settings), settings.sandbox)?;
    if sandbox.is_whole() {
        tracing::info!(%sandbox, "outbound only");
    } else {
        tracing::warn!(%sandbox, "outbound only, not all of it enforced by this kernel");
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors.min(THREADS_MAX))
        .enable_all()
        .build()?;
    runtime.block_on(serve(Prepared {
        settings,
        state,
        start,
        policy,
        sandbox,
        notifier,
    }))
}

/// Decides who this process is, and has that on the disk before anything is dialled.
fn begin(state: &StateDir, token: &TokenSources) -> Result<Start, RunError> {
    let existing = identity::load(state)?;
    let seed = Secret::from_bytes(tunnel::random_bytes());
    let start = enrol::decide(existing, token.read(), seed, tunnel::sha256)?;
    identity::save(state, &start.identity)?;
    if let Some(notice) = &start.notice {
        tracing::info!("{notice}");
    }
    Ok(start)
}

async fn serve(prepared: Prepared) -> Result<(), RunError> {
    let Prepared {
        settings,
        state,
        start,
        policy,
        sandbox,
        notifier,
    } = prepared;
    let path = settings.policy.path();
    let first = view::first(
        &start.identity,
        &sandbox,
        &policy.subscribe().borrow(),
        path,
    );
    let board = Board::new(state.file(STATUS_FILE), first);
    let (audit, audit_writer) = audit::open(state.file(AUDIT_FILE));
    let background = Background {
        stop: CancellationToken::new(),
        tasks: TaskTracker::new(),
        streams: TaskTracker::new(),
        last: TaskTracker::new(),
        last_stop: CancellationToken::new(),
    };
    let world = World::real();
    let figures = Figures::new();
    let work = Work {
        world: world.clone(),
        docker_socket: settings.docker_socket.clone(),
        policy: policy.subscribe(),
        audit,
        figures: figures.clone(),
        tasks: background.streams.clone(),
    };
    background.last.spawn_blocking(|| audit_writer.run());
    background
        .last
        .spawn(board.clone().keep_written(background.last_stop.clone()));
    let facts = background.watch_host(policy, &settings, &sandbox, &board)?;
    // Ready without a session: a relay that is away must not keep the host from booting.
    notifier.ready();
    let supervisor = Supervisor {
        pulse: notifier.pulse(),
        notifier,
        instance: InstanceId::from_bytes(world.random()),
        world,
        state,
        identity: start.identity,
        secret: start.secret,
        spare: start.spare,
        transport: settings.transport,
        board,
        work,
        figures,
        facts,
        is_unsaved: false,
        stop: background.stop.clone(),
    };
    let ended = supervisor.run().await;
    background.finish().await;
    ended.map_err(RunError::from)
}

/// The tasks beside the supervisor, in the order in which they end.
struct Background {
    /// Ends `tasks` and the supervisor.
    stop: CancellationToken,
    /// What looks at the host.
    tasks: TaskTracker,
    /// What the vendor came for.
    streams: TaskTracker,
    /// Writers of files, which write what the others have to say at the end.
    last: TaskTracker,
    last_stop: CancellationToken,
}

impl Background {
    fn watch_host(
        &self,
        policy: PolicyFile,
        settings: &Settings,
        sandbox: &Sandbox,
        board: &Arc<Board>,
    ) -> io::Result<Facts> {
        let (look_at_policy, ask_docker) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (health, docker) = watch::channel(Health::Unknown);
        let in_force = policy.subscribe();
        let watcher = docker::Watcher {
            socket: settings.docker_socket.clone(),
            policy: in_force.clone(),
            health,
            ask: ask_docker.clone(),
        };
        let shown = settings.policy.path().to_owned();
        let signals = signals(Signals::new()?, look_at_policy.clone(), self.stop.clone());
        self.tasks.spawn(signals);
        self.tasks.spawn(watcher.run(self.stop.clone()));
        self.tasks
            .spawn(policy.watch(look_at_policy, self.stop.clone()));
        self.tasks.spawn(view::keep_shown(
            board.clone(),
            docker.clone(),
            in_force.clone(),
            shown,
        ));
        let (host, sandbox) = (Host::look(), sandbox.to_string());
        Ok(Facts {
            host,
            sandbox,
            docker,
            ask_docker,
            policy: in_force,
        })
    }

    async fn finish(self) {
        self.stop.cancel();
        finish(self.streams).await;
        finish(self.tasks).await;
        // The audit log's writer has ended with the last stream.
        self.last_stop.cancel();
        finish(self.last).await;
    }
}

/// Waits for the tasks, but not for ever: the process is ending.
async fn finish(tasks: TaskTracker) {
    tasks.close();
    if tokio::time::timeout(CLOSE_TIMEOUT, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!(left = tasks.len(), "tasks that did not end in time");
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// SIGTERM and SIGINT end the process in order, SIGHUP has the policy read.
async fn signals(mut signals: Signals, look_at_policy: Arc<Notify>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => look_at_policy.notify_one(),
        }
    }
    tracing::info!("stopping");
    stop.cancel();
}
