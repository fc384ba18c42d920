//! The operator's session with the relay: one for all local connections, dialled
//! again by itself when it ends.
//!
//! ```text
//!            lost                      refused for good
//! Connected ──────▶ Connecting(cause) ──────────────────▶ Refused(failure)
//!     ▲───────────────────┘ dialled
//! ```
//!
//! A session of a relay that is to restart counts as lost once the relay has said so: its
//! streams go on to their end, and new ones wait for the next session.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tunnel::{
    Closed, Credential, DialError, DialOptions, OpenError, OpenRequest, Session, Stream,
    TransportChoice, Trust, World, world::Resolve,
};
use wire::{
    backoff::Backoff,
    close::{CloseCode, RefusalCode, ResetCode, Retry},
    id::{InstanceId, SessionId},
    token::RelayAddress,
    transport::Transport,
};

use super::{
    client::OUTAGE_WAIT,
    discover::Access,
    failure::{Exit, Failure},
    human, output,
};

/// Between two tries of the first dial.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long they wait at least: in a longer outage each request of a docker command
/// waits again, and the command makes several.
const SESSION_WAIT_MIN: Duration = Duration::from_secs(2);
/// How long the end of the program waits for the close frame to leave.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// How often a session that is to end is looked at, whether streams are left. Whoever was
/// given it a moment before has opened a stream by the first time.
const LOOK: Duration = Duration::from_millis(50);
/// Operators are few, and a share of the relay's admission is theirs: they need
/// not spread over the window that it advertises to agents.
const RECONNECT_WINDOW: Duration = Duration::ZERO;

/// Who hears that the session was lost and came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notes {
    /// A person who looks at standard error.
    Shown,
    /// Nobody: another program has the terminal.
    Kept,
}

/// All that it takes to dial the relay.
struct Link {
    world: World,
    options: DialOptions,
    credential: Credential,
    relay: String,
    pid: Option<u32>,
}

/// Where the session stands.
#[derive(Clone)]
enum State {
    Connected(Session),
    Connecting { cause: String },
    Refused(Failure),
}

/// The latest end of a session that was not asked for.
#[derive(Debug)]
struct Loss {
    cause: String,
    at: Instant,
}

/// The operator's session with the relay.
#[derive(Debug)]
pub struct Operator {
    states: watch::Receiver<State>,
    loss: watch::Receiver<Option<Loss>>,
    stop: CancellationToken,
    keeper: JoinHandle<()>,
}

impl Operator {
    /// Dials the relay, and from then on keeps a session with it.
    ///
    /// # Errors
    ///
    /// The first session cannot be had.
    pub async fn connect(access: &Access, notes: Notes) -> Result<Self, Failure> {
        tunnel::install_crypto_provider();
        let link = Link::new(access);
        let session = link.dial_first(notes).await?;
        let (publish, states) = watch::channel(State::Connected(session.clone()));
        let (publish_loss, loss) = watch::channel(None);
        let stop = CancellationToken::new();
        let keeper = Keeper {
            link,
            publish,
            publish_loss,
            notes,
            stop: stop.clone(),
            backoff: Backoff::new(),
            leaving: JoinSet::new(),
        };
        let keeper = tokio::spawn(keeper.run(session));
        Ok(Self {
            states,
            loss,
            stop,
            keeper,
        })
    }

    /// Opens a stream, on the next session where this one ends meanwhile. Nothing was
    /// sent on a session that refuses an open, so that trying again repeats nothing.
    ///
    /// # Errors
    ///
    /// There is no session in time, or never again.
    pub async fn open(&self, request: OpenRequest) -> Result<Stream, Failure> {
        let now = Instant::now();
        let lost_at = self.loss.borrow().as_ref().map_or(now, |loss| loss.at);
        let mut deadline = (lost_at + OUTAGE_WAIT).max(now + SESSION_WAIT_MIN);
        let mut ended = None;
        loop {
            let session = self.session(ended, deadline).await?;
            match session.open(request.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(OpenError::Closed) => {
                    ended = Some(session.id());
                    deadline = now + OUTAGE_WAIT;
                }
                Err(error @ OpenError::TooMany) => {
                    return Err(Failure::new(Exit::Unavailable, error.to_string())
                        .advise(ResetCode::LimitReached.advice()));
                }
            }
        }
    }

    /// The live session; not the one that is known to have ended.
    async fn session(
        &self,
        ended: Option<SessionId>,
        deadline: Instant,
    ) -> Result<Session, Failure> {
        let mut states = self.states.clone();
        let decided = states.wait_for(|state| match state {
            State::Connected(session) => Some(session.id()) != ended,
            State::Connecting { .. } => false,
            State::Refused(_) => true,
        });
        let state = match timeout_at(deadline, decided).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) => State::Connecting {
                cause: "the command ends".to_owned(),
            },
            Err(_) => self.states.borrow().clone(),
        };
        let cause = match state {
            State::Connected(session) if Some(session.id()) != ended => return Ok(session),
            State::Refused(failure) => return Err(failure),
            State::Connected(_) => "the session has just ended".to_owned(),
            State::Connecting { cause } => cause,
        };
        let message = format!("no session with the relay: {cause}");
        Err(Failure::new(Exit::Unavailable, message).advise("it is tried again by itself"))
    }

    /// Why the session was lost the last time; none if it never was.
    pub fn last_loss(&self) -> Option<String> {
        self.loss.borrow().as_ref().map(|loss| loss.cause.clone())
    }

    /// Resolves when the relay has refused for good: nothing comes back by itself.
    pub async fn refused(&self) -> Failure {
        let mut states = self.states.clone();
        let refused = states
            .wait_for(|state| matches!(state, State::Refused(_)))
            .await;
        match refused.as_deref() {
            Ok(State::Refused(failure)) => failure.clone(),
            Ok(_) | Err(_) => Failure::new(Exit::Internal, "the session's task ended"),
        }
    }

    /// Ends the session in order, within [`CLOSE_WAIT`].
    pub async fn close(self) {
        self.stop.cancel();
        // Past the deadline the process ends anyway, and the relay hears that.
        tokio::time::timeout(CLOSE_WAIT, self.keeper).await.ok();
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connected(session) => write!(f, "Connected({:?})", session.id()),
            Self::Connecting { cause } => write!(f, "Connecting({cause})"),
            Self::Refused(failure) => write!(f, "Refused({failure:?})"),
        }
    }
}

impl Link {
    fn new(access: &Access) -> Self {
        let mut world = World::real();
        if let Some(address) = access.connect {
            world.resolver = Arc::new(Known { address });
        }
        let addresses = vec![RelayAddress {
            host: access.host.clone(),
            // Never dialled: operators come in by HTTPS alone.
            tunnel_port: access.port,
            https_port: access.port,
        }];
        let software = concat!("sternline-relay/", env!("CARGO_PKG_VERSION")).to_owned();
        let who = (software, InstanceId::from_bytes(world.random()));
        let options = DialOptions {
            transports: TransportChoice::Only(Transport::Ws443),
            // What an operator has begun ends with its command's connection: no session waits.
            proxy: access.proxy.clone(),
            roots: access.proxy_roots.clone(),
            ..DialOptions::new(addresses, Trust::Certificates(access.roots.clone()), who)
        };
        let credential = Credential::Operator {
            api_token: access.api_token.clone(),
        };
        Self {
            world,
            options,
            credential,
            relay: access.origin(),
            pid: access.pid,
        }
    }

    async fn dial(&self) -> Result<Session, DialError> {
        let dialled = tunnel::dial(&self.world, &self.options, &self.credential).await?;
        Ok(dialled.session)
    }

    /// Dials, and where nobody listens or the relay has no time, again for as long as a
    /// restart takes.
    async fn dial_first(&self, notes: Notes) -> Result<Session, Failure> {
        let started = Instant::now();
        let mut is_told = false;
        loop {
            let error = match self.dial().await {
                Ok(session) => return Ok(session),
                Err(error) => error,
            };
            let may_pass = error.may_pass() || error.refusal().is_some();
            let is_over = started.elapsed() >= OUTAGE_WAIT;
            let failure = self.failure(&error);
            let pause = match error.retry() {
                Retry::Backoff if may_pass => FIRST_PAUSE,
                Retry::Slot(slot) => slot.min(OUTAGE_WAIT),
                _ => return Err(failure),
            };
            if is_over {
                return Err(failure);
            }
            if !is_told && notes == Notes::Shown {
                is_told = true;
                output::note("the relay does not take sessions yet; trying again");
            }
            tokio::time::sleep(pause).await;
        }
    }

    fn failure(&self, error: &DialError) -> Failure {
        let exit = match (error.refusal(), error.retry()) {
            (Some(RefusalCode::CredentialInvalid), _) | (_, Retry::Never) => Exit::Refused,
            _ => Exit::Unavailable,
        };
        let cause = human::printable(&error.to_string());
        let failure = Failure::new(exit, format!("no session with {}: {cause}", self.relay));
        match (error.kind(), self.pid) {
            ("connect" | "timed_out", Some(pid)) => failure.advise(format!(
                "the relay was started as process {pid}: is it still running?"
            )),
            // The proxy, and not the relay, is the one to ask about.
            ("proxy" | "proxy_login" | "proxy_refused", _) => failure.advise(error.advice()),
            ("tls", _) => failure
                .advise("give the CA that vouches for the relay with --ca FILE (or STERNLINE_CA)"),
            _ => failure.advise(error.advice()),
        }
    }
}

/// The name service of an operator who knows where the relay is.
#[derive(Debug)]
struct Known {
    address: IpAddr,
}

#[async_trait]
impl Resolve for Known {
    async fn resolve(&self, _host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![self.address])
    }
}

/// The task that keeps a session.
struct Keeper {
    link: Link,
    publish: watch::Sender<State>,
    publish_loss: watch::Sender<Option<Loss>>,
    notes: Notes,
    stop: CancellationToken,
    backoff: Backoff,
    /// Sessions that take no new streams.
    leaving: JoinSet<()>,
}

impl Keeper {
    async fn run(mut self, first: Session) {
        self.keep(first).await;
        while self.leaving.join_next().await.is_some() {}
    }

    async fn keep(&mut self, first: Session) {
        let mut session = first;
        loop {
            self.backoff.on_connected(self.link.world.clock.now());
            let (cause, retry) = tokio::select! {
                closed = session.closed() => (cause_of(&closed), closed.code.retry()),
                _ = session.goaway_received() => {
                    self.leaving.spawn(leave(session.clone(), self.stop.clone()));
                    ("the relay is about to restart".to_owned(), Retry::Backoff)
                }
                () = self.stop.cancelled() => {
                    session.close(CloseCode::Shutdown, "the operator's command ends");
                    session.closed().await;
                    return;
                }
            };
            let stats = session.stats();
            let heard = stats.last_heard > stats.opened_at;
            self.backoff.on_lost(self.link.world.clock.now(), heard);
            self.tell_lost(&cause);
            self.publish.send_replace(State::Connecting { cause });
            match self.redial(retry).await {
                Some(next) => session = next,
                None => return,
            }
            self.note("there is a session with the relay again");
            self.publish.send_replace(State::Connected(session.clone()));
        }
    }

    /// Tells whoever wants to know that the session is over.
    fn tell_lost(&self, cause: &str) {
        self.note(&format!(
            "the session with the relay was lost ({cause}); dialling again"
        ));
        let loss = Loss {
            cause: cause.to_owned(),
            at: Instant::now(),
        };
        self.publish_loss.send_replace(Some(loss));
    }

    /// Dials until a session is there; `None` when told to stop or refused for good.
    async fn redial(&mut self, mut retry: Retry) -> Option<Session> {
        let mut refused = None;
        loop {
            let (now, random) = (self.link.world.clock.now(), self.link.world.random_unit());
            let Some(delay) = self
                .backoff
                .next_delay(now, RECONNECT_WINDOW, retry, random)
            else {
                let failure = refused.unwrap_or_else(|| {
                    Failure::new(Exit::Refused, "the relay ended the session for good")
                        .advise("the API token may have been revoked")
                });
                self.publish.send_replace(State::Refused(failure));
                return None;
            };
            let dialled = tokio::select! {
                dialled = async {
                    tokio::time::sleep(delay).await;
                    self.link.dial().await
                } => dialled,
                () = self.stop.cancelled() => return None,
            };
            match dialled {
                Ok(session) => return Some(session),
                Err(error) => {
                    retry = error.retry();
                    refused = Some(self.link.failure(&error));
                    let cause = human::printable(&error.to_string());
                    self.publish.send_replace(State::Connecting { cause });
                }
            }
        }
    }

    fn note(&self, text: &str) {
        match self.notes {
            Notes::Shown => output::note(text),
            Notes::Kept => {}
        }
    }
}

/// Why a session has ended.
fn cause_of(closed: &Closed) -> String {
    match (closed.code, closed.reason.as_str()) {
        // The reason is the TLS library's or the kernel's, and says no more.
        (CloseCode::ConnectionLost, _) => "the connection broke".to_owned(),
        (code, "") => code.to_string(),
        (code, reason) => format!("{code}: {}", human::printable(reason)),
    }
}

/// Has a session end once its streams have, or the command does.
async fn leave(session: Session, stop: CancellationToken) {
    let finished = async {
        loop {
            tokio::time::sleep(LOOK).await;
            if session.stats().streams_open == 0 {
                return;
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = finished => {}
        _ = session.closed() => return,
    }
    session.close(CloseCode::Shutdown, "the operator goes as it was told to");
    session.closed().await;
}
