//! A live session, as the application holds it.
//!
//! The pure machine ([`wire::session::Session`]) sits behind one lock that is never
//! held across an await; application and driver work on it directly, so that a byte
//! passes no channel and no task it need not. The driver runs until the session
//! ends, and the session ends when the last [`Session`] is dropped.

use std::{
    sync::{Arc, PoisonError},
    task::Poll,
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message;
use wire::{
    close::{CloseCode, ResetCode},
    frame::Goaway,
    id::{RequestId, SessionId, Side},
    limits::OPEN_TIMEOUT,
    message::{self, control},
    session::{BulkOptions, ConnectionOptions, OpenOptions},
    target::Target,
    transport::Transport,
};

pub(crate) mod framed;
pub(crate) mod laned;
mod state;
mod stream;

pub use state::Observe;
pub use stream::{RecvStream, SendStream, Stream};
pub use wire::session::{Closed, Occupancy, OpenError, StreamReset};

use state::{Shared, State};

/// What a session is started with, besides its connection.
pub struct SessionOptions {
    /// From the welcome.
    pub id: SessionId,
    /// Which end this is.
    pub side: Side,
    /// What carries it.
    pub transport: Transport,
    /// How long an idle dialler is silent at most, as agreed in the handshake.
    pub heartbeat_idle: Duration,
    /// The seam to time.
    pub clock: Arc<dyn crate::world::Clock>,
    /// How many bulk lanes it may have, as agreed in the handshake.
    pub bulk_lanes_max: usize,
    /// How long it may be without a connection, as agreed in the handshake; zero: it ends
    /// with its connection.
    pub resume_window: Duration,
    /// Told of what metrics count.
    pub observer: Arc<dyn Observe>,
}

impl std::fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionOptions")
            .field("id", &self.id)
            .field("side", &self.side)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

/// A handle to a live session. Clones are handles to the same one; dropping the
/// last one closes it in order.
#[derive(Debug, Clone)]
pub struct Session {
    owner: Arc<Owner>,
}

/// What lives as long as the application's handles.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared
            .with(|state| state.machine.close(CloseCode::Shutdown, ""));
    }
}

/// What opens a stream.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    /// On an operator's session the environment's name; on an agent's, empty.
    pub environment: String,
    /// What to reach.
    pub target: Target,
    /// On whose behalf.
    pub principal: String,
    /// Which request, for the logs of all three.
    pub request_id: RequestId,
    /// The stream's first bytes, so that a request costs one round trip.
    pub first_bytes: Bytes,
}

/// What a session looks like at the moment.
#[derive(Debug, Clone, Copy)]
pub struct SessionStats {
    /// What carries it.
    pub transport: Transport,
    /// Smoothed round trip of the heartbeat.
    pub rtt: Option<Duration>,
    /// When it began.
    pub opened_at: Instant,
    /// When a byte was last heard.
    pub last_heard: Instant,
    /// Payload bytes of streams.
    pub bytes_sent: u64,
    /// Payload bytes of streams.
    pub bytes_received: u64,
    /// Streams open at the moment.
    pub streams_open: usize,
    /// Streams ever opened.
    pub streams_opened: u64,
    /// How full its queues and windows are.
    pub occupancy: Occupancy,
}

/// A stream that the peer opened and that waits for an answer. Dropped without one,
/// it is reset as cancelled.
#[derive(Debug)]
pub struct IncomingStream {
    /// What the peer asks for. Its first bytes are the first that the stream reads.
    pub open: OpenRequest,
    stream: Stream,
}

impl IncomingStream {
    /// The target was reached: the stream is the application's.
    pub fn accept(mut self) -> Stream {
        self.stream.tell_accepted();
        self.stream
    }

    /// What has arrived of the stream, at most `max` bytes and without waiting: to
    /// be carried on by the next open. The stream does not read it again.
    pub fn take_first_bytes(&mut self, max: usize) -> Bytes {
        self.stream.read_now(max)
    }

    /// The target was not reached.
    pub fn reject(mut self, code: ResetCode, reason: &str) {
        self.stream.reset(code, reason);
    }
}

impl Session {
    /// Sets a session up over one connection, and gives what a driver needs.
    pub(crate) fn new(options: &SessionOptions) -> (Self, DriverParts) {
        let mut machine = wire::session::Session::new(options.side);
        machine.allow_bulk(BulkOptions::lanes(options.bulk_lanes_max));
        let connection = ConnectionOptions {
            transport: options.transport,
            heartbeat_idle: options.heartbeat_idle,
        };
        let now = options.clock.now();
        let connection = machine.attach(now, connection);
        let shared = Arc::new(Shared::new(machine, connection, options, now));
        let session = Self {
            owner: Arc::new(Owner {
                shared: Arc::clone(&shared),
            }),
        };
        (session, DriverParts { shared, connection })
    }

    /// Makes a further connection the session's own, and gives what its driver needs. `None`:
    /// the session is over.
    pub(crate) fn attach(
        &self,
        options: ConnectionOptions,
        bulk_lanes_max: usize,
    ) -> Option<DriverParts> {
        let shared = self.shared();
        let connection = shared.with(|state| {
            let bulk = BulkOptions::lanes(bulk_lanes_max);
            state.machine.allow_bulk(bulk);
            shared.attach(state, options)
        })?;
        let shared = Arc::clone(shared);
        Some(DriverParts { shared, connection })
    }

    /// Adds a bulk lane, and gives what its driver needs. `None`: the session takes none.
    pub(crate) fn attach_bulk(&self, transport: Transport) -> Option<DriverParts> {
        let shared = self.shared();
        let now = shared.clock.now();
        let connection = shared.with(|state| {
            let options = ConnectionOptions::of(transport);
            let connection = state.machine.attach_bulk(now, options)?;
            state.add_bulk(connection);
            Some(connection)
        })?;
        let shared = Arc::clone(shared);
        Some(DriverParts { shared, connection })
    }

    /// Waits until a further bulk lane would be of use at either end, or for ever: the
    /// dialler is to [dial one](crate::dial::dial_bulk). The peer's wish is heard while
    /// [control messages](Self::recv_control) are.
    pub async fn bulk_wanted(&self) {
        let shared = self.shared();
        shared
            .is_told(|state| std::mem::take(&mut state.is_bulk_wanted).then_some(()))
            .await;
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// The session's id, for logs.
    pub fn id(&self) -> SessionId {
        self.shared().id
    }

    /// What carries the session, or did last.
    pub fn transport(&self) -> Transport {
        self.shared().look(|state| state.transport)
    }

    /// Whether the session has a connection. One that has not waits for another within its
    /// resume window, and its streams with it.
    pub fn is_connected(&self) -> bool {
        self.shared()
            .look(|state| state.waiting.is_none() && state.machine.closed().is_none())
    }

    /// Whether the session has ended.
    pub fn is_over(&self) -> bool {
        self.shared().look(|state| state.machine.closed().is_some())
    }

    /// Waits until the session has no connection, or for ever.
    pub async fn connection_lost(&self) {
        let shared = self.shared();
        shared
            .is_told(|state| state.waiting.is_some().then_some(()))
            .await;
    }

    /// Opens a stream. Bytes may be written at once; [`Stream::accepted`] waits for
    /// the far end. Waits itself only while as many streams are open as may be.
    ///
    /// # Errors
    ///
    /// The session is over, or no stream became available in time.
    pub async fn open(&self, open: OpenRequest) -> Result<Stream, OpenError> {
        let options = OpenOptions {
            environment: open.environment,
            target: open.target.to_string(),
            principal: open.principal,
            request_id: open.request_id,
            first_bytes: open.first_bytes,
        };
        let shared = self.shared();
        let opened = std::future::poll_fn(|cx| {
            shared.with(|state| match state.machine.open(options.clone()) {
                Ok(id) => {
                    state.add_stream(id);
                    Poll::Ready(Ok(id))
                }
                Err(OpenError::TooMany) => {
                    state.open_wakers.push(cx.waker().clone());
                    Poll::Pending
                }
                Err(OpenError::Closed) => Poll::Ready(Err(OpenError::Closed)),
            })
        });
        let id = tokio::time::timeout(OPEN_TIMEOUT, opened)
            .await
            .map_err(|_| OpenError::TooMany)??;
        Ok(Stream::new(Arc::clone(shared), id))
    }

    /// The next stream that the peer opens; `None` once the session is over. One
    /// task at a time may wait here.
    ///
    /// Opens whose target cannot be read are refused on the way.
    pub async fn accept(&self) -> Option<IncomingStream> {
        loop {
            let open = std::future::poll_fn(|cx| {
                self.shared()
                    .with(|state| match state.incoming.pop_front() {
                        Some(open) => {
                            state.add_stream(open.id);
                            Poll::Ready(Some(open))
                        }
                        None if state.machine.closed().is_some() => Poll::Ready(None),
                        None => {
                            state.accept_waker = Some(cx.waker().clone());
                            Poll::Pending
                        }
                    })
            })
            .await?;
            let mut stream = Stream::new(Arc::clone(self.shared()), open.id);
            match open.target.parse() {
                Ok(target) => {
                    let open = OpenRequest {
                        environment: open.environment,
                        target,
                        principal: open.principal,
                        request_id: open.request_id,
                        first_bytes: Bytes::new(),
                    };
                    return Some(IncomingStream { open, stream });
                }
                Err(error) => stream.reset(ResetCode::BadRequest, &error.to_string()),
            }
        }
    }

    /// Sends a control message. Lost where the session is over.
    pub fn send_control(&self, message: control::Message) {
        let message = message::Control {
            message: Some(message),
        }
        .encode_to_vec();
        self.shared()
            .with(|state| state.machine.send_control(message.into()));
    }

    /// The next control message; `None` once the session is over. Messages of a
    /// newer peer are skipped. One task at a time may wait here.
    pub async fn recv_control(&self) -> Option<control::Message> {
        loop {
            let bytes = std::future::poll_fn(|cx| {
                self.shared()
                    .with(|state| match state.controls.pop_front() {
                        Some(bytes) => Poll::Ready(Some(bytes)),
                        None if state.machine.closed().is_some() => Poll::Ready(None),
                        None => {
                            state.control_waker = Some(cx.waker().clone());
                            Poll::Pending
                        }
                    })
            })
            .await?;
            match message::Control::decode(bytes).map(|control| control.message) {
                Ok(Some(control::Message::BulkLaneRequest(_))) => {
                    self.shared().with(|state| self.shared().want_bulk(state));
                }
                Ok(Some(message)) => return Some(message),
                Ok(None) => tracing::debug!("control message of a newer peer skipped"),
                Err(_) => self.close(CloseCode::ProtocolViolation, "malformed control message"),
            }
        }
    }

    /// Asks the peer at once whether it is there: without an answer the session ends within
    /// the deadline of an answer, however long it would have been silent otherwise.
    pub fn ask(&self) {
        let now = self.shared().clock.now();
        self.shared().with(|state| state.machine.ask(now));
    }

    /// Asks the peer to move.
    pub fn goaway(&self, goaway: Goaway) {
        self.shared().with(|state| state.machine.goaway(goaway));
    }

    /// Waits until the peer asks to move, or for ever.
    pub async fn goaway_received(&self) -> Goaway {
        let asked = self.shared().is_told(|state| state.goaway.clone());
        *asked.await
    }

    /// Tells the peer why, then ends the session.
    pub fn close(&self, code: CloseCode, reason: &str) {
        self.shared()
            .with(|state| state.machine.close(code, reason));
    }

    /// Ends the session at this end, without a word to the peer.
    pub fn abort(&self, code: CloseCode, reason: &str) {
        self.shared()
            .with(|state| state.machine.abort(code, reason));
    }

    /// Waits until the session is over.
    pub async fn closed(&self) -> Closed {
        let over = self
            .shared()
            .is_told(|state| state.machine.closed().cloned());
        over.await
    }

    /// What the session looks like at the moment.
    pub fn stats(&self) -> SessionStats {
        let shared = self.shared();
        let state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        SessionStats {
            transport: state.transport,
            rtt: state.machine.rtt().or(state.last_rtt),
            opened_at: shared.opened_at,
            last_heard: state.machine.last_heard().unwrap_or(state.last_heard),
            bytes_sent: state.machine.bytes_sent(),
            bytes_received: state.machine.bytes_received(),
            streams_open: state.machine.streams_open(),
            streams_opened: state.machine.streams_opened(),
            occupancy: state.machine.occupancy(),
        }
    }
}

/// What a driver works on.
#[derive(Debug, Clone)]
pub(crate) struct DriverParts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: wire::id::ConnectionId,
}

impl DriverParts {
    /// The connection broke. A bulk lane's end is no more than that.
    pub(crate) fn lost(&self, reason: &str) {
        let Self { shared, connection } = self;
        shared.with(|state| {
            if state.is_bulk(*connection) {
                state.leave_bulk(*connection);
            } else {
                shared.lose(state, *connection, CloseCode::ConnectionLost, reason);
            }
        });
    }

    /// Whether the session goes on, and not over this connection.
    pub(crate) fn is_left(&self) -> bool {
        self.shared.look(|state| {
            state.machine.closed().is_none() && !state.machine.has_connection(self.connection)
        })
    }

    /// Whether another connection has taken the place of this one.
    pub(crate) fn is_replaced(&self) -> bool {
        self.is_left() && self.shared.look(|state| state.is_bulk(self.connection))
    }

    /// Waits, where the session was left without a connection by the end of this one, until
    /// it has another, and ends it where none comes in time.
    pub(crate) async fn await_successor(&self) {
        let own = |state: &mut State| !state.is_bulk(self.connection) && state.waiting.is_some();
        let until = self.shared.look(|state| {
            let waiting = state.waiting.as_ref();
            waiting
                .filter(|_| !state.is_bulk(self.connection))
                .map(|waiting| waiting.until)
        });
        let Some(until) = until else { return };
        let successor = self.shared.is_told(|state| (!own(state)).then_some(()));
        let until = tokio::time::Instant::from_std(until);
        if tokio::time::timeout_at(until, successor).await.is_err() {
            self.shared.with(|state| {
                if own(state) {
                    self.shared.give_up(state);
                }
            });
        }
    }

    /// The peer broke the protocol.
    pub(crate) fn violated(&self, error: &wire::session::ProtocolError) {
        tracing::debug!(%error, "peer broke the protocol");
        let reason = error.to_string();
        self.shared
            .with(|state| state.machine.close(CloseCode::ProtocolViolation, &reason));
    }

    /// Works on the state without waking this connection's driver, which is the caller.
    pub(crate) fn drive<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        self.shared.drive(self.connection, work)
    }
}
