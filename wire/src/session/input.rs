//! What arrives, and time that passes.

use std::time::Instant;

use bytes::Bytes;

use super::{
    Closed, ConnectionKind, Event, ProtocolError, Session, StreamReset,
    connection::Early,
    heartbeat::Verdict,
    output::Lane,
    recv::{Arrival, Violation},
    stream::{Answer, Opening, Stream},
};
use crate::{
    close::ResetCode,
    frame::{Frame, OFFSET_MAX, Open},
    id::{ConnectionId, StreamId},
    limits::{ACCEPT_BACKLOG_MAX, ACK_DELAY, CONTROL_BACKLOG_MAX, STREAMS_MAX},
};

impl Session {
    /// Takes a frame that arrived on a framed connection or on a control lane.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol: close the session with
    /// [`CloseCode::ProtocolViolation`](crate::close::CloseCode::ProtocolViolation).
    pub fn handle_frame(
        &mut self,
        now: Instant,
        on: ConnectionId,
        frame: Frame,
    ) -> Result<(), ProtocolError> {
        let Some(connection) = self.connections.get_mut(&on) else {
            return Ok(());
        };
        connection.heartbeat.on_heard(now);
        let is_framed = connection.kind == ConnectionKind::Framed;
        let is_bulk = connection.is_bulk();
        if is_bulk {
            Self::check_bulk(&frame)?;
        }
        match frame {
            Frame::Ping(sequence) => connection.heartbeat.on_ping(sequence),
            Frame::Pong(sequence) => {
                // What a lane measures is its own queue.
                if let Some(rtt) = connection.heartbeat.on_pong(now, sequence)
                    && !is_bulk
                {
                    self.events.push_back(Event::RoundTrip(rtt));
                }
            }
            Frame::Resume(resume) => self.handle_resume(on, resume)?,
            Frame::Goaway(goaway) => self.events.push_back(Event::Goaway(goaway)),
            Frame::Close { code, reason } => {
                self.end(Closed {
                    code,
                    reason,
                    is_by_peer: true,
                });
            }
            Frame::Control(message) => self.handle_control(message)?,
            Frame::SessionCredit(credit) => self.handle_session_credit(credit),
            Frame::Open(open) if is_framed => {
                self.handle_open(now, on, open)?;
            }
            Frame::Data { id, offset, bytes } if is_framed => {
                connection.note_used(now);
                self.handle_data(now, id, offset, bytes)?;
            }
            Frame::Finish { id, size } if is_framed => self.handle_finish(id, size)?,
            Frame::Accept(id) => self.handle_accept(id)?,
            Frame::Reset {
                id,
                code,
                size,
                reason,
            } => {
                self.handle_reset(now, on, id, (StreamReset { code, reason }, size))?;
            }
            Frame::Stop { id, code, reason } => {
                self.handle_stop(on, id, StreamReset { code, reason })?;
            }
            Frame::Credit { id, offset } => {
                if self.is_known(id)? {
                    self.update(id, |stream| stream.send.add_credit(offset));
                    self.schedule(id);
                }
            }
            Frame::Ack { id, offset } => self.handle_ack(id, offset)?,
            Frame::Open(_) | Frame::Data { .. } | Frame::Finish { .. } | Frame::Attach { .. } => {
                return Err(ProtocolError::Unexpected("stream bytes on a control lane"));
            }
            Frame::Challenge(_) | Frame::Hello(_) | Frame::Welcome(_) | Frame::Refusal(_) => {
                return Err(ProtocolError::Unexpected("handshake frame in a session"));
            }
        }
        Ok(())
    }

    /// Takes the first frame of a lane that the peer opened. `None`: the stream is
    /// over already, and the lane is of no use.
    ///
    /// # Errors
    ///
    /// As for [`Self::handle_frame`].
    pub fn handle_lane(
        &mut self,
        now: Instant,
        on: ConnectionId,
        frame: Frame,
    ) -> Result<Option<Lane>, ProtocolError> {
        if !self.connections.contains_key(&on) {
            return Ok(None);
        }
        self.note_heard(now, on);
        match frame {
            Frame::Open(open) => {
                let (id, offset) = (open.id, open.first_bytes.len() as u64);
                self.handle_open(now, on, open)?;
                let is_wanted = self.streams.contains_key(&id);
                Ok(is_wanted.then_some(Lane { id, offset }))
            }
            Frame::Attach { id, offset } => Ok(self.is_known(id)?.then_some(Lane { id, offset })),
            _ => Err(ProtocolError::Unexpected("frame at the start of a lane")),
        }
    }

    /// Takes the first frame of the peer's direction of a lane that [continues] a stream opened
    /// here. `None`: the stream is over already.
    ///
    /// [continues]: Self::is_continued
    ///
    /// # Errors
    ///
    /// As for [`Self::handle_frame`].
    pub fn handle_lane_answer(
        &mut self,
        now: Instant,
        on: ConnectionId,
        id: StreamId,
        frame: Frame,
    ) -> Result<Option<Lane>, ProtocolError> {
        match frame {
            Frame::Attach { id: answered, .. } if answered == id => {
                self.handle_lane(now, on, frame)
            }
            _ => Err(ProtocolError::Unexpected("answer to an attach")),
        }
    }

    /// Takes the next bytes of a lane.
    ///
    /// # Errors
    ///
    /// As for [`Self::handle_frame`].
    pub fn handle_lane_bytes(
        &mut self,
        now: Instant,
        on: ConnectionId,
        lane: &mut Lane,
        bytes: Bytes,
    ) -> Result<(), ProtocolError> {
        let offset = lane.offset;
        lane.offset += bytes.len() as u64;
        if !self.connections.contains_key(&on) {
            return Ok(());
        }
        self.note_heard(now, on);
        self.handle_data(now, lane.id, offset, bytes)
    }

    /// Takes the end of a lane: the stream's direction is complete.
    ///
    /// # Errors
    ///
    /// As for [`Self::handle_frame`].
    pub fn handle_lane_finish(&mut self, lane: &Lane) -> Result<(), ProtocolError> {
        let stream = self.streams.get(&lane.id);
        if stream.is_some_and(|stream| lane.offset > stream.recv.received()) {
            // A lane has no gaps: its last bytes came after its connection was
            // detached, and the peer sends them again on another.
            return Ok(());
        }
        self.handle_finish(lane.id, lane.offset)
    }

    /// Notes that something was heard on a connection, frame or not.
    pub fn note_heard(&mut self, now: Instant, on: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&on) {
            connection.heartbeat.on_heard(now);
        }
    }

    /// Lets time pass: heartbeats and delayed acknowledgements become due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ack_deadline.is_some_and(|deadline| now >= deadline) {
            self.ack_deadline = None;
            while let Some(id) = self.acks.pop_front() {
                if let Some(stream) = self.streams.get_mut(&id)
                    && std::mem::take(&mut stream.ack_waits)
                {
                    self.notify(id, |notice| notice.ack = true);
                }
            }
        }
        let is_busy = self.is_busy();
        for (id, connection) in &mut self.connections {
            if connection.heartbeat.on_timeout(now, is_busy) == Verdict::Dead {
                self.events.push_back(Event::ConnectionDead(*id));
            }
        }
        self.note_idle_lanes(now);
    }

    /// When [`Self::handle_timeout`] is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let is_busy = self.is_busy();
        self.connections
            .values()
            .filter_map(|connection| connection.heartbeat.deadline(is_busy))
            .chain(self.ack_deadline)
            .min()
    }

    fn handle_control(&mut self, message: Bytes) -> Result<(), ProtocolError> {
        if self.unread_controls >= CONTROL_BACKLOG_MAX {
            return Err(ProtocolError::LimitExceeded("backlog of control messages"));
        }
        self.unread_controls += 1;
        self.events.push_back(Event::Control(message));
        Ok(())
    }

    fn handle_session_credit(&mut self, credit: u64) {
        self.send_credit = self.send_credit.max(credit);
        for id in std::mem::take(&mut self.session_blocked) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.is_scheduled = false;
            }
            self.schedule(id);
        }
    }

    fn handle_open(
        &mut self,
        now: Instant,
        on: ConnectionId,
        mut open: Open,
    ) -> Result<(), ProtocolError> {
        let id = open.id;
        if id.opener() == self.side {
            return Err(ProtocolError::Stream {
                id,
                what: "opened with an id of this end",
            });
        }
        let first_bytes = std::mem::take(&mut open.first_bytes);
        let is_new = self.admit(id, on)?;
        if is_new {
            if self.unaccepted >= ACCEPT_BACKLOG_MAX || self.open_theirs > STREAMS_MAX {
                let reset = StreamReset::new(ResetCode::LimitReached, "too many streams are open");
                self.reset(now, id, &reset);
                self.forget(now, id);
            } else {
                self.unaccepted += 1;
                if let Some(stream) = self.streams.get_mut(&id) {
                    stream.opening = Opening::Theirs(Answer::Waiting);
                }
                self.events.push_back(Event::Opened(open));
            }
        }
        if !first_bytes.is_empty() {
            self.handle_data(now, id, 0, first_bytes)?;
        }
        let connection = self.connections.get_mut(&on);
        let early = connection.and_then(|connection| connection.early.remove(&id));
        let early = early.unwrap_or_default();
        if let Some(reset) = early.reset {
            self.handle_reset(now, on, id, reset)?;
        }
        if let Some(stop) = early.stop {
            self.handle_stop(on, id, stop)?;
        }
        Ok(())
    }

    /// Makes room for a stream of the peer; false where it was seen before.
    fn admit(&mut self, id: StreamId, on: ConnectionId) -> Result<bool, ProtocolError> {
        if self.open_theirs >= 2 * STREAMS_MAX {
            return Err(ProtocolError::LimitExceeded("limit of open streams"));
        }
        let is_new = self
            .seen
            .insert(id.index())
            .map_err(|_| ProtocolError::LimitExceeded("limit of skipped stream ids"))?;
        if is_new {
            self.open_theirs += 1;
            self.opened_total += 1;
            let opening = Opening::Theirs(Answer::Refused);
            self.streams
                .insert(id, Box::new(Stream::new(opening, Some(on))));
        }
        Ok(is_new)
    }

    fn handle_data(
        &mut self,
        now: Instant,
        id: StreamId,
        offset: u64,
        bytes: Bytes,
    ) -> Result<(), ProtocolError> {
        if offset
            .checked_add(bytes.len() as u64)
            .is_none_or(|end| end > OFFSET_MAX)
        {
            return Err(ProtocolError::Stream {
                id,
                what: "offset out of range",
            });
        }
        if !self.is_known(id)? {
            return Ok(());
        }
        let arrival = self.update(id, |stream| stream.recv.on_data(offset, bytes));
        let arrival = arrival
            .unwrap_or_else(|| Ok(Arrival::default()))
            .map_err(|error| violation(id, error))?;
        self.count_arrival(now, id, &arrival)?;
        if arrival.new > 0 {
            self.note_accepted(id);
            self.events.push_back(Event::Readable(id));
            self.delay_ack(now, id);
        }
        Ok(())
    }

    /// Charges what arrived to the session's credit.
    fn count_arrival(
        &mut self,
        now: Instant,
        id: StreamId,
        arrival: &Arrival,
    ) -> Result<(), ProtocolError> {
        if !self.window.receive(arrival.new) {
            return Err(ProtocolError::LimitExceeded("credit of the session"));
        }
        self.payload_received += arrival.new;
        self.session_credit_due |= self.window.make_room();
        if arrival.dropped > 0 {
            // Nobody reads these, so the stream's own credit stays as it is: the
            // peer has been asked to stop.
            self.consume_session(now, arrival.dropped, None);
            self.notify(id, |notice| notice.ack = true);
        }
        Ok(())
    }

    /// Acknowledges at once when much has come, and with others after a while otherwise.
    fn delay_ack(&mut self, now: Instant, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let unacked = stream.recv.received().saturating_sub(stream.recv.acked);
        if unacked >= stream.recv.window_size() / 4 {
            self.notify(id, |notice| notice.ack = true);
        } else if !std::mem::replace(&mut stream.ack_waits, true) {
            self.acks.push_back(id);
            self.ack_deadline.get_or_insert(now + ACK_DELAY);
        }
    }

    fn handle_finish(&mut self, id: StreamId, size: u64) -> Result<(), ProtocolError> {
        if !self.is_known(id)? {
            return Ok(());
        }
        if let Some(result) = self.change(id, |stream| stream.recv.on_finish(size)) {
            if result.map_err(|error| violation(id, error))? {
                self.note_accepted(id);
            }
            self.notify(id, |notice| notice.ack = true);
            self.events.push_back(Event::Readable(id));
        }
        Ok(())
    }

    fn handle_accept(&mut self, id: StreamId) -> Result<(), ProtocolError> {
        if id.opener() != self.side {
            return Err(ProtocolError::Stream {
                id,
                what: "accepted by its own opener",
            });
        }
        if !self.is_known(id)? {
            return Ok(());
        }
        self.note_accepted(id);
        Ok(())
    }

    /// Bytes and an end in order say that the target was reached, too: on another
    /// lane they may be faster than the accept, or outlive the connection it was on.
    fn note_accepted(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && let Opening::Ours { is_accepted, .. } = &mut stream.opening
            && !std::mem::replace(is_accepted, true)
        {
            self.events.push_back(Event::Accepted(id));
        }
    }

    fn handle_reset(
        &mut self,
        now: Instant,
        on: ConnectionId,
        id: StreamId,
        (reset, size): (StreamReset, u64),
    ) -> Result<(), ProtocolError> {
        if let Some(early) = self.early(on, id)? {
            early.reset = Some((reset, size));
            return Ok(());
        }
        if !self.is_known(id)? {
            return Ok(());
        }
        let arrival = self.change(id, |stream| stream.recv.on_reset(reset, size));
        let arrival = arrival
            .unwrap_or_else(|| Ok(Arrival::default()))
            .map_err(|error| violation(id, error))?;
        self.count_arrival(now, id, &arrival)?;
        self.notify(id, |notice| notice.ack = true);
        self.events.push_back(Event::Readable(id));
        Ok(())
    }

    fn handle_stop(
        &mut self,
        on: ConnectionId,
        id: StreamId,
        reset: StreamReset,
    ) -> Result<(), ProtocolError> {
        if let Some(early) = self.early(on, id)? {
            early.stop = Some(reset);
            return Ok(());
        }
        if self.is_known(id)? {
            self.reset_sending(id, reset);
            self.events.push_back(Event::Writable(id));
        }
        Ok(())
    }

    /// Where to keep what has overtaken the open of a stream, on another lane.
    ///
    /// # Errors
    ///
    /// It was never opened, or the peer tells of too many before their open.
    fn early(
        &mut self,
        on: ConnectionId,
        id: StreamId,
    ) -> Result<Option<&mut Early>, ProtocolError> {
        if id.opener() == self.side || self.seen.contains(id.index()) {
            return Ok(None);
        }
        let connection = self.connections.get_mut(&on);
        let Some(connection) = connection.filter(|on| on.kind == ConnectionKind::Laned) else {
            return Err(never_opened(id));
        };
        if connection.early.len() >= STREAMS_MAX && !connection.early.contains_key(&id) {
            return Err(ProtocolError::LimitExceeded(
                "limit of streams ended before their open",
            ));
        }
        Ok(Some(connection.early.entry(id).or_default()))
    }

    fn handle_ack(&mut self, id: StreamId, offset: u64) -> Result<(), ProtocolError> {
        if !self.is_known(id)? {
            return Ok(());
        }
        let on = self.streams.get(&id).and_then(|stream| stream.connection);
        let acked = self.update(id, |stream| stream.send.ack(offset));
        let is_reset_due = acked
            .unwrap_or(Ok(false))
            .map_err(|_| ProtocolError::Stream {
                id,
                what: "acknowledged beyond what was sent",
            })?;
        if is_reset_due {
            self.notify(id, |notice| notice.reset = true);
        }
        self.finish_move(id);
        if offset == OFFSET_MAX {
            // A lane whose direction was broken off can be aborted.
            self.wake_lane(id, on);
        }
        Ok(())
    }

    /// Whether the stream is still held here.
    ///
    /// # Errors
    ///
    /// It was never opened.
    fn is_known(&self, id: StreamId) -> Result<bool, ProtocolError> {
        if self.streams.contains_key(&id) {
            return Ok(true);
        }
        let was_opened = if id.opener() == self.side {
            id.index() < self.next_index
        } else {
            self.seen.contains(id.index())
        };
        if was_opened {
            Ok(false)
        } else {
            Err(never_opened(id))
        }
    }
}

const fn never_opened(id: StreamId) -> ProtocolError {
    ProtocolError::Stream {
        id,
        what: "never opened",
    }
}

const fn violation(id: StreamId, violation: Violation) -> ProtocolError {
    let what = match violation {
        Violation::CreditExceeded => "credit exceeded",
        Violation::Gap => "bytes after a gap",
        Violation::SizeChanged => "bytes after the finish, or two sizes",
    };
    ProtocolError::Stream { id, what }
}
