//! Keeps the session: dials, serves, backs off, again, for as long as the process lives.
//!
//! ```text
//!            ┌────────── pause ◄───────────┐
//!            ▼                             │
//!  start ─► dial ─► serve ─► lost ─► backing off / refused
//!            │
//!            └─ a token that is refused for good ─► exit 78
//! ```
//!
//! An enrolled agent never gives up: what the relay refuses today a person at the
//! relay can mend, and nobody shall have to touch the customer's host for it.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tunnel::{
    Closed, Credential, DialError, DialOptions, Dialled, KeyPair, Notifier, Pulse, Session, World,
    dial::proxy::Proxy, handshake::Turn,
};
use wire::{
    backoff::Backoff,
    close::{CloseCode, Retry},
    frame::Goaway,
    id::InstanceId,
    key::Secret,
    limits::CLOSE_TIMEOUT,
    message::control,
    token::EnrolToken,
};

use crate::{
    clock,
    dialling::Dialling,
    enrol::{self, address_text},
    figures::{Figures, Telling},
    identity::{self, Identity, Stage},
    known_networks::KnownNetworks,
    nudge::{Nudge, Nudges},
    report::{self, Passed},
    state_dir::StateDir,
    status::{Board, LastError, State},
    work::Work,
};

mod afresh;
mod bulk;
mod ended;
mod facts;
mod quiet;
mod show;
mod upgrade;
mod way;

pub use facts::Facts;
pub use quiet::Quiet;
pub use upgrade::Upgrade;

use afresh::or_afresh;
use bulk::BulkDial;
use ended::Ended;
use quiet::End;

/// How often the figures of a session go to the status.
const FIGURES_EVERY: Duration = Duration::from_secs(5);

/// After so many failures in a row, the next attempt is made as if nothing were known of
/// the network.
const IN_DOUBT_AFTER: u32 = 3;

/// Within this the process has ended once it is told to: the farewell, and three groups
/// of tasks, each of which has `CLOSE_TIMEOUT`.
const STOP_WITHIN: Duration = Duration::from_secs(4 * CLOSE_TIMEOUT.as_secs() + 2);

/// The enrolment token is refused: only a person can help, so the process ends.
#[derive(Debug, Error)]
#[error("the relay refuses the enrolment token: {message}; {advice}")]
pub struct TokenRefused {
    message: String,
    advice: String,
}

/// Everything that the supervisor owns or looks at.
#[derive(Debug)]
pub struct Supervisor {
    /// The seams to the world.
    pub world: World,
    /// Where the identity is saved.
    pub state: StateDir,
    /// Who this agent is.
    pub identity: Identity,
    /// The enrolment token's secret, until enrolled.
    pub secret: Option<Secret>,
    /// See [`enrol::Start::spare`].
    pub spare: Option<EnrolToken>,
    /// The session that waits for one.
    pub kept: Option<Session>,
    /// When a better transport is tried.
    pub upgrade: Upgrade,
    /// How long an idle session may be silent here.
    pub quiet: Quiet,
    /// How the relay is dialled.
    pub dialling: Dialling,
    /// What led to it before.
    pub known: KnownNetworks,
    /// This run of the process.
    pub instance: InstanceId,
    /// What a person can see.
    pub board: Arc<Board>,
    /// Serves streams.
    pub work: Work,
    /// Those who serve the streams of this session, and of former ones that are not yet
    /// at their ends.
    pub serving: JoinSet<()>,
    /// What this process has done.
    pub figures: Arc<Figures>,
    /// What was told at the last report.
    pub facts: Facts,
    /// Whether the disk has not yet taken the identity as it is.
    pub is_unsaved: bool,
    /// Told to stop the process.
    pub stop: CancellationToken,
    /// Whoever supervises this process.
    pub notifier: Notifier,
    /// When that is to be told that this loop goes round: each of its waits is either
    /// ended by this or bounded, so that a loop that hangs is noticed.
    pub pulse: Pulse,
    /// Who calls for a try at once.
    pub nudges: Nudges,
    /// When a relay that leaves has told this agent to come back, from the session's end.
    pub slot: Option<Duration>,
}

/// What happened during a session; acted upon after the wait.
enum Event {
    BulkDialled,
    BulkWanted,
    Closed(Closed),
    Control(Option<Box<control::Message>>),
    Goaway(Goaway),
    Facts,
    Figures,
    Lost,
    Nudge,
    Pulse,
    Stop,
    Tell,
    Better(Option<Result<Box<Dialled>, DialError>>),
}

/// How serving a session came to its end.
enum Served {
    /// Told to stop, and the relay was told.
    Stopped,
    /// The session is over.
    Closed(Closed),
    /// It has lost its connection, and waits for another.
    Lost,
}

impl Supervisor {
    /// Keeps the session until told to stop.
    ///
    /// # Errors
    ///
    /// [`TokenRefused`], during enrolment only.
    pub async fn run(mut self) -> Result<(), TokenRefused> {
        let mut backoff = Backoff::new();
        let mut window = Duration::ZERO;
        while !self.stop.is_cancelled() {
            self.show_dialling();
            let Some(ended) = self.attempt(&mut backoff, &mut window).await else {
                break;
            };
            if ended.unknown_here && self.enrol_again() {
                continue;
            }
            let is_enrolling = matches!(self.identity.stage, Stage::Enrolling);
            if is_enrolling && ended.refusal && ended.retry == Retry::Never {
                let LastError {
                    message, advice, ..
                } = ended.error.clone();
                self.show_waiting(&ended, None, &backoff);
                return Err(TokenRefused { message, advice });
            }
            let now = self.world.clock.now();
            let pause = backoff.next_delay(now, window, ended.retry, self.world.random_unit());
            self.show_waiting(&ended, pause, &backoff);
            if self.pause(pause, ended.retry).await {
                backoff.on_change();
            }
        }
        self.notifier.stopping(STOP_WITHIN);
        // Without a connection there is nobody to be told.
        if let Some(kept) = self.kept.take() {
            kept.abort(CloseCode::Shutdown, "the agent stops");
        }
        self.board.update(|status| {
            status.state = State::Stopped;
            status.session_id = None;
            status.next_attempt_at = None;
        });
        self.finish_serving().await;
        Ok(())
    }

    /// Streams whose session is over write their last line to the record. Not waited for
    /// for ever: the process is ending.
    async fn finish_serving(&mut self) {
        let ended = async { while self.serving.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_TIMEOUT, ended).await.is_err() {
            tracing::warn!("streams that did not end in time");
        }
    }

    /// Dials and, where that works, serves the session to its end. `None`: told to stop.
    async fn attempt(&mut self, backoff: &mut Backoff, window: &mut Duration) -> Option<Ended> {
        self.drop_what_is_over();
        // What has failed so often is forgotten for once: the network may have changed.
        let prefer = match backoff.attempt() {
            0..IN_DOUBT_AFTER => self.preference(),
            _ => None,
        };
        let options = DialOptions {
            prefer,
            ..self.options()
        };
        let credential = self.credential();
        // Bounded: each route has its timeout, and the next one begins beside it.
        self.notifier.alive();
        let (tally, turn) = (&self.figures.dials, Turn::after(Duration::ZERO));
        let dial = || tunnel::dial_counting(&self.world, &options, &credential, (tally, &turn));
        let dial = or_afresh(&self.nudges, dial);
        let dialled = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            dialled = dial => dialled,
        };
        let dialled = match dialled {
            Ok(dialled) => dialled,
            Err(error) => return Some(Ended::of_dial(&error, clock::timestamp(&self.world))),
        };
        let began = self.world.clock.now();
        backoff.on_connected(began);
        *window = dialled.welcome.reconnect_window;
        self.take_over(&dialled);
        self.welcome(&dialled);
        self.remember(&dialled);
        let session = dialled.session.clone();
        let served = self.serve(dialled, window).await;
        let now = self.world.clock.now();
        backoff.on_lost(now, session.stats().last_heard > began);
        self.upgrade.note_lost(now);
        self.quiet.note_end(&End {
            since: began,
            last_heard: session.stats().last_heard,
            at: now,
            is_idle_death: matches!(served, Served::Lost) && session.stats().streams_open == 0,
        });
        let lived = now.saturating_duration_since(began);
        let at = clock::timestamp(&self.world);
        let slot = self.slot.take();
        match served {
            Served::Lost => {
                self.kept = Some(session);
                Some(Ended::of_connection(at).or_in(slot))
            }
            Served::Closed(closed) => {
                self.figures.session_ended(&session.stats());
                Some(Ended::of_session(&closed, lived, at).or_in(slot))
            }
            Served::Stopped => {
                self.figures.session_ended(&session.stats());
                None
            }
        }
    }

    /// Has the session that was welcomed served, if it is a new one, and a former one end
    /// that the relay no longer has: at once, so that nobody waits for its streams.
    fn take_over(&mut self, dialled: &Dialled) {
        if dialled.is_resumed {
            self.kept = None;
            return;
        }
        if let Some(former) = self.kept.take() {
            former.abort(
                CloseCode::NotResumable,
                "the relay no longer has the session",
            );
            self.figures.session_ended(&former.stats());
        }
        self.figures.session_opened();
        while self.serving.try_join_next().is_some() {}
        let work = self.work.clone();
        self.serving.spawn(work.serve(dialled.session.clone()));
    }

    /// Lets go of a session that has waited in vain.
    fn drop_what_is_over(&mut self) {
        if let Some(former) = self.kept.take_if(|session| session.is_over()) {
            self.figures.session_ended(&former.stats());
        }
    }

    fn credential(&self) -> Credential {
        let key = KeyPair::from_seed(&self.identity.seed);
        let start_counter = self.identity.start_counter;
        match (self.identity.stage, &self.secret) {
            (Stage::Enrolled(agent_id), _) => Credential::Known {
                agent_id,
                key,
                start_counter,
            },
            (Stage::Enrolling, Some(secret)) => Credential::Enrol {
                secret: secret.clone(),
                key,
                start_counter,
            },
            (Stage::Enrolling, None) => unreachable!("an enrolment starts with its token"),
        }
    }

    /// Takes note of what the relay's welcome says.
    fn welcome(&mut self, dialled: &Dialled) {
        self.facts.way = Passed::of(dialled);
        let Dialled {
            welcome,
            way,
            remote,
            intercepted_by,
            ..
        } = dialled;
        let (transport, proxy) = (way.transport, way.proxy.as_ref().map(Proxy::to_string));
        if let (Stage::Enrolling, Some(agent_id)) = (self.identity.stage, welcome.agent_id) {
            self.identity.stage = Stage::Enrolled(agent_id);
            self.identity.environment.clone_from(&welcome.environment);
            self.secret = None;
            tracing::info!(%agent_id, environment = welcome.environment, "enrolled");
            self.save();
        }
        let agent_id = match self.identity.stage {
            Stage::Enrolled(agent_id) => Some(agent_id.to_string()),
            Stage::Enrolling => None,
        };
        self.notifier.status(&format!(
            "online as {} over {transport}",
            welcome.environment
        ));
        let now = clock::timestamp(&self.world);
        self.board.update(|status| {
            status.state = State::Online;
            status.session_id = Some(welcome.session_id.to_string());
            status.agent_id = agent_id;
            status.environment.clone_from(&welcome.environment);
            status.relay_address = address_text(std::slice::from_ref(&way.address));
            status.transport = Some(transport.as_str().to_owned());
            status.proxy.clone_from(&proxy);
            status.intercepted_by.clone_from(intercepted_by);
            status.connected_since = Some(now);
            status.last_heard = status.connected_since;
            status.next_attempt_at = None;
            status.attempt = 0;
        });
        // Last, so that whoever reads it finds everything above on the disk.
        tracing::info!(
            session_id = %welcome.session_id, transport = %transport.as_str(), proxy,
            environment = welcome.environment, epoch = ?welcome.epoch,
            "{}", if dialled.is_resumed { "session resumed" } else { "session opened" }
        );
        if let Some(issuer) = intercepted_by {
            tracing::warn!(
                issuer,
                "TLS is intercepted on the way, as interception_ca allows: the session is inside a TLS of its own"
            );
        }
        self.nudges.lead_to(remote.ip());
        tracing::debug!(%remote, "relay");
    }

    /// A full disk does not end the session. What is on the disk then still holds
    /// this key, and the token finishes its enrolment once more after a restart.
    fn save(&mut self) {
        let saved = identity::save(&self.state, &self.identity);
        match &saved {
            Ok(()) if self.is_unsaved => tracing::info!("the enrolment is on the disk"),
            Err(error) if !self.is_unsaved => tracing::error!(
                %error, "the enrolment is not on the disk; keep the token until it is"
            ),
            Ok(()) | Err(_) => {}
        }
        self.is_unsaved = saved.is_err();
    }

    /// Serves until the session ends, or has no connection.
    async fn serve(&mut self, mut dialled: Dialled, window: &mut Duration) -> Served {
        let session = &dialled.session.clone();
        self.facts.ask_docker.notify_one();
        self.report(session);
        let mut better = self.upgrade.begin(self.world.clock.now());
        let mut figures = tokio::time::interval(FIGURES_EVERY);
        let (mut control_open, mut is_leaving) = (true, false);
        let mut telling = Telling::default();
        let mut bulk = BulkDial::default();
        loop {
            // What cannot come again at once stands in front of what a peer could send
            // without end; and what it said last is heard before the end is.
            let can_be_better = self.can_be_better(&dialled);
            let event = tokio::select! {
                biased;
                () = self.stop.cancelled() => Event::Stop,
                () = self.pulse.due() => Event::Pulse,
                _ = figures.tick() => Event::Figures,
                _ = self.nudges.next() => Event::Nudge,
                () = telling.due() => Event::Tell,
                () = self.facts.changed() => Event::Facts,
                () = bulk.done() => Event::BulkDialled,
                () = session.bulk_wanted(), if bulk.is_idle() => Event::BulkWanted,
                next = better.next(), if !is_leaving && can_be_better => Event::Better(next),
                goaway = session.goaway_received(), if !is_leaving => Event::Goaway(goaway),
                message = session.recv_control(), if control_open => {
                    Event::Control(message.map(Box::new))
                }
                closed = session.closed() => Event::Closed(closed),
                () = session.connection_lost() => Event::Lost,
            };
            match event {
                Event::Closed(closed) => return Served::Closed(closed),
                Event::Lost => return Served::Lost,
                Event::Control(Some(message)) => hear(*message, window, &mut telling),
                Event::Control(None) => control_open = false,
                Event::Goaway(goaway) => {
                    is_leaving = true;
                    self.slot = Some(heed(&goaway, self.world.random_unit()));
                }
                Event::Better(next) => {
                    let moved = self.note_better(&mut better, &dialled, next);
                    dialled = moved.unwrap_or(dialled);
                }
                Event::BulkDialled => {}
                Event::Nudge => session.ask(),
                Event::BulkWanted => {
                    let (options, credential) = (self.options(), self.credential());
                    bulk.begin(&self.world, &options, &credential, &dialled);
                }
                Event::Facts => self.report(session),
                Event::Pulse => self.notifier.alive(),
                Event::Figures => {
                    self.show_figures(session);
                    if let Some(refusals) = self.figures.refusals(self.world.clock.now()) {
                        session.send_control(refusals);
                    }
                    if self.is_unsaved {
                        self.save();
                    }
                }
                Event::Tell => self.tell_figures(session),
                Event::Stop => {
                    session.close(CloseCode::Shutdown, "the agent stops");
                    // The relay may be gone; the process is not kept from ending.
                    drop(tokio::time::timeout(CLOSE_TIMEOUT, session.closed()).await);
                    return Served::Stopped;
                }
            }
        }
    }

    fn report(&mut self, session: &Session) {
        let docker = self.facts.docker.borrow_and_update().clone();
        let policy = self.facts.policy.borrow_and_update().clone();
        let Facts {
            host,
            vitals,
            sandbox,
            way,
            ..
        } = &self.facts;
        let size = vitals.resident_bytes();
        let message = report::compose((host, sandbox, size), way, &docker, &policy);
        // A session that ends under the report gets the next one when it is back.
        session.send_control(message);
    }

    fn tell_figures(&self, session: &Session) {
        let docker = self.facts.docker.borrow().to_message().state();
        let (now, process) = (self.world.clock.now(), self.facts.vitals.look());
        let message = self
            .figures
            .compose(now, &process, &session.stats(), docker);
        session.send_control(message);
    }

    /// The relay does not know this identity, and another token was given: the
    /// environment was removed and added again. Begins anew with a fresh key.
    fn enrol_again(&mut self) -> bool {
        let Some(token) = self.spare.take() else {
            return false;
        };
        let seed = Secret::from_bytes(self.world.random());
        let start = enrol::begin(token, seed, tunnel::sha256);
        let identity = Identity {
            start_counter: self.identity.start_counter,
            ..start.identity
        };
        if let Err(error) = identity::save(&self.state, &identity) {
            tracing::error!(%error, "cannot enrol again");
            return false;
        }
        tracing::info!("the relay no longer knows this agent: enrolling again with the new token");
        self.identity = identity;
        self.secret = start.secret;
        true
    }

    /// Waits until the next try. True: something has changed, and it is time at once.
    async fn pause(&mut self, pause: Option<Duration>, retry: Retry) -> bool {
        let elapsed = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(elapsed);
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return false,
                () = &mut elapsed => return false,
                nudge = self.nudges.next() => {
                    // What the relay has said of the next try stands, but for a person.
                    if nudge == Nudge::Person || retry == Retry::Backoff {
                        return true;
                    }
                }
                () = self.pulse.due() => {}
            }
            self.notifier.alive();
        }
    }
}

/// Follows what the relay says in a control message; one of a newer relay is ignored.
fn hear(message: control::Message, window: &mut Duration, telling: &mut Telling) {
    match message {
        control::Message::ReconnectWindow(told) => {
            *window = Duration::from_millis(told.window_ms.into());
            tracing::debug!(?window, "reconnect window");
        }
        control::Message::FiguresRequest(asked) => {
            telling.ask(Duration::from_millis(asked.interval_ms.into()));
        }
        control::Message::AgentReport(_)
        | control::Message::AgentFigures(_)
        | control::Message::PolicyRefusals(_)
        | control::Message::BulkLaneRequest(_) => {
            tracing::debug!("not for this loop; ignored");
        }
    }
}

/// The relay is about to close: streams go on until it does. Gives when to come back after
/// that, within what this agent was told.
fn heed(goaway: &Goaway, random: f64) -> Duration {
    let within = Duration::from_millis(goaway.window_ms).mul_f64(random);
    let slot = Duration::from_millis(goaway.reconnect_after_ms).saturating_add(within);
    tracing::info!(reconnect_in = ?slot, drain_ms = goaway.drain_ms, "the relay is leaving");
    slot
}
