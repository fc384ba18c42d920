//! `sternline-agent run`: puts the parts together and keeps them until SIGTERM.
//!
//! The order matters. What reads files of other folders comes first, then the fence,
//! then the runtime and its threads: a thread that starts before the fence would
//! stand outside of it.

use std::{ffi::OsString, io, os::fd::OwnedFd, sync::Arc};

use thiserror::Error;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tunnel::{Notifier, World};
use wire::limits::CLOSE_TIMEOUT;

use crate::{
    audit::{self, AUDIT_FILE},
    config::Settings,
    dialling::{Dialling, DiallingError},
    enrol::Start,
    gateways::Gateways,
    host::{Host, Vitals},
    netlink,
    node::{self, BeginError, Node, Parts},
    nudge::{Nudge, Nudges},
    policy_file::{PolicyFile, PolicyFileError},
    sandbox::{self, Needs, NotEnforced, Sandbox},
    sleep,
    state_dir::{StateDir, StateDirError},
    status::STATUS_FILE,
    supervisor::TokenRefused,
    token::TokenSources,
};

/// Threads that carry streams: more than a host's Docker can use would only cost memory.
const THREADS_MAX: usize = 4;

/// Why `run` ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// There is nothing to start with, or it cannot be read or written.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The policy is not usable.
    #[error(transparent)]
    Policy(#[from] PolicyFileError),
    /// Something about the way to the relay must be corrected.
    #[error(transparent)]
    Dialling(#[from] DiallingError),
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
            Self::Begin(BeginError::Start(_))
            | Self::Policy(_)
            | Self::Dialling(_)
            | Self::Sandbox(_)
            | Self::TokenRefused(_) => 78,
            Self::StateDir(_) | Self::Begin(BeginError::Identity(_)) | Self::System(_) => 74,
        }
    }
}

/// Everything that was made before the runtime.
struct Prepared {
    world: World,
    settings: Settings,
    dialling: Dialling,
    state: StateDir,
    start: Start,
    policy: PolicyFile,
    sandbox: Sandbox,
    notifier: Notifier,
    news: io::Result<OwnedFd>,
}

/// Runs the agent until SIGTERM or SIGINT. To be called while the process has one thread.
///
/// # Errors
///
/// See [`RunError`].
pub fn run(
    mut settings: Settings,
    token: TokenSources,
    environment: &[(OsString, OsString)],
) -> Result<(), RunError> {
    tunnel::install_crypto_provider();
    let state = StateDir::open(&settings.state_dir)?;
    settings.state_dir = state.path().to_owned();
    let policy = PolicyFile::open(settings.policy.clone())?;
    let dialling = Dialling::of(&settings, environment)?;
    let world = World::real();
    let start = node::begin(&world, &state, token.read())?;
    let notifier = Notifier::from_environment()?;
    let news = netlink::open();
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
        world,
        settings,
        dialling,
        state,
        start,
        policy,
        sandbox,
        notifier,
        news,
    }))
}

async fn serve(prepared: Prepared) -> Result<(), RunError> {
    let Prepared {
        world,
        settings,
        dialling,
        state,
        start,
        policy,
        sandbox,
        notifier,
        news,
    } = prepared;
    let (audit, audit_writer) = audit::open(state.file(AUDIT_FILE));
    let status_file = state.file(STATUS_FILE);
    // Ready without a session: a relay that is away must not keep the host from booting.
    notifier.ready();
    let nudges = Nudges::default();
    let looks = (world.clone(), nudges.clone());
    let node = Node::new(Parts {
        world,
        state,
        start,
        dialling,
        docker_socket: settings.docker_socket,
        policy: policy.subscribe(),
        policy_path: settings.policy.path().to_owned(),
        audit,
        gateways: Gateways::OfKernel,
        host: Host::look(),
        vitals: Vitals::OfKernel,
        sandbox: sandbox.told(),
        notifier,
        nudges: nudges.clone(),
    });
    let beside = Beside::begin(policy, nudges, node.stop())?;
    beside.watch_network(news, looks);
    beside.last.spawn_blocking(|| audit_writer.run());
    let written = node.board();
    let written = written.keep_written(status_file, beside.last_stop.clone());
    beside.last.spawn(written);
    let ended = node.run().await;
    beside.finish().await;
    ended.map_err(RunError::from)
}

/// The tasks beside the node, in the order in which they end.
struct Beside {
    /// Ends `tasks` and the node.
    stop: CancellationToken,
    /// What looks at the host.
    tasks: TaskTracker,
    /// Writers of files, which write what the others have to say at the end.
    last: TaskTracker,
    last_stop: CancellationToken,
}

impl Beside {
    fn begin(policy: PolicyFile, nudges: Nudges, stop: CancellationToken) -> io::Result<Self> {
        let (tasks, look_at_policy) = (TaskTracker::new(), Arc::new(Notify::new()));
        let signals = Signals::new()?;
        tasks.spawn(hear(
            signals,
            (look_at_policy.clone(), nudges),
            stop.clone(),
        ));
        tasks.spawn(policy.watch(look_at_policy, stop.clone()));
        Ok(Self {
            stop,
            tasks,
            last: TaskTracker::new(),
            last_stop: CancellationToken::new(),
        })
    }

    /// Has whatever changes the way to the relay call for a try at once.
    fn watch_network(&self, news: io::Result<OwnedFd>, (world, nudges): (World, Nudges)) {
        let stop = self.stop.clone();
        self.tasks
            .spawn(sleep::watch(world.clone(), nudges.clone(), stop.clone()));
        match news {
            Ok(news) => {
                self.tasks.spawn(netlink::watch(news, world, nudges, stop));
            }
            Err(error) => tracing::warn!(
                %error,
                "changes of this host's network are not heard of: a pause lasts to its end"
            ),
        }
    }

    async fn finish(self) {
        self.stop.cancel();
        finish(self.tasks).await;
        // The audit log's writer has ended with the node's last stream.
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

/// SIGTERM and SIGINT end the process in order, SIGHUP has the policy read and the relay
/// tried at once.
async fn hear(
    mut signals: Signals,
    (look_at_policy, nudges): (Arc<Notify>, Nudges),
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => {
                look_at_policy.notify_one();
                nudges.call(Nudge::Person);
            }
        }
    }
    tracing::info!("stopping");
    stop.cancel();
}
