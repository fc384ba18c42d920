//! Is the Docker Engine there, and if not, what can a person do about it?
//!
//! Asked when a session opens and every 30 seconds. Connecting to the socket comes
//! first, because its error tells a missing socket from a forbidden one.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bollard::API_DEFAULT_VERSION;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tunnel::{
    World,
    world::{Net, TargetEnd, TargetSocket},
};
use wire::message::{self, docker::State};

use crate::{policy::Access, policy_file::PolicyInForce, status::DockerStatus, watched};

mod transport;

pub use transport::Transport;

/// How often the Engine is asked.
const ASK_EVERY: Duration = Duration::from_secs(30);
/// How long an answer may take. A busy Engine answers `/version` within a second.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Not asked yet.
    Unknown,
    /// The policy does not allow it, so nobody asks.
    NotAllowed,
    /// It answers.
    Ok {
        /// Such as `20.10.24`.
        engine_version: String,
        /// Such as `1.41`.
        api_version: String,
    },
    /// There is no socket.
    Missing {
        /// What to do.
        advice: String,
    },
    /// The socket may not be opened.
    PermissionDenied {
        /// What to do.
        advice: String,
    },
    /// The socket is there and the Engine does not answer.
    NotResponding {
        /// What to do.
        advice: String,
    },
}

impl Health {
    /// For the relay.
    pub fn to_message(&self) -> message::Docker {
        let (state, engine_version, api_version) = match self {
            Self::Unknown => (State::Unspecified, "", ""),
            Self::NotAllowed => (State::NotAllowed, "", ""),
            Self::Ok {
                engine_version,
                api_version,
            } => (State::Ok, engine_version.as_str(), api_version.as_str()),
            Self::Missing { .. } => (State::Missing, "", ""),
            Self::PermissionDenied { .. } => (State::PermissionDenied, "", ""),
            Self::NotResponding { .. } => (State::NotResponding, "", ""),
        };
        message::Docker {
            state: state.into(),
            engine_version: engine_version.to_owned(),
            api_version: api_version.to_owned(),
            detail: self.advice().to_owned(),
        }
    }

    /// For the person on this host.
    pub fn to_status(&self) -> DockerStatus {
        let message = self.to_message();
        let state = match self {
            Self::Unknown => "unknown",
            Self::NotAllowed => "not_allowed",
            Self::Ok { .. } => "ok",
            Self::Missing { .. } => "missing",
            Self::PermissionDenied { .. } => "permission_denied",
            Self::NotResponding { .. } => "not_responding",
        };
        DockerStatus {
            state: state.to_owned(),
            engine_version: message.engine_version,
            api_version: message.api_version,
            advice: message.detail,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Unknown | Self::Ok { .. } => "",
            Self::NotAllowed => "the customer's policy does not allow Docker",
            Self::Missing { advice }
            | Self::PermissionDenied { advice }
            | Self::NotResponding { advice } => advice,
        }
    }
}

/// Asks the Engine again and again and publishes what changes.
#[derive(Debug)]
pub struct Watcher {
    /// For the way to the socket.
    pub world: World,
    /// The Engine's socket.
    pub socket: PathBuf,
    /// Whether it may be asked.
    pub policy: watch::Receiver<PolicyInForce>,
    /// Where the answer goes.
    pub health: watch::Sender<Health>,
    /// Has it asked at once.
    pub ask: Arc<Notify>,
}

impl Watcher {
    /// One that has not yet asked, and where it tells what it finds.
    pub fn new(
        world: &World,
        socket: &Path,
        policy: &watch::Receiver<PolicyInForce>,
    ) -> (Self, watch::Receiver<Health>) {
        let (health, told) = watch::channel(Health::Unknown);
        let watcher = Self {
            world: world.clone(),
            socket: socket.to_owned(),
            policy: policy.clone(),
            health,
            ask: Arc::new(Notify::new()),
        };
        (watcher, told)
    }

    /// Runs until told to stop.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let allowed = self.policy.borrow_and_update().policy.docker().access != Access::None;
            let health = match allowed {
                true => tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    health = ask(&self.world.net, &self.socket) => health,
                },
                false => Health::NotAllowed,
            };
            self.publish(health);
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = watched::changed(&mut self.policy) => {}
                () = self.ask.notified() => {}
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
        }
    }

    fn publish(&self, health: Health) {
        let changed = self.health.send_if_modified(|current| {
            let changed = *current != health;
            current.clone_from(&health);
            changed
        });
        if !changed {
            return;
        }
        let docker = health.to_status();
        match health {
            Health::Ok { .. } => tracing::info!(
                engine = docker.engine_version,
                api = docker.api_version,
                "docker answers"
            ),
            Health::NotAllowed => tracing::info!("docker is not allowed by the policy"),
            Health::Unknown
            | Health::Missing { .. }
            | Health::PermissionDenied { .. }
            | Health::NotResponding { .. } => tracing::warn!(
                state = docker.state,
                advice = docker.advice,
                "docker cannot be used"
            ),
        }
    }
}

/// Asks the Engine once.
pub async fn ask(net: &Arc<dyn Net>, socket: &Path) -> Health {
    let connect = net.connect_target(TargetEnd::Unix(socket));
    let connected = match timeout(ANSWER_WITHIN, connect).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return refused(&error, socket),
        Err(_) => return silent(socket),
    };
    match timeout(ANSWER_WITHIN, version(net, socket, connected)).await {
        Ok(Ok(health)) => health,
        Ok(Err(error)) => {
            tracing::debug!(%error, "docker's version");
            Health::NotResponding {
                advice: format!(
                    "what listens on {} does not answer as a Docker Engine does: {error}",
                    socket.display()
                ),
            }
        }
        Err(_) => silent(socket),
    }
}

async fn version(
    net: &Arc<dyn Net>,
    socket: &Path,
    connected: TargetSocket,
) -> Result<Health, bollard::errors::Error> {
    let transport = Transport::new(net.clone(), socket.to_owned(), connected);
    let engine = transport.engine(ANSWER_WITHIN, API_DEFAULT_VERSION)?;
    // An Engine refuses a version newer than its own, so the version is agreed first.
    let version = engine.negotiate_version().await?.version().await?;
    Ok(Health::Ok {
        engine_version: version.version.unwrap_or_default(),
        api_version: version.api_version.unwrap_or_default(),
    })
}

fn silent(socket: &Path) -> Health {
    Health::NotResponding {
        advice: format!(
            "{} opens and nothing answers within {} s: look at the Docker daemon's log",
            socket.display(),
            ANSWER_WITHIN.as_secs()
        ),
    }
}

fn refused(error: &io::Error, socket: &Path) -> Health {
    let socket = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Health::Missing {
            advice: format!(
                "there is no {socket}: start Docker; in a container mount it with -v {socket}:{socket}; or name another with --docker-socket"
            ),
        },
        io::ErrorKind::PermissionDenied => Health::PermissionDenied {
            advice: format!(
                "{socket} may not be opened: add the agent's user to the group `docker` and start the agent again; in a container add --group-add with the socket's group id"
            ),
        },
        _ => Health::NotResponding {
            advice: format!(
                "{socket} is there and cannot be opened ({error}): start the Docker daemon"
            ),
        },
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "what the agent connects to listens"
)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_missing_socket_and_one_without_a_listener_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        assert!(matches!(
            ask(&World::real().net, &socket).await,
            Health::Missing { .. }
        ));

        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());

        assert!(matches!(
            ask(&World::real().net, &socket).await,
            Health::NotResponding { .. }
        ));
    }

    #[tokio::test]
    async fn something_that_is_no_engine_does_not_count_as_one() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let closes = async {
            loop {
                drop(listener.accept().await);
            }
        };

        let net = World::real().net;
        let health =
            tokio::select! { health = ask(&net, &socket) => health, () = closes => unreachable!() };

        assert!(matches!(health, Health::NotResponding { .. }), "{health:?}");
    }

    #[test]
    fn advice_reaches_the_relay_and_the_person_alike() {
        let error = io::Error::from(io::ErrorKind::PermissionDenied);

        let health = refused(&error, Path::new("/run/docker.sock"));

        assert_eq!(health.to_message().state(), State::PermissionDenied);
        assert_eq!(health.to_status().state, "permission_denied");
        assert!(health.to_message().detail.contains("group `docker`"));
        assert_eq!(health.to_message().detail, health.to_status().advice);
    }
}
