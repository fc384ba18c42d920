//! The machine and everybody who waits for it, behind one lock.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::Notify;
use wire::{
    close::CloseCode,
    frame::{Goaway, Open},
    id::{ConnectionId, SessionId, Side, StreamId},
    limits::CONTROL_BACKLOG_MAX,
    message::{BulkLaneRequest, Control, control},
    session::{Closed, ConnectionOptions, Event},
    transport::Transport,
};

use super::SessionOptions;
use crate::world::Clock;

/// Told of what metrics count, and asked for what is not one session's to decide. Called
/// with the session's lock held: be brief.
pub trait Observe: Send + Sync {
    /// A heartbeat over this transport was answered after this long.
    fn round_trip(&self, _transport: Transport, _rtt: Duration) {}

    /// The connection of a session over this transport was lost: it broke, or its peer was silent
    /// for longer than it may be.
    fn lost(&self, _transport: Transport, _code: CloseCode) {}

    /// The session has lost its connection. Whether it may wait for another one, and hold so
    /// many bytes until then.
    fn may_wait(&self, _bytes: u64) -> bool {
        true
    }

    /// A session that waited is over, or has a connection again, over this transport and
    /// after this long: the bytes count no more.
    fn waited(&self, _bytes: u64, _resumed: Option<(Transport, Duration)>) {}
}

impl Observe for () {}

/// See the module.
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    pub(crate) opened_at: Instant,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Mutex<State>,
    /// Notified of a goaway, of connections that come and go, and of the end.
    told: Notify,
    observer: Arc<dyn Observe>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What the lock guards. Maps are ordered: who is woken first decides who sends first.
pub(crate) struct State {
    pub(crate) machine: wire::session::Session,
    /// What carries the session, or did last.
    pub(crate) transport: Transport,
    /// How long it may be without a connection; zero: it ends with its connection.
    resume_window: Duration,
    /// Set while it is without one.
    pub(crate) waiting: Option<Waiting>,
    pub(crate) streams: BTreeMap<StreamId, Waiters>,
    pub(crate) incoming: VecDeque<Open>,
    pub(crate) accept_waker: Option<Waker>,
    pub(crate) controls: VecDeque<Bytes>,
    pub(crate) control_waker: Option<Waker>,
    pub(crate) open_wakers: Vec<Waker>,
    /// Who drives the connection's control lane or its only pipe.
    pub(crate) driver: Driver,
    /// Who drives each bulk lane.
    pub(crate) bulk_drivers: Vec<Driver>,
    /// A further bulk lane would be of use.
    pub(crate) is_bulk_wanted: bool,
    /// Streams opened here that need a lane (laned connections).
    pub(crate) lanes_wanted: VecDeque<StreamId>,
    pub(crate) lane_opener_waker: Option<Waker>,
    /// Who writes each lane.
    pub(crate) lane_wakers: BTreeMap<StreamId, Waker>,
    /// What the peer has asked for last.
    pub(crate) goaway: Option<Box<Goaway>>,
    pub(crate) last_rtt: Option<Duration>,
    pub(crate) last_heard: Instant,
}

/// A session that has lost its connection.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Since when it waits.
    since: Instant,
    /// Until when it waits for another one.
    pub(crate) until: Instant,
    /// What it ends with, if none comes.
    end: Closed,
    /// What it was found to hold.
    bytes: u64,
}

/// Who drives one connection, and waits.
#[derive(Debug)]
pub(crate) struct Driver {
    connection: ConnectionId,
    waker: Option<Waker>,
    /// It waits for its socket: what there is to send is sent once that has room.
    is_blocked: bool,
}

impl Driver {
    fn of(connection: ConnectionId) -> Self {
        Self {
            connection,
            waker: None,
            is_blocked: false,
        }
    }

    fn wake(&mut self) {
        wake(&mut self.waker);
    }
}

/// Who waits for a stream, and whether its far end has reached the target.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
    pub(crate) opener: Option<Waker>,
    pub(crate) is_accepted: bool,
}

impl Shared {
    pub(crate) fn new(
        machine: wire::session::Session,
        connection: ConnectionId,
        options: &SessionOptions,
        now: Instant,
    ) -> Self {
        Self {
            id: options.id,
            opened_at: now,
            clock: Arc::clone(&options.clock),
            state: Mutex::new(State {
                machine,
                transport: options.transport,
                resume_window: options.resume_window,
                waiting: None,
                streams: BTreeMap::new(),
                incoming: VecDeque::new(),
                accept_waker: None,
                controls: VecDeque::new(),
                control_waker: None,
                open_wakers: Vec::new(),
                driver: Driver::of(connection),
                bulk_drivers: Vec::new(),
                is_bulk_wanted: false,
                lanes_wanted: VecDeque::new(),
                lane_opener_waker: None,
                lane_wakers: BTreeMap::new(),
                goaway: None,
                last_rtt: None,
                last_heard: now,
            }),
            told: Notify::new(),
            observer: Arc::clone(&options.observer),
        }
    }

    /// Works on the state for the application or a lane, and wakes the drivers that were
    /// given something to do.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = state.machine.poll_timeout();
        let result = work(&mut state);
        self.dispatch(&mut state);
        state.wake_drivers(None, timeout);
        result
    }

    /// Works on the state for the driver of a connection, and wakes those of others that
    /// were given something to do.
    pub(crate) fn drive<R>(
        &self,
        connection: ConnectionId,
        work: impl FnOnce(&mut State) -> R,
    ) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.bulk_drivers.is_empty() {
            // There is no other.
            let result = work(&mut state);
            self.dispatch(&mut state);
            return result;
        }
        let timeout = state.machine.poll_timeout();
        let result = work(&mut state);
        self.dispatch(&mut state);
        state.wake_drivers(Some(connection), timeout);
        result
    }

    /// Looks at the state, and changes nothing.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the state shows what is looked for, a goaway or the end.
    pub(crate) async fn is_told<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            // Waiting begins before the look, so that nothing falls in between.
            let mut told = pin!(self.told.notified());
            told.as_mut().enable();
            let seen = look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
            if let Some(seen) = seen {
                return seen;
            }
            told.await;
        }
    }

    /// Hands the machine's events to whom they concern.
    fn dispatch(&self, state: &mut State) {
        while let Some(event) = state.machine.poll_event() {
            match event {
                Event::Opened(open) => {
                    state.incoming.push_back(open);
                    wake(&mut state.accept_waker);
                }
                Event::Accepted(id) => {
                    if let Some(stream) = state.streams.get_mut(&id) {
                        stream.is_accepted = true;
                        wake(&mut stream.opener);
                    }
                }
                Event::Readable(id) => {
                    if let Some(stream) = state.streams.get_mut(&id) {
                        wake(&mut stream.reader);
                        wake(&mut stream.opener);
                    }
                }
                Event::Writable(id) => {
                    if let Some(stream) = state.streams.get_mut(&id) {
                        wake(&mut stream.writer);
                        wake(&mut stream.opener);
                    }
                }
                Event::LaneWanted(id) => {
                    state.lanes_wanted.push_back(id);
                    wake(&mut state.lane_opener_waker);
                }
                Event::LaneReady(id) => {
                    if let Some(waker) = state.lane_wakers.remove(&id) {
                        waker.wake();
                    }
                }
                Event::StreamsAvailable => state.open_wakers.drain(..).for_each(Waker::wake),
                // The application is to keep up: what it leaves here is bounded.
                Event::Control(_) if state.controls.len() >= CONTROL_BACKLOG_MAX => {
                    state.machine.close(
                        CloseCode::ProtocolViolation,
                        "too many control messages at once",
                    );
                }
                Event::Control(bytes) => {
                    state.controls.push_back(bytes);
                    wake(&mut state.control_waker);
                }
                Event::Goaway(goaway) => {
                    state.goaway = Some(Box::new(goaway));
                    self.told.notify_waiters();
                }
                Event::RoundTrip(rtt) => {
                    state.last_rtt = state.machine.rtt();
                    self.observer.round_trip(state.transport, rtt);
                }
                Event::BulkWanted => match state.machine.side() {
                    Side::Dialler => self.want_bulk(state),
                    // Only the peer can dial.
                    Side::Acceptor => state.machine.send_control(bulk_lane_request()),
                },
                Event::BulkIdle(connection) => state.leave_bulk(connection),
                Event::ConnectionDead(connection) if state.is_bulk(connection) => {
                    state.leave_bulk(connection);
                }
                Event::ConnectionDead(connection) => self.lose(
                    state,
                    connection,
                    CloseCode::HeartbeatTimeout,
                    "nothing was heard until the heartbeat's deadline",
                ),
                Event::Closed(_) => self.close(state),
            }
        }
    }

    /// Has whoever can dial told that a bulk lane would be of use.
    pub(crate) fn want_bulk(&self, state: &mut State) {
        state.is_bulk_wanted = true;
        self.told.notify_waiters();
    }

    /// The session's own connection is gone: it waits for another, or ends with it.
    pub(crate) fn lose(
        &self,
        state: &mut State,
        connection: ConnectionId,
        code: CloseCode,
        reason: &str,
    ) {
        if !state.machine.has_connection(connection) {
            return;
        }
        state.last_heard = state.machine.last_heard().unwrap_or(state.last_heard);
        state.machine.detach(connection);
        if state.machine.closed().is_some() {
            return;
        }
        self.observer.lost(state.transport, code);
        let held = state.machine.occupancy();
        let bytes = held.unsent + held.unacknowledged + held.unread;
        if state.resume_window.is_zero() || !self.observer.may_wait(bytes) {
            return state.machine.abort(code, reason);
        }
        let now = self.clock.now();
        state.waiting = Some(Waiting {
            since: now,
            until: now + state.resume_window,
            end: Closed {
                code,
                reason: reason.to_owned(),
                is_by_peer: false,
            },
            bytes,
        });
        state.leave_drivers();
        self.told.notify_waiters();
    }

    /// Nobody came to continue the session.
    pub(crate) fn give_up(&self, state: &mut State) {
        let Some(waiting) = &state.waiting else {
            return;
        };
        let Closed { code, reason, .. } = waiting.end.clone();
        let window = state.resume_window.as_secs();
        let reason = format!("{reason}; not resumed within {window} s");
        state.machine.abort(code, &reason);
    }

    /// Makes a further connection the session's own. `None`: the session is over.
    pub(crate) fn attach(
        &self,
        state: &mut State,
        options: ConnectionOptions,
    ) -> Option<ConnectionId> {
        if state.machine.closed().is_some() {
            return None;
        }
        let connection = state.machine.attach(self.clock.now(), options);
        state.leave_drivers();
        state.driver = Driver::of(connection);
        state.transport = options.transport;
        if let Some(waiting) = state.waiting.take() {
            let after = self.clock.now().saturating_duration_since(waiting.since);
            self.observer
                .waited(waiting.bytes, Some((options.transport, after)));
        }
        self.told.notify_waiters();
        Some(connection)
    }

    fn close(&self, state: &mut State) {
        if let Some(waiting) = state.waiting.take() {
            self.observer.waited(waiting.bytes, None);
        }
        self.told.notify_waiters();
        wake(&mut state.accept_waker);
        wake(&mut state.control_waker);
        state.leave_drivers();
        state.open_wakers.drain(..).for_each(Waker::wake);
        for stream in state.streams.values_mut() {
            wake(&mut stream.reader);
            wake(&mut stream.writer);
            wake(&mut stream.opener);
        }
    }
}

impl State {
    /// Wakes drivers that have something to do: to send, to let time pass earlier than
    /// before, or to end. All but who does the work at the moment.
    fn wake_drivers(&mut self, except: Option<ConnectionId>, timeout: Option<Instant>) {
        let Self {
            machine,
            driver,
            bulk_drivers,
            ..
        } = self;
        let is_wanted = |driver: &Driver| {
            Some(driver.connection) != except
                && !driver.is_blocked
                && machine.has_output(driver.connection)
        };
        let is_sooner = match (machine.poll_timeout(), timeout) {
            (Some(now), Some(before)) => now < before,
            (now, before) => now.is_some() && before.is_none(),
        };
        if is_wanted(driver) || is_sooner && Some(driver.connection) != except {
            driver.wake();
        }
        for driver in bulk_drivers {
            if is_wanted(driver) {
                driver.wake();
            }
        }
    }

    /// Notes that a driver waits, and whether for its socket alone.
    pub(crate) fn await_driver(
        &mut self,
        connection: ConnectionId,
        waker: &Waker,
        is_blocked: bool,
    ) {
        let driver = if self.driver.connection == connection {
            Some(&mut self.driver)
        } else {
            let mut drivers = self.bulk_drivers.iter_mut();
            drivers.find(|driver| driver.connection == connection)
        };
        if let Some(driver) = driver {
            driver.is_blocked = is_blocked;
            match &mut driver.waker {
                Some(present) => present.clone_from(waker),
                none => *none = Some(waker.clone()),
            }
        }
    }

    /// Has everybody who drives a connection look whether it is still the session's.
    fn leave_drivers(&mut self) {
        self.driver.wake();
        self.bulk_drivers
            .drain(..)
            .for_each(|mut driver| driver.wake());
        wake(&mut self.lane_opener_waker);
        std::mem::take(&mut self.lane_wakers)
            .into_values()
            .for_each(Waker::wake);
        self.lanes_wanted.clear();
        self.is_bulk_wanted = false;
    }

    /// Whether a connection is not the session's own.
    pub(crate) fn is_bulk(&self, connection: ConnectionId) -> bool {
        self.driver.connection != connection
    }

    /// Makes a place for the driver of a bulk lane.
    pub(crate) fn add_bulk(&mut self, connection: ConnectionId) {
        self.bulk_drivers.push(Driver::of(connection));
        // One serves both ends, which mostly want it at the same time.
        self.is_bulk_wanted = false;
    }

    /// Takes a bulk lane out of the session; its driver ends.
    pub(crate) fn leave_bulk(&mut self, connection: ConnectionId) {
        self.machine.detach(connection);
        self.bulk_drivers.retain_mut(|driver| {
            let stays = driver.connection != connection;
            if !stays {
                driver.wake();
            }
            stays
        });
    }

    /// Makes room for those who will wait for the stream.
    pub(crate) fn add_stream(&mut self, id: StreamId) {
        self.streams.insert(id, Waiters::default());
    }

    /// Forgets who waits for a stream.
    pub(crate) fn remove_stream(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }
}

fn bulk_lane_request() -> Bytes {
    let message = control::Message::BulkLaneRequest(BulkLaneRequest {});
    let message = Some(message);
    Control { message }.encode_to_vec().into()
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
