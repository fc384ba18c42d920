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

use tokio::{sync::watch, task::JoinSet, time::timeout};
use tunnel::{
    IncomingStream, Session, SpliceIo, World,
    world::{TargetEnd, TargetSocket},
};
use wire::{close::ResetCode, target::Target};

mod account;
mod admission;
mod judged;
mod pace;

use account::{Asked, Outcome};
use admission::Admission;
use judged::{Observer, Rules};
use pace::{Paced, Paces};

use crate::{
    audit::{Audit, Entry, Event},
    clock,
    figures::Figures,
    gateways::Gateways,
    judge,
    policy::{AddressDenied, Rule, Verdict},
    policy_file::PolicyInForce,
    stacks::{Caller, Stacks},
    watched,
};

/// From the opened stream to the reached target, name resolution included.
const REACH_WITHIN: Duration = Duration::from_secs(10);
/// Addresses of one name that are tried; a tenth of the time for each at the least.
const ADDRESSES_MAX: usize = 10;

/// Serves streams. Cheap to clone; each stream works with a clone of its own.
#[derive(Debug, Clone)]
pub struct Work {
    /// For names, and for the way to what they stand for.
    pub world: World,
    /// The compose engine, where there is a disk for what it keeps.
    pub stacks: Option<Stacks>,
    /// The Docker Engine's socket.
    pub docker_socket: PathBuf,
    /// What is allowed.
    pub policy: watch::Receiver<PolicyInForce>,
    /// Where it comes from, for people.
    pub policy_path: PathBuf,
    /// The customer's record.
    pub audit: Audit,
    /// What is counted.
    pub figures: Arc<Figures>,
    /// This host's addresses towards its containers.
    pub gateways: Gateways,
    /// What streams there are, for the policy's limits.
    pub use_made: UseMade,
}

/// What is made of an agent, of which the policy's limits are bounds. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct UseMade {
    admission: Admission,
    paces: Paces,
}

/// Why a target was not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    code: ResetCode,
    reason: String,
    /// The policy's key, where it is the policy that refuses.
    rule: Option<Rule>,
}

/// A target that was reached.
#[derive(Debug)]
struct Reached {
    socket: TargetSocket,
    /// Where it leads, for the record.
    address: String,
    /// The same, where the policy judges by it.
    remote: Option<SocketAddr>,
}

impl Work {
    /// Takes the session's streams until it ends, and carries each to its end in a task of
    /// its own. They end with this future, wherever it is dropped.
    pub async fn serve(self, session: Session) {
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                // First, so that nothing is kept of what has ended.
                Some(_) = streams.join_next(), if !streams.is_empty() => {}
                incoming = session.accept() => match incoming {
                    Some(incoming) => drop(streams.spawn(self.clone().stream(incoming))),
                    None => break,
                },
            }
        }
        // They notice by themselves that their session is over.
        while streams.join_next().await.is_some() {}
    }

    async fn stream(self, incoming: IncomingStream) {
        let (open, started) = (Asked::of(&incoming.open), self.world.clock.now());
        let policy = self.policy.borrow().policy.clone();
        let _place = match self.use_made.admission.enter(policy.limits(), started) {
            Ok(place) => place,
            Err(limit) => {
                let refusal = Refusal {
                    code: ResetCode::LimitReached,
                    reason: self.by_policy(&limit),
                    rule: Some(Rule::Limits),
                };
                return self.refuse(incoming, open, refusal).await;
            }
        };
        let allowed = policy.judge(&incoming.open.target);
        if let (Target::Stacks, Verdict::Docker, Some(stacks)) =
            (&incoming.open.target, allowed, self.stacks.clone())
        {
            return self.serve_stacks(stacks, incoming, (open, started)).await;
        }
        let reached = match timeout(REACH_WITHIN, self.reach(&incoming.open.target)).await {
            Ok(reached) => reached,
            Err(_) => Err(Refusal {
                code: ResetCode::Timeout,
                reason: format!(
                    "no answer from {} within {} s",
                    open.target,
                    REACH_WITHIN.as_secs()
                ),
                rule: None,
            }),
        };
        match reached {
            Ok(reached) => self.carry(incoming, reached, (open, started)).await,
            Err(refusal) => self.refuse(incoming, open, refusal).await,
        }
    }

    /// Gives a stream to the compose engine.
    async fn serve_stacks(
        mut self,
        stacks: Stacks,
        incoming: IncomingStream,
        (open, started): (Asked, Instant),
    ) {
        let address = "the agent's compose engine".to_owned();
        self.log(open.clone(), Event::Opened { address }).await;
        let (target, gateways) = (incoming.open.target.clone(), self.gateways.clone());
        let caller = Caller {
            principal: open.principal.clone(),
            request_id: open.request_id.clone(),
        };
        let paced = self.paced(&target, None);
        let (recv, send) = incoming.accept().into_split();
        let stream = tokio::io::join(paced.inward(recv), paced.outward(send));
        let outcome = tokio::select! {
            biased;
            served = stacks.serve(stream, caller) => Outcome::Served(served),
            () = revoked(&mut self.policy, &target, None, &gateways) => Outcome::Revoked,
        };
        let lasted = self
            .world
            .clock
            .now()
            .saturating_duration_since(started)
            .as_millis();
        let duration_ms = u64::try_from(lasted).unwrap_or(u64::MAX);
        self.log(open, outcome.into_event(duration_ms)).await;
    }

    async fn refuse(&self, incoming: IncomingStream, open: Asked, refusal: Refusal) {
        let Refusal { code, reason, rule } = refusal;
        self.figures.refused(&incoming.open.target, code);
        if let Some(rule) = rule {
            self.figures.denied(rule);
        }
        incoming.reject(code, &reason);
        let code = code.as_str();
        self.log(open, Event::Refused { code, reason }).await;
    }

    /// What is refused by the policy, and where a person finds it.
    fn by_policy(&self, rule: &str) -> String {
        format!("{}: {rule}", self.policy.borrow().place(&self.policy_path))
    }

    fn denied(&self, target: &str, why: AddressDenied) -> Refusal {
        Refusal {
            code: ResetCode::PolicyDenied,
            reason: self.by_policy(&format!("{target} is not allowed, {why}")),
            rule: Some(match why {
                AddressDenied::NoRule => Rule::Targets,
                AddressDenied::Unnamed(_) => Rule::Named,
            }),
        }
    }

    fn paced(&self, target: &Target, remote: Option<SocketAddr>) -> Paced {
        Paced {
            paces: self.use_made.paces.clone(),
            policy: self.policy.clone(),
            clock: Arc::clone(&self.world.clock),
            target: target.clone(),
            address: remote.map(|remote| remote.ip()),
        }
    }

    async fn carry(
        mut self,
        incoming: IncomingStream,
        reached: Reached,
        (open, started): (Asked, Instant),
    ) {
        let Reached {
            socket,
            address,
            remote,
        } = reached;
        let target = incoming.open.target.clone();
        self.log(open.clone(), Event::Opened { address }).await;
        // Which kind of a socket it is, is asked once and not for every read.
        let outcome = match socket {
            TargetSocket::Tcp(tcp) => self.join(incoming, (tcp, remote), &open).await,
            TargetSocket::Unix(unix) => self.join(incoming, (unix, remote), &open).await,
            TargetSocket::Simulated(simulated) => {
                self.join(incoming, (simulated, remote), &open).await
            }
        };
        self.figures.carried(&target, outcome.spliced());
        let now = self.world.clock.now();
        let lasted = now.saturating_duration_since(started).as_millis();
        let duration_ms = u64::try_from(lasted).unwrap_or(u64::MAX);
        self.log(open, outcome.into_event(duration_ms)).await;
    }

    /// Joins a stream and the socket to its target.
    async fn join<IO: SpliceIo>(
        &mut self,
        incoming: IncomingStream,
        (socket, remote): (IO, Option<SocketAddr>),
        open: &Asked,
    ) -> Outcome {
        let target = incoming.open.target.clone();
        let paced = self.paced(&target, remote);
        if target == Target::Docker && self.policy.borrow().policy.docker().judges_requests() {
            return self.judge(incoming, (socket, paced), open).await;
        }
        tokio::select! {
            biased;
            spliced = tunnel::splice(incoming.accept(), paced.socket(socket)) => {
                Outcome::Spliced(spliced)
            }
            // Dropping the other branch resets the stream and closes the socket.
            () = revoked(&mut self.policy, &target, remote, &self.gateways) => Outcome::Revoked,
        }
    }

    /// Carries a stream to the Engine whose requests are judged, and records what was.
    async fn judge<IO: SpliceIo>(
        &self,
        incoming: IncomingStream,
        (engine, paced): (IO, Paced),
        open: &Asked,
    ) -> Outcome {
        let rules = Rules {
            policy: self.policy.clone(),
            path: self.policy_path.clone(),
        };
        let (judged, observer) = judged::judge(engine, rules);
        let splice = tunnel::splice(incoming.accept(), paced.socket(judged));
        let mut splice = std::pin::pin!(splice);
        let mut policy = self.policy.clone();
        let outcome = loop {
            tokio::select! {
                biased;
                verdict = observer.next() => self.record(open, verdict).await,
                () = may_not_go_on(&mut policy, &observer) => break Outcome::Revoked,
                spliced = &mut splice => break Outcome::Spliced(spliced),
            }
        };
        while let Some(verdict) = observer.left() {
            self.record(open, verdict).await;
        }
        outcome
    }

    async fn record(&self, open: &Asked, verdict: judge::exchange::Verdict) {
        let judge::exchange::Verdict {
            method,
            path,
            denied,
        } = verdict;
        if let Some(denied) = &denied {
            self.figures.denied(denied.rule);
        }
        let rule = denied.as_ref().map(|denied| denied.rule.as_str());
        let reason = denied.as_ref().map(ToString::to_string);
        let event = Event::Request {
            method,
            path,
            outcome: if rule.is_some() { "refused" } else { "allowed" },
            rule,
            reason,
        };
        self.log(open.clone(), event).await;
    }

    async fn log(&self, asked: Asked, event: Event) {
        asked.trace(&event);
        let Asked {
            principal,
            request_id,
            target,
        } = asked;
        let at = clock::timestamp(&self.world);
        self.audit
            .record(Entry {
                at,
                event,
                principal,
                request_id,
                target,
            })
            .await;
    }

    async fn reach(&self, target: &Target) -> Result<Reached, Refusal> {
        let verdict = self.policy.borrow().policy.judge(target);
        match (target, verdict) {
            (Target::Docker, Verdict::Denied) => Err(Refusal {
                code: ResetCode::PolicyDenied,
                reason: self.by_policy("docker is not allowed, `docker.access` is \"none\""),
                rule: Some(Rule::Access),
            }),
            (Target::Tcp { .. }, Verdict::Denied) => {
                Err(self.denied(&target.to_string(), AddressDenied::NoRule))
            }
            (Target::Stacks, Verdict::Denied) => Err(Refusal {
                code: ResetCode::PolicyDenied,
                reason: self.by_policy("stacks need `docker.access` to be \"limited\" or \"full\""),
                rule: Some(Rule::Access),
            }),
            // It is not reached by a socket; see `stream`.
            (Target::Stacks, _) => Err(Refusal {
                code: ResetCode::TargetUnreachable,
                reason: "the agent cannot write its state directory, and so runs no stacks; \
                         look at its log"
                    .to_owned(),
                rule: None,
            }),
            (Target::Docker, Verdict::Docker | Verdict::ByAddress) => {
                let address = self.docker_socket.display().to_string();
                let end = TargetEnd::Unix(&self.docker_socket);
                match self.world.net.connect_target(end).await {
                    Ok(socket) => Ok(Reached {
                        socket,
                        address,
                        remote: None,
                    }),
                    Err(error) => Err(refusal(&error, &format!("the Docker socket {address}"))),
                }
            }
            (Target::Tcp { host, port }, _) => {
                let addresses = self.resolve(host, *port).await?;
                self.connect(&addresses, target).await
            }
        }
    }

    /// Resolves once, and leaves the addresses that may be connected to.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
        let found = self
            .world
            .resolver
            .resolve(host)
            .await
            .map_err(|error| Refusal {
                code: ResetCode::TargetUnreachable,
                reason: format!("cannot resolve {host}: {error}"),
                rule: None,
            })?;
        let (policy, gateways) = (self.policy.borrow().policy.clone(), self.gateways.look());
        let (mut permitted, mut denied) = (Vec::new(), None);
        for address in found {
            let address = SocketAddr::new(address.to_canonical(), port);
            match policy.permits(host, address.ip(), port, &gateways) {
                Ok(()) => permitted.push(address),
                Err(why) => denied = Some((address, why)),
            }
        }
        permitted.truncate(ADDRESSES_MAX);
        match (permitted.is_empty(), denied) {
            (false, _) => Ok(permitted),
            (true, Some((address, why))) => {
                let name = format!("tcp:{host}:{port} at {}", address.ip());
                Err(self.denied(&name, why))
            }
            (true, None) => Err(Refusal {
                code: ResetCode::TargetUnreachable,
                reason: format!("{host} has no address"),
                rule: None,
            }),
        }
    }

    /// Tries each address for its share of the time, so that a silent one does not use
    /// up what another one needs.
    async fn connect(&self, addresses: &[SocketAddr], target: &Target) -> Result<Reached, Refusal> {
        let started = self.world.clock.now();
        let mut last = Refusal {
            code: ResetCode::Timeout,
            reason: format!("no answer from {target}"),
            rule: None,
        };
        for (tried, address) in addresses.iter().enumerate() {
            let now = self.world.clock.now();
            let left = REACH_WITHIN.saturating_sub(now.saturating_duration_since(started));
            let share = left / u32::try_from(addresses.len() - tried).unwrap_or(1);
            let connect = self.world.net.connect_target(TargetEnd::Tcp(*address));
            match timeout(share, connect).await {
                Ok(Ok(socket)) => {
                    return Ok(Reached {
                        socket,
                        address: address.to_string(),
                        remote: Some(*address),
                    });
                }
                Ok(Err(error)) => last = refusal(&error, &target.to_string()),
                Err(_) => {}
            }
        }
        Err(last)
    }
}

/// Waits until the policy forbids the target; for ever if it never does.
async fn revoked(
    policy: &mut watch::Receiver<PolicyInForce>,
    target: &Target,
    remote: Option<SocketAddr>,
    gateways: &Gateways,
) {
    loop {
        let in_force = policy.borrow_and_update().policy.clone();
        let allowed = match (in_force.judge(target), target, remote) {
            (Verdict::Denied, ..) => false,
            // It was opened unseen, and requests are seen from now on.
            (_, Target::Stacks, _) => true,
            (_, Target::Docker, _) => !in_force.docker().judges_requests(),
            (_, Target::Tcp { host, port }, Some(remote)) => {
                let gateways = gateways.look();
                in_force
                    .permits(host, remote.ip(), *port, &gateways)
                    .is_ok()
            }
            (_, Target::Tcp { .. }, None) => false,
        };
        if !allowed {
            return;
        }
        watched::changed(policy).await;
    }
}

/// Waits until the policy forbids what the Engine is doing for a judged stream.
async fn may_not_go_on<W: tokio::io::AsyncWrite + Unpin>(
    policy: &mut watch::Receiver<PolicyInForce>,
    observer: &Observer<W>,
) {
    loop {
        let in_force = policy.borrow_and_update().policy.clone();
        let is_reached = in_force.judge(&Target::Docker) != Verdict::Denied;
        if !is_reached || !observer.may_go_on(&in_force) {
            return;
        }
        watched::changed(policy).await;
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
        rule: None,
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "what the agent connects to listens"
)]
mod tests;
