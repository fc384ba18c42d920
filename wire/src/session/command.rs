//! What the application asks of a session.

use std::time::Instant;

use bytes::Bytes;

use super::{
    Closed, Event, OpenError, OpenOptions, Session, StreamReset,
    recv::Read,
    stream::{Answer, Opening, Stream},
};
use crate::{
    close::{CloseCode, ResetCode},
    frame::{Goaway, Open},
    id::StreamId,
    limits::{CONTROL_BYTES_MAX, STREAMS_MAX},
};

impl Session {
    /// Opens a stream. Bytes may be written at once; the target's answer comes as
    /// [`Event::Accepted`], or as a reset of both directions.
    ///
    /// # Errors
    ///
    /// Too many streams are open, or the session is over.
    pub fn open(&mut self, options: OpenOptions) -> Result<StreamId, OpenError> {
        if self.closed.is_some() || self.closing.is_some() {
            return Err(OpenError::Closed);
        }
        if self.open_ours >= STREAMS_MAX {
            self.opens_wait = true;
            return Err(OpenError::TooMany);
        }
        let id = StreamId::new(self.side, self.next_index);
        self.next_index += 1;
        self.open_ours += 1;
        self.opened_total += 1;
        let open = Open {
            id,
            environment: options.environment,
            target: options.target,
            principal: options.principal,
            request_id: options.request_id,
            first_bytes: Bytes::new(),
        };
        let opening = Opening::Ours {
            open: Box::new(open),
            is_sent: false,
            is_accepted: false,
        };
        self.streams
            .insert(id, Box::new(Stream::new(opening, self.primary())));
        if !options.first_bytes.is_empty() {
            self.update(id, |stream| stream.send.push(options.first_bytes));
        }
        self.announce_lane(id);
        self.schedule(id);
        Ok(id)
    }

    /// Tells the opener that the target was reached.
    pub fn accept(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        if let Opening::Theirs(answer @ Answer::Waiting) = &mut stream.opening {
            *answer = Answer::Accepted;
            self.unaccepted -= 1;
            self.notify(id, |notice| notice.accept = true);
        }
    }

    /// Takes bytes off the front of `bytes`, as many as the backlog has room for,
    /// and says how many. After fewer than all, [`Event::Writable`] follows.
    ///
    /// # Errors
    ///
    /// The direction was broken off by either end, or the session is over.
    pub fn write(&mut self, id: StreamId, bytes: &mut Bytes) -> Result<usize, StreamReset> {
        self.check_open()?;
        let max = self.backlog_max();
        let written = self.update(id, |stream| {
            if let Some(reset) = stream.send.broken() {
                return Err(reset.clone());
            }
            if !stream.send.is_open() {
                return Err(StreamReset::new(
                    ResetCode::BadRequest,
                    "written after the finish",
                ));
            }
            let room = usize::try_from(max.saturating_sub(stream.send.unsent())).unwrap_or(0);
            let taken = bytes.len().min(room);
            if taken > 0 {
                stream.send.push(bytes.split_to(taken));
            }
            stream.writer_waits = !bytes.is_empty();
            Ok(taken)
        });
        let taken = written.unwrap_or_else(|| Err(StreamReset::cancelled()))?;
        self.schedule(id);
        Ok(taken)
    }

    /// Reads at most `max` bytes.
    ///
    /// # Errors
    ///
    /// The peer broke its direction off, or the session is over.
    pub fn read(&mut self, now: Instant, id: StreamId, max: usize) -> Result<Read, StreamReset> {
        let rtt = self.rtt_min();
        let Some(read) = self.update(id, |stream| stream.recv.read(max)) else {
            return self.check_open().map(|()| Read::Finished);
        };
        match read {
            Ok(Read::Bytes(bytes)) => {
                self.consume(now, id, bytes.len() as u64, rtt);
                Ok(Read::Bytes(bytes))
            }
            Ok(Read::Pending) => self.check_open().map(|()| Read::Pending),
            Ok(Read::Finished) => Ok(Read::Finished),
            Err(reset) => Err(reset),
        }
    }

    /// Reads at most `max` bytes that have arrived, and leaves the stream's end to
    /// [`Self::read`].
    pub fn read_arrived(&mut self, now: Instant, id: StreamId, max: usize) -> Bytes {
        let has_arrived = self
            .streams
            .get(&id)
            .is_some_and(|stream| stream.recv.unread() > 0);
        if !has_arrived {
            return Bytes::new();
        }
        match self.read(now, id, max) {
            Ok(Read::Bytes(bytes)) => bytes,
            Ok(Read::Finished | Read::Pending) | Err(_) => Bytes::new(),
        }
    }

    /// Counts bytes of a stream as read, and lets the peer send as many more.
    fn consume(
        &mut self,
        now: Instant,
        id: StreamId,
        bytes: u64,
        rtt: Option<std::time::Duration>,
    ) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.recv.consume(now, bytes, rtt)
        {
            // A session whose window is below a stream's would make the latter moot.
            let stream_window = stream.recv.window_size();
            self.window.raise(stream_window + stream_window / 2);
            self.notify(id, |notice| (notice.credit, notice.ack) = (true, true));
        }
        self.consume_session(now, bytes, rtt);
    }

    pub(super) fn consume_session(
        &mut self,
        now: Instant,
        bytes: u64,
        rtt: Option<std::time::Duration>,
    ) {
        if bytes > 0 && self.window.consume(now, bytes, rtt) {
            self.session_credit_due = true;
        }
    }

    /// Why a stream opened here never reached its target: the peer's reset, or the
    /// end of the session.
    pub fn broken(&self, id: StreamId) -> Option<StreamReset> {
        let stream = self.streams.get(&id);
        stream
            .and_then(|stream| stream.recv.broken().cloned())
            .or_else(|| self.check_open().err())
    }

    /// Why writing to the stream is of no use any more, if it is not.
    pub fn stopped(&self, id: StreamId) -> Option<StreamReset> {
        let stream = self.streams.get(&id);
        stream
            .and_then(|stream| stream.send.broken().cloned())
            .or_else(|| self.check_open().err())
    }

    /// Ends the sending direction after what was written.
    pub fn finish(&mut self, id: StreamId) {
        self.update(id, |stream| stream.send.finish());
        self.schedule(id);
    }

    /// Breaks the sending direction off; what was not sent never will be.
    pub fn reset_sending(&mut self, id: StreamId, reset: StreamReset) {
        if self.update(id, |stream| stream.send.reset(reset)) == Some(true) {
            self.notify(id, |notice| notice.reset = true);
        }
    }

    /// Breaks the sending direction off after what was written: the peer reads all
    /// of it, and then the reset.
    pub fn break_off(&mut self, id: StreamId, reset: StreamReset) {
        if self.update(id, |stream| stream.send.break_off(reset)) == Some(true) {
            self.notify(id, |notice| notice.reset = true);
        }
    }

    /// Reads no further, and asks the peer to send no more.
    pub fn stop_receiving(&mut self, now: Instant, id: StreamId, reset: StreamReset) {
        let unread = self.update(id, |stream| {
            let unread = stream.recv.stop();
            if stream.recv.is_stopped() && stream.stopped.is_none() {
                stream.stopped = Some(reset);
            }
            unread
        });
        if let Some(Some(unread)) = unread {
            self.notify(id, |notice| notice.stop = true);
            self.consume_session(now, unread, None);
        }
    }

    /// Breaks both directions off.
    pub fn reset(&mut self, now: Instant, id: StreamId, reset: &StreamReset) {
        self.note_decided(id);
        self.reset_sending(id, reset.clone());
        self.stop_receiving(now, id, reset.clone());
    }

    /// The application holds the stream no more: directions that are still open are
    /// broken off as cancelled.
    pub fn forget(&mut self, now: Instant, id: StreamId) {
        self.note_decided(id);
        if self
            .streams
            .get(&id)
            .is_some_and(|stream| stream.send.is_open())
        {
            self.reset_sending(id, StreamReset::cancelled());
        }
        self.stop_receiving(now, id, StreamReset::cancelled());
        self.update(id, |stream| stream.is_forgotten = true);
    }

    /// A stream of the peer that is reset instead of accepted waits no more.
    fn note_decided(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && let Opening::Theirs(answer @ Answer::Waiting) = &mut stream.opening
        {
            *answer = Answer::Refused;
            self.unaccepted -= 1;
        }
    }

    /// Queues a `message::Control`.
    ///
    /// # Panics
    ///
    /// If it is longer than [`CONTROL_BYTES_MAX`]: the application builds it from
    /// bounded parts.
    pub fn send_control(&mut self, message: Bytes) {
        assert!(
            message.len() <= CONTROL_BYTES_MAX,
            "control message of {}",
            message.len()
        );
        if self.closed.is_none() {
            self.controls.push_back(message);
        }
    }

    /// Asks the peer at once for a sign of life, over every connection.
    pub fn ask(&mut self, now: Instant) {
        for connection in self.connections.values_mut() {
            connection.heartbeat.ask(now);
        }
    }

    /// Asks the dialler to move.
    pub fn goaway(&mut self, goaway: Goaway) {
        self.goaway = Some(goaway);
    }

    /// Says why, then ends the session; [`Session::poll_transmit`] gives the frame
    /// that says it, and after that nothing more.
    pub fn close(&mut self, code: CloseCode, reason: &str) {
        if self.closing.is_some() || self.closed.is_some() {
            return;
        }
        if self.connections.is_empty() {
            return self.abort(code, reason);
        }
        self.closing = Some((code, reason.to_owned()));
    }

    /// Ends the session without a word to the peer.
    pub fn abort(&mut self, code: CloseCode, reason: &str) {
        self.end(Closed {
            code,
            reason: reason.to_owned(),
            is_by_peer: false,
        });
    }

    fn check_open(&self) -> Result<(), StreamReset> {
        match &self.closed {
            None => Ok(()),
            Some(closed) if closed.reason.is_empty() => Err(StreamReset::new(
                ResetCode::SessionEnded,
                format!("the session ended: {}", closed.code),
            )),
            Some(closed) => Err(StreamReset::new(
                ResetCode::SessionEnded,
                format!("the session ended: {}: {}", closed.code, closed.reason),
            )),
        }
    }

    /// On a laned connection a stream opened here needs a lane.
    pub(super) fn announce_lane(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get(&id) else {
            return;
        };
        let is_laned = stream
            .connection
            .and_then(|id| self.connections.get(&id))
            .is_some_and(|connection| connection.kind == super::ConnectionKind::Laned);
        if is_laned && id.opener() == self.side {
            self.events.push_back(Event::LaneWanted(id));
        }
    }
}
