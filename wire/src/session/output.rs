//! What is to be sent.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::{
    Closed, ConnectionKind, Event, Session,
    message::PutMessage,
    schedule::Scheduler,
    stream::{Notice, Opening, Stream},
};
use crate::{
    frame::{self, Frame, OFFSET_MAX, codec},
    id::{ConnectionId, StreamId},
    limits::{DATA_BYTES_MAX, MESSAGE_BYTES_MAX, OPEN_BYTES_MAX, QUANTUM_BYTES, REASON_BYTES_MAX},
};

/// Type, length, id and offset of a data frame, at their longest.
const DATA_HEADER_BYTES_MAX: usize = 1 + 4 + 8 + 8;

/// Less room than this at the end of a message is left unused, rather than cut a
/// stream's bytes into crumbs.
const ROOM_MIN: usize = 1024;

/// All frames that one notice may call for: two of them with a reason.
const NOTICE_BYTES_MAX: usize = 2 * (REASON_BYTES_MAX + 32) + 3 * 32;

/// Where the receiving direction of one lane stands. Kept by who reads the lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// Whose bytes it carries.
    pub id: StreamId,
    /// Absolute offset of the next byte.
    pub offset: u64,
}

/// What to do next on a stream's lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaneOutput {
    /// Write these bytes.
    Bytes(Bytes),
    /// End the lane's direction in order.
    Finish,
    /// Break the lane's direction off; the control lane has said why. Of no use after
    /// [`Self::Finish`].
    Abort,
    /// Nothing until the next [`Event::LaneReady`].
    Pending,
}

impl Session {
    /// Appends to `out`, which is empty, the next message for a connection: one or
    /// more whole frames, at most [`MESSAGE_BYTES_MAX`]. False: nothing to send.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        on: ConnectionId,
        out: &mut impl PutMessage,
    ) -> bool {
        self.put_connection_frames(now, on, out);
        let Some(connection) = self.connections.get(&on) else {
            return !out.is_empty();
        };
        let is_bulk = connection.is_bulk();
        let is_framed = connection.kind == ConnectionKind::Framed;
        // The peer must know what was received here before anything else.
        let is_told = connection.resume_out.is_empty();
        if is_told && self.closing.is_none() {
            let is_primary = self.primary() == Some(on);
            if is_primary {
                self.put_session_frames(out);
                self.put_notices(out);
            }
            if is_framed && (is_primary || is_bulk) {
                self.put_streams(now, on, out);
            }
        }
        if !is_bulk {
            self.put_close(on, out);
        }
        !out.is_empty()
    }

    /// Whether [`Self::poll_transmit`] may have something for a connection, apart from
    /// what [`Self::poll_timeout`] announces.
    pub fn has_output(&self, on: ConnectionId) -> bool {
        let Some(connection) = self.connections.get(&on) else {
            return false;
        };
        if connection.is_bulk() {
            return self.closing.is_none() && connection.has_output();
        }
        if self.closing.is_some() {
            return !connection.is_close_sent;
        }
        let has_any = self.session_credit_due
            || self.goaway.is_some()
            || !self.controls.is_empty()
            || !self.notices.is_empty()
            || !self.settled_acks.is_empty();
        connection.has_output() || has_any && self.primary() == Some(on)
    }

    /// Whether the connection is one of the session's. One that is not is to be dropped.
    pub fn has_connection(&self, on: ConnectionId) -> bool {
        self.connections.contains_key(&on)
    }

    /// Heartbeats, and what was received before.
    fn put_connection_frames(&mut self, now: Instant, on: ConnectionId, out: &mut impl PutMessage) {
        let Some(connection) = self.connections.get_mut(&on) else {
            return;
        };
        if let Some(sequence) = connection.heartbeat.take_pong() {
            frame::encode(&Frame::Pong(sequence), out.head());
        }
        if let Some(sequence) = connection.heartbeat.take_ping(now) {
            frame::encode(&Frame::Ping(sequence), out.head());
        }
        while let Some(part) = connection.resume_out.front() {
            if !fits(part, out) {
                break;
            }
            frame::encode(part, out.head());
            connection.resume_out.pop_front();
        }
    }

    fn put_session_frames(&mut self, out: &mut impl PutMessage) {
        let credit = Frame::SessionCredit(self.window.granted());
        if self.session_credit_due && fits(&credit, out) {
            self.session_credit_due = false;
            frame::encode(&credit, out.head());
        }
        if let Some(goaway) = &self.goaway {
            let goaway = Frame::Goaway(goaway.clone());
            if fits(&goaway, out) {
                self.goaway = None;
                frame::encode(&goaway, out.head());
            }
        }
        while let Some(message) = self.controls.front() {
            let control = Frame::Control(message.clone());
            if !fits(&control, out) {
                break;
            }
            frame::encode(&control, out.head());
            self.controls.pop_front();
        }
    }

    fn put_notices(&mut self, out: &mut impl PutMessage) {
        while out.len() + NOTICE_BYTES_MAX <= MESSAGE_BYTES_MAX {
            if let Some(id) = self.settled_acks.pop() {
                frame::encode(
                    &Frame::Ack {
                        id,
                        offset: OFFSET_MAX,
                    },
                    out.head(),
                );
                continue;
            }
            let Some(id) = self.notices.next() else { break };
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            if stream.wants_open() {
                // The peer must not hear of a stream before its open, which lists
                // the notice again. A stream broken off before is opened all the
                // same: its id would be a gap for ever.
                stream.notice.is_listed = false;
                self.schedule(id);
                continue;
            }
            for frame in notice_frames(id, stream) {
                frame::encode(&frame, out.head());
            }
            stream.notice = Notice::default();
            self.release(id);
        }
    }

    /// Opens, bytes and finishes, in the scheduler's order.
    fn put_streams(&mut self, now: Instant, on: ConnectionId, out: &mut impl PutMessage) {
        while let Some(id) = self.scheduler(on).and_then(Scheduler::next) {
            let room = MESSAGE_BYTES_MAX.saturating_sub(out.len());
            if room < ROOM_MIN + DATA_HEADER_BYTES_MAX {
                self.put_back(on, id);
                break;
            }
            let wants_open = self
                .streams
                .get(&id)
                .is_some_and(|stream| stream.wants_open());
            if wants_open {
                let open = self.take_open(id);
                let Some(open) = open else { continue };
                if fits(&open, out) {
                    frame::encode(&open, out.head());
                    self.note_open_sent(id);
                } else {
                    self.put_back(on, id);
                    break;
                }
            }
            self.put_stream_bytes(now, (on, id), out);
        }
    }

    fn scheduler(&mut self, on: ConnectionId) -> Option<&mut Scheduler> {
        let connection = self.connections.get_mut(&on)?;
        Some(&mut connection.scheduler)
    }

    fn put_back(&mut self, on: ConnectionId, id: StreamId) {
        if let Some(scheduler) = self.scheduler(on) {
            scheduler.put_back(id);
        }
    }

    /// The open of a stream with as many first bytes as it may carry.
    fn take_open(&mut self, id: StreamId) -> Option<Frame> {
        let credit = self.session_credit();
        let stream = self.streams.get_mut(&id)?;
        let Opening::Ours { open, .. } = &stream.opening else {
            return None;
        };
        let mut open = (**open).clone();
        let length = usize_min(stream.send.sendable(credit), OPEN_BYTES_MAX);
        // Taken without moving the cursor: where the frame has no room, nothing has
        // happened.
        open.first_bytes = stream.send.peek(length);
        Some(Frame::Open(open))
    }

    fn note_open_sent(&mut self, id: StreamId) {
        let credit = self.session_credit();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Opening::Ours { is_sent, .. } = &mut stream.opening {
            *is_sent = true;
        }
        let length = usize_min(stream.send.sendable(credit), OPEN_BYTES_MAX);
        if stream.notice != Notice::default() {
            self.notices.list(id, &mut stream.notice);
        }
        if length > 0 {
            let sent = self
                .update(id, |stream| stream.send.skip(length))
                .unwrap_or(0);
            self.count_sent(id, length as u64, sent);
        }
    }

    fn put_stream_bytes(
        &mut self,
        now: Instant,
        (on, id): (ConnectionId, StreamId),
        out: &mut impl PutMessage,
    ) {
        let credit = self.session_credit();
        let is_alone = self
            .scheduler(on)
            .is_none_or(|scheduler| scheduler.is_empty());
        let room = MESSAGE_BYTES_MAX.saturating_sub(out.len());
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.is_scheduled = false;
        let turn = if is_alone {
            DATA_BYTES_MAX
        } else {
            QUANTUM_BYTES
        };
        let turn = turn.min(room.saturating_sub(DATA_HEADER_BYTES_MAX));
        let length = usize_min(stream.send.sendable(credit), turn);
        if length > 0 {
            codec::put_data_header(out.head(), id, stream.send.cursor(), length);
            let heavy_bytes = self.bulk.heavy_bytes;
            let (sent, is_heavy) = self
                .update(id, |stream| {
                    let is_heavy = stream.pace.note(now, length as u64, heavy_bytes);
                    (stream.send.put(length, out), is_heavy)
                })
                .unwrap_or_default();
            self.count_sent(id, length as u64, sent);
            if is_heavy {
                self.note_heavy(now, id);
            }
        }
        let has_room = MESSAGE_BYTES_MAX.saturating_sub(out.len()) > DATA_HEADER_BYTES_MAX;
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.send.wants_finish()
            && has_room
        {
            let size = stream.send.note_finish();
            frame::encode(&Frame::Finish { id, size }, out.head());
        }
        if let Some(connection) = self.connections.get_mut(&on) {
            connection.note_used(now);
        }
        self.reschedule(on, id);
    }

    /// A stream that has had its turn goes behind the others while it has more.
    fn reschedule(&mut self, on: ConnectionId, id: StreamId) {
        let credit = self.session_credit();
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let is_moving = stream.moving_to.is_some() || stream.connection != Some(on);
        if !is_moving && stream.has_output(credit) {
            stream.is_scheduled = true;
            if let Some(scheduler) = self.scheduler(on) {
                scheduler.requeue(id);
            }
        } else {
            self.schedule(id);
        }
    }

    fn count_sent(&mut self, id: StreamId, bytes: u64, for_the_first_time: u64) {
        self.sent += for_the_first_time;
        self.payload_sent += bytes;
        let max = self.backlog_max();
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.writer_waits
            && stream.send.unsent() < max
        {
            stream.writer_waits = false;
            self.events.push_back(Event::Writable(id));
        }
    }

    /// What to do next on the lane of a stream; bytes at most `max` at a time.
    ///
    /// The lane of a stream opened here begins with the open, and one that
    /// continues a stream with an attach, in either direction.
    pub fn poll_lane(&mut self, on: ConnectionId, id: StreamId, max: usize) -> LaneOutput {
        if self.closed.is_some() {
            return LaneOutput::Abort;
        }
        let credit = self.session_credit();
        let Some(stream) = self.streams.get_mut(&id) else {
            return LaneOutput::Abort;
        };
        match stream.connection {
            Some(connection) if connection == on => {}
            // The peer continues the stream, and its account is yet to come.
            None if self.connections.contains_key(&on) => return LaneOutput::Pending,
            Some(_) | None => return LaneOutput::Abort,
        }
        if stream.wants_open() {
            let Some(open) = self.take_open(id) else {
                return LaneOutput::Abort;
            };
            let mut out = BytesMut::with_capacity(codec::encoded_len(&open));
            frame::encode(&open, &mut out);
            self.note_open_sent(id);
            return LaneOutput::Bytes(out.freeze());
        }
        if let Some(offset) = stream.attach_from.take() {
            let mut out = BytesMut::new();
            frame::encode(&Frame::Attach { id, offset }, &mut out);
            return LaneOutput::Bytes(out.freeze());
        }
        if stream.send.is_done() {
            return if stream.send.broken().is_some() && !stream.is_attached {
                LaneOutput::Abort
            } else {
                LaneOutput::Finish
            };
        }
        // A direction that is broken off and not yet acknowledged waits here: a lane
        // aborted too early might never show the peer its first frame.
        let length = usize_min(stream.send.sendable(credit), max);
        if length > 0 {
            let Some((bytes, sent)) = self.update(id, |stream| stream.send.take(length)) else {
                return LaneOutput::Abort;
            };
            self.count_sent(id, bytes.len() as u64, sent);
            return LaneOutput::Bytes(bytes);
        }
        if stream.send.wants_finish() {
            stream.send.note_finish();
            return LaneOutput::Finish;
        }
        stream.is_scheduled = false;
        self.schedule(id);
        LaneOutput::Pending
    }

    /// Whether the lane of a stream opened here goes on with it: then the peer's direction
    /// begins with an attach, as this end's does.
    pub fn is_continued(&self, id: StreamId) -> bool {
        self.streams
            .get(&id)
            .is_some_and(|stream| stream.is_attached)
    }

    /// The last frame. On the primary connection the session ends with it.
    fn put_close(&mut self, on: ConnectionId, out: &mut impl PutMessage) {
        let Some((code, reason)) = self.closing.clone() else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&on) else {
            return;
        };
        let close = Frame::Close {
            code,
            reason: reason.clone(),
        };
        if connection.is_close_sent || !fits(&close, out) {
            return;
        }
        connection.is_close_sent = true;
        frame::encode(&close, out.head());
        if self
            .connections
            .values()
            .all(|connection| connection.is_close_sent || connection.is_bulk())
        {
            self.end(Closed {
                code,
                reason,
                is_by_peer: false,
            });
        }
    }
}

/// The frames that a stream's notice calls for.
fn notice_frames(id: StreamId, stream: &mut Stream) -> impl Iterator<Item = Frame> {
    let notice = stream.notice;
    let ack = notice.ack.then(|| {
        stream.ack_waits = false;
        stream.recv.acked = stream.recv.received();
        Frame::Ack {
            id,
            offset: stream.recv.ack_offset(),
        }
    });
    let credit = (notice.credit && stream.recv.is_receiving()).then(|| Frame::Credit {
        id,
        offset: stream.recv.credit(),
    });
    let reset = if notice.reset {
        stream.send.reset_to_tell()
    } else {
        None
    };
    let reset = reset.map(|(reset, size)| Frame::Reset {
        id,
        code: reset.code,
        size,
        reason: reset.reason.clone(),
    });
    let stop = if notice.stop {
        stream.stopped.as_ref()
    } else {
        None
    };
    let stop = stop.map(|reset| Frame::Stop {
        id,
        code: reset.code,
        reason: reset.reason.clone(),
    });
    let accept = notice.accept.then_some(Frame::Accept(id));
    [accept, ack, credit, reset, stop].into_iter().flatten()
}

fn fits(frame: &Frame, out: &impl PutMessage) -> bool {
    out.len() + codec::encoded_len(frame) <= MESSAGE_BYTES_MAX
}

/// The smaller of the two; it fits `usize` because the second does.
fn usize_min(length: u64, max: usize) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX).min(max)
}
