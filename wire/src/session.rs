//! The session machine: streams, their credit, their order and their liveness over
//! one connection or several, without I/O.
//!
//! Whoever drives it calls four kinds of method, with a `now` that never runs
//! backwards:
//!
//! 1. *commands* of the application: [`open`](Session::open), [`write`](Session::write),
//!    [`read`](Session::read), [`finish`](Session::finish), [`reset`](Session::reset), …
//! 2. `attach` and `detach` for connections that come and go, `handle_*` for what
//!    arrives and for time that passes;
//! 3. `poll_*`: after either, [`poll_transmit`](Session::poll_transmit) for every
//!    connection until it gives nothing, [`poll_lane`](Session::poll_lane) for lanes
//!    named by [`Event::LaneReady`], and [`poll_event`](Session::poll_event) until
//!    `None`; then [`poll_timeout`](Session::poll_timeout) says when time matters;
//! 4. getters.
//!
//! A connection is *framed* (WebSocket: one ordered pipe, in which the machine
//! schedules all streams) or *laned* (QUIC: a control lane, and a lane of raw bytes
//! for each stream). The contract of a stream is the same on both. Offsets are
//! absolute and unacknowledged bytes are kept, so that a stream continues on another
//! connection where the peer's [`Resume`](crate::frame::Resume) says. One connection
//! serves at a time: a further one takes the place of the former. A framed one may have
//! bulk lanes beside it ([`attach_bulk`](Session::attach_bulk)), which end with it.
//!
//! Of a lane, whoever drives it calls [`poll_lane`](Session::poll_lane) when it has
//! the lane (its own after [`Event::LaneWanted`], the peer's after
//! [`handle_lane`](Session::handle_lane)) and after each [`Event::LaneReady`], until
//! it gives [`LaneOutput::Pending`]. A lane that begins with an open is answered with
//! bytes from offset 0, one that begins with an attach by an attach of its own.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::Bytes;
use thiserror::Error;

use crate::{
    close::{CloseCode, ResetCode},
    frame::{DecodeError, Goaway, Open},
    id::{ConnectionId, RequestId, Side, StreamId},
    limits::{
        SEND_BACKLOG_BYTES_MAX, SEND_BACKLOG_BYTES_MIN, SESSION_BACKLOG_BYTES_MAX,
        SESSION_WINDOW_INITIAL_BYTES, SESSION_WINDOW_MAX_BYTES, STREAMS_MAX,
    },
};

mod bulk;
mod command;
mod connection;
mod heartbeat;
mod input;
mod message;
mod occupancy;
mod output;
mod recv;
mod resume;
mod schedule;
mod seen;
mod send;
mod stream;
mod window;

pub use bulk::BulkOptions;
pub use connection::{ConnectionKind, ConnectionOptions};
pub use message::{Pieces, PutMessage};
pub use occupancy::Occupancy;
pub use output::{Lane, LaneOutput};
pub use recv::Read;

use connection::Connection;
use seen::Seen;
use stream::{Notice, Notices, Stream};
use window::Window;

/// An empty queue keeps room for this many, so that a steady flow allocates nothing,
/// and gives back what a burst has taken.
const QUEUE_KEPT: usize = 8;

/// Why one direction of a stream was broken off, by whichever end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}", if reason.is_empty() { code.as_str() } else { reason })]
pub struct StreamReset {
    /// For programs.
    pub code: ResetCode,
    /// For people; may be empty.
    pub reason: String,
}

impl StreamReset {
    /// A reset with words for a person.
    pub fn new(code: ResetCode, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    /// Nobody is interested any more.
    pub const fn cancelled() -> Self {
        Self {
            code: ResetCode::Cancelled,
            reason: String::new(),
        }
    }
}

/// What the peer did wrong. The connection is closed with
/// [`CloseCode::ProtocolViolation`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The bytes are no frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A frame that does not belong here.
    #[error("unexpected {0}")]
    Unexpected(&'static str),
    /// More than there is credit for, or than a limit allows.
    #[error("{0} exceeded")]
    LimitExceeded(&'static str),
    /// A frame about a stream that contradicts an earlier one.
    #[error("stream {id}: {what}")]
    Stream {
        /// Which stream.
        id: StreamId,
        /// What is wrong.
        what: &'static str,
    },
}

/// Why a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// For programs.
    pub code: CloseCode,
    /// For people; may be empty.
    pub reason: String,
    /// The peer said so; otherwise this end did.
    pub is_by_peer: bool,
}

/// What the application is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The peer opened a stream; answer with [`Session::accept`] or
    /// [`Session::reset`]. Its first bytes are read like all others.
    Opened(Open),
    /// The far end has reached the target of a stream opened here.
    Accepted(StreamId),
    /// [`Session::read`] has something to say.
    Readable(StreamId),
    /// [`Session::write`] has room, or says why it never will.
    Writable(StreamId),
    /// A stream opened here has a lane to be opened (laned connections).
    LaneWanted(StreamId),
    /// [`Session::poll_lane`] has something to say (laned connections).
    LaneReady(StreamId),
    /// A further stream may be opened, after [`OpenError::TooMany`].
    StreamsAvailable,
    /// An undecoded `message::Control`.
    Control(Bytes),
    /// Please reconnect.
    Goaway(Goaway),
    /// A round trip was measured.
    RoundTrip(Duration),
    /// The peer was silent until the deadline: drop the connection, then detach it.
    ConnectionDead(ConnectionId),
    /// A heavy stream would have a further bulk lane: the dialler is to dial one.
    BulkWanted,
    /// Nobody uses a bulk lane any more: detach it, and drop it.
    BulkIdle(ConnectionId),
    /// The session is over. The last event.
    Closed(Closed),
}

/// What opens a stream.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// See [`Open::environment`].
    pub environment: String,
    /// See [`Open::target`].
    pub target: String,
    /// See [`Open::principal`].
    pub principal: String,
    /// See [`Open::request_id`].
    pub request_id: RequestId,
    /// The stream's first bytes; those beyond
    /// [`OPEN_BYTES_MAX`](crate::limits::OPEN_BYTES_MAX) follow as data.
    pub first_bytes: Bytes,
}

/// Why no stream was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum OpenError {
    /// [`STREAMS_MAX`] are open; [`Event::StreamsAvailable`] will say when one may.
    #[error("{STREAMS_MAX} streams are open")]
    TooMany,
    /// The session is over.
    #[error("the session is over")]
    Closed,
}

/// The end of a session that lives here. See the module for how to drive it.
#[derive(Debug)]
pub struct Session {
    side: Side,
    /// Boxed, as connections are: a map's node has room for eleven, and mostly there is one.
    streams: BTreeMap<StreamId, Box<Stream>>,
    /// Streams opened here that are not settled.
    open_ours: usize,
    /// The same for the peer's.
    open_theirs: usize,
    opened_total: u64,
    next_index: u64,
    seen: Seen,
    /// Streams of the peer that the application has neither accepted nor refused.
    unaccepted: usize,
    opens_wait: bool,
    /// Streams that have bytes and credit of their own, and wait for the session's.
    session_blocked: Vec<StreamId>,
    /// Streams that the peer resumed and that are over here: to be acknowledged.
    settled_acks: Vec<StreamId>,

    connections: BTreeMap<ConnectionId, Box<Connection>>,
    next_connection: u64,
    /// When something was last heard on a connection that is gone.
    heard: Option<Instant>,
    bulk: BulkOptions,
    bulk_asked_at: Option<Instant>,

    notices: Notices,
    /// Streams whose acknowledgement waits, and until when.
    acks: VecDeque<StreamId>,
    ack_deadline: Option<Instant>,

    /// What all streams together may have sent for the first time.
    send_credit: u64,
    sent: u64,
    /// Bytes written by the application and not yet sent, over all streams.
    backlog: u64,
    /// Bytes written and not yet acknowledged, over all streams: the backlog, and what
    /// is under way.
    retained: u64,
    window: Window,
    session_credit_due: bool,

    controls: VecDeque<Bytes>,
    unread_controls: usize,
    goaway: Option<Goaway>,
    closing: Option<(CloseCode, String)>,
    closed: Option<Closed>,
    events: VecDeque<Event>,
    payload_received: u64,
    payload_sent: u64,
}

impl Session {
    /// The end of a new session. It has no connection yet.
    pub fn new(side: Side) -> Self {
        Self {
            side,
            streams: BTreeMap::new(),
            open_ours: 0,
            open_theirs: 0,
            opened_total: 0,
            next_index: 0,
            seen: Seen::default(),
            unaccepted: 0,
            opens_wait: false,
            session_blocked: Vec::new(),
            settled_acks: Vec::new(),
            connections: BTreeMap::new(),
            next_connection: 0,
            heard: None,
            bulk: BulkOptions::lanes(0),
            bulk_asked_at: None,
            notices: Notices::default(),
            acks: VecDeque::new(),
            ack_deadline: None,
            send_credit: SESSION_WINDOW_INITIAL_BYTES,
            sent: 0,
            backlog: 0,
            retained: 0,
            window: Window::new(SESSION_WINDOW_INITIAL_BYTES, SESSION_WINDOW_MAX_BYTES),
            session_credit_due: false,
            controls: VecDeque::new(),
            unread_controls: 0,
            goaway: None,
            closing: None,
            closed: None,
            events: VecDeque::new(),
            payload_received: 0,
            payload_sent: 0,
        }
    }

    /// Which end this is.
    pub const fn side(&self) -> Side {
        self.side
    }

    /// Streams that are not settled, whoever opened them.
    pub const fn streams_open(&self) -> usize {
        self.open_ours + self.open_theirs
    }

    /// Streams ever opened, by either end.
    pub const fn streams_opened(&self) -> u64 {
        self.opened_total
    }

    /// Payload bytes of streams received for the first time.
    pub const fn bytes_received(&self) -> u64 {
        self.payload_received
    }

    /// Payload bytes of streams sent, those sent again included.
    pub const fn bytes_sent(&self) -> u64 {
        self.payload_sent
    }

    /// Bytes kept because the peer has not acknowledged them, and bytes received
    /// that the application has not read: what the session holds in memory. Looks at
    /// every stream; [`occupancy`](Self::occupancy) does not.
    pub fn bytes_retained(&self) -> u64 {
        self.streams
            .values()
            .map(|stream| stream.send.retained() + stream.recv.unread())
            .sum()
    }

    /// Streams that take memory here: those not settled, and those settled that the
    /// application has not [forgotten](Self::forget).
    pub fn streams_held(&self) -> usize {
        self.streams.len()
    }

    /// Why the session ended, once it has.
    pub const fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// The smoothed round trip of the newest connection.
    pub fn rtt(&self) -> Option<Duration> {
        self.main()?.heartbeat.rtt()
    }

    /// The shortest round trip of the newest connection. Windows go by it: by the
    /// smoothed one, what waits in the path would call for more of it.
    fn rtt_min(&self) -> Option<Duration> {
        self.main()?.heartbeat.rtt_min()
    }

    /// The newest connection that is no bulk lane.
    fn main(&self) -> Option<&Connection> {
        let mut connections = self.connections.values().rev();
        connections
            .find(|connection| !connection.is_bulk())
            .map(|connection| &**connection)
    }

    /// When something was last heard on any connection, present or past.
    pub fn last_heard(&self) -> Option<Instant> {
        let present = self.connections.values();
        let present = present.map(|connection| connection.heartbeat.last_heard());
        present.max().max(self.heard)
    }

    /// What the application is to know next.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() && self.events.capacity() > QUEUE_KEPT {
            self.events = VecDeque::new();
        }
        if matches!(event, Some(Event::Control(_))) {
            self.unread_controls -= 1;
        }
        event
    }

    /// Whether streams are open, so that the shorter heartbeat applies.
    const fn is_busy(&self) -> bool {
        self.streams_open() > 0
    }

    /// The connection that carries what belongs to no connection in particular.
    fn primary(&self) -> Option<ConnectionId> {
        self.connections
            .iter()
            .rev()
            .find(|(_, connection)| connection.is_ready() && !connection.is_bulk())
            .map(|(id, _)| *id)
    }

    /// What all streams together may yet send for the first time.
    const fn session_credit(&self) -> u64 {
        self.send_credit.saturating_sub(self.sent)
    }

    /// Ends the session here and now: every stream is told.
    fn end(&mut self, closed: Closed) {
        if self.closed.is_some() {
            return;
        }
        for id in self.streams.keys() {
            self.events.push_back(Event::Readable(*id));
            self.events.push_back(Event::Writable(*id));
        }
        self.heard = self.last_heard();
        self.connections.clear();
        self.events.push_back(Event::Closed(closed.clone()));
        self.closed = Some(closed);
    }

    /// How much of its stream's bytes the application may have waiting.
    const fn backlog_max(&self) -> u64 {
        if self.backlog < SESSION_BACKLOG_BYTES_MAX {
            SEND_BACKLOG_BYTES_MAX
        } else {
            SEND_BACKLOG_BYTES_MIN
        }
    }

    /// Changes a stream as [`Self::change`] does, then lets go of it where it is over.
    fn update<R>(&mut self, id: StreamId, change: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        let result = self.change(id, change);
        self.release(id);
        result
    }

    /// Changes a stream, and keeps the session's sums in step. `None`: no such stream.
    ///
    /// The stream stays, even where this was the last that was needed of it, so that
    /// a notice to the peer can follow.
    fn change<R>(&mut self, id: StreamId, change: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        let stream = self.streams.get_mut(&id)?;
        let (was_settled, unsent) = (stream.is_settled(), stream.send.unsent());
        let retained = stream.send.retained();
        let result = change(stream);
        self.backlog = self.backlog - unsent + stream.send.unsent();
        self.retained = self.retained - retained + stream.send.retained();
        if !was_settled && stream.is_settled() {
            self.note_settled(id);
        }
        Some(result)
    }

    /// Sets a notice about a stream, and lists the stream for it.
    fn notify(&mut self, id: StreamId, set: impl FnOnce(&mut Notice)) {
        if let Some(stream) = self.streams.get_mut(&id) {
            set(&mut stream.notice);
            self.notices.list(id, &mut stream.notice);
        }
    }

    /// Gives a stream with something to send its place in the order.
    fn schedule(&mut self, id: StreamId) {
        let credit = self.session_credit();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let on = stream.connection;
        let Some(connection) = on.and_then(|on| self.connections.get_mut(&on)) else {
            return;
        };
        if stream.is_scheduled || stream.moving_to.is_some() {
            return;
        }
        if !stream.has_output(credit) {
            if credit == 0 && stream.send.sendable(1) > 0 {
                stream.is_scheduled = true;
                self.session_blocked.push(id);
            }
            return;
        }
        stream.is_scheduled = true;
        match connection.kind {
            ConnectionKind::Framed => connection.scheduler.activate(id),
            ConnectionKind::Laned => self.events.push_back(Event::LaneReady(id)),
        }
    }

    /// Asks for a look at the lane of a stream, on a laned connection.
    fn wake_lane(&mut self, id: StreamId, on: Option<ConnectionId>) {
        let connection = on.and_then(|on| self.connections.get(&on));
        if connection.is_some_and(|connection| connection.kind == ConnectionKind::Laned) {
            self.events.push_back(Event::LaneReady(id));
        }
    }

    /// Lets go of a stream that is settled and that the application holds no more.
    fn release(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        if stream.is_forgotten && stream.is_settled() && !stream.notice.is_listed {
            self.streams.remove(&id);
            self.give_back();
        }
    }

    /// Gives back the room of lists that a busy time has left behind, once no stream is
    /// held.
    fn give_back(&mut self) {
        if self.streams.is_empty() {
            self.streams = BTreeMap::new();
            self.session_blocked = Vec::new();
            self.settled_acks.shrink_to_fit();
            self.acks.shrink_to_fit();
            for connection in self.connections.values_mut() {
                connection.scheduler.give_back();
            }
        }
    }

    /// Counts out a stream of which neither end needs anything more.
    fn note_settled(&mut self, id: StreamId) {
        if id.opener() == self.side {
            self.open_ours -= 1;
            if std::mem::take(&mut self.opens_wait) {
                self.events.push_back(Event::StreamsAvailable);
            }
        } else {
            self.open_theirs -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
