//! One stream: two directions that end apart, and what is to be told about it.

use std::collections::VecDeque;

use super::{StreamReset, bulk::Pace, recv::RecvHalf, send::SendHalf};
use crate::{
    frame::Open,
    id::{ConnectionId, StreamId},
};

/// One stream of a session.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
    pub(super) opening: Opening,
    pub(super) notice: Notice,
    /// Whether the stream is in one of the scheduler's lists.
    pub(super) is_scheduled: bool,
    /// Whether an acknowledgement waits for the delay to pass.
    pub(super) ack_waits: bool,
    /// Where the stream's bytes travel; `None` while there is no connection.
    pub(super) connection: Option<ConnectionId>,
    /// Where they will, once nothing is under way; until then nothing more is sent.
    pub(super) moving_to: Option<ConnectionId>,
    pub(super) pace: Pace,
    /// The application holds it no more.
    pub(super) is_forgotten: bool,
    /// The application's last write was cut short by the backlog.
    pub(super) writer_waits: bool,
    /// The lane continues from here, and is yet to say so.
    pub(super) attach_from: Option<u64>,
    /// The lane began with an attach, which the peer must see whatever becomes of the
    /// sending direction: such a lane ends in order, and is never aborted.
    pub(super) is_attached: bool,
    /// What the peer is told when this end reads no further.
    pub(super) stopped: Option<StreamReset>,
}

/// How far the opening has come.
#[derive(Debug)]
pub(super) enum Opening {
    /// Opened here; `Some` until the open was sent (and again after a lost connection).
    Ours {
        /// Kept until the far end is known to have seen it.
        open: Box<Open>,
        is_sent: bool,
        is_accepted: bool,
    },
    /// Opened by the peer.
    Theirs(Answer),
}

/// What the application made of a stream that the peer opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing yet.
    Waiting,
    /// The target was reached.
    Accepted,
    /// It was not, or was not tried.
    Refused,
}

/// What the peer is to be told about a stream, besides bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) accept: bool,
    pub(super) reset: bool,
    pub(super) stop: bool,
    pub(super) credit: bool,
    pub(super) ack: bool,
    /// Whether the stream is in the list of those with a notice.
    pub(super) is_listed: bool,
}

impl Stream {
    pub(super) fn new(opening: Opening, connection: Option<ConnectionId>) -> Self {
        Self {
            send: SendHalf::new(),
            recv: RecvHalf::new(),
            opening,
            notice: Notice::default(),
            is_scheduled: false,
            ack_waits: false,
            connection,
            moving_to: None,
            pace: Pace::default(),
            is_forgotten: false,
            writer_waits: false,
            attach_from: None,
            is_attached: false,
            stopped: None,
        }
    }

    /// The open is yet to be sent on the present connection.
    pub(super) const fn wants_open(&self) -> bool {
        matches!(self.opening, Opening::Ours { is_sent: false, .. })
    }

    /// Neither end needs anything more of the other.
    pub(super) const fn is_settled(&self) -> bool {
        self.send.is_done() && !self.recv.is_receiving()
    }

    /// Whether something can go on the stream's connection now.
    pub(super) const fn has_output(&self, session_credit: u64) -> bool {
        self.wants_open() || self.attach_from.is_some() || self.send.has_output(session_credit)
    }
}

/// Streams with a notice, in the order in which they got one.
#[derive(Debug, Default)]
pub(super) struct Notices(VecDeque<StreamId>);

impl Notices {
    /// Lists the stream unless it is listed.
    pub(super) fn list(&mut self, id: StreamId, notice: &mut Notice) {
        if !std::mem::replace(&mut notice.is_listed, true) {
            self.0.push_back(id);
        }
    }

    pub(super) fn next(&mut self) -> Option<StreamId> {
        let id = self.0.pop_front();
        if self.0.is_empty() {
            self.0 = VecDeque::new();
        }
        id
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
