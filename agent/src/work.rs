//! What the vendor came for: streams to the Docker Engine and to permitted services.
//!
//! Every stream is judged by the policy when it opens and again whenever the policy
//! changes. A name is resolved once; the addresses that were judged are the very
//! ones that are connected to, so that a name server cannot lead past the policy.

use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    net::{TcpStream, UnixStream},
    sync::watch,
    time::timeout,
};
use tokio_util::task::TaskTracker;
use tunnel::{IncomingStream, OpenRequest, Session, SpliceIo, Spliced, World};
use wire::{close::ResetCode, target::Target};

use crate::{
    audit::{Audit, Entry, Event},
    figures::Figures,
    policy::Verdict,
    policy_file::PolicyInForce,
};

/// From the opened stream to the reached target, name resolution included.
const REACH_WITHIN: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried; a tenth of the time for each at the least.
const ADDRESSES_MAX: usize = 10;

/// Serves streams. Cheap to clone; each stream works with a clone of its own.
#[derive(Debug, Clone)]
pub struct Work {
    /// For name resolution.
    pub world: World,
    /// The Docker Engine's socket.
    pub docker_socket: PathBuf,
    /// What is allowed.
    pub policy: watch::Receiver<PolicyInForce>,
    /// The customer's record.
    pub audit: Audit,
    /// What is counted.
    pub figures: Arc<Figures>,
    /// Owns the streams' tasks.
    pub tasks: TaskTracker,
}

/// Why a target was not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    code: ResetCode,
    reason: String,
}

/// A target that was reached.
#[derive(Debug)]
enum Reached {
    Docker(UnixStream),
    Tcp(TcpStream, SocketAddr),
}

/// How a stream went.
enum Outcome {
    Spliced(Spliced),
    /// The policy changed and forbids it.
    Revoked,
}

impl Work {
    /// Takes the session's streams until it ends; each runs as a task of its own.
    pub async fn serve(self, session: Session) {
        while let Some(incoming) = session.accept().await {
            self.tasks.spawn(self.clone().stream(incoming));
        }
    }

    async fn stream(self, incoming: IncomingStream) {
        let (open, started) = (Asked::of(&incoming.open), Instant::now());
        let reached = match timeout(REACH_WITHIN, self.reach(&incoming.open.target)).await {
            Ok(reached) => reached,
            Err(_) => Err(Refusal {
                code: ResetCode::Timeout,
                reason: format!(
                    "no answer from {} within {} s",
                    open.target,
                    REACH_WITHIN.as_secs()
                ),
            }),
        };
        match reached {
            Ok(Reached::Docker(socket)) => {
                let address = self.docker_socket.display().to_string();
                self.carry(incoming, socket, (open, started), (address, None))
                    .await;
            }
            Ok(Reached::Tcp(socket, remote)) => {
                let address = (remote.to_string(), Some(remote));
                self.carry(incoming, socket, (open, started), address).await;
            }
            Err(Refusal { code, reason }) => {
                self.figures.refused(&incoming.open.target, code);
                incoming.reject(code, &reason);
                open.log(
                    &self.audit,
                    Event::Refused {
                        code: code.as_str(),
                        reason,
                    },
                )
                .await;
            }
        }
    }

    async fn carry<S: SpliceIo>(
        mut self,
        incoming: IncomingStream,
        socket: S,
        (open, started): (Asked, Instant),
        (address, remote): (String, Option<SocketAddr>),
    ) {
        let target = incoming.open.target.clone();
        open.log(&self.audit, Event::Opened { address }).await;
        let outcome = tokio::select! {
            spliced = tunnel::splice(incoming.accept(), socket) => Outcome::Spliced(spliced),
            // Dropping the other branch resets the stream and closes the socket.
            () = revoked(&mut self.policy, &target, remote) => Outcome::Revoked,
        };
        self.figures.carried(&target, outcome.spliced());
        let duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        open.log(&self.audit, outcome.into_event(duration_ms)).await;
    }

    async fn reach(&self, target: &Target) -> Result<Reached, Refusal> {
        let verdict = self.policy.borrow().policy.judge(target);
        match (target, verdict) {
            (_, Verdict::Denied) => Err(denied(target)),
            (Target::Docker, Verdict::Allowed | Verdict::ByAddress) => {
                let socket = UnixStream::connect(&self.docker_socket).await;
                let named = format!("the Docker socket {}", self.docker_socket.display());
                socket
                    .map(Reached::Docker)
                    .map_err(|error| refusal(&error, &named))
            }
            (Target::Tcp { host, port }, verdict) => {
                let addresses = self.resolve(host, *port, verdict).await?;
                connect(&addresses, target).await
            }
        }
    }

    /// Resolves once, and leaves the addresses that may be connected to.
    async fn resolve(
        &self,
        host: &str,
        port: u16,
        verdict: Verdict,
    ) -> Result<Vec<SocketAddr>, Refusal> {
        let found = self
            .world
            .resolver
            .resolve(host)
            .await
            .map_err(|error| Refusal {
                code: ResetCode::TargetUnreachable,
                reason: format!("cannot resolve {host}: {error}"),
            })?;
        let policy = self.policy.borrow().policy.clone();
        let permitted: Vec<SocketAddr> = found
            .iter()
            .map(|address| SocketAddr::new(address.to_canonical(), port))
            .filter(|address| match verdict {
                Verdict::Allowed => true,
                Verdict::ByAddress => policy.permits_address(address.ip(), port),
                Verdict::Denied => false,
            })
            .take(ADDRESSES_MAX)
            .collect();
        match (permitted.is_empty(), found.is_empty()) {
            (false, _) => Ok(permitted),
            (true, false) => Err(denied(&Target::Tcp {
                host: host.to_owned(),
                port,
            })),
            (true, true) => Err(Refusal {
                code: ResetCode::TargetUnreachable,
                reason: format!("{host} has no address"),
            }),
        }
    }
}

/// Tries each address for its share of the time, so that a silent one does not use
/// up what another one needs.
async fn connect(addresses: &[SocketAddr], target: &Target) -> Result<Reached, Refusal> {
    let started = Instant::now();
    let mut last = Refusal {
        code: ResetCode::Timeout,
        reason: format!("no answer from {target}"),
    };
    for (tried, address) in addresses.iter().enumerate() {
        let left = REACH_WITHIN.saturating_sub(started.elapsed());
        let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                // Requests and answers are small; throughput does not suffer.
                drop(socket.set_nodelay(true));
                return Ok(Reached::Tcp(socket, *address));
            }
            Ok(Err(error)) => last = refusal(&error, &target.to_string()),
            Err(_) => {}
        }
    }
    Err(last)
}

/// Waits until the policy forbids the target; for ever if it never does.
async fn revoked(
    policy: &mut watch::Receiver<PolicyInForce>,
    target: &Target,
    remote: Option<SocketAddr>,
) {
    loop {
        let in_force = policy.borrow_and_update().policy.clone();
        let allowed = match in_force.judge(target) {
            Verdict::Allowed => true,
            Verdict::Denied => false,
            Verdict::ByAddress => {
                remote.is_some_and(|remote| in_force.permits_address(remote.ip(), remote.port()))
            }
        };
        if !allowed {
            return;
        }
        if policy.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

fn denied(target: &Target) -> Refusal {
    let reason = format!("the policy on the agent's host does not allow {target}");
    Refusal {
        code: ResetCode::PolicyDenied,
        reason,
    }
}

fn refusal(error: &io::Error, target: &str) -> Refusal {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => ResetCode::TargetForbidden,
        io::ErrorKind::TimedOut => ResetCode::Timeout,
        _ => ResetCode::TargetUnreachable,
    };
    Refusal {
        code,
        reason: format!("cannot open {target}: {error}"),
    }
}

impl Outcome {
    const fn spliced(&self) -> Option<&Spliced> {
        match self {
            Self::Spliced(spliced) => Some(spliced),
            Self::Revoked => None,
        }
    }

    fn into_event(self, duration_ms: u64) -> Event {
        let (outcome, bytes) = match self {
            Self::Revoked => ("revoked by a change of the policy".to_owned(), None),
            Self::Spliced(Spliced {
                sent,
                received,
                end: Ok(()),
            }) => ("ok".to_owned(), Some((sent, received))),
            Self::Spliced(Spliced {
                sent,
                received,
                end: Err(error),
            }) => (error.to_string(), Some((sent, received))),
        };
        let (sent_bytes, received_bytes) = bytes.unzip();
        Event::Ended {
            outcome,
            sent_bytes,
            received_bytes,
            duration_ms,
        }
    }
}

/// Who asked for what, in the words of the record.
#[derive(Debug, Clone)]
struct Asked {
    principal: String,
    request_id: String,
    target: String,
}

impl Asked {
    fn of(open: &OpenRequest) -> Self {
        Self {
            principal: open.principal.clone(),
            request_id: open.request_id.to_string(),
            target: open.target.to_string(),
        }
    }

    async fn log(&self, audit: &Audit, event: Event) {
        // The principal's text is a peer's: `?` escapes what could forge a line.
        let Self {
            principal,
            request_id,
            target,
        } = self;
        match &event {
            Event::Opened { .. } => tracing::info!(?principal, request_id, target, "stream opened"),
            Event::Refused { code, reason } => {
                tracing::warn!(
                    ?principal,
                    request_id,
                    target,
                    code,
                    reason,
                    "stream refused"
                );
            }
            Event::Ended {
                outcome,
                sent_bytes,
                received_bytes,
                duration_ms,
            } => tracing::info!(
                ?principal,
                request_id,
                target,
                outcome,
                sent_bytes,
                received_bytes,
                duration_ms,
                "stream ended"
            ),
        }
        let Self {
            principal,
            request_id,
            target,
        } = self.clone();
        audit
            .record(Entry {
                at: Timestamp::now(),
                event,
                principal,
                request_id,
                target,
            })
            .await;
    }
}

#[cfg(test)]
mod tests;
