//! The machine and everybody who waits for it, behind one lock.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    task::Waker,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::Notify;
use wire::{
    close::CloseCode,
    frame::{Goaway, Open},
    id::{SessionId, StreamId},
    limits::CONTROL_BACKLOG_MAX,
    session::Event,
    transport::Transport,
};

use super::SessionOptions;
use crate::world::Clock;

/// Room for so many streams is kept while none is open.
const IDLE_STREAMS_MAX: usize = 32;

/// Told of what metrics count. Called with the session's lock held: be brief.
pub trait Observe: Send + Sync {
    /// A heartbeat was answered after this long.
    fn round_trip(&self, _rtt: Duration) {}
}

impl Observe for () {}

/// See the module.
pub(crate) struct Shared {
    pub(crate) id: SessionId,
    pub(crate) transport: Transport,
    pub(crate) opened_at: Instant,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: Mutex<State>,
    /// Notified of a goaway and of the end.
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

/// What the lock guards.
pub(crate) struct State {
    pub(crate) machine: wire::session::Session,
    pub(crate) streams: HashMap<StreamId, Waiters>,
    pub(crate) incoming: VecDeque<Open>,
    pub(crate) accept_waker: Option<Waker>,
    pub(crate) controls: VecDeque<Bytes>,
    pub(crate) control_waker: Option<Waker>,
    pub(crate) open_wakers: Vec<Waker>,
    /// Who drives the connection's control lane or its only pipe.
    pub(crate) driver_waker: Option<Waker>,
    /// Streams opened here that need a lane (laned connections).
    pub(crate) lanes_wanted: VecDeque<StreamId>,
    pub(crate) lane_opener_waker: Option<Waker>,
    /// Who writes each lane.
    pub(crate) lane_wakers: HashMap<StreamId, Waker>,
    /// What the peer has asked for last.
    pub(crate) goaway: Option<Box<Goaway>>,
    pub(crate) last_rtt: Option<Duration>,
    pub(crate) last_heard: Instant,
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
        options: &SessionOptions,
        now: Instant,
    ) -> Self {
        Self {
            id: options.id,
            transport: options.transport,
            opened_at: now,
            clock: Arc::clone(&options.clock),
            state: Mutex::new(State {
                machine,
                streams: HashMap::new(),
                incoming: VecDeque::new(),
                accept_waker: None,
                controls: VecDeque::new(),
                control_waker: None,
                open_wakers: Vec::new(),
                driver_waker: None,
                lanes_wanted: VecDeque::new(),
                lane_opener_waker: None,
                lane_wakers: HashMap::new(),
                goaway: None,
                last_rtt: None,
                last_heard: now,
            }),
            told: Notify::new(),
            observer: Arc::clone(&options.observer),
        }
    }

    /// Works on the state for the application or a lane, and wakes the driver where
    /// that gave it something to do.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = state.machine.poll_timeout();
        let result = work(&mut state);
        self.dispatch(&mut state);
        if state.machine.has_output() || state.machine.poll_timeout() != timeout {
            wake(&mut state.driver_waker);
        }
        result
    }

    /// Works on the state for the driver.
    pub(crate) fn drive<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = work(&mut state);
        self.dispatch(&mut state);
        result
    }

    /// Waits until the state shows what is looked for, a goaway or the end.
    pub(crate) async fn is_told<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        loop {
            // Waiting begins before the look, so that nothing falls in between.
            let mut told = pin!(self.told.notified());
            told.as_mut().enable();
            let seen = look(&self.state.lock().unwrap_or_else(PoisonError::into_inner));
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
                    self.observer.round_trip(rtt);
                }
                Event::ConnectionDead(_) => {
                    state.machine.abort(
                        CloseCode::HeartbeatTimeout,
                        "nothing was heard until the heartbeat's deadline",
                    );
                }
                Event::Closed(_) => self.close(state),
            }
        }
    }

    fn close(&self, state: &mut State) {
        self.told.notify_waiters();
        wake(&mut state.accept_waker);
        wake(&mut state.control_waker);
        wake(&mut state.lane_opener_waker);
        wake(&mut state.driver_waker);
        state.open_wakers.drain(..).for_each(Waker::wake);
        state
            .lane_wakers
            .drain()
            .for_each(|(_, waker)| waker.wake());
        for stream in state.streams.values_mut() {
            wake(&mut stream.reader);
            wake(&mut stream.writer);
            wake(&mut stream.opener);
        }
    }
}

impl State {
    /// Makes room for those who will wait for the stream.
    pub(crate) fn add_stream(&mut self, id: StreamId) {
        self.streams.insert(id, Waiters::default());
    }

    /// Forgets who waits for a stream, and gives back the room of a busy time with the
    /// last one.
    pub(crate) fn remove_stream(&mut self, id: StreamId) {
        self.streams.remove(&id);
        if self.streams.is_empty() && self.streams.capacity() > IDLE_STREAMS_MAX {
            self.streams = HashMap::new();
            self.lane_wakers.shrink_to_fit();
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
